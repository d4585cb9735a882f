// SPDX-License-Identifier: BSD-3-Clause
/* LINK: libtoe/websocket.c */
/* MQTT out of WebSocket: handshake and frames cut anywhere, what is in between, and what is
 * refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "libtoe/websocket.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define LIT(s)   (const uint8_t *)(s), sizeof(s) - 1
#define GET      "GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n"
#define SWITCH   "HTTP/1.1 101 Switching Protocols\r\nUPGRADE: WebSocket\r\n\r\n"
#define BYTES    (300u * 1024u)

static uint8_t in[BYTES], out[BYTES];

/* Payload of what is fed in pieces of at most step bytes, into room for `room`; -1: refused. */
static long feed(enum lt_ws_side side, const uint8_t *data, size_t len, size_t step, size_t room)
{
	struct lt_ws w;
	size_t got = 0;

	lt_ws_begin(&w, side);
	for (size_t at = 0; at < len;) {
		size_t n, piece = len - at < step ? len - at : step;
		size_t taken = lt_ws_feed(&w, data + at, piece, out + got,
					  room < sizeof(out) - got ? room : sizeof(out) - got, &n);

		if (taken == 0)
			return -1;
		assert_true(taken <= piece && n <= room && n <= taken);
		at += taken;
		got += n;
	}
	return (long)got;
}

static size_t put_frame(uint8_t *to, enum lt_ws_side side, uint8_t first, const void *data,
			uint64_t len)
{
	const uint8_t mask[4] = {0x12, 0, 0xff, 0x80}, bit = side == LT_WS_CLIENT ? 0x80 : 0;
	size_t n = 0;

	to[n++] = first;
	if (len < 126) {
		to[n++] = bit | (uint8_t)len;
	} else {
		unsigned more = len < 65536 ? 2 : 8;

		to[n++] = bit | (more == 2 ? 126 : 127);
		while (more-- > 0)
			to[n++] = (uint8_t)(len >> 8 * more);
	}
	if (bit) {
		memcpy(to + n, mask, 4);
		n += 4;
	}
	for (size_t i = 0; data && i < len; i++)
		to[n++] = ((const uint8_t *)data)[i] ^ (bit ? mask[i % 4] : 0);
	return n;
}

static const char *const head_of[] = {[LT_WS_CLIENT] = GET, [LT_WS_SERVER] = SWITCH};

static size_t put_head(enum lt_ws_side side)
{
	size_t n = strlen(head_of[side]);

	memcpy(in, head_of[side], n);
	return n;
}

/* Lengths at both sides of each way to write them. */
static void test_lengths(void **state)
{
	static const size_t lengths[] = {0, 1, 3, 125, 126, 127, 65535, 65536, 100000};
	uint8_t *data = malloc(100000);

	(void)state;
	assert_non_null(data);
	for (size_t i = 0; i < 100000; i++)
		data[i] = (uint8_t)(i * 7 + i / 256);
	for (unsigned side = 0; side < 2; side++) {
		for (unsigned i = 0; i < COUNT(lengths); i++) {
			size_t n = put_head(side);

			n += put_frame(in + n, side, 0x82, data, lengths[i]);
			n += put_frame(in + n, side, 0x82, "!", 1);
			for (size_t step = 1; step < 200000; step = step * 17 + 3) {
				assert_int_equal(feed(side, in, n, step, step % 5 ? 4096 : 1),
						 lengths[i] + 1);
				assert_memory_equal(out, data, lengths[i]);
				assert_int_equal(out[lengths[i]], '!');
			}
		}
	}
	free(data);
}

/* A message in three frames, with control frames between and in front, cut everywhere. */
static void test_fragments(void **state)
{
	(void)state;
	for (unsigned side = 0; side < 2; side++) {
		size_t n = put_head(side);

		n += put_frame(in + n, side, 0x8a, "", 0);
		n += put_frame(in + n, side, 0x02 - side, "abc", 3); /* text, too */
		n += put_frame(in + n, side, 0x89, "ping", 4);
		n += put_frame(in + n, side, 0x00, "", 0);
		n += put_frame(in + n, side, 0x8a, "pong!", 5);
		n += put_frame(in + n, side, 0x80, "defgh", 5);
		n += put_frame(in + n, side, 0x88, "\3\xe8", 2);
		for (size_t step = 1; step <= n; step++) {
			for (size_t room = 1; room < 5; room++) {
				assert_int_equal(feed(side, in, n, step, room), 8);
				assert_memory_equal(out, "abcdefgh", 8);
			}
		}
	}
}

/* Open when the empty line is over, and not before. */
static void test_open(void **state)
{
	(void)state;
	for (unsigned side = 0; side < 2; side++) {
		size_t len = put_head(side), n;
		struct lt_ws w;

		lt_ws_begin(&w, side);
		for (size_t at = 0; at < len; at++) {
			assert_false(lt_ws_open(&w));
			assert_int_equal(lt_ws_feed(&w, in + at, 1, out, 1, &n), 1);
			assert_int_equal(n, 0);
		}
		assert_true(lt_ws_open(&w));
	}
}

static void test_refused_heads(void **state)
{
	static const struct {
		enum lt_ws_side side;
		const uint8_t *data;
		size_t n;
	} t[] = {
		{LT_WS_CLIENT, LIT("GET /\r\nUpgrade: websocket\r\n\r\n")},
		{LT_WS_CLIENT, LIT("PRI * HTTP/2.0\r\n")},
		{LT_WS_CLIENT, LIT("GET / HTTP/1.1\r\nHost: x\r\n\r\n")},
		{LT_WS_CLIENT, LIT("GET\r\n")},
		{LT_WS_CLIENT, LIT("\r\n\r\n")},
		{LT_WS_SERVER, LIT("HTTP/1.1 200 OK\r\nUpgrade: websocket\r\n\r\n")},
		{LT_WS_SERVER, LIT("HTTP/1.1 101 Switching Protocols\r\n\r\n")},
		{LT_WS_SERVER, LIT("HTTP/1.1 101 x\r\nUpgrade: websocket\r\n"
				   "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n")},
		{LT_WS_SERVER, LIT("GET / HTTP/1.1\r\n")},
	};

	(void)state;
	for (unsigned i = 0; i < COUNT(t); i++) {
		assert_int_equal(feed(t[i].side, t[i].data, t[i].n, 1, 1), -1);
		assert_int_equal(feed(t[i].side, t[i].data, t[i].n, 100, 100), -1);
	}
	/* what a client asks for is not what it gets */
	assert_int_equal(feed(LT_WS_CLIENT,
			      LIT("GET / HTTP/1.1\r\nsec-websocket-extensions: x\r\n"
				  "upgrade:websocket\r\n\r\n"),
			      100, 100),
			 0);
	/* whatever the method */
	assert_int_equal(feed(LT_WS_CLIENT,
			      LIT("post / http/1.1\r\nUpgrade: websocket\r\n\r\n\x82\1x"), 1, 1),
			 1);
	/* a head without end */
	memset(in, 'a', LT_WS_HEAD_MAX + 1);
	memcpy(in, "GET ", 4);
	assert_int_equal(feed(LT_WS_CLIENT, in, LT_WS_HEAD_MAX, 999, 1), 0);
	assert_int_equal(feed(LT_WS_CLIENT, in, LT_WS_HEAD_MAX + 1, 999, 1), -1);
}

static void test_refused_frames(void **state)
{
	static const struct {
		uint8_t first, second;
	} t[] = {
		{0xc2, 0},                                    /* an extension's bits */
		{0xa2, 0},   {0x92, 0}, {0x83, 0},            /* reserved */
		{0x87, 0},   {0x8b, 0}, {0x8f, 0}, {0x09, 0}, /* a control frame in parts */
		{0x89, 126},                                  /* or too long */
		{0x88, 127},
	};

	(void)state;
	for (unsigned side = 0; side < 2; side++) {
		for (unsigned i = 0; i < COUNT(t); i++) {
			size_t n = put_head(side);

			in[n++] = t[i].first;
			in[n++] = t[i].second ^ (side == LT_WS_CLIENT ? 0x80 : 0);
			assert_int_equal(feed(side, in, n, 1, 1), -1);
			assert_int_equal(feed(side, in, n, n, 1), -1);
		}
		/* masked by the server; without a mask by the client is taken */
		size_t n = put_head(side);

		memcpy(in + n, "\x82\x81\1\1\1\1x\x82\1y", 10);
		assert_int_equal(feed(side, in, n + 10, 1, 1), side == LT_WS_CLIENT ? 2 : -1);
		assert_true(side != LT_WS_CLIENT || (out[0] == ('x' ^ 1) && out[1] == 'y'));
		/* no length is as long */
		for (unsigned top = 0; top < 2; top++) {
			n = put_head(side);
			n += put_frame(in + n, side, 0x82, NULL, (uint64_t)(1 + top) << 62);
			in[n++] = 'x';
			assert_int_equal(feed(side, in, n, 1, 1), top ? -1 : 1);
		}
		/* of nothing, said in eight bytes: what libwebsockets takes for no end at all */
		n = put_head(side);
		memcpy(in + n, "\x82\x7f\0\0\0\0\0\0\0\0", 10);
		assert_int_equal(feed(side, in, n + 10, 1, 1), -1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lengths),        cmocka_unit_test(test_fragments),
		cmocka_unit_test(test_open),           cmocka_unit_test(test_refused_heads),
		cmocka_unit_test(test_refused_frames),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
