/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Life of connections: install, close, orphan, remove; and the stage around the machine: numbers,
 * stale items, counters.
 */
/* LINK: tests/unit/proto_bench.h */
#include "proto_bench.h"

#include <arpa/inet.h>

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
	bench_run(&b);
	assert_int_equal(pipe.ctrls, 2);
	assert_int_equal(pipe.ctrl[0]->verdict, TOE_TO_CTRL);
	assert_int_equal(pipe.frees, 2);
	assert_int_equal(pipe.posts, 5);
	for (unsigned i = 0; i < 5; i++) { /* per group without a gap, in order */
		static const uint32_t fg[] = {1, 0, 1, 1, 1}, seq[] = {1, 1, 2, 3, 4};

		assert_int_equal(pipe.post[i]->fg, fg[i]);
		assert_int_equal(pipe.post[i]->out_seq, seq[i]);
	}
	assert_int_equal(pipe.post[2]->verdict, TOE_NOTHING);
	assert_int_equal(pipe.post[2]->todo, TOE_TODO_SCHED);
	assert_int_equal(pipe.post[2]->snap.sendable, 0);
	assert_int_equal(pipe.post[4]->todo, TOE_TODO_CTRL);
	assert_int_equal(pipe.post[4]->snap.event, TOE_EV_REMOVED);
	assert_true(b.proto[1].flags & TOE_FP_VALID);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_install),
		cmocka_unit_test(test_install_post),
		cmocka_unit_test(test_numbers_and_stale),
		cmocka_unit_test(test_remove),
		cmocka_unit_test(test_orphan),
		cmocka_unit_test(test_close_rst),
		cmocka_unit_test(test_simultaneous_close),
		cmocka_unit_test(test_close_rst_behind),
		cmocka_unit_test(test_close_rst_windows),
		cmocka_unit_test(test_orphan_data_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
