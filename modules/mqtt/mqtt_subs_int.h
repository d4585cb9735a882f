/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Inside of the subscription map, shared by mqtt_subs*.c and nobody else: the trie's nodes, the
 * cache's items, the two arenas and the hash.
 *
 * Trie: a node is one level of a filter.  Its '+' and '#' children hang on it directly, literal
 * ones are found in one hash keyed by (parent, text).  Names of shared groups are nodes, too, below
 * a root of their own.
 *
 * Validity of what is cached: every change at a leaf gives that leaf a version no leaf had before,
 * and counts the epoch of its first level up (filters that start with a wildcard have their own).
 * Epoch unchanged: the topic's group is right.  Changed: walk, and compare the sum over the leaves'
 * versions; only if that differs the group is another one.
 */
#ifndef TOE_MQTT_SUBS_INT_H
#define TOE_MQTT_SUBS_INT_H

#include <string.h>

#include "common/siphash.h"
#include "modules/mqtt/mqtt_subs.h"

#define NONE        UINT32_MAX
#define NODE_ROOT   0u
#define NODE_GROUPS 1u /* parent of the names of shared groups */
#define NODE_FIRST  2u

#define NODE_INLINE  16u   /* bytes of a level kept in the node */
#define TOPIC_INLINE 32u   /* bytes of a topic kept in the item */
#define TOPIC_CACHED 1024u /* longer topics are walked every time */

#define EPOCH_SLOTS 4096u /* first levels by hash; a collision costs a walk */
#define EPOCH_WILD  EPOCH_SLOTS

#define ARENA_UNIT  64u /* bytes */
#define ARENA_QUICK 64u

/* Buddy allocator over one piece of memory.  Whoever frees says the size again. */
struct mqtt_arena {
	uint8_t *base;
	uint8_t *order; /* per unit: 1 + order of the free block that starts there, else 0 */
	uint32_t units; /* a power of two */
	uint32_t used;
	uint32_t avail; /* bit o: head[o] is not NONE */
	uint32_t head[32];
	uint32_t quick_n, quick[ARENA_QUICK]; /* free single units that were not joined yet */
};

int mqtt_arena_init(struct mqtt_arena *a, uint64_t bytes); /* rounded up; 0 or -ENOMEM */
void mqtt_arena_fini(struct mqtt_arena *a);
uint32_t mqtt_arena_alloc(struct mqtt_arena *a, size_t bytes); /* first unit, NONE: no room */
void mqtt_arena_free(struct mqtt_arena *a, uint32_t unit, size_t bytes);

static inline void *mqtt_arena_at(const struct mqtt_arena *a, uint32_t unit)
{
	return a->base + (size_t)unit * ARENA_UNIT;
}

struct mqtt_node {
	uint32_t parent;
	uint32_t next; /* same bucket; free nodes are linked by it */
	uint32_t plus, pound;
	uint32_t children; /* of any kind */
	uint32_t head;     /* subscriptions that end here */
	uint32_t nsubs;
	uint32_t nshared;
	uint64_t version; /* of the list and of what is in it */
	uint32_t hash;
	uint16_t len;
	uint16_t slot; /* epoch of the filters through this node */
	union {
		uint8_t text[NODE_INLINE];
		uint32_t unit; /* in the text arena, if len > NODE_INLINE */
	};
};

struct mqtt_item { /* a cached topic */
	uint64_t hash;
	uint64_t epoch;
	struct mqtt_group *group; /* NULL: item is free */
	uint32_t next;
	uint16_t len;
	uint16_t slot : 14;
	uint16_t dollar : 1;
	uint16_t used : 1; /* since the clock's hand passed */
	union {
		uint8_t text[TOPIC_INLINE];
		uint32_t unit; /* in the topics' arena, if len > TOPIC_INLINE */
	};
};

_Static_assert(sizeof(struct mqtt_sub) <= 56, "64 bytes a subscription with two buckets");
_Static_assert(sizeof(struct mqtt_node) == 64, "one line a node");
_Static_assert(sizeof(struct mqtt_item) == 64, "one line a cached topic");
_Static_assert(EPOCH_SLOTS < 1u << 14, "slots fit the item's field");

/* A filter or topic cut at its slashes. */
struct mqtt_levels {
	const uint8_t *text;
	uint32_t n;
	uint16_t off[MQTT_LEVELS_MAX];
	uint16_t len[MQTT_LEVELS_MAX];
};

struct mqtt_filter { /* as subscribed */
	struct mqtt_levels lv;
	const uint8_t *share; /* name of the group, NULL if not shared */
	uint32_t share_len;
};

struct mqtt_tally { /* per session, while a group is built */
	uint64_t stamp;
	uint32_t n, at;
};

struct mqtt_step { /* of the walk: levels before this one led to the node */
	uint32_t node, level;
};

struct mqtt_subs {
	struct mqtt_subs_limits lim;
	struct mqtt_subs_counts counts;
	struct mqtt_sub *subs;
	uint32_t sub_free;
	uint32_t sub_high; /* none from here on was ever used */
	uint32_t sub_mask, *sub_bucket;
	uint32_t *session; /* first subscription of each */
	struct mqtt_node *nodes;
	uint32_t node_free;
	uint32_t node_mask, *node_bucket;
	struct mqtt_arena text;
	uint64_t version;
	uint64_t debt; /* steps done that no time has paid for */

	struct mqtt_item *items;
	uint32_t item_free, hand;
	uint32_t item_mask, *item_bucket;
	uint32_t group_mask, *group_bucket; /* by signature; units of the arena */
	struct mqtt_arena groups;
	struct mqtt_arena topics; /* texts of long ones */
	struct mqtt_tally *tally;
	uint64_t stamp;
	uint64_t group_epoch;

	/* scratch of one match */
	struct mqtt_step stack[2 * MQTT_LEVELS_MAX + 2];
	uint32_t leaf[2 * MQTT_VISITS_MAX];

	uint64_t epoch[EPOCH_SLOTS + 1];
};

/* An attacker who chooses topics must not choose buckets. */
static inline uint64_t mqtt_text_hash(const struct mqtt_subs *m, const uint8_t *p, size_t len)
{
	return toe_siphash13(m->lim.key, p, len);
}

static inline uint64_t mqtt_mix(uint64_t x)
{
	x = (x ^ x >> 32) * 0xd6e8feb86659fd93u;
	x = (x ^ x >> 32) * 0xd6e8feb86659fd93u;
	return x ^ x >> 32;
}

/* Fills lv; false if there are more than MQTT_LEVELS_MAX levels.  len <= MQTT_TEXT_MAX. */
bool mqtt_levels_split(struct mqtt_levels *lv, const uint8_t *text, size_t len);
/* Literal child with that text, NONE if there is none; hash is the text's. */
uint32_t mqtt_node_child(const struct mqtt_subs *m, uint32_t parent, uint64_t hash,
			 const uint8_t *text, uint32_t len);

const uint8_t *mqtt_node_text(const struct mqtt_subs *m, const struct mqtt_node *n);
void mqtt_node_clear(struct mqtt_node *n, uint32_t parent);
/* The same, making the child if asked to; NONE: there is none, no room. */
uint32_t mqtt_node_literal(struct mqtt_subs *m, uint32_t parent, const uint8_t *text, uint32_t len,
			   bool create);
/* Frees the node and those above it as far as nothing needs them. */
void mqtt_node_prune(struct mqtt_subs *m, uint32_t i);
/* False if a subscription must not look like this. */
bool mqtt_filter_parse(struct mqtt_filter *f, const uint8_t *text, size_t len);
/* Node of the filter's last level; NONE: there is none, no room (and nothing was made). */
uint32_t mqtt_filter_node(struct mqtt_subs *m, const struct mqtt_levels *lv, bool create);

/* Pools of the cache part, called by mqtt_subs_create and _free. */
int mqtt_cache_init(struct mqtt_subs *m);
void mqtt_cache_fini(struct mqtt_subs *m);

/* Power of two not below n, for bucket arrays; bucket arrays start all NONE. */
uint32_t mqtt_pow2_above(uint64_t n);
uint32_t *mqtt_buckets_new(uint32_t n, uint32_t *mask);

#endif
