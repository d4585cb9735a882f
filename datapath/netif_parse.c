/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Minimal parse of a received frame: Ethernet with at most one 802.1Q tag, IPv4, TCP or an ICMP
 * error (RFC 792) that quotes TCP.  Input: bytes that are really there; output: class and 4-tuple.
 * Pure; never reads past len.  A second network protocol is one more case in netif_parse().
 */
#include <string.h>

#include <sys/socket.h>

#include "netif_parse.h"

#define ETH_BYTES    14u
#define VLAN_BYTES   4u
#define IPV4_MIN     20u
#define TCP_MIN      20u
#define ICMP_BYTES   8u
#define PROTO_ICMP   1u
#define PROTO_TCP    6u
#define ETHER_IPV4   0x0800u
#define ETHER_VLAN   0x8100u
#define FRAG_OFFSET  0x1fffu
#define FRAG_MORE    0x2000u
#define ICMP_UNREACH 3u
#define ICMP_TIME    11u
#define ICMP_PARAM   12u

static uint16_t be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

/* Header length of the IPv4 packet at p, 0 if it is none. */
static uint32_t ipv4_header(const uint8_t *p, uint32_t len)
{
	uint32_t ihl;

	if (len < IPV4_MIN || p[0] >> 4 != 4)
		return 0;
	ihl = (p[0] & 0x0fu) * 4u;
	return ihl < IPV4_MIN || ihl > len ? 0 : ihl;
}

static void fill_key(struct netif_key *key, const uint8_t *local, const uint8_t *remote,
		     const uint8_t *local_port, const uint8_t *remote_port)
{
	memset(key, 0, sizeof(*key));
	memcpy(key->tuple.local_addr, local, 4);
	memcpy(key->tuple.remote_addr, remote, 4);
	memcpy(&key->tuple.local_port, local_port, 2);
	memcpy(&key->tuple.remote_port, remote_port, 2);
	key->family = AF_INET;
	key->local_port = be16(local_port);
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
	if (ihl == 0 || len - ihl < 8 || ip[9] != PROTO_TCP || (be16(ip + 6) & FRAG_OFFSET) != 0)
		return NETIF_OTHER;
	fill_key(key, ip + 12, ip + 16, ip + ihl, ip + ihl + 2);
	return NETIF_ICMP_TCP;
}

static enum netif_class parse_ipv4(const uint8_t *ip, uint32_t len, struct netif_key *key)
{
	uint32_t ihl = ipv4_header(ip, len);

	if (ihl == 0 || (be16(ip + 6) & (FRAG_OFFSET | FRAG_MORE)) != 0)
		return NETIF_OTHER;
	if (ip[9] == PROTO_ICMP)
		return parse_icmp(ip + ihl, len - ihl, key);
	if (ip[9] != PROTO_TCP || len - ihl < TCP_MIN)
		return NETIF_OTHER;
	fill_key(key, ip + 16, ip + 12, ip + ihl + 2, ip + ihl);
	return NETIF_TCP;
}

enum netif_class netif_parse(const uint8_t *frame, uint32_t len, struct netif_key *key)
{
	uint32_t off = ETH_BYTES;

	if (len < ETH_BYTES + VLAN_BYTES)
		return NETIF_OTHER;
	if (be16(frame + 12) == ETHER_VLAN)
		off += VLAN_BYTES;
	switch (be16(frame + off - 2)) {
	case ETHER_IPV4:
		return parse_ipv4(frame + off, len - off, key);
	default:
		return NETIF_OTHER;
	}
}
