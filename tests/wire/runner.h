/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Runs the wire scripts in virtual time: stages and control plane, one result per script and per
 * case of the tables.  tests/wire/README.md describes them; TOE_WIRE=text runs only those whose
 * name contains it.  Each runs in a child process.
 */
#ifndef TOE_TEST_WIRE_RUNNER_H
#define TOE_TEST_WIRE_RUNNER_H

#include "virtual.h"

#include "suite.h"

#include <sys/wait.h>

static struct {
	struct CMUnitTest test[WIRE_TESTS];
	struct wire_case cases[WIRE_TESTS];
	unsigned n;
	bool six;
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
	struct wire_case *to = &all.cases[all.n];

	if (all.n == WIRE_TESTS) {
		printf("more than %u scripts\n", WIRE_TESTS);
		exit(1);
	}
	if (wire_case_of(c, all.six, to))
		all.test[all.n++] = (struct CMUnitTest){
			.name = to->name, .test_func = run, .initial_state = to};
}

/* The program of one family: its main(). */
static int wire_run_all(bool six)
{
	all.six = six;
	if (sim_eal(NULL) != 0)
		return 1;
	toe_config_defaults(&sim.cfg);
	sim.cfg.ecn = false; /* scripts that want it say so */
	sim.us = WIRE_EPOCH;
	wire_suite(add);
	return _cmocka_run_group_tests("wire", all.test, all.n, NULL, NULL);
}

#endif
