/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Life of connections: install, close, orphan, remove; and the stage around the machine (numbers,
 * stale items, ACK thinning, counters) with stand-ins for the pipeline.
 */
/* LINK: tests/unit/proto_rig.h datapath/stages/proto.c common/log.c */
#include "proto_rig.h"

#include <arpa/inet.h>

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

static void bench_init(struct bench *b)
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

static struct toe_work *bench_add(struct bench *b, uint8_t type, uint32_t conn, uint32_t gen)
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

static void bench_run(struct bench *b)
{
	memset(&pipe, 0, offsetof(typeof(pipe), now));
	toe_stage_proto.process(&b->stage, b->list, b->n);
	assert_int_equal(pipe.posts + pipe.ctrls + pipe.frees, b->n);
	b->n = 0;
}

static void bench_install(struct bench *b, uint32_t conn, uint32_t gen)
{
	struct rig r;
	struct toe_work *w = bench_add(b, TOE_WORK_CTRL, conn, gen);

	w->cmd = TOE_CMD_INSTALL;
	toe_work_ctrl(w)->cmd.install = *rig_prepare(&r);
	bench_run(b);
}

static void bench_fini(struct bench *b)
{
	toe_stage_proto.fini(&b->stage);
}

static void bench_data(struct bench *b, uint32_t conn, uint32_t pos, uint8_t ecn)
{
	const struct toe_flow_proto *fp = &b->proto[conn];
	struct toe_work *w = bench_add(b, TOE_WORK_RX, conn, fp->gen);

	w->seg = (struct toe_seg){
		.seq = fp->irs + 1 + pos, .ack = fp->snd_una, .wnd = 60000, .payload_len = 100};
	w->seg.flags = F_ACK;
	w->seg.ecn = ecn;
}

static void test_install(void **state)
{
	struct bench b;
	const struct toe_work *w;

	(void)state;
	bench_init(&b);
	bench_install(&b, 1, 77);
	assert_int_equal(pipe.posts, 1);
	w = pipe.post[0];
	assert_int_equal(w->todo, TOE_TODO_CTXQ | TOE_TODO_SCHED | TOE_TODO_CTRL);
	assert_int_equal(w->snap.event, TOE_EV_INSTALLED);
	assert_int_equal(w->snap.state, TOE_SLOT_ESTABLISHED);
	assert_int_equal(w->snap.rx_tail, 0);
	assert_int_equal(w->snap.tx_head, 0);
	assert_int_equal(w->snap.sendable, 0);
	assert_int_equal(b.post[1].local_port, htons(80));
	assert_int_equal(b.post[1].slot, RIG_SLOT);
	assert_int_equal(b.post[1].app_id, RIG_APP);
	assert_int_equal(b.prog[1].gen, 77);
	assert_int_equal(b.prog[1].snd_nxt, 0xfffff001u);
	assert_int_equal(b.prog[1].rcv_wnd, RIG_BUF);
	assert_int_equal(b.counters[TOE_C_INSTALLED], 1);
	bench_fini(&b);
}

/* The largest ids there may be are kept whole, and an IPv4 connection leaves the IPv6 addresses
 * alone. */
static void test_install_post(void **state)
{
	static const uint8_t four[2][16] = {{10, 0, 0, 1, [15] = 1}, {10, 0, 0, 2, [15] = 2}};
	static const uint8_t six[2][16] = {{0x20, 1, [15] = 1}, {0x20, 1, [15] = 2}};
	static const uint8_t none[32];
	struct rig r;
	struct toe_cmd_install *in = rig_prepare(&r);

	(void)state;
	in->slot = TOE_REGION_ENTRIES_MAX - 1;
	in->app_id = TOE_CTL_APP_N - 1;
	in->flow_label = 0x12345;
	memcpy(in->local_addr, four[0], 16);
	memcpy(in->remote_addr, four[1], 16);
	rig_cmd(&r, TOE_CMD_INSTALL);
	assert_int_equal(r.post.slot, TOE_REGION_ENTRIES_MAX - 1);
	assert_int_equal(r.post.app_id, TOE_CTL_APP_N - 1);
	assert_memory_equal(r.post.local_addr, four[0], 4);
	assert_memory_equal(r.post.remote_addr, four[1], 4);
	assert_int_equal(r.post.flags & TOE_POST_IPV6, 0);
	assert_int_equal(toe_post_flow_label(&r.post), 0);
	assert_memory_equal(&r.addr6, none, sizeof(none));
	in->family = AF_INET6;
	memcpy(in->local_addr, six[0], 16);
	memcpy(in->remote_addr, six[1], 16);
	rig_cmd(&r, TOE_CMD_INSTALL);
	assert_memory_equal(r.addr6.local, six[0], 16);
	assert_memory_equal(r.addr6.remote, six[1], 16);
	assert_int_equal(r.post.flags & TOE_POST_IPV6, TOE_POST_IPV6);
	assert_int_equal(toe_post_flow_label(&r.post), 0x12345);
}

static void test_numbers_and_stale(void **state)
{
	struct bench b;
	struct toe_work *w;

	(void)state;
	bench_init(&b);
	bench_install(&b, 1, 77); /* group 1: number 0 */
	bench_install(&b, 2, 78); /* group 0: number 0 */
	bench_data(&b, 1, 0, 0);
	bench_data(&b, 2, 0, 0);
	bench_add(&b, TOE_WORK_RX, 1, 76);       /* to the control plane */
	bench_add(&b, TOE_WORK_RX, TOE_NONE, 0); /* same */
	bench_add(&b, TOE_WORK_HC, 1, 76);       /* gone */
	bench_add(&b, TOE_WORK_TX, 1, 76);       /* must come back */
	bench_add(&b, TOE_WORK_TX, 3, 0);
	w = bench_add(&b, TOE_WORK_CTRL, 1, 76);
	w->cmd = TOE_CMD_RTO; /* gone */
	w = bench_add(&b, TOE_WORK_CTRL, 1, 76);
	w->cmd = TOE_CMD_REMOVE; /* answered, and harmless */
	w = bench_add(&b, TOE_WORK_CTRL, TOE_NONE, 0);
	w->cmd = TOE_CMD_LISTENER;
	w->todo = TOE_TODO_CTXQ; /* passes as it is */
	w->fg = 1;
	bench_run(&b);
	assert_int_equal(pipe.ctrls, 2);
	assert_int_equal(pipe.ctrl[0]->verdict, TOE_TO_CTRL);
	assert_int_equal(pipe.frees, 2);
	assert_int_equal(pipe.posts, 6);
	for (unsigned i = 0; i < 6; i++) { /* per group without a gap, in order */
		static const uint32_t fg[] = {1, 0, 1, 1, 1, 1}, seq[] = {1, 1, 2, 3, 4, 5};

		assert_int_equal(pipe.post[i]->fg, fg[i]);
		assert_int_equal(pipe.post[i]->out_seq, seq[i]);
	}
	assert_int_equal(pipe.post[2]->verdict, TOE_NOTHING);
	assert_int_equal(pipe.post[2]->todo, TOE_TODO_SCHED);
	assert_int_equal(pipe.post[2]->snap.sendable, 0);
	assert_int_equal(pipe.post[4]->todo, TOE_TODO_CTRL);
	assert_int_equal(pipe.post[4]->snap.event, TOE_EV_REMOVED);
	assert_true(b.proto[1].flags & TOE_FP_VALID);
	assert_int_equal(pipe.post[5]->todo, TOE_TODO_CTXQ);
	assert_int_equal(b.drops[TOE_D_STALE], 4);
	bench_fini(&b);
}

static void test_remove(void **state)
{
	struct bench b;
	struct toe_work *w;

	(void)state;
	bench_init(&b);
	bench_install(&b, 1, 77);
	bench_data(&b, 1, 0, 0);
	w = bench_add(&b, TOE_WORK_CTRL, 1, 77);
	w->cmd = TOE_CMD_REMOVE;
	bench_add(&b, TOE_WORK_TX, 1, 77);
	bench_run(&b);
	assert_int_equal(w->todo, TOE_TODO_CTXQ | TOE_TODO_SCHED | TOE_TODO_CTRL);
	assert_int_equal(w->snap.event, TOE_EV_REMOVED);
	assert_true(w->snap.state & TOE_SLOT_DEAD);
	assert_int_equal(w->snap.rx_tail, 100);
	assert_int_equal(pipe.post[2]->drop, TOE_D_STALE);
	assert_int_equal(b.prog[1].rcv_nxt, 0xffffe001u + 100);
	bench_install(&b, 1, 79); /* the id lives again, from zero */
	assert_int_equal(b.prog[1].gen, 79);
	assert_int_equal(b.prog[1].rcv_nxt, 0xffffe001u);
	assert_int_equal(pipe.post[0]->snap.state, TOE_SLOT_ESTABLISHED);
	bench_fini(&b);
}

/* Which of the items sends an ACK, as bits. */
static uint32_t acks(unsigned n)
{
	uint32_t bits = 0;

	for (unsigned i = 0; i < n; i++)
		bits |= pipe.post[i]->todo & TOE_TODO_TX ? 1u << i : 0u;
	return bits;
}

static void test_ack_thinning(void **state)
{
	struct bench b;

	(void)state;
	bench_init(&b);
	bench_install(&b, 1, 1);
	bench_install(&b, 2, 1);
	for (uint32_t i = 0; i < 10; i++)
		bench_data(&b, 1, i * 100, 0);
	bench_run(&b);
	assert_int_equal(acks(10), 1u << 3 | 1u << 7 | 1u << 9);
	assert_int_equal(b.counters[TOE_C_SEGS_ACK_TX], 3);
	bench_data(&b, 1, 1000, 0); /* two connections interleaved */
	bench_data(&b, 2, 0, 0);
	bench_data(&b, 1, 1100, 0);
	bench_data(&b, 2, 100, 0);
	bench_run(&b);
	assert_int_equal(acks(4), 0xc);
	bench_data(&b, 1, 1200, 0);
	bench_data(&b, 1, 1400, 0); /* hole */
	bench_data(&b, 1, 1300, 0); /* filled */
	bench_data(&b, 1, 1500, 0);
	bench_data(&b, 1, 1600, 0);
	bench_run(&b);
	assert_int_equal(acks(5), 0x17);
	b.proto[1].flags |= TOE_FP_ECN;
	bench_data(&b, 1, 1700, 2);
	bench_data(&b, 1, 1800, 2); /* last before the mark: answered with the old state */
	bench_data(&b, 1, 1900, 3);
	bench_data(&b, 1, 2000, 3);
	bench_run(&b);
	assert_int_equal(acks(4), 0xa);
	assert_false(pipe.post[1]->snap.flags & F_ECE);
	assert_true(pipe.post[3]->snap.flags & F_ECE);
	bench_fini(&b);
}

static void close_cmd(struct rig *r, uint32_t mode)
{
	r->wc.cmd.close = (struct toe_cmd_close){.mode = mode};
	rig_cmd(r, TOE_CMD_CLOSE);
}

static void test_orphan(void **state)
{
	struct rig r;

	(void)state;
	rig_default(&r);
	rig_write(&r, 1500);
	close_cmd(&r, TOE_CLOSE_FIN);
	assert_int_equal(r.snap.sendable, 1500);
	rig_write(&r, 200); /* a doorbell that was on its way */
	assert_int_equal(r.out.verdict, TOE_FORWARD);
	assert_int_equal(rig_drain(&r), 1700);
	assert_true(r.snap.flags & F_FIN);
	r.hc.tx_tail++;
	rig_hc(&r);
	assert_int_equal(r.out.drop, TOE_D_HC_INVALID);
	rig_ack(&r, 1701);
	assert_int_equal(r.snap.event, 0);
	struct toe_flow_proto saved = r.fp;

	rig_fin(&r, 0, 0); /* the peer just ends */
	rig_sent_ack(&r);
	assert_int_equal(r.snap.event, TOE_EV_CLOSED);
	r.fp = saved;
	rig_data(&r, 0, 10); /* the peer sends to nobody */
	assert_int_equal(r.out.drop, TOE_D_ORPHAN_DATA);
	assert_int_equal(r.snap.flags, F_RST | F_ACK);
	assert_int_equal(r.snap.seq, rig_our(&r, 1701));
	assert_int_equal(r.snap.len, 0);
	assert_int_equal(r.snap.event, TOE_EV_RESET);
	assert_int_equal(r.snap.sendable, 0);
	assert_true(r.out.todo & TOE_TODO_TX);
}

static void test_close_rst(void **state)
{
	struct rig r;

	(void)state;
	rig_default(&r);
	rig_write(&r, 1500);
	rig_tx(&r);
	close_cmd(&r, TOE_CLOSE_RST);
	assert_int_equal(r.snap.flags, F_RST | F_ACK);
	assert_int_equal(r.snap.seq, rig_our(&r, 1000));
	assert_int_equal(r.out.todo, TOE_TODO_TX | TOE_TODO_SCHED);
	assert_int_equal(r.snap.sendable, 0);
	close_cmd(&r, TOE_CLOSE_RST); /* once */
	rig_silent(&r);
	assert_false(rig_tx(&r));
}

static void close_behind(struct rig *r, uint32_t tail)
{
	r->wc.cmd.close = (struct toe_cmd_close){TOE_CLOSE_RST | TOE_CLOSE_TAIL, tail};
	rig_cmd(r, TOE_CMD_CLOSE);
}

static void is_rst(const struct rig *r, uint32_t pos)
{
	assert_true(r->out.todo & TOE_TODO_TX);
	assert_int_equal(r->snap.flags, F_RST | F_ACK);
	assert_int_equal(r->snap.seq, rig_our(r, pos));
	assert_int_equal(r->snap.len, 0);
	assert_int_equal(r->snap.event, TOE_EV_RESET);
	assert_int_equal(r->snap.sendable, 0);
}

/* Written, and closed with unread data before proto knew of it. */
static void test_close_rst_behind(void **state)
{
	struct rig r;

	(void)state;
	rig_default(&r);
	rig_write(&r, 1000);
	close_behind(&r, 1700);
	rig_silent(&r);
	assert_int_not_equal(r.snap.event, TOE_EV_RESET);
	assert_int_equal(r.snap.sendable, 1700);
	r.hc.ctl = TOE_CTL_SHUT_WR;
	rig_write(&r, 800); /* a doorbell that was on its way */
	assert_int_equal(r.out.drop, TOE_D_AFTER_RESET);
	close_behind(&r, 1700); /* a control plane that was restarted repeats itself */
	close_cmd(&r, TOE_CLOSE_FIN);
	rig_silent(&r);
	assert_true(rig_tx(&r));
	rig_data(&r, 0, 10); /* the peer goes on: told soon enough */
	assert_int_equal(r.out.drop, TOE_D_ORPHAN_DATA);
	rig_silent(&r);
	assert_int_equal(rig_drain(&r), 700);
	is_rst(&r, 1700);

	rig_default(&r); /* nothing to wait for */
	rig_write(&r, 500);
	rig_tx(&r);
	close_behind(&r, 500);
	is_rst(&r, 500);
	rig_default(&r);
	rig_write(&r, 500);
	close_behind(&r, RIG_BUF + 1); /* a lie: behind what is known */
	assert_int_equal(r.out.drop, TOE_D_HC_INVALID);
	assert_int_equal(rig_drain(&r), 500);
	is_rst(&r, 500);
}

/* What the windows allow at the time of CLOSE, and not more when they grow; never held up. */
static void test_close_rst_windows(void **state)
{
	struct rig r;

	(void)state;
	rig_default(&r);
	rig_ack_wnd(&r, 0, 2500);
	rig_write(&r, 5000);
	close_behind(&r, 5000);
	assert_true(rig_tx(&r));
	rig_ack_wnd(&r, 1000, 60000);
	assert_int_equal(rig_drain(&r), 1500);
	is_rst(&r, 2500);

	rig_default(&r);
	rig_ack_wnd(&r, 0, 0);
	rig_write(&r, 5000);
	close_behind(&r, 5000);
	is_rst(&r, 0);

	rig_default(&r); /* the window shuts in between */
	rig_write(&r, 5000);
	close_behind(&r, 5000);
	assert_true(rig_tx(&r));
	rig_ack_wnd(&r, 1000, 0);
	assert_int_equal(rig_drain(&r), 0);
	is_rst(&r, 1000);

	rig_default(&r); /* go-back-N: those have left once */
	rig_write(&r, 3000);
	assert_true(rig_tx(&r));
	close_behind(&r, 3000);
	rig_cmd(&r, TOE_CMD_RTO);
	assert_int_equal(rig_drain(&r), 0);
	is_rst(&r, 1000);
}

/* CLOSE with a FIN, and data arrives before what was written has left. */
static void test_orphan_data_first(void **state)
{
	struct rig r;

	(void)state;
	rig_default(&r);
	rig_write(&r, 1500);
	close_cmd(&r, TOE_CLOSE_FIN);
	rig_data(&r, 0, 10);
	assert_int_equal(r.out.drop, TOE_D_ORPHAN_DATA);
	rig_silent(&r);
	assert_int_equal(r.snap.sendable, 1500);
	assert_int_equal(rig_drain(&r), 1500);
	is_rst(&r, 1500);
	assert_false(r.fp.flags & TOE_FP_FIN_SENT);
}

static void test_simultaneous_close(void **state)
{
	struct rig r;

	(void)state;
	rig_default(&r);
	r.hc.ctl = TOE_CTL_SHUT_WR;
	rig_hc(&r);
	rig_drain(&r);
	rig_fin(&r, 0, 0);
	assert_int_equal(r.snap.event, 0);
	assert_true(r.fp.flags & TOE_FP_FIN_FIRST);
	rig_ack(&r, 1);
	assert_int_equal(r.snap.event, TOE_EV_CLOSED);

	rig_default(&r); /* passive: LAST-ACK */
	rig_fin(&r, 0, 0);
	close_cmd(&r, TOE_CLOSE_FIN);
	rig_drain(&r);
	rig_ack(&r, 1);
	assert_int_equal(r.snap.event, TOE_EV_CLOSED);
	assert_false(r.fp.flags & TOE_FP_FIN_FIRST);
}

/* A request and its answer, as an echo server gives it. */
static void bench_turn(struct bench *b, uint32_t turn)
{
	struct toe_flow_proto *fp = &b->proto[1];

	bench_data(b, 1, turn * 100, 0);
	bench_run(b);
	fp->tx_tail += 10;
	fp->ctl |= TOE_CTL_NODELAY;
	bench_add(b, TOE_WORK_TX, 1, fp->gen);
	bench_run(b);
	assert_int_equal(pipe.post[0]->snap.len, 10);
	assert_int_equal(pipe.post[0]->snap.ack, fp->rcv_nxt);
}

static void test_delayed_ack(void **state)
{
	struct bench b;
	uint32_t sent;

	(void)state;
	bench_init(&b);
	bench_install(&b, 1, 7);
	for (uint32_t i = 0; i < 3; i++)
		bench_turn(&b, i); /* not trusted to answer yet: three ACKs of their own */
	assert_int_equal(b.counters[TOE_C_SEGS_ACK_TX], 3);
	for (uint32_t i = 3; i < 10; i++)
		bench_turn(&b, i); /* the answer carries the ACK */
	assert_int_equal(b.counters[TOE_C_SEGS_ACK_TX], 3);
	assert_true(toe_stage_proto.deadline(&b.stage) == UINT64_MAX);

	bench_data(&b, 1, 1000, 0);
	bench_data(&b, 1, 1100, 0); /* the second one is acknowledged at once, with the first */
	bench_run(&b);
	assert_int_equal(acks(2), 2);
	bench_data(&b, 1, 1200, 0); /* nobody answers */
	bench_run(&b);
	assert_int_equal(acks(1), 0);
	assert_true(toe_stage_proto.deadline(&b.stage) != UINT64_MAX);
	memset(&pipe, 0, offsetof(typeof(pipe), now));
	pipe.now.ms += PROTO_DELACK_MS - 1;
	assert_int_equal(toe_stage_proto.poll(&b.stage, 32), 0);
	pipe.now.ms++;
	no_items = true;
	assert_int_equal(toe_stage_proto.poll(&b.stage, 32), 0);
	no_items = false;
	sent = b.proto[1].last_ack_sent;
	assert_int_equal(toe_stage_proto.poll(&b.stage, 32), 1);
	assert_int_equal(pipe.posts, 1);
	assert_int_equal(pipe.post[0]->todo, TOE_TODO_TX);
	assert_int_equal(pipe.post[0]->snap.ack, sent);
	assert_int_equal(toe_stage_proto.poll(&b.stage, 32), 0);
	bench_data(&b, 1, 1300, 0); /* trust is gone: acknowledged at once */
	bench_run(&b);
	assert_int_equal(acks(1), 1);
	bench_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_delayed_ack),
		cmocka_unit_test(test_install),
		cmocka_unit_test(test_install_post),
		cmocka_unit_test(test_numbers_and_stale),
		cmocka_unit_test(test_remove),
		cmocka_unit_test(test_ack_thinning),
		cmocka_unit_test(test_orphan),
		cmocka_unit_test(test_close_rst),
		cmocka_unit_test(test_simultaneous_close),
		cmocka_unit_test(test_close_rst_behind),
		cmocka_unit_test(test_close_rst_windows),
		cmocka_unit_test(test_orphan_data_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
