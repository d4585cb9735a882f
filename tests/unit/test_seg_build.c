// SPDX-License-Identifier: BSD-3-Clause
/* LINK: datapath/seg_build.c datapath/seg_parse.c common/log.c */
/* Header builder: what it writes, the checked parser reads back; checksums against DPDK's. */
#include "seg_build.h"
#include "seg_cksum.h"
#include "stage_env.h"

static struct toe_flow_post flow = {
	.local_addr = {10, 0, 0, 1},
	.remote_addr = {10, 0, 0, 2},
	.remote_mac = {2, 0, 0, 0, 0, 2},
};
static const uint8_t src_mac[6] = {2, 0, 0, 0, 0, 1};
static uint8_t buf[2048];

static unsigned build(struct toe_seg_build *b, struct toe_snap *snap)
{
	flow.local_port = rte_cpu_to_be_16(80);
	flow.remote_port = rte_cpu_to_be_16(40000);
	b->flow = &flow;
	b->src_mac = src_mac;
	b->snap = snap;
	memset(buf, 0x55, sizeof(buf));
	return toe_seg_build(buf, b);
}

static void round_trip(uint8_t flags, uint8_t sack_n, uint16_t payload_len)
{
	struct toe_snap snap = {.seq = 0xfffffff0,
				.ack = 77,
				.ts_ecr = 555,
				.wnd = 4096,
				.flags = TOE_TCP_ACK | TOE_TCP_PSH,
				.sack_n = sack_n,
				.ect = 1,
				.sack = {{1, 2}, {3, 4}, {0xffffffff, 5}}};
	struct toe_seg_build b = {
		.ts_val = 1234, .payload_len = payload_len, .sack_n = sack_n, .ip_cksum = 1};
	struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(buf + 14);
	struct rte_tcp_hdr *tcp = (struct rte_tcp_hdr *)(buf + 34);
	struct toe_frame f;
	struct toe_seg seg;
	unsigned hdr, i;

	flow.flags = flags;
	flow.tos = 0x28;
	flow.ttl = 61;
	hdr = build(&b, &snap);
	assert_int_equal(hdr, 34 + toe_seg_tcp_bytes(&flow, sack_n));
	assert_true(hdr <= TOE_SEG_HDR_MAX);
	assert_int_equal(buf[hdr], 0x55); /* nothing behind it was touched */
	assert_int_equal(tcp->cksum, 0);
	tcp->cksum = rte_ipv4_udptcp_cksum(ip, tcp);
	assert_int_equal(toe_frame_parse(buf, hdr + payload_len, &f), TOE_FRAME_TCP);
	assert_int_equal(toe_seg_parse(buf, &f, 0, &seg), TOE_D_NONE);
	assert_memory_equal(buf, flow.remote_mac, 6);
	assert_memory_equal(buf + 6, src_mac, 6);
	assert_memory_equal(f.key.local_addr, flow.remote_addr, 4); /* as the peer sees it */
	assert_int_equal(f.key.local_port, flow.remote_port);
	assert_int_equal(seg.seq, snap.seq);
	assert_int_equal(seg.ack, snap.ack);
	assert_int_equal(seg.wnd, snap.wnd);
	assert_int_equal(seg.flags, snap.flags);
	assert_int_equal(seg.payload_len, payload_len);
	assert_int_equal(seg.ecn, 2);
	assert_int_equal(seg.opts, flags & TOE_POST_TS ? TOE_SEG_TS : 0);
	if (flags & TOE_POST_TS) {
		assert_int_equal(seg.ts_val, 1234);
		assert_int_equal(seg.ts_ecr, 555);
	}
	assert_int_equal(seg.sack_n, sack_n);
	for (i = 0; i < sack_n; i++) {
		assert_int_equal(seg.sack[i].left, snap.sack[i].left);
		assert_int_equal(seg.sack[i].right, snap.sack[i].right);
	}
	assert_int_equal(ip->fragment_offset, rte_cpu_to_be_16(0x4000));
	assert_int_equal(ip->packet_id, 0);
	assert_int_equal(ip->time_to_live, 61);
	assert_int_equal(ip->type_of_service, 0x28 | 2);
}

static void test_round_trip(void **state)
{
	(void)state;
	for (uint8_t sack_n = 0; sack_n <= 3; sack_n++) {
		round_trip(0, sack_n, 0);
		round_trip(TOE_POST_TS, sack_n, 0);
		round_trip(TOE_POST_TS, sack_n, 1001);
	}
}

static void test_offload(void **state)
{
	struct toe_snap snap = {.flags = TOE_TCP_ACK};
	struct toe_seg_build b = {.payload_len = 999, .tcp_phdr = 1};
	struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(buf + 14);
	struct rte_tcp_hdr *tcp = (struct rte_tcp_hdr *)(buf + 34);

	(void)state;
	flow.flags = TOE_POST_TS;
	flow.tos = 0;
	build(&b, &snap);
	assert_int_equal(ip->hdr_checksum, 0);
	assert_int_equal(ip->type_of_service, 0);
	assert_int_equal(tcp->cksum, rte_ipv4_phdr_cksum(ip, 0));
}

/* Every length, with bytes that carry. */
static void test_fill_cksum(void **state)
{
	struct toe_snap snap = {.seq = 0xfffffff0, .ack = 77, .flags = TOE_TCP_ACK};
	struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(buf + 14);
	struct rte_tcp_hdr *tcp = (struct rte_tcp_hdr *)(buf + 34);

	(void)state;
	flow.flags = TOE_POST_TS;
	for (uint16_t len = 0; len <= 1448; len++) {
		struct toe_seg_build b = {.ts_val = 1234, .payload_len = len, .ip_cksum = 1};
		unsigned hdr = build(&b, &snap);
		struct rte_mbuf m = {
			.buf_addr = buf, .data_len = (uint16_t)(hdr + len), .l3_len = 20};
		uint16_t want;

		for (unsigned i = 0; i < len; i++)
			buf[hdr + i] = (uint8_t)(0xff - i % 3 * len);
		want = rte_ipv4_udptcp_cksum(ip, tcp);
		tcp->cksum = 0x1234; /* what was there does not count */
		toe_seg_fill_cksum(&m);
		assert_int_equal(tcp->cksum, want);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_offload),
		cmocka_unit_test(test_fill_cksum),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
