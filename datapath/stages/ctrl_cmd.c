/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ctrl, downwards: commands of the control plane.
 *
 * Input: the command ring.  Output: CTRL items to seq (what concerns a connection) or to ctxq
 * (slots and listeners), frames to netif_tx, seq and exception, port table, flow table.  A command
 * for which there is no item or packet buffer stays in the ring, and so do those behind it: order
 * is kept.  Commands are checked like input: a wrong one is counted and ignored, never half done.
 */
#include <string.h>
#include <sys/socket.h>

#include <rte_byteorder.h>
#include <rte_ether.h>
#include <rte_mbuf.h>

#include "apps.h"
#include "ctrl.h"
#include "netif_parse.h"
#include "stream.h"

/* A copy: the peer is trusted, but the ring is still shared memory. */
struct command {
	struct toe_cpq_entry e;
	const void *data;
};

/* Result of one command. */
enum outcome {
	DONE,
	LATER, /* no item or no buffer */
	WRONG, /* malformed */
};

static struct toe_work *make_item(struct toe_stage *s, const struct command *c)
{
	struct toe_work *w = toe_work_alloc(s, TOE_WORK_CTRL);

	if (w == NULL) {
		s->drops[TOE_D_NO_ITEM]++;
		return NULL;
	}
	w->cmd = c->e.type;
	w->conn = c->e.conn;
	w->gen = c->e.gen;
	w->cookie = c->e.cookie;
	w->fg = c->e.conn == TOE_NONE ? 0 : (uint16_t)(c->e.conn % s->engine->flow_group_n);
	memcpy(&toe_work_ctrl(w)->cmd, c->data,
	       c->e.len < sizeof(toe_work_ctrl(w)->cmd) ? c->e.len : sizeof(toe_work_ctrl(w)->cmd));
	return w;
}

/* ---- connections ---- */

static void tuple_of(const struct toe_cmd_install *in, struct toe_tuple *t)
{
	memcpy(t->local_addr, in->local_addr, sizeof(t->local_addr));
	memcpy(t->remote_addr, in->remote_addr, sizeof(t->remote_addr));
	t->local_port = rte_cpu_to_be_16(in->local_port);
	t->remote_port = rte_cpu_to_be_16(in->remote_port);
	t->family = in->family;
}

/* Slot and application have to fit toe_flow_post, and frames go out with the port's MAC, which the
 * control plane was told. */
static bool install_ok(const struct toe_engine *e, const struct command *c,
		       const struct toe_cmd_install *in, const struct toe_tuple *t)
{
	const struct toe_app *a = toe_app_get(e, in->app_id);

	if ((in->family != AF_INET && in->family != AF_INET6) || in->app_id >= TOE_APP_N ||
	    in->slot >= TOE_REGION_ENTRIES_MAX)
		return false;
	if (memcmp(in->local_mac, e->mac.addr_bytes, sizeof(in->local_mac)) != 0)
		return false;
	if (toe_flow_group(toe_flow_hash(t), e->flow_group_n) != c->e.conn % e->flow_group_n)
		return false;
	/* An application that is gone gets its connection, and no byte: the control plane is about
	 * to remove it. */
	return a == NULL || (in->slot < a->slot_n && in->rx_buf_bytes != 0 &&
			     in->rx_buf_bytes <= a->rx_buf_bytes && in->tx_buf_bytes != 0 &&
			     in->tx_buf_bytes <= a->tx_buf_bytes);
}

/* The control plane waits for an answer: there is no such connection (any more). */
static void refuse_install(struct toe_stage *s, const struct command *c)
{
	const struct toe_cmd_install *in = c->data;
	const struct toe_cpq_entry entry = {
		.type = TOE_EV_REMOVED, .conn = c->e.conn, .gen = c->e.gen, .cookie = c->e.cookie};
	const struct toe_ev_conn ev = {
		.app_id = in->app_id, .slot = in->slot, .flags = TOE_PROG_RESET};

	s->drops[TOE_D_CMD_WRONG]++;
	ctrl_raise(s, &entry, &ev);
}

/* Connections accepted on a port that a stream module wants are its for life. */
static bool claim_stream(const struct toe_engine *e, struct toe_cmd_install *in)
{
	int module = in->listener != TOE_NONE ? toe_stream_wanted(e->cfg, in->local_port) : -1;

	in->flags &= (uint8_t)~TOE_INSTALL_STREAM;
	if (module < 0)
		return false;
	in->flags |= TOE_INSTALL_STREAM;
	in->module = (uint8_t)module;
	/* What the module queues is bounded by its own budgets, not by the application's buffer. */
	in->tx_buf_bytes = TOE_REGION_BUF_MAX;
	return true;
}

/* A connection that no module follows is counted, so that a module that keeps an account of what
 * the application does knows that there is more. */
static void count_plain(const struct toe_engine *e, struct ctrl_conn *conn, bool active)
{
	struct toe_app *a = toe_app_get(e, conn->app_id);

	if (conn->streamed || a == NULL)
		return;
	conn->plain_of = a->serial;
	toe_app_plain_add(a, conn->slot, active);
}

static void uncount_plain(const struct toe_engine *e, struct ctrl_conn *conn)
{
	struct toe_app *a = toe_app_get(e, conn->app_id);

	if (conn->plain_of != 0 && a != NULL && a->serial == conn->plain_of)
		toe_app_plain_del(a, conn->slot);
	conn->plain_of = 0;
}

static enum outcome do_install(struct toe_stage *s, const struct command *c)
{
	struct toe_engine *e = s->engine;
	struct ctrl *p = s->priv;
	struct ctrl_conn *conn = &p->conns[c->e.conn];
	struct toe_cmd_install in;
	struct toe_tuple tuple;
	struct toe_work *w;
	int at;

	memcpy(&in, c->data, sizeof(in));
	tuple_of(&in, &tuple);
	if (ctrl_is(conn, c->e.gen))
		return DONE; /* again, after a restart of the control plane */
	if (conn->installed || conn->removing || !install_ok(e, c, &in, &tuple)) {
		refuse_install(s, c);
		return DONE;
	}
	w = make_item(s, c);
	if (w == NULL)
		return LATER;
	at = toe_flow_table_add(e->flows, &tuple,
				(struct toe_flow_ref){.conn = c->e.conn, .gen = c->e.gen});
	if (at < 0) {
		toe_work_free(s, w);
		refuse_install(s, c);
		return DONE;
	}
	*conn = (struct ctrl_conn){.gen = c->e.gen,
				   .slot = in.slot,
				   .flow = at,
				   .app_id = (uint8_t)in.app_id,
				   .installed = true,
				   .streamed = claim_stream(e, &in)};
	toe_work_ctrl(w)->cmd.install = in;
	count_plain(e, conn, in.listener == TOE_NONE);
	toe_emit(s, TOE_STAGE_SEQ, w);
	return DONE;
}

/* Segments behind this find no flow and go to the control plane. */
static enum outcome do_remove(struct toe_stage *s, const struct command *c)
{
	struct toe_engine *e = s->engine;
	struct ctrl *p = s->priv;
	struct ctrl_conn *conn = &p->conns[c->e.conn];
	struct toe_work *w;

	if (conn->removing && conn->gen == c->e.gen)
		return DONE; /* REMOVED will be the answer to both */
	w = make_item(s, c);
	if (w == NULL)
		return LATER;
	if (ctrl_is(conn, c->e.gen)) {
		toe_flow_table_del(e->flows, conn->flow);
		conn->installed = false;
		conn->removing = true;
		uncount_plain(e, conn);
	}
	/* One that is not installed is answered by proto, in order. */
	toe_emit(s, TOE_STAGE_SEQ, w);
	return DONE;
}

/* CLOSE behind what was written: of a streamed connection, the module adds its last bytes first.
 * Any other reset needs none, and has to stay before the REMOVE that follows it. */
static bool last_bytes(struct toe_work *w)
{
	return w->cmd == TOE_CMD_CLOSE &&
	       (toe_work_ctrl(w)->cmd.close.mode & (TOE_CLOSE_FIN | TOE_CLOSE_TAIL)) != 0;
}

static enum outcome do_conn(struct toe_stage *s, const struct command *c)
{
	const struct ctrl *p = s->priv;
	const struct ctrl_conn *conn = &p->conns[c->e.conn];
	bool ends = c->e.type == TOE_CMD_CLOSE && conn->removing && conn->gen == c->e.gen;
	struct toe_work *w;

	if (ends && !conn->streamed)
		return DONE; /* only a module may still wait for it */
	if (!ends && !ctrl_is(conn, c->e.gen)) {
		s->drops[TOE_D_STALE]++;
		return DONE;
	}
	w = make_item(s, c);
	if (w == NULL)
		return LATER;
	toe_emit(s, last_bytes(w) && conn->streamed ? TOE_STAGE_STREAM : TOE_STAGE_SEQ, w);
	return DONE;
}

/* ---- slots, listeners, ports ---- */

static enum outcome do_host(struct toe_stage *s, const struct command *c)
{
	struct toe_work *w = make_item(s, c);

	if (w == NULL)
		return LATER;
	w->conn = TOE_NONE;
	w->fg = 0;
	w->todo = TOE_TODO_CTXQ;
	toe_emit(s, TOE_STAGE_CTXQ, w);
	return DONE;
}

static enum outcome do_port(struct toe_stage *s, const struct command *c)
{
	struct toe_cmd_port port;

	memcpy(&port, c->data, sizeof(port));
	toe_port_set(s->engine->flows, port.family, port.port, port.state);
	return DONE;
}

static enum outcome do_dump(struct toe_stage *s, const struct command *c)
{
	struct ctrl *p = s->priv;

	if (p->dumping)
		return LATER;
	p->dumping = true;
	p->dump_next = 0;
	p->dump_cookie = c->e.cookie;
	return DONE;
}

/* ---- frames ---- */

/* An item with the frame in *m; LATER without resources. */
static enum outcome make_frame(struct toe_stage *s, const struct command *c,
			       enum toe_work_type type, struct toe_work **out)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(s->engine->mbuf_pool);
	struct toe_work *w;
	void *to;

	if (m == NULL) {
		s->drops[TOE_D_NO_MBUF]++;
		return LATER;
	}
	to = rte_pktmbuf_append(m, c->e.len);
	w = to != NULL ? toe_work_alloc(s, type) : NULL;
	if (w == NULL) {
		rte_pktmbuf_free(m);
		if (to == NULL)
			return WRONG;
		s->drops[TOE_D_NO_ITEM]++;
		return LATER;
	}
	memcpy(to, c->data, c->e.len);
	m->port = s->engine->eth_port;
	w->cmd = c->e.type;
	w->mbuf = m;
	*out = w;
	return DONE;
}

static enum outcome do_frame_tx(struct toe_stage *s, const struct command *c)
{
	struct toe_work *w;
	enum outcome o = make_frame(s, c, TOE_WORK_CTRL, &w);

	if (o != DONE)
		return o;
	w->tx_mbuf = w->mbuf;
	w->mbuf = NULL;
	w->todo = TOE_TODO_TX;
	toe_emit(s, TOE_STAGE_NETIF_TX, w);
	return DONE;
}

/* As netif_rx would: the same hash, the same flow-group, hence the same place in the order. */
static enum outcome do_frame_rx(struct toe_stage *s, const struct command *c)
{
	struct netif_key key;
	struct toe_work *w;
	enum outcome o;

	if (netif_parse(c->data, c->e.len, &key) != NETIF_TCP)
		return WRONG;
	o = make_frame(s, c, TOE_WORK_RX, &w);
	if (o != DONE)
		return o;
	w->cmd = 0;
	w->hash = toe_flow_hash(&key.tuple);
	w->fg = (uint16_t)toe_flow_group(w->hash, s->engine->flow_group_n);
	toe_emit(s, TOE_STAGE_SEQ, w);
	return DONE;
}

static enum outcome do_frame_tap(struct toe_stage *s, const struct command *c)
{
	struct toe_work *w;
	enum outcome o = make_frame(s, c, TOE_WORK_CTRL, &w);

	if (o == DONE)
		toe_emit(s, TOE_STAGE_EXCEPTION, w);
	return o;
}

static enum outcome do_addr6(struct toe_stage *s, const struct command *c)
{
	struct toe_cmd_addr6 cmd;

	memcpy(&cmd, c->data, sizeof(cmd));
	for (unsigned i = 0; i < TOE_ADDR6_N; i++)
		toe_addr6_set(s->engine->flows, i, cmd.addr[i]);
	return DONE;
}

/* ---- dispatch ---- */

static const struct {
	enum outcome (*run)(struct toe_stage *s, const struct command *c);
	uint16_t min_len;
	bool needs_conn;
} commands[] = {
	[TOE_CMD_INSTALL] = {do_install, sizeof(struct toe_cmd_install), true},
	[TOE_CMD_REMOVE] = {do_remove, 0, true},
	[TOE_CMD_FRAME_TX] = {do_frame_tx, sizeof(struct rte_ether_hdr), false},
	[TOE_CMD_FRAME_RX] = {do_frame_rx, sizeof(struct rte_ether_hdr), false},
	[TOE_CMD_FRAME_TAP] = {do_frame_tap, sizeof(struct rte_ether_hdr), false},
	[TOE_CMD_CC] = {do_conn, sizeof(struct toe_cmd_cc), true},
	[TOE_CMD_RTO] = {do_conn, 0, true},
	[TOE_CMD_PROBE] = {do_conn, 0, true},
	[TOE_CMD_KEEPALIVE] = {do_conn, 0, true},
	[TOE_CMD_CLOSE] = {do_conn, sizeof(struct toe_cmd_close), true},
	[TOE_CMD_PORT] = {do_port, sizeof(struct toe_cmd_port), false},
	[TOE_CMD_ADDR6] = {do_addr6, sizeof(struct toe_cmd_addr6), false},
	[TOE_CMD_NEIGH] = {do_conn, sizeof(struct toe_cmd_neigh), true},
	[TOE_CMD_SLOT_ERROR] = {do_host, sizeof(struct toe_cmd_slot), false},
	[TOE_CMD_QUIET] = {do_conn, 0, true},
	[TOE_CMD_DUMP] = {do_dump, 0, false},
	[TOE_CMD_SLOT_CLEAR] = {do_host, sizeof(struct toe_cmd_slot), false},
	[TOE_CMD_MSS] = {do_conn, sizeof(struct toe_cmd_mss), true},
	[TOE_CMD_LISTENER] = {do_host, sizeof(struct toe_cmd_listener), false},
};

static enum outcome run(struct toe_stage *s, struct toe_cpq_entry *entry)
{
	const struct ctrl *p = s->priv;
	const struct command c = {.e = *entry, .data = toe_cpq_data(entry)};

	if (c.e.type >= sizeof(commands) / sizeof(commands[0]) || commands[c.e.type].run == NULL)
		return WRONG;
	if (c.e.len < commands[c.e.type].min_len || c.e.len > toe_cpq_data_max(&p->down))
		return WRONG;
	if (commands[c.e.type].needs_conn && c.e.conn >= s->engine->conn_n)
		return WRONG;
	return commands[c.e.type].run(s, &c);
}

unsigned ctrl_commands(struct toe_stage *s, unsigned budget)
{
	struct ctrl *p = s->priv;
	unsigned n;

	p->starved = false;
	for (n = 0; n < budget; n++) {
		struct toe_cpq_entry *entry = toe_cpq_peek(&p->down);
		enum outcome o;

		if (entry == NULL)
			break;
		o = run(s, entry);
		if (o == LATER) {
			p->starved = true;
			break;
		}
		if (o == WRONG)
			s->drops[TOE_D_CMD_WRONG]++;
		toe_cpq_consume(&p->down);
		toe_count(s, TOE_C_COMMANDS, 1);
	}
	return n;
}
