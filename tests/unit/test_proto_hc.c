/* SPDX-License-Identifier: BSD-3-Clause */
/* Host control: cursors of honest and of hostile applications, window updates, wishes. */
/* LINK: tests/unit/proto_rig.h */
#include "proto_rig.h"

static void test_write_makes_sendable_and_active(void **state)
{
	struct rig r;

	(void)state;
	rig_default(&r);
	rig_write(&r, 2500);
	assert_int_equal(r.out.verdict, TOE_FORWARD);
	assert_int_equal(r.out.todo, TOE_TODO_SCHED | TOE_TODO_CTRL);
	assert_int_equal(r.snap.event, TOE_EV_ACTIVE);
	assert_int_equal(r.snap.sendable, 2500);
	rig_hc(&r); /* nothing new: nothing to tell */
	assert_int_equal(r.out.todo, 0);
	rig_drain(&r);
	rig_ack(&r, 2500);
	assert_int_equal(r.snap.event, 0);
	assert_int_equal(r.snap.tx_head, 2500);
	rig_cmd(&r, TOE_CMD_QUIET);
	assert_int_equal(r.out.todo, 0);
	rig_write(&r, 1);
	assert_int_equal(r.snap.event, TOE_EV_ACTIVE);
	rig_cmd(&r, TOE_CMD_QUIET); /* crossed with new data: raised again at once */
	assert_int_equal(r.snap.event, TOE_EV_ACTIVE);
}

static void test_idle_connection_sends_at_once(void **state)
{
	struct rig r;

	(void)state;
	rig_default(&r);
	r.fp.flags &= ~TOE_FP_PACED;
	rig_write(&r, RIG_MSS + 100);
	assert_int_equal(r.out.todo, TOE_TODO_TX | TOE_TODO_SCHED | TOE_TODO_CTRL);
	assert_int_equal(r.snap.len, RIG_MSS);
	assert_int_equal(r.snap.pos, 0);
	assert_int_equal(r.snap.event, TOE_EV_ACTIVE);
	assert_int_equal(r.fp.snd_nxt, rig_our(&r, RIG_MSS));
	assert_int_equal(r.snap.sendable, 100); /* the rest takes its turn */
	rig_write(&r, 10);                      /* in flight: so does this */
	assert_int_equal(r.out.todo, TOE_TODO_SCHED);
	assert_int_equal(r.snap.sendable, 110);
	rig_ack(&r, RIG_MSS); /* idle, but sched has been promised something */
	rig_write(&r, 10);
	assert_int_equal(r.out.todo, TOE_TODO_SCHED);
	rig_drain(&r);
	rig_ack(&r, RIG_MSS + 120);
	rig_write(&r, 10);
	assert_int_equal(r.out.todo, TOE_TODO_TX);
	assert_int_equal(r.snap.len, 10);
	assert_int_equal(r.snap.sendable, 0);
}

static void test_idle_connection_may_not_send(void **state)
{
	struct rig r;

	(void)state;
	rig_default(&r);
	r.fp.flags &= ~TOE_FP_PACED;
	r.hc.ctl = TOE_CTL_CORK;
	rig_write(&r, 10);
	assert_int_equal(r.out.todo & TOE_TODO_TX, 0);
	r.hc.ctl = 0;
	r.fp.snd_wnd = 0;
	rig_hc(&r);
	assert_int_equal(r.out.todo & TOE_TODO_TX, 0);
	r.fp.snd_wnd = 60000;
	r.wc.cmd.cc = (struct toe_cmd_cc){
		.rate_bps = 1000000, .cwnd = 10 * RIG_MSS, .ssthresh = 10 * RIG_MSS};
	rig_cmd(&r, TOE_CMD_CC);
	rig_drain(&r);
	rig_ack(&r, 10);
	rig_write(&r, 10); /* paced */
	assert_int_equal(r.out.todo & TOE_TODO_TX, 0);
	rig_drain(&r);
	rig_ack(&r, 20);
	r.hc.share = 1;
	r.wc.cmd.cc.rate_bps = TOE_RATE_UNPACED;
	rig_cmd(&r, TOE_CMD_CC);
	rig_write(&r, 10); /* more may come */
	assert_int_equal(r.out.todo & TOE_TODO_TX, 0);
	rig_drain(&r);
	rig_ack(&r, 30);
	r.hc.share = 0;
	rig_write(&r, 10);
	assert_int_equal(r.snap.len, 10);
}

/* The answer carries the news that its question has been read. */
static void test_answer_is_the_window_update(void **state)
{
	struct rig r;
	uint32_t edge;

	(void)state;
	rig_default(&r);
	r.fp.flags &= ~TOE_FP_PACED;
	for (uint32_t pos = 0; pos < RIG_BUF / 2; pos += RIG_MSS)
		rig_data(&r, pos, RIG_MSS);
	edge = r.fp.rcv_adv;
	r.hc.rx_head = r.snap.rx_tail;
	rig_write(&r, 10);
	assert_int_equal(r.snap.len, 10);
	assert_true(seq_gt(r.fp.rcv_adv, edge));
	assert_true(r.out.counted & 1ull << TOE_C_SEGS_DATA_TX);
	assert_false(r.out.counted & 1ull << TOE_C_SEGS_ACK_TX);
}

static void expect_refused(struct rig *r)
{
	struct toe_flow_proto before = r->fp;

	rig_hc(r);
	assert_int_equal(r->out.verdict, TOE_NOTHING);
	assert_int_equal(r->out.drop, TOE_D_HC_INVALID);
	assert_int_equal(r->out.todo, 0);
	assert_memory_equal(&before, &r->fp, sizeof(before));
}

static void test_impossible_cursors(void **state)
{
	struct rig r;

	(void)state;
	rig_default(&r);
	rig_write(&r, 100);
	rig_data(&r, 0, 500);
	struct toe_hc good = r.hc;

	r.hc.tx_tail = 99; /* back */
	expect_refused(&r);
	r.hc.tx_tail = RIG_BUF + 1; /* more than fits */
	expect_refused(&r);
	r.hc = good;
	r.hc.rx_head = 501; /* read what has not arrived */
	expect_refused(&r);
	r.hc = good;
	r.hc.slot++;
	expect_refused(&r);
	r.hc = good;
	r.hc.tx_tail = RIG_BUF; /* exactly full */
	r.hc.rx_head = 500;
	rig_hc(&r);
	assert_int_equal(r.out.verdict, TOE_FORWARD);
	r.hc.rx_head = 499;
	expect_refused(&r);
	r.hc.rx_head = 500;
	r.hc.ctl = TOE_CTL_SHUT_WR;
	rig_hc(&r);
	rig_drain(&r);
	rig_ack(&r, 5000);
	r.hc.tx_tail++; /* there is room, but the stream was ended */
	expect_refused(&r);
}

static void test_random_cursors_keep_invariants(void **state)
{
	struct rig r;
	uint32_t rnd = 99, rx_pos = 0;

	(void)state;
	rig_default(&r);
	for (unsigned i = 0; i < 100000; i++) {
		struct toe_flow_proto *fp = &r.fp;
		uint32_t pick = rig_rand(&rnd);

		r.hc.tx_tail = pick & 1 ? rig_rand(&rnd)
					: proto_tx_pos(fp, fp->tx_tail) + rig_rand(&rnd) % 3000;
		r.hc.rx_head = pick & 2 ? rig_rand(&rnd)
					: proto_rx_pos(fp, fp->rx_head) + rig_rand(&rnd) % 3000;
		r.hc.ctl = rig_rand(&rnd) & (TOE_CTL_NODELAY | TOE_CTL_CORK);
		rig_hc(&r);
		assert_true(fp->tx_tail - proto_tx_head(fp) <= proto_tx_buf(fp));
		assert_true(fp->rcv_nxt - fp->rx_head <= proto_rx_buf(fp));
		assert_true(fp->rcv_adv - fp->rx_head <= proto_rx_buf(fp));
		if (pick % 3 == 0) {
			uint32_t before = fp->rcv_nxt;

			rig_data(&r, rx_pos, 700);
			rx_pos += fp->rcv_nxt - before;
		}
		if (pick % 5 == 0 && proto_sendable(fp) != 0)
			rig_tx(&r);
		if (pick % 7 == 0)
			rig_ack(&r, proto_tx_pos(fp, fp->snd_max));
	}
}

static void test_window_update(void **state)
{
	struct rig r;

	(void)state;
	rig_default(&r);
	for (uint32_t pos = 0; pos < 16000; pos += 1000)
		rig_data(&r, pos, 1000);
	rig_data(&r, 16000, 384);
	assert_int_equal(r.snap.wnd, 0);
	r.hc.rx_head = 999;
	rig_hc(&r);
	rig_silent(&r); /* silly window */
	r.hc.rx_head = 1000;
	rig_hc(&r);
	rig_sent_ack(&r); /* from closed: one MSS is worth telling */
	assert_int_equal(r.snap.wnd, 1000);
	r.hc.rx_head = 2999;
	rig_hc(&r);
	rig_silent(&r);
	r.hc.rx_head = 3000;
	rig_hc(&r);
	rig_sent_ack(&r);
	assert_int_equal(r.snap.wnd, 3000);
	rig_hc(&r);
	rig_silent(&r);
}

static void test_shut_rd_discards(void **state)
{
	struct rig r;

	(void)state;
	rig_default(&r);
	rig_data(&r, 0, 1000);
	r.hc.ctl = TOE_CTL_SHUT_RD;
	rig_hc(&r);
	for (uint32_t pos = 1000; pos < 41000; pos += 1000) {
		rig_data(&r, pos, 1000);
		rig_sent_ack(&r);
		assert_int_equal(r.snap.ack, rig_in(&r, pos + 1000));
		assert_int_equal(r.snap.len, 0);
		assert_int_equal(r.snap.rx_tail, 1000); /* the stream ended for the reader */
		assert_true(r.snap.wnd >= RIG_BUF - 2000);
	}
	r.hc.ctl = 0; /* cannot be taken back */
	r.hc.rx_head = 12345;
	rig_hc(&r);
	assert_true(r.fp.flags & TOE_FP_RX_DISCARD);
	rig_fin(&r, 41000, 0);
	assert_true(r.snap.state & TOE_SLOT_RX_FIN);
	assert_int_equal(r.snap.rx_tail, 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_write_makes_sendable_and_active),
		cmocka_unit_test(test_idle_connection_sends_at_once),
		cmocka_unit_test(test_idle_connection_may_not_send),
		cmocka_unit_test(test_answer_is_the_window_update),
		cmocka_unit_test(test_impossible_cursors),
		cmocka_unit_test(test_random_cursors_keep_invariants),
		cmocka_unit_test(test_window_update),
		cmocka_unit_test(test_shut_rd_discards),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
