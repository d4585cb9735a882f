// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/progs/lib/util.c tests/progs/lib/hist.c */
/*
 * MQTT 3.1.1 load client: N subscribers and one publisher, QoS 0, in one epoll loop on kernel TCP.
 *
 * Every delivery is checked: sequence number (nothing lost, twice, or out of order) and content.
 * After the last delivery each subscriber asks PINGREQ: its PINGRESP proves that nothing more was
 * on the way, without waiting for a time.  Latency runs from just before the publisher's write to
 * the read that completes the last subscriber's copy.  One JSON line; exit code 0 only if
 * everything arrived exactly once and in order.
 */
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/progs/lib/util.h"

#define HEAD_MAX  5u /* fixed header */
#define STAMP     8u /* sequence number at the start of the payload */
#define READ_MORE 65536u

enum state { IDLE, CONNECTING, WAIT_CONNACK, WAIT_SUBACK, READY, WAIT_PINGRESP, DONE, LOST };

struct conn {
	int fd;
	enum state state;
	bool publisher;
	unsigned index;
	uint32_t next_seq; /* expected */
	uint32_t received;
	uint8_t *seen; /* one byte per sequence number */
	uint8_t *buf;
	size_t used;
};

static struct {
	const char *host;
	uint16_t port;
	const char *topic;
	unsigned subscribers;
	unsigned publishes;
	unsigned size;   /* payload bytes */
	unsigned window; /* messages published and not yet with every subscriber */
	unsigned rate;   /* messages per second, 0: as the window allows */
	unsigned timeout_s;
	unsigned parallel; /* connects at once */
	bool progress;
} opt = {"10.99.0.1", 1883, "fanout", 100, 1000, 128, 8, 0, 60, 32, false};

static struct conn *conns; /* subscribers, then the publisher */
static int ep;
static size_t buf_bytes;
static unsigned started, ready, finished;
static unsigned published, completed;
static uint64_t *sent_ns;
static uint32_t *copies_left;
static uint8_t *out; /* the packet being published */
static size_t out_len, out_done;
static uint64_t delivered, duplicated, reordered, corrupt, conns_lost;
static uint64_t first_ns, last_ns;
static struct toe_hist hist_last, hist_each;
static char why[160];

static void problem(const char *text, const struct conn *c, long value)
{
	if (!why[0])
		snprintf(why, sizeof(why), "%s %u: %s (%ld)",
			 c->publisher ? "publisher" : "subscriber", c->index, text, value);
}

static void lose(struct conn *c, const char *text, int err)
{
	if (c->state == LOST)
		return;
	problem(text, c, err);
	conns_lost++;
	c->state = LOST;
	close(c->fd);
	c->fd = -1;
}

/* ---- MQTT packets ---- */

static size_t put_head(uint8_t *p, uint8_t type, size_t remaining)
{
	size_t n = 0;

	p[n++] = type;
	do {
		p[n] = remaining & 0x7f;
		remaining >>= 7;
		p[n] |= remaining ? 0x80 : 0;
		n++;
	} while (remaining);
	return n;
}

static size_t put_string(uint8_t *p, const char *s)
{
	size_t n = strlen(s);

	p[0] = (uint8_t)(n >> 8);
	p[1] = (uint8_t)n;
	memcpy(p + 2, s, n);
	return n + 2;
}

/* Handshake packets are small: a socket that has just connected takes them whole. */
static void send_small(struct conn *c, const uint8_t *p, size_t n)
{
	if (send(c->fd, p, n, MSG_NOSIGNAL) != (ssize_t)n)
		lose(c, "send", errno);
}

static void send_connect(struct conn *c)
{
	uint8_t p[128];
	uint8_t body[96] = {0, 4, 'M', 'Q', 'T', 'T', 4, 2 /* clean session */, 0, 0};
	char id[48];
	size_t n = 10;
	size_t h;

	snprintf(id, sizeof(id), "fanout-%d-%u", (int)getpid(), c->index);
	n += put_string(body + n, id);
	h = put_head(p, 0x10, n);
	memcpy(p + h, body, n);
	c->state = WAIT_CONNACK;
	send_small(c, p, h + n);
}

static void send_subscribe(struct conn *c)
{
	uint8_t p[400];
	size_t h = put_head(p, 0x82, 2 + 2 + strlen(opt.topic) + 1);

	p[h++] = 0;
	p[h++] = 1; /* packet id */
	h += put_string(p + h, opt.topic);
	p[h++] = 0; /* QoS */
	c->state = WAIT_SUBACK;
	send_small(c, p, h);
}

static void make_publish(uint32_t seq)
{
	size_t topic = strlen(opt.topic) + 2;
	uint64_t stamp = seq;
	size_t n = put_head(out, 0x30, topic + opt.size);

	n += put_string(out + n, opt.topic);
	memcpy(out + n, &stamp, STAMP);
	pattern_fill(out + n + STAMP, opt.size - STAMP, 0, seq);
	out_len = n + opt.size;
	out_done = 0;
}

/* ---- receiving ---- */

static void on_publish(struct conn *c, const uint8_t *body, size_t len)
{
	size_t topic = strlen(opt.topic);
	uint64_t stamp, now = now_ns();

	if (len != topic + 2 + opt.size || (size_t)(body[0] << 8 | body[1]) != topic ||
	    memcmp(body + 2, opt.topic, topic) != 0) {
		corrupt++;
		problem("wrong topic or length", c, (long)len);
		return;
	}
	body += topic + 2;
	memcpy(&stamp, body, STAMP);
	if (stamp >= published ||
	    pattern_check(body + STAMP, opt.size - STAMP, 0, stamp) != opt.size - STAMP) {
		corrupt++;
		problem("wrong content, sequence number", c, (long)stamp);
		return;
	}
	if (c->seen[stamp]) {
		duplicated++;
		problem("twice, sequence number", c, (long)stamp);
		return;
	}
	c->seen[stamp] = 1;
	if (stamp != c->next_seq) {
		problem("out of order, sequence number", c, (long)stamp);
		reordered += stamp < c->next_seq;
	}
	if (stamp >= c->next_seq)
		c->next_seq = (uint32_t)stamp + 1;
	c->received++;
	delivered++;
	last_ns = now;
	toe_hist_add(&hist_each, now - sent_ns[stamp]);
	if (--copies_left[stamp] == 0) {
		completed++;
		toe_hist_add(&hist_last, now - sent_ns[stamp]);
	}
}

static void on_packet(struct conn *c, uint8_t type, const uint8_t *body, size_t len)
{
	switch (type >> 4) {
	case 2: /* CONNACK */
		if (c->state != WAIT_CONNACK || len != 2 || body[1] != 0) {
			lose(c, "CONNACK", len == 2 ? body[1] : -1);
		} else if (c->publisher) {
			c->state = READY;
			ready++;
		} else {
			send_subscribe(c);
		}
		return;
	case 9: /* SUBACK */
		if (c->state != WAIT_SUBACK || len != 3 || body[2] > 2) {
			lose(c, "SUBACK", len == 3 ? body[2] : -1);
			return;
		}
		c->state = READY;
		ready++;
		return;
	case 13: /* PINGRESP */
		if (c->state != WAIT_PINGRESP) {
			lose(c, "PINGRESP unasked", 0);
			return;
		}
		c->state = DONE;
		finished++;
		return;
	case 3:
		if (!c->publisher && c->state >= READY && (type & 0x0f) == 0) {
			on_publish(c, body, len);
			return;
		}
		break;
	default:
		break;
	}
	lose(c, "unexpected packet", type);
}

/* Takes whole packets off the front of the buffer. */
static void parse(struct conn *c)
{
	size_t at = 0;

	while (c->state != LOST && c->used - at >= 2) {
		size_t len = 0, n = 1;
		bool more = true;

		while (more && at + n < c->used && n < HEAD_MAX) {
			len |= (size_t)(c->buf[at + n] & 0x7f) << (7 * (n - 1));
			more = c->buf[at + n] & 0x80;
			n++;
		}
		if (more && n < HEAD_MAX)
			break; /* header not complete */
		if (more || n + len > buf_bytes) {
			lose(c, "packet length", (int)len);
			return;
		}
		if (at + n + len > c->used)
			break;
		on_packet(c, c->buf[at], c->buf + at + n, len);
		at += n + len;
	}
	if (at > 0 && c->state != LOST) {
		c->used -= at;
		memmove(c->buf, c->buf + at, c->used);
	}
}

static void on_readable(struct conn *c)
{
	while (c->state != LOST) {
		ssize_t n = recv(c->fd, c->buf + c->used, buf_bytes - c->used, 0);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0) {
			lose(c, n == 0 ? "closed by broker" : "recv", n == 0 ? 0 : errno);
			return;
		}
		c->used += (size_t)n;
		parse(c);
	}
}

/* ---- connecting ---- */

static void start_connect(struct conn *c)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};

	c->state = CONNECTING;
	c->fd = connect_start(opt.host, opt.port, false);
	if (c->fd < 0) {
		int err = -c->fd;

		c->state = LOST;
		conns_lost++;
		problem("connect", c, err);
		return;
	}
	if (epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev) < 0)
		die("epoll_ctl: %m");
}

static void on_event(struct conn *c, uint32_t events)
{
	if (c->state == CONNECTING && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) {
		int rc = connect_result(c->fd);

		if (rc < 0) {
			lose(c, "connect", -rc);
			return;
		}
		send_connect(c);
	}
	if (c->state != LOST && (events & (EPOLLIN | EPOLLERR | EPOLLHUP)))
		on_readable(c);
}

/* ---- publishing ---- */

static void publish(struct conn *c)
{
	while (c->state == READY) {
		ssize_t n;

		if (out_done == out_len) {
			uint64_t now = now_ns();

			if (published == opt.publishes || published - completed >= opt.window)
				return;
			if (opt.rate &&
			    now < first_ns + (uint64_t)published * 1000000000u / opt.rate)
				return;
			make_publish(published);
			copies_left[published] = opt.subscribers;
			sent_ns[published] = now_ns();
			published++;
		}
		n = send(c->fd, out + out_done, out_len - out_done, MSG_NOSIGNAL);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n < 0) {
			lose(c, "publish", errno);
			return;
		}
		out_done += (size_t)n;
	}
}

/* ms until the publisher's next turn by rate; bounded so that time-outs are noticed. */
static int wait_ms(void)
{
	uint64_t due, now = now_ns();

	if (!opt.rate || published == opt.publishes || !first_ns)
		return 100;
	due = first_ns + (uint64_t)published * 1000000000u / opt.rate;
	if (due <= now)
		return published - completed >= opt.window ? 100 : 0;
	return due - now > 100000000u ? 100 : (int)((due - now) / 1000000u) + 1;
}

static void ask_ping(struct conn *c)
{
	static const uint8_t pingreq[2] = {0xc0, 0};

	c->state = WAIT_PINGRESP;
	send_small(c, pingreq, sizeof(pingreq));
}

static void show_progress(uint64_t now)
{
	static uint64_t next;

	if (!opt.progress || now < next)
		return;
	next = now + 1000000000u;
	fprintf(stderr, "  %u of %u clients ready, %u published, %llu delivered\n", ready,
		opt.subscribers + 1, published, (unsigned long long)delivered);
}

/* One turn of what is not an event; true when everything is over. */
static bool advance(void)
{
	unsigned total = opt.subscribers + 1;

	while (started < total && started - ready < opt.parallel && !conns_lost)
		start_connect(&conns[started++]);
	if (ready == total && !conns_lost) {
		if (!first_ns)
			first_ns = now_ns();
		publish(&conns[opt.subscribers]);
	}
	if (completed == opt.publishes) {
		for (unsigned i = 0; i < opt.subscribers; i++) {
			if (conns[i].state == READY)
				ask_ping(&conns[i]);
		}
	}
	return conns_lost || finished == opt.subscribers;
}

static void run(void)
{
	uint64_t end = now_ns() + (uint64_t)opt.timeout_s * 1000000000u;
	struct epoll_event ev[128];

	while (!advance()) {
		uint64_t now = now_ns();
		int n;

		if (now > end) {
			if (!why[0])
				snprintf(why, sizeof(why), "not finished after %u s",
					 opt.timeout_s);
			return;
		}
		show_progress(now);
		n = epoll_wait(ep, ev, 128, wait_ms());
		for (int i = 0; i < n; i++)
			on_event(ev[i].data.ptr, ev[i].events);
	}
}

/* ---- frame ---- */

static void usage(void)
{
	die("usage: mqtt_fanout [--host A] [--port N] [--topic T] [--subscribers N] [--publishes "
	    "N]\n"
	    "  [--size BYTES] [--window N] [--rate PER_S] [--timeout S] [--parallel N] "
	    "[--progress]");
}

static void parse_args(int argc, char **argv)
{
	static const struct option longs[] = {
		{"host", 1, NULL, 'h'},      {"port", 1, NULL, 'p'},
		{"topic", 1, NULL, 't'},     {"subscribers", 1, NULL, 's'},
		{"publishes", 1, NULL, 'n'}, {"size", 1, NULL, 'b'},
		{"window", 1, NULL, 'w'},    {"rate", 1, NULL, 'r'},
		{"timeout", 1, NULL, 'T'},   {"parallel", 1, NULL, 'P'},
		{"progress", 0, NULL, 'v'},  {NULL, 0, NULL, 0}};
	int o;

	while ((o = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		unsigned v =
			optarg && o != 'h' && o != 't' ? (unsigned)parse_u64(optarg, "option") : 0;
		switch (o) {
		case 'h':
			opt.host = optarg;
			break;
		case 't':
			opt.topic = optarg ? optarg : "";
			break;
		case 'p':
			opt.port = (uint16_t)v;
			break;
		case 's':
			opt.subscribers = v;
			break;
		case 'n':
			opt.publishes = v;
			break;
		case 'b':
			opt.size = v;
			break;
		case 'w':
			opt.window = v;
			break;
		case 'r':
			opt.rate = v;
			break;
		case 'T':
			opt.timeout_s = v;
			break;
		case 'P':
			opt.parallel = v;
			break;
		case 'v':
			opt.progress = true;
			break;
		default:
			usage();
		}
	}
	if (optind != argc || opt.size < STAMP || !opt.subscribers || !opt.publishes ||
	    !opt.window || !opt.parallel || strlen(opt.topic) > 256)
		usage();
}

static void setup(void)
{
	unsigned total = opt.subscribers + 1;

	want_fds(total + 16);
	ep = epoll_create1(EPOLL_CLOEXEC);
	buf_bytes = READ_MORE + opt.size + strlen(opt.topic) + 2 + HEAD_MAX;
	conns = calloc(total, sizeof(*conns));
	sent_ns = calloc(opt.publishes, sizeof(*sent_ns));
	copies_left = calloc(opt.publishes, sizeof(*copies_left));
	out = malloc(buf_bytes);
	if (ep < 0 || !conns || !sent_ns || !copies_left || !out)
		die("out of memory or descriptors");
	for (unsigned i = 0; i < total; i++) {
		struct conn *c = &conns[i];

		c->fd = -1;
		c->index = i;
		c->publisher = i == opt.subscribers;
		c->buf = malloc(buf_bytes);
		c->seen = c->publisher ? NULL : calloc(opt.publishes, 1);
		if (!c->buf || (!c->publisher && !c->seen))
			die("out of memory");
	}
	toe_hist_reset(&hist_last);
	toe_hist_reset(&hist_each);
}

static bool report(void)
{
	uint64_t expected = (uint64_t)opt.subscribers * opt.publishes;
	double s = last_ns > first_ns && first_ns ? (double)(last_ns - first_ns) / 1e9 : 0;
	bool ok = delivered == expected && !duplicated && !reordered && !corrupt && !conns_lost &&
		  finished == opt.subscribers && !why[0];

	printf("{\"ok\":%s,\"subscribers\":%u,\"publishes\":%u,\"size\":%u,\"ready\":%u,"
	       "\"expected\":%llu,\"delivered\":%llu,\"lost\":%llu,\"duplicated\":%llu,"
	       "\"reordered\":%llu,\"corrupt\":%llu,\"connections_lost\":%llu",
	       ok ? "true" : "false", opt.subscribers, opt.publishes, opt.size, ready,
	       (unsigned long long)expected, (unsigned long long)delivered,
	       (unsigned long long)(expected - delivered), (unsigned long long)duplicated,
	       (unsigned long long)reordered, (unsigned long long)corrupt,
	       (unsigned long long)conns_lost);
	printf(",\"seconds\":%.3f,\"deliveries_per_s\":%.0f", s,
	       s > 0 ? (double)delivered / s : 0.0);
	print_hist_us("last_us", &hist_last);
	print_hist_us("each_us", &hist_each);
	printf(",\"error\":\"%s\"}\n", why);
	return ok;
}

int main(int argc, char **argv)
{
	static const uint8_t disconnect[2] = {0xe0, 0};

	parse_args(argc, argv);
	setup();
	run();
	for (unsigned i = 0; i <= opt.subscribers; i++) {
		if (conns[i].fd >= 0 && conns[i].state >= READY && conns[i].state != LOST)
			(void)!send(conns[i].fd, disconnect, sizeof(disconnect), MSG_NOSIGNAL);
	}
	return report() ? 0 : 1;
}
