/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Segment arrives: acceptability, RST/SYN/ACK rules, timestamps, payload in every order and
 * overlap, FIN in every order, SACK, ECN, windows, loss recovery seen from the ACKs.
 */
/* LINK: tests/unit/proto_rig.h */
#include "proto_rig.h"

#include <errno.h>

static void expect_payload(const struct rig *r, uint32_t pos, uint16_t len, uint16_t skip)
{
	assert_int_equal(r->snap.pos, pos);
	assert_int_equal(r->snap.len, len);
	assert_int_equal(r->snap.skip, skip);
}

static void test_in_order(void **state)
{
	struct rig r;

	(void)state;
	rig_default(&r);
	for (uint32_t pos = 0; pos < 12000; pos += 1000) { /* across 2^32 */
		rig_data(&r, pos, 1000);
		rig_sent_ack(&r);
		expect_payload(&r, pos, 1000, 0);
		assert_int_equal(r.snap.rx_tail, pos + 1000);
		assert_int_equal(r.snap.wnd, RIG_BUF - pos - 1000);
		assert_true(r.out.todo & TOE_TODO_CTXQ);
		assert_true(r.out.ack_defer);
	}
	rig_ack(&r, 0);
	assert_int_equal(r.out.todo, 0);
	assert_int_equal(r.out.verdict, TOE_FORWARD);
}

static void test_overlap(void **state)
{
	struct rig r;

	(void)state;
	rig_default(&r);
	rig_data(&r, 0, 1000);
	rig_data(&r, 400, 1000); /* left part known */
	expect_payload(&r, 1000, 400, 600);
	assert_false(r.out.ack_defer);
	rig_data(&r, 0, 1400); /* all known */
	assert_int_equal(r.snap.len, 0);
	assert_int_equal(r.out.drop, TOE_D_WINDOW);
	rig_sent_ack(&r);
	rig_data(&r, 1400, 1000);
	assert_int_equal(r.snap.rx_tail, 2400);
	rig_data(&r, 5000, 1000);
	rig_data(&r, 5200, 100); /* inside a kept interval: what came first stays */
	assert_int_equal(r.snap.len, 0);
	rig_sent_ack(&r);
}

static void test_window_edge(void **state)
{
	struct rig r;

	(void)state;
	rig_default(&r);
	for (uint32_t pos = 0; pos < 16000; pos += 1000)
		rig_data(&r, pos, 1000);
	rig_data(&r, 16000, 1000); /* 384 fit */
	expect_payload(&r, 16000, 384, 0);
	assert_int_equal(r.snap.wnd, 0);
	assert_int_equal(r.snap.rx_tail, RIG_BUF);
	rig_data(&r, RIG_BUF, 1); /* probe of a closed window */
	assert_int_equal(r.snap.len, 0);
	rig_sent_ack(&r);
	rig_data(&r, RIG_BUF + 1, 1);
	assert_int_equal(r.out.drop, TOE_D_WINDOW);
	rig_sent_ack(&r);

	/* Its ACK counts also while our window is closed. */
	rig_write(&r, 500);
	rig_drain(&r);
	struct toe_seg seg = rig_seg(&r, RIG_BUF, 1);

	seg.ack = rig_our(&r, 500);
	rig_rx(&r, &seg);
	assert_int_equal(r.snap.acked_bytes, 500);
	/* FIN needs no room. */
	rig_fin(&r, RIG_BUF, 0);
	assert_true(r.snap.state & TOE_SLOT_RX_FIN);
	assert_int_equal(r.snap.wnd, 0);
}

static void test_window_scale_rounding(void **state)
{
	struct rig r;
	struct toe_cmd_install *in = rig_prepare(&r);
	uint32_t pos = 0, edge = 0;

	(void)state;
	in->rcv_wscale = 7;
	in->rx_buf_bytes = 1u << 20;
	rig_start(&r);
	for (unsigned i = 0; i < 4000; i++) {
		uint32_t adv = r.fp.rcv_adv, seen;

		rig_data(&r, pos, 237);
		pos += 237;
		assert_true(seq_geq(r.fp.rcv_adv, adv)); /* never back */
		assert_true(r.fp.rcv_adv - r.fp.rx_head <= proto_rx_buf(&r.fp));
		seen = proto_rx_pos(&r.fp, r.snap.ack) + ((uint32_t)r.snap.wnd << 7);
		assert_true(seen <= proto_rx_pos(&r.fp, r.fp.rcv_adv));
		assert_true(i == 0 || seen + 128 > edge); /* as seen: less than one unit */
		edge = seen;
		if (i % 50 == 0) {
			r.hc.rx_head = pos;
			rig_hc(&r);
		}
	}
}

static void test_sack_blocks(void **state)
{
	struct rig r;

	(void)state;
	rig_prepare(&r)->flags = TOE_INSTALL_SACK;
	rig_start(&r);
	rig_data(&r, 1000, 500);
	rig_data(&r, 3000, 500);
	rig_data(&r, 5000, 500);
	rig_data(&r, 7000, 500);
	rig_sent_ack(&r);
	assert_int_equal(r.snap.sack_n, 3);
	assert_int_equal(r.snap.sack[0].left, rig_in(&r, 7000));
	assert_int_equal(r.snap.sack[0].right, rig_in(&r, 7500));
	assert_int_equal(r.snap.sack[1].left, rig_in(&r, 5000));
	assert_int_equal(r.snap.sack[2].left, rig_in(&r, 3000));
	rig_data(&r, 9000, 500);
	rig_data(&r, 11000, 500);
	assert_int_equal(r.out.drop, TOE_D_NONE);
	rig_data(&r, 13000, 500); /* no interval left */
	assert_int_equal(r.out.drop, TOE_D_OOO_FULL);
	assert_int_equal(r.snap.len, 0);
	rig_sent_ack(&r);
	rig_data(&r, 0, 1000);
	assert_int_equal(r.snap.rx_tail, 1500);
	assert_int_equal(r.snap.sack_n, 3);
	assert_false(r.out.ack_defer);
}

/* Model: which bytes are there; the machine may refuse bytes, never invent or reorder them. */
static void random_arrivals(uint32_t seed)
{
	enum { TOTAL = 6000 };
	static uint8_t have[TOTAL + 1500];
	struct rig r = {0};
	uint32_t rnd = seed * 2654435761u + 7, nxt = 0;

	rig_prepare(&r)->irs = 0u - 1 - seed % 5000;
	r.wc.cmd.install.rcv_nxt = r.wc.cmd.install.irs + 1;
	rig_start(&r);
	memset(have, 0, sizeof(have));
	for (unsigned step = 0; nxt < TOTAL; step++) {
		uint32_t pos = rig_rand(&rnd) % (step > 300 ? nxt + 1 : TOTAL);
		uint16_t len = 1 + rig_rand(&rnd) % 700;

		if (pos + len > TOTAL)
			len = (uint16_t)(TOTAL - pos);
		if (pos == TOTAL - 1u || rig_rand(&rnd) % 16 == 0)
			rig_fin(&r, TOTAL - len, len);
		else
			rig_data(&r, pos, len);
		assert_true(step < 100000);
		assert_true(r.snap.skip + r.snap.len <= 700);
		for (uint32_t i = 0; i < r.snap.len; i++) {
			assert_true(r.snap.pos + i >= nxt); /* never under the reader */
			assert_true(r.snap.pos + i < TOTAL);
			have[r.snap.pos + i] = 1;
		}
		while (nxt < proto_rx_pos(&r.fp, proto_rcv_end(&r.fp)))
			assert_int_equal(have[nxt++], 1);
		rig_sent_ack(&r);
	}
	rig_fin(&r, TOTAL, 0);
	assert_true(r.fp.flags & TOE_FP_FIN_RCVD);
	assert_int_equal(r.fp.rcv_nxt, rig_in(&r, TOTAL + 1));
	assert_int_equal(proto_sb(&r.fp)->ooo.n, 0);
}

static void test_random_arrivals(void **state)
{
	(void)state;
	for (uint32_t seed = 1; seed <= 150; seed++)
		random_arrivals(seed);
}

static void test_fin_orders(void **state)
{
	struct rig r;

	(void)state;
	rig_default(&r); /* on data */
	rig_fin(&r, 0, 100);
	assert_int_equal(r.snap.ack, rig_in(&r, 101));
	assert_int_equal(r.snap.rx_tail, 100);
	assert_int_equal(r.snap.state, TOE_SLOT_ESTABLISHED | TOE_SLOT_RX_FIN);
	assert_false(r.out.ack_defer);
	rig_fin(&r, 0, 100); /* again */
	rig_sent_ack(&r);
	assert_int_equal(r.snap.len, 0);
	rig_fin(&r, 100, 0);
	rig_sent_ack(&r);
	rig_data(&r, 101, 50); /* behind the end */
	assert_int_equal(r.snap.len, 0);
	assert_int_equal(r.out.drop, TOE_D_BEYOND_FIN);
	assert_int_equal(r.fp.rcv_nxt, rig_in(&r, 101));

	rig_default(&r); /* FIN first */
	rig_fin(&r, 200, 100);
	assert_false(r.fp.flags & TOE_FP_FIN_RCVD);
	rig_data(&r, 250, 300); /* contradicts it */
	assert_int_equal(r.out.drop, TOE_D_BEYOND_FIN);
	rig_fin(&r, 400, 0); /* a second end */
	assert_int_equal(proto_sb(&r.fp)->ooo.fin_seq, rig_in(&r, 300));
	rig_data(&r, 0, 200);
	assert_int_equal(r.snap.rx_tail, 300);
	assert_int_equal(r.snap.ack, rig_in(&r, 301));
	assert_true(r.snap.state & TOE_SLOT_RX_FIN);

	rig_default(&r); /* FIN below data that is there already */
	rig_data(&r, 500, 100);
	rig_fin(&r, 550, 0);
	rig_data(&r, 0, 500);
	assert_int_equal(r.snap.rx_tail, 600);
	assert_false(r.fp.flags & TOE_FP_FIN_RCVD);
}

static void test_rst(void **state)
{
	struct rig r;
	struct toe_seg seg;

	(void)state;
	rig_prepare(&r)->flags = TOE_INSTALL_TS; /* RST needs no timestamp */
	rig_start(&r);
	rig_write(&r, 100);
	seg = rig_seg(&r, 1, 0);
	seg.flags = F_RST;
	seg.opts = 0;
	rig_rx(&r, &seg); /* in window, not exact */
	rig_sent_ack(&r);
	assert_true(r.out.counted & 1ull << TOE_C_CHALLENGE_ACK);
	rig_later(&r, PROTO_CHALLENGE_MS - 8); /* it counts in units of 8 ms */
	rig_rx(&r, &seg);                      /* limited */
	rig_silent(&r);
	assert_int_equal(r.out.verdict, TOE_NOTHING);
	rig_later(&r, 16);
	rig_rx(&r, &seg);
	rig_sent_ack(&r);
	rig_later(&r, 1000);
	seg.seq = rig_in(&r, RIG_BUF + 1);
	rig_rx(&r, &seg); /* outside */
	rig_silent(&r);
	seg.seq = rig_in(&r, 0);
	rig_rx(&r, &seg); /* exact */
	rig_silent(&r);
	assert_int_equal(r.snap.event, TOE_EV_RESET);
	assert_int_equal(r.out.todo, TOE_TODO_CTXQ | TOE_TODO_SCHED | TOE_TODO_CTRL);
	assert_true(r.snap.state & TOE_SLOT_ERROR);
	assert_int_equal(r.snap.error, ECONNRESET);
	assert_int_equal(r.snap.sendable, 0);
	assert_false(rig_tx(&r)); /* nothing after it */
	rig_data(&r, 0, 10);
	assert_int_equal(r.out.drop, TOE_D_AFTER_RESET);
	assert_int_equal(r.out.todo, 0);

	rig_default(&r); /* CLOSE-WAIT */
	rig_fin(&r, 0, 0);
	seg = rig_seg(&r, 1, 0);
	seg.flags = F_RST | F_ACK;
	rig_rx(&r, &seg);
	assert_int_equal(r.snap.error, EPIPE);
}

static void test_flags(void **state)
{
	struct rig r;
	struct toe_seg seg;

	(void)state;
	rig_default(&r);
	seg = rig_seg(&r, 0, 100);
	seg.flags = 0;
	rig_rx(&r, &seg);
	assert_int_equal(r.out.drop, TOE_D_NO_ACK_FLAG);
	assert_int_equal(r.out.todo, 0);
	seg.flags = F_SYN | F_ACK;
	rig_rx(&r, &seg);
	rig_sent_ack(&r);
	rig_rx(&r, &seg);
	rig_silent(&r);
	assert_int_equal(r.fp.rcv_nxt, rig_in(&r, 0));
}

static void test_timestamps(void **state)
{
	struct rig r;
	struct toe_seg seg;

	(void)state;
	rig_prepare(&r)->flags = TOE_INSTALL_TS;
	rig_start(&r);
	seg = rig_seg(&r, 0, 100);
	seg.opts = 0;
	rig_rx(&r, &seg);
	assert_int_equal(r.out.drop, TOE_D_NO_TS);
	rig_silent(&r);
	seg.opts = TOE_SEG_TS;
	seg.ts_val = 105;
	rig_rx(&r, &seg);
	assert_int_equal(r.snap.ts_ecr, 105);
	seg = rig_seg(&r, 200, 100); /* not at Last.ACK.sent: not remembered */
	seg.ts_val = 110;
	rig_rx(&r, &seg);
	assert_int_equal(r.snap.ts_ecr, 105);
	seg = rig_seg(&r, 100, 100);
	seg.ts_val = 104;
	rig_rx(&r, &seg);
	assert_int_equal(r.out.drop, TOE_D_PAWS);
	rig_sent_ack(&r);
	assert_int_equal(r.snap.ack, rig_in(&r, 100));
	r.now.ms += PROTO_PAWS_IDLE_MS +
		    (1u << PROTO_TS_SHIFT); /* an idle peer's clock may have gone round */
	rig_rx(&r, &seg);
	assert_int_equal(r.out.drop, TOE_D_NONE);
	assert_int_equal(r.snap.ts_ecr, 104);
	assert_int_equal(r.snap.rx_tail, 300);
}

static void test_ack_range(void **state)
{
	struct rig r;

	(void)state;
	rig_default(&r);
	rig_write(&r, 3000);
	rig_drain(&r);
	rig_ack(&r, 3001); /* of what was never sent */
	assert_int_equal(r.out.drop, TOE_D_OLD_ACK);
	rig_sent_ack(&r);
	rig_ack(&r, 3001);
	rig_silent(&r);
	assert_int_equal(r.fp.snd_una, rig_our(&r, 0));
	rig_ack(&r, 3000);
	assert_int_equal(r.snap.acked_bytes, 3000);
	assert_int_equal(r.snap.tx_head, 3000);
	rig_later(&r, 1000);
	rig_ack(&r, 3000u - 60001u);
	assert_int_equal(r.out.drop, TOE_D_OLD_ACK);
	rig_ack(&r, 2000); /* old, in range: ignored */
	assert_int_equal(r.out.drop, TOE_D_NONE);
	assert_int_equal(r.fp.snd_una, rig_our(&r, 3000));
}

static void test_empty_unacceptable_limited(void **state)
{
	struct rig r;
	struct toe_seg seg;

	(void)state;
	rig_default(&r);
	rig_data(&r, 0, 10);
	seg = rig_seg(&r, 9, 0); /* keepalive: one before RCV.NXT */
	rig_rx(&r, &seg);
	rig_sent_ack(&r);
	rig_rx(&r, &seg);
	rig_silent(&r);
	rig_later(&r, PROTO_OOW_MS);
	rig_rx(&r, &seg);
	rig_sent_ack(&r);
	seg = rig_seg(&r, 9, 1); /* with its garbage byte: always */
	rig_rx(&r, &seg);
	rig_sent_ack(&r);
}

static void test_rtt_and_karn(void **state)
{
	struct rig r;

	(void)state;
	rig_default(&r);
	rig_write(&r, 1000);
	rig_drain(&r);
	rig_later(&r, 8);
	rig_ack(&r, 1000);
	assert_in_range(r.fp.srtt_us, 7990, 8001);
	assert_in_range(r.fp.rttvar_us, 3990, 4001);
	rig_write(&r, 1000);
	rig_drain(&r);
	rig_later(&r, 16);
	rig_ack(&r, 2000);
	assert_in_range(r.fp.srtt_us, 8990, 9010); /* 7/8 * 8 + 1/8 * 16 */
	rig_write(&r, 1000);
	rig_drain(&r);
	rig_cmd(&r, TOE_CMD_RTO);
	rig_drain(&r);
	rig_later(&r, 900);
	rig_ack(&r, 3000);
	assert_in_range(r.fp.srtt_us, 8990, 9010);
}

static void test_dctcp_receiver(void **state)
{
	struct rig r;
	struct toe_seg seg;

	(void)state;
	rig_prepare(&r)->flags = TOE_INSTALL_ECN;
	rig_start(&r);
	seg = rig_seg(&r, 0, 100);
	seg.ecn = 3;
	rig_rx(&r, &seg);
	assert_true(r.snap.flags & F_ECE);
	rig_write(&r, 10);
	rig_tx(&r);
	assert_true(r.snap.flags & F_ECE);
	assert_int_equal(r.snap.ect, 1);
	seg = rig_seg(&r, 100, 100);
	seg.ecn = 2;
	rig_rx(&r, &seg);
	assert_false(r.snap.flags & F_ECE);
}

static void test_ece_gives_cwr_once_per_window(void **state)
{
	struct rig r;
	struct toe_seg seg;

	(void)state;
	rig_prepare(&r)->flags = TOE_INSTALL_ECN;
	rig_start(&r);
	r.hc.ctl = TOE_CTL_NODELAY;
	rig_write(&r, 5000);
	rig_drain(&r);
	for (uint32_t pos = 1000; pos <= 5000; pos += 1000) {
		seg = rig_seg(&r, 0, 0);
		seg.ack = rig_our(&r, pos);
		seg.flags |= F_ECE;
		rig_rx(&r, &seg);
		assert_int_equal(r.snap.ecn_echo, 1);
		rig_write(&r, 100);
		assert_true(rig_tx(&r));
		assert_int_equal((r.snap.flags & F_CWR) != 0, pos == 1000);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_in_order),
		cmocka_unit_test(test_overlap),
		cmocka_unit_test(test_window_edge),
		cmocka_unit_test(test_window_scale_rounding),
		cmocka_unit_test(test_sack_blocks),
		cmocka_unit_test(test_random_arrivals),
		cmocka_unit_test(test_fin_orders),
		cmocka_unit_test(test_rst),
		cmocka_unit_test(test_flags),
		cmocka_unit_test(test_timestamps),
		cmocka_unit_test(test_ack_range),
		cmocka_unit_test(test_empty_unacceptable_limited),
		cmocka_unit_test(test_rtt_and_karn),
		cmocka_unit_test(test_dctcp_receiver),
		cmocka_unit_test(test_ece_gives_cwr_once_per_window),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
