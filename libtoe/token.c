// SPDX-License-Identifier: BSD-3-Clause
/*
 * Token descriptors: the small real descriptors that stand for connections.
 *
 * In: accept and connect, which need one; descriptors that come from elsewhere (exec, SCM_RIGHTS)
 * and may be tokens; out: near ends of socketpairs whose far ends the keeper watches, the token map
 * of the region.  State: a pool of near ends, filled in batches, taken lowest number first.  A
 * forked child closes its copies of the pool: they would keep the parent's connections alive.
 */
#include <dirent.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "common/ctl_sock.h"
#include "common/raw_sys.h"
#include "libtoe/lt.h"

#define BATCH_FIRST 8u
#define BATCH       32u
#define POOL_N      64u
#define REFILLS_MAX 16
#define NAME_START  "toe-" /* of a far end, abstract (keeper/token.c) */

static struct lt_token pool[POOL_N];
static unsigned pool_n;
static bool started;

static lt_ent pool_ent(void)
{
	return lt_ent_make(LT_POOL, 0, 0);
}

/* ---- pool ---- */

void lt_token_put(const struct lt_token *t)
{
	bool kept = false;

	if (lt_lock(LT_L_TOKENS)) {
		if (pool_n < POOL_N && lt_fd_set(t->fd, pool_ent())) {
			pool[pool_n++] = *t;
			kept = true;
		}
		lt_unlock(LT_L_TOKENS);
	}
	if (!kept)
		raw_close(t->fd);
}

static bool pool_take(struct lt_token *t)
{
	unsigned low = 0;
	bool ok;

	if (!lt_lock(LT_L_TOKENS))
		return false;
	ok = pool_n > 0;
	if (ok) {
		for (unsigned i = 1; i < pool_n; i++) {
			if (pool[i].fd < pool[low].fd)
				low = i;
		}
		*t = pool[low];
		pool[low] = pool[--pool_n];
		lt_fd_take(t->fd);
	}
	lt_unlock(LT_L_TOKENS);
	return ok;
}

/* Makes up to n pairs; how many, or -errno if none. */
static int make_pairs(unsigned n, int *near, int *far)
{
	unsigned i;

	for (i = 0; i < n; i++) {
		int sv[2];

		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
			return i ? (int)i : -errno;
		near[i] = sv[0];
		far[i] = sv[1];
	}
	return (int)i;
}

static int refill(void)
{
	unsigned want = __atomic_exchange_n(&started, true, __ATOMIC_RELAXED) ? BATCH : BATCH_FIRST;
	int near[BATCH] = {0};
	int far[BATCH] = {0};
	struct toe_ctl_msg m;
	int n = make_pairs(want, near, far);
	int rc;

	if (n < 0)
		return n;
	toe_ctl_init(&m, TOE_CTL_TOKEN_ADD);
	m.u.token.count = (uint32_t)n;
	rc = lt_call(&m, far, (unsigned)n);
	if (rc == 0 && m.u.token.count != (uint32_t)n)
		rc = -EPROTO;
	for (int i = 0; i < n; i++) {
		struct lt_token t = {near[i], m.u.token.ids[i]};

		raw_close(far[i]);
		if (rc == 0 && t.id < lt.g.token_n)
			lt_token_put(&t);
		else
			raw_close(near[i]);
	}
	return rc;
}

/* One thread fills the pool, the others wait for it: not a batch for each. */
static int refill_once(void)
{
	bool empty = true;
	int rc = 0;

	if (!lt_lock(LT_L_REFILL))
		return -ENOMEM;
	if (lt_lock(LT_L_TOKENS)) {
		empty = pool_n == 0;
		lt_unlock(LT_L_TOKENS);
	}
	if (empty)
		rc = refill();
	lt_unlock(LT_L_REFILL);
	return rc;
}

int lt_token_take(struct lt_token *t)
{
	int rc;

	for (int i = 0; i < REFILLS_MAX; i++) {
		if (pool_take(t))
			return 0;
		rc = refill_once();
		if (rc < 0)
			/* of the engine's limits the application knows nothing */
			return rc == -EMFILE || rc == -ENFILE ? rc : -ENOMEM;
	}
	return -ENOMEM; /* others are faster */
}

bool lt_token_make_way(int fd)
{
	bool ok = false;

	if (!lt_lock(LT_L_TOKENS))
		return false;
	for (unsigned i = 0; i < pool_n && !ok; i++) {
		int other;

		if (pool[i].fd != fd)
			continue;
		other = LT_REAL(fcntl)(fd, F_DUPFD_CLOEXEC, 3);
		if (other < 0)
			break;
		pool[i].fd = other;
		lt_fd_take(fd);
		lt_fd_set(other, pool_ent());
		ok = true;
	}
	lt_unlock(LT_L_TOKENS);
	return ok;
}

void lt_tokens_drop(void)
{
	while (pool_n > 0) {
		int fd = pool[--pool_n].fd;

		lt_fd_take(fd);
		raw_close(fd);
	}
	started = false;
}

void lt_token_taking(const struct lt_token *t, uint32_t slot)
{
	uint32_t v = slot == TOE_NONE ? TOE_NONE : slot | TOE_TOKEN_TAKING;

	__atomic_store_n(&lt.tokens[t->id], v, __ATOMIC_SEQ_CST); /* before cons moves */
}

void lt_token_bind(const struct lt_token *t, uint32_t slot)
{
	LT_STORE(&lt.tokens[t->id], slot);
}

/* ---- descriptors from elsewhere ---- */

static bool looks_like_token(int fd)
{
	struct sockaddr_un sa = {0};
	socklen_t len = sizeof(sa);

	return LT_REAL(getpeername)(fd, (struct sockaddr *)&sa, &len) == 0 &&
	       sa.sun_family == AF_UNIX && sa.sun_path[0] == '\0' &&
	       len > offsetof(struct sockaddr_un, sun_path) + sizeof(NAME_START) &&
	       memcmp(sa.sun_path + 1, NAME_START, sizeof(NAME_START) - 1) == 0;
}

static void claim(int fd)
{
	struct toe_ctl_msg m;
	uint32_t slot;

	toe_ctl_init(&m, TOE_CTL_CLAIM);
	if (!lt_ready() || lt_call(&m, &fd, 1) < 0 || m.u.token.ids[0] >= lt.g.token_n)
		return;
	slot = LT_LOAD(&lt.tokens[m.u.token.ids[0]]);
	if (slot >= lt.g.slot_n)
		return;
	lt_conn_enter(slot, LT_LOAD(&lt_slot(slot)->info_gen));
	if (!lt_fd_set(fd, lt_ent_make(LT_CONN, slot, lt.conns[slot].gen)))
		lt_conn_leave(slot);
}

static int int_option(int fd, int level, int name)
{
	int v = -1;
	socklen_t len = sizeof(v);

	return LT_REAL(getsockopt)(fd, level, name, &v, &len) == 0 ? v : -1;
}

void lt_adopt(int fd)
{
	int domain = int_option(fd, SOL_SOCKET, SO_DOMAIN);
	lt_ent stale = lt_fd_take(fd);
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);

	if (stale) {
		lt_epoll_fd_closed(fd, stale);
		lt_ent_unref(stale);
	}
	if (domain == AF_UNIX) {
		if (looks_like_token(fd))
			claim(fd);
		return;
	}
	if ((domain != AF_INET && domain != AF_INET6) ||
	    int_option(fd, SOL_SOCKET, SO_PROTOCOL) != IPPROTO_TCP)
		return;
	lt_fd_set(fd, lt_ksock_ent());
	if (int_option(fd, SOL_SOCKET, SO_ACCEPTCONN) == 1)
		lt_listen_offload(fd, SOMAXCONN);
	else if (LT_REAL(getpeername)(fd, (struct sockaddr *)&peer, &len) == 0)
		lt_kconn_inherited(fd);
}

void lt_adopt_all(void)
{
	DIR *d = opendir("/proc/self/fd");
	struct dirent *e;

	if (!d)
		return;
	while ((e = readdir(d)) != NULL) {
		int fd = atoi(e->d_name);

		if (e->d_name[0] != '.' && fd != dirfd(d) && !lt_fd_get(fd))
			lt_adopt(fd);
	}
	closedir(d);
}
