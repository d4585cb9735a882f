// SPDX-License-Identifier: BSD-3-Clause
/* LINK: datapath/stages/ctxq.c datapath/stages/ctxq_hint.c datapath/stages/ctxq_doorbell.c
 * datapath/apps.c common/closer.c datapath/sigbus.c common/log.c */
/* ctxq: line 0, accept rings, hints and wake-ups, coming and going, sleeping. */
#include "ctxq_rig.h"

/* ---- towards the application ---- */

static void test_passive(void **state)
{
	struct toe_listener *l;
	struct toe_slot *s;
	struct toe_work *w;

	(void)state;
	start();
	l = toe_app_listener(app, 1);
	l->ctx_mask = 5; /* contexts 0 and 2 */
	toe_app_context(app, 2)->waiting = 1;
	w = feed(install_item(CONN, SLOT, 1));
	assert_int_equal(w->snap.event, TOE_EV_INSTALLED);
	toe_work_free(&env.stage, w);
	s = toe_app_slot(app, SLOT);
	assert_int_equal(s->gen, 900 + CONN);
	assert_int_equal(s->state, TOE_SLOT_ESTABLISHED);
	assert_int_equal(l->prod, 1);
	assert_int_equal(toe_app_accept_ring(app, 1)[0], SLOT);
	assert_int_equal(take_hint(0), 1 | TOE_ID_LISTENER);
	assert_int_equal(take_hint(0), TOE_NONE);
	assert_int_equal(take_hint(1), TOE_NONE);
	assert_int_equal(rig_bytes(waiter[0]), 0);
	assert_int_equal(rig_bytes(waiter[2]), 1);
	assert_int_equal(toe_app_context(app, 2)->waiting, 0);
	stop();
}

/* The application has the slot of a connect(): it is hinted itself, and what it may have asked for
 * before is fetched. */
static void test_active(void **state)
{
	struct toe_work *w;

	(void)state;
	start();
	toe_app_slot(app, SLOT)->ctx_mask = 2;
	toe_app_slot(app, SLOT)->doorbell_pending = 1;
	feed_free(install_item(CONN, SLOT, TOE_NONE));
	assert_int_equal(take_hint(1), SLOT);
	assert_true(env.stage.ops->sleep(&env.stage, true));
	env.stage.ops->sleep(&env.stage, false);
	assert_int_equal(env.stage.ops->poll(&env.stage, 128), 1);
	w = rig_take(TOE_STAGE_DMA);
	assert_non_null(w);
	assert_int_equal(w->type, TOE_WORK_HC);
	assert_int_equal(w->cmd, TOE_HC_FETCH);
	assert_int_equal(w->conn, CONN);
	assert_int_equal(w->gen, GEN);
	assert_int_equal(w->fg, CONN % 4);
	assert_int_equal(w->hc.app_id, APP);
	assert_int_equal(w->hc.slot, SLOT);
	assert_int_equal(toe_app_slot(app, SLOT)->doorbell_pending, 0);
	toe_work_free(&env.stage, w);
	assert_false(env.stage.ops->sleep(&env.stage, true));
	stop();
}

static void test_accept_full(void **state)
{
	struct toe_work *w;

	(void)state;
	start();
	for (uint32_t i = 0; i < 17; i++) {
		w = feed(install_item(10 + i, 10 + i, 0));
		assert_int_equal(w->snap.event, i < 16 ? TOE_EV_INSTALLED : TOE_EV_ACCEPT_FULL);
		assert_int_equal(!!(w->todo & TOE_TODO_CTRL), i == 16);
		toe_work_free(&env.stage, w);
	}
	assert_int_equal(env.drops[TOE_D_ACCEPT_FULL], 1);
	toe_app_listener(app, 0)->cons = 1;
	feed_free(install_item(40, 40, 0));
	assert_int_equal(toe_app_accept_ring(app, 0)[0], 40);
	toe_app_listener(app, 0)->cons = 0xdeadbeef; /* a lie is a full ring */
	toe_app_listener(app, 0)->prod = 0xdeadbeef; /* and ours is not read */
	feed_free(install_item(41, 41, 0));
	assert_int_equal(env.drops[TOE_D_ACCEPT_FULL], 2);
	/* a listener that does not exist */
	w = feed(install_item(42, 42, RIG_LISTENERS));
	assert_int_equal(w->snap.event, TOE_EV_ACCEPT_FULL);
	toe_work_free(&env.stage, w);
	stop();
}

static void test_progress(void **state)
{
	struct toe_slot *s;

	(void)state;
	start();
	s = toe_app_slot(app, SLOT);
	install(CONN, SLOT);
	s->ctx_mask = 1;
	rx(100, 50, 0);
	assert_int_equal(s->rx_tail, 100);
	assert_int_equal(s->tx_head, 50);
	assert_int_equal(s->srtt_us, 123);
	assert_int_equal(s->cwnd_bytes, 14480);
	rx(200, 50, 0); /* one outstanding hint is enough */
	assert_int_equal(s->rx_tail, 200);
	assert_int_equal(take_hint(0), SLOT);
	assert_int_equal(take_hint(0), TOE_NONE);
	rx(200, 50, 0); /* nothing to see */
	assert_int_equal(take_hint(0), TOE_NONE);
	rx(150, 20, 0); /* never back, whatever stands in the region */
	assert_int_equal(s->rx_tail, 200);
	s->rx_tail = s->tx_head = 0x7fffffff;
	s->state = 0xffff;
	rx(201, 50, TOE_SLOT_RX_FIN);
	assert_int_equal(s->rx_tail, 201);
	assert_int_equal(s->tx_head, 50);
	assert_int_equal(s->state, TOE_SLOT_ESTABLISHED | TOE_SLOT_RX_FIN);
	rx(201, 50, TOE_SLOT_ERROR);
	assert_int_equal(s->error, ECONNRESET);
	assert_int_equal(s->state, TOE_SLOT_ESTABLISHED | TOE_SLOT_RX_FIN | TOE_SLOT_ERROR);
	stop();
}

/* Positions are modulo 2^32. */
static void test_wrap(void **state)
{
	struct toe_slot *s;

	(void)state;
	start();
	s = toe_app_slot(app, SLOT);
	install(CONN, SLOT);
	rx(0x7fffff00u, 0x7fffff00u, 0);
	rx(0xfffffe00u, 0xfffffe00u, 0);
	rx(0x100, 0x80, 0);
	assert_int_equal(s->rx_tail, 0x100);
	assert_int_equal(s->tx_head, 0x80);
	rx(0xfffffff0u, 0, 0);
	assert_int_equal(s->rx_tail, 0x100);
	stop();
}

static void test_life(void **state)
{
	struct toe_work *w;
	struct toe_slot *s;

	(void)state;
	start();
	s = toe_app_slot(app, SLOT);
	install(CONN, SLOT);
	rx(10, 0, 0);
	w = item(TOE_WORK_RX, CONN); /* of an earlier connection with this id */
	w->gen = GEN - 1;
	w->snap.rx_tail = 5000;
	feed_free(w);
	assert_int_equal(s->rx_tail, 10);
	assert_int_equal(env.drops[TOE_D_STALE], 1);
	s->ctx_mask = 1;
	w = item(TOE_WORK_CTRL, CONN);
	w->cmd = TOE_CMD_REMOVE;
	w->snap.rx_tail = 12;
	feed_free(w);
	assert_int_equal(s->state, TOE_SLOT_ESTABLISHED | TOE_SLOT_DEAD);
	assert_int_equal(s->rx_tail, 12);
	assert_int_equal(take_hint(0), SLOT);
	rx(99, 0, 0); /* too late */
	assert_int_equal(s->rx_tail, 12);
	ring(0, SLOT);
	env.stage.ops->poll(&env.stage, 128);
	assert_int_equal(env.drops[TOE_D_HC_NO_CONN], 1);
	/* the slot is handed out again */
	w = item(TOE_WORK_CTRL, TOE_NONE);
	w->cmd = TOE_CMD_SLOT_CLEAR;
	toe_work_ctrl(w)->cmd.slot =
		(struct toe_cmd_slot){.app_id = APP, .slot = SLOT, .gen = 1000};
	feed_free(w);
	assert_int_equal(s->gen, 1000);
	assert_int_equal(s->state | s->rx_tail | s->tx_head | s->error, 0);
	w = item(TOE_WORK_CTRL, TOE_NONE);
	w->cmd = TOE_CMD_SLOT_ERROR;
	toe_work_ctrl(w)->cmd.slot = (struct toe_cmd_slot){
		.app_id = APP, .slot = SLOT, .gen = 1000, .error = ECONNREFUSED};
	feed_free(w);
	assert_int_equal(s->state, TOE_SLOT_ERROR);
	assert_int_equal(s->error, ECONNREFUSED);
	assert_int_equal(take_hint(0), SLOT);
	stop();
}

static void test_foreign_slot_commands(void **state)
{
	static const uint16_t cmds[] = {TOE_CMD_SLOT_CLEAR, TOE_CMD_SLOT_ERROR};
	struct toe_slot *s;

	(void)state;
	start();
	s = toe_app_slot(app, SLOT);
	install(CONN, SLOT);
	for (unsigned i = 0; i < 2; i++) { /* the slot is in use by another generation */
		struct toe_work *w = item(TOE_WORK_CTRL, TOE_NONE);

		w->cmd = cmds[i];
		toe_work_ctrl(w)->cmd.slot =
			(struct toe_cmd_slot){.app_id = APP, .slot = SLOT, .gen = 1, .error = 5};
		feed_free(w);
		w = item(TOE_WORK_CTRL, TOE_NONE);
		w->cmd = cmds[i];
		toe_work_ctrl(w)->cmd.slot =
			(struct toe_cmd_slot){.app_id = APP, .slot = RIG_SLOTS, .gen = 1};
		feed_free(w);
		w = item(TOE_WORK_CTRL, TOE_NONE);
		w->cmd = TOE_CMD_LISTENER;
		toe_work_ctrl(w)->cmd.listener =
			(struct toe_cmd_listener){.app_id = i ? 3 : APP, .listener = 1000};
		feed_free(w);
	}
	assert_int_equal(s->state, TOE_SLOT_ESTABLISHED);
	assert_int_equal(s->gen, 900 + CONN);
	stop();
}

static void test_listener(void **state)
{
	struct toe_listener *l;
	struct toe_work *w;

	(void)state;
	start();
	l = toe_app_listener(app, 2);
	feed_free(install_item(CONN, SLOT, 2));
	l->cons = 77;
	w = item(TOE_WORK_CTRL, TOE_NONE);
	w->cmd = TOE_CMD_LISTENER;
	toe_work_ctrl(w)->cmd.listener =
		(struct toe_cmd_listener){.app_id = APP, .listener = 2, .open = 1};
	feed_free(w);
	assert_int_equal(l->prod | l->cons, 0);
	assert_int_equal(l->state, TOE_LISTENER_OPEN);
	feed_free(install_item(6, 8, 2));
	assert_int_equal(l->prod, 1);
	w = item(TOE_WORK_CTRL, TOE_NONE);
	w->cmd = TOE_CMD_LISTENER;
	toe_work_ctrl(w)->cmd.listener =
		(struct toe_cmd_listener){.app_id = APP, .listener = 2, .open = 0};
	feed_free(w);
	assert_int_equal(l->state, 0);
	assert_int_equal(l->prod, 1); /* what waits can still be fetched */
	stop();
}

/* A burst: order is kept, items without business pass, one byte per waiter. */
static void test_burst(void **state)
{
	struct toe_work *w[TOE_BURST];

	(void)state;
	start();
	install(CONN, SLOT);
	toe_app_slot(app, SLOT)->ctx_mask = 7;
	for (unsigned c = 0; c < 3; c++)
		toe_app_context(app, c)->waiting = UINT64_MAX; /* most have no socket */
	for (unsigned i = 0; i < TOE_BURST; i++) {
		w[i] = item(TOE_WORK_RX, CONN);
		w[i]->snap.rx_tail = i + 1;
		if (i % 4 == 3)
			w[i]->todo = TOE_TODO_SCHED;
	}
	env.stage.ops->process(&env.stage, w, TOE_BURST);
	assert_int_equal(env.emitted_n, TOE_BURST);
	for (unsigned i = 0; i < TOE_BURST; i++)
		assert_ptr_equal(env.emitted[i], w[i]);
	assert_int_equal(toe_app_slot(app, SLOT)->rx_tail, TOE_BURST - 1);
	for (unsigned c = 0; c < 3; c++)
		assert_int_equal(rig_bytes(waiter[c]), 1);
	stop();
}

/* ---- coming and going ---- */

static void test_gone(void **state)
{
	(void)state;
	start();
	install(CONN, SLOT);
	ring(1, SLOT);
	assert_int_equal(toe_app_proc_detach(&env.engine, APP, 1), 0);
	assert_int_equal(env.stage.ops->poll(&env.stage, 128), 0);
	toe_app_slot(app, SLOT)->ctx_mask = 2;
	rx(1, 0, 0);
	assert_int_equal(toe_app_slot(app, SLOT)->hint_pending, 0);
	ring(0, SLOT);
	assert_int_equal(toe_app_detach(&env.engine, APP), 0);
	assert_int_equal(env.stage.ops->poll(&env.stage, 128), 0);
	rx(2, 0, 0);
	assert_int_equal(env.drops[TOE_D_APP_GONE], 1);
	feed_free(install_item(9, 9, TOE_NONE));
	assert_int_equal(env.drops[TOE_D_APP_GONE], 2);
	stop();
}

static void test_sleep(void **state)
{
	(void)state;
	start();
	install(CONN, SLOT);
	assert_false(env.stage.ops->sleep(&env.stage, true));
	for (unsigned c = 0; c < 3; c++)
		assert_int_equal(toe_app_context(app, c)->engine_asleep, 1);
	assert_int_equal(toe_app_context(app, 3)->engine_asleep, 0);
	for (unsigned i = 0; i < 40; i++) /* a flood is taken in portions */
		assert_int_equal(send(kick[0], "", 1, MSG_DONTWAIT), 1);
	env.stage.ops->sleep(&env.stage, false);
	for (unsigned c = 0; c < 3; c++)
		assert_int_equal(toe_app_context(app, c)->engine_asleep, 0);
	env.stage.ops->sleep(&env.stage, false);
	env.stage.ops->sleep(&env.stage, false);
	assert_int_equal(recv(app->procs[0].kick_fd, &env, 1, MSG_DONTWAIT | MSG_PEEK), -1);
	assert_int_equal(rig.watched, 3);
	ring(2, SLOT);
	assert_true(env.stage.ops->sleep(&env.stage, true));
	env.stage.ops->sleep(&env.stage, false);
	env.stage.ops->poll(&env.stage, 128);
	assert_false(env.stage.ops->sleep(&env.stage, true));
	/* a socket that has ended would never let the lcore sleep again */
	close(kick[1]);
	env.stage.ops->sleep(&env.stage, false);
	assert_int_equal(rig.watched, 2);
	assert_int_equal(rig.unwatched, app->procs[1].kick_fd);
	stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_passive),
		cmocka_unit_test(test_active),
		cmocka_unit_test(test_accept_full),
		cmocka_unit_test(test_progress),
		cmocka_unit_test(test_wrap),
		cmocka_unit_test(test_life),
		cmocka_unit_test(test_foreign_slot_commands),
		cmocka_unit_test(test_listener),
		cmocka_unit_test(test_burst),
		cmocka_unit_test(test_gone),
		cmocka_unit_test(test_sleep),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
