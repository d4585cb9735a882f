/* SPDX-License-Identifier: BSD-3-Clause */
/* LINK: tests/sim/sim.h */
/*
 * How streamed connections end, and who misbehaves: CLOSE and shutdown with bytes on their way, FIN
 * behind what a module holds, resets from all sides, an application that is gone or lies.
 */
#include "stream_rig.h"

static struct sim_conn *const first = &sim_conn[0];

static void close_cmd(const struct sim_conn *c, uint32_t mode, uint32_t tail)
{
	const struct toe_cmd_close close = {.mode = mode, .tx_tail = tail};

	sim_cmd(TOE_CMD_CLOSE, c->id, c->gen, &close, sizeof(close));
}

static void remove_all(void)
{
	for (unsigned i = 0; i < sim_conn_n; i++)
		sim_cmd(TOE_CMD_REMOVE, sim_conn[i].id, sim_conn[i].gen, NULL, 0);
	assert_true(sim_run(sim_is_removed, 100));
	sim.in.head = sim.in.tail; /* the peers are gone, too */
	sim_settle();
	sim.out.head = sim.out.tail;
}

static bool has_fin(const struct sim_conn *c)
{
	return c->p_fin_rcvd;
}

static bool has_error(const struct sim_conn *c)
{
	return (sim_slot(c)->state & TOE_SLOT_ERROR) != 0;
}

static bool has_read_and_sent(const struct sim_conn *c)
{
	return c->a_read == c->p_goal && c->p_fin_rcvd && c->p_rcvd == c->a_goal;
}

/* The application writes and closes at once: the engine knows of the bytes by CLOSE only. */
static void test_close_unfetched(void **state)
{
	(void)state;
	for (uint32_t seed = 1; seed <= 6; seed++) {
		struct sim_setup u = sim_replicated;

		u.seed = 300 + seed;
		u.dma_backend = seed % 2 ? "dmadev" : NULL;
		begin(&u, 4, 60);
		for (unsigned i = 0; i < sim_conn_n; i++) {
			sim_conn[i].a_goal = 4000 * (i + 1);
			sim_app_write(&sim_conn[i]);
			assert_int_equal(sim_conn[i].a_written, sim_conn[i].a_goal);
			if (i % 2) /* the doorbell's cursors come before, after, or between */
				sim_doorbell(&sim_conn[i]);
			close_cmd(&sim_conn[i], TOE_CLOSE_FIN | TOE_CLOSE_TAIL,
				  (uint32_t)sim_conn[i].a_goal);
		}
		assert_true(sim_run(has_fin, 2000)); /* behind the last byte: sim checks */
		sim_close_all();
		end();
	}
}

/* CLOSE names a tail that cannot be: it closes behind what is known. */
static void test_close_wrong_tail(void **state)
{
	static const int32_t by[] = {-1, -5000, SIM_BUF + 1, INT32_MAX, INT32_MIN};

	(void)state;
	for (unsigned i = 0; i < sizeof(by) / sizeof(by[0]); i++) {
		begin(&sim_plain, 1, 0);
		sim_stream_all(0, 9000);
		assert_true(sim_run(sim_is_done, 100));
		close_cmd(first, TOE_CLOSE_FIN | TOE_CLOSE_TAIL, 9000 + (uint32_t)by[i]);
		assert_true(sim_run(has_fin, 100));
		assert_int_equal(sim_drops(TOE_D_HC_INVALID), 1);
		sim_close_all();
		end();
	}
}

static bool has_reset(const struct sim_conn *c)
{
	return c->reset;
}

/* The same with unread data: all that was written, then RST, and only then the event. */
static void test_close_unfetched_rst(void **state)
{
	(void)state;
	for (uint32_t seed = 1; seed <= 6; seed++) {
		struct sim_setup u = sim_replicated;

		u.seed = 400 + seed;
		u.dma_backend = seed % 2 ? "dmadev" : NULL;
		begin(&u, 4, 60);
		for (unsigned i = 0; i < sim_conn_n; i++) {
			sim_conn[i].a_goal = 2000 * (i + 1);
			sim_app_write(&sim_conn[i]);
			if (i % 2)
				sim_doorbell(&sim_conn[i]);
			close_cmd(&sim_conn[i], TOE_CLOSE_RST | TOE_CLOSE_TAIL,
				  (uint32_t)sim_conn[i].a_goal);
		}
		assert_true(sim_run(has_reset, 500));
		assert_true(sim_run(sim_is_reset, 500));
		for (unsigned i = 0; i < sim_conn_n; i++)
			assert_int_equal(sim_conn[i].p_rcvd, sim_conn[i].a_goal);
		remove_all();
		end();
	}
}

/* More is written than the peer takes, which is silent: nothing waits for it. */
static void test_close_rst_peer_slow(void **state)
{
	(void)state;
	begin(&sim_plain, 1, 0);
	sim_stream_all(0, 4000000);
	run_for(3);
	first->a_stalled = true;
	sim.in.head = sim.in.tail;
	first->p_reset = true; /* it acknowledges nothing any more */
	sim_settle();
	close_cmd(first, TOE_CLOSE_RST | TOE_CLOSE_TAIL, (uint32_t)first->a_written);
	sim_settle();
	sim_cp_turn();
	assert_true(first->reset);
	remove_all();
	end();
}

/* Bytes are still to be fetched and sent when the application gives up. */
static void test_close_rst(void **state)
{
	(void)state;
	for (unsigned twice = 0; twice < 2; twice++) {
		begin(&sim_replicated, 6, 30);
		sim_stream_all(1000000, 1000000);
		run_for(3);
		pass.stop_tx = true;
		run_for(1);
		for (unsigned i = 0; i < sim_conn_n; i++) {
			sim_conn[i].a_stalled = true;
			if (twice) /* waits for the last byte, and never gets there */
				close_cmd(&sim_conn[i], TOE_CLOSE_FIN, 0);
			close_cmd(&sim_conn[i], TOE_CLOSE_RST, 0);
		}
		assert_true(sim_run(sim_is_reset, 100));
		pass.stop_tx = false;
		run_for(3); /* modules resume what has ended */
		remove_all();
		end();
	}
}

static void test_half_close(void **state)
{
	(void)state;
	for (unsigned backend = 0; backend < 2; backend++) {
		struct sim_setup u = sim_replicated;

		u.dma_backend = backend ? "dmadev" : NULL;
		begin(&u, 6, 40);
		for (unsigned i = 0; i < sim_conn_n; i++)
			sim_conn[i].a_shut = true;
		sim_stream_all(60000, 20000);
		assert_true(sim_run(has_read_and_sent, 4000));
		sim_close_all();
		end();
	}
}

/* SHUT_RD with bytes behind a hole, and more to come: they are thrown away, none is kept. */
static void test_shut_rd(void **state)
{
	(void)state;
	begin(&sim_plain, 1, 0);
	sim_peer_send(first, 1000, 900, TOE_TCP_ACK);
	run_for(2);
	assert_true(toe_stream_mem_used(pass_stream) >= 4096);
	first->a_stalled = first->a_fin_seen = true;
	sim_slot(first)->ctl |= TOE_CTL_SHUT_RD;
	sim_doorbell(first);
	run_for(2);
	assert_int_equal(toe_stream_mem_used(pass_stream), 0);
	first->p_goal = 100000;
	first->a_goal = 5000;
	sim_app_turn(first);
	run_for(200);
	assert_int_equal(first->p_acked, 100000);
	assert_int_equal(first->p_rcvd, 5000);
	assert_int_equal(sim_slot(first)->rx_tail, 0);
	assert_int_equal(toe_stream_mem_used(pass_stream), 0);
	first->a_shut = true;
	sim_app_turn(first);
	sim_close_all();
	end();
}

/* The peer has closed, the module still holds bytes: the application sees the end behind them. */
static void test_fin_behind_held(void **state)
{
	(void)state;
	for (unsigned hole = 0; hole < 2; hole++) {
		begin(&sim_plain, 1, 0);
		pass.hold = true;
		first->p_goal = 3000;
		if (hole) {
			sim_peer_send(first, 2000, 1000, TOE_TCP_ACK | TOE_TCP_FIN);
			first->p_fin = true;
		}
		run_for(10);
		sim_peer_close(first);
		run_for(10);
		assert_true(first->p_fin_acked);
		assert_int_equal(pass.end_refused, 1);
		assert_int_equal(sim_slot(first)->rx_tail, 0);
		assert_int_equal(sim_slot(first)->state & TOE_SLOT_RX_FIN, 0);
		pass.hold = false;
		run_for(10);
		assert_int_equal(first->a_read, 3000);
		assert_true(first->a_fin_seen);
		first->a_shut = true;
		sim_app_turn(first);
		sim_close_all();
		end();
	}
}

/* The window is closed by what a module holds, and opens again. */
static void test_held_window(void **state)
{
	(void)state;
	begin(&sim_plain, 1, 0);
	pass.hold = true;
	first->p_goal = 60000;
	assert_false(sim_run(sim_is_done, 100));
	assert_in_range(first->p_acked, SIM_BUF - SIM_MSS, SIM_BUF);
	assert_int_equal(first->a_read, 0);
	pass.hold = false;
	assert_true(sim_run(sim_is_done, 1000));
	sim_close_all();
	end();
}

/* A module's wish, in the middle of rx(), with bytes waiting on all sides. */
static void test_abort(void **state)
{
	(void)state;
	for (uint32_t seed = 1; seed <= 6; seed++) {
		struct sim_setup u = sim_replicated;

		u.seed = 400 + seed;
		u.dma_backend = seed % 2 ? "dmadev" : NULL;
		begin(&u, 3, 30);
		sim.loss_percent = 2;
		sim.shuffle_percent = 10;
		pass.abort_in = 10;
		sim_stream_all(200000, 200000);
		run_for(50);
		assert_int_equal(sim_counter(TOE_C_STREAM_ABORTS), 1);
		sim.loss_percent = sim.shuffle_percent = 0;
		/* the one that got it; the others go on to their ends */
		for (unsigned i = 0; i < 3; i++) {
			struct sim_conn c = sim_conn[i];

			if (!has_error(&c))
				continue;
			assert_int_equal(sim_slot(&c)->error, ECONNRESET);
			assert_true(c.reset);
			assert_int_equal(sim_events[TOE_EV_RESET], 1);
			sim_cmd(TOE_CMD_REMOVE, c.id, c.gen, NULL, 0);
			run_for(5);
			assert_true(sim_conn[i].removed);
			sim_conn[i] = sim_conn[--sim_conn_n];
			break;
		}
		assert_int_equal(sim_conn_n, 2);
		assert_true(sim_run(sim_is_done, 20000));
		sim_close_all();
		end();
	}
}

/* The peer hears of an abort; without loss, by exactly one reset. */
static void test_abort_reset(void **state)
{
	(void)state;
	begin(&sim_plain, 1, 0);
	pass.abort_in = 3;
	sim_stream_all(50000, 50000);
	assert_true(sim_run(sim_is_reset, 100));
	assert_true(has_error(first));
	assert_int_equal(toe_stream_mem_used(pass_stream), 0);
	remove_all();
	end();
}

/* The application shuts down, and the module answers that with an abort: no second tx_end(). */
static void test_abort_in_tx_end(void **state)
{
	(void)state;
	begin(&sim_plain, 1, 0);
	pass.abort_at_end = true;
	first->a_shut = true;
	sim_stream_all(0, 5000);
	assert_true(sim_run(sim_is_reset, 100));
	assert_int_equal(pass.ended_n, 1);
	assert_int_equal(sim_counter(TOE_C_STREAM_ABORTS), 1);
	remove_all();
	end();
}

/* A reset by the peer while the module keeps bytes and the application has more. */
static void test_peer_reset(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		begin(&sim_replicated, 1, 60);
		sim_stream_all(100000, 100000);
		run_for(1 + i);
		sim_settle();
		/* nothing on the wire any more; it is exactly at RCV.NXT */
		sim.in.head = sim.in.tail;
		sim.out.head = sim.out.tail;
		sim_peer_send(first, sim.engine.prog[first->id].rcv_nxt - first->irs - 1, 0,
			      TOE_TCP_RST);
		first->hostile = true;
		pass.keep_reset = i % 2;
		if (pass.keep_reset) {
			assert_false(sim_run(has_error, 10));
			/* the control plane removes it at once */
			sim_cmd(TOE_CMD_REMOVE, first->id, first->gen, NULL, 0);
			assert_false(sim_run(has_error, 10));
			assert_false(sim_is_removed(first));
			pass.keep_reset = false;
			toe_stream_rx_resume(pass_stream,
					     toe_stream_conn(pass_stream, first->id, first->gen));
		}
		assert_true(sim_run(has_error, 10));
		assert_int_equal(sim_slot(first)->error, ECONNRESET);
		sim_settle();
		if (i % 2 == 0)
			sim_cmd(TOE_CMD_REMOVE, first->id, first->gen, NULL, 0);
		assert_true(sim_run(sim_is_removed, 100));
		sim_settle();
		end();
	}
}

/* The module keeps a reset from the application until that has answered; it closes instead.  What
 * it wrote before is offered all the same. */
static void test_close_behind_reset(void **state)
{
	(void)state;
	for (unsigned unread = 0; unread < 2; unread++) {
		begin(&sim_plain, 1, 0);
		pass.keep_reset = true;
		first->a_stalled = unread;
		sim_stream_all(2000, 0);
		run_for(5);
		sim_peer_send(first, 2000, 0, TOE_TCP_RST);
		first->hostile = true;
		assert_true(sim_run(has_reset, 10));
		sim_cmd(TOE_CMD_REMOVE, first->id, first->gen, NULL, 0);
		assert_false(sim_run(sim_is_removed, 10));
		first->a_goal = 3000;
		sim_app_write(first);
		close_cmd(first, TOE_CLOSE_FIN | TOE_CLOSE_TAIL, 3000);
		assert_true(sim_run(sim_is_removed, 100));
		assert_int_equal(sim_slot(first)->tx_head, 3000);
		assert_true(has_error(first));
		sim_settle();
		sim_check_no_drops();
		end();
	}
}

/* The application ends before the pipeline has brought the connection to the module. */
static void test_close_at_install(void **state)
{
	static const struct sim_setup *const setups[] = {&sim_plain, &sim_replicated};

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		begin(setups[i], 4, 0);
		for (unsigned k = 0; k < 4; k++)
			close_cmd(&sim_conn[k], TOE_CLOSE_RST, 0);
		remove_all();
		for (unsigned k = 0; k < 4; k++) {
			sim_conn_open(&sim_conn[k], k, 8);
			close_cmd(&sim_conn[k], TOE_CLOSE_FIN | TOE_CLOSE_TAIL, 0);
		}
		assert_true(sim_run(has_fin, 100));
		sim_close_all();
		end();
	}
}

/* Ids are used again at once. */
static void test_reuse(void **state)
{
	struct sim_setup u = sim_replicated;

	(void)state;
	u.dma_backend = "dmadev";
	begin(&u, 8, 20);
	for (uint32_t round = 0; round < 5; round++) {
		sim_stream_all(1000000, 1000000);
		run_for(3);
		for (unsigned i = 0; i < 8; i++)
			close_cmd(&sim_conn[i], TOE_CLOSE_RST, 0);
		remove_all();
		assert_int_equal(pass.open_n, 0);
		for (unsigned i = 0; i < 8; i++)
			sim_conn_open(&sim_conn[i], i, 8 + round);
		assert_true(sim_run(sim_is_installed, 100));
	}
	sim_stream_all(20000, 20000);
	assert_true(sim_run(sim_is_done, 5000));
	sim_close_all();
	end();
}

/* An id that is used again while the one before waits for memory: those that wait behind it are not
 * forgotten.  Within a millisecond, so without the way of the commands. */
static void test_reuse_while_starved(void **state)
{
	struct toe_work_ctrl w = {.cmd.install = {.rcv_nxt = 1, .snd_nxt = 1}};
	struct toe_stream_conn *c[2];
	struct stream_core *k;

	(void)state;
	begin(&sim_plain, 2, 0);
	sim_settle();
	k = pass_stream->core;
	for (unsigned i = 0; i < 2; i++)
		c[i] = &k->conns[sim_conn[i].id];
	stream_starve(k, c[1]);
	stream_starve(k, c[0]);
	w.w.conn = c[0]->id;
	w.w.gen = c[0]->gen;
	w.cmd.install.app_id = c[0]->app_id;
	w.cmd.install.slot = c[0]->slot;
	w.cmd.install.rx_buf_bytes = c[0]->rx_wnd;
	stream_wire_close(k, c[0]);
	stream_wire_install(k, &w.w);
	assert_true(k->starved == c[0] && c[0]->next_dirty == c[1] && c[1]->next_dirty == NULL);
	sim_stream_all(20000, 20000);
	assert_true(sim_run(sim_is_done, 5000));
	assert_null(k->starved);
	sim_close_all();
	end();
}

/* Killed in full flight. */
static void test_application_gone(void **state)
{
	(void)state;
	begin(&sim_replicated, 8, 30);
	sim_stream_all(1000000, 1000000);
	run_for(3);
	sim.app_gone = true;
	assert_int_equal(toe_app_detach(&sim.engine, SIM_APP), 0);
	run_for(2);
	for (unsigned i = 0; i < 8; i++) {
		sim_conn[i].hostile = true;
		close_cmd(&sim_conn[i], i % 2 ? TOE_CLOSE_FIN : TOE_CLOSE_RST, 0);
	}
	run_for(2);
	assert_true(sim_drops(TOE_D_APP_GONE) > 0);
	remove_all();
	end();
}

/* Cursors that cannot be are dropped as they are, and change nothing. */
static void test_hostile_cursors(void **state)
{
	static const struct {
		uint32_t tail, head;
	} by[] = {{(uint32_t)-1, 0},
		  {SIM_BUF + 1, 0},
		  {0x80000000u, 0},
		  {0, 1},
		  {0, (uint32_t)-1},
		  {0x7fffffff, 0x80000000u},
		  {1, 1}};
	unsigned n = 0;

	(void)state;
	begin(&sim_replicated, 1, 10);
	for (unsigned round = 0; round < 20; round++) {
		struct toe_slot *slot = sim_slot(first);
		unsigned i = round % (sizeof(by) / sizeof(by[0]));
		uint32_t tail, head;

		run_for(1); /* the last cursors have been fetched */
		tail = slot->tx_tail;
		head = slot->rx_head;
		slot->tx_tail = tail + by[i].tail;
		slot->rx_head = head + by[i].head;
		sim_doorbell(first);
		sim_settle();
		n++;
		assert_int_equal(sim_drops(TOE_D_HC_INVALID), n);
		slot->tx_tail = tail;
		slot->rx_head = head;
		sim_stream_all(3000 * (round + 1), 2500 * (round + 1));
		assert_true(sim_run(sim_is_done, 100));
	}
	assert_int_equal(sim_counter(TOE_C_STREAM_ABORTS), 0);
	sim_close_all();
	end();
}

/* Random nonsense in line 1 of one connection: others go on, everything can be removed. */
static void test_hostile_random(void **state)
{
	(void)state;
	begin(&sim_replicated, 5, 10);
	first->hostile = true;
	sim_stream_all(60000, 60000);
	first->p_goal = first->a_goal = 0;
	for (unsigned steps = 0; steps < 2000; steps++) {
		struct toe_slot *slot = sim_slot(first);

		slot->tx_tail = sim_rnd(4) == 0 ? slot->tx_head + sim_rnd(3000) : sim.rng;
		slot->rx_head = sim_rnd(4) == 0 ? slot->rx_tail : sim.rng;
		slot->ctl = sim_rnd(64) & ~(TOE_CTL_SHUT_WR | TOE_CTL_SHUT_RD);
		sim_doorbell(first);
		sim_step();
	}
	for (unsigned i = 1; i < 5; i++)
		assert_true(sim_is_done(&sim_conn[i]));
	assert_true(sim_drops(TOE_D_HC_INVALID) > 0);
	close_cmd(first, TOE_CLOSE_FIN | TOE_CLOSE_TAIL, sim.rng);
	sim_cmd(TOE_CMD_REMOVE, first->id, first->gen, NULL, 0);
	for (unsigned steps = 0; steps < 200 && !first->removed; steps++)
		sim_step();
	assert_true(first->removed);
	sim_conn[0] = sim_conn[--sim_conn_n];
	sim_close_all();
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_close_unfetched),
		cmocka_unit_test(test_close_wrong_tail),
		cmocka_unit_test(test_close_rst),
		cmocka_unit_test(test_half_close),
		cmocka_unit_test(test_close_unfetched_rst),
		cmocka_unit_test(test_close_rst_peer_slow),
		cmocka_unit_test(test_shut_rd),
		cmocka_unit_test(test_fin_behind_held),
		cmocka_unit_test(test_held_window),
		cmocka_unit_test(test_abort),
		cmocka_unit_test(test_abort_reset),
		cmocka_unit_test(test_abort_in_tx_end),
		cmocka_unit_test(test_peer_reset),
		cmocka_unit_test(test_close_behind_reset),
		cmocka_unit_test(test_close_at_install),
		cmocka_unit_test(test_reuse),
		cmocka_unit_test(test_reuse_while_starved),
		cmocka_unit_test(test_application_gone),
		cmocka_unit_test(test_hostile_cursors),
		cmocka_unit_test(test_hostile_random),
	};

	return cmocka_run_group_tests(tests, sim_eal, NULL);
}
