// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/sim/sim.h datapath/hostmem_dmadev.c */
/*
 * The whole pipeline in virtual time: life of connections, streams both ways, replicas with
 * injected reordering, loss, windows, pacing, reuse of ids; nothing is left in the pools
 * afterwards.
 */
#include "../sim/sim_conn.h"

static void test_install_remove(void **state)
{
	(void)state;
	sim_start(&sim_plain);
	sim_open_all(3);
	assert_int_equal(sim_events[TOE_EV_INSTALLED], 3);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(sim_slot(&sim_conn[i])->state, TOE_SLOT_ESTABLISHED);
		assert_int_equal(sim_slot(&sim_conn[i])->gen, 7);
	}
	sim_close_all();
	assert_int_equal(sim_events[TOE_EV_REMOVED], 3);
	sim_stop();
}

static void test_receive(void **state)
{
	(void)state;
	sim_start(&sim_plain);
	sim_open_all(1);
	sim_stream_all(200000, 0);
	assert_true(sim_run(sim_is_done, 2000));
	assert_int_equal(sim_conn[0].ack_checked, 200000);
	assert_int_equal(sim_counter(TOE_C_SEGS_OOO), 0);
	sim_close_all();
	sim_stop();
}

static void test_send(void **state)
{
	(void)state;
	sim_start(&sim_plain);
	sim_open_all(1);
	sim_stream_all(0, 200000);
	assert_true(sim_run(sim_is_done, 2000));
	assert_int_equal(sim_conn[0].rtos, 0);
	assert_int_equal(sim_counter(TOE_C_SEGS_RTX), 0);
	assert_int_equal(sim_drops(TOE_D_HC_INVALID), 0);
	sim_check_no_drops();
	sim_close_all();
	sim_stop();
}

/* Two of each replica, items delayed inside, three lcores in random order: TCP must not notice. */
static void test_replicated(void **state)
{
	(void)state;
	for (uint32_t seed = 1; seed <= 4; seed++) {
		struct sim_setup u = sim_replicated;

		u.seed = seed;
		sim_start(&u);
		sim_open_all(20);
		sim_stream_all(60000, 60000);
		assert_true(sim_run(sim_is_done, 5000));
		assert_int_equal(sim_counter(TOE_C_SEGS_OOO), 0);
		assert_int_equal(sim_counter(TOE_C_SEGS_RTX), 0);
		assert_int_equal(sim_counter(TOE_C_CHALLENGE_ACK), 0);
		sim_check_no_drops();
		sim_close_all();
		sim_stop();
	}
}

/* An lcore that was preempted in the middle of its turn sees a clock that is milliseconds old. */
static void test_late_lcores(void **state)
{
	(void)state;
	for (uint32_t seed = 1; seed <= 4; seed++) {
		struct sim_setup u = sim_replicated;

		u.seed = 200 + seed;
		u.lag_steps = 500;
		sim_start(&u);
		sim_open_all(6);
		sim_stream_all(60000, 60000);
		assert_true(sim_run(sim_is_done, 20000));
		assert_int_equal(sim_drops(TOE_D_PAWS), 0);
		assert_true(sim_conn[0].ts_sent > 0);
		sim_close_all();
		sim_stop();
	}
}

static void test_lossy_wire(void **state)
{
	(void)state;
	for (uint32_t seed = 1; seed <= 4; seed++) {
		struct sim_setup u = sim_replicated;

		u.seed = 100 + seed;
		sim_start(&u);
		sim_open_all(6);
		sim.loss_percent = 3;
		sim.shuffle_percent = 10;
		sim_stream_all(50000, 50000);
		assert_true(sim_run(sim_is_done, 60000));
		assert_true(sim_counter(TOE_C_SEGS_OOO) > 0);
		assert_true(sim_counter(TOE_C_SEGS_RTX) > 0);
		sim_close_all();
		sim_stop();
	}
}

static void test_whose_frames(void **state)
{
	struct frame_spec syn = {.src = SIM_PEER_ADDR,
				 .sport = 9999,
				 .dport = 80,
				 .seq = 5,
				 .flags = TOE_TCP_SYN,
				 .vlan = -1};
	uint8_t buf[SIM_FRAME] = {0};

	(void)state;
	sim_start(&sim_replicated);
	sim_open_all(1);
	sim_wire_put(&sim.in, buf, frame_make(buf, &syn));
	syn.dport = 22;
	sim_wire_put(&sim.in, buf, frame_make(buf, &syn));
	buf[12] = 8; /* ARP */
	buf[13] = 6;
	sim_wire_put(&sim.in, buf, 60);
	sim_run(sim_is_closed, 2);
	assert_int_equal(sim_events[TOE_EV_FRAME], 1);
	assert_int_equal(sim.tap_frames, 2);
	/* the control plane's own frames go out as they are */
	syn.dport = 9999;
	sim.sent = NULL;
	sim_cmd(TOE_CMD_FRAME_TX, TOE_NONE, 0, buf, (uint16_t)frame_make(buf, &syn));
	sim_settle();
	assert_int_equal(sim.out.tail - sim.out.head, 1);
	assert_memory_equal(sim.out.frame[sim.out.head % SIM_WIRE].data, buf, 54);
	sim.sent = sim_check_placed;
	sim_close_all();
	sim_stop();
}

/* Segments that came with the handshake's last ACK are handed back and belong to the stream. */
static void test_frame_rx(void **state)
{
	struct sim_frame *f;

	(void)state;
	sim_start(&sim_plain);
	sim_open_all(1);
	sim_conn[0].p_goal = 500;
	sim_peer_push(&sim_conn[0]);
	f = sim_wire_take(&sim.in);
	assert_non_null(f);
	sim_cmd(TOE_CMD_FRAME_RX, TOE_NONE, 0, f->data, f->len);
	assert_true(sim_run(sim_is_done, 10));
	sim_close_all();
	sim_stop();
}

static void test_window_closes_and_opens(void **state)
{
	struct sim_conn *c = &sim_conn[0];

	(void)state;
	sim_start(&sim_replicated);
	sim_open_all(1);
	c->a_stalled = true;
	sim_stream_all(100000, 0);
	assert_false(sim_run(sim_is_done, 200));
	assert_in_range(c->p_acked, SIM_BUF - SIM_MSS, SIM_BUF);
	c->a_stalled = false;
	sim_app_turn(c);
	assert_true(sim_run(sim_is_done, 2000));
	sim_close_all();
	sim_stop();
}

static void test_pacing(void **state)
{
	struct toe_cmd_cc cc = {.rate_bps = 8000000, .cwnd = 1u << 20, .ssthresh = 1u << 20};
	struct sim_conn *c = &sim_conn[0];

	(void)state;
	sim_start(&sim_plain);
	sim_open_all(1);
	sim_cmd(TOE_CMD_CC, c->id, c->gen, &cc, sizeof(cc));
	sim_settle();
	sim_stream_all(0, 10000000);
	sim_run(sim_is_done, 200);
	assert_in_range(c->p_rcvd, 190000, 215000); /* 1 MB/s for 0.2 s */
	c->a_goal = c->a_written;
	cc.rate_bps = TOE_RATE_UNPACED;
	sim_cmd(TOE_CMD_CC, c->id, c->gen, &cc, sizeof(cc));
	assert_true(sim_run(sim_is_done, 2000));
	sim_close_all();
	sim_stop();
}

static uint64_t bytes_counted(uint32_t id)
{
	uint64_t n = 0;

	for (unsigned r = 0; r < TOE_FLOW_STAT_REPLICAS; r++) {
		const struct toe_flow_stat *st = &sim.engine.stat[id * TOE_FLOW_STAT_REPLICAS + r];

		n += st->tx_bytes + st->rx_bytes;
	}
	return n;
}

/* RST and REMOVE in full flight, and the ids used again at once; what is counted of a connection is
 * its own. */
static void test_abort_and_reuse(void **state)
{
	const struct toe_cmd_close rst = {.mode = TOE_CLOSE_RST};

	(void)state;
	sim_start(&sim_replicated);
	sim_open_all(8);
	for (uint32_t round = 0; round < 5; round++) {
		sim_stream_all(1000000, 1000000);
		sim_run(sim_is_done, 3);
		for (unsigned i = 0; i < 8; i++) {
			sim_cmd(TOE_CMD_CLOSE, sim_conn[i].id, sim_conn[i].gen, &rst, sizeof(rst));
			sim_cmd(TOE_CMD_REMOVE, sim_conn[i].id, sim_conn[i].gen, NULL, 0);
		}
		assert_true(sim_run(sim_is_removed, 100));
		for (unsigned i = 0; i < 8; i++)
			assert_true(sim_conn[i].p_reset);
		sim.in.head = sim.in.tail; /* the old peers are gone */
		sim_settle();
		sim.out.head = sim.out.tail;
		for (unsigned i = 0; i < 8; i++)
			sim_conn_open(&sim_conn[i], i, 8 + round);
		assert_true(sim_run(sim_is_installed, 100));
	}
	sim_stream_all(20000, 20000);
	assert_true(sim_run(sim_is_done, 5000));
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(bytes_counted(sim_conn[i].id), 40000);
	sim_close_all();
	sim_stop();
}

/* One application process writes nonsense into its own lines and rings: the connections of honest
 * threads go on, and everything can be removed. */
static void test_hostile_application(void **state)
{
	struct sim_conn *c = &sim_conn[0];
	unsigned steps = 0;

	(void)state;
	sim_start(&sim_replicated);
	sim_open_all(5);
	c->hostile = true;
	sim_stream_all(60000, 60000);
	c->p_goal = c->a_goal = 0;
	while (steps++ < 2000) {
		struct toe_slot *slot = sim_slot(c);

		slot->tx_tail = sim_rnd(4) == 0 ? slot->tx_head + sim_rnd(3000) : sim.rng;
		slot->rx_head = sim_rnd(4) == 0 ? slot->rx_tail : sim.rng;
		slot->ctl = sim_rnd(64) & ~(TOE_CTL_SHUT_WR | TOE_CTL_SHUT_RD);
		memset(&slot->gen, (int)sim_rnd(256), 16);
		sim_doorbell(c);
		sim_doorbell(&sim_conn[1 + sim_rnd(4)]); /* without reason */
		sim_step();
	}
	for (unsigned i = 1; i < 5; i++)
		assert_true(sim_is_done(&sim_conn[i]));
	assert_true(sim_drops(TOE_D_HC_INVALID) > 0);
	sim_cmd(TOE_CMD_REMOVE, c->id, c->gen, NULL, 0);
	for (steps = 0; steps < 100 && !c->removed; steps++)
		sim_step();
	assert_true(c->removed);
	sim_conn[0] = sim_conn[--sim_conn_n];
	sim_close_all();
	sim_stop();
}

/* Killed in full flight: its connections can be removed, nothing is left behind. */
static void test_application_gone(void **state)
{
	const struct toe_cmd_close rst = {.mode = TOE_CLOSE_RST};

	(void)state;
	sim_start(&sim_replicated);
	sim_open_all(8);
	sim_stream_all(1000000, 1000000);
	sim_run(sim_is_done, 3);
	sim.app_gone = true;
	assert_int_equal(toe_app_detach(&sim.engine, SIM_APP), 0);
	sim.sent = NULL; /* its buffers get no bytes any more */
	for (unsigned i = 0; i < 8; i++)
		sim_conn[i].hostile = true;
	sim_run(sim_is_done, 2);
	for (unsigned i = 0; i < 8; i++) {
		sim_cmd(TOE_CMD_CLOSE, sim_conn[i].id, sim_conn[i].gen, &rst, sizeof(rst));
		sim_cmd(TOE_CMD_REMOVE, sim_conn[i].id, sim_conn[i].gen, NULL, 0);
	}
	assert_true(sim_run(sim_is_removed, 100));
	sim.in.head = sim.in.tail;
	sim_settle();
	sim_check_pools();
	sim_stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_install_remove),
		cmocka_unit_test(test_receive),
		cmocka_unit_test(test_send),
		cmocka_unit_test(test_replicated),
		cmocka_unit_test(test_late_lcores),
		cmocka_unit_test(test_lossy_wire),
		cmocka_unit_test(test_whose_frames),
		cmocka_unit_test(test_frame_rx),
		cmocka_unit_test(test_window_closes_and_opens),
		cmocka_unit_test(test_pacing),
		cmocka_unit_test(test_abort_and_reuse),
		cmocka_unit_test(test_hostile_application),
		cmocka_unit_test(test_application_gone),
	};

	return cmocka_run_group_tests(tests, sim_eal, NULL);
}
