/* SPDX-License-Identifier: BSD-3-Clause */
/* LINK: modules/mqtt/mqtt_subs.c modules/mqtt/mqtt_subs_trie.c modules/mqtt/mqtt_subs_cache.c
 * modules/mqtt/mqtt_subs_arena.c common/log.c */
/* What a subscription map must answer, the slow and obvious way: a list of filters as subscribed,
 * compared with the topic one by one.  For tests and fuzzers. */
#ifndef TEST_MQTT_MODEL_H
#define TEST_MQTT_MODEL_H

#include <stdlib.h>
#include <string.h>

#include "modules/mqtt/mqtt_subs.h"

#define MODEL_MAX 512u

struct model_sub {
	uint32_t session;
	char *filter; /* with its $share prefix, not terminated; NULL: free slot */
	size_t len;
	uint32_t sub, gen; /* in the map */
};

struct model {
	uint32_t n; /* slots used so far */
	struct model_sub s[MODEL_MAX];
};

/* One level of a text that starts at p; *more says if another follows. */
static inline size_t model_level(const char *p, size_t len, bool *more)
{
	size_t i = 0;

	while (i < len && p[i] != '/')
		i++;
	*more = i < len;
	return i;
}

/* OASIS MQTT 4.7, without $share. */
static inline bool model_matches(const char *f, size_t flen, const char *t, size_t tlen)
{
	if (t[0] == '$' && (f[0] == '+' || f[0] == '#'))
		return false;
	for (;;) {
		bool fmore, tmore;
		size_t fl = model_level(f, flen, &fmore), tl = model_level(t, tlen, &tmore);

		if (fl == 1 && f[0] == '#')
			return true;
		if (!(fl == 1 && f[0] == '+') && (fl != tl || (fl && memcmp(f, t, fl) != 0)))
			return false;
		if (!tmore)
			return !fmore || (flen == fl + 2 && f[fl + 1] == '#');
		if (!fmore)
			return false;
		f += fl + 1;
		flen -= fl + 1;
		t += tl + 1;
		tlen -= tl + 1;
	}
}

static inline bool model_shared(const struct model_sub *s)
{
	return s->len > 7 && memcmp(s->filter, "$share/", 7) == 0;
}

static inline bool model_sub_matches(const struct model_sub *s, const char *t, size_t tlen)
{
	const char *f = s->filter;
	size_t len = s->len;

	if (model_shared(s)) {
		const char *slash = (const char *)memchr(f + 7, '/', len - 7) + 1;

		len -= (size_t)(slash - f);
		f = slash;
	}
	return model_matches(f, len, t, tlen);
}

static inline struct model_sub *model_find(struct model *m, uint32_t session, const char *f,
					   size_t len)
{
	for (uint32_t i = 0; i < m->n; i++) {
		struct model_sub *s = &m->s[i];

		if (s->filter && s->session == session && s->len == len &&
		    memcmp(s->filter, f, len) == 0)
			return s;
	}
	return NULL;
}

/* NULL: full. */
static inline struct model_sub *model_add(struct model *m, uint32_t session, const char *f,
					  size_t len)
{
	struct model_sub *s = m->s;

	while (s < m->s + m->n && s->filter)
		s++;
	if (s == m->s + MODEL_MAX)
		return NULL;
	if (s == m->s + m->n)
		m->n++;
	s->session = session;
	s->len = len;
	s->filter = malloc(len + 1); /* exact but for one, so that ASan sees readers go over */
	if (!s->filter)
		abort();
	memcpy(s->filter, f, len);
	return s;
}

static inline void model_del(struct model_sub *s)
{
	free(s->filter);
	s->filter = NULL;
}

/* NULL if the group is what the model says about the topic, else what is wrong. */
static inline const char *model_check(const struct model *m, const struct mqtt_group *g,
				      const char *topic, size_t len)
{
	uint32_t n = 0, shared = 0;

	for (uint32_t i = 0; i < m->n; i++) {
		const struct model_sub *s = &m->s[i];
		uint32_t k = 0;

		if (!s->filter || !model_sub_matches(s, topic, len))
			continue;
		n++;
		shared += model_shared(s);
		while (k < g->n && g->entry[k].sub != s->sub)
			k++;
		if (k == g->n)
			return "a subscription is missing";
		if (g->entry[k].session != s->session || g->entry[k].sub_gen != s->gen)
			return "an entry says something else than its subscription";
	}
	if (n != g->n)
		return "a subscription too many";
	if ((shared > 0) != ((g->flags & MQTT_GROUP_SHARED) != 0))
		return "the flag of shared subscriptions is wrong";
	for (uint32_t k = 2; k < g->n; k++) {
		if (g->entry[k].session == g->entry[k - 1].session)
			continue;
		for (uint32_t j = 0; j + 1 < k; j++)
			if (g->entry[j].session == g->entry[k].session)
				return "entries of a session are not adjacent";
	}
	return NULL;
}

#endif
