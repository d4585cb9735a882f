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
#define LT_FOLLOW_NEWS       sizeof(((struct toe_ctl_kconn *)0)->data)

enum lt_follow_state { LT_FOLLOW_FREE, LT_FOLLOW_IDLE, LT_FOLLOW_BUSY };

/* Memory of which most of them touch the first page only. */
struct lt_follow_room {
	uint8_t id[LT_FOLLOW_NEWS]; /* ClientID */
	uint8_t body[LT_FOLLOW_PACKET_MAX];
	uint8_t early[2048]; /* filters, as in TOE_KCONN_MQTT_FILTER, before the answer */
} __attribute__((aligned(4096)));

struct lt_follow_web {
	struct lt_ws in, out; /* of what is read, of what is written */
};

/*
 * Of whoever made it BUSY; the other threads look at state, tls, bridge, watch, and set lost.
 *
 * Nothing is told before the broker has accepted the client: a session is not what somebody says
 * whom it refuses.  Until then the connection taints.
 */
struct lt_follow {
	uint32_t state; /* enum lt_follow_state */
	bool told;      /* the engine counts it as followed */
	bool lost;      /* somebody read beside us */
	bool deaf; /* what is read cannot be followed, but what came of CONNECT is not known yet */
	bool tls;  /* only what comes out of TLS counts */
	bool bridge;   /* the program opened it: nothing that is read counts */
	bool heard;    /* the stage knows of it, whether it follows it or not */
	bool watch;    /* what is written counts: until CONNACK */
	bool asked;    /* CONNECT has been read, and not been answered */
	bool accepted; /* the answer was: yes */
	bool any;      /* if it is accepted, any session may change: who it is cannot be told */
	bool clean;    /* of CONNECT */
	bool lasts;    /* the session outlives the connection */
	uint8_t level;
	uint8_t ack_n;
	uint8_t ack_body[2];
	uint16_t id_len; /* in room->id, unless any */
	uint16_t early_len;
	uint32_t len;              /* in room->body */
	struct mqtt_framer framer; /* of what is read */
	struct mqtt_framer ack;    /* of what is written */
	uint32_t conn;             /* number for the engine */
	uint32_t slot1;            /* as in toe_ctl_kconn */
	struct lt_follow_room *room;
	struct lt_follow_web *web; /* NULL: no WebSocket around it */
};

/* ---- follow_news.c; s is the caller's ---- */

/* Tells the stage; data of at most what a message takes.  0 or -errno. */
int lt_follow_say(struct lt_follow *s, uint8_t what, const uint8_t *data, size_t len);
/* The connection subscribes to all of f.  False: not all were told of. */
bool lt_follow_filters(struct lt_follow *s, const struct lt_filters *f);
/* Bytes the program has read, or written while s->watch.  False: it is not to be followed, and if
 * s->accepted, it has a session nobody will know. */
bool lt_follow_in(struct lt_follow *s, const uint8_t *data, size_t len);
bool lt_follow_out(struct lt_follow *s, const uint8_t *data, size_t len);

#endif
