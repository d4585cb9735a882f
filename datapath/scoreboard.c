/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Pool of scoreboards.  State: the pool given.  Thread: the proto instance.
 */
#include "scoreboard.h"

#include <string.h>

#define LOOKS 4u /* at others' scoreboards, for one */

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

static void link_newest(struct toe_scoreboards *p, struct toe_scoreboard *sb)
{
	uint16_t i = (uint16_t)(sb - p->e);

	sb->next = TOE_SCOREBOARD_NONE;
	sb->prev = p->newest;
	if (p->newest != TOE_SCOREBOARD_NONE)
		p->e[p->newest].next = i;
	else
		p->oldest = i;
	p->newest = i;
}

void toe_scoreboard_give(struct toe_scoreboards *p, struct toe_scoreboard **owner)
{
	struct toe_scoreboard *sb = *owner;

	unlink_taken(p, sb);
	sb->next = p->free;
	p->free = (uint16_t)(sb - p->e);
	*owner = NULL;
}

/* Takes one away from a flow that does not use it; false: none of the next few is that. */
static bool evict(struct toe_scoreboards *p, uint32_t now_ms)
{
	for (unsigned look = 0; look < LOOKS; look++) {
		struct toe_scoreboard *sb = &p->e[p->oldest];
		uint16_t idle = (uint16_t)((now_ms >> TOE_SCOREBOARD_SHIFT) - sb->sacked.used_at);

		if ((uint32_t)idle << TOE_SCOREBOARD_SHIFT >= TOE_SCOREBOARD_IDLE_MS) {
			toe_scoreboard_give(p, sb->owner);
			return true;
		}
		unlink_taken(p, sb);
		link_newest(p, sb);
	}
	return false;
}

enum toe_scoreboard_from toe_scoreboard_take(struct toe_scoreboards *p,
					     struct toe_scoreboard **owner, uint32_t now_ms)
{
	bool full = p->free == TOE_SCOREBOARD_NONE;
	struct toe_scoreboard *sb;

	if (full && !evict(p, now_ms))
		return TOE_SB_NONE;
	sb = &p->e[p->free];
	p->free = sb->next;
	memset(sb, 0, sizeof(*sb));
	sb->owner = owner;
	toe_scoreboard_use(sb, now_ms);
	link_newest(p, sb);
	*owner = sb;
	return full ? TOE_SB_OTHER : TOE_SB_FREE;
}
