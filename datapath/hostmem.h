/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The only way the datapath touches application memory: asynchronous copies.
 *
 * submit() takes a copy whose one end is {application, segment, offset} and the other local
 * memory; completions come back from poll() in order of submission per queue.  Backends: memcpy
 * (default; completes at once, still through poll), dmadev (rte_dmadev; dma_skeleton in tests,
 * hardware on Octeon).  One queue per dma replica, used by its lcore only.
 *
 * Also: direct pointers for the ctxq stage, whose rings and state lines are words, not payload.  On
 * a platform where the region is not directly mapped a backend overrides those accessors too.
 */
#ifndef TOE_HOSTMEM_H
#define TOE_HOSTMEM_H

#include <stdbool.h>
#include <stdint.h>

struct toe_hostmem;

enum toe_hostmem_dir { TOE_TO_HOST, TOE_FROM_HOST };
enum toe_hostmem_seg { TOE_SEG_CONTROL, TOE_SEG_PAYLOAD };

struct toe_hostmem_op {
	uint32_t app_id;
	uint8_t dir;     /* enum toe_hostmem_dir */
	uint8_t segment; /* enum toe_hostmem_seg */
	uint16_t len;
	uint64_t offset; /* in the segment; checked against its size: -ERANGE */
	void *local;
	void *cookie; /* given back by poll */
	bool fence;   /* starts only after all earlier copies of this queue have been done */
};

/* Job: one queue with room for at least depth copies in flight.  NULL and errno on failure. */
struct toe_engine;
struct toe_hostmem *toe_hostmem_open(struct toe_engine *e, const char *backend, unsigned depth);
void toe_hostmem_close(struct toe_hostmem *h);

/* 0, -EAGAIN (queue full), -ESRCH (application gone or evicted), -ERANGE (outside its segment).
 * The application's memory stays mapped until the copy has been given back by poll. */
int toe_hostmem_submit(struct toe_hostmem *h, const struct toe_hostmem_op *op);

/* Up to n cookies of completed copies; returns how many. */
unsigned toe_hostmem_poll(struct toe_hostmem *h, void **cookies, unsigned n);

/* True: memory is touched after submit() has returned, so local must stay as it is until poll. */
bool toe_hostmem_async(const struct toe_hostmem *h);

/* Copies submitted and not yet returned by poll. */
unsigned toe_hostmem_inflight(const struct toe_hostmem *h);

#endif
