/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Interval set of bytes received out of order (struct toe_ooo, scoreboard.h).  Pure and bounded:
 * TOE_OOO_MAX intervals, so every call is O(TOE_OOO_MAX^2) and a peer cannot make it cost memory.
 * Sequence numbers of one set lie within 2^31 of each other (they are inside a receive window).
 */
#ifndef TOE_OOO_H
#define TOE_OOO_H

#include <stdbool.h>
#include <stdint.h>

#include "scoreboard.h"

/* Adds [left, right), left != right, merging what it touches; it becomes the most recent
 * interval.  False, and nothing changed, if that needs one interval more than there are. */
bool toe_ooo_add(struct toe_ooo *o, uint32_t left, uint32_t right);

/* [left, right) is inside one interval: nothing new.  That interval becomes the most recent
 * (RFC 2018 §4: the first block covers the segment that triggered the ACK). */
bool toe_ooo_touch(struct toe_ooo *o, uint32_t left, uint32_t right);

/* Everything before nxt has arrived in order: drops and follows what it reaches; returns the new
 * RCV.NXT. */
uint32_t toe_ooo_advance(struct toe_ooo *o, uint32_t nxt);

/* Some byte at or after seq is held. */
bool toe_ooo_beyond(const struct toe_ooo *o, uint32_t seq);

uint32_t toe_ooo_bytes(const struct toe_ooo *o);

#endif
