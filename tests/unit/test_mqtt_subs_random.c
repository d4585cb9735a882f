// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/unit/mqtt_model.h */
/* Subscription map: random filters and topics against a brute-force model, and churn with groups
 * held over it. */
#include <stdio.h>

#include "mqtt_subs_rig.h"

#define HELD     16u
#define TEXT_MAX 512u

static uint64_t rng_state;

static uint32_t rnd(uint32_t n)
{
	rng_state += 0x9e3779b97f4a7c15u;
	uint64_t z = (rng_state ^ rng_state >> 30) * 0xbf58476d1ce4e5b9u;

	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return (uint32_t)((z ^ z >> 31) >> 16) % n;
}

/* A level from a small alphabet; wildcards only where they may stand. */
static size_t text_random(char *buf, size_t room, bool filter)
{
	static const char *const words[] = {
		"a", "b", "c", "", "$a", "bb", "twenty-two characters."};
	uint32_t levels = 1 + rnd(rnd(8) == 0 ? 9 : 4);
	size_t n = 0;

	if (filter && rnd(8) == 0)
		n += (size_t)snprintf(buf, room, "$share/%s/", rnd(2) ? "g" : "h");
	for (uint32_t i = 0; i < levels; i++) {
		const char *w = words[rnd(4) ? rnd(3) : rnd(7)];

		if (filter && rnd(3) == 0)
			w = i + 1 == levels && rnd(2) ? "#" : "+";
		n += (size_t)snprintf(buf + n, room - n, "%s%s", i ? "/" : "", w);
	}
	return n;
}

static size_t filter_random(char *buf)
{
	size_t n;

	do
		n = text_random(buf, TEXT_MAX, true);
	while (n == 0 || (n == 9 && memcmp(buf, "$share/", 7) == 0));
	return n;
}

static size_t topic_random(char *buf)
{
	size_t n;

	do
		n = text_random(buf, TEXT_MAX, false);
	while (n == 0);
	return n;
}

struct held {
	struct mqtt_group *g;
	struct mqtt_group_entry *copy;
	uint32_t n;
};

struct churn {
	struct mqtt_subs *m;
	struct model model;
	struct held held[HELD];
	uint64_t pairs, matches;
};

static void churn_add(struct churn *c)
{
	uint32_t session = rnd(SESSIONS), sub;
	char f[TEXT_MAX];
	size_t len = filter_random(f);
	struct model_sub *s = model_find(&c->model, session, f, len);
	bool existed;

	if (!s && counts(c->m).subscriptions == MODEL_MAX)
		return;
	assert_int_equal(mqtt_subs_add(c->m, session, (uint8_t *)f, len, &sub, &existed), 0);
	assert_int_equal(existed, s != NULL);
	if (!s) {
		s = model_add(&c->model, session, f, len);
		assert_non_null(s);
		s->sub = sub;
		s->gen = mqtt_subs_get(c->m, sub)->gen;
	}
	assert_int_equal(s->sub, sub);
	assert_int_equal(mqtt_subs_get(c->m, sub)->session, session);
}

static void churn_del(struct churn *c)
{
	struct model_sub *s;

	if (c->model.n == 0)
		return;
	s = &c->model.s[rnd(c->model.n)];
	if (!s->filter)
		return;
	assert_true(mqtt_subs_alive(c->m, s->sub, s->gen));
	assert_int_equal(mqtt_subs_find(c->m, s->session, (const uint8_t *)s->filter, s->len),
			 s->sub);
	mqtt_subs_del(c->m, s->sub);
	assert_false(mqtt_subs_alive(c->m, s->sub, s->gen));
	assert_int_equal(mqtt_subs_find(c->m, s->session, (const uint8_t *)s->filter, s->len),
			 MQTT_SUB_NONE);
	model_del(s);
}

/* What was held has not changed, and alive() says which of its subscriptions still are. */
static void held_check(struct churn *c, struct held *h)
{
	assert_int_equal(h->g->n, h->n);
	assert_memory_equal(h->g->entry, h->copy, h->n * sizeof(*h->copy));
	for (uint32_t k = 0; k < h->n; k++) {
		bool alive = false;

		for (uint32_t i = 0; i < c->model.n && !alive; i++)
			alive = c->model.s[i].filter && c->model.s[i].sub == h->copy[k].sub &&
				c->model.s[i].gen == h->copy[k].sub_gen;
		assert_int_equal(mqtt_subs_alive(c->m, h->copy[k].sub, h->copy[k].sub_gen), alive);
	}
}

static void held_drop(struct churn *c, struct held *h)
{
	if (!h->g)
		return;
	held_check(c, h);
	mqtt_group_put(c->m, h->g);
	free(h->copy);
	h->g = NULL;
}

static void churn_match(struct churn *c, bool hold)
{
	char t[TEXT_MAX];
	size_t len = topic_random(t);
	struct mqtt_group *g = mqtt_subs_match(c->m, (uint8_t *)t, len);
	const char *wrong;

	assert_non_null(g);
	wrong = model_check(&c->model, g, t, len);
	if (wrong)
		fail_msg("topic '%.*s': %s", (int)len, t, wrong);
	c->pairs += counts(c->m).subscriptions;
	c->matches += g->n;
	if (hold) {
		struct held *h = &c->held[rnd(HELD)];

		held_drop(c, h);
		h->g = g;
		h->n = g->n;
		h->copy = malloc(g->n * sizeof(*h->copy) + 1);
		assert_non_null(h->copy);
		memcpy(h->copy, g->entry, g->n * sizeof(*h->copy));
	} else {
		mqtt_group_put(c->m, g);
	}
}

/* The lists of the sessions hold exactly the model's subscriptions, and say their filters. */
static void lists_check(struct churn *c)
{
	uint32_t listed = 0;
	char buf[TEXT_MAX];

	for (uint32_t s = 0; s < SESSIONS; s++)
		for (uint32_t i = mqtt_subs_first(c->m, s); i != MQTT_SUB_NONE;
		     i = mqtt_subs_next(c->m, i)) {
			size_t len = mqtt_subs_filter(c->m, i, buf, sizeof(buf));
			struct model_sub *x = model_find(&c->model, s, buf, len);

			assert_non_null(x);
			assert_int_equal(x->sub, i);
			listed++;
		}
	assert_int_equal(listed, counts(c->m).subscriptions);
}

static void churn_end(struct churn *c)
{
	lists_check(c);
	for (uint32_t i = 0; i < c->model.n; i++)
		if (c->model.s[i].filter) {
			mqtt_subs_del(c->m, c->model.s[i].sub);
			model_del(&c->model.s[i]);
		}
	for (uint32_t i = 0; i < HELD; i++)
		held_drop(c, &c->held[i]);
	mqtt_subs_flush(c->m);
	assert_empty(c->m);
	mqtt_subs_free(c->m);
}

static void test_match_random(void **state)
{
	uint64_t pairs = 0, matches = 0;

	(void)state;
	for (uint32_t round = 0; round < 40; round++) {
		struct churn c = {.m = map_new()};

		rng_state = 1000 + round;
		for (uint32_t i = 0; i < 10 + 8 * round; i++)
			churn_add(&c);
		for (uint32_t i = 0; i < 200; i++)
			churn_match(&c, false);
		pairs += c.pairs;
		matches += c.matches;
		churn_end(&c);
	}
	assert_true(pairs >= 200000);
	assert_true(matches * 50 >= pairs); /* else it tests little */
}

static void test_churn(void **state)
{
	struct mqtt_subs_counts n;
	struct churn c = {.m = map_new()};

	(void)state;
	rng_state = 7;
	for (uint32_t i = 0; i < 60000; i++) {
		/* phases of growth and of shrinking, so that both full and empty maps come up */
		uint32_t grow = i / 3000 % 2 ? 2 : 5, what = rnd(12);

		if (what < grow) {
			churn_add(&c);
		} else if (what < 7) {
			churn_del(&c);
		} else if (what == 7 && c.model.n > 0) {
			struct model_sub *s = &c.model.s[rnd(c.model.n)];

			if (s->filter)
				mqtt_subs_touch(c.m, s->sub);
		} else {
			churn_match(&c, what == 8);
		}
		if (i % 1000 == 0)
			lists_check(&c);
	}
	n = counts(c.m);
	assert_true(n.hits > 0 && n.shared > 0 && n.built > 0 && n.evicted > 0);
	churn_end(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_match_random),
		cmocka_unit_test(test_churn),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
