// SPDX-License-Identifier: BSD-3-Clause
/*
 * Buddy allocator of the subscription map: long texts and groups come from one piece of memory each
 * that was taken at create.  A block is cut to the units asked for and its rest given back at once,
 * so nothing is lost but the rounding to 64 bytes; that is why the size comes again with a free.  A
 * few single units are kept aside, or small groups that come and go would split and join large
 * blocks. Input: sizes; output: unit numbers.  State: the arena.  Single-threaded.
 */
#include <errno.h>
#include <stdlib.h>

#include "common/log.h"
#include "modules/mqtt/mqtt_subs_int.h"

struct link { /* in the first unit of a free block */
	uint32_t next, prev;
};

static struct link *arena_link(const struct mqtt_arena *a, uint32_t unit)
{
	return mqtt_arena_at(a, unit);
}

static void arena_push(struct mqtt_arena *a, uint32_t unit, unsigned order)
{
	struct link *l = arena_link(a, unit);

	l->prev = NONE;
	l->next = a->head[order];
	if (l->next != NONE)
		arena_link(a, l->next)->prev = unit;
	a->head[order] = unit;
	a->avail |= 1u << order;
	a->order[unit] = (uint8_t)(order + 1);
}

static void arena_unlink(struct mqtt_arena *a, uint32_t unit, unsigned order)
{
	const struct link *l = arena_link(a, unit);

	if (l->next != NONE)
		arena_link(a, l->next)->prev = l->prev;
	if (l->prev != NONE)
		arena_link(a, l->prev)->next = l->next;
	else
		a->head[order] = l->next;
	if (a->head[order] == NONE)
		a->avail &= ~(1u << order);
	a->order[unit] = 0;
}

/* One aligned block of 2^order units becomes free, together with free buddies. */
static void arena_release(struct mqtt_arena *a, uint32_t unit, unsigned order)
{
	while (1u << order < a->units) {
		uint32_t buddy = unit ^ 1u << order;

		if (a->order[buddy] != order + 1)
			break;
		arena_unlink(a, buddy, order);
		unit &= ~(1u << order);
		order++;
	}
	arena_push(a, unit, order);
}

static uint32_t arena_units(size_t bytes)
{
	return bytes == 0 ? 1 : (uint32_t)((bytes + ARENA_UNIT - 1) / ARENA_UNIT);
}

int mqtt_arena_init(struct mqtt_arena *a, uint64_t bytes)
{
	a->units = mqtt_pow2_above(bytes / ARENA_UNIT + 1);
	a->used = a->avail = a->quick_n = 0;
	memset(a->head, 0xff, sizeof(a->head));
	a->base = aligned_alloc(ARENA_UNIT, (size_t)a->units * ARENA_UNIT);
	a->order = calloc(a->units, 1);
	if (!a->base || !a->order)
		return -ENOMEM;
	arena_push(a, 0, (unsigned)__builtin_ctz(a->units));
	return 0;
}

void mqtt_arena_fini(struct mqtt_arena *a)
{
	free(a->base);
	free(a->order);
}

/* The single units kept aside go back to where they can become larger blocks. */
static void arena_drain(struct mqtt_arena *a)
{
	while (a->quick_n > 0)
		arena_release(a, a->quick[--a->quick_n], 0);
}

uint32_t mqtt_arena_alloc(struct mqtt_arena *a, size_t bytes)
{
	uint32_t n, unit, fit, end;
	unsigned order;

	if (bytes > (size_t)a->units * ARENA_UNIT)
		return NONE;
	n = arena_units(bytes);
	if (n == 1 && a->quick_n > 0) {
		a->used++;
		return a->quick[--a->quick_n];
	}
	order = n == 1 ? 0 : 32 - (unsigned)__builtin_clz(n - 1);
	fit = a->avail & ~0u << order;
	if (fit == 0) {
		arena_drain(a);
		fit = a->avail & ~0u << order;
	}
	if (fit == 0)
		return NONE;
	order = (unsigned)__builtin_ctz(fit);
	unit = a->head[order];
	arena_unlink(a, unit, order);
	end = unit + (1u << order);
	for (uint32_t at = unit + n; at < end; at += at & -at)
		arena_push(a, at, (unsigned)__builtin_ctz(at));
	a->used += n;
	return unit;
}

void mqtt_arena_free(struct mqtt_arena *a, uint32_t unit, size_t bytes)
{
	uint32_t n = arena_units(bytes);

	TOE_ASSERT(unit + n <= a->units && a->used >= n);
	a->used -= n;
	if (n == 1 && a->quick_n < ARENA_QUICK) {
		a->quick[a->quick_n++] = unit;
		return;
	}
	while (n > 0) { /* the pieces it consists of, largest and best aligned first */
		unsigned order = 31 - (unsigned)__builtin_clz(n);

		arena_release(a, unit, order);
		unit += 1u << order;
		n -= 1u << order;
	}
}
