/* SPDX-License-Identifier: BSD-3-Clause */
/* LINK: tests/unit/mqtt_broker.h */
/* Many UNSUBACKs that wait for the same fast message: work per turn is bounded. */
#include "mqtt_stage_rig.h"

/* Many wait for one job: they go on when it has ended, a few per turn, in the order they came. */
static void unsubacks_in_turns(void **state)
{
	struct rig r;
	struct pk want = {.n = 0};
	uint32_t id[MQTT_CHUNK + 9], from, answered = 0, ms;

	(void)state;
	rig_start(&r, "#", 1000);
	from = rig_connect(&r, 4, "pub", true, 0);
	for (unsigned i = 0; i < COUNT(id); i++) {
		const char name[3] = {(char)('A' + i / 26), (char)('a' + i % 26), '\0'};

		id[i] = rig_connect(&r, 4, name, true, 0);
		rig_subscribe(&r, id[i], "t", 0, 0);
	}
	rig_forget(&r);
	rig_publish(&want, 4, "t", NULL, "x", 1);
	fake_client_write(r.f, from, want.b, want.n);
	fake_offer(r.f, from, SIZE_MAX);
	assert_int_equal(rig_slow(&r, MQTT_R_FAST), 1);
	for (unsigned i = COUNT(id); i-- > 0;)
		rig_unsubscribed(&r, id[i]);
	pk_raw(&want, "\xb0\x02\x00\x08", 4);
	for (unsigned turns = 0; answered < COUNT(id); turns++) {
		uint32_t before = answered;

		assert_true(turns < 2 + COUNT(id) / MQTT_WAITERS);
		assert_true(mqtt_module.deadline(fake_stream(r.f), &ms));
		assert_int_equal(ms, toe_stream_ms(fake_stream(r.f)));
		assert_int_not_equal(fake_poll(r.f, 1), 0);
		while (answered < COUNT(id) &&
		       bytes_n(&r.got[id[COUNT(id) - 1 - answered]]) == want.n)
			rig_expect(&r, id[COUNT(id) - 1 - answered++], &want);
		assert_true(answered - before <= MQTT_WAITERS);
		assert_true(turns > 0 || answered == 0); /* the job is not through yet */
	}
	rig_stop(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unsubacks_in_turns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
