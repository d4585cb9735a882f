/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sleeping and waking of one lcore.
 *
 *   sleeper: toe_idle_announce()  flag = 1, seq_cst fence
 *            recheck every input
 *            toe_idle_wait()      epoll, only if there was nothing
 *            toe_idle_awake()     flag = 0
 *   waker:   publish, toe_idle_fence(), toe_idle_wake()
 *
 * The two fences pair: either the sleeper's recheck sees what was published, or the waker sees the
 * flag.  Without them about 1 wake-up in 300 000 is lost on x86.
 */
#ifndef TOE_IDLE_H
#define TOE_IDLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct toe_idle {
	/* Written by the sleeper, taken to 0 by the one waker that writes the eventfd. */
	_Alignas(64) _Atomic uint32_t sleeping;
	_Alignas(64) int epoll_fd;
	int event_fd;
};

/* 0 or -errno. */
int toe_idle_init(struct toe_idle *i);
void toe_idle_fini(struct toe_idle *i);

/* Level-triggered; from any thread.  A descriptor that has hung up for good is forgotten. */
int toe_idle_watch(struct toe_idle *i, int fd);
void toe_idle_unwatch(struct toe_idle *i, int fd);

static inline void toe_idle_announce(struct toe_idle *i)
{
	atomic_store_explicit(&i->sleeping, 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_seq_cst); /* pairs with toe_idle_fence() */
}

static inline void toe_idle_awake(struct toe_idle *i)
{
	atomic_store_explicit(&i->sleeping, 0, memory_order_relaxed);
}

/* Up to ns nanoseconds.  True: something happened, false: time is over. */
bool toe_idle_wait(struct toe_idle *i, uint64_t ns);

static inline void toe_idle_fence(void)
{
	atomic_thread_fence(memory_order_seq_cst); /* pairs with toe_idle_announce() */
}

void toe_idle_kick(struct toe_idle *i);

/* After toe_idle_fence().  One system call if the lcore sleeps and nobody else wakes it. */
static inline void toe_idle_wake(struct toe_idle *i)
{
	if (atomic_load_explicit(&i->sleeping, memory_order_relaxed) != 0 &&
	    atomic_exchange_explicit(&i->sleeping, 0, memory_order_relaxed) != 0)
		toe_idle_kick(i);
}

#endif
