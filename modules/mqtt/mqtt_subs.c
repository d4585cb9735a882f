// SPDX-License-Identifier: BSD-3-Clause
/*
 * Subscription map: the trie of filter levels, the subscriptions at its leaves, and the list of
 * each session (OASIS MQTT 5.0 sections 4.7, 4.8.2; 3.1.1 section 4.7). Input: filters and session
 * indices of the stage; output: subscription indices with generations. State: the pools made at
 * create.  One thread.  What matches a topic is in mqtt_subs_cache.c.
 */
#include <errno.h>
#include <stdlib.h>

#include "common/log.h"
#include "modules/mqtt/mqtt_subs_int.h"

uint32_t mqtt_pow2_above(uint64_t n)
{
	uint32_t p = 1;

	while (p < n && p < 1u << 31)
		p <<= 1;
	return p;
}

uint32_t *mqtt_buckets_new(uint32_t n, uint32_t *mask)
{
	size_t size = (size_t)mqtt_pow2_above(n) * sizeof(uint32_t);
	uint32_t *b = malloc(size);

	if (b)
		memset(b, 0xff, size);
	*mask = mqtt_pow2_above(n) - 1;
	return b;
}

static uint32_t sub_hash(const struct mqtt_subs *m, uint32_t session, uint32_t node, uint32_t group)
{
	uint64_t x = ((uint64_t)session << 32 | node) ^ m->lim.key[0];

	return (uint32_t)mqtt_mix(x + group * 0x9e3779b97f4a7c15u);
}

static uint32_t sub_lookup(const struct mqtt_subs *m, uint32_t session, uint32_t node, uint32_t grp)
{
	uint32_t i = m->sub_bucket[sub_hash(m, session, node, grp) & m->sub_mask];

	for (; i != NONE; i = m->subs[i].hash_next) {
		const struct mqtt_sub *s = &m->subs[i];

		if (s->session == session && s->node == node && s->group == grp)
			return i;
	}
	return NONE;
}

/* The cached groups this leaf is in are no longer right. */
static void node_changed(struct mqtt_subs *m, struct mqtt_node *n)
{
	n->version = ++m->version;
	m->epoch[n->slot]++;
}

static uint32_t sub_new(struct mqtt_subs *m, uint32_t session, uint32_t node, uint32_t group)
{
	uint32_t i = m->sub_free;
	struct mqtt_node *n = &m->nodes[node];
	struct mqtt_sub *s;
	uint32_t *bucket, gen;

	if (i == NONE)
		return NONE;
	s = &m->subs[i];
	m->sub_free = s->hash_next;
	if (i >= m->sub_high)
		m->sub_high = i + 1;
	gen = s->gen;
	memset(s, 0, sizeof(*s));
	s->gen = gen;
	s->session = session;
	s->node = node;
	s->group = group;
	bucket = &m->sub_bucket[sub_hash(m, session, node, group) & m->sub_mask];
	s->hash_next = *bucket;
	*bucket = i;
	s->leaf_prev = s->session_prev = NONE;
	s->leaf_next = n->head;
	if (n->head != NONE)
		m->subs[n->head].leaf_prev = i;
	n->head = i;
	n->nsubs++;
	if (group != NONE) {
		s->opts = MQTT_SUB_SHARED;
		n->nshared++;
		m->nodes[group].nsubs++;
	}
	s->session_next = m->session[session];
	if (s->session_next != NONE)
		m->subs[s->session_next].session_prev = i;
	m->session[session] = i;
	m->counts.subscriptions++;
	node_changed(m, n);
	return i;
}

int mqtt_subs_add(struct mqtt_subs *m, uint32_t session, const uint8_t *filter, size_t len,
		  uint32_t *sub, bool *existed)
{
	uint32_t node, group = NONE;
	struct mqtt_filter f;

	if (session >= m->lim.sessions || !mqtt_filter_parse(&f, filter, len))
		return -EINVAL;
	node = mqtt_filter_node(m, &f.lv, true);
	if (node == NONE)
		return -ENOSPC;
	if (f.share) {
		group = mqtt_node_literal(m, NODE_GROUPS, f.share, f.share_len, true);
		if (group == NONE) {
			mqtt_node_prune(m, node);
			return -ENOSPC;
		}
	}
	*sub = sub_lookup(m, session, node, group);
	*existed = *sub != NONE;
	if (*existed)
		return 0;
	*sub = sub_new(m, session, node, group);
	if (*sub != NONE)
		return 0;
	mqtt_node_prune(m, node);
	if (group != NONE)
		mqtt_node_prune(m, group);
	return -ENOSPC;
}

uint32_t mqtt_subs_find(struct mqtt_subs *m, uint32_t session, const uint8_t *filter, size_t len)
{
	uint32_t node, group = NONE;
	struct mqtt_filter f;

	if (session >= m->lim.sessions || !mqtt_filter_parse(&f, filter, len))
		return NONE;
	node = mqtt_filter_node(m, &f.lv, false);
	if (node == NONE)
		return NONE;
	if (f.share) {
		group = mqtt_node_literal(m, NODE_GROUPS, f.share, f.share_len, false);
		if (group == NONE)
			return NONE;
	}
	return sub_lookup(m, session, node, group);
}

static void sub_unlink(struct mqtt_subs *m, uint32_t i)
{
	const struct mqtt_sub *s = &m->subs[i];
	uint32_t *at = &m->sub_bucket[sub_hash(m, s->session, s->node, s->group) & m->sub_mask];

	while (*at != i)
		at = &m->subs[*at].hash_next;
	*at = s->hash_next;
	if (s->leaf_next != NONE)
		m->subs[s->leaf_next].leaf_prev = s->leaf_prev;
	if (s->leaf_prev != NONE)
		m->subs[s->leaf_prev].leaf_next = s->leaf_next;
	else
		m->nodes[s->node].head = s->leaf_next;
	if (s->session_next != NONE)
		m->subs[s->session_next].session_prev = s->session_prev;
	if (s->session_prev != NONE)
		m->subs[s->session_prev].session_next = s->session_next;
	else
		m->session[s->session] = s->session_next;
}

void mqtt_subs_del(struct mqtt_subs *m, uint32_t sub)
{
	struct mqtt_sub *s = mqtt_subs_get(m, sub);
	uint32_t node, group;

	TOE_ASSERT(s);
	if (!s)
		return;
	node = s->node;
	group = s->group;
	sub_unlink(m, sub);
	s->session = s->node = NONE;
	s->gen++;
	s->hash_next = m->sub_free;
	m->sub_free = sub;
	m->counts.subscriptions--;
	node_changed(m, &m->nodes[node]);
	m->nodes[node].nsubs--;
	if (group != NONE) {
		m->nodes[node].nshared--;
		m->nodes[group].nsubs--;
		mqtt_node_prune(m, group);
	}
	mqtt_node_prune(m, node);
}

struct mqtt_sub *mqtt_subs_get(struct mqtt_subs *m, uint32_t sub)
{
	if (sub >= m->lim.subscriptions || m->subs[sub].session == NONE)
		return NULL;
	return &m->subs[sub];
}

void mqtt_subs_touch(struct mqtt_subs *m, uint32_t sub)
{
	const struct mqtt_sub *s = mqtt_subs_get(m, sub);

	TOE_ASSERT(s);
	if (s)
		node_changed(m, &m->nodes[s->node]);
}

uint32_t mqtt_subs_first(const struct mqtt_subs *m, uint32_t session)
{
	return session < m->lim.sessions ? m->session[session] : NONE;
}

uint32_t mqtt_subs_next(const struct mqtt_subs *m, uint32_t sub)
{
	if (sub >= m->lim.subscriptions || m->subs[sub].session == NONE)
		return NONE;
	return m->subs[sub].session_next;
}

bool mqtt_subs_alive(const struct mqtt_subs *m, uint32_t sub, uint32_t gen)
{
	return sub < m->lim.subscriptions && m->subs[sub].gen == gen &&
	       m->subs[sub].session != NONE;
}

uint64_t mqtt_subs_hash(const struct mqtt_subs *m, const uint8_t *text, size_t len)
{
	return mqtt_text_hash(m, text, len);
}

void mqtt_subs_work(struct mqtt_subs *m, uint32_t steps)
{
	m->debt += steps;
}

void mqtt_subs_rest(struct mqtt_subs *m, uint32_t ms)
{
	uint64_t paid = (uint64_t)ms * m->lim.work_ms;

	m->debt -= paid < m->debt ? paid : m->debt;
}

bool mqtt_subs_busy(const struct mqtt_subs *m)
{
	return m->lim.work_ms != 0 && m->debt >= m->lim.work_ms;
}

struct out { /* text cut to room, length counted on */
	char *buf;
	size_t room, len;
};

static void out_add(struct out *o, const void *text, size_t len)
{
	if (o->len < o->room) {
		size_t n = len < o->room - o->len ? len : o->room - o->len;

		memcpy(o->buf + o->len, text, n);
	}
	o->len += len;
}

static void out_node(const struct mqtt_subs *m, uint32_t i, struct out *o)
{
	const struct mqtt_node *n = &m->nodes[i];

	if (m->nodes[n->parent].plus == i)
		out_add(o, "+", 1);
	else if (m->nodes[n->parent].pound == i)
		out_add(o, "#", 1);
	else
		out_add(o, mqtt_node_text(m, n), n->len);
}

size_t mqtt_subs_filter(const struct mqtt_subs *m, uint32_t sub, char *buf, size_t room)
{
	struct out o = {.buf = buf, .room = room > 0 ? room - 1 : 0, .len = 0};
	uint32_t path[MQTT_LEVELS_MAX], n = 0;

	if (room > 0)
		buf[0] = '\0';
	if (sub >= m->lim.subscriptions || m->subs[sub].session == NONE)
		return 0;
	if (m->subs[sub].group != NONE) {
		out_add(&o, "$share/", 7);
		out_node(m, m->subs[sub].group, &o);
		out_add(&o, "/", 1);
	}
	for (uint32_t i = m->subs[sub].node; i != NODE_ROOT && n < MQTT_LEVELS_MAX;
	     i = m->nodes[i].parent)
		path[n++] = i;
	while (n > 0) {
		out_node(m, path[--n], &o);
		if (n > 0)
			out_add(&o, "/", 1);
	}
	if (room > 0)
		buf[o.len < o.room ? o.len : o.room] = '\0';
	return o.len;
}

static int subs_pools(struct mqtt_subs *m)
{
	const struct mqtt_subs_limits *lim = &m->lim;

	m->subs = calloc(lim->subscriptions, sizeof(*m->subs));
	m->sub_bucket = mqtt_buckets_new(lim->subscriptions, &m->sub_mask);
	m->session = malloc(lim->sessions * sizeof(*m->session));
	m->nodes = aligned_alloc(64, lim->nodes * sizeof(*m->nodes));
	m->node_bucket = mqtt_buckets_new(lim->nodes, &m->node_mask);
	if (!m->subs || !m->sub_bucket || !m->session || !m->nodes || !m->node_bucket ||
	    mqtt_arena_init(&m->text, lim->text_bytes))
		return -ENOMEM;
	memset(m->session, 0xff, lim->sessions * sizeof(*m->session));
	mqtt_node_clear(&m->nodes[NODE_ROOT], NODE_ROOT);
	mqtt_node_clear(&m->nodes[NODE_GROUPS], NODE_GROUPS);
	m->sub_free = m->node_free = NONE;
	for (uint32_t i = lim->subscriptions; i-- > 0; m->sub_free = i) {
		m->subs[i].session = m->subs[i].node = NONE;
		m->subs[i].hash_next = m->sub_free;
	}
	for (uint32_t i = lim->nodes; i-- > NODE_FIRST; m->node_free = i) {
		mqtt_node_clear(&m->nodes[i], NODE_ROOT);
		m->nodes[i].next = m->node_free;
	}
	return 0;
}

static uint32_t or_default(uint32_t value, uint64_t dflt)
{
	if (value > 0)
		return value;
	return dflt < 1u << 30 ? (uint32_t)dflt : 1u << 30;
}

struct mqtt_subs *mqtt_subs_create(const struct mqtt_subs_limits *lim)
{
	const uint32_t most = 1u << 30;
	struct mqtt_subs *m;

	if (lim->sessions == 0 || lim->subscriptions == 0 || lim->sessions > most ||
	    lim->subscriptions > most || lim->nodes > most || lim->cache_topics > most)
		return NULL;
	m = calloc(1, sizeof(*m));
	if (!m)
		return NULL;
	m->lim = *lim;
	m->lim.nodes = or_default(lim->nodes, 2ull * lim->subscriptions) + NODE_FIRST;
	m->lim.text_bytes = or_default(lim->text_bytes, 32ull * m->lim.nodes);
	m->lim.cache_topics = or_default(lim->cache_topics, 4096);
	m->lim.cache_entries = or_default(lim->cache_entries, 4ull * lim->subscriptions);
	if (subs_pools(m) || mqtt_cache_init(m)) {
		mqtt_subs_free(m);
		return NULL;
	}
	return m;
}

void mqtt_subs_free(struct mqtt_subs *m)
{
	if (!m)
		return;
	mqtt_cache_fini(m);
	mqtt_arena_fini(&m->text);
	free(m->subs);
	free(m->sub_bucket);
	free(m->session);
	free(m->nodes);
	free(m->node_bucket);
	free(m);
}

void mqtt_subs_count(const struct mqtt_subs *m, struct mqtt_subs_counts *out)
{
	*out = m->counts;
	out->group_bytes = (uint64_t)m->groups.used * ARENA_UNIT;
	out->text_bytes = (uint64_t)(m->text.used + m->topics.used) * ARENA_UNIT;
}
