/* SPDX-License-Identifier: BSD-3-Clause */
/* LINK: datapath/segment_module.c */
/*
 * Segment modules: order, verdicts, private state per replica, changes while another thread runs
 * the hook under RCU.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "datapath/segment_module.h"

struct count {
	uint64_t runs;
	int alive; /* 1 between init and fini */
	enum toe_hook_verdict verdict;
};

static char trace[64];
static unsigned trace_n;
static int inited;
static int finished;
static int init_fails_at = -1;

static int count_init(void *state, void *arg, unsigned replica)
{
	struct count *c = state;

	if ((int)replica == init_fails_at)
		return -EPERM;
	c->alive = 1;
	c->verdict = *(enum toe_hook_verdict *)arg;
	inited++;
	return 0;
}

static void count_fini(void *state, unsigned replica)
{
	(void)replica;
	((struct count *)state)->alive = 0;
	finished++;
}

static enum toe_hook_verdict count_run(void *state, struct rte_mbuf *m, uint64_t tsc)
{
	struct count *c = state;

	(void)m;
	(void)tsc;
	c->runs++;
	return c->alive ? c->verdict : TOE_HOOK_VERDICT_N;
}

static enum toe_hook_verdict trace_a(void *state, struct rte_mbuf *m, uint64_t tsc)
{
	(void)m;
	(void)tsc;
	assert_null(state);
	trace[trace_n++] = 'a';
	return TOE_HOOK_PASS;
}

static enum toe_hook_verdict trace_b(void *state, struct rte_mbuf *m, uint64_t tsc)
{
	(void)state;
	(void)m;
	(void)tsc;
	trace[trace_n++] = 'b';
	return TOE_HOOK_TX;
}

static enum toe_hook_verdict bad(void *state, struct rte_mbuf *m, uint64_t tsc)
{
	(void)state;
	(void)m;
	(void)tsc;
	return (enum toe_hook_verdict)77;
}

static const struct toe_segment_module count_module = {"count", sizeof(struct count), count_run,
						       count_init, count_fini};
static const struct toe_segment_module a_module = {.name = "a", .run = trace_a};
static const struct toe_segment_module b_module = {.name = "b", .run = trace_b};
static const struct toe_segment_module bad_module = {.name = "bad", .run = bad};

static void test_order_and_verdicts(void **state)
{
	struct toe_hook *h = toe_hook_create(NULL, 1);
	char name[16];

	(void)state;
	assert_false(toe_hook_active(h));
	assert_int_equal(toe_hook_run(h, 0, NULL, 0), TOE_HOOK_PASS);
	assert_int_equal(toe_hook_add(h, &b_module, NULL, TOE_HOOK_LAST), 0);
	assert_int_equal(toe_hook_add(h, &a_module, NULL, 0), 0);
	assert_int_equal(toe_hook_add(h, &a_module, NULL, 0), -EEXIST);
	assert_int_equal(toe_hook_add(h, &bad_module, NULL, TOE_HOOK_LAST), 0);
	assert_true(toe_hook_active(h));
	memset(trace, 0, sizeof(trace));
	trace_n = 0;
	assert_int_equal(toe_hook_run(h, 0, NULL, 0), TOE_HOOK_TX);
	assert_string_equal(trace, "ab"); /* b decided: the third is not asked */
	assert_int_equal(toe_hook_name(h, 1, name, sizeof(name)), 0);
	assert_string_equal(name, "b");
	assert_int_equal(toe_hook_name(h, 3, name, sizeof(name)), -ENOENT);
	assert_int_equal(toe_hook_del(h, "b"), 0);
	assert_int_equal(toe_hook_del(h, "b"), -ENOENT);
	assert_int_equal(toe_hook_run(h, 0, NULL, 0), TOE_HOOK_DROP); /* impossible verdict */
	assert_int_equal(toe_hook_del(h, "a"), 0);
	assert_int_equal(toe_hook_del(h, "bad"), 0);
	assert_false(toe_hook_active(h));
	toe_hook_free(h);
}

static void test_state_per_replica(void **state)
{
	struct toe_hook *h = toe_hook_create(NULL, 3);
	enum toe_hook_verdict pass = TOE_HOOK_PASS;

	(void)state;
	inited = finished = 0;
	init_fails_at = 2;
	assert_int_equal(toe_hook_add(h, &count_module, &pass, 0), -EPERM);
	assert_int_equal(inited, 2);
	assert_int_equal(finished, 2);
	init_fails_at = -1;
	assert_int_equal(toe_hook_add(h, &count_module, &pass, 0), 0);
	for (unsigned r = 0; r < 3; r++)
		assert_int_equal(toe_hook_run(h, r, NULL, 0), TOE_HOOK_PASS);
	toe_hook_free(h);
	assert_int_equal(finished, 5);
}

static void test_bounded(void **state)
{
	struct toe_hook *h = toe_hook_create(NULL, 1);
	struct toe_segment_module m[TOE_HOOK_MODULES_MAX + 1];
	char name[TOE_HOOK_MODULES_MAX + 1][8];

	(void)state;
	for (unsigned i = 0; i <= TOE_HOOK_MODULES_MAX; i++) {
		snprintf(name[i], sizeof(name[i]), "m%u", i);
		m[i] = (struct toe_segment_module){.name = name[i], .run = trace_a};
		assert_int_equal(toe_hook_add(h, &m[i], NULL, TOE_HOOK_LAST),
				 i < TOE_HOOK_MODULES_MAX ? 0 : -ENOSPC);
	}
	toe_hook_free(h);
}

struct reader {
	struct toe_hook *h;
	struct rte_rcu_qsbr *qsbr;
	_Atomic bool stop;
	uint64_t runs;
	uint64_t wrong;
};

static void *reader_main(void *arg)
{
	struct reader *r = arg;

	rte_rcu_qsbr_thread_online(r->qsbr, 0);
	while (!atomic_load(&r->stop)) {
		r->wrong += toe_hook_run(r->h, 0, NULL, 0) != TOE_HOOK_PASS;
		r->runs++;
		rte_rcu_qsbr_quiescent(r->qsbr, 0);
	}
	rte_rcu_qsbr_thread_offline(r->qsbr, 0);
	return NULL;
}

static void test_changes_under_traffic(void **state)
{
	static struct reader r;
	enum toe_hook_verdict pass = TOE_HOOK_PASS;
	pthread_t t;

	(void)state;
	r.qsbr = aligned_alloc(RTE_CACHE_LINE_SIZE, rte_rcu_qsbr_get_memsize(1));
	assert_int_equal(rte_rcu_qsbr_init(r.qsbr, 1), 0);
	rte_rcu_qsbr_thread_register(r.qsbr, 0);
	r.h = toe_hook_create(r.qsbr, 1);
	assert_int_equal(pthread_create(&t, NULL, reader_main, &r), 0);
	for (unsigned i = 0; i < 200; i++) {
		assert_int_equal(toe_hook_add(r.h, &count_module, &pass, 0), 0);
		assert_int_equal(toe_hook_del(r.h, "count"), 0);
	}
	atomic_store(&r.stop, true);
	pthread_join(t, NULL);
	assert_int_equal(r.wrong, 0); /* never ran a module that was finished or not yet ready */
	toe_hook_free(r.h);
	free(r.qsbr);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order_and_verdicts),
		cmocka_unit_test(test_state_per_replica),
		cmocka_unit_test(test_bounded),
		cmocka_unit_test(test_changes_under_traffic),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
