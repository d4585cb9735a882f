// SPDX-License-Identifier: BSD-3-Clause
/*
 * Descriptors kept for applications: far ends of tokens, and kernel sockets that hold local ports.
 *
 * In: TOKEN_ADD, CLAIM, hang-ups, CONNECT answers, and the control plane's permission to let go;
 * out: CP_TOKEN_HUP.  State: app->tokens, app->ports, kp->held_fds.
 */
#include "keeper.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/closer.h"
#include "common/ctl_sock.h"
#include "common/log.h"

#define HUP_BATCH     64u
#define CP_QUEUE_BUSY 256u /* messages the control plane has not read: wait */

/* Descriptors of others, wherever they are: held, on their way to the control plane (twice at
 * worst: waiting for the answer and in the queue), or waiting to be closed. */
uint32_t kp_fds_used(const struct kp_keeper *kp)
{
	return kp->held_fds + kp->client_n + 2 * kp->relayed + toe_close_waiting();
}

/* ---- tokens ---- */

void kp_token_request(struct kp_client *c, const struct toe_ctl_msg *m, int *fds, unsigned nfds)
{
	struct kp_keeper *kp = c->kp;
	struct kp_tokens *ts = &c->app->tokens;
	struct toe_ctl_msg r;
	int rc = 0;
	uint32_t n = 0;

	toe_ctl_init(&r, TOE_CTL_TOKEN_ADD);
	if (m->u.token.count != nfds || nfds == 0)
		rc = -EINVAL;
	else if (kp_fds_used(kp) + nfds > kp->fd_limit)
		rc = -EMFILE;
	for (; rc >= 0 && n < nfds; n++) {
		rc = kp_token_add(&kp->tokens, ts, c->app->desc.app_id, fds[n]);
		if (rc < 0)
			break;
		r.u.token.ids[n] = (uint32_t)rc;
		fds[n] = -1;
	}
	if (rc < 0) { /* all or nothing */
		while (n > 0)
			kp_token_undo(&kp->tokens, ts, r.u.token.ids[--n]);
		kp_client_refuse(c, m->type, m->req, rc);
		return;
	}
	kp->held_fds += nfds;
	r.u.token.count = nfds;
	r.u.token.app_id = c->app->desc.app_id;
	kp_client_reply(c, &r, m->req, NULL, 0);
}

void kp_claim_request(struct kp_client *c, const struct toe_ctl_msg *m, int *fds, unsigned nfds)
{
	struct kp_token_event who;
	struct toe_ctl_msg r;
	int rc = nfds == 1 ? kp_token_identify(&c->kp->tokens, fds[0], &who) : -EINVAL;

	if (rc == 0 && who.app_id != c->app->desc.app_id)
		rc = -EPERM; /* a connection does not move to another application */
	if (rc == 0 && !kp_token_valid(&c->app->tokens, &who))
		rc = -ENOENT;
	if (rc < 0) {
		kp_client_refuse(c, m->type, m->req, rc);
		return;
	}
	toe_ctl_init(&r, TOE_CTL_CLAIM);
	r.u.token.count = 1;
	r.u.token.app_id = who.app_id;
	r.u.token.ids[0] = who.id;
	kp_client_reply(c, &r, m->req, NULL, 0);
}

static void tell_app(struct kp_keeper *kp, struct kp_app *app)
{
	struct toe_ctl_msg m;

	while (app->tokens.hung_n > 0 && kp->cp.chan.out_n < CP_QUEUE_BUSY) {
		toe_ctl_init(&m, TOE_CTL_CP_TOKEN_HUP);
		m.req = ++kp->last_req;
		m.app_id = m.u.token.app_id = app->desc.app_id;
		m.proc = TOE_NONE;
		m.u.token.count = kp_tokens_tell(&app->tokens, m.u.token.ids, TOE_CTL_FDS_MAX);
		if (m.u.token.count == 0 || kp_chan_send(&kp->cp.chan, &m, NULL, 0) < 0)
			return; /* it is dying: everything is told again */
	}
}

void kp_tokens_flush(struct kp_keeper *kp)
{
	if (kp->cp.chan.fd < 0)
		return;
	for (uint32_t i = 0; i < KP_APP_N; i++) {
		struct kp_app *app = kp->apps[i];

		if (app && (app->state == KP_APP_LIVE || app->state == KP_APP_GONE))
			tell_app(kp, app);
	}
}

void kp_tokens_ready(uv_poll_t *h, int status, int events)
{
	struct kp_keeper *kp = h->data;
	struct kp_token_event ev[HUP_BATCH];
	unsigned n = kp_token_poll(&kp->tokens, ev, HUP_BATCH);

	(void)status;
	(void)events;
	for (unsigned i = 0; i < n; i++) {
		struct kp_app *app = kp_app_get(kp, ev[i].app_id);

		if (app && kp_token_hup(&kp->tokens, &app->tokens, &ev[i]))
			kp->held_fds--;
	}
	kp_tokens_flush(kp);
}

void kp_tokens_freed(struct kp_keeper *kp, const struct toe_ctl_msg *m)
{
	struct kp_app *app = kp_app_get(kp, m->u.token.app_id);

	if (!app || m->u.token.count > TOE_CTL_FDS_MAX)
		return;
	for (uint32_t i = 0; i < m->u.token.count; i++) {
		if (kp_token_release(&app->tokens, m->u.token.ids[i]) < 0)
			LOG_WARN("control plane frees token %u of application %u, which is in use",
				 m->u.token.ids[i], app->desc.app_id);
	}
}

/* ---- ports ---- */

void kp_port_hold(struct kp_keeper *kp, const struct toe_ctl_msg *reply, uint32_t app_id, int *fd)
{
	struct kp_app *app = kp_app_get(kp, app_id);
	uint32_t slot = reply->u.conn.slot;
	struct kp_ports *held;
	struct kp_port *p;

	if (!app || slot >= app->desc.slot_n || *fd < 0)
		return;
	p = malloc(sizeof(*p));
	if (!p) {
		LOG_WARN("no memory: the local port of a connection is not reserved");
		return;
	}
	*p = (struct kp_port){NULL, *fd, reply->u.conn.gen};
	*fd = -1;
	held = &app->ports[slot];
	if (held->first)
		held->last->next = p;
	else
		held->first = p;
	held->last = p;
	kp->held_fds++;
}

/* The one behind before; NULL: the first. */
static void port_drop(struct kp_keeper *kp, struct kp_ports *held, struct kp_port *before)
{
	struct kp_port *p = before ? before->next : held->first;

	if (before)
		before->next = p->next;
	else
		held->first = p->next;
	if (held->last == p)
		held->last = before;
	toe_close_later(p->fd);
	free(p);
	kp->held_fds--;
}

void kp_port_free(struct kp_keeper *kp, const struct toe_ctl_msg *m)
{
	struct kp_app *app = kp_app_get(kp, m->u.conn.app_id);
	uint32_t slot = m->u.conn.slot;
	struct kp_port *before = NULL;
	struct kp_port *p;

	if (!app || slot >= app->desc.slot_n)
		return;
	for (p = app->ports[slot].first; p && p->gen != m->u.conn.gen; p = p->next)
		before = p;
	if (p)
		port_drop(kp, &app->ports[slot], before);
}

void kp_app_fds_close(struct kp_app *app)
{
	for (uint32_t i = 0; app->ports && i < app->desc.slot_n; i++)
		while (app->ports[i].first)
			port_drop(app->kp, &app->ports[i], NULL);
	app->kp->held_fds -= app->tokens.live_n;
	kp_tokens_free(&app->kp->tokens, &app->tokens);
}
