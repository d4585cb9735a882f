// SPDX-License-Identifier: BSD-3-Clause
/*
 * Waiting: SO_RCVTIMEO and SO_SNDTIMEO, EINTR and SA_RESTART, time-outs of poll and epoll, and that
 * all waits sleep (processor time over a second of waiting below 5 %).
 */
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/time.h>
#include <time.h>

#include "tests/oracle/oracle.h"

static char buf[1 << 20];
static int wake_by_data = -1;
static volatile sig_atomic_t hits;

static void on_alarm(int sig)
{
	(void)sig;
	/* SA_RESTART: the call goes on until there is something, which this brings about */
	if (++hits == 3 && wake_by_data >= 0)
		(void)!write(wake_by_data, "text A wake", 11);
}

/* Fires every 20 ms until stopped: one will hit the call while it waits. */
static void alarms(int flags)
{
	struct sigaction sa = {.sa_handler = on_alarm, .sa_flags = flags};
	struct itimerval it = {{0, 20000}, {0, 20000}};

	hits = 0;
	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &it, NULL);
}

static void no_alarms(void)
{
	struct itimerval it = {{0, 0}, {0, 0}};

	setitimer(ITIMER_REAL, &it, NULL);
}

static int64_t now_ms(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

#define TIMED(call, at_least_ms)                                                                   \
	do {                                                                                       \
		int64_t t0_ = now_ms(CLOCK_MONOTONIC);                                             \
		T(call);                                                                           \
		SAY("in time: %d\n", now_ms(CLOCK_MONOTONIC) - t0_ >= (at_least_ms)-1);            \
	} while (0)

static void fill(int c)
{
	bool more;

	do {
		ora_writable(c);
		more = false;
		while (send(c, buf, sizeof(buf), MSG_DONTWAIT) > 0)
			more = true;
	} while (more);
}

static void timeouts(int l, int c, int full)
{
	struct timeval tv = {0, 100000};
	int ep = MUST(epoll_create1(0));
	struct epoll_event ev;
	struct pollfd p = {c, POLLIN, 0};

	SAY("-- time-outs\n");
	T(setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	TIMED(recv(c, buf, 10, 0), 100);
	TIMED(recv(c, buf, 10, MSG_WAITALL), 100);
	PEER("send A 3");
	WAIT(c, POLLIN);
	TIMED(recv(c, buf, 10, MSG_WAITALL), 100);
	T(setsockopt(full, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)));
	fill(full);
	TIMED(send(full, buf, sizeof(buf), 0), 100);
	T(setsockopt(l, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	TIMED(accept(l, NULL, NULL), 100);
	TIMED(poll(&p, 1, 100), 100);
	MUST(ep_ctl(ep, EPOLL_CTL_ADD, c, EPOLLIN, 1));
	TIMED(epoll_wait(ep, &ev, 1, 100), 100);
	tv.tv_usec = 0;
	T(setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	T(setsockopt(l, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	T(setsockopt(full, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)));
	close(ep);
}

static void interrupted(int l, int c, int full)
{
	int ep = MUST(epoll_create1(0));
	struct epoll_event ev;
	struct pollfd p = {c, POLLIN, 0};
	fd_set in;

	SAY("-- EINTR\n");
	MUST(ep_ctl(ep, EPOLL_CTL_ADD, c, EPOLLIN, 1));
	FD_ZERO(&in);
	FD_SET(c, &in);
	alarms(0);
	T(read(c, buf, 10));
	T(recv(c, buf, 10, MSG_WAITALL));
	T(accept(l, NULL, NULL));
	T(poll(&p, 1, ORA_WAIT_MS));
	T(poll(&p, 1, -1));
	T(select(c + 1, &in, NULL, NULL, NULL));
	T(epoll_wait(ep, &ev, 1, -1));
	T(epoll_pwait(ep, &ev, 1, ORA_WAIT_MS, NULL));
	T(send(full, buf, sizeof(buf), 0));
	no_alarms();
	SAY("-- SA_RESTART\n");
	alarms(SA_RESTART);
	T(poll(&p, 1, -1));
	T(epoll_wait(ep, &ev, 1, -1));
	no_alarms();
	wake_by_data = ora.ctl;
	alarms(SA_RESTART);
	T(read(c, buf, 10));
	no_alarms();
	SAY("hits enough: %d\n", hits >= 3);
	MUST(recv(ora.ctl, buf, 64, 0));
	wake_by_data = -1;
	close(ep);
}

static void masked(int c)
{
	struct epoll_event ev;
	struct timespec ts = {5, 0};
	struct pollfd p = {c, POLLIN, 0};
	int ep = MUST(epoll_create1(0));
	sigset_t block, old;
	fd_set in;

	SAY("-- masks\n");
	MUST(ep_ctl(ep, EPOLL_CTL_ADD, c, EPOLLIN, 1));
	sigemptyset(&block);
	sigaddset(&block, SIGUSR1);
	sigprocmask(SIG_BLOCK, &block, &old);
	signal(SIGUSR1, on_alarm);
	hits = 0;
	raise(SIGUSR1);
	T(ppoll(&p, 1, &ts, &old));
	raise(SIGUSR1);
	T(epoll_pwait(ep, &ev, 1, 5000, &old));
	raise(SIGUSR1);
	FD_ZERO(&in);
	FD_SET(c, &in);
	T(pselect(c + 1, &in, NULL, NULL, &ts, &old));
	SAY("hits %d\n", (int)hits);
	sigprocmask(SIG_SETMASK, &old, NULL);
	close(ep);
}

static void show_cpu(const char *what, int64_t start)
{
	SAY("%s sleeps: %d\n", what, now_ms(CLOCK_PROCESS_CPUTIME_ID) - start < 50);
}

static void asleep(int c)
{
	struct timeval tv = {1, 0};
	struct epoll_event ev;
	struct pollfd p = {c, POLLIN, 0};
	int ep = MUST(epoll_create1(0));
	int64_t start;
	fd_set in;

	SAY("-- waits sleep\n");
	MUST(ep_ctl(ep, EPOLL_CTL_ADD, c, EPOLLIN, 1));
	MUST(setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	FD_ZERO(&in);
	FD_SET(c, &in);
	start = now_ms(CLOCK_PROCESS_CPUTIME_ID);
	TIMED(epoll_wait(ep, &ev, 1, 1000), 1000);
	show_cpu("epoll", start);
	start = now_ms(CLOCK_PROCESS_CPUTIME_ID);
	TIMED(poll(&p, 1, 1000), 1000);
	show_cpu("poll", start);
	start = now_ms(CLOCK_PROCESS_CPUTIME_ID);
	TIMED(read(c, buf, 1), 1000);
	show_cpu("read", start);
	start = now_ms(CLOCK_PROCESS_CPUTIME_ID);
	TIMED(select(c + 1, &in, NULL, NULL, &tv), 1000);
	show_cpu("select", start);
	close(ep);
}

int main(int argc, char **argv)
{
	int l, c, full;

	ora_start(argc, argv);
	l = ora_listen();
	c = ora_accept(l, 'A');
	full = ora_accept(l, 'F');
	timeouts(l, c, full);
	interrupted(l, c, full);
	masked(c);
	asleep(c);
	return 0;
}
