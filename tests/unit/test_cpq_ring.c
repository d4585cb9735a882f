// SPDX-License-Identifier: BSD-3-Clause
/* LINK: */
/*
 * Control-plane queue rings: full and empty, index wrap, a consumer that is restarted goes on where
 * it was, and one producer thread against one consumer thread.
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/cpq_ring.h"

#define N      8u
#define BYTES  64u
#define ROUNDS 200000u

static struct toe_cpq_hdr *hdr;

static int setup(void **state)
{
	size_t total = sizeof(*hdr) + 2 * N * BYTES;

	(void)state;
	hdr = aligned_alloc(64, total);
	if (!hdr)
		return -1;
	memset(hdr, 0, total);
	hdr->entry_n = N;
	hdr->entry_bytes = BYTES;
	hdr->off_down = sizeof(*hdr);
	hdr->off_up = sizeof(*hdr) + N * BYTES;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	free(hdr);
	return 0;
}

static void put(const struct toe_cpq_ring *r, uint32_t value)
{
	struct toe_cpq_entry *e = toe_cpq_reserve(r);

	assert_non_null(e);
	e->len = sizeof(value);
	e->cookie = value;
	memcpy(toe_cpq_data(e), &value, sizeof(value));
	toe_cpq_publish(r);
}

static void take(const struct toe_cpq_ring *r, uint32_t value)
{
	struct toe_cpq_entry *e = toe_cpq_peek(r);

	assert_non_null(e);
	assert_int_equal(e->cookie, value);
	assert_memory_equal(toe_cpq_data(e), &value, sizeof(value));
	toe_cpq_consume(r);
}

static void test_full_and_empty(void **state)
{
	struct toe_cpq_ring down = toe_cpq_down(hdr);

	(void)state;
	assert_int_equal(toe_cpq_data_max(&down), BYTES - 16);
	assert_null(toe_cpq_peek(&down));
	for (uint32_t i = 0; i < N; i++)
		put(&down, i);
	assert_null(toe_cpq_reserve(&down));
	take(&down, 0);
	put(&down, N);
	assert_null(toe_cpq_reserve(&down));
	for (uint32_t i = 1; i <= N; i++)
		take(&down, i);
	assert_null(toe_cpq_peek(&down));
}

static void test_reserved_is_invisible(void **state)
{
	struct toe_cpq_ring up = toe_cpq_up(hdr);
	struct toe_cpq_ring down = toe_cpq_down(hdr);

	(void)state;
	assert_non_null(toe_cpq_reserve(&up));
	assert_null(toe_cpq_peek(&up));
	put(&up, 1);
	assert_null(toe_cpq_peek(&down)); /* the directions are separate */
	take(&up, 1);
}

static void test_index_wraps(void **state)
{
	struct toe_cpq_ring up = toe_cpq_up(hdr);

	(void)state;
	hdr->up_prod = hdr->up_cons = UINT32_MAX - 2;
	for (uint32_t i = 0; i < N; i++)
		put(&up, i);
	assert_null(toe_cpq_reserve(&up));
	for (uint32_t i = 0; i < N; i++)
		take(&up, i);
	assert_null(toe_cpq_peek(&up));
}

/* A consumer that dies between peek and consume: its successor sees the entry again. */
static void test_restart(void **state)
{
	struct toe_cpq_ring up = toe_cpq_up(hdr);
	struct toe_cpq_ring again;

	(void)state;
	put(&up, 1);
	put(&up, 2);
	take(&up, 1);
	assert_non_null(toe_cpq_peek(&up));
	again = toe_cpq_up(hdr);
	take(&again, 2);
	assert_null(toe_cpq_peek(&again));
}

static void *producer(void *arg)
{
	const struct toe_cpq_ring *r = arg;

	for (uint32_t i = 0; i < ROUNDS;) {
		struct toe_cpq_entry *e = toe_cpq_reserve(r);

		if (!e) {
			sched_yield();
			continue;
		}
		e->cookie = i;
		*(uint32_t *)toe_cpq_data(e) = ~i;
		toe_cpq_publish(r);
		i++;
	}
	return NULL;
}

static void test_two_threads(void **state)
{
	struct toe_cpq_ring r = toe_cpq_down(hdr);
	pthread_t t;
	uint32_t wrong = 0;

	(void)state;
	assert_int_equal(pthread_create(&t, NULL, producer, &r), 0);
	for (uint32_t i = 0; i < ROUNDS;) {
		struct toe_cpq_entry *e = toe_cpq_peek(&r);

		if (!e) {
			sched_yield();
			continue;
		}
		wrong += e->cookie != i || *(uint32_t *)toe_cpq_data(e) != ~i;
		toe_cpq_consume(&r);
		i++;
	}
	pthread_join(t, NULL);
	assert_int_equal(wrong, 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_full_and_empty), T(test_reserved_is_invisible), T(test_index_wraps),
		T(test_restart),        T(test_two_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
