// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/unit/lt_fake.h tests/unit/lt_oracle.c */
/* Options, epoll, select, descriptors, fork: libtoe against the kernel (lt_oracle.h). */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
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
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "lt_fake.h"
#include "lt_oracle.h"

static void opt(int fd, const char *name, int level, int o)
{
	int v = -7;
	socklen_t len = sizeof(v);
	int rc = getsockopt(fd, level, o, &v, &len);

	say("%s: %d %d len %u %s", name, rc, v, len, rc < 0 ? strerrorname_np(errno) : "");
}
#define G(fd, level, o) opt(fd, #o, level, o)

static void untouched(int fd)
{
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
}

/* No value at all, one that is short, one that is not aligned. */
static void values(int fd)
{
	static const uint8_t bytes[] __attribute__((aligned(8))) = {0, 0x08, 0, 0, 0, 0};
	static const uint8_t ttl[] = {7, 9};

	R(setsockopt(fd, SOL_SOCKET, SO_LINGER, NULL, sizeof(struct linger)));
	R(setsockopt(fd, SOL_SOCKET, SO_LINGER, NULL, sizeof(int)));
	R(setsockopt(fd, SOL_SOCKET, SO_LINGER, NULL, 3));
	R(setsockopt(fd, SOL_SOCKET, SO_LINGER, bytes, (socklen_t)-1));
	R(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, NULL, sizeof(struct timeval)));
	R(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, NULL, sizeof(struct timeval)));
	R(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, bytes, sizeof(int)));
	R(setsockopt(fd, SOL_SOCKET, SO_PRIORITY, NULL, sizeof(int)));
	R(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, NULL, sizeof(int)));
	R(setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, NULL, sizeof(int)));
	R(setsockopt(fd, IPPROTO_IP, IP_TOS, NULL, sizeof(int)));
	R(setsockopt(fd, IPPROTO_IP, IP_TOS, NULL, 1));
	R(setsockopt(fd, IPPROTO_IP, IP_TOS, bytes + 1, sizeof(int)));
	G(fd, IPPROTO_IP, IP_TOS);
	R(setsockopt(fd, IPPROTO_IP, IP_TOS, NULL, 0));
	G(fd, IPPROTO_IP, IP_TOS);
	R(setsockopt(fd, IPPROTO_IP, IP_TTL, ttl, sizeof(ttl)));
	G(fd, IPPROTO_IP, IP_TTL);
}

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

		untouched(fd);
		values(fd);
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
	catch_signal(SIGUSR1, 0);
	pthread_create(&k, NULL, kick_later, &self);
	R(read(c, b, 8));
	pthread_join(k, NULL);
	pthread_create(&k, NULL, kick_later, &self);
	R(poll(&(struct pollfd){c, POLLIN, 0}, 1, 5000));
	pthread_join(k, NULL);
	catch_signal(SIGUSR1, SA_RESTART);
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
	/* the same listener has the engine's connections, too */
	c = connect_to(port, 0);
	s = accept(l, NULL, NULL);
	R(write(c, "abc", 3));
	R(read(s, b, 4));
	close(s);
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

int main(int argc, char **argv)
{
	static const struct oracle_case cases[] = {
		CASE(options),
		CASE(epoll_modes),
		CASE(epoll_listener),
		CASE(duplicates),
		CASE(dup_before_connect),
		CASE(forked),
		CASE(exit_of_child),
		CASE(selects),
#ifndef __SANITIZE_THREAD__ /* TSan runs handlers later, at a call of its choice */
		CASE(signals),
#endif
		CASE(full_buffer),
		CASE(kernel_sockets),
	};

	return oracle_main(cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
