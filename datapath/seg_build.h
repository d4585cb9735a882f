/* SPDX-License-Identifier: BSD-3-Clause */
/* Ethernet, IP and TCP header of a segment we send, from flow_post and proto's snapshot. */
#ifndef TOE_SEG_BUILD_H
#define TOE_SEG_BUILD_H

#include <stdint.h>

#include "common/ip.h"
#include "flow_state.h"
#include "work.h"

#define TOE_SEG_L2_BYTES 14u
#define TOE_SEG_HDR_MAX  (TOE_SEG_L2_BYTES + TOE_IP_HDR_MAX + 60u)

struct toe_seg_build {
	const struct toe_flow_post *flow;
	const struct toe_flow_addr6 *addr6; /* of the connection; IPv4: not looked at */
	const uint8_t *src_mac;
	const struct toe_snap *snap;
	uint32_t ts_val; /* clock and the connection's offset added */
	uint16_t payload_len;
	uint8_t sack_n;   /* blocks to send, <= snap->sack_n */
	uint8_t ip_cksum; /* 1: compute it, 0: leave 0 for the port; IPv6 has none */
	uint8_t tcp_phdr; /* 1: pseudo-header sum for the port, 0: leave 0 for the dma stage */
};

/* Bytes of the IP header of the connection's segments. */
static inline unsigned toe_seg_l3_bytes(const struct toe_flow_post *flow)
{
	return (flow->flags & TOE_POST_IPV6) ? TOE_IP6_BYTES : TOE_IP4_BYTES;
}

/* Bytes of the TCP header that toe_seg_build() will write. */
unsigned toe_seg_tcp_bytes(const struct toe_flow_post *flow, unsigned sack_n);

/* Writes the headers to dst (room for TOE_SEG_HDR_MAX) and returns their length. */
unsigned toe_seg_build(uint8_t *dst, const struct toe_seg_build *b);

#endif
