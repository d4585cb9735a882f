/* SPDX-License-Identifier: BSD-3-Clause */
/* LINK: tests/sim/sim.h */
/*
 * What an application writes first on each of its connections is offered to the module in the order
 * in which it was written, whatever else these connections are looked after for, and though work
 * items, copies and memory run out and come back at any moment.  ORDER_SEEDS: more of them.
 */
#include "stream_rig.h"

#define CONNS 40u

/* The next one in wrote[] writes its first bytes. */
static void write_first(struct sim_conn *c, uint32_t *wrote, unsigned *n)
{
	if (c->a_goal != 0)
		return;
	c->a_goal = 1 + sim_rnd(sim_rnd(2) ? 4 : 6000);
	sim_app_turn(c);
	wrote[(*n)++] = c->id;
}

/* The connection is to be looked after, whatever it has written.  No bytes of the peer's: without
 * memory for them it would be reset. */
static void other_work(struct sim_conn *c)
{
	struct toe_stream_conn *sc = toe_stream_conn(pass_stream, c->id, c->gen);

	if (sim_rnd(2))
		sim_peer_ack(c);
	else if (sim_rnd(2))
		toe_stream_rx_resume(pass_stream, sc);
	else
		toe_stream_tx_resume(pass_stream, sc);
}

static void run_short(void)
{
	switch (sim_rnd(8)) {
	case 0:
		if (hoard_n == 0)
			hoard((size_t)TOE_BUF_BLOCK_MIN << sim_rnd(3));
		break;
	case 1:
	case 2:
		release();
		break;
	case 3:
		take_items();
		break;
	case 4:
	case 5:
		give_items(sim_rnd(2) ? SIM_ITEMS : sim_rnd(4));
		break;
	case 6:
		slow.full = sim_rnd(2);
		break;
	default:
		slow.stuck = sim_rnd(2);
		break;
	}
}

static bool all_begun(const struct sim_conn *c)
{
	(void)c;
	return pass.begun_n == CONNS;
}

/* Memory was out at the wrong moment: it has been reset. */
static bool done_or_reset(const struct sim_conn *c)
{
	return c->reset || sim_is_done(c);
}

static void end_all(void)
{
	const struct toe_cmd_close close = {.mode = TOE_CLOSE_FIN};

	for (unsigned i = 0; i < CONNS; i++) {
		const struct sim_conn *c = &sim_conn[i];

		sim_conn[i].hostile = true;
		sim_cmd(TOE_CMD_CLOSE, c->id, c->gen, &close, sizeof(close));
		sim_cmd(TOE_CMD_REMOVE, c->id, c->gen, NULL, 0);
		run_for(1);
	}
	assert_true(sim_run(sim_is_removed, 500));
	sim.out.head = sim.out.tail;
	end();
}

static void in_order(uint32_t seed)
{
	struct sim_setup u = seed % 3 ? sim_replicated : sim_plain;
	uint32_t wrote[CONNS];
	unsigned n = 0;

	u.seed = seed;
	u.dma_backend = seed % 2 ? "dmadev" : NULL;
	u.stream_memory_mb = 4;
	begin(&u, CONNS, 0);
	pass.scarce = true;
	for (unsigned i = 0; i < CONNS; i++)
		sim_conn[i].a_stalled = true; /* a read rings, too */
	while (n < CONNS) {
		for (unsigned k = sim_rnd(4); k > 0; k--)
			other_work(&sim_conn[sim_rnd(CONNS)]);
		for (unsigned k = sim_rnd(4); k > 0; k--)
			write_first(&sim_conn[sim_rnd(CONNS)], wrote, &n);
		if (sim_rnd(3) == 0)
			run_short();
		for (unsigned k = sim_rnd(4); k > 0; k--)
			sim_step();
	}
	run_for(3);
	release();
	give_items(SIM_ITEMS);
	slow.full = slow.stuck = false;
	assert_true(sim_run(all_begun, 1000));
	for (unsigned i = 0; i < CONNS; i++)
		assert_int_equal(pass.begun[i], wrote[i]);
	for (unsigned i = 0; i < CONNS; i++) {
		sim_conn[i].a_stalled = false;
		sim_app_turn(&sim_conn[i]);
	}
	assert_true(sim_run(done_or_reset, 20000));
	end_all();
}

static void test_in_order(void **state)
{
	const char *n = getenv("ORDER_SEEDS");
	uint32_t seeds = n != NULL ? (uint32_t)atoi(n) : 30;

	(void)state;
	for (uint32_t seed = 1; seed <= seeds; seed++)
		in_order(seed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_in_order),
	};

	return cmocka_run_group_tests(tests, sim_eal, NULL);
}
