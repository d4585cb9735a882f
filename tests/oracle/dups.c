// SPDX-License-Identifier: BSD-3-Clause
/*
 * dup, dup2, dup3, F_DUPFD: the connection lives until its last descriptor is closed, flags of the
 * description are shared, flags of the descriptor are not.
 */
#include <sys/select.h>

#include "tests/oracle/oracle.h"

static char buf[32];

static void conns(int l)
{
	int c = ora_accept(l, 'A'), d, e, f, pair[2];

	SAY("-- connection\n");
	d = TFD(dup(c));
	e = TFD(fcntl(c, F_DUPFD_CLOEXEC, 200));
	SAY("at least 200: %d cloexec %d %d\n", e >= 200, fcntl(e, F_GETFD), fcntl(c, F_GETFD));
	T(fcntl(d, F_SETFL, O_NONBLOCK));
	SAY("shared: %d\n", (fcntl(c, F_GETFL) & O_NONBLOCK) != 0);
	T(recv(e, buf, 1, 0));
	T(fcntl(c, F_SETFL, 0));
	PEER("send A 6");
	WAIT(e, POLLIN);
	T(read(c, buf, 2));
	T(read(d, buf, 2));
	T(read(e, buf, 2));
	T(close(c));
	T(read(c, buf, 1));
	NOW(d);
	T(write(d, "two", 3));
	PEER("recv A 3");
	T(close(d));
	T(write(e, "three", 5));
	PEER("recv A 5");

	MUST(pipe(pair));
	T(dup2(e, pair[0]) == pair[0]);
	T(write(pair[1], "x", 1) < 0);
	T(close(e));
	T(write(pair[0], "four", 4));
	PEER("recv A 4");
	T(dup3(pair[0], pair[0], 0));
	T(dup2(pair[0], pair[0]) == pair[0]);
	f = TFD(dup3(pair[0], 300, O_CLOEXEC));
	SAY("cloexec %d\n", fcntl(300, F_GETFD));
	T(dup3(pair[0], 301, 1));
	/* something else over the last but one, then over the last */
	T(dup2(pair[1], pair[0]) == pair[0]);
	T(write(300, "five", 4));
	PEER("recv A 4");
	T(dup2(pair[1], 300));
	PEER("end A");
	T(read(300, buf, 1));
	T(close(300));
	T(close(pair[0]));
	T(close(pair[1]));
	T(dup(f));
	T(dup2(f, 5));
	T(dup2(0, -1));
}

static void listeners(int l)
{
	int d = TFD(dup(l)), c;

	SAY("-- listener\n");
	T(close(l));
	T(accept(l, NULL, NULL));
	c = ora_accept(d, 'A');
	PEER("send A 1");
	T(read(c, buf, 9));
	T(close(d));
	SAY("peer connect: %s\n", peer_quiet("connect Z %s %u", ora.my, ora.port));
	PEER("send A 2");
	T(read(c, buf, 9));
	T(shutdown(c, SHUT_WR));
	PEER("end A");
	T(close(c));
}

/* shutdown acts on the connection, whichever descriptor it is called on. */
static void shutdowns(int l)
{
	int c = ora_accept(l, 'A'), d = MUST(dup(c));

	SAY("-- shutdown\n");
	T(shutdown(d, SHUT_WR));
	T(close(d));
	T(send(c, "x", 1, MSG_NOSIGNAL));
	PEER("end A");
	PEER("send A 2");
	T(read(c, buf, 9));
	T(close(c));
}

/* Small numbers, that FD_SET can take; and after a close the number is used again some time. */
static void numbers(int l)
{
	bool again = false, seen[FD_SETSIZE] = {false};

	SAY("-- numbers\n");
	for (int i = 0; i < 200; i++) {
		int c = ora_accept(l, 'A');

		if (c >= FD_SETSIZE) {
			SAY("large number\n");
			break;
		}
		again |= seen[c];
		seen[c] = true;
		close(c);
		peer_quiet("end A");
	}
	SAY("used again: %d\n", again);
}

int main(int argc, char **argv)
{
	int l;

	ora_start(argc, argv);
	signal(SIGPIPE, SIG_IGN);
	l = ora_listen();
	shutdowns(l);
	conns(l);
	numbers(l);
	listeners(l);
	return 0;
}
