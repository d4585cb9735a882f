/* SPDX-License-Identifier: BSD-3-Clause */
/* LINK: tests/unit/mqtt_broker.h */
/* The MQTT stage and what is not as it should be: clients and brokers that do not speak MQTT, or
 * badly; brokers that drop answers; silence; questions with tiny buffers. */
#include <stdio.h>

#include "mqtt_pair.h"

static void expect_app(struct rig *r, uint32_t id, const void *data, size_t n)
{
	uint8_t buf[4096];

	assert_int_equal(fake_app_unread(r->f, id), n);
	fake_app_read(r->f, id, buf, n);
	assert_memory_equal(buf, data, n);
}

/* Not MQTT: all bytes pass both ways, everything is slow as long as it is there. */
static void other_protocols(void **state)
{
	static const char *const hello[] = {"\x16\x03\x01\x02\x01", "GET / HTTP/1.1\r\n\r\n",
					    "\xff", "\x30\x02", "\x10\xff\xff\xff\xff\x7f"};
	struct rig r;
	struct pair p = start_pair(&r);

	(void)state;
	for (unsigned i = 0; i < COUNT(hello); i++) {
		uint64_t slow = rig_slow(&r, MQTT_R_UNTRACKED), fast = rig_slow(&r, MQTT_R_FAST);
		uint32_t id = fake_open(r.f);

		bytes_drop(&r.got[id], bytes_n(&r.got[id]));
		for (size_t k = 0; k < strlen(hello[i]); k++) {
			fake_client_write(r.f, id, hello[i] + k, 1);
			fake_settle(r.f);
		}
		expect_app(&r, id, hello[i], strlen(hello[i]));
		fake_app_write(r.f, id, "\xd0\x00\xff\xff\xff\xff\xff", 7);
		fake_settle(r.f);
		assert_int_equal(bytes_n(&r.got[id]), 7);
		assert_memory_equal(bytes_at(&r.got[id]), "\xd0\x00\xff\xff\xff\xff\xff", 7);
		publish(&r, &p);
		assert_int_equal(rig_slow(&r, MQTT_R_UNTRACKED), slow + 1);
		fake_close(r.f, id);
		publish(&r, &p); /* a proof for the slow one, then */
		publish(&r, &p);
		assert_true(rig_slow(&r, MQTT_R_FAST) > fast);
	}
	rig_stop(&r);
}

/* The broker sees them as they were, whatever it makes of them. */
static void malformed_packets(void **state)
{
	static const struct {
		const char *b;
		size_t n;
	} bad[] = {
		{"\x30\x00", 2},                  /* no topic */
		{"\x30\x03\x00\x01+", 5},         /* wildcard */
		{"\x36\x05\x00\x01t\x00\x01", 7}, /* QoS 3 */
		{"\x38\x03\x00\x01t", 5},         /* DUP at QoS 0 */
		{"\x30\x04\x00\x09tt", 6},        /* topic beyond the packet */
		{"\x30\x04\x00\x02\xc3\x28", 6},  /* no UTF-8 */
		{"\x82\x00", 2},                  /* SUBSCRIBE of nothing */
		{"\x82\x05\x00\x01\x00\x09t", 7}, /* filter beyond the packet */
		{"\xa2\x02\x00\x01", 4},          /* UNSUBSCRIBE of nothing */
		{"\x10\x00", 2},                  /* second CONNECT, and an empty one */
		{"\x00\x00", 2},
		{"\xf0\x01x", 3},                    /* reserved types */
		{"\x30\xff\xff\xff\xff\xff\x01", 7}, /* length of five bytes */
		{"\xc0\x80\x00", 3},                 /* PINGREQ, length in two bytes */
	};

	(void)state;
	for (unsigned i = 0; i < COUNT(bad); i++) {
		for (unsigned whole = 0; whole < 2; whole++) {
			struct rig r;
			struct pair p = start_pair(&r);

			for (size_t k = 0; k < bad[i].n; k += whole ? bad[i].n : 1) {
				fake_client_write(r.f, p.from, bad[i].b + k, whole ? bad[i].n : 1);
				fake_settle(r.f);
			}
			expect_app(&r, p.from, bad[i].b, bad[i].n);
			rig_stop(&r);
		}
	}
}

/* A client's half packet, then its end: no PINGREQ in it or behind it. */
static void end_in_a_packet(void **state)
{
	struct rig r;
	struct pair p = start_pair(&r);
	struct pk sub = {.n = 0};

	(void)state;
	pk_u16(&sub, 5);
	pk_str(&sub, "u");
	pk_u8(&sub, 0);
	rig_write(&r, p.from, 0x82, &sub);
	fake_client_write(r.f, p.from, "\x30\x09\x00", 3);
	fake_client_fin(r.f, p.from);
	fake_settle(r.f);
	assert_true(fake_app_sees_fin(r.f, p.from) || fake_app_unread(r.f, p.from) == 11);
	fake_app_write(r.f, p.from, "\x90\x03\x00\x05\x00", 5); /* asks for a proof */
	fake_settle(r.f);
	fake_time(r.f, 5000);
	fake_settle(r.f);
	assert_int_equal(fake_app_unread(r.f, p.from), 11);
	rig_stop(&r);
}

/* Whatever a broker says, cut anywhere: nothing breaks, and what passes is what it said. */
static void hostile_broker(void **state)
{
	uint64_t seed = 12345;

	(void)state;
	for (unsigned round = 0; round < 300; round++) {
		struct bytes said = {0};
		struct rig r;
		struct pair p = start_pair(&r);

		for (unsigned i = 0; i < 40; i++) {
			uint8_t junk[24];
			size_t n = 1 + rnd_below(&seed, sizeof(junk));

			for (size_t k = 0; k < n; k++)
				junk[k] = (uint8_t)(rnd(&seed) >> (rnd_below(&seed, 2) ? 8 : 13));
			junk[0] = (uint8_t)(rnd_below(&seed, 16) << 4);
			junk[1] = (uint8_t)rnd_below(&seed, 30);
			fake_app_write(r.f, p.to, junk, n);
			bytes_add(&said, junk, n);
			fake_client_write(r.f, p.from, p.pub.b, p.pub.n);
			for (unsigned k = 0; k < 4; k++) {
				fake_hc(r.f);
				fake_fetch(r.f, p.to, 1 + rnd_below(&seed, 9));
				fake_offer(r.f, p.from, 1 + rnd_below(&seed, 9));
				fake_poll(r.f, 4);
			}
		}
		fake_settle(r.f);
		fake_time(r.f, 3000);
		fake_settle(r.f);
		assert_true(bytes_n(&r.got[p.to]) <= said.to + 40 * p.pub.n);
		free(said.b);
		rig_stop(&r);
	}
}

/* Keep alive: who sends only fast messages looks alive, who sends nothing does not. */
static void keep_alive(void **state)
{
	struct broker_conn_view before, after;
	struct rig r;
	struct pair p = start_pair(&r);
	uint32_t silent = 0;

	(void)state;
	rig_conn(&r, p.from)->keep_alive_s = 10;
	rig_conn(&r, p.to)->keep_alive_s = 10;
	for (unsigned ms = 0; ms < 60000; ms += 100) {
		broker_view(r.b, p.from, &before);
		fake_time(r.f, 100);
		publish(&r, &p);
		broker_view(r.b, p.from, &after);
		silent = after.pings_in != before.pings_in ? 0 : silent + 100;
		assert_true(silent <= 10000);
	}
	assert_int_equal(rig_slow(&r, MQTT_R_FAST), 600);
	broker_view(r.b, p.to, &before);
	for (unsigned ms = 0; ms < 60000; ms += 100) {
		fake_time(r.f, 100);
		rig_run(&r);
	}
	broker_view(r.b, p.to, &after);
	assert_int_equal(after.pings_in, before.pings_in);
	rig_stop(&r);
}

/* No answer at all: one repetition, and an answer is never taken for a later question's. */
static void silent_broker(void **state)
{
	struct rig r;
	struct pair p = start_pair(&r);
	struct pk slow = {.n = 0};
	uint8_t sent[4096];

	(void)state;
	rig_publish(&slow, 4, "t", NULL, "r", 1);
	slow.b[0] = 0x31;
	fake_client_write(r.f, p.from, slow.b, slow.n);
	fake_client_write(r.f, p.from, p.pub.b, p.pub.n);
	fake_settle(r.f);
	for (unsigned ms = 0; ms < 9000; ms += 50) {
		fake_time(r.f, 50);
		fake_settle(r.f);
	}
	/* the slow one, PINGREQ, the other (given up), PINGREQ again */
	assert_int_equal(fake_app_read(r.f, p.from, sent, sizeof(sent)), slow.n + p.pub.n + 4);
	assert_int_equal(rig_stage(&r)->counters[MQTT_C_FENCE_GAVE_UP], 1);
	/* the first answer proves the first message only */
	fake_app_write(r.f, p.from, "\xd0\x00", 2);
	fake_settle(r.f);
	assert_false(mqtt_fence_clear(rig_conn(&r, p.from)));
	fake_app_write(r.f, p.from, "\xd0\x00", 2);
	fake_settle(r.f);
	assert_true(mqtt_fence_clear(rig_conn(&r, p.from)));
	assert_int_equal(bytes_n(&r.got[p.from]), 0);
	rig_stop(&r);
}

static void another_broker(void **state)
{
	struct rig r;
	struct pair p = start_pair(&r);
	uint32_t early;

	(void)state;
	fake_set_app(r.f, FAKE_APP, 2, 0);
	early = fake_open(r.f); /* of the new one, while the old one's are still open */
	assert_int_equal(rig_conn(&r, early)->kind, MQTT_K_FOREIGN);
	broker_gone(r.b, p.from);
	broker_gone(r.b, p.to);
	fake_close(r.f, p.from);
	fake_close(r.f, p.to);
	p.from = rig_connect(&r, 4, "pub", true, 0);
	p.to = rig_connect(&r, 4, "sub", true, 0);
	rig_subscribe(&r, p.to, "t", 0, 0);
	rig_forget(&r);
	publish(&r, &p);
	assert_int_equal(rig_slow(&r, MQTT_R_UNTRACKED), 1);
	fake_close(r.f, early);
	publish(&r, &p);
	publish(&r, &p);
	assert_true(rig_slow(&r, MQTT_R_FAST) > 0);
	rig_stop(&r);
}

static void kernel_connections(void **state)
{
	struct rig r;
	struct pair p = start_pair(&r);

	(void)state;
	fake_set_app(r.f, FAKE_APP, 1, 1);
	publish(&r, &p);
	assert_int_equal(rig_slow(&r, MQTT_R_KERNEL), 1);
	fake_set_app(r.f, FAKE_APP, 1, 0);
	publish(&r, &p);
	publish(&r, &p);
	assert_true(rig_slow(&r, MQTT_R_FAST) > 0);
	rig_stop(&r);
}

/* Every answer is within its buffer, whatever the size, and comes to an end. */
static void questions(void **state)
{
	static const char *const what[] = {"status", "slow", "sessions", "subs", "nonsense"};
	static const size_t room[] = {1, 2, 100, 1601, 1700, 4096, 65536};
	struct rig r;
	struct pair p = start_pair(&r);

	(void)state;
	for (unsigned i = 0; i < 50; i++) {
		char filter[16];

		snprintf(filter, sizeof(filter), "f/%u/\"", i);
		rig_subscribe(&r, p.to, filter, 0, 0);
	}
	for (unsigned i = 0; i < COUNT(what) * COUNT(room); i++) {
		size_t n = room[i / COUNT(what)];
		struct toe_stream_ask a = {.what = what[i % COUNT(what)], .arg = "", .room = n};
		unsigned turns = 0;

		a.out = malloc(n);
		assert_non_null(a.out);
		do {
			int rc = mqtt_control(fake_stream(r.f), &a);

			assert_true(rc == 0 || rc == -EINVAL || rc == -ENOSPC);
			assert_true(a.len <= n);
			if (rc != 0)
				a.at = 0;
		} while (a.at != 0 && ++turns < 1000);
		assert_true(turns < 1000);
		free(a.out);
	}
	rig_stop(&r);
}

/* MQTT 3.1 does not say whether a session is resumed.  One that ends with its connection is not,
 * also if the connection is taken over by a client that would have it resumed. */
static void taken_over_31(void **state)
{
	for (unsigned keep = 0; keep < 2; keep++) {
		struct rig r;
		uint32_t id, sub;

		(void)state;
		rig_start(&r, "#", 1000);
		id = rig_connect(&r, 3, "who", true, 0);
		if (keep) { /* made by this one: nothing unknown is in it */
			broker_gone(r.b, id);
			fake_close(r.f, id);
			id = rig_connect(&r, 4, "who", false, 0);
		}
		rig_subscribe(&r, id, "t", 0, 0);
		id = fake_open(r.f); /* its CONNACK is seen before the old one is closed */
		fake_client_write(r.f, id, "\x10\x11\0\6MQIsdp\3\0\0\0\0\3who", 19);
		fake_settle(r.f);
		fake_app_write(r.f, id, "\x20\2\0\0", 4);
		fake_settle(r.f);
		sub = mqtt_subs_first(rig_stage(&r)->subs, rig_conn(&r, id)->session);
		assert_int_equal(sub != MQTT_SUB_NONE, keep);
		assert_int_equal(rig_stage(&r)->unknown_n, 0);
		rig_stop(&r);
	}
}

static uint32_t come_back(struct rig *r, const char *name, unsigned level)
{
	uint32_t id = rig_connect(r, level, name, false, 0);

	rig_run(r);
	return id;
}

static void leave(struct rig *r, uint32_t id)
{
	broker_gone(r->b, id);
	fake_close(r->f, id);
}

/* Nor does MQTT 3.1 say that a session has expired: who had an expiry gets nothing from the stage
 * before it has subscribed again, whatever it comes back with. */
static void expired_31(void **state)
{
	for (unsigned level = 4; level <= 5; level++) { /* 4: it never expires */
		struct pk pub = {.n = 0};
		uint32_t from, id;
		struct rig r;

		(void)state;
		rig_start(&r, "!#", 1000); /* closed: what is not known does not matter */
		from = rig_connect(&r, 4, "pub", true, 0);
		leave(&r, rig_connect(&r, level, "who", true, 0)); /* no session before */
		id = come_back(&r, "who", level);
		rig_subscribe(&r, id, "t", 0, 0);
		leave(&r, id);
		id = come_back(&r, "who", 3);
		rig_publish(&pub, 4, "t", NULL, "x", 1);
		fake_client_write(r.f, from, pub.b, pub.n);
		rig_run(&r);
		assert_int_equal(rig_slow(&r, MQTT_R_PENDING), level == 5);
		leave(&r, id);
		fake_client_write(r.f, from, pub.b, pub.n);
		rig_run(&r); /* offline: slow for nobody */
		assert_int_equal(rig_slow(&r, MQTT_R_PENDING), level == 5);
		id = come_back(&r, "who", 4);
		fake_client_write(r.f, from, pub.b, pub.n);
		rig_run(&r);
		assert_int_equal(rig_slow(&r, MQTT_R_PENDING), level == 5 ? 2 : 0);
		assert_int_equal(rig_stage(&r)->unknown_n, 0);
		rig_subscribe(&r, id, "t", 0, 0);
		fake_client_write(r.f, from, pub.b, pub.n);
		rig_run(&r);
		assert_int_equal(rig_slow(&r, MQTT_R_PENDING), level == 5 ? 2 : 0);
		assert_true(rig_stage(&r)->counters[MQTT_C_DELIVERED] >= 1);
		rig_stop(&r);
	}
}

/* Behind DISCONNECT a broker reads nothing; nor is it delivered in its place. */
static void behind_disconnect(void **state)
{
	struct rig r;
	struct pair p = start_pair(&r);

	(void)state;
	fake_client_write(r.f, p.from, "\xe0\0", 2);
	fake_client_write(r.f, p.from, p.pub.b, p.pub.n);
	rig_run(&r);
	assert_int_equal(bytes_n(&r.got[p.to]), 0);
	assert_int_equal(rig_slow(&r, MQTT_R_FAST), 0);
	rig_stop(&r);
}

/* Behind a packet on which the broker may close the connection nothing is fast before the broker
 * has answered; behind one that it takes, it is. */
static void behind_what_may_end_it(void **state)
{
	static const struct {
		const char *b;
		size_t n;
		unsigned level;
		bool waits;
	} t[] = {
		{"\0\0", 2, 4, true},
		{"\xf0\0", 2, 4, true},
		{"\xf0\0", 2, 5, true}, /* AUTH */
		{"\xf0\2\x19\0", 4, 5, true},
		{"\x20\2\0\0", 4, 4, true},
		{"\x90\3\0\1\0", 5, 5, true},
		{"\xb0\2\0\1", 4, 5, true},
		{"\x40\1\0", 3, 4, true}, /* PUBACK */
		{"\x41\2\0\1", 4, 4, true},
		{"\x40\3\0\1\0", 5, 4, true},
		{"\x80\6\0\1\0\1z\0", 8, 4, true}, /* SUBSCRIBE */
		{"\xa0\5\0\1\0\1z", 7, 4, true},
		{"\x40\2\0\1", 4, 4, false},
		{"\x50\3\0\1\0", 5, 5, false},
		{"\x70\2\0\1", 4, 4, false},
		{"\xc0\0", 2, 4, false},
		{"\x82\6\0\1\0\1z\0", 8, 4, false},
		{"\xa2\5\0\1\0\1z", 7, 4, false},
		{"\x80\6\0\1\0\1z\0", 8, 3, false},
	};

	(void)state;
	for (unsigned i = 0; i < COUNT(t); i++) {
		struct pk pub = {.n = 0};
		struct rig r;
		struct pair p = start_pair(&r);
		uint32_t odd = rig_connect(&r, t[i].level, "odd", true, 0);

		rig_publish(&pub, t[i].level, "t", NULL, "1", 1);
		fake_client_write(r.f, odd, t[i].b, t[i].n);
		fake_client_write(r.f, odd, pub.b, pub.n);
		fake_settle(r.f);
		assert_int_equal(rig_slow(&r, MQTT_R_FAST), !t[i].waits);
		assert_int_equal(bytes_n(&r.got[p.to]) != 0, !t[i].waits);
		fake_app_write(r.f, odd, "\xd0\0", 2); /* it has taken it */
		fake_settle(r.f);
		assert_int_equal(rig_slow(&r, MQTT_R_FAST), 1);
		rig_stop(&r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(other_protocols),
		cmocka_unit_test(malformed_packets),
		cmocka_unit_test(end_in_a_packet),
		cmocka_unit_test(hostile_broker),
		cmocka_unit_test(keep_alive),
		cmocka_unit_test(silent_broker),
		cmocka_unit_test(another_broker),
		cmocka_unit_test(kernel_connections),
		cmocka_unit_test(behind_disconnect),
		cmocka_unit_test(questions),
		cmocka_unit_test(taken_over_31),
		cmocka_unit_test(expired_31),
		cmocka_unit_test(behind_what_may_end_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
