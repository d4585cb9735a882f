/* SPDX-License-Identifier: BSD-3-Clause */
/* Doubly linked lists of array indices.  One link array per list membership, in the heap. */
#ifndef CP_LIST_H
#define CP_LIST_H

#include <stdbool.h>
#include <stdint.h>

#include "toe/region.h"

struct cp_link {
	uint32_t prev;
	uint32_t next;
	bool in;
};

struct cp_list {
	struct cp_link *link;
	uint32_t head;
	uint32_t tail;
	uint32_t n;
};

static inline void cp_list_init(struct cp_list *l, struct cp_link *link)
{
	*l = (struct cp_list){link, TOE_NONE, TOE_NONE, 0};
}

static inline void cp_list_add(struct cp_list *l, uint32_t i)
{
	if (l->link[i].in)
		return;
	l->link[i] = (struct cp_link){l->tail, TOE_NONE, true};
	if (l->tail == TOE_NONE)
		l->head = i;
	else
		l->link[l->tail].next = i;
	l->tail = i;
	l->n++;
}

static inline void cp_list_del(struct cp_list *l, uint32_t i)
{
	struct cp_link k = l->link[i];

	if (!k.in)
		return;
	if (k.prev == TOE_NONE)
		l->head = k.next;
	else
		l->link[k.prev].next = k.next;
	if (k.next == TOE_NONE)
		l->tail = k.prev;
	else
		l->link[k.next].prev = k.prev;
	l->link[i].in = false;
	l->n--;
}

#endif
