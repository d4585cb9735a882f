/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is looked at once a second: keepalive (RFC 1122 §4.2.3.6), orphans in FIN-WAIT-2 or whose
 * RST does not come, lowered path MTUs, removals whose answer was lost with a former control plane,
 * next hops in use.  The application's wishes
 * are read from line 1 of its slot, which it may change at any time.
 */
#include "cp.h"

#include <errno.h>

#define KEEP_IDLE_S    7200u
#define KEEP_INTVL_S   75u
#define KEEP_CNT       9u
#define KEEP_MAX_S     32767u
#define PMTU_RAISE_MS  600000u
#define FIN_WAIT2_MS   60000u
#define RESETTING_MS   1000u
#define REFRESH_MS     15000u
#define LATE_REMOVE_MS 2000u

static uint64_t option_ms(uint32_t value_s, uint32_t default_s)
{
	if (!value_s || value_s > KEEP_MAX_S)
		value_s = value_s ? KEEP_MAX_S : default_s;
	return value_s * 1000ull;
}

static void keepalive(struct cp *cp, uint32_t id)
{
	struct cp_conn *c = &cp->conns[id];
	struct cp_rt *rt = &cp->rt[id];
	const struct toe_slot *m = cp_slot_mem(cp, c->app, c->in.slot);
	const struct toe_flow_prog *p = &cp->prog[id];
	uint32_t segs;
	uint32_t ut;
	uint32_t cnt;

	if (!m || !(__atomic_load_n(&m->ctl, __ATOMIC_RELAXED) & TOE_CTL_KEEPALIVE))
		return;
	segs = cp_rx_segs(cp, id);
	/* outstanding data has its own timer, and so does a shut window */
	if (segs != rt->keep_rx_segs || rt->timer != CP_TIMER_NONE || p->snd_nxt != p->snd_una) {
		rt->keep_rx_segs = segs;
		rt->rx_ms = cp->now_ms;
		rt->keep_tries = 0;
		return;
	}
	if (cp->now_ms - rt->rx_ms < option_ms(m->keep_idle_s, KEEP_IDLE_S))
		return;
	if (rt->keep_tries && cp->now_ms < rt->keep_ms)
		return;
	ut = m->user_timeout_ms;
	cnt = m->keep_cnt ? m->keep_cnt : KEEP_CNT;
	if (ut ? rt->keep_tries && cp->now_ms - rt->rx_ms >= ut
	       : rt->keep_tries >= (cnt < 127 ? cnt : 127)) {
		cp_conn_abort(cp, id, ETIMEDOUT);
		return;
	}
	cp_cmd(cp, TOE_CMD_KEEPALIVE, id, NULL, 0);
	CP_COUNT(cp, keepalives);
	rt->keep_tries += rt->keep_tries < 127;
	rt->keep_ms = cp->now_ms + option_ms(m->keep_intvl_s, KEEP_INTVL_S);
}

/* Nobody reads what the peer may still send: do not wait for its FIN for ever. */
static void fin_wait2(struct cp *cp, uint32_t id)
{
	struct cp_rt *rt = &cp->rt[id];
	uint32_t flags = cp->prog[id].flags;

	if (cp->prog[id].gen != cp->conns[id].gen || !(flags & TOE_PROG_FIN_ACKED) ||
	    (flags & TOE_PROG_FIN_RCVD)) {
		rt->fin_wait2_ms = 0;
		return;
	}
	if (!rt->fin_wait2_ms)
		rt->fin_wait2_ms = cp->now_ms ? cp->now_ms : 1;
	if (cp->now_ms - rt->fin_wait2_ms < FIN_WAIT2_MS)
		return;
	CP_COUNT(cp, fin_wait2_timeouts);
	cp_conn_remove(cp, id);
}

/* The RST follows what was written, which takes microseconds, but a stream module may wait for
 * memory. */
static void resetting(struct cp *cp, uint32_t id)
{
	if (cp->now_ms - cp->conns[id].since_ms >= RESETTING_MS)
		cp_conn_close(cp, id, TOE_CLOSE_RST);
}

/* RFC 1191 §6.3: the path may have changed for the better. */
static void pmtu_raise(struct cp *cp, uint32_t id)
{
	const struct cp_conn *c = &cp->conns[id];
	struct cp_rt *rt = &cp->rt[id];
	uint16_t full;

	if (c->in.mss >= cp_send_mss(cp, c->t.family, c->peer_mss, c->in.flags & TOE_INSTALL_TS) ||
	    cp->now_ms - rt->pmtu_ms < PMTU_RAISE_MS)
		return;
	rt->pmtu_ms = cp->now_ms; /* do not ask for the route every second */
	full = cp_mss_full(cp, id);
	if (c->in.mss >= full)
		return;
	cp_mss_set(cp, id, full);
	CP_COUNT(cp, pmtu_raised);
}

static void removing(struct cp *cp, uint32_t id)
{
	if (cp->rt[id].reconcile && cp->ready && cp->now_ms - cp->rt[id].rx_ms >= LATE_REMOVE_MS) {
		cp->rt[id].reconcile = CP_KNOWN;
		cp_removed(cp, id);
	}
}

void cp_slow_conns(struct cp *cp)
{
	bool refresh = cp->now_ms >= cp->refresh_at;
	uint32_t left = cp->conn_count;
	struct cp_addr hop = {0};
	uint8_t mac[6];

	if (refresh)
		cp->refresh_at = cp->now_ms + REFRESH_MS;
	for (uint32_t id = 0; id < cp->st->conn_n && left; id++) {
		struct cp_conn *c = &cp->conns[id];

		if (c->state == CP_FREE)
			continue;
		left--;
		if (refresh && c->next_hop.family && !cp_addr_same(&c->next_hop, &hop)) {
			hop = c->next_hop;
			cp->io.neigh(cp->io.ctx, &hop, mac);
		}
		if (c->state == CP_ESTABLISHED || c->state == CP_CLOSING)
			pmtu_raise(cp, id);
		if (c->state == CP_ESTABLISHED)
			keepalive(cp, id);
		else if (c->state == CP_CLOSING && (c->flags & CP_CONN_RESETTING))
			resetting(cp, id);
		else if (c->state == CP_CLOSING)
			fin_wait2(cp, id);
		else if (c->state == CP_REMOVING)
			removing(cp, id);
	}
}
