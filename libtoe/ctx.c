// SPDX-License-Identifier: BSD-3-Clause
/*
 * Start of the library, attaching to the engine, messages to the keeper, process-local locks.
 *
 * In: TOE_APP, TOE_RUN_DIR, TOE_FALLBACK, TOE_SPIN_US from the environment; out: lt, lt_on.  The
 * constructor attaches; a forked child attaches when it first needs its own context (fork followed
 * by exec or _exit costs nothing).  State: lt, the locks.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common/ctl_sock.h"
#include "common/log.h"
#include "common/map_sparse.h"
#include "common/raw_sys.h"
#include "libtoe/lt.h"

#define CALL_MS        10000 /* a restart of the control plane fits in */
#define EXIT_NO_ENGINE 69    /* EX_UNAVAILABLE */

struct lt_proc lt;
bool lt_on;
__thread struct lt_tls lt_tls __attribute__((tls_model("initial-exec"))) = {.role = -1};

static pthread_mutex_t locks[6] = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER,
				   PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER,
				   PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER};

/* ---- locks ---- */

/* The mark is set before and cleared after: a signal handler in between counts as nested. */
bool lt_lock(enum lt_lock which)
{
	if (lt_tls.held & which)
		return false;
	lt_tls.held |= which;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	pthread_mutex_lock(&locks[__builtin_ctz(which)]);
	return true;
}

void lt_unlock(enum lt_lock which)
{
	pthread_mutex_unlock(&locks[__builtin_ctz(which)]);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	lt_tls.held &= ~(uint32_t)which;
}

/* The others were taken before the fork and are unlocked by the one who did. */
void lt_locks_reset(void)
{
	locks[__builtin_ctz(LT_L_RPC)] = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
	locks[__builtin_ctz(LT_L_REFILL)] = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
	locks[__builtin_ctz(LT_L_KCONN)] = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
	lt_tls.held = 0;
}

/* ---- messages ---- */

int lt_call(struct toe_ctl_msg *m, const int *fds, unsigned nfds)
{
	int rc;

	if (!lt_lock(LT_L_RPC))
		return -EDEADLK; /* a handler interrupted a call of this thread */
	rc = toe_ctl_call(lt_role_fd(LT_ROLE_KEEPER), m, fds, nfds, NULL, 0, NULL, CALL_MS);
	lt_unlock(LT_L_RPC);
	return rc;
}

void lt_count_unsupported(enum toe_unsupported why, int level, int name)
{
#define NAME(symbol, text) text,
	static const char *const names[] = {TOE_UNSUPPORTED(NAME)};
#undef NAME
	struct toe_context *ctx = LT_LOAD(&lt.ctx);

	if (ctx)
		__atomic_fetch_add(&ctx->unsupported[why], 1, __ATOMIC_RELAXED);
	if (lt.noisy)
		LOG_DEBUG("not offloaded: %s %d %d", names[why], level, name);
}

/* ---- attach ---- */

struct start {
	int fd;          /* inherited socket, or -1 */
	char *fd_digits; /* in the environment */
	char why[160];
};

static bool parse_env(struct start *st, char *env)
{
	char *at;

	lt.app_id = (uint32_t)strtoul(env, &at, 10);
	if (at == env || *at++ != ':')
		return false;
	for (unsigned i = 0; i < TOE_KEY_BYTES; i++, at += 2) {
		char hex[3] = {at[0], at[0] ? at[1] : '\0', '\0'};
		char *end;

		lt.key[i] = (uint8_t)strtoul(hex, &end, 16);
		if (end != hex + 2)
			return false;
	}
	if (*at++ != ':')
		return false;
	st->fd_digits = at;
	st->fd = atoi(at);
	return true;
}

/* What we exec connects by itself.  In place where it fits: programs keep their envp. */
static void forget_inherited(struct start *st, const char *env)
{
	char copy[128];

	if (st->fd < 0)
		return;
	if (strlen(st->fd_digits) >= 2) {
		memcpy(st->fd_digits, "-1", 3);
		return;
	}
	snprintf(copy, sizeof(copy), "%.*s-1", (int)(st->fd_digits - env), env);
	setenv(TOE_ENV_APP, copy, 1);
}

static void explain(struct start *st, const struct toe_ctl_msg *m, int rc)
{
	if (m->abi_version != TOE_ABI_VERSION || m->abi_fingerprint != TOE_ABI_FINGERPRINT)
		snprintf(st->why, sizeof(st->why),
			 "engine has interface version %u/%08x, libtoe %u/%08x: rebuild or restart",
			 m->abi_version, m->abi_fingerprint, TOE_ABI_VERSION, TOE_ABI_FINGERPRINT);
	else
		snprintf(st->why, sizeof(st->why), "%s", strerror(-rc));
}

static int add_waiter(int sock)
{
	struct toe_ctl_msg m;
	int fds[2];
	int rc;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
		return -errno;
	toe_ctl_init(&m, TOE_CTL_WAITER_ADD);
	m.u.waiter = (struct toe_ctl_waiter){.app_id = lt.app_id, .ctx = lt.ctx_index};
	rc = toe_ctl_call(sock, &m, &fds[1], 1, NULL, 0, NULL, CALL_MS);
	raw_close(fds[1]); /* the engine has the only other end: we see its death */
	if (rc < 0) {
		raw_close(fds[0]);
		return rc;
	}
	rc = lt_role_set(LT_ROLE_WAITER, fds[0]);
	return rc < 0 ? rc : 0;
}

static int attach_on(int sock, struct start *st)
{
	struct toe_ctl_msg m;
	int fds[3];
	unsigned n = 0;
	int rc;

	toe_ctl_init(&m, TOE_CTL_PROC_ATTACH);
	m.u.app.app_id = lt.app_id;
	m.u.app.pid = getpid();
	memcpy(m.u.app.key, lt.key, sizeof(lt.key));
	rc = toe_ctl_call(sock, &m, NULL, 0, fds, 3, &n, CALL_MS);
	if (rc == 0 && (n != 3 || m.abi_fingerprint != TOE_ABI_FINGERPRINT))
		rc = -EPROTO;
	if (rc == 0)
		rc = lt_region_map(&m.u.app, fds[0], fds[1]);
	if (rc < 0)
		explain(st, &m, rc);
	for (unsigned i = 0; i < n; i++) {
		if (rc < 0 || i < 2)
			raw_close(fds[i]);
	}
	if (rc < 0)
		return rc;
	rc = lt_role_set(LT_ROLE_KICK, fds[2]);
	if (rc >= 0)
		rc = add_waiter(sock);
	if (rc >= 0)
		rc = lt_waiters_init();
	if (rc < 0)
		explain(st, &m, rc);
	return rc;
}

/* On the inherited socket, else on a new connection. */
static int attach_any(struct start *st)
{
	int rc = -EBADF;
	int fd = st->fd;

	if (fd >= 0) {
		rc = attach_on(fd, st);
		if (rc >= 0)
			return lt_role_set(LT_ROLE_KEEPER, fd) < 0 ? -EMFILE : 0;
	}
	fd = toe_ctl_connect(lt.keeper_path);
	if (fd < 0) {
		snprintf(st->why, sizeof(st->why), "%s: %s", lt.keeper_path, strerror(-fd));
		return fd;
	}
	rc = attach_on(fd, st);
	if (rc < 0) {
		raw_close(fd);
		return rc;
	}
	return lt_role_set(LT_ROLE_KEEPER, fd) < 0 ? -EMFILE : 0;
}

static int alloc_tables(void)
{
	size_t conns = lt.g.slot_n * sizeof(struct lt_conn);
	size_t bytes = conns + lt.g.listener_n * sizeof(struct lt_lsock);
	uint8_t *p = toe_map_sparse(bytes);

	if (!p)
		return -errno;
	lt.conns = (struct lt_conn *)p;
	lt.lsocks = (struct lt_lsock *)(p + conns);
	return 0;
}

static void no_engine(const char *why)
{
	const char *fallback = getenv("TOE_FALLBACK");

	if (fallback && strcmp(fallback, "1") == 0) {
		LOG_WARN("no engine (%s): this process runs on the kernel, not offloaded", why);
		return;
	}
	LOG_ERROR("cannot attach to the engine: %s (TOE_FALLBACK=1 runs on the kernel instead)",
		  why);
	_exit(EXIT_NO_ENGINE);
}

static uint32_t env_number(const char *name, uint32_t max)
{
	const char *v = getenv(name);
	unsigned long n = v ? strtoul(v, NULL, 10) : 0;

	return n > max ? max : (uint32_t)n;
}

__attribute__((constructor)) void lt_start(void)
{
	char *env = getenv(TOE_ENV_APP);
	const char *dir = getenv(TOE_ENV_RUN_DIR);
	const char *level = getenv("TOE_LOG");
	struct start st = {.fd = -1};
	int rc;

	if (!env || !*env || lt_on)
		return;
	lt_real_resolve();
	toe_log_init("libtoe");
	lt.noisy = level && strcmp(level, "debug") == 0;
	lt.pid = getpid();
	lt.spin_us = env_number("TOE_SPIN_US", 1000000);
	snprintf(lt.keeper_path, sizeof(lt.keeper_path), "%s/%s",
		 dir && *dir ? dir : TOE_RUN_DIR_DEFAULT, TOE_KEEPER_SOCKET);
	if (!parse_env(&st, env)) {
		no_engine(TOE_ENV_APP " cannot be read");
		return;
	}
	rc = lt_fdtable_init();
	if (rc == 0)
		rc = lt_kconn_init();
	if (rc == 0)
		rc = attach_any(&st);
	if (rc == 0)
		rc = alloc_tables();
	if (rc < 0) {
		no_engine(st.why[0] ? st.why : strerror(-rc));
		return;
	}
	forget_inherited(&st, env);
	if (getrandom(&lt.ev_tag, sizeof(lt.ev_tag), 0) != (ssize_t)sizeof(lt.ev_tag))
		lt.ev_tag = (uint64_t)(uintptr_t)&lt * 0x9e3779b97f4a7c15ull;
	lt.ev_tag &= ~0xffffffull;
	lt_fork_init();
	lt_broker_init();
	lt.attached = true;
	__atomic_store_n(&lt_on, true, __ATOMIC_RELEASE);
	lt_adopt_all();
}

/* ---- children ---- */

/* The engine is to tell this context, too, what happens to everything we inherited. */
static void join_objects(void)
{
	for (uint32_t i = 0; i < lt.g.slot_n; i++) {
		if (!LT_PEEK(&lt.conns[i].refs))
			continue;
		LT_AND(&lt_slot(i)->hint_pending, ~lt.ctx_bit);
		LT_OR(&lt_slot(i)->ctx_mask, lt.ctx_bit);
	}
	for (uint32_t i = 0; i < lt.g.listener_n; i++) {
		if (LT_PEEK(&lt.lsocks[i].refs))
			lt_listen_again(i);
	}
	lt_kconn_join();
	if (lt_lock(LT_L_CTX)) {
		lt_epoll_mark_all();
		lt_unlock(LT_L_CTX);
	}
}

static int attach_forked(void)
{
	struct start st = {.fd = -1};
	struct toe_ctl_msg m;
	int pair[2];
	int rc = toe_ctl_pair(pair);

	if (rc < 0)
		return rc;
	toe_ctl_init(&m, TOE_CTL_PROC_FORK);
	rc = toe_ctl_send(lt_role_fd(LT_ROLE_KEEPER), &m, &pair[1], 1);
	raw_close(pair[1]);
	if (rc < 0) {
		raw_close(pair[0]);
		return rc;
	}
	st.fd = pair[0];
	rc = attach_on(st.fd, &st);
	if (rc < 0) {
		raw_close(st.fd);
		LOG_WARN("cannot attach after fork: %s", st.why);
		return rc;
	}
	return lt_role_set(LT_ROLE_KEEPER, st.fd) < 0 ? -EMFILE : 0;
}

bool lt_attach_child(void)
{
	bool join = false;

	if (LT_PEEK(&lt.gone) || lt_foreign() || !lt_lock(LT_L_RPC))
		return false;
	if (!LT_PEEK(&lt.attached) && !LT_PEEK(&lt.gone)) {
		int saved = errno;

		join = attach_forked() == 0;
		if (!join) {
			LT_STORE(&lt.gone, true);
			lt_waiters_init();
		}
		LT_STORE(&lt.attached, join);
		errno = saved;
	}
	lt_unlock(LT_L_RPC);
	if (join)
		join_objects();
	return LT_LOAD(&lt.attached) && !LT_PEEK(&lt.gone);
}
