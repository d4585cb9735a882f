// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/sim/sim.h tests/unit/mqtt_module.h datapath/hostmem_dmadev.c */
/* Memory of the whole engine with a thousand subscribers: one copy of a message, however many wait
 * for it; what a client costs that does nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define SIM_OWN_PORT
#define SIM_SLOTS  2048u
#define SIM_CONNS  4096u
#define SIM_ITEMS  4095u
#define SIM_MBUFS  16383u
#define SIM_CACHE  256u
#define SIM_MEM_MB "256"
#include "../../bench/mqtt_engine_peer.h"
#include "datapath/stream_priv.h"
#include "modules/mqtt/mqtt_stage.h"

#define SUBSCRIBERS 1000u
#define MESSAGE     (1u << 20) /* bytes of payload */
#define MIB         (1u << 20)

static size_t used(void)
{
	struct toe_stage *s;

	for (unsigned i = 0; (s = toe_pipeline_stage(sim.engine.pipeline, i)) != NULL; i++) {
		if (s->ops->id == TOE_STAGE_STREAM)
			return toe_stream_mem_used(&((struct stream_core *)s->priv)->modules[0]);
	}
	fail();
	return 0;
}

/* Until messages are fast. */
static void prove(void)
{
	for (unsigned tries = 0; tries < 1000; tries++) {
		uint64_t goal = bench.copies + SUBSCRIBERS;

		bench_publish(1);
		bench_until_idle();
		if (bench.copies == goal)
			return;
	}
	fail();
}

/* What a client costs that does nothing: its records, of which sessions have two for each
 * connection, and its share of the arena. */
static void test_idle(void **state)
{
	size_t fixed = sizeof(struct toe_stream_conn) + sizeof(struct mqtt_conn) +
		       2 * (sizeof(struct mqtt_session) + sizeof(uint32_t));
	size_t each;

	(void)state;
	prove();
	each = fixed + used() / (SUBSCRIBERS + 1);
	print_message("an idle client: %zu bytes, %zu of them in the arena\n", each, each - fixed);
	assert_true(each <= 1024);
}

static void publish_large(void)
{
	static uint8_t packet[MQTT_FIXED_MAX + 2 + sizeof(BENCH_TOPIC) + MESSAGE];
	const uint32_t topic = sizeof(BENCH_TOPIC) - 1, body = 2 + topic + MESSAGE;
	size_t at = mqtt_fixed_encode(packet, MQTT_PUBLISH << 4, body);
	size_t len = at + body;

	packet[at + 1] = (uint8_t)topic;
	memcpy(packet + at + 2, BENCH_TOPIC, topic);
	for (at = 0; at < len;) {
		size_t n = RTE_MIN(len - at, (size_t)BENCH_MSS);

		bench_send(SUBSCRIBERS, packet + at, (uint16_t)n);
		bench_turn();
		at += n;
	}
}

/* While nobody acknowledges anything, all of it is held for all. */
static void test_one_copy(void **state)
{
	size_t before, most = 0;
	uint64_t slow = bench.slow, bytes;

	(void)state;
	prove();
	before = used();
	bench.hold_acks = true;
	for (uint32_t i = 0; i <= SUBSCRIBERS; i++)
		bench.peer[i].packets_from = 0;
	bytes = bench.frames;
	publish_large();
	for (unsigned i = 0; i < 20000; i++) {
		bench_turn();
		most = RTE_MAX(most, used());
	}
	assert_int_equal(bench.slow, slow);
	assert_true(bench.frames - bytes >= SUBSCRIBERS); /* it is under way to all */
	print_message("1 MiB for %u: %zu bytes\n", SUBSCRIBERS, most - before);
	assert_true(most - before > MESSAGE && most <= 16 * MIB);
	bench.hold_acks = false;
	for (unsigned i = 0; i < 1000000 && used() > before; i++)
		bench_turn();
	assert_true(used() <= before); /* freed by the last acknowledgement */
	for (uint32_t i = 0; i < SUBSCRIBERS; i++)
		assert_true(bench.peer[i].rcvd > MESSAGE);
}

static int start(void **state)
{
	(void)state;
	bench.message_max = 2 * MIB;
	bench_start(SUBSCRIBERS);
	return 0;
}

static int stop(void **state)
{
	(void)state;
	bench_stop();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_idle),
		cmocka_unit_test(test_one_copy),
	};

	if (sim_eal(NULL) != 0 || bench_pool() != 0)
		return 1;
	return cmocka_run_group_tests(tests, start, stop);
}
