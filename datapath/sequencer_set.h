/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One sequencer per flow-group: what reorder and egress have in common.
 */
#ifndef TOE_SEQUENCER_SET_H
#define TOE_SEQUENCER_SET_H

#include "sequencer.h"
#include "stage.h"

/* s->priv of such a stage. */
struct toe_sequencer_set {
	unsigned n;
	void **slots; /* of all sequencers */
	struct toe_sequencer q[];
};

/* init and fini of the stage: window = all work items there are, hence nothing is ever too early.
 */
int toe_sequencer_set_init(struct toe_stage *s);
void toe_sequencer_set_fini(struct toe_stage *s);

/* Releases w if it is number seq's turn, and whatever that makes ready; else holds it (HELD). */
void toe_sequencer_set_admit(struct toe_stage *s, struct toe_work *w, uint32_t seq,
			     void (*release)(struct toe_stage *s, struct toe_work *w));

#endif
