// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/unit/mqtt_broker.h */
/* The MQTT stage, a client that ends and comes back: what it has published comes before its will
 * and before what it publishes then.  The broker is played by hand. */
#include "mqtt_stage_rig.h"

struct two {
	struct rig r;
	uint32_t from, to;
};

static void start_subscribed(struct two *t)
{
	rig_start(&t->r, "#", 1000);
	t->from = rig_connect(&t->r, 4, "pub", true, 0);
	t->to = rig_connect(&t->r, 4, "sub", true, 0);
	rig_subscribe(&t->r, t->to, "t", 0, 0);
	rig_forget(&t->r);
}

/* Decided, and not delivered yet. */
static void publishes(struct two *t, uint32_t id, const char *payload)
{
	struct pk p = {.n = 0};

	rig_publish(&p, 4, "t", NULL, payload, strlen(payload));
	fake_client_write(t->r.f, id, p.b, p.n);
	fake_offer(t->r.f, id, SIZE_MAX);
}

/* CONNECT of a new connection has come; nobody has read it. */
static uint32_t comes(struct two *t, const char *name)
{
	struct pk p = {.n = 0};
	uint32_t id = fake_open(t->r.f);

	assert_int_not_equal(id, UINT32_MAX);
	pk_str(&p, "MQTT");
	pk_raw(&p, "\4\2\0\0", 4);
	pk_str(&p, name);
	rig_write(&t->r, id, 0x10, &p);
	fake_offer(t->r.f, id, SIZE_MAX);
	return id;
}

static bool is_forwarded(struct two *t, uint32_t id)
{
	return fake_app_unread(t->r.f, id) > 0;
}

static void got(struct two *t, const char *payloads)
{
	struct pk p = {.n = 0};

	for (const char *c = payloads; *c != '\0'; c++)
		rig_publish(&p, 4, "t", NULL, c, 1);
	rig_expect(&t->r, t->to, &p);
}

static void next_ms(struct two *t)
{
	fake_time(t->r.f, 1);
	fake_settle(t->r.f);
}

/* The broker would publish a will. */
static void reset_comes_last(void **state)
{
	struct two t;

	(void)state;
	start_subscribed(&t);
	publishes(&t, t.from, "1");
	fake_client_rst(t.r.f, t.from);
	assert_false(fake_app_sees_rst(t.r.f, t.from));
	fake_settle(t.r.f);
	got(&t, "1");
	assert_true(fake_app_sees_rst(t.r.f, t.from));
	rig_stop(&t.r);
}

/* It comes back while its message is on its way; ends: how the older connection did, NULL: not yet.
 */
static void comes_back(void (*ends)(struct fake *f, uint32_t id))
{
	uint32_t again;
	struct two t;

	start_subscribed(&t);
	publishes(&t, t.from, "1");
	if (ends != NULL)
		ends(t.r.f, t.from);
	again = comes(&t, "pub");
	assert_false(is_forwarded(&t, again));
	next_ms(&t);
	got(&t, "1");
	next_ms(&t);
	assert_true(is_forwarded(&t, again));
	assert_int_equal(rig_stage(&t.r)->counters[MQTT_C_OLDER_WAIT], 1);
	rig_stop(&t.r);
}

static void connect_behind_online(void **state)
{
	(void)state;
	comes_back(NULL);
}

static void connect_behind_closed(void **state)
{
	(void)state;
	comes_back(fake_close);
}

static void connect_behind_reset(void **state)
{
	(void)state;
	comes_back(fake_client_rst);
}

/* Others do not. */
static void another_client(void **state)
{
	struct two t;

	(void)state;
	start_subscribed(&t);
	publishes(&t, t.from, "1");
	assert_true(is_forwarded(&t, comes(&t, "other")));
	assert_true(is_forwarded(&t, comes(&t, "")));
	rig_stop(&t.r);
}

/* In the order in which they came. */
static void one_by_one(void **state)
{
	struct two t;
	uint32_t b, c;

	(void)state;
	start_subscribed(&t);
	publishes(&t, t.from, "1");
	b = comes(&t, "pub");
	c = comes(&t, "pub");
	while (!is_forwarded(&t, c)) {
		fake_poll(t.r.f, 1);
		assert_true(is_forwarded(&t, b) || !is_forwarded(&t, c));
	}
	rig_stop(&t.r);
}

/* Who comes last is not held up by how many have come: that needs no login. */
static void many_of_one(void **state)
{
	uint32_t last = 0;
	struct two t;

	(void)state;
	start_subscribed(&t);
	publishes(&t, t.from, "1");
	for (unsigned i = 0; i < 60; i++)
		last = comes(&t, "pub");
	assert_false(is_forwarded(&t, last));
	fake_settle(t.r.f);
	for (unsigned ms = 0; !is_forwarded(&t, last); ms++) {
		assert_true(ms < 5);
		next_ms(&t);
	}
	rig_stop(&t.r);
}

/* The broker could not write all of something to the subscriber. */
static void block(struct two *t)
{
	static char fill[(1u << 20) + 1] = {0x30, (char)0xfd, (char)0xff, 0x3f};

	fake_app_write(t->r.f, t->to, fill, sizeof(fill));
	fake_hc(t->r.f);
	fake_settle(t->r.f);
	assert_int_equal(rig_conn(&t->r, t->to)->blocked, 1);
}

/* A message of its waits for a blocked subscriber, and another connection comes. */
static uint32_t held_and_again(struct two *t)
{
	start_subscribed(t);
	block(t);
	publishes(t, t->from, "1");
	fake_settle(t->r.f);
	return comes(t, "pub");
}

/* Copies that wait for a blocked subscriber hold it up for as long as other things. */
static void connect_behind_held(void **state)
{
	uint32_t again, ms = 0;
	struct two t;

	(void)state;
	again = held_and_again(&t);
	for (; !is_forwarded(&t, again); ms++)
		next_ms(&t);
	assert_in_range(ms, MQTT_HELD_MS - 10, MQTT_HELD_MS + 10);
	assert_int_equal(rig_stage(&t.r)->counters[MQTT_C_DROP_BLOCKED], 1);
	rig_stop(&t.r);
}

/* Nobody looked in time: none is left that would come behind what the next connection publishes. */
static void connect_much_later(void **state)
{
	uint32_t again;
	struct two t;

	(void)state;
	again = held_and_again(&t);
	fake_time(t.r.f, MQTT_OLDER_MS);
	fake_settle(t.r.f);
	assert_true(is_forwarded(&t, again));
	assert_int_equal(rig_stage(&t.r)->counters[MQTT_C_DROP_BLOCKED], 1);
	rig_stop(&t.r);
}

/* CONNECT takes the broker a second and more, and the older connection goes on meanwhile: what
 * waits for a blocked subscriber when its session is taken over is not overtaken either. */
static void accepted_behind_held(void **state)
{
	uint32_t again, ms = 0;
	struct pk p = {.n = 0};
	uint8_t connect[64];
	struct two t;

	(void)state;
	start_subscribed(&t);
	again = comes(&t, "pub");
	fake_app_read(t.r.f, again, connect, sizeof(connect));
	fake_time(t.r.f, MQTT_CLAIMED_MS);
	block(&t);
	publishes(&t, t.from, "1");
	fake_settle(t.r.f);
	assert_int_equal(rig_conn(&t.r, t.to)->defer_n, 1);
	fake_app_write(t.r.f, again, "\x20\2\0\0", 4);
	fake_settle(t.r.f);
	rig_publish(&p, 4, "t", NULL, "2", 1);
	p.b[0] |= 1;
	fake_client_write(t.r.f, again, p.b, p.n);
	fake_settle(t.r.f);
	for (; !is_forwarded(&t, again); ms++)
		next_ms(&t);
	assert_int_equal(rig_conn(&t.r, t.to)->defer_n, 0);
	assert_in_range(ms, MQTT_HELD_MS - 10, MQTT_HELD_MS + 10);
	rig_stop(&t.r);
}

/* Published on the older connection when CONNECT was at the broker already: that does not read it
 * if it has given the session away, and has published the will. */
static void publishes_meanwhile(void **state)
{
	struct two t;
	uint32_t again;

	(void)state;
	start_subscribed(&t);
	again = comes(&t, "pub");
	assert_true(is_forwarded(&t, again));
	publishes(&t, t.from, "1");
	assert_int_equal(rig_slow(&t.r, MQTT_R_NOT_CONNECTED), 1);
	assert_true(is_forwarded(&t, t.from));
	fake_app_write(t.r.f, again, "\x20\2\0\0", 4);
	fake_hc(t.r.f);
	fake_fetch(t.r.f, again, SIZE_MAX);
	publishes(&t, again, "2");
	publishes(&t, t.from, "3");
	next_ms(&t);
	got(&t, "2");
	rig_stop(&t.r);
}

/* The broker refuses whoever that was. */
static void claimed_in_vain(void **state)
{
	struct two t;
	uint32_t again;

	(void)state;
	start_subscribed(&t);
	again = comes(&t, "pub");
	fake_app_write(t.r.f, again, "\x20\2\0\5", 4);
	fake_settle(t.r.f);
	fake_time(t.r.f, MQTT_CLAIMED_MS);
	publishes(&t, t.from, "1");
	fake_settle(t.r.f);
	got(&t, "1");
	rig_stop(&t.r);
}

/* What came before a reset is dealt with as if it were the end: in its order, and after CONNACK. */
static void reset_behind_connect(void **state)
{
	struct pk p = {.n = 0};
	uint32_t again;
	struct two t;

	(void)state;
	start_subscribed(&t);
	again = comes(&t, "new");
	rig_publish(&p, 4, "t", NULL, "1", 1);
	p.b[0] |= 1; /* retained: slow, and the next one waits for the proof */
	rig_publish(&p, 4, "t", NULL, "2", 1);
	fake_client_write(t.r.f, again, p.b, p.n);
	fake_client_rst(t.r.f, again);
	fake_settle(t.r.f);
	assert_false(fake_app_sees_rst(t.r.f, again));
	fake_app_write(t.r.f, again, "\x20\2\0\0", 4);
	fake_settle(t.r.f);
	assert_int_equal(rig_slow(&t.r, MQTT_R_RETAIN), 1);
	assert_false(fake_app_sees_rst(t.r.f, again));
	fake_app_write(t.r.f, again, "\xd0\0", 2);
	fake_settle(t.r.f);
	assert_int_equal(rig_slow(&t.r, MQTT_R_FAST), 1);
	got(&t, "2");
	assert_true(fake_app_sees_rst(t.r.f, again));
	assert_int_equal(bytes_n(&t.r.got[again]), 0);
	rig_stop(&t.r);
}

/* With nothing behind CONNECT, too: MQTT 3.1 does not say later whether a session was still there,
 * so it has to be known that the broker began a new one. */
static void reset_before_connack(void **state)
{
	struct two t;
	uint32_t id;

	(void)state;
	start_subscribed(&t);
	id = rig_connect(&t.r, 4, "keeps", false, 0);
	rig_subscribe(&t.r, id, "t", 0, 0);
	fake_client_fin(t.r.f, id);
	rig_run(&t.r);
	fake_close(t.r.f, id);
	assert_true(mqtt_session_named(rig_stage(&t.r), (const uint8_t *)"keeps", 5));
	id = comes(&t, "keeps");
	fake_client_rst(t.r.f, id);
	fake_settle(t.r.f);
	assert_false(fake_app_sees_rst(t.r.f, id));
	fake_app_write(t.r.f, id, "\x20\2\0\0", 4);
	fake_settle(t.r.f);
	assert_true(fake_app_sees_rst(t.r.f, id));
	assert_false(mqtt_session_named(rig_stage(&t.r), (const uint8_t *)"keeps", 5));
	rig_stop(&t.r);
}

/* The broker closes instead of answering. */
static void reset_and_closed(void **state)
{
	struct pk p = {.n = 0};
	uint32_t again;
	struct two t;

	(void)state;
	start_subscribed(&t);
	again = comes(&t, "new");
	rig_publish(&p, 4, "t", NULL, "1", 1);
	fake_client_write(t.r.f, again, p.b, p.n);
	fake_client_rst(t.r.f, again);
	fake_settle(t.r.f);
	assert_false(fake_app_sees_rst(t.r.f, again));
	fake_app_close(t.r.f, again);
	fake_settle(t.r.f);
	assert_true(fake_app_sees_rst(t.r.f, again));
	rig_stop(&t.r);
}

/* Half a CONNECT, whose ClientID has come: to the broker it is no CONNECT, and never will be. */
static void reset_in_connect(void **state)
{
	struct pk p = {.n = 0};
	struct two t;
	uint32_t id;

	(void)state;
	start_subscribed(&t);
	id = fake_open(t.r.f);
	pk_str(&p, "MQTT");
	pk_raw(&p, "\4\6\0\0", 4); /* with a will */
	pk_str(&p, "half");
	fake_client_write(t.r.f, id, "\x10\x7f", 2);
	fake_client_write(t.r.f, id, p.b, p.n);
	fake_settle(t.r.f);
	assert_true(is_forwarded(&t, id));
	fake_client_rst(t.r.f, id);
	fake_settle(t.r.f);
	assert_true(fake_app_sees_rst(t.r.f, id));
	rig_stop(&t.r);
}

/* Two CONNECTs at the broker, and the answer to the first comes: the other one is going to have its
 * session, and has its will published. */
static void claimed_before_connack(void **state)
{
	uint32_t a, b;
	struct two t;

	(void)state;
	start_subscribed(&t);
	a = comes(&t, "new");
	b = comes(&t, "new");
	assert_true(is_forwarded(&t, b));
	fake_app_write(t.r.f, a, "\x20\2\0\0", 4);
	fake_settle(t.r.f);
	publishes(&t, a, "1");
	assert_int_equal(rig_slow(&t.r, MQTT_R_NOT_CONNECTED), 1);
	fake_app_write(t.r.f, b, "\x20\2\0\0", 4);
	fake_settle(t.r.f);
	publishes(&t, b, "2");
	next_ms(&t);
	got(&t, "2");
	rig_stop(&t.r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(connect_much_later),    cmocka_unit_test(claimed_before_connack),
		cmocka_unit_test(reset_behind_connect),  cmocka_unit_test(reset_and_closed),
		cmocka_unit_test(reset_comes_last),      cmocka_unit_test(connect_behind_online),
		cmocka_unit_test(connect_behind_closed), cmocka_unit_test(connect_behind_reset),
		cmocka_unit_test(another_client),        cmocka_unit_test(one_by_one),
		cmocka_unit_test(many_of_one),           cmocka_unit_test(connect_behind_held),
		cmocka_unit_test(publishes_meanwhile),   cmocka_unit_test(claimed_in_vain),
		cmocka_unit_test(reset_in_connect),      cmocka_unit_test(reset_before_connack),
		cmocka_unit_test(accepted_behind_held),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
