// SPDX-License-Identifier: BSD-3-Clause
/* LINK: common/cpq_layout.c */
/*
 * Headers of the control-plane queue that must not be followed: counts of nothing, offsets that are
 * misaligned, within the header, behind the end, or so large that offset plus length wraps.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/cpq_layout.h"

#define ENTRY_N     8u
#define ENTRY_BYTES 192u
#define RING        ((uint64_t)ENTRY_N * ENTRY_BYTES)
#define CONNS       4u

/* Nothing to spare at the end. */
static struct toe_cpq_hdr good(void)
{
	struct toe_cpq_hdr h = {.conn_n = CONNS,
				.flow_group_n = 2,
				.entry_n = ENTRY_N,
				.entry_bytes = ENTRY_BYTES,
				.off_down = sizeof(h)};

	h.off_up = h.off_down + RING;
	h.off_prog = h.off_up + RING;
	h.off_stat = h.off_prog + CONNS * sizeof(struct toe_flow_prog);
	h.total_bytes = h.off_stat + toe_cpq_stat_bytes(&h);
	return h;
}

static void test_good(void **state)
{
	struct toe_cpq_hdr h = good();

	(void)state;
	assert_true(toe_cpq_stat_bytes(&h) ==
		    (uint64_t)CONNS * TOE_FLOW_STAT_REPLICAS * sizeof(struct toe_flow_stat));
	assert_true(toe_cpq_layout_ok(&h, h.total_bytes));
	assert_true(toe_cpq_layout_ok(&h, h.total_bytes + 4096));
}

static void test_too_long(void **state)
{
	struct toe_cpq_hdr h = good();
	uint64_t file = h.total_bytes;

	(void)state;
	assert_false(toe_cpq_layout_ok(&h, file - 1)); /* the file was cut */
	h.total_bytes = UINT64_MAX;
	assert_false(toe_cpq_layout_ok(&h, file));
	h = good();
	h.total_bytes -= TOE_LINE; /* the last part is in the file, but not the queue's */
	assert_false(toe_cpq_layout_ok(&h, file));
	h = good();
	h.conn_n = UINT32_MAX;
	assert_false(toe_cpq_layout_ok(&h, file));
	h = good();
	h.entry_n = 1u << 31;
	assert_false(toe_cpq_layout_ok(&h, file));
	h = good();
	h.off_stat += TOE_LINE; /* room in the file does not count */
	assert_false(toe_cpq_layout_ok(&h, file + 4096));
}

static void test_counts(void **state)
{
	static const uint32_t entry_n[] = {0, 3, ENTRY_N - 1};
	static const uint32_t entry_bytes[] = {0, 64, 128, 150, ENTRY_BYTES - 1};
	struct toe_cpq_hdr h = good();
	uint64_t file = h.total_bytes;

	(void)state;
	for (unsigned i = 0; i < sizeof(entry_n) / sizeof(entry_n[0]); i++) {
		h = good();
		h.entry_n = entry_n[i];
		assert_false(toe_cpq_layout_ok(&h, file));
	}
	for (unsigned i = 0; i < sizeof(entry_bytes) / sizeof(entry_bytes[0]); i++) {
		h = good();
		h.entry_bytes = entry_bytes[i];
		assert_false(toe_cpq_layout_ok(&h, file));
	}
	h = good();
	h.conn_n = 0;
	assert_false(toe_cpq_layout_ok(&h, file));
	h = good();
	h.flow_group_n = 0;
	assert_false(toe_cpq_layout_ok(&h, file));
	h.flow_group_n = CONNS + 1;
	assert_false(toe_cpq_layout_ok(&h, file));
}

static void test_offsets(void **state)
{
	static const size_t at[] = {
		offsetof(struct toe_cpq_hdr, off_down), offsetof(struct toe_cpq_hdr, off_up),
		offsetof(struct toe_cpq_hdr, off_prog), offsetof(struct toe_cpq_hdr, off_stat)};
	struct toe_cpq_hdr h = good();
	const uint64_t file = h.total_bytes;
	const uint64_t bad[] = {
		0,
		sizeof(h) - TOE_LINE,
		sizeof(h) + 8,
		file,
		file - TOE_LINE, /* nothing is as short as one line */
		file + TOE_LINE,
		1ull << 63,
		UINT64_MAX - TOE_LINE + 1, /* offset plus length is small again */
		0 - RING,
		UINT64_MAX,
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		for (unsigned k = 0; k < sizeof(bad) / sizeof(bad[0]); k++) {
			h = good();
			*(uint64_t *)((uint8_t *)&h + at[i]) = bad[k];
			assert_false(toe_cpq_layout_ok(&h, file));
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_too_long),
		cmocka_unit_test(test_counts),
		cmocka_unit_test(test_offsets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
