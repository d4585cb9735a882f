// SPDX-License-Identifier: BSD-3-Clause
/*
 * connect: a kernel socket becomes a connection of the engine, or stays one of the kernel's.
 *
 * In: connect() on a followed kernel socket; out: CONNECT to the keeper with that socket (it holds
 * the local port), a token on the same descriptor number and on those of its dups.  The answer
 * comes at once; the outcome is level state of the slot.  No state of its own.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#include "common/ctl_sock.h"
#include "common/raw_sys.h"
#include "libtoe/lt.h"

static int kernel_int(int fd, int level, int name)
{
	int v = 0;
	socklen_t len = sizeof(v);

	LT_REAL(getsockopt)(fd, level, name, &v, &len);
	return v;
}

/* False if the kernel has to deal with it. */
static bool destination(int fd, int domain, const struct sockaddr *addr, socklen_t len,
			struct toe_ctl_conn *conn)
{
	if (!lt_addr_destination(domain, addr, len, conn) || lt_other_device(fd))
		return false;
	/* IPv4 by an AF_INET6 socket */
	return domain == conn->family || !kernel_int(fd, IPPROTO_IPV6, IPV6_V6ONLY);
}

/* Puts the token on every number of the kernel socket from. */
static int swap(lt_ent from, lt_ent to, int token_fd)
{
	int err = 0;

	for (uint32_t fd = 0; fd < LT_PEEK(&lt_fds.used); fd++) {
		int cloexec;

		if (lt_fd_get((int)fd) != from)
			continue;
		lt_kconn_closing((int)fd); /* an earlier attempt was the kernel's */
		cloexec = LT_REAL(fcntl)((int)fd, F_GETFD);
		lt_epoll_convert((int)fd, from, to); /* leaves kernel sets while it is in them */
		if (cloexec < 0 ||
		    LT_REAL(dup3)(token_fd, (int)fd, cloexec & FD_CLOEXEC ? O_CLOEXEC : 0) < 0) {
			err = -errno;
			continue;
		}
		lt_ent_ref(to);
		lt_fd_set((int)fd, to);
	}
	return err;
}

/* -EXDEV: the kernel's.  0: *e is the connection the descriptor stands for now. */
static int offload(int fd, lt_ent from, int domain, struct toe_ctl_conn *conn, lt_ent *e)
{
	int fl = LT_REAL(fcntl)(fd, F_GETFL);
	uint32_t flags = LT_F_ACTIVE | (fl & O_NONBLOCK ? LT_F_NONBLOCK : 0);
	struct lt_opts opts;
	struct toe_ctl_msg m;
	struct lt_token t;
	int rc = lt_token_take(&t);

	if (rc < 0)
		return rc;
	lt_opts_of_kernel(fd, &opts);
	conn->ctl = lt_opts_ctl(&opts, conn->family);
	conn->token = t.id;
	toe_ctl_init(&m, TOE_CTL_CONNECT);
	m.u.conn = *conn;
	rc = lt_call(&m, &fd, 1);
	if (rc == 0 && m.u.conn.slot >= lt.g.slot_n)
		rc = -EPROTO;
	if (rc == -ETIMEDOUT)
		raw_close(t.fd); /* whatever comes of it goes with the token */
	else if (rc < 0)
		lt_token_put(&t);
	if (rc < 0)
		return rc;
	lt_slot_init(m.u.conn.slot, (uint32_t)domain, flags, &opts);
	lt_token_bind(&t, m.u.conn.slot);
	lt_conn_enter(m.u.conn.slot, m.u.conn.gen);
	*e = lt_ent_make(LT_CONN, m.u.conn.slot, m.u.conn.gen);
	rc = swap(from, *e, t.fd);
	lt_ent_unref(*e); /* the token's own number goes away */
	raw_close(t.fd);
	lt_follow_connecting(fd, m.u.conn.slot + 1, conn->remote_port);
	return rc;
}

/* ---- outcome ---- */

static int outcome(struct lt_sock *c)
{
	struct lt_state st = lt_state(c);

	if (st.bits & TOE_SLOT_ERROR) {
		int error = lt_error_take(c, &st);

		if (LT_PEEK(&c->lib->flags) & LT_F_CONNECTED)
			return -EISCONN; /* as Linux, even after a reset */
		return -(error ? error : ECONNABORTED);
	}
	if (!(st.bits & TOE_SLOT_ESTABLISHED))
		return -EINPROGRESS;
	return LT_OR(&c->lib->flags, LT_F_CONNECTED) & LT_F_CONNECTED ? -EISCONN : 0;
}

int lt_wait_connected(struct lt_sock *c)
{
	int64_t deadline = lt_deadline_us(c->lib->opts.snd_timeo_us);
	struct pollfd p[1];

	for (;;) {
		int rc = 0;

		lt_arm();
		if (lt_sock_same(c) && !lt_conn_events(c))
			rc = lt_sleep(p, 0, deadline, NULL);
		lt_disarm();
		if (rc < 0 && !(errno == EINTR && deadline < 0 && lt_restart()))
			return -errno;
		if (!lt_sock_same(c))
			return -EBADF;
		if (lt_conn_events(c))
			return outcome(c);
		if (lt_expired(deadline))
			return -EINPROGRESS;
	}
}

/* connect() that has failed leaves a socket on which Linux allows another try. */
static bool fresh_socket(struct lt_sock *c)
{
	uint32_t flags = LT_PEEK(&c->lib->flags);
	int type = SOCK_STREAM | (flags & LT_F_NONBLOCK ? SOCK_NONBLOCK : 0);
	int cloexec = LT_REAL(fcntl)(c->fd, F_GETFD);
	int fd = LT_REAL(socket)((int)c->lib->domain, type | SOCK_CLOEXEC, 0);
	lt_ent e = lt_ksock_ent();
	int rc;

	if (fd < 0)
		return false;
	lt_follow_forget(c->fd, true);
	rc = LT_REAL(dup3)(fd, c->fd, cloexec & FD_CLOEXEC ? O_CLOEXEC : 0);
	raw_close(fd);
	if (rc < 0)
		return false;
	if (lt_fd_take(c->fd) == c->ent)
		lt_ent_unref(c->ent);
	lt_fd_set(c->fd, e);
	lt_epoll_convert(c->fd, c->ent, e);
	return true;
}

/* Once connect() has reported a failure Linux's socket is as new. */
static int reported(struct lt_sock *c, int rc)
{
	struct lt_state st = lt_state(c);

	if (rc < 0 && (st.bits & TOE_SLOT_ERROR) && !(st.bits & TOE_SLOT_ESTABLISHED) &&
	    !lt_gone() && lt_sock_same(c))
		fresh_socket(c);
	return rc;
}

static int connect_conn(struct lt_sock *c)
{
	int rc = outcome(c);

	if (rc != -EINPROGRESS)
		return reported(c, rc);
	return lt_nonblock(c, 0) ? -EALREADY : reported(c, lt_wait_connected(c));
}

static bool can_try_again(const struct lt_sock *c)
{
	struct lt_state st = lt_state(c);

	return (st.bits & TOE_SLOT_ERROR) && !(st.bits & TOE_SLOT_ESTABLISHED) && !lt_gone() &&
	       (LT_PEEK(&c->lib->flags) & LT_F_ERR_TAKEN);
}

/* It has a connection of the kernel's, or is on the way to one. */
static bool kernels_already(int fd)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	return LT_REAL(getsockopt)(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0 ||
	       info.tcpi_state != TCP_CLOSE;
}

/* 0: none that we know. */
static uint16_t port_of(const struct sockaddr *addr, socklen_t len)
{
	if (addr && len >= sizeof(struct sockaddr_in) && addr->sa_family == AF_INET)
		return ntohs(((const struct sockaddr_in *)(const void *)addr)->sin_port);
	if (addr && len >= sizeof(struct sockaddr_in6) && addr->sa_family == AF_INET6)
		return ntohs(((const struct sockaddr_in6 *)(const void *)addr)->sin6_port);
	return 0;
}

static int connect_kernel(int fd, const struct sockaddr *addr, socklen_t len)
{
	bool tcp = lt_ent_kind(lt_fd_get(fd)) == LT_KSOCK && !lt_foreign();
	int rc = tcp ? lt_kconn_connecting(fd, port_of(addr, len)) : 0;

	if (rc < 0)
		return rc;
	rc = LT_REAL(connect)(fd, addr, len) < 0 ? -errno : 0;
	if (rc < 0 && tcp && rc != -EINPROGRESS && rc != -EALREADY && rc != -EINTR &&
	    rc != -EISCONN)
		lt_kconn_failed(fd);
	return rc;
}

/* Where destination() said no, except for addresses that are the kernel's anyway (EINVAL, UNIX). */
static void count_destination(int domain, const struct sockaddr *addr, socklen_t len,
			      const struct toe_ctl_conn *conn)
{
	if (conn->family != 0)
		lt_count_unsupported(TOE_UNSUP_CONNECT_ROUTE, conn->family, conn->remote_port);
	else if (addr && len >= sizeof(struct sockaddr_in6) && addr->sa_family == AF_INET6 &&
		 domain == AF_INET6)
		lt_count_unsupported(TOE_UNSUP_CONNECT_FAMILY, AF_INET6, 0);
}

static int do_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	struct toe_ctl_conn conn = {0};
	struct lt_sock c;
	int domain;
	lt_ent e;
	int rc;

	if (lt_sock_get(fd, &c)) {
		if (!can_try_again(&c))
			return connect_conn(&c);
		if (!fresh_socket(&c))
			return -errno;
	}
	e = lt_fd_get(fd);
	if (lt_ent_kind(e) != LT_KSOCK)
		return connect_kernel(fd, addr, len);
	domain = kernel_int(fd, SOL_SOCKET, SO_DOMAIN);
	if (!destination(fd, domain, addr, len, &conn)) {
		count_destination(domain, addr, len, &conn);
		return connect_kernel(fd, addr, len);
	}
	if (lt_foreign() || !lt_ready() || lt_gone() || kernels_already(fd))
		return connect_kernel(fd, addr, len);
	rc = offload(fd, e, domain, &conn, &e);
	if (rc == -EXDEV || rc == -EAFNOSUPPORT) {
		lt_count_unsupported(rc == -EXDEV ? TOE_UNSUP_CONNECT_ROUTE
						  : TOE_UNSUP_CONNECT_FAMILY,
				     conn.family, conn.remote_port);
		return connect_kernel(fd, addr, len);
	}
	if (rc < 0)
		return rc;
	if (!lt_sock_get(fd, &c))
		return -EBADF; /* another thread closed it */
	lt_opts_apply(&c);
	return lt_nonblock(&c, 0) ? -EINPROGRESS : reported(&c, lt_wait_connected(&c));
}

int lt_connect(int fd, __CONST_SOCKADDR_ARG addr, socklen_t len)
{
	int saved = errno;
	int rc = do_connect(fd, addr.__sockaddr__, len);

	errno = rc < 0 ? -rc : saved;
	return rc < 0 ? -1 : 0;
}
