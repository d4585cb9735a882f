// SPDX-License-Identifier: BSD-3-Clause
/* LINK: datapath/hostmem.c datapath/hostmem_memcpy.c datapath/hostmem_dmadev.c datapath/apps.c
 * datapath/sigbus.c common/closer.c common/log.c */
/* hostmem: both backends, order of completion, bounds, full queue, applications that leave. */
#include "hostmem.h"
#include "host_rig.h"

static const char *const backend_name[] = {"memcpy", "dmadev"};

static struct toe_hostmem *open_queue(int backend)
{
	struct toe_hostmem *h;

	rig_engine(4, 0);
	rig_attach(3);
	h = toe_hostmem_open(&env.engine, backend_name[backend], 64);
	assert_non_null(h);
	return h;
}

static void close_queue(struct toe_hostmem *h)
{
	toe_hostmem_close(h);
	rig_stop();
}

/* Polls until n cookies have come; they must be first, first + 1, ... */
static void expect_cookies(struct toe_hostmem *h, uintptr_t first, unsigned n)
{
	void *got[16];

	for (unsigned done = 0, tries = 0; done < n; tries++) {
		unsigned k = toe_hostmem_poll(h, got, 16);

		assert_true(tries < 10000000);
		for (unsigned i = 0; i < k; i++)
			assert_int_equal((uintptr_t)got[i], first + done + i);
		done += k;
	}
}

static void there_and_back(int backend)
{
	struct toe_hostmem *h = open_queue(backend);
	struct toe_app *a = toe_app_get(&env.engine, 3);
	static uint8_t out[1500], in[1500];
	struct toe_hostmem_op op = {.app_id = 3,
				    .dir = TOE_TO_HOST,
				    .segment = TOE_SEG_PAYLOAD,
				    .len = sizeof(out),
				    .offset = 777,
				    .local = out,
				    .cookie = (void *)1};

	for (unsigned i = 0; i < sizeof(out); i++)
		out[i] = (uint8_t)(i * 13);
	assert_int_equal(toe_hostmem_submit(h, &op), 0);
	assert_int_equal(toe_hostmem_inflight(h), 1);
	expect_cookies(h, 1, 1);
	assert_int_equal(toe_hostmem_inflight(h), 0);
	assert_memory_equal(a->payload + 777, out, sizeof(out));
	op.dir = TOE_FROM_HOST;
	op.local = in;
	op.fence = true;
	assert_int_equal(toe_hostmem_submit(h, &op), 0);
	expect_cookies(h, 1, 1);
	assert_memory_equal(in, out, sizeof(out));
	/* words */
	*(uint64_t *)(a->control + 64) = 0x1122334455667788u;
	memset(in, 0, 8);
	op = (struct toe_hostmem_op){.app_id = 3,
				     .dir = TOE_FROM_HOST,
				     .segment = TOE_SEG_CONTROL,
				     .len = 8,
				     .offset = 64,
				     .local = in,
				     .cookie = (void *)9};
	assert_int_equal(toe_hostmem_submit(h, &op), 0);
	expect_cookies(h, 9, 1);
	assert_memory_equal(in, a->control + 64, 8);
	/* three of them, and no byte more */
	memset(a->control + 64, 0x55, 16);
	memset(in, 0, 16);
	op.len = 12;
	assert_int_equal(toe_hostmem_submit(h, &op), 0);
	expect_cookies(h, 9, 1);
	assert_memory_equal(in, a->control + 64, 12);
	assert_int_equal(in[12], 0);
	close_queue(h);
}

static void test_memcpy(void **state)
{
	(void)state;
	there_and_back(0);
}

static void test_dmadev(void **state)
{
	(void)state;
	there_and_back(1);
}

static void test_bounds(void **state)
{
	struct toe_hostmem *h = open_queue(0);
	struct toe_app *a = toe_app_get(&env.engine, 3);
	uint8_t byte[16];
	struct toe_hostmem_op op = {.app_id = 3,
				    .dir = TOE_TO_HOST,
				    .segment = TOE_SEG_PAYLOAD,
				    .len = 16,
				    .offset = a->payload_bytes - 15,
				    .local = byte};

	(void)state;
	assert_int_equal(toe_hostmem_submit(h, &op), -ERANGE);
	op.offset = UINT64_MAX - 3;
	assert_int_equal(toe_hostmem_submit(h, &op), -ERANGE);
	op.offset = a->payload_bytes;
	assert_int_equal(toe_hostmem_submit(h, &op), -ERANGE);
	op.app_id = 4;
	assert_int_equal(toe_hostmem_submit(h, &op), -ESRCH);
	op.app_id = UINT32_MAX;
	assert_int_equal(toe_hostmem_submit(h, &op), -ESRCH);
	op.app_id = 3;
	op.offset = 0;
	a->evicted = true;
	assert_int_equal(toe_hostmem_submit(h, &op), -ESRCH);
	a->evicted = false;
	assert_int_equal(toe_hostmem_inflight(h), 0);
	close_queue(h);
	rig_engine(4, 0);
	assert_null(toe_hostmem_open(&env.engine, "carrier pigeon", 64));
	assert_int_equal(errno, EINVAL);
	rig_stop();
}

static void full_queue(int backend)
{
	struct toe_hostmem *h = open_queue(backend);
	struct toe_app *a = toe_app_get(&env.engine, 3);
	static uint8_t out[4000];
	struct toe_hostmem_op op = {.app_id = 3,
				    .dir = TOE_TO_HOST,
				    .segment = TOE_SEG_PAYLOAD,
				    .len = sizeof(out),
				    .local = out};
	unsigned n = 0;
	int rc;

	for (;; n++) {
		op.cookie = (void *)(uintptr_t)(n + 1);
		rc = toe_hostmem_submit(h, &op);
		if (rc != 0)
			break;
	}
	assert_int_equal(rc, -EAGAIN);
	assert_true(n >= 32 && n <= 64);
	assert_int_equal(a->copies, backend == 1 ? n : 0);
	expect_cookies(h, 1, n);
	assert_int_equal(a->copies, 0);
	assert_int_equal(toe_hostmem_submit(h, &op), 0);
	expect_cookies(h, n + 1, 1);
	/* closing gives back what was never polled, so that the application can go */
	assert_int_equal(toe_hostmem_submit(h, &op), 0);
	toe_hostmem_close(h);
	assert_int_equal(a->copies, 0);
	assert_int_equal(toe_app_detach(&env.engine, 3), 0);
	rig_stop();
}

static void test_full_memcpy(void **state)
{
	(void)state;
	full_queue(0);
}

static void test_full_dmadev(void **state)
{
	(void)state;
	full_queue(1);
}

/* One device per queue. */
static void test_no_device_left(void **state)
{
	struct toe_hostmem *h = open_queue(1);

	(void)state;
	assert_null(toe_hostmem_open(&env.engine, "dmadev", 64));
	assert_int_equal(errno, ENODEV);
	close_queue(h);
	h = open_queue(1);
	close_queue(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memcpy),      cmocka_unit_test(test_dmadev),
		cmocka_unit_test(test_bounds),      cmocka_unit_test(test_full_memcpy),
		cmocka_unit_test(test_full_dmadev), cmocka_unit_test(test_no_device_left),
	};

	return cmocka_run_group_tests(tests, rig_eal, NULL);
}
