/* SPDX-License-Identifier: BSD-3-Clause */
/* What a wire script's application is asked to do, when it is a real program
 * (tests/progs/wire_agent). */
#ifndef TOE_TEST_WIRE_AGENT_H
#define TOE_TEST_WIRE_AGENT_H

#include <stdbool.h>
#include <stdint.h>

#define AGENT_CONNS 16u

enum agent_op {
	AGENT_LISTEN,       /* a port, b backlog, six */
	AGENT_ACCEPT,       /* value: the remote port, 0: there is no connection; a: only look */
	AGENT_CONNECT,      /* a local port, b remote port, six, to */
	AGENT_WRITE,        /* a bytes, b position of the first in the stream */
	AGENT_READ,         /* a bytes, b position; value: the first wrong one or the end */
	AGENT_READABLE,     /* value: bytes */
	AGENT_UNACKED,      /* value: bytes */
	AGENT_EOF,          /* value: 1 if the peer's end of the stream has come */
	AGENT_ERROR,        /* value: pending error of the socket, which stays */
	AGENT_SHUTDOWN,     /* a: 1 for reading */
	AGENT_NODELAY,      /* a: 0, 1 */
	AGENT_CORK,         /* a: 0, 1 */
	AGENT_LINGER0,      /* */
	AGENT_KEEPALIVE,    /* a idle s, b interval s, c count */
	AGENT_USER_TIMEOUT, /* a ms */
	AGENT_TOS,          /* a: Diffserv field */
	AGENT_TTL,          /* a */
	AGENT_CLOSE,
};

/* Answered by an agent_reply, in order.  conn: whose; the listener needs none. */
struct agent_call {
	uint32_t op, conn;
	uint32_t a, b, c;
	uint32_t six;   /* IPv6 */
	uint8_t to[16]; /* address; IPv4: 4 bytes of it */
};

struct agent_reply {
	int32_t error; /* errno */
	uint32_t value;
};

/* Byte of either stream. */
static inline uint8_t wire_byte(uint32_t pos, bool from_peer)
{
	return (uint8_t)((pos * 2654435761u + from_peer * 77u) >> 11);
}

#endif
