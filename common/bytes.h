/* SPDX-License-Identifier: BSD-3-Clause */
/* Numbers in network order at any address.  No state. */
#ifndef TOE_BYTES_H
#define TOE_BYTES_H

#include <stdint.h>

static inline void toe_put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static inline uint32_t toe_get16(const uint8_t *p)
{
	return (uint32_t)p[0] << 8 | p[1];
}

static inline uint32_t toe_get32(const uint8_t *p)
{
	return toe_get16(p) << 16 | toe_get16(p + 2);
}

static inline void toe_put32(uint8_t *p, uint32_t v)
{
	toe_put16(p, v >> 16);
	toe_put16(p + 2, v);
}

#endif
