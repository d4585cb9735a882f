// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/unit/mqtt_model.h */
/*
 * libFuzzer target: subscription map.  The input is a program of add, delete, touch, match and
 * hold; a small map, so that its pools run out, is compared with the brute-force model after each
 * step. An operation is one byte (low 3 bits: what; rest: session or slot), texts are a length byte
 * and their bytes.
 */
#include <errno.h>
#include <stdlib.h>

#include "tests/unit/mqtt_model.h"

#define SESSIONS 4u
#define HELD     4u

struct input {
	const uint8_t *p;
	size_t left;
};

struct target {
	struct mqtt_subs *map;
	struct model model;
	struct mqtt_group *held[HELD];
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int cond)
{
	if (!cond)
		abort();
}

static uint8_t input_byte(struct input *in)
{
	if (in->left == 0)
		return 0;
	in->left--;
	return *in->p++;
}

/* Cut to what is there; points into the input. */
static const uint8_t *input_text(struct input *in, size_t *len)
{
	const uint8_t *text;

	*len = input_byte(in);
	if (*len > in->left)
		*len = in->left;
	text = in->p;
	in->p += *len;
	in->left -= *len;
	return text;
}

static void step_add(struct target *t, uint32_t session, const uint8_t *text, size_t len)
{
	struct model_sub *s = model_find(&t->model, session, (const char *)text, len);
	struct mqtt_subs_counts before, after;
	bool existed;
	uint32_t sub;
	int err;

	mqtt_subs_count(t->map, &before);
	err = mqtt_subs_add(t->map, session, text, len, &sub, &existed);
	mqtt_subs_count(t->map, &after);
	if (err) {
		require(!s && (err == -EINVAL || err == -ENOSPC));
		require(before.nodes == after.nodes && before.text_bytes == after.text_bytes);
		require(mqtt_subs_find(t->map, session, text, len) == MQTT_SUB_NONE);
		return;
	}
	require(existed == (s != NULL));
	require(mqtt_subs_find(t->map, session, text, len) == sub);
	if (s) {
		require(s->sub == sub);
		return;
	}
	s = model_add(&t->model, session, (const char *)text, len);
	require(s != NULL);
	s->sub = sub;
	s->gen = mqtt_subs_get(t->map, sub)->gen;
}

static struct model_sub *slot_used(struct target *t, uint32_t slot)
{
	struct model_sub *s;

	if (t->model.n == 0)
		return NULL;
	s = &t->model.s[slot % t->model.n];
	return s->filter ? s : NULL;
}

static void step_del(struct target *t, struct model_sub *s)
{
	char buf[300];

	if (!s)
		return;
	require(mqtt_subs_alive(t->map, s->sub, s->gen));
	require(mqtt_subs_filter(t->map, s->sub, buf, sizeof(buf)) == s->len);
	require(memcmp(buf, s->filter, s->len) == 0);
	mqtt_subs_del(t->map, s->sub);
	require(!mqtt_subs_alive(t->map, s->sub, s->gen));
	model_del(s);
}

static void held_set(struct target *t, uint32_t slot, struct mqtt_group *g)
{
	if (t->held[slot % HELD])
		mqtt_group_put(t->map, t->held[slot % HELD]);
	t->held[slot % HELD] = g;
}

static void step_match(struct target *t, const uint8_t *text, size_t len, uint32_t hold)
{
	struct mqtt_group *g = mqtt_subs_match(t->map, text, len);

	if (!g)
		return;
	require(len > 0);
	require(model_check(&t->model, g, (const char *)text, len) == NULL);
	held_set(t, hold, hold < HELD ? mqtt_group_get(g) : NULL);
	mqtt_group_put(t->map, g);
}

static void step(struct target *t, struct input *in)
{
	uint8_t op = input_byte(in), arg = op >> 3;
	const uint8_t *text;
	size_t len;

	switch (op & 7) {
	case 0:
		step_del(t, slot_used(t, arg));
		break;
	case 1: {
		const struct model_sub *s = slot_used(t, arg);

		if (s)
			mqtt_subs_touch(t->map, s->sub);
		break;
	}
	case 2:
		mqtt_subs_flush(t->map);
		break;
	case 3:
	case 4:
		text = input_text(in, &len);
		step_match(t, text, len, arg);
		break;
	default:
		text = input_text(in, &len);
		step_add(t, arg % SESSIONS, text, len);
		break;
	}
}

static void finish(struct target *t)
{
	struct mqtt_subs_counts c;

	for (uint32_t i = 0; i < t->model.n; i++)
		if (t->model.s[i].filter)
			step_del(t, &t->model.s[i]);
	for (uint32_t i = 0; i < HELD; i++)
		held_set(t, i, NULL);
	mqtt_subs_flush(t->map);
	mqtt_subs_count(t->map, &c);
	require(c.subscriptions == 0 && c.nodes == 0 && c.cached_topics == 0 && c.groups == 0);
	require(c.cache_entries == 0 && c.group_bytes == 0 && c.text_bytes == 0);
	mqtt_subs_free(t->map);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct mqtt_subs_limits lim = {.sessions = SESSIONS,
						    .subscriptions = 24,
						    .nodes = 48,
						    .cache_topics = 6,
						    .cache_entries = 64,
						    .text_bytes = 512,
						    .key = {3, 4}};
	struct target t = {.map = mqtt_subs_create(&lim)};
	struct input in = {data, size};

	require(t.map != NULL);
	while (in.left > 0)
		step(&t, &in);
	finish(&t);
	return 0;
}
