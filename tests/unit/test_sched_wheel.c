// SPDX-License-Identifier: BSD-3-Clause
/* LINK: datapath/sched_wheel.c */
/* Carousel wheel and round robin in virtual time: accuracy, fairness, wrap, far slots, rate
 * changes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sched_wheel.h"
#include "toe/cpq.h"
#include "toe/region.h"

#define HZ     2600000000ull
#define FLOW_N 2048u
#define MBIT   1000000ull

static struct toe_flow_sched flows[FLOW_N];
static struct toe_wheel wheel;
static uint64_t bytes_of[FLOW_N];

static void start(uint64_t now)
{
	memset(bytes_of, 0, sizeof(bytes_of));
	toe_wheel_init(&wheel, flows, FLOW_N, HZ, now);
}

static void add(uint32_t conn, uint64_t rate, uint32_t sendable, uint64_t now)
{
	toe_wheel_add(&wheel, conn, 1, 1448);
	toe_wheel_rate(&wheel, conn, rate, now);
	toe_wheel_sendable(&wheel, conn, sendable, now);
}

/* One segment goes out and comes back at once: the flow always has sendable bytes. */
static uint32_t serve(uint64_t now, uint32_t sendable)
{
	uint32_t conn = toe_wheel_next(&wheel, now);

	if (conn == TOE_NONE)
		return conn;
	assert_true(flows[conn].inflight > 0);
	bytes_of[conn] += flows[conn].mss;
	flows[conn].inflight--;
	toe_wheel_sendable(&wheel, conn, sendable, now);
	return conn;
}

/* Runs from *now for ticks, looking every step ticks, at most per_step segments each time. */
static void run(uint64_t *now, uint64_t ticks, uint64_t step, unsigned per_step)
{
	uint64_t end = *now + ticks;

	for (; *now < end; *now += step) {
		unsigned n;

		for (n = 0; n < per_step && serve(*now, 1u << 20) != TOE_NONE; n++)
			;
	}
}

static void check_rate(uint32_t conn, uint64_t rate, double seconds)
{
	double want = (double)rate / 8 * seconds;

	assert_true((double)bytes_of[conn] > want * 0.95);
	assert_true((double)bytes_of[conn] < want * 1.05);
}

static void rate_test(uint64_t rate, unsigned mss, uint64_t ticks, uint64_t step)
{
	uint64_t now = 987654321987ull;

	start(now);
	add(3, rate, 1u << 20, now);
	flows[3].mss = (uint16_t)mss;
	run(&now, ticks, step, 1000);
	check_rate(3, rate, (double)ticks / (double)HZ);
}

static void test_rate_accuracy(void **state)
{
	(void)state;
	rate_test(MBIT, 1448, 4 * HZ, HZ / 100000); /* a look every 10 us */
	rate_test(MBIT, 9000, 10 * HZ, HZ / 10000); /* 72 ms between segments */
	rate_test(10 * MBIT, 1448, HZ, HZ / 100000);
	rate_test(1000 * MBIT, 1448, HZ / 5, HZ / 1000000);
	rate_test(1000 * MBIT, 1448, HZ / 5,
		  HZ / 33000); /* 30 us: several segments late each time */
	rate_test(20 * 1000 * MBIT, 1448, HZ / 50, HZ / 1000000);
	rate_test(8000, 1448, 60 * HZ, HZ / 1000); /* beyond the far level: 1.4 s per segment */
}

static void check_pack(uint64_t rate)
{
	uint64_t kept = toe_rate_unpack(toe_rate_pack(rate));

	assert_true(toe_rate_pack(rate) < TOE_RATE_PACKED_UNPACED);
	assert_true(kept <= rate && rate - kept <= rate >> 15);
	assert_true(rate > UINT16_MAX || kept == rate);
	assert_true(rate == 0 || kept != 0); /* slow is not stopped */
	if (rate != 0)
		assert_true(kept >= toe_rate_unpack(toe_rate_pack(rate - 1)));
}

static void test_rate_pack(void **state)
{
	(void)state;
	for (uint64_t rate = 0; rate <= 1u << 20; rate++)
		check_pack(rate);
	for (unsigned shift = 20; shift < 64; shift++) {
		uint64_t base = UINT64_C(1) << shift;

		for (uint64_t k = 0; k < 4096; k++) {
			check_pack(base + k * (base / 4096));
			check_pack(base - 1 + k * (base / 4096));
		}
	}
	check_pack(UINT64_MAX - 1);
	assert_int_equal(toe_rate_pack(0), 0);
	assert_int_equal(toe_rate_pack(TOE_RATE_UNPACED), TOE_RATE_PACKED_UNPACED);
	start(HZ);
	toe_wheel_add(&wheel, 1, 1, 1448);
	toe_wheel_rate(&wheel, 1, UINT64_MAX - 1, HZ);
	toe_wheel_sendable(&wheel, 1, 1448, HZ);
	assert_int_equal(wheel.paced, 1); /* as fast as can be, but not a bypass */
}

/* An idle flow must not save up a burst. */
static void test_no_burst_after_idle(void **state)
{
	uint64_t now = 5 * HZ;
	unsigned n;

	(void)state;
	start(now);
	add(1, 10 * MBIT, 1u << 20, now);
	run(&now, HZ / 10, HZ / 100000, 100);
	toe_wheel_sendable(&wheel, 1, 0, now);
	assert_false(flows[1].queued);
	now += 10 * HZ;
	toe_wheel_sendable(&wheel, 1, 1u << 20, now);
	for (n = 0; serve(now, 1u << 20) != TOE_NONE; n++)
		assert_true(n < 3);
}

static void test_deadline_steps(void **state)
{
	uint64_t now = 77 * HZ, rate = MBIT, deadline;
	unsigned i, hits = 0;

	(void)state;
	start(now);
	assert_true(toe_wheel_deadline(&wheel, now) == UINT64_MAX);
	add(9, rate, 1u << 20, now);
	assert_true(toe_wheel_deadline(&wheel, now) <= now);
	/* sleeping from deadline to deadline gives the same rate: no busy looks are needed */
	for (i = 0; i < 500; i++) {
		deadline = toe_wheel_deadline(&wheel, now);
		assert_true(deadline != UINT64_MAX);
		if (deadline > now)
			now = deadline;
		if (serve(now, 1u << 20) != TOE_NONE)
			hits++;
	}
	assert_true(hits >= 200); /* the others: a far slot began */
	check_rate(9, rate, (double)(now - 77 * HZ) / (double)HZ);
}

static void test_many_in_one_slot(void **state)
{
	uint64_t now = 3 * HZ;
	uint32_t i;

	(void)state;
	start(now);
	for (i = 0; i < 1500; i++)
		add(i, 10 * MBIT, 1448, now);
	/* all are due; budget of 100 per look, time goes on: the slot drains before the wheel does
	 */
	for (i = 0; i < 15; i++, now += HZ / 1000) {
		for (unsigned n = 0; n < 100; n++) {
			uint32_t conn = toe_wheel_next(&wheel, now);

			assert_int_equal(conn, i * 100 + n); /* in order of arrival */
			assert_false(flows[conn].queued);
		}
	}
	assert_int_equal(toe_wheel_next(&wheel, now), TOE_NONE);
	assert_int_equal(wheel.paced, 0);
}

/* More flows than can be served: all get their turn, the fast ones do not keep the wheel. */
static void test_overload_no_starvation(void **state)
{
	uint64_t now = HZ;
	uint32_t i;

	(void)state;
	start(now);
	for (i = 0; i < 600; i++)
		add(i, i < 10 ? 5000 * MBIT : MBIT, 1u << 20, now);
	run(&now, HZ, HZ / 10000, 12); /* 120 000 segments/s; the slow ones alone need 51 000 */
	for (i = 10; i < 600; i++)
		check_rate(i, MBIT, 1.0);
	for (i = 0; i < 10; i++)
		assert_true(bytes_of[i] > 1000 * 1448);
}

static void test_wrap_and_gap(void **state)
{
	uint64_t now = (UINT64_C(1) << 40) - 12345;
	uint32_t i;

	(void)state;
	start(now);
	for (i = 0; i < 100; i++)
		add(i, (1 + i) * MBIT, 1u << 20, now);
	run(&now, 3 * HZ, HZ / 20000, 100000); /* the far level goes round several times */
	for (i = 0; i < 100; i++)
		check_rate(i, (1 + i) * MBIT, 3.0);
	/* a day without a look: nothing is lost, and no loop over the slots in between */
	now += 86400 * HZ;
	for (i = 0; i < 100; i++)
		assert_int_not_equal(serve(now, 0), TOE_NONE);
	assert_int_equal(wheel.paced, 0);
	assert_true(toe_wheel_deadline(&wheel, now) == UINT64_MAX);
}

static void test_rate_change(void **state)
{
	uint64_t now = HZ;

	(void)state;
	start(now);
	add(1, 8000, 1u << 20, now); /* next segment 1.4 s away */
	run(&now, HZ / 100, HZ / 100000, 10);
	toe_wheel_rate(&wheel, 1, 100 * MBIT, now);
	memset(bytes_of, 0, sizeof(bytes_of));
	run(&now, HZ / 10, HZ / 100000, 100);
	check_rate(1, 100 * MBIT, 0.1);
	toe_wheel_rate(&wheel, 1, 0, now); /* stopped, not unlimited */
	assert_false(flows[1].queued);
	toe_wheel_sendable(&wheel, 1, 1u << 20, now);
	assert_int_equal(toe_wheel_next(&wheel, now + HZ), TOE_NONE);
	toe_wheel_rate(&wheel, 1, TOE_RATE_UNPACED, now);
	assert_int_equal(toe_wheel_next(&wheel, now), 1);
	toe_wheel_rate(&wheel, 1, MBIT, now);
	memset(bytes_of, 0, sizeof(bytes_of));
	run(&now, 3 * HZ, HZ / 10000, 100);
	check_rate(1, MBIT, 3.0);
}

static void test_round_robin(void **state)
{
	uint64_t now = HZ;
	uint32_t i, last = TOE_NONE, turn = 0;

	(void)state;
	start(now);
	for (i = 0; i < 5; i++)
		add(i, TOE_RATE_UNPACED, 1u << 20, now);
	for (i = 0; i < 5 * TOE_SCHED_QUANTUM * 10; i++) {
		uint32_t conn = serve(now, 1u << 20);

		if (conn != last) {
			assert_true(last == TOE_NONE || turn == TOE_SCHED_QUANTUM);
			turn = 0;
			last = conn;
		}
		turn++;
	}
	for (i = 0; i < 5; i++)
		assert_int_equal(bytes_of[i], TOE_SCHED_QUANTUM * 10 * 1448);
}

static void test_segments_of_sendable(void **state)
{
	uint64_t now = HZ;
	unsigned n;

	(void)state;
	start(now);
	add(7, TOE_RATE_UNPACED, 3 * 1448 + 1, now);
	for (n = 0; toe_wheel_next(&wheel, now) == 7; n++)
		;
	assert_int_equal(n, 4); /* ceil */
	assert_int_equal(flows[7].inflight, 4);
	/* proto's absolute did not change: nothing more to give while they are under way */
	toe_wheel_sendable(&wheel, 7, 3 * 1448 + 1, now);
	assert_int_equal(toe_wheel_next(&wheel, now), TOE_NONE);
	flows[7].inflight--; /* one came back with 3 MSS + 1 left at its time */
	toe_wheel_sendable(&wheel, 7, 3 * 1448 + 1, now);
	assert_int_equal(toe_wheel_next(&wheel, now), 7);
	assert_int_equal(toe_wheel_next(&wheel, now), TOE_NONE);
}

static void test_wheel_and_rr_share(void **state)
{
	uint64_t now = HZ;
	unsigned i;

	(void)state;
	start(now);
	add(0, TOE_RATE_UNPACED, 1u << 20, now);
	add(1, 100 * 1000 * MBIT, 1u << 20, now); /* always due */
	for (i = 0; i < 1000; i++, now += HZ / 1000000)
		serve(now, 1u << 20);
	assert_true(bytes_of[0] > 400 * 1448 && bytes_of[1] > 400 * 1448);
}

static void test_remove(void **state)
{
	uint64_t now = HZ;
	uint32_t i;

	(void)state;
	start(now);
	for (i = 0; i < 30; i++)
		add(i, i % 3 == 0 ? TOE_RATE_UNPACED : i % 3 == 1 ? MBIT : 1000, 1448, now);
	for (i = 0; i < 30; i += 2)
		toe_wheel_remove(&wheel, i);
	for (i = 0; i < 30; i += 2) {
		toe_wheel_sendable(&wheel, i, 1448, now);
		assert_false(flows[i].queued);
	}
	for (i = 0; i < 15; i++)
		assert_int_equal(toe_wheel_next(&wheel, now) % 2, 1);
	assert_int_equal(toe_wheel_next(&wheel, now), TOE_NONE);
	add(0, TOE_RATE_UNPACED, 1, now); /* the id is used again */
	assert_int_equal(toe_wheel_next(&wheel, now), 0);
}

/* Random operations against a plain model: every flow that may send is queued exactly once. */
static void test_random_operations(void **state)
{
	static const uint64_t rates[] = {0, 1000, MBIT, 50 * MBIT, 9000 * MBIT, TOE_RATE_UNPACED};
	uint64_t now = HZ;
	uint32_t i, k, listed;

	(void)state;
	srand(4711);
	start(now);
	for (i = 0; i < 200; i++)
		toe_wheel_add(&wheel, i, 1, 1448);
	for (k = 0; k < 200000; k++) {
		uint32_t conn = (uint32_t)rand() % 200;

		switch (rand() % 4) {
		case 0:
			toe_wheel_rate(&wheel, conn, rates[rand() % 6], now);
			break;
		case 1:
			toe_wheel_sendable(&wheel, conn, (uint32_t)rand() % 20000, now);
			break;
		case 2:
			serve(now, (uint32_t)rand() % 20000);
			break;
		default:
			now += (uint64_t)rand() % (HZ / (rand() % 8 == 0 ? 10 : 100000));
			break;
		}
	}
	for (i = 0, listed = 0; i < TOE_WHEEL_LISTS; i++)
		for (uint32_t c = wheel.head[i]; c != TOE_NONE; c = flows[c].next, listed++)
			assert_true(flows[c].queued && flows[c].list == i);
	for (i = 0; i < 200; i++) {
		assert_int_equal(flows[i].queued, flows[i].avail != 0 && flows[i].rate != 0);
		listed -= flows[i].queued;
	}
	assert_int_equal(listed, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rate_accuracy),
		cmocka_unit_test(test_rate_pack),
		cmocka_unit_test(test_no_burst_after_idle),
		cmocka_unit_test(test_deadline_steps),
		cmocka_unit_test(test_many_in_one_slot),
		cmocka_unit_test(test_overload_no_starvation),
		cmocka_unit_test(test_wrap_and_gap),
		cmocka_unit_test(test_rate_change),
		cmocka_unit_test(test_round_robin),
		cmocka_unit_test(test_segments_of_sendable),
		cmocka_unit_test(test_wheel_and_rr_share),
		cmocka_unit_test(test_remove),
		cmocka_unit_test(test_random_operations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
