/* SPDX-License-Identifier: BSD-3-Clause */
/* Inside of the model world: what mqtt_world.c (steps), mqtt_world_client.c (what clients do) and
 * mqtt_oracle.c (what is right) share. */
#ifndef MQTT_WORLD_INT_H
#define MQTT_WORLD_INT_H

#include "mqtt_world.h"

#define INST_MAX  72u
#define MSG_MAX   700u
#define WIN_MAX   48u
#define TOPICS    7u
#define FILTERS   9u
#define NAMES     6u
#define READERS   2u /* of them, if the others end often: these subscribe, and stay */
#define MSG_BYTES 2100u
#define PINGS     64u
#define NEVER     UINT64_MAX
#define LATE_MS   70000u

struct msg {
	uint32_t by; /* instance */
	uint8_t topic, qos, retain;
	bool will;
	uint32_t seq;
	uint32_t pos; /* in what its client has written: its end */
	uint16_t len;
	uint64_t start; /* written by its client; a will: published by the broker */
	uint64_t end;   /* known to be processed */
};

/* One subscription of a client, from SUBSCRIBE written to UNSUBACK sent. */
struct window {
	uint8_t filter;
	bool no_local, gone;
	bool asked;                /* on this connection, too */
	const struct window *from; /* of the connection before, which this one resumes */
	uint64_t sub, ack, unsub, unack;
	uint64_t again; /* latest SUBACK: retained messages come again */
};

struct request {
	uint16_t pid;
	uint8_t type, n, filter;
	uint8_t win[4];
	uint64_t at;
};

/* The last message of a client at a subscriber: of which connection, and which. */
struct place {
	uint32_t rank, seq;
};
#define WILL 3u /* beside the QoS */

/* One connection of a client. */
struct inst {
	bool used, alive, connected, reading, no_more, clean, keeps, bridge;
	bool over, reset; /* its client writes no more */
	bool parted;      /* the broker has handled its end */
	bool gone;        /* closed, and not all it published was with its subscribers */
	uint64_t gone_at;
	uint64_t blocked_at; /* the last time it was */
	uint32_t rank;       /* the n-th whose CONNECT the broker has handled, 0: not yet */
	uint32_t written;    /* bytes of its client */
	size_t read;
	struct bytes rest; /* of CONNECT, to be written */
	/* What the stage had of others of the name when this one's CONNECT waited, and when it
	 * went to the broker. */
	bool waited, reached, gave_up;
	bool blocked[INST_MAX]; /* others, when it went to the broker */
	uint32_t waited_ms, reached_ms, connected_ms;
	uint32_t pos_waited[INST_MAX], pos_reached[INST_MAX];
	uint8_t level, name;
	uint32_t id; /* in the fake */
	uint64_t opened;
	uint16_t pid;
	uint32_t pings, pongs;
	uint32_t ping_pos[PINGS]; /* as written: the beginning of the n-th, modulo PINGS */
	uint32_t rel_n;
	uint16_t rel[32]; /* PUBREC seen, PUBREL to be written */
	struct bytes in;  /* what the stage sent, up to a whole packet */
	struct window win[WIN_MAX];
	unsigned win_n;
	struct request req[32];
	unsigned req_n;
	uint32_t seq[TOPICS][3];
	struct place last[NAMES][TOPICS][4];
	uint64_t live_start[TOPICS]; /* latest start of a live message that came */
	uint8_t got[MSG_MAX];
	uint8_t dropped[MSG_MAX]; /* by the broker */
};

struct world {
	struct world_opts o;
	uint64_t rnd;
	size_t at;
	struct fake *f;
	bool again;    /* clients publish fast, end often, and come back at once */
	bool hurry;    /* who comes now publishes slow, and soon */
	bool calm;     /* subscriptions hardly change after a while */
	unsigned slow; /* clients stop reading for so many ms; LATE_MS: the broker is late, too */
	struct broker *b;
	uint64_t t;
	struct inst inst[INST_MAX];
	unsigned inst_n;
	uint32_t rank_n;
	struct msg msg[MSG_MAX];
	unsigned msg_n;
	uint32_t of_id[FAKE_CONNS]; /* instance of a fake connection */
	const char *wrong;
};

extern const char *const world_topic[TOPICS];
extern const char *const world_filter[FILTERS];

unsigned world_pick(struct world *w, unsigned n);
void world_wrong(struct world *w, const char *what);
/* The payload's byte i of message n. */
uint8_t world_byte(uint32_t n, unsigned i);

struct mqtt_conn *world_state(struct world *w, const struct inst *i);

/* mqtt_world_client.c */
void world_connect(struct world *w, unsigned name);
/* Writes what is left of CONNECT. */
void world_finish_connect(struct world *w, struct inst *i);
void world_subscribe(struct world *w, struct inst *i);
void world_unsubscribe(struct world *w, struct inst *i);
void world_publish(struct world *w, struct inst *i);
void world_pubrel(struct world *w, struct inst *i);
void world_ping(struct world *w, struct inst *i);
void world_reset(struct world *w, struct inst *i);
void world_close(struct world *w, struct inst *i);
/* The control plane gives it up, with what it has published still under way. */
void world_vanish(struct world *w, struct inst *i);
/* It ends, and perhaps one or more of its name come at once. */
void world_end(struct world *w, struct inst *i);

/* mqtt_oracle.c */
/* After each step. */
void oracle_look(struct world *w);
void oracle_reached(void *arg, uint32_t id);
void oracle_connected(void *arg, uint32_t id);
void oracle_over(void *arg, uint32_t id);
void oracle_sent(void *arg, uint32_t id, const uint8_t *data, size_t n);
void oracle_handled(void *arg, uint32_t n);
void oracle_dropped(void *arg, uint32_t conn, uint32_t m);
void oracle_end(struct world *w, uint64_t drops);

/* What the stage counted: sums, and that it saw no difference to the broker. */
struct mqtt_stage;
void oracle_stage(struct world *w, const struct mqtt_stage *st);

#endif
