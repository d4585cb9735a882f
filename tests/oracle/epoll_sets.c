// SPDX-License-Identifier: BSD-3-Clause
/*
 * epoll sets: errors of epoll_ctl, one socket in two sets, dups in a set, a set that survives fork,
 * a set in a set and in poll, and ET when the send buffer empties.
 */
#include "tests/oracle/oracle.h"

static char buf[1 << 20];

static void errors(int ep, int c)
{
	struct epoll_event ev;
	volatile int minus = -1; /* the compiler must not see it */

	SAY("-- errors\n");
	T(ep_ctl(ep, EPOLL_CTL_ADD, c, EPOLLIN, 1));
	T(ep_ctl(ep, EPOLL_CTL_ADD, c, EPOLLIN, 1));
	T(ep_ctl(ep, EPOLL_CTL_DEL, c, 0, 0));
	T(ep_ctl(ep, EPOLL_CTL_DEL, c, 0, 0));
	T(ep_ctl(ep, EPOLL_CTL_MOD, c, EPOLLIN, 1));
	T(ep_ctl(ep, EPOLL_CTL_ADD, -1, EPOLLIN, 1));
	T(ep_ctl(ep, EPOLL_CTL_ADD, ep, EPOLLIN, 1));
	T(ep_ctl(c, EPOLL_CTL_ADD, ep, EPOLLIN, 1));
	T(ep_ctl(ep, 77, c, EPOLLIN, 1));
	T(epoll_wait(ep, &ev, 0, 0));
	T(epoll_wait(ep, &ev, minus, 0));
	T(epoll_wait(c, &ev, 1, 0));
	T(epoll_wait(-1, &ev, 1, 0));
	T(epoll_wait(ep, &ev, 1, 0));
	T(epoll_create(0));
	T(epoll_create1(77));
}

static void two_sets(int l)
{
	int c = ora_accept(l, 'A');
	int one = MUST(epoll_create1(0)), two = MUST(epoll_create1(0));

	SAY("-- two sets\n");
	T(ep_ctl(one, EPOLL_CTL_ADD, c, EPOLLIN, 1));
	T(ep_ctl(two, EPOLL_CTL_ADD, c, EPOLLIN | EPOLLET, 2));
	PEER("send A 3");
	EWAIT(one);
	EWAIT(two);
	ENOW(two);
	T(read(c, buf, 9));
	ENOW(one);
	PEER("send A 1");
	EWAIT(two);
	EWAIT(one);
	T(ep_ctl(one, EPOLL_CTL_DEL, c, 0, 0));
	ENOW(one);
	T(close(one));
	PEER("send A 1");
	EWAIT(two);
	T(close(c));
	ENOW(two);
	T(close(two));
}

static void dups(int l, int ep)
{
	int c = ora_accept(l, 'A'), d = MUST(dup(c)), e;

	SAY("-- dups\n");
	T(ep_ctl(ep, EPOLL_CTL_ADD, c, EPOLLIN, 1));
	T(ep_ctl(ep, EPOLL_CTL_ADD, d, EPOLLIN, 2));
	PEER("send A 3");
	EWAIT(ep);
	T(ep_ctl(ep, EPOLL_CTL_DEL, c, 0, 0));
	EWAIT(ep);
	T(read(d, buf, 9));
	T(close(c));
	PEER("send A 3");
	EWAIT(ep);
	T(close(d));
	ENOW(ep);
	/* the number is free again, and means something else now */
	e = ora_accept(l, 'B');
	T(ep_ctl(ep, EPOLL_CTL_ADD, e, EPOLLIN, 3));
	ENOW(ep);
	PEER("send B 1");
	EWAIT(ep);
	T(close(e));
	ENOW(ep);
}

static void forked(int l)
{
	int c = ora_accept(l, 'A'), ep = MUST(epoll_create1(0)), go[2];
	pid_t pid;
	char x;

	SAY("-- a set survives fork\n");
	MUST(pipe(go));
	T(ep_ctl(ep, EPOLL_CTL_ADD, c, EPOLLIN, 1));
	T(ep_ctl(ep, EPOLL_CTL_ADD, l, EPOLLIN, 2));
	pid = ora_fork();
	if (pid == 0) {
		MUST(read(go[0], &x, 1));
		EWAIT(ep);
		T(read(c, buf, 9));
		ENOW(ep);
		T(write(c, "ok", 2));
		_exit(0);
	}
	ENOW(ep);
	PEER("send A 4");
	WAIT(c, POLLIN);
	MUST(write(go[1], "x", 1));
	PEER("recv A 2");
	ora_join(pid);
	ENOW(ep);
	SAY("connect %s\n", peer_quiet("connect B %s %u", ora.my, ora.port));
	EWAIT(ep);
	T(close(accept(l, NULL, NULL)));
	PEER("send A 2");
	EWAIT(ep);
	T(close(c));
	T(close(ep));
}

static void nested(int l)
{
	int c = ora_accept(l, 'A');
	int in = MUST(epoll_create1(0)), out = MUST(epoll_create1(0));

	SAY("-- nested\n");
	T(ep_ctl(in, EPOLL_CTL_ADD, c, EPOLLIN, 1));
	T(ep_ctl(out, EPOLL_CTL_ADD, in, EPOLLIN, 2));
	T(ep_ctl(in, EPOLL_CTL_ADD, out, EPOLLIN, 2));
	NOW(in);
	ENOW(out);
	PEER("send A 3");
	WAIT(in, POLLIN);
	EWAIT(out);
	EWAIT(in);
	T(read(c, buf, 9));
	NOW(in);
	ENOW(out);
	T(close(in));
	ENOW(out);
	T(close(out));
	T(close(c));
}

/* EPOLLOUT|EPOLLET tells when there is room again. */
static void room(int l)
{
	int c = ora_accept(l, 'A'), ep = MUST(epoll_create1(0));
	size_t sent = 0;
	bool more;
	ssize_t n;

	SAY("-- room\n");
	T(fcntl(c, F_SETFL, O_NONBLOCK));
	T(ep_ctl(ep, EPOLL_CTL_ADD, c, EPOLLOUT | EPOLLET, 1));
	EWAIT(ep);
	ENOW(ep);
	do { /* full, and nothing in flight that could make room by itself */
		ora_writable(c);
		more = false;
		while ((n = write(c, buf, sizeof(buf))) > 0) {
			sent += (size_t)n;
			more = true;
		}
	} while (more);
	while (epoll_wait(ep, &(struct epoll_event){0}, 1, 0) > 0)
		;
	ENOW(ep);
	SAY("peer has all: %d\n", strtoul(peer_quiet("recv A %zu", sent), NULL, 10) == sent);
	EWAIT(ep);
	T(close(c));
	T(close(ep));
}

int main(int argc, char **argv)
{
	int l, c, ep;

	ora_start(argc, argv);
	l = ora_listen();
	c = ora_accept(l, 'A');
	ep = MUST(epoll_create1(0));
	errors(ep, c);
	close(c);
	two_sets(l);
	dups(l, ep);
	forked(l);
	nested(l);
	room(l);
	return 0;
}
