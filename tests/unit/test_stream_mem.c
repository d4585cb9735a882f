/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Arena of stream modules against a model: random buffers that never overlap and keep their bytes,
 * exhaustion, and one free arena again when the last has been given back, whatever the order.
 */
/* LINK: datapath/stream_mem.c common/log.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "stream_mem.h"

#define BLOCK ((size_t)TOE_BUF_MAX + sizeof(struct toe_buf)) /* the largest */
#define LIVE  300u

static uint32_t rnd_state;

static uint32_t rnd(uint32_t n)
{
	rnd_state = rnd_state * 1664525u + 1013904223u;
	return (rnd_state >> 8) % n;
}

static size_t block_bytes(size_t len)
{
	size_t n = TOE_BUF_BLOCK_MIN;

	while (n < len + sizeof(struct toe_buf))
		n *= 2;
	return n;
}

/* Nothing is in use, and every largest block is one piece. */
static void check_whole(struct toe_arena *a)
{
	size_t n = toe_arena_size(a) / BLOCK;
	struct toe_buf *b[8];

	assert_int_equal(toe_arena_used(a), 0);
	assert_in_range(n, 1, 8);
	for (size_t i = 0; i < n; i++) {
		b[i] = toe_buf_new(a, TOE_BUF_MAX);
		assert_non_null(b[i]);
	}
	assert_int_equal(toe_arena_used(a), toe_arena_size(a));
	assert_null(toe_buf_new(a, 0));
	for (size_t i = 0; i < n; i++)
		toe_buf_put(a, b[i]);
	assert_int_equal(toe_arena_used(a), 0);
}

static void test_size(void **state)
{
	static const size_t wish[] = {0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5};
	static const size_t got[] = {1, 1, 1, 1, 1, 3};

	(void)state;
	for (unsigned i = 0; i < 6; i++) {
		struct toe_arena *a = toe_arena_create(wish[i]);

		assert_non_null(a);
		assert_int_equal(toe_arena_size(a), got[i] * BLOCK);
		check_whole(a);
		toe_arena_free(a);
	}
	toe_arena_free(NULL);
}

/* Sizes around every power of two: the smallest block that fits, aligned to itself or to a page. */
static void test_blocks(void **state)
{
	struct toe_arena *a = toe_arena_create(2 * BLOCK);

	(void)state;
	assert_null(toe_buf_new(a, (size_t)TOE_BUF_MAX + 1));
	assert_null(toe_buf_new(a, SIZE_MAX));
	for (size_t size = TOE_BUF_BLOCK_MIN; size <= BLOCK; size *= 2) {
		for (int more = -1; more <= 1; more++) {
			size_t len = size - sizeof(struct toe_buf) + (size_t)(ptrdiff_t)more;
			struct toe_buf *b = len <= TOE_BUF_MAX ? toe_buf_new(a, len) : NULL;

			if (len > TOE_BUF_MAX)
				continue;
			assert_non_null(b);
			assert_int_equal(toe_arena_used(a), block_bytes(len));
			assert_int_equal(b->room, block_bytes(len) - sizeof(*b));
			assert_int_equal(b->refs, 1);
			assert_int_equal(b->len, 0);
			assert_int_equal((uintptr_t)b % (size < 4096 ? size : 4096), 0);
			assert_int_equal((uintptr_t)b->data % 16, 0);
			toe_buf_put(a, b);
		}
	}
	check_whole(a);
	toe_arena_free(a);
}

static void test_references(void **state)
{
	struct toe_arena *a = toe_arena_create(BLOCK);
	struct toe_buf *b = toe_buf_new(a, 1000);

	(void)state;
	assert_ptr_equal(toe_buf_get(b), b);
	toe_buf_get(b);
	for (unsigned refs = 3; refs > 0; refs--) {
		assert_int_equal(b->refs, refs);
		assert_int_equal(toe_arena_used(a), 1024);
		toe_buf_put(a, b);
	}
	check_whole(a);
	toe_arena_free(a);
}

/* Down to the last block of the smallest size, and back in a random order. */
static void test_exhaustion(void **state)
{
	const size_t n = BLOCK / TOE_BUF_BLOCK_MIN;
	struct toe_arena *a = toe_arena_create(BLOCK);
	struct toe_buf **b = calloc(n, sizeof(*b));

	(void)state;
	rnd_state = 3;
	for (size_t i = 0; i < n; i++) {
		b[i] = toe_buf_new(a, 1);
		assert_non_null(b[i]);
	}
	assert_null(toe_buf_new(a, 0));
	assert_int_equal(toe_arena_used(a), toe_arena_size(a));
	for (size_t left = n; left > 0; left--) {
		size_t i = rnd((uint32_t)left);

		toe_buf_put(a, b[i]);
		b[i] = b[left - 1];
		if (left == n / 2) /* full of holes: nothing large */
			assert_null(toe_buf_new(a, BLOCK / 2));
	}
	check_whole(a);
	free(b);
	toe_arena_free(a);
}

struct live {
	struct toe_buf *b;
	size_t len;
	uint8_t fill;
	uint32_t refs;
};

static void check_bytes(const struct live *l)
{
	assert_int_equal(l->b->refs, l->refs);
	assert_int_equal(l->b->data[0], l->fill);
	assert_int_equal(l->b->data[l->len / 2], l->fill);
	assert_int_equal(l->b->data[l->len - 1], l->fill);
}

/* The room of a new buffer is nobody else's. */
static void check_apart(const struct live *l, unsigned n, const struct toe_buf *b)
{
	const uint8_t *from = (const uint8_t *)b, *to = b->data + b->room;

	for (unsigned i = 0; i < n; i++) {
		const uint8_t *f = (const uint8_t *)l[i].b, *t = l[i].b->data + l[i].b->room;

		assert_true(to <= f || t <= from);
	}
}

#define UNITS (2 * BLOCK / TOE_BUF_BLOCK_MIN)
static uint8_t taken[UNITS]; /* of the arena, by smallest blocks */
static const uint8_t *base;  /* where it begins */

static void take(const struct live *l, int on)
{
	memset(taken + (size_t)((const uint8_t *)l->b - base) / TOE_BUF_BLOCK_MIN, on,
	       block_bytes(l->len) / TOE_BUF_BLOCK_MIN);
}

/* No aligned block of that size is free: neighbours have been joined wherever that was possible. */
static void check_none(size_t bytes)
{
	size_t n = bytes / TOE_BUF_BLOCK_MIN;

	for (size_t at = 0; at < UNITS; at += n)
		assert_non_null(memchr(taken + at, 1, n));
}

static void random_round(uint32_t seed)
{
	struct toe_arena *a = toe_arena_create(2 * BLOCK);
	struct live l[LIVE];
	unsigned n = 0, refused = 0;
	size_t used = 0;

	rnd_state = seed;
	memset(taken, 0, sizeof(taken));
	l[0].b = toe_buf_new(a, TOE_BUF_MAX); /* the lowest first */
	base = (const uint8_t *)l[0].b;
	toe_buf_put(a, l[0].b);
	for (unsigned step = 0; step < 20000; step++) {
		/* phases of growing and of shrinking */
		if (n < LIVE && rnd(100) < (step / 1000 % 2 ? 30 : 70)) {
			size_t len = 1 + rnd(1u << (4 + rnd(18)));
			struct toe_buf *b = toe_buf_new(a, len);

			if (b == NULL) {
				refused++;
				check_none(block_bytes(len));
				continue;
			}
			check_apart(l, n, b);
			l[n] = (struct live){b, len, (uint8_t)rnd(256), 1};
			memset(b->data, l[n].fill, len);
			take(&l[n], 1);
			used += block_bytes(len);
			n++;
		} else if (n > 0) {
			unsigned i = rnd(n);

			check_bytes(&l[i]);
			if (rnd(4) == 0) {
				toe_buf_get(l[i].b);
				l[i].refs++;
			} else {
				toe_buf_put(a, l[i].b);
				if (--l[i].refs == 0) {
					used -= block_bytes(l[i].len);
					take(&l[i], 0);
					l[i] = l[--n];
				}
			}
		}
		assert_int_equal(toe_arena_used(a), used);
	}
	assert_true(refused > 0);
	while (n > 0) {
		check_bytes(&l[n - 1]);
		toe_buf_put(a, l[n - 1].b);
		n -= --l[n - 1].refs == 0;
	}
	check_whole(a);
	toe_arena_free(a);
}

static void test_random(void **state)
{
	(void)state;
	for (uint32_t seed = 1; seed <= 5; seed++)
		random_round(seed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_size),       cmocka_unit_test(test_blocks),
		cmocka_unit_test(test_references), cmocka_unit_test(test_exhaustion),
		cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
