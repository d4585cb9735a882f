/* SPDX-License-Identifier: BSD-3-Clause */
/* LINK: tests/unit/mqtt_model.h */
/*
 * The MQTT stage's subscription map alone: ns per match of a cached topic and of one that is not,
 * per subscribe and unsubscribe at a leaf, per rebuild of a large group; bytes per subscription.
 * Argument: number of filters or subscribers (100000).  Prints JSON lines.  One thread, no network.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "modules/mqtt/mqtt_subs.h"

#define ROUNDS 7u /* the median counts */
#define HOT    64u

static uint32_t filters_n = 100000;

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts); /* others may want the CPU, too */
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void report(const char *what, double ns[ROUNDS])
{
	qsort(ns, ROUNDS, sizeof(*ns), compare);
	printf("{\"bench\":\"mqtt_match\",\"what\":\"%s\",\"n\":%u,\"ns\":%.1f,"
	       "\"ns_min\":%.1f,\"ns_max\":%.1f}\n",
	       what, filters_n, ns[ROUNDS / 2], ns[0], ns[ROUNDS - 1]);
	fflush(stdout);
}

static void fail(const char *what)
{
	fprintf(stderr, "mqtt_match: %s\n", what);
	exit(1);
}

static struct mqtt_subs *map_new(uint32_t topics)
{
	const struct mqtt_subs_limits lim = {.sessions = filters_n,
					     .subscriptions = filters_n + 8,
					     .nodes = 3 * filters_n + 64,
					     .cache_topics = topics,
					     .cache_entries = 4 * filters_n + topics,
					     .key = {0x1234567890abcdef, 0xfedcba0987654321}};
	struct mqtt_subs *m = mqtt_subs_create(&lim);

	if (!m)
		fail("no memory");
	return m;
}

static uint32_t add(struct mqtt_subs *m, uint32_t session, const char *f, size_t len)
{
	uint32_t sub;
	bool existed;

	if (mqtt_subs_add(m, session, (const uint8_t *)f, len, &sub, &existed) || existed)
		fail("subscribe failed");
	return sub;
}

static void match(struct mqtt_subs *m, const char *topic, size_t len, uint32_t want)
{
	struct mqtt_group *g = mqtt_subs_match(m, (const uint8_t *)topic, len);

	if (!g || g->n != want)
		fail("match failed");
	mqtt_group_put(m, g);
}

/* 100 000 filters of 5 levels, one subscriber each; a few of them with a wildcard. */
static size_t device(char *buf, size_t room, uint32_t i)
{
	return (size_t)snprintf(buf, room, "plant/%02u/line/%05u/temperature", i % 97, i);
}

static void measure_filters(void)
{
	struct mqtt_subs *m = map_new(4096);
	char(*t)[48] = calloc(filters_n, sizeof(*t));
	double hot[ROUNDS], many[ROUNDS], miss[ROUNDS];
	const uint32_t cached = filters_n < 4000 ? filters_n : 4000;

	if (!t)
		fail("no memory");
	for (uint32_t i = 0; i < filters_n; i++)
		add(m, i, t[i], device(t[i], sizeof(t[i]), i));
	for (uint32_t r = 0; r < ROUNDS; r++) {
		const uint32_t n = 1000000;
		uint64_t t0;

		for (uint32_t i = 0; i < cached; i++)
			match(m, t[i], strlen(t[i]), 1);
		t0 = now_ns();
		for (uint32_t i = 0; i < n; i++)
			match(m, t[i % HOT], strlen(t[i % HOT]), 1);
		hot[r] = (double)(now_ns() - t0) / n;
		t0 = now_ns();
		for (uint32_t i = 0; i < n; i++) {
			const char *topic = t[(uint64_t)i * 7919 % cached];

			match(m, topic, strlen(topic), 1);
		}
		many[r] = (double)(now_ns() - t0) / n;
		t0 = now_ns(); /* a stride that does not come back before it was evicted */
		for (uint32_t i = 0; i < filters_n; i++) {
			const char *topic = t[(uint64_t)i * 7919 % filters_n];

			match(m, topic, strlen(topic), 1);
		}
		miss[r] = (double)(now_ns() - t0) / filters_n;
	}
	report("hit, 64 topics", hot);
	report("hit, 4000 topics", many);
	report("miss, one subscriber", miss);
	free(t);
	mqtt_subs_free(m);
}

static void measure_wildcards(void)
{
	struct mqtt_subs *m = map_new(64);
	char(*t)[48] = calloc(filters_n, sizeof(*t));
	double miss[ROUNDS];

	if (!t)
		fail("no memory");
	add(m, 0, "#", 1);
	add(m, 1, "plant/+/line/#", 14);
	add(m, 2, "+/+/+/+/temperature", 19);
	for (uint32_t i = 3; i < filters_n; i++)
		add(m, i, t[i], device(t[i], sizeof(t[i]), i));
	for (uint32_t r = 0; r < ROUNDS; r++) {
		uint64_t t0 = now_ns();

		for (uint32_t i = 3; i < filters_n; i++)
			match(m, t[i], strlen(t[i]), 4);
		miss[r] = (double)(now_ns() - t0) / filters_n;
	}
	report("miss, four subscribers by wildcards", miss);
	free(t);
	mqtt_subs_free(m);
}

static void measure_leaf(void)
{
	struct mqtt_subs *m = map_new(64);
	uint32_t *sub = calloc(filters_n, sizeof(*sub)), extra = 100;
	double added[ROUNDS], deleted[ROUNDS], rebuilt[ROUNDS], other[ROUNDS], second[ROUNDS];

	if (!sub)
		fail("no memory");
	for (uint32_t r = 0; r < ROUNDS; r++) {
		uint64_t t0 = now_ns();

		for (uint32_t i = 0; i < filters_n; i++)
			sub[i] = add(m, i, "news/all", 8);
		added[r] = (double)(now_ns() - t0) / filters_n;
		match(m, "news/all", 8, filters_n);
		t0 = now_ns();
		for (uint32_t i = 0; i < extra; i++) {
			mqtt_subs_touch(m, sub[i]);
			match(m, "news/all", 8, filters_n);
		}
		rebuilt[r] = (double)(now_ns() - t0) / extra / filters_n;
		t0 = now_ns();
		for (uint32_t i = 0; i < extra; i++) {
			uint32_t s = add(m, 0, "news/other", 10);

			match(m, "news/all", 8, filters_n);
			mqtt_subs_del(m, s);
		}
		other[r] = (double)(now_ns() - t0) / extra;
		t0 = now_ns();
		for (uint32_t i = 0; i < extra; i++) {
			uint32_t s = add(m, i, "news/+", 6);

			match(m, "news/all", 8, filters_n + 1);
			mqtt_subs_del(m, s);
		}
		second[r] = (double)(now_ns() - t0) / extra / filters_n;
		t0 = now_ns();
		for (uint32_t i = 0; i < filters_n; i++) /* in no order the lists have */
			mqtt_subs_del(m, sub[(uint64_t)i * 7919 % filters_n]);
		deleted[r] = (double)(now_ns() - t0) / filters_n;
	}
	report("subscribe at one leaf", added);
	report("unsubscribe at one leaf, random order", deleted);
	report("new group of one leaf, per entry", rebuilt);
	report("new group of two leaves, per entry", second);
	report("subscribe beside, match, unsubscribe: group stays", other);
	free(sub);
	mqtt_subs_free(m);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		filters_n = (uint32_t)strtoul(argv[1], NULL, 10);
	/* 7919 is prime: a stride through all unless n is a multiple of it */
	if (filters_n < 1000 || filters_n > 10000000 || filters_n % 7919 == 0)
		fail("number of filters: 1000 to 10000000, not a multiple of 7919");
	printf("{\"bench\":\"mqtt_match\",\"what\":\"bytes per subscription\",\"n\":%u,"
	       "\"bytes\":%zu}\n",
	       filters_n, sizeof(struct mqtt_sub) + 2 * sizeof(uint32_t));
	measure_filters();
	measure_wildcards();
	measure_leaf();
	return 0;
}
