/* SPDX-License-Identifier: BSD-3-Clause */
/* Frames for tests.  Their checksums are DPDK's, so that ours are not checked against themselves.
 */
#ifndef TOE_TEST_FRAMES_H
#define TOE_TEST_FRAMES_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <rte_ip.h>
#include <rte_tcp.h>

#include "seg_parse.h"

struct frame_spec {
	bool six; /* IPv6 */
	/* Host order; 0: 10.0.0.2 -> 10.0.0.1.  IPv6: the last byte counts, 2001:db8::2 -> ::1 */
	uint32_t src, dst;
	const uint8_t *src6, *dst6; /* NULL: as above */
	const uint8_t *ext;         /* IPv6: headers in front of TCP, the first of type ext_type */
	uint8_t ext_bytes, ext_type;
	uint16_t sport, dport;
	uint32_t seq, ack;
	uint16_t wnd;
	uint8_t flags;
	uint8_t ecn;
	int vlan; /* -1: no tag */
	uint8_t ip_opt_bytes;
	const uint8_t *opts;
	uint8_t opt_bytes;
	uint16_t payload_len;
	uint16_t padding;
};

static inline uint8_t *frame_ip4(uint8_t *p, const struct frame_spec *f, unsigned l4_bytes)
{
	struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)p;
	unsigned ihl = 20u + f->ip_opt_bytes;

	ip->version_ihl = (uint8_t)(0x40 | ihl / 4);
	ip->type_of_service = f->ecn;
	ip->total_length = rte_cpu_to_be_16((uint16_t)(ihl + l4_bytes));
	ip->time_to_live = 64;
	ip->next_proto_id = 6;
	ip->src_addr = rte_cpu_to_be_32(f->src ? f->src : 0x0a000002u);
	ip->dst_addr = rte_cpu_to_be_32(f->dst ? f->dst : 0x0a000001u);
	memset(p + 20, 1, f->ip_opt_bytes);
	return p + ihl;
}

/* Options become a hop-by-hop header of padding. */
static inline uint8_t *frame_ip6(uint8_t *p, const struct frame_spec *f, unsigned l4_bytes)
{
	static const uint8_t net[16] = {0x20, 1, 0xd, 0xb8};
	struct rte_ipv6_hdr *ip = (struct rte_ipv6_hdr *)p;
	uint8_t *ext = p + 40;

	ip->vtc_flow = rte_cpu_to_be_32(6u << 28 | (uint32_t)f->ecn << 20);
	ip->payload_len = rte_cpu_to_be_16((uint16_t)(f->ip_opt_bytes + f->ext_bytes + l4_bytes));
	ip->hop_limits = 64;
	ip->proto = 6;
	memcpy(ip->src_addr, net, 16);
	memcpy(ip->dst_addr, net, 16);
	ip->src_addr[15] = (uint8_t)(f->src ? f->src : 2);
	ip->dst_addr[15] = (uint8_t)(f->dst ? f->dst : 1);
	if (f->src6 != NULL)
		memcpy(ip->src_addr, f->src6, 16);
	if (f->dst6 != NULL)
		memcpy(ip->dst_addr, f->dst6, 16);
	if (f->ip_opt_bytes > 0) {
		ip->proto = 0;
		ext[0] = f->ext_bytes > 0 ? f->ext_type : 6;
		ext[1] = (uint8_t)(f->ip_opt_bytes / 8 - 1);
		ext[2] = 1; /* PadN */
		ext[3] = (uint8_t)(f->ip_opt_bytes - 4);
		ext += f->ip_opt_bytes;
	} else if (f->ext_bytes > 0) {
		ip->proto = f->ext_type;
	}
	if (f->ext_bytes > 0)
		memcpy(ext, f->ext, f->ext_bytes);
	return ext + f->ext_bytes;
}

/* Of TCP, by DPDK: l4 is at tcp, whatever is between it and the IP header at p. */
static inline uint16_t frame_tcp_cksum(const uint8_t *p, const void *tcp, unsigned l4_bytes)
{
	if (*p >> 4 == 4) {
		struct rte_ipv4_hdr plain = *(const struct rte_ipv4_hdr *)p;

		plain.version_ihl = 0x45;
		plain.total_length = rte_cpu_to_be_16((uint16_t)(20 + l4_bytes));
		return rte_ipv4_udptcp_cksum(&plain, tcp);
	} else {
		struct rte_ipv6_hdr plain = *(const struct rte_ipv6_hdr *)p;

		plain.proto = 6;
		plain.payload_len = rte_cpu_to_be_16((uint16_t)l4_bytes);
		return rte_ipv6_udptcp_cksum(&plain, tcp);
	}
}

static inline uint32_t frame_make(uint8_t *p, const struct frame_spec *f)
{
	static const uint8_t eth[12] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2};
	unsigned l3 = f->vlan >= 0 ? 18 : 14;
	unsigned l3_bytes = f->ip_opt_bytes + (f->six ? 40u + f->ext_bytes : 20u);
	unsigned doff = 20u + (f->opt_bytes + 3u) / 4u * 4u;
	unsigned l4_bytes = doff + f->payload_len;
	unsigned i, len = l3 + l3_bytes + l4_bytes;
	struct rte_tcp_hdr *tcp;

	memset(p, 0, len + f->padding);
	memcpy(p, eth, 12);
	if (f->vlan >= 0) {
		p[12] = 0x81;
		p[14] = (uint8_t)(f->vlan >> 8);
		p[15] = (uint8_t)f->vlan;
	}
	p[l3 - 2] = f->six ? 0x86 : 0x08;
	p[l3 - 1] = f->six ? 0xdd : 0x00;
	tcp = (struct rte_tcp_hdr *)(f->six ? frame_ip6(p + l3, f, l4_bytes)
					    : frame_ip4(p + l3, f, l4_bytes));
	tcp->src_port = rte_cpu_to_be_16(f->sport);
	tcp->dst_port = rte_cpu_to_be_16(f->dport);
	tcp->sent_seq = rte_cpu_to_be_32(f->seq);
	tcp->recv_ack = rte_cpu_to_be_32(f->ack);
	tcp->rx_win = rte_cpu_to_be_16(f->wnd);
	tcp->data_off = (uint8_t)(doff / 4 << 4);
	tcp->tcp_flags = f->flags;
	if (f->opt_bytes)
		memcpy(tcp + 1, f->opts, f->opt_bytes);
	for (i = 0; i < f->payload_len; i++)
		p[len - f->payload_len + i] = (uint8_t)(i * 7 + 1);
	memset(p + len, 0xee, f->padding);
	tcp->cksum = frame_tcp_cksum(p + l3, tcp, l4_bytes);
	if (!f->six)
		((struct rte_ipv4_hdr *)(p + l3))->hdr_checksum =
			(uint16_t)~rte_raw_cksum(p + l3, l3_bytes);
	return len + f->padding;
}

#define FRAME_DEFAULT                                                                              \
	{                                                                                          \
		.sport = 40000, .dport = 80, .seq = 1000, .ack = 2000, .wnd = 512,                 \
		.flags = TOE_TCP_ACK, .vlan = -1                                                   \
	}

#endif
