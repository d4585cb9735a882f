/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The fake stream stage (mqtt_fake.h).
 *
 * Input: the test's steps and the module's calls.  Output: byte queues.  What the engine promises
 * in stream_module.h is kept, what it forbids aborts.  State: struct fake.  One thread.
 */
#include "mqtt_fake_int.h"

#include <stdlib.h>
#include <string.h>

#include "common/log.h"

void bytes_add(struct bytes *q, const void *data, size_t n)
{
	if (q->from == q->to)
		q->from = q->to = 0;
	if (q->to + n > q->room) {
		q->room = 2 * (q->to + n);
		q->b = realloc(q->b, q->room);
		TOE_CHECK(q->b != NULL);
	}
	if (n > 0)
		memcpy(q->b + q->to, data, n);
	q->to += n;
}

void bytes_drop(struct bytes *q, size_t n)
{
	TOE_CHECK(n <= bytes_n(q));
	q->from += n;
}

static void bytes_free(struct bytes *q)
{
	free(q->b);
	*q = (struct bytes){0};
}

/* ---- making ---- */

struct fake *fake_new(const struct toe_stream_module *m, const struct toe_config *cfg,
		      const struct fake_opts *o)
{
	struct fake *f = calloc(1, sizeof(*f));

	TOE_CHECK(f != NULL);
	f->s.m = m;
	f->s.o = *o;
	f->s.arena = toe_arena_create(o->arena_mb << 20);
	f->s.states = calloc(FAKE_CONNS, m->conn_bytes);
	TOE_CHECK(f->s.arena != NULL && f->s.states != NULL);
	f->s.app_id = FAKE_APP;
	f->s.serial = 1;
	f->s.ms = UINT32_MAX - 3000; /* wraps soon */
	for (uint32_t i = 0; i < FAKE_CONNS; i++)
		f->s.conn[i] = (struct toe_stream_conn){.s = &f->s, .id = i};
	TOE_CHECK(m->init(&f->s, cfg) == 0);
	return f;
}

size_t fake_free(struct fake *f)
{
	struct toe_stream *s = &f->s;
	size_t left;

	for (uint32_t i = 0; i < FAKE_CONNS; i++) {
		if (s->conn[i].open)
			fake_close(f, i);
		bytes_free(&s->conn[i].cin);
		bytes_free(&s->conn[i].fwd);
		bytes_free(&s->conn[i].ring);
	}
	s->m->fini(s);
	left = toe_arena_used(s->arena);
	toe_arena_free(s->arena);
	free(s->states);
	free(f);
	return left;
}

struct toe_stream *fake_stream(struct fake *f)
{
	return &f->s;
}

struct toe_stream_conn *fake_conn(struct fake *f, uint32_t id)
{
	return &f->s.conn[id];
}

void fake_set_tap(struct fake *f, fake_tap t, void *arg)
{
	f->s.tap = t;
	f->s.tap_arg = arg;
}

void fake_set_reach(struct fake *f, fake_reach r, void *arg)
{
	f->s.reach = r;
	f->s.reach_arg = arg;
}

void fake_followed(struct fake *f, uint32_t n)
{
	f->s.followed = n;
}

void fake_plain(struct fake *f, uint32_t n, uint32_t followed)
{
	f->s.plain = n;
	f->s.plain_unseen = n - followed;
}

void fake_reload(struct fake *f)
{
	f->s.reloads++;
}

void fake_set_users(struct fake *f, uint64_t users)
{
	f->s.users = users;
}

void fake_set_app(struct fake *f, uint32_t app_id, uint32_t serial, uint32_t kernel_conns)
{
	f->s.app_id = app_id;
	f->s.serial = serial;
	f->s.kernel = kernel_conns;
}

void fake_time(struct fake *f, uint32_t ms)
{
	f->s.ms += ms;
}

uint32_t fake_open(struct fake *f)
{
	struct toe_stream *s = &f->s;

	for (uint32_t i = 0; i < FAKE_CONNS; i++) {
		struct toe_stream_conn *c = &s->conn[i];

		if (c->open)
			continue;
		bytes_free(&c->cin);
		bytes_free(&c->fwd);
		bytes_free(&c->ring);
		*c = (struct toe_stream_conn){.s = s, .id = i, .gen = c->gen + 1, .open = true};
		c->tail = c->true_tail = c->get = 0;
		toe_extq_init(&c->tx, UINT32_MAX - 1000);
		memset(toe_stream_state(c), 0, s->m->conn_bytes);
		s->m->open(s, c);
		return i;
	}
	return UINT32_MAX;
}

bool fake_is_open(const struct fake *f, uint32_t id)
{
	return f->s.conn[id].open;
}

bool fake_is_dead(const struct fake *f, uint32_t id)
{
	return f->s.conn[id].dead;
}

static void take_bell(struct toe_stream *s, uint32_t i)
{
	s->conn[s->bell[i]].rung = false;
	s->bell_n--;
	memmove(s->bell + i, s->bell + i + 1, (s->bell_n - i) * sizeof(s->bell[0]));
	memmove(s->bell_no + i, s->bell_no + i + 1, (s->bell_n - i) * sizeof(s->bell_no[0]));
}

void fake_close(struct fake *f, uint32_t id)
{
	struct toe_stream_conn *c = &f->s.conn[id];

	TOE_CHECK(c->open);
	end_tx(&f->s, c);
	c->dead = true;
	f->s.m->close(&f->s, c);
	c->open = false;
	for (uint32_t i = 0; c->rung && i < f->s.bell_n; i++) {
		if (f->s.bell[i] == id)
			take_bell(&f->s, i);
	}
	toe_extq_clear(f->s.arena, &c->tx);
}

/* ---- client ---- */

void fake_client_write(struct fake *f, uint32_t id, const void *data, size_t n)
{
	bytes_add(&f->s.conn[id].cin, data, n);
}

void fake_client_fin(struct fake *f, uint32_t id)
{
	f->s.conn[id].rx_fin = true;
}

static bool offer_fin(struct toe_stream *s, struct toe_stream_conn *c)
{
	c->rx_wait = true;
	if (s->m->rx_end(s, c)) {
		c->rx_ended = true;
		c->rx_wait = false;
	}
	return c->rx_ended;
}

static bool offer_rst(struct toe_stream *s, struct toe_stream_conn *c)
{
	c->rx_wait = true;
	if (s->m->rx_reset(s, c)) {
		c->rst_seen = true;
		c->rx_wait = false;
		end_tx(s, c);
	}
	return c->rst_seen;
}

void fake_client_rst(struct fake *f, uint32_t id)
{
	struct toe_stream_conn *c = &f->s.conn[id];

	c->rst = true;
	toe_extq_clear(f->s.arena, &c->tx);
}

size_t fake_client_pending(const struct fake *f, uint32_t id)
{
	return bytes_n(&f->s.conn[id].cin);
}

size_t fake_client_unread(struct fake *f, uint32_t id)
{
	return toe_extq_bytes(&f->s.conn[id].tx);
}

size_t fake_client_read(struct fake *f, uint32_t id, void *dst, size_t max)
{
	struct toe_stream_conn *c = &f->s.conn[id];
	size_t n = toe_extq_bytes(&c->tx);

	n = n < max ? n : max;
	if (n == 0)
		return 0;
	if (dst != NULL)
		toe_extq_read(&c->tx, c->tx.begin, dst, (uint32_t)n);
	toe_extq_trim(f->s.arena, &c->tx, c->tx.begin + (uint32_t)n);
	c->tx_wait = false;
	return n;
}

/* ---- application ---- */

size_t fake_app_unread(struct fake *f, uint32_t id)
{
	return bytes_n(&f->s.conn[id].fwd);
}

size_t fake_app_read(struct fake *f, uint32_t id, void *dst, size_t max)
{
	struct bytes *q = &f->s.conn[id].fwd;
	size_t n = bytes_n(q) < max ? bytes_n(q) : max;

	if (n > 0)
		memcpy(dst, bytes_at(q), n);
	bytes_drop(q, n);
	return n;
}

bool fake_app_sees_fin(const struct fake *f, uint32_t id)
{
	const struct toe_stream_conn *c = &f->s.conn[id];

	return c->dead || (c->rx_ended && bytes_n(&c->fwd) == 0);
}

bool fake_app_sees_rst(const struct fake *f, uint32_t id)
{
	return f->s.conn[id].rst_seen;
}

static void ring_bell(struct toe_stream *s, struct toe_stream_conn *c)
{
	if (c->rung)
		return; /* its cursors are read when it is handled */
	c->rung = true;
	s->bell_no[s->bell_n] = ++s->bells;
	s->bell[s->bell_n++] = c->id;
}

size_t fake_app_write(struct fake *f, uint32_t id, const void *data, size_t n)
{
	struct toe_stream_conn *c = &f->s.conn[id];
	size_t room = f->s.o.app_buf - bytes_n(&c->ring);

	if (c->dead || c->rst_seen || c->true_fin)
		return n;
	if (n > room) {
		n = room;
		c->true_short++;
	}
	bytes_add(&c->ring, data, n);
	c->true_tail += (uint32_t)n;
	ring_bell(&f->s, c);
	return n;
}

void fake_app_close(struct fake *f, uint32_t id)
{
	f->s.conn[id].true_fin = true;
	ring_bell(&f->s, &f->s.conn[id]);
}

/* ---- engine ---- */

static size_t offer_bytes(struct toe_stream *s, struct toe_stream_conn *c, size_t max)
{
	size_t n = bytes_n(&c->cin) < max ? bytes_n(&c->cin) : max;
	uint8_t *exact = malloc(n); /* so that a sanitizer sees every byte read beyond */
	size_t took;

	TOE_CHECK(exact != NULL);
	memcpy(exact, bytes_at(&c->cin), n);
	c->rx_wait = true;
	took = s->m->rx(s, c, exact, n);
	free(exact);
	TOE_CHECK(took <= n);
	c->held += (uint32_t)took;
	if (took == n)
		c->rx_wait = false;
	TOE_CHECK(c->held == 0 || c->dead); /* this module keeps nothing in the window */
	bytes_drop(&c->cin, took);
	return took;
}

size_t fake_offer(struct fake *f, uint32_t id, size_t max)
{
	struct toe_stream_conn *c = &f->s.conn[id];

	if (!c->open || c->dead || c->rx_wait || max == 0)
		return 0;
	if (bytes_n(&c->cin) > 0 && !c->rx_ended)
		return offer_bytes(&f->s, c, max);
	if (c->rx_fin && !c->rx_ended)
		return offer_fin(&f->s, c);
	return c->rst && !c->rst_seen && offer_rst(&f->s, c);
}

bool fake_hc(struct fake *f)
{
	struct toe_stream *s = &f->s;
	struct toe_stream_conn *c;

	if (s->bell_n == 0)
		return false;
	c = &s->conn[s->bell[0]];
	take_bell(s, 0);
	if (c->first == 0) {
		c->began = ++s->begun;
		c->first = c->true_tail;
	}
	c->tail = c->true_tail;
	c->fin = c->true_fin;
	if (c->shorts != c->true_short) {
		c->shorts = c->true_short;
		if (!c->tx_ended)
			s->m->tx_short(s, c);
	}
	look_at_tickets(s);
	return true;
}

static size_t fetch(struct fake *f, struct toe_stream_conn *c, size_t max)
{
	struct toe_stream *s = &f->s;
	size_t n = c->tail - c->get, took;
	struct toe_buf *b;

	if (!c->open || c->dead || c->tx_wait || c->tx_ended)
		return 0;
	if (n == 0 && c->fin) {
		end_tx(s, c);
		return 1;
	}
	n = n < max ? n : max;
	if (n == 0 || toe_extq_bytes(&c->tx) >= s->o.tx_limit)
		return 0;
	b = toe_buf_new(s->arena, n);
	if (b == NULL)
		return 0;
	memcpy(b->data, bytes_at(&c->ring), n);
	b->len = (uint32_t)n;
	c->tx_wait = true;
	took = s->m->tx(s, c, b, 0, (uint32_t)n);
	TOE_CHECK(took <= n);
	if (took == n)
		c->tx_wait = false;
	c->get += (uint32_t)took;
	bytes_drop(&c->ring, took);
	toe_buf_put(s->arena, b);
	return took;
}

/* What an application writes first, on whatever connection, is fetched in the order in which it was
 * written: nothing holds that up. */
static void fetch_older(struct fake *f, const struct toe_stream_conn *c)
{
	struct toe_stream_conn *first;

	do {
		first = NULL;
		for (uint32_t i = 0; i < FAKE_CONNS; i++) {
			struct toe_stream_conn *o = &f->s.conn[i];

			if (o->open && !o->dead && !o->tx_ended && o->get < o->first &&
			    o->began < (first != NULL ? first->began : c->began))
				first = o;
		}
	} while (first != NULL && fetch(f, first, SIZE_MAX) != 0);
}

size_t fake_fetch(struct fake *f, uint32_t id, size_t max)
{
	struct toe_stream_conn *c = &f->s.conn[id];

	if (c->open && c->get < c->first)
		fetch_older(f, c);
	return fetch(f, c, max);
}

unsigned fake_poll(struct fake *f, unsigned budget)
{
	look_at_tickets(&f->s);
	return f->s.m->poll(&f->s, budget);
}

void fake_settle(struct fake *f)
{
	bool moved = true;

	while (moved) {
		moved = fake_poll(f, 64) != 0;
		while (fake_hc(f))
			moved = true;
		for (uint32_t i = 0; i < FAKE_CONNS; i++) {
			if (!f->s.conn[i].open)
				continue;
			moved |= fake_offer(f, i, SIZE_MAX) != 0;
			moved |= fake_fetch(f, i, SIZE_MAX) != 0;
		}
	}
}
