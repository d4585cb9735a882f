// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/progs/lib/util.c tests/progs/lib/hist.c */
/*
 * TCP echo server that knows nothing of the engine; run it plain or under `toe run`.
 *
 * Modes: thread (blocking sockets, one thread per connection), lt and et (epoll, level- or
 * edge-triggered).  A half-closed peer gets the rest of its bytes, then our FIN.  While output is
 * pending nothing more is read.  Prints "ready" when listening; ends after --max-conns connections
 * or at SIGTERM with one JSON line.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/progs/lib/util.h"

#define BUF_BYTES 65536u

struct conn {
	int fd;
	bool eof; /* peer has sent its FIN */
	size_t from;
	size_t to; /* bytes [from, to) of buf wait to be written */
	uint8_t buf[BUF_BYTES];
};

static struct {
	const char *addr;
	uint16_t port;
	const char *mode;
	unsigned long max_conns; /* 0: no limit */
	int v6only;
	const char *device;
} opt = {"0.0.0.0", 7000, "lt", 0, 0, NULL};

static volatile sig_atomic_t stop;
static unsigned long accepted, closed, resets; /* closed, resets, bytes: atomic in thread mode */
static unsigned long long bytes;

static void on_signal(int sig)
{
	(void)sig;
	stop = 1;
}

static void count_end(bool reset)
{
	__atomic_add_fetch(&closed, 1, __ATOMIC_RELAXED);
	if (reset)
		__atomic_add_fetch(&resets, 1, __ATOMIC_RELAXED);
}

static bool enough(void)
{
	return stop ||
	       (opt.max_conns && __atomic_load_n(&closed, __ATOMIC_RELAXED) >= opt.max_conns);
}

static int listen_on(void)
{
	struct sockaddr_storage sa;
	socklen_t len = address(opt.addr, opt.port, &sa);
	int on = 1;
	int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket: %m");
	if (sa.ss_family == AF_INET6 &&
	    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &opt.v6only, sizeof(opt.v6only)) < 0)
		die("IPV6_V6ONLY: %m");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (opt.device && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, opt.device,
				     (socklen_t)strlen(opt.device)) < 0)
		die("SO_BINDTODEVICE %s: %m", opt.device);
	if (bind(fd, (struct sockaddr *)&sa, len) < 0)
		die("bind port %u: %m", opt.port);
	if (listen(fd, 1024) < 0)
		die("listen: %m");
	return fd;
}

/* ---- thread per connection ---- */

static bool write_all(int fd, const uint8_t *p, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		p += n;
		len -= (size_t)n;
	}
	return true;
}

static void *serve(void *arg)
{
	int fd = (int)(intptr_t)arg;
	uint8_t *buf = malloc(BUF_BYTES);
	bool ok = buf != NULL;

	while (ok) {
		ssize_t n = recv(fd, buf, BUF_BYTES, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0)
			break;
		ok = n > 0 && write_all(fd, buf, (size_t)n);
		if (ok)
			__atomic_add_fetch(&bytes, (unsigned long long)n, __ATOMIC_RELAXED);
	}
	free(buf);
	close(fd);
	count_end(!ok);
	return NULL;
}

static void run_threads(int lfd, const sigset_t *unblocked)
{
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, 256 * 1024);
	while (!enough()) {
		struct pollfd p = {.fd = lfd, .events = POLLIN};
		struct timespec tick = {0, 100000000}; /* to look at --max-conns */
		pthread_t t;
		int fd;

		if (ppoll(&p, 1, &tick, unblocked) <= 0)
			continue;
		fd = accept4(lfd, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			continue;
		accepted++;
		if (pthread_create(&t, &attr, serve, (void *)(intptr_t)fd) != 0)
			die("pthread_create failed after %lu connections", accepted);
	}
}

/* ---- epoll ---- */

/* Moves bytes until the socket says stop: 1 = go on later, 0 = orderly end, -1 = broken. */
static int pump(struct conn *c)
{
	for (;;) {
		ssize_t n;

		while (c->from < c->to) {
			n = send(c->fd, c->buf + c->from, c->to - c->from, MSG_NOSIGNAL);
			if (n < 0 && errno == EINTR)
				continue;
			if (n < 0)
				return errno == EAGAIN ? 1 : -1;
			c->from += (size_t)n;
			bytes += (unsigned long long)n;
		}
		if (c->eof)
			return 0;
		n = recv(c->fd, c->buf, BUF_BYTES, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 1 : -1;
		c->eof = n == 0;
		c->from = 0;
		c->to = (size_t)n;
	}
}

static void rearm(int ep, struct conn *c, int op, uint32_t mode)
{
	struct epoll_event ev = {.data.ptr = c};

	/* level-triggered: ask only for what can make progress, or it would spin */
	if (mode)
		ev.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | mode;
	else
		ev.events = c->from < c->to ? EPOLLOUT : EPOLLIN;
	if (epoll_ctl(ep, op, c->fd, &ev) < 0)
		die("epoll_ctl: %m");
}

static void accept_all(int ep, int lfd, uint32_t mode)
{
	int fd;

	/* epoll keeps the pointer to c, which the analyzer takes for a leak */
	// NOLINTNEXTLINE(clang-analyzer-unix.Malloc)
	while ((fd = accept4(lfd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		struct conn *c = malloc(sizeof(*c));

		if (!c)
			die("out of memory");
		c->fd = fd;
		c->eof = false;
		c->from = c->to = 0;
		accepted++;
		rearm(ep, c, EPOLL_CTL_ADD, mode);
	}
	if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
		die("accept: %m");
}

static void run_epoll(int lfd, const sigset_t *unblocked, uint32_t mode)
{
	struct epoll_event ev[64], lev = {.events = EPOLLIN | mode, .data.ptr = NULL};
	int ep = epoll_create1(EPOLL_CLOEXEC);

	if (ep < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, lfd, &lev) < 0)
		die("epoll: %m");
	while (!enough()) {
		int n = epoll_pwait(ep, ev, 64, -1, unblocked);

		for (int i = 0; i < n; i++) {
			struct conn *c = ev[i].data.ptr;
			int rc;

			if (!c) {
				accept_all(ep, lfd, mode);
				continue;
			}
			rc = pump(c);
			if (rc > 0) {
				if (!mode)
					rearm(ep, c, EPOLL_CTL_MOD, mode);
				continue;
			}
			close(c->fd);
			free(c);
			count_end(rc < 0);
		}
	}
	close(ep);
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {{"addr", 1, NULL, 'a'},   {"port", 1, NULL, 'p'},
					      {"mode", 1, NULL, 'm'},   {"max-conns", 1, NULL, 'n'},
					      {"v6only", 0, NULL, '6'}, {"device", 1, NULL, 'd'},
					      {NULL, 0, NULL, 0}};
	struct sigaction sa = {.sa_handler = on_signal};
	sigset_t blocked, before;
	int o, lfd;

	while ((o = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (o) {
		case 'a':
			opt.addr = optarg;
			break;
		case 'p':
			opt.port = (uint16_t)parse_u64(optarg, "--port");
			break;
		case 'm':
			opt.mode = optarg;
			break;
		case 'd':
			opt.device = optarg;
			break;
		case '6':
			opt.v6only = 1;
			break;
		case 'n':
			opt.max_conns = parse_u64(optarg, "--max-conns");
			break;
		default:
			die("usage: echo_server [--addr A] [--port N] [--mode thread|lt|et] "
			    "[--max-conns N] [--v6only] [--device IF]");
		}
	}
	/* Delivered only inside the waits: a signal just before one is not lost. */
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGTERM);
	sigaddset(&blocked, SIGINT);
	sigprocmask(SIG_BLOCK, &blocked, &before);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	want_fds(64);
	lfd = listen_on();
	printf("ready\n");
	fflush(stdout);
	if (strcmp(opt.mode, "thread") == 0)
		run_threads(lfd, &before);
	else if (strcmp(opt.mode, "lt") == 0)
		run_epoll(lfd, &before, 0);
	else if (strcmp(opt.mode, "et") == 0)
		run_epoll(lfd, &before, EPOLLET);
	else
		die("--mode thread, lt or et");
	printf("{\"accepted\":%lu,\"closed\":%lu,\"resets\":%lu,\"bytes\":%llu}\n", accepted,
	       __atomic_load_n(&closed, __ATOMIC_RELAXED),
	       __atomic_load_n(&resets, __ATOMIC_RELAXED),
	       __atomic_load_n(&bytes, __ATOMIC_RELAXED));
	return 0;
}
