/* SPDX-License-Identifier: BSD-3-Clause */
/* TCP checksum of a complete segment we send, where the port does not do it. */
#ifndef TOE_SEG_CKSUM_H
#define TOE_SEG_CKSUM_H

#include <string.h>

#include <rte_mbuf.h>

#include "seg_build.h"
#include "seg_parse.h"

#define TOE_SEG_TCP_CKSUM 16u /* offset of the field */

/* m: Ethernet, IP, TCP as toe_seg_build() made them, l3_len set, payload in place, one piece. */
static inline void toe_seg_fill_cksum(struct rte_mbuf *m)
{
	uint32_t l3 = m->l3_len;
	uint32_t addr = l3 == TOE_IP6_BYTES ? 16 : 4;
	uint8_t *tcp = rte_pktmbuf_mtod_offset(m, uint8_t *, TOE_SEG_L2_BYTES + l3);
	uint32_t len = m->data_len - TOE_SEG_L2_BYTES - l3;
	uint16_t sum = 0;

	memcpy(tcp + TOE_SEG_TCP_CKSUM, &sum, sizeof(sum));
	/* both headers end with the addresses */
	sum = (uint16_t)~toe_cksum_fold(
		toe_cksum_add(tcp, len, toe_cksum_phdr(tcp - 2 * addr, addr, len, 0)));
	memcpy(tcp + TOE_SEG_TCP_CKSUM, &sum, sizeof(sum));
}

#endif
