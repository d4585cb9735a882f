/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From a finished handshake to an established connection: what both handshakes share.  The INSTALL
 * command is kept in the connection's entry, so that a restart can send it again.
 */
#include "cp.h"

#include <string.h>
#include <sys/socket.h>

#include "isn.h"

#define MSS_DEFAULT4 536u /* RFC 9293 §3.7.1, nothing said */
#define MSS_DEFAULT6 1220u
#define MSS_MIN      64u /* less is an attack (CVE-2019-11479) */
#define TCP_BYTES    20u /* header without options */

uint8_t cp_wscale(uint32_t buf_bytes)
{
	uint8_t ws = 0;

	while (ws < CP_WSCALE_MAX && (65535u << ws) < buf_bytes)
		ws++;
	return ws;
}

uint16_t cp_syn_window(const struct cp *cp, uint32_t app)
{
	uint32_t buf = cp->apps[app].rx_buf_bytes;

	return (uint16_t)(buf > 65535 ? 65535 : buf);
}

uint16_t cp_local_mss(const struct cp *cp, uint32_t family)
{
	return (uint16_t)(cp->mtu - toe_ip_header_bytes(family) - TCP_BYTES);
}

uint16_t cp_default_mss(uint32_t family)
{
	return family == AF_INET6 ? MSS_DEFAULT6 : MSS_DEFAULT4;
}

uint16_t cp_mtu_mss(uint32_t family, uint32_t mtu, bool ts)
{
	uint32_t head = toe_ip_header_bytes(family) + TCP_BYTES + (ts ? CP_TS_BYTES : 0);

	return (uint16_t)(mtu > head + TOE_MSS_FLOOR ? mtu - head : TOE_MSS_FLOOR);
}

uint16_t cp_send_mss(const struct cp *cp, uint32_t family, uint16_t peer_mss, bool ts)
{
	uint32_t mss = peer_mss ? peer_mss : cp_default_mss(family);

	if (mss < MSS_MIN)
		mss = MSS_MIN;
	if (mss > cp_local_mss(cp, family))
		mss = cp_local_mss(cp, family);
	return (uint16_t)(mss - (ts ? CP_TS_BYTES : 0));
}

uint16_t cp_mss_full(const struct cp *cp, uint32_t id)
{
	const struct cp_conn *c = &cp->conns[id];
	bool ts = c->in.flags & TOE_INSTALL_TS;
	uint16_t mss = cp_send_mss(cp, c->t.family, c->peer_mss, ts);
	struct cp_addr peer = cp_remote(&c->t);
	struct cp_route r;

	if (!cp->io.route(cp->io.ctx, &peer, &r) && r.mtu &&
	    cp_mtu_mss(c->t.family, r.mtu, ts) < mss)
		mss = cp_mtu_mss(c->t.family, r.mtu, ts);
	return mss;
}

void cp_mss_set(struct cp *cp, uint32_t id, uint16_t mss)
{
	struct cp_conn *c = &cp->conns[id];
	struct toe_slot *m = cp_slot_mem(cp, c->app, c->in.slot);
	struct toe_cmd_mss cmd = {.mss = mss};

	c->in.mss = mss;
	if (m)
		__atomic_store_n(&m->mss, mss, __ATOMIC_RELAXED);
	cp_cmd(cp, TOE_CMD_MSS, id, &cmd, sizeof(cmd));
}

void cp_install_cmd(struct cp *cp, uint32_t id)
{
	cp_cmd(cp, TOE_CMD_INSTALL, id, &cp->conns[id].in, sizeof(cp->conns[id].in));
}

void cp_install(struct cp *cp, uint32_t id)
{
	struct cp_conn *c = &cp->conns[id];
	const struct cp_app *a = &cp->apps[c->app];

	c->in.app_id = a->app_id;
	c->in.family = (uint16_t)c->t.family;
	c->in.flow_label = cp_flow_label(cp->st->key[CP_KEY_LABEL], &c->t);
	memcpy(c->in.local_addr, c->t.local_addr, sizeof(c->in.local_addr));
	memcpy(c->in.remote_addr, c->t.remote_addr, sizeof(c->in.remote_addr));
	c->in.local_port = __builtin_bswap16(c->t.local_port);
	c->in.remote_port = __builtin_bswap16(c->t.remote_port);
	memcpy(c->in.local_mac, cp->port_mac, 6);
	c->in.rx_buf_bytes = a->rx_buf_bytes;
	c->in.tx_buf_bytes = a->tx_buf_bytes;
	c->in.mss = cp_mss_full(cp, id);
	c->in.snd_nxt = c->in.iss + 1;
	c->in.rcv_nxt = c->in.irs + 1;
	cp->cc->init(&c->cc, c->in.mss, c->in.snd_nxt);
	if (c->flags & CP_CONN_SYN_LOST)
		c->cc.cwnd = c->in.mss; /* RFC 5681 §3.1 */
	if (c->cc.cwnd > a->tx_buf_bytes)
		c->cc.cwnd = a->tx_buf_bytes;
	c->in.cwnd = c->cc.cwnd;
	c->in.ssthresh = c->cc.ssthresh;
	cp->rt[id].last_una = c->in.snd_nxt;
	cp->rt[id].timer = CP_TIMER_NONE;
	cp->rt[id].rx_ms = cp->now_ms;
	cp_conn_enter(cp, id, CP_INSTALLING);
	cp_install_cmd(cp, id);
}

void cp_installed(struct cp *cp, uint32_t id)
{
	struct cp_conn *c = &cp->conns[id];
	struct cp_listener *l = cp_listener_rec(cp, c->app, c->in.listener);

	if (c->state != CP_INSTALLING)
		return;
	cp_conn_enter(cp, id, CP_ESTABLISHED);
	if (c->in.listener == TOE_NONE)
		return;
	if (!l || l->state == CP_LISTENER_FREE || l->gen != c->listener_gen) {
		/* closed in the meantime, perhaps after accept(): else nobody will */
		if (!cp_slot_accepted(cp, c->app, c->in.slot))
			cp_unaccepted(cp, c->app, c->in.slot);
		return;
	}
	if (cp_listener_rt(cp, c->app, c->in.listener)->installing)
		cp_listener_rt(cp, c->app, c->in.listener)->installing--;
}
