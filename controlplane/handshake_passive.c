/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Passive open: SYN -> half-open entry and SYN-ACK -> final ACK -> connection (RFC 9293 §3.10.7.2
 * and .4 for SYN-RECEIVED).  Half-open entries are bounded by cfg.syn_backlog; beyond that SYN
 * cookies are sent.  Owns the half-open table; input comes from input.c, time from timers.c.
 */
#include "cp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "common/tcp_seq.h"
#include "isn.h"

#define SYNACK_TRIES_MAX 6u /* the first one and 5 retransmissions: 1, 2, 4, 8, 16 s */
#define SYNACK_RTO_MS    1000u
#define NEIGH_RETRY_MS   100u
#define COOKIE_WINDOW_MS 256000u /* cookies are looked for this long after the last one */

/* Everything a segment from h has in common. */
static struct cp_build half_build(const struct cp *cp, const struct cp_half *h, uint8_t flags)
{
	struct cp_build b = cp_build_for(cp, &h->t, h->remote_mac);

	b.seq = flags & CP_TCP_SYN ? h->iss : h->iss + 1;
	b.ack = h->irs + 1;
	b.flags = flags;
	b.ctl = cp_listener_rec(cp, h->app, h->listener)->defaults;
	b.wnd = cp_syn_window(cp, h->app);
	b.opts = h->flags & TOE_INSTALL_TS ? CP_OPT_TS : 0;
	b.ts_val = cp_ts(cp, h->ts_offset);
	b.ts_ecr = h->ts_recent;
	return b;
}

static struct cp_build synack_build(const struct cp *cp, const struct cp_half *h)
{
	uint8_t ece = h->flags & TOE_INSTALL_ECN ? CP_TCP_ECE : 0;
	struct cp_build b = half_build(cp, h, CP_TCP_SYN | CP_TCP_ACK | ece);

	b.mss = cp_local_mss(cp, h->t.family);
	b.opts |= CP_OPT_MSS;
	if (h->flags & TOE_INSTALL_SACK)
		b.opts |= CP_OPT_SACK;
	if (h->has_ws) {
		b.opts |= CP_OPT_WS;
		b.wscale = cp_wscale(cp->apps[h->app].rx_buf_bytes);
	}
	return b;
}

static void send_synack(struct cp *cp, const struct cp_half *h)
{
	struct cp_build b = synack_build(cp, h);

	cp_send_build(cp, &b);
	CP_COUNT(cp, synack_sent);
}

/* For an unacceptable segment, or as a challenge (RFC 5961 §3.2): limited per connection, or a
 * peer's address could be flooded through us.  The window field of an ACK is scaled. */
static void send_half_ack(struct cp *cp, struct cp_half *h)
{
	struct cp_build b = half_build(cp, h, CP_TCP_ACK);

	if (!h->have_mac) {
		CP_COUNT(cp, half_no_hop);
		return;
	}
	if (h->ack_ms && cp->now_ms - h->ack_ms < CP_CHALLENGE_MS) {
		CP_COUNT(cp, acks_limited);
		return;
	}
	h->ack_ms = cp->now_ms ? cp->now_ms : 1;
	if (h->has_ws)
		b.wnd = (uint16_t)(cp->apps[h->app].rx_buf_bytes >>
				   cp_wscale(cp->apps[h->app].rx_buf_bytes));
	cp_send_build(cp, &b);
}

/* Where SYN-ACKs for h go: the kernel's neighbour if it is known; the SYN's own source if the peer
 * is on-link, or not routed through the port at all; else wait. */
static void half_next_hop(struct cp *cp, struct cp_half *h, const uint8_t *src_mac)
{
	struct cp_addr peer = cp_remote(&h->t);
	struct cp_addr hop = {0};
	uint8_t mac[6];
	int err = cp_next_hop(cp, &peer, &hop, mac);

	h->next_hop =
		err == 0 || err == -EAGAIN || err == -EHOSTUNREACH ? hop : (struct cp_addr){0};
	h->have_mac = 1;
	if (!err) {
		memcpy(h->remote_mac, mac, 6);
	} else {
		memcpy(h->remote_mac, src_mac, 6);
		if (h->next_hop.family && !cp_addr_same(&h->next_hop, &peer))
			h->have_mac = 0;
	}
}

/* Fills in h from a SYN; the listener is already there. */
static void half_from_syn(struct cp *cp, struct cp_half *h, const struct cp_seg *s,
			  uint32_t iss_min)
{
	bool ecn = cp->cfg->ecn && (s->flags & CP_TCP_ECE) && (s->flags & CP_TCP_CWR);

	h->t = s->t;
	h->irs = s->seq;
	h->iss = cp_isn(cp->st->key[CP_KEY_ISN], &h->t, cp->now_us);
	h->iss = cp_iss_above(h->iss, iss_min);
	h->ts_offset = cp_ts_offset(cp->st->key[CP_KEY_TS], &h->t);
	h->ts_recent = s->ts_val;
	h->peer_mss = s->opts & CP_OPT_MSS ? s->mss : 0;
	h->has_ws = !!(s->opts & CP_OPT_WS);
	h->snd_wscale = s->wscale;
	h->flags = (s->opts & CP_OPT_TS ? TOE_INSTALL_TS : 0) |
		   (s->opts & CP_OPT_SACK ? TOE_INSTALL_SACK : 0) | (ecn ? TOE_INSTALL_ECN : 0);
	half_next_hop(cp, h, s->src_mac);
}

static void send_cookie(struct cp *cp, struct cp_half *h)
{
	struct cp_cookie_opts o = {
		.wscale = h->snd_wscale,
		.has_ws = h->has_ws,
		.sack = h->flags & TOE_INSTALL_SACK,
		.ecn = h->flags & TOE_INSTALL_ECN,
	};
	struct cp_build b;

	if (!(h->flags & TOE_INSTALL_TS)) {
		/* nowhere to keep them */
		h->has_ws = 0;
		h->flags = 0;
	}
	h->iss =
		cp_cookie_make(cp->st->key[CP_KEY_COOKIE], &h->t, h->irs,
			       h->peer_mss ? h->peer_mss : cp_default_mss(h->t.family), cp->now_ms);
	b = synack_build(cp, h);
	b.ts_val = cp_cookie_ts(b.ts_val, &o);
	cp_send_build(cp, &b);
	cp->cookie_ms = cp->now_ms ? cp->now_ms : 1;
	CP_COUNT(cp, cookies_sent);
	CP_COUNT(cp, synack_sent);
}

static void listen_syn(struct cp *cp, const struct cp_seg *s, uint32_t iss_min)
{
	struct cp_half h;
	uint32_t i;

	memset(&h, 0, sizeof(h));
	if (!cp_listener_find(cp, &s->t, &h)) {
		cp_send_rst(cp, s);
		return;
	}
	CP_COUNT(cp, syn_received);
	if (cp_listener_full(cp, h.app, h.listener)) {
		CP_COUNT(cp, syn_dropped);
		return;
	}
	half_from_syn(cp, &h, s, iss_min);
	if (!cp->free_half_n) {
		if (h.have_mac)
			send_cookie(cp, &h);
		else
			CP_COUNT(cp, syn_dropped);
		return;
	}
	i = cp->free_half[--cp->free_half_n];
	cp->half[i] = h;
	cp_list_add(&cp->half_list, i);
	cp_node_add(cp, CP_NODE_HALF, i);
	cp->half[i].due_ms = cp->now_ms + NEIGH_RETRY_MS;
	if (h.have_mac) {
		cp->half[i].tries = 1;
		cp->half[i].sent_us = cp->now_us;
		cp->half[i].due_ms = cp->now_ms + SYNACK_RTO_MS;
		send_synack(cp, &cp->half[i]);
	}
}

void cp_half_free(struct cp *cp, uint32_t i)
{
	cp_node_del(cp, CP_NODE_HALF, i);
	cp_list_del(&cp->half_list, i);
	cp->free_half[cp->free_half_n++] = i;
}

/* The handshake is complete: connection, INSTALL, and the segment itself if it carries something.
 * False: no room, the segment is dropped and the peer will send it again (as Linux does). */
static bool establish(struct cp *cp, const struct cp_half *h, const struct cp_seg *s)
{
	struct cp_conn *c;
	uint32_t slot;
	uint32_t id;

	if (cp_listener_full(cp, h->app, h->listener) || !cp->app_rt[h->app].free_n)
		goto full;
	id = cp_conn_alloc(cp, h->app, &h->t);
	if (id == TOE_NONE)
		goto full;
	slot = cp_slot_take(cp, h->app, id);
	c = &cp->conns[id];
	c->app = h->app;
	c->next_hop = h->next_hop;
	c->peer_mss = h->peer_mss;
	c->listener_gen = h->listener_gen;
	c->in.slot = slot;
	c->in.slot_gen = cp_slot_rec(cp, h->app, slot)->gen;
	c->in.listener = h->listener;
	memcpy(c->in.remote_mac, h->remote_mac, 6);
	c->in.iss = h->iss;
	c->in.irs = h->irs;
	c->in.flags = h->flags;
	c->in.ts_offset = h->ts_offset;
	c->in.ts_recent = h->flags & TOE_INSTALL_TS ? s->ts_val : 0;
	c->in.snd_wscale = h->has_ws ? h->snd_wscale : 0;
	c->in.rcv_wscale = h->has_ws ? cp_wscale(cp->apps[h->app].rx_buf_bytes) : 0;
	c->in.snd_wnd = (uint32_t)s->wnd << c->in.snd_wscale;
	c->in.ctl = cp_listener_rec(cp, h->app, h->listener)->defaults;
	if (h->tries == 1) {
		c->in.srtt_us = (uint32_t)(cp->now_us - h->sent_us) | 1;
	} else if (h->tries > 1) {
		c->flags |= CP_CONN_SYN_LOST;
	}
	c->in.mss = cp_send_mss(cp, h->t.family, h->peer_mss, h->flags & TOE_INSTALL_TS);
	cp->app_rt[h->app].conn_n++;
	cp_listener_rt(cp, h->app, h->listener)->installing++;
	cp_slot_prepare(cp, c);
	cp_install(cp, id);
	CP_COUNT(cp, passive_opens);
	if (s->payload_len || (s->flags & CP_TCP_FIN))
		cp_reinject(cp, id, s);
	return true;
full:
	CP_COUNT(cp, accept_dropped);
	return false;
}

/* RFC 9293 §3.10.7.4 first step and RFC 7323 §5.3 for a half-open connection. */
static bool half_seq_ok(const struct cp *cp, const struct cp_half *h, const struct cp_seg *s)
{
	uint32_t wnd = cp_syn_window(cp, h->app); /* what the SYN-ACK offered, not the buffer */

	if ((h->flags & TOE_INSTALL_TS) && !(s->flags & CP_TCP_RST)) {
		if (!(s->opts & CP_OPT_TS) || seq_lt(s->ts_val, h->ts_recent))
			return false;
	}
	return seq_geq(s->seq, h->irs + 1) && seq_lt(s->seq, h->irs + 1 + wnd);
}

static void half_rst(struct cp *cp, uint32_t i, const struct cp_seg *s, bool in_window)
{
	struct cp_half *h = &cp->half[i];

	if (s->seq == h->irs + 1) {
		CP_COUNT(cp, half_reset);
		cp_half_free(cp, i);
	} else if (in_window) {
		send_half_ack(cp, h); /* challenge, RFC 5961 §3.2 */
	} else {
		CP_COUNT(cp, rst_ignored);
	}
}

void cp_half_input(struct cp *cp, uint32_t i, const struct cp_seg *s)
{
	struct cp_half *h = &cp->half[i];
	bool in_window = half_seq_ok(cp, h, s);

	if ((s->flags & (CP_TCP_SYN | CP_TCP_ACK | CP_TCP_RST)) == CP_TCP_SYN && s->seq == h->irs) {
		if (h->have_mac)
			send_synack(cp, h); /* the peer has not seen ours */
		else
			CP_COUNT(cp, half_no_hop);
		h->sent_us = 0;
		h->tries = h->tries < 2 ? 2 : h->tries;
		return;
	}
	if (s->flags & CP_TCP_RST) {
		half_rst(cp, i, s, in_window);
		return;
	}
	if (!in_window || (s->flags & CP_TCP_SYN)) {
		send_half_ack(cp, h);
		return;
	}
	if (!(s->flags & CP_TCP_ACK)) {
		CP_COUNT(cp, segs_no_ack);
		return;
	}
	if (s->ack != h->iss + 1) {
		cp_send_rst(cp, s);
		return;
	}
	if (establish(cp, h, s))
		cp_half_free(cp, i);
}

/* An ACK nobody expects: the third segment of a handshake that began with a cookie? */
static bool listen_cookie(struct cp *cp, const struct cp_seg *s)
{
	struct cp_half h;
	uint16_t mss;

	memset(&h, 0, sizeof(h));
	if (!cp->cookie_ms || cp->now_ms - cp->cookie_ms > COOKIE_WINDOW_MS)
		return false;
	if (!cp_listener_find(cp, &s->t, &h))
		return false;
	h.t = s->t;
	h.irs = s->seq - 1;
	h.iss = s->ack - 1;
	mss = cp_cookie_check(cp->st->key[CP_KEY_COOKIE], &h.t, h.irs, h.iss, cp->now_ms);
	if (!mss) {
		CP_COUNT(cp, cookies_invalid);
		return false;
	}
	h.peer_mss = mss;
	h.ts_offset = cp_ts_offset(cp->st->key[CP_KEY_TS], &h.t);
	if (s->opts & CP_OPT_TS) {
		struct cp_cookie_opts o = cp_cookie_ts_opts(s->ts_ecr);

		h.has_ws = o.has_ws;
		h.snd_wscale = o.wscale;
		h.flags = TOE_INSTALL_TS | (o.sack ? TOE_INSTALL_SACK : 0) |
			  (o.ecn ? TOE_INSTALL_ECN : 0);
	}
	half_next_hop(cp, &h, s->src_mac);
	if (establish(cp, &h, s))
		CP_COUNT(cp, cookies_valid);
	return true;
}

void cp_listen_input(struct cp *cp, const struct cp_seg *s, uint32_t iss_min)
{
	if (s->flags & CP_TCP_RST) {
		CP_COUNT(cp, rst_ignored);
		return;
	}
	if (s->flags & CP_TCP_ACK) {
		if ((s->flags & CP_TCP_SYN) || !listen_cookie(cp, s))
			cp_send_rst(cp, s);
		return;
	}
	if ((s->flags & (CP_TCP_SYN | CP_TCP_FIN)) == CP_TCP_SYN)
		listen_syn(cp, s, iss_min);
	else
		CP_COUNT(cp, listen_ignored);
}

void cp_half_house(struct cp *cp)
{
	uint32_t next;

	for (uint32_t i = cp->half_list.head; i != TOE_NONE; i = next) {
		struct cp_half *h = &cp->half[i];

		next = cp->half_list.link[i].next;
		if (cp->now_ms < h->due_ms)
			continue;
		if (h->tries >= SYNACK_TRIES_MAX) {
			cp_half_free(cp, i);
			continue;
		}
		if (!h->have_mac)
			half_next_hop(cp, h, h->remote_mac);
		h->due_ms = cp->now_ms + ((uint64_t)SYNACK_RTO_MS << h->tries);
		h->tries++;
		if (!h->have_mac)
			continue;
		if (!h->sent_us && h->tries == 1)
			h->sent_us = cp->now_us;
		send_synack(cp, h);
	}
}

void cp_half_drop_listener(struct cp *cp, uint32_t app, uint32_t listener)
{
	uint32_t next;

	for (uint32_t i = cp->half_list.head; i != TOE_NONE; i = next) {
		next = cp->half_list.link[i].next;
		if (cp->half[i].app == app && cp->half[i].listener == listener)
			cp_half_free(cp, i);
	}
}

void cp_half_neigh(struct cp *cp, const struct cp_addr *ip, const uint8_t mac[6])
{
	for (uint32_t i = cp->half_list.head; i != TOE_NONE; i = cp->half_list.link[i].next) {
		struct cp_half *h = &cp->half[i];

		if (!cp_addr_same(&h->next_hop, ip))
			continue;
		memcpy(h->remote_mac, mac, 6);
		if (h->have_mac)
			continue;
		h->have_mac = 1;
		h->tries = h->tries ? h->tries : 1;
		h->sent_us = cp->now_us;
		h->due_ms = cp->now_ms + SYNACK_RTO_MS;
		send_synack(cp, h);
	}
}
