/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The little that netif_rx has to know of a frame: whose it may be, and its flow hash.  Checked
 * against the length that is really there, nothing else is: pre does the full parse.
 */
#ifndef TOE_NETIF_PARSE_H
#define TOE_NETIF_PARSE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "common/flow_hash.h"

enum netif_class {
	NETIF_OTHER, /* not TCP, later fragment, short: the kernel's */
	NETIF_TCP,   /* ports are there, no more is known; key: local = destination of the frame */
	NETIF_ICMP_TCP, /* ICMP error that quotes TCP; key: local = source of the quoted header */
};

struct netif_key {
	struct toe_tuple tuple;
	uint16_t local_port; /* host order */
	uint16_t vlan;       /* 0: no tag, or only a priority */
};

/* Looks at the first len bytes of a frame.  key is valid unless NETIF_OTHER. */
enum netif_class netif_parse(const uint8_t *frame, uint32_t len, struct netif_key *key);

/* Of frames that are no NETIF_OTHER: another VLAN is another network, and what goes to other hosts
 * says nothing of our connections. */
static inline bool netif_to_us(const uint8_t *frame, const struct netif_key *key,
			       const uint8_t mac[6])
{
	return key->vlan == 0 && memcmp(frame, mac, 6) == 0;
}

#endif
