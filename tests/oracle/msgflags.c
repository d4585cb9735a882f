// SPDX-License-Identifier: BSD-3-Clause
/*
 * MSG_PEEK, MSG_WAITALL, MSG_DONTWAIT, MSG_TRUNC, recvfrom and sendto, recvmsg and sendmsg, readv
 * and writev, recvmmsg and sendmmsg.
 */
#include "tests/oracle/oracle.h"

static char buf[4096];

static void shown(const char *what, long n)
{
	SAY("%s: %.*s\n", what, n > 0 ? (int)n : 0, buf);
}

static void flags(int c)
{
	SAY("-- flags\n");
	T(recv(c, buf, 4, MSG_PEEK | MSG_DONTWAIT));
	PEER("send A 10");
	WAIT(c, POLLIN);
	shown("peek", T(recv(c, buf, 4, MSG_PEEK)));
	shown("peek", T(recv(c, buf, 20, MSG_PEEK)));
	shown("peek all", T(recv(c, buf, 10, MSG_PEEK | MSG_WAITALL)));
	shown("recv", T(recv(c, buf, 4, 0)));
	T(recv(c, buf, 2, MSG_TRUNC));
	shown("waitall", T(recv(c, buf, 4, MSG_WAITALL)));
	PEER("send A 3");
	WAIT(c, POLLIN);
	shown("waitall dontwait", T(recv(c, buf, 10, MSG_WAITALL | MSG_DONTWAIT)));
	T(recv(c, buf, 10, MSG_DONTWAIT));
	T(recv(c, buf, 1, MSG_OOB));
	T(recv(c, buf, 1, MSG_ERRQUEUE));
	T(send(c, "more", 4, MSG_MORE));
	T(send(c, "end", 3, 0));
	PEER("recv A 7");
	T(send(c, "eor", 3, MSG_EOR | MSG_DONTROUTE));
	PEER("recv A 3");
}

static void addresses(int c)
{
	union ora_sa a = ora_addr("192.0.2.1", 9);
	socklen_t len = sizeof(a);

	SAY("-- recvfrom, sendto\n");
	PEER("send A 2");
	WAIT(c, POLLIN);
	T(recvfrom(c, buf, 10, 0, (struct sockaddr *)&a, &len));
	SAY("address length %u\n", len);
	T(sendto(c, "to", 2, 0, (struct sockaddr *)&a, sizeof(a)));
	T(sendto(c, "no", 2, 0, NULL, 0));
	PEER("recv A 4");
}

static void vectors(int c)
{
	char a[3] = "", b[4] = "", d[32] = "";
	struct iovec in[4] = {{a, 2}, {NULL, 0}, {b, 3}, {d, 20}};
	struct iovec out[3] = {{"ab", 2}, {NULL, 0}, {"cde", 3}};
	struct msghdr m = {.msg_iov = in, .msg_iovlen = 4};
	char control[64], name[32];
	volatile int minus = -1, too_many = 1025; /* the compiler must not see them */

	SAY("-- vectors\n");
	T(writev(c, out, 3));
	T(writev(c, out, 0));
	T(writev(c, out, minus));
	T(writev(c, out, too_many));
	PEER("recv A 5");
	PEER("send A 10");
	WAIT(c, POLLIN);
	T(readv(c, in, 4));
	SAY("%.2s %.3s %.5s\n", a, b, d);
	m.msg_control = control;
	m.msg_controllen = sizeof(control);
	m.msg_name = name;
	m.msg_namelen = sizeof(name);
	PEER("send A 4");
	WAIT(c, POLLIN);
	T(recvmsg(c, &m, MSG_PEEK));
	T(recvmsg(c, &m, 0));
	SAY("%.2s %.3s name %u control %zu flags %d\n", a, b, m.msg_namelen, m.msg_controllen,
	    m.msg_flags);
	T(recvmsg(c, &m, MSG_DONTWAIT));
	m = (struct msghdr){.msg_iov = out, .msg_iovlen = 3};
	T(sendmsg(c, &m, 0));
	PEER("recv A 5");
	m.msg_iovlen = 0;
	T(sendmsg(c, &m, 0));
	T(readv(c, in, 0));
}

static void many(int c)
{
	char x[4] = "", y[4] = "";
	struct iovec in[2] = {{x, 3}, {y, 3}};
	struct iovec out[2] = {{"one", 3}, {"two", 3}};
	struct mmsghdr m[2] = {{.msg_hdr = {.msg_iov = &in[0], .msg_iovlen = 1}},
			       {.msg_hdr = {.msg_iov = &in[1], .msg_iovlen = 1}}};

	SAY("-- several messages\n");
	PEER("send A 5");
	WAIT(c, POLLIN);
	T(recvmmsg(c, m, 2, MSG_DONTWAIT, NULL));
	SAY("%s %s %u %u\n", x, y, m[0].msg_len, m[1].msg_len);
	T(recvmmsg(c, m, 2, MSG_DONTWAIT, NULL));
	m[0].msg_hdr.msg_iov = &out[0];
	m[1].msg_hdr.msg_iov = &out[1];
	T(sendmmsg(c, m, 2, 0));
	SAY("%u %u\n", m[0].msg_len, m[1].msg_len);
	PEER("recv A 6");
}

static void ends(int c)
{
	SAY("-- at the end\n");
	PEER("send A 3");
	PEER("fin A");
	WAIT(c, POLLRDHUP);
	shown("peek", T(recv(c, buf, 10, MSG_PEEK | MSG_WAITALL)));
	shown("waitall", T(recv(c, buf, 10, MSG_WAITALL)));
	T(recv(c, buf, 10, MSG_WAITALL));
	T(recv(c, buf, 10, MSG_PEEK));
	T(recv(c, buf, 1, MSG_OOB));
}

/* Bad addresses are EFAULT, not a crash. */
static void faults(int c)
{
	char *volatile bad = (char *)8;

	SAY("-- bad addresses\n");
	PEER("send A 3");
	WAIT(c, POLLIN);
	T(recv(c, bad, 3, 0));
	T(recv(c, buf, 3, MSG_DONTWAIT));
}

/* An error behind data is for the call after the one that got the data. */
static void reset_behind(int l)
{
	int c = ora_accept(l, 'B');

	SAY("-- reset behind data\n");
	PEER("send B 3");
	WAIT(c, POLLIN);
	PEER("rst B");
	WAIT(c, 0);
	T(recv(c, buf, 10, MSG_PEEK | MSG_WAITALL));
	T(recv(c, buf, 10, MSG_WAITALL));
	T(recv(c, buf, 10, MSG_WAITALL));
	T(recv(c, buf, 10, 0));
	T(close(c));
}

int main(int argc, char **argv)
{
	int l, c;

	ora_start(argc, argv);
	l = ora_listen();
	c = ora_accept(l, 'A');
	flags(c);
	addresses(c);
	vectors(c);
	many(c);
	if (getenv("ORACLE_FAULTS"))
		faults(c);
	ends(c);
	reset_behind(l);
	return 0;
}
