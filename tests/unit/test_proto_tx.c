/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What may be sent when: sendable against what TX items do, windows, Nagle, CORK, FIN, probes; fast
 * retransmit, NewReno recovery, go-back-N after RTO, congestion-control commands.
 */
/* LINK: tests/unit/proto_rig.h */
#include "proto_rig.h"

static void expect_seg(const struct rig *r, uint32_t pos, uint16_t len, uint8_t flags)
{
	assert_int_equal(r->snap.seq, rig_our(r, pos));
	assert_int_equal(r->snap.len, len);
	if (len > 0)
		assert_int_equal(r->snap.pos, pos);
	assert_int_equal(r->snap.flags, flags);
}

static void test_segments(void **state)
{
	struct rig r;

	(void)state;
	rig_default(&r);
	assert_false(rig_tx(&r));
	assert_int_equal(r.out.drop, TOE_D_NOT_SENDABLE);
	rig_write(&r, 2300);
	assert_int_equal(r.snap.sendable, 2300);
	assert_true(rig_tx(&r));
	expect_seg(&r, 0, 1000, F_ACK);
	assert_int_equal(r.snap.ack, r.fp.rcv_nxt);
	assert_int_equal(r.snap.wnd, RIG_BUF);
	assert_true(rig_tx(&r));
	expect_seg(&r, 1000, 1000, F_ACK);
	assert_true(rig_tx(&r));
	expect_seg(&r, 2000, 300, F_ACK | F_PSH);
	assert_false(rig_tx(&r));
}

static void test_cwnd_and_window(void **state)
{
	struct rig r;

	(void)state;
	rig_default(&r);
	rig_write(&r, RIG_BUF);
	assert_int_equal(rig_drain(&r), 10000);
	assert_true(r.fp.flags & TOE_FP_CWND_LIMITED);
	rig_ack(&r, 1000);
	assert_int_equal(r.snap.sendable, 1000);
	rig_drain(&r);
	rig_ack_wnd(&r, 2000, 9500); /* 9000 in flight: a silly 500 */
	assert_int_equal(r.snap.sendable, 0);
	rig_ack_wnd(&r, 3000, 5000); /* shrunk below what is in flight */
	assert_int_equal(r.snap.sendable, 0);
	rig_ack_wnd(&r, 11000, 700); /* silly as well: the persist timer overrides */
	assert_int_equal(r.snap.sendable, 0);
	rig_cmd(&r, TOE_CMD_PROBE);
	assert_int_equal(rig_drain(&r), 700);
	rig_ack_wnd(&r, 11700, 0);
	assert_int_equal(r.snap.sendable, 0);
}

static void test_nagle(void **state)
{
	struct rig r;

	(void)state;
	rig_default(&r);
	rig_write(&r, 100);
	assert_int_equal(rig_drain(&r), 100); /* idle */
	rig_write(&r, 50);
	assert_int_equal(r.snap.sendable, 0); /* a small one is on its way */
	rig_write(&r, 1000);
	assert_int_equal(r.snap.sendable, 1000); /* only the full one */
	rig_drain(&r);
	rig_ack(&r, 100);
	assert_int_equal(r.snap.sendable, 50); /* Minshall: a full one does not hold it */
	rig_drain(&r);
	rig_write(&r, 10);
	assert_int_equal(r.snap.sendable, 0);
	r.hc.ctl = TOE_CTL_NODELAY;
	rig_hc(&r);
	assert_int_equal(r.snap.sendable, 10);
	assert_true(r.out.todo & TOE_TODO_SCHED);
	assert_int_equal(rig_drain(&r), 10);
}

static void test_cork(void **state)
{
	struct rig r;

	(void)state;
	rig_default(&r);
	r.hc.ctl = TOE_CTL_CORK | TOE_CTL_NODELAY;
	rig_write(&r, 1400);
	assert_int_equal(rig_drain(&r), 1000);
	rig_ack(&r, 1000);
	assert_int_equal(r.snap.sendable, 0);
	rig_cmd(&r, TOE_CMD_PROBE); /* the control plane's 200 ms are over */
	assert_int_equal(rig_drain(&r), 400);
	rig_write(&r, 300);
	assert_int_equal(r.snap.sendable, 0);
	r.hc.ctl = 0;
	rig_ack(&r, 1400);
	rig_hc(&r);
	assert_int_equal(rig_drain(&r), 300);
	r.hc.ctl = TOE_CTL_CORK;
	rig_write(&r, 200);
	r.hc.ctl |= TOE_CTL_SHUT_WR; /* FIN flushes */
	rig_hc(&r);
	assert_true(rig_tx(&r));
	expect_seg(&r, 1700, 200, F_ACK | F_PSH | F_FIN);
}

static void test_fin(void **state)
{
	struct rig r;

	(void)state;
	rig_default(&r);
	rig_write(&r, 1500);
	r.hc.ctl = TOE_CTL_SHUT_WR;
	rig_hc(&r);
	rig_tx(&r);
	expect_seg(&r, 0, 1000, F_ACK);
	rig_tx(&r);
	expect_seg(&r, 1000, 500, F_ACK | F_PSH | F_FIN);
	assert_int_equal(r.snap.fin_probe, 1);
	assert_int_equal(r.fp.snd_max, rig_our(&r, 1501));
	rig_ack(&r, 1500);
	assert_false(r.snap.state & TOE_SLOT_TX_DONE);
	rig_cmd(&r, TOE_CMD_RTO);
	assert_int_equal(r.snap.sendable, 1);
	rig_tx(&r);
	expect_seg(&r, 1500, 0, F_ACK | F_FIN);
	assert_int_equal(r.snap.rtx_bytes, 0);
	rig_ack(&r, 1501);
	assert_true(r.snap.state & TOE_SLOT_TX_DONE);
	assert_int_equal(r.snap.tx_head, 1500);
	assert_int_equal(r.snap.acked_bytes, 0);
	assert_int_equal(r.snap.event, 0);
	rig_fin(&r, 0, 0);
	assert_int_equal(r.snap.event, TOE_EV_CLOSED);
	assert_true(r.fp.flags & TOE_FP_FIN_FIRST);
	rig_fin(&r, 0, 0);
	assert_int_equal(r.snap.event, 0);
	rig_sent_ack(&r);
	assert_int_equal(r.snap.seq, rig_our(&r, 1501));

	rig_default(&r); /* against a closed window: FIN alone goes, data does not */
	rig_ack_wnd(&r, 0, 0);
	r.hc.ctl = TOE_CTL_SHUT_WR;
	rig_hc(&r);
	assert_int_equal(r.snap.sendable, 1);
	rig_tx(&r);
	expect_seg(&r, 0, 0, F_ACK | F_FIN);
	rig_default(&r);
	rig_ack_wnd(&r, 0, 0);
	r.hc.ctl = TOE_CTL_SHUT_WR;
	rig_write(&r, 10);
	assert_int_equal(r.snap.sendable, 0);
}

static void test_probe_and_keepalive(void **state)
{
	struct rig r;

	(void)state;
	rig_default(&r);
	rig_ack_wnd(&r, 0, 0);
	rig_write(&r, 3000);
	assert_int_equal(r.snap.sendable, 0);
	assert_int_equal(r.snap.event, TOE_EV_ACTIVE);
	rig_cmd(&r, TOE_CMD_PROBE);
	assert_int_equal(r.snap.sendable, 1);
	rig_tx(&r);
	expect_seg(&r, 0u - 1, 0, F_ACK);
	assert_int_equal(r.fp.snd_max, rig_our(&r, 0));
	assert_false(rig_tx(&r));
	rig_ack_wnd(&r, 0, 2000);
	assert_int_equal(rig_drain(&r), 2000);
	rig_ack(&r, 2000);
	rig_drain(&r);
	rig_ack(&r, 3000);
	rig_cmd(&r, TOE_CMD_KEEPALIVE);
	rig_tx(&r);
	expect_seg(&r, 2999, 0, F_ACK);
	assert_int_equal(proto_sendable(&r.fp), 0);
}

static void in_flight(struct rig *r, uint32_t segs)
{
	rig_default(r);
	rig_write(r, RIG_BUF);
	assert_true(segs <= 10);
	for (uint32_t i = 0; i < segs; i++)
		assert_true(rig_tx(r));
}

static void test_fast_retransmit(void **state)
{
	struct rig r;

	(void)state;
	in_flight(&r, 10);
	rig_ack(&r, 1000);
	rig_drain(&r); /* 1000..11000 in flight */
	rig_ack(&r, 1000);
	assert_int_equal(r.snap.dup_ack, 1);
	assert_int_equal(r.snap.sendable, 1000); /* limited transmit */
	rig_ack_wnd(&r, 1000, 59000);            /* window moved: not a duplicate */
	assert_int_equal(r.fp.dup_acks, 1);
	rig_ack(&r, 1000);
	assert_int_equal(r.snap.sendable, 2000);
	assert_int_equal(rig_drain(&r), 2000); /* up to 13000 */
	rig_ack(&r, 1000);
	assert_true(r.fp.flags & TOE_FP_RECOVERY);
	assert_int_equal(r.fp.ssthresh, 5050); /* cwnd has grown by 100 */
	assert_int_equal(r.fp.cwnd, 8050);
	assert_int_equal(r.fp.loss_epoch, 1);
	assert_int_equal(r.snap.sendable, 1000); /* the retransmission only */
	rig_tx(&r);
	expect_seg(&r, 1000, 1000, F_ACK);
	assert_int_equal(r.snap.rtx_bytes, 1000);
	assert_int_equal(r.snap.ect, 0);
	assert_false(rig_tx(&r));
	for (unsigned i = 0; i < 5; i++)
		rig_ack(&r, 1000); /* inflate */
	assert_int_equal(r.fp.cwnd, 13050);
	assert_int_equal(rig_drain(&r), 1000);

	rig_ack(&r, 4000); /* partial: 3000 left, next hole */
	assert_true(r.fp.flags & TOE_FP_RECOVERY);
	assert_int_equal(r.fp.cwnd, 11050);
	rig_tx(&r);
	expect_seg(&r, 4000, 1000, F_ACK);
	rig_ack(&r, 13000); /* all that was sent when the loss was seen */
	assert_false(r.fp.flags & TOE_FP_RECOVERY);
	assert_int_equal(r.fp.cwnd, 5050);
	assert_int_equal(r.fp.loss_epoch, 1);
}

static void test_dup_ack_flood_is_bounded(void **state)
{
	struct rig r;

	(void)state;
	in_flight(&r, 10);
	for (unsigned i = 0; i < 1000; i++)
		rig_ack(&r, 0);
	assert_true(r.fp.cwnd <= r.fp.ssthresh + 10000);
	rig_default(&r); /* nothing outstanding: nothing to be duplicate of */
	for (unsigned i = 0; i < 5; i++)
		rig_ack(&r, 0);
	assert_int_equal(r.fp.dup_acks, 0);
}

static void test_rto_go_back_n(void **state)
{
	struct rig r;

	(void)state;
	in_flight(&r, 8);
	rig_cmd(&r, TOE_CMD_RTO);
	assert_int_equal(r.fp.ssthresh, 4000);
	assert_int_equal(r.fp.cwnd, 1000);
	assert_int_equal(r.snap.sendable, 1000);
	assert_true(r.out.todo & TOE_TODO_SCHED);
	rig_tx(&r);
	expect_seg(&r, 0, 1000, F_ACK);
	assert_int_equal(r.snap.rtx_bytes, 1000);
	rig_cmd(&r, TOE_CMD_RTO);
	assert_int_equal(r.fp.ssthresh, 4000); /* same flight */
	rig_tx(&r);
	for (unsigned i = 0; i < 5; i++)
		rig_ack(&r, 0); /* echoes: no fast retransmit below recover */
	assert_false(r.fp.flags & TOE_FP_RECOVERY);
	rig_ack(&r, 5000); /* the rest had arrived */
	assert_int_equal(r.fp.snd_nxt, rig_our(&r, 5000));
	rig_tx(&r);
	expect_seg(&r, 5000, 1000, F_ACK);
	struct toe_seg seg = rig_seg(&r, 0, 0); /* pure ACKs use SND.MAX */

	seg = rig_seg(&r, 0, 100);
	rig_rx(&r, &seg);
	assert_int_equal(r.snap.seq, rig_our(&r, 8000));
	rig_ack(&r, 8000);
	assert_int_equal(r.fp.snd_nxt, rig_our(&r, 8000));
	rig_tx(&r);
	assert_int_equal(r.snap.rtx_bytes, 0);

	rig_default(&r); /* nothing outstanding: nothing happens */
	rig_cmd(&r, TOE_CMD_RTO);
	assert_int_equal(r.fp.loss_epoch, 0);
}

static void test_rto_against_closed_window(void **state)
{
	struct rig r;

	(void)state;
	in_flight(&r, 3);
	rig_ack_wnd(&r, 1000, 0);
	assert_int_equal(r.snap.sendable, 0);
	for (unsigned i = 0; i < 3; i++) {
		rig_cmd(&r, TOE_CMD_RTO);
		assert_int_equal(r.snap.sendable, 1000);
		rig_tx(&r);
		expect_seg(&r, 1000, 1000, F_ACK);
		assert_false(rig_tx(&r));
	}
	rig_ack_wnd(&r, 3000, 0);
	assert_int_equal(r.snap.sendable, 0);
}

static void test_cc(void **state)
{
	struct rig r;

	(void)state;
	in_flight(&r, 10);
	r.wc.cmd.cc = (struct toe_cmd_cc){.cwnd = 15000, .ssthresh = 20000};
	rig_cmd(&r, TOE_CMD_CC);
	assert_int_equal(r.snap.sendable, 5000);
	assert_false(r.fp.ssthresh != 20000);
	for (unsigned i = 0; i < 3; i++)
		rig_ack(&r, 0);
	uint32_t cwnd = r.fp.cwnd;

	rig_cmd(&r, TOE_CMD_CC); /* decided before the loss */
	assert_int_equal(r.out.verdict, TOE_NOTHING);
	assert_int_equal(r.out.todo, 0);
	assert_int_equal(r.fp.ssthresh, 7500); /* half of what cwnd let go */
	r.wc.cmd.cc = (struct toe_cmd_cc){.cwnd = 100, .ssthresh = 7000, .loss_epoch = 1};
	rig_cmd(&r, TOE_CMD_CC); /* recovery owns cwnd */
	assert_int_equal(r.fp.cwnd, cwnd);
	assert_int_equal(r.fp.ssthresh, 7000);
	rig_ack(&r, 10000);
	rig_cmd(&r, TOE_CMD_CC);
	assert_int_equal(r.fp.cwnd, RIG_MSS); /* never below one segment */
}

/* Random states: TX items until sendable is 0 send what the windows allow, in ceil(sendable / MSS)
 * items if nothing is to be repeated, never more than cwnd or the peer's window. */
static void property_round(uint32_t seed)
{
	uint32_t rnd = seed * 2654435761u + 3;
	struct rig r;
	struct toe_cmd_install *in = rig_prepare(&r);

	in->cwnd = 1000 + rig_rand(&rnd) % 20000;
	in->iss = 0u - rig_rand(&rnd) % 30000;
	in->snd_nxt = in->iss + 1;
	in->snd_wnd = rig_rand(&rnd) % 20000;
	rig_start(&r);
	for (unsigned step = 0; step < 40; step++) {
		struct toe_flow_proto *fp = &r.fp;
		uint32_t items = 0, promised, flight, avail, bytes = 0;
		bool again;

		r.hc.ctl = (r.hc.ctl & TOE_CTL_SHUT_WR) |
			   (rig_rand(&rnd) & (TOE_CTL_NODELAY | TOE_CTL_CORK));
		if (rig_rand(&rnd) % 50 == 0)
			r.hc.ctl |= TOE_CTL_SHUT_WR;
		avail = proto_tx_buf(fp) - (fp->tx_tail - proto_tx_head(fp));
		rig_write(&r, fp->ctl & TOE_CTL_SHUT_WR ? 0 : rig_rand(&rnd) % (avail / 2 + 1));
		if (rig_rand(&rnd) % 10 == 0)
			rig_cmd(&r, TOE_CMD_RTO);
		again = fp->snd_nxt != fp->snd_max || (fp->flags & TOE_FP_RTX_ONE);
		promised = proto_sendable(fp);
		for (; proto_sendable(fp) != 0; items++) {
			uint32_t edge;

			assert_true(items < 200);
			assert_true(rig_tx(&r));
			bytes += r.snap.len;
			edge = fp->snd_una + proto_min(fp->cwnd + 2 * RIG_MSS, fp->snd_wnd);
			if (r.snap.rtx_bytes == 0 && r.snap.len > 0)
				assert_true(seq_leq(r.snap.seq + r.snap.len, edge));
		}
		assert_false(rig_tx(&r));
		if (!again)
			assert_int_equal(items, (promised + RIG_MSS - 1) / RIG_MSS);
		assert_true(bytes <= promised);
		/* Nothing in flight and nothing sent although there was room: CORK, or silly. */
		flight = fp->snd_max - fp->snd_una;
		if (flight == 0 && seq_lt(fp->snd_nxt, fp->tx_tail) && fp->snd_wnd >= RIG_MSS)
			assert_true(fp->ctl & TOE_CTL_CORK);
		if (flight > 0 && rig_rand(&rnd) % 4 != 0)
			rig_ack_wnd(&r, proto_tx_pos(fp, fp->snd_una) + 1 + rig_rand(&rnd) % flight,
				    (uint16_t)(rig_rand(&rnd) % 20000));
		else
			rig_ack(&r, proto_tx_pos(fp, fp->snd_una));
	}
}

static void test_sendable_property(void **state)
{
	(void)state;
	for (uint32_t seed = 1; seed <= 2000; seed++)
		property_round(seed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_segments),
		cmocka_unit_test(test_cwnd_and_window),
		cmocka_unit_test(test_nagle),
		cmocka_unit_test(test_cork),
		cmocka_unit_test(test_fin),
		cmocka_unit_test(test_probe_and_keepalive),
		cmocka_unit_test(test_fast_retransmit),
		cmocka_unit_test(test_dup_ack_flood_is_bounded),
		cmocka_unit_test(test_rto_go_back_n),
		cmocka_unit_test(test_rto_against_closed_window),
		cmocka_unit_test(test_cc),
		cmocka_unit_test(test_sendable_property),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
