// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/progs/lib/util.c tests/progs/lib/mqtt.c tests/progs/lib/hist.c bench/lib/cpu_watch.c
 * bench/lib/fan_out.c */
/*
 * MQTT 3.1.1 fan-out load, QoS 0: N subscribers of one topic and one publisher in one epoll loop on
 * kernel TCP, cheap enough to measure what serves it.
 *
 * Every PUBLISH carries its number and the time just before it was written; a subscriber checks
 * that numbers follow each other and that the length is right.  With --interval-us one is under way
 * at a time (latency); without, --window of them (saturation).  --raw: no MQTT handshake, PUBLISHes
 * come from whoever accepts (mqtt_floor).  --watch: CPU time of those processes while measuring,
 * from schedstat. One JSON line; exit code 0 only if nothing was lost.
 */
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/lib/cpu_watch.h"
#include "bench/lib/fan_out.h"
#include "tests/progs/lib/mqtt.h"
#include "tests/progs/lib/util.h"

#define READ_BYTES  (256u * 1024u)
#define PARTIAL_MAX 2048u /* largest packet, and what is left of one between reads */
#define PARALLEL    32u   /* handshakes at once */

enum state { IDLE, CONNECTING, WAIT_CONNACK, WAIT_SUBACK, READY };

struct conn {
	int fd;
	enum state state;
	uint32_t next; /* expected number */
	uint32_t used; /* bytes of partial */
	uint8_t *partial;
};

struct stamp {
	uint64_t number, sent_ns;
};

static struct {
	const char *host;
	uint16_t port;
	unsigned subscribers, rounds, warmup, size, window, interval_us, timeout_s;
	bool raw;
} opt = {"10.99.0.1", 1883, 100, 200, 10, 64, 1, 0, 60, false};

static struct conn *conns; /* subscribers, then the publisher */
static uint32_t *copies;   /* received, by number */
static unsigned total, started, ready, published, completed, all_rounds;
static uint64_t begin_ns, end_ns, next_ns, own_ns;
static struct cpu_watch watch;
static int ep;
static uint8_t chunk[READ_BYTES];
static struct toe_hist hist_last, hist_first;

/* CPU time of our own, ns. */
static uint64_t own_cpu(void)
{
	struct rusage ru;

	getrusage(RUSAGE_SELF, &ru);
	return (uint64_t)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) * 1000000000u +
	       (uint64_t)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) * 1000u;
}

static void send_small(struct conn *c, const uint8_t *p, size_t n)
{
	if (send(c->fd, p, n, MSG_NOSIGNAL) != (ssize_t)n)
		fan_out_problem("send", errno, 0);
}

/* The measured part begins with the first PUBLISH after the warm-up. */
static void on_copy(struct conn *c, const struct mq_packet *p, uint64_t now)
{
	struct stamp s;

	if (p->len != 2 + strlen(FAN_OUT_TOPIC) + opt.size) {
		fan_out_problem("length", (long)p->len, 0);
		return;
	}
	memcpy(&s, p->body + 2 + strlen(FAN_OUT_TOPIC), sizeof(s));
	if (s.number != c->next || s.number >= all_rounds) {
		fan_out_problem("lost, twice or out of order: expected, got", c->next,
				(long)s.number);
		return;
	}
	c->next++;
	copies[s.number]++;
	if (copies[s.number] == 1 && s.number >= opt.warmup)
		toe_hist_add(&hist_first, now - s.sent_ns);
	if (copies[s.number] < opt.subscribers)
		return;
	completed++;
	if (s.number >= opt.warmup)
		toe_hist_add(&hist_last, now - s.sent_ns);
	if (completed == opt.warmup) {
		cpu_watch_begin(&watch);
		own_ns = own_cpu();
		begin_ns = now_ns();
	}
	if (completed == all_rounds) {
		end_ns = now_ns();
		cpu_watch_end(&watch);
		own_ns = own_cpu() - own_ns;
	}
}

static void on_packet(struct conn *c, const struct mq_packet *p, uint64_t now)
{
	uint8_t out[MQ_SMALL_BYTES];

	switch (p->first >> 4) {
	case MQ_PUBLISH:
		on_copy(c, p, now);
		return;
	case MQ_CONNACK:
		if (p->len != 2 || p->body[1] != 0)
			fan_out_problem("CONNACK", p->len > 1 ? p->body[1] : -1, 0);
		if (c == &conns[opt.subscribers]) {
			c->state = READY;
			ready++;
			return;
		}
		c->state = WAIT_SUBACK;
		send_small(c, out, mq_put_subscribe(out, 4, 1, FAN_OUT_TOPIC, 0));
		return;
	case MQ_SUBACK:
		c->state = READY;
		ready++;
		return;
	default:
		fan_out_problem("unexpected packet", p->first, (long)p->len);
	}
}

/* Packets are taken where they were read; what is left of the last one is kept. */
static void on_readable(struct conn *c)
{
	for (;;) {
		ssize_t n;
		size_t at = 0, have;
		uint64_t now;
		long got = 0;
		struct mq_packet p;

		memcpy(chunk, c->partial, c->used);
		n = recv(c->fd, chunk + c->used, READ_BYTES - c->used, 0);
		if (n <= 0) {
			if (n == 0 || (errno != EAGAIN && errno != EINTR))
				fan_out_problem("connection lost", n == 0 ? 0 : errno, c - conns);
			return;
		}
		now = now_ns();
		have = c->used + (size_t)n;
		while (!fan_out_why[0] && (got = mq_next(chunk + at, have - at, &p)) > 0) {
			on_packet(c, &p, now);
			at += (size_t)got;
		}
		if (got < 0 || have - at > PARTIAL_MAX) {
			fan_out_problem("framing", (long)(have - at), 0);
			return;
		}
		c->used = (uint32_t)(have - at);
		memcpy(c->partial, chunk + at, c->used);
		if ((size_t)n + PARTIAL_MAX < READ_BYTES)
			return; /* level-triggered: what came meanwhile is told again */
	}
}

static void start(struct conn *c)
{
	struct epoll_event ev = {.events = EPOLLOUT, .data.ptr = c};

	c->state = CONNECTING;
	c->fd = connect_start(opt.host, opt.port, false);
	if (c->fd < 0)
		fan_out_problem("connect", -c->fd, 0);
	else if (epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev) < 0)
		die("epoll_ctl: %m");
}

static void on_connected(struct conn *c)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
	uint8_t p[MQ_SMALL_BYTES];
	char id[MQ_NAME_MAX];
	int rc = connect_result(c->fd);

	epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &ev);
	if (rc < 0) {
		fan_out_problem("connect", -rc, 0);
		return;
	}
	if (opt.raw) {
		c->state = READY;
		ready++;
		return;
	}
	snprintf(id, sizeof(id), "load-%d-%u", (int)getpid(), (unsigned)(c - conns));
	c->state = WAIT_CONNACK;
	send_small(c, p, mq_put_connect(p, 4, id));
}

static void publish(void)
{
	uint8_t p[PARTIAL_MAX];
	struct stamp s = {published, now_ns()};
	size_t n = fan_out_publish(p, &s, sizeof(s), opt.size);

	published++;
	send_small(&conns[opt.subscribers], p, n);
}

/* ms to wait at most; publishes what is due. */
static int publisher_turn(void)
{
	uint64_t now = now_ns();

	if (opt.raw || ready < total)
		return 100;
	while (published < all_rounds && published - completed < opt.window) {
		if (opt.interval_us && now < next_ns)
			return (int)((next_ns - now) / 1000000u);
		next_ns = now + opt.interval_us * 1000ull;
		publish();
	}
	return 100;
}

static void run(void)
{
	uint64_t limit = now_ns() + opt.timeout_s * 1000000000ull;
	struct epoll_event ev[256];

	while (!fan_out_why[0] && completed < all_rounds) {
		int n, wait = publisher_turn();

		while (started < total && started - ready < PARALLEL && !fan_out_why[0])
			start(&conns[started++]);
		n = epoll_wait(ep, ev, 256, wait);
		for (int i = 0; i < n && !fan_out_why[0]; i++) {
			struct conn *c = ev[i].data.ptr;

			if (c->state == CONNECTING)
				on_connected(c);
			else
				on_readable(c);
		}
		if (now_ns() > limit)
			fan_out_problem("time is over: ready, completed", ready, completed);
	}
}

static void parse_args(int argc, char **argv)
{
	static const struct option longs[] = {
		{"host", 1, NULL, 'h'},    {"port", 1, NULL, 'p'},   {"subscribers", 1, NULL, 's'},
		{"rounds", 1, NULL, 'r'},  {"warmup", 1, NULL, 'u'}, {"size", 1, NULL, 'b'},
		{"window", 1, NULL, 'w'},  {"watch", 1, NULL, 'W'},  {"interval-us", 1, NULL, 'i'},
		{"timeout", 1, NULL, 'T'}, {"raw", 0, NULL, 'R'},    {NULL, 0, NULL, 0}};
	unsigned *const numbers[128] = {
		['s'] = &opt.subscribers, ['r'] = &opt.rounds, ['u'] = &opt.warmup,
		['b'] = &opt.size,        ['w'] = &opt.window, ['i'] = &opt.interval_us,
		['T'] = &opt.timeout_s};
	int o;

	while ((o = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (o == 'h')
			opt.host = optarg;
		else if (o == 'p')
			opt.port = (uint16_t)parse_u64(optarg, "port");
		else if (o == 'W')
			cpu_watch_parse(&watch, optarg);
		else if (o == 'R')
			opt.raw = true;
		else if (o > 0 && o < 128 && numbers[o])
			*numbers[o] = (unsigned)parse_u64(optarg, "option");
		else
			die("mqtt_load: see the head of bench/mqtt_load.c");
	}
	if (!opt.subscribers || !opt.rounds || !opt.window || opt.size < sizeof(struct stamp) ||
	    opt.size > PARTIAL_MAX - 32 || !opt.warmup)
		die("mqtt_load: subscribers, rounds, warmup, window at least 1; size 16 to %u",
		    PARTIAL_MAX - 32);
}

static void report(void)
{
	double s = end_ns > begin_ns ? (double)(end_ns - begin_ns) / 1e9 : 0;
	double n = (double)opt.subscribers * opt.rounds;
	bool ok = !fan_out_why[0];

	printf("{\"ok\":%s,\"subscribers\":%u,\"rounds\":%u,\"window\":%u,\"seconds\":%.3f",
	       ok ? "true" : "false", opt.subscribers, opt.rounds, opt.window, s);
	print_hist_us("last_us", &hist_last);
	print_hist_us("first_us", &hist_first);
	printf(",\"per_s\":%.0f,\"client_cpu\":%.3f,\"client_us_each\":%.3f",
	       ok && s > 0 ? n / s : 0, s > 0 ? (double)own_ns / 1e9 / s : 0,
	       (double)own_ns / 1e3 / n);
	cpu_watch_print(&watch, n);
	printf(",\"error\":\"%s\"}\n", fan_out_why);
}

int main(int argc, char **argv)
{
	parse_args(argc, argv);
	all_rounds = opt.warmup + opt.rounds;
	total = opt.subscribers + (opt.raw ? 0 : 1);
	want_fds(total + 16);
	ep = epoll_create1(EPOLL_CLOEXEC);
	conns = calloc(total + 1, sizeof(*conns));
	copies = calloc(all_rounds, sizeof(*copies));
	if (ep < 0 || !conns || !copies)
		die("out of memory or descriptors");
	for (unsigned i = 0; i < total; i++) {
		conns[i].partial = malloc(PARTIAL_MAX);
		if (!conns[i].partial)
			die("out of memory");
	}
	toe_hist_reset(&hist_last);
	toe_hist_reset(&hist_first);
	run();
	report();
	return fan_out_why[0] ? 1 : 0;
}
