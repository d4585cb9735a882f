/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Parses and builds control segments (SYN, SYN-ACK, ACK, RST) and reads ICMP errors.  Input comes
 * from the network: every length is checked against the frame.  No state.
 */
#include "frame.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#define ETH_BYTES    14u
#define IP4_MIN      20u
#define TCP_MIN      20u
#define IP4_DF       0x4000u
#define IP4_FRAG     0x3fffu /* more fragments, or an offset */
#define IP4_TTL      64u
#define ICMP_UNREACH 3u

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static void put32(uint8_t *p, uint32_t v)
{
	put16(p, v >> 16);
	put16(p + 2, v);
}

/* RFC 1071 sum, not folded. */
static uint64_t sum(const uint8_t *p, uint32_t len, uint64_t s)
{
	for (; len > 1; len -= 2, p += 2)
		s += get16(p);
	return len ? s + ((uint64_t)p[0] << 8) : s;
}

static uint16_t fold(uint64_t s)
{
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return (uint16_t)~s;
}

/* addrs: the two addresses of the IP header. */
static uint16_t tcp_cksum(const uint8_t *addrs, const uint8_t *tcp, uint32_t len)
{
	return fold(sum(tcp, len, sum(addrs, 8, IPPROTO_TCP + len)));
}

/* Options of RFC 9293 §3.1; unknown ones are skipped, a bad length ends the walk. */
static void parse_options(const uint8_t *p, uint32_t len, struct cp_seg *s)
{
	while (len) {
		uint32_t n;

		if (p[0] == 0)
			return;
		if (p[0] == 1) {
			p++;
			len--;
			continue;
		}
		if (len < 2 || p[1] < 2 || p[1] > len)
			return;
		n = p[1];
		if (p[0] == 2 && n == 4 && (s->flags & CP_TCP_SYN)) {
			s->opts |= CP_OPT_MSS;
			s->mss = get16(p + 2);
		} else if (p[0] == 3 && n == 3 && (s->flags & CP_TCP_SYN)) {
			s->opts |= CP_OPT_WS;
			s->wscale = p[2] > CP_WSCALE_MAX ? CP_WSCALE_MAX : p[2];
		} else if (p[0] == 4 && n == 2 && (s->flags & CP_TCP_SYN)) {
			s->opts |= CP_OPT_SACK;
		} else if (p[0] == 8 && n == 10) {
			s->opts |= CP_OPT_TS;
			s->ts_val = get32(p + 2);
			s->ts_ecr = get32(p + 6);
		}
		p += n;
		len -= n;
	}
}

/* Checks Ethernet and IP; returns the payload of IP and its length, NULL if it is not for us. */
static const uint8_t *parse_ip(const uint8_t *frame, uint32_t len, uint8_t proto, uint32_t *out_len)
{
	const uint8_t *ip = frame + ETH_BYTES;
	uint32_t hl;
	uint32_t total;

	if (len < ETH_BYTES + IP4_MIN || get16(frame + 12) != 0x0800 || ip[0] >> 4 != 4)
		return NULL;
	hl = (ip[0] & 15u) * 4u;
	total = get16(ip + 2);
	if (hl < IP4_MIN || total < hl || total > len - ETH_BYTES || ip[9] != proto ||
	    (get16(ip + 6) & IP4_FRAG))
		return NULL;
	if (fold(sum(ip, hl, 0)))
		return NULL;
	*out_len = total - hl;
	return ip + hl;
}

int cp_frame_parse(const uint8_t *frame, uint32_t len, struct cp_seg *s)
{
	const uint8_t *ip = frame + ETH_BYTES;
	const uint8_t *tcp;
	uint32_t tcp_len;
	uint32_t off;

	memset(s, 0, sizeof(*s));
	tcp = parse_ip(frame, len, IPPROTO_TCP, &tcp_len);
	if (!tcp || tcp_len < TCP_MIN)
		return -EPROTO;
	off = (tcp[12] >> 4) * 4u;
	if (off < TCP_MIN || off > tcp_len)
		return -EPROTO;
	if (tcp_cksum(ip + 12, tcp, tcp_len))
		return -EBADMSG;
	s->frame = frame;
	s->frame_len = len;
	s->src_mac = frame + 6;
	memcpy(&s->src, ip + 12, 4);
	memcpy(&s->dst, ip + 16, 4);
	s->sport = get16(tcp);
	s->dport = get16(tcp + 2);
	s->seq = get32(tcp + 4);
	s->ack = get32(tcp + 8);
	s->flags = tcp[13];
	s->wnd = get16(tcp + 14);
	s->payload_len = (uint16_t)(tcp_len - off);
	s->seg_len = s->payload_len + !!(s->flags & CP_TCP_SYN) + !!(s->flags & CP_TCP_FIN);
	parse_options(tcp + TCP_MIN, off - TCP_MIN, s);
	return 0;
}

/* In the order Linux uses, which middleboxes know best; returns bytes, a multiple of 4. */
static uint32_t build_options(uint8_t *p, const struct cp_build *b)
{
	uint8_t *start = p;

	if (b->opts & CP_OPT_MSS) {
		*p++ = 2;
		*p++ = 4;
		put16(p, b->mss);
		p += 2;
	}
	if (b->opts & CP_OPT_SACK) {
		*p++ = 4;
		*p++ = 2;
	}
	if (b->opts & CP_OPT_TS) {
		if (!(b->opts & CP_OPT_SACK)) {
			*p++ = 1;
			*p++ = 1;
		}
		*p++ = 8;
		*p++ = 10;
		put32(p, b->ts_val);
		put32(p + 4, b->ts_ecr);
		p += 8;
	} else if (b->opts & CP_OPT_SACK) {
		*p++ = 1;
		*p++ = 1;
	}
	if (b->opts & CP_OPT_WS) {
		*p++ = 1;
		*p++ = 3;
		*p++ = 3;
		*p++ = b->wscale;
	}
	return (uint32_t)(p - start);
}

uint32_t cp_frame_build(uint8_t *buf, const struct cp_build *b)
{
	uint8_t *ip = buf + ETH_BYTES;
	uint8_t *tcp = ip + IP4_MIN;
	uint32_t tcp_len;

	memset(buf, 0, ETH_BYTES + IP4_MIN + TCP_MIN);
	memcpy(buf, b->dst_mac, 6);
	memcpy(buf + 6, b->src_mac, 6);
	put16(buf + 12, 0x0800);
	tcp_len = TCP_MIN + build_options(tcp + TCP_MIN, b);
	ip[0] = 0x45;
	put16(ip + 2, IP4_MIN + tcp_len);
	put16(ip + 6, IP4_DF);
	ip[8] = IP4_TTL;
	ip[9] = IPPROTO_TCP;
	memcpy(ip + 12, &b->src, 4);
	memcpy(ip + 16, &b->dst, 4);
	put16(ip + 10, fold(sum(ip, IP4_MIN, 0)));
	put16(tcp, b->sport);
	put16(tcp + 2, b->dport);
	put32(tcp + 4, b->seq);
	put32(tcp + 8, b->ack);
	tcp[12] = (uint8_t)(tcp_len / 4 << 4);
	tcp[13] = b->flags;
	put16(tcp + 14, b->wnd);
	put16(tcp + 16, tcp_cksum(ip + 12, tcp, tcp_len));
	return ETH_BYTES + IP4_MIN + tcp_len;
}

uint32_t cp_frame_rst(uint8_t *buf, const struct cp_seg *s, const uint8_t *src_mac)
{
	struct cp_build b = {
		.src_mac = src_mac,
		.dst_mac = s->src_mac,
		.src = s->dst,
		.dst = s->src,
		.sport = s->dport,
		.dport = s->sport,
		.flags = CP_TCP_RST,
	};

	if (s->flags & CP_TCP_RST)
		return 0;
	if (s->flags & CP_TCP_ACK) {
		b.seq = s->ack;
	} else {
		b.ack = s->seq + s->seg_len;
		b.flags |= CP_TCP_ACK;
	}
	return cp_frame_build(buf, &b);
}

int cp_icmp_parse(const uint8_t *frame, uint32_t len, struct cp_icmp *m)
{
	uint32_t icmp_len;
	const uint8_t *icmp = parse_ip(frame, len, IPPROTO_ICMP, &icmp_len);
	const uint8_t *ip;
	uint32_t hl;

	memset(m, 0, sizeof(*m));
	if (!icmp || icmp_len < 8 + IP4_MIN + 8 || icmp[0] != ICMP_UNREACH ||
	    fold(sum(icmp, icmp_len, 0)))
		return -EPROTO;
	ip = icmp + 8;
	hl = (ip[0] & 15u) * 4u;
	if (ip[0] >> 4 != 4 || hl < IP4_MIN || icmp_len < 8 + hl + 8 || ip[9] != IPPROTO_TCP)
		return -EPROTO;
	m->code = icmp[1];
	m->mtu = get16(icmp + 6);
	m->len = get16(ip + 2);
	memcpy(m->t.local_addr, ip + 12, 4);
	memcpy(m->t.remote_addr, ip + 16, 4);
	memcpy(&m->t.local_port, ip + hl, 2);
	memcpy(&m->t.remote_port, ip + hl + 2, 2);
	m->seq = get32(ip + hl + 4);
	return 0;
}

struct toe_tuple cp_seg_tuple(const struct cp_seg *s)
{
	struct toe_tuple t;

	memset(&t, 0, sizeof(t));
	memcpy(t.local_addr, &s->dst, 4);
	memcpy(t.remote_addr, &s->src, 4);
	t.local_port = htons(s->dport);
	t.remote_port = htons(s->sport);
	return t;
}
