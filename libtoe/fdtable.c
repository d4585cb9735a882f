// SPDX-License-Identifier: BSD-3-Clause
/*
 * What each descriptor number of this process stands for.
 *
 * In: calls that make, copy and close descriptors; out: lookups (lt_fd_get, one load).  State: the
 * table, mapped once, pages touched on use; the registry of our own descriptors.  Any thread,
 * signal handlers too: entries are single words, changed by exchange; no locks.
 */
#include <string.h>
#include <sys/resource.h>

#include "common/map_sparse.h"
#include "common/raw_sys.h"
#include "libtoe/lt.h"

#define FD_TABLE_MIN 65536u
#define FD_TABLE_MAX (1u << 20)
#define ROLE_FD_LOW  100 /* ours stay above what programs expect to get, below FD_SETSIZE */

struct lt_fdtable lt_fds;

struct role {
	int fd_plus_1; /* 0 = free */
};
static struct role roles[LT_ROLE_N];
static uint32_t last_ksock;

int lt_fdtable_init(void)
{
	struct rlimit lim;
	uint32_t n = FD_TABLE_MIN;
	void *p;

	if (getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_max > n)
		n = lim.rlim_max > FD_TABLE_MAX ? FD_TABLE_MAX : (uint32_t)lim.rlim_max;
	p = toe_map_sparse(n * sizeof(lt_ent));
	if (!p)
		return -errno;
	lt_fds.ents = p;
	lt_fds.n = n;
	return 0;
}

/* ---- entries ---- */

bool lt_fd_set(int fd, lt_ent e)
{
	uint32_t used = LT_PEEK(&lt_fds.used);
	lt_ent old;

	if ((unsigned)fd >= lt_fds.n)
		return false;
	while (used <= (unsigned)fd &&
	       !__atomic_compare_exchange_n(&lt_fds.used, &used, (uint32_t)fd + 1, false,
					    __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
		;
	old = __atomic_exchange_n(&lt_fds.ents[fd], e, __ATOMIC_ACQ_REL);
	/* closed behind our back (stdio, a raw system call), and the number came again */
	if (LT_UNLIKELY(old) && old != e && !lt_ent_hidden(old)) {
		lt_epoll_fd_closed(fd, old);
		lt_ent_unref(old);
	}
	return true;
}

lt_ent lt_fd_take(int fd)
{
	if ((unsigned)fd >= lt_fds.n || !LT_PEEK(&lt_fds.ents[fd]))
		return 0;
	return __atomic_exchange_n(&lt_fds.ents[fd], 0, __ATOMIC_ACQ_REL);
}

lt_ent lt_ksock_ent(void)
{
	return lt_ent_make(LT_KSOCK, __atomic_add_fetch(&last_ksock, 1, __ATOMIC_RELAXED), 0);
}

void lt_ent_ref(lt_ent e)
{
	uint32_t i = lt_ent_index(e);

	if (lt_ent_kind(e) == LT_CONN)
		__atomic_add_fetch(&lt.conns[i].refs, 1, __ATOMIC_RELAXED);
	else if (lt_ent_kind(e) == LT_LISTENER)
		__atomic_add_fetch(&lt.lsocks[i].refs, 1, __ATOMIC_RELAXED);
	else if (lt_ent_kind(e) == LT_EPOLL)
		lt_epoll_ref(i, 1);
}

void lt_ent_unref(lt_ent e)
{
	uint32_t i = lt_ent_index(e);

	if (lt_ent_kind(e) == LT_CONN) {
		if (__atomic_sub_fetch(&lt.conns[i].refs, 1, __ATOMIC_ACQ_REL) == 0)
			lt_conn_leave(i);
	} else if (lt_ent_kind(e) == LT_LISTENER) {
		if (__atomic_sub_fetch(&lt.lsocks[i].refs, 1, __ATOMIC_ACQ_REL) == 0)
			lt_listener_leave(i);
	} else if (lt_ent_kind(e) == LT_EPOLL) {
		lt_epoll_ref(i, -1);
	}
}

void lt_fd_dup(lt_ent e, int to)
{
	lt_ent_ref(e);
	if (!lt_fd_set(to, e))
		lt_ent_unref(e);
}

/* ---- our own descriptors ---- */

int lt_role_fd(uint32_t role)
{
	return LT_LOAD(&roles[role].fd_plus_1) - 1;
}

static int claim(uint32_t role, int fd)
{
	int high = LT_REAL(fcntl)(fd, F_DUPFD_CLOEXEC, ROLE_FD_LOW);

	if (high >= 0)
		raw_close(fd);
	else
		high = fd; /* the limit is lower than that */
	if (!lt_fd_set(high, lt_ent_make(LT_INTERNAL, role, 0))) {
		raw_close(high);
		return -EMFILE;
	}
	LT_STORE(&roles[role].fd_plus_1, high + 1);
	return high;
}

int lt_role_set(uint32_t role, int fd)
{
	lt_role_close(role);
	return claim(role, fd);
}

int lt_role_alloc(int fd)
{
	for (uint32_t i = LT_ROLE_SLEEPER0; i < LT_ROLE_N; i++) {
		int none = 0;
		int rc;

		if (LT_PEEK(&roles[i].fd_plus_1) ||
		    !__atomic_compare_exchange_n(&roles[i].fd_plus_1, &none, fd + 1, false,
						 __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
			continue;
		rc = claim(i, fd);
		if (rc >= 0)
			return (int)i;
		LT_STORE(&roles[i].fd_plus_1, 0);
		return rc;
	}
	raw_close(fd);
	return -EMFILE;
}

void lt_role_close(uint32_t role)
{
	int fd = __atomic_exchange_n(&roles[role].fd_plus_1, 0, __ATOMIC_ACQ_REL) - 1;

	if (fd < 0)
		return;
	lt_fd_take(fd);
	raw_close(fd);
}

bool lt_make_way(int fd)
{
	lt_ent e = lt_fd_get(fd);
	uint32_t role = lt_ent_index(e);
	int other;

	if (!lt_ent_hidden(e))
		return true;
	if (lt_ent_kind(e) == LT_POOL)
		return lt_token_make_way(fd);
	other = LT_REAL(fcntl)(fd, F_DUPFD_CLOEXEC, ROLE_FD_LOW);
	if (other < 0)
		return false;
	lt_fd_set(other, e);
	LT_STORE(&roles[role].fd_plus_1, other + 1);
	lt_fd_take(fd);
	return true;
}
