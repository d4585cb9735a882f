/* SPDX-License-Identifier: BSD-3-Clause */
/* SHA-256 (FIPS 180-4) of a stream, for programs that compare what two ends saw. */
#ifndef TOE_TEST_SHA256_H
#define TOE_TEST_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_BLOCK    64u
#define SHA256_HEX_SIZE 65u /* with the final 0 */

struct sha256 {
	uint32_t h[8];
	uint64_t bytes;
	uint8_t block[SHA256_BLOCK]; /* its first bytes % 64 are waiting */
};

void sha256_init(struct sha256 *s);
void sha256_add(struct sha256 *s, const uint8_t *p, size_t len);
/* Ends the stream; s is not to be used any more. */
void sha256_hex(struct sha256 *s, char out[SHA256_HEX_SIZE]);
/* Ends the process unless the standard's example comes out right. */
void sha256_self_test(void);

#endif
