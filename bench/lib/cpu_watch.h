/* SPDX-License-Identifier: BSD-3-Clause */
/* CPU time that other processes use between two moments, from schedstat of all their threads. */
#ifndef TOE_BENCH_CPU_WATCH_H
#define TOE_BENCH_CPU_WATCH_H

#include <stdint.h>

#define CPU_WATCH_MAX 16u

struct cpu_watch {
	unsigned n;
	unsigned pid[CPU_WATCH_MAX];
	uint64_t ns[CPU_WATCH_MAX]; /* of all threads, since cpu_watch_begin() */
};

/* "PID,PID..."; ends the process if it is not. */
void cpu_watch_parse(struct cpu_watch *w, char *list);
void cpu_watch_begin(struct cpu_watch *w);
void cpu_watch_end(struct cpu_watch *w);
/* ,"cpu_us_each":[...] in microseconds per one of n. */
void cpu_watch_print(const struct cpu_watch *w, double n);

#endif
