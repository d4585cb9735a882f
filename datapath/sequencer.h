/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Puts numbered items back in order: a slot array indexed by number modulo its size.
 *
 * Numbers are 32 bits and wrap.  Nothing is ever skipped or thrown away, hence the rule of the
 * pipeline that a numbered item always arrives; and as each number between the oldest missing and
 * the newest given out belongs to an item that exists, a window of at least the number of items is
 * always enough.  Single-threaded.
 */
#ifndef TOE_SEQUENCER_H
#define TOE_SEQUENCER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct toe_sequencer {
	uint32_t next; /* number that goes out next */
	uint32_t mask; /* window - 1 */
	uint32_t held; /* items in slots */
	void **slots;
};

/* slots: window pointers, all NULL, window a power of two; owned by the caller. */
static inline void toe_sequencer_init(struct toe_sequencer *q, void **slots, uint32_t window)
{
	*q = (struct toe_sequencer){0, window - 1, 0, slots};
}

/* True: number n is next, and the caller may let the item go at once without storing it. */
static inline bool toe_sequencer_pass(struct toe_sequencer *q, uint32_t n)
{
	if (n != q->next)
		return false;
	q->next++;
	return true;
}

/* Keeps an item that came early.  False: not in the window, or that number is already there. */
bool toe_sequencer_hold(struct toe_sequencer *q, uint32_t n, void *item);

/* Takes the next item in order out, NULL if it has not arrived. */
static inline void *toe_sequencer_take(struct toe_sequencer *q)
{
	void **slot = &q->slots[q->next & q->mask];
	void *item;

	if (q->held == 0 || *slot == NULL)
		return NULL;
	item = *slot;
	*slot = NULL;
	q->held--;
	q->next++;
	return item;
}

/* Takes out any item that is held, order does not matter: for clean-up.  NULL: none. */
void *toe_sequencer_drain(struct toe_sequencer *q);

#endif
