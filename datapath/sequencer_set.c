/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sequencers of a stage, one per flow-group, and what reorder and egress do alike with them. State:
 * struct toe_sequencer_set in the stage's priv, used by the stage's lcore only.
 */
#include <errno.h>
#include <stdlib.h>

#include <rte_common.h>

#include "common/log.h"
#include "pipeline_priv.h"
#include "sequencer_set.h"

int toe_sequencer_set_init(struct toe_stage *s)
{
	const struct toe_engine *e = s->engine;
	uint32_t window = rte_align32pow2(toe_pipeline_items(e->cfg));
	struct toe_sequencer_set *set =
		calloc(1, sizeof(*set) + e->flow_group_n * sizeof(set->q[0]));

	if (set == NULL)
		return -ENOMEM;
	set->slots = calloc((size_t)window * e->flow_group_n, sizeof(void *));
	if (set->slots == NULL) {
		free(set);
		return -ENOMEM;
	}
	set->n = e->flow_group_n;
	for (unsigned i = 0; i < set->n; i++)
		toe_sequencer_init(&set->q[i], set->slots + (size_t)i * window, window);
	s->priv = set;
	return 0;
}

void toe_sequencer_set_fini(struct toe_stage *s)
{
	struct toe_sequencer_set *set = s->priv;
	struct toe_work *w;

	for (unsigned i = 0; i < set->n; i++) {
		while ((w = toe_sequencer_drain(&set->q[i])) != NULL)
			toe_work_free(s, w);
	}
	free(set->slots);
	free(set);
	s->priv = NULL;
}

void toe_sequencer_set_admit(struct toe_stage *s, struct toe_work *w, uint32_t seq,
			     void (*release)(struct toe_stage *s, struct toe_work *w))
{
	struct toe_sequencer_set *set = s->priv;
	struct toe_sequencer *q;

	TOE_CHECK(w->fg < set->n);
	q = &set->q[w->fg];
	if (!toe_sequencer_pass(q, seq)) {
		/* a number given out twice, or one that skipped: the pipeline would stall or
		 * reorder */
		TOE_CHECK(toe_sequencer_hold(q, seq, w));
		toe_count(s, TOE_C_HELD, 1);
		return;
	}
	release(s, w);
	while ((w = toe_sequencer_take(q)) != NULL)
		release(s, w);
}
