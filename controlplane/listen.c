/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Listeners: LISTEN and UNLISTEN of applications, lookup for SYNs, backlog.
 *
 * A listener belongs to an application and is used by some of its processes; it is closed when the
 * last of them lets go.  Daemons fork and let the parent exit, so the death of the last user is
 * only believed after a grace period in which the child can register.
 */
#include "cp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define GRACE_MS 3000u

struct cp_listener *cp_listener_rec(const struct cp *cp, uint32_t app, uint32_t listener)
{
	if (app >= cp->st->app_n || listener >= cp->apps[app].listener_n)
		return NULL;
	return &cp->listeners[(size_t)app * cp->st->listener_n + listener];
}

struct cp_listener_rt *cp_listener_rt(const struct cp *cp, uint32_t app, uint32_t listener)
{
	return &cp->app_rt[app].listeners[listener];
}

static uint32_t chain_index(const struct cp *cp, uint32_t app, uint32_t listener)
{
	return app * cp->st->listener_n + listener;
}

static struct toe_listener *listener_mem(const struct cp *cp, uint32_t app, uint32_t listener)
{
	const struct cp_app *a = &cp->apps[app];
	uint8_t *base = cp->app_rt[app].control;

	if (!base)
		return NULL;
	return (struct toe_listener *)(base + a->off_listeners +
				       listener * toe_listener_stride(a->backlog_n));
}

/* Nonsense of the application's making counts as waiting: it keeps its slot until it ends. */
bool cp_listener_holds(const struct cp *cp, uint32_t app, uint32_t listener, uint32_t slot)
{
	const struct toe_listener *l = listener_mem(cp, app, listener);
	const uint32_t *ring;
	uint32_t n = cp->apps[app].backlog_n;
	uint32_t cons;
	uint32_t prod;

	if (!l || cp_listener_rec(cp, app, listener)->state == CP_LISTENER_FREE)
		return false;
	ring = (const uint32_t *)(l + 1);
	cons = __atomic_load_n(&l->cons, __ATOMIC_SEQ_CST);
	prod = __atomic_load_n(&l->prod, __ATOMIC_ACQUIRE);
	if (prod - cons > n)
		return true;
	for (; cons != prod; cons++) {
		if (__atomic_load_n(&ring[cons & (n - 1)], __ATOMIC_RELAXED) == slot)
			return true;
	}
	return false;
}

void cp_listener_link(struct cp *cp, uint32_t app, uint32_t listener)
{
	struct cp_port *p = &cp->ports[cp_listener_rec(cp, app, listener)->port];

	cp_listener_rt(cp, app, listener)->next = p->listener;
	p->listener = chain_index(cp, app, listener);
}

static struct cp_listener_rt *chain_rt(const struct cp *cp, uint32_t i)
{
	return cp_listener_rt(cp, i / cp->st->listener_n, i % cp->st->listener_n);
}

static void listener_unlink(struct cp *cp, uint32_t app, uint32_t listener)
{
	uint32_t me = chain_index(cp, app, listener);
	uint32_t *p = &cp->ports[cp_listener_rec(cp, app, listener)->port].listener;

	while (*p != TOE_NONE && *p != me)
		p = &chain_rt(cp, *p)->next;
	if (*p == me)
		*p = chain_rt(cp, me)->next;
}

/* Takes connections of this family, if they are to its address. */
static bool covers(const struct cp_listener *l, uint32_t family)
{
	return l->addr.family == family ||
	       (family == AF_INET && !l->v6only && cp_addr_any(&l->addr));
}

bool cp_listener_covers(const struct cp *cp, uint32_t family, uint16_t port)
{
	for (uint32_t i = cp->ports[port].listener; i != TOE_NONE; i = chain_rt(cp, i)->next)
		if (covers(&cp->listeners[i], family))
			return true;
	return false;
}

/* How well l fits a SYN to addr, 0: not at all.  As Linux: the address, then a wildcard of the
 * family, then one of both. */
static unsigned score(const struct cp_listener *l, const struct cp_addr *addr)
{
	if (cp_addr_same(&l->addr, addr))
		return 3;
	if (!cp_addr_any(&l->addr) || !covers(l, addr->family))
		return 0;
	return l->addr.family == addr->family ? 2 : 1;
}

bool cp_listener_find(const struct cp *cp, const struct toe_tuple *t, struct cp_half *out)
{
	struct cp_addr addr = cp_local(t);
	uint32_t found = TOE_NONE;
	unsigned best = 0;

	for (uint32_t i = cp->ports[ntohs(t->local_port)].listener; i != TOE_NONE;
	     i = chain_rt(cp, i)->next) {
		unsigned s = score(&cp->listeners[i], &addr);

		if (s > best) {
			best = s;
			found = i;
		}
	}
	if (found == TOE_NONE)
		return false;
	out->app = found / cp->st->listener_n;
	out->listener = found % cp->st->listener_n;
	out->listener_gen = cp->listeners[found].gen;
	return true;
}

bool cp_listener_full(const struct cp *cp, uint32_t app, uint32_t listener)
{
	const struct cp_listener *l = cp_listener_rec(cp, app, listener);
	const struct toe_listener *m = listener_mem(cp, app, listener);
	uint32_t max = cp->apps[app].backlog_n;
	uint32_t waiting;

	if (l->backlog < max)
		max = l->backlog + 1; /* as Linux counts */
	if (!m)
		return true;
	waiting = __atomic_load_n(&m->prod, __ATOMIC_ACQUIRE) -
		  __atomic_load_n(&m->cons, __ATOMIC_ACQUIRE);
	/* The application may have written anything there: it only shuts itself off. */
	if (waiting > cp->apps[app].backlog_n)
		return true;
	return waiting + cp_listener_rt(cp, app, listener)->installing >= max;
}

static void listener_cmd(struct cp *cp, uint32_t app, uint32_t listener, uint32_t open)
{
	struct toe_cmd_listener cmd = {cp->apps[app].app_id, listener, open, 0};

	cp_cmd(cp, TOE_CMD_LISTENER, TOE_NONE, &cmd, sizeof(cmd));
}

/* The address as we store it, in want: one of ours, or a wildcard. */
static int listen_addr(const struct cp *cp, const struct toe_ctl_listen *l,
		       struct cp_listener *want)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

	if (l->family != AF_INET && l->family != AF_INET6)
		return -EAFNOSUPPORT;
	want->port = l->port;
	want->addr = cp_addr_make(l->family, l->addr);
	want->v6only = l->family == AF_INET6 && (l->v6only || !cp_addr_any(&want->addr));
	if (l->family == AF_INET6 && !memcmp(l->addr, mapped, sizeof(mapped)))
		return -EAFNOSUPPORT; /* libtoe says AF_INET */
	return cp_addr_any(&want->addr) || cp_addr_ours(cp, &want->addr) ? 0 : -EXDEV;
}

/* Another process, or another socket with SO_REUSEPORT, of the same application. */
static uint32_t find_own(const struct cp *cp, uint32_t app, const struct cp_listener *want)
{
	for (uint32_t i = cp->ports[want->port].listener; i != TOE_NONE;
	     i = chain_rt(cp, i)->next) {
		const struct cp_listener *l = &cp->listeners[i];

		if (i / cp->st->listener_n == app && cp_addr_same(&l->addr, &want->addr) &&
		    l->v6only == want->v6only)
			return i % cp->st->listener_n;
	}
	return TOE_NONE;
}

/* Some connection would be both's. */
static bool overlap(const struct cp_listener *a, const struct cp_listener *b)
{
	if (!covers(a, b->addr.family) && !covers(b, a->addr.family))
		return false;
	return cp_addr_any(&a->addr) || cp_addr_any(&b->addr) || cp_addr_same(&a->addr, &b->addr);
}

static bool taken_by_other(const struct cp *cp, uint32_t app, const struct cp_listener *want)
{
	for (uint32_t i = cp->ports[want->port].listener; i != TOE_NONE; i = chain_rt(cp, i)->next)
		if (i / cp->st->listener_n != app && overlap(&cp->listeners[i], want))
			return true;
	return false;
}

static uint32_t free_listener(const struct cp *cp, uint32_t app)
{
	for (uint32_t i = 0; i < cp->apps[app].listener_n; i++)
		if (cp_listener_rec(cp, app, i)->state == CP_LISTENER_FREE)
			return i;
	return TOE_NONE;
}

static void open_listener(struct cp *cp, uint32_t app, uint32_t i)
{
	struct toe_listener *m = listener_mem(cp, app, i);
	struct cp_listener *l = cp_listener_rec(cp, app, i);

	/* libtoe's part begins at zero, as a slot's does; ctxq resets its own at LISTENER. */
	if (m)
		memset(&m->cons, 0, sizeof(*m) - offsetof(struct toe_listener, cons));
	l->gen++;
	cp_listener_rt(cp, app, i)->installing = 0;
	cp_commit(&l->state, CP_LISTENER_OPENING);
	cp_listener_link(cp, app, i);
	cp_port_update(cp, l->port);
	/* behind the port: when the record opens, no SYN is the kernel's any more (libtoe waits) */
	listener_cmd(cp, app, i, 1);
	cp->opening = true;
	cp_listen_durable(cp);
}

int cp_listen(struct cp *cp, uint32_t app, uint32_t proc, struct toe_ctl_listen *l)
{
	struct cp_listener want = {0};
	struct cp_listener *rec;
	uint32_t i;
	int err = listen_addr(cp, l, &want);

	if (err)
		return err;
	if (!l->port || proc >= TOE_CTX_N)
		return -EINVAL;
	if (taken_by_other(cp, app, &want))
		return -EADDRINUSE;
	i = find_own(cp, app, &want);
	if (i == TOE_NONE) {
		i = free_listener(cp, app);
		if (i == TOE_NONE)
			return -ENOBUFS;
		rec = cp_listener_rec(cp, app, i);
		rec->port = want.port;
		rec->addr = want.addr;
		rec->v6only = want.v6only;
		rec->procs = 0;
		rec->backlog = l->backlog;
		rec->defaults = l->defaults;
		open_listener(cp, app, i);
	}
	rec = cp_listener_rec(cp, app, i);
	rec->backlog = l->backlog;
	rec->defaults = l->defaults;
	rec->procs |= 1ull << proc;
	cp_listener_rt(cp, app, i)->grace_ms = 0;
	l->listener = i;
	return 0;
}

/* What waits in the accept ring will not be accepted any more. */
static void reset_waiting(struct cp *cp, uint32_t app, uint32_t listener)
{
	struct toe_listener *m = listener_mem(cp, app, listener);
	const uint32_t *ring;
	uint32_t mask = cp->apps[app].backlog_n - 1;
	uint32_t cons;
	uint32_t n;

	if (!m)
		return;
	ring = (const uint32_t *)(m + 1);
	cons = __atomic_load_n(&m->cons, __ATOMIC_ACQUIRE);
	n = __atomic_load_n(&m->prod, __ATOMIC_ACQUIRE) - cons;
	for (uint32_t k = 0; k < n && k <= mask; k++) {
		uint32_t slot = __atomic_load_n(&ring[(cons + k) & mask], __ATOMIC_RELAXED);
		struct cp_slot *s = cp_slot_rec(cp, app, slot);

		/* The ring is the application's memory: believe only what our records confirm. */
		if (!s || !(s->flags & CP_SLOT_USED))
			continue;
		if (s->conn != TOE_NONE && cp->conns[s->conn].in.listener != listener)
			continue;
		cp_unaccepted(cp, app, slot);
	}
}

void cp_listener_close(struct cp *cp, uint32_t app, uint32_t listener)
{
	struct cp_listener *l = cp_listener_rec(cp, app, listener);

	if (!l || l->state == CP_LISTENER_FREE)
		return;
	listener_cmd(cp, app, listener, 0);
	listener_unlink(cp, app, listener);
	cp_half_drop_listener(cp, app, listener);
	cp_commit(&l->state, CP_LISTENER_FREE);
	cp_listener_rt(cp, app, listener)->grace_ms = 0;
	reset_waiting(cp, app, listener);
	cp_port_update(cp, l->port);
}

int cp_unlisten(struct cp *cp, uint32_t app, uint32_t proc, uint32_t listener)
{
	struct cp_listener *l = cp_listener_rec(cp, app, listener);

	if (!l || l->state == CP_LISTENER_FREE || proc >= TOE_CTX_N)
		return -EINVAL;
	l->procs &= ~(1ull << proc);
	if (!l->procs)
		cp_listener_close(cp, app, listener);
	return 0;
}

void cp_listener_grace(struct cp *cp, uint32_t app, uint32_t listener)
{
	cp_listener_rt(cp, app, listener)->grace_ms = cp->now_ms + GRACE_MS;
	cp->grace_pending = true;
}

void cp_listen_proc_gone(struct cp *cp, uint32_t app, uint32_t proc)
{
	for (uint32_t i = 0; i < cp->apps[app].listener_n; i++) {
		struct cp_listener *l = cp_listener_rec(cp, app, i);

		if (l->state == CP_LISTENER_FREE || !l->procs)
			continue;
		l->procs &= ~(1ull << proc);
		if (!l->procs)
			cp_listener_grace(cp, app, i);
	}
}

void cp_listen_slow(struct cp *cp)
{
	bool pending = false;

	if (!cp->grace_pending)
		return;
	for (uint32_t app = 0; app < cp->st->app_n; app++) {
		if (cp->apps[app].state != CP_APP_ACTIVE)
			continue;
		for (uint32_t i = 0; i < cp->apps[app].listener_n; i++) {
			uint64_t grace = cp_listener_rt(cp, app, i)->grace_ms;

			if (grace && cp->now_ms >= grace)
				cp_listener_close(cp, app, i);
			else if (grace)
				pending = true;
		}
	}
	cp->grace_pending = pending;
}

void cp_listen_durable(struct cp *cp)
{
	if (!cp->opening || !cp->io.cmd_durable(cp->io.ctx))
		return;
	cp->opening = false;
	for (uint32_t app = 0; app < cp->st->app_n; app++) {
		for (uint32_t i = 0; i < cp->apps[app].listener_n; i++) {
			struct cp_listener *l = cp_listener_rec(cp, app, i);

			if (l->state == CP_LISTENER_OPENING)
				cp_commit(&l->state, CP_LISTENER_OPEN);
		}
	}
}
