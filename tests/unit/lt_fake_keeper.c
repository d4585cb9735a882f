// SPDX-License-Identifier: BSD-3-Clause
/* The keeper's half of the fake (lt_fake.h): messages of libtoe. */
#include "lt_fake_int.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/ctl_sock.h"

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

bool add_client(int fd)
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

/* LISTENERS: none is free. */
static uint32_t open_listener(void)
{
	uint32_t l = 0;
	struct toe_listener *m;

	while (l < LISTENERS && k.listen_procs[l])
		l++;
	if (l == LISTENERS)
		return l;
	m = listener(l);
	memset(&m->cons, 0, sizeof(*m) - offsetof(struct toe_listener, cons));
	m->prod = k.listen_prod[l] = 0;
	STORE(&m->state, stats->probe ? 0 : TOE_LISTENER_OPEN);
	stats->listeners++;
	return l;
}

/* As the keeper: IPv4 is never written as IPv6. */
static bool well_formed(uint16_t family, const uint8_t *addr)
{
	static const uint8_t zero[16];
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

	if (family == AF_INET)
		return memcmp(addr + 4, zero, 12) == 0;
	return family == AF_INET6 && memcmp(addr, mapped, sizeof(mapped)) != 0;
}

static bool same_listener(uint32_t l, const struct toe_ctl_listen *req)
{
	const struct toe_ctl_listen *r = &k.listen[l];

	return k.listen_procs[l] && r->port == req->port && r->family == req->family &&
	       r->v6only == req->v6only;
}

static void probe(uint16_t port)
{
	struct sockaddr_in sa = {.sin_family = AF_INET,
				 .sin_port = htons(port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	struct pollfd p = {.fd = fd, .events = POLLOUT};

	stats->probed++;
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0 || poll(&p, 1, 50) != 0)
		stats->probe_in++;
	close(fd);
}

/* The data path has the port some time after the answer. */
static void open_late(const struct toe_ctl_listen *req)
{
	const struct timespec time_to_be_wrong = {.tv_nsec = 20000000};

	nanosleep(&time_to_be_wrong, NULL);
	probe(req->port);
	STORE(&listener(req->listener)->state, TOE_LISTENER_OPEN);
}

static int do_listen(uint32_t ctx, struct toe_ctl_listen *req)
{
	uint32_t l = 0;

	if (!well_formed(req->family, req->addr) || req->v6only > (req->family == AF_INET6)) {
		stats->bad++;
		return -EINVAL;
	}
	if (stats->probe)
		probe(req->port);
	while (l < LISTENERS && !same_listener(l, req))
		l++;

	if (l >= LISTENERS)
		l = open_listener();
	if (l >= LISTENERS)
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
	static const uint8_t local4[16] = {10, 9, 9, 1};
	static const uint8_t local6[16] = {0xfd, 0, 0, 9, [15] = 1};
	struct toe_ctl_conn *c = &m->u.conn;
	const uint8_t *local = c->family == AF_INET6 ? local6 : local4;
	uint32_t i;

	if (!well_formed(c->family, c->remote_addr))
		stats->bad++;
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
	fill_names(i, c->family, (struct name){local, (uint16_t)(40000 + i)},
		   (struct name){c->remote_addr, c->remote_port});
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

static void restored(const struct toe_ctl_kconn *kc, char *news)
{
	size_t room;

	for (size_t at = 0; at < kc->len; at += 2u + kc->data[at + 1]) {
		const uint8_t *p = kc->data + at + 2;
		int n = p[-1];

		news += strlen(news);
		room = sizeof(stats->news) - (size_t)(news - (const char *)stats->news);
		if (p[-2] == TOE_RESTORE_SUB)
			snprintf(news, room, "U %.*s %u %u;", n - 5, (const char *)p + 5, p[0],
				 p[4]);
		else
			snprintf(news, room, "%c %.*s;", "?SUW"[p[-2] & 3u], n, (const char *)p);
	}
}

static int kernel_news(const struct toe_ctl_kconn *kc)
{
	char *news = (char *)stats->news;
	size_t at = strlen(news);

	if (kc->what == TOE_KCONN_MQTT_RESUME && stats->resume_refused) {
		snprintf(news + at, sizeof(stats->news) - at, "refused;");
		return -ESRCH;
	}
	if (kc->what == TOE_KCONN_MQTT_BRIDGE && stats->news_later > 0) {
		stats->news_later--;
		return -EAGAIN;
	}
	if (kc->slot1 == 0) {
		stats->followed += toe_kconn_begins(kc->what);
		stats->followed -= kc->what == TOE_KCONN_MQTT_END;
	}
	if (stats->followed > stats->kernel_conns)
		stats->bad++;
	if (kc->what == TOE_KCONN_MQTT_END && kc->len > 0) {
		snprintf(news + at, sizeof(stats->news) - at, "L ;");
		return 0;
	}
	if (kc->what == TOE_KCONN_MQTT_CHECKED) {
		snprintf(news + at, sizeof(stats->news) - at, "K %.*s;", (int)kc->len,
			 (const char *)kc->data);
		return 0;
	}
	if (kc->what == TOE_KCONN_MQTT_FILTER) {
		for (unsigned i = 0; i < kc->len; i += 1u + kc->data[i])
			snprintf(news + strlen(news), sizeof(stats->news) - strlen(news), "F %.*s;",
				 kc->data[i], (const char *)kc->data + i + 1);
		return stats->news_refused ? -ENOSPC : 0;
	}
	if (kc->what != TOE_KCONN_MQTT_RESTORE) {
		snprintf(news + at, sizeof(stats->news) - at, "%c %.*s;", "?CFE??RNM?B"[kc->what],
			 (int)kc -> len, (const char *)kc -> data);
		return 0;
	}
	if (stats->news_later > 0) {
		stats->news_later--;
		return -EAGAIN;
	}
	restored(kc, news);
	return stats->restore_answer;
}

static int kernel_conn(uint32_t ctx, const struct toe_ctl_kconn *kc)
{
	bool reload = kc->flags & TOE_KCONN_RELOAD;

	/* the first of a process, before it listens, is that it begins */
	if (kc->what == TOE_KCONN_MQTT_MISSED && !(k.begun & 1ull << ctx)) {
		k.begun |= 1ull << ctx;
		stats->begun++;
		return 0;
	}
	if (kc->what != 0)
		return kernel_news(kc);
	if ((kc->delta == 0 && !reload) || k.kernel_conns[ctx] + kc->delta < 0) {
		stats->bad++;
		return -EINVAL;
	}
	k.kernel_conns[ctx] += kc->delta;
	stats->kernel_conns += (uint32_t)kc->delta;
	stats->kernel_conn_calls++;
	stats->reloads += reload;
	return 0;
}

void message(uint32_t c)
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
			stats->kernel_conns -= (uint32_t)k.kernel_conns[ctx];
			k.kernel_conns[ctx] = 0;
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
		if (stats->probe)
			open_late(&m.u.listen);
		return;
	case TOE_CTL_UNLISTEN:
		unlisten(ctx, m.u.listen.listener);
		reply(fd, &m, 0, NULL, 0);
		return;
	case TOE_CTL_CONNECT:
		do_connect(fd, &m, fds[0]);
		return;
	case TOE_CTL_KERNEL_CONN:
		reply(fd, &m, kernel_conn(ctx, &m.u.kconn), NULL, 0);
		return;
	default:
		reply(fd, &m, -EPROTO, NULL, 0);
	}
}
