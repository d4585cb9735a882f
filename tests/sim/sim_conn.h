/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Connections of the simulation: per connection a TCP peer on the wire, an application that acts on
 * hints only, and what the control plane does for it (install, RTO, close, remove).  Every byte of
 * both streams is a function of its position and is checked, and so is that no ACK leaves before
 * the bytes it acknowledges are in the application's buffer.
 */
#ifndef TOE_TEST_SIM_CONN_H
#define TOE_TEST_SIM_CONN_H

#include "common/tcp_seq.h"
#include "sim.h"

#define SIM_MSS       1000u
#define SIM_RTO_US    20000u
#define SIM_PEER_WND  30000u
#define SIM_PEER_ADDR 0x0a000002u

struct sim_conn {
	uint32_t id, gen, slot;
	uint16_t port; /* the peer's */
	uint32_t iss;  /* the engine's */
	uint32_t irs;  /* the peer's */

	/* peer; positions in its stream and in the engine's */
	uint64_t p_goal, p_next, p_acked, p_wnd, p_rcvd;
	bool p_fin, p_fin_acked, p_fin_rcvd, p_reset;
	unsigned p_dups;
	uint32_t p_wl1, p_wl2; /* numbers of the segment p_wnd is from */
	uint32_t p_ts_recent;
	uint64_t p_timer_us;
	uint32_t ts_sent;     /* highest TSval that left the engine */
	uint64_t p_sent;      /* bytes, again and again */
	uint64_t ack_checked; /* bytes of the peer's stream whose placement has been checked */

	/* application */
	uint64_t a_goal, a_written, a_read;
	bool a_shut, a_fin_seen, a_shut_after_fin;
	bool a_stalled; /* does not read */
	bool hostile;   /* writes nonsense: its streams are not checked */

	/* control plane */
	uint32_t c_una;
	uint64_t c_timer_us;
	unsigned rtos;
	bool installed, active, closed, removed, reset;
};

static struct sim_conn sim_conn[SIM_SLOTS];
static unsigned sim_conn_n;
static uint64_t sim_events[16];
static uint16_t sim_port = 80; /* the engine's */

/* Other bytes than sim_byte()'s, and who looks at them instead: a stream module may add and take
 * away.  Called for each byte once, in order. */
static struct {
	uint8_t (*byte)(const struct sim_conn *c, uint64_t pos, bool from_peer);
	void (*app_got)(const struct sim_conn *c, uint8_t byte);
	void (*peer_got)(const struct sim_conn *c, uint8_t byte);
} sim_text;

static inline uint8_t sim_byte(const struct sim_conn *c, uint64_t pos, bool from_peer)
{
	if (sim_text.byte != NULL)
		return sim_text.byte(c, pos, from_peer);
	return (uint8_t)(((uint32_t)pos * 2654435761u + c->id * 97u + from_peer) >> 11);
}

static inline void sim_got(const struct sim_conn *c, uint64_t pos, bool from_peer, uint8_t byte)
{
	if (sim_text.byte == NULL)
		assert_int_equal(byte, sim_byte(c, pos, from_peer));
	else if (from_peer)
		sim_text.app_got(c, byte);
	else
		sim_text.peer_got(c, byte);
}

static inline struct toe_slot *sim_slot(const struct sim_conn *c)
{
	return toe_app_slot(&sim.app, c->slot);
}

static inline uint8_t *sim_rx_buf(const struct sim_conn *c)
{
	return sim.app.payload + toe_slot_rx_off(c->slot, SIM_BUF, SIM_BUF);
}

static inline uint8_t *sim_tx_buf(const struct sim_conn *c)
{
	return sim.app.payload + toe_slot_tx_off(c->slot, SIM_BUF, SIM_BUF);
}

/* Every other connection is IPv6: 2001:db8::2 to ::1, as frame_make() has it. */
static inline bool sim_six(const struct sim_conn *c)
{
	return c->slot % 2 != 0;
}

/* ---- peer ---- */

static inline void sim_peer_send(struct sim_conn *c, uint64_t pos, uint16_t len, uint8_t flags)
{
	uint8_t ts[12] = {1, 1, 8, 10};
	uint8_t buf[SIM_FRAME] = {0};
	uint32_t val = sim.clock.ms, n;
	struct rte_tcp_hdr *tcp;
	struct frame_spec f = {.six = sim_six(c),
			       .sport = c->port,
			       .dport = sim_port,
			       .flags = flags,
			       .vlan = -1,
			       .opts = ts,
			       .opt_bytes = 12,
			       .payload_len = len,
			       .wnd = SIM_PEER_WND};

	val = rte_cpu_to_be_32(val);
	memcpy(ts + 4, &val, 4);
	val = rte_cpu_to_be_32(c->p_ts_recent);
	memcpy(ts + 8, &val, 4);
	f.seq = c->irs + 1 + (uint32_t)pos;
	f.ack = c->iss + 1 + (uint32_t)c->p_rcvd + (c->p_fin_rcvd ? 1 : 0);
	n = frame_make(buf, &f);
	c->p_sent += len;
	for (unsigned i = 0; i < len; i++)
		buf[n - len + i] = sim_byte(c, pos + i, true);
	tcp = (struct rte_tcp_hdr *)(buf + n - len - 32);
	tcp->cksum = 0;
	tcp->cksum = frame_tcp_cksum(buf + 14, tcp, 32u + len);
	sim_wire_put(&sim.in, buf, n);
}

static inline void sim_peer_ack(struct sim_conn *c)
{
	sim_peer_send(c, c->p_next + (c->p_fin ? 1 : 0), 0, TOE_TCP_ACK);
}

/* What the windows allow; FIN behind the last byte. */
static inline void sim_peer_push(struct sim_conn *c)
{
	while (c->p_next < c->p_goal && c->p_next < c->p_acked + c->p_wnd &&
	       sim.in.tail - sim.in.head < SIM_WIRE / 2) {
		uint64_t room = c->p_acked + c->p_wnd - c->p_next;
		uint64_t len = c->p_goal - c->p_next;

		len = len < room ? len : room;
		len = len < SIM_MSS ? len : SIM_MSS;
		sim_peer_send(c, c->p_next, (uint16_t)len, TOE_TCP_ACK | TOE_TCP_PSH);
		c->p_next += len;
	}
}

static inline void sim_peer_close(struct sim_conn *c)
{
	if (c->p_fin || c->p_next != c->p_goal)
		return;
	sim_peer_send(c, c->p_next, 0, TOE_TCP_ACK | TOE_TCP_FIN);
	c->p_fin = true;
}

static inline void sim_peer_retransmit(struct sim_conn *c)
{
	bool fin = c->p_fin && !c->p_fin_acked;

	c->p_timer_us = sim.us;
	if (c->p_acked == c->p_goal && !fin)
		return;
	c->p_next = c->p_acked;
	c->p_fin = c->p_fin && !fin;
	if (c->p_wnd == 0) /* probe */
		sim_peer_send(c, c->p_next, 1, TOE_TCP_ACK);
	sim_peer_push(c);
	if (fin)
		sim_peer_close(c);
}

static inline void sim_peer_data(struct sim_conn *c, const uint8_t *p, uint64_t pos, uint32_t len,
				 bool fin)
{
	if (pos <= c->p_rcvd && pos + len >= c->p_rcvd) {
		for (uint64_t i = c->p_rcvd; i < pos + len; i++)
			sim_got(c, i, false, p[i - pos]);
		c->p_rcvd = pos + len;
		if (fin) {
			assert_true(c->p_rcvd == c->a_goal || sim_text.byte != NULL);
			c->p_fin_rcvd = true;
		}
	}
	if (len != 0 || fin)
		sim_peer_ack(c);
}

/* The engine's own frames may overtake each other: window update by RFC 9293 §3.10.7.4. */
static inline bool sim_peer_window(struct sim_conn *c, const struct toe_seg *seg)
{
	if (seq_lt(seg->seq, c->p_wl1) || (seg->seq == c->p_wl1 && seq_lt(seg->ack, c->p_wl2)))
		return false;
	c->p_wl1 = seg->seq;
	c->p_wl2 = seg->ack;
	c->p_wnd = seg->wnd;
	return true;
}

static inline void sim_peer_acked(struct sim_conn *c, const struct toe_seg *seg)
{
	uint64_t to = c->p_acked + (uint32_t)(seg->ack - (c->irs + 1) - (uint32_t)c->p_acked);
	bool pure = seg->payload_len == 0 && !(seg->flags & TOE_TCP_FIN);
	uint64_t wnd = c->p_wnd;

	if (to - c->p_acked > c->p_goal + 1)
		return; /* an older ACK */
	if (!sim_peer_window(c, seg) && to == c->p_acked)
		return;
	if (to > c->p_acked) {
		if (to == c->p_goal + 1) {
			assert_true(c->p_fin);
			c->p_fin_acked = true;
			to = c->p_goal;
		}
		assert_true(to <= c->p_goal);
		c->p_acked = to;
		c->p_next = c->p_next > to ? c->p_next : to;
		c->p_timer_us = sim.us;
		c->p_dups = 0;
	} else if (pure && c->p_next > to && seg->wnd == wnd && ++c->p_dups == 3) {
		sim_peer_retransmit(c);
	}
}

static inline struct sim_conn *sim_conn_of_frame(const uint8_t *data, uint32_t len,
						 struct toe_frame *f, struct toe_seg *seg)
{
	assert_int_equal(toe_frame_parse(data, len, f), TOE_FRAME_TCP);
	assert_int_equal(toe_seg_parse(data, f, 0, seg), TOE_D_NONE); /* checksums are complete */
	for (unsigned i = 0; i < sim_conn_n; i++)
		if (f->key.local_port == rte_cpu_to_be_16(sim_conn[i].port))
			return &sim_conn[i];
	return NULL;
}

/* As a frame leaves the engine: TSval does not step back (the peer would drop it, RFC 7323 §5),
 * and what it acknowledges must be in the application's buffer. */
static void sim_check_placed(const uint8_t *data, uint32_t len)
{
	struct toe_frame f;
	struct toe_seg seg;
	struct sim_conn *c = sim_conn_of_frame(data, len, &f, &seg);
	uint64_t to;

	if (c == NULL || c->hostile || (seg.flags & TOE_TCP_RST))
		return;
	assert_true((int32_t)(seg.ts_val - c->ts_sent) >= 0);
	c->ts_sent = seg.ts_val;
	to = c->ack_checked + (uint32_t)(seg.ack - (c->irs + 1) - (uint32_t)c->ack_checked);
	if (to - c->ack_checked > c->p_goal + 1)
		return; /* an older ACK */
	to = to < c->p_goal ? to : c->p_goal;
	for (; c->ack_checked < to; c->ack_checked++)
		assert_int_equal(sim_rx_buf(c)[c->ack_checked % SIM_BUF],
				 sim_byte(c, c->ack_checked, true));
}

static inline void sim_peers_turn(void)
{
	struct sim_frame *fr;

	while ((fr = sim_wire_take(&sim.out)) != NULL) {
		struct toe_frame f;
		struct toe_seg seg;
		struct sim_conn *c = sim_conn_of_frame(fr->data, fr->len, &f, &seg);

		if (c == NULL || c->hostile)
			continue;
		if (seg.flags & TOE_TCP_RST) {
			c->p_reset = true;
			continue;
		}
		assert_int_equal(seg.opts & TOE_SEG_TS, TOE_SEG_TS);
		c->p_ts_recent = seg.ts_val;
		sim_peer_acked(c, &seg);
		sim_peer_data(c, fr->data + seg.payload_off,
			      c->p_rcvd + (uint64_t)(int64_t)(int32_t)(seg.seq - (c->iss + 1) -
								       (uint32_t)c->p_rcvd),
			      seg.payload_len, seg.flags & TOE_TCP_FIN);
	}
	for (unsigned i = 0; i < sim_conn_n; i++) {
		struct sim_conn *c = &sim_conn[i];

		if (!c->installed || c->p_reset || c->removed)
			continue;
		sim_peer_push(c);
		if (sim.us - c->p_timer_us > SIM_RTO_US)
			sim_peer_retransmit(c);
	}
}

/* ---- application ---- */

static inline void sim_doorbell(const struct sim_conn *c)
{
	struct toe_context *ctx = toe_app_context(&sim.app, 0);
	uint32_t *ring = (uint32_t *)(ctx + 1) + sim.app.hint_n;

	if (__atomic_exchange_n(&sim_slot(c)->doorbell_pending, 1, __ATOMIC_SEQ_CST) != 0)
		return;
	ring[ctx->doorbell_prod % sim.app.doorbell_n] = c->slot;
	__atomic_store_n(&ctx->doorbell_prod, ctx->doorbell_prod + 1, __ATOMIC_RELEASE);
}

static inline bool sim_app_read(struct sim_conn *c)
{
	uint32_t tail = __atomic_load_n(&sim_slot(c)->rx_tail, __ATOMIC_ACQUIRE);
	bool moved = (uint32_t)c->a_read != tail;

	for (; (uint32_t)c->a_read != tail; c->a_read++)
		sim_got(c, c->a_read, true, sim_rx_buf(c)[c->a_read % SIM_BUF]);
	__atomic_store_n(&sim_slot(c)->rx_head, tail, __ATOMIC_RELEASE);
	return moved;
}

static inline bool sim_app_write(struct sim_conn *c)
{
	uint32_t used = (uint32_t)c->a_written - sim_slot(c)->tx_head;
	uint64_t len = c->a_goal - c->a_written;

	assert_true(used <= SIM_BUF);
	len = len < SIM_BUF - used ? len : SIM_BUF - used;
	for (uint64_t end = c->a_written + len; c->a_written < end; c->a_written++)
		sim_tx_buf(c)[c->a_written % SIM_BUF] = sim_byte(c, c->a_written, false);
	__atomic_store_n(&sim_slot(c)->tx_tail, (uint32_t)c->a_written, __ATOMIC_RELEASE);
	return len != 0;
}

/* A hint, or the application's own initiative. */
static inline void sim_app_turn(struct sim_conn *c)
{
	bool moved;

	if (c->hostile || sim.app_gone)
		return;
	moved = c->a_stalled ? false : sim_app_read(c);
	moved |= sim_app_write(c);
	if ((sim_slot(c)->state & TOE_SLOT_RX_FIN) && sim_slot(c)->rx_tail == (uint32_t)c->a_read &&
	    !c->a_fin_seen) {
		assert_true(c->a_read == c->p_goal || sim_text.byte != NULL);
		c->a_fin_seen = true;
		c->a_shut |= c->a_shut_after_fin;
	}
	if (c->a_shut && c->a_written == c->a_goal && !(sim_slot(c)->ctl & TOE_CTL_SHUT_WR)) {
		sim_slot(c)->ctl |= TOE_CTL_SHUT_WR;
		moved = true;
	}
	if (moved)
		sim_doorbell(c);
}

static inline void sim_apps_turn(void)
{
	struct toe_context *ctx = toe_app_context(&sim.app, 0);
	const uint32_t *ring = (uint32_t *)(ctx + 1);

	while (ctx->hint_cons != __atomic_load_n(&ctx->hint_prod, __ATOMIC_ACQUIRE)) {
		uint32_t slot = ring[ctx->hint_cons++ % sim.app.hint_n];

		assert_true(slot < SIM_SLOTS);
		__atomic_fetch_and(&toe_app_slot(&sim.app, slot)->hint_pending, ~UINT64_C(1),
				   __ATOMIC_SEQ_CST);
		for (unsigned i = 0; i < sim_conn_n; i++)
			if (sim_conn[i].slot == slot && sim_conn[i].installed)
				sim_app_turn(&sim_conn[i]);
	}
}

/* ---- control plane ---- */

static inline void sim_conn_open(struct sim_conn *c, unsigned slot, uint32_t gen)
{
	struct toe_cmd_install in = {.app_id = SIM_APP,
				     .slot = slot,
				     .slot_gen = gen,
				     .listener = TOE_NONE,
				     .local_port = sim_port,
				     .mss = SIM_MSS,
				     .local_mac = {2, 0, 0, 0, 0, 1},
				     .remote_mac = {2, 0, 0, 0, 0, 2},
				     .snd_wnd = SIM_PEER_WND,
				     .cwnd = 10 * SIM_MSS,
				     .ssthresh = 1u << 30,
				     .rx_buf_bytes = SIM_BUF,
				     .tx_buf_bytes = SIM_BUF,
				     .flags = TOE_INSTALL_TS | TOE_INSTALL_SACK};
	struct toe_tuple k;

	if (sim.accepted)
		in.listener = 0;
	*c = (struct sim_conn){.slot = slot, .gen = gen, .port = (uint16_t)(10000 + slot)};
	in.family = sim_six(c) ? AF_INET6 : AF_INET;
	memcpy(in.local_addr, sim_six(c) ? "\x20\1\xd\xb8" : "\xa\0\0\1", 4);
	memcpy(in.remote_addr, sim_six(c) ? "\x20\1\xd\xb8" : "\xa\0\0\2", 4);
	in.local_addr[15] = sim_six(c) ? 1 : 0;
	in.remote_addr[15] = sim_six(c) ? 2 : 0;
	in.flow_label = sim_six(c) ? 0x12340 + slot : 0;
	in.remote_port = c->port;
	memcpy(k.local_addr, in.local_addr, 16);
	memcpy(k.remote_addr, in.remote_addr, 16);
	k.local_port = rte_cpu_to_be_16(sim_port);
	k.remote_port = rte_cpu_to_be_16(c->port);
	k.family = in.family;
	c->id = slot * 4 + toe_flow_group(toe_flow_hash(&k), 4);
	c->iss = in.iss = (uint32_t) - (int32_t)sim_rnd(100000); /* wraps soon */
	c->irs = in.irs = (uint32_t) - (int32_t)sim_rnd(100000);
	in.snd_nxt = c->c_una = in.iss + 1;
	in.rcv_nxt = in.irs + 1;
	c->p_wnd = SIM_BUF;
	c->p_wl1 = in.iss;
	c->p_wl2 = in.irs;
	c->p_timer_us = c->c_timer_us = sim.us;
	memset(sim_slot(c), 0, sizeof(struct toe_slot));
	sim_slot(c)->ctx_mask = 1;
	sim_cmd(TOE_CMD_INSTALL, c->id, gen, &in, sizeof(in));
}

static inline void sim_on_event(const struct toe_cpq_entry *e)
{
	struct sim_conn *c = NULL;

	sim_events[e->type % 16]++;
	for (unsigned i = 0; i < sim_conn_n; i++)
		if (sim_conn[i].id == e->conn && sim_conn[i].gen == e->gen)
			c = &sim_conn[i];
	if (c == NULL)
		return;
	switch (e->type) {
	case TOE_EV_INSTALLED:
		assert_int_equal(e->cookie, c->id ^ 0x5a5a);
		c->installed = true;
		if (sim.accepted)
			toe_app_listener(&sim.app, 0)->cons = toe_app_listener(&sim.app, 0)->prod;
		sim_app_turn(c);
		break;
	case TOE_EV_ACTIVE:
		c->active = true;
		break;
	case TOE_EV_CLOSED:
		c->closed = true;
		break;
	case TOE_EV_RESET:
		c->reset = true;
		break;
	case TOE_EV_REMOVED:
		assert_true(sim.app_gone || (sim_slot(c)->state & TOE_SLOT_DEAD));
		c->removed = true;
		break;
	default:
		break;
	}
}

static inline void sim_cp_timers(struct sim_conn *c)
{
	const struct toe_flow_prog *p = &sim.engine.prog[c->id];

	if (p->snd_una != c->c_una || (p->snd_una == p->snd_nxt && p->snd_nxt == p->tx_tail)) {
		c->c_una = p->snd_una;
		c->c_timer_us = sim.us;
	} else if (sim.us - c->c_timer_us > SIM_RTO_US) {
		assert_true(c->active); /* or the control plane would not know */
		c->c_timer_us = sim.us;
		c->rtos++;
		sim_cmd(p->snd_una == p->snd_nxt ? TOE_CMD_PROBE : TOE_CMD_RTO, c->id, c->gen, NULL,
			0);
	}
}

static inline void sim_cp_turn(void)
{
	struct toe_cpq_entry *e;

	while ((e = sim_event()) != NULL) {
		sim_on_event(e);
		sim_event_done();
	}
	for (unsigned i = 0; i < sim_conn_n; i++)
		if (sim_conn[i].installed && !sim_conn[i].closed && !sim_conn[i].removed)
			sim_cp_timers(&sim_conn[i]);
}

/* ---- everything ---- */

static inline void sim_step(void)
{
	sim_engine_step(5);
	sim_peers_turn();
	sim_apps_turn();
	sim_cp_turn();
}

/* Runs until done() or until ms of virtual time have gone by; returns whether it was done. */
static inline bool sim_run(bool (*done)(const struct sim_conn *), unsigned ms)
{
	uint64_t end = sim.us + ms * UINT64_C(1000);

	while (sim.us < end) {
		unsigned i;

		sim_step();
		for (i = 0; i < sim_conn_n && done(&sim_conn[i]); i++)
			;
		if (i == sim_conn_n)
			return true;
	}
	return false;
}

static inline void sim_settle(void)
{
	unsigned idle;

	for (idle = 0; idle < 20; idle++)
		if (sim_engine_step(5) != 0)
			idle = 0;
}

static inline bool sim_is_installed(const struct sim_conn *c)
{
	return c->installed;
}
static inline bool sim_is_closed(const struct sim_conn *c)
{
	return c->closed;
}
static inline bool sim_is_removed(const struct sim_conn *c)
{
	return c->removed;
}
static inline bool sim_is_reset(const struct sim_conn *c)
{
	return c->p_reset;
}

/* Both streams through and acknowledged. */
static inline bool sim_is_done(const struct sim_conn *c)
{
	return c->a_read == c->p_goal && c->p_rcvd == c->a_goal && c->p_acked == c->p_goal &&
	       sim_slot(c)->tx_head == (uint32_t)c->a_goal;
}

/* Nothing was thrown away. */
static inline void sim_check_no_drops(void)
{
	for (unsigned d = 0; d < TOE_D_N; d++) {
		if (sim_drops(d) != 0)
			fail_msg("%s: %u", toe_drop_name[d], (unsigned)sim_drops(d));
	}
}

static inline void sim_open_all(unsigned n)
{
	const struct toe_cmd_port port = {AF_INET, sim_port, TOE_PORT_LISTEN};

	memset(sim_events, 0, sizeof(sim_events));
	/* a stream module's bytes are in the engine when they are acknowledged */
	sim.sent = sim.accepted ? NULL : sim_check_placed;
	sim_conn_n = n;
	sim_cmd(TOE_CMD_PORT, TOE_NONE, 0, &port, sizeof(port));
	for (unsigned i = 0; i < n; i++)
		sim_conn_open(&sim_conn[i], i, 7);
	assert_true(sim_run(sim_is_installed, 100));
}

/* Bytes each connection shall have carried in the end. */
static inline void sim_stream_all(uint64_t from_peer, uint64_t to_peer)
{
	for (unsigned i = 0; i < sim_conn_n; i++) {
		sim_conn[i].p_goal = from_peer;
		sim_conn[i].a_goal = to_peer;
		sim_app_turn(&sim_conn[i]);
	}
}

/* Peers and applications close; the control plane removes. */
static inline void sim_close_all(void)
{
	for (unsigned i = 0; i < sim_conn_n; i++) {
		sim_conn[i].a_shut_after_fin = true;
		sim_peer_close(&sim_conn[i]);
	}
	assert_true(sim_run(sim_is_closed, 5000));
	for (unsigned i = 0; i < sim_conn_n; i++)
		sim_cmd(TOE_CMD_REMOVE, sim_conn[i].id, sim_conn[i].gen, NULL, 0);
	assert_true(sim_run(sim_is_removed, 100));
	sim_settle();
	sim_check_pools();
}

#endif
