/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * 4-tuple -> connection id and generation (rte_hash, lock-free readers) and the table of TCP ports
 * that are ours. Writer: the ctrl stage (one instance).  Readers: pre replicas, between quiescent
 * states.
 */
#ifndef TOE_FLOW_TABLE_H
#define TOE_FLOW_TABLE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include <rte_rcu_qsbr.h>

#include "common/flow_hash.h"

struct toe_flow_table;

/* A connection, as items name it.  What is under way with a pair of an earlier use of the id proto
 * takes for stale. */
struct toe_flow_ref {
	uint32_t conn; /* TOE_NONE: none */
	uint32_t gen;
};

/* capacity connections.  NULL and rte_errno on failure.  qsbr may be NULL (unit tests). */
struct toe_flow_table *toe_flow_table_create(uint32_t capacity, struct rte_rcu_qsbr *qsbr);
void toe_flow_table_free(struct toe_flow_table *t);

/* Where the entry is (>= 0), which is what removes it again; -ENOSPC, -EEXIST. */
int toe_flow_table_add(struct toe_flow_table *t, const struct toe_tuple *key,
		       struct toe_flow_ref ref);
/* 0, or -ENOENT: nothing is there. */
int toe_flow_table_del(struct toe_flow_table *t, int at);

/* Connections of n <= TOE_BURST keys.  Id and generation of one are always of the same add. */
void toe_flow_table_lookup(const struct toe_flow_table *t, const struct toe_tuple *const *keys,
			   unsigned n, struct toe_flow_ref *refs);

/* Port ownership (TOE_PORT_*), host-order port; 0 = the kernel's. */
void toe_port_set(struct toe_flow_table *t, uint16_t family, uint16_t port, uint32_t state);
uint32_t toe_port_get(const struct toe_flow_table *t, uint16_t family, uint16_t port);

/* The port's IPv6 addresses, i < TOE_ADDR6_N, network order; all zero: none.  Connections to
 * others are the kernel's. */
#define TOE_ADDR6_N 2u
void toe_addr6_set(struct toe_flow_table *t, unsigned i, const uint8_t addr[16]);
bool toe_addr6_ours(const struct toe_flow_table *t, const uint8_t addr[16]);

/* Without a flow: may a connection of this local port and address be ours?  Of IPv4 addresses only
 * pre knows which is. */
static inline bool toe_port_ours(const struct toe_flow_table *t, const struct toe_tuple *k)
{
	if (toe_port_get(t, (uint16_t)k->family, __builtin_bswap16(k->local_port)) == 0)
		return false;
	return k->family == AF_INET || toe_addr6_ours(t, k->local_addr);
}

#endif
