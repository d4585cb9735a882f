// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/progs/lib/util.c tests/progs/lib/mqtt.c common/hist.c */
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
#include <errno.h>
#include <getopt.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/if_ether.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/progs/lib/mqtt.h"
#include "tests/progs/lib/util.h"

#define TOPIC      "bench/fan-out1"
#define FRAME_MAX  512u
#define BATCH      256u
#define PORTS      65536u
#define RESEND_NS  200000000ull
#define FIRST_SEQ  1000u
#define RING_BYTES (32 * 1024 * 1024)

struct frame {
	struct ether_header eth;
	struct iphdr ip;
	struct tcphdr tcp;
	uint8_t data[];
} __attribute__((packed));

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
static int sock;
static struct frame *head; /* Ethernet and IP of what we send */
static uint8_t batch[BATCH][FRAME_MAX];
static uint32_t sent_to =
	FIRST_SEQ + 1; /* sequence number behind the last blast, the same for all */
static uint64_t resent;

static uint32_t sum16(const void *p, size_t n, uint32_t sum)
{
	const uint8_t *b = p;

	for (size_t i = 0; i + 1 < n; i += 2)
		sum += (uint32_t)b[i] << 8 | b[i + 1];
	return n & 1 ? sum + ((uint32_t)b[n - 1] << 8) : sum;
}

static uint16_t fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

/* Bytes of the frame to a client port, checksums included; its data is in place already. */
static size_t finish(struct frame *f, uint16_t to, uint32_t seq, uint8_t flags, size_t len)
{
	struct {
		uint32_t src, dst;
		uint16_t proto, len;
	} pseudo;
	const size_t tcp_len = sizeof(f->tcp) + len;

	memcpy(f, head, offsetof(struct frame, tcp));
	memset(&f->tcp, 0, sizeof(f->tcp));
	f->ip.tot_len = htons((uint16_t)(sizeof(f->ip) + tcp_len));
	f->ip.check = 0;
	f->ip.check = fold(sum16(&f->ip, sizeof(f->ip), 0));
	f->tcp.source = htons(opt.port);
	f->tcp.dest = htons(to);
	f->tcp.seq = htonl(seq);
	f->tcp.ack_seq = htonl(peers[to].next_rx);
	f->tcp.doff = sizeof(f->tcp) / 4;
	f->tcp.th_flags = flags;
	f->tcp.window = htons(65000);
	pseudo.src = f->ip.saddr;
	pseudo.dst = f->ip.daddr;
	pseudo.proto = htons(IPPROTO_TCP);
	pseudo.len = htons((uint16_t)tcp_len);
	f->tcp.check = fold(sum16(&f->tcp, tcp_len, sum16(&pseudo, sizeof(pseudo), 0)));
	return sizeof(*f) + len;
}

static void send_one(uint16_t to, uint32_t seq, uint8_t flags)
{
	struct frame *f = (struct frame *)batch[0];

	if (send(sock, f, finish(f, to, seq, flags, 0), 0) < 0)
		die("send: %m");
}

static void on_frame(struct frame *f, size_t n)
{
	uint16_t from;
	struct peer *p;

	if (n < sizeof(*f) || f->eth.ether_type != htons(ETHERTYPE_IP) ||
	    f->ip.protocol != IPPROTO_TCP || f->ip.ihl != 5 || ntohs(f->tcp.dest) != opt.port)
		return;
	from = ntohs(f->tcp.source);
	p = &peers[from];
	if (f->tcp.th_flags & TH_SYN) {
		memcpy(head->eth.ether_dhost, f->eth.ether_shost, ETH_ALEN);
		head->ip.daddr = f->ip.saddr;
		p->next_rx = ntohl(f->tcp.seq) + 1;
		send_one(from, FIRST_SEQ, TH_SYN | TH_ACK);
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
	struct pollfd pfd = {sock, POLLIN, 0};
	uint8_t buf[2048];
	ssize_t n;

	if (poll(&pfd, 1, ms) <= 0)
		return;
	while ((n = recv(sock, buf, sizeof(buf), MSG_DONTWAIT)) > 0)
		on_frame((struct frame *)buf, (size_t)n);
}

/* One segment to each client that has not acknowledged up to end. */
static void blast(uint32_t seq, const uint8_t *data, size_t len)
{
	static struct mmsghdr msgs[BATCH];
	static struct iovec iov[BATCH];

	for (unsigned i = 0; i < established;) {
		unsigned n = 0;

		for (; n < BATCH && i < established; i++) {
			struct frame *f = (struct frame *)batch[n];

			if (peers[ports[i]].acked == seq + len)
				continue;
			memcpy(f->data, data, len);
			iov[n].iov_base = f;
			iov[n].iov_len = finish(f, ports[i], seq, TH_ACK | TH_PUSH, len);
			msgs[n].msg_hdr.msg_iov = &iov[n];
			msgs[n].msg_hdr.msg_iovlen = 1;
			n++;
		}
		for (unsigned done = 0; done < n;) {
			int rc = sendmmsg(sock, msgs + done, n - done, 0);

			if (rc < 0 && errno != ENOBUFS)
				die("sendmmsg: %m");
			done += rc > 0 ? (unsigned)rc : 0;
		}
	}
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
	const struct mq_publish m = {.topic = (const uint8_t *)TOPIC,
				     .topic_len = strlen(TOPIC),
				     .payload_len = opt.size};
	uint8_t data[FRAME_MAX];
	size_t n = mq_put_publish(data, 4, &m);
	uint32_t seq = sent_to;
	uint64_t now = now_ns(), next = now + opt.interval_us * 1000ull, again = now + RESEND_NS;

	memset(data + n, 'x', opt.size);
	memcpy(data + n, &number, sizeof(number));
	memcpy(data + n + sizeof(number), &now, sizeof(now));
	n += opt.size;
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

static void setup(void)
{
	struct sockaddr_ll ll = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP)};
	int ring = RING_BYTES, one = 1;
	struct ifreq ifr = {0};

	sock = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", opt.interface);
	ports = calloc(opt.clients, sizeof(*ports));
	head = calloc(1, sizeof(*head));
	if (sock < 0 || !ports || !head || ioctl(sock, SIOCGIFHWADDR, &ifr) < 0)
		die("interface %s: %m", opt.interface);
	memcpy(head->eth.ether_shost, ifr.ifr_hwaddr.sa_data, ETH_ALEN);
	head->eth.ether_type = htons(ETHERTYPE_IP);
	head->ip.version = 4;
	head->ip.ihl = 5;
	head->ip.ttl = 64;
	head->ip.protocol = IPPROTO_TCP;
	head->ip.frag_off = htons(IP_DF);
	if (inet_pton(AF_INET, opt.address, &head->ip.saddr) != 1)
		die("not an IPv4 address: %s", opt.address);
	ll.sll_ifindex = (int)if_nametoindex(opt.interface);
	setsockopt(sock, SOL_SOCKET, SO_RCVBUFFORCE, &ring, sizeof(ring));
	setsockopt(sock, SOL_SOCKET, SO_SNDBUFFORCE, &ring, sizeof(ring));
	setsockopt(sock, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one));
	setsockopt(sock, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one));
	if (bind(sock, (struct sockaddr *)&ll, sizeof(ll)) < 0)
		die("bind to %s: %m", opt.interface);
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
	setup();
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
