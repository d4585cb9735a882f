// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/unit/lt_fake.c libtoe/connect.c libtoe/ctx.c libtoe/dup_fork_exec.c libtoe/epoll.c
 *       libtoe/epoll_items.c libtoe/fdtable.c libtoe/interpose.c libtoe/io_calls.c
 *       libtoe/libc_real.c libtoe/listen.c libtoe/poll_select.c libtoe/shm.c libtoe/sock.c
 *       libtoe/sockopt.c libtoe/state.c libtoe/stream_io.c libtoe/token.c libtoe/wait.c
 *       common/ctl_sock.c common/log.c */
/*
 * libtoe against the fake engine: what a comparison with the kernel cannot show.  Threads,
 * wake-ups, limits, hidden descriptors, fork and exec, death of the engine.  Every case runs in a
 * process of its own with its own engine, under an alarm.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "libtoe/lt.h"
#include "lt_fake.h"

static pid_t engine;
static const char *self;

/* In a scenario: prints and fails the case. */
#define CHECK(x)                                                                                   \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			fprintf(stderr, "line %d: %s (errno %s)\n", __LINE__, #x,                  \
				strerrorname_np(errno));                                           \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)

/* An alarm is not inherited. */
static pid_t fork_child(void)
{
	pid_t pid = fork();

	if (pid == 0)
		alarm(15);
	return pid;
}

static int listen_any(int *port)
{
	struct sockaddr_in sa = {.sin_family = AF_INET};
	socklen_t len = sizeof(sa);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	CHECK(bind(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0);
	CHECK(listen(fd, 64) == 0);
	CHECK(getsockname(fd, (struct sockaddr *)&sa, &len) == 0);
	*port = ntohs(sa.sin_port);
	return fd;
}

static int try_connect(int port, int flags)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int fd = socket(AF_INET, SOCK_STREAM | flags, 0);
	int rc;

	inet_pton(AF_INET, FAKE_ADDR, &sa.sin_addr);
	rc = connect(fd, (struct sockaddr *)&sa, sizeof(sa));
	if (rc < 0 && errno != EINPROGRESS) {
		close(fd);
		return -errno;
	}
	return fd;
}

static void make_pair(int *c, int *s)
{
	int port;
	int l = listen_any(&port);

	*c = try_connect(port, 0);
	CHECK(*c >= 0);
	*s = accept(l, NULL, NULL);
	CHECK(*s >= 0);
	close(l);
}

static void read_exactly(int fd, void *buf, size_t len)
{
	for (size_t got = 0; got < len;) {
		ssize_t n = read(fd, (char *)buf + got, len - got);

		CHECK(n > 0);
		got += (size_t)n;
	}
}

static void nap(int ms)
{
	poll(NULL, 0, ms);
}

static int fds_open(void)
{
	int n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

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

static void *bounce(void *arg)
{
	int fd = *(int *)arg;
	char b;

	while (read(fd, &b, 1) == 1)
		CHECK(write(fd, &b, 1) == 1);
	return NULL;
}

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

/* ---- descriptors ---- */

static void limit_fds(rlim_t n)
{
	struct rlimit lim;

	getrlimit(RLIMIT_NOFILE, &lim);
	lim.rlim_cur = n;
	CHECK(setrlimit(RLIMIT_NOFILE, &lim) == 0);
}

static void no_descriptors(void)
{
	int held[512];
	int n = 0;
	int port;
	int l = listen_any(&port);
	int c[30];
	int i = 0;

	limit_fds(200);
	for (; i < 12; i++) {
		c[i] = try_connect(port, 0);
		CHECK(c[i] >= 0);
	}
	while ((held[n] = dup(0)) >= 0)
		n++;
	fcntl(l, F_SETFL, O_NONBLOCK);
	CHECK(poll(&(struct pollfd){l, POLLIN, 0}, 1, 1000) == 1);
	for (i = 0; accept(l, NULL, NULL) >= 0; i++)
		;
	CHECK(errno == EMFILE && i < 12);
	CHECK(poll(&(struct pollfd){l, POLLIN, 0}, 1, 1000) == 1); /* they wait */
	while (n > 0)
		close(held[--n]);
	for (; i < 12; i++)
		CHECK(accept(l, NULL, NULL) >= 0);
}

/* What the application closes by number is not ours. */
static void hidden(void)
{
	char b[4];
	int port;
	int l = listen_any(&port);
	int c = try_connect(port, 0);
	int s = accept(l, NULL, NULL);
	int ep = epoll_create1(0);
	struct epoll_event ev = {.events = EPOLLIN};

	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, c, &ev) == 0);
	CHECK(epoll_wait(ep, &ev, 1, 10) == 0);
	for (int fd = 3; fd < 1024; fd++) {
		if (fd != c && fd != s && fd != ep && fd != l)
			close(fd);
	}
	for (int fd = 90; fd < 120; fd++)
		CHECK(dup2(0, fd) == fd);
	CHECK(write(s, "abc", 3) == 3);
	CHECK(epoll_wait(ep, &ev, 1, 1000) == 1);
	CHECK(read(c, b, 4) == 3);
	CHECK(close_range(3, ~0u, 0) == 0);
	CHECK(read(c, b, 1) == -1 && errno == EBADF);
	l = listen_any(&port);
	c = try_connect(port, 0);
	CHECK(c >= 0 && c < 20);
	s = accept(l, NULL, NULL);
	CHECK(write(s, "abc", 3) == 3);
	CHECK(read(c, b, 4) == 3);
	closefrom(3);
	make_pair(&c, &s);
}

static void nothing_leaks(void)
{
	int port;
	int l = listen_any(&port);
	int before;

	close(try_connect(port, 0));
	close(accept(l, NULL, NULL));
	before = fds_open();
	for (int i = 0; i < 500; i++) {
		int c = try_connect(port, 0);
		int s = accept(l, NULL, NULL);

		CHECK(c >= 0 && s >= 0);
		CHECK(write(c, "x", 1) == 1);
		CHECK(read(s, &(char){0}, 1) == 1);
		close(i & 1 ? c : s);
		close(i & 1 ? s : c);
	}
	CHECK(abs(fds_open() - before) <= 32); /* the pool */
	for (int i = 0; i < 2000 && fake_stats->slots_used; i++)
		nap(1);
	CHECK(fake_stats->slots_used == 0);
	CHECK(fake_stats->hint_full == 0);
}

static void unfinished_connect(void)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(FAKE_BLACKHOLE)};
	struct timeval tv = {0, 30000};
	int fd = try_connect(FAKE_BLACKHOLE, SOCK_NONBLOCK);
	struct pollfd p = {.fd = fd, .events = POLLIN | POLLOUT};
	char b;

	CHECK(fd >= 0 && poll(&p, 1, 20) == 0);
	CHECK(send(fd, "x", 1, 0) == -1 && errno == EAGAIN);
	CHECK(recv(fd, &b, 1, 0) == -1 && errno == EAGAIN);
	inet_pton(AF_INET, FAKE_ADDR, &sa.sin_addr);
	CHECK(connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == -1 && errno == EALREADY);
	close(fd);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)) == 0);
	CHECK(connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == -1 && errno == EINPROGRESS);
	close(fd);
	/* not the engine's business: the kernel knows no way there, or its own error */
	CHECK(try_connect(FAKE_KERNEL, SOCK_NONBLOCK) != -EXDEV);
	/* the engine's echo */
	fd = try_connect(FAKE_ECHO, 0);
	CHECK(write(fd, "e", 1) == 1 && read(fd, &b, 1) == 1 && b == 'e');
}

/* ---- processes ---- */

static void set_survives_fork(void)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.u32 = 5};
	int ep = epoll_create1(0);
	char b;
	int st;
	int c;
	int s;
	pid_t pid;

	make_pair(&c, &s);
	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, s, &ev) == 0);
	for (int round = 0; round < 3; round++) {
		pid = fork_child();
		if (pid == 0) {
			CHECK(epoll_wait(ep, &ev, 1, 5000) == 1 && ev.data.u32 == 5);
			CHECK(read(s, &b, 1) == 1 && write(s, "r", 1) == 1);
			_exit(0);
		}
		nap(20);
		CHECK(write(c, "q", 1) == 1);
		CHECK(read(c, &b, 1) == 1 && b == 'r');
		waitpid(pid, &st, 0);
		CHECK(st == 0);
	}
	CHECK(write(c, "q", 1) == 1);
	CHECK(epoll_wait(ep, &ev, 1, 1000) == 1 && ev.data.u32 == 5);
}

/* The parent of a daemon ends; the child serves. */
static void daemonised(void)
{
	int port;
	int l = listen_any(&port);
	int st;
	pid_t pid = fork_child();

	if (pid == 0) {
		int fd = accept(l, NULL, NULL);

		CHECK(fd >= 0);
		bounce(&fd);
		_exit(0);
	}
	for (int i = 0; i < 1000 && fake_stats->listen_users < 2; i++)
		nap(1);
	CHECK(close(l) == 0);
	l = try_connect(port, 0);
	CHECK(l >= 0);
	CHECK(write(l, "x", 1) == 1 && read(l, &(char){0}, 1) == 1);
	close(l);
	waitpid(pid, &st, 0);
	CHECK(st == 0);
}

/* A vfork child closes and execs: our table is the parent's. */
static void vforked(void)
{
	int st;
	int c;
	int s;
	pid_t pid;

	make_pair(&c, &s);
	pid = vfork();
	if (pid == 0) {
		close(c);
		close(s);
		execl("/bin/true", "true", NULL);
		_exit(9);
	}
	waitpid(pid, &st, 0);
	CHECK(st == 0);
	CHECK(write(c, "x", 1) == 1 && read(s, &(char){0}, 1) == 1);
}

/* The image after exec has the connection and the listener on the same numbers. */
static int after_exec(int s, int l)
{
	int c;

	alarm(10);
	lt_start();
	CHECK(read(s, &(char){0}, 1) == 1);
	CHECK(write(s, "exec", 4) == 4);
	c = accept(l, NULL, NULL);
	CHECK(c >= 0 && write(c, "l", 1) == 1);
	return 0;
}

static void exec_keeps(void)
{
	char a[3][12];
	char b[8];
	int port;
	int l = listen_any(&port);
	int c = try_connect(port, 0);
	int s = accept(l, NULL, NULL);
	int st;
	pid_t pid;

	snprintf(a[0], 12, "%d", s);
	snprintf(a[1], 12, "%d", l);
	pid = fork_child();
	if (pid == 0) {
		close(c);
		execl(self, self, "exec", a[0], a[1], NULL);
		_exit(9);
	}
	close(s);
	CHECK(write(c, "x", 1) == 1);
	CHECK(read(c, b, 8) == 4);
	s = try_connect(port, 0);
	CHECK(s >= 0 && read(s, b, 1) == 1);
	waitpid(pid, &st, 0);
	CHECK(st == 0);
	CHECK(read(c, b, 1) == 0); /* its descriptor was the last one */
}

/* A connection travels to another process of the application. */
static void passed(void)
{
	union {
		struct cmsghdr h;
		char room[CMSG_SPACE(sizeof(int))];
	} u;
	struct iovec iov = {&(char){0}, 1};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = u.room,
			   .msg_controllen = sizeof(u.room)};
	int sv[2];
	int st;
	int c;
	int s;
	pid_t pid;

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, sv) == 0);
	pid = fork_child();
	if (pid == 0) {
		CHECK(recvmsg(sv[1], &m, 0) == 1);
		memcpy(&s, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(s));
		CHECK(read(s, &(char){0}, 1) == 1 && write(s, "passed", 6) == 6);
		_exit(0);
	}
	make_pair(&c, &s);
	CMSG_FIRSTHDR(&m)->cmsg_level = SOL_SOCKET;
	CMSG_FIRSTHDR(&m)->cmsg_type = SCM_RIGHTS;
	CMSG_FIRSTHDR(&m)->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), &s, sizeof(s));
	CHECK(sendmsg(sv[0], &m, 0) == 1);
	close(s);
	CHECK(write(c, "x", 1) == 1);
	read_exactly(c, (char[6]){0}, 6);
	waitpid(pid, &st, 0);
	CHECK(st == 0);
	CHECK(read(c, &(char){0}, 1) == 0);
}

/* ---- the engine dies ---- */

static void *read_until_death(void *arg)
{
	char b;
	ssize_t n = read(*(int *)arg, &b, 1);

	CHECK(n == -1 && errno == ECONNRESET);
	n = read(*(int *)arg, &b, 1);
	CHECK(n == -1 && errno == ECONNRESET);
	return NULL;
}

static void *epoll_until_death(void *arg)
{
	struct epoll_event ev = {.events = EPOLLIN};
	int ep = epoll_create1(0);

	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, *(int *)arg, &ev) == 0);
	CHECK(epoll_wait(ep, &ev, 1, 10000) == 1);
	CHECK((ev.events & (EPOLLERR | EPOLLHUP)) == (EPOLLERR | EPOLLHUP));
	return NULL;
}

static void *write_until_death(void *arg)
{
	static char big[1 << 20];
	ssize_t n = send(*(int *)arg, big, sizeof(big), MSG_NOSIGNAL);

	CHECK(n > 0 && n < (ssize_t)sizeof(big)); /* what had gone before */
	n = send(*(int *)arg, big, 1, MSG_NOSIGNAL);
	CHECK(n == -1 && (errno == ECONNRESET || errno == EPIPE));
	n = send(*(int *)arg, big, 1, MSG_NOSIGNAL);
	CHECK(n == -1 && errno == EPIPE);
	return NULL;
}

static void engine_dies(void)
{
	struct sockaddr_in sa = {.sin_family = AF_INET};
	socklen_t len = sizeof(sa);
	pthread_t t[3];
	int c[3];
	int s[3];
	int port;
	int l = listen_any(&port);
	int k;

	for (int i = 0; i < 3; i++)
		make_pair(&c[i], &s[i]);
	pthread_create(&t[0], NULL, read_until_death, &c[0]);
	pthread_create(&t[1], NULL, epoll_until_death, &c[1]);
	pthread_create(&t[2], NULL, write_until_death, &c[2]);
	nap(50);
	kill(engine, SIGKILL);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	CHECK(poll(&(struct pollfd){s[0], POLLIN, 0}, 1, 0) == 1);
	CHECK(shutdown(s[1], SHUT_WR) == -1);
	/* the kernel goes on through the same listener */
	sa.sin_port = htons((uint16_t)port);
	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	k = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(connect(k, (struct sockaddr *)&sa, sizeof(sa)) == 0);
	CHECK(accept(l, (struct sockaddr *)&sa, &len) >= 0);
	for (int i = 0; i < 3; i++)
		CHECK(close(c[i]) == 0 && close(s[i]) == 0);
	CHECK(close(l) == 0);
	l = listen_any(&port); /* in the kernel */
	CHECK(l >= 0);
}

/* ---- cases ---- */

static void run_case(void **state)
{
	void (*scenario)(void) = *(void (**)(void)) * state;
	char dir[] = "/tmp/lt_engine.XXXXXX";
	char path[128];
	int status = 0;
	pid_t pid;

	assert_non_null(mkdtemp(dir));
	engine = fake_start(dir);
	assert_true(engine > 0);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		alarm(15);
		lt_start();
		if (!lt_on)
			_exit(3);
		scenario();
		_exit(0);
	}
	waitpid(pid, &status, 0);
	if (fake_stats->bad || fake_stats->hint_full)
		print_message("bad %u, hint_full %u\n", fake_stats->bad, fake_stats->hint_full);
	assert_int_equal(fake_stats->bad, 0);
	assert_int_equal(fake_stats->hint_full, 0);
	fake_stop(engine);
	snprintf(path, sizeof(path), "%s/%s", dir, TOE_KEEPER_SOCKET);
	unlink(path);
	rmdir(dir);
	if (WIFSIGNALED(status))
		print_message("killed by signal %d\n", WTERMSIG(status));
	assert_int_equal(status, 0);
}

#define CASE(f)                                                                                    \
	{                                                                                          \
#f, run_case, NULL, NULL, &(void (*[])(void))                                      \
		{                                                                                  \
			f                                                                          \
		}                                                                                  \
	}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		CASE(epoll_level),
		CASE(epoll_edge),
		CASE(ping_pong),
		CASE(ping_pong_processes),
		CASE(shared_by_threads),
		CASE(close_wakes),
		CASE(ctl_wakes),
		CASE(threads_on_one_set),
		CASE(fairness),
#ifndef __SANITIZE_THREAD__ /* TSan runs handlers later, at a call of its choice */
		CASE(send_from_handler),
#endif
		CASE(no_descriptors),
		CASE(hidden),
		CASE(nothing_leaks),
		CASE(unfinished_connect),
		CASE(set_survives_fork),
		CASE(daemonised),
		CASE(vforked),
		CASE(exec_keeps),
		CASE(passed),
		CASE(engine_dies),
	};

	self = "/proc/self/exe";
	if (argc == 4 && strcmp(argv[1], "exec") == 0)
		return after_exec(atoi(argv[2]), atoi(argv[3]));
	if (argc == 2)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
