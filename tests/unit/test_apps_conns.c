// SPDX-License-Identifier: BSD-3-Clause
/* LINK: datapath/apps.c common/closer.c datapath/sigbus.c datapath/keeper_link.c common/ctl_sock.c
 * common/log.c */
/* apps, keeper_link: connections of applications that no stage reads, counted, and told to the
 * module. */
#include <pthread.h>

#include "common/ctl_sock.h"
#include "host_rig.h"
#include "keeper_link.h"
#include "stream.h"

static int kernel_conn(uint32_t ctx, int32_t delta)
{
	const struct toe_ctl_kconn k = {.app_id = 1, .ctx = ctx, .delta = delta};

	return toe_app_kernel_conn(&env.engine, &k);
}

static int reload(uint32_t ctx)
{
	const struct toe_ctl_kconn k = {.app_id = 1, .ctx = ctx, .flags = TOE_KCONN_RELOAD};

	return toe_app_kernel_conn(&env.engine, &k);
}

static struct toe_stream_ask asked;
static char asked_arg[256];
static int answer;

int toe_stream_control(struct toe_engine *e, const char *module, struct toe_stream_ask *ask,
		       unsigned timeout_ms)
{
	(void)e;
	(void)timeout_ms;
	assert_string_equal(module, "mqtt");
	asked = *ask;
	snprintf(asked_arg, sizeof(asked_arg), "%s", ask->arg);
	return answer;
}

static int news_of(uint32_t slot1, uint16_t what, const char *data)
{
	struct toe_ctl_msg m;

	toe_ctl_init(&m, TOE_CTL_DP_KERNEL_CONN);
	m.u.kconn = (struct toe_ctl_kconn){.app_id = 1,
					   .conn = 9,
					   .slot1 = slot1,
					   .what = what,
					   .len = (uint16_t)strlen(data)};
	memcpy(m.u.kconn.data, data, strlen(data));
	toe_keeper_link_handle(&env.engine, &m, NULL, 0);
	return m.status;
}

static int news(uint16_t what, const char *data)
{
	return news_of(0, what, data);
}

/* With one process, and a stage that takes everything. */
static struct toe_app *one_app(void)
{
	struct toe_app *a;

	rig_engine(4, 0);
	a = rig_attach(1);
	close(rig_proc(1, 0));
	answer = 0;
	return a;
}

static int proc_gone(void)
{
	struct toe_ctl_msg m;

	toe_ctl_init(&m, TOE_CTL_DP_PROC_GONE);
	m.u.app.app_id = 1;
	toe_keeper_link_handle(&env.engine, &m, NULL, 0);
	return m.status;
}

/* News of connections of the kernel's reach the module; no more are followed than there are. */
static void test_kernel_news(void **state)
{
	struct toe_app *a;

	(void)state;
	rig_engine(4, 0);
	a = rig_attach(1);
	close(rig_proc(1, 0));
	assert_int_equal(news(TOE_KCONN_MQTT_CONNECT, "ab"), -EINVAL);
	assert_int_equal(kernel_conn(0, 1), 0);
	assert_int_equal(news(TOE_KCONN_MQTT_CONNECT, "ab"), 0);
	assert_string_equal(asked.what, "kernel");
	assert_string_equal(asked_arg, "1 0 9 1 6162");
	assert_int_equal(a->followed, 1);
	assert_int_equal(news(TOE_KCONN_MQTT_FILTER, "t/#"), 0);
	assert_string_equal(asked_arg, "1 0 9 2 742f23");
	assert_int_equal(kernel_conn(0, -1), -EINVAL); /* it is said to be followed */
	answer = -ENOSPC;
	assert_int_equal(news(TOE_KCONN_MQTT_FILTER, "t"), -ENOSPC);
	assert_int_equal(news(TOE_KCONN_MQTT_END, ""), 0);
	assert_int_equal(a->followed, 0);
	assert_int_equal(news(TOE_KCONN_MQTT_END, ""), 0); /* again */
	assert_int_equal(a->followed, 0);
	assert_int_equal(news(TOE_KCONN_MQTT_CONNECT, ""), -ENOSPC); /* the stage has no room */
	assert_int_equal(news(TOE_KCONN_MQTT_RESUME, "ab"), -ENOSPC);
	assert_int_equal(a->followed, 0);
	assert_int_equal(news(TOE_KCONN_MQTT_LAST + 1, ""), -EINVAL);
	answer = 0;
	assert_int_equal(news(TOE_KCONN_MQTT_RESTORE, "ab"), 0); /* no connection */
	assert_string_equal(asked_arg, "1 0 9 4 6162");
	assert_int_equal(a->followed, 0);
	assert_int_equal(news(TOE_KCONN_MQTT_RESUME, ""), 0);
	assert_int_equal(a->followed, 1);
	assert_int_equal(toe_app_proc_detach(&env.engine, 1, 0), 0);
	assert_int_equal(a->followed, 0);
	rig_stop();
}

/* Connections in the pipeline that no module has: followed one by one, whichever end comes first.
 */
static void test_plain_news(void **state)
{
	const uint16_t begin = TOE_KCONN_MQTT_CONNECT, end = TOE_KCONN_MQTT_END;
	struct toe_app *a = one_app();

	(void)state;
	assert_int_equal(news_of(3, begin, "ab"), -ENODEV); /* a module has it */
	assert_int_equal(news_of(a->slot_n + 1, begin, "ab"), -EINVAL);
	toe_app_plain_add(a, 2, true);
	toe_app_plain_add(a, 3, true);
	assert_int_equal(news_of(3, begin, "ab"), 0);
	assert_string_equal(asked_arg, "1 0 9 1 6162");
	assert_int_equal(news_of(3, begin, "ab"), -ENODEV); /* it is already */
	assert_int_equal(a->plain_conns * 10 + a->plain_unseen, 21);
	assert_int_equal(a->followed, 0);
	/* the application first */
	assert_int_equal(news_of(3, end, ""), 0);
	assert_int_equal(a->plain_conns * 10 + a->plain_unseen, 22);
	/* the stage has no room; then TCP first */
	answer = -ENOSPC;
	assert_int_equal(news_of(3, begin, ""), -ENOSPC);
	answer = 0;
	assert_int_equal(a->plain_unseen, 2);
	assert_int_equal(news_of(3, begin, ""), 0);
	toe_app_plain_del(a, 2);
	assert_int_equal(a->plain_conns * 10 + a->plain_unseen, 11);
	assert_int_equal(news_of(3, end, ""), 0);
	assert_int_equal(a->plain_conns * 10 + a->plain_unseen, 11);
	assert_int_equal(news_of(3, begin, "ab"), -ENODEV); /* and what it still reads? */
	assert_string_equal(asked_arg, "1 0 9 8 6162");
	/* its process is gone, the connection not yet */
	assert_int_equal(news_of(4, begin, ""), 0);
	assert_int_equal(a->plain_conns * 10 + a->plain_unseen, 10);
	assert_int_equal(proc_gone(), 0);
	assert_string_equal(asked_arg, "1 0 0 9 ");
	assert_int_equal(a->plain_conns * 10 + a->plain_unseen, 11);
	toe_app_plain_del(a, 3);
	assert_int_equal(a->plain_conns + a->plain_unseen, 0);
	rig_stop();
}

/* Told before it comes, or before it is known not to come; never unseen between. */
static void test_plain_early(void **state)
{
	const uint16_t begin = TOE_KCONN_MQTT_BRIDGE, end = TOE_KCONN_MQTT_END;
	struct toe_app *a = one_app();

	(void)state;
	assert_int_equal(news_of(3, begin, ""), 0);
	assert_string_equal(asked_arg, "1 0 9 10 ");
	assert_int_equal(a->plain_conns * 10 + a->plain_unseen, 10);
	toe_app_plain_add(a, 2, true);
	assert_int_equal(a->plain_conns * 10 + a->plain_unseen, 10);
	assert_int_equal(news_of(3, end, ""), 0);
	assert_int_equal(a->plain_conns * 10 + a->plain_unseen, 11);
	toe_app_plain_del(a, 2);
	/* it does not come, and the slot is somebody else's */
	assert_int_equal(news_of(3, begin, ""), 0);
	assert_int_equal(news_of(3, end, ""), 0);
	toe_app_plain_add(a, 2, true);
	assert_int_equal(a->plain_conns * 10 + a->plain_unseen, 11);
	toe_app_plain_del(a, 2);
	/* nobody took it back, and the slot is that of one that was accepted */
	assert_int_equal(news_of(3, begin, ""), 0);
	toe_app_plain_add(a, 2, false);
	assert_int_equal(a->plain_conns * 10 + a->plain_unseen, 11);
	assert_int_equal(news_of(3, end, ""), 0);
	assert_int_equal(a->plain_conns * 10 + a->plain_unseen, 11);
	/* it is there already */
	assert_int_equal(news_of(3, begin, ""), 0);
	assert_int_equal(a->plain_conns * 10 + a->plain_unseen, 10);
	assert_int_equal(news_of(3, begin, ""), -ENODEV);
	toe_app_plain_del(a, 2);
	/* the stage does not want it; the process dies before it comes */
	answer = -ENOSPC;
	assert_int_equal(news_of(3, begin, ""), -ENOSPC);
	assert_int_equal(a->plain_conns, 0);
	answer = 0;
	assert_int_equal(news_of(4, begin, ""), 0);
	assert_int_equal(proc_gone(), 0);
	toe_app_plain_add(a, 2, true);
	toe_app_plain_add(a, 3, true);
	assert_int_equal(a->plain_conns * 10 + a->plain_unseen, 22);
	toe_app_plain_del(a, 2);
	toe_app_plain_del(a, 3);
	assert_int_equal(a->plain_conns + a->plain_unseen, 0);
	rig_stop();
}

static void test_kernel_conns(void **state)
{
	struct toe_app *a;

	(void)state;
	rig_engine(4, 0);
	a = rig_attach(1);
	assert_int_equal(kernel_conn(0, 1), -ESRCH);
	close(rig_proc(1, 0));
	close(rig_proc(1, 5));
	assert_int_equal(kernel_conn(0, 2), 0);
	assert_int_equal(kernel_conn(5, 3), 0);
	assert_int_equal(a->kernel_conns, 5);
	/* nobody gives back what another process has, or has more than can be */
	assert_int_equal(kernel_conn(0, -3), -EINVAL);
	assert_int_equal(kernel_conn(0, INT32_MIN), -EINVAL);
	assert_int_equal(kernel_conn(0, INT32_MAX), -EINVAL);
	assert_int_equal(kernel_conn(TOE_CTX_N, 1), -ESRCH);
	assert_int_equal(a->kernel_conns, 5);
	assert_int_equal(kernel_conn(0, -2), 0);
	assert_int_equal(a->kernel_conns, 3);
	assert_int_equal(a->reloads, 0);
	assert_int_equal(reload(0), 0);
	assert_int_equal(a->kernel_conns, 3);
	assert_int_equal(a->reloads, 1);
	assert_int_equal(toe_app_proc_detach(&env.engine, 1, 5), 0);
	assert_int_equal(a->kernel_conns, 0);
	close(rig_proc(1, 5)); /* the next one starts with none */
	assert_int_equal(kernel_conn(5, -1), -EINVAL);
	rig_stop();
}

static void *count_one(void *arg)
{
	assert_int_equal(kernel_conn(0, 1), 0);
	atomic_store((_Atomic bool *)arg, true);
	return NULL;
}

/* The answer may only go out when no lcore still works with the old count. */
static void test_kernel_conns_wait(void **state)
{
	const struct timespec nap = {.tv_nsec = 20000000};
	_Atomic bool done = false;
	struct toe_app *a;
	pthread_t t;

	(void)state;
	rig_engine(4, 0);
	a = rig_attach(1);
	close(rig_proc(1, 0));
	env.engine.qsbr = aligned_alloc(RTE_CACHE_LINE_SIZE, rte_rcu_qsbr_get_memsize(1));
	assert_int_equal(rte_rcu_qsbr_init(env.engine.qsbr, 1), 0);
	rte_rcu_qsbr_thread_register(env.engine.qsbr, 0);
	rte_rcu_qsbr_thread_online(env.engine.qsbr, 0);
	assert_int_equal(pthread_create(&t, NULL, count_one, &done), 0);
	while (atomic_load(&a->kernel_conns) != 1)
		sched_yield();
	nanosleep(&nap, NULL); /* enough for a thread that does not wait */
	assert_false(atomic_load(&done));
	rte_rcu_qsbr_quiescent(env.engine.qsbr, 0);
	pthread_join(t, NULL);
	assert_true(atomic_load(&done));
	/* fewer: nobody has to wait */
	assert_int_equal(kernel_conn(0, -1), 0);
	free(env.engine.qsbr);
	env.engine.qsbr = NULL;
	rig_stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kernel_news),       cmocka_unit_test(test_plain_news),
		cmocka_unit_test(test_plain_early),       cmocka_unit_test(test_kernel_conns),
		cmocka_unit_test(test_kernel_conns_wait),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
