/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The stage contract.
 *
 * A stage is a file in stages/ that defines one `const struct toe_stage_ops`.  The pipeline makes
 * one or more instances ("replicas") of it and pins each to an lcore.  An instance is only ever
 * run by its lcore:
 *
 *     toe_stage_poll(stage, budget)      take up to budget items from the inputs, process() them,
 *                                        then poll() its own source; bounded work per call
 *
 * process() ends every item by toe_emit() on one of its edges or by toe_work_free().  On the same
 * lcore an edge is a plain FIFO, between lcores an SP/SC rte_ring; the stage cannot tell.
 * No allocation, lock or system call in process() or poll(), except the I/O of netif, exception
 * and the wake-ups of ctxq and ctrl.
 */
#ifndef TOE_STAGE_H
#define TOE_STAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "work.h"

#define TOE_BURST 32u

/* Stage types in pipeline order; the name of a stage is its word in the configuration. */
enum toe_stage_id {
	TOE_STAGE_NETIF_RX,
	TOE_STAGE_CTRL, /* control-plane queue, both directions */
	TOE_STAGE_SEQ,
	TOE_STAGE_PRE,
	TOE_STAGE_REORDER,
	TOE_STAGE_PROTO,
	TOE_STAGE_POST,
	TOE_STAGE_DMA,
	TOE_STAGE_EGRESS,
	TOE_STAGE_STREAM, /* stream modules */
	TOE_STAGE_CTXQ,
	TOE_STAGE_SCHED,
	TOE_STAGE_NETIF_TX,
	TOE_STAGE_EXCEPTION, /* TAP */
	TOE_STAGE_N
};

/* Counters and drop reasons: datapath/counters.def (X-macro) defines enum toe_counter, enum
 * toe_drop and their texts; each instance has its own array, summed by telemetry. */
#include "counters.h"

struct toe_stage;
struct toe_engine; /* engine.h: configuration, pools, flow tables, applications */

struct toe_stage_ops {
	enum toe_stage_id id;
	const char *name;
	bool replicable;    /* may have several instances (paper §3: pre, post, dma) */
	uint32_t next_mask; /* bit i: may emit to stage type i */
	/* 0 or -errno.  The only place that allocates. */
	int (*init)(struct toe_stage *s);
	void (*fini)(struct toe_stage *s);
	/* Handles a burst of n <= TOE_BURST items. */
	void (*process)(struct toe_stage *s, struct toe_work **items, unsigned n);
	/* Optional own source (wire, doorbells, command queue, wheel, DMA completions).
	 * Returns the number of things done; 0 = idle. */
	unsigned (*poll)(struct toe_stage *s, unsigned budget);
	/* Optional: TSC at which poll() has something to do without an input; UINT64_MAX never. */
	uint64_t (*deadline)(struct toe_stage *s);
	/* Optional, before the lcore sleeps: announce sleep to external producers (on = true), then
	 * return true if there is work after all; after waking, called with on = false. */
	bool (*sleep)(struct toe_stage *s, bool on);
};

struct toe_stage {
	const struct toe_stage_ops *ops;
	struct toe_engine *engine;
	void *priv;
	unsigned replica;            /* index among the instances of its type */
	unsigned replicas;           /* number of them */
	unsigned lcore;              /* index in the pipeline's lcore table, not DPDK's id */
	uint64_t *counters;          /* enum toe_counter, this instance's own */
	uint64_t *drops;             /* enum toe_drop, this instance's own */
	uint64_t cycles;             /* TSC spent with work in hand */
	uint64_t items;              /* items processed */
	struct toe_stage_port *port; /* pipeline.c: inputs and output buffers */
};

/*
 * Hands w to stage type next.  Which replica gets it: by flow-group for proto/reorder/egress
 * (fg % replicas), by in_seq for pre, by out_seq for post and dma, the only one otherwise.
 * Ownership passes; it may be delivered at the end of the burst.
 */
void toe_emit(struct toe_stage *s, enum toe_stage_id next, struct toe_work *w);

/* Where an item goes after egress, or when one of its TODO bits is cleared: along the chain stream
 * > ctxq > sched > ctrl > netif_tx, so that nothing overtakes an earlier item; freed if no bit is
 * left. */
void toe_emit_next(struct toe_stage *s, struct toe_work *w);

/* Items wait for an instance of this lcore, whose next turn follows at once. */
bool toe_more_waits(const struct toe_stage *s);

/* Takes an item from a pool, zeroed line 0; NULL if the pool is empty (count it, try later). */
struct toe_work *toe_work_alloc(struct toe_stage *s, enum toe_work_type type);

/* Frees the item and the mbufs it still holds. */
void toe_work_free(struct toe_stage *s, struct toe_work *w);

/* Items of a type that are under way; other lcores take and free while it counts. */
unsigned toe_work_in_use(const struct toe_stage *s, enum toe_work_type type);

/* Drops with a reason: verdict = TOE_NOTHING and the counter.  The caller still forwards. */
static inline void toe_drop(struct toe_stage *s, struct toe_work *w, enum toe_drop why)
{
	w->verdict = TOE_NOTHING;
	w->drop = (uint8_t)why;
	s->drops[why]++;
}

static inline void toe_count(struct toe_stage *s, enum toe_counter c, uint64_t n)
{
	s->counters[c] += n;
}

/* Time as the stages know it: set by the lcore loop once per iteration, so that a simulation can
 * inject it.  cycles for the wheel, us for RTT, ms for timestamps (RFC 7323 §5.4). */
struct toe_clock {
	uint64_t tsc;
	uint64_t us;
	uint32_t ms;
};
const struct toe_clock *toe_now(const struct toe_stage *s);

#endif
