/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which flow may send next: Carousel time wheel for paced flows, round robin for the others
 * (paper §3.4).  Pure logic over an array of toe_flow_sched; time (TSC) is an argument.
 *
 * A flow is on one list or on none: round robin if its rate is TOE_RATE_UNPACED, a slot of the
 * wheel otherwise, none if it may send nothing (avail 0, rate 0, removed).
 */
#ifndef TOE_SCHED_WHEEL_H
#define TOE_SCHED_WHEEL_H

#include <stdbool.h>
#include <stdint.h>

#include "flow_state.h"
#include "toe/cpq.h"

/* Two levels: near slots of 2^shift ticks (2 to 4 us), far slots of TOE_WHEEL_NEAR near ones.  What
 * lies beyond the far level waits in its last slot and is inserted again from there: nothing is
 * clipped. */
#define TOE_WHEEL_NEAR  1024u
#define TOE_WHEEL_FAR   256u
#define TOE_WHEEL_RR    (TOE_WHEEL_NEAR + TOE_WHEEL_FAR) /* index of the round-robin list */
#define TOE_WHEEL_LISTS (TOE_WHEEL_RR + 1u)

/*
 * Rates in 22 bits: a mantissa of 16, shifted left by an exponent of 6.  Bits per second up to
 * 65535 are exact, others rounded down by less than 2^-15 of them (0.003 %), whatever 64 bits hold.
 * 0 stays 0 and is nothing else's, and so does TOE_RATE_UNPACED, which is TOE_RATE_PACKED_UNPACED.
 */
#define TOE_RATE_MANTISSA_BITS  16u
#define TOE_RATE_PACKED_UNPACED 0x3fffffu /* its exponent is no rate's: they end at 48 */
static inline uint32_t toe_rate_pack(uint64_t rate_bps)
{
	uint32_t exp = 0;

	if (rate_bps == TOE_RATE_UNPACED)
		return TOE_RATE_PACKED_UNPACED;
	if (rate_bps >> TOE_RATE_MANTISSA_BITS != 0)
		exp = 64u - TOE_RATE_MANTISSA_BITS - (uint32_t)__builtin_clzll(rate_bps);
	return exp << TOE_RATE_MANTISSA_BITS | (uint32_t)(rate_bps >> exp);
}

/* Bits per second; not of TOE_RATE_PACKED_UNPACED. */
static inline uint64_t toe_rate_unpack(uint32_t packed)
{
	return (uint64_t)(packed & ((1u << TOE_RATE_MANTISSA_BITS) - 1))
	       << (packed >> TOE_RATE_MANTISSA_BITS);
}

#define TOE_SCHED_QUANTUM 8u /* segments a round-robin flow may send before the next one's turn */

struct toe_wheel {
	struct toe_flow_sched *flows;
	uint64_t hz;
	uint64_t slack_tsc; /* a paced flow served late makes up for at most so much */
	unsigned shift;
	uint64_t cur;       /* near slot (TSC >> shift) the wheel is at; earlier ones are empty */
	uint32_t paced;     /* flows on the wheel */
	uint32_t turn_left; /* of the quantum of the round-robin list's head */
	bool prefer_rr;     /* whose turn it is when both have something */
	uint32_t head[TOE_WHEEL_LISTS];
	uint32_t tail[TOE_WHEEL_LISTS];
	uint64_t near_map[TOE_WHEEL_NEAR / 64]; /* occupied slots */
	uint64_t far_map[TOE_WHEEL_FAR / 64];
};

/* flows[flow_n] stay the caller's; their fields are initialised. */
void toe_wheel_init(struct toe_wheel *w, struct toe_flow_sched *flows, uint32_t flow_n,
		    uint64_t tsc_hz, uint64_t now);

/* A new flow on this id: unpaced, nothing to send. */
void toe_wheel_add(struct toe_wheel *w, uint32_t conn, uint32_t gen, uint16_t mss);

/* Off every list, never queued again until toe_wheel_add(); held is NULL. */
void toe_wheel_remove(struct toe_wheel *w, uint32_t conn);

/* What proto would let go in all (see work.h): the flow may send what is not in flight of it. */
void toe_wheel_sendable(struct toe_wheel *w, uint32_t conn, uint32_t sendable, uint64_t now);

/* Bits per second, kept as toe_rate_pack() has them, TOE_RATE_UNPACED, or 0: stopped.  The wait of
 * a paced flow is scaled. */
void toe_wheel_rate(struct toe_wheel *w, uint32_t conn, uint64_t rate_bps, uint64_t now);

/*
 * The flow that may send one segment now, TOE_NONE if none may.  It is charged: inflight counts the
 * segment, avail shrinks by up to one MSS.  If the flow cannot send after all (no work item),
 * do not call.  Wheel and round robin alternate while both have something.
 */
uint32_t toe_wheel_next(struct toe_wheel *w, uint64_t now);

/* The earliest TSC at which toe_wheel_next() may give a flow: now or before it, or in the future;
 * UINT64_MAX if nothing is queued. */
uint64_t toe_wheel_deadline(const struct toe_wheel *w, uint64_t now);

#endif
