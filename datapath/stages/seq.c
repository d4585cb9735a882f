/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * seq: numbers everything that enters the pipeline, per flow-group (paper §3.2): segments, TX
 * permissions, host control, commands.  What it numbers must reach reorder, as NOTHING if need be.
 *
 * Input: netif_rx, sched, dma (fetched cursors), ctrl.  Output: pre.  Owns the counters.
 */
#include <errno.h>
#include <stdlib.h>

#include "common/log.h"
#include "engine.h"
#include "stage.h"

static int seq_init(struct toe_stage *s)
{
	s->priv =
		calloc(s->engine->flow_group_n, sizeof(uint32_t)); /* next number per flow-group */
	return s->priv == NULL ? -ENOMEM : 0;
}

static void seq_fini(struct toe_stage *s)
{
	free(s->priv);
	s->priv = NULL;
}

static void seq_process(struct toe_stage *s, struct toe_work **items, unsigned n)
{
	uint32_t *next = s->priv;

	for (unsigned i = 0; i < n; i++) {
		TOE_ASSERT(items[i]->fg < s->engine->flow_group_n);
		items[i]->in_seq = next[items[i]->fg]++;
		toe_emit(s, TOE_STAGE_PRE, items[i]);
	}
}

const struct toe_stage_ops toe_stage_seq = {
	.id = TOE_STAGE_SEQ,
	.name = "seq",
	.next_mask = 1u << TOE_STAGE_PRE,
	.init = seq_init,
	.fini = seq_fini,
	.process = seq_process,
};
