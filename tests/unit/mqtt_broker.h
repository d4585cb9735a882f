/* SPDX-License-Identifier: BSD-3-Clause */
/* LINK: tests/unit/mqtt_fake.c tests/unit/mqtt_fake_api.c tests/unit/mqtt_broker.c
 * tests/unit/mqtt_broker_out.c datapath/stream_mem.c datapath/stream_extq.c common/log.c
 * tests/unit/mqtt_module.h */
/*
 * A reference broker for tests, on the application's side of mqtt_fake.h.  It behaves as mosquitto
 * 2.0.11 was seen to: packets of one connection in order and to their end; deliveries written at
 * once, or kept in a queue per client when its buffer is full; SUBACK, then retained messages,
 * which wait for the next live message if the client is behind; answers dropped at the queue's
 * limit; one copy per subscription at level 5, one per client below.  A will is published before
 * its connection is closed, but not if the session goes on with the connection that takes it over.
 * It shares no code with the product.  The first four payload bytes of a message are its number.
 */
#ifndef MQTT_BROKER_H
#define MQTT_BROKER_H

#include "mqtt_fake.h"

#define BROKER_PACKET_MAX (1u << 21)

struct broker_hooks {
	void *arg;
	/* Message msg has been delivered to all. */
	void (*handled)(void *arg, uint32_t msg);
	/* The copy of msg for that connection was dropped: its queue is full. */
	void (*dropped)(void *arg, uint32_t conn, uint32_t msg);
	/* It has accepted CONNECT: the session is this connection's from now on. */
	void (*connected)(void *arg, uint32_t conn);
	/* It has handled all that came up to DISCONNECT, the end, or a reset. */
	void (*over)(void *arg, uint32_t conn);
};

struct broker_conn_view {
	bool alive;        /* accepted and not closed by the broker */
	bool bad;          /* it sent something that is no MQTT here: closed */
	uint32_t pings_in; /* PINGREQ received */
	uint32_t acks_dropped;
	size_t queued;    /* packets in its queue */
	size_t unhandled; /* bytes read and not handled */
};

struct broker;

struct broker *broker_new(struct fake *f, uint32_t queue_limit, const struct broker_hooks *h);
void broker_free(struct broker *b);
void broker_accept(struct broker *b, uint32_t id);
/* From now on it leaves one connection or the other alone for up to ms, 0: it does not. */
void broker_late(struct broker *b, uint32_t ms);
/* From now on it does not read what came before a reset, of one connection in n. */
void broker_hasty(struct broker *b, unsigned n);
/* Handles at most packets of connection id; returns how many. */
unsigned broker_step(struct broker *b, uint32_t id, unsigned packets);
/* Writes what is queued, as far as there is room. */
bool broker_flush(struct broker *b, uint32_t id);
/* The connection is gone (reset, or closed by the client). */
void broker_gone(struct broker *b, uint32_t id);
/* Closes it from the broker's side. */
void broker_close(struct broker *b, uint32_t id);
void broker_view(const struct broker *b, uint32_t id, struct broker_conn_view *out);

/* Topic against filter, level by level (4.7); the oracle's, too. */
bool broker_match(const char *filter, const char *topic);

#endif
