/* SPDX-License-Identifier: BSD-3-Clause */
/* LINK: tests/unit/mqtt_world.c tests/unit/mqtt_world_client.c tests/unit/mqtt_oracle.c
 * tests/unit/mqtt_broker.h */
/*
 * Clients, engine, MQTT stage (mqtt_fake.h) and a reference broker (mqtt_broker.h) in one
 * single-threaded world, driven by choices: a seed, or a fuzzer's bytes.
 *
 * An oracle watches what the stage sends to each client.  For each (publisher's connection, topic,
 * QoS) the messages come in order, none twice, and none is missing, but for those whose time from
 * being written to being processed overlaps the time from a (UN)SUBSCRIBE being written to its
 * answer being sent, and for copies that were dropped and counted.
 *
 * Clients end in every way, by reset, too, and come back at once, several times, with messages and
 * SUBSCRIBEs behind CONNECT, or with a CONNECT in two parts.  For each (ClientID, topic, QoS) the
 * messages of one connection come before those of the next, by the order in which the broker
 * accepted them, and a connection's will, once at most, between.  Not promised: what the stage took
 * when the next CONNECT had been at the broker for a second, and what waits for a blocked
 * subscriber for longer than CONNECT waits.
 */
#ifndef MQTT_WORLD_H
#define MQTT_WORLD_H

#include "mqtt_broker.h"

struct world_opts {
	uint64_t seed;
	const uint8_t *data; /* choices, when there are any; then the seed goes on */
	size_t len;
	unsigned steps;
	bool verbose;
	bool shadow; /* mode */
};

/* NULL: all was right; else what was wrong (static text). */
const char *world_run(const struct world_opts *o);

/* Sums over all runs: a test that exercises nothing fails. */
struct world_stats {
	uint64_t messages, fast, delivered, deferred, blocked, unblocked, drops, broker_drops;
	uint64_t acks_dropped, takeovers, activated, fence_waits, required, lost_conns,
		blocked_drops, unproven_drops, compared, skipped;
	/* of clients that come back */
	uint64_t unfinished, older_waits, pipelined, halves, resets_unread, wills, vanished;
};
extern struct world_stats world_stats;

#endif
