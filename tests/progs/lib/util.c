// SPDX-License-Identifier: BSD-3-Clause
/* Helpers of the test programs: time, numbers, patterns, sockets. */
#include "tests/progs/lib/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

void die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(2);
}

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t parse_u64(const char *text, const char *what)
{
	char *end;
	uint64_t v;

	errno = 0;
	v = strtoull(text, &end, 10);
	switch (*end) {
	case 'G':
		v <<= 10; /* fall through */
	case 'M':
		v <<= 10; /* fall through */
	case 'K':
		v <<= 10;
		end++;
		break;
	default:
		break;
	}
	if (errno || end == text || *end)
		die("%s: not a number: %s", what, text);
	return v;
}

void pattern_fill(uint8_t *buf, size_t len, uint64_t pos, uint64_t seed)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = pattern_byte(pos + i, seed);
}

size_t pattern_check(const uint8_t *buf, size_t len, uint64_t pos, uint64_t seed)
{
	for (size_t i = 0; i < len; i++) {
		if (buf[i] != pattern_byte(pos + i, seed))
			return i;
	}
	return len;
}

uint64_t rng_next(uint64_t *state)
{
	uint64_t x = *state;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	*state = x;
	return x * 0x2545f4914f6cdd1dull;
}

socklen_t address(const char *host, uint16_t port, struct sockaddr_storage *ss)
{
	const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM};
	struct addrinfo *a;
	char service[8];
	socklen_t len;

	snprintf(service, sizeof(service), "%u", port);
	if (getaddrinfo(host, service, &hints, &a) != 0)
		die("not an address: %s", host);
	len = a->ai_addrlen;
	memcpy(ss, a->ai_addr, len);
	freeaddrinfo(a);
	return len;
}

int connect_start(const char *host, uint16_t port, bool piggyback)
{
	struct sockaddr_storage sa;
	socklen_t sa_len = address(host, port, &sa);
	int off = 0, on = 1;
	int fd;

	fd = socket(sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (piggyback)
		setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &off, sizeof(off));
	if (connect(fd, (struct sockaddr *)&sa, sa_len) < 0 && errno != EINPROGRESS) {
		int rc = -errno;

		close(fd);
		return rc;
	}
	return fd;
}

int connect_result(int fd)
{
	int err = 0;
	socklen_t len = sizeof(err);

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
		return -errno;
	return -err;
}

void want_fds(unsigned need)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) < 0)
		die("getrlimit: %m");
	rl.rlim_cur = rl.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &rl) < 0 || rl.rlim_cur < need)
		die("needs %u file descriptors, the limit is %lu", need,
		    (unsigned long)rl.rlim_max);
}

void print_hist_us(const char *name, const struct toe_hist *h)
{
	printf(",\"%s\":{\"p50\":%.1f,\"p99\":%.1f,\"max\":%.1f}", name,
	       (double)toe_hist_quantile(h, 500) / 1e3, (double)toe_hist_quantile(h, 990) / 1e3,
	       (double)h->max / 1e3);
}
