/* SPDX-License-Identifier: BSD-3-Clause */
/* Between the two halves of the fake: engine (lt_fake.c) and keeper (lt_fake_keeper.c). */
#ifndef LT_FAKE_INT_H
#define LT_FAKE_INT_H

#include <stdbool.h>

#include "lt_fake.h"
#include "toe/ctl.h"

#define LISTENERS 8u
#define TOKENS    160u
#define BACKLOG   64u
#define HINTS     128u
#define CLIENTS   80u

#define LOAD(p)     __atomic_load_n(p, __ATOMIC_ACQUIRE)
#define STORE(p, v) __atomic_store_n(p, v, __ATOMIC_RELEASE)
#define FENCE()     __atomic_thread_fence(__ATOMIC_SEQ_CST)

enum mode { FREE, ECHO, PAIR, LONELY, PENDING };

struct end {
	enum mode mode;
	uint32_t gen, rx_tail, tx_head, tx_short, state, error;
	uint32_t peer;
	bool orphan;
	bool fin_done;
	uint32_t listener;
	uint16_t port;
	int held; /* the kernel socket of a CONNECT */
};

struct fake {
	struct toe_region_geometry g;
	struct toe_region_layout l;
	uint8_t *control, *payload;
	int fds[2];
	struct end ends[FAKE_SLOTS];
	uint32_t next_slot;
	int tokens[TOKENS];
	bool live[CLIENTS];
	int clients[CLIENTS];
	uint32_t ctx_of[CLIENTS];
	uint64_t begun; /* bit by context: it has said that it begins */
	int32_t kernel_conns[TOE_CTX_N];
	int kick[TOE_CTX_N], waiter[TOE_CTX_N];
	bool attached[TOE_CTX_N];
	uint32_t hint_prod[TOE_CTX_N], db_cons[TOE_CTX_N];
	bool wake[TOE_CTX_N];
	struct toe_ctl_listen listen[LISTENERS];
	uint64_t listen_procs[LISTENERS];
	uint32_t listen_prod[LISTENERS];
};
extern struct fake k;
extern struct fake_stats *stats;

static inline struct toe_slot *slot(uint32_t i)
{
	return (struct toe_slot *)(k.control + k.l.off_slots) + i;
}

static inline struct toe_listener *listener(uint32_t i)
{
	return (void *)(k.control + k.l.off_listeners + i * toe_listener_stride(BACKLOG));
}

static inline struct toe_context *context(uint32_t i)
{
	return (void *)(k.control + k.l.off_contexts +
			i * toe_context_stride(HINTS, k.g.doorbell_n));
}

static inline uint32_t *token_map(void)
{
	return (uint32_t *)(k.control + k.l.off_tokens);
}

/* engine */
void hint(uint32_t id);
void write_line0(uint32_t i, bool fresh);
uint32_t new_slot(enum mode mode);
void free_slot(uint32_t i);
void fail(uint32_t i, uint32_t error);
bool gone(uint32_t i);
void pump(uint32_t i);
struct name {
	const uint8_t *addr; /* 16 bytes */
	uint16_t port;
};
void fill_names(uint32_t i, uint16_t family, struct name local, struct name remote);
/* Whose connections of that family to the port are; TOE_NONE: nobody's. */
uint32_t find_listener(uint16_t family, uint16_t port);

/* keeper */
bool add_client(int fd);
void message(uint32_t c);

#endif
