/* SPDX-License-Identifier: BSD-3-Clause */
/* LINK: tests/sim/sim.h */
/* What is fetched from an application at once takes the memory it needs, and no more. */
#define SIM_BUF 262144u
#include "stream_rig.h"

static bool fetched(const struct sim_conn *c)
{
	const struct toe_stream_conn *sc = toe_stream_conn(pass_stream, c->id, c->gen);

	return toe_extq_bytes(&sc->txq) != 0;
}

/* The module takes nothing: what has been fetched waits, in pieces of the largest size. */
static void test_fits_block(void **state)
{
	const struct toe_stream_conn *sc;
	uint32_t bytes;

	(void)state;
	begin(&sim_plain, 1, 0);
	pass.stop_tx = true;
	sim_stream_all(0, 200000);
	assert_true(sim_run(fetched, 100));
	run_for(5);
	sc = toe_stream_conn(pass_stream, sim_conn[0].id, sim_conn[0].gen);
	bytes = toe_extq_bytes(&sc->txq);
	assert_in_range(bytes, 32000, 200000);
	assert_in_range(toe_stream_mem_used(pass_stream), bytes, bytes + bytes / 64);
	pass.stop_tx = false;
	assert_true(sim_run(sim_is_done, 1000));
	sim_close_all();
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fits_block),
	};

	return cmocka_run_group_tests(tests, sim_eal, NULL);
}
