/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The model world's clients (mqtt_world.h): what they write, how they end and come back.
 *
 * Input: choices.  Output: bytes of clients, ends and resets of their connections, and what the
 * oracle has to know of it.  State: in struct world.  One thread.
 */
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "modules/mqtt/mqtt_stage.h"
#include "mqtt_world_int.h"

/* ---- packets ---- */

struct out {
	uint8_t b[MSG_BYTES + 64];
	size_t n;
};

static void out_u8(struct out *o, unsigned v)
{
	TOE_CHECK(o->n < sizeof(o->b));
	o->b[o->n++] = (uint8_t)v;
}

static void out_str(struct out *o, const char *s)
{
	out_u8(o, (unsigned)(strlen(s) >> 8));
	out_u8(o, (unsigned)strlen(s));
	for (; *s != '\0'; s++)
		out_u8(o, (uint8_t)*s);
}

static void client_write(struct world *w, struct inst *i, const void *data, size_t n)
{
	fake_client_write(w->f, i->id, data, n);
	i->written += (uint32_t)n;
}

void world_finish_connect(struct world *w, struct inst *i)
{
	client_write(w, i, bytes_at(&i->rest), bytes_n(&i->rest));
	bytes_drop(&i->rest, bytes_n(&i->rest));
}

static void client_send(struct world *w, struct inst *i, unsigned first, const struct out *o)
{
	uint8_t head[3] = {(uint8_t)first, (uint8_t)o->n, 0};
	size_t n = 2;

	if (o->n >= 128) {
		head[1] = (uint8_t)(o->n % 128 + 128);
		head[2] = (uint8_t)(o->n / 128);
		n = 3;
	}
	world_finish_connect(w, i);
	client_write(w, i, head, n);
	client_write(w, i, o->b, o->n);
	if (w->o.verbose)
		printf("%lu: %u (%u) writes %02x, %zu bytes\n", w->t, (unsigned)(i - w->inst),
		       i->name, first, n + o->n);
}

/* Payload of the message that w->msg[w->msg_n] is. */
static void out_payload(struct world *w, struct out *o)
{
	for (unsigned k = 0; k < 4; k++)
		out_u8(o, w->msg_n >> (24 - 8 * k));
	for (unsigned k = 4; k < w->msg[w->msg_n].len; k++)
		out_u8(o, world_byte(w->msg_n, k));
	w->msg_n++;
}

static uint8_t choose_topic(struct world *w)
{
	return (uint8_t)world_pick(w, w->again ? 3 : TOPICS);
}

/* ---- CONNECT ---- */

/* With what is flagged behind the ClientID. */
static void out_will(struct world *w, struct inst *i, struct out *o)
{
	struct msg *m = &w->msg[w->msg_n];

	if (i->level == 5)
		out_u8(o, 0);
	out_str(o, world_topic[m->topic]);
	out_u8(o, m->len >> 8);
	out_u8(o, m->len);
	out_payload(w, o);
}

/* Flags of CONNECT. */
static unsigned choose_will(struct world *w, const struct inst *i)
{
	struct msg *m = &w->msg[w->msg_n];

	if (w->msg_n == MSG_MAX || world_pick(w, 2) == 0)
		return 0;
	*m = (struct msg){.by = (uint32_t)(i - w->inst),
			  .topic = choose_topic(w),
			  .will = true,
			  .qos = (uint8_t)(world_pick(w, 4) == 0 ? world_pick(w, 3) : 0),
			  .retain = world_pick(w, 8) == 0,
			  .len = (uint16_t)(4 + world_pick(w, 20)),
			  .start = NEVER,
			  .end = NEVER};
	return 4u | m->qos << 3 | (m->retain ? 0x20u : 0);
}

static void out_connect(struct world *w, struct inst *i, struct out *o)
{
	const char name[2] = {(char)('A' + i->name), '\0'};
	unsigned will = choose_will(w, i);

	out_str(o, i->level == 3 ? "MQIsdp" : "MQTT");
	out_u8(o, i->level | (i->bridge ? 0x80u : 0));
	out_u8(o, (i->clean ? 2u : 0) | will);
	out_u8(o, 0);
	out_u8(o, 0);
	if (i->level == 5) {
		i->keeps = world_pick(w, 2) != 0;
		out_u8(o, i->keeps ? 5 : 0);
		if (i->keeps) {
			out_u8(o, 0x11);
			for (unsigned k = 0; k < 4; k++)
				out_u8(o, k);
		}
	}
	out_str(o, name);
	if (will != 0)
		out_will(w, i, o);
}

/* What an older connection of the name has published fast is under way. */
static bool unfinished(struct world *w, const struct inst *i)
{
	for (const struct inst *e = w->inst; e < i; e++) {
		if (e->name != i->name || !e->alive)
			continue;
		if (world_state(w, e)->jobs != 0 || world_state(w, e)->held != NULL)
			return true;
	}
	return false;
}

/* What is written with CONNECT, in one go. */
static void pipeline(struct world *w, struct inst *i)
{
	unsigned n = world_pick(w, 5);

	world_stats.pipelined += n > 0;
	while (n-- > 0) {
		if (world_pick(w, 4) == 0 && !w->again)
			world_subscribe(w, i);
		else
			world_publish(w, i);
	}
}

/* All of it, or a part, and the rest later. */
static void send_connect(struct world *w, struct inst *i)
{
	struct out o = {.n = 0};
	size_t cut;

	out_connect(w, i, &o);
	TOE_CHECK(o.n < 128);
	if (world_pick(w, 5) != 0) {
		client_send(w, i, 0x10, &o);
		pipeline(w, i);
		return;
	}
	bytes_add(&i->rest, (const uint8_t[]){0x10, (uint8_t)o.n}, 2);
	bytes_add(&i->rest, o.b, o.n);
	cut = world_pick(w, (unsigned)bytes_n(&i->rest));
	client_write(w, i, bytes_at(&i->rest), cut);
	bytes_drop(&i->rest, cut);
	world_stats.halves++;
}

void world_connect(struct world *w, unsigned name)
{
	struct inst *i = &w->inst[w->inst_n];
	uint32_t id;

	if (w->inst_n == INST_MAX || (id = fake_open(w->f)) == UINT32_MAX)
		return;
	w->inst_n++;
	*i = (struct inst){.used = true, .alive = true, .reading = true, .id = id};
	i->name = (uint8_t)name;
	i->level = (uint8_t)(3 + world_pick(w, 3));
	/* MQTT 3.1 without clean session makes everything slow: nobody says what is resumed */
	i->clean = world_pick(w, i->level == 3 ? 400 : w->again ? 12 : 3) != 0;
	i->bridge = i->level != 5 && world_pick(w, 12) == 0;
	i->keeps = !i->clean;
	i->opened = w->t;
	w->of_id[id] = w->inst_n - 1;
	broker_accept(w->b, id);
	world_stats.unfinished += unfinished(w, i);
	send_connect(w, i);
}

/* ---- SUBSCRIBE, UNSUBSCRIBE ---- */

/* The subscription to that filter that no UNSUBSCRIBE has been written for. */
static unsigned window_of(const struct inst *i, unsigned filter)
{
	unsigned k = 0;

	while (k < i->win_n &&
	       (i->win[k].filter != filter || i->win[k].unsub != NEVER || i->win[k].gone))
		k++;
	return k;
}

void world_subscribe(struct world *w, struct inst *i)
{
	struct request *r = &i->req[i->req_n];
	unsigned n = 1 + world_pick(w, 2);
	struct out o = {.n = 0};

	if (i->req_n >= 31 || i->win_n + n > WIN_MAX)
		return;
	*r = (struct request){.pid = ++i->pid, .type = 8};
	out_u8(&o, r->pid >> 8);
	out_u8(&o, r->pid);
	if (i->level == 5 && world_pick(w, 3) == 0) {
		out_u8(&o, 2);
		out_u8(&o, 0x0b);
		out_u8(&o, 1 + world_pick(w, 100));
	} else if (i->level == 5) {
		out_u8(&o, 0);
	}
	for (; r->n < n; r->n++) {
		unsigned filter = world_pick(w, FILTERS), k = window_of(i, filter);
		bool local = i->level == 5 && world_pick(w, 6) == 0;

		if (k == i->win_n)
			i->win[i->win_n++] = (struct window){.filter = (uint8_t)filter,
							     .no_local = local || i->bridge,
							     .sub = w->t,
							     .ack = NEVER,
							     .unsub = NEVER,
							     .unack = NEVER};
		i->win[k].asked = true;
		r->win[r->n] = (uint8_t)k;
		out_str(&o, world_filter[filter]);
		out_u8(&o, world_pick(w, 3) | (local ? 4u : 0));
	}
	i->req_n++;
	client_send(w, i, 0x82, &o);
	for (unsigned k = 0; w->o.verbose && k < r->n; k++)
		printf("   %u: %s\n", r->win[k], world_filter[i->win[r->win[k]].filter]);
}

void world_unsubscribe(struct world *w, struct inst *i)
{
	struct request *r = &i->req[i->req_n];
	unsigned filter = world_pick(w, FILTERS);
	struct out o = {.n = 0};

	if (i->req_n >= 31)
		return;
	if (i->win_n > 0 && world_pick(w, 4) != 0)
		filter = i->win[world_pick(w, i->win_n)].filter;
	*r = (struct request){.pid = ++i->pid, .type = 10, .filter = (uint8_t)filter, .at = w->t};
	for (unsigned k = 0; k < i->win_n && r->n < 4; k++) {
		struct window *v = &i->win[k];

		if (v->filter != filter || v->unsub != NEVER || v->gone)
			continue;
		v->unsub = w->t;
		r->win[r->n++] = (uint8_t)k;
	}
	i->req_n++;
	out_u8(&o, r->pid >> 8);
	out_u8(&o, r->pid);
	if (i->level == 5)
		out_u8(&o, 0);
	out_str(&o, world_filter[filter]);
	client_send(w, i, 0xa2, &o);
}

void world_publish(struct world *w, struct inst *i)
{
	struct msg *m = &w->msg[w->msg_n];
	unsigned kind = world_pick(w, w->hurry ? 4 : w->again ? 48 : 16);
	struct out o = {.n = 0};

	if (w->msg_n == MSG_MAX)
		return;
	*m = (struct msg){.by = (uint32_t)(i - w->inst),
			  .topic = choose_topic(w),
			  .start = w->t,
			  .end = NEVER};
	m->retain = kind == 0 || kind == 1;
	m->qos = kind == 2 ? 1 : kind == 3 ? 2 : 0;
	m->seq = i->seq[m->topic][m->qos]++;
	m->len = (uint16_t)(4 + world_pick(w, 40));
	if (kind == 4)
		m->len = (uint16_t)(1200 + world_pick(w, 200)); /* around message_max */
	out_str(&o, world_topic[m->topic]);
	if (m->qos > 0) {
		i->pid++;
		out_u8(&o, i->pid >> 8);
		out_u8(&o, i->pid);
	}
	if (i->level == 5) {
		bool user = world_pick(w, 3) == 0;

		out_u8(&o, user ? 7 : 0);
		if (user) {
			out_u8(&o, 0x26);
			out_str(&o, "k");
			out_str(&o, "v");
		}
	}
	out_payload(w, &o);
	world_stats.messages++;
	client_send(w, i, 0x30u | m->qos << 1 | m->retain, &o);
	m->pos = i->written;
}

void world_pubrel(struct world *w, struct inst *i)
{
	for (unsigned k = 0; k < i->rel_n; k++) {
		struct out o = {.n = 0};

		out_u8(&o, i->rel[k] >> 8);
		out_u8(&o, i->rel[k]);
		client_send(w, i, 0x62, &o);
	}
	i->rel_n = 0;
}

void world_ping(struct world *w, struct inst *i)
{
	const struct out o = {.n = 0};

	i->ping_pos[i->pings++ % PINGS] = i->written;
	client_send(w, i, 0xc0, &o);
}

/* ---- endings ---- */

static void client_disconnect(struct world *w, struct inst *i, bool with_will)
{
	struct out o = {.n = 0};

	if (with_will)
		out_u8(&o, 4);
	client_send(w, i, 0xe0, &o);
}

void world_reset(struct world *w, struct inst *i)
{
	if (i->reset)
		return;
	if (w->o.verbose)
		printf("%lu: %u resets\n", w->t, (unsigned)(i - w->inst));
	i->over = i->reset = true;
	world_stats.resets_unread += i->read == 0;
	fake_client_rst(w->f, i->id);
}

void world_close(struct world *w, struct inst *i)
{
	i->gone = world_state(w, i)->held != NULL;
	i->gone_at = w->t;
	fake_close(w->f, i->id);
	i->alive = false;
}

void world_vanish(struct world *w, struct inst *i)
{
	if (w->o.verbose)
		printf("%lu: %u vanishes\n", w->t, (unsigned)(i - w->inst));
	i->over = i->reset = true;
	broker_close(w->b, i->id);
	world_close(w, i);
	i->gone = w->hurry = true;
	world_stats.vanished++;
}

/* Messages that are on their way when the connection ends. */
static void burst(struct world *w, struct inst *i)
{
	for (unsigned n = world_pick(w, w->again ? 12 : 5); n > 0; n--)
		world_publish(w, i);
	if (world_pick(w, 3) != 0)
		fake_offer(w->f, i->id, SIZE_MAX);
}

void world_end(struct world *w, struct inst *i)
{
	unsigned how = world_pick(w, 7), name = i->name;

	if (world_pick(w, 4) != 0)
		burst(w, i);
	if (w->o.verbose)
		printf("%lu: %u ends (%u)\n", w->t, (unsigned)(i - w->inst), how);
	if (i->connected && world_pick(w, 8) == 0) {
		world_vanish(w, i);
		how = 7;
	}
	if (how >= 3 && how < 6)
		client_disconnect(w, i, how == 5 && i->level == 5);
	if (how < 2 || how == 3)
		world_reset(w, i);
	else if (how < 6) /* else it is taken over, or another one of the name comes */
		fake_client_fin(w->f, i->id);
	i->over |= how < 6;
	for (unsigned n = 0; n < 3 && world_pick(w, 4) != 0; n++)
		world_connect(w, name);
}
