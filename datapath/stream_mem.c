/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Arena of stream modules: a buddy system over one mapping.
 *
 * Input: sizes.  Output: blocks with a struct toe_buf at their start.  State: one byte per smallest
 * block (its order, and whether it is free, at the first block of each), a list of free blocks per
 * order inside the blocks themselves.  Thread: the owner's.
 */
#include "stream_mem.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "common/log.h"
#include "common/map_sparse.h"
#include "toe/abi.h"

#define ORDERS     16u /* 128 B ... 4 MiB */
#define BLOCK_MAX  ((size_t)TOE_BUF_BLOCK_MIN << (ORDERS - 1))
#define AHEAD      4u /* blocks */
#define STATE_FREE 0x80u
#define STATE_BODY 0x7fu /* inside of a block: not its first unit */

struct free_block {
	struct free_block *next;
	struct free_block *prev;
};

struct toe_arena {
	uint8_t *base;
	size_t bytes;
	size_t used;
	size_t kept;    /* not for whoever asks now */
	uint8_t *state; /* per unit of TOE_BUF_BLOCK_MIN */
	struct free_block lists[ORDERS];
};

static_assert(sizeof(struct free_block) <= TOE_BUF_BLOCK_MIN, "links fit a free block");
static_assert(TOE_BUF_MAX + sizeof(struct toe_buf) == BLOCK_MAX, "largest buffer");

static size_t unit_of(const struct toe_arena *a, const void *p)
{
	return (size_t)((const uint8_t *)p - a->base) / TOE_BUF_BLOCK_MIN;
}

static size_t order_bytes(unsigned order)
{
	return (size_t)TOE_BUF_BLOCK_MIN << order;
}

static void list_push(struct toe_arena *a, void *p, unsigned order)
{
	struct free_block *b = p, *l = &a->lists[order];

	b->next = l->next;
	b->prev = l;
	l->next->prev = b;
	l->next = b;
	a->state[unit_of(a, p)] = (uint8_t)(STATE_FREE | order);
}

static void list_remove(struct free_block *b)
{
	b->prev->next = b->next;
	b->next->prev = b->prev;
}

struct toe_arena *toe_arena_create(size_t bytes)
{
	struct toe_arena *a = calloc(1, sizeof(*a));
	size_t n = bytes / BLOCK_MAX;

	if (a == NULL)
		return NULL;
	a->bytes = (n > 0 ? n : 1) * BLOCK_MAX;
	a->base = toe_map_sparse(a->bytes);
	a->state = malloc(a->bytes / TOE_BUF_BLOCK_MIN);
	if (a->base == NULL || a->state == NULL) {
		if (a->base != NULL)
			munmap(a->base, a->bytes);
		free(a->state);
		free(a);
		return NULL;
	}
	memset(a->state, STATE_BODY, a->bytes / TOE_BUF_BLOCK_MIN);
	for (unsigned i = 0; i < ORDERS; i++)
		a->lists[i].next = a->lists[i].prev = &a->lists[i];
	/* lowest address first: untouched pages stay untouched as long as possible */
	for (size_t at = a->bytes; at > 0; at -= BLOCK_MAX)
		list_push(a, a->base + at - BLOCK_MAX, ORDERS - 1);
	return a;
}

void toe_arena_free(struct toe_arena *a)
{
	if (a == NULL)
		return;
	munmap(a->base, a->bytes);
	free(a->state);
	free(a);
}

static unsigned order_for(size_t bytes)
{
	unsigned order = 0;

	while (order_bytes(order) < bytes)
		order++;
	return order;
}

struct toe_buf *toe_buf_new(struct toe_arena *a, size_t len)
{
	unsigned order, have;
	struct toe_buf *b;
	uint8_t *p;

	if (len > TOE_BUF_MAX)
		return NULL;
	order = order_for(len + sizeof(*b));
	if (a->bytes - a->used < order_bytes(order) + a->kept)
		return NULL;
	for (have = order; have < ORDERS && a->lists[have].next == &a->lists[have]; have++)
		;
	if (have == ORDERS)
		return NULL;
	p = (uint8_t *)a->lists[have].next;
	list_remove(a->lists[have].next);
	while (have > order) {
		have--;
		list_push(a, p + order_bytes(have), have);
	}
	/* likely soon the next ones, and in no cache after a pause */
	__builtin_prefetch(p + AHEAD * order_bytes(order), 1);
	__builtin_prefetch(p + AHEAD * order_bytes(order) + TOE_LINE, 1);
	a->state[unit_of(a, p)] = (uint8_t)order;
	a->used += order_bytes(order);
	b = (struct toe_buf *)p;
	*b = (struct toe_buf){
		.refs = 1, .room = (uint32_t)(order_bytes(order) - sizeof(*b)), .order = order};
	return b;
}

static void release(struct toe_arena *a, uint8_t *p, unsigned order)
{
	a->used -= order_bytes(order);
	while (order < ORDERS - 1) {
		uint8_t *buddy = a->base + ((size_t)(p - a->base) ^ order_bytes(order));

		if (a->state[unit_of(a, buddy)] != (STATE_FREE | order))
			break;
		list_remove((struct free_block *)buddy);
		a->state[unit_of(a, p > buddy ? p : buddy)] = STATE_BODY;
		if (buddy < p)
			p = buddy;
		order++;
	}
	list_push(a, p, order);
}

void toe_buf_put(struct toe_arena *a, struct toe_buf *b)
{
	TOE_ASSERT(b->refs > 0);
	if (--b->refs == 0)
		release(a, (uint8_t *)b, b->order);
}

void toe_arena_keep(struct toe_arena *a, size_t bytes)
{
	a->kept = bytes;
}

size_t toe_arena_used(const struct toe_arena *a)
{
	return a->used;
}

size_t toe_arena_size(const struct toe_arena *a)
{
	return a->bytes;
}
