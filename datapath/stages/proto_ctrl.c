/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Protocol stage, CTRL workflow: commands of the control plane that concern one connection, and
 * toe_flow_prog, what it polls.
 *
 * Input: state, command, clock.  Output: changed state; INSTALL and NEIGH also write flow_post
 * and flow_addr6, which replicas read only for items that leave proto later.  Owns nothing. Thread:
 * the proto instance.
 */
#include "proto.h"

#include <sys/socket.h>

#include <rte_byteorder.h>

#include "cmd_mss.h"
#include "ooo.h"

/* Relaxed stores: the reader is another process, uses each field on its own and only needs
 * untorn words.  gen is released last, so that it never labels the previous use's numbers. */
#define PROG_SET(field, value) __atomic_store_n(&prog->field, (value), __ATOMIC_RELAXED)

static uint32_t prog_flags(const struct toe_flow_proto *fp)
{
	static const struct {
		uint32_t from, to;
	} map[] = {
		{TOE_FP_FIN_QUEUED, TOE_PROG_FIN_QUEUED},
		{TOE_FP_FIN_SENT, TOE_PROG_FIN_SENT},
		{TOE_FP_FIN_ACKED, TOE_PROG_FIN_ACKED},
		{TOE_FP_FIN_RCVD, TOE_PROG_FIN_RCVD},
		{TOE_FP_RESET, TOE_PROG_RESET},
		{TOE_FP_RECOVERY | TOE_FP_LOSS, TOE_PROG_RECOVERY},
		{TOE_FP_ORPHAN, TOE_PROG_ORPHAN},
		{TOE_FP_FIN_FIRST, TOE_PROG_FIN_FIRST},
	};
	uint32_t flags = 0;

	for (unsigned i = 0; i < sizeof(map) / sizeof(map[0]); i++)
		if (fp->flags & map[i].from)
			flags |= map[i].to;
	return flags;
}

/* The first number at or after before whose low half is that. */
static uint32_t extend16(uint32_t before, uint16_t low)
{
	return before + (uint16_t)(low - before);
}

void proto_publish(const struct toe_flow_proto *fp, struct toe_flow_prog *prog)
{
	/* loss_epoch is whole only there */
	uint32_t known = prog->gen == fp->gen ? prog->loss_epoch : 0;
	uint32_t wnd = seq_gt(fp->rcv_adv, fp->rcv_nxt) ? fp->rcv_adv - fp->rcv_nxt : 0;
	uint32_t unread = proto_is(fp, TOE_FP_RX_DISCARD) ? 0 : proto_rcv_end(fp) - fp->rx_head;

	PROG_SET(snd_una, fp->snd_una);
	PROG_SET(snd_nxt, fp->snd_max);
	PROG_SET(snd_wnd, fp->snd_wnd);
	PROG_SET(rcv_nxt, fp->rcv_nxt);
	PROG_SET(tx_tail, fp->tx_tail);
	PROG_SET(cwnd, fp->cwnd);
	PROG_SET(ssthresh, fp->ssthresh);
	PROG_SET(srtt_us, fp->srtt_us);
	PROG_SET(rttvar_us, fp->rttvar_us);
	PROG_SET(rcv_wnd, wnd);
	PROG_SET(rx_unread, unread);
	PROG_SET(ooo_bytes, toe_ooo_bytes(&proto_sb(fp)->ooo));
	/* Who sees a new loss sees that recovery goes on; who sees that, or its end, the window. */
	__atomic_store_n(&prog->flags, prog_flags(fp), __ATOMIC_RELEASE);
	__atomic_store_n(&prog->loss_epoch, extend16(known, fp->loss_epoch), __ATOMIC_RELEASE);
	__atomic_store_n(&prog->gen, fp->gen, __ATOMIC_RELEASE);
}

/* Powers of two (region.h); anything else is used in part. */
static uint32_t buf_shift(uint32_t bytes)
{
	return bytes != 0 ? 31u - (uint32_t)__builtin_clz(bytes) : 0;
}

/* A window of bytes as the field of a segment has it; SYNs have it unscaled. */
static uint16_t wnd_field(uint32_t bytes, uint32_t scale)
{
	return (uint16_t)proto_min((bytes + (1u << scale) - 1) >> scale, UINT16_MAX);
}

/* What it has of the pools. */
static void ctrl_forget(struct toe_flow_proto *fp, struct proto_out *out)
{
	proto_rack_release(fp, out);
	proto_sb_release(fp, out);
}

static void ctrl_install_flow(struct toe_flow_proto *fp, const struct toe_cmd_install *in,
			      uint32_t gen, const struct toe_clock *now)
{
	memset(fp, 0, sizeof(*fp));
	fp->gen = gen;
	fp->flags = TOE_FP_VALID | (in->flags & TOE_INSTALL_TS ? TOE_FP_TS : 0u) |
		    (in->flags & TOE_INSTALL_SACK ? TOE_FP_SACK : 0u) |
		    (in->flags & TOE_INSTALL_ECN ? TOE_FP_ECN : 0u) |
		    (in->flags & TOE_INSTALL_STREAM ? TOE_FP_STREAM : 0u);
	fp->iss = in->iss;
	fp->irs = in->irs;
	fp->snd_una = fp->snd_nxt = fp->snd_max = fp->tx_tail = in->snd_nxt;
	fp->snd_wnd = in->snd_wnd;
	/* The first ACK must be able to set the window whatever its numbers. */
	fp->snd_wl1 = in->rcv_nxt - 1;
	fp->recover = fp->cwr_seq = fp->snd_sml = in->snd_nxt - 1;
	fp->rcv_nxt = fp->rx_head = fp->last_ack_sent = in->rcv_nxt;
	fp->rx_shift = buf_shift(in->rx_buf_bytes) & 31u;
	fp->tx_shift = buf_shift(in->tx_buf_bytes) & 31u;
	fp->mss = in->mss != 0 ? in->mss : 536; /* RFC 9293 §3.7.1; it is a divisor */
	fp->snd_wscale = in->snd_wscale & 15u;  /* <= 14 (RFC 7323 §2.3) */
	fp->rcv_wscale = in->rcv_wscale & 15u;
	fp->max_wnd = wnd_field(in->snd_wnd, fp->snd_wscale);
	/* The handshake may have offered less; more than the buffer it cannot have. */
	fp->rcv_adv = fp->rcv_nxt + (proto_min(proto_rx_buf(fp), 65535u << fp->rcv_wscale) >>
				     fp->rcv_wscale << fp->rcv_wscale);
	fp->cwnd = proto_min(proto_max(in->cwnd, fp->mss), PROTO_CWND_MAX);
	fp->ssthresh = proto_min(proto_max(in->ssthresh, 2u * fp->mss), PROTO_CWND_MAX);
	fp->ts_recent = in->ts_recent;
	fp->ts_recent_at = proto_at(now->ms, PROTO_TS_SHIFT);
	/* half of the counter ago: the first answer is not held back */
	fp->challenge_at = proto_at(now->ms, PROTO_CHALLENGE_SHIFT) - 0x8000u;
	fp->oow_at = proto_at(now->ms, PROTO_OOW_SHIFT) - 0x8000u;
	fp->srtt_us = in->srtt_us;
	fp->rttvar_us = in->srtt_us / 2; /* RFC 6298 §2.2: one measurement, the handshake's */
	fp->ctl = in->ctl & PROTO_CTL;
}

static void ctrl_install_addr(struct toe_flow_post *post, struct toe_flow_addr6 *addr6,
			      const struct toe_cmd_install *in)
{
	if (in->family != AF_INET6) {
		memcpy(post->local_addr, in->local_addr, sizeof(post->local_addr));
		memcpy(post->remote_addr, in->remote_addr, sizeof(post->remote_addr));
		return;
	}
	memcpy(addr6->local, in->local_addr, sizeof(addr6->local));
	memcpy(addr6->remote, in->remote_addr, sizeof(addr6->remote));
	post->flags |= TOE_POST_IPV6;
	post->flow_label_high = (in->flow_label >> 16) & 0xfu;
	post->flow_label_low = (uint16_t)in->flow_label;
}

static void ctrl_install_post(struct toe_flow_post *post, struct toe_flow_addr6 *addr6,
			      const struct toe_cmd_install *in)
{
	memset(post, 0, sizeof(*post));
	memcpy(post->remote_mac, in->remote_mac, sizeof(post->remote_mac));
	post->local_port = rte_cpu_to_be_16(in->local_port);
	post->remote_port = rte_cpu_to_be_16(in->remote_port);
	post->ts_offset = in->ts_offset;
	post->slot = in->slot & 0xffffffu; /* ctrl has checked both */
	post->app_id = (uint8_t)in->app_id;
	proto_set_header(post, in->ctl);
	if (in->flags & TOE_INSTALL_TS)
		post->flags |= TOE_POST_TS;
	if (in->flags & TOE_INSTALL_STREAM)
		post->flags |= TOE_POST_STREAM;
	ctrl_install_addr(post, addr6, in);
}

static void ctrl_remove(struct toe_flow_proto *fp, struct proto_out *out)
{
	proto_event(out, TOE_EV_REMOVED);
	proto_counted(out, TOE_C_REMOVED);
	out->todo |= TOE_TODO_CTXQ;
	fp->flags |= TOE_FP_RESET; /* sendable is 0 */
	ctrl_forget(fp, out);
	proto_finish(fp, out, true);
	out->snap->state |= TOE_SLOT_DEAD;
	fp->flags &= ~TOE_FP_VALID; /* the rest stays: REMOVED reports the final numbers */
}

static void ctrl_cc(struct toe_flow_proto *fp, const struct toe_cmd_cc *cc, struct proto_out *out)
{
	if ((uint16_t)cc->loss_epoch != fp->loss_epoch) {
		proto_dropped(out, TOE_D_STALE); /* decided before the last loss */
		return;
	}
	fp->ssthresh = proto_min(proto_max(cc->ssthresh, 2u * fp->mss), PROTO_CWND_MAX);
	fp->flags &= ~TOE_FP_CUBIC;
	proto_cubic_pause(fp, out);
	if (!proto_is(fp, TOE_FP_RECOVERY | TOE_FP_LOSS))
		fp->cwnd = proto_min(proto_max(cc->cwnd, fp->mss), PROTO_CWND_MAX);
	fp->flags &= ~TOE_FP_PACED;
	if (cc->rate_bps != TOE_RATE_UNPACED)
		fp->flags |= TOE_FP_PACED;
	if (fp->snd_una == fp->snd_max) /* after a pause: what was before is no measure */
		fp->flags &= ~(TOE_FP_CWND_LIMITED | TOE_FP_CWND_ROUND);
	proto_finish(fp, out, true);
}

/* RFC 1191 §3: smaller segments from now on, or larger ones again. */
static void ctrl_mss(struct toe_flow_proto *fp, uint16_t mss, struct proto_out *out)
{
	bool smaller = mss < fp->mss;

	fp->mss = mss;
	fp->cwnd = proto_max(fp->cwnd, mss);
	if (smaller && fp->snd_max != fp->snd_una)
		proto_loss_too_big(fp, out);
	proto_finish(fp, out, true);
}

static void ctrl_rto(struct toe_flow_proto *fp, struct proto_out *out)
{
	if (fp->snd_max != fp->snd_una)
		proto_loss_rto(fp, out);
	proto_finish(fp, out, true);
}

/* With a window and SACK it is about what is in flight, else about the window. */
static void ctrl_probe(struct toe_flow_proto *fp, struct proto_out *out)
{
	if (proto_is(fp, TOE_FP_SACK) && fp->snd_max != fp->snd_una && fp->snd_wnd != 0)
		proto_loss_probe(fp, out);
	else
		fp->flags |= TOE_FP_PROBE;
	proto_finish(fp, out, true);
}

/* What CLOSE ends is neither reset nor over by itself: those two the control plane hears of. */
static void ctrl_end(struct toe_flow_proto *fp, const struct toe_cmd_close *close,
		     struct proto_out *out)
{
	if (close->mode == TOE_CLOSE_RST) {
		proto_send_rst(fp, proto_ack_seq(fp), out);
		return;
	}
	if (proto_is(fp, TOE_FP_RST_QUEUED))
		return; /* again, after a restart of the control plane, or data has come */
	if ((close->mode & TOE_CLOSE_TAIL) && !proto_take_tail(fp, fp->iss + 1 + close->tx_tail))
		out->drop = TOE_D_HC_INVALID;
	if (close->mode & TOE_CLOSE_FIN)
		fp->flags |= TOE_FP_FIN_QUEUED;
	else
		proto_reset_behind(fp, out);
}

static void ctrl_close(struct toe_flow_proto *fp, const struct toe_cmd_close *close,
		       struct proto_out *out)
{
	fp->flags |= TOE_FP_ORPHAN;
	if (!proto_is(fp, TOE_FP_RESET | TOE_FP_CLOSED))
		ctrl_end(fp, close, out);
	proto_finish(fp, out, true);
}

void proto_ctrl(struct toe_flow_proto *fp, const struct toe_work_ctrl *wc,
		const struct toe_clock *now, struct proto_out *out)
{
	switch (wc->w.cmd) {
	case TOE_CMD_INSTALL:
		ctrl_forget(fp, out); /* one that was never removed */
		ctrl_install_flow(fp, &wc->cmd.install, wc->w.gen, now);
		ctrl_install_post(out->post, out->addr6, &wc->cmd.install);
		proto_counted(out, TOE_C_INSTALLED);
		proto_event(out, TOE_EV_INSTALLED);
		out->todo |= TOE_TODO_CTXQ;
		proto_finish(fp, out, true);
		break;
	case TOE_CMD_REMOVE:
		ctrl_remove(fp, out);
		break;
	case TOE_CMD_CC:
		ctrl_cc(fp, &wc->cmd.cc, out);
		break;
	case TOE_CMD_MSS:
		ctrl_mss(fp, toe_cmd_mss_of(wc), out);
		break;
	case TOE_CMD_RTO:
		ctrl_rto(fp, out);
		break;
	case TOE_CMD_PROBE:
		ctrl_probe(fp, out);
		break;
	case TOE_CMD_KEEPALIVE:
		fp->flags |= TOE_FP_KEEPALIVE;
		proto_finish(fp, out, true);
		break;
	case TOE_CMD_CLOSE:
		ctrl_close(fp, &wc->cmd.close, out);
		break;
	case TOE_CMD_NEIGH:
		/* A frame being built right now may go to the old hop or, once, to a torn
		 * address; TCP repeats it. */
		memcpy(out->post->remote_mac, wc->cmd.neigh.remote_mac,
		       sizeof(out->post->remote_mac));
		break;
	case TOE_CMD_QUIET:
		fp->flags &= ~TOE_FP_ACTIVE;
		proto_finish(fp, out, false);
		break;
	default:
		break;
	}
}
