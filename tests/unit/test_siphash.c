// SPDX-License-Identifier: BSD-3-Clause
/* LINK: */
/* SipHash: vectors for the key 00 01 ... 0f and the text 00 01 ... of that length. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/siphash.h"

static const struct {
	size_t len;
	uint64_t hash24; /* the paper's for 15, and vectors_sip64 of its authors' program */
	uint64_t hash13;
} vectors[] = {
	{0, 0x726fdb47dd0e0e31, 0xabac0158050fc4dc},  {1, 0x74f839c593dc67fd, 0xc9f49bf37d57ca93},
	{2, 0x0d6c8009d9a94f5a, 0x82cb9b024dc7d44d},  {7, 0xab0200f58b01d137, 0xd3927d989bb11140},
	{8, 0x93f5f5799a932462, 0x369095118d299a8e},  {9, 0x9e0082df0ba9e4b0, 0x25a48eb36c063de4},
	{15, 0xa129ca6149be45e5, 0xd320d86d2a519956}, {16, 0x3f2acc7f57c29bdb, 0xcc4fdd1a7d908b66},
	{63, 0x958a324ceb064572, 0x9d199062b7bbb3a8},
};

static void test_vectors(void **state)
{
	uint8_t in[65];
	uint64_t key[2];

	(void)state;
	for (unsigned i = 0; i < sizeof(in) - 1; i++)
		in[i] = (uint8_t)i;
	memcpy(key, in, sizeof(key));
	for (unsigned i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		size_t len = vectors[i].len;

		assert_true(toe_siphash24(key, in, len) == vectors[i].hash24);
		assert_true(toe_siphash13(key, in, len) == vectors[i].hash13);
		/* at any address */
		memmove(in + 1, in, 64);
		assert_true(toe_siphash13(key, in + 1, len) == vectors[i].hash13);
		memmove(in, in + 1, 64);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_vectors)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
