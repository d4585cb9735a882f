// SPDX-License-Identifier: BSD-3-Clause
/* LINK: datapath/stages/post.c datapath/seg_build.c datapath/seg_parse.c common/log.c */
/* post: segments for every kind of item, room for the payload, offloads, exhaustion, statistics. */
#include "pipeline.h"
#include "seg_build.h"
#include "stage_env.h"

#define CONN 5u

static void start(unsigned mbuf_n)
{
	struct toe_flow_post *f;

	env_start(&toe_stage_post, 16, mbuf_n);
	f = &env.engine.flow_post[CONN];
	memcpy(f->local_addr, "\x0a\0\0\1", 4);
	memcpy(f->remote_addr, "\x0a\0\0\2", 4);
	f->local_port = rte_cpu_to_be_16(80);
	f->remote_port = rte_cpu_to_be_16(40000);
	f->flags = TOE_POST_TS;
	f->ts_offset = 1000;
	env.now.ms = 99; /* another lcore's clock: not for TSval */
}

static struct toe_work *item(enum toe_work_type type, uint8_t todo)
{
	struct toe_work *w = toe_work_alloc(&env.stage, type);

	assert_non_null(w);
	memset(&w->seg, 0, sizeof(w->seg));
	memset(&w->snap, 0, sizeof(w->snap));
	w->conn = CONN;
	w->todo = todo;
	w->snap.flags = TOE_TCP_ACK;
	w->snap.seq = 10;
	w->snap.ts_ms = 234;
	return w;
}

static void feed(struct toe_work *w)
{
	env_clear();
	toe_stage_post.process(&env.stage, &w, 1);
	assert_int_equal(env.emitted_n, 1);
	assert_int_equal(env.to[0], TOE_STAGE_DMA);
	assert_ptr_equal(env.emitted[0], w);
}

static void parse_sent(const struct toe_work *w, struct toe_seg *seg)
{
	struct toe_frame f;

	assert_non_null(w->tx_mbuf);
	assert_int_equal(toe_frame_parse(rte_pktmbuf_mtod(w->tx_mbuf, uint8_t *),
					 rte_pktmbuf_data_len(w->tx_mbuf), &f),
			 TOE_FRAME_TCP);
	assert_int_equal(f.end, rte_pktmbuf_data_len(w->tx_mbuf));
	assert_int_equal(toe_seg_parse(rte_pktmbuf_mtod(w->tx_mbuf, uint8_t *), &f,
				       TOE_TRUST_TCP_CKSUM, seg),
			 TOE_D_NONE);
}

static void test_data_segment(void **state)
{
	struct toe_work *w;
	struct toe_seg seg;

	(void)state;
	start(255);
	w = item(TOE_WORK_TX, TOE_TODO_TX | TOE_TODO_SCHED);
	w->snap.len = 1448;
	feed(w);
	parse_sent(w, &seg);
	assert_int_equal(seg.payload_len, 1448);
	assert_int_equal(seg.ts_val, 1234);
	assert_int_equal(w->todo, TOE_TODO_TX | TOE_TODO_SCHED);
	assert_int_equal(w->tx_mbuf->l2_len, 14);
	assert_int_equal(w->tx_mbuf->l3_len, 20);
	assert_int_equal(w->tx_mbuf->l4_len, 32);
	assert_true(w->tx_mbuf->ol_flags == 0);
	toe_work_free(&env.stage, w);

	w = item(TOE_WORK_TX, TOE_TODO_TX); /* SACK blocks would not fit the MTU with this data */
	w->snap.len = 1440;
	w->snap.sack_n = 3;
	feed(w);
	parse_sent(w, &seg);
	assert_int_equal(seg.sack_n, 0);
	assert_int_equal(seg.payload_len, 1440);
	toe_work_free(&env.stage, w);
	env_stop();
}

static void test_ack_of_received_data(void **state)
{
	struct toe_work *w;
	struct toe_seg seg;

	(void)state;
	start(255);
	w = item(TOE_WORK_RX, TOE_TODO_TX | TOE_TODO_CTXQ);
	w->snap.len = 500; /* payload for dma, not of the ACK */
	w->snap.sack_n = 2;
	feed(w);
	parse_sent(w, &seg);
	assert_int_equal(seg.payload_len, 0);
	assert_int_equal(seg.sack_n, 2);
	assert_int_equal(w->snap.len, 500);
	toe_work_free(&env.stage, w);
	env_stop();
}

static void test_passes_on(void **state)
{
	struct toe_work *w;

	(void)state;
	start(255);
	w = item(TOE_WORK_HC, 0);
	w->verdict = TOE_NOTHING;
	feed(w);
	assert_null(w->tx_mbuf);
	toe_work_free(&env.stage, w);
	w = item(TOE_WORK_CTRL, TOE_TODO_TX | TOE_TODO_SCHED); /* a reset */
	w->cmd = TOE_CMD_CLOSE;
	w->snap.flags = TOE_TCP_RST;
	feed(w);
	assert_non_null(w->tx_mbuf);
	toe_work_free(&env.stage, w);
	env_stop();
}

static void test_offloads(void **state)
{
	struct toe_work *w;
	struct rte_ipv4_hdr *ip;
	struct rte_ipv6_hdr *ip6;
	struct rte_tcp_hdr *tcp;

	(void)state;
	start(255);
	toe_stage_post.fini(&env.stage);
	env.engine.caps.tx_ip_cksum = env.engine.caps.tx_tcp_cksum = true;
	assert_int_equal(toe_stage_post.init(&env.stage), 0);
	w = item(TOE_WORK_TX, TOE_TODO_TX);
	w->snap.len = 100;
	feed(w);
	ip = rte_pktmbuf_mtod_offset(w->tx_mbuf, struct rte_ipv4_hdr *, 14);
	tcp = (struct rte_tcp_hdr *)(ip + 1);
	assert_true(w->tx_mbuf->ol_flags ==
		    (RTE_MBUF_F_TX_IP_CKSUM | RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_TCP_CKSUM));
	assert_int_equal(ip->hdr_checksum, 0);
	assert_int_equal(tcp->cksum, rte_ipv4_phdr_cksum(ip, w->tx_mbuf->ol_flags));
	toe_work_free(&env.stage, w);
	env.engine.flow_post[CONN].flags |= TOE_POST_IPV6;
	w = item(TOE_WORK_TX, TOE_TODO_TX);
	w->snap.len = 100;
	feed(w);
	ip6 = rte_pktmbuf_mtod_offset(w->tx_mbuf, struct rte_ipv6_hdr *, 14);
	tcp = (struct rte_tcp_hdr *)(ip6 + 1);
	assert_true(w->tx_mbuf->ol_flags == (RTE_MBUF_F_TX_IPV6 | RTE_MBUF_F_TX_TCP_CKSUM));
	assert_int_equal(w->tx_mbuf->l3_len, 40);
	assert_int_equal(w->tx_mbuf->data_len, 14 + 40 + 32 + 100);
	assert_int_equal(tcp->cksum, rte_ipv6_phdr_cksum(ip6, w->tx_mbuf->ol_flags));
	toe_work_free(&env.stage, w);
	env_stop();
}

static void test_no_mbuf(void **state)
{
	struct toe_work *w[8];
	unsigned i, sent = 0;

	(void)state;
	start(5);
	for (i = 0; i < 8; i++) {
		w[i] = item(i == 7 ? TOE_WORK_RX : TOE_WORK_TX, TOE_TODO_TX | TOE_TODO_SCHED);
		w[i]->snap.len = 10;
	}
	env_clear();
	toe_stage_post.process(&env.stage, w, 8);
	assert_int_equal(env.emitted_n, 8);
	assert_int_equal(env.drops[TOE_D_NO_MBUF], 3);
	for (i = 0; i < 8; i++) {
		bool has = w[i]->tx_mbuf != NULL;

		sent += has;
		assert_int_equal(w[i]->todo, TOE_TODO_SCHED | (has ? TOE_TODO_TX : 0));
		assert_int_equal(w[i]->verdict, TOE_FORWARD);
		/* nothing is fetched for a segment that is not there; what came in is still placed
		 */
		assert_int_equal(w[i]->snap.len, has || i == 7 ? 10 : 0);
		toe_work_free(&env.stage, w[i]);
	}
	assert_int_equal(sent, 5);
	w[0] = item(TOE_WORK_TX, TOE_TODO_TX);
	w[0]->snap.len = 60000; /* larger than a buffer */
	feed(w[0]);
	assert_null(w[0]->tx_mbuf);
	assert_int_equal(rte_mempool_avail_count(env.engine.mbuf_pool), 5);
	toe_work_free(&env.stage, w[0]);
	env_stop();
}

static void test_statistics(void **state)
{
	struct toe_flow_stat *st;
	struct toe_work *w;

	(void)state;
	start(255);
	env.stage.replica = 2;
	st = &env.engine.stat[CONN * TOE_FLOW_STAT_REPLICAS + 2];
	w = item(TOE_WORK_RX, TOE_TODO_TX);
	w->snap.len = 100;
	w->snap.acked_bytes = 1000;
	w->snap.ecn_echo = 1;
	w->snap.dup_ack = 1;
	w->seg.ecn = 3;
	feed(w);
	toe_work_free(&env.stage, w);
	w = item(TOE_WORK_TX, TOE_TODO_TX);
	w->snap.len = 200;
	w->snap.rtx_bytes = 200;
	feed(w);
	toe_work_free(&env.stage, w);
	w = item(TOE_WORK_RX, 0); /* dropped by pre: its snapshot is old bytes */
	w->verdict = TOE_NOTHING;
	memset(&w->snap, 0xff, sizeof(w->snap));
	feed(w);
	toe_work_free(&env.stage, w);
	assert_int_equal(st->rx_segs, 1);
	assert_int_equal(st->rx_bytes, 100);
	assert_int_equal(st->acked_bytes, 1000);
	assert_int_equal(st->ecn_bytes, 1000);
	assert_int_equal(st->dup_acks, 1);
	assert_int_equal(st->rx_segs_ce, 1);
	assert_int_equal(st->tx_segs, 2);
	assert_int_equal(st->tx_bytes, 200);
	assert_int_equal(st->rtx_bytes, 200);
	assert_int_equal(st->rtx_segs, 1);
	env_stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_data_segment), cmocka_unit_test(test_ack_of_received_data),
		cmocka_unit_test(test_passes_on),    cmocka_unit_test(test_offloads),
		cmocka_unit_test(test_no_mbuf),      cmocka_unit_test(test_statistics),
	};

	return cmocka_run_group_tests(tests, env_eal, NULL);
}
