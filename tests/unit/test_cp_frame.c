/* SPDX-License-Identifier: BSD-3-Clause */
/* Control segments: round trip, malformed input, RST rules, ICMP errors. */
/* LINK: controlplane/frame.c common/flow_hash.c */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "controlplane/frame.h"

static const uint8_t mac_a[6] = {2, 0, 0, 0, 0, 1};
static const uint8_t mac_b[6] = {2, 0, 0, 0, 0, 2};

static uint32_t family = AF_INET;

static struct toe_tuple tuple(void)
{
	const uint8_t six[2][16] = {{0x20, 1, 0xd, 0xb8, [15] = 1}, {0x20, 1, 0xd, 0xb8, [15] = 2}};
	const uint8_t four[2][4] = {{10, 0, 0, 1}, {10, 0, 0, 2}};
	struct cp_addr a = cp_addr_make(family, family == AF_INET ? four[0] : six[0]);
	struct cp_addr b = cp_addr_make(family, family == AF_INET ? four[1] : six[1]);

	return cp_tuple(&a, 1234, &b, 80);
}

/* Where TCP begins in what we build. */
static uint32_t tcp_at(void)
{
	return 14 + toe_ip_header_bytes(family);
}

static struct cp_build syn(void)
{
	return (struct cp_build){
		.src_mac = mac_a,
		.dst_mac = mac_b,
		.t = tuple(),
		.flow_label = family == AF_INET6 ? 0xabcde : 0,
		.seq = 0xfffffff0,
		.wnd = 65535,
		.mss = 1460,
		.wscale = 9,
		.ts_val = 0x01020304,
		.ts_ecr = 0x05060708,
		.flags = CP_TCP_SYN | CP_TCP_ECE | CP_TCP_CWR,
		.opts = CP_OPT_MSS | CP_OPT_WS | CP_OPT_SACK | CP_OPT_TS,
	};
}

static void round_trip(void **state)
{
	(void)state;
	for (uint8_t opts = 0; opts < 16; opts++) {
		struct cp_build b = syn();
		uint8_t f[CP_FRAME_MAX];
		struct cp_seg s;
		uint32_t len;

		b.opts = opts;
		len = cp_frame_build(f, &b);
		assert_true(len <= CP_FRAME_MAX);
		assert_int_equal(cp_frame_parse(f, len, &s), 0);
		assert_int_equal(s.opts, opts);
		assert_int_equal(s.seq, b.seq);
		assert_int_equal(s.seg_len, 1);
		assert_int_equal(s.flags, b.flags);
		assert_memory_equal(s.t.remote_addr, b.t.local_addr, 16);
		assert_memory_equal(s.t.local_addr, b.t.remote_addr, 16);
		assert_int_equal(s.t.family, family);
		assert_int_equal(s.t.remote_port, htons(1234));
		assert_int_equal(s.dport, 80);
		if (opts & CP_OPT_MSS)
			assert_int_equal(s.mss, 1460);
		if (opts & CP_OPT_WS)
			assert_int_equal(s.wscale, 9);
		if (opts & CP_OPT_TS) {
			assert_int_equal(s.ts_val, 0x01020304);
			assert_int_equal(s.ts_ecr, 0x05060708);
		}
	}
}

static void every_truncation_and_flip_is_refused(void **state)
{
	struct cp_build b = syn();
	uint8_t f[CP_FRAME_MAX];
	uint32_t len = cp_frame_build(f, &b);
	struct cp_seg s;

	(void)state;
	for (uint32_t n = 0; n < len; n++) {
		/* exact-size copy, so that a sanitizer sees any read beyond it */
		uint8_t *p = malloc(n ? n : 1);

		memcpy(p, f, n);
		assert_int_not_equal(cp_frame_parse(p, n, &s), 0);
		free(p);
	}
	for (uint32_t i = 12; i < len; i++) {
		/* neither flow label nor hop limit is covered by any checksum (RFC 8200) */
		if (family == AF_INET6 && ((i >= 15 && i < 18) || i == 21))
			continue;
		f[i] ^= i == 14 && family == AF_INET6 ? 0x50 : 0x5a;
		assert_int_not_equal(cp_frame_parse(f, len, &s), 0);
		f[i] ^= i == 14 && family == AF_INET6 ? 0x50 : 0x5a;
	}
	assert_int_equal(cp_frame_parse(f, len, &s), 0);
}

static void bad_options_end_the_walk(void **state)
{
	static const uint8_t bad[][4] = {{3, 0, 9, 0},   {3, 1, 9, 0}, {8, 10, 0, 0},
					 {2, 255, 1, 1}, {1, 1, 1, 3}, {77, 2, 3, 2}};
	struct cp_build b = syn();
	uint8_t f[CP_FRAME_MAX];
	struct cp_seg s;
	uint32_t len;

	(void)state;
	b.opts = CP_OPT_WS; /* 4 bytes of options to overwrite */
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		uint32_t acc = 0;
		uint8_t *sum = f + tcp_at() + 16;

		len = cp_frame_build(f, &b);
		memcpy(f + tcp_at() + 20, bad[i], 4);
		sum[0] = sum[1] = 0;
		for (uint32_t k = tcp_at() - 2 * toe_ip_addr_bytes(family); k < len; k += 2)
			acc += (uint32_t)(f[k] << 8 | f[k + 1]);
		acc += 6 + len - tcp_at();
		acc = (acc & 0xffff) + (acc >> 16);
		acc = (acc & 0xffff) + (acc >> 16);
		sum[0] = (uint8_t)(~acc >> 8);
		sum[1] = (uint8_t)~acc;
		assert_int_equal(cp_frame_parse(f, len, &s), 0);
		assert_int_equal(s.opts, 0);
	}
}

static void rst_follows_rfc_9293(void **state)
{
	struct cp_build b = syn();
	uint8_t f[CP_FRAME_MAX];
	uint8_t r[CP_FRAME_MAX];
	struct cp_seg s;
	struct cp_seg rst;
	uint32_t len;

	(void)state;
	cp_frame_parse(f, cp_frame_build(f, &b), &s);
	len = cp_frame_rst(r, &s, mac_b, 0x12345);
	assert_int_equal(cp_frame_parse(r, len, &rst), 0);
	assert_int_equal(rst.flags, CP_TCP_RST | CP_TCP_ACK);
	assert_int_equal(rst.seq, 0);
	assert_int_equal(rst.ack, b.seq + 1);
	assert_int_equal(rst.dport, 1234);
	if (family == AF_INET6)
		assert_memory_equal(r + 14, "\x60\x01\x23\x45", 4); /* the label it was given */
	assert_memory_equal(r, mac_a, 6);

	b.flags = CP_TCP_ACK;
	b.ack = 4711;
	cp_frame_parse(f, cp_frame_build(f, &b), &s);
	len = cp_frame_rst(r, &s, mac_b, 0x12345);
	assert_int_equal(cp_frame_parse(r, len, &rst), 0);
	assert_int_equal(rst.flags, CP_TCP_RST);
	assert_int_equal(rst.seq, 4711);

	b.flags = CP_TCP_RST;
	cp_frame_parse(f, cp_frame_build(f, &b), &s);
	assert_int_equal(cp_frame_rst(r, &s, mac_b, 0x12345), 0);
}

static void put_sum(uint8_t *p, uint32_t len, uint8_t *at)
{
	uint32_t acc = 0;

	at[0] = at[1] = 0;
	for (uint32_t i = 0; i + 1 < len; i += 2)
		acc += (uint32_t)(p[i] << 8 | p[i + 1]);
	acc = (acc & 0xffff) + (acc >> 16);
	acc = (acc & 0xffff) + (acc >> 16);
	at[0] = (uint8_t)(~acc >> 8);
	at[1] = (uint8_t)~acc;
}

static void icmp_quotes_our_segment(void **state)
{
	struct cp_build b = syn();
	uint8_t inner[CP_FRAME_MAX];
	uint8_t f[128] = {0};
	struct cp_icmp m;
	uint8_t *ip = f + 14;
	uint8_t *icmp = ip + 20;

	(void)state;
	cp_frame_build(inner, &b);
	f[12] = 8;
	ip[0] = 0x45;
	ip[3] = 20 + 8 + 28;
	ip[8] = 64;
	ip[9] = 1;
	put_sum(ip, 20, ip + 10);
	icmp[0] = 3;
	icmp[1] = 1;
	memcpy(icmp + 8, inner + 14, 28);
	put_sum(icmp, 36, icmp + 2);
	assert_int_equal(cp_icmp_parse(f, 14 + 56, &m), 0);
	assert_int_equal(m.kind, CP_ICMP_SOFT);
	assert_int_equal(m.error, EHOSTUNREACH);
	assert_int_equal(m.t.family, AF_INET);
	assert_int_equal(m.seq, b.seq);
	assert_int_equal(m.t.local_port, htons(1234));
	assert_memory_equal(m.t.remote_addr, b.t.remote_addr, 16);
	assert_int_not_equal(cp_icmp_parse(f, 14 + 55, &m), 0);
	icmp[0] = 8;
	put_sum(icmp, 36, icmp + 2);
	assert_int_not_equal(cp_icmp_parse(f, 14 + 56, &m), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trip),
		cmocka_unit_test(every_truncation_and_flip_is_refused),
		cmocka_unit_test(bad_options_end_the_walk),
		cmocka_unit_test(rst_follows_rfc_9293),
		cmocka_unit_test(icmp_quotes_our_segment),
	};

	return cmocka_run_group_tests_name("cp_frame", tests, NULL, NULL);
}
