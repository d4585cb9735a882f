/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stream: what modules call (stream_module.h).
 *
 * Input: a module's wishes.  Output: queue entries, copies, and the connection on the list of those
 * to look after; proto and the application hear of them once per turn, however many wishes there
 * were.  Owns nothing.  Thread: the stage's.
 */
#include <errno.h>
#include <sys/socket.h>

#include <rte_byteorder.h>

#include "common/log.h"
#include "stream_priv.h"

#define BURST_NONE 8u /* items out that say nothing: cursors of whoever publishes */

/* ---- asking ---- */

uint32_t toe_stream_ms(const struct toe_stream *s)
{
	return toe_now(s->core->stage)->ms;
}

void *toe_stream_state(struct toe_stream_conn *c)
{
	return c->of->states + (size_t)c->id * c->of->m->conn_bytes;
}

void *toe_stream_state_at(struct toe_stream *s, uint32_t id)
{
	return s->states + (size_t)id * s->m->conn_bytes;
}

static void prefetch_lines(const void *p, size_t bytes)
{
	for (size_t i = 0; i < bytes; i += TOE_LINE)
		__builtin_prefetch((const uint8_t *)p + i, 1);
}

void toe_stream_prefetch(struct toe_stream *s, uint32_t id)
{
	if (id >= s->core->engine->conn_n)
		return;
	prefetch_lines(&s->core->conns[id], sizeof(struct toe_stream_conn));
	prefetch_lines(s->states + (size_t)id * s->m->conn_bytes, s->m->conn_bytes);
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
	struct toe_stream_conn *c = stream_find(s->core, id, gen);

	return c != NULL && c->of == s ? c : NULL;
}

uint32_t toe_stream_conn_max(const struct toe_stream *s)
{
	return s->core->engine->conn_n;
}

void toe_stream_peer(struct toe_stream *s, const struct toe_stream_conn *c,
		     struct toe_stream_peer *out)
{
	const struct toe_flow_post *post = &s->core->engine->flow_post[c->id];

	*out = (struct toe_stream_peer){.family = post->flags & TOE_POST_IPV6 ? AF_INET6 : AF_INET,
					.port = rte_be_to_cpu_16(post->remote_port),
					.local_port = rte_be_to_cpu_16(post->local_port),
					.app_id = c->app_id};
	if (out->family == AF_INET6)
		memcpy(out->addr, s->core->engine->flow_addr6[c->id].remote, sizeof(out->addr));
	else
		memcpy(out->addr, post->remote_addr, sizeof(post->remote_addr));
}

uint32_t toe_stream_kernel_conns(struct toe_stream *s, uint32_t app_id)
{
	const struct toe_app *a = toe_app_get(s->core->engine, app_id);

	/* pairs with the release in keeper_link.c: counted before the application sees it */
	return a == NULL ? 0 : atomic_load_explicit(&a->kernel_conns, memory_order_acquire);
}

void toe_stream_burst(struct toe_stream *s)
{
	const struct toe_stage *stage = s->core->stage;

	s->core->share = toe_work_in_use(stage, TOE_WORK_HC) > BURST_NONE ||
			 toe_work_in_use(stage, TOE_WORK_TX) > BURST_NONE;
}

uint32_t toe_stream_followed(struct toe_stream *s, uint32_t app_id)
{
	const struct toe_app *a = toe_app_get(s->core->engine, app_id);

	return a == NULL ? 0 : atomic_load_explicit(&a->followed, memory_order_acquire);
}

uint32_t toe_stream_reloads(struct toe_stream *s, uint32_t app_id)
{
	const struct toe_app *a = toe_app_get(s->core->engine, app_id);

	return a == NULL ? 0 : atomic_load_explicit(&a->reloads, memory_order_acquire);
}

uint32_t toe_stream_plain_conns(struct toe_stream *s, uint32_t app_id)
{
	const struct toe_app *a = toe_app_get(s->core->engine, app_id);

	/* pairs with the release in ctrl_cmd.c */
	return a == NULL ? 0 : atomic_load_explicit(&a->plain_conns, memory_order_acquire);
}

uint32_t toe_stream_plain_unseen(struct toe_stream *s, uint32_t app_id)
{
	const struct toe_app *a = toe_app_get(s->core->engine, app_id);

	return a == NULL ? 0 : atomic_load_explicit(&a->plain_unseen, memory_order_acquire);
}

uint32_t toe_stream_app_serial(struct toe_stream *s, uint32_t app_id)
{
	const struct toe_app *a = toe_app_get(s->core->engine, app_id);

	return a == NULL ? 0 : a->serial;
}

uint64_t toe_stream_users(struct toe_stream *s, const struct toe_stream_conn *c)
{
	const struct toe_app *a = toe_app_get(s->core->engine, c->app_id);

	return a == NULL ? 0
			 : __atomic_load_n(&toe_app_slot(a, c->slot)->ctx_mask, __ATOMIC_RELAXED);
}

uint32_t toe_stream_written(const struct toe_stream_conn *c)
{
	return c->tx_tail;
}

uint64_t toe_stream_sync(struct toe_stream *s, const struct toe_stream_conn *c)
{
	struct stream_core *k = s->core;

	/* one that is under way may have passed what matters */
	if (k->sync_asked == k->sync_sent)
		k->sync_asked++;
	k->sync_app = c->app_id;
	k->sync_conn = c->id;
	stream_sync_poll(k);
	return k->sync_asked;
}

uint64_t toe_stream_synced(const struct toe_stream *s)
{
	return s->core->sync_done;
}

unsigned stream_sync_poll(struct stream_core *k)
{
	struct toe_work *w;

	if (k->sync_asked == k->sync_sent || k->sync_sent != k->sync_done)
		return 0;
	w = toe_work_alloc(k->stage, TOE_WORK_HC);
	if (w == NULL) {
		k->stage->drops[TOE_D_NO_ITEM]++;
		return 0;
	}
	k->sync_sent = k->sync_asked;
	w->conn = k->sync_conn;
	w->cookie = TOE_HC_SYNC;
	w->cmd = TOE_HC_FETCH;
	w->hc = (struct toe_hc){.app_id = k->sync_app, .slot = k->conns[k->sync_conn].slot};
	toe_emit(k->stage, TOE_STAGE_CTXQ, w);
	return 1;
}

uint32_t toe_stream_queued(const struct toe_stream_conn *c)
{
	return toe_extq_bytes(&c->tx);
}

uint32_t toe_stream_acked(const struct toe_stream_conn *c)
{
	return c->tx.begin;
}

uint32_t toe_stream_short_writes(const struct toe_stream_conn *c)
{
	return c->tx_short;
}

bool toe_stream_tx_ended(const struct toe_stream_conn *c)
{
	return (c->flags & (SC_TX_ENDED | SC_DEAD)) != 0;
}

/* ---- doing ---- */

struct toe_buf *toe_stream_buf_new(struct toe_stream *s, size_t len)
{
	struct stream_core *k = s->core;
	size_t size = toe_arena_size(k->arena);

	if (toe_arena_used(k->arena) + len > size - size / STREAM_RESERVE)
		return NULL;
	return toe_buf_new(k->arena, len);
}

void toe_stream_buf_put(struct toe_stream *s, struct toe_buf *b)
{
	toe_buf_put(s->core->arena, b);
}

size_t toe_stream_mem_used(const struct toe_stream *s)
{
	return toe_arena_used(s->core->arena);
}

size_t toe_stream_mem_size(const struct toe_stream *s)
{
	return toe_arena_size(s->core->arena);
}

void stream_end_tx(struct toe_stream_conn *c)
{
	bool called = c->flags & SC_TX_END;

	c->flags |= SC_TX_END | SC_TX_ENDED;
	if (!called)
		c->of->m->tx_end(c->of, c);
}

void stream_give_up(struct stream_core *k, struct toe_stream_conn *c)
{
	if (c->flags & SC_DEAD)
		return;
	toe_count(k->stage, TOE_C_STREAM_ABORTS, 1);
	stream_end_tx(c);
	c->flags |= SC_ABORT | SC_DEAD;
	stream_mark(k, c);
}

static int forward(struct toe_stream *s, struct toe_stream_conn *c, struct toe_buf *b,
		   const uint8_t *data, size_t len, bool from_peer)
{
	int rc = stream_app_forward(s->core, c, b, data, (uint32_t)len);

	if (from_peer)
		c->held -= (uint32_t)len;
	if (rc != 0)
		stream_give_up(s->core, c);
	return rc;
}

int toe_stream_forward(struct toe_stream *s, struct toe_stream_conn *c, const uint8_t *data,
		       size_t len, bool from_peer)
{
	return len == 0 ? 0 : forward(s, c, NULL, data, len, from_peer);
}

int toe_stream_forward_buf(struct toe_stream *s, struct toe_stream_conn *c, struct toe_buf *b,
			   uint32_t off, uint32_t len, bool from_peer)
{
	return len == 0 ? 0 : forward(s, c, b, b->data + off, len, from_peer);
}

void toe_stream_consume(struct toe_stream *s, struct toe_stream_conn *c, size_t n)
{
	c->held -= (uint32_t)n;
	stream_mark(s->core, c);
}

/* Room for n extents. */
static bool tx_room(struct stream_core *k, struct toe_stream_conn *c, uint32_t n)
{
	int rc = toe_extq_reserve(k->arena, &c->tx, n);

	if (rc != 0) {
		stream_last_memory(k, true);
		rc = toe_extq_reserve(k->arena, &c->tx, n);
		stream_last_memory(k, false);
	}
	return rc == 0;
}

int toe_stream_send(struct toe_stream *s, struct toe_stream_conn *c, struct toe_buf *b,
		    uint32_t off, uint32_t len)
{
	int rc;

	if (toe_stream_tx_ended(c))
		return -EPIPE;
	if (c->state & TOE_SLOT_ERROR)
		return 0;
	rc = toe_extq_push(s->core->arena, &c->tx, b, off, len);
	if (rc != 0 && tx_room(s->core, c, 1))
		rc = toe_extq_push(s->core->arena, &c->tx, b, off, len);
	if (rc == 0)
		stream_mark(s->core, c);
	return rc;
}

int toe_stream_send2(struct toe_stream *s, struct toe_stream_conn *c, struct toe_buf *b1,
		     uint32_t off1, uint32_t len1, struct toe_buf *b2, uint32_t off2, uint32_t len2)
{
	if (toe_stream_tx_ended(c))
		return -EPIPE;
	if (c->state & TOE_SLOT_ERROR)
		return 0;
	if (len1 > TOE_EXTQ_BYTES_MAX - toe_extq_bytes(&c->tx) ||
	    len2 > TOE_EXTQ_BYTES_MAX - toe_extq_bytes(&c->tx) - len1 || !tx_room(s->core, c, 2))
		return -ENOSPC;
	toe_extq_push(s->core->arena, &c->tx, b1, off1, len1);
	toe_extq_push(s->core->arena, &c->tx, b2, off2, len2);
	stream_mark(s->core, c);
	return 0;
}

void toe_stream_rx_resume(struct toe_stream *s, struct toe_stream_conn *c)
{
	c->flags &= ~SC_RX_WAIT;
	stream_mark(s->core, c);
}

void toe_stream_tx_resume(struct toe_stream *s, struct toe_stream_conn *c)
{
	c->flags &= ~SC_TX_WAIT;
	stream_mark(s->core, c);
}

void toe_stream_abort(struct toe_stream *s, struct toe_stream_conn *c)
{
	stream_give_up(s->core, c);
}
