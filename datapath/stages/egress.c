/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * egress: releases items in the order proto numbered them (out_seq, per flow-group).  Comes after
 * dma, so what leaves here has its payload in place: no ACK and no cursor gets ahead of its data.
 *
 * Input: dma, post.  Output: what is left to do (todo bits, toe_emit_next()), or nothing.  Owns one
 * sequencer per flow-group.
 */
#include "sequencer_set.h"

static void egress_process(struct toe_stage *s, struct toe_work **items, unsigned n)
{
	/* An item without business left is freed by toe_emit_next(); one whose verdict is NOTHING
	 * may still have to tell sched or the control plane. */
	for (unsigned i = 0; i < n; i++)
		toe_sequencer_set_admit(s, items[i], items[i]->out_seq, toe_emit_next);
}

const struct toe_stage_ops toe_stage_egress = {
	.id = TOE_STAGE_EGRESS,
	.name = "egress",
	.next_mask = 1u << TOE_STAGE_STREAM | 1u << TOE_STAGE_CTXQ | 1u << TOE_STAGE_SCHED |
		     1u << TOE_STAGE_CTRL | 1u << TOE_STAGE_NETIF_TX,
	.init = toe_sequencer_set_init,
	.fini = toe_sequencer_set_fini,
	.process = egress_process,
};
