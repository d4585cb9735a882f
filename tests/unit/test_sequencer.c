/* SPDX-License-Identifier: BSD-3-Clause */
/* LINK: datapath/sequencer.c */
/*
 * Reorder logic: random permutations inside the window, numbers that wrap, refusal of what is
 * outside.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "datapath/sequencer.h"

#define WINDOW 64u

static uint32_t rng = 1;

static uint32_t rnd(void)
{
	rng = rng * 1664525u + 1013904223u;
	return rng >> 8;
}

struct fixture {
	struct toe_sequencer q;
	void *slots[WINDOW];
	uint32_t out; /* number expected next */
};

static void start(struct fixture *f, uint32_t first)
{
	memset(f, 0, sizeof(*f));
	toe_sequencer_init(&f->q, f->slots, WINDOW);
	f->q.next = first;
	f->out = first;
}

/* Items are their own number plus one, as a pointer. */
static void *item(uint32_t n)
{
	return (void *)((uintptr_t)n + 1);
}

static void put(struct fixture *f, uint32_t n)
{
	void *p;

	if (!toe_sequencer_pass(&f->q, n)) {
		assert_true(toe_sequencer_hold(&f->q, n, item(n)));
		return;
	}
	assert_int_equal(n, f->out);
	f->out++;
	while ((p = toe_sequencer_take(&f->q)) != NULL) {
		assert_ptr_equal(p, item(f->out));
		f->out++;
	}
}

static void permute(struct fixture *f, uint32_t first, unsigned total)
{
	uint32_t window[WINDOW];
	unsigned n = 0;
	uint32_t given = first;

	/* at most WINDOW numbers exist at a time, as with work items */
	while (f->out != first + total) {
		unsigned k;

		while (given != first + total && given - f->out < WINDOW)
			window[n++] = given++;
		k = rnd() % n;
		put(f, window[k]);
		window[k] = window[--n];
	}
	assert_int_equal(f->q.held, 0);
}

static void test_permutations(void **state)
{
	static struct fixture f;

	(void)state;
	for (unsigned i = 0; i < 50; i++) {
		start(&f, 0);
		permute(&f, 0, 1000);
	}
}

static void test_wrap(void **state)
{
	static struct fixture f;

	(void)state;
	for (uint32_t first = UINT32_MAX - 200; first > 1000; first += 50) {
		start(&f, first);
		permute(&f, first, 500);
	}
}

static void test_reversed_window(void **state)
{
	static struct fixture f;

	(void)state;
	start(&f, UINT32_MAX - 10);
	for (unsigned i = WINDOW; i-- > 1;)
		put(&f, UINT32_MAX - 10 + i);
	assert_int_equal(f.q.held, WINDOW - 1);
	put(&f, UINT32_MAX - 10);
	assert_int_equal(f.q.held, 0);
	assert_int_equal(f.out, UINT32_MAX - 10 + WINDOW);
}

static void test_refused(void **state)
{
	static struct fixture f;

	(void)state;
	start(&f, 100);
	assert_false(toe_sequencer_hold(&f.q, 99, item(99)));          /* was out already */
	assert_false(toe_sequencer_hold(&f.q, 100 + WINDOW, item(1))); /* beyond the window */
	assert_true(toe_sequencer_hold(&f.q, 99 + WINDOW, item(2)));   /* last slot */
	assert_false(toe_sequencer_hold(&f.q, 99 + WINDOW, item(3)));  /* twice */
	assert_null(toe_sequencer_take(&f.q));
	assert_ptr_equal(toe_sequencer_drain(&f.q), item(2));
	assert_null(toe_sequencer_drain(&f.q));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_permutations),
		cmocka_unit_test(test_wrap),
		cmocka_unit_test(test_reversed_window),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
