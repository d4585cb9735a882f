// SPDX-License-Identifier: BSD-3-Clause
/*
 * epoll: level, edge, one-shot, RDHUP and exclusive, with a pipe and an eventfd in the same set.
 * Tags: 1 listener, 2 connection A, 3 connection B, 4 pipe, 5 eventfd.
 */
#include <sys/eventfd.h>

#include "tests/oracle/oracle.h"

static int l, a, b, pr[2], ev, ep;
static char buf[4096];

static void level(void)
{
	uint64_t one = 1;

	SAY("-- level\n");
	T(ep_ctl(ep, EPOLL_CTL_ADD, l, EPOLLIN, 1));
	T(ep_ctl(ep, EPOLL_CTL_ADD, a, EPOLLIN, 2));
	T(ep_ctl(ep, EPOLL_CTL_ADD, b, EPOLLIN, 3));
	T(ep_ctl(ep, EPOLL_CTL_ADD, pr[0], EPOLLIN, 4));
	T(ep_ctl(ep, EPOLL_CTL_ADD, ev, EPOLLIN, 5));
	ENOW(ep);
	PEER("send A 5");
	EWAIT(ep);
	EWAIT(ep);
	T(read(a, buf, 2));
	EWAIT(ep);
	T(read(a, buf, 9));
	ENOW(ep);
	MUST(write(pr[1], "x", 1));
	EWAIT(ep);
	MUST(write(ev, &one, 8));
	PEER("send B 1");
	WAIT(b, POLLIN);
	EWAIT(ep);
	MUST(read(pr[0], buf, 1));
	MUST(read(ev, &one, 8));
	T(read(b, buf, 1));
	ENOW(ep);
	SAY("connect %s\n", peer_quiet("connect C %s %u", ora.my, ora.port));
	EWAIT(ep);
	T(close(accept(l, NULL, NULL)));
	ENOW(ep);
	T(ep_ctl(ep, EPOLL_CTL_MOD, a, EPOLLIN | EPOLLOUT, 2));
	EWAIT(ep);
	EWAIT(ep);
	T(ep_ctl(ep, EPOLL_CTL_MOD, a, 0, 2));
	PEER("send A 1");
	WAIT(a, POLLIN);
	ENOW(ep);
	T(read(a, buf, 9));
	T(ep_ctl(ep, EPOLL_CTL_MOD, a, EPOLLIN, 2));
	ENOW(ep);
}

static void edge(void)
{
	SAY("-- edge\n");
	T(ep_ctl(ep, EPOLL_CTL_MOD, a, EPOLLIN | EPOLLET, 2));
	ENOW(ep);
	PEER("send A 5");
	EWAIT(ep);
	ENOW(ep);
	T(read(a, buf, 2));
	ENOW(ep);
	PEER("send A 5");
	EWAIT(ep);
	ENOW(ep);
	T(read(a, buf, 99));
	T(recv(a, buf, 1, MSG_DONTWAIT));
	ENOW(ep);
	PEER("send A 3");
	EWAIT(ep);
	T(ep_ctl(ep, EPOLL_CTL_MOD, a, EPOLLIN | EPOLLET, 2)); /* looks again */
	EWAIT(ep);
	ENOW(ep);
	T(read(a, buf, 99));
	T(ep_ctl(ep, EPOLL_CTL_MOD, a, EPOLLIN | EPOLLOUT | EPOLLET, 2));
	EWAIT(ep);
	ENOW(ep);
	T(write(a, "x", 1));
	PEER("recv A 1");
	PEER("send A 2");
	EWAIT(ep);
	ENOW(ep);
	T(read(a, buf, 9));
	ENOW(ep);
}

static void edge_listener(void)
{
	SAY("-- edge, listener\n");
	T(ep_ctl(ep, EPOLL_CTL_MOD, l, EPOLLIN | EPOLLET, 1));
	SAY("connect %s\n", peer_quiet("connect C %s %u", ora.my, ora.port));
	EWAIT(ep);
	ENOW(ep);
	SAY("connect %s\n", peer_quiet("connect D %s %u", ora.my, ora.port));
	EWAIT(ep);
	T(close(accept(l, NULL, NULL)));
	T(close(accept(l, NULL, NULL)));
	ENOW(ep);
	T(ep_ctl(ep, EPOLL_CTL_MOD, l, EPOLLIN, 1));
}

static void oneshot(void)
{
	SAY("-- one-shot\n");
	T(ep_ctl(ep, EPOLL_CTL_MOD, a, EPOLLIN | EPOLLONESHOT, 2));
	PEER("send A 2");
	EWAIT(ep);
	ENOW(ep);
	T(read(a, buf, 9));
	PEER("send A 2");
	WAIT(a, POLLIN);
	ENOW(ep);
	T(ep_ctl(ep, EPOLL_CTL_MOD, a, EPOLLIN | EPOLLONESHOT, 2));
	EWAIT(ep);
	ENOW(ep);
	T(read(a, buf, 9));
	T(ep_ctl(ep, EPOLL_CTL_MOD, a, EPOLLIN | EPOLLONESHOT | EPOLLET, 2));
	ENOW(ep);
	PEER("send A 2");
	EWAIT(ep);
	ENOW(ep);
	T(read(a, buf, 9));
}

static void hups(void)
{
	int c = ora_accept(l, 'C');

	SAY("-- RDHUP and HUP\n");
	T(ep_ctl(ep, EPOLL_CTL_MOD, a, EPOLLIN | EPOLLRDHUP, 2));
	T(ep_ctl(ep, EPOLL_CTL_MOD, b, EPOLLIN, 3));
	PEER("fin A");
	EWAIT(ep);
	T(ep_ctl(ep, EPOLL_CTL_MOD, a, EPOLLRDHUP | EPOLLET, 2));
	EWAIT(ep);
	ENOW(ep);
	T(shutdown(a, SHUT_WR));
	EWAIT(ep);
	T(close(a));
	PEER("end A");
	ENOW(ep);
	PEER("fin B");
	EWAIT(ep);
	PEER("rst B");
	WAIT(b, 0);
	EWAIT(ep);
	T(ep_ctl(ep, EPOLL_CTL_MOD, b, 0, 3));
	EWAIT(ep);
	T(read(b, buf, 1));
	EWAIT(ep);
	T(ep_ctl(ep, EPOLL_CTL_DEL, b, 0, 3));
	ENOW(ep);
	T(ep_ctl(ep, EPOLL_CTL_ADD, c, EPOLLET, 6));
	PEER("rst C");
	EWAIT(ep);
	ENOW(ep);
	T(close(b));
	T(close(c));
}

static void exclusive(void)
{
	SAY("-- exclusive\n");
	T(ep_ctl(ep, EPOLL_CTL_DEL, l, 0, 0));
	T(ep_ctl(ep, EPOLL_CTL_ADD, l, EPOLLIN | EPOLLEXCLUSIVE, 1));
	T(ep_ctl(ep, EPOLL_CTL_MOD, l, EPOLLIN, 1));
	T(ep_ctl(ep, EPOLL_CTL_ADD, 0, EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT, 1));
	SAY("connect %s\n", peer_quiet("connect D %s %u", ora.my, ora.port));
	EWAIT(ep);
	a = MUST(accept(l, NULL, NULL));
	T(ep_ctl(ep, EPOLL_CTL_ADD, a, EPOLLIN | EPOLLEXCLUSIVE, 2));
	T(ep_ctl(ep, EPOLL_CTL_MOD, a, EPOLLIN, 2));
	T(ep_ctl(ep, EPOLL_CTL_DEL, a, 0, 2));
	T(ep_ctl(ep, EPOLL_CTL_ADD, a, EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT, 2));
	T(ep_ctl(ep, EPOLL_CTL_ADD, a, EPOLLIN | EPOLLEXCLUSIVE | EPOLLRDHUP, 2));
}

int main(int argc, char **argv)
{
	ora_start(argc, argv);
	l = ora_listen();
	a = ora_accept(l, 'A');
	b = ora_accept(l, 'B');
	MUST(pipe(pr));
	ev = MUST(eventfd(0, 0));
	ep = MUST(epoll_create1(EPOLL_CLOEXEC));
	level();
	edge();
	edge_listener();
	oneshot();
	hups();
	exclusive();
	return 0;
}
