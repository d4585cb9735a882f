// SPDX-License-Identifier: BSD-3-Clause
/*
 * What matches a topic: the cache of exact topics, the walk of the trie on a miss, and the groups
 * (OASIS MQTT section 4.7; how the cache knows that it is right is told in mqtt_subs_int.h).
 * Input: topic names; output: reference-counted groups.
 * State: items (bounded, CLOCK), groups (one arena), both made at create.  One thread.  Work per
 * call is bounded by MQTT_LEVELS_MAX, MQTT_VISITS_MAX, EVICT_STEPS and the group's size.
 */
#include <errno.h>
#include <stdlib.h>

#include "common/log.h"
#include "modules/mqtt/mqtt_subs_int.h"

#define EVICT_STEPS 512u /* items looked at for room, per match */
#define SCAN_PART   8u   /* a leaf with more than this part of the subscriptions is scanned for */
#define TOPIC_BYTES 64u  /* of memory for long topics, per item */

struct walk {
	struct mqtt_levels lv;
	uint64_t hash[MQTT_LEVELS_MAX]; /* of the first `hashed` levels */
	uint32_t hashed;
	bool dollar;
	uint32_t leaves; /* in m->leaf */
	uint32_t subs, shared;
	uint64_t sig;
};

static size_t group_bytes(uint32_t n)
{
	return sizeof(struct mqtt_group) + (size_t)n * sizeof(struct mqtt_group_entry);
}

static uint32_t group_unit(const struct mqtt_subs *m, const struct mqtt_group *g)
{
	return (uint32_t)(((const uint8_t *)g - m->groups.base) / ARENA_UNIT);
}

static uint32_t *group_bucket(struct mqtt_subs *m, uint64_t sig)
{
	return &m->group_bucket[sig & m->group_mask];
}

static uint64_t epoch_now(const struct mqtt_subs *m, uint32_t slot, bool dollar)
{
	/* both only grow, so the sum is as good as the pair */
	return m->epoch[slot] + (dollar ? 0 : m->epoch[EPOCH_WILD]);
}

static const uint8_t *item_text(const struct mqtt_subs *m, const struct mqtt_item *it)
{
	return it->len <= TOPIC_INLINE ? it->text : mqtt_arena_at(&m->topics, it->unit);
}

void mqtt_group_put(struct mqtt_subs *m, struct mqtt_group *g)
{
	uint32_t unit = group_unit(m, g), *at;

	TOE_ASSERT(g->refs > 0);
	if (--g->refs > 0)
		return;
	at = group_bucket(m, g->sig);
	while (*at != unit)
		at = &((struct mqtt_group *)mqtt_arena_at(&m->groups, *at))->next;
	*at = g->next;
	m->counts.groups--;
	m->counts.cache_entries -= g->n;
	mqtt_arena_free(&m->groups, unit, group_bytes(g->n));
}

static void item_drop(struct mqtt_subs *m, uint32_t i)
{
	struct mqtt_item *it = &m->items[i];
	uint32_t *at = &m->item_bucket[it->hash & m->item_mask];

	while (*at != i)
		at = &m->items[*at].next;
	*at = it->next;
	if (it->len > TOPIC_INLINE)
		mqtt_arena_free(&m->topics, it->unit, it->len);
	mqtt_group_put(m, it->group);
	it->group = NULL;
	it->next = m->item_free;
	m->item_free = i;
	m->counts.cached_topics--;
}

/* Drops the next topic not used for a round of the clock, or not right any more.  steps is what may
 * be looked at; false when it is used up. */
static bool item_evict(struct mqtt_subs *m, uint32_t *steps)
{
	for (; *steps > 0 && m->counts.cached_topics > 0; --*steps) {
		uint32_t i = m->hand;
		struct mqtt_item *it = &m->items[i];

		m->hand = i + 1 < m->lim.cache_topics ? i + 1 : 0;
		if (!it->group)
			continue;
		if (it->used && it->epoch == epoch_now(m, it->slot, it->dollar)) {
			it->used = 0;
			continue;
		}
		m->counts.evicted++;
		item_drop(m, i);
		return true;
	}
	return false;
}

static uint32_t item_find(const struct mqtt_subs *m, uint64_t hash, const uint8_t *topic,
			  size_t len)
{
	uint32_t i = m->item_bucket[hash & m->item_mask];

	for (; i != NONE; i = m->items[i].next) {
		const struct mqtt_item *it = &m->items[i];

		if (it->hash == hash && it->len == len && memcmp(item_text(m, it), topic, len) == 0)
			return i;
	}
	return NONE;
}

/* Remembers the topic if there is room; a topic that is not remembered is only slower. */
static void item_add(struct mqtt_subs *m, uint64_t hash, const struct walk *w, size_t len,
		     struct mqtt_group *g)
{
	uint32_t steps = EVICT_STEPS, i, unit = NONE;
	struct mqtt_item *it;

	if (len > TOPIC_CACHED || (m->item_free == NONE && !item_evict(m, &steps)))
		return;
	if (len > TOPIC_INLINE) {
		do
			unit = mqtt_arena_alloc(&m->topics, len);
		while (unit == NONE && item_evict(m, &steps));
		if (unit == NONE)
			return;
		memcpy(mqtt_arena_at(&m->topics, unit), w->lv.text, len);
	}
	i = m->item_free;
	it = &m->items[i];
	m->item_free = it->next;
	it->hash = hash;
	it->slot = (uint16_t)(w->hash[0] % EPOCH_SLOTS);
	it->dollar = w->dollar;
	it->used = 1;
	it->epoch = epoch_now(m, it->slot, w->dollar);
	it->group = mqtt_group_get(g);
	it->len = (uint16_t)len;
	if (len > TOPIC_INLINE)
		it->unit = unit;
	else
		memcpy(it->text, w->lv.text, len);
	it->next = m->item_bucket[hash & m->item_mask];
	m->item_bucket[hash & m->item_mask] = i;
	m->counts.cached_topics++;
}

static void walk_leaf(struct mqtt_subs *m, struct walk *w, uint32_t node)
{
	const struct mqtt_node *n = &m->nodes[node];

	if (n->nsubs == 0)
		return;
	m->leaf[w->leaves++] = node;
	w->subs += n->nsubs;
	w->shared += n->nshared;
	/* A sum, so that the same leaves in another order are the same set; the key, so that nobody
	 * can search for other leaves of the same sum. */
	w->sig += mqtt_mix(n->version ^ m->lim.key[1]);
}

static uint32_t walk_literal(struct mqtt_subs *m, struct walk *w, uint32_t node, uint32_t level)
{
	const struct mqtt_levels *lv = &w->lv;

	/* each level at most once, and only up to the deepest that has literal nodes to compare */
	for (; w->hashed <= level; w->hashed++)
		w->hash[w->hashed] =
			mqtt_text_hash(m, lv->text + lv->off[w->hashed], lv->len[w->hashed]);
	return mqtt_node_child(m, node, w->hash[level], lv->text + lv->off[level], lv->len[level]);
}

/* Depth first with a stack of its own: two children at most are pushed for the one popped, so a
 * level adds one.  False if there are too many nodes. */
static bool walk_trie(struct mqtt_subs *m, struct walk *w)
{
	uint32_t sp = 1, visits = 0;

	m->stack[0] = (struct mqtt_step){NODE_ROOT, 0};
	while (sp > 0) {
		const struct mqtt_step s = m->stack[--sp];
		const struct mqtt_node *n = &m->nodes[s.node];
		/* [MQTT-4.7.2-1]: no wildcard at the first level matches $... */
		bool wild = s.level > 0 || !w->dollar;
		uint32_t literal = n->children - (n->plus != NONE) - (n->pound != NONE), child;

		mqtt_subs_work(m, 1);
		if (++visits > MQTT_VISITS_MAX)
			return false;
		/* '#' matches the level it hangs on, too: 4.7.1.2 */
		if (n->pound != NONE && wild)
			walk_leaf(m, w, n->pound);
		if (s.level == w->lv.n) {
			walk_leaf(m, w, s.node);
			continue;
		}
		/* '+' matches exactly one level, an empty one as well: 4.7.1.3 */
		if (n->plus != NONE && wild)
			m->stack[sp++] = (struct mqtt_step){n->plus, s.level + 1};
		if (literal == 0)
			continue;
		child = walk_literal(m, w, s.node, s.level);
		if (child != NONE)
			m->stack[sp++] = (struct mqtt_step){child, s.level + 1};
	}
	return true;
}

static struct mqtt_group *group_find(struct mqtt_subs *m, const struct walk *w)
{
	uint32_t unit = *group_bucket(m, w->sig);

	while (unit != NONE) {
		struct mqtt_group *g = mqtt_arena_at(&m->groups, unit);

		if (g->sig == w->sig && g->n == w->subs)
			return mqtt_group_get(g);
		unit = g->next;
	}
	return NULL;
}

static void entry_set(struct mqtt_group_entry *e, const struct mqtt_subs *m, uint32_t sub)
{
	e->session = m->subs[sub].session;
	e->sub = sub;
	e->sub_gen = m->subs[sub].gen;
}

struct leaf_iter {
	uint32_t leaf, at;
	bool scan;
};

/* After some churn a leaf's list goes all over the pool, and each step waits for memory: 52 ns an
 * entry with 100 000 of them.  A leaf that has a good part of all subscriptions is read from the
 * pool in order instead: 3 ns. */
static struct leaf_iter leaf_iter(const struct mqtt_subs *m, uint32_t leaf)
{
	struct leaf_iter it = {.leaf = leaf, .at = m->nodes[leaf].head, .scan = false};

	if (m->nodes[leaf].nsubs > m->sub_high / SCAN_PART) {
		it.at = 0;
		it.scan = true;
	}
	return it;
}

static uint32_t leaf_next(const struct mqtt_subs *m, struct leaf_iter *it)
{
	uint32_t s = it->at;

	if (it->scan) {
		while (s < m->sub_high && m->subs[s].node != it->leaf)
			s++;
		it->at = s + 1;
		return s < m->sub_high ? s : NONE;
	}
	if (s != NONE)
		it->at = m->subs[s].leaf_next;
	return s;
}

/* Sessions of one leaf are all different unless shared groups are among them. */
static void entries_plain(const struct mqtt_subs *m, struct mqtt_group *g, uint32_t leaf)
{
	struct leaf_iter it = leaf_iter(m, leaf);
	uint32_t at = 0;

	for (uint32_t s = leaf_next(m, &it); s != NONE; s = leaf_next(m, &it))
		entry_set(&g->entry[at++], m, s);
	TOE_ASSERT(at == g->n);
}

static void leaf_count(struct mqtt_subs *m, uint32_t leaf, uint64_t stamp)
{
	struct leaf_iter it = leaf_iter(m, leaf);

	for (uint32_t s = leaf_next(m, &it); s != NONE; s = leaf_next(m, &it)) {
		struct mqtt_tally *t = &m->tally[m->subs[s].session];

		t->n = t->stamp == stamp ? t->n + 1 : 1;
		t->stamp = stamp;
	}
}

/* Linear: count each session's subscriptions, then place them behind one another. */
static void entries_by_session(struct mqtt_subs *m, struct mqtt_group *g, const struct walk *w)
{
	uint64_t counted = ++m->stamp, placed = ++m->stamp;
	uint32_t at = 0;

	for (uint32_t i = 0; i < w->leaves; i++)
		leaf_count(m, m->leaf[i], counted);
	for (uint32_t i = 0; i < w->leaves; i++) {
		struct leaf_iter it = leaf_iter(m, m->leaf[i]);

		for (uint32_t s = leaf_next(m, &it); s != NONE; s = leaf_next(m, &it)) {
			struct mqtt_tally *t = &m->tally[m->subs[s].session];

			if (t->stamp != placed) {
				t->stamp = placed;
				t->at = at;
				at += t->n;
			}
			entry_set(&g->entry[t->at++], m, s);
		}
	}
	TOE_ASSERT(at == g->n);
}

static struct mqtt_group *group_build(struct mqtt_subs *m, const struct walk *w)
{
	uint32_t steps = EVICT_STEPS, unit, *bucket;
	struct mqtt_group *g;

	do
		unit = mqtt_arena_alloc(&m->groups, group_bytes(w->subs));
	while (unit == NONE && item_evict(m, &steps));
	if (unit == NONE) {
		m->counts.no_memory++;
		return NULL;
	}
	g = mqtt_arena_at(&m->groups, unit);
	memset(g, 0, sizeof(*g));
	g->refs = 1;
	g->n = w->subs;
	g->flags = w->shared > 0 ? MQTT_GROUP_SHARED : 0;
	g->epoch = ++m->group_epoch;
	g->sig = w->sig;
	bucket = group_bucket(m, g->sig);
	g->next = *bucket;
	*bucket = unit;
	if (w->leaves == 1 && w->shared == 0)
		entries_plain(m, g, m->leaf[0]);
	else
		entries_by_session(m, g, w);
	m->counts.groups++;
	m->counts.built++;
	mqtt_subs_work(m, g->n);
	m->counts.cache_entries += g->n;
	return g;
}

static bool walk_start(struct mqtt_subs *m, struct walk *w, const uint8_t *topic, size_t len)
{
	w->hashed = w->leaves = w->subs = w->shared = 0;
	w->sig = 0;
	w->dollar = topic[0] == '$';
	if (!mqtt_levels_split(&w->lv, topic, len))
		return false;
	w->hash[0] = mqtt_text_hash(m, topic, w->lv.len[0]);
	w->hashed = 1;
	return true;
}

/* The topic is not cached, or item i is and something changed near it. */
static struct mqtt_group *match_slow(struct mqtt_subs *m, uint64_t hash, uint32_t i,
				     const uint8_t *topic, size_t len)
{
	struct mqtt_group *g;
	struct walk w;

	m->counts.misses++;
	if (mqtt_subs_busy(m)) {
		m->counts.too_busy++;
		return NULL;
	}
	if (!walk_start(m, &w, topic, len)) {
		m->counts.too_deep++;
		return NULL;
	}
	if (!walk_trie(m, &w)) {
		m->counts.too_wide++;
		return NULL;
	}
	g = group_find(m, &w);
	if (g)
		m->counts.shared++;
	if (g && i != NONE && m->items[i].group == g) {
		m->items[i].epoch = epoch_now(m, m->items[i].slot, w.dollar);
		m->items[i].used = 1;
		return g;
	}
	if (i != NONE)
		item_drop(m, i);
	if (!g)
		g = group_build(m, &w);
	if (g)
		item_add(m, hash, &w, len, g);
	return g;
}

struct mqtt_group *mqtt_subs_match(struct mqtt_subs *m, const uint8_t *topic, size_t len)
{
	uint64_t hash;
	uint32_t i;

	if (len == 0 || len > MQTT_TEXT_MAX) { /* [MQTT-4.7.3-1], 1.5.4 */
		m->counts.too_deep++;
		return NULL;
	}
	if (len > TOPIC_CACHED)
		return match_slow(m, 0, NONE, topic, len);
	hash = mqtt_text_hash(m, topic, len);
	i = item_find(m, hash, topic, len);
	if (i != NONE) {
		struct mqtt_item *it = &m->items[i];

		if (it->epoch == epoch_now(m, it->slot, it->dollar)) {
			m->counts.hits++;
			it->used = 1;
			return mqtt_group_get(it->group);
		}
	}
	return match_slow(m, hash, i, topic, len);
}

void mqtt_subs_flush(struct mqtt_subs *m)
{
	for (uint32_t i = 0; i < m->lim.cache_topics; i++)
		if (m->items[i].group)
			item_drop(m, i);
}

int mqtt_cache_init(struct mqtt_subs *m)
{
	uint32_t n = m->lim.cache_topics;
	uint64_t bytes = (uint64_t)m->lim.cache_entries * sizeof(struct mqtt_group_entry);

	m->items = aligned_alloc(64, n * sizeof(*m->items));
	m->item_bucket = mqtt_buckets_new(n, &m->item_mask);
	m->group_bucket = mqtt_buckets_new(n, &m->group_mask);
	m->tally = calloc(m->lim.sessions, sizeof(*m->tally));
	if (!m->items || !m->item_bucket || !m->group_bucket || !m->tally ||
	    mqtt_arena_init(&m->groups, bytes + (uint64_t)n * ARENA_UNIT) ||
	    mqtt_arena_init(&m->topics, (uint64_t)n * TOPIC_BYTES))
		return -ENOMEM;
	memset(m->items, 0, n * sizeof(*m->items));
	m->item_free = NONE;
	for (uint32_t i = n; i-- > 0; m->item_free = i)
		m->items[i].next = m->item_free;
	return 0;
}

void mqtt_cache_fini(struct mqtt_subs *m)
{
	mqtt_arena_fini(&m->groups);
	mqtt_arena_fini(&m->topics);
	free(m->items);
	free(m->item_bucket);
	free(m->group_bucket);
	free(m->tally);
}
