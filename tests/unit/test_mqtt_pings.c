/* SPDX-License-Identifier: BSD-3-Clause */
/* LINK: tests/unit/mqtt_broker.h */
/* The MQTT stage's PINGREQs, against a broker played by hand: answers that are late by minutes, or
 * never come; what they do to a client's keep alive. */
#include "mqtt_pair.h"

#define FILL ((1u << 20) + 1) /* bytes of a PUBLISH; the application's buffer has one less */

struct trio {
	struct rig r;
	struct pair p;
	uint32_t other;
	size_t left; /* bytes the broker holds for the subscriber */
};

static void start(struct trio *t)
{
	t->p = start_pair(&t->r);
	t->other = rig_connect(&t->r, 4, "other", true, 0);
	rig_forget(&t->r);
}

static struct mqtt_conn *from(struct trio *t)
{
	return rig_conn(&t->r, t->p.from);
}

static struct mqtt_conn *to(struct trio *t)
{
	return rig_conn(&t->r, t->p.to);
}

static void publishes(struct trio *t, bool retain)
{
	struct pk p = t->p.pub;

	p.b[0] |= retain;
	fake_client_write(t->r.f, t->p.from, p.b, p.n);
	fake_settle(t->r.f);
}

static void says(struct trio *t, uint32_t id, const void *b, size_t n)
{
	fake_app_write(t->r.f, id, b, n);
	fake_settle(t->r.f);
}

/* The broker reads all it has of a client; returns the PINGREQs in it. */
static unsigned pings_read(struct trio *t, uint32_t id)
{
	uint8_t b[4096];
	size_t n = fake_app_read(t->r.f, id, b, sizeof(b));
	unsigned pings = 0;

	assert_true(n < sizeof(b));
	for (size_t i = 0; i < n; i += 2u + b[i + 1])
		pings += b[i] == 0xc0;
	return pings;
}

/* It answers all of them until it is asked no more; returns how often it was. */
static unsigned answers(struct trio *t, uint32_t id)
{
	unsigned n, all = 0;

	while ((n = pings_read(t, id)) != 0) {
		for (all += n; n > 0; n--)
			says(t, id, "\xd0\0", 2);
		assert_true(all < 100);
	}
	return all;
}

/* The broker is busy with others. */
static void busy_elsewhere(struct trio *t, unsigned ms)
{
	for (unsigned i = 0; i < ms; i += 50) {
		says(t, t->other, "\x30\x04\x00\x01uy", 6);
		fake_client_read(t->r.f, t->other, NULL, SIZE_MAX);
		fake_time(t->r.f, 50);
		fake_settle(t->r.f);
	}
}

/* The broker writes what it holds for the subscriber, as far as there is room. */
static void writes(struct trio *t)
{
	static const uint8_t fill[FILL] = {0x30, 0xfd, 0xff, 0x3f};

	for (size_t n = 1; t->left != 0 && n != 0; t->left -= n) {
		size_t at = (FILL - t->left % FILL) % FILL;

		n = fake_app_write(t->r.f, t->p.to, fill + at, FILL - at);
		fake_settle(t->r.f);
	}
}

/* Two PUBLISH for the subscriber, which does not read: more than all buffers take. */
static void block(struct trio *t)
{
	t->left = 2 * FILL;
	writes(t);
	assert_int_equal(to(t)->blocked, 1);
	assert_int_not_equal(t->left, 0);
}

/* The subscriber reads all of it. */
static void reads(struct trio *t)
{
	do {
		writes(t);
		fake_client_read(t->r.f, t->p.to, NULL, SIZE_MAX);
		fake_settle(t->r.f);
	} while (t->left != 0 || fake_client_unread(t->r.f, t->p.to) != 0);
}

/* It takes the broker minutes to get through what a publisher sent; it answers all PINGREQs in the
 * end.  No answer is taken for a later question's, and all is fast when it is through. */
static void late_answers(void **state)
{
	struct trio t;
	unsigned pings;

	(void)state;
	start(&t);
	publishes(&t, true);
	for (unsigned i = 0; i < 7; i++) {
		publishes(&t, false);
		busy_elsewhere(&t, MQTT_FENCE_MAX_MS + 2000);
	}
	assert_int_equal(rig_slow(&t.r, MQTT_R_FAST), 0);
	pings = pings_read(&t, t.p.from);
	assert_in_range(pings, 2, 7);
	for (unsigned i = 0; i < pings; i++) {
		assert_false(mqtt_fence_clear(from(&t)));
		says(&t, t.p.from, "\xd0\0", 2);
	}
	publishes(&t, false);
	answers(&t, t.p.from);
	assert_int_equal(rig_slow(&t.r, MQTT_R_FAST), 1);
	assert_int_equal(from(&t)->ping_n + from(&t)->ping_old, 0);
	assert_int_equal(bytes_n(&t.r.got[t.p.from]), 0);
	rig_stop(&t.r);
}

/* A client reads nothing for an hour, and the broker drops its answers.  It is not asked on and on;
 * when it reads again the client gets its copies within a second, the next time at once. */
static void dropped_answers(void **state)
{
	struct trio t;
	unsigned lost;

	(void)state;
	start(&t);
	block(&t);
	publishes(&t, false);
	busy_elsewhere(&t, 3600 * 1000);
	lost = pings_read(&t, t.p.to);
	assert_in_range(lost, 1, 2);
	assert_int_equal(to(&t)->defer_n, 1);
	reads(&t);
	busy_elsewhere(&t, MQTT_PING_MS);
	assert_in_range(answers(&t, t.p.to), 1, 2 * lost + 1);
	assert_int_equal(to(&t)->blocked, 0);
	assert_int_equal(to(&t)->defer_n, 0);

	fake_client_read(t.r.f, t.p.to, NULL, SIZE_MAX);
	block(&t);
	reads(&t);
	assert_in_range(answers(&t, t.p.to), 1, 2 * lost + 1);
	assert_int_equal(to(&t)->blocked, 0);
	rig_stop(&t.r);
}

/* Ten seconds for a PUBLISH, at a keep alive of two: the broker has nothing of it yet, and does not
 * take its client for dead as long as much of it is missing. */
static void slow_upload(void **state)
{
	uint8_t big[3200] = {0x30, 0xfd, 0x18, 0, 1, 't'};
	unsigned silent = 0, pings = 0;
	struct trio t;

	(void)state;
	start(&t);
	from(&t)->keep_alive_s = 2;
	for (size_t i = 0; i < sizeof(big); i += 40) {
		unsigned n;

		fake_client_write(t.r.f, t.p.from, big + i, 40);
		fake_settle(t.r.f);
		n = pings_read(&t, t.p.from);
		for (unsigned k = 0; k < n; k++)
			says(&t, t.p.from, "\xd0\0", 2);
		pings += n;
		silent = n != 0 ? 0 : silent + 125;
		assert_true(silent <= 3000 || sizeof(big) - i <= MQTT_SLOW_LEFT);
		fake_time(t.r.f, 125);
	}
	assert_in_range(pings, 3, 10000 / 250);
	assert_int_equal(rig_slow(&t.r, MQTT_R_FAST), 1);
	assert_int_equal(bytes_n(&t.r.got[t.p.from]), 0);
	assert_int_equal(bytes_n(&t.r.got[t.p.to]), sizeof(big));
	rig_stop(&t.r);
}

/* A subscriber is blocked, and silent: the broker is not made to take it for alive for longer than
 * its keep alive.  When it is heard again, the broker is asked. */
static void silent_client(void **state)
{
	struct trio t;

	(void)state;
	start(&t);
	to(&t)->keep_alive_s = 12;
	block(&t);
	reads(&t);
	busy_elsewhere(&t, 12000);
	assert_in_range(pings_read(&t, t.p.to), 1, 4);
	busy_elsewhere(&t, 600 * 1000);
	assert_int_equal(pings_read(&t, t.p.to), 0);
	assert_int_equal(to(&t)->blocked, 1);
	fake_client_write(t.r.f, t.p.to, "\xc0\0", 2);
	fake_settle(t.r.f);
	busy_elsewhere(&t, 50);
	assert_in_range(answers(&t, t.p.to), 2, 8); /* one of them the client's */
	assert_int_equal(to(&t)->blocked, 0);
	rig_stop(&t.r);
}

/* It falls behind when it has been silent for longer than that: the question waits for it. */
static void asked_when_heard(void **state)
{
	struct trio t;

	(void)state;
	start(&t);
	to(&t)->keep_alive_s = 12;
	busy_elsewhere(&t, 15000);
	block(&t);
	reads(&t);
	busy_elsewhere(&t, 1000);
	assert_int_equal(pings_read(&t, t.p.to), 0);
	fake_client_write(t.r.f, t.p.to, "\xc0\0", 2);
	fake_settle(t.r.f);
	assert_int_equal(answers(&t, t.p.to), 2);
	assert_int_equal(to(&t)->blocked, 0);
	rig_stop(&t.r);
}

/* A publisher that waits is not silent, however short its keep alive: an answer that was dropped is
 * asked for again. */
static void held_is_not_silent(void **state)
{
	struct trio t;

	(void)state;
	start(&t);
	from(&t)->keep_alive_s = 1;
	publishes(&t, true);
	publishes(&t, false);
	assert_int_equal(pings_read(&t, t.p.from), 1);
	fake_time(t.r.f, 30); /* so that nobody looks when the second is just over */
	busy_elsewhere(&t, MQTT_PING_MS + 100);
	assert_int_equal(answers(&t, t.p.from), 1);
	assert_int_equal(rig_slow(&t.r, MQTT_R_FAST), 1);
	rig_stop(&t.r);
}

/* The broker's answers tell a client that what it published before is with all subscribers, so
 * questions wait for the fan-out; but not for copies of a blocked subscriber. */
static void question_behind_fanout(void **state)
{
	static const struct {
		const char *b;
		size_t n;
	} questions[] = {
		{"\xc0\0", 2}, {"\x82\x06\0\x09\0\x01q\0", 8}, {"\xa2\x05\0\x0a\0\x01q", 7}};
	struct trio t;

	(void)state;
	start(&t);
	for (size_t i = 0; i < 3; i++) {
		uint8_t b[16];

		fake_client_write(t.r.f, t.p.from, t.p.pub.b, t.p.pub.n);
		fake_client_write(t.r.f, t.p.from, questions[i].b, questions[i].n);
		fake_offer(t.r.f, t.p.from, SIZE_MAX);
		assert_int_equal(rig_stage(&t.r)->job_used, 1);
		assert_int_equal(fake_app_unread(t.r.f, t.p.from), 0);
		fake_settle(t.r.f);
		rig_expect(&t.r, t.p.to, &t.p.pub);
		assert_int_equal(fake_app_read(t.r.f, t.p.from, b, sizeof(b)), questions[i].n);
		assert_memory_equal(b, questions[i].b, questions[i].n);
	}
	says(&t, t.p.from, "\xd0\0", 2); /* which the client asked for */
	assert_int_equal(bytes_n(&t.r.got[t.p.from]), 2);
	assert_int_equal(rig_slow(&t.r, MQTT_R_FAST), 3);
	block(&t);
	fake_client_write(t.r.f, t.p.from, t.p.pub.b, t.p.pub.n);
	fake_client_write(t.r.f, t.p.from, questions[0].b, questions[0].n);
	fake_settle(t.r.f);
	assert_non_null(from(&t)->held);
	assert_int_equal(pings_read(&t, t.p.from), 1);
	rig_stop(&t.r);
}

/* The publisher is quiet for an eighth of its keep alive, to the broker: it is spoken for.  Then it
 * writes something slow, and a PINGREQ. */
static void asked_before(struct trio *t)
{
	start(t);
	from(t)->keep_alive_s = 60;
	fake_time(t->r.f, 60000 / 8);
	publishes(t, false);
	assert_int_equal(pings_read(t, t->p.from), 1);
	publishes(t, true);
	fake_client_write(t->r.f, t->p.from, "\xc0\0", 2);
	fake_settle(t->r.f);
	assert_int_equal(pings_read(t, t->p.from), 1);
	assert_int_equal(rig_slow(&t->r, MQTT_R_RETAIN), 1);
}

/* A client has an answer when the broker has come to its question, and so to all it sent before:
 * not that to a question of the stage's before it. */
static void own_answer(void **state)
{
	struct trio t;

	(void)state;
	asked_before(&t);
	says(&t, t.p.from, "\xd0\0", 2);
	assert_int_equal(bytes_n(&t.r.got[t.p.from]), 0);
	busy_elsewhere(&t, MQTT_PING_MS / 2);
	says(&t, t.p.from, "\xd0\0", 2);
	assert_int_equal(bytes_n(&t.r.got[t.p.from]), 2);
	busy_elsewhere(&t, 3 * MQTT_PING_MS);
	assert_int_equal(pings_read(&t, t.p.from), 0);
	rig_stop(&t.r);
}

/* The broker has dropped the answer to the stage's: the client has its own all the same, a second
 * later; the next time at once, though nobody knows how many were dropped. */
static void own_answer_after_drop(void **state)
{
	struct trio t;

	(void)state;
	asked_before(&t);
	says(&t, t.p.from, "\xd0\0", 2);
	assert_int_equal(bytes_n(&t.r.got[t.p.from]), 0);
	busy_elsewhere(&t, MQTT_PING_MS + 100);
	assert_in_range(answers(&t, t.p.from), 1, 2);
	assert_int_equal(bytes_n(&t.r.got[t.p.from]), 2);
	rig_forget(&t.r);
	fake_client_write(t.r.f, t.p.from, "\xc0\0", 2);
	fake_settle(t.r.f);
	assert_in_range(answers(&t, t.p.from), 2, 3);
	assert_int_equal(bytes_n(&t.r.got[t.p.from]), 2);
	rig_stop(&t.r);
}

/* Clients that ask on and on, more than is kept of whose each question is: each has an answer. */
static void many_questions(void **state)
{
	struct trio t;
	unsigned asked;

	(void)state;
	asked_before(&t);
	for (unsigned i = 1; i < 200; i++) {
		fake_client_write(t.r.f, t.p.from, "\xc0\0", 2);
		if (i % 16 == 0) { /* and the stage does */
			fake_time(t.r.f, 60000 / 8);
			publishes(&t, false);
		}
	}
	fake_settle(t.r.f);
	asked = 2 + pings_read(&t, t.p.from);
	assert_true(asked > 200);
	for (; asked > 0; asked--)
		says(&t, t.p.from, "\xd0\0", 2);
	answers(&t, t.p.from);
	assert_int_equal(bytes_n(&t.r.got[t.p.from]), 2 * 200);
	assert_int_equal(from(&t)->ping_n + from(&t)->ping_old + from(&t)->client_pings, 0);
	assert_int_equal(from(&t)->asked_n, 0);
	says(&t, t.p.from, "\xd0\0", 2);
	assert_int_equal(bytes_n(&t.r.got[t.p.from]), 2 * 200);
	rig_stop(&t.r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(late_answers),
		cmocka_unit_test(dropped_answers),
		cmocka_unit_test(slow_upload),
		cmocka_unit_test(silent_client),
		cmocka_unit_test(asked_when_heard),
		cmocka_unit_test(held_is_not_silent),
		cmocka_unit_test(question_behind_fanout),
		cmocka_unit_test(own_answer),
		cmocka_unit_test(own_answer_after_drop),
		cmocka_unit_test(many_questions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
