// SPDX-License-Identifier: BSD-3-Clause
/*
 * Resets: received with and without unread data, made by SO_LINGER {1, 0} and by closing with
 * unread data; SO_ERROR afterwards.
 */
#include "tests/oracle/oracle.h"

static char buf[64];

static void received(int l)
{
	int c = ora_accept(l, 'A');

	SAY("-- received\n");
	PEER("rst A");
	WAIT(c, 0);
	NOW(c);
	T(read(c, buf, 4));
	NOW(c);
	T(read(c, buf, 4));
	SHOW_SO_ERROR(c);
	T(close(c));

	c = ora_accept(l, 'A');
	SAY("-- received, unread data\n");
	PEER("send A 5");
	WAIT(c, POLLIN);
	PEER("rst A");
	WAIT(c, 0);
	NOW(c);
	T(read(c, buf, 2));
	T(read(c, buf, 10));
	T(read(c, buf, 10));
	T(send(c, buf, 1, MSG_NOSIGNAL));
	NOW(c);
	T(close(c));

	c = ora_accept(l, 'A');
	SAY("-- received, SO_ERROR first\n");
	PEER("rst A");
	WAIT(c, 0);
	SHOW_SO_ERROR(c);
	SHOW_SO_ERROR(c);
	NOW(c);
	T(read(c, buf, 4));
	T(send(c, buf, 1, MSG_NOSIGNAL));
	T(shutdown(c, SHUT_WR));
	T(close(c));

	c = ora_accept(l, 'A');
	SAY("-- received after a half close\n");
	T(shutdown(c, SHUT_WR));
	PEER("end A");
	PEER("rst A");
	WAIT(c, 0);
	NOW(c);
	SHOW_SO_ERROR(c);
	T(read(c, buf, 4));
	T(close(c));
}

static void made(int l)
{
	struct linger lin = {1, 0};
	socklen_t len = sizeof(lin);
	int c = ora_accept(l, 'A');

	SAY("-- SO_LINGER {1, 0}\n");
	T(setsockopt(c, SOL_SOCKET, SO_LINGER, &lin, sizeof(lin)));
	T(getsockopt(c, SOL_SOCKET, SO_LINGER, &lin, &len));
	SAY("linger {%d, %d}\n", lin.l_onoff, lin.l_linger);
	T(close(c));
	PEER("end A");

	c = ora_accept(l, 'A');
	SAY("-- close with unread data\n");
	PEER("send A 5");
	WAIT(c, POLLIN);
	T(read(c, buf, 2));
	T(close(c));
	PEER("end A");

	c = ora_accept(l, 'A');
	SAY("-- close with data read\n");
	PEER("send A 5");
	WAIT(c, POLLIN);
	T(read(c, buf, 5));
	T(write(c, "answer", 6));
	T(close(c));
	PEER("end A");
	PEER("text A late");

	c = ora_accept(l, 'A');
	SAY("-- SO_LINGER {1, 5}: close waits for the data\n");
	lin.l_linger = 5;
	T(setsockopt(c, SOL_SOCKET, SO_LINGER, &lin, sizeof(lin)));
	T(write(c, "data", 4));
	PEER("recv A 4");
	T(close(c));
	PEER("end A");

	c = ora_accept(l, 'A');
	SAY("-- shutdown, then close with unread data\n");
	T(shutdown(c, SHUT_WR));
	PEER("end A");
	PEER("send A 3");
	WAIT(c, POLLIN);
	T(close(c));
	/* the reset comes after the close, which is all that the peer's next call can wait for */
	PEER("end A");
}

static void not_accepted(int l)
{
	int c;

	SAY("-- gone before accept\n");
	peer_quiet("connect A %s %u", ora.my, ora.port);
	PEER("send A 3");
	PEER("close A");
	WAIT(l, POLLIN);
	c = TFD(accept(l, NULL, NULL));
	WAIT(c, POLLRDHUP);
	T(read(c, buf, 10));
	T(read(c, buf, 10));
	T(close(c));

	SAY("-- the listener is closed with a connection in its queue\n");
	peer_quiet("connect A %s %u", ora.my, ora.port);
	WAIT(l, POLLIN);
	T(close(l));
	PEER("end A");
	SAY("peer connect: %s\n", peer_quiet("connect B %s %u", ora.my, ora.port));
}

int main(int argc, char **argv)
{
	int l;

	ora_start(argc, argv);
	signal(SIGPIPE, SIG_IGN);
	l = ora_listen();
	received(l);
	made(l);
	not_accepted(l);
	return 0;
}
