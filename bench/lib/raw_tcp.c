// SPDX-License-Identifier: BSD-3-Clause
/*
 * TCP segments over AF_PACKET, see raw_tcp.h.  State: the caller's.
 */
#include "bench/lib/raw_tcp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "tests/progs/lib/util.h"

#define SOCKET_BYTES (32 * 1024 * 1024)

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

size_t raw_finish(struct raw_frame *f, const struct raw_head *head, const struct raw_segment *s,
		  size_t len)
{
	struct {
		uint32_t src, dst;
		uint16_t proto, len;
	} pseudo;
	const size_t tcp_len = sizeof(f->tcp) + len;

	f->eth = head->eth;
	f->ip = head->ip;
	f->ip.tot_len = htons((uint16_t)(sizeof(f->ip) + tcp_len));
	f->ip.check = 0;
	f->ip.check = fold(sum16(&f->ip, sizeof(f->ip), 0));
	memset(&f->tcp, 0, sizeof(f->tcp));
	f->tcp.source = htons(s->from);
	f->tcp.dest = htons(s->to);
	f->tcp.seq = htonl(s->seq);
	f->tcp.ack_seq = htonl(s->ack);
	f->tcp.doff = sizeof(f->tcp) / 4;
	f->tcp.th_flags = s->flags;
	f->tcp.window = htons(65000);
	pseudo.src = f->ip.saddr;
	pseudo.dst = f->ip.daddr;
	pseudo.proto = htons(IPPROTO_TCP);
	pseudo.len = htons((uint16_t)tcp_len);
	f->tcp.check = fold(sum16(&f->tcp, tcp_len, sum16(&pseudo, sizeof(pseudo), 0)));
	return sizeof(*f) + len;
}

struct raw_frame *raw_next(struct raw_batch *b)
{
	if (b->n == RAW_BATCH)
		raw_flush(b);
	return (struct raw_frame *)b->frames[b->n];
}

void raw_push(struct raw_batch *b, size_t len)
{
	b->len[b->n++] = len;
}

void raw_flush(struct raw_batch *b)
{
	static struct mmsghdr msgs[RAW_BATCH];
	static struct iovec iov[RAW_BATCH];

	for (unsigned i = 0; i < b->n; i++) {
		iov[i].iov_base = b->frames[i];
		iov[i].iov_len = b->len[i];
		msgs[i].msg_hdr.msg_iov = &iov[i];
		msgs[i].msg_hdr.msg_iovlen = 1;
	}
	for (unsigned done = 0; done < b->n;) {
		int rc = sendmmsg(b->fd, msgs + done, b->n - done, 0);

		if (rc < 0 && errno != ENOBUFS)
			die("sendmmsg: %m");
		done += rc > 0 ? (unsigned)rc : 0;
	}
	b->n = 0;
}

int raw_open(const char *interface, const char *address, struct raw_head *head)
{
	struct sockaddr_ll ll = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
	int bytes = SOCKET_BYTES, one = 1;
	struct ifreq ifr = {0};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", interface);
	if (fd < 0 || ioctl(fd, SIOCGIFHWADDR, &ifr) < 0)
		die("interface %s: %m", interface);
	memset(head, 0, sizeof(*head));
	memcpy(head->eth.ether_shost, ifr.ifr_hwaddr.sa_data, ETH_ALEN);
	head->eth.ether_type = htons(ETHERTYPE_IP);
	head->ip.version = 4;
	head->ip.ihl = 5;
	head->ip.ttl = 64;
	head->ip.protocol = IPPROTO_TCP;
	head->ip.frag_off = htons(IP_DF);
	if (inet_pton(AF_INET, address, &head->ip.saddr) != 1)
		die("not an IPv4 address: %s", address);
	ll.sll_ifindex = (int)if_nametoindex(interface);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes));
	setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes));
	setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one));
	setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&ll, sizeof(ll)) < 0)
		die("bind to %s: %m", interface);
	return fd;
}
