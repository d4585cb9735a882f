// SPDX-License-Identifier: BSD-3-Clause
/*
 * Sockets of programs: `toe`, `toe run`, processes with libtoe.
 *
 * In: connections on <run_dir>/keeper.sock (mode 0666) and sockets handed in by PROC_FORK; messages
 * of anybody on the machine, so every field is checked here or where it is used; out: dispatch,
 * replies. A client that sends what is no message, or does not read its replies, hurts only itself.
 * State: the list of clients.
 */
#include "keeper.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/ctl_sock.h"
#include "common/log.h"

#define REPLIES_UNREAD 32 /* then we stop reading requests */
#define COMPLAINTS     8  /* logged in one second */

static void on_accept(uv_poll_t *h, int status, int events);

/* ---- replies ---- */

void kp_client_reply(struct kp_client *c, struct toe_ctl_msg *m, uint32_t req, const int *fds,
		     unsigned nfds)
{
	int rc;

	if (!c || c->chan.fd < 0)
		return;
	m->req = req;
	rc = kp_chan_send(&c->chan, m, fds, nfds);
	/* It would wait for ever; end of file follows in the loop, where it is safe to free it. */
	if (rc < 0 && rc != -EPIPE)
		shutdown(c->chan.fd, SHUT_RDWR);
}

void kp_client_refuse(struct kp_client *c, uint16_t type, uint32_t req, int status)
{
	struct toe_ctl_msg m;

	toe_ctl_init(&m, (enum toe_ctl_type)type);
	m.status = status;
	kp_client_reply(c, &m, req, NULL, 0);
}

/* ---- requests ---- */

static void on_status(struct kp_client *c, const struct toe_ctl_msg *m)
{
	struct kp_keeper *kp = c->kp;
	struct toe_ctl_msg r;

	kp_apps_count(kp, &kp->engine);
	toe_ctl_init(&r, TOE_CTL_STATUS);
	r.u.engine = kp->engine;
	kp_client_reply(c, &r, m->req, NULL, 0);
}

static void on_unsupported(struct kp_client *c, const struct toe_ctl_msg *m)
{
	struct toe_ctl_msg r;

	if (c->uid != 0 && c->uid != geteuid()) { /* reading them all costs a millisecond */
		kp_client_refuse(c, m->type, m->req, -EPERM);
		return;
	}
	toe_ctl_init(&r, TOE_CTL_UNSUPPORTED);
	kp_apps_unsupported(c->kp, r.u.unsupported.n);
	kp_client_reply(c, &r, m->req, NULL, 0);
}

static void on_down(struct kp_client *c, const struct toe_ctl_msg *m)
{
	if (c->uid != 0 && c->uid != geteuid()) {
		kp_client_refuse(c, m->type, m->req, -EPERM);
		return;
	}
	c->down = true;
	c->down_req = m->req;
	kp_stop(c->kp, 0, NULL);
}

static void waiter_done(struct kp_keeper *kp, struct kp_pending *p, const struct toe_ctl_msg *reply)
{
	(void)kp;
	kp_client_refuse(p->client, TOE_CTL_WAITER_ADD, p->client_req,
			 reply ? reply->status : -EIO);
}

/* send() on another kind of socket may wait for its lock, which its owner can hold. */
static bool is_unix_socket(int fd)
{
	int domain = 0;
	socklen_t len = sizeof(domain);

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_UNIX;
}

static void on_waiter(struct kp_client *c, const struct toe_ctl_msg *m, const int *fds,
		      unsigned nfds)
{
	struct kp_pending like = {.fd = -1, .client = c, .client_req = m->req, .done = waiter_done};
	int rc = -EBUSY;

	if (nfds != 1 || !is_unix_socket(fds[0]) || m->u.waiter.waiter >= TOE_WAITER_N) {
		kp_client_refuse(c, m->type, m->req, -EINVAL);
		return;
	}
	toe_ctl_init(&like.msg, TOE_CTL_DP_WAITER);
	like.msg.app_id = like.msg.u.waiter.app_id = like.app_id = c->app->desc.app_id;
	like.msg.proc = like.msg.u.waiter.ctx = like.ctx = c->ctx;
	like.msg.u.waiter.waiter = m->u.waiter.waiter;
	/* no copy stays here: the process must see a hang-up when the datapath dies */
	if (c->app->pending < KP_APP_PENDING) {
		like.counted = true;
		rc = kp_ask(c->kp, KP_DP, &like, fds, 1);
	}
	if (rc < 0)
		kp_client_refuse(c, m->type, m->req, rc);
}

static void kernel_conn_done(struct kp_keeper *kp, struct kp_pending *p,
			     const struct toe_ctl_msg *reply)
{
	struct kp_app *app = kp_app_get(kp, p->app_id);
	int status = reply ? reply->status : -EIO;

	/* the client is gone: so is its share */
	if (status == 0 && app && p->client && p->client->app == app && p->client->ctx == p->ctx)
		app->procs[p->ctx].kernel_conns += (uint32_t)p->msg.u.kconn.delta;
	kp_client_refuse(p->client, TOE_CTL_KERNEL_CONN, p->client_req, status);
}

/* The datapath checks that the sum makes sense. */
static void on_kernel_conn(struct kp_client *c, const struct toe_ctl_msg *m)
{
	struct kp_pending like = {
		.fd = -1, .client = c, .client_req = m->req, .done = kernel_conn_done};
	int rc = -EBUSY;

	if (!kp_kconn_valid(&m->u.kconn)) {
		kp_client_refuse(c, m->type, m->req, -EINVAL);
		return;
	}
	toe_ctl_init(&like.msg, TOE_CTL_DP_KERNEL_CONN);
	like.msg.u.kconn = m->u.kconn;
	like.msg.app_id = like.msg.u.kconn.app_id = like.app_id = c->app->desc.app_id;
	like.msg.proc = like.msg.u.kconn.ctx = like.ctx = c->ctx;
	if (c->app->pending < KP_APP_PENDING) {
		like.counted = true;
		rc = kp_ask(c->kp, KP_DP, &like, NULL, 0);
	}
	if (rc < 0)
		kp_client_refuse(c, m->type, m->req, rc);
}

static void on_connect(struct kp_client *c, struct toe_ctl_msg *m, int *fds, unsigned nfds)
{
	const struct kp_tokens *ts = &c->app->tokens;

	if (nfds != 1 || !kp_is_tcp_socket(c->kp, fds[0]) || !kp_conn_valid(&m->u.conn) ||
	    m->u.conn.token >= ts->n || ts->t[m->u.conn.token].state != KP_TOKEN_LIVE) {
		kp_client_refuse(c, m->type, m->req, -EINVAL);
		return;
	}
	if (kp_fds_used(c->kp) >= c->kp->fd_limit) {
		kp_client_refuse(c, m->type, m->req, -EMFILE);
		return;
	}
	m->u.conn.app_id = c->app->desc.app_id;
	kp_relay(c, m, &fds[0]);
}

/* The kernel knows who may have which port, and libtoe's listener is one of the kernel's too. */
static void on_listen(struct kp_client *c, const struct toe_ctl_msg *m)
{
	const struct toe_ctl_listen *l = &m->u.listen;
	int rc = kp_listen_valid(l) ? kp_may_listen(c->kp, c->uid, l) : -EINVAL;

	if (rc < 0)
		kp_client_refuse(c, m->type, m->req, rc);
	else
		kp_relay(c, m, NULL);
}

/* Requests of an attached process. */
static void proc_msg(struct kp_client *c, struct toe_ctl_msg *m, int *fds, unsigned nfds)
{
	if (!c->app || c->ctx == TOE_NONE || c->app->procs[c->ctx].state != KP_PROC_LIVE) {
		kp_client_refuse(c, m->type, m->req, -EPERM);
		return;
	}
	switch (m->type) {
	case TOE_CTL_WAITER_ADD:
		on_waiter(c, m, fds, nfds);
		break;
	case TOE_CTL_TOKEN_ADD:
		kp_token_request(c, m, fds, nfds);
		break;
	case TOE_CTL_CLAIM:
		kp_claim_request(c, m, fds, nfds);
		break;
	case TOE_CTL_CONNECT:
		on_connect(c, m, fds, nfds);
		break;
	case TOE_CTL_LISTEN:
		on_listen(c, m);
		break;
	case TOE_CTL_KERNEL_CONN:
		on_kernel_conn(c, m);
		break;
	default: /* UNLISTEN */
		kp_relay(c, m, NULL);
		break;
	}
}

static void client_msg(struct kp_chan *ch, struct toe_ctl_msg *m, int *fds, unsigned nfds)
{
	struct kp_client *c = (struct kp_client *)ch;

	if (c->kp->state == KP_STOPPING && m->type != TOE_CTL_DOWN) {
		kp_client_refuse(c, m->type, m->req, -ESHUTDOWN);
		return;
	}
	switch (m->type) {
	case TOE_CTL_APP_NEW:
		kp_app_new(c, m);
		break;
	case TOE_CTL_PROC_ATTACH:
		kp_app_attach(c, m);
		break;
	case TOE_CTL_PROC_FORK:
		kp_app_fork(c, fds, nfds);
		break;
	case TOE_CTL_STATUS:
		on_status(c, m);
		break;
	case TOE_CTL_DOWN:
		on_down(c, m);
		break;
	case TOE_CTL_UNSUPPORTED:
		on_unsupported(c, m);
		break;
	case TOE_CTL_WAITER_ADD:
	case TOE_CTL_TOKEN_ADD:
	case TOE_CTL_LISTEN:
	case TOE_CTL_UNLISTEN:
	case TOE_CTL_CONNECT:
	case TOE_CTL_CLAIM:
	case TOE_CTL_KERNEL_CONN:
		proc_msg(c, m, fds, nfds);
		break;
	default:
		kp_client_refuse(c, m->type, m->req, -EPROTO);
		break;
	}
}

/* ---- coming and going ---- */

bool kp_may_complain(struct kp_keeper *kp)
{
	uint64_t now_s = uv_now(&kp->loop) / 1000;

	if (now_s != kp->complaint_s) {
		kp->complaint_s = now_s;
		kp->complaints = 0;
	}
	return kp->complaints++ < COMPLAINTS;
}

static void client_end(struct kp_chan *ch, int error, const struct toe_ctl_msg *m)
{
	struct kp_client *c = (struct kp_client *)ch;

	/* Another version of libtoe: the reply carries ours, so it can name both. */
	if (error == -EPROTO) {
		if (kp_may_complain(c->kp))
			LOG_WARN("a client of uid %u speaks version %u/%08x, we speak %u/%08x",
				 c->uid, m->abi_version, m->abi_fingerprint, TOE_ABI_VERSION,
				 TOE_ABI_FINGERPRINT);
		kp_client_refuse(c, m->type, m->req, -EPROTO);
	} else if (error == -EMFILE && kp_may_complain(c->kp)) {
		LOG_WARN("a client of uid %u was dropped: too many descriptors", c->uid);
	}
	kp_client_drop(c);
}

static void client_closed(struct kp_chan *ch)
{
	free(ch);
}

struct kp_client *kp_client_new(struct kp_keeper *kp, int fd)
{
	struct kp_client *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->kp = kp;
	c->ctx = TOE_NONE;
	c->chan.on_msg = client_msg;
	c->chan.on_end = client_end;
	c->chan.on_closed = client_closed;
	c->chan.out_pause = REPLIES_UNREAD;
	c->chan.fds_at_once = true;
	if (kp_chan_open(&c->chan, &kp->loop, fd) < 0) {
		free(c);
		return NULL;
	}
	c->next = kp->clients;
	c->prev = &kp->clients;
	if (c->next)
		c->next->prev = &c->next;
	kp->clients = c;
	kp->client_n++;
	return c;
}

void kp_client_drop(struct kp_client *c)
{
	struct kp_keeper *kp = c->kp;

	if (c->chan.fd < 0)
		return;
	*c->prev = c->next;
	if (c->next)
		c->next->prev = c->prev;
	kp->client_n--;
	kp_relay_client_gone(kp, c);
	kp_chan_close(&c->chan);
	if (c->app)
		kp_app_client_gone(c);
	if (kp->listen_fd >= 0) /* may have been paused */
		uv_poll_start(&kp->listen_poll, UV_READABLE, on_accept);
}

/* Makes room for a newcomer: the connection of that uid which has had longest to say who it is and
 * has not.  Whoever comes with a purpose has said it at once. */
static void thin_strangers(struct kp_keeper *kp, uint32_t uid)
{
	struct kp_client *oldest = NULL;
	uint32_t n = 0;

	for (struct kp_client *c = kp->clients; c; c = c->next) {
		if (c->app || c->down || c->uid != uid)
			continue;
		oldest = c; /* newcomers are put in front */
		n++;
	}
	if (n >= KP_STRANGERS_MAX)
		kp_client_drop(oldest);
}

static void on_accept(uv_poll_t *h, int status, int events)
{
	struct kp_keeper *kp = h->data;
	struct ucred cred = {.uid = UINT32_MAX};
	socklen_t len = sizeof(cred);
	struct kp_client *c;
	int fd;

	(void)status;
	(void)events;
	if (kp->client_n >= KP_CLIENTS_MAX) {
		uv_poll_stop(h); /* until somebody leaves */
		return;
	}
	fd = accept4(kp->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE)
			uv_poll_stop(h);
		return;
	}
	getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len);
	thin_strangers(kp, cred.uid);
	c = kp_client_new(kp, fd);
	if (!c) {
		close(fd);
		return;
	}
	c->uid = cred.uid;
}

int kp_clients_listen(struct kp_keeper *kp)
{
	char path[128];
	int rc = toe_ctl_listen(toe_config_path(&kp->cfg, TOE_KEEPER_SOCKET, path, sizeof(path)),
				0666);

	if (rc < 0)
		return rc;
	kp->listen_fd = rc;
	rc = uv_poll_init(&kp->loop, &kp->listen_poll, kp->listen_fd);
	kp->listen_poll.data = kp;
	if (rc == 0)
		rc = uv_poll_start(&kp->listen_poll, UV_READABLE, on_accept);
	return rc;
}

void kp_clients_stop_listening(struct kp_keeper *kp)
{
	if (kp->listen_fd < 0)
		return;
	uv_poll_stop(&kp->listen_poll);
	close(kp->listen_fd);
	kp->listen_fd = -1;
}

void kp_clients_farewell(struct kp_keeper *kp)
{
	for (struct kp_client *c = kp->clients; c; c = c->next) {
		if (c->down)
			kp_client_refuse(c, TOE_CTL_DOWN, c->down_req, 0);
	}
}
