// SPDX-License-Identifier: BSD-3-Clause
/*
 * Non-blocking: EAGAIN exactly when there is nothing, partial sends, O_NONBLOCK by fcntl, ioctl and
 * accept4, FIONREAD, and what accepted sockets do not inherit.
 */
#include "tests/oracle/oracle.h"

static char buf[1 << 20];

static bool fl(int fd, int flag)
{
	return (MUST(fcntl(fd, F_GETFL)) & flag) != 0;
}

static void show_flags(const char *what, int fd)
{
	SAY("%s: NONBLOCK %d RDWR %d CLOEXEC %d\n", what, fl(fd, O_NONBLOCK), fl(fd, O_RDWR),
	    MUST(fcntl(fd, F_GETFD)) & FD_CLOEXEC);
}

/* Sends until EAGAIN; how many bytes depends on buffers. */
static size_t fill_step(int c)
{
	size_t sent = 0;
	ssize_t n;

	while ((n = send(c, buf, sizeof(buf), MSG_DONTWAIT)) > 0)
		sent += (size_t)n;
	return sent;
}

static void full_buffer(int c)
{
	size_t sent, more;
	char cmd[64];

	sent = fill_step(c);
	/* what is in flight may still make room: full means full when the peer's buffer is, too */
	do {
		ora_writable(c);
		sent += more = fill_step(c);
	} while (more);
	NOW(c);
	T(send(c, buf, 1, MSG_DONTWAIT));
	T(send(c, buf, sizeof(buf), MSG_DONTWAIT));
	T(write(c, buf, 1));
	T(send(c, buf, 0, 0));
	snprintf(cmd, sizeof(cmd), "recv A %zu", sent);
	SAY("peer got all: %d\n", strtoul(peer_quiet("%s", cmd), NULL, 10) == sent);
	WAIT(c, POLLOUT);
	T(send(c, "end", 3, 0));
	PEER("recv A 3");
}

int main(int argc, char **argv)
{
	int l, c, on = 1, off = 0, n = -1;

	ora_start(argc, argv);
	memset(buf, 'z', sizeof(buf));
	l = ora_listen();
	T(fcntl(l, F_SETFL, O_NONBLOCK));
	show_flags("listener", l);
	T(accept(l, NULL, NULL));
	T(accept4(l, NULL, NULL, SOCK_NONBLOCK));
	NOW(l);
	peer_quiet("connect A %s %u", ora.my, ora.port);
	WAIT(l, POLLIN);
	c = TFD(accept(l, NULL, NULL));
	show_flags("accepted", c);
	T(accept(l, NULL, NULL));
	T(recv(c, buf, 10, MSG_DONTWAIT));
	T(ioctl(c, FIONREAD, &n));
	SAY("FIONREAD %d\n", n);
	T(ioctl(c, FIONBIO, &on));
	show_flags("FIONBIO 1", c);
	T(recv(c, buf, 10, 0));
	T(read(c, buf, 10));
	T(read(c, buf, 0));
	T(recv(c, buf, 0, 0));
	T(ioctl(c, FIONBIO, &off));
	show_flags("FIONBIO 0", c);
	T(fcntl(c, F_SETFL, O_RDWR | O_NONBLOCK));
	show_flags("F_SETFL", c);
	T(fcntl(c, F_SETFD, FD_CLOEXEC));
	show_flags("F_SETFD", c);
	PEER("send A 10");
	WAIT(c, POLLIN);
	T(ioctl(c, FIONREAD, &n));
	SAY("FIONREAD %d\n", n);
	T(read(c, buf, 4));
	T(ioctl(c, FIONREAD, &n));
	SAY("FIONREAD %d\n", n);
	T(read(c, buf, 100));
	T(read(c, buf, 100));
	T(ioctl(c, FIONREAD, &n));
	SAY("FIONREAD %d\n", n);
	T(ioctl(l, FIONREAD, &n));
	full_buffer(c);
	T(close(c));
	peer_quiet("connect B %s %u", ora.my, ora.port);
	WAIT(l, POLLIN);
	c = TFD(accept4(l, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC));
	show_flags("accept4", c);
	T(read(c, buf, 1));
	T(accept4(l, NULL, NULL, 0x4));
	T(fcntl(c, 9999, 0));
	T(ioctl(c, 0x9999, &n));
	return 0;
}
