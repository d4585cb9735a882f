/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Active open: CONNECT -> SYN -> SYN-ACK -> ACK and INSTALL (RFC 9293, 3.10.7.3), simultaneous open
 * included.  The connection has its id, slot and port from the start; the datapath hears of it
 * only at INSTALL, or of its failure by SLOT_ERROR.
 */
#include "cp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "common/tcp_seq.h"
#include "isn.h"

#define SYN_TRIES_MAX 7u /* the first one and 6 retransmissions: 127 s, as Linux */
#define SYN_ECN_TRIES 2u /* then without ECN, for paths that drop it (RFC 3168 §6.1.1.1) */
#define SYN_RTO_MS    1000u

static struct cp_build conn_build(const struct cp *cp, const struct cp_conn *c, uint8_t flags)
{
	struct cp_build b = cp_build_for(cp, &c->t, c->in.remote_mac);

	b.seq = flags & CP_TCP_SYN ? c->in.iss : c->in.iss + 1;
	b.ack = flags & CP_TCP_ACK ? c->in.irs + 1 : 0;
	b.flags = flags;
	b.ctl = c->in.ctl;
	b.wnd = cp_syn_window(cp, c->app);
	b.opts = c->in.flags & TOE_INSTALL_TS ? CP_OPT_TS : 0;
	b.ts_val = cp_ts(cp, c->in.ts_offset);
	b.ts_ecr = flags & CP_TCP_ACK ? c->in.ts_recent : 0;
	return b;
}

/* SYN, or SYN-ACK after a simultaneous open, or nothing while the next hop is unknown. */
static void send_syn(struct cp *cp, uint32_t id)
{
	struct cp_conn *c = &cp->conns[id];
	struct cp_rt *rt = &cp->rt[id];
	uint8_t flags = CP_TCP_SYN;
	struct cp_build b;

	rt->due_ms = cp->now_ms + ((uint64_t)SYN_RTO_MS << rt->tries);
	if (rt->need_mac)
		return;
	if (c->flags & CP_CONN_SYN_RCVD)
		flags |= CP_TCP_ACK;
	else if ((c->in.flags & TOE_INSTALL_ECN) && rt->tries < SYN_ECN_TRIES)
		flags |= CP_TCP_ECE | CP_TCP_CWR;
	b = conn_build(cp, c, flags);
	b.mss = cp_local_mss(cp, c->t.family);
	b.opts |= CP_OPT_MSS;
	if (c->in.flags & TOE_INSTALL_SACK)
		b.opts |= CP_OPT_SACK;
	if (!(c->flags & CP_CONN_SYN_RCVD) || c->in.rcv_wscale) {
		b.opts |= CP_OPT_WS;
		b.wscale = cp_wscale(cp->apps[c->app].rx_buf_bytes);
	}
	cp_send_build(cp, &b);
	rt->syn_us = rt->tries ? 0 : cp->now_us;
}

/* Connection entry, slot and port of a CONNECT whose route and port are settled. */
static uint32_t make_conn(struct cp *cp, uint32_t app, const struct toe_tuple *t, uint32_t token)
{
	struct cp_conn *c;
	uint32_t slot;
	uint32_t id;

	if (!cp->app_rt[app].free_n)
		return TOE_NONE;
	id = cp_conn_alloc(cp, app, t);
	if (id == TOE_NONE)
		return TOE_NONE;
	slot = cp_slot_take(cp, app, id);
	cp_slot_rec(cp, app, slot)->token = token;
	c = &cp->conns[id];
	c->app = app;
	c->flags = CP_CONN_ACTIVE;
	c->in.slot = slot;
	c->in.slot_gen = cp_slot_rec(cp, app, slot)->gen;
	c->in.listener = TOE_NONE;
	c->in.iss = cp_isn(cp->st->key[CP_KEY_ISN], t, cp->now_us);
	c->in.ts_offset = cp_ts_offset(cp->st->key[CP_KEY_TS], t);
	c->in.flags = TOE_INSTALL_TS | TOE_INSTALL_SACK | (cp->cfg->ecn ? TOE_INSTALL_ECN : 0);
	c->in.mss = cp_send_mss(cp, t->family, cp_local_mss(cp, t->family), true);
	cp->app_rt[app].conn_n++;
	return id;
}

/* The port is free in the kernel, but that knows nothing of our TIME-WAITs once their slot is in
 * use again or their program is gone. */
static bool tuple_free(struct cp *cp, const struct toe_tuple *t, uint32_t *iss_min)
{
	struct cp_node n = cp_lookup(cp, t);

	return n.kind == CP_NODE_NONE ||
	       (n.kind == CP_NODE_TW && cp_tw_give_way(cp, n.index, iss_min));
}

int cp_connect(struct cp *cp, uint32_t app, struct toe_ctl_conn *m, int fd)
{
	struct cp_addr dst = cp_addr_make(m->family, m->remote_addr);
	struct toe_cmd_slot clear = {.app_id = cp->apps[app].app_id};
	struct toe_tuple t;
	struct cp_addr src;
	struct cp_addr hop = {0};
	uint32_t iss_min = 0;
	uint8_t mac[6] = {0};
	uint16_t port = 0;
	uint32_t id;
	int hop_err;
	int err;

	hop_err = m->remote_port && cp->engine_up && cp_addr_source(cp, &dst, &src)
			  ? cp_next_hop(cp, &dst, &hop, mac)
			  : -EXDEV;
	if (hop_err && hop_err != -EAGAIN && hop_err != -EHOSTUNREACH)
		goto kernel;
	err = cp->io.bind(cp->io.ctx, fd, &src, &port);
	if (err == -EXDEV)
		goto kernel;
	if (err)
		return err;
	t = cp_tuple(&src, port, &dst, m->remote_port);
	if (m->token < cp->apps[app].token_n)
		cp_token_renew(cp, app, m->token);
	if (!tuple_free(cp, &t, &iss_min))
		return -EADDRNOTAVAIL;
	id = make_conn(cp, app, &t, m->token);
	if (id == TOE_NONE)
		goto kernel;
	cp->conns[id].in.iss = cp_iss_above(cp->conns[id].in.iss, iss_min);
	cp->conns[id].next_hop = hop;
	memcpy(cp->conns[id].in.remote_mac, mac, 6);
	cp->conns[id].in.ctl = m->ctl;
	cp_slot_prepare(cp, &cp->conns[id]);
	cp_conn_enter(cp, id, CP_SYN_SENT);
	clear.slot = m->slot = cp->conns[id].in.slot;
	clear.gen = m->gen = cp->conns[id].in.slot_gen;
	cp_cmd(cp, TOE_CMD_SLOT_CLEAR, TOE_NONE, &clear, sizeof(clear));
	m->app_id = cp->apps[app].app_id;
	m->local_port = port;
	memcpy(m->local_addr, t.local_addr, sizeof(m->local_addr));
	cp->rt[id].need_mac = hop_err != 0;
	send_syn(cp, id);
	CP_COUNT(cp, active_opens);
	return 0;
kernel:
	CP_COUNT(cp, connect_kernel);
	return -EXDEV;
}

void cp_active_fail(struct cp *cp, uint32_t id, uint32_t error)
{
	struct cp_conn *c = &cp->conns[id];
	struct cp_slot *slot = cp_slot_rec(cp, c->app, c->in.slot);

	slot->error = (uint16_t)error;
	CP_COUNT(cp, connect_failed);
	cp_slot_error(cp, c->app, c->in.slot, error);
	cp_port_release(cp, cp->apps[c->app].app_id, c->in.slot, c->in.slot_gen);
	cp_conn_free(cp, id);
}

/* What the peer's SYN (with or without ACK) settles. */
static void take_syn(struct cp *cp, uint32_t id, const struct cp_seg *s)
{
	struct cp_conn *c = &cp->conns[id];
	uint8_t flags = 0;

	c->in.irs = s->seq;
	c->peer_mss = s->opts & CP_OPT_MSS ? s->mss : 0;
	if (s->opts & CP_OPT_TS) {
		flags |= TOE_INSTALL_TS;
		c->in.ts_recent = s->ts_val;
	}
	if (s->opts & CP_OPT_SACK)
		flags |= TOE_INSTALL_SACK;
	/* RFC 3168 §6.1.1: ECE alone on the SYN-ACK, and only if our SYN offered it */
	if ((s->flags & CP_TCP_ACK) && (s->flags & CP_TCP_ECE) && !(s->flags & CP_TCP_CWR) &&
	    cp->rt[id].tries < SYN_ECN_TRIES)
		flags |= TOE_INSTALL_ECN;
	c->in.flags &= flags;
	c->in.snd_wscale = s->opts & CP_OPT_WS ? s->wscale : 0;
	c->in.rcv_wscale = s->opts & CP_OPT_WS ? cp_wscale(cp->apps[c->app].rx_buf_bytes) : 0;
}

/* ACK to the peer, INSTALL to the datapath. */
static void establish(struct cp *cp, uint32_t id, const struct cp_seg *s)
{
	struct cp_conn *c = &cp->conns[id];
	struct toe_slot *m = cp_slot_mem(cp, c->app, c->in.slot);
	bool syn = s->flags & CP_TCP_SYN;

	/* the window of a SYN is never scaled (RFC 7323 §2.2) */
	c->in.snd_wnd = syn ? s->wnd : (uint32_t)s->wnd << c->in.snd_wscale;
	if (s->opts & CP_OPT_TS)
		c->in.ts_recent = s->ts_val;
	if (cp->rt[id].syn_us) {
		c->in.srtt_us = (uint32_t)(cp->now_us - cp->rt[id].syn_us) | 1;
	}
	if (syn) {
		struct cp_build b = conn_build(cp, c, CP_TCP_ACK);

		b.wnd = (uint16_t)((c->in.rcv_wscale ? cp->apps[c->app].rx_buf_bytes : b.wnd) >>
				   c->in.rcv_wscale);
		cp_send_build(cp, &b);
	}
	if (cp->rt[id].tries)
		c->flags |= CP_CONN_SYN_LOST;
	cp->rt[id].tries = 0;
	cp_install(cp, id);
	if (m)
		__atomic_store_n(&m->mss, c->in.mss, __ATOMIC_RELAXED);
	if (!syn && (s->payload_len || (s->flags & CP_TCP_FIN)))
		cp_reinject(cp, id, s);
}

/* For unacceptable segments, limited per connection (RFC 5961 §7). */
static void challenge(struct cp *cp, uint32_t id)
{
	struct cp_build b = conn_build(cp, &cp->conns[id], CP_TCP_ACK);
	struct cp_rt *rt = &cp->rt[id];

	if (rt->ack_ms && cp->now_ms - rt->ack_ms < CP_CHALLENGE_MS) {
		CP_COUNT(cp, acks_limited);
		return;
	}
	rt->ack_ms = cp->now_ms ? cp->now_ms : 1;
	cp_send_build(cp, &b);
}

/* RFC 9293 §3.10.7.4 in SYN-RECEIVED, reached by simultaneous open. */
static void syn_rcvd_input(struct cp *cp, uint32_t id, const struct cp_seg *s)
{
	struct cp_conn *c = &cp->conns[id];
	uint32_t off = s->seq - (c->in.irs + 1);
	bool in_window = off < cp_syn_window(cp, c->app);
	bool first = (s->flags & CP_TCP_SYN) && s->seq == c->in.irs;

	if (s->flags & CP_TCP_RST) {
		if (off == 0)
			cp_active_fail(cp, id, ECONNREFUSED);
		else if (in_window)
			challenge(cp, id); /* RFC 5961 §3.2 */
		else
			CP_COUNT(cp, rst_ignored);
		return;
	}
	if (!first && (!in_window || (s->flags & CP_TCP_SYN))) {
		challenge(cp, id);
		return;
	}
	if (!(s->flags & CP_TCP_ACK)) {
		if (first)
			send_syn(cp, id);
		else
			CP_COUNT(cp, segs_no_ack);
	} else if (s->ack != c->in.iss + 1) {
		cp_send_rst(cp, s);
	} else {
		establish(cp, id, s);
	}
}

void cp_active_input(struct cp *cp, uint32_t id, const struct cp_seg *s)
{
	struct cp_conn *c = &cp->conns[id];
	bool acked = (s->flags & CP_TCP_ACK) && s->ack == c->in.iss + 1;

	if (c->flags & CP_CONN_SYN_RCVD) {
		syn_rcvd_input(cp, id, s);
		return;
	}
	if ((s->flags & CP_TCP_ACK) && !acked) {
		cp_send_rst(cp, s);
		return;
	}
	if (s->flags & CP_TCP_RST) {
		if (acked)
			cp_active_fail(cp, id, ECONNREFUSED);
		else
			CP_COUNT(cp, rst_ignored);
		return;
	}
	if (!(s->flags & CP_TCP_SYN)) {
		CP_COUNT(cp, segs_no_syn);
		return;
	}
	take_syn(cp, id, s);
	if (acked) {
		establish(cp, id, s);
		return;
	}
	c->flags |= CP_CONN_SYN_RCVD;
	cp->rt[id].tries = 0;
	send_syn(cp, id);
	cp->rt[id].syn_us = 0;
}

static uint32_t syn_error(const struct cp *cp, uint32_t id)
{
	if (cp->rt[id].soft_error)
		return cp->rt[id].soft_error;
	return cp->rt[id].need_mac ? EHOSTUNREACH : ETIMEDOUT;
}

/* TCP_USER_TIMEOUT bounds connect() too. */
static bool user_timeout(const struct cp *cp, uint32_t id)
{
	const struct cp_conn *c = &cp->conns[id];
	const struct toe_slot *m = cp_slot_mem(cp, c->app, c->in.slot);
	uint32_t ms = m ? __atomic_load_n(&m->user_timeout_ms, __ATOMIC_RELAXED) : 0;

	return ms && cp->now_ms - c->since_ms >= ms;
}

void cp_active_house(struct cp *cp)
{
	uint32_t next;

	for (uint32_t id = cp->syn_sent.head; id != TOE_NONE; id = next) {
		struct cp_conn *c = &cp->conns[id];
		struct cp_rt *rt = &cp->rt[id];
		struct cp_addr dst = cp_remote(&c->t);
		struct cp_addr hop;

		next = cp->syn_sent.link[id].next;
		if (user_timeout(cp, id)) {
			cp_active_fail(cp, id, ETIMEDOUT);
			continue;
		}
		if (cp->now_ms < rt->due_ms)
			continue;
		if (++rt->tries >= SYN_TRIES_MAX) {
			cp_active_fail(cp, id, syn_error(cp, id));
			continue;
		}
		if (rt->need_mac && !cp_next_hop(cp, &dst, &hop, c->in.remote_mac))
			rt->need_mac = false;
		send_syn(cp, id);
	}
}

void cp_active_icmp(struct cp *cp, uint32_t id, const struct cp_icmp *m)
{
	struct cp_rt *rt = &cp->rt[id];

	if (m->seq != cp->conns[id].in.iss || m->kind == CP_ICMP_TOO_BIG) {
		CP_COUNT(cp, icmp_ignored);
		return;
	}
	if (m->kind == CP_ICMP_REFUSED) {
		cp_active_fail(cp, id, m->error);
		return;
	}
	/* Soft (RFC 1122 §4.2.3.9, RFC 5461): believed when it comes again for a later SYN. */
	rt->soft_error = m->error;
	if (rt->icmp_seen && rt->tries)
		cp_active_fail(cp, id, rt->soft_error);
	else
		rt->icmp_seen = true;
}

void cp_active_neigh(struct cp *cp, const struct cp_addr *ip, const uint8_t *mac)
{
	uint32_t next;

	for (uint32_t id = cp->syn_sent.head; id != TOE_NONE; id = next) {
		struct cp_conn *c = &cp->conns[id];
		struct cp_rt *rt = &cp->rt[id];

		next = cp->syn_sent.link[id].next;
		if (!cp_addr_same(&c->next_hop, ip))
			continue;
		if (mac) {
			memcpy(c->in.remote_mac, mac, 6);
			if (rt->need_mac) {
				rt->need_mac = false;
				send_syn(cp, id);
			}
		} else if (rt->need_mac) {
			cp_active_fail(cp, id, EHOSTUNREACH);
		}
	}
}
