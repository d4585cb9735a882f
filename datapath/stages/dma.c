/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dma: moves bytes between packet buffers and application memory (replicable).
 *
 * Input: items from post (payload of RX and TX), HC items from ctxq whose cursors are to be
 * fetched.  Output: egress, and seq (or stream) for fetched HC items.  Payload of a streamed
 * connection is the stream stage's.  An item goes on when its last copy has
 * completed, so nothing that speaks of bytes leaves before they are in place.  When the queue is
 * full items wait in a backlog that can hold every item there is.  Order is egress's business.
 */
#include <errno.h>
#include <stdlib.h>

#include "apps.h"
#include "common/log.h"
#include "engine.h"
#include "hostmem.h"
#include "seg_cksum.h"
#include "stage.h"

#define DEPTH_MAX 4096u
#define COLLECT   64u

/* Line 1 of a slot is fetched by two copies into four words of struct toe_hc. */
#define CURSORS 3u
static_assert(offsetof(struct toe_hc, rx_head) == offsetof(struct toe_hc, tx_tail) + 4 &&
		      offsetof(struct toe_hc, tx_short) == offsetof(struct toe_hc, tx_tail) + 8,
	      "cursors are neighbours");
static_assert(offsetof(struct toe_slot, rx_head) == offsetof(struct toe_slot, tx_tail) + 4 &&
		      offsetof(struct toe_slot, tx_short) == offsetof(struct toe_slot, tx_tail) + 8,
	      "cursors are neighbours");

/* What is left to submit of one item: at most two copies (a payload that wraps). */
struct job {
	struct toe_work *w;
	uint8_t n;
	uint8_t next;
	struct toe_hostmem_op op[2];
};

struct dma {
	struct toe_hostmem *mem;
	bool tcp_cksum; /* in software */
	struct job *backlog;
	uint32_t mask;
	uint32_t head;
	uint32_t tail;
};

static bool is_fetch(const struct toe_work *w)
{
	return w->type == TOE_WORK_HC && w->cmd == TOE_HC_FETCH;
}

/* ---- completion ---- */

static void finish(struct toe_stage *s, struct toe_work *w)
{
	const struct dma *p = s->priv;

	if (is_fetch(w)) {
		w->cmd = 0;
		if (w->cookie == TOE_HC_SYNC) {
			toe_emit(s, TOE_STAGE_STREAM, w);
			return;
		}
		if (w->verdict != TOE_FORWARD)
			toe_work_free(s, w);
		else if (s->engine->flow_post[w->conn].flags & TOE_POST_STREAM)
			toe_emit(s, TOE_STAGE_STREAM, w); /* cursors of the module's stream */
		else
			toe_emit(s, TOE_STAGE_SEQ, w);
		return;
	}
	if (p->tcp_cksum && (w->todo & (TOE_TODO_TX | TOE_TODO_STREAM)) == TOE_TODO_TX &&
	    w->tx_mbuf != NULL)
		toe_seg_fill_cksum(w->tx_mbuf);
	toe_emit(s, TOE_STAGE_EGRESS, w);
}

/*
 * The application is gone or evicted: nothing of this item may be seen, neither by it nor on the
 * wire.  The number, and what sched and the control plane wait for, stay.
 */
static void give_up(struct toe_stage *s, struct toe_work *w)
{
	toe_drop(s, w, TOE_D_APP_GONE);
	if (is_fetch(w))
		return;
	w->todo &= (uint8_t) ~(TOE_TODO_TX | TOE_TODO_CTXQ);
	w->snap.sendable = 0; /* tx_mbuf stays the item's: a first copy may be on its way into it */
}

/* Hands on what has completed; returns how many copies that were. */
static unsigned collect(struct toe_stage *s)
{
	struct dma *p = s->priv;
	void *cookies[COLLECT];
	unsigned total = 0;
	unsigned n;

	do {
		n = toe_hostmem_poll(p->mem, cookies, COLLECT);
		for (unsigned i = 0; i < n; i++) {
			struct toe_work *w = cookies[i];

			if (--w->dma_pending == 0)
				finish(s, w);
		}
		total += n;
	} while (n == COLLECT);
	return total;
}

/* ---- submission ---- */

/* Line 1: the wishes first.  The application sets SHUT_WR after its last tx_tail; read in the
 * other order, the end of the stream could seem to be at an older tail.  Of the cursors tx_short is
 * read last: libtoe raises it before the next tx_tail. */
static bool plan_fetch(const struct toe_engine *e, struct job *j)
{
	struct toe_hc *hc = &j->w->hc;
	const struct toe_app *a = toe_app_get(e, hc->app_id);
	struct toe_hostmem_op op = {.app_id = hc->app_id,
				    .dir = TOE_FROM_HOST,
				    .segment = TOE_SEG_CONTROL,
				    .cookie = j->w};

	if (a == NULL || hc->slot >= a->slot_n)
		return false;
	op.offset = toe_app_slot_off(a, hc->slot) + offsetof(struct toe_slot, ctl);
	op.len = sizeof(hc->ctl);
	op.local = &hc->ctl;
	j->op[0] = op;
	op.offset = toe_app_slot_off(a, hc->slot) + offsetof(struct toe_slot, tx_tail);
	op.len = CURSORS * sizeof(hc->tx_tail);
	op.local = &hc->tx_tail;
	op.fence = true;
	j->op[1] = op;
	j->n = 2;
	return true;
}

/* The packet's end of the copy; NULL if the bytes are not there in one piece. */
static uint8_t *packet_bytes(struct toe_work *w)
{
	struct rte_mbuf *m = w->type == TOE_WORK_RX ? w->mbuf : w->tx_mbuf;
	uint32_t off;

	if (m->nb_segs != 1 && rte_pktmbuf_linearize(m) != 0)
		return NULL;
	if (w->type == TOE_WORK_RX)
		off = (uint32_t)w->seg.payload_off + w->snap.skip;
	else if (w->snap.len <= m->data_len)
		off = m->data_len - w->snap.len;
	else
		return NULL;
	if (off + w->snap.len > m->data_len)
		return NULL;
	return rte_pktmbuf_mtod_offset(m, uint8_t *, off);
}

static bool plan_payload(const struct toe_engine *e, struct job *j)
{
	struct toe_work *w = j->w;
	const struct toe_flow_post *post = &e->flow_post[w->conn];
	const struct toe_app *a = toe_app_get(e, post->app_id);
	bool rx = w->type == TOE_WORK_RX;
	uint32_t size, off, first;
	uint64_t base;
	uint8_t *local;

	if (a == NULL || post->slot >= a->slot_n)
		return false;
	size = rx ? a->rx_buf_bytes : a->tx_buf_bytes;
	local = packet_bytes(w);
	if (local == NULL || w->snap.len > size)
		return false;
	base = rx ? toe_slot_rx_off(post->slot, a->rx_buf_bytes, a->tx_buf_bytes)
		  : toe_slot_tx_off(post->slot, a->rx_buf_bytes, a->tx_buf_bytes);
	off = w->snap.pos & (size - 1);
	first = size - off < w->snap.len ? size - off : w->snap.len;
	j->op[0] = (struct toe_hostmem_op){
		.app_id = post->app_id,
		.dir = rx ? TOE_TO_HOST : TOE_FROM_HOST,
		.segment = TOE_SEG_PAYLOAD,
		.len = (uint16_t)first,
		.offset = base + off,
		.local = local,
		.cookie = w,
	};
	j->n = 1;
	if (first == w->snap.len)
		return true;
	j->op[1] = j->op[0];
	j->op[1].len = (uint16_t)(w->snap.len - first);
	j->op[1].offset = base;
	j->op[1].local = local + first;
	j->n = 2;
	return true;
}

static bool has_payload(const struct toe_work *w)
{
	if (w->verdict != TOE_FORWARD || (w->todo & TOE_TODO_STREAM))
		return false;
	if (w->type == TOE_WORK_RX)
		return w->snap.len != 0 && w->mbuf != NULL;
	return toe_work_sends(w) && (w->todo & TOE_TODO_TX) && w->snap.len != 0 &&
	       w->tx_mbuf != NULL;
}

/* True: done with the job (all submitted, or given up); false: the queue is full. */
static bool submit(struct toe_stage *s, struct job *j)
{
	struct dma *p = s->priv;
	struct toe_work *w = j->w;

	while (j->next < j->n) {
		int rc = toe_hostmem_submit(p->mem, &j->op[j->next]);

		if (rc == -EAGAIN)
			return false;
		if (rc != 0) {
			give_up(s, w);
			w->dma_pending = (uint8_t)(w->dma_pending - (j->n - j->next));
			if (w->dma_pending == 0)
				finish(s, w);
			return true;
		}
		toe_count(s, TOE_C_DMA_OPS, 1);
		toe_count(s, TOE_C_DMA_BYTES, j->op[j->next].len);
		j->next++;
	}
	return true;
}

static void start(struct toe_stage *s, struct toe_work *w)
{
	struct dma *p = s->priv;
	struct job j = {.w = w};

	if (!is_fetch(w) && !has_payload(w)) {
		finish(s, w);
		return;
	}
	if (!(is_fetch(w) ? plan_fetch(s->engine, &j) : plan_payload(s->engine, &j))) {
		give_up(s, w);
		finish(s, w);
		return;
	}
	w->dma_pending = j.n;
	if (p->head != p->tail || !submit(s, &j)) {
		TOE_ASSERT(p->tail - p->head <= p->mask);
		p->backlog[p->tail++ & p->mask] = j;
	}
}

static unsigned retry(struct toe_stage *s, unsigned budget)
{
	struct dma *p = s->priv;
	unsigned n = 0;

	while (p->head != p->tail && n < budget) {
		if (!submit(s, &p->backlog[p->head & p->mask]))
			break;
		p->head++;
		n++;
	}
	return n;
}

/* ---- stage contract ---- */

static void dma_process(struct toe_stage *s, struct toe_work **items, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		start(s, items[i]);
	collect(s);
}

static unsigned dma_poll(struct toe_stage *s, unsigned budget)
{
	unsigned n = collect(s);

	n += retry(s, budget);
	return n + collect(s);
}

/* Completions of a device wake nobody: stay awake while there are any to come. */
static bool dma_sleep(struct toe_stage *s, bool on)
{
	const struct dma *p = s->priv;

	return on && (toe_hostmem_inflight(p->mem) != 0 || p->head != p->tail);
}

static void dma_fini(struct toe_stage *s)
{
	struct dma *p = s->priv;

	if (p == NULL)
		return;
	toe_hostmem_close(p->mem);
	free(p->backlog);
	free(p);
	s->priv = NULL;
}

static int dma_init(struct toe_stage *s)
{
	const struct toe_config *cfg = s->engine->cfg;
	unsigned items = cfg->work_items * TOE_WORK_TYPE_N;
	struct dma *p = calloc(1, sizeof(*p));
	uint32_t size = 1;
	int rc = -ENOMEM;

	if (p == NULL)
		return rc;
	s->priv = p;
	while (size < items)
		size *= 2;
	p->mask = size - 1;
	p->tcp_cksum = !s->engine->caps.tx_tcp_cksum;
	p->backlog = calloc(size, sizeof(*p->backlog));
	if (p->backlog != NULL) {
		p->mem = toe_hostmem_open(s->engine, cfg->dma_backend,
					  items < DEPTH_MAX ? items : DEPTH_MAX);
		rc = p->mem != NULL ? 0 : -errno;
	}
	if (rc != 0)
		dma_fini(s);
	return rc;
}

const struct toe_stage_ops toe_stage_dma = {
	.id = TOE_STAGE_DMA,
	.name = "dma",
	.replicable = true,
	.next_mask = 1u << TOE_STAGE_EGRESS | 1u << TOE_STAGE_STREAM | 1u << TOE_STAGE_SEQ,
	.init = dma_init,
	.fini = dma_fini,
	.process = dma_process,
	.poll = dma_poll,
	.sleep = dma_sleep,
};
