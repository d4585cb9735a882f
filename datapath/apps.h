/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Attached applications as the datapath sees them.
 *
 * The keeper-link thread attaches and detaches; lcores only read, under RCU (rte_rcu_qsbr): a
 * detached application's memory is unmapped after every lcore has been quiescent and every copy in
 * flight has ended.  The geometry is the engine's own copy, taken from the keeper's message, never
 * from the region.
 */
#ifndef TOE_APPS_H
#define TOE_APPS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine.h"
#include "toe/ctl.h"
#include "toe/region.h"

#define TOE_APP_N TOE_CTL_APP_N /* applications at once; ids are recycled by the keeper */

struct toe_app_proc {
	int kick_fd;                 /* app -> engine, read by the lcore that runs ctxq */
	int waiter_fd[TOE_WAITER_N]; /* engine -> app, -1 = none; send(MSG_DONTWAIT|MSG_NOSIGNAL) */
	/* Private truth of the rings, ctxq stage: the region's copies are only written, never read
	 * back. */
	uint32_t hint_prod;
	uint32_t doorbell_cons;
	uint32_t kernel_conns; /* its share of toe_app.kernel_conns; keeper-link thread */
	uint32_t followed;     /* and of toe_app.followed */
};

/* What the engine has written to line 0 of a slot, and for whom.  Written and read by: ctxq. */
struct toe_slot_own {
	uint32_t conn;     /* TOE_NONE: no connection */
	uint32_t conn_gen; /* generation of the connection id */
	uint32_t slot_gen; /* toe_slot.gen */
	uint32_t rx_tail;
	uint32_t tx_head;
	uint32_t state;
	uint32_t error;
	uint32_t rtx_segs;
};

struct toe_app {
	uint32_t app_id;
	_Atomic bool
		evicted; /* SIGBUS on its memory: all its traffic is dropped until it is gone */
	struct toe_apps *owner;
	uint32_t serial; /* differs from that of an earlier application with this id; never 0 */
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
	struct toe_slot_own *own; /* [slot_n] */
	uint32_t *listener_prod;  /* private truth of the accept rings, ctxq stage only */
	/* Slots that ctxq must look at as if their doorbell had been rung; any thread sets bits
	 * (toe_app_redo), ctxq takes them. */
	_Atomic uint64_t *redo;
	/* Slots below this have been used: bounds walks over a sparse segment.  Writer: ctxq. */
	_Atomic uint32_t slot_top;
	_Atomic uint32_t copies;    /* asynchronous copies in flight on its memory */
	_Atomic uint64_t proc_mask; /* attached contexts; set last, cleared first */
	/* Descriptors of stream connections that the kernel carries, all processes together: what
	 * such a peer asks of the application, no stage sees.  It rises before the application gets
	 * the descriptor.  Writer: keeper-link thread (release); lcores load-acquire it. */
	_Atomic uint32_t kernel_conns;
	_Atomic uint32_t reloads;  /* times it got SIGHUP; the same writer and rules */
	_Atomic uint32_t followed; /* of kernel_conns, those whose subscriptions are told */
	/* Connections in the pipeline that no stream module follows: of other ports, and those the
	 * application opened, or is going to (EARLY).  Rises before the application can see one.
	 * Writers: ctrl, of EARLY the keeper-link thread (release). */
	_Atomic uint32_t plain_conns;
	/* Of these, those whose subscriptions are not told; for moments too many, never too few.
	 * plain: which, enum toe_plain per slot.  Writers: ctrl when one comes and goes, the
	 * keeper-link thread between. */
	_Atomic uint32_t plain_unseen;
	_Atomic uint8_t *plain; /* [slot_n] */
	struct toe_app_proc procs[TOE_CTX_N];
};

/* The last two: and the context of who tells; EARLY: when it comes it will be followed. */
enum toe_plain {
	TOE_PLAIN_NONE,
	TOE_PLAIN_UNSEEN,
	TOE_PLAIN_FOLLOWED,
	TOE_PLAIN_EARLY = TOE_PLAIN_FOLLOWED + TOE_CTX_N
};

struct toe_apps {
	struct toe_app *_Atomic table[TOE_APP_N];
	_Atomic uint64_t mask;    /* attached applications */
	_Atomic uint64_t redo;    /* bit a: application a has redo bits */
	_Atomic uint64_t evicted; /* not reported to the keeper yet */
	_Atomic uint32_t serials; /* of the newest application */
	_Atomic uint32_t version; /* changes whenever an application or context comes or goes */
	int evict_fd;             /* eventfd: evicted became non-zero */
};

int toe_apps_init(struct toe_engine *e);
/* Every application left learns that the engine is gone.  After the lcores have stopped. */
void toe_apps_fini(struct toe_engine *e);

/* Lookup on an lcore: valid until its next quiescent state.  NULL: not attached, or evicted. */
struct toe_app *toe_app_get(const struct toe_engine *e, uint32_t app_id);

/* Asks ctxq to fetch line 1 of the slot (to be followed by a wake of the ctxq stage unless called
 * from it).  Any thread. */
void toe_app_redo(struct toe_app *a, uint32_t slot);

/*
 * The keeper-link thread's calls.  0 or -errno.  attach borrows the descriptors {control, payload}
 * and checks sizes and seals; proc_attach and waiter_add own theirs on success.
 */
int toe_app_attach(struct toe_engine *e, const struct toe_ctl_app *desc, const int fds[2]);
int toe_app_detach(struct toe_engine *e, uint32_t app_id);
int toe_app_proc_attach(struct toe_engine *e, uint32_t app_id, uint32_t ctx, int kick_fd);
int toe_app_proc_detach(struct toe_engine *e, uint32_t app_id, uint32_t ctx);
int toe_app_waiter_add(struct toe_engine *e, const struct toe_ctl_waiter *who, int fd);
/* k->delta more or fewer kernel connections.  Once it returns 0 every lcore sees a rise; waits. */
int toe_app_kernel_conn(struct toe_engine *e, const struct toe_ctl_kconn *k);
/* The connection k is about is followed from now on (no more): of the kernel's never more than the
 * process has, of others one that is in plain_conns, or (BRIDGE) will be. */
int toe_app_follow(struct toe_engine *e, const struct toe_ctl_kconn *k, bool on);

/* The ctrl stage's calls: a connection that no module follows, opened by the application (active)
 * or accepted, comes and goes. */
void toe_app_plain_add(struct toe_app *a, uint32_t slot, bool active);
void toe_app_plain_del(struct toe_app *a, uint32_t slot);

/* Applications evicted since the last call, as a bit mask of ids. */
uint64_t toe_apps_take_evicted(struct toe_engine *e);

static inline struct toe_slot *toe_app_slot(const struct toe_app *a, uint32_t slot)
{
	return (struct toe_slot *)(a->control + a->off_slots) + slot;
}

static inline uint64_t toe_app_slot_off(const struct toe_app *a, uint32_t slot)
{
	return a->off_slots + (uint64_t)slot * sizeof(struct toe_slot);
}

static inline struct toe_listener *toe_app_listener(const struct toe_app *a, uint32_t i)
{
	return (struct toe_listener *)(a->control + a->off_listeners +
				       i * toe_listener_stride(a->backlog_n));
}

static inline uint32_t *toe_app_accept_ring(const struct toe_app *a, uint32_t i)
{
	return (uint32_t *)(toe_app_listener(a, i) + 1);
}

static inline struct toe_context *toe_app_context(const struct toe_app *a, uint32_t ctx)
{
	return (struct toe_context *)(a->control + a->off_contexts +
				      ctx * toe_context_stride(a->hint_n, a->doorbell_n));
}

static inline uint32_t *toe_app_hints(const struct toe_app *a, uint32_t ctx)
{
	return (uint32_t *)(toe_app_context(a, ctx) + 1);
}

static inline uint32_t *toe_app_doorbells(const struct toe_app *a, uint32_t ctx)
{
	return toe_app_hints(a, ctx) + a->hint_n;
}

#endif
