/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * MQTT stage, client -> broker, as the stage's other files see it.  Thread: the stream stage's.
 */
#ifndef MQTT_RX_H
#define MQTT_RX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mqtt_conn;
struct mqtt_stage;
struct toe_stream;
struct toe_stream_conn;

/* ---- mqtt_rx.c ---- */

size_t mqtt_rx(struct toe_stream *s, struct toe_stream_conn *c, const uint8_t *data, size_t len);
bool mqtt_rx_end(struct toe_stream *s, struct toe_stream_conn *c);
bool mqtt_rx_reset(struct toe_stream *s, struct toe_stream_conn *c);
/* No more bytes of it for now, why: MQTT_WAIT_. */
void mqtt_rx_wait(struct mqtt_stage *st, struct mqtt_conn *m, uint8_t why);
/* Are there fast messages of this publisher that are not yet where they belong, so that something
 * slow has to wait? */
bool mqtt_rx_pending(struct mqtt_stage *st, struct mqtt_conn *m);

/* What was waited for has come (or not in time). */
void mqtt_rx_proceed(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m);
/* The connection is lost: what was held goes on as it came. */
void mqtt_rx_lost(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m);
/* One of its fast messages, or a held copy of one, has been appended. */
void mqtt_rx_appended(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m);
/* The body of the packet in rx_buf, as far as it has come. */
const uint8_t *mqtt_rx_body(const struct mqtt_conn *m, uint32_t *len);
/* The fixed header, or what has been assembled, goes on; the rest of the packet as it comes. */
void mqtt_rx_pass_header(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m);
void mqtt_rx_pass_assembled(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m);

/* ---- mqtt_connect.c ---- */

/* CONNECT goes to the broker.  If m->client_id is not set, nobody knows whose it is: only when it
 * is accepted that matters, and until then nothing comes behind it. */
void mqtt_connect_pass(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m);
/* m, if its CONNECT is at the broker, does not wait for an answer any more. */
void mqtt_connect_answered(struct mqtt_stage *st, const struct mqtt_conn *m);
/* A CONNECT of m's ClientID is at the broker without an answer, or perhaps. */
bool mqtt_connect_another(struct mqtt_stage *st, const struct mqtt_conn *m);
/* m has another rx_buf, was: bytes of the one before.  The oldest go if there is too much in all;
 * false: that is m. */
bool mqtt_connect_count(struct mqtt_stage *st, struct mqtt_conn *m, size_t was);
/* More of it has come. */
void mqtt_connect_look(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m);
/* Not any more; rx_buf is still there. */
void mqtt_connect_uncount(struct mqtt_stage *st, struct mqtt_conn *m);

/* ---- mqtt_older.c ---- */

/* Has m to wait for an older connection of its ClientID (MQTT_WAIT_OLDER)? */
bool mqtt_older_wait(struct mqtt_stage *st, struct mqtt_conn *m);
/* Whenever a job has ended, and once a millisecond; returns how many it looked at. */
unsigned mqtt_older_tick(struct mqtt_stage *st);

#endif
