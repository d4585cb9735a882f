// SPDX-License-Identifier: BSD-3-Clause
/* LINK: datapath/seg_parse.c datapath/seg_build.c datapath/netif_parse.c controlplane/frame.c
 * common/flow_hash.c common/log.c */
/*
 * All that reads and writes IPv6 headers, against frames of another hand (frames6.h): parsers of
 * both programs agree, every truncation is refused in an allocation of exactly its size, builders
 * make the same bytes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "controlplane/frame.h"
#include "frames6.h"
#include "netif_parse.h"
#include "seg_build.h"
#include "seg_cksum.h"
#include "seg_parse.h"

static uint8_t buf[512];

static uint32_t take(const char *hex)
{
	uint32_t n = 0;

	for (; *hex != '\0'; hex += 2, n++) {
		const char two[3] = {hex[0], hex[1], 0};

		buf[n] = (uint8_t)strtoul(two, NULL, 16);
	}
	return n;
}

/* A copy that ends where the frame ends. */
static uint8_t *exact(uint32_t len)
{
	uint8_t *p = malloc(len == 0 ? 1 : len);

	assert_non_null(p);
	memcpy(p, buf, len);
	return p;
}

static const uint8_t us[16] = {0x20, 1, 0xd, 0xb8, [15] = 1};
static const uint8_t peer[16] = {0x20, 1, 0xd, 0xb8, [15] = 2};

static void check_tuple(const struct toe_tuple *t)
{
	assert_memory_equal(t->local_addr, us, 16);
	assert_memory_equal(t->remote_addr, peer, 16);
	assert_int_equal(t->local_port, htons(80));
	assert_int_equal(t->remote_port, htons(40000));
	assert_int_equal(t->family, AF_INET6);
}

/* The segment all frames to port 80 carry: everywhere the same but for place and payload. */
static void check_segment(const char *hex, uint16_t payload_off, uint16_t payload_len)
{
	uint32_t len = take(hex);
	uint8_t *p = exact(len);
	struct netif_key key;
	struct toe_frame f;
	struct toe_seg seg;
	struct cp_seg s;

	assert_int_equal(netif_parse(p, len, &key), NETIF_TCP);
	check_tuple(&key.tuple);
	assert_int_equal(key.local_port, 80);
	assert_int_equal(toe_frame_parse(p, len, &f), TOE_FRAME_TCP);
	check_tuple(&f.key);
	assert_false(toe_frame_martian(&f));
	assert_int_equal(f.end, len);
	assert_int_equal(toe_seg_parse(p, &f, 0, &seg), TOE_D_NONE);
	assert_int_equal(seg.ecn, 3);
	assert_int_equal(seg.seq, 1000);
	assert_int_equal(seg.ts_val, 0x01020304);
	assert_int_equal(seg.payload_off, payload_off);
	assert_int_equal(seg.payload_len, payload_len);
	assert_int_equal(cp_frame_parse(p, len, &s), 0);
	check_tuple(&s.t);
	assert_int_equal(s.ack, 2000);
	assert_int_equal(s.payload_len, payload_len);
	free(p);
}

static void test_segments(void **state)
{
	(void)state;
	check_segment(frame6_data, 86, 10);
	check_segment(frame6_vlan0, 90, 10);
	check_segment(frame6_hbh_dst, 102, 1);
	check_segment(frame6_rh2, 110, 0);
	check_segment(frame6_atomic, 94, 2);
}

static void test_link_local(void **state)
{
	uint32_t len = take(frame6_ll);
	struct toe_frame f;
	struct toe_seg seg;
	struct cp_seg s;

	(void)state;
	assert_int_equal(toe_frame_parse(buf, len, &f), TOE_FRAME_TCP);
	assert_false(toe_frame_martian(&f));
	assert_true(toe_addr_link_local(f.key.family, f.key.remote_addr));
	assert_int_equal(toe_seg_parse(buf, &f, 0, &seg), TOE_D_NONE);
	assert_int_equal(cp_frame_parse(buf, len, &s), 0);
	assert_int_equal(s.opts, CP_OPT_MSS | CP_OPT_WS | CP_OPT_SACK | CP_OPT_TS);
	assert_int_equal(s.mss, 1440);
}

/* RFC 5722: the first fragment has ports, and its port decides; a later one is not looked into. */
static void test_fragments(void **state)
{
	uint32_t len = take(frame6_frag0);
	struct netif_key key;
	struct toe_frame f;
	struct cp_seg s;

	(void)state;
	assert_int_equal(netif_parse(buf, len, &key), NETIF_TCP);
	assert_int_equal(toe_frame_parse(buf, len, &f), TOE_FRAME_FRAGMENT);
	check_tuple(&f.key);
	assert_int_not_equal(cp_frame_parse(buf, len, &s), 0);
	buf[14 + 40 + 3] = 8; /* offset 8, no more */
	assert_int_equal(netif_parse(buf, len, &key), NETIF_OTHER);
	assert_int_equal(toe_frame_parse(buf, len, &f), TOE_FRAME_IP);
	assert_int_not_equal(cp_frame_parse(buf, len, &s), 0);
	buf[14 + 40 + 3] = 6; /* reserved bits: ignored */
	assert_int_equal(toe_frame_parse(buf, len, &f), TOE_FRAME_TCP);
}

static void test_truncations(void **state)
{
	static const char *const frames[] = {frame6_data, frame6_vlan0, frame6_hbh_dst, frame6_rh2,
					     frame6_atomic};
	struct toe_frame f;
	struct cp_seg s;
	struct netif_key key;

	(void)state;
	for (unsigned i = 0; i < sizeof(frames) / sizeof(frames[0]); i++) {
		uint32_t len = take(frames[i]);

		for (uint32_t n = 0; n < len; n++) {
			uint8_t *p = exact(n);

			netif_parse(p, n, &key);
			assert_int_equal(toe_frame_parse(p, n, &f), TOE_FRAME_SHORT);
			assert_int_not_equal(cp_frame_parse(p, n, &s), 0);
			free(p);
		}
	}
}

/* As above, with a payload length that agrees: headers reach beyond the packet. */
static void test_short_packets(void **state)
{
	static const char *const frames[] = {frame6_data, frame6_hbh_dst, frame6_rh2, frame6_atomic,
					     frame6_ptb};

	(void)state;
	for (unsigned i = 0; i < sizeof(frames) / sizeof(frames[0]); i++) {
		uint32_t len = take(frames[i]);

		for (uint32_t n = 0; n < len - 54; n++) {
			uint8_t *p;
			struct netif_key key;
			struct toe_frame f;
			struct toe_seg seg;
			struct cp_seg s;
			struct cp_icmp m;

			buf[18] = 0;
			buf[19] = (uint8_t)n;
			p = exact(54 + n);
			netif_parse(p, 54 + n, &key);
			if (toe_frame_parse(p, 54 + n, &f) == TOE_FRAME_TCP) {
				assert_true(f.l4_off + 4u <= 54 + n);
				assert_int_not_equal(toe_seg_parse(p, &f, 0, &seg), TOE_D_NONE);
			}
			assert_int_not_equal(cp_frame_parse(p, 54 + n, &s), 0);
			assert_int_not_equal(cp_icmp_parse(p, 54 + n, &m), 0);
			free(p);
		}
	}
}

/* Checksum and pseudo header: any changed bit of the addresses or of TCP is seen by both. */
static void test_checksum(void **state)
{
	uint32_t len = take(frame6_data);
	struct toe_frame f = {0};
	struct toe_seg seg;
	struct cp_seg s;

	(void)state;
	for (uint32_t bit = 22 * 8; bit < len * 8; bit++) {
		buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_equal(toe_frame_parse(buf, len, &f), TOE_FRAME_TCP);
		assert_int_not_equal(toe_seg_parse(buf, &f, TOE_TRUST_IP_CKSUM, &seg), TOE_D_NONE);
		assert_int_not_equal(cp_frame_parse(buf, len, &s), 0);
		buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	buf[86] ^= 1;
	assert_int_equal(toe_seg_parse(buf, &f, TOE_TRUST_TCP_CKSUM, &seg), TOE_D_NONE);
}

static void test_extension_bounds(void **state)
{
	uint8_t p[TOE_IP6_BYTES + 400] = {0x60};
	struct toe_ip6_upper u;

	(void)state;
	/* one header of 256 bytes, and of 264 */
	p[6] = TOE_IP6_DSTOPTS;
	p[40] = TOE_IP6_TCP;
	p[41] = 256 / 8 - 1;
	assert_true(toe_ip6_upper(p, sizeof(p), &u));
	assert_int_equal(u.off, 40 + 256);
	assert_int_equal(u.proto, TOE_IP6_TCP);
	assert_true(toe_ip6_upper(p, 40 + 256, &u));
	assert_false(toe_ip6_upper(p, 40 + 255, &u));
	p[41] = 264 / 8 - 1;
	assert_false(toe_ip6_upper(p, sizeof(p), &u));
	p[41] = 255;
	assert_false(toe_ip6_upper(p, sizeof(p), &u));
	/* an upper layer that is none of ours is found, nothing behind it is read */
	p[6] = 58;
	assert_true(toe_ip6_upper(p, 40, &u));
	assert_int_equal(u.off, 40);
	p[6] = 59; /* no next header: likewise, it is not TCP */
	assert_true(toe_ip6_upper(p, 40, &u));
}

static void test_icmp(void **state)
{
	uint32_t len = take(frame6_ptb);
	struct netif_key key;
	struct cp_icmp m;

	(void)state;
	assert_int_equal(netif_parse(buf, len, &key), NETIF_ICMP_TCP);
	check_tuple(&key.tuple);
	assert_int_equal(cp_icmp_parse(buf, len, &m), 0);
	check_tuple(&m.t);
	assert_int_equal(m.kind, CP_ICMP_TOO_BIG);
	assert_int_equal(m.mtu, 1300);
	assert_int_equal(m.len, 1500);
	assert_int_equal(m.seq, 0x01020304);
	buf[14 + 40 + 2] ^= 1;
	assert_int_not_equal(cp_icmp_parse(buf, len, &m), 0);
	len = take(frame6_unreach);
	assert_int_equal(netif_parse(buf, len, &key), NETIF_ICMP_TCP);
	assert_int_equal(cp_icmp_parse(buf, len, &m), 0);
	assert_int_equal(m.kind, CP_ICMP_REFUSED);
	assert_int_equal(m.error, ECONNREFUSED);
	len = take(frame6_echo);
	assert_int_equal(netif_parse(buf, len, &key), NETIF_OTHER);
	assert_int_not_equal(cp_icmp_parse(buf, len, &m), 0);
}

static void test_martians(void **state)
{
	static const struct {
		uint8_t a[16];
		bool martian;
	} cases[] = {
		{{0}, true},
		{{[15] = 1}, true},
		{{[15] = 2}, false}, /* nobody's, but routable as such */
		{{[14] = 1, [15] = 1}, false},
		{{[10] = 0xff, [11] = 0xff, [12] = 10, [15] = 2}, true},
		{{[10] = 0xff, [11] = 0xff}, true},
		{{[10] = 0xff, [11] = 0xfe}, false},
		{{0xff, 2, [15] = 1}, true},
		{{0xff, 0x0e, [15] = 1}, true},
		{{0xfe, 0x80, [15] = 1}, false},
		{{0x20, 1, 0xd, 0xb8, [15] = 1}, false},
		{{0, 0x64, 0xff, 0x9b, [12] = 10}, false}, /* NAT64 */
		{{0xfc}, false},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(toe_addr_martian(AF_INET6, cases[i].a), cases[i].martian);
}

static void test_seg_build(void **state)
{
	static const uint8_t src_mac[6] = {2, 0, 0, 0, 0, 1};
	struct toe_flow_addr6 addr6;
	struct toe_flow_post flow = {.remote_mac = {2, 0, 0, 0, 0, 2},
				     .local_port = htons(80),
				     .remote_port = htons(40000),
				     .flags = TOE_POST_TS | TOE_POST_IPV6,
				     .flow_label_high = 1,
				     .flow_label_low = 0x2345,
				     .ttl = 64};
	struct toe_snap snap = {.seq = 0xfffffff0,
				.ack = 77,
				.ts_ecr = 555,
				.wnd = 4096,
				.flags = TOE_TCP_ACK | TOE_TCP_PSH,
				.sack_n = 2,
				.ect = 1,
				.sack = {{1, 2}, {3, 4}}};
	struct toe_seg_build b = {.flow = &flow,
				  .addr6 = &addr6,
				  .src_mac = src_mac,
				  .snap = &snap,
				  .ts_val = 1234,
				  .payload_len = 33,
				  .sack_n = 2};
	uint8_t out[256];
	struct rte_mbuf m = {.buf_addr = out, .l3_len = 40};
	uint32_t len = take(frame6_built), pseudo = 0;
	unsigned hdr;

	(void)state;
	memcpy(addr6.local, us, 16);
	memcpy(addr6.remote, peer, 16);
	memset(out, 0x55, sizeof(out));
	hdr = toe_seg_build(out, &b);
	assert_int_equal(hdr, len - 33);
	assert_int_equal(out[hdr], 0x55);
	for (uint8_t i = 0; i < 33; i++)
		out[hdr + i] = i;
	m.data_len = (uint16_t)len;
	toe_seg_fill_cksum(&m);
	assert_memory_equal(out, buf, len);
	/* for a port that fills it in: the pseudo header's sum, not inverted */
	b.tcp_phdr = 1;
	toe_seg_build(out, &b);
	for (unsigned i = 0; i < 32; i += 2)
		pseudo += (uint32_t)(buf[22 + i] << 8 | buf[23 + i]);
	pseudo += 6 + len - 54;
	pseudo = (pseudo & 0xffff) + (pseudo >> 16);
	pseudo = (pseudo & 0xffff) + (pseudo >> 16);
	assert_int_equal(out[54 + 16] << 8 | out[54 + 17], pseudo);
}

static void test_cp_build(void **state)
{
	static const uint8_t mac[2][6] = {{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 2}};
	struct cp_addr a = cp_addr_make(AF_INET6, us), b = cp_addr_make(AF_INET6, peer);
	const struct cp_build build = {.src_mac = mac[0],
				       .dst_mac = mac[1],
				       .t = cp_tuple(&a, 1234, &b, 80),
				       .flow_label = 0xabcde,
				       .seq = 0xfffffff0,
				       .wnd = 65535,
				       .mss = 1440,
				       .wscale = 9,
				       .ts_val = 0x01020304,
				       .ts_ecr = 0x05060708,
				       .flags = CP_TCP_SYN | CP_TCP_ECE | CP_TCP_CWR,
				       .opts = CP_OPT_MSS | CP_OPT_WS | CP_OPT_SACK | CP_OPT_TS};
	uint32_t len = take(frame6_cp);
	uint8_t out[CP_FRAME_MAX];

	(void)state;
	assert_int_equal(cp_frame_build(out, &build), len);
	assert_memory_equal(out, buf, len);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_segments),         cmocka_unit_test(test_link_local),
		cmocka_unit_test(test_fragments),        cmocka_unit_test(test_truncations),
		cmocka_unit_test(test_short_packets),    cmocka_unit_test(test_checksum),
		cmocka_unit_test(test_extension_bounds), cmocka_unit_test(test_icmp),
		cmocka_unit_test(test_martians),         cmocka_unit_test(test_seg_build),
		cmocka_unit_test(test_cp_build),
	};

	return cmocka_run_group_tests_name("ip6", tests, NULL, NULL);
}
