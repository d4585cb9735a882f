// SPDX-License-Identifier: BSD-3-Clause
/* LINK: datapath/stages/sched.c datapath/sched_wheel.c common/log.c */
/* sched: permissions and their return, pacing by CC, REMOVE that waits, exhaustion, deadlines. */
#include "pipeline.h"
#include "stage_env.h"

#define CONN 5u
#define MSS  1000u

static struct toe_work *item(enum toe_work_type type, uint16_t cmd, uint32_t sendable)
{
	struct toe_work *w = toe_work_alloc(&env.stage, type);

	assert_non_null(w);
	w->conn = CONN;
	w->gen = 9;
	w->cmd = cmd;
	w->todo = TOE_TODO_SCHED | TOE_TODO_CTRL;
	w->snap.sendable = sendable;
	return w;
}

/* The item passes through the stage, without its bit. */
static void pass(struct toe_work *w)
{
	unsigned n = env.emitted_n;

	toe_stage_sched.process(&env.stage, &w, 1);
	assert_int_equal(env.emitted_n, n + 1);
	assert_int_equal(env.to[n], TOE_STAGE_N);
	assert_ptr_equal(env.emitted[n], w);
	assert_false(w->todo & TOE_TODO_SCHED);
	env.emitted_n = n;
	toe_work_free(&env.stage, w);
}

static void install(uint32_t sendable)
{
	struct toe_work *w = item(TOE_WORK_CTRL, TOE_CMD_INSTALL, sendable);

	toe_work_ctrl(w)->cmd.install.mss = MSS;
	pass(w);
}

static void start(void)
{
	env_start(&toe_stage_sched, 16, 0);
	env.now.tsc = rte_get_tsc_hz();
}

static unsigned poll(unsigned budget)
{
	unsigned i, n;

	env_clear();
	n = toe_stage_sched.poll(&env.stage, budget);
	assert_int_equal(env.emitted_n, n);
	for (i = 0; i < n; i++) {
		assert_int_equal(env.to[i], TOE_STAGE_SEQ);
		assert_int_equal(env.emitted[i]->type, TOE_WORK_TX);
		assert_int_equal(env.emitted[i]->conn, CONN);
		assert_int_equal(env.emitted[i]->gen, 9);
		assert_int_equal(env.emitted[i]->fg, CONN % 4);
	}
	return n;
}

/* TX item i of the last poll comes back. */
static void come_back(unsigned i, uint32_t sendable)
{
	struct toe_work *w = env.emitted[i];

	w->todo = TOE_TODO_SCHED;
	w->snap.sendable = sendable;
	pass(w);
}

static void test_permissions(void **state)
{
	unsigned n;

	(void)state;
	start();
	install(0);
	assert_int_equal(poll(32), 0);
	assert_true(toe_stage_sched.deadline(&env.stage) == UINT64_MAX);
	pass(item(TOE_WORK_HC, 0, 2 * MSS + 1));
	assert_true(toe_stage_sched.deadline(&env.stage) <= env.now.tsc);
	assert_int_equal(poll(2), 2); /* the budget */
	come_back(0, MSS + 1);        /* one sent; one under way and one more to give */
	n = env.emitted_n;
	assert_int_equal(n, 2);
	struct toe_work *second = env.emitted[1];
	assert_int_equal(poll(32), 1);
	struct toe_work *third = env.emitted[0];
	assert_int_equal(poll(32), 0);
	second->todo = TOE_TODO_SCHED;
	second->snap.sendable = 0;
	pass(second);
	assert_int_equal(poll(32), 0);
	assert_int_equal(env.engine.flow_sched[CONN].inflight, 1);
	toe_work_free(&env.stage, third);
	env_stop();
}

static void test_unrelated_items_pass(void **state)
{
	struct toe_work *w;

	(void)state;
	start();
	install(0);
	w = item(TOE_WORK_RX, 0, 5000);
	w->todo = TOE_TODO_CTRL; /* on its way to ctrl: its snapshot is not for us */
	pass(w);
	assert_int_equal(poll(32), 0);
	w = item(TOE_WORK_RX, 0, 5000);
	w->gen = 8; /* an earlier use of the id */
	pass(w);
	assert_int_equal(poll(32), 0);
	w = item(TOE_WORK_CTRL, TOE_CMD_PORT, 5000);
	w->conn = TOE_NONE;
	pass(w);
	env_stop();
}

static void test_pacing(void **state)
{
	struct toe_work *w;
	uint64_t tsc, hz = rte_get_tsc_hz();
	unsigned n = 0;

	(void)state;
	start();
	install(1u << 30);
	w = item(TOE_WORK_CTRL, TOE_CMD_CC, 1u << 30);
	toe_work_ctrl(w)->cmd.cc.rate_bps = 8000000; /* 1000 segments/s */
	pass(w);
	for (tsc = env.now.tsc; env.now.tsc < tsc + hz; env.now.tsc += hz / 100000) {
		if (poll(32) == 0)
			continue;
		while (env.emitted_n > 0) {
			n++;
			env.emitted_n--;
			come_back(env.emitted_n, 1u << 30);
		}
	}
	assert_in_range(n, 950, 1050);
	w = item(TOE_WORK_CTRL, TOE_CMD_CC, 1u << 30);
	toe_work_ctrl(w)->cmd.cc.rate_bps = 0;
	pass(w);
	env.now.tsc += hz;
	assert_int_equal(poll(32), 0);
	w = item(TOE_WORK_CTRL, TOE_CMD_CC, 1u << 30);
	toe_work_ctrl(w)->cmd.cc.rate_bps = TOE_RATE_UNPACED;
	w->verdict = TOE_NOTHING; /* proto found it out of date */
	pass(w);
	assert_int_equal(poll(32), 0);
	env_stop();
}

static void test_remove_waits(void **state)
{
	struct toe_work *tx[2], *remove;

	(void)state;
	start();
	install(2 * MSS);
	assert_int_equal(poll(32), 2);
	tx[0] = env.emitted[0];
	tx[1] = env.emitted[1];
	remove = item(TOE_WORK_CTRL, TOE_CMD_REMOVE, 0);
	env_clear();
	toe_stage_sched.process(&env.stage, &remove, 1);
	assert_int_equal(env.emitted_n, 0);
	tx[0]->todo = TOE_TODO_SCHED;
	tx[0]->snap.sendable = 50 * MSS; /* must not bring the flow back */
	pass(tx[0]);
	assert_int_equal(poll(32), 0);
	tx[1]->todo = TOE_TODO_SCHED;
	env_clear();
	toe_stage_sched.process(&env.stage, &tx[1], 1);
	assert_int_equal(env.emitted_n, 2);
	assert_ptr_equal(env.emitted[0], remove);
	assert_int_equal(remove->todo, TOE_TODO_CTRL);
	toe_work_free(&env.stage, remove);
	toe_work_free(&env.stage, tx[1]);
	env_clear();
	install(MSS); /* the id is used again */
	assert_int_equal(poll(32), 1);
	come_back(0, 0);
	pass(item(TOE_WORK_CTRL, TOE_CMD_REMOVE, 0)); /* nothing under way: at once */
	assert_int_equal(env.live, 0);
	env_stop();
}

/* The time of a paced flow's next turn is where the REMOVE waits. */
static void test_remove_paced(void **state)
{
	struct toe_work *w, *remove;

	(void)state;
	start();
	for (unsigned round = 0; round < 2; round++) {
		install(1u << 20);
		w = item(TOE_WORK_CTRL, TOE_CMD_CC, 1u << 20);
		toe_work_ctrl(w)->cmd.cc.rate_bps = 8000000;
		pass(w);
		env.now.tsc += rte_get_tsc_hz();
		assert_in_range(poll(1), 1, 1);
		w = env.emitted[0];
		assert_true(env.engine.flow_sched[CONN].next_tsc != 0);
		remove = item(TOE_WORK_CTRL, TOE_CMD_REMOVE, 0);
		env_clear();
		toe_stage_sched.process(&env.stage, &remove, 1);
		assert_int_equal(env.emitted_n, 0);
		if (round == 1)
			break; /* the stage ends with one that waits */
		w->todo = TOE_TODO_SCHED;
		toe_stage_sched.process(&env.stage, &w, 1);
		assert_int_equal(env.emitted_n, 2);
		assert_ptr_equal(env.emitted[0], remove);
		toe_work_free(&env.stage, remove);
		toe_work_free(&env.stage, w);
	}
	toe_work_free(&env.stage, w);
	toe_stage_sched.fini(&env.stage);
	assert_int_equal(env.live, 0);
	assert_int_equal(toe_stage_sched.init(&env.stage), 0);
	/* paced, and gone with nothing under way */
	install(1u << 20);
	w = item(TOE_WORK_CTRL, TOE_CMD_CC, 1u << 20);
	toe_work_ctrl(w)->cmd.cc.rate_bps = 8000000;
	pass(w);
	assert_in_range(poll(1), 1, 1);
	come_back(0, 0);
	pass(item(TOE_WORK_CTRL, TOE_CMD_REMOVE, 0));
	assert_null(env.engine.flow_sched[CONN].held);
	assert_int_equal(env.live, 0);
	env_stop();
}

static void test_limits(void **state)
{
	static struct toe_work *out[1024];
	unsigned n = 0, got;

	(void)state;
	start();
	install(1u << 30);
	env.alloc_left = 10;
	assert_int_equal(poll(32), 10);
	memcpy(out, env.emitted, sizeof(out[0]) * 10);
	n = 10;
	assert_int_equal(env.drops[TOE_D_NO_ITEM], 1);
	/* try again soon, but not at once */
	assert_true(toe_stage_sched.deadline(&env.stage) > env.now.tsc);
	assert_true(toe_stage_sched.deadline(&env.stage) < env.now.tsc + rte_get_tsc_hz() / 1000);
	env.alloc_left = UINT32_MAX;
	while ((got = poll(32)) != 0) {
		memcpy(out + n, env.emitted, sizeof(out[0]) * got);
		n += got;
	}
	assert_int_equal(n, 512);
	assert_true(toe_stage_sched.deadline(&env.stage) == UINT64_MAX);
	env_clear();
	while (n > 0) {
		out[--n]->todo = TOE_TODO_SCHED;
		out[n]->snap.sendable = 0;
		pass(out[n]);
	}
	assert_int_equal(env.engine.flow_sched[CONN].inflight, 0);
	assert_int_equal(env.live, 0);
	env_stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_permissions),  cmocka_unit_test(test_unrelated_items_pass),
		cmocka_unit_test(test_pacing),       cmocka_unit_test(test_remove_waits),
		cmocka_unit_test(test_remove_paced), cmocka_unit_test(test_limits),
	};

	return cmocka_run_group_tests(tests, env_eal, NULL);
}
