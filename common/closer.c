/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Threads that close what others gave us.
 *
 * Input: descriptors from any thread.  Output: they are closed, in whatever order.  A thread more
 * is made when all are busy and something waits, up to TOE_CLOSER_THREADS; they stay.  What is
 * stuck beyond that waits in a list and counts (toe_close_waiting).  State: that list, one mutex
 * held for a few instructions.
 */
#include "common/closer.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

struct item {
	struct item *next;
	int fd;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t more = PTHREAD_COND_INITIALIZER;
static struct item *head;
static struct item **tail = &head;
static unsigned waiting; /* in the list, or being closed */
static unsigned queued;  /* in the list */
static unsigned threads;
static unsigned idle;

static void *closer_main(void *arg)
{
	pthread_mutex_lock(&lock);
	for (;;) {
		struct item *i = head;

		if (i == NULL) {
			idle++;
			pthread_cond_wait(&more, &lock);
			idle--;
			continue;
		}
		head = i->next;
		if (head == NULL)
			tail = &head;
		queued--;
		pthread_mutex_unlock(&lock);
		close(i->fd);
		free(i);
		pthread_mutex_lock(&lock);
		waiting--;
	}
	return arg;
}

/* Signals are the business of the threads that were there before. */
static bool start_thread(void)
{
	sigset_t all, old;
	pthread_t t;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&t, NULL, closer_main, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc != 0)
		return false;
	pthread_setname_np(t, "toe-closer");
	pthread_detach(t);
	return true;
}

void toe_close_later(int fd)
{
	struct item *i;

	if (fd < 0)
		return;
	i = malloc(sizeof(*i));
	if (i == NULL) {
		close(fd); /* may wait, but a leak would be for ever */
		return;
	}
	*i = (struct item){.fd = fd};
	pthread_mutex_lock(&lock);
	*tail = i;
	tail = &i->next;
	waiting++;
	queued++;
	if (queued > idle && threads < TOE_CLOSER_THREADS && start_thread())
		threads++;
	pthread_cond_signal(&more);
	pthread_mutex_unlock(&lock);
}

unsigned toe_close_waiting(void)
{
	unsigned n;

	pthread_mutex_lock(&lock);
	n = waiting;
	pthread_mutex_unlock(&lock);
	return n;
}
