// SPDX-License-Identifier: BSD-3-Clause
/* LINK: datapath/stages/ctxq.c datapath/stages/ctxq_hint.c datapath/stages/ctxq_doorbell.c
 * datapath/apps.c common/closer.c datapath/sigbus.c common/log.c */
/* ctxq and applications that lie, ring without end, never wake, or have no room. */
#include "ctxq_rig.h"

static void test_hostile_hints(void **state)
{
	struct toe_context *c;

	(void)state;
	start();
	install(CONN, SLOT);
	toe_app_slot(app, SLOT)->ctx_mask = UINT64_MAX; /* contexts that are not attached */
	c = toe_app_context(app, 0);
	c->hint_cons = 0x80000000u;
	rx(1, 0, 0);
	assert_int_equal(env.drops[TOE_D_HINT_FULL], 1);
	/* the bit is not left behind: it works again as soon as the ring is in order */
	assert_int_equal(toe_app_slot(app, SLOT)->hint_pending & 7, 6);
	c->hint_cons = 0;
	rx(2, 0, 0);
	assert_int_equal(take_hint(0), SLOT);
	assert_int_equal(toe_app_context(app, 3)->hint_prod, 0);
	c->hint_prod = 0x12345678; /* not believed */
	toe_app_slot(app, SLOT)->hint_pending = 0;
	rx(3, 0, 0);
	assert_int_equal(c->hint_prod, 2);
	stop();
}

static void test_hostile_doorbells(void **state)
{
	struct toe_context *c;

	(void)state;
	start();
	install(CONN, SLOT);
	c = toe_app_context(app, 0);
	ring(0, RIG_SLOTS);
	ring(0, UINT32_MAX);
	ring(0, SLOT);
	assert_int_equal(env.stage.ops->poll(&env.stage, 128), 3);
	assert_int_equal(env.drops[TOE_D_HC_INVALID], 2);
	assert_int_equal(env.emitted_n, 1);
	rig_clear();
	c->doorbell_prod += 65; /* more than the ring has */
	assert_int_equal(env.stage.ops->poll(&env.stage, 128), 1);
	assert_int_equal(env.emitted_n, 0);
	assert_int_equal(env.drops[TOE_D_HC_INVALID], 1);
	assert_int_equal(env.stage.ops->poll(&env.stage, 128), 0);
	ring(0, SLOT); /* in step again */
	assert_int_equal(env.stage.ops->poll(&env.stage, 128), 1);
	assert_int_equal(env.emitted_n, 1);
	c->doorbell_cons = 4711; /* ours is not read */
	assert_int_equal(env.stage.ops->poll(&env.stage, 128), 0);
	stop();
}

/* The stream stage waits for this one, for all its connections. */
static void sync_item(void)
{
	struct toe_work *w = toe_work_alloc(&env.stage, TOE_WORK_HC);

	w->conn = CONN;
	w->cookie = TOE_HC_SYNC;
	w->hc = (struct toe_hc){.app_id = APP, .slot = SLOT};
	env.stage.ops->process(&env.stage, &w, 1);
}

/* Comes back behind the doorbells that were there, and comes back whatever a ring's position says
 * meanwhile. */
static void test_hostile_sync(void **state)
{
	static const uint32_t lies[] = {5, 0x7fffffff, 0x80000000, 0xffffffff};
	struct toe_context *c;

	(void)state;
	start();
	install(CONN, SLOT);
	c = toe_app_context(app, 1);
	for (unsigned i = 0; i < 20; i++) /* more than one turn takes */
		ring(1, SLOT);
	sync_item();
	env.stage.ops->poll(&env.stage, 1);
	for (unsigned i = 0; i < env.emitted_n; i++)
		assert_int_not_equal(env.emitted[i]->cookie, TOE_HC_SYNC);
	env.stage.ops->poll(&env.stage, 128);
	assert_int_equal(env.emitted[env.emitted_n - 1]->cookie, TOE_HC_SYNC);
	assert_int_equal(env.emitted_n, 21);
	rig_clear();
	for (unsigned i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		uint32_t was = c->doorbell_prod;

		c->doorbell_prod = was + lies[i];
		sync_item();
		c->doorbell_prod = was;
		env.stage.ops->poll(&env.stage, 128);
		env.stage.ops->poll(&env.stage, 128);
		assert_int_equal(env.emitted_n, 1);
		assert_int_equal(env.emitted[0]->cookie, TOE_HC_SYNC);
		rig_clear();
	}
	stop();
}

/* Random writes all over the control segment, and the engine's own work goes on. */
static void test_fuzz(void **state)
{
	uint32_t r = 12345;

	(void)state;
	start();
	install(CONN, SLOT);
	for (unsigned round = 0; round < 3000; round++) {
		for (unsigned i = 0; i < 200; i++) {
			r = r * 1664525u + 1013904223u;
			((uint32_t *)app->control)[(r >> 4) % (app->control_bytes / 4)] = r;
		}
		toe_app_context(app, round % 3)->doorbell_prod =
			app->procs[round % 3].doorbell_cons + r % 80;
		rx(round + 1, round, 0);
		assert_true(env.stage.ops->poll(&env.stage, 64) < 64 + 64);
		assert_int_equal(toe_app_slot(app, SLOT)->rx_tail, round + 1);
		rig_clear();
	}
	for (unsigned c = 0; c < 3; c++)
		rig_bytes(waiter[c]);
	stop();
}

/* One that rings all the time gets its share. */
static void test_fair(void **state)
{
	unsigned mine = 0;

	(void)state;
	start();
	install(CONN, SLOT);
	install(6, 8);
	env.stage.ops->poll(&env.stage, 128);
	for (unsigned i = 0; i < 64; i++)
		ring(0, SLOT);
	for (unsigned i = 0; i < 4; i++)
		ring(2, 8);
	env.stage.ops->poll(&env.stage, 20);
	for (unsigned i = 0; i < env.emitted_n; i++)
		mine += env.emitted[i]->conn == 6;
	assert_int_equal(mine, 4);
	assert_true(env.emitted_n <= 20 + 16);
	stop();
}

/* Many contexts of one application are one application. */
static void test_fair_by_application(void **state)
{
	const uint32_t other = APP + 1;
	struct toe_app *b;
	struct toe_context *c;
	unsigned mine = 0;
	int victim;

	(void)state;
	start();
	b = rig_attach(other);
	victim = rig_proc(other, 0);
	install(CONN, SLOT);
	b->own[3].conn = 6;
	env.stage.ops->poll(&env.stage, 128);
	for (unsigned ctx = 0; ctx < 3; ctx++)
		for (unsigned i = 0; i < 64; i++)
			ring(ctx, SLOT);
	c = toe_app_context(b, 0);
	for (; c->doorbell_prod < 64; c->doorbell_prod++)
		toe_app_doorbells(b, 0)[c->doorbell_prod & (b->doorbell_n - 1)] = 3;
	env.stage.ops->poll(&env.stage, 64);
	for (unsigned i = 0; i < env.emitted_n; i++)
		mine += env.emitted[i]->conn == 6;
	assert_int_equal(mine, env.emitted_n / 2);
	close(victim);
	stop();
}

/* All fetches of one connection go to one dma replica, whatever their number. */
static void test_one_replica(void **state)
{
	(void)state;
	start();
	install(CONN, SLOT);
	for (unsigned i = 0; i < 5; i++)
		ring(0, SLOT);
	env.stage.ops->poll(&env.stage, 64);
	assert_int_equal(env.emitted_n, 5);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(env.emitted[i]->out_seq, CONN);
	stop();
}

/* One segment must not cost as many system calls as an application can have sleepers. */
static void test_wakes_are_bounded(void **state)
{
	int more[40];
	unsigned woken = 0;
	unsigned turns = 0;

	(void)state;
	start();
	install(CONN, SLOT);
	toe_app_slot(app, SLOT)->ctx_mask = 7;
	for (unsigned i = 0; i < 40; i++)
		more[i] = rig_waiter(APP, 1, i + 1);
	toe_app_context(app, 1)->waiting = UINT64_MAX;
	rx(1, 0, 0);
	for (unsigned i = 0; i < 40; i++)
		woken += rig_bytes(more[i]) > 0;
	assert_true(woken > 0 && woken <= 8);
	assert_true(env.stage.ops->sleep(&env.stage, true)); /* there is more to do */
	while (env.stage.ops->poll(&env.stage, 32) != 0)
		turns++;
	assert_true(turns >= 4 && turns < 10);
	for (unsigned i = 0; i < 40; i++) {
		woken += rig_bytes(more[i]) > 0;
		close(more[i]);
	}
	assert_int_equal(woken, 40);
	assert_int_equal(toe_app_context(app, 1)->waiting, 0);
	assert_false(env.stage.ops->sleep(&env.stage, true));
	stop();
}

/* Descriptors in a kick socket are not taken: closing them could take as long as somebody likes. */
static void test_descriptors_in_kick(void **state)
{
	char ctrl[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec iov = {"x", 1};
	struct msghdr mh = {.msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = ctrl,
			    .msg_controllen = sizeof(ctrl)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&mh);
	unsigned before;
	int pair[2];
	char b;

	(void)state;
	start();
	env.stage.ops->poll(&env.stage, 8);
	before = rig.watched;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &pair[1], sizeof(int));
	assert_int_equal(send(kick[0], "k", 1, 0), 1);
	assert_int_equal(sendmsg(kick[0], &mh, 0), 1);
	close(pair[1]);
	env.stage.ops->sleep(&env.stage, true);
	env.stage.ops->sleep(&env.stage, false);
	assert_int_equal(rig.watched, before - 1);
	/* still in flight, hence still open */
	assert_int_equal(recv(pair[0], &b, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	close(pair[0]);
	stop();
}

static void test_no_item(void **state)
{
	(void)state;
	start();
	install(CONN, SLOT);
	toe_app_slot(app, SLOT)->doorbell_pending = 1;
	ring(0, SLOT);
	toe_app_redo(app, SLOT);
	env.alloc_left = 0;
	assert_int_equal(env.stage.ops->poll(&env.stage, 128), 0);
	assert_int_equal(toe_app_slot(app, SLOT)->doorbell_pending, 1);
	env.alloc_left = 10;
	assert_int_equal(env.stage.ops->poll(&env.stage, 128), 2);
	assert_int_equal(toe_app_slot(app, SLOT)->doorbell_pending, 0);
	stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hostile_hints),
		cmocka_unit_test(test_hostile_doorbells),
		cmocka_unit_test(test_hostile_sync),
		cmocka_unit_test(test_fuzz),
		cmocka_unit_test(test_fair),
		cmocka_unit_test(test_fair_by_application),
		cmocka_unit_test(test_one_replica),
		cmocka_unit_test(test_wakes_are_bounded),
		cmocka_unit_test(test_descriptors_in_kick),
		cmocka_unit_test(test_no_item),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
