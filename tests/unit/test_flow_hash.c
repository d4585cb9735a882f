// SPDX-License-Identifier: BSD-3-Clause
/* LINK: common/flow_hash.c */
/* CRC32C: known values, and the same as DPDK's rte_hash_crc() for every length and alignment. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <rte_hash_crc.h>

#include "common/flow_hash.h"

static void test_known(void **state)
{
	uint8_t zeros[32] = {0};

	(void)state;
	/* with both complements: RFC 3720 B.4 */
	assert_int_equal(~toe_crc32c(zeros, 32, UINT32_MAX), 0x8a9136aau);
	assert_int_equal(~toe_crc32c("123456789", 9, UINT32_MAX), 0xe3069283u);
	assert_int_equal(toe_crc32c("", 0, 5), 5);
}

static void test_same_as_dpdk(void **state)
{
	uint8_t data[96];
	uint32_t x = 1;

	(void)state;
	for (size_t i = 0; i < sizeof(data); i++) {
		x = x * 1664525u + 1013904223u;
		data[i] = (uint8_t)(x >> 24);
	}
	for (uint32_t at = 0; at < 8; at++) {
		for (uint32_t len = 0; len <= 80; len++) {
			assert_int_equal(toe_crc32c(data + at, len, 0),
					 rte_hash_crc(data + at, len, 0));
			assert_int_equal(toe_crc32c(data + at, len, x),
					 rte_hash_crc(data + at, len, x));
		}
	}
}

static void test_tuple(void **state)
{
	struct toe_tuple a, b;
	unsigned per_group[4] = {0};

	(void)state;
	assert_int_equal(sizeof(a), 40);
	memset(&a, 0, sizeof(a));
	a.local_port = 0x5b07;
	b = a;
	assert_int_equal(toe_flow_hash(&a), toe_flow_hash(&b));
	for (unsigned port = 1; port <= 4000; port++) {
		b.remote_port = (uint16_t)port;
		assert_int_equal(toe_flow_hash(&b), rte_hash_crc(&b, sizeof(b), 0));
		per_group[toe_flow_group(toe_flow_hash(&b), 4)]++;
	}
	for (unsigned g = 0; g < 4; g++)
		assert_in_range(per_group[g], 900, 1100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known),
		cmocka_unit_test(test_same_as_dpdk),
		cmocka_unit_test(test_tuple),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
