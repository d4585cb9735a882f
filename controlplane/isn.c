/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Numbers made with SipHash-2-4 that a peer must not be able to guess: initial sequence numbers,
 * timestamp offsets, flow labels.  Pure; keys and time are arguments.
 */
#include "isn.h"

#include <sys/socket.h>

#include "common/siphash.h"

uint32_t cp_isn(const uint64_t key[2], const struct toe_tuple *t, uint64_t now_us)
{
	return (uint32_t)toe_siphash24(key, t, sizeof(*t)) + (uint32_t)(now_us / 4);
}

uint32_t cp_ts_offset(const uint64_t key[2], const struct toe_tuple *t)
{
	return (uint32_t)toe_siphash24(key, t, 2 * sizeof(t->local_addr));
}

uint32_t cp_flow_label(const uint64_t key[2], const struct toe_tuple *t)
{
	uint32_t label;

	if (t->family != AF_INET6)
		return 0;
	label = (uint32_t)toe_siphash24(key, t, sizeof(*t)) & 0xfffff;
	return label ? label : 1;
}
