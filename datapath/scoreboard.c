/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Pool of scoreboards.  State: the pool given.  Thread: the proto instance.
 */
#include "scoreboard.h"

#include <string.h>

const struct toe_scoreboard toe_scoreboard_none;

void toe_scoreboards_init(struct toe_scoreboards *p, struct toe_scoreboard *mem, unsigned n)
{
	p->e = mem;
	p->free = 0;
	p->oldest = p->newest = TOE_SCOREBOARD_NONE;
	for (unsigned i = 0; i < n; i++)
		mem[i].next = i + 1 < n ? (uint16_t)(i + 1) : TOE_SCOREBOARD_NONE;
}

static void unlink_taken(struct toe_scoreboards *p, struct toe_scoreboard *sb)
{
	if (sb->prev != TOE_SCOREBOARD_NONE)
		p->e[sb->prev].next = sb->next;
	else
		p->oldest = sb->next;
	if (sb->next != TOE_SCOREBOARD_NONE)
		p->e[sb->next].prev = sb->prev;
	else
		p->newest = sb->prev;
}

void toe_scoreboard_give(struct toe_scoreboards *p, struct toe_scoreboard **owner)
{
	struct toe_scoreboard *sb = *owner;

	unlink_taken(p, sb);
	sb->next = p->free;
	p->free = (uint16_t)(sb - p->e);
	*owner = NULL;
}

bool toe_scoreboard_take(struct toe_scoreboards *p, struct toe_scoreboard **owner)
{
	bool evicts = p->free == TOE_SCOREBOARD_NONE;
	struct toe_scoreboard *sb;

	if (evicts)
		toe_scoreboard_give(p, p->e[p->oldest].owner);
	sb = &p->e[p->free];
	p->free = sb->next;
	memset(sb, 0, sizeof(*sb));
	sb->owner = owner;
	sb->next = TOE_SCOREBOARD_NONE;
	sb->prev = p->newest;
	if (p->newest != TOE_SCOREBOARD_NONE)
		p->e[p->newest].next = (uint16_t)(sb - p->e);
	else
		p->oldest = (uint16_t)(sb - p->e);
	p->newest = (uint16_t)(sb - p->e);
	*owner = sb;
	return evicts;
}
