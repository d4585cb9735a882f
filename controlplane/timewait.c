/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * TIME-WAIT: connections we closed first, kept for cfg.time_wait_ms after the datapath has
 * forgotten them.  Answers retransmitted FINs, ignores RSTs (RFC 1337), gives way to a newer SYN
 * (RFC 6191): to our listener's, or to one that is the kernel's.  The table is in the state memfd
 * and bounded; when it is full the oldest entry goes.
 */
#include "cp.h"

#include <string.h>

#include "common/tcp_seq.h"

/* The next SYN's timestamp is newer than anything sent before, by any clock of at least 1 Hz. */
#define TW_REOPEN_MS 1000u

void cp_tw_adopt(struct cp *cp, uint32_t i)
{
	cp->tw_ack_ms[i] = 0;
	cp_list_add(&cp->tw_list, i);
	cp_node_add(cp, CP_NODE_TW, i);
	cp_port_use(cp, &cp->tw[i].t);
}

static void tw_free(struct cp *cp, uint32_t i)
{
	struct cp_tw *w = &cp->tw[i];

	cp_node_del(cp, CP_NODE_TW, i);
	cp_list_del(&cp->tw_list, i);
	if (w->flags & CP_TW_PORT)
		cp_port_release(cp, w->app_id, w->slot, w->slot_gen);
	cp_commit(&w->flags, 0);
	cp->free_tw[cp->free_tw_n++] = i;
	cp_port_unuse(cp, &w->t);
}

void cp_tw_enter(struct cp *cp, uint32_t id)
{
	const struct cp_conn *c = &cp->conns[id];
	struct cp_tw *w;
	uint32_t i;

	if (!cp->free_tw_n) {
		CP_COUNT(cp, time_wait_overflow);
		tw_free(cp, cp->tw_list.head);
	}
	i = cp->free_tw[--cp->free_tw_n];
	w = &cp->tw[i];
	*w = (struct cp_tw){
		.t = c->t,
		.snd_nxt = c->in.snd_nxt,
		.rcv_nxt = c->in.rcv_nxt,
		.ts_recent = c->in.ts_recent,
		.ts_offset = c->in.ts_offset,
		.app_id = c->in.app_id,
		.slot = c->in.slot,
		.slot_gen = c->in.slot_gen,
		.expire_ms = cp->now_ms + cp->cfg->time_wait_ms,
		.wnd = (uint16_t)((c->in.rx_buf_bytes - 1) >> c->in.rcv_wscale),
	};
	memcpy(w->remote_mac, c->in.remote_mac, 6);
	cp_commit(&w->flags, CP_TW_USED | (c->in.flags & TOE_INSTALL_TS ? CP_TW_TS : 0) |
				     (c->flags & CP_CONN_ACTIVE ? CP_TW_PORT : 0));
	cp_tw_adopt(cp, i);
	CP_COUNT(cp, time_waits);
}

static void tw_ack(struct cp *cp, const struct cp_tw *w)
{
	struct cp_build b = cp_build_for(cp, &w->t, w->remote_mac);

	b.seq = w->snd_nxt;
	b.ack = w->rcv_nxt;
	b.flags = CP_TCP_ACK;
	b.wnd = w->wnd;
	b.opts = w->flags & CP_TW_TS ? CP_OPT_TS : 0;
	b.ts_val = cp_ts(cp, w->ts_offset);
	b.ts_ecr = w->ts_recent;
	cp_send_build(cp, &b);
}

/* RFC 6191: timestamps decide where both have them, else sequence numbers. */
static bool newer_syn(const struct cp_tw *w, const struct cp_seg *s)
{
	bool seq_newer = seq_gt(s->seq, w->rcv_nxt);

	if (!(w->flags & CP_TW_TS) || !(s->opts & CP_OPT_TS))
		return seq_newer;
	if (s->ts_val == w->ts_recent)
		return seq_newer;
	return seq_gt(s->ts_val, w->ts_recent);
}

bool cp_tw_give_way(struct cp *cp, uint32_t i, uint32_t *iss_min)
{
	const struct cp_tw *w = &cp->tw[i];
	uint64_t left_ms = w->expire_ms > cp->now_ms ? w->expire_ms - cp->now_ms : 0;

	if (!(w->flags & CP_TW_TS) || left_ms + TW_REOPEN_MS > cp->cfg->time_wait_ms)
		return false;
	*iss_min = w->snd_nxt;
	tw_free(cp, i);
	CP_COUNT(cp, time_wait_reused);
	return true;
}

void cp_tw_input(struct cp *cp, uint32_t i, const struct cp_seg *s)
{
	struct cp_tw *w = &cp->tw[i];
	uint32_t iss_min;
	bool old_ts;

	if (s->flags & CP_TCP_RST) {
		CP_COUNT(cp, rst_ignored);
		return;
	}
	if ((s->flags & (CP_TCP_SYN | CP_TCP_ACK | CP_TCP_FIN)) == CP_TCP_SYN && newer_syn(w, s)) {
		struct cp_half l;

		iss_min = w->snd_nxt;
		tw_free(cp, i);
		CP_COUNT(cp, time_wait_reused);
		/* The kernel does not know iss_min.  What is left to tell segments of ours from its
		 * are the sequence numbers the peer expects. */
		if (cp_listener_find(cp, &s->t, &l))
			cp_listen_input(cp, s, iss_min);
		else
			cp_to_kernel(cp, s->frame, s->frame_len);
		return;
	}
	old_ts = (w->flags & CP_TW_TS) && (s->opts & CP_OPT_TS) && seq_lt(s->ts_val, w->ts_recent);
	if ((s->flags & CP_TCP_FIN) && !old_ts) {
		tw_ack(cp, w);
		w->expire_ms = cp->now_ms + cp->cfg->time_wait_ms;
		cp_list_del(&cp->tw_list, i);
		cp_list_add(&cp->tw_list, i);
		return;
	}
	if (!s->seg_len && s->seq == w->rcv_nxt && !old_ts) {
		CP_COUNT(cp, time_wait_acks);
		return;
	}
	/* out of window: an ACK, but not one for each (two TIME-WAITs would talk for ever) */
	if (cp->tw_ack_ms[i] && cp->now_ms - cp->tw_ack_ms[i] < CP_CHALLENGE_MS) {
		CP_COUNT(cp, acks_limited);
		return;
	}
	cp->tw_ack_ms[i] = cp->now_ms;
	tw_ack(cp, w);
}

void cp_tw_slow(struct cp *cp)
{
	while (cp->tw_list.head != TOE_NONE && cp->tw[cp->tw_list.head].expire_ms <= cp->now_ms)
		tw_free(cp, cp->tw_list.head);
}
