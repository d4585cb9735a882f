// SPDX-License-Identifier: BSD-3-Clause
/* LINK: */
/*
 * Shared layouts: one writer per cache line, naturally aligned fields, offsets that other builds
 * rely on, and the derived sizes that keeper, engine and libtoe compute each on their own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "toe/abi.h"
#include "toe/cpq.h"
#include "toe/ctl.h"
#include "toe/region.h"

#define LINE_OF(type, field) (offsetof(type, field) / TOE_LINE)

static void test_writer_lines(void **state)
{
	(void)state;
	assert_int_equal(LINE_OF(struct toe_slot, rtx_segs), 0);
	assert_int_equal(LINE_OF(struct toe_slot, tx_tail), 1);
	assert_int_equal(LINE_OF(struct toe_slot, keep_cnt), 1);
	assert_int_equal(LINE_OF(struct toe_slot, doorbell_pending), 2);
	assert_int_equal(LINE_OF(struct toe_slot, ctx_mask), 2);
	assert_int_equal(LINE_OF(struct toe_slot, info_gen), 3);
	assert_int_equal(LINE_OF(struct toe_slot, lib), 4);
	assert_int_equal(LINE_OF(struct toe_listener, cons), 1);
	assert_int_equal(LINE_OF(struct toe_listener, hint_pending), 2);
	assert_int_equal(LINE_OF(struct toe_context, hint_cons), 1);
	assert_int_equal(LINE_OF(struct toe_context, waiting), 2);
	assert_int_not_equal(LINE_OF(struct toe_cpq_hdr, down_prod),
			     LINE_OF(struct toe_cpq_hdr, up_prod));
}

/* 64-bit atomics must not straddle: alignment of every one of them. */
static void test_alignment(void **state)
{
	(void)state;
	assert_int_equal(offsetof(struct toe_slot, hint_pending) % 8, 0);
	assert_int_equal(offsetof(struct toe_slot, ctx_mask) % 8, 0);
	assert_int_equal(offsetof(struct toe_listener, hint_pending) % 8, 0);
	assert_int_equal(offsetof(struct toe_context, waiting) % 8, 0);
	assert_int_equal(offsetof(struct toe_cmd_cc, rate_bps), 0);
	assert_int_equal(sizeof(struct toe_cpq_entry) % 8, 0);
	assert_true(_Alignof(struct toe_slot) == TOE_LINE);
	assert_true(_Alignof(struct toe_flow_prog) == TOE_LINE);
}

static void test_strides(void **state)
{
	(void)state;
	for (uint32_t n = 64; n <= 65536; n *= 2) {
		assert_int_equal(toe_listener_stride(n), 320 + 4ull * n);
		assert_int_equal(toe_listener_stride(n) % TOE_LINE, 0);
		assert_int_equal(toe_context_stride(n, n) % TOE_LINE, 0);
	}
	/* beyond 4 GiB: no 32-bit overflow on the way */
	assert_true(toe_slot_rx_off(65535, 1u << 24, 1u << 24) == 65535ull << 25);
	assert_true(toe_slot_tx_off(3, 4096, 8192) == 3 * 12288ull + 4096);
}

static void test_messages(void **state)
{
	(void)state;
	assert_true(sizeof(((struct toe_ctl_msg *)0)->u) == 256);
	assert_true(sizeof(struct toe_ctl_token) <= 256);
	assert_true(sizeof(struct toe_ctl_engine) <= 256);
	assert_int_equal(offsetof(struct toe_ctl_msg, u), 32);
	assert_true(TOE_CTX_N <= 64 && TOE_WAITER_N <= 64); /* bits of a uint64_t */
}

static void test_fingerprint(void **state)
{
	(void)state;
	assert_int_not_equal(TOE_ABI_FINGERPRINT, 0); /* the build passes one */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_writer_lines), cmocka_unit_test(test_alignment),
		cmocka_unit_test(test_strides),      cmocka_unit_test(test_messages),
		cmocka_unit_test(test_fingerprint),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
