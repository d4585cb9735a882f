/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * SIGBUS on application memory (a punched hugepage, memory limit, poisoned page).
 *
 * Job: put an anonymous page under the faulting address and go on; whose memory it was is told by a
 * callback.  Any other SIGBUS is fatal as ever.  Input: faults of any thread, also of a DMA
 * driver's.  State: a table of ranges, written by the keeper-link thread, read in signal context,
 * so no locks: start is stored last and cleared first.
 */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>

#include "apps.h"
#include "sigbus.h"

#define RANGES (2 * TOE_APP_N) /* two segments per application */

struct range {
	_Atomic uintptr_t start; /* 0: free */
	size_t bytes;
	size_t page;
	void (*hit)(void *);
	void *arg;
};

static struct range ranges[RANGES];

static const struct range *find(uintptr_t addr)
{
	for (unsigned i = 0; i < RANGES; i++) {
		/* pairs with the release in toe_sigbus_watch() */
		uintptr_t start = atomic_load_explicit(&ranges[i].start, memory_order_acquire);

		if (start != 0 && addr >= start && addr - start < ranges[i].bytes)
			return &ranges[i];
	}
	return NULL;
}

/* Kernel-sent, inside r: true if the access can be repeated. */
static bool repair(const struct range *r, uintptr_t addr)
{
	uintptr_t start = atomic_load_explicit(&r->start, memory_order_relaxed);
	uintptr_t at = start + (addr - start) / r->page * r->page;
	size_t left = start + r->bytes - at;
	size_t bytes = left < r->page ? left : r->page;

	return mmap((void *)at, bytes, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED;
}

static void on_sigbus(int sig, siginfo_t *si, void *context)
{
	const struct range *r = si->si_code > 0 ? find((uintptr_t)si->si_addr) : NULL;
	int saved = errno;

	(void)context;
	if (r != NULL && repair(r, (uintptr_t)si->si_addr)) {
		r->hit(r->arg);
		errno = saved;
		return;
	}
	/* Blocked until the handler returns; then it ends the process. */
	signal(sig, SIG_DFL);
	raise(sig);
}

int toe_sigbus_init(void)
{
	struct sigaction sa = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_RESTART};

	sigemptyset(&sa.sa_mask);
	return sigaction(SIGBUS, &sa, NULL) == 0 ? 0 : -errno;
}

int toe_sigbus_watch(void *start, size_t bytes, size_t page, void (*hit)(void *), void *arg)
{
	for (unsigned i = 0; i < RANGES; i++) {
		struct range *r = &ranges[i];

		if (atomic_load_explicit(&r->start, memory_order_relaxed) != 0)
			continue;
		r->bytes = bytes;
		r->page = page;
		r->hit = hit;
		r->arg = arg;
		atomic_store_explicit(&r->start, (uintptr_t)start, memory_order_release);
		return 0;
	}
	return -ENOSPC;
}

void toe_sigbus_unwatch(const void *start)
{
	for (unsigned i = 0; i < RANGES; i++) {
		if (atomic_load_explicit(&ranges[i].start, memory_order_relaxed) ==
		    (uintptr_t)start)
			atomic_store_explicit(&ranges[i].start, 0, memory_order_release);
	}
}
