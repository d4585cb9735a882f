/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Parses and builds control segments (SYN, SYN-ACK, ACK, RST) over IPv4 and IPv6, and reads ICMP
 * errors.  Input comes from the network: every length is checked against the frame.  No state.
 */
#include "frame.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "common/bytes.h"
#include "common/inet_cksum.h"
#include "toe/region.h"

#define ETH_BYTES  14u
#define VLAN_BYTES 4u
#define TCP_MIN    20u
#define IP4_DF     0x4000u
#define IP4_FRAG   0x3fffu /* more fragments, or an offset */

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
			s->mss = toe_get16(p + 2);
		} else if (p[0] == 3 && n == 3 && (s->flags & CP_TCP_SYN)) {
			s->opts |= CP_OPT_WS;
			s->wscale = p[2] > CP_WSCALE_MAX ? CP_WSCALE_MAX : p[2];
		} else if (p[0] == 4 && n == 2 && (s->flags & CP_TCP_SYN)) {
			s->opts |= CP_OPT_SACK;
		} else if (p[0] == 8 && n == 10) {
			s->opts |= CP_OPT_TS;
			s->ts_val = toe_get32(p + 2);
			s->ts_ecr = toe_get32(p + 6);
		}
		p += n;
		len -= n;
	}
}

/* An IP packet that is complete and no fragment. */
struct packet {
	uint32_t family;
	uint8_t proto;
	const uint8_t *addrs; /* source, destination */
	const uint8_t *p;     /* what follows the IP header */
	uint32_t len;
};

static bool parse_ip4(const uint8_t *ip, uint32_t room, struct packet *k)
{
	uint32_t hl;
	uint32_t total;

	if (room < TOE_IP4_BYTES || ip[0] >> 4 != 4)
		return false;
	hl = (ip[0] & 15u) * 4u;
	total = toe_get16(ip + 2);
	if (hl < TOE_IP4_BYTES || total < hl || total > room || (toe_get16(ip + 6) & IP4_FRAG) ||
	    toe_inet_fold(toe_inet_sum(ip, hl, 0)))
		return false;
	*k = (struct packet){AF_INET, ip[9], ip + 12, ip + hl, total - hl};
	return true;
}

static bool parse_ip6(const uint8_t *ip, uint32_t room, struct packet *k)
{
	struct toe_ip6_upper up;
	uint32_t total;

	if (room < TOE_IP6_BYTES || ip[0] >> 4 != 6)
		return false;
	total = TOE_IP6_BYTES + toe_get16(ip + 4);
	if (total > room || !toe_ip6_upper(ip, total, &up) || up.fragment)
		return false;
	*k = (struct packet){AF_INET6, up.proto, ip + 8, ip + up.off, total - up.off};
	return true;
}

static bool parse_frame(const uint8_t *frame, uint32_t len, struct packet *k)
{
	uint32_t off = ETH_BYTES;

	if (len < ETH_BYTES + VLAN_BYTES)
		return false;
	if (toe_get16(frame + 12) == TOE_ETHER_VLAN)
		off += VLAN_BYTES; /* the data path lets priority tags pass, no other */
	switch (toe_get16(frame + off - 2)) {
	case TOE_ETHER_IP4:
		return parse_ip4(frame + off, len - off, k);
	case TOE_ETHER_IP6:
		return parse_ip6(frame + off, len - off, k);
	default:
		return false;
	}
}

int cp_frame_parse(const uint8_t *frame, uint32_t len, struct cp_seg *s)
{
	struct packet k;
	uint32_t off;

	memset(s, 0, sizeof(*s));
	if (!parse_frame(frame, len, &k) || k.proto != IPPROTO_TCP || k.len < TCP_MIN)
		return -EPROTO;
	off = (k.p[12] >> 4) * 4u;
	if (off < TCP_MIN || off > k.len)
		return -EPROTO;
	if (toe_inet_cksum(k.family, k.addrs, IPPROTO_TCP, k.p, k.len))
		return -EBADMSG;
	s->frame = frame;
	s->frame_len = len;
	s->src_mac = frame + 6;
	toe_tuple_read(&s->t, k.family, k.addrs, k.p, 1);
	s->dport = toe_get16(k.p + 2);
	s->seq = toe_get32(k.p + 4);
	s->ack = toe_get32(k.p + 8);
	s->flags = k.p[13];
	s->wnd = toe_get16(k.p + 14);
	s->payload_len = (uint16_t)(k.len - off);
	s->seg_len = s->payload_len + !!(s->flags & CP_TCP_SYN) + !!(s->flags & CP_TCP_FIN);
	parse_options(k.p + TCP_MIN, off - TCP_MIN, s);
	return 0;
}

/* In the order Linux uses, which middleboxes know best; returns bytes, a multiple of 4. */
static uint32_t build_options(uint8_t *p, const struct cp_build *b)
{
	uint8_t *start = p;

	if (b->opts & CP_OPT_MSS) {
		*p++ = 2;
		*p++ = 4;
		toe_put16(p, b->mss);
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
		toe_put32(p, b->ts_val);
		toe_put32(p + 4, b->ts_ecr);
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

static void build_ip4(uint8_t *ip, const struct cp_build *b, uint32_t tcp_len)
{
	memset(ip, 0, TOE_IP4_BYTES);
	ip[0] = 0x45;
	ip[1] = toe_ctl_tos(b->ctl);
	toe_put16(ip + 2, TOE_IP4_BYTES + tcp_len);
	toe_put16(ip + 6, IP4_DF);
	ip[8] = toe_ctl_ttl(b->ctl);
	ip[9] = IPPROTO_TCP;
	memcpy(ip + 12, b->t.local_addr, 4);
	memcpy(ip + 16, b->t.remote_addr, 4);
	toe_put16(ip + 10, toe_inet_fold(toe_inet_sum(ip, TOE_IP4_BYTES, 0)));
}

static void build_ip6(uint8_t *ip, const struct cp_build *b, uint32_t tcp_len)
{
	toe_put32(ip, 6u << 28 | (uint32_t)toe_ctl_tos(b->ctl) << 20 | b->flow_label);
	toe_put16(ip + 4, tcp_len);
	ip[6] = IPPROTO_TCP;
	ip[7] = toe_ctl_ttl(b->ctl);
	memcpy(ip + 8, b->t.local_addr, 16);
	memcpy(ip + 24, b->t.remote_addr, 16);
}

uint32_t cp_frame_build(uint8_t *buf, const struct cp_build *b)
{
	uint32_t ip_bytes = toe_ip_header_bytes(b->t.family);
	uint8_t *ip = buf + ETH_BYTES;
	uint8_t *tcp = ip + ip_bytes;
	uint32_t tcp_len;

	memcpy(buf, b->dst_mac, 6);
	memcpy(buf + 6, b->src_mac, 6);
	memset(tcp, 0, TCP_MIN);
	tcp_len = TCP_MIN + build_options(tcp + TCP_MIN, b);
	if (b->t.family == AF_INET6) {
		toe_put16(buf + 12, TOE_ETHER_IP6);
		build_ip6(ip, b, tcp_len);
	} else {
		toe_put16(buf + 12, TOE_ETHER_IP4);
		build_ip4(ip, b, tcp_len);
	}
	memcpy(tcp, &b->t.local_port, 2);
	memcpy(tcp + 2, &b->t.remote_port, 2);
	toe_put32(tcp + 4, b->seq);
	toe_put32(tcp + 8, b->ack);
	tcp[12] = (uint8_t)(tcp_len / 4 << 4);
	tcp[13] = b->flags;
	toe_put16(tcp + 14, b->wnd);
	/* both headers end with the addresses */
	toe_put16(tcp + 16, toe_inet_cksum(b->t.family, tcp - 2 * toe_ip_addr_bytes(b->t.family),
					   IPPROTO_TCP, tcp, tcp_len));
	return ETH_BYTES + ip_bytes + tcp_len;
}

uint32_t cp_frame_rst(uint8_t *buf, const struct cp_seg *s, const uint8_t *src_mac,
		      uint32_t flow_label)
{
	struct cp_build b = {
		.src_mac = src_mac,
		.dst_mac = s->src_mac,
		.t = s->t,
		.flow_label = flow_label,
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

/* ---- ICMP errors ---- */

/* Destination unreachable, RFC 792 and RFC 1122 §3.2.2.1; other errors say nothing to us. */
static bool icmp4_kind(const uint8_t *icmp, struct cp_icmp *m)
{
	if (icmp[0] != 3)
		return false;
	m->kind = CP_ICMP_SOFT;
	switch (icmp[1]) {
	case 4:
		m->kind = CP_ICMP_TOO_BIG;
		m->mtu = toe_get16(icmp + 6);
		break;
	case 2:
	case 3:
		m->kind = CP_ICMP_REFUSED;
		m->error = ECONNREFUSED;
		break;
	case 0:
	case 6:
		m->error = ENETUNREACH;
		break;
	default:
		m->error = EHOSTUNREACH;
		break;
	}
	return true;
}

/* RFC 4443 §3.1 and §3.2. */
static bool icmp6_kind(const uint8_t *icmp, struct cp_icmp *m)
{
	if (icmp[0] == 2) {
		m->kind = CP_ICMP_TOO_BIG;
		m->mtu = toe_get32(icmp + 4);
		return true;
	}
	if (icmp[0] != 1)
		return false;
	m->kind = CP_ICMP_SOFT;
	switch (icmp[1]) {
	case 0: /* no route */
		m->error = ENETUNREACH;
		break;
	case 1: /* prohibited; by policy; rejected */
	case 5:
	case 6:
		m->error = EACCES;
		break;
	case 4:
		m->kind = CP_ICMP_REFUSED;
		m->error = ECONNREFUSED;
		break;
	default:
		m->error = EHOSTUNREACH;
		break;
	}
	return true;
}

/* ip: the quotation, header and at least 8 bytes of our segment (RFC 792); it was sent as we build
 * it, without extension headers. */
static bool parse_quoted(uint32_t family, const uint8_t *ip, uint32_t len, struct cp_icmp *m)
{
	uint32_t hl = toe_ip_header_bytes(family);

	if (len < hl + 8)
		return false;
	if (family == AF_INET) {
		hl = (ip[0] & 15u) * 4u;
		if (ip[0] >> 4 != 4 || hl < TOE_IP4_BYTES || len < hl + 8 || ip[9] != IPPROTO_TCP)
			return false;
		m->len = toe_get16(ip + 2);
	} else {
		if (ip[0] >> 4 != 6 || ip[6] != IPPROTO_TCP)
			return false;
		m->len = TOE_IP6_BYTES + toe_get16(ip + 4);
	}
	toe_tuple_read(&m->t, family, ip + (family == AF_INET ? 12 : 8), ip + hl, 0);
	m->seq = toe_get32(ip + hl + 4);
	return true;
}

int cp_icmp_parse(const uint8_t *frame, uint32_t len, struct cp_icmp *m)
{
	struct packet k;

	memset(m, 0, sizeof(*m));
	if (!parse_frame(frame, len, &k) || k.len < 8)
		return -EPROTO;
	if (k.family == AF_INET
		    ? k.proto != IPPROTO_ICMP || toe_inet_fold(toe_inet_sum(k.p, k.len, 0)) ||
			      !icmp4_kind(k.p, m)
		    : k.proto != IPPROTO_ICMPV6 ||
			      toe_inet_cksum(AF_INET6, k.addrs, IPPROTO_ICMPV6, k.p, k.len) ||
			      !icmp6_kind(k.p, m))
		return -EPROTO;
	return parse_quoted(k.family, k.p + 8, k.len - 8, m) ? 0 : -EPROTO;
}
