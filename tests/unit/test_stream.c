/* SPDX-License-Identifier: BSD-3-Clause */
/* LINK: datapath/pipeline.c datapath/lcore.c datapath/idle.c datapath/pipeline_graph.c
 * datapath/sequencer.c datapath/sequencer_set.c datapath/netif_parse.c datapath/flow_table.c
 * datapath/seg_parse.c datapath/seg_build.c datapath/sched_wheel.c datapath/ooo.c
 * datapath/apps.c common/closer.c datapath/sigbus.c datapath/hostmem.c
 * datapath/hostmem_memcpy.c datapath/hostmem_dmadev.c
 * datapath/stages/seq.c datapath/stages/pre.c datapath/stages/reorder.c datapath/stages/proto.c
 * datapath/stages/proto_ctrl.c datapath/stages/proto_hc.c datapath/stages/proto_rx.c
 * datapath/stages/proto_rx_data.c datapath/stages/proto_loss.c datapath/stages/proto_tx.c
 * datapath/stages/post.c
 * datapath/stages/stream.c datapath/stages/stream_wire.c datapath/stages/stream_app.c
 * datapath/stages/stream_api.c datapath/stages/stream_control.c datapath/stream_mem.c
 * datapath/stream_extq.c datapath/stream_registry.c
 * datapath/stages/dma.c datapath/stages/egress.c datapath/stages/ctxq.c
 * datapath/stages/ctxq_doorbell.c datapath/stages/ctxq_hint.c datapath/stages/sched.c
 * datapath/stages/ctrl.c datapath/stages/ctrl_cmd.c datapath/stages/ctrl_event.c common/config.c
 * common/log.c common/flow_hash.c */
/*
 * The stream stage in the whole pipeline and in virtual time, with a module that passes everything
 * on, but takes bytes in random portions and resumes later: both streams arrive whole, whatever the
 * wire does, and nothing is left in pools or arena.
 */
#include "../sim/sim_conn.h"

#include "stream.h"
#include "stream_priv.h"

static const char *const three[] = {"0: netif_rx seq pre.0 reorder proto post.1 exception",
				    "0: pre.1 post.0 dma.1 egress",
				    "0: dma.0 stream ctxq sched ctrl netif_tx"};

static const struct sim_setup plain = {.pre = 1, .proto = 1, .post = 1, .dma = 1, .seed = 1};
static const struct sim_setup replicated = {.pre = 2,
					    .proto = 1,
					    .post = 2,
					    .dma = 2,
					    .reorder_inject = 5,
					    .lcore_n = 3,
					    .lcores = three,
					    .seed = 2};

/* ---- the module ---- */

struct pass {
	bool rx_waits;
	bool tx_waits;
	bool rx_ended;
	bool tx_ended;
};

static struct toe_stream *pass_stream;
static unsigned pass_open_n, pass_partial; /* percent of calls that take less */

static bool pass_wants(const struct toe_config *cfg, uint16_t port)
{
	(void)cfg;
	return port == 80;
}

static int pass_init(struct toe_stream *s, const struct toe_config *cfg)
{
	(void)cfg;
	pass_stream = s;
	pass_open_n = 0;
	return 0;
}

static void pass_open(struct toe_stream *s, struct toe_stream_conn *c)
{
	(void)s;
	(void)c;
	pass_open_n++;
}

static void pass_close(struct toe_stream *s, struct toe_stream_conn *c)
{
	(void)s;
	(void)c;
	pass_open_n--;
}

static size_t portion(size_t len)
{
	return sim_rnd(100) < pass_partial ? sim_rnd((uint32_t)len) : len;
}

static size_t pass_rx(struct toe_stream *s, struct toe_stream_conn *c, const uint8_t *data,
		      size_t len)
{
	struct pass *p = toe_stream_state(c);
	size_t n = portion(len);

	assert_false(p->rx_ended);
	p->rx_waits = n != len;
	assert_int_equal(toe_stream_forward(s, c, data, n, true), 0);
	return n;
}

static bool pass_rx_end(struct toe_stream *s, struct toe_stream_conn *c)
{
	struct pass *p = toe_stream_state(c);

	(void)s;
	assert_false(p->rx_ended || p->rx_waits);
	p->rx_ended = true;
	return true;
}

static size_t pass_tx(struct toe_stream *s, struct toe_stream_conn *c, struct toe_buf *b,
		      uint32_t off, uint32_t len)
{
	struct pass *p = toe_stream_state(c);
	size_t n = portion(len);

	assert_false(p->tx_ended);
	p->tx_waits = n != len;
	assert_int_equal(toe_stream_send(s, c, b, off, (uint32_t)n), 0);
	return n;
}

static void pass_tx_end(struct toe_stream *s, struct toe_stream_conn *c)
{
	struct pass *p = toe_stream_state(c);

	(void)s;
	assert_false(p->tx_ended);
	p->tx_ended = true;
}

static unsigned pass_poll(struct toe_stream *s, unsigned budget)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < sim_conn_n && n < budget; i++) {
		struct toe_stream_conn *c = toe_stream_conn(s, sim_conn[i].id, sim_conn[i].gen);
		struct pass *p = c != NULL ? toe_stream_state(c) : NULL;

		if (p == NULL || sim_rnd(3) != 0)
			continue;
		if (p->rx_waits)
			toe_stream_rx_resume(s, c);
		if (p->tx_waits)
			toe_stream_tx_resume(s, c);
		n += p->rx_waits + p->tx_waits;
		p->rx_waits = p->tx_waits = false;
	}
	return n;
}

static const struct toe_stream_module pass_module = {
	.name = "pass",
	.conn_bytes = sizeof(struct pass),
	.wants = pass_wants,
	.init = pass_init,
	.open = pass_open,
	.close = pass_close,
	.rx = pass_rx,
	.rx_end = pass_rx_end,
	.tx = pass_tx,
	.tx_end = pass_tx_end,
	.poll = pass_poll,
};
TOE_STREAM_MODULE(pass_module);

/* ---- tests ---- */

static void begin(const struct sim_setup *u, unsigned conns, unsigned partial)
{
	sim_start(u);
	sim.accepted = true;
	pass_partial = partial;
	sim_open_all(conns);
	assert_int_equal(pass_open_n, conns);
}

static void end(void)
{
	assert_int_equal(pass_open_n, 0);
	assert_int_equal(toe_stream_mem_used(pass_stream), 0);
	sim_stop();
}

static void stream_all(uint64_t from_peer, uint64_t to_peer)
{
	for (unsigned i = 0; i < sim_conn_n; i++) {
		sim_conn[i].p_goal = from_peer;
		sim_conn[i].a_goal = to_peer;
		sim_app_turn(&sim_conn[i]);
	}
}

static void test_both_ways(void **state)
{
	(void)state;
	for (unsigned partial = 0; partial <= 60; partial += 30) {
		begin(&plain, 3, partial);
		stream_all(200000, 150000);
		assert_true(sim_run(sim_is_done, 4000));
		assert_int_equal(sim_counter(TOE_C_SEGS_RTX), 0);
		sim_check_no_drops();
		sim_close_all();
		end();
	}
}

static void test_replicated(void **state)
{
	(void)state;
	for (uint32_t seed = 1; seed <= 4; seed++) {
		struct sim_setup u = replicated;

		u.seed = seed;
		begin(&u, 12, 20);
		stream_all(60000, 60000);
		assert_true(sim_run(sim_is_done, 5000));
		assert_int_equal(sim_counter(TOE_C_SEGS_RTX), 0);
		sim_close_all();
		end();
	}
}

static void test_lossy_wire(void **state)
{
	(void)state;
	for (uint32_t seed = 1; seed <= 4; seed++) {
		struct sim_setup u = replicated;

		u.seed = 100 + seed;
		begin(&u, 6, 10);
		sim.loss_percent = 3;
		sim.shuffle_percent = 10;
		stream_all(50000, 50000);
		assert_true(sim_run(sim_is_done, 60000));
		assert_true(sim_counter(TOE_C_SEGS_RTX) > 0);
		sim_close_all();
		end();
	}
}

/* The application does not read: the window closes, the right edge does not move back, and all
 * arrives when it reads on. */
static void test_back_pressure(void **state)
{
	(void)state;
	begin(&plain, 1, 0);
	sim_conn[0].a_stalled = true;
	stream_all(100000, 0);
	assert_false(sim_run(sim_is_done, 200));
	assert_true(sim_conn[0].p_next <= SIM_BUF + 1);
	sim_conn[0].a_stalled = false;
	sim_app_turn(&sim_conn[0]);
	assert_true(sim_run(sim_is_done, 4000));
	sim_close_all();
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_both_ways),
		cmocka_unit_test(test_replicated),
		cmocka_unit_test(test_lossy_wire),
		cmocka_unit_test(test_back_pressure),
	};

	return cmocka_run_group_tests(tests, sim_eal, NULL);
}
