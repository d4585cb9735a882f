// SPDX-License-Identifier: BSD-3-Clause
/*
 * Keeper and engine for tests of libtoe (lt_fake.h).
 *
 * One process, one thread, one poll loop.  Follows toe/region.h to the letter where the library can
 * tell: hint_pending and doorbell_pending, at most one hint outstanding, `waiting` taken with an
 * exchange, engine_asleep with a recheck, line 0 written with state last.
 */
#include "lt_fake_int.h"

#include <arpa/inet.h>
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

struct fake k;
struct fake_stats *stats;
volatile struct fake_stats *fake_stats;

/* ---- towards the application ---- */

void hint(uint32_t id)
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

void write_line0(uint32_t i, bool fresh)
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

uint32_t new_slot(enum mode mode)
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

void free_slot(uint32_t i)
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

void fail(uint32_t i, uint32_t error)
{
	k.ends[i].state |= TOE_SLOT_ERROR;
	k.ends[i].error = error;
	write_line0(i, false);
	k.ends[i].state |= TOE_SLOT_DEAD; /* as the engine: later, and with a hint of its own */
	write_line0(i, false);
}

static void ring_copy(uint8_t *to, uint32_t to_pos, const uint8_t *from, uint32_t from_pos,
		      uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		to[(to_pos + i) % FAKE_BUF] = from[(from_pos + i) % FAKE_BUF];
}

bool gone(uint32_t i)
{
	return i == TOE_NONE || k.ends[i].mode == FREE || k.ends[i].orphan;
}

/* What i has written goes to its peer. */
void pump(uint32_t i)
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

void fill_names(uint32_t i, uint16_t family, struct name local, struct name remote)
{
	struct toe_slot *s = slot(i);

	s->family = family;
	memcpy(s->local_addr, local.addr, 16);
	memcpy(s->remote_addr, remote.addr, 16);
	s->local_port = local.port;
	s->remote_port = remote.port;
	s->mss = family == AF_INET ? 1448 : 1428;
	s->listener = TOE_NONE;
	STORE(&s->info_gen, k.ends[i].gen);
}

uint32_t find_listener(uint16_t family, uint16_t port)
{
	for (uint32_t l = 0; l < LISTENERS; l++) {
		const struct toe_ctl_listen *r = &k.listen[l];

		if (k.listen_procs[l] && r->port == port &&
		    (r->family == family || (r->family == AF_INET6 && !r->v6only)))
			return l;
	}
	return TOE_NONE;
}

/* The end of a handshake that connect() began. */
static void finish_connect(uint32_t i)
{
	struct end *e = &k.ends[i];
	const struct toe_slot *s = slot(i);
	uint32_t l = find_listener(s->family, e->port);
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
		fill_names(j, s->family, (struct name){s->remote_addr, s->remote_port},
			   (struct name){s->local_addr, s->local_port});
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
			stats->tx_short += LOAD(&slot(i)->tx_short) - k.ends[i].tx_short;
			k.ends[i].tx_short = LOAD(&slot(i)->tx_short);
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
	inet_pton(AF_INET6, "fd00:9::1", h->port_ipv6[0]);
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
