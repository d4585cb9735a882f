// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/sim/sim.h tests/unit/cp_rig.h datapath/counters.c datapath/hostmem_dmadev.c */
/*
 * Runs the wire scripts: stages and control plane in virtual time, one result per script and per
 * case of the tables, over IPv4 and over IPv6.  tests/wire/README.md describes them; TOE_WIRE=text
 * runs only those whose name contains it.  Each runs in a child process.
 */
#include "../wire/virtual.h"

#include "../wire/suite.h"

#include <sys/wait.h>

static struct {
	struct CMUnitTest test[WIRE_TESTS];
	struct wire_case cases[WIRE_TESTS];
	unsigned n;
} all;

static void run(void **state)
{
	const struct wire_case *c = *state;
	int status = 0;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		alarm(30);
		wire_run(c);
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid || status != 0)
		fail_msg("%s: failed, status %d", c->name, status);
}

static void add(const struct wire_case *c)
{
	for (int six = 0; six < 2; six++) {
		struct wire_case *to = &all.cases[all.n];

		if (all.n == WIRE_TESTS) {
			printf("more than %u scripts\n", WIRE_TESTS);
			exit(1);
		}
		if (wire_case_of(c, six, to))
			all.test[all.n++] = (struct CMUnitTest){
				.name = to->name, .test_func = run, .initial_state = to};
	}
}

int main(void)
{
	if (sim_eal(NULL) != 0)
		return 1;
	toe_config_defaults(&sim.cfg);
	sim.cfg.ecn = false; /* scripts that want it say so */
	sim.us = WIRE_EPOCH;
	wire_suite(add);
	return _cmocka_run_group_tests("wire", all.test, all.n, NULL, NULL);
}
