// SPDX-License-Identifier: BSD-3-Clause
/*
 * Log-linear histogram.  In: durations; out: quantiles, mean.  Values below 64 have a bucket each;
 * above, the top six bits of the value name the bucket.  State: the caller's struct; one thread.
 */
#include "tests/progs/lib/hist.h"

#include <string.h>

#define SUB (1u << TOE_HIST_SUB_BITS)

static unsigned bucket_of(uint64_t v)
{
	unsigned top, shift;

	if (v >> TOE_HIST_MAX_BITS)
		v = (1ull << TOE_HIST_MAX_BITS) - 1;
	if (v < SUB)
		return (unsigned)v;
	top = 63 - (unsigned)__builtin_clzll(v);
	shift = top - TOE_HIST_SUB_BITS;
	return (shift << TOE_HIST_SUB_BITS) + (unsigned)(v >> shift);
}

/* Largest value that falls into bucket i. */
static uint64_t bucket_end(unsigned i)
{
	unsigned shift;

	if (i < 2 * SUB)
		return i;
	shift = (i >> TOE_HIST_SUB_BITS) - 1;
	return ((uint64_t)(i - (shift << TOE_HIST_SUB_BITS) + 1) << shift) - 1;
}

void toe_hist_reset(struct toe_hist *h)
{
	memset(h, 0, sizeof(*h));
	h->min = UINT64_MAX;
}

void toe_hist_add(struct toe_hist *h, uint64_t value)
{
	h->count++;
	h->sum += value;
	if (value < h->min)
		h->min = value;
	if (value > h->max)
		h->max = value;
	h->buckets[bucket_of(value)]++;
}

void toe_hist_merge(struct toe_hist *into, const struct toe_hist *from)
{
	into->count += from->count;
	into->sum += from->sum;
	if (from->min < into->min)
		into->min = from->min;
	if (from->max > into->max)
		into->max = from->max;
	for (unsigned i = 0; i < TOE_HIST_BUCKETS; i++)
		into->buckets[i] += from->buckets[i];
}

uint64_t toe_hist_quantile(const struct toe_hist *h, unsigned permille)
{
	uint64_t rank = (h->count * permille + 999) / 1000; /* of the sample sought, from 1 */
	uint64_t seen = 0;

	if (rank == 0)
		rank = 1;
	for (unsigned i = 0; i < TOE_HIST_BUCKETS; i++) {
		seen += h->buckets[i];
		if (seen >= rank)
			return bucket_end(i) < h->max ? bucket_end(i) : h->max;
	}
	return h->max;
}

uint64_t toe_hist_mean(const struct toe_hist *h)
{
	return h->count ? h->sum / h->count : 0;
}
