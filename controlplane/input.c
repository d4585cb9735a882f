/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Events of the datapath: segments no flow owns are dispatched by tuple, connection events by id
 * and generation.  Both are checked, although the datapath is trusted: an event may be stale, and
 * a segment comes from the network.
 */
#include "cp.h"

#include <errno.h>
#include <string.h>

#include "common/tcp_seq.h"
#include "isn.h"

/* Unicast on both sides, not from ourselves (RFC 1122 §3.2.1.3, RFC 9293 MUST-57). */
static bool addresses_ok(const struct cp *cp, const struct cp_seg *s)
{
	const struct toe_tuple *t = &s->t;

	if (memcmp(s->frame, cp->port_mac, 6) || (s->src_mac[0] & 1))
		return false;
	if (toe_addr_martian(t->family, t->local_addr) ||
	    toe_addr_martian(t->family, t->remote_addr))
		return false;
	return memcmp(t->local_addr, t->remote_addr, sizeof(t->local_addr)) != 0 && t->local_port &&
	       t->remote_port;
}

/* A new connection may only be made to one of our addresses. */
static bool for_us(struct cp *cp, const struct toe_tuple *t)
{
	struct cp_addr dst = cp_local(t);
	struct cp_route r;

	if (cp_addr_ours(cp, &dst))
		return true;
	return !cp->io.route(cp->io.ctx, &dst, &r) && r.local;
}

void cp_send_rst(struct cp *cp, const struct cp_seg *s)
{
	uint8_t frame[CP_FRAME_MAX];
	uint32_t len = cp_frame_rst(frame, s, cp->port_mac,
				    cp_flow_label(cp->st->key[CP_KEY_LABEL], &s->t));

	if (!len) { /* none for a RST */
		CP_COUNT(cp, rst_ignored);
		return;
	}
	cp_cmd_frame(cp, TOE_CMD_FRAME_TX, frame, len);
	CP_COUNT(cp, rst_sent);
}

void cp_reinject(struct cp *cp, uint32_t id, const struct cp_seg *s)
{
	struct cp_rt *rt = &cp->rt[id];

	/* Bounded: a datapath that lost the flow would send the segment back for ever. */
	if (!rt->reinject_left) {
		CP_COUNT(cp, reinject_spent);
		return;
	}
	rt->reinject_left--;
	cp_cmd_frame(cp, TOE_CMD_FRAME_RX, s->frame, s->frame_len);
	CP_COUNT(cp, reinjected);
}

void cp_to_kernel(struct cp *cp, const uint8_t *frame, uint32_t len)
{
	cp_cmd_frame(cp, TOE_CMD_FRAME_TAP, frame, len);
	CP_COUNT(cp, to_kernel);
}

/* A connection owns its 4-tuple, a listener its port.  All else is the kernel's, even on a port
 * that has connections of ours left: a program of the kernel's may have it now, or else answers
 * RST. */
static void unknown_input(struct cp *cp, const struct cp_seg *s)
{
	struct cp_half l;

	if (!cp_listener_find(cp, &s->t, &l))
		cp_to_kernel(cp, s->frame, s->frame_len);
	else if (for_us(cp, &s->t))
		cp_listen_input(cp, s, 0);
	else
		CP_COUNT(cp, frames_not_ours);
}

static void conn_input(struct cp *cp, uint32_t id, const struct cp_seg *s)
{
	switch (cp->conns[id].state) {
	case CP_SYN_SENT:
		cp_active_input(cp, id, s);
		break;
	case CP_INSTALLING:
	case CP_ESTABLISHED:
	case CP_CLOSING:
		/* passed the datapath's lookup before INSTALL did */
		cp_reinject(cp, id, s);
		break;
	default: /* REMOVING: the peer will send it again if it matters */
		CP_COUNT(cp, frames_removing);
		break;
	}
}

void cp_input(struct cp *cp, const uint8_t *frame, uint32_t len)
{
	struct cp_node n;
	struct cp_seg s;

	if (cp_frame_parse(frame, len, &s)) {
		CP_COUNT(cp, frames_bad);
		return;
	}
	if (!addresses_ok(cp, &s)) {
		CP_COUNT(cp, frames_martian);
		return;
	}
	n = cp_lookup(cp, &s.t);
	switch (n.kind) {
	case CP_NODE_CONN:
		conn_input(cp, n.index, &s);
		break;
	case CP_NODE_TW:
		cp_tw_input(cp, n.index, &s);
		break;
	case CP_NODE_HALF:
		cp_half_input(cp, n.index, &s);
		break;
	default:
		unknown_input(cp, &s);
	}
}

/* Next smaller MTU in use, for routers that do not say theirs (RFC 1191 §7.1). */
static uint16_t plateau(uint32_t len)
{
	static const uint16_t table[] = {32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296};

	for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (table[i] < len)
			return table[i];
	return 68;
}

/*
 * Fragmentation needed (RFC 1191), Packet Too Big (RFC 8201).  Anybody can send one: it must quote
 * a segment that is in flight (RFC 5927 §4.1) and larger than the MTU it claims, and there is a
 * floor; less than what every IPv6 link has is a lie (RFC 8201 §4).  The next ten minutes the path
 * is believed to be like this (keepalive.c).
 */
static void too_big(struct cp *cp, uint32_t id, const struct cp_icmp *m)
{
	const struct cp_conn *c = &cp->conns[id];
	const struct toe_flow_prog *p = &cp->prog[id];
	uint32_t una = __atomic_load_n(&p->snd_una, __ATOMIC_RELAXED);
	uint32_t nxt = __atomic_load_n(&p->snd_nxt, __ATOMIC_RELAXED);
	uint32_t family = c->t.family;
	uint32_t mtu = m->mtu || family == AF_INET6 ? m->mtu : plateau(m->len);
	uint32_t mss;

	if (p->gen != c->gen || seq_lt(m->seq, una) || seq_geq(m->seq, nxt) || mtu >= m->len ||
	    (family == AF_INET6 && mtu < TOE_IP6_MTU)) {
		CP_COUNT(cp, icmp_ignored);
		return;
	}
	mtu = mtu > cp->cfg->pmtu_min ? mtu : cp->cfg->pmtu_min;
	mss = cp_mtu_mss(family, mtu, c->in.flags & TOE_INSTALL_TS);
	if (mss >= c->in.mss)
		return;
	cp->rt[id].pmtu_ms = cp->now_ms;
	cp_mss_set(cp, id, (uint16_t)mss);
	CP_COUNT(cp, pmtu_lowered);
}

static void icmp_input(struct cp *cp, const uint8_t *frame, uint32_t len)
{
	struct cp_icmp m;
	struct cp_node n;

	if (cp_icmp_parse(frame, len, &m)) {
		CP_COUNT(cp, icmp_bad);
		return;
	}
	n = cp_lookup(cp, &m.t);
	if (n.kind == CP_NODE_NONE) {
		cp_to_kernel(cp, frame, len);
		return;
	}
	if (n.kind != CP_NODE_CONN) {
		CP_COUNT(cp, icmp_no_conn);
		return;
	}
	CP_COUNT(cp, icmp_errors);
	/* Of an established connection all others are no more than hints (RFC 5927): its timers
	 * decide. */
	if (cp->conns[n.index].state == CP_SYN_SENT)
		cp_active_icmp(cp, n.index, &m);
	else if (m.kind == CP_ICMP_TOO_BIG && cp->conns[n.index].state != CP_REMOVING)
		too_big(cp, n.index, &m);
}

static void accept_full(struct cp *cp, uint32_t id)
{
	struct cp_conn *c = &cp->conns[id];

	if (c->state == CP_REMOVING || c->state == CP_SYN_SENT)
		return;
	CP_COUNT(cp, accept_full);
	cp_unaccepted(cp, c->app, c->in.slot);
}

static void conn_event(struct cp *cp, const struct toe_cpq_entry *e, const struct toe_ev_conn *ev)
{
	if (e->conn >= cp->st->conn_n || cp->conns[e->conn].gen != e->gen ||
	    cp->conns[e->conn].state == CP_FREE)
		return;
	if (e->type != TOE_EV_ACTIVE)
		cp->rt[e->conn].reconcile = CP_KNOWN;
	switch (e->type) {
	case TOE_EV_INSTALLED:
		cp_installed(cp, e->conn);
		break;
	case TOE_EV_REMOVED:
		cp_removed(cp, e->conn);
		break;
	case TOE_EV_RESET:
		cp_reset(cp, e->conn);
		break;
	case TOE_EV_CLOSED:
		cp_closed(cp, e->conn, ev);
		break;
	case TOE_EV_ACTIVE:
		cp_active(cp, e->conn);
		break;
	case TOE_EV_ACCEPT_FULL:
		accept_full(cp, e->conn);
		break;
	default:
		break;
	}
}

void cp_event(struct cp *cp, struct toe_cpq_entry *e)
{
	const uint8_t *data = (const uint8_t *)(e + 1);
	struct toe_ev_conn ev = {0};

	if (e->type == TOE_EV_FRAME) {
		cp_input(cp, data, e->len);
		return;
	}
	if (e->type == TOE_EV_ICMP) {
		icmp_input(cp, data, e->len);
		return;
	}
	if (e->len >= sizeof(ev))
		memcpy(&ev, data, sizeof(ev));
	if (e->type == TOE_EV_DUMP)
		cp_dump_entry(cp, e, &ev);
	else
		conn_event(cp, e, &ev);
}
