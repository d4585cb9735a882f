// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/sim/sim.h tests/unit/cp_rig.h datapath/counters.c datapath/hostmem_dmadev.c */
/*
 * Runs the wire scripts: stages and control plane in virtual time, one result per script and per
 * case of the tables, over IPv4 and over IPv6.  tests/wire/README.md describes them; TOE_WIRE=text
 * runs only those whose name contains it.  Each runs in a child process.
 */
#include "../wire/app.h"
#include "../wire/matrix.h"

#include <dirent.h>
#include <sys/wait.h>

#define WIRE_DIR   "tests/wire"
#define WIRE_TESTS 4096u

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
		wire.six = c->six;
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

static void add_family(const struct wire_case *c, bool six)
{
	const char *only = getenv("TOE_WIRE");
	struct wire_case *to = &all.cases[all.n];
	char name[sizeof(c->name)];

	snprintf(name, sizeof(name), "%.80s%s", c->name, six ? "/ipv6" : "");
	if (only != NULL && strstr(name, only) == NULL)
		return;
	if (all.n == WIRE_TESTS) {
		printf("more than %u scripts\n", WIRE_TESTS);
		exit(1);
	}
	*to = *c;
	to->six = six;
	memcpy(to->name, name, sizeof(name));
	all.test[all.n++] =
		(struct CMUnitTest){.name = to->name, .test_func = run, .initial_state = to};
}

/* A script that says "ipv4 only" or "ipv6 only". */
static bool excludes(const struct wire_case *c, bool six)
{
	const char *other = six ? "ipv4 only" : "ipv6 only";
	FILE *f = c->table ? NULL : fopen(c->path, "r");
	char line[WIRE_LINE];
	bool found = false;

	while (f != NULL && !found && fgets(line, sizeof(line), f) != NULL)
		found = strncmp(line, other, strlen(other)) == 0;
	if (f != NULL)
		fclose(f);
	return found;
}

static void add(const struct wire_case *c)
{
	for (int six = 0; six < 2; six++)
		if (!excludes(c, six))
			add_family(c, six);
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
