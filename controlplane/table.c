/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who is where: tuple hash over connections, TIME-WAITs and half-open connections; free lists of
 * connection ids (by flow-group) and of slots; reference counts of ports.  The hash, the lists and
 * the counts live in the heap, the entries in the state memfd.
 */
#include "cp.h"

#include <arpa/inet.h>
#include <string.h>
#include <sys/socket.h>

#include "common/ctl_sock.h"
#include "common/log.h"
#include "common/siphash.h"

static uint32_t node_of(const struct cp *cp, enum cp_node_kind kind, uint32_t index)
{
	if (kind == CP_NODE_CONN)
		return index;
	return cp->st->conn_n + (kind == CP_NODE_TW ? index : cp->st->tw_n + index);
}

static struct cp_node node_split(const struct cp *cp, uint32_t node)
{
	if (node < cp->st->conn_n)
		return (struct cp_node){CP_NODE_CONN, node};
	node -= cp->st->conn_n;
	if (node < cp->st->tw_n)
		return (struct cp_node){CP_NODE_TW, node};
	return (struct cp_node){CP_NODE_HALF, node - cp->st->tw_n};
}

static const struct toe_tuple *node_tuple(const struct cp *cp, struct cp_node n)
{
	if (n.kind == CP_NODE_CONN)
		return &cp->conns[n.index].t;
	return n.kind == CP_NODE_TW ? &cp->tw[n.index].t : &cp->half[n.index].t;
}

/* Keyed: a peer must not be able to fill one chain. */
static uint32_t *bucket_of(const struct cp *cp, const struct toe_tuple *t)
{
	uint64_t h = toe_siphash24(cp->st->key[CP_KEY_HASH], t, sizeof(*t));

	return &cp->bucket[h & cp->bucket_mask];
}

struct cp_node cp_lookup(const struct cp *cp, const struct toe_tuple *t)
{
	for (uint32_t i = *bucket_of(cp, t); i != TOE_NONE; i = cp->node_next[i]) {
		struct cp_node n = node_split(cp, i);

		if (!memcmp(node_tuple(cp, n), t, sizeof(*t)))
			return n;
	}
	return (struct cp_node){CP_NODE_NONE, TOE_NONE};
}

void cp_node_add(struct cp *cp, enum cp_node_kind kind, uint32_t index)
{
	uint32_t node = node_of(cp, kind, index);
	uint32_t *b = bucket_of(cp, node_tuple(cp, (struct cp_node){kind, index}));

	cp->node_next[node] = *b;
	*b = node;
}

void cp_node_del(struct cp *cp, enum cp_node_kind kind, uint32_t index)
{
	uint32_t node = node_of(cp, kind, index);
	uint32_t *p = bucket_of(cp, node_tuple(cp, (struct cp_node){kind, index}));

	while (*p != TOE_NONE && *p != node)
		p = &cp->node_next[*p];
	if (*p == node)
		*p = cp->node_next[node];
}

/*
 * The reserve is divided among all applications there may be: one that has less than its part may
 * take any free id, the others only what is not reserved.  So whatever some of them do, each gets
 * its part (for all flow-groups together: which one a connection falls into is chance).
 */
static bool share_left(const struct cp *cp, uint32_t app, uint32_t fg)
{
	uint64_t percent = cp->cfg->reserve_percent;
	uint32_t part = (uint32_t)(cp->st->conn_n * percent / 100 / cp->st->app_n);

	return cp->app_rt[app].conn_n < part ||
	       cp->free_id_n[fg] > cp->free_id_stride * percent / 100;
}

uint32_t cp_conn_alloc(struct cp *cp, uint32_t app, const struct toe_tuple *t)
{
	uint32_t fg = toe_flow_group(toe_flow_hash(t), cp->st->flow_group_n);
	struct cp_conn *c;
	uint32_t gen;
	uint32_t id;

	if (!cp->free_id_n[fg])
		return TOE_NONE;
	if (!share_left(cp, app, fg)) {
		CP_COUNT(cp, share_refused);
		return TOE_NONE;
	}
	id = cp->free_ids[(size_t)fg * cp->free_id_stride + --cp->free_id_n[fg]];
	c = &cp->conns[id];
	gen = c->gen + 1 ? c->gen + 1 : 1;
	memset(c, 0, sizeof(*c));
	c->gen = gen;
	c->t = *t;
	memset(&cp->rt[id], 0, sizeof(cp->rt[id]));
	cp->rt[id].reinject_left = CP_REINJECT_MAX;
	cp->rt[id].rx_ms = cp->now_ms;
	cp->conn_count++;
	cp_node_add(cp, CP_NODE_CONN, id);
	cp_port_use(cp, t);
	return id;
}

void cp_conn_enter(struct cp *cp, uint32_t id, enum cp_conn_state state)
{
	cp->conns[id].since_ms = cp->now_ms;
	cp_commit(&cp->conns[id].state, state);
	if (state == CP_SYN_SENT)
		cp_list_add(&cp->syn_sent, id);
	else
		cp_list_del(&cp->syn_sent, id);
	if (state == CP_CLOSING)
		cp_list_add(&cp->orphans, id);
	else
		cp_list_del(&cp->orphans, id);
}

void cp_conn_free(struct cp *cp, uint32_t id)
{
	struct cp_conn *c = &cp->conns[id];
	struct cp_slot *slot = cp_slot_rec(cp, c->app, c->in.slot);
	uint32_t app = c->app;
	uint32_t slot_index = c->in.slot;
	uint32_t fg = id % cp->st->flow_group_n;

	cp_node_del(cp, CP_NODE_CONN, id);
	cp_poll_off(cp, id);
	cp_port_unuse(cp, &c->t);
	if (slot && slot->conn == id)
		slot->conn = TOE_NONE;
	cp_conn_enter(cp, id, CP_FREE);
	cp->free_ids[(size_t)fg * cp->free_id_stride + cp->free_id_n[fg]++] = id;
	cp->conn_count--;
	cp->app_rt[app].conn_n--;
	if (slot)
		cp_slot_settle(cp, app, slot_index);
	cp_app_settle(cp, app);
}

struct cp_slot *cp_slot_rec(const struct cp *cp, uint32_t app, uint32_t slot)
{
	if (app >= cp->st->app_n || slot >= cp->apps[app].slot_n)
		return NULL;
	return &cp->slots[(size_t)app * cp->st->slot_n + slot];
}

struct toe_slot *cp_slot_mem(const struct cp *cp, uint32_t app, uint32_t slot)
{
	uint8_t *base = cp->app_rt[app].control;

	return base ? (struct toe_slot *)(base + cp->apps[app].off_slots) + slot : NULL;
}

uint32_t cp_slot_take(struct cp *cp, uint32_t app, uint32_t id)
{
	struct cp_app_rt *a = &cp->app_rt[app];
	struct cp_slot *s;
	uint32_t slot;

	if (!a->free_n)
		return TOE_NONE;
	slot = a->free_slots[--a->free_n];
	s = cp_slot_rec(cp, app, slot);
	s->gen++;
	s->conn = id;
	s->token = TOE_NONE;
	s->error = 0;
	cp_commit(&s->flags, CP_SLOT_USED);
	return slot;
}

void cp_slot_prepare(struct cp *cp, const struct cp_conn *c)
{
	struct toe_slot *m = cp_slot_mem(cp, c->app, c->in.slot);

	if (!m)
		return;
	memset(&m->tx_tail, 0,
	       offsetof(struct toe_slot, doorbell_pending) - offsetof(struct toe_slot, tx_tail));
	memset(&m->doorbell_pending, 0,
	       offsetof(struct toe_slot, family) - offsetof(struct toe_slot, doorbell_pending));
	memset(m->lib, 0, sizeof(m->lib));
	m->ctl = c->in.ctl;
	m->family = (uint16_t)c->t.family;
	m->local_port = ntohs(c->t.local_port);
	m->remote_port = ntohs(c->t.remote_port);
	m->mss = c->in.mss;
	memcpy(m->local_addr, c->t.local_addr, sizeof(m->local_addr));
	memcpy(m->remote_addr, c->t.remote_addr, sizeof(m->remote_addr));
	m->listener = c->in.listener;
	/* Last: libtoe compares it with the generation it was told. */
	__atomic_store_n(&m->info_gen, c->in.slot_gen, __ATOMIC_RELEASE);
}

void cp_slot_settle(struct cp *cp, uint32_t app, uint32_t slot)
{
	struct cp_slot *s = cp_slot_rec(cp, app, slot);
	struct cp_app_rt *a = &cp->app_rt[app];

	if (!(s->flags & CP_SLOT_USED) || !(s->flags & CP_SLOT_TOKEN_GONE) || s->conn != TOE_NONE)
		return;
	cp_commit(&s->flags, 0);
	a->free_slots[a->free_n++] = slot;
}

uint32_t cp_app_find(const struct cp *cp, uint32_t app_id)
{
	for (uint32_t i = 0; i < cp->st->app_n; i++)
		if (cp->apps[i].state != CP_APP_FREE && cp->apps[i].app_id == app_id)
			return i;
	return TOE_NONE;
}

static void port_update(struct cp *cp, uint32_t family, uint16_t port)
{
	unsigned f = cp_family_index(family);
	uint32_t want = cp_listener_covers(cp, family, port) ? TOE_PORT_LISTEN
			: cp->ports[port].users[f]           ? TOE_PORT_RESERVED
							     : 0;
	struct toe_cmd_port cmd = {.family = (uint16_t)family, .port = port, .state = want};

	if (cp->ports_told[f][port] == want)
		return;
	cp_cmd(cp, TOE_CMD_PORT, TOE_NONE, &cmd, sizeof(cmd));
	cp->ports_told[f][port] = (uint8_t)want;
}

void cp_port_update(struct cp *cp, uint16_t port)
{
	port_update(cp, AF_INET, port);
	port_update(cp, AF_INET6, port);
}

void cp_port_use(struct cp *cp, const struct toe_tuple *t)
{
	uint16_t port = ntohs(t->local_port);

	cp->ports[port].users[cp_family_index(t->family)]++;
	port_update(cp, t->family, port);
}

void cp_port_unuse(struct cp *cp, const struct toe_tuple *t)
{
	uint16_t port = ntohs(t->local_port);
	uint32_t *users = &cp->ports[port].users[cp_family_index(t->family)];

	TOE_CHECK(*users > 0);
	(*users)--;
	port_update(cp, t->family, port);
}

void cp_port_release(struct cp *cp, uint32_t app_id, uint32_t slot, uint32_t gen)
{
	struct toe_ctl_msg m;

	toe_ctl_init(&m, TOE_CTL_CP_PORT_FREE);
	m.app_id = app_id;
	m.u.conn.app_id = app_id;
	m.u.conn.slot = slot;
	m.u.conn.gen = gen;
	cp->io.keeper(cp->io.ctx, &m);
}
