// SPDX-License-Identifier: BSD-3-Clause
/* LINK: datapath/seg_parse.c */
/* Frame and segment parser: good frames of every shape, every truncation, every single-bit error.
 */
#include "stage_env.h"

static uint8_t buf[2048];

static enum toe_drop parse(uint32_t len, struct toe_frame *f, struct toe_seg *seg)
{
	assert_int_equal(toe_frame_parse(buf, len, f), TOE_FRAME_TCP);
	return toe_seg_parse(buf, f, 0, seg);
}

static void test_plain(void **state)
{
	struct frame_spec s = FRAME_DEFAULT;
	struct toe_frame f;
	struct toe_seg seg;
	uint32_t len;

	(void)state;
	s.payload_len = 101;
	s.padding = 9; /* not payload */
	s.ecn = 3;
	len = frame_make(buf, &s);
	assert_int_equal(parse(len, &f, &seg), TOE_D_NONE);
	assert_int_equal(seg.seq, 1000);
	assert_int_equal(seg.ack, 2000);
	assert_int_equal(seg.wnd, 512);
	assert_int_equal(seg.flags, TOE_TCP_ACK);
	assert_int_equal(seg.payload_off, 54);
	assert_int_equal(seg.payload_len, 101);
	assert_int_equal(seg.ecn, 3);
	assert_int_equal(seg.opts, 0);
	assert_int_equal(seg.sack_n, 0);
	assert_int_equal(f.key.local_port, rte_cpu_to_be_16(80));
	assert_int_equal(f.key.remote_port, rte_cpu_to_be_16(40000));
	assert_memory_equal(f.key.local_addr, "\x0a\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0", 16);
	assert_memory_equal(f.key.remote_addr, "\x0a\0\0\2\0\0\0\0\0\0\0\0\0\0\0\0", 16);
}

static void test_vlan_and_ip_options(void **state)
{
	struct frame_spec s = FRAME_DEFAULT;
	struct toe_frame f;
	struct toe_seg seg;

	(void)state;
	s.payload_len = 10;
	s.vlan = 0x6005; /* priority 3, id 5 */
	s.ip_opt_bytes = 8;
	assert_int_equal(parse(frame_make(buf, &s), &f, &seg), TOE_D_NONE);
	assert_int_equal(f.vlan, 5);
	assert_int_equal(seg.payload_off, 18 + 28 + 20);
	assert_int_equal(seg.payload_len, 10);
	s.vlan = 0x2000;
	assert_int_equal(parse(frame_make(buf, &s), &f, &seg), TOE_D_NONE);
	assert_int_equal(f.vlan, 0);
}

static void test_options(void **state)
{
	static const uint8_t opts[] = {1, 1, 8, 10, 0x01, 0x02, 0x03, 0x04, 0x11, 0x12, 0x13, 0x14,
				       1, 1, 5, 18, 0,    0,    0,    1,    0,    0,    0,    2,
				       0, 0, 0, 3,  0,    0,    0,    4,    0,    0,    0,    0};
	static const uint8_t bad_len[] = {8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 5, 1, 8, 10, 9, 9};
	static const uint8_t past_end[] = {3, 3, 7, 5, 34, 0, 0, 0};
	static const uint8_t eol[] = {0, 8, 10, 1, 1, 1, 1, 2, 2, 2, 2, 1};
	static const uint8_t odd_sack[] = {5, 12, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0};
	static const uint8_t unknown[] = {253, 4, 1, 2, 8, 10, 0, 0, 0, 5, 0, 0, 0, 6, 1, 1};
	struct frame_spec s = FRAME_DEFAULT;
	struct toe_frame f;
	struct toe_seg seg;

	(void)state;
	s.opts = opts;
	s.opt_bytes = sizeof(opts);
	assert_int_equal(parse(frame_make(buf, &s), &f, &seg), TOE_D_NONE);
	assert_int_equal(seg.opts, TOE_SEG_TS);
	assert_int_equal(seg.ts_val, 0x01020304);
	assert_int_equal(seg.ts_ecr, 0x11121314);
	assert_int_equal(seg.sack_n, 2);
	assert_int_equal(seg.sack[0].left, 1);
	assert_int_equal(seg.sack[0].right, 2);
	assert_int_equal(seg.sack[1].left, 3);
	assert_int_equal(seg.sack[1].right, 4);

	s.opts = bad_len; /* what came before counts */
	s.opt_bytes = sizeof(bad_len);
	assert_int_equal(parse(frame_make(buf, &s), &f, &seg), TOE_D_NONE);
	assert_int_equal(seg.opts, TOE_SEG_TS);
	assert_int_equal(seg.ts_val, 1);

	s.opts = past_end;
	s.opt_bytes = sizeof(past_end);
	assert_int_equal(parse(frame_make(buf, &s), &f, &seg), TOE_D_NONE);
	assert_int_equal(seg.sack_n, 0);

	s.opts = eol;
	s.opt_bytes = sizeof(eol);
	assert_int_equal(parse(frame_make(buf, &s), &f, &seg), TOE_D_NONE);
	assert_int_equal(seg.opts, 0);

	s.opts = odd_sack;
	s.opt_bytes = sizeof(odd_sack);
	assert_int_equal(parse(frame_make(buf, &s), &f, &seg), TOE_D_NONE);
	assert_int_equal(seg.sack_n, 0);

	s.opts = unknown;
	s.opt_bytes = sizeof(unknown);
	assert_int_equal(parse(frame_make(buf, &s), &f, &seg), TOE_D_NONE);
	assert_int_equal(seg.ts_ecr, 6);
}

static void test_kinds(void **state)
{
	struct frame_spec s = FRAME_DEFAULT;
	struct toe_frame f;
	uint32_t len = frame_make(buf, &s);

	(void)state;
	buf[12] = 0x86;
	buf[13] = 0xdd;
	assert_int_equal(toe_frame_parse(buf, len, &f), TOE_FRAME_IP_BAD); /* IPv4 as IPv6 */
	buf[13] = 0xde;
	assert_int_equal(toe_frame_parse(buf, len, &f), TOE_FRAME_OTHER);
	len = frame_make(buf, &s);
	buf[23] = 17; /* UDP */
	assert_int_equal(toe_frame_parse(buf, len, &f), TOE_FRAME_IP);
	len = frame_make(buf, &s);
	buf[20] = 0x20; /* first of several fragments */
	assert_int_equal(toe_frame_parse(buf, len, &f), TOE_FRAME_FRAGMENT);
	buf[21] = 1; /* a later one */
	assert_int_equal(toe_frame_parse(buf, len, &f), TOE_FRAME_IP);
	len = frame_make(buf, &s);
	buf[14] = 0x65;
	assert_int_equal(toe_frame_parse(buf, len, &f), TOE_FRAME_IP_BAD);
	buf[14] = 0x44;
	assert_int_equal(toe_frame_parse(buf, len, &f), TOE_FRAME_IP_BAD);
	buf[14] = 0x45;
	buf[17] = 19; /* total length below the header's */
	assert_int_equal(toe_frame_parse(buf, len, &f), TOE_FRAME_IP_BAD);
	buf[17] = 22; /* no room for ports */
	assert_int_equal(toe_frame_parse(buf, len, &f), TOE_FRAME_IP);
}

static void test_martians(void **state)
{
	static const uint32_t bad[] = {0x00000001, 0x7f000001, 0xe0000001, 0xf0000001, 0xffffffff};
	struct frame_spec s = FRAME_DEFAULT;
	struct toe_frame f;

	(void)state;
	toe_frame_parse(buf, frame_make(buf, &s), &f);
	assert_false(toe_frame_martian(&f));
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		s.src = bad[i];
		s.dst = 0;
		toe_frame_parse(buf, frame_make(buf, &s), &f);
		assert_true(toe_frame_martian(&f));
		s.src = 0;
		s.dst = bad[i];
		toe_frame_parse(buf, frame_make(buf, &s), &f);
		assert_true(toe_frame_martian(&f));
	}
}

static void test_bad_tcp_header(void **state)
{
	struct frame_spec s = FRAME_DEFAULT;
	struct toe_frame f;
	struct toe_seg seg;
	uint32_t len = frame_make(buf, &s);
	unsigned trust = TOE_TRUST_IP_CKSUM | TOE_TRUST_TCP_CKSUM;

	(void)state;
	toe_frame_parse(buf, len, &f);
	buf[46] = 0x40;
	assert_int_equal(toe_seg_parse(buf, &f, trust, &seg), TOE_D_TCP_HEADER);
	buf[46] = 0xf0;
	assert_int_equal(toe_seg_parse(buf, &f, trust, &seg), TOE_D_TCP_HEADER);
	buf[17] = 39; /* total length cuts the header */
	toe_frame_parse(buf, len, &f);
	assert_int_equal(toe_seg_parse(buf, &f, trust, &seg), TOE_D_TCP_HEADER);
}

static void test_every_truncation(void **state)
{
	struct frame_spec s = FRAME_DEFAULT;
	struct toe_frame f;
	uint32_t len, cut;

	(void)state;
	s.payload_len = 7;
	len = frame_make(buf, &s);
	for (cut = 0; cut < len; cut++) {
		/* a copy of that very size, so that sanitizers see reads behind it */
		uint8_t *p = malloc(cut + 1);

		memcpy(p, buf, cut);
		assert_int_equal(toe_frame_parse(p, cut, &f), TOE_FRAME_SHORT);
		free(p);
	}
	assert_int_equal(toe_frame_parse(buf, len, &f), TOE_FRAME_TCP);
}

static void test_every_bit_error(void **state)
{
	struct frame_spec s = FRAME_DEFAULT;
	struct toe_frame f;
	struct toe_seg seg;
	uint32_t len, bit;

	(void)state;
	s.payload_len = 33;
	len = frame_make(buf, &s);
	for (bit = 14 * 8; bit < len * 8; bit++) {
		buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
		if (toe_frame_parse(buf, len, &f) == TOE_FRAME_TCP)
			assert_int_not_equal(toe_seg_parse(buf, &f, 0, &seg), TOE_D_NONE);
		buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	assert_int_equal(parse(len, &f, &seg), TOE_D_NONE);
	buf[len - 1] ^= 1;
	toe_frame_parse(buf, len, &f);
	assert_int_equal(toe_seg_parse(buf, &f, 0, &seg), TOE_D_TCP_CHECKSUM);
	assert_int_equal(toe_seg_parse(buf, &f, TOE_TRUST_TCP_CKSUM, &seg), TOE_D_NONE);
	buf[24] ^= 1;
	assert_int_equal(toe_seg_parse(buf, &f, TOE_TRUST_TCP_CKSUM, &seg), TOE_D_IP_HEADER);
	assert_int_equal(toe_seg_parse(buf, &f, TOE_TRUST_TCP_CKSUM | TOE_TRUST_IP_CKSUM, &seg),
			 TOE_D_NONE);
}

static void test_cksum_like_dpdk(void **state)
{
	uint32_t len, off, i;

	(void)state;
	for (i = 0; i < sizeof(buf); i++)
		buf[i] = (uint8_t)(rand() | (i & 0xf0));
	for (off = 0; off < 9; off++)
		for (len = 0; len < 200; len++)
			assert_int_equal(toe_cksum_fold(toe_cksum_add(buf + off, len, 0)),
					 rte_raw_cksum(buf + off, len));
}

static void test_flags(void **state)
{
	unsigned i;

	(void)state;
	for (i = 0; i < 256; i++) {
		bool syn = i & TOE_TCP_SYN;
		bool bad = syn ? (i & (TOE_TCP_FIN | TOE_TCP_RST)) != 0
			       : !(i & (TOE_TCP_RST | TOE_TCP_ACK));

		assert_int_equal(toe_flags_impossible((uint8_t)i), bad);
	}
	assert_true(toe_flags_impossible(0));
	assert_true(toe_flags_impossible(TOE_TCP_FIN));
	assert_true(toe_flags_impossible(TOE_TCP_SYN | TOE_TCP_FIN));
	assert_false(toe_flags_impossible(TOE_TCP_SYN | TOE_TCP_ECE | TOE_TCP_CWR));
	assert_false(toe_flags_impossible(TOE_TCP_RST));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_vlan_and_ip_options),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_martians),
		cmocka_unit_test(test_bad_tcp_header),
		cmocka_unit_test(test_every_truncation),
		cmocka_unit_test(test_every_bit_error),
		cmocka_unit_test(test_cksum_like_dpdk),
		cmocka_unit_test(test_flags),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
