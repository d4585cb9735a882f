// SPDX-License-Identifier: BSD-3-Clause
/*
 * Keeper and engine for tests of libtoe (lt_fake.h).
 *
 * One process, one thread, one poll loop.  Follows toe/region.h to the letter where the library can
 * tell: hint_pending and doorbell_pending, at most one hint outstanding, `waiting` taken with an
 * exchange, engine_asleep with a recheck, line 0 written with state last.
 */
#include "lt_fake.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/ctl_sock.h"
#include "common/raw_sys.h"

#define LISTENERS 8u
#define TOKENS    160u
#define BACKLOG   64u
#define HINTS     128u
#define CLIENTS   80u

#define LOAD(p)     __atomic_load_n(p, __ATOMIC_ACQUIRE)
#define STORE(p, v) __atomic_store_n(p, v, __ATOMIC_RELEASE)
#define FENCE()     __atomic_thread_fence(__ATOMIC_SEQ_CST)

enum mode { FREE, ECHO, PAIR, LONELY, PENDING };

struct end {
	enum mode mode;
	uint32_t gen, rx_tail, tx_head, state, error;
	uint32_t peer;
	bool orphan;
	bool fin_done;
	uint32_t listener;
	uint16_t port;
	int held; /* the kernel socket of a CONNECT */
};

static struct {
	struct toe_region_geometry g;
	struct toe_region_layout l;
	uint8_t *control, *payload;
	int fds[2];
	struct end ends[FAKE_SLOTS];
	uint32_t next_slot;
	int tokens[TOKENS];
	bool live[CLIENTS];
	int clients[CLIENTS];
	uint32_t ctx_of[CLIENTS];
	int kick[TOE_CTX_N], waiter[TOE_CTX_N];
	bool attached[TOE_CTX_N];
	uint32_t hint_prod[TOE_CTX_N], db_cons[TOE_CTX_N];
	bool wake[TOE_CTX_N];
	struct toe_ctl_listen listen[LISTENERS];
	uint64_t listen_procs[LISTENERS];
	uint32_t listen_prod[LISTENERS];
} k;

static struct fake_stats *stats;
volatile struct fake_stats *fake_stats;

static struct toe_slot *slot(uint32_t i)
{
	return (struct toe_slot *)(k.control + k.l.off_slots) + i;
}

static struct toe_listener *listener(uint32_t i)
{
	return (void *)(k.control + k.l.off_listeners + i * toe_listener_stride(BACKLOG));
}

static struct toe_context *context(uint32_t i)
{
	return (void *)(k.control + k.l.off_contexts +
			i * toe_context_stride(HINTS, k.g.doorbell_n));
}

static uint32_t *token_map(void)
{
	return (uint32_t *)(k.control + k.l.off_tokens);
}

/* ---- towards the application ---- */

static void hint(uint32_t id)
{
	bool is_l = id & TOE_ID_LISTENER;
	uint32_t i = id & ~TOE_ID_LISTENER;
	uint64_t *pending = is_l ? &listener(i)->hint_pending : &slot(i)->hint_pending;
	uint64_t mask;

	FENCE();
	mask = is_l ? LOAD(&listener(i)->ctx_mask) : LOAD(&slot(i)->ctx_mask);
	for (uint32_t c = 0; c < TOE_CTX_N; c++) {
		uint64_t bit = 1ull << c;
		struct toe_context *x = context(c);

		if (!(mask & bit) || !k.attached[c] ||
		    (__atomic_fetch_or(pending, bit, __ATOMIC_SEQ_CST) & bit))
			continue;
		if (k.hint_prod[c] - LOAD(&x->hint_cons) >= HINTS) {
			stats->hint_full++;
			__atomic_fetch_and(pending, ~bit, __ATOMIC_SEQ_CST);
			continue;
		}
		((uint32_t *)(x + 1))[k.hint_prod[c] & (HINTS - 1)] = id;
		STORE(&x->hint_prod, ++k.hint_prod[c]);
		stats->hints++;
		k.wake[c] = true;
	}
}

static void wake_all(void)
{
	FENCE();
	for (uint32_t c = 0; c < TOE_CTX_N; c++) {
		if (!k.wake[c])
			continue;
		k.wake[c] = false;
		if (__atomic_exchange_n(&context(c)->waiting, 0, __ATOMIC_SEQ_CST) & 1 &&
		    k.waiter[c] >= 0 && send(k.waiter[c], "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1)
			stats->wakeups++;
	}
}

static void write_line0(uint32_t i, bool fresh)
{
	struct end *e = &k.ends[i];
	struct toe_slot *s = slot(i);

	if (fresh) {
		STORE(&s->state, 0);
		STORE(&s->gen, e->gen);
	}
	s->error = e->error;
	s->srtt_us = 100;
	s->cwnd_bytes = 14480;
	STORE(&s->rx_tail, e->rx_tail);
	STORE(&s->tx_head, e->tx_head);
	STORE(&s->state, e->state);
	hint(i);
}

/* ---- connections ---- */

static uint32_t new_slot(enum mode mode)
{
	for (uint32_t n = 0; n < FAKE_SLOTS; n++) {
		uint32_t i = (k.next_slot + n) % FAKE_SLOTS;
		struct end *e = &k.ends[i];
		struct toe_slot *s = slot(i);

		if (e->mode != FREE)
			continue;
		k.next_slot = i + 1;
		*e = (struct end){.mode = mode,
				  .gen = e->gen + 1,
				  .peer = TOE_NONE,
				  .listener = TOE_NONE,
				  .held = -1};
		memset(&s->tx_tail, 0, 128);
		memset(s->lib, 0, sizeof(s->lib));
		stats->slots_used++;
		return i;
	}
	return TOE_NONE;
}

static void free_slot(uint32_t i)
{
	struct end *e = &k.ends[i];

	if (e->peer != TOE_NONE && e->peer != i)
		k.ends[e->peer].peer = TOE_NONE;
	if (e->held >= 0)
		close(e->held);
	e->held = -1;
	e->mode = FREE;
	stats->slots_used--;
}

static void fail(uint32_t i, uint32_t error)
{
	k.ends[i].state |= TOE_SLOT_ERROR;
	k.ends[i].error = error;
	write_line0(i, false);
}

static void ring_copy(uint8_t *to, uint32_t to_pos, const uint8_t *from, uint32_t from_pos,
		      uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		to[(to_pos + i) % FAKE_BUF] = from[(from_pos + i) % FAKE_BUF];
}

static bool gone(uint32_t i)
{
	return i == TOE_NONE || k.ends[i].mode == FREE || k.ends[i].orphan;
}

/* What i has written goes to its peer. */
static void pump(uint32_t i)
{
	struct end *a = &k.ends[i];
	uint32_t to = a->mode == ECHO ? i : a->peer;
	uint32_t tail, n, room;
	struct end *b;

	if ((a->mode != ECHO && a->mode != PAIR) || (a->state & TOE_SLOT_ERROR))
		return;
	tail = LOAD(&slot(i)->tx_tail);
	if (tail - a->tx_head > FAKE_BUF) {
		stats->bad++;
		return;
	}
	if (gone(to) && a->mode == PAIR) {
		if (tail != a->tx_head && !a->orphan)
			fail(i, ECONNRESET);
		else if (a->orphan)
			free_slot(i);
		else if (LOAD(&slot(i)->ctl) & TOE_CTL_SHUT_WR && !(a->state & TOE_SLOT_TX_DONE)) {
			a->state |= TOE_SLOT_TX_DONE;
			write_line0(i, false);
		}
		return;
	}
	b = &k.ends[to];
	if (b->rx_tail - LOAD(&slot(to)->rx_head) > FAKE_BUF) {
		stats->bad++;
		return;
	}
	room = FAKE_BUF - (b->rx_tail - LOAD(&slot(to)->rx_head));
	if (LOAD(&slot(to)->ctl) & TOE_CTL_SHUT_RD)
		room = FAKE_BUF;
	n = tail - a->tx_head < room ? tail - a->tx_head : room;
	if (!(LOAD(&slot(to)->ctl) & TOE_CTL_SHUT_RD)) {
		ring_copy(k.payload + toe_slot_rx_off(to, FAKE_BUF, FAKE_BUF), b->rx_tail,
			  k.payload + toe_slot_tx_off(i, FAKE_BUF, FAKE_BUF), a->tx_head, n);
		b->rx_tail += n;
	}
	a->tx_head += n;
	if (tail == a->tx_head && ((LOAD(&slot(i)->ctl) & TOE_CTL_SHUT_WR) || a->orphan) &&
	    !a->fin_done) {
		a->fin_done = true;
		a->state |= TOE_SLOT_TX_DONE;
		b->state |= TOE_SLOT_RX_FIN;
		n = 1;
	}
	if (n > 0 && to != i)
		write_line0(to, false);
	if (n > 0)
		write_line0(i, false);
	if (a->orphan && a->fin_done)
		free_slot(i);
}

static void hung_up(uint32_t i)
{
	struct end *e = &k.ends[i];
	const struct toe_slot *s = slot(i);
	uint32_t peer = e->peer;
	bool rst = (LOAD(&s->ctl) & TOE_CTL_LINGER0) ||
		   (LOAD(&s->rx_head) != e->rx_tail && !(e->state & TOE_SLOT_ERROR));

	if (e->mode == FREE)
		return;
	if (e->mode != PAIR || rst || (e->state & TOE_SLOT_ERROR)) {
		bool tell = rst && e->mode == PAIR && !gone(peer) && !(e->state & TOE_SLOT_ERROR);

		if (rst && e->mode == PAIR) /* what was sent before arrives */
			pump(i);
		free_slot(i);
		if (tell)
			fail(peer, ECONNRESET);
		return;
	}
	e->orphan = true;
	pump(i);
	if (k.ends[i].mode != FREE)
		pump(i);
}

static void fill_names(uint32_t i, const uint8_t *local, uint16_t lport, const uint8_t *remote,
		       uint16_t rport)
{
	struct toe_slot *s = slot(i);

	s->family = AF_INET;
	memcpy(s->local_addr, local, 4);
	memcpy(s->remote_addr, remote, 4);
	s->local_port = lport;
	s->remote_port = rport;
	s->mss = 1448;
	s->listener = TOE_NONE;
	STORE(&s->info_gen, k.ends[i].gen);
}

static uint32_t find_listener(uint16_t port)
{
	for (uint32_t l = 0; l < LISTENERS; l++) {
		if (k.listen_procs[l] && k.listen[l].port == port)
			return l;
	}
	return TOE_NONE;
}

/* The end of a handshake that connect() began. */
static void finish_connect(uint32_t i)
{
	struct end *e = &k.ends[i];
	uint32_t l = find_listener(e->port);
	struct toe_listener *m;
	uint32_t j;

	if (e->port == FAKE_BLACKHOLE)
		return;
	if (e->port == FAKE_ECHO) {
		e->mode = ECHO;
	} else if (l == TOE_NONE) {
		e->mode = LONELY;
		fail(i, ECONNREFUSED);
		return;
	} else {
		m = listener(l);
		if (k.listen_prod[l] - LOAD(&m->cons) >= BACKLOG)
			return; /* tried again */
		j = new_slot(PAIR);
		if (j == TOE_NONE)
			return;
		e->mode = PAIR;
		e->peer = j;
		k.ends[j].peer = i;
		k.ends[j].listener = l;
		fill_names(j, slot(i)->remote_addr, slot(i)->remote_port, slot(i)->local_addr,
			   slot(i)->local_port);
		slot(j)->ctl = k.listen[l].defaults;
		k.ends[j].state = TOE_SLOT_ESTABLISHED;
		write_line0(j, true);
		((uint32_t *)(m + 1))[k.listen_prod[l] & (BACKLOG - 1)] = j;
		STORE(&m->prod, ++k.listen_prod[l]);
		hint(l | TOE_ID_LISTENER);
	}
	e->state |= TOE_SLOT_ESTABLISHED;
	write_line0(i, false);
	pump(i);
}

/* ---- messages ---- */

static void reply(int fd, struct toe_ctl_msg *m, int status, const int *fds, unsigned n)
{
	m->status = status;
	toe_ctl_send(fd, m, fds, n);
}

static void attach(uint32_t c, struct toe_ctl_msg *m)
{
	uint32_t ctx = 0;
	int kick[2];
	int fds[3];

	while (ctx < TOE_CTX_N && k.attached[ctx])
		ctx++;
	if (ctx == TOE_CTX_N || toe_ctl_pair(kick) < 0) {
		reply(k.clients[c], m, -EUSERS, NULL, 0);
		return;
	}
	fcntl(kick[0], F_SETFL, O_NONBLOCK);
	fcntl(kick[1], F_SETFL, O_NONBLOCK);
	k.kick[ctx] = kick[0];
	k.waiter[ctx] = -1;
	k.attached[ctx] = true;
	k.ctx_of[c] = ctx;
	k.hint_prod[ctx] = LOAD(&context(ctx)->hint_prod);
	k.db_cons[ctx] = LOAD(&context(ctx)->doorbell_prod);
	STORE(&context(ctx)->doorbell_cons, k.db_cons[ctx]);
	stats->procs++;
	m->u.app.ctx = ctx;
	m->u.app.slot_n = k.g.slot_n;
	m->u.app.listener_n = k.g.listener_n;
	m->u.app.token_n = k.g.token_n;
	m->u.app.backlog_n = k.g.backlog_n;
	m->u.app.hint_n = k.g.hint_n;
	m->u.app.doorbell_n = k.g.doorbell_n;
	m->u.app.rx_buf_bytes = k.g.rx_buf_bytes;
	m->u.app.tx_buf_bytes = k.g.tx_buf_bytes;
	fds[0] = k.fds[0];
	fds[1] = k.fds[1];
	fds[2] = kick[1];
	reply(k.clients[c], m, 0, fds, 3);
	close(kick[1]);
}

static bool add_client(int fd)
{
	for (uint32_t c = 0; c < CLIENTS; c++) {
		if (k.live[c])
			continue;
		k.live[c] = true;
		k.clients[c] = fd;
		k.ctx_of[c] = TOE_NONE;
		return true;
	}
	close(fd);
	return false;
}

static void close_listener(uint32_t l)
{
	struct toe_listener *m = listener(l);

	for (uint32_t at = LOAD(&m->cons); at != k.listen_prod[l]; at++) {
		uint32_t i = ((uint32_t *)(m + 1))[at & (BACKLOG - 1)];
		uint32_t peer = k.ends[i].peer;

		if (k.ends[i].listener != l || k.ends[i].mode == FREE)
			continue;
		free_slot(i);
		if (!gone(peer))
			fail(peer, ECONNRESET);
	}
	STORE(&m->state, 0);
	stats->listeners--;
	hint(l | TOE_ID_LISTENER);
}

static int do_listen(uint32_t ctx, struct toe_ctl_listen *req)
{
	uint32_t l = find_listener(req->port);

	for (uint32_t i = 0; i < LISTENERS && l == TOE_NONE; i++) {
		struct toe_listener *m = listener(i);

		if (k.listen_procs[i])
			continue;
		l = i;
		memset(&m->cons, 0, sizeof(*m) - offsetof(struct toe_listener, cons));
		m->prod = k.listen_prod[l] = 0;
		STORE(&m->state, TOE_LISTENER_OPEN);
		stats->listeners++;
	}
	if (l == TOE_NONE)
		return -ENOBUFS;
	k.listen[l] = *req;
	stats->listen_users += !(k.listen_procs[l] & 1ull << ctx);
	k.listen_procs[l] |= 1ull << ctx;
	req->listener = l;
	return 0;
}

static void unlisten(uint32_t ctx, uint32_t l)
{
	uint64_t bit = 1ull << ctx;

	if (l >= LISTENERS || !(k.listen_procs[l] & bit))
		return;
	k.listen_procs[l] &= ~bit;
	stats->listen_users--;
	if (!k.listen_procs[l])
		close_listener(l);
}

/* As the keeper: getpeername() on the near end tells which token it is. */
static void name_token(int fd, uint32_t id)
{
	static unsigned serial;
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int n = snprintf(sa.sun_path + 1, sizeof(sa.sun_path) - 1, "toe-fake-%08x-%06u-%010u",
			 (unsigned)getpid(), id, ++serial);

	if (bind(fd, (struct sockaddr *)&sa,
		 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n)) < 0)
		stats->bad++;
}

static void claim(int fd, struct toe_ctl_msg *m, int token)
{
	struct sockaddr_un sa = {0};
	socklen_t len = sizeof(sa);
	unsigned id = TOKENS;

	if (getpeername(token, (struct sockaddr *)&sa, &len) == 0)
		sscanf(sa.sun_path + 1, "toe-fake-%*x-%u", &id);
	close(token);
	m->u.token.ids[0] = id;
	reply(fd, m, id < TOKENS ? 0 : -ENOENT, NULL, 0);
}

static void add_tokens(int fd, struct toe_ctl_msg *m, const int *fds, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		uint32_t id = 0;

		while (id < TOKENS && k.tokens[id] >= 0)
			id++;
		if (id == TOKENS) {
			reply(fd, m, -ENOSPC, NULL, 0);
			return;
		}
		k.tokens[id] = fds[i];
		name_token(fds[i], id);
		shutdown(fds[i], SHUT_RD);
		token_map()[id] = TOE_NONE;
		m->u.token.ids[i] = id;
		stats->tokens_live++;
	}
	m->u.token.count = n;
	reply(fd, m, 0, NULL, 0);
}

static void do_connect(int fd, struct toe_ctl_msg *m, int held)
{
	static const uint8_t local[4] = {10, 9, 9, 1};
	struct toe_ctl_conn *c = &m->u.conn;
	uint32_t i;

	if (c->remote_port == FAKE_KERNEL) {
		close(held);
		reply(fd, m, -EXDEV, NULL, 0);
		return;
	}
	i = new_slot(PENDING);
	if (i == TOE_NONE) {
		close(held);
		reply(fd, m, -ENOMEM, NULL, 0);
		return;
	}
	stats->connects++;
	k.ends[i].held = held;
	k.ends[i].port = c->remote_port;
	fill_names(i, local, (uint16_t)(40000 + i), c->remote_addr, c->remote_port);
	slot(i)->ctl = c->ctl;
	c->slot = i;
	c->gen = k.ends[i].gen;
	write_line0(i, true);
	reply(fd, m, 0, NULL, 0);
}

/* A process ended: what it has written counts, even where we had not looked at its doorbells. */
static void leave_slots(uint64_t bit)
{
	for (uint32_t i = 0; i < FAKE_SLOTS; i++) {
		__atomic_fetch_and(&slot(i)->ctx_mask, ~bit, __ATOMIC_SEQ_CST);
		__atomic_fetch_and(&slot(i)->hint_pending, ~bit, __ATOMIC_SEQ_CST);
		if (__atomic_exchange_n(&slot(i)->doorbell_pending, 0, __ATOMIC_SEQ_CST) &&
		    k.ends[i].mode != FREE)
			pump(i);
	}
}

static void message(uint32_t c)
{
	int fd = k.clients[c];
	int fds[TOE_CTL_FDS_MAX];
	struct toe_ctl_msg m;
	unsigned n = 0;
	int rc = toe_ctl_recv(fd, &m, fds, TOE_CTL_FDS_MAX, &n);
	uint32_t ctx = k.ctx_of[c];

	if (rc < 0) {
		close(fd);
		k.live[c] = false;
		if (ctx != TOE_NONE) {
			k.attached[ctx] = false;
			leave_slots(1ull << ctx);
			close(k.kick[ctx]);
			close(k.waiter[ctx]);
			stats->procs--;
			for (uint32_t l = 0; l < LISTENERS; l++)
				unlisten(ctx, l);
		}
		return;
	}
	switch (m.type) {
	case TOE_CTL_PROC_ATTACH:
		attach(c, &m);
		return;
	case TOE_CTL_PROC_FORK:
		add_client(fds[0]);
		return;
	case TOE_CTL_WAITER_ADD:
		k.waiter[ctx] = fds[0];
		reply(fd, &m, 0, NULL, 0);
		return;
	case TOE_CTL_TOKEN_ADD:
		add_tokens(fd, &m, fds, n);
		return;
	case TOE_CTL_CLAIM:
		claim(fd, &m, fds[0]);
		return;
	case TOE_CTL_LISTEN:
		reply(fd, &m, do_listen(ctx, &m.u.listen), NULL, 0);
		return;
	case TOE_CTL_UNLISTEN:
		unlisten(ctx, m.u.listen.listener);
		reply(fd, &m, 0, NULL, 0);
		return;
	case TOE_CTL_CONNECT:
		do_connect(fd, &m, fds[0]);
		return;
	default:
		reply(fd, &m, -EPROTO, NULL, 0);
	}
}

/* ---- loop ---- */

static bool doorbells(void)
{
	bool any = false;

	for (uint32_t c = 0; c < TOE_CTX_N; c++) {
		struct toe_context *x = context(c);
		const uint32_t *ring = (uint32_t *)(x + 1) + HINTS;

		while (k.attached[c] && k.db_cons[c] != LOAD(&x->doorbell_prod)) {
			uint32_t i = ring[k.db_cons[c]++ & (k.g.doorbell_n - 1)];

			STORE(&x->doorbell_cons, k.db_cons[c]);
			any = true;
			if (i >= FAKE_SLOTS) {
				stats->bad++;
				continue;
			}
			stats->doorbells++;
			__atomic_exchange_n(&slot(i)->doorbell_pending, 0, __ATOMIC_SEQ_CST);
			if (k.ends[i].mode == FREE)
				continue;
			pump(i);
			if (k.ends[i].peer != TOE_NONE)
				pump(k.ends[i].peer);
		}
	}
	return any;
}

static void announce(uint32_t asleep)
{
	for (uint32_t c = 0; c < TOE_CTX_N; c++)
		__atomic_store_n(&context(c)->engine_asleep, asleep, __ATOMIC_RELAXED);
	FENCE();
}

static unsigned watch(struct pollfd *p, int listen_fd)
{
	unsigned n = 0;

	p[n++] = (struct pollfd){.fd = listen_fd, .events = POLLIN};
	for (uint32_t c = 0; c < CLIENTS; c++)
		p[n++] = (struct pollfd){.fd = k.live[c] ? k.clients[c] : -1, .events = POLLIN};
	for (uint32_t c = 0; c < TOE_CTX_N; c++)
		p[n++] = (struct pollfd){.fd = k.attached[c] ? k.kick[c] : -1, .events = POLLIN};
	for (uint32_t t = 0; t < TOKENS; t++)
		p[n++] = (struct pollfd){.fd = k.tokens[t]};
	return n;
}

static void handle(const struct pollfd *p, int listen_fd)
{
	const struct pollfd *client = p + 1;
	const struct pollfd *kick = client + CLIENTS;
	const struct pollfd *token = kick + TOE_CTX_N;
	char junk[16];

	for (uint32_t c = 0; c < CLIENTS; c++) {
		if (client[c].revents && k.live[c])
			message(c);
	}
	for (uint32_t c = 0; c < TOE_CTX_N; c++) {
		while (kick[c].fd >= 0 && kick[c].revents && k.attached[c] &&
		       recv(k.kick[c], junk, sizeof(junk), MSG_DONTWAIT) > 0)
			stats->kicks++;
	}
	for (uint32_t t = 0; t < TOKENS; t++) {
		if (!(token[t].revents & POLLHUP))
			continue;
		close(k.tokens[t]);
		k.tokens[t] = -1;
		stats->tokens_live--;
		if (token_map()[t] < FAKE_SLOTS)
			hung_up(token_map()[t]);
		token_map()[t] = TOE_NONE;
	}
	if (p[0].revents) {
		int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);

		if (fd >= 0)
			add_client(fd);
	}
}

static void serve(int listen_fd)
{
	static struct pollfd p[1 + CLIENTS + TOE_CTX_N + TOKENS];

	for (;;) {
		bool busy = doorbells();
		bool pending = false;
		unsigned n;

		for (uint32_t i = 0; i < FAKE_SLOTS; i++) {
			if (k.ends[i].mode == PENDING) {
				finish_connect(i);
				busy |= k.ends[i].mode != PENDING;
				pending |= k.ends[i].mode == PENDING;
			}
		}
		wake_all();
		if (!busy) {
			announce(1);
			busy = doorbells();
			wake_all();
		}
		n = watch(p, listen_fd);
		if (poll(p, n, busy ? 0 : pending ? 20 : 5000) > 0)
			handle(p, listen_fd);
		announce(0);
	}
}

static int memfd(const char *name, uint64_t bytes)
{
	int fd = memfd_create(name, MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0)
		_exit(1);
	return fd;
}

static void make_region(void)
{
	struct toe_region_hdr *h;

	k.g = (struct toe_region_geometry){FAKE_SLOTS, LISTENERS,  TOKENS,   BACKLOG,
					   HINTS,      FAKE_SLOTS, FAKE_BUF, FAKE_BUF};
	toe_region_layout(&k.l, &k.g);
	k.fds[0] = memfd("fake-control", k.l.control_bytes);
	k.fds[1] = memfd("fake-payload", k.l.payload_bytes);
	k.control = mmap(NULL, k.l.control_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, k.fds[0], 0);
	k.payload = mmap(NULL, k.l.payload_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, k.fds[1], 0);
	h = (void *)k.control;
	h->magic = TOE_REGION_MAGIC;
	h->port_ipv4 = 0x0109090au; /* 10.9.9.1 */
	memset(k.tokens, 0xff, sizeof(k.tokens));
	memset(token_map(), 0xff, TOKENS * sizeof(uint32_t));
}

pid_t fake_start(const char *dir)
{
	char path[108];
	int ready[2];
	char byte;
	pid_t pid;
	int fd;

	stats = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	fake_stats = stats;
	snprintf(path, sizeof(path), "%s/%s", dir, TOE_KEEPER_SOCKET);
	if (pipe2(ready, O_CLOEXEC) < 0)
		return -1;
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(ready[0]);
		fd = toe_ctl_listen(path, 0666);
		if (fd < 0)
			_exit(1);
		make_region();
		if (raw_write(ready[1], "", 1) != 1)
			_exit(1);
		close(ready[1]);
		serve(fd);
	}
	close(ready[1]);
	if (pid < 0 || read(ready[0], &byte, 1) != 1)
		return -1;
	close(ready[0]);
	setenv(TOE_ENV_APP, "0:000102030405060708090a0b0c0d0e0f:-1", 1);
	setenv(TOE_ENV_RUN_DIR, dir, 1);
	return pid;
}

void fake_stop(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}
