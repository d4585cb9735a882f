/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Stash of bytes received out of order (stream_stash.h): a ring of blocks over the receive window
 * and the set of intervals that are filled.
 *
 * Input: bytes by stream position.  Output: blocks, when the front has reached them; whoever wants
 * them longer takes references.  Owns one reference per block, the ring.  Thread: the owner's.
 */
#include "stream_stash.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "common/log.h"
#include "common/tcp_seq.h"

static_assert(TOE_STASH_BLOCK + sizeof(struct toe_buf) == 4096, "a block of the arena");

static struct toe_buf **block_of(const struct toe_stash *s, uint32_t pos)
{
	uint32_t index = (pos - s->base) / TOE_STASH_BLOCK;

	TOE_ASSERT(s->table != NULL && index < s->n);
	return (struct toe_buf **)s->table->data + (s->first + index) % s->n;
}

static int make_table(struct toe_arena *a, struct toe_stash *s, const struct toe_stash_in *in)
{
	/* the first block may have been passed almost to its end */
	uint32_t n = in->window / TOE_STASH_BLOCK + 2;

	s->table = toe_buf_new(a, n * sizeof(struct toe_buf *));
	if (s->table == NULL)
		return -ENOSPC;
	memset(s->table->data, 0, n * sizeof(struct toe_buf *));
	s->n = n;
	s->first = 0;
	s->base = in->front;
	return 0;
}

/* Bytes that are not here yet, into as many blocks as they need. */
static int write_gap(struct toe_arena *a, struct toe_stash *s, uint32_t pos, const uint8_t *data,
		     uint32_t len)
{
	while (len != 0) {
		uint32_t off = (pos - s->base) % TOE_STASH_BLOCK;
		uint32_t n = TOE_STASH_BLOCK - off < len ? TOE_STASH_BLOCK - off : len;
		struct toe_buf **b = block_of(s, pos);

		if (*b == NULL && (*b = toe_buf_new(a, TOE_STASH_BLOCK)) == NULL)
			return -ENOSPC;
		memcpy((*b)->data + off, data, n);
		pos += n;
		data += n;
		len -= n;
	}
	return 0;
}

/* Where the interval that holds pos ends; pos if there is none. */
static uint32_t stored_end(const struct toe_stash *s, uint32_t pos)
{
	for (uint32_t i = 0; i < s->have.n; i++)
		if (seq_leq(s->have.iv[i].left, pos) && seq_lt(pos, s->have.iv[i].right))
			return s->have.iv[i].right;
	return pos;
}

uint32_t toe_stash_gap(const struct toe_stash *s, uint32_t pos)
{
	uint32_t gap = UINT32_MAX;

	for (uint32_t i = 0; i < s->have.n; i++) {
		if (seq_lt(pos, s->have.iv[i].left)) {
			uint32_t left = s->have.iv[i].left - pos;

			gap = left < gap ? left : gap;
		} else if (seq_lt(pos, s->have.iv[i].right)) {
			return 0;
		}
	}
	return gap;
}

int toe_stash_put(struct toe_arena *a, struct toe_stash *s, const struct toe_stash_in *in)
{
	uint32_t pos = in->pos, end = in->pos + in->len;
	int rc = 0;

	TOE_ASSERT(in->pos - in->front + in->len <= in->window);
	if (in->len == 0)
		return 0;
	if (s->table == NULL)
		rc = make_table(a, s, in);
	while (rc == 0 && pos != end) {
		uint32_t to = seq_min(stored_end(s, pos), end);
		uint32_t gap;

		pos = to;
		gap = toe_stash_gap(s, pos);
		gap = gap < end - pos ? gap : end - pos;
		rc = write_gap(a, s, pos, in->data + (pos - in->pos), gap);
		pos += gap;
	}
	if (rc == 0 && !toe_ooo_add(&s->have, in->pos, end))
		rc = -ENOSPC;
	return rc;
}

uint32_t toe_stash_reach(struct toe_stash *s, uint32_t front)
{
	return toe_ooo_advance(&s->have, front);
}

struct toe_buf *toe_stash_at(const struct toe_stash *s, uint32_t pos, uint32_t *off, uint32_t *len)
{
	struct toe_buf *b = *block_of(s, pos);

	TOE_ASSERT(b != NULL);
	*off = (pos - s->base) % TOE_STASH_BLOCK;
	*len = TOE_STASH_BLOCK - *off;
	return b;
}

static void drop_first(struct toe_arena *a, struct toe_stash *s)
{
	struct toe_buf **b = block_of(s, s->base);

	if (*b != NULL)
		toe_buf_put(a, *b);
	*b = NULL;
	s->first = (s->first + 1) % s->n;
	s->base += TOE_STASH_BLOCK;
}

void toe_stash_trim(struct toe_arena *a, struct toe_stash *s, uint32_t front)
{
	if (s->table == NULL)
		return;
	if (s->have.n == 0) {
		toe_stash_clear(a, s);
		return;
	}
	while (front - s->base >= TOE_STASH_BLOCK)
		drop_first(a, s);
}

void toe_stash_clear(struct toe_arena *a, struct toe_stash *s)
{
	if (s->table == NULL)
		return;
	for (uint32_t i = 0; i < s->n; i++)
		drop_first(a, s);
	toe_buf_put(a, s->table);
	*s = (struct toe_stash){0};
}
