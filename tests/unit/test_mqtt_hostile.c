/* SPDX-License-Identifier: BSD-3-Clause */
/* LINK: tests/unit/mqtt_fake.c tests/unit/mqtt_fake_api.c
 *       tests/unit/mqtt_broker.c tests/unit/mqtt_broker_out.c
 *       modules/mqtt/mqtt_stage.c modules/mqtt/mqtt_rx.c
 *       modules/mqtt/mqtt_tx.c modules/mqtt/mqtt_session.c modules/mqtt/mqtt_decide.c
 *       modules/mqtt/mqtt_fanout.c modules/mqtt/mqtt_fence.c modules/mqtt/mqtt_control.c
 *       modules/mqtt/mqtt_framer.c modules/mqtt/mqtt_props.c modules/mqtt/mqtt_publish.c
 *       modules/mqtt/mqtt_wire.c modules/mqtt/mqtt_subs.c modules/mqtt/mqtt_subs_trie.c
 *       modules/mqtt/mqtt_subs_cache.c modules/mqtt/mqtt_subs_arena.c datapath/stream_mem.c
 *       datapath/stream_extq.c common/log.c */
/* The MQTT stage and clients who want to harm the others: memory taken with few bytes, waits that
 * shall not end, work out of proportion. */
#include "mqtt_stage_rig.h"

/* A subscriber falls behind, catches up, and then does not read on: a publisher whose copy waits
 * for it goes on after a second, and is not held by that copy's end later. */
static void reader_that_stops(void **state)
{
	static char fill[(1u << 20) + 1] = {0x30, (char)0xff, (char)0xff, 0x7f};
	struct pk p = {.n = 0}, q = {.n = 0};
	uint32_t from, to;
	struct rig r;

	(void)state;
	rig_start(&r, "#", 1000);
	from = rig_connect(&r, 4, "pub", true, 0);
	to = rig_connect(&r, 4, "sub", true, 0);
	rig_subscribe(&r, to, "t", 0, 0);
	rig_run(&r);
	rig_publish(&p, 4, "t", NULL, "1", 1);
	fake_client_write(r.f, from, p.b, p.n);
	fake_offer(r.f, from, SIZE_MAX);
	fake_app_write(r.f, to, fill, sizeof(fill)); /* one byte too many */
	fake_hc(r.f);
	fake_poll(r.f, 64);
	assert_int_equal(rig_conn(&r, from)->held, 1);
	/* as a proof would, and the copy's place has not come */
	rig_conn(&r, to)->blocked = 0;
	mqtt_list_del(rig_stage(&r), rig_conn(&r, to), MQTT_L_BLOCKED);
	rig_publish(&q, 4, "t", NULL, "2", 1);
	q.b[0] |= 1;
	fake_client_write(r.f, from, q.b, q.n);
	fake_offer(r.f, from, SIZE_MAX);
	assert_int_equal(fake_app_unread(r.f, from), 0);
	fake_time(r.f, MQTT_HELD_MS);
	fake_poll(r.f, 64);
	assert_int_equal(fake_app_unread(r.f, from), q.n);
	fake_close(r.f, to);
	assert_int_equal(rig_conn(&r, from)->held, 0);
	fake_client_write(r.f, from, q.b, q.n);
	fake_offer(r.f, from, SIZE_MAX);
	assert_int_equal(fake_app_unread(r.f, from), 2 * q.n);
	rig_stop(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reader_that_stops),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
