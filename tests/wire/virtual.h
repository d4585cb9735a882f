/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The engine of wire scripts in virtual time (virtual_cp.h) with one application, which acts
 * through its region like libtoe: cursors, doorbells, tokens.
 */
#ifndef TOE_TEST_WIRE_VIRTUAL_H
#define TOE_TEST_WIRE_VIRTUAL_H

#include "virtual_cp.h"

/* The region's token map. */
static uint32_t *wire_token(uint32_t token)
{
	struct toe_region_geometry g = {SIM_SLOTS, 1, SIM_TOKENS, 16, 128, 64, SIM_BUF, SIM_BUF};
	struct toe_region_layout l = {0};

	toe_region_layout(&l, &g);
	return (uint32_t *)(sim.app.control + l.off_tokens) + token;
}

static struct toe_slot *wire_slot(void)
{
	if (w.at->slot == TOE_NONE)
		wire_fail("the connection has not been accepted");
	return toe_app_slot(&sim.app, w.at->slot);
}

static void wire_doorbell(void)
{
	struct toe_context *ctx = toe_app_context(&sim.app, 0);
	uint32_t *ring = (uint32_t *)(ctx + 1) + sim.app.hint_n;

	if (__atomic_exchange_n(&wire_slot()->doorbell_pending, 1, __ATOMIC_SEQ_CST) != 0)
		return;
	ring[ctx->doorbell_prod % sim.app.doorbell_n] = w.at->slot;
	__atomic_store_n(&ctx->doorbell_prod, ctx->doorbell_prod + 1, __ATOMIC_RELEASE);
}

/* ---- the application's calls ---- */

static void virtual_listen(uint32_t backlog)
{
	struct toe_ctl_msg m;

	memset(&m, 0, sizeof(m));
	m.app_id = SIM_APP;
	m.u.listen.family = wire.six ? AF_INET6 : AF_INET;
	m.u.listen.port = WIRE_SERVER_PORT;
	m.u.listen.backlog = backlog;
	wire_keeper_msg(TOE_CTL_LISTEN, &m);
	assert_int_equal(virt.reply.status, 0);
	wire_settle();
}

static struct toe_listener *wire_listener(void)
{
	return (struct toe_listener *)(sim.app.control + sim.app.off_listeners);
}

static bool virtual_accept(bool only_look)
{
	struct toe_listener *l = wire_listener();
	uint32_t *ring = (uint32_t *)(l + 1);
	uint32_t slot;

	if (l->cons == __atomic_load_n(&l->prod, __ATOMIC_ACQUIRE))
		return false;
	if (only_look)
		return true;
	slot = ring[l->cons % 16];
	l->cons++;
	if (toe_app_slot(&sim.app, slot)->remote_port != w.at->port)
		wire_fail("the connection is of port %u",
			  toe_app_slot(&sim.app, slot)->remote_port);
	w.at->slot = w.at->token = slot;
	*wire_token(slot) = slot;
	return true;
}

static void virtual_connect(void)
{
	struct toe_ctl_msg m;

	memset(&m, 0, sizeof(m));
	m.app_id = SIM_APP;
	m.u.conn.family = wire.six ? AF_INET6 : AF_INET;
	m.u.conn.remote_port = WIRE_REMOTE_PORT;
	m.u.conn.token = SIM_SLOTS + virt.connects++ % SIM_SLOTS; /* accepted ones: below */
	memcpy(m.u.conn.remote_addr, wire_addr(2).b, 16);
	wire_keeper_msg(TOE_CTL_CONNECT, &m);
	assert_int_equal(virt.reply.status, 0);
	w.at->slot = virt.reply.u.conn.slot;
	w.at->token = m.u.conn.token;
	*wire_token(w.at->token) = w.at->slot;
	wire_settle();
}

static void virtual_put(uint32_t n)
{
	uint8_t *buf = sim.app.payload + toe_slot_tx_off(w.at->slot, SIM_BUF, SIM_BUF);
	struct toe_slot *s = wire_slot();

	if (w.at->written - s->tx_head + n > SIM_BUF)
		wire_fail("the send buffer has no room for %u bytes", n);
	for (uint32_t i = 0; i < n; i++, w.at->written++)
		buf[w.at->written % SIM_BUF] = wire_byte(w.at->written, false);
	__atomic_store_n(&s->tx_tail, w.at->written, __ATOMIC_RELEASE);
}

static void virtual_write(uint32_t n)
{
	virtual_put(n);
	wire_doorbell();
	wire_settle();
}

static void virtual_read(uint32_t n)
{
	const uint8_t *buf = sim.app.payload + toe_slot_rx_off(w.at->slot, SIM_BUF, SIM_BUF);
	struct toe_slot *s = wire_slot();

	wire_settle();
	if (s->rx_tail - w.at->read < n)
		wire_fail("only %u bytes are readable", s->rx_tail - w.at->read);
	for (uint32_t i = 0; i < n; i++, w.at->read++)
		if (buf[w.at->read % SIM_BUF] != wire_byte(w.at->read, true))
			wire_fail("received byte %u is wrong", w.at->read);
	__atomic_store_n(&s->rx_head, w.at->read, __ATOMIC_RELEASE);
	wire_doorbell();
	wire_settle();
}

static uint32_t virtual_readable(void)
{
	return wire_slot()->rx_tail - w.at->read;
}

static uint32_t virtual_acked(void)
{
	return wire_slot()->tx_head;
}

static bool virtual_eof(void)
{
	return wire_slot()->state & TOE_SLOT_RX_FIN;
}

static int virtual_error(void)
{
	const struct toe_slot *s = wire_slot();

	return s->state & TOE_SLOT_ERROR ? (int)s->error : 0;
}

static void wire_ctl(uint32_t bit, bool on)
{
	if (on)
		wire_slot()->ctl |= bit;
	else
		wire_slot()->ctl &= ~bit;
	wire_doorbell();
	wire_settle();
}

static void virtual_shutdown(bool rd)
{
	wire_ctl(rd ? TOE_CTL_SHUT_RD : TOE_CTL_SHUT_WR, true);
}

static void virtual_header(unsigned shift, uint32_t value)
{
	struct toe_slot *s = wire_slot();

	s->ctl = (s->ctl & ~(0xffu << shift)) | value << shift;
	wire_doorbell();
	wire_settle();
}

static void virtual_option(enum wire_option o, const uint32_t value[3])
{
	static const uint32_t bits[] = {[WIRE_NODELAY] = TOE_CTL_NODELAY,
					[WIRE_CORK] = TOE_CTL_CORK,
					[WIRE_LINGER0] = TOE_CTL_LINGER0};
	struct toe_slot *s = wire_slot();

	switch (o) {
	case WIRE_KEEPALIVE:
		s->keep_idle_s = value[0];
		s->keep_intvl_s = value[1];
		s->keep_cnt = value[2];
		wire_ctl(TOE_CTL_KEEPALIVE, true);
		break;
	case WIRE_USER_TIMEOUT:
		s->user_timeout_ms = value[0];
		break;
	case WIRE_TOS:
		virtual_header(TOE_CTL_TOS_SHIFT, value[0]);
		break;
	case WIRE_TTL:
		virtual_header(TOE_CTL_TTL_SHIFT, value[0]);
		break;
	default:
		wire_ctl(bits[o], value[0] != 0);
	}
}

/* The last reference is gone. */
static void virtual_close(void)
{
	struct toe_ctl_msg m;

	wire_slot();
	memset(&m, 0, sizeof(m));
	m.u.token.app_id = SIM_APP;
	m.u.token.count = 1;
	m.u.token.ids[0] = w.at->token;
	wire_keeper_msg(TOE_CTL_CP_TOKEN_HUP, &m);
	wire_settle();
}

/* ---- frames and time ---- */

static uint64_t virtual_now(void)
{
	return sim.us;
}

static void virtual_frame(uint8_t *frame, uint32_t len)
{
	sim_wire_put(&sim.in, frame, len);
	wire_settle();
}

static void virtual_settle(void)
{
	wire_settle();
}

static bool virtual_wait(void)
{
	return false;
}

/* ---- settings and statements that only make sense here ---- */

static bool virtual_config(const char *name, uint32_t value)
{
	if (strcmp(name, "buffer") == 0)
		wire.buf = value;
	else if (strcmp(name, "clock_ms") == 0)
		sim.us = value * 1000ull;
	else if (strcmp(name, "mtu") == 0)
		virt.mtu_route =
			wire.six ? value + 20 : value; /* for segments of the same length */
	else if (strcmp(name, "ecn") == 0)
		sim.cfg.ecn = value != 0;
	else if (strcmp(name, "rto_min_ms") == 0)
		sim.cfg.rto_min_ms = value;
	else if (strcmp(name, "time_wait_ms") == 0)
		sim.cfg.time_wait_ms = value;
	else if (strcmp(name, "syn_backlog") == 0)
		sim.cfg.syn_backlog = value;
	else if (strcmp(name, "orphans") == 0)
		sim.cfg.orphans = value;
	else
		return false;
	return true;
}

/* isn N: the next connection of this peer gets this initial sequence number, whatever the key: the
 * clock is moved. */
static void verb_isn(char **rest)
{
	uint32_t want = wire_number(wire_next(rest));
	struct toe_tuple t = wire_tuple(w.at);
	uint32_t is = cp_isn(virt.st->key[CP_KEY_ISN], &t, sim.us);
	uint64_t us = (uint64_t)(want - is) * 4;

	wire_advance(sim.us + us, false);
	wire.cursor_us = sim.us;
	if (cp_isn(virt.st->key[CP_KEY_ISN], &t, sim.us) != want)
		wire_fail("initial sequence numbers do not follow the clock");
}

/* put N: the bytes are there, and nobody has been told. */
static void verb_put(char **rest)
{
	virtual_put(wire_number(wire_next(rest)));
}

static void verb_neighbour(char **rest)
{
	virt.dead_link = strcmp(wire_next(rest), "silent") == 0;
}

static bool virtual_statement(const char *name, char **rest)
{
	if (strcmp(name, "isn") == 0)
		verb_isn(rest);
	else if (strcmp(name, "put") == 0)
		verb_put(rest);
	else if (strcmp(name, "neighbour") == 0)
		verb_neighbour(rest);
	else
		return false;
	return true;
}

static const struct wire_engine wire_engine = {
	.start = virtual_start,
	.end = sim_check_pools,
	.now_us = virtual_now,
	.frame = virtual_frame,
	.settle = virtual_settle,
	.wait = virtual_wait,
	.advance = wire_advance,
	.state = wire_state,
	.counter = wire_counter,
	.config = virtual_config,
	.statement = virtual_statement,
	.listen = virtual_listen,
	.accept = virtual_accept,
	.connect = virtual_connect,
	.write = virtual_write,
	.read = virtual_read,
	.readable = virtual_readable,
	.acked = virtual_acked,
	.eof = virtual_eof,
	.error = virtual_error,
	.shutdown = virtual_shutdown,
	.option = virtual_option,
	.close = virtual_close,
};

#endif
