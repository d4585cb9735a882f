/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * SYN cookies: what the control plane answers when its half-open table is full.  The cookie is
 *
 *	H(tuple, 0, 0) + irs + (count << 24) + ((H(tuple, irs, count) + mss index) mod 2^24)
 *
 * with a keyed H and count = time / 64 s: as in Linux, so it also grows like an ISN, but with irs
 *in the second hash, or other values of irs would pass as other MSS.  Pure; no state.
 */
#include "isn.h"

#include <stddef.h>

#include "common/siphash.h"

#define COOKIE_PERIOD_MS 64000u
#define COOKIE_AGE_MAX   2u /* periods */
#define COOKIE_BITS      24u
#define COOKIE_MASK      ((1u << COOKIE_BITS) - 1)

#define TS_WSCALE_MASK 0x0fu
#define TS_WSCALE_NONE 0x0fu
#define TS_SACK        0x10u
#define TS_ECN         0x20u
#define TS_MASK        0x3fu

/* Usual path MTUs: PPPoE 1452-1492, Ethernet 1460, jumbo 8960, each 20 less over IPv6; 536 and 1220
 * are the default MSS. */
static const uint16_t mss_table[] = {88, 536, 1220, 1300, 1400, 1420, 1440, 1460, 8940, 8960};
#define MSS_N (sizeof(mss_table) / sizeof(mss_table[0]))

static uint32_t cookie_hash(const uint64_t key[2], const struct toe_tuple *t, uint32_t irs,
			    uint32_t count)
{
	struct {
		struct toe_tuple t;
		uint32_t irs;
		uint32_t count;
	} in = {*t, irs, count};

	return (uint32_t)toe_siphash24(key, &in, sizeof(in));
}

uint32_t cp_cookie_make(const uint64_t key[2], const struct toe_tuple *t, uint32_t irs,
			uint16_t mss, uint64_t now_ms)
{
	/* from 1: 0 is the other hash */
	uint32_t count = (uint32_t)(now_ms / COOKIE_PERIOD_MS) + 1;
	uint32_t i = MSS_N - 1;

	while (i && mss_table[i] > mss)
		i--;
	return cookie_hash(key, t, 0, 0) + irs + (count << COOKIE_BITS) +
	       ((cookie_hash(key, t, irs, count) + i) & COOKIE_MASK);
}

uint16_t cp_cookie_check(const uint64_t key[2], const struct toe_tuple *t, uint32_t irs,
			 uint32_t iss, uint64_t now_ms)
{
	uint32_t now = (uint32_t)(now_ms / COOKIE_PERIOD_MS) + 1;
	uint32_t rest = iss - cookie_hash(key, t, 0, 0) - irs;
	/* only the low 8 bits of count travel */
	uint32_t age = (now - (rest >> COOKIE_BITS)) & (UINT32_MAX >> COOKIE_BITS);
	uint32_t i;

	if (age > COOKIE_AGE_MAX || age >= now)
		return 0;
	i = (rest - cookie_hash(key, t, irs, now - age)) & COOKIE_MASK;
	return i < MSS_N ? mss_table[i] : 0;
}

uint32_t cp_cookie_ts(uint32_t ts, const struct cp_cookie_opts *o)
{
	uint32_t bits = o->has_ws ? o->wscale & TS_WSCALE_MASK : TS_WSCALE_NONE;
	uint32_t out;

	bits |= (o->sack ? TS_SACK : 0) | (o->ecn ? TS_ECN : 0);
	out = (ts & ~TS_MASK) | bits;
	/* Never ahead of the clock: the connection's later timestamps must not be smaller. */
	return (int32_t)(out - ts) > 0 ? out - (TS_MASK + 1) : out;
}

struct cp_cookie_opts cp_cookie_ts_opts(uint32_t ts_ecr)
{
	uint8_t ws = ts_ecr & TS_WSCALE_MASK;

	return (struct cp_cookie_opts){
		.wscale = ws == TS_WSCALE_NONE ? 0 : ws,
		.has_ws = ws != TS_WSCALE_NONE,
		.sack = (ts_ecr & TS_SACK) != 0,
		.ecn = (ts_ecr & TS_ECN) != 0,
	};
}
