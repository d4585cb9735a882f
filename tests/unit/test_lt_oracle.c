// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/unit/lt_fake.c libtoe/connect.c libtoe/ctx.c libtoe/dup_fork_exec.c libtoe/epoll.c
 *       libtoe/epoll_items.c libtoe/fdtable.c libtoe/interpose.c libtoe/io_calls.c
 *       libtoe/libc_real.c libtoe/listen.c libtoe/poll_select.c libtoe/shm.c libtoe/sock.c
 *       libtoe/sockopt.c libtoe/state.c libtoe/stream_io.c libtoe/token.c libtoe/wait.c
 *       common/ctl_sock.c common/log.c */
/*
 * The kernel is the oracle: plain socket code runs on it and on libtoe with the fake engine, each
 * in its own process, and both must print the same transcript.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "libtoe/lt.h"
#include "lt_fake.h"

static const char *addr; /* where the other end is */
static FILE *out;
static char run_dir[] = "/tmp/lt_oracle.XXXXXX";
static pid_t engine;

/* ---- helpers of scenarios ---- */

static void say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(out, fmt, ap);
	va_end(ap);
	fputc('\n', out);
}

/* A call's result with the name of its errno. */
static long result(const char *what, long rc)
{
	if (rc < 0)
		say("%s: %ld %s", what, rc, strerrorname_np(errno));
	else
		say("%s: %ld", what, rc);
	return rc;
}
#define R(call) result(#call, call)

static struct sockaddr_in at(const char *ip, int port)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};

	inet_pton(AF_INET, ip, &sa.sin_addr);
	return sa;
}

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
	struct sockaddr_in sa = at("0.0.0.0", 0);
	socklen_t len = sizeof(sa);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, 16) < 0)
		abort();
	getsockname(fd, (struct sockaddr *)&sa, &len);
	*port = ntohs(sa.sin_port);
	return fd;
}

static int connect_to(int port, int flags)
{
	struct sockaddr_in sa = at(addr, port);
	int fd = socket(AF_INET, SOCK_STREAM | flags, 0);

	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 && errno != EINPROGRESS)
		say("connect: %s", strerrorname_np(errno));
	return fd;
}

/* A connected pair, c by connect, s by accept. */
static void make_pair(int *c, int *s)
{
	int port;
	int l = listen_any(&port);

	*c = connect_to(port, 0);
	*s = accept(l, NULL, NULL);
	close(l);
}

/* Level of fd within 5 s: waits for all of want, then shows what poll says. */
static void await(int fd, short want)
{
	struct pollfd p = {.fd = fd, .events = POLLIN | POLLOUT | POLLRDHUP};

	for (int i = 0; i < 5000; i++) {
		if (poll(&p, 1, 0) > 0 && (p.revents & want) == want)
			return;
		poll(NULL, 0, 1);
	}
	say("never 0x%x, only 0x%x", want, p.revents);
}

static void show_poll(const char *what, int fd)
{
	struct pollfd p = {.fd = fd,
			   .events = POLLIN | POLLOUT | POLLRDHUP | POLLPRI | POLLRDNORM |
				     POLLWRNORM};
	int n = poll(&p, 1, 0);

	say("%s: poll %d 0x%x", what, n, p.revents);
}

static int so_error(int fd)
{
	int v = -1;
	socklen_t len = sizeof(v);

	getsockopt(fd, SOL_SOCKET, SO_ERROR, &v, &len);
	return v;
}

static void fill(uint8_t *buf, size_t n, uint32_t seed)
{
	for (size_t i = 0; i < n; i++)
		buf[i] = (uint8_t)((seed + i) * 2654435761u >> 13);
}

/* Reads len bytes or to the end. */
static ssize_t read_all(int fd, uint8_t *buf, size_t len)
{
	size_t got = 0;

	while (got < len) {
		ssize_t n = read(fd, buf + got, len - got);

		if (n <= 0)
			return n < 0 ? n : (ssize_t)got;
		got += (size_t)n;
	}
	return (ssize_t)got;
}

static volatile sig_atomic_t sigs;
static void on_sig(int sig)
{
	(void)sig;
	sigs++;
}

static void catch (int sig, int flags)
{
	struct sigaction sa = {.sa_handler = on_sig, .sa_flags = flags};

	sigaction(sig, &sa, NULL);
}

/* ---- scenarios ---- */

static void *echo_thread(void *arg)
{
	int fd = accept(*(int *)arg, NULL, NULL);
	uint8_t buf[5000];
	ssize_t n;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));

	while ((n = read(fd, buf, sizeof(buf))) > 0) {
		if (write(fd, buf, (size_t)n) != n)
			break;
	}
	close(fd);
	return NULL;
}

static void blocking_echo(void)
{
	static uint8_t a[7001];
	static uint8_t b[7001];
	pthread_t t;
	int port;
	int l = listen_any(&port);
	int fd;
	int bad = 0;

	pthread_create(&t, NULL, echo_thread, &l);
	fd = connect_to(port, 0);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
	for (uint32_t i = 0; i < 300; i++) {
		size_t n = i * 7919 % sizeof(a) + 1;

		fill(a, n, i);
		if (write(fd, a, n) != (ssize_t)n || read_all(fd, b, n) != (ssize_t)n ||
		    memcmp(a, b, n) != 0)
			bad++;
	}
	say("bad: %d", bad);
	R(shutdown(fd, SHUT_WR));
	R(read(fd, b, 1));
	pthread_join(t, NULL);
	close(fd);
	close(l);
}

static void nonblocking_connect(void)
{
	struct sockaddr_in sa;
	socklen_t len = sizeof(sa);
	int port;
	int l = listen_any(&port);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

	sa = at(addr, port);
	R(connect(fd, (struct sockaddr *)&sa, sizeof(sa)));
	await(fd, POLLOUT);
	show_poll("connected", fd);
	say("SO_ERROR %d", so_error(fd));
	R(connect(fd, (struct sockaddr *)&sa, sizeof(sa)));
	R(connect(fd, (struct sockaddr *)&sa, sizeof(sa)));
	memset(&sa, 0, sizeof(sa));
	R(getpeername(fd, (struct sockaddr *)&sa, &len));
	say("family %d, same port %d, len %u", sa.sin_family, ntohs(sa.sin_port) == port, len);
	len = 4;
	R(getpeername(fd, (struct sockaddr *)&sa, &len));
	say("len %u", len);
	R(listen(fd, 1));
	R(bind(fd, (struct sockaddr *)&sa, sizeof(sa)));
	R(accept(fd, NULL, NULL));
	say("nonblock %d", !!(fcntl(fd, F_GETFL) & O_NONBLOCK));
	close(fd);
	close(l);
}

static void refused(void)
{
	struct sockaddr_in sa;
	int port;
	int l = listen_any(&port);
	char b;
	int fd;

	close(l);
	sa = at(addr, port);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	R(connect(fd, (struct sockaddr *)&sa, sizeof(sa)));
	say("SO_ERROR %d", so_error(fd));
	R(connect(fd, (struct sockaddr *)&sa, sizeof(sa)));
	close(fd);

	fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	connect(fd, (struct sockaddr *)&sa, sizeof(sa));
	await(fd, POLLERR);
	show_poll("refused", fd);
	say("SO_ERROR %d", so_error(fd) == ECONNREFUSED);
	say("SO_ERROR %d", so_error(fd));
	show_poll("taken", fd);
	R(send(fd, "x", 1, MSG_NOSIGNAL));
	close(fd);

	fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	connect(fd, (struct sockaddr *)&sa, sizeof(sa));
	await(fd, POLLERR);
	R(recv(fd, &b, 1, 0));
	close(fd);

	fd = socket(AF_INET, SOCK_STREAM, 0);
	connect(fd, (struct sockaddr *)&sa, sizeof(sa));
	l = socket(AF_INET, SOCK_STREAM, 0);
	R(bind(l,
	       (struct sockaddr *)&(struct sockaddr_in){.sin_family = AF_INET,
							.sin_port = sa.sin_port},
	       sizeof(sa)));
	R(listen(l, 1));
	R(connect(fd, (struct sockaddr *)&sa, sizeof(sa)));
	R(write(fd, "again", 5));
	close(fd);
	close(l);
}

static void half_close(void)
{
	char b[32];
	int c;
	int s;

	make_pair(&c, &s);
	show_poll("fresh", c);
	R(write(s, "hello", 5));
	R(shutdown(s, SHUT_WR));
	await(c, POLLRDHUP);
	show_poll("fin", c);
	R(recv(c, b, 3, 0));
	R(recv(c, b, 30, 0));
	R(recv(c, b, 30, 0));
	R(recv(c, b, 30, 0));
	show_poll("read", c);
	R(write(s, "x", 1) < 0 ? -1 : 0);
	R(write(c, "back", 4));
	R(read(s, b, sizeof(b)));
	R(shutdown(c, SHUT_WR));
	await(c, POLLHUP);
	show_poll("both", c);
	R(read(s, b, sizeof(b)));
	R(send(c, "x", 1, MSG_NOSIGNAL));
	R(shutdown(c, 5));
	close(c);
	close(s);
}

static void reset(void)
{
	struct linger hard = {1, 0};
	char b[32];
	int c;
	int s;

	signal(SIGPIPE, SIG_IGN);
	make_pair(&c, &s);
	R(write(s, "unread", 6));
	await(c, POLLIN);
	R(setsockopt(s, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)));
	R(close(s));
	await(c, POLLERR);
	show_poll("reset", c);
	R(recv(c, b, 2, 0));
	R(recv(c, b, 30, 0));
	R(recv(c, b, 30, 0));
	show_poll("reported", c);
	R(recv(c, b, 30, 0));
	R(send(c, "x", 1, 0));
	R(getpeername(c, (struct sockaddr *)b, &(socklen_t){16}));
	R(shutdown(c, SHUT_RDWR));
	close(c);

	make_pair(&c, &s);
	R(write(c, "unread", 6));
	await(s, POLLIN);
	R(close(s)); /* unread data: RST */
	await(c, POLLERR);
	R(send(c, "x", 1, 0));
	R(send(c, "x", 1, 0));
	R(recv(c, b, 1, 0));
	close(c);
}

static void sigpipe(void)
{
	int c;
	int s;

	catch (SIGPIPE, 0);
	make_pair(&c, &s);
	R(shutdown(c, SHUT_WR));
	R(write(c, "x", 1));
	say("signals %d", sigs);
	R(send(c, "x", 1, MSG_NOSIGNAL));
	R(writev(c, &(struct iovec){"x", 1}, 1));
	say("signals %d", sigs);
	close(c);
	close(s);
}

static volatile int minus_one = -1;

static void flags(void)
{
	struct timeval tv = {0, 30000};
	uint8_t b[64];
	int c;
	int s;

	make_pair(&c, &s);
	R(recv(c, b, 1, MSG_DONTWAIT));
	R(write(s, "0123456789", 10));
	await(c, POLLIN);
	R(recv(c, b, 4, MSG_PEEK));
	R(recv(c, b, 4, 0));
	say("%.4s", b);
	R(recv(c, b, 2, MSG_TRUNC));
	R(recv(c, b, 2, 0));
	say("%.2s", b);
	R(ioctl(c, FIONREAD, b));
	say("%d left", *(int *)b);
	R(recv(c, b, 20, MSG_WAITALL | MSG_DONTWAIT));
	R(recv(c, b, 20, MSG_OOB));
	R(recv(c, b, 0, MSG_DONTWAIT)); /* Linux waits for data, even for none of it */
	R(read(c, b, 0));
	R(send(c, b, 0, 0));
	R(setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	R(recv(c, b, 1, 0));
	R(write(s, "abc", 3));
	R(recv(c, b, 0, 0));
	R(recv(c, b, 8, MSG_WAITALL));
	R(fcntl(c, F_SETFL, O_NONBLOCK));
	R(recv(c, b, 1, 0));
	R(ioctl(c, FIONBIO, &(int){0}));
	say("fl 0x%x", fcntl(c, F_GETFL) & (O_ACCMODE | O_NONBLOCK));
	R(recvfrom(c, b, 1, MSG_DONTWAIT, NULL, NULL));
	R(readv(c, (struct iovec *)b, minus_one));
	R(shutdown(c, SHUT_RD));
	R(recv(c, b, 1, 0));
	show_poll("shut_rd", c);
	close(c);
	close(s);
}

static void shut_rd_pending(void)
{
	char b[8];
	int c;
	int s;

	make_pair(&c, &s);
	R(write(s, "left", 4));
	await(c, POLLIN);
	R(shutdown(c, SHUT_RD));
	R(recv(c, b, 8, 0));
	R(recv(c, b, 8, 0));
	R(write(c, "still", 5));
	R(recv(s, b, 5, MSG_WAITALL));
	close(c);
	close(s);
}

static void opt(int fd, const char *name, int level, int o)
{
	int v = -7;
	socklen_t len = sizeof(v);
	int rc = getsockopt(fd, level, o, &v, &len);

	say("%s: %d %d len %u %s", name, rc, v, len, rc < 0 ? strerrorname_np(errno) : "");
}
#define G(fd, level, o) opt(fd, #o, level, o)

static void options(void)
{
	struct linger li = {1, 7};
	int one = 1;
	int v = 33;
	struct tcp_info info;
	socklen_t len = sizeof(li);
	int port;
	int l = listen_any(&port);
	int c;
	int s;

	setsockopt(l, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(l, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	setsockopt(l, IPPROTO_TCP, TCP_KEEPIDLE, &v, sizeof(v));
	c = connect_to(port, 0);
	s = accept(l, NULL, NULL);
	for (int i = 0; i < 2; i++) {
		int fd = i ? s : c;

		G(fd, SOL_SOCKET, SO_TYPE);
		G(fd, SOL_SOCKET, SO_DOMAIN);
		G(fd, SOL_SOCKET, SO_PROTOCOL);
		G(fd, SOL_SOCKET, SO_ACCEPTCONN);
		G(fd, SOL_SOCKET, SO_KEEPALIVE);
		G(fd, SOL_SOCKET, SO_RCVLOWAT);
		G(fd, SOL_SOCKET, SO_BROADCAST);
		G(fd, SOL_SOCKET, SO_ERROR);
		G(fd, SOL_SOCKET, 9999);
		G(fd, IPPROTO_TCP, TCP_NODELAY);
		G(fd, IPPROTO_TCP, TCP_CORK);
		G(fd, IPPROTO_TCP, TCP_KEEPIDLE);
		G(fd, IPPROTO_TCP, TCP_KEEPINTVL);
		G(fd, IPPROTO_TCP, TCP_KEEPCNT);
		G(fd, IPPROTO_TCP, TCP_USER_TIMEOUT);
		G(fd, IPPROTO_TCP, 9999);
		G(fd, IPPROTO_IP, IP_TOS);
		R(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)));
		R(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, 1));
		R(setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &one, sizeof(one)));
		R(setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &(int){0}, sizeof(int)));
		R(setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &(int){200}, sizeof(int)));
		R(setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &v, sizeof(int)));
		R(setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &(int){-1}, sizeof(int)));
		R(setsockopt(fd, IPPROTO_TCP, TCP_CORK, &one, sizeof(int)));
		R(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &(int){10000}, sizeof(int)));
		R(setsockopt(fd, SOL_SOCKET, SO_LINGER, &li, sizeof(li)));
		R(setsockopt(fd, SOL_SOCKET, SO_LINGER, &li, 4));
		R(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)));
		R(setsockopt(fd, SOL_SOCKET, 9999, &one, sizeof(one)));
		R(setsockopt(fd, 77, 1, &one, sizeof(one)));
		G(fd, SOL_SOCKET, SO_REUSEADDR);
		G(fd, SOL_SOCKET, SO_RCVBUF);
		G(fd, IPPROTO_TCP, TCP_KEEPINTVL);
		G(fd, IPPROTO_TCP, TCP_CORK);
		memset(&li, 0, sizeof(li));
		R(getsockopt(fd, SOL_SOCKET, SO_LINGER, &li, &len));
		say("linger %d %d", li.l_onoff, li.l_linger);
		li.l_onoff = 1;
		li.l_linger = 0;
		len = 1;
		R(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len));
		say("state %d len %u", info.tcpi_state, len);
		len = sizeof(li);
		R(getsockopt(fd, SOL_SOCKET, SO_TYPE, &v, &(socklen_t){(socklen_t)-1}));
	}
	G(l, SOL_SOCKET, SO_ACCEPTCONN);
	close(c);
	close(s);
	close(l);
}

static void ready(const char *what, int ep)
{
	struct epoll_event ev[8];
	int n = epoll_wait(ep, ev, 8, 0);

	fprintf(out, "%s:", what);
	for (int want = 0; want < 8; want++) {
		for (int i = 0; i < n; i++) {
			if (ev[i].data.u32 == (uint32_t)want)
				fprintf(out, " %d=0x%x", want, ev[i].events);
		}
	}
	say(" (%d)", n);
}

static int ctl(int ep, int op, int fd, uint32_t events, uint32_t data)
{
	struct epoll_event ev = {.events = events, .data.u32 = data};

	return epoll_ctl(ep, op, fd, &ev);
}

static void epoll_modes(void)
{
	char b[16];
	int p[2];
	int c;
	int s;
	int ep = epoll_create1(EPOLL_CLOEXEC);
	int two = epoll_create1(0);

	make_pair(&c, &s);
	if (pipe(p) < 0)
		abort();
	R(ctl(ep, EPOLL_CTL_ADD, c, EPOLLIN, 1));
	R(ctl(ep, EPOLL_CTL_ADD, c, EPOLLIN, 1));
	R(ctl(ep, EPOLL_CTL_MOD, s, EPOLLIN, 2));
	R(ctl(ep, EPOLL_CTL_ADD, p[0], EPOLLIN, 3));
	R(ctl(ep, EPOLL_CTL_ADD, -1, EPOLLIN, 3));
	R(ctl(ep, EPOLL_CTL_ADD, ep, EPOLLIN, 3));
	R(ctl(two, EPOLL_CTL_ADD, c, EPOLLIN | EPOLLOUT | EPOLLET | EPOLLRDHUP, 4));
	ready("lt idle", ep);
	ready("et first", two);
	ready("et again", two);
	R(write(s, "abc", 3));
	R(write(p[1], "p", 1));
	await(c, POLLIN);
	ready("lt in", ep);
	ready("lt in again", ep);
	ready("et in", two);
	ready("et in again", two);
	R(read(c, b, 1));
	ready("et partly read", two);
	ready("lt partly read", ep);
	R(read(c, b, 9));
	ready("lt read", ep);
	R(ctl(two, EPOLL_CTL_MOD, c, EPOLLIN | EPOLLOUT | EPOLLET | EPOLLRDHUP, 5));
	ready("et mod", two);
	R(ctl(ep, EPOLL_CTL_MOD, c, EPOLLIN | EPOLLONESHOT, 1));
	R(write(s, "d", 1));
	await(c, POLLIN);
	ready("oneshot", ep);
	ready("oneshot again", ep);
	ready("et other set", two);
	R(ctl(ep, EPOLL_CTL_MOD, c, EPOLLIN | EPOLLONESHOT, 6));
	ready("rearmed", ep);
	R(ctl(ep, EPOLL_CTL_DEL, c, 0, 0));
	R(ctl(ep, EPOLL_CTL_DEL, c, 0, 0));
	R(epoll_ctl(ep, EPOLL_CTL_ADD, c, NULL));
	R(shutdown(s, SHUT_WR));
	await(c, POLLRDHUP);
	ready("et fin", two);
	R(ctl(ep, EPOLL_CTL_ADD, c, EPOLLRDHUP, 7));
	ready("rdhup only", ep);
	R(shutdown(c, SHUT_WR));
	await(c, POLLHUP);
	ready("hup", ep);
	R(ctl(ep, EPOLL_CTL_MOD, c, 0, 7));
	ready("no events asked", ep);
	close(c);
	ready("closed", ep);
	ready("closed two", two);
	R(epoll_wait(ep, NULL, 0, 0));
	R(epoll_wait(p[0], (struct epoll_event[1]){{0}}, 1, 0));
	R(epoll_wait(-1, (struct epoll_event[1]){{0}}, 1, 0));
	R(ctl(p[0], EPOLL_CTL_ADD, s, EPOLLIN, 1));
	close(s);
	close(ep);
	close(two);
	close(p[0]);
	close(p[1]);
}

static void epoll_listener(void)
{
	int port;
	int l = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	int ep = epoll_create1(0);
	struct sockaddr_in sa = at("0.0.0.0", 0);
	socklen_t len = sizeof(sa);
	int c;
	int s;

	/* added before it listens, and before it is connected */
	R(bind(l, (struct sockaddr *)&sa, sizeof(sa)));
	R(listen(l, 5));
	R(ctl(ep, EPOLL_CTL_ADD, l, EPOLLIN, 1));
	getsockname(l, (struct sockaddr *)&sa, &len);
	port = ntohs(sa.sin_port);
	ready("idle", ep);
	R(accept(l, NULL, NULL));
	c = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	R(ctl(ep, EPOLL_CTL_ADD, c, EPOLLOUT, 2));
	sa = at(addr, port);
	R(connect(c, (struct sockaddr *)&sa, sizeof(sa)));
	await(l, POLLIN);
	await(c, POLLOUT);
	ready("both", ep);
	s = accept4(l, (struct sockaddr *)&sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	say("accepted %d, family %d, fl 0x%x fd 0x%x", s >= 0, sa.sin_family,
	    fcntl(s, F_GETFL) & O_NONBLOCK, fcntl(s, F_GETFD));
	R(accept4(l, NULL, NULL, 0x1000));
	ready("accepted", ep);
	R(ctl(ep, EPOLL_CTL_MOD, l, EPOLLIN | EPOLLET, 1));
	close(c);
	close(s);
	c = connect_to(port, 0);
	s = connect_to(port, 0);
	await(l, POLLIN);
	poll(NULL, 0, 20); /* both have arrived; one edge or two is the scheduler's choice */
	ready("et", ep);
	ready("et again", ep);
	close(c);
	close(s);
	close(l);
	close(ep);
}

static void duplicates(void)
{
	char b[16];
	int c;
	int s;
	int d;

	make_pair(&c, &s);
	d = dup(c);
	R(write(s, "one", 3));
	R(read(d, b, 3));
	R(fcntl(d, F_SETFL, O_NONBLOCK));
	say("shared O_NONBLOCK %d", !!(fcntl(c, F_GETFL) & O_NONBLOCK));
	R(close(c));
	R(read(c, b, 1));
	R(write(d, "two", 3));
	R(read(s, b, 3));
	R(dup2(d, 700));
	R(fcntl(700, F_GETFD));
	R(dup3(d, 701, O_CLOEXEC));
	R(fcntl(701, F_GETFD));
	R(fcntl(d, F_DUPFD, 702));
	R(close(d));
	R(write(702, "three", 5));
	R(read(s, b, 5));
	R(dup2(702, 702));
	R(dup3(702, 702, 0));
	R(dup2(-1, 5));
	R(close_range(700, 701, 0));
	R(read(700, b, 1));
	R(dup2(s, 702)); /* the last descriptor of c goes */
	await(s, POLLHUP * 0 + POLLRDHUP);
	R(read(702, b, 1));
	R(close(702));
	R(close(s));
	R(close(s));
}

static void dup_before_connect(void)
{
	char b[8];
	int port;
	int l = listen_any(&port);
	struct sockaddr_in sa = at(addr, port);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	int d = dup(fd);
	int s;

	R(connect(fd, (struct sockaddr *)&sa, sizeof(sa)));
	s = accept(l, NULL, NULL);
	R(close(fd));
	R(write(d, "dup", 3));
	R(read(s, b, 8));
	R(close(d));
	R(read(s, b, 8));
	close(s);
	close(l);
}

static void forked(void)
{
	char b[16];
	int port;
	int l = listen_any(&port);
	int st = 0;
	int c;
	int s;
	pid_t pid;

	c = connect_to(port, 0);
	s = accept(l, NULL, NULL);
	pid = fork_child();
	if (pid == 0) {
		struct pollfd p = {.fd = s, .events = POLLIN};

		close(c);
		if (poll(&p, 1, 5000) != 1 || read(s, b, sizeof(b)) != 4 ||
		    write(s, "child", 5) != 5)
			_exit(1);
		/* and a connection of its own, through the inherited listener */
		c = accept(l, NULL, NULL);
		_exit(c >= 0 && read(c, b, 3) == 3 && write(c, "yes", 3) == 3 ? 0 : 2);
	}
	close(s);
	R(write(c, "ping", 4));
	R(read_all(c, (uint8_t *)b, 5));
	say("%.5s", b);
	s = connect_to(port, 0);
	R(write(s, "you", 3));
	R(read_all(s, (uint8_t *)b, 3));
	waitpid(pid, &st, 0);
	say("child %d", WEXITSTATUS(st));
	R(read(c, b, 1)); /* its last descriptor went with it */
	R(read(s, b, 1));
	close(c);
	close(s);
	close(l);
}

static void exit_of_child(void)
{
	char b[8];
	int c;
	int s;
	pid_t pid;

	make_pair(&c, &s);
	pid = fork_child();
	if (pid == 0) {
		close(c);
		close(s);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	R(write(c, "still", 5)); /* close in a child ends nothing */
	R(read(s, b, 8));
	close(c);
	close(s);
}

static void selects(void)
{
	struct timeval tv = {0, 20000};
	struct timespec ts = {0, 20000000};
	fd_set in;
	fd_set wr;
	char b[8];
	int p[2];
	int c;
	int s;
	int top;

	make_pair(&c, &s);
	if (pipe(p) < 0)
		abort();
	top = (c > p[1] ? c : p[1]) + 1;
	FD_ZERO(&in);
	FD_ZERO(&wr);
	FD_SET(c, &in);
	FD_SET(p[0], &in);
	R(select(top, &in, NULL, NULL, &tv));
	say("left %ld %ld, set %d %d", (long)tv.tv_sec, (long)tv.tv_usec, FD_ISSET(c, &in),
	    FD_ISSET(p[0], &in));
	R(write(s, "x", 1));
	await(c, POLLIN);
	FD_SET(c, &in);
	FD_SET(p[0], &in);
	FD_SET(c, &wr);
	R(select(top, &in, &wr, NULL, NULL));
	say("set %d %d %d", FD_ISSET(c, &in), FD_ISSET(p[0], &in), FD_ISSET(c, &wr));
	R(write(p[1], "x", 1));
	FD_SET(c, &in);
	FD_SET(p[0], &in);
	R(pselect(top, &in, NULL, NULL, &ts, NULL));
	say("set %d %d", FD_ISSET(c, &in), FD_ISSET(p[0], &in));
	R(read(c, b, 1));
	FD_SET(60, &in);
	R(select(61, &in, NULL, NULL, NULL));
	R(select(-1, NULL, NULL, NULL, &tv));
	R(poll((struct pollfd[]){{c, POLLIN, 0}, {p[0], POLLIN, 0}, {-1, POLLIN, 0}}, 3, -1));
	R(poll((struct pollfd[]){{c, POLLIN, 0}}, 1, 20));
	R(ppoll((struct pollfd[]){{c, POLLIN | POLLOUT, 0}, {899, POLLIN, 0}}, 2, &ts, NULL));
	close(c);
	close(s);
	close(p[0]);
	close(p[1]);
}

static void messages(void)
{
	char a[4] = "";
	char b[8] = "";
	struct iovec o[3] = {{"ab", 2}, {"", 0}, {"cdef", 4}};
	struct iovec i[2] = {{a, 3}, {b, 8}};
	struct sockaddr_in sa;
	char control[64];
	struct msghdr m = {.msg_name = &sa,
			   .msg_namelen = sizeof(sa),
			   .msg_iov = i,
			   .msg_iovlen = 2,
			   .msg_control = control,
			   .msg_controllen = sizeof(control)};
	struct msghdr w = {.msg_iov = o, .msg_iovlen = 3};
	char path[] = "/tmp/lt_file.XXXXXX";
	int f = mkstemp(path);
	off_t off = 3;
	char big[40];
	int c;
	int s;

	unlink(path);
	make_pair(&c, &s);
	R(writev(s, o, 3));
	await(c, POLLIN);
	R(readv(c, i, 2));
	say("%.3s %.3s", a, b);
	R(sendmsg(s, &w, MSG_NOSIGNAL));
	await(c, POLLIN);
	R(recvmsg(c, &m, 0));
	say("%.3s %.3s name %u control %zu flags %d", a, b, m.msg_namelen, m.msg_controllen,
	    m.msg_flags);
	R(write(f, "0123456789", 10));
	R(sendfile(s, f, &off, 4));
	say("off %ld", (long)off);
	R(lseek(f, 1, SEEK_SET));
	R(sendfile(s, f, NULL, 100));
	R(lseek(f, 0, SEEK_CUR));
	R(sendfile(s, f, NULL, 100));
	R(sendfile(s, c, NULL, 1));
	R(recv(c, big, 13, MSG_WAITALL));
	say("%.13s", big);
	close(c);
	close(s);
	close(f);
}

static void *kick_later(void *arg)
{
	poll(NULL, 0, 50);
	pthread_kill(*(pthread_t *)arg, SIGUSR1);
	return NULL;
}

static void *write_later(void *arg)
{
	poll(NULL, 0, 150);
	if (write(*(int *)arg, "late", 4) != 4)
		abort();
	return NULL;
}

__attribute__((unused)) static void signals(void)
{
	pthread_t self = pthread_self();
	pthread_t k;
	pthread_t w;
	char b[8];
	int c;
	int s;

	make_pair(&c, &s);
	catch (SIGUSR1, 0);
	pthread_create(&k, NULL, kick_later, &self);
	R(read(c, b, 8));
	pthread_join(k, NULL);
	pthread_create(&k, NULL, kick_later, &self);
	R(poll(&(struct pollfd){c, POLLIN, 0}, 1, 5000));
	pthread_join(k, NULL);
	catch (SIGUSR1, SA_RESTART);
	pthread_create(&k, NULL, kick_later, &self);
	pthread_create(&w, NULL, write_later, &s);
	R(read(c, b, 8));
	pthread_join(k, NULL);
	pthread_join(w, NULL);
	say("signals %d", sigs);
	close(c);
	close(s);
}

static void full_buffer(void)
{
	static uint8_t big[1 << 20];
	struct timeval tv = {0, 30000};
	size_t sent = 0;
	ssize_t n;
	int ep = epoll_create1(0);
	int c;
	int s;

	make_pair(&c, &s);
	fcntl(c, F_SETFL, O_NONBLOCK);
	ctl(ep, EPOLL_CTL_ADD, c, EPOLLOUT | EPOLLET, 1);
	ready("space", ep);
	for (int i = 0; i < 2000 && (i < 20 || n > 0); i++) {
		n = write(c, big, sizeof(big));
		if (n > 0)
			sent += (size_t)n;
		else
			poll(NULL, 0, 10);
	}
	result("write when full", write(c, big, 1));
	show_poll("full", c);
	ready("full", ep);
	fcntl(c, F_SETFL, 0);
	R(setsockopt(c, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)));
	R(write(c, big, 1));
	for (size_t got = 0; got < sent; got += (size_t)n) {
		n = read(s, big, sizeof(big));
		if (n <= 0)
			break;
	}
	await(c, POLLOUT);
	ready("drained", ep);
	R(write(c, big, 1));
	close(c);
	close(s);
	close(ep);
}

static void kernel_sockets(void)
{
	/* through one listener: this host's clients come by the kernel */
	struct sockaddr_in sa;
	socklen_t len = sizeof(sa);
	char b[4];
	int port;
	int l = listen_any(&port);
	int c = socket(AF_INET, SOCK_STREAM, 0);
	int s;

	sa = at("127.0.0.1", port);
	R(connect(c, (struct sockaddr *)&sa, sizeof(sa)));
	s = accept(l, (struct sockaddr *)&sa, &len);
	say("from 127.0.0.1: %d", sa.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
	R(write(c, "abc", 3));
	R(read(s, b, 4));
	close(s);
	R(read(c, b, 1));
	close(c);
	/* a udp socket is none of our business */
	c = socket(AF_INET, SOCK_DGRAM, 0);
	R(getsockname(c, (struct sockaddr *)&sa, &len));
	R(listen(c, 1));
	close(c);
	R(listen(l, 3));
	R(connect(l, (struct sockaddr *)&sa, sizeof(sa)) < 0 ? -1 : 0);
	close(l);
	R(accept(l, NULL, NULL));
}

/* ---- the two runs ---- */

static void run_child(void (*scenario)(void), bool offloaded, int fd)
{
	alarm(20);
	out = fdopen(fd, "w");
	setvbuf(out, NULL, _IOFBF, 65536);
	addr = "127.0.0.1";
	if (offloaded) {
		addr = FAKE_ADDR;
		lt_start();
	}
	scenario();
	fflush(out);
	_exit(0);
}

static char *transcript(void (*scenario)(void), bool offloaded)
{
	char *text = calloc(1, 65536);
	size_t n = 0;
	int status = 0;
	int p[2];
	pid_t pid;

	assert_int_equal(pipe(p), 0);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		close(p[0]);
		run_child(scenario, offloaded, p[1]);
	}
	close(p[1]);
	for (;;) {
		ssize_t got = read(p[0], text + n, 65535 - n);

		if (got <= 0)
			break;
		n += (size_t)got;
	}
	close(p[0]);
	waitpid(pid, &status, 0);
	if (WIFSIGNALED(status))
		snprintf(text + n, 65536 - n, "killed by signal %d\n", WTERMSIG(status));
	return text;
}

static void show_difference(const char *a, const char *b)
{
	while (*a || *b) {
		size_t la = strcspn(a, "\n");
		size_t lb = strcspn(b, "\n");

		if (la != lb || memcmp(a, b, la) != 0)
			print_message("  kernel: %.*s\n  libtoe: %.*s\n", (int)la, a, (int)lb, b);
		a += la + (a[la] == '\n');
		b += lb + (b[lb] == '\n');
	}
}

static void compare(void **state)
{
	void (*scenario)(void) = *(void (**)(void)) * state;
	char *kernel = transcript(scenario, false);
	uint32_t before = fake_stats->connects;
	char *libtoe = transcript(scenario, true);

	if (getenv("LT_SHOW"))
		print_message("%s", kernel);
	if (strcmp(kernel, libtoe) != 0)
		show_difference(kernel, libtoe);
	assert_true(fake_stats->connects > before || scenario == kernel_sockets);
	assert_non_null(strchr(kernel, '\n'));
	assert_true(strcmp(kernel, libtoe) == 0);
	free(kernel);
	free(libtoe);
}

/* Nothing is left behind in the engine. */
static int nothing_left(void **state)
{
	(void)state;
	for (int i = 0; i < 3000; i++) {
		if (!fake_stats->slots_used && !fake_stats->procs && !fake_stats->listeners &&
		    !fake_stats->tokens_live)
			break;
		poll(NULL, 0, 1);
	}
	if (fake_stats->slots_used || fake_stats->tokens_live || fake_stats->bad ||
	    fake_stats->hint_full) {
		print_message("left: %u slots, %u tokens; bad %u, hint_full %u\n",
			      fake_stats->slots_used, fake_stats->tokens_live, fake_stats->bad,
			      fake_stats->hint_full);
		return -1;
	}
	return 0;
}

static int start(void **state)
{
	(void)state;
	engine = mkdtemp(run_dir) ? fake_start(run_dir) : -1;
	return engine > 0 ? 0 : -1;
}

static int stop(void **state)
{
	char path[128];

	(void)state;
	fake_stop(engine);
	snprintf(path, sizeof(path), "%s/%s", run_dir, TOE_KEEPER_SOCKET);
	unlink(path);
	return rmdir(run_dir);
}

#define SCENARIO(f)                                                                                \
	{                                                                                          \
#f, compare, NULL, nothing_left, &(void (*[])(void))                               \
		{                                                                                  \
			f                                                                          \
		}                                                                                  \
	}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		SCENARIO(blocking_echo),
		SCENARIO(nonblocking_connect),
		SCENARIO(refused),
		SCENARIO(half_close),
		SCENARIO(reset),
		SCENARIO(sigpipe),
		SCENARIO(flags),
		SCENARIO(shut_rd_pending),
		SCENARIO(options),
		SCENARIO(epoll_modes),
		SCENARIO(epoll_listener),
		SCENARIO(duplicates),
		SCENARIO(dup_before_connect),
		SCENARIO(forked),
		SCENARIO(exit_of_child),
		SCENARIO(selects),
		SCENARIO(messages),
#ifndef __SANITIZE_THREAD__ /* TSan runs handlers later, at a call of its choice */
		SCENARIO(signals),
#endif
		SCENARIO(full_buffer),
		SCENARIO(kernel_sockets),
	};

	if (argc == 2)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, start, stop);
}
