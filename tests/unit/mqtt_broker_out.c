/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The reference broker's output: a queue per connection, deliveries, retained messages.
 *
 * Input: messages to distribute, answers.  Output: bytes into the application's buffer, as far as
 * there is room.  State: in struct broker.  One thread.
 */
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "mqtt_broker_int.h"

/* ---- queues ---- */

struct packet *packet_new(const void *data, size_t n)
{
	struct packet *p = malloc(sizeof(*p) + n);

	TOE_CHECK(p != NULL);
	*p = (struct packet){.n = n};
	if (n > 0)
		memcpy(p->b, data, n);
	return p;
}

static void list_free(struct packet **list)
{
	while (*list != NULL) {
		struct packet *next = (*list)->next;

		free(*list);
		*list = next;
	}
}

void conn_clear(struct conn *c)
{
	will_drop(c);
	list_free(&c->first);
	list_free(&c->held);
	list_free(&c->qos2);
	free(c->in.b);
	*c = (struct conn){.session = UINT32_MAX};
	c->last = &c->first;
}

bool broker_flush(struct broker *b, uint32_t id)
{
	struct conn *c = &b->conn[id];
	bool moved = false;

	while (c->alive && c->first != NULL) {
		struct packet *p = c->first;
		size_t n = fake_app_write(b->f, id, p->b + p->at, p->n - p->at);

		moved |= n > 0;
		p->at += n;
		if (p->at < p->n)
			break;
		c->first = p->next;
		if (c->first == NULL)
			c->last = &c->first;
		free(p);
		c->queued--;
	}
	return moved;
}

static void enqueue(struct conn *c, struct packet *p)
{
	*c->last = p;
	c->last = &p->next;
	c->queued++;
}

/* False: the queue is at its limit, the packet is dropped. */
bool send_packet(struct broker *b, uint32_t id, const void *data, size_t n)
{
	struct conn *c = &b->conn[id];

	if (!c->alive)
		return true;
	if (c->queued >= b->limit)
		return false;
	enqueue(c, packet_new(data, n));
	broker_flush(b, id);
	return true;
}

void send_ack(struct broker *b, uint32_t id, const void *data, size_t n)
{
	if (!send_packet(b, id, data, n))
		b->conn[id].acks_dropped++;
}

static void release_held(struct conn *c)
{
	while (c->held != NULL) {
		struct packet *p = c->held;

		c->held = p->next;
		p->next = NULL;
		enqueue(c, p);
	}
}

/* ---- deliveries ---- */

static size_t put_varint(uint8_t *at, size_t v)
{
	size_t n = 0;

	do {
		at[n] = (uint8_t)(v % 128 + (v >= 128 ? 128 : 0));
		v /= 128;
		n++;
	} while (v > 0);
	return n;
}

static void put_bytes(struct bytes *q, const void *data, size_t n)
{
	bytes_add(q, data, n);
}

/* The PUBLISH packet for one receiver. */
static struct bytes make_publish(struct conn *c, const struct publish *p, uint8_t qos, bool retain,
				 uint32_t sub_id)
{
	struct bytes body = {0}, out = {0};
	uint8_t t[8];
	size_t topic_n = strlen(p->topic), n;

	t[0] = (uint8_t)(topic_n >> 8);
	t[1] = (uint8_t)topic_n;
	put_bytes(&body, t, 2);
	put_bytes(&body, p->topic, topic_n);
	if (qos > 0) {
		c->mid++;
		t[0] = (uint8_t)(c->mid >> 8);
		t[1] = (uint8_t)c->mid;
		put_bytes(&body, t, 2);
	}
	if (c->level == 5) {
		uint8_t id[8] = {0x0b};
		size_t id_n = sub_id != 0 ? 1 + put_varint(id + 1, sub_id) : 0;

		n = put_varint(t, p->props_n + id_n);
		put_bytes(&body, t, n);
		put_bytes(&body, p->props, p->props_n);
		put_bytes(&body, id, id_n);
	}
	put_bytes(&body, p->payload, p->payload_n);
	t[0] = (uint8_t)(0x30 | qos << 1 | retain);
	n = put_varint(t + 1, bytes_n(&body));
	put_bytes(&out, t, 1 + n);
	put_bytes(&out, bytes_at(&body), bytes_n(&body));
	free(body.b);
	return out;
}

static uint32_t number_of(const struct publish *p)
{
	const uint8_t *d = p->payload;

	return p->payload_n < 4
		       ? UINT32_MAX
		       : (uint32_t)d[0] << 24 | (uint32_t)d[1] << 16 | (uint32_t)d[2] << 8 | d[3];
}

static void deliver_live(struct broker *b, uint32_t id, const struct publish *p,
			 const struct sub *s)
{
	struct conn *c = &b->conn[id];
	uint8_t qos = p->qos < s->qos ? p->qos : s->qos;
	bool retain = p->retain && s->rap;
	struct bytes out;

	release_held(c);
	out = make_publish(c, p, qos, retain, s->sub_id);
	if (!send_packet(b, id, bytes_at(&out), bytes_n(&out)) && b->h.dropped != NULL)
		b->h.dropped(b->h.arg, id, number_of(p));
	free(out.b);
}

void distribute(struct broker *b, uint32_t from, const struct publish *p)
{
	for (uint32_t i = 0; i < SESSIONS_MAX; i++) {
		struct session *se = &b->session[i];
		struct conn *c;

		if (!se->used || se->conn == UINT32_MAX)
			continue;
		c = &b->conn[se->conn];
		for (unsigned k = 0; k < se->n; k++) {
			const struct sub *s = &se->subs[k];

			if (!broker_match(s->filter, p->topic) || (s->no_local && se->conn == from))
				continue;
			deliver_live(b, se->conn, p, s);
			if (c->level != 5)
				break;
		}
	}
	if (b->h.handled != NULL)
		b->h.handled(b->h.arg, number_of(p));
}

void keep_retained(struct broker *b, const struct publish *p)
{
	struct retained *slot = NULL;

	for (unsigned i = 0; i < RETAINED_MAX; i++) {
		struct retained *r = &b->retained[i];

		if (strcmp(r->topic, p->topic) == 0) {
			slot = r;
			break;
		}
		if (slot == NULL && r->topic[0] == '\0')
			slot = r;
	}
	if (slot == NULL)
		return;
	memcpy(slot->topic, p->topic, sizeof(slot->topic));
	slot->payload.from = slot->payload.to = 0;
	bytes_add(&slot->payload, p->payload, p->payload_n);
	if (p->payload_n == 0)
		slot->topic[0] = '\0';
}

void give_retained(struct broker *b, uint32_t id, const struct sub *s)
{
	struct conn *c = &b->conn[id];

	for (unsigned i = 0; i < RETAINED_MAX; i++) {
		struct retained *r = &b->retained[i];
		struct publish p = {.payload = bytes_at(&r->payload),
				    .payload_n = bytes_n(&r->payload)};
		struct packet **at = &c->held;
		struct bytes out;

		if (r->topic[0] == '\0' || !broker_match(s->filter, r->topic))
			continue;
		memcpy(p.topic, r->topic, sizeof(p.topic));
		out = make_publish(c, &p, 0, true, s->sub_id);
		while (*at != NULL)
			at = &(*at)->next;
		*at = packet_new(bytes_at(&out), bytes_n(&out));
		free(out.b);
	}
	if (c->queued == 0) { /* not behind: at once */
		release_held(c);
		broker_flush(b, id);
	}
}

/* ---- wills ---- */

void will_keep(struct conn *c, const struct publish *p)
{
	c->will_data = packet_new(p->payload, p->payload_n);
	c->will = *p;
	c->will.payload = c->will_data->b;
}

void will_drop(struct conn *c)
{
	list_free(&c->will_data);
}

void will_send(struct broker *b, uint32_t id)
{
	struct conn *c = &b->conn[id];

	if (c->will_data == NULL)
		return;
	if (c->will.retain)
		keep_retained(b, &c->will);
	distribute(b, id, &c->will);
	will_drop(c);
}
