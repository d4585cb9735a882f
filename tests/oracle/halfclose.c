// SPDX-License-Identifier: BSD-3-Clause
/*
 * End of file and half close: shutdown RD, WR, RDWR on either side, and reads and writes after it.
 */
#include "tests/oracle/oracle.h"

static char buf[4096];

/* Until our FIN is acknowledged, too: no event tells. */
static void no_peer(int c)
{
	struct sockaddr_in a;
	socklen_t len = sizeof(a);

	while (getpeername(c, (struct sockaddr *)&a, &len) == 0)
		usleep(1000);
	ora_show("getpeername", -1, errno);
}

static void peer_half(int l)
{
	int c = ora_accept(l, 'A');

	SAY("-- the peer half-closes\n");
	PEER("send A 5");
	PEER("fin A");
	WAIT(c, POLLRDHUP);
	NOW(c);
	T(read(c, buf, 3));
	NOW(c);
	T(read(c, buf, 10));
	NOW(c);
	T(read(c, buf, 10));
	T(recv(c, buf, 10, MSG_DONTWAIT));
	T(recv(c, buf, 10, MSG_PEEK));
	T(write(c, "still", 5));
	PEER("recv A 5");
	T(shutdown(c, SHUT_WR));
	NOW(c);
	PEER("end A");
	no_peer(c);
	T(shutdown(c, SHUT_RDWR));
	T(write(c, "x", 1));
	T(close(c));
}

static void own_half(int l)
{
	int c = ora_accept(l, 'A');

	SAY("-- shutdown(SHUT_WR)\n");
	T(write(c, "last", 4));
	T(shutdown(c, SHUT_WR));
	NOW(c);
	PEER("end A");
	T(write(c, "x", 1));
	T(shutdown(c, SHUT_WR));
	PEER("send A 5");
	WAIT(c, POLLIN);
	NOW(c);
	T(read(c, buf, 10));
	T(recv(c, buf, 10, MSG_DONTWAIT));
	PEER("close A");
	WAIT(c, POLLHUP);
	NOW(c);
	T(read(c, buf, 10));
	T(write(c, "x", 1));
	SHOW_SO_ERROR(c);
	T(close(c));
}

static void own_rd(int l)
{
	int c = ora_accept(l, 'A');

	SAY("-- shutdown(SHUT_RD)\n");
	PEER("send A 5");
	WAIT(c, POLLIN);
	T(shutdown(c, SHUT_RD));
	NOW(c);
	T(read(c, buf, 10));
	T(read(c, buf, 10));
	NOW(c);
	T(write(c, "out", 3));
	PEER("recv A 3");
	T(shutdown(c, SHUT_RD));
	T(shutdown(c, SHUT_WR));
	NOW(c);
	PEER("end A");
	T(close(c));
}

static void both(int l)
{
	int c = ora_accept(l, 'A');

	SAY("-- shutdown(SHUT_RDWR)\n");
	T(write(c, "bye", 3));
	T(shutdown(c, SHUT_RDWR));
	NOW(c);
	T(read(c, buf, 10));
	T(write(c, "x", 1));
	PEER("end A");
	PEER("close A");
	WAIT(c, POLLHUP);
	T(read(c, buf, 10));
	T(shutdown(c, 7));
	T(close(c));
}

static void listener(int l)
{
	int s = MUST(socket(AF_INET, SOCK_STREAM, 0));

	SAY("-- not connected\n");
	T(shutdown(s, SHUT_WR));
	T(read(s, buf, 1));
	T(write(s, buf, 1));
	NOW(s);
	T(read(l, buf, 1));
	T(write(l, buf, 1));
	T(send(l, buf, 1, 0));
	T(close(s));
	T(shutdown(l, SHUT_WR));
	NOW(l);
	T(shutdown(l, SHUT_RD));
	NOW(l);
	T(accept(l, NULL, NULL));
	SAY("peer connect: %s\n", peer_quiet("connect Z %s %u", ora.my, ora.port));
	T(close(l));
}

int main(int argc, char **argv)
{
	int l;

	ora_start(argc, argv);
	signal(SIGPIPE, SIG_IGN);
	l = ora_listen();
	peer_half(l);
	own_half(l);
	own_rd(l);
	both(l);
	listener(l);
	return 0;
}
