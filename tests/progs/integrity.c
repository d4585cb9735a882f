// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/progs/lib/util.c tests/progs/lib/sha256.c tests/progs/lib/hist.c */
/*
 * Many connections at once whose two streams are hashed at both ends.  --listen is one end,
 * --connect ADDRESS the other; either runs plain or under `toe run`.
 *
 * What connection N does follows from the seed and N alone, so that both ends know it: bytes of
 * each direction (0 to --max, evenly spread logarithms), who half-closes first (either, as soon as
 * it has written all; the server only after the client's end; the client only after the server's
 * end), sizes of its reads and writes, whether it stops reading for a while.  The client's stream
 * begins with N.
 *
 * --out: a line per connection with lengths and SHA-256 of what this end sent and received,
 * client's stream first; the same file at both ends when everything arrived.  Prints "ready"
 * (--listen), a FAILED line for each connection that broke or was not over in --deadline seconds,
 * at last one JSON line.  Then it stays, failed sockets open, until SIGTERM, so that one can look.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/progs/lib/sha256.h"
#include "tests/progs/lib/util.h"

#define HEADER_BYTES 4u
#define CHUNK        65536u
#define PAUSE_NS     400000000ull
#define TICK_MS      20
#define NS           1000000000ull

enum direction { UP, DOWN, DIRECTIONS }; /* the client's stream, the server's */
enum order { ANY, CLIENT_FIRST, SERVER_FIRST };

struct plan {
	uint64_t bytes[DIRECTIONS];
	enum order order;
	uint32_t write_max, read_max;
	bool pause; /* no reading for PAUSE_NS when half has arrived */
};

struct conn {
	struct conn *next;
	int fd; /* -1: not in use */
	uint32_t number;
	bool known; /* number and plan are */
	bool connecting, fin_sent, eof, paused, failed;
	uint32_t events;
	uint64_t begin_ns, resume_ns;
	struct plan plan;
	uint64_t sent, got;
	uint8_t header[HEADER_BYTES];
	struct sha256 tx, rx;
};

static struct {
	const char *host; /* NULL: listen */
	uint16_t port;
	unsigned count, parallel;
	uint64_t max, seed;
	unsigned deadline_s;
	const char *out;
} opt = {NULL, 7000, 200, 50, 1 << 20, 1, 60, NULL};

static int ep, lfd = -1;
static struct conn *active; /* newest first */
static unsigned begun, good, failed;
static uint64_t bytes;
static FILE *out;

/* ---- what connection N does ---- */

static uint64_t stream_seed(uint32_t number, enum direction d)
{
	return opt.seed * 1000003 + number * 2ull + d;
}

/* 0 in one of sixteen, else with evenly spread logarithms. */
static uint64_t draw_bytes(uint64_t *rng)
{
	uint64_t top;
	unsigned bits = 0;

	while (opt.max >> bits > 1)
		bits++;
	if (rng_next(rng) % 16 == 0)
		return 0;
	top = 2ull << rng_next(rng) % (bits + 1);
	return rng_next(rng) % (top < opt.max ? top : opt.max) + 1;
}

static void plan_make(struct conn *c, uint32_t number)
{
	uint64_t rng = (opt.seed << 32 | number) * 0x9e3779b97f4a7c15ull + 1;

	for (unsigned i = 0; i < 8; i++)
		rng_next(&rng);
	c->number = number;
	c->known = true;
	c->plan.bytes[UP] = HEADER_BYTES + draw_bytes(&rng);
	c->plan.bytes[DOWN] = draw_bytes(&rng);
	c->plan.order = rng_next(&rng) % 3;
	c->plan.write_max = 1u << rng_next(&rng) % 17;
	c->plan.read_max = 1u << rng_next(&rng) % 17;
	c->plan.pause = rng_next(&rng) % 8 == 0;
	/* a byte at a time is for short streams */
	for (unsigned d = 0; d < DIRECTIONS; d++) {
		while (c->plan.write_max < c->plan.bytes[d] / 1024)
			c->plan.write_max *= 2;
		while (c->plan.read_max < c->plan.bytes[d] / 1024)
			c->plan.read_max *= 2;
	}
	for (unsigned i = 0; i < HEADER_BYTES; i++)
		c->header[i] = (uint8_t)(number >> 8 * i);
}

static enum direction sends(void)
{
	return opt.host ? UP : DOWN;
}

static uint64_t to_send(const struct conn *c)
{
	return c->plan.bytes[sends()];
}

static uint64_t to_get(const struct conn *c)
{
	return c->plan.bytes[!sends()];
}

/* Up to where it may write at this moment. */
static uint64_t send_limit(const struct conn *c)
{
	if (!c->known || c->connecting)
		return 0;
	if (!c->eof && !opt.host && c->plan.order == CLIENT_FIRST)
		return 0;
	if (!c->eof && opt.host && c->plan.order == SERVER_FIRST)
		return HEADER_BYTES;
	return to_send(c);
}

/* ---- a connection's life ---- */

static struct conn *conn_add(int fd)
{
	struct conn *c = calloc(1, sizeof(*c));
	struct epoll_event ev = {.data.ptr = c};

	if (!c)
		die("out of memory");
	c->fd = fd;
	c->begin_ns = now_ns();
	sha256_init(&c->tx);
	sha256_init(&c->rx);
	c->next = active;
	active = c;
	if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) < 0)
		die("epoll_ctl: %m");
	return c;
}

/* The socket stays as it is. */
static void conn_fail(struct conn *c, const char *why, int err)
{
	struct sockaddr_in a[2] = {0};
	socklen_t len = sizeof(a[0]);
	char text[2][INET_ADDRSTRLEN];

	getsockname(c->fd, (struct sockaddr *)&a[0], &len);
	len = sizeof(a[1]);
	getpeername(c->fd, (struct sockaddr *)&a[1], &len);
	for (unsigned i = 0; i < 2; i++)
		inet_ntop(AF_INET, &a[i].sin_addr, text[i], sizeof(text[i]));
	printf("FAILED: connection %u %s:%u %s:%u: %s%s%s; sent %llu of %llu%s, received %llu of "
	       "%llu%s, order %u, after %.1f s\n",
	       c->number, text[0], ntohs(a[0].sin_port), text[1], ntohs(a[1].sin_port), why,
	       err ? ": " : "", err ? strerror(err) : "", (unsigned long long)c->sent,
	       (unsigned long long)to_send(c), c->fin_sent ? " and FIN" : "",
	       (unsigned long long)c->got, (unsigned long long)to_get(c), c->eof ? " and FIN" : "",
	       (unsigned)c->plan.order, (double)(now_ns() - c->begin_ns) / 1e9);
	fflush(stdout);
	epoll_ctl(ep, EPOLL_CTL_DEL, c->fd, NULL);
	c->failed = true;
	failed++;
}

static void conn_over(struct conn *c)
{
	char tx[SHA256_HEX_SIZE], rx[SHA256_HEX_SIZE];
	bool client = opt.host != NULL;

	sha256_hex(&c->tx, tx);
	sha256_hex(&c->rx, rx);
	if (out)
		fprintf(out, "%u %llu %s %llu %s\n", c->number,
			(unsigned long long)(client ? c->sent : c->got), client ? tx : rx,
			(unsigned long long)(client ? c->got : c->sent), client ? rx : tx);
	bytes += c->sent + c->got;
	close(c->fd);
	c->fd = -1;
	good++;
}

/* Number and plan come out of the first bytes. */
static void take_header(struct conn *c, const uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len && c->got + i < HEADER_BYTES; i++)
		c->header[c->got + i] = p[i];
	if (c->got + len >= HEADER_BYTES && !c->known)
		plan_make(c, (uint32_t)c->header[0] | (uint32_t)c->header[1] << 8 |
				     (uint32_t)c->header[2] << 16 | (uint32_t)c->header[3] << 24);
}

/* What is wrong with the bytes from c->got on, NULL: nothing. */
static const char *check(struct conn *c, const uint8_t *p, size_t len)
{
	static char text[64];
	size_t skip = 0, same;

	if (!opt.host) {
		take_header(c, p, len);
		skip = c->got < HEADER_BYTES ? HEADER_BYTES - (size_t)c->got : 0;
		skip = skip < len ? skip : len;
	}
	if (!c->known)
		return NULL;
	if (c->number >= opt.count)
		return "there is no connection of that number";
	if (c->got + len > to_get(c))
		return "more came than was sent";
	same = pattern_check(p + skip, len - skip, c->got + skip, stream_seed(c->number, !sends()));
	if (same == len - skip)
		return NULL;
	snprintf(text, sizeof(text), "wrong byte at %llu",
		 (unsigned long long)c->got + skip + same);
	return text;
}

static void conn_read(struct conn *c)
{
	static uint8_t buf[CHUNK];
	ssize_t n = recv(c->fd, buf, c->known ? c->plan.read_max : HEADER_BYTES, 0);
	const char *why;

	if (n < 0) {
		if (errno != EAGAIN && errno != EINTR)
			conn_fail(c, "recv", errno);
		return;
	}
	if (n == 0) {
		c->eof = true;
		if (!c->known || c->got != to_get(c))
			conn_fail(c, "end of file too early", 0);
		return;
	}
	why = check(c, buf, (size_t)n);
	sha256_add(&c->rx, buf, (size_t)n);
	c->got += (uint64_t)n;
	if (why)
		conn_fail(c, why, 0);
	if (c->known && c->plan.pause && !c->resume_ns && c->got >= to_get(c) / 2) {
		c->paused = true;
		c->resume_ns = now_ns() + PAUSE_NS;
	}
}

static void conn_write(struct conn *c)
{
	static uint8_t buf[CHUNK];
	uint64_t left = send_limit(c) - c->sent;
	size_t len = left < c->plan.write_max ? (size_t)left : c->plan.write_max;
	ssize_t n = 0;

	if (len > 0) {
		pattern_fill(buf, len, c->sent, stream_seed(c->number, sends()));
		for (size_t i = 0; opt.host && i < len && c->sent + i < HEADER_BYTES; i++)
			buf[i] = c->header[c->sent + i];
		n = send(c->fd, buf, len, MSG_NOSIGNAL);
	}
	if (n < 0) {
		if (errno != EAGAIN && errno != EINTR)
			conn_fail(c, "send", errno);
		return;
	}
	sha256_add(&c->tx, buf, (size_t)n);
	c->sent += (uint64_t)n;
	if (c->sent == to_send(c) && c->sent == send_limit(c) && !c->fin_sent) {
		c->fin_sent = true;
		if (shutdown(c->fd, SHUT_WR) < 0)
			conn_fail(c, "shutdown", errno);
	}
}

static bool wants_to_write(const struct conn *c)
{
	return c->connecting || (c->known && !c->fin_sent && send_limit(c) == to_send(c)) ||
	       c->sent < send_limit(c);
}

/* Asks for the events that can make progress. */
static void conn_rearm(struct conn *c)
{
	struct epoll_event ev = {.data.ptr = c};

	if (!c->eof && !c->paused)
		ev.events |= EPOLLIN;
	if (wants_to_write(c))
		ev.events |= EPOLLOUT;
	if (ev.events != c->events && epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &ev) < 0)
		die("epoll_ctl: %m");
	c->events = ev.events;
}

static void conn_event(struct conn *c, uint32_t events)
{
	if (c->failed)
		return;
	if (c->connecting) {
		int rc = connect_result(c->fd);

		if (rc < 0) {
			conn_fail(c, "connect", -rc);
			return;
		}
		c->connecting = !(events & EPOLLOUT);
	}
	if (!c->eof && !c->paused && (events & ~(uint32_t)EPOLLOUT))
		conn_read(c);
	if (!c->failed && !c->connecting && wants_to_write(c))
		conn_write(c);
	if (c->failed)
		return;
	if (c->eof && c->fin_sent)
		conn_over(c);
	else
		conn_rearm(c);
}

/* ---- all of them ---- */

static void connect_more(void)
{
	while (begun < opt.count && begun - good - failed < opt.parallel) {
		int fd = connect_start(opt.host, opt.port, begun & 1);
		struct conn *c;

		if (fd < 0)
			die("connection %u: %s", begun, strerror(-fd));
		c = conn_add(fd);
		plan_make(c, begun++);
		c->connecting = true;
		conn_rearm(c);
	}
}

static void accept_all(void)
{
	int fd;

	while ((fd = accept4(lfd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		begun++;
		conn_rearm(conn_add(fd));
	}
	if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
		die("accept: %m");
}

static void listen_on(void)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(opt.port)};
	struct epoll_event ev = {.events = EPOLLIN};
	int on = 1;

	lfd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (lfd < 0 || setsockopt(lfd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    bind(lfd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(lfd, 1024) < 0 ||
	    epoll_ctl(ep, EPOLL_CTL_ADD, lfd, &ev) < 0)
		die("port %u: %m", opt.port);
	printf("ready\n");
	fflush(stdout);
}

/* Resumes and gives up what is due, forgets what is over. */
static void tick(void)
{
	uint64_t now = now_ns();

	for (struct conn **at = &active; *at;) {
		struct conn *c = *at;

		if (c->fd < 0) {
			*at = c->next;
			free(c);
			continue;
		}
		at = &c->next;
		if (c->failed)
			continue;
		if (c->paused && now >= c->resume_ns) {
			c->paused = false;
			conn_rearm(c);
		}
		if (now - c->begin_ns > opt.deadline_s * NS)
			conn_fail(c, "not over in time", 0);
	}
}

static void run(void)
{
	struct epoll_event ev[64];
	uint64_t ticked = 0;

	while (good + failed < opt.count) {
		int n;

		if (opt.host)
			connect_more();
		n = epoll_wait(ep, ev, 64, TICK_MS);
		for (int i = 0; i < n; i++) {
			if (ev[i].data.ptr)
				conn_event(ev[i].data.ptr, ev[i].events);
			else
				accept_all();
		}
		if (now_ns() - ticked > TICK_MS * 1000000ull) {
			tick();
			ticked = now_ns();
		}
	}
}

static void parse_args(int argc, char **argv)
{
	static const struct option longs[] = {{"listen", 0, NULL, 'l'},   {"connect", 1, NULL, 'c'},
					      {"port", 1, NULL, 'p'},     {"count", 1, NULL, 'n'},
					      {"parallel", 1, NULL, 'P'}, {"max", 1, NULL, 'm'},
					      {"seed", 1, NULL, 's'},     {"out", 1, NULL, 'o'},
					      {"deadline", 1, NULL, 'd'}, {NULL, 0, NULL, 0}};
	int o;

	while ((o = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (o) {
		case 'l':
			break;
		case 'c':
			opt.host = optarg;
			break;
		case 'p':
			opt.port = (uint16_t)parse_u64(optarg, "--port");
			break;
		case 'n':
			opt.count = (unsigned)parse_u64(optarg, "--count");
			break;
		case 'P':
			opt.parallel = (unsigned)parse_u64(optarg, "--parallel");
			break;
		case 'm':
			opt.max = parse_u64(optarg, "--max");
			break;
		case 's':
			opt.seed = parse_u64(optarg, "--seed");
			break;
		case 'o':
			opt.out = optarg;
			break;
		case 'd':
			opt.deadline_s = (unsigned)parse_u64(optarg, "--deadline");
			break;
		default:
			die("usage: integrity --listen | --connect A [--port N] [--count N]\n"
			    "  [--parallel N] [--max BYTES] [--seed N] [--deadline S] [--out F]");
		}
	}
	if (!opt.count || !opt.parallel || !opt.max)
		die("--count, --parallel and --max must not be 0");
	out = opt.out ? fopen(opt.out, "w") : NULL;
	if (opt.out && !out)
		die("%s: %m", opt.out);
}

int main(int argc, char **argv)
{
	uint64_t start;
	double s;

	parse_args(argc, argv);
	sha256_self_test();
	want_fds(opt.count + 64);
	ep = epoll_create1(EPOLL_CLOEXEC);
	if (ep < 0)
		die("epoll: %m");
	if (!opt.host)
		listen_on();
	start = now_ns();
	run();
	s = (double)(now_ns() - start) / 1e9;
	if (out)
		fclose(out);
	printf("{\"ok\":%s,\"connections\":%u,\"good\":%u,\"failed\":%u,\"bytes\":%llu,"
	       "\"seconds\":%.1f}\n",
	       failed ? "false" : "true", opt.count, good, failed, (unsigned long long)bytes, s);
	fflush(stdout);
	pause();
	return 1; /* SIGTERM has its way */
}
