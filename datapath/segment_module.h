/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Segment modules: code that looks at frames at a named point of the pipeline, added and removed
 * while traffic flows (paper §3.3).  A point is an ordered list, published as one immutable array
 * under RCU; each replica of the stage has its own private state per module, so a module needs no
 * locks.
 *
 * Points: engine.rx_raw, run by netif_rx on every frame as it came from the port.
 */
#ifndef TOE_SEGMENT_MODULE_H
#define TOE_SEGMENT_MODULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rte_mbuf.h>
#include <rte_rcu_qsbr.h>

#define TOE_HOOK_MODULES_MAX 16u /* at one point */
#define TOE_HOOK_LAST        UINT32_MAX

enum toe_hook_verdict {
	TOE_HOOK_PASS,     /* on to the next module, then to the pipeline */
	TOE_HOOK_DROP,     /* throw the frame away */
	TOE_HOOK_TX,       /* send it back out of the port */
	TOE_HOOK_REDIRECT, /* to the kernel, through the TAP */
	TOE_HOOK_VERDICT_N /* anything else a module returns is DROP */
};

struct toe_segment_module {
	const char *name;   /* unique at its point */
	size_t state_bytes; /* private state per replica, zeroed; 0: none */
	/* Once per frame, in bounded time, on the replica's lcore.  May change bytes and length of
	 * the mbuf, not free it.  tsc: now. */
	enum toe_hook_verdict (*run)(void *state, struct rte_mbuf *m, uint64_t tsc);
	/* Optional, in the thread that adds or removes: per replica, before the module is seen by
	 * an lcore and after the last lcore left it.  init: 0 or -errno. */
	int (*init)(void *state, void *arg, unsigned replica);
	void (*fini)(void *state, unsigned replica);
};

struct toe_hook;

/* qsbr: lcores that run the hook are readers; NULL in tests without concurrency.  NULL and errno.
 */
struct toe_hook *toe_hook_create(struct rte_rcu_qsbr *qsbr, unsigned replicas);
void toe_hook_free(struct toe_hook *h);

/*
 * Adds m at position (0 first, TOE_HOOK_LAST last); arg goes to init.  Removes; returns when no
 * lcore runs it any more.  Not from an lcore.  m must live until it is removed. 0, -EEXIST,
 * -ENOSPC, -ENOMEM, -ENOENT, or what init returned.
 */
int toe_hook_add(struct toe_hook *h, const struct toe_segment_module *m, void *arg,
		 unsigned position);
int toe_hook_del(struct toe_hook *h, const char *name);

/* Name of the module at that position into buf, -ENOENT past the end. */
int toe_hook_name(struct toe_hook *h, unsigned position, char *buf, size_t len);

/* On an lcore, between its quiescent states. */
enum toe_hook_verdict toe_hook_run(const struct toe_hook *h, unsigned replica, struct rte_mbuf *m,
				   uint64_t tsc);

/* True if there is a module at all: saves the calls when there is none. */
bool toe_hook_active(const struct toe_hook *h);

#endif
