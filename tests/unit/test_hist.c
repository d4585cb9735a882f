// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/progs/lib/hist.c */
/* Histogram: exact for small values, at most 3 % above otherwise, merge, extremes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/progs/lib/hist.h"

static struct toe_hist h, g;

static void test_empty(void **state)
{
	(void)state;
	toe_hist_reset(&h);
	assert_int_equal(toe_hist_quantile(&h, 500), 0);
	assert_int_equal(toe_hist_mean(&h), 0);
	assert_true(h.min == UINT64_MAX);
}

static void test_small_exact(void **state)
{
	(void)state;
	toe_hist_reset(&h);
	for (uint64_t v = 1; v <= 50; v++)
		toe_hist_add(&h, v);
	assert_int_equal(toe_hist_quantile(&h, 500), 25);
	assert_int_equal(toe_hist_quantile(&h, 980), 49);
	assert_int_equal(toe_hist_quantile(&h, 1000), 50);
	assert_int_equal(toe_hist_quantile(&h, 0), 1);
	assert_int_equal(toe_hist_mean(&h), 25);
}

static void test_error_bound(void **state)
{
	(void)state;
	for (uint64_t v = 1; v < (1ull << TOE_HIST_MAX_BITS); v += v / 7 + 1) {
		uint64_t q;

		toe_hist_reset(&h);
		toe_hist_add(&h, v);
		toe_hist_add(&h, (1ull << TOE_HIST_MAX_BITS) - 1); /* so that max does not help */
		q = toe_hist_quantile(&h, 500);
		assert_true(q >= v);
		assert_true(q - v <= v / 32);
	}
}

static void test_huge(void **state)
{
	(void)state;
	toe_hist_reset(&h);
	toe_hist_add(&h, UINT64_MAX);
	assert_true(h.max == UINT64_MAX);
	assert_true(toe_hist_quantile(&h, 990) == (1ull << TOE_HIST_MAX_BITS) - 1);
}

static void test_merge(void **state)
{
	(void)state;
	toe_hist_reset(&h);
	toe_hist_reset(&g);
	for (uint64_t v = 1; v <= 10; v++) {
		toe_hist_add(&h, v);
		toe_hist_add(&g, v + 10);
	}
	toe_hist_merge(&h, &g);
	assert_int_equal(h.count, 20);
	assert_int_equal(h.min, 1);
	assert_int_equal(h.max, 20);
	assert_int_equal(toe_hist_quantile(&h, 500), 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_empty),       cmocka_unit_test(test_small_exact),
		cmocka_unit_test(test_error_bound), cmocka_unit_test(test_huge),
		cmocka_unit_test(test_merge),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
