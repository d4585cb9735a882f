/* SPDX-License-Identifier: BSD-3-Clause */
/* An address that says its family, and the tuple of a connection made of two. */
#ifndef CP_ADDR_H
#define CP_ADDR_H

#include <arpa/inet.h>
#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "common/flow_hash.h"
#include "common/ip.h"

/* Network order; IPv4 in the first 4 bytes, the rest zero.  No padding.  Family 0: none. */
struct cp_addr {
	uint16_t family; /* AF_INET or AF_INET6; never an IPv4 address written as IPv6 */
	uint8_t b[16];
};
static_assert(sizeof(struct cp_addr) == 18, "no padding: comparable by memcmp()");

/* bytes: 4 or 16 of them, as the family has. */
static inline struct cp_addr cp_addr_make(uint32_t family, const void *bytes)
{
	struct cp_addr a = {.family = (uint16_t)family};

	memcpy(a.b, bytes, toe_ip_addr_bytes(family));
	return a;
}

static inline struct cp_addr cp_addr4(uint32_t ip)
{
	return cp_addr_make(AF_INET, &ip);
}

static inline bool cp_addr_same(const struct cp_addr *a, const struct cp_addr *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

/* The wildcard of its family. */
static inline bool cp_addr_any(const struct cp_addr *a)
{
	static const uint8_t zero[16];

	return memcmp(a->b, zero, sizeof(zero)) == 0;
}

static inline struct cp_addr cp_local(const struct toe_tuple *t)
{
	return cp_addr_make(t->family, t->local_addr);
}

static inline struct cp_addr cp_remote(const struct toe_tuple *t)
{
	return cp_addr_make(t->family, t->remote_addr);
}

/* Ports in host order. */
static inline struct toe_tuple cp_tuple(const struct cp_addr *local, uint16_t local_port,
					const struct cp_addr *remote, uint16_t remote_port)
{
	struct toe_tuple t = {.local_port = htons(local_port),
			      .remote_port = htons(remote_port),
			      .family = local->family};

	memcpy(t.local_addr, local->b, sizeof(t.local_addr));
	memcpy(t.remote_addr, remote->b, sizeof(t.remote_addr));
	return t;
}

#endif
