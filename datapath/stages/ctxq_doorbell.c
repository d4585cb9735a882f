/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ctxq, from the application: doorbells become HC items, and sleeping.
 *
 * Input: doorbell rings of attached contexts, redo bits (apps.h), kick sockets.  Output: HC items
 * to dma, which fetches the cursors.  Ring positions are the engine's own; what the region says is
 * bounded by the size of the ring.  Applications take turns with a quota, and within one of them
 * its contexts, so that who rings all the time gets no more than his share; a visit to a silent
 * context costs one cache line.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "common/log.h"
#include "ctxq.h"
#include "pipeline.h"

#define QUOTA      16u  /* doorbells of one application per turn */
#define REDO_MAX   64u  /* slots of one application without a doorbell, per poll */
#define SCAN_MAX   512u /* contexts looked at per poll */
#define DRAIN_MSGS 16   /* kicks taken from one socket per wake-up */
#define KICK_BYTES 64

static void refresh(struct toe_stage *s)
{
	const struct toe_apps *apps = s->engine->apps;
	struct ctxq *p = s->priv;
	uint32_t version = atomic_load_explicit(&apps->version, memory_order_acquire);

	if (version == p->version)
		return;
	p->version = version;
	p->active_n = 0;
	p->group_n = 0;
	for (uint64_t m = apps->mask; m != 0; m &= m - 1) {
		uint8_t app = (uint8_t)__builtin_ctzll(m);
		const struct toe_app *a = toe_app_get(s->engine, app);
		struct ctxq_group *g = &p->groups[p->group_n];

		*g = (struct ctxq_group){.first = (uint16_t)p->active_n};
		for (uint64_t c = a != NULL ? a->proc_mask : 0; c != 0; c &= c - 1)
			p->active[p->active_n++] =
				(struct ctxq_ref){app, (uint8_t)__builtin_ctzll(c)};
		g->n = (uint16_t)(p->active_n - g->first);
		p->group_n += g->n != 0;
	}
	if (p->turn >= p->group_n)
		p->turn = 0;
}

/* NULL: gone since the list was made. */
static struct toe_app *ref_app(const struct toe_stage *s, struct ctxq_ref r)
{
	struct toe_app *a = toe_app_get(s->engine, r.app);

	/* acquire: procs[ctx] was set up before the bit */
	if (a == NULL ||
	    !(atomic_load_explicit(&a->proc_mask, memory_order_acquire) & UINT64_C(1) << r.ctx))
		return NULL;
	return a;
}

/* False: no item free, try later. */
static bool ring(struct toe_stage *s, struct toe_app *a, uint32_t slot)
{
	const struct toe_slot_own *own = &a->own[slot];
	struct toe_work *w = NULL;

	if (own->conn != TOE_NONE) {
		w = toe_work_alloc(s, TOE_WORK_HC);
		if (w == NULL) {
			s->drops[TOE_D_NO_ITEM]++;
			return false;
		}
	}
	/* Before line 1 is read: a later change of it rings again.  Pairs with libtoe's exchange,
	 * which follows its store to line 1. */
	__atomic_exchange_n(&toe_app_slot(a, slot)->doorbell_pending, 0, __ATOMIC_SEQ_CST);
	if (w == NULL) {
		s->drops[TOE_D_HC_NO_CONN]++;
		return true;
	}
	w->cmd = TOE_HC_FETCH;
	w->conn = own->conn;
	w->gen = own->conn_gen;
	w->fg = (uint16_t)(own->conn % s->engine->flow_group_n);
	/* One dma replica: no fetch of a slot overtakes an older one.  And of streamed connections,
	 * all together: a module relies on the order in which the application wrote to them. */
	w->out_seq = s->engine->flow_post[own->conn].flags & TOE_POST_STREAM ? 0 : own->conn;
	w->hc = (struct toe_hc){.app_id = a->app_id, .slot = slot};
	toe_emit(s, TOE_STAGE_DMA, w);
	toe_count(s, TOE_C_DOORBELLS, 1);
	return true;
}

/* Nothing that was rung before the sync item came is left in this ring.  Its positions are the
 * application's: one that scribbles them must not keep the item for ever. */
static void sync_passed(struct ctxq *p, const struct toe_app *a, unsigned ctx)
{
	if (p->sync != NULL && p->sync_app == a->app_id)
		p->sync_left &= ~(UINT64_C(1) << ctx);
}

/* Takes up to quota doorbells; sets *dry when items have run out. */
static unsigned take(struct toe_stage *s, struct toe_app *a, unsigned ctx, bool *dry)
{
	struct toe_context *c = toe_app_context(a, ctx);
	struct toe_app_proc *proc = &a->procs[ctx];
	/* pairs with libtoe's release of the entry */
	uint32_t prod = __atomic_load_n(&c->doorbell_prod, __ATOMIC_ACQUIRE);
	uint32_t have = prod - proc->doorbell_cons;
	unsigned n = 0;

	if (have == 0) {
		sync_passed(s->priv, a, ctx);
		return 0;
	}
	if (have > a->doorbell_n) {
		/* No ring of this size can be so far ahead: it is corrupt.  Start afresh. */
		s->drops[TOE_D_HC_INVALID]++;
		proc->doorbell_cons = prod;
		sync_passed(s->priv, a, ctx);
		n = 1;
	}
	while (n < QUOTA && proc->doorbell_cons != prod) {
		uint32_t at = proc->doorbell_cons & (a->doorbell_n - 1);
		uint32_t slot = __atomic_load_n(&toe_app_doorbells(a, ctx)[at], __ATOMIC_RELAXED);

		if (slot >= a->slot_n) {
			s->drops[TOE_D_HC_INVALID]++;
		} else if (!ring(s, a, slot)) {
			*dry = true;
			break;
		}
		proc->doorbell_cons++;
		n++;
	}
	__atomic_store_n(&c->doorbell_cons, proc->doorbell_cons, __ATOMIC_RELEASE);
	return n;
}

/* Slots of one application that must be fetched without a doorbell. */
static unsigned take_redo(struct toe_stage *s, struct toe_app *a, bool *dry)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < (a->slot_n + 63) / 64; i++) {
		bool stop = n >= REDO_MAX;
		uint64_t m;

		if (atomic_load_explicit(&a->redo[i], memory_order_relaxed) == 0)
			continue;
		m = stop ? 0 : atomic_exchange_explicit(&a->redo[i], 0, memory_order_relaxed);
		for (; m != 0 && !*dry; m &= m - 1, n++) {
			*dry = !ring(s, a, i * 64 + (uint32_t)__builtin_ctzll(m));
			if (*dry)
				break;
		}
		if (!stop && !*dry)
			continue;
		/* the rest in a later turn */
		atomic_fetch_or_explicit(&a->redo[i], m, memory_order_relaxed);
		atomic_fetch_or_explicit(&a->owner->redo, UINT64_C(1) << a->app_id,
					 memory_order_relaxed);
		break;
	}
	return n;
}

static unsigned poll_redo(struct toe_stage *s, bool *dry)
{
	struct toe_apps *apps = s->engine->apps;
	uint64_t mask;
	unsigned n = 0;

	if (atomic_load_explicit(&apps->redo, memory_order_relaxed) == 0)
		return 0;
	/* pairs with toe_app_redo(): the words were set before */
	mask = atomic_exchange_explicit(&apps->redo, 0, memory_order_seq_cst);
	for (; mask != 0 && !*dry; mask &= mask - 1) {
		struct toe_app *a = toe_app_get(s->engine, (uint32_t)__builtin_ctzll(mask));

		if (a != NULL)
			n += take_redo(s, a, dry);
	}
	/* the rest waits for items */
	atomic_fetch_or_explicit(&apps->redo, mask, memory_order_relaxed);
	return n;
}

/* The turn of one application: its next context that has something.  *looked: contexts visited. */
static unsigned take_group(struct toe_stage *s, struct ctxq_group *g, unsigned *looked, bool *dry)
{
	const struct ctxq *p = s->priv;
	unsigned got = 0;

	for (unsigned i = 0; i < g->n && got == 0 && !*dry; i++) {
		struct ctxq_ref r = p->active[g->first + g->turn];
		struct toe_app *a = ref_app(s, r);

		if (++g->turn == g->n)
			g->turn = 0;
		++*looked;
		got = a != NULL ? take(s, a, r.ctx, dry) : 0;
	}
	return got;
}

/* ---- everything that has been rung ---- */

/* The stream stage has one such item at a time. */
void ctxq_sync(struct toe_stage *s, struct toe_work *w)
{
	struct toe_app *a = toe_app_get(s->engine, w->hc.app_id);
	struct ctxq *p = s->priv;

	TOE_ASSERT(p->sync == NULL);
	p->sync = w;
	p->sync_app = w->hc.app_id;
	p->sync_left = a == NULL ? 0 : atomic_load_explicit(&a->proc_mask, memory_order_acquire);
	/* The bytes that made the stage ask were written after the doorbells that matter: whoever
	 * has seen them (acquire, in the fetch) sees these positions or later ones. */
	for (uint64_t m = p->sync_left; m != 0; m &= m - 1) {
		unsigned ctx = (unsigned)__builtin_ctzll(m);

		p->sync_to[ctx] =
			__atomic_load_n(&toe_app_context(a, ctx)->doorbell_prod, __ATOMIC_ACQUIRE);
	}
}

/* Lets it go when nothing of it is left. */
static unsigned sync_check(struct toe_stage *s)
{
	struct ctxq *p = s->priv;
	struct toe_app *a;

	if (p->sync == NULL)
		return 0;
	a = toe_app_get(s->engine, p->sync_app);
	p->sync_left &= a == NULL ? 0 : atomic_load_explicit(&a->proc_mask, memory_order_acquire);
	for (uint64_t m = p->sync_left; m != 0; m &= m - 1) {
		unsigned ctx = (unsigned)__builtin_ctzll(m);

		if ((int32_t)(a->procs[ctx].doorbell_cons - p->sync_to[ctx]) >= 0)
			p->sync_left &= ~(m & -m);
	}
	if (p->sync_left != 0)
		return 0;
	toe_emit(s, TOE_STAGE_DMA, p->sync);
	p->sync = NULL;
	return 1;
}

unsigned ctxq_poll(struct toe_stage *s, unsigned budget)
{
	struct ctxq *p = s->priv;
	bool dry = false;
	unsigned looked = 0;
	unsigned quiet = 0; /* silent applications in a row */
	unsigned n;

	refresh(s);
	n = poll_redo(s, &dry);
	if (p->wake_apps != 0)
		n += ctxq_wake(s);
	while (looked < SCAN_MAX && n < budget && quiet < p->group_n && !dry) {
		unsigned got = take_group(s, &p->groups[p->turn], &looked, &dry);

		if (++p->turn == p->group_n)
			p->turn = 0;
		quiet = got == 0 ? quiet + 1 : 0;
		n += got;
	}
	return n + sync_check(s);
}

/* ---- sleep ---- */

/* Writes the flag to every context; on: returns true if one of them has rung. */
static bool announce(struct toe_stage *s, uint32_t on)
{
	struct ctxq *p = s->priv;
	bool rung;

	for (unsigned i = 0; i < p->active_n; i++) {
		struct toe_app *a = ref_app(s, p->active[i]);

		if (a != NULL)
			__atomic_store_n(&toe_app_context(a, p->active[i].ctx)->engine_asleep, on,
					 __ATOMIC_RELAXED);
	}
	if (!on)
		return false;
	/* pairs with libtoe: publishes the doorbell, fence, reads engine_asleep */
	atomic_thread_fence(memory_order_seq_cst);
	rung = p->wake_apps != 0 ||
	       atomic_load_explicit(&s->engine->apps->redo, memory_order_relaxed) != 0 ||
	       atomic_load_explicit(&s->engine->apps->version, memory_order_relaxed) != p->version;
	for (unsigned i = 0; i < p->active_n && !rung; i++) {
		struct ctxq_ref r = p->active[i];
		struct toe_app *a = ref_app(s, r);

		rung = a != NULL &&
		       __atomic_load_n(&toe_app_context(a, r.ctx)->doorbell_prod,
				       __ATOMIC_RELAXED) != a->procs[r.ctx].doorbell_cons;
	}
	return rung;
}

/*
 * Takes the kicks of one socket: what wakes us must not wake us again, but a flood of them is only
 * taken in portions.  One that has ended is not watched any more; nor is one with descriptors in
 * it, which taking them would make us close, and the application can have that take as long as it
 * likes (common/closer.h).
 */
static void drain(struct toe_stage *s, int fd)
{
	char bytes[KICK_BYTES];
	struct iovec iov = {bytes, sizeof(bytes)};

	for (unsigned i = 0; i < DRAIN_MSGS; i++) {
		struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};
		ssize_t n = recvmsg(fd, &mh, MSG_DONTWAIT | MSG_PEEK);

		if (n > 0 && !(mh.msg_flags & MSG_CTRUNC))
			n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
		else if (n >= 0)
			n = 0;
		if (n > 0)
			continue;
		if (n == 0 || (errno != EAGAIN && errno != EINTR))
			toe_pipeline_unwatch(s->engine->pipeline, TOE_STAGE_CTXQ, fd);
		return;
	}
}

static void drain_kicks(struct toe_stage *s)
{
	struct ctxq *p = s->priv;
	unsigned n = 0;

	for (unsigned i = 0; i < p->active_n; i++) {
		const struct toe_app *a = ref_app(s, p->active[i]);

		if (a != NULL)
			p->kicks[n++] = (struct pollfd){.fd = a->procs[p->active[i].ctx].kick_fd,
							.events = POLLIN};
	}
	if (n == 0 || poll(p->kicks, n, 0) <= 0)
		return;
	for (unsigned i = 0; i < n; i++) {
		if (p->kicks[i].revents != 0)
			drain(s, p->kicks[i].fd);
	}
}

bool ctxq_sleep(struct toe_stage *s, bool on)
{
	if (on) {
		refresh(s);
		return announce(s, 1);
	}
	announce(s, 0);
	drain_kicks(s);
	return false;
}
