/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Delayed ACKs of one proto instance: a FIFO, because the delay is the same for all.  An entry is
 * only a reminder: what is owed stands in toe_flow_proto.ack_due, and any segment sent meanwhile
 * pays it.  Bounded: when it is full, ACKs are simply not delayed.
 */
#ifndef TOE_DELACK_H
#define TOE_DELACK_H

#include <stdbool.h>
#include <stdint.h>

#define TOE_DELACK_N 8192u /* power of two; 200 000 delayed ACKs per second at 40 ms */

struct toe_delack_entry {
	uint32_t conn;
	uint32_t gen;
	uint32_t due_ms;
};

struct toe_delack {
	uint32_t head;
	uint32_t tail;
	struct toe_delack_entry e[TOE_DELACK_N];
};

static inline bool toe_delack_push(struct toe_delack *d, struct toe_delack_entry e)
{
	if (d->tail - d->head == TOE_DELACK_N)
		return false;
	d->e[d->tail++ % TOE_DELACK_N] = e;
	return true;
}

/* Oldest entry, NULL if there is none. */
static inline const struct toe_delack_entry *toe_delack_peek(const struct toe_delack *d)
{
	return d->head == d->tail ? NULL : &d->e[d->head % TOE_DELACK_N];
}

static inline void toe_delack_pop(struct toe_delack *d)
{
	d->head++;
}

#endif
