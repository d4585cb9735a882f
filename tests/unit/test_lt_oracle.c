// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/unit/lt_fake.h tests/unit/lt_oracle.c */
/* Connections and bytes: libtoe against the kernel (lt_oracle.h). */
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
	R(connect(fd, (struct sockaddr *)&sa, sizeof(sa)));
	await(fd, POLLERR);
	show_poll("refused", fd);
	say("SO_ERROR %d", so_error(fd) == ECONNREFUSED);
	say("SO_ERROR %d", so_error(fd));
	show_poll("taken", fd);
	R(send(fd, "x", 1, MSG_NOSIGNAL));
	close(fd);

	fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	R(connect(fd, (struct sockaddr *)&sa, sizeof(sa)));
	await(fd, POLLERR);
	R(recv(fd, &b, 1, 0));
	close(fd);

	fd = socket(AF_INET, SOCK_STREAM, 0);
	R(connect(fd, (struct sockaddr *)&sa, sizeof(sa)));
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

	catch_signal(SIGPIPE, 0);
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

/* Null pointers: an error, or nothing to be written, never a crash. */
static void nowhere(int fd)
{
	static const struct {
		int level, name;
	} o[] = {{SOL_SOCKET, SO_TYPE},     {SOL_SOCKET, SO_ERROR},
		 {SOL_SOCKET, SO_LINGER},   {SOL_SOCKET, SO_RCVTIMEO},
		 {SOL_SOCKET, SO_COOKIE},   {SOL_SOCKET, SO_REUSEADDR},
		 {SOL_SOCKET, SO_RCVBUF},   {SOL_SOCKET, 9999},
		 {IPPROTO_TCP, TCP_INFO},   {IPPROTO_TCP, TCP_NODELAY},
		 {IPPROTO_TCP, TCP_MAXSEG}, {IPPROTO_TCP, TCP_CONGESTION},
		 {IPPROTO_TCP, 9999},       {IPPROTO_IP, IP_TOS},
		 {IPPROTO_IP, IP_TTL}};
	static const socklen_t lengths[] = {sizeof(int), 64, 0, (socklen_t)-1};
	void *volatile null = NULL;
	int v;

	for (size_t i = 0; i < sizeof(o) / sizeof(o[0]); i++) {
		R(getsockopt(fd, o[i].level, o[i].name, &v, null));
		R(getsockopt(fd, o[i].level, o[i].name, null, null));
		for (size_t k = 0; k < sizeof(lengths) / sizeof(lengths[0]); k++) {
			socklen_t len = lengths[k];

			say("level %d name %d length %d", o[i].level, o[i].name, (int)len);
			R(getsockopt(fd, o[i].level, o[i].name, null, &len));
		}
	}
}

static void null_pointers(void)
{
	int c, s;

	make_pair(&c, &s);
	nowhere(c);
	nowhere(s);
	close(c);
	close(s);
}

int main(int argc, char **argv)
{
	static const struct oracle_case cases[] = {
		CASE(blocking_echo), CASE(nonblocking_connect),
		CASE(refused),       CASE(half_close),
		CASE(reset),         CASE(sigpipe),
		CASE(flags),         CASE(shut_rd_pending),
		CASE(messages),      CASE(null_pointers),
	};

	return oracle_main(cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
