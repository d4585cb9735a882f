/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The two rings of the control-plane queue (toe/cpq.h).  Single producer, single consumer; each end
 * keeps its own index in the shared header, so a restarted control plane goes on where it was.
 */
#ifndef TOE_CPQ_RING_H
#define TOE_CPQ_RING_H

#include <stdbool.h>
#include <stdint.h>

#include "toe/cpq.h"

/* One direction as its producer or consumer sees it. */
struct toe_cpq_ring {
	uint8_t *entries;
	uint32_t *prod;
	uint32_t *cons;
	uint32_t mask;
	uint32_t entry_bytes;
};

static inline struct toe_cpq_ring toe_cpq_down(struct toe_cpq_hdr *h)
{
	return (struct toe_cpq_ring){(uint8_t *)h + h->off_down, &h->down_prod, &h->down_cons,
				     h->entry_n - 1, h->entry_bytes};
}

static inline struct toe_cpq_ring toe_cpq_up(struct toe_cpq_hdr *h)
{
	return (struct toe_cpq_ring){(uint8_t *)h + h->off_up, &h->up_prod, &h->up_cons,
				     h->entry_n - 1, h->entry_bytes};
}

/* Most data bytes of one entry. */
static inline uint32_t toe_cpq_data_max(const struct toe_cpq_ring *r)
{
	return r->entry_bytes - (uint32_t)sizeof(struct toe_cpq_entry);
}

/* Producer: the entry to fill, data right behind it; NULL if the ring is full.  Invisible until
 * toe_cpq_publish(). */
static inline struct toe_cpq_entry *toe_cpq_reserve(const struct toe_cpq_ring *r)
{
	uint32_t prod = *r->prod;

	/* pairs with the release in toe_cpq_consume(): the slot has been read */
	if (prod - __atomic_load_n(r->cons, __ATOMIC_ACQUIRE) > r->mask)
		return NULL;
	return (struct toe_cpq_entry *)(r->entries + (uint64_t)(prod & r->mask) * r->entry_bytes);
}

static inline void toe_cpq_publish(const struct toe_cpq_ring *r)
{
	__atomic_store_n(r->prod, *r->prod + 1, __ATOMIC_RELEASE);
}

/* Consumer: the oldest entry, NULL if none; stays valid until toe_cpq_consume(). */
static inline struct toe_cpq_entry *toe_cpq_peek(const struct toe_cpq_ring *r)
{
	uint32_t cons = *r->cons;

	/* pairs with the release in toe_cpq_publish() */
	if (cons == __atomic_load_n(r->prod, __ATOMIC_ACQUIRE))
		return NULL;
	return (struct toe_cpq_entry *)(r->entries + (uint64_t)(cons & r->mask) * r->entry_bytes);
}

static inline void toe_cpq_consume(const struct toe_cpq_ring *r)
{
	__atomic_store_n(r->cons, *r->cons + 1, __ATOMIC_RELEASE);
}

static inline void *toe_cpq_data(struct toe_cpq_entry *e)
{
	return e + 1;
}

#endif
