/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Segments of wire scripts: struct to frame, frame to struct, over IPv4 and IPv6.  Own parser and
 * builder, DPDK's checksums: nothing here uses the code under test.
 */
#ifndef TOE_TEST_WIRE_SEG_FRAME_H
#define TOE_TEST_WIRE_SEG_FRAME_H

#include "segment.h"

/* ---- to a frame ---- */

static void wire_put32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
}

static uint32_t wire_get32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static unsigned wire_options(const struct wire_seg *g, uint8_t *p)
{
	const struct wire_peer *c = w.at;
	unsigned n = 0;

	if (g->mss != 0) {
		const uint8_t o[] = {2, 4, (uint8_t)(g->mss >> 8), (uint8_t)g->mss};

		memcpy(p, o, 4);
		n += 4;
	}
	if (g->ws >= 0) {
		const uint8_t o[] = {1, 3, 3, (uint8_t)g->ws};

		memcpy(p + n, o, 4);
		n += 4;
	}
	if (g->sackok) {
		memcpy(p + n, (const uint8_t[]){1, 1, 4, 2}, 4);
		n += 4;
	}
	if (g->ts) {
		memcpy(p + n, (const uint8_t[]){1, 1, 8, 10}, 4);
		wire_put32(p + n + 4, g->any_val ? (uint32_t)(wire.engine->now_us() / 1000) +
							   (uint32_t)c->ts_skew
						 : g->ts_val);
		wire_put32(p + n + 8, g->any_ecr ? c->ts_val : g->ts_ecr);
		n += 12;
	}
	if (g->sack_n > 0) {
		memcpy(p + n, (const uint8_t[]){1, 1, 5, (uint8_t)(2 + 8 * g->sack_n)}, 4);
		n += 4;
		for (unsigned i = 0; i < g->sack_n; i++, n += 8) {
			wire_put32(p + n, g->sack[i][0] + c->iss);
			wire_put32(p + n + 4, g->sack[i][1] + c->iss);
		}
	}
	return n;
}

/* Fills in what the script left out. */
static void wire_seg_defaults(struct wire_seg *g)
{
	struct wire_peer *c = w.at;

	if (!g->has_seq)
		g->seq = c->pnxt;
	if (!g->has_ack && (g->flags & TOE_TCP_ACK))
		g->ack = c->max;
	if (!g->has_win)
		g->win = c->win;
	if (c->ts && !g->ts && !g->no_ts && !(g->flags & (TOE_TCP_SYN | TOE_TCP_RST)))
		g->ts = g->any_val = g->any_ecr = true;
}

static void wire_negotiated(struct wire_peer *c)
{
	c->ts = c->own_ts_offer && c->ts_offer;
	c->ws = c->own_ws_offer && c->ws_offer;
}

/* The peer remembers what it has sent. */
static void wire_seg_note(const struct wire_seg *g)
{
	struct wire_peer *c = w.at;
	uint32_t end = g->seq + g->len + !!(g->flags & TOE_TCP_SYN) + !!(g->flags & TOE_TCP_FIN);

	w.sent_end = end;
	w.sent_ack = g->ack;
	if (g->flags & TOE_TCP_RST)
		return;
	if (seq_gt(end, c->pnxt))
		c->pnxt = end;
	if ((g->flags & TOE_TCP_ACK) && seq_gt(g->ack, c->una) && seq_leq(g->ack, c->max))
		c->una = g->ack;
	c->win = g->win;
	if (g->flags & TOE_TCP_SYN) {
		c->own_ws_offer = g->ws >= 0;
		c->own_ts_offer = g->ts;
		wire_negotiated(c);
	}
}

/* A fragment header says what IPv4's fragment field would (RFC 8200 §4.5). */
static void wire_frag6(struct wire_seg *g)
{
	uint16_t field = (uint16_t)((g->frag & 0x1fff) << 3 | (g->frag & 0x2000 ? 1 : 0));
	const uint8_t h[8] = {6, 0, (uint8_t)(field >> 8), (uint8_t)field, 0, 0, 0, 7};

	memcpy(g->ext, h, sizeof(h));
	g->ext_n = sizeof(h);
	g->ext_type = 44;
}

/* Header fields as the script wants them, and checksums over them. */
static void wire_mend(const struct wire_seg *g, uint8_t *p, struct rte_tcp_hdr *tcp,
		      unsigned l4_bytes)
{
	struct rte_ipv4_hdr *ip4 = (struct rte_ipv4_hdr *)p;

	tcp->tcp_urp = rte_cpu_to_be_16(g->urg);
	if (g->doff != 0)
		tcp->data_off = (uint8_t)(g->doff << 4);
	if (g->ae)
		tcp->data_off |= 1;
	tcp->cksum = 0;
	tcp->cksum = (uint16_t)(frame_tcp_cksum(p, tcp, l4_bytes) + (g->bad_sum ? 1 : 0));
	if (wire.six) {
		if (g->ip_len != 0) /* of the packet, as IPv4 counts */
			((struct rte_ipv6_hdr *)p)->payload_len =
				rte_cpu_to_be_16((uint16_t)(g->ip_len - 20));
		return;
	}
	ip4->fragment_offset = rte_cpu_to_be_16(g->frag);
	if (g->ip_len != 0)
		ip4->total_length = rte_cpu_to_be_16((uint16_t)g->ip_len);
	ip4->hdr_checksum = 0;
	ip4->hdr_checksum = (uint16_t)~rte_raw_cksum(p, 20u + g->ip_opts);
	ip4->hdr_checksum = (uint16_t)(ip4->hdr_checksum + (g->bad_ip_sum ? 1 : 0));
}

static uint32_t wire_seg_build(struct wire_seg *g, uint8_t *frame)
{
	const struct wire_peer *c = w.at;
	uint8_t opts[64];
	unsigned opt_n = g->raw_n;
	struct frame_spec f = {.six = wire.six,
			       .src = g->src ? g->src : wire.peer_ip,
			       .dst = g->dst ? g->dst : wire.engine_ip,
			       .src6 = g->has_src6 ? g->src6 : NULL,
			       .dst6 = g->has_dst6 ? g->dst6 : NULL,
			       .sport = (uint16_t)(c->port + wire.port_shift),
			       .dport = (uint16_t)(c->lport + wire.port_shift),
			       .seq = g->seq + c->irs,
			       .ack = g->flags & TOE_TCP_ACK || g->has_ack ? g->ack + c->iss : 0,
			       .flags = g->flags,
			       .ecn = g->ecn,
			       .vlan = g->vlan,
			       .ip_opt_bytes = (uint8_t)g->ip_opts,
			       .opts = opts,
			       .payload_len = (uint16_t)g->len,
			       .wnd = (uint16_t)g->win};
	unsigned l3 = g->vlan >= 0 ? 18 : 14;
	unsigned l4_bytes;
	uint32_t n;

	if (wire.six && g->has_frag)
		wire_frag6(g);
	f.ext = g->ext;
	f.ext_bytes = (uint8_t)g->ext_n;
	f.ext_type = g->ext_type;
	if (g->raw_n > 0)
		memcpy(opts, g->raw, g->raw_n);
	else
		opt_n = wire_options(g, opts);
	f.opt_bytes = (uint8_t)opt_n;
	n = frame_make(frame, &f);
	l4_bytes = 20u + (opt_n + 3u) / 4u * 4u + g->len;
	for (uint32_t i = 0; i < g->len; i++)
		frame[n - g->len + i] =
			wire_byte(g->seq - 1 + i, true) ^ (uint8_t)(g->salt != 0 ? 0x5a : 0);
	wire_mend(g, frame + l3, (struct rte_tcp_hdr *)(frame + n - l4_bytes), l4_bytes);
	return n - g->cut;
}

/* ---- from a frame ---- */

static void wire_take_option(const uint8_t *p, struct wire_seg *g, uint32_t iss)
{
	switch (p[0]) {
	case 2:
		g->mss = (uint16_t)(p[2] << 8 | p[3]);
		break;
	case 3:
		g->ws = p[2];
		break;
	case 4:
		g->sackok = true;
		break;
	case 5:
		for (unsigned i = 2; i + 8 <= p[1] && g->sack_n < WIRE_SACKS; i += 8, g->sack_n++) {
			g->sack[g->sack_n][0] = wire_get32(p + i) - iss;
			g->sack[g->sack_n][1] = wire_get32(p + i + 4) - iss;
		}
		break;
	case 8:
		g->ts = true;
		g->ts_val = wire_get32(p + 2);
		g->ts_ecr = wire_get32(p + 6);
		break;
	default:
		wire_fail("the engine sent option %u", p[0]);
	}
}

/* Ports of a frame, for the peer it belongs to. */
static uint16_t wire_frame_port(const struct wire_frame *f, unsigned offset)
{
	const uint8_t *p = f->data + WIRE_TCP + offset;

	return (uint16_t)((p[0] << 8 | p[1]) - wire.port_shift);
}

/* IP header of a frame: its checksum, lengths, constants, and what differs. */
static void wire_decode_ip(const struct wire_frame *f, struct wire_seg *g)
{
	const struct rte_ipv4_hdr *ip4 = (const struct rte_ipv4_hdr *)(f->data + 14);
	const struct rte_ipv6_hdr *ip6 = (const struct rte_ipv6_hdr *)(f->data + 14);
	uint16_t type = (uint16_t)(f->data[12] << 8 | f->data[13]);

	if (f->len < WIRE_TCP + 20 || type != (wire.six ? 0x86dd : 0x0800))
		wire_fail("the engine sent a malformed frame of %u bytes", f->len);
	if (wire.six) {
		uint32_t first = rte_be_to_cpu_32(ip6->vtc_flow);

		if (first >> 28 != 6 || ip6->proto != 6 ||
		    rte_be_to_cpu_16(ip6->payload_len) + 54u != f->len)
			wire_fail("the engine sent a wrong IPv6 header");
		if ((first & 0xfffff) == 0)
			wire_fail("the engine sent no flow label");
		g->ecn = first >> 20 & 3;
		g->tos = first >> 20 & 0xfc;
		g->ttl = ip6->hop_limits;
		return;
	}
	if (ip4->version_ihl != 0x45 || rte_be_to_cpu_16(ip4->total_length) + 14u != f->len)
		wire_fail("the engine sent a wrong IP header");
	if (rte_ipv4_cksum(ip4) != 0xffff && rte_raw_cksum(ip4, 20) != 0xffff)
		wire_fail("the engine sent a wrong IP checksum");
	g->ecn = ip4->type_of_service & 3;
	g->tos = ip4->type_of_service & 0xfc;
	g->ttl = ip4->time_to_live;
}

static struct wire_seg wire_decode(const struct wire_frame *f, struct wire_peer *c)
{
	const struct rte_tcp_hdr *tcp = (const struct rte_tcp_hdr *)(f->data + WIRE_TCP);
	uint32_t label = wire_get32(f->data + 14) & 0xfffff;
	unsigned doff = (tcp->data_off >> 4) * 4u;
	struct wire_seg g = {.ws = -1, .vlan = -1, .has_seq = true, .has_len = true};

	wire_decode_ip(f, &g);
	if (doff < 20 || WIRE_TCP + doff > f->len)
		wire_fail("the engine sent a malformed frame of %u bytes", f->len);
	if (wire.six ? rte_ipv6_udptcp_cksum_verify((const void *)(f->data + 14), tcp) != 0
		     : rte_ipv4_udptcp_cksum_verify((const void *)(f->data + 14), tcp) != 0)
		wire_fail("the engine sent a wrong TCP checksum");
	if (wire.six && c->label != 0 && c->label != label)
		wire_fail("the flow label has changed from %#x to %#x", c->label, label);
	c->label = wire.six ? label : 0;
	g.flags = tcp->tcp_flags;
	g.seq = rte_be_to_cpu_32(tcp->sent_seq) - c->iss;
	g.ack = rte_be_to_cpu_32(tcp->recv_ack) - c->irs;
	g.win = rte_be_to_cpu_16(tcp->rx_win);
	g.len = f->len - WIRE_TCP - doff;
	for (unsigned i = 20; i < doff;) {
		const uint8_t *p = f->data + WIRE_TCP + i;

		if (*p == 0)
			break;
		if (*p == 1) {
			i++;
			continue;
		}
		wire_take_option(p, &g, c->irs);
		i += p[1];
	}
	for (uint32_t i = 0; i < g.len; i++)
		if (f->data[WIRE_TCP + doff + i] != wire_byte(g.seq - 1 + i, false))
			wire_fail("byte %u of the engine's segment %u:%u is wrong", i, g.seq,
				  g.seq + g.len);
	return g;
}

#endif
