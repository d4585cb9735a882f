/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Out-of-order interval set against a byte map, over random segments around the wrap of sequence
 * numbers, and the order of recency.
 */
/* LINK: datapath/ooo.c */
#include "proto_rig.h"

#include "ooo.h"

#define SPAN 400u

/* The set says exactly the bytes of the map, in disjoint intervals that do not touch. */
static void check_equal(const struct toe_ooo *o, const uint8_t *map, uint32_t base)
{
	uint8_t seen[SPAN] = {0};
	uint32_t bytes = 0;

	for (uint32_t i = 0; i < o->n; i++) {
		assert_true(seq_lt(o->iv[i].left, o->iv[i].right));
		for (uint32_t s = o->iv[i].left; s != o->iv[i].right; s++) {
			assert_true(s - base < SPAN);
			assert_int_equal(seen[s - base]++, 0);
			bytes++;
		}
		for (uint32_t j = 0; j < i; j++)
			assert_true(o->iv[i].right != o->iv[j].left &&
				    o->iv[i].left != o->iv[j].right);
	}
	assert_memory_equal(seen, map, SPAN);
	assert_int_equal(bytes, toe_ooo_bytes(o));
}

static unsigned runs(const uint8_t *map)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < SPAN; i++)
		n += map[i] && (i == 0 || !map[i - 1]);
	return n;
}

static void random_round(uint32_t seed)
{
	const uint32_t base = 0xffffff00u + seed % 300;
	struct toe_ooo o = {0};
	uint8_t map[SPAN] = {0};
	uint32_t rnd = seed * 2654435761u + 1, nxt = 0;

	for (unsigned step = 0; step < 60; step++) {
		uint32_t l = nxt + 1 + rig_rand(&rnd) % (SPAN - nxt - 2);
		uint32_t r = l + 1 + rig_rand(&rnd) % (SPAN - l < 40 ? SPAN - l : 40);
		uint8_t with[SPAN];

		r = r > SPAN ? SPAN : r;
		memcpy(with, map, SPAN);
		memset(with + l, 1, r - l);
		if (toe_ooo_add(&o, base + l, base + r)) {
			memcpy(map, with, SPAN);
			assert_true(seq_leq(o.iv[0].left, base + l));
			assert_true(seq_geq(o.iv[0].right, base + r));
		} else {
			assert_true(runs(with) > TOE_OOO_MAX);
		}
		check_equal(&o, map, base);
		if (rig_rand(&rnd) % 8 == 0 && nxt < SPAN / 2) {
			uint32_t to = nxt + rig_rand(&rnd) % 30;
			uint32_t want = to;

			while (want < SPAN && map[want])
				want++;
			/* An interval that ends at the edge is reached, too. */
			assert_int_equal(toe_ooo_advance(&o, base + to) - base, want);
			nxt = want;
			memset(map, 0, nxt);
			check_equal(&o, map, base);
			if (nxt + 3 > SPAN)
				return;
		}
	}
}

static void test_random_against_map(void **state)
{
	(void)state;
	for (uint32_t seed = 1; seed <= 2000; seed++)
		random_round(seed);
}

static void test_full_and_recency(void **state)
{
	struct toe_ooo o = {0};

	(void)state;
	for (uint32_t i = 0; i < TOE_OOO_MAX; i++)
		assert_true(toe_ooo_add(&o, 100 + 20 * i, 110 + 20 * i));
	assert_int_equal(o.iv[0].left, 200);
	assert_int_equal(o.iv[5].left, 100);
	assert_false(toe_ooo_add(&o, 220, 221));
	assert_int_equal(o.n, TOE_OOO_MAX);
	assert_true(toe_ooo_touch(&o, 122, 125));
	assert_int_equal(o.iv[0].left, 120);
	assert_int_equal(o.iv[1].left, 200);
	assert_false(toe_ooo_touch(&o, 125, 131));
	assert_true(toe_ooo_add(&o, 110, 120)); /* joins two though the set is full */
	assert_int_equal(o.n, TOE_OOO_MAX - 1);
	assert_int_equal(o.iv[0].left, 100);
	assert_int_equal(o.iv[0].right, 130);
	assert_true(toe_ooo_beyond(&o, 209));
	assert_false(toe_ooo_beyond(&o, 210));
	assert_int_equal(toe_ooo_advance(&o, 90), 90);
	assert_int_equal(toe_ooo_advance(&o, 140), 150);
	assert_int_equal(o.n, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_against_map),
		cmocka_unit_test(test_full_and_recency),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
