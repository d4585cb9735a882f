// SPDX-License-Identifier: BSD-3-Clause
/* LINK: modules/mqtt/mqtt_publish.c modules/mqtt/mqtt_props.c modules/mqtt/mqtt_framer.c */
/* PUBLISH: golden packets, every prefix, a table of what is malformed, and deliveries between all
 * versions, by hand and at random, parsed again and compared with what was sent. */
#include "mqtt_rig.h"

static int parse(uint8_t level, uint8_t first, const uint8_t *body, size_t n,
		 struct mqtt_publish *out)
{
	return mqtt_publish_parse(level, first, body, n, (uint32_t)n, out);
}

/* ---- parse ---------------------------------------------------------------------------------- */

static void test_golden_v3(void **state)
{
	struct mqtt_publish p;

	(void)state;
	for (uint8_t level = 3; level <= 4; level++) {
		assert_int_equal(parse(level, 0x30, LIT("\0\3a/bhello"), &p), 5);
		assert_int_equal(p.qos, 0);
		assert_false(p.dup || p.retain || p.has_alias || p.has_expiry || p.has_sub_id);
		assert_str(p.topic, "a/b");
		assert_int_equal(p.packet_id, 0);
		assert_null(p.props);
		assert_int_equal(p.payload_off, 5);
		/* QoS 2, DUP, RETAIN, no payload */
		assert_int_equal(parse(level, 0x3d, LIT("\0\3a/b\1\2"), &p), 7);
		assert_int_equal(p.qos, 2);
		assert_true(p.dup && p.retain);
		assert_int_equal(p.packet_id, 0x102);
	}
}

static void test_golden_5(void **state)
{
	struct mqtt_publish p;

	(void)state;
	assert_int_equal(parse(5, 0x30, LIT("\0\3a/b\0hello"), &p), 6);
	assert_int_equal(p.props_len, 0);
	assert_non_null(p.props);
	assert_int_equal(parse(5, 0x32, LIT("\0\1t\0\7\x0c\x01\1\x02\0\0\0\x3c\x26\0\0\0\0x"), &p),
			 18);
	assert_int_equal(p.qos, 1);
	assert_int_equal(p.packet_id, 7);
	assert_true(p.has_expiry);
	assert_int_equal(p.expiry_s, 60);
	assert_int_equal(p.props_len, 12);
}

static void test_golden_alias(void **state)
{
	struct mqtt_publish p;

	(void)state;
	assert_int_equal(parse(5, 0x30, LIT("\0\1t\3\x23\0\5x"), &p), 7);
	assert_true(p.has_alias);
	assert_int_equal(p.alias, 5);
	assert_str(p.topic, "t");
	assert_int_equal(parse(5, 0x30, LIT("\0\0\3\x23\0\5x"), &p), 6);
	assert_true(p.has_alias);
	assert_int_equal(p.topic.len, 0);
	/* from a server: several subscription identifiers */
	assert_int_equal(parse(5, 0x30, LIT("\0\1t\5\x0b\1\x0b\x80\1x"), &p), 9);
	assert_true(p.has_sub_id);
}

/* 0 until the last header byte is there, whatever the payload is. */
static void test_every_prefix(void **state)
{
	static const struct {
		uint8_t level, first;
		const char *b;
		size_t n, head;
	} t[] = {
#define P(level, first, head, bytes) {level, first, bytes, sizeof(bytes) - 1, head}
		P(4, 0x30, 5, "\0\3a/bpayload"),
		P(4, 0x30, 5, "\0\3a/b"),
		P(3, 0x32, 7, "\0\3a/b\1\2\xff\xff"),
		P(5, 0x30, 6, "\0\3a/b\0payload"),
		P(5, 0x30, 6, "\0\3a/b\0"),
		P(5, 0x34, 16, "\0\3a/b\0\1\x08\x02\0\0\0\x3c\x23\0\5payload"),
		P(5, 0x30, 6, "\0\0\3\x23\0\5"),
#undef P
	};
	struct mqtt_publish p;

	(void)state;
	for (unsigned i = 0; i < COUNT(t); i++) {
		for (size_t n = 0; n <= t[i].n; n++) {
			uint8_t *b = exact_copy(t[i].b, n);

			assert_int_equal(mqtt_publish_parse(t[i].level, t[i].first, b, n,
							    (uint32_t)t[i].n, &p),
					 n < t[i].head ? 0 : t[i].head);
			free(b);
		}
	}
}

/* A property block long enough for a length in two bytes, cut everywhere. */
static void test_every_prefix_long(void **state)
{
	struct pk props = {.n = 0}, body = {.n = 0};
	struct mqtt_publish p;
	char value[301];

	(void)state;
	memset(value, 'v', 300);
	value[300] = 0;
	pk_u8(&props, 0x26);
	pk_str(&props, "key");
	pk_str(&props, value);
	pk_str(&body, "topic");
	pk_block(&body, &props);
	for (size_t n = 0; n <= body.n; n++) {
		uint8_t *b = exact_copy(body.b, n);

		assert_int_equal(mqtt_publish_parse(5, 0x30, b, n, (uint32_t)body.n + 100, &p),
				 n < body.n ? 0 : body.n);
		free(b);
	}
}

static void test_malformed(void **state)
{
	static const struct {
		uint8_t level, first;
		const char *what, *b;
		size_t n;
	} t[] = {
#define M(level, first, what, bytes) {level, first, what, bytes, sizeof(bytes) - 1}
		M(4, 0x36, "QoS 3", "\0\1t\0\1"),
		M(4, 0x38, "DUP with QoS 0", "\0\1t"),
		M(5, 0x38, "DUP with QoS 0", "\0\1t\0"),
		M(4, 0x40, "not a PUBLISH", "\0\1t"),
		M(4, 0x30, "no topic length", "\0"),
		M(4, 0x30, "nothing", ""),
		M(4, 0x30, "topic beyond the packet", "\0\2t"),
		M(4, 0x32, "no room for the identifier", "\0\1t\0"),
		M(4, 0x32, "identifier 0", "\0\1t\0\0"),
		M(4, 0x30, "empty topic", "\0\0x"),
		M(5, 0x30, "empty topic without alias", "\0\0\0x"),
		M(4, 0x30, "+ in topic", "\0\3a/+"),
		M(4, 0x30, "# in topic", "\0\1#"),
		M(4, 0x30, "NUL in topic", "\0\2a\0"),
		M(4, 0x30, "control character in topic", "\0\2a\x1f"),
		M(4, 0x30, "bad UTF-8 in topic", "\0\2a\xc3"),
		M(4, 0x30, "surrogate in topic", "\0\3\xed\xa0\x80"),
		M(5, 0x30, "no property length", "\0\1t"),
		M(5, 0x30, "property length goes on", "\0\1t\x80"),
		M(5, 0x30, "property length of 5 bytes", "\0\1t\x80\x80\x80\x80\x01"),
		M(5, 0x30, "property length too long for 0", "\0\1t\x80\0"),
		M(5, 0x30, "properties beyond the packet", "\0\1t\3\x23\0"),
		M(5, 0x30, "unknown property", "\0\1t\2\x7f\0"),
		M(5, 0x30, "property of a CONNECT", "\0\1t\5\x11\0\0\0\1"),
		M(5, 0x30, "twice", "\0\1t\4\x01\1\x01\1"),
		M(5, 0x30, "property cut by the property length", "\0\1t\2\x23\0\1"),
		M(5, 0x30, "alias 0", "\0\1t\3\x23\0\0"),
		M(5, 0x30, "payload format 2", "\0\1t\2\x01\2"),
		M(5, 0x30, "subscription identifier 0", "\0\1t\2\x0b\0"),
		M(5, 0x30, "wildcard in response topic", "\0\1t\6\x08\0\3a/#"),
		M(5, 0x30, "empty response topic", "\0\1t\3\x08\0\0"),
#undef M
	};
	struct mqtt_publish p;

	(void)state;
	for (unsigned i = 0; i < COUNT(t); i++) {
		uint8_t *b = exact_copy(t[i].b, t[i].n);

		if (parse(t[i].level, t[i].first, b, t[i].n, &p) != -EPROTO)
			fail_msg("level %u: %s", t[i].level, t[i].what);
		/* A prefix may be undecided, but never good. */
		for (size_t n = 0; n < t[i].n; n++)
			assert_true(mqtt_publish_parse(t[i].level, t[i].first, b, n,
						       (uint32_t)t[i].n, &p) <= 0);
		free(b);
	}
}

/* What cannot fit is refused as soon as the lengths are there, not after waiting for bytes that
 * will never come. */
static void test_refused_early(void **state)
{
	struct mqtt_publish p;

	(void)state;
	assert_int_equal(mqtt_publish_parse(4, 0x36, NULL, 0, 100, &p), -EPROTO);
	assert_int_equal(mqtt_publish_parse(4, 0x30, NULL, 0, 1, &p), -EPROTO);
	assert_int_equal(mqtt_publish_parse(4, 0x30, NULL, 0, 2, &p), 0);
	assert_int_equal(mqtt_publish_parse(4, 0x30, LIT("\xff\xff"), 65536, &p), -EPROTO);
	assert_int_equal(mqtt_publish_parse(4, 0x30, LIT("\xff\xff"), 65537, &p), 0);
	assert_int_equal(mqtt_publish_parse(5, 0x30, LIT("\0\1t\xff\xff\xff\x7f"), 1000, &p),
			 -EPROTO);
	/* more bytes than the packet has are not looked at */
	assert_int_equal(mqtt_publish_parse(5, 0x30, LIT("\0\1t\3\x23\0\5"), 6, &p), -EPROTO);
	assert_int_equal(mqtt_publish_parse(5, 0x30, LIT("\0\1t\0"), 3, &p), -EPROTO);
	assert_int_equal(mqtt_publish_parse(4, 0x30, LIT("\0\1t\xff\xff"), 3, &p), 3);
}

/* ---- delivery ------------------------------------------------------------------------------- */

#define IDS(...) (const uint32_t[]){__VA_ARGS__}, COUNT(((const uint32_t[]){__VA_ARGS__}))

/* Head of the delivery of body, published at level from, for a subscriber of level to; the payload
 * follows in want, so that want is the whole packet. */
static void delivery_check(uint8_t from, const uint8_t *body, size_t n, uint8_t to,
			   const uint32_t *ids, unsigned id_n, const uint8_t *want, size_t want_n)
{
	struct mqtt_publish p;
	uint8_t out[512];
	size_t head;
	uint32_t payload;

	assert_true(parse(from, 0x30, body, n, &p) > 0);
	payload = (uint32_t)n - p.payload_off;
	assert_int_equal(mqtt_deliver_size(to, &p, ids, id_n, payload), want_n);
	head = want_n - payload;
	for (size_t room = 0; room <= head + 1; room++) {
		memset(out, 0xa5, sizeof(out));
		assert_int_equal(mqtt_deliver_head(out, room, to, &p, ids, id_n, 7, payload),
				 room < head ? 0 : head);
		for (size_t i = room < head ? 0 : head; i < sizeof(out); i++)
			assert_int_equal(out[i], 0xa5);
	}
	memcpy(out + head, body + p.payload_off, payload);
	assert_memory_equal(out, want, want_n);
}

static void test_deliver_v3(void **state)
{
	(void)state;
	/* as it came */
	delivery_check(4, LIT("\0\3a/bhello"), 4, NULL, 0, LIT("\x30\x0a\0\3a/bhello"));
	delivery_check(3, LIT("\0\3a/b"), 4, NULL, 0, LIT("\x30\5\0\3a/b"));
	/* to level 5: no properties, or the subscriber's identifiers */
	delivery_check(4, LIT("\0\3a/bhello"), 5, NULL, 0, LIT("\x30\x0b\0\3a/b\0hello"));
	delivery_check(4, LIT("\0\3a/bhello"), 5, IDS(1, 128),
		       LIT("\x30\x10\0\3a/b\5\x0b\1\x0b\x80\1hello"));
	/* identifiers mean nothing below 5 */
	delivery_check(4, LIT("\0\3a/bhello"), 4, IDS(1, 128), LIT("\x30\x0a\0\3a/bhello"));
}

static void test_deliver_5(void **state)
{
	static const char user[] = "\x26\0\1k\0\1v";

	(void)state;
	assert_int_equal(sizeof(user) - 1, 7);
	delivery_check(5, LIT("\0\1t\0x"), 5, NULL, 0, LIT("\x30\5\0\1t\0x"));
	delivery_check(5, LIT("\0\1t\7\x26\0\1k\0\1vx"), 5, NULL, 0,
		       LIT("\x30\x0c\0\1t\7\x26\0\1k\0\1vx"));
	delivery_check(5, LIT("\0\1t\7\x26\0\1k\0\1vx"), 4, NULL, 0, LIT("\x30\4\0\1tx"));
	/* alias and foreign identifier out, order kept, expiry 60 becomes 7, own identifier last */
	delivery_check(5, LIT("\0\1t\x11\x02\0\0\0\x3c\x23\0\5\x0b\x09\x26\0\1k\0\1vx"), 5,
		       IDS(268435455),
		       LIT("\x30\x16\0\1t\x11\x02\0\0\0\7\x26\0\1k\0\1v"
			   "\x0b\xff\xff\xff\x7fx"));
	delivery_check(5, LIT("\0\1t\x03\x23\0\5x"), 5, NULL, 0, LIT("\x30\5\0\1t\0x"));
	delivery_check(5, LIT("\0\1t\x05\x02\0\0\0\x3cx"), 3, NULL, 0, LIT("\x30\4\0\1tx"));
}

static void test_deliver_limits(void **state)
{
	struct mqtt_publish p;
	uint8_t out[64];
	const uint32_t max = MQTT_REMAINING_MAX;

	(void)state;
	assert_int_equal(parse(4, 0x30, LIT("\0\1t"), &p), 3);
	assert_int_equal(mqtt_deliver_size(4, &p, NULL, 0, max - 3), 5ull + max);
	assert_int_equal(mqtt_deliver_size(4, &p, NULL, 0, max - 2), 0);
	assert_int_equal(mqtt_deliver_size(5, &p, NULL, 0, max - 3), 0);
	assert_int_equal(mqtt_deliver_size(5, &p, NULL, 0, max - 4), 5ull + max);
	assert_int_equal(mqtt_deliver_size(4, &p, NULL, 0, UINT32_MAX), 0);
	assert_int_equal(mqtt_deliver_head(out, sizeof(out), 4, &p, NULL, 0, 0, max - 2), 0);
	assert_int_equal(mqtt_deliver_head(out, sizeof(out), 4, &p, NULL, 0, 0, UINT32_MAX), 0);
	assert_int_equal(mqtt_deliver_head(out, sizeof(out), 4, &p, NULL, 0, 0, max - 3), 8);
	assert_memory_equal(out, "\x30\xff\xff\xff\x7f\0\1t", 8);
	/* identifiers that cannot be */
	assert_int_equal(mqtt_deliver_size(5, &p, IDS(0), 0), 0);
	assert_int_equal(mqtt_deliver_size(5, &p, IDS(1, max + 1), 0), 0);
	/* an alias that nobody resolved */
	assert_int_equal(parse(5, 0x30, LIT("\0\0\3\x23\0\5"), &p), 6);
	assert_int_equal(mqtt_deliver_size(5, &p, NULL, 0, 0), 0);
	assert_int_equal(mqtt_deliver_head(out, sizeof(out), 5, &p, NULL, 0, 0, 0), 0);
	p.topic = (struct mqtt_str){LIT("long/topic")};
	assert_int_equal(mqtt_deliver_head(out, sizeof(out), 5, &p, NULL, 0, 0, 0), 15);
	assert_memory_equal(out, "\x30\x0d\0\x0along/topic\0", 15);
}

/* ---- round trip ----------------------------------------------------------------------------- */

#define IDS_MAX 2u /* subscription identifiers of a delivery */

struct message {
	struct pk topic;
	struct pk sent; /* properties as published */
	struct pk kept; /* as they must arrive, expiry replaced */
	struct pk payload;
	bool has_alias, has_sub_id;
};

static void text_make(struct pk *p, uint64_t *seed, unsigned max)
{
	static const char set[] = "abcdefghij/ $_-0123456789";

	p->n = 0;
	for (unsigned n = rnd_below(seed, max + 1); n > 0; n--)
		pk_u8(p, (uint8_t)set[rnd_below(seed, sizeof(set) - 1)]);
}

static void both_raw(struct message *m, const struct pk *p)
{
	pk_raw(&m->sent, p->b, p->n);
	pk_raw(&m->kept, p->b, p->n);
}

static void prop_make(struct message *m, unsigned kind, uint64_t *seed, uint32_t expiry)
{
	struct pk p = {.n = 0}, text;

	switch (kind) {
	case 0: /* alias */
		pk_u8(&m->sent, 0x23);
		pk_u16(&m->sent, 1 + rnd_below(seed, 65535));
		m->has_alias = true;
		break;
	case 1: /* expiry */
		pk_u8(&m->sent, 0x02);
		pk_u32(&m->sent, (uint32_t)rnd(seed));
		pk_u8(&m->kept, 0x02);
		pk_u32(&m->kept, expiry);
		break;
	case 2:
		pk_u8(&p, 0x01);
		pk_u8(&p, rnd_below(seed, 2));
		both_raw(m, &p);
		break;
	case 3:
		pk_u8(&m->sent, 0x0b);
		pk_varint(&m->sent, 1 + rnd_below(seed, MQTT_REMAINING_MAX));
		m->has_sub_id = true;
		break;
	case 4:
		pk_u8(&p, 0x09);
		text_make(&text, seed, 200);
		pk_bin(&p, text.b, text.n);
		both_raw(m, &p);
		break;
	default:
		pk_u8(&p, 0x26);
		text_make(&text, seed, 60);
		pk_bin(&p, text.b, text.n);
		text_make(&text, seed, 60);
		pk_bin(&p, text.b, text.n);
		both_raw(m, &p);
		break;
	}
}

static void message_make(struct message *m, uint64_t *seed, uint32_t expiry)
{
	unsigned once = 0;

	memset(m, 0, sizeof(*m));
	do
		text_make(&m->topic, seed, 80);
	while (m->topic.n == 0);
	text_make(&m->payload, seed, rnd_below(seed, 10) ? 100 : 3000);
	for (unsigned n = rnd_below(seed, 8); n > 0; n--) {
		unsigned kind = rnd_below(seed, 8);

		if (kind < 5 && kind != 3 && once >> kind & 1)
			continue;
		once |= 1u << kind;
		prop_make(m, kind, seed, expiry);
	}
}

/* The delivery at level 4 and 5 is parsed again. */
static void delivery_parse(const struct message *m, const struct mqtt_publish *p, uint8_t level,
			   const uint32_t *ids, unsigned id_n, uint32_t expiry)
{
	size_t size = mqtt_deliver_size(level, p, ids, id_n, (uint32_t)m->payload.n);
	uint8_t *out = malloc(size - m->payload.n);
	struct pk props = m->kept;
	struct mqtt_publish q;
	uint32_t remaining;
	uint8_t first;
	int fixed;

	assert_non_null(out);
	assert_int_equal(mqtt_deliver_head(out, size - m->payload.n, level, p, ids, id_n, expiry,
					   (uint32_t)m->payload.n),
			 size - m->payload.n);
	fixed = mqtt_fixed_parse(out, size - m->payload.n, &first, &remaining);
	assert_true(fixed > 0);
	assert_int_equal(first, 0x30);
	assert_int_equal(fixed + remaining, size);
	assert_int_equal(mqtt_publish_parse(level, first, out + fixed,
					    size - m->payload.n - (size_t)fixed, remaining, &q),
			 remaining - m->payload.n);
	assert_int_equal(q.topic.len, m->topic.n);
	assert_memory_equal(q.topic.data, m->topic.b, m->topic.n);
	assert_false(q.has_alias);
	if (level == 5) {
		for (unsigned i = 0; i < id_n && i < IDS_MAX; i++) {
			pk_u8(&props, 0x0b);
			pk_varint(&props, ids[i]);
		}
		assert_int_equal(q.props_len, props.n);
		assert_memory_equal(q.props, props.b, props.n);
		assert_int_equal(q.has_sub_id, id_n > 0);
	}
	free(out);
}

static void test_round_trip(void **state)
{
	uint64_t seed = 42;
	static struct message m;
	struct mqtt_publish p;

	(void)state;
	for (unsigned run = 0; run < 20000; run++) {
		uint8_t level = run % 2 ? 5 : 4, qos = (uint8_t)rnd_below(&seed, 3);
		uint32_t expiry = (uint32_t)rnd(&seed);
		uint32_t ids[] = {1 + rnd_below(&seed, 200),
				  1 + rnd_below(&seed, MQTT_REMAINING_MAX)};
		unsigned id_n = rnd_below(&seed, IDS_MAX + 1);
		struct pk body = {.n = 0};
		uint8_t *b;
		size_t head;

		message_make(&m, &seed, expiry);
		pk_bin(&body, m.topic.b, m.topic.n);
		if (qos)
			pk_u16(&body, 1 + rnd_below(&seed, 65535));
		if (level == 5)
			pk_block(&body, &m.sent);
		else
			m.kept.n = 0;
		head = body.n;
		pk_raw(&body, m.payload.b, m.payload.n);
		b = exact_copy(body.b, body.n);
		assert_int_equal(parse(level, (uint8_t)(0x30 | qos << 1), b, body.n, &p), head);
		assert_int_equal(p.qos, qos);
		assert_int_equal(p.has_alias, level == 5 && m.has_alias);
		assert_int_equal(p.has_sub_id, level == 5 && m.has_sub_id);
		delivery_parse(&m, &p, 4, ids, id_n, expiry);
		delivery_parse(&m, &p, 5, ids, id_n, expiry);
		free(b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_golden_v3),         cmocka_unit_test(test_golden_5),
		cmocka_unit_test(test_golden_alias),      cmocka_unit_test(test_every_prefix),
		cmocka_unit_test(test_every_prefix_long), cmocka_unit_test(test_malformed),
		cmocka_unit_test(test_refused_early),     cmocka_unit_test(test_deliver_v3),
		cmocka_unit_test(test_deliver_5),         cmocka_unit_test(test_deliver_limits),
		cmocka_unit_test(test_round_trip),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
