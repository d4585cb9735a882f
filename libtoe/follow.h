/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One connection whose MQTT is read along: what follow.c, which owns it, and follow_news.c, which
 * makes news for the engine of its bytes, know of it.
 */
#ifndef LT_FOLLOW_H
#define LT_FOLLOW_H

#include "libtoe/lt.h"
#include "libtoe/websocket.h"
#include "modules/mqtt/mqtt_wire.h"

#define LT_FOLLOW_PACKET_MAX 4096u /* of CONNECT and SUBSCRIBE, without the fixed header */

enum lt_follow_state { LT_FOLLOW_FREE, LT_FOLLOW_IDLE, LT_FOLLOW_BUSY };

/* Memory that most of them never touch. */
struct lt_follow_room {
	struct lt_ws web_in; /* of what is read, with web */
	struct lt_ws web_out;
	uint8_t body[LT_FOLLOW_PACKET_MAX];
};

/* Of whoever made it BUSY; the other threads look at state, tls, bridge, watch, and set lost. */
struct lt_follow {
	uint32_t state; /* enum lt_follow_state */
	bool told;      /* the engine counts it as followed */
	bool lost;      /* somebody read beside us */
	bool tls;       /* only what comes out of TLS counts */
	bool bridge;    /* the program opened it: nothing that is read counts */
	bool web;       /* MQTT in WebSocket */
	bool heard;     /* the stage knows of it, whether it follows it or not */
	bool any;       /* it could not be told of: if it is accepted, any session may change */
	bool watch;     /* what is written counts: with web until CONNECT is told of, and asked */
	bool asked;     /* for a session nobody knows: CONNACK will say, ClientID in body */
	uint8_t level;
	uint8_t ack_n;
	uint8_t ack_body[2];
	uint16_t id_at; /* of the ClientID, with asked */
	uint16_t id_len;
	uint32_t len;              /* in body */
	struct mqtt_framer framer; /* of what is read */
	struct mqtt_framer ack;    /* of what is written, with asked */
	uint32_t conn;             /* number for the engine */
	uint32_t slot1;            /* as in toe_ctl_kconn */
	struct lt_follow_room *room;
};

/* ---- follow_news.c; s is the caller's ---- */

/* Tells the stage; data of at most what a message takes.  0 or -errno. */
int lt_follow_say(struct lt_follow *s, uint8_t what, const uint8_t *data, size_t len);
/* The connection subscribes to all of f.  False: not all were told of. */
bool lt_follow_filters(struct lt_follow *s, const struct lt_filters *f);
/* Bytes the program has read, or written while s->watch.  False: it is not to be followed. */
bool lt_follow_in(struct lt_follow *s, const uint8_t *data, size_t len);
bool lt_follow_out(struct lt_follow *s, const uint8_t *data, size_t len);

#endif
