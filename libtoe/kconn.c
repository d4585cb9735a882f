// SPDX-License-Identifier: BSD-3-Clause
/*
 * Connections that the kernel carries: the engine is told how many there are.
 *
 * In: descriptors from accept() and connect() that stay the kernel's, copies and ends of them; out:
 * KERNEL_CONN to the keeper, answered when every lcore knows, before the application gets the
 * descriptor.  What comes through them no stage of the engine sees; modules that keep an account of
 * what the application does (MQTT) must know that there is more.
 *
 * State: a mark per descriptor number, the number of marks, and the number the engine has been
 * told; the same of reloads (SIGHUP).  Telling levels the two, so whoever comes late or fails
 * leaves it to the next one.  Nothing is told before this process (or the one it was forked from)
 * has an offloaded listener.  Any thread; a number too large for the table is counted for ever.
 */
#include <string.h>

#include "common/ctl_sock.h"
#include "common/log.h"
#include "common/map_sparse.h"
#include "common/raw_sys.h"
#include "libtoe/lt.h"

uint8_t *lt_kconn_marks; /* by descriptor */
static uint32_t marks_n;
static uint32_t told; /* LT_L_KCONN */
static uint32_t reloads;
static uint32_t reloads_told; /* LT_L_KCONN */
static bool telling;

int lt_kconn_init(void)
{
	void *p = toe_map_sparse(lt_fds.n);

	if (!p)
		return -errno;
	lt_kconn_marks = p;
	return lt_follow_init();
}

/* ---- towards the engine ---- */

static bool engine_gone(int rc)
{
	return lt_gone() || rc == -EPIPE || rc == -ECONNRESET || rc == -EBADF || rc == -ENOTCONN;
}

static bool leveled(void)
{
	return LT_LOAD(&told) == LT_LOAD(&marks_n) && LT_LOAD(&reloads_told) == LT_LOAD(&reloads);
}

/* One difference, under the lock. */
static int level(void)
{
	uint32_t want = LT_LOAD(&marks_n);
	uint32_t loads = LT_LOAD(&reloads);
	struct toe_ctl_msg m;
	int rc;

	if (leveled())
		return 0;
	toe_ctl_init(&m, TOE_CTL_KERNEL_CONN);
	m.u.kconn.delta = (int32_t)(want - told);
	m.u.kconn.flags = loads != reloads_told ? TOE_KCONN_RELOAD : 0;
	rc = lt_call(&m, NULL, 0);
	if (rc == 0) {
		LT_STORE(&told, want);
		LT_STORE(&reloads_told, loads);
	}
	return rc;
}

/* Until the engine knows the number of marks.  0, or -errno if it may not. */
static int tell(void)
{
	int saved = errno;
	int rc = 0;

	if (!LT_LOAD(&telling) || lt_foreign())
		return 0;
	while (rc == 0 && LT_LOAD(&lt.attached) && !leveled()) {
		if (!lt_lock(LT_L_KCONN))
			break; /* we interrupted this very loop, which goes round again */
		rc = level();
		lt_unlock(LT_L_KCONN);
	}
	errno = saved;
	return rc < 0 && !engine_gone(rc) ? rc : 0;
}

void lt_kconn_start(void)
{
	lt_tls_watch();
	LT_STORE(&telling, true);
	tell();
}

void lt_kconn_join(void)
{
	tell();
}

void lt_kconn_reset(void)
{
	LT_STORE(&told, 0);
	lt_follow_reset();
}

/* The program goes on in any case: it has been told by somebody else. */
void lt_kconn_reload(void)
{
	__atomic_add_fetch(&reloads, 1, __ATOMIC_ACQ_REL);
	tell();
}

bool lt_kconn_reloads(uint32_t *n)
{
	*n = LT_LOAD(&reloads);
	return LT_LOAD(&telling);
}

/* A handler that interrupts this has left the news to us. */
int lt_kconn_checked(uint32_t n, struct toe_ctl_kconn *k)
{
	struct toe_ctl_msg m;
	int rc = -EBUSY;

	toe_ctl_init(&m, TOE_CTL_KERNEL_CONN);
	m.u.kconn = *k;
	if (LT_LOAD(&lt.attached) && lt_lock(LT_L_KCONN)) {
		rc = -ESTALE;
		if (LT_LOAD(&reloads) == n && LT_LOAD(&reloads_told) == n)
			rc = lt_call(&m, NULL, 0);
		lt_unlock(LT_L_KCONN);
	}
	tell();
	return rc;
}

/* Behind the number that is told now; a program that reads in a handler of a signal that came in
 * the middle of this may not follow. */
int lt_kconn_say(struct toe_ctl_kconn *k)
{
	struct toe_ctl_msg m;
	int rc = -EBUSY;

	if (!LT_LOAD(&lt.attached))
		return -ENOTCONN;
	toe_ctl_init(&m, TOE_CTL_KERNEL_CONN);
	m.u.kconn = *k;
	if (lt_lock(LT_L_KCONN)) {
		rc = lt_call(&m, NULL, 0);
		lt_unlock(LT_L_KCONN);
	}
	return engine_gone(rc) ? 0 : rc;
}

/* ---- marks ---- */

static void mark(int fd)
{
	if (!lt_fd_get(fd))
		lt_fd_set(fd, 0); /* close_range() looks no further than the table was used */
	if ((unsigned)fd >= lt_fds.n ||
	    !__atomic_exchange_n(&lt_kconn_marks[fd], 1, __ATOMIC_ACQ_REL))
		__atomic_add_fetch(&marks_n, 1, __ATOMIC_ACQ_REL);
}

static void unmark(int fd)
{
	if (lt_kconn_is(fd) && __atomic_exchange_n(&lt_kconn_marks[fd], 0, __ATOMIC_ACQ_REL))
		__atomic_sub_fetch(&marks_n, 1, __ATOMIC_ACQ_REL);
}

/* A child attaches for it, if it must. */
static int add(int fd)
{
	int rc;

	mark(fd);
	if (LT_LOAD(&telling))
		lt_ready();
	rc = tell();
	if (rc < 0)
		LOG_WARN("a connection of the kernel's is refused: the engine was not told (%s)",
			 strerror(-rc));
	return rc;
}

void lt_kconn_forget(int fd)
{
	lt_follow_forget(fd, true);
	unmark(fd);
	tell();
}

void lt_kconn_duplicated(int to)
{
	mark(to);
	tell();
}

void lt_kconn_inherited(int fd)
{
	add(fd);
}

int lt_kconn_accepted(int fd)
{
	int type = 0;
	socklen_t len = sizeof(type);

	if (lt_foreign() || LT_REAL(getsockopt)(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 ||
	    type != SOCK_STREAM)
		return fd;
	if (add(fd) == 0) {
		if (LT_LOAD(&telling))
			lt_follow_accepted(fd);
		return fd;
	}
	lt_kconn_forget(fd);
	raw_close(fd);
	return -ECONNABORTED;
}

/* fd and its dups. */
static void mark_all(int fd, bool on)
{
	lt_ent e = lt_fd_get(fd);

	for (uint32_t i = 0; i < LT_PEEK(&lt_fds.used); i++) {
		if (lt_fd_get((int)i) != e)
			continue;
		if (on)
			mark((int)i);
		else
			unmark((int)i);
	}
}

int lt_kconn_connecting(int fd, uint16_t port)
{
	mark_all(fd, true);
	if (add(fd) == 0) {
		if (LT_LOAD(&telling))
			lt_follow_connecting(fd, 0, port);
		return 0;
	}
	lt_kconn_failed(fd);
	return -ECONNABORTED;
}

void lt_kconn_failed(int fd)
{
	lt_follow_forget(fd, true);
	mark_all(fd, false);
	tell();
}
