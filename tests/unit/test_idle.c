/* SPDX-License-Identifier: BSD-3-Clause */
/* LINK: datapath/idle.c common/log.c */
/*
 * Sleep and wake-up of an lcore: no wake-up is lost between a producer thread and a sleeper that
 * goes to sleep after every item; descriptors are level-triggered; a dead one does not keep the
 * lcore awake.
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "datapath/idle.h"

#define ROUNDS 100000u
#define SECOND 1000000000u

struct race {
	struct toe_idle idle;
	_Atomic uint32_t published;
	_Atomic uint32_t taken;
};

static void *producer(void *arg)
{
	struct race *r = arg;

	for (uint32_t i = 1; i <= ROUNDS; i++) {
		atomic_store_explicit(&r->published, i, memory_order_release);
		toe_idle_fence();
		toe_idle_wake(&r->idle);
		/* lets the sleeper fall asleep sometimes, and sometimes not */
		if (i % 3 == 0) {
			while (atomic_load_explicit(&r->taken, memory_order_acquire) != i)
				sched_yield();
		}
	}
	return NULL;
}

static void test_no_lost_wakeup(void **state)
{
	static struct race r;
	uint32_t seen = 0;
	unsigned late = 0;
	pthread_t t;

	(void)state;
	assert_int_equal(toe_idle_init(&r.idle), 0);
	assert_int_equal(pthread_create(&t, NULL, producer, &r), 0);
	while (seen != ROUNDS) {
		uint32_t now = atomic_load_explicit(&r.published, memory_order_acquire);

		if (now != seen) {
			seen = now;
			atomic_store_explicit(&r.taken, seen, memory_order_release);
			continue;
		}
		toe_idle_announce(&r.idle);
		if (atomic_load_explicit(&r.published, memory_order_acquire) == seen) {
			/* times out only if a wake-up was lost, or the machine stood still */
			if (!toe_idle_wait(&r.idle, SECOND))
				late++;
		}
		toe_idle_awake(&r.idle);
	}
	pthread_join(t, NULL);
	assert_int_equal(late, 0);
	toe_idle_fini(&r.idle);
}

static void test_one_kick_per_sleep(void **state)
{
	struct toe_idle i;

	(void)state;
	assert_int_equal(toe_idle_init(&i), 0);
	toe_idle_wake(&i); /* awake: no system call, nothing pending */
	assert_false(toe_idle_wait(&i, 0));
	toe_idle_announce(&i);
	toe_idle_fence();
	toe_idle_wake(&i);
	assert_int_equal(atomic_load(&i.sleeping), 0); /* the second waker finds nothing to do */
	toe_idle_wake(&i);
	assert_true(toe_idle_wait(&i, 0));
	assert_false(toe_idle_wait(&i, 0)); /* the eventfd was drained */
	toe_idle_fini(&i);
}

static void test_watch_is_level_triggered(void **state)
{
	struct toe_idle i;
	int sv[2];
	char c = 'x';

	(void)state;
	assert_int_equal(toe_idle_init(&i), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	assert_int_equal(write(sv[1], &c, 1), 1); /* waits already when it is added */
	assert_int_equal(toe_idle_watch(&i, sv[0]), 0);
	assert_true(toe_idle_wait(&i, 0));
	assert_true(toe_idle_wait(&i, 0));
	assert_int_equal(read(sv[0], &c, 1), 1);
	assert_false(toe_idle_wait(&i, 0));
	close(sv[1]); /* hang-up: reported once, then forgotten */
	assert_true(toe_idle_wait(&i, 0));
	assert_false(toe_idle_wait(&i, 0));
	close(sv[0]);
	toe_idle_fini(&i);
}

static void test_unwatch(void **state)
{
	struct toe_idle i;
	int sv[2];
	char c = 'x';

	(void)state;
	assert_int_equal(toe_idle_init(&i), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	assert_int_equal(toe_idle_watch(&i, sv[0]), 0);
	assert_int_equal(toe_idle_watch(&i, sv[0]), 0); /* twice is once */
	toe_idle_unwatch(&i, sv[0]);
	toe_idle_unwatch(&i, sv[0]);
	assert_int_equal(write(sv[1], &c, 1), 1);
	assert_false(toe_idle_wait(&i, 0));
	close(sv[0]);
	close(sv[1]);
	toe_idle_fini(&i);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_lost_wakeup),
		cmocka_unit_test(test_one_kick_per_sleep),
		cmocka_unit_test(test_watch_is_level_triggered),
		cmocka_unit_test(test_unwatch),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
