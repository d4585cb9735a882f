// SPDX-License-Identifier: BSD-3-Clause
/* LINK: datapath/flow_table.c common/log.c */
/* Flow table: add, delete, bulk lookup, full table, reuse after deletion with and without RCU;
 * ports. */
#include <errno.h>
#include <sys/socket.h>

#include "stage_env.h"

#define N 1000u

static struct toe_tuple key_of(uint32_t i)
{
	struct toe_tuple k;

	memset(&k, 0, sizeof(k));
	memcpy(k.remote_addr, &i, sizeof(i));
	k.local_port = 80;
	k.remote_port = (uint16_t)(i * 7);
	return k;
}

static struct toe_flow_ref lookup_ref(const struct toe_flow_table *t, const struct toe_tuple *k)
{
	struct toe_flow_ref ref;

	toe_flow_table_lookup(t, &k, 1, &ref);
	return ref;
}

static uint32_t lookup_one(const struct toe_flow_table *t, const struct toe_tuple *k)
{
	return lookup_ref(t, k).conn;
}

static int at[4 * N]; /* by connection id */

static int add(struct toe_flow_table *t, const struct toe_tuple *k, uint32_t conn)
{
	int pos = toe_flow_table_add(t, k, (struct toe_flow_ref){.conn = conn, .gen = ~conn});

	if (pos < 0)
		return pos;
	at[conn] = pos;
	return 0;
}

static void test_add_lookup_del(void **state)
{
	struct toe_flow_table *t = toe_flow_table_create(N, NULL);
	struct toe_tuple keys[TOE_BURST];
	const struct toe_tuple *p[TOE_BURST];
	struct toe_flow_ref refs[TOE_BURST];
	uint32_t i;

	(void)state;
	assert_non_null(t);
	for (i = 0; i < N; i++) {
		struct toe_tuple k = key_of(i);

		assert_int_equal(lookup_one(t, &k), TOE_NONE);
		assert_int_equal(add(t, &k, i), 0);
		assert_int_equal(add(t, &k, i), -EEXIST);
	}
	keys[0] = key_of(N);
	assert_int_equal(add(t, &keys[0], 0), -ENOSPC);
	for (i = 0; i < TOE_BURST; i++) { /* every third is unknown */
		keys[i] = key_of(i % 3 == 0 ? N + i : i * 11);
		p[i] = &keys[i];
	}
	toe_flow_table_lookup(t, p, TOE_BURST, refs);
	for (i = 0; i < TOE_BURST; i++) {
		assert_int_equal(refs[i].conn, i % 3 == 0 ? TOE_NONE : i * 11);
		assert_true(i % 3 == 0 || refs[i].gen == ~(i * 11));
	}
	for (i = 0; i < N; i++) {
		struct toe_tuple k = key_of(i);

		assert_int_equal(toe_flow_table_del(t, at[i]), 0);
		assert_int_equal(toe_flow_table_del(t, at[i]), -ENOENT);
		assert_int_equal(lookup_one(t, &k), TOE_NONE);
	}
	toe_flow_table_free(t);
}

static void churn(struct toe_flow_table *t, struct rte_rcu_qsbr *v)
{
	uint32_t i, conn;

	for (i = 0; i < N; i++) {
		struct toe_tuple k = key_of(i);

		assert_int_equal(add(t, &k, i), 0);
	}
	/* ids go round many times: deleted entries must become usable again */
	for (i = N; i < 20 * N; i++) {
		struct toe_tuple old = key_of(i - N), k = key_of(i);

		conn = lookup_one(t, &old);
		assert_int_equal(conn, (i - N) % N);
		assert_int_equal(toe_flow_table_del(t, at[conn]), 0);
		if (v != NULL)
			rte_rcu_qsbr_quiescent(v, 0);
		assert_int_equal(add(t, &k, conn), 0);
		assert_int_equal(lookup_one(t, &k), conn);
	}
}

static void test_churn(void **state)
{
	struct toe_flow_table *t = toe_flow_table_create(N, NULL);

	(void)state;
	assert_non_null(t);
	churn(t, NULL);
	toe_flow_table_free(t);
}

static void test_churn_rcu(void **state)
{
	struct rte_rcu_qsbr *v = aligned_alloc(64, rte_rcu_qsbr_get_memsize(2));
	struct toe_flow_table *t;

	(void)state;
	assert_non_null(v);
	assert_int_equal(rte_rcu_qsbr_init(v, 2), 0);
	rte_rcu_qsbr_thread_register(v, 0);
	rte_rcu_qsbr_thread_online(v, 0);
	t = toe_flow_table_create(N, v);
	assert_non_null(t);
	churn(t, v);
	toe_flow_table_free(t);
	free(v);
}

/* A reader that never lets go costs capacity, nothing else; when it does, all is there again. */
static void test_stuck_reader(void **state)
{
	struct rte_rcu_qsbr *v = aligned_alloc(64, rte_rcu_qsbr_get_memsize(2));
	struct toe_flow_table *t;
	uint32_t i, fails = 0;

	(void)state;
	assert_non_null(v);
	assert_int_equal(rte_rcu_qsbr_init(v, 2), 0);
	rte_rcu_qsbr_thread_register(v, 0);
	rte_rcu_qsbr_thread_online(v, 0);
	t = toe_flow_table_create(N, v);
	assert_non_null(t);
	for (i = 0; i < 3 * N; i++) {
		struct toe_tuple k = key_of(i);

		if (add(t, &k, i) != 0)
			fails++;
		else
			assert_int_equal(toe_flow_table_del(t, at[i]), 0);
	}
	assert_true(fails > 0 && fails < 2 * N);
	rte_rcu_qsbr_quiescent(v, 0);
	for (i = 0; i < N; i++) {
		struct toe_tuple k = key_of(i);

		assert_int_equal(add(t, &k, i), 0);
		rte_rcu_qsbr_quiescent(v, 0);
	}
	toe_flow_table_free(t);
	free(v);
}

static void test_ports(void **state)
{
	struct toe_flow_table *t = toe_flow_table_create(16, NULL);

	(void)state;
	assert_non_null(t);
	assert_int_equal(toe_port_get(t, AF_INET, 80), 0);
	toe_port_set(t, AF_INET, 80, TOE_PORT_LISTEN);
	toe_port_set(t, AF_INET6, 80, TOE_PORT_RESERVED);
	toe_port_set(t, AF_INET, 65535, TOE_PORT_RESERVED);
	assert_int_equal(toe_port_get(t, AF_INET, 80), TOE_PORT_LISTEN);
	assert_int_equal(toe_port_get(t, AF_INET6, 80), TOE_PORT_RESERVED);
	assert_int_equal(toe_port_get(t, AF_INET, 65535), TOE_PORT_RESERVED);
	assert_int_equal(toe_port_get(t, AF_INET6, 65535), 0);
	toe_port_set(t, AF_INET, 80, 0);
	assert_int_equal(toe_port_get(t, AF_INET, 80), 0);
	toe_flow_table_free(t);
}

/* 32.1.13.184 and 2001:db8:: are the same 16 bytes. */
static void test_families(void **state)
{
	struct toe_flow_table *t = toe_flow_table_create(16, NULL);
	struct toe_tuple four = {.local_addr = {0x20, 1, 0xd, 0xb8},
				 .remote_addr = {0x20, 1, 0xd, 0xb9},
				 .local_port = 80,
				 .remote_port = 81,
				 .family = AF_INET};
	struct toe_tuple six = four;

	(void)state;
	six.family = AF_INET6;
	assert_int_equal(add(t, &four, 4), 0);
	assert_int_equal(lookup_one(t, &six), TOE_NONE);
	assert_int_equal(add(t, &six, 6), 0);
	assert_int_equal(lookup_one(t, &four), 4);
	assert_int_equal(lookup_one(t, &six), 6);
	assert_int_equal(toe_flow_table_del(t, at[4]), 0);
	assert_int_equal(lookup_one(t, &six), 6);
	toe_flow_table_free(t);
}

static void test_addresses(void **state)
{
	static const uint8_t a[16] = {0x20, 1, [15] = 1}, b[16] = {0x20, 1, [15] = 2}, none[16];
	struct toe_flow_table *t = toe_flow_table_create(16, NULL);

	(void)state;
	assert_false(toe_addr6_ours(t, none));
	toe_addr6_set(t, 1, a);
	assert_true(toe_addr6_ours(t, a));
	assert_false(toe_addr6_ours(t, b));
	assert_false(toe_addr6_ours(t, none));
	toe_addr6_set(t, 1, none);
	assert_false(toe_addr6_ours(t, a));
	toe_flow_table_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_add_lookup_del), cmocka_unit_test(test_churn),
		cmocka_unit_test(test_churn_rcu),      cmocka_unit_test(test_stuck_reader),
		cmocka_unit_test(test_ports),          cmocka_unit_test(test_families),
		cmocka_unit_test(test_addresses),
	};

	return cmocka_run_group_tests(tests, env_eal, NULL);
}
