/* SPDX-License-Identifier: BSD-3-Clause */
/* LINK: datapath/pipeline_graph.c common/log.c */
/*
 * Placement strings: what is accepted, what each mistake is answered with, and the DOT that comes
 * out.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "datapath/graph.h"

#define BIT(s) (1u << TOE_STAGE_##s)
#define STAGE(s, n, rep, next)                                                                     \
	static const struct toe_stage_ops op_##s = {                                               \
		.id = TOE_STAGE_##s, .name = n, .replicable = rep, .next_mask = next}

STAGE(NETIF_RX, "netif_rx", false, BIT(SEQ));
STAGE(CTRL, "ctrl", false, BIT(SEQ) | BIT(NETIF_TX));
STAGE(SEQ, "seq", false, BIT(PRE));
STAGE(PRE, "pre", true, BIT(REORDER));
STAGE(REORDER, "reorder", false, BIT(PROTO) | BIT(EXCEPTION));
STAGE(PROTO, "proto", false, BIT(POST));
STAGE(POST, "post", true, BIT(DMA));
STAGE(DMA, "dma", true, BIT(EGRESS));
STAGE(EGRESS, "egress", false, BIT(CTXQ) | BIT(NETIF_TX));
STAGE(STREAM, "stream", false, BIT(CTXQ));
STAGE(CTXQ, "ctxq", false, BIT(SCHED));
STAGE(SCHED, "sched", false, BIT(SEQ) | BIT(NETIF_TX));
STAGE(NETIF_TX, "netif_tx", false, 0);
STAGE(EXCEPTION, "exception", false, BIT(NETIF_TX));

const struct toe_stage_ops *const toe_stage_table[TOE_STAGE_N] = {
	&op_NETIF_RX, &op_CTRL,   &op_SEQ,    &op_PRE,  &op_REORDER, &op_PROTO,    &op_POST,
	&op_DMA,      &op_EGRESS, &op_STREAM, &op_CTXQ, &op_SCHED,   &op_NETIF_TX, &op_EXCEPTION,
};

static struct toe_config cfg;
static struct toe_graph g;
static char err[512];

static void place(unsigned n, const char *const *lcores)
{
	memset(&cfg, 0, sizeof(cfg));
	cfg.flow_groups = 4;
	cfg.pre = 2;
	cfg.proto = 2;
	cfg.post = 2;
	cfg.dma = 1;
	cfg.lcore_n = n;
	for (unsigned i = 0; i < n; i++)
		snprintf(cfg.lcores[i], sizeof(cfg.lcores[i]), "%s", lcores[i]);
}

#define PLACE(...)                                                                                 \
	do {                                                                                       \
		const char *const l_[] = {__VA_ARGS__};                                            \
		place(sizeof(l_) / sizeof(l_[0]), l_);                                             \
	} while (0)
#define ACCEPT() assert_int_equal(toe_graph_parse(&g, &cfg, err, sizeof(err)), 0)
#define REFUSE(text)                                                                               \
	do {                                                                                       \
		assert_int_equal(toe_graph_parse(&g, &cfg, err, sizeof(err)), -1);                 \
		assert_non_null(strstr(err, text));                                                \
		assert_null(strchr(err, '\n'));                                                    \
	} while (0)

static void test_all(void **state)
{
	(void)state;
	PLACE("0: all");
	ACCEPT();
	assert_int_equal(g.lcore_n, 1);
	assert_int_equal(g.inst_n, TOE_STAGE_N + 3);
	assert_int_equal(g.lcores[0].inst_n, g.inst_n);
	for (unsigned i = 1; i < g.inst_n; i++)
		assert_true(g.inst[i - 1].id <= g.inst[i].id); /* polled in stage order */
	assert_false(g.lcores[0].shared);
}

static void test_replicas_and_rest(void **state)
{
	char name[32];

	(void)state;
	PLACE("0: netif_rx netif_tx all", "1: pre.1 post.1, proto.1", "1: sched ctxq\tdma");
	ACCEPT();
	assert_int_equal(g.inst[g.first[TOE_STAGE_PRE]].lcore, 0);
	assert_int_equal(g.inst[g.first[TOE_STAGE_PRE] + 1].lcore, 1);
	assert_int_equal(g.inst[g.first[TOE_STAGE_SCHED]].lcore, 2);
	assert_false(g.lcores[0].shared);
	assert_true(g.lcores[1].shared);
	assert_true(g.lcores[2].shared);
	assert_string_equal(toe_graph_name(&g, g.first[TOE_STAGE_PRE] + 1, name, sizeof(name)),
			    "pre.1");
	assert_string_equal(toe_graph_name(&g, g.first[TOE_STAGE_SEQ], name, sizeof(name)), "seq");
	/* a stage without a number is every replica of it */
	PLACE("0: pre post", "1: all");
	ACCEPT();
	assert_int_equal(g.inst[g.first[TOE_STAGE_PRE] + 1].lcore, 0);
}

static void test_mistakes(void **state)
{
	(void)state;
	PLACE("all");
	REFUSE("CPU: stage");
	PLACE(": all");
	REFUSE("CPU: stage");
	PLACE("-1: all");
	REFUSE("CPU: stage");
	PLACE("0: all", "99999999999999999999: pre.1");
	REFUSE("CPU: stage");
	PLACE("0: all foo");
	REFUSE("no stage \"foo\"; there are: netif_rx");
	PLACE("0: all pre.x");
	REFUSE("no stage \"pre.x\"");
	PLACE("0: all pre.");
	REFUSE("no stage \"pre.\"");
	PLACE("0: all pre.2");
	REFUSE("pre has 2 instance(s)");
	PLACE("0: all pre.99999999999999999999");
	REFUSE("pre has 2 instance(s)");
	PLACE("0: seq all", "1: seq");
	REFUSE("seq is already placed on lcore 0");
	PLACE("0: all", "1: all");
	REFUSE("\"all\" is already on lcore 0");
	PLACE("0: netif_rx seq");
	REFUSE("stage ctrl is on no lcore");
	PLACE("0: all", "1: ");
	REFUSE("pipeline.lcores[1] runs no stage");
	PLACE("0: all");
	cfg.lcore_n = 0;
	REFUSE("for example ( \"0: all\" )");
}

static void test_counts(void **state)
{
	(void)state;
	PLACE("0: all");
	cfg.proto = 5;
	REFUSE("only 4 flow-groups");
	PLACE("0: all");
	cfg.post = 5;
	REFUSE("pipeline.post = 5: at most 4");
	PLACE("0: all");
	cfg.pre = 0;
	REFUSE("stage pre cannot have 0 instances");
	PLACE("0: all");
	cfg.pre = 200;
	REFUSE("stage instances");
}

static void test_cpus(void **state)
{
	(void)state;
	PLACE("4000: all");
	ACCEPT();
	assert_int_equal(toe_graph_check_cpus(&g, err, sizeof(err)), -1);
	assert_non_null(strstr(err, "CPU 4000 is not here"));
}

static void test_dot(void **state)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	(void)state;
	PLACE("0: all", "1: pre.1", "1: post.1");
	ACCEPT();
	toe_graph_dump(&g, f);
	fclose(f);
	assert_int_equal(strncmp(text, "digraph toe {\n", 14), 0);
	assert_non_null(strstr(text, "label=\"lcore 0, CPU 0\";"));
	assert_non_null(strstr(text, "label=\"lcore 2, CPU 1 (shared)\";"));
	assert_non_null(strstr(text, "\"seq\" -> \"pre.0\" [style=solid, label=fifo];"));
	assert_non_null(strstr(text, "\"seq\" -> \"pre.1\" [style=bold, color=blue, label=ring];"));
	assert_null(strstr(text, "\"netif_rx\" -> \"netif_tx\""));
	assert_string_equal(text + len - 2, "}\n");
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all),      cmocka_unit_test(test_replicas_and_rest),
		cmocka_unit_test(test_mistakes), cmocka_unit_test(test_counts),
		cmocka_unit_test(test_cpus),     cmocka_unit_test(test_dot),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
