/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Start over an existing state: heap tables are rebuilt from the arrays, then the datapath's dump
 * is compared with them and what was half done is finished or undone.  On a fresh state all of this
 * finds nothing.  Also: a new start of the datapath, which knows none of our connections.
 */
#include "cp.h"

#include <arpa/inet.h>
#include <string.h>
#include <sys/socket.h>

#include "common/log.h"

static void rebuild_conn(struct cp *cp, uint32_t id)
{
	struct cp_conn *c = &cp->conns[id];
	struct cp_rt *rt = &cp->rt[id];
	struct cp_slot *slot = cp_slot_rec(cp, c->app, c->in.slot);
	const struct cp_listener *l = cp_listener_rec(cp, c->app, c->in.listener);
	static const uint8_t no_mac[6];

	if (!slot || cp->apps[c->app].state == CP_APP_FREE) {
		/* its owner is gone: the dump will show whether the datapath still has it */
		cp_commit(&c->state, CP_FREE);
		cp->free_ids[(size_t)(id % cp->st->flow_group_n) * cp->free_id_stride +
			     cp->free_id_n[id % cp->st->flow_group_n]++] = id;
		return;
	}
	slot->conn = id;
	rt->reconcile = c->state == CP_SYN_SENT ? CP_KNOWN : CP_UNKNOWN;
	rt->reinject_left = CP_REINJECT_MAX;
	rt->rx_ms = cp->now_ms;
	rt->last_una = c->in.snd_nxt;
	if (c->state == CP_SYN_SENT) {
		rt->need_mac = !memcmp(c->in.remote_mac, no_mac, 6);
		cp_list_add(&cp->syn_sent, id);
	} else if (c->state == CP_CLOSING) {
		cp_list_add(&cp->orphans, id);
	} else if (c->state == CP_INSTALLING && l && l->gen == c->listener_gen) {
		cp_listener_rt(cp, c->app, c->in.listener)->installing++;
	}
	cp->conn_count++;
	cp->app_rt[c->app].conn_n++;
	cp_node_add(cp, CP_NODE_CONN, id);
	cp_port_use(cp, &c->t);
}

/* A slot that was taken and never given to anyone, or whose connection is gone. */
static void rebuild_slot(struct cp *cp, uint32_t app, uint32_t i)
{
	struct cp_slot *s = cp_slot_rec(cp, app, i);
	struct cp_conn *c = s->conn < cp->st->conn_n ? &cp->conns[s->conn] : NULL;

	if (!(s->flags & CP_SLOT_USED)) {
		cp->app_rt[app].free_slots[cp->app_rt[app].free_n++] = i;
		return;
	}
	if (s->conn == TOE_NONE) {
		cp_slot_settle(cp, app, i);
		return;
	}
	if (!c || c->state == CP_FREE || c->app != app || c->in.slot != i) {
		s->conn = TOE_NONE;
		cp_commit(&s->flags, CP_SLOT_USED | CP_SLOT_TOKEN_GONE);
		cp_slot_settle(cp, app, i);
	}
}

static void rebuild_app(struct cp *cp, uint32_t app)
{
	cp->app_rt[app].free_n = 0;
	if (cp->apps[app].state == CP_APP_FREE)
		return;
	for (uint32_t i = cp->apps[app].slot_n; i-- > 0;)
		rebuild_slot(cp, app, i);
}

/* Listeners first, connections second: no port is told anything that is true only in between. */
void cp_rebuild(struct cp *cp)
{
	const struct cp_state_hdr *st = cp->st;

	cp->st->starts++;
	for (uint32_t app = 0; app < st->app_n; app++)
		for (uint32_t i = 0; cp->apps[app].state != CP_APP_FREE && i < st->listener_n; i++)
			if (cp->listeners[(size_t)app * st->listener_n + i].state !=
			    CP_LISTENER_FREE)
				cp_listener_link(cp, app, i);
	for (uint32_t id = st->conn_n; id-- > 0;) {
		if (cp->conns[id].state != CP_FREE)
			rebuild_conn(cp, id);
		else
			cp->free_ids[(size_t)(id % st->flow_group_n) * cp->free_id_stride +
				     cp->free_id_n[id % st->flow_group_n]++] = id;
	}
	for (uint32_t i = st->tw_n; i-- > 0;) {
		if (cp->tw[i].flags & CP_TW_USED)
			cp_tw_adopt(cp, i);
		else
			cp->free_tw[cp->free_tw_n++] = i;
	}
	for (uint32_t i = cp->half_max; i-- > 0;)
		cp->free_half[cp->free_half_n++] = i;
	for (uint32_t app = 0; app < st->app_n; app++)
		rebuild_app(cp, app);
}

static void tell_port(struct cp *cp, uint32_t family, uint16_t port)
{
	struct toe_cmd_port cmd = {.family = (uint16_t)family,
				   .port = port,
				   .state = cp->ports_told[cp_family_index(family)][port]};

	if (cmd.state)
		cp_cmd(cp, TOE_CMD_PORT, TOE_NONE, &cmd, sizeof(cmd));
}

/* Everything the datapath should have been told of ports and addresses, again. */
static void tell_ports(struct cp *cp)
{
	cp_addrs_tell(cp);
	for (uint32_t port = 0; port < CP_PORT_N; port++) {
		cp_port_update(cp, (uint16_t)port);
		tell_port(cp, AF_INET, (uint16_t)port);
		tell_port(cp, AF_INET6, (uint16_t)port);
	}
}

/* OPENING: the command may have died with us.  An OPEN one must not be told again, that would
 * empty its accept ring. */
static void tell_listeners(struct cp *cp, uint32_t app)
{
	for (uint32_t i = 0; i < cp->apps[app].listener_n; i++) {
		struct toe_cmd_listener cmd = {cp->apps[app].app_id, i, 1, 0};

		if (cp_listener_rec(cp, app, i)->state != CP_LISTENER_OPENING)
			continue;
		cp_cmd(cp, TOE_CMD_LISTENER, TOE_NONE, &cmd, sizeof(cmd));
		cp->opening = true;
	}
	cp_listen_durable(cp);
}

static void remove_unknown(struct cp *cp, const struct toe_cpq_entry *e)
{
	struct toe_cpq_entry cmd = {.type = TOE_CMD_REMOVE, .conn = e->conn, .gen = e->gen};

	cp->io.cmd(cp->io.ctx, &cmd, NULL);
	LOG_WARN("connection %u is not known here: removed from the datapath", e->conn);
}

/* The datapath has it, and so have we. */
static void reconcile_found(struct cp *cp, uint32_t id, const struct toe_ev_conn *ev)
{
	struct cp_conn *c = &cp->conns[id];
	const uint32_t over = TOE_PROG_FIN_ACKED | TOE_PROG_FIN_RCVD;

	if (c->state == CP_REMOVING) {
		if (cp->rt[id].reconcile == CP_UNKNOWN)
			cp_cmd(cp, TOE_CMD_REMOVE, id, NULL, 0);
		cp->rt[id].reconcile = CP_KNOWN;
		return;
	}
	cp->rt[id].reconcile = CP_KNOWN;
	if (c->state == CP_INSTALLING)
		cp_installed(cp, id);
	if (c->state != CP_ESTABLISHED && c->state != CP_CLOSING)
		return;
	if (ev->flags & TOE_PROG_RESET) {
		cp_reset(cp, id);
	} else if ((ev->flags & over) == over) {
		cp_closed(cp, id, ev);
	} else {
		if (c->state == CP_CLOSING && !(ev->flags & TOE_PROG_ORPHAN)) {
			cp_conn_enter(cp, id, CP_ESTABLISHED);
			cp_conn_close(cp, id,
				      c->flags & CP_CONN_RESETTING ? TOE_CLOSE_RST | TOE_CLOSE_TAIL
								   : TOE_CLOSE_FIN);
		}
		cp_active(cp, id); /* what is quiet will turn out to be so */
	}
}

/* The dump has ended without it. */
static void reconcile_missing(struct cp *cp, uint32_t id)
{
	struct cp_conn *c = &cp->conns[id];

	switch (c->state) {
	case CP_INSTALLING:
		cp->rt[id].reconcile = CP_KNOWN;
		cp_install_cmd(cp, id);
		break;
	case CP_ESTABLISHED:
	case CP_CLOSING:
		cp->rt[id].reconcile = CP_KNOWN;
		LOG_WARN("connection %u is not known to the datapath: reset", id);
		cp_removed(cp, id);
		break;
	default:
		/* REMOVING: REMOVED may be on its way; keepalive.c ends the wait */
		cp->rt[id].rx_ms = cp->now_ms;
		break;
	}
}

/* Closes that were accepted and not carried out; failures the application has not been told. */
static void settle_slots(struct cp *cp, uint32_t app)
{
	for (uint32_t i = 0; i < cp->apps[app].slot_n; i++) {
		struct cp_slot *s = cp_slot_rec(cp, app, i);

		if (!(s->flags & CP_SLOT_USED))
			continue;
		if (s->conn == TOE_NONE && s->error)
			cp_slot_error(cp, app, i, s->error);
		else if (s->conn != TOE_NONE && (s->flags & CP_SLOT_TOKEN_GONE))
			cp_close_again(cp, s->conn);
	}
}

/* Processes that ended while nobody looked. */
static void settle_procs(struct cp *cp, uint32_t app)
{
	uint64_t procs = cp->app_rt[app].procs;

	for (uint32_t i = 0; procs && i < cp->apps[app].listener_n; i++) {
		struct cp_listener *l = cp_listener_rec(cp, app, i);

		if (l->state == CP_LISTENER_FREE || !(l->procs & ~procs))
			continue;
		l->procs &= procs;
		if (!l->procs)
			cp_listener_grace(cp, app, i);
	}
}

static void reconcile_end(struct cp *cp)
{
	for (uint32_t id = 0; id < cp->st->conn_n; id++)
		if (cp->conns[id].state != CP_FREE && cp->rt[id].reconcile)
			reconcile_missing(cp, id);
	for (uint32_t app = 0; app < cp->st->app_n; app++) {
		if (cp->apps[app].state == CP_APP_FREE)
			continue;
		if (!cp->app_rt[app].control)
			cp_app_close(cp, app); /* the keeper has not named it */
		if (cp->apps[app].state == CP_APP_FREE)
			continue;
		settle_slots(cp, app);
		settle_procs(cp, app);
		cp_app_settle(cp, app);
	}
	cp->ready = true;
	if (cp->ready_pending)
		cp_reply(cp, &cp->ready_msg, 0);
	cp->ready_pending = false;
	LOG_INFO("ready: %u connections, %u in TIME-WAIT, start %u", cp->conn_count, cp->tw_list.n,
		 cp->st->starts);
}

static void start_dump(struct cp *cp)
{
	cp->dumping = true;
	cp_cmd(cp, TOE_CMD_DUMP, TOE_NONE, NULL, 0);
}

void cp_reconcile_start(struct cp *cp, const struct toe_ctl_msg *m)
{
	cp->ready_msg = *m;
	cp->ready_pending = true;
	for (uint32_t app = 0; app < cp->st->app_n; app++)
		if (cp->apps[app].state != CP_APP_FREE)
			tell_listeners(cp, app);
	tell_ports(cp);
	if (cp->engine_up)
		start_dump(cp);
	else
		reconcile_end(cp);
}

void cp_dump_entry(struct cp *cp, const struct toe_cpq_entry *e, const struct toe_ev_conn *ev)
{
	struct cp_conn *c = e->conn < cp->st->conn_n ? &cp->conns[e->conn] : NULL;

	if (e->conn == TOE_NONE) {
		if (cp->dumping)
			reconcile_end(cp);
		cp->dumping = false;
		return;
	}
	if (!c || c->state == CP_FREE || c->state == CP_SYN_SENT || c->gen != e->gen)
		remove_unknown(cp, e);
	else if (cp->rt[e->conn].reconcile)
		reconcile_found(cp, e->conn, ev);
}

/* A datapath that was started anew has none of our connections and no ports. */
static void forget_all(struct cp *cp)
{
	for (uint32_t id = 0; id < cp->st->conn_n; id++) {
		struct cp_conn *c = &cp->conns[id];

		if (c->state == CP_FREE)
			continue;
		c->flags &= (uint8_t)~CP_CONN_TIME_WAIT;
		if (c->flags & CP_CONN_ACTIVE)
			cp_port_release(cp, cp->apps[c->app].app_id, c->in.slot, c->in.slot_gen);
		cp_conn_free(cp, id);
	}
	for (uint32_t app = 0; app < cp->st->app_n; app++)
		for (uint32_t i = 0; i < cp->apps[app].listener_n; i++)
			cp_listener_close(cp, app, i);
	tell_ports(cp);
}

void cp_engine_changed(struct cp *cp, uint32_t epoch, bool up)
{
	bool renewed = cp->st->epoch && epoch != cp->st->epoch;

	cp->engine_up = up;
	cp->st->epoch = epoch;
	if (renewed)
		forget_all(cp);
	/* also finds what stale commands in the ring may have installed */
	if (renewed && up && cp->ready)
		start_dump(cp);
}
