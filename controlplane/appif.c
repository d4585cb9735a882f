/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Messages of the keeper: applications and their processes, tokens that hung up, and the requests
 * of applications it relays (app_id and proc are its stamp, everything else is checked here).
 * Descriptors stay the caller's, which closes them.
 */
#include "cp.h"

#include <errno.h>
#include <string.h>

#include "common/ctl_sock.h"
#include "common/log.h"
#include "common/siphash.h"

void cp_reply(struct cp *cp, const struct toe_ctl_msg *req, int status)
{
	struct toe_ctl_msg m = *req;

	m.status = status;
	m.nfds = 0;
	cp->io.keeper(cp->io.ctx, &m);
}

static bool geometry(struct cp_app *a, const struct toe_ctl_app *m, const struct cp_state_hdr *st)
{
	struct toe_region_geometry g = toe_ctl_app_geometry(m);
	struct toe_region_layout l;

	if (toe_region_layout(&l, &g) < 0)
		return false;
	/* The configuration bounds what our tables hold; a larger region is used in part. */
	a->slot_n = g.slot_n < st->slot_n ? g.slot_n : st->slot_n;
	a->listener_n = g.listener_n < st->listener_n ? g.listener_n : st->listener_n;
	a->token_n = g.token_n;
	a->backlog_n = g.backlog_n;
	a->rx_buf_bytes = g.rx_buf_bytes;
	a->tx_buf_bytes = g.tx_buf_bytes;
	a->control_bytes = l.control_bytes;
	a->off_slots = l.off_slots;
	a->off_listeners = l.off_listeners;
	a->off_tokens = l.off_tokens;
	memcpy(a->name, m->name, sizeof(a->name) - 1);
	a->name[sizeof(a->name) - 1] = '\0';
	return true;
}

/* A new record.  Slot generations start at a number no earlier application with this index used,
 * so that a late message about one of its slots cannot match. */
static uint32_t register_app(struct cp *cp, const struct toe_ctl_app *m)
{
	struct cp_app_rt *rt;
	struct cp_app *a;
	uint64_t seq = cp->st->app_seq++;
	uint32_t gen = (uint32_t)toe_siphash24(cp->st->key[CP_KEY_TS], &seq, sizeof(seq));
	uint32_t i = 0;

	while (i < cp->st->app_n && cp->apps[i].state != CP_APP_FREE)
		i++;
	if (i == cp->st->app_n)
		return TOE_NONE;
	a = &cp->apps[i];
	rt = &cp->app_rt[i];
	memset(a, 0, sizeof(*a));
	if (!geometry(a, m, cp->st))
		return TOE_NONE;
	a->app_id = m->app_id;
	rt->free_n = 0;
	rt->conn_n = 0;
	rt->procs = 0;
	for (uint32_t s = a->slot_n; s-- > 0;) {
		struct cp_slot *rec = &cp->slots[(size_t)i * cp->st->slot_n + s];

		*rec = (struct cp_slot){.gen = gen, .conn = TOE_NONE, .token = TOE_NONE};
		rt->free_slots[rt->free_n++] = s;
	}
	for (uint32_t l = 0; l < a->listener_n; l++)
		cp_commit(&cp_listener_rec(cp, i, l)->state, CP_LISTENER_FREE);
	cp_commit(&a->state, CP_APP_ACTIVE);
	return i;
}

static int app_new(struct cp *cp, const struct toe_ctl_msg *m, const int *fds, unsigned nfds)
{
	uint32_t i = cp_app_find(cp, m->u.app.app_id);

	if (nfds != 1)
		return -EINVAL;
	if (i == TOE_NONE)
		i = register_app(cp, &m->u.app);
	if (i == TOE_NONE) {
		LOG_ERROR("application %u cannot be registered: %u at most, or a bad geometry",
			  m->u.app.app_id, cp->st->app_n);
		return -ENOSPC;
	}
	if (!cp->app_rt[i].control)
		cp->app_rt[i].control = cp->io.map(cp->io.ctx, fds[0], cp->apps[i].control_bytes);
	if (!cp->app_rt[i].control) {
		LOG_ERROR("application %u: its control segment cannot be mapped", m->u.app.app_id);
		return -ENOMEM;
	}
	return 0;
}

static int proc_change(struct cp *cp, const struct toe_ctl_msg *m, bool gone)
{
	uint32_t app = cp_app_find(cp, m->u.app.app_id);

	if (app == TOE_NONE || m->u.app.ctx >= TOE_CTX_N)
		return -EINVAL;
	if (!gone) {
		cp->app_rt[app].procs |= 1ull << m->u.app.ctx;
		return 0;
	}
	cp->app_rt[app].procs &= ~(1ull << m->u.app.ctx);
	cp_listen_proc_gone(cp, app, m->u.app.ctx);
	return 0;
}

static void token_hup(struct cp *cp, const struct toe_ctl_msg *m)
{
	uint32_t app = cp_app_find(cp, m->u.token.app_id);
	struct toe_ctl_msg r;

	if (m->u.token.count > TOE_CTL_FDS_MAX)
		return;
	if (app != TOE_NONE)
		for (uint32_t i = 0; i < m->u.token.count; i++)
			cp_token_hup(cp, app, m->u.token.ids[i]);
	toe_ctl_init(&r, TOE_CTL_CP_TOKEN_FREE);
	r.app_id = m->u.token.app_id;
	r.u.token = m->u.token;
	cp->io.keeper(cp->io.ctx, &r);
}

static int app_gone(struct cp *cp, const struct toe_ctl_msg *m)
{
	uint32_t app = cp_app_find(cp, m->u.app.app_id);

	if (app == TOE_NONE)
		return -ENOENT;
	cp_app_close(cp, app);
	return 0;
}

/* Requests of applications. */
static void app_request(struct cp *cp, struct toe_ctl_msg *m, const int *fds, unsigned nfds)
{
	uint32_t app = cp_app_find(cp, m->app_id);
	int err = -ENOENT;

	if (app == TOE_NONE || cp->apps[app].state != CP_APP_ACTIVE || !cp->app_rt[app].control)
		err = -ECONNRESET;
	else if (m->type == TOE_CTL_LISTEN)
		err = cp_listen(cp, app, m->proc, &m->u.listen);
	else if (m->type == TOE_CTL_UNLISTEN)
		err = cp_unlisten(cp, app, m->proc, m->u.listen.listener);
	else if (nfds != 1)
		err = -EBADF;
	else
		err = cp_connect(cp, app, &m->u.conn, fds[0]);
	cp_reply(cp, m, err);
}

void cp_keeper_msg(struct cp *cp, struct toe_ctl_msg *m, const int *fds, unsigned nfds)
{
	switch (m->type) {
	case TOE_CTL_LISTEN:
	case TOE_CTL_UNLISTEN:
	case TOE_CTL_CONNECT:
		app_request(cp, m, fds, nfds);
		break;
	case TOE_CTL_CP_APP:
		cp_reply(cp, m, app_new(cp, m, fds, nfds));
		break;
	case TOE_CTL_CP_APP_GONE:
		cp_reply(cp, m, app_gone(cp, m));
		break;
	case TOE_CTL_CP_PROC:
		cp_reply(cp, m, proc_change(cp, m, false));
		break;
	case TOE_CTL_CP_PROC_GONE:
		cp_reply(cp, m, proc_change(cp, m, true));
		break;
	case TOE_CTL_CP_TOKEN_HUP:
		token_hup(cp, m);
		break;
	case TOE_CTL_CP_ENGINE:
		cp_addrs_take(cp, &m->u.engine);
		cp_engine_changed(cp, m->u.engine.epoch, m->u.engine.up);
		cp_reply(cp, m, 0);
		break;
	case TOE_CTL_CP_READY:
		cp_reconcile_start(cp, m);
		break;
	case TOE_CTL_CP_TOKEN_FREE:
	case TOE_CTL_CP_PORT_FREE:
	case TOE_CTL_CP_APP_FREE:
		break; /* confirmations */
	default:
		LOG_WARN("message %u of the keeper is not for the control plane", m->type);
		if (m->req)
			cp_reply(cp, m, -EOPNOTSUPP);
		break;
	}
}
