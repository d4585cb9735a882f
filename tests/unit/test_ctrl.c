// SPDX-License-Identifier: BSD-3-Clause
/* LINK: datapath/stages/ctrl.c datapath/stages/ctrl_cmd.c datapath/stages/ctrl_event.c
 * datapath/stream_registry.c datapath/flow_table.c datapath/netif_parse.c datapath/seg_parse.c
 * datapath/apps.c common/closer.c datapath/sigbus.c common/flow_hash.c common/log.c */
/* ctrl: every command, every event, full rings, exhaustion, dump, sleeping. */
#include "ctrl_rig.h"

/* ---- connections ---- */

static void test_install_remove(void **state)
{
	const struct toe_cmd_close fin = {.mode = TOE_CLOSE_FIN};
	struct toe_ev_conn ev = {0};
	struct toe_cpq_entry e;
	struct toe_work *w;
	uint16_t port;

	(void)state;
	start();
	port = install(5, 7);
	w = rig_take(TOE_STAGE_SEQ);
	assert_non_null(w);
	assert_int_equal(w->type, TOE_WORK_CTRL);
	assert_int_equal(w->cmd, TOE_CMD_INSTALL);
	assert_int_equal(w->conn, 5);
	assert_int_equal(w->gen, 7);
	assert_int_equal(w->fg, 1);
	assert_int_equal(w->cookie, 1005);
	assert_int_equal(w->todo, 0);
	assert_int_equal(toe_work_ctrl(w)->cmd.install.remote_port, port);
	toe_work_free(&env.stage, w);
	assert_int_equal(lookup(port), 5);
	assert_int_equal(lookup_ref(port).gen, 7);
	assert_true(installed(5));
	env.engine.prog[5] = (struct toe_flow_prog){
		.snd_nxt = 11, .snd_una = 10, .rcv_nxt = 20, .flags = TOE_PROG_FIN_SENT};
	env.engine.flow_proto[5].ts_recent = 30;
	feed_event(5, 7, TOE_CMD_INSTALL, TOE_EV_INSTALLED);
	e = event(&ev, sizeof(ev));
	assert_int_equal(e.type, TOE_EV_INSTALLED);
	assert_int_equal(e.conn, 5);
	assert_int_equal(e.gen, 7);
	assert_int_equal(e.cookie, 99);
	assert_int_equal(e.len, sizeof(ev));
	assert_int_equal(ev.app_id, APP);
	assert_int_equal(ev.slot, 5);
	assert_int_equal(ev.snd_nxt, 11);
	assert_int_equal(ev.snd_una, 10);
	assert_int_equal(ev.rcv_nxt, 20);
	assert_int_equal(ev.ts_recent, 30);
	assert_int_equal(ev.flags, TOE_PROG_FIN_SENT);
	rig_clear();
	/* twice: once is enough, but only until REMOVED; and nobody waits for a close */
	command(TOE_CMD_REMOVE, 5, 7, NULL, 0);
	command(TOE_CMD_REMOVE, 5, 7, NULL, 0);
	command(TOE_CMD_CLOSE, 5, 7, &fin, sizeof(fin));
	poll_stage();
	assert_int_equal(env.emitted_n, 1);
	assert_int_equal(env.drops[TOE_D_STALE], 0);
	assert_int_equal(lookup(port), TOE_NONE);
	assert_false(installed(5));
	rig_clear();
	feed_event(5, 7, TOE_CMD_REMOVE, TOE_EV_REMOVED);
	assert_int_equal(event(NULL, 0).type, TOE_EV_REMOVED);
	env_clear();
	/* not installed: proto answers, so ctrl passes it on */
	command(TOE_CMD_REMOVE, 5, 7, NULL, 0);
	poll_stage();
	assert_int_equal(env.emitted_n, 1);
	stop();
}

static void test_install_refused(void **state)
{
	struct toe_cmd_install in = install_cmd(5, port_for(5));
	struct toe_cmd_install bad;
	struct toe_ev_conn ev = {0};
	uint16_t port;

	(void)state;
	start();
	bad = in;
	bad.remote_port = port_for(6); /* an id of another partition */
	command(TOE_CMD_INSTALL, 5, 1, &bad, sizeof(bad));
	bad = in;
	bad.slot = RIG_SLOTS;
	command(TOE_CMD_INSTALL, 5, 2, &bad, sizeof(bad));
	bad = in;
	bad.rx_buf_bytes = RIG_BUF * 2;
	command(TOE_CMD_INSTALL, 5, 3, &bad, sizeof(bad));
	bad = in;
	bad.family = AF_UNIX;
	command(TOE_CMD_INSTALL, 5, 4, &bad, sizeof(bad));
	bad = in;
	bad.local_mac[0] = 2; /* not the port's */
	command(TOE_CMD_INSTALL, 5, 5, &bad, sizeof(bad));
	bad = in;
	bad.app_id = APP + 1; /* gone: only what flow_post can hold is looked at */
	bad.slot = TOE_REGION_ENTRIES_MAX;
	command(TOE_CMD_INSTALL, 5, 6, &bad, sizeof(bad));
	bad.slot = 0;
	bad.app_id = TOE_APP_N;
	command(TOE_CMD_INSTALL, 5, 7, &bad, sizeof(bad));
	poll_stage();
	for (uint32_t gen = 1; gen <= 7; gen++) {
		struct toe_cpq_entry e = event(&ev, sizeof(ev));

		assert_int_equal(e.type, TOE_EV_REMOVED);
		assert_int_equal(e.gen, gen);
		assert_int_equal(ev.flags, TOE_PROG_RESET);
	}
	assert_int_equal(env.emitted_n, 0);
	command(TOE_CMD_INSTALL, 5, 5, &in, 100);            /* short */
	command(TOE_CMD_INSTALL, CONNS, 5, &in, sizeof(in)); /* no such id */
	command(77, 5, 5, &in, sizeof(in));                  /* no such command */
	command(TOE_CMD_CC, 5, 5, NULL, 0);
	poll_stage();
	assert_true(down_empty());
	assert_int_equal(event(NULL, 0).type, 0);
	assert_int_equal(env.emitted_n, 0);
	/* one tuple, two connections */
	port = install(5, 6);
	in = install_cmd(9, port);
	command(TOE_CMD_INSTALL, 9, 1, &in, sizeof(in));
	poll_stage();
	assert_int_equal(event(NULL, 0).type, TOE_EV_REMOVED);
	assert_false(installed(9));
	assert_int_equal(lookup(port), 5);
	/* the same again is not an error; the id for another is */
	in = install_cmd(5, port);
	command(TOE_CMD_INSTALL, 5, 6, &in, sizeof(in));
	poll_stage();
	assert_int_equal(event(NULL, 0).type, 0);
	command(TOE_CMD_INSTALL, 5, 7, &in, sizeof(in));
	poll_stage();
	assert_int_equal(event(NULL, 0).type, TOE_EV_REMOVED);
	assert_int_equal(env.emitted_n, 1);
	stop();
}

static void test_conn_commands(void **state)
{
	static const uint16_t types[] = {TOE_CMD_CC,        TOE_CMD_RTO,   TOE_CMD_PROBE,
					 TOE_CMD_KEEPALIVE, TOE_CMD_CLOSE, TOE_CMD_NEIGH,
					 TOE_CMD_QUIET};
	struct toe_cmd_cc cc = {.rate_bps = 0x1122334455667788u, .cwnd = 7, .loss_epoch = 3};

	(void)state;
	start();
	install(5, 7);
	rig_clear();
	for (unsigned i = 0; i < 7; i++)
		command(types[i], 5, 7, &cc, sizeof(cc));
	for (unsigned i = 0; i < 7; i++)
		command(types[i], 5, 6, &cc, sizeof(cc)); /* stale */
	poll_stage();
	assert_int_equal(env.emitted_n, 7);
	assert_int_equal(env.drops[TOE_D_STALE], 7);
	for (unsigned i = 0; i < 7; i++) {
		struct toe_work *w = env.emitted[i];

		assert_int_equal(env.to[i], TOE_STAGE_SEQ);
		assert_int_equal(w->cmd, types[i]);
		assert_int_equal(w->gen, 7);
		assert_memory_equal(&toe_work_ctrl(w)->cmd.cc, &cc, sizeof(cc));
	}
	stop();
}

static void test_host_commands(void **state)
{
	struct toe_cmd_slot slot = {.app_id = APP, .slot = 3, .gen = 4, .error = 111};
	struct toe_cmd_listener listener = {.app_id = APP, .listener = 1, .open = 1};
	struct toe_cmd_port port = {.family = AF_INET, .port = 80, .state = TOE_PORT_LISTEN};
	const struct toe_cmd_addr6 addr = {.addr = {{0x20, 1, [15] = 1}, {0xfe, 0x80}}};

	(void)state;
	start();
	command(TOE_CMD_PORT, TOE_NONE, 0, &port, sizeof(port));
	command(TOE_CMD_ADDR6, TOE_NONE, 0, &addr, sizeof(addr));
	command(TOE_CMD_SLOT_CLEAR, TOE_NONE, 0, &slot, sizeof(slot));
	command(TOE_CMD_SLOT_ERROR, TOE_NONE, 0, &slot, sizeof(slot));
	command(TOE_CMD_LISTENER, TOE_NONE, 0, &listener, sizeof(listener));
	poll_stage();
	assert_int_equal(toe_port_get(env.engine.flows, AF_INET, 80), TOE_PORT_LISTEN);
	assert_true(toe_addr6_ours(env.engine.flows, addr.addr[1]));
	assert_int_equal(env.emitted_n, 3);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(env.to[i], TOE_STAGE_CTXQ);
		assert_int_equal(env.emitted[i]->todo, TOE_TODO_CTXQ);
		assert_int_equal(env.emitted[i]->conn, TOE_NONE);
	}
	assert_int_equal(toe_work_ctrl(env.emitted[1])->cmd.slot.error, 111);
	assert_int_equal(toe_work_ctrl(env.emitted[2])->cmd.listener.listener, 1);
	stop();
}

/* ---- frames ---- */

static void test_frames_down(void **state)
{
	struct frame_spec f = FRAME_DEFAULT;
	uint8_t frame[1600];
	uint32_t len;
	struct toe_tuple t = tuple(40000);
	struct toe_work *w;

	(void)state;
	f.payload_len = 300;
	start();
	len = frame_make(frame, &f);
	command(TOE_CMD_FRAME_TX, TOE_NONE, 0, frame, (uint16_t)len);
	command(TOE_CMD_FRAME_RX, TOE_NONE, 0, frame, (uint16_t)len);
	command(TOE_CMD_FRAME_RX, TOE_NONE, 0, frame, 20); /* not TCP */
	command(TOE_CMD_FRAME_TX, TOE_NONE, 0, frame, 3);
	command(TOE_CMD_FRAME_TAP, TOE_NONE, 0, frame, (uint16_t)len);
	command(TOE_CMD_FRAME_TAP, TOE_NONE, 0, frame, 3);
	poll_stage();
	assert_int_equal(env.emitted_n, 3);
	w = rig_take(TOE_STAGE_EXCEPTION);
	assert_int_equal(w->todo, 0);
	assert_memory_equal(rte_pktmbuf_mtod(w->mbuf, void *), frame, len);
	toe_work_free(&env.stage, w);
	w = rig_take(TOE_STAGE_NETIF_TX);
	assert_int_equal(w->todo, TOE_TODO_TX);
	assert_null(w->mbuf);
	assert_int_equal(w->tx_mbuf->pkt_len, len);
	assert_memory_equal(rte_pktmbuf_mtod(w->tx_mbuf, void *), frame, len);
	toe_work_free(&env.stage, w);
	w = rig_take(TOE_STAGE_SEQ);
	assert_int_equal(w->type, TOE_WORK_RX);
	assert_int_equal(w->conn, TOE_NONE);
	assert_int_equal(w->hash, toe_flow_hash(&t));
	assert_int_equal(w->fg, toe_flow_group(w->hash, 4));
	assert_int_equal(w->verdict, TOE_FORWARD);
	assert_memory_equal(rte_pktmbuf_mtod(w->mbuf, void *), frame, len);
	toe_work_free(&env.stage, w);
	stop();
}

static void test_frames_up(void **state)
{
	struct frame_spec f = FRAME_DEFAULT;
	uint8_t frame[1600], *p;
	struct toe_cpq_entry e;
	struct toe_work *w;
	uint32_t len;

	(void)state;
	start();
	f.payload_len = 16;
	len = frame_make(frame, &f);
	w = frame_item(&f);
	w->verdict = TOE_TO_CTRL;
	feed(w);
	memset(frame, 0, sizeof(frame));
	e = event(frame, sizeof(frame));
	assert_int_equal(e.type, TOE_EV_FRAME);
	assert_int_equal(e.len, len);
	assert_int_equal(e.conn, TOE_NONE);
	assert_memory_equal(frame, rte_pktmbuf_mtod(w->mbuf, void *), len);
	assert_int_equal(rig_take(TOE_STAGE_N) == w, 1);
	p = rte_pktmbuf_mtod(w->mbuf, uint8_t *);
	memcpy(p + 14 + 20 + 8, p + 14, 28); /* quotes itself, as TCP */
	p[14 + 9] = 1;                       /* ICMP */
	p[14 + 20] = 3;
	feed(w);
	assert_int_equal(event(frame, sizeof(frame)).type, TOE_EV_ICMP);
	/* does not fit an entry */
	rte_pktmbuf_append(w->mbuf, 1600);
	feed(w);
	assert_int_equal(event(frame, sizeof(frame)).type, 0);
	assert_int_equal(env.drops[TOE_D_CPQ_FULL], 1);
	env.emitted[1] = env.emitted[2] = NULL;
	toe_work_free(&env.stage, w);
	stop();
}

/* ---- full rings, exhaustion ---- */

static void test_up_full(void **state)
{
	struct frame_spec f = FRAME_DEFAULT;
	struct toe_work *w;

	(void)state;
	start();
	for (uint32_t i = 0; i < 40; i++)
		feed_event(i % CONNS, 100 + i, 0, TOE_EV_ACTIVE);
	w = frame_item(&f);
	w->verdict = TOE_TO_CTRL;
	feed(w);
	assert_int_equal(env.drops[TOE_D_CPQ_FULL], 1);
	assert_true(env.stage.ops->deadline(&env.stage) != UINT64_MAX);
	for (uint32_t i = 0; i < 40; i++) {
		struct toe_cpq_entry e = event(NULL, 0);

		assert_int_equal(e.type, TOE_EV_ACTIVE);
		assert_int_equal(e.gen, 100 + i);
		poll_stage();
	}
	assert_int_equal(event(NULL, 0).type, 0);
	assert_true(env.stage.ops->deadline(&env.stage) == UINT64_MAX);
	stop();
}

static void test_accept_full(void **state)
{
	(void)state;
	start();
	install(5, 7);
	rig_clear();
	feed_event(5, 7, TOE_CMD_INSTALL, TOE_EV_ACCEPT_FULL);
	assert_int_equal(event(NULL, 0).type, TOE_EV_INSTALLED);
	assert_int_equal(event(NULL, 0).type, TOE_EV_ACCEPT_FULL);
	assert_int_equal(event(NULL, 0).type, 0);
	stop();
}

/* Without items or buffers commands wait, in order, and nothing is half done. */
static void test_exhausted(void **state)
{
	struct toe_cmd_port port = {.family = AF_INET, .port = 81, .state = TOE_PORT_RESERVED};
	struct rte_mbuf *all[63];
	struct frame_spec f = FRAME_DEFAULT;
	uint8_t frame[200];
	uint16_t p;

	(void)state;
	start();
	env.alloc_left = 0;
	p = install(5, 7);
	command(TOE_CMD_PORT, TOE_NONE, 0, &port, sizeof(port));
	poll_stage();
	assert_false(down_empty());
	assert_int_equal(lookup(p), TOE_NONE);
	assert_false(installed(5));
	assert_int_equal(toe_port_get(env.engine.flows, AF_INET, 81), 0);
	assert_true(env.stage.ops->deadline(&env.stage) != UINT64_MAX);
	assert_false(env.stage.ops->sleep(&env.stage, true)); /* does not spin on it */
	env.alloc_left = 100;
	poll_stage();
	assert_true(down_empty());
	assert_int_equal(lookup(p), 5);
	assert_int_equal(toe_port_get(env.engine.flows, AF_INET, 81), TOE_PORT_RESERVED);
	rig_clear();
	assert_int_equal(rte_pktmbuf_alloc_bulk(env.engine.mbuf_pool, all, 63), 0);
	command(TOE_CMD_FRAME_TX, TOE_NONE, 0, frame, (uint16_t)frame_make(frame, &f));
	poll_stage();
	assert_false(down_empty());
	rte_pktmbuf_free_bulk(all, 63);
	poll_stage();
	assert_true(down_empty());
	assert_int_equal(env.emitted_n, 1);
	stop();
}

static void test_dump(void **state)
{
	struct toe_ev_conn ev = {0};
	uint32_t seen = 0;

	(void)state;
	start();
	for (uint32_t c = 0; c < CONNS; c++) {
		if (c != 4)
			install(c, 50 + c);
		rig_clear();
	}
	env.engine.prog[6].snd_una = 1234;
	command(TOE_CMD_REMOVE, 9, 59, NULL, 0); /* until REMOVED it is there */
	poll_stage();
	rig_clear();
	for (unsigned k = 0; k < 3; k++) /* leaves room for 13 of 16 */
		feed_event(0, 0, 0, TOE_EV_ACTIVE);
	command(TOE_CMD_DUMP, 7, 0, NULL, 0);
	command(TOE_CMD_DUMP, 8, 0, NULL, 0); /* after the first */
	poll_stage();
	poll_stage();
	for (unsigned k = 0; k < 3; k++)
		assert_int_equal(event(NULL, 0).type, TOE_EV_ACTIVE);
	for (unsigned dump = 0; dump < 2; dump++) {
		seen = 0;
		for (;;) {
			struct toe_cpq_entry e = event(&ev, sizeof(ev));

			poll_stage();
			assert_int_equal(e.type, TOE_EV_DUMP);
			assert_int_equal(e.cookie, 1007 + dump);
			if (e.conn == TOE_NONE)
				break;
			assert_int_equal(e.gen, 50 + e.conn);
			assert_int_equal(ev.slot, e.conn);
			if (e.conn == 6)
				assert_int_equal(ev.snd_una, 1234);
			seen |= 1u << e.conn;
		}
		assert_int_equal(seen, 0xffef);
	}
	assert_int_equal(event(NULL, 0).type, 0);
	stop();
}

/* ---- sleeping ---- */

static void test_sleep_and_kick(void **state)
{
	(void)state;
	start();
	feed_event(1, 1, 0, TOE_EV_ACTIVE);
	assert_int_equal(rig_bytes(cp_kick), 0);
	env.engine.cpq->up_asleep = 1;
	feed_event(1, 1, 0, TOE_EV_ACTIVE);
	assert_int_equal(rig_bytes(cp_kick), 1);
	poll_stage(); /* nothing new, no kick */
	assert_int_equal(rig_bytes(cp_kick), 0);
	assert_false(env.stage.ops->sleep(&env.stage, true));
	assert_int_equal(env.engine.cpq->down_asleep, 1);
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(send(cp_kick, "", 1, MSG_DONTWAIT), 1);
	env.stage.ops->sleep(&env.stage, false);
	assert_int_equal(env.engine.cpq->down_asleep, 0);
	assert_int_equal(recv(env.engine.cpq_kick_fd, &cp_kick, 1, MSG_DONTWAIT | MSG_PEEK), -1);
	command(TOE_CMD_DUMP, 0, 0, NULL, 0);
	assert_true(env.stage.ops->sleep(&env.stage, true));
	env.stage.ops->sleep(&env.stage, false);
	assert_int_equal(rig.unwatched, 0);
	close(cp_kick); /* gone for good: must not keep the lcore awake */
	env.stage.ops->sleep(&env.stage, false);
	assert_int_equal(rig.unwatched, env.engine.cpq_kick_fd);
	stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_install_remove), cmocka_unit_test(test_install_refused),
		cmocka_unit_test(test_conn_commands),  cmocka_unit_test(test_host_commands),
		cmocka_unit_test(test_frames_down),    cmocka_unit_test(test_frames_up),
		cmocka_unit_test(test_up_full),        cmocka_unit_test(test_accept_full),
		cmocka_unit_test(test_exhausted),      cmocka_unit_test(test_dump),
		cmocka_unit_test(test_sleep_and_kick),
	};

	return cmocka_run_group_tests(tests, rig_eal, NULL);
}
