/* SPDX-License-Identifier: BSD-3-Clause */
/* LINK: tests/unit/mqtt_broker.h */
/* The MQTT stage and clients who want to harm the others: memory taken with few bytes, waits that
 * shall not end, work out of proportion. */
#include <stdio.h>

#include "mqtt_stage_rig.h"

/* A subscriber falls behind, catches up, and then does not read on: a publisher whose copy waits
 * for it goes on when its place is known, and is not held by that copy's end later. */
static void reader_that_stops(void **state)
{
	static char fill[(1u << 20) + 1] = {0x30, (char)0xff, (char)0xff, 0x7f};
	struct pk p = {.n = 0}, q = {.n = 0};
	uint32_t from, to;
	struct rig r;

	(void)state;
	rig_start(&r, "#", 1000);
	from = rig_connect(&r, 4, "pub", true, 0);
	to = rig_connect(&r, 4, "sub", true, 0);
	rig_subscribe(&r, to, "t", 0, 0);
	rig_run(&r);
	rig_publish(&p, 4, "t", NULL, "1", 1);
	fake_client_write(r.f, from, p.b, p.n);
	fake_offer(r.f, from, SIZE_MAX);
	fake_app_write(r.f, to, fill, sizeof(fill)); /* one byte too many */
	fake_hc(r.f);
	fake_poll(r.f, 64);
	assert_non_null(rig_conn(&r, from)->held);
	rig_publish(&q, 4, "t", NULL, "2", 1);
	q.b[0] |= 1;
	fake_client_write(r.f, from, q.b, q.n);
	fake_offer(r.f, from, SIZE_MAX);
	assert_int_equal(fake_app_unread(r.f, from), 0);
	/* as a proof would, and the copy's place has not come */
	rig_conn(&r, to)->blocked = 0;
	mqtt_tx_settle(rig_stage(&r), rig_conn(&r, to));
	fake_poll(r.f, 64);
	assert_int_equal(fake_app_unread(r.f, from), q.n);
	assert_int_equal(rig_conn(&r, to)->defer_n, 1);
	fake_close(r.f, to);
	assert_null(rig_conn(&r, from)->held);
	fake_client_write(r.f, from, q.b, q.n);
	fake_offer(r.f, from, SIZE_MAX);
	assert_int_equal(fake_app_unread(r.f, from), 2 * q.n);
	rig_stop(&r);
}

#define MANY 60u
#define BIG  (256u << 10)

static void write_n(struct rig *r, uint32_t id, size_t n)
{
	static const uint8_t fill[1024];

	for (; n > 0; n -= n < sizeof(fill) ? n : sizeof(fill))
		fake_client_write(r->f, id, fill, n < sizeof(fill) ? n : sizeof(fill));
}

static void big_header(struct rig *r, uint32_t id)
{
	struct pk p = {.n = 0};

	pk_u8(&p, 0x30);
	pk_varint(&p, BIG);
	pk_str(&p, "t");
	fake_client_write(r->f, id, p.b, p.n);
}

/* Half a header announces a large packet: it costs what came, not what was announced. */
static void announced_only(void **state)
{
	uint32_t from[MANY], to;
	struct rig r;
	size_t used;

	(void)state;
	rig_start(&r, "#", 1000);
	r.cfg.mqtt_message_max = 1u << 20;
	to = rig_connect(&r, 4, "sub", true, 0);
	rig_subscribe(&r, to, "t", 0, 0);
	for (unsigned i = 0; i < MANY; i++)
		from[i] = rig_connect(&r, 4, (const char[]){'a', (char)('0' + i), 0}, true, 0);
	used = toe_stream_mem_used(fake_stream(r.f));
	for (unsigned i = 0; i < MANY; i++)
		big_header(&r, from[i]);
	rig_run(&r);
	assert_true(toe_stream_mem_used(fake_stream(r.f)) - used <= MANY * 2048u);
	rig_forget(&r);
	write_n(&r, from[0], BIG - 3);
	rig_run(&r);
	assert_int_equal(rig_slow(&r, MQTT_R_FAST), 1);
	assert_int_equal(bytes_n(&r.got[to]), 4 + BIG);
	rig_stop(&r);
}

/* All memory there is for messages is taken: messages go slow, whole, and clients are still
 * followed. */
static void message_memory_full(void **state)
{
	uint32_t from[MANY], to;
	struct rig r;

	(void)state;
	rig_start(&r, "#", 1000);
	r.cfg.mqtt_message_max = 1u << 20;
	for (unsigned i = 0; i < MANY; i++)
		from[i] = rig_connect(&r, 4, (const char[]){'a', (char)('0' + i), 0}, true, 0);
	for (unsigned i = 0; i < MANY; i++) {
		big_header(&r, from[i]);
		write_n(&r, from[i], BIG - 4); /* one byte is missing */
		fake_offer(r.f, from[i], SIZE_MAX);
	}
	assert_true(rig_slow(&r, MQTT_R_MEMORY) > 0);
	/* the last one came too late, and the broker sees all of it */
	assert_int_equal(fake_app_unread(r.f, from[MANY - 1]), 4 + BIG - 1);
	to = rig_connect(&r, 4, "sub", true, 0);
	rig_subscribe(&r, to, "t", 0, 0);
	assert_int_equal(rig_conn(&r, to)->kind, MQTT_K_TRACKED);
	assert_int_equal(rig_stage(&r)->lost_n, 0);
	rig_stop(&r);
}

/* A CONNECT that keeps its session, with a ClientID of 8000 bytes, the last one given; the broker
 * knows the session or not. */
static uint32_t long_name(struct rig *r, char last, bool present)
{
	static char name[8001];
	struct pk p = {.n = 0};
	uint32_t id = fake_open(r->f);

	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 2] = last;
	pk_str(&p, "MQTT");
	pk_u8(&p, 4);
	pk_u8(&p, 0);
	pk_u16(&p, 0);
	pk_str(&p, name);
	rig_write(r, id, 0x10, &p);
	fake_settle(r->f);
	fake_app_write(r->f, id, present ? "\x20\x02\x01\x00" : "\x20\x02\x00\x00", 4);
	fake_settle(r->f);
	return id;
}

/* Sessions that stay when their clients go cost little, however long their names are; and are told
 * apart by all of the name. */
static void long_names(void **state)
{
	struct rig r;
	size_t used;
	uint32_t id;

	(void)state;
	rig_start(&r, "#", 1000);
	used = toe_stream_mem_used(fake_stream(r.f));
	for (int last = 'a'; last <= 'z'; last++)
		fake_close(r.f, long_name(&r, (char)last, false));
	assert_int_equal(rig_stage(&r)->session_used, 26);
	assert_true(toe_stream_mem_used(fake_stream(r.f)) - used <= 26 * 256);
	id = long_name(&r, 'k', true);
	assert_int_equal(rig_stage(&r)->session_used, 26);
	assert_int_equal(rig_stage(&r)->unknown_n, 0);
	fake_close(r.f, id);
	rig_stop(&r);
}

/* A client that subscribes and subscribes and reads no answer: not followed any more. */
static void requests_without_end(void **state)
{
	struct rig r;
	uint32_t id;
	size_t used;

	(void)state;
	rig_start(&r, "#", 1000);
	id = rig_connect(&r, 4, "sub", true, 0);
	used = toe_stream_mem_used(fake_stream(r.f));
	for (unsigned i = 0; i < 20000; i++) {
		struct pk p = {.n = 0};

		pk_u16(&p, 1 + i);
		pk_str(&p, "t");
		pk_u8(&p, 0);
		rig_write(&r, id, 0x82, &p);
		fake_offer(r.f, id, SIZE_MAX);
	}
	assert_true(toe_stream_mem_used(fake_stream(r.f)) - used <= 5u * MQTT_CONTROL_MAX);
	assert_int_equal(rig_conn(&r, id)->kind, MQTT_K_LOST);
	assert_int_equal(fake_app_unread(r.f, id), 20000 * 8);
	rig_stop(&r);
}

#define DEEP 10u

/* All filters of DEEP levels that are 'a' or '+': a topic is compared with twice as many nodes. */
static void subscribe_wide(struct rig *r, uint32_t id)
{
	for (unsigned i = 0; i < 1u << DEEP;) {
		struct pk p = {.n = 0};

		pk_u16(&p, 1 + i);
		do {
			char filter[2 * DEEP];

			for (unsigned k = 0; k < DEEP; k++) {
				filter[2 * k] = i >> k & 1 ? 'a' : '+';
				filter[2 * k + 1] = k + 1 < DEEP ? '/' : 0;
			}
			pk_str(&p, filter);
			pk_u8(&p, 0);
		} while (++i % 128 != 0);
		rig_write(r, id, 0x82, &p);
		rig_run(r);
	}
}

/* Topics nobody published before, each compared with thousands of nodes: what one millisecond may
 * spend on that is bounded, the rest goes slow, and fast again when time has gone by. */
static void topics_that_cost(void **state)
{
	struct mqtt_subs_counts n, before;
	uint32_t from, to;
	struct rig r;

	(void)state;
	rig_start(&r, "#", 2000);
	from = rig_connect(&r, 4, "pub", true, 0);
	to = rig_connect(&r, 4, "sub", true, 0);
	subscribe_wide(&r, to);
	fake_time(r.f, 1000);
	fake_poll(r.f, 64);
	mqtt_subs_count(rig_stage(&r)->subs, &before);
	for (unsigned i = 0; i < 200; i++) {
		struct pk p = {.n = 0};
		char topic[32];

		snprintf(topic, sizeof(topic), "a/a/a/a/a/a/a/a/a/%u", i);
		rig_publish(&p, 4, topic, NULL, "", 0);
		fake_client_write(r.f, from, p.b, p.n);
	}
	rig_run(&r);
	mqtt_subs_count(rig_stage(&r)->subs, &n);
	assert_true(n.misses - n.too_busy - before.misses <= 1 + MQTT_WORK_MS / 1024);
	assert_true(rig_slow(&r, MQTT_R_BUSY) > 100);
	fake_time(r.f, 1000);
	fake_poll(r.f, 64);
	assert_false(mqtt_subs_busy(rig_stage(&r)->subs));
	rig_stop(&r);
}

/* Many clients whose broker does not answer are not all looked at every millisecond. */
static void pings_without_answer(void **state)
{
	uint32_t ids[MQTT_TICK_WALK + 1];
	struct rig r;

	(void)state;
	rig_start(&r, "#", 1000);
	for (unsigned i = 0; i < COUNT(ids); i++)
		ids[i] = rig_connect(&r, 4, (const char[]){'a', (char)('0' + i), 0}, true, 0);
	for (unsigned i = 0; i < COUNT(ids); i++)
		mqtt_fence_ping(rig_stage(&r), fake_conn(r.f, ids[i]), rig_conn(&r, ids[i]));
	fake_time(r.f, MQTT_PING_MS - 2);
	fake_poll(r.f, 64); /* looks, too soon for all of them */
	fake_time(r.f, 1);
	fake_poll(r.f, 64);
	fake_time(r.f, 1);
	fake_poll(r.f, 64);
	assert_int_equal(rig_stage(&r)->counters[MQTT_C_PING_LATE], COUNT(ids));
	fake_time(r.f, 1);
	fake_poll(r.f, 64);
	assert_int_equal(rig_stage(&r)->walk_gap, 2);
	rig_stop(&r);
}

/* Whether a topic has to wait for one of many subscribers is found out once, until somebody's state
 * changes. */
static void stalled_is_remembered(void **state)
{
	struct mqtt_stage *st;
	uint32_t from, to, other;
	struct pk p = {.n = 0};
	struct rig r;
	uint64_t fast;

	(void)state;
	rig_start(&r, "#", 1000);
	from = rig_connect(&r, 4, "pub", true, 0);
	to = rig_connect(&r, 4, "sub", true, 0);
	other = rig_connect(&r, 4, "other", true, 0);
	rig_subscribe(&r, to, "t", 0, 0);
	st = rig_stage(&r);
	rig_publish(&p, 4, "t", NULL, "1", 1);
	for (unsigned i = 0; i < 6; i++) {
		uint32_t who = i < 3 ? other : to;

		mqtt_fence_suspect(st, rig_conn(&r, who), i % 3 != 2 ? MQTT_SUSPECT_HELD : 0);
		assert_int_equal(st->suspects, i % 3 != 2);
		fast = rig_slow(&r, MQTT_R_FAST);
		for (unsigned k = 0; k < 2; k++) {
			fake_client_write(r.f, from, p.b, p.n);
			fake_offer(r.f, from, SIZE_MAX);
		}
		if (who == other)
			assert_int_equal(rig_slow(&r, MQTT_R_FAST) - fast, 2);
		assert_int_equal(rig_slow(&r, MQTT_R_PENDING), i < 3 ? 0 : i == 3 ? 2 : 4);
		while (fake_poll(r.f, 64) != 0)
			;
	}
	rig_run(&r);
	rig_stop(&r);
}

/* What strangers chose is text in the answers, also for a terminal: a letter whose second byte is
 * 0x9b (CSI, as a character of its own) stays that letter. */
static void names_for_terminals(void **state)
{
	char out[8192] = "";
	struct toe_stream_ask a = {.what = "subs", .arg = "", .out = out, .room = sizeof(out) - 1};
	struct rig r;
	uint32_t id;

	(void)state;
	rig_start(&r, "#", 1000);
	id = rig_connect(&r, 4, "sub", true, 0);
	rig_subscribe(&r, id,
		      "a/\xc3\x9b"
		      "31m\"/\\",
		      0, 0);
	assert_int_equal(mqtt_control(fake_stream(r.f), &a), 0);
	assert_non_null(strstr(out, "{\"filter\":\"a/\xc3\x9b"
				    "31m\\\"/\\\\\","));
	rig_stop(&r);
}

/* The broker's small packets, in pieces of so many bytes, with no memory left for modules. */
static uint8_t answers_in(size_t piece)
{
	static const char said[] = "\xd0\0\x90\3\0\115\0\xd0\0\xb0\2\0\1\xd0";
	struct toe_buf *taken[4096];
	unsigned n = 0;
	uint8_t kind;
	uint32_t id;
	struct rig r;

	rig_start(&r, "#", 1000);
	id = rig_connect(&r, 4, "who", true, 0);
	fake_client_write(r.f, id, "\xc0\0\xc0\0\xc0\0", 6);
	fake_offer(r.f, id, SIZE_MAX);
	rig_forget(&r);
	for (size_t len = 1u << 20; len > 64; len /= 2) {
		while (n < COUNT(taken) &&
		       (taken[n] = toe_stream_buf_new(fake_stream(r.f), len)) != NULL)
			n++;
	}
	assert_null(toe_stream_buf_new(fake_stream(r.f), 1));
	fake_app_write(r.f, id, said, sizeof(said)); /* with the 0 that ends it */
	while (fake_hc(r.f) || fake_fetch(r.f, id, piece) != 0)
		;
	assert_false(fake_is_dead(r.f, id));
	assert_int_equal(bytes_n(&r.got[id]), sizeof(said));
	assert_memory_equal(bytes_at(&r.got[id]), said, sizeof(said));
	kind = rig_conn(&r, id)->kind;
	while (n > 0)
		toe_stream_buf_put(fake_stream(r.f), taken[--n]);
	fake_close(r.f, id);
	rig_stop(&r);
	return kind;
}

/* Others have all of the memory: whole packets pass as they came, and of one in pieces nothing is
 * kept, so that the connection cannot be followed; nobody is cut off. */
static void no_memory_for_answers(void **state)
{
	(void)state;
	assert_int_equal(answers_in(SIZE_MAX), MQTT_K_TRACKED);
	for (size_t piece = 1; piece < 8; piece++)
		assert_int_equal(answers_in(piece), MQTT_K_LOST);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reader_that_stops),    cmocka_unit_test(announced_only),
		cmocka_unit_test(message_memory_full),  cmocka_unit_test(long_names),
		cmocka_unit_test(requests_without_end), cmocka_unit_test(topics_that_cost),
		cmocka_unit_test(pings_without_answer), cmocka_unit_test(stalled_is_remembered),
		cmocka_unit_test(names_for_terminals),  cmocka_unit_test(no_memory_for_answers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
