/* SPDX-License-Identifier: BSD-3-Clause */
/* TCP checksum of a complete segment we send, where the port does not do it. */
#ifndef TOE_SEG_CKSUM_H
#define TOE_SEG_CKSUM_H

#include <netinet/in.h>
#include <string.h>

#include <rte_mbuf.h>

#include "seg_build.h"
#include "seg_parse.h"

#define TOE_SEG_TCP_CKSUM 16u /* offset of the field */

/* m: Ethernet, IPv4, TCP as toe_seg_build() made them, payload in place, one piece. */
static inline void toe_seg_fill_cksum(struct rte_mbuf *m)
{
	uint8_t *ip = rte_pktmbuf_mtod_offset(m, uint8_t *, TOE_SEG_L2_BYTES);
	uint8_t *tcp = ip + TOE_SEG_L3_BYTES;
	uint32_t len = m->data_len - TOE_SEG_L2_BYTES - TOE_SEG_L3_BYTES;
	const uint8_t pseudo[4] = {0, IPPROTO_TCP, (uint8_t)(len >> 8), (uint8_t)len};
	uint16_t sum = 0;

	memcpy(tcp + TOE_SEG_TCP_CKSUM, &sum, sizeof(sum));
	sum = (uint16_t)~toe_cksum_fold(
		toe_cksum_add(tcp, len, toe_cksum_add(pseudo, 4, toe_cksum_add(ip + 12, 8, 0))));
	memcpy(tcp + TOE_SEG_TCP_CKSUM, &sum, sizeof(sum));
}

#endif
