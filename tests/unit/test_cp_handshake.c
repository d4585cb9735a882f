/* SPDX-License-Identifier: BSD-3-Clause */
/* Passive and active open, listeners, backlog, cookies: segments in, commands out. */
/* LINK: tests/unit/cp_rig.h */
#include "cp_rig.h"

#include "common/flow_hash.h"

static void passive_open(void **state)
{
	struct cp_build b = rig_client(5001, CP_TCP_SYN | CP_TCP_ECE | CP_TCP_CWR);
	struct toe_cmd_install in;
	struct cp_seg s;
	uint32_t id;

	(void)state;
	rig_listen(8);
	assert_int_equal(rig_count(TOE_CMD_LISTENER), 1);
	assert_int_equal(((struct toe_cmd_port *)rig_last(TOE_CMD_PORT)->data)->state,
			 TOE_PORT_LISTEN);
	rig_rx(&b);
	s = rig_sent();
	assert_int_equal(s.flags, CP_TCP_SYN | CP_TCP_ACK | CP_TCP_ECE);
	assert_int_equal(s.ack, 1001);
	assert_int_equal(s.opts, CP_OPT_MSS | CP_OPT_WS | CP_OPT_SACK | CP_OPT_TS);
	assert_int_equal(s.mss, 1460);
	assert_int_equal(s.wscale, 3); /* 256 KiB */
	assert_int_equal(s.ts_ecr, 5000);
	b = rig_client(5001, CP_TCP_ACK);
	b.seq = 1001;
	b.ack = s.seq + 1;
	b.wnd = 100;
	rig_pass(2500);
	rig_rx(&b);
	memcpy(&in, rig_last(TOE_CMD_INSTALL)->data, sizeof(in));
	id = rig_last(TOE_CMD_INSTALL)->e.conn;
	assert_int_equal(id % 4, toe_flow_hash(&rig.cp.conns[id].t) % 4);
	assert_int_equal(in.app_id, RIG_APP);
	assert_int_equal(in.listener, 0);
	assert_int_equal(in.mss, 1448);
	assert_int_equal(in.iss, s.seq);
	assert_int_equal(in.irs, 1000);
	assert_int_equal(in.snd_wnd, 100 << 7);
	assert_int_equal(in.rcv_wscale, 3);
	assert_int_equal(in.flags, TOE_INSTALL_TS | TOE_INSTALL_SACK | TOE_INSTALL_ECN);
	assert_in_range(in.srtt_us, 2500, 2501);
	assert_memory_equal(in.remote_mac, peer_mac, 6);
	assert_int_equal(rig_count(TOE_CMD_FRAME_RX), 0);
	assert_int_equal(rig_slot(in.slot)->remote_port, 5001);
	assert_int_equal(rig_slot(in.slot)->info_gen, in.slot_gen);
	rig_installed(id);
	assert_int_equal(rig.cp.conns[id].state, CP_ESTABLISHED);
}

static void no_options(void **state)
{
	struct cp_build b = rig_client(5002, CP_TCP_SYN);
	struct toe_cmd_install in;
	struct cp_seg s;

	(void)state;
	rig_listen(8);
	b.opts = 0;
	rig_rx(&b);
	s = rig_sent();
	assert_int_equal(s.opts, CP_OPT_MSS);
	b.flags = CP_TCP_ACK;
	b.seq = 1001;
	b.ack = s.seq + 1;
	rig_rx(&b);
	memcpy(&in, rig_last(TOE_CMD_INSTALL)->data, sizeof(in));
	assert_int_equal(in.mss, rig_family == AF_INET6 ? 1220 : 536);
	assert_int_equal(in.flags, 0);
	assert_int_equal(in.snd_wnd, 64240);
	assert_int_equal(in.rcv_wscale, 0);
}

static void data_with_the_last_ack_is_reinjected_in_order(void **state)
{
	uint32_t install;
	uint32_t at = 0;
	struct cp_build b;
	uint32_t id;

	(void)state;
	rig_listen(8);
	id = rig_accept(5003);
	install = rig_count(TOE_CMD_INSTALL);
	assert_int_equal(install, 1);
	b = rig_client(5003, CP_TCP_ACK | CP_TCP_FIN);
	b.seq = 1001;
	b.ack = rig.cp.conns[id].in.iss + 1;
	rig_rx(&b); /* INSTALLING */
	assert_non_null(rig_find(&at, TOE_CMD_INSTALL));
	assert_non_null(rig_find(&at, TOE_CMD_FRAME_RX));
	rig_installed(id);
	rig_rx(&b); /* raced with INSTALL */
	assert_int_equal(rig_count(TOE_CMD_FRAME_RX), 2);
}

static void synack_is_repeated_with_backoff(void **state)
{
	struct cp_build b = rig_client(5004, CP_TCP_SYN);

	(void)state;
	rig_listen(8);
	rig_rx(&b);
	rig_run_ms(900);
	assert_int_equal(rig_count(TOE_CMD_FRAME_TX), 1);
	rig_run_ms(300);
	assert_int_equal(rig_count(TOE_CMD_FRAME_TX), 2);
	rig_run_ms(2000);
	assert_int_equal(rig_count(TOE_CMD_FRAME_TX), 3);
	rig_run_ms(70000);
	assert_int_equal(rig_count(TOE_CMD_FRAME_TX), 6);
	assert_int_equal(rig.cp.half_list.n, 0);
	rig_rx(&b);
	assert_int_equal(rig_count(TOE_CMD_FRAME_TX), 7);
	rig_rx(&b); /* duplicate SYN */
	assert_int_equal(rig_count(TOE_CMD_FRAME_TX), 8);
	assert_int_equal(rig.cp.half_list.n, 1);
}

/* RFC 5681 §3.1: the path may be in trouble. */
static void repeated_synack_means_one_segment(void **state)
{
	struct cp_build b = rig_client(5004, CP_TCP_SYN);
	struct toe_cmd_install in;
	uint32_t iss;

	(void)state;
	rig_listen(8);
	rig_rx(&b);
	rig_run_ms(1100);
	iss = rig_sent().seq;
	b = rig_client(5004, CP_TCP_ACK);
	b.seq = 1001;
	b.ack = iss + 1;
	rig_rx(&b);
	memcpy(&in, rig_last(TOE_CMD_INSTALL)->data, sizeof(in));
	assert_int_equal(in.cwnd, in.mss);
	assert_int_equal(in.srtt_us, 0);
}

static void half_open_rules(void **state)
{
	struct cp_build b = rig_client(5005, CP_TCP_SYN);
	struct cp_seg s;
	uint32_t iss;

	(void)state;
	rig_listen(8);
	rig_rx(&b);
	iss = rig_sent().seq;
	b = rig_client(5005, CP_TCP_ACK);
	b.seq = 1001;
	b.ack = iss + 2; /* not ours */
	rig_rx(&b);
	s = rig_sent();
	assert_int_equal(s.flags, CP_TCP_RST);
	assert_int_equal(s.seq, iss + 2);
	b.ack = iss + 1;
	b.seq = 1000; /* old */
	rig_rx(&b);
	assert_int_equal(rig_sent().flags, CP_TCP_ACK);
	rig_pass(600000); /* answers are limited (RFC 5961 §7) */
	b.seq = 1001;
	b.ts_val = 4999; /* PAWS */
	rig_rx(&b);
	assert_int_equal(rig_sent().flags, CP_TCP_ACK);
	assert_int_equal(rig_count(TOE_CMD_INSTALL), 0);
	rig_pass(600000);
	b = rig_client(5005, CP_TCP_SYN);
	b.seq = 77777777; /* another incarnation */
	rig_rx(&b);
	assert_int_equal(rig_sent().ack, 1001);
	rig_pass(600000);
	b = rig_client(5005, CP_TCP_RST);
	b.seq = 1500; /* in window, not exact: challenge */
	rig_clear();
	rig_rx(&b);
	assert_int_equal(rig_sent().flags, CP_TCP_ACK);
	assert_int_equal(rig.cp.half_list.n, 1);
	b.seq = 1001;
	rig_rx(&b);
	assert_int_equal(rig.cp.half_list.n, 0);
}

static void nobody_listens(void **state)
{
	struct cp_build b = rig_client(5006, CP_TCP_SYN);

	(void)state;
	rig_rx(&b); /* the kernel's port, since the segment was queued */
	assert_int_equal(rig.cmd_n, 1);
	assert_int_equal(rig_count(TOE_CMD_FRAME_TAP), 1);
	rig_listen(8);
	b.t.remote_port = htons(RIG_PORT + 1);
	rig_rx(&b);
	assert_int_equal(rig_count(TOE_CMD_FRAME_TX), 0);
	b = rig_client(5006, CP_TCP_ACK);
	b.ack = 5;
	rig_rx(&b);
	assert_int_equal(rig_sent().flags, CP_TCP_RST);
	b.flags = CP_TCP_RST;
	rig_rx(&b);
	b = rig_client(5006, CP_TCP_SYN | CP_TCP_FIN);
	rig_rx(&b);
	b = rig_client(5006, 0);
	rig_rx(&b);
	b = rig_client(5006, CP_TCP_SYN);
	memcpy(b.t.local_addr, b.t.remote_addr, 16); /* LAND */
	rig_rx(&b);
	b = rig_client(5006, CP_TCP_SYN);
	b.t.local_addr[0] = rig_family == AF_INET6 ? 0xff : 224; /* multicast */
	rig_rx(&b);
	assert_int_equal(rig_count(TOE_CMD_FRAME_TX), 1);
}

static void backlog_holds_back(void **state)
{
	struct cp_build b;
	uint32_t l = rig_listen(1);
	uint32_t a;

	(void)state;
	a = rig_accept(6001);
	rig_installed(a);
	rig_listener(l)->prod = 1;
	rig_accept(6002); /* backlog + 1 */
	rig_clear();
	b = rig_client(6003, CP_TCP_SYN);
	rig_rx(&b);
	assert_int_equal(rig.cmd_n, 0);
	rig_listener(l)->cons = 1; /* accepted */
	rig_rx(&b);
	assert_int_equal(rig_sent().flags, CP_TCP_SYN | CP_TCP_ACK);
	rig_listener(l)->prod = 0x80000000; /* nonsense of the application's making */
	rig_clear();
	b = rig_client(6004, CP_TCP_SYN);
	rig_rx(&b);
	assert_int_equal(rig.cmd_n, 0);
}

static void cookies_when_the_table_is_full(void **state)
{
	uint32_t half = rig.cp.half_max;
	struct toe_cmd_install in;
	struct cp_build b;
	struct cp_seg s;

	(void)state;
	rig_listen(8);
	rig.cp.free_half_n = 0; /* full */
	b = rig_client(6100, CP_TCP_SYN);
	rig_rx(&b);
	s = rig_sent();
	assert_int_equal(rig.st->counters[CP_CNT_cookies_sent], 1);
	rig_pass(30000);
	b = rig_client(6100, CP_TCP_ACK);
	b.seq = 1001;
	b.ack = s.seq + 1;
	b.ts_ecr = s.ts_val;
	rig_rx(&b);
	memcpy(&in, rig_last(TOE_CMD_INSTALL)->data, sizeof(in));
	assert_int_equal(in.mss, 1448);
	assert_int_equal(in.snd_wscale, 7);
	assert_int_equal(in.flags, TOE_INSTALL_TS | TOE_INSTALL_SACK);
	/* later timestamps do not run behind the one of the SYN-ACK */
	assert_true((int32_t)((uint32_t)rig.cp.now_ms + in.ts_offset - s.ts_val) >= 0);
	b.t.local_port = htons(6101);
	rig_clear();
	rig_rx(&b);
	assert_int_equal(rig_sent().flags, CP_TCP_RST);
	assert_int_equal(rig.st->counters[CP_CNT_cookies_invalid], 1);
	rig.cp.free_half_n = half;
}

static void listeners_of_processes(void **state)
{
	struct toe_ctl_msg m;
	uint32_t l = rig_listen(8);
	uint32_t id = rig_accept(6200);
	struct toe_slot *slot;

	(void)state;
	rig_installed(id);
	slot = rig_slot(rig.cp.conns[id].in.slot);
	assert_non_null(slot);
	*(uint32_t *)(rig_listener(l) + 1) = rig.cp.conns[id].in.slot;
	rig_listener(l)->prod = 1;
	memset(&m, 0, sizeof(m));
	m.app_id = RIG_APP;
	m.proc = 1;
	m.u.listen.family = rig_family;
	m.u.listen.v6only = rig_family == AF_INET6;
	m.u.listen.port = RIG_PORT;
	rig_msg(TOE_CTL_LISTEN, &m); /* a second process joins */
	assert_int_equal(rig.msg[rig.msg_n - 1].u.listen.listener, l);
	m.proc = 0;
	m.u.listen.listener = l;
	rig_msg(TOE_CTL_UNLISTEN, &m);
	assert_int_equal(rig_count(TOE_CMD_LISTENER), 1);
	m.proc = 1;
	rig_msg(TOE_CTL_UNLISTEN, &m);
	assert_int_equal(rig_count(TOE_CMD_LISTENER), 2);
	/* what nobody accepted is reset; its port is still ours until it is gone */
	assert_int_equal(((struct toe_cmd_close *)rig_last(TOE_CMD_CLOSE)->data)->mode,
			 TOE_CLOSE_RST);
	assert_int_equal(((struct toe_cmd_port *)rig_last(TOE_CMD_PORT)->data)->state,
			 TOE_PORT_RESERVED);
	rig_event(TOE_EV_REMOVED, id, rig.cp.conns[id].gen, NULL);
	assert_int_equal(((struct toe_cmd_port *)rig_last(TOE_CMD_PORT)->data)->state, 0);
	assert_int_equal(rig.cp.app_rt[0].free_n, RIG_SLOTS);
}

static void daemon_forks_and_parent_exits(void **state)
{
	struct toe_ctl_msg m;

	(void)state;
	rig_listen(8);
	memset(&m, 0, sizeof(m));
	m.u.app = rig.app;
	rig_msg(TOE_CTL_CP_PROC_GONE, &m);
	rig_run_ms(1000);
	assert_int_equal(rig.cp.listeners[0].state, CP_LISTENER_OPEN);
	rig_listen(8); /* the child */
	rig_run_ms(10000);
	assert_int_equal(rig.cp.listeners[0].state, CP_LISTENER_OPEN);
	rig_msg(TOE_CTL_CP_PROC_GONE, &m);
	rig_run_ms(10000);
	assert_int_equal(rig.cp.listeners[0].state, CP_LISTENER_FREE);
}

static void active_open(void **state)
{
	struct toe_ctl_msg *r = rig_connect(4);
	struct toe_cmd_install in;
	struct cp_build b;
	struct cp_seg s;
	uint32_t at = 0;

	(void)state;
	assert_int_equal(r->status, 0);
	assert_non_null(rig_find(&at, TOE_CMD_PORT));
	assert_non_null(rig_find(&at, TOE_CMD_SLOT_CLEAR));
	s = rig_sent();
	assert_int_equal(s.flags, CP_TCP_SYN | CP_TCP_ECE | CP_TCP_CWR);
	assert_int_equal(ntohs(s.t.remote_port), 40000);
	assert_int_equal(s.wnd, 65535);
	assert_int_equal(s.opts, CP_OPT_MSS | CP_OPT_WS | CP_OPT_SACK | CP_OPT_TS);
	b = rig_server(&s, CP_TCP_SYN | CP_TCP_ACK);
	b.ack++; /* acknowledges what we never sent */
	rig_rx(&b);
	assert_int_equal(rig_sent().flags, CP_TCP_RST);
	b = rig_server(&s, CP_TCP_SYN | CP_TCP_ACK | CP_TCP_ECE);
	rig_pass(300);
	rig_rx(&b);
	assert_int_equal(rig_sent().flags, CP_TCP_ACK);
	assert_int_equal(rig_sent().ack, 9001);
	assert_int_equal(rig_sent().seq, s.seq + 1);
	memcpy(&in, rig_last(TOE_CMD_INSTALL)->data, sizeof(in));
	assert_int_equal(in.listener, TOE_NONE);
	assert_int_equal(in.slot, r->u.conn.slot);
	assert_int_equal(in.slot_gen, r->u.conn.gen);
	assert_int_equal(in.mss, 1388);
	assert_int_equal(in.snd_wnd, 28960); /* not scaled in a SYN */
	assert_int_equal(in.snd_wscale, 5);
	assert_int_equal(in.flags, TOE_INSTALL_TS | TOE_INSTALL_SACK | TOE_INSTALL_ECN);
	assert_in_range(in.srtt_us, 300, 301);
	assert_int_equal(rig_slot(in.slot)->mss, 1388);
	/* the same destination again from the same port cannot be */
	assert_int_equal(rig_connect(5)->status, -EADDRNOTAVAIL);
}

static void connect_refused(void **state)
{
	uint32_t slot = rig_connect(4)->u.conn.slot;
	struct cp_seg s = rig_sent();
	struct cp_build b = rig_server(&s, CP_TCP_RST);
	struct toe_cmd_slot *err;

	(void)state;
	rig_rx(&b); /* without ACK: could be anybody's */
	assert_int_equal(rig_count(TOE_CMD_SLOT_ERROR), 0);
	b.flags |= CP_TCP_ACK;
	rig_rx(&b);
	err = (struct toe_cmd_slot *)rig_last(TOE_CMD_SLOT_ERROR)->data;
	assert_int_equal(err->error, ECONNREFUSED);
	assert_int_equal(err->slot, slot);
	assert_int_equal(rig_last_msg(TOE_CTL_CP_PORT_FREE)->u.conn.slot, slot);
	assert_int_equal(rig.cp.conn_count, 0);
	assert_int_equal(rig.cp.app_rt[0].free_n, RIG_SLOTS - 1);
	rig_hup(4);
	assert_int_equal(rig.cp.app_rt[0].free_n, RIG_SLOTS);
	assert_non_null(rig_last_msg(TOE_CTL_CP_TOKEN_FREE));
}

static void connect_times_out(void **state)
{
	uint64_t start = rig.now_us;

	(void)state;
	rig_connect(4);
	rig_run_ms(126000);
	assert_int_equal(rig_count(TOE_CMD_FRAME_TX), 7);
	assert_int_equal(rig_count(TOE_CMD_SLOT_ERROR), 0);
	assert_int_equal(rig_sent().flags, CP_TCP_SYN); /* ECN given up */
	rig_run_ms(3000);
	assert_int_equal(((struct toe_cmd_slot *)rig_last(TOE_CMD_SLOT_ERROR)->data)->error,
			 ETIMEDOUT);
	assert_true(rig.now_us > start);
}

static void simultaneous_open(void **state)
{
	struct cp_build b;
	struct cp_seg s;

	(void)state;
	rig_connect(4);
	s = rig_sent();
	b = rig_server(&s, CP_TCP_SYN);
	b.ack = 0;
	rig_rx(&b);
	assert_int_equal(rig_sent().flags, CP_TCP_SYN | CP_TCP_ACK);
	assert_int_equal(rig_sent().seq, s.seq);
	assert_int_equal(rig_sent().ack, 9001);
	b = rig_server(&s, CP_TCP_SYN | CP_TCP_ACK);
	rig_rx(&b);
	assert_int_equal(rig_count(TOE_CMD_INSTALL), 1);
}

static void not_through_the_port(void **state)
{
	(void)state;
	rig.via_port = false;
	assert_int_equal(rig_connect(4)->status, -EXDEV);
	rig.via_port = true;
	for (uint32_t i = 0; i < RIG_SLOTS; i++) {
		rig.bind_port = (uint16_t)(41000 + i);
		assert_int_equal(rig_connect(i)->status, 0);
	}
	rig.bind_port = 42000;
	assert_int_equal(rig_connect(30)->status, -EXDEV); /* no slot: the kernel can do it */
}

static void next_hop_is_waited_for(void **state)
{
	static const uint8_t mac[6] = {2, 2, 2, 2, 2, 2};

	(void)state;
	rig.neigh_err = -EAGAIN;
	assert_int_equal(rig_connect(4)->status, 0);
	assert_int_equal(rig_count(TOE_CMD_FRAME_TX), 0);
	rig.neigh_err = 0;
	rig_neigh(9, mac);
	assert_memory_equal(rig_last(TOE_CMD_FRAME_TX)->data, mac, 6);
	rig.neigh_err = -EAGAIN;
	rig.bind_port = 40001;
	rig_connect(5);
	rig_neigh(9, NULL);
	assert_int_equal(((struct toe_cmd_slot *)rig_last(TOE_CMD_SLOT_ERROR)->data)->error,
			 EHOSTUNREACH);
	assert_int_equal(rig.cp.syn_sent.n, 1); /* the first had its SYN out already */
}

static void install_refused(void **state)
{
	uint32_t id;

	(void)state;
	rig_listen(8);
	id = rig_accept(7001);
	rig_event(TOE_EV_REMOVED, id, rig.cp.conns[id].gen, NULL);
	assert_int_equal(rig.cp.conn_count, 0);
	assert_int_equal(rig.cp.app_rt[0].free_n, RIG_SLOTS);
	assert_int_equal(rig.cp.app_rt[0].listeners[0].installing, 0);
}

static void mac_moves(void **state)
{
	static const uint8_t mac[6] = {2, 2, 2, 2, 2, 2};
	uint32_t id;

	(void)state;
	rig_listen(8);
	id = rig_accept(7000);
	rig_installed(id);
	rig_neigh(2, peer_mac);
	assert_int_equal(rig_count(TOE_CMD_NEIGH), 0);
	rig_neigh(2, mac);
	assert_int_equal(rig_last(TOE_CMD_NEIGH)->e.conn, id);
	assert_memory_equal(rig_last(TOE_CMD_NEIGH)->data, mac, 6);
}

static int connect_from(uint16_t port)
{
	rig.bind_port = port;
	return rig_connect(port % RIG_TOKENS)->status;
}

/* Four applications share 64 ids of which 90 % are reserved: 57 / 4 = 14 each, whatever others do.
 */
static void ids_are_left_for_others(void **state)
{
	struct toe_tuple t;
	const uint32_t other = 1;

	(void)state;
	rig.cfg.reserve_percent = 90;
	for (uint16_t i = 0; i < 14; i++)
		assert_int_equal(connect_from(40000 + i), 0);
	assert_int_equal(rig.cp.app_rt[0].conn_n, 14);
	assert_int_equal(connect_from(40014), -EXDEV);
	assert_int_equal(rig.st->counters[CP_CNT_share_refused], 1);
	memset(&t, 0, sizeof(t));
	t.family = rig_family;
	for (uint16_t i = 0; i < 14; i++) {
		t.local_port = htons(50000 + i);
		assert_int_not_equal(cp_conn_alloc(&rig.cp, other, &t), TOE_NONE);
		rig.cp.app_rt[other].conn_n++;
	}
	t.local_port = htons(50014);
	assert_int_equal(cp_conn_alloc(&rig.cp, other, &t), TOE_NONE);
	assert_int_equal(rig.st->counters[CP_CNT_share_refused], 2);
	rig.cfg.reserve_percent = 0;
	assert_int_equal(connect_from(40015), 0);
	rig.cfg.reserve_percent = 90;
	assert_int_equal(connect_from(40016), -EXDEV);
	rig_run_ms(300000); /* nobody answers: the first application's have failed */
	for (uint16_t i = 0; i < 15; i++)
		rig_hup((40000 + i) % RIG_TOKENS);
	rig_run_ms(1000);
	assert_true(rig.cp.app_rt[0].conn_n < 14);
	assert_int_equal(connect_from(41000), 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(passive_open),
		T(no_options),
		T(data_with_the_last_ack_is_reinjected_in_order),
		T(synack_is_repeated_with_backoff),
		T(repeated_synack_means_one_segment),
		T(half_open_rules),
		T(nobody_listens),
		T(backlog_holds_back),
		T(cookies_when_the_table_is_full),
		T(listeners_of_processes),
		T(daemon_forks_and_parent_exits),
		T(active_open),
		T(connect_refused),
		T(connect_times_out),
		T(simultaneous_open),
		T(not_through_the_port),
		T(next_hop_is_waited_for),
		T(mac_moves),
		T(install_refused),
		T(ids_are_left_for_others),
	};

	return rig_run_both("cp_handshake", tests);
}
