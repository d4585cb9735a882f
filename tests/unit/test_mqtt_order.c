/* SPDX-License-Identifier: BSD-3-Clause */
/* LINK: tests/unit/mqtt_broker.h */
/* The MQTT stage's rules of order, one each, against a broker played by hand: what test_mqtt_model
 * meets once in thousands of runs, and what it cannot tell from being merely slow. */
#include "mqtt_stage_rig.h"

struct two {
	struct rig r;
	uint32_t from, to;
};

static void start(struct two *t)
{
	rig_start(&t->r, "#", 1000);
	t->from = rig_connect(&t->r, 4, "pub", true, 0);
	t->to = rig_connect(&t->r, 4, "sub", true, 0);
}

/* And sub has subscribed to t. */
static void start_subscribed(struct two *t)
{
	start(t);
	rig_subscribe(&t->r, t->to, "t", 0, 0);
	rig_forget(&t->r);
}

/* So has another one. */
static uint32_t start_two(struct two *t)
{
	uint32_t other;

	start_subscribed(t);
	other = rig_connect(&t->r, 4, "other", true, 0);
	rig_subscribe(&t->r, other, "t", 0, 0);
	rig_forget(&t->r);
	return other;
}

/* The broker writes to a client. */
static void says(struct two *t, uint32_t id, const char *b, size_t n)
{
	fake_app_write(t->r.f, id, b, n);
}

static void publishes(struct two *t, const char *payload, bool retain)
{
	struct pk p = {.n = 0};

	rig_publish(&p, 4, "t", NULL, payload, strlen(payload));
	p.b[0] |= retain;
	fake_client_write(t->r.f, t->from, p.b, p.n);
}

static void asks(struct two *t, uint32_t id, unsigned first, unsigned pid)
{
	struct pk p = {.n = 0};

	pk_u16(&p, pid);
	pk_str(&p, "t");
	if (first == 0x82)
		pk_u8(&p, 0);
	rig_write(&t->r, id, first, &p);
	fake_settle(t->r.f);
}

static uint64_t fast(struct two *t)
{
	return rig_slow(&t->r, MQTT_R_FAST);
}

static uint8_t sub_state(struct two *t)
{
	uint32_t s = mqtt_subs_first(rig_stage(&t->r)->subs, rig_conn(&t->r, t->to)->session);

	return mqtt_subs_get(rig_stage(&t->r)->subs, s)->state;
}

/* SUBACK alone does not make a subscription active: retained messages may follow. */
static void active_by_proof(void **state)
{
	struct two t;

	(void)state;
	start(&t);
	asks(&t, t.to, 0x82, 7);
	says(&t, t.to, "\x90\x03\x00\x07\x00", 5);
	fake_settle(t.r.f);
	publishes(&t, "x", false);
	fake_settle(t.r.f);
	assert_int_equal(rig_slow(&t.r, MQTT_R_PENDING), 1);
	says(&t, t.to, "\xd0\x00", 2);
	fake_settle(t.r.f);
	assert_int_equal(sub_state(&t), MQTT_S_ACTIVE);
	rig_stop(&t.r);
}

/* The broker is behind when it handles SUBSCRIBE: its retained messages leave with the next live
 * message, so a PINGRESP proves nothing before one has come. */
static void retained_held_back(void **state)
{
	static char fill[1u << 20];
	struct two t;

	(void)state;
	start(&t);
	fill[0] = 0x30;
	fill[1] = (char)0xfc;
	fill[2] = (char)0xff;
	fill[3] = 0x3f; /* a PUBLISH of 2^20 - 4 bytes */
	asks(&t, t.to, 0x82, 7);
	says(&t, t.to, fill, sizeof(fill));
	says(&t, t.to, "\x90", 1); /* does not fit: a short write */
	fake_settle(t.r.f);
	fake_client_read(t.r.f, t.to, NULL, SIZE_MAX);
	says(&t, t.to, "\x90\x03\x00\x07\x00\xd0\x00", 7);
	for (unsigned i = 0; i < 3; i++) {
		fake_settle(t.r.f);
		assert_int_equal(sub_state(&t), MQTT_S_PENDING);
		says(&t, t.to, "\xd0\x00", 2);
	}
	fake_settle(t.r.f);
	says(&t, t.to, "\x31\x04\x00\x01tR", 6);
	fake_settle(t.r.f);
	assert_int_equal(sub_state(&t), MQTT_S_PENDING);
	says(&t, t.to, "\xd0\x00", 2);
	fake_settle(t.r.f);
	assert_int_equal(sub_state(&t), MQTT_S_ACTIVE);
	rig_stop(&t.r);
}

/* UNSUBACK waits for what was decided before it. */
static void unsuback_last(void **state)
{
	struct two t;
	struct pk want = {.n = 0};

	(void)state;
	start_subscribed(&t);
	publishes(&t, "x", false);
	fake_offer(t.r.f, t.from, SIZE_MAX);
	assert_int_equal(fast(&t), 1);
	rig_unsubscribed(&t.r, t.to);
	assert_int_equal(bytes_n(&t.r.got[t.to]), 0);
	fake_settle(t.r.f);
	rig_publish(&want, 4, "t", NULL, "x", 1);
	pk_raw(&want, "\xb0\x02\x00\x08", 4);
	rig_expect(&t.r, t.to, &want);
	rig_stop(&t.r);
}

/* The publisher's proof is noticed before what the broker wrote to the subscriber earlier. */
static void proof_overtakes_delivery(void **state)
{
	struct two t;
	struct pk want = {.n = 0};

	(void)state;
	start_subscribed(&t);
	publishes(&t, "1", true);
	publishes(&t, "2", false);
	fake_settle(t.r.f);
	rig_publish(&want, 4, "t", NULL, "1", 1);
	says(&t, t.from, "\x40\x02\x00\x09", 4); /* rings, and is not handled yet */
	says(&t, t.to, (const char *)want.b, want.n);
	says(&t, t.from, "\xd0\x00", 2);
	fake_hc(t.r.f); /* both of the publisher's */
	fake_fetch(t.r.f, t.from, SIZE_MAX);
	for (unsigned i = 0; i < 4; i++) {
		fake_poll(t.r.f, 64);
		fake_offer(t.r.f, t.from, SIZE_MAX);
	}
	fake_settle(t.r.f);
	rig_publish(&want, 4, "t", NULL, "2", 1);
	rig_expect(&t.r, t.to, &want);
	assert_int_equal(fast(&t), 1);
	rig_stop(&t.r);
}

/* A session that is resumed has to be proven again. */
static void resumed_is_pending(void **state)
{
	struct two t;

	(void)state;
	start(&t);
	broker_gone(t.r.b, t.to);
	fake_close(t.r.f, t.to);
	t.to = rig_connect(&t.r, 4, "keep", false, 0);
	rig_subscribe(&t.r, t.to, "t", 1, 0);
	broker_gone(t.r.b, t.to);
	fake_close(t.r.f, t.to);
	t.to = fake_open(t.r.f);
	fake_client_write(t.r.f, t.to, "\x10\x10\x00\x04MQTT\x04\x00\x00\x00\x00\x04keep", 18);
	fake_settle(t.r.f);
	says(&t, t.to, "\x20\x02\x01\x00", 4);
	fake_settle(t.r.f);
	publishes(&t, "x", false);
	fake_settle(t.r.f);
	assert_int_equal(rig_slow(&t.r, MQTT_R_PENDING), 1);
	says(&t, t.to, "\xd0\x00", 2);
	fake_settle(t.r.f);
	assert_int_equal(sub_state(&t), MQTT_S_ACTIVE);
	rig_stop(&t.r);
}

/* Keep alive asks a third time: the second answer is the second question's. */
static void third_question(void **state)
{
	struct two t;

	(void)state;
	start(&t);
	rig_conn(&t.r, t.to)->keep_alive_s = 8;
	t.from = t.to;
	for (unsigned i = 0; i < 3; i++) {
		if (i == 2) {
			asks(&t, t.to, 0x82, 7);
			says(&t, t.to, "\x90\x03\x00\x07\x00", 5);
			fake_settle(t.r.f);
		}
		fake_time(t.r.f, 1001);
		publishes(&t, "x", false);
		if (i == 2) /* somebody else's topic: fast */
			t.from = t.to;
		fake_offer(t.r.f, t.to, SIZE_MAX);
		fake_poll(t.r.f, 64);
	}
	assert_true(rig_conn(&t.r, t.to)->ping_n >= 2);
	says(&t, t.to, "\xd0\x00", 2);
	fake_settle(t.r.f);
	assert_int_equal(sub_state(&t), MQTT_S_PENDING);
	says(&t, t.to, "\xd0\x00", 2);
	fake_settle(t.r.f);
	assert_int_equal(sub_state(&t), MQTT_S_PENDING);
	rig_stop(&t.r);
}

/* The broker has read what the publisher sent, and its answer to a PINGREQ behind it has come. */
static void slow_is_done(struct two *t)
{
	char any[256];

	while (fake_app_read(t->r.f, t->from, any, sizeof(any)) > 0)
		;
	rig_conn(&t->r, t->from)->proven = rig_conn(&t->r, t->from)->events;
}

/* The broker has one byte more for a client than its buffer takes. */
static void block(struct two *t, uint32_t id)
{
	static char fill[(1u << 20) + 1] = {0x30, (char)0xfd, (char)0xff, 0x3f};

	says(t, id, fill, sizeof(fill));
	fake_hc(t->r.f);
	fake_settle(t->r.f);
	assert_int_equal(rig_conn(&t->r, id)->blocked, 1);
}

/* The broker writes the rest, and its answer to PINGREQ behind it. */
static void unblock(struct two *t, uint32_t id)
{
	fake_client_read(t->r.f, id, NULL, SIZE_MAX);
	fake_settle(t->r.f);
	says(t, id, "\0\xd0\0", 3);
	fake_settle(t->r.f);
	if (rig_conn(&t->r, id)->blocked) /* that was to one before it fell behind */
		says(t, id, "\xd0\0", 2);
	fake_settle(t->r.f);
	fake_client_read(t->r.f, id, NULL, SIZE_MAX);
	fake_settle(t->r.f);
	assert_int_equal(rig_conn(&t->r, id)->blocked, 0);
}

/* A copy waits for a client that has fallen behind meanwhile: the publisher's next slow message
 * waits for the copy, for a second. */
static void slow_waits_for_copies(void **state)
{
	struct two t;

	(void)state;
	start_subscribed(&t);
	publishes(&t, "1", false);
	fake_offer(t.r.f, t.from, SIZE_MAX);
	assert_int_equal(fast(&t), 1);
	block(&t, t.to);
	publishes(&t, "2", true);
	fake_settle(t.r.f);
	assert_int_equal(fake_app_unread(t.r.f, t.from), 0);
	fake_time(t.r.f, MQTT_HELD_MS);
	fake_settle(t.r.f);
	assert_int_equal(fake_app_unread(t.r.f, t.from), 6);
	assert_int_equal(rig_stage(&t.r)->counters[MQTT_C_DROP_BLOCKED], 1);
	rig_stop(&t.r);
}

/* One of two subscribers is blocked: messages stay fast, the other one has them at once, and the
 * first one when the broker has caught up, behind what the broker had for it. */
static void blocked_waits_alone(void **state)
{
	struct pk want = {.n = 0};
	uint32_t other;
	struct two t;

	(void)state;
	other = start_two(&t);
	block(&t, t.to);
	rig_forget(&t.r);
	for (unsigned i = 0; i < 3; i++) {
		const char payload[2] = {(char)('1' + i), '\0'};

		fake_time(t.r.f, 2 * MQTT_HELD_MS);
		publishes(&t, payload, false);
		rig_publish(&want, 4, "t", NULL, payload, 1);
		fake_settle(t.r.f);
	}
	rig_expect(&t.r, other, &want);
	assert_int_equal(fast(&t), 3);
	assert_int_equal(rig_conn(&t.r, t.to)->defer_n, 3);
	unblock(&t, t.to);
	assert_memory_equal(bytes_at(&t.r.got[t.to]) + bytes_n(&t.r.got[t.to]) - want.n, want.b,
			    want.n);
	assert_int_equal(rig_stage(&t.r)->counters[MQTT_C_DROP_BLOCKED], 0);
	rig_stop(&t.r);
}

/* Its queue is bounded: what is too much is dropped for it alone, and counted. */
static void blocked_queue_is_bounded(void **state)
{
	struct two t;

	(void)state;
	start_subscribed(&t);
	t.r.cfg.mqtt_queue_messages = 5;
	block(&t, t.to);
	for (unsigned i = 0; i < 8; i++)
		publishes(&t, "x", false);
	fake_settle(t.r.f);
	assert_int_equal(fast(&t), 8);
	assert_int_equal(rig_conn(&t.r, t.to)->defer_n, 5);
	assert_int_equal(rig_stage(&t.r)->counters[MQTT_C_DROP_QUEUE], 3);
	/* and all copies are, whatever became of them */
	assert_int_equal(rig_stage(&t.r)->counters[MQTT_C_DELIVERED], 0);
	broker_gone(t.r.b, t.to);
	fake_close(t.r.f, t.to);
	assert_int_equal(rig_stage(&t.r)->counters[MQTT_C_DROP_ENDED], 5);
	rig_stop(&t.r);
}

/* Blocked for longer than publishers wait: the next slow message goes at once.  A copy for one that
 * is behind for a moment only is waited for all the same, and not lost. */
static void slow_waits_for_no_stalled_one(void **state)
{
	uint32_t other;
	struct two t;

	(void)state;
	other = start_two(&t);
	block(&t, t.to);
	fake_time(t.r.f, MQTT_HELD_MS);
	publishes(&t, "1", false);
	publishes(&t, "2", true);
	fake_settle(t.r.f);
	assert_int_equal(fake_app_unread(t.r.f, t.from), 6);
	assert_int_equal(rig_stage(&t.r)->counters[MQTT_C_DROP_BLOCKED], 1);

	slow_is_done(&t);
	block(&t, other);
	publishes(&t, "3", false);
	publishes(&t, "4", true);
	fake_settle(t.r.f);
	assert_int_equal(fast(&t), 2);
	assert_int_equal(fake_app_unread(t.r.f, t.from), 0);
	unblock(&t, other);
	assert_int_equal(fake_app_unread(t.r.f, t.from), 6);
	assert_int_equal(rig_stage(&t.r)->counters[MQTT_C_DROP_BLOCKED], 2);
	assert_int_equal(rig_conn(&t.r, t.to)->defer_n, 0);
	rig_stop(&t.r);
}

/* One that falls behind again and again makes others wait for a tenth of the time at most. */
static void waiting_is_used_up(void **state)
{
	struct two t;
	uint32_t waited = 0, all = 0;

	(void)state;
	start_subscribed(&t);
	for (unsigned i = 0; i < 40; i++, all += 510) {
		uint32_t ms = 0;

		block(&t, t.to);
		publishes(&t, "1", false);
		publishes(&t, "2", true);
		fake_settle(t.r.f);
		for (; ms < 500 && fake_app_unread(t.r.f, t.from) == 0; ms++) {
			fake_time(t.r.f, 1);
			fake_settle(t.r.f);
		}
		waited += ms;
		fake_time(t.r.f, 500 - ms);
		unblock(&t, t.to);
		fake_time(t.r.f, 10);
		slow_is_done(&t);
	}
	assert_in_range(waited, MQTT_HELD_MS, MQTT_HELD_MS + all / MQTT_HELD_SHARE);
	rig_stop(&t.r);
}

/* Subscribes, and stops reading before its subscription is proven: after a second nobody is slow
 * for it, and it loses copies; it gets everything again once it has read. */
static void stalled_does_without(void **state)
{
	struct pk want = {.n = 0};
	uint32_t other;
	struct two t;

	(void)state;
	start(&t);
	other = rig_connect(&t.r, 4, "other", true, 0);
	rig_subscribe(&t.r, other, "t", 0, 0);
	asks(&t, t.to, 0x82, 7);
	says(&t, t.to, "\x90\x03\x00\x07\x00", 5);
	fake_settle(t.r.f);
	block(&t, t.to);
	rig_forget(&t.r);
	publishes(&t, "1", false);
	fake_settle(t.r.f);
	assert_int_equal(rig_slow(&t.r, MQTT_R_PENDING), 1);
	slow_is_done(&t);
	for (unsigned i = 0; i <= MQTT_STALLED_MS; i += 100) {
		fake_time(t.r.f, 100);
		fake_settle(t.r.f);
	}
	publishes(&t, "2", false);
	fake_settle(t.r.f);
	rig_publish(&want, 4, "t", NULL, "2", 1);
	rig_expect(&t.r, other, &want);
	assert_int_equal(fast(&t), 1);
	assert_int_equal(rig_stage(&t.r)->counters[MQTT_C_DROP_UNPROVEN], 1);
	/* it reads; what the broker had kept back follows with the next live message */
	unblock(&t, t.to);
	fake_time(t.r.f, 100);
	fake_settle(t.r.f);
	publishes(&t, "3", false);
	fake_settle(t.r.f);
	assert_int_equal(rig_slow(&t.r, MQTT_R_PENDING), 2);
	says(&t, t.to, "\x31\x04\x00\x01tR\x30\x04\x00\x01t3", 12);
	fake_settle(t.r.f);
	says(&t, t.to, "\xd0\x00\xd0\x00", 4); /* it was asked twice since */
	fake_settle(t.r.f);
	assert_int_equal(sub_state(&t), MQTT_S_ACTIVE);
	rig_stop(&t.r);
}

/* A message is counted for its filter once, however often it was looked at, and whatever made it
 * slow. */
static void counted_once(void **state)
{
	const struct mqtt_gate *g;
	struct two t;

	(void)state;
	start_subscribed(&t);
	g = &rig_stage(&t.r)->gate[0];
	publishes(&t, "1", true);
	publishes(&t, "2", true);
	fake_settle(t.r.f);
	publishes(&t, "3", false); /* waits for the fence */
	fake_settle(t.r.f);
	assert_true(g->fast == 0 && g->slow == 2);
	says(&t, t.from, "\xd0\x00", 2);
	fake_settle(t.r.f);
	assert_true(g->fast == 1 && g->slow == 2);
	assert_int_equal(fast(&t), 1);
	assert_int_equal(rig_slow(&t.r, MQTT_R_RETAIN), 2);
	rig_stop(&t.r);
}

/* The broker refuses the unproven one of its subscriptions while a message, decided before, is on
 * its way to it: what is left is proven. */
static void refused_under_way(void **state)
{
	struct pk p = {.n = 0};
	struct two t;

	(void)state;
	start_subscribed(&t);
	pk_u16(&p, 8);
	pk_str(&p, "+");
	pk_u8(&p, 0);
	rig_write(&t.r, t.to, 0x82, &p);
	fake_settle(t.r.f);
	block(&t, t.to);
	for (unsigned i = 0; i <= MQTT_STALLED_MS; i += 100) {
		fake_time(t.r.f, 100);
		fake_settle(t.r.f);
	}
	publishes(&t, "1", false);
	fake_offer(t.r.f, t.from, SIZE_MAX);
	assert_int_equal(fast(&t), 1);
	fake_client_read(t.r.f, t.to, NULL, SIZE_MAX);
	says(&t, t.to, "\0\x90\3\0\x08\x80", 6);
	while (fake_hc(t.r.f))
		;
	while (fake_fetch(t.r.f, t.to, SIZE_MAX) != 0)
		;
	assert_int_equal(sub_state(&t), MQTT_S_ACTIVE);
	fake_settle(t.r.f);
	assert_int_equal(rig_stage(&t.r)->counters[MQTT_C_DROP_UNPROVEN], 0);
	rig_stop(&t.r);
}

/* Its other subscriptions wait too, as long as the broker may keep something back for it that only
 * a message of its own would push out. */
static void message_that_pushes(void **state)
{
	struct two t;
	struct pk p = {.n = 0};

	(void)state;
	start_subscribed(&t);
	block(&t, t.to);
	pk_u16(&p, 9);
	pk_str(&p, "kept");
	pk_u8(&p, 0);
	rig_write(&t.r, t.to, 0x82, &p);
	fake_settle(t.r.f);
	publishes(&t, "1", false);
	fake_settle(t.r.f);
	assert_int_equal(rig_slow(&t.r, MQTT_R_PENDING), 1);
	rig_stop(&t.r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(active_by_proof),
		cmocka_unit_test(retained_held_back),
		cmocka_unit_test(unsuback_last),
		cmocka_unit_test(proof_overtakes_delivery),
		cmocka_unit_test(resumed_is_pending),
		cmocka_unit_test(third_question),
		cmocka_unit_test(slow_waits_for_copies),
		cmocka_unit_test(blocked_waits_alone),
		cmocka_unit_test(waiting_is_used_up),
		cmocka_unit_test(blocked_queue_is_bounded),
		cmocka_unit_test(stalled_does_without),
		cmocka_unit_test(refused_under_way),
		cmocka_unit_test(counted_once),
		cmocka_unit_test(message_that_pushes),
		cmocka_unit_test(slow_waits_for_no_stalled_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
