// SPDX-License-Identifier: BSD-3-Clause
/*
 * Hints, doorbells, and sleeping.
 *
 * In: the context's hint ring; one socket (LT_ROLE_WAITER) on which the engine sends a byte when
 * `waiting` was set, one eventfd (LT_ROLE_LOCAL) for threads of this process.  Out: marks on epoll
 * items, doorbells, kicks, sleeping threads that wake.
 *
 * However many threads sleep, they share that socket: each sleeping thread has an epoll instance
 * of its own ("sleeper") with both descriptors registered edge-triggered, and sleeps in ppoll() on
 * it and on whatever kernel descriptors it waits for.  Each byte is an edge in every sleeper, so
 * nobody can take it away from another.  For that the socket must never become empty: a sleeper
 * looks at its level again before it reports an edge.  So we read all but the last byte now and
 * then; `armed` bounds how many there can be.
 *
 * No wake-up is lost: lt_arm() clears old edges, sets `waiting`, fence, drains the hint ring (which
 * clears hint_pending bits), and then the caller looks at the state.  What the engine publishes
 * after that look finds hint_pending clear and `waiting` set; what it published before, the look
 * sees.  Clearing hint_pending is part of the protocol even if the caller only cares for one
 * connection: where the bit is set the engine neither hints nor wakes.
 */
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#include "common/log.h"
#include "common/raw_sys.h"
#include "libtoe/lt.h"

#define ARMED_MAX 64u        /* bytes in the waiter's socket before we empty it */
#define BLIND_NS  10000000ll /* nap where a wake-up cannot be promised */

static pthread_key_t exit_key;

/* No sleeper, or a handler that interrupted the owner of the hint ring. */
static bool blind(void)
{
	return lt_tls.role < 0 || (lt_tls.held & LT_L_CTX);
}

/* ---- doorbells ---- */

static void post(uint32_t slot)
{
	uint32_t prod = LT_PEEK(&lt.ctx->doorbell_prod);

	__atomic_store_n(&lt.doorbells[prod & (lt.g.doorbell_n - 1)], slot, __ATOMIC_RELAXED);
	LT_STORE(&lt.ctx->doorbell_prod, prod + 1);
}

void lt_doorbell(uint32_t slot)
{
	if (!LT_LOAD(&lt.attached) ||
	    __atomic_exchange_n(&lt_slot(slot)->doorbell_pending, 1, __ATOMIC_SEQ_CST))
		return;
	if (!lt_lock(LT_L_DOORBELL)) {
		/* We interrupted a doorbell of this thread, which posts ours as well. */
		if (lt_tls.later_n < sizeof(lt_tls.later) / sizeof(lt_tls.later[0]))
			lt_tls.later[lt_tls.later_n++] = slot;
		return;
	}
	post(slot);
	do {
		while (lt_tls.later_n)
			post(lt_tls.later[--lt_tls.later_n]);
		lt_unlock(LT_L_DOORBELL);
	} while (LT_UNLIKELY(lt_tls.later_n) && lt_lock(LT_L_DOORBELL));
	/* The entry before the flag; pairs with the engine: sets it, fence, looks at the ring. */
	LT_FENCE();
	if (LT_PEEK(&lt.ctx->engine_asleep))
		syscall(SYS_sendto, lt_role_fd(LT_ROLE_KICK), "", 1, MSG_DONTWAIT | MSG_NOSIGNAL,
			NULL, 0);
}

/* ---- hints ---- */

static void take_hint(uint32_t id)
{
	if (id & TOE_ID_LISTENER) {
		uint32_t i = id & ~TOE_ID_LISTENER;

		if (i >= lt.g.listener_n)
			return;
		LT_AND(&lt_listener(i)->hint_pending, ~lt.ctx_bit);
		lt_epoll_mark(lt.lsocks[i].watch);
	} else if (id < lt.g.slot_n) {
		LT_AND(&lt_slot(id)->hint_pending, ~lt.ctx_bit);
		lt_epoll_mark(lt.conns[id].watch);
	}
}

/* As if everything had been hinted: after a ring that makes no sense. */
void lt_hints_catch_up(void)
{
	for (uint32_t i = 0; i < lt.g.slot_n; i++) {
		if (LT_PEEK(&lt.conns[i].refs))
			LT_AND(&lt_slot(i)->hint_pending, ~lt.ctx_bit);
	}
	for (uint32_t i = 0; i < lt.g.listener_n; i++)
		LT_AND(&lt_listener(i)->hint_pending, ~lt.ctx_bit);
	lt_epoll_mark_all();
}

/* Said once: sockets it makes from now on work, so nothing else would tell. */
static void engine_lost(void)
{
	if (!__atomic_exchange_n(&lt.gone, true, __ATOMIC_ACQ_REL))
		LOG_WARN("engine is gone: this program stays with the kernel until it is started "
			 "again");
}

void lt_hints_drain(void)
{
	uint32_t prod;

	if (LT_UNLIKELY(lt_gone()) && !lt.buried) {
		LT_STORE(&lt.buried, true);
		engine_lost();
		lt_epoll_mark_all(); /* everything is ready: with an error */
	}
	if (!lt.ctx)
		return;
	/* pairs with the engine's release of the entries */
	prod = LT_LOAD(&lt.ctx->hint_prod);
	if (LT_UNLIKELY(prod - lt.hint_cons > lt.g.hint_n)) {
		LT_STORE(&lt.hint_cons, prod); /* others peek without the lock */
		LT_STORE(&lt.ctx->hint_cons, prod);
		lt_hints_catch_up();
		return;
	}
	while (lt.hint_cons != prod) {
		uint32_t id = LT_PEEK(&lt.hints[lt.hint_cons & (lt.g.hint_n - 1)]);

		/* free first: clearing the bit allows the engine to post it again */
		LT_STORE(&lt.hint_cons, lt.hint_cons + 1);
		LT_STORE(&lt.ctx->hint_cons, lt.hint_cons);
		take_hint(id);
	}
}

/* ---- sleepers ---- */

static void thread_exit(void *role)
{
	uint32_t r = (uint32_t)(uintptr_t)role;

	if (lt_tls.role == (int32_t)r) {
		lt_tls.role = -1;
		lt_role_close(r);
	}
}

int lt_waiters_init(void)
{
	static bool have_key;
	int fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);

	if (fd < 0)
		return -errno;
	fd = lt_role_set(LT_ROLE_LOCAL, fd);
	if (fd < 0)
		return fd;
	if (!have_key) {
		int rc = -pthread_key_create(&exit_key, thread_exit);

		have_key = rc == 0;
		return rc;
	}
	return 0;
}

void lt_waiters_reset(void)
{
	for (uint32_t r = LT_ROLE_KICK; r < LT_ROLE_N; r++)
		lt_role_close(r);
	lt_tls.role = -1;
	lt_tls.edge = false;
	lt_tls.later_n = 0;
	lt.sleepers = 0;
	lt.armed = 0;
}

static bool watch(int epfd, enum lt_role role)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.u32 = role};

	return LT_REAL(epoll_ctl)(epfd, EPOLL_CTL_ADD, lt_role_fd(role), &ev) == 0;
}

static void make_sleeper(void)
{
	int saved = errno;
	int fd = LT_REAL(epoll_create1)(EPOLL_CLOEXEC);

	/* without an engine only our own threads can wake us */
	if (fd >= 0 &&
	    (!watch(fd, LT_ROLE_LOCAL) || (LT_LOAD(&lt.attached) && !watch(fd, LT_ROLE_WAITER)))) {
		raw_close(fd);
		fd = -1;
	}
	if (fd >= 0)
		lt_tls.role = lt_role_alloc(fd);
	if (lt_tls.role >= 0) {
		pthread_setspecific(exit_key, (void *)(uintptr_t)lt_tls.role);
		lt_tls.edge = true;
	}
	errno = saved;
}

static void clear_edges(void)
{
	struct epoll_event ev[2];
	int saved = errno;
	int n = LT_REAL(epoll_wait)(lt_role_fd((uint32_t)lt_tls.role), ev, 2, 0);

	lt_tls.edge = false;
	for (int i = 0; i < n; i++) {
		if (ev[i].data.u32 == LT_ROLE_WAITER &&
		    (ev[i].events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR)) && !LT_PEEK(&lt.gone)) {
			engine_lost();
			lt_wake_local();
		}
	}
	errno = saved;
}

static void empty_waiter(void)
{
	int fd = lt_role_fd(LT_ROLE_WAITER);
	char junk[256];
	int n = 0;

	LT_STORE(&lt.armed, 0);
	if (LT_REAL(ioctl)(fd, FIONREAD, &n) < 0)
		return;
	for (int left = n - 1; left > 0;) {
		size_t want = (size_t)left < sizeof(junk) ? (size_t)left : sizeof(junk);
		ssize_t got = LT_REAL(recv)(fd, junk, want, MSG_DONTWAIT);

		if (got <= 0)
			return;
		left -= (int)got;
	}
}

static void spin(void)
{
	int64_t end = lt_now_ns() + (int64_t)lt.spin_us * 1000;

	while (LT_LOAD(&lt.ctx->hint_prod) == LT_PEEK(&lt.hint_cons) && lt_now_ns() < end)
		;
}

void lt_arm(void)
{
	int saved = errno;
	bool up = lt_ready();

	if (lt.spin_us && up)
		spin();
	if (lt_tls.role < 0)
		make_sleeper();
	if (lt_tls.role >= 0 && lt_tls.edge)
		clear_edges();
	__atomic_add_fetch(&lt.sleepers, 1, __ATOMIC_SEQ_CST);
	if (up && !(LT_OR(&lt.ctx->waiting, 1) & 1))
		__atomic_add_fetch(&lt.armed, 1, __ATOMIC_RELAXED);
	/* pairs with the engine (hint ring, fence, waiting) and with lt_wake_local() */
	LT_FENCE();
	if (lt_lock(LT_L_CTX)) {
		if (LT_PEEK(&lt.armed) > ARMED_MAX)
			empty_waiter();
		lt_hints_drain();
		lt_unlock(LT_L_CTX);
	}
	errno = saved;
}

void lt_disarm(void)
{
	__atomic_sub_fetch(&lt.sleepers, 1, __ATOMIC_RELAXED);
}

int lt_sleep(struct pollfd *fds, unsigned n, int64_t deadline_ns, const sigset_t *mask)
{
	int64_t left = deadline_ns < 0 ? INT64_MAX : deadline_ns - lt_now_ns();
	struct timespec ts;
	int rc;

	if (left < 0)
		left = 0;
	if (blind() && left > BLIND_NS)
		left = BLIND_NS;
	ts = (struct timespec){left / 1000000000, left % 1000000000};
	fds[n] = (struct pollfd){.fd = lt_tls.role >= 0 ? lt_role_fd((uint32_t)lt_tls.role) : -1,
				 .events = POLLIN};
	rc = LT_REAL(ppoll)(fds, n + 1, left == INT64_MAX ? NULL : &ts, mask);
	if (rc > 0 && fds[n].revents) {
		lt_tls.edge = true;
		rc--;
	}
	return rc;
}

void lt_wake_local(void)
{
	static const uint64_t one = 1;

	/* pairs with lt_arm(): sleepers up, fence, look */
	LT_FENCE();
	if (LT_PEEK(&lt.sleepers))
		raw_write(lt_role_fd(LT_ROLE_LOCAL), &one, sizeof(one));
}

/* ---- time and signals ---- */

int64_t lt_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int64_t lt_deadline_us(uint64_t us)
{
	return us ? lt_now_ns() + (int64_t)us * 1000 : -1;
}

int64_t lt_deadline_ts(const struct timespec *ts)
{
	if (!ts)
		return -1;
	if (ts->tv_sec > 1000000000) /* 31 years */
		return INT64_MAX;
	return lt_now_ns() + (int64_t)ts->tv_sec * 1000000000 + ts->tv_nsec;
}

bool lt_expired(int64_t deadline_ns)
{
	return deadline_ns >= 0 && lt_now_ns() >= deadline_ns;
}

/*
 * Linux restarts recv() and the like after a handler installed with SA_RESTART; our sleep is a
 * ppoll(), which it never restarts, and it does not say which signal came.  If every handler of
 * the process has SA_RESTART it was one of those; if not, EINTR is the answer Linux could have
 * given.
 */
bool lt_restart(void)
{
	for (int sig = 1; sig < NSIG; sig++) {
		struct sigaction sa;

		if (sigaction(sig, NULL, &sa) < 0 || sa.sa_handler == SIG_DFL ||
		    sa.sa_handler == SIG_IGN)
			continue;
		if (!(sa.sa_flags & SA_RESTART))
			return false;
	}
	return true;
}
