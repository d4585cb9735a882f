/* SPDX-License-Identifier: BSD-3-Clause */
/* Inside of the fake stream stage, shared by mqtt_fake.c (the test's side) and mqtt_fake_api.c (the
 * module's). */
#ifndef MQTT_FAKE_INT_H
#define MQTT_FAKE_INT_H

#include "datapath/stream_extq.h"
#include "mqtt_fake.h"

#define TICKETS 4096u

struct toe_stream_conn {
	struct toe_stream *s;
	uint32_t id, gen;
	bool open, dead;
	/* to the application */
	struct bytes cin; /* of the client, not taken */
	struct bytes fwd;
	uint32_t held;
	bool rx_wait, rx_fin, rx_ended;
	bool rst, rst_seen; /* by the application */
	bool reached;       /* the application has got bytes of it */
	/* to the client */
	struct bytes ring; /* the application's buffer: written, not fetched */
	uint32_t true_tail, tail, get;
	uint32_t true_short, shorts;
	uint64_t began; /* the order in which first bytes became known */
	uint32_t first; /* how many these were */
	bool true_fin, fin;
	bool tx_wait, tx_ended, rung;
	struct toe_extq tx;
};

struct toe_stream {
	const struct toe_stream_module *m;
	struct toe_arena *arena;
	void *priv;
	uint8_t *states;
	uint32_t ms;
	uint64_t users;
	uint32_t app_id, serial, kernel, followed, reloads, plain, plain_unseen;
	struct fake_opts o;
	struct toe_stream_conn conn[FAKE_CONNS];
	uint32_t bell[FAKE_CONNS]; /* doorbells, oldest first */
	uint64_t bell_no[FAKE_CONNS];
	uint32_t bell_n;
	uint64_t bells; /* rung ever */
	uint64_t begun;
	uint64_t ticket, synced;
	uint64_t ticket_bell[TICKETS]; /* by ticket: bells rung when it was given */
	fake_tap tap;
	void *tap_arg;
	fake_reach reach;
	void *reach_arg;
};

struct fake {
	struct toe_stream s;
};

/* Doorbells up to which all have been handled. */
void look_at_tickets(struct toe_stream *s);
void end_tx(struct toe_stream *s, struct toe_stream_conn *c);

#endif
