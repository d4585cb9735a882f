/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Is the header of the control plane's queue one that can be believed?  Input: the header, written
 * by another process, and the size of the file it is in.  Output: yes or no, sizes.  No state, any
 * thread.
 */
#include "cpq_layout.h"

#include "toe/region.h"

/* toe_cmd_install is the largest command but for frames. */
#define ENTRY_MIN (sizeof(struct toe_cpq_entry) + sizeof(struct toe_cmd_install))

uint64_t toe_cpq_stat_bytes(const struct toe_cpq_hdr *h)
{
	return (uint64_t)h->conn_n * TOE_FLOW_STAT_REPLICAS * sizeof(struct toe_flow_stat);
}

/* bytes is a product of 32-bit counts and small sizes: it cannot wrap, off + bytes can. */
static bool inside(const struct toe_cpq_hdr *h, uint64_t off, uint64_t bytes)
{
	return off % TOE_LINE == 0 && off >= sizeof(*h) && off <= h->total_bytes &&
	       bytes <= h->total_bytes - off;
}

bool toe_cpq_layout_ok(const struct toe_cpq_hdr *h, uint64_t file_bytes)
{
	uint64_t ring = (uint64_t)h->entry_n * h->entry_bytes;

	return h->total_bytes <= file_bytes && h->conn_n != 0 && h->flow_group_n != 0 &&
	       h->flow_group_n <= h->conn_n && toe_region_pow2(h->entry_n) &&
	       h->entry_bytes % TOE_LINE == 0 && h->entry_bytes >= ENTRY_MIN &&
	       inside(h, h->off_down, ring) && inside(h, h->off_up, ring) &&
	       inside(h, h->off_prog, (uint64_t)h->conn_n * sizeof(struct toe_flow_prog)) &&
	       inside(h, h->off_stat, toe_cpq_stat_bytes(h));
}
