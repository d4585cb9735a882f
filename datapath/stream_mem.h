/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory of stream modules: reference-counted buffers out of one arena of fixed size.
 *
 * A buddy system: blocks of 2^n bytes, allocation and release in O(log n) without a system call.
 * Owned by one instance of the stream stage; no other thread calls any of this.  A message exists
 * once however many connections it is sent to: each queue entry holds a reference.
 */
#ifndef TOE_STREAM_MEM_H
#define TOE_STREAM_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TOE_BUF_BLOCK_MIN 128u              /* bytes of the smallest block, header included */
#define TOE_BUF_MAX       ((4u << 20) - 16) /* most bytes of one buffer */

/* The bytes follow the header.  refs, block: this module's; len: the owner's. */
struct toe_buf {
	uint32_t refs;
	uint32_t len;  /* bytes in use, at most toe_buf_room() */
	uint32_t room; /* bytes there are */
	uint32_t order;
	uint8_t data[];
};

struct toe_arena;

/* bytes: rounded down to whole largest blocks, at least one.  Pages are touched when they are first
 * used.  NULL: no memory. */
struct toe_arena *toe_arena_create(size_t bytes);
void toe_arena_free(struct toe_arena *a);

/* From now on allocations fail that would leave less than so many bytes. */
void toe_arena_keep(struct toe_arena *a, size_t bytes);

/* A buffer with one reference and room for at least len bytes; NULL: none that large is free. */
struct toe_buf *toe_buf_new(struct toe_arena *a, size_t len);

static inline struct toe_buf *toe_buf_get(struct toe_buf *b)
{
	b->refs++;
	return b;
}

/* Gives one reference back; the last one frees. */
void toe_buf_put(struct toe_arena *a, struct toe_buf *b);

/* Bytes of blocks in use, and of the whole arena. */
size_t toe_arena_used(const struct toe_arena *a);
size_t toe_arena_size(const struct toe_arena *a);

#endif
