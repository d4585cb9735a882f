/* SPDX-License-Identifier: BSD-3-Clause */
/* LINK: tests/unit/mqtt_broker.h */
/* The MQTT stage by example: bytes of deliveries, limits of every pool, clients and brokers that
 * are not what they should be, and the questions of `toe mqtt`. */
#include <errno.h>
#include <stdio.h>

#include "mqtt_stage_rig.h"

/* ---- deliveries ---- */

static void add_user_property(struct pk *p)
{
	pk_u8(p, 0x26);
	pk_str(p, "key");
	pk_str(p, "value");
}

/* Cut at every byte; from level 4 and 5, to 4, 5, and 5 with a subscription identifier. */
static void split_everywhere(void **state)
{
	for (unsigned level = 4; level <= 5; level++) {
		struct pk props = {.n = 0}, props_id = {.n = 0}, pub = {.n = 0}, want4 = {.n = 0},
			  want5 = {.n = 0}, want_id = {.n = 0};
		uint32_t from, s4, s5, sid;
		struct rig r;

		(void)state;
		rig_start(&r, "#", 1000);
		from = rig_connect(&r, level, "pub", true, 0);
		s4 = rig_connect(&r, 4, "s4", true, 0);
		s5 = rig_connect(&r, 5, "s5", true, 0);
		sid = rig_connect(&r, 5, "sid", true, 0);
		rig_subscribe(&r, s4, "a/+", 0, 0);
		rig_subscribe(&r, s5, "a/b", 1, 0);
		rig_subscribe(&r, sid, "#", 2, 9);
		if (level == 5) {
			add_user_property(&props);
			pk_u8(&props, 0x01);
			pk_u8(&props, 1);
		}
		props_id = props;
		pk_u8(&props_id, 0x0b);
		pk_u8(&props_id, 9);
		rig_publish(&pub, level, "a/b", &props, "payload", 7);
		rig_publish(&want4, 4, "a/b", NULL, "payload", 7);
		rig_publish(&want5, 5, "a/b", &props, "payload", 7);
		rig_publish(&want_id, 5, "a/b", &props_id, "payload", 7);
		rig_forget(&r);
		for (size_t cut = 1; cut < pub.n; cut++) {
			fake_client_write(r.f, from, pub.b, cut);
			rig_run(&r);
			fake_client_write(r.f, from, pub.b + cut, pub.n - cut);
			rig_run(&r);
			rig_expect(&r, s4, &want4);
			rig_expect(&r, s5, &want5);
			rig_expect(&r, sid, &want_id);
		}
		assert_int_equal(rig_slow(&r, MQTT_R_FAST), pub.n - 1);
		rig_stop(&r);
	}
}

static void hundred_in_one_segment(void **state)
{
	struct pk all = {.n = 0};
	uint32_t from, to;
	struct rig r;

	(void)state;
	rig_start(&r, "#", 1000);
	from = rig_connect(&r, 4, "pub", true, 0);
	to = rig_connect(&r, 4, "sub", true, 0);
	rig_subscribe(&r, to, "t", 0, 0);
	rig_forget(&r);
	for (uint8_t i = 0; i < 100; i++)
		rig_publish(&all, 4, "t", NULL, &i, 1);
	fake_client_write(r.f, from, all.b, all.n);
	rig_run(&r);
	rig_expect(&r, to, &all);
	assert_int_equal(rig_slow(&r, MQTT_R_FAST), 100);
	rig_stop(&r);
}

/* Messages that go through the subscriptions together: a client of level 5 gets one copy for each
 * of its overlapping subscriptions, all of a message before those of the next; of level 4 one. */
static void together_in_order(void **state)
{
	static const char *const filter[] = {"t/a", "t/+", "t/#", "+/a", "+/+", "#"};
	const unsigned messages = 40;

	for (unsigned overlap = 1; overlap <= COUNT(filter); overlap++) {
		struct pk all = {.n = 0}, want5 = {.n = 0};
		uint32_t from, s4[4], s5[4];
		struct rig r;

		(void)state;
		rig_start(&r, "#", 1000);
		from = rig_connect(&r, 4, "pub", true, 0);
		for (unsigned i = 0; i < 4; i++) {
			const char name4[] = {'x', (char)('0' + i), 0},
				   name5[] = {'y', name4[1], 0};

			s4[i] = rig_connect(&r, 4, name4, true, 0);
			s5[i] = rig_connect(&r, 5, name5, true, 0);
			for (unsigned k = 0; k < overlap; k++) {
				rig_subscribe(&r, s4[i], filter[k], 0, 0);
				rig_subscribe(&r, s5[i], filter[k], 0, 0);
			}
		}
		rig_forget(&r);
		for (unsigned i = 0; i < messages; i++) {
			const uint8_t payload[] = {(uint8_t)i, (uint8_t)overlap};

			rig_publish(&all, 4, "t/a", NULL, payload, 1 + i % 2);
			for (unsigned k = 0; k < overlap; k++)
				rig_publish(&want5, 5, "t/a", NULL, payload, 1 + i % 2);
		}
		fake_client_write(r.f, from, all.b, all.n);
		rig_run(&r);
		for (unsigned i = 0; i < 4; i++) {
			rig_expect(&r, s4[i], &all);
			rig_expect(&r, s5[i], &want5);
		}
		assert_int_equal(rig_slow(&r, MQTT_R_FAST), messages);
		rig_stop(&r);
	}
}

static void largest_message(void **state)
{
	static const uint8_t payload[4096];
	struct pk max = {.n = 0}, more = {.n = 0};
	uint32_t from, to;
	struct rig r;

	(void)state;
	rig_start(&r, "#", 1000);
	from = rig_connect(&r, 4, "pub", true, 0);
	to = rig_connect(&r, 4, "sub", true, 0);
	rig_subscribe(&r, to, "t", 0, 0);
	rig_forget(&r);
	rig_publish(&max, 4, "t", NULL, payload, 4096 - 3);
	rig_publish(&more, 4, "t", NULL, payload, 4096 - 2);
	fake_client_write(r.f, from, max.b, max.n);
	rig_run(&r);
	rig_expect(&r, to, &max);
	assert_int_equal(rig_slow(&r, MQTT_R_FAST), 1);
	fake_client_write(r.f, from, more.b, more.n);
	rig_run(&r);
	rig_expect(&r, to, &more);
	assert_int_equal(rig_slow(&r, MQTT_R_SIZE), 1);
	rig_stop(&r);
}

static void maximum_packet_size(void **state)
{
	struct pk fits = {.n = 0}, large = {.n = 0}, fits4 = {.n = 0}, both = {.n = 0};
	uint32_t from, to, other;
	struct rig r;

	(void)state;
	rig_start(&r, "#", 1000);
	from = rig_connect(&r, 4, "pub", true, 0);
	to = rig_connect(&r, 5, "sub", true, 12);
	other = rig_connect(&r, 4, "other", true, 0);
	rig_subscribe(&r, to, "t", 0, 0);
	rig_subscribe(&r, other, "t", 0, 0);
	rig_forget(&r);
	rig_publish(&fits, 5, "t", NULL, "123456", 6); /* 12 bytes at level 5 */
	rig_publish(&fits4, 4, "t", NULL, "123456", 6);
	rig_publish(&large, 4, "t", NULL, "1234567", 7);
	pk_raw(&both, fits4.b, fits4.n);
	pk_raw(&both, large.b, large.n);
	fake_client_write(r.f, from, both.b, both.n);
	rig_run(&r);
	rig_expect(&r, to, &fits);
	rig_expect(&r, other, &both);
	assert_int_equal(rig_stage(&r)->counters[MQTT_C_DROP_SIZE], 1);
	rig_stop(&r);
}

static void no_local(void **state)
{
	struct pk one = {.n = 0}, none = {.n = 0};
	uint32_t a, b;
	struct rig r;

	(void)state;
	rig_start(&r, "#", 1000);
	a = rig_connect(&r, 5, "a", true, 0);
	b = rig_connect(&r, 5, "b", true, 0);
	rig_subscribe(&r, a, "t", 4, 0);
	rig_subscribe(&r, b, "t", 4, 0);
	rig_forget(&r);
	rig_publish(&one, 5, "t", NULL, "x", 1);
	fake_client_write(r.f, a, one.b, one.n);
	rig_run(&r);
	rig_expect(&r, a, &none);
	rig_expect(&r, b, &one);
	assert_int_equal(rig_slow(&r, MQTT_R_FAST), 1);
	rig_stop(&r);
}

/* What waited for a second or more says so, or is not sent any more (3.3.2.3.3). */
static void expiry_while_waiting(void **state)
{
	struct pk props = {.n = 0}, later = {.n = 0}, pub = {.n = 0}, want = {.n = 0};
	static const uint8_t half[] = {0xd0}, rest[] = {0};
	uint32_t from, to;
	struct rig r;

	(void)state;
	rig_start(&r, "#", 1000);
	from = rig_connect(&r, 5, "pub", true, 0);
	to = rig_connect(&r, 5, "sub", true, 0);
	rig_subscribe(&r, to, "t", 0, 0);
	rig_forget(&r);
	pk_u8(&props, 0x02);
	pk_u32(&props, 10);
	pk_u8(&later, 0x02);
	pk_u32(&later, 7);
	/* the broker stops in the middle of a packet */
	fake_app_write(r.f, to, half, 1);
	fake_settle(r.f);
	rig_publish(&pub, 5, "t", &props, "x", 1);
	fake_client_write(r.f, from, pub.b, pub.n);
	pub.n = 0;
	props.b[4] = 2; /* this one does not live as long */
	rig_publish(&pub, 5, "t", &props, "y", 1);
	fake_client_write(r.f, from, pub.b, pub.n);
	fake_settle(r.f);
	fake_time(r.f, 3100);
	fake_app_write(r.f, to, rest, 1);
	fake_settle(r.f);
	rig_publish(&want, 5, "t", &later, "x", 1);
	rig_expect(&r, to, &want);
	rig_stop(&r);
}

/* ---- limits ---- */

static void no_message_memory(void **state)
{
	struct toe_buf *all[64];
	struct pk pub = {.n = 0};
	uint32_t from, to;
	unsigned n = 0;
	struct rig r;

	(void)state;
	rig_start(&r, "#", 1000);
	from = rig_connect(&r, 4, "pub", true, 0);
	to = rig_connect(&r, 4, "sub", true, 0);
	rig_subscribe(&r, to, "t", 0, 0);
	rig_forget(&r);
	for (size_t size = 1u << 20; size > 200000;) {
		all[n] = toe_stream_buf_new(fake_stream(r.f), size - 64);
		if (all[n] == NULL)
			size /= 2;
		else
			n++;
	}
	for (size_t size = 100000; n < 63;) {
		all[n] = toe_stream_buf_new(fake_stream(r.f), size);
		if (all[n] == NULL && size < 100)
			break;
		if (all[n] == NULL)
			size /= 2;
		else
			n++;
	}
	rig_publish(&pub, 4, "t", NULL, "x", 1);
	fake_client_write(r.f, from, pub.b, pub.n);
	rig_run(&r);
	rig_expect(&r, to, &pub);
	assert_int_equal(rig_slow(&r, MQTT_R_MEMORY), 1);
	while (n > 0)
		toe_stream_buf_put(fake_stream(r.f), all[--n]);
	fake_client_write(r.f, from, pub.b, pub.n);
	rig_run(&r);
	rig_expect(&r, to, &pub);
	assert_int_equal(rig_slow(&r, MQTT_R_FAST), 1);
	rig_stop(&r);
}

/* Two clients that do not read, each on a topic of its own: they lose copies, memory never runs
 * out, and who reads gets everything. */
static void memory_is_shared(void **state)
{
	static const char *const topic[] = {"a", "b", "c"};
	static char payload[4000];
	struct pk pub[3];
	uint32_t from, to[3];
	struct rig r;

	(void)state;
	rig_start(&r, "#", 1000);
	from = rig_connect(&r, 4, "pub", true, 0);
	for (unsigned i = 0; i < 3; i++) {
		to[i] = rig_connect(&r, 4, topic[i], true, 0);
		rig_subscribe(&r, to[i], topic[i], 0, 0);
		pub[i].n = 0;
		rig_publish(&pub[i], 4, topic[i], NULL, payload, sizeof(payload));
	}
	rig_forget(&r);
	for (unsigned n = 0; n < 3000; n++) {
		for (unsigned i = 0; i < 3; i++)
			fake_client_write(r.f, from, pub[i].b, pub[i].n);
		fake_settle(r.f);
		fake_client_read(r.f, to[2], NULL, SIZE_MAX);
	}
	assert_int_equal(rig_slow(&r, MQTT_R_MEMORY), 0);
	assert_int_equal(rig_stage(&r)->reasons[MQTT_R_FAST], 9000);
	assert_int_equal(bytes_n(&r.got[to[2]]), 3000 * pub[2].n);
	assert_true(rig_stage(&r)->counters[MQTT_C_DROP_QUEUE] > 1000);
	rig_stop(&r);
}

/* Publishers that have none get the broker, others wait; nothing is lost, order stays. */
static void all_jobs_in_use(void **state)
{
	uint32_t from[MQTT_JOBS / MQTT_JOBS_OF_ONE + 1], to;
	const unsigned n = MQTT_JOBS / MQTT_JOBS_OF_ONE + 1;
	uint8_t next[MQTT_JOBS / MQTT_JOBS_OF_ONE + 1] = {0};
	struct rig r;

	(void)state;
	rig_start(&r, "#", 1000);
	to = rig_connect(&r, 4, "sub", true, 0);
	for (unsigned i = 0; i < n; i++) {
		char name[8];

		snprintf(name, sizeof(name), "p%u", i);
		from[i] = rig_connect(&r, 4, name, true, 0);
	}
	rig_subscribe(&r, to, "t", 0, 0);
	rig_forget(&r);
	for (unsigned i = 0; i < n; i++) {
		struct pk all = {.n = 0};

		for (uint8_t k = 0; k < 70; k++)
			rig_publish(&all, 4, "t", NULL, (uint8_t[]){(uint8_t)i, k, 0, 0}, 4);
		fake_client_write(r.f, from[i], all.b, all.n);
		fake_offer(r.f, from[i], SIZE_MAX);
	}
	assert_int_equal(rig_stage(&r)->job_used, MQTT_JOBS);
	assert_int_equal(rig_slow(&r, MQTT_R_MEMORY), 1);
	rig_run(&r);
	assert_int_equal(bytes_n(&r.got[to]), n * 70 * 9);
	for (const uint8_t *p = bytes_at(&r.got[to]); p < r.got[to].b + r.got[to].to; p += 9)
		assert_int_equal(p[6], next[p[5]]++);
	rig_stop(&r);
}

static void subscription_table_full(void **state)
{
	struct pk pub = {.n = 0};
	uint32_t from, to;
	struct rig r;

	(void)state;
	rig_start(&r, "#", 3);
	from = rig_connect(&r, 4, "pub", true, 0);
	to = rig_connect(&r, 4, "sub", true, 0);
	rig_subscribe(&r, to, "a", 0, 0);
	rig_subscribe(&r, to, "b", 0, 0);
	rig_subscribe(&r, to, "c", 0, 0);
	rig_subscribe(&r, to, "t", 0, 0);
	rig_forget(&r);
	rig_publish(&pub, 4, "t", NULL, "x", 1);
	fake_client_write(r.f, from, pub.b, pub.n);
	rig_run(&r);
	rig_expect(&r, to, &pub);
	assert_int_equal(rig_slow(&r, MQTT_R_FULL), 1);
	/* its session is over: what there was no room for is, too, whoever else is there */
	fake_close(r.f, to);
	broker_gone(r.b, to);
	assert_int_equal(rig_stage(&r)->full, 0);
	to = rig_connect(&r, 4, "next", true, 0);
	rig_subscribe(&r, to, "t", 0, 0);
	rig_forget(&r);
	fake_client_write(r.f, from, pub.b, pub.n);
	rig_run(&r);
	rig_expect(&r, to, &pub);
	assert_int_equal(rig_slow(&r, MQTT_R_FULL), 1);
	/* one that is not followed any more may keep them */
	for (char name[] = "a"; name[0] < 'f'; name[0]++)
		rig_subscribe(&r, to, name, 0, 0);
	assert_int_equal(rig_stage(&r)->full, 1);
	mqtt_conn_lose(rig_stage(&r), fake_conn(r.f, to), rig_conn(&r, to));
	assert_int_equal(rig_stage(&r)->full, 1);
	rig_stop(&r);
}

/* As many of the operator's filters as there may be, as long as they may be: the most levels, and
 * levels of every length. */
static void longest_filters(void **state)
{
	(void)state;
	for (unsigned level = 1; level < TOE_CFG_MQTT_FILTER_MAX; level++) {
		char text[TOE_CFG_MQTT_FILTER_MAX];
		struct rig r;

		rig_start(&r, "none", 3);
		for (unsigned i = 1; i < MQTT_GATES; i++) {
			memset(text, 'a' + (int)(i % 26), sizeof(text));
			for (unsigned at = level; at < sizeof(text); at += level + 1)
				text[at] = '/';
			text[0] = (char)('A' + i / 26);
			text[sizeof(text) - 1] = '\0';
			assert_int_equal(mqtt_decide_gate_add(rig_stage(&r), text, false), 0);
		}
		assert_int_equal(mqtt_decide_gate_add(rig_stage(&r), "more", false), -ENOSPC);
		rig_stop(&r);
	}
}

static void many_topics(void **state)
{
	uint32_t from, to;
	struct rig r;

	(void)state;
	rig_start(&r, "#", 1000);
	from = rig_connect(&r, 4, "pub", true, 0);
	to = rig_connect(&r, 4, "sub", true, 0);
	rig_subscribe(&r, to, "n/+/v", 0, 0);
	rig_forget(&r);
	for (unsigned i = 0; i < 10000; i++) {
		struct pk pub = {.n = 0};
		char topic[32];

		snprintf(topic, sizeof(topic), "n/%u/v", i);
		rig_publish(&pub, 4, topic, NULL, &i, sizeof(i));
		fake_client_write(r.f, from, pub.b, pub.n);
		fake_settle(r.f);
		rig_expect(&r, to, &pub);
		fake_client_read(r.f, to, NULL, SIZE_MAX);
		fake_time(r.f, i % 1000 == 0); /* a million topics a second */
	}
	assert_int_equal(rig_slow(&r, MQTT_R_FAST), 10000);
	rig_stop(&r);
}

/* Sessions that are offline make room for new ones. */
static void session_table_full(void **state)
{
	struct pk pub = {.n = 0};
	uint32_t from, to;
	struct rig r;

	(void)state;
	rig_start(&r, "#", 1000);
	for (unsigned i = 0; i < 3 * FAKE_CONNS; i++) {
		char name[8];
		uint32_t id;

		snprintf(name, sizeof(name), "k%u", i);
		id = rig_connect(&r, 4, name, false, 0);
		broker_gone(r.b, id);
		fake_close(r.f, id);
	}
	from = rig_connect(&r, 4, "pub", true, 0);
	to = rig_connect(&r, 4, "sub", true, 0);
	rig_subscribe(&r, to, "t", 0, 0);
	rig_forget(&r);
	rig_publish(&pub, 4, "t", NULL, "x", 1);
	fake_client_write(r.f, from, pub.b, pub.n);
	rig_run(&r);
	rig_expect(&r, to, &pub);
	assert_int_equal(rig_slow(&r, MQTT_R_FAST), 1);
	rig_stop(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_is_shared),
		cmocka_unit_test(split_everywhere),
		cmocka_unit_test(hundred_in_one_segment),
		cmocka_unit_test(together_in_order),
		cmocka_unit_test(largest_message),
		cmocka_unit_test(maximum_packet_size),
		cmocka_unit_test(no_local),
		cmocka_unit_test(expiry_while_waiting),
		cmocka_unit_test(no_message_memory),
		cmocka_unit_test(all_jobs_in_use),
		cmocka_unit_test(subscription_table_full),
		cmocka_unit_test(longest_filters),
		cmocka_unit_test(many_topics),
		cmocka_unit_test(session_table_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
