// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/sim/sim.h tests/unit/cp_rig.h datapath/counters.c datapath/hostmem_dmadev.c */
/*
 * Runs the wire scripts: stages and control plane in virtual time, one result per script and per
 * case of the tables.  tests/wire/README.md describes them; TOE_WIRE=text runs only those whose
 * name contains it.  Each runs in a child process.
 */
#include "../wire/app.h"
#include "../wire/matrix.h"

#include <dirent.h>
#include <sys/wait.h>

#define WIRE_DIR   "tests/wire"
#define WIRE_TESTS 2048u

static struct {
	struct CMUnitTest test[WIRE_TESTS];
	struct wire_case cases[WIRE_TESTS];
	unsigned n;
} all;

static void run_script(const char *path)
{
	FILE *f = fopen(path, "r");
	char line[WIRE_LINE];

	wire.script = path;
	if (f == NULL)
		wire_fail("cannot be opened");
	while (fgets(line, sizeof(line), f) != NULL) {
		wire.line++;
		wire_line(line);
	}
	fclose(f);
}

static void run(void **state)
{
	const struct wire_case *c = *state;
	int status = 0;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		alarm(30);
		if (c->table)
			wire_case_run(c);
		else
			run_script(c->path);
		wire_end();
		fflush(stdout);
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid || status != 0)
		fail_msg("%s: failed, status %d", c->name, status);
}

static void add(const struct wire_case *c)
{
	const char *only = getenv("TOE_WIRE");

	if (only != NULL && strstr(c->name, only) == NULL)
		return;
	if (all.n == WIRE_TESTS) {
		printf("more than %u scripts\n", WIRE_TESTS);
		exit(1);
	}
	all.cases[all.n] = *c;
	all.test[all.n] = (struct CMUnitTest){.name = all.cases[all.n].name,
					      .test_func = run,
					      .initial_state = &all.cases[all.n]};
	all.n++;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void add_dir(const char *dir, const char *suffix, bool table)
{
	struct dirent **list;
	int n = scandir(dir, &list, NULL, by_name);

	for (int i = 0; i < n; i++) {
		const char *name = list[i]->d_name;
		size_t len = strlen(name), end = strlen(suffix);
		struct wire_case c = {.table = table};

		if (len > end && strcmp(name + len - end, suffix) == 0) {
			snprintf(c.path, sizeof(c.path), "%s/%.80s", dir, name);
			snprintf(c.name, sizeof(c.name), "%.*s", (int)(len - end), name);
			if (table)
				wire_table_read(c.path, add);
			else
				add(&c);
		}
		free(list[i]);
	}
	if (n >= 0)
		free(list);
}

int main(void)
{
	if (sim_eal(NULL) != 0)
		return 1;
	toe_config_defaults(&sim.cfg);
	sim.cfg.ecn = false; /* scripts that want it say so */
	sim.us = 1000000;
	add_dir(WIRE_DIR "/scripts", ".wire", false);
	add_dir(WIRE_DIR, ".table", true);
	return _cmocka_run_group_tests("wire", all.test, all.n, NULL, NULL);
}
