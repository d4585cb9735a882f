/* SPDX-License-Identifier: BSD-3-Clause */
/* What the control plane throws away has a name each: no segment and no ICMP error just vanishes.
 */
/* LINK: tests/unit/cp_rig.h */
#include "cp_rig.h"

static uint64_t counted(enum cp_counter c)
{
	return rig.st->counters[c];
}

static void to_and_from_nobody(void **state)
{
	static const uint8_t group_mac[6] = {3, 0, 0, 0, 0, 2};
	struct cp_build b = rig_client(5000, CP_TCP_SYN);

	(void)state;
	rig_listen(8);
	b.dst_mac = peer_mac;
	rig_rx(&b);
	assert_int_equal(counted(CP_CNT_frames_martian), 1);
	b.dst_mac = rig_mac;
	b.src_mac = group_mac;
	rig_rx(&b);
	assert_int_equal(counted(CP_CNT_frames_martian), 2);
	b = rig_client(0, CP_TCP_SYN);
	rig_rx(&b);
	assert_int_equal(counted(CP_CNT_frames_martian), 3);
	b = rig_client(5000, CP_TCP_SYN);
	rig_rx(&b);
	assert_int_equal(counted(CP_CNT_frames_martian), 3);
	assert_int_equal(counted(CP_CNT_syn_received), 1);
}

static void not_ours_any_more(void **state)
{
	struct cp_build b = rig_client(5000, CP_TCP_SYN);
	uint32_t l = rig_listen(8);

	(void)state;
	b.t = rig_tuple(2, 5000, 7, RIG_PORT); /* another address */
	rig_rx(&b);
	assert_int_equal(counted(CP_CNT_frames_not_ours), 1);
	cp_listener_close(&rig.cp, 0, l);
	b = rig_client(5000, CP_TCP_SYN);
	rig_rx(&b);
	assert_int_equal(counted(CP_CNT_frames_not_ours), 1);
	assert_int_equal(counted(CP_CNT_to_kernel), 1);
	assert_int_equal(rig_count(TOE_CMD_FRAME_TAP), 1);
	assert_int_equal(rig_count(TOE_CMD_FRAME_TX), 0);
}

static void of_connections(void **state)
{
	struct cp_build b = rig_client(5000, CP_TCP_ACK);
	uint32_t id;

	(void)state;
	rig_listen(8);
	id = rig_accept(5000);
	for (unsigned i = 0; i < CP_REINJECT_MAX; i++)
		rig_rx(&b);
	assert_int_equal(counted(CP_CNT_reinjected), CP_REINJECT_MAX);
	assert_int_equal(counted(CP_CNT_reinject_spent), 0);
	rig_rx(&b);
	assert_int_equal(counted(CP_CNT_reinject_spent), 1);
	cp_conn_remove(&rig.cp, id);
	rig_rx(&b);
	assert_int_equal(counted(CP_CNT_frames_removing), 1);
	assert_int_equal(counted(CP_CNT_reinject_spent), 1);
}

static void put_sum(const uint8_t *p, uint32_t n, uint8_t *at)
{
	uint32_t sum = 0;

	at[0] = at[1] = 0;
	for (uint32_t i = 0; i < n; i += 2)
		sum += (uint32_t)(p[i] << 8 | p[i + 1]);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = ~((sum & 0xffff) + (sum >> 16));
	at[0] = (uint8_t)(sum >> 8);
	at[1] = (uint8_t)sum;
}

/* "Host unreachable" about what we sent to the client on that port. */
static void icmp_event(uint16_t port, bool damaged)
{
	struct {
		struct toe_cpq_entry e;
		uint8_t f[14 + 56];
	} in = {.e = {.type = TOE_EV_ICMP, .len = sizeof(in.f)}};
	struct cp_build b = rig_client(port, CP_TCP_ACK);
	uint8_t *ip = in.f + 14, *icmp = ip + 20, quoted[CP_FRAME_MAX];

	b.t = rig_tuple(1, RIG_PORT, 2, port);
	cp_frame_build(quoted, &b);
	in.f[12] = 8;
	ip[0] = 0x45;
	ip[3] = 56;
	ip[8] = 64;
	ip[9] = 1;
	put_sum(ip, 20, ip + 10);
	icmp[0] = 3;
	icmp[1] = 1;
	memcpy(icmp + 8, quoted + 14, 28);
	put_sum(icmp, 36, icmp + 2);
	icmp[2] ^= damaged;
	cp_event(&rig.cp, &in.e);
}

static void icmp_errors(void **state)
{
	struct cp_build b;

	(void)state;
	rig_listen(8);
	rig_accept(5000);
	icmp_event(5000, false);
	assert_int_equal(counted(CP_CNT_icmp_errors), 1);
	icmp_event(5000, true);
	assert_int_equal(counted(CP_CNT_icmp_bad), 1);
	b = rig_client(5001, CP_TCP_SYN);
	rig_rx(&b);
	icmp_event(5001, false);
	assert_int_equal(counted(CP_CNT_icmp_no_conn), 1);
	assert_int_equal(counted(CP_CNT_to_kernel), 0);
	icmp_event(5002, false);
	assert_int_equal(counted(CP_CNT_to_kernel), 1);
	assert_int_equal(rig_count(TOE_CMD_FRAME_TAP), 1);
	assert_int_equal(counted(CP_CNT_icmp_errors), 1);
}

#define WITH_RIG(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_RIG(to_and_from_nobody),
		WITH_RIG(not_ours_any_more),
		WITH_RIG(of_connections),
		WITH_RIG(icmp_errors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
