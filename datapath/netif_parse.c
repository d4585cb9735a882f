/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Minimal parse of a received frame: Ethernet with at most one 802.1Q tag, IPv4 or IPv6, TCP or an
 * ICMP error (RFC 792, RFC 4443) that quotes TCP.  Input: bytes that are really there; output:
 * class and 4-tuple.  Pure; never reads past len.
 */
#include <sys/socket.h>

#include "common/bytes.h"
#include "common/ip.h"
#include "netif_parse.h"

#define ETH_BYTES    14u
#define VLAN_BYTES   4u
#define VLAN_ID      0x0fffu /* of the tag; above it a priority */
#define TCP_PORTS    4u
#define QUOTED_TCP   8u /* at least: ports and sequence number */
#define ICMP_BYTES   8u
#define PROTO_ICMP   1u
#define PROTO_TCP    6u
#define PROTO_ICMP6  58u
#define FRAG_OFFSET  0x1fffu
#define FRAG_MORE    0x2000u
#define ICMP_UNREACH 3u
#define ICMP_TIME    11u
#define ICMP_PARAM   12u
#define ICMP6_ERRORS 4u /* unreachable, too big, time exceeded, parameter problem: 1 to 4 */

/* Header length of the IPv4 packet at p, 0 if it is none. */
static uint32_t ipv4_header(const uint8_t *p, uint32_t len)
{
	uint32_t ihl;

	if (len < TOE_IP4_BYTES || p[0] >> 4 != 4)
		return 0;
	ihl = (p[0] & 0x0fu) * 4u;
	return ihl < TOE_IP4_BYTES || ihl > len ? 0 : ihl;
}

static inline __attribute__((always_inline)) void fill_key(struct netif_key *key, uint32_t family,
							   const uint8_t *addrs,
							   const uint8_t *ports, unsigned ours)
{
	toe_tuple_read(&key->tuple, family, addrs, ports, ours);
	key->local_port = (uint16_t)toe_get16(ports + ours * 2);
}

/* p: the ICMP header.  The quotation is header plus at least 8 bytes (RFC 792), sent by us. */
static enum netif_class parse_icmp(const uint8_t *p, uint32_t len, struct netif_key *key)
{
	const uint8_t *ip = p + ICMP_BYTES;
	uint32_t ihl;

	if (len < ICMP_BYTES || (p[0] != ICMP_UNREACH && p[0] != ICMP_TIME && p[0] != ICMP_PARAM))
		return NETIF_OTHER;
	len -= ICMP_BYTES;
	ihl = ipv4_header(ip, len);
	if (ihl == 0 || len - ihl < QUOTED_TCP || ip[9] != PROTO_TCP ||
	    (toe_get16(ip + 6) & FRAG_OFFSET) != 0)
		return NETIF_OTHER;
	fill_key(key, AF_INET, ip + 12, ip + ihl, 0);
	return NETIF_ICMP_TCP;
}

static enum netif_class parse_ipv4(const uint8_t *ip, uint32_t len, struct netif_key *key)
{
	uint32_t ihl = ipv4_header(ip, len);

	if (ihl == 0 || (toe_get16(ip + 6) & FRAG_OFFSET) != 0)
		return NETIF_OTHER;
	if (ip[9] == PROTO_ICMP && (toe_get16(ip + 6) & FRAG_MORE) == 0)
		return parse_icmp(ip + ihl, len - ihl, key);
	if (ip[9] != PROTO_TCP || len - ihl < TCP_PORTS)
		return NETIF_OTHER;
	fill_key(key, AF_INET, ip + 12, ip + ihl, 1);
	return NETIF_TCP;
}

/* Our own packets have no extension headers, so there are none in a quotation. */
static enum netif_class parse_icmp6(const uint8_t *p, uint32_t len, struct netif_key *key)
{
	const uint8_t *ip = p + ICMP_BYTES;

	if (len < ICMP_BYTES + TOE_IP6_BYTES + QUOTED_TCP || p[0] == 0 || p[0] > ICMP6_ERRORS ||
	    ip[0] >> 4 != 6 || ip[6] != PROTO_TCP)
		return NETIF_OTHER;
	fill_key(key, AF_INET6, ip + 8, ip + TOE_IP6_BYTES, 0);
	return NETIF_ICMP_TCP;
}

static enum netif_class parse_ipv6(const uint8_t *ip, uint32_t len, struct netif_key *key)
{
	struct toe_ip6_upper up;

	if (len < TOE_IP6_BYTES || ip[0] >> 4 != 6 || !toe_ip6_upper(ip, len, &up))
		return NETIF_OTHER;
	if (up.proto == PROTO_ICMP6 && !up.fragment)
		return parse_icmp6(ip + up.off, len - up.off, key);
	if (up.proto != PROTO_TCP || len - up.off < TCP_PORTS)
		return NETIF_OTHER;
	fill_key(key, AF_INET6, ip + 8, ip + up.off, 1);
	return NETIF_TCP;
}

enum netif_class netif_parse(const uint8_t *frame, uint32_t len, struct netif_key *key)
{
	uint32_t off = ETH_BYTES;
	uint16_t vlan = 0;
	enum netif_class c;

	if (len < ETH_BYTES + VLAN_BYTES)
		return NETIF_OTHER;
	if (toe_get16(frame + 12) == TOE_ETHER_VLAN) {
		vlan = toe_get16(frame + ETH_BYTES) & VLAN_ID;
		off += VLAN_BYTES;
	}
	switch (toe_get16(frame + off - 2)) {
	case TOE_ETHER_IP4:
		c = parse_ipv4(frame + off, len - off, key);
		break;
	case TOE_ETHER_IP6:
		c = parse_ipv6(frame + off, len - off, key);
		break;
	default:
		return NETIF_OTHER;
	}
	if (c != NETIF_OTHER)
		key->vlan = vlan;
	return c;
}
