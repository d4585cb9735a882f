// SPDX-License-Identifier: BSD-3-Clause
/*
 * Applications (one `toe run` each) and their processes.
 *
 *   APP_NEW: MAKING -> datapath knows it: LIVE -> last connection of a program gone
 *   and that not replacing itself by exec (linger.c): GONE ->
 *   control plane has closed everything: FREEING -> datapath has unmapped it: id free again
 *
 * In: requests of clients, answers of the datapath; out: messages to both programs, regions. State:
 * kp->apps.  A context index is used again only when the datapath has let go of it.
 */
#include "keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/ctl_sock.h"
#include "common/log.h"

#include "region.h"

#define CLIENTS_PER_APP (2 * TOE_CTX_N)

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

struct kp_app *kp_app_get(struct kp_keeper *kp, uint32_t app_id)
{
	return app_id < KP_APP_N ? kp->apps[app_id] : NULL;
}

void kp_apps_count(const struct kp_keeper *kp, struct toe_ctl_engine *e)
{
	e->apps = e->procs = 0;
	for (uint32_t i = 0; i < KP_APP_N; i++) {
		uint64_t conns = 0;

		e->kernel_conns[i] = 0;
		if (!kp->apps[i])
			continue;
		e->apps++;
		for (uint32_t ctx = 0; ctx < TOE_CTX_N; ctx++) {
			e->procs += kp->apps[i]->procs[ctx].state == KP_PROC_LIVE;
			conns += kp->apps[i]->procs[ctx].kernel_conns;
		}
		e->kernel_conns[i] = conns < UINT16_MAX ? (uint16_t)conns : UINT16_MAX;
	}
}

void kp_apps_unsupported(const struct kp_keeper *kp, uint64_t *n)
{
	memcpy(n, kp->unsupported, sizeof(kp->unsupported));
	for (uint32_t i = 0; i < KP_APP_N; i++) {
		if (kp->apps[i])
			kp_region_unsupported(&kp->apps[i]->desc, kp->apps[i]->control_fd, n);
	}
}

void kp_apps_engine_gone(struct kp_keeper *kp)
{
	for (uint32_t i = 0; i < KP_APP_N; i++) {
		if (kp->apps[i])
			kp_region_engine_gone(&kp->apps[i]->desc, kp->apps[i]->control_fd);
	}
}

/* ---- questions to the datapath ---- */

static int ask_datapath(struct kp_app *app, struct kp_pending *like, uint32_t ctx, const int *fds,
			unsigned nfds)
{
	like->fd = -1;
	like->app_id = app->desc.app_id;
	like->ctx = ctx;
	like->msg.app_id = app->desc.app_id;
	like->msg.proc = ctx;
	like->msg.u.app = app->desc;
	memset(like->msg.u.app.key, 0, sizeof(like->msg.u.app.key));
	like->msg.u.app.ctx = ctx;
	return kp_ask(app->kp, KP_DP, like, fds, nfds);
}

/* ---- end of an application ---- */

static void destroy(struct kp_app *app)
{
	struct kp_keeper *kp = app->kp;

	kp->apps[app->desc.app_id] = NULL;
	if (app->control_fd >= 0)
		kp_region_unsupported(&app->desc, app->control_fd, kp->unsupported);
	kp_app_fds_close(app);
	kp_linger_stop(app);
	close_fd(&app->control_fd);
	close_fd(&app->payload_fd);
	for (uint32_t i = 0; i < TOE_CTX_N; i++)
		close_fd(&app->procs[i].kick_fd);
	free(app->ports);
	free(app);
}

static void freed_done(struct kp_keeper *kp, struct kp_pending *p, const struct toe_ctl_msg *reply)
{
	struct kp_app *app = kp_app_get(kp, p->app_id);

	(void)reply;
	if (!app || app->state != KP_APP_FREEING)
		return;
	if (kp_may_complain(kp))
		LOG_INFO("application %u (%s) is gone", app->desc.app_id, app->desc.name);
	destroy(app);
}

static void free_in_datapath(struct kp_app *app)
{
	struct kp_pending like = {.done = freed_done};
	int rc;

	app->state = KP_APP_FREEING;
	toe_ctl_init(&like.msg, TOE_CTL_DP_APP_GONE);
	rc = ask_datapath(app, &like, TOE_NONE, NULL, 0);
	if (rc < 0)
		LOG_WARN("application %u: datapath: %s", app->desc.app_id, strerror(-rc));
}

void kp_app_freed(struct kp_keeper *kp, uint32_t app_id)
{
	struct kp_app *app = kp_app_get(kp, app_id);

	if (!app || app->state != KP_APP_GONE) {
		LOG_WARN("control plane frees application %u, which is %s", app_id,
			 app ? "in use" : "unknown");
		return;
	}
	free_in_datapath(app);
}

void kp_app_end(struct kp_app *app)
{
	app->state = KP_APP_GONE;
	kp_tell_cp(app->kp, TOE_CTL_CP_APP_GONE, app, TOE_NONE);
}

/* ---- processes ---- */

static void left_done(struct kp_keeper *kp, struct kp_pending *p, const struct toe_ctl_msg *reply)
{
	struct kp_app *app = kp_app_get(kp, p->app_id);

	(void)reply;
	if (app && app->procs[p->ctx].state == KP_PROC_LEAVING)
		app->procs[p->ctx].state = KP_PROC_FREE;
}

static void leave(struct kp_app *app, uint32_t ctx)
{
	struct kp_proc *proc = &app->procs[ctx];
	struct kp_pending like = {.done = left_done};

	close_fd(&proc->kick_fd);
	proc->client = NULL;
	proc->kernel_conns = 0;
	if (proc->state == KP_PROC_ATTACHING)
		return; /* attach_done() comes back to it */
	if (proc->state == KP_PROC_LIVE)
		kp_tell_cp(app->kp, TOE_CTL_CP_PROC_GONE, app, ctx);
	proc->state = KP_PROC_LEAVING;
	toe_ctl_init(&like.msg, TOE_CTL_DP_PROC_GONE);
	ask_datapath(app, &like, ctx, NULL, 0);
}

static void attach_done(struct kp_keeper *kp, struct kp_pending *p, const struct toe_ctl_msg *reply)
{
	struct kp_app *app = kp_app_get(kp, p->app_id);
	struct kp_proc *proc = app ? &app->procs[p->ctx] : NULL;
	struct toe_ctl_msg m;
	int fds[3];

	if (!proc || proc->state != KP_PROC_ATTACHING)
		return;
	if (!reply || reply->status < 0) {
		proc->state = KP_PROC_FREE;
		close_fd(&proc->kick_fd);
		if (proc->client) {
			proc->client->ctx = TOE_NONE;
			kp_client_refuse(proc->client, TOE_CTL_PROC_ATTACH, p->client_req,
					 reply ? reply->status : -EIO);
		}
		return;
	}
	if (!proc->client) {
		proc->state = KP_PROC_LEAVING;
		leave(app, p->ctx);
		return;
	}
	proc->state = KP_PROC_LIVE;
	kp_tell_cp(kp, TOE_CTL_CP_PROC, app, p->ctx);
	toe_ctl_init(&m, TOE_CTL_PROC_ATTACH);
	m.u.app = app->desc;
	m.u.app.ctx = p->ctx;
	m.u.app.pid = proc->pid;
	m.u.app.uid = proc->uid;
	fds[0] = app->control_fd;
	fds[1] = app->payload_fd;
	fds[2] = proc->kick_fd;
	kp_client_reply(proc->client, &m, p->client_req, fds, 3);
	close_fd(&proc->kick_fd); /* a copy here would hide the hang-up from it */
}

/* Compares every byte whatever the first ones are: time tells nothing about the key. */
static bool key_matches(const struct kp_app *app, const uint8_t *key)
{
	uint8_t diff = 0;

	for (uint32_t i = 0; i < TOE_KEY_BYTES; i++)
		diff |= app->desc.key[i] ^ key[i];
	return diff == 0;
}

void kp_app_adopt(struct kp_app *app, struct kp_client *c)
{
	c->app = app;
	app->clients++;
}

/* May c attach a process, and to which application?  0 or -errno. */
static int authorise(struct kp_client *c, const struct toe_ctl_msg *m)
{
	struct kp_app *app = c->app ? c->app : kp_app_get(c->kp, m->u.app.app_id);

	if (!app || (!c->app && !key_matches(app, m->u.app.key)))
		return -EACCES;
	if (app->state == KP_APP_MAKING)
		return -EAGAIN;
	if (app->state != KP_APP_LIVE || app->evicted)
		return -ECONNRESET;
	if (!c->app) {
		if (app->clients >= CLIENTS_PER_APP)
			return -EUSERS;
		kp_app_adopt(app, c);
	}
	if (c->ctx == TOE_NONE)
		return 0;
	/* The program replaced itself by exec and starts over on the inherited socket; another
	 * process that merely shares the socket must connect on its own. */
	if (app->procs[c->ctx].state != KP_PROC_LIVE || app->procs[c->ctx].pid != m->u.app.pid)
		return -EBUSY;
	leave(app, c->ctx);
	c->ctx = TOE_NONE;
	return 0;
}

static int start_attach(struct kp_client *c, const struct toe_ctl_msg *m)
{
	struct kp_pending like = {.client = c, .client_req = m->req, .done = attach_done};
	struct kp_app *app = c->app;
	struct kp_proc *proc;
	uint32_t ctx = 0;
	int kick[2];
	int rc;

	while (ctx < TOE_CTX_N && app->procs[ctx].state != KP_PROC_FREE)
		ctx++;
	if (ctx == TOE_CTX_N)
		return -EUSERS;
	rc = toe_ctl_pair(kick);
	if (rc < 0)
		return rc;
	for (int i = 0; i < 2; i++)
		fcntl(kick[i], F_SETFL, O_NONBLOCK);
	toe_ctl_init(&like.msg, TOE_CTL_DP_PROC);
	rc = ask_datapath(app, &like, ctx, &kick[0], 1);
	close(kick[0]);
	if (rc < 0) {
		close(kick[1]);
		return rc;
	}
	proc = &app->procs[ctx];
	proc->state = KP_PROC_ATTACHING;
	proc->client = c;
	proc->kick_fd = kick[1];
	proc->pid = m->u.app.pid;
	proc->uid = c->uid;
	c->ctx = ctx;
	return 0;
}

void kp_app_attach(struct kp_client *c, const struct toe_ctl_msg *m)
{
	int rc = authorise(c, m);

	if (rc == 0)
		rc = start_attach(c, m);
	if (rc < 0)
		kp_client_refuse(c, m->type, m->req, rc);
}

void kp_app_fork(struct kp_client *c, int *fds, unsigned nfds)
{
	struct kp_client *child;
	int domain = 0;
	int type = 0;
	socklen_t len = sizeof(int);

	if (!c->app || c->app->state != KP_APP_LIVE || c->app->evicted || nfds != 1 ||
	    c->app->clients >= CLIENTS_PER_APP || c->kp->client_n >= KP_CLIENTS_MAX)
		return; /* no reply is foreseen: the child sees its end hang up */
	if (getsockopt(fds[0], SOL_SOCKET, SO_DOMAIN, &domain, &len) < 0 || domain != AF_UNIX)
		return;
	len = sizeof(int);
	if (getsockopt(fds[0], SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_SEQPACKET)
		return;
	child = kp_client_new(c->kp, fds[0]);
	if (!child)
		return;
	fds[0] = -1;
	child->uid = c->uid;
	kp_app_adopt(c->app, child);
}

void kp_app_client_gone(struct kp_client *c)
{
	struct kp_app *app = c->app;
	pid_t pid = 0;

	if (c->ctx != TOE_NONE && app->procs[c->ctx].client == c) {
		pid = app->procs[c->ctx].pid;
		leave(app, c->ctx);
	}
	c->app = NULL;
	if (--app->clients > 0 || app->state != KP_APP_LIVE)
		return;
	if (pid <= 0 || app->evicted || !kp_linger_start(app, pid))
		kp_app_end(app);
}

void kp_app_evict(struct kp_keeper *kp, uint32_t app_id)
{
	struct kp_app *app = kp_app_get(kp, app_id);
	struct kp_client *c = kp->clients;

	if (!app || app->evicted)
		return;
	app->evicted = true;
	kp_region_engine_gone(&app->desc, app->control_fd);
	while (c) {
		struct kp_client *next = c->next;

		if (c->app == app)
			kp_client_drop(c);
		c = next;
	}
}

/* ---- new applications ---- */

static void made_done(struct kp_keeper *kp, struct kp_pending *p, const struct toe_ctl_msg *reply)
{
	struct kp_app *app = kp_app_get(kp, p->app_id);
	struct toe_ctl_msg m;

	if (!app || app->state != KP_APP_MAKING)
		return;
	if (!reply || reply->status < 0) {
		if (p->client) {
			p->client->app = NULL;
			kp_client_refuse(p->client, TOE_CTL_APP_NEW, p->client_req,
					 reply ? reply->status : -EIO);
		}
		destroy(app);
		return;
	}
	if (app->clients == 0) { /* gone meanwhile; the control plane never heard of it */
		free_in_datapath(app);
		return;
	}
	app->state = KP_APP_LIVE;
	kp_tell_cp(kp, TOE_CTL_CP_APP, app, TOE_NONE);
	if (kp_may_complain(kp))
		LOG_INFO("application %u: %s, uid %u, process %d", app->desc.app_id, app->desc.name,
			 app->desc.uid, app->desc.pid);
	toe_ctl_init(&m, TOE_CTL_APP_NEW);
	m.u.app = app->desc;
	kp_client_reply(p->client, &m, p->client_req, NULL, 0);
}

static int fill_app(struct kp_app *app, const struct kp_client *c, const struct toe_ctl_msg *m)
{
	struct toe_ctl_app *d = &app->desc;
	int fds[2];
	int rc;

	d->pid = m->u.app.pid;
	d->uid = c->uid;
	d->ctx = TOE_NONE;
	memcpy(d->name, m->u.app.name, sizeof(d->name) - 1);
	for (char *p = d->name; *p; p++) {
		if (*p < ' ' || *p > '~') /* it goes into logs and onto terminals */
			*p = '?';
	}
	if (getrandom(d->key, sizeof(d->key), 0) != (ssize_t)sizeof(d->key))
		return -EIO;
	rc = kp_region_geometry(&app->kp->cfg, d);
	if (rc == 0)
		rc = kp_tokens_init(&app->tokens, d->token_n);
	if (rc < 0)
		return rc;
	app->ports = calloc(d->slot_n, sizeof(*app->ports));
	if (!app->ports)
		return -ENOMEM;
	rc = kp_region_create(d, &app->kp->engine, fds);
	if (rc < 0)
		return rc;
	app->control_fd = fds[0];
	app->payload_fd = fds[1];
	return 0;
}

/* A free application id; a user may have as many as are left for others.  Or -EUSERS. */
static int free_app_id(const struct kp_keeper *kp, uint32_t uid)
{
	uint32_t n = kp->cfg.applications < KP_APP_N ? kp->cfg.applications : KP_APP_N;
	uint32_t left = 0;
	uint32_t own = 0;
	int id = -EUSERS;

	for (uint32_t i = n; i-- > 0;) {
		own += kp->apps[i] && kp->apps[i]->desc.uid == uid;
		if (kp->apps[i])
			continue;
		left++;
		id = (int)i;
	}
	return uid == 0 || own < left ? id : -EUSERS;
}

static int make_app(struct kp_client *c, const struct toe_ctl_msg *m)
{
	struct kp_pending like = {.client = c, .client_req = m->req, .done = made_done};
	struct kp_keeper *kp = c->kp;
	int id = free_app_id(kp, c->uid);
	struct kp_app *app;
	int fds[2];
	int rc;

	if (id < 0)
		return id;
	app = calloc(1, sizeof(*app));
	if (!app)
		return -ENOMEM;
	app->kp = kp;
	app->control_fd = app->payload_fd = app->linger_fd = -1;
	app->desc.app_id = (uint32_t)id;
	for (uint32_t i = 0; i < TOE_CTX_N; i++)
		app->procs[i].kick_fd = -1;
	kp->apps[id] = app;
	rc = fill_app(app, c, m);
	if (rc == 0) {
		fds[0] = app->control_fd;
		fds[1] = app->payload_fd;
		toe_ctl_init(&like.msg, TOE_CTL_DP_APP);
		rc = ask_datapath(app, &like, TOE_NONE, fds, 2);
	}
	if (rc < 0) {
		destroy(app);
		return rc;
	}
	kp_app_adopt(app, c);
	return 0;
}

void kp_app_new(struct kp_client *c, const struct toe_ctl_msg *m)
{
	int rc = c->app ? -EALREADY : make_app(c, m);

	if (rc < 0)
		kp_client_refuse(c, m->type, m->req, rc);
}
