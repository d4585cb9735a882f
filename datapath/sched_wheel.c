// SPDX-License-Identifier: BSD-3-Clause
/*
 * Carousel wheel and round robin.
 *
 * Job: order flows that may send, by time if they have a rate, by turn if not.  Inputs: absolutes
 * of sendable bytes, rates, the clock.  Output: the next flow.  State: struct toe_wheel and the
 * toe_flow_sched array, both of the sched stage.  No calls out, no allocation, any thread.
 *
 * Accuracy: next_tsc is exact, slots only sort.  A flow is served up to one slot early, never on
 * average; if it is served late (the lcore was busy), up to slack_tsc are made up.
 */
#include <string.h>

#include "sched_wheel.h"
#include "toe/cpq.h"
#include "toe/region.h"

#define NEAR_BITS 10u
static_assert(1u << NEAR_BITS == TOE_WHEEL_NEAR, "far slots are whole turns of the near level");
static_assert(TOE_WHEEL_LISTS <= 1u << 11, "toe_flow_sched.list holds every list");

/* ---- intrusive lists ---- */

static uint64_t *map_word(struct toe_wheel *w, uint32_t list)
{
	if (list < TOE_WHEEL_NEAR)
		return &w->near_map[list / 64];
	return &w->far_map[(list - TOE_WHEEL_NEAR) / 64];
}

static void list_append(struct toe_wheel *w, uint32_t list, uint32_t conn)
{
	struct toe_flow_sched *f = &w->flows[conn];

	f->queued = 1;
	f->list = list & 0x7ffu;
	f->next = TOE_NONE;
	f->prev = w->tail[list];
	if (f->prev == TOE_NONE)
		w->head[list] = conn;
	else
		w->flows[f->prev].next = conn;
	w->tail[list] = conn;
	if (list == TOE_WHEEL_RR)
		return;
	w->paced++;
	*map_word(w, list) |= UINT64_C(1) << (list % 64);
}

static void list_unlink(struct toe_wheel *w, uint32_t conn)
{
	struct toe_flow_sched *f = &w->flows[conn];
	uint32_t list = f->list;

	if (!f->queued)
		return;
	if (f->prev == TOE_NONE)
		w->head[list] = f->next;
	else
		w->flows[f->prev].next = f->next;
	if (f->next == TOE_NONE)
		w->tail[list] = f->prev;
	else
		w->flows[f->next].prev = f->prev;
	f->queued = 0;
	if (list == TOE_WHEEL_RR) {
		if (f->prev == TOE_NONE)
			w->turn_left = TOE_SCHED_QUANTUM;
		return;
	}
	w->paced--;
	if (w->head[list] == TOE_NONE)
		*map_word(w, list) &= ~(UINT64_C(1) << (list % 64));
}

/* Distance (1..bits-1) from position at to the next set bit, going round; 0: none. */
static uint32_t map_next(const uint64_t *map, uint32_t bits, uint32_t at)
{
	uint32_t words = bits / 64;
	uint32_t k;

	for (k = 0; k <= words; k++) {
		uint32_t word = (at / 64 + k) % words;
		uint64_t v = map[word];
		uint32_t bit;

		if (k == 0)
			v &= at % 64 == 63 ? 0 : ~UINT64_C(0) << (at % 64 + 1);
		else if (k == words)
			v &= (UINT64_C(1) << (at % 64)) - 1;
		if (v == 0)
			continue;
		bit = word * 64 + (uint32_t)__builtin_ctzll(v);
		return (bit - at) % bits;
	}
	return 0;
}

/* ---- wheel ---- */

/*
 * At its time, if that is not over.  While the wheel is late, not into the slot it is at: that one
 * would never become empty if fast flows came back to it again and again, and whoever waits in a
 * later slot would starve.
 */
static void wheel_insert(struct toe_wheel *w, uint32_t conn, uint64_t now)
{
	uint64_t slot = w->flows[conn].next_tsc >> w->shift;
	uint64_t first = w->cur < now >> w->shift ? w->cur + 1 : w->cur;
	uint64_t far;

	if (slot < first)
		slot = first;
	if (slot - w->cur < TOE_WHEEL_NEAR) {
		list_append(w, (uint32_t)(slot % TOE_WHEEL_NEAR), conn);
		return;
	}
	far = slot >> NEAR_BITS;
	if (far - (w->cur >> NEAR_BITS) >= TOE_WHEEL_FAR)
		far = (w->cur >> NEAR_BITS) + TOE_WHEEL_FAR - 1;
	list_append(w, TOE_WHEEL_NEAR + (uint32_t)(far % TOE_WHEEL_FAR), conn);
}

/* The wheel has come to the first near slot of a far one: sort its flows in. */
static void wheel_cascade(struct toe_wheel *w, uint64_t now)
{
	uint32_t list = TOE_WHEEL_NEAR + (uint32_t)((w->cur >> NEAR_BITS) % TOE_WHEEL_FAR);
	uint32_t conn = w->head[list];

	while (conn != TOE_NONE) {
		uint32_t next = w->flows[conn].next;

		list_unlink(w, conn);
		wheel_insert(w, conn, now);
		conn = next;
	}
}

/* The next near slot after cur that is occupied or starts an occupied far one; UINT64_MAX: none. */
static uint64_t wheel_next_slot(const struct toe_wheel *w)
{
	uint32_t near = map_next(w->near_map, TOE_WHEEL_NEAR, (uint32_t)(w->cur % TOE_WHEEL_NEAR));
	uint64_t turn = w->cur >> NEAR_BITS;
	uint32_t far = map_next(w->far_map, TOE_WHEEL_FAR, (uint32_t)(turn % TOE_WHEEL_FAR));
	uint64_t a = near != 0 ? w->cur + near : UINT64_MAX;
	uint64_t b = far != 0 ? (turn + far) << NEAR_BITS : UINT64_MAX;

	return a < b ? a : b;
}

/* Goes on to the first occupied slot that is due, leaving none behind that still has flows.  The
 * flow at its head, or TOE_NONE. */
static uint32_t wheel_due(struct toe_wheel *w, uint64_t now)
{
	uint64_t now_slot = now >> w->shift;

	for (;;) {
		uint32_t conn = w->head[w->cur % TOE_WHEEL_NEAR];
		uint64_t next;

		if (conn != TOE_NONE)
			return conn;
		if (w->cur >= now_slot)
			return TOE_NONE;
		next = w->paced != 0 ? wheel_next_slot(w) : UINT64_MAX;
		if (next > now_slot) {
			w->cur = now_slot;
			return TOE_NONE;
		}
		w->cur = next;
		if (next % TOE_WHEEL_NEAR == 0)
			wheel_cascade(w, now);
	}
}

static bool rate_paces(uint32_t rate)
{
	return rate != 0 && rate != TOE_RATE_PACKED_UNPACED;
}

static uint64_t send_ticks(const struct toe_wheel *w, uint32_t bytes, uint32_t rate)
{
	return (uint64_t)((unsigned __int128)bytes * 8 * w->hz / toe_rate_unpack(rate));
}

/* ---- flows ---- */

static void flow_queue(struct toe_wheel *w, uint32_t conn, uint64_t now)
{
	struct toe_flow_sched *f = &w->flows[conn];

	if (f->queued || f->removed || f->avail == 0 || f->rate == 0)
		return;
	if (f->rate == TOE_RATE_PACKED_UNPACED) {
		list_append(w, TOE_WHEEL_RR, conn);
		return;
	}
	if (w->paced == 0 && w->cur < now >> w->shift)
		w->cur = now >> w->shift;
	wheel_insert(w, conn, now);
}

void toe_wheel_init(struct toe_wheel *w, struct toe_flow_sched *flows, uint32_t flow_n,
		    uint64_t tsc_hz, uint64_t now)
{
	uint32_t i;

	memset(w, 0, sizeof(*w));
	w->flows = flows;
	w->hz = tsc_hz;
	while ((tsc_hz >> (w->shift + 1)) >= 250000)
		w->shift++; /* widest slot of at most 4 us */
	w->slack_tsc = tsc_hz / 20000;
	w->cur = now >> w->shift;
	w->turn_left = TOE_SCHED_QUANTUM;
	for (i = 0; i < TOE_WHEEL_LISTS; i++)
		w->head[i] = w->tail[i] = TOE_NONE;
	for (i = 0; i < flow_n; i++) {
		memset(&flows[i], 0, sizeof(flows[i]));
		flows[i].removed = 1;
	}
}

void toe_wheel_add(struct toe_wheel *w, uint32_t conn, uint32_t gen, uint16_t mss)
{
	struct toe_flow_sched *f = &w->flows[conn];

	list_unlink(w, conn);
	memset(f, 0, sizeof(*f));
	f->gen = gen;
	f->mss = mss != 0 ? mss : 536; /* as proto */
	f->rate = TOE_RATE_PACKED_UNPACED;
}

void toe_wheel_remove(struct toe_wheel *w, uint32_t conn)
{
	struct toe_flow_sched *f = &w->flows[conn];

	list_unlink(w, conn);
	if (!f->removed)
		f->held = NULL; /* was next_tsc */
	f->removed = 1;
	f->avail = 0;
}

void toe_wheel_sendable(struct toe_wheel *w, uint32_t conn, uint32_t sendable, uint64_t now)
{
	struct toe_flow_sched *f = &w->flows[conn];
	uint64_t given = (uint64_t)f->inflight * f->mss;

	f->avail = sendable > given ? (uint32_t)(sendable - given) : 0;
	if (f->avail == 0)
		list_unlink(w, conn);
	else
		flow_queue(w, conn, now);
}

void toe_wheel_rate(struct toe_wheel *w, uint32_t conn, uint64_t rate_bps, uint64_t now)
{
	struct toe_flow_sched *f = &w->flows[conn];
	uint32_t old = f->rate;
	uint32_t rate = toe_rate_pack(rate_bps);

	if (rate == old || f->removed)
		return;
	list_unlink(w, conn);
	f->rate = rate & 0x3fffffu;
	/* the part of the wait that is left was for bytes at the old rate */
	if (f->next_tsc > now && rate_paces(rate) && rate_paces(old)) {
		unsigned __int128 wait = (unsigned __int128)(f->next_tsc - now) *
					 toe_rate_unpack(old) / toe_rate_unpack(rate);
		uint64_t most = send_ticks(w, f->mss, rate);

		f->next_tsc = now + (wait < most ? (uint64_t)wait : most);
	}
	flow_queue(w, conn, now);
}

/* ---- service ---- */

static void charge(struct toe_flow_sched *f, uint32_t *bytes)
{
	*bytes = f->avail < f->mss ? f->avail : f->mss;
	f->avail -= *bytes;
	f->inflight++;
}

static uint32_t next_rr(struct toe_wheel *w)
{
	uint32_t conn = w->head[TOE_WHEEL_RR];
	struct toe_flow_sched *f;
	uint32_t bytes;

	if (conn == TOE_NONE)
		return TOE_NONE;
	f = &w->flows[conn];
	charge(f, &bytes);
	if (f->avail == 0) {
		list_unlink(w, conn); /* the next one starts with a whole quantum */
	} else if (--w->turn_left == 0) {
		list_unlink(w, conn);
		list_append(w, TOE_WHEEL_RR, conn);
	}
	return conn;
}

static uint32_t next_paced(struct toe_wheel *w, uint64_t now)
{
	uint32_t conn = wheel_due(w, now);
	struct toe_flow_sched *f;
	uint64_t earliest = now > w->slack_tsc ? now - w->slack_tsc : 0;
	uint32_t bytes;

	if (conn == TOE_NONE)
		return TOE_NONE;
	f = &w->flows[conn];
	list_unlink(w, conn);
	charge(f, &bytes);
	if (f->next_tsc < earliest)
		f->next_tsc = earliest;
	f->next_tsc += send_ticks(w, bytes, f->rate);
	/* While the wheel is late a flow is served once per slot: whoever waits in a later slot
	 * gets his turn, however fast this one is. */
	if (f->avail != 0)
		wheel_insert(w, conn, w->cur < now >> w->shift ? w->cur + 1 : w->cur);
	return conn;
}

uint32_t toe_wheel_next(struct toe_wheel *w, uint64_t now)
{
	bool rr_first = w->prefer_rr;
	uint32_t conn;

	w->prefer_rr = !rr_first;
	conn = rr_first ? next_rr(w) : next_paced(w, now);
	if (conn == TOE_NONE)
		conn = rr_first ? next_paced(w, now) : next_rr(w);
	return conn;
}

uint64_t toe_wheel_deadline(const struct toe_wheel *w, uint64_t now)
{
	uint64_t slot;

	if (w->head[TOE_WHEEL_RR] != TOE_NONE)
		return now;
	if (w->paced == 0)
		return UINT64_MAX;
	if (w->head[w->cur % TOE_WHEEL_NEAR] != TOE_NONE)
		slot = w->cur;
	else
		slot = wheel_next_slot(w);
	return slot << w->shift;
}
