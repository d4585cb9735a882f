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

/* Random takes and returns: nobody shares one, and the one that loses it has had it longest. */
static void test_oldest_changes_hands(void **state)
{
	static struct toe_scoreboard mem[BOARDS];
	struct toe_scoreboard *flows[FLOWS] = {0};
	struct toe_scoreboards pool;
	unsigned since[FLOWS] = {0};
	uint32_t rnd = 7;

	(void)state;
	toe_scoreboards_init(&pool, mem, BOARDS);
	for (unsigned turn = 1; turn < 20000; turn++) {
		unsigned f = rig_rand(&rnd) % FLOWS, held = 0, oldest = FLOWS;
		bool evicted;

		for (unsigned i = 0; i < FLOWS; i++) {
			assert_true(flows[i] == NULL || holds(&flows[i]));
			held += flows[i] != NULL;
			if (flows[i] != NULL && (oldest == FLOWS || since[i] < since[oldest]))
				oldest = i;
		}
		if (flows[f] != NULL) {
			toe_scoreboard_give(&pool, &flows[f]);
			assert_null(flows[f]);
			continue;
		}
		evicted = toe_scoreboard_take(&pool, &flows[f]);
		assert_int_equal(evicted, held == BOARDS);
		if (evicted)
			assert_null(flows[oldest]);
		assert_true(holds(&flows[f]) && flows[f]->ooo.n == 0 && flows[f]->sacked.n == 0);
		since[f] = turn;
	}
}

static struct rig *start(void)
{
	static struct rig r;

	rig_prepare(&r)->flags = TOE_INSTALL_SACK;
	rig_start(&r);
	return &r;
}

static void steal(struct rig *r)
{
	struct toe_scoreboard *other = NULL;

	assert_true(toe_scoreboard_take(&r->scoreboards, &other));
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
	struct toe_seg seg = rig_seg(r, 0, 0);

	seg.sack_n = 1;
	seg.sack[0].left = rig_our(r, left);
	seg.sack[0].right = rig_our(r, right);
	rig_rx(r, &seg);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_oldest_changes_hands),
		cmocka_unit_test(test_only_with_holes),
		cmocka_unit_test(test_receiver_forgets),
		cmocka_unit_test(test_sender_forgets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
