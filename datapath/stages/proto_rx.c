/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Protocol stage, RX workflow: a segment arrives (RFC 9293 §3.10.7.4, with RFC 7323 and 5961).
 *
 * Input: state, segment summary, clock.  Output: cursors, retransmission state and the ACK to send
 * in the snapshot.  Loss recovery is proto_loss.c, payload and FIN are proto_rx_data.c.  Owns
 * nothing.  Thread: the proto instance.
 */
#include "proto.h"

#include <errno.h>

/* Challenge ACK (RFC 5961): per connection, because a shared limit is a side channel. */
static void rx_challenge(struct toe_flow_proto *fp, const struct toe_clock *now,
			 struct proto_out *out)
{
	if (!proto_elapsed(now->ms, fp->challenge_at, PROTO_CHALLENGE_SHIFT, PROTO_CHALLENGE_MS))
		return;
	fp->challenge_at = proto_at(now->ms, PROTO_CHALLENGE_SHIFT);
	proto_counted(out, TOE_C_CHALLENGE_ACK);
	proto_reply_ack(fp, out);
}

/* ACK for a segment thrown away.  Data is always answered (the sender repeats it until it hears);
 * an empty one may itself be such an answer, and two confused ends would never stop. */
static void rx_reply_unacceptable(struct toe_flow_proto *fp, const struct toe_seg *seg,
				  const struct toe_clock *now, struct proto_out *out)
{
	if (seg->payload_len == 0 && !(seg->flags & RTE_TCP_FIN_FLAG)) {
		if (!proto_elapsed(now->ms, fp->oow_at, PROTO_OOW_SHIFT, PROTO_OOW_MS))
			return;
		fp->oow_at = proto_at(now->ms, PROTO_OOW_SHIFT);
	}
	proto_note_dup(fp, seg, out);
	proto_reply_ack(fp, out);
}

static void rx_rst(struct toe_flow_proto *fp, const struct toe_seg *seg,
		   const struct toe_clock *now, struct proto_out *out)
{
	bool peer_done = proto_is(fp, TOE_FP_FIN_RCVD) && !proto_is(fp, TOE_FP_FIN_QUEUED);

	if (seg->seq != fp->rcv_nxt) {
		proto_dropped(out, TOE_D_WINDOW);
		if (seq_gt(seg->seq, fp->rcv_nxt) && seq_lt(seg->seq, fp->rcv_adv))
			rx_challenge(fp, now, out);
		return;
	}
	fp->flags |= TOE_FP_RESET;
	out->snap->state = TOE_SLOT_ERROR;
	/* As Linux: in CLOSE-WAIT the stream ended properly, only writing fails. */
	out->snap->error = peer_done ? EPIPE : ECONNRESET;
	out->todo |= TOE_TODO_CTXQ;
	proto_event(out, TOE_EV_RESET);
	proto_finish(fp, out, true);
}

/* RFC 7323 §5.  False: an old duplicate. */
static bool rx_paws_ok(const struct toe_flow_proto *fp, const struct toe_seg *seg,
		       const struct toe_clock *now)
{
	if (!proto_is(fp, TOE_FP_TS) || seq_geq(seg->ts_val, fp->ts_recent))
		return true;
	return proto_elapsed(now->ms, fp->ts_recent_at, PROTO_TS_SHIFT, PROTO_PAWS_IDLE_MS);
}

static void rx_update_ts(struct toe_flow_proto *fp, const struct toe_seg *seg,
			 const struct toe_clock *now)
{
	/* rx_paws_ok() passed: not older, or the stored one is too old to compare with. */
	if (proto_is(fp, TOE_FP_TS) && seq_leq(seg->seq, fp->last_ack_sent)) {
		fp->ts_recent = seg->ts_val;
		fp->ts_recent_at = proto_at(now->ms, PROTO_TS_SHIFT);
	}
}

/*
 * RFC 9293 table 6, with the edge included where Linux includes it: a peer that has filled our
 * window acknowledges with SEG.SEQ at its right edge, and its ACKs must count ("special allowance",
 * §3.4); what does not fit is trimmed later.
 */
static bool rx_acceptable(const struct toe_flow_proto *fp, const struct toe_seg *seg)
{
	uint32_t end = seg->seq + seg->payload_len + (seg->flags & RTE_TCP_FIN_FLAG ? 1u : 0u);

	if (seq_gt(seg->seq, seq_max(fp->rcv_adv, fp->rcv_nxt)))
		return false;
	return end == seg->seq ? seq_geq(seg->seq, fp->rcv_nxt) : seq_gt(end, fp->rcv_nxt);
}

/* RFC 5961 §5.2 */
static bool rx_ack_in_range(const struct toe_flow_proto *fp, uint32_t ack)
{
	return seq_leq(ack, fp->snd_max) && seq_geq(ack, fp->snd_una - proto_max_wnd(fp));
}

/* RFC 6298 §2 */
static void rx_rtt_sample(struct toe_flow_proto *fp, const struct toe_clock *now)
{
	uint32_t r = proto_max((uint32_t)now->us - fp->rtt_us, 1);

	fp->rtt_us = 0;
	if (r >= 1u << 30)
		return; /* not a round trip: the clock's low word went round */
	if (fp->srtt_us == 0) {
		fp->srtt_us = r;
		fp->rttvar_us = r / 2;
		return;
	}
	uint32_t err = fp->srtt_us > r ? fp->srtt_us - r : r - fp->srtt_us;

	fp->rttvar_us = fp->rttvar_us - fp->rttvar_us / 4 + err / 4;
	fp->srtt_us = proto_max(fp->srtt_us - fp->srtt_us / 8 + r / 8, 1);
}

/* Once per window (RFC 3168 §6.1.2): the control plane reduces, here only CWR is set. */
static void rx_ece(struct toe_flow_proto *fp, const struct toe_seg *seg)
{
	if (proto_is(fp, TOE_FP_ECN) && (seg->flags & RTE_TCP_ECE_FLAG) &&
	    seq_gt(seg->ack, fp->cwr_seq)) {
		fp->flags |= TOE_FP_CWR;
		fp->cwr_seq = fp->snd_max;
	} else if (seq_gt(seg->ack, fp->cwr_seq)) {
		fp->cwr_seq = seg->ack - 1; /* keep it near, for the next 2 GB */
	}
}

/* A segment timed from its sending to its ACK: so is a round trip. */
static void rx_round(struct toe_flow_proto *fp, const struct toe_clock *now)
{
	rx_rtt_sample(fp, now);
	if (!proto_is(fp, TOE_FP_CWND_ROUND))
		fp->flags &= ~TOE_FP_CWND_LIMITED;
	fp->flags &= ~TOE_FP_CWND_ROUND;
}

static void rx_new_ack(struct toe_flow_proto *fp, const struct toe_seg *seg,
		       const struct toe_clock *now, struct proto_out *out)
{
	uint32_t head = proto_tx_head(fp);
	uint32_t acked = seg->ack - fp->snd_una;

	fp->snd_una = seg->ack;
	fp->snd_nxt = seq_max(fp->snd_nxt, fp->snd_una);
	if (proto_is(fp, TOE_FP_FIN_SENT) && seq_gt(seg->ack, fp->tx_tail))
		fp->flags |= TOE_FP_FIN_ACKED;
	if (fp->rtt_us != 0 && seq_geq(seg->ack, fp->rtt_seq))
		rx_round(fp, now);
	rx_ece(fp, seg);
	out->snap->acked_bytes = proto_tx_head(fp) - head;
	out->snap->ecn_echo =
		proto_is(fp, TOE_FP_ECN) && (seg->flags & RTE_TCP_ECE_FLAG) && acked > 0;
	out->todo |= TOE_TODO_CTXQ;
}

static void rx_update_window(struct toe_flow_proto *fp, const struct toe_seg *seg)
{
	if (seq_leq(fp->snd_wl1, seg->seq)) {
		fp->snd_wnd = (uint32_t)seg->wnd << fp->snd_wscale;
		fp->snd_wl1 = seg->seq;
		if (seg->wnd > fp->max_wnd)
			fp->max_wnd = seg->wnd;
	}
}

/* RFC 6675 §2 if there is SACK: also with data or another window, as long as it has news. */
static bool rx_is_dup(const struct toe_flow_proto *fp, const struct toe_seg *seg, bool news)
{
	if (fp->snd_una == fp->snd_max)
		return false;
	if (proto_is(fp, TOE_FP_SACK))
		return news;
	return seg->payload_len == 0 && !(seg->flags & RTE_TCP_FIN_FLAG) &&
	       (uint32_t)seg->wnd << fp->snd_wscale == fp->snd_wnd;
}

static void rx_ack(struct toe_flow_proto *fp, const struct toe_seg *seg,
		   const struct toe_clock *now, struct proto_out *out)
{
	uint32_t acked = seg->ack - fp->snd_una, from = fp->snd_una;
	uint32_t told, edge = proto_rack_edge(fp);
	bool news, again;

	if (seq_lt(seg->ack, fp->snd_una))
		return; /* old: its window is old too */
	told = proto_prr_told(fp);
	if (acked > 0) {
		proto_rack_arrived(fp, from, seg->ack, now, out);
		rx_new_ack(fp, seg, now, out);
		proto_undo_acked(fp, seg, from, out);
	}
	news = proto_loss_sack(fp, seg, now, out);
	again = proto_rack_detect(fp, now, out);
	if (acked > 0)
		proto_loss_acked(fp, acked, out);
	else if (rx_is_dup(fp, seg, news))
		proto_loss_dup(fp, out);
	if (again)
		proto_loss_found(fp, again, out);
	proto_loss_tlp_ack(fp, seg, out);
	if (proto_is(fp, TOE_FP_RECOVERY))
		proto_prr_acked(fp, told,
				acked > 0 && !again &&
					seq_leq(proto_rack_edge(fp), seq_max(edge, fp->snd_una)),
				out);
	if (fp->snd_una == fp->snd_max)
		proto_rack_release(fp, out);
	rx_update_window(fp, seg);
}

void proto_rx(struct toe_flow_proto *fp, const struct toe_seg *seg, const struct toe_clock *now,
	      struct proto_out *out)
{
	if (proto_is(fp, TOE_FP_RESET)) {
		proto_dropped(out, TOE_D_AFTER_RESET);
	} else if (seg->flags & RTE_TCP_RST_FLAG) {
		rx_rst(fp, seg, now, out);
	} else if (seg->flags & RTE_TCP_SYN_FLAG) {
		/* RFC 5961 §4.2: whatever its numbers.  Also ends a repeated SYN-ACK. */
		proto_dropped(out, TOE_D_TCP_FLAGS);
		rx_challenge(fp, now, out);
	} else if (!(seg->flags & RTE_TCP_ACK_FLAG)) {
		proto_dropped(out, TOE_D_NO_ACK_FLAG);
	} else if (proto_is(fp, TOE_FP_TS) && !(seg->opts & TOE_SEG_TS)) {
		proto_dropped(out, TOE_D_NO_TS);
	} else if (!rx_paws_ok(fp, seg, now)) {
		proto_dropped(out, TOE_D_PAWS);
		rx_reply_unacceptable(fp, seg, now, out);
	} else if (!rx_acceptable(fp, seg)) {
		proto_dropped(out, TOE_D_WINDOW);
		rx_reply_unacceptable(fp, seg, now, out);
	} else if (!rx_ack_in_range(fp, seg->ack)) {
		proto_dropped(out, TOE_D_OLD_ACK);
		rx_challenge(fp, now, out);
	} else {
		rx_update_ts(fp, seg, now);
		rx_ack(fp, seg, now, out);
		if (seg->payload_len > 0 || (seg->flags & RTE_TCP_FIN_FLAG))
			proto_rx_data(fp, seg, out);
		else
			proto_counted(out, TOE_C_SEGS_ACK_RX);
		proto_finish(fp, out, false);
	}
}
