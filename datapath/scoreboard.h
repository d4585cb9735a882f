/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a flow with holes in its sequence space knows of them, in both directions, and the pool it
 * comes from.  Hardly any flow has holes, so the state of a connection only points here.
 *
 * One pool per proto instance, used by its thread only.  A flow takes a scoreboard with the first
 * segment out of order, the first SACK block or when recovery begins, and gives it back when there
 * are no holes left.  When all are taken, one that nothing has come for in TOE_SCOREBOARD_IDLE_MS
 * changes hands: its flow forgets, which RFC 2018 §8 allows a receiver (what it has SACKed is only
 * promised once it is acknowledged), and makes a sender resend more than it had to.  If all are in
 * use, the next flow goes on as if there were no SACK: none loses its own in the middle of things,
 * which would be worse than never having had one.
 */
#ifndef TOE_SCOREBOARD_H
#define TOE_SCOREBOARD_H

#include <stdbool.h>
#include <stdint.h>

#include "toe/abi.h"

#define TOE_SCOREBOARD_N       4096u /* of a pool */
#define TOE_SCOREBOARD_NONE    0xffffu
#define TOE_SCOREBOARD_IDLE_MS 1000u

/* Time in units of 8 ms, which goes round after 524 s. */
#define TOE_SCOREBOARD_SHIFT 3u

#define TOE_OOO_MAX  6u /* out-of-order intervals kept per connection */
#define TOE_SACK_MAX 6u /* intervals the sender remembers of what the peer holds */

/* Bytes received out of order (ooo.h): disjoint and not touching, all above RCV.NXT, the one
 * changed most recently first, which is the order of SACK blocks (RFC 2018 §4). */
struct toe_ooo {
	struct {
		uint32_t left;
		uint32_t right; /* sequence number after the last byte */
	} iv[TOE_OOO_MAX];
	uint16_t n;
	uint16_t fin_pending; /* the peer's FIN has arrived out of order, at fin_seq */
	uint32_t fin_seq;
};

/* What the peer has reported by SACK (RFC 6675 §3): disjoint and not touching, ascending, all
 * above SND.UNA and at most to SND.MAX. */
struct toe_sacked {
	struct {
		uint32_t left;
		uint32_t right;
	} iv[TOE_SACK_MAX];
	uint16_t n;
	uint16_t used_at; /* of the whole scoreboard, where there is room: when it was last used */
};

struct toe_scoreboard {
	TOE_LINE_ALIGNED struct toe_scoreboard **owner; /* what points here */
	uint16_t next; /* free: of the free list; taken: the one taken after it */
	uint16_t prev; /* taken: the one taken before it */

	uint32_t rtx_nxt; /* in RECOVERY: all holes below have been resent (HighRxt + 1) */
	union {
		uint32_t rtx_mark;  /* SND.MAX at the last retransmission: SACK of later data proves
				       it lost; without RACK */
		uint32_t rack_edge; /* what is not SACKed below is lost; with RACK */
	};
	struct toe_ooo ooo;
	struct toe_sacked sacked;
};
TOE_ASSERT_SIZE(struct toe_scoreboard, 128);

/* What a flow without holes knows. */
extern const struct toe_scoreboard toe_scoreboard_none;

struct toe_scoreboards {
	struct toe_scoreboard *e;
	uint16_t free;   /* first of the free list */
	uint16_t oldest; /* of those taken, in the order in which they were taken or last looked at
			  */
	uint16_t newest;
};

/* Uses mem[0..n) until the end of the pool, 0 < n <= TOE_SCOREBOARD_N. */
void toe_scoreboards_init(struct toe_scoreboards *p, struct toe_scoreboard *mem, unsigned n);

enum toe_scoreboard_from { TOE_SB_NONE, TOE_SB_FREE, TOE_SB_OTHER };

/* Makes *owner, which is NULL, point to an empty one, in the pool till now or another's; NONE: all
 * are in use. */
enum toe_scoreboard_from toe_scoreboard_take(struct toe_scoreboards *p,
					     struct toe_scoreboard **owner, uint32_t now_ms);

/* It is in use now. */
static inline void toe_scoreboard_use(struct toe_scoreboard *sb, uint32_t now_ms)
{
	sb->sacked.used_at = (uint16_t)(now_ms >> TOE_SCOREBOARD_SHIFT);
}

/* Makes *owner, which is not NULL, NULL. */
void toe_scoreboard_give(struct toe_scoreboards *p, struct toe_scoreboard **owner);

#endif
