/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Statements of wire scripts about the application, whole handshakes, and the table of all
 * statements.  The application acts through its region like libtoe: cursors, doorbells, tokens.
 */
#ifndef TOE_TEST_WIRE_APP_H
#define TOE_TEST_WIRE_APP_H

#include <errno.h>

#include "script.h"

static void verb_listen(char **rest)
{
	char *backlog = strtok_r(NULL, " \t", rest);
	struct toe_ctl_msg m;

	memset(&m, 0, sizeof(m));
	m.app_id = SIM_APP;
	m.u.listen.family = wire.six ? AF_INET6 : AF_INET;
	m.u.listen.port = WIRE_SERVER_PORT;
	m.u.listen.backlog = backlog != NULL ? wire_number(backlog) : 8;
	wire_keeper_msg(TOE_CTL_LISTEN, &m);
	assert_int_equal(w.reply.status, 0);
	wire_settle();
}

static struct toe_listener *wire_listener(void)
{
	return (struct toe_listener *)(sim.app.control + sim.app.off_listeners);
}

/* Takes the oldest connection of the accept ring; it must be this peer's. */
static void verb_accept(char **rest)
{
	struct toe_listener *l = wire_listener();
	uint32_t *ring = (uint32_t *)(l + 1);
	uint32_t slot;

	(void)rest;
	wire_settle();
	if (l->cons == __atomic_load_n(&l->prod, __ATOMIC_ACQUIRE))
		wire_fail("there is no connection to accept");
	slot = ring[l->cons % 16];
	l->cons++;
	if (toe_app_slot(&sim.app, slot)->remote_port != w.at->port)
		wire_fail("the connection is of port %u",
			  toe_app_slot(&sim.app, slot)->remote_port);
	w.at->slot = w.at->token = slot;
	*wire_token(slot) = slot;
}

static void verb_noaccept(char **rest)
{
	const struct toe_listener *l = wire_listener();

	(void)rest;
	wire_settle();
	if (l->cons != __atomic_load_n(&l->prod, __ATOMIC_ACQUIRE))
		wire_fail("there is a connection to accept");
}

/* Active open; the statements that follow are about it. */
static void verb_connect(char **rest)
{
	struct toe_ctl_msg m;

	(void)rest;
	if (w.at->lport != w.next_port)
		w.at = wire_peer_add(w.next_port, WIRE_REMOTE_PORT);
	memset(&m, 0, sizeof(m));
	m.app_id = SIM_APP;
	m.u.conn.family = wire.six ? AF_INET6 : AF_INET;
	m.u.conn.remote_port = WIRE_REMOTE_PORT;
	m.u.conn.token = SIM_SLOTS + w.connects++ % SIM_SLOTS; /* accepted ones: below */
	memcpy(m.u.conn.remote_addr, wire_addr(2).b, 16);
	wire_keeper_msg(TOE_CTL_CONNECT, &m);
	assert_int_equal(w.reply.status, 0);
	w.at->slot = w.reply.u.conn.slot;
	w.at->token = m.u.conn.token;
	*wire_token(w.at->token) = w.at->slot;
	wire_settle();
}

/* bind PORT: the next CONNECT is from there. */
static void verb_bind(char **rest)
{
	w.next_port = (uint16_t)wire_number(wire_next(rest));
}

/* The peer of the next CONNECT, to be set up before it. */
static void verb_connecting(char **rest)
{
	(void)rest;
	w.at = wire_peer_add(w.next_port, WIRE_REMOTE_PORT);
}

/* passive OPTIONS: a client connects with these options, 10 ms away, and is accepted. */
static void verb_passive(char **rest)
{
	const char *opts = *rest != NULL ? *rest : "";

	wire_do("< S 0:0 %s", opts);
	wire_do("> S. 0:0 ack 1 anyopts");
	wire_do("+10 < . 1 ack 1");
	wire_do("accept");
	*rest = NULL;
}

static void verb_active(char **rest)
{
	const char *opts = *rest != NULL ? *rest : "";

	wire_do("connect");
	wire_do("> S 0:0 anyopts");
	wire_do("+10 < S. 0:0 ack 1 %s", opts);
	wire_do("> . 1:1 ack 1 anyopts");
	*rest = NULL;
}

/* ---- the application's calls ---- */

/* The bytes are there, and nobody has been told. */
static void verb_put(char **rest)
{
	uint32_t n = wire_number(wire_next(rest));
	uint8_t *buf = sim.app.payload + toe_slot_tx_off(w.at->slot, SIM_BUF, SIM_BUF);
	struct toe_slot *s = wire_slot();

	if (w.at->written - s->tx_head + n > SIM_BUF)
		wire_fail("the send buffer has no room for %u bytes", n);
	for (uint32_t i = 0; i < n; i++, w.at->written++)
		buf[w.at->written % SIM_BUF] = wire_byte(w.at->written, false);
	__atomic_store_n(&s->tx_tail, w.at->written, __ATOMIC_RELEASE);
}

static void verb_write(char **rest)
{
	verb_put(rest);
	wire_doorbell();
	wire_settle();
}

static void verb_read(char **rest)
{
	uint32_t n = wire_number(wire_next(rest));
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

static void verb_readable(char **rest)
{
	uint32_t n = wire_number(wire_next(rest));

	wire_settle();
	if (wire_slot()->rx_tail - w.at->read != n)
		wire_fail("%u bytes are readable, expected %u", wire_slot()->rx_tail - w.at->read,
			  n);
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

static void verb_shutdown(char **rest)
{
	const char *which = wire_next(rest);

	wire_ctl(strcmp(which, "rd") == 0 ? TOE_CTL_SHUT_RD : TOE_CTL_SHUT_WR, true);
}

static void verb_nodelay(char **rest)
{
	wire_ctl(TOE_CTL_NODELAY, wire_number(wire_next(rest)) != 0);
}

static void verb_cork(char **rest)
{
	wire_ctl(TOE_CTL_CORK, wire_number(wire_next(rest)) != 0);
}

static void verb_linger0(char **rest)
{
	(void)rest;
	wire_ctl(TOE_CTL_LINGER0, true);
}

/* keepalive IDLE INTERVAL COUNT, seconds */
static void verb_keepalive(char **rest)
{
	struct toe_slot *s = wire_slot();

	s->keep_idle_s = wire_number(wire_next(rest));
	s->keep_intvl_s = wire_number(wire_next(rest));
	s->keep_cnt = wire_number(wire_next(rest));
	wire_ctl(TOE_CTL_KEEPALIVE, true);
}

static void verb_user_timeout(char **rest)
{
	wire_slot()->user_timeout_ms = wire_number(wire_next(rest));
}

/* Last reference gone. */
static void verb_close(char **rest)
{
	struct toe_ctl_msg m;

	(void)rest;
	wire_slot();
	memset(&m, 0, sizeof(m));
	m.u.token.app_id = SIM_APP;
	m.u.token.count = 1;
	m.u.token.ids[0] = w.at->token;
	wire_keeper_msg(TOE_CTL_CP_TOKEN_HUP, &m);
	wire_settle();
}

/* ---- what the application sees ---- */

static void verb_eof(char **rest)
{
	(void)rest;
	wire_settle();
	if (!(wire_slot()->state & TOE_SLOT_RX_FIN))
		wire_fail("the application has not seen the end of the stream");
}

static void verb_noeof(char **rest)
{
	(void)rest;
	wire_settle();
	if (wire_slot()->state & TOE_SLOT_RX_FIN)
		wire_fail("the application sees an end of the stream");
}

/* error NAME, "none": no error */
static void verb_error(char **rest)
{
	static const struct {
		const char *name;
		uint32_t value;
	} known[] = {{"none", 0},
		     {"ECONNRESET", ECONNRESET},
		     {"EPIPE", EPIPE},
		     {"ETIMEDOUT", ETIMEDOUT},
		     {"ECONNREFUSED", ECONNREFUSED},
		     {"EHOSTUNREACH", EHOSTUNREACH},
		     {"ENETUNREACH", ENETUNREACH}};
	const char *name = wire_next(rest);
	const struct toe_slot *s = wire_slot();
	uint32_t is;

	wire_settle();
	is = s->state & TOE_SLOT_ERROR ? s->error : 0;
	for (unsigned i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(known[i].name, name) == 0) {
			if (is != known[i].value)
				wire_fail("the error is %u (%s), expected %s", is,
					  strerror((int)is), name);
			return;
		}
	wire_fail("unknown error '%s'", name);
}

/* acked N: so many bytes of the send buffer are free again. */
static void verb_acked(char **rest)
{
	uint32_t n = wire_number(wire_next(rest));

	wire_settle();
	if (wire_slot()->tx_head != n)
		wire_fail("%u bytes are acknowledged, expected %u", wire_slot()->tx_head, n);
}

static void verb_nothing(char **rest)
{
	(void)rest;
}

static void verb_neighbour(char **rest)
{
	wire.dead_link = strcmp(wire_next(rest), "silent") == 0;
}

/* ---- dispatch ---- */

static const struct {
	const char *name;
	wire_verb *run;
} wire_verbs[] = {
	{"<", verb_send},
	{"accept", verb_accept},
	{"acked", verb_acked},
	{"active", verb_active},
	{"again", verb_again},
	{"bind", verb_bind},
	{"close", verb_close},
	{"connect", verb_connect},
	{"connecting", verb_connecting},
	{"cork", verb_cork},
	{"count", verb_count},
	{"drain", verb_drain},
	{"eof", verb_eof},
	{"error", verb_error},
	{"flood", verb_flood},
	{"icmp", verb_icmp},
	{"isn", verb_isn},
	{"keepalive", verb_keepalive},
	{"linger0", verb_linger0},
	{"listen", verb_listen},
	{"neighbour", verb_neighbour},
	{"noaccept", verb_noaccept},
	{"nodelay", verb_nodelay},
	{"noeof", verb_noeof},
	{"nothing", verb_nothing},
	{"passive", verb_passive},
	{"peer", verb_peer},
	{"peer_isn", verb_peer_isn},
	{"read", verb_read},
	{"readable", verb_readable},
	{"shutdown", verb_shutdown},
	{"state", verb_state},
	{"tolerance", verb_tolerance},
	{"ts_skew", verb_ts_skew},
	{"user_timeout", verb_user_timeout},
	{"window", verb_window},
	{"write", verb_write},
	{"put", verb_put},
};

static void wire_verb_run(const char *word, char **rest)
{
	for (unsigned i = 0; i < sizeof(wire_verbs) / sizeof(wire_verbs[0]); i++)
		if (strcmp(wire_verbs[i].name, word) == 0) {
			wire_verbs[i].run(rest);
			return;
		}
	wire_fail("unknown statement '%s'", word);
}

/* times N STATEMENT [; STATEMENT]... */
static void wire_times(char **rest)
{
	uint32_t n = wire_number(wire_next(rest));

	while (n-- > 0) {
		char copy[WIRE_LINE];
		char *save = NULL;

		snprintf(copy, sizeof(copy), "%s", *rest);
		for (char *s = strtok_r(copy, ";", &save); s; s = strtok_r(NULL, ";", &save))
			wire_do("%s", s);
	}
}

/* [+MS] STATEMENT */
static void wire_line(char *line)
{
	char copy[WIRE_LINE];
	char *rest = NULL;
	char *word, *end;
	uint64_t at;

	snprintf(copy, sizeof(copy), "%s", line);
	copy[strcspn(copy, "#\r\n")] = '\0';
	word = strtok_r(copy, " \t", &rest);
	if (word == NULL)
		return;
	if (strcmp(word, "ipv4") == 0 || strcmp(word, "ipv6") == 0)
		return; /* the runner has chosen */
	if (strcmp(word, "config") == 0) {
		verb_config(&rest);
		return;
	}
	wire_start();
	at = wire.cursor_us;
	if (*word == '+') {
		at += (uint64_t)(strtod(word + 1, &end) * 1000 + 0.5);
		if (*end != '\0' && strcmp(end, "s") == 0)
			at += (at - wire.cursor_us) * 999;
		else if (*end != '\0')
			wire_fail("'%s' is no time", word);
		word = wire_next(&rest);
	}
	if (strcmp(word, "times") == 0) {
		wire_times(&rest);
		return;
	}
	if (strcmp(word, ">") == 0) {
		wire_expect(at, &rest);
		return;
	}
	wire_advance(at, false);
	if (strcmp(word, "drain") != 0)
		wire_check_silent();
	wire.cursor_us = at > wire.cursor_us ? at : wire.cursor_us;
	wire_verb_run(word, &rest);
}

/* After the last line: nothing unexpected, nothing left in the pools. */
static void wire_end(void)
{
	wire_start();
	wire_settle();
	wire_check_silent();
	sim_check_pools();
}

#endif
