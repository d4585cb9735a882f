/* SPDX-License-Identifier: BSD-3-Clause */
/* A subscription map for tests, and the question whether it is empty. */
#ifndef TEST_MQTT_SUBS_RIG_H
#define TEST_MQTT_SUBS_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mqtt_model.h"

#define SESSIONS 24u

static inline struct mqtt_subs *map_new(void)
{
	const struct mqtt_subs_limits lim = {.sessions = SESSIONS,
					     .subscriptions = MODEL_MAX,
					     .nodes = 4096,
					     .cache_topics = 64,
					     .cache_entries = 8192,
					     .key = {1, 2}};
	struct mqtt_subs *m = mqtt_subs_create(&lim);

	assert_non_null(m);
	return m;
}

static inline struct mqtt_subs_counts counts(const struct mqtt_subs *m)
{
	struct mqtt_subs_counts c;

	mqtt_subs_count(m, &c);
	return c;
}

/* Nothing is subscribed, cached or held any more: not a byte may be taken. */
static inline void assert_empty(const struct mqtt_subs *m)
{
	struct mqtt_subs_counts c = counts(m);

	assert_int_equal(c.subscriptions, 0);
	assert_int_equal(c.nodes, 0);
	assert_int_equal(c.cached_topics, 0);
	assert_int_equal(c.groups, 0);
	assert_int_equal(c.cache_entries, 0);
	assert_int_equal(c.group_bytes, 0);
	assert_int_equal(c.text_bytes, 0);
}

#endif
