/* SPDX-License-Identifier: BSD-3-Clause */
/* LINK: tests/unit/mqtt_broker.h */
/* The MQTT stage and sessions a broker has from before it was started: what libtoe tells of them
 * makes them as if the stage had seen them; what it does not, or not whole, is unknown. */
#include <stdio.h>

#include "mqtt_stage_rig.h"
#include "toe/ctl.h"

#define SESSION TOE_RESTORE_SESSION
#define SUB     TOE_RESTORE_SUB
#define WHOLE   TOE_RESTORE_WHOLE

static int tell_raw(struct rig *r, const uint8_t *data, size_t n)
{
	char text[512], out[4096];
	struct toe_stream_ask a = {.what = "kernel", .arg = text, .out = out, .room = sizeof(out)};
	int at = snprintf(text, sizeof(text), "%u 0 0 %u ", FAKE_APP, TOE_KCONN_MQTT_RESTORE);

	for (size_t i = 0; i < n; i++)
		at += snprintf(text + at, sizeof(text) - (size_t)at, "%02x", data[i]);
	return mqtt_control(fake_stream(r->f), &a);
}

static int tell(struct rig *r, uint8_t type, const void *data, size_t n)
{
	uint8_t raw[160] = {type, (uint8_t)n};

	if (n > 0)
		memcpy(raw + 2, data, n);
	return tell_raw(r, raw, 2 + n);
}

static int tell_sub(struct rig *r, uint8_t options, uint8_t sub_id, const char *filter)
{
	uint8_t data[158] = {options, 0, 0, 0, sub_id};

	memcpy(data + 5, filter, strlen(filter));
	return tell(r, SUB, data, 5 + strlen(filter));
}

/* A broker with a session of "old" (t, QoS 1, identifier 9, No Local) and one of "v31" (t), and an
 * engine that has seen neither. */
static void start(struct rig *r)
{
	uint32_t id;

	rig_start(r, "#", 1000);
	id = rig_connect(r, 5, "old", false, 0);
	rig_subscribe(r, id, "t", 4 | 1, 9);
	broker_gone(r->b, id);
	fake_close(r->f, id);
	id = rig_connect(r, 3, "v31", false, 0);
	rig_subscribe(r, id, "t", 0, 0);
	broker_gone(r->b, id);
	fake_close(r->f, id);
	fake_set_app(r->f, FAKE_APP, 2, 0);
}

static void tell_both(struct rig *r)
{
	assert_int_equal(tell(r, SESSION, "old", 3), 0);
	assert_int_equal(tell_sub(r, 4 | 1, 9, "t"), 0);
	assert_int_equal(tell(r, WHOLE, NULL, 0), 0);
	assert_int_equal(tell(r, SESSION, "v31", 3), 0);
	assert_int_equal(tell_sub(r, 0, 0, "t"), 0);
	assert_int_equal(tell(r, WHOLE, NULL, 0), 0);
}

static void publish(struct rig *r, uint32_t from, unsigned level, const char *topic)
{
	struct pk p = {.n = 0};

	rig_publish(&p, level, topic, NULL, "x", 1);
	fake_client_write(r->f, from, p.b, p.n);
	rig_run(r);
}

/* Fast, each gets what the broker would have sent: with the identifier, not its own (No Local). */
static void restored(void **state)
{
	struct rig r;
	struct pk want = {.n = 0}, props = {.n = 0}, want31 = {.n = 0};
	uint32_t old, v31, pub;

	(void)state;
	start(&r);
	tell_both(&r);
	assert_int_equal(rig_stage(&r)->counters[MQTT_C_RESTORED], 2);
	pub = rig_connect(&r, 4, "pub", true, 0);
	publish(&r, pub, 4, "t"); /* they are offline: nobody gets it */
	assert_int_equal(rig_slow(&r, MQTT_R_FAST), 1);
	old = rig_connect(&r, 5, "old", false, 0);
	v31 = rig_connect(&r, 3, "v31", false, 0);
	assert_int_equal(rig_stage(&r)->unknown_n, 0);
	rig_forget(&r);
	publish(&r, pub, 4, "t");
	assert_int_equal(rig_slow(&r, MQTT_R_FAST), 2);
	pk_u8(&props, 0x0b);
	pk_u8(&props, 9);
	rig_publish(&want, 5, "t", &props, "x", 1);
	rig_expect(&r, old, &want);
	rig_publish(&want31, 3, "t", NULL, "x", 1);
	rig_expect(&r, v31, &want31);
	publish(&r, old, 5, "t");
	assert_int_equal(rig_slow(&r, MQTT_R_FAST), 3);
	rig_expect(&r, v31, &want31);
	assert_int_equal(bytes_n(&r.got[old]), 0);
	rig_stop(&r);
}

/* Until it has been proven what the broker has for it first. */
static void proven_first(void **state)
{
	struct rig r;
	struct mqtt_subs *subs;
	uint32_t session, id;

	(void)state;
	start(&r);
	tell_both(&r);
	rig_stage(&r)->counters[MQTT_C_ACTIVATED] = 0;
	id = rig_connect(&r, 5, "old", false, 0);
	subs = rig_stage(&r)->subs;
	session = rig_conn(&r, id)->session;
	assert_int_equal(mqtt_subs_get(subs, mqtt_subs_first(subs, session))->state, MQTT_S_ACTIVE);
	assert_int_equal(rig_stage(&r)->counters[MQTT_C_ACTIVATED], 1);
	rig_stop(&r);
}

/* A client that begins anew has none of it. */
static void begins_anew(void **state)
{
	struct rig r;
	uint32_t id;

	(void)state;
	start(&r);
	tell_both(&r);
	id = rig_connect(&r, 5, "old", true, 0);
	assert_int_equal(mqtt_subs_first(rig_stage(&r)->subs, rig_conn(&r, id)->session),
			 MQTT_SUB_NONE);
	rig_stop(&r);
}

/* Of one that is not told whole nobody knows, as of one that is not told. */
static void half_told(void **state)
{
	struct rig r;
	uint32_t id;

	(void)state;
	for (unsigned how = 0; how < 4; how++) {
		start(&r);
		if (how > 0)
			assert_int_equal(tell(&r, SESSION, "old", 3), 0);
		if (how == 2) {
			assert_int_equal(tell_sub(&r, 3, 0, "t"), -EINVAL); /* QoS 3 */
			assert_int_equal(tell(&r, WHOLE, NULL, 0), -ESRCH);
		}
		if (how == 3) { /* another one begins */
			assert_int_equal(tell(&r, SESSION, "v31", 3), 0);
			assert_int_equal(tell(&r, WHOLE, NULL, 0), 0);
			assert_int_equal(tell(&r, WHOLE, NULL, 0), -ESRCH);
		}
		id = rig_connect(&r, 5, "old", false, 0);
		assert_int_equal(rig_stage(&r)->unknown_n, 1);
		assert_int_equal(tell_sub(&r, 0, 0, "u"), -ESRCH); /* too late */
		publish(&r, rig_connect(&r, 4, "pub", true, 0), 4, "t");
		assert_int_equal(rig_slow(&r, MQTT_R_UNKNOWN), 1);
		fake_close(r.f, id);
		rig_stop(&r);
	}
}

static int news(struct rig *r, const char *text)
{
	char out[4096];
	struct toe_stream_ask a = {.what = "kernel", .arg = text, .out = out, .room = sizeof(out)};

	return mqtt_control(fake_stream(r->f), &a);
}

/* Through the kernel a restored session is resumed: what it has is slow, all else is fast, as long
 * as it is there.  Through the kernel it may come again; at the port nobody knows what it has. */
static void through_kernel(void **state)
{
	struct rig r;
	uint32_t pub;

	(void)state;
	start(&r);
	tell_both(&r);
	pub = rig_connect(&r, 4, "pub", true, 0);
	fake_set_app(r.f, FAKE_APP, 2, 1);
	fake_followed(r.f, 1);
	assert_int_equal(news(&r, "7 0 5 6 787878"), -ESRCH); /* xxx: not known */
	for (unsigned i = 1; i <= 2; i++) {
		fake_set_app(r.f, FAKE_APP, 2, 1);
		fake_followed(r.f, 1);
		assert_int_equal(news(&r, "7 0 5 6 6f6c64"), 0);
		publish(&r, pub, 4, "t");
		assert_int_equal(rig_slow(&r, MQTT_R_KERNEL), i == 1 ? 1 : 3);
		publish(&r, pub, 4, "v");
		assert_int_equal(rig_slow(&r, MQTT_R_FAST), i == 1 ? 1 : 3);
		if (i == 1)
			assert_int_equal(news(&r, "7 0 5 2 0175"), 0); /* subscribes to u */
		publish(&r, pub, 4, "u");
		assert_int_equal(rig_slow(&r, MQTT_R_KERNEL), i * 2);
		assert_int_equal(news(&r, "7 0 5 3 "), 0);
		fake_followed(r.f, 0);
		fake_set_app(r.f, FAKE_APP, 2, 0);
		publish(&r, pub, 4, "u");
		assert_int_equal(rig_slow(&r, MQTT_R_FAST), i * 2);
	}
	rig_connect(&r, 5, "old", false, 0);
	assert_int_equal(rig_stage(&r)->unknown_n, 1);
	rig_stop(&r);
}

/* What could not be seen to its end, or is taken over by the port, is not known any more. */
static void kernel_lost(void **state)
{
	struct rig r;

	(void)state;
	for (unsigned how = 0; how < 4; how++) {
		start(&r);
		tell_both(&r);
		fake_set_app(r.f, FAKE_APP, 2, 1);
		fake_followed(r.f, 1);
		assert_int_equal(news(&r, "7 0 5 6 6f6c64"), 0);
		if (how == 0)
			assert_int_equal(news(&r, "7 0 5 3 01"), 0);
		if (how == 1)
			assert_int_equal(news(&r, "7 0 5 1 "), 0); /* the same, again */
		if (how == 2) {
			uint32_t id = rig_connect(&r, 5, "old", false, 0);

			assert_int_equal(rig_stage(&r)->unknown_n, 1);
			assert_int_equal(news(&r, "7 0 5 3 "), 0);
			fake_close(r.f, id);
		}
		if (how == 3) { /* a new session of that name */
			assert_int_equal(news(&r, "7 0 5 3 "), 0);
			assert_int_equal(news(&r, "7 0 6 1 6f6c64"), 0);
			assert_int_equal(news(&r, "7 0 6 3 "), 0);
		}
		assert_int_equal(news(&r, "7 0 7 6 6f6c64"), -ESRCH);
		rig_stop(&r);
	}
}

/* Several in a message; what comes behind one that is wrong counts. */
static void in_one(void **state)
{
	static const uint8_t both[] = "\1\3old\2\6\5\0\0\0\11t\3\0\1\3v31\2\6\0\0\0\0\0t\3";
	static const uint8_t wrong[] = "\1\3old\2\6\3\0\0\0\11t\3\0\1\3v31\2\6\0\0\0\0\0t\3";
	static const size_t cuts[] = {1, 4, 6, 12};
	struct rig r;

	(void)state;
	start(&r);
	assert_int_equal(tell_raw(&r, both, sizeof(both)), 0); /* the last byte is a 0 */
	assert_int_equal(rig_stage(&r)->counters[MQTT_C_RESTORED], 2);
	rig_stop(&r);
	start(&r);
	assert_int_equal(tell_raw(&r, wrong, sizeof(wrong)), -EINVAL);
	assert_int_equal(rig_stage(&r)->counters[MQTT_C_RESTORED], 1);
	rig_connect(&r, 5, "old", false, 0);
	rig_connect(&r, 3, "v31", false, 0);
	assert_int_equal(rig_stage(&r)->unknown_n, 1);
	rig_stop(&r);
	start(&r);
	for (size_t i = 0; i < COUNT(cuts); i++)
		assert_int_equal(tell_raw(&r, both, cuts[i]), -EINVAL);
	rig_stop(&r);
}

static void refused(void **state)
{
	struct rig r;
	uint8_t name[64] = "a";
	uint32_t id;
	unsigned n = 0;

	(void)state;
	start(&r);
	assert_int_equal(tell(&r, SUB, "\0\0\0\0\0t", 6), -ESRCH);
	assert_int_equal(tell(&r, SESSION, "", 0), -ENOSPC);
	assert_int_equal(tell(&r, SESSION, "\0x", 2), -ENOSPC);
	assert_int_equal(tell(&r, SESSION, "s", 1), 0);
	assert_int_equal(tell(&r, SUB, "\0\0\0\0", 4), -EINVAL);
	assert_int_equal(tell(&r, SESSION, "s", 1), -ENOSPC); /* twice */
	assert_int_equal(tell(&r, SESSION, "w", 1), 0);
	assert_int_equal(tell_sub(&r, 0, 0, "a/#/b"), 0); /* the broker has refused it */
	assert_int_equal(tell_sub(&r, 0, 0, "\xff"), -EINVAL);
	/* online: it is the other way round */
	id = rig_connect(&r, 4, "on", false, 0);
	assert_int_equal(tell(&r, SESSION, "on", 2), -ENOSPC);
	/* as many as there are: those from before make room */
	while (n < 1000) {
		name[1] = (uint8_t)('a' + n % 26);
		name[2] = (uint8_t)('a' + n / 26);
		assert_int_equal(tell(&r, SESSION, name, 3), 0);
		assert_int_equal(tell(&r, WHOLE, NULL, 0), 0);
		n++;
	}
	assert_true(rig_stage(&r)->counters[MQTT_C_FORGOTTEN] > 0);
	assert_int_not_equal(rig_conn(&r, id)->session, MQTT_NONE);
	rig_stop(&r);
}

/* More subscriptions than there is room for. */
static void too_many(void **state)
{
	struct rig r;
	char filter[16];
	int rc = 0;

	(void)state;
	start(&r);
	assert_int_equal(tell(&r, SESSION, "old", 3), 0);
	for (unsigned i = 0; i < 2000 && rc == 0; i++) {
		snprintf(filter, sizeof(filter), "f/%u", i);
		rc = tell_sub(&r, 0, 0, filter);
	}
	assert_int_equal(rc, -ENOSPC);
	assert_int_equal(tell(&r, WHOLE, NULL, 0), -ESRCH);
	rig_connect(&r, 5, "old", false, 0);
	assert_int_equal(rig_stage(&r)->unknown_n, 1);
	rig_stop(&r);
}

/* Clients of the broker before are still there: not yet. */
static void not_yet(void **state)
{
	struct rig r;
	uint32_t id;

	(void)state;
	rig_start(&r, "#", 1000);
	id = rig_connect(&r, 4, "any", true, 0);
	fake_set_app(r.f, FAKE_APP, 2, 0);
	assert_int_equal(tell(&r, SESSION, "old", 3), -EAGAIN);
	fake_close(r.f, id);
	assert_int_equal(tell(&r, SESSION, "old", 3), 0);
	rig_stop(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(restored),       cmocka_unit_test(proven_first),
		cmocka_unit_test(begins_anew),    cmocka_unit_test(half_told),
		cmocka_unit_test(refused),        cmocka_unit_test(too_many),
		cmocka_unit_test(not_yet),        cmocka_unit_test(in_one),
		cmocka_unit_test(through_kernel), cmocka_unit_test(kernel_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
