/* SPDX-License-Identifier: BSD-3-Clause */
/* LINK: tests/unit/proto_rig.h datapath/stages/proto.c common/log.c */
/*
 * The stage around the protocol machine, with stand-ins for the pipeline: bursts of items of a few
 * connections go in, what is emitted or freed is noted.  Include once per test program.
 */
#ifndef PROTO_BENCH_H
#define PROTO_BENCH_H

#include "proto_rig.h"

#include "engine.h"
#include "pipeline.h"

/* ---- stand-ins for the pipeline ---- */

static struct {
	struct toe_work *post[TOE_BURST], *ctrl[TOE_BURST], *freed[TOE_BURST];
	unsigned posts, ctrls, frees;
	struct toe_clock now;
} pipe;

void toe_emit(struct toe_stage *s, enum toe_stage_id next, struct toe_work *w)
{
	assert_true(s->ops->next_mask & 1u << next);
	if (next == TOE_STAGE_POST)
		pipe.post[pipe.posts++] = w;
	else
		pipe.ctrl[pipe.ctrls++] = w;
}

void toe_work_free(struct toe_stage *s, struct toe_work *w)
{
	(void)s;
	pipe.freed[pipe.frees++] = w;
}

static struct toe_work own_item; /* what proto makes itself: one at a time is enough here */
static bool no_items;

struct toe_work *toe_work_alloc(struct toe_stage *s, enum toe_work_type type)
{
	(void)s;
	if (no_items)
		return NULL;
	memset(&own_item, 0, sizeof(own_item));
	own_item.type = (uint8_t)type;
	return &own_item;
}

const struct toe_clock *toe_now(const struct toe_stage *s)
{
	(void)s;
	return &pipe.now;
}

#define CONNS 4u

struct bench {
	struct toe_engine engine;
	struct toe_flow_proto proto[CONNS];
	struct toe_flow_post post[CONNS];
	struct toe_flow_addr6 addr6[CONNS];
	struct toe_flow_prog prog[CONNS];
	struct toe_flow_stat stat[CONNS * TOE_FLOW_STAT_REPLICAS];
	uint64_t counters[TOE_C_N], drops[TOE_D_N];
	struct toe_stage stage;
	struct toe_work_ctrl items[TOE_BURST]; /* of any type */
	struct toe_work *list[TOE_BURST];
	unsigned n;
};

static inline void bench_init(struct bench *b)
{
	memset(b, 0, sizeof(*b));
	b->engine.flow_group_n = 2;
	b->engine.conn_n = CONNS;
	b->engine.flow_proto = b->proto;
	b->engine.flow_post = b->post;
	b->engine.flow_addr6 = b->addr6;
	b->engine.prog = b->prog;
	b->engine.stat = b->stat;
	b->stage = (struct toe_stage){.ops = &toe_stage_proto, .engine = &b->engine, .replicas = 1};
	b->stage.counters = b->counters;
	b->stage.drops = b->drops;
	pipe.now = (struct toe_clock){.us = 1000000, .ms = 1000};
	assert_int_equal(toe_stage_proto.init(&b->stage), 0);
}

static inline struct toe_work *bench_add(struct bench *b, uint8_t type, uint32_t conn, uint32_t gen)
{
	struct toe_work *w = &b->items[b->n].w;

	memset(&b->items[b->n], 0, sizeof(b->items[0]));
	memset(&w->snap, 0xa5, sizeof(w->snap)); /* pools do not clean it */
	w->type = type;
	w->conn = conn;
	w->gen = gen;
	w->fg = (uint16_t)(conn % 2);
	b->list[b->n++] = w;
	return w;
}

static inline void bench_run(struct bench *b)
{
	memset(&pipe, 0, offsetof(typeof(pipe), now));
	toe_stage_proto.process(&b->stage, b->list, b->n);
	assert_int_equal(pipe.posts + pipe.ctrls + pipe.frees, b->n);
	b->n = 0;
}

static inline void bench_install(struct bench *b, uint32_t conn, uint32_t gen)
{
	struct rig r;
	struct toe_work *w = bench_add(b, TOE_WORK_CTRL, conn, gen);

	w->cmd = TOE_CMD_INSTALL;
	toe_work_ctrl(w)->cmd.install = *rig_prepare(&r);
	bench_run(b);
}

static inline void bench_fini(struct bench *b)
{
	toe_stage_proto.fini(&b->stage);
}

static inline void bench_data(struct bench *b, uint32_t conn, uint32_t pos, uint8_t ecn)
{
	const struct toe_flow_proto *fp = &b->proto[conn];
	struct toe_work *w = bench_add(b, TOE_WORK_RX, conn, fp->gen);

	w->seg = (struct toe_seg){
		.seq = fp->irs + 1 + pos, .ack = fp->snd_una, .wnd = 60000, .payload_len = 100};
	w->seg.flags = F_ACK;
	w->seg.ecn = ecn;
}

/* Sent by the peer at time ts. */
static inline void bench_data_ts(struct bench *b, uint32_t conn, uint32_t pos, uint32_t ts)
{
	struct toe_work *w;

	bench_data(b, conn, pos, 0);
	w = b->list[b->n - 1];
	w->seg.opts = TOE_SEG_TS;
	w->seg.ts_val = ts;
}

#endif
