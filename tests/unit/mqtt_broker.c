/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The reference broker (mqtt_broker.h).
 *
 * Input: bytes the module forwarded.  Output: bytes into the application's buffer.  State:
 * sessions, subscriptions, retained messages, a queue per connection.  One thread.
 */
#include "mqtt_broker_int.h"

#include <stdlib.h>
#include <string.h>

#include "common/log.h"

bool broker_match(const char *filter, const char *topic)
{
	if (topic[0] == '$' && (filter[0] == '#' || filter[0] == '+'))
		return false;
	for (;;) {
		size_t fl = strcspn(filter, "/"), tl = strcspn(topic, "/");

		if (fl == 1 && filter[0] == '#')
			return true;
		if (!(fl == 1 && filter[0] == '+') && (fl != tl || memcmp(filter, topic, fl) != 0))
			return false;
		filter += fl;
		topic += tl;
		if (*topic == '\0')
			return *filter == '\0' || strcmp(filter, "/#") == 0;
		if (*filter == '\0')
			return false;
		filter++;
		topic++;
	}
}

/* ---- packets ---- */

struct rd {
	const uint8_t *p, *end;
	bool bad;
};

static unsigned rd_u8(struct rd *r)
{
	if (r->p == r->end) {
		r->bad = true;
		return 0;
	}
	return *r->p++;
}

static unsigned rd_u16(struct rd *r)
{
	unsigned hi = rd_u8(r);

	return hi << 8 | rd_u8(r);
}

static size_t rd_varint(struct rd *r)
{
	size_t v = 0;

	for (unsigned i = 0; i < 4; i++) {
		unsigned byte = rd_u8(r);

		v |= (size_t)(byte & 127u) << (7 * i);
		if (!(byte & 128u))
			return v;
	}
	r->bad = true;
	return 0;
}

static const uint8_t *rd_take(struct rd *r, size_t n)
{
	const uint8_t *p = r->p;

	if ((size_t)(r->end - r->p) < n) {
		r->bad = true;
		return r->p;
	}
	r->p += n;
	return p;
}

static void rd_name(struct rd *r, char *out)
{
	unsigned n = rd_u16(r);
	const uint8_t *p = rd_take(r, n);

	if (r->bad || n >= NAME_MAX_LEN) {
		r->bad = true;
		n = 0;
	}
	memcpy(out, p, n);
	out[n] = '\0';
}

static void session_end(struct broker *b, uint32_t i)
{
	struct session *se = &b->session[i];

	se->conn = UINT32_MAX;
	if (!se->keep)
		se->used = false;
}

void broker_gone(struct broker *b, uint32_t id)
{
	struct conn *c = &b->conn[id];

	if (c->alive && c->session != UINT32_MAX)
		session_end(b, c->session);
	c->session = UINT32_MAX;
	c->alive = false;
}

void broker_close(struct broker *b, uint32_t id)
{
	if (!b->conn[id].alive)
		return;
	will_send(b, id);
	broker_gone(b, id);
	fake_app_close(b->f, id);
}

static uint32_t session_find(struct broker *b, const char *name)
{
	uint32_t room = UINT32_MAX;

	for (uint32_t i = 0; i < SESSIONS_MAX; i++) {
		if (b->session[i].used && strcmp(b->session[i].id, name) == 0)
			return i;
		if (!b->session[i].used && room == UINT32_MAX)
			room = i;
	}
	TOE_CHECK(room != UINT32_MAX);
	return room;
}

/* The will goes if the session ends: not to the session itself if it begins anew. */
static void take_over(struct broker *b, struct session *se, bool clean)
{
	static const uint8_t taken[] = {0xe0, 1, 0x8e};
	uint32_t old = se->conn;
	struct conn *c = &b->conn[old];

	if (clean)
		se->n = 0;
	if (se->keep && !clean)
		will_drop(c);
	will_send(b, old);
	if (c->level == 5)
		send_packet(b, old, taken, sizeof(taken));
	broker_close(b, old);
}

static void rd_will(const struct conn *c, unsigned flags, struct rd *r, struct publish *p)
{
	*p = (struct publish){.qos = flags >> 3 & 3u, .retain = (flags & 0x20u) != 0};
	if (!(flags & 4u))
		return;
	if (c->level == 5)
		rd_take(r, rd_varint(r));
	rd_name(r, p->topic);
	p->payload_n = rd_u16(r);
	p->payload = rd_take(r, p->payload_n);
	r->bad |= p->qos == 3 || p->topic[0] == '\0' || strpbrk(p->topic, "+#") != NULL;
}

static bool on_connect(struct broker *b, uint32_t id, struct rd *r)
{
	uint8_t ack[8] = {0x20, 2};
	struct conn *c = &b->conn[id];
	char name[NAME_MAX_LEN];
	struct session *se;
	uint32_t expiry = 0;
	struct publish will;
	unsigned flags;
	bool present;

	rd_name(r, name);
	c->level = (uint8_t)rd_u8(r);
	c->bridge = (c->level & 0x80u) != 0;
	c->level &= 0x7fu;
	flags = rd_u8(r);
	rd_u16(r);
	if (c->level == 5) {
		struct rd p;
		size_t n = rd_varint(r);

		p.p = rd_take(r, n);
		p.end = p.p + n;
		p.bad = false;
		if (!r->bad && n >= 5 && rd_u8(&p) == 0x11)
			expiry = rd_u16(&p) << 16 | rd_u16(&p);
	}
	rd_name(r, name);
	rd_will(c, flags, r, &will);
	if (r->bad || c->connected || (flags & 0xc0u) != 0)
		return false;
	c->connected = true;
	if (flags & 4u)
		will_keep(c, &will);
	c->session = session_find(b, name);
	se = &b->session[c->session];
	if (se->used && se->conn != UINT32_MAX) {
		uint32_t at = c->session;

		take_over(b, se, (flags & 2u) != 0);
		c->session = at;
	}
	present = se->used && !(flags & 2u);
	if (!present)
		*se = (struct session){0};
	memcpy(se->id, name, sizeof(name));
	se->used = true;
	se->keep = c->level == 5 ? expiry != 0 : !(flags & 2u);
	se->conn = id;
	if (b->h.connected != NULL)
		b->h.connected(b->h.arg, id);
	ack[2] = present && c->level != 3;
	if (c->level == 5)
		ack[1] = 3;
	send_ack(b, id, ack, ack[1] + 2u);
	return true;
}

static bool sub_put(struct session *se, const struct sub *s)
{
	for (unsigned i = 0; i < se->n; i++) {
		if (strcmp(se->subs[i].filter, s->filter) != 0)
			continue;
		se->subs[i].qos = s->qos; /* No Local stays (mosquitto) */
		se->subs[i].rap = s->rap;
		se->subs[i].sub_id = s->sub_id;
		return true;
	}
	if (se->n == SUBS_MAX)
		return false;
	se->subs[se->n++] = *s;
	return true;
}

static bool on_subscribe(struct broker *b, uint32_t id, struct rd *r)
{
	struct conn *c = &b->conn[id];
	struct session *se = &b->session[c->session];
	struct sub got[SUBS_MAX];
	uint8_t ack[40] = {0x90};
	unsigned pid = rd_u16(r), n = 0, head = 4;
	uint32_t sub_id = 0;

	if (c->level == 5) {
		if (rd_varint(r) > 0) {
			if (rd_u8(r) != 0x0b)
				return false;
			sub_id = (uint32_t)rd_varint(r);
		}
		ack[4] = 0;
		head = 5;
	}
	while (!r->bad && r->p < r->end && n < SUBS_MAX) {
		unsigned opts;

		got[n] = (struct sub){.sub_id = sub_id};
		rd_name(r, got[n].filter);
		opts = rd_u8(r);
		got[n].qos = opts & 3u;
		got[n].no_local = (opts & 4u) != 0 || c->bridge;
		got[n].rap = (opts & 8u) != 0 || c->bridge;
		ack[head + n] = sub_put(se, &got[n]) ? got[n].qos : 0x80;
		n++;
	}
	if (r->bad || n == 0)
		return false;
	ack[1] = (uint8_t)(head - 2 + n);
	ack[2] = (uint8_t)(pid >> 8);
	ack[3] = (uint8_t)pid;
	send_ack(b, id, ack, head + n);
	for (unsigned i = 0; i < n; i++)
		give_retained(b, id, &got[i]);
	return true;
}

static bool on_unsubscribe(struct broker *b, uint32_t id, struct rd *r)
{
	struct conn *c = &b->conn[id];
	struct session *se = &b->session[c->session];
	uint8_t ack[40] = {0xb0};
	unsigned pid = rd_u16(r), n = 0;
	char name[NAME_MAX_LEN];

	if (c->level == 5)
		rd_varint(r);
	while (!r->bad && r->p < r->end && n < SUBS_MAX) {
		bool had = false;

		rd_name(r, name);
		for (unsigned i = 0; i < se->n; i++) {
			if (strcmp(se->subs[i].filter, name) != 0)
				continue;
			memmove(se->subs + i, se->subs + i + 1,
				(--se->n - i) * sizeof(se->subs[0]));
			had = true;
		}
		ack[5 + n++] = had ? 0 : 0x11;
	}
	ack[2] = (uint8_t)(pid >> 8);
	ack[3] = (uint8_t)pid;
	ack[1] = (uint8_t)(c->level == 5 ? 3 + n : 2);
	send_ack(b, id, ack, ack[1] + 2u);
	return !r->bad && n > 0;
}

static bool parse_publish(const struct conn *c, uint8_t first, struct rd *r, struct publish *p)
{
	*p = (struct publish){.qos = first >> 1 & 3u, .retain = (first & 1u) != 0};
	rd_name(r, p->topic);
	if (p->qos > 0)
		p->id = (uint16_t)rd_u16(r);
	if (c->level == 5) {
		p->props_n = rd_varint(r);
		p->props = rd_take(r, p->props_n);
	}
	p->payload = r->p;
	p->payload_n = (size_t)(r->end - r->p);
	return !r->bad && p->topic[0] != '\0' && p->qos < 3 && strpbrk(p->topic, "+#") == NULL;
}

static bool on_publish(struct broker *b, uint32_t id, uint8_t first, struct rd *r)
{
	struct conn *c = &b->conn[id];
	const uint8_t *body = r->p;
	uint8_t ack[4] = {0x40, 2};
	struct publish p;

	if (!parse_publish(c, first, r, &p))
		return false;
	ack[2] = (uint8_t)(p.id >> 8);
	ack[3] = (uint8_t)p.id;
	if (p.qos == 2) {
		struct packet *w = packet_new(body, (size_t)(r->end - body));

		w->at = (size_t)first << 16 | p.id;
		w->next = c->qos2;
		c->qos2 = w;
		ack[0] = 0x50;
		send_ack(b, id, ack, 4);
		return true;
	}
	if (p.retain)
		keep_retained(b, &p);
	distribute(b, id, &p);
	if (p.qos == 1)
		send_ack(b, id, ack, 4);
	return true;
}

static bool on_pubrel(struct broker *b, uint32_t id, struct rd *r)
{
	struct conn *c = &b->conn[id];
	uint16_t pid = (uint16_t)rd_u16(r);
	const uint8_t ack[4] = {0x70, 2, (uint8_t)(pid >> 8), (uint8_t)pid};

	for (struct packet **at = &c->qos2; *at != NULL; at = &(*at)->next) {
		struct packet *w = *at;
		struct rd body = {w->b, w->b + w->n, false};
		struct publish p;

		if ((uint16_t)w->at != pid)
			continue;
		parse_publish(c, (uint8_t)(w->at >> 16), &body, &p);
		if (p.retain)
			keep_retained(b, &p);
		distribute(b, id, &p);
		*at = w->next;
		free(w);
		break;
	}
	send_ack(b, id, ack, 4);
	return !r->bad;
}

/* All of it has been handled. */
static void over(struct broker *b, uint32_t id)
{
	if (b->h.over != NULL && b->conn[id].connected)
		b->h.over(b->h.arg, id);
	broker_close(b, id);
}

static void on_disconnect(struct broker *b, uint32_t id, struct rd *r)
{
	struct conn *c = &b->conn[id];

	if (c->level != 5 || r->p == r->end || rd_u8(r) != 4)
		will_drop(c);
	over(b, id);
}

/* False: the broker closes the connection for it. */
static bool handle(struct broker *b, uint32_t id, uint8_t first, struct rd *r)
{
	static const uint8_t pong[2] = {0xd0, 0};
	struct conn *c = &b->conn[id];

	if (!c->connected)
		return first == 0x10 && on_connect(b, id, r);
	switch (first >> 4) {
	case 3:
		return on_publish(b, id, first, r);
	case 4: /* acknowledgements of deliveries */
	case 5:
	case 7:
		return true;
	case 6:
		return on_pubrel(b, id, r);
	case 8:
		return first == 0x82 && on_subscribe(b, id, r);
	case 10:
		return first == 0xa2 && on_unsubscribe(b, id, r);
	case 12:
		c->pings_in++;
		send_ack(b, id, pong, 2);
		return r->p == r->end;
	case 14:
		on_disconnect(b, id, r);
		return true;
	default:
		return false;
	}
}

static uint32_t rnd(struct broker *b)
{
	b->rnd = b->rnd * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(b->rnd >> 33);
}

/* Now and then the broker does not get to a connection for a while. */
static bool is_late(struct broker *b, struct conn *c)
{
	uint32_t now = toe_stream_ms(fake_stream(b->f));

	if (b->late_ms == 0)
		return false;
	if (now - c->since < c->late_ms)
		return true;
	rnd(b);
	c->since = now;
	c->late_ms = (b->rnd >> 60) != 0 ? 0 : (uint32_t)(b->rnd >> 33) % b->late_ms;
	return c->late_ms != 0;
}

unsigned broker_step(struct broker *b, uint32_t id, unsigned packets)
{
	struct conn *c = &b->conn[id];
	uint8_t chunk[4096];
	unsigned done = 0;
	size_t n;

	if (!c->alive || is_late(b, c))
		return 0;
	if (c->hasty && fake_app_sees_rst(b->f, id)) {
		broker_close(b, id);
		return 0;
	}
	while ((n = fake_app_read(b->f, id, chunk, sizeof(chunk))) > 0)
		bytes_add(&c->in, chunk, n);
	while (done < packets && c->alive) {
		struct rd r = {bytes_at(&c->in), bytes_at(&c->in) + bytes_n(&c->in), false};
		uint8_t first = (uint8_t)rd_u8(&r);
		size_t len = rd_varint(&r), head;

		if (r.bad) {
			c->bad |= bytes_n(&c->in) > 5;
			break;
		}
		head = (size_t)(r.p - bytes_at(&c->in));
		if ((size_t)(r.end - r.p) < len)
			break;
		r.end = r.p + len;
		if (!handle(b, id, first, &r)) {
			c->bad = true;
			broker_close(b, id);
			return done;
		}
		bytes_drop(&c->in, head + len);
		done++;
	}
	if (c->bad || fake_is_dead(b->f, id))
		broker_close(b, id);
	else if (done < packets && (fake_app_sees_fin(b->f, id) || fake_app_sees_rst(b->f, id)))
		over(b, id);
	return done;
}

/* ---- making ---- */

void broker_late(struct broker *b, uint32_t ms)
{
	b->late_ms = ms;
}

void broker_hasty(struct broker *b, unsigned n)
{
	b->hasty = n;
}

struct broker *broker_new(struct fake *f, uint32_t queue_limit, const struct broker_hooks *h)
{
	struct broker *b = calloc(1, sizeof(*b));

	TOE_CHECK(b != NULL);
	b->f = f;
	b->limit = queue_limit;
	if (h != NULL)
		b->h = *h;
	for (unsigned i = 0; i < FAKE_CONNS; i++)
		conn_clear(&b->conn[i]);
	return b;
}

void broker_free(struct broker *b)
{
	for (unsigned i = 0; i < FAKE_CONNS; i++)
		conn_clear(&b->conn[i]);
	for (unsigned i = 0; i < RETAINED_MAX; i++)
		free(b->retained[i].payload.b);
	free(b);
}

void broker_accept(struct broker *b, uint32_t id)
{
	broker_gone(b, id);
	conn_clear(&b->conn[id]);
	b->conn[id].alive = true;
	b->conn[id].hasty = b->hasty != 0 && rnd(b) % b->hasty == 0;
}

void broker_view(const struct broker *b, uint32_t id, struct broker_conn_view *out)
{
	const struct conn *c = &b->conn[id];

	*out = (struct broker_conn_view){.alive = c->alive,
					 .bad = c->bad,
					 .pings_in = c->pings_in,
					 .acks_dropped = c->acks_dropped,
					 .queued = c->queued,
					 .unhandled = bytes_n(&c->in)};
}
