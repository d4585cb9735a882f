// SPDX-License-Identifier: BSD-3-Clause
/* LINK: modules/mqtt/mqtt_framer.c */
/* Fixed header, and the framer: a stream of packets cut at every byte, into pieces of every size,
 * and byte by byte gives what it gives in one piece; broken headers. */
#include "mqtt_rig.h"

/* ---- fixed header --------------------------------------------------------------------------- */

static void test_fixed(void **state)
{
	static const struct {
		uint32_t value;
		uint8_t size;
		uint8_t bytes[4];
	} t[] = {
		/* 1.5.5, table 1-1 */
		{0, 1, {0x00}},
		{127, 1, {0x7f}},
		{128, 2, {0x80, 0x01}},
		{16383, 2, {0xff, 0x7f}},
		{16384, 3, {0x80, 0x80, 0x01}},
		{2097151, 3, {0xff, 0xff, 0x7f}},
		{2097152, 4, {0x80, 0x80, 0x80, 0x01}},
		{268435455, 4, {0xff, 0xff, 0xff, 0x7f}},
	};
	uint8_t b[MQTT_FIXED_MAX], first;
	uint32_t remaining;

	(void)state;
	for (unsigned i = 0; i < COUNT(t); i++) {
		assert_int_equal(mqtt_fixed_encode(b, 0x30, t[i].value), 1u + t[i].size);
		assert_memory_equal(b + 1, t[i].bytes, t[i].size);
		for (size_t n = 0; n <= t[i].size; n++)
			assert_int_equal(mqtt_fixed_parse(b, n, &first, &remaining), 0);
		assert_int_equal(mqtt_fixed_parse(b, MQTT_FIXED_MAX, &first, &remaining),
				 1 + t[i].size);
		assert_int_equal(first, 0x30);
		assert_int_equal(remaining, t[i].value);
	}
	assert_int_equal(mqtt_fixed_parse(LIT("\x30\xff\xff\xff"), &first, &remaining), 0);
	assert_int_equal(mqtt_fixed_parse(LIT("\x30\xff\xff\xff\xff"), &first, &remaining),
			 -EPROTO);
	assert_int_equal(mqtt_fixed_parse(LIT("\x30\xff\xff\xff\x80\0"), &first, &remaining),
			 -EPROTO);
	/* longer than it needs to be: mosquitto takes it */
	assert_int_equal(mqtt_fixed_parse(LIT("\xc0\x82\x80\x00"), &first, &remaining), 4);
	assert_int_equal(remaining, 2);
}

static void test_first(void **state)
{
	/* the flags that 2.1.3 wants, by type; -1: none will do */
	static const int flags[16] = {-1, 0, 0, -2, 0, 0, 2, 0, 2, 0, 2, 0, -3, 0, 0, 0};

	(void)state;
	for (unsigned first = 0; first < 256; first++) {
		int want = flags[first >> 4], got = first & 0xf;
		bool v311 = want == got || (want == -2 && (got & 6) != 6) || want == -3;

		assert_int_equal(mqtt_first_valid(5, (uint8_t)first), v311);
		if (first >> 4 == MQTT_AUTH)
			v311 = false;
		assert_int_equal(mqtt_first_valid(4, (uint8_t)first), v311);
		/* MQTT 3.1 leaves flags open */
		if (first >> 4 != MQTT_PUBLISH && first >> 4 != MQTT_AUTH && first >> 4 != 0)
			v311 = true;
		assert_int_equal(mqtt_first_valid(3, (uint8_t)first), v311);
	}
}

/* ---- framer --------------------------------------------------------------------------------- */

#define STREAM_PACKETS 120u

static struct {
	uint8_t b[65536];
	size_t n;
	unsigned packets;
	size_t ends[STREAM_PACKETS];
	uint64_t digest; /* of first byte, length and body of every packet */
} stream;

static uint64_t digest_add(uint64_t d, uint64_t v)
{
	return (d ^ v) * UINT64_C(0x100000001b3);
}

static uint64_t digest_bytes(uint64_t d, const uint8_t *b, size_t n)
{
	for (size_t i = 0; i < n; i++)
		d = digest_add(d, b[i]);
	return d;
}

/* Packets with bodies of 0 to 400 bytes, most of them short. */
static void stream_make(uint64_t seed)
{
	memset(&stream, 0, sizeof(stream));
	for (unsigned i = 0; i < STREAM_PACKETS; i++) {
		unsigned kind = rnd_below(&seed, 8);
		uint32_t len = kind < 2   ? 0
			       : kind < 7 ? rnd_below(&seed, 40)
					  : rnd_below(&seed, 400);
		uint8_t first = (uint8_t)rnd(&seed);

		stream.n += mqtt_fixed_encode(stream.b + stream.n, first, len);
		stream.digest = digest_add(digest_add(stream.digest, first), len);
		for (uint32_t k = 0; k < len; k++)
			stream.b[stream.n + k] = (uint8_t)rnd(&seed);
		stream.digest = digest_bytes(stream.digest, stream.b + stream.n, len);
		stream.n += len;
		stream.ends[stream.packets++] = stream.n;
	}
}

/* What a user of the framer sees. */
struct seen {
	struct mqtt_framer f;
	unsigned packets;
	uint64_t digest;
	uint32_t body; /* bytes of the packet under way */
};

static void seen_feed(struct seen *s, const uint8_t *data, size_t len)
{
	enum mqtt_framer_event ev;
	struct mqtt_frame_part part;

	while (len > 0) {
		size_t n = mqtt_framer_feed(&s->f, data, len, &ev, &part);

		assert_true(n > 0 && n <= len);
		if (ev == MQTT_FR_HEADER) {
			assert_int_equal(part.len, part.remaining < 128 ? 2 : 3);
			assert_int_equal(part.data[0], part.first);
			assert_int_equal(part.last, part.remaining == 0);
			s->digest = digest_add(digest_add(s->digest, part.first), part.remaining);
			s->body = 0;
		} else if (ev == MQTT_FR_BODY) {
			assert_ptr_equal(part.data, data);
			assert_int_equal(part.len, n);
			s->digest = digest_bytes(s->digest, part.data, n);
			s->body += (uint32_t)n;
			assert_int_equal(part.last, s->body == part.remaining);
		} else {
			assert_int_equal(ev, MQTT_FR_MORE);
			assert_int_equal(n, len);
			assert_false(mqtt_framer_idle(&s->f));
		}
		s->packets += part.last;
		if (part.last)
			assert_true(mqtt_framer_idle(&s->f));
		data += n;
		len -= n;
	}
}

static void seen_check(const struct seen *s)
{
	assert_int_equal(s->packets, stream.packets);
	assert_true(s->digest == stream.digest);
	assert_true(mqtt_framer_idle(&s->f));
}

static void test_framer_every_split(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 3; seed++) {
		stream_make(seed);
		for (size_t cut = 0; cut <= stream.n; cut++) {
			struct seen s = {.packets = 0};
			uint8_t *a = exact_copy(stream.b, cut);
			uint8_t *b = exact_copy(stream.b + cut, stream.n - cut);

			seen_feed(&s, a, cut);
			seen_feed(&s, b, stream.n - cut);
			seen_check(&s);
			free(a);
			free(b);
		}
	}
}

static void test_framer_pieces(void **state)
{
	uint64_t seed = 7;

	(void)state;
	stream_make(4);
	for (unsigned run = 0; run < 200; run++) {
		struct seen s = {.packets = 0};
		unsigned max = 1 + run / 4;

		for (size_t at = 0; at < stream.n;) {
			size_t n = 1 + rnd_below(&seed, max);

			n = n < stream.n - at ? n : stream.n - at;
			seen_feed(&s, stream.b + at, n);
			at += n;
		}
		seen_check(&s);
	}
}

static void test_framer_boundaries(void **state)
{
	struct seen s = {.packets = 0};
	unsigned packet = 0;

	(void)state;
	stream_make(5);
	assert_true(mqtt_framer_idle(&s.f));
	for (size_t i = 0; i < stream.n; i++) {
		seen_feed(&s, stream.b + i, 1);
		assert_int_equal(mqtt_framer_idle(&s.f), i + 1 == stream.ends[packet]);
		packet += mqtt_framer_idle(&s.f);
	}
	assert_int_equal(packet, stream.packets);
}

static void test_framer_long(void **state)
{
	struct mqtt_framer f = {0};
	enum mqtt_framer_event ev;
	struct mqtt_frame_part part;
	static uint8_t zeros[1 << 16];
	uint64_t left = MQTT_REMAINING_MAX;

	(void)state;
	assert_int_equal(mqtt_framer_feed(&f, LIT("\x30\xff\xff\xff\x7f"), &ev, &part), 5);
	assert_int_equal(ev, MQTT_FR_HEADER);
	assert_int_equal(part.remaining, MQTT_REMAINING_MAX);
	while (left > 0) {
		size_t n = mqtt_framer_feed(&f, zeros, sizeof(zeros), &ev, &part);

		assert_int_equal(ev, MQTT_FR_BODY);
		assert_int_equal(part.first, 0x30);
		assert_true(n <= left);
		left -= n;
		assert_int_equal(part.last, left == 0);
	}
	assert_true(mqtt_framer_idle(&f));
}

static void test_framer_broken(void **state)
{
	static const uint8_t bad[] = {0x30, 0xff, 0xff, 0xff, 0xff, 0x01};

	(void)state;
	for (size_t cut = 0; cut < 5; cut++) {
		struct mqtt_framer f = {0};
		enum mqtt_framer_event ev;
		struct mqtt_frame_part part;

		assert_int_equal(mqtt_framer_feed(&f, bad, cut, &ev, &part), cut);
		assert_int_equal(ev, MQTT_FR_MORE);
		for (int again = 0; again < 2; again++) {
			assert_int_equal(
				mqtt_framer_feed(&f, bad + cut, sizeof(bad) - cut, &ev, &part), 0);
			assert_int_equal(ev, MQTT_FR_ERROR);
			assert_false(mqtt_framer_idle(&f));
			/* what was taken is still known */
			assert_int_equal(f.hdr_n, cut);
			assert_memory_equal(f.hdr, bad, cut);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fixed),
		cmocka_unit_test(test_first),
		cmocka_unit_test(test_framer_every_split),
		cmocka_unit_test(test_framer_pieces),
		cmocka_unit_test(test_framer_boundaries),
		cmocka_unit_test(test_framer_long),
		cmocka_unit_test(test_framer_broken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
