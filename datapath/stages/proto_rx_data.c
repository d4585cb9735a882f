/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Protocol stage, RX workflow, second half: payload and FIN of an acceptable segment.
 *
 * Input: state, segment summary.  Output: where its bytes go in RX-PAYLOAD-BUF (also out-of-order
 * ones: their place is known, so nothing is ever copied twice) and the ACK.  Only bytes in
 * [RCV.NXT, RCV.ADV) are placed: never one that the application may already see, never one without
 * room.  Owns nothing.  Thread: the proto instance.
 */
#include "proto.h"

#include "ooo.h"

/* The part of a segment that is new and wanted. */
struct span {
	uint32_t left;
	uint32_t right;
	bool fin; /* its FIN counts, at fin_seq */
	uint32_t fin_seq;
	bool trimmed;
};

/* DCTCP.CE (RFC 8257 §3.2).  A change makes proto_thin_acks() send the ACK of the segment before,
 * which still carries the old state. */
static void data_update_ce(struct toe_flow_proto *fp, const struct toe_seg *seg)
{
	if (!proto_is(fp, TOE_FP_ECN) || seg->payload_len == 0)
		return;
	if (seg->ecn == 3)
		fp->flags |= TOE_FP_CE;
	else
		fp->flags &= ~TOE_FP_CE;
}

static bool data_fin_ok(const struct toe_flow_proto *fp, uint32_t fin_seq)
{
	const struct toe_ooo *ooo = &proto_sb(fp)->ooo;

	if (proto_is(fp, TOE_FP_FIN_RCVD))
		return false; /* a copy: only to be acknowledged */
	if (ooo->fin_pending && fin_seq != ooo->fin_seq)
		return false; /* the stream has one end, the one announced first */
	return seq_geq(fin_seq, fp->rcv_nxt) && !toe_ooo_beyond(ooo, fin_seq);
}

/* *last: sequence number of the peer's FIN, if it has arrived, also out of order. */
static bool data_end_known(const struct toe_flow_proto *fp, uint32_t *last)
{
	const struct toe_ooo *ooo = &proto_sb(fp)->ooo;

	*last = proto_is(fp, TOE_FP_FIN_RCVD) ? fp->rcv_nxt - 1 : ooo->fin_seq;
	return proto_is(fp, TOE_FP_FIN_RCVD) || ooo->fin_pending;
}

static struct span data_trim(const struct toe_flow_proto *fp, const struct toe_seg *seg,
			     struct proto_out *out)
{
	uint32_t end = seg->seq + seg->payload_len, last;
	struct span sp = {.left = seq_max(seg->seq, fp->rcv_nxt), .right = end, .fin_seq = end};

	sp.fin = (seg->flags & RTE_TCP_FIN_FLAG) && data_fin_ok(fp, end);
	if (data_end_known(fp, &last) && seq_gt(end, last)) {
		sp.right = last;
		out->drop = TOE_D_BEYOND_FIN;
	}
	if (seq_gt(sp.right, fp->rcv_adv)) {
		if (seg->payload_len > 0) {
			/* Only a FIN alone may lie beyond, as it takes no room. */
			sp.fin = false;
			out->drop = TOE_D_WINDOW;
		}
		sp.right = fp->rcv_adv;
	}
	if (seq_lt(sp.right, sp.left))
		sp.right = sp.left;
	sp.trimmed = sp.right - sp.left != seg->payload_len;
	return sp;
}

static void data_reset_orphan(struct toe_flow_proto *fp, const struct toe_seg *seg,
			      struct proto_out *out)
{
	/* Nobody will read it: tell the sender (RFC 9293 §3.6.1), but not before what was written
	 * for it and is about to leave. */
	out->drop = TOE_D_ORPHAN_DATA;
	if (proto_is(fp, TOE_FP_RST_QUEUED))
		return;
	if (proto_new_now(fp) != 0) {
		proto_reset_behind(fp, out);
		return;
	}
	/* SEG.ACK is what the peer expects next, so that it accepts the RST exactly (RFC 5961
	 * §3.2). */
	proto_send_rst(fp, seg->ack, out);
	proto_event(out, TOE_EV_RESET);
}

/* Takes [left, right) into the receive state; false: it could not be kept. */
static bool data_take(struct toe_flow_proto *fp, const struct span *sp, bool *place,
		      struct proto_out *out)
{
	struct toe_scoreboard *sb;

	*place = false;
	if (sp->left == sp->right)
		return true;
	if (sp->left == fp->rcv_nxt) {
		fp->rcv_nxt = fp->sb != NULL ? toe_ooo_advance(&fp->sb->ooo, sp->right) : sp->right;
		*place = true;
		return true;
	}
	sb = proto_sb_take(fp, out);
	if (sb != NULL && toe_ooo_touch(&sb->ooo, sp->left, sp->right)) {
		/* All of it is here: what was placed first stays. */
		out->dup_left = sp->left;
		out->dup_right = sp->right;
		return true;
	}
	if (sb == NULL || !toe_ooo_add(&sb->ooo, sp->left, sp->right)) {
		out->drop = TOE_D_OOO_FULL;
		return false;
	}
	proto_counted(out, TOE_C_SEGS_OOO);
	*place = true;
	return true;
}

/* A FIN, now or before, that ends what has arrived in order; one that does not has to wait. */
static bool data_fin_due(struct toe_flow_proto *fp, const struct span *sp, struct proto_out *out)
{
	struct toe_scoreboard *sb = fp->sb;

	if (sp->fin && sp->fin_seq != fp->rcv_nxt) {
		sb = proto_sb_take(fp, out);
		if (sb != NULL) {
			sb->ooo.fin_pending = 1;
			sb->ooo.fin_seq = sp->fin_seq;
		}
		return false;
	}
	if (!sp->fin && (sb == NULL || !sb->ooo.fin_pending || sb->ooo.fin_seq != fp->rcv_nxt))
		return false;
	if (sb != NULL)
		sb->ooo.fin_pending = 0;
	return true;
}

static void data_take_fin(struct toe_flow_proto *fp, const struct span *sp, struct proto_out *out)
{
	if (!data_fin_due(fp, sp, out))
		return;
	fp->rcv_nxt++;
	fp->rcv_adv = seq_max(fp->rcv_adv, fp->rcv_nxt);
	fp->flags |= TOE_FP_FIN_RCVD;
	if (proto_is(fp, TOE_FP_FIN_SENT))
		fp->flags |= TOE_FP_FIN_FIRST;
}

void proto_rx_data(struct toe_flow_proto *fp, const struct toe_seg *seg, struct proto_out *out)
{
	struct span sp = data_trim(fp, seg, out);
	uint32_t before = fp->rcv_nxt;
	bool holes = proto_sb(fp)->ooo.n > 0;
	bool place;

	data_update_ce(fp, seg);
	proto_note_dup(fp, seg, out);
	if (sp.left != sp.right && proto_is(fp, TOE_FP_ORPHAN)) {
		data_reset_orphan(fp, seg, out);
		return;
	}
	if (!data_take(fp, &sp, &place, out))
		sp.fin = false;
	data_take_fin(fp, &sp, out);
	if (place) {
		proto_counted(out, TOE_C_SEGS_DATA_RX);
		if (!proto_is(fp, TOE_FP_RX_DISCARD)) {
			out->snap->pos = proto_rx_pos(fp, sp.left);
			out->snap->len = (uint16_t)(sp.right - sp.left);
			out->snap->skip = (uint16_t)(sp.left - seg->seq);
			out->snap->had_holes = holes;
		}
	}
	/* Discarded bytes are no news for the application, the end of the stream is. */
	if (fp->rcv_nxt != before &&
	    (!proto_is(fp, TOE_FP_RX_DISCARD) || proto_is(fp, TOE_FP_FIN_RCVD)))
		out->todo |= TOE_TODO_CTXQ;
	if (fp->rcv_nxt != before)
		fp->flags |= TOE_FP_RX_TURN;
	proto_reply_ack(fp, out);
	/* Anything out of the ordinary is acknowledged at once (RFC 5681 §4.2). */
	out->ack_defer = fp->rcv_nxt - before == seg->payload_len && !sp.trimmed && !holes &&
			 proto_sb(fp)->ooo.n == 0 && seg->payload_len > 0;
}
