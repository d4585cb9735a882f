// SPDX-License-Identifier: BSD-3-Clause
/* LINK: modules/mqtt/mqtt_props.c modules/mqtt/mqtt_wire.c modules/mqtt/mqtt_publish.c
 *       modules/mqtt/mqtt_framer.c */
/* Strings: UTF-8 against its definition by counting, topics and filters by table.  Properties:
 * every one in every packet, twice, with every value that a rule names, and cut short. */
#include "mqtt_rig.h"

/* ---- UTF-8 ---------------------------------------------------------------------------------- */

static bool scalar_allowed(uint32_t cp)
{
	return cp >= 0x20 && !(cp >= 0x7f && cp <= 0x9f) && !(cp >= 0xd800 && cp <= 0xdfff) &&
	       !(cp >= 0xfdd0 && cp <= 0xfdef) && (cp & 0xfffe) != 0xfffe;
}

static size_t utf8_encode(uint32_t cp, uint8_t *s)
{
	static const uint8_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
	size_t n = cp < 0x80 ? 1 : cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;

	for (size_t i = n - 1; i > 0; i--, cp >>= 6)
		s[i] = (uint8_t)(0x80 | (cp & 0x3f));
	s[0] = (uint8_t)(lead[n == 1 ? 0 : n] | cp);
	return n;
}

static unsigned long scalars[5]; /* allowed code points by length */

static void test_utf8_code_points(void **state)
{
	uint8_t s[4];

	(void)state;
	memset(scalars, 0, sizeof(scalars));
	for (uint32_t cp = 0; cp <= 0x10ffff; cp++) {
		size_t n = utf8_encode(cp, s);

		assert_int_equal(mqtt_utf8_valid(s, n), scalar_allowed(cp));
		scalars[n] += scalar_allowed(cp);
	}
	assert_true(mqtt_utf8_valid(NULL, 0));
	assert_true(mqtt_utf8_valid(LIT("\xef\xbb\xbfgr\xc3\xbc\xc3\x9f\xf0\x9f\x98\x80")));
}

/* All valid strings of a length are concatenations of valid code points: if those are accepted and
 * the number of accepted strings is theirs, nothing else is. */
static void test_utf8_nothing_else(void **state)
{
	const unsigned long *n = scalars;
	unsigned long accepted;
	uint8_t s[4];

	test_utf8_code_points(state);
	accepted = 0;
	for (unsigned v = 0; v < 1u << 16; v++) {
		s[0] = (uint8_t)(v >> 8);
		s[1] = (uint8_t)v;
		accepted += mqtt_utf8_valid(s, 2);
	}
	assert_int_equal(accepted, n[1] * n[1] + n[2]);

	accepted = 0;
	for (unsigned v = 0; v < 1u << 24; v++) {
		s[0] = (uint8_t)(v >> 16);
		s[1] = (uint8_t)(v >> 8);
		s[2] = (uint8_t)v;
		accepted += mqtt_utf8_valid(s, 3);
	}
	assert_int_equal(accepted, n[1] * n[1] * n[1] + 2 * n[1] * n[2] + n[3]);

	/* Four bytes beginning with a byte of a long sequence: fewer than 2^32. */
	accepted = 0;
	for (unsigned v = 0xf0u << 16; v < 1u << 24; v++) {
		s[0] = (uint8_t)(v >> 16);
		s[1] = (uint8_t)(v >> 8);
		s[2] = (uint8_t)v;
		for (unsigned last = 0x7e; last <= 0xc1; last++) {
			s[3] = (uint8_t)last;
			accepted += mqtt_utf8_valid(s, 4);
		}
	}
	assert_int_equal(accepted, n[4]);
}

/* ---- topics and filters --------------------------------------------------------------------- */

static void test_topics(void **state)
{
	static const struct {
		const char *text;
		bool topic, filter;
	} t[] = {
		{"a", true, true},
		{"/", true, true},
		{"//a/", true, true},
		{"sport/tennis/player1", true, true},
		{"with space", true, true},
		{"$SYS/x", true, true},
		{"", false, false},
		{"+", false, true},
		{"#", false, true},
		{"/#", false, true},
		{"a/#", false, true},
		{"a/+/b", false, true},
		{"+/+", false, true},
		{"/+", false, true},
		{"+/#", false, true},
		{"a#", false, false},
		{"a/#/b", false, false},
		{"#/", false, false},
		{"##", false, false},
		{"a+", false, false},
		{"+a", false, false},
		{"a/+b/c", false, false},
		{"++", false, false},
		{"+#", false, false},
		{"$share/g/a", true, true},
		{"$share/g/+/#", false, true},
		{"$share/g/a#", false, false},
		{"$share//a", true, true},   /* granted by mosquitto */
		{"$share/+/a", false, true}, /* the same */
		{"$share/a", true, true},    /* granted, matches nothing */
		{"a\x01", false, false},
		{"a\xc3", false, false},
		{"\xed\xa0\x80", false, false},
	};

	(void)state;
	for (unsigned i = 0; i < COUNT(t); i++) {
		size_t n = strlen(t[i].text);
		uint8_t *s = exact_copy(t[i].text, n);

		if (mqtt_topic_valid(s, n) != t[i].topic || mqtt_filter_valid(s, n) != t[i].filter)
			fail_msg("%s", t[i].text);
		free(s);
	}
	assert_false(mqtt_topic_valid(LIT("a\0b")));
	assert_false(mqtt_filter_valid(LIT("a\0b")));
	assert_false(mqtt_topic_valid(NULL, 0));
}

static void test_topic_length(void **state)
{
	uint8_t *s = malloc(65536);

	(void)state;
	assert_non_null(s);
	memset(s, 'x', 65536);
	assert_true(mqtt_topic_valid(s, 65535));
	assert_true(mqtt_filter_valid(s, 65535));
	assert_false(mqtt_topic_valid(s, 65536));
	assert_false(mqtt_filter_valid(s, 65536));
	free(s);
}

/* ---- properties ----------------------------------------------------------------------------- */

/* The properties of a packet of each kind are put into a body that is valid without them. */
enum place { CON, WILL, CACK, PUB, SUB, SACK, UNSUB, UACK, DISC, PLACES };

static void body_put(enum place at, const struct pk *props, struct pk *p)
{
	switch (at) {
	case CON:
	case WILL:
		pk_raw(p, "\0\4MQTT\5", 7);
		pk_u8(p, at == WILL ? 6 : 2);
		pk_u16(p, 60);
		pk_block(p, at == CON ? props : &(struct pk){.n = 0});
		pk_str(p, "me");
		if (at == WILL) {
			pk_block(p, props);
			pk_str(p, "w");
			pk_str(p, "gone");
		}
		break;
	case PUB:
		pk_str(p, "t");
		pk_block(p, props);
		break;
	case CACK:
		pk_u16(p, 0);
		pk_block(p, props);
		break;
	case DISC:
		pk_u8(p, 0);
		pk_block(p, props);
		break;
	default:
		pk_u16(p, 7);
		pk_block(p, props);
		if (at == SUB || at == UNSUB)
			pk_str(p, "f");
		if (at != UNSUB)
			pk_u8(p, 0);
		break;
	}
}

static int body_parse(enum place at, const uint8_t *b, size_t n)
{
	union {
		struct mqtt_connect con;
		struct mqtt_connack cack;
		struct mqtt_publish pub;
		struct mqtt_subscribe sub;
		struct mqtt_suback sack;
	} out;
	uint8_t reason;
	uint32_t sec;
	bool has;
	int rc;

	switch (at) {
	case CON:
	case WILL:
		return mqtt_connect_parse(b, n, &out.con);
	case CACK:
		return mqtt_connack_parse(5, b, n, &out.cack);
	case PUB:
		rc = mqtt_publish_parse(5, 0x30, b, n, (uint32_t)n, &out.pub);
		return rc > 0 ? 0 : rc;
	case SUB:
		return mqtt_subscribe_parse(5, b, n, &out.sub);
	case UNSUB:
		return mqtt_unsubscribe_parse(5, b, n, &out.sub);
	case SACK:
		return mqtt_suback_parse(5, b, n, &out.sack);
	case UACK:
		return mqtt_unsuback_parse(5, b, n, &out.sack);
	default:
		return mqtt_disconnect_parse(5, b, n, &reason, &has, &sec);
	}
}

static int parse_at(enum place at, const struct pk *props)
{
	struct pk p = {.n = 0};
	uint8_t *b;
	int rc;

	body_put(at, props, &p);
	b = exact_copy(p.b, p.n);
	rc = body_parse(at, b, p.n);
	free(b);
	assert_true(rc == 0 || rc == -EPROTO);
	return rc;
}

/* OASIS table 2-4; one letter per place: Connect Will connacK Publish Subscribe suback(s)
 * Unsubscribe unsuback(u) Disconnect. */
static const char letters[PLACES + 1] = "CWKPSsUuD";

static const struct {
	uint8_t id;
	char type; /* f flag, 2 and 4 bytes, v varint, s string, b binary, p pair */
	bool zero; /* 0 is a value */
	const char *where;
} props_text[] = {
	{0x01, 'f', true, "PW"},  {0x02, '4', true, "PW"},        {0x03, 's', true, "PW"},
	{0x08, 's', true, "PW"},  {0x09, 'b', true, "PW"},        {0x0b, 'v', false, "PS"},
	{0x11, '4', true, "CKD"}, {0x12, 's', true, "K"},         {0x13, '2', true, "K"},
	{0x15, 's', true, "CK"},  {0x16, 'b', true, "CK"},        {0x17, 'f', true, "C"},
	{0x18, '4', true, "W"},   {0x19, 'f', true, "C"},         {0x1a, 's', true, "K"},
	{0x1c, 's', true, "KD"},  {0x1f, 's', true, "KsuD"},      {0x21, '2', false, "CK"},
	{0x22, '2', true, "CK"},  {0x23, '2', false, "P"},        {0x24, 'f', true, "K"},
	{0x25, 'f', true, "K"},   {0x26, 'p', true, "CWKPSsUuD"}, {0x27, '4', false, "CK"},
	{0x28, 'f', true, "K"},   {0x29, 'f', true, "K"},         {0x2a, 'f', true, "K"},
};

static void prop_put(struct pk *p, unsigned i, uint32_t value)
{
	pk_u8(p, props_text[i].id);
	switch (props_text[i].type) {
	case 'f':
		pk_u8(p, value);
		break;
	case '2':
		pk_u16(p, value);
		break;
	case '4':
		pk_u32(p, value);
		break;
	case 'v':
		pk_varint(p, value);
		break;
	case 'p':
		pk_str(p, "key");
		pk_str(p, "value");
		break;
	default:
		pk_str(p, "abc");
		break;
	}
}

static void test_property_places(void **state)
{
	struct pk p;

	(void)state;
	for (unsigned i = 0; i < COUNT(props_text); i++) {
		for (int at = 0; at < PLACES; at++) {
			bool ok = strchr(props_text[i].where, letters[at]) != NULL;
			bool again = props_text[i].id == 0x26 || /* 2.2.2.2; 3.3.4 */
				     (props_text[i].id == 0x0b && at == PUB);

			p.n = 0;
			prop_put(&p, i, 1);
			if (parse_at(at, &p) != (ok ? 0 : -EPROTO))
				fail_msg("property %#x in %c", props_text[i].id, letters[at]);
			prop_put(&p, i, 1);
			if (parse_at(at, &p) != (ok && again ? 0 : -EPROTO))
				fail_msg("property %#x twice in %c", props_text[i].id, letters[at]);
			p.n = 0;
			prop_put(&p, i, 0);
			if (parse_at(at, &p) != (ok && props_text[i].zero ? 0 : -EPROTO))
				fail_msg("property %#x, 0, in %c", props_text[i].id, letters[at]);
			p.n = 0;
			prop_put(&p, i, 2);
			if (parse_at(at, &p) != (ok && props_text[i].type != 'f' ? 0 : -EPROTO))
				fail_msg("property %#x, 2, in %c", props_text[i].id, letters[at]);
		}
	}
}

static void test_property_cut(void **state)
{
	struct pk p, cut;

	(void)state;
	for (unsigned i = 0; i < COUNT(props_text); i++) {
		enum place at = (enum place)(strchr(letters, props_text[i].where[0]) - letters);

		p.n = 0;
		prop_put(&p, i, 1);
		for (size_t n = 1; n < p.n; n++) {
			cut = p;
			cut.n = n;
			assert_int_equal(parse_at(at, &cut), -EPROTO);
		}
	}
}

static void test_property_unknown(void **state)
{
	(void)state;
	for (unsigned id = 0; id < 256; id++) {
		struct pk p = {.n = 0};
		bool known = false;

		for (unsigned i = 0; i < COUNT(props_text); i++)
			known |= props_text[i].id == id;
		pk_u8(&p, id);
		pk_raw(&p, "\0\1a\0\0\0\0\0\0", 9);
		for (int at = 0; at < PLACES && !known; at++)
			assert_int_equal(parse_at(at, &p), -EPROTO);
	}
	/* a known identifier in two bytes */
	assert_int_equal(parse_at(PUB, &(struct pk){.b = {0x81, 0x00, 0x01}, .n = 3}), -EPROTO);
}

static void test_property_strings(void **state)
{
	static const uint8_t ids[] = {0x03, 0x26, 0x1f};
	struct pk p;

	(void)state;
	for (unsigned i = 0; i < COUNT(ids); i++) {
		enum place at = ids[i] == 0x1f ? DISC : PUB;

		for (int bad = 0; bad < (ids[i] == 0x26 ? 3 : 2); bad++) {
			p.n = 0;
			pk_u8(&p, ids[i]);
			pk_bin(&p, bad == 1 ? "a\0" : "ab", 2);
			if (ids[i] == 0x26)
				pk_bin(&p, bad == 2 ? "\xff" : "v", 1);
			assert_int_equal(parse_at(at, &p), bad ? -EPROTO : 0);
		}
	}
	/* binary data may be anything */
	p.n = 0;
	pk_u8(&p, 0x09);
	pk_bin(&p, "\0\xff", 2);
	assert_int_equal(parse_at(PUB, &p), 0);
	/* 3.3.2-14: no wildcard in a response topic; a will's is the broker's business */
	p.n = 0;
	pk_u8(&p, 0x08);
	pk_str(&p, "a/#");
	assert_int_equal(parse_at(PUB, &p), -EPROTO);
	assert_int_equal(parse_at(WILL, &p), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_utf8_code_points), cmocka_unit_test(test_utf8_nothing_else),
		cmocka_unit_test(test_topics),           cmocka_unit_test(test_topic_length),
		cmocka_unit_test(test_property_places),  cmocka_unit_test(test_property_cut),
		cmocka_unit_test(test_property_unknown), cmocka_unit_test(test_property_strings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
