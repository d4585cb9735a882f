// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/progs/lib/util.c tests/progs/lib/hist.c */
/*
 * Sends --count frames of one kind of attack out of an interface, as fast as --rate allows, and
 * ends: what a stranger who can forge addresses, but does not see the traffic, can do to an engine.
 *
 * Frames go to --to (address, port and MAC).  The kinds that are about a connection pretend to come
 * from
 * --from, its peer; the others from anywhere in 198.18.0.0/15 (RFC 2544).  Every number in them
 * comes from
 * --seed.  Prints how many left; exit code 0 if all did.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/if_ether.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/bytes.h"
#include "tests/progs/lib/util.h"

#define SYN 0x02u
#define RST 0x04u
#define ACK 0x10u

#define ETH        14u
#define IP         20u
#define TCP        20u
#define FRAME_MAX  1514u
#define NOBODY     0xc6120000u /* 198.18.0.0/15 */
#define BURST      32u
#define OPTION_MAX 40u

struct spec {
	uint32_t src;
	uint16_t sport;
	uint8_t flags;
	uint32_t payload;
	uint8_t options[OPTION_MAX];
	unsigned option_n; /* multiple of 4 */
};

typedef void make_fn(struct spec *s);
typedef uint32_t twist_fn(uint8_t *frame, uint32_t len);

static struct {
	const char *interface;
	uint32_t to, from;
	uint16_t to_port, from_port;
	uint8_t mac[ETH_ALEN];
	unsigned count, rate;
	uint64_t seed;
} opt = {.count = 1000, .rate = 20000, .seed = 1};

static uint64_t rng;

static uint32_t any(uint32_t below)
{
	return (uint32_t)(rng_next(&rng) >> 32) % below;
}

static uint32_t sum16(const uint8_t *p, uint32_t len)
{
	uint32_t sum = 0;

	for (uint32_t i = 0; i < len; i++)
		sum += i & 1 ? p[i] : (uint32_t)p[i] << 8;
	return sum;
}

static uint32_t fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return ~sum & 0xffff;
}

static void ip_sum(uint8_t *ip)
{
	toe_put16(ip + 10, 0);
	toe_put16(ip + 10, fold(sum16(ip, IP)));
}

static void tcp_sum(uint8_t *ip, uint32_t len)
{
	toe_put16(ip + IP + 16, 0);
	toe_put16(ip + IP + 16, fold(sum16(ip + 12, 8 + len) + 6 + len));
}

static void header(uint8_t *frame, uint32_t len, uint32_t src, uint8_t protocol)
{
	uint8_t *ip = frame + ETH;

	memset(frame, 0, ETH + IP);
	memcpy(frame, opt.mac, ETH_ALEN);
	frame[6] = 2;
	frame[11] = 0x66;
	frame[12] = 8;
	ip[0] = 0x45;
	toe_put16(ip + 2, len - ETH);
	toe_put16(ip + 4, any(65536));
	ip[8] = 64;
	ip[9] = protocol;
	toe_put32(ip + 12, src);
	toe_put32(ip + 16, opt.to);
	ip_sum(ip);
}

static uint32_t tcp_frame(uint8_t *frame, const struct spec *s)
{
	uint32_t tcp_len = TCP + s->option_n + s->payload;
	uint8_t *tcp = frame + ETH + IP;

	header(frame, ETH + IP + tcp_len, s->src, 6);
	toe_put16(tcp, s->sport);
	toe_put16(tcp + 2, opt.to_port);
	toe_put32(tcp + 4, (uint32_t)rng_next(&rng));
	toe_put32(tcp + 8, s->flags & ACK ? (uint32_t)rng_next(&rng) : 0);
	tcp[12] = (uint8_t)((TCP + s->option_n) / 4 << 4);
	tcp[13] = s->flags;
	toe_put16(tcp + 14, any(65536));
	toe_put16(tcp + 18, 0);
	memcpy(tcp + TCP, s->options, s->option_n);
	memset(tcp + TCP + s->option_n, 'x', s->payload);
	tcp_sum(frame + ETH, tcp_len);
	return ETH + IP + tcp_len;
}

/* ---- what is sent ---- */

static void from_anywhere(struct spec *s)
{
	s->src = NOBODY + any(1 << 17);
	s->sport = (uint16_t)(1024 + any(64512));
}

static void make_syn(struct spec *s)
{
	static const uint8_t options[] = {2, 4, 5, 0xb4, 1, 1, 4, 2, 1, 3, 3, 7};

	from_anywhere(s);
	s->flags = SYN;
	memcpy(s->options, options, sizeof(options));
	s->option_n = sizeof(options);
}

/* Final ACKs of handshakes that never were: cookies nobody gave out. */
static void make_ack(struct spec *s)
{
	from_anywhere(s);
	s->flags = ACK;
	s->payload = any(2) * 10;
}

static void make_rst(struct spec *s)
{
	s->flags = RST | (any(2) ? ACK : 0);
}

static void make_syn_in_flight(struct spec *s)
{
	s->flags = SYN | (any(2) ? ACK : 0);
}

static void make_data(struct spec *s)
{
	s->flags = ACK;
	s->payload = 1 + any(1000);
}

static void make_flags(struct spec *s)
{
	if (any(2))
		from_anywhere(s);
	s->flags = (uint8_t)any(256);
	s->payload = any(3) * 10;
}

static void make_options(struct spec *s)
{
	if (any(2))
		from_anywhere(s);
	s->flags = any(2) ? SYN : ACK;
	s->option_n = 4 * any(OPTION_MAX / 4 + 1);
	for (unsigned i = 0; i < s->option_n; i++)
		s->options[i] = (uint8_t)(any(2) ? any(9) : any(256));
}

/* LAND, and addresses that cannot be a source (RFC 9293 MUST-57). */
static void make_addresses(struct spec *s)
{
	static const uint32_t wrong[] = {0xffffffff, 0xe0000005, 0x7f000001, 0x00000001};
	uint32_t i = any(5);

	s->src = i < 4 ? wrong[i] : opt.to;
	s->sport = i < 4 ? (uint16_t)any(65536) : opt.to_port;
	s->flags = any(2) ? SYN : RST;
}

/* A header that says something else than is there. */
static uint32_t twist_lengths(uint8_t *frame, uint32_t len)
{
	uint8_t *ip = frame + ETH;

	switch (any(5)) {
	case 0:
		ip[0] = (uint8_t)(0x40 | any(5));
		break;
	case 1:
		toe_put16(ip + 2, any(2) ? any(IP) : len - ETH + 1 + any(60000));
		break;
	case 2:
		ip[IP + 12] = (uint8_t)(any(5) << 4);
		break;
	case 3:
		ip[IP + 12] = 0xf0; /* 60 bytes: more than there are */
		break;
	default:
		return ETH + any(len - ETH);
	}
	ip_sum(ip);
	return len;
}

static uint32_t twist_sums(uint8_t *frame, uint32_t len)
{
	uint8_t *tcp = frame + ETH + IP;

	switch (any(4)) {
	case 0:
		toe_put16(tcp + 16, 0);
		break;
	case 1:
		tcp[16] = (uint8_t)~tcp[16];
		tcp[17] = (uint8_t)~tcp[17];
		break;
	case 2: /* the pseudo header's alone, as for a device that would do the rest */
		toe_put16(tcp + 16, ~fold(sum16(frame + ETH + 12, 8) + 6 + len - ETH - IP));
		break;
	default:
		frame[ETH + 10] ^= 0x55;
	}
	return len;
}

static uint32_t twist_fragment(uint8_t *frame, uint32_t len)
{
	uint8_t *ip = frame + ETH;

	toe_put16(ip + 6, (any(2) ? 0x2000 : 0) | (1 + any(8191)));
	if (any(4) == 0)
		toe_put16(ip + 6, 0x2000); /* the first */
	ip_sum(ip);
	return len;
}

/* An ICMP error about a segment the engine never sent. */
static uint32_t twist_icmp(uint8_t *frame, uint32_t len)
{
	static const uint8_t kinds[][2] = {{3, 4},  {3, 4}, {3, 0}, {3, 1},  {3, 2}, {3, 3},
					   {3, 13}, {4, 0}, {5, 1}, {11, 0}, {12, 0}};
	uint8_t *icmp = frame + ETH + IP, *quoted = icmp + 8;
	const uint8_t *kind = kinds[any(sizeof(kinds) / sizeof(kinds[0]))];

	(void)len;
	header(frame, ETH + IP + 8 + IP + 8, NOBODY + any(1 << 17), 1);
	memset(icmp, 0, 8 + IP + 8);
	icmp[0] = kind[0];
	icmp[1] = kind[1];
	toe_put16(icmp + 6, kind[1] == 4 ? any(2) ? 0 : 68 + any(1500) : 0);
	quoted[0] = 0x45;
	toe_put16(quoted + 2, 1500);
	quoted[8] = 60;
	quoted[9] = 6;
	toe_put32(quoted + 12, opt.to);
	toe_put32(quoted + 16, opt.from);
	ip_sum(quoted);
	toe_put16(quoted + IP, opt.to_port);
	toe_put16(quoted + IP + 2, opt.from_port);
	toe_put32(quoted + IP + 4, (uint32_t)rng_next(&rng));
	toe_put16(icmp + 2, fold(sum16(icmp, 8 + IP + 8)));
	return ETH + IP + 8 + IP + 8;
}

static const struct kind {
	const char *name;
	make_fn *make;
	twist_fn *twist;
} kinds[] = {
	{"syn", make_syn, NULL},
	{"ack", make_ack, NULL},
	{"rst", make_rst, NULL},
	{"syn-in-flight", make_syn_in_flight, NULL},
	{"data", make_data, NULL},
	{"flags", make_flags, NULL},
	{"options", make_options, NULL},
	{"addresses", make_addresses, NULL},
	{"lengths", make_data, twist_lengths},
	{"checksums", make_data, twist_sums},
	{"fragments", make_data, twist_fragment},
	{"icmp", make_data, twist_icmp},
};

static uint32_t frame_make(uint8_t *frame, const struct kind *k)
{
	struct spec s = {.src = opt.from, .sport = opt.from_port};
	uint32_t len;

	k->make(&s);
	len = tcp_frame(frame, &s);
	return k->twist ? k->twist(frame, len) : len;
}

/* ---- out ---- */

static int port_open(void)
{
	struct sockaddr_ll sa = {.sll_family = AF_PACKET, .sll_protocol = 0};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

	sa.sll_ifindex = (int)if_nametoindex(opt.interface);
	if (fd < 0 || sa.sll_ifindex == 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		die("%s: %m", opt.interface);
	return fd;
}

/* Not before frame n is due. */
static void pace(uint64_t start_ns, unsigned n)
{
	uint64_t due = start_ns + (uint64_t)n * 1000000000u / opt.rate;
	struct timespec ts = {(time_t)(due / 1000000000u), (long)(due % 1000000000u)};

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

static unsigned attack(const struct kind *k)
{
	uint8_t frame[FRAME_MAX + 64] = {0};
	uint64_t start = now_ns();
	unsigned sent = 0;
	int fd = port_open();

	for (unsigned n = 0; n < opt.count; n++) {
		uint32_t len = frame_make(frame, k);

		if (n % BURST == 0)
			pace(start, n);
		while (send(fd, frame, len, 0) < 0) {
			if (errno != ENOBUFS && errno != EAGAIN)
				die("%s: %m", opt.interface);
			pace(now_ns() + 1000000, 0);
		}
		sent++;
	}
	close(fd);
	return sent;
}

static void parse_endpoint(char *text, uint32_t *addr, uint16_t *port)
{
	char *colon = strchr(text, ':');
	struct in_addr a;

	if (colon)
		*colon = '\0';
	if (!colon || inet_pton(AF_INET, text, &a) != 1)
		die("not ADDRESS:PORT: %s", text);
	*addr = ntohl(a.s_addr);
	*port = (uint16_t)parse_u64(colon + 1, "port");
}

static void parse_mac(const char *text)
{
	unsigned m[ETH_ALEN];

	if (sscanf(text, "%x:%x:%x:%x:%x:%x", &m[0], &m[1], &m[2], &m[3], &m[4], &m[5]) != 6)
		die("not a MAC address: %s", text);
	for (unsigned i = 0; i < ETH_ALEN; i++)
		opt.mac[i] = (uint8_t)m[i];
}

static void parse_args(int argc, char **argv)
{
	static const struct option longs[] = {{"interface", 1, NULL, 'i'}, {"to", 1, NULL, 't'},
					      {"from", 1, NULL, 'f'},      {"mac", 1, NULL, 'm'},
					      {"count", 1, NULL, 'n'},     {"rate", 1, NULL, 'r'},
					      {"seed", 1, NULL, 's'},      {NULL, 0, NULL, 0}};
	int o;

	while ((o = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (o) {
		case 'i':
			opt.interface = optarg;
			break;
		case 't':
			parse_endpoint(optarg, &opt.to, &opt.to_port);
			break;
		case 'f':
			parse_endpoint(optarg, &opt.from, &opt.from_port);
			break;
		case 'm':
			parse_mac(optarg);
			break;
		case 'n':
			opt.count = (unsigned)parse_u64(optarg, "--count");
			break;
		case 'r':
			opt.rate = (unsigned)parse_u64(optarg, "--rate");
			break;
		case 's':
			opt.seed = parse_u64(optarg, "--seed");
			break;
		default:
			die("usage: attacker --interface IF --mac MAC --to A:PORT --from A:PORT\n"
			    "  [--count N] [--rate PER_S] [--seed N] KIND");
		}
	}
	if (!opt.interface || !opt.to || !opt.rate || optind + 1 != argc)
		die("--interface, --mac, --to and one kind of attack are needed");
}

int main(int argc, char **argv)
{
	parse_args(argc, argv);
	rng = opt.seed * 0x9e3779b97f4a7c15ull + 1;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (strcmp(kinds[i].name, argv[optind]) != 0)
			continue;
		printf("{\"kind\":\"%s\",\"sent\":%u}\n", kinds[i].name, attack(&kinds[i]));
		return 0;
	}
	die("no attack of the kind '%s'", argv[optind]);
}
