/* SPDX-License-Identifier: BSD-3-Clause */
/* LINK: tests/sim/sim.h */
/*
 * The stream stage in the whole pipeline and in virtual time, with a module that passes everything
 * on, but takes bytes in random portions and resumes later: both streams arrive whole, whatever the
 * wire does, and nothing is left in pools or arena.
 */
#include "stream_rig.h"

static void test_both_ways(void **state)
{
	(void)state;
	for (unsigned partial = 0; partial <= 60; partial += 30) {
		begin(&sim_plain, 3, partial);
		sim_stream_all(200000, 150000);
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
		struct sim_setup u = sim_replicated;

		u.seed = seed;
		begin(&u, 12, 20);
		sim_stream_all(60000, 60000);
		assert_true(sim_run(sim_is_done, 5000));
		assert_int_equal(sim_counter(TOE_C_SEGS_RTX), 0);
		sim_close_all();
		end();
	}
}

static uint64_t peers_sent(void)
{
	uint64_t sent = 0;

	for (unsigned i = 0; i < sim_conn_n; i++)
		sent += sim_conn[i].p_sent;
	return sent;
}

/* What was received behind a hole need not be sent again.  These peers know no SACK and repeat all
 * that is not acknowledged: 1.6 MB of 1.2 MB with these seeds, 2.65 MB when nothing was kept. */
static void test_lossy_wire(void **state)
{
	uint64_t sent = 0;

	(void)state;
	for (uint32_t seed = 1; seed <= 4; seed++) {
		struct sim_setup u = sim_replicated;

		u.seed = 100 + seed;
		begin(&u, 6, 10);
		sim.loss_percent = 3;
		sim.shuffle_percent = 10;
		sim_stream_all(50000, 50000);
		assert_true(sim_run(sim_is_done, 60000));
		assert_true(sim_counter(TOE_C_SEGS_RTX) > 0);
		assert_true(sim_counter(TOE_C_SEGS_OOO) > 0);
		sent += peers_sent();
		sim_close_all();
		end();
	}
	assert_in_range(sent, 1200000, 2000000);
}

/* Proto forgets now and then what it has received out of order, as when another connection needs
 * the memory for that. */
static bool forgets_and_is_done(const struct sim_conn *c)
{
	struct toe_scoreboard *sb = sim.engine.flow_proto[c->id].sb;

	if (sb != NULL && sim_rnd(5) == 0)
		sb->ooo.n = 0;
	return sim_is_done(c);
}

/* So the stream must not take for received what proto wants to receive again. */
static void test_forgotten_holes(void **state)
{
	(void)state;
	for (uint32_t seed = 1; seed <= 4; seed++) {
		struct sim_setup u = sim_replicated;

		u.seed = 200 + seed;
		begin(&u, 1, 10);
		sim.loss_percent = 3;
		sim.shuffle_percent = 10;
		sim_stream_all(200000, 50000);
		assert_true(sim_run(forgets_and_is_done, 60000));
		assert_true(sim_counter(TOE_C_SEGS_OOO) > 0);
		sim_close_all();
		end();
	}
}

/* Copies that end later and queues that are full change the pace only. */
static void test_slow_copies(void **state)
{
	(void)state;
	for (uint32_t seed = 1; seed <= 4; seed++) {
		struct sim_setup u = sim_replicated;

		u.seed = 200 + seed;
		u.dma_backend = "dmadev";
		begin(&u, 8, 10 * seed);
		sim.loss_percent = seed % 2 ? 2 : 0;
		sim_stream_all(50000, 50000);
		assert_true(sim_run(sim_is_done, 60000));
		sim_close_all();
		end();
	}
}

/* More connections with something to copy than there are copies at a time. */
static void test_many_copies(void **state)
{
	struct sim_setup u = sim_plain;

	(void)state;
	u.dma_backend = "dmadev";
	begin(&u, SIM_SLOTS, 0);
	sim_stream_all(60000, 60000);
	assert_true(sim_run(sim_is_done, 20000));
	sim_close_all();
	end();
}

/* Copies found no place: they are tried again, without anything else happening. */
static void test_full_queue(void **state)
{
	struct sim_setup u = sim_plain;

	(void)state;
	u.dma_backend = "dmadev";
	for (unsigned way = 0; way < 2; way++) {
		begin(&u, 1, 0);
		slow.full = true;
		sim_stream_all(way ? 0 : 900, way ? 900 : 0);
		assert_false(sim_run(sim_is_done, 2));
		slow.full = false;
		assert_true(sim_run(sim_is_done, 2));
		sim_close_all();
		end();
	}
}

/* A slot is not given away while there are copies to it. */
static void test_remove_waits(void **state)
{
	struct sim_setup u = sim_plain;

	(void)state;
	u.dma_backend = "dmadev";
	begin(&u, 1, 0);
	slow.stuck = true;
	sim_stream_all(1000, 0);
	run_for(2);
	sim_cmd(TOE_CMD_REMOVE, sim_conn[0].id, sim_conn[0].gen, NULL, 0);
	assert_false(sim_run(sim_is_removed, 5));
	slow.stuck = false;
	assert_true(sim_run(sim_is_removed, 5));
	end();
}

/* Runs the engine until nothing moves, and takes its frames off the wire. */
static void settle_and_drop(void)
{
	sim_settle();
	sim.out.head = sim.out.tail;
}

/* Segments of one byte anywhere in the window, but for the first: memory stays within the window,
 * and all of it is given back. */
static void test_single_bytes(void **state)
{
	const size_t bound = (SIM_BUF / TOE_STASH_BLOCK + 2) * 4096 + 128;
	struct sim_conn *c = &sim_conn[0];

	(void)state;
	begin(&sim_plain, 1, 0);
	for (unsigned i = 0; i < 3000; i++) {
		sim_peer_send(c, 1 + sim_rnd(SIM_BUF - 1), 1, TOE_TCP_ACK);
		if (i % 100 == 0)
			settle_and_drop();
		assert_in_range(toe_stream_mem_used(pass_stream), 0, bound);
	}
	settle_and_drop();
	for (uint32_t pos = SIM_BUF - 1; pos > 0; pos--) {
		sim_peer_send(c, pos, 1, TOE_TCP_ACK);
		if (pos % 100 == 0)
			settle_and_drop();
	}
	settle_and_drop();
	assert_in_range(toe_stream_mem_used(pass_stream), SIM_BUF / 2, bound);
	assert_int_equal(sim_slot(c)->rx_tail, 0);
	c->p_goal = SIM_BUF;
	assert_true(sim_run(sim_is_done, 1000));
	assert_int_equal(toe_stream_mem_used(pass_stream), 0);
	sim_close_all();
	end();
}

/* The same while the module takes nothing: single bytes in order are packed. */
static void test_single_bytes_wait(void **state)
{
	struct sim_conn *c = &sim_conn[0];

	(void)state;
	begin(&sim_plain, 1, 0);
	pass.stop_rx = true;
	for (uint32_t pos = 0; pos < 8000; pos++) {
		/* pairs, the second first */
		sim_peer_send(c, pos ^ 1, 1, TOE_TCP_ACK);
		if (pos % 100 == 99)
			settle_and_drop();
	}
	settle_and_drop();
	assert_in_range(toe_stream_mem_used(pass_stream), 8000, 3 * 8000);
	pass.stop_rx = false;
	c->p_goal = 8000;
	assert_true(sim_run(sim_is_done, 1000));
	assert_int_equal(toe_stream_mem_used(pass_stream), 0);
	sim_close_all();
	end();
}

/* Bytes the peer has been told are here cannot be kept: the connection ends, others do not. */
static void test_no_memory_for_holes(void **state)
{
	struct sim_setup u = sim_plain;

	(void)state;
	u.stream_memory_mb = 4;
	begin(&u, 2, 0);
	sim_peer_send(&sim_conn[1], 100, 200, TOE_TCP_ACK);
	run_for(2);
	hoard(TOE_BUF_BLOCK_MIN);
	sim_peer_send(&sim_conn[0], 500, 100, TOE_TCP_ACK);
	assert_false(sim_run(sim_is_reset, 5));
	assert_true(sim_conn[0].p_reset);
	assert_int_equal(sim_slot(&sim_conn[0])->state & TOE_SLOT_ERROR, TOE_SLOT_ERROR);
	assert_int_equal(sim_slot(&sim_conn[0])->error, ECONNRESET);
	assert_int_equal(sim_counter(TOE_C_STREAM_ABORTS), 1);
	sim_conn[1].p_goal = 300; /* the hole is filled without memory */
	run_for(50);
	assert_int_equal(sim_conn[1].a_read, 300);
	sim_cmd(TOE_CMD_REMOVE, sim_conn[0].id, sim_conn[0].gen, NULL, 0);
	run_for(5);
	assert_true(sim_conn[0].removed);
	sim_conn[0] = sim_conn[--sim_conn_n];
	release();
	sim_stream_all(20000, 20000);
	assert_true(sim_run(sim_is_done, 1000));
	sim_close_all();
	end();
}

/* No memory at all for a while: nothing is lost but time. */
static void test_no_memory_for_a_while(void **state)
{
	struct sim_setup u = sim_plain;

	(void)state;
	u.stream_memory_mb = 4;
	begin(&u, 3, 0);
	hoard(TOE_BUF_BLOCK_MIN);
	sim_stream_all(0, 50000);
	assert_false(sim_run(sim_is_done, 20));
	assert_int_equal(sim_conn[0].p_rcvd, 0);
	release();
	assert_true(sim_run(sim_is_done, 1000));
	assert_int_equal(sim_counter(TOE_C_STREAM_ABORTS), 0);
	sim_close_all();
	end();
}

/* A module fills its memory with what a peer does not take: others go on, and an end of that one
 * gives all of it back. */
static void test_stalled_peer(void **state)
{
	struct sim_setup u = sim_plain;
	struct toe_stream_conn *c;
	struct toe_buf *b;
	unsigned n = 0;

	(void)state;
	u.stream_memory_mb = 4;
	begin(&u, 4, 0);
	sim_conn[3].hostile = true; /* neither peer nor application move */
	c = toe_stream_conn(pass_stream, sim_conn[3].id, sim_conn[3].gen);
	while ((b = toe_stream_buf_new(pass_stream, 30000)) != NULL) {
		memset(b->data, 1, 30000);
		assert_int_equal(toe_stream_send(pass_stream, c, b, 0, 30000), 0);
		toe_stream_buf_put(pass_stream, b);
		n++;
	}
	assert_in_range(n, 100, 120);
	assert_int_equal(toe_stream_queued(c), n * 30000);
	sim_conn_n = 3;
	sim_stream_all(60000, 60000);
	assert_true(sim_run(sim_is_done, 1000));
	assert_int_equal(toe_stream_queued(c), n * 30000);
	sim_conn_n = 4;
	toe_stream_abort(pass_stream, c);
	run_for(5);
	assert_int_equal(toe_stream_mem_used(pass_stream), 0);
	assert_int_equal(toe_stream_queued(c), 0);
	sim_cmd(TOE_CMD_REMOVE, sim_conn[3].id, sim_conn[3].gen, NULL, 0);
	run_for(5);
	sim_conn_n = 3;
	sim_close_all();
	end();
}

/* Bytes that many connections have waiting are not all offered in one turn. */
static void test_turn(void **state)
{
	(void)state;
	begin(&sim_plain, 60, 0);
	pass.stop_rx = true;
	sim_stream_all(SIM_BUF, 0);
	run_for(20);
	assert_true(toe_stream_mem_used(pass_stream) > 59 * SIM_BUF);
	pass.stop_rx = false;
	assert_true(sim_run(sim_is_done, 100));
	assert_in_range(pass.turn_most, 1, 2 * (STREAM_TURN + SIM_BUF));
	sim_close_all();
	end();
}

/* The application does not read: the window closes, the right edge does not move back, and all
 * arrives when it reads on. */
static void test_back_pressure(void **state)
{
	(void)state;
	begin(&sim_plain, 1, 0);
	sim_conn[0].a_stalled = true;
	sim_stream_all(100000, 0);
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
		cmocka_unit_test(test_forgotten_holes),
		cmocka_unit_test(test_slow_copies),
		cmocka_unit_test(test_many_copies),
		cmocka_unit_test(test_full_queue),
		cmocka_unit_test(test_remove_waits),
		cmocka_unit_test(test_single_bytes),
		cmocka_unit_test(test_single_bytes_wait),
		cmocka_unit_test(test_no_memory_for_holes),
		cmocka_unit_test(test_no_memory_for_a_while),
		cmocka_unit_test(test_stalled_peer),
		cmocka_unit_test(test_back_pressure),
		cmocka_unit_test(test_turn),
	};

	return cmocka_run_group_tests(tests, sim_eal, NULL);
}
