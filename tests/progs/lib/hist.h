/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Log-linear histogram of durations: 32 buckets per power of two, hence at most 3 % off, fixed
 * size, no allocation.  The unit is the caller's.  One writer; merge to combine.
 */
#ifndef TOE_HIST_H
#define TOE_HIST_H

#include <stdint.h>

#define TOE_HIST_SUB_BITS 5u
#define TOE_HIST_MAX_BITS 42u /* larger values count as 2^42 - 1 */
#define TOE_HIST_BUCKETS  ((TOE_HIST_MAX_BITS - TOE_HIST_SUB_BITS + 1) << TOE_HIST_SUB_BITS)

struct toe_hist {
	uint64_t count;
	uint64_t sum;
	uint64_t min; /* UINT64_MAX if empty */
	uint64_t max;
	uint64_t buckets[TOE_HIST_BUCKETS];
};

void toe_hist_reset(struct toe_hist *h);
void toe_hist_add(struct toe_hist *h, uint64_t value);
void toe_hist_merge(struct toe_hist *into, const struct toe_hist *from);

/* Value that permille of the samples do not exceed (500 = median, 990 = p99), 0 if empty: the upper
 * end of its bucket, never above max. */
uint64_t toe_hist_quantile(const struct toe_hist *h, unsigned permille);
uint64_t toe_hist_mean(const struct toe_hist *h);

static inline uint64_t toe_hist_count(const struct toe_hist *h)
{
	return h->count;
}

#endif
