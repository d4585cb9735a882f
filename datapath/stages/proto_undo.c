/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Protocol stage: reductions that were for nothing are undone.
 *
 * Eifel detection (RFC 3522): the first ACK of what was resent echoes a timestamp from before that,
 * hence answers the first copy; after an RTO also if nothing has been resent yet.  D-SACK (RFC
 * 3708): each segment resent since has been reported as a duplicate.  The answer is that of RFC
 * 4015: ssthresh is the old cwnd, cwnd as well, but not more than an initial window at once.
 * State: the flow's element of the pool (rack.h); without one nothing is undone.  Thread: the
 * proto instance.
 */
#include "proto.h"

#define UNDO_BURST 10u /* segments (RFC 4015 §3, RFC 6928) */

void proto_undo_note(struct toe_flow_proto *fp, struct proto_out *out)
{
	struct toe_rack *r = proto_rack(fp, out);

	/* A timeout inside recovery is the same loss. */
	if (r == NULL || proto_is(fp, TOE_FP_RECOVERY | TOE_FP_LOSS))
		return;
	r->undo_cwnd = fp->cwnd;
	r->undo_ssthresh = fp->ssthresh;
	r->undo_w_max = r->cubic.w_max;
	r->undo_cwnd_prior = r->cubic.cwnd_prior;
	r->undo_from = fp->snd_una;
	r->undo_again = 0;
}

void proto_undo_forget(struct toe_flow_proto *fp, struct proto_out *out)
{
	struct toe_rack *r = proto_rack(fp, out);

	if (r != NULL)
		r->undo_cwnd = 0;
}

void proto_undo_sent(struct toe_flow_proto *fp, const struct toe_clock *now, struct proto_out *out)
{
	struct toe_rack *r = proto_rack(fp, out);

	if (r == NULL || r->undo_cwnd == 0)
		return;
	if (r->undo_again++ == 0)
		r->undo_ms = now->ms;
}

static void undo(struct toe_flow_proto *fp, struct toe_rack *r, struct proto_out *out)
{
	uint32_t most = fp->snd_max - fp->snd_una + UNDO_BURST * fp->mss;

	fp->ssthresh = proto_max(r->undo_ssthresh, r->undo_cwnd);
	if (fp->cwnd < r->undo_cwnd) { /* RFC 9438 §4.9 */
		r->cubic.w_max = r->undo_w_max;
		r->cubic.cwnd_prior = r->undo_cwnd_prior;
	}
	r->cubic.running = false; /* the time meanwhile does not count */
	fp->cwnd = proto_max(fp->cwnd, proto_min(r->undo_cwnd, most));
	fp->snd_nxt = fp->snd_max;
	fp->recover = fp->snd_una;
	fp->dup_acks = 0;
	fp->loss_epoch++;
	/* that the small window was full says nothing about this one */
	fp->flags &= ~(TOE_FP_RECOVERY | TOE_FP_LOSS | TOE_FP_RTX_ONE | TOE_FP_CWND_LIMITED |
		       TOE_FP_CWND_ROUND | TOE_FP_CUBIC);
	r->undo_cwnd = 0;
	proto_rack_recovery(fp, false, out);
	proto_prr_end(fp, out);
	proto_counted(out, TOE_C_UNDONE);
}

void proto_undo_acked(struct toe_flow_proto *fp, const struct toe_seg *seg, uint32_t from,
		      struct proto_out *out)
{
	struct toe_rack *r = proto_rack(fp, out);
	bool early;

	if (r == NULL || r->undo_cwnd == 0 || from != r->undo_from ||
	    !proto_is(fp, TOE_FP_RECOVERY | TOE_FP_LOSS))
		return;
	if (r->undo_again == 0) {
		early = proto_is(fp, TOE_FP_LOSS);
	} else {
		uint32_t ms = seg->ts_ecr - (out->post != NULL ? out->post->ts_offset : 0);

		early = proto_is(fp, TOE_FP_TS) && (int32_t)(ms - r->undo_ms) < 0;
	}
	if (early)
		undo(fp, r, out);
}

void proto_undo_dsack(struct toe_flow_proto *fp, const struct toe_seg *seg, struct proto_out *out)
{
	struct toe_rack *r = proto_rack(fp, out);
	uint32_t left = seg->sack[0].left, right = seg->sack[0].right, segs;

	if (r == NULL)
		return;
	/* Behind recovery for as long as duplicates of it may still be on their way, and not for
	 * ever: something else may have been received twice. */
	if (seq_gt(fp->snd_una, fp->recover) && fp->snd_una - fp->recover > r->undo_cwnd)
		r->undo_cwnd = 0;
	if (r->undo_cwnd == 0 || r->undo_again == 0 || proto_is(fp, TOE_FP_TLP) ||
	    seq_lt(left, r->undo_from) || seq_geq(left, right) || seq_gt(right, fp->snd_max))
		return;
	segs = (right - left + fp->mss - 1) / fp->mss;
	r->undo_again -= proto_min(segs, r->undo_again);
	if (r->undo_again == 0)
		undo(fp, r, out);
}
