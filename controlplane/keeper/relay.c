// SPDX-License-Identifier: BSD-3-Clause
/*
 * Questions to the two programs and who waits for the answer.
 *
 * In: requests of clients (already checked and stamped by clients.c) and of apps.c; out: answers to
 * the callback.  State: one list per program, oldest first, which is the order of answers, so
 * looking one up is short.  Clients' questions to the control plane are bounded per application,
 * so that none of them can keep others from asking, and survive its
 * restart once; what it had answered before it died has been read before we come here.
 */
#include "keeper.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/closer.h"
#include "common/ctl_sock.h"
#include "common/log.h"

#define LISTEN_TRIES    10u
#define LISTEN_AGAIN_MS 10u

static void again(uv_timer_t *t)
{
	struct kp_keeper *kp = t->data;

	if (kp->cp.ready)
		kp_relay_resume(kp);
}

int kp_relay_init(struct kp_keeper *kp)
{
	int rc = uv_timer_init(&kp->loop, &kp->again_timer);

	kp->again_timer.data = kp;
	if (rc == 0)
		uv_unref((uv_handle_t *)&kp->again_timer);
	return rc;
}

static void append(struct kp_keeper *kp, enum kp_peer peer, struct kp_pending *p)
{
	p->next = NULL;
	*kp->pending_tail[peer] = p;
	kp->pending_tail[peer] = &p->next;
	if (p->counted)
		kp_app_get(kp, p->app_id)->pending++;
	if (p->relayed)
		kp->relayed++;
}

/* Takes *at out of its list. */
static struct kp_pending *unlink_at(struct kp_keeper *kp, enum kp_peer peer, struct kp_pending **at)
{
	struct kp_pending *p = *at;
	struct kp_app *app = kp_app_get(kp, p->app_id);

	*at = p->next;
	if (kp->pending_tail[peer] == &p->next)
		kp->pending_tail[peer] = at;
	if (p->counted && app && app->pending > 0)
		app->pending--;
	if (p->relayed)
		kp->relayed--;
	return p;
}

static void free_pending(struct kp_pending *p)
{
	toe_close_later(p->fd);
	free(p);
}

int kp_ask(struct kp_keeper *kp, enum kp_peer peer, const struct kp_pending *like, const int *fds,
	   unsigned nfds)
{
	struct kp_child *c = peer == KP_DP ? &kp->dp : &kp->cp;
	struct kp_pending *p = malloc(sizeof(*p));
	int rc;

	if (!p)
		return -ENOMEM;
	*p = *like;
	p->msg.req = ++kp->last_req;
	p->msg.status = 0;
	rc = kp_chan_send(&c->chan, &p->msg, fds, nfds);
	if (rc < 0) {
		free(p);
		return rc;
	}
	p->sent = true;
	append(kp, peer, p);
	return 0;
}

/*
 * A port may be taken by a program that has just been killed: its descriptors are closed before it
 * is a zombie, but we may read of that end after the LISTEN of its successor.  So "in use" is asked
 * again a few times before it is believed.
 */
static bool ask_again(struct kp_keeper *kp, struct kp_pending *p, const struct toe_ctl_msg *reply)
{
	if (reply->type != TOE_CTL_LISTEN || reply->status != -EADDRINUSE || !p->client ||
	    p->in_use >= LISTEN_TRIES)
		return false;
	p->in_use++;
	p->sent = false;
	append(kp, KP_CP, p);
	uv_timer_start(&kp->again_timer, again, LISTEN_AGAIN_MS, 0);
	return true;
}

void kp_answer(struct kp_keeper *kp, enum kp_peer peer, const struct toe_ctl_msg *reply)
{
	for (struct kp_pending **at = &kp->pending[peer]; *at; at = &(*at)->next) {
		struct kp_pending *p = *at;

		if (!p->sent || p->msg.req != reply->req || p->msg.type != reply->type)
			continue;
		unlink_at(kp, peer, at);
		if (ask_again(kp, p, reply))
			return;
		p->done(kp, p, reply);
		free_pending(p);
		return;
	}
	LOG_DEBUG("answer %u to message %u that nobody waits for", reply->req, reply->type);
}

/* ---- clients' questions to the control plane ---- */

static void relay_done(struct kp_keeper *kp, struct kp_pending *p, const struct toe_ctl_msg *reply)
{
	struct toe_ctl_msg m;

	if (!reply) {
		kp_client_refuse(p->client, p->msg.type, p->client_req, p->msg.status);
		return;
	}
	if (reply->type == TOE_CTL_CONNECT && reply->status == 0)
		kp_port_hold(kp, reply, p->app_id, &p->fd);
	m = *reply;
	kp_client_reply(p->client, &m, p->client_req, NULL, 0);
}

static void send_relayed(struct kp_keeper *kp, struct kp_pending *p)
{
	p->msg.req = ++kp->last_req;
	/* -EPIPE: it is dying, and will be asked again */
	if (kp_chan_send(&kp->cp.chan, &p->msg, &p->fd, p->fd >= 0 ? 1 : 0) == 0)
		p->sent = true;
}

void kp_relay(struct kp_client *c, const struct toe_ctl_msg *m, int *fd)
{
	struct kp_keeper *kp = c->kp;
	struct kp_pending *p;

	if (c->app->pending >= KP_APP_PENDING) {
		kp_client_refuse(c, m->type, m->req, -EBUSY);
		return;
	}
	p = calloc(1, sizeof(*p));
	if (!p) {
		kp_client_refuse(c, m->type, m->req, -ENOMEM);
		return;
	}
	p->msg = *m;
	p->msg.status = 0;
	p->msg.app_id = c->app->desc.app_id;
	p->msg.proc = c->ctx;
	p->fd = fd ? *fd : -1;
	if (fd)
		*fd = -1;
	p->client = c;
	p->client_req = m->req;
	p->app_id = c->app->desc.app_id;
	p->ctx = c->ctx;
	p->done = relay_done;
	p->counted = p->relayed = true;
	append(kp, KP_CP, p);
	if (kp->cp.ready)
		send_relayed(kp, p);
}

void kp_relay_resume(struct kp_keeper *kp)
{
	for (struct kp_pending *p = kp->pending[KP_CP]; p; p = p->next) {
		if (!p->sent)
			send_relayed(kp, p);
	}
}

void kp_relay_lost(struct kp_keeper *kp)
{
	struct kp_pending **at = &kp->pending[KP_CP];

	while (*at) {
		struct kp_pending *p = *at;

		if (p->client && !(p->sent && p->again)) {
			p->again |= p->sent;
			p->sent = false;
			at = &p->next;
			continue;
		}
		unlink_at(kp, KP_CP, at);
		p->msg.status = -EIO; /* two control planes died of it */
		p->done(kp, p, NULL);
		free_pending(p);
	}
}

void kp_relay_client_gone(struct kp_keeper *kp, struct kp_client *c)
{
	for (int peer = 0; peer < 2; peer++) {
		struct kp_pending **at = &kp->pending[peer];

		while (*at) {
			struct kp_pending *p = *at;

			if (p->client == c && p->relayed && !p->sent) {
				free_pending(unlink_at(kp, (enum kp_peer)peer, at));
				continue;
			}
			if (p->client == c)
				p->client = NULL;
			at = &p->next;
		}
	}
}

void kp_tell_cp(struct kp_keeper *kp, enum toe_ctl_type type, const struct kp_app *app,
		uint32_t ctx)
{
	struct toe_ctl_msg m;
	bool with_fd = type == TOE_CTL_CP_APP;

	if (kp->cp.chan.fd < 0)
		return;
	toe_ctl_init(&m, type);
	m.req = ++kp->last_req;
	m.app_id = app->desc.app_id;
	m.proc = ctx;
	m.u.app = app->desc;
	memset(m.u.app.key, 0, sizeof(m.u.app.key)); /* nobody else's business */
	m.u.app.ctx = ctx;
	if (ctx != TOE_NONE) {
		m.u.app.pid = app->procs[ctx].pid;
		m.u.app.uid = app->procs[ctx].uid;
	}
	kp_chan_send(&kp->cp.chan, &m, &app->control_fd, with_fd ? 1 : 0);
}
