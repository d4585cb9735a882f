/* SPDX-License-Identifier: BSD-3-Clause */
/* LINK: tests/sim/sim.h */
/*
 * Memory of the stream stage runs short: at any moment, for good, by what peers make it keep, or in
 * pieces too small.  Who cannot go on is reset and counted, nothing is left behind, and what
 * applications write goes on.  And plenty of it at once.
 */
#define SIM_BUF 131072u

#include "stream_rig.h"

#define PEERS 60u

static bool has_error(const struct sim_conn *c)
{
	return (sim_slot(c)->state & TOE_SLOT_ERROR) != 0;
}

static bool done_or_reset(const struct sim_conn *c)
{
	return has_error(c) || sim_is_done(c);
}

/* Connections that were reset are removed; returns how many. */
static unsigned remove_reset(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < sim_conn_n;) {
		struct sim_conn *c = &sim_conn[i];

		if (!has_error(c)) {
			i++;
			continue;
		}
		sim_cmd(TOE_CMD_REMOVE, c->id, c->gen, NULL, 0);
		run_for(5);
		assert_true(c->removed);
		*c = sim_conn[--sim_conn_n];
		n++;
	}
	return n;
}

/* It fails at one allocation or another, on all paths, and is there again. */
static void test_comes_and_goes(void **state)
{
	unsigned resets = 0;

	(void)state;
	for (uint32_t seed = 1; seed <= 16; seed++) {
		struct sim_setup u = seed % 3 ? sim_replicated : sim_plain;
		unsigned n;

		u.seed = 900 + seed;
		u.dma_backend = seed % 2 ? "dmadev" : NULL;
		u.stream_memory_mb = 4;
		begin(&u, 6, 40);
		pass.scarce = true;
		sim.loss_percent = seed % 4;
		sim.shuffle_percent = 10 * (seed % 3);
		sim_stream_all(150000, 150000);
		for (unsigned i = 0; i < 40; i++) {
			for (unsigned k = sim_rnd(30); k > 0; k--)
				sim_step();
			hoard((size_t)TOE_BUF_BLOCK_MIN << sim_rnd(7));
			for (unsigned k = sim_rnd(4); k > 0; k--)
				sim_step();
			release();
		}
		sim.loss_percent = sim.shuffle_percent = 0;
		assert_true(sim_run(done_or_reset, 30000));
		n = (unsigned)sim_counter(TOE_C_STREAM_ABORTS);
		assert_int_equal(remove_reset(), n);
		resets += n;
		if (sim_conn_n != 0)
			sim_close_all();
		end();
	}
	assert_in_range(resets, 10, 16 * 6 - 10); /* else nothing has been tested */
}

/* Peers keep all they can behind holes, whole windows and then single bytes. */
static void use_up(unsigned windows)
{
	for (unsigned i = 1; i < PEERS; i++) {
		sim_conn[i].hostile = true;
		for (uint32_t pos = 1; i <= windows && pos < SIM_BUF; pos += SIM_MSS)
			sim_peer_send(&sim_conn[i], pos, SIM_MSS, TOE_TCP_ACK);
		if (i > windows)
			sim_peer_send(&sim_conn[i], 1, 1, TOE_TCP_ACK);
		run_for(1);
	}
}

static void test_kept_by_peers(void **state)
{
	struct sim_setup u = sim_plain;
	struct toe_buf *half;

	(void)state;
	u.stream_memory_mb = 4;
	begin(&u, PEERS, 0);
	half = toe_buf_new(pass_stream->core->arena, TOE_BUF_MAX / 2 - 16);
	assert_non_null(half);
	use_up(40);
	assert_true(sim_counter(TOE_C_STREAM_ABORTS) > 0); /* it is used up */
	sim_conn[0].a_goal = 100000;
	sim_app_turn(&sim_conn[0]);
	run_for(500);
	assert_int_equal(sim_conn[0].p_rcvd, 100000);
	for (unsigned i = 1; i < PEERS; i++)
		sim_cmd(TOE_CMD_REMOVE, sim_conn[i].id, sim_conn[i].gen, NULL, 0);
	run_for(20);
	toe_buf_put(pass_stream->core->arena, half);
	sim_conn_n = 1;
	sim_stream_all(100000, 200000);
	assert_true(sim_run(sim_is_done, 1000));
	sim_close_all();
	end();
}

/* Nothing is free but a few of the smallest blocks. */
static void test_in_pieces(void **state)
{
	struct toe_buf *small[16];
	struct sim_setup u = sim_plain;
	struct toe_arena *a;

	(void)state;
	u.stream_memory_mb = 4;
	begin(&u, 2, 0);
	a = pass_stream->core->arena;
	for (unsigned i = 0; i < 16; i++)
		small[i] = toe_buf_new(a, 1);
	hoard(TOE_BUF_BLOCK_MIN);
	for (unsigned i = 0; i < 16; i += 2)
		toe_buf_put(a, small[i]);
	sim_stream_all(0, 2000);
	assert_true(sim_run(sim_is_done, 1000));
	for (unsigned i = 1; i < 16; i += 2)
		toe_buf_put(a, small[i]);
	release();
	assert_int_equal(sim_counter(TOE_C_STREAM_ABORTS), 0);
	sim_close_all();
	end();
}

/* Nothing runs short, but all applications write all they can at once: not all in one turn. */
static void test_turn(void **state)
{
	(void)state;
	begin(&sim_plain, PEERS, 0);
	sim_stream_all(0, SIM_BUF);
	assert_true(sim_run(sim_is_done, 1000));
	assert_in_range(pass.turn_most, STREAM_TURN / 2, 8 * STREAM_TURN);
	sim_close_all();
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_comes_and_goes),
		cmocka_unit_test(test_kept_by_peers),
		cmocka_unit_test(test_in_pieces),
		cmocka_unit_test(test_turn),
	};

	return cmocka_run_group_tests(tests, sim_eal, NULL);
}
