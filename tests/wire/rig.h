/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The engine behind wire scripts as an interface, struct wire_engine, with its application.
 * virtual.h is one (stages and control plane in virtual time), veth.h another (the running engine
 * and a real program).
 *
 * A failed check prints why and ends the process: each script runs in a child of its own.
 */
#ifndef TOE_TEST_WIRE_RIG_H
#define TOE_TEST_WIRE_RIG_H

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WIRE_EPOCH 1000000u /* us: when a script begins */

struct wire_peer;

static void wire_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

enum wire_option {
	WIRE_NODELAY,
	WIRE_CORK,
	WIRE_LINGER0,
	WIRE_KEEPALIVE,
	WIRE_USER_TIMEOUT,
	WIRE_TOS,
	WIRE_TTL
};

/* The engine and its application.  Those of the application are about w.at. */
struct wire_engine {
	/* Before the first statement that needs it. */
	void (*start)(void);
	/* At the end of a script that passed. */
	void (*end)(void);
	uint64_t (*now_us)(void);
	/* Exit status of a script that has failed; NULL: 1. */
	int (*status)(void);
	/* To the engine. */
	void (*frame)(uint8_t *frame, uint32_t len);
	/* All that follows at once from what was done has happened; frames have gone to
	 * wire_came(). */
	void (*settle)(void);
	/* A little later, for conditions that are waited for; false: there is nothing to wait for.
	 */
	bool (*wait)(void);
	/* Lets time go by until then, or until a frame comes. */
	void (*advance)(uint64_t us, bool stop_at_frame);
	/* RFC 9293's name; LISTEN also if there is no connection. */
	const char *(*state)(const struct wire_peer *p);
	/* False: there is none of this name.  NULL: counters are everybody's, not compared. */
	bool (*counter)(const char *name, uint64_t *value);
	/* False: no such setting. */
	bool (*config)(const char *name, uint32_t value);
	/* Why it cannot carry out a statement, so that the script is for others; NULL: it can. */
	const char *(*lacks)(const char *name);
	/* Statements that only it has; false: none of this name. */
	bool (*statement)(const char *name, char **rest);

	void (*listen)(uint32_t backlog);
	/* The oldest connection to be accepted, which must be of w.at; false: there is none. */
	bool (*accept)(bool only_look);
	void (*connect)(void);
	void (*write)(uint32_t n);
	void (*read)(uint32_t n);
	uint32_t (*readable)(void);
	uint32_t (*acked)(void); /* bytes of the stream that the peer has acknowledged */
	bool (*eof)(void);
	int (*error)(void); /* errno, 0: none */
	void (*shutdown)(bool rd);
	void (*option)(enum wire_option o, const uint32_t v[3]);
	void (*close)(void);
};

/* The one of this program: virtual.h or veth.h. */
static const struct wire_engine wire_engine;

static struct wire_rig {
	const struct wire_engine *engine;
	const char *script;
	unsigned line;
	bool started;
	bool six;           /* over IPv6 */
	uint64_t cursor_us; /* of the script */
	uint32_t tolerance_us, early_us;
	uint32_t slack_us;           /* of the clock, on top of what a script tolerates */
	uint32_t engine_ip, peer_ip; /* host order; 10.0.0.1 and 10.0.0.2 in scripts */
	uint16_t port_shift;         /* added to all ports on the wire */
	uint32_t buf;                /* bytes of a connection, each direction */
	uint32_t away_ms;            /* of a peer, when it connects or answers a SYN */
} wire = {
	.engine = &wire_engine,
	.tolerance_us = 2000,
	.early_us = 1500, /* what is measured in ms may be early by one */
	.engine_ip = 0x0a000001u,
	.peer_ip = 0x0a000002u,
	.buf = 65536,
	.away_ms = 10,
};

static void wire_fail(const char *fmt, ...)
{
	va_list ap;

	printf("%s:%u: ", wire.script ? wire.script : "?", wire.line);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf(" (at %.3f ms)\n", (double)(wire.engine->now_us() - WIRE_EPOCH) / 1000);
	fflush(stdout);
	_exit(wire.engine->status != NULL ? wire.engine->status() : 1);
}

#endif
