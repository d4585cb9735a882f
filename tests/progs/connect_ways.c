// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/progs/lib/util.c tests/progs/lib/hist.c */
/*
 * An outgoing connection in one of the ways programs use: blocking connect(), or non-blocking with
 * poll, select or epoll (edge-triggered) and SO_ERROR.  Then a line goes to the echo server and
 * back.
 *
 * Prints on stdout what every call said, the same on every stack, so that transcripts can be
 * compared. Exit code 0 only if the echo came back.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <getopt.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/progs/lib/util.h"

static const char *host = "10.99.0.2", *way = "blocking";
static uint16_t port = 7100;
static int timeout_ms = 10000;
static struct sockaddr_storage to;
static socklen_t to_len;

static const char *outcome(int rc)
{
	return rc < 0 ? strerrorname_np(errno) : "ok";
}

/* Until the socket says that the attempt is over; prints the events. */
static bool wait_poll(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};

	if (poll(&p, 1, timeout_ms) <= 0)
		return false;
	printf("poll:%s%s%s\n", p.revents & POLLOUT ? " OUT" : "",
	       p.revents & POLLERR ? " ERR" : "", p.revents & POLLHUP ? " HUP" : "");
	return true;
}

static bool wait_select(int fd)
{
	struct timeval tv = {timeout_ms / 1000, 0};
	fd_set r, w;

	FD_ZERO(&r);
	FD_ZERO(&w);
	FD_SET(fd, &r);
	FD_SET(fd, &w);
	if (select(fd + 1, &r, &w, NULL, &tv) <= 0)
		return false;
	printf("select:%s%s\n", FD_ISSET(fd, &r) ? " readable" : "",
	       FD_ISSET(fd, &w) ? " writable" : "");
	return true;
}

static bool wait_epoll(int fd)
{
	struct epoll_event ev = {.events = EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.fd = fd};
	int ep = epoll_create1(EPOLL_CLOEXEC);

	if (ep < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) < 0)
		die("epoll: %m");
	do {
		if (epoll_wait(ep, &ev, 1, timeout_ms) <= 0)
			return false;
	} while (!(ev.events & (EPOLLOUT | EPOLLERR)));
	printf("epoll:%s%s%s\n", ev.events & EPOLLOUT ? " OUT" : "",
	       ev.events & EPOLLERR ? " ERR" : "", ev.events & EPOLLHUP ? " HUP" : "");
	close(ep);
	return true;
}

static bool open_connection(int fd)
{
	socklen_t len = sizeof(int);
	int error = -1;
	bool over;

	if (strcmp(way, "blocking") == 0) {
		int rc = connect(fd, (struct sockaddr *)&to, to_len);

		printf("connect: %s\n", outcome(rc));
		return rc == 0;
	}
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	printf("connect: %s\n", outcome(connect(fd, (struct sockaddr *)&to, to_len)));
	if (strcmp(way, "epoll") == 0)
		over = wait_epoll(fd);
	else
		over = strcmp(way, "select") == 0 ? wait_select(fd) : wait_poll(fd);
	if (!over) {
		printf("not over in %d ms\n", timeout_ms);
		return false;
	}
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		die("SO_ERROR: %m");
	printf("SO_ERROR: %s\n", error ? strerrorname_np(error) : "0");
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
	printf("SO_ERROR again: %s\n", error ? strerrorname_np(error) : "0");
	return true;
}

static void show_names(int fd)
{
	struct sockaddr_storage sa = {0};
	socklen_t len = sizeof(sa);
	char text[80], service[8];

	if (getpeername(fd, (struct sockaddr *)&sa, &len) < 0) {
		printf("peer: %s\n", strerrorname_np(errno));
		return;
	}
	getnameinfo((struct sockaddr *)&sa, len, text, sizeof(text), service, sizeof(service),
		    NI_NUMERICHOST | NI_NUMERICSERV);
	printf("peer: %s:%s\n", text, service);
	len = sizeof(sa);
	if (getsockname(fd, (struct sockaddr *)&sa, &len) < 0)
		return;
	getnameinfo((struct sockaddr *)&sa, len, text, sizeof(text), service, sizeof(service),
		    NI_NUMERICHOST | NI_NUMERICSERV);
	if (strcmp(service, "0") != 0)
		printf("own: %s\n", text);
}

static bool echo(int fd)
{
	static const char line[] = "hello from the other side\n";
	char back[sizeof(line)];
	struct pollfd p = {.fd = fd, .events = POLLIN};
	size_t got = 0;

	if (send(fd, line, sizeof(line), MSG_NOSIGNAL) != sizeof(line)) {
		printf("send: %s\n", strerrorname_np(errno));
		return false;
	}
	while (got < sizeof(line)) {
		ssize_t n;

		if (poll(&p, 1, timeout_ms) <= 0)
			die("no echo in %d ms", timeout_ms);
		n = recv(fd, back + got, sizeof(line) - got, 0);
		if (n <= 0) {
			printf("recv: %s\n", n < 0 ? strerrorname_np(errno) : "end of file");
			return false;
		}
		got += (size_t)n;
	}
	printf("echo: %s\n", memcmp(line, back, sizeof(line)) == 0 ? "right" : "wrong");
	return memcmp(line, back, sizeof(line)) == 0;
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {{"host", 1, NULL, 'h'},
					      {"port", 1, NULL, 'p'},
					      {"way", 1, NULL, 'w'},
					      {"timeout", 1, NULL, 'T'},
					      {NULL, 0, NULL, 0}};
	int o, fd;
	bool ok;

	while ((o = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (o == 'h')
			host = optarg;
		else if (o == 'p')
			port = (uint16_t)parse_u64(optarg, "--port");
		else if (o == 'w')
			way = optarg;
		else if (o == 'T')
			timeout_ms = 1000 * (int)parse_u64(optarg, "--timeout");
		else
			die("usage: connect_ways [--host A] [--port N] [--timeout S]\n"
			    "  [--way blocking|poll|select|epoll]");
	}
	to_len = address(host, port, &to);
	fd = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		die("socket: %m");
	ok = open_connection(fd);
	show_names(fd);
	ok = ok && echo(fd);
	close(fd);
	return ok ? 0 : 1;
}
