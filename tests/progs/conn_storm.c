// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/progs/lib/util.c tests/progs/lib/hist.c */
/*
 * Opens --rate connections per second to an echo server, --count in all; each sends its first bytes
 * at once when the handshake is done, expects them back, and closes.
 *
 * Every second connection lets the kernel hold the last ACK of the handshake, so that it arrives on
 * the same segment as the data (TCP_QUICKACK off); the others send ACK and data as two segments of
 * one burst.  Counts every connection that was refused, broke, timed out or got other bytes.  One
 * JSON line; exit code 0 only if none did.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/progs/lib/util.h"

#define SIZE_MAX_BYTES 16384u

enum state { UNUSED, CONNECTING, WAITING, OVER };

struct conn {
	int fd;
	enum state state;
	uint32_t got;
	uint64_t start_ns;
};

static struct {
	const char *host;
	uint16_t port;
	unsigned rate;
	unsigned count;
	unsigned size;
	unsigned timeout_s; /* of one connection */
} opt = {"10.99.0.1", 7000, 1000, 5000, 64, 5};

static struct conn *conns;
static int ep;
static unsigned begun, over;
static unsigned refused, broken, wrong, timed_out, good;
static struct toe_hist hist;
static char first_problem[120];

static void finish(struct conn *c, unsigned *counter, const char *text, int err)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	c->state = OVER;
	over++;
	(*counter)++;
	if (counter != &good && !first_problem[0])
		snprintf(first_problem, sizeof(first_problem), "connection %u: %s%s%s",
			 (unsigned)(c - conns), text, err ? ": " : "", err ? strerror(err) : "");
}

static void begin(struct conn *c)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};

	c->start_ns = now_ns();
	c->state = CONNECTING;
	c->fd = connect_start(opt.host, opt.port, begun & 1);
	if (c->fd < 0) {
		int err = -c->fd;

		c->fd = -1;
		finish(c, &refused, "connect", err);
		return;
	}
	if (epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev) < 0)
		die("epoll_ctl: %m");
}

static void send_first(struct conn *c)
{
	uint8_t buf[SIZE_MAX_BYTES];
	int rc = connect_result(c->fd);

	if (rc < 0) {
		finish(c, &refused, "connect", -rc);
		return;
	}
	pattern_fill(buf, opt.size, 0, (uint64_t)(c - conns));
	if (send(c->fd, buf, opt.size, MSG_NOSIGNAL) != (ssize_t)opt.size) {
		finish(c, &broken, "send", errno);
		return;
	}
	c->state = WAITING;
}

static void read_echo(struct conn *c)
{
	while (c->state == WAITING) {
		uint8_t buf[SIZE_MAX_BYTES];
		ssize_t n = recv(c->fd, buf, sizeof(buf), 0);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0) {
			finish(c, &broken, n ? "recv" : "closed before the answer", n ? errno : 0);
			return;
		}
		if (c->got + (uint32_t)n > opt.size ||
		    pattern_check(buf, (size_t)n, c->got, (uint64_t)(c - conns)) != (size_t)n) {
			finish(c, &wrong, "wrong bytes", 0);
			return;
		}
		c->got += (uint32_t)n;
		if (c->got == opt.size) {
			toe_hist_add(&hist, now_ns() - c->start_ns);
			finish(c, &good, "", 0);
		}
	}
}

/* Connections begin in order, so the oldest that is not over bounds the search. */
static void expire(uint64_t now)
{
	static unsigned oldest;

	while (oldest < begun && conns[oldest].state == OVER)
		oldest++;
	for (unsigned i = oldest; i < begun; i++) {
		struct conn *c = &conns[i];

		if (now - c->start_ns < (uint64_t)opt.timeout_s * 1000000000u)
			break;
		if (c->state != OVER)
			finish(c, &timed_out,
			       c->state == CONNECTING ? "no handshake in time"
						      : "no answer in time",
			       0);
	}
}

static void run(void)
{
	uint64_t start = now_ns();
	struct epoll_event ev[256];

	while (over < opt.count) {
		uint64_t now = now_ns();
		int n;

		while (begun < opt.count &&
		       now >= start + (uint64_t)begun * 1000000000u / opt.rate) {
			begin(&conns[begun]);
			begun++;
		}
		n = epoll_wait(ep, ev, 256, begun < opt.count ? 1 : 50);
		for (int i = 0; i < n; i++) {
			struct conn *c = ev[i].data.ptr;

			if (c->state == CONNECTING)
				send_first(c);
			if (c->state == WAITING && (ev[i].events & ~(uint32_t)EPOLLOUT))
				read_echo(c);
		}
		expire(now_ns());
	}
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {{"host", 1, NULL, 'h'}, {"port", 1, NULL, 'p'},
					      {"rate", 1, NULL, 'r'}, {"count", 1, NULL, 'n'},
					      {"size", 1, NULL, 'b'}, {"timeout", 1, NULL, 'T'},
					      {NULL, 0, NULL, 0}};
	uint64_t start;
	int o;

	while ((o = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (o) {
		case 'h':
			opt.host = optarg;
			break;
		case 'p':
			opt.port = (uint16_t)parse_u64(optarg, "--port");
			break;
		case 'r':
			opt.rate = (unsigned)parse_u64(optarg, "--rate");
			break;
		case 'n':
			opt.count = (unsigned)parse_u64(optarg, "--count");
			break;
		case 'b':
			opt.size = (unsigned)parse_u64(optarg, "--size");
			break;
		case 'T':
			opt.timeout_s = (unsigned)parse_u64(optarg, "--timeout");
			break;
		default:
			die("usage: conn_storm [--host A] [--port N] [--rate PER_S] [--count N]\n"
			    "  [--size BYTES] [--timeout S]");
		}
	}
	if (!opt.rate || !opt.count || !opt.size || opt.size > SIZE_MAX_BYTES)
		die("--rate, --count and --size (to %u) must not be 0", SIZE_MAX_BYTES);
	want_fds(opt.rate * opt.timeout_s < opt.count ? opt.rate * opt.timeout_s : opt.count);
	conns = calloc(opt.count, sizeof(*conns));
	ep = epoll_create1(EPOLL_CLOEXEC);
	if (!conns || ep < 0)
		die("out of memory or descriptors");
	toe_hist_reset(&hist);
	start = now_ns();
	run();
	printf("{\"ok\":%s,\"connections\":%u,\"answered\":%u,\"refused\":%u,\"broken\":%u,"
	       "\"wrong\":%u,\"timed_out\":%u,\"seconds\":%.3f",
	       good == opt.count ? "true" : "false", opt.count, good, refused, broken, wrong,
	       timed_out, (double)(now_ns() - start) / 1e9);
	print_hist_us("connect_and_echo_us", &hist);
	printf(",\"error\":\"%s\"}\n", first_problem);
	return good == opt.count ? 0 : 1;
}
