/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stream: where stream modules own both byte streams of a connection (stream_module.h).
 *
 * Input: every item of a streamed connection behind egress, so with its place in the order; HC
 * items whose cursors dma has fetched; CLOSE from ctrl.  Output: the items on to ctxq, with the
 * application's cursors instead of the wire's and the payload of what is sent; HC items to seq,
 * which are the module's cursors for proto.  Owns toe_stream_conn, the arena and the modules'
 * state; one instance, so modules need no locks.  stream_wire.c is the side of TCP, stream_app.c
 * that of the application, stream_api.c what modules call.
 */
#include <errno.h>
#include <stdlib.h>

#include <rte_cycles.h>

#include "common/log.h"
#include "stream.h"
#include "stream_priv.h"

void stream_mark(struct stream_core *k, struct toe_stream_conn *c)
{
	if (c->flags & (SC_DIRTY | SC_STARVED))
		return;
	c->flags |= SC_DIRTY;
	c->next_dirty = NULL;
	if (k->dirty_first == NULL)
		k->dirty_first = c;
	else
		k->dirty_last->next_dirty = c;
	k->dirty_last = c;
}

void stream_starve(struct stream_core *k, struct toe_stream_conn *c)
{
	if (c->flags & (SC_STARVED | SC_DIRTY))
		return;
	c->flags |= SC_STARVED;
	c->next_dirty = k->starved;
	if (k->starved == NULL)
		k->starved_ms = toe_now(k->stage)->ms;
	k->starved = c;
}

static void starved_turn(struct stream_core *k)
{
	struct toe_stream_conn *c = k->starved;

	if (c == NULL || k->starved_ms == toe_now(k->stage)->ms)
		return;
	k->starved = NULL;
	while (c != NULL) {
		struct toe_stream_conn *next = c->next_dirty;

		c->flags &= ~(SC_STARVED | SC_TX_WAIT);
		stream_mark(k, c);
		c = next;
	}
}

/* Looks after one connection; false: no item free or no copy possible, it stays on the list. */
static bool look_after(struct stream_core *k, struct toe_stream_conn *c)
{
	k->busy = false;
	if (c->flags & SC_DEAD)
		stream_wire_drop(k, c);
	stream_app_drain(k, c);
	stream_wire_offer(k, c);
	stream_wire_offer_tx(k, c);
	stream_app_fetch(k, c);
	if (k->turn >= STREAM_TURN)
		stream_mark(k, c); /* there may be more */
	return stream_wire_tell(k, c) && stream_wire_publish(k, c) && !k->busy;
}

static unsigned dirty_turn(struct stream_core *k)
{
	struct toe_stream_conn *c;
	unsigned n = 0;

	stream_app_first(k);
	while ((c = k->dirty_first) != NULL && n < STREAM_DIRTY_TURN && k->turn < STREAM_TURN) {
		k->dirty_first = c->next_dirty;
		c->flags &= ~SC_DIRTY;
		n++;
		if (c->of == NULL)
			continue; /* closed meanwhile */
		if (!look_after(k, c)) {
			stream_mark(k, c);
			break;
		}
		if (c->removed != NULL)
			stream_wire_remove(k, c);
	}
	return n;
}

/* ---- stage contract ---- */

/* CLOSE has overtaken INSTALL, which goes through all stages: it waits here.  False: the connection
 * has been and is no more. */
static bool close_early(struct stream_core *k, struct toe_work *w)
{
	struct toe_stream_conn *c;

	if (w->type != TOE_WORK_CTRL || w->conn >= k->engine->conn_n)
		return false;
	c = &k->conns[w->conn];
	if (c->of != NULL || c->gen == w->gen || c->end != NULL)
		return false;
	c->end = w;
	return true;
}

/* HC whose cursors were fetched, or CLOSE: neither has been to proto. */
static void from_application(struct stream_core *k, struct toe_work *w)
{
	struct toe_stream_conn *c;

	if (w->type == TOE_WORK_HC && w->cookie == TOE_HC_SYNC) {
		k->sync_done = k->sync_sent;
		toe_work_free(k->stage, w);
		return;
	}
	c = stream_find(k, w->conn, w->gen);

	if (c == NULL && close_early(k, w))
		return;
	if (c == NULL) {
		toe_drop(k->stage, w, TOE_D_STALE);
		toe_work_free(k->stage, w);
		return;
	}
	if (w->type == TOE_WORK_HC) {
		stream_app_hc(k, c, &w->hc);
		toe_work_free(k->stage, w);
	} else if (c->end != NULL) {
		toe_work_free(k->stage, w); /* closed already */
	} else {
		c->end = w;
		stream_app_close(k, c, &toe_work_ctrl(w)->cmd.close);
	}
	stream_mark(k, c);
}

static void stream_process(struct toe_stage *s, struct toe_work **items, unsigned n)
{
	struct stream_core *k = s->priv;

	k->turn = 0;
	for (unsigned i = 0; i < n; i++) {
		struct toe_work *w = items[i];
		struct toe_stream_conn *c;

		if (!(w->todo & TOE_TODO_STREAM)) {
			from_application(k, w);
			continue;
		}
		w->todo &= (uint8_t)~TOE_TODO_STREAM;
		if (w->type == TOE_WORK_CTRL && w->cmd == TOE_CMD_INSTALL &&
		    w->verdict == TOE_FORWARD)
			stream_wire_install(k, w);
		c = stream_find(k, w->conn, w->gen);
		if (c == NULL || stream_wire_item(k, c, w))
			toe_emit_next(s, w);
	}
	stream_app_complete(k);
	dirty_turn(k);
	/* what was fetched just now is there already, if the CPU copies */
	if (stream_app_complete(k) != 0)
		dirty_turn(k);
}

static unsigned stream_poll(struct toe_stage *s, unsigned budget)
{
	struct stream_core *k = s->priv;
	unsigned n;

	k->turn = 0;
	n = stream_app_complete(k);
	n += stream_control_poll(k);
	n += stream_sync_poll(k);
	starved_turn(k);
	for (unsigned i = 0; i < k->module_n; i++) {
		if (k->modules[i].m->poll != NULL)
			n += k->modules[i].m->poll(&k->modules[i], budget);
	}
	return n + dirty_turn(k);
}

static uint64_t stream_deadline(struct toe_stage *s)
{
	struct stream_core *k = s->priv;
	uint64_t first = UINT64_MAX;

	if (k->starved != NULL)
		first = toe_now(s)->tsc + rte_get_tsc_hz() / 1000u;
	for (unsigned i = 0; i < k->module_n; i++) {
		struct toe_stream *m = &k->modules[i];
		uint64_t tsc;
		uint32_t ms;
		int32_t left;

		if (m->m->deadline == NULL || !m->m->deadline(m, &ms))
			continue;
		left = (int32_t)(ms - toe_now(s)->ms);
		tsc = toe_now(s)->tsc +
		      (left > 0 ? (uint64_t)left * (rte_get_tsc_hz() / 1000u) : 0);
		first = tsc < first ? tsc : first;
	}
	return first;
}

static bool stream_sleep(struct toe_stage *s, bool on)
{
	const struct stream_core *k = s->priv;

	return on && (k->dirty_first != NULL || k->op_head != k->op_tail ||
		      (k->first_first != NULL && !(k->first_first->flags & SC_STARVED)) ||
		      (k->sync_asked != k->sync_sent && k->sync_sent == k->sync_done));
}

static void stream_fini(struct toe_stage *s)
{
	struct stream_core *k = s->priv;

	if (k == NULL)
		return;
	for (uint32_t i = 0; k->conns != NULL && i < s->engine->conn_n; i++) {
		if (k->conns[i].of != NULL)
			stream_wire_close(k, &k->conns[i]);
		if (k->conns[i].end != NULL)
			toe_work_free(s, k->conns[i].end);
		if (k->conns[i].removed != NULL)
			toe_work_free(s, k->conns[i].removed);
	}
	for (unsigned i = 0; i < k->module_n; i++) {
		if (k->modules[i].m->fini != NULL)
			k->modules[i].m->fini(&k->modules[i]);
		free(k->modules[i].states);
	}
	toe_hostmem_close(k->mem);
	free(k->conns);
	toe_arena_free(k->arena);
	free(k);
	s->priv = NULL;
}

static int init_module(struct stream_core *k, const struct toe_stream_module *m)
{
	struct toe_stream *t = &k->modules[k->module_n];
	int rc;

	*t = (struct toe_stream){.core = k, .m = m};
	t->states = calloc(k->engine->conn_n, m->conn_bytes != 0 ? m->conn_bytes : 1);
	if (t->states == NULL)
		return -ENOMEM;
	rc = m->init != NULL ? m->init(t, k->engine->cfg) : 0;
	if (rc != 0) {
		free(t->states);
		return rc;
	}
	k->module_n++;
	return 0;
}

static int stream_init(struct toe_stage *s)
{
	const struct toe_engine *e = s->engine;
	struct stream_core *k = calloc(1, sizeof(*k));
	const struct toe_stream_module *m;
	int rc = 0;

	if (k == NULL)
		return -ENOMEM;
	s->priv = k;
	k->stage = s;
	k->engine = s->engine;
	k->arena = toe_arena_create((size_t)e->cfg->stream_memory_mb << 20);
	k->conns = calloc(e->conn_n, sizeof(*k->conns));
	k->mem = toe_hostmem_open(s->engine, e->cfg->dma_backend, STREAM_OPS);
	if (k->mem == NULL && errno == ENODEV) /* dma has the only one: the CPU copies */
		k->mem = toe_hostmem_open(s->engine, "memcpy", STREAM_OPS);
	if (k->arena == NULL || k->conns == NULL || k->mem == NULL)
		rc = -ENOMEM;
	else
		stream_last_memory(k, false);
	for (unsigned i = 0; rc == 0 && (m = toe_stream_module_at(i)) != NULL; i++)
		rc = init_module(k, m);
	if (rc != 0)
		stream_fini(s);
	return rc;
}

const struct toe_stage_ops toe_stage_stream = {
	.id = TOE_STAGE_STREAM,
	.name = "stream",
	.next_mask = 1u << TOE_STAGE_CTXQ | 1u << TOE_STAGE_SEQ,
	.init = stream_init,
	.fini = stream_fini,
	.process = stream_process,
	.poll = stream_poll,
	.deadline = stream_deadline,
	.sleep = stream_sleep,
};
