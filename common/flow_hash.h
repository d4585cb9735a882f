/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * 4-tuple key and its CRC32C: the flow-group of a connection, computed alike by the datapath (per
 * segment) and the control plane (to choose a connection id of the right partition).
 */
#ifndef TOE_FLOW_HASH_H
#define TOE_FLOW_HASH_H

#include <stdint.h>

/* Network order throughout; the first 4 bytes of an address for IPv4, the rest zero.  36 bytes, no
 * padding: usable as a hash key as it is. */
struct toe_tuple {
	uint8_t local_addr[16];
	uint8_t remote_addr[16];
	uint16_t local_port;
	uint16_t remote_port;
};

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
