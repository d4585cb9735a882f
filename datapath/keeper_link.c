/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Link to toe-keeper.
 *
 * Input: TOE_CTL_DP_* requests on e->keeper_fd, evictions noted by the SIGBUS handler.  Output: one
 * reply per request, TOE_CTL_DP_EVICT.  Runs on its own thread, which may wait for RCU.  When the
 * keeper is gone the engine has lost its owner and stops (SIGTERM to itself).
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "apps.h"
#include "common/closer.h"
#include "common/ctl_sock.h"
#include "common/log.h"
#include "keeper_link.h"
#include "stream.h"

#define FDS_MAX      4u
#define ANSWER_BYTES 8192u
#define ANSWER_MS    1000u
#define BUSY_TRIES   2000u
#define BUSY_US      500u

static struct {
	pthread_t thread;
	int stop_fd;
	bool running;
} keeper_link;

static int do_app(struct toe_engine *e, const struct toe_ctl_msg *m, const int *fds, unsigned nfds)
{
	return nfds == 2 ? toe_app_attach(e, &m->u.app, fds) : -EINVAL;
}

/* The descriptor is taken out of fds if it was used. */
static int do_proc(struct toe_engine *e, const struct toe_ctl_msg *m, int *fds, unsigned nfds)
{
	int rc = -EINVAL;

	if (nfds >= 1)
		rc = toe_app_proc_attach(e, m->u.app.app_id, m->u.app.ctx, fds[0]);
	if (rc == 0)
		fds[0] = -1;
	return rc;
}

static int do_waiter(struct toe_engine *e, const struct toe_ctl_msg *m, int *fds, unsigned nfds)
{
	int rc = nfds == 1 ? toe_app_waiter_add(e, &m->u.waiter, fds[0]) : -EINVAL;

	if (rc == 0)
		fds[0] = -1;
	return rc;
}

/* The stage's answer, whoever asks it something else meanwhile. */
static int tell_module(struct toe_engine *e, const struct toe_ctl_kconn *k)
{
	static char out[ANSWER_BYTES]; /* this thread's only */
	char text[64 + 2 * sizeof(k->data)];
	struct toe_stream_ask ask = {
		.what = "kernel", .arg = text, .out = out, .room = sizeof(out)};
	int at = snprintf(text, sizeof(text), "%u %u %u %u ", k->app_id, k->ctx, k->conn, k->what);
	int rc = -EBUSY;

	for (unsigned i = 0; i < k->len; i++)
		at += snprintf(text + at, sizeof(text) - (size_t)at, "%02x", k->data[i]);
	for (unsigned i = 0; i < BUSY_TRIES && rc == -EBUSY; i++) {
		rc = toe_stream_control(e, "mqtt", &ask, ANSWER_MS);
		if (rc == -EBUSY)
			usleep(BUSY_US);
	}
	return rc;
}

/* A connection counts as followed from before the stage has it until the stage is told its end. */
static int do_kernel_news(struct toe_engine *e, const struct toe_ctl_kconn *k)
{
	bool begins = toe_kconn_begins(k->what);
	int rc = 0;

	if (k->len > sizeof(k->data) || k->what > TOE_KCONN_MQTT_LAST)
		return -EINVAL;
	if (k->what == TOE_KCONN_MQTT_END)
		rc = toe_app_follow(e, k, false);
	else if (begins)
		rc = toe_app_follow(e, k, true);
	if (rc == -ENODEV && begins && k->len != 0) {
		/* the application may still read what it has received, and act on it */
		struct toe_ctl_kconn missed = *k;

		missed.what = TOE_KCONN_MQTT_MISSED;
		tell_module(e, &missed);
	}
	if (rc != 0)
		return rc;
	rc = tell_module(e, k);
	if (rc == -ETIMEDOUT)
		rc = -EBUSY; /* taken back: unlike a time-out of whoever asks, that is certain */
	if (rc != 0 && begins)
		toe_app_follow(e, k, false);
	return k->what == TOE_KCONN_MQTT_END ? 0 : rc;
}

static int do_proc_gone(struct toe_engine *e, const struct toe_ctl_app *app)
{
	const struct toe_ctl_kconn gone = {
		.app_id = app->app_id, .ctx = app->ctx, .what = TOE_KCONN_MQTT_GONE};
	int rc = toe_app_proc_detach(e, app->app_id, app->ctx);

	if (rc == 0)
		tell_module(e, &gone);
	return rc;
}

/* News nobody wants (no MQTT), or not yet; a session that is not known. */
static bool expected(const struct toe_ctl_msg *m)
{
	uint16_t what = m->u.kconn.what;

	return m->type == TOE_CTL_DP_KERNEL_CONN && what != 0 &&
	       (m->status == -ENODEV || m->status == -EAGAIN ||
		(m->status == -ESRCH &&
		 (what == TOE_KCONN_MQTT_RESUME || what == TOE_KCONN_MQTT_MISSED)));
}

void toe_keeper_link_handle(struct toe_engine *e, struct toe_ctl_msg *m, int *fds, unsigned nfds)
{
	switch (m->type) {
	case TOE_CTL_DP_APP:
		m->status = do_app(e, m, fds, nfds);
		break;
	case TOE_CTL_DP_APP_GONE:
		m->status = toe_app_detach(e, m->u.app.app_id);
		break;
	case TOE_CTL_DP_PROC:
		m->status = do_proc(e, m, fds, nfds);
		break;
	case TOE_CTL_DP_PROC_GONE:
		m->status = do_proc_gone(e, &m->u.app);
		break;
	case TOE_CTL_DP_WAITER:
		m->status = do_waiter(e, m, fds, nfds);
		break;
	case TOE_CTL_DP_KERNEL_CONN:
		m->status = m->u.kconn.what == 0 ? toe_app_kernel_conn(e, &m->u.kconn)
						 : do_kernel_news(e, &m->u.kconn);
		break;
	default:
		m->status = -EOPNOTSUPP;
		break;
	}
	for (unsigned i = 0; i < nfds; i++)
		toe_close_later(fds[i]);
	if (m->status != 0 && !expected(m))
		LOG_WARN("keeper's request %u for application %u: %s", m->type, m->app_id,
			 strerror(-m->status));
}

/* False: the keeper is gone. */
static bool take_request(struct toe_engine *e)
{
	struct toe_ctl_msg m;
	int fds[FDS_MAX];
	unsigned n = 0;
	int rc = toe_ctl_recv(e->keeper_fd, &m, fds, FDS_MAX, &n);

	if (rc == -EAGAIN || rc == -EINTR)
		return true;
	if (rc == -EPROTO || rc == -EMSGSIZE) {
		LOG_ERROR("keeper: message not understood: %s", strerror(-rc));
		return true;
	}
	if (rc != 0)
		return false;
	toe_keeper_link_handle(e, &m, fds, n);
	return toe_ctl_send(e->keeper_fd, &m, NULL, 0) != -EPIPE;
}

static void report_evicted(struct toe_engine *e)
{
	for (uint64_t mask = toe_apps_take_evicted(e); mask != 0; mask &= mask - 1) {
		struct toe_ctl_msg m;
		int rc;

		toe_ctl_init(&m, TOE_CTL_DP_EVICT);
		m.app_id = m.u.app.app_id = (uint32_t)__builtin_ctzll(mask);
		LOG_WARN("application %u damaged its memory: evicted", m.app_id);
		rc = toe_ctl_send(e->keeper_fd, &m, NULL, 0);
		if (rc != 0)
			LOG_ERROR("keeper does not hear of it: %s", strerror(-rc));
	}
}

static void *link_main(void *arg)
{
	struct toe_engine *e = arg;
	struct pollfd pfd[] = {{.fd = e->keeper_fd, .events = POLLIN},
			       {.fd = e->apps->evict_fd, .events = POLLIN},
			       {.fd = keeper_link.stop_fd, .events = POLLIN}};

	for (;;) {
		if (poll(pfd, 3, -1) < 0)
			continue; /* EINTR; nothing else can be */
		if (pfd[2].revents != 0)
			return NULL;
		if (pfd[1].revents != 0)
			report_evicted(e);
		if (pfd[0].revents != 0 && !take_request(e))
			break;
	}
	LOG_ERROR("toe-keeper is gone: stopping");
	kill(getpid(), SIGTERM);
	return NULL;
}

int toe_keeper_link_start(struct toe_engine *e)
{
	sigset_t all, old;
	int rc;

	keeper_link.stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (keeper_link.stop_fd < 0)
		return -errno;
	/* Signals to the process are the main thread's; faults stay with whoever makes them. */
	sigfillset(&all);
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGFPE);
	sigdelset(&all, SIGILL);
	sigdelset(&all, SIGABRT);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = -pthread_create(&keeper_link.thread, NULL, link_main, e);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc != 0) {
		close(keeper_link.stop_fd);
		return rc;
	}
	pthread_setname_np(keeper_link.thread, "toe-link");
	keeper_link.running = true;
	return 0;
}

void toe_keeper_link_stop(struct toe_engine *e)
{
	const uint64_t one = 1;

	(void)e;
	if (!keeper_link.running)
		return;
	TOE_CHECK(write(keeper_link.stop_fd, &one, sizeof(one)) == sizeof(one));
	pthread_join(keeper_link.thread, NULL);
	close(keeper_link.stop_fd);
	keeper_link.running = false;
}
