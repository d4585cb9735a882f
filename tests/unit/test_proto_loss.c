/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Loss recovery by SACK: scoreboard against a naive byte map, what is resent when (RFC 6675), lost
 * retransmissions, tail loss probes (RFC 8985 §7), slow start after RTO, acceptable numbers in a
 * rounded window, the last bytes told by CLOSE.
 */
/* LINK: tests/unit/proto_rig.h */
#include "proto_rig.h"

/* n segments in flight. */
static void start(struct rig *r, uint32_t segs)
{
	struct toe_cmd_install *in = rig_prepare(r);

	in->flags = TOE_INSTALL_SACK;
	in->cwnd = in->ssthresh = segs * RIG_MSS;
	rig_start(r);
	rig_write(r, RIG_BUF);
	assert_int_equal(rig_drain(r), segs * RIG_MSS);
}

/* ACK of position ack with SACK blocks [from, to) in pairs, the last pair 0, 0. */
static void sack(struct rig *r, uint32_t ack, const uint32_t *blocks)
{
	struct toe_seg seg = rig_seg(r, 0, 0);

	seg.seq = r->fp.rcv_nxt;
	seg.ack = rig_our(r, ack);
	for (; blocks[2 * seg.sack_n + 1] != 0; seg.sack_n++) {
		seg.sack[seg.sack_n].left = rig_our(r, blocks[2 * seg.sack_n]);
		seg.sack[seg.sack_n].right = rig_our(r, blocks[2 * seg.sack_n + 1]);
	}
	rig_rx(r, &seg);
}
#define SACK(r, ack, ...) sack(r, ack, (const uint32_t[]){__VA_ARGS__, 0, 0})

static void expect_sent(struct rig *r, uint32_t pos, uint32_t len)
{
	assert_true(rig_tx(r));
	assert_int_equal(r->snap.seq, rig_our(r, pos));
	assert_int_equal(r->snap.len, len);
}

/* A duplicate may carry data, another window, or both: SACK says that it is one. */
static void test_duplicates_with_data(void **state)
{
	struct rig r;

	(void)state;
	start(&r, 10);
	for (uint32_t i = 2; i <= 4; i++) {
		struct toe_seg seg = rig_seg(&r, (i - 2) * 100, 100);

		seg.wnd = (uint16_t)(seg.wnd + i);
		seg.sack_n = 1;
		seg.sack[0].left = rig_our(&r, 1000);
		seg.sack[0].right = rig_our(&r, i * 1000);
		assert_false(r.fp.flags & TOE_FP_RECOVERY);
		rig_rx(&r, &seg);
	}
	assert_true(r.fp.flags & TOE_FP_RECOVERY);
	assert_int_equal(r.fp.loss_epoch, 1);
	assert_int_equal(r.fp.ssthresh, 5000);
	expect_sent(&r, 0, 1000);
	/* the same block again is no news */
	SACK(&r, 0, 1000, 4000);
	assert_int_equal(r.snap.dup_ack, 0);
}

static void test_holes_and_pipe(void **state)
{
	struct rig r;

	(void)state;
	start(&r, 10);
	/* 0, 2 and 3 are lost; one ACK tells of all that arrived */
	SACK(&r, 0, 4000, 9000, 1000, 2000);
	assert_true(r.fp.flags & TOE_FP_RECOVERY);
	/* pipe: segment 9; cwnd 5: 0, 2, 3, then new data */
	expect_sent(&r, 0, 1000);
	expect_sent(&r, 2000, 1000);
	expect_sent(&r, 3000, 1000);
	expect_sent(&r, 10000, 1000);
	assert_false(rig_tx(&r));
	SACK(&r, 2000, 4000, 10000);
	expect_sent(&r, 11000, 1000);
	expect_sent(&r, 12000, 1000);
	assert_false(rig_tx(&r));
	SACK(&r, 10000, 0);
	assert_false(r.fp.flags & TOE_FP_RECOVERY);
	assert_int_equal(r.fp.cwnd, 5000);
	assert_int_equal(proto_sb(&r.fp)->sacked.n, 0);
	assert_int_equal(rig_drain(&r), 2000);
}

/* No new data to send: holes that are not yet sure are resent rather than nothing (NextSeg 3). */
static void test_unsure_holes(void **state)
{
	struct toe_cmd_install *in;
	struct rig r;

	(void)state;
	in = rig_prepare(&r);
	in->flags = TOE_INSTALL_SACK;
	rig_start(&r);
	rig_write(&r, 8000);
	rig_drain(&r);
	SACK(&r, 0, 1000, 4000);
	assert_true(r.fp.flags & TOE_FP_RECOVERY);
	expect_sent(&r, 0, 1000);
	assert_false(rig_tx(&r));
	SACK(&r, 0, 5000, 7000, 1000, 4000); /* 4 may be lost */
	expect_sent(&r, 4000, 1000);
	assert_false(rig_tx(&r));
}

/* The first segment behind an ACK was sent before the retransmission that it answers: lost. */
static void test_partial_ack(void **state)
{
	struct rig r;

	(void)state;
	start(&r, 6);
	SACK(&r, 0, 1000, 4000);
	rig_drain(&r);
	SACK(&r, 4000, 0);
	assert_true(r.fp.flags & TOE_FP_RECOVERY);
	expect_sent(&r, 4000, 1000);
}

static void test_lost_retransmission(void **state)
{
	struct rig r;

	(void)state;
	start(&r, 8);
	SACK(&r, 0, 1000, 8000);
	expect_sent(&r, 0, 1000);
	assert_int_equal(rig_drain(&r), 3000); /* new: 8, 9, 10 */
	SACK(&r, 0, 1000, 10000);
	assert_int_equal(rig_drain(&r), 2000);
	SACK(&r, 0, 1000, 11000); /* three segments that were sent after it */
	expect_sent(&r, 0, 1000);
	/* or the control plane's timer says so */
	rig_cmd(&r, TOE_CMD_PROBE);
	expect_sent(&r, 0, 1000);
	assert_int_equal(r.fp.loss_epoch, 1);
}

static void test_tail_loss_probe(void **state)
{
	struct rig r;

	(void)state;
	start(&r, 4);
	rig_cmd(&r, TOE_CMD_PROBE);
	expect_sent(&r, 3000, 1000); /* the last segment, although cwnd is full */
	assert_false(rig_tx(&r));
	/* it arrived, and what was before it did not: all lost */
	SACK(&r, 0, 3000, 4000);
	assert_true(r.fp.flags & TOE_FP_RECOVERY);
	expect_sent(&r, 0, 1000);

	start(&r, 4); /* only the ACKs were lost: D-SACK */
	rig_cmd(&r, TOE_CMD_PROBE);
	rig_drain(&r);
	SACK(&r, 4000, 3000, 4000);
	rig_drain(&r);
	rig_ack(&r, 6000);
	assert_int_equal(r.fp.loss_epoch, 0);

	start(&r, 4); /* the last one was lost: a loss like any other */
	rig_cmd(&r, TOE_CMD_PROBE);
	rig_drain(&r);
	rig_ack(&r, 4000);
	assert_int_equal(r.fp.loss_epoch, 0); /* a D-SACK may still come */
	assert_int_equal(rig_drain(&r), 5000);
	rig_ack(&r, 5000);
	assert_int_equal(r.fp.loss_epoch, 1);
	assert_int_equal(r.fp.cwnd, 2600);

	start(&r, 4); /* what is SACKed has been for a round trip: no reordering */
	SACK(&r, 0, 1000, 2000);
	rig_drain(&r);
	rig_cmd(&r, TOE_CMD_PROBE);
	assert_true(r.fp.flags & TOE_FP_RECOVERY);
	expect_sent(&r, 0, 1000);

	rig_default(&r); /* without SACK its fate would not be known */
	rig_write(&r, 3000);
	rig_drain(&r);
	rig_cmd(&r, TOE_CMD_PROBE);
	assert_true(rig_tx(&r));
	assert_int_equal(r.snap.seq, rig_our(&r, 0) - 1);
	assert_int_equal(r.snap.len, 0);
}

/* A window closed in between: a probe of the window, not of what is in flight. */
static void test_probe_of_shut_window(void **state)
{
	struct toe_seg seg;
	struct rig r;

	(void)state;
	start(&r, 2);
	seg = rig_seg(&r, 0, 0);
	seg.wnd = 0;
	rig_rx(&r, &seg);
	rig_cmd(&r, TOE_CMD_PROBE);
	assert_true(rig_tx(&r));
	assert_int_equal(r.snap.seq, rig_our(&r, 0) - 1);
	assert_int_equal(r.snap.len, 0);
}

static void test_rto(void **state)
{
	struct rig r;

	(void)state;
	start(&r, 8);
	SACK(&r, 0, 2000, 3000);
	rig_drain(&r);
	rig_cmd(&r, TOE_CMD_RTO);
	assert_int_equal(proto_sb(&r.fp)->sacked.n, 0);
	assert_int_equal(r.fp.cwnd, 1000);
	assert_int_equal(r.fp.ssthresh, 4000);
	assert_int_equal(rig_drain(&r), 1000);
	/* the control plane keeps out */
	r.wc.cmd.cc = (struct toe_cmd_cc){.cwnd = 50000, .ssthresh = 4000, .loss_epoch = 1};
	rig_cmd(&r, TOE_CMD_CC);
	assert_int_equal(r.fp.cwnd, 1000);
	/* slow start, and not into what is there already */
	SACK(&r, 1000, 2000, 3000);
	assert_int_equal(r.fp.cwnd, 2000);
	expect_sent(&r, 1000, 1000);
	assert_false(rig_tx(&r));
	SACK(&r, 3000, 4000, 5000, 6000, 7000);
	assert_int_equal(r.fp.cwnd, 3000);
	expect_sent(&r, 3000, 1000);
	expect_sent(&r, 5000, 1000);
	assert_false(rig_tx(&r));
	/* again: the same loss, no further reduction */
	rig_cmd(&r, TOE_CMD_RTO);
	assert_int_equal(r.fp.ssthresh, 4000);
	assert_int_equal(r.fp.cwnd, 1000);
	rig_drain(&r);
	rig_ack(&r, 9000);
	assert_false(r.fp.flags & TOE_FP_LOSS);
	r.wc.cmd.cc.loss_epoch = 2;
	rig_cmd(&r, TOE_CMD_CC);
	assert_int_equal(r.fp.cwnd, 50000);
}

static void test_lies(void **state)
{
	struct rig r;

	(void)state;
	start(&r, 6);
	SACK(&r, 0, 5000, 9000);  /* never sent */
	SACK(&r, 0, 3000, 2000);  /* inverted */
	SACK(&r, 0, 0, 2000);     /* holds SND.UNA: would have been acknowledged */
	SACK(&r, 1000, 500, 800); /* old: D-SACK */
	assert_int_equal(proto_sb(&r.fp)->sacked.n, 0);
	SACK(&r, 1000, 2000, 3000);
	assert_int_equal(proto_sb(&r.fp)->sacked.n, 1);
	rig_ack(&r, 2000); /* reneged: the cumulative ACK stops where it began */
	assert_int_equal(proto_sb(&r.fp)->sacked.n, 0);
	assert_false(r.fp.flags & TOE_FP_RECOVERY);
}

/* Whatever is reported, in whatever order: never more than was, and what fits exactly. */
static void scoreboard_round(uint32_t seed)
{
	uint8_t map[RIG_BUF] = {0};
	uint32_t rnd = seed * 2654435761u + 1, una = 0;
	struct rig r;

	start(&r, 14);
	for (unsigned step = 0; step < 200; step++) {
		uint32_t left = una + 1 + rig_rand(&rnd) % 13000;
		uint32_t right = left + 1 + rig_rand(&rnd) % 1500;
		const struct toe_sacked *k = &proto_sb(&r.fp)->sacked;

		if (rig_rand(&rnd) % 16 == 0 && una < 9000)
			una += rig_rand(&rnd) % 300;
		if (right > 14000 || left <= una)
			continue;
		memset(map + left, 1, right - left);
		SACK(&r, una, left, right);
		for (uint32_t i = 0; i < k->n; i++) {
			uint32_t a = k->iv[i].left - rig_our(&r, 0);
			uint32_t b = k->iv[i].right - rig_our(&r, 0);

			assert_true(a > una && a < b);
			assert_true(i == 0 || seq_lt(k->iv[i - 1].right, k->iv[i].left));
			for (uint32_t at = a; at < b; at++)
				assert_true(map[at]);
		}
		assert_true(k->n <= TOE_SACK_MAX);
		assert_true(proto_loss_budget(&r.fp) <= r.fp.cwnd);
	}
}

static void test_scoreboard(void **state)
{
	(void)state;
	for (uint32_t seed = 1; seed <= 50; seed++)
		scoreboard_round(seed);
}

/* Two ends whose windows look smaller than what is in flight only because the field is rounded
 * down must still accept each other's ACKs. */
static void test_rounded_window(void **state)
{
	struct toe_cmd_install *in = NULL;
	struct rig r;

	(void)state;
	in = rig_prepare(&r);
	in->snd_wscale = 4;
	in->snd_wnd = 1160;
	rig_start(&r);
	rig_write(&r, 1160);
	rig_drain(&r);
	rig_ack_wnd(&r, 0, 1152 >> 4);
	assert_int_equal(r.fp.snd_wnd, 1152);
	assert_int_equal(proto_ack_seq(&r.fp), r.fp.snd_max);
	rig_ack_wnd(&r, 0, 1136 >> 4); /* taken back for real */
	assert_int_equal(proto_ack_seq(&r.fp), r.fp.snd_una + 1136);
}

/* CLOSE may overtake the doorbell of the last write. */
static void test_close_tells_the_tail(void **state)
{
	struct rig r;

	(void)state;
	rig_default(&r);
	r.wc.cmd.close = (struct toe_cmd_close){TOE_CLOSE_FIN | TOE_CLOSE_TAIL, 700};
	rig_cmd(&r, TOE_CMD_CLOSE);
	expect_sent(&r, 0, 700);
	assert_true(r.snap.flags & F_FIN);
	rig_hc(&r); /* fetched before: harmless */
	assert_int_equal(r.out.verdict, TOE_FORWARD);
	assert_int_equal(r.out.drop, TOE_D_NONE);
	r.hc.tx_tail = 700; /* and the doorbell itself */
	rig_hc(&r);
	assert_int_equal(r.out.drop, TOE_D_NONE);
	r.hc.tx_tail = 701;
	rig_hc(&r);
	assert_int_equal(r.out.drop, TOE_D_HC_INVALID);

	rig_default(&r); /* a lie ends the stream where it was */
	r.wc.cmd.close = (struct toe_cmd_close){TOE_CLOSE_FIN | TOE_CLOSE_TAIL, RIG_BUF + 1};
	rig_cmd(&r, TOE_CMD_CLOSE);
	assert_int_equal(r.out.drop, TOE_D_HC_INVALID);
	expect_sent(&r, 0, 0);
	assert_true(r.snap.flags & F_FIN);
}

/* RFC 5681 3.1: doubling up to ssthresh, then a segment for each window acknowledged. */
static void test_growth(void **state)
{
	struct rig r;

	(void)state;
	start(&r, 4);
	r.fp.ssthresh = 6 * RIG_MSS;
	rig_ack(&r, 1000);
	assert_int_equal(r.fp.cwnd, 5000);
	rig_ack(&r, 4000);
	assert_int_equal(r.fp.cwnd, 6000); /* no more than ssthresh */
	rig_drain(&r);
	rig_ack(&r, 7000);
	assert_int_equal(r.fp.cwnd, 6500);
	rig_ack(&r, 10000);
	assert_in_range(r.fp.cwnd, 6900, 7000);
}

/* cwnd that is not used proves nothing; neither does one that marks have just been echoed for. */
static void test_no_growth(void **state)
{
	struct toe_seg seg;
	struct rig r;

	(void)state;
	start(&r, 4);
	rig_ack(&r, 4000);
	rig_drain(&r);
	r.fp.tx_tail = r.fp.snd_max; /* the application pauses */
	r.hc.tx_tail = r.fp.snd_max - r.fp.iss - 1;
	rig_ack(&r, r.hc.tx_tail);
	rig_write(&r, 1000);
	rig_drain(&r);
	rig_ack(&r, r.hc.tx_tail); /* a round trip without a full window */
	uint32_t cwnd = r.fp.cwnd;

	rig_write(&r, 1000);
	rig_drain(&r);
	rig_ack(&r, r.hc.tx_tail);
	assert_int_equal(r.fp.cwnd, cwnd);

	start(&r, 4);
	r.fp.flags |= TOE_FP_ECN;
	seg = rig_seg(&r, 0, 0);
	seg.ack = rig_our(&r, 1000);
	seg.flags |= F_ECE;
	rig_rx(&r, &seg);
	rig_ack(&r, 3000);
	assert_int_equal(r.fp.cwnd, 4000);
}

/* Half of what was in flight when the loss happened, however many ACKs came in the same burst. */
static void test_ssthresh_after_a_burst_of_acks(void **state)
{
	struct rig r;

	(void)state;
	start(&r, 10);
	rig_ack(&r, 7000); /* nothing sent since */
	SACK(&r, 7000, 8000, 9000);
	SACK(&r, 7000, 8000, 10000);
	rig_cmd(&r, TOE_CMD_PROBE);
	assert_true(r.fp.flags & TOE_FP_RECOVERY);
	assert_in_range(r.fp.ssthresh, 5000, 5500);
}

/* D-SACKs about go-back-N say that an RTO was for nothing, not that the path reorders. */
static void test_dsack_after_rto(void **state)
{
	struct rig r;

	(void)state;
	start(&r, 10);
	rig_cmd(&r, TOE_CMD_RTO);
	assert_true(rig_tx(&r));
	rig_ack(&r, 5000);
	rig_drain(&r);
	for (uint32_t i = 0; i < 5; i++)
		SACK(&r, 10000, i * 1000, i * 1000 + 1000);
	assert_int_equal(r.fp.reorder, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dsack_after_rto),
		cmocka_unit_test(test_duplicates_with_data),
		cmocka_unit_test(test_holes_and_pipe),
		cmocka_unit_test(test_unsure_holes),
		cmocka_unit_test(test_partial_ack),
		cmocka_unit_test(test_lost_retransmission),
		cmocka_unit_test(test_tail_loss_probe),
		cmocka_unit_test(test_probe_of_shut_window),
		cmocka_unit_test(test_rto),
		cmocka_unit_test(test_lies),
		cmocka_unit_test(test_scoreboard),
		cmocka_unit_test(test_rounded_window),
		cmocka_unit_test(test_close_tells_the_tail),
		cmocka_unit_test(test_growth),
		cmocka_unit_test(test_no_growth),
		cmocka_unit_test(test_ssthresh_after_a_burst_of_acks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
