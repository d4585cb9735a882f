/* SPDX-License-Identifier: BSD-3-Clause */
/* LINK: tests/unit/mqtt_world.h */
/*
 * The MQTT stage against a reference broker: thousands of random interleavings of clients, engine
 * and broker in virtual time, each judged by an oracle (mqtt_world.h).  MQTT_SEEDS=n runs more,
 * MQTT_SEED=s one of them, with what happens printed (MQTT_SHADOW=1: one of shadow mode).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "mqtt_world.h"

#define SEEDS 2000u
#define STEPS 600u

static unsigned env(const char *name, unsigned otherwise)
{
	const char *text = getenv(name);

	return text != NULL ? (unsigned)strtoul(text, NULL, 0) : otherwise;
}

static void run(uint64_t seed, bool shadow)
{
	const struct world_opts o = {
		.seed = seed, .steps = STEPS, .verbose = true, .shadow = shadow};
	const char *wrong = world_run(&o);

	if (wrong != NULL)
		fail_msg("seed %lu: %s", seed, wrong);
}

static void random_interleavings(void **s)
{
	unsigned one = env("MQTT_SEED", 0), n = env("MQTT_SEEDS", SEEDS), bad = 0;

	(void)s;
	if (one != 0) {
		run(one, env("MQTT_SHADOW", 0) != 0);
		return;
	}
	for (unsigned seed = 1; seed <= n; seed++) {
		const struct world_opts o = {.seed = seed, .steps = STEPS};
		const char *wrong = world_run(&o);

		if (wrong != NULL && bad++ < 12)
			print_message("seed %u: %s\n", seed, wrong);
	}
	print_message("%lu messages, %lu fast, %lu delivered (%lu required), %lu deferred\n",
		      world_stats.messages, world_stats.fast, world_stats.delivered,
		      world_stats.required, world_stats.deferred);
	print_message("%lu blocked, %lu unblocked, %lu+%lu dropped, %lu answers dropped\n",
		      world_stats.blocked, world_stats.unblocked, world_stats.drops,
		      world_stats.broker_drops, world_stats.acks_dropped);
	print_message("%lu take-overs, %lu activated, %lu fence waits\n", world_stats.takeovers,
		      world_stats.activated, world_stats.fence_waits);
	print_message("%lu copies dropped (blocked), %lu (unproven)\n", world_stats.blocked_drops,
		      world_stats.unproven_drops);
	print_message("%lu with unfinished jobs, %lu waited, %lu pipelined, %lu in halves, "
		      "%lu resets before CONNACK was read, %lu vanished, %lu wills\n",
		      world_stats.unfinished, world_stats.older_waits, world_stats.pipelined,
		      world_stats.halves, world_stats.resets_unread, world_stats.vanished,
		      world_stats.wills);
	assert_int_equal(bad, 0);
	/* what the model exercises */
	assert_true(world_stats.fast > world_stats.messages / 20);
	assert_true(world_stats.required > n && world_stats.deferred > n / 10);
	assert_true(world_stats.blocked > n / 10 && world_stats.unblocked > n / 10);
	assert_true(world_stats.blocked_drops > n / 50 && world_stats.unproven_drops > n / 50);
	assert_true(world_stats.takeovers > n / 10 && world_stats.fence_waits > n);
	assert_true(world_stats.unfinished > n && world_stats.older_waits > n);
	assert_true(world_stats.pipelined > n && world_stats.halves > n);
	assert_true(world_stats.resets_unread > n && world_stats.wills > n);
	assert_true(world_stats.vanished > n / 4);
}

/* Shadow mode sees no difference to a broker that does what the stage would. */
static void shadow_mode(void **s)
{
	unsigned n = env("MQTT_SEED", 0) != 0 ? 0 : env("MQTT_SEEDS", SEEDS) / 4, bad = 0;
	uint64_t before = world_stats.compared, skipped = world_stats.skipped;

	(void)s;
	for (unsigned seed = 1; seed <= n; seed++) {
		const struct world_opts o = {.seed = seed, .steps = STEPS, .shadow = true};
		const char *wrong = world_run(&o);

		if (wrong != NULL && bad++ < 12)
			print_message("shadow, seed %u: %s\n", seed, wrong);
	}
	print_message("%lu copies compared, %lu skipped\n", world_stats.compared - before,
		      world_stats.skipped - skipped);
	assert_int_equal(bad, 0);
	assert_true(n == 0 || world_stats.compared - before > n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_interleavings),
		cmocka_unit_test(shadow_mode),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
