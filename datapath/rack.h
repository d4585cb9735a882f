/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What RACK (RFC 8985 §6), PRR and CUBIC know of a flow, and the pool it comes from: times of
 * sending are too much to keep for each connection, but only those with more than one segment in
 * flight can use them.  Such a flow takes an element when it sends and gives it back when all is
 * acknowledged. Where the pool is empty, losses are found by counting (RFC 6675), as without RACK,
 * and cwnd is Reno's.
 *
 * One pool per proto instance, used by its thread only.  Elements whose reorder timer runs are on a
 * wheel of TOE_RACK_TICKS slots of TOE_RACK_TICK_US; what is due later is looked at in between.
 */
#ifndef TOE_RACK_H
#define TOE_RACK_H

#include <stdbool.h>
#include <stdint.h>

#include "toe/abi.h"

#define TOE_RACK_MARKS   16u
#define TOE_RACK_N       4096u /* elements of a pool */
#define TOE_RACK_TICK_US 128u  /* power of two */
#define TOE_RACK_TICKS   64u   /* power of two */
#define TOE_RACK_NONE    0xffffu

/* Everything below end, and not below the mark before, was sent then or earlier. */
struct toe_rack_mark {
	uint32_t end;
	uint32_t us;
};

/* Ascending in both.  When it is full the oldest goes: the next then speaks for its bytes too, and
 * gives them a later time, which makes a loss be noticed later but never too early. */
struct toe_rack_marks {
	struct toe_rack_mark m[TOE_RACK_MARKS];
	uint16_t head;
	uint16_t n;
};

/* CUBIC (RFC 9438), windows in bytes; see proto_cubic.c. */
struct toe_cubic {
	uint32_t w_max;      /* 0: nothing has been lost yet */
	uint32_t cwnd_prior; /* cwnd when something was */
	uint32_t epoch_ms; /* beginning of congestion avoidance, valid, as all below, if running */
	uint32_t k_ms;     /* from there until the function reaches w_max */
	uint32_t w_est;    /* what Reno would have */
	uint32_t w_est_rest; /* part of a byte, in 1/cwnd */
	bool running;
};

struct toe_rack {
	TOE_LINE_ALIGNED uint32_t conn;
	uint32_t gen;
	uint16_t next; /* of the free list, or of the slot on the wheel */
	uint16_t prev;
	uint16_t slot;   /* of the wheel; TOE_RACK_NONE: no timer runs */
	uint8_t mult;    /* RACK.reo_wnd_mult */
	uint8_t persist; /* recoveries it lasts */
	uint64_t due_us; /* reorder timer, valid with slot */

	uint32_t us;         /* RACK.xmit_ts: of the last sent of the segments that have arrived */
	uint32_t end;        /* RACK.end_seq */
	uint32_t rtt_us;     /* RACK.rtt */
	uint32_t min_rtt_us; /* 0: none yet */
	uint32_t fack;       /* RACK.fack: highest that has arrived, before this ACK */
	uint32_t high;       /* with it */
	uint32_t dsack_end;  /* RACK.dsack_round: the next D-SACK counts behind it */
	bool reordered;      /* RACK.reordering_seen */

	/* PRR (RFC 9937), bytes, of the recovery that goes on */
	uint32_t prr_delivered;
	uint32_t prr_out;
	uint32_t prr_told;   /* most the peer has told of, see proto_prr_told() */
	uint32_t prr_flight; /* RecoverFS; 0: not in recovery */

	/* What the last reduction took away, in case it was for nothing. */
	uint32_t undo_cwnd; /* 0: nothing to be undone */
	uint32_t undo_ssthresh;
	uint32_t undo_from;  /* SND.UNA then */
	uint32_t undo_again; /* segments resent since and not reported as duplicates */
	uint32_t undo_ms;    /* when the first of them was */
	uint32_t undo_w_max; /* of CUBIC */
	uint32_t undo_cwnd_prior;

	struct toe_cubic cubic;

	struct toe_rack_marks sent;  /* for the first time, or the tail again */
	struct toe_rack_marks again; /* what this recovery has resent */
};

struct toe_rack_pool {
	struct toe_rack *e;
	uint16_t free; /* first of the free list */
	uint16_t timers;
	uint64_t tick; /* of the wheel, all before are done */
	uint16_t wheel[TOE_RACK_TICKS];
};

/* n <= TOE_RACK_N elements; false: no memory. */
bool toe_rack_pool_init(struct toe_rack_pool *p, unsigned n);
void toe_rack_pool_fini(struct toe_rack_pool *p);

/* A fresh element; NULL: none left. */
struct toe_rack *toe_rack_take(struct toe_rack_pool *p, uint32_t conn, uint32_t gen);
/* Also stops its timer. */
void toe_rack_give(struct toe_rack_pool *p, struct toe_rack *r);

static inline uint16_t toe_rack_index(const struct toe_rack_pool *p, const struct toe_rack *r)
{
	return (uint16_t)(r - p->e);
}

void toe_rack_timer_start(struct toe_rack_pool *p, struct toe_rack *r, uint64_t now_us,
			  uint64_t due_us);
void toe_rack_timer_stop(struct toe_rack_pool *p, struct toe_rack *r);

/* One whose timer has gone off and is stopped; NULL: none, and never more than a turn of the wheel
 * is looked at. */
struct toe_rack *toe_rack_timer_next(struct toe_rack_pool *p, uint64_t now_us);

/* When the wheel has to be looked at, us; UINT64_MAX: no timer runs. */
uint64_t toe_rack_timer_due(const struct toe_rack_pool *p);

#endif
