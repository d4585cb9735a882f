/* SPDX-License-Identifier: BSD-3-Clause */
/* Frames for tests.  Their checksums are DPDK's, so that ours are not checked against themselves.
 */
#ifndef TOE_TEST_FRAMES_H
#define TOE_TEST_FRAMES_H

#include <stdint.h>
#include <string.h>

#include <rte_ip.h>
#include <rte_tcp.h>

#include "seg_parse.h"

struct frame_spec {
	uint32_t src, dst; /* host order; 0: 10.0.0.2 -> 10.0.0.1 */
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

static inline uint32_t frame_make(uint8_t *p, const struct frame_spec *f)
{
	static const uint8_t eth[12] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2};
	unsigned l3 = f->vlan >= 0 ? 18 : 14;
	unsigned ihl = 20u + f->ip_opt_bytes;
	unsigned doff = 20u + (f->opt_bytes + 3u) / 4u * 4u;
	struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(p + l3);
	struct rte_tcp_hdr *tcp = (struct rte_tcp_hdr *)(p + l3 + ihl);
	unsigned i, len = l3 + ihl + doff + f->payload_len;

	memset(p, 0, len + f->padding);
	memcpy(p, eth, 12);
	p[l3 - 2] = 0x08;
	if (f->vlan >= 0) {
		p[12] = 0x81;
		p[14] = (uint8_t)(f->vlan >> 8);
		p[15] = (uint8_t)f->vlan;
	}
	ip->version_ihl = (uint8_t)(0x40 | ihl / 4);
	ip->type_of_service = f->ecn;
	ip->total_length = rte_cpu_to_be_16((uint16_t)(ihl + doff + f->payload_len));
	ip->time_to_live = 64;
	ip->next_proto_id = 6;
	ip->src_addr = rte_cpu_to_be_32(f->src ? f->src : 0x0a000002u);
	ip->dst_addr = rte_cpu_to_be_32(f->dst ? f->dst : 0x0a000001u);
	memset(p + l3 + 20, 1, f->ip_opt_bytes);
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
		p[l3 + ihl + doff + i] = (uint8_t)(i * 7 + 1);
	memset(p + len, 0xee, f->padding);
	tcp->cksum = 0;
	if (ihl == 20) {
		tcp->cksum = rte_ipv4_udptcp_cksum(ip, tcp);
		ip->hdr_checksum = rte_ipv4_cksum(ip);
	} else {
		struct rte_ipv4_hdr plain = *ip;
		uint32_t sum;

		plain.version_ihl = 0x45;
		plain.total_length = rte_cpu_to_be_16((uint16_t)(20 + doff + f->payload_len));
		sum = rte_raw_cksum(tcp, doff + f->payload_len) + rte_ipv4_phdr_cksum(&plain, 0);
		tcp->cksum = (uint16_t) ~((sum >> 16) + sum);
		if ((sum >> 16) + (sum & 0xffff) > 0xffff)
			tcp->cksum = (uint16_t) ~((sum >> 16) + sum + 1);
		ip->hdr_checksum = (uint16_t)~rte_raw_cksum(ip, ihl);
	}
	return len + f->padding;
}

#define FRAME_DEFAULT                                                                              \
	{                                                                                          \
		.sport = 40000, .dport = 80, .seq = 1000, .ack = 2000, .wnd = 512,                 \
		.flags = TOE_TCP_ACK, .vlan = -1                                                   \
	}

#endif
