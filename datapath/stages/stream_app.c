/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stream, the application's side: fills RX-PAYLOAD-BUF with what the module forwards, empties
 * TX-PAYLOAD-BUF into buffers of the arena.
 *
 * Input: cursors of the application (line 1 of its slot: every word may be a lie), bytes to
 * forward.  Output: copies through hostmem; their completions, in order, move the cursors that
 * ctxq publishes and hand fetched bytes to the module.  Owns the FIFO of copies, and the list of
 * connections whose first bytes are to be fetched.  Thread: the stage's.
 */
#include <errno.h>

#include "common/log.h"
#include "common/tcp_seq.h"
#include "stream_priv.h"

#define COLLECT 64u

/* ---- what the application says ---- */

static bool tail_ok(const struct toe_stream_conn *c, uint32_t tail)
{
	if (tail == c->tx_tail)
		return true;
	return !(c->flags & SC_TX_FIN) && seq_gt(tail, c->tx_tail) &&
	       tail - c->tx_head <= c->tx_size;
}

/* Its first bytes: behind those of all connections of which they are known already.  A module may
 * rely on that order (stream_module.h), which the list of those to look after does not keep: who is
 * on that list for something else is ahead. */
static void note_begin(struct stream_core *k, struct toe_stream_conn *c)
{
	if ((c->flags & SC_BEGUN) || c->tx_tail == c->tx_get)
		return;
	c->flags |= SC_BEGUN | SC_FIRST;
	c->next_first = NULL;
	c->prev_first = k->first_last;
	if (k->first_last != NULL)
		k->first_last->next_first = c;
	else
		k->first_first = c;
	k->first_last = c;
}

void stream_app_unlist(struct stream_core *k, struct toe_stream_conn *c)
{
	if (!(c->flags & SC_FIRST))
		return;
	c->flags &= ~SC_FIRST;
	if (c->prev_first != NULL)
		c->prev_first->next_first = c->next_first;
	else
		k->first_first = c->next_first;
	if (c->next_first != NULL)
		c->next_first->prev_first = c->prev_first;
	else
		k->first_last = c->prev_first;
}

void stream_app_hc(struct stream_core *k, struct toe_stream_conn *c, const struct toe_hc *hc)
{
	uint32_t tail = hc->tx_tail;

	if (c->end != NULL && seq_lt(tail, c->tx_tail))
		tail = c->tx_tail; /* fetched before CLOSE told the last one */
	if (hc->app_id != c->app_id || hc->slot != c->slot || !tail_ok(c, tail) ||
	    hc->rx_head - c->rx_head > c->rx_tail - c->rx_head) {
		k->stage->drops[TOE_D_HC_INVALID]++;
		return;
	}
	c->tx_tail = tail;
	note_begin(k, c);
	c->rx_head = hc->rx_head;
	if (hc->tx_short != c->tx_short) {
		c->tx_short = hc->tx_short;
		if (c->of->m->tx_short != NULL)
			c->of->m->tx_short(c->of, c);
	}
	/* a direction once shut stays shut */
	c->ctl = hc->ctl | (c->ctl & (TOE_CTL_SHUT_WR | TOE_CTL_SHUT_RD));
	if (c->ctl & TOE_CTL_SHUT_WR)
		c->flags |= SC_TX_FIN;
}

void stream_app_close(struct stream_core *k, struct toe_stream_conn *c,
		      const struct toe_cmd_close *close)
{
	if (close->mode & TOE_CLOSE_TAIL) {
		if (tail_ok(c, close->tx_tail))
			c->tx_tail = close->tx_tail;
		else
			k->stage->drops[TOE_D_HC_INVALID]++;
		note_begin(k, c);
	}
	c->flags |= SC_TX_FIN;
}

/* ---- copies ---- */

static bool op_room(struct stream_core *k, uint32_t n)
{
	bool room = STREAM_OPS - (k->op_tail - k->op_head) >= n;

	k->busy = k->busy || !room;
	return room;
}

static void op_add(struct stream_core *k, struct toe_stream_conn *c, struct stream_op op)
{
	op.conn = c->id;
	c->copies++;
	k->ops[k->op_tail++ % STREAM_OPS] = op;
}

/* 0, -EAGAIN, or the application is gone: then there is nobody to read or write. */
static int submit(struct stream_core *k, struct toe_stream_conn *c, uint8_t dir, uint64_t offset,
		  uint8_t *local, uint32_t len)
{
	const struct toe_hostmem_op op = {.app_id = c->app_id,
					  .dir = dir,
					  .segment = TOE_SEG_PAYLOAD,
					  .len = (uint16_t)len,
					  .offset = offset,
					  .local = local};
	int rc = toe_hostmem_submit(k->mem, &op);

	k->busy = k->busy || rc == -EAGAIN;
	if (rc != 0 && rc != -EAGAIN) {
		k->stage->drops[TOE_D_APP_GONE]++;
		c->flags |= SC_NO_APP;
	}
	if (rc == 0) {
		toe_count(k->stage, TOE_C_DMA_OPS, 1);
		toe_count(k->stage, TOE_C_DMA_BYTES, len);
	}
	return rc;
}

static uint32_t piece(uint32_t pos, uint32_t len, uint32_t size)
{
	uint32_t left = size - (pos & (size - 1));

	len = len < left ? len : left;
	return len < STREAM_FETCH_MAX ? len : STREAM_FETCH_MAX;
}

/* ---- to the application ---- */

/* As much as there is room for; returns the bytes that are on their way. */
static uint32_t copy_out(struct stream_core *k, struct toe_stream_conn *c, struct toe_buf *b,
			 const uint8_t *data, uint32_t len)
{
	uint64_t base = toe_slot_rx_off(c->slot, c->rx_size, c->tx_size);
	uint32_t done = 0;

	while (done < len && c->rx_put - c->rx_head < c->rx_size && op_room(k, 1)) {
		uint32_t room = c->rx_size - (c->rx_put - c->rx_head);
		uint32_t n = piece(c->rx_put, len - done < room ? len - done : room, c->rx_size);
		uint64_t at = base + (c->rx_put & (c->rx_size - 1));
		int rc = submit(k, c, TOE_TO_HOST, at, (uint8_t *)(uintptr_t)(data + done), n);

		if (rc == -EAGAIN)
			break;
		if (rc != 0)
			return len;
		c->rx_put += n;
		done += n;
		op_add(k, c,
		       (struct stream_op){.kind = STREAM_OP_FORWARD,
					  .pos = c->rx_put,
					  .buf = b != NULL ? toe_buf_get(b) : NULL});
	}
	return done;
}

/* A copy that outlives the call needs memory that does, too. */
static int forward_copy(struct stream_core *k, struct toe_stream_conn *c, const uint8_t *data,
			uint32_t len)
{
	struct toe_buf *b = toe_buf_new(k->arena, len);
	int rc;

	if (b == NULL)
		return -ENOSPC;
	memcpy(b->data, data, len);
	b->len = len;
	rc = stream_app_forward(k, c, b, b->data, len);
	toe_buf_put(k->arena, b);
	return rc;
}

int stream_app_forward(struct stream_core *k, struct toe_stream_conn *c, struct toe_buf *b,
		       const uint8_t *data, uint32_t len)
{
	uint32_t n = 0;

	if (c->flags & (SC_NO_APP | SC_DEAD) || (c->ctl & TOE_CTL_SHUT_RD))
		return 0;
	if (b == NULL && toe_hostmem_async(k->mem))
		return forward_copy(k, c, data, len);
	stream_mark(k, c);
	if (toe_extq_bytes(&c->fwd) == 0)
		n = copy_out(k, c, b, data, len);
	if (n == len)
		return 0;
	if (b != NULL)
		return toe_extq_push(k->arena, &c->fwd, b, (uint32_t)(data + n - b->data), len - n);
	return toe_extq_copy(k->arena, &c->fwd, data + n, len - n);
}

void stream_app_drain(struct stream_core *k, struct toe_stream_conn *c)
{
	const struct toe_extent *e;

	while ((e = toe_extq_first(&c->fwd)) != NULL) {
		uint32_t n = copy_out(k, c, e->buf, e->buf->data + e->off, e->len);
		bool all = n == e->len;

		toe_extq_trim(k->arena, &c->fwd, c->fwd.begin + n);
		if (!all)
			break;
	}
}

/* ---- from the application ---- */

/* Memory for so many bytes, or, where little is left, for fewer: a little for each connection that
 * the peer reads from, so that nobody's answer waits for those who hold the rest. */
static struct toe_buf *fetch_buf(struct stream_core *k, const struct toe_stream_conn *c,
				 uint32_t *want)
{
	struct toe_buf *b = toe_buf_new(k->arena, *want);

	if (b != NULL || toe_extq_bytes(&c->tx) != 0 || c->tx_get != c->tx_head)
		return b;
	*want = *want < STREAM_FETCH_LITTLE ? *want : STREAM_FETCH_LITTLE;
	stream_last_memory(k, true);
	b = toe_buf_new(k->arena, *want);
	if (b == NULL && *want > STREAM_FETCH_LEAST) {
		*want = STREAM_FETCH_LEAST;
		b = toe_buf_new(k->arena, *want);
	}
	stream_last_memory(k, false);
	return b;
}

/* One buffer full; false: not now. */
static bool fetch(struct stream_core *k, struct toe_stream_conn *c)
{
	uint64_t base = toe_slot_tx_off(c->slot, c->rx_size, c->tx_size);
	uint32_t want = c->tx_tail - c->tx_get, got = 0;
	struct toe_buf *b;

	if (!op_room(k, 2))
		return false;
	want = want < STREAM_FETCH_MAX ? want : STREAM_FETCH_MAX;
	b = fetch_buf(k, c, &want);
	if (b == NULL) {
		stream_starve(k, c);
		return false;
	}
	while (got < want) {
		uint32_t n = piece(c->tx_get, want - got, c->tx_size);
		uint64_t at = base + (c->tx_get & (c->tx_size - 1));

		if (submit(k, c, TOE_FROM_HOST, at, b->data + got, n) != 0)
			break;
		got += n;
		c->tx_get += n;
		op_add(k, c,
		       (struct stream_op){.kind = got == want ? STREAM_OP_FETCH : STREAM_OP_PART,
					  .pos = c->tx_get,
					  .buf = toe_buf_get(b)});
	}
	k->turn += got;
	if (got != 0 && got < want) /* the second half found the queue full */
		k->ops[(k->op_tail - 1) % STREAM_OPS].kind = STREAM_OP_FETCH;
	b->len = got;
	toe_buf_put(k->arena, b);
	return got == want;
}

static bool may_fetch(const struct toe_stream_conn *c)
{
	return c->tx_get != c->tx_tail && toe_extq_bytes(&c->txq) == 0 &&
	       !(c->flags & (SC_TX_WAIT | SC_TX_ENDED | SC_DEAD | SC_NO_APP)) &&
	       toe_extq_bytes(&c->tx) < STREAM_TX_LIMIT;
}

void stream_app_first(struct stream_core *k)
{
	struct toe_stream_conn *c;

	while ((c = k->first_first) != NULL && k->turn < STREAM_TURN) {
		uint32_t was = c->tx_get;

		if (may_fetch(c)) {
			if (c->flags & SC_STARVED)
				return;
			fetch(k, c);
			if (c->tx_get == was && !(c->flags & SC_NO_APP))
				return; /* no copy or memory free: the others wait, too */
		}
		stream_app_unlist(k, c);
		stream_mark(k, c);
	}
}

void stream_app_fetch(struct stream_core *k, struct toe_stream_conn *c)
{
	if (c == k->first_first)
		stream_app_first(k);
	while (!(c->flags & SC_FIRST) && may_fetch(c)) {
		if (k->turn >= STREAM_TURN || !fetch(k, c))
			return;
		if (c->tx_get - c->tx_head >= STREAM_TX_LIMIT)
			return;
	}
}

/* Offers what arrived to the module; what it leaves waits, in order. */
static void fetched(struct stream_core *k, struct toe_stream_conn *c, struct toe_buf *b)
{
	uint32_t n = 0;

	if (c->flags & (SC_TX_ENDED | SC_DEAD))
		return;
	if (!(c->flags & SC_TX_WAIT) && toe_extq_bytes(&c->txq) == 0) {
		c->flags |= SC_TX_WAIT;
		n = (uint32_t)c->of->m->tx(c->of, c, b, 0, b->len);
		TOE_ASSERT(n <= b->len);
		if (n == b->len)
			c->flags &= ~SC_TX_WAIT;
	}
	stream_last_memory(k, true);
	if (n < b->len && toe_extq_push(k->arena, &c->txq, b, n, b->len - n) != 0)
		stream_give_up(k, c);
	stream_last_memory(k, false);
}

static void complete(struct stream_core *k, const struct stream_op *op)
{
	struct toe_stream_conn *c = &k->conns[op->conn];

	c->copies--;
	if (c->of != NULL) {
		if (op->kind == STREAM_OP_FORWARD) {
			c->rx_tail = op->pos;
		} else if (op->kind == STREAM_OP_FETCH) {
			c->tx_head = op->pos;
			fetched(k, c, op->buf);
		}
		stream_mark(k, c);
	} else if (c->copies == 0 && c->removed != NULL) {
		toe_emit_next(k->stage, c->removed);
		c->removed = NULL;
	}
	if (op->buf != NULL)
		toe_buf_put(k->arena, op->buf);
}

unsigned stream_app_complete(struct stream_core *k)
{
	void *cookies[COLLECT];
	unsigned total = 0;
	unsigned n;

	do {
		n = toe_hostmem_poll(k->mem, cookies, COLLECT);
		for (unsigned i = 0; i < n; i++) {
			/* a copy: modules called from here may add to the FIFO */
			const struct stream_op op = k->ops[k->op_head++ % STREAM_OPS];

			complete(k, &op);
		}
		total += n;
	} while (n == COLLECT);
	return total;
}
