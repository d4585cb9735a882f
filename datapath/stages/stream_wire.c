/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stream, TCP's side: the peer's bytes to the module, the module's bytes into segments.
 *
 * Input: items behind egress.  In-order payload is offered to the module straight out of the packet
 * buffer; acknowledged bytes leave the queue of extents; segments to be sent get their payload from
 * it, and their checksum.  Output: cursors for proto (HC items), CLOSE when the last byte is in the
 * queue, what the application may see (snapshot for ctxq).  Thread: the stage's.
 */
#include <errno.h>

#include "common/log.h"
#include "common/tcp_seq.h"
#include "seg_cksum.h"
#include "stream_priv.h"

/* ---- opening and closing ---- */

void stream_wire_install(struct stream_core *k, const struct toe_work *w)
{
	const struct toe_cmd_install *in = &((const struct toe_work_ctrl *)w)->cmd.install;
	const struct toe_app *a = toe_app_get(k->engine, in->app_id);
	struct toe_stream_conn *c = &k->conns[w->conn];
	/* of the one before: it may still be on a list, and those behind it with it */
	const uint32_t listed = c->flags & (SC_DIRTY | SC_STARVED);
	struct toe_stream_conn *next = c->next_dirty;
	struct toe_work *end = c->end;
	struct toe_stream *t;

	TOE_ASSERT(c->of == NULL && (end == NULL || end->gen == w->gen));
	if (in->module >= k->module_n)
		return;
	t = &k->modules[in->module];
	*c = (struct toe_stream_conn){.of = t,
				      .id = w->conn,
				      .gen = w->gen,
				      .ctl = in->ctl,
				      .told_ctl = in->ctl,
				      .state = TOE_SLOT_ESTABLISHED,
				      .pub_state = TOE_SLOT_ESTABLISHED,
				      .app_id = in->app_id,
				      .slot = in->slot,
				      .rx_wnd = in->rx_buf_bytes,
				      .rx_size = in->rx_buf_bytes,
				      .tx_size = in->rx_buf_bytes,
				      .next_dirty = next,
				      .flags = listed | (a == NULL ? SC_NO_APP : 0)};
	if (a != NULL) {
		c->rx_size = a->rx_buf_bytes;
		c->tx_size = a->tx_buf_bytes;
	}
	c->rx_pos = c->told_head = in->rcv_nxt - in->irs - 1;
	c->told_tail = in->snd_nxt - in->iss - 1;
	toe_extq_init(&c->tx, c->told_tail);
	k->open_n++;
	if (t->m->conn_bytes != 0)
		memset(t->states + (size_t)c->id * t->m->conn_bytes, 0, t->m->conn_bytes);
	t->m->open(t, c);
	if (end != NULL) {
		c->end = end;
		stream_app_close(k, c, &toe_work_ctrl(end)->cmd.close);
	}
	stream_mark(k, c);
}

/* What will not be used any more; nothing of it is in anybody's hands but the copies in flight. */
void stream_wire_drop(struct stream_core *k, struct toe_stream_conn *c)
{
	toe_extq_clear(k->arena, &c->fwd);
	toe_extq_clear(k->arena, &c->rxq);
	toe_extq_clear(k->arena, &c->txq);
	toe_stash_clear(k->arena, &c->ooo);
}

void stream_wire_close(struct stream_core *k, struct toe_stream_conn *c)
{
	c->flags |= SC_TX_ENDED | SC_DEAD;
	c->of->m->close(c->of, c);
	stream_app_unlist(k, c);
	toe_extq_clear(k->arena, &c->tx);
	stream_wire_drop(k, c);
	if (c->end != NULL)
		toe_work_free(k->stage, c->end);
	c->end = NULL;
	c->of = NULL;
	k->open_n--;
}

/* ---- from the peer ---- */

/* Returns how many bytes the module took.  Its resume during the call is not lost. */
static uint32_t give(struct toe_stream_conn *c, const uint8_t *data, uint32_t len)
{
	uint32_t n;

	c->flags |= SC_RX_WAIT;
	n = (uint32_t)c->of->m->rx(c->of, c, data, len);
	TOE_ASSERT(n <= len);
	c->held += n;
	if (n == len)
		c->flags &= ~SC_RX_WAIT;
	return n;
}

/* The next bytes in order, in b or (NULL) in a packet.  What the module leaves is kept. */
static void deliver(struct stream_core *k, struct toe_stream_conn *c, struct toe_buf *b,
		    const uint8_t *data, uint32_t len)
{
	uint32_t n = 0;
	int rc;

	c->rx_pos += len;
	if (!(c->flags & SC_RX_WAIT) && toe_extq_bytes(&c->rxq) == 0)
		n = give(c, data, len);
	if (n == len || (c->flags & SC_DEAD))
		return;
	if (b != NULL && len - n >= STREAM_PIN)
		rc = toe_extq_push(k->arena, &c->rxq, b, (uint32_t)(data + n - b->data), len - n);
	else
		rc = toe_extq_copy(k->arena, &c->rxq, data + n, len - n);
	if (rc != 0)
		stream_give_up(k, c);
}

/* Acknowledged bytes that find no memory are lost to the stream: it ends here. */
static bool stash(struct stream_core *k, struct toe_stream_conn *c, uint32_t pos,
		  const uint8_t *data, uint32_t len)
{
	const struct toe_stash_in in = {
		.front = c->rx_pos, .window = c->rx_wnd, .pos = pos, .data = data, .len = len};

	if (toe_stash_put(k->arena, &c->ooo, &in) == 0)
		return true;
	stream_give_up(k, c);
	return false;
}

/* Bytes in order that reach stored ones: those are what they were when they came first. */
static void fill_hole(struct stream_core *k, struct toe_stream_conn *c, const uint8_t *data,
		      uint32_t len)
{
	uint32_t gap = toe_stash_gap(&c->ooo, c->rx_pos);
	uint32_t front;

	gap = gap < len ? gap : len;
	if (!stash(k, c, c->rx_pos + gap, data + gap, len - gap))
		return;
	deliver(k, c, NULL, data, gap);
	front = toe_stash_reach(&c->ooo, c->rx_pos);
	while (c->rx_pos != front && !(c->flags & SC_DEAD)) {
		uint32_t off, n;
		struct toe_buf *b = toe_stash_at(&c->ooo, c->rx_pos, &off, &n);

		n = n < front - c->rx_pos ? n : front - c->rx_pos;
		deliver(k, c, b, b->data + off, n);
	}
	toe_stash_trim(k->arena, &c->ooo, c->rx_pos);
}

static void take_payload(struct stream_core *k, struct toe_stream_conn *c, struct toe_work *w)
{
	uint32_t off = (uint32_t)w->seg.payload_off + w->snap.skip;
	uint32_t len = w->snap.len;
	const uint8_t *data = rte_pktmbuf_mtod_offset(w->mbuf, const uint8_t *, off);

	TOE_ASSERT(off + len <= w->mbuf->data_len);
	/* after SHUT_RD proto discards, too, as soon as it knows */
	if ((c->flags & SC_DEAD) || (c->told_ctl & TOE_CTL_SHUT_RD))
		return;
	/* proto has no record of them any more (its scoreboard went to another connection), and
	 * lets the peer send them again (RFC 2018 section 8) */
	if (!w->snap.had_holes)
		toe_stash_clear(k->arena, &c->ooo);
	if (w->snap.pos != c->rx_pos) {
		stash(k, c, w->snap.pos, data, len);
		return;
	}
	if (c->ooo.table == NULL)
		deliver(k, c, NULL, data, len);
	else
		fill_hole(k, c, data, len);
	stream_mark(k, c);
}

/* Nothing more is sent, and nothing the application has written matters. */
static void end_tx(struct stream_core *k, struct toe_stream_conn *c)
{
	stream_end_tx(c);
	toe_extq_clear(k->arena, &c->txq);
}

static void offer_reset(struct stream_core *k, struct toe_stream_conn *c)
{
	c->flags |= SC_RX_WAIT;
	if (!c->of->m->rx_reset(c->of, c))
		return;
	c->flags &= ~(SC_RESET | SC_RX_WAIT);
	end_tx(k, c);
}

void stream_wire_offer(struct stream_core *k, struct toe_stream_conn *c)
{
	const struct toe_extent *e;

	while (!(c->flags & (SC_RX_WAIT | SC_DEAD)) && k->turn < STREAM_TURN &&
	       (e = toe_extq_first(&c->rxq)) != NULL) {
		uint32_t n = give(c, e->buf->data + e->off, e->len);

		k->turn += n;
		toe_extq_trim(k->arena, &c->rxq, c->rxq.begin + n);
	}
	if ((c->flags & (SC_RX_FIN | SC_RX_ENDED | SC_RX_WAIT | SC_DEAD)) == SC_RX_FIN &&
	    toe_extq_bytes(&c->rxq) == 0) {
		c->flags |= SC_RX_WAIT;
		if (c->of->m->rx_end(c->of, c))
			c->flags = (c->flags | SC_RX_ENDED) & ~SC_RX_WAIT;
	}
	if ((c->flags & (SC_RESET | SC_RX_WAIT | SC_DEAD)) == SC_RESET &&
	    toe_extq_bytes(&c->rxq) == 0)
		offer_reset(k, c);
}

/* ---- to the peer ---- */

/* The payload of a segment proto has decided on, and the checksum of any. */
static void fill_segment(struct stream_core *k, struct toe_stream_conn *c, struct toe_work *w)
{
	struct rte_mbuf *m = w->tx_mbuf;
	uint32_t len = toe_work_sends(w) ? w->snap.len : 0;

	if (len != 0) {
		TOE_ASSERT(len <= m->data_len);
		TOE_ASSERT(w->snap.pos - c->tx.begin + len <= toe_extq_bytes(&c->tx));
		toe_extq_read(&c->tx, w->snap.pos,
			      rte_pktmbuf_mtod_offset(m, uint8_t *, m->data_len - len), len);
	}
	if (!k->engine->caps.tx_tcp_cksum)
		toe_seg_fill_cksum(m);
}

/* Proto has reset the connection: segments that were on their way have passed, none follows, and no
 * cursor matters to it.  What the peer sent before may still be read. */
static void take_error(struct stream_core *k, struct toe_stream_conn *c, uint32_t error)
{
	c->error = error;
	if (c->of->m->rx_reset != NULL && !(c->flags & SC_DEAD))
		c->flags |= SC_RESET; /* stream_wire_offer() asks */
	else
		end_tx(k, c);
	toe_extq_clear(k->arena, &c->tx);
	toe_stash_clear(k->arena, &c->ooo);
	c->told_tail = c->tx.end;
}

/* Items whose snapshot proto has finished: cursors and state of the wire. */
static void take_progress(struct stream_core *k, struct toe_stream_conn *c, struct toe_work *w)
{
	c->srtt_us = w->snap.srtt_us;
	c->cwnd = w->snap.cwnd;
	c->state |= w->snap.state;
	if (w->snap.state & TOE_SLOT_ERROR)
		take_error(k, c, w->snap.error);
	if (w->snap.state & TOE_SLOT_RX_FIN)
		c->flags |= SC_RX_FIN;
	if (seq_gt(w->snap.tx_head, c->tx.begin)) {
		toe_extq_trim(k->arena, &c->tx, w->snap.tx_head);
		c->flags &= ~SC_TX_WAIT; /* there may have been no room */
		stream_mark(k, c);
	}
}

/* The application does not see a reset before the module agrees, and what it can read before that.
 */
static bool reset_hidden(const struct toe_stream_conn *c)
{
	bool moves = c->rx_put != c->rx_tail ||
		     (toe_extq_bytes(&c->fwd) != 0 && c->rx_put - c->rx_head < c->rx_size);

	if ((c->flags & (SC_DEAD | SC_NO_APP)) || !(c->state & TOE_SLOT_ERROR) ||
	    c->of->m->rx_reset == NULL)
		return false;
	/* SC_TX_ENDED before that: it has closed, or half, and does not wait for anything */
	return (c->flags & (SC_RESET | SC_TX_ENDED)) == SC_RESET ||
	       (moves && !(c->ctl & TOE_CTL_SHUT_RD));
}

void stream_wire_remove(struct stream_core *k, struct toe_stream_conn *c)
{
	struct toe_work *w = c->removed;

	if (reset_hidden(c))
		return;
	stream_wire_stamp(c, &w->snap);
	stream_wire_close(k, c);
	if (c->copies != 0)
		return;
	c->removed = NULL;
	toe_emit_next(k->stage, w);
}

bool stream_wire_item(struct stream_core *k, struct toe_stream_conn *c, struct toe_work *w)
{
	bool command =
		w->type == TOE_WORK_CTRL && (w->cmd == TOE_CMD_INSTALL || w->cmd == TOE_CMD_REMOVE);

	if (w->type == TOE_WORK_RX && w->verdict == TOE_FORWARD && w->snap.len != 0 &&
	    w->mbuf != NULL)
		take_payload(k, c, w);
	if ((w->todo & TOE_TODO_TX) && w->tx_mbuf != NULL)
		fill_segment(k, c, w);
	if ((w->todo & TOE_TODO_CTXQ) && !command) {
		take_progress(k, c, w);
		stream_mark(k, c);
		stream_app_complete(k);
		if (!stream_wire_stamp(c, &w->snap))
			w->todo &= (uint8_t)~TOE_TODO_CTXQ;
	}
	if (w->type == TOE_WORK_CTRL && w->cmd == TOE_CMD_REMOVE) {
		c->removed = w;
		stream_wire_remove(k, c);
		return false;
	}
	return true;
}

/* ---- the application's bytes ---- */

void stream_wire_offer_tx(struct stream_core *k, struct toe_stream_conn *c)
{
	const struct toe_extent *e;

	while (!(c->flags & (SC_TX_WAIT | SC_TX_ENDED | SC_DEAD)) && k->turn < STREAM_TURN &&
	       (e = toe_extq_first(&c->txq)) != NULL) {
		uint32_t len = e->len, n;

		c->flags |= SC_TX_WAIT;
		n = (uint32_t)c->of->m->tx(c->of, c, e->buf, e->off, len);
		TOE_ASSERT(n <= len);
		if (n == len)
			c->flags &= ~SC_TX_WAIT;
		k->turn += n;
		toe_extq_trim(k->arena, &c->txq, c->txq.begin + n);
	}
	if ((c->flags & (SC_TX_FIN | SC_TX_ENDED | SC_TX_WAIT)) == SC_TX_FIN &&
	    toe_extq_bytes(&c->txq) == 0 && (c->tx_head == c->tx_tail || (c->flags & SC_NO_APP))) {
		c->flags |= SC_TX_END; /* it may still send: SC_TX_ENDED comes behind */
		c->of->m->tx_end(c->of, c);
		c->flags |= SC_TX_ENDED;
	}
}

/* ---- to proto ---- */

static struct toe_work *make_hc(struct stream_core *k, const struct toe_stream_conn *c)
{
	struct toe_work *w = toe_work_alloc(k->stage, TOE_WORK_HC);

	if (w == NULL) {
		k->stage->drops[TOE_D_NO_ITEM]++;
		return NULL;
	}
	w->conn = c->id;
	w->gen = c->gen;
	w->fg = (uint16_t)(c->id % k->engine->flow_group_n);
	return w;
}

/* Received bytes that still occupy memory count against the window. */
static uint32_t rx_head_now(const struct toe_stream_conn *c)
{
	uint32_t kept = c->held + toe_extq_bytes(&c->rxq) + toe_extq_bytes(&c->fwd) +
			(c->rx_put - c->rx_head);

	return seq_max(c->rx_pos - kept, c->told_head);
}

/* CLOSE follows when all that was written is in the queue and shown to proto; with a reset, when
 * that has as much as it takes without the peer's help. */
static void release_end(struct stream_core *k, struct toe_stream_conn *c)
{
	struct toe_cmd_close *close = &toe_work_ctrl(c->end)->cmd.close;
	bool ended = c->flags & SC_TX_ENDED;

	if (close->mode & TOE_CLOSE_RST) {
		if (!ended && toe_extq_bytes(&c->tx) < STREAM_TX_LIMIT)
			return;
	} else if (!ended || c->told_tail != c->tx.end) {
		return;
	}
	close->tx_tail = c->told_tail;
	if (c->removed != NULL)
		toe_work_free(k->stage, c->end); /* proto has forgotten it */
	else
		toe_emit(k->stage, TOE_STAGE_SEQ, c->end);
	c->end = NULL;
}

static bool tell_abort(struct stream_core *k, struct toe_stream_conn *c)
{
	struct toe_work *w = make_hc(k, c);

	if (w == NULL)
		return false;
	c->flags &= ~SC_ABORT;
	w->cmd = TOE_HC_ABORT;
	toe_emit(k->stage, TOE_STAGE_SEQ, w);
	return true;
}

bool stream_wire_tell(struct stream_core *k, struct toe_stream_conn *c)
{
	uint32_t tail = seq_min(c->tx.end, c->tx.begin + STREAM_AHEAD);
	uint32_t head = rx_head_now(c);
	/* A message of the module's must not wait for the peer's delayed ACK. */
	uint32_t ctl = (c->ctl & ~TOE_CTL_SHUT_WR) | TOE_CTL_NODELAY;

	if ((c->flags & SC_ABORT) && !(c->state & TOE_SLOT_ERROR) && !tell_abort(k, c))
		return false;
	if ((c->flags & SC_TX_ENDED) && (c->ctl & TOE_CTL_SHUT_WR) && tail == c->tx.end)
		ctl |= TOE_CTL_SHUT_WR;
	if (!(c->state & TOE_SLOT_ERROR) &&
	    (tail != c->told_tail || head != c->told_head || ctl != c->told_ctl)) {
		struct toe_work *w = make_hc(k, c);

		if (w == NULL)
			return false;
		w->hc = (struct toe_hc){.app_id = c->app_id,
					.slot = c->slot,
					.tx_tail = tail,
					.rx_head = head,
					.ctl = ctl,
					.share = k->share};
		c->told_tail = tail;
		c->told_head = head;
		c->told_ctl = ctl;
		if (ctl & TOE_CTL_SHUT_RD)
			toe_stash_clear(k->arena, &c->ooo);
		toe_emit(k->stage, TOE_STAGE_SEQ, w);
	}
	if (c->end != NULL)
		release_end(k, c);
	return true;
}

/* ---- to ctxq ---- */

/* The peer's FIN is behind the last byte the application can read. */
static bool all_forwarded(const struct toe_stream_conn *c)
{
	return (c->flags & SC_RX_ENDED) && toe_extq_bytes(&c->fwd) == 0 &&
	       toe_extq_bytes(&c->rxq) == 0 && c->rx_put == c->rx_tail;
}

static uint32_t visible_state(const struct toe_stream_conn *c)
{
	uint32_t hidden = all_forwarded(c) ? 0 : TOE_SLOT_RX_FIN;

	if (reset_hidden(c))
		hidden |= TOE_SLOT_ERROR;
	return c->state & ~hidden;
}

static bool has_news(const struct toe_stream_conn *c)
{
	return c->pub_rx_tail != c->rx_tail || c->pub_tx_head != c->tx_head ||
	       c->pub_state != visible_state(c);
}

bool stream_wire_stamp(struct toe_stream_conn *c, struct toe_snap *snap)
{
	bool news = has_news(c);

	snap->rx_tail = c->pub_rx_tail = c->rx_tail;
	snap->tx_head = c->pub_tx_head = c->tx_head;
	snap->state = c->pub_state = visible_state(c);
	snap->error = c->error;
	snap->srtt_us = c->srtt_us;
	snap->cwnd = c->cwnd;
	return news;
}

bool stream_wire_publish(struct stream_core *k, struct toe_stream_conn *c)
{
	struct toe_work *w;

	if (!has_news(c))
		return true;
	w = make_hc(k, c);
	if (w == NULL)
		return false;
	memset(&w->snap, 0, sizeof(w->snap));
	stream_wire_stamp(c, &w->snap);
	w->todo = TOE_TODO_CTXQ;
	toe_emit_next(k->stage, w);
	return true;
}
