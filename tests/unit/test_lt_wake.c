// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/unit/lt_fake.h tests/unit/lt_case.c */
/* Threads and wake-ups of libtoe, with the fake engine (lt_case.h). */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "lt_case.h"
#include "lt_fake.h"

/* ---- epoll servers ---- */

#define PEERS      24
#define PEER_BYTES 60000

struct server {
	int listener;
	uint32_t mode; /* 0 or EPOLLET */
	int left;
};

/* Echoes what is there; true at the end of the connection. */
static bool echo_some(int fd)
{
	char buf[3000];
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) > 0) {
		for (ssize_t at = 0; at < n;) {
			ssize_t w = write(fd, buf + at, (size_t)(n - at));

			if (w < 0 && errno == EAGAIN)
				poll(&(struct pollfd){fd, POLLOUT, 0}, 1, 5000);
			CHECK(w >= 0 || errno == EAGAIN);
			at += w > 0 ? w : 0;
		}
	}
	CHECK(n == 0 || errno == EAGAIN);
	return n == 0;
}

static void *serve(void *arg)
{
	struct server *sv = arg;
	struct epoll_event ev[8];
	int ep = epoll_create1(0);

	ev[0].events = EPOLLIN;
	ev[0].data.fd = sv->listener;
	CHECK(fcntl(sv->listener, F_SETFL, O_NONBLOCK) == 0);
	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, sv->listener, ev) == 0);
	while (sv->left > 0) {
		int n = epoll_wait(ep, ev, 8, 10000);

		CHECK(n > 0);
		for (int i = 0; i < n; i++) {
			int fd = ev[i].data.fd;

			if (fd != sv->listener) {
				if (echo_some(fd)) {
					close(fd);
					sv->left--;
				}
				continue;
			}
			while ((fd = accept4(sv->listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
				struct epoll_event add = {.events = EPOLLIN | EPOLLRDHUP | sv->mode,
							  .data.fd = fd};

				CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &add) == 0);
			}
			CHECK(errno == EAGAIN);
		}
	}
	close(ep);
	return NULL;
}

static void *peer(void *arg)
{
	static char out[PEER_BYTES];
	int fd = try_connect((int)(intptr_t)arg, 0);
	char in[4000];
	size_t sent = 0;
	size_t got = 0;

	CHECK(fd >= 0);
	while (got < PEER_BYTES) {
		size_t chunk = sent % 4001 + 1;

		if (chunk > PEER_BYTES - sent)
			chunk = PEER_BYTES - sent;
		if (chunk) {
			CHECK(write(fd, out + sent, chunk) == (ssize_t)chunk);
			sent += chunk;
		}
		read_exactly(fd, in, chunk < sizeof(in) ? chunk : sizeof(in));
		got += chunk < sizeof(in) ? chunk : sizeof(in);
		if (chunk > sizeof(in)) {
			read_exactly(fd, in, chunk - sizeof(in));
			got += chunk - sizeof(in);
		}
	}
	close(fd);
	return NULL;
}

static void many_connections(uint32_t mode)
{
	struct server sv = {.mode = mode, .left = PEERS};
	pthread_t t[PEERS];
	pthread_t server;
	int port;

	sv.listener = listen_any(&port);
	pthread_create(&server, NULL, serve, &sv);
	for (int i = 0; i < PEERS; i++)
		pthread_create(&t[i], NULL, peer, (void *)(intptr_t)port);
	for (int i = 0; i < PEERS; i++)
		pthread_join(t[i], NULL);
	pthread_join(server, NULL);
	close(sv.listener);
}

static void epoll_level(void)
{
	many_connections(0);
}
static void epoll_edge(void)
{
	many_connections(EPOLLET);
}

/* ---- wake-ups ---- */

/* A lost wake-up or kick would cost seconds: the fake engine sleeps that long. */
static void ping_pong(void)
{
	pthread_t t;
	char b = 'x';
	int c;
	int s;

	make_pair(&c, &s);
	pthread_create(&t, NULL, bounce, &s);
	for (int i = 0; i < 20000; i++) {
		CHECK(write(c, &b, 1) == 1);
		CHECK(read(c, &b, 1) == 1);
	}
	shutdown(c, SHUT_WR);
	pthread_join(t, NULL);
}

static void ping_pong_processes(void)
{
	char b = 'x';
	int st;
	int c;
	int s;
	pid_t pid;

	make_pair(&c, &s);
	pid = fork_child();
	if (pid == 0) {
		close(c);
		bounce(&s);
		_exit(0);
	}
	close(s);
	for (int i = 0; i < 10000; i++) {
		CHECK(write(c, &b, 1) == 1);
		CHECK(poll(&(struct pollfd){c, POLLIN, 0}, 1, 2000) == 1);
		CHECK(read(c, &b, 1) == 1);
	}
	close(c);
	waitpid(pid, &st, 0);
	CHECK(st == 0);
}

struct reader {
	int fd;
	uint64_t bytes;
	uint64_t sum;
};

static void *sum_bytes(void *arg)
{
	struct reader *r = arg;
	uint8_t buf[777];
	ssize_t n;

	while ((n = read(r->fd, buf, sizeof(buf))) > 0) {
		r->bytes += (uint64_t)n;
		for (ssize_t i = 0; i < n; i++)
			r->sum += buf[i];
	}
	CHECK(n == 0);
	return NULL;
}

static void *write_bytes(void *arg)
{
	int fd = *(int *)arg;
	uint8_t buf[1000];

	for (int i = 0; i < 300; i++) {
		memset(buf, i & 0xff, sizeof(buf));
		CHECK(write(fd, buf, sizeof(buf)) == (ssize_t)sizeof(buf));
	}
	return NULL;
}

static void shared_by_threads(void)
{
	struct reader r[4];
	pthread_t rt[4];
	pthread_t wt[4];
	uint64_t want = 0;
	uint64_t bytes = 0;
	uint64_t sum = 0;
	int c;
	int s;

	make_pair(&c, &s);
	for (int i = 0; i < 300; i++)
		want += 4 * 1000 * (uint64_t)(i & 0xff);
	for (int i = 0; i < 4; i++) {
		r[i] = (struct reader){s, 0, 0};
		pthread_create(&rt[i], NULL, sum_bytes, &r[i]);
		pthread_create(&wt[i], NULL, write_bytes, &c);
	}
	for (int i = 0; i < 4; i++)
		pthread_join(wt[i], NULL);
	shutdown(c, SHUT_WR);
	for (int i = 0; i < 4; i++) {
		pthread_join(rt[i], NULL);
		bytes += r[i].bytes;
		sum += r[i].sum;
	}
	CHECK(bytes == 4 * 300 * 1000);
	CHECK(sum == want);
}

/* ---- the engine learns of sends that found too little room ---- */

static void await_short(uint32_t want)
{
	for (int i = 0; i < 5000 && fake_stats->tx_short != want; i++)
		nap(1);
	CHECK(fake_stats->tx_short == want);
}

static void *drain_all(void *arg)
{
	char buf[4000];

	while (read(*(int *)arg, buf, sizeof(buf)) > 0)
		;
	return NULL;
}

static void short_writes(void)
{
	static char out_buf[10 * FAKE_BUF];
	uint32_t want = 0;
	ssize_t n;
	pthread_t t;
	int c;
	int s;

	make_pair(&c, &s);
	CHECK(write(c, out_buf, 1000) == 1000);
	CHECK(write(c, out_buf, 1000) == 1000);
	CHECK(poll(&(struct pollfd){s, POLLIN, 0}, 1, 5000) == 1);
	await_short(0);
	/* part of it, until both buffers are full: once each */
	CHECK(fcntl(c, F_SETFL, O_NONBLOCK) == 0);
	do {
		n = write(c, out_buf, sizeof(out_buf));
		CHECK(n < (ssize_t)sizeof(out_buf));
		await_short(++want);
	} while (n > 0 || want < 2);
	/* nothing at all, and no doorbell is under way */
	CHECK(write(c, out_buf, 1) == -1 && errno == EAGAIN);
	await_short(++want);
	/* one that waits, many times: once */
	CHECK(fcntl(c, F_SETFL, 0) == 0);
	pthread_create(&t, NULL, drain_all, &s);
	CHECK(write(c, out_buf, sizeof(out_buf)) == (ssize_t)sizeof(out_buf));
	CHECK(shutdown(c, SHUT_WR) == 0);
	pthread_join(t, NULL);
	await_short(++want);
	CHECK(fake_stats->bad == 0);
}

static void *blocked_read(void *arg)
{
	char b;
	ssize_t n = read(*(int *)arg, &b, 1);

	CHECK(n == -1 && errno == EBADF);
	return NULL;
}

static void *blocked_accept(void *arg)
{
	int fd = accept(*(int *)arg, NULL, NULL);

	CHECK(fd == -1 && errno == EBADF);
	return NULL;
}

static void close_wakes(void)
{
	pthread_t t;
	int port;
	int l = listen_any(&port);
	int was;
	int c;
	int s;

	make_pair(&c, &s);
	was = c;
	pthread_create(&t, NULL, blocked_read, &was);
	nap(30);
	close(c);
	pthread_join(t, NULL);
	pthread_create(&t, NULL, blocked_accept, &l);
	nap(30);
	was = l;
	CHECK(close(was) == 0);
	pthread_join(t, NULL);
}

struct waiter {
	int ep;
	int want;
};

static void *wait_for_data(void *arg)
{
	struct waiter *w = arg;
	struct epoll_event ev;
	int n = epoll_wait(w->ep, &ev, 1, 5000);

	CHECK(n == 1 && ev.data.u32 == (uint32_t)w->want);
	return NULL;
}

/* Another thread adds to a set in which one sleeps: first one of kernel descriptors only. */
static void ctl_wakes(void)
{
	struct waiter w = {epoll_create1(0), 1};
	struct epoll_event ev = {.events = EPOLLIN, .data.u32 = 1};
	pthread_t t;
	int p[2];
	int c[2];
	int s[2];

	CHECK(pipe(p) == 0);
	CHECK(epoll_ctl(w.ep, EPOLL_CTL_ADD, p[0], &ev) == 0);
	for (int i = 0; i < 2; i++) {
		make_pair(&c[i], &s[i]);
		w.want = ev.data.u32 = (uint32_t)i + 2;
		pthread_create(&t, NULL, wait_for_data, &w);
		nap(30);
		CHECK(write(s[i], "x", 1) == 1);
		CHECK(poll(&(struct pollfd){c[i], POLLIN, 0}, 1, 1000) == 1);
		CHECK(epoll_ctl(w.ep, EPOLL_CTL_ADD, c[i], &ev) == 0);
		pthread_join(t, NULL);
		CHECK(read(c[i], &(char){0}, 1) == 1);
	}
	/* data for a sleeping set, and a kernel descriptor */
	w.want = 2;
	pthread_create(&t, NULL, wait_for_data, &w);
	nap(30);
	CHECK(write(s[0], "x", 1) == 1);
	pthread_join(t, NULL);
	CHECK(read(c[0], &(char){0}, 1) == 1);
	w.want = 1;
	pthread_create(&t, NULL, wait_for_data, &w);
	nap(30);
	CHECK(write(p[1], "x", 1) == 1);
	pthread_join(t, NULL);
}

struct crowd {
	int ep;
	int stop;
	int got;
};

static void *crowd_thread(void *arg)
{
	struct crowd *cr = arg;
	struct epoll_event ev;

	for (;;) {
		int n = epoll_wait(cr->ep, &ev, 1, 10000);
		char b;

		CHECK(n == 1);
		if (ev.data.fd == cr->stop)
			return NULL;
		CHECK(read(ev.data.fd, &b, 1) == 1);
		__atomic_add_fetch(&cr->got, 1, __ATOMIC_RELAXED);
		ev.events = EPOLLIN | EPOLLONESHOT;
		CHECK(epoll_ctl(cr->ep, EPOLL_CTL_MOD, ev.data.fd, &ev) == 0);
	}
}

static void threads_on_one_set(void)
{
	struct crowd cr = {.ep = epoll_create1(0)};
	struct epoll_event ev = {.events = EPOLLIN | EPOLLONESHOT};
	pthread_t t[4];
	int p[2];
	int c[8];
	int s[8];

	CHECK(pipe(p) == 0);
	cr.stop = p[0];
	for (int i = 0; i < 8; i++) {
		make_pair(&c[i], &s[i]);
		ev.data.fd = s[i];
		CHECK(epoll_ctl(cr.ep, EPOLL_CTL_ADD, s[i], &ev) == 0);
	}
	for (int i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, crowd_thread, &cr);
	for (int i = 0; i < 4000; i++)
		CHECK(write(c[i % 8], "x", 1) == 1);
	for (int i = 0; i < 5000 && __atomic_load_n(&cr.got, __ATOMIC_RELAXED) < 4000; i++)
		nap(1);
	CHECK(__atomic_load_n(&cr.got, __ATOMIC_RELAXED) == 4000);
	ev.events = EPOLLIN;
	ev.data.fd = p[0];
	CHECK(epoll_ctl(cr.ep, EPOLL_CTL_ADD, p[0], &ev) == 0);
	CHECK(write(p[1], "x", 1) == 1);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
}

/* With room for one event, neither kernel nor offloaded descriptors starve. */
static void fairness(void)
{
	struct epoll_event ev = {.events = EPOLLIN};
	int ep = epoll_create1(0);
	int seen[4] = {0};
	int p[2];
	int c[3];
	int s[3];

	CHECK(pipe(p) == 0 && write(p[1], "x", 1) == 1);
	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &ev) == 0);
	for (int i = 0; i < 3; i++) {
		make_pair(&c[i], &s[i]);
		CHECK(write(c[i], "x", 1) == 1);
		CHECK(poll(&(struct pollfd){s[i], POLLIN, 0}, 1, 1000) == 1);
		ev.data.u32 = (uint32_t)i + 1;
		CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, s[i], &ev) == 0);
	}
	for (int i = 0; i < 24; i++) {
		CHECK(epoll_wait(ep, &ev, 1, 0) == 1);
		seen[ev.data.u32]++;
	}
	CHECK(seen[0] >= 4 && seen[1] >= 3 && seen[2] >= 3 && seen[3] >= 3);
}

/* ---- signal handlers ---- */

static int sig_fd;
static volatile sig_atomic_t sig_n;

static void send_in_handler(int sig)
{
	int saved = errno;

	(void)sig;
	if (send(sig_fd, "SIGNAL", 6, MSG_DONTWAIT) == 6)
		sig_n++;
	errno = saved;
}

struct count {
	int fd;
	uint64_t letters;
	uint64_t records;
};

static void *count_records(void *arg)
{
	struct count *k = arg;
	char buf[4096];
	size_t have = 0;
	ssize_t n;

	while ((n = read(k->fd, buf + have, sizeof(buf) - have)) > 0) {
		size_t at = 0;

		have += (size_t)n;
		while (at < have && (buf[at] == '.' || have - at >= 6)) {
			if (buf[at] == '.') {
				k->letters++;
				at++;
				continue;
			}
			CHECK(memcmp(buf + at, "SIGNAL", 6) == 0);
			k->records++;
			at += 6;
		}
		memmove(buf, buf + at, have - at);
		have -= at;
	}
	CHECK(n == 0 && have == 0);
	return NULL;
}

__attribute__((unused)) static void send_from_handler(void)
{
	struct itimerval often = {{0, 200}, {0, 200}};
	struct itimerval never = {{0, 0}, {0, 0}};
	struct sigaction sa = {.sa_handler = send_in_handler, .sa_flags = SA_RESTART};
	struct count k = {0};
	sigset_t only_main;
	pthread_t t;
	char dots[64];
	uint64_t sent = 0;
	int c;

	memset(dots, '.', sizeof(dots));
	make_pair(&c, &k.fd);
	sig_fd = c;
	sigemptyset(&only_main);
	sigaddset(&only_main, SIGVTALRM);
	sigaddset(&only_main, SIGALRM);
	sigaddset(&only_main, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &only_main, NULL);
	pthread_create(&t, NULL, count_records, &k);
	pthread_sigmask(SIG_UNBLOCK, &only_main, NULL);
	sigaction(SIGVTALRM, &sa, NULL);
	setitimer(ITIMER_VIRTUAL, &often, NULL);
	for (int i = 0; i < 200000 && sig_n < 100; i++) {
		ssize_t n = send(c, dots, sizeof(dots), 0);

		CHECK(n > 0);
		sent += (uint64_t)n;
	}
	setitimer(ITIMER_VIRTUAL, &never, NULL);
	shutdown(c, SHUT_WR);
	pthread_join(t, NULL);
	CHECK(k.letters == sent);
	CHECK(k.records == (uint64_t)sig_n);
}

int main(int argc, char **argv)
{
	static const struct lt_case cases[] = {
		CASE(epoll_level),         CASE(epoll_edge),         CASE(ping_pong),
		CASE(ping_pong_processes), CASE(shared_by_threads),  CASE(close_wakes),
		CASE(ctl_wakes),           CASE(threads_on_one_set), CASE(fairness),
		CASE(short_writes),
#ifndef __SANITIZE_THREAD__ /* TSan runs handlers later, at a call of its choice */
		CASE(send_from_handler),
#endif
	};

	return case_main(cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
