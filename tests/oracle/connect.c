// SPDX-License-Identifier: BSD-3-Clause
/*
 * connect(): blocking and non-blocking, accepted and refused, what poll and SO_ERROR say meanwhile,
 * and calls on a socket that is connecting, connected, or has failed.
 */
#include "tests/oracle/oracle.h"

static char buf[32];
static union ora_sa to;

#define CONNECT(s) T(connect(s, (struct sockaddr *)&to, sizeof(to)))

static int new_socket(int flags)
{
	return MUST(socket(ora.family, SOCK_STREAM | flags, 0));
}

static void blocking(void)
{
	union ora_sa a = {0};
	socklen_t len = sizeof(a);
	int s = new_socket(0);

	SAY("-- blocking\n");
	NOW(s);
	T(getpeername(s, (struct sockaddr *)&a, &len));
	CONNECT(s);
	NOW(s);
	SHOW_SO_ERROR(s);
	CONNECT(s);
	T(getpeername(s, (struct sockaddr *)&a, &len));
	SAY("peer port right: %d\n", a.in.sin_port == to.in.sin_port);
	PEER("accept L A");
	T(write(s, "hello", 5));
	PEER("recv A 5");
	PEER("send A 3");
	T(read(s, buf, 10));
	T(listen(s, 3));
	PEER("close A");
	T(read(s, buf, 10));
	T(close(s));
}

static void nonblocking(void)
{
	int s = new_socket(SOCK_NONBLOCK), ep = MUST(epoll_create1(0));

	SAY("-- non-blocking\n");
	T(ep_ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLOUT | EPOLLET, 1));
	ENOW(ep);
	if (connect(s, (struct sockaddr *)&to, sizeof(to)) < 0 && errno != EINPROGRESS)
		SAY("connect: %s\n", strerrorname_np(errno));
	WAIT(s, POLLOUT);
	EWAIT(ep);
	SHOW_SO_ERROR(s);
	CONNECT(s);
	CONNECT(s);
	T(recv(s, buf, 1, 0));
	PEER("accept L A");
	T(send(s, "x", 1, 0));
	PEER("recv A 1");
	PEER("send A 2");
	WAIT(s, POLLIN);
	T(recv(s, buf, 9, 0));
	T(close(s));
	PEER("end A");
	T(close(ep));
}

static void refused(void)
{
	int s = new_socket(0);

	SAY("-- refused, blocking\n");
	CONNECT(s);
	NOW(s);
	SHOW_SO_ERROR(s);
	T(recv(s, buf, 1, MSG_DONTWAIT));
	T(send(s, buf, 1, MSG_NOSIGNAL));
	CONNECT(s);
	T(close(s));

	s = new_socket(SOCK_NONBLOCK);
	SAY("-- refused, non-blocking\n");
	if (connect(s, (struct sockaddr *)&to, sizeof(to)) < 0 && errno != EINPROGRESS &&
	    errno != ECONNREFUSED)
		SAY("connect: %s\n", strerrorname_np(errno));
	WAIT(s, POLLOUT);
	NOW(s);
	SHOW_SO_ERROR(s);
	SHOW_SO_ERROR(s);
	NOW(s);
	T(recv(s, buf, 1, 0));
	T(send(s, buf, 1, MSG_NOSIGNAL));
	T(close(s));

	s = new_socket(SOCK_NONBLOCK);
	SAY("-- refused, second connect tells\n");
	if (connect(s, (struct sockaddr *)&to, sizeof(to)) < 0 && errno != EINPROGRESS)
		SAY("connect: %s\n", strerrorname_np(errno));
	WAIT(s, POLLOUT);
	CONNECT(s);
	SHOW_SO_ERROR(s);
	T(close(s));

	s = new_socket(SOCK_NONBLOCK);
	SAY("-- refused, read tells\n");
	if (connect(s, (struct sockaddr *)&to, sizeof(to)) < 0 && errno != EINPROGRESS)
		SAY("connect: %s\n", strerrorname_np(errno));
	WAIT(s, POLLOUT);
	T(recv(s, buf, 1, 0));
	T(recv(s, buf, 1, 0));
	SHOW_SO_ERROR(s);
	T(close(s));
}

static void arguments(void)
{
	union ora_sa a = to;
	int s = new_socket(0);

	SAY("-- arguments\n");
	T(connect(s, (struct sockaddr *)&a, 4));
	a.in.sin_family = 77;
	T(connect(s, (struct sockaddr *)&a, sizeof(a)));
	T(connect(s, NULL, sizeof(a)));
	T(connect(-1, (struct sockaddr *)&to, sizeof(to)));
	T(connect(1, (struct sockaddr *)&to, sizeof(to)) < 0);
	T(close(s));
}

/* A socket bound before it connects keeps its port. */
static void bound(void)
{
	union ora_sa a = ora_addr(ora.my, 0), b = {0};
	socklen_t len = sizeof(a);
	int s = new_socket(0);

	SAY("-- bound\n");
	T(bind(s, (struct sockaddr *)&a, sizeof(a)));
	T(getsockname(s, (struct sockaddr *)&a, &len));
	CONNECT(s);
	len = sizeof(b);
	T(getsockname(s, (struct sockaddr *)&b, &len));
	SAY("same port: %d\n", a.in.sin_port == b.in.sin_port);
	PEER("accept L A");
	PEER("rst A");
	WAIT(s, 0);
	T(read(s, buf, 1));
	CONNECT(s);
	T(close(s));
}

int main(int argc, char **argv)
{
	char cmd[64];

	ora_start(argc, argv);
	signal(SIGPIPE, SIG_IGN);
	to = ora_addr(ora.peer, (uint16_t)(ora.port + 500));
	snprintf(cmd, sizeof(cmd), "listen L %s %u", ora.peer, ora.port + 500u);
	SAY("listen: %s\n", peer_quiet("%s", cmd));
	blocking();
	nonblocking();
	bound();
	arguments();
	PEER("close L");
	refused();
	return 0;
}
