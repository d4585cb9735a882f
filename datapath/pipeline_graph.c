/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Placement: turns the strings of pipeline.lcores ("CPU: stage[.replica] ... | all") into struct
 * toe_graph, validates it, and prints it as DOT.  Pure: no DPDK, no state of its own; errors are
 * one line that says what to write instead.
 */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "graph.h"
#include "fail.h"

#define UNPLACED UINT32_MAX
#define CPU_MAX  4096ul

char *toe_graph_name(const struct toe_graph *g, unsigned inst, char *buf, size_t len)
{
	const struct toe_graph_inst *in = &g->inst[inst];

	if (g->replicas[in->id] > 1)
		snprintf(buf, len, "%s.%u", toe_stage_table[in->id]->name, in->replica);
	else
		snprintf(buf, len, "%s", toe_stage_table[in->id]->name);
	return buf;
}

/* Which instances there are, all of them unplaced. */
static int make_instances(struct toe_graph *g, const struct toe_config *cfg, char *err,
			  size_t err_len)
{
	for (unsigned id = 0; id < TOE_STAGE_N; id++)
		g->replicas[id] = 1;
	g->replicas[TOE_STAGE_PRE] = cfg->pre;
	g->replicas[TOE_STAGE_PROTO] = cfg->proto;
	g->replicas[TOE_STAGE_POST] = cfg->post;
	g->replicas[TOE_STAGE_DMA] = cfg->dma;
	if (cfg->proto > cfg->flow_groups)
		return fail(err, err_len,
			    "pipeline.proto = %u, but there are only %u flow-groups: raise "
			    "pipeline.flow_groups",
			    cfg->proto, cfg->flow_groups);
	if (cfg->post > TOE_FLOW_STAT_REPLICAS)
		return fail(err, err_len, "pipeline.post = %u: at most %u", cfg->post,
			    TOE_FLOW_STAT_REPLICAS);
	for (unsigned id = 0; id < TOE_STAGE_N; id++) {
		const struct toe_stage_ops *ops = toe_stage_table[id];
		unsigned n = g->replicas[id];

		if (n == 0 || (n > 1 && id != TOE_STAGE_PROTO && !ops->replicable))
			return fail(err, err_len, "stage %s cannot have %u instances", ops->name,
				    n);
		if (g->inst_n + n > TOE_GRAPH_INST_MAX)
			return fail(err, err_len, "more than %u stage instances",
				    TOE_GRAPH_INST_MAX);
		g->first[id] = g->inst_n;
		for (unsigned r = 0; r < n; r++)
			g->inst[g->inst_n++] = (struct toe_graph_inst){id, r, UNPLACED};
	}
	return 0;
}

/* "pre.1" -> id and replica (UNPLACED: no replica named).  -1: not a stage. */
static int find_stage(const char *word, unsigned *id, unsigned long *replica)
{
	size_t n = strcspn(word, ".");
	char *end;

	*replica = UNPLACED;
	for (*id = 0; *id < TOE_STAGE_N; (*id)++) {
		const char *name = toe_stage_table[*id]->name;

		if (strlen(name) == n && strncmp(name, word, n) == 0)
			break;
	}
	if (*id == TOE_STAGE_N)
		return -1;
	if (word[n] == '\0')
		return 0;
	if (word[n + 1] < '0' || word[n + 1] > '9')
		return -1;
	*replica = strtoul(word + n + 1, &end, 10);
	return *end == '\0' ? 0 : -1;
}

static int place(struct toe_graph *g, unsigned lcore, const char *word, char *err, size_t err_len)
{
	unsigned id;
	unsigned long replica;

	if (find_stage(word, &id, &replica) != 0) {
		int n = snprintf(err, err_len,
				 "pipeline.lcores[%u]: no stage \"%s\"; there are:", lcore, word);

		for (id = 0; id < TOE_STAGE_N && n > 0 && (size_t)n < err_len; id++)
			n += snprintf(err + n, err_len - (size_t)n, " %s",
				      toe_stage_table[id]->name);
		return -1;
	}
	if (replica != UNPLACED && replica >= g->replicas[id])
		return fail(err, err_len,
			    "pipeline.lcores[%u]: %s, but %s has %u instance(s), numbered from 0",
			    lcore, word, toe_stage_table[id]->name, g->replicas[id]);
	for (unsigned r = 0; r < g->replicas[id]; r++) {
		struct toe_graph_inst *in = &g->inst[g->first[id] + r];

		if (replica != UNPLACED && r != replica)
			continue;
		if (in->lcore != UNPLACED)
			return fail(err, err_len,
				    "pipeline.lcores[%u]: %s is already placed on lcore %u", lcore,
				    word, in->lcore);
		in->lcore = lcore;
	}
	return 0;
}

/* One string of pipeline.lcores.  *all is set to the lcore that wrote "all". */
static int parse_lcore(struct toe_graph *g, unsigned i, const char *text, unsigned *all, char *err)
{
	const size_t err_len = 256;
	char copy[sizeof(((struct toe_config *)0)->lcores[0])];
	char *save = NULL;
	char *end;
	unsigned long cpu;

	errno = 0;
	cpu = strtoul(text, &end, 10);
	if (end == text || *end != ':' || *text == '-' || errno != 0 || cpu >= CPU_MAX)
		return fail(err, err_len,
			    "pipeline.lcores[%u] = \"%.40s\": write \"CPU: stage stage ...\", for "
			    "example \"0: all\"",
			    i, text);
	g->lcores[i].cpu = (unsigned)cpu;
	snprintf(copy, sizeof(copy), "%s", end + 1);
	for (char *w = strtok_r(copy, " \t,", &save); w != NULL;
	     w = strtok_r(NULL, " \t,", &save)) {
		if (strcmp(w, "all") != 0) {
			if (place(g, i, w, err, err_len) != 0)
				return -1;
			continue;
		}
		if (*all != UNPLACED)
			return fail(err, err_len,
				    "pipeline.lcores[%u]: \"all\" is already on lcore %u", i, *all);
		*all = i;
	}
	return 0;
}

/* Fills in "all", checks that everything is placed, builds the lists of the lcores. */
static int finish(struct toe_graph *g, unsigned all, char *err, size_t err_len)
{
	char name[32];

	for (unsigned i = 0; i < g->inst_n; i++) {
		struct toe_graph_inst *in = &g->inst[i];
		struct toe_graph_lcore *lc;

		if (in->lcore == UNPLACED)
			in->lcore = all;
		if (in->lcore == UNPLACED)
			return fail(err, err_len,
				    "stage %s is on no lcore: add it to pipeline.lcores, or write "
				    "\"all\" on one of them",
				    toe_graph_name(g, i, name, sizeof(name)));
		lc = &g->lcores[in->lcore];
		lc->inst[lc->inst_n++] = (uint8_t)i;
	}
	for (unsigned i = 0; i < g->lcore_n; i++) {
		if (g->lcores[i].inst_n == 0)
			return fail(err, err_len, "pipeline.lcores[%u] runs no stage: remove it",
				    i);
		for (unsigned j = 0; j < g->lcore_n; j++)
			g->lcores[i].shared |= i != j && g->lcores[i].cpu == g->lcores[j].cpu;
	}
	return 0;
}

/* Every edge leads to a stage of the table, and what the wire brings can reach the wire. */
static int check_edges(char *err, size_t err_len)
{
	uint32_t reached = 1u << TOE_STAGE_NETIF_RX;

	for (unsigned id = 0; id < TOE_STAGE_N; id++) {
		if (toe_stage_table[id]->id != id)
			return fail(err, err_len, "stage table: %s has a wrong id",
				    toe_stage_table[id]->name);
		if (toe_stage_table[id]->next_mask >> TOE_STAGE_N != 0)
			return fail(err, err_len, "stage %s: edge to a stage that does not exist",
				    toe_stage_table[id]->name);
	}
	for (unsigned round = 0; round < TOE_STAGE_N; round++) {
		for (unsigned id = 0; id < TOE_STAGE_N; id++) {
			if ((reached & 1u << id) != 0)
				reached |= toe_stage_table[id]->next_mask;
		}
	}
	if ((reached & 1u << TOE_STAGE_NETIF_TX) == 0)
		return fail(err, err_len, "no path from %s to %s",
			    toe_stage_table[TOE_STAGE_NETIF_RX]->name,
			    toe_stage_table[TOE_STAGE_NETIF_TX]->name);
	return 0;
}

int toe_graph_parse(struct toe_graph *g, const struct toe_config *cfg, char *err, size_t err_len)
{
	char line[256];
	unsigned all = UNPLACED;

	memset(g, 0, sizeof(*g));
	line[0] = '\0';
	if (cfg->lcore_n == 0 || cfg->lcore_n > TOE_CFG_LCORES_MAX)
		return fail(err, err_len,
			    "pipeline.lcores: 1 to %u lcores, for example ( \"0: all\" )",
			    TOE_CFG_LCORES_MAX);
	g->lcore_n = cfg->lcore_n;
	if (check_edges(err, err_len) != 0 || make_instances(g, cfg, err, err_len) != 0)
		return -1;
	for (unsigned i = 0; i < g->lcore_n; i++) {
		if (parse_lcore(g, i, cfg->lcores[i], &all, line) != 0)
			return fail(err, err_len, "%s", line);
	}
	return finish(g, all, err, err_len);
}

int toe_graph_check_cpus(const struct toe_graph *g, char *err, size_t err_len)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) != 0)
		return 0; /* more than CPU_SETSIZE CPUs: let EAL decide */
	for (unsigned i = 0; i < g->lcore_n; i++) {
		unsigned cpu = g->lcores[i].cpu;

		if (cpu >= CPU_SETSIZE || !CPU_ISSET(cpu, &set))
			return fail(err, err_len,
				    "pipeline.lcores[%u]: CPU %u is not here or not allowed; this "
				    "process may use %d CPU(s), see: taskset -pc $$",
				    i, cpu, CPU_COUNT(&set));
	}
	return 0;
}

static void dump_edges(const struct toe_graph *g, unsigned from, FILE *out)
{
	const struct toe_graph_inst *in = &g->inst[from];
	char a[32];
	char b[32];

	for (unsigned to = 0; to < g->inst_n; to++) {
		bool same = g->inst[to].lcore == in->lcore;

		if ((toe_stage_table[in->id]->next_mask & 1u << g->inst[to].id) == 0)
			continue;
		fprintf(out, "\t\"%s\" -> \"%s\" [%s];\n", toe_graph_name(g, from, a, sizeof(a)),
			toe_graph_name(g, to, b, sizeof(b)),
			same ? "style=solid, label=fifo" : "style=bold, color=blue, label=ring");
	}
}

void toe_graph_dump(const struct toe_graph *g, FILE *out)
{
	char name[32];

	fprintf(out, "digraph toe {\n\trankdir=LR;\n\tnode [shape=box];\n\tedge [fontsize=8];\n");
	for (unsigned l = 0; l < g->lcore_n; l++) {
		const struct toe_graph_lcore *lc = &g->lcores[l];

		fprintf(out, "\tsubgraph cluster_lcore%u {\n\t\tlabel=\"lcore %u, CPU %u%s\";\n", l,
			l, lc->cpu, lc->shared ? " (shared)" : "");
		for (unsigned i = 0; i < lc->inst_n; i++)
			fprintf(out, "\t\t\"%s\";\n",
				toe_graph_name(g, lc->inst[i], name, sizeof(name)));
		fprintf(out, "\t}\n");
	}
	for (unsigned i = 0; i < g->inst_n; i++)
		dump_edges(g, i, out);
	fprintf(out, "}\n");
}
