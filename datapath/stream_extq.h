/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Queue of extents: a stretch of a byte stream whose bytes live in reference-counted buffers.
 *
 * Appended at the end, freed at the start when bytes are acknowledged (or forwarded), read anywhere
 * in between: a retransmission finds its bytes by position in O(log n), the next segment in O(1).
 * Positions are stream positions modulo 2^32.  An empty queue owns no memory.  One thread.
 */
#ifndef TOE_STREAM_EXTQ_H
#define TOE_STREAM_EXTQ_H

#include "stream_mem.h"

#define TOE_EXTQ_MAX       65536u     /* extents of one queue */
#define TOE_EXTQ_BYTES_MAX (1u << 30) /* and bytes: positions stay comparable */

struct toe_extent {
	struct toe_buf *buf; /* one reference */
	uint32_t off;        /* first byte in buf->data */
	uint32_t len;
	uint32_t pos; /* stream position of the first byte */
	uint32_t reserved;
};

struct toe_extq {
	struct toe_buf *ring; /* of struct toe_extent; NULL: empty */
	uint32_t mask;
	uint32_t head; /* free-running indices */
	uint32_t tail;
	uint32_t hint;  /* where the last read ended */
	uint32_t begin; /* stream position of the first byte in the queue */
	uint32_t end;   /* and after the last */
};

void toe_extq_init(struct toe_extq *q, uint32_t pos);
/* Drops everything. */
void toe_extq_clear(struct toe_arena *a, struct toe_extq *q);

static inline uint32_t toe_extq_bytes(const struct toe_extq *q)
{
	return q->end - q->begin;
}

/* Takes a reference of its own.  0, or -ENOSPC: the queue or the arena is full. */
int toe_extq_push(struct toe_arena *a, struct toe_extq *q, struct toe_buf *b, uint32_t off,
		  uint32_t len);

/* Copies data to the end, behind the last extent if its buffer is the queue's alone and has room:
 * single bytes do not cost a buffer each.  0 or -ENOSPC. */
int toe_extq_copy(struct toe_arena *a, struct toe_extq *q, const uint8_t *data, uint32_t len);

/* After it n pushes cannot fail.  0 or -ENOSPC. */
int toe_extq_reserve(struct toe_arena *a, struct toe_extq *q, uint32_t n);

/* Copies len bytes from stream position pos on; all of them must be in the queue. */
void toe_extq_read(struct toe_extq *q, uint32_t pos, uint8_t *dst, uint32_t len);

/* Frees what lies before pos, at most the end. */
void toe_extq_trim(struct toe_arena *a, struct toe_extq *q, uint32_t pos);

/* The first extent, valid until the queue changes; NULL: empty. */
const struct toe_extent *toe_extq_first(const struct toe_extq *q);

#endif
