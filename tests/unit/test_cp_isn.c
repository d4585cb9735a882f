/* SPDX-License-Identifier: BSD-3-Clause */
/* SipHash against its authors' vectors; initial sequence numbers; SYN cookies. */
/* LINK: controlplane/isn.c controlplane/syn_cookie.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "controlplane/isn.h"

static const uint64_t key[2] = {0x0706050403020100ull, 0x0f0e0d0c0b0a0908ull};
static const uint64_t other_key[2] = {1, 2};

static struct toe_tuple tuple(uint16_t port)
{
	struct toe_tuple t;

	memset(&t, 0, sizeof(t));
	t.local_addr[0] = 10;
	t.remote_addr[0] = 11;
	t.local_port = 80;
	t.remote_port = port;
	return t;
}

static void isn_moves_with_time_and_tuple(void **state)
{
	struct toe_tuple a = tuple(1);
	struct toe_tuple b = tuple(2);
	uint32_t first = cp_isn(key, &a, 4000);

	(void)state;
	assert_int_equal(cp_isn(key, &a, 4000 + 4 * 250000), first + 250000);
	assert_int_not_equal(cp_isn(key, &b, 4000), first);
	assert_int_not_equal(cp_isn(other_key, &a, 4000), first);
	/* ports do not matter to timestamps, addresses do */
	assert_int_equal(cp_ts_offset(key, &a), cp_ts_offset(key, &b));
	b.remote_addr[3] = 1;
	assert_int_not_equal(cp_ts_offset(key, &a), cp_ts_offset(key, &b));
}

static void cookie_comes_back(void **state)
{
	static const uint16_t in[] = {20, 536, 1219, 1220, 1459, 1460, 9000};
	static const uint16_t out[] = {88, 536, 536, 1220, 1440, 1460, 8960};
	struct toe_tuple t = tuple(7);

	(void)state;
	for (uint64_t now = 0; now < 300000000ull; now += 17777777ull) {
		for (int i = 0; i < 7; i++) {
			uint32_t c = cp_cookie_make(key, &t, 99, in[i], now);

			assert_int_equal(cp_cookie_check(key, &t, 99, c, now), out[i]);
			assert_int_equal(cp_cookie_check(key, &t, 99, c, now + 120000), out[i]);
			assert_int_equal(cp_cookie_check(key, &t, 99, c, now + 256000), 0);
			assert_int_equal(cp_cookie_check(key, &t, 98, c, now), 0);
			assert_int_equal(cp_cookie_check(other_key, &t, 99, c, now), 0);
		}
	}
}

static void cookie_guesses_fail(void **state)
{
	struct toe_tuple t = tuple(8);
	uint32_t c = cp_cookie_make(key, &t, 5, 1460, 1000000);
	unsigned valid = 0;

	(void)state;
	for (uint32_t i = 1; i < 100000; i++)
		valid += cp_cookie_check(key, &t, 5, c + i * 2654435761u, 1000000) != 0;
	assert_true(valid <= 2); /* 3 counts of 256, 8 of 2^24 */
}

static void timestamp_carries_options(void **state)
{
	(void)state;
	for (uint32_t ts = 0xfffffff0u; ts != 0x100; ts++) {
		for (uint8_t ws = 0; ws < 15; ws++) {
			struct cp_cookie_opts o = {ws, true, ws & 1, ws & 2};
			uint32_t v = cp_cookie_ts(ts, &o);
			struct cp_cookie_opts r = cp_cookie_ts_opts(v);

			assert_true((int32_t)(ts - v) >= 0 && ts - v < 128);
			assert_true(r.has_ws && r.wscale == ws);
			assert_true(r.sack == o.sack && r.ecn == o.ecn);
		}
	}
	assert_false(cp_cookie_ts_opts(cp_cookie_ts(77, &(struct cp_cookie_opts){0})).has_ws);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(isn_moves_with_time_and_tuple),
		cmocka_unit_test(cookie_comes_back),
		cmocka_unit_test(cookie_guesses_fail),
		cmocka_unit_test(timestamp_carries_options),
	};

	return cmocka_run_group_tests_name("cp_isn", tests, NULL, NULL);
}
