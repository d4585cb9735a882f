/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * SipHash-2-4 (Aumasson, Bernstein 2012) and the numbers made with it that a peer must not be able
 * to guess: initial sequence numbers, timestamp offsets, flow labels.  Pure; keys and time are
 * arguments.
 */
#include "isn.h"

#include <string.h>
#include <sys/socket.h>

static uint64_t rotl(uint64_t x, unsigned b)
{
	return x << b | x >> (64 - b);
}

static void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = rotl(v[1], 13) ^ v[0];
	v[0] = rotl(v[0], 32);
	v[2] += v[3];
	v[3] = rotl(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotl(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotl(v[1], 17) ^ v[2];
	v[2] = rotl(v[2], 32);
}

static void sip_word(uint64_t v[4], uint64_t m)
{
	v[3] ^= m;
	sip_round(v);
	sip_round(v);
	v[0] ^= m;
}

uint64_t cp_siphash(const uint64_t key[2], const void *data, uint32_t len)
{
	uint64_t v[4] = {key[0] ^ 0x736f6d6570736575ull, key[1] ^ 0x646f72616e646f6dull,
			 key[0] ^ 0x6c7967656e657261ull, key[1] ^ 0x7465646279746573ull};
	const uint8_t *p = data;
	uint64_t m;
	uint32_t left = len;

	for (; left >= 8; left -= 8, p += 8) {
		memcpy(&m, p, 8);
		sip_word(v, m);
	}
	m = 0;
	memcpy(&m, p, left);
	sip_word(v, m | (uint64_t)len << 56);
	v[2] ^= 0xff;
	for (int i = 0; i < 4; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint32_t cp_isn(const uint64_t key[2], const struct toe_tuple *t, uint64_t now_us)
{
	return (uint32_t)cp_siphash(key, t, sizeof(*t)) + (uint32_t)(now_us / 4);
}

uint32_t cp_ts_offset(const uint64_t key[2], const struct toe_tuple *t)
{
	return (uint32_t)cp_siphash(key, t, 2 * sizeof(t->local_addr));
}

uint32_t cp_flow_label(const uint64_t key[2], const struct toe_tuple *t)
{
	uint32_t label;

	if (t->family != AF_INET6)
		return 0;
	label = (uint32_t)cp_siphash(key, t, sizeof(*t)) & 0xfffff;
	return label ? label : 1;
}
