/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Statements of wire scripts about the application, whole handshakes, and the table of all
 * statements.
 */
#ifndef TOE_TEST_WIRE_APP_H
#define TOE_TEST_WIRE_APP_H

#include <errno.h>

#include "script.h"

static void verb_listen(char **rest)
{
	char *backlog = strtok_r(NULL, " \t", rest);

	wire.engine->listen(backlog != NULL ? wire_number(backlog) : 8);
}

static bool wire_accepted(const void *only_look)
{
	return wire.engine->accept(only_look != NULL);
}

/* Takes the oldest connection that waits; it must be this peer's. */
static void verb_accept(char **rest)
{
	(void)rest;
	if (!wire_until(wire_accepted, NULL))
		wire_fail("there is no connection to accept");
}

static void verb_noaccept(char **rest)
{
	(void)rest;
	wire.engine->settle();
	if (wire.engine->accept(true))
		wire_fail("there is a connection to accept");
}

/* Active open; the statements that follow are about it. */
static void verb_connect(char **rest)
{
	(void)rest;
	if (w.at->lport != w.next_port)
		w.at = wire_peer_add(w.next_port, WIRE_REMOTE_PORT);
	wire.engine->connect();
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

/* away MS: the peers of `passive` and `active` are so far away. */
static void verb_away(char **rest)
{
	wire.away_ms = wire_number(wire_next(rest));
}

/* passive OPTIONS: a client connects with these options and is accepted. */
static void verb_passive(char **rest)
{
	const char *opts = *rest != NULL ? *rest : "";

	wire_do("< S 0:0 %s", opts);
	wire_do("> S. 0:0 ack 1 anyopts");
	wire_do("+%u < . 1 ack 1", wire.away_ms);
	wire_do("accept");
	*rest = NULL;
}

static void verb_active(char **rest)
{
	const char *opts = *rest != NULL ? *rest : "";

	wire_do("connect");
	wire_do("> S 0:0 anyopts");
	wire_do("+%u < S. 0:0 ack 1 %s", wire.away_ms, opts);
	wire_do("> . 1:1 ack 1 anyopts");
	*rest = NULL;
}

/* ---- the application's calls ---- */

static void verb_write(char **rest)
{
	wire.engine->write(wire_number(wire_next(rest)));
}

static void verb_read(char **rest)
{
	wire.engine->read(wire_number(wire_next(rest)));
}

static bool wire_readable_is(const void *n)
{
	return wire.engine->readable() == *(const uint32_t *)n;
}

static void verb_readable(char **rest)
{
	uint32_t n = wire_number(wire_next(rest));

	if (!wire_until(wire_readable_is, &n))
		wire_fail("%u bytes are readable, expected %u", wire.engine->readable(), n);
}

static void verb_shutdown(char **rest)
{
	wire.engine->shutdown(strcmp(wire_next(rest), "rd") == 0);
}

static void verb_nodelay(char **rest)
{
	wire.engine->option(WIRE_NODELAY, (uint32_t[3]){wire_number(wire_next(rest))});
}

static void verb_cork(char **rest)
{
	wire.engine->option(WIRE_CORK, (uint32_t[3]){wire_number(wire_next(rest))});
}

static void verb_linger0(char **rest)
{
	(void)rest;
	wire.engine->option(WIRE_LINGER0, (uint32_t[3]){1});
}

/* keepalive IDLE INTERVAL COUNT, seconds */
static void verb_keepalive(char **rest)
{
	uint32_t v[3];

	for (unsigned i = 0; i < 3; i++)
		v[i] = wire_number(wire_next(rest));
	wire.engine->option(WIRE_KEEPALIVE, v);
}

static void verb_user_timeout(char **rest)
{
	wire.engine->option(WIRE_USER_TIMEOUT, (uint32_t[3]){wire_number(wire_next(rest))});
}

/* Of all segments from now on, which is checked. */
static void verb_tos(char **rest)
{
	uint32_t v[3] = {wire_number(wire_next(rest))};

	wire.engine->option(WIRE_TOS, v);
	w.at->tos = (uint8_t)(v[0] & 0xfc);
}

static void verb_ttl(char **rest)
{
	uint32_t v[3] = {wire_number(wire_next(rest))};

	wire.engine->option(WIRE_TTL, v);
	w.at->ttl = (uint8_t)v[0];
}

/* Last reference gone. */
static void verb_close(char **rest)
{
	(void)rest;
	wire.engine->close();
}

/* ---- what the application sees ---- */

static bool wire_eof(const void *unused)
{
	(void)unused;
	return wire.engine->eof();
}

static void verb_eof(char **rest)
{
	(void)rest;
	if (!wire_until(wire_eof, NULL))
		wire_fail("the application has not seen the end of the stream");
}

static void verb_noeof(char **rest)
{
	(void)rest;
	wire.engine->settle();
	if (wire.engine->eof())
		wire_fail("the application sees an end of the stream");
}

static bool wire_error_is(const void *want)
{
	return wire.engine->error() == *(const int *)want;
}

/* error NAME, "none": no error */
static void verb_error(char **rest)
{
	static const struct {
		const char *name;
		int value;
	} known[] = {{"none", 0},
		     {"ECONNRESET", ECONNRESET},
		     {"EPIPE", EPIPE},
		     {"ETIMEDOUT", ETIMEDOUT},
		     {"ECONNREFUSED", ECONNREFUSED},
		     {"EHOSTUNREACH", EHOSTUNREACH},
		     {"ENETUNREACH", ENETUNREACH}};
	const char *name = wire_next(rest);

	for (unsigned i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(known[i].name, name) == 0) {
			if (!wire_until(wire_error_is, &known[i].value))
				wire_fail("the error is %d (%s), expected %s", wire.engine->error(),
					  strerror(wire.engine->error()), name);
			return;
		}
	wire_fail("unknown error '%s'", name);
}

static bool wire_acked_is(const void *n)
{
	return wire.engine->acked() == *(const uint32_t *)n;
}

/* acked N: so many bytes of the send buffer are free again. */
static void verb_acked(char **rest)
{
	uint32_t n = wire_number(wire_next(rest));

	if (!wire_until(wire_acked_is, &n))
		wire_fail("%u bytes are acknowledged, expected %u", wire.engine->acked(), n);
}

static void verb_nothing(char **rest)
{
	(void)rest;
}

/* virtual REASON: this script is not for real time. */
static void verb_virtual(char **rest)
{
	*rest = NULL;
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
	{"away", verb_away},
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
	{"keepalive", verb_keepalive},
	{"linger0", verb_linger0},
	{"listen", verb_listen},
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
	{"tos", verb_tos},
	{"ts_skew", verb_ts_skew},
	{"ttl", verb_ttl},
	{"user_timeout", verb_user_timeout},
	{"virtual", verb_virtual},
	{"window", verb_window},
	{"write", verb_write},
};

static void wire_verb_run(const char *word, char **rest)
{
	for (unsigned i = 0; i < sizeof(wire_verbs) / sizeof(wire_verbs[0]); i++)
		if (strcmp(wire_verbs[i].name, word) == 0) {
			wire_verbs[i].run(rest);
			return;
		}
	if (!wire.engine->statement(word, rest))
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
	wire.engine->advance(at, false);
	if (strcmp(word, "drain") != 0)
		wire_check_silent();
	wire.cursor_us = at > wire.cursor_us ? at : wire.cursor_us;
	wire_verb_run(word, &rest);
}

/* After the last line: nothing unexpected, nothing left behind. */
static void wire_end(void)
{
	wire_start();
	wire.engine->settle();
	wire_check_silent();
	wire.engine->end();
}

#endif
