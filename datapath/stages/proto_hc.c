/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Protocol stage, HC workflow: the application moved its cursors or changed its wishes.
 *
 * Input: state, a copy of line 1 of toe_slot, of which every word may be a lie.  Output: more to
 * send, or, of an idle connection, the segment itself; more window.  Wrong cursors change nothing
 * at all.  Owns nothing.  Thread: the proto instance.
 */
#include "proto.h"

#include <errno.h>

/* tx_tail only moves forward, by no more than the buffer has free, and not after its end was
 * declared. */
static bool hc_tx_ok(const struct toe_flow_proto *fp, uint32_t tail)
{
	uint32_t more = tail - fp->tx_tail;

	if (more == 0)
		return true;
	if ((fp->ctl & TOE_CTL_SHUT_WR) || proto_is(fp, TOE_FP_FIN_SENT))
		return false;
	return more <= proto_tx_buf(fp) - (fp->tx_tail - proto_tx_head(fp));
}

bool proto_take_tail(struct toe_flow_proto *fp, uint32_t tail)
{
	if (!hc_tx_ok(fp, tail))
		return false;
	fp->tx_tail = tail;
	return true;
}

static bool hc_rx_ok(const struct toe_flow_proto *fp, uint32_t head)
{
	if (proto_is(fp, TOE_FP_RX_DISCARD))
		return true; /* not looked at any more */
	return head - fp->rx_head <= proto_rcv_end(fp) - fp->rx_head;
}

static void hc_wishes(struct toe_flow_proto *fp, uint32_t ctl)
{
	/* A direction once shut stays shut. */
	fp->ctl = (ctl | (fp->ctl & (TOE_CTL_SHUT_WR | TOE_CTL_SHUT_RD))) & PROTO_CTL;
	if (fp->ctl & TOE_CTL_SHUT_WR)
		fp->flags |= TOE_FP_FIN_QUEUED;
	if ((fp->ctl & TOE_CTL_SHUT_RD) && !proto_is(fp, TOE_FP_RX_DISCARD)) {
		/* From here on rx_head is where delivery ended; the window is the whole buffer. */
		fp->flags |= TOE_FP_RX_DISCARD;
		fp->rx_head = proto_rcv_end(fp);
	}
}

void proto_abort(struct toe_flow_proto *fp, struct proto_out *out)
{
	if (proto_is(fp, TOE_FP_RESET | TOE_FP_CLOSED)) {
		proto_dropped(out, TOE_D_AFTER_RESET);
		return;
	}
	proto_send_rst(fp, proto_ack_seq(fp), out);
	out->snap->state = TOE_SLOT_ERROR;
	out->snap->error = ECONNRESET;
	out->todo |= TOE_TODO_CTXQ;
	proto_event(out, TOE_EV_RESET);
	proto_finish(fp, out, true);
}

void proto_hc(struct toe_flow_proto *fp, const struct toe_hc *hc, const struct toe_clock *now,
	      struct proto_out *out)
{
	uint32_t tail = fp->iss + 1 + hc->tx_tail;
	uint32_t head = fp->irs + 1 + hc->rx_head;

	if (proto_is(fp, TOE_FP_RESET | TOE_FP_RST_QUEUED)) {
		proto_dropped(out, TOE_D_AFTER_RESET);
		return;
	}
	if (proto_is(fp, TOE_FP_ORPHAN) && seq_lt(tail, fp->tx_tail))
		tail = fp->tx_tail; /* fetched before CLOSE told the last one */
	if (hc->app_id != out->post->app_id || hc->slot != out->post->slot || !hc_tx_ok(fp, tail) ||
	    !hc_rx_ok(fp, head)) {
		proto_dropped(out, TOE_D_HC_INVALID);
		return;
	}
	fp->tx_tail = tail;
	if (!proto_is(fp, TOE_FP_RX_DISCARD))
		fp->rx_head = head;
	hc_wishes(fp, hc->ctl);
	proto_set_header(out->post, hc->ctl);
	if ((hc->share || !proto_tx_idle(fp, now, out)) && proto_window_opened(fp))
		proto_reply_ack(fp, out);
	proto_finish(fp, out, false);
}
