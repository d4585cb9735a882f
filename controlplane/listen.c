/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Listeners: LISTEN and UNLISTEN of applications, lookup for SYNs, backlog.
 *
 * A listener belongs to an application and is used by some of its processes; it is closed when the
 * last of them lets go.  Daemons fork and let the parent exit, so the death of the last user is
 * only believed after a grace period in which the child can register.
 */
#include "cp.h"

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

bool cp_listener_find(const struct cp *cp, uint32_t addr, uint16_t port, struct cp_half *out)
{
	uint32_t found = TOE_NONE;

	for (uint32_t i = cp->ports[port].listener; i != TOE_NONE; i = chain_rt(cp, i)->next) {
		const struct cp_listener *l = &cp->listeners[i];

		if (l->addr == addr) {
			found = i;
			break;
		}
		if (!l->addr)
			found = i;
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

/* The address as we store it: 0 = wildcard.  IPv6 wildcards and mapped addresses are IPv4 here. */
static int listen_addr(const struct cp *cp, const struct toe_ctl_listen *l, uint32_t *addr)
{
	static const uint8_t zero[16];
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

	if (l->family == AF_INET)
		*addr = cp_ip4(l->addr);
	else if (l->family == AF_INET6 && !memcmp(l->addr, zero, 16))
		*addr = 0;
	else if (l->family == AF_INET6 && !memcmp(l->addr, mapped, 12))
		*addr = cp_ip4(l->addr + 12);
	else
		return -EAFNOSUPPORT;
	return !*addr || *addr == cp->port_ipv4 ? 0 : -EXDEV;
}

/* Another process, or another socket with SO_REUSEPORT, of the same application. */
static uint32_t find_own(const struct cp *cp, uint32_t app, uint32_t addr, uint16_t port)
{
	for (uint32_t i = cp->ports[port].listener; i != TOE_NONE; i = chain_rt(cp, i)->next)
		if (i / cp->st->listener_n == app && cp->listeners[i].addr == addr)
			return i % cp->st->listener_n;
	return TOE_NONE;
}

static bool taken_by_other(const struct cp *cp, uint32_t app, uint32_t addr, uint16_t port)
{
	for (uint32_t i = cp->ports[port].listener; i != TOE_NONE; i = chain_rt(cp, i)->next)
		if (i / cp->st->listener_n != app &&
		    (!addr || !cp->listeners[i].addr || cp->listeners[i].addr == addr))
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
	listener_cmd(cp, app, i, 1);
	cp->opening = true;
	cp_listen_durable(cp);
	cp_listener_link(cp, app, i);
	cp_port_update(cp, l->port);
}

int cp_listen(struct cp *cp, uint32_t app, uint32_t proc, struct toe_ctl_listen *l)
{
	struct cp_listener *rec;
	uint32_t addr;
	uint32_t i;
	int err = listen_addr(cp, l, &addr);

	if (err)
		return err;
	if (!l->port || proc >= TOE_CTX_N)
		return -EINVAL;
	if (taken_by_other(cp, app, addr, l->port))
		return -EADDRINUSE;
	i = find_own(cp, app, addr, l->port);
	if (i == TOE_NONE) {
		i = free_listener(cp, app);
		if (i == TOE_NONE)
			return -ENOBUFS;
		rec = cp_listener_rec(cp, app, i);
		rec->port = l->port;
		rec->addr = addr;
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
