// SPDX-License-Identifier: BSD-3-Clause
/* LINK: datapath/stages/pre.c datapath/seg_parse.c datapath/flow_table.c common/log.c */
/* pre: whose frame it is, every reason to drop one, and that each item goes on to reorder. */
#include <sys/socket.h>

#include "pipeline.h"
#include "stage_env.h"

#define CONN  5u /* 10.0.0.2:40000 -> 10.0.0.1:80, flow-group 1 */
#define CONN6 9u /* 2001:db8::2 -> 2001:db8::1, likewise */

static int flow_at[16]; /* by connection */

static void add_flow(uint32_t conn, uint32_t family, const uint8_t *local, const uint8_t *remote)
{
	struct toe_tuple k;

	memset(&k, 0, sizeof(k));
	memcpy(k.local_addr, local, family == AF_INET6 ? 16 : 4);
	memcpy(k.remote_addr, remote, family == AF_INET6 ? 16 : 4);
	k.local_port = rte_cpu_to_be_16(80);
	k.remote_port = rte_cpu_to_be_16(40000);
	k.family = family;
	flow_at[conn] = toe_flow_table_add(env.engine.flows, &k,
					   (struct toe_flow_ref){.conn = conn, .gen = 77});
	assert_true(flow_at[conn] >= 0);
}

static const uint8_t us6[16] = {0x20, 1, 0xd, 0xb8, [15] = 1};
static const uint8_t peer6[16] = {0x20, 1, 0xd, 0xb8, [15] = 2};

static int setup(void **state)
{
	(void)state;
	env_start(&toe_stage_pre, 16, 255);
	env.engine.flows = toe_flow_table_create(16, NULL);
	assert_non_null(env.engine.flows);
	add_flow(CONN, AF_INET, (const uint8_t *)"\x0a\0\0\1", (const uint8_t *)"\x0a\0\0\2");
	add_flow(CONN6, AF_INET6, us6, peer6);
	toe_addr6_set(env.engine.flows, 0, us6);
	toe_port_set(env.engine.flows, AF_INET, 80, TOE_PORT_LISTEN);
	toe_port_set(env.engine.flows, AF_INET, 81, TOE_PORT_RESERVED);
	return 0;
}

static int teardown(void **state)
{
	struct toe_flow_table *t = env.engine.flows;

	(void)state;
	assert_int_equal(env.live, 0);
	env_stop();
	toe_flow_table_free(t);
	return 0;
}

static void feed(struct toe_work *w)
{
	w->fg = 1;
	env_clear();
	toe_stage_pre.process(&env.stage, &w, 1);
	assert_int_equal(env.emitted_n, 1);
	assert_int_equal(env.to[0], TOE_STAGE_REORDER);
	assert_ptr_equal(env.emitted[0], w);
}

static void expect(struct toe_work *w, enum toe_verdict verdict, enum toe_drop why)
{
	feed(w);
	assert_int_equal(w->verdict, verdict);
	if (verdict == TOE_NOTHING) {
		assert_int_equal(w->drop, why);
		assert_int_equal(env.drops[why], 1);
	}
	if (verdict != TOE_FORWARD)
		assert_int_equal(w->conn, TOE_NONE);
	assert_non_null(w->mbuf);
	toe_work_free(&env.stage, w);
}

static void test_forward(void **state)
{
	struct frame_spec s = FRAME_DEFAULT;
	struct toe_work *w;

	(void)state;
	s.payload_len = 3;
	s.padding = 3;
	w = frame_item(&s);
	feed(w);
	assert_int_equal(w->verdict, TOE_FORWARD);
	assert_int_equal(w->conn, CONN);
	assert_int_equal(w->gen, 77);
	assert_int_equal(w->seg.payload_len, 3);
	assert_int_equal(w->seg.payload_off, 54);
	toe_work_free(&env.stage, w);
	s.flags = TOE_TCP_SYN; /* proto answers with a challenge ACK */
	expect(frame_item(&s), TOE_FORWARD, TOE_D_NONE);
	s.vlan = 0; /* priority tag */
	expect(frame_item(&s), TOE_FORWARD, TOE_D_NONE);
	toe_port_set(env.engine.flows, AF_INET, 80, 0); /* listener gone, connection lives on */
	expect(frame_item(&s), TOE_FORWARD, TOE_D_NONE);
}

static void test_ipv6(void **state)
{
	static const uint8_t four[2][16] = {{10, 0, 0, 2}, {10, 0, 0, 1}};
	static const uint8_t mapped[16] = {[10] = 0xff, [11] = 0xff, [12] = 10, [15] = 2};
	static const uint8_t fragment[8] = {6, 0, 0, 1};
	struct frame_spec s = FRAME_DEFAULT;
	struct toe_work *w;

	(void)state;
	s.six = true;
	s.payload_len = 3;
	w = frame_item(&s);
	feed(w);
	assert_int_equal(w->verdict, TOE_FORWARD);
	assert_int_equal(w->conn, CONN6);
	assert_int_equal(w->seg.payload_off, 74);
	toe_work_free(&env.stage, w);
	w = frame_item(&s);
	rte_pktmbuf_mtod(w->mbuf, uint8_t *)[74] ^= 1;
	expect(w, TOE_NOTHING, TOE_D_TCP_CHECKSUM);
	w = frame_item(&s); /* no header checksum to be wrong */
	w->mbuf->ol_flags |= RTE_MBUF_F_RX_IP_CKSUM_BAD;
	expect(w, TOE_FORWARD, TOE_D_NONE);
	s.ext = fragment;
	s.ext_bytes = sizeof(fragment);
	s.ext_type = 44;
	expect(frame_item(&s), TOE_NOTHING, TOE_D_FRAGMENT);
	s.ext_bytes = 0;
	/* the port's state is the family's, and so are the addresses */
	s.sport = 40001;
	expect(frame_item(&s), TOE_TO_TAP, TOE_D_NONE);
	toe_port_set(env.engine.flows, AF_INET6, 80, TOE_PORT_LISTEN);
	expect(frame_item(&s), TOE_TO_CTRL, TOE_D_NONE);
	s.src6 = mapped;
	expect(frame_item(&s), TOE_NOTHING, TOE_D_IP_HEADER);
	s.src6 = NULL;
	s.dst = 3;
	expect(frame_item(&s), TOE_TO_TAP, TOE_D_NONE);
	/* an IPv4 connection's addresses, written as IPv6 */
	s.sport = 40000;
	s.src6 = four[0];
	s.dst6 = four[1];
	expect(frame_item(&s), TOE_TO_TAP, TOE_D_NONE);
}

static void test_to_ctrl(void **state)
{
	struct frame_spec s = FRAME_DEFAULT;

	(void)state;
	s.sport = 40001;
	s.flags = TOE_TCP_SYN;
	expect(frame_item(&s), TOE_TO_CTRL, TOE_D_NONE);
	s.dport = 81;
	s.flags = TOE_TCP_SYN | TOE_TCP_ACK;
	expect(frame_item(&s), TOE_TO_CTRL, TOE_D_NONE);
	s = (struct frame_spec)FRAME_DEFAULT;
	assert_int_equal(toe_flow_table_del(env.engine.flows, flow_at[CONN]), 0);
	expect(frame_item(&s), TOE_TO_CTRL, TOE_D_NONE);
}

static void test_to_tap(void **state)
{
	struct frame_spec s = FRAME_DEFAULT;
	struct toe_work *w;

	(void)state;
	s.dport = 22; /* the kernel's: not even its checksum is our business */
	w = frame_item(&s);
	rte_pktmbuf_mtod(w->mbuf, uint8_t *)[50] ^= 1;
	expect(w, TOE_TO_TAP, TOE_D_NONE);
	s.dport = 80;
	s.vlan = 7; /* another network */
	expect(frame_item(&s), TOE_TO_TAP, TOE_D_NONE);
	s.vlan = -1;
	w = frame_item(&s);
	memset(rte_pktmbuf_mtod(w->mbuf, uint8_t *), 0xff, 6);
	expect(w, TOE_TO_TAP, TOE_D_NONE);
	w = frame_item(&s);
	rte_pktmbuf_mtod(w->mbuf, uint8_t *)[23] = 17;
	expect(w, TOE_TO_TAP, TOE_D_NONE);
	w = frame_item(&s);
	rte_pktmbuf_mtod(w->mbuf, uint8_t *)[13] = 6; /* ARP */
	expect(w, TOE_TO_TAP, TOE_D_NONE);
}

static void test_other_address(void **state)
{
	struct frame_spec s = FRAME_DEFAULT;

	(void)state;
	toe_stage_pre.fini(&env.stage);
	snprintf(env.cfg.address, sizeof(env.cfg.address), "10.0.0.1/24");
	assert_int_equal(toe_stage_pre.init(&env.stage), 0);
	s.sport = 40001;
	expect(frame_item(&s), TOE_TO_CTRL, TOE_D_NONE);
	s.dst = 0x0a000009;
	expect(frame_item(&s), TOE_TO_TAP, TOE_D_NONE);
	toe_stage_pre.fini(&env.stage);
	snprintf(env.cfg.address, sizeof(env.cfg.address), "10.0.0.300/24");
	assert_int_equal(toe_stage_pre.init(&env.stage), -EINVAL);
	env.cfg.address[0] = '\0';
	assert_int_equal(toe_stage_pre.init(&env.stage), 0);
}

static struct toe_work *bent(unsigned offset, uint8_t flip)
{
	struct frame_spec s = FRAME_DEFAULT;
	struct toe_work *w = frame_item(&s);

	rte_pktmbuf_mtod(w->mbuf, uint8_t *)[offset] ^= flip;
	return w;
}

static void test_drops(void **state)
{
	struct frame_spec s = FRAME_DEFAULT;
	struct toe_work *w;

	(void)state;
	expect(bent(5, 1), TOE_NOTHING, TOE_D_OTHER_HOST);
	expect(bent(25, 1), TOE_NOTHING, TOE_D_IP_HEADER);
	expect(bent(14, 0x30), TOE_NOTHING, TOE_D_IP_HEADER);
	expect(bent(51, 1), TOE_NOTHING, TOE_D_TCP_CHECKSUM);
	w = bent(20, 0x20);
	expect(w, TOE_NOTHING, TOE_D_FRAGMENT);
	w = frame_item(&s);
	rte_pktmbuf_trim(w->mbuf, 1);
	expect(w, TOE_NOTHING, TOE_D_SHORT);
	w = bent(46, 0xf0); /* offset 10 words, options beyond the end */
	w->mbuf->ol_flags = RTE_MBUF_F_RX_L4_CKSUM_GOOD;
	expect(w, TOE_NOTHING, TOE_D_TCP_HEADER);
	s.src = 0x7f000001;
	s.dport = 81;
	expect(frame_item(&s), TOE_NOTHING, TOE_D_IP_HEADER);
	s = (struct frame_spec)FRAME_DEFAULT;
	s.flags = TOE_TCP_SYN | TOE_TCP_FIN;
	expect(frame_item(&s), TOE_NOTHING, TOE_D_TCP_FLAGS);
	s.flags = 0;
	s.dport = 81;
	expect(frame_item(&s), TOE_NOTHING, TOE_D_TCP_FLAGS);
	s = (struct frame_spec)FRAME_DEFAULT;
	/* an id of another flow-group */
	assert_int_equal(toe_flow_table_del(env.engine.flows, flow_at[CONN]), 0);
	add_flow(CONN + 1, AF_INET, (const uint8_t *)"\x0a\0\0\1", (const uint8_t *)"\x0a\0\0\2");
	w = frame_item(&s);
	expect(w, TOE_NOTHING, TOE_D_STALE);
}

static void test_port_verified(void **state)
{
	struct frame_spec s = FRAME_DEFAULT;
	struct toe_work *w = bent(51, 1);

	(void)state;
	w->mbuf->ol_flags = RTE_MBUF_F_RX_L4_CKSUM_GOOD;
	expect(w, TOE_FORWARD, TOE_D_NONE);
	w = frame_item(&s);
	w->mbuf->ol_flags = RTE_MBUF_F_RX_L4_CKSUM_BAD;
	expect(w, TOE_NOTHING, TOE_D_TCP_CHECKSUM);
	w = frame_item(&s);
	w->mbuf->ol_flags = RTE_MBUF_F_RX_IP_CKSUM_BAD;
	expect(w, TOE_NOTHING, TOE_D_IP_HEADER);
}

static void test_scattered(void **state)
{
	struct frame_spec s = FRAME_DEFAULT;
	struct toe_work *w;
	struct rte_mbuf *tail = rte_pktmbuf_alloc(env.engine.mbuf_pool);
	uint8_t *end;

	(void)state;
	assert_non_null(tail);
	s.payload_len = 100;
	w = frame_item(&s);
	end = (uint8_t *)rte_pktmbuf_append(tail, 100);
	memcpy(end, rte_pktmbuf_mtod_offset(w->mbuf, uint8_t *, 54), 100);
	rte_pktmbuf_trim(w->mbuf, 100);
	assert_int_equal(rte_pktmbuf_chain(w->mbuf, tail), 0);
	feed(w);
	assert_int_equal(w->verdict, TOE_FORWARD);
	assert_int_equal(rte_pktmbuf_data_len(w->mbuf), 154);
	toe_work_free(&env.stage, w);
}

/* A burst of everything: nothing is lost, the order is kept, other types are not touched. */
static void test_burst(void **state)
{
	struct toe_work *items[TOE_BURST];
	unsigned i;

	(void)state;
	for (i = 0; i < TOE_BURST; i++) {
		struct frame_spec s = FRAME_DEFAULT;

		if (i % 4 == 0) {
			items[i] = toe_work_alloc(&env.stage, TOE_WORK_TX);
			items[i]->conn = 3;
			continue;
		}
		if (i % 4 == 2)
			s.dport = 22;
		items[i] = frame_item(&s);
		items[i]->fg = 1;
		if (i % 4 == 3)
			items[i]->verdict = TOE_TO_TAP; /* netif knew already */
	}
	env_clear();
	toe_stage_pre.process(&env.stage, items, TOE_BURST);
	assert_int_equal(env.emitted_n, TOE_BURST);
	for (i = 0; i < TOE_BURST; i++) {
		assert_ptr_equal(env.emitted[i], items[i]);
		assert_int_equal(items[i]->verdict, i % 4 < 2 ? TOE_FORWARD : TOE_TO_TAP);
		if (i % 4 == 0)
			assert_int_equal(items[i]->conn, 3);
		if (i % 4 == 1)
			assert_int_equal(items[i]->conn, CONN);
		toe_work_free(&env.stage, items[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_forward, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ipv6, setup, teardown),
		cmocka_unit_test_setup_teardown(test_to_ctrl, setup, teardown),
		cmocka_unit_test_setup_teardown(test_to_tap, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_address, setup, teardown),
		cmocka_unit_test_setup_teardown(test_drops, setup, teardown),
		cmocka_unit_test_setup_teardown(test_port_verified, setup, teardown),
		cmocka_unit_test_setup_teardown(test_scattered, setup, teardown),
		cmocka_unit_test_setup_teardown(test_burst, setup, teardown),
	};

	return cmocka_run_group_tests(tests, env_eal, NULL);
}
