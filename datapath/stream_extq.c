/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Queue of extents (stream_extq.h): a ring of entries that grows by doubling and is given back when
 * the queue runs empty.
 *
 * Input: buffers and positions.  Owns: one reference per entry, the ring.  Thread: the owner's.
 */
#include "stream_extq.h"

#include <errno.h>
#include <string.h>

#include "common/log.h"
#include "common/tcp_seq.h"

#define RING_MIN 4u
#define COPY_MIN (512u - (uint32_t)sizeof(struct toe_buf)) /* bytes; least room of a copy */

static struct toe_extent *at(const struct toe_extq *q, uint32_t i)
{
	return (struct toe_extent *)q->ring->data + (i & q->mask);
}

void toe_extq_init(struct toe_extq *q, uint32_t pos)
{
	*q = (struct toe_extq){.begin = pos, .end = pos};
}

static void drop_ring(struct toe_arena *a, struct toe_extq *q)
{
	if (q->ring != NULL)
		toe_buf_put(a, q->ring);
	q->ring = NULL;
	q->head = q->tail = q->hint = q->mask = 0;
}

void toe_extq_clear(struct toe_arena *a, struct toe_extq *q)
{
	for (; q->head != q->tail; q->head++)
		toe_buf_put(a, at(q, q->head)->buf);
	drop_ring(a, q);
	q->begin = q->end;
}

static int grow(struct toe_arena *a, struct toe_extq *q)
{
	uint32_t n = q->ring == NULL ? RING_MIN : 2 * (q->mask + 1);
	struct toe_extq bigger = *q;

	if (n > TOE_EXTQ_MAX)
		return -ENOSPC;
	bigger.ring = toe_buf_new(a, n * sizeof(struct toe_extent));
	if (bigger.ring == NULL)
		return -ENOSPC;
	bigger.mask = n - 1;
	for (uint32_t i = q->head; i != q->tail; i++)
		*at(&bigger, i) = *at(q, i);
	if (q->ring != NULL)
		toe_buf_put(a, q->ring);
	*q = bigger;
	return 0;
}

int toe_extq_reserve(struct toe_arena *a, struct toe_extq *q, uint32_t n)
{
	while (q->ring == NULL || q->tail - q->head + n > q->mask + 1) {
		if (grow(a, q) != 0) {
			if (q->head == q->tail)
				drop_ring(a, q);
			return -ENOSPC;
		}
	}
	return 0;
}

int toe_extq_push(struct toe_arena *a, struct toe_extq *q, struct toe_buf *b, uint32_t off,
		  uint32_t len)
{
	TOE_ASSERT(off + len <= b->room);
	if (len == 0)
		return 0;
	if (len > TOE_EXTQ_BYTES_MAX - toe_extq_bytes(q))
		return -ENOSPC;
	if (q->head != q->tail) {
		struct toe_extent *last = at(q, q->tail - 1);

		if (last->buf == b && last->off + last->len == off) {
			last->len += len;
			q->end += len;
			return 0;
		}
	}
	if (toe_extq_reserve(a, q, 1) != 0)
		return -ENOSPC;
	*at(q, q->tail++) =
		(struct toe_extent){.buf = toe_buf_get(b), .off = off, .len = len, .pos = q->end};
	q->end += len;
	return 0;
}

/* Bytes that can be written behind the last extent; *off: where. */
static uint32_t spare(const struct toe_extq *q, uint32_t *off)
{
	const struct toe_extent *e;

	if (q->head == q->tail)
		return 0;
	e = at(q, q->tail - 1);
	*off = e->off + e->len;
	return e->buf->refs == 1 ? e->buf->room - *off : 0;
}

int toe_extq_copy(struct toe_arena *a, struct toe_extq *q, const uint8_t *data, uint32_t len)
{
	uint32_t off, room = spare(q, &off);
	uint32_t n = room < len ? room : len;
	struct toe_buf *b;
	int rc = 0;

	if (n != 0) {
		struct toe_buf *last = at(q, q->tail - 1)->buf;

		memcpy(last->data + off, data, n);
		rc = toe_extq_push(a, q, last, off, n);
		len -= n;
	}
	if (rc != 0 || len == 0)
		return rc;
	b = toe_buf_new(a, len > COPY_MIN ? len : COPY_MIN);
	if (b == NULL)
		return -ENOSPC;
	memcpy(b->data, data + n, len);
	b->len = len;
	rc = toe_extq_push(a, q, b, 0, len);
	toe_buf_put(a, b);
	return rc;
}

/* Index of the extent that holds pos. */
static uint32_t find(const struct toe_extq *q, uint32_t pos)
{
	uint32_t lo = q->head, hi = q->tail;

	if (q->hint - q->head < q->tail - q->head && seq_leq(at(q, q->hint)->pos, pos)) {
		lo = q->hint;
		if (seq_lt(pos, at(q, lo)->pos + at(q, lo)->len))
			return lo;
	}
	while (hi - lo > 1) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (seq_leq(at(q, mid)->pos, pos))
			lo = mid;
		else
			hi = mid;
	}
	return lo;
}

void toe_extq_read(struct toe_extq *q, uint32_t pos, uint8_t *dst, uint32_t len)
{
	uint32_t i;

	TOE_ASSERT(pos - q->begin <= toe_extq_bytes(q) && len <= q->end - pos);
	if (len == 0)
		return;
	for (i = find(q, pos);; i++) {
		const struct toe_extent *e = at(q, i);
		uint32_t skip = pos - e->pos;
		uint32_t n = e->len - skip < len ? e->len - skip : len;

		memcpy(dst, e->buf->data + e->off + skip, n);
		pos += n;
		dst += n;
		len -= n;
		if (len == 0)
			break;
	}
	q->hint = i;
}

void toe_extq_trim(struct toe_arena *a, struct toe_extq *q, uint32_t pos)
{
	if (!seq_gt(pos, q->begin))
		return;
	q->begin = seq_min(pos, q->end);
	while (q->head != q->tail && seq_leq(at(q, q->head)->pos + at(q, q->head)->len, q->begin))
		toe_buf_put(a, at(q, q->head++)->buf);
	if (q->head == q->tail) {
		drop_ring(a, q);
		return;
	}
	struct toe_extent *e = at(q, q->head);

	if (seq_lt(e->pos, q->begin)) {
		uint32_t cut = q->begin - e->pos;

		e->off += cut;
		e->len -= cut;
		e->pos += cut;
	}
}

const struct toe_extent *toe_extq_first(const struct toe_extq *q)
{
	return q->head == q->tail ? NULL : at(q, q->head);
}
