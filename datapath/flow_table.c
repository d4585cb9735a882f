// SPDX-License-Identifier: BSD-3-Clause
/*
 * Flow table, port table and the port's IPv6 addresses.
 *
 * Job: 4-tuple -> connection id and generation, and who owns a TCP port.  Owns an rte_hash with
 * lock-free readers and 65536 bytes per address family.  add, del, port_set and addr6_set are
 * called by the ctrl stage only; lookup, port_get and addr6_ours by the pre replicas and netif_rx.
 * A deleted key's memory is reused only after every reader has been quiescent (deferred queue of
 * rte_hash on the engine's QSBR variable).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <rte_common.h>
#include <rte_errno.h>
#include <rte_hash.h>
#include <rte_hash_crc.h>
#include <rte_lcore.h>

#include "common/log.h"
#include "flow_table.h"
#include "stage.h"
#include "toe/region.h"

#define PORT_N 65536u

struct toe_flow_table {
	struct rte_hash *hash;
	struct rte_rcu_qsbr *qsbr;
	uint32_t capacity;
	uint32_t used;
	/* Relaxed: a reader that sees half of a new address takes it for the kernel's. */
	uint64_t addr6[TOE_ADDR6_N][2];
	uint8_t port[2][PORT_N]; /* AF_INET, AF_INET6; relaxed: a port's state stands alone */
};

static_assert(sizeof(struct toe_tuple) == 40, "the key has no padding");
static_assert(sizeof(void *) == sizeof(uint64_t), "an entry's pointer holds id and generation");
static_assert(TOE_BURST <= RTE_HASH_LOOKUP_BULK_MAX, "one bulk lookup per burst");

/* rte_hash_crc() for keys of any alignment: 40 bytes as 5 * 8. */
static uint32_t key_hash(const void *key, uint32_t len, uint32_t seed)
{
	const uint8_t *p = key;
	uint64_t eight;
	uint32_t i;

	(void)len;
	for (i = 0; i < 5; i++, p += sizeof(eight)) {
		memcpy(&eight, p, sizeof(eight));
		seed = rte_hash_crc_8byte(eight, seed);
	}
	return seed;
}

static int flow_table_use_rcu(struct toe_flow_table *t)
{
	struct rte_hash_rcu_config rcu = {
		.v = t->qsbr,
		.mode = RTE_HASH_QSBR_MODE_DQ,
	};

	if (t->qsbr == NULL)
		return 0;
	return rte_hash_rcu_qsbr_add(t->hash, &rcu);
}

struct toe_flow_table *toe_flow_table_create(uint32_t capacity, struct rte_rcu_qsbr *qsbr)
{
	static unsigned serial;
	char name[RTE_HASH_NAMESIZE];
	struct rte_hash_parameters par = {
		.name = name,
		/* room for deleted keys that readers may still look at */
		.entries = capacity + capacity / 8 + 64,
		.key_len = sizeof(struct toe_tuple),
		.hash_func = key_hash,
		.socket_id = SOCKET_ID_ANY,
		/* EXT_TABLE: an insertion never fails because of unlucky hash values */
		.extra_flag =
			RTE_HASH_EXTRA_FLAGS_RW_CONCURRENCY_LF | RTE_HASH_EXTRA_FLAGS_EXT_TABLE,
	};
	struct toe_flow_table *t = calloc(1, sizeof(*t));

	if (t == NULL) {
		rte_errno = ENOMEM;
		return NULL;
	}
	snprintf(name, sizeof(name), "toe_flows_%u",
		 __atomic_fetch_add(&serial, 1, __ATOMIC_RELAXED));
	t->capacity = capacity;
	t->qsbr = qsbr;
	t->hash = rte_hash_create(&par);
	if (t->hash == NULL) {
		free(t);
		return NULL;
	}
	if (flow_table_use_rcu(t) != 0) {
		int err = rte_errno;

		toe_flow_table_free(t);
		rte_errno = err;
		return NULL;
	}
	return t;
}

void toe_flow_table_free(struct toe_flow_table *t)
{
	if (t == NULL)
		return;
	rte_hash_free(t->hash);
	free(t);
}

/* One word: a reader has both halves or neither. */
static void *pack_ref(struct toe_flow_ref ref)
{
	return (void *)(uintptr_t)((uint64_t)ref.gen << 32 | ref.conn);
}

static struct toe_flow_ref unpack_ref(const void *data)
{
	return (struct toe_flow_ref){.conn = (uint32_t)(uintptr_t)data,
				     .gen = (uint32_t)((uint64_t)(uintptr_t)data >> 32)};
}

int toe_flow_table_add(struct toe_flow_table *t, const struct toe_tuple *key,
		       struct toe_flow_ref ref)
{
	hash_sig_t sig = rte_hash_hash(t->hash, key);

	if (rte_hash_lookup_with_hash(t->hash, key, sig) >= 0)
		return -EEXIST;
	if (t->used >= t->capacity)
		return -ENOSPC;
	if (rte_hash_add_key_with_hash_data(t->hash, key, sig, pack_ref(ref)) != 0)
		return -ENOSPC;
	t->used++;
	return rte_hash_lookup_with_hash(t->hash, key, sig);
}

int toe_flow_table_del(struct toe_flow_table *t, int at)
{
	void *key;
	int32_t pos;

	if (rte_hash_get_key_with_position(t->hash, at, &key) != 0)
		return -ENOENT;
	pos = rte_hash_del_key(t->hash, key);
	if (pos < 0)
		return pos;
	t->used--;
	/* without RCU there are no concurrent readers either: give the entry back at once */
	if (t->qsbr == NULL)
		TOE_CHECK(rte_hash_free_key_with_position(t->hash, pos) == 0);
	return 0;
}

void toe_flow_table_lookup(const struct toe_flow_table *t, const struct toe_tuple *const *keys,
			   unsigned n, struct toe_flow_ref *refs)
{
	const void *k[TOE_BURST];
	void *data[TOE_BURST];
	uint64_t hits = 0;
	unsigned i;

	TOE_ASSERT(n <= TOE_BURST);
	if (n == 0)
		return;
	for (i = 0; i < n; i++)
		k[i] = keys[i];
	if (rte_hash_lookup_bulk_data(t->hash, k, n, &hits, data) < 0)
		hits = 0;
	for (i = 0; i < n; i++)
		refs[i] = (hits >> i & 1) ? unpack_ref(data[i])
					  : (struct toe_flow_ref){.conn = TOE_NONE};
}

static unsigned port_family(uint16_t family)
{
	return family == AF_INET ? 0 : 1;
}

void toe_port_set(struct toe_flow_table *t, uint16_t family, uint16_t port, uint32_t state)
{
	__atomic_store_n(&t->port[port_family(family)][port], (uint8_t)state, __ATOMIC_RELAXED);
}

uint32_t toe_port_get(const struct toe_flow_table *t, uint16_t family, uint16_t port)
{
	return __atomic_load_n(&t->port[port_family(family)][port], __ATOMIC_RELAXED);
}

void toe_addr6_set(struct toe_flow_table *t, unsigned i, const uint8_t addr[16])
{
	uint64_t half[2];

	memcpy(half, addr, sizeof(half));
	__atomic_store_n(&t->addr6[i][0], half[0], __ATOMIC_RELAXED);
	__atomic_store_n(&t->addr6[i][1], half[1], __ATOMIC_RELAXED);
}

bool toe_addr6_ours(const struct toe_flow_table *t, const uint8_t addr[16])
{
	uint64_t half[2];

	memcpy(half, addr, sizeof(half));
	if ((half[0] | half[1]) == 0)
		return false; /* an entry that is not used */
	for (unsigned i = 0; i < TOE_ADDR6_N; i++)
		if (__atomic_load_n(&t->addr6[i][0], __ATOMIC_RELAXED) == half[0] &&
		    __atomic_load_n(&t->addr6[i][1], __ATOMIC_RELAXED) == half[1])
			return true;
	return false;
}
