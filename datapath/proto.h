/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The TCP machine as pure functions: (state, input summary, clock) -> decision.  No rings, no clock
 * reads, no memory but the state given, so that unit tests and the simulator call them directly.
 * stages/proto.c is the stage around them; proto_rx*.c, proto_tx.c, proto_hc.c, proto_ctrl.c are
 * the workflows, proto_loss.c is the sender's loss recovery; they share what is declared here.
 *
 * Sequence numbers are RFC 9293's; a stream *position* is what the application sees: 0 is the first
 * data byte, hence position = sequence number - (initial sequence number + 1).
 */
#ifndef TOE_PROTO_H
#define TOE_PROTO_H

#include <string.h>

#include <rte_tcp.h>

#include "common/tcp_seq.h"
#include "counters.h"
#include "flow_state.h"
#include "rack.h"
#include "stage.h"
#include "toe/region.h"
#include "work.h"

#define PROTO_DUP_THRESH   3u   /* RFC 5681 §3.2 */
#define PROTO_DUP_MAX      64u  /* duplicates that are counted at all, and waited for */
#define PROTO_REORDER_MAX  5u   /* steps from one to the other, each twice as many */
#define PROTO_CHALLENGE_MS 500u /* at most one challenge ACK per connection in this time */
#define PROTO_OOW_MS       10u  /* likewise ACKs for empty unacceptable segments: ends ACK loops */
/* Delayed ACK (RFC 9293 §3.8.6.3): only on connections that answer what they receive, where the
 * answer carries the ACK; after PROTO_PINGPONG answers in a row, until one fails to come in time.
 */
#define PROTO_DELACK_MS    40u
#define PROTO_PINGPONG     3u
#define PROTO_CWND_MAX     (1u << 30) /* cwnd and ssthresh: SND.UNA + cwnd must be comparable */
#define PROTO_PAWS_IDLE_MS (24u * 24u * 3600u * 1000u) /* RFC 7323 §5.5 */

/*
 * Times in flow_proto are 16 bits: a counter of 2^shift ms each.  They go round, after 65 s and
 * more: a limiter may then once hold back an ACK it should not, 1 in 1000 at most, and no more
 * harm.  The age of ts_recent goes round with the millisecond clock itself, after 49 days.
 */
#define PROTO_CHALLENGE_SHIFT 3u
#define PROTO_OOW_SHIFT       0u
#define PROTO_TS_SHIFT        16u

static inline uint16_t proto_at(uint32_t ms, unsigned shift)
{
	return (uint16_t)(ms >> shift);
}

/* ms or more have gone by since at. */
static inline bool proto_elapsed(uint32_t now_ms, uint16_t at, unsigned shift, uint32_t ms)
{
	return (uint32_t)(uint16_t)(proto_at(now_ms, shift) - at) << shift >= ms;
}

#define PROTO_CTL 0x1fu /* of TOE_CTL_*: what proto keeps */

static inline uint32_t proto_rx_buf(const struct toe_flow_proto *fp)
{
	return 1u << fp->rx_shift;
}

static inline uint32_t proto_tx_buf(const struct toe_flow_proto *fp)
{
	return 1u << fp->tx_shift;
}

/* Largest window the peer has offered, bytes, rounded up to its scale (RFC 5961 §5.2, RFC 9293
 * §3.8.6.2.1). */
static inline uint32_t proto_max_wnd(const struct toe_flow_proto *fp)
{
	return (uint32_t)fp->max_wnd << fp->snd_wscale;
}

/* Decision on one item.  The snapshot is the item's own. */
struct proto_out {
	struct toe_snap *snap;
	uint64_t counted; /* bit c: count enum toe_counter c once */
	uint8_t verdict;  /* TOE_FORWARD or TOE_NOTHING */
	uint8_t todo;     /* TOE_TODO_* */
	uint8_t drop;     /* enum toe_drop: count it, also where an ACK answers a dropped segment */
	uint8_t ack_defer; /* the ACK may be left to a later segment of the same burst */
	uint32_t dup_left; /* bytes of the segment that were here before, for D-SACK */
	uint32_t dup_right;
	struct toe_scoreboards
		*scoreboards;        /* of the instance; NULL: nothing out of order is kept */
	struct toe_rack_pool *racks; /* of the instance; NULL: RACK is not used */
	uint32_t conn;               /* id, with racks */
	uint32_t now_ms;             /* with scoreboards or racks */
	struct toe_flow_post *post;  /* of the connection */
	struct toe_flow_addr6 *addr6;
};
static_assert(TOE_C_N <= 64, "proto_out.counted is a bit set");

static inline void proto_out_init(struct proto_out *out, struct toe_snap *snap)
{
	memset(snap, 0, sizeof(*snap));
	*out = (struct proto_out){.snap = snap, .verdict = TOE_FORWARD};
}

static inline void proto_counted(struct proto_out *out, enum toe_counter c)
{
	out->counted |= 1ull << c;
}

static inline void proto_dropped(struct proto_out *out, enum toe_drop why)
{
	out->verdict = TOE_NOTHING;
	out->drop = (uint8_t)why;
}

static inline void proto_event(struct proto_out *out, uint16_t event)
{
	out->snap->event = event;
	out->todo |= TOE_TODO_CTRL;
}

static inline uint32_t proto_min(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}
static inline uint32_t proto_max(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

/* Sequence number after the last byte received in order, the peer's FIN not counted. */
static inline uint32_t proto_rcv_end(const struct toe_flow_proto *fp)
{
	return fp->rcv_nxt - (fp->flags & TOE_FP_FIN_RCVD ? 1u : 0u);
}

static inline uint32_t proto_rx_pos(const struct toe_flow_proto *fp, uint32_t seq)
{
	return seq - fp->irs - 1;
}

static inline uint32_t proto_tx_pos(const struct toe_flow_proto *fp, uint32_t seq)
{
	return seq - fp->iss - 1;
}

/* First byte of the stream that is not acknowledged: SND.UNA, our FIN not counted. */
static inline uint32_t proto_tx_head(const struct toe_flow_proto *fp)
{
	return seq_min(fp->snd_una, fp->tx_tail);
}

static inline bool proto_is(const struct toe_flow_proto *fp, uint32_t flag)
{
	return (fp->flags & flag) != 0;
}

/* NULL: the flow has too little in flight, or there was none left. */
static inline struct toe_rack *proto_rack(const struct toe_flow_proto *fp,
					  const struct proto_out *out)
{
	return out->racks != NULL && fp->rack != 0 ? &out->racks->e[fp->rack - 1] : NULL;
}

/* For reading. */
static inline const struct toe_scoreboard *proto_sb(const struct toe_flow_proto *fp)
{
	return fp->sb != NULL ? fp->sb : &toe_scoreboard_none;
}

/* In RECOVERY with SACK: all holes below have been resent. */
static inline uint32_t proto_rtx_nxt(const struct toe_flow_proto *fp)
{
	return fp->sb != NULL ? fp->sb->rtx_nxt : fp->snd_una;
}

/* With RACK: what is not SACKed below is lost. */
static inline uint32_t proto_rack_edge(const struct toe_flow_proto *fp)
{
	return fp->sb != NULL && fp->rack != 0 ? fp->sb->rack_edge : fp->snd_una;
}

/* DupThresh (RFC 6675 §2), more if the path has been seen to reorder.  With RACK so many
 * duplicates only let new data go (RFC 3042): loss is a matter of time. */
static inline uint32_t proto_dup_thresh(const struct toe_flow_proto *fp)
{
	if (fp->rack != 0 && fp->sb != NULL)
		return PROTO_DUP_MAX;
	return proto_min(PROTO_DUP_THRESH << fp->reorder, PROTO_DUP_MAX);
}

/* Fast recovery by scoreboard.  A flow that could not have one goes on as if there were no SACK
 * until a SACK block finds one. */
static inline bool proto_loss_by_sack(const struct toe_flow_proto *fp)
{
	return proto_is(fp, TOE_FP_SACK) && fp->sb != NULL;
}

/* ---- workflows.  fp is valid and of the item's generation ---- */
void proto_rx(struct toe_flow_proto *fp, const struct toe_seg *seg, const struct toe_clock *now,
	      struct proto_out *out);
void proto_tx(struct toe_flow_proto *fp, const struct toe_clock *now, struct proto_out *out);
void proto_hc(struct toe_flow_proto *fp, const struct toe_hc *hc, const struct toe_clock *now,
	      struct proto_out *out);
/* Commands for an installed connection, and INSTALL, which makes one. */
void proto_ctrl(struct toe_flow_proto *fp, const struct toe_work_ctrl *wc,
		const struct toe_clock *now, struct proto_out *out);

/* The RST that ends the connection, at seq; nothing is sent after it. */
void proto_send_rst(struct toe_flow_proto *fp, uint32_t seq, struct proto_out *out);

/* Bytes never sent that both windows let go now.  In go-back-N, which has others first: 0. */
uint32_t proto_new_now(const struct toe_flow_proto *fp);

/* Lets go what may go now, forgets the rest, and then resets the connection: what the application
 * wrote before it closed would have left at the time of writing, had TX items no way to go. */
void proto_reset_behind(struct toe_flow_proto *fp, struct proto_out *out);

/* Resets the connection at the wish of a stream module. */
void proto_abort(struct toe_flow_proto *fp, struct proto_out *out);

/* ---- parts ---- */

/* The part of a segment below RCV.NXT is a duplicate (RFC 2883 §4). */
static inline void proto_note_dup(const struct toe_flow_proto *fp, const struct toe_seg *seg,
				  struct proto_out *out)
{
	uint32_t end = seq_min(seg->seq + seg->payload_len, proto_rcv_end(fp));

	if (seq_lt(seg->seq, end)) {
		out->dup_left = seg->seq;
		out->dup_right = end;
	}
}

/* Payload and FIN of a segment that passed proto_rx's checks; answers with an ACK. */
void proto_rx_data(struct toe_flow_proto *fp, const struct toe_seg *seg, struct proto_out *out);

/*
 * How many bytes of permission sched may give now.  Sched gives one TX item per MSS, so this is
 * exact in items: feeding items until it is 0 sends all that congestion window, peer's window,
 * Nagle, CORK and silly-window avoidance allow, and nothing else.  0 if and only if a TX item would
 * find nothing to send; a pending retransmission counts as one MSS; a FIN or a probe alone as 1.
 */
uint32_t proto_sendable(const struct toe_flow_proto *fp);

/* The flow's scoreboard, taken if it has none; NULL: there is none, go on as without SACK. */
struct toe_scoreboard *proto_sb_take(struct toe_flow_proto *fp, struct proto_out *out);
/* Gives it back if there are no holes any more; in any case. */
void proto_sb_settle(struct toe_flow_proto *fp, struct proto_out *out);
void proto_sb_release(struct toe_flow_proto *fp, struct proto_out *out);

/* ---- loss recovery, proto_loss.c ---- */

/* SACK blocks of an ACK that SND.UNA already follows: news about what is missing? */
bool proto_loss_sack(struct toe_flow_proto *fp, const struct toe_seg *seg,
		     const struct toe_clock *now, struct proto_out *out);

/* SND.UNA has advanced by acked; or a duplicate ACK arrived (RFC 5681 §2, RFC 6675 §2). */
void proto_loss_acked(struct toe_flow_proto *fp, uint32_t acked, struct proto_out *out);
void proto_loss_dup(struct toe_flow_proto *fp, struct proto_out *out);

/* Any acceptable ACK, last: what it says about a tail loss probe. */
void proto_loss_tlp_ack(struct toe_flow_proto *fp, const struct toe_seg *seg,
			struct proto_out *out);

/* Commands RTO and PROBE; something is in flight. */
void proto_loss_rto(struct toe_flow_proto *fp, struct proto_out *out);
void proto_loss_probe(struct toe_flow_proto *fp, struct proto_out *out);

/* Command MSS: what is in flight was larger than the path carries. */
void proto_loss_too_big(struct toe_flow_proto *fp, struct proto_out *out);

/* After SND.NXT moved below SND.MAX: not into what the peer holds.  And where that begins behind
 * seq, at most end. */
void proto_loss_skip(struct toe_flow_proto *fp);
uint32_t proto_loss_hole_end(const struct toe_flow_proto *fp, uint32_t seq, uint32_t end);

/* In RECOVERY with SACK: bytes cwnd allows beyond pipe (RFC 6675 §5); length and place of the next
 * hole to resend, sure: only one that counts as lost; bytes in all such holes, sure or not. */
uint32_t proto_loss_budget(const struct toe_flow_proto *fp);
uint32_t proto_loss_hole(const struct toe_flow_proto *fp, bool sure, uint32_t *seq);
uint32_t proto_loss_holes(const struct toe_flow_proto *fp);

/* SACKed bytes inside [from, to), from <= to. */
uint32_t proto_loss_sacked_in(const struct toe_flow_proto *fp, uint32_t from, uint32_t to);

/* RACK has new findings: fast recovery, or what it has resent again. */
void proto_loss_found(struct toe_flow_proto *fp, bool again, struct proto_out *out);

/* Bytes on the way, as far as is known. */
uint32_t proto_loss_pipe(const struct toe_flow_proto *fp);

/* ---- PRR (RFC 9937), proto_prr.c; without an element cwnd is ssthresh at once ---- */

void proto_prr_begin(struct toe_flow_proto *fp, struct proto_out *out);
void proto_prr_end(struct toe_flow_proto *fp, struct proto_out *out);

/* So much of what has arrived the peer has told of, a measure that only differences are taken of.
 */
uint32_t proto_prr_told(const struct toe_flow_proto *fp);

/* An ACK in recovery, or its timer; told: proto_prr_told() before it; good: it moved SND.UNA and
 * showed no new loss. */
void proto_prr_acked(struct toe_flow_proto *fp, uint32_t told, bool good, struct proto_out *out);
void proto_prr_sent(struct toe_flow_proto *fp, uint32_t bytes, struct proto_out *out);

/* ---- congestion avoidance, proto_cubic.c; without an element, or with ECN: Reno's ---- */

/* The flow has got an element. */
void proto_cubic_recall(const struct toe_flow_proto *fp, struct proto_out *out);
/* acked bytes of a full window: *add is what cwnd grows by.  False: as RFC 5681 has it. */
bool proto_cubic_grow(const struct toe_flow_proto *fp, uint32_t acked, struct proto_out *out,
		      uint32_t *add);
/* cwnd is not what limits, it is in slow start, or has been set from outside: another epoch. */
void proto_cubic_pause(const struct toe_flow_proto *fp, struct proto_out *out);
/* Something was lost when so much was in flight: the new ssthresh. */
uint32_t proto_cubic_reduce(struct toe_flow_proto *fp, uint32_t window, struct proto_out *out);
/* After an RTO, behind proto_cubic_reduce(). */
void proto_cubic_timeout(struct toe_flow_proto *fp, struct proto_out *out);

/* ---- undo, proto_undo.c; without an element all do nothing ---- */

/* Before a loss changes anything; one that is certain does; something has been resent. */
void proto_undo_note(struct toe_flow_proto *fp, struct proto_out *out);
void proto_undo_forget(struct toe_flow_proto *fp, struct proto_out *out);
void proto_undo_sent(struct toe_flow_proto *fp, const struct toe_clock *now, struct proto_out *out);

/* SND.UNA has moved on from there; the segment's first SACK block reports a duplicate. */
void proto_undo_acked(struct toe_flow_proto *fp, const struct toe_seg *seg, uint32_t from,
		      struct proto_out *out);
void proto_undo_dsack(struct toe_flow_proto *fp, const struct toe_seg *seg, struct proto_out *out);

/* ---- RACK (RFC 8985 §6), proto_rack.c; without an element all do nothing ---- */

/* [seq, end) was sent, never before; before is SND.MAX at that time.  May take an element. */
void proto_rack_sent(struct toe_flow_proto *fp, uint32_t before, uint32_t end,
		     const struct toe_clock *now, struct proto_out *out);
/* It was sent again: by recovery, or as a tail loss probe. */
void proto_rack_sent_again(struct toe_flow_proto *fp, uint32_t end, const struct toe_clock *now,
			   struct proto_out *out);
void proto_rack_sent_tail(struct toe_flow_proto *fp, uint32_t seq, const struct toe_clock *now,
			  struct proto_out *out);

/* [left, right) has been acknowledged or SACKed, and some of it was not before. */
void proto_rack_arrived(struct toe_flow_proto *fp, uint32_t left, uint32_t right,
			const struct toe_clock *now, struct proto_out *out);

/* The peer has received something twice. */
void proto_rack_dsack(struct toe_flow_proto *fp, struct proto_out *out);

/* After an ACK, or when the reorder timer goes off: what is lost by now.  True: something of what
 * recovery has resent is. */
bool proto_rack_detect(struct toe_flow_proto *fp, const struct toe_clock *now,
		       struct proto_out *out);
void proto_rack_timeout(struct toe_flow_proto *fp, const struct toe_clock *now,
			struct proto_out *out);

/* Recovery begins, or ends; after an RTO nothing is known. */
void proto_rack_recovery(struct toe_flow_proto *fp, bool begins, struct proto_out *out);
void proto_rack_forget(struct toe_flow_proto *fp, struct proto_out *out);
/* Nothing is in flight any more; or the connection ends. */
void proto_rack_release(struct toe_flow_proto *fp, struct proto_out *out);

/* What the application wants segments to look like. */
static inline void proto_set_header(struct toe_flow_post *post, uint32_t ctl)
{
	/* Replicas of post read them meanwhile; and their line stays theirs if nothing is new. */
	if (post->tos != toe_ctl_tos(ctl))
		__atomic_store_n(&post->tos, toe_ctl_tos(ctl), __ATOMIC_RELAXED);
	if (post->ttl != toe_ctl_ttl(ctl))
		__atomic_store_n(&post->ttl, toe_ctl_ttl(ctl), __ATOMIC_RELAXED);
}

/* The application's cursor, if it may be believed; proto_hc.c. */
bool proto_take_tail(struct toe_flow_proto *fp, uint32_t tail);

/* What is written to an idle connection (nothing in flight, none promised to sched, no pace) goes
 * with the news of it: one segment, without a permission of sched.  Later writes find data in
 * flight and take turns with other flows, where they may share segments.  False: nothing to send
 * so. */
bool proto_tx_idle(struct toe_flow_proto *fp, const struct toe_clock *now, struct proto_out *out);

/* Header of the segment to send: acknowledges, advertises (moving RCV.ADV), echoes. */
void proto_fill(struct toe_flow_proto *fp, struct toe_snap *snap, uint32_t seq, uint8_t flags);

/* Sequence number of a segment without data that the peer will find acceptable. */
uint32_t proto_ack_seq(const struct toe_flow_proto *fp);

/* An ACK with SACK blocks is to be sent; out->dup_* first (RFC 2883). */
void proto_reply_ack(struct toe_flow_proto *fp, struct proto_out *out);

/* The window would move enough to tell the peer without being asked (RFC 9293 §3.8.6.2.2). */
bool proto_window_opened(const struct toe_flow_proto *fp);

/* Last step of every workflow that changed state: cursors and state for ctxq, sendable for sched
 * (if it changed or force), ACTIVE or CLOSED for the control plane if no event is due already. */
void proto_finish(struct toe_flow_proto *fp, struct proto_out *out, bool force);

/* Copies what the control plane polls. */
void proto_publish(const struct toe_flow_proto *fp, struct toe_flow_prog *prog);

#endif
