// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/progs/lib/util.c tests/progs/lib/hist.c */
/*
 * The application of a wire script that runs against the real engine: obeys calls
 * (tests/wire/agent.h) that come over a UNIX socket, one script after the other, and knows nothing
 * of the engine.  When a script hangs up, its sockets are closed with RST.  Prints "ready"; ends at
 * SIGTERM.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/sockios.h>

#include "tests/progs/lib/util.h"
#include "tests/wire/agent.h"

#define CHUNK   65536u
#define WAIT_MS 1000

static struct {
	int listener;
	int waiting; /* accepted to look at, not yet asked for; -1: none */
	int fd[AGENT_CONNS];
	int error[AGENT_CONNS];   /* SO_ERROR is told once only */
	int old[AGENT_CONNS * 4]; /* of a script's earlier connections that it has not closed */
	unsigned old_n;
} a;

static int set(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value)) < 0 ? -errno : 0;
}

union ends {
	struct sockaddr any;
	struct sockaddr_in four;
	struct sockaddr_in6 six;
};

/* to: NULL: any address; the length. */
static socklen_t end_make(union ends *e, bool six, const uint8_t *to, uint16_t port)
{
	memset(e, 0, sizeof(*e));
	if (six) {
		e->six.sin6_family = AF_INET6;
		e->six.sin6_port = htons(port);
		if (to != NULL)
			memcpy(&e->six.sin6_addr, to, sizeof(e->six.sin6_addr));
		return sizeof(e->six);
	}
	e->four.sin_family = AF_INET;
	e->four.sin_port = htons(port);
	if (to != NULL)
		memcpy(&e->four.sin_addr, to, sizeof(e->four.sin_addr));
	return sizeof(e->four);
}

static int stream_socket(bool six, uint16_t port)
{
	union ends e;
	socklen_t len = end_make(&e, six, NULL, port);
	int fd = socket(six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0 || set(fd, SOL_SOCKET, SO_REUSEADDR, 1) < 0 || bind(fd, &e.any, len) < 0)
		return -errno;
	return fd;
}

/* The script goes on with its next connection. */
static void keep_old(uint32_t conn)
{
	if (a.fd[conn] >= 0 && a.old_n < sizeof(a.old) / sizeof(a.old[0]))
		a.old[a.old_n++] = a.fd[conn];
	a.fd[conn] = -1;
	a.error[conn] = 0;
}

static int do_listen(const struct agent_call *c)
{
	a.listener = stream_socket(c->six, (uint16_t)c->a);
	if (a.listener < 0)
		return a.listener;
	return listen(a.listener, (int)c->b) < 0 ? -errno : 0;
}

static int do_accept(const struct agent_call *c, uint32_t *value)
{
	union ends e = {0};
	socklen_t len = sizeof(e);

	*value = 0;
	if (a.waiting < 0)
		a.waiting = accept4(a.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (a.waiting < 0)
		return errno == EAGAIN ? 0 : -errno;
	/* one that was reset meanwhile has no peer any more */
	if (getpeername(a.waiting, &e.any, &len) < 0)
		*value = 1;
	else
		*value = ntohs(e.any.sa_family == AF_INET6 ? e.six.sin6_port : e.four.sin_port);
	if (c->a == 0) {
		keep_old(c->conn);
		a.fd[c->conn] = a.waiting;
		a.waiting = -1;
	}
	return 0;
}

static int do_connect(const struct agent_call *c)
{
	union ends e;
	socklen_t len = end_make(&e, c->six, c->to, (uint16_t)c->b);
	int fd = stream_socket(c->six, (uint16_t)c->a);

	if (fd < 0)
		return fd;
	keep_old(c->conn);
	a.fd[c->conn] = fd;
	if (connect(fd, &e.any, len) < 0 && errno != EINPROGRESS)
		return -errno;
	return 0;
}

static int do_write(int fd, const struct agent_call *c)
{
	static uint8_t buf[CHUNK];
	uint32_t n = c->a < CHUNK ? c->a : CHUNK;
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	ssize_t sent;

	for (uint32_t i = 0; i < n; i++)
		buf[i] = wire_byte(c->b + i, false);
	sent = send(fd, buf, n, MSG_NOSIGNAL);
	if (sent < 0 && errno == EAGAIN && poll(&p, 1, WAIT_MS) == 1) /* not connected yet */
		sent = send(fd, buf, n, MSG_NOSIGNAL);
	if (sent < 0)
		return -errno;
	return (uint32_t)sent == c->a ? 0 : -ENOBUFS;
}

static int do_read(int fd, const struct agent_call *c, uint32_t *value)
{
	static uint8_t buf[CHUNK];
	uint32_t got = 0;

	while (got < c->a) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		ssize_t n = recv(fd, buf, c->a - got < CHUNK ? c->a - got : CHUNK, 0);

		if (n < 0 && errno == EAGAIN && poll(&p, 1, WAIT_MS) == 1)
			continue;
		if (n <= 0)
			break;
		for (uint32_t i = 0; i < (uint32_t)n; i++, got++)
			if (buf[i] != wire_byte(c->b + got, true))
				goto out;
	}
out:
	*value = c->b + got;
	return 0;
}

static int do_ioctl(int fd, unsigned long request, uint32_t *value)
{
	int n = 0;

	if (ioctl(fd, request, &n) < 0)
		return -errno;
	*value = (uint32_t)n;
	return 0;
}

static int do_poll(int fd, short event, uint32_t *value)
{
	struct pollfd p = {.fd = fd, .events = event};

	*value = poll(&p, 1, 0) == 1 && (p.revents & event);
	return 0;
}

static int do_error(const struct agent_call *c, uint32_t *value)
{
	int err = 0;
	socklen_t len = sizeof(err);

	if (a.error[c->conn] == 0 &&
	    getsockopt(a.fd[c->conn], SOL_SOCKET, SO_ERROR, &err, &len) == 0)
		a.error[c->conn] = err;
	*value = (uint32_t)a.error[c->conn];
	return 0;
}

static int do_keepalive(int fd, const struct agent_call *c)
{
	int rc = set(fd, IPPROTO_TCP, TCP_KEEPIDLE, (int)c->a);

	rc = rc ? rc : set(fd, IPPROTO_TCP, TCP_KEEPINTVL, (int)c->b);
	rc = rc ? rc : set(fd, IPPROTO_TCP, TCP_KEEPCNT, (int)c->c);
	return rc ? rc : set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
}

static int do_linger0(int fd)
{
	struct linger l = {1, 0};

	return setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l)) < 0 ? -errno : 0;
}

static int do_close(const struct agent_call *c)
{
	int rc = close(a.fd[c->conn]) < 0 ? -errno : 0;

	a.fd[c->conn] = -1;
	return rc;
}

static int obey(const struct agent_call *c, uint32_t *value)
{
	int fd;

	if (c->conn >= AGENT_CONNS)
		return -EINVAL;
	fd = a.fd[c->conn];
	switch (c->op) {
	case AGENT_LISTEN:
		return do_listen(c);
	case AGENT_ACCEPT:
		return do_accept(c, value);
	case AGENT_CONNECT:
		return do_connect(c);
	case AGENT_WRITE:
		return do_write(fd, c);
	case AGENT_READ:
		return do_read(fd, c, value);
	case AGENT_READABLE:
		return do_ioctl(fd, FIONREAD, value);
	case AGENT_UNACKED:
		return do_ioctl(fd, SIOCOUTQ, value);
	case AGENT_EOF:
		return do_poll(fd, POLLRDHUP, value);
	case AGENT_ERROR:
		return do_error(c, value);
	case AGENT_SHUTDOWN:
		return shutdown(fd, c->a ? SHUT_RD : SHUT_WR) < 0 ? -errno : 0;
	case AGENT_NODELAY:
		return set(fd, IPPROTO_TCP, TCP_NODELAY, (int)c->a);
	case AGENT_CORK:
		return set(fd, IPPROTO_TCP, TCP_CORK, (int)c->a);
	case AGENT_LINGER0:
		return do_linger0(fd);
	case AGENT_KEEPALIVE:
		return do_keepalive(fd, c);
	case AGENT_USER_TIMEOUT:
		return set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)c->a);
	case AGENT_TOS:
		return c->six ? set(fd, IPPROTO_IPV6, IPV6_TCLASS, (int)c->a)
			      : set(fd, IPPROTO_IP, IP_TOS, (int)c->a);
	case AGENT_TTL:
		return c->six ? set(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, (int)c->a)
			      : set(fd, IPPROTO_IP, IP_TTL, (int)c->a);
	case AGENT_CLOSE:
		return do_close(c);
	default:
		return -EINVAL;
	}
}

static void drop(int *fd)
{
	if (*fd >= 0) {
		do_linger0(*fd);
		close(*fd);
	}
	*fd = -1;
}

static void forget(void)
{
	drop(&a.waiting);
	drop(&a.listener);
	while (a.old_n > 0)
		drop(&a.old[--a.old_n]);
	for (uint32_t i = 0; i < AGENT_CONNS; i++) {
		drop(&a.fd[i]);
		a.error[i] = 0;
	}
}

static void serve(int client)
{
	struct agent_call c;

	while (recv(client, &c, sizeof(c), 0) == sizeof(c)) {
		struct agent_reply r = {0};

		r.error = -obey(&c, &r.value);
		if (send(client, &r, sizeof(r), MSG_NOSIGNAL) != sizeof(r))
			break;
	}
	close(client);
	forget();
}

int main(int argc, char **argv)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (argc != 2 || strlen(argv[1]) >= sizeof(sa.sun_path))
		die("usage: wire_agent SOCKET");
	memcpy(sa.sun_path, argv[1], strlen(argv[1]) + 1);
	unlink(argv[1]);
	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, 1) < 0)
		die("%s: %m", argv[1]);
	a.listener = a.waiting = -1;
	for (uint32_t i = 0; i < AGENT_CONNS; i++)
		a.fd[i] = -1;
	printf("ready\n");
	fflush(stdout);
	for (;;) {
		int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

		if (client >= 0)
			serve(client);
		else if (errno != EINTR)
			die("accept: %m");
	}
}
