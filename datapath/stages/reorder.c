/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reorder: admits items to proto in the order of in_seq, per flow-group (paper §3.2), whatever the
 * pre replicas did to it; and turns off what is not proto's: frames of the kernel (exception),
 * segments of the control plane (ctrl), dropped ones.
 *
 * Input: pre.  Output: proto, exception, ctrl.  Owns one sequencer per flow-group.
 */
#include "sequencer_set.h"

static void reorder_release(struct toe_stage *s, struct toe_work *w)
{
	/* A TX item or a command has to come back to who waits for it (sched counts items in
	 * flight, the control plane expects an answer): only proto may turn it into nothing. */
	if (w->type == TOE_WORK_TX || w->type == TOE_WORK_CTRL) {
		toe_emit(s, TOE_STAGE_PROTO, w);
		return;
	}
	switch (w->verdict) {
	case TOE_FORWARD:
		toe_emit(s, TOE_STAGE_PROTO, w);
		break;
	case TOE_TO_TAP:
		toe_emit(s, TOE_STAGE_EXCEPTION, w);
		break;
	case TOE_TO_CTRL:
		toe_emit(s, TOE_STAGE_CTRL, w);
		break;
	default:
		toe_work_free(s, w);
		break;
	}
}

static void reorder_process(struct toe_stage *s, struct toe_work **items, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		toe_sequencer_set_admit(s, items[i], items[i]->in_seq, reorder_release);
}

const struct toe_stage_ops toe_stage_reorder = {
	.id = TOE_STAGE_REORDER,
	.name = "reorder",
	.next_mask = 1u << TOE_STAGE_PROTO | 1u << TOE_STAGE_CTRL | 1u << TOE_STAGE_EXCEPTION,
	.init = toe_sequencer_set_init,
	.fini = toe_sequencer_set_fini,
	.process = reorder_process,
};
