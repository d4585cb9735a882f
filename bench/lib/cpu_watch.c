// SPDX-License-Identifier: BSD-3-Clause
/*
 * CPU time of other processes, see cpu_watch.h.  State: the caller's.
 */
#include "bench/lib/cpu_watch.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "tests/progs/lib/util.h"

static uint64_t cpu_ns(unsigned pid)
{
	char path[300];
	uint64_t sum = 0;
	struct dirent *d;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%u/task", pid);
	dir = opendir(path);
	while (dir && (d = readdir(dir))) {
		unsigned long long ns = 0;
		FILE *f;

		snprintf(path, sizeof(path), "/proc/%u/task/%.20s/schedstat", pid, d->d_name);
		f = d->d_name[0] == '.' ? NULL : fopen(path, "r");
		if (!f)
			continue;
		if (fscanf(f, "%llu", &ns) == 1)
			sum += ns;
		fclose(f);
	}
	if (dir)
		closedir(dir);
	return sum;
}

void cpu_watch_parse(struct cpu_watch *w, char *list)
{
	char *save = NULL;

	for (char *t = strtok_r(list, ",", &save); t; t = strtok_r(NULL, ",", &save)) {
		if (w->n == CPU_WATCH_MAX)
			die("at most %u processes", CPU_WATCH_MAX);
		w->pid[w->n++] = (unsigned)parse_u64(t, "pid");
	}
}

void cpu_watch_begin(struct cpu_watch *w)
{
	for (unsigned i = 0; i < w->n; i++)
		w->ns[i] = cpu_ns(w->pid[i]);
}

void cpu_watch_end(struct cpu_watch *w)
{
	for (unsigned i = 0; i < w->n; i++)
		w->ns[i] = cpu_ns(w->pid[i]) - w->ns[i];
}

void cpu_watch_print(const struct cpu_watch *w, double n)
{
	printf(",\"cpu_us_each\":[");
	for (unsigned i = 0; i < w->n; i++)
		printf("%s%.3f", i ? "," : "", (double)w->ns[i] / 1e3 / n);
	printf("]");
}
