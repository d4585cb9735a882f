/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Queue of extents against an array of bytes: random pushes (merging or not), reads anywhere,
 * trims around the wrap of positions; growth, exhaustion, and no memory when empty.
 */
/* LINK: datapath/stream_extq.c datapath/stream_mem.c common/log.c */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "stream_extq.h"

#define STREAM (1u << 20) /* bytes of the model */

static struct toe_arena *arena;
static struct toe_extq q;
static uint32_t rnd_state;

/* What was pushed: model[i] is the byte at position first + i. */
static struct {
	uint32_t first;
	uint32_t begin, end; /* indices */
	uint8_t *bytes;
} model;

static uint32_t rnd(uint32_t n)
{
	rnd_state = rnd_state * 1664525u + 1013904223u;
	return (rnd_state >> 8) % n;
}

static struct toe_buf *filled(uint32_t len)
{
	struct toe_buf *b = toe_buf_new(arena, len);

	assert_non_null(b);
	b->len = len;
	for (uint32_t i = 0; i < len; i++)
		b->data[i] = (uint8_t)rnd(256);
	return b;
}

static int start(void **state)
{
	(void)state;
	arena = toe_arena_create(16u << 20);
	toe_extq_init(&q, 0);
	return arena == NULL ? -1 : 0;
}

static int stop(void **state)
{
	int rc = toe_arena_used(arena) == 0 ? 0 : -1;

	(void)state;
	toe_arena_free(arena);
	return rc;
}

/* ---- random ---- */

static void model_push(struct toe_buf *b, uint32_t off, uint32_t len)
{
	if (model.end + len > STREAM)
		return;
	assert_int_equal(toe_extq_push(arena, &q, b, off, len), 0);
	memcpy(model.bytes + model.end, b->data + off, len);
	model.end += len;
}

/* A buffer in up to four pieces, contiguous (one extent) or not. */
static void random_push(void)
{
	uint32_t len = 1 + rnd(3000), off = 0;
	struct toe_buf *b = filled(len);

	for (unsigned i = 0; i < 4 && off < len; i++) {
		uint32_t n = rnd(len - off + 1);

		model_push(b, off, n);
		off += n;
		if (rnd(3) == 0 && off < len)
			off++;
	}
	if (rnd(5) == 0)
		model_push(b, 0, len); /* the same bytes again */
	toe_buf_put(arena, b);
}

static void random_read(void)
{
	static uint8_t out[STREAM];
	uint32_t have = model.end - model.begin;
	uint32_t at = model.begin + rnd(have + 1);
	uint32_t len = rnd(4) ? rnd(model.end - at + 1) % 2000 : rnd(model.end - at + 1);

	for (unsigned i = 0; i < 3 && at + len <= model.end; i++) {
		/* one after the other, as segments */
		toe_extq_read(&q, model.first + at, out, len);
		assert_memory_equal(out, model.bytes + at, len);
		at += len;
	}
}

static void random_trim(void)
{
	uint32_t to = model.begin + rnd(rnd(3) ? 3000 : 60000);

	if (to > model.begin)
		toe_extq_trim(arena, &q, model.first + to);
	model.begin = to < model.end ? to : model.end;
}

static void check_equal(void)
{
	const struct toe_extent *e = toe_extq_first(&q);

	assert_int_equal(q.begin, model.first + model.begin);
	assert_int_equal(q.end, model.first + model.end);
	assert_int_equal(toe_extq_bytes(&q), model.end - model.begin);
	if (model.begin == model.end) {
		assert_null(e);
		assert_null(q.ring);
		assert_int_equal(toe_arena_used(arena), 0);
	} else {
		assert_non_null(e);
		assert_int_equal(e->pos, q.begin);
		assert_memory_equal(e->buf->data + e->off, model.bytes + model.begin, e->len);
	}
}

static void random_round(uint32_t seed)
{
	rnd_state = seed;
	model.first = 0u - rnd(STREAM / 2); /* positions wrap on the way */
	model.begin = model.end = 0;
	toe_extq_init(&q, model.first);
	while (model.end < STREAM - 20000) {
		unsigned what = rnd(100);

		if (what < 40)
			random_push();
		else if (what < 70)
			random_read();
		else
			random_trim();
		check_equal();
	}
	if (seed % 2)
		toe_extq_trim(arena, &q, q.end);
	else
		toe_extq_clear(arena, &q);
	assert_int_equal(q.begin, q.end);
	assert_int_equal(toe_arena_used(arena), 0);
}

static void test_random(void **state)
{
	(void)state;
	model.bytes = malloc(STREAM);
	for (uint32_t seed = 1; seed <= 20; seed++)
		random_round(seed);
	free(model.bytes);
}

/* ---- limits ---- */

static void test_merge(void **state)
{
	struct toe_buf *b = filled(300);

	(void)state;
	assert_int_equal(toe_extq_push(arena, &q, b, 0, 100), 0);
	assert_int_equal(toe_extq_push(arena, &q, b, 100, 100), 0);
	assert_int_equal(b->refs, 2);
	assert_int_equal(toe_extq_first(&q)->len, 200);
	assert_int_equal(toe_extq_push(arena, &q, b, 201, 99), 0);
	assert_int_equal(b->refs, 3);
	assert_int_equal(toe_extq_push(arena, &q, b, 0, 0), 0);
	assert_int_equal(b->refs, 3);
	toe_extq_trim(arena, &q, 150); /* in the middle of the first */
	assert_int_equal(toe_extq_first(&q)->off, 150);
	toe_extq_trim(arena, &q, 100); /* backwards: nothing */
	assert_int_equal(q.begin, 150);
	toe_extq_trim(arena, &q, 200);
	assert_int_equal(toe_extq_first(&q)->off, 201);
	assert_int_equal(b->refs, 2);
	toe_extq_trim(arena, &q, 299);
	assert_int_equal(q.end, 299);
	assert_int_equal(b->refs, 1);
	toe_buf_put(arena, b);
}

/* Indices and positions go on while the ring grows under them. */
static void test_growth(void **state)
{
	struct toe_buf *b = filled(TOE_EXTQ_MAX + 1);
	uint8_t byte;

	(void)state;
	assert_int_equal(toe_extq_push(arena, &q, b, 7, 1), 0);
	assert_int_equal(toe_extq_push(arena, &q, b, 9, 1), 0);
	toe_extq_trim(arena, &q, 1);
	for (uint32_t i = 1; i < TOE_EXTQ_MAX; i++) {
		uint32_t at = i * 7919u % TOE_EXTQ_MAX; /* hardly ever neighbours */

		assert_int_equal(toe_extq_push(arena, &q, b, at, 1), 0);
		toe_extq_read(&q, q.end - 1, &byte, 1);
		assert_int_equal(byte, b->data[at]);
		toe_extq_read(&q, i, &byte, 1);
	}
	for (uint32_t i = 1; i < TOE_EXTQ_MAX; i += 97) {
		toe_extq_read(&q, 1 + i, &byte, 1);
		assert_int_equal(byte, b->data[i * 7919u % TOE_EXTQ_MAX]);
	}
	/* full: nothing changes */
	assert_int_equal(q.tail - q.head, TOE_EXTQ_MAX);
	assert_int_equal(toe_extq_push(arena, &q, b, 0, 1), -ENOSPC);
	assert_int_equal(toe_extq_bytes(&q), TOE_EXTQ_MAX);
	assert_int_equal(b->refs, TOE_EXTQ_MAX + 1);
	toe_extq_trim(arena, &q, 2);
	assert_int_equal(toe_extq_push(arena, &q, b, 0, 1), 0);
	toe_extq_clear(arena, &q);
	assert_int_equal(b->refs, 1);
	toe_buf_put(arena, b);
}

/* Copies fill the room behind the last extent, but never a buffer that somebody else holds. */
static void test_copy(void **state)
{
	struct toe_buf *b = filled(100);
	uint8_t in[3000], out[6000];

	(void)state;
	for (uint32_t i = 0; i < sizeof(in); i++)
		in[i] = (uint8_t)(i * 7 + (i >> 8));
	toe_extq_init(&q, UINT32_MAX - 1000);
	for (uint32_t i = 0; i < sizeof(in); i++)
		assert_int_equal(toe_extq_copy(arena, &q, in + i, 1), 0);
	assert_int_equal(toe_extq_copy(arena, &q, in, sizeof(in)), 0);
	assert_in_range(toe_arena_used(arena), 6000, 8192);
	toe_extq_read(&q, q.begin, out, sizeof(out));
	assert_memory_equal(out, in, sizeof(in));
	assert_memory_equal(out + sizeof(in), in, sizeof(in));
	/* a shared one stays as it is */
	memset(b->data, 5, b->room);
	assert_int_equal(toe_extq_push(arena, &q, b, 0, 50), 0);
	assert_int_equal(toe_extq_copy(arena, &q, in, 10), 0);
	assert_int_equal(b->data[50], 5);
	toe_extq_read(&q, q.end - 10, out, 10);
	assert_memory_equal(out, in, 10);
	assert_int_equal(toe_extq_copy(arena, &q, in, 0), 0);
	toe_extq_clear(arena, &q);
	toe_buf_put(arena, b);
}

/* Bytes in a queue stay comparable as positions. */
static void test_most_bytes(void **state)
{
	struct toe_buf *b = toe_buf_new(arena, 2u << 20);
	uint32_t n = TOE_EXTQ_BYTES_MAX / (2u << 20);

	(void)state;
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(toe_extq_push(arena, &q, b, 0, 2u << 20), 0);
	assert_int_equal(toe_extq_bytes(&q), TOE_EXTQ_BYTES_MAX);
	assert_int_equal(toe_extq_push(arena, &q, b, 0, 1), -ENOSPC);
	assert_int_equal(toe_extq_push(arena, &q, b, 0, 0), 0);
	assert_int_equal(b->refs, n + 1);
	toe_extq_trim(arena, &q, 1);
	assert_int_equal(toe_extq_push(arena, &q, b, 0, 1), 0);
	toe_extq_clear(arena, &q);
	toe_buf_put(arena, b);
}

static void test_reserve(void **state)
{
	struct toe_buf *b = filled(64), *rest[64];
	uint32_t n = 0, got = 0;

	(void)state;
	assert_int_equal(toe_extq_reserve(arena, &q, TOE_EXTQ_MAX + 1), -ENOSPC);
	assert_null(q.ring); /* an empty queue has none, whatever was tried */
	assert_int_equal(toe_extq_reserve(arena, &q, 9), 0);
	for (size_t len = 2u << 20; len >= 16; len /= 2) {
		struct toe_buf *r = toe_buf_new(arena, len);

		for (; r != NULL && n < 64; r = toe_buf_new(arena, len))
			rest[n++] = r;
	}
	assert_int_equal(toe_arena_used(arena), toe_arena_size(arena));
	/* at least nine go in, without memory */
	while (toe_extq_push(arena, &q, b, 2 * got, 1) == 0)
		got++;
	assert_in_range(got, 9, 16);
	assert_int_equal(toe_extq_reserve(arena, &q, 1), -ENOSPC);
	assert_int_equal(toe_extq_bytes(&q), got);
	assert_int_equal(toe_extq_push(arena, &q, b, 2 * got - 1, 1), 0); /* merges: needs none */
	toe_extq_clear(arena, &q);
	assert_int_equal(b->refs, 1);
	while (n > 0)
		toe_buf_put(arena, rest[--n]);
	toe_buf_put(arena, b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_random, start, stop),
		cmocka_unit_test_setup_teardown(test_merge, start, stop),
		cmocka_unit_test_setup_teardown(test_growth, start, stop),
		cmocka_unit_test_setup_teardown(test_copy, start, stop),
		cmocka_unit_test_setup_teardown(test_most_bytes, start, stop),
		cmocka_unit_test_setup_teardown(test_reserve, start, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
