/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hostmem backend "memcpy": the CPU copies at submission, completion is reported by the next poll.
 * State: none beyond the queue.  Runs on the lcore of the queue.
 */
#include <stdatomic.h>
#include <string.h>

#include "hostmem_priv.h"

static int mem_open(struct toe_hostmem *h, unsigned *depth)
{
	(void)h;
	(void)depth;
	return 0;
}

static void mem_close(struct toe_hostmem *h)
{
	(void)h;
}

#define WORDS_MAX 4u

/* A few words are copied as words: the other side may be writing them.  In rising order, each read
 * before the next one (acquire; pairs with libtoe's releases of the cursors of a slot). */
static void copy_words(uint8_t *dst, const uint8_t *src, size_t len)
{
	for (size_t at = 0; at < len; at += sizeof(uint32_t)) {
		uint32_t word = __atomic_load_n((const uint32_t *)(const void *)(src + at),
						__ATOMIC_ACQUIRE);

		memcpy(dst + at, &word, sizeof(word));
	}
}

static bool is_words(const struct toe_hostmem_job *j)
{
	return j->len <= WORDS_MAX * sizeof(uint32_t) && j->len % sizeof(uint32_t) == 0 &&
	       (uintptr_t)j->src % sizeof(uint32_t) == 0;
}

static int mem_copy(struct toe_hostmem *h, const struct toe_hostmem_job *j)
{
	(void)h;
	/* an earlier copy read from the region happens before this one reads */
	if (j->fence)
		atomic_thread_fence(memory_order_acquire);
	if (is_words(j))
		copy_words(j->dst, j->src, j->len);
	else
		memcpy(j->dst, j->src, j->len);
	return 0;
}

static unsigned mem_completed(struct toe_hostmem *h, unsigned n)
{
	(void)h;
	return n;
}

const struct toe_hostmem_ops toe_hostmem_memcpy = {
	.name = "memcpy",
	.open = mem_open,
	.close = mem_close,
	.copy = mem_copy,
	.completed = mem_completed,
};
