/* SPDX-License-Identifier: BSD-3-Clause */
/* LINK: tests/unit/mqtt_broker.h */
/* Shadow mode and canaries: what the broker sends against what the stage would have sent; a broker
 * that matches, one that drops a receiver's copy, changes it or sends too much; what ends an
 * expectation, what cannot be said. */
#include <stdio.h>

#include "modules/mqtt/mqtt_audit.h"
#include "mqtt_stage_rig.h"

static struct mqtt_gate *gate(struct rig *r)
{
	return &rig_stage(r)->gate[0];
}

static void expect_counts(struct rig *r, unsigned matched, unsigned missing, unsigned extra,
			  unsigned skipped)
{
	assert_int_equal(gate(r)->matched, matched);
	assert_int_equal(gate(r)->missing, missing);
	assert_int_equal(gate(r)->extra, extra);
	assert_int_equal(gate(r)->skipped, skipped);
}

static void start_shadow(struct rig *r)
{
	rig_start(r, "#", 1000);
	rig_stage(r)->shadow = true;
	/* away from the CONNACKs and SUBACKs of the same millisecond */
	fake_time(r->f, 1);
}

/* Time passes until everything has been judged. */
static void judge(struct rig *r)
{
	for (unsigned i = 0; i < 10; i++) {
		fake_time(r->f, 1000);
		rig_run(r);
	}
	assert_int_equal(rig_stage(r)->audit_used, 0);
	assert_int_equal(rig_stage(r)->audit->copy_used, 0);
}

/* The stage forwards a message; the broker of the test takes it and does not tell anybody. */
static void publish_unhandled(struct rig *r, uint32_t from, const struct pk *pub)
{
	uint8_t sink[8192];

	fake_client_write(r->f, from, pub->b, pub->n);
	fake_settle(r->f);
	assert_true(fake_app_read(r->f, from, sink, pub->n) == pub->n);
}

static void ask(struct rig *r, const char *what, char *out, size_t room)
{
	struct toe_stream_ask a = {.what = what, .arg = "", .out = out, .room = room};

	assert_int_equal(mqtt_control(fake_stream(r->f), &a), 0);
	assert_int_equal(a.at, 0);
	out[a.len] = '\0';
}

/* All levels, overlaps, subscription identifiers, properties: nothing differs. */
static void broker_that_matches(void **state)
{
	struct pk props = {.n = 0};
	uint32_t from, id;
	char text[4096];
	struct rig r;

	(void)state;
	start_shadow(&r);
	from = rig_connect(&r, 5, "pub", true, 0);
	id = rig_connect(&r, 3, "s3", true, 0);
	rig_subscribe(&r, id, "a/+", 0, 0);
	id = rig_connect(&r, 4, "s4", true, 0);
	rig_subscribe(&r, id, "a/+", 0, 0);
	rig_subscribe(&r, id, "a/b", 1, 0);
	id = rig_connect(&r, 5, "s5", true, 0);
	rig_subscribe(&r, id, "#", 2, 0);
	rig_subscribe(&r, id, "a/#", 0, 9);
	rig_subscribe(&r, from, "a/b", 4, 0);
	fake_time(r.f, 1);
	pk_u8(&props, 0x26);
	pk_str(&props, "key");
	pk_str(&props, "value");
	for (unsigned i = 0; i < 30; i++) {
		struct pk pub = {.n = 0};

		rig_publish(&pub, 5, "a/b", &props, &i, sizeof(i) * (i % 2));
		fake_client_write(r.f, from, pub.b, pub.n);
		rig_run(&r);
	}
	assert_int_equal(rig_slow(&r, MQTT_R_SHADOW), 30);
	judge(&r);
	expect_counts(&r, 30 * 4, 0, 0, 0);
	ask(&r, "shadow", text, sizeof(text));
	assert_string_equal(text, "[{\"filter\":\"#\",\"closed\":false,\"compared\":120,"
				  "\"matched\":120,\"missing\":0,\"extra\":0,\"skipped\":0,"
				  "\"verdict\":\"same\"}]");
	ask(&r, "audit", text, sizeof(text));
	assert_string_equal(text, "[]");
	rig_stop(&r);
}

/* The delivery, cut at every byte. */
static void split_everywhere(void **state)
{
	for (unsigned level = 4; level <= 5; level++) {
		struct pk props = {.n = 0}, pub = {.n = 0};
		uint32_t from, to;
		struct rig r;

		(void)state;
		start_shadow(&r);
		from = rig_connect(&r, level, "pub", true, 0);
		to = rig_connect(&r, level, "sub", true, 0);
		rig_subscribe(&r, to, "a/b", 0, 0);
		pk_u8(&props, 0x01);
		pk_u8(&props, 1);
		rig_publish(&pub, level, "a/b", &props, "payload", 7);
		for (size_t cut = 1; cut < pub.n; cut++) {
			publish_unhandled(&r, from, &pub);
			fake_app_write(r.f, to, pub.b, cut);
			fake_settle(r.f);
			assert_int_equal(gate(&r)->matched, cut - 1);
			fake_app_write(r.f, to, pub.b + cut, pub.n - cut);
			rig_run(&r);
			assert_int_equal(gate(&r)->matched, cut);
		}
		judge(&r);
		expect_counts(&r, (unsigned)pub.n - 1, 0, 0, 0);
		rig_stop(&r);
	}
}

/* As with an ACL: one receiver gets it, the other does not. */
static void copy_that_is_dropped(void **state)
{
	struct pk pub = {.n = 0}, pub5 = {.n = 0};
	uint32_t from, yes, no, small;
	char text[4096];
	struct rig r;

	(void)state;
	start_shadow(&r);
	from = rig_connect(&r, 4, "pub", true, 0);
	yes = rig_connect(&r, 4, "allowed", true, 0);
	no = rig_connect(&r, 4, "denied", true, 0);
	rig_subscribe(&r, yes, "a/b", 0, 0);
	rig_subscribe(&r, no, "a/b", 0, 0);
	small = rig_connect(&r, 5, "small", true, 8); /* too small: not due */
	rig_subscribe(&r, small, "a/b", 0, 0);
	fake_time(r.f, 1);
	rig_publish(&pub, 4, "a/b", NULL, "x", 1);
	publish_unhandled(&r, from, &pub);
	fake_app_write(r.f, yes, pub.b, pub.n);
	rig_publish(&pub5, 5, "a/b", NULL, "x", 1);
	fake_app_write(r.f, small, pub5.b, pub5.n); /* and sent: as mosquitto does, by one byte */
	rig_run(&r);                                /* and the proof */
	fake_time(r.f, 1900);
	rig_run(&r);
	expect_counts(&r, 1, 0, 0, 0);
	judge(&r);
	expect_counts(&r, 1, 1, 0, 0);
	assert_int_equal(rig_stage(&r)->counters[MQTT_C_AUDIT_MISSING], 1);
	ask(&r, "shadow", text, sizeof(text));
	assert_non_null(strstr(text, "\"verdict\":\"differs\""));
	ask(&r, "audit", text, sizeof(text));
	assert_non_null(strstr(text, "[{\"what\":\"MISSING\",\"client_id\":\"denied\","
				     "\"topic\":\"a/b\",\"seconds_ago\":"));
	rig_stop(&r);
}

/* The only receiver misses it, and its publisher has left: the broker's close is the proof, unless
 * another client of its name, or a reset, may be why. */
static void publisher_that_leaves(void **state)
{
	static const uint8_t bye[] = {0xe0, 0};
	struct pk pub = {.n = 0};
	uint32_t from, no, other;
	struct rig r;

	(void)state;
	start_shadow(&r);
	for (unsigned orderly = 0; orderly < 4; orderly++) {
		from = rig_connect(&r, 4, "pub", true, 0);
		no = rig_connect(&r, 4, "denied", true, 0);
		rig_subscribe(&r, no, "a/b", 0, 0);
		pub.n = 0;
		rig_publish(&pub, 4, "a/b", NULL, &orderly, sizeof(orderly));
		if (orderly)
			pk_raw(&pub, bye, 2);
		fake_client_write(r.f, from, pub.b, pub.n);
		fake_settle(r.f);
		if (orderly == 3) {
			other = fake_open(r.f);
			fake_client_write(r.f, other, "\x10\x0f\0\4MQTT\4\2\0\0\0\3pub", 17);
			fake_settle(r.f);
		}
		if (orderly == 2)
			fake_client_rst(r.f, from);
		else if (orderly)
			fake_app_close(r.f, from);
		fake_settle(r.f);
		broker_gone(r.b, from);
		fake_close(r.f, from);
		judge(&r);
	}
	expect_counts(&r, 0, 1, 0, 3);
	rig_stop(&r);
}

/* A late broker writes to one receiver, whose doorbell was rung before, after the other: what it
 * wrote first is noticed last. */
static void noticed_in_another_order(void **state)
{
	struct pk pub = {.n = 0};
	uint32_t from, a, b;
	struct rig r;

	(void)state;
	start_shadow(&r);
	from = rig_connect(&r, 4, "pub", true, 0);
	a = rig_connect(&r, 4, "a", true, 0);
	b = rig_connect(&r, 4, "b", true, 0);
	rig_subscribe(&r, a, "a/b", 0, 0);
	rig_subscribe(&r, b, "a/b", 0, 0);
	fake_time(r.f, 1);
	rig_publish(&pub, 4, "a/b", NULL, "x", 1);
	publish_unhandled(&r, from, &pub);
	fake_time(r.f, 3000);
	fake_app_write(r.f, b, pub.b, 1);
	fake_app_write(r.f, a, pub.b, pub.n);
	fake_app_write(r.f, b, pub.b + 1, pub.n - 1);
	fake_hc(r.f);
	fake_fetch(r.f, b, SIZE_MAX);
	fake_poll(r.f, 1);
	expect_counts(&r, 1, 0, 0, 0);
	judge(&r);
	expect_counts(&r, 2, 0, 0, 0);
	rig_stop(&r);
}

static void change_and_extra(void **state)
{
	struct pk pub = {.n = 0}, other = {.n = 0}, retained;
	uint32_t from, to, no;
	struct rig r;

	(void)state;
	start_shadow(&r);
	from = rig_connect(&r, 4, "pub", true, 0);
	to = rig_connect(&r, 4, "sub", true, 0);
	no = rig_connect(&r, 4, "none", true, 0);
	rig_subscribe(&r, to, "a/b", 0, 0);
	fake_time(r.f, 1);
	rig_publish(&pub, 4, "a/b", NULL, "x", 1);
	rig_publish(&other, 4, "a/b", NULL, "y", 1);
	publish_unhandled(&r, from, &pub);
	retained = pub;
	retained.b[0] |= 1;
	fake_app_write(r.f, no, retained.b, retained.n);
	fake_app_write(r.f, no, other.b, other.n); /* of a message nobody compares */
	fake_app_write(r.f, to, pub.b, pub.n);
	rig_run(&r);
	expect_counts(&r, 1, 0, 0, 0);
	fake_app_write(r.f, no, pub.b, pub.n);
	fake_app_write(r.f, to, pub.b, pub.n);
	rig_run(&r);
	expect_counts(&r, 1, 0, 2, 0);
	judge(&r);
	/* a plugin that changes the payload */
	publish_unhandled(&r, from, &pub);
	fake_app_write(r.f, to, other.b, other.n);
	rig_run(&r);
	judge(&r);
	expect_counts(&r, 1, 1, 2, 0);
	rig_stop(&r);
}

/* The same content by a message that is not compared, and a receiver that has just asked. */
static void extra_that_says_nothing(void **state)
{
	struct pk pub = {.n = 0}, kept;
	uint32_t from, to, late;
	struct rig r;

	(void)state;
	start_shadow(&r);
	from = rig_connect(&r, 4, "pub", true, 0);
	to = rig_connect(&r, 4, "sub", true, 0);
	late = rig_connect(&r, 4, "late", true, 0);
	rig_subscribe(&r, to, "a/b", 0, 0);
	fake_time(r.f, 1);
	rig_publish(&pub, 4, "a/b", NULL, "x", 1);
	publish_unhandled(&r, from, &pub);
	fake_time(r.f, 1);
	rig_subscribe(&r, late, "a/b", 0, 0);
	fake_app_write(r.f, late, pub.b, pub.n);
	fake_app_write(r.f, to, pub.b, pub.n);
	rig_run(&r);
	judge(&r);
	kept = pub;
	kept.b[0] |= 1;
	fake_client_write(r.f, from, pub.b, pub.n);
	fake_client_write(r.f, from, kept.b, kept.n);
	rig_run(&r);
	judge(&r);
	expect_counts(&r, 3, 0, 0, 0);
	rig_stop(&r);
}

/* Receivers that leave or unsubscribe are not missed; one that is behind is not judged. */
static void receivers_that_change(void **state)
{
	static const uint8_t half[] = {0xd0};
	struct pk pub = {.n = 0}, uns = {.n = 0};
	uint32_t from, gone, off, again, behind;
	struct rig r;

	(void)state;
	start_shadow(&r);
	from = rig_connect(&r, 4, "pub", true, 0);
	gone = rig_connect(&r, 4, "gone", true, 0);
	off = rig_connect(&r, 4, "off", true, 0);
	again = rig_connect(&r, 4, "again", true, 0);
	behind = rig_connect(&r, 4, "behind", true, 0);
	rig_subscribe(&r, gone, "a/b", 0, 0);
	rig_subscribe(&r, off, "a/b", 0, 0);
	rig_subscribe(&r, again, "a/b", 0, 0);
	rig_subscribe(&r, behind, "a/b", 0, 0);
	rig_publish(&pub, 4, "a/b", NULL, "x", 1);
	publish_unhandled(&r, from, &pub);
	assert_int_equal(rig_stage(&r)->audit->copy_used, 4);
	broker_gone(r.b, gone);
	fake_close(r.f, gone);
	pk_u16(&uns, 5);
	pk_str(&uns, "a/b");
	rig_write(&r, off, 0xa2, &uns);
	rig_subscribe(&r, again, "a/b", 0, 0);
	fake_app_write(r.f, behind, half, 1);
	fake_settle(r.f);
	rig_conn(&r, behind)->taken--; /* as if it had not been fetched */
	judge(&r);
	expect_counts(&r, 0, 0, 0, 1);
	rig_conn(&r, behind)->taken++;
	rig_stop(&r);
}

static void tables_full(void **state)
{
	struct pk pub = {.n = 0};
	uint32_t from, to;
	struct rig r;

	(void)state;
	start_shadow(&r);
	from = rig_connect(&r, 4, "pub", true, 0);
	to = rig_connect(&r, 4, "sub", true, 0);
	rig_subscribe(&r, to, "a/b", 0, 0);
	rig_publish(&pub, 4, "a/b", NULL, "x", 1);
	for (unsigned i = 0; i < MQTT_AUDIT_MSGS + 10; i++) {
		fake_client_write(r.f, from, pub.b, pub.n);
		rig_run(&r);
		fake_client_read(r.f, to, NULL, SIZE_MAX);
	}
	expect_counts(&r, MQTT_AUDIT_MSGS, 0, 0, 10);
	judge(&r);
	for (unsigned i = 0; i < 16; i++) {
		char topic[8];

		snprintf(topic, sizeof(topic), "n/%u", i);
		to = rig_connect(&r, 5, topic, true, 0);
		for (unsigned k = 0; k < 20; k++) {
			static const char *const filter[20] = {
				"w", "#", "+", "w/#", "+/#", "a", "b", "c", "d", "e",
				"f", "g", "h", "i",   "j",   "k", "l", "m", "n", "o"};

			rig_subscribe(&r, to, filter[k], 0, 0);
		}
	}
	for (unsigned i = 0; i < 60; i++) {
		pub.n = 0;
		rig_publish(&pub, 4, "w", NULL, &i, sizeof(i));
		publish_unhandled(&r, from, &pub);
		rig_stage(&r)->audit->msg[0].handled = true;
		rig_conn(&r, from)->proven = rig_conn(&r, from)->slow_event;
	}
	assert_true(rig_stage(&r)->audit->copy_used <= MQTT_AUDIT_COPIES);
	assert_true(rig_stage(&r)->audit->copy_used > MQTT_AUDIT_COPIES - 256);
	assert_true(gate(&r)->skipped > 10);
	rig_stop(&r);
}

/* One in three goes through the broker and is compared; the rest is fast and is not looked at. */
static void canaries(void **state)
{
	struct pk pub = {.n = 0};
	uint32_t from, to;
	struct rig r;

	(void)state;
	rig_start(&r, "#", 1000);
	r.cfg.mqtt_canary = 3;
	from = rig_connect(&r, 4, "pub", true, 0);
	to = rig_connect(&r, 4, "sub", true, 0);
	rig_subscribe(&r, to, "a/b", 0, 0);
	rig_publish(&pub, 4, "a/b", NULL, "x", 1);
	for (unsigned i = 0; i < 30; i++) {
		fake_client_write(r.f, from, pub.b, pub.n);
		rig_run(&r);
		assert_int_equal(rig_conn(&r, to)->look.on, 0);
	}
	assert_int_equal(rig_slow(&r, MQTT_R_CANARY), 10);
	judge(&r);
	expect_counts(&r, 10, 0, 0, 0);
	rig_stop(&r);
}

/* What is compared when its filter goes counts nowhere, also not for one that comes instead. */
static void filter_that_goes(void **state)
{
	struct pk pub = {.n = 0};
	uint32_t from, to, no;
	struct rig r;

	(void)state;
	start_shadow(&r);
	from = rig_connect(&r, 4, "pub", true, 0);
	to = rig_connect(&r, 4, "sub", true, 0);
	no = rig_connect(&r, 4, "denied", true, 0);
	rig_subscribe(&r, to, "a/b", 0, 0);
	rig_subscribe(&r, no, "a/b", 0, 0);
	rig_publish(&pub, 4, "a/b", NULL, "x", 1);
	publish_unhandled(&r, from, &pub);
	assert_int_equal(mqtt_decide_gate_del(rig_stage(&r), "#"), 0);
	assert_int_equal(mqtt_decide_gate_add(rig_stage(&r), "b/#", false), 0);
	fake_app_write(r.f, to, pub.b, pub.n);
	rig_run(&r);
	judge(&r);
	expect_counts(&r, 0, 0, 0, 0);
	rig_stop(&r);
}

/* Two copies that look alike, and while the broker has the message one of the two subscriptions
 * gets another identifier: the copy that still looks so is the other's. */
static void copies_that_look_alike(void **state)
{
	struct pk pub = {.n = 0}, props = {.n = 0}, sub = {.n = 0};
	uint32_t from, to;
	struct rig r;

	(void)state;
	start_shadow(&r);
	from = rig_connect(&r, 4, "pub", true, 0);
	to = rig_connect(&r, 5, "sub", true, 0);
	for (unsigned again = 0; again < 2; again++) {
		rig_subscribe(&r, to, again ? "a/b" : "a/#", 0, 9);
		rig_subscribe(&r, to, again ? "a/#" : "a/b", 0, 9);
		rig_publish(&pub, 4, "a/b", NULL, "x", 1);
		publish_unhandled(&r, from, &pub);
		sub.n = props.n = pub.n = 0;
		pk_u16(&sub, 5);
		pk_u8(&sub, 2);
		pk_u8(&sub, 0x0b);
		pk_u8(&sub, 8);
		pk_str(&sub, "a/#");
		pk_u8(&sub, 0);
		rig_write(&r, to, 0x82, &sub);
		fake_settle(r.f);
		for (unsigned id = 8; id <= 9; id++) {
			props.n = pub.n = 0;
			pk_u8(&props, 0x0b);
			pk_u8(&props, id);
			rig_publish(&pub, 5, "a/b", &props, "x", 1);
			fake_app_write(r.f, to, pub.b, pub.n);
		}
		fake_settle(r.f);
		rig_run(&r);
		pub.n = 0;
		judge(&r);
		expect_counts(&r, again + 1, 0, 0, 0);
	}
	rig_stop(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(broker_that_matches),
		cmocka_unit_test(split_everywhere),
		cmocka_unit_test(copy_that_is_dropped),
		cmocka_unit_test(publisher_that_leaves),
		cmocka_unit_test(noticed_in_another_order),
		cmocka_unit_test(change_and_extra),
		cmocka_unit_test(extra_that_says_nothing),
		cmocka_unit_test(receivers_that_change),
		cmocka_unit_test(tables_full),
		cmocka_unit_test(canaries),
		cmocka_unit_test(filter_that_goes),
		cmocka_unit_test(copies_that_look_alike),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
