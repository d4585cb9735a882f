/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Stash against an array of bytes: random segments behind a moving front, where the first copy of a
 * byte counts; memory stays within the window, and there is none when nothing is stored.
 */
/* LINK: datapath/stream_stash.c datapath/stream_mem.c datapath/ooo.c common/log.c */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/tcp_seq.h"
#include "stream_stash.h"

#define WINDOW 40000u
#define BOUND  ((WINDOW / TOE_STASH_BLOCK + 2) * 4096u + 128u) /* with the table */

static struct toe_arena *arena;
static struct toe_stash stash;
static uint32_t front; /* position */
static uint32_t rnd_state;

/* model[i]: the byte at front + i, -1: not received */
static int model[WINDOW];

static uint32_t rnd(uint32_t n)
{
	rnd_state = rnd_state * 1664525u + 1013904223u;
	return (rnd_state >> 8) % n;
}

static int start(void **state)
{
	(void)state;
	arena = toe_arena_create(4u << 20);
	memset(&stash, 0, sizeof(stash));
	memset(model, 0xff, sizeof(model));
	return arena == NULL ? -1 : 0;
}

static int stop(void **state)
{
	int rc = toe_arena_used(arena) == 0 ? 0 : -1;

	(void)state;
	toe_arena_free(arena);
	return rc;
}

static int put(uint32_t at, const uint8_t *data, uint32_t len)
{
	const struct toe_stash_in in = {
		.front = front, .window = WINDOW, .pos = front + at, .len = len, .data = data};

	return toe_stash_put(arena, &stash, &in);
}

/* n bytes from the front on leave the model. */
static void model_pass(uint32_t n)
{
	memmove(model, model + n, (WINDOW - n) * sizeof(model[0]));
	memset(model + WINDOW - n, 0xff, n * sizeof(model[0]));
	front += n;
}

static void random_put(void)
{
	static uint8_t data[4000];
	uint32_t at = 1 + rnd(WINDOW - 1);
	uint32_t len = 1 + rnd(rnd(3) ? 1500 : sizeof(data));

	if (len > WINDOW - at)
		len = WINDOW - at;
	for (uint32_t i = 0; i < len; i++)
		data[i] = (uint8_t)rnd(256);
	if (stash.have.n == TOE_OOO_MAX) /* as proto: refused before it comes here, unless it joins
					    others */
		return;
	assert_int_equal(put(at, data, len), 0);
	for (uint32_t i = 0; i < len; i++)
		model[at + i] = model[at + i] < 0 ? data[i] : model[at + i];
}

/* Bytes in order up to somewhere, and what is stored behind them. */
static void random_pass(void)
{
	uint32_t gap = toe_stash_gap(&stash, front), n = 0, to;

	assert_true(gap != 0);
	while (n < WINDOW && model[n] < 0)
		n++;
	assert_int_equal(gap, n == WINDOW ? UINT32_MAX : n);
	if (n == WINDOW || rnd(3) == 0)
		n = rnd(n + 1);
	to = toe_stash_reach(&stash, front + n);
	model_pass(n);
	for (n = 0; n < WINDOW && model[n] >= 0; n++)
		;
	assert_int_equal(to, front + n);
	for (uint32_t i = 0; i < n;) {
		uint32_t off, len;
		struct toe_buf *b = toe_stash_at(&stash, front + i, &off, &len);

		for (len = len < n - i ? len : n - i; len > 0; len--, i++, off++)
			assert_int_equal(b->data[off], model[i]);
	}
	model_pass(n);
	toe_stash_trim(arena, &stash, front);
	if (stash.have.n == 0)
		assert_int_equal(toe_arena_used(arena), 0);
}

static void test_random(void **state)
{
	(void)state;
	for (uint32_t seed = 1; seed <= 20; seed++) {
		rnd_state = seed;
		front = 0u - rnd(1u << 20); /* wraps */
		for (unsigned step = 0; step < 1000; step++) {
			if (rnd(2))
				random_put();
			else
				random_pass();
			assert_in_range(toe_arena_used(arena), 0, BOUND);
		}
		toe_stash_clear(arena, &stash);
		memset(model, 0xff, sizeof(model));
		assert_int_equal(toe_arena_used(arena), 0);
	}
}

/* Single bytes all over the window cost what the window does. */
static void test_single_bytes(void **state)
{
	(void)state;
	front = UINT32_MAX - 500;
	for (uint32_t i = WINDOW - 1; i > 0; i--) {
		uint8_t byte = (uint8_t)(i * 31);

		assert_int_equal(put(i, &byte, 1), 0);
	}
	assert_in_range(toe_arena_used(arena), WINDOW, BOUND);
	assert_int_equal(toe_stash_reach(&stash, front + 1), front + WINDOW);
	for (uint32_t i = 1; i < WINDOW; i++) {
		uint32_t off, len;

		assert_int_equal(toe_stash_at(&stash, front + i, &off, &len)->data[off],
				 (uint8_t)(i * 31));
	}
	toe_stash_trim(arena, &stash, front + WINDOW);
}

/* Five islands are one too many; no memory; in both cases clear() gives back what there is. */
static void test_limits(void **state)
{
	struct toe_buf *rest[64], *small;
	uint8_t data[2 * TOE_STASH_BLOCK] = {1};
	uint32_t n = 0;

	(void)state;
	front = 1000;
	for (uint32_t i = 1; i <= TOE_OOO_MAX; i++)
		assert_int_equal(put(i * 5000, data, 10), 0);
	assert_int_equal(put(4500, data, 10), -ENOSPC);
	assert_int_equal(put(4990, data, 10), 0); /* touches one */
	toe_stash_clear(arena, &stash);
	small = toe_buf_new(arena, 400);
	for (size_t len = 2u << 20; len >= 128; len /= 2) {
		struct toe_buf *r = toe_buf_new(arena, len - sizeof(*r));

		for (; r != NULL && n < 64; r = toe_buf_new(arena, len - sizeof(*r)))
			rest[n++] = r;
	}
	assert_int_equal(toe_arena_used(arena), toe_arena_size(arena));
	assert_int_equal(put(10, data, 1), -ENOSPC);
	toe_buf_put(arena, small); /* enough for the table, not for a block */
	assert_int_equal(put(10, data, 1), -ENOSPC);
	toe_stash_clear(arena, &stash);
	while (n > 0)
		toe_buf_put(arena, rest[--n]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_random, start, stop),
		cmocka_unit_test_setup_teardown(test_single_bytes, start, stop),
		cmocka_unit_test_setup_teardown(test_limits, start, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
