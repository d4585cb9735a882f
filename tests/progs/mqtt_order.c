// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/progs/lib/util.c tests/progs/lib/mqtt.c tests/progs/lib/hist.c */
/*
 * Order under change: publishers flip RETAIN and QoS on a few topics; at every subscriber the
 * sequence per (publisher, topic, QoS of the PUBLISH) is checked.  One epoll loop, kernel TCP,
 * memory independent of the number of messages.
 *
 * Residents stay: each gets everything its filter matches, once and in order.  Guests come and go
 * (UNSUBSCRIBE, DISCONNECT, close, take-over by the same ClientID): from the first live message on
 * there is no gap, and the first one is not later than what was published after SUBACK.  One JSON
 * line; exit code 0 only if everything holds.
 */
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/progs/lib/mqtt.h"
#include "tests/progs/lib/util.h"

#define PUBS       3u
#define TOPICS     4u
#define KEYS       (PUBS * TOPICS * 3u)
#define RESIDENTS  18u
#define GUESTS     8u
#define WINDOW_MAX 4096u /* power of two: messages under way */
#define ACKS_MAX   16u /* handshakes of a publisher under way; mosquitto's Receive Maximum is 20 */
#define SLOW_MAX                                                                                   \
	8u /* QoS 1 and 2 under way: mosquitto 2.0.11 reorders QoS 2 behind a full in-flight       \
	      window (20) */
#define BUF_BYTES (256u * 1024u)
#define OUT_BYTES 65536u
#define UNSEEN    UINT64_MAX

enum state {
	IDLE,
	CONNECTING,
	WAIT_CONNACK,
	WAIT_SUBACK,
	READY,
	WAIT_UNSUBACK,
	LEFT,
	WAIT_PING,
	DONE
};
enum kind { PUBLISHER, RESIDENT, GUEST };

struct payload {
	uint64_t id;  /* of the message, over all */
	uint64_t seq; /* of its key */
	uint32_t key;
	uint32_t check; /* key and seq again, mixed */
};

struct conn {
	int fd;
	enum state state;
	enum kind kind;
	unsigned index, version, granted;
	unsigned filter;      /* topic number; TOPICS: all by #, TOPICS + 1: all by + */
	uint64_t next[KEYS];  /* expected sequence number, UNSEEN for a guest's first */
	uint64_t bound[KEYS]; /* the first one may not be later */
	uint64_t leave_at;    /* published messages at which a guest leaves */
	unsigned life;        /* how often it has come */
	bool closing;         /* taken over: the broker closes it */
	unsigned acks;        /* handshakes under way */
	uint16_t pid;
	uint8_t *buf, *out;
	size_t used, out_used;
};

static struct {
	const char *host;
	uint16_t port;
	uint64_t messages;
	unsigned window, timeout_s, guests;
	uint64_t seed;
} opt = {"10.99.0.1", 1883, 100000, 64, 120, GUESTS, 1};

static struct conn conns[PUBS + RESIDENTS + 2 * GUESTS]; /* of two per guest one is taken over */
static unsigned total;
static int ep;
static uint64_t published, oldest, delivered, guest_lives, taken_over, retained_seen;
static uint64_t next_seq[KEYS], rng;
static uint8_t copies_left[WINDOW_MAX];
static bool slow[WINDOW_MAX]; /* QoS 1 or 2 */
static unsigned slow_under_way;
static unsigned finished;
static char why[240], prefix[32];

static void problem(const struct conn *c, const char *text, uint64_t a, uint64_t b)
{
	static const char *const kinds[] = {"publisher", "resident", "guest"};

	if (!why[0])
		snprintf(why, sizeof(why), "%s %u version %u: %s (%llu, %llu)", kinds[c->kind],
			 c->index, c->version, text, (unsigned long long)a, (unsigned long long)b);
}

static void close_conn(struct conn *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	c->used = c->out_used = 0;
	c->state = c->kind == GUEST ? IDLE : LEFT;
}

/* ---- sending ---- */

static void flush_out(struct conn *c)
{
	while (c->out_used && c->fd >= 0) {
		ssize_t n = send(c->fd, c->out, c->out_used, MSG_NOSIGNAL);

		if (n < 0) {
			if (errno != EAGAIN && errno != EINTR && !c->closing)
				problem(c, "send", (uint64_t)errno, 0);
			return;
		}
		c->out_used -= (size_t)n;
		memmove(c->out, c->out + n, c->out_used);
	}
}

static void put_out(struct conn *c, const uint8_t *p, size_t n)
{
	if (c->out_used + n > OUT_BYTES) {
		problem(c, "output buffer full", c->out_used, n);
		return;
	}
	memcpy(c->out + c->out_used, p, n);
	c->out_used += n;
}

static void emit(struct conn *c, const uint8_t *p, size_t n)
{
	put_out(c, p, n);
	flush_out(c);
}

static void emit_ack(struct conn *c, enum mq_type type, uint16_t pid)
{
	uint8_t p[8];

	emit(c, p, mq_put_ack(p, type, pid));
}

static void topic_name(char *text, unsigned filter)
{
	if (filter < TOPICS)
		snprintf(text, MQ_NAME_MAX, "%s/t%u", prefix, filter);
	else
		snprintf(text, MQ_NAME_MAX, "%s/%s", prefix, filter == TOPICS ? "#" : "+");
}

static bool wanted(const struct conn *c, unsigned topic)
{
	return c->filter >= TOPICS || c->filter == topic;
}

static void publish(struct conn *c)
{
	unsigned topic = (unsigned)(rng_next(&rng) >> 40) % TOPICS;
	unsigned dice = (unsigned)(rng_next(&rng) >> 40) % 10;
	unsigned qos = dice < 8 ? 0 : dice - 7;
	uint32_t key = (c->index * TOPICS + topic) * 3 + qos;
	struct payload pl = {published, next_seq[key]++, key, 0};
	char name[MQ_NAME_MAX];
	uint8_t p[MQ_SMALL_BYTES];
	struct mq_publish m = {
		.qos = qos, .retain = (rng_next(&rng) >> 40) % 3 == 0, .payload_len = sizeof(pl)};
	size_t n;

	topic_name(name, topic);
	m.topic = (const uint8_t *)name;
	m.topic_len = strlen(name);
	if (qos) {
		c->pid = (uint16_t)(c->pid % 65535 + 1);
		m.pid = c->pid;
		c->acks++;
	}
	pl.check = (uint32_t)((pl.seq + key) * 2654435761u);
	n = mq_put_publish(p, c->version, &m);
	memcpy(p + n, &pl, sizeof(pl));
	copies_left[published % WINDOW_MAX] = 0;
	for (unsigned i = PUBS; i < PUBS + RESIDENTS; i++)
		copies_left[published % WINDOW_MAX] += wanted(&conns[i], topic);
	slow[published % WINDOW_MAX] = qos > 0;
	slow_under_way += qos > 0;
	published++;
	put_out(c, p, n + sizeof(pl));
	if ((rng_next(&rng) >> 40) % 4 == 0) /* some alone in a segment, some with others */
		flush_out(c);
}

/* ---- receiving ---- */

static void check_order(struct conn *c, const struct payload *pl, bool retain)
{
	uint64_t *next = &c->next[pl->key];

	if (retain) { /* what the broker kept, sent once after SUBSCRIBE */
		retained_seen++;
		if (c->kind == RESIDENT)
			problem(c, "retained message at a resident", pl->key, pl->seq);
		return;
	}
	if (*next == UNSEEN) {
		if (pl->seq > c->bound[pl->key])
			problem(c, "first message later than SUBACK allows", pl->seq,
				c->bound[pl->key]);
	} else if (pl->seq != *next) {
		problem(c, pl->seq < *next ? "twice or out of order" : "lost", *next, pl->seq);
	}
	*next = pl->seq + 1;
	delivered++;
	if (c->kind != RESIDENT)
		return;
	if (copies_left[pl->id % WINDOW_MAX] == 0 || pl->id < oldest)
		problem(c, "more copies than subscribers", pl->id, pl->seq);
	else
		copies_left[pl->id % WINDOW_MAX]--;
}

static void on_publish(struct conn *c, const struct mq_packet *p)
{
	struct mq_publish m;
	struct payload pl;
	char name[MQ_NAME_MAX];
	unsigned qos;

	if (!mq_publish_parse(c->version, p, &m) || m.payload_len != sizeof(pl)) {
		problem(c, "malformed PUBLISH", p->first, p->len);
		return;
	}
	memcpy(&pl, m.payload, sizeof(pl));
	if (pl.key >= KEYS || pl.id >= published ||
	    pl.check != (uint32_t)((pl.seq + pl.key) * 2654435761u)) {
		problem(c, "content", pl.key, pl.seq);
		return;
	}
	topic_name(name, pl.key / 3 % TOPICS);
	qos = pl.key % 3;
	if (m.topic_len != strlen(name) || memcmp(m.topic, name, m.topic_len) != 0 ||
	    m.qos != (qos < c->granted ? qos : c->granted) || m.dup ||
	    !wanted(c, pl.key / 3 % TOPICS))
		problem(c, "topic, QoS or DUP", pl.key, p->first);
	if (m.qos)
		emit_ack(c, m.qos == 1 ? MQ_PUBACK : MQ_PUBREC, m.pid);
	check_order(c, &pl, m.retain);
}

static void on_subscribed(struct conn *c, const struct mq_packet *p)
{
	if (c->state != WAIT_SUBACK || mq_suback_code(p) != c->granted)
		problem(c, "SUBACK", mq_suback_code(p), c->granted);
	c->state = READY;
	for (unsigned k = 0; k < KEYS; k++)
		c->bound[k] = next_seq[k];
}

static void subscribe(struct conn *c)
{
	char name[MQ_NAME_MAX];
	uint8_t p[MQ_SMALL_BYTES];

	topic_name(name, c->filter);
	c->state = WAIT_SUBACK;
	emit(c, p, mq_put_subscribe(p, c->version, 1, name, c->granted));
}

static void on_packet(struct conn *c, const struct mq_packet *p)
{
	switch (p->first >> 4) {
	case MQ_CONNACK:
		if (p->len < 2 || p->body[1] != 0)
			problem(c, "CONNACK", p->len, p->len > 1 ? p->body[1] : 0);
		if (c->kind == PUBLISHER)
			c->state = READY;
		else
			subscribe(c);
		return;
	case MQ_SUBACK:
		on_subscribed(c, p);
		return;
	case MQ_UNSUBACK:
		c->state = LEFT; /* nothing with QoS 0 may come any more */
		c->leave_at = published + 100;
		return;
	case MQ_PUBLISH:
		/* 3.10.4: what was buffered before UNSUBACK may follow it; QoS 0 is not buffered */
		if ((c->state == LEFT && !(p->first & 6)) || c->kind == PUBLISHER)
			problem(c, "PUBLISH after UNSUBACK", p->first, p->len);
		on_publish(c, p);
		return;
	case MQ_PUBREC:
		emit_ack(c, MQ_PUBREL, mq_ack_pid(p));
		return;
	case MQ_PUBREL:
		emit_ack(c, MQ_PUBCOMP, mq_ack_pid(p));
		return;
	case MQ_PUBACK:
	case MQ_PUBCOMP:
		c->acks--;
		return;
	case MQ_PINGRESP:
		c->state = DONE;
		finished++;
		return;
	case MQ_DISCONNECT:
		if (c->closing)
			return;
		break;
	default:
		break;
	}
	problem(c, "unexpected packet", p->first, p->len);
}

static void on_readable(struct conn *c)
{
	static const int on = 1;

	while (c->fd >= 0) {
		ssize_t n = recv(c->fd, c->buf + c->used, BUF_BYTES - c->used, 0);
		struct mq_packet p;
		size_t at = 0;
		long got;

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0) {
			if (!c->closing)
				problem(c, "closed by the broker", n < 0 ? (uint64_t)errno : 0, 0);
			close_conn(c);
			return;
		}
		/* mosquitto leaves Nagle's algorithm on: a delayed ACK would hold its next packet
		 */
		setsockopt(c->fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on));
		c->used += (size_t)n;
		while ((got = mq_next(c->buf + at, c->used - at, &p)) > 0) {
			on_packet(c, &p);
			at += (size_t)got;
		}
		if (got < 0)
			problem(c, "framing lost", at, 0);
		c->used -= at;
		memmove(c->buf, c->buf + at, c->used);
	}
}

/* ---- coming and going ---- */

static void start(struct conn *c)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};

	c->state = CONNECTING;
	c->closing = false;
	c->used = c->out_used = 0;
	for (unsigned k = 0; k < KEYS; k++)
		c->next[k] = c->kind == GUEST ? UNSEEN : 0;
	if (c->kind == GUEST) {
		c->version = 3 + c->life % 3;
		c->granted = (c->life / 3 + c->index) % 3;
		c->filter = (c->life + c->index) % (TOPICS + 2);
		c->leave_at = published + 50 + (rng_next(&rng) >> 40) % 400;
		c->life++;
		guest_lives++;
	}
	c->fd = connect_start(opt.host, opt.port, false);
	if (c->fd < 0)
		problem(c, "connect", (uint64_t)-c->fd, 0);
	else if (epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev) < 0)
		die("epoll_ctl: %m");
}

static void on_connected(struct conn *c)
{
	uint8_t p[MQ_SMALL_BYTES];
	char id[MQ_NAME_MAX];
	int rc = connect_result(c->fd);

	if (rc < 0) {
		problem(c, "connect", (uint64_t)-rc, 0);
		return;
	}
	/* both connections of a guest have one ClientID */
	snprintf(id, sizeof(id), "%s-%u-%u", prefix, (unsigned)c->kind,
		 c->kind == GUEST ? c->index / 2 : c->index);
	c->state = WAIT_CONNACK;
	emit(c, p, mq_put_connect(p, c->version, id));
}

/* A guest's pair of connections: g is the one that may be here. */
static void guest_turn(struct conn *g, struct conn *other)
{
	uint8_t p[MQ_SMALL_BYTES];
	char name[MQ_NAME_MAX];

	if (g->state == LEFT && published >= g->leave_at)
		close_conn(g);
	if (g->state != READY || published < g->leave_at || g->closing)
		return;
	switch ((rng_next(&rng) >> 40) % 4) {
	case 0:
		g->state = WAIT_UNSUBACK;
		topic_name(name, g->filter);
		emit(g, p, mq_put_unsubscribe(p, g->version, 2, name));
		return;
	case 1:
		emit(g, p, mq_put_two(p, 0xe0));
		close_conn(g);
		return;
	case 2:
		close_conn(g);
		return;
	default:
		if (other->state != IDLE)
			return;
		g->closing = true;
		taken_over++;
		start(other);
		return;
	}
}

static void guests_turn(void)
{
	for (unsigned i = PUBS + RESIDENTS; i < total; i += 2) {
		guest_turn(&conns[i], &conns[i + 1]);
		guest_turn(&conns[i + 1], &conns[i]);
		if (conns[i].state == IDLE && conns[i + 1].state == IDLE)
			start(&conns[i]);
	}
}

/* ---- the run ---- */

static unsigned count(enum kind kind, enum state state)
{
	unsigned n = 0;

	for (unsigned i = 0; i < total; i++)
		n += conns[i].kind == kind && conns[i].state == state;
	return n;
}

static void publishers_turn(void)
{
	unsigned idle = 0;

	for (unsigned i = 0; idle < PUBS; i = (i + 1) % PUBS) {
		bool may = published < opt.messages && published - oldest < opt.window &&
			   slow_under_way < SLOW_MAX && conns[i].acks < ACKS_MAX &&
			   conns[i].fd >= 0;

		idle = may ? 0 : idle + 1;
		if (may)
			publish(&conns[i]);
	}
	for (unsigned i = 0; i < PUBS; i++)
		flush_out(&conns[i]);
}

/* True when everything is over. */
static bool advance(void)
{
	static bool begun, asked;
	uint8_t p[2];

	if (!begun && (count(PUBLISHER, READY) < PUBS || count(RESIDENT, READY) < RESIDENTS))
		return false;
	begun = true;
	while (oldest < published && copies_left[oldest % WINDOW_MAX] == 0)
		slow_under_way -= slow[oldest++ % WINDOW_MAX];
	if (published < opt.messages)
		guests_turn();
	publishers_turn();
	if (oldest < opt.messages || conns[0].acks || conns[1].acks || conns[2].acks)
		return false;
	for (unsigned i = PUBS; i < PUBS + RESIDENTS && !asked; i++) {
		conns[i].state = WAIT_PING;
		emit(&conns[i], p, mq_put_two(p, 0xc0));
	}
	asked = true;
	return finished == RESIDENTS;
}

static void run(void)
{
	uint64_t end = now_ns() + (uint64_t)opt.timeout_s * 1000000000u;
	struct epoll_event ev[64];

	for (unsigned i = 0; i < PUBS + RESIDENTS; i++)
		start(&conns[i]);
	while (!why[0] && !advance()) {
		int n = epoll_wait(ep, ev, 64, 100);

		for (int i = 0; i < n; i++) {
			struct conn *c = ev[i].data.ptr;

			if (c->state == CONNECTING)
				on_connected(c);
			else
				flush_out(c);
			on_readable(c);
		}
		if (now_ns() > end && !why[0])
			snprintf(why, sizeof(why),
				 "not finished after %u s: message %llu has %u copies left",
				 opt.timeout_s, (unsigned long long)oldest,
				 copies_left[oldest % WINDOW_MAX]);
	}
}

static void setup(void)
{
	total = PUBS + RESIDENTS + 2 * opt.guests;
	rng = opt.seed * 0x9e3779b97f4a7c15ull | 1;
	snprintf(prefix, sizeof(prefix), "order%d", (int)getpid());
	ep = epoll_create1(EPOLL_CLOEXEC);
	for (unsigned i = 0; i < total; i++) {
		struct conn *c = &conns[i];

		c->kind = i < PUBS ? PUBLISHER : i < PUBS + RESIDENTS ? RESIDENT : GUEST;
		c->index = c->kind == PUBLISHER  ? i
			   : c->kind == RESIDENT ? i - PUBS
						 : i - PUBS - RESIDENTS;
		c->version = 3 + c->index % 3;
		c->granted = c->index / 3 % 3;
		c->filter = c->index < 9 ? TOPICS + c->index % 2 : c->index % TOPICS;
		c->fd = -1;
		c->buf = malloc(BUF_BYTES);
		c->out = malloc(OUT_BYTES);
		if (!c->buf || !c->out)
			die("out of memory");
	}
}

static void parse_args(int argc, char **argv)
{
	static const struct option longs[] = {{"host", 1, NULL, 'h'},     {"port", 1, NULL, 'p'},
					      {"messages", 1, NULL, 'n'}, {"window", 1, NULL, 'w'},
					      {"timeout", 1, NULL, 'T'},  {"guests", 1, NULL, 'g'},
					      {"seed", 1, NULL, 's'},     {NULL, 0, NULL, 0}};
	int o;

	while ((o = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (o == 'h')
			opt.host = optarg;
		else if (o == 'n') /* 1e7 is allowed */
			opt.messages = (uint64_t)strtod(optarg, NULL);
		else if (o == 'p')
			opt.port = (uint16_t)parse_u64(optarg, "port");
		else if (o == 'w')
			opt.window = (unsigned)parse_u64(optarg, "window");
		else if (o == 'T')
			opt.timeout_s = (unsigned)parse_u64(optarg, "timeout");
		else if (o == 'g')
			opt.guests = (unsigned)parse_u64(optarg, "guests");
		else if (o == 's')
			opt.seed = parse_u64(optarg, "seed");
		else
			die("usage: mqtt_order [--host A] [--port N] [--messages N] [--window N]\n"
			    "  [--timeout S] [--guests N] [--seed N]");
	}
	if (!opt.messages || !opt.window || opt.window > WINDOW_MAX || opt.guests > GUESTS)
		die("mqtt_order: messages and window at least 1, window at most %u, guests at most "
		    "%u",
		    WINDOW_MAX, GUESTS);
}

int main(int argc, char **argv)
{
	uint64_t begin = now_ns();

	parse_args(argc, argv);
	setup();
	run();
	printf("{\"ok\":%s,\"messages\":%llu,\"delivered\":%llu,\"guest_lives\":%llu,\"taken_"
	       "over\":%llu,"
	       "\"retained\":%llu,\"seconds\":%.1f,\"error\":\"%s\"}\n",
	       why[0] ? "false" : "true", (unsigned long long)published,
	       (unsigned long long)delivered, (unsigned long long)guest_lives,
	       (unsigned long long)taken_over, (unsigned long long)retained_seen,
	       (double)(now_ns() - begin) / 1e9, why);
	return why[0] ? 1 : 0;
}
