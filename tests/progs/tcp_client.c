// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/progs/lib/util.c tests/progs/lib/hist.c */
/*
 * TCP client of an echo server: sends a pattern (--bytes) or a file (--file), reads the echo at the
 * same time, half-closes, and expects exactly the same bytes and then end of file.
 *
 * --out FILE keeps what came back (for sha256sum); the pattern is compared byte by byte here.
 * --rate limits sending, so that a transfer lasts while something else happens.  --expect reset
 * turns the meaning around: the peer must break the connection.  Prints "connected" on stderr, then
 * one JSON line; exit code 0 only if the expectation was met.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/progs/lib/util.h"

#define CHUNK 65536u
#define SEED  0x746f65u

static struct {
	const char *host;
	uint16_t port;
	uint64_t bytes;
	const char *file;
	const char *out;
	uint64_t rate; /* bytes per second, 0: no limit */
	unsigned timeout_s;
	bool expect_reset;
} opt = {"10.99.0.1", 7000, 1 << 20, NULL, NULL, 0, 60, false};

static int in_fd = -1, out_fd = -1;
static uint64_t sent, got;
static bool eof;
static char why[160];

/* Bytes to send from position sent on; 0 = not now. */
static size_t next_chunk(uint8_t *buf, uint64_t start_ns)
{
	size_t len = opt.bytes - sent < CHUNK ? (size_t)(opt.bytes - sent) : CHUNK;

	if (opt.rate) {
		uint64_t allowed =
			(uint64_t)((double)(now_ns() - start_ns) / 1e9 * (double)opt.rate) + 1;

		if (allowed <= sent)
			return 0;
		if (len > allowed - sent)
			len = (size_t)(allowed - sent);
	}
	if (in_fd >= 0) {
		ssize_t n = pread(in_fd, buf, len, (off_t)sent);

		if (n <= 0)
			die("%s: short read", opt.file);
		return (size_t)n;
	}
	pattern_fill(buf, len, sent, SEED);
	return len;
}

/* false: broken, errno says why */
static bool do_send(int fd, uint64_t start_ns)
{
	static uint8_t buf[CHUNK];
	size_t len = next_chunk(buf, start_ns);
	ssize_t n;

	if (len == 0)
		return true;
	n = send(fd, buf, len, MSG_NOSIGNAL);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	sent += (uint64_t)n;
	if (sent == opt.bytes)
		shutdown(fd, SHUT_WR);
	return true;
}

static bool do_recv(int fd)
{
	static uint8_t buf[CHUNK];
	ssize_t n = recv(fd, buf, sizeof(buf), 0);
	size_t same;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (n == 0) {
		eof = true;
		return true;
	}
	if (out_fd >= 0 && write(out_fd, buf, (size_t)n) != n)
		die("%s: %m", opt.out);
	same = in_fd < 0 ? pattern_check(buf, (size_t)n, got, SEED) : (size_t)n;
	if (same != (size_t)n && !why[0])
		snprintf(why, sizeof(why), "wrong byte at %llu", (unsigned long long)got + same);
	got += (uint64_t)n;
	if (got > sent && !why[0])
		snprintf(why, sizeof(why), "more came back than was sent");
	return true;
}

/* 0 = end of file, else the errno that ended it. */
static int transfer(int fd, uint64_t start_ns)
{
	uint64_t end = start_ns + (uint64_t)opt.timeout_s * 1000000000u;

	while (!eof && !why[0]) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		bool paced = opt.rate && sent < opt.bytes;

		if (now_ns() > end)
			return ETIMEDOUT;
		if (sent < opt.bytes && !opt.rate)
			p.events |= POLLOUT;
		if (poll(&p, 1, paced ? 5 : 100) < 0 && errno != EINTR)
			return errno;
		if ((p.revents & (POLLIN | POLLHUP | POLLERR)) && !do_recv(fd))
			return errno;
		if (sent < opt.bytes && !eof && (paced || (p.revents & POLLOUT)) &&
		    !do_send(fd, start_ns))
			return errno;
	}
	return 0;
}

static int open_connection(void)
{
	int fd = connect_start(opt.host, opt.port, false);
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	int rc;

	if (fd < 0)
		die("connect: %s", strerror(-fd));
	rc = poll(&p, 1, (int)opt.timeout_s * 1000);
	if (rc <= 0)
		die("connect: no answer in %u s", opt.timeout_s);
	rc = connect_result(fd);
	if (rc < 0)
		die("connect: %s", strerror(-rc));
	fprintf(stderr, "connected\n");
	return fd;
}

static void parse_args(int argc, char **argv)
{
	static const struct option longs[] = {
		{"host", 1, NULL, 'h'},    {"port", 1, NULL, 'p'},   {"bytes", 1, NULL, 'n'},
		{"file", 1, NULL, 'f'},    {"out", 1, NULL, 'o'},    {"rate", 1, NULL, 'r'},
		{"timeout", 1, NULL, 'T'}, {"expect", 1, NULL, 'e'}, {NULL, 0, NULL, 0}};
	struct stat st;
	int o;

	while ((o = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (o) {
		case 'h':
			opt.host = optarg;
			break;
		case 'p':
			opt.port = (uint16_t)parse_u64(optarg, "--port");
			break;
		case 'n':
			opt.bytes = parse_u64(optarg, "--bytes");
			break;
		case 'f':
			opt.file = optarg;
			break;
		case 'o':
			opt.out = optarg;
			break;
		case 'r':
			opt.rate = parse_u64(optarg, "--rate");
			break;
		case 'T':
			opt.timeout_s = (unsigned)parse_u64(optarg, "--timeout");
			break;
		case 'e':
			opt.expect_reset = strcmp(optarg, "reset") == 0;
			break;
		default:
			die("usage: tcp_client [--host A] [--port N] [--bytes N | --file F] [--out "
			    "F]\n"
			    "  [--rate BYTES_PER_S] [--timeout S] [--expect reset]");
		}
	}
	if (opt.file) {
		in_fd = open(opt.file, O_RDONLY | O_CLOEXEC);
		if (in_fd < 0 || fstat(in_fd, &st) < 0)
			die("%s: %m", opt.file);
		opt.bytes = (uint64_t)st.st_size;
	}
	if (opt.out) {
		out_fd = open(opt.out, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
		if (out_fd < 0)
			die("%s: %m", opt.out);
	}
	if (opt.bytes == 0)
		die("nothing to send");
}

int main(int argc, char **argv)
{
	uint64_t start;
	double s;
	int fd, err;
	bool ok;

	parse_args(argc, argv);
	fd = open_connection();
	start = now_ns();
	err = transfer(fd, start);
	s = (double)(now_ns() - start) / 1e9;
	if (opt.expect_reset)
		ok = !why[0] &&
		     (err == ECONNRESET || err == EPIPE || (err == 0 && got < opt.bytes));
	else
		ok = !why[0] && err == 0 && sent == opt.bytes && got == opt.bytes;
	if (!why[0] && err)
		snprintf(why, sizeof(why), "%s", strerror(err));
	else if (!why[0] && !ok)
		snprintf(why, sizeof(why), "%s",
			 opt.expect_reset ? "no reset" : "early end of file");
	printf("{\"ok\":%s,\"sent\":%llu,\"received\":%llu,\"eof\":%s,\"seconds\":%.3f,"
	       "\"MB_per_s\":%.1f,\"error\":\"%s\"}\n",
	       ok ? "true" : "false", (unsigned long long)sent, (unsigned long long)got,
	       eof ? "true" : "false", s, s > 0 ? (double)got / 1e6 / s : 0.0, why);
	return ok ? 0 : 1;
}
