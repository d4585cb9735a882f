// SPDX-License-Identifier: BSD-3-Clause
/* LINK: modules/mqtt/mqtt_wire.c modules/mqtt/mqtt_props.c */
/* Session packets of all three versions: golden bytes, every prefix, one byte too many, and tables
 * of what must be refused or, because mosquitto does it, accepted. */
#include "mqtt_rig.h"

/* ---- golden packets ------------------------------------------------------------------------- */

static void test_connect_31(void **state)
{
	struct mqtt_connect c;

	(void)state;
	assert_int_equal(mqtt_connect_parse(
				 LIT("\0\6MQIsdp\3\xc6\0\12\0\3abc\0\1w\0\2hi\0\4user\0\2pw"), &c),
			 0);
	assert_int_equal(c.level, 3);
	assert_false(c.bridge);
	assert_true(c.clean && c.has_will && c.has_username);
	assert_int_equal(c.keep_alive_s, 10);
	assert_str(c.client_id, "abc");
	assert_str(c.username, "user");
	assert_int_equal(c.receive_maximum, 65535);
	assert_int_equal(c.maximum_packet_size, 0);
	assert_int_equal(mqtt_connect_parse(LIT("\0\6MQIsdp\x83\0\0\12\0\1b"), &c), 0);
	assert_int_equal(c.level, 3);
	assert_true(c.bridge);
	assert_false(c.clean || c.has_will || c.has_username);
}

/* Of every part of it: nothing is said too soon, nor too late. */
static void test_connect_begin(void **state)
{
	static const char body[] =
		"\0\4MQTT\5\4\0\12\x0a\x11\0\0\0\7\x27\0\0\1\0\0\3abc\0\0\1w\0\2hi";
	const uint32_t all = sizeof(body) - 1, head = 26;
	struct mqtt_connect c;

	(void)state;
	for (uint32_t n = 0; n <= all; n++) {
		uint8_t *p = exact_copy(body, n);

		assert_int_equal(mqtt_connect_begin(0x10, p, n, all, &c), n >= head);
		if (n >= head) {
			assert_str(c.client_id, "abc");
			assert_int_equal(c.session_expiry_s, 7);
			assert_int_equal(c.maximum_packet_size, 256);
			assert_true(c.has_will);
		}
		assert_int_equal(mqtt_connect_begin(0x10, p, n, n, &c), n >= head ? 1
									: n <= 6  ? -EPROTONOSUPPORT
										  : -EPROTO);
		free(p);
	}
	assert_int_equal(mqtt_connect_begin(0x12, LIT(body), all, &c), -EPROTO);
	assert_int_equal(mqtt_connect_begin(0x1f, LIT("\0\6MQIsdp\3\0\0\0\0\1a"), 15, &c), 1);
	assert_int_equal(mqtt_connect_begin(0x10, LIT("\0\5"), 15, &c), -EPROTONOSUPPORT);
	assert_int_equal(mqtt_connect_begin(0x10, LIT("\0\4MQTX"), 15, &c), -EPROTONOSUPPORT);
	assert_int_equal(mqtt_connect_begin(0x10, LIT("\0\4MQTT\6\0\0\0\0\1a"), 13, &c), -EPROTO);
}

/* mosquitto takes level 5 with the bridge bit as level 5 without properties. */
static void test_connect_bridge_5(void **state)
{
	struct mqtt_connect c;

	(void)state;
	assert_int_equal(mqtt_connect_begin(0x10, LIT("\0\4MQTT\x85\0\0\0\0\3abc"), 15, &c), 1);
	assert_int_equal(c.level, 5);
	assert_str(c.client_id, "abc");
	assert_int_equal(c.session_expiry_s, UINT32_MAX);
	assert_false(c.bridge);
	assert_int_equal(mqtt_connect_begin(0x10, LIT("\0\4MQTT\x85\2\0\0\0\3abc"), 15, &c), 1);
	assert_int_equal(c.session_expiry_s, 0);
}

static void test_connect_311(void **state)
{
	struct mqtt_connect c;

	(void)state;
	/* what mosquitto_sub sends */
	assert_int_equal(mqtt_connect_parse(LIT("\0\4MQTT\4\2\0\x3c\0\0"), &c), 0);
	assert_int_equal(c.level, 4);
	assert_true(c.clean);
	assert_int_equal(c.keep_alive_s, 60);
	assert_int_equal(c.client_id.len, 0);
	assert_int_equal(mqtt_connect_parse(LIT("\0\4MQTT\x84\0\0\x3c\0\6bridge"), &c), 0);
	assert_int_equal(c.level, 4);
	assert_true(c.bridge);
	assert_str(c.client_id, "bridge");
	/* a will with an empty payload, QoS 2, retained */
	assert_int_equal(mqtt_connect_parse(LIT("\0\4MQTT\4\x34\0\0\0\1c\0\3a/b\0\0"), &c), 0);
	assert_true(c.has_will);
}

static void test_connect_5(void **state)
{
	struct mqtt_connect c;

	(void)state;
	assert_int_equal(mqtt_connect_parse(LIT("\0\4MQTT\5\x86\1\0"
						"\x16\x11\0\0\1\x2c\x27\0\1\0\0\x21\0\x0a\x22\0\5"
						"\x26\0\1k\0\0"
						"\0\2id"
						"\5\x18\0\0\0\x05\0\1w\0\3bye"
						"\0\1u"),
					    &c),
			 0);
	assert_int_equal(c.level, 5);
	assert_true(c.clean && c.has_will && c.has_username);
	assert_int_equal(c.keep_alive_s, 256);
	assert_int_equal(c.session_expiry_s, 300);
	assert_int_equal(c.maximum_packet_size, 65536);
	assert_int_equal(c.receive_maximum, 10);
	assert_int_equal(c.topic_alias_max, 5);
	assert_str(c.client_id, "id");
	assert_str(c.username, "u");
	/* password without user name: level 5 only */
	assert_int_equal(mqtt_connect_parse(LIT("\0\4MQTT\5\x42\0\0\0\0\0\0\2pw"), &c), 0);
	assert_false(c.has_username);
}

static void test_connack(void **state)
{
	struct mqtt_connack a;

	(void)state;
	assert_int_equal(mqtt_connack_parse(3, LIT("\0\0"), &a), 0);
	assert_int_equal(a.reason, 0);
	assert_int_equal(mqtt_connack_parse(3, LIT("\1\5"), &a), 0); /* byte 1 is reserved there */
	assert_false(a.session_present);
	assert_int_equal(a.reason, 5);
	assert_int_equal(mqtt_connack_parse(4, LIT("\1\0"), &a), 0);
	assert_true(a.session_present);
	assert_int_equal(mqtt_connack_parse(4, LIT("\0\5"), &a), 0);
	assert_int_equal(a.reason, 5);
	/* what mosquitto sends: topic alias maximum 10, receive maximum 20 */
	assert_int_equal(mqtt_connack_parse(5, LIT("\0\0\6\x22\0\x0a\x21\0\x14"), &a), 0);
	assert_int_equal(a.topic_alias_max, 10);
	assert_false(a.has_assigned_id || a.has_keep_alive || a.has_session_expiry);
	assert_int_equal(mqtt_connack_parse(5,
					    LIT("\1\0\x15\x12\0\3abc\x13\0\x1e\x11\0\0\0\0"
						"\x27\0\0\4\0\x25\0"),
					    &a),
			 0);
	assert_true(a.session_present && a.has_assigned_id && a.has_keep_alive &&
		    a.has_session_expiry);
	assert_str(a.assigned_id, "abc");
	assert_int_equal(a.keep_alive_s, 30);
	assert_int_equal(a.session_expiry_s, 0);
	assert_int_equal(a.maximum_packet_size, 1024);
	assert_int_equal(mqtt_connack_parse(5, LIT("\0\x87\0"), &a), 0);
	assert_int_equal(a.reason, 0x87);
}

static void test_subscribe_v3(void **state)
{
	struct mqtt_subscribe s;
	struct mqtt_sub_item it;

	(void)state;
	for (uint8_t level = 3; level <= 4; level++) {
		assert_int_equal(
			mqtt_subscribe_parse(level,
					     LIT("\0\x0a\0\3a/b\1\0\3c/#\2\0\x0a$share/g/+\0"), &s),
			0);
		assert_int_equal(s.packet_id, 10);
		assert_int_equal(s.sub_id, 0);
		assert_int_equal(s.n, 3);
		assert_true(mqtt_subscribe_next(&s, &it));
		assert_str(it.filter, "a/b");
		assert_int_equal(it.qos, 1);
		assert_false(it.no_local || it.rap);
		assert_int_equal(it.retain_handling, 0);
		assert_true(mqtt_subscribe_next(&s, &it));
		assert_str(it.filter, "c/#");
		assert_int_equal(it.qos, 2);
		assert_true(mqtt_subscribe_next(&s, &it));
		assert_str(it.filter, "$share/g/+");
		assert_int_equal(s.n, 0);
		assert_int_equal(s.items_len, 0);
		assert_false(mqtt_subscribe_next(&s, &it));
		assert_false(mqtt_subscribe_next(&s, &it));
	}
}

static void test_subscribe_5(void **state)
{
	struct mqtt_subscribe s;
	struct mqtt_sub_item it;

	(void)state;
	assert_int_equal(mqtt_subscribe_parse(5,
					      LIT("\x12\x34\5\x0b\xff\xff\xff\x7f"
						  "\0\1a\x2e\0\1b\x15"),
					      &s),
			 0);
	assert_int_equal(s.packet_id, 0x1234);
	assert_int_equal(s.sub_id, 268435455);
	assert_int_equal(s.n, 2);
	assert_true(mqtt_subscribe_next(&s, &it));
	assert_str(it.filter, "a");
	assert_int_equal(it.qos, 2);
	assert_true(it.no_local && it.rap);
	assert_int_equal(it.retain_handling, 2);
	assert_true(mqtt_subscribe_next(&s, &it));
	assert_int_equal(it.qos, 1);
	assert_true(it.no_local);
	assert_false(it.rap);
	assert_int_equal(it.retain_handling, 1);
	assert_false(mqtt_subscribe_next(&s, &it));
	/* No Local on a shared subscription: mosquitto grants it */
	assert_int_equal(mqtt_subscribe_parse(5, LIT("\0\1\0\0\x0a$share/g/a\4"), &s), 0);
}

static void test_unsubscribe(void **state)
{
	struct mqtt_subscribe s;
	struct mqtt_sub_item it;

	(void)state;
	for (uint8_t level = 3; level <= 5; level++) {
		if (level < 5)
			assert_int_equal(mqtt_unsubscribe_parse(level, LIT("\0\7\0\1a\0\3b/+"), &s),
					 0);
		else
			assert_int_equal(
				mqtt_unsubscribe_parse(level,
						       LIT("\0\7\7\x26\0\1k\0\1v\0\1a\0\3b/+"), &s),
				0);
		assert_int_equal(s.packet_id, 7);
		assert_int_equal(s.n, 2);
		assert_true(mqtt_unsubscribe_next(&s, &it));
		assert_str(it.filter, "a");
		assert_true(mqtt_unsubscribe_next(&s, &it));
		assert_str(it.filter, "b/+");
		assert_false(mqtt_unsubscribe_next(&s, &it));
	}
	/* MQTT 3.1: mosquitto answers a packet without filters */
	assert_int_equal(mqtt_subscribe_parse(3, LIT("\0\7"), &s), 0);
	assert_false(mqtt_subscribe_next(&s, &it));
	assert_int_equal(mqtt_unsubscribe_parse(3, LIT("\0\7"), &s), 0);
	assert_false(mqtt_unsubscribe_next(&s, &it));
}

static void test_suback(void **state)
{
	struct mqtt_suback a;

	(void)state;
	assert_int_equal(mqtt_suback_parse(4, LIT("\0\1\0\1\2\x80"), &a), 0);
	assert_int_equal(a.packet_id, 1);
	assert_int_equal(a.n, 4);
	assert_memory_equal(a.codes, "\0\1\2\x80", 4);
	assert_int_equal(mqtt_suback_parse(5, LIT("\0\1\0\1\x87"), &a), 0);
	assert_int_equal(a.n, 2);
	assert_memory_equal(a.codes, "\1\x87", 2);
	assert_int_equal(mqtt_suback_parse(3, LIT("\0\1"), &a), 0);
	assert_int_equal(a.n, 0);
	assert_int_equal(mqtt_unsuback_parse(3, LIT("\0\2"), &a), 0);
	assert_int_equal(mqtt_unsuback_parse(4, LIT("\0\2"), &a), 0);
	assert_int_equal(a.packet_id, 2);
	assert_int_equal(a.n, 0);
	assert_int_equal(mqtt_unsuback_parse(5, LIT("\0\2\0\0\x11\x87"), &a), 0);
	assert_int_equal(a.n, 3);
	assert_memory_equal(a.codes, "\0\x11\x87", 3);
}

static void test_disconnect(void **state)
{
	uint8_t reason = 9;
	uint32_t expiry;
	bool has;

	(void)state;
	for (uint8_t level = 3; level <= 5; level++) {
		assert_int_equal(mqtt_disconnect_parse(level, NULL, 0, &reason, &has, &expiry), 0);
		assert_int_equal(reason, 0);
		assert_false(has);
	}
	assert_int_equal(mqtt_disconnect_parse(5, LIT("\4"), &reason, &has, &expiry), 0);
	assert_int_equal(reason, 4);
	assert_int_equal(mqtt_disconnect_parse(5, LIT("\0\5\x11\0\0\0\0"), &reason, &has, &expiry),
			 0);
	assert_true(has);
	assert_int_equal(expiry, 0);
	assert_int_equal(mqtt_disconnect_parse(5, LIT("\0\5\x11\0\0\1\0"), &reason, &has, &expiry),
			 0);
	assert_int_equal(expiry, 256);
}

/* ---- refused and accepted ------------------------------------------------------------------- */

static int body_parse(enum mqtt_type type, uint8_t level, const uint8_t *b, size_t n)
{
	union {
		struct mqtt_connect con;
		struct mqtt_connack cack;
		struct mqtt_subscribe sub;
		struct mqtt_suback sack;
	} out;
	uint8_t reason;
	uint32_t sec;
	bool has;

	switch (type) {
	case MQTT_CONNECT:
		return mqtt_connect_parse(b, n, &out.con);
	case MQTT_CONNACK:
		return mqtt_connack_parse(level, b, n, &out.cack);
	case MQTT_SUBSCRIBE:
		return mqtt_subscribe_parse(level, b, n, &out.sub);
	case MQTT_UNSUBSCRIBE:
		return mqtt_unsubscribe_parse(level, b, n, &out.sub);
	case MQTT_SUBACK:
		return mqtt_suback_parse(level, b, n, &out.sack);
	case MQTT_UNSUBACK:
		return mqtt_unsuback_parse(level, b, n, &out.sack);
	default:
		return mqtt_disconnect_parse(level, b, n, &reason, &has, &sec);
	}
}

struct text {
	enum mqtt_type type;
	uint8_t level;
	const char *what;
	const char *b;
	size_t n;
};

#define T(type, level, what, bytes)                                                                \
	{                                                                                          \
		MQTT_##type, level, what, bytes, sizeof(bytes) - 1                                 \
	}

static void table_check(const struct text *t, size_t n, int want)
{
	for (size_t i = 0; i < n; i++) {
		uint8_t *b = exact_copy(t[i].b, t[i].n);

		if (body_parse(t[i].type, t[i].level, b, t[i].n) != want)
			fail_msg("type %d, level %u: %s", t[i].type, t[i].level, t[i].what);
		free(b);
	}
}

static void test_refused(void **state)
{
	static const struct text t[] = {
		T(CONNECT, 4, "name", "\0\4MQTX\4\2\0\0\0\1a"),
		T(CONNECT, 4, "name in small letters", "\0\4mqtt\4\2\0\0\0\1a"),
		T(CONNECT, 4, "empty name", "\0\0\4\2\0\0\0\1a"),
		T(CONNECT, 4, "name and level apart", "\0\6MQIsdp\4\2\0\0\0\1a"),
		T(CONNECT, 3, "name and level apart", "\0\4MQTT\3\2\0\0\0\1a"),
		T(CONNECT, 4, "level 6", "\0\4MQTT\6\2\0\0\0\0\1a"),
		T(CONNECT, 4, "reserved flag", "\0\4MQTT\4\3\0\0\0\1a"),
		T(CONNECT, 4, "will QoS 3", "\0\4MQTT\4\x1e\0\0\0\1a\0\1w\0\0"),
		T(CONNECT, 3, "will QoS 3", "\0\6MQIsdp\3\x1e\0\0\0\1a\0\1w\0\0"),
		T(CONNECT, 4, "will QoS without will", "\0\4MQTT\4\x0a\0\0\0\1a"),
		T(CONNECT, 5, "will retain without will", "\0\4MQTT\5\x22\0\0\0\0\1a"),
		T(CONNECT, 4, "password without user", "\0\4MQTT\4\x42\0\0\0\1a\0\1p"),
		T(CONNECT, 3, "password without user", "\0\6MQIsdp\3\x42\0\0\0\1a\0\1p"),
		T(CONNECT, 4, "NUL in client id", "\0\4MQTT\4\2\0\0\0\1\0"),
		T(CONNECT, 4, "bad UTF-8 in client id", "\0\4MQTT\4\2\0\0\0\1\xff"),
		T(CONNECT, 4, "wildcard in will topic", "\0\4MQTT\4\6\0\0\0\1a\0\3a/#\0\0"),
		T(CONNECT, 4, "empty will topic", "\0\4MQTT\4\6\0\0\0\1a\0\0\0\0"),
		T(CONNECT, 4, "user missing", "\0\4MQTT\4\x82\0\0\0\1a"),
		T(CONNECT, 5, "property length", "\0\4MQTT\5\2\0\0\1\0\1a"),
		T(CONNECT, 5, "property length in 2 bytes", "\0\4MQTT\5\2\0\0\x80\0\0\1a"),
		T(CONNACK, 4, "flags", "\2\0"),
		T(CONNACK, 4, "session present, refused", "\1\5"),
		T(CONNACK, 5, "no properties", "\0\0"),
		T(SUBSCRIBE, 4, "identifier 0", "\0\0\0\1a\0"),
		T(SUBSCRIBE, 4, "no filter", "\0\1"),
		T(SUBSCRIBE, 5, "no filter", "\0\1\0"),
		T(SUBSCRIBE, 4, "empty filter", "\0\1\0\0\0"),
		T(SUBSCRIBE, 4, "second filter", "\0\1\0\1a\0\0\2b#\0"),
		T(SUBSCRIBE, 4, "QoS 3", "\0\1\0\1a\3"),
		T(SUBSCRIBE, 4, "options of level 5", "\0\1\0\1a\4"),
		T(SUBSCRIBE, 5, "QoS 3", "\0\1\0\0\1a\3"),
		T(SUBSCRIBE, 5, "retain handling 3", "\0\1\0\0\1a\x30"),
		T(SUBSCRIBE, 5, "reserved option", "\0\1\0\0\1a\x40"),
		T(SUBSCRIBE, 5, "reserved option", "\0\1\0\0\1a\x80"),
		T(SUBSCRIBE, 4, "NUL in filter", "\0\1\0\1\0\0"),
		T(UNSUBSCRIBE, 4, "identifier 0", "\0\0\0\1a"),
		T(UNSUBSCRIBE, 4, "no filter", "\0\1"),
		T(UNSUBSCRIBE, 4, "wildcard", "\0\1\0\2a#"),
		T(SUBACK, 4, "identifier 0", "\0\0\0"),
		T(SUBACK, 4, "no code", "\0\1"),
		T(SUBACK, 5, "no code", "\0\1\0"),
		T(SUBACK, 4, "code 3", "\0\1\3"),
		T(SUBACK, 5, "code 0x7f", "\0\1\0\0\x7f"),
		T(UNSUBACK, 4, "identifier 0", "\0\0"),
		T(UNSUBACK, 4, "code", "\0\1\0"),
		T(UNSUBACK, 5, "no code", "\0\1\0"),
		T(UNSUBACK, 5, "code 1", "\0\1\0\1"),
		T(DISCONNECT, 4, "reason at level 4", "\0"),
		T(DISCONNECT, 5, "property length", "\0\1"),
	};

	(void)state;
	table_check(t, COUNT(t), -EPROTO);
}

/* Against a text or left open by it, and seen to be accepted by mosquitto 2.0.11. */
static void test_tolerated(void **state)
{
	static const struct text t[] = {
		T(CONNECT, 3, "reserved flag", "\0\6MQIsdp\3\3\0\0\0\1a"),
		T(CONNECT, 3, "will QoS without will", "\0\6MQIsdp\3\x0a\0\0\0\1a"),
		T(CONNECT, 3, "will retain without will", "\0\6MQIsdp\3\x22\0\0\0\1a"),
		T(CONNECT, 3, "user missing", "\0\6MQIsdp\3\x82\0\0\0\1a"),
		T(CONNECT, 3, "password missing", "\0\6MQIsdp\3\xc2\0\0\0\1a\0\1u"),
		T(CONNECT, 5, "authentication data alone", "\0\4MQTT\5\2\0\0\4\x16\0\1x\0\1a"),
	};

	(void)state;
	table_check(t, COUNT(t), 0);
}

/* No prefix of these is a packet, nor are they with a byte more. */
static void test_every_prefix(void **state)
{
	static const struct text t[] = {
		T(CONNECT, 4, "", "\0\4MQTT\4\xc6\0\12\0\3abc\0\1w\0\2hi\0\4user\0\2pw"),
		T(CONNECT, 5, "",
		  "\0\4MQTT\5\xc6\1\0\5\x11\0\0\1\x2c\0\2id\5\x18\0\0\0\5\0\1w\0\3bye\0\1u\0\2pw"),
		T(CONNACK, 4, "", "\0\0"),
		T(CONNACK, 5, "", "\1\0\x13\x12\0\3abc\x13\0\x1e\x11\0\0\0\0\x27\0\0\4\0"),
		T(SUBSCRIBE, 4, "", "\0\1\0\3a/b\1"),
		T(SUBSCRIBE, 5, "", "\0\1\2\x0b\5\0\3a/b\1"),
		T(UNSUBSCRIBE, 4, "", "\0\1\0\3a/b"),
		T(UNSUBSCRIBE, 5, "", "\0\1\7\x26\0\1k\0\1v\0\3a/b"),
		T(SUBACK, 5, "", "\0\1\7\x26\0\1k\0\1v\0"),
		T(UNSUBACK, 4, "", "\0\1"),
	};
	const size_t longest = 64;

	(void)state;
	for (unsigned i = 0; i < COUNT(t); i++) {
		uint8_t *b;

		assert_true(t[i].n < longest);
		for (size_t n = 0; n <= t[i].n; n++) {
			b = exact_copy(t[i].b, n);
			assert_int_equal(body_parse(t[i].type, t[i].level, b, n),
					 n == t[i].n ? 0 : -EPROTO);
			free(b);
		}
		if (t[i].type == MQTT_SUBACK) /* codes go on to the end */
			continue;
		b = exact_copy(t[i].b, t[i].n + 1); /* the literal's NUL */
		assert_int_equal(body_parse(t[i].type, t[i].level, b, t[i].n + 1), -EPROTO);
		free(b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_connect_bridge_5), cmocka_unit_test(test_connect_begin),
		cmocka_unit_test(test_connect_31),       cmocka_unit_test(test_connect_311),
		cmocka_unit_test(test_connect_5),        cmocka_unit_test(test_connack),
		cmocka_unit_test(test_subscribe_v3),     cmocka_unit_test(test_subscribe_5),
		cmocka_unit_test(test_unsubscribe),      cmocka_unit_test(test_suback),
		cmocka_unit_test(test_disconnect),       cmocka_unit_test(test_refused),
		cmocka_unit_test(test_tolerated),        cmocka_unit_test(test_every_prefix),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
