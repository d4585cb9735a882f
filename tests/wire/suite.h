/* SPDX-License-Identifier: BSD-3-Clause */
/* All scripts and tables, in the order of their names, and how one of them runs. */
#ifndef TOE_TEST_WIRE_SUITE_H
#define TOE_TEST_WIRE_SUITE_H

#include <dirent.h>

#include "app.h"
#include "matrix.h"

#define WIRE_DIR   "tests/wire"
#define WIRE_TESTS 4096u

typedef void wire_add(const struct wire_case *c);

static void wire_script_run(const char *path)
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

/* In a process of its own: ends it if anything fails. */
static void wire_run(const struct wire_case *c)
{
	wire.six = c->six;
	if (c->table)
		wire_case_run(c);
	else
		wire_script_run(c->path);
	wire_end();
	fflush(stdout);
}

static int wire_by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void wire_dir(const char *dir, const char *suffix, bool table, wire_add *add)
{
	struct dirent **list;
	int n = scandir(dir, &list, NULL, wire_by_name);

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

/* TOE_WIRE=text: only those whose name contains it. */
static void wire_suite(wire_add *add)
{
	wire_dir(WIRE_DIR "/scripts", ".wire", false, add);
	wire_dir(WIRE_DIR, ".table", true, add);
}

static bool wire_wanted(const struct wire_case *c)
{
	const char *only = getenv("TOE_WIRE");

	return only == NULL || strstr(c->name, only) != NULL;
}

/* A script that says "ipv4 only" or "ipv6 only". */
static bool wire_excludes(const struct wire_case *c, bool six)
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

/* The same over IPv4 or IPv6; false: not meant for it. */
static bool wire_case_of(const struct wire_case *c, bool six, struct wire_case *to)
{
	char name[sizeof(c->name)];

	if (wire_excludes(c, six))
		return false;
	snprintf(name, sizeof(name), "%.80s%s", c->name, six ? "/ipv6" : "");
	*to = *c;
	to->six = six;
	memcpy(to->name, name, sizeof(name));
	return wire_wanted(to);
}

#endif
