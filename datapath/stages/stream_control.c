/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stream: questions from outside, asked by other threads and answered by the stage's own.
 *
 * Input: toe_stream_control().  One question at a time waits in a mailbox; the stage looks at one
 * word per poll, answers, and wakes who asked.  State: the mailbox.  Threads: the stage's, and any
 * that is no lcore.
 */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "pipeline.h"
#include "stream.h"
#include "stream_priv.h"

enum { BOX_EMPTY, BOX_ASKED, BOX_BUSY, BOX_ANSWERED };

static struct {
	/* ASKED: release by who asks, acquire by the stage.  ANSWERED: the other way round; the
	 * semaphore only wakes (TSan does not know sem_clockwait()). */
	_Atomic int state;
	const char *module;
	struct toe_stream_ask *ask;
	int rc;
	sem_t answered;
} box;

static pthread_mutex_t asking = PTHREAD_MUTEX_INITIALIZER;

static int answer(struct stream_core *k)
{
	for (unsigned i = 0; i < k->module_n; i++) {
		struct toe_stream *t = &k->modules[i];

		if (strcmp(t->m->name, box.module) == 0)
			return t->m->control != NULL ? t->m->control(t, box.ask) : -EOPNOTSUPP;
	}
	return -ENOENT;
}

unsigned stream_control_poll(struct stream_core *k)
{
	int asked = BOX_ASKED;

	if (atomic_load_explicit(&box.state, memory_order_relaxed) != BOX_ASKED ||
	    !atomic_compare_exchange_strong_explicit(&box.state, &asked, BOX_BUSY,
						     memory_order_acquire, memory_order_relaxed))
		return 0;
	box.rc = answer(k);
	atomic_store_explicit(&box.state, BOX_ANSWERED, memory_order_release);
	sem_post(&box.answered);
	return 1;
}

/* One millisecond from now, whatever happens to the time of day. */
static struct timespec soon(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_nsec += 1000000;
	if (t.tv_nsec >= 1000000000) {
		t.tv_nsec -= 1000000000;
		t.tv_sec++;
	}
	return t;
}

/* Wakes the stage again and again: it may have been about to sleep.  One that is answering at this
 * very moment is waited for. */
static int wait_for_answer(struct toe_engine *e, unsigned timeout_ms)
{
	int asked = BOX_ASKED;
	unsigned turns = 0;

	for (;;) {
		struct timespec until = soon();

		toe_pipeline_wake(e->pipeline, TOE_STAGE_STREAM);
		if (sem_clockwait(&box.answered, CLOCK_MONOTONIC, &until) == 0 &&
		    atomic_load_explicit(&box.state, memory_order_acquire) == BOX_ANSWERED)
			return box.rc;
		if (++turns >= timeout_ms &&
		    atomic_compare_exchange_strong(&box.state, &asked, BOX_EMPTY))
			return -ETIMEDOUT;
		asked = BOX_ASKED;
	}
}

int toe_stream_control(struct toe_engine *e, const char *module, struct toe_stream_ask *ask,
		       unsigned timeout_ms)
{
	int rc;

	if (pthread_mutex_trylock(&asking) != 0)
		return -EBUSY;
	sem_init(&box.answered, 0, 0);
	box.module = module;
	box.ask = ask;
	atomic_store_explicit(&box.state, BOX_ASKED, memory_order_release);
	rc = wait_for_answer(e, timeout_ms);
	atomic_store_explicit(&box.state, BOX_EMPTY, memory_order_relaxed);
	sem_destroy(&box.answered);
	pthread_mutex_unlock(&asking);
	return rc;
}
