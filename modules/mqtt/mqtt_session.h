/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Inside of the MQTT stage: who is connected, who subscribed to what, and what is known of that
 * from elsewhere than the port.  Thread: the stream stage's.
 */
#ifndef MQTT_SESSION_H
#define MQTT_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "mqtt_wire.h"

struct mqtt_conn;
struct mqtt_stage;
struct toe_buf;
struct toe_stream_conn;

/* mqtt_session.c; body: the packet without its fixed header. */
int mqtt_session_init(struct mqtt_stage *st);
void mqtt_session_fini(struct mqtt_stage *st);
/* m->client_id stays NULL if there is no memory: as if nothing was known of the CONNECT. */
void mqtt_session_connect(struct mqtt_stage *st, struct mqtt_conn *m,
			  const struct mqtt_connect *con);
/* What is known of the session m's CONNECT is for, NULL: nothing. */
struct mqtt_session *mqtt_session_claimed(struct mqtt_stage *st, const struct mqtt_conn *m);
void mqtt_session_connack(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m,
			  const uint8_t *body, uint32_t len);
/* 0; -EPROTO, -ENOSPC: the connection cannot be followed. */
int mqtt_session_request(struct mqtt_stage *st, struct mqtt_conn *m, uint8_t type,
			 const uint8_t *body, uint32_t len);
void mqtt_session_answer(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m,
			 uint8_t type, const uint8_t *body, uint32_t len);
void mqtt_session_disconnect(struct mqtt_conn *m, const uint8_t *body, uint32_t len);
void mqtt_session_detach(struct mqtt_stage *st, struct mqtt_conn *m);
/* The same, and what the client does from now on is not seen. */
void mqtt_session_lose(struct mqtt_stage *st, struct mqtt_conn *m);
void mqtt_session_reset(struct mqtt_stage *st);

/* A session for subscriptions of a client through the kernel, MQTT_NONE: no room; and its end. */
uint32_t mqtt_session_kernel(struct mqtt_stage *st, uint32_t ctx, uint32_t conn);
void mqtt_session_drop(struct mqtt_stage *st, uint32_t session);
/* Of that ClientID: it may have fewer, or just other, subscriptions when it is resumed; if other,
 * also now, should it be online. */
void mqtt_session_cut(struct mqtt_stage *st, const uint8_t *id, uint32_t len, bool fewer);
/* Offline, and it has no subscriptions but those that are known; MQTT_NONE: there is no such. */
uint32_t mqtt_session_known(const struct mqtt_stage *st, const uint8_t *id, uint32_t len);
bool mqtt_session_named(const struct mqtt_stage *st, const uint8_t *id, uint32_t len);
/* The caller's reference; NULL: it has none, or there is no memory. */
struct toe_buf *mqtt_session_name(struct mqtt_stage *st, const struct mqtt_str *id);
/* The broker begins a session of that ClientID that may be resumed: what is known of one that is
 * offline is over.  Its name, NULL: it has none, or there is no memory, then it will be unknown. */
struct toe_buf *mqtt_session_new(struct mqtt_stage *st, const struct mqtt_str *id);
/* Its client, through the kernel, has left; MQTT_NONE: no room, or it is online at the port. */
uint32_t mqtt_session_leave(struct mqtt_stage *st, struct toe_buf *id);

/* The broker has it from before: offline, without subscriptions, and there may be more than will be
 * added (cut).  MQTT_NONE: no room, or it is not so. */
uint32_t mqtt_session_restore(struct mqtt_stage *st, const uint8_t *id, uint32_t len);

/* mqtt_restore.c: data of TOE_KCONN_MQTT_RESTORE.  0, or -errno: sessions of which something could
 * not be taken are unknown. */
int mqtt_restore(struct mqtt_stage *st, const uint8_t *data, uint32_t len);

/* mqtt_kernel.c: 0 or -errno, then the connection is not followed. */
int mqtt_kernel_news(struct mqtt_stage *st, const char *text);
void mqtt_kernel_reset(struct mqtt_stage *st);
/* Somebody may have begun, resumed or changed the session of that ClientID, and nobody sees it;
 * empty: any session. */
void mqtt_kernel_missed(struct mqtt_stage *st, const struct mqtt_str *id);
/* There are connections libtoe tells of and of which the stage has forgotten what it was told, when
 * it followed another broker. */
bool mqtt_kernel_forgotten(const struct mqtt_stage *st);
/* Those in the pipeline that libtoe tells of. */
uint32_t mqtt_plain_followed(const struct mqtt_stage *st);

#endif
