/* SPDX-License-Identifier: BSD-3-Clause */
/* Death and restart of the control plane: the state memfd, the dump, half-done things. */
/* LINK: tests/unit/cp_rig.h */
#include "cp_rig.h"

/* kill -9: the heap is gone, the memfd and the region stay. */
static void die_and_start(void)
{
	cp_fini(&rig.cp);
	munmap(rig.st, rig.st->total_bytes);
	rig_clear();
	rig_boot();
	rig_app_message(TOE_CTL_CP_APP);
	rig_app_message(TOE_CTL_CP_PROC);
}

static void dump(uint32_t id, uint32_t flags)
{
	struct toe_ev_conn ev = {.flags = flags};

	rig_event(TOE_EV_DUMP, id, rig.cp.conns[id].gen, &ev);
}

static void dump_end(void)
{
	rig_event(TOE_EV_DUMP, TOE_NONE, 0, NULL);
}

static uint32_t established(uint16_t port)
{
	uint32_t id = rig_accept(port);

	rig_installed(id);
	return id;
}

static void layout_is_kept_or_begun_anew(void **state)
{
	struct cp_state_geometry g = {RIG_CONNS, 4, 4, RIG_SLOTS, 8};
	int fd = memfd_create("state", 0);
	struct cp_state_hdr *h;
	uint64_t key;
	bool fresh;

	(void)state;
	assert_int_equal(cp_state_map(fd, &g, &h, &fresh), 0);
	assert_true(fresh);
	key = h->key[CP_KEY_ISN][0];
	munmap(h, h->total_bytes);
	assert_int_equal(cp_state_map(fd, &g, &h, &fresh), 0);
	assert_false(fresh);
	assert_true(h->key[CP_KEY_ISN][0] == key);
	h->counters[0] = 1;
	munmap(h, h->total_bytes);
	g.conn_n *= 2;
	assert_int_equal(cp_state_map(fd, &g, &h, &fresh), 0);
	assert_true(fresh);
	assert_true(h->key[CP_KEY_ISN][0] != key);
	assert_true(h->counters[0] == 0);
	munmap(h, h->total_bytes);
	close(fd);
}

static void connections_go_on(void **state)
{
	uint32_t free_n;
	uint32_t id;

	(void)state;
	rig_listen(8);
	id = established(5001);
	free_n = rig.cp.app_rt[0].free_n;
	die_and_start();
	assert_int_equal(rig.cp.conn_count, 1);
	assert_int_equal(rig.cp.app_rt[0].free_n, free_n);
	rig_ready();
	assert_int_equal(rig_count(TOE_CMD_DUMP), 1);
	assert_null(rig_last_msg(TOE_CTL_CP_READY));
	dump(id, 0);
	dump_end();
	assert_int_equal(rig_last_msg(TOE_CTL_CP_READY)->status, 0);
	/* an open listener is not opened again: that would empty its accept ring */
	assert_int_equal(rig_count(TOE_CMD_LISTENER), 0);
	assert_int_equal(((struct toe_cmd_port *)rig_last(TOE_CMD_PORT)->data)->state,
			 TOE_PORT_LISTEN);
	assert_int_equal(rig_count(TOE_CMD_REMOVE), 0);
	assert_int_equal(rig.cp.active.n, 1);
	/* and new ones come, close and are recycled as before */
	established(5002);
	*rig_token(1) = rig.cp.conns[id].in.slot;
	rig_hup(1);
	assert_int_equal(rig.cp.conns[id].state, CP_CLOSING);
}

static void half_done_installs(void **state)
{
	uint32_t done;
	uint32_t lost;

	(void)state;
	rig_listen(8);
	done = rig_accept(5001);
	lost = rig_accept(5002);
	die_and_start();
	rig_ready();
	dump(done, 0);
	rig_clear();
	dump_end();
	assert_int_equal(rig.cp.conns[done].state, CP_ESTABLISHED);
	assert_int_equal(rig.cp.conns[lost].state, CP_INSTALLING);
	assert_int_equal(rig_count(TOE_CMD_INSTALL), 1);
	assert_int_equal(rig_last(TOE_CMD_INSTALL)->e.conn, lost);
	assert_int_equal(rig.cp.app_rt[0].listeners[0].installing, 1);
	rig_installed(lost);
	assert_int_equal(rig.cp.app_rt[0].listeners[0].installing, 0);
}

/* Its listener was closed and the entry is another's: that one's backlog is not for it. */
static void half_done_install_of_a_closed_listener(void **state)
{
	uint32_t l = rig_listen(8);
	uint32_t id = rig_accept(5001);

	(void)state;
	cp_listener_close(&rig.cp, 0, l);
	assert_int_equal(rig_listen(8), l);
	die_and_start();
	rig_ready();
	dump(id, 0);
	dump_end();
	assert_int_equal(rig.cp.app_rt[0].listeners[l].installing, 0);
}

static void half_done_removals(void **state)
{
	uint32_t a;
	uint32_t b;

	(void)state;
	rig_listen(8);
	a = established(5001);
	b = established(5002);
	rig_event(TOE_EV_RESET, a, rig.cp.conns[a].gen, NULL);
	rig_event(TOE_EV_RESET, b, rig.cp.conns[b].gen, NULL);
	die_and_start();
	rig_ready();
	dump(a, 0);
	dump_end();
	assert_int_equal(rig_count(TOE_CMD_REMOVE), 1); /* a again; b may be under way */
	rig_run_ms(500);
	assert_int_equal(rig.cp.conns[b].state, CP_REMOVING);
	rig_run_ms(4000);
	assert_int_equal(rig.cp.conns[b].state, CP_FREE);
	assert_int_equal(rig.cp.conns[a].state, CP_REMOVING);
	rig_event(TOE_EV_REMOVED, a, rig.cp.conns[a].gen, NULL);
	assert_int_equal(rig.cp.conn_count, 0);
}

static void strangers_and_losses(void **state)
{
	uint32_t lost;
	uint32_t slot;

	(void)state;
	rig_listen(8);
	lost = established(5001);
	slot = rig.cp.conns[lost].in.slot;
	die_and_start();
	rig_ready();
	rig_event(TOE_EV_DUMP, 33, 77, NULL); /* nobody here knows it */
	assert_int_equal(rig_last(TOE_CMD_REMOVE)->e.conn, 33);
	assert_int_equal(rig_last(TOE_CMD_REMOVE)->e.gen, 77);
	dump_end();
	assert_int_equal(((struct toe_cmd_slot *)rig_last(TOE_CMD_SLOT_ERROR)->data)->error,
			 ECONNRESET);
	assert_int_equal(((struct toe_cmd_slot *)rig_last(TOE_CMD_SLOT_ERROR)->data)->slot, slot);
	assert_int_equal(rig.cp.conn_count, 0);
}

static void closes_while_away(void **state)
{
	uint32_t over;
	uint32_t mine;

	(void)state;
	rig_listen(8);
	over = established(5001);
	mine = established(5002);
	*rig_token(1) = rig.cp.conns[mine].in.slot;
	/* killed between the mark of the token and CLOSE */
	cp_slot_rec(&rig.cp, 0, rig.cp.conns[mine].in.slot)->flags |= CP_SLOT_TOKEN_GONE;
	die_and_start();
	rig_hup(1);
	rig_ready();
	dump(over, TOE_PROG_FIN_ACKED | TOE_PROG_FIN_RCVD);
	dump(mine, 0);
	dump_end();
	assert_int_equal(rig.cp.conns[over].state, CP_REMOVING);
	assert_int_equal(rig.cp.conns[mine].state, CP_CLOSING);
	assert_int_equal(rig_last(TOE_CMD_CLOSE)->e.conn, mine);
}

static void connects_and_failures(void **state)
{
	uint32_t failed;
	uint32_t pending;
	struct cp_build b;
	struct cp_seg s;

	(void)state;
	failed = rig_connect(4)->u.conn.slot;
	s = rig_sent();
	b = rig_server(&s, CP_TCP_RST | CP_TCP_ACK);
	rig_rx(&b);
	rig.bind_port = 40001;
	pending = rig_connect(5)->u.conn.slot;
	die_and_start();
	rig_ready();
	dump_end();
	assert_int_equal(((struct toe_cmd_slot *)rig_last(TOE_CMD_SLOT_ERROR)->data)->slot, failed);
	rig_run_ms(1100);
	s = rig_sent();
	assert_int_equal(ntohs(s.t.remote_port), 40001);
	assert_int_equal(s.flags & CP_TCP_SYN, CP_TCP_SYN);
	/* the keeper asks again what was not answered: the first attempt makes room */
	rig.bind_port = 40002;
	assert_int_equal(rig_connect(5)->status, 0);
	assert_int_equal(rig.cp.syn_sent.n, 1);
	assert_int_equal(rig_last_msg(TOE_CTL_CP_PORT_FREE)->u.conn.slot, pending);
}

/* Killed between its note and the command: the datapath has not heard of the close. */
static void reset_behind_what_was_written(void **state)
{
	const struct toe_cmd_close *close;
	uint32_t id;

	(void)state;
	rig_listen(8);
	id = established(5001);
	*rig_token(1) = rig.cp.conns[id].in.slot;
	rig_slot(rig.cp.conns[id].in.slot)->rx_tail = 10;
	rig_slot(rig.cp.conns[id].in.slot)->tx_tail = 20;
	rig_hup(1);
	assert_int_equal(rig.cp.conns[id].state, CP_CLOSING);
	die_and_start();
	rig_ready();
	dump(id, 0);
	dump_end();
	assert_int_equal(rig_count(TOE_CMD_CLOSE), 1);
	close = (const struct toe_cmd_close *)rig_last(TOE_CMD_CLOSE)->data;
	assert_int_equal(close->mode, TOE_CLOSE_RST | TOE_CLOSE_TAIL);
	assert_int_equal(close->tx_tail, 20);
	assert_int_equal(rig_count(TOE_CMD_REMOVE), 0);
}

static void listener_that_was_opening(void **state)
{
	(void)state;
	rig.not_durable = true; /* its command waits in the heap */
	rig_listen(8);
	assert_int_equal(rig.cp.listeners[0].state, CP_LISTENER_OPENING);
	rig.not_durable = false;
	die_and_start();
	rig_ready();
	assert_int_equal(rig_count(TOE_CMD_LISTENER), 1);
	assert_int_equal(rig.cp.listeners[0].state, CP_LISTENER_OPEN);
}

static void applications_that_ended_meanwhile(void **state)
{
	uint32_t id;

	(void)state;
	rig_listen(8);
	id = established(5001);
	cp_fini(&rig.cp);
	munmap(rig.st, rig.st->total_bytes);
	rig_clear();
	rig_boot();
	rig_ready(); /* the keeper names no application */
	dump(id, 0);
	dump_end();
	assert_int_equal(rig.cp.conns[id].state, CP_CLOSING);
	rig_event(TOE_EV_RESET, id, rig.cp.conns[id].gen, NULL);
	rig_event(TOE_EV_REMOVED, id, rig.cp.conns[id].gen, NULL);
	assert_non_null(rig_last_msg(TOE_CTL_CP_APP_FREE));
}

/* The peer has reset it, and the datapath may wait for the application's answer: that it is done is
 * told, also by the next process. */
static void closed_behind_a_reset(void **state)
{
	const struct toe_cmd_close *close;
	uint32_t id;

	(void)state;
	rig_listen(8);
	id = established(5001);
	*rig_token(1) = rig.cp.conns[id].in.slot;
	rig_slot(rig.cp.conns[id].in.slot)->tx_tail = 20;
	rig_event(TOE_EV_RESET, id, rig.cp.conns[id].gen, NULL);
	rig_clear();
	rig_hup(1);
	close = (const struct toe_cmd_close *)rig_last(TOE_CMD_CLOSE)->data;
	assert_int_equal(rig_last(TOE_CMD_CLOSE)->e.conn, id);
	assert_int_equal(close->mode, TOE_CLOSE_FIN | TOE_CLOSE_TAIL);
	assert_int_equal(close->tx_tail, 20);
	assert_int_equal(rig.cp.conns[id].state, CP_REMOVING);
	die_and_start();
	rig_ready();
	dump(id, TOE_PROG_RESET);
	dump_end();
	assert_int_equal(rig_count(TOE_CMD_CLOSE), 1);
	rig_run_ms(5000);
	assert_int_equal(rig.cp.conns[id].state, CP_REMOVING);
	rig_event(TOE_EV_REMOVED, id, rig.cp.conns[id].gen, NULL);
	assert_int_equal(rig.cp.conn_count, 0);
}

static void time_wait_survives(void **state)
{
	struct toe_ev_conn ev = {.flags = TOE_PROG_FIN_FIRST};
	struct cp_build b = rig_client(5001, CP_TCP_FIN | CP_TCP_ACK);
	uint32_t id;

	(void)state;
	rig_listen(8);
	id = established(5001);
	rig_event(TOE_EV_CLOSED, id, rig.cp.conns[id].gen, &ev);
	rig_event(TOE_EV_REMOVED, id, rig.cp.conns[id].gen, &ev);
	die_and_start();
	rig_ready();
	dump_end();
	assert_int_equal(rig.cp.tw_list.n, 1);
	rig_rx(&b);
	assert_int_equal(rig_sent().flags, CP_TCP_ACK);
	rig_run_ms(62000);
	assert_int_equal(rig.cp.tw_list.n, 0);
}

static void new_datapath_knows_nothing(void **state)
{
	(void)state;
	rig_listen(8);
	established(5001);
	rig_connect(4);
	cp_engine_changed(&rig.cp, 2, true);
	assert_int_equal(rig.cp.conn_count, 0);
	assert_non_null(rig_last_msg(TOE_CTL_CP_PORT_FREE));
	assert_int_equal(rig.cp.listeners[0].state, CP_LISTENER_FREE);
}

static void generations_differ_between_applications(void **state)
{
	uint32_t gen = rig.cp.slots[0].gen;

	(void)state;
	rig_app_message(TOE_CTL_CP_APP_GONE);
	assert_int_equal(rig.cp.apps[0].state, CP_APP_FREE);
	rig_app_message(TOE_CTL_CP_APP);
	assert_int_not_equal(rig.cp.slots[0].gen, gen);
	assert_int_equal(rig.cp.app_rt[0].free_n, RIG_SLOTS);
}

/* Killed between the accept ring and the token map: nobody else has the connection, so it ends; but
 * not while it waits in the ring, or when another process was faster. */
static void killed_while_accepting(void **state)
{
	uint32_t l = rig_listen(8);
	uint32_t id = rig_accept(6101);
	uint32_t slot = rig.cp.conns[id].in.slot;
	uint32_t *ring = (uint32_t *)(rig_listener(l) + 1);

	(void)state;
	*rig_token(3) = *rig_token(4) = *rig_token(5) = slot | TOE_TOKEN_TAKING;
	rig_hup(3);
	assert_int_equal(rig_count(TOE_CMD_CLOSE), 0); /* INSTALLING: not in the ring yet */
	rig_installed(id);
	rig_slot(slot)->gen = rig.cp.conns[id].in.slot_gen;
	ring[0] = slot;
	rig_listener(l)->prod = 1;
	rig_hup(4);
	assert_int_equal(*rig_token(4), TOE_NONE);
	assert_int_equal(rig_count(TOE_CMD_CLOSE), 0); /* waits for the next accept() */
	rig_listener(l)->cons = 1;
	*rig_token(4) = slot; /* another one has it */
	rig_hup(5);
	assert_int_equal(rig_count(TOE_CMD_CLOSE), 0);
	*rig_token(4) = TOE_NONE;
	*rig_token(5) = slot | TOE_TOKEN_TAKING;
	*rig_token(6) = (slot + 1) | TOE_TOKEN_TAKING; /* about another slot */
	rig_hup(6);
	assert_int_equal(rig_count(TOE_CMD_CLOSE), 0);
	rig_hup(5);
	assert_int_equal(rig_count(TOE_CMD_CLOSE), 1);
	assert_int_equal(rig_last(TOE_CMD_CLOSE)->e.conn, id);
	*rig_token(7) = 0xfffffff0; /* nonsense */
	rig_hup(7);
	assert_int_equal(rig_count(TOE_CMD_CLOSE), 1);
}

#define T(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(killed_while_accepting),
		T(layout_is_kept_or_begun_anew),
		T(connections_go_on),
		T(half_done_installs),
		T(half_done_install_of_a_closed_listener),
		T(half_done_removals),
		T(strangers_and_losses),
		T(closes_while_away),
		T(connects_and_failures),
		T(reset_behind_what_was_written),
		T(listener_that_was_opening),
		T(applications_that_ended_meanwhile),
		T(closed_behind_a_reset),
		T(time_wait_survives),
		T(new_datapath_knows_nothing),
		T(generations_differ_between_applications),
	};

	return rig_run_both("cp_state", tests);
}
