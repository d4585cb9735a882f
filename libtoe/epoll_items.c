// SPDX-License-Identifier: BSD-3-Clause
/*
 * Side tables of epoll sets: what the kernel cannot know about offloaded descriptors.
 *
 * In: epoll_ctl, hints (marks), closes; out: events to report.  State: sets and their items, one
 * array by descriptor per set; all under LT_L_CTX.  Memory of a set is kept for the next one, so a
 * thread that still sleeps in a closed set finds a generation that differs, never freed memory.
 *
 * An item is in its set's ready list when it may have something to report: after a hint, ADD, MOD,
 * a local shutdown.  Whoever collects looks at the level state: level-triggered items stay in the
 * list while they are ready and go to its end when reported, so a few busy ones cannot hide the
 * rest; edge-triggered ones leave it, and count as an edge only if bytes came, the state changed,
 * or there is space after a send that found none.
 */
#include <string.h>

#include "common/map_sparse.h"
#include "libtoe/epoll_int.h"

#define NEST_MAX 5 /* as Linux: epoll sets in epoll sets */

static struct lt_epoll *sets[LT_EPOLL_N];
static uint32_t sets_n;

/* ---- sets ---- */

struct lt_epoll *lt_epoll_get(lt_ent e)
{
	struct lt_epoll *ep;

	if (lt_ent_kind(e) != LT_EPOLL || lt_ent_index(e) >= LT_EPOLL_N)
		return NULL;
	ep = LT_LOAD(&sets[lt_ent_index(e)]);
	return ep && ep->gen == lt_ent_gen(e) ? ep : NULL;
}

static struct lt_epoll *map_set(uint32_t index)
{
	size_t head = (sizeof(struct lt_epoll) + 63) & ~(size_t)63;
	void *p = toe_map_sparse(head + lt_fds.n * sizeof(struct lt_item));
	struct lt_epoll *ep = p;

	if (!p)
		return NULL;
	ep->index = index;
	ep->items = (struct lt_item *)((uint8_t *)p + head);
	LT_STORE(&sets[index], ep);
	if (index >= sets_n)
		sets_n = index + 1;
	return ep;
}

lt_ent lt_epoll_new(void)
{
	lt_ent e = 0;

	if (!lt_lock(LT_L_CTX))
		return 0;
	for (uint32_t i = 0; i < LT_EPOLL_N && !e; i++) {
		struct lt_epoll *ep = sets[i];

		if (ep && LT_PEEK(&ep->refs))
			continue;
		if (!ep)
			ep = map_set(i);
		if (!ep)
			break;
		ep->refs = 1;
		ep->gen++;
		e = lt_ent_make(LT_EPOLL, i, ep->gen);
	}
	lt_unlock(LT_L_CTX);
	return e;
}

static void set_free(struct lt_epoll *ep)
{
	for (uint32_t i = 0; i < ep->top; i++)
		lt_item_drop(&ep->items[i]);
	for (struct lt_item *it = ep->watch, *next; it; it = next) {
		next = it->w_next;
		lt_item_drop(it);
	}
	ep->gen++;
	ep->top = 0;
	ep->offloaded = false;
	ep->head = ep->tail = NULL;
	ep->ready_n = 0;
}

void lt_epoll_ref(uint32_t index, int by)
{
	struct lt_epoll *ep = index < LT_EPOLL_N ? LT_LOAD(&sets[index]) : NULL;

	if (!ep)
		return;
	if (by > 0) {
		__atomic_add_fetch(&ep->refs, 1, __ATOMIC_RELAXED);
		return;
	}
	if (!lt_lock(LT_L_CTX)) {
		/* in a handler that interrupted the owner: the set stays unused */
		__atomic_sub_fetch(&ep->refs, 1, __ATOMIC_RELAXED);
		return;
	}
	if (__atomic_sub_fetch(&ep->refs, 1, __ATOMIC_RELAXED) == 0)
		set_free(ep);
	lt_unlock(LT_L_CTX);
}

bool lt_epoll_offloaded(uint32_t index)
{
	const struct lt_epoll *ep = index < LT_EPOLL_N ? LT_LOAD(&sets[index]) : NULL;

	return ep && LT_PEEK(&ep->offloaded);
}

/* ---- ready list ---- */

static void unqueue(struct lt_item *it)
{
	struct lt_epoll *ep = it->ep;

	if (!it->queued)
		return;
	*(it->r_prev ? &it->r_prev->r_next : &ep->head) = it->r_next;
	*(it->r_next ? &it->r_next->r_prev : &ep->tail) = it->r_prev;
	it->queued = false;
	ep->ready_n--;
}

static void queue(struct lt_item *it)
{
	struct lt_epoll *ep = it->ep;

	if (it->queued)
		return;
	it->queued = true;
	it->r_next = NULL;
	it->r_prev = ep->tail;
	*(ep->tail ? &ep->tail->r_next : &ep->head) = it;
	ep->tail = it;
	ep->ready_n++;
}

static void mark(struct lt_item *it, int depth)
{
	queue(it);
	for (struct lt_item *outer = it->ep->watch; outer && depth < NEST_MAX;
	     outer = outer->w_next) {
		outer->force = true;
		mark(outer, depth + 1);
	}
}

void lt_item_mark(struct lt_item *it)
{
	mark(it, 0);
}

void lt_epoll_mark(struct lt_item *list)
{
	for (; list; list = list->w_next)
		mark(list, 0);
}

void lt_epoll_mark_all(void)
{
	for (uint32_t i = 0; i < sets_n; i++) {
		for (uint32_t fd = 0; sets[i] && fd < sets[i]->top; fd++) {
			if (sets[i]->items[fd].used)
				mark(&sets[i]->items[fd], 0);
		}
	}
}

/* ---- items ---- */

struct lt_item *lt_item_at(struct lt_epoll *ep, int fd)
{
	struct lt_item *it;

	if ((unsigned)fd >= lt_fds.n)
		return NULL;
	it = &ep->items[fd];
	it->ep = ep;
	it->fd = fd;
	if (ep->top <= (unsigned)fd)
		ep->top = (uint32_t)fd + 1;
	return it;
}

struct lt_item *lt_item_find(struct lt_epoll *ep, int fd, lt_ent e)
{
	struct lt_item *it;

	if ((unsigned)fd >= ep->top)
		return NULL;
	it = &ep->items[fd];
	if (it->used && it->ent != e)
		lt_item_drop(it); /* the descriptor was closed and came again */
	return it->used ? it : NULL;
}

static struct lt_item **watchers(lt_ent e)
{
	uint32_t i = lt_ent_index(e);

	switch (lt_ent_kind(e)) {
	case LT_CONN:
		return &lt.conns[i].watch;
	case LT_LISTENER:
		return &lt.lsocks[i].watch;
	case LT_EPOLL:
		return sets[i] ? &sets[i]->watch : NULL;
	default:
		return NULL;
	}
}

static void unlink_watch(struct lt_item *it)
{
	if (!it->w_at)
		return;
	*it->w_at = it->w_next;
	if (it->w_next)
		it->w_next->w_at = it->w_at;
	it->w_at = NULL;
}

static void link_watch(struct lt_item *it)
{
	struct lt_item **at = watchers(it->ent);

	if (!at)
		return;
	it->w_next = *at;
	it->w_at = at;
	if (*at)
		(*at)->w_at = &it->w_next;
	*at = it;
	LT_STORE(&it->ep->offloaded, true);
}

void lt_item_change(struct lt_item *it, const struct epoll_event *ev)
{
	it->events = ev->events;
	it->data = ev->data.u64;
	it->off = false;
	it->force = true;
	if (it->w_at)
		lt_item_mark(it);
}

void lt_item_add(struct lt_item *it, lt_ent e, const struct epoll_event *ev, bool kernel)
{
	it->ent = e;
	it->used = true;
	it->kernel = kernel;
	link_watch(it);
	lt_item_change(it, ev);
}

/* data stays: the kernel may still report the descriptor if a dup of it is open, as Linux does. */
void lt_item_drop(struct lt_item *it)
{
	if (!it->used)
		return;
	unqueue(it);
	unlink_watch(it);
	it->used = false;
}

static uint32_t object_events(lt_ent e, int fd)
{
	struct lt_sock c;

	switch (lt_ent_kind(e)) {
	case LT_CONN:
		lt_sock_of(fd, e, &c);
		return lt_conn_events(&c);
	case LT_LISTENER:
		return lt_listener_events(lt_ent_index(e));
	case LT_EPOLL: {
		const struct lt_epoll *ep = lt_epoll_get(e);

		for (const struct lt_item *it = ep ? ep->head : NULL; it; it = it->r_next) {
			if (lt_item_ready(it))
				return EPOLLIN | EPOLLRDNORM;
		}
		return 0;
	}
	default:
		return 0;
	}
}

uint32_t lt_item_ready(const struct lt_item *it)
{
	if (!it->used || it->off || lt_fd_get(it->fd) != it->ent)
		return 0;
	return object_events(it->ent, it->fd) & (it->events | EPOLLERR | EPOLLHUP);
}

/* Has something happened since the last look?  Remembers this one. */
static bool edge(struct lt_item *it, uint32_t ready)
{
	uint32_t rx = it->seen_rx;
	uint32_t sig = it->seen_sig;
	uint32_t nospace = it->seen_nospace;
	bool forced = it->force;
	struct lt_sock c;

	it->force = false;
	if (lt_ent_kind(it->ent) == LT_LISTENER) {
		it->seen_rx = LT_LOAD(&lt_listener(lt_ent_index(it->ent))->prod);
		return forced || it->seen_rx != rx;
	}
	if (lt_ent_kind(it->ent) != LT_CONN)
		return forced;
	lt_sock_of(it->fd, it->ent, &c);
	it->seen_sig = lt_conn_sig(&c, &it->seen_rx);
	if (ready & EPOLLOUT)
		it->seen_nospace = LT_LOAD(&c.lib->nospace_seq);
	return forced || it->seen_rx != rx || it->seen_sig != sig || it->seen_nospace != nospace;
}

static void fired(struct lt_item *it, int epfd)
{
	struct epoll_event none = {.events = 0};

	it->off = true;
	none.data.u64 = lt.ev_tag | (uint64_t)it->fd;
	if (it->kernel)
		LT_REAL(epoll_ctl)(epfd, EPOLL_CTL_MOD, it->fd, &none);
}

bool lt_event_merge(struct epoll_event *ev, unsigned n, const struct epoll_event *more)
{
	for (unsigned i = 0; i < n; i++) {
		if (ev[i].data.u64 == more->data.u64) {
			ev[i].events |= more->events;
			return true;
		}
	}
	return false;
}

unsigned lt_items_collect(struct lt_epoll *ep, int epfd, struct epoll_event *ev, unsigned n,
			  unsigned max)
{
	unsigned before = n;

	for (uint32_t left = ep->ready_n; left > 0 && n < max; left--) {
		struct lt_item *it = ep->head;
		struct epoll_event one;

		unqueue(it);
		if (lt_fd_get(it->fd) != it->ent) {
			lt_item_drop(it);
			continue;
		}
		/* seen before looked: what comes in between is found again */
		if ((it->events & EPOLLET) && !edge(it, lt_item_ready(it)))
			continue;
		one.events = lt_item_ready(it);
		one.data.u64 = it->data;
		if (!one.events)
			continue;
		if (!it->kernel || !lt_event_merge(ev, before, &one))
			ev[n++] = one;
		if (it->events & EPOLLONESHOT)
			fired(it, epfd);
		else if (!(it->events & EPOLLET))
			queue(it);
	}
	return n;
}

uint32_t lt_epoll_events(uint32_t index)
{
	struct lt_epoll *ep = index < LT_EPOLL_N ? LT_LOAD(&sets[index]) : NULL;
	uint32_t ev = 0;

	if (!ep || !lt_lock(LT_L_CTX))
		return 0;
	lt_hints_drain();
	if (ep->refs)
		ev = object_events(lt_ent_make(LT_EPOLL, index, ep->gen), -1);
	lt_unlock(LT_L_CTX);
	return ev;
}

/* ---- descriptors that change under us ---- */

void lt_epoll_fd_closed(int fd, lt_ent e)
{
	/* In a handler that interrupted the owner: items notice by themselves (ent). */
	if (!lt_lock(LT_L_CTX))
		return;
	for (uint32_t i = 0; i < sets_n; i++) {
		struct lt_item *it =
			sets[i] && (unsigned)fd < sets[i]->top ? &sets[i]->items[fd] : NULL;

		if (it && it->used && it->ent == e)
			lt_item_drop(it);
	}
	lt_unlock(LT_L_CTX);
}

/* The descriptor of a set, to change the kernel's part of it. */
static int set_fd(const struct lt_epoll *ep)
{
	lt_ent e = lt_ent_make(LT_EPOLL, ep->index, ep->gen);

	for (uint32_t fd = 0; fd < LT_PEEK(&lt_fds.used); fd++) {
		if (lt_fd_get((int)fd) == e)
			return (int)fd;
	}
	return -1;
}

static void convert_item(struct lt_item *it, lt_ent to)
{
	struct epoll_event ev = {.events = it->events, .data.u64 = lt.ev_tag | (uint64_t)it->fd};
	bool to_kernel = lt_ent_kind(to) != LT_CONN;

	if (it->kernel && !to_kernel)
		LT_REAL(epoll_ctl)(set_fd(it->ep), EPOLL_CTL_DEL, it->fd, NULL);
	else if (!it->kernel && to_kernel)
		LT_REAL(epoll_ctl)(set_fd(it->ep), EPOLL_CTL_ADD, it->fd, &ev);
	unqueue(it);
	unlink_watch(it);
	it->kernel = to_kernel;
	it->ent = to;
	it->force = true;
	link_watch(it);
	if (it->w_at)
		lt_item_mark(it);
}

void lt_epoll_convert(int fd, lt_ent from, lt_ent to)
{
	if (!lt_lock(LT_L_CTX))
		return;
	for (uint32_t i = 0; i < sets_n; i++) {
		struct lt_item *it =
			sets[i] && (unsigned)fd < sets[i]->top ? &sets[i]->items[fd] : NULL;

		if (it && it->used && it->ent == from)
			convert_item(it, to);
	}
	lt_unlock(LT_L_CTX);
	lt_wake_local();
}
