// SPDX-License-Identifier: BSD-3-Clause
/* LINK: datapath/stages/stream_control.c */
/*
 * Questions to a stream module from another thread: each gets its own answer, whichever of the two
 * threads is first; a module that is not there or does not answer questions; a stage that sleeps.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "pipeline.h"
#include "stream.h"
#include "stream_priv.h"

#define QUESTIONS  2000u
#define PATIENT_MS 60000u

static struct toe_engine engine;
static _Atomic unsigned wakes;
static _Atomic bool over;

void toe_pipeline_wake(struct toe_pipeline *p, enum toe_stage_id id)
{
	(void)p;
	if (id == TOE_STAGE_STREAM)
		atomic_fetch_add(&wakes, 1);
}

static int plus_one(struct toe_stream *s, struct toe_stream_ask *ask)
{
	(void)s;
	ask->at++;
	return (int)(ask->at % 1000);
}

static const struct toe_stream_module answers = {.name = "answers", .control = plus_one};
static const struct toe_stream_module mute = {.name = "mute"};

static void *stage(void *arg)
{
	struct stream_core *k = arg;

	while (!atomic_load(&over))
		if (stream_control_poll(k) == 0)
			sched_yield();
	return NULL;
}

static void test_answers(void **state)
{
	struct stream_core *k = calloc(1, sizeof(*k));
	struct toe_stream_ask ask = {0};
	pthread_t t;

	(void)state;
	assert_non_null(k);
	k->module_n = 2;
	k->modules[0].m = &mute;
	k->modules[1].m = &answers;
	assert_int_equal(pthread_create(&t, NULL, stage, k), 0);
	for (unsigned i = 0; i < QUESTIONS; i++) {
		ask.at = i;
		assert_int_equal(toe_stream_control(&engine, "answers", &ask, PATIENT_MS),
				 (i + 1) % 1000);
		assert_int_equal(ask.at, i + 1);
	}
	assert_int_equal(toe_stream_control(&engine, "mute", &ask, PATIENT_MS), -EOPNOTSUPP);
	assert_int_equal(toe_stream_control(&engine, "nobody", &ask, PATIENT_MS), -ENOENT);
	atomic_store(&over, true);
	pthread_join(t, NULL);
	free(k);
}

/* Woken every millisecond; what is asked next is not mixed up with what was given up. */
static void test_asleep(void **state)
{
	struct stream_core *k = calloc(1, sizeof(*k));
	struct toe_stream_ask ask = {.at = 7};
	unsigned before = atomic_load(&wakes);

	(void)state;
	assert_non_null(k);
	assert_int_equal(toe_stream_control(&engine, "answers", &ask, 20), -ETIMEDOUT);
	assert_int_equal(atomic_load(&wakes) - before, 20);
	assert_int_equal(ask.at, 7);
	assert_int_equal(stream_control_poll(k), 0);
	free(k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_asleep),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
