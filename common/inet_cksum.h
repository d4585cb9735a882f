/* SPDX-License-Identifier: BSD-3-Clause */
/* Checksums of IP, TCP and ICMP for control segments (RFC 1071).  Pure; numbers in host order. */
#ifndef TOE_INET_CKSUM_H
#define TOE_INET_CKSUM_H

#include <stdint.h>

#include "common/bytes.h"
#include "common/ip.h"

/* The sum of len bytes and s, not folded. */
static inline uint64_t toe_inet_sum(const uint8_t *p, uint32_t len, uint64_t s)
{
	for (; len > 1; len -= 2, p += 2)
		s += toe_get16(p);
	return len ? s + ((uint64_t)p[0] << 8) : s;
}

static inline uint16_t toe_inet_fold(uint64_t s)
{
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return (uint16_t)~s;
}

/* Over the pseudo header, too (RFC 9293 §3.1, RFC 8200 §8.1); addrs: the two addresses of the IP
 * header. */
static inline uint16_t toe_inet_cksum(uint32_t family, const uint8_t *addrs, uint8_t proto,
				      const uint8_t *p, uint32_t len)
{
	uint64_t s = toe_inet_sum(addrs, 2 * toe_ip_addr_bytes(family), proto + len);

	return toe_inet_fold(toe_inet_sum(p, len, s));
}

#endif
