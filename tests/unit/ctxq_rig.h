/* SPDX-License-Identifier: BSD-3-Clause */
/* An application with three contexts under a ctxq stage: what its unit tests share. */
#ifndef TEST_CTXQ_RIG_H
#define TEST_CTXQ_RIG_H

#include "ctxq.h"
#include "host_rig.h"

#define APP  2u
#define CONN 5u
#define GEN  40u
#define SLOT 7u

static struct toe_app *app;
static int kick[3];   /* application's ends of contexts 0..2 */
static int waiter[3]; /* of waiter 0 of each */

static inline void start(void)
{
	rig_engine(64, 0);
	app = rig_attach(APP);
	for (unsigned c = 0; c < 3; c++) {
		kick[c] = rig_proc(APP, c);
		waiter[c] = rig_waiter(APP, c, 0);
	}
	rig_stage(&toe_stage_ctxq);
}

static inline void stop(void)
{
	rig_clear();
	assert_int_equal(env.live, 0);
	for (unsigned c = 0; c < 3; c++) {
		close(kick[c]);
		close(waiter[c]);
	}
	rig_stop();
}

static inline struct toe_work *item(enum toe_work_type type, uint32_t conn)
{
	struct toe_work *w = toe_work_alloc(&env.stage, type);

	memset(&w->snap, 0, sizeof(w->snap));
	w->conn = conn;
	w->gen = GEN;
	w->todo = TOE_TODO_CTXQ | TOE_TODO_SCHED;
	return w;
}

static inline struct toe_work *feed(struct toe_work *w)
{
	env.stage.ops->process(&env.stage, &w, 1);
	assert_ptr_equal(rig_take(TOE_STAGE_N), w);
	assert_false(w->todo & TOE_TODO_CTXQ);
	return w;
}

static inline void feed_free(struct toe_work *w)
{
	toe_work_free(&env.stage, feed(w));
}

static inline struct toe_work *install_item(uint32_t conn, uint32_t slot, uint32_t listener)
{
	struct toe_work *w = item(TOE_WORK_CTRL, conn);

	w->cmd = TOE_CMD_INSTALL;
	w->snap.event = TOE_EV_INSTALLED;
	toe_work_ctrl(w)->cmd.install = (struct toe_cmd_install){
		.app_id = APP, .slot = slot, .slot_gen = 900 + conn, .listener = listener};
	env.engine.flow_post[conn].app_id = APP;
	env.engine.flow_post[conn].slot = slot;
	return w;
}

static inline void install(uint32_t conn, uint32_t slot)
{
	feed_free(install_item(conn, slot, TOE_NONE));
	env.stage.ops->poll(&env.stage, 128); /* the fetch that comes with it */
	rig_clear();
}

static inline void rx(uint32_t rx_tail, uint32_t tx_head, uint32_t state)
{
	struct toe_work *w = item(TOE_WORK_RX, CONN);

	w->snap.rx_tail = rx_tail;
	w->snap.tx_head = tx_head;
	w->snap.state = state;
	w->snap.error = state & TOE_SLOT_ERROR ? ECONNRESET : 0;
	w->snap.srtt_us = 123;
	w->snap.cwnd = 14480;
	feed_free(w);
}

/* As libtoe: the next hint of a context, its bit cleared; TOE_NONE if none. */
static inline uint32_t take_hint(unsigned ctx)
{
	struct toe_context *c = toe_app_context(app, ctx);
	uint32_t id;

	if (c->hint_cons == __atomic_load_n(&c->hint_prod, __ATOMIC_ACQUIRE))
		return TOE_NONE;
	id = toe_app_hints(app, ctx)[c->hint_cons & (app->hint_n - 1)];
	__atomic_store_n(&c->hint_cons, c->hint_cons + 1, __ATOMIC_RELEASE);
	if (id & TOE_ID_LISTENER)
		__atomic_fetch_and(&toe_app_listener(app, id & ~TOE_ID_LISTENER)->hint_pending,
				   ~(UINT64_C(1) << ctx), __ATOMIC_SEQ_CST);
	else
		__atomic_fetch_and(&toe_app_slot(app, id)->hint_pending, ~(UINT64_C(1) << ctx),
				   __ATOMIC_SEQ_CST);
	return id;
}

static inline void ring(unsigned ctx, uint32_t slot)
{
	struct toe_context *c = toe_app_context(app, ctx);

	toe_app_doorbells(app, ctx)[c->doorbell_prod & (app->doorbell_n - 1)] = slot;
	__atomic_store_n(&c->doorbell_prod, c->doorbell_prod + 1, __ATOMIC_RELEASE);
}

#endif
