/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Attached applications: mapping, contexts, waiters.
 *
 * Input: what the keeper says (keeper_link.c), on the keeper-link thread.  Output: struct toe_app,
 * published to the lcores by one pointer and taken back under RCU.  Owns the mappings and the
 * engine's ends of all sockets.  Geometry is checked against the size and the seals of the memfds;
 * nothing is ever read back from the region.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "apps.h"
#include "common/closer.h"
#include "common/log.h"
#include "pipeline.h"
#include "sigbus.h"

#define COPY_WAIT_US 2000000u /* for copies in flight when an application leaves */
#define COPY_NAP_US  100u

/* ---- lcore side ---- */

struct toe_app *toe_app_get(const struct toe_engine *e, uint32_t app_id)
{
	struct toe_app *a;

	if (app_id >= TOE_APP_N)
		return NULL;
	/* pairs with the release in toe_app_attach() */
	a = atomic_load_explicit(&e->apps->table[app_id], memory_order_acquire);
	if (a == NULL || atomic_load_explicit(&a->evicted, memory_order_relaxed))
		return NULL;
	return a;
}

void toe_app_redo(struct toe_app *a, uint32_t slot)
{
	atomic_fetch_or_explicit(&a->redo[slot / 64], UINT64_C(1) << slot % 64,
				 memory_order_relaxed);
	/* pairs with the exchange in ctxq, which looks at the words afterwards */
	atomic_fetch_or_explicit(&a->owner->redo, UINT64_C(1) << a->app_id, memory_order_seq_cst);
}

/* ---- keeper-link side ---- */

static struct toe_app *app_of(const struct toe_engine *e, uint32_t app_id)
{
	if (app_id >= TOE_APP_N)
		return NULL;
	return atomic_load_explicit(&e->apps->table[app_id], memory_order_relaxed);
}

static void changed(struct toe_engine *e)
{
	atomic_fetch_add_explicit(&e->apps->version, 1, memory_order_seq_cst);
	if (e->pipeline != NULL)
		toe_pipeline_wake(e->pipeline, TOE_STAGE_CTXQ);
}

/* Until no lcore can still use what was unpublished before. */
static void synchronize(struct toe_engine *e)
{
	if (e->qsbr != NULL)
		/* what rte_rcu_qsbr_synchronize() does, but inline, where TSan sees it */
		rte_rcu_qsbr_check(e->qsbr, rte_rcu_qsbr_start(e->qsbr), true);
}

/* Signal context. */
static void app_hit(void *arg)
{
	struct toe_app *a = arg;
	const uint64_t one = 1;
	ssize_t rc;

	if (atomic_exchange_explicit(&a->evicted, true, memory_order_relaxed))
		return;
	atomic_fetch_or_explicit(&a->owner->evicted, UINT64_C(1) << a->app_id,
				 memory_order_release);
	rc = write(a->owner->evict_fd, &one, sizeof(one));
	(void)rc;
}

uint64_t toe_apps_take_evicted(struct toe_engine *e)
{
	uint64_t count;
	ssize_t rc = read(e->apps->evict_fd, &count, sizeof(count));

	(void)rc;
	return atomic_exchange_explicit(&e->apps->evicted, 0, memory_order_acquire);
}

/* Maps a whole segment, guarded. */
static int map_segment(struct toe_app *a, int fd, uint64_t bytes, uint8_t **out)
{
	const int need = F_SEAL_SHRINK | F_SEAL_GROW;
	struct stat st;
	size_t page;
	void *p;
	int seals;
	int rc;

	if (fstat(fd, &st) != 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != bytes)
		return -EINVAL;
	seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 || (seals & need) != need)
		return -EPERM;
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	/* hugetlbfs and tmpfs with huge pages say so here */
	page = st.st_blksize > TOE_REGION_PAGE ? (size_t)st.st_blksize : TOE_REGION_PAGE;
	rc = toe_sigbus_watch(p, bytes, page, app_hit, a);
	if (rc != 0) {
		munmap(p, bytes);
		return rc;
	}
	*out = p;
	return 0;
}

static void unmap_segment(uint8_t *p, uint64_t bytes)
{
	if (p == NULL)
		return;
	toe_sigbus_unwatch(p);
	munmap(p, bytes);
}

static void free_app(struct toe_app *a)
{
	if (a == NULL)
		return;
	unmap_segment(a->control, a->control_bytes);
	unmap_segment(a->payload, a->payload_bytes);
	free(a->own);
	free(a->listener_prod);
	free(a->redo);
	free(a->plain);
	free(a);
}

static struct toe_app *new_app(struct toe_engine *e, const struct toe_ctl_app *desc,
			       const struct toe_region_layout *l)
{
	struct toe_app *a = calloc(1, sizeof(*a));

	if (a == NULL)
		return NULL;
	a->app_id = desc->app_id;
	a->serial = atomic_fetch_add(&e->apps->serials, 1) + 1;
	a->owner = e->apps;
	a->control_bytes = l->control_bytes;
	a->payload_bytes = l->payload_bytes;
	a->slot_n = desc->slot_n;
	a->listener_n = desc->listener_n;
	a->backlog_n = desc->backlog_n;
	a->hint_n = desc->hint_n;
	a->doorbell_n = desc->doorbell_n;
	a->rx_buf_bytes = desc->rx_buf_bytes;
	a->tx_buf_bytes = desc->tx_buf_bytes;
	a->off_slots = l->off_slots;
	a->off_listeners = l->off_listeners;
	a->off_contexts = l->off_contexts;
	a->own = calloc(a->slot_n, sizeof(*a->own));
	a->listener_prod = calloc(a->listener_n + 1, sizeof(*a->listener_prod));
	a->redo = calloc((a->slot_n + 63) / 64, sizeof(*a->redo));
	a->plain = calloc(a->slot_n, sizeof(*a->plain));
	if (a->own == NULL || a->listener_prod == NULL || a->redo == NULL || a->plain == NULL) {
		free_app(a);
		return NULL;
	}
	for (uint32_t i = 0; i < a->slot_n; i++)
		a->own[i].conn = TOE_NONE;
	return a;
}

int toe_app_attach(struct toe_engine *e, const struct toe_ctl_app *desc, const int fds[2])
{
	struct toe_region_geometry g = toe_ctl_app_geometry(desc);
	struct toe_region_layout l;
	struct toe_app *a;
	int rc;

	if (desc->app_id >= TOE_APP_N || toe_region_layout(&l, &g) != 0)
		return -EINVAL;
	if (app_of(e, desc->app_id) != NULL)
		return -EEXIST;
	a = new_app(e, desc, &l);
	if (a == NULL)
		return -ENOMEM;
	rc = map_segment(a, fds[0], l.control_bytes, &a->control);
	if (rc == 0)
		rc = map_segment(a, fds[1], l.payload_bytes, &a->payload);
	if (rc != 0) {
		free_app(a);
		return rc;
	}
	atomic_store_explicit(&e->apps->table[a->app_id], a, memory_order_release);
	atomic_fetch_or_explicit(&e->apps->mask, UINT64_C(1) << a->app_id, memory_order_release);
	changed(e);
	return 0;
}

static void close_proc(struct toe_engine *e, struct toe_app_proc *p)
{
	if (e->pipeline != NULL)
		toe_pipeline_unwatch(e->pipeline, TOE_STAGE_CTXQ, p->kick_fd);
	/* their queues are the application's: it may have put descriptors there */
	toe_close_later(p->kick_fd);
	for (unsigned w = 0; w < TOE_WAITER_N; w++)
		toe_close_later(p->waiter_fd[w]);
}

/* Copies that a DMA engine still works on; the queues' lcores keep polling them. */
static bool copies_end(const struct toe_app *a)
{
	const struct timespec nap = {.tv_nsec = COPY_NAP_US * 1000};

	for (unsigned us = 0; us < COPY_WAIT_US; us += COPY_NAP_US) {
		/* pairs with the release of the last completion: it touches *a no more */
		if (atomic_load_explicit(&a->copies, memory_order_acquire) == 0)
			return true;
		nanosleep(&nap, NULL);
	}
	return false;
}

int toe_app_detach(struct toe_engine *e, uint32_t app_id)
{
	struct toe_app *a = app_of(e, app_id);
	uint64_t bit = UINT64_C(1) << app_id % 64;

	if (a == NULL)
		return -ESRCH;
	atomic_fetch_and_explicit(&e->apps->mask, ~bit, memory_order_relaxed);
	atomic_store_explicit(&e->apps->table[app_id], NULL, memory_order_relaxed);
	changed(e);
	synchronize(e);
	atomic_fetch_and_explicit(&e->apps->redo, ~bit, memory_order_relaxed);
	atomic_fetch_and_explicit(&e->apps->evicted, ~bit, memory_order_relaxed);
	for (uint64_t m = a->proc_mask; m != 0; m &= m - 1)
		close_proc(e, &a->procs[__builtin_ctzll(m)]);
	if (!copies_end(a)) {
		LOG_ERROR("application %u: copies do not end, its memory stays mapped", app_id);
		return 0;
	}
	free_app(a);
	return 0;
}

/* A new process starts with empty rings, whatever an earlier one left behind. */
static void reset_context(struct toe_context *c)
{
	__atomic_store_n(&c->hint_prod, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&c->doorbell_cons, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&c->engine_asleep, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&c->engine_gone, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&c->hint_cons, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&c->doorbell_prod, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&c->waiting, 0, __ATOMIC_RELEASE);
}

int toe_app_proc_attach(struct toe_engine *e, uint32_t app_id, uint32_t ctx, int kick_fd)
{
	struct toe_app *a = app_of(e, app_id);
	struct toe_app_proc *p;
	int rc;

	if (a == NULL)
		return -ESRCH;
	if (ctx >= TOE_CTX_N)
		return -EINVAL;
	if (a->proc_mask & UINT64_C(1) << ctx)
		return -EEXIST;
	if (e->pipeline != NULL) {
		rc = toe_pipeline_watch(e->pipeline, TOE_STAGE_CTXQ, kick_fd);
		if (rc != 0)
			return rc;
	}
	p = &a->procs[ctx];
	p->kick_fd = kick_fd;
	p->hint_prod = 0;
	p->doorbell_cons = 0;
	p->kernel_conns = p->followed = 0;
	for (unsigned w = 0; w < TOE_WAITER_N; w++)
		p->waiter_fd[w] = -1;
	reset_context(toe_app_context(a, ctx));
	atomic_fetch_or_explicit(&a->proc_mask, UINT64_C(1) << ctx, memory_order_release);
	changed(e);
	return 0;
}

static int follow_kernel(struct toe_app *a, const struct toe_ctl_kconn *k, bool on)
{
	struct toe_app_proc *p = &a->procs[k->ctx];

	if (!on && p->followed == 0)
		return 0; /* said again, as the answer was late */
	if (on && p->followed == p->kernel_conns)
		return -EINVAL;
	p->followed += on ? 1 : -1u;
	atomic_fetch_add_explicit(&a->followed, on ? 1 : -1u, memory_order_release);
	return 0;
}

static bool plain_swap(struct toe_app *a, uint32_t slot, unsigned from, unsigned to)
{
	uint8_t was = (uint8_t)from;

	return atomic_compare_exchange_strong(&a->plain[slot], &was, (uint8_t)to);
}

/* early: it may not have come yet.  It comes at most once meanwhile. */
static int follow_plain(struct toe_app *a, uint32_t slot, uint32_t ctx, bool early)
{
	if (early && plain_swap(a, slot, TOE_PLAIN_NONE, TOE_PLAIN_EARLY + ctx)) {
		atomic_fetch_add_explicit(&a->plain_conns, 1, memory_order_release);
		return 0;
	}
	if (!plain_swap(a, slot, TOE_PLAIN_UNSEEN, TOE_PLAIN_FOLLOWED + ctx))
		return -ENODEV; /* a module's, or gone */
	atomic_fetch_sub_explicit(&a->plain_unseen, 1, memory_order_release);
	return 0;
}

/* One that has left meanwhile has given back what it was. */
static void unfollow_plain(struct toe_app *a, uint32_t slot, uint32_t ctx)
{
	if (plain_swap(a, slot, TOE_PLAIN_EARLY + ctx, TOE_PLAIN_NONE)) {
		atomic_fetch_sub_explicit(&a->plain_conns, 1, memory_order_release);
		return;
	}
	atomic_fetch_add_explicit(&a->plain_unseen, 1, memory_order_release);
	if (!plain_swap(a, slot, TOE_PLAIN_FOLLOWED + ctx, TOE_PLAIN_UNSEEN))
		atomic_fetch_sub_explicit(&a->plain_unseen, 1, memory_order_release);
}

int toe_app_follow(struct toe_engine *e, const struct toe_ctl_kconn *k, bool on)
{
	struct toe_app *a = app_of(e, k->app_id);
	int rc = 0;

	if (a == NULL || k->ctx >= TOE_CTX_N || !(a->proc_mask & UINT64_C(1) << k->ctx))
		return -ESRCH;
	if (k->slot1 > a->slot_n)
		return -EINVAL;
	if (k->slot1 == 0)
		rc = follow_kernel(a, k, on);
	else if (on)
		rc = follow_plain(a, k->slot1 - 1, k->ctx, k->what == TOE_KCONN_MQTT_BRIDGE);
	else
		unfollow_plain(a, k->slot1 - 1, k->ctx);
	if (rc == 0 && !on) /* more are not seen */
		synchronize(e);
	return rc;
}

/* A process that is gone tells nothing any more, of connections that others may have, too. */
static void unfollow_all(struct toe_app *a, uint32_t ctx)
{
	atomic_fetch_sub_explicit(&a->followed, a->procs[ctx].followed, memory_order_release);
	a->procs[ctx].followed = 0;
	for (uint32_t i = 0; i < a->slot_n; i++) {
		uint8_t plain = atomic_load_explicit(&a->plain[i], memory_order_relaxed);

		if (plain == TOE_PLAIN_FOLLOWED + ctx || plain == TOE_PLAIN_EARLY + ctx)
			unfollow_plain(a, i, ctx);
	}
}

/* Returns what it was.  Announced and opened by the application, it is followed already; one that
 * was accepted has the number of one that did not come, and that nobody took back. */
static uint8_t come_plain(struct toe_app *a, uint32_t slot, bool active)
{
	uint8_t was;
	bool early;

	/* at most one change between: who announced it takes that back */
	do {
		was = atomic_load(&a->plain[slot]);
		early = active && was >= TOE_PLAIN_EARLY;
	} while (
		!plain_swap(a, slot, was,
			    early ? was + TOE_PLAIN_FOLLOWED - TOE_PLAIN_EARLY : TOE_PLAIN_UNSEEN));
	return was;
}

void toe_app_plain_add(struct toe_app *a, uint32_t slot, bool active)
{
	uint8_t was;

	/* unseen before it can be followed; both pair with the acquire of stages that ask */
	atomic_fetch_add_explicit(&a->plain_unseen, 1, memory_order_release);
	was = come_plain(a, slot, active);
	if (active && was >= TOE_PLAIN_EARLY)
		atomic_fetch_sub_explicit(&a->plain_unseen, 1, memory_order_release);
	if (was < TOE_PLAIN_EARLY) /* else it counts already */
		atomic_fetch_add_explicit(&a->plain_conns, 1, memory_order_release);
}

void toe_app_plain_del(struct toe_app *a, uint32_t slot)
{
	if (atomic_exchange(&a->plain[slot], TOE_PLAIN_NONE) == TOE_PLAIN_UNSEEN)
		atomic_fetch_sub_explicit(&a->plain_unseen, 1, memory_order_release);
	atomic_fetch_sub_explicit(&a->plain_conns, 1, memory_order_release);
}

/*
 * What a process that is gone leaves in line 2: hints nobody will take, and doorbells that were
 * marked but perhaps never posted, for which nobody would ring again.
 */
static void forget_marks(struct toe_app *a, uint32_t ctx)
{
	const uint64_t keep = ~(UINT64_C(1) << ctx);
	uint32_t top = atomic_load_explicit(&a->slot_top, memory_order_acquire);

	for (uint32_t i = 0; i < a->listener_n; i++) {
		struct toe_listener *l = toe_app_listener(a, i);

		__atomic_fetch_and(&l->ctx_mask, keep, __ATOMIC_SEQ_CST);
		__atomic_fetch_and(&l->hint_pending, keep, __ATOMIC_SEQ_CST);
	}
	for (uint32_t i = 0; i < top; i++) {
		struct toe_slot *s = toe_app_slot(a, i);

		if (__atomic_load_n(&s->ctx_mask, __ATOMIC_RELAXED) & ~keep)
			__atomic_fetch_and(&s->ctx_mask, keep, __ATOMIC_SEQ_CST);
		if (__atomic_load_n(&s->hint_pending, __ATOMIC_RELAXED) & ~keep)
			__atomic_fetch_and(&s->hint_pending, keep, __ATOMIC_SEQ_CST);
		if (__atomic_load_n(&s->doorbell_pending, __ATOMIC_RELAXED) != 0)
			toe_app_redo(a, i);
	}
}

int toe_app_proc_detach(struct toe_engine *e, uint32_t app_id, uint32_t ctx)
{
	struct toe_app *a = app_of(e, app_id);

	if (a == NULL || ctx >= TOE_CTX_N || !(a->proc_mask & UINT64_C(1) << ctx))
		return -ESRCH;
	atomic_fetch_and_explicit(&a->proc_mask, ~(UINT64_C(1) << ctx), memory_order_relaxed);
	changed(e);
	synchronize(e);
	close_proc(e, &a->procs[ctx]);
	unfollow_all(a, ctx);
	atomic_fetch_sub_explicit(&a->kernel_conns, a->procs[ctx].kernel_conns,
				  memory_order_release);
	forget_marks(a, ctx);
	if (e->pipeline != NULL)
		toe_pipeline_wake(e->pipeline, TOE_STAGE_CTXQ);
	return 0;
}

int toe_app_waiter_add(struct toe_engine *e, const struct toe_ctl_waiter *who, int fd)
{
	struct toe_app *a = app_of(e, who->app_id);
	int old;

	if (a == NULL || who->ctx >= TOE_CTX_N || !(a->proc_mask & UINT64_C(1) << who->ctx))
		return -ESRCH;
	if (who->waiter >= TOE_WAITER_N)
		return -EINVAL;
	old = __atomic_exchange_n(&a->procs[who->ctx].waiter_fd[who->waiter], fd, __ATOMIC_ACQ_REL);
	if (old >= 0) {
		synchronize(e);
		toe_close_later(old);
	}
	return 0;
}

int toe_app_kernel_conn(struct toe_engine *e, const struct toe_ctl_kconn *k)
{
	struct toe_app *a = app_of(e, k->app_id);
	int64_t now;

	if (a == NULL || k->ctx >= TOE_CTX_N || !(a->proc_mask & UINT64_C(1) << k->ctx))
		return -ESRCH;
	now = (int64_t)a->procs[k->ctx].kernel_conns + k->delta;
	if (now < a->procs[k->ctx].followed || now > TOE_KCONN_MAX)
		return -EINVAL;
	a->procs[k->ctx].kernel_conns = (uint32_t)now;
	/* pairs with the acquire of stages that ask; a negative delta wraps to the right sum */
	atomic_fetch_add_explicit(&a->kernel_conns, (uint32_t)k->delta, memory_order_release);
	if (k->flags & TOE_KCONN_RELOAD)
		atomic_fetch_add_explicit(&a->reloads, 1, memory_order_release);
	if (k->delta > 0 || (k->flags & TOE_KCONN_RELOAD))
		synchronize(e);
	return 0;
}

/* ---- start and end of the engine ---- */

int toe_apps_init(struct toe_engine *e)
{
	struct toe_apps *apps = calloc(1, sizeof(*apps));
	int rc;

	if (apps == NULL)
		return -ENOMEM;
	apps->evict_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	rc = apps->evict_fd < 0 ? -errno : toe_sigbus_init();
	if (rc != 0) {
		if (apps->evict_fd >= 0)
			close(apps->evict_fd);
		free(apps);
		return rc;
	}
	e->apps = apps;
	return 0;
}

static void say_gone(const struct toe_app *a)
{
	for (uint64_t m = a->proc_mask; m != 0; m &= m - 1) {
		unsigned ctx = (unsigned)__builtin_ctzll(m);

		__atomic_store_n(&toe_app_context(a, ctx)->engine_gone, 1, __ATOMIC_SEQ_CST);
		for (unsigned w = 0; w < TOE_WAITER_N; w++) {
			int fd = a->procs[ctx].waiter_fd[w];

			if (fd >= 0)
				send(fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
		}
	}
}

void toe_apps_fini(struct toe_engine *e)
{
	for (uint32_t i = 0; i < TOE_APP_N; i++) {
		const struct toe_app *a = app_of(e, i);

		if (a == NULL)
			continue;
		say_gone(a);
		toe_app_detach(e, i);
	}
	close(e->apps->evict_fd);
	free(e->apps);
	e->apps = NULL;
}
