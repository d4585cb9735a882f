// SPDX-License-Identifier: BSD-3-Clause
/*
 * SIGHUP, by which a server is told to read its configuration again.
 *
 * In: handlers the program sets for it; out: the same handlers, called after the engine knows
 * (KERNEL_CONN, kconn.c).  What a module was told of the configuration by the operator may be
 * untrue from then on (docs/MQTT.md).  The program sees its own handlers and flags only.
 *
 * State: what the program has set, written with all signals blocked.  Any thread, signal handlers.
 * Not seen: a program that reads SIGHUP from a signalfd or sigwait(), or sets its handler by
 * another call than signal() and sigaction().
 */
#include <sched.h>
#include <string.h>

#include "libtoe/lt.h"

/* A handler that runs while another one is set reads a slot nobody writes to. */
static struct sigaction set[8];
static uint32_t turn;
static uint32_t writing;

static const struct sigaction *current(void)
{
	return &set[LT_LOAD(&turn) % (sizeof(set) / sizeof(set[0]))];
}

static void on_hup(int sig, siginfo_t *info, void *context)
{
	const struct sigaction now = *current();

	lt_kconn_reload();
	lt_broker_reload();
	if (now.sa_flags & SA_SIGINFO)
		now.sa_sigaction(sig, info, context);
	else
		now.sa_handler(sig);
}

static bool is_ours(const struct sigaction *a)
{
	return (a->sa_flags & SA_SIGINFO) && a->sa_sigaction == on_hup;
}

static int change(const struct sigaction *act, struct sigaction *before)
{
	struct sigaction ours;
	int rc = LT_REAL(sigaction)(SIGHUP, NULL, before);

	if (rc == 0 && is_ours(before))
		*before = *current();
	if (rc < 0 || !act)
		return rc;
	/* both are values of the union, whatever the flags */
	if (act->sa_handler == SIG_DFL || act->sa_handler == SIG_IGN)
		return LT_REAL(sigaction)(SIGHUP, act, NULL);
	set[(turn + 1) % (sizeof(set) / sizeof(set[0]))] = *act;
	LT_STORE(&turn, turn + 1);
	ours = *act;
	ours.sa_sigaction = on_hup;
	ours.sa_flags |= SA_SIGINFO;
	return LT_REAL(sigaction)(SIGHUP, &ours, NULL);
}

int lt_sigaction(int sig, const struct sigaction *restrict act, struct sigaction *restrict old)
{
	struct sigaction before;
	sigset_t all, mask;
	int rc;

	if (sig != SIGHUP)
		return LT_REAL(sigaction)(sig, act, old);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &mask);
	while (__atomic_exchange_n(&writing, 1, __ATOMIC_ACQUIRE))
		sched_yield();
	rc = change(act, &before);
	__atomic_store_n(&writing, 0, __ATOMIC_RELEASE);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	if (rc == 0 && old)
		*old = before;
	return rc;
}

/* As glibc's: interrupted calls are restarted, the signal is blocked meanwhile. */
__sighandler_t lt_signal(int sig, __sighandler_t handler)
{
	struct sigaction act = {.sa_flags = SA_RESTART};
	struct sigaction old = {0};

	if (sig != SIGHUP)
		return LT_REAL(signal)(sig, handler);
	if (handler == SIG_ERR) {
		errno = EINVAL;
		return SIG_ERR;
	}
	act.sa_handler = handler;
	sigemptyset(&act.sa_mask);
	sigaddset(&act.sa_mask, sig);
	return lt_sigaction(sig, &act, &old) < 0 ? SIG_ERR : old.sa_handler;
}
