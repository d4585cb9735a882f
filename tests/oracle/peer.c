// SPDX-License-Identifier: BSD-3-Clause
/*
 * The other side of the oracle programs, always over the kernel: peer CONTROL-SOCKET.
 *
 * Serves one program after the other on a UNIX SOCK_SEQPACKET socket: a packet is a command, the
 * answer comes when it is done ("ok", a count, or an errno name).  Connections have a letter.
 * At the end of a control connection all its sockets are closed.  Ends on SIGTERM.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define LETTERS 128
#define WAIT_S  10

static int fds[LETTERS];
static char answer[256];

static void say(long rc)
{
	if (rc < 0)
		snprintf(answer, sizeof(answer), "%s", strerrorname_np(errno));
	else
		snprintf(answer, sizeof(answer), "ok");
}

static int new_socket(char x, int family)
{
	struct timeval limit = {WAIT_S, 0};
	int one = 1;

	if (fds[(int)x] >= 0)
		close(fds[(int)x]);
	fds[(int)x] = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(fds[(int)x], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fds[(int)x], SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	setsockopt(fds[(int)x], SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(fds[(int)x], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fds[(int)x];
}

static void do_address(const char *verb, char x, const char *host, unsigned port)
{
	const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM};
	struct addrinfo *a;
	char service[8];
	int fd;

	snprintf(service, sizeof(service), "%u", port);
	if (getaddrinfo(host, service, &hints, &a) != 0) {
		errno = EADDRNOTAVAIL;
		say(-1);
		return;
	}
	fd = new_socket(x, a->ai_family);
	if (strcmp(verb, "connect") == 0)
		say(connect(fd, a->ai_addr, a->ai_addrlen));
	else if (bind(fd, a->ai_addr, a->ai_addrlen) < 0 || listen(fd, 16) < 0)
		say(-1);
	else
		say(0);
	freeaddrinfo(a);
}

/* n bytes "abc...zabc..." */
static void do_send(int fd, unsigned long n)
{
	static char buf[26 * 512];
	unsigned long done = 0;

	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = (char)('a' + i % 26);
	while (done < n) {
		size_t at = done % 26;
		size_t len = n - done < sizeof(buf) - at ? n - done : sizeof(buf) - at;
		ssize_t rc = send(fd, buf + at, len, MSG_NOSIGNAL);

		if (rc < 0) {
			say(-1);
			return;
		}
		done += (unsigned long)rc;
	}
	say(0);
}

/* Up to n bytes, or to the end: how many, how it ended, and the bytes if they are few. */
static void do_recv(int fd, unsigned long n)
{
	static char buf[65536];
	char head[33] = "";
	unsigned long got = 0;
	const char *end = "";

	while (got < n) {
		size_t len = n - got < sizeof(buf) ? n - got : sizeof(buf);
		ssize_t rc = recv(fd, buf, len, 0);

		if (rc <= 0) {
			end = rc == 0 ? " EOF" : strerrorname_np(errno);
			break;
		}
		for (ssize_t i = 0; i < rc && got + (unsigned long)i < sizeof(head) - 1; i++)
			head[got + (unsigned long)i] = buf[i];
		got += (unsigned long)rc;
	}
	snprintf(answer, sizeof(answer), "%lu %s %s", got, got < sizeof(head) ? head : "...", end);
}

static void do_close(int x, int reset)
{
	struct linger l = {1, 0};

	if (reset)
		setsockopt(fds[x], SOL_SOCKET, SO_LINGER, &l, sizeof(l));
	say(close(fds[x]));
	fds[x] = -1;
}

static void do_text(const char *verb, int x, const char *rest)
{
	unsigned long n = strtoul(rest, NULL, 10);
	int fd = fds[x];

	if (strcmp(verb, "send") == 0)
		do_send(fd, n);
	else if (strcmp(verb, "recv") == 0)
		do_recv(fd, n);
	else if (strcmp(verb, "end") == 0)
		do_recv(fd, ~0ul);
	else if (strcmp(verb, "text") == 0)
		say(send(fd, rest, strlen(rest), MSG_NOSIGNAL));
	else if (strcmp(verb, "fin") == 0)
		say(shutdown(fd, SHUT_WR));
	else if (strcmp(verb, "accept") == 0)
		say(fds[(int)rest[0] & 127] = accept(fd, NULL, NULL));
	else if (strcmp(verb, "close") == 0)
		do_close(x, 0);
	else if (strcmp(verb, "rst") == 0)
		do_close(x, 1);
	else
		snprintf(answer, sizeof(answer), "unknown command %s", verb);
}

static void serve(int ctl)
{
	char cmd[256];
	ssize_t n;

	while ((n = recv(ctl, cmd, sizeof(cmd) - 1, 0)) > 0) {
		char verb[16] = "", host[64] = "", x = 0;
		unsigned port = 0;
		int at = 0;

		cmd[n] = 0;
		sscanf(cmd, "%15s %c %n", verb, &x, &at);
		x &= 127;
		if (strcmp(verb, "connect") == 0 || strcmp(verb, "listen") == 0) {
			sscanf(cmd + at, "%63s %u", host, &port);
			do_address(verb, x, host, port);
		} else {
			do_text(verb, x, cmd + (at ? at : n));
		}
		if (send(ctl, answer, strlen(answer), MSG_NOSIGNAL) < 0)
			break;
	}
	for (int i = 0; i < LETTERS; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
		fds[i] = -1;
	}
	close(ctl);
}

int main(int argc, char **argv)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (argc != 2)
		return 2;
	for (int i = 0; i < LETTERS; i++)
		fds[i] = -1;
	signal(SIGPIPE, SIG_IGN);
	snprintf(un.sun_path, sizeof(un.sun_path), "%s", argv[1]);
	if (bind(fd, (struct sockaddr *)&un, sizeof(un)) < 0 || listen(fd, 4) < 0) {
		perror(argv[1]);
		return 1;
	}
	puts("ready");
	fflush(stdout);
	for (;;) {
		int ctl = accept(fd, NULL, NULL);

		if (ctl < 0)
			return 1;
		serve(ctl);
	}
}
