/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Stash: bytes of a peer that were received out of order, until those before them have come.
 *
 * Blocks by stream position, allocated as bytes arrive: one-byte segments cost no more than whole
 * ones, and all of it never more than the receive window, rounded up to blocks.  What a byte was
 * first, it stays: the peer may have been told that it need not be sent again.  An empty stash owns
 * no memory.  One thread.
 */
#ifndef TOE_STREAM_STASH_H
#define TOE_STREAM_STASH_H

#include "ooo.h"
#include "stream_mem.h"

#define TOE_STASH_BLOCK 4080u /* bytes; with its header a block of the arena */

struct toe_stash {
	struct toe_ooo have;   /* positions; proto's set, or what that was before it lost it */
	struct toe_buf *table; /* ring of struct toe_buf *, by block; NULL: nothing is stored */
	uint32_t first;        /* index of the block that holds base */
	uint32_t n;            /* of the ring */
	uint32_t base;         /* stream position */
};

struct toe_stash_in {
	uint32_t front;  /* all before it has been received */
	uint32_t window; /* no byte lies further from front */
	uint32_t pos;    /* of the first byte, behind front */
	uint32_t len;
	const uint8_t *data;
};

/* Keeps what is new of it.  0; -ENOSPC: no memory, or one interval too many. */
int toe_stash_put(struct toe_arena *a, struct toe_stash *s, const struct toe_stash_in *in);

/* Bytes from pos on that are not stored; UINT32_MAX: nothing is, from there on. */
uint32_t toe_stash_gap(const struct toe_stash *s, uint32_t pos);

/* All before front has been received: returns up to where that is true with the stored bytes.
 * Those have to be fetched by toe_stash_at() before toe_stash_trim(). */
uint32_t toe_stash_reach(struct toe_stash *s, uint32_t front);

/* The block with the byte at pos, which is stored; *off: where in it; *len: up to the block's end,
 * stored or not. */
struct toe_buf *toe_stash_at(const struct toe_stash *s, uint32_t pos, uint32_t *off, uint32_t *len);

/* Forgets blocks before front, and everything if no byte is stored. */
void toe_stash_trim(struct toe_arena *a, struct toe_stash *s, uint32_t front);
void toe_stash_clear(struct toe_arena *a, struct toe_stash *s);

#endif
