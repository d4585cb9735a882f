/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Placement as data: which stage instances exist and which lcore runs them.  Made from the
 * configuration alone, so that `toe-datapath --dump-graph` needs neither DPDK nor a port.
 */
#ifndef TOE_GRAPH_H
#define TOE_GRAPH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/config.h"
#include "stage.h"

#define TOE_GRAPH_INST_MAX 128u

/* Every stage by id; stage_table.c in the product, the tests bring their own. */
extern const struct toe_stage_ops *const toe_stage_table[TOE_STAGE_N];

struct toe_graph_inst {
	enum toe_stage_id id;
	unsigned replica;
	unsigned lcore; /* index into lcores */
};

struct toe_graph_lcore {
	unsigned cpu;
	bool shared; /* another lcore has the same CPU: never spin without yielding */
	unsigned inst_n;
	uint8_t inst[TOE_GRAPH_INST_MAX]; /* in stage order: the order of polling */
};

struct toe_graph {
	unsigned lcore_n;
	unsigned inst_n;
	unsigned replicas[TOE_STAGE_N];
	unsigned first[TOE_STAGE_N]; /* index in inst of replica 0 */
	struct toe_graph_inst inst[TOE_GRAPH_INST_MAX];
	struct toe_graph_lcore lcores[TOE_CFG_LCORES_MAX];
};

/* Parses and validates.  0, or -1 with one line in err. */
int toe_graph_parse(struct toe_graph *g, const struct toe_config *cfg, char *err, size_t err_len);

/* 0, or -1 if a CPU that the placement names is not there or not allowed for this thread: call it
 * before EAL binds the thread to its lcore. */
int toe_graph_check_cpus(const struct toe_graph *g, char *err, size_t err_len);

void toe_graph_dump(const struct toe_graph *g, FILE *out);

/* "pre.1", or "seq" for a stage that has one instance; returns buf. */
char *toe_graph_name(const struct toe_graph *g, unsigned inst, char *buf, size_t len);

#endif
