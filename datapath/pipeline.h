/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The graph as data: instances of every stage, their lcores, the queues between them.
 */
#ifndef TOE_PIPELINE_H
#define TOE_PIPELINE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "stage.h"

struct toe_pipeline;

/* Builds instances and queues from the configuration and validates: every stage placed exactly
 * once per replica, every edge has a consumer, one proto per flow-group, only replicable stages
 * replicated.  (That the CPUs exist is checked before DPDK starts and binds this thread:
 * toe_graph_check_cpus().)  NULL with one line in err. */
struct toe_pipeline *toe_pipeline_create(struct toe_engine *e, char *err, size_t err_len);
void toe_pipeline_free(struct toe_pipeline *p);

/* Calls init() of every instance, in stage order; engine.pipeline must be set already.  0, or
 * -errno with one line in err; toe_pipeline_free() undoes it. */
int toe_pipeline_init(struct toe_pipeline *p, char *err, size_t err_len);

/* DOT of stages, replicas, lcores and queue kinds. */
void toe_pipeline_dump(const struct toe_pipeline *p, FILE *out);

/* Runs lcore index i until *stop; call on the right CPU.  Sleeps when idle. */
int toe_pipeline_run(struct toe_pipeline *p, unsigned lcore, const volatile bool *stop);

/* One iteration of every stage of lcore i with the given clock, no sleeping: simulation, tests.
 * Returns the number of things done. */
unsigned toe_pipeline_step(struct toe_pipeline *p, unsigned lcore, const struct toe_clock *now);

unsigned toe_pipeline_lcores(const struct toe_pipeline *p);

/* What an lcore did so far; read without synchronisation, for people. */
struct toe_lcore_stats {
	unsigned cpu;
	uint64_t rounds;      /* turns of the loop */
	uint64_t sleeps;      /* times it went to sleep */
	uint64_t late_wakes;  /* slept to the safety limit and then found work: a lost wake-up */
	uint64_t busy_cycles; /* TSC in rounds that did something */
	uint64_t cycles;      /* TSC since it started, sleep included */
};
struct toe_lcore_stats toe_pipeline_lcore_stats(const struct toe_pipeline *p, unsigned lcore);

/* Instances, for telemetry and tests: NULL past the end. */
struct toe_stage *toe_pipeline_stage(const struct toe_pipeline *p, unsigned index);

/* "pre.1", or "seq" where there is one; returns buf. */
char *toe_pipeline_stage_name(const struct toe_pipeline *p, unsigned index, char *buf, size_t len);

/* Wakes the lcore that runs the (only) instance of a stage; from any thread. */
void toe_pipeline_wake(struct toe_pipeline *p, enum toe_stage_id id);

/* Wakes every lcore, e.g. after *stop was set.  Async-signal-safe. */
void toe_pipeline_wake_all(struct toe_pipeline *p);

/* A file descriptor a sleeping lcore must watch on behalf of a stage; from init() or the keeper
 * thread.  The stage's poll() finds out itself what happened. */
int toe_pipeline_watch(struct toe_pipeline *p, enum toe_stage_id id, int fd);
void toe_pipeline_unwatch(struct toe_pipeline *p, enum toe_stage_id id, int fd);

/* All stages, indexed by id: stages/<name>.c each defines its entry. */
extern const struct toe_stage_ops toe_stage_netif_rx, toe_stage_ctrl, toe_stage_seq, toe_stage_pre,
	toe_stage_reorder, toe_stage_proto, toe_stage_post, toe_stage_dma, toe_stage_egress,
	toe_stage_stream, toe_stage_ctxq, toe_stage_sched, toe_stage_netif_tx, toe_stage_exception;

#endif
