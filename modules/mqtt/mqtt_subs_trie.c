// SPDX-License-Identifier: BSD-3-Clause
/*
 * Trie of the subscription map: cutting and checking filters (OASIS MQTT 5.0 sections 4.7, 4.8.2;
 * 3.1.1 section 4.7), finding, making and pruning the nodes of their levels.
 * Input: filters' bytes; output: node indices.  State: the nodes, their hash, the texts of long
 * levels.  One thread.
 */
#include "common/topic_filter.h"
#include "modules/mqtt/mqtt_subs_int.h"

bool mqtt_levels_split(struct mqtt_levels *lv, const uint8_t *text, size_t len)
{
	const uint8_t *p = text, *end = text + len;

	lv->text = text;
	for (lv->n = 0; lv->n < MQTT_LEVELS_MAX;) {
		const uint8_t *slash = memchr(p, '/', (size_t)(end - p));

		lv->off[lv->n] = (uint16_t)(p - text);
		lv->len[lv->n++] = (uint16_t)((slash ? slash : end) - p);
		if (!slash)
			return true;
		p = slash + 1;
	}
	return false;
}

static bool level_is(const struct mqtt_levels *lv, uint32_t i, char c)
{
	return lv->len[i] == 1 && lv->text[lv->off[i]] == (uint8_t)c;
}

bool mqtt_filter_parse(struct mqtt_filter *f, const uint8_t *text, size_t len)
{
	static const char prefix[] = "$share/";
	const size_t plen = sizeof(prefix) - 1;

	f->share = NULL;
	f->share_len = 0;
	if (len > MQTT_TEXT_MAX)
		return false;
	if (len >= plen && memcmp(text, prefix, plen) == 0) {
		const uint8_t *slash = memchr(text + plen, '/', len - plen);

		/* mosquitto takes names that 4.8.2-1 and 4.8.2-2 forbid: empty, a wildcard */
		if (!slash || !toe_filter_wildcards_valid(text, len))
			return false;
		f->share = text + plen;
		f->share_len = (uint32_t)(slash - f->share);
		len -= (size_t)(slash + 1 - text);
		text = slash + 1;
	}
	/* at least one character: [MQTT-4.7.3-1] */
	return len > 0 && mqtt_levels_split(&f->lv, text, len) &&
	       toe_filter_wildcards_valid(text, len);
}

const uint8_t *mqtt_node_text(const struct mqtt_subs *m, const struct mqtt_node *n)
{
	return n->len <= NODE_INLINE ? n->text : mqtt_arena_at(&m->text, n->unit);
}

static uint32_t child_hash(uint32_t parent, uint64_t text_hash)
{
	return (uint32_t)mqtt_mix(text_hash + parent * 0x9e3779b97f4a7c15u);
}

uint32_t mqtt_node_child(const struct mqtt_subs *m, uint32_t parent, uint64_t hash,
			 const uint8_t *text, uint32_t len)
{
	uint32_t h = child_hash(parent, hash);
	uint32_t i = m->node_bucket[h & m->node_mask];

	for (; i != NONE; i = m->nodes[i].next) {
		const struct mqtt_node *n = &m->nodes[i];

		if (n->hash == h && n->parent == parent && n->len == len &&
		    memcmp(mqtt_node_text(m, n), text, len) == 0)
			return i;
	}
	return NONE;
}

void mqtt_node_clear(struct mqtt_node *n, uint32_t parent)
{
	memset(n, 0, sizeof(*n));
	n->parent = parent;
	n->next = n->plus = n->pound = n->head = NONE;
	n->slot = EPOCH_WILD;
}

/* An empty node that is nobody's child yet; text NULL for a wildcard. */
static uint32_t node_new(struct mqtt_subs *m, uint32_t parent, const uint8_t *text, uint32_t len)
{
	uint32_t i = m->node_free, next;
	struct mqtt_node *n;

	if (i == NONE)
		return NONE;
	n = &m->nodes[i];
	next = n->next;
	mqtt_node_clear(n, parent);
	n->len = (uint16_t)len;
	if (len > NODE_INLINE) {
		n->unit = mqtt_arena_alloc(&m->text, len);
		if (n->unit == NONE) {
			n->next = next;
			return NONE;
		}
		memcpy(mqtt_arena_at(&m->text, n->unit), text, len);
	} else if (len > 0) {
		memcpy(n->text, text, len);
	}
	m->node_free = next;
	m->counts.nodes++;
	m->nodes[parent].children++;
	if (parent != NODE_ROOT)
		n->slot = m->nodes[parent].slot;
	return i;
}

uint32_t mqtt_node_literal(struct mqtt_subs *m, uint32_t parent, const uint8_t *text, uint32_t len,
			   bool create)
{
	uint64_t hash = mqtt_text_hash(m, text, len);
	uint32_t i = mqtt_node_child(m, parent, hash, text, len);
	struct mqtt_node *n;
	uint32_t *bucket;

	if (i != NONE || !create)
		return i;
	i = node_new(m, parent, text, len);
	if (i == NONE)
		return NONE;
	n = &m->nodes[i];
	n->hash = child_hash(parent, hash);
	if (parent == NODE_ROOT)
		n->slot = (uint16_t)(hash % EPOCH_SLOTS);
	bucket = &m->node_bucket[n->hash & m->node_mask];
	n->next = *bucket;
	*bucket = i;
	return i;
}

static void node_free(struct mqtt_subs *m, uint32_t i)
{
	struct mqtt_node *n = &m->nodes[i], *parent = &m->nodes[n->parent];

	if (parent->plus == i) {
		parent->plus = NONE;
	} else if (parent->pound == i) {
		parent->pound = NONE;
	} else {
		uint32_t *at = &m->node_bucket[n->hash & m->node_mask];

		while (*at != i)
			at = &m->nodes[*at].next;
		*at = n->next;
	}
	if (n->len > NODE_INLINE)
		mqtt_arena_free(&m->text, n->unit, n->len);
	parent->children--;
	m->counts.nodes--;
	n->next = m->node_free;
	m->node_free = i;
}

/* Frees the node and those above it as far as nothing needs them. */
void mqtt_node_prune(struct mqtt_subs *m, uint32_t i)
{
	while (i >= NODE_FIRST && m->nodes[i].nsubs == 0 && m->nodes[i].children == 0) {
		uint32_t parent = m->nodes[i].parent;

		node_free(m, i);
		i = parent;
	}
}

static uint32_t node_step(struct mqtt_subs *m, uint32_t i, const struct mqtt_levels *lv, uint32_t k,
			  bool create)
{
	uint32_t *child;

	if (level_is(lv, k, '+'))
		child = &m->nodes[i].plus;
	else if (level_is(lv, k, '#'))
		child = &m->nodes[i].pound;
	else
		return mqtt_node_literal(m, i, lv->text + lv->off[k], lv->len[k], create);
	if (*child == NONE && create)
		*child = node_new(m, i, NULL, 0);
	return *child;
}

uint32_t mqtt_filter_node(struct mqtt_subs *m, const struct mqtt_levels *lv, bool create)
{
	uint32_t i = NODE_ROOT;

	for (uint32_t k = 0; k < lv->n; k++) {
		uint32_t child = node_step(m, i, lv, k, create);

		if (child == NONE) {
			if (create)
				mqtt_node_prune(m, i);
			return NONE;
		}
		i = child;
	}
	return i;
}
