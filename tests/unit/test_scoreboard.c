/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Scoreboards: the pool, against a list; who loses one; and a flow that has lost its own, in both
 * directions.
 */
/* LINK: tests/unit/proto_rig.h */
#include "proto_rig.h"

#define BOARDS 5u
#define FLOWS  12u

static bool holds(struct toe_scoreboard *const *owner)
{
	return *owner != NULL && (*owner)->owner == owner;
}

static struct toe_scoreboard mem[BOARDS];

/* Random takes, uses and returns: nobody shares one, and who loses one has not used it for long. */
static void test_unused_changes_hands(void **state)
{
	struct toe_scoreboard *flows[FLOWS] = {0};
	struct toe_scoreboards pool;
	uint32_t used[FLOWS] = {0}, rnd = 7, now = 0, from[3] = {0};

	(void)state;
	toe_scoreboards_init(&pool, mem, BOARDS);
	for (unsigned turn = 1; turn < 50000; turn++) {
		unsigned f = rig_rand(&rnd) % FLOWS, had[FLOWS], held = 0;
		enum toe_scoreboard_from how;

		now += rig_rand(&rnd) % 300;
		for (unsigned i = 0; i < FLOWS; i++) {
			assert_true(flows[i] == NULL || holds(&flows[i]));
			held += had[i] = flows[i] != NULL;
		}
		if (flows[f] != NULL && rig_rand(&rnd) % 2 == 0) {
			toe_scoreboard_give(&pool, &flows[f]);
			assert_null(flows[f]);
			continue;
		}
		if (flows[f] != NULL) {
			toe_scoreboard_use(flows[f], now);
			used[f] = now;
			continue;
		}
		how = toe_scoreboard_take(&pool, &flows[f], now);
		from[how]++;
		assert_int_equal(how == TOE_SB_FREE, held < BOARDS);
		assert_int_equal(how != TOE_SB_NONE, flows[f] != NULL);
		used[f] = now;
		for (unsigned i = 0; i < FLOWS; i++)
			if (had[i] && flows[i] == NULL) {
				assert_int_equal(how, TOE_SB_OTHER);
				assert_true(now - used[i] + 8 >= TOE_SCOREBOARD_IDLE_MS);
			}
	}
	assert_true(from[TOE_SB_NONE] > 100 && from[TOE_SB_OTHER] > 100);
}

static struct rig *start(void)
{
	static struct rig r;

	rig_prepare(&r)->flags = TOE_INSTALL_SACK;
	rig_start(&r);
	return &r;
}

/* Others have all there are, now or after a while. */
static struct toe_scoreboard *other;

static enum toe_scoreboard_from others_take(struct rig *r, uint32_t later_ms)
{
	rig_later(r, later_ms);
	other = NULL;
	return toe_scoreboard_take(&r->scoreboards, &other, r->now.ms);
}

static void steal(struct rig *r)
{
	assert_int_equal(others_take(r, TOE_SCOREBOARD_IDLE_MS - 16), TOE_SB_NONE);
	assert_non_null(r->fp.sb);
	assert_int_equal(others_take(r, 24), TOE_SB_OTHER);
	assert_null(r->fp.sb);
	toe_scoreboard_give(&r->scoreboards, &other);
}

static void test_only_with_holes(void **state)
{
	struct rig *r = start();

	(void)state;
	rig_data(r, 0, 100);
	assert_null(r->fp.sb);
	rig_data(r, 200, 100);
	assert_non_null(r->fp.sb);
	rig_data(r, 100, 100);
	assert_null(r->fp.sb);
	assert_int_equal(r->fp.rcv_nxt, rig_in(r, 300));
}

/* What was out of order, the FIN included, is not known any more, and has to come again. */
static void test_receiver_forgets(void **state)
{
	struct rig *r = start();
	struct toe_seg fin = rig_seg(r, 200, 100);

	(void)state;
	fin.flags |= F_FIN;
	rig_rx(r, &fin);
	assert_int_equal(r->snap.sack_n, 1);
	steal(r);
	rig_data(r, 0, 200);
	assert_int_equal(r->fp.rcv_nxt, rig_in(r, 200));
	assert_int_equal(r->snap.sack_n, 0);
	assert_false(r->fp.flags & TOE_FP_FIN_RCVD);
	rig_rx(r, &fin);
	assert_int_equal(r->fp.rcv_nxt, rig_in(r, 301));
	assert_true(r->fp.flags & TOE_FP_FIN_RCVD);
	assert_null(r->fp.sb);
}

static void sacked(struct rig *r, uint32_t left, uint32_t right)
{
	rig_sack(r, rig_our_pos(r, r->fp.snd_una), left, right);
}

/* In recovery: it goes on without, and once it has one again resends what is missing. */
static void test_sender_forgets(void **state)
{
	struct rig *r = start();

	(void)state;
	rig_write(r, 8000);
	for (unsigned i = 0; i < 8; i++)
		assert_true(rig_tx(r));
	sacked(r, 1000, 5000);
	assert_true(r->fp.flags & TOE_FP_RECOVERY);
	assert_true(rig_tx(r));
	assert_int_equal(r->snap.pos, 0);
	steal(r);
	sacked(r, 6000, 8000);
	assert_non_null(r->fp.sb);
	assert_int_equal(r->fp.sb->rtx_nxt, r->fp.snd_una);
	rig_ack(r, 8000);
	assert_false(r->fp.flags & TOE_FP_RECOVERY);
	assert_null(r->fp.sb);
}

/* Others have all: what is out of order is dropped, a loss is found by three duplicates. */
static void test_none_left(void **state)
{
	struct rig *r = start();

	(void)state;
	assert_int_equal(others_take(r, 0), TOE_SB_FREE);
	rig_data(r, 200, 100);
	assert_int_equal(r->out.drop, TOE_D_OOO_FULL);
	assert_true(r->out.counted & 1ull << TOE_C_SCOREBOARD_NONE);
	rig_fin(r, 300, 0);
	assert_false(r->fp.flags & TOE_FP_FIN_RCVD);
	rig_sent_ack(r);
	rig_write(r, 8000);
	rig_drain(r);
	for (uint32_t i = 2; i <= 4; i++) {
		assert_false(r->fp.flags & TOE_FP_RECOVERY);
		sacked(r, 1000, i * 1000);
	}
	assert_true(r->fp.flags & TOE_FP_RECOVERY);
	assert_int_equal(r->fp.ssthresh, 4000);
	assert_true(rig_tx(r));
	assert_int_equal(r->snap.pos, 0);
	rig_ack(r, 8000);
	assert_false(r->fp.flags & TOE_FP_RECOVERY);
}

#define CROWD 64u

/* Bulk senders with one pool, each has lost its first segment: bytes sent in recovery, of the one
 * that sends most. */
static uint32_t crowd_sends(unsigned flows)
{
	static struct rig r[CROWD + 8];
	static struct toe_scoreboard boards[CROWD];
	struct toe_scoreboards pool;
	struct toe_rack_pool racks;
	uint32_t sent[CROWD + 8] = {0}, most = 0;

	assert_true(toe_rack_pool_init(&racks, CROWD + 8));
	toe_scoreboards_init(&pool, boards, CROWD);
	for (unsigned i = 0; i < flows; i++) {
		rig_prepare_bulk(&r[i]);
		r[i].racks = &racks;
		r[i].scoreboards_of = &pool;
		rig_start(&r[i]);
		rig_write(&r[i], 2000000);
		rig_drain(&r[i]);
		rig_later(&r[i], 1);
	}
	for (uint32_t k = 2; k <= 40; k++)
		for (unsigned i = 0; i < flows; i++) {
			sacked(&r[i], 1000, k * 1000);
			sent[i] += rig_drain(&r[i]);
			most = proto_max(most, sent[i]);
		}
	toe_rack_pool_fini(&racks);
	return most;
}

static void test_crowd(void **state)
{
	(void)state;
	assert_in_range(crowd_sends(CROWD), 1, 50000);
	assert_in_range(crowd_sends(CROWD + 8), 1, 50000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unused_changes_hands),
		cmocka_unit_test(test_none_left),
		cmocka_unit_test(test_crowd),
		cmocka_unit_test(test_only_with_holes),
		cmocka_unit_test(test_receiver_forgets),
		cmocka_unit_test(test_sender_forgets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
