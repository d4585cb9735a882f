/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libuv around struct cp.  One thread.  Each turn: callbacks of sockets, then (check) a bounded
 * batch of events from the datapath, then (prepare) timers, the commands of the turn as one batch,
 * and the announcement of sleep: up_asleep = 1, fence, look at the ring once more.
 */
#include "loop.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include <uv.h>

#include "cmdq.h"
#include "common/closer.h"
#include "common/cpq_ring.h"
#include "common/ctl_sock.h"
#include "common/log.h"
#include "cp.h"
#include "netlink.h"
#include "query.h"
#include "sockio.h"

#define EVENTS_MAX      256u /* per turn */
#define KEEPER_MSGS_MAX 64u  /* per turn */
#define RETRY_MS        1u   /* command ring full: nobody tells us when it is not */

/* A message the keeper's socket had no room for. */
struct out {
	struct out *next;
	struct toe_ctl_msg m;
};

static struct {
	uv_loop_t uv;
	uv_poll_t keeper;
	uv_poll_t kick;
	uv_poll_t netlink;
	uv_prepare_t prepare;
	uv_check_t check;
	uv_idle_t idle; /* active: poll without blocking */
	uv_timer_t timer;
	uv_signal_t term;
	struct cp cp;
	struct cp_cmdq q;
	struct toe_cpq_ring up;
	struct toe_cpq_hdr *cpq;
	struct cp_nl *nl;
	int keeper_fd;
	int kick_fd;
	int tap_ifindex;
	struct out *out_head;
	struct out **out_tail;
} g;

static void set_time(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	cp_set_time(&g.cp, (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000);
}

/* ---- struct cp_io ---- */
static void io_cmd(void *ctx, const struct toe_cpq_entry *e, const void *data)
{
	(void)ctx;
	cp_cmdq_put(&g.q, e, data);
}

static bool io_cmd_durable(void *ctx)
{
	(void)ctx;
	return !g.q.waiting;
}

static void on_keeper(uv_poll_t *h, int status, int events);

static void watch_keeper(void)
{
	uv_poll_start(&g.keeper, UV_READABLE | (g.out_head ? UV_WRITABLE : 0), on_keeper);
}

static void io_keeper(void *ctx, struct toe_ctl_msg *m)
{
	struct out *o;
	int err;

	(void)ctx;
	m->nfds = 0;
	err = g.out_head ? -EAGAIN : toe_ctl_send(g.keeper_fd, m, NULL, 0);
	if (err != -EAGAIN)
		return; /* -EPIPE: the read side will see it */
	o = calloc(1, sizeof(*o));
	TOE_CHECK(o);
	o->m = *m;
	*g.out_tail = o;
	g.out_tail = &o->next;
	watch_keeper();
}

static int io_route(void *ctx, const struct cp_addr *dst, struct cp_route *r)
{
	(void)ctx;
	return g.nl ? cp_nl_route(g.nl, dst, g.cp.now_ms, r) : -ENETUNREACH;
}

static int io_neigh(void *ctx, const struct cp_addr *ip, uint8_t mac[6])
{
	(void)ctx;
	return g.nl ? cp_nl_neigh(g.nl, ip, g.cp.now_ms, mac) : -ENETUNREACH;
}

static int io_bind(void *ctx, int fd, const struct cp_addr *addr, uint16_t *port)
{
	(void)ctx;
	return cp_sock_bind(fd, addr, g.tap_ifindex, port);
}

static uint8_t *io_map(void *ctx, int fd, uint64_t bytes)
{
	(void)ctx;
	return cp_region_map(fd, bytes);
}

static void io_unmap(void *ctx, uint8_t *p, uint64_t bytes)
{
	(void)ctx;
	cp_region_unmap(p, bytes);
}

static void neigh_changed(void *ctx, const struct cp_addr *ip, const uint8_t *mac)
{
	(void)ctx;
	cp_neigh_changed(&g.cp, ip, mac);
}

/* ---- callbacks ---- */
static void send_waiting(void)
{
	while (g.out_head && toe_ctl_send(g.keeper_fd, &g.out_head->m, NULL, 0) != -EAGAIN) {
		struct out *o = g.out_head;

		g.out_head = o->next;
		if (!g.out_head)
			g.out_tail = &g.out_head;
		free(o);
	}
	if (!g.out_head)
		watch_keeper();
}

static void on_keeper(uv_poll_t *h, int status, int events)
{
	int fds[TOE_CTL_FDS_MAX];
	struct toe_ctl_msg m;
	unsigned nfds;

	(void)h;
	set_time();
	if (events & UV_WRITABLE)
		send_waiting();
	if (status == 0 && !(events & UV_READABLE))
		return;
	for (unsigned i = 0; i < KEEPER_MSGS_MAX; i++) {
		int err = toe_ctl_recv(g.keeper_fd, &m, fds, TOE_CTL_FDS_MAX, &nfds);

		if (err == -EAGAIN)
			return;
		if (err) {
			LOG_WARN("the keeper is gone (%s): ending", strerror(-err));
			uv_stop(&g.uv);
			return;
		}
		cp_keeper_msg(&g.cp, &m, fds, nfds);
		for (unsigned k = 0; k < nfds; k++)
			toe_close_later(fds[k]); /* an application's socket: may linger */
	}
}

/* Bytes only wake us; the ring is looked at every turn. */
static void on_kick(uv_poll_t *h, int status, int events)
{
	char buf[256];
	ssize_t n;

	(void)events;
	do
		n = recv(g.kick_fd, buf, sizeof(buf), MSG_DONTWAIT);
	while (n == (ssize_t)sizeof(buf));
	if (status < 0 || n == 0) {
		LOG_WARN("the datapath closed its kick socket");
		uv_poll_stop(h);
	}
}

static void on_netlink(uv_poll_t *h, int status, int events)
{
	(void)h;
	(void)status;
	(void)events;
	set_time();
	cp_nl_read(g.nl);
}

static void on_timer(uv_timer_t *h)
{
	(void)h;
}

static void on_idle(uv_idle_t *h)
{
	(void)h;
}

static void on_term(uv_signal_t *h, int sig)
{
	(void)h;
	LOG_INFO("signal %d: ending", sig);
	uv_stop(&g.uv);
}

static void on_check(uv_check_t *h)
{
	struct toe_cpq_entry *e;

	(void)h;
	__atomic_store_n(&g.cpq->up_asleep, 0, __ATOMIC_RELAXED);
	set_time();
	for (unsigned i = 0; i < EVENTS_MAX && (e = toe_cpq_peek(&g.up)); i++) {
		/* our own invariant, but a wild length must not be read */
		if (e->len <= toe_cpq_data_max(&g.up))
			cp_event(&g.cp, e);
		toe_cpq_consume(&g.up);
	}
}

static void on_prepare(uv_prepare_t *h)
{
	uint64_t next;

	(void)h;
	set_time();
	next = cp_timers_run(&g.cp);
	if (!cp_cmdq_flush(&g.q))
		next = g.cp.now_ms + RETRY_MS;
	else
		cp_listen_durable(&g.cp);
	if (next == CP_NEVER) {
		uv_timer_stop(&g.timer);
	} else {
		uv_update_time(&g.uv);
		uv_timer_start(&g.timer, on_timer, next > g.cp.now_ms ? next - g.cp.now_ms : 0, 0);
	}
	__atomic_store_n(&g.cpq->up_asleep, 1, __ATOMIC_RELAXED);
	/* Dekker with the ctrl stage: it publishes, fences, reads up_asleep */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (toe_cpq_peek(&g.up))
		uv_idle_start(&g.idle, on_idle);
	else
		uv_idle_stop(&g.idle);
}

/* ---- set-up ---- */
static void take_engine(const struct toe_ctl_engine *e)
{
	g.cp.port_ipv4 = e->port_ipv4;
	g.cp.mtu = e->mtu ? e->mtu : (uint16_t)g.cp.cfg->mtu;
	memcpy(g.cp.port_mac, e->port_mac, 6);
	g.tap_ifindex = e->tap_ifindex;
	cp_addrs_take(&g.cp, e);
}

static int open_netlink(int ifindex)
{
	int err;

	if (ifindex <= 0) {
		LOG_WARN("no TAP: connect() is not offloaded, answers go where SYNs came from");
		return 0;
	}
	err = cp_nl_open(&g.nl, ifindex, neigh_changed, NULL);
	if (err)
		LOG_ERROR("netlink: %s", strerror(-err));
	return err;
}

static int watch(const struct cp_start *s)
{
	int flags = fcntl(s->keeper_fd, F_GETFL);

	g.out_tail = &g.out_head;
	if (fcntl(s->keeper_fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	uv_poll_init(&g.uv, &g.keeper, s->keeper_fd);
	uv_poll_init(&g.uv, &g.kick, s->kick_fd);
	uv_poll_start(&g.kick, UV_READABLE, on_kick);
	watch_keeper();
	if (g.nl) {
		uv_poll_init(&g.uv, &g.netlink, cp_nl_fd(g.nl));
		uv_poll_start(&g.netlink, UV_READABLE, on_netlink);
	}
	uv_prepare_init(&g.uv, &g.prepare);
	uv_prepare_start(&g.prepare, on_prepare);
	uv_check_init(&g.uv, &g.check);
	uv_check_start(&g.check, on_check);
	uv_idle_init(&g.uv, &g.idle);
	uv_timer_init(&g.uv, &g.timer);
	uv_signal_init(&g.uv, &g.term);
	uv_signal_start(&g.term, on_term, SIGTERM);
	return 0;
}

static int start(const struct cp_start *s)
{
	char path[128];
	int err;

	g.cp.cfg = s->cfg;
	g.cp.io = (struct cp_io){
		.cmd = io_cmd,
		.cmd_durable = io_cmd_durable,
		.keeper = io_keeper,
		.route = io_route,
		.neigh = io_neigh,
		.bind = io_bind,
		.map = io_map,
		.unmap = io_unmap,
	};
	g.cpq = s->cpq;
	g.up = toe_cpq_up(s->cpq);
	g.keeper_fd = s->keeper_fd;
	g.kick_fd = s->kick_fd;
	g.cp.prog = (const void *)((const uint8_t *)s->cpq + s->cpq->off_prog);
	g.cp.stat = (const void *)((const uint8_t *)s->cpq + s->cpq->off_stat);
	cp_cmdq_init(&g.q, s->cpq, s->kick_fd, &s->state->counters[CP_CNT_cmd_frames_dropped]);
	take_engine(&s->msg.u.engine);
	set_time();
	err = uv_loop_init(&g.uv);
	if (!err)
		err = open_netlink(s->msg.u.engine.tap_ifindex);
	if (!err)
		err = watch(s);
	if (!err)
		err = cp_init(&g.cp, s->state);
	if (!err && g.nl)
		err = cp_nl_sync(g.nl);
	if (err)
		return err;
	cp_engine_changed(&g.cp, s->msg.u.engine.epoch, s->msg.u.engine.up);
	err = cp_query_open(&g.cp, &g.uv,
			    toe_config_path(s->cfg, TOE_CONTROL_SOCKET, path, sizeof(path)));
	return err ? err : cp_region_guard();
}

int cp_loop_run(const struct cp_start *s)
{
	struct toe_ctl_msg reply = s->msg;
	int err = start(s);

	reply.status = err;
	toe_ctl_send(s->keeper_fd, &reply, NULL, 0);
	if (err)
		return err;
	uv_run(&g.uv, UV_RUN_DEFAULT);
	cp_fini(&g.cp);
	cp_nl_close(g.nl);
	return 0;
}
