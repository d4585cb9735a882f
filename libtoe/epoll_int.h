/* SPDX-License-Identifier: BSD-3-Clause */
/* Between epoll.c (the calls) and epoll_items.c (the side tables). */
#ifndef LT_EPOLL_INT_H
#define LT_EPOLL_INT_H

#include "libtoe/lt.h"

#define LT_TAG_FD   0xffffffull /* low bits of epoll data of ours: the descriptor */
#define LT_TAG_KICK 0xffffffull /* not a descriptor: only there to wake */

struct lt_epoll;

/* One descriptor in one epoll set.  All under LT_L_CTX. */
struct lt_item {
	lt_ent ent; /* what fd stood for when it was added: another now = closed meanwhile */
	uint64_t data;
	uint32_t events;
	int fd;
	bool used;
	bool kernel; /* registered in the kernel's set, too, with a tag for data */
	bool queued; /* in the ready list */
	bool off;    /* EPOLLONESHOT has fired */
	bool force;  /* the next look counts as an edge */
	uint32_t seen_rx;
	uint32_t seen_sig;
	uint32_t seen_nospace;
	struct lt_epoll *ep;
	struct lt_item *w_next; /* others that watch the same object */
	struct lt_item **w_at;
	struct lt_item *r_next; /* ready list */
	struct lt_item *r_prev;
};

struct lt_epoll {
	uint32_t index;
	uint32_t gen;
	uint32_t refs;           /* descriptors of this process; 0: free */
	uint32_t kernel_waiters; /* threads in the kernel's epoll_wait, not looking at items */
	uint32_t top;            /* one more than the largest descriptor in items */
	bool offloaded;          /* has or had items the kernel knows nothing of */
	bool turn;               /* who may fill the events first */
	struct lt_item *items;   /* by descriptor */
	struct lt_item *head;
	struct lt_item *tail;
	struct lt_item *watch; /* items of sets that contain this one */
	uint32_t ready_n;
};

struct lt_epoll *lt_epoll_get(lt_ent e); /* NULL: not a set, or closed */
lt_ent lt_epoll_new(void);               /* 0: no more */
/* The rest: LT_L_CTX held. */
struct lt_item *lt_item_at(struct lt_epoll *ep, int fd);             /* NULL: fd too large */
struct lt_item *lt_item_find(struct lt_epoll *ep, int fd, lt_ent e); /* NULL: not in the set */
void lt_item_add(struct lt_item *it, lt_ent e, const struct epoll_event *ev, bool kernel);
void lt_item_change(struct lt_item *it, const struct epoll_event *ev);
void lt_item_drop(struct lt_item *it);
void lt_item_mark(struct lt_item *it);
uint32_t lt_item_ready(const struct lt_item *it); /* bits to report now, edges aside */
/* Puts what is ready behind the n events that are there; new count. */
unsigned lt_items_collect(struct lt_epoll *ep, int epfd, struct epoll_event *ev, unsigned n,
			  unsigned max);
/* True: *more, the other half of a listener, went into one of the n events. */
bool lt_event_merge(struct epoll_event *ev, unsigned n, const struct epoll_event *more);

#endif
