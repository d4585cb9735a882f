/* SPDX-License-Identifier: BSD-3-Clause */
/* LINK: datapath/netif_parse.c common/flow_hash.c */
/*
 * Minimal parse of netif_rx: classes and keys, nothing read past the end (each case is an
 * exact-size allocation, so that a sanitizer sees it), and the hash that DPDK and
 * common/flow_hash.c must agree on.
 */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <rte_hash_crc.h>

#include "datapath/netif_parse.h"

static uint32_t rng = 7;

static uint32_t rnd(void)
{
	rng = rng * 1664525u + 1013904223u;
	return rng >> 8;
}

/* Frames: remote 10.0.0.2:40000 -> local 10.0.0.1:1883 */
static const uint8_t tcp_ip[40] = {
	0x45, 0,    0,    40,   0, 0, 0x40, 0, 64, 6,
	0,    0,    10,   0,    0, 2, 10,   0, 0,  1, /* IPv4 */
	0x9c, 0x40, 0x07, 0x5b, 0, 0, 0,    1, 0,  0,
	0,    2,    0x50, 0x10, 1, 0, 0,    0, 0,  0,
};

static unsigned make_tcp(uint8_t *f, bool vlan)
{
	unsigned n = 12;

	memset(f, 0x11, 12);
	if (vlan) {
		static const uint8_t tag[4] = {0x81, 0, 0, 5};

		memcpy(f + n, tag, 4);
		n += 4;
	}
	f[n++] = 8;
	f[n++] = 0;
	memcpy(f + n, tcp_ip, sizeof(tcp_ip));
	return n + (unsigned)sizeof(tcp_ip);
}

/* An ICMP error from 10.0.0.9 that quotes what 10.0.0.1:1883 sent to 10.0.0.2:40000. */
static unsigned make_icmp(uint8_t *f, uint8_t type)
{
	static const uint8_t head[28] = {
		0x45, 0, 0, 56, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 9, 10, 0, 0, 1, 3, 4, 0, 0,
	};
	static const uint8_t quote[28] = {
		0x45, 0, 5,  0xdc, 0, 0, 0x40, 0,    63,   6,    0, 0, 10, 0,
		0,    1, 10, 0,    0, 2, 0x07, 0x5b, 0x9c, 0x40, 0, 0, 0,  9,
	};

	memset(f, 0x11, 12);
	f[12] = 8;
	f[13] = 0;
	memcpy(f + 14, head, sizeof(head));
	f[14 + 20] = type;
	memcpy(f + 42, quote, sizeof(quote));
	return 42 + (unsigned)sizeof(quote);
}

/* Parses a copy that ends where the frame ends. */
static enum netif_class parse(const uint8_t *f, unsigned len, struct netif_key *key)
{
	uint8_t *copy = malloc(len == 0 ? 1 : len);
	enum netif_class c;

	memcpy(copy, f, len);
	c = netif_parse(copy, len, key);
	free(copy);
	return c;
}

static void check_key(const struct netif_key *key)
{
	const uint8_t local[16] = {10, 0, 0, 1};
	const uint8_t remote[16] = {10, 0, 0, 2};

	assert_memory_equal(key->tuple.local_addr, local, 16);
	assert_memory_equal(key->tuple.remote_addr, remote, 16);
	assert_int_equal(key->tuple.local_port, htons(1883));
	assert_int_equal(key->tuple.remote_port, htons(40000));
	assert_int_equal(key->local_port, 1883);
	assert_int_equal(key->tuple.family, AF_INET);
}

static void test_tcp(void **state)
{
	struct netif_key key;
	uint8_t f[128];

	(void)state;
	for (int vlan = 0; vlan < 2; vlan++) {
		unsigned len = make_tcp(f, vlan);

		assert_int_equal(parse(f, len, &key), NETIF_TCP);
		check_key(&key);
		assert_int_equal(key.vlan, vlan ? 5 : 0);
		/* ports are enough: pre says what is wrong with the rest */
		for (unsigned l = 0; l < len; l++)
			assert_int_equal(parse(f, l, &key), l < len - 16 ? NETIF_OTHER : NETIF_TCP);
	}
}

static void test_icmp(void **state)
{
	struct netif_key key;
	uint8_t f[128];
	unsigned len = make_icmp(f, 3);

	(void)state;
	assert_int_equal(parse(f, len, &key), NETIF_ICMP_TCP);
	check_key(&key);
	for (unsigned l = 0; l < len; l++)
		assert_int_equal(parse(f, l, &key), NETIF_OTHER);
	make_icmp(f, 8); /* echo request */
	assert_int_equal(parse(f, len, &key), NETIF_OTHER);
	make_icmp(f, 11);
	assert_int_equal(parse(f, len, &key), NETIF_ICMP_TCP);
	f[14 + 6] = 0x20; /* more fragments */
	assert_int_equal(parse(f, len, &key), NETIF_OTHER);
	f[14 + 6] = 0;
	f[42 + 9] = 17; /* quotes UDP */
	assert_int_equal(parse(f, len, &key), NETIF_OTHER);
}

static void test_not_ours(void **state)
{
	struct netif_key key;
	uint8_t f[128];
	unsigned len = make_tcp(f, false);

	(void)state;
	f[14 + 6] = 0x20; /* the first fragment has ports */
	assert_int_equal(parse(f, len, &key), NETIF_TCP);
	f[14 + 6] = 0;
	f[14 + 7] = 1; /* offset */
	assert_int_equal(parse(f, len, &key), NETIF_OTHER);
	make_tcp(f, false);
	f[14] = 0x44; /* header of 16 bytes */
	assert_int_equal(parse(f, len, &key), NETIF_OTHER);
	f[14] = 0x4f; /* header of 60 bytes: longer than the frame */
	assert_int_equal(parse(f, len, &key), NETIF_OTHER);
	f[14] = 0x65;
	assert_int_equal(parse(f, len, &key), NETIF_OTHER);
	make_tcp(f, false);
	f[12] = 0x86; /* IPv6 it is not (frames of its own: test_ip6.c) */
	f[13] = 0xdd;
	assert_int_equal(parse(f, len, &key), NETIF_OTHER);
	make_tcp(f, true);
	f[16] = 0x81; /* two tags */
	assert_int_equal(parse(f, len + 4, &key), NETIF_OTHER);
}

/* Random damage and lengths: only the sanitizers have an opinion here. */
static void test_damaged(void **state)
{
	struct netif_key key;
	uint8_t f[128];

	(void)state;
	for (unsigned i = 0; i < 20000; i++) {
		unsigned len = i % 2 != 0 ? make_tcp(f, rnd() % 2) : make_icmp(f, 3);

		for (unsigned k = rnd() % 4; k > 0; k--)
			f[rnd() % len] = (uint8_t)rnd();
		parse(f, rnd() % (len + 1), &key);
	}
}

static void test_hash_equals_dpdk(void **state)
{
	struct toe_tuple t;

	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		for (unsigned k = 0; k < sizeof(t); k++)
			((uint8_t *)&t)[k] = (uint8_t)rnd();
		assert_int_equal(toe_flow_hash(&t), rte_hash_crc(&t, sizeof(t), 0));
		assert_int_equal(toe_crc32c(&t, i % 37, i), rte_hash_crc(&t, i % 37, i));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tcp),
		cmocka_unit_test(test_icmp),
		cmocka_unit_test(test_not_ours),
		cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_hash_equals_dpdk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
