// SPDX-License-Identifier: BSD-3-Clause
/*
 * CRC32C (Castagnoli, reflected) without initial or final complement: what DPDK's rte_hash_crc()
 * computes, for programs that do not link DPDK.  Eight tables, eight bytes a step ("slicing by 8"):
 * a 36-byte tuple takes five steps.  The tables are filled before main() and constant afterwards;
 * any thread.
 */
#include "common/flow_hash.h"

#include <string.h>

#define CRC32C_POLY 0x82f63b78u /* reflected */

static uint32_t crc_table[8][256];

__attribute__((constructor)) static void crc_table_fill(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;

		for (unsigned bit = 0; bit < 8; bit++)
			c = (c >> 1) ^ (c & 1 ? CRC32C_POLY : 0);
		crc_table[0][i] = c;
	}
	for (unsigned t = 1; t < 8; t++) {
		for (uint32_t i = 0; i < 256; i++) {
			uint32_t c = crc_table[t - 1][i];

			crc_table[t][i] = (c >> 8) ^ crc_table[0][c & 0xff];
		}
	}
}

uint32_t toe_crc32c(const void *data, uint32_t len, uint32_t seed)
{
	const uint8_t *p = data;
	uint32_t crc = seed;

	for (; len >= 8; len -= 8, p += 8) {
		uint32_t lo, hi;

		memcpy(&lo, p, sizeof(lo));
		memcpy(&hi, p + 4, sizeof(hi));
		lo ^= crc;
		crc = crc_table[7][lo & 0xff] ^ crc_table[6][(lo >> 8) & 0xff] ^
		      crc_table[5][(lo >> 16) & 0xff] ^ crc_table[4][lo >> 24] ^
		      crc_table[3][hi & 0xff] ^ crc_table[2][(hi >> 8) & 0xff] ^
		      crc_table[1][(hi >> 16) & 0xff] ^ crc_table[0][hi >> 24];
	}
	for (; len > 0; len--, p++)
		crc = (crc >> 8) ^ crc_table[0][(crc ^ *p) & 0xff];
	return crc;
}
