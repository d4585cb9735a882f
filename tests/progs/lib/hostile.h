/* SPDX-License-Identifier: BSD-3-Clause */
/* Parts of hostile_app: what it knows of its application, and the attacks by subject. */
#ifndef TOE_TEST_HOSTILE_H
#define TOE_TEST_HOSTILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/ctl_sock.h"
#include "toe/region.h"

#define REPLY_MS 2000

struct hostile {
	uint32_t app_id;
	uint8_t key[TOE_KEY_BYTES];
	char path[108];
	int control_fd, payload_fd, kick_fd;
	uint8_t *control, *payload;
	size_t control_bytes, payload_bytes;
	struct toe_region_hdr hdr; /* as it was before we wrote to it */
	uint32_t ctx;
};
extern struct hostile app;
extern uint64_t dice; /* state of the random numbers */
extern unsigned not_refused;

/* hostile_app.c */
uint64_t rnd(uint64_t below);
int keeper(void);
/* A process more, on a fresh connection: the socket; *kick, if wanted, is its kick socket. */
int attach_more(int *kick, uint32_t *ctx);
void fill_attach(struct toe_ctl_msg *m);
/* rc < 0: refused, as it should be. */
void expect_refused(const char *what, int rc);
/* Sends one message; -errno of the keeper, or -ECONNRESET if it hung up. */
int forge_on(int s, struct toe_ctl_msg *m, const int *fds, unsigned nfds);
int forge(struct toe_ctl_msg *m, const int *fds, unsigned nfds);
/* Counts as not refused if the keeper does not answer others in time. */
void expect_alive(const char *after);
/* Sends len bytes with descriptors, more than a message may have if asked. */
void send_raw(int s, const void *msg, size_t len, const int *fds, unsigned nfds);

/* hostile_floods.c: too much of everything.  What is opened stays open unless said otherwise. */
void flood_tokens(int s);
void flood_contexts(void);
void flood_forks(int s);
void flood_unread(void);
void flood_strangers(void);
void flood_listen(int s, uint16_t victim);
void flood_connect(int s, uint32_t peer);
void flood_waiters(int s);

/* hostile_fds.c: descriptors that are not what they should be */
void attack_kept_far_ends(int s);
void attack_lingering(int s);
void attack_foreign_port(int s);

/* hostile_memory.c */
void attack_seals(const char *name, int fd, size_t bytes);
/* Writes everywhere, kicks, sends and opens at random, for so long. */
void scribble(unsigned seconds);
/* A child that attaches, does what scribble() does, and is killed somewhere on the way. */
void die_somewhere(void);

/* fork() of a child that ends with us: killed between fork and kill(), we would leave behind an
 * attacker that nobody ends, with all its waiters in the engine. */
pid_t fork_tied(void);

#endif
