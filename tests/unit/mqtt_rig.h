/* SPDX-License-Identifier: BSD-3-Clause */
/* For tests of the MQTT wire layer: exact copies of input (a sanitizer sees every byte read
 * beyond), a packet builder that shares no code with the product, and random numbers from a seed.
 */
#ifndef MQTT_RIG_H
#define MQTT_RIG_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "modules/mqtt/mqtt_wire.h"

/* A string literal with its length, without the final NUL. */
#define LIT(s)   (const uint8_t *)(s), (sizeof(s) - 1)
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

#define assert_str(str, text)                                                                      \
	do {                                                                                       \
		assert_int_equal((str).len, sizeof(text) - 1);                                     \
		assert_memory_equal((str).data, text, sizeof(text) - 1);                           \
	} while (0)

/* free() it */
static inline uint8_t *exact_copy(const void *data, size_t len)
{
	uint8_t *copy = malloc(len ? len : 1);

	assert_non_null(copy);
	if (len)
		memcpy(copy, data, len);
	return copy;
}

/* xorshift64 */
static inline uint64_t rnd(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static inline unsigned rnd_below(uint64_t *seed, unsigned n)
{
	return (unsigned)(rnd(seed) >> 11) % n;
}

struct pk {
	uint8_t b[8192];
	size_t n;
};

static inline void pk_u8(struct pk *p, unsigned v)
{
	assert_true(p->n < sizeof(p->b));
	p->b[p->n++] = (uint8_t)v;
}

static inline void pk_u16(struct pk *p, unsigned v)
{
	pk_u8(p, v >> 8);
	pk_u8(p, v & 0xff);
}

static inline void pk_u32(struct pk *p, uint32_t v)
{
	pk_u16(p, v >> 16);
	pk_u16(p, v & 0xffff);
}

static inline void pk_raw(struct pk *p, const void *data, size_t n)
{
	assert_true(n <= sizeof(p->b) - p->n);
	memcpy(p->b + p->n, data, n);
	p->n += n;
}

static inline void pk_bin(struct pk *p, const void *data, size_t n)
{
	pk_u16(p, (unsigned)n);
	pk_raw(p, data, n);
}

static inline void pk_str(struct pk *p, const char *s)
{
	pk_bin(p, s, strlen(s));
}

static inline void pk_varint(struct pk *p, uint32_t v)
{
	do {
		pk_u8(p, v % 128 + (v >= 128 ? 128 : 0));
		v /= 128;
	} while (v);
}

/* Length and bytes of other. */
static inline void pk_block(struct pk *p, const struct pk *other)
{
	pk_varint(p, (uint32_t)other->n);
	pk_raw(p, other->b, other->n);
}

#endif
