/* SPDX-License-Identifier: BSD-3-Clause */
/* TCP checksum of a complete segment we send, where the port does not do it. */
#ifndef TOE_SEG_CKSUM_H
#define TOE_SEG_CKSUM_H

#include <rte_ip.h>
#include <rte_mbuf.h>
#include <rte_tcp.h>

#include "seg_build.h"

/* m: Ethernet, IPv4, TCP as toe_seg_build() made them, payload in place, one piece. */
static inline void toe_seg_fill_cksum(struct rte_mbuf *m)
{
	struct rte_ipv4_hdr *ip =
		rte_pktmbuf_mtod_offset(m, struct rte_ipv4_hdr *, TOE_SEG_L2_BYTES);
	struct rte_tcp_hdr *tcp = (struct rte_tcp_hdr *)((uint8_t *)ip + rte_ipv4_hdr_len(ip));

	tcp->cksum = 0;
	tcp->cksum = rte_ipv4_udptcp_cksum(ip, tcp);
}

#endif
