/* SPDX-License-Identifier: BSD-3-Clause */
/* Which received segments are answered by an ACK of their own, and which later. */
/* LINK: tests/unit/proto_bench.h */
#include "proto_bench.h"

/* Which of the items sends an ACK, as bits. */
static uint32_t acks(unsigned n)
{
	uint32_t bits = 0;

	for (unsigned i = 0; i < n; i++)
		bits |= pipe.post[i]->todo & TOE_TODO_TX ? 1u << i : 0u;
	return bits;
}

static void test_ack_thinning(void **state)
{
	struct bench b;

	(void)state;
	bench_init(&b);
	bench_install(&b, 1, 1);
	bench_install(&b, 2, 1);
	for (uint32_t i = 0; i < 10; i++)
		bench_data(&b, 1, i * 100, 0);
	bench_run(&b);
	assert_int_equal(acks(10), 1u << 3 | 1u << 7 | 1u << 9);
	assert_int_equal(b.counters[TOE_C_SEGS_ACK_TX], 3);
	bench_data(&b, 1, 1000, 0); /* two connections interleaved */
	bench_data(&b, 2, 0, 0);
	bench_data(&b, 1, 1100, 0);
	bench_data(&b, 2, 100, 0);
	bench_run(&b);
	assert_int_equal(acks(4), 0xc);
	bench_data(&b, 1, 1200, 0);
	bench_data(&b, 1, 1400, 0); /* hole */
	bench_data(&b, 1, 1300, 0); /* filled */
	bench_data(&b, 1, 1500, 0);
	bench_data(&b, 1, 1600, 0);
	bench_run(&b);
	assert_int_equal(acks(5), 0x17);
	b.proto[1].flags |= TOE_FP_ECN;
	bench_data(&b, 1, 1700, 2);
	bench_data(&b, 1, 1800, 2); /* last before the mark: answered with the old state */
	bench_data(&b, 1, 1900, 3);
	bench_data(&b, 1, 2000, 3);
	bench_run(&b);
	assert_int_equal(acks(4), 0xa);
	assert_false(pipe.post[1]->snap.flags & F_ECE);
	assert_true(pipe.post[3]->snap.flags & F_ECE);
	bench_fini(&b);
}

/* RFC 7323 §4.3: the oldest of what an ACK is for; also if data takes it along. */
static void test_thinned_timestamp(void **state)
{
	struct bench b;
	struct toe_flow_proto *fp = &b.proto[1];

	(void)state;
	bench_init(&b);
	bench_install(&b, 1, 1);
	fp->flags |= TOE_FP_TS;
	for (uint32_t i = 0; i < 10; i++)
		bench_data_ts(&b, 1, i * 100, 201 + i);
	bench_run(&b);
	assert_int_equal(acks(10), 1u << 3 | 1u << 7 | 1u << 9);
	assert_int_equal(pipe.post[3]->snap.ts_ecr, 201);
	assert_int_equal(pipe.post[7]->snap.ts_ecr, 205);
	assert_int_equal(pipe.post[9]->snap.ts_ecr, 209);
	fp->tx_tail += 10;
	bench_data_ts(&b, 1, 1000, 301);
	bench_data_ts(&b, 1, 1100, 302);
	bench_add(&b, TOE_WORK_TX, 1, 1);
	bench_data_ts(&b, 1, 1200, 303);
	bench_run(&b);
	assert_int_equal(acks(4), 0xc);
	assert_int_equal(pipe.post[2]->snap.len, 10);
	assert_int_equal(pipe.post[2]->snap.ts_ecr, 301);
	assert_int_equal(pipe.post[3]->snap.ts_ecr, 303);
	bench_fini(&b);
}

/* A request and its answer, as an echo server gives it. */
static void bench_turn(struct bench *b, uint32_t turn)
{
	struct toe_flow_proto *fp = &b->proto[1];

	bench_data(b, 1, turn * 100, 0);
	bench_run(b);
	fp->tx_tail += 10;
	fp->ctl |= TOE_CTL_NODELAY;
	bench_add(b, TOE_WORK_TX, 1, fp->gen);
	bench_run(b);
	assert_int_equal(pipe.post[0]->snap.len, 10);
	assert_int_equal(pipe.post[0]->snap.ack, fp->rcv_nxt);
}

static void test_delayed_ack(void **state)
{
	struct bench b;

	(void)state;
	bench_init(&b);
	bench_install(&b, 1, 7);
	for (uint32_t i = 0; i < 3; i++)
		bench_turn(&b, i); /* not trusted to answer yet: three ACKs of their own */
	assert_int_equal(b.counters[TOE_C_SEGS_ACK_TX], 3);
	for (uint32_t i = 3; i < 10; i++)
		bench_turn(&b, i); /* the answer carries the ACK */
	assert_int_equal(b.counters[TOE_C_SEGS_ACK_TX], 3);
	assert_true(toe_stage_proto.deadline(&b.stage) == UINT64_MAX);

	bench_data(&b, 1, 1000, 0);
	bench_data(&b, 1, 1100, 0); /* the second one is acknowledged at once, with the first */
	bench_run(&b);
	assert_int_equal(acks(2), 2);
	bench_data(&b, 1, 1200, 0); /* nobody answers */
	bench_run(&b);
	assert_int_equal(acks(1), 0);
	assert_true(toe_stage_proto.deadline(&b.stage) != UINT64_MAX);
	memset(&pipe, 0, offsetof(typeof(pipe), now));
	pipe.now.ms += PROTO_DELACK_MS - 1;
	assert_int_equal(toe_stage_proto.poll(&b.stage, 32), 0);
	pipe.now.ms++;
	no_items = true;
	assert_int_equal(toe_stage_proto.poll(&b.stage, 32), 0);
	no_items = false;
	assert_int_equal(b.drops[TOE_D_NO_ITEM], 1);
	assert_int_equal(toe_stage_proto.poll(&b.stage, 32), 1);
	assert_int_equal(pipe.posts, 1);
	assert_int_equal(pipe.post[0]->todo, TOE_TODO_TX);
	assert_int_equal(pipe.post[0]->snap.ack, b.proto[1].rcv_nxt);
	assert_int_equal(toe_stage_proto.poll(&b.stage, 32), 0);
	bench_data(&b, 1, 1300, 0); /* trust is gone: acknowledged at once */
	bench_run(&b);
	assert_int_equal(acks(1), 1);
	bench_fini(&b);
}

/* RFC 7323 §4.3: the peer measures how long its data waited for an ACK, also for a late one. */
static void test_delayed_ack_timestamp(void **state)
{
	struct bench b;
	struct toe_flow_proto *fp = &b.proto[1];

	(void)state;
	bench_init(&b);
	bench_install(&b, 1, 7);
	fp->flags |= TOE_FP_TS;
	fp->pingpong = PROTO_PINGPONG;
	bench_data_ts(&b, 1, 0, 201);
	bench_run(&b);
	assert_int_equal(acks(1), 0);
	bench_data_ts(&b, 1, 100, 202); /* acknowledged at once, with the first */
	bench_run(&b);
	assert_int_equal(acks(1), 1);
	assert_int_equal(pipe.post[0]->snap.ack, fp->rcv_nxt);
	assert_int_equal(pipe.post[0]->snap.ts_ecr, 201);
	bench_data_ts(&b, 1, 200, 203);
	bench_run(&b);
	assert_int_equal(acks(1), 0);
	fp->tx_tail += 10;
	bench_add(&b, TOE_WORK_TX, 1, 7); /* the answer carries the ACK */
	bench_run(&b);
	assert_int_equal(pipe.post[0]->snap.ts_ecr, 203);
	bench_data_ts(&b, 1, 300, 204);
	bench_run(&b);
	assert_int_equal(fp->ts_recent, 204); /* nothing waits any more */
	bench_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ack_thinning),
		cmocka_unit_test(test_thinned_timestamp),
		cmocka_unit_test(test_delayed_ack),
		cmocka_unit_test(test_delayed_ack_timestamp),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
