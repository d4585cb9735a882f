// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/unit/mqtt_model.h */
/* Subscription map: the rules of matching by example, what is refused, the cache's validity, limits
 * of every pool, and memory back to where it was. */
#include <errno.h>
#include <stdio.h>

#include "mqtt_subs_rig.h"

static int add(struct mqtt_subs *m, uint32_t session, const char *f, uint32_t *sub)
{
	bool existed;

	return mqtt_subs_add(m, session, (const uint8_t *)f, strlen(f), sub, &existed);
}

static uint32_t must_add(struct mqtt_subs *m, uint32_t session, const char *f)
{
	uint32_t sub;

	assert_int_equal(add(m, session, f, &sub), 0);
	return sub;
}

static struct mqtt_group *match(struct mqtt_subs *m, const char *topic)
{
	return mqtt_subs_match(m, (const uint8_t *)topic, strlen(topic));
}

static void test_rules(void **state)
{
	static const struct {
		const char *filter, *topic;
		bool match;
	} t[] = {
		{"sport/tennis/player1/#", "sport/tennis/player1", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
		{"sport/#", "sport", true},
		{"sport/#", "sports", false},
		{"sport/+", "sport", false},
		{"sport/+", "sport/", true},
		{"sport/tennis/+", "sport/tennis/player1/ranking", false},
		{"+/+", "/finance", true},
		{"/+", "/finance", true},
		{"+", "/finance", false},
		{"finance", "/finance", false},
		{"finance/", "finance", false},
		{"Finance", "finance", false},
		{"#", "a/b", true},
		{"#", "/", true},
		{"+/#", "a", true},
		{"/#", "/", true},
		{"/#", "a", false},
		{"a//b", "a//b", true},
		{"a/+/b", "a//b", true},
		{"a//b", "a/b", false},
		{"#", "$SYS/x", false},
		{"+/x", "$SYS/x", false},
		{"+/#", "$SYS", false},
		{"$SYS/#", "$SYS/x", true},
		{"$SYS/#", "$SYS", true},
		{"$SYS/+", "$SYS/x", true},
		{"a/+", "a/$x", true},
		{"$share/g/a/+", "a/b", true},
		{"$share/g//b", "/b", true},
		{"$share/g/#", "$share/g/a", false},
		{"$share/g/#", "a", true},
		{"$share//a", "a", true}, /* names that mosquitto takes, but not OASIS */
		{"$share//a", "/a", false},
		{"$share/+/a", "a", true},
		{"$share/+/a", "x/a", false},
		{"a/b", "a/+", false}, /* a topic's '+' is a letter */
		{"a/+", "a/+", true},
		{"a/#", "a/#", true},
		{"a/b/c", "a/b/c", true},
		{"a/a-level-of-more-than-16-bytes/c", "a/a-level-of-more-than-16-bytes/c", true},
		{"a/a-level-of-more-than-16-bytes/c", "a/a-level-of-more-than-16-byteS/c", false},
	};
	struct mqtt_subs *m = map_new();

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		uint32_t sub = must_add(m, 3, t[i].filter);
		struct mqtt_group *g = match(m, t[i].topic);

		assert_non_null(g);
		if (g->n != t[i].match)
			fail_msg("%s and %s", t[i].filter, t[i].topic);
		mqtt_group_put(m, g);
		mqtt_subs_del(m, sub);
	}
	mqtt_subs_flush(m);
	assert_empty(m);
	mqtt_subs_free(m);
}

static void test_refused(void **state)
{
	static const char *const bad[] = {
		"",           "a#",          "a/#/b",     "#/a",          "a+/b",
		"a/+b",       "++",          "a/##",      "$share/",      "$share/g",
		"$share//",   "$share/a+/a", "$share/g/", "$share/++/a",  "+#",
		"$share/#/a", "a/b#",        "#/",        "$share/g/#/b",
	};
	struct mqtt_subs *m = map_new();
	uint32_t sub;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (add(m, 0, bad[i], &sub) != -EINVAL)
			fail_msg("'%s' was taken", bad[i]);
		assert_int_equal(mqtt_subs_find(m, 0, (const uint8_t *)bad[i], strlen(bad[i])),
				 MQTT_SUB_NONE);
	}
	assert_int_equal(add(m, SESSIONS, "a", &sub), -EINVAL);
	assert_null(match(m, ""));
	assert_empty(m);
	assert_int_equal(mqtt_subs_first(m, SESSIONS), MQTT_SUB_NONE);
	assert_null(mqtt_subs_get(m, 0));
	assert_null(mqtt_subs_get(m, MQTT_SUB_NONE));
	assert_int_equal(add(m, 0, "$share", &sub), 0); /* a filter like any other */
	mqtt_subs_free(m);
}

static void test_cache(void **state)
{
	struct mqtt_subs *m = map_new();
	uint32_t sub = must_add(m, 1, "a/b"), other;
	struct mqtt_group *g = match(m, "a/b"), *h;

	(void)state;
	g->user[0] = 5;
	must_add(m, 2, "z/b"); /* another first level: not even a walk */
	h = match(m, "a/b");
	assert_ptr_equal(h, g);
	assert_int_equal(counts(m).hits, 1);
	mqtt_group_put(m, h);
	must_add(m, 2, "a/c"); /* the same first level, another leaf: the verdict stays */
	h = match(m, "a/b");
	assert_ptr_equal(h, g);
	assert_int_equal(counts(m).hits, 1);
	assert_int_equal(counts(m).built, 1);
	mqtt_group_put(m, h);
	h = match(m, "a/b");
	assert_int_equal(counts(m).hits, 2);
	mqtt_group_put(m, h);
	mqtt_subs_touch(m, sub);
	h = match(m, "a/b");
	assert_ptr_not_equal(h, g);
	assert_int_equal(h->user[0], 0);
	assert_true(h->epoch > g->epoch);
	assert_int_equal(g->user[0], 5); /* held: still what it was */
	mqtt_group_put(m, h);
	other = must_add(m, 2, "+/b"); /* a wildcard first */
	h = match(m, "a/b");
	assert_int_equal(h->n, 2);
	mqtt_group_put(m, h);
	mqtt_subs_del(m, other);
	h = match(m, "a/b");
	assert_int_equal(h->n, 1);
	mqtt_group_put(m, h);
	mqtt_group_put(m, g);
	mqtt_subs_free(m);
}

static void test_one_group_for_many_topics(void **state)
{
	struct mqtt_subs *m = map_new();
	struct mqtt_group *first, *g;
	char t[80];

	(void)state;
	for (uint32_t s = 0; s < SESSIONS; s++)
		must_add(m, s, "x/#");
	first = match(m, "x");
	for (uint32_t i = 0; i < 1000; i++) { /* far more than cached topics, half of them long */
		snprintf(t, sizeof(t), "x/%u%s", i, i % 2 ? "/one/that/goes/on/and/on/and/on" : "");
		g = match(m, t);
		assert_ptr_equal(g, first);
		mqtt_group_put(m, g);
	}
	assert_int_equal(counts(m).groups, 1);
	assert_int_equal(counts(m).cached_topics, 64);
	assert_int_equal(counts(m).built, 1);
	mqtt_group_put(m, first);
	mqtt_subs_flush(m);
	assert_int_equal(counts(m).group_bytes, 0);
	mqtt_subs_free(m);
}

static void test_shared(void **state)
{
	struct mqtt_subs *m = map_new();
	uint32_t plain = must_add(m, 1, "a/b"), g1 = must_add(m, 1, "$share/g/a/b"),
		 g2 = must_add(m, 1, "$share/h/a/b"), again;
	struct mqtt_group *g = match(m, "a/b");
	char buf[16];

	(void)state;
	assert_true(plain != g1 && g1 != g2 && plain != g2);
	assert_int_equal(mqtt_subs_get(m, plain)->opts, 0);
	assert_int_equal(mqtt_subs_get(m, g1)->opts, MQTT_SUB_SHARED);
	assert_int_equal(add(m, 1, "$share/g/a/b", &again), 0);
	assert_int_equal(again, g1);
	assert_int_equal(g->n, 3);
	assert_int_equal(g->flags, MQTT_GROUP_SHARED);
	mqtt_group_put(m, g);
	assert_int_equal(mqtt_subs_filter(m, g1, buf, sizeof(buf)), 12);
	assert_string_equal(buf, "$share/g/a/b");
	assert_int_equal(mqtt_subs_filter(m, g1, buf, 9), 12);
	assert_string_equal(buf, "$share/g");
	assert_int_equal(mqtt_subs_filter(m, g1, NULL, 0), 12);
	mqtt_subs_del(m, g1);
	mqtt_subs_del(m, g2);
	assert_int_equal(mqtt_subs_filter(m, g2, buf, sizeof(buf)), 0);
	g = match(m, "a/b");
	assert_int_equal(g->n, 1);
	assert_int_equal(g->flags, 0);
	mqtt_group_put(m, g);
	mqtt_subs_del(m, plain);
	mqtt_subs_flush(m);
	assert_empty(m);
	mqtt_subs_free(m);
}

/* At one leaf, with other sessions' subscriptions made in between. */
static void test_shared_adjacent(void **state)
{
	struct mqtt_subs *m = map_new();
	struct mqtt_group *g;

	(void)state;
	for (uint32_t s = 0; s < 3; s++)
		must_add(m, s, "a");
	for (uint32_t s = 0; s < 3; s++)
		must_add(m, s, "$share/g/a");
	g = match(m, "a");
	assert_int_equal(g->n, 6);
	for (uint32_t i = 0; i < 6; i += 2)
		assert_int_equal(g->entry[i].session, g->entry[i + 1].session);
	mqtt_group_put(m, g);
	mqtt_subs_free(m);
}

/* An index used again is another subscription, also with the same session and filter. */
static void test_generations(void **state)
{
	struct mqtt_subs *m = map_new();
	uint32_t sub = must_add(m, 1, "a"), gen = mqtt_subs_get(m, sub)->gen;
	struct mqtt_group *g = match(m, "a");

	(void)state;
	mqtt_subs_get(m, sub)->qos = 1;
	mqtt_subs_del(m, sub);
	assert_int_equal(must_add(m, 1, "a"), sub);
	assert_int_equal(mqtt_subs_get(m, sub)->qos, 0);
	assert_false(mqtt_subs_alive(m, sub, gen));
	assert_false(mqtt_subs_alive(m, g->entry[0].sub, g->entry[0].sub_gen));
	assert_true(mqtt_subs_alive(m, sub, mqtt_subs_get(m, sub)->gen));
	assert_false(mqtt_subs_alive(m, MQTT_SUB_NONE, 0));
	mqtt_group_put(m, g);
	mqtt_subs_free(m);
}

static void test_deep_and_long(void **state)
{
	static char text[MQTT_TEXT_MAX + 2], back[MQTT_TEXT_MAX + 2];
	const struct mqtt_subs_limits lim = {
		.sessions = 1, .subscriptions = 8, .nodes = 256, .text_bytes = 65536};
	struct mqtt_subs *m = mqtt_subs_create(&lim);
	struct mqtt_group *g;
	uint32_t sub;
	bool existed;

	(void)state;
	assert_non_null(m);
	memset(text, '/', sizeof(text)); /* n slashes are n + 1 empty levels */
	assert_int_equal(mqtt_subs_add(m, 0, (uint8_t *)text, MQTT_LEVELS_MAX, &sub, &existed),
			 -EINVAL);
	assert_int_equal(mqtt_subs_add(m, 0, (uint8_t *)text, MQTT_TEXT_MAX, &sub, &existed),
			 -EINVAL);
	assert_null(mqtt_subs_match(m, (uint8_t *)text, MQTT_LEVELS_MAX));
	assert_null(mqtt_subs_match(m, (uint8_t *)text, MQTT_TEXT_MAX));
	assert_int_equal(counts(m).too_deep, 2);
	assert_int_equal(mqtt_subs_add(m, 0, (uint8_t *)text, MQTT_LEVELS_MAX - 1, &sub, &existed),
			 0);
	assert_int_equal(counts(m).nodes, MQTT_LEVELS_MAX);
	g = mqtt_subs_match(m, (uint8_t *)text, MQTT_LEVELS_MAX - 1);
	assert_int_equal(g->n, 1);
	mqtt_group_put(m, g);
	assert_int_equal(mqtt_subs_filter(m, sub, back, sizeof(back)), MQTT_LEVELS_MAX - 1);
	mqtt_subs_del(m, sub);

	memset(text, 'x', sizeof(text)); /* one level of 65 535 bytes */
	assert_int_equal(mqtt_subs_add(m, 0, (uint8_t *)text, MQTT_TEXT_MAX + 1, &sub, &existed),
			 -EINVAL);
	assert_int_equal(mqtt_subs_add(m, 0, (uint8_t *)text, MQTT_TEXT_MAX, &sub, &existed), 0);
	assert_null(mqtt_subs_match(m, (uint8_t *)text, MQTT_TEXT_MAX + 1));
	g = mqtt_subs_match(m, (uint8_t *)text, MQTT_TEXT_MAX);
	assert_int_equal(g->n, 1);
	assert_int_equal(mqtt_subs_filter(m, sub, back, sizeof(back)), MQTT_TEXT_MAX);
	assert_memory_equal(text, back, MQTT_TEXT_MAX);
	mqtt_group_put(m, g);
	mqtt_subs_del(m, sub);
	mqtt_subs_flush(m);
	assert_empty(m);
	mqtt_subs_free(m);
}

/* All filters of 12 levels of 'a' or '+': a topic matches all 4096 and has 8191 nodes to visit. */
static void test_wide(void **state)
{
	const struct mqtt_subs_limits lim = {
		.sessions = 1, .subscriptions = 4096, .nodes = 16384, .cache_entries = 65536};
	struct mqtt_subs *m = mqtt_subs_create(&lim);
	char text[24] = "a/a/a/a/a/a/a/a/a/a/a/a";
	struct mqtt_group *g;

	(void)state;
	assert_non_null(m);
	for (uint32_t i = 0; i < 4096; i++) {
		char f[24];

		memcpy(f, text, sizeof(f));
		for (uint32_t k = 0; k < 12; k++)
			if (i >> k & 1)
				f[2 * k] = '+';
		must_add(m, 0, f);
	}
	assert_null(match(m, text));
	assert_int_equal(counts(m).too_wide, 1);
	g = match(m, "b/b/b/b/b/b/b/b/b/b/b/b"); /* the same trie, one way through it */
	assert_int_equal(g->n, 1);
	mqtt_group_put(m, g);
	mqtt_subs_free(m);
}

static void test_subs_run_out(void **state)
{
	const struct mqtt_subs_limits lim = {.sessions = 100, .subscriptions = 8, .nodes = 10};
	struct mqtt_subs *m = mqtt_subs_create(&lim);
	uint32_t sub[8], no;

	(void)state;
	assert_non_null(m);
	for (uint32_t round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < 8; i++)
			sub[i] = must_add(m, i, "a/b");
		assert_int_equal(add(m, 8, "a/b", &no), -ENOSPC);
		assert_int_equal(add(m, 8, "a/b/c", &no), -ENOSPC);
		assert_int_equal(add(m, 8, "$share/g/a", &no), -ENOSPC);
		assert_int_equal(counts(m).nodes, 2); /* what those made is gone again */
		for (uint32_t i = 0; i < 8; i++)
			mqtt_subs_del(m, sub[i]);
		assert_empty(m);
		sub[0] = must_add(m, 1, "1/2/3/4/5/6/7/8/9");
		assert_int_equal(add(m, 1, "1/2/x/y", &no), -ENOSPC);
		assert_int_equal(counts(m).nodes, 9);
		assert_int_equal(add(m, 1, "$share/gg/1/x", &no), -ENOSPC);
		assert_int_equal(counts(m).nodes, 9);
		sub[1] = must_add(m, 1, "$share/gg/1/2");
		mqtt_subs_del(m, sub[0]);
		assert_int_equal(counts(m).nodes, 3);
		mqtt_subs_del(m, sub[1]);
		assert_empty(m);
	}
	mqtt_subs_free(m);
}

static void test_text_runs_out(void **state)
{
	const struct mqtt_subs_limits lim = {
		.sessions = 1, .subscriptions = 100, .nodes = 100, .text_bytes = 1000};
	struct mqtt_subs *m = mqtt_subs_create(&lim);
	uint32_t sub[16], no;
	char f[128];

	(void)state;
	assert_non_null(m);
	for (uint32_t round = 0; round < 2; round++) {
		for (uint32_t i = 0; i < 16; i++) { /* 64 bytes each, 1024 in all */
			snprintf(f, sizeof(f), "t/%050u", i);
			sub[i] = must_add(m, 0, f);
		}
		assert_int_equal(add(m, 0, "t/u/seventeen bytes..", &no), -ENOSPC);
		assert_int_equal(counts(m).nodes, 17);
		for (uint32_t i = 0; i < 16; i++)
			mqtt_subs_del(m, sub[(i * 7 + round) % 16]);
		assert_empty(m);
	}
	memset(f, 'x', sizeof(f));
	f[100] = '\0';
	must_add(m, 0, f); /* the pieces have become one again */
	mqtt_subs_free(m);
}

static void test_groups_run_out(void **state)
{
	const struct mqtt_subs_limits lim = {
		.sessions = 1000, .subscriptions = 2000, .cache_topics = 4, .cache_entries = 1200};
	struct mqtt_subs *m = mqtt_subs_create(&lim);
	struct mqtt_group *g, *h;
	uint32_t b = 0;

	(void)state;
	assert_non_null(m);
	for (uint32_t s = 0; s < 1000; s++)
		must_add(m, s, "a");
	for (uint32_t s = 0; s < 900; s++) {
		uint32_t sub = must_add(m, s, "b");

		b = s == 400 ? sub : b;
	}
	g = match(m, "a");
	assert_non_null(g);
	assert_int_equal(g->n, 1000);
	assert_null(match(m, "b")); /* 16 KB in all: no room beside the held one */
	assert_int_equal(counts(m).no_memory, 1);
	h = match(m, "c"); /* but for a small one */
	assert_int_equal(h->n, 0);
	mqtt_group_put(m, h);
	mqtt_group_put(m, g);
	g = match(m, "b"); /* the cached one makes way */
	assert_non_null(g);
	assert_int_equal(g->n, 900);
	mqtt_group_put(m, g);
	mqtt_subs_del(m, b);
	g = match(m, "b"); /* so does the stale version of itself */
	assert_int_equal(g->n, 899);
	for (uint32_t i = 0; i < g->n; i++)
		assert_true(mqtt_subs_alive(m, g->entry[i].sub, g->entry[i].sub_gen));
	mqtt_group_put(m, g);
	mqtt_subs_free(m);
}

static void test_create_refuses(void **state)
{
	struct mqtt_subs_limits lim = {.sessions = 0, .subscriptions = 1};

	(void)state;
	assert_null(mqtt_subs_create(&lim));
	lim = (struct mqtt_subs_limits){.sessions = 1, .subscriptions = 0};
	assert_null(mqtt_subs_create(&lim));
	lim = (struct mqtt_subs_limits){.sessions = 1, .subscriptions = UINT32_MAX};
	assert_null(mqtt_subs_create(&lim));
	mqtt_subs_free(NULL);
	assert_true(sizeof(struct mqtt_sub) + 2 * sizeof(uint32_t) <= 64);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rules),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_cache),
		cmocka_unit_test(test_one_group_for_many_topics),
		cmocka_unit_test(test_shared),
		cmocka_unit_test(test_shared_adjacent),
		cmocka_unit_test(test_generations),
		cmocka_unit_test(test_deep_and_long),
		cmocka_unit_test(test_wide),
		cmocka_unit_test(test_subs_run_out),
		cmocka_unit_test(test_text_runs_out),
		cmocka_unit_test(test_groups_run_out),
		cmocka_unit_test(test_create_refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
