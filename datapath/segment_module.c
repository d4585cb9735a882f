/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Lists of segment modules at a point of the pipeline.  A change makes a new array, publishes it
 * with a release store, waits for a grace period and frees the old one; lcores read the array with
 * acquire and never see it change.  State: struct toe_hook; changes from control threads under its
 * mutex.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "segment_module.h"
#include "toe/abi.h"

struct entry {
	const struct toe_segment_module *module;
	uint8_t *states; /* replica r at r * stride */
	size_t stride;
};

/* Immutable once published; the states it leads to belong to the replicas. */
struct list {
	unsigned n;
	struct entry entry[TOE_HOOK_MODULES_MAX];
};

struct toe_hook {
	_Atomic(struct list *) list; /* NULL: no module */
	struct rte_rcu_qsbr *qsbr;
	unsigned replicas;
	pthread_mutex_t lock; /* serialises changes */
};

static void *entry_state(const struct entry *e, unsigned replica)
{
	return e->states == NULL ? NULL : e->states + replica * e->stride;
}

static void entry_fini(const struct entry *e, unsigned replicas)
{
	for (unsigned r = 0; e->module->fini != NULL && r < replicas; r++)
		e->module->fini(entry_state(e, r), r);
	free(e->states);
}

static int entry_init(struct entry *e, const struct toe_segment_module *m, void *arg,
		      unsigned replicas)
{
	*e = (struct entry){.module = m};
	if (m->state_bytes != 0) {
		e->stride = (m->state_bytes + TOE_LINE - 1) / TOE_LINE * TOE_LINE;
		e->states = aligned_alloc(TOE_LINE, e->stride * replicas);
		if (e->states == NULL)
			return -ENOMEM;
		memset(e->states, 0, e->stride * replicas);
	}
	for (unsigned r = 0; m->init != NULL && r < replicas; r++) {
		int rc = m->init(entry_state(e, r), arg, r);

		if (rc != 0) {
			entry_fini(e, r);
			return rc;
		}
	}
	return 0;
}

struct toe_hook *toe_hook_create(struct rte_rcu_qsbr *qsbr, unsigned replicas)
{
	struct toe_hook *h = calloc(1, sizeof(*h));

	if (h == NULL)
		return NULL;
	h->qsbr = qsbr;
	h->replicas = replicas;
	pthread_mutex_init(&h->lock, NULL);
	return h;
}

void toe_hook_free(struct toe_hook *h)
{
	struct list *l;

	if (h == NULL)
		return;
	l = atomic_load_explicit(&h->list, memory_order_relaxed);
	for (unsigned i = 0; l != NULL && i < l->n; i++)
		entry_fini(&l->entry[i], h->replicas);
	free(l);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

static unsigned find(const struct list *l, const char *name)
{
	unsigned i = 0;

	while (l != NULL && i < l->n && strcmp(l->entry[i].module->name, name) != 0)
		i++;
	return i;
}

/* Publishes fresh and frees the old list when no lcore can be in it. */
static void replace(struct toe_hook *h, struct list *fresh)
{
	struct list *old = atomic_exchange_explicit(&h->list, fresh, memory_order_acq_rel);

	if (h->qsbr != NULL)
		/* what rte_rcu_qsbr_synchronize() does, but inline, where TSan sees it */
		rte_rcu_qsbr_check(h->qsbr, rte_rcu_qsbr_start(h->qsbr), true);
	free(old);
}

static int add_locked(struct toe_hook *h, const struct toe_segment_module *m, void *arg,
		      unsigned position)
{
	const struct list *old = atomic_load_explicit(&h->list, memory_order_relaxed);
	unsigned n = old != NULL ? old->n : 0;
	struct list *fresh;
	int rc;

	if (find(old, m->name) != n)
		return -EEXIST;
	if (n == TOE_HOOK_MODULES_MAX)
		return -ENOSPC;
	fresh = calloc(1, sizeof(*fresh));
	if (fresh == NULL)
		return -ENOMEM;
	if (position > n)
		position = n;
	rc = entry_init(&fresh->entry[position], m, arg, h->replicas);
	if (rc != 0) {
		free(fresh);
		return rc;
	}
	for (unsigned i = 0; i < n; i++)
		fresh->entry[i < position ? i : i + 1] = old->entry[i];
	fresh->n = n + 1;
	replace(h, fresh);
	return 0;
}

int toe_hook_add(struct toe_hook *h, const struct toe_segment_module *m, void *arg,
		 unsigned position)
{
	int rc;

	pthread_mutex_lock(&h->lock);
	rc = add_locked(h, m, arg, position);
	pthread_mutex_unlock(&h->lock);
	return rc;
}

static int del_locked(struct toe_hook *h, const char *name)
{
	const struct list *old = atomic_load_explicit(&h->list, memory_order_relaxed);
	unsigned at = find(old, name);
	struct list *fresh = NULL;
	struct entry gone;

	if (old == NULL || at == old->n)
		return -ENOENT;
	gone = old->entry[at];
	if (old->n > 1) {
		fresh = calloc(1, sizeof(*fresh));
		if (fresh == NULL)
			return -ENOMEM;
		for (unsigned i = 0; i < old->n; i++) {
			if (i != at)
				fresh->entry[fresh->n++] = old->entry[i];
		}
	}
	replace(h, fresh);
	entry_fini(&gone, h->replicas);
	return 0;
}

int toe_hook_del(struct toe_hook *h, const char *name)
{
	int rc;

	pthread_mutex_lock(&h->lock);
	rc = del_locked(h, name);
	pthread_mutex_unlock(&h->lock);
	return rc;
}

int toe_hook_name(struct toe_hook *h, unsigned position, char *buf, size_t len)
{
	const struct list *l;
	int rc = -ENOENT;

	pthread_mutex_lock(&h->lock);
	l = atomic_load_explicit(&h->list, memory_order_relaxed);
	if (l != NULL && position < l->n) {
		snprintf(buf, len, "%s", l->entry[position].module->name);
		rc = 0;
	}
	pthread_mutex_unlock(&h->lock);
	return rc;
}

bool toe_hook_active(const struct toe_hook *h)
{
	return h != NULL && atomic_load_explicit(&h->list, memory_order_relaxed) != NULL;
}

enum toe_hook_verdict toe_hook_run(const struct toe_hook *h, unsigned replica, struct rte_mbuf *m,
				   uint64_t tsc)
{
	/* pairs with the exchange in replace(): the array and the states behind it are complete */
	const struct list *l = atomic_load_explicit(&h->list, memory_order_acquire);

	for (unsigned i = 0; l != NULL && i < l->n; i++) {
		const struct entry *e = &l->entry[i];
		enum toe_hook_verdict v = e->module->run(entry_state(e, replica), m, tsc);

		if (v != TOE_HOOK_PASS)
			return (unsigned)v < TOE_HOOK_VERDICT_N ? v : TOE_HOOK_DROP;
	}
	return TOE_HOOK_PASS;
}
