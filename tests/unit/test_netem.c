// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/progs/lib/netem.c tests/progs/lib/util.c tests/progs/lib/hist.c */
/* Network emulator: the same seed decides the same, rates are what was asked for, named segments,
 * tail drop, order of the delay line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/progs/lib/netem.h"

#define FRAMES 100000u
#define MS     1000000ull

/* Ethernet, IPv4, TCP with 10 bytes of data. */
static uint8_t tcp_frame[64] = {
	[12] = 0x08, [14] = 0x45, [17] = 50, [23] = 6, [46] = 0x50,
};
static uint8_t arp_frame[42] = {[12] = 0x08, [13] = 0x06};

static struct netem_verdict decide(struct netem_direction *d, uint64_t now_ns)
{
	struct netem_verdict v;

	netem_frame_decide(d, tcp_frame, sizeof(tcp_frame), now_ns, &v);
	return v;
}

static const struct netem_conf all = {.seed = 1,
				      .loss = 0.05,
				      .burst_begin = 0.01,
				      .burst_end = 0.25,
				      .reorder = 0.1,
				      .duplicate = 0.02,
				      .corrupt = 0.01,
				      .jitter_ns = 100000,
				      .reorder_ns = 500000};

static unsigned differences(uint64_t seed, enum netem_port in)
{
	struct netem_conf other = all;
	struct netem_direction d, e;
	unsigned n = 0;

	other.seed = seed;
	netem_direction_init(&d, &all, NETEM_A);
	netem_direction_init(&e, &other, in);
	for (unsigned i = 0; i < 1000; i++) {
		struct netem_verdict v = decide(&d, i * MS), w = decide(&e, i * MS);

		n += memcmp(&v, &w, sizeof(v)) != 0;
	}
	return n;
}

static void test_seed(void **state)
{
	(void)state;
	assert_int_equal(differences(1, NETEM_A), 0);
	assert_true(differences(2, NETEM_A) > 100);
	assert_true(differences(1, NETEM_B) > 100);
}

/* What happens to frame n does not depend on when it comes, as long as no queue is full. */
static void test_time_changes_no_fate(void **state)
{
	struct netem_direction d, e;

	(void)state;
	netem_direction_init(&d, &all, NETEM_A);
	netem_direction_init(&e, &all, NETEM_A);
	for (unsigned i = 0; i < 1000; i++) {
		struct netem_verdict v = decide(&d, i * MS), w = decide(&e, i * 7);

		assert_int_equal(v.copies, w.copies);
		assert_int_equal(v.flip_bit, w.flip_bit);
	}
}

/* Within 5 standard deviations of a binomial, and the variance is at most the mean. */
static void assert_rate(uint64_t n, uint64_t of, double p)
{
	double miss = (double)n - p * (double)of;

	assert_true(miss * miss <= 25 * p * (double)of);
}

static void test_rates(void **state)
{
	struct netem_conf c = all;
	struct netem_direction d;
	uint64_t arrived;

	(void)state;
	c.burst_begin = 0;
	netem_direction_init(&d, &c, NETEM_A);
	for (unsigned i = 0; i < FRAMES; i++) {
		struct netem_verdict v = decide(&d, i * MS);

		if (v.flip_bit != NETEM_NO_BIT) {
			assert_true(v.flip_bit >= NETEM_ETH_BYTES * 8);
			assert_true(v.flip_bit < sizeof(tcp_frame) * 8);
		}
	}
	arrived = FRAMES - d.n.loss;
	assert_int_equal(d.n.frames, FRAMES);
	assert_int_equal(d.n.data_segments, FRAMES);
	assert_rate(d.n.loss, FRAMES, 0.05);
	assert_rate(d.n.duplicate, arrived, 0.02);
	assert_rate(d.n.corrupt, arrived, 0.01);
	assert_rate(d.n.reorder, arrived, 0.1);
}

/* Mean time in the bad state is 1 / end, share of it begin / (begin + end). */
static void test_bursts(void **state)
{
	const struct netem_conf c = {.seed = 3, .burst_begin = 0.01, .burst_end = 0.25};
	struct netem_direction d;
	unsigned bursts = 0;
	bool before = false;

	(void)state;
	netem_direction_init(&d, &c, NETEM_A);
	for (unsigned i = 0; i < FRAMES; i++) {
		bool lost = decide(&d, i).copies == 0;

		bursts += lost && !before;
		before = lost;
	}
	assert_in_range(d.n.burst, FRAMES * 33 / 1000, FRAMES * 44 / 1000); /* 3.85 % */
	assert_in_range(d.n.burst / bursts, 3, 4);
	assert_int_equal(d.n.loss, 0);
}

static void test_named(void **state)
{
	struct netem_conf c = {.seed = 1};
	struct netem_direction d, e;

	(void)state;
	assert_int_equal(netem_named_parse(&c, "ab:3,ab:5,ba:1"), 0);
	netem_direction_init(&d, &c, NETEM_A);
	netem_direction_init(&e, &c, NETEM_B);
	for (unsigned i = 1; i <= 6; i++) {
		struct netem_verdict v;

		assert_int_equal(decide(&d, i).copies, i != 3 && i != 5);
		assert_int_equal(decide(&e, i).copies, i != 1);
		/* without data: never counted */
		tcp_frame[17] = 40;
		assert_int_equal(netem_frame_payload(tcp_frame, sizeof(tcp_frame)), 0);
		netem_frame_decide(&d, tcp_frame, 54, i, &v);
		tcp_frame[17] = 50;
		assert_int_equal(v.copies, 1);
	}
	assert_int_equal(d.n.named, 2);
	assert_int_equal(e.n.named, 1);
	assert_true(netem_named_parse(&c, "ab:0") < 0);
	assert_true(netem_named_parse(&c, "ab:-1") < 0);
	assert_true(netem_named_parse(&c, "xy:1") < 0);
	assert_true(netem_named_parse(&c, "ab:1;ba:2") < 0);
}

static void test_arp_passes(void **state)
{
	const struct netem_conf c = {.seed = 1, .loss = 1, .delay_ns = 5};
	struct netem_direction d;
	struct netem_verdict v;

	(void)state;
	netem_direction_init(&d, &c, NETEM_A);
	netem_frame_decide(&d, arp_frame, sizeof(arp_frame), 10, &v);
	assert_int_equal(v.copies, 1);
	assert_int_equal(v.due_ns[0], 15);
	assert_int_equal(decide(&d, 10).copies, 0);
}

/* 64 bytes at 512 kbit/s take 1 ms; the queue has room for two. */
static void test_rate_and_queue(void **state)
{
	const struct netem_conf c = {
		.seed = 1, .rate_bps = 512000, .queue_bytes = 128, .delay_ns = 10 * MS};
	struct netem_direction d;

	(void)state;
	netem_direction_init(&d, &c, NETEM_A);
	assert_int_equal(decide(&d, MS).due_ns[0], 12 * MS);
	assert_int_equal(decide(&d, MS).due_ns[0], 13 * MS);
	assert_int_equal(decide(&d, MS).copies, 0);
	assert_int_equal(decide(&d, 2 * MS).due_ns[0], 14 * MS);
	assert_int_equal(d.n.tail, 1);
	assert_int_equal(decide(&d, 90 * MS).due_ns[0], 101 * MS);
}

/* Jitter keeps the order; a reordered frame is late, and those behind it are not. */
static void test_order(void **state)
{
	struct netem_conf c = {.seed = 1, .jitter_ns = MS};
	struct netem_direction d;
	uint64_t last = 0;
	unsigned overtaken = 0;

	(void)state;
	netem_direction_init(&d, &c, NETEM_A);
	for (unsigned i = 0; i < 1000; i++) {
		uint64_t due = decide(&d, i * 1000).due_ns[0];

		assert_true(due >= last && due >= i * 1000 && due <= i * 1000 + MS);
		last = due;
	}
	c = (struct netem_conf){.seed = 1, .reorder = 0.1, .reorder_ns = MS};
	netem_direction_init(&d, &c, NETEM_A);
	for (unsigned i = 0; i < 1000; i++) {
		uint64_t due = decide(&d, i * 1000).due_ns[0];

		overtaken += due > (i + 1) * 1000;
	}
	assert_in_range(overtaken, 50, 150);
	assert_true(overtaken <= d.n.reorder);
}

static void test_line(void **state)
{
	struct netem_entry heap[64], e;
	struct netem_line l = {.heap = heap, .max = 64};
	uint64_t last = 0, serial = 0;

	(void)state;
	for (uint32_t i = 0; i < 64; i++)
		assert_true(netem_line_push(&l, 100 + i * 37 % 16, i, 60));
	assert_false(netem_line_push(&l, 1, 64, 60));
	assert_false(netem_line_pop(&l, 99, &e));
	for (uint32_t i = 0; i < 64; i++) {
		assert_true(netem_line_pop(&l, 200, &e));
		assert_true(e.due_ns > last || (e.due_ns == last && e.serial > serial));
		assert_int_equal(e.due_ns, 100 + e.slot * 37 % 16);
		last = e.due_ns;
		serial = e.serial;
	}
	assert_false(netem_line_pop(&l, UINT64_MAX, &e));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_seed),           cmocka_unit_test(test_time_changes_no_fate),
		cmocka_unit_test(test_rates),          cmocka_unit_test(test_bursts),
		cmocka_unit_test(test_named),          cmocka_unit_test(test_arp_passes),
		cmocka_unit_test(test_rate_and_queue), cmocka_unit_test(test_order),
		cmocka_unit_test(test_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
