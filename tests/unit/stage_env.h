/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A stage alone: stand-ins for the pipeline's side of stage.h that record what is emitted, a clock
 * that is set by hand, EAL without hugepages, and frames.  Include once per test program.
 */
#ifndef TOE_TEST_STAGE_ENV_H
#define TOE_TEST_STAGE_ENV_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <rte_eal.h>
#include <rte_cycles.h>
#include <rte_mbuf.h>

#include "common/config.h"
#include "engine.h"
#include "frames.h"
#include "stage.h"
#include "toe/region.h"

#define ENV_ITEMS 4096u

static struct {
	struct toe_clock now;
	struct toe_work *emitted[ENV_ITEMS];
	enum toe_stage_id to[ENV_ITEMS]; /* TOE_STAGE_N: toe_emit_next() */
	unsigned emitted_n;
	unsigned alloc_left; /* toe_work_alloc() succeeds so often */
	unsigned live;       /* items allocated and not freed */
	uint64_t counters[TOE_C_N];
	uint64_t drops[TOE_D_N];
	struct toe_config cfg;
	struct toe_engine engine;
	struct toe_stage stage;
} env;

void toe_emit(struct toe_stage *s, enum toe_stage_id next, struct toe_work *w)
{
	(void)s;
	assert_true(env.emitted_n < ENV_ITEMS);
	env.to[env.emitted_n] = next;
	env.emitted[env.emitted_n++] = w;
}

void toe_emit_next(struct toe_stage *s, struct toe_work *w)
{
	toe_emit(s, TOE_STAGE_N, w);
}

struct toe_work *toe_work_alloc(struct toe_stage *s, enum toe_work_type type)
{
	struct toe_work_ctrl *w;

	(void)s;
	if (env.alloc_left == 0)
		return NULL;
	env.alloc_left--;
	env.live++;
	w = aligned_alloc(64, (sizeof(*w) + 63) / 64 * 64);
	memset(w, 0xa5, sizeof(*w)); /* only line 0 is promised */
	memset(w, 0, 64);
	w->w.type = (uint8_t)type;
	w->w.conn = TOE_NONE;
	return &w->w;
}

void toe_work_free(struct toe_stage *s, struct toe_work *w)
{
	(void)s;
	if (w->tx_mbuf != NULL && w->tx_mbuf != w->mbuf)
		rte_pktmbuf_free(w->tx_mbuf);
	if (w->mbuf != NULL)
		rte_pktmbuf_free(w->mbuf);
	env.live--;
	free(w);
}

const struct toe_clock *toe_now(const struct toe_stage *s)
{
	(void)s;
	return &env.now;
}

static inline int env_eal(void **state)
{
	static char *args[] = {"test",     "--no-huge",      "-m",       "64", "--no-shconf",
			       "--no-pci", "--no-telemetry", "--lcores", "0",  "--log-level",
			       "4"};

	(void)state;
	return rte_eal_init((int)(sizeof(args) / sizeof(args[0])), args) < 0 ? -1 : 0;
}

/* The engine with conn_n connections and mbuf_n buffers (0: no EAL used). */
static inline void env_start(const struct toe_stage_ops *ops, uint32_t conn_n, unsigned mbuf_n)
{
	static unsigned serial;
	char name[32];
	struct toe_engine *e = &env.engine;

	env.cfg.work_items = 1023;
	env.alloc_left = UINT32_MAX;
	*e = (struct toe_engine){.cfg = &env.cfg, .flow_group_n = 4, .conn_n = conn_n};
	e->caps.mtu = 1500;
	e->mac = (struct rte_ether_addr){{2, 0, 0, 0, 0, 1}};
	e->flow_post = calloc(conn_n, sizeof(*e->flow_post));
	e->flow_addr6 = calloc(conn_n, sizeof(*e->flow_addr6));
	e->flow_sched = calloc(conn_n, sizeof(*e->flow_sched));
	e->stat = aligned_alloc(64, conn_n * TOE_FLOW_STAT_REPLICAS * sizeof(*e->stat));
	memset(e->stat, 0, conn_n * TOE_FLOW_STAT_REPLICAS * sizeof(*e->stat));
	if (mbuf_n != 0) {
		snprintf(name, sizeof(name), "mbufs%u", serial++);
		e->mbuf_pool = rte_pktmbuf_pool_create(name, mbuf_n, 0, 0,
						       RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
		assert_non_null(e->mbuf_pool);
	}
	env.stage = (struct toe_stage){.ops = ops,
				       .engine = e,
				       .replicas = 1,
				       .counters = env.counters,
				       .drops = env.drops};
	assert_int_equal(ops->init(&env.stage), 0);
}

static inline void env_clear(void)
{
	env.emitted_n = 0;
	memset(env.drops, 0, sizeof(env.drops));
}

static inline void env_stop(void)
{
	struct toe_engine *e = &env.engine;

	env.stage.ops->fini(&env.stage);
	free(e->flow_post);
	free(e->flow_addr6);
	free(e->flow_sched);
	free(e->stat);
	rte_mempool_free(e->mbuf_pool);
	memset(&env, 0, sizeof(env));
}

static inline struct toe_work *frame_item(const struct frame_spec *f)
{
	struct toe_work *w = toe_work_alloc(&env.stage, TOE_WORK_RX);
	struct rte_mbuf *m = rte_pktmbuf_alloc(env.engine.mbuf_pool);

	assert_non_null(w);
	assert_non_null(m);
	rte_pktmbuf_append(m, (uint16_t)frame_make(rte_pktmbuf_mtod(m, uint8_t *), f));
	w->mbuf = m;
	return w;
}

#endif
