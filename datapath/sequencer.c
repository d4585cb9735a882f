/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Slot-array reorder logic of the reorder and egress stages (paper §3.2); the fast paths are in
 * sequencer.h.  Input: numbers and opaque items; state: struct toe_sequencer of the caller.  Pure,
 * runs on the lcore of the stage that owns it.
 */
#include "sequencer.h"

bool toe_sequencer_hold(struct toe_sequencer *q, uint32_t n, void *item)
{
	void **slot = &q->slots[n & q->mask];

	if (n - q->next > q->mask || *slot != NULL)
		return false;
	*slot = item;
	q->held++;
	return true;
}

void *toe_sequencer_drain(struct toe_sequencer *q)
{
	for (uint32_t i = 0; q->held != 0 && i <= q->mask; i++) {
		void *item = q->slots[i];

		if (item == NULL)
			continue;
		q->slots[i] = NULL;
		q->held--;
		return item;
	}
	return NULL;
}
