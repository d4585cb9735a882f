/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Key of a connection, as it is read from a packet, and its CRC32C: the flow-group of a connection,
 * computed alike by the datapath (per segment) and the control plane (to choose a connection id of
 * the right partition).
 */
#ifndef TOE_FLOW_HASH_H
#define TOE_FLOW_HASH_H

#include <stdint.h>
#include <string.h>

#include "common/ip.h"

/* Addresses and ports in network order; IPv4 in the first 4 bytes of an address, the rest zero.
 * family keeps 32.1.13.184 and 2001:db8:: apart.  40 bytes, no padding: usable as a hash key as it
 * is. */
struct toe_tuple {
	uint8_t local_addr[16];
	uint8_t remote_addr[16];
	uint16_t local_port;
	uint16_t remote_port;
	uint32_t family; /* AF_INET or AF_INET6; IPv4 is never written as an IPv6 address */
};

/* addrs, ports: source and destination as in the headers.  ours: which of them is the local side, 0
 * the source.  Inlined: family and ours are constants in the parsers of the datapath. */
static inline __attribute__((always_inline)) void
toe_tuple_read(struct toe_tuple *t, uint32_t family, const uint8_t *addrs, const uint8_t *ports,
	       unsigned ours)
{
	uint32_t n = toe_ip_addr_bytes(family);

	memset(t, 0, sizeof(*t));
	memcpy(t->local_addr, addrs + ours * n, n);
	memcpy(t->remote_addr, addrs + (1 - ours) * n, n);
	memcpy(&t->local_port, ports + ours * 2, 2);
	memcpy(&t->remote_port, ports + (1 - ours) * 2, 2);
	t->family = family;
}

/* CRC32C (Castagnoli, reflected), seed and result as rte_hash_crc(data, len, seed). */
uint32_t toe_crc32c(const void *data, uint32_t len, uint32_t seed);

static inline uint32_t toe_flow_hash(const struct toe_tuple *t)
{
	return toe_crc32c(t, sizeof(*t), 0);
}

static inline uint32_t toe_flow_group(uint32_t hash, uint32_t flow_group_n)
{
	return hash % flow_group_n;
}

#endif
