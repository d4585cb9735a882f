// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/sim/sim.h tests/unit/cp_rig.h datapath/counters.c datapath/hostmem_dmadev.c */
/*
 * Connections of random sizes, both roles, half-closes in any order, through networks that lose,
 * repeat, reorder and damage: every byte arrives, every connection ends, nothing is left behind.
 * TOE_SOAK=rounds runs more of it, TOE_SOAK_ROUND=n only the one that failed.  Each round is a
 * child process.
 */
#include "../wire/soak.h"

#include <sys/resource.h>
#include <sys/wait.h>

#define SOAK_CPU_S 120u /* of a round: CPU time, which other load does not use up */

static const struct soak_setup setups[] = {
	{.bytes_max = 300000, .seed = 1, .sack = true, .ts = true, .ws = true},
	{.loss_pm = 1, .bytes_max = 200000, .seed = 2, .sack = true, .ts = true, .ws = true},
	{.loss_pm = 10, .bytes_max = 100000, .seed = 3, .sack = true, .ws = true},
	{.loss_pm = 50, .bytes_max = 60000, .seed = 4, .sack = true, .ts = true},
	{.loss_pm = 10, .bytes_max = 100000, .seed = 5},
	{.loss_pm = 50, .bytes_max = 60000, .seed = 6, .ts = true},
	{.reorder_pm = 100, .bytes_max = 200000, .seed = 7, .sack = true, .ts = true, .ws = true},
	{.dup_pm = 20, .corrupt_pm = 10, .bytes_max = 200000, .seed = 8, .sack = true},
	{.loss_pm = 10,
	 .reorder_pm = 100,
	 .dup_pm = 20,
	 .corrupt_pm = 10,
	 .bytes_max = 100000,
	 .seed = 9,
	 .sack = true,
	 .ts = true,
	 .ws = true},
	{.loss_pm = 50,
	 .reorder_pm = 100,
	 .dup_pm = 20,
	 .corrupt_pm = 10,
	 .bytes_max = 40000,
	 .seed = 10,
	 .sack = true},
	{.loss_pm = 50,
	 .reorder_pm = 100,
	 .dup_pm = 20,
	 .corrupt_pm = 10,
	 .bytes_max = 40000,
	 .seed = 11},
	/* more, and now and then all nine tries of an orphan's FIN are lost: then it is given up */
	{.loss_pm = 150, .bytes_max = 5000, .seed = 12, .sack = true, .ts = true},
};

static void child(const struct soak_setup *base, unsigned round)
{
	struct soak_setup u = *base;

	wire.script = "soak";
	wire.line = base->seed;
	u.seed += round * 100;
	wire.six = (base->seed + round) % 2 != 0;
	sim.cfg.time_wait_ms = 1000;
	wire.buf = u.seed % 2 ? 65536 : 16384;
	wire_start();
	wire_do("listen 16");
	sim.rng = u.seed;
	for (unsigned wave = 0; wave < 2; wave++)
		soak_wave(&u, SOAK_PEERS);
	wire_settle();
	w.frame_head = w.frame_tail;
	wire_end();
}

static void run(void **state)
{
	const struct soak_setup *u = *state;
	unsigned rounds = getenv("TOE_SOAK") != NULL ? (unsigned)atoi(getenv("TOE_SOAK")) : 1;
	const char *only = getenv("TOE_SOAK_ROUND");
	unsigned first = only != NULL ? (unsigned)atoi(only) : 0;

	for (unsigned r = first; r < (only != NULL ? first + 1 : rounds); r++) {
		int status = 0;
		pid_t pid;

		fflush(stdout);
		pid = fork();
		if (pid == 0) {
			setrlimit(RLIMIT_CPU, &(struct rlimit){SOAK_CPU_S, SOAK_CPU_S});
			child(u, r);
			fflush(stdout);
			_exit(0);
		}
		if (waitpid(pid, &status, 0) != pid || status != 0)
			fail_msg("setup %u, round %u: status %d", u->seed, r, status);
	}
}

int main(void)
{
	static struct CMUnitTest tests[sizeof(setups) / sizeof(setups[0])];
	static char names[sizeof(setups) / sizeof(setups[0])][80];
	unsigned n = sizeof(setups) / sizeof(setups[0]);

	if (sim_eal(NULL) != 0)
		return 1;
	toe_config_defaults(&sim.cfg);
	sim.us = WIRE_EPOCH;
	for (unsigned i = 0; i < n; i++) {
		const struct soak_setup *u = &setups[i];

		snprintf(names[i], sizeof(names[i]),
			 "loss %u reorder %u dup %u corrupt %u per 1000%s%s%s", u->loss_pm,
			 u->reorder_pm, u->dup_pm, u->corrupt_pm, u->sack ? " sack" : "",
			 u->ts ? " ts" : "", u->ws ? " ws" : "");
		tests[i] = (struct CMUnitTest){
			.name = names[i], .test_func = run, .initial_state = (void *)(uintptr_t)u};
	}
	return _cmocka_run_group_tests("soak", tests, n, NULL, NULL);
}
