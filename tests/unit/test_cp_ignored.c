/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Nothing is thrown away without a name: in every state that the control plane has segments for,
 * each kind of segment either makes it do something or is counted.
 */
/* LINK: tests/unit/cp_rig.h */
#define RIG_CMDS 64u /* it is cleared thousands of times */
#include "cp_rig.h"

#define FAR 10000000u

static struct cp_seg last_sent(const struct cp_build *b)
{
	rig_rx(b);
	return rig_sent();
}

static void to_listener(struct cp_build *b)
{
	rig_listen(8);
	*b = rig_client(5001, 0);
	b->ack = 77;
}

static void to_half(struct cp_build *b)
{
	struct cp_build syn = rig_client(5001, CP_TCP_SYN);

	rig_listen(8);
	*b = rig_client(5001, 0);
	b->ack = last_sent(&syn).seq + 1;
	b->seq = 1001;
}

static int route_by_gateway(void *ctx, const struct cp_addr *dst, struct cp_route *r)
{
	struct cp_addr us = rig_addr(1);

	(void)ctx;
	*r = (struct cp_route){
		.next_hop = rig_addr(8), .via_port = true, .local = cp_addr_same(dst, &us)};
	return 0;
}

static void to_half_without_hop(struct cp_build *b)
{
	struct cp_build syn = rig_client(5001, CP_TCP_SYN);

	rig.cp.io.route = route_by_gateway;
	rig.neigh_err = -EAGAIN;
	rig_listen(8);
	rig_rx(&syn);
	assert_int_equal(rig.cp.half_list.n, 1);
	assert_int_equal(rig_count(TOE_CMD_FRAME_TX), 0);
	*b = rig_client(5001, 0);
	b->ack = rig.cp.half[rig.cp.half_list.head].iss + 1;
	b->seq = 1001;
}

static void to_syn_sent(struct cp_build *b)
{
	struct cp_seg syn;

	rig_connect(4);
	syn = rig_sent();
	*b = rig_server(&syn, CP_TCP_ACK);
}

static void to_syn_received(struct cp_build *b)
{
	struct cp_build open;
	struct cp_seg syn;

	rig_connect(4);
	syn = rig_sent();
	open = rig_server(&syn, CP_TCP_SYN);
	open.ack = 0;
	rig_rx(&open);
	*b = rig_server(&syn, CP_TCP_ACK);
	b->seq = open.seq + 1;
}

static void to_time_wait(struct cp_build *b)
{
	struct toe_ev_conn ev = {.ts_recent = 5000,
				 .flags = TOE_PROG_FIN_FIRST | TOE_PROG_FIN_ACKED |
					  TOE_PROG_FIN_RCVD};
	uint32_t gen, id;

	rig_listen(8);
	id = rig_accept(5001);
	rig_installed(id);
	gen = rig.cp.conns[id].gen;
	*rig_token(1) = rig.cp.conns[id].in.slot;
	rig_hup(1);
	ev.snd_nxt = rig.cp.conns[id].in.iss + 2;
	ev.rcv_nxt = rig.cp.conns[id].in.irs + 2;
	rig_event(TOE_EV_CLOSED, id, gen, &ev);
	rig_event(TOE_EV_REMOVED, id, gen, NULL);
	assert_int_equal(rig.cp.tw_list.n, 1);
	*b = rig_client(5001, 0);
	b->seq = ev.rcv_nxt;
	b->ack = ev.snd_nxt;
}

/* The same segment three times: answers are limited. */
static void inject(const struct cp_build *b)
{
	uint64_t before[CP_COUNTER_N];

	for (int i = 0; i < 3; i++) {
		memcpy(before, rig.st->counters, sizeof(before));
		rig_clear();
		rig_rx(b);
		if (rig.cmd_n == 0 && rig.msg_n == 0 &&
		    memcmp(before, rig.st->counters, sizeof(before)) == 0)
			fail_msg("silent: flags %#x seq %u ack %u ts %u, time %d", b->flags, b->seq,
				 b->ack, b->ts_val, i + 1);
	}
}

static void sweep(void (*prepare)(struct cp_build *b))
{
	static const uint32_t off[] = {0, (uint32_t)-1, FAR};

	for (unsigned n = 0; n < 16 * 3 * 2 * 3; n++) {
		struct cp_build b;

		rig_up();
		prepare(&b);
		b.flags = (n & 1 ? CP_TCP_FIN : 0) | (n & 2 ? CP_TCP_SYN : 0) |
			  (n & 4 ? CP_TCP_RST : 0) | (n & 8 ? CP_TCP_ACK : 0);
		b.seq += off[n / 16 % 3];
		b.ack = b.flags & CP_TCP_ACK ? b.ack + n / 48 % 2 : 0;
		b.ts_val -= n / 96 == 1;
		b.opts = n / 96 == 2 ? 0 : CP_OPT_TS;
		inject(&b);
		rig_teardown(NULL);
	}
}

#define SWEEP(state)                                                                               \
	static void state##_is_counted(void **unused)                                              \
	{                                                                                          \
		(void)unused;                                                                      \
		sweep(to_##state);                                                                 \
	}
SWEEP(listener)
SWEEP(half)
SWEEP(half_without_hop)
SWEEP(syn_sent)
SWEEP(syn_received)
SWEEP(time_wait)

/* By their names, one each. */
static void names(void **state)
{
	const uint64_t *n = rig.st->counters;
	struct cp_build b;

	(void)state;
	to_half(&b);
	b.flags = CP_TCP_RST;
	b.seq += FAR;
	rig_rx(&b);
	assert_int_equal(n[CP_CNT_rst_ignored], 1);
	b.flags = CP_TCP_ACK;
	rig_rx(&b);
	assert_int_equal(n[CP_CNT_acks_limited], 0);
	rig_rx(&b);
	assert_int_equal(n[CP_CNT_acks_limited], 1);
	b.seq -= FAR;
	b.flags = 0;
	rig_rx(&b);
	assert_int_equal(n[CP_CNT_segs_no_ack], 1);
	b.flags = CP_TCP_RST;
	rig_rx(&b);
	assert_int_equal(n[CP_CNT_half_reset], 1);
	b.flags = CP_TCP_FIN;
	rig_rx(&b);
	assert_int_equal(n[CP_CNT_listen_ignored], 1);
	to_syn_sent(&b);
	rig_rx(&b);
	assert_int_equal(n[CP_CNT_segs_no_syn], 1);
}

static void time_wait_names(void **state)
{
	const uint64_t *n = rig.st->counters;
	struct cp_build b;

	(void)state;
	to_time_wait(&b);
	b.flags = CP_TCP_ACK;
	rig_rx(&b);
	assert_int_equal(n[CP_CNT_time_wait_acks], 1);
	b.flags = CP_TCP_RST;
	rig_rx(&b);
	assert_int_equal(n[CP_CNT_rst_ignored], 1);
}

static void next_hop_name(void **state)
{
	struct cp_build b;

	(void)state;
	to_half_without_hop(&b);
	b.flags = CP_TCP_SYN;
	b.seq--;
	rig_rx(&b);
	assert_int_equal(rig.st->counters[CP_CNT_half_no_hop], 1);
}

#define S(f) cmocka_unit_test(f##_is_counted)
#define T(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		S(listener),  S(half),  S(half_without_hop), S(syn_sent),      S(syn_received),
		S(time_wait), T(names), T(time_wait_names),  T(next_hop_name),
	};

	return cmocka_run_group_tests_name("cp_ignored", tests, NULL, NULL);
}
