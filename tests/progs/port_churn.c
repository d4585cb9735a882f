// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/progs/lib/util.c tests/progs/lib/hist.c */
/*
 * Uses up the local ports: connects to an echo server again and again, each connection closed by
 * this end first, so that it waits in TIME-WAIT.  All of --ports ports must be had, each once and
 * not in ascending order (RFC 6056), before connect() says EADDRNOTAVAIL; when TIME-WAITs end it
 * must work again.  One JSON line; exit code 0 if it was so.
 */
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/progs/lib/util.h"

#define PORTS_MAX 4096u
#define WAIT_MS   5000
#define AGAIN_NS  30000000000ull

static const char *host = "10.99.0.2";
static uint16_t port = 7001;
static unsigned ports = 64;
static uint16_t seen[PORTS_MAX];
static unsigned seen_n;

static void wait_for_event(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};

	if (poll(&p, 1, WAIT_MS) != 1)
		die("connection %u: nothing happens", seen_n);
}

/* One connection, closed by us first; its local port, or -errno. */
static int once(void)
{
	struct sockaddr_in sa = {0};
	socklen_t len = sizeof(sa);
	int fd = connect_start(host, port, false);
	char byte = 'x';
	int rc;

	if (fd < 0)
		return fd;
	wait_for_event(fd, POLLOUT);
	rc = connect_result(fd);
	if (rc == 0 && (send(fd, &byte, 1, MSG_NOSIGNAL) != 1 || shutdown(fd, SHUT_WR) < 0))
		rc = -errno;
	while (rc == 0) {
		wait_for_event(fd, POLLIN);
		rc = (int)recv(fd, &byte, 1, 0);
		if (rc <= 0)
			break;
		rc = 0;
	}
	if (getsockname(fd, (struct sockaddr *)&sa, &len) < 0)
		die("getsockname: %m");
	close(fd);
	return rc < 0 ? -errno : ntohs(sa.sin_port);
}

static bool known(uint16_t p)
{
	for (unsigned i = 0; i < seen_n; i++)
		if (seen[i] == p)
			return true;
	return false;
}

/* Until there is no port left. */
static void use_up(void)
{
	uint64_t start = now_ns();

	for (;;) {
		int rc = once();

		if (rc == -EADDRNOTAVAIL)
			return;
		if (rc < 0)
			die("connection %u: %s", seen_n, strerror(-rc));
		if (known((uint16_t)rc))
			die("port %d was given out again after %.1f s", rc,
			    (double)(now_ns() - start) / 1e9);
		seen[seen_n++] = (uint16_t)rc;
		if (seen_n == PORTS_MAX)
			die("more than %u ports", PORTS_MAX);
	}
}

static unsigned ascending(void)
{
	unsigned n = 0;

	for (unsigned i = 1; i < seen_n; i++)
		n += seen[i] > seen[i - 1];
	return n;
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {{"host", 1, NULL, 'h'},
					      {"port", 1, NULL, 'p'},
					      {"ports", 1, NULL, 'n'},
					      {NULL, 0, NULL, 0}};
	uint64_t start;
	int o, rc;

	while ((o = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (o == 'h')
			host = optarg;
		else if (o == 'p')
			port = (uint16_t)parse_u64(optarg, "--port");
		else if (o == 'n')
			ports = (unsigned)parse_u64(optarg, "--ports");
		else
			die("usage: port_churn [--host A] [--port N] [--ports N]");
	}
	use_up();
	start = now_ns();
	do {
		rc = once();
		if (rc == -EADDRNOTAVAIL)
			usleep(20000);
	} while (rc == -EADDRNOTAVAIL && now_ns() - start < AGAIN_NS);
	printf("{\"ports\":%u,\"of\":%u,\"ascending\":%u,\"again_ms\":%u,\"again\":\"%s\"}\n",
	       seen_n, ports, ascending(), (unsigned)((now_ns() - start) / 1000000),
	       rc < 0 ? strerror(-rc) : "ok");
	return seen_n == ports && ascending() < seen_n * 9 / 10 && rc > 0 ? 0 : 1;
}
