/* SPDX-License-Identifier: BSD-3-Clause */
/* RACK: pool and wheel, the reorder window and what widens it, and what happens without an element.
 * Whole exchanges are wire scripts (rack_*). */
/* LINK: tests/unit/proto_rig.h */
#include "proto_rig.h"

static struct toe_rack_pool pool;

/* segs segments sent at one time, the pool has n elements. */
static void start_segs(struct rig *r, unsigned n, unsigned segs)
{
	struct toe_cmd_install *in = rig_prepare(r);

	toe_rack_pool_fini(&pool);
	assert_true(toe_rack_pool_init(&pool, n > 0 ? n : 1));
	if (n == 0)
		assert_non_null(toe_rack_take(&pool, 9, 9));
	r->racks = &pool;
	in->flags = TOE_INSTALL_SACK;
	in->srtt_us = 10000;
	in->cwnd = in->ssthresh = segs * RIG_MSS;
	rig_start(r);
	rig_write(r, RIG_BUF);
	assert_int_equal(rig_drain(r), segs * RIG_MSS);
}

static void start(struct rig *r, unsigned n)
{
	start_segs(r, n, 10);
}

/* One block, us later. */
static void sack(struct rig *r, uint32_t us, uint32_t ack, uint32_t left, uint32_t right)
{
	r->now.us += us;
	r->now.ms = (uint32_t)(r->now.us / 1000);
	rig_sack(r, ack, left, right);
}

/* us until the reorder timer goes off; then recovery has begun. */
static uint32_t until_lost(struct rig *r)
{
	uint64_t began = r->now.us;
	struct toe_rack *e;

	assert_false(r->fp.flags & TOE_FP_RECOVERY);
	while ((e = toe_rack_timer_next(&pool, r->now.us)) == NULL) {
		assert_true(r->now.us < began + 1000000);
		r->now.us += 10;
	}
	assert_int_equal(e->slot, TOE_RACK_NONE);
	rig_begin(r);
	proto_rack_timeout(&r->fp, &r->now, &r->out);
	assert_true(r->fp.flags & TOE_FP_RECOVERY);
	assert_true(r->out.todo & TOE_TODO_SCHED);
	return (uint32_t)(r->now.us - began);
}

static void test_wheel(void **state)
{
	static const uint32_t due[] = {5000000, 700, 90, 12000, 0, 8192};
	struct toe_rack *e[6];
	uint64_t now = 123456, last = 0;
	unsigned seen = 0;

	(void)state;
	toe_rack_pool_fini(&pool);
	assert_true(toe_rack_pool_init(&pool, 6));
	assert_true(toe_rack_timer_due(&pool) == UINT64_MAX);
	for (unsigned i = 0; i < 6; i++) {
		e[i] = toe_rack_take(&pool, i, 1);
		assert_non_null(e[i]);
		toe_rack_timer_start(&pool, e[i], now, now + due[i]);
	}
	assert_null(toe_rack_take(&pool, 7, 1));
	toe_rack_timer_stop(&pool, e[3]);
	for (uint64_t end = now + 6000000; now < end; now += 50) {
		struct toe_rack *r;

		while ((r = toe_rack_timer_next(&pool, now)) != NULL) {
			assert_true(now >= r->due_us && r->due_us >= last);
			assert_true(now < r->due_us + 2 * TOE_RACK_TICK_US + 50);
			assert_ptr_not_equal(r, e[3]);
			last = r->due_us;
			seen++;
		}
		if (seen < 5)
			assert_true(toe_rack_timer_due(&pool) <= now + 64 * TOE_RACK_TICK_US);
	}
	assert_int_equal(seen, 5);
	toe_rack_give(&pool, e[3]);
	assert_ptr_equal(toe_rack_take(&pool, 7, 1), e[3]);
}

static void test_window(void **state)
{
	struct rig r;

	(void)state;
	start(&r, 1); /* one SACKed segment: a quarter of the round trip */
	sack(&r, 8000, 0, 1000, 2000);
	assert_in_range(until_lost(&r), 2000, 2300);

	start(&r, 1); /* three: at once */
	sack(&r, 8000, 0, 1000, 4000);
	assert_true(r.fp.flags & TOE_FP_RECOVERY);
	assert_int_equal(pool.timers, 0);

	start(&r, 1); /* what was late has arrived in the meantime */
	sack(&r, 8000, 0, 1000, 2000);
	rig_ack(&r, 2000);
	assert_int_equal(pool.timers, 0);
	rig_drain(&r);
	sack(&r, 1000, 2000, 3000, 9000);
	assert_in_range(until_lost(&r), 2000, 2300);
}

/* RFC 8985 §6.2 step 4: each round trip with a D-SACK widens the window by a quarter. */
static void test_dsack_widens(void **state)
{
	struct rig r;

	(void)state;
	start(&r, 1);
	rig_later(&r, 8);
	rig_ack(&r, 1000);
	rig_drain(&r);
	sack(&r, 0, 1000, 0, 1000); /* D-SACK */
	sack(&r, 0, 1000, 0, 1000); /* the same round trip */
	sack(&r, 0, 1000, 2000, 9000);
	assert_in_range(until_lost(&r), 4000, 4300);
	assert_int_equal(pool.e[0].persist, 16);
	rig_drain(&r);
	for (unsigned i = 0; i < 16; i++) { /* recoveries later it is forgotten */
		rig_begin(&r);
		proto_rack_recovery(&r.fp, false, &r.out);
	}
	assert_int_equal(pool.e[0].mult, 1);
}

/* RFC 9937: what recovery sends is the share of what arrives, from the first ACK on, and in the
 * round trip of recovery no more than ssthresh. */
static void test_prr(void **state)
{
	uint32_t sent = 0;
	struct rig r;

	(void)state;
	start_segs(&r, 1, 14);
	sack(&r, 8000, 0, 1000, 4000);
	assert_int_equal(r.fp.ssthresh, 9800); /* RFC 9438: 0.7 */
	assert_int_equal(rig_drain(&r), 2000); /* 3 of 11 have arrived: 2.6 may go */
	sack(&r, 0, 0, 1000, 5000);
	assert_int_equal(rig_drain(&r), 1384); /* 3.5, and no more is in the buffer */
	for (unsigned i = 6; i <= 14; i++) {
		sack(&r, 0, 0, 1000, i * 1000);
		sent += rig_drain(&r);
	}
	assert_int_equal(sent, 0);
	assert_true(r.fp.cwnd <= 9800);
	rig_ack(&r, 14000);
	assert_false(r.fp.flags & TOE_FP_RECOVERY);
	assert_int_equal(r.fp.cwnd, 9800);
}

/* A peer that takes back what it has SACKed, and tells of it again a byte further on: the same
 * bytes do not arrive twice, and it is no reason to send more. */
static void test_prr_reneging(void **state)
{
	static struct rig r;
	uint32_t sent = 0;

	(void)state;
	rig_prepare_bulk(&r);
	toe_rack_pool_fini(&pool);
	assert_true(toe_rack_pool_init(&pool, 1));
	r.racks = &pool;
	rig_start(&r);
	rig_write(&r, 2000000);
	assert_int_equal(rig_drain(&r), 100000);
	for (uint32_t i = 0; i < 60; i++) {
		sack(&r, i == 0 ? 1000 : 0, i, i + 1, 20000);
		assert_true(r.fp.flags & TOE_FP_RECOVERY);
		sent += rig_drain(&r);
		assert_in_range(r.fp.cwnd, RIG_MSS, 100000);
		rig_ack(&r, i + 1);
	}
	assert_in_range(sent, 1000, 100000);
}

static void test_pool_is_empty(void **state)
{
	struct rig r;

	(void)state;
	start(&r, 0);
	assert_int_equal(r.fp.rack, 0);
	rig_ack(&r, 1000);
	rig_tx(&r);
	assert_true(r.out.counted & 1ull << TOE_C_RACK_NONE);
	sack(&r, 8000, 1000, 2000, 3000);
	assert_false(r.fp.flags & TOE_FP_RECOVERY);
	assert_int_equal(pool.timers, 0);
	sack(&r, 0, 1000, 2000, 5000); /* RFC 6675 */
	assert_true(r.fp.flags & TOE_FP_RECOVERY);
}

static void test_element_is_given_back(void **state)
{
	struct rig r;

	(void)state;
	start(&r, 1);
	assert_int_equal(r.fp.rack, 1);
	assert_int_equal(pool.free, TOE_RACK_NONE);
	rig_later(&r, 8);
	rig_ack(&r, 10000);
	assert_int_equal(r.fp.rack, 0);
	assert_int_equal(pool.free, 0);
	rig_tx(&r); /* alone in flight: not worth one */
	assert_int_equal(r.fp.rack, 0);
	rig_tx(&r);
	assert_int_equal(r.fp.rack, 1);
	rig_cmd(&r, TOE_CMD_REMOVE);
	assert_int_equal(pool.free, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_wheel),
		cmocka_unit_test(test_window),
		cmocka_unit_test(test_dsack_widens),
		cmocka_unit_test(test_prr),
		cmocka_unit_test(test_prr_reneging),
		cmocka_unit_test(test_pool_is_empty),
		cmocka_unit_test(test_element_is_given_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
