/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What sessions a broker had when it wrote its database (mosquitto.db), and what they are
 * subscribed to.  mosquitto 2.0 begins with exactly those.
 */
#ifndef TOE_BROKER_DB_H
#define TOE_BROKER_DB_H

#include <stddef.h>
#include <stdint.h>

struct broker_db_sub {
	const uint8_t *filter;
	uint16_t filter_len;
	uint8_t options; /* as in SUBSCRIBE of MQTT 5, 3.8.3.1: granted QoS, No Local, RAP */
	uint32_t id;     /* subscription identifier, 0: none */
};

struct broker_db_session {
	const uint8_t *client_id;
	uint16_t client_id_len;
	const struct broker_db_sub *subs; /* no order */
	size_t n;
};

/* All of it is valid during the call only.  Other than 0: no more. */
typedef int (*broker_db_fn)(void *arg, const struct broker_db_session *session);

/*
 * Calls each() for every session of the file, once.  0, what each() returned, or -errno: ENOENT
 * there is none, EPROTONOSUPPORT of another version, EBADMSG not whole or not what it should be,
 * EFBIG more than 64 MiB of sessions.  No call unless the file is right to its end.  Reads it from
 * the beginning to the end, messages are skipped.  Any thread.
 */
int broker_db_read(const char *path, broker_db_fn each, void *arg);

#endif
