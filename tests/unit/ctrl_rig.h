/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The ctrl stage between a control-plane queue, whose other end is the test, and pipeline
 * stand-ins. Include once per test program.
 */
#ifndef TOE_TEST_CTRL_RIG_H
#define TOE_TEST_CTRL_RIG_H

#include "common/cpq_ring.h"
#include "ctrl.h"
#include "flow_table.h"
#include "host_rig.h"

#define APP     2u
#define CONNS   16u
#define ENTRY_N 16u
#define ENTRY_B 1600u

static int cp_kick; /* control plane's end */

static struct toe_cpq_hdr *make_cpq(void)
{
	size_t bytes = sizeof(struct toe_cpq_hdr) + 2 * ENTRY_N * ENTRY_B;
	struct toe_cpq_hdr *h = aligned_alloc(64, (bytes + 63) / 64 * 64);

	memset(h, 0, bytes);
	h->entry_n = ENTRY_N;
	h->entry_bytes = ENTRY_B;
	h->off_down = sizeof(*h);
	h->off_up = h->off_down + ENTRY_N * ENTRY_B;
	return h;
}

static void start(void)
{
	int pair[2];

	rig_engine(CONNS, 63);
	rig_attach(APP);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	env.engine.cpq_kick_fd = pair[0];
	cp_kick = pair[1];
	env.engine.cpq = make_cpq();
	env.engine.flows = toe_flow_table_create(CONNS, NULL);
	assert_non_null(env.engine.flows);
	rig_stage(&toe_stage_ctrl);
}

static void stop(void)
{
	rig_clear();
	assert_int_equal(env.live, 0);
	assert_int_equal(rte_mempool_in_use_count(env.engine.mbuf_pool), 0);
	toe_flow_table_free(env.engine.flows);
	free(env.engine.cpq);
	close(env.engine.cpq_kick_fd);
	close(cp_kick);
	rig_stop();
}

static void poll_stage(void)
{
	env.stage.ops->poll(&env.stage, 128);
}

static void command(uint16_t type, uint32_t conn, uint32_t gen, const void *data, uint16_t len)
{
	struct toe_cpq_ring r = toe_cpq_down(env.engine.cpq);
	struct toe_cpq_entry *e = toe_cpq_reserve(&r);

	assert_non_null(e);
	*e = (struct toe_cpq_entry){
		.type = type, .len = len, .conn = conn, .gen = gen, .cookie = conn + 1000};
	if (len != 0)
		memcpy(toe_cpq_data(e), data, len);
	toe_cpq_publish(&r);
}

static bool down_empty(void)
{
	struct toe_cpq_ring r = toe_cpq_down(env.engine.cpq);

	return toe_cpq_peek(&r) == NULL;
}

/* The next event; type 0 if there is none. */
static struct toe_cpq_entry event(void *data, size_t max)
{
	struct toe_cpq_ring r = toe_cpq_up(env.engine.cpq);
	struct toe_cpq_entry *e = toe_cpq_peek(&r);
	struct toe_cpq_entry got = {0};

	if (e == NULL)
		return got;
	got = *e;
	if (data != NULL)
		memcpy(data, toe_cpq_data(e), got.len < max ? got.len : max);
	toe_cpq_consume(&r);
	return got;
}

static struct toe_tuple tuple(uint16_t port)
{
	struct toe_tuple t;

	memset(&t, 0, sizeof(t));
	memcpy(t.local_addr, "\x0a\0\0\1", 4);
	memcpy(t.remote_addr, "\x0a\0\0\2", 4);
	t.local_port = rte_cpu_to_be_16(80);
	t.remote_port = rte_cpu_to_be_16(port);
	t.family = AF_INET;
	return t;
}

/* A remote port whose flow-group is that of conn; each call another one. */
static uint16_t port_for(uint32_t conn)
{
	static uint16_t next = 20000;

	for (;;) {
		struct toe_tuple t = tuple(++next);

		if (toe_flow_group(toe_flow_hash(&t), 4) == conn % 4)
			return next;
	}
}

static struct toe_cmd_install install_cmd(uint32_t conn, uint16_t port)
{
	struct toe_tuple t = tuple(port);
	struct toe_cmd_install in = {.app_id = APP,
				     .slot = conn,
				     .listener = TOE_NONE,
				     .family = AF_INET,
				     .local_port = 80,
				     .remote_port = port,
				     .rx_buf_bytes = RIG_BUF,
				     .tx_buf_bytes = RIG_BUF};

	memcpy(in.local_addr, t.local_addr, 16);
	memcpy(in.remote_addr, t.remote_addr, 16);
	return in;
}

static uint16_t install(uint32_t conn, uint32_t gen)
{
	uint16_t port = port_for(conn);
	struct toe_cmd_install in = install_cmd(conn, port);

	command(TOE_CMD_INSTALL, conn, gen, &in, sizeof(in));
	poll_stage();
	return port;
}

static struct toe_flow_ref lookup_ref(uint16_t port)
{
	struct toe_tuple t = tuple(port);
	const struct toe_tuple *keys[] = {&t};
	struct toe_flow_ref ref;

	toe_flow_table_lookup(env.engine.flows, keys, 1, &ref);
	return ref;
}

static uint32_t lookup(uint16_t port)
{
	return lookup_ref(port).conn;
}

static bool installed(uint32_t conn)
{
	const struct ctrl *p = env.stage.priv;

	return p->conns[conn].installed;
}

static void feed(struct toe_work *w)
{
	env.stage.ops->process(&env.stage, &w, 1);
}

static void feed_event(uint32_t conn, uint32_t gen, uint16_t cmd, uint16_t ev)
{
	struct toe_work *w = toe_work_alloc(&env.stage, TOE_WORK_CTRL);

	memset(&w->snap, 0, sizeof(w->snap));
	w->conn = conn;
	w->gen = gen;
	w->cmd = cmd;
	w->cookie = 99;
	w->todo = TOE_TODO_CTRL;
	w->snap.event = ev;
	feed(w);
	assert_ptr_equal(rig_take(TOE_STAGE_N), w);
	assert_int_equal(w->todo, 0);
	toe_work_free(&env.stage, w);
}

#endif
