/* SPDX-License-Identifier: BSD-3-Clause */
/* CUBIC (RFC 9438) against its formulas in floating point: the cubic function, the Reno-friendly
 * region, what a loss does, and that no window and no time makes it overflow. */
/* LINK: tests/unit/proto_rig.h */
#include "proto_rig.h"

#include <math.h>

#define MSS 1448u

static struct toe_rack_pool pool;

struct flow {
	struct toe_flow_proto fp;
	struct toe_snap snap;
	struct proto_out out;
	struct toe_cubic *c;
};

static void start(struct flow *f, uint32_t segs, uint32_t srtt_us)
{
	memset(f, 0, sizeof(*f));
	toe_rack_pool_fini(&pool);
	assert_true(toe_rack_pool_init(&pool, 1));
	proto_out_init(&f->out, &f->snap);
	f->out.racks = &pool;
	f->out.now_ms = UINT32_MAX - 1000; /* goes round */
	f->fp.rack = 1;
	f->fp.mss = MSS;
	f->fp.cwnd = segs * MSS;
	f->fp.ssthresh = PROTO_CWND_MAX;
	f->fp.srtt_us = srtt_us;
	f->c = &toe_rack_take(&pool, 0, 0)->cubic;
}

static void lose(struct flow *f)
{
	f->fp.cwnd = f->fp.ssthresh = proto_cubic_reduce(&f->fp, f->fp.cwnd, &f->out);
}

/* ms milliseconds, with acknowledgements for all that a full window sends in that time. */
static void go_on(struct flow *f, uint32_t ms)
{
	uint64_t owed = 0; /* bytes / srtt_us */

	for (uint32_t i = 0; i < ms; i++) {
		f->out.now_ms++;
		owed += f->fp.cwnd * 1000ull;
		while (owed >= (uint64_t)MSS * f->fp.srtt_us) {
			uint32_t add;

			assert_true(proto_cubic_grow(&f->fp, MSS, &f->out, &add));
			f->fp.cwnd += add;
			owed -= (uint64_t)MSS * f->fp.srtt_us;
		}
	}
}

/* RFC 9438 fig. 1 and 2, segments and seconds; one round trip later, as that is what cwnd aims at.
 */
static double formula(double w_max, double begin, double t)
{
	double k = cbrt((w_max - begin) / 0.4);

	return 0.4 * (t - k) * (t - k) * (t - k) + w_max;
}

static void test_function(void **state)
{
	struct flow f;

	(void)state;
	start(&f, 1000, 100000);
	lose(&f);
	assert_in_range(f.fp.cwnd, 700 * MSS - 1, 700 * MSS);
	for (unsigned s = 1; s <= 20; s++) { /* concave until K = 9.1 s, then convex */
		double want;

		go_on(&f, 1000);
		want = formula(1000, 700, s + 0.05);
		if (fabs(f.fp.cwnd - want * MSS) > 0.02 * want * MSS)
			fail_msg("after %u s: cwnd is %.1f segments, expected %.1f", s,
				 (double)f.fp.cwnd / MSS, want);
	}
}

/* Figure 4: 9/17 of a segment for each window until cwnd is what it was, then a whole one. */
static void test_reno_friendly(void **state)
{
	struct flow f;
	uint32_t began;

	(void)state;
	start(&f, 40, 2000);
	lose(&f);
	began = f.fp.cwnd;
	go_on(&f, 20); /* 10 round trips */
	assert_in_range(f.fp.cwnd - began, MSS * 47 / 10, MSS * 58 / 10);
	go_on(&f, 60);
	assert_true(f.fp.cwnd > 40 * MSS);
	began = f.fp.cwnd;
	go_on(&f, 20);
	assert_in_range(f.fp.cwnd - began, MSS * 90 / 10, MSS * 104 / 10);
}

/* Sections 4.6 to 4.8. */
static void test_losses(void **state)
{
	struct flow f;

	(void)state;
	start(&f, 100, 2000);
	lose(&f);
	assert_int_equal(f.c->w_max, 100 * MSS);
	assert_int_equal(f.c->cwnd_prior, 100 * MSS);
	go_on(&f, 10);
	lose(&f); /* before it was there again: others want a share */
	assert_true(f.c->w_max < f.c->cwnd_prior);
	assert_in_range(f.c->w_max, f.c->cwnd_prior * 0.84, f.c->cwnd_prior * 0.86);
	proto_cubic_timeout(&f.fp, &f.out);
	go_on(&f, 1);
	assert_int_equal(f.c->k_ms, 0);
}

/* With ECN windows are DCTCP's, and without an element nothing is known. */
static void test_not_used(void **state)
{
	struct flow f;
	uint32_t add;

	(void)state;
	start(&f, 100, 2000);
	f.fp.flags |= TOE_FP_ECN;
	assert_int_equal(proto_cubic_reduce(&f.fp, 1000, &f.out), 500);
	assert_false(proto_cubic_grow(&f.fp, MSS, &f.out, &add));
	f.fp.flags &= ~TOE_FP_ECN;
	f.fp.rack = 0;
	assert_int_equal(proto_cubic_reduce(&f.fp, 1000, &f.out), 500);
	assert_false(proto_cubic_grow(&f.fp, MSS, &f.out, &add));
}

/* All was acknowledged for a moment, so its element has gone: it goes on as before. */
static void test_recall(void **state)
{
	struct flow f;
	uint32_t before;

	(void)state;
	start(&f, 1000, 100000);
	lose(&f);
	go_on(&f, 3000);
	before = f.fp.cwnd;
	memset(f.c, 0, sizeof(*f.c));
	proto_cubic_recall(&f.fp, &f.out);
	assert_in_range(f.c->w_max, 1000 * MSS - 10, 1000 * MSS + 10);
	assert_int_equal(f.c->w_max, f.c->cwnd_prior);
	go_on(&f, 1000);
	assert_true(f.fp.cwnd > before);
	assert_in_range(f.fp.cwnd, formula(1000, 700, 4) * MSS * 0.98,
			formula(1000, 700, 4.1) * MSS * 1.02);

	memset(f.c, 0, sizeof(*f.c));
	f.fp.ssthresh = PROTO_CWND_MAX; /* no loss yet */
	proto_cubic_recall(&f.fp, &f.out);
	assert_int_equal(f.c->w_max, 0);
}

/* Time that cwnd was not the limit in does not count. */
static void test_pause(void **state)
{
	struct flow f;
	uint32_t before;

	(void)state;
	start(&f, 1000, 100000);
	lose(&f);
	go_on(&f, 2000);
	before = f.fp.cwnd;
	proto_cubic_pause(&f.fp, &f.out);
	f.out.now_ms += 20000;
	go_on(&f, 100);
	assert_in_range(f.fp.cwnd, before, before + before / 20);
}

static void test_extremes(void **state)
{
	static const uint16_t mss[] = {48, 536, 1448, 8948, 65495};
	uint32_t seed = 1;
	struct flow f;

	(void)state;
	start(&f, 10, 2000);
	for (unsigned i = 0; i < 200000; i++) {
		uint32_t add, cwnd;

		f.fp.mss = mss[rig_rand(&seed) % 5];
		f.fp.srtt_us = rig_rand(&seed) >> (rig_rand(&seed) % 32);
		f.out.now_ms += rig_rand(&seed) >> (rig_rand(&seed) % 32);
		cwnd = proto_min(rig_rand(&seed) >> (rig_rand(&seed) % 32), PROTO_CWND_MAX);
		f.fp.cwnd = proto_max(cwnd, f.fp.mss);
		if (i % 16 == 0)
			lose(&f);
		f.fp.cwnd = proto_max(f.fp.cwnd, f.fp.mss);
		assert_true(proto_cubic_grow(&f.fp, rig_rand(&seed), &f.out, &add));
		assert_true(add <= PROTO_CWND_MAX);
		if (i % 16 == 0) /* begins where it is: (t - K)³ is exact to a millisecond */
			assert_in_range(add, 0, proto_max(f.fp.cwnd / 2, f.fp.mss));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_function), cmocka_unit_test(test_reno_friendly),
		cmocka_unit_test(test_losses),   cmocka_unit_test(test_not_used),
		cmocka_unit_test(test_recall),   cmocka_unit_test(test_pause),
		cmocka_unit_test(test_extremes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
