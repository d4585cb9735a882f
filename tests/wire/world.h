/* SPDX-License-Identifier: BSD-3-Clause */
/* What wire scripts know of the world: the peer's side of connections, and the frames that came. */
#ifndef TOE_TEST_WIRE_WORLD_H
#define TOE_TEST_WIRE_WORLD_H

#include "agent.h"
#include "common/tcp_seq.h"
#include "rig.h"
#include "tests/unit/frames.h"

#define WIRE_NONE  0xffffffffu
#define WIRE_FRAME 1600u

#define WIRE_SERVER_PORT 80u    /* ours, listening */
#define WIRE_PEER_PORT   40000u /* the peer's, unless a script says otherwise */
#define WIRE_LOCAL_PORT  50000u /* ours, active opens: the first one */
#define WIRE_REMOTE_PORT 9000u  /* the peer's, active opens */
#define WIRE_FLOOD_PORT  20000u /* the peer's: answers to these ports are counted only */
#define WIRE_FLOOD_N     10000u
#define WIRE_PEERS       8u
#define WIRE_FRAMES      2048u
/* Of the link.  20 more over IPv6, so that a script's segments are as long as over IPv4. */
#define WIRE_MTU (wire.six ? 1520u : 1500u)
/* Where TCP begins in a frame of the engine, which has neither IP options nor extension headers. */
#define WIRE_TCP (wire.six ? 54u : 34u)

/* One connection as the peer sees it; sequence numbers relative to the initial ones. */
struct wire_peer {
	uint16_t port;  /* the peer's */
	uint16_t lport; /* the engine's */
	uint32_t irs;   /* the peer's initial sequence number */
	uint32_t iss;   /* the engine's */
	bool iss_known;
	bool ts; /* both have offered timestamps: on everything from now on */
	bool ws; /* likewise, windows are scaled */
	bool own_ts_offer, own_ws_offer, ts_offer, ws_offer; /* the peer's, the engine's */
	uint8_t engine_ws;                                   /* shift of the engine's windows */
	uint32_t ts_val;                                     /* last TSval of the engine */
	uint32_t label;  /* flow label of the engine's packets */
	uint8_t tos;     /* Diffserv field they must have */
	uint8_t ttl;     /* and hop limit; 0: 64 */
	int32_t ts_skew; /* added to the peer's timestamps */
	uint32_t nxt;    /* last ACK of the engine */
	uint32_t edge;   /* right edge it has advertised */
	uint32_t max;    /* highest sequence number it has sent */
	uint32_t una;    /* last ACK of the peer */
	uint32_t pnxt;   /* the peer's next sequence number */
	uint32_t win;    /* window field of the peer */
	uint32_t slot;   /* WIRE_NONE: not accepted */
	uint32_t token;
	uint32_t read;
	uint32_t written;
};

struct wire_frame {
	uint64_t us;
	uint32_t len;
	uint8_t data[WIRE_FRAME];
};

static struct {
	struct wire_peer peer[WIRE_PEERS];
	unsigned peer_n;
	struct wire_peer *at; /* the one the script speaks for */
	struct wire_frame frame[WIRE_FRAMES];
	unsigned frame_head, frame_tail;
	unsigned flood_synacks, flood_others;
	uint16_t next_port;          /* of the engine's next CONNECT */
	uint32_t sent_end, sent_ack; /* of the peer's last segment */
} w = {.next_port = WIRE_LOCAL_PORT};

/* As a frame leaves the engine. */
static void wire_came(const uint8_t *data, uint32_t len)
{
	struct wire_frame *f = &w.frame[w.frame_tail % WIRE_FRAMES];

	if (w.frame_tail - w.frame_head == WIRE_FRAMES)
		wire_fail("more than %u segments nobody asked for", WIRE_FRAMES);
	f->us = wire.engine->now_us();
	f->len = len;
	memcpy(f->data, data, len);
	w.frame_tail++;
}

static struct wire_peer *wire_peer_add(uint16_t lport, uint16_t port)
{
	struct wire_peer *p = &w.peer[w.peer_n++];

	if (w.peer_n > WIRE_PEERS)
		wire_fail("more than %u peers", WIRE_PEERS);
	*p = (struct wire_peer){.port = port,
				.lport = lport,
				.irs = 0xffffff00u, /* wraps soon */
				.win = 60000,
				.slot = WIRE_NONE,
				.pnxt = 0};
	return p;
}

static void wire_start(void)
{
	if (wire.started)
		return;
	wire.started = true;
	wire.engine->start();
	wire.cursor_us = wire.engine->now_us();
	w.at = wire_peer_add(WIRE_SERVER_PORT, WIRE_PEER_PORT);
}

#endif
