/* SPDX-License-Identifier: BSD-3-Clause */
/* LINK: tests/unit/mqtt_broker.h */
/* The MQTT stage and what libtoe tells it: clients that the stage cannot read, a configuration that
 * the broker has read again.  (Sessions from before: test_mqtt_restore.c.) */
#include <errno.h>
#include <stdio.h>

#include "mqtt_pair.h"

/* A client through the kernel that libtoe reads along: only topics it subscribes to are slow, not
 * on closed filters, until it leaves; the others' copies do not depend on it. */
static void kernel_followed(void **state)
{
	struct rig r;
	struct pair p = start_pair(&r);
	struct pair q = p;

	(void)state;
	q.pub.n = 0;
	rig_subscribe(&r, p.to, "other", 0, 0);
	rig_forget(&r);
	rig_publish(&q.pub, 4, "other", NULL, "y", 1);
	fake_set_app(r.f, FAKE_APP, 1, 1); /* accepted */
	publish(&r, &p);
	assert_int_equal(rig_slow(&r, MQTT_R_KERNEL), 1);
	fake_followed(r.f, 1);
	assert_int_equal(news(&r, "7 0 5 1 6162"), 0);
	publish(&r, &p);
	assert_int_equal(rig_slow(&r, MQTT_R_FAST), 1);
	assert_int_equal(news(&r, "7 0 5 2 0174"), 0); /* subscribes to t */
	publish(&r, &p);
	assert_int_equal(rig_slow(&r, MQTT_R_KERNEL), 2);
	publish(&r, &q);
	assert_int_equal(rig_slow(&r, MQTT_R_FAST), 2);
	order(&r, "filter_add", "!#");
	publish(&r, &p);
	assert_int_equal(rig_slow(&r, MQTT_R_FAST), 3);
	order(&r, "filter_add", "#");
	publish(&r, &p);
	assert_int_equal(rig_slow(&r, MQTT_R_KERNEL), 3);
	/* a second one that is not followed */
	fake_set_app(r.f, FAKE_APP, 1, 2);
	publish(&r, &q);
	assert_int_equal(rig_slow(&r, MQTT_R_KERNEL), 4);
	fake_set_app(r.f, FAKE_APP, 1, 1);
	assert_int_equal(news(&r, "7 0 5 3 "), 0); /* ends */
	fake_followed(r.f, 0);
	fake_set_app(r.f, FAKE_APP, 1, 0);
	publish(&r, &p);
	assert_int_equal(rig_slow(&r, MQTT_R_FAST), 4);
	/* its process dies */
	fake_followed(r.f, 1);
	fake_set_app(r.f, FAKE_APP, 1, 1);
	assert_int_equal(news(&r, "7 0 6 1 "), 0);
	assert_int_equal(news(&r, "7 0 6 2 0174"), 0);
	publish(&r, &p);
	assert_int_equal(rig_slow(&r, MQTT_R_KERNEL), 5);
	fake_followed(r.f, 0);
	fake_set_app(r.f, FAKE_APP, 1, 0);
	assert_int_equal(news(&r, "7 0 0 9 "), 0);
	publish(&r, &p);
	assert_int_equal(rig_slow(&r, MQTT_R_FAST), 5);
	rig_stop(&r);
}

/* Encrypted, in the pipeline, beside one through the kernel. */
static void plain_followed(void **state)
{
	struct rig r;
	struct pair p = start_pair(&r);

	(void)state;
	fake_plain(r.f, 1, 0);
	publish(&r, &p);
	assert_int_equal(rig_slow(&r, MQTT_R_OTHER_PORT), 1);
	fake_plain(r.f, 1, 1);
	assert_int_equal(news(&r, "7 0 5 1 6162"), 0);
	publish(&r, &p);
	assert_int_equal(rig_slow(&r, MQTT_R_FAST), 1);
	fake_set_app(r.f, FAKE_APP, 1, 1);
	publish(&r, &p);
	assert_int_equal(rig_slow(&r, MQTT_R_KERNEL), 1);
	fake_followed(r.f, 1);
	assert_int_equal(news(&r, "7 0 6 1 63"), 0);
	publish(&r, &p);
	assert_int_equal(rig_slow(&r, MQTT_R_FAST), 2);
	assert_int_equal(news(&r, "7 0 5 2 0174"), 0); /* subscribes to t */
	publish(&r, &p);
	assert_int_equal(rig_slow(&r, MQTT_R_KERNEL), 2);
	/* its connection is gone before the broker has closed it: nobody else has its place */
	fake_plain(r.f, 1, 0);
	publish(&r, &p);
	assert_int_equal(rig_slow(&r, MQTT_R_OTHER_PORT), 2);
	assert_int_equal(news(&r, "7 0 5 3 "), 0);
	fake_plain(r.f, 0, 0);
	publish(&r, &p);
	assert_int_equal(rig_slow(&r, MQTT_R_FAST), 3);
	rig_stop(&r);
}

/* So many clients through the kernel, and each is followed. */
static void there(struct rig *r, uint32_t n)
{
	fake_set_app(r->f, FAKE_APP, 1, n);
	fake_followed(r->f, n);
}

/* A session that lasts, through the kernel: begun, left, resumed; then one at the port. */
static void kernel_lasts(void **state)
{
	struct rig r;
	struct pair p = start_pair(&r);
	uint32_t sessions = rig_stage(&r)->session_used;

	(void)state;
	there(&r, 1);
	assert_int_equal(news(&r, "7 0 1 6 6162"), -ESRCH); /* nobody knows it */
	assert_int_equal(news(&r, "7 0 1 7 6162"), 0);      /* there was none */
	assert_int_equal(news(&r, "7 0 1 2 0174"), 0);
	publish(&r, &p);
	assert_int_equal(rig_slow(&r, MQTT_R_KERNEL), 1);
	assert_int_equal(news(&r, "7 0 1 3 "), 0);
	there(&r, 0);
	publish(&r, &p); /* offline, and messages have QoS 0 */
	assert_int_equal(rig_slow(&r, MQTT_R_FAST), 1);
	assert_int_equal(rig_stage(&r)->session_used, sessions + 1);
	there(&r, 1);
	assert_int_equal(news(&r, "7 0 2 6 6162"), 0);
	publish(&r, &p);
	assert_int_equal(rig_slow(&r, MQTT_R_KERNEL), 2);
	/* the broker has lost it: begun anew, with nothing */
	assert_int_equal(news(&r, "7 0 2 3 "), 0);
	assert_int_equal(news(&r, "7 0 3 7 6162"), 0);
	publish(&r, &p);
	assert_int_equal(rig_slow(&r, MQTT_R_FAST), 2);
	/* it goes on unseen: whatever it has, nobody knows */
	assert_int_equal(news(&r, "7 0 3 3 01"), 0);
	assert_int_equal(news(&r, "7 0 4 6 6162"), -ESRCH);
	/* names that no client can have */
	assert_true(news(&r, "7 0 5 7 610062") < 0);
	assert_true(news(&r, "7 0 5 1 00000000000000000500000000000000") < 0);
	assert_int_equal(news(&r, "7 0 5 7 "), 0);
	assert_int_equal(news(&r, "7 0 5 3 "), 0);
	assert_int_equal(rig_stage(&r)->session_used, sessions);
	there(&r, 0);
	rig_stop(&r);
}

static uint64_t fast_of(struct rig *r, struct pair *p)
{
	uint64_t before = rig_slow(r, MQTT_R_FAST);

	publish(r, p);
	return rig_slow(r, MQTT_R_FAST) - before;
}

/* From one connection to the next, of which the broker closes the first too late: what was
 * subscribed there goes along, and its end is about nothing. */
static void kernel_moves(void **state)
{
	static const char *const begins[] = {"7 0 1 7 6162", "7 0 1 6 6162"};

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct rig r;
		struct pair p = start_pair(&r);

		fake_followed(r.f, 1);
		if (i == 1) { /* one that was offline */
			assert_int_equal(news(&r, "7 0 9 7 6162"), 0);
			assert_int_equal(news(&r, "7 0 9 2 0178"), 0);
			assert_int_equal(news(&r, "7 0 9 3 "), 0);
		}
		assert_int_equal(news(&r, begins[i]), 0);
		assert_int_equal(news(&r, "7 0 1 2 0174"), 0); /* t */
		fake_followed(r.f, 2);
		assert_int_equal(news(&r, "7 0 2 6 6162"), 0);
		assert_int_equal(news(&r, "7 0 1 3 "), 0);
		fake_followed(r.f, 1);
		assert_int_equal(fast_of(&r, &p), 0);
		/* it leaves, and comes back with all of it */
		assert_int_equal(news(&r, "7 0 2 3 "), 0);
		fake_followed(r.f, 0);
		assert_int_equal(fast_of(&r, &p), 1);
		fake_followed(r.f, 1);
		assert_int_equal(news(&r, "7 0 3 6 6162"), 0);
		assert_int_equal(fast_of(&r, &p), 0);
		/* begun anew beside it: with nothing, also when the old one ends */
		fake_followed(r.f, 2);
		assert_int_equal(news(&r, "7 0 4 7 6162"), 0);
		assert_int_equal(news(&r, "7 0 3 3 "), 0);
		assert_int_equal(news(&r, "7 0 4 3 "), 0);
		fake_followed(r.f, 1);
		assert_int_equal(news(&r, "7 0 5 6 6162"), 0);
		assert_int_equal(fast_of(&r, &p), 1);
		/* taken over by one that nobody reads: what it has then nobody knows, whoever ends
		 */
		assert_int_equal(news(&r, "7 0 6 8 6162"), 0);
		assert_int_equal(news(&r, "7 0 5 3 "), 0);
		assert_int_equal(news(&r, "7 0 7 6 6162"), -ESRCH);
		/* the same of a new one */
		assert_int_equal(news(&r, "7 0 8 7 6162"), 0);
		assert_int_equal(news(&r, "7 0 9 8 6162"), 0);
		assert_int_equal(news(&r, "7 0 8 3 "), 0);
		assert_int_equal(news(&r, "7 0 9 6 6162"), -ESRCH);
		fake_followed(r.f, 0);
		rig_stop(&r);
	}
}

/* The broker has given it to a client of the port behind the one that is told of, or before: nobody
 * can tell. */
static void kernel_late(void **state)
{
	static const char *const late[] = {"7 0 1 8 77686f", "7 0 1 7 77686f", "7 0 1 1 77686f"};

	(void)state;
	for (unsigned i = 0; i < COUNT(late); i++) {
		struct rig r;
		uint32_t id;

		rig_start(&r, "#", 1000);
		fake_set_app(r.f, FAKE_APP, 1, 1);
		fake_followed(r.f, 1);
		id = rig_connect(&r, 4, "who", false, 0);
		assert_int_equal(rig_stage(&r)->unknown_n, 0);
		assert_int_equal(news(&r, late[i]), 0);
		assert_int_equal(rig_stage(&r)->unknown_n, 1);
		broker_gone(r.b, id);
		fake_close(r.f, id);
		assert_int_equal(rig_stage(&r)->unknown_n, 0);
		rig_stop(&r);
	}
}

/* Its ClientID had a session here: what it is subscribed to when it is resumed nobody knows. */
static void kernel_takes_session(void **state)
{
	struct rig r;
	uint32_t id;

	(void)state;
	rig_start(&r, "#", 1000);
	id = rig_connect(&r, 5, "who", false, 0);
	broker_gone(r.b, id);
	fake_close(r.f, id);
	fake_set_app(r.f, FAKE_APP, 1, 1);
	fake_followed(r.f, 1);
	assert_int_equal(news(&r, "7 0 1 1 77686f"), 0);
	assert_int_equal(news(&r, "7 0 1 3 "), 0);
	rig_connect(&r, 5, "who", false, 0);
	assert_int_equal(rig_stage(&r)->unknown_n, 1);
	rig_stop(&r);
}

/* Of a session that is online at the port: taken over by a client that is not followed, it may have
 * anything when it comes back; so may every one if nobody knows which it was. */
static void kernel_missed(void **state)
{
	static const char *const how[] = {"7 0 1 6 77686f", "7 0 1 8 77686f", "7 0 1 8 "};

	(void)state;
	for (unsigned i = 0; i < COUNT(how); i++) {
		struct rig r;
		uint32_t id;

		rig_start(&r, "#", 1000);
		id = rig_connect(&r, 4, "who", false, 0);
		assert_int_equal(news(&r, "7 0 3 6 "), -ESRCH); /* of nobody */
		assert_int_equal(news(&r, how[i]), i == 0 ? -ESRCH : 0);
		broker_gone(r.b, id);
		fake_close(r.f, id);
		assert_int_equal(news(&r, "7 0 2 6 77686f"), -ESRCH);
		id = rig_connect(&r, 4, "who", false, 0);
		assert_int_equal(rig_stage(&r)->unknown_n, 1);
		broker_gone(r.b, id);
		fake_close(r.f, id);
		/* begun anew, it is known, and stays so */
		id = rig_connect(&r, 4, "who", true, 0);
		broker_gone(r.b, id);
		fake_close(r.f, id);
		id = rig_connect(&r, 4, "who", false, 0);
		broker_gone(r.b, id);
		fake_close(r.f, id);
		rig_connect(&r, 4, "who", false, 0);
		assert_int_equal(rig_stage(&r)->unknown_n, 0);
		rig_stop(&r);
	}
}

/* Two brokers in one application: nothing of one is delivered to clients of the other, which taint.
 * A process that has gone is none of them. */
static void two_processes(void **state)
{
	struct rig r;
	uint32_t id;
	struct pair p;

	(void)state;
	p = start_pair(&r);
	fake_set_users(r.f, 2);
	rig_connect(&r, 4, "first", true, 0);
	fake_set_users(r.f, 2 | 8);
	rig_connect(&r, 4, "child", true, 0);
	assert_int_equal(rig_stage(&r)->lost_n, 0);
	fake_set_users(r.f, 4);
	id = rig_connect(&r, 4, "second", true, 0);
	assert_int_equal(rig_stage(&r)->lost_n, 1);
	fake_client_write(r.f, p.from, p.pub.b, p.pub.n);
	rig_run(&r);
	assert_int_equal(rig_slow(&r, MQTT_R_UNTRACKED), 1);
	broker_gone(r.b, id);
	fake_close(r.f, id);
	assert_int_equal(rig_stage(&r)->lost_n, 0);
	assert_int_equal(news(&r, "7 1 0 9 "), 0);
	assert_int_equal(news(&r, "7 3 0 9 "), 0);
	rig_connect(&r, 4, "next", true, 0);
	assert_int_equal(rig_stage(&r)->lost_n, 0);
	rig_stop(&r);
}

/* The stage follows another broker meanwhile: what it was told before is gone. */
static void kernel_forgotten(void **state)
{
	struct rig r;
	struct pair p;

	(void)state;
	rig_start(&r, "#", 1000);
	fake_set_app(r.f, FAKE_APP, 1, 1);
	fake_followed(r.f, 1);
	assert_int_equal(news(&r, "7 0 1 1 "), 0); /* before any client of the engine's */
	fake_set_app(r.f, FAKE_APP + 1, 2, 0);
	assert_int_equal(news(&r, "8 0 1 8 "), -ESRCH); /* that is no client of a broker's */
	assert_int_equal(rig_stage(&r)->app_id, FAKE_APP);
	fake_close(r.f, fake_open(r.f));
	fake_set_app(r.f, FAKE_APP, 1, 1);
	p.from = rig_connect(&r, 4, "pub", true, 0);
	p.to = rig_connect(&r, 4, "sub", true, 0);
	rig_subscribe(&r, p.to, "t", 0, 0);
	rig_forget(&r);
	p.pub.n = 0;
	rig_publish(&p.pub, 4, "t", NULL, "x", 1);
	publish(&r, &p);
	assert_int_equal(rig_slow(&r, MQTT_R_KERNEL), 1);
	assert_true(news(&r, "7 0 1 2 0174") < 0); /* so libtoe gives it up */
	assert_true(news(&r, "7 0 1 3 01") < 0);
	fake_followed(r.f, 0);
	fake_set_app(r.f, FAKE_APP, 1, 0);
	publish(&r, &p);
	assert_int_equal(rig_slow(&r, MQTT_R_FAST), 1);
	rig_stop(&r);
}

static void kernel_news_refused(void **state)
{
	static const char *const bad[] = {"",           "7 0 1",      "7 0 1 1 6",
					  "7 0 1 1 6x", "8 0 1 1 61", "7 0 9 2 61",
					  "7 0 9 3 ",   "7 0 1 1 zz", "7 0 1 8 zz"};
	char text[32];
	struct rig r;
	uint32_t n = 0;

	(void)state;
	rig_start(&r, "#", 1000);
	rig_connect(&r, 5, "any", false, 0);
	for (unsigned i = 0; i < COUNT(bad); i++)
		assert_true(news(&r, bad[i]) < 0);
	fake_followed(r.f, 1);
	do
		snprintf(text, sizeof(text), "7 0 %u 1 ", n++);
	while (news(&r, text) == 0);
	assert_in_range(n, 2, MQTT_KERNEL_MAX + 1);
	assert_int_equal(news(&r, "7 0 1 2 05612f232f620163"),
			 0); /* a/#/b: the broker refuses it; c */
	fake_followed(r.f, 0);
	assert_int_equal(news(&r, "7 0 0 9 "), 0);
	assert_int_equal(rig_stage(&r)->kernel_n, 0);
	rig_stop(&r);
}

/* The broker is told to read its configuration again: nothing is fast, not on closed filters
 * either, until libtoe or an operator has looked at it; the mode stays what it was. */
static void reloaded(void **state)
{
	static const char *const after[][2] = {{"rechecked", ""}, {"mode", "on"}};
	struct rig r;
	struct pair p = start_pair(&r);

	(void)state;
	order(&r, "filter_add", "!#");
	for (unsigned i = 0; i < COUNT(after); i++) {
		uint64_t slow = rig_slow(&r, MQTT_R_RELOAD), fast = rig_slow(&r, MQTT_R_FAST);

		publish(&r, &p);
		assert_int_equal(rig_slow(&r, MQTT_R_FAST), fast + 1);
		fake_reload(r.f);
		publish(&r, &p);
		order(&r, "mode", "suspend"); /* no word about the configuration */
		order(&r, "status", "");
		assert_int_equal(rig_slow(&r, MQTT_R_RELOAD), slow + 1);
		publish(&r, &p);
		assert_int_equal(rig_slow(&r, MQTT_R_RELOAD), slow + 2);
		order(&r, "rechecked", "");
		publish(&r, &p);
		assert_int_equal(rig_slow(&r, MQTT_R_SUSPENDED), i + 1);
		order(&r, "mode", "on");
		fake_reload(r.f);
		order(&r, after[i][0], after[i][1]);
		publish(&r, &p);
		assert_int_equal(rig_slow(&r, MQTT_R_FAST), fast + 2);
	}
	/* libtoe has looked */
	fake_reload(r.f);
	assert_int_equal(news(&r, "7 0 0 5 612e62"), 0); /* a.b */
	status_has(&r, "\"reloaded\":true,\"blocker\":\"a.b\"");
	publish(&r, &p);
	assert_int_equal(rig_slow(&r, MQTT_R_RELOAD), 5);
	fake_reload(r.f); /* again: what was found was found before */
	status_has(&r, "\"reloaded\":true,\"blocker\":\"\"");
	assert_int_equal(news(&r, "7 0 0 5 "), 0);
	status_has(&r, "\"reloaded\":false,\"blocker\":\"\"");
	publish(&r, &p);
	assert_int_equal(rig_slow(&r, MQTT_R_RELOAD), 5);
	/* one that is started anew is looked at by toe run */
	assert_false(mqtt_decide_reloaded(rig_stage(&r)));
	rig_stop(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kernel_followed),
		cmocka_unit_test(plain_followed),
		cmocka_unit_test(kernel_lasts),
		cmocka_unit_test(kernel_takes_session),
		cmocka_unit_test(kernel_news_refused),
		cmocka_unit_test(kernel_forgotten),
		cmocka_unit_test(two_processes),
		cmocka_unit_test(kernel_missed),
		cmocka_unit_test(reloaded),
		cmocka_unit_test(kernel_moves),
		cmocka_unit_test(kernel_late),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
