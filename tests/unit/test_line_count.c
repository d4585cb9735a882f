/* SPDX-License-Identifier: BSD-3-Clause */
/* LINK: tests/sim/sim.h datapath/hostmem_dmadev.c tests/modules/line_count.c */
/*
 * The example module in the simulated pipeline: lines cut anywhere, questions that the application
 * never sees and whose answers the peer finds between two lines of the application, never in one.
 */
#include "../sim/sim_conn.h"

#include "stream.h"

#define CONNS 6u
#define TEXT  40000u /* most bytes a peer or an application writes */

/* By slot. */
static struct script {
	char peer[TEXT], app[TEXT]; /* what they write */
	uint32_t peer_n, app_n;
	char forwarded[TEXT];         /* what of it the application is to see */
	uint32_t forwarded_n, read_n; /* bytes; read so far */
	uint32_t questions, lines;
	/* the peer's reader */
	uint32_t answers, got_n; /* lines of ours; bytes of the application */
	bool middle, answer;
	uint32_t number, last;
} script[CONNS];

/* '?' and '=' mean something at the start of a line only. */
static void write_line(char *text, uint32_t *n, bool question)
{
	static const char inside[] = "abcdefgh?= ";
	uint32_t len = sim_rnd(4) ? sim_rnd(20) : sim_rnd(1500);

	text[(*n)++] = question ? '?' : 'x';
	for (; len > 0; len--)
		text[(*n)++] = inside[sim_rnd(sizeof(inside) - 1)];
	text[(*n)++] = '\n';
}

static void write_script(struct script *t)
{
	memset(t, 0, sizeof(*t));
	while (t->peer_n < TEXT - 2000) {
		bool question = sim_rnd(100) < 30;
		uint32_t from = t->peer_n;

		write_line(t->peer, &t->peer_n, question);
		t->questions += question;
		t->lines += !question;
		if (question)
			continue;
		memcpy(t->forwarded + t->forwarded_n, t->peer + from, t->peer_n - from);
		t->forwarded_n += t->peer_n - from;
	}
	/* one without its end */
	t->peer[t->peer_n++] = t->forwarded[t->forwarded_n++] = 'y';
	while (t->app_n < TEXT - 2000)
		write_line(t->app, &t->app_n, false);
}

static uint8_t text_byte(const struct sim_conn *c, uint64_t pos, bool from_peer)
{
	assert_true(pos < TEXT);
	return (uint8_t)(from_peer ? script[c->slot].peer : script[c->slot].app)[pos];
}

static void app_got(const struct sim_conn *c, uint8_t byte)
{
	struct script *t = &script[c->slot];

	assert_true(t->read_n < t->forwarded_n);
	assert_int_equal(byte, (uint8_t)t->forwarded[t->read_n++]);
}

static void answer_got(struct script *t, uint8_t byte)
{
	if (byte == '\n') {
		assert_in_range(t->number, t->last, t->lines);
		t->last = t->number;
		t->answers++;
		t->answer = false;
	} else if (byte != ' ') {
		assert_in_range(byte, '0', '9');
		t->number = 10 * t->number + byte - '0';
	}
}

static void peer_got(const struct sim_conn *c, uint8_t byte)
{
	struct script *t = &script[c->slot];

	if (t->answer) {
		answer_got(t, byte);
	} else if (!t->middle && byte == '=') {
		t->answer = true;
		t->number = 0;
	} else {
		assert_true(t->got_n < t->app_n);
		assert_int_equal(byte, (uint8_t)t->app[t->got_n++]);
		t->middle = byte != '\n';
	}
}

static bool is_through(const struct sim_conn *c)
{
	const struct script *t = &script[c->slot];

	return c->p_acked == c->p_goal && t->read_n == t->forwarded_n &&
	       c->a_written == c->a_goal && t->answers == t->questions && !t->answer &&
	       t->got_n == c->a_goal;
}

static void begin(const struct sim_setup *u, unsigned conns)
{
	sim_start(u);
	sim.accepted = true;
	sim_port = 7777;
	for (unsigned i = 0; i < conns; i++)
		write_script(&script[i]);
	sim_open_all(conns);
}

static void end(void)
{
	sim_close_all();
	for (unsigned i = 0; i < sim_conn_n; i++) {
		assert_int_equal(script[i].read_n, script[i].forwarded_n);
		assert_int_equal(script[i].answers, script[i].questions);
	}
	sim_stop();
}

static void talk(bool application)
{
	for (unsigned i = 0; i < sim_conn_n; i++) {
		sim_conn[i].p_goal = script[i].peer_n;
		sim_conn[i].a_goal = application ? script[i].app_n : 0;
		sim_app_turn(&sim_conn[i]);
	}
}

static void test_plain(void **state)
{
	(void)state;
	for (unsigned application = 0; application < 2; application++) {
		begin(&sim_plain, 3);
		talk(application);
		assert_true(sim_run(is_through, 4000));
		assert_true(script[0].questions > 20 && script[0].lines > 20);
		assert_int_equal(sim_drops(TOE_D_HC_INVALID), 0);
		assert_int_equal(sim_counter(TOE_C_SEGS_RTX), 0);
		end();
	}
}

static void test_replicated_lossy(void **state)
{
	(void)state;
	for (uint32_t seed = 1; seed <= 4; seed++) {
		struct sim_setup u = sim_replicated;

		u.seed = seed;
		begin(&u, CONNS);
		sim.loss_percent = 2;
		sim.shuffle_percent = 10;
		talk(true);
		assert_true(sim_run(is_through, 60000));
		assert_true(sim_counter(TOE_C_SEGS_OOO) > 0);
		end();
	}
}

/* There is one DMA device: dma has it, for cursors, and the CPU copies for the module. */
static void test_one_device(void **state)
{
	const struct sim_setup u = {
		.pre = 1, .proto = 1, .post = 1, .dma = 1, .seed = 9, .dma_backend = "dmadev"};

	(void)state;
	begin(&u, 2);
	talk(true);
	assert_true(sim_run(is_through, 60000));
	end();
}

/* The application stops in the middle of a line: answers wait, and come behind it. */
static void test_answer_waits(void **state)
{
	const struct sim_setup u = {.pre = 1, .proto = 1, .post = 1, .dma = 1, .seed = 3};
	struct sim_conn *c = &sim_conn[0];
	struct script *t = &script[0];

	(void)state;
	begin(&u, 1);
	memcpy(t->app, "half a line\n", 12);
	memcpy(t->peer, "?\nab\n?\n", 7);
	memcpy(t->forwarded, "ab\n", 3);
	t->forwarded_n = 3;
	t->questions = 2;
	c->a_goal = 6;
	sim_app_turn(c);
	assert_false(sim_run(is_through, 5)); /* answers are missing */
	assert_int_equal(c->p_rcvd, 6);
	c->p_goal = 7;
	assert_false(sim_run(is_through, 10));
	assert_int_equal(t->read_n, 3);
	assert_int_equal(c->p_rcvd, 6);
	c->a_goal = 12;
	sim_app_turn(c);
	assert_true(sim_run(is_through, 5));
	assert_int_equal(t->last, 1);
	end();
}

static void test_other_port(void **state)
{
	const struct toe_stream_module *m = toe_stream_module_at(0);

	(void)state;
	assert_non_null(m);
	assert_string_equal(m->name, "line_count");
	assert_null(toe_stream_module_at(1));
	assert_int_equal(toe_stream_wanted(&sim.cfg, 7777), 0);
	assert_int_equal(toe_stream_wanted(&sim.cfg, 7778), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),      cmocka_unit_test(test_replicated_lossy),
		cmocka_unit_test(test_one_device), cmocka_unit_test(test_answer_waits),
		cmocka_unit_test(test_other_port),
	};

	sim_text.byte = text_byte;
	sim_text.app_got = app_got;
	sim_text.peer_got = peer_got;
	return cmocka_run_group_tests(tests, sim_eal, NULL);
}
