/* SPDX-License-Identifier: BSD-3-Clause */
/* Close, orphans, TIME-WAIT: events and segments in, commands out. */
/* LINK: tests/unit/cp_rig.h */
#include "cp_rig.h"

static uint32_t established(uint16_t port)
{
	uint32_t id;

	if (rig.cp.ports[RIG_PORT].listener == TOE_NONE)
		rig_listen(8);
	id = rig_accept(port);
	rig_installed(id);
	return id;
}

/* Accepted: the application holds token for it. */
static void take(uint32_t id, uint32_t token)
{
	*rig_token(token) = rig.cp.conns[id].in.slot;
}

static const struct toe_cmd_close *close_sent(void)
{
	return (const struct toe_cmd_close *)rig_last(TOE_CMD_CLOSE)->data;
}

static uint32_t close_mode(void)
{
	return close_sent()->mode & ~TOE_CLOSE_TAIL;
}

static void closed(uint32_t id, uint32_t flags)
{
	struct toe_ev_conn ev = {
		.snd_nxt = rig.cp.conns[id].in.iss + 2,
		.rcv_nxt = rig.cp.conns[id].in.irs + 2,
		.ts_recent = 6000,
		.flags = flags | TOE_PROG_FIN_ACKED | TOE_PROG_FIN_RCVD,
	};

	rig_event(TOE_EV_CLOSED, id, rig.cp.conns[id].gen, &ev);
}

static void removed(uint32_t id)
{
	rig_event(TOE_EV_REMOVED, id, rig.cp.conns[id].gen, NULL);
}

/* A connection in TIME-WAIT; its client's port. */
static struct cp_conn to_time_wait(uint16_t port)
{
	uint32_t id = established(port);
	struct cp_conn c = rig.cp.conns[id];

	take(id, 1);
	rig_hup(1);
	closed(id, TOE_PROG_FIN_FIRST);
	removed(id);
	rig_clear();
	return c;
}

static void last_close_is_a_fin(void **state)
{
	uint32_t id = established(5001);

	(void)state;
	take(id, 1);
	rig_slot(rig.cp.conns[id].in.slot)->tx_tail = 4711; /* written just before the close */
	rig_hup(1);
	assert_int_equal(close_mode(), TOE_CLOSE_FIN);
	assert_true(close_sent()->mode & TOE_CLOSE_TAIL);
	assert_int_equal(close_sent()->tx_tail, 4711);
	assert_int_equal(rig.cp.conns[id].state, CP_CLOSING);
	assert_int_equal(*rig_token(1), TOE_NONE);
	assert_int_equal(rig_last_msg(TOE_CTL_CP_TOKEN_FREE)->u.token.ids[0], 1);
	rig_hup(1); /* told again: nothing to close */
	assert_int_equal(rig_count(TOE_CMD_CLOSE), 1);
	closed(id, TOE_PROG_FIN_FIRST);
	assert_int_equal(rig_count(TOE_CMD_REMOVE), 1);
	assert_int_equal(rig.cp.app_rt[0].free_n, RIG_SLOTS - 1);
	removed(id);
	assert_int_equal(rig.cp.app_rt[0].free_n, RIG_SLOTS);
	assert_int_equal(rig.cp.tw_list.n, 1);
}

static void unread_data_or_linger_make_it_a_rst(void **state)
{
	uint32_t id = established(5001);

	(void)state;
	take(id, 1);
	rig_slot(rig.cp.conns[id].in.slot)->rx_tail = 10;
	rig_slot(rig.cp.conns[id].in.slot)->rx_head = 4;
	rig_slot(rig.cp.conns[id].in.slot)->tx_tail = 99;
	rig_hup(1);
	assert_int_equal(close_sent()->mode, TOE_CLOSE_RST | TOE_CLOSE_TAIL);
	assert_int_equal(close_sent()->tx_tail, 99);
	assert_int_equal(rig.cp.conns[id].state, CP_CLOSING);
	assert_int_equal(rig_count(TOE_CMD_REMOVE), 0); /* it would overtake what was written */
	rig_event(TOE_EV_RESET, id, rig.cp.conns[id].gen, NULL);
	assert_int_equal(rig_count(TOE_CMD_REMOVE), 1);
	assert_int_equal(rig.st->counters[CP_CNT_resets], 0); /* by the peer */
	removed(id);
	assert_int_equal(rig.cp.tw_list.n, 0);
	rig_clear();
	id = established(5002);
	rig_slot(rig.cp.conns[id].in.slot)->rx_tail = 0;
	take(id, 2);
	rig_slot(rig.cp.conns[id].in.slot)->ctl = TOE_CTL_LINGER0;
	rig_hup(2);
	assert_int_equal(close_sent()->mode, TOE_CLOSE_RST);
	assert_int_equal(rig_count(TOE_CMD_REMOVE), 1);
}

/* The RST behind what was written does not come, or there are too many of them. */
static void rst_is_waited_for_a_second(void **state)
{
	uint32_t id = established(5001);

	(void)state;
	take(id, 1);
	rig_slot(rig.cp.conns[id].in.slot)->rx_tail = 10;
	rig_hup(1);
	rig_clear();
	rig_run_ms(900);
	assert_int_equal(rig_count(TOE_CMD_REMOVE), 0);
	rig_run_ms(1200);
	assert_int_equal(rig_count(TOE_CMD_REMOVE), 1);
	assert_int_equal(close_sent()->mode, TOE_CLOSE_RST);
	removed(id);
	rig.cfg.orphans = 0;
	id = established(5002);
	take(id, 2);
	rig_slot(rig.cp.conns[id].in.slot)->rx_tail = 10;
	rig_clear();
	rig_hup(2);
	assert_int_equal(close_sent()->mode, TOE_CLOSE_RST);
	assert_int_equal(rig_count(TOE_CMD_REMOVE), 1);
}

/* The peer resets first; the application still reads: its slot stays until it lets go. */
static void slot_outlives_connection(void **state)
{
	uint32_t id = established(5001);
	uint32_t slot = rig.cp.conns[id].in.slot;

	(void)state;
	take(id, 1);
	rig_event(TOE_EV_RESET, id, rig.cp.conns[id].gen, NULL);
	removed(id);
	assert_int_equal(rig.cp.conn_count, 0);
	assert_int_equal(rig.cp.app_rt[0].free_n, RIG_SLOTS - 1);
	rig_clear();
	rig_hup(1);
	assert_int_equal(rig_count(TOE_CMD_CLOSE), 0);
	assert_int_equal(rig.cp.app_rt[0].free_n, RIG_SLOTS);
	id = established(5002);
	assert_int_equal(rig.cp.conns[id].in.slot, slot); /* the last one freed is warm */
}

static void token_map_is_not_believed(void **state)
{
	uint32_t id = established(5001);

	(void)state;
	*rig_token(1) = RIG_SLOTS;
	*rig_token(2) = TOE_NONE;
	*rig_token(3) = rig.cp.conns[id].in.slot + 1; /* a free slot */
	rig_hup(1);
	rig_hup(2);
	rig_hup(3);
	rig_hup(0xffff);
	assert_int_equal(rig_count(TOE_CMD_CLOSE), 0);
	/* a CONNECT whose process died before it wrote the map */
	assert_int_equal(rig_connect(9)->status, 0);
	rig_hup(9);
	assert_int_equal(rig.cp.syn_sent.n, 0);
	assert_non_null(rig_last_msg(TOE_CTL_CP_PORT_FREE));
}

static void application_ends(void **state)
{
	uint32_t a = established(5001);
	uint32_t b = established(5002);
	uint32_t ids[2] = {a, b};

	(void)state;
	take(a, 1); /* b waits in the accept ring */
	*(uint32_t *)(rig_listener(0) + 1) = rig.cp.conns[b].in.slot;
	rig_listener(0)->prod = 1;
	rig_clear();
	rig_app_message(TOE_CTL_CP_APP_GONE);
	assert_int_equal(rig_last_msg(TOE_CTL_CP_APP_GONE)->status, 0);
	assert_int_equal(rig.cp.conns[a].state, CP_CLOSING);
	assert_int_equal(rig.cp.conns[b].state, CP_REMOVING);
	assert_null(rig_last_msg(TOE_CTL_CP_APP_FREE));
	closed(a, 0);
	for (int i = 0; i < 2; i++)
		removed(ids[i]);
	assert_int_equal(rig_last_msg(TOE_CTL_CP_APP_FREE)->u.app.app_id, RIG_APP);
	assert_int_equal(rig.cp.apps[0].state, CP_APP_FREE);
}

static void orphans_are_bounded(void **state)
{
	uint32_t a = established(5001);
	uint32_t b = established(5002);

	(void)state;
	rig.cfg.orphans = 1;
	take(a, 1);
	take(b, 2);
	rig_hup(1);
	assert_int_equal(close_mode(), TOE_CLOSE_FIN);
	rig_hup(2);
	assert_int_equal(close_mode(), TOE_CLOSE_RST);
	/* FIN-WAIT-2 is not waited in for ever */
	rig.prog[a].flags = TOE_PROG_FIN_SENT | TOE_PROG_FIN_ACKED | TOE_PROG_ORPHAN;
	rig_clear();
	rig_run_ms(59000);
	assert_int_equal(rig_count(TOE_CMD_REMOVE), 0);
	rig_run_ms(4000);
	assert_int_equal(rig_last(TOE_CMD_REMOVE)->e.conn, a);
}

static void orphans_are_shared(void **state)
{
	(void)state;
	rig.cfg.orphans = 4;
	for (uint32_t i = 0; i < 3; i++)
		take(established((uint16_t)(5001 + i)), i + 1);
	rig.cp.apps[1].state = CP_APP_ACTIVE; /* another one may need some, too */
	rig_hup(1);
	assert_int_equal(close_mode(), TOE_CLOSE_FIN);
	rig_hup(2);
	assert_int_equal(close_mode(), TOE_CLOSE_FIN);
	rig_hup(3);
	assert_int_equal(close_mode(), TOE_CLOSE_RST);
	rig.cp.apps[1].state = CP_APP_FREE;
}

static void answers_fin_and_expires(void **state)
{
	struct cp_conn c = to_time_wait(5001);
	struct cp_build b = rig_client(5001, CP_TCP_FIN | CP_TCP_ACK);
	struct cp_seg s;

	(void)state;
	assert_int_equal(rig.cp.ports_told[cp_family_index(rig_family)][RIG_PORT], TOE_PORT_LISTEN);
	b.seq = 1001;
	b.ack = c.in.iss + 2;
	b.ts_val = 6000;
	rig_run_ms(30000);
	rig_rx(&b);
	s = rig_sent();
	assert_int_equal(s.flags, CP_TCP_ACK);
	assert_int_equal(s.seq, c.in.iss + 2);
	assert_int_equal(s.ack, 1002);
	assert_int_equal(s.ts_ecr, 6000);
	rig_run_ms(45000); /* 2 MSL were restarted */
	assert_int_equal(rig.cp.tw_list.n, 1);
	rig_run_ms(16500);
	assert_int_equal(rig.cp.tw_list.n, 0);
}

static void rst_is_ignored(void **state)
{
	struct cp_conn c = to_time_wait(5001);
	struct cp_build b = rig_client(5001, CP_TCP_RST);

	(void)state;
	b.seq = 1002;
	b.ack = c.in.iss + 2;
	rig_rx(&b);
	assert_int_equal(rig.cp.tw_list.n, 1);
	b.flags = CP_TCP_ACK; /* in window, empty: silence */
	b.ts_val = 6001;
	rig_rx(&b);
	assert_int_equal(rig.cmd_n, 0);
	b.seq = 5; /* out of window: one answer in a while */
	rig_rx(&b);
	rig_rx(&b);
	assert_int_equal(rig_count(TOE_CMD_FRAME_TX), 1);
}

static void newer_syn_takes_over(void **state)
{
	struct cp_conn c = to_time_wait(5001);
	struct cp_build b = rig_client(5001, CP_TCP_SYN);

	(void)state;
	b.seq = 500; /* older sequence number, newer timestamp: RFC 6191 */
	b.ts_val = 5999;
	rig_rx(&b);
	assert_int_equal(rig_sent().flags, CP_TCP_ACK); /* old timestamp: not yet */
	b.ts_val = 6001;
	rig_rx(&b);
	assert_int_equal(rig_sent().flags, CP_TCP_SYN | CP_TCP_ACK);
	assert_true((int32_t)(rig_sent().seq - (c.in.iss + 2)) > 0);
	assert_int_equal(rig.cp.tw_list.n, 0);
	assert_int_equal(rig.cp.half_list.n, 1);
}

/* The program has let go of its port, and one of the kernel's may have it: only 4-tuples in
 * TIME-WAIT are left of it. */
static void without_listener_the_port_is_the_kernels(void **state)
{
	struct cp_conn c = to_time_wait(5001);
	struct cp_build b = rig_client(5002, CP_TCP_SYN);

	(void)state;
	cp_listener_close(&rig.cp, 0, 0);
	assert_int_equal(rig.cp.ports_told[cp_family_index(rig_family)][RIG_PORT],
			 TOE_PORT_RESERVED);
	rig_clear();
	rig_rx(&b);
	b.flags = CP_TCP_ACK;
	rig_rx(&b);
	assert_int_equal(rig.cmd_n, 2);
	assert_int_equal(rig_count(TOE_CMD_FRAME_TAP), 2);
	b = rig_client(5001, CP_TCP_FIN | CP_TCP_ACK);
	b.seq = 1001;
	b.ack = c.in.iss + 2;
	b.ts_val = 6000;
	rig_clear();
	rig_rx(&b);
	assert_int_equal(rig_sent().flags, CP_TCP_ACK);
	b = rig_client(5001, CP_TCP_SYN); /* old */
	b.seq = 500;
	rig_rx(&b);
	assert_int_equal(rig_sent().flags, CP_TCP_ACK);
	assert_int_equal(rig.cp.tw_list.n, 1);
	assert_int_equal(rig_count(TOE_CMD_FRAME_TAP), 0);
	b.ts_val = 6001;
	rig_rx(&b);
	assert_int_equal(rig_count(TOE_CMD_FRAME_TAP), 1);
	assert_int_equal(rig.cp.tw_list.n, 0);
	assert_int_equal(rig.cp.ports_told[cp_family_index(rig_family)][RIG_PORT], 0);
}

/* A connection of ours in TIME-WAIT that the server accepted with these options. */
static struct cp_conn active_time_wait(uint8_t opts)
{
	struct cp_conn c;
	struct cp_build b;
	struct cp_seg s;
	uint32_t id;

	rig_connect(4);
	s = rig_sent();
	b = rig_server(&s, CP_TCP_SYN | CP_TCP_ACK);
	b.opts = opts;
	rig_rx(&b);
	id = rig_last(TOE_CMD_INSTALL)->e.conn;
	c = rig.cp.conns[id];
	rig_installed(id);
	rig_hup(4);
	closed(id, TOE_PROG_FIN_FIRST);
	removed(id);
	return c;
}

static void active_open_takes_over_after_a_second(void **state)
{
	struct cp_conn c = active_time_wait(CP_OPT_MSS | CP_OPT_TS);

	(void)state;
	rig_run_ms(900);
	assert_int_equal(rig_connect(5)->status, -EADDRNOTAVAIL);
	rig.cp.tw[rig.cp.tw_list.head].snd_nxt = c.in.iss + 0x40000000; /* more than the clock */
	rig_run_ms(200);
	assert_int_equal(rig_connect(6)->status, 0);
	assert_int_equal(rig.cp.tw_list.n, 0);
	assert_int_equal(rig_sent().flags & CP_TCP_SYN, CP_TCP_SYN);
	assert_true((int32_t)(rig_sent().seq - (c.in.iss + 0x40000000)) > 0);
}

static void active_open_without_timestamps_waits(void **state)
{
	(void)state;
	active_time_wait(CP_OPT_MSS);
	rig_run_ms(59000);
	assert_int_equal(rig_connect(5)->status, -EADDRNOTAVAIL);
	rig_run_ms(2000);
	assert_int_equal(rig_connect(6)->status, 0);
}

static void active_port_is_held_through_time_wait(void **state)
{
	(void)state;
	active_time_wait(CP_OPT_MSS | CP_OPT_WS | CP_OPT_SACK | CP_OPT_TS);
	assert_null(rig_last_msg(TOE_CTL_CP_PORT_FREE));
	assert_int_equal(rig.cp.ports_told[cp_family_index(rig_family)][40000], TOE_PORT_RESERVED);
	rig_run_ms(62000);
	assert_non_null(rig_last_msg(TOE_CTL_CP_PORT_FREE));
	assert_int_equal(rig.cp.ports_told[cp_family_index(rig_family)][40000], 0);
	assert_true(cp_timers_run(&rig.cp) == CP_NEVER);
}

static void full_table_forgets_the_oldest(void **state)
{
	(void)state;
	for (uint16_t i = 0; i < RIG_CONNS + 5; i++)
		to_time_wait((uint16_t)(10000 + i));
	assert_int_equal(rig.cp.tw_list.n, RIG_CONNS);
	assert_int_equal(rig.st->counters[CP_CNT_time_wait_overflow], 5);
}

#define T(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(last_close_is_a_fin),
		T(unread_data_or_linger_make_it_a_rst),
		T(rst_is_waited_for_a_second),
		T(slot_outlives_connection),
		T(token_map_is_not_believed),
		T(application_ends),
		T(orphans_are_bounded),
		T(orphans_are_shared),
		T(answers_fin_and_expires),
		T(rst_is_ignored),
		T(newer_syn_takes_over),
		T(without_listener_the_port_is_the_kernels),
		T(active_port_is_held_through_time_wait),
		T(active_open_takes_over_after_a_second),
		T(active_open_without_timestamps_waits),
		T(full_table_forgets_the_oldest),
	};

	return rig_run_both("cp_timewait", tests);
}
