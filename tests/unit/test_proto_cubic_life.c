/* SPDX-License-Identifier: BSD-3-Clause */
/* CUBIC in the life of a connection: what losses that were none, timeouts, smaller paths, commands
 * and moments with nothing in flight do to cwnd afterwards. */
/* LINK: tests/unit/proto_rig.h */
#include "proto_rig.h"

static struct toe_rack_pool pool;

/* A round trip of 100 ms, a peer with room for everything, segs segments of cwnd and ssthresh. */
static void start(struct rig *r, unsigned segs)
{
	struct toe_cmd_install *in;

	rig_prepare_bulk(r);
	in = &r->wc.cmd.install;
	toe_rack_pool_fini(&pool);
	assert_true(toe_rack_pool_init(&pool, 1));
	r->racks = &pool;
	in->cwnd = in->ssthresh = segs * RIG_MSS;
	in->tx_buf_bytes = 1u << 29;
	in->snd_wscale = 14;
	in->snd_wnd = 65535u << 14;
	in->srtt_us = 100000;
	rig_start(r);
}

/* The application always has more to send. */
static void fill(struct rig *r)
{
	uint32_t have = r->fp.tx_tail - r->fp.snd_max, want = 2 * r->fp.cwnd + 20 * r->fp.mss;

	if (have < want)
		rig_write(r, want - have);
	while (proto_sendable(&r->fp) != 0)
		rig_tx(r);
}

static void ack(struct rig *r, uint32_t seq)
{
	rig_ack(r, rig_our_pos(r, seq));
	fill(r);
}

static void sack(struct rig *r, uint32_t una, uint32_t left, uint32_t right)
{
	rig_sack(r, rig_our_pos(r, una), rig_our_pos(r, left), rig_our_pos(r, right));
	fill(r);
}

/* Ten ACKs each, and always a segment in flight. */
static void round_trips(struct rig *r, unsigned n)
{
	while (n-- > 0) {
		uint32_t una = r->fp.snd_una, segs = (r->fp.snd_max - una) / r->fp.mss;

		for (unsigned i = 1; i <= 10; i++) {
			uint32_t to = una + segs * i / 10 * r->fp.mss;

			rig_later(r, 10);
			ack(r, i == 10 ? to - r->fp.mss : to);
		}
	}
}

/* Nothing is in flight for a moment: the element goes, and another comes. */
static void drain(struct rig *r)
{
	rig_later(r, 100);
	rig_ack(r, rig_our_pos(r, r->fp.snd_max));
	assert_int_equal(r->fp.rack, 0);
	fill(r);
	assert_int_not_equal(r->fp.rack, 0);
}

/* The first segment of the flight; all else arrives, and a round trip later that, too. */
static void lose(struct rig *r)
{
	uint32_t una = r->fp.snd_una, end = r->fp.snd_max;

	rig_later(r, 100);
	for (uint32_t to = una + 5 * r->fp.mss; seq_lt(to, end); to += 5 * r->fp.mss)
		sack(r, una, una + r->fp.mss, to);
	assert_true(r->fp.flags & TOE_FP_RECOVERY);
	rig_later(r, 100);
	ack(r, end);
	assert_false(r->fp.flags & TOE_FP_RECOVERY);
}

/* The first segment comes late, and so twice. */
static void overtake(struct rig *r)
{
	uint32_t una = r->fp.snd_una;

	rig_later(r, 100);
	sack(r, una, una + r->fp.mss, una + 5 * r->fp.mss);
	assert_true(r->fp.flags & TOE_FP_RECOVERY);
	rig_later(r, 1);
	ack(r, una + 5 * r->fp.mss);
	rig_later(r, 1);
	sack(r, r->fp.snd_una, una, una + r->fp.mss);
	assert_false(r->fp.flags & TOE_FP_RECOVERY);
}

/* Something received twice long after a recovery says nothing about it. */
static void test_late_dsack(void **state)
{
	static struct rig r;

	(void)state;
	for (unsigned wait = 2; wait <= 128; wait *= 4) {
		uint32_t before;

		start(&r, 100);
		fill(&r);
		round_trips(&r, 50);
		lose(&r);
		round_trips(&r, wait);
		before = r.fp.cwnd;
		sack(&r, r.fp.snd_una, r.fp.snd_una - r.fp.mss, r.fp.snd_una);
		round_trips(&r, 5);
		assert_in_range(r.fp.cwnd, before, before + before / 6);
	}
}

/* Nor does one that comes in time, but when cwnd is above what it was, bring an old epoch back. */
static void test_undo_above(void **state)
{
	static struct rig r;
	uint32_t before, una;

	(void)state;
	start(&r, 100);
	fill(&r);
	round_trips(&r, 100); /* 10 s into the epoch: the function is steep there */
	una = r.fp.snd_una;
	lose(&r);
	r.fp.cwnd *= 2;
	before = r.fp.cwnd;
	rig_later(&r, 10000);
	sack(&r, r.fp.snd_una, una, una + r.fp.mss);
	round_trips(&r, 5);
	assert_in_range(r.fp.cwnd, before, before + before / 10);
}

/* An ACK for all that is in flight counts as any other: 9/17 of a segment each window. */
static void test_ack_for_all(void **state)
{
	static struct rig r;
	uint32_t before, left[2];

	(void)state;
	for (unsigned all = 0; all < 2; all++) {
		start(&r, 20);
		fill(&r);
		round_trips(&r, 5);
		lose(&r);
		before = r.fp.cwnd;
		for (unsigned i = 0; i < 10; i++) {
			rig_later(&r, 1);
			r.fp.srtt_us = 1000;
			ack(&r, r.fp.snd_max - (all ? 0 : r.fp.mss));
		}
		left[all] = r.fp.cwnd - before;
		assert_in_range(left[all], 4 * RIG_MSS, 6 * RIG_MSS);
	}
}

/* The probe repaired a loss, and its ACK is for all: 0.7, as any loss. */
static void test_probe_for_all(void **state)
{
	static struct rig r;

	(void)state;
	start(&r, 100);
	rig_write(&r, 100 * RIG_MSS);
	rig_drain(&r);
	rig_later(&r, 200);
	rig_cmd(&r, TOE_CMD_PROBE);
	rig_drain(&r);
	rig_write(&r, 2000);
	rig_ack(&r, 50000);
	rig_drain(&r);
	rig_ack(&r, rig_our_pos(&r, r.fp.snd_max));
	assert_in_range(r.fp.cwnd, 69 * RIG_MSS, 72 * RIG_MSS);
}

/* A smaller path MTU: slow start, which the window of before does not end at once. */
static void test_too_big(void **state)
{
	static struct rig r;

	(void)state;
	start(&r, 100);
	r.fp.ssthresh = 2 * RIG_MSS; /* of long ago */
	fill(&r);
	round_trips(&r, 5);
	r.fp.mss = 900;
	rig_begin(&r);
	proto_loss_too_big(&r.fp, &r.out);
	fill(&r);
	rig_later(&r, 100);
	ack(&r, r.fp.snd_una + 900);
	assert_true(r.fp.cwnd <= 11 * 900);
}

/* What was for nothing is not taken for a loss at a larger window when the element has gone. */
static void test_undo_and_drain(void **state)
{
	static struct rig r;
	uint32_t before;

	(void)state;
	start(&r, 100);
	fill(&r);
	round_trips(&r, 5);
	before = r.fp.cwnd;
	for (unsigned i = 0; i < 4; i++) {
		overtake(&r);
		drain(&r);
		round_trips(&r, 10);
	}
	assert_in_range(r.fp.cwnd, before, before + 50 * RIG_MSS); /* Reno's: 48 round trips */
}

/* After a timeout the path may be another one (RFC 9438 §4.8), also when the element has gone. */
static void test_timeout_and_drain(void **state)
{
	static struct rig r;
	uint32_t before;

	(void)state;
	start(&r, 300);
	fill(&r);
	round_trips(&r, 5);
	rig_later(&r, 1000);
	rig_cmd(&r, TOE_CMD_RTO);
	fill(&r);
	for (unsigned i = 0; i < 400 && r.fp.cwnd < r.fp.ssthresh; i++)
		round_trips(&r, 1);
	drain(&r);
	before = r.fp.cwnd;
	round_trips(&r, 20);
	assert_in_range(r.fp.cwnd, before, before + 30 * RIG_MSS);
}

/* A loss and then nothing in flight for a moment: it still knows where it was. */
static void test_loss_and_drain(void **state)
{
	static struct rig r;

	(void)state;
	start(&r, 1000);
	fill(&r);
	lose(&r);
	drain(&r);
	round_trips(&r, 45); /* K = 9.1 s: half the time, seven eighths of the way */
	assert_in_range(r.fp.cwnd, 930 * RIG_MSS, 990 * RIG_MSS);
}

/* A window that the control plane has set stays until there are reasons. */
static void test_command(void **state)
{
	static struct rig r;

	(void)state;
	start(&r, 100);
	fill(&r);
	round_trips(&r, 5);
	r.wc.cmd.cc = (struct toe_cmd_cc){.rate_bps = TOE_RATE_UNPACED,
					  .cwnd = 20000,
					  .ssthresh = 20000,
					  .loss_epoch = r.fp.loss_epoch};
	rig_cmd(&r, TOE_CMD_CC);
	rig_later(&r, 100);
	r.fp.flags |= TOE_FP_CWND_LIMITED;
	ack(&r, r.fp.snd_una + r.fp.mss);
	assert_in_range(r.fp.cwnd, 20000, 21000);
}

/* Acknowledging a window in small pieces is not worth more than in large ones. */
static void test_ack_division(void **state)
{
	static struct rig r;
	uint32_t grown[3];

	(void)state;
	for (unsigned k = 0; k < 3; k++) {
		const uint32_t step[] = {100, RIG_MSS, 100000};
		uint32_t before;

		start(&r, 100);
		fill(&r);
		round_trips(&r, 5);
		before = r.fp.cwnd;
		for (unsigned i = 0; i < 20; i++) {
			uint32_t end = r.fp.snd_max - r.fp.mss;

			rig_later(&r, 1);
			while (seq_lt(r.fp.snd_una, end)) {
				r.fp.srtt_us = 1000;
				rig_ack(&r, rig_our_pos(&r, seq_min(r.fp.snd_una + step[k], end)));
			}
			fill(&r);
		}
		grown[k] = r.fp.cwnd - before;
	}
	assert_true(grown[0] <= grown[2] + RIG_MSS && grown[1] <= grown[2] + RIG_MSS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_late_dsack),        cmocka_unit_test(test_undo_above),
		cmocka_unit_test(test_ack_for_all),       cmocka_unit_test(test_probe_for_all),
		cmocka_unit_test(test_too_big),           cmocka_unit_test(test_undo_and_drain),
		cmocka_unit_test(test_timeout_and_drain), cmocka_unit_test(test_loss_and_drain),
		cmocka_unit_test(test_command),           cmocka_unit_test(test_ack_division),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
