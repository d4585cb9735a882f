// SPDX-License-Identifier: BSD-3-Clause
/*
 * sched: decides which flow sends next, and lets proto build the segment (Carousel, paper §3.4).
 *
 * Inputs: items from ctxq (and egress) with a new absolute of sendable bytes, TX items that come
 * back, INSTALL, CC and REMOVE; its own source is the wheel.  Outputs: TX items to seq; what came
 * in goes on to ctrl or netif_tx.  Owns flow_sched.  REMOVE is held until no TX item of the flow is
 * under way: when the control plane hears REMOVED, nothing refers to the id any more.
 */
#include <errno.h>
#include <stdlib.h>

#include <rte_cycles.h>

#include "common/config.h"
#include "common/log.h"
#include "cmd_mss.h"
#include "engine.h"
#include "sched_wheel.h"
#include "stage.h"
#include "toe/region.h"

/* More TX items under way would only wait in queues, where they are no longer fair. */
#define INFLIGHT_MAX 512u
#define RETRY_US     20u /* between attempts while the pool is empty */
static_assert(INFLIGHT_MAX <= TOE_FLOW_INFLIGHT_MAX, "fits, if all are of one flow");

struct sched {
	struct toe_wheel wheel;
	uint32_t inflight; /* TX items of all flows */
	uint32_t inflight_max;
	uint64_t retry_ticks;
	uint64_t retry_tsc; /* the pool was empty: not before; 0 = it was not */
};

static int sched_init(struct toe_stage *s)
{
	struct toe_engine *e = s->engine;
	struct sched *p = calloc(1, sizeof(*p));
	uint64_t hz = rte_get_tsc_hz();

	if (p == NULL)
		return -ENOMEM;
	if (hz == 0)
		hz = 1000000000u; /* no EAL: simulation with its own clock, as pipeline.c */
	/* some items are always behind us, in netif_tx or a mempool cache */
	p->inflight_max = e->cfg->work_items - e->cfg->work_items / 4;
	if (p->inflight_max > INFLIGHT_MAX)
		p->inflight_max = INFLIGHT_MAX;
	p->retry_ticks = hz / 1000000u * RETRY_US;
	toe_wheel_init(&p->wheel, e->flow_sched, e->conn_n, hz, 0);
	s->priv = p;
	return 0;
}

static void sched_fini(struct toe_stage *s)
{
	struct sched *p = s->priv;
	uint32_t i;

	if (p == NULL)
		return;
	for (i = 0; i < s->engine->conn_n; i++) {
		const struct toe_flow_sched *f = &s->engine->flow_sched[i];

		if (f->removed && f->held != NULL)
			toe_work_free(s, f->held);
	}
	free(p);
	s->priv = NULL;
}

static void sched_pass_on(struct toe_stage *s, struct toe_work *w)
{
	w->todo &= (uint8_t)~TOE_TODO_SCHED;
	toe_emit_next(s, w);
}

static void sched_returned(struct toe_stage *s, const struct toe_work *w)
{
	struct sched *p = s->priv;
	struct toe_flow_sched *f = &s->engine->flow_sched[w->conn];

	TOE_ASSERT(p->inflight > 0 && f->inflight > 0 && f->gen == w->gen);
	p->inflight--;
	f->inflight--;
	if (f->inflight == 0 && f->removed && f->held != NULL) {
		struct toe_work *remove = f->held;

		f->held = NULL;
		sched_pass_on(s, remove);
	}
}

static void sched_command(struct toe_stage *s, const struct toe_work *w)
{
	struct sched *p = s->priv;
	const struct toe_work_ctrl *wc = (const struct toe_work_ctrl *)w;

	switch (w->cmd) {
	case TOE_CMD_INSTALL:
		TOE_ASSERT(s->engine->flow_sched[w->conn].inflight == 0);
		toe_wheel_add(&p->wheel, w->conn, w->gen, wc->cmd.install.mss);
		break;
	case TOE_CMD_CC:
		if (s->engine->flow_sched[w->conn].gen == w->gen)
			toe_wheel_rate(&p->wheel, w->conn, wc->cmd.cc.rate_bps, toe_now(s)->tsc);
		break;
	case TOE_CMD_MSS:
		if (s->engine->flow_sched[w->conn].gen == w->gen)
			s->engine->flow_sched[w->conn].mss = toe_cmd_mss_of(wc);
		break;
	case TOE_CMD_REMOVE:
		if (s->engine->flow_sched[w->conn].gen == w->gen)
			toe_wheel_remove(&p->wheel, w->conn);
		break;
	default:
		break;
	}
}

/* True: the item stays here for now. */
static bool sched_update(struct toe_stage *s, struct toe_work *w)
{
	struct sched *p = s->priv;
	struct toe_flow_sched *f = &s->engine->flow_sched[w->conn];

	if (w->type == TOE_WORK_CTRL && w->verdict != TOE_NOTHING)
		sched_command(s, w);
	if (f->gen != w->gen)
		return false;
	if (!f->removed) {
		toe_wheel_sendable(&p->wheel, w->conn, w->snap.sendable, toe_now(s)->tsc);
		return false;
	}
	if (w->type != TOE_WORK_CTRL || w->cmd != TOE_CMD_REMOVE || f->inflight == 0)
		return false;
	TOE_ASSERT(f->held == NULL);
	f->held = w;
	return true;
}

static void sched_process(struct toe_stage *s, struct toe_work **items, unsigned n)
{
	unsigned i;

	for (i = 0; i < n; i++) {
		struct toe_work *w = items[i];

		/* others only pass, to keep their place in the order of ctxq > sched > ctrl */
		if (w->conn < s->engine->conn_n) {
			if (w->type == TOE_WORK_TX)
				sched_returned(s, w);
			if ((w->todo & TOE_TODO_SCHED) && sched_update(s, w))
				continue;
		}
		sched_pass_on(s, w);
	}
}

static unsigned sched_poll(struct toe_stage *s, unsigned budget)
{
	struct sched *p = s->priv;
	const struct toe_engine *e = s->engine;
	uint64_t now = toe_now(s)->tsc;
	unsigned n;

	for (n = 0; n < budget && p->inflight < p->inflight_max; n++) {
		struct toe_work *w;
		uint32_t conn;

		if (toe_wheel_deadline(&p->wheel, now) > now)
			break;
		w = toe_work_alloc(s, TOE_WORK_TX);
		if (w == NULL) {
			s->drops[TOE_D_NO_ITEM]++;
			p->retry_tsc = now + p->retry_ticks;
			return n;
		}
		conn = toe_wheel_next(&p->wheel, now);
		if (conn == TOE_NONE) { /* a far slot began, what it held is later */
			toe_work_free(s, w);
			break;
		}
		w->conn = conn;
		w->gen = e->flow_sched[conn].gen;
		w->fg = (uint16_t)(conn % e->flow_group_n);
		w->tsc = now;
		p->inflight++;
		toe_emit(s, TOE_STAGE_SEQ, w);
	}
	p->retry_tsc = 0;
	return n;
}

static uint64_t sched_deadline(struct toe_stage *s)
{
	const struct sched *p = s->priv;

	if (p->inflight >= p->inflight_max)
		return UINT64_MAX; /* an item that comes back wakes us */
	if (p->retry_tsc != 0)
		return p->retry_tsc;
	return toe_wheel_deadline(&p->wheel, toe_now(s)->tsc);
}

const struct toe_stage_ops toe_stage_sched = {
	.id = TOE_STAGE_SCHED,
	.name = "sched",
	.next_mask = 1u << TOE_STAGE_SEQ | 1u << TOE_STAGE_CTRL | 1u << TOE_STAGE_NETIF_TX,
	.init = sched_init,
	.fini = sched_fini,
	.process = sched_process,
	.poll = sched_poll,
	.deadline = sched_deadline,
};
