/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Protocol stage, TX workflow: one permission of sched becomes at most one segment; the first
 * segment of an idle connection, which needs none (proto_hc.c); and what all
 * workflows that send share: header fields, advertised window, `sendable`.
 *
 * Input: state, clock.  Output: the segment in the snapshot, always TODO_SCHED with a new absolute.
 * Sends, in this order: a retransmission asked for by recovery (RTX_ONE), holes the scoreboard
 * calls lost, data and FIN from SND.NXT (which RTO sets back: go-back-N), a probe.  Of a connection
 * that is about to be reset: new data, then the RST.  Owns nothing.  Thread: the proto instance.
 */
#include "proto.h"

/* RTX: of what fast recovery resends.  TLP: the last segment again (RFC 8985 §7). */
enum plan_kind { PLAN_NONE, PLAN_RTX, PLAN_DATA, PLAN_TLP, PLAN_PROBE, PLAN_RST };

struct plan {
	enum plan_kind kind;
	uint32_t seq;
	uint32_t len; /* payload bytes */
	bool fin;     /* FIN behind them */
};

/* Congestion window, with limited transmit: each duplicate ACK that is not yet a loss says that a
 * segment has left the network (RFC 3042; on a path that reorders more of them, RFC 4653). */
static uint32_t tx_cwnd(const struct toe_flow_proto *fp)
{
	if (!proto_is(fp, TOE_FP_RECOVERY | TOE_FP_LOSS) && fp->dup_acks < proto_dup_thresh(fp))
		return fp->cwnd + (uint32_t)fp->dup_acks * fp->mss;
	return fp->cwnd;
}

/* Fast recovery, and cwnd bounds the pipe, not the distance from SND.UNA. */
static bool tx_by_pipe(const struct toe_flow_proto *fp)
{
	return proto_is(fp, TOE_FP_RECOVERY) && proto_loss_by_sack(fp);
}

/* Bytes written and not (or, after RTO, not again) sent. */
static uint32_t tx_avail(const struct toe_flow_proto *fp)
{
	return seq_lt(fp->snd_nxt, fp->tx_tail) ? fp->tx_tail - fp->snd_nxt : 0;
}

static uint32_t tx_room_peer(const struct toe_flow_proto *fp)
{
	uint32_t edge = fp->snd_una + fp->snd_wnd;

	return seq_gt(edge, fp->snd_nxt) ? edge - fp->snd_nxt : 0;
}

static uint32_t tx_room_cwnd(const struct toe_flow_proto *fp)
{
	uint32_t edge = fp->snd_una + tx_cwnd(fp);

	if (tx_by_pipe(fp))
		return proto_loss_budget(fp);
	return seq_gt(edge, fp->snd_nxt) ? edge - fp->snd_nxt : 0;
}

/* Room for them in both windows. */
static uint32_t tx_room(const struct toe_flow_proto *fp)
{
	return proto_min(tx_room_peer(fp), tx_room_cwnd(fp));
}

uint32_t proto_new_now(const struct toe_flow_proto *fp)
{
	return fp->snd_nxt == fp->snd_max ? proto_min(tx_avail(fp), tx_room(fp)) : 0;
}

static bool tx_fin_due(const struct toe_flow_proto *fp)
{
	return proto_is(fp, TOE_FP_FIN_QUEUED) && seq_leq(fp->snd_nxt, fp->tx_tail);
}

/*
 * May a segment of len < MSS bytes go at seq?  first: nothing unsent is before it.
 * Nagle in Minshall's form: only an unacknowledged *small* segment holds back the next small one,
 * so that the tail of a large write does not wait for its own full segments.
 */
static bool tx_small_ok(const struct toe_flow_proto *fp, uint32_t seq, uint32_t len, bool first)
{
	bool idle = first && fp->snd_una == fp->snd_max;

	if (seq_lt(seq, fp->snd_max))
		return true; /* retransmission */
	/* Cut by a window: silly-window avoidance (RFC 9293 §3.8.6.2.1).  The persist timer
	 * overrides (PROBE). */
	if (seq + len != fp->tx_tail)
		return fp->snd_wnd <= tx_cwnd(fp) && len >= (proto_max_wnd(fp) + 1) / 2;
	if (proto_is(fp, TOE_FP_FIN_QUEUED))
		return true;
	if (fp->ctl & TOE_CTL_CORK)
		return false;
	if (idle || (fp->ctl & TOE_CTL_NODELAY))
		return true;
	return !(seq_gt(fp->snd_sml, fp->snd_una) && seq_leq(fp->snd_sml, fp->snd_max));
}

/* Everything sent before, from seq: one segment, not into what the peer holds. */
static struct plan tx_plan_again(const struct toe_flow_proto *fp, enum plan_kind kind, uint32_t seq)
{
	uint32_t sent = proto_loss_hole_end(fp, seq, seq_min(fp->snd_max, fp->tx_tail));
	struct plan p = {.kind = kind, .seq = seq};

	if (seq_lt(seq, sent))
		p.len = proto_min(sent - seq, fp->mss);
	p.fin = proto_is(fp, TOE_FP_FIN_SENT) && seq + p.len == fp->tx_tail;
	return p;
}

/* A hole, if pipe has room; sure: one that counts as lost (RFC 6675 NextSeg() 1), else any (3). */
static struct plan tx_plan_hole(const struct toe_flow_proto *fp, bool sure)
{
	uint32_t seq;

	if (tx_by_pipe(fp) && proto_loss_budget(fp) >= fp->mss &&
	    proto_loss_hole(fp, sure, &seq) > 0)
		return tx_plan_again(fp, PLAN_RTX, seq);
	return (struct plan){.kind = PLAN_NONE};
}

/* PROBE is about what is in flight (RFC 8985 §7), not about the window. */
static bool tx_is_tlp(const struct toe_flow_proto *fp)
{
	return proto_is(fp, TOE_FP_PROBE) && proto_is(fp, TOE_FP_SACK) &&
	       fp->snd_una != fp->snd_max && fp->snd_wnd != 0;
}

static struct plan tx_plan_data(const struct toe_flow_proto *fp)
{
	struct plan p = {.kind = PLAN_NONE, .seq = fp->snd_nxt};
	uint32_t avail = tx_avail(fp);
	bool probe = proto_is(fp, TOE_FP_PROBE) && !tx_is_tlp(fp);

	p.len = proto_min(proto_min(avail, tx_room(fp)), fp->mss);
	if (seq_lt(p.seq, fp->snd_max))
		p.len = proto_min(p.len, proto_loss_hole_end(fp, p.seq, fp->tx_tail) - p.seq);
	/* A FIN takes no room at the receiver and is sent whatever the windows: the
	 * retransmission timer then looks after it like after any other octet. */
	p.fin = p.len == avail && tx_fin_due(fp);
	if (p.fin || p.len == fp->mss ||
	    (p.len > 0 && (probe || tx_small_ok(fp, p.seq, p.len, true))))
		p.kind = PLAN_DATA;
	return p;
}

static struct plan tx_plan_probe(const struct toe_flow_proto *fp)
{
	bool probe = proto_is(fp, TOE_FP_PROBE);
	uint32_t sent = seq_min(fp->snd_max, fp->tx_tail);
	struct plan p = {.kind = PLAN_PROBE, .seq = probe ? fp->snd_una : fp->snd_max};

	if (!proto_is(fp, TOE_FP_PROBE | TOE_FP_KEEPALIVE)) {
		p.kind = PLAN_NONE;
		return p;
	}
	if (!tx_is_tlp(fp))
		return p;
	/* Tail loss probe: the last segment, even where RFC 8985 §7.3 would send new data.  If
	 * only ACKs were lost, a single new segment meets the peer's delayed ACK (40 ms and more),
	 * while a duplicate is answered at once. */
	if (seq_gt(sent, fp->snd_una))
		sent -= proto_min(sent - fp->snd_una, fp->mss);
	return tx_plan_again(fp, PLAN_TLP, sent);
}

/* Never PLAN_NONE: each item sends new data or ends it, whatever the windows become meanwhile. */
static struct plan tx_plan_last(const struct toe_flow_proto *fp)
{
	uint32_t len = proto_min(proto_new_now(fp), fp->mss);

	return (struct plan){
		.kind = len > 0 ? PLAN_DATA : PLAN_RST, .seq = fp->snd_nxt, .len = len};
}

static struct plan tx_plan(const struct toe_flow_proto *fp)
{
	struct plan p = {.kind = PLAN_NONE};

	if (proto_is(fp, TOE_FP_RESET))
		return p;
	if (proto_is(fp, TOE_FP_RST_QUEUED))
		return tx_plan_last(fp);
	if (proto_is(fp, TOE_FP_RTX_ONE) && fp->snd_una != fp->snd_max)
		return tx_plan_again(fp, PLAN_RTX, fp->snd_una);
	p = tx_plan_hole(fp, true);
	if (p.kind == PLAN_NONE)
		p = tx_plan_data(fp);
	if (p.kind == PLAN_NONE)
		p = tx_plan_hole(fp, false);
	if (p.kind == PLAN_NONE)
		p = tx_plan_probe(fp);
	return p;
}

/* Fast recovery with SACK is rare enough to ask the plan; then as much as pipe has room for. */
static uint32_t tx_sendable_by_pipe(const struct toe_flow_proto *fp)
{
	uint32_t budget = proto_loss_budget(fp) / fp->mss * fp->mss;
	uint32_t work = proto_loss_holes(fp) + proto_min(tx_avail(fp), tx_room_peer(fp));

	if (tx_plan(fp).kind == PLAN_NONE)
		return 0;
	if (proto_is(fp, TOE_FP_RTX_ONE))
		budget += fp->mss;
	return proto_max(proto_min(budget, work), fp->mss);
}

uint32_t proto_sendable(const struct toe_flow_proto *fp)
{
	uint32_t avail = tx_avail(fp);
	uint32_t total, full, rest;
	uint32_t n = 0;

	if (proto_is(fp, TOE_FP_RESET))
		return 0;
	if (proto_is(fp, TOE_FP_RST_QUEUED))
		return proto_max(proto_new_now(fp), 1);
	if (tx_by_pipe(fp))
		return tx_sendable_by_pipe(fp);
	total = proto_min(avail, tx_room(fp));
	full = total - total % fp->mss;
	rest = total - full;
	if (proto_is(fp, TOE_FP_RTX_ONE) && fp->snd_una != fp->snd_max)
		n += fp->mss;
	n += full;
	if (rest > 0 && tx_small_ok(fp, fp->snd_nxt + full, rest, full == 0))
		n += rest;
	if (n == 0 &&
	    ((avail == 0 && tx_fin_due(fp)) || proto_is(fp, TOE_FP_PROBE | TOE_FP_KEEPALIVE)))
		n = 1;
	return n;
}

/* ---- header ---- */

static uint32_t window_edge(const struct toe_flow_proto *fp)
{
	uint32_t used = proto_is(fp, TOE_FP_RX_DISCARD) ? 0 : proto_rcv_end(fp) - fp->rx_head;
	uint32_t space = proto_rx_buf(fp) - used;

	space = proto_min(space, 65535u << fp->rcv_wscale);
	/* Only what the field can express is promised. */
	return fp->rcv_nxt + (space >> fp->rcv_wscale << fp->rcv_wscale);
}

/* Receiver's silly-window avoidance: how far the right edge would move if it moved now. */
static uint32_t window_gain(const struct toe_flow_proto *fp)
{
	int32_t gain = (int32_t)(window_edge(fp) - fp->rcv_adv);

	if (gain <= 0 || (uint32_t)gain < proto_min(fp->mss, proto_rx_buf(fp) / 2))
		return 0;
	return (uint32_t)gain;
}

bool proto_window_opened(const struct toe_flow_proto *fp)
{
	uint32_t gain = window_gain(fp);
	uint32_t open = seq_gt(fp->rcv_adv, fp->rcv_nxt) ? fp->rcv_adv - fp->rcv_nxt : 0;

	if (gain == 0 || proto_is(fp, TOE_FP_FIN_RCVD))
		return false;
	return gain >= proto_min(2u * fp->mss, proto_rx_buf(fp) / 2) || open < fp->mss;
}

void proto_fill(struct toe_flow_proto *fp, struct toe_snap *snap, uint32_t seq, uint8_t flags)
{
	fp->rcv_adv += window_gain(fp);
	snap->seq = seq;
	snap->ack = fp->rcv_nxt;
	snap->ts_ecr = fp->ts_recent;
	snap->wnd = 0;
	if (seq_gt(fp->rcv_adv, fp->rcv_nxt))
		snap->wnd =
			(uint16_t)proto_min((fp->rcv_adv - fp->rcv_nxt) >> fp->rcv_wscale, 65535u);
	snap->flags = flags;
	if (proto_is(fp, TOE_FP_CE) && !(flags & RTE_TCP_RST_FLAG))
		snap->flags |= RTE_TCP_ECE_FLAG; /* DCTCP: on every segment (RFC 8257 §3.2) */
	fp->last_ack_sent = fp->rcv_nxt;
	fp->ack_due = 0;
}

uint32_t proto_ack_seq(const struct toe_flow_proto *fp)
{
	uint32_t edge = fp->snd_una + fp->snd_wnd + (proto_is(fp, TOE_FP_FIN_SENT) ? 1u : 0u);

	/* SND.MAX, not SND.NXT, which RTO sets back: a peer that has the data would not accept it.
	 * If the peer took its window back, its edge: beyond it nothing is acceptable.  But a
	 * window that is smaller only because its field is rounded down is none taken back: two
	 * ends that both believed so would never accept each other's ACKs again. */
	if (seq_lt(fp->snd_max, edge + (1u << fp->snd_wscale)))
		return fp->snd_max;
	return edge;
}

void proto_send_rst(struct toe_flow_proto *fp, uint32_t seq, struct proto_out *out)
{
	proto_fill(fp, out->snap, seq, RTE_TCP_RST_FLAG | RTE_TCP_ACK_FLAG);
	fp->flags |= TOE_FP_RESET;
	out->todo |= TOE_TODO_TX;
}

void proto_reset_behind(struct toe_flow_proto *fp, struct proto_out *out)
{
	uint32_t len = proto_new_now(fp);

	if (len == 0) {
		proto_send_rst(fp, proto_ack_seq(fp), out);
		proto_event(out, TOE_EV_RESET);
		return;
	}
	/* Windows that grow must not prolong this, and there will be no FIN. */
	fp->tx_tail = fp->snd_nxt + len;
	fp->flags = (fp->flags & ~TOE_FP_FIN_QUEUED) | TOE_FP_RST_QUEUED;
}

/* Three blocks are what fits beside timestamps. */
static void reply_block(struct toe_snap *snap, uint32_t left, uint32_t right)
{
	if (snap->sack_n == sizeof(snap->sack) / sizeof(snap->sack[0]))
		return;
	snap->sack[snap->sack_n].left = left;
	snap->sack[snap->sack_n].right = right;
	snap->sack_n++;
}

void proto_reply_ack(struct toe_flow_proto *fp, struct proto_out *out)
{
	const struct toe_ooo *ooo = &proto_sb(fp)->ooo;
	struct toe_snap *snap = out->snap;

	proto_fill(fp, snap, proto_ack_seq(fp), RTE_TCP_ACK_FLAG);
	if (proto_is(fp, TOE_FP_SACK)) {
		if (out->dup_left != out->dup_right)
			reply_block(snap, out->dup_left, out->dup_right);
		for (uint32_t i = 0; i < ooo->n; i++)
			reply_block(snap, ooo->iv[i].left, ooo->iv[i].right);
	}
	proto_counted(out, TOE_C_SEGS_ACK_TX);
	out->verdict = TOE_FORWARD;
	out->todo |= TOE_TODO_TX;
}

/* ---- end of every workflow ---- */

static bool proto_outstanding(const struct toe_flow_proto *fp)
{
	if (proto_is(fp, TOE_FP_RESET))
		return false;
	return fp->snd_una != fp->snd_max || seq_lt(fp->snd_nxt, fp->tx_tail) ||
	       (proto_is(fp, TOE_FP_FIN_QUEUED) && !proto_is(fp, TOE_FP_FIN_ACKED));
}

static void proto_finish_event(struct toe_flow_proto *fp, struct proto_out *out)
{
	const uint32_t both = TOE_FP_FIN_RCVD | TOE_FP_FIN_ACKED;

	if (out->snap->event != 0)
		return; /* one event per item; ACTIVE is still due on the next */
	if ((fp->flags & both) == both && !proto_is(fp, TOE_FP_CLOSED | TOE_FP_RESET)) {
		fp->flags |= TOE_FP_CLOSED;
		proto_event(out, TOE_EV_CLOSED);
	} else if (!proto_is(fp, TOE_FP_ACTIVE) && proto_outstanding(fp)) {
		fp->flags |= TOE_FP_ACTIVE;
		proto_event(out, TOE_EV_ACTIVE);
	}
}

void proto_finish(struct toe_flow_proto *fp, struct proto_out *out, bool force)
{
	struct toe_snap *snap = out->snap;
	uint32_t avail = tx_avail(fp);

	proto_sb_settle(fp, out);
	/* Discarded bytes are not there for the application: its stream ends where they began. */
	snap->rx_tail =
		proto_rx_pos(fp, proto_is(fp, TOE_FP_RX_DISCARD) ? fp->rx_head : proto_rcv_end(fp));
	snap->tx_head = proto_tx_pos(fp, proto_tx_head(fp));
	snap->state |= TOE_SLOT_ESTABLISHED;
	if (proto_is(fp, TOE_FP_FIN_RCVD))
		snap->state |= TOE_SLOT_RX_FIN;
	if (proto_is(fp, TOE_FP_FIN_ACKED))
		snap->state |= TOE_SLOT_TX_DONE;
	snap->srtt_us = fp->srtt_us;
	snap->cwnd = fp->cwnd;

	if (tx_room_cwnd(fp) < proto_min(avail, fp->mss) && tx_cwnd(fp) <= fp->snd_wnd)
		fp->flags |= TOE_FP_CWND_LIMITED | TOE_FP_CWND_ROUND;
	snap->sendable = proto_sendable(fp);
	/* sched subtracts what it has given out itself, so an unchanged absolute says nothing. */
	if (force || snap->sendable != fp->told_sendable)
		out->todo |= TOE_TODO_SCHED;
	fp->told_sendable = snap->sendable;
	proto_finish_event(fp, out);
}

/* ---- workflow ---- */

static void tx_send_probe(struct toe_flow_proto *fp, const struct plan *p, struct proto_out *out)
{
	/* One before what the peer expects and empty: not acceptable, hence answered by an ACK that
	 * carries its window.  It changes nothing, so losing it costs nothing. */
	proto_fill(fp, out->snap, p->seq - 1, RTE_TCP_ACK_FLAG);
	fp->flags &= ~(TOE_FP_PROBE | TOE_FP_KEEPALIVE);
	proto_counted(out, TOE_C_PROBES);
	out->todo |= TOE_TODO_TX;
}

/* Recovery has resent what is missing below end. */
static void tx_note_hole(struct toe_flow_proto *fp, uint32_t end)
{
	if (fp->sb == NULL)
		return;
	fp->sb->rtx_nxt = seq_max(fp->sb->rtx_nxt, end);
	if (fp->rack == 0)
		fp->sb->rtx_mark = fp->snd_max;
}

/* The part of [p->seq, end) that has been sent before. */
static void tx_note_rtx(struct toe_flow_proto *fp, const struct plan *p, uint32_t end,
			const struct toe_clock *now, struct proto_out *out)
{
	uint32_t again = seq_min(p->seq + p->len, fp->snd_max) - p->seq;

	out->snap->rtx_bytes = (uint16_t)again;
	fp->rtt_us = 0; /* Karn: its ACK would not say which copy arrived */
	if (p->kind != PLAN_TLP)
		proto_undo_sent(fp, now, out);
	if (p->kind == PLAN_RTX) {
		fp->flags &= ~TOE_FP_RTX_ONE;
		tx_note_hole(fp, end);
		proto_rack_sent_again(fp, end, now, out);
	}
	proto_counted(out, TOE_C_SEGS_RTX);
}

static void tx_send_data(struct toe_flow_proto *fp, const struct plan *p,
			 const struct toe_clock *now, struct proto_out *out)
{
	uint32_t end = p->seq + p->len + (p->fin ? 1u : 0u);
	bool again = seq_lt(p->seq, fp->snd_max);
	struct toe_snap *snap = out->snap;
	uint8_t flags = RTE_TCP_ACK_FLAG;

	if (again) {
		tx_note_rtx(fp, p, end, now, out);
	} else {
		if (fp->rtt_us == 0 && !proto_is(fp, TOE_FP_TLP)) {
			fp->rtt_seq = end;
			fp->rtt_us = (uint32_t)now->us | 1u; /* 0 means none: 1 us is noise */
		}
		if (p->len > 0 && p->len < fp->mss)
			fp->snd_sml = p->seq + p->len;
		if (p->len > 0 && proto_is(fp, TOE_FP_CWR)) {
			flags |= RTE_TCP_CWR_FLAG;
			fp->flags &= ~TOE_FP_CWR;
		}
		snap->ect = proto_is(fp, TOE_FP_ECN) && p->len > 0;
	}
	if (proto_is(fp, TOE_FP_PROBE))
		proto_counted(out, TOE_C_PROBES);
	if (p->kind == PLAN_TLP) {
		fp->flags |= TOE_FP_TLP;
		fp->tlp_end = fp->snd_max;
		proto_rack_sent_tail(fp, p->seq, now, out);
	}
	if (p->len > 0 && p->seq + p->len == fp->tx_tail)
		flags |= RTE_TCP_PSH_FLAG;
	if (p->fin) {
		flags |= RTE_TCP_FIN_FLAG;
		fp->flags |= TOE_FP_FIN_SENT;
		snap->fin_probe = 1;
	}
	if (seq_gt(end, fp->snd_max))
		proto_rack_sent(fp, fp->snd_max, end, now, out);
	proto_prr_sent(fp, p->len, out);
	fp->snd_nxt = seq_max(fp->snd_nxt, end);
	fp->snd_max = seq_max(fp->snd_max, end);
	fp->flags &= ~(TOE_FP_PROBE | TOE_FP_KEEPALIVE);
	proto_loss_skip(fp);
	proto_fill(fp, snap, p->seq, flags);
	snap->pos = proto_tx_pos(fp, p->seq);
	snap->len = (uint16_t)p->len;
	if (p->len > 0) {
		proto_counted(out, TOE_C_SEGS_DATA_TX);
		if (proto_is(fp, TOE_FP_RX_TURN) && fp->pingpong < PROTO_PINGPONG)
			fp->pingpong++;
		fp->flags &= ~TOE_FP_RX_TURN;
	}
	out->todo |= TOE_TODO_TX;
}

bool proto_tx_idle(struct toe_flow_proto *fp, const struct toe_clock *now, struct proto_out *out)
{
	struct plan p;

	if (fp->snd_una != fp->snd_max || fp->snd_nxt != fp->snd_max || fp->told_sendable != 0 ||
	    proto_is(fp, TOE_FP_PACED | TOE_FP_PROBE | TOE_FP_KEEPALIVE))
		return false;
	p = tx_plan_data(fp);
	if (p.kind != PLAN_DATA || p.len == 0)
		return false;
	tx_send_data(fp, &p, now, out);
	return true;
}

void proto_tx(struct toe_flow_proto *fp, const struct toe_clock *now, struct proto_out *out)
{
	struct plan p = tx_plan(fp);

	switch (p.kind) {
	case PLAN_NONE:
		proto_dropped(out, TOE_D_NOT_SENDABLE);
		break;
	case PLAN_PROBE:
		tx_send_probe(fp, &p, out);
		break;
	case PLAN_RST:
		proto_send_rst(fp, proto_ack_seq(fp), out);
		proto_event(out, TOE_EV_RESET);
		break;
	default:
		tx_send_data(fp, &p, now, out);
		break;
	}
	proto_finish(fp, out, true);
}
