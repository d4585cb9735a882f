/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The reference ends of path.h.  Sender: Reno (RFC 5681) with everything known about each segment,
 * loss by order of sending (what RACK does without reordering, and what finds lost
 * retransmissions), growth by every acknowledged segment, tail loss probe, RTO of 200 ms: what
 * Linux does on such a path.  Receiver: each second segment acknowledged, out-of-order ones at
 * once, all intervals kept, SACK blocks newest first, D-SACK, 4 MB of window; with ECN each segment
 * is acknowledged, and ECE says whether it was marked (RFC 8257 §3.2 without delayed ACKs).
 * Sequence numbers are relative, data begins at 1, segments are REF_MSS long.
 */
#ifndef TOE_TEST_WIRE_REFERENCE_H
#define TOE_TEST_WIRE_REFERENCE_H

#include "segment.h"

#define REF_MSS   1448u
#define REF_SEGS  65536u
#define REF_WS    7u
#define REF_RTO   200000u
#define REF_DUPS  3u
#define REF_DELAY 40000u

struct ref_seg {
	uint32_t serial; /* of its last transmission; 0: never sent */
	bool sacked, lost, again;
};

struct ref_sender {
	uint32_t end; /* sequence number after the last byte */
	uint32_t una, nxt, max, wnd, recover;
	double cwnd, ssthresh; /* segments */
	bool in_recovery, in_loss;
	uint32_t serial, newest; /* highest serial that has arrived */
	uint32_t out;            /* segments on the way */
	uint32_t delivered;      /* segments, by the last ACK */
	uint64_t srtt_us, timer_us, sent_at[REF_SEGS];
	bool probed, probe_now, limited;
	unsigned backoff, sent, rtx, rtos, probes, recoveries;
	struct ref_seg seg[REF_SEGS];
};

struct ref_receiver {
	uint32_t nxt;
	unsigned owed;
	uint64_t due_us;
	unsigned n, duplicates, quick;
	bool ecn;
	struct {
		uint32_t left, right;
	} iv[1024]; /* newest first */
};

static void ref_sender_init(struct ref_sender *s, uint32_t bytes)
{
	if (bytes / REF_MSS + 2 > REF_SEGS)
		wire_fail("the reference sends at most %u bytes", REF_SEGS * REF_MSS);
	s->end = 1 + bytes;
	s->una = s->nxt = s->max = s->recover = 1;
	s->wnd = 65535;
	s->cwnd = 10;
	s->ssthresh = 1e9;
}

static void ref_receiver_init(struct ref_receiver *r)
{
	r->nxt = 1;
	r->quick = 16;
}

/* ---- sender ---- */

static struct ref_seg *ref_at(struct ref_sender *s, uint32_t seq)
{
	return &s->seg[(seq - 1) / REF_MSS];
}

static void ref_arrived(struct ref_sender *s, uint32_t i, uint64_t now)
{
	struct ref_seg *g = &s->seg[i];

	if (g->sacked)
		return;
	g->sacked = true;
	s->delivered++;
	s->out -= !g->lost;
	g->lost = false;
	s->newest = g->serial > s->newest ? g->serial : s->newest;
	if (!g->again) {
		uint64_t rtt = now - s->sent_at[i];

		s->srtt_us = s->srtt_us ? (7 * s->srtt_us + rtt) / 8 : rtt;
	}
}

/* Everything sent well before what has arrived. */
static void ref_find_lost(struct ref_sender *s)
{
	bool any = false;

	for (uint32_t i = (s->una - 1) / REF_MSS; i * REF_MSS + 1 < s->max; i++) {
		struct ref_seg *g = &s->seg[i];

		if (!g->sacked && !g->lost && g->serial && g->serial + REF_DUPS <= s->newest) {
			g->lost = true;
			s->out--;
			any = true;
		}
	}
	if (!any || s->in_recovery || s->in_loss)
		return;
	s->in_recovery = true;
	s->recover = s->max;
	s->ssthresh = s->cwnd / 2 > 2 ? s->cwnd / 2 : 2;
	s->cwnd = s->ssthresh;
	s->recoveries++;
}

static void ref_grow(struct ref_sender *s, unsigned acked)
{
	if (s->in_recovery)
		return;
	if (s->cwnd < s->ssthresh) {
		s->cwnd += acked;
		if (s->cwnd > s->ssthresh)
			s->cwnd = s->ssthresh;
	} else {
		s->cwnd += (double)acked / s->cwnd;
	}
}

static void ref_arm(struct ref_sender *s, uint64_t now)
{
	uint64_t pto = 2 * s->srtt_us + 2000;

	if (s->una == s->max)
		s->timer_us = 0;
	else if (!s->probed && s->srtt_us && pto < REF_RTO)
		s->timer_us = now + pto;
	else
		s->timer_us = now + ((REF_RTO + s->srtt_us) << s->backoff);
}

static void ref_acked(struct ref_sender *s, const struct wire_seg *g, uint64_t now)
{
	uint32_t before = s->una;

	s->delivered = 0;

	for (uint32_t seq = s->una; seq < g->ack; seq += REF_MSS)
		ref_arrived(s, (seq - 1) / REF_MSS, now);
	for (unsigned i = 0; i < g->sack_n; i++)
		for (uint32_t seq = g->sack[i][0]; seq < g->sack[i][1]; seq += REF_MSS)
			if (seq >= s->una)
				ref_arrived(s, (seq - 1) / REF_MSS, now);
	s->una = g->ack > s->una ? g->ack : s->una;
	s->nxt = s->nxt > s->una ? s->nxt : s->una;
	s->wnd = g->win << (g->flags & TOE_TCP_SYN     ? 0
			    : w.at != NULL && w.at->ws ? w.at->engine_ws
						       : REF_WS);
	if ((s->in_recovery || s->in_loss) && s->una >= s->recover) {
		s->in_recovery = s->in_loss = false;
	}
	ref_find_lost(s);
	if (s->una == before)
		return;
	if (s->limited)
		ref_grow(s, s->delivered);
	s->backoff = 0;
	s->probed = false;
	ref_arm(s, now);
}

static void ref_timer(struct ref_sender *s, uint64_t now)
{
	if (!s->timer_us || now < s->timer_us)
		return;
	if (!s->probed) {
		s->probed = s->probe_now = true;
		s->probes++;
		ref_arm(s, now);
		return;
	}
	s->rtos++;
	if (!s->in_recovery && !s->in_loss)
		s->ssthresh = s->cwnd / 2 > 2 ? s->cwnd / 2 : 2;
	s->cwnd = 1;
	s->in_recovery = false;
	s->in_loss = true;
	s->recover = s->max;
	for (uint32_t i = (s->una - 1) / REF_MSS; i * REF_MSS + 1 < s->max; i++) {
		struct ref_seg *g = &s->seg[i];

		s->out -= !g->sacked && !g->lost;
		g->lost = !g->sacked;
	}
	s->backoff++;
	ref_arm(s, now);
}

static uint64_t ref_deadline(const struct ref_sender *s)
{
	return s->timer_us ? s->timer_us : UINT64_MAX;
}

static void ref_build(struct ref_sender *s, uint32_t seq, uint64_t now, struct wire_seg *out)
{
	struct ref_seg *g = ref_at(s, seq);
	uint32_t len = s->end - seq < REF_MSS ? s->end - seq : REF_MSS;

	*out = (struct wire_seg){
		.flags = TOE_TCP_ACK, .seq = seq, .len = len, .ack = 1, .win = 512};
	out->ts = out->any_val = out->any_ecr = true;
	g->again = g->serial != 0;
	s->rtx += g->again;
	s->sent++;
	g->serial = ++s->serial;
	s->sent_at[(seq - 1) / REF_MSS] = now;
	if (s->una == s->max || s->timer_us == 0)
		ref_arm(s, now);
	s->max = seq + len > s->max ? seq + len : s->max;
	if (s->timer_us == 0)
		ref_arm(s, now);
}

static bool ref_send(struct ref_sender *s, uint64_t now, struct wire_seg *out)
{
	uint32_t last = s->max - 1 - (s->max - 2) % REF_MSS;

	if (s->probe_now) {
		s->probe_now = false;
		if (s->max > s->una && !ref_at(s, last)->sacked) {
			struct ref_seg *g = ref_at(s, last);

			s->out += g->lost;
			g->lost = false;
			ref_build(s, last, now, out);
			return true;
		}
	}
	s->limited = s->out >= (uint32_t)s->cwnd;
	if (s->limited)
		return false;
	for (uint32_t seq = s->una; seq < s->max; seq += REF_MSS) {
		struct ref_seg *g = ref_at(s, seq);

		if (!g->lost)
			continue;
		g->lost = false;
		s->out++;
		ref_build(s, seq, now, out);
		return true;
	}
	if (s->nxt >= s->end || s->nxt + REF_MSS > s->una + s->wnd)
		return false;
	s->out++;
	ref_build(s, s->nxt, now, out);
	s->nxt += out->len;
	return true;
}

/* ---- receiver ---- */

static void ref_keep(struct ref_receiver *r, uint32_t left, uint32_t right)
{
	unsigned n = 0;

	for (unsigned i = 0; i < r->n; i++) {
		if (r->iv[i].left <= right && r->iv[i].right >= left) {
			left = r->iv[i].left < left ? r->iv[i].left : left;
			right = r->iv[i].right > right ? r->iv[i].right : right;
		} else {
			r->iv[n++] = r->iv[i];
		}
	}
	if (n == 1024)
		wire_fail("the reference keeps 1024 intervals");
	memmove(&r->iv[1], &r->iv[0], n * sizeof(r->iv[0]));
	r->iv[0].left = left;
	r->iv[0].right = right;
	r->n = n + 1;
}

static void ref_take_kept(struct ref_receiver *r)
{
	for (unsigned i = 0; i < r->n; i++)
		if (r->iv[i].left <= r->nxt) {
			r->nxt = r->iv[i].right > r->nxt ? r->iv[i].right : r->nxt;
			r->iv[i] = r->iv[--r->n];
			i = (unsigned)-1;
		}
}

static bool ref_held(const struct ref_receiver *r, uint32_t left, uint32_t right)
{
	for (unsigned i = 0; i < r->n; i++)
		if (r->iv[i].left <= left && r->iv[i].right >= right)
			return true;
	return false;
}

static void ref_ack(struct ref_receiver *r, struct wire_seg *out)
{
	*out = (struct wire_seg){
		.flags = TOE_TCP_ACK, .seq = 1, .ack = r->nxt, .win = 4194304u >> REF_WS};
	out->ts = out->any_val = out->any_ecr = true;
	r->owed = 0;
	r->due_us = 0;
}

static bool ref_receive(struct ref_receiver *r, const struct wire_seg *g, uint64_t now,
			struct wire_seg *out)
{
	uint32_t end = g->seq + g->len;
	bool dup = end <= r->nxt || ref_held(r, g->seq, end);
	bool quick = dup || r->n > 0 || g->seq > r->nxt || r->ecn;

	if (g->len == 0)
		return false;
	r->duplicates += dup;
	if (!dup && g->seq > r->nxt) {
		ref_keep(r, g->seq, end);
	} else if (!dup) {
		r->nxt = end;
		ref_take_kept(r);
	}
	r->owed++;
	if (!quick && r->owed < 2 && r->quick == 0) {
		r->due_us = r->due_us ? r->due_us : now + REF_DELAY;
		return false;
	}
	r->quick -= r->quick > 0;
	ref_ack(r, out);
	if (g->ecn == 3)
		out->flags |= TOE_TCP_ECE;
	if (dup) {
		out->sack[0][0] = g->seq;
		out->sack[0][1] = end;
		out->sack_n = 1;
	}
	for (unsigned i = 0; i < r->n && out->sack_n < 3; i++, out->sack_n++) {
		out->sack[out->sack_n][0] = r->iv[i].left;
		out->sack[out->sack_n][1] = r->iv[i].right;
	}
	return true;
}

static bool ref_delayed(struct ref_receiver *r, uint64_t now, struct wire_seg *out)
{
	if (!r->due_us || now < r->due_us)
		return false;
	ref_ack(r, out);
	return true;
}

#endif
