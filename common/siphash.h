/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * SipHash (Aumasson, Bernstein 2012): 2-4 for numbers that a peer must not be able to guess, 1-3
 * for hash tables whose keys strangers choose.  The key is secret.  Little-endian machines.  No
 * state.
 */
#ifndef TOE_SIPHASH_H
#define TOE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t toe_sip_rotl(uint64_t x, unsigned n)
{
	return x << n | x >> (64 - n);
}

static inline void toe_sip_rounds(uint64_t v[4], unsigned n)
{
	while (n-- > 0) {
		v[0] += v[1];
		v[2] += v[3];
		v[1] = toe_sip_rotl(v[1], 13) ^ v[0];
		v[3] = toe_sip_rotl(v[3], 16) ^ v[2];
		v[0] = toe_sip_rotl(v[0], 32);
		v[2] += v[1];
		v[0] += v[3];
		v[1] = toe_sip_rotl(v[1], 17) ^ v[2];
		v[3] = toe_sip_rotl(v[3], 21) ^ v[0];
		v[2] = toe_sip_rotl(v[2], 32);
	}
}

static inline void toe_sip_word(uint64_t v[4], uint64_t w, unsigned rounds)
{
	v[3] ^= w;
	toe_sip_rounds(v, rounds);
	v[0] ^= w;
}

/* word: rounds per word, last: at the end. */
static inline __attribute__((always_inline)) uint64_t
toe_siphash(const uint64_t key[2], const void *data, size_t len, unsigned word, unsigned last)
{
	uint64_t v[4] = {key[0] ^ 0x736f6d6570736575u, key[1] ^ 0x646f72616e646f6du,
			 key[0] ^ 0x6c7967656e657261u, key[1] ^ 0x7465646279746573u};
	uint64_t w, end = (uint64_t)len << 56;
	const uint8_t *p = data;

	for (; len >= 8; len -= 8, p += 8) {
		memcpy(&w, p, sizeof(w));
		toe_sip_word(v, w, word);
	}
	for (size_t i = 0; i < len; i++)
		end |= (uint64_t)p[i] << (8 * i);
	toe_sip_word(v, end, word);
	v[2] ^= 0xff;
	toe_sip_rounds(v, last);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static inline uint64_t toe_siphash24(const uint64_t key[2], const void *data, size_t len)
{
	return toe_siphash(key, data, len, 2, 4);
}

static inline uint64_t toe_siphash13(const uint64_t key[2], const void *data, size_t len)
{
	return toe_siphash(key, data, len, 1, 3);
}

#endif
