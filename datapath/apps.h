/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Attached applications as the datapath sees them.
 *
 * The keeper-link thread attaches and detaches; lcores only read, under RCU (rte_rcu_qsbr): a
 * detached application's memory is unmapped after every lcore has been quiescent.  The geometry is
 * the engine's own copy, taken from the keeper's message, never from the region.
 */
#ifndef TOE_APPS_H
#define TOE_APPS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "toe/ctl.h"
#include "toe/region.h"

#define TOE_APP_N 64u /* applications at once; ids are recycled by the keeper */

struct toe_app_proc {
	bool attached;
	int kick_fd;                    /* app -> engine, read by the lcore that runs ctxq */
	int waiter_fd[TOE_WAITER_N];    /* engine -> app, -1 = none; send(MSG_DONTWAIT|MSG_NOSIGNAL) */
	/* Private truth of the rings: the region's copies are only written, never read back. */
	uint32_t hint_prod;
	uint32_t doorbell_cons;
};

struct toe_app {
	uint32_t app_id;
	bool evicted; /* SIGBUS on its memory: all its traffic is dropped until it is gone */
	uint8_t *control;
	uint8_t *payload;
	uint64_t control_bytes;
	uint64_t payload_bytes;
	uint32_t slot_n;
	uint32_t listener_n;
	uint32_t backlog_n;
	uint32_t hint_n;
	uint32_t doorbell_n;
	uint32_t rx_buf_bytes;
	uint32_t tx_buf_bytes;
	uint64_t off_slots;
	uint64_t off_listeners;
	uint64_t off_contexts;
	/* slot -> connection; written by the ctxq stage when INSTALL/REMOVE pass, read by it. */
	uint32_t *slot_conn;
	uint32_t *slot_gen;
	uint32_t *listener_prod; /* private truth of the accept rings, ctxq stage only */
	struct toe_app_proc procs[TOE_CTX_N];
	_Atomic uint64_t proc_mask; /* attached contexts */
};

struct toe_apps;
struct toe_engine;

/* Lookup on an lcore: valid until its next quiescent state.  NULL: not attached. */
struct toe_app *toe_app_get(const struct toe_engine *e, uint32_t app_id);

static inline struct toe_slot *toe_app_slot(const struct toe_app *a, uint32_t slot)
{
	return (struct toe_slot *)(a->control + a->off_slots) + slot;
}

static inline struct toe_listener *toe_app_listener(const struct toe_app *a, uint32_t i)
{
	return (struct toe_listener *)(a->control + a->off_listeners +
				       i * toe_listener_stride(a->backlog_n));
}

static inline struct toe_context *toe_app_context(const struct toe_app *a, uint32_t ctx)
{
	return (struct toe_context *)(a->control + a->off_contexts +
				      ctx * toe_context_stride(a->hint_n, a->doorbell_n));
}

#endif
