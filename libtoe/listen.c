// SPDX-License-Identifier: BSD-3-Clause
/*
 * listen and accept.
 *
 * In: kernel sockets that begin to listen; out: LISTEN and UNLISTEN to the keeper, connections from
 * the accept ring and from the kernel's own queue through one descriptor.  The kernel socket really
 * listens, so clients on loopback or other networks are served too; its O_NONBLOCK is always set
 * and the application's wish is kept in the listener's shared record, so that looking into both
 * queues never blocks in one of them.  State: lt.lsocks.
 */
#include <linux/filter.h>
#include <netinet/in.h>
#include <string.h>
#include <time.h>

#include "common/ctl_sock.h"
#include "common/log.h"
#include "libtoe/lt.h"

#define LISTENER_SET 0x100u /* in lib.flags: initialised by one of the processes */
#define KERNEL_TURN  8u     /* one in so many accepts asks the kernel first */
#define OPEN_MS      500u   /* listen() waits so long at most for the data path */
#define OPEN_LOOK_US 100

/* ---- listen ---- */

/* False: not an address the engine can serve. */
static bool listen_request(int fd, int backlog, struct toe_ctl_listen *req, int *domain)
{
	struct sockaddr_storage ss = {0};
	socklen_t len = sizeof(ss);
	int v6only = 0;
	socklen_t v6_len = sizeof(v6only);

	memset(req, 0, sizeof(*req));
	if (LT_REAL(getsockname)(fd, (struct sockaddr *)&ss, &len) < 0)
		return false;
	*domain = ss.ss_family;
	/* Linux: negative and 0 are allowed, SOMAXCONN caps */
	req->backlog = backlog < 0 || backlog > SOMAXCONN ? SOMAXCONN : (uint32_t)backlog;
	if (ss.ss_family == AF_INET6)
		LT_REAL(getsockopt)(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, &v6_len);
	return lt_addr_listen(&ss, v6only, req) && !lt_other_device(fd);
}

/* Options and O_NONBLOCK of the kernel socket become the record's, once. */
static void init_record(int fd, uint32_t index, const struct lt_opts *opts)
{
	struct lt_listener_lib *lib = lt_llib(lt_listener(index));
	int fl = LT_REAL(fcntl)(fd, F_GETFL);

	if (!(LT_PEEK(&lib->flags) & LISTENER_SET)) {
		lib->opts = *opts;
		LT_OR(&lib->flags, LISTENER_SET | (fl & O_NONBLOCK ? LT_F_NONBLOCK : 0));
	}
	LT_REAL(fcntl)(fd, F_SETFL, fl | O_NONBLOCK);
}

static void enter(uint32_t index)
{
	struct toe_listener *l = lt_listener(index);

	LT_AND(&l->hint_pending, ~lt.ctx_bit);
	LT_OR(&l->ctx_mask, lt.ctx_bit);
}

static int ask(struct toe_ctl_msg *m, const struct toe_ctl_listen *req)
{
	int rc;

	toe_ctl_init(m, TOE_CTL_LISTEN);
	m->u.listen = *req;
	rc = lt_call(m, NULL, 0);
	return rc == 0 && m->u.listen.listener >= lt.g.listener_n ? -EPROTO : rc;
}

/* Every descriptor of this kernel socket becomes one of the listener. */
static void convert(lt_ent from, uint32_t index)
{
	lt_ent to = lt_ent_make(LT_LISTENER, index, 0);

	for (uint32_t fd = 0; fd < LT_PEEK(&lt_fds.used); fd++) {
		if (lt_fd_get((int)fd) != from)
			continue;
		lt_ent_ref(to);
		lt_fd_set((int)fd, to);
		lt_epoll_convert((int)fd, from, to);
	}
}

int lt_listen_offload(int fd, int backlog)
{
	lt_ent e = lt_fd_get(fd);
	struct toe_ctl_listen req = {0};
	struct toe_ctl_msg m;
	struct lt_opts opts;
	int domain = 0;
	int rc;

	if (!lt_ready() || !listen_request(fd, backlog, &req, &domain)) {
		lt_count_unsupported(TOE_UNSUP_LISTEN_ADDRESS, req.family, req.port);
		return 0;
	}
	lt_opts_of_kernel(fd, &opts);
	req.defaults = lt_opts_ctl(&opts, req.family);
	rc = ask(&m, &req);
	if (rc == -EADDRINUSE || rc == -EACCES || rc == -EPERM)
		return rc;
	if (rc < 0) {
		if (rc != -EXDEV)
			LOG_WARN("listener on port %u stays in the kernel: %s", req.port,
				 strerror(-rc));
		lt_count_unsupported(rc == -EXDEV ? TOE_UNSUP_LISTEN_ADDRESS
						  : TOE_UNSUP_LISTEN_REFUSED,
				     req.family, req.port);
		return 0;
	}
	lt.lsocks[m.u.listen.listener].req = req;
	lt.lsocks[m.u.listen.listener].domain = domain;
	init_record(fd, m.u.listen.listener, &opts);
	enter(m.u.listen.listener);
	if (lt_ent_kind(e) == LT_KSOCK)
		convert(e, m.u.listen.listener);
	lt_kconn_start();
	return 0;
}

/* In a child: it counts as a user of the listener from now on. */
void lt_listen_again(uint32_t index)
{
	struct toe_ctl_msg m;
	int rc = ask(&m, &lt.lsocks[index].req);

	if (rc < 0)
		LOG_WARN("listener on port %u is lost to this process: %s",
			 lt.lsocks[index].req.port, strerror(-rc));
	else
		enter(index);
}

/* The record opens when the data path has the port: until then it leaves SYNs to the kernel.  A
 * data path that takes longer than OPEN_MS is busy with worse. */
static void await_open(int fd)
{
	const struct timespec pause = {.tv_nsec = OPEN_LOOK_US * 1000};
	lt_ent e = lt_fd_get(fd);

	if (lt_ent_kind(e) != LT_LISTENER)
		return;
	for (unsigned us = 0; us < OPEN_MS * 1000u; us += OPEN_LOOK_US) {
		if (LT_LOAD(&lt_listener(lt_ent_index(e))->state) & TOE_LISTENER_OPEN)
			return;
		nanosleep(&pause, NULL);
	}
}

/* A connection that begins in the kernel before the engine has the port is lost: its segments go to
 * the engine from then on, and the program keeps what will never say anything.  So nobody gets in
 * meanwhile; a SYN is repeated.  False: it is not that way, or the program has a filter itself. */
static bool shut_ears(int fd, int backlog)
{
	struct sock_filter nothing = BPF_STMT(BPF_RET | BPF_K, 0);
	const struct sock_fprog prog = {.len = 1, .filter = &nothing};
	struct toe_ctl_listen req;
	int domain;
	socklen_t n = 0; /* instructions of its own */

	return LT_LOAD(&lt.attached) && listen_request(fd, backlog, &req, &domain) &&
	       LT_REAL(getsockopt)(fd, SOL_SOCKET, SO_GET_FILTER, NULL, &n) == 0 && n == 0 &&
	       LT_REAL(setsockopt)(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)) == 0;
}

static void open_ears(int fd)
{
	const int none = 0;

	LT_REAL(setsockopt)(fd, SOL_SOCKET, SO_DETACH_FILTER, &none, sizeof(none));
}

int lt_listen(int fd, int backlog)
{
	enum lt_kind kind = lt_ent_kind(lt_fd_get(fd));
	bool shut = false;
	int rc;

	if (kind == LT_CONN) {
		errno = EINVAL;
		return -1;
	}
	if (kind == LT_KSOCK && !lt_foreign()) {
		lt_broker_listens();
		shut = shut_ears(fd, backlog);
	}
	if (LT_REAL(listen)(fd, backlog) < 0) {
		rc = errno;
		if (shut)
			open_ears(fd);
		errno = rc;
		return -1;
	}
	if ((kind != LT_KSOCK && kind != LT_LISTENER) || lt_foreign())
		return 0;
	rc = lt_listen_offload(fd, backlog);
	if (shut) {
		await_open(fd);
		open_ears(fd);
	}
	if (rc == 0)
		return 0;
	LT_REAL(shutdown)(fd, SHUT_RD); /* does not listen, as after a listen() that failed */
	errno = -rc;
	return -1;
}

void lt_listener_leave(uint32_t index)
{
	struct toe_ctl_msg m;
	int saved = errno;

	if (!LT_LOAD(&lt.attached) || LT_PEEK(&lt.gone))
		return;
	LT_AND(&lt_listener(index)->ctx_mask, ~lt.ctx_bit);
	toe_ctl_init(&m, TOE_CTL_UNLISTEN);
	m.u.listen.listener = index;
	lt_call(&m, NULL, 0);
	errno = saved;
}

/* ---- accept ---- */

/* TOE_NONE: nothing is waiting. */
static uint32_t pop(uint32_t index, const struct lt_token *t)
{
	struct toe_listener *l = lt_listener(index);
	const uint32_t *ring = (const uint32_t *)(l + 1);
	uint32_t cons = LT_LOAD(&l->cons);
	uint32_t slot;

	do {
		/* before it is open, prod is about an earlier listener */
		if (lt_gone() || !(LT_LOAD(&l->state) & TOE_LISTENER_OPEN) ||
		    LT_LOAD(&l->prod) == cons) {
			lt_token_taking(t, TOE_NONE);
			return TOE_NONE;
		}
		slot = LT_PEEK(&ring[cons & (lt.g.backlog_n - 1)]);
		lt_token_taking(t, slot);
	} while (!__atomic_compare_exchange_n(&l->cons, &cons, cons + 1, false, __ATOMIC_ACQ_REL,
					      __ATOMIC_ACQUIRE));
	return slot;
}

/* A token first: without one the connection stays in the ring. */
static int accept_ring(uint32_t index, int flags, struct lt_sock *c)
{
	struct lt_listener_lib *lib = lt_llib(lt_listener(index));
	struct lt_token t;
	uint32_t slot;
	int rc;

	if (!lt_ready() || !(lt_listener_events(index) & EPOLLIN))
		return -EAGAIN;
	rc = lt_token_take(&t);
	if (rc < 0)
		return rc;
	slot = pop(index, &t);
	if (slot >= lt.g.slot_n) {
		lt_token_taking(&t, TOE_NONE);
		lt_token_put(&t);
		return -EAGAIN;
	}
	lt_slot_init(slot, (uint32_t)lt.lsocks[index].domain,
		     LT_F_CONNECTED | (flags & SOCK_NONBLOCK ? LT_F_NONBLOCK : 0), &lib->opts);
	rc = lt_conn_open(&t, slot, flags & SOCK_CLOEXEC);
	if (rc < 0)
		return rc;
	lt_follow_came(rc);
	lt_sock_of(rc, lt_ent_make(LT_CONN, slot, lt.conns[slot].gen), c);
	c->lib->opts.priority = 0; /* the one thing Linux does not inherit */
	lt_opts_apply(c);
	return rc;
}

static int accept_kernel(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	int n = LT_REAL(accept4)(fd, addr, len, flags);

	if (n < 0)
		return -errno;
	if (lt_fd_get(n))
		lt_fd_set(n, 0);
	return lt_kconn_accepted(n);
}

/* A process that never sleeps does not drain its hints: not beyond half of the ring. */
static void drain_sometimes(void)
{
	if (!lt.ctx || LT_PEEK(&lt.ctx->hint_prod) - LT_PEEK(&lt.hint_cons) < lt.g.hint_n / 2 ||
	    !lt_lock(LT_L_CTX))
		return;
	lt_hints_drain();
	lt_unlock(LT_L_CTX);
}

static int accept_once(int fd, uint32_t index, struct sockaddr *addr, socklen_t *len, int flags)
{
	bool kernel_first = ++lt.lsocks[index].turn % KERNEL_TURN == 0;
	struct lt_sock c;
	int rc = -EAGAIN;

	if (kernel_first)
		rc = accept_kernel(fd, addr, len, flags);
	if (rc != -EAGAIN)
		return rc;
	rc = accept_ring(index, flags, &c);
	if (rc >= 0) {
		drain_sometimes();
		if (addr && len)
			lt_show_addr(&c, true, addr, len);
		return rc;
	}
	if (rc != -EAGAIN || kernel_first)
		return rc;
	return accept_kernel(fd, addr, len, flags);
}

static int wait_acceptable(int fd, uint32_t index, int64_t deadline)
{
	struct pollfd p[2] = {{.fd = fd, .events = POLLIN}};
	int rc = 0;

	lt_arm();
	if (!lt_listener_events(index) && lt_ent_kind(lt_fd_get(fd)) == LT_LISTENER)
		rc = lt_sleep(p, 1, deadline, NULL);
	lt_disarm();
	if (rc < 0)
		return errno == EINTR && deadline < 0 && lt_restart() ? 0 : -errno;
	if (lt_ent_kind(lt_fd_get(fd)) == LT_KSOCK)
		return -EINVAL; /* shutdown() made it stop listening */
	if (lt_ent_kind(lt_fd_get(fd)) != LT_LISTENER)
		return -EBADF;
	return lt_expired(deadline) ? -EAGAIN : 0;
}

static int accept_any(int fd, uint32_t index, struct sockaddr *addr, socklen_t *len, int flags)
{
	const struct lt_listener_lib *lib = lt_llib(lt_listener(index));
	int64_t deadline = 0;
	bool have_deadline = false;

	for (;;) {
		int rc = accept_once(fd, index, addr, len, flags);

		if (rc != -EAGAIN || (LT_PEEK(&lib->flags) & LT_F_NONBLOCK))
			return rc;
		if (!have_deadline) {
			deadline = lt_deadline_us(lib->opts.rcv_timeo_us);
			have_deadline = true;
		}
		rc = wait_acceptable(fd, index, deadline);
		if (rc < 0)
			return rc;
	}
}

int lt_accept4(int fd, __SOCKADDR_ARG addr, socklen_t *restrict len, int flags)
{
	lt_ent e = lt_fd_get(fd);
	int saved = errno;
	int rc;

	if (lt_ent_kind(e) == LT_CONN) {
		errno = EINVAL;
		return -1;
	}
	if (lt_ent_kind(e) != LT_LISTENER || (flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC))) {
		rc = accept_kernel(fd, addr.__sockaddr__, len, flags);
	} else {
		rc = accept_any(fd, lt_ent_index(e), addr.__sockaddr__, len, flags);
	}
	errno = rc < 0 ? -rc : saved;
	return rc < 0 ? -1 : rc;
}

int lt_accept(int fd, __SOCKADDR_ARG addr, socklen_t *restrict len)
{
	return lt_accept4(fd, addr, len, 0);
}
