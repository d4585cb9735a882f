// SPDX-License-Identifier: BSD-3-Clause
/*
 * Descriptors come, go and multiply: close, dup, fcntl, ioctl, fork.
 *
 * In: the application's calls; out: the table of descriptors follows, and so do the objects behind
 * it.  The kernel counts references to tokens; we only count those of this process, to know when it
 * has no more interest in hints.  A child of fork keeps the table (its descriptors are copies) but
 * nothing of the parent's context; a child of vfork shares our memory and must not touch the table.
 */
#include <linux/close_range.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>

#include "common/raw_sys.h"
#include "libtoe/lt.h"

static int bad_fd(void)
{
	errno = EBADF;
	return -1;
}

/* ---- close ---- */

/* fd is about to be closed or overwritten.  Before the kernel knows: afterwards the slot may
 * already be somebody else's. */
static void forget(int fd)
{
	lt_ent e;

	lt_kconn_closing(fd);
	lt_follow_forget(fd, true);
	e = lt_fd_take(fd);
	if (!e)
		return;
	lt_epoll_fd_closed(fd, e);
	if (lt_ent_kind(e) != LT_KSOCK)
		lt_wake_local(); /* threads that sleep in it get EBADF */
	lt_ent_unref(e);
}

int lt_close(int fd)
{
	lt_ent e = lt_fd_get(fd);

	if (LT_UNLIKELY(lt_ent_hidden(e)))
		return bad_fd();
	if ((e || lt_kconn_is(fd)) && !lt_foreign())
		forget(fd);
	return LT_REAL(close)(fd);
}

int lt_fclose(FILE *stream)
{
	int fd = fileno(stream);
	lt_ent e = lt_fd_get(fd);

	if ((e || lt_kconn_is(fd)) && !lt_ent_hidden(e) && !lt_foreign())
		forget(fd);
	return LT_REAL(fclose)(stream);
}

/* [first, last] without what is ours. */
int lt_close_range(unsigned first, unsigned last, int flags)
{
	unsigned used = LT_PEEK(&lt_fds.used);
	unsigned from = first;
	int rc = 0;

	if (first > last || (flags & CLOSE_RANGE_CLOEXEC) || lt_foreign())
		return LT_REAL(close_range)(first, last, flags);
	for (unsigned fd = first; fd <= last && fd < used; fd++) {
		lt_ent e = lt_fd_get((int)fd);

		if (lt_ent_hidden(e)) {
			if (fd > from)
				rc = LT_REAL(close_range)(from, fd - 1, flags);
			from = fd + 1;
		} else if (e || lt_kconn_is((int)fd)) {
			forget((int)fd);
		}
		if (rc < 0)
			return rc;
	}
	return from <= last ? LT_REAL(close_range)(from, last, flags) : rc;
}

void lt_closefrom(int first)
{
	unsigned from = first < 0 ? 0 : (unsigned)first;

	if (lt_close_range(from, ~0u, 0) == 0)
		return;
	/* an old kernel, or a filter */
	for (long fd = from; fd < sysconf(_SC_OPEN_MAX); fd++)
		lt_close((int)fd);
}

/* ---- dup ---- */

static int duplicated(int fd, lt_ent e, int to)
{
	if (to < 0 || lt_foreign())
		return to;
	if (e || lt_fd_get(to))
		lt_fd_dup(e, to);
	if (lt_ent_kind(e) == LT_CONN || LT_UNLIKELY(lt_kconn_is(fd)))
		lt_follow_duplicated(fd, to);
	if (LT_UNLIKELY(lt_kconn_is(fd)))
		lt_kconn_duplicated(to);
	return to;
}

int lt_dup(int fd)
{
	lt_ent e = lt_fd_get(fd);

	return lt_ent_hidden(e) ? bad_fd() : duplicated(fd, e, LT_REAL(dup)(fd));
}

/* to is free for the application's use, and what it was is forgotten. */
static int make_room(int fd, int to)
{
	if (lt_ent_hidden(lt_fd_get(fd)) || LT_REAL(fcntl)(fd, F_GETFD) < 0)
		return bad_fd();
	if ((!lt_fd_get(to) && !lt_kconn_is(to)) || lt_foreign())
		return 0;
	if (!lt_make_way(to)) {
		errno = EBUSY;
		return -1;
	}
	forget(to);
	return 0;
}

int lt_dup2(int fd, int to)
{
	if (fd == to)
		return lt_ent_hidden(lt_fd_get(fd)) ? bad_fd() : LT_REAL(dup2)(fd, to);
	if (make_room(fd, to) < 0)
		return -1;
	return duplicated(fd, lt_fd_get(fd), LT_REAL(dup2)(fd, to));
}

int lt_dup3(int fd, int to, int flags)
{
	if (fd == to || (flags & ~O_CLOEXEC))
		return LT_REAL(dup3)(fd, to, flags);
	if (make_room(fd, to) < 0)
		return -1;
	return duplicated(fd, lt_fd_get(fd), LT_REAL(dup3)(fd, to, flags));
}

/* ---- fcntl, ioctl ---- */

/* Where O_NONBLOCK of an offloaded descriptor lives; NULL: in the kernel. */
static uint32_t *flags_of(lt_ent e)
{
	uint32_t i = lt_ent_index(e);

	if (lt_ent_kind(e) == LT_CONN)
		return &lt_lib(lt_slot(i))->flags;
	if (lt_ent_kind(e) == LT_LISTENER)
		return &lt_llib(lt_listener(i))->flags;
	return NULL;
}

static int get_fl(int fd, const uint32_t *flags)
{
	int fl = LT_REAL(fcntl)(fd, F_GETFL);
	uint32_t f = LT_PEEK(flags);

	if (fl < 0)
		return fl;
	fl &= ~(O_NONBLOCK | O_ASYNC);
	return fl | (f & LT_F_NONBLOCK ? O_NONBLOCK : 0) | (f & LT_F_ASYNC ? O_ASYNC : 0);
}

static void set_flag(uint32_t *flags, uint32_t flag, bool on)
{
	if (on)
		LT_OR(flags, flag);
	else
		LT_AND(flags, ~flag);
}

int lt_fcntl(int fd, int cmd, long arg)
{
	lt_ent e = lt_fd_get(fd);
	uint32_t *flags = flags_of(e);

	if (LT_UNLIKELY(lt_ent_hidden(e)))
		return bad_fd();
	switch (cmd) {
	case F_DUPFD:
	case F_DUPFD_CLOEXEC:
		return duplicated(fd, e, LT_REAL(fcntl)(fd, cmd, arg));
	case F_GETFL:
		return flags ? get_fl(fd, flags) : LT_REAL(fcntl)(fd, cmd, arg);
	case F_SETFL:
		if (!flags)
			break;
		set_flag(flags, LT_F_NONBLOCK, arg & O_NONBLOCK);
		set_flag(flags, LT_F_ASYNC, arg & O_ASYNC);
		return 0;
	default:
		break;
	}
	return LT_REAL(fcntl)(fd, cmd, arg);
}

static int conn_ioctl(struct lt_sock *c, unsigned long request, int *value)
{
	struct lt_state st = lt_state(c);

	switch (request) {
	case FIONREAD:
		*value = (int)lt_rx_avail(c, &st, LT_LOAD(&c->s->rx_head));
		return 0;
	case SIOCOUTQ:
		*value = (int)(LT_LOAD(&c->s->tx_tail) - st.tx_head);
		return 0;
	case SIOCOUTQNSD:
	case SIOCATMARK:
		*value = 0;
		return 0;
	default:
		return LT_REAL(ioctl)(c->fd, request, value);
	}
}

int lt_ioctl(int fd, unsigned long request, void *arg)
{
	lt_ent e = lt_fd_get(fd);
	uint32_t *flags = flags_of(e);
	struct lt_sock c;

	if (LT_UNLIKELY(lt_ent_hidden(e)))
		return bad_fd();
	if (flags && (request == FIONBIO || request == FIOASYNC)) {
		set_flag(flags, request == FIONBIO ? LT_F_NONBLOCK : LT_F_ASYNC, *(int *)arg);
		return 0;
	}
	return lt_sock_get(fd, &c) ? conn_ioctl(&c, request, arg)
				   : LT_REAL(ioctl)(fd, request, arg);
}

/* ---- fork ---- */

static uint32_t held_for_fork;

/* What these locks protect must be whole in the child.  A handler that forks while its thread has
 * one of them leaves it alone. */
static void before_fork(void)
{
	static const enum lt_lock all[] = {LT_L_TOKENS, LT_L_CTX, LT_L_DOORBELL};
	uint32_t held = 0;

	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		held |= lt_lock(all[i]) ? all[i] : 0;
	held_for_fork = held;
}

static void unlock_all(void)
{
	uint32_t held = held_for_fork;

	for (uint32_t l = LT_L_DOORBELL; l >= LT_L_TOKENS; l >>= 1) {
		if (held & l)
			lt_unlock((enum lt_lock)l);
	}
}

static void in_child(void)
{
	lt.pid = getpid();
	lt.attached = false;
	lt.ctx = NULL;
	unlock_all();
	lt_locks_reset();
	lt_tokens_drop();
	lt_waiters_reset();
	lt_kconn_reset();
}

void lt_fork_init(void)
{
	pthread_atfork(before_fork, unlock_all, in_child);
}
