/* SPDX-License-Identifier: BSD-3-Clause */
/* LINK: datapath/pipeline.c datapath/lcore.c datapath/idle.c datapath/pipeline_graph.c
 * datapath/sequencer.c datapath/sequencer_set.c datapath/stages/seq.c datapath/stages/reorder.c
 * datapath/stages/egress.c common/log.c */
/*
 * The framework with the real seq, reorder and egress and stand-ins for the other stages: whatever
 * the placement, the number of replicas and the injected delays, proto sees each flow-group in
 * order, so do ctxq, sched and ctrl behind egress, and every item comes back to its pool.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <rte_eal.h>

#include "datapath/pipeline_priv.h"

#define FG     4u
#define ITEMS  255u
#define BIT(s) (1u << TOE_STAGE_##s)

/* Checked by the stand-ins; each element has one writer. */
static struct {
	uint32_t total;        /* items to make */
	uint32_t burst;        /* at most so many on their way, 0: no limit */
	_Atomic uint32_t made; /* netif_rx */
	uint32_t serial[FG];
	uint32_t proto[FG]; /* next in_seq that proto may see, minimum */
	uint32_t out[FG];
	uint32_t stream[FG]; /* serial last seen */
	uint32_t ctxq[FG];
	uint32_t sched[FG];
	uint32_t ctrl[FG];
	_Atomic uint32_t ended; /* arrived somewhere and were freed */
	_Atomic uint32_t wrong; /* seen out of order */
	_Atomic uint32_t tap;
	_Atomic uint32_t sent;
	bool asleep;     /* what netif_rx has been told */
	uint32_t turns;  /* since then with items */
	uint32_t before; /* turns with items before it was told that the lcore is awake */
} t;

static uint32_t rng = 3;

static uint32_t rnd(void)
{
	rng = rng * 1664525u + 1013904223u;
	return rng >> 8;
}

static void finish(struct toe_stage *s, struct toe_work *w)
{
	toe_work_free(s, w);
	atomic_fetch_add(&t.ended, 1);
}

static unsigned source_poll(struct toe_stage *s, unsigned budget)
{
	unsigned n = 0;

	while (n < budget && t.made < t.total) {
		struct toe_work *w;

		if (t.burst != 0 && t.made - atomic_load(&t.ended) >= t.burst)
			break;
		w = toe_work_alloc(s, TOE_WORK_RX);
		if (w == NULL)
			break;
		w->fg = (uint16_t)(rnd() % FG);
		w->cookie = ++t.serial[w->fg];
		t.made++;
		toe_emit(s, TOE_STAGE_SEQ, w);
		n++;
	}
	if (t.asleep && n > 0) {
		t.before++;
		if (++t.turns > 8)
			atomic_fetch_add(&t.wrong, 1);
	}
	return n;
}

static bool source_sleep(struct toe_stage *s, bool on)
{
	(void)s;
	if (on == t.asleep)
		atomic_fetch_add(&t.wrong, 1);
	t.asleep = on;
	t.turns = 0;
	return false;
}

/* Nothing wakes a source whose pool was empty: it looks again. */
static uint64_t source_deadline(struct toe_stage *s)
{
	return t.made == t.total ? UINT64_MAX
				 : toe_now(s)->tsc + s->engine->pipeline->tsc_hz / 50000u;
}

static void pre_process(struct toe_stage *s, struct toe_work **items, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (items[i]->in_seq % s->replicas != s->replica)
			atomic_fetch_add(&t.wrong, 1);
		if (items[i]->cookie % 11 == 0)
			items[i]->verdict = TOE_TO_TAP;
		else if (items[i]->cookie % 13 == 0)
			items[i]->verdict = TOE_TO_CTRL;
		toe_emit(s, TOE_STAGE_REORDER, items[i]);
	}
}

static void proto_process(struct toe_stage *s, struct toe_work **items, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct toe_work *w = items[i];

		if (w->in_seq < t.proto[w->fg] || w->fg % s->replicas != s->replica)
			atomic_fetch_add(&t.wrong, 1);
		t.proto[w->fg] = w->in_seq + 1;
		w->out_seq = t.out[w->fg]++;
		w->verdict = w->cookie % 5 == 0 ? TOE_NOTHING : TOE_FORWARD;
		w->todo = (uint8_t)(w->cookie * 2654435761u >> 28);
		if (w->fg % 2 == 0)
			w->todo |= TOE_TODO_STREAM; /* all items of a connection or none */
		toe_emit(s, TOE_STAGE_POST, w);
	}
}

#define FORWARD(name, next)                                                                        \
	static void name(struct toe_stage *s, struct toe_work **items, unsigned n)                 \
	{                                                                                          \
		for (unsigned i = 0; i < n; i++)                                                   \
			toe_emit(s, next, items[i]);                                               \
	}
FORWARD(post_process, TOE_STAGE_DMA)
FORWARD(dma_process, TOE_STAGE_EGRESS)

static void check_serial(struct toe_work *w, uint32_t *last, uint8_t bit)
{
	if ((w->todo & bit) == 0)
		return;
	if (w->cookie <= last[w->fg])
		atomic_fetch_add(&t.wrong, 1);
	last[w->fg] = w->cookie;
	w->todo &= (uint8_t)~bit;
}

static void pass_on(struct toe_stage *s, struct toe_work *w)
{
	if (w->todo == 0)
		finish(s, w);
	else
		toe_emit_next(s, w);
}

static void stream_process(struct toe_stage *s, struct toe_work **items, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		check_serial(items[i], t.stream, TOE_TODO_STREAM);
		pass_on(s, items[i]);
	}
}

static void ctxq_process(struct toe_stage *s, struct toe_work **items, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		check_serial(items[i], t.ctxq, TOE_TODO_CTXQ);
		pass_on(s, items[i]);
	}
}

static void sched_process(struct toe_stage *s, struct toe_work **items, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		check_serial(items[i], t.sched, TOE_TODO_SCHED);
		pass_on(s, items[i]);
	}
}

static void ctrl_process(struct toe_stage *s, struct toe_work **items, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (items[i]->verdict != TOE_TO_CTRL)
			check_serial(items[i], t.ctrl, TOE_TODO_CTRL);
		pass_on(s, items[i]);
	}
}

static void tx_process(struct toe_stage *s, struct toe_work **items, unsigned n)
{
	atomic_fetch_add(&t.sent, n);
	for (unsigned i = 0; i < n; i++)
		finish(s, items[i]);
}

static void tap_process(struct toe_stage *s, struct toe_work **items, unsigned n)
{
	atomic_fetch_add(&t.tap, n);
	for (unsigned i = 0; i < n; i++)
		finish(s, items[i]);
}

static const struct toe_stage_ops source_ops = {.id = TOE_STAGE_NETIF_RX,
						.name = "netif_rx",
						.next_mask = BIT(SEQ),
						.process = tx_process,
						.poll = source_poll,
						.deadline = source_deadline,
						.sleep = source_sleep},
				  ctrl_ops = {.id = TOE_STAGE_CTRL,
					      .name = "ctrl",
					      .next_mask = BIT(NETIF_TX),
					      .process = ctrl_process},
				  pre_ops = {.id = TOE_STAGE_PRE,
					     .name = "pre",
					     .replicable = true,
					     .next_mask = BIT(REORDER),
					     .process = pre_process},
				  proto_ops = {.id = TOE_STAGE_PROTO,
					       .name = "proto",
					       .next_mask = BIT(POST),
					       .process = proto_process},
				  post_ops = {.id = TOE_STAGE_POST,
					      .name = "post",
					      .replicable = true,
					      .next_mask = BIT(DMA),
					      .process = post_process},
				  dma_ops = {.id = TOE_STAGE_DMA,
					     .name = "dma",
					     .replicable = true,
					     .next_mask = BIT(EGRESS),
					     .process = dma_process},
				  ctxq_ops = {.id = TOE_STAGE_CTXQ,
					      .name = "ctxq",
					      .next_mask = BIT(SCHED) | BIT(NETIF_TX),
					      .process = ctxq_process},
				  sched_ops = {.id = TOE_STAGE_SCHED,
					       .name = "sched",
					       .next_mask = BIT(CTRL) | BIT(NETIF_TX),
					       .process = sched_process},
				  tx_ops = {.id = TOE_STAGE_NETIF_TX,
					    .name = "netif_tx",
					    .process = tx_process},
				  tap_ops = {.id = TOE_STAGE_EXCEPTION,
					     .name = "exception",
					     .process = tap_process};

static const struct toe_stage_ops stream_ops = {.id = TOE_STAGE_STREAM,
						.name = "stream",
						.next_mask = BIT(CTXQ),
						.process = stream_process};

/* Items that end in egress without business are freed there: counted by pool instead. */
const struct toe_stage_ops *const toe_stage_table[TOE_STAGE_N] = {
	&source_ops, &ctrl_ops,  &toe_stage_seq, &pre_ops,          &toe_stage_reorder,
	&proto_ops,  &post_ops,  &dma_ops,       &toe_stage_egress, &stream_ops,
	&ctxq_ops,   &sched_ops, &tx_ops,        &tap_ops,
};

static struct toe_config cfg;
static struct toe_engine engine;

static int setup_eal(void **state)
{
	char *args[] = {"test", "--no-huge", "--no-pci",   "--no-telemetry",   "--no-shconf",
			"-m",   "64",        "--lcores=0", "--log-level=error"};

	(void)state;
	setenv("XDG_RUNTIME_DIR", "/tmp", 0);
	if (rte_eal_init((int)RTE_DIM(args), args) < 0)
		return -1;
	for (unsigned i = 0; i < TOE_WORK_TYPE_N; i++) {
		char name[8];

		snprintf(name, sizeof(name), "w%u", i);
		engine.work_pool[i] =
			rte_mempool_create(name, ITEMS, sizeof(struct toe_work_ctrl), 0, 0, NULL,
					   NULL, NULL, NULL, SOCKET_ID_ANY, 0);
		if (engine.work_pool[i] == NULL)
			return -1;
	}
	engine.qsbr = aligned_alloc(RTE_CACHE_LINE_SIZE, rte_rcu_qsbr_get_memsize(8));
	return rte_rcu_qsbr_init(engine.qsbr, 8);
}

static void start(unsigned n, const char *const *lcores, uint32_t inject)
{
	char err[256] = "";

	memset(&t, 0, sizeof(t));
	memset(&cfg, 0, sizeof(cfg));
	cfg.flow_groups = FG;
	cfg.pre = 3;
	cfg.proto = 2;
	cfg.post = 2;
	cfg.dma = 2;
	cfg.work_items = ITEMS;
	cfg.reorder_inject = inject;
	cfg.lcore_n = n;
	for (unsigned i = 0; i < n; i++)
		snprintf(cfg.lcores[i], sizeof(cfg.lcores[i]), "%s", lcores[i]);
	engine.cfg = &cfg;
	engine.flow_group_n = FG;
	engine.pipeline = toe_pipeline_create(&engine, err, sizeof(err));
	assert_string_equal(err, "");
	assert_non_null(engine.pipeline);
	assert_int_equal(toe_pipeline_init(engine.pipeline, err, sizeof(err)), 0);
}

static bool all_back(void)
{
	return rte_mempool_avail_count(engine.work_pool[TOE_WORK_RX]) == ITEMS;
}

/* What the pipeline counts is what the pool lacks; nobody takes or frees at this moment. */
static void check_in_use(void)
{
	const struct toe_stage *s = toe_pipeline_stage(engine.pipeline, 0);

	assert_int_equal(toe_work_in_use(s, TOE_WORK_RX),
			 rte_mempool_in_use_count(engine.work_pool[TOE_WORK_RX]));
	assert_int_equal(toe_work_in_use(s, TOE_WORK_HC), 0);
}

static uint64_t counter(enum toe_counter c)
{
	struct toe_stage *s;
	uint64_t sum = 0;

	for (unsigned i = 0; (s = toe_pipeline_stage(engine.pipeline, i)) != NULL; i++)
		sum += s->counters[c];
	return sum;
}

static void check_end(void)
{
	assert_int_equal(t.made, t.total);
	assert_int_equal(atomic_load(&t.wrong), 0);
	assert_true(atomic_load(&t.tap) > t.total / 20);
	assert_true(atomic_load(&t.sent) > t.total / 10);
	assert_true(all_back());
	check_in_use();
}

/* Lcores take steps in random order, on a clock of our own. */
static void run_steps(uint32_t total)
{
	struct toe_clock clock = {1000, 1, 0};
	unsigned n = toe_pipeline_lcores(engine.pipeline);
	unsigned steps = 0;

	t.total = total;
	while ((t.made != total || !all_back()) && ++steps < 100 * total) {
		toe_pipeline_step(engine.pipeline, rnd() % n, &clock);
		clock.tsc += 1000;
		if (steps % 16 == 0)
			check_in_use();
	}
	check_end();
}

static const char *const one[] = {"0: all"};
static const char *const three[] = {"0: all", "0: pre.1 post.1 proto.1 dma.0",
				    "0: pre.2 egress ctxq"};
static const char *const split[] = {"0: netif_rx seq", "0: pre",  "0: reorder proto", "0: post dma",
				    "0: egress",       "0: ctxq", "0: sched",         "0: all"};

static void test_one_lcore(void **state)
{
	(void)state;
	start(1, one, 0);
	run_steps(20000);
	toe_pipeline_free(engine.pipeline);
}

static void test_many_lcores(void **state)
{
	(void)state;
	start(3, three, 0);
	run_steps(20000);
	toe_pipeline_free(engine.pipeline);
	start(8, split, 0);
	run_steps(20000);
	assert_true(counter(TOE_C_ITEMS_IN) > 5 * 20000);
	toe_pipeline_free(engine.pipeline);
}

static void test_injected_disorder(void **state)
{
	(void)state;
	for (uint32_t inject = 1; inject < 20; inject += 3) {
		start(1, one, inject);
		run_steps(5000);
		if (inject != 1)
			assert_true(counter(TOE_C_HELD) > 5000 / inject / 4);
		toe_pipeline_free(engine.pipeline);
		start(8, split, inject);
		run_steps(5000);
		toe_pipeline_free(engine.pipeline);
	}
}

/* Stopping with items everywhere gives them all back. */
static void test_free_in_flight(void **state)
{
	struct toe_clock clock = {1000, 1, 0};

	(void)state;
	for (unsigned k = 0; k < 30; k++) {
		start(8, split, 4);
		t.total = 100000;
		for (unsigned i = 0; i < 5 + 3 * k; i++)
			toe_pipeline_step(engine.pipeline, rnd() % 8, &clock);
		toe_pipeline_free(engine.pipeline);
		assert_true(all_back());
	}
}

/* ---- threads ---- */

static volatile bool stop;

struct lcore_arg {
	unsigned index;
};

static void *lcore_thread(void *arg)
{
	toe_pipeline_run(engine.pipeline, ((struct lcore_arg *)arg)->index, &stop);
	return NULL;
}

/* Three lcores that sleep whenever they can; a few items at a time, so that they often do. */
static void test_sleeping_lcores(void **state)
{
	struct lcore_arg arg[3];
	pthread_t thread[3];
	const struct timespec ms = {0, 1000000};
	uint64_t late = 0;
	uint64_t sleeps = 0;

	(void)state;
	start(3, three, 9);
	stop = false;
	t.total = 20000;
	for (unsigned i = 0; i < 3; i++) {
		arg[i].index = i;
		assert_int_equal(pthread_create(&thread[i], NULL, lcore_thread, &arg[i]), 0);
	}
	for (unsigned i = 0; i < 20000 && (t.made != t.total || !all_back()); i++)
		nanosleep(&ms, NULL);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	toe_pipeline_wake_all(engine.pipeline);
	for (unsigned i = 0; i < 3; i++) {
		struct toe_lcore_stats st = toe_pipeline_lcore_stats(engine.pipeline, i);

		pthread_join(thread[i], NULL);
		late += st.late_wakes;
		sleeps += st.sleeps;
	}
	check_end();
	assert_true(sleeps > 10);
	assert_true(t.before > 10); /* work first, then the stages are told */
	assert_true(late < 10);     /* a missing wake-up would show in almost every sleep */
	toe_pipeline_free(engine.pipeline);
}

static void test_names_and_stats(void **state)
{
	char name[32];

	(void)state;
	start(3, three, 0);
	assert_string_equal(toe_pipeline_stage_name(engine.pipeline, 3, name, sizeof(name)),
			    "pre.0");
	assert_null(toe_pipeline_stage(engine.pipeline, 1000));
	assert_int_equal(toe_pipeline_lcore_stats(engine.pipeline, 0).cpu, 0);
	assert_int_equal(toe_pipeline_lcores(engine.pipeline), 3);
	toe_pipeline_free(engine.pipeline);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_lcore),         cmocka_unit_test(test_many_lcores),
		cmocka_unit_test(test_injected_disorder), cmocka_unit_test(test_free_in_flight),
		cmocka_unit_test(test_sleeping_lcores),   cmocka_unit_test(test_names_and_stats),
	};

	return cmocka_run_group_tests(tests, setup_eal, NULL);
}
