/* SPDX-License-Identifier: BSD-3-Clause */
/* LINK: tests/sim/sim.h */
/*
 * Everything at once, at random, for seed after seed: peers that reset, close and send what they
 * like, an application that lies, closes and shuts down, a control plane that closes and removes in
 * any order and uses ids again at once, a module that holds, keeps resets and aborts, memory and
 * work items that run out.  Connections that are left alone carry their bytes right; in the end
 * nothing is left.  CHAOS_SEEDS: more of them; CHAOS_SEED: one.
 */
#include "stream_rig.h"

#define CONNS 12u

static bool removing[CONNS];

static void close_cmd(const struct sim_conn *c, uint32_t mode, uint32_t tail)
{
	const struct toe_cmd_close close = {.mode = mode, .tx_tail = tail};

	sim_cmd(TOE_CMD_CLOSE, c->id, c->gen, &close, sizeof(close));
}

static void remove_cmd(unsigned i)
{
	removing[i] = true;
	sim_conn[i].hostile = true;
	sim_cmd(TOE_CMD_REMOVE, sim_conn[i].id, sim_conn[i].gen, NULL, 0);
}

/* As the control plane: CLOSE behind REMOVE, too. */
static void close_any(unsigned i)
{
	static const uint32_t modes[] = {TOE_CLOSE_FIN, TOE_CLOSE_FIN | TOE_CLOSE_TAIL,
					 TOE_CLOSE_RST | TOE_CLOSE_TAIL, TOE_CLOSE_RST};
	struct sim_conn *c = &sim_conn[i];
	uint32_t mode = modes[sim_rnd(removing[i] ? 2 : 4)];

	c->hostile = true;
	close_cmd(c, mode, sim_rnd(4) ? (uint32_t)c->a_written : sim_rnd(UINT32_MAX));
	if (mode == TOE_CLOSE_RST && sim_rnd(2))
		remove_cmd(i);
}

static void peer_odd(struct sim_conn *c)
{
	uint32_t at = sim.engine.prog[c->id].rcv_nxt - c->irs - 1;
	uint16_t len = (uint16_t)(sim_rnd(3) ? sim_rnd(SIM_MSS + 1) : sim_rnd(2));
	static const uint8_t flags[] = {TOE_TCP_ACK, TOE_TCP_ACK, TOE_TCP_ACK | TOE_TCP_FIN,
					TOE_TCP_RST, TOE_TCP_SYN | TOE_TCP_ACK};
	uint8_t f = flags[sim_rnd(5)];

	c->hostile = true;
	if (f == TOE_TCP_RST && sim_rnd(4))
		len = 0;
	else
		at += sim_rnd(3) ? sim_rnd(SIM_BUF + 2000) - 1000 : 0;
	sim_peer_send(c, at, len, f);
}

static void application_odd(struct sim_conn *c)
{
	struct toe_slot *slot = sim_slot(c);

	c->hostile = true;
	if (sim_rnd(2))
		slot->tx_tail = sim_rnd(2) ? slot->tx_head + sim_rnd(SIM_BUF) : sim.rng;
	if (sim_rnd(2))
		slot->rx_head = sim_rnd(2) ? slot->rx_tail : sim.rng;
	slot->ctl = sim_rnd(8) ? slot->ctl : sim_rnd(64);
	slot->tx_short += sim_rnd(2);
	sim_doorbell(c);
}

static void goes_on(struct sim_conn *c)
{
	if (c->hostile)
		return;
	c->a_goal += c->a_shut ? 0 : sim_rnd(20000);
	c->p_goal += c->p_fin ? 0 : sim_rnd(20000);
	c->a_stalled = sim_rnd(8) == 0;
	c->a_shut |= sim_rnd(30) == 0;
	sim_app_turn(c);
}

static void module_odd(struct sim_conn *c)
{
	struct toe_stream_conn *sc = toe_stream_conn(pass_stream, c->id, c->gen);

	pass.hold = sim_rnd(8) == 0;
	pass.stop_rx = sim_rnd(8) == 0;
	pass.stop_tx = sim_rnd(8) == 0;
	pass.keep_reset = sim_rnd(2);
	if (sc == NULL || sim_rnd(8))
		return;
	c->hostile = true;
	toe_stream_abort(pass_stream, sc);
}

static void one_thing(void)
{
	unsigned i = sim_rnd(CONNS);
	struct sim_conn *c = &sim_conn[i];

	if (c->removed) {
		removing[i] = false;
		sim_conn_open(c, i, c->gen + 1);
		if (sim_rnd(4) == 0)
			close_any(i);
		return;
	}
	switch (sim_rnd(24)) {
	case 0:
		close_any(i);
		break;
	case 1:
		remove_cmd(i);
		break;
	case 2:
		peer_odd(c);
		break;
	case 3:
		application_odd(c);
		break;
	case 4:
		module_odd(c);
		break;
	case 5:
		if (!c->hostile && c->installed)
			sim_peer_close(c);
		break;
	case 6:
		hoard((size_t)TOE_BUF_BLOCK_MIN << sim_rnd(12));
		sim_step();
		release();
		break;
	case 7:
		if (c->hostile)
			sim_rnd(2) ? peer_odd(c) : application_odd(c);
		break;
	case 8:
		take_items();
		for (unsigned k = sim_rnd(6); k > 0; k--)
			sim_step();
		give_items(SIM_ITEMS);
		break;
	default:
		goes_on(c);
		break;
	}
}

/* Everybody who can still end something does: closes, and then removes. */
static void end_all(void)
{
	pass.hold = pass.stop_rx = pass.stop_tx = pass.keep_reset = false;
	for (unsigned i = 0; i < CONNS; i++) {
		if (sim_conn[i].removed)
			continue;
		sim_conn[i].hostile = true;
		close_cmd(&sim_conn[i], TOE_CLOSE_FIN, 0);
		remove_cmd(i);
		close_cmd(&sim_conn[i], TOE_CLOSE_FIN, 0);
		run_for(1);
	}
	assert_true(sim_run(sim_is_removed, 500));
	memset(removing, 0, sizeof(removing));
	sim.in.head = sim.in.tail;
	run_for(2);
	sim.out.head = sim.out.tail;
}

static void chaos(uint32_t seed)
{
	struct sim_setup u = seed % 3 ? sim_replicated : sim_plain;

	u.seed = seed;
	u.dma_backend = seed % 2 ? "dmadev" : NULL;
	u.stream_memory_mb = 4;
	begin(&u, CONNS, seed % 5 * 20);
	pass.scarce = true;
	sim.loss_percent = seed % 4;
	sim.shuffle_percent = 10 * (seed % 3);
	for (unsigned n = 0; n < 1500; n++) {
		one_thing();
		for (unsigned k = sim_rnd(6); k > 0; k--)
			sim_step();
	}
	end_all();
	end();
}

static void test_chaos(void **state)
{
	const char *one = getenv("CHAOS_SEED"), *n = getenv("CHAOS_SEEDS");
	uint32_t seeds = n != NULL ? (uint32_t)atoi(n) : 20;

	(void)state;
	if (one != NULL) {
		chaos((uint32_t)atoi(one));
		return;
	}
	for (uint32_t seed = 1; seed <= seeds; seed++) {
		if (n != NULL)
			print_message("seed %u\n", seed);
		chaos(seed);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_chaos),
	};

	return cmocka_run_group_tests(tests, sim_eal, NULL);
}
