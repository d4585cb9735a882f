/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ctxq: the context queues, where the pipeline meets applications.  One instance.
 *
 * Input: items after egress with TOE_TODO_CTXQ, in order per flow-group; doorbells
 * (ctxq_doorbell.c). Output: line 0 of slots and listeners, accept rings, hints (ctxq_hint.c); the
 * items go on.  Owns toe_app.own, the private truth about line 0: the region is written, never
 * believed.
 */
#include <errno.h>
#include <stdlib.h>

#include "common/tcp_seq.h"
#include "ctxq.h"

/* ---- lines 0 ---- */

/* Everything of line 0 that starts anew with a connection. */
static void write_fresh(struct toe_app *a, uint32_t i)
{
	struct toe_slot_own *own = &a->own[i];
	struct toe_slot *slot = toe_app_slot(a, i);

	own->rx_tail = own->tx_head = own->rtx_segs = 0;
	__atomic_store_n(&slot->rx_tail, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&slot->tx_head, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&slot->error, own->error, __ATOMIC_RELAXED);
	__atomic_store_n(&slot->srtt_us, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&slot->cwnd_bytes, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&slot->rtx_segs, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&slot->state, own->state, __ATOMIC_RELEASE);
	/* last: who sees the new generation must not see the old one's state */
	__atomic_store_n(&slot->gen, own->slot_gen, __ATOMIC_RELEASE);
	if (atomic_load_explicit(&a->slot_top, memory_order_relaxed) <= i)
		atomic_store_explicit(&a->slot_top, i + 1, memory_order_release);
}

static void write_progress(struct toe_app *a, uint32_t i, const struct toe_snap *snap)
{
	struct toe_slot_own *own = &a->own[i];
	struct toe_slot *slot = toe_app_slot(a, i);
	uint32_t state = own->state | snap->state;

	if (!seq_gt(snap->rx_tail, own->rx_tail) && !seq_gt(snap->tx_head, own->tx_head) &&
	    state == own->state)
		return;
	__atomic_store_n(&slot->srtt_us, snap->srtt_us, __ATOMIC_RELAXED);
	__atomic_store_n(&slot->cwnd_bytes, snap->cwnd, __ATOMIC_RELAXED);
	__atomic_store_n(&slot->rtx_segs, own->rtx_segs, __ATOMIC_RELAXED);
	if (state & ~own->state & TOE_SLOT_ERROR) {
		own->error = snap->error;
		__atomic_store_n(&slot->error, own->error, __ATOMIC_RELAXED);
	}
	/* Cursors never move back, in whatever order items come.  Release: the bytes are in place,
	 * or no longer needed. */
	own->rx_tail = seq_max(snap->rx_tail, own->rx_tail);
	own->tx_head = seq_max(snap->tx_head, own->tx_head);
	own->state = state;
	__atomic_store_n(&slot->rx_tail, own->rx_tail, __ATOMIC_RELEASE);
	__atomic_store_n(&slot->tx_head, own->tx_head, __ATOMIC_RELEASE);
	__atomic_store_n(&slot->state, own->state, __ATOMIC_RELEASE);
}

/* ---- items of a connection ---- */

/* The slot of an item's connection, if the item is of the connection that has the slot now. */
static struct toe_app *find(struct toe_stage *s, const struct toe_work *w, uint32_t *slot)
{
	const struct toe_flow_post *post;
	struct toe_app *a;

	if (w->conn >= s->engine->conn_n)
		return NULL;
	post = &s->engine->flow_post[w->conn];
	a = toe_app_get(s->engine, post->app_id);
	if (a == NULL) {
		s->drops[TOE_D_APP_GONE]++;
		return NULL;
	}
	*slot = post->slot;
	if (*slot >= a->slot_n || a->own[*slot].conn != w->conn ||
	    a->own[*slot].conn_gen != w->gen) {
		s->drops[TOE_D_STALE]++;
		return NULL;
	}
	return a;
}

static void progress(struct toe_stage *s, const struct toe_work *w)
{
	uint32_t slot;
	struct toe_app *a = find(s, w, &slot);
	struct toe_slot_own before;

	if (a == NULL)
		return;
	before = a->own[slot];
	a->own[slot].rtx_segs += w->type == TOE_WORK_TX && w->snap.rtx_bytes != 0;
	write_progress(a, slot, &w->snap);
	if (a->own[slot].rx_tail != before.rx_tail || a->own[slot].tx_head != before.tx_head ||
	    a->own[slot].state != before.state)
		ctxq_changed(s->priv, a, slot);
}

/* False: the accept ring is full. */
static bool push_accept(struct toe_app *a, uint32_t i, uint32_t slot)
{
	struct toe_listener *l = toe_app_listener(a, i);
	/* pairs with libtoe's release: it has read what is overwritten here */
	uint32_t cons = __atomic_load_n(&l->cons, __ATOMIC_ACQUIRE);
	uint32_t prod = a->listener_prod[i];

	if (prod - cons >= a->backlog_n)
		return false;
	__atomic_store_n(&toe_app_accept_ring(a, i)[prod & (a->backlog_n - 1)], slot,
			 __ATOMIC_RELAXED);
	a->listener_prod[i] = ++prod;
	__atomic_store_n(&l->prod, prod, __ATOMIC_RELEASE);
	return true;
}

static void install(struct toe_stage *s, struct toe_work *w)
{
	const struct toe_cmd_install *in = &toe_work_ctrl(w)->cmd.install;
	struct toe_app *a = toe_app_get(s->engine, in->app_id);
	struct toe_slot_own *own;

	if (a == NULL || in->slot >= a->slot_n) {
		s->drops[TOE_D_APP_GONE]++;
		return;
	}
	own = &a->own[in->slot];
	own->conn = w->conn;
	own->conn_gen = w->gen;
	own->slot_gen = in->slot_gen;
	own->error = 0;
	own->state = TOE_SLOT_ESTABLISHED;
	write_fresh(a, in->slot);
	if (in->listener == TOE_NONE) {
		/* The application has the slot already and may have rung in vain. */
		toe_app_redo(a, in->slot);
		ctxq_changed(s->priv, a, in->slot);
	} else if (in->listener < a->listener_n && push_accept(a, in->listener, in->slot)) {
		ctxq_changed(s->priv, a, in->listener | TOE_ID_LISTENER);
	} else {
		s->drops[TOE_D_ACCEPT_FULL]++;
		w->snap.event = TOE_EV_ACCEPT_FULL; /* ctrl says INSTALLED too */
		w->todo |= TOE_TODO_CTRL;
	}
}

static void removed(struct toe_stage *s, struct toe_work *w)
{
	uint32_t slot;
	struct toe_app *a = find(s, w, &slot);

	if (a == NULL)
		return;
	w->snap.state |= TOE_SLOT_DEAD;
	progress(s, w);
	a->own[slot].conn = TOE_NONE;
}

/* ---- commands without a connection ---- */

static void slot_command(struct toe_stage *s, const struct toe_work *w)
{
	const struct toe_cmd_slot *cmd = &toe_work_ctrl((struct toe_work *)w)->cmd.slot;
	struct toe_app *a = toe_app_get(s->engine, cmd->app_id);
	bool clear = w->cmd == TOE_CMD_SLOT_CLEAR;
	struct toe_slot_own *own;

	if (a == NULL || cmd->slot >= a->slot_n) {
		s->drops[TOE_D_APP_GONE]++;
		return;
	}
	own = &a->own[cmd->slot];
	/* the slot is another connection's */
	if (own->conn != TOE_NONE && (clear || own->slot_gen != cmd->gen)) {
		s->drops[TOE_D_STALE]++;
		return;
	}
	if (clear || own->slot_gen != cmd->gen) {
		own->slot_gen = cmd->gen;
		own->state = clear ? 0 : TOE_SLOT_ERROR;
		own->error = clear ? 0 : cmd->error;
		write_fresh(a, cmd->slot);
	} else {
		const struct toe_snap snap = {.rx_tail = own->rx_tail,
					      .tx_head = own->tx_head,
					      .state = TOE_SLOT_ERROR,
					      .error = cmd->error};

		write_progress(a, cmd->slot, &snap);
	}
	if (!clear)
		ctxq_changed(s->priv, a, cmd->slot);
}

/* Both ends of the ring start at 0: whatever was in it belonged to an earlier listener, and nobody
 * can be using it yet. */
static void listener_command(struct toe_stage *s, const struct toe_work *w)
{
	const struct toe_cmd_listener *cmd = &toe_work_ctrl((struct toe_work *)w)->cmd.listener;
	struct toe_app *a = toe_app_get(s->engine, cmd->app_id);
	struct toe_listener *l;

	if (a == NULL || cmd->listener >= a->listener_n) {
		s->drops[TOE_D_APP_GONE]++;
		return;
	}
	l = toe_app_listener(a, cmd->listener);
	if (cmd->open) {
		a->listener_prod[cmd->listener] = 0;
		__atomic_store_n(&l->cons, 0, __ATOMIC_RELAXED);
		__atomic_store_n(&l->prod, 0, __ATOMIC_RELAXED);
	}
	__atomic_store_n(&l->state, cmd->open ? TOE_LISTENER_OPEN : 0, __ATOMIC_RELEASE);
	ctxq_changed(s->priv, a, cmd->listener | TOE_ID_LISTENER);
}

static void command(struct toe_stage *s, struct toe_work *w)
{
	switch (w->cmd) {
	case TOE_CMD_INSTALL:
		install(s, w);
		break;
	case TOE_CMD_REMOVE:
		removed(s, w);
		break;
	case TOE_CMD_SLOT_CLEAR:
	case TOE_CMD_SLOT_ERROR:
		slot_command(s, w);
		break;
	case TOE_CMD_LISTENER:
		listener_command(s, w);
		break;
	default:
		progress(s, w);
		break;
	}
}

/* ---- stage contract ---- */

static void ctxq_process(struct toe_stage *s, struct toe_work **items, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct toe_work *w = items[i];

		if (w->cookie == TOE_HC_SYNC && w->type == TOE_WORK_HC) {
			ctxq_sync(s, w);
			items[i] = NULL;
			continue;
		}
		if (!(w->todo & TOE_TODO_CTXQ))
			continue; /* keeps its place in the order, that is all */
		if (w->type == TOE_WORK_CTRL)
			command(s, w);
		else
			progress(s, w);
		w->todo &= (uint8_t)~TOE_TODO_CTXQ;
	}
	ctxq_tell(s);
	for (unsigned i = 0; i < n; i++) {
		if (items[i] != NULL)
			toe_emit_next(s, items[i]);
	}
}

static int ctxq_init(struct toe_stage *s)
{
	struct ctxq *p = calloc(1, sizeof(*p));

	if (p == NULL)
		return -ENOMEM;
	p->version = atomic_load(&s->engine->apps->version) - 1;
	s->priv = p;
	return 0;
}

static void ctxq_fini(struct toe_stage *s)
{
	struct ctxq *p = s->priv;

	if (p != NULL && p->sync != NULL)
		toe_work_free(s, p->sync);
	free(s->priv);
	s->priv = NULL;
}

const struct toe_stage_ops toe_stage_ctxq = {
	.id = TOE_STAGE_CTXQ,
	.name = "ctxq",
	.next_mask = 1u << TOE_STAGE_DMA | 1u << TOE_STAGE_SCHED | 1u << TOE_STAGE_CTRL |
		     1u << TOE_STAGE_NETIF_TX,
	.init = ctxq_init,
	.fini = ctxq_fini,
	.process = ctxq_process,
	.poll = ctxq_poll,
	.sleep = ctxq_sleep,
};
