/* SPDX-License-Identifier: BSD-3-Clause */
/* DCTCP on samples: slow start, increase, alpha and its decay, reduction once per window, loss. */
/* LINK: controlplane/cc.c controlplane/cc_dctcp.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "controlplane/cc.h"
#include "toe/cpq.h"

#define MSS 1448u

static struct cc_sample sample(uint32_t una, uint32_t acked, uint32_t ecn)
{
	return (struct cc_sample){
		.acked_bytes = acked,
		.ecn_bytes = ecn,
		.snd_una = una,
		.snd_nxt = una + 100000,
		.mss = MSS,
		.cwnd = 100 * MSS,
		.ssthresh = 100 * MSS,
	};
}

static void initial_window(void **state)
{
	struct cc_state s;

	(void)state;
	cc_dctcp.init(&s, MSS, 0);
	assert_int_equal(s.cwnd, 10 * MSS);
	assert_int_equal(cc_initial_window(8948), 2 * 8948);
	assert_ptr_equal(cc_find("dctcp"), &cc_dctcp);
	assert_null(cc_find("bbr9"));
}

static void growth_is_adopted(void **state)
{
	struct cc_sample in = sample(1000, 1000000, 0);
	struct cc_decision d;
	struct cc_state s;

	(void)state;
	cc_dctcp.init(&s, MSS, 0);
	in.cwnd = 20 * MSS;
	in.ssthresh = 30 * MSS;
	cc_dctcp.on_interval(&s, &in, &d);
	assert_int_equal(d.cwnd, 20 * MSS);
	assert_int_equal(d.ssthresh, 30 * MSS);
	assert_true(d.rate_bps == TOE_RATE_UNPACED);
}

static void alpha_follows_marks_and_decays_to_zero(void **state)
{
	struct cc_decision d;
	struct cc_state s;
	uint32_t una = 0;

	(void)state;
	cc_dctcp.init(&s, MSS, 0);
	for (int i = 0; i < 200; i++) {
		struct cc_sample in = sample(una += 200000, 10000, 2500);

		cc_dctcp.on_interval(&s, &in, &d);
	}
	assert_true(s.alpha > CC_ALPHA_ONE / 4 - CC_ALPHA_ONE / 100);
	assert_true(s.alpha < CC_ALPHA_ONE / 4 + CC_ALPHA_ONE / 100);
	for (int i = 0; i < 1000; i++) {
		struct cc_sample in = sample(una += 200000, 10000, 0);

		cc_dctcp.on_interval(&s, &in, &d);
	}
	assert_int_equal(s.alpha, 0);
}

static void reduction_once_per_window(void **state)
{
	struct cc_decision d;
	struct cc_state s;
	struct cc_sample in;

	(void)state;
	cc_dctcp.init(&s, MSS, 0);
	s.alpha = CC_ALPHA_ONE / 2;
	s.window_end = 50000;
	in = sample(10000, 10000, 10000);
	cc_dctcp.on_interval(&s, &in, &d);
	assert_int_equal(d.cwnd, 100 * MSS); /* the window goes on */
	in = sample(50001, 40001, 40001);
	cc_dctcp.on_interval(&s, &in, &d);
	/* alpha = 1/2 + 1/16 - 1/32, cut by half of it */
	assert_in_range(d.cwnd, 100 * MSS * 73 / 100, 100 * MSS * 74 / 100);
	assert_int_equal(d.ssthresh, d.cwnd);
	in = sample(50002, 1, 1);
	in.cwnd = in.ssthresh = d.cwnd;
	cc_dctcp.on_interval(&s, &in, &d);
	assert_in_range(d.cwnd, 100 * MSS * 73 / 100, 100 * MSS * 74 / 100);
}

static void marks_without_end_leave_two_segments(void **state)
{
	struct cc_decision d;
	struct cc_state s;
	uint32_t una = 0;

	(void)state;
	cc_dctcp.init(&s, MSS, 0);
	for (int i = 0; i < 200; i++) {
		struct cc_sample in = sample(una += 200000, 10000, 10000);

		in.cwnd = s.cwnd;
		cc_dctcp.on_interval(&s, &in, &d);
	}
	assert_int_equal(d.cwnd, 2 * MSS);
}

/* What is marked in the window after a reduction, or a loss, had been sent before it. */
static void older_data_does_not_reduce_again(void **state)
{
	static const uint32_t want[] = {50, 50, 25, 25}; /* segments; alpha stays 1 */
	struct cc_decision d = {.cwnd = 100 * MSS};
	struct cc_state s;
	struct cc_sample in;

	(void)state;
	cc_dctcp.init(&s, MSS, 0);
	for (uint32_t i = 0; i < 4; i++) {
		in = sample(200000 * (i + 1), 10000, 10000);
		in.cwnd = in.ssthresh = d.cwnd;
		in.srtt_us = in.dt_us = 10000;
		cc_dctcp.on_interval(&s, &in, &d);
		assert_int_equal(d.cwnd, want[i] * MSS);
		assert_int_equal(s.alpha, CC_ALPHA_ONE);
	}
	in = sample(1200000, 10000, 0);
	in.loss = true;
	cc_dctcp.on_interval(&s, &in, &d);
	in = sample(1400000, 10000, 10000);
	in.srtt_us = in.dt_us = 10000;
	cc_dctcp.on_interval(&s, &in, &d);
	assert_int_equal(d.cwnd, 100 * MSS);
	in = sample(1600000, 10000, 10000);
	cc_dctcp.on_interval(&s, &in, &d);
	assert_int_equal(d.cwnd, 50 * MSS);
	/* where a window is many round trips its marks are news */
	d.cwnd = 100 * MSS;
	for (uint32_t i = 1; i <= 3; i++) {
		in = sample(1600000 + 200000 * i, 10000, 10000);
		in.cwnd = in.ssthresh = d.cwnd;
		in.srtt_us = 50;
		in.dt_us = 1000;
		cc_dctcp.on_interval(&s, &in, &d);
		assert_int_equal(d.cwnd, 100 * MSS >> i);
	}
}

static void loss_is_adopted_not_repeated(void **state)
{
	struct cc_sample in = sample(1000, 20000, 20000);
	struct cc_decision d;
	struct cc_state s;

	(void)state;
	cc_dctcp.init(&s, MSS, 0);
	in.loss = true;
	in.cwnd = 7 * MSS;
	in.ssthresh = 7 * MSS;
	cc_dctcp.on_interval(&s, &in, &d);
	assert_int_equal(d.cwnd, 7 * MSS);
	assert_int_equal(d.ssthresh, 7 * MSS);
	/* the marks of that window are forgotten */
	in = sample(2000, 100, 0);
	in.cwnd = 7 * MSS;
	cc_dctcp.on_interval(&s, &in, &d);
	assert_int_equal(d.cwnd, 7 * MSS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(initial_window),
		cmocka_unit_test(growth_is_adopted),
		cmocka_unit_test(alpha_follows_marks_and_decays_to_zero),
		cmocka_unit_test(reduction_once_per_window),
		cmocka_unit_test(marks_without_end_leave_two_segments),
		cmocka_unit_test(older_data_does_not_reduce_again),
		cmocka_unit_test(loss_is_adopted_not_repeated),
	};

	return cmocka_run_group_tests_name("cp_cc_dctcp", tests, NULL, NULL);
}
