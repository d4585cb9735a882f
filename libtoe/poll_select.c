// SPDX-License-Identifier: BSD-3-Clause
/*
 * poll and select over kernel and offloaded descriptors.
 *
 * In: the application's sets; out: the same with results.  Without offloaded descriptors the call
 * is libc's.  Otherwise: look at the offloaded ones (level state); if none is ready, lt_arm(), look
 * again, and sleep in ppoll() on the kernel ones and this thread's sleeper.  Listeners and epoll
 * sets are in both groups.  No state; the working copy is on the stack, for many descriptors
 * mapped.
 */
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "libtoe/lt.h"

#define STACK_FDS 512u

/* What fd has beyond what the kernel says, in POLL* bits (the same values as EPOLL*). */
static uint32_t extra(int fd)
{
	lt_ent e = lt_fd_get(fd);
	struct lt_sock c;

	switch (lt_ent_kind(e)) {
	case LT_CONN:
		lt_sock_of(fd, e, &c);
		return lt_conn_events(&c);
	case LT_LISTENER:
		return lt_listener_events(lt_ent_index(e));
	case LT_EPOLL:
		return lt_epoll_events(lt_ent_index(e));
	default:
		return 0;
	}
}

static bool is_ours(int fd)
{
	lt_ent e = fd >= 0 ? lt_fd_get(fd) : 0;

	switch (lt_ent_kind(e)) {
	case LT_CONN:
	case LT_LISTENER:
		return true;
	case LT_EPOLL:
		return lt_epoll_offloaded(lt_ent_index(e));
	default:
		return false;
	}
}

static int look(struct pollfd *fds, unsigned n)
{
	int ready = 0;

	for (unsigned i = 0; i < n; i++) {
		fds[i].revents = 0;
		if (!is_ours(fds[i].fd))
			continue;
		fds[i].revents =
			(short)(extra(fds[i].fd) & ((uint32_t)fds[i].events | POLLERR | POLLHUP));
		ready += fds[i].revents != 0;
	}
	return ready;
}

/* The kernel's answers in work to those in fds; how many are ready. */
static int merge(struct pollfd *fds, const struct pollfd *work, unsigned n)
{
	int ready = 0;

	for (unsigned i = 0; i < n; i++) {
		if (work[i].fd >= 0)
			fds[i].revents |= work[i].revents;
		ready += fds[i].revents != 0;
	}
	return ready;
}

struct job {
	struct pollfd *fds;
	struct pollfd *work; /* n + 1; connections have fd -1 */
	unsigned n;
	int64_t deadline_ns; /* -1: none */
	bool no_wait;
	const sigset_t *mask;
};

/* -EAGAIN: nothing yet, time left. */
static int step(struct job *j)
{
	static const struct timespec now;
	int ready = look(j->fds, j->n);
	int rc = 0;

	if (!ready && !j->no_wait) {
		lt_arm();
		ready = look(j->fds, j->n);
		if (!ready)
			rc = lt_sleep(j->work, j->n, j->deadline_ns, j->mask);
		lt_disarm();
		if (rc < 0)
			return -errno;
		if (!ready)
			look(j->fds, j->n);
	}
	if (ready || j->no_wait)
		rc = LT_REAL(ppoll)(j->work, j->n, &now, NULL);
	if (rc <= 0) {
		for (unsigned i = 0; i < j->n; i++)
			j->work[i].revents = 0;
	}
	ready = merge(j->fds, j->work, j->n);
	if (ready || j->no_wait)
		return ready;
	if (lt_expired(j->deadline_ns))
		j->no_wait = true; /* one last look */
	return -EAGAIN;
}

static int run(struct job *j)
{
	int saved = errno;
	int rc;

	lt_ready();
	for (unsigned i = 0; i < j->n; i++) {
		j->work[i] = j->fds[i];
		if (j->fds[i].fd >= 0 && lt_ent_kind(lt_fd_get(j->fds[i].fd)) == LT_CONN)
			j->work[i].fd = -1;
	}
	do
		rc = step(j);
	while (rc == -EAGAIN);
	errno = rc < 0 ? -rc : saved;
	return rc < 0 ? -1 : rc;
}

/* Room for n entries: stack, or a mapping that is to be unmapped.  NULL: no memory. */
static struct pollfd *room(struct pollfd *stack, size_t n)
{
	void *p;

	if (n <= STACK_FDS)
		return stack;
	p = mmap(NULL, n * sizeof(*stack), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		 0);
	return p == MAP_FAILED ? NULL : p;
}

static void give_back(struct pollfd *p, const struct pollfd *stack, size_t n)
{
	if (p != stack)
		munmap(p, n * sizeof(*p));
}

static bool bad_time(const struct timespec *ts)
{
	return ts && (ts->tv_sec < 0 || ts->tv_nsec < 0 || ts->tv_nsec >= 1000000000);
}

static int poll_both(struct pollfd *fds, unsigned n, const struct timespec *timeout,
		     const sigset_t *mask)
{
	struct pollfd stack[STACK_FDS];
	struct job j = {.fds = fds,
			.work = room(stack, (size_t)n + 1),
			.n = n,
			.deadline_ns = lt_deadline_ts(timeout),
			.no_wait = timeout && !timeout->tv_sec && !timeout->tv_nsec,
			.mask = mask};
	int rc;

	if (!j.work) {
		errno = ENOMEM;
		return -1;
	}
	rc = run(&j);
	give_back(j.work, stack, (size_t)n + 1);
	return rc;
}

static bool any_ours(const struct pollfd *fds, nfds_t n)
{
	for (nfds_t i = 0; i < n; i++) {
		if (is_ours(fds[i].fd))
			return true;
	}
	return false;
}

int lt_ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask)
{
	if (n >= lt_fds.n || bad_time(timeout) || !any_ours(fds, n))
		return LT_REAL(ppoll)(fds, n, timeout, mask);
	return poll_both(fds, (unsigned)n, timeout, mask);
}

int lt_poll(struct pollfd *fds, nfds_t n, int timeout)
{
	struct timespec ts = {timeout / 1000, timeout % 1000 * 1000000L};

	if (n >= lt_fds.n || !any_ours(fds, n))
		return LT_REAL(poll)(fds, n, timeout);
	return poll_both(fds, (unsigned)n, timeout < 0 ? NULL : &ts, NULL);
}

int lt___poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t room_bytes)
{
	return room_bytes / sizeof(*fds) < n ? LT_REAL(__poll_chk)(fds, n, timeout, room_bytes)
					     : lt_poll(fds, n, timeout);
}

int lt___ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
		   const sigset_t *mask, size_t room_bytes)
{
	return room_bytes / sizeof(*fds) < n
		       ? LT_REAL(__ppoll_chk)(fds, n, timeout, mask, room_bytes)
		       : lt_ppoll(fds, n, timeout, mask);
}

/* ---- select ---- */

#define SEL_IN  (POLLIN | POLLRDNORM | POLLRDBAND | POLLHUP | POLLERR)
#define SEL_OUT (POLLOUT | POLLWRNORM | POLLWRBAND | POLLERR)
#define SEL_EX  POLLPRI

#define WORD_BITS (8 * (int)sizeof(unsigned long))

/* Sets may be larger than fd_set: programs allocate their own. */
static bool bit(const fd_set *set, int fd)
{
	return set && ((const unsigned long *)set)[fd / WORD_BITS] >> (fd % WORD_BITS) & 1;
}

static void put_bit(fd_set *set, int fd, bool on)
{
	if (on)
		((unsigned long *)set)[fd / WORD_BITS] |= 1ul << (fd % WORD_BITS);
}

static void clear(fd_set *set, int n)
{
	if (set)
		memset(set, 0, (size_t)((n + WORD_BITS - 1) / WORD_BITS) * sizeof(long));
}

struct sets {
	int n;
	fd_set *in;
	fd_set *out;
	fd_set *ex;
};

static short wanted(const struct sets *s, int fd)
{
	return (short)((bit(s->in, fd) ? POLLIN | POLLRDNORM | POLLRDBAND : 0) |
		       (bit(s->out, fd) ? POLLOUT | POLLWRNORM | POLLWRBAND : 0) |
		       (bit(s->ex, fd) ? POLLPRI : 0));
}

static bool select_ours(const struct sets *s)
{
	uint32_t used = LT_PEEK(&lt_fds.used);

	for (int fd = 0; fd < s->n && (uint32_t)fd < used; fd++) {
		if (wanted(s, fd) && is_ours(fd))
			return true;
	}
	return false;
}

/* Bits out of revents; the count select() returns. */
static int answer(struct sets *s, const struct pollfd *fds, unsigned n)
{
	struct sets asked = *s;
	int count = 0;

	for (unsigned i = 0; i < n; i++) {
		if (fds[i].revents & POLLNVAL) {
			errno = EBADF;
			return -1;
		}
	}
	clear(asked.in, s->n);
	clear(asked.out, s->n);
	clear(asked.ex, s->n);
	for (unsigned i = 0; i < n; i++) {
		short r = fds[i].revents;
		bool in = (fds[i].events & POLLIN) && (r & SEL_IN);
		bool out = (fds[i].events & POLLOUT) && (r & SEL_OUT);
		bool ex = (fds[i].events & POLLPRI) && (r & SEL_EX);

		put_bit(s->in, fds[i].fd, in);
		put_bit(s->out, fds[i].fd, out);
		put_bit(s->ex, fds[i].fd, ex);
		count += in + out + ex;
	}
	return count;
}

static int select_both(struct sets *s, const struct timespec *timeout, const sigset_t *mask)
{
	struct pollfd stack[STACK_FDS];
	struct pollfd *fds = room(stack, (size_t)s->n);
	unsigned n = 0;
	int rc;

	if (!fds) {
		errno = ENOMEM;
		return -1;
	}
	for (int fd = 0; fd < s->n; fd++) {
		short want = wanted(s, fd);

		if (want)
			fds[n++] = (struct pollfd){.fd = fd, .events = want};
	}
	rc = poll_both(fds, n, timeout, mask);
	if (rc >= 0)
		rc = answer(s, fds, n);
	give_back(fds, stack, (size_t)s->n);
	return rc;
}

int lt_pselect(int n, fd_set *restrict in, fd_set *restrict out, fd_set *restrict ex,
	       const struct timespec *restrict timeout, const sigset_t *restrict mask)
{
	struct sets s = {n, in, out, ex};

	if (n <= 0 || (uint32_t)n > lt_fds.n || bad_time(timeout) || !select_ours(&s))
		return LT_REAL(pselect)(n, in, out, ex, timeout, mask);
	return select_both(&s, timeout, mask);
}

/* Linux writes the time that is left into *timeout. */
int lt_select(int n, fd_set *restrict in, fd_set *restrict out, fd_set *restrict ex,
	      struct timeval *restrict timeout)
{
	struct sets s = {n, in, out, ex};
	struct timespec ts;
	int64_t end;
	int64_t left;
	int rc;

	if (n <= 0 || (uint32_t)n > lt_fds.n ||
	    (timeout && (timeout->tv_sec < 0 || timeout->tv_usec < 0)) || !select_ours(&s))
		return LT_REAL(select)(n, in, out, ex, timeout);
	if (!timeout)
		return select_both(&s, NULL, NULL);
	ts.tv_sec = timeout->tv_sec + timeout->tv_usec / 1000000;
	ts.tv_nsec = timeout->tv_usec % 1000000 * 1000;
	end = lt_deadline_ts(&ts);
	rc = select_both(&s, &ts, NULL);
	left = end - lt_now_ns();
	if (left < 0)
		left = 0;
	timeout->tv_sec = left / 1000000000;
	timeout->tv_usec = left % 1000000000 / 1000;
	return rc;
}
