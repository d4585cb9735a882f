// SPDX-License-Identifier: BSD-3-Clause
/*
 * Conversation with toe-datapath and toe-controlplane.
 *
 * In: their messages; out: calls into supervise.c, apps.c, app_fds.c, relay.c, and the greeting and
 * replay that each gets first.  Both are trusted, but ids are checked all the same: they may speak
 * of an application that is gone by now.
 */
#include "keeper.h"

#include <string.h>
#include <unistd.h>

#include "common/ctl_sock.h"
#include "common/log.h"

int kp_dp_hello(struct kp_keeper *kp)
{
	struct toe_ctl_msg m;
	int fds[3] = {kp->cpq_fd, kp->dp_kick[1], kp->setup.tap_fd};
	int rc;

	toe_ctl_init(&m, TOE_CTL_DP_START);
	m.req = ++kp->last_req;
	m.u.engine = kp->engine;
	rc = kp_chan_send(&kp->dp.chan, &m, fds, 3);
	close(kp->dp_kick[1]); /* the datapath is started once */
	kp->dp_kick[1] = -1;
	return rc;
}

void kp_dp_msg(struct kp_chan *ch, struct toe_ctl_msg *m, int *fds, unsigned nfds)
{
	struct kp_keeper *kp = ch->poll.loop->data;

	(void)fds;
	(void)nfds;
	switch (m->type) {
	case TOE_CTL_DP_READY:
		kp_dp_ready(kp, m);
		break;
	case TOE_CTL_DP_START:
		if (m->status < 0)
			kp_dp_ready(kp, m);
		break;
	case TOE_CTL_DP_EVICT:
		LOG_WARN("application %u damaged its memory: evicted", m->u.app.app_id);
		kp_app_evict(kp, m->u.app.app_id);
		break;
	default:
		kp_answer(kp, KP_DP, m);
		break;
	}
}

static void send_start(struct kp_keeper *kp, enum toe_ctl_type type, const int *fds, unsigned nfds,
		       int *rc)
{
	struct toe_ctl_msg m;

	toe_ctl_init(&m, type);
	m.req = ++kp->last_req;
	m.u.engine = kp->engine;
	if (*rc == 0)
		*rc = kp_chan_send(&kp->cp.chan, &m, fds, nfds);
}

int kp_cp_replay(struct kp_keeper *kp)
{
	int fds[3] = {kp->cpq_fd, kp->state_fd, kp->dp_kick[0]};
	int rc = 0;

	kp_apps_count(kp, &kp->engine);
	send_start(kp, TOE_CTL_CP_START, fds, 3, &rc);
	for (uint32_t i = 0; i < KP_APP_N; i++) {
		struct kp_app *app = kp->apps[i];

		if (!app || app->state == KP_APP_MAKING || app->state == KP_APP_FREEING)
			continue;
		kp_tell_cp(kp, TOE_CTL_CP_APP, app, TOE_NONE);
		for (uint32_t ctx = 0; ctx < TOE_CTX_N; ctx++) {
			if (app->procs[ctx].state == KP_PROC_LIVE)
				kp_tell_cp(kp, TOE_CTL_CP_PROC, app, ctx);
		}
		if (app->state == KP_APP_GONE)
			kp_tell_cp(kp, TOE_CTL_CP_APP_GONE, app, TOE_NONE);
		kp_tokens_rewind(&app->tokens);
	}
	kp_tokens_flush(kp);
	send_start(kp, TOE_CTL_CP_READY, NULL, 0, &rc);
	return rc;
}

/* A request of the control plane has been done.  It may not care: then req is 0. */
static void confirm(struct kp_chan *ch, struct toe_ctl_msg *m)
{
	m->status = 0;
	if (m->req != 0 && ch->fd >= 0)
		kp_chan_send(ch, m, NULL, 0);
}

/* Answers to what needs none. */
static void check_refusal(struct kp_keeper *kp, const struct toe_ctl_msg *m)
{
	if (m->status >= 0)
		return;
	LOG_ERROR("control plane refuses message %u: %s", m->type, strerror(-m->status));
	if (m->type == TOE_CTL_CP_APP)
		kp_app_evict(kp, m->u.app.app_id);
}

void kp_cp_msg(struct kp_chan *ch, struct toe_ctl_msg *m, int *fds, unsigned nfds)
{
	struct kp_keeper *kp = ch->poll.loop->data;

	(void)fds;
	(void)nfds;
	switch (m->type) {
	case TOE_CTL_CP_READY:
		kp_cp_ready(kp, m);
		break;
	case TOE_CTL_CP_TOKEN_FREE:
		kp_tokens_freed(kp, m);
		confirm(ch, m);
		break;
	case TOE_CTL_CP_PORT_FREE:
		kp_port_free(kp, m);
		confirm(ch, m);
		break;
	case TOE_CTL_CP_APP_FREE:
		kp_app_freed(kp, m->u.app.app_id);
		confirm(ch, m);
		break;
	case TOE_CTL_CP_START:
		if (m->status < 0)
			kp_cp_ready(kp, m);
		break;
	case TOE_CTL_LISTEN:
	case TOE_CTL_UNLISTEN:
	case TOE_CTL_CONNECT:
		kp_answer(kp, KP_CP, m);
		break;
	default:
		check_refusal(kp, m);
		break;
	}
}
