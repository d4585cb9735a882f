/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The loop of an lcore: polls its instances in stage order, reports quiescent states to RCU, keeps
 * the clock, and sleeps when there has been no work for idle_spin_us (protocol: idle.h).  Also the
 * calls by which other threads wake it or make it watch descriptors.  State: struct toe_lcore,
 * touched by its own thread except for the sleeping flag.
 */
#include <sched.h>
#include <time.h>

#include <rte_cycles.h>
#include <rte_pause.h>

#include "pipeline_priv.h"

/* A sleep never lasts longer, so that a lost wake-up is a delay and shows in late_wakes. */
#define SLEEP_MAX_NS 100000000u

#define CLOCK_ANCHOR_US 1000u

#define ANNOUNCED_TURNS 8u /* with work, at most, before producers are told that it is awake */

/* One writer, the lcore; people read: whole words, no order. */
#define STAT_ADD(field, n) __atomic_store_n(&(field), (field) + (n), __ATOMIC_RELAXED)

/*
 * Milliseconds must be those of CLOCK_MONOTONIC: the control plane stamps handshakes with it, and a
 * peer drops timestamps that step back (PAWS).  Between anchors, one each CLOCK_ANCHOR_US, the TSC
 * interpolates; a small step back at an anchor is held until time has caught up.
 */
static void clock_read(const struct toe_pipeline *p, struct toe_lcore *lc)
{
	struct toe_clock *c = &lc->clock;
	uint64_t tsc = rte_rdtsc();
	uint64_t us = (tsc - lc->anchor_tsc) * 1000000u / p->tsc_hz;

	if (us >= CLOCK_ANCHOR_US || lc->anchor_us == 0) {
		struct timespec ts;

		clock_gettime(CLOCK_MONOTONIC, &ts); /* vDSO */
		lc->anchor_us = (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
		lc->anchor_tsc = tsc;
		us = 0;
	}
	c->tsc = tsc;
	c->us = RTE_MAX(c->us, lc->anchor_us + us);
	c->ms = (uint32_t)(c->us / 1000u);
}

/* One turn of every instance. */
static unsigned round_once(struct toe_lcore *lc)
{
	unsigned done = 0;

	for (unsigned i = 0; i < lc->stage_n; i++)
		done += toe_stage_poll(lc->stages[i], TOE_LCORE_BUDGET);
	STAT_ADD(lc->stats.rounds, 1);
	return done;
}

unsigned toe_pipeline_step(struct toe_pipeline *p, unsigned lcore, const struct toe_clock *now)
{
	struct toe_lcore *lc = &p->lcores[lcore];
	struct rte_rcu_qsbr *qsbr = p->engine->qsbr;
	unsigned done;

	/* Offline between steps: whoever drives the simulation may wait for grace periods. */
	if (qsbr != NULL)
		rte_rcu_qsbr_thread_online(qsbr, lcore);
	lc->clock = *now;
	lc->mark = rte_rdtsc();
	done = round_once(lc);
	if (qsbr != NULL)
		rte_rcu_qsbr_thread_offline(qsbr, lcore);
	return done;
}

/* Nanoseconds until the first deadline of the lcore's stages, at most SLEEP_MAX_NS; 0: now. */
static uint64_t sleep_limit(const struct toe_pipeline *p, const struct toe_lcore *lc)
{
	uint64_t first = UINT64_MAX;
	uint64_t now = rte_rdtsc();
	uint64_t tsc;

	for (unsigned i = 0; i < lc->stage_n; i++) {
		struct toe_stage *s = lc->stages[i];
		uint64_t at = s->ops->deadline != NULL ? s->ops->deadline(s) : UINT64_MAX;

		first = at < first ? at : first;
	}
	if (first <= now)
		return 0;
	tsc = first - now;
	if (tsc >= p->tsc_hz / 10u)
		return SLEEP_MAX_NS;
	return tsc * 1000000000u / p->tsc_hz;
}

/* Tells every stage; returns true if one of them has work after all. */
static bool announce(struct toe_lcore *lc, bool on)
{
	bool work = false;

	for (unsigned i = 0; i < lc->stage_n; i++) {
		struct toe_stage *s = lc->stages[i];

		if (s->ops->sleep == NULL)
			continue;
		work |= s->ops->sleep(s, on);
		toe_stage_flush(s);
	}
	return work;
}

/* Set by a signal handler or another thread. */
static bool stopped(const volatile bool *stop)
{
	return __atomic_load_n(stop, __ATOMIC_RELAXED);
}

/* Returns true if it slept to the safety limit: nothing should be waiting then. */
static bool lcore_sleep(struct toe_pipeline *p, struct toe_lcore *lc, const volatile bool *stop)
{
	struct rte_rcu_qsbr *qsbr = p->engine->qsbr;
	bool late = false;

	lc->announced = ANNOUNCED_TURNS;
	if (!announce(lc, true)) {
		toe_idle_announce(&lc->idle);
		if (!toe_lcore_has_input(lc) && !stopped(stop)) {
			uint64_t ns = sleep_limit(p, lc);

			if (ns != 0) {
				STAT_ADD(lc->stats.sleeps, 1);
				lc->stages[0]->counters[TOE_C_SLEEPS]++;
				if (qsbr != NULL)
					rte_rcu_qsbr_thread_offline(qsbr, lc->index);
				late = !toe_idle_wait(&lc->idle, ns) && ns == SLEEP_MAX_NS;
				if (qsbr != NULL)
					rte_rcu_qsbr_thread_online(qsbr, lc->index);
			}
		}
		toe_idle_awake(&lc->idle);
	}
	lc->idle_since = 0;
	return late;
}

/* Stages are told that the lcore is awake when its first work is done: until then producers kick it
 * for nothing at worst, and the first frame does not wait for a look at every application. */
static void awake(struct toe_lcore *lc)
{
	announce(lc, false);
	lc->announced = 0;
}

int toe_pipeline_run(struct toe_pipeline *p, unsigned lcore, const volatile bool *stop)
{
	struct toe_lcore *lc = &p->lcores[lcore];
	struct rte_rcu_qsbr *qsbr = p->engine->qsbr;
	const bool shared = p->graph.lcores[lcore].shared;
	bool late = false;
	uint64_t before;

	if (qsbr != NULL)
		rte_rcu_qsbr_thread_online(qsbr, lcore);
	clock_read(p, lc);
	while (!stopped(stop)) {
		unsigned done;

		before = lc->clock.tsc;
		lc->mark = before;
		done = round_once(lc);
		if (qsbr != NULL)
			rte_rcu_qsbr_quiescent(qsbr, lcore);
		clock_read(p, lc);
		if (done == 0 && lc->announced != 0) {
			awake(lc); /* some look more closely then: another turn */
			STAT_ADD(lc->stats.cycles, lc->clock.tsc - before);
			continue;
		}
		if (done != 0) {
			if (lc->announced != 0 && --lc->announced == 0)
				awake(lc);
			STAT_ADD(lc->stats.late_wakes, late);
			STAT_ADD(lc->stats.busy_cycles, lc->clock.tsc - before);
			lc->idle_since = 0;
		} else if (lc->idle_since == 0) {
			lc->idle_since = lc->clock.tsc;
		} else if (lc->clock.tsc - lc->idle_since >= p->spin_tsc) {
			late = lcore_sleep(p, lc, stop);
			STAT_ADD(lc->stats.cycles, rte_rdtsc() - before);
			clock_read(p, lc);
			continue;
		} else if (shared) {
			sched_yield();
		} else {
			rte_pause();
		}
		late = false;
		STAT_ADD(lc->stats.cycles, lc->clock.tsc - before);
	}
	if (qsbr != NULL)
		rte_rcu_qsbr_thread_offline(qsbr, lcore);
	return 0;
}

unsigned toe_pipeline_lcores(const struct toe_pipeline *p)
{
	return p->graph.lcore_n;
}

struct toe_lcore_stats toe_pipeline_lcore_stats(const struct toe_pipeline *p, unsigned lcore)
{
	const struct toe_lcore_stats *s = &p->lcores[lcore].stats;

	return (struct toe_lcore_stats){
		.cpu = s->cpu,
		.rounds = __atomic_load_n(&s->rounds, __ATOMIC_RELAXED),
		.sleeps = __atomic_load_n(&s->sleeps, __ATOMIC_RELAXED),
		.late_wakes = __atomic_load_n(&s->late_wakes, __ATOMIC_RELAXED),
		.busy_cycles = __atomic_load_n(&s->busy_cycles, __ATOMIC_RELAXED),
		.cycles = __atomic_load_n(&s->cycles, __ATOMIC_RELAXED),
	};
}

static struct toe_lcore *lcore_of(const struct toe_pipeline *p, enum toe_stage_id id)
{
	return &p->lcores[p->graph.inst[p->graph.first[id]].lcore];
}

void toe_pipeline_wake(struct toe_pipeline *p, enum toe_stage_id id)
{
	toe_idle_fence();
	toe_idle_wake(&lcore_of(p, id)->idle);
}

void toe_pipeline_wake_all(struct toe_pipeline *p)
{
	toe_idle_fence();
	for (unsigned i = 0; i < p->graph.lcore_n; i++)
		toe_idle_wake(&p->lcores[i].idle);
}

int toe_pipeline_watch(struct toe_pipeline *p, enum toe_stage_id id, int fd)
{
	return toe_idle_watch(&lcore_of(p, id)->idle, fd);
}

void toe_pipeline_unwatch(struct toe_pipeline *p, enum toe_stage_id id, int fd)
{
	toe_idle_unwatch(&lcore_of(p, id)->idle, fd);
}
