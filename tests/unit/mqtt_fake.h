/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A stream stage for tests of one module, without engine, TCP and application: the toe_stream_*
 * functions over byte queues that the test moves, in portions and order of its choice.
 *
 *   client_write -> offer -> module.rx -> forward -> app_read
 *   app_write -> (doorbell) -> hc -> fetch -> module.tx -> send -> client_read
 *
 * As in the engine: the application's buffer is bounded (short writes), its cursors are seen when
 * its doorbell is handled, doorbells in their order; acknowledgement by the client frees the queue;
 * a reset is seen by the application when what came before it has been taken and the module agrees.
 */
#ifndef MQTT_FAKE_H
#define MQTT_FAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/config.h"
#include "datapath/stream_module.h"

/* Bytes in order; grows. */
struct bytes {
	uint8_t *b;
	size_t from, to, room;
};
void bytes_add(struct bytes *q, const void *data, size_t n);
void bytes_drop(struct bytes *q, size_t n);
static inline size_t bytes_n(const struct bytes *q)
{
	return q->to - q->from;
}
static inline const uint8_t *bytes_at(const struct bytes *q)
{
	static const uint8_t none[1];

	return q->b != NULL ? q->b + q->from : none;
}

#define FAKE_CONNS 80u
#define FAKE_APP   7u

struct fake_opts {
	size_t arena_mb;
	uint32_t app_buf;  /* bytes of the application's send buffer */
	uint32_t tx_limit; /* unacknowledged bytes above which nothing is fetched */
};

/* Called for all bytes the module sends to a client, in order. */
typedef void (*fake_tap)(void *arg, uint32_t id, const uint8_t *data, size_t n);

/* Called when the first bytes of a connection go to the application. */
typedef void (*fake_reach)(void *arg, uint32_t id);

struct fake;

struct fake *fake_new(const struct toe_stream_module *m, const struct toe_config *cfg,
		      const struct fake_opts *o);
/* Closes everything; returns the bytes of the arena that were never given back. */
size_t fake_free(struct fake *f);
struct toe_stream *fake_stream(struct fake *f);
struct toe_stream_conn *fake_conn(struct fake *f, uint32_t id);
void fake_set_tap(struct fake *f, fake_tap tap, void *arg);
void fake_set_reach(struct fake *f, fake_reach reach, void *arg);
void fake_set_app(struct fake *f, uint32_t app_id, uint32_t serial, uint32_t kernel_conns);
/* Processes that have the connections it answers from now on, a bit each. */
void fake_set_users(struct fake *f, uint64_t users);
void fake_reload(struct fake *f); /* SIGHUP */
void fake_followed(struct fake *f, uint32_t n);
/* Connections of the broker in the pipeline that are not the module's, and how many are followed.
 */
void fake_plain(struct fake *f, uint32_t n, uint32_t followed);
void fake_time(struct fake *f, uint32_t ms);

uint32_t fake_open(struct fake *f); /* UINT32_MAX: none free */
bool fake_is_open(const struct fake *f, uint32_t id);
/* The module reset it: RST to both. */
bool fake_is_dead(const struct fake *f, uint32_t id);
void fake_close(struct fake *f, uint32_t id);

/* client */
void fake_client_write(struct fake *f, uint32_t id, const void *data, size_t n);
void fake_client_fin(struct fake *f, uint32_t id);
void fake_client_rst(struct fake *f, uint32_t id);
size_t fake_client_unread(struct fake *f, uint32_t id);
size_t fake_client_read(struct fake *f, uint32_t id, void *dst, size_t max);

/* application */
size_t fake_app_unread(struct fake *f, uint32_t id);
size_t fake_app_read(struct fake *f, uint32_t id, void *dst, size_t max);
bool fake_app_sees_fin(const struct fake *f, uint32_t id);
bool fake_app_sees_rst(const struct fake *f, uint32_t id);
size_t fake_app_write(struct fake *f, uint32_t id, const void *data, size_t n);
void fake_app_close(struct fake *f, uint32_t id);

/* engine; each returns whether (or how much) there was to do */
size_t fake_offer(struct fake *f, uint32_t id, size_t max);
bool fake_hc(struct fake *f); /* the oldest doorbell */
size_t fake_fetch(struct fake *f, uint32_t id, size_t max);
unsigned fake_poll(struct fake *f, unsigned budget);
/* All of it until nothing moves. */
void fake_settle(struct fake *f);
/* Bytes of the client the module has not taken. */
size_t fake_client_pending(const struct fake *f, uint32_t id);

#endif
