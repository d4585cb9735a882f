/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Protocol stage: RACK (RFC 8985 §6), loss by time of transmission.
 *
 * What was sent before something that has arrived is lost when it is overdue by the reorder window.
 * First transmissions leave in sequence order, hence what is lost of them is what is not SACKed
 * below one sequence number, rack_edge, which takes the place of RFC 6675's IsLost() in
 * proto_loss.c.  What recovery resends has times of its own; if the first of them is overdue, all
 * of it goes again.  State: the flow's element of the pool (rack.h).  Thread: the proto instance.
 */
#include "proto.h"

#define RACK_MULT_MAX 64u
#define RACK_PERSIST  16u /* recoveries (RFC 8985 §6.2 step 4) */
#define RACK_FLIGHT   1u  /* segments in flight that make another one worth an element */

/* ---- marks ---- */

static struct toe_rack_mark *mark_at(struct toe_rack_marks *k, unsigned i)
{
	return &k->m[(k->head + i) % TOE_RACK_MARKS];
}

/* One burst, one mark. */
static void mark_push(struct toe_rack_marks *k, uint32_t end, uint32_t us)
{
	if (k->n > 0 && mark_at(k, k->n - 1u)->us == us) {
		mark_at(k, k->n - 1u)->end = end;
		return;
	}
	if (k->n == TOE_RACK_MARKS) {
		k->head++;
		k->n--;
	}
	*mark_at(k, k->n++) = (struct toe_rack_mark){end, us};
}

static void mark_drop_below(struct toe_rack_marks *k, uint32_t seq)
{
	while (k->n > 0 && seq_leq(mark_at(k, 0)->end, seq)) {
		k->head++;
		k->n--;
	}
}

/* The mark of the byte before end; NULL: none is kept. */
static const struct toe_rack_mark *mark_of(struct toe_rack_marks *k, uint32_t end)
{
	for (unsigned i = 0; i < k->n; i++)
		if (seq_geq(mark_at(k, i)->end, end))
			return mark_at(k, i);
	return NULL;
}

/* ---- sending ---- */

static struct toe_rack *rack_take(struct toe_flow_proto *fp, uint32_t before,
				  const struct toe_clock *now, struct proto_out *out)
{
	struct toe_rack *r;

	if (out->racks == NULL || !proto_is(fp, TOE_FP_SACK) ||
	    proto_is(fp, TOE_FP_RECOVERY | TOE_FP_LOSS) ||
	    before - fp->snd_una < RACK_FLIGHT * fp->mss)
		return NULL;
	r = toe_rack_take(out->racks, out->conn, fp->gen);
	if (r == NULL) {
		proto_counted(out, TOE_C_RACK_NONE);
		return NULL;
	}
	static_assert(TOE_RACK_N < 1u << 13, "toe_flow_proto.rack has 13 bits");
	fp->rack = (toe_rack_index(out->racks, r) + 1u) & 0x1fffu;
	if (fp->sb != NULL)
		fp->sb->rack_edge = fp->snd_una;
	r->fack = r->high = r->dsack_end = fp->snd_una;
	r->reordered = fp->reorder != 0;
	proto_cubic_recall(fp, out);
	/* What is in flight already was sent before now. */
	mark_push(&r->sent, before, (uint32_t)now->us);
	return r;
}

void proto_rack_sent(struct toe_flow_proto *fp, uint32_t before, uint32_t end,
		     const struct toe_clock *now, struct proto_out *out)
{
	struct toe_rack *r = proto_rack(fp, out);

	if (r == NULL)
		r = rack_take(fp, before, now, out);
	if (r != NULL)
		mark_push(&r->sent, end, (uint32_t)now->us);
}

void proto_rack_sent_again(struct toe_flow_proto *fp, uint32_t end, const struct toe_clock *now,
			   struct proto_out *out)
{
	struct toe_rack *r = proto_rack(fp, out);

	if (r != NULL && (r->again.n == 0 || seq_gt(end, mark_at(&r->again, r->again.n - 1u)->end)))
		mark_push(&r->again, end, (uint32_t)now->us);
}

void proto_rack_sent_tail(struct toe_flow_proto *fp, uint32_t seq, const struct toe_clock *now,
			  struct proto_out *out)
{
	struct toe_rack *r = proto_rack(fp, out);

	if (r == NULL)
		return;
	while (r->sent.n > 1 && seq_geq(mark_at(&r->sent, r->sent.n - 2u)->end, seq))
		r->sent.n--;
	if (r->sent.n > 0 && seq_gt(seq, fp->snd_una))
		mark_at(&r->sent, r->sent.n - 1u)->end = seq;
	else
		r->sent.n = 0;
	mark_push(&r->sent, fp->snd_max, (uint32_t)now->us);
}

/* ---- arriving ---- */

/* Step 2: the last sent of the segments that have arrived. */
static void rack_update(struct toe_rack *r, const struct toe_rack_mark *m, uint32_t end,
			uint32_t now)
{
	int32_t later = (int32_t)(m->us - r->us);

	if (r->rtt_us != 0 && (later < 0 || (later == 0 && seq_leq(end, r->end))))
		return;
	r->us = m->us;
	r->end = end;
	r->rtt_us = proto_max(now - m->us, 1);
}

void proto_rack_arrived(struct toe_flow_proto *fp, uint32_t left, uint32_t right,
			const struct toe_clock *now, struct proto_out *out)
{
	struct toe_rack *r = proto_rack(fp, out);
	uint32_t resent = proto_is(fp, TOE_FP_RECOVERY) ? proto_rtx_nxt(fp) : fp->snd_una;
	const struct toe_rack_mark *m;

	if (r == NULL)
		return;
	/* Step 3: it was overtaken, and not resent.  Of a SACK block only the end is sure to be
	 * news; an ACK ends what was missing at its beginning. */
	if (seq_lt(left == fp->snd_una ? left : right, r->fack) &&
	    !proto_is(fp, TOE_FP_LOSS | TOE_FP_TLP) &&
	    (!proto_is(fp, TOE_FP_RECOVERY) || seq_geq(left, resent)))
		r->reordered = true;
	r->high = seq_max(r->high, right);
	m = mark_of(&r->sent, right);
	if (m != NULL && !(proto_is(fp, TOE_FP_RECOVERY) && seq_leq(right, resent))) {
		uint32_t rtt = proto_max((uint32_t)now->us - m->us, 1);

		if (!proto_is(fp, TOE_FP_TLP) || rtt >= r->min_rtt_us)
			rack_update(r, m, right, (uint32_t)now->us);
		if (!proto_is(fp, TOE_FP_TLP) && (r->min_rtt_us == 0 || rtt < r->min_rtt_us))
			r->min_rtt_us = rtt;
	}
	if (!proto_is(fp, TOE_FP_RECOVERY) || seq_geq(left, resent))
		return;
	/* Too early for an answer to what was resent: it is about the first one. */
	right = seq_min(right, resent);
	m = mark_of(&r->again, right);
	if (m != NULL && (uint32_t)now->us - m->us >= r->min_rtt_us)
		rack_update(r, m, right, (uint32_t)now->us);
}

void proto_rack_dsack(struct toe_flow_proto *fp, struct proto_out *out)
{
	struct toe_rack *r = proto_rack(fp, out);

	if (r == NULL || seq_lt(fp->snd_una, r->dsack_end))
		return; /* once in a round trip */
	r->dsack_end = fp->snd_max;
	r->reordered = true;
	r->persist = RACK_PERSIST;
	r->mult = (uint8_t)proto_min(r->mult + 1u, RACK_MULT_MAX);
}

/* ---- deciding ---- */

/* Step 4.  Without reordering three SACKed segments are enough, as they always were. */
static uint32_t rack_window(const struct toe_flow_proto *fp, const struct toe_rack *r)
{
	const struct toe_sacked *k = &proto_sb(fp)->sacked;
	uint32_t bytes = proto_loss_sacked_in(fp, fp->snd_una, fp->snd_max);

	if (!r->reordered && (proto_is(fp, TOE_FP_RECOVERY) || k->n >= PROTO_DUP_THRESH ||
			      bytes > (PROTO_DUP_THRESH - 1) * fp->mss))
		return 0;
	return proto_min(r->min_rtt_us / 4 * r->mult, fp->srtt_us);
}

/* Step 5 on marks of one kind: where what is overdue ends; *wait: us until more will be. */
static uint32_t rack_overdue(const struct toe_flow_proto *fp, const struct toe_rack *r,
			     struct toe_rack_marks *k, uint32_t now, uint32_t *wait)
{
	uint32_t limit = r->rtt_us + rack_window(fp, r);
	uint32_t edge = fp->snd_una;

	mark_drop_below(k, fp->snd_una);
	for (unsigned i = 0; r->rtt_us != 0 && i < k->n; i++) {
		const struct toe_rack_mark *m = mark_at(k, i);
		int32_t later = (int32_t)(m->us - r->us);
		uint32_t end = later == 0 ? seq_min(m->end, r->end) : m->end;
		uint32_t age = now - m->us;

		if (later > 0 || seq_leq(end, edge))
			break;
		if (age < limit && proto_loss_sacked_in(fp, edge, end) != end - edge) {
			*wait = proto_min(*wait, limit - age);
			break;
		}
		edge = end;
	}
	return edge;
}

static void rack_set_edge(struct toe_flow_proto *fp, uint32_t edge, struct proto_out *out)
{
	struct toe_scoreboard *sb = edge != fp->snd_una ? proto_sb_take(fp, out) : fp->sb;

	if (sb != NULL)
		sb->rack_edge = edge;
}

bool proto_rack_detect(struct toe_flow_proto *fp, const struct toe_clock *now,
		       struct proto_out *out)
{
	struct toe_rack *r = proto_rack(fp, out);
	uint32_t wait = UINT32_MAX, again = fp->snd_una;

	if (r == NULL)
		return false;
	if (fp->snd_una == fp->snd_max) {
		toe_rack_timer_stop(out->racks, r);
		return false;
	}
	r->fack = r->high;
	rack_set_edge(fp, rack_overdue(fp, r, &r->sent, (uint32_t)now->us, &wait), out);
	if (proto_is(fp, TOE_FP_RECOVERY))
		again = rack_overdue(fp, r, &r->again, (uint32_t)now->us, &wait);
	if (wait == UINT32_MAX || proto_is(fp, TOE_FP_LOSS))
		toe_rack_timer_stop(out->racks, r);
	else
		toe_rack_timer_start(out->racks, r, now->us, now->us + wait);
	return again != fp->snd_una;
}

void proto_rack_timeout(struct toe_flow_proto *fp, const struct toe_clock *now,
			struct proto_out *out)
{
	proto_counted(out, TOE_C_REO_TIMEOUT);
	proto_loss_found(fp, proto_rack_detect(fp, now, out), out);
	if (proto_is(fp, TOE_FP_RECOVERY))
		proto_prr_acked(fp, proto_prr_told(fp), false, out);
	proto_finish(fp, out, true);
}

/* ---- phases ---- */

void proto_rack_recovery(struct toe_flow_proto *fp, bool begins, struct proto_out *out)
{
	struct toe_rack *r = proto_rack(fp, out);

	if (r == NULL)
		return;
	r->again.n = 0;
	if (!begins && r->persist > 0 && --r->persist == 0)
		r->mult = 1;
}

void proto_rack_forget(struct toe_flow_proto *fp, struct proto_out *out)
{
	struct toe_rack *r = proto_rack(fp, out);

	if (r == NULL)
		return;
	toe_rack_timer_stop(out->racks, r);
	r->sent.n = r->again.n = 0;
	r->rtt_us = 0;
	rack_set_edge(fp, fp->snd_una, out);
}

void proto_rack_release(struct toe_flow_proto *fp, struct proto_out *out)
{
	struct toe_rack *r = proto_rack(fp, out);

	if (r == NULL)
		return;
	toe_rack_give(out->racks, r);
	fp->rack = 0;
}
