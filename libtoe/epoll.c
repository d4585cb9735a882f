// SPDX-License-Identifier: BSD-3-Clause
/*
 * The epoll calls: kernel and offloaded descriptors in one set.
 *
 * In: the application's calls; out: events.  The application's set is a real kernel epoll set, in
 * which everything but offloaded connections is registered.  Kernel TCP sockets and listeners are
 * registered there with a tag instead of the application's data, because they may become offloaded
 * later, and because a listener is ready for two reasons and must be reported once.
 *
 * Waiting: collect from the side table (after draining hints) and from the kernel, in turns who
 * may fill the array first; if there is nothing: lt_arm(), collect again, sleep in ppoll() on the
 * kernel set and this thread's sleeper, which wakes for hints and for other threads' epoll_ctl().
 * ppoll() and not the kernel's epoll_wait(): the set may be shared with another process after fork,
 * and nothing of ours must be in it that the other one could consume.
 *
 * While a set has only kernel descriptors its waiters are in the kernel's epoll_wait(), as without
 * us.  The first offloaded descriptor adds a descriptor that is always readable, tagged
 * LT_TAG_KICK, which gets them out once.
 *
 * Differs from Linux: after fork the side table is a copy; closing a descriptor ends its offloaded
 * registration even if a dup is open.
 */
#include <stdint.h>

#include "libtoe/epoll_int.h"

/* ---- create ---- */

static int track(int fd)
{
	lt_ent e;

	if (fd < 0)
		return fd;
	e = lt_epoll_new();
	if (!lt_fd_set(fd, e) && e)
		lt_epoll_ref(lt_ent_index(e), -1);
	return fd;
}

int lt_epoll_create(int size)
{
	return track(LT_REAL(epoll_create)(size));
}

int lt_epoll_create1(int flags)
{
	return track(LT_REAL(epoll_create1)(flags));
}

/* A set made elsewhere (exec, SCM_RIGHTS, a raw system call). */
static struct lt_epoll *adopt(int epfd)
{
	lt_ent e;

	/* EINVAL: not an epoll set */
	if (lt_fd_get(epfd) || lt_foreign() ||
	    (LT_REAL(epoll_ctl)(epfd, EPOLL_CTL_DEL, lt_role_fd(LT_ROLE_LOCAL), NULL) < 0 &&
	     errno != ENOENT))
		return NULL;
	e = lt_epoll_new();
	if (!e)
		return NULL;
	if (!lt_fd_set(epfd, e)) {
		lt_epoll_ref(lt_ent_index(e), -1);
		return NULL;
	}
	return lt_epoll_get(e);
}

/* ---- ctl ---- */

static int check_event(int op, const struct epoll_event *ev, const struct lt_item *it)
{
	static const uint32_t with_exclusive =
		EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE;

	if (op == EPOLL_CTL_DEL)
		return it ? 0 : -ENOENT;
	if (op == EPOLL_CTL_MOD && !it)
		return -ENOENT;
	if (op == EPOLL_CTL_ADD && it)
		return -EEXIST;
	if ((ev->events & EPOLLEXCLUSIVE) &&
	    (op == EPOLL_CTL_MOD || (ev->events & ~with_exclusive)))
		return -EINVAL;
	if (op == EPOLL_CTL_MOD && (it->events & EPOLLEXCLUSIVE))
		return -EINVAL;
	return 0;
}

/* The kernel's half of a socket or set that has both. */
static int kernel_half(int epfd, int op, int fd, const struct epoll_event *ev)
{
	struct epoll_event tagged = {.events = ev ? ev->events : 0,
				     .data.u64 = lt.ev_tag | (uint64_t)fd};

	return LT_REAL(epoll_ctl)(epfd, op, fd, &tagged) < 0 ? -errno : 0;
}

/* Threads in the kernel's epoll_wait() come out and look at the items from now on. */
static void kick(struct lt_epoll *ep, int epfd)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLET, .data.u64 = lt.ev_tag | LT_TAG_KICK};

	LT_FENCE();
	if (LT_PEEK(&ep->kernel_waiters))
		LT_REAL(epoll_ctl)(epfd, EPOLL_CTL_ADD, lt_role_fd(LT_ROLE_LOCAL), &ev);
}

static int change_item(struct lt_epoll *ep, int op, int fd, lt_ent e, const struct epoll_event *ev)
{
	struct lt_item *it = lt_item_find(ep, fd, e);
	int rc = check_event(op, ev, it);

	if (rc < 0)
		return rc;
	if (op == EPOLL_CTL_ADD) {
		it = lt_item_at(ep, fd);
		if (!it)
			return -ENOSPC;
		lt_item_add(it, e, ev, lt_ent_kind(e) != LT_CONN);
	} else if (op == EPOLL_CTL_MOD) {
		lt_item_change(it, ev);
	} else {
		lt_item_drop(it);
		return 0;
	}
	return lt_item_ready(it) ? 1 : 0;
}

static int change(struct lt_epoll *ep, int epfd, int op, int fd, const struct epoll_event *ev)
{
	lt_ent e = lt_fd_get(fd);
	bool was;
	int rc = 0;

	if (op != EPOLL_CTL_ADD && op != EPOLL_CTL_MOD && op != EPOLL_CTL_DEL)
		return -EINVAL;
	if (op != EPOLL_CTL_DEL && !ev)
		return -EFAULT;
	lt_ready();
	if (lt_ent_kind(e) != LT_CONN)
		rc = kernel_half(epfd, op, fd, ev);
	if (rc < 0)
		return rc;
	if (!lt_lock(LT_L_CTX))
		return -ENOMEM; /* a handler that interrupted epoll */
	was = ep->offloaded;
	rc = change_item(ep, op, fd, e, ev);
	lt_unlock(LT_L_CTX);
	if (ep->offloaded && !was)
		kick(ep, epfd);
	if (rc > 0)
		lt_wake_local();
	/* the kernel has said yes: an item of a set we did not see from the start */
	if (lt_ent_kind(e) != LT_CONN && (rc == -ENOENT || rc == -EEXIST))
		rc = 0;
	return rc < 0 ? rc : 0;
}

int lt_epoll_ctl(int epfd, int op, int fd, struct epoll_event *ev)
{
	lt_ent e = lt_fd_get(fd);
	enum lt_kind kind = lt_ent_kind(e);
	struct lt_epoll *ep = lt_epoll_get(lt_fd_get(epfd));
	int rc;

	if (lt_ent_hidden(e) || lt_ent_hidden(lt_fd_get(epfd))) {
		errno = EBADF;
		return -1;
	}
	if (kind == LT_NONE || epfd == fd)
		return LT_REAL(epoll_ctl)(epfd, op, fd, ev);
	if (!ep && (kind == LT_CONN || kind == LT_LISTENER))
		ep = adopt(epfd);
	if (!ep) {
		/* not a set, or (sockets of the kernel) not one we follow */
		if (kind != LT_CONN)
			return LT_REAL(epoll_ctl)(epfd, op, fd, ev);
		errno = EINVAL;
		return -1;
	}
	rc = change(ep, epfd, op, fd, ev);
	if (rc < 0)
		errno = -rc;
	return rc < 0 ? -1 : 0;
}

/* ---- wait ---- */

struct wait {
	struct lt_epoll *ep;
	lt_ent ent;
	int epfd;
	struct epoll_event *ev;
	unsigned max;
	int64_t deadline_ns; /* -1: none, 0: do not wait */
	const sigset_t *mask;
};

/*
 * One event of the kernel's that carries a tag.  False: nothing to report, or (a listener, whose
 * other half is among the first n events) reported already.
 */
static bool translate(struct wait *w, struct epoll_event *ev, unsigned n)
{
	int fd = (int)(ev->data.u64 & LT_TAG_FD);
	struct lt_item *it;

	if ((uint64_t)fd == LT_TAG_KICK) {
		LT_REAL(epoll_ctl)(w->epfd, EPOLL_CTL_DEL, lt_role_fd(LT_ROLE_LOCAL), NULL);
		return false;
	}
	if ((unsigned)fd >= lt_fds.n)
		return false;
	it = &w->ep->items[fd];
	ev->data.u64 = it->data;
	if (!it->used)
		return true;
	if (it->events & EPOLLONESHOT)
		it->off = true;
	return lt_ent_kind(it->ent) == LT_KSOCK || !lt_event_merge(w->ev, n, ev);
}

/* What the kernel's set has, behind n events of ours; new count. */
static unsigned untag(struct wait *w, unsigned n, unsigned k)
{
	bool locked = lt_lock(LT_L_CTX);
	unsigned out = n;

	for (unsigned i = n; i < n + k; i++) {
		struct epoll_event one = w->ev[i];

		if ((one.data.u64 & ~LT_TAG_FD) != lt.ev_tag || translate(w, &one, n))
			w->ev[out++] = one;
	}
	if (locked)
		lt_unlock(LT_L_CTX);
	return out;
}

static unsigned from_kernel(struct wait *w, unsigned n)
{
	int saved = errno;
	int k = 0;

	if (n < w->max)
		k = LT_REAL(epoll_wait)(w->epfd, w->ev + n, (int)(w->max - n), 0);
	errno = saved;
	return k > 0 ? untag(w, n, (unsigned)k) : n;
}

static unsigned from_items(struct wait *w, unsigned n)
{
	if (n >= w->max || !lt_lock(LT_L_CTX))
		return n;
	lt_hints_drain();
	n = lt_items_collect(w->ep, w->epfd, w->ev, n, w->max);
	lt_unlock(LT_L_CTX);
	return n;
}

static unsigned collect(struct wait *w)
{
	bool items_first = !LT_PEEK(&w->ep->turn);

	LT_STORE(&w->ep->turn, items_first);
	return items_first ? from_items(w, from_kernel(w, 0)) : from_kernel(w, from_items(w, 0));
}

/* Nothing was ready: sleep until something may be.  0: look again; -errno. */
static int sleep_once(struct wait *w, unsigned *n)
{
	struct pollfd p[2] = {{.fd = w->epfd, .events = POLLIN}};
	int rc = 0;

	lt_arm();
	*n = from_items(w, 0);
	if (*n)
		*n = from_kernel(w, *n);
	else
		rc = lt_sleep(p, 1, w->deadline_ns, w->mask) < 0 ? -errno : 0;
	lt_disarm();
	return rc;
}

static int left_ms(int64_t deadline_ns)
{
	int64_t left;

	if (deadline_ns <= 0)
		return (int)deadline_ns;
	left = (deadline_ns - lt_now_ns() + 999999) / 1000000;
	return left < 0 ? 0 : left > INT32_MAX ? INT32_MAX : (int)left;
}

/* Only kernel descriptors so far.  -EAGAIN: look at the items. */
static int wait_kernel(struct wait *w)
{
	int rc = -EAGAIN;

	__atomic_add_fetch(&w->ep->kernel_waiters, 1, __ATOMIC_SEQ_CST);
	LT_FENCE(); /* pairs with kick() */
	if (!LT_LOAD(&w->ep->offloaded)) {
		rc = LT_REAL(epoll_pwait)(w->epfd, w->ev, (int)w->max, left_ms(w->deadline_ns),
					  w->mask);
		if (rc < 0)
			rc = -errno;
	}
	__atomic_sub_fetch(&w->ep->kernel_waiters, 1, __ATOMIC_SEQ_CST);
	if (rc <= 0)
		return rc;
	rc = (int)untag(w, 0, (unsigned)rc);
	return rc ? rc : -EAGAIN;
}

static int wait_both(struct wait *w)
{
	for (;;) {
		unsigned n;
		int rc;

		if (!LT_LOAD(&w->ep->offloaded)) {
			rc = wait_kernel(w);
			if (rc != -EAGAIN)
				return rc;
		}
		n = collect(w);
		if (n || w->deadline_ns == 0)
			return (int)n;
		rc = sleep_once(w, &n);
		if (n)
			return (int)n;
		if (rc < 0)
			return rc;
		if (lt_fd_get(w->epfd) != w->ent)
			return -EBADF;
		if (lt_expired(w->deadline_ns))
			w->deadline_ns = 0; /* one last look */
	}
}

static int do_wait(struct wait *w)
{
	int saved = errno;
	int rc;

	if ((int)w->max <= 0 || w->max > INT32_MAX / sizeof(struct epoll_event)) {
		errno = EINVAL;
		return -1;
	}
	rc = wait_both(w);
	errno = rc < 0 ? -rc : saved;
	return rc < 0 ? -1 : rc;
}

/* False: not a set that we follow, it is the kernel's. */
static bool begin(struct wait *w, int epfd)
{
	lt_broker_waits();
	w->ent = lt_fd_get(epfd);
	w->epfd = epfd;
	w->ep = lt_epoll_get(w->ent);
	return w->ep;
}

int lt_epoll_pwait(int epfd, struct epoll_event *ev, int max, int timeout, const sigset_t *mask)
{
	struct wait w = {.ev = ev, .max = (unsigned)max, .mask = mask};

	if (!begin(&w, epfd))
		return LT_REAL(epoll_pwait)(epfd, ev, max, timeout, mask);
	w.deadline_ns = timeout < 0    ? -1
			: timeout == 0 ? 0
				       : lt_now_ns() + (int64_t)timeout * 1000000;
	return do_wait(&w);
}

int lt_epoll_wait(int epfd, struct epoll_event *ev, int max, int timeout)
{
	return lt_epoll_pwait(epfd, ev, max, timeout, NULL);
}

int lt_epoll_pwait2(int epfd, struct epoll_event *ev, int max, const struct timespec *timeout,
		    const sigset_t *mask)
{
	struct wait w = {.ev = ev, .max = (unsigned)max, .mask = mask};

	if (!begin(&w, epfd))
		return LT_REAL(epoll_pwait2)(epfd, ev, max, timeout, mask);
	if (timeout &&
	    (timeout->tv_sec < 0 || timeout->tv_nsec < 0 || timeout->tv_nsec >= 1000000000)) {
		errno = EINVAL;
		return -1;
	}
	w.deadline_ns =
		timeout && !timeout->tv_sec && !timeout->tv_nsec ? 0 : lt_deadline_ts(timeout);
	return do_wait(&w);
}
