/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What people see of a running engine, by DPDK telemetry: the commands of the table at the end.
 * Runs on threads of the telemetry library, which go on until the process ends, so the engine is
 * theirs under a lock that the data path does not know.  Instances' counters are read without
 * synchronisation: each is one aligned word with one writer; what the port lost is asked for then
 * and put beside them.  A parameter ("/toe/counters,pre.0") limits counters and drops to one
 * instance.
 */
#include <ctype.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <rte_telemetry.h>

#include "engine_priv.h"
#include "pipeline.h"
#include "port.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct toe_engine *engine; /* under lock; NULL: not there yet, or not any more */

static void lower(const char *from, char *to, size_t len)
{
	size_t i = 0;

	for (; from[i] != '\0' && i + 1 < len; i++)
		to[i] = (char)tolower((unsigned char)from[i]);
	to[i] = '\0';
}

/* Name of an instance as a key of an answer: DPDK allows no dot there, so "pre_1" for pre.1. */
static char *key_name(unsigned inst, char *buf, size_t len)
{
	char *dot = strchr(toe_pipeline_stage_name(engine->pipeline, inst, buf, len), '.');

	if (dot != NULL)
		*dot = '_';
	return buf;
}

static void add_u64(struct rte_tel_data *d, const char *name, uint64_t v)
{
	char key[RTE_TEL_MAX_STRING_LEN];

	lower(name, key, sizeof(key));
	rte_tel_data_add_dict_u64(d, key, v);
}

/* Dictionary of its own under name; NULL when there is no memory. */
static struct rte_tel_data *add_dict(struct rte_tel_data *d, const char *name)
{
	struct rte_tel_data *c = rte_tel_data_alloc();

	if (c == NULL)
		return NULL;
	rte_tel_data_start_dict(c);
	if (rte_tel_data_add_dict_container(d, name, c, 0) != 0) {
		rte_tel_data_free(c);
		return NULL;
	}
	return c;
}

static int cmd_stages(const char *params, struct rte_tel_data *d)
{
	const struct toe_pipeline *p = engine->pipeline;
	const struct toe_stage *s;
	char name[32];

	(void)params;
	rte_tel_data_start_dict(d);
	for (unsigned i = 0; (s = toe_pipeline_stage(p, i)) != NULL; i++) {
		struct rte_tel_data *c = add_dict(d, key_name(i, name, sizeof(name)));

		if (c == NULL)
			return -1;
		add_u64(c, "items", s->items);
		add_u64(c, "cycles", s->cycles);
		add_u64(c, "cycles_per_item", s->items == 0 ? 0 : s->cycles / s->items);
		add_u64(c, "lcore", s->lcore);
	}
	return 0;
}

/* Sums one of the arrays of all instances, or of the one that is named.  -1: no such instance. */
static int sum(const char *only, bool drops, uint64_t *total, unsigned n)
{
	const struct toe_pipeline *p = engine->pipeline;
	const struct toe_stage *s;
	char name[32];
	char key[32];
	int found = -1;

	for (unsigned i = 0; (s = toe_pipeline_stage(p, i)) != NULL; i++) {
		const uint64_t *from = drops ? s->drops : s->counters;

		toe_pipeline_stage_name(p, i, name, sizeof(name));
		key_name(i, key, sizeof(key));
		if (only != NULL && *only != '\0' && strcmp(only, name) != 0 &&
		    strcmp(only, key) != 0)
			continue;
		found = 0;
		for (unsigned k = 0; k < n; k++)
			total[k] += __atomic_load_n(&from[k], __ATOMIC_RELAXED);
	}
	return found;
}

static int cmd_counters(const char *params, struct rte_tel_data *d)
{
	uint64_t total[TOE_C_N] = {0};

	if (sum(params, false, total, TOE_C_N) != 0)
		return -1;
	rte_tel_data_start_dict(d);
	for (unsigned k = 0; k < TOE_C_N; k++)
		add_u64(d, toe_counter_name[k], total[k]);
	return 0;
}

/* Losses of the port are those of the stages at it.  Their words of these arrays have one writer,
 * too: who has the lock. */
static void fetch_port_losses(void)
{
	const struct toe_pipeline *p = engine->pipeline;
	const struct toe_stage *s;
	struct toe_port_losses l;

	toe_port_losses(engine, &l);
	for (unsigned i = 0; (s = toe_pipeline_stage(p, i)) != NULL; i++) {
		if (s->ops->id == TOE_STAGE_NETIF_RX) {
			s->drops[TOE_D_PORT_RX_FULL] = l.rx_full;
			s->drops[TOE_D_PORT_RX_NO_BUF] = l.rx_no_buf;
			s->drops[TOE_D_PORT_RX_ERROR] = l.rx_error;
		} else if (s->ops->id == TOE_STAGE_NETIF_TX) {
			s->drops[TOE_D_PORT_TX_ERROR] = l.tx_error;
		}
	}
}

static int cmd_drops(const char *params, struct rte_tel_data *d)
{
	uint64_t total[TOE_D_N] = {0};

	fetch_port_losses();
	if (sum(params, true, total, TOE_D_N) != 0)
		return -1;
	rte_tel_data_start_dict(d);
	for (unsigned k = TOE_D_NONE + 1; k < TOE_D_N; k++)
		add_u64(d, toe_drop_name[k], total[k]);
	return 0;
}

static int cmd_lcores(const char *params, struct rte_tel_data *d)
{
	const struct toe_pipeline *p = engine->pipeline;

	(void)params;
	rte_tel_data_start_dict(d);
	for (unsigned i = 0; i < toe_pipeline_lcores(p); i++) {
		struct toe_lcore_stats st = toe_pipeline_lcore_stats(p, i);
		struct rte_tel_data *c;
		char name[16];

		snprintf(name, sizeof(name), "%u", i);
		c = add_dict(d, name);
		if (c == NULL)
			return -1;
		add_u64(c, "cpu", st.cpu);
		add_u64(c, "busy_percent",
			st.cycles == 0 ? 0 : st.busy_cycles / (st.cycles / 100u + 1u));
		add_u64(c, "busy_cycles", st.busy_cycles);
		add_u64(c, "cycles", st.cycles);
		add_u64(c, "rounds", st.rounds);
		add_u64(c, "sleeps", st.sleeps);
		add_u64(c, "late_wakes", st.late_wakes);
	}
	return 0;
}

/* What never comes back shows here: at rest nothing is in use but the port's receive buffers. */
static int cmd_pools(const char *params, struct rte_tel_data *d)
{
	static const char *const names[TOE_WORK_TYPE_N] = {[TOE_WORK_RX] = "rx",
							   [TOE_WORK_TX] = "tx",
							   [TOE_WORK_HC] = "hc",
							   [TOE_WORK_CTRL] = "ctrl"};

	(void)params;
	rte_tel_data_start_dict(d);
	for (unsigned i = 0; i <= TOE_WORK_TYPE_N; i++) {
		const struct rte_mempool *p =
			i < TOE_WORK_TYPE_N ? engine->work_pool[i] : engine->mbuf_pool;
		struct rte_tel_data *c = add_dict(d, i < TOE_WORK_TYPE_N ? names[i] : "mbuf");

		if (c == NULL)
			return -1;
		add_u64(c, "size", p->size);
		add_u64(c, "in_use", rte_mempool_in_use_count(p));
	}
	return 0;
}

/* DOT, one line of it per string: a single string would be cut at 8 KB. */
static int cmd_graph(const char *params, struct rte_tel_data *d)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);
	char *save = NULL;

	(void)params;
	if (f == NULL)
		return -1;
	toe_pipeline_dump(engine->pipeline, f);
	fclose(f);
	rte_tel_data_start_array(d, RTE_TEL_STRING_VAL);
	for (char *l = strtok_r(text, "\n", &save); l != NULL; l = strtok_r(NULL, "\n", &save)) {
		for (char *q = l; *q != '\0'; q++) {
			/* telemetry of DPDK 22.11 does not escape: these would break the JSON */
			if (*q == '"')
				*q = '\'';
			else if (*q == '\t')
				*q = ' ';
		}
		if (rte_tel_data_add_array_string(d, l) != 0)
			break;
	}
	free(text);
	return 0;
}

static const struct {
	const char *name, *help;
	int (*answer)(const char *params, struct rte_tel_data *d); /* 0 or -1 */
} commands[] = {
	{"/toe/stages", "Items, cycles and lcore of every stage instance", cmd_stages},
	{"/toe/counters", "Things that happened. Parameter: stage instance", cmd_counters},
	{"/toe/drops", "Why items were dropped. Parameter: stage instance", cmd_drops},
	{"/toe/lcores", "How busy each lcore is", cmd_lcores},
	{"/toe/pools", "Work items and packet buffers in use", cmd_pools},
	{"/toe/graph", "The pipeline as DOT, by line, with ' for quotation marks", cmd_graph},
};

static int answer(const char *cmd, const char *params, struct rte_tel_data *d)
{
	int rc = -1;

	pthread_mutex_lock(&lock);
	for (unsigned i = 0; i < RTE_DIM(commands) && engine != NULL; i++)
		if (strcmp(commands[i].name, cmd) == 0)
			rc = commands[i].answer(params, d);
	pthread_mutex_unlock(&lock);
	return rc;
}

void toe_telemetry_start(struct toe_engine *e)
{
	pthread_mutex_lock(&lock);
	engine = e;
	pthread_mutex_unlock(&lock);
	for (unsigned i = 0; i < RTE_DIM(commands); i++)
		rte_telemetry_register_cmd(commands[i].name, answer, commands[i].help);
}

void toe_telemetry_stop(void)
{
	pthread_mutex_lock(&lock);
	engine = NULL;
	pthread_mutex_unlock(&lock);
}
