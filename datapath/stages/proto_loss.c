/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Protocol stage: loss detection and recovery of the sender.
 *
 * Input: what an ACK acknowledged and reported by SACK, RTO and probe commands.  Output: the state
 * that proto_tx.c turns into retransmissions.  With SACK: RFC 6675 (scoreboard, IsLost, pipe) with
 * RACK (proto_rack.c), or in its place detection of lost retransmissions by what was sent later;
 * and tail loss probes (RFC 8985 §7).  Without: NewReno (RFC 6582).  After an RTO: go-back-N and
 * slow start up to ssthresh, here and not by the control plane, as one segment per round trip of
 * the control plane would be too slow.  Owns nothing.  Thread: the proto instance.
 */
#include "proto.h"

#define LOSS_FAR (1u << 30) /* recover is never further behind: it is compared with */

/* ---- scoreboard ---- */

/* All that is lost is to be resent. */
static void loss_rtx_from_una(struct toe_flow_proto *fp)
{
	if (fp->sb == NULL)
		return;
	fp->sb->rtx_nxt = fp->snd_una;
	if (fp->rack == 0)
		fp->sb->rtx_mark = fp->snd_max;
}

struct toe_scoreboard *proto_sb_take(struct toe_flow_proto *fp, struct proto_out *out)
{
	if (fp->sb != NULL) {
		toe_scoreboard_use(fp->sb, out->now_ms);
		return fp->sb;
	}
	if (out->scoreboards == NULL)
		return NULL;
	switch (toe_scoreboard_take(out->scoreboards, &fp->sb, out->now_ms)) {
	case TOE_SB_NONE:
		proto_counted(out, TOE_C_SCOREBOARD_NONE);
		return NULL;
	case TOE_SB_OTHER:
		proto_counted(out, TOE_C_SCOREBOARD_LOST);
		break;
	default:
		break;
	}
	loss_rtx_from_una(fp);
	if (fp->rack != 0)
		fp->sb->rack_edge = fp->snd_una;
	return fp->sb;
}

void proto_sb_release(struct toe_flow_proto *fp, struct proto_out *out)
{
	if (fp->sb != NULL)
		toe_scoreboard_give(out->scoreboards, &fp->sb);
}

void proto_sb_settle(struct toe_flow_proto *fp, struct proto_out *out)
{
	const struct toe_scoreboard *sb = proto_sb(fp);

	if (sb->ooo.n == 0 && !sb->ooo.fin_pending && sb->sacked.n == 0 &&
	    !proto_is(fp, TOE_FP_RECOVERY))
		proto_sb_release(fp, out);
}

static void sacked_remove(struct toe_sacked *k, uint32_t from, uint32_t to)
{
	uint32_t gone = to - from;

	for (uint32_t i = to; i < k->n; i++)
		k->iv[i - gone] = k->iv[i];
	k->n -= gone;
}

/* All that begins at or below una. */
static void sacked_forget(struct toe_sacked *k, uint32_t una)
{
	uint32_t gone = 0;

	while (gone < k->n && seq_leq(k->iv[gone].left, una))
		gone++;
	sacked_remove(k, 0, gone);
}

/* Makes room at index at by forgetting the shortest interval; false: the new one is the shortest.
 * What is forgotten is at worst sent twice. */
static bool sacked_evict(struct toe_sacked *k, uint32_t *at, uint32_t bytes)
{
	uint32_t min = 0;

	for (uint32_t i = 1; i < k->n; i++)
		if (k->iv[i].right - k->iv[i].left < k->iv[min].right - k->iv[min].left)
			min = i;
	if (bytes <= k->iv[min].right - k->iv[min].left)
		return false;
	sacked_remove(k, min, min + 1);
	if (min < *at)
		--*at;
	return true;
}

/* True: some of [left, right) was not known yet. */
static bool sacked_add(struct toe_sacked *k, uint32_t left, uint32_t right)
{
	uint32_t l = left, r = right, fresh = right - left;
	uint32_t i = 0, j;

	while (i < k->n && seq_lt(k->iv[i].right, left))
		i++;
	for (j = i; j < k->n && seq_leq(k->iv[j].left, right); j++) {
		fresh -= seq_min(right, k->iv[j].right) - seq_max(left, k->iv[j].left);
		l = seq_min(l, k->iv[j].left);
		r = seq_max(r, k->iv[j].right);
	}
	if (fresh == 0)
		return false;
	if (j > i) {
		sacked_remove(k, i + 1, j);
	} else {
		if (k->n == TOE_SACK_MAX && !sacked_evict(k, &i, right - left))
			return false;
		for (j = k->n++; j > i; j--)
			k->iv[j] = k->iv[j - 1];
	}
	k->iv[i].left = l;
	k->iv[i].right = r;
	return true;
}

/* SACKed bytes inside [from, to), from <= to. */
static uint32_t sacked_in(const struct toe_sacked *k, uint32_t from, uint32_t to)
{
	uint32_t bytes = 0;

	for (uint32_t i = 0; i < k->n; i++) {
		uint32_t l = seq_max(k->iv[i].left, from), r = seq_min(k->iv[i].right, to);

		if (seq_lt(l, r))
			bytes += r - l;
	}
	return bytes;
}

uint32_t proto_loss_sacked_in(const struct toe_flow_proto *fp, uint32_t from, uint32_t to)
{
	return sacked_in(&proto_sb(fp)->sacked, from, to);
}

static uint32_t sacked_top(const struct toe_sacked *k)
{
	return k->iv[k->n - 1].right;
}

/* The first block reports a duplicate (RFC 2883 §4). */
static bool seg_is_dsack(const struct toe_seg *seg)
{
	if (seg->sack_n == 0)
		return false;
	return seq_lt(seg->sack[0].left, seg->ack) ||
	       (seg->sack_n > 1 && seq_geq(seg->sack[0].left, seg->sack[1].left) &&
		seq_leq(seg->sack[0].right, seg->sack[1].right));
}

/* Of what was in flight when fast recovery began (twice ssthresh since then) something had arrived
 * that it has resent: it was late, not lost.  Wait for more the next time (RFC 4653's idea, as much
 * as Linux's).  An RTO forgets it, and what go-back-N has resent says nothing. */
static void loss_note_reordering(struct toe_flow_proto *fp, const struct toe_seg *seg)
{
	uint32_t below = fp->recover - seg->sack[0].right;

	if (proto_is(fp, TOE_FP_FAST_LOSS) && !proto_is(fp, TOE_FP_TLP) &&
	    below < 2u * fp->ssthresh && fp->reorder < PROTO_REORDER_MAX)
		fp->reorder++;
}

/* Takes the blocks that say something possible.  True: there was news.  Without a scoreboard each
 * of them is, as a duplicate ACK is without SACK. */
static bool loss_take_blocks(struct toe_flow_proto *fp, const struct toe_seg *seg,
			     const struct toe_clock *now, struct proto_out *out)
{
	bool news = false;

	for (uint32_t i = 0; i < seg->sack_n; i++) {
		uint32_t left = seg->sack[i].left, right = seg->sack[i].right;

		if (seq_leq(left, fp->snd_una) || seq_geq(left, right) ||
		    seq_gt(right, fp->snd_max))
			continue;
		if (proto_sb_take(fp, out) == NULL) {
			news = true;
		} else if (sacked_add(&fp->sb->sacked, left, right)) {
			news = true;
			proto_rack_arrived(fp, left, right, now, out);
		}
	}
	return news;
}

bool proto_loss_sack(struct toe_flow_proto *fp, const struct toe_seg *seg,
		     const struct toe_clock *now, struct proto_out *out)
{
	bool news;

	if (!proto_is(fp, TOE_FP_SACK) || (fp->sb == NULL && seg->sack_n == 0))
		return false;
	if (seg_is_dsack(seg)) {
		loss_note_reordering(fp, seg);
		proto_rack_dsack(fp, out);
		proto_undo_dsack(fp, seg, out);
	}
	/* One that holds SND.UNA itself would have been acknowledged: the peer changed its mind. */
	if (fp->sb != NULL)
		sacked_forget(&fp->sb->sacked, fp->snd_una);
	news = loss_take_blocks(fp, seg, now, out);
	proto_loss_skip(fp);
	return news;
}

void proto_loss_skip(struct toe_flow_proto *fp)
{
	const struct toe_sacked *k = &proto_sb(fp)->sacked;

	for (uint32_t i = 0; i < k->n && seq_lt(fp->snd_nxt, fp->snd_max); i++)
		if (seq_geq(fp->snd_nxt, k->iv[i].left) && seq_lt(fp->snd_nxt, k->iv[i].right))
			fp->snd_nxt = k->iv[i].right;
}

uint32_t proto_loss_hole_end(const struct toe_flow_proto *fp, uint32_t seq, uint32_t end)
{
	const struct toe_sacked *k = &proto_sb(fp)->sacked;

	for (uint32_t i = 0; i < k->n; i++)
		if (seq_gt(k->iv[i].left, seq))
			return seq_min(k->iv[i].left, end);
	return end;
}

/* ---- RFC 6675 ---- */

/* Below it, what is not SACKed is lost (IsLost(): enough was received above); SND.UNA: nothing. */
static uint32_t loss_edge(const struct toe_flow_proto *fp)
{
	const struct toe_sacked *k = &proto_sb(fp)->sacked;
	uint32_t bytes = 0;

	if (fp->rack != 0)
		return seq_min(seq_max(proto_rack_edge(fp), fp->snd_una), fp->snd_max);
	for (uint32_t i = k->n; i-- > 0;) {
		bytes += k->iv[i].right - k->iv[i].left;
		if (bytes > (proto_dup_thresh(fp) - 1) * fp->mss ||
		    k->n - i >= proto_dup_thresh(fp))
			return k->iv[i].left;
	}
	return fp->snd_una;
}

/* Bytes in [max(SND.UNA, rtx_nxt), edge) that are not SACKed. */
static uint32_t loss_unsent(const struct toe_flow_proto *fp, uint32_t edge)
{
	uint32_t at = seq_max(fp->snd_una, proto_rtx_nxt(fp));

	return seq_lt(at, edge) ? edge - at - proto_loss_sacked_in(fp, at, edge) : 0;
}

uint32_t proto_loss_pipe(const struct toe_flow_proto *fp)
{
	return fp->snd_max - fp->snd_una - proto_loss_sacked_in(fp, fp->snd_una, fp->snd_max) -
	       loss_unsent(fp, loss_edge(fp));
}

uint32_t proto_loss_budget(const struct toe_flow_proto *fp)
{
	uint32_t pipe = proto_loss_pipe(fp);

	return fp->cwnd > pipe ? fp->cwnd - pipe : 0;
}

uint32_t proto_loss_hole(const struct toe_flow_proto *fp, bool sure, uint32_t *seq)
{
	const struct toe_sacked *k = &proto_sb(fp)->sacked;
	uint32_t edge = sure ? loss_edge(fp) : k->n > 0 ? k->iv[k->n - 1].left : fp->snd_una;
	uint32_t at = seq_max(fp->snd_una, proto_rtx_nxt(fp));

	for (uint32_t i = 0; i < k->n; i++)
		if (seq_geq(at, k->iv[i].left) && seq_lt(at, k->iv[i].right))
			at = k->iv[i].right;
	*seq = at;
	return seq_lt(at, edge) ? proto_loss_hole_end(fp, at, edge) - at : 0;
}

uint32_t proto_loss_holes(const struct toe_flow_proto *fp)
{
	const struct toe_sacked *k = &proto_sb(fp)->sacked;
	uint32_t edge = loss_edge(fp);

	if (k->n > 0)
		edge = seq_max(edge, sacked_top(k));
	return loss_unsent(fp, edge);
}

/* ---- recovery ---- */

/* What a loss leaves of a window. */
static uint32_t loss_reduced(struct toe_flow_proto *fp, uint32_t window, struct proto_out *out)
{
	return proto_max(proto_cubic_reduce(fp, window, out), 2u * fp->mss);
}

/*
 * A share of the flight (RFC 5681 §3.1, RFC 9438 §4.6), as it was when the lost segment was sent.
 * ACKs come in bursts, and before the first new segment leaves, much less than that is in flight;
 * where cwnd was the limit, cwnd is what was.  What limited transmit has added does not count.
 */
static uint32_t loss_ssthresh(struct toe_flow_proto *fp, struct proto_out *out)
{
	uint32_t flight = proto_min(fp->snd_max - fp->snd_una, fp->cwnd);

	if (proto_is(fp, TOE_FP_CWND_LIMITED))
		flight = fp->cwnd;
	return loss_reduced(fp, flight, out);
}

static void loss_enter(struct toe_flow_proto *fp, struct proto_out *out)
{
	proto_undo_note(fp, out);
	fp->ssthresh = loss_ssthresh(fp, out);
	if (proto_is(fp, TOE_FP_SACK))
		proto_sb_take(fp, out);
	/* NewReno counts what has left by inflating cwnd, SACK by the scoreboard. */
	fp->cwnd = fp->ssthresh + (proto_loss_by_sack(fp) ? 0 : PROTO_DUP_THRESH * fp->mss);
	fp->recover = fp->snd_max;
	loss_rtx_from_una(fp);
	proto_rack_recovery(fp, true, out);
	fp->loss_epoch++;
	fp->rtt_us = 0;
	fp->flags |= TOE_FP_RECOVERY | TOE_FP_RTX_ONE | TOE_FP_FAST_LOSS;
	fp->flags &= ~TOE_FP_TLP;
	proto_prr_begin(fp, out);
	proto_counted(out, TOE_C_FAST_RTX);
}

/* Below recover duplicates may be echoes of our own go-back-N.  Exactly at it they may too, unless
 * SACK blocks show a real hole. */
static bool loss_may_enter(const struct toe_flow_proto *fp)
{
	if (proto_is(fp, TOE_FP_RECOVERY | TOE_FP_LOSS) || fp->snd_una == fp->snd_max)
		return false;
	return proto_is(fp, TOE_FP_SACK) ? seq_geq(fp->snd_una, fp->recover)
					 : seq_gt(fp->snd_una, fp->recover);
}

static void loss_check(struct toe_flow_proto *fp, struct proto_out *out)
{
	bool third = (fp->rack == 0 || fp->sb == NULL) && fp->dup_acks >= proto_dup_thresh(fp);

	if ((third || loss_edge(fp) != fp->snd_una) && loss_may_enter(fp))
		loss_enter(fp, out);
}

/* The retransmissions are lost, too: once more. */
static void loss_rtx_again(struct toe_flow_proto *fp, struct proto_out *out)
{
	loss_rtx_from_una(fp);
	proto_rack_recovery(fp, true, out);
	fp->flags |= TOE_FP_RTX_ONE;
}

/* All that was resent and is still missing was sent before data that has arrived meanwhile. */
static void loss_check_rtx(struct toe_flow_proto *fp, struct proto_out *out)
{
	const struct toe_scoreboard *sb = proto_sb(fp);

	if (proto_is(fp, TOE_FP_RECOVERY) && fp->rack == 0 && sb->sacked.n > 0 &&
	    seq_gt(sb->rtx_nxt, fp->snd_una) &&
	    seq_geq(sacked_top(&sb->sacked), sb->rtx_mark + proto_dup_thresh(fp) * fp->mss))
		loss_rtx_again(fp, out);
}

void proto_loss_found(struct toe_flow_proto *fp, bool again, struct proto_out *out)
{
	if (again && proto_is(fp, TOE_FP_RECOVERY))
		loss_rtx_again(fp, out);
	loss_check(fp, out);
}

/* Recovery goes on: the next hole starts at SND.UNA. */
static void loss_partial(struct toe_flow_proto *fp, uint32_t acked)
{
	fp->rtt_us = 0;
	if (proto_loss_by_sack(fp)) {
		/* What was sent before the retransmission that has just arrived is lost, too. */
		if (fp->rack == 0 && seq_leq(fp->sb->rtx_nxt, fp->snd_una))
			fp->flags |= TOE_FP_RTX_ONE;
		else
			fp->flags &= ~TOE_FP_RTX_ONE;
		return;
	}
	/* RFC 6582 §3.2 step 3: deflate by what left, add back one segment. */
	fp->flags |= TOE_FP_RTX_ONE;
	fp->cwnd -= proto_min(fp->cwnd, acked);
	if (acked >= fp->mss)
		fp->cwnd += fp->mss;
	fp->cwnd = proto_max(fp->cwnd, fp->mss);
}

/* Congestion avoidance (RFC 5681 §3.1): a segment for each window. */
static uint32_t loss_grow_reno(const struct toe_flow_proto *fp, uint32_t acked)
{
	uint64_t add = (uint64_t)proto_min(acked, fp->cwnd) * fp->mss + fp->cwnd / 2;

	return proto_max((uint32_t)(add / fp->cwnd), 1);
}

/*
 * Slow start and congestion avoidance by acknowledged bytes, as long as cwnd is what limits (RFC
 * 7661 in spirit); not while CWR stands for an echoed mark (RFC 3168 §6.1.2).  Here and not by the
 * control plane: one that looks every millisecond would be a round trip late where round trips are
 * short.  most: of what was acknowledged, in slow start.
 */
static void loss_grow(struct toe_flow_proto *fp, uint32_t acked, uint32_t most,
		      struct proto_out *out)
{
	uint32_t add;

	if (!proto_is(fp, TOE_FP_CWND_LIMITED) || fp->cwnd < fp->ssthresh)
		proto_cubic_pause(fp, out);
	if (!proto_is(fp, TOE_FP_CWND_LIMITED) ||
	    (proto_is(fp, TOE_FP_ECN) && seq_leq(fp->snd_una, fp->cwr_seq)))
		return;
	if (fp->cwnd < fp->ssthresh)
		add = proto_min(proto_min(acked, most), fp->ssthresh - fp->cwnd);
	else if (!proto_cubic_grow(fp, acked, out, &add))
		add = loss_grow_reno(fp, acked);
	fp->cwnd = proto_max(fp->cwnd, proto_min(fp->cwnd + add, proto_tx_buf(fp)));
}

void proto_loss_acked(struct toe_flow_proto *fp, uint32_t acked, struct proto_out *out)
{
	bool over = seq_geq(fp->snd_una, fp->recover);

	fp->dup_acks = 0;
	if (proto_is(fp, TOE_FP_LOSS)) {
		/* RFC 5681 §3.1, with L = 1 (RFC 3465 §2.3) */
		loss_grow(fp, acked, fp->mss, out);
		fp->flags &= ~(TOE_FP_RTX_ONE | (over ? TOE_FP_LOSS : 0u));
	} else if (!proto_is(fp, TOE_FP_RECOVERY)) {
		fp->flags &= ~TOE_FP_RTX_ONE;
		if (fp->snd_una - fp->recover > LOSS_FAR)
			fp->recover = fp->snd_una - 1;
		loss_grow(fp, acked, fp->cwnd, out);
		loss_check(fp, out);
	} else if (over) {
		fp->flags &= ~(TOE_FP_RECOVERY | TOE_FP_RTX_ONE);
		fp->cwnd = proto_max(fp->ssthresh, fp->mss);
		proto_rack_recovery(fp, false, out);
		proto_prr_end(fp, out);
		loss_check(fp, out);
	} else {
		loss_partial(fp, acked);
		loss_check_rtx(fp, out);
	}
}

void proto_loss_dup(struct toe_flow_proto *fp, struct proto_out *out)
{
	out->snap->dup_ack = 1;
	if (proto_is(fp, TOE_FP_RECOVERY) && !proto_loss_by_sack(fp)) {
		/* One segment has left the network.  No more of them can have than were in flight
		 * at the loss (RFC 5681 §3.2: an attacker may send any number). */
		uint32_t most = fp->ssthresh + (fp->recover - fp->snd_una);

		fp->cwnd = proto_max(fp->cwnd, proto_min(fp->cwnd + fp->mss, most));
		return;
	}
	if (fp->dup_acks < proto_dup_thresh(fp))
		fp->dup_acks++;
	loss_check_rtx(fp, out);
	loss_check(fp, out);
}

void proto_loss_rto(struct toe_flow_proto *fp, struct proto_out *out)
{
	uint32_t flight = fp->snd_max - fp->snd_una;

	proto_undo_note(fp, out);
	/* One reduction per loss: the next RTO, or one inside recovery, finds the same window. */
	if (!proto_is(fp, TOE_FP_RECOVERY | TOE_FP_LOSS))
		fp->ssthresh = loss_ssthresh(fp, out);
	proto_cubic_timeout(fp, out);
	fp->cwnd = fp->mss;
	fp->snd_nxt = fp->snd_una;
	fp->recover = fp->snd_max;
	fp->rtt_us = 0;
	fp->dup_acks = 0;
	fp->loss_epoch++;
	if (fp->sb != NULL)
		fp->sb->sacked.n = 0; /* the peer may have reneged (RFC 2018 §8) */
	fp->reorder = 0;
	proto_rack_forget(fp, out);
	proto_prr_end(fp, out);
	fp->flags &= ~(TOE_FP_RECOVERY | TOE_FP_RTX_ONE | TOE_FP_TLP | TOE_FP_FAST_LOSS);
	fp->flags |= TOE_FP_LOSS;
	/* The peer took back the window under what is in flight: its first segment goes all
	 * the same, as a probe (RFC 9293 §3.8.6, SHLD-17). */
	if (fp->snd_wnd < proto_min(flight, fp->mss))
		fp->flags |= TOE_FP_RTX_ONE;
	proto_counted(out, TOE_C_RTO);
}

void proto_loss_too_big(struct toe_flow_proto *fp, struct proto_out *out)
{
	uint32_t start = proto_min(10u * fp->mss, proto_max(2u * fp->mss, 14600u)); /* RFC 6928 */

	/* No sign of congestion, hence ssthresh stays; but slow start (RFC 1191 §6.4).  What the
	 * peer has SACKed was not too large. */
	fp->cwnd = proto_min(fp->cwnd, start);
	fp->snd_nxt = fp->snd_una;
	fp->recover = fp->snd_max;
	fp->rtt_us = 0;
	fp->dup_acks = 0;
	fp->loss_epoch++;
	fp->flags &= ~(TOE_FP_RECOVERY | TOE_FP_RTX_ONE | TOE_FP_TLP | TOE_FP_FAST_LOSS);
	fp->flags |= TOE_FP_LOSS;
	proto_cubic_pause(fp, out);
	proto_rack_forget(fp, out);
	proto_prr_end(fp, out);
	proto_loss_skip(fp);
}

/* ---- tail loss probe ---- */

void proto_loss_probe(struct toe_flow_proto *fp, struct proto_out *out)
{
	/* Segments behind SND.UNA have been there for more than a round trip: no reordering. */
	if (proto_is(fp, TOE_FP_RECOVERY))
		loss_rtx_again(fp, out);
	else if (proto_sb(fp)->sacked.n > 0 && loss_may_enter(fp))
		loss_enter(fp, out);
	else if (!proto_is(fp, TOE_FP_LOSS))
		fp->flags |= TOE_FP_PROBE;
}

void proto_loss_tlp_ack(struct toe_flow_proto *fp, const struct toe_seg *seg, struct proto_out *out)
{
	const struct toe_sacked *k = &proto_sb(fp)->sacked;

	if (!proto_is(fp, TOE_FP_TLP))
		return;
	if (seg->sack_n > 0 && seq_lt(seg->sack[0].left, seg->ack)) {
		fp->flags &= ~TOE_FP_TLP; /* D-SACK: nothing was lost */
	} else if (seq_gt(fp->snd_una, fp->tlp_end)) {
		fp->flags &= ~TOE_FP_TLP;
		if (proto_is(fp, TOE_FP_RECOVERY | TOE_FP_LOSS))
			return;
		/* The probe repaired a loss, which counts as one (RFC 8985 §7.4.2). */
		proto_undo_forget(fp, out);
		fp->ssthresh = loss_reduced(fp, fp->cwnd, out);
		fp->cwnd = fp->ssthresh;
		fp->loss_epoch++;
	} else if (k->n > 0 && seq_geq(sacked_top(k), fp->tlp_end) && loss_may_enter(fp)) {
		loss_enter(fp, out); /* the probe overtook what was sent long before it */
	}
}
