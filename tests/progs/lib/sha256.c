// SPDX-License-Identifier: BSD-3-Clause
/*
 * SHA-256 as FIPS 180-4 describes it, section by section.  Here because a stream's hash is needed
 * while it arrives, in programs that are to depend on libc only.  No state of its own.
 */
#include "tests/progs/lib/sha256.h"

#include <stdio.h>
#include <string.h>

#include "tests/progs/lib/util.h"

/* 4.2.2 */
static const uint32_t K[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
	0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
	0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
	0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
	0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
	0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
	0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
	0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
	0xc67178f2};

static uint32_t rotr(uint32_t x, unsigned n)
{
	return x >> n | x << (32 - n);
}

/* 6.2.2, 1: the message schedule */
static void schedule(const uint8_t *p, uint32_t w[64])
{
	for (unsigned t = 0; t < 16; t++, p += 4)
		w[t] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
	for (unsigned t = 16; t < 64; t++) {
		uint32_t s0 = rotr(w[t - 15], 7) ^ rotr(w[t - 15], 18) ^ w[t - 15] >> 3;
		uint32_t s1 = rotr(w[t - 2], 17) ^ rotr(w[t - 2], 19) ^ w[t - 2] >> 10;

		w[t] = s1 + w[t - 7] + s0 + w[t - 16];
	}
}

/* 6.2.2, 2 to 4; v is a to h */
static void block_add(struct sha256 *s, const uint8_t *p)
{
	uint32_t w[64], v[8];

	schedule(p, w);
	memcpy(v, s->h, sizeof(v));
	for (unsigned t = 0; t < 64; t++) {
		uint32_t s1 = rotr(v[4], 6) ^ rotr(v[4], 11) ^ rotr(v[4], 25);
		uint32_t s0 = rotr(v[0], 2) ^ rotr(v[0], 13) ^ rotr(v[0], 22);
		uint32_t t1 = v[7] + s1 + ((v[4] & v[5]) ^ (~v[4] & v[6])) + K[t] + w[t];
		uint32_t t2 = s0 + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));

		memmove(v + 1, v, 7 * sizeof(v[0]));
		v[4] += t1;
		v[0] = t1 + t2;
	}
	for (unsigned i = 0; i < 8; i++)
		s->h[i] += v[i];
}

void sha256_init(struct sha256 *s)
{
	static const uint32_t h0[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
				       0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

	memcpy(s->h, h0, sizeof(h0));
	s->bytes = 0;
}

void sha256_add(struct sha256 *s, const uint8_t *p, size_t len)
{
	size_t held = s->bytes % SHA256_BLOCK;

	s->bytes += len;
	while (len > 0) {
		size_t n = SHA256_BLOCK - held < len ? SHA256_BLOCK - held : len;

		if (n == SHA256_BLOCK) {
			block_add(s, p);
		} else {
			memcpy(s->block + held, p, n);
			held += n;
			if (held == SHA256_BLOCK)
				block_add(s, s->block);
			held %= SHA256_BLOCK;
		}
		p += n;
		len -= n;
	}
}

/* 5.1.1: a one bit, zeros, the length in bits */
void sha256_hex(struct sha256 *s, char out[SHA256_HEX_SIZE])
{
	uint64_t bits = s->bytes * 8;
	uint8_t end[SHA256_BLOCK + 8] = {0x80};
	size_t pad = SHA256_BLOCK - (size_t)((s->bytes + 8) % SHA256_BLOCK);

	for (unsigned i = 0; i < 8; i++)
		end[pad + i] = (uint8_t)(bits >> (56 - 8 * i));
	sha256_add(s, end, pad + 8);
	for (unsigned i = 0; i < 8; i++)
		snprintf(out + 8 * (size_t)i, 9, "%08x", s->h[i]);
}

void sha256_self_test(void)
{
	static const char two_blocks[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
	struct sha256 s;
	char hex[SHA256_HEX_SIZE];

	sha256_init(&s);
	for (size_t i = 0; i < sizeof(two_blocks) - 1; i += 7)
		sha256_add(&s, (const uint8_t *)two_blocks + i, 7);
	sha256_hex(&s, hex);
	if (strcmp(hex, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1") != 0)
		die("SHA-256 is broken: %s", hex);
}
