// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/progs/lib/util.c tests/progs/lib/mqtt.c tests/progs/lib/hist.c bench/lib/fan_out.c
 * bench/lib/raw_tcp.c */
/*
 * Floor of any fan-out to kernel clients: N segments, each one PUBLISH, blasted with sendmmsg over
 * AF_PACKET.  Answers the SYNs of N kernel clients (`mqtt_load --raw`) itself with the least TCP
 * that they accept, then sends one segment per connection every --interval-us and waits until all
 * have ACKed it. The time of a blast is in every payload; the clients measure to the last read.
 *
 * The interface must have no address of its own in this namespace, or the kernel would answer too;
 * the clients' namespace needs a permanent neighbour entry for --address.  State: one line per
 * client port.
 */
#include <arpa/inet.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/lib/fan_out.h"
#include "bench/lib/raw_tcp.h"
#include "tests/progs/lib/util.h"

#define PORTS     65536u
#define RESEND_NS 200000000ull
#define FIRST_SEQ 1000u

struct peer {
	uint32_t next_rx; /* what we acknowledge */
	uint32_t acked;   /* what it has acknowledged */
	bool established;
};

static struct {
	const char *interface, *address;
	uint16_t port;
	unsigned clients, rounds, size, interval_us, timeout_s;
} opt = {"srv0", "10.99.0.1", 1883, 100, 210, 64, 20000, 60};

static struct peer peers[PORTS]; /* by client port */
static uint16_t *ports;          /* those that are established */
static unsigned established;
static struct raw_head head;
static struct raw_batch out;
static uint32_t sent_to =
	FIRST_SEQ + 1; /* sequence number behind the last blast, the same for all */
static uint64_t resent;

/* Queues a segment to a client port. */
static void put(uint16_t to, uint32_t seq, uint8_t flags, const uint8_t *data, size_t len)
{
	const struct raw_segment s = {opt.port, to, seq, peers[to].next_rx, flags};
	struct raw_frame *f = raw_next(&out);

	if (len)
		memcpy(f->data, data, len);
	raw_push(&out, raw_finish(f, &head, &s, len));
}

static void on_frame(const struct raw_frame *f, size_t n)
{
	uint16_t from;
	struct peer *p;

	if (n < sizeof(*f) || f->eth.ether_type != htons(ETHERTYPE_IP) ||
	    f->ip.protocol != IPPROTO_TCP || f->ip.ihl != 5 || ntohs(f->tcp.dest) != opt.port)
		return;
	from = ntohs(f->tcp.source);
	p = &peers[from];
	if (f->tcp.th_flags & TH_SYN) {
		memcpy(head.eth.ether_dhost, f->eth.ether_shost, ETH_ALEN);
		head.ip.daddr = f->ip.saddr;
		p->next_rx = ntohl(f->tcp.seq) + 1;
		put(from, FIRST_SEQ, TH_SYN | TH_ACK, NULL, 0);
		raw_flush(&out);
		return;
	}
	if (!(f->tcp.th_flags & TH_ACK))
		return;
	p->acked = ntohl(f->tcp.ack_seq);
	if (!p->established && p->acked == FIRST_SEQ + 1 && established < opt.clients) {
		p->established = true;
		ports[established++] = from;
	}
}

/* Takes what has arrived; waits for at most ms. */
static void receive(int ms)
{
	struct pollfd pfd = {out.fd, POLLIN, 0};
	uint8_t buf[2048];
	ssize_t n;

	if (poll(&pfd, 1, ms) <= 0)
		return;
	while ((n = recv(out.fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0)
		on_frame((const struct raw_frame *)buf, (size_t)n);
}

/* One segment to each client that has not acknowledged up to end. */
static void blast(uint32_t seq, const uint8_t *data, size_t len)
{
	for (unsigned i = 0; i < established; i++) {
		if (peers[ports[i]].acked != seq + len)
			put(ports[i], seq, TH_ACK | TH_PUSH, data, len);
	}
	raw_flush(&out);
}

static bool all_acked(void)
{
	for (unsigned i = 0; i < established; i++) {
		if (peers[ports[i]].acked != sent_to)
			return false;
	}
	return true;
}

static void round_run(uint64_t number)
{
	uint8_t data[RAW_FRAME_MAX];
	uint32_t seq = sent_to;
	uint64_t now = now_ns(), next = now + opt.interval_us * 1000ull, again = now + RESEND_NS;
	const uint64_t stamp[2] = {number, now};
	size_t n = fan_out_publish(data, stamp, sizeof(stamp), opt.size);

	sent_to = seq + (uint32_t)n;
	blast(seq, data, n);
	while (!all_acked()) {
		receive(1);
		if (now_ns() > again) {
			blast(seq, data, n);
			resent++;
			again += RESEND_NS;
		}
	}
	while ((now = now_ns()) < next)
		receive((int)((next - now) / 1000000u));
}

static void parse_args(int argc, char **argv)
{
	static const struct option longs[] = {
		{"interface", 1, NULL, 'I'}, {"address", 1, NULL, 'a'},     {"port", 1, NULL, 'p'},
		{"clients", 1, NULL, 's'},   {"rounds", 1, NULL, 'r'},      {"size", 1, NULL, 'b'},
		{"timeout", 1, NULL, 'T'},   {"interval-us", 1, NULL, 'i'}, {NULL, 0, NULL, 0}};
	unsigned *const numbers[128] = {['s'] = &opt.clients,
					['r'] = &opt.rounds,
					['b'] = &opt.size,
					['T'] = &opt.timeout_s,
					['i'] = &opt.interval_us};
	int o;

	while ((o = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (o == 'I')
			opt.interface = optarg;
		else if (o == 'a')
			opt.address = optarg;
		else if (o == 'p')
			opt.port = (uint16_t)parse_u64(optarg, "port");
		else if (o > 0 && o < 128 && numbers[o])
			*numbers[o] = (unsigned)parse_u64(optarg, "option");
		else
			die("mqtt_floor: see the head of bench/mqtt_floor.c");
	}
	if (!opt.clients || opt.clients > 60000 || opt.size < 16 || opt.size > 256)
		die("mqtt_floor: 1 to 60000 clients, size 16 to 256");
}

int main(int argc, char **argv)
{
	uint64_t limit;

	parse_args(argc, argv);
	ports = calloc(opt.clients, sizeof(*ports));
	if (!ports)
		die("out of memory");
	out.fd = raw_open(opt.interface, opt.address, &head);
	alarm(opt.timeout_s);
	limit = now_ns() + opt.timeout_s * 1000000000ull;
	puts("ready");
	fflush(stdout);
	while (established < opt.clients && now_ns() < limit)
		receive(100);
	for (uint64_t i = 0; i < opt.rounds; i++)
		round_run(i);
	fprintf(stderr, "%u clients, %u rounds, %llu blasts repeated\n", established, opt.rounds,
		(unsigned long long)resent);
	return 0;
}
