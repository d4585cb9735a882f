// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/progs/lib/util.c tests/progs/lib/mqtt.c tests/progs/lib/hist.c bench/lib/raw_tcp.c
 * LINK: bench/lib/cpu_watch.c bench/lib/fan_out.c */
/*
 * MQTT 3.1.1 fan-out seen from the wire: from the PUBLISH leaving the publisher to the last of N
 * copies arriving at the subscribers' interface, without a TCP stack or a read() of theirs in
 * between.
 *
 * N subscribers and a publisher are a few variables each and speak the least TCP that a server
 * accepts, over a packet socket.  Frames come in blocks (TPACKET_V3), each with the time at which
 * it arrived: a wake-up per frame would be in the sender's time.  Copies are acknowledged as a
 * client would that has nothing to say: each second segment of a connection at once, else later,
 * here when the last copy has come or after DELACK_NS (RFC 1122 4.2.3.2 allows 500 ms, Linux takes
 * 40).  One PUBLISH every --interval-us, QoS 0.  The kernel of this namespace has to drop segments
 * from the server's port (nft, ingress), or it would reset them.  A request or PUBLISH that is not
 * answered is sent again; a PUBLISH that was is late, and so are its copies: "retransmits" of the
 * result should be 0.  What the server still knows of an earlier run with these ports is reset
 * (RFC 9293 3.10.7.3, RFC 5961).  --raw: no MQTT handshake,
 * PUBLISHes come from whoever accepts (mqtt_floor).  --watch: CPU time of those processes.  One
 * JSON line; exit code 0 only if every copy came.
 */
#include <arpa/inet.h>
#include <getopt.h>
#include <linux/if_packet.h>
#include <netinet/ether.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "bench/lib/cpu_watch.h"
#include "bench/lib/fan_out.h"
#include "bench/lib/raw_tcp.h"
#include "tests/progs/lib/mqtt.h"
#include "tests/progs/lib/util.h"

#define FIRST_PORT  10000u
#define PARALLEL    32u /* handshakes at once */
#define RESEND_NS   300000000ull
#define DELACK_NS   10000000ull
#define PAUSE_NS    50000
#define BLOCK_BYTES 65536u
#define BLOCKS      64u
#define BLOCK_MS    1u /* until a block that is not full is handed over */

enum state { IDLE, SYN_SENT, WAIT_CONNACK, WAIT_SUBACK, READY };

struct conn {
	enum state state;
	uint32_t request_seq; /* where the last request began */
	uint32_t snd_una;     /* kept up to date for the publisher only */
	uint32_t snd_nxt;
	uint32_t rcv_nxt;
	uint32_t bytes; /* of copies */
	uint64_t since; /* last request of the handshake */
	bool owed;      /* an ACK */
};

static struct {
	const char *interface, *address, *host, *mac;
	uint16_t port;
	unsigned subscribers, rounds, warmup, size, interval_us, timeout_s;
	bool raw;
} opt = {"cli0", "10.99.0.2", "10.99.0.1", "", 1883, 100, 200, 10, 64, 20000, 60, false};

static struct conn *conns;  /* subscribers, then the publisher */
static struct conn **owing; /* connections with an ACK to be sent, and some that have sent it */
static unsigned owing_n;
static uint64_t owing_since; /* the first of them */
static uint32_t *copies;     /* received, by number */
static uint64_t *sent_at, *first_at;
static unsigned total, started, ready, published, completed, all_rounds, retransmits;
static uint32_t first_seq;     /* another one in each run: an old connection's ACK must not fit */
static uint64_t unacked_since; /* the PUBLISH at snd_una was sent, or sent again */
static uint32_t copy_len;
static struct raw_head head;
static struct raw_batch out;
static uint8_t *ring;
static struct cpu_watch watch;
static struct toe_hist hist_last, hist_first, hist_spread;

/* The clock of the ring's time stamps. */
static uint64_t wall_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Queues a segment of the connection; data begins at seq. */
static void put(const struct conn *c, uint32_t seq, uint8_t flags, const uint8_t *data, size_t len)
{
	const struct raw_segment s = {(uint16_t)(FIRST_PORT + (unsigned)(c - conns)), opt.port, seq,
				      c->rcv_nxt, flags};
	struct raw_frame *f = raw_next(&out);

	if (len)
		memcpy(f->data, data, len);
	raw_push(&out, raw_finish(f, &head, &s, len));
}

static void ack(struct conn *c)
{
	c->owed = false;
	put(c, c->snd_nxt, TH_ACK, NULL, 0);
}

/* Behind the nth of many frames: not faster than links of many clients would bring them.  What the
 * queues of one interface do not hold is lost. */
static void breathe(unsigned n)
{
	const struct timespec pause = {.tv_nsec = PAUSE_NS};

	if (n % RAW_BATCH != RAW_BATCH - 1)
		return;
	raw_flush(&out);
	nanosleep(&pause, NULL);
}

static void ack_all(void)
{
	for (unsigned i = 0; i < owing_n; i++) {
		if (owing[i]->owed)
			ack(owing[i]);
		breathe(i);
	}
	owing_n = 0;
}

static void ack_later(struct conn *c)
{
	if (owing_n == total)
		ack_all();
	if (owing_n == 0)
		owing_since = now_ns();
	c->owed = true;
	owing[owing_n++] = c;
}

static bool is_publisher(const struct conn *c)
{
	return c == &conns[opt.subscribers];
}

/* What the state waits for an answer to; again if the answer is late. */
static void request(struct conn *c)
{
	uint8_t p[MQ_SMALL_BYTES];
	char id[MQ_NAME_MAX];
	size_t n = 0;

	c->since = now_ns();
	if (c->state == SYN_SENT) {
		c->request_seq = first_seq;
		c->snd_nxt = first_seq + 1;
		c->snd_una = c->snd_nxt;
		c->rcv_nxt = 0;
		put(c, first_seq, TH_SYN, NULL, 0);
		return;
	}
	if (c->state == WAIT_CONNACK) {
		snprintf(id, sizeof(id), "port-%d-%u", (int)getpid(), (unsigned)(c - conns));
		n = mq_put_connect(p, 4, id);
	} else if (c->state == WAIT_SUBACK) {
		n = mq_put_subscribe(p, 4, 1, FAN_OUT_TOPIC, 0);
	}
	put(c, c->request_seq, TH_ACK | TH_PUSH, p, n);
	c->snd_nxt = c->request_seq + (uint32_t)n;
}

static void enter(struct conn *c, enum state state)
{
	c->state = state;
	c->request_seq = c->snd_nxt;
	if (state == READY)
		ready++;
	else
		request(c);
}

/* The measured part begins behind the warm-up. */
static void on_copy(uint32_t number, uint64_t at)
{
	const bool counts = number >= opt.warmup;

	if (number >= (opt.raw ? all_rounds : published)) {
		fan_out_problem("more copies than messages", number, published);
		return;
	}
	copies[number]++;
	if (copies[number] == 1) {
		first_at[number] = at;
		if (counts && !opt.raw)
			toe_hist_add(&hist_first, at - sent_at[number]);
	}
	if (copies[number] < opt.subscribers)
		return;
	completed++;
	if (counts) {
		toe_hist_add(&hist_spread, at - first_at[number]);
		if (!opt.raw)
			toe_hist_add(&hist_last, at - sent_at[number]);
	}
	if (completed == opt.warmup)
		cpu_watch_begin(&watch);
	if (completed == all_rounds)
		cpu_watch_end(&watch);
}

static void on_data(struct conn *c, const uint8_t *data, size_t len, uint64_t at)
{
	uint32_t before = c->bytes / copy_len;

	switch (c->state) {
	case WAIT_CONNACK:
		if (len != 4 || data[0] != MQ_CONNACK << 4 || data[3] != 0)
			fan_out_problem("CONNACK", data[0], (long)len);
		enter(c, is_publisher(c) ? READY : WAIT_SUBACK);
		return;
	case WAIT_SUBACK:
		if (len != 5 || data[0] != MQ_SUBACK << 4 || data[4] != 0)
			fan_out_problem("SUBACK", data[0], (long)len);
		enter(c, READY);
		return;
	default:
		c->bytes += (uint32_t)len;
		for (; before < c->bytes / copy_len; before++)
			on_copy(before, at);
	}
}

/* RFC 9293 3.10.7.3.  Whatever fits to no SYN of ours is of an earlier run: reset it, try again. */
static void on_syn_sent(struct conn *c, const struct raw_frame *f)
{
	const bool fits = f->tcp.th_flags & TH_ACK && ntohl(f->tcp.ack_seq) == c->snd_nxt;

	if (!fits) {
		if (f->tcp.th_flags & TH_RST)
			return;
		put(c, ntohl(f->tcp.ack_seq), TH_RST, NULL, 0);
		request(c);
		return;
	}
	if (f->tcp.th_flags & TH_RST)
		fan_out_problem("connection refused", c - conns, f->tcp.th_flags);
	if (!(f->tcp.th_flags & TH_SYN) || fan_out_why[0])
		return;
	c->rcv_nxt = ntohl(f->tcp.seq) + 1;
	enter(c, opt.raw ? READY : WAIT_CONNACK);
	if (opt.raw)
		ack(c);
}

static void on_ack(struct conn *c, uint32_t ack_seq)
{
	if (ack_seq - c->snd_una > c->snd_nxt - c->snd_una)
		return;
	if (ack_seq != c->snd_una)
		unacked_since = now_ns();
	c->snd_una = ack_seq;
}

static void on_segment(struct conn *c, const struct raw_frame *f, size_t bytes, uint64_t at)
{
	size_t head_len = sizeof(f->eth) + sizeof(f->ip) + 4u * f->tcp.doff;
	size_t frame_len = sizeof(f->eth) + ntohs(f->ip.tot_len);
	uint32_t seq = ntohl(f->tcp.seq);
	bool in_order, may_wait;

	if (c->state == SYN_SENT) {
		on_syn_sent(c, f);
		return;
	}
	if (f->tcp.th_flags & (TH_RST | TH_FIN)) {
		fan_out_problem("connection lost", c - conns, f->tcp.th_flags);
		return;
	}
	if (f->tcp.th_flags & TH_SYN) { /* again: our ACK was lost */
		ack(c);
		return;
	}
	if (!opt.raw && is_publisher(c))
		on_ack(c, ntohl(f->tcp.ack_seq));
	if (frame_len > bytes || head_len >= frame_len)
		return;
	in_order = seq == c->rcv_nxt;
	may_wait = in_order && c->state == READY && !c->owed;
	if (in_order) {
		c->rcv_nxt += (uint32_t)(frame_len - head_len);
		on_data(c, (const uint8_t *)f + head_len, frame_len - head_len, at);
	}
	if (may_wait)
		ack_later(c);
	else
		ack(c);
}

static void on_frame(const struct raw_frame *f, size_t bytes, uint64_t at)
{
	unsigned index;

	if (bytes < sizeof(*f) || f->eth.ether_type != htons(ETHERTYPE_IP) ||
	    f->ip.protocol != IPPROTO_TCP || f->ip.ihl != 5 || ntohs(f->tcp.source) != opt.port)
		return;
	index = ntohs(f->tcp.dest) - FIRST_PORT;
	if (index < total && conns[index].state != IDLE)
		on_segment(&conns[index], f, bytes, at);
}

static void take_block(struct tpacket_block_desc *b)
{
	struct tpacket3_hdr *h = (void *)((uint8_t *)b + b->hdr.bh1.offset_to_first_pkt);

	for (uint32_t i = 0; i < b->hdr.bh1.num_pkts; i++) {
		on_frame((const void *)((uint8_t *)h + h->tp_mac), h->tp_snaplen,
			 (uint64_t)h->tp_sec * 1000000000u + h->tp_nsec);
		h = (void *)((uint8_t *)h + h->tp_next_offset);
	}
}

/* Takes the blocks there are; waits for at most ms if there is none. */
static void receive(int ms)
{
	static unsigned next;
	struct pollfd pfd = {out.fd, POLLIN, 0};

	for (bool first = true;; first = false) {
		struct tpacket_block_desc *b = (void *)(ring + (size_t)next * BLOCK_BYTES);

		/* pairs with the kernel's: the block is complete when the status says so */
		if (!(__atomic_load_n(&b->hdr.bh1.block_status, __ATOMIC_ACQUIRE) &
		      TP_STATUS_USER)) {
			if (owing_n != 0 &&
			    (completed == published || now_ns() - owing_since > DELACK_NS))
				ack_all();
			raw_flush(&out);
			if (!first || poll(&pfd, 1, ms) <= 0)
				return;
			continue;
		}
		take_block(b);
		__atomic_store_n(&b->hdr.bh1.block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
		next = (next + 1) % BLOCKS;
	}
}

static void publish(void)
{
	struct conn *c = &conns[opt.subscribers];
	uint8_t p[RAW_FRAME_MAX];
	size_t n = fan_out_publish(p, NULL, 0, opt.size);

	if (published == 0)
		c->snd_una = c->snd_nxt; /* the handshake is answered */
	if (c->snd_una == c->snd_nxt)
		unacked_since = now_ns();
	put(c, c->snd_nxt, TH_ACK | TH_PUSH, p, n);
	c->snd_nxt += (uint32_t)n;
	sent_at[published++] = wall_ns();
	raw_flush(&out);
}

/* The oldest PUBLISH that is not acknowledged, again after a fixed time.  All of them are alike. */
static void publish_again(void)
{
	struct conn *c = &conns[opt.subscribers];
	uint8_t p[RAW_FRAME_MAX];
	size_t n, skip;

	if (c->snd_una == c->snd_nxt || now_ns() - unacked_since < RESEND_NS)
		return;
	n = fan_out_publish(p, NULL, 0, opt.size);
	skip = (c->snd_una - c->request_seq) % n;
	put(c, c->snd_una, TH_ACK | TH_PUSH, p + skip, n - skip);
	unacked_since = now_ns();
	retransmits++;
	raw_flush(&out);
}

static void shake_hands(void)
{
	uint64_t now = now_ns();

	for (unsigned i = 0; i < started; i++) {
		if (conns[i].state != READY && now - conns[i].since > RESEND_NS)
			request(&conns[i]);
	}
	for (; started < total && started - ready < PARALLEL; started++)
		enter(&conns[started], SYN_SENT);
	raw_flush(&out);
}

static void run(void)
{
	uint64_t limit = now_ns() + opt.timeout_s * 1000000000ull, next = 0;

	while (!fan_out_why[0] && ready < total) {
		shake_hands();
		receive(10);
		if (now_ns() > limit)
			fan_out_problem("time is over: ready", ready, 0);
	}
	while (!fan_out_why[0] && completed < all_rounds) {
		uint64_t now = now_ns();

		if (!opt.raw && completed == published && now >= next) {
			next = now + opt.interval_us * 1000ull;
			publish();
		}
		if (!opt.raw)
			publish_again();
		receive(opt.raw || completed < published ? 100 : 1);
		if (now > limit)
			fan_out_problem("time is over: published, completed", published, completed);
	}
}

/* The server may forget them, so that the next run can use the ports. */
static void reset_all(void)
{
	for (unsigned i = 0; i < started; i++) {
		put(&conns[i], conns[i].snd_nxt, TH_RST | TH_ACK, NULL, 0);
		breathe(i);
	}
	raw_flush(&out);
}

static void map_ring(void)
{
	struct tpacket_req3 req = {.tp_block_size = BLOCK_BYTES,
				   .tp_block_nr = BLOCKS,
				   .tp_frame_size = BLOCK_BYTES,
				   .tp_frame_nr = BLOCKS,
				   .tp_retire_blk_tov = BLOCK_MS};
	int version = TPACKET_V3;

	if (setsockopt(out.fd, SOL_PACKET, PACKET_VERSION, &version, sizeof(version)) < 0 ||
	    setsockopt(out.fd, SOL_PACKET, PACKET_RX_RING, &req, sizeof(req)) < 0)
		die("packet ring: %m");
	ring = mmap(NULL, (size_t)BLOCKS * BLOCK_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, out.fd,
		    0);
	if (ring == MAP_FAILED)
		die("packet ring: %m");
}

static void setup(void)
{
	struct ether_addr *mac = ether_aton(opt.mac);

	all_rounds = opt.warmup + opt.rounds;
	first_seq = (uint32_t)(wall_ns() >> 12); /* moves on faster than one run's bytes */
	copy_len = (uint32_t)(4 + strlen(FAN_OUT_TOPIC) + opt.size);
	total = opt.subscribers + (opt.raw ? 0 : 1);
	conns = calloc(total, sizeof(*conns));
	owing = calloc(total, sizeof(struct conn *));
	copies = calloc(all_rounds, sizeof(*copies));
	sent_at = calloc(all_rounds, sizeof(*sent_at));
	first_at = calloc(all_rounds, sizeof(*first_at));
	if (!conns || !owing || !copies || !sent_at || !first_at)
		die("out of memory");
	out.fd = raw_open(opt.interface, opt.address, &head);
	if (!mac || inet_pton(AF_INET, opt.host, &head.ip.daddr) != 1)
		die("--mac and --host name the server");
	memcpy(head.eth.ether_dhost, mac, ETH_ALEN);
	map_ring();
	toe_hist_reset(&hist_last);
	toe_hist_reset(&hist_first);
	toe_hist_reset(&hist_spread);
}

static void parse_args(int argc, char **argv)
{
	static const struct option longs[] = {
		{"interface", 1, NULL, 'I'}, {"address", 1, NULL, 'a'},
		{"host", 1, NULL, 'h'},      {"mac", 1, NULL, 'm'},
		{"port", 1, NULL, 'p'},      {"subscribers", 1, NULL, 's'},
		{"rounds", 1, NULL, 'r'},    {"warmup", 1, NULL, 'u'},
		{"size", 1, NULL, 'b'},      {"watch", 1, NULL, 'W'},
		{"timeout", 1, NULL, 'T'},   {"interval-us", 1, NULL, 'i'},
		{"raw", 0, NULL, 'R'},       {NULL, 0, NULL, 0}};
	const char **const texts[128] = {
		['I'] = &opt.interface, ['a'] = &opt.address, ['h'] = &opt.host, ['m'] = &opt.mac};
	unsigned *const numbers[128] = {
		['s'] = &opt.subscribers, ['r'] = &opt.rounds,    ['u'] = &opt.warmup,
		['b'] = &opt.size,        ['T'] = &opt.timeout_s, ['i'] = &opt.interval_us};
	int o;

	while ((o = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (o == 'W')
			cpu_watch_parse(&watch, optarg);
		else if (o == 'R')
			opt.raw = true;
		else if (o == 'p')
			opt.port = (uint16_t)parse_u64(optarg, "port");
		else if (o > 0 && o < 128 && texts[o])
			*texts[o] = optarg;
		else if (o > 0 && o < 128 && numbers[o])
			*numbers[o] = (unsigned)parse_u64(optarg, "option");
		else
			die("mqtt_port: see the head of bench/mqtt_port.c");
	}
	/* one byte of remaining length: copy_len counts on it */
	if (!opt.subscribers || opt.subscribers > 50000 || !opt.rounds || !opt.warmup ||
	    !opt.size || opt.size > 100)
		die("mqtt_port: 1 to 50000 subscribers, rounds and warmup at least 1, size 1 to "
		    "100");
}

int main(int argc, char **argv)
{
	parse_args(argc, argv);
	setup();
	run();
	reset_all();
	printf("{\"ok\":%s,\"subscribers\":%u,\"rounds\":%u,\"per_s\":0,\"retransmits\":%u",
	       fan_out_why[0] ? "false" : "true", opt.subscribers, opt.rounds, retransmits);
	print_hist_us("last_us", &hist_last);
	print_hist_us("first_us", &hist_first);
	print_hist_us("spread_us", &hist_spread);
	cpu_watch_print(&watch, (double)opt.subscribers * opt.rounds);
	printf(",\"error\":\"%s\"}\n", fan_out_why);
	return fan_out_why[0] ? 1 : 0;
}
