/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Registry of congestion control algorithms: configuration name -> table.  Constant, no state.
 */
#include "cc.h"

#include <string.h>

static const struct cc_ops *const cc_all[] = {&cc_dctcp};

const struct cc_ops *cc_find(const char *name)
{
	for (size_t i = 0; i < sizeof(cc_all) / sizeof(cc_all[0]); i++)
		if (!strcmp(cc_all[i]->name, name))
			return cc_all[i];
	return NULL;
}

uint32_t cc_initial_window(uint32_t mss)
{
	uint32_t floor = 2 * mss > 14600 ? 2 * mss : 14600;

	return 10 * mss < floor ? 10 * mss : floor;
}

bool cc_restart(struct cc_state *s, uint32_t mss)
{
	uint32_t window = cc_initial_window(mss);
	uint32_t most = s->cwnd - s->cwnd / 4;

	if (s->cwnd <= window)
		return false;
	if (s->ssthresh < most)
		s->ssthresh = most;
	s->cwnd = window;
	return true;
}
