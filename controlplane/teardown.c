/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The end of connections: token hang-up, the end of an application, events CLOSED, RESET, REMOVED.
 *
 * A connection is finished by its peer (CLOSED, RESET), by us (CLOSE, timeouts) or never was
 * established.  Its id is free after REMOVED; its slot only after REMOVED and when no application
 * can reach it any more (CP_SLOT_TOKEN_GONE), because unread data stays readable there.
 */
#include "cp.h"

#include <errno.h>
#include <string.h>

#include "common/ctl_sock.h"

void cp_slot_error(struct cp *cp, uint32_t app, uint32_t slot, uint32_t error)
{
	struct toe_cmd_slot cmd = {
		.app_id = cp->apps[app].app_id,
		.slot = slot,
		.gen = cp_slot_rec(cp, app, slot)->gen,
		.error = error,
	};

	cp_cmd(cp, TOE_CMD_SLOT_ERROR, TOE_NONE, &cmd, sizeof(cmd));
}

/* One less on its way to the listener's accept ring. */
static void installing_done(struct cp *cp, const struct cp_conn *c)
{
	struct cp_listener_rt *l = cp_listener_rt(cp, c->app, c->in.listener);

	if (l->installing && cp_listener_rec(cp, c->app, c->in.listener)->gen == c->listener_gen)
		l->installing--;
}

void cp_conn_remove(struct cp *cp, uint32_t id)
{
	struct cp_conn *c = &cp->conns[id];

	if (c->state == CP_INSTALLING && c->in.listener != TOE_NONE)
		installing_done(cp, c);
	cp_poll_off(cp, id);
	cp_conn_enter(cp, id, CP_REMOVING);
	if (cp->rt[id].reconcile)
		cp->rt[id].reconcile = CP_REMOVE_SENT;
	cp_cmd(cp, TOE_CMD_REMOVE, id, NULL, 0);
}

static void close_cmd(struct cp *cp, uint32_t id, uint32_t mode)
{
	const struct cp_conn *c = &cp->conns[id];
	const struct toe_slot *m = cp_slot_mem(cp, c->app, c->in.slot);
	struct toe_cmd_close cmd = {.mode = mode};

	if (m && mode != TOE_CLOSE_RST) {
		cmd.mode |= TOE_CLOSE_TAIL;
		/* the application is done with it: what it wrote before happened before */
		cmd.tx_tail = __atomic_load_n(&m->tx_tail, __ATOMIC_ACQUIRE);
	}
	cp_cmd(cp, TOE_CMD_CLOSE, id, &cmd, sizeof(cmd));
}

/* One application must not use up the orphans of all: of what is left it may have as many as stay
 * free.  Alone it has all. */
static bool orphan_allowed(const struct cp *cp, uint32_t app)
{
	uint32_t max = cp->cfg->orphans;
	uint32_t own = 0;
	bool alone = true;

	if (cp->orphans.n >= max)
		return false;
	if (cp->orphans.n < max - cp->orphans.n)
		return true;
	for (uint32_t i = 0; i < cp->st->app_n; i++)
		alone &= i == app || cp->apps[i].state == CP_APP_FREE;
	for (uint32_t id = cp->orphans.head; id != TOE_NONE; id = cp->orphans.link[id].next)
		own += cp->conns[id].app == app;
	return alone || own < max - cp->orphans.n;
}

void cp_conn_close(struct cp *cp, uint32_t id, uint32_t mode)
{
	struct cp_conn *c = &cp->conns[id];

	switch (c->state) {
	case CP_SYN_SENT:
		cp_port_release(cp, cp->apps[c->app].app_id, c->in.slot, c->in.slot_gen);
		cp_conn_free(cp, id);
		return;
	case CP_INSTALLING:
	case CP_ESTABLISHED:
		if (mode != TOE_CLOSE_RST && orphan_allowed(cp, c->app)) {
			/* accepted and closed before we heard INSTALLED, which will count no more
			 */
			if (c->state == CP_INSTALLING && c->in.listener != TOE_NONE)
				installing_done(cp, c);
			if (mode & TOE_CLOSE_RST)
				c->flags |= CP_CONN_RESETTING;
			close_cmd(cp, id, mode);
			cp_conn_enter(cp, id, CP_CLOSING);
			return;
		}
		if (mode != TOE_CLOSE_RST)
			CP_COUNT(cp, orphans_reset);
		break;
	case CP_CLOSING:
		if (mode != TOE_CLOSE_RST)
			return;
		break;
	case CP_REMOVING:
		/* A stream module may keep a reset of the peer's, and REMOVE with it, until the
		 * application has answered or is done. */
		close_cmd(cp, id, TOE_CLOSE_FIN);
		return;
	default:
		return;
	}
	/* In order: the RST leaves before REMOVE takes effect. */
	close_cmd(cp, id, TOE_CLOSE_RST);
	cp_conn_remove(cp, id);
}

void cp_conn_abort(struct cp *cp, uint32_t id, uint32_t error)
{
	struct cp_conn *c = &cp->conns[id];

	CP_COUNT(cp, timeouts);
	cp_slot_error(cp, c->app, c->in.slot, error);
	cp_conn_close(cp, id, TOE_CLOSE_RST);
}

/* Linux's rule: unread data, or SO_LINGER 0, make the last close a RST.  In the first case what
 * was written has left before, as far as the windows let it; in the other it is discarded. */
static uint32_t close_mode(const struct cp *cp, uint32_t app, uint32_t slot)
{
	const struct toe_slot *m = cp_slot_mem(cp, app, slot);

	if (!m)
		return TOE_CLOSE_FIN;
	if (__atomic_load_n(&m->ctl, __ATOMIC_RELAXED) & TOE_CTL_LINGER0)
		return TOE_CLOSE_RST;
	return __atomic_load_n(&m->rx_tail, __ATOMIC_ACQUIRE) !=
			       __atomic_load_n(&m->rx_head, __ATOMIC_ACQUIRE)
		       ? TOE_CLOSE_RST | TOE_CLOSE_TAIL
		       : TOE_CLOSE_FIN;
}

/* No application can reach the slot any more. */
static void slot_gone(struct cp *cp, uint32_t app, uint32_t slot, uint32_t mode)
{
	struct cp_slot *s = cp_slot_rec(cp, app, slot);

	cp_commit(&s->flags, s->flags | CP_SLOT_TOKEN_GONE);
	if (s->conn != TOE_NONE)
		cp_conn_close(cp, s->conn, mode);
	else
		cp_slot_settle(cp, app, slot);
}

void cp_unaccepted(struct cp *cp, uint32_t app, uint32_t slot)
{
	slot_gone(cp, app, slot, TOE_CLOSE_RST);
}

void cp_close_again(struct cp *cp, uint32_t id)
{
	struct cp_conn *c = &cp->conns[id];

	cp_conn_close(cp, id, close_mode(cp, c->app, c->in.slot));
}

/* The slot a CONNECT with this token was given. */
static uint32_t connect_slot(const struct cp *cp, uint32_t app, uint32_t token)
{
	for (uint32_t i = 0; i < cp->apps[app].slot_n; i++) {
		const struct cp_slot *s = cp_slot_rec(cp, app, i);

		if (s->flags == CP_SLOT_USED && s->token == token)
			return i;
	}
	return TOE_NONE;
}

/*
 * The process died on its way from the accept ring to the map (TOE_TOKEN_TAKING).  The slot is
 * nobody's if it has left the ring and no other token names it: whoever takes a slot names it
 * before the ring moves on, so the ring is looked at first.  A connection that is still being
 * installed may not be in the ring yet.
 */
static uint32_t taken_slot(const struct cp *cp, uint32_t app, uint32_t token, uint32_t slot)
{
	const struct cp_app *a = &cp->apps[app];
	const uint32_t *map = (const uint32_t *)(cp->app_rt[app].control + a->off_tokens);
	const struct cp_slot *s = cp_slot_rec(cp, app, slot);

	if (!s || s->flags != CP_SLOT_USED || s->token != TOE_NONE ||
	    (s->conn != TOE_NONE && cp->conns[s->conn].state == CP_INSTALLING))
		return TOE_NONE;
	for (uint32_t l = 0; l < a->listener_n; l++) {
		if (cp_listener_holds(cp, app, l, slot))
			return TOE_NONE;
	}
	for (uint32_t i = 0; i < a->token_n; i++) {
		uint32_t v = __atomic_load_n(&map[i], __ATOMIC_SEQ_CST);

		if (i != token && v != TOE_NONE && (v & ~TOE_TOKEN_TAKING) == slot)
			return TOE_NONE;
	}
	return slot;
}

/*
 * The slot a token stands for.  The map is the application's memory: the slot must be in use, and
 * where we know the token (CONNECT) it must be this one.  A process that died between the answer
 * to CONNECT and its entry in the map is found by our own record.
 */
static uint32_t token_slot(const struct cp *cp, uint32_t app, uint32_t token)
{
	const struct cp_app *a = &cp->apps[app];
	const uint8_t *base = cp->app_rt[app].control;
	uint32_t slot = TOE_NONE;
	struct cp_slot *s;

	if (base && token < a->token_n)
		slot = __atomic_load_n((const uint32_t *)(base + a->off_tokens) + token,
				       __ATOMIC_ACQUIRE);
	if (slot != TOE_NONE && (slot & TOE_TOKEN_TAKING))
		return taken_slot(cp, app, token, slot & ~TOE_TOKEN_TAKING);
	s = cp_slot_rec(cp, app, slot);
	if (s && s->flags == CP_SLOT_USED && (s->token == TOE_NONE || s->token == token))
		return slot;
	return connect_slot(cp, app, token);
}

/* Somebody has accepted the connection in slot.  A search, for rare questions only. */
bool cp_slot_accepted(const struct cp *cp, uint32_t app, uint32_t slot)
{
	const struct cp_app *a = &cp->apps[app];
	const uint8_t *base = cp->app_rt[app].control;
	const uint32_t *map = (const uint32_t *)(base + a->off_tokens);

	for (uint32_t i = 0; base && i < a->token_n; i++) {
		if (__atomic_load_n(&map[i], __ATOMIC_ACQUIRE) == slot)
			return true;
	}
	return false;
}

void cp_token_renew(struct cp *cp, uint32_t app, uint32_t token)
{
	uint32_t slot = connect_slot(cp, app, token);

	if (slot != TOE_NONE)
		slot_gone(cp, app, slot, TOE_CLOSE_RST);
}

void cp_token_hup(struct cp *cp, uint32_t app, uint32_t token)
{
	const struct cp_app *a = &cp->apps[app];
	uint8_t *base = cp->app_rt[app].control;
	uint32_t slot = token_slot(cp, app, token);

	if (slot != TOE_NONE)
		slot_gone(cp, app, slot, close_mode(cp, app, slot));
	if (base && token < a->token_n)
		__atomic_store_n((uint32_t *)(base + a->off_tokens) + token, TOE_NONE,
				 __ATOMIC_RELEASE);
}

void cp_app_close(struct cp *cp, uint32_t app)
{
	struct cp_app *a = &cp->apps[app];

	if (a->state != CP_APP_ACTIVE)
		return;
	/* first: what waits to be accepted is reset whether or not it has unread data */
	for (uint32_t i = 0; i < a->listener_n; i++)
		cp_listener_close(cp, app, i);
	for (uint32_t i = 0; i < a->slot_n; i++)
		if (cp_slot_rec(cp, app, i)->flags == CP_SLOT_USED)
			slot_gone(cp, app, i, close_mode(cp, app, i));
	cp_commit(&a->state, CP_APP_GONE);
	cp_app_settle(cp, app);
}

void cp_app_settle(struct cp *cp, uint32_t app)
{
	struct cp_app *a = &cp->apps[app];
	struct cp_app_rt *rt = &cp->app_rt[app];
	struct toe_ctl_msg m;

	if (a->state != CP_APP_GONE || rt->conn_n)
		return;
	if (rt->control)
		cp->io.unmap(cp->io.ctx, rt->control, a->control_bytes);
	rt->control = NULL;
	toe_ctl_init(&m, TOE_CTL_CP_APP_FREE);
	m.app_id = a->app_id;
	m.u.app.app_id = a->app_id;
	cp->io.keeper(cp->io.ctx, &m);
	cp_commit(&a->state, CP_APP_FREE);
}

void cp_closed(struct cp *cp, uint32_t id, const struct toe_ev_conn *ev)
{
	struct cp_conn *c = &cp->conns[id];

	if (c->state == CP_REMOVING || c->state == CP_SYN_SENT)
		return;
	/* kept for TIME-WAIT: they do not change any more */
	c->in.snd_nxt = ev->snd_nxt;
	c->in.rcv_nxt = ev->rcv_nxt;
	c->in.ts_recent = ev->ts_recent;
	if (ev->flags & TOE_PROG_FIN_FIRST)
		c->flags |= CP_CONN_TIME_WAIT;
	cp_conn_remove(cp, id);
}

void cp_reset(struct cp *cp, uint32_t id)
{
	struct cp_conn *c = &cp->conns[id];

	if (c->state == CP_REMOVING || c->state == CP_SYN_SENT)
		return;
	if (!(c->flags & CP_CONN_RESETTING))
		CP_COUNT(cp, resets);
	cp_conn_remove(cp, id);
}

/* Removed without having been asked: the datapath could not install it. */
static void refused(struct cp *cp, uint32_t id)
{
	struct cp_conn *c = &cp->conns[id];
	struct cp_slot *slot = cp_slot_rec(cp, c->app, c->in.slot);

	if (c->state == CP_INSTALLING && c->in.listener != TOE_NONE) {
		installing_done(cp, c);
		cp_commit(&slot->flags, slot->flags | CP_SLOT_TOKEN_GONE); /* nobody got it */
	} else {
		cp_slot_error(cp, c->app, c->in.slot, ECONNRESET);
	}
	cp_conn_enter(cp, id, CP_REMOVING);
}

void cp_removed(struct cp *cp, uint32_t id)
{
	struct cp_conn *c = &cp->conns[id];

	if (c->state == CP_FREE || c->state == CP_SYN_SENT)
		return;
	if (c->state != CP_REMOVING)
		refused(cp, id);
	CP_COUNT(cp, removed);
	if (c->flags & CP_CONN_TIME_WAIT)
		cp_tw_enter(cp, id);
	else if (c->flags & CP_CONN_ACTIVE)
		cp_port_release(cp, cp->apps[c->app].app_id, c->in.slot, c->in.slot_gen);
	cp_conn_free(cp, id);
}
