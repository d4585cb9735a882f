// SPDX-License-Identifier: BSD-3-Clause
/*
 * socket, bind, shutdown, names; a slot's beginning and end in this process.
 *
 * In: the application's calls; out: kernel sockets that are followed until listen() or connect()
 * (listen.c, connect.c), changes of line 1 of slots.  State: lt.conns.
 */
#include <netinet/in.h>
#include <string.h>

#include "common/raw_sys.h"
#include "libtoe/lt.h"

int lt_socket(int domain, int type, int protocol)
{
	int fd = LT_REAL(socket)(domain, type, protocol);
	bool tcp = (domain == AF_INET || domain == AF_INET6) &&
		   (type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) == SOCK_STREAM &&
		   (protocol == 0 || protocol == IPPROTO_TCP);

	if (fd >= 0 && (tcp || lt_fd_get(fd)))
		lt_fd_set(fd, tcp ? lt_ksock_ent() : 0);
	return fd;
}

int lt_bind(int fd, __CONST_SOCKADDR_ARG addr, socklen_t len)
{
	struct lt_sock c;

	if (!lt_sock_get(fd, &c))
		return LT_REAL(bind)(fd, addr, len);
	errno = EINVAL; /* connected sockets have a name */
	return -1;
}

/* ---- slots ---- */

void lt_slot_init(uint32_t slot, uint32_t domain, uint32_t flags, const struct lt_opts *opts)
{
	struct toe_slot *s = lt_slot(slot);
	struct lt_slot_lib *lib = lt_lib(s);

	lt_tx_init(lib);
	lib->tx_end = LT_PEEK(&s->tx_tail);
	lib->rx_told = LT_PEEK(&s->rx_head);
	lib->domain = domain;
	lib->opts = *opts;
	LT_STORE(&lib->flags, flags);
}

/* This process takes part in the connection.  Before a descriptor of it can be used. */
void lt_conn_enter(uint32_t slot, uint32_t gen)
{
	struct lt_conn *conn = &lt.conns[slot];

	conn->gen = gen;
	__atomic_add_fetch(&conn->refs, 1, __ATOMIC_RELAXED);
	LT_AND(&lt_slot(slot)->hint_pending, ~lt.ctx_bit);
	/* then the state is looked at; pairs with the engine: state, fence, ctx_mask */
	LT_OR(&lt_slot(slot)->ctx_mask, lt.ctx_bit);
}

/* The last descriptor of it in this process is about to be closed. */
void lt_conn_leave(uint32_t slot)
{
	if (LT_LOAD(&lt.attached))
		LT_AND(&lt_slot(slot)->ctx_mask, ~lt.ctx_bit);
}

int lt_conn_open(const struct lt_token *t, uint32_t slot, bool cloexec)
{
	uint32_t gen = LT_LOAD(&lt_slot(slot)->info_gen);

	lt_token_bind(t, slot);
	lt_conn_enter(slot, gen);
	if (!cloexec)
		LT_REAL(fcntl)(t->fd, F_SETFD, 0);
	lt_follow_forget(t->fd, true); /* one that was closed behind our back */
	if (!lt_fd_set(t->fd, lt_ent_make(LT_CONN, slot, gen))) {
		/* a descriptor beyond the table: the limit was raised after the start */
		lt_ent_unref(lt_ent_make(LT_CONN, slot, gen));
		raw_close(t->fd);
		return -EMFILE;
	}
	return t->fd;
}

/* ---- names ---- */

int lt_getsockname(int fd, __SOCKADDR_ARG addr, socklen_t *restrict len)
{
	struct lt_sock c;
	int rc;

	if (!lt_sock_get(fd, &c))
		return LT_REAL(getsockname)(fd, addr, len);
	rc = lt_show_addr(&c, false, addr.__sockaddr__, len);
	if (rc < 0)
		errno = -rc;
	return rc < 0 ? -1 : 0;
}

/* As Linux: in CLOSE and SYN-SENT there is no peer. */
static bool has_peer(const struct lt_state *st)
{
	const uint32_t over = TOE_SLOT_RX_FIN | TOE_SLOT_TX_DONE;

	return (st->bits & TOE_SLOT_ESTABLISHED) && !(st->bits & TOE_SLOT_ERROR) &&
	       (st->bits & over) != over;
}

int lt_getpeername(int fd, __SOCKADDR_ARG addr, socklen_t *restrict len)
{
	struct lt_state st;
	struct lt_sock c;
	int rc = -ENOTCONN;

	if (!lt_sock_get(fd, &c))
		return LT_REAL(getpeername)(fd, addr, len);
	st = lt_state(&c);
	if (has_peer(&st))
		rc = lt_show_addr(&c, true, addr.__sockaddr__, len);
	if (rc < 0)
		errno = -rc;
	return rc < 0 ? -1 : 0;
}

/* ---- shutdown ---- */

static void shut_write(struct lt_sock *c)
{
	bool owner = lt_tx_lock(c);

	LT_OR(&c->lib->flags, LT_F_SHUT_WR);
	lt_tx_unlock(c, owner);
}

static void shut_read(struct lt_sock *c)
{
	struct lt_state st = lt_state(c);

	/* What is there stays readable; from now on the engine throws away. */
	if (!(LT_PEEK(&c->s->ctl) & TOE_CTL_SHUT_RD)) {
		LT_STORE(&c->lib->rx_limit, st.rx_tail);
		LT_OR(&c->s->ctl, TOE_CTL_SHUT_RD);
		lt_doorbell(c->slot);
	}
}

static void mark_changed(uint32_t slot)
{
	if (lt_lock(LT_L_CTX)) {
		lt_epoll_mark(lt.conns[slot].watch);
		lt_unlock(LT_L_CTX);
	}
	lt_wake_local();
}

static int shutdown_listener(int fd, int how)
{
	lt_ent e = lt_fd_get(fd);
	int rc = LT_REAL(shutdown)(fd, how);

	if (rc == 0 && how != SHUT_WR && lt_fd_take(fd) == e) {
		lt_ent now = lt_ksock_ent(); /* it may listen again */

		lt_fd_set(fd, now);
		lt_epoll_convert(fd, e, now);
		lt_ent_unref(e);
	}
	return rc;
}

int lt_shutdown(int fd, int how)
{
	struct lt_state st;
	struct lt_sock c;

	if (lt_ent_kind(lt_fd_get(fd)) == LT_LISTENER)
		return shutdown_listener(fd, how);
	if (!lt_sock_get(fd, &c))
		return LT_REAL(shutdown)(fd, how);
	lt_ready();
	st = lt_state(&c);
	if (how != SHUT_RD && how != SHUT_WR && how != SHUT_RDWR) {
		errno = EINVAL;
		return -1;
	}
	if (!has_peer(&st)) {
		errno = ENOTCONN;
		return -1;
	}
	if (how != SHUT_WR)
		shut_read(&c);
	if (how != SHUT_RD)
		shut_write(&c);
	mark_changed(c.slot);
	return 0;
}
