/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * MQTT stage, broker -> client, as the stage's other files see it.  Thread: the stream stage's.
 */
#ifndef MQTT_TX_H
#define MQTT_TX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum mqtt_counter;
struct mqtt_conn;
struct mqtt_encoding;
struct mqtt_group_entry;
struct mqtt_job;
struct mqtt_stage;
struct toe_buf;
struct toe_stream;
struct toe_stream_conn;

size_t mqtt_tx(struct toe_stream *s, struct toe_stream_conn *c, struct toe_buf *b, uint32_t off,
	       uint32_t len);
/* UNSUBACKs that wait no more, the oldest MQTT_WAITERS; returns how many. */
unsigned mqtt_tx_waiters(struct mqtt_stage *st);
/* There is one. */
bool mqtt_tx_waiter_ready(const struct mqtt_stage *st);
/* Appends a copy where its place is; counts.  en: the subscription it is for, NULL: more than one.
 */
void mqtt_tx_copy(struct mqtt_stage *st, struct toe_stream_conn *c, const struct mqtt_job *j,
		  const struct mqtt_encoding *e, const struct mqtt_group_entry *en);
/* A copy for m that is not sent: counted. */
void mqtt_tx_drop(struct mqtt_stage *st, const struct mqtt_conn *m, enum mqtt_counter why);
/* Deferred copies whose turn has come. */
void mqtt_tx_flush(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m);
void mqtt_tx_drop_deferred(struct mqtt_stage *st, struct mqtt_conn *m);
/* Those made before the event: UNSUBACK of a request that was forwarded then is next, and the
 * broker's queue is first in, first out. */
void mqtt_tx_flush_before(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m,
			  uint32_t event);
/* The broker has caught up with m: its copies hold nobody any more. */
void mqtt_tx_settle(struct mqtt_stage *st, struct mqtt_conn *m);
/* Copies of publisher p are given up if their receivers have been blocked for too long; looks at
 * MQTT_HELD_WALK. */
void mqtt_tx_drop_held(struct mqtt_stage *st, struct mqtt_conn *p);

#endif
