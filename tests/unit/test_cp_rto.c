/* SPDX-License-Identifier: BSD-3-Clause */
/* Retransmission, persist, give-up, quiet, congestion control commands, keepalive: virtual time. */
/* LINK: tests/unit/cp_rig.h */
#include "cp_rig.h"

static uint32_t established(void)
{
	uint32_t id;

	rig_listen(8);
	id = rig_accept(5001);
	rig_installed(id);
	rig_clear();
	return id;
}

static void outstanding(uint32_t id, uint32_t bytes)
{
	rig.prog[id].snd_nxt += bytes;
	rig.prog[id].tx_tail = rig.prog[id].snd_nxt;
	rig_event(TOE_EV_ACTIVE, id, rig.cp.conns[id].gen, NULL);
}

static void rto_formula(void **state)
{
	(void)state;
	assert_int_equal(cp_rto_ms(&rig.cp, 0, 0), 1000);
	assert_int_equal(cp_rto_ms(&rig.cp, 1000, 500), 200); /* cfg.rto_min_ms */
	assert_int_equal(cp_rto_ms(&rig.cp, 300000, 50000), 500);
	assert_int_equal(cp_rto_ms(&rig.cp, 300000, 0), 301);
	assert_int_equal(cp_rto_ms(&rig.cp, 4000000000u, 0), 120000);
}

static void backs_off_and_gives_up(void **state)
{
	static const uint32_t at_ms[] = {200, 600, 1400, 3000, 6200};
	uint32_t id = established();
	uint64_t start = rig.now_us / 1000;

	(void)state;
	outstanding(id, 1000);
	for (int i = 0; i < 5; i++) {
		rig_run_ms(start + at_ms[i] - 30 - rig.now_us / 1000);
		assert_int_equal(rig_count(TOE_CMD_RTO), i);
		rig_run_ms(60);
		assert_int_equal(rig_count(TOE_CMD_RTO), i + 1);
	}
	rig_run_ms(900 * 1000);
	assert_int_equal(rig_count(TOE_CMD_RTO), 15);
	assert_int_equal(rig_count(TOE_CMD_CLOSE), 0);
	rig_run_ms(130 * 1000);
	assert_int_equal(rig_count(TOE_CMD_RTO), 15);
	assert_int_equal(((struct toe_cmd_slot *)rig_last(TOE_CMD_SLOT_ERROR)->data)->error,
			 ETIMEDOUT);
	assert_int_equal(((struct toe_cmd_close *)rig_last(TOE_CMD_CLOSE)->data)->mode,
			 TOE_CLOSE_RST);
	assert_int_equal(rig_last(TOE_CMD_REMOVE)->e.conn, id);
	assert_int_equal(rig.cp.active.n, 0);
}

static void progress_restarts(void **state)
{
	uint32_t id = established();

	(void)state;
	outstanding(id, 100000);
	for (int i = 0; i < 50; i++) {
		rig_run_ms(100);
		rig.prog[id].snd_una += 1000;
		rig.stat[id * TOE_FLOW_STAT_REPLICAS].acked_bytes += 1000;
	}
	assert_int_equal(rig_count(TOE_CMD_RTO), 0);
	rig_run_ms(250);
	assert_int_equal(rig_count(TOE_CMD_RTO), 1);
	rig.prog[id].snd_una += 1000;
	rig_run_ms(390);
	assert_int_equal(rig_count(TOE_CMD_RTO), 1); /* anew, and as long as the last one */
	rig_run_ms(60);
	assert_int_equal(rig_count(TOE_CMD_RTO), 2);
}

/* RFC 8985 §7: once per progress, from two segments on, only with SACK. */
static void tail_loss_probe(void **state)
{
	uint32_t id = established();
	struct cp_conn *c = &rig.cp.conns[id];

	(void)state;
	c->in.flags |= TOE_INSTALL_SACK;
	rig.prog[id].srtt_us = 20000;
	rig.prog[id].rttvar_us = 1000;
	outstanding(id, 2 * c->in.mss);
	rig_run_ms(38);
	assert_int_equal(rig_count(TOE_CMD_PROBE), 0);
	rig_run_ms(25);
	assert_int_equal(rig_count(TOE_CMD_PROBE), 1);
	rig_run_ms(120);
	assert_int_equal(rig_count(TOE_CMD_PROBE), 1);
	assert_int_equal(rig_count(TOE_CMD_RTO), 0);
	rig_run_ms(60);
	assert_int_equal(rig_count(TOE_CMD_RTO), 1);
	rig_run_ms(300); /* backing off: no probes */
	assert_int_equal(rig_count(TOE_CMD_PROBE), 1);

	rig.prog[id].snd_una += c->in.mss; /* one segment is left: its ACK may be delayed */
	rig_run_ms(180);
	assert_int_equal(rig_count(TOE_CMD_PROBE), 1);
	rig.prog[id].snd_una += 10;
	rig.prog[id].flags = TOE_PROG_RECOVERY; /* but a retransmission was lost */
	rig_run_ms(70);
	assert_int_equal(rig_count(TOE_CMD_PROBE), 2);

	rig.prog[id].snd_una += 10;
	rig.prog[id].flags = 0;
	rig.prog[id].snd_nxt = rig.prog[id].tx_tail += 10 * c->in.mss;
	c->in.flags &= (uint8_t)~TOE_INSTALL_SACK;
	rig_run_ms(190);
	assert_int_equal(rig_count(TOE_CMD_PROBE), 2);
}

/* RFC 5681 §4.1 */
static void idle_restarts_the_window(void **state)
{
	uint32_t id = established();
	struct cc_state *s = &rig.cp.conns[id].cc;
	struct toe_cmd_cc cc;

	(void)state;
	outstanding(id, 1000);
	rig_run_ms(5);
	s->cwnd = 200000;
	s->ssthresh = 50000;
	rig.prog[id].snd_una = rig.prog[id].snd_nxt;
	rig_run_ms(300);
	assert_int_equal(rig_count(TOE_CMD_QUIET), 1);
	assert_int_equal(rig_count(TOE_CMD_CC), 1);
	memcpy(&cc, rig_last(TOE_CMD_CC)->data, sizeof(cc));
	assert_int_equal(cc.cwnd, 14480);
	assert_int_equal(cc.ssthresh, 150000);
	outstanding(id, 1000);
	rig_run_ms(5);
	rig.prog[id].snd_una = rig.prog[id].snd_nxt;
	rig_run_ms(300);
	assert_int_equal(rig_count(TOE_CMD_QUIET), 2);
	assert_int_equal(rig_count(TOE_CMD_CC), 1);
}

/* RFC 6298 §5.7: until there is a sample. */
static void repeated_syn_means_3_s(void **state)
{
	uint32_t id = established();

	(void)state;
	rig.cp.conns[id].flags |= CP_CONN_SYN_LOST;
	rig.prog[id].srtt_us = 0;
	outstanding(id, 1000);
	rig_run_ms(2900);
	assert_int_equal(rig_count(TOE_CMD_RTO), 0);
	rig_run_ms(200);
	assert_int_equal(rig_count(TOE_CMD_RTO), 1);
}

/* A path that has become longer than the RTO: what a retransmission has waited longer stays, until
 * data that was sent once is acknowledged. */
static void back_off_outlasts_the_ack(void **state)
{
	uint32_t id = established();
	struct toe_flow_prog *p = &rig.prog[id];

	(void)state;
	outstanding(id, 1000);
	rig_run_ms(210);
	assert_int_equal(rig_count(TOE_CMD_RTO), 1);
	p->snd_una = p->snd_nxt; /* of the first copy, who knows */
	rig_run_ms(10);
	outstanding(id, 1000);
	rig_run_ms(390);
	assert_int_equal(rig_count(TOE_CMD_RTO), 1);
	p->snd_una = p->snd_nxt;
	rig_run_ms(10);
	outstanding(id, 1000);
	rig_run_ms(190);
	assert_int_equal(rig_count(TOE_CMD_RTO), 1);
	rig_run_ms(20);
	assert_int_equal(rig_count(TOE_CMD_RTO), 2);
}

static void user_timeout(void **state)
{
	uint32_t id = established();

	(void)state;
	rig_slot(rig.cp.conns[id].in.slot)->user_timeout_ms = 3000;
	outstanding(id, 1000);
	rig_run_ms(2900);
	assert_int_equal(rig_count(TOE_CMD_REMOVE), 0);
	rig_run_ms(200);
	assert_int_equal(rig_count(TOE_CMD_REMOVE), 1);
}

static void persist_probes_for_ever(void **state)
{
	uint32_t id = established();

	(void)state;
	rig.prog[id].snd_wnd = 0;
	rig.prog[id].tx_tail += 5000;
	rig_event(TOE_EV_ACTIVE, id, rig.cp.conns[id].gen, NULL);
	rig_run_ms(190);
	assert_int_equal(rig_count(TOE_CMD_PROBE), 0);
	rig_run_ms(60);
	assert_int_equal(rig_count(TOE_CMD_PROBE), 1);
	for (int i = 0; i < 200; i++) {
		rig.stat[id * TOE_FLOW_STAT_REPLICAS].rx_segs++; /* the peer answers */
		rig_run_ms(61000);
	}
	assert_in_range(rig_count(TOE_CMD_PROBE), 200, 215);
	assert_int_equal(rig_count(TOE_CMD_REMOVE), 0);
	assert_int_equal(rig_count(TOE_CMD_RTO), 0);
	/* and a dead one is given up */
	rig_run_ms(20 * 61000);
	assert_int_equal(rig_count(TOE_CMD_REMOVE), 1);
}

static void quiet_after_a_while(void **state)
{
	uint32_t id = established();

	(void)state;
	outstanding(id, 1000);
	rig_run_ms(5);
	rig.prog[id].snd_una = rig.prog[id].snd_nxt;
	rig_run_ms(150);
	assert_int_equal(rig_count(TOE_CMD_QUIET), 0);
	rig_run_ms(100);
	assert_int_equal(rig_count(TOE_CMD_QUIET), 1);
	rig_run_ms(200);
	assert_int_equal(rig.cp.active.n, 0);
	/* bytes that crossed with QUIET are noticed without an event */
	outstanding(id, 1);
	rig.prog[id].snd_una = rig.prog[id].snd_nxt;
	rig_run_ms(260);
	assert_int_equal(rig_count(TOE_CMD_QUIET), 2);
	rig.prog[id].snd_nxt++;
	rig_run_ms(400);
	assert_int_equal(rig_count(TOE_CMD_RTO), 1);
}

static void idle_costs_one_look_a_second(void **state)
{
	uint64_t next;

	(void)state;
	assert_true(cp_timers_run(&rig.cp) == CP_NEVER);
	established();
	next = cp_timers_run(&rig.cp);
	assert_true(next >= rig.cp.now_ms + 1000);
}

static void cc_commands_only_on_change(void **state)
{
	uint32_t id = established();
	struct toe_flow_stat *st = &rig.stat[id * TOE_FLOW_STAT_REPLICAS];
	struct toe_cmd_cc cc;

	(void)state;
	outstanding(id, 1000000);
	rig_run_ms(2);                                     /* base line */
	rig.prog[id].cwnd = rig.prog[id].ssthresh = 28960; /* it has grown */
	for (int i = 0; i < 20; i++) {
		st->acked_bytes += 1000;
		rig.prog[id].snd_una += 1000;
		rig_run_ms(1);
	}
	assert_int_equal(rig_count(TOE_CMD_CC), 0);
	/* a loss is the datapath's doing: adopted, not answered */
	rig.prog[id].loss_epoch = 1;
	rig.prog[id].cwnd = rig.prog[id].ssthresh = 20000;
	rig_run_ms(2);
	assert_int_equal(rig_count(TOE_CMD_CC), 0);
	assert_int_equal(rig.cp.conns[id].cc.cwnd, 20000);
	/* marks on what was sent before it neither; later ones are: alpha is 1 at first */
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(rig_count(TOE_CMD_CC), 0);
		st->acked_bytes += 10000;
		st->ecn_bytes += 10000;
		rig.prog[id].snd_una = rig.prog[id].snd_nxt += i * 10000;
		rig_run_ms(2);
	}
	memcpy(&cc, rig_last(TOE_CMD_CC)->data, sizeof(cc));
	assert_int_equal(cc.loss_epoch, 1);
	assert_in_range(cc.cwnd, 10000, 11000);
	assert_int_equal(cc.ssthresh, cc.cwnd);
	assert_true(cc.rate_bps == TOE_RATE_UNPACED);
}

static void keepalive(void **state)
{
	uint32_t id = established();
	struct toe_slot *s = rig_slot(rig.cp.conns[id].in.slot);

	(void)state;
	rig_run_ms(20000);
	assert_int_equal(rig_count(TOE_CMD_KEEPALIVE), 0);
	s->ctl = TOE_CTL_KEEPALIVE;
	s->keep_idle_s = 10;
	s->keep_intvl_s = 2;
	s->keep_cnt = 3;
	rig.stat[id * TOE_FLOW_STAT_REPLICAS].rx_segs++;
	rig_run_ms(9500);
	assert_int_equal(rig_count(TOE_CMD_KEEPALIVE), 0);
	rig_run_ms(2500);
	assert_int_equal(rig_count(TOE_CMD_KEEPALIVE), 1);
	rig.stat[id * TOE_FLOW_STAT_REPLICAS].rx_segs++; /* it lives */
	rig_run_ms(12000);
	assert_int_equal(rig_count(TOE_CMD_KEEPALIVE), 2);
	rig_run_ms(12000);
	assert_int_equal(rig_count(TOE_CMD_KEEPALIVE), 4);
	assert_int_equal(((struct toe_cmd_slot *)rig_last(TOE_CMD_SLOT_ERROR)->data)->error,
			 ETIMEDOUT);
	assert_int_equal(rig_count(TOE_CMD_REMOVE), 1);
}

/* Times the control plane wakes up in so many ms. */
static unsigned wakes(uint64_t ms)
{
	uint64_t end = rig.now_us / 1000 + ms;
	unsigned n = 0;

	for (uint64_t next; (next = cp_timers_run(&rig.cp)) <= end; n++)
		rig_time(next * 1000);
	rig_time(end * 1000);
	return n;
}

/* What keepalives of many clients cost: not a look each millisecond, which a burst gets. */
static void one_segment_is_looked_at_rarely(void **state)
{
	uint32_t id = established();

	(void)state;
	outstanding(id, 2);
	assert_in_range(wakes(40), 2, 6);
	rig.prog[id].snd_una += 2;
	rig.stat[id * TOE_FLOW_STAT_REPLICAS].acked_bytes += 2;
	assert_in_range(wakes(40), 1, 3);
	outstanding(id, 4 * rig.cp.conns[id].in.mss);
	assert_in_range(wakes(20), 18, 21);
	rig.prog[id].snd_una = rig.prog[id].snd_nxt;
	rig.stat[id * TOE_FLOW_STAT_REPLICAS].acked_bytes += 4 * rig.cp.conns[id].in.mss;
	assert_in_range(wakes(20), 18, 21);
	assert_in_range(wakes(60), 1, 5);
}

#define T(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(rto_formula),
		T(backs_off_and_gives_up),
		T(progress_restarts),
		T(tail_loss_probe),
		T(idle_restarts_the_window),
		T(repeated_syn_means_3_s),
		T(back_off_outlasts_the_ack),
		T(user_timeout),
		T(persist_probes_for_ever),
		T(quiet_after_a_while),
		T(idle_costs_one_look_a_second),
		T(cc_commands_only_on_change),
		T(one_segment_is_looked_at_rarely),
		T(keepalive),
	};

	return rig_run_both("cp_rto", tests);
}
