// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/progs/lib/util.c tests/progs/lib/hist.c */
/*
 * How a connection ends when its program is killed: a server that brings one connection into a
 * state and waits to be killed, and a client that writes down, on stdout, what it then saw.  The
 * script runs each case on the kernel and on the engine and compares the transcripts.
 *
 *   endings server CASE --port N     prints "listening", then "staged" when it may be killed
 *   endings client CASE --host A --port N [--go FILE]   case drain: reads only once FILE exists
 *
 * Cases: idle (nothing ever sent), queued (BYTES sent, read at once), drain (BYTES sent to a client
 * that does not read yet), halfclosed (client's FIN was read), unread (bytes received, not read),
 * both (unread and BYTES queued), word (ROUNDS connections: unread, an answer and the close at
 * once), linger (SO_LINGER 0), child (a forked child holds the
 * connection), backlog (never accepted), talk (the client sends after the end).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/progs/lib/util.h"

#define BYTES    200000u /* more than the client's receive buffer, less than both sides' together */
#define HELLO    1000u
#define SEED     0x656e64u
#define LIMIT_MS 20000
#define ROUNDS   100u

static const char *host = "10.99.0.1", *go;
static uint16_t port = 7300;
static const char *which;

static bool is(const char *name)
{
	return strcmp(which, name) == 0;
}

static void staged(void)
{
	puts("staged");
	fflush(stdout);
	for (;;)
		pause();
}

static void wait_events(int fd, short events, const char *what)
{
	struct pollfd p = {.fd = fd, .events = events};

	if (poll(&p, 1, LIMIT_MS) <= 0)
		die("no %s in %d ms", what, LIMIT_MS);
}

/* ---- server ---- */

static void send_pattern(int fd, size_t total)
{
	static uint8_t buf[BYTES];
	size_t at = 0;

	pattern_fill(buf, total, 0, SEED);
	while (at < total) {
		ssize_t n = send(fd, buf + at, total - at, MSG_NOSIGNAL);

		if (n <= 0)
			die("send: %m");
		at += (size_t)n;
	}
}

static void read_hello(int fd)
{
	uint8_t buf[HELLO];

	if (recv(fd, buf, sizeof(buf), MSG_WAITALL) != HELLO)
		die("hello: %m");
}

static void serve(int lfd, int fd)
{
	struct linger l = {.l_onoff = 1};
	char c;

	if (is("unread") || is("both") || is("word")) {
		wait_events(fd, POLLIN, "hello");
	} else if (!is("idle")) {
		read_hello(fd);
	}
	if (is("queued") || is("drain") || is("both"))
		send_pattern(fd, BYTES);
	if (is("word")) {
		send_pattern(fd, HELLO);
		close(fd);
		return;
	}
	if (is("halfclosed") && recv(fd, &c, 1, 0) != 0)
		die("no end of file from the client");
	if (is("linger") && setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l)) < 0)
		die("SO_LINGER: %m");
	if (is("child") && fork() == 0) {
		struct timespec t = {1, 500000000}; /* the connection's life after its owner's */

		close(lfd);
		nanosleep(&t, NULL);
		send_pattern(fd, HELLO);
		_exit(0);
	}
}

static void server(void)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(port)};
	int on = 1, large = 2 * BYTES;
	int lfd = socket(AF_INET, SOCK_STREAM, 0);
	int fd;

	setsockopt(lfd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	/* all of BYTES must fit: send() may not wait for the client */
	setsockopt(lfd, SOL_SOCKET, SO_SNDBUF, &large, sizeof(large));
	if (bind(lfd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(lfd, 8) < 0)
		die("port %u: %m", port);
	puts("listening");
	fflush(stdout);
	if (is("backlog")) {
		wait_events(lfd, POLLIN, "connection");
		staged();
	}
	for (unsigned i = 0; i < (is("word") ? ROUNDS : 1); i++) {
		fd = accept(lfd, NULL, NULL);
		if (fd < 0)
			die("accept: %m");
		serve(lfd, fd);
	}
	staged();
}

/* ---- client ---- */

static void wait_go(void)
{
	uint64_t end = now_ns() + (uint64_t)LIMIT_MS * 1000000u;
	struct timespec tick = {0, 10000000};

	while (go && access(go, F_OK) != 0) {
		if (now_ns() > end)
			die("nobody made %s", go);
		nanosleep(&tick, NULL);
	}
}

/* Reads to the end: name of the end. */
static const char *read_all(int fd, size_t *got, bool *right)
{
	static uint8_t buf[16384];

	*right = true;
	for (;;) {
		ssize_t n;

		wait_events(fd, POLLIN, "end");
		n = recv(fd, buf, sizeof(buf), 0);
		if (n == 0)
			return "end of file";
		if (n < 0)
			return strerrorname_np(errno);
		*right &= pattern_check(buf, (size_t)n, *got, SEED) == (size_t)n;
		*got += (size_t)n;
	}
}

/* The peer is gone for good: what we send now is answered by RST. */
static void talk(int fd)
{
	static const uint8_t hello[HELLO];
	ssize_t n = send(fd, hello, HELLO, MSG_NOSIGNAL);
	struct pollfd p = {.fd = fd};

	printf("send after the end: %s\n", n == HELLO ? "taken" : strerrorname_np(errno));
	if (poll(&p, 1, LIMIT_MS) <= 0)
		die("no reset in %d ms", LIMIT_MS);
	printf("events:%s%s\n", p.revents & POLLERR ? " ERR" : "",
	       p.revents & POLLHUP ? " HUP" : "");
	n = send(fd, hello, HELLO, MSG_NOSIGNAL);
	printf("send again: %s\n", n < 0 ? strerrorname_np(errno) : "taken");
}

static void connection(void)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(port)};
	static uint8_t hello[HELLO];
	const char *end;
	int small = 8192;
	size_t got = 0;
	bool right;
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (is("drain"))
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	if (inet_pton(AF_INET, host, &sa.sin_addr) != 1 ||
	    connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		die("connect: %m");
	if (!is("idle") && send(fd, hello, HELLO, MSG_NOSIGNAL) != HELLO)
		die("send: %m");
	if (is("halfclosed"))
		shutdown(fd, SHUT_WR);
	if (is("drain"))
		wait_go();
	end = read_all(fd, &got, &right);
	/* how much arrives before a RST is a race on every system */
	if (is("both"))
		printf("%s bytes, then %s\n", right ? "right" : "wrong", end);
	else
		printf("%zu %s bytes, then %s\n", got, right ? "right" : "wrong", end);
	if (is("talk"))
		talk(fd);
	close(fd);
}

static void client(void)
{
	for (unsigned i = 0; i < (is("word") ? ROUNDS : 1); i++)
		connection();
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {{"host", 1, NULL, 'h'},
					      {"port", 1, NULL, 'p'},
					      {"go", 1, NULL, 'g'},
					      {NULL, 0, NULL, 0}};
	int o;

	while ((o = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (o == 'h')
			host = optarg;
		else if (o == 'p')
			port = (uint16_t)parse_u64(optarg, "--port");
		else if (o == 'g')
			go = optarg;
		else
			die("usage: endings server|client CASE [--host A] [--port N] [--go FILE]");
	}
	if (optind + 2 != argc)
		die("usage: endings server|client CASE [--host A] [--port N] [--go FILE]");
	which = argv[optind + 1];
	if (strcmp(argv[optind], "server") == 0)
		server();
	else
		client();
	return 0;
}
