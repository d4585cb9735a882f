/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ctxq, towards the application: hints and wake-ups.
 *
 * Input: slots and listeners whose line 0 changed in this burst.  Output: entries of the hint rings
 * of the contexts that want them, at most one outstanding per slot and context; one byte to each
 * sleeping waiter.  Every word read here may be a lie: it is used as a bit mask or a ring position
 * and checked, and a lie only loses the liar's hints.  Never blocks, and sends a bounded number of
 * bytes at a time: 64 contexts with 64 waiters each would be 4096 system calls for one segment.
 */
#include <sys/socket.h>

#include "common/log.h"
#include "ctxq.h"

#define WAKES_MAX 8u /* of one application in one turn; the others' next turn is not far */

void ctxq_changed(struct ctxq *p, struct toe_app *a, uint32_t id)
{
	TOE_ASSERT(p->change_n < TOE_BURST);
	p->change[p->change_n].app = a;
	p->change[p->change_n++].id = id;
}

static void remember(struct ctxq *p, const struct toe_app *a, uint64_t ctxs)
{
	p->wake_apps |= UINT64_C(1) << a->app_id;
	p->wake_ctxs[a->app_id] |= ctxs;
}

static bool post_hint(struct toe_app *a, unsigned ctx, uint32_t id)
{
	struct toe_context *c = toe_app_context(a, ctx);
	struct toe_app_proc *proc = &a->procs[ctx];
	/* pairs with libtoe's release: it has read what is overwritten here */
	uint32_t cons = __atomic_load_n(&c->hint_cons, __ATOMIC_ACQUIRE);

	if (proc->hint_prod - cons >= a->hint_n)
		return false;
	__atomic_store_n(&toe_app_hints(a, ctx)[proc->hint_prod & (a->hint_n - 1)], id,
			 __ATOMIC_RELAXED);
	__atomic_store_n(&c->hint_prod, ++proc->hint_prod, __ATOMIC_RELEASE);
	return true;
}

/* After the fence of ctxq_tell(). */
static void hint(struct toe_stage *s, struct toe_app *a, uint32_t id)
{
	uint64_t *pending, *wanted;
	uint64_t mask, fresh;

	if (id & TOE_ID_LISTENER) {
		struct toe_listener *l = toe_app_listener(a, id & ~TOE_ID_LISTENER);

		pending = &l->hint_pending;
		wanted = &l->ctx_mask;
	} else {
		struct toe_slot *slot = toe_app_slot(a, id);

		pending = &slot->hint_pending;
		wanted = &slot->ctx_mask;
	}
	mask = __atomic_load_n(wanted, __ATOMIC_RELAXED) &
	       atomic_load_explicit(&a->proc_mask, memory_order_acquire);
	if (mask == 0)
		return;
	/* Pairs with libtoe, which clears its bit and then looks at line 0: where the bit is still
	 * set, the look is still to come. */
	fresh = mask & ~__atomic_fetch_or(pending, mask, __ATOMIC_SEQ_CST);
	for (uint64_t m = fresh; m != 0; m &= m - 1) {
		unsigned ctx = (unsigned)__builtin_ctzll(m);

		if (post_hint(a, ctx, id)) {
			toe_count(s, TOE_C_HINTS, 1);
			continue;
		}
		s->drops[TOE_D_HINT_FULL]++;
		fresh &= ~(UINT64_C(1) << ctx);
		__atomic_fetch_and(pending, ~(UINT64_C(1) << ctx), __ATOMIC_SEQ_CST);
	}
	if (fresh != 0)
		remember(s->priv, a, fresh);
}

/* Up to max waiters of a context; returns how many.  *done: none is left asleep. */
static unsigned wake_context(struct toe_stage *s, struct toe_app *a, unsigned ctx, unsigned max,
			     bool *done)
{
	struct toe_context *c = toe_app_context(a, ctx);
	const int *fds = a->procs[ctx].waiter_fd;
	uint64_t waiting = __atomic_load_n(&c->waiting, __ATOMIC_RELAXED);
	uint64_t now = 0;
	unsigned n = 0;

	for (; waiting != 0 && n < max; waiting &= waiting - 1) {
		now |= waiting & -waiting;
		n += __atomic_load_n(&fds[__builtin_ctzll(waiting)], __ATOMIC_RELAXED) >= 0;
	}
	*done = waiting == 0;
	if (now == 0)
		return 0;
	now &= __atomic_fetch_and(&c->waiting, ~now, __ATOMIC_SEQ_CST);
	for (; now != 0; now &= now - 1) {
		int fd = __atomic_load_n(&fds[__builtin_ctzll(now)], __ATOMIC_ACQUIRE);

		/* a full socket has a byte in it already */
		if (fd >= 0 && send(fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1)
			toe_count(s, TOE_C_WAKEUPS, 1);
	}
	return n;
}

static unsigned wake_app(struct toe_stage *s, uint32_t app_id)
{
	struct toe_app *a = toe_app_get(s->engine, app_id);
	struct ctxq *p = s->priv;
	uint64_t *ctxs = &p->wake_ctxs[app_id];
	unsigned n = 0;

	if (a == NULL) {
		*ctxs = 0;
		p->wake_apps &= ~(UINT64_C(1) << app_id);
		return 0;
	}
	/* acquire: the waiters of a context were set up before its bit */
	*ctxs &= atomic_load_explicit(&a->proc_mask, memory_order_acquire);
	for (uint64_t m = *ctxs; m != 0 && n < WAKES_MAX; m &= m - 1) {
		bool done;

		n += wake_context(s, a, (unsigned)__builtin_ctzll(m), WAKES_MAX - n, &done);
		if (done)
			*ctxs &= ~(m & -m);
	}
	if (*ctxs == 0)
		p->wake_apps &= ~(UINT64_C(1) << app_id);
	return n;
}

unsigned ctxq_wake(struct toe_stage *s)
{
	const struct ctxq *p = s->priv;
	unsigned n = 0;

	for (uint64_t m = p->wake_apps; m != 0; m &= m - 1)
		n += wake_app(s, (uint32_t)__builtin_ctzll(m));
	return n;
}

void ctxq_tell(struct toe_stage *s)
{
	struct ctxq *p = s->priv;

	if (p->change_n == 0)
		return;
	/* Line 0 before ctx_mask; pairs with libtoe: sets its bit, fence, looks at line 0. */
	atomic_thread_fence(memory_order_seq_cst);
	for (unsigned i = 0; i < p->change_n; i++)
		hint(s, p->change[i].app, p->change[i].id);
	p->change_n = 0;
	if (p->wake_apps == 0)
		return;
	/* Hint rings before waiting; pairs with libtoe: sets waiting, fence, looks at its ring. */
	atomic_thread_fence(memory_order_seq_cst);
	ctxq_wake(s);
}
