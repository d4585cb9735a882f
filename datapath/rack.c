/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Pool of RACK elements and the wheel of their reorder timers.  State: the pool given.  Thread: the
 * proto instance.
 */
#include "rack.h"

#include <stdlib.h>
#include <string.h>

bool toe_rack_pool_init(struct toe_rack_pool *p, unsigned n)
{
	memset(p, 0, sizeof(*p));
	p->e = aligned_alloc(_Alignof(struct toe_rack), n * sizeof(struct toe_rack));
	if (p->e == NULL)
		return false;
	memset(p->e, 0, n * sizeof(struct toe_rack));
	for (unsigned i = 0; i < n; i++)
		p->e[i].next = i + 1 < n ? (uint16_t)(i + 1) : TOE_RACK_NONE;
	for (unsigned i = 0; i < TOE_RACK_TICKS; i++)
		p->wheel[i] = TOE_RACK_NONE;
	return true;
}

void toe_rack_pool_fini(struct toe_rack_pool *p)
{
	free(p->e);
	p->e = NULL;
}

struct toe_rack *toe_rack_take(struct toe_rack_pool *p, uint32_t conn, uint32_t gen)
{
	struct toe_rack *r;

	if (p->free == TOE_RACK_NONE)
		return NULL;
	r = &p->e[p->free];
	p->free = r->next;
	memset(r, 0, sizeof(*r));
	r->conn = conn;
	r->gen = gen;
	r->slot = TOE_RACK_NONE;
	r->mult = 1;
	return r;
}

void toe_rack_give(struct toe_rack_pool *p, struct toe_rack *r)
{
	toe_rack_timer_stop(p, r);
	r->next = p->free;
	p->free = toe_rack_index(p, r);
}

static uint64_t rack_tick(uint64_t us)
{
	return us / TOE_RACK_TICK_US;
}

void toe_rack_timer_stop(struct toe_rack_pool *p, struct toe_rack *r)
{
	if (r->slot == TOE_RACK_NONE)
		return;
	if (r->prev != TOE_RACK_NONE)
		p->e[r->prev].next = r->next;
	else
		p->wheel[r->slot] = r->next;
	if (r->next != TOE_RACK_NONE)
		p->e[r->next].prev = r->prev;
	r->slot = TOE_RACK_NONE;
	p->timers--;
}

void toe_rack_timer_start(struct toe_rack_pool *p, struct toe_rack *r, uint64_t now_us,
			  uint64_t due_us)
{
	uint64_t ahead;

	toe_rack_timer_stop(p, r);
	if (p->timers == 0)
		p->tick = rack_tick(now_us);
	/* the slot behind the moment, so that it is over when the slot is; never the one
	 * that is being looked at */
	ahead = rack_tick(due_us) + 1;
	ahead = ahead > p->tick + 1 ? ahead - p->tick : 1;
	if (ahead >= TOE_RACK_TICKS)
		ahead = TOE_RACK_TICKS - 1;
	r->due_us = due_us;
	r->slot = (uint16_t)((p->tick + ahead) % TOE_RACK_TICKS);
	r->prev = TOE_RACK_NONE;
	r->next = p->wheel[r->slot];
	if (r->next != TOE_RACK_NONE)
		p->e[r->next].prev = toe_rack_index(p, r);
	p->wheel[r->slot] = toe_rack_index(p, r);
	p->timers++;
}

struct toe_rack *toe_rack_timer_next(struct toe_rack_pool *p, uint64_t now_us)
{
	while (p->timers > 0 && rack_tick(now_us) >= p->tick) {
		uint16_t i = p->wheel[p->tick % TOE_RACK_TICKS];
		struct toe_rack *r;

		if (i == TOE_RACK_NONE) {
			p->tick++;
			continue;
		}
		r = &p->e[i];
		if (now_us >= r->due_us) {
			toe_rack_timer_stop(p, r);
			return r;
		}
		toe_rack_timer_start(p, r, now_us, r->due_us);
	}
	return NULL;
}

uint64_t toe_rack_timer_due(const struct toe_rack_pool *p)
{
	for (unsigned i = 0; p->timers > 0 && i < TOE_RACK_TICKS; i++)
		if (p->wheel[(p->tick + i) % TOE_RACK_TICKS] != TOE_RACK_NONE)
			return (p->tick + i) * TOE_RACK_TICK_US;
	return UINT64_MAX;
}
