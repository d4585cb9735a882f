/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What both address families need in more than one program: addresses that no peer on a wire can
 * have, and the way through IPv6 extension headers to TCP.  Pure, any thread.
 */
#ifndef TOE_IP_H
#define TOE_IP_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#define TOE_IP4_BYTES  20u /* header without options */
#define TOE_IP6_BYTES  40u
#define TOE_IP_HDR_MAX TOE_IP6_BYTES /* of packets we send */
#define TOE_IP6_MTU    1280u         /* the least a link has (RFC 8200 §5) */

/* Of any segment size: what the smallest MTU there may be, 68 (RFC 791), leaves behind IPv4, TCP
 * and timestamps. */
#define TOE_MSS_FLOOR 16u

#define TOE_ETHER_IP4  0x0800u
#define TOE_ETHER_IP6  0x86ddu
#define TOE_ETHER_VLAN 0x8100u

/* Header of the packets we send. */
static inline uint32_t toe_ip_header_bytes(uint32_t family)
{
	return family == AF_INET6 ? TOE_IP6_BYTES : TOE_IP4_BYTES;
}

static inline uint32_t toe_ip_addr_bytes(uint32_t family)
{
	return family == AF_INET6 ? 16 : 4;
}

/* addr: as in struct toe_tuple.  Unspecified, loopback, multicast; IPv4: also 0/8, class E and
 * broadcast; IPv6: also IPv4-mapped, which has no place on a wire (RFC 4291 §2.5, RFC 6890). */
static inline bool toe_addr_martian(uint32_t family, const uint8_t *addr)
{
	static const uint8_t zero[10];

	if (family == AF_INET)
		return addr[0] == 0 || addr[0] == 127 || addr[0] >= 224;
	if (addr[0] == 0xff)
		return true;
	if (addr[0] != 0 || memcmp(addr, zero, sizeof(zero)) != 0)
		return false;
	if (addr[10] == 0xff && addr[11] == 0xff)
		return true;
	return memcmp(addr + 10, zero, 5) == 0 && addr[15] <= 1;
}

static inline bool toe_addr_link_local(uint32_t family, const uint8_t *addr)
{
	return family == AF_INET6 && addr[0] == 0xfe && (addr[1] & 0xc0) == 0x80;
}

/* ---- IPv6 extension headers (RFC 8200 §4) ---- */

#define TOE_IP6_EXT_MAX   8u   /* headers that are looked at */
#define TOE_IP6_EXT_BYTES 256u /* of them together */

#define TOE_IP6_HOPOPTS  0u
#define TOE_IP6_TCP      6u
#define TOE_IP6_ROUTING  43u
#define TOE_IP6_FRAGMENT 44u
#define TOE_IP6_DSTOPTS  60u

struct toe_ip6_upper {
	uint8_t proto; /* of what follows: not an extension header that we skip */
	bool fragment; /* more fragments follow this one, which is the first */
	uint32_t off;  /* where it begins, from the start of the IPv6 header */
};

/* Options that may be ignored when unknown, all of them: else it is the kernel that decides about
 * the packet and answers (RFC 8200 §4.2). */
static inline bool toe_ip6_options_skip(const uint8_t *p, uint32_t len)
{
	for (uint32_t i = 2; i < len;) {
		if ((p[i] & 0xc0) != 0)
			return false;
		if (p[i] == 0) { /* Pad1 */
			i++;
			continue;
		}
		if (len - i < 2 || len - i - 2 < p[i + 1])
			return false;
		i += 2u + p[i + 1];
	}
	return true;
}

/* One header, not the fragment header: its length, 0 if we do not skip it. */
static inline uint32_t toe_ip6_ext_bytes(uint8_t type, const uint8_t *p, uint32_t left)
{
	uint32_t len;

	if (left < 8)
		return 0;
	len = (p[1] + 1u) * 8u;
	if (len > left)
		return 0;
	if (type == TOE_IP6_ROUTING)
		return p[3] == 0 ? len : 0; /* RFC 8200 §4.4: no segments left */
	return toe_ip6_options_skip(p, len) ? len : 0;
}

/* The walk behind the first header that is not TCP. */
static inline bool toe_ip6_walk(const uint8_t *ip, uint32_t len, struct toe_ip6_upper *u)
{
	bool atomic = false;

	for (uint32_t n = 0; n <= TOE_IP6_EXT_MAX; n++) {
		const uint8_t *p = ip + u->off;
		uint32_t left = len - u->off;
		uint32_t bytes = 8;

		switch (u->proto) {
		case TOE_IP6_HOPOPTS:
			if (n != 0)
				return false;
			/* fall through */
		case TOE_IP6_ROUTING:
		case TOE_IP6_DSTOPTS:
			bytes = toe_ip6_ext_bytes(u->proto, p, left);
			break;
		case TOE_IP6_FRAGMENT:
			/* one of them; a later fragment has no ports */
			if (left < bytes || atomic || u->fragment || p[2] != 0 ||
			    (p[3] & 0xf8) != 0)
				return false;
			u->fragment = (p[3] & 1) != 0;
			atomic = !u->fragment; /* RFC 6946: a packet like any other */
			break;
		default:
			return true;
		}
		if (bytes == 0 || u->off + bytes - TOE_IP6_BYTES > TOE_IP6_EXT_BYTES)
			return false;
		u->proto = p[0];
		u->off += bytes;
	}
	return false;
}

/*
 * ip: an IPv6 header and what follows, len >= TOE_IP6_BYTES bytes that may be read.  False: what is
 * behind the extension headers is not ours to see (a later fragment, a header or an option we do
 * not skip, too many, or they end beyond len).  u->off <= len.
 */
static inline bool toe_ip6_upper(const uint8_t *ip, uint32_t len, struct toe_ip6_upper *u)
{
	u->proto = ip[6];
	u->fragment = false;
	u->off = TOE_IP6_BYTES;
	return u->proto == TOE_IP6_TCP || toe_ip6_walk(ip, len, u);
}

#endif
