/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The fake stream stage, what a module calls (stream_module.h).
 *
 * Input: the module's questions and wishes.  Output: byte queues of struct toe_stream_conn.  What
 * the engine forbids aborts.  Owns nothing.  One thread.
 */
#include <sys/socket.h>

#include <errno.h>

#include "common/log.h"
#include "mqtt_fake_int.h"

#define RESERVE 8u /* STREAM_RESERVE */

uint32_t toe_stream_ms(const struct toe_stream *s)
{
	return s->ms;
}

void toe_stream_prefetch(struct toe_stream *s, uint32_t id)
{
	(void)s;
	(void)id;
}

void *toe_stream_state_at(struct toe_stream *s, uint32_t id)
{
	return s->states + id * s->m->conn_bytes;
}

void *toe_stream_state(struct toe_stream_conn *c)
{
	return toe_stream_state_at(c->s, c->id);
}

void *toe_stream_private(struct toe_stream *s)
{
	return s->priv;
}

void toe_stream_set_private(struct toe_stream *s, void *p)
{
	s->priv = p;
}

uint32_t toe_stream_id(const struct toe_stream_conn *c)
{
	return c->id;
}

uint32_t toe_stream_gen(const struct toe_stream_conn *c)
{
	return c->gen;
}

struct toe_stream_conn *toe_stream_conn(struct toe_stream *s, uint32_t id, uint32_t gen)
{
	struct toe_stream_conn *c = id < FAKE_CONNS ? &s->conn[id] : NULL;

	return c != NULL && c->open && c->gen == gen ? c : NULL;
}

uint32_t toe_stream_conn_max(const struct toe_stream *s)
{
	(void)s;
	return FAKE_CONNS;
}

void toe_stream_peer(struct toe_stream *s, const struct toe_stream_conn *c,
		     struct toe_stream_peer *out)
{
	*out = (struct toe_stream_peer){
		.family = AF_INET,
		.port = (uint16_t)(1024 + c->id),
		.local_port = 1883,
		.app_id = s->app_id,
	};
}

uint32_t toe_stream_kernel_conns(struct toe_stream *s, uint32_t app_id)
{
	return app_id == s->app_id ? s->kernel : 0;
}

void toe_stream_burst(struct toe_stream *s)
{
	(void)s;
}

uint32_t toe_stream_followed(struct toe_stream *s, uint32_t app_id)
{
	return app_id == s->app_id ? s->followed : 0;
}

uint32_t toe_stream_reloads(struct toe_stream *s, uint32_t app_id)
{
	return app_id == s->app_id ? s->reloads : 0;
}

uint32_t toe_stream_plain_conns(struct toe_stream *s, uint32_t app_id)
{
	return app_id == s->app_id ? s->plain : 0;
}

uint32_t toe_stream_plain_unseen(struct toe_stream *s, uint32_t app_id)
{
	return app_id == s->app_id ? s->plain_unseen : 0;
}

uint32_t toe_stream_app_serial(struct toe_stream *s, uint32_t app_id)
{
	return app_id == s->app_id ? s->serial : 0;
}

uint64_t toe_stream_users(struct toe_stream *s, const struct toe_stream_conn *c)
{
	(void)c;
	return s->users;
}

uint32_t toe_stream_queued(const struct toe_stream_conn *c)
{
	return toe_extq_bytes(&c->tx);
}

uint32_t toe_stream_acked(const struct toe_stream_conn *c)
{
	return c->tx.begin;
}

uint32_t toe_stream_written(const struct toe_stream_conn *c)
{
	return c->tail;
}

uint64_t toe_stream_sync(struct toe_stream *s, const struct toe_stream_conn *c)
{
	(void)c;
	s->ticket++;
	TOE_CHECK(s->ticket - s->synced < TICKETS);
	s->ticket_bell[s->ticket % TICKETS] = s->bells;
	return s->ticket;
}

uint64_t toe_stream_synced(const struct toe_stream *s)
{
	return s->synced;
}

void look_at_tickets(struct toe_stream *s)
{
	uint64_t handled = s->bell_n > 0 ? s->bell_no[0] - 1 : s->bells;

	while (s->synced < s->ticket && s->ticket_bell[(s->synced + 1) % TICKETS] <= handled)
		s->synced++;
}

uint32_t toe_stream_short_writes(const struct toe_stream_conn *c)
{
	return c->shorts;
}

bool toe_stream_tx_ended(const struct toe_stream_conn *c)
{
	return c->tx_ended || c->dead;
}

struct toe_buf *toe_stream_buf_new(struct toe_stream *s, size_t len)
{
	size_t size = toe_arena_size(s->arena);

	if (toe_arena_used(s->arena) + len > size - size / RESERVE)
		return NULL;
	return toe_buf_new(s->arena, len);
}

void toe_stream_buf_put(struct toe_stream *s, struct toe_buf *b)
{
	toe_buf_put(s->arena, b);
}

size_t toe_stream_mem_used(const struct toe_stream *s)
{
	return toe_arena_used(s->arena);
}

size_t toe_stream_mem_size(const struct toe_stream *s)
{
	return toe_arena_size(s->arena);
}

int toe_stream_forward(struct toe_stream *s, struct toe_stream_conn *c, const uint8_t *data,
		       size_t len, bool from_peer)
{
	TOE_CHECK(c->open);
	TOE_CHECK(!c->rx_ended && !c->rst_seen); /* the application has seen the end */
	if (!c->reached && len > 0 && s->reach != NULL)
		s->reach(s->reach_arg, c->id);
	c->reached |= len > 0;
	if (from_peer)
		c->held -= (uint32_t)len;
	if (!c->dead)
		bytes_add(&c->fwd, data, len);
	return 0;
}

int toe_stream_forward_buf(struct toe_stream *s, struct toe_stream_conn *c, struct toe_buf *b,
			   uint32_t off, uint32_t len, bool from_peer)
{
	TOE_CHECK(off + len <= b->room);
	return toe_stream_forward(s, c, b->data + off, len, from_peer);
}

void toe_stream_consume(struct toe_stream *s, struct toe_stream_conn *c, size_t n)
{
	(void)s;
	TOE_CHECK(c->open);
	c->held -= (uint32_t)n;
}

static void tap(struct toe_stream *s, const struct toe_stream_conn *c, const uint8_t *data,
		size_t n)
{
	if (s->tap != NULL && n > 0)
		s->tap(s->tap_arg, c->id, data, n);
}

int toe_stream_send(struct toe_stream *s, struct toe_stream_conn *c, struct toe_buf *b,
		    uint32_t off, uint32_t len)
{
	int rc;

	TOE_CHECK(c->open);
	if (toe_stream_tx_ended(c))
		return -EPIPE;
	if (c->rst)
		return 0;
	rc = toe_extq_push(s->arena, &c->tx, b, off, len);
	if (rc == 0)
		tap(s, c, b->data + off, len);
	return rc;
}

int toe_stream_send2(struct toe_stream *s, struct toe_stream_conn *c, struct toe_buf *b1,
		     uint32_t off1, uint32_t len1, struct toe_buf *b2, uint32_t off2, uint32_t len2)
{
	TOE_CHECK(c->open);
	if (toe_stream_tx_ended(c))
		return -EPIPE;
	if (c->rst)
		return 0;
	if (toe_extq_reserve(s->arena, &c->tx, 2) != 0)
		return -ENOSPC;
	toe_extq_push(s->arena, &c->tx, b1, off1, len1);
	toe_extq_push(s->arena, &c->tx, b2, off2, len2);
	tap(s, c, b1->data + off1, len1);
	tap(s, c, b2->data + off2, len2);
	return 0;
}

void toe_stream_rx_resume(struct toe_stream *s, struct toe_stream_conn *c)
{
	(void)s;
	c->rx_wait = false;
}

void toe_stream_tx_resume(struct toe_stream *s, struct toe_stream_conn *c)
{
	(void)s;
	c->tx_wait = false;
}

void end_tx(struct toe_stream *s, struct toe_stream_conn *c)
{
	if (c->tx_ended)
		return;
	c->tx_ended = true;
	s->m->tx_end(s, c);
}

void toe_stream_abort(struct toe_stream *s, struct toe_stream_conn *c)
{
	if (c->dead)
		return;
	end_tx(s, c);
	c->dead = true;
}
