/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Inside of the pipeline: shared by pipeline.c (queues, emit, poll) and lcore.c (loop, sleep).
 * Stages see stage.h and pipeline.h only.
 */
#ifndef TOE_PIPELINE_PRIV_H
#define TOE_PIPELINE_PRIV_H

#include <rte_common.h>
#include <rte_ring.h>

#include "engine.h"
#include "graph.h"
#include "idle.h"
#include "pipeline.h"

#define TOE_LCORE_BUDGET 128u /* items per instance and round, and as many from its own source */
#define TOE_OUT_BUF      64u  /* items buffered per ring before an enqueue */
#define TOE_PARK_N       8u   /* items one instance may delay (fault injection) */

/* Work items there are, of all pools together: what every queue must be able to hold. */
static inline uint32_t toe_pipeline_items(const struct toe_config *cfg)
{
	return cfg->work_items * TOE_WORK_TYPE_N;
}

/* Between instances of one lcore: no other thread looks at it. */
struct toe_fifo {
	struct toe_work **slots;
	uint32_t mask;
	uint32_t head; /* next to take */
	uint32_t tail; /* next free */
};

/* One instance as a destination of one other.  fifo: same lcore; else ring. */
struct toe_out {
	struct toe_fifo *fifo;
	struct rte_ring *ring;
	unsigned lcore; /* destination's */
	unsigned n;
	struct toe_work *buf[TOE_OUT_BUF];
};

/* Test only (cfg.reorder_inject): items that are emitted later than they should. */
struct toe_park {
	uint32_t every; /* 1 item in so many */
	uint32_t count;
	unsigned n;
	struct {
		struct toe_work *w;
		enum toe_stage_id next;
		unsigned left; /* items that still overtake it */
	} item[TOE_PARK_N];
};

struct toe_lcore;

struct toe_stage_port {
	struct toe_lcore *lc;
	struct toe_park *park;
	struct toe_fifo fifo;
	struct rte_ring *rings[TOE_CFG_LCORES_MAX]; /* by number, of the other producing lcores */
	unsigned ring_n;
	unsigned source;    /* input to look at first: the FIFO and the rings take turns */
	bool pending;       /* something was buffered for a ring since the last flush */
	uint64_t wake_mask; /* lcores that got items since the last flush */
	struct toe_out *out[TOE_STAGE_N]; /* [stage][replica], NULL: no edge */
};

struct toe_lcore {
	struct toe_idle idle;
	struct toe_clock clock;
	uint64_t anchor_tsc; /* TSC and CLOCK_MONOTONIC read together */
	uint64_t anchor_us;
	uint64_t mark; /* TSC up to which time has been accounted */
	unsigned index;
	unsigned stage_n;
	struct toe_stage *stages[TOE_GRAPH_INST_MAX];
	uint64_t idle_since; /* TSC of the first empty round, 0: busy */
	unsigned announced;  /* turns left in which producers believe that it sleeps, 0: they do not
			      */
	uint32_t items[TOE_WORK_TYPE_N]; /* taken here less freed here, modulo 2^32; the sum over
					  * lcores is what is under way.  Atomic: others read it */
	struct toe_lcore_stats stats;
};

struct toe_pipeline {
	struct toe_engine *engine;
	struct toe_graph graph;
	unsigned inited; /* instances whose init() has run */
	uint64_t tsc_hz;
	uint64_t spin_tsc;
	struct toe_lcore *lcores;
	struct toe_stage *stages;     /* graph.inst_n */
	struct toe_stage_port *ports; /* graph.inst_n */
	struct rte_ring **rings;      /* [consumer instance * lcore_n + producing lcore] */
};

/* Takes up to budget items from the inputs, then polls the source; delivers what was emitted. */
unsigned toe_stage_poll(struct toe_stage *s, unsigned budget);

/* Publishes what is buffered, then wakes sleeping destinations: one fence, and at most one system
 * call per lcore. */
void toe_stage_flush(struct toe_stage *s);

/* True if a queue of one of its instances holds an item. */
bool toe_lcore_has_input(const struct toe_lcore *lc);

#endif
