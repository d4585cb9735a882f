/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The model world (mqtt_world.h): what clients, engine and broker do, by choice.
 *
 * Input: a seed or bytes.  Output: the first thing that was wrong.  State: one struct world per
 * run. One thread.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "modules/mqtt/mqtt_stage.h"
#include "mqtt_module.h"
#include "mqtt_world_int.h"

struct world_stats world_stats;

const char *const world_topic[TOPICS] = {"a", "a/b", "a/c", "a/b/c", "r", "r/x", "s/off"};
const char *const world_filter[FILTERS] = {"a",   "a/#", "+/b", "#",    "a/b",
					   "r/#", "+",   "s/+", "a/+/c"};

/* ---- choices ---- */

unsigned world_pick(struct world *w, unsigned n)
{
	if (w->at < w->o.len)
		return w->o.data[w->at++] % n;
	w->rnd ^= w->rnd << 13;
	w->rnd ^= w->rnd >> 7;
	w->rnd ^= w->rnd << 17;
	return (unsigned)(w->rnd >> 33) % n;
}

void world_wrong(struct world *w, const char *what)
{
	if (w->wrong == NULL)
		w->wrong = what;
}

static struct mqtt_stage *stage(struct world *w)
{
	return mqtt_of(fake_stream(w->f));
}

static struct mqtt_conn *state(struct world *w, const struct inst *i)
{
	return toe_stream_state(fake_conn(w->f, i->id));
}

/* A random connection that is open, NULL: the choice fell on none. */
static struct inst *any(struct world *w)
{
	unsigned n = 0, k;

	for (unsigned i = 0; i < w->inst_n; i++)
		n += w->inst[i].alive;
	if (n == 0)
		return NULL;
	k = world_pick(w, n);
	for (unsigned i = 0; i < w->inst_n; i++) {
		if (w->inst[i].alive && k-- == 0)
			return &w->inst[i];
	}
	return NULL;
}

/* ---- packets of clients ---- */

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

static void client_send(struct world *w, const struct inst *i, unsigned first, const struct out *o)
{
	uint8_t head[3] = {(uint8_t)first, (uint8_t)o->n, 0};
	size_t n = 2;

	if (o->n >= 128) {
		head[1] = (uint8_t)(o->n % 128 + 128);
		head[2] = (uint8_t)(o->n / 128);
		n = 3;
	}
	fake_client_write(w->f, i->id, head, n);
	fake_client_write(w->f, i->id, o->b, o->n);
	if (w->o.verbose)
		printf("%lu: %u (%u) writes %02x, %zu bytes\n", w->t, (unsigned)(i - w->inst),
		       i->name, first, n + o->n);
}

/* Subscriptions the connection before has left, if the session was to be kept. */
static void inherit(struct world *w, struct inst *i)
{
	struct inst *e = i;

	while (e > w->inst && (e - 1)->name != i->name)
		e--;
	if (e == w->inst || !(e - 1)->keeps)
		return;
	e--;
	for (unsigned k = 0; k < e->win_n && i->win_n < WIN_MAX / 2; k++)
		i->win[i->win_n++] = (struct window){.filter = e->win[k].filter,
						     .no_local = e->win[k].no_local,
						     .from = &e->win[k],
						     .sub = i->opened,
						     .ack = NEVER,
						     .unsub = NEVER,
						     .unack = NEVER};
}

static void do_connect(struct world *w)
{
	struct inst *i = &w->inst[w->inst_n];
	const char name[2] = {(char)('A' + world_pick(w, NAMES)), '\0'};
	struct out o = {.n = 0};
	uint32_t id;

	for (unsigned k = 0; k < w->inst_n; k++) {
		/* two at once: which one is first the broker decides, and the oracle cannot know */
		if (w->inst[k].alive && !w->inst[k].connected && w->inst[k].name == name[0] - 'A')
			return;
	}
	if (w->inst_n == INST_MAX || (id = fake_open(w->f)) == UINT32_MAX)
		return;
	w->inst_n++;
	*i = (struct inst){.used = true, .alive = true, .reading = true, .id = id};
	memset(i->last, 0xff, sizeof(i->last));
	i->name = (uint8_t)(name[0] - 'A');
	i->level = (uint8_t)(3 + world_pick(w, 3));
	/* MQTT 3.1 without clean session makes everything slow: nobody says what is resumed */
	i->clean = world_pick(w, i->level == 3 ? 40 : 3) != 0;
	i->bridge = i->level != 5 && world_pick(w, 12) == 0;
	i->keeps = !i->clean;
	i->opened = w->t;
	w->of_id[id] = w->inst_n - 1;
	broker_accept(w->b, id);
	out_str(&o, i->level == 3 ? "MQIsdp" : "MQTT");
	out_u8(&o, i->level | (i->bridge ? 0x80u : 0));
	out_u8(&o, i->clean ? 2 : 0);
	out_u8(&o, 0);
	out_u8(&o, 0);
	if (i->level == 5) {
		i->keeps = world_pick(w, 2) != 0;
		out_u8(&o, i->keeps ? 5 : 0);
		if (i->keeps) {
			out_u8(&o, 0x11);
			for (unsigned k = 0; k < 4; k++)
				out_u8(&o, k);
		}
	}
	out_str(&o, name);
	client_send(w, i, 0x10, &o);
	if (!i->clean)
		inherit(w, i);
}

/* The subscription to that filter that no UNSUBSCRIBE has been written for. */
static unsigned window_of(const struct inst *i, unsigned filter)
{
	unsigned k = 0;

	while (k < i->win_n &&
	       (i->win[k].filter != filter || i->win[k].unsub != NEVER || i->win[k].gone))
		k++;
	return k;
}

static void do_subscribe(struct world *w, struct inst *i)
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
		r->win[r->n] = (uint8_t)k;
		out_str(&o, world_filter[filter]);
		out_u8(&o, world_pick(w, 3) | (local ? 4u : 0));
	}
	i->req_n++;
	client_send(w, i, 0x82, &o);
	for (unsigned k = 0; w->o.verbose && k < r->n; k++)
		printf("   %u: %s\n", r->win[k], world_filter[i->win[r->win[k]].filter]);
}

static void do_unsubscribe(struct world *w, struct inst *i)
{
	struct request *r = &i->req[i->req_n];
	unsigned filter = world_pick(w, FILTERS);
	struct out o = {.n = 0};

	if (i->req_n >= 31)
		return;
	if (i->win_n > 0 && world_pick(w, 4) != 0)
		filter = i->win[world_pick(w, i->win_n)].filter;
	*r = (struct request){.pid = ++i->pid, .type = 10};
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

static void do_publish(struct world *w, struct inst *i)
{
	struct msg *m = &w->msg[w->msg_n];
	unsigned kind = world_pick(w, 16);
	struct out o = {.n = 0};

	if (w->msg_n == MSG_MAX)
		return;
	*m = (struct msg){.by = (uint32_t)(i - w->inst),
			  .topic = (uint8_t)world_pick(w, TOPICS),
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
	for (unsigned k = 0; k < 4; k++)
		out_u8(&o, w->msg_n >> (24 - 8 * k));
	for (unsigned k = 4; k < m->len; k++)
		out_u8(&o, world_byte(w->msg_n, k));
	w->msg_n++;
	world_stats.messages++;
	client_send(w, i, 0x30u | m->qos << 1 | m->retain, &o);
}

static void do_pubrel(struct world *w, struct inst *i)
{
	for (unsigned k = 0; k < i->rel_n; k++) {
		struct out o = {.n = 0};

		out_u8(&o, i->rel[k] >> 8);
		out_u8(&o, i->rel[k]);
		client_send(w, i, 0x62, &o);
	}
	i->rel_n = 0;
}

static void do_ping(struct world *w, struct inst *i)
{
	const struct out o = {.n = 0};

	i->pings++;
	client_send(w, i, 0xc0, &o);
}

/* ---- endings ---- */

static void gone(struct world *w, struct inst *i)
{
	if (fake_is_open(w->f, i->id))
		fake_close(w->f, i->id);
	broker_gone(w->b, i->id);
	i->alive = false;
}

static void do_end(struct world *w, struct inst *i)
{
	const struct out o = {.n = 0};
	unsigned how = world_pick(w, 3);

	if (w->o.verbose)
		printf("%lu: %u ends (%u)\n", w->t, (unsigned)(i - w->inst), how);
	if (how == 0)
		gone(w, i);
	else if (how == 1)
		client_send(w, i, 0xe0, &o);
	fake_client_fin(w->f, i->id);
}

/* Connections that are over for their client. */
static void bury(struct world *w)
{
	for (unsigned k = 0; k < w->inst_n; k++) {
		struct inst *i = &w->inst[k];

		if (!i->alive)
			continue;
		if (fake_is_dead(w->f, i->id) || (toe_stream_tx_ended(fake_conn(w->f, i->id)) &&
						  fake_client_unread(w->f, i->id) == 0))
			gone(w, i);
	}
}

/* ---- time ---- */

/* What its publisher wrote is known to be done when nothing of it is anywhere any more. */
static void note_done(struct world *w)
{
	bool done[INST_MAX] = {false};

	for (unsigned k = 0; k < w->inst_n; k++) {
		const struct inst *i = &w->inst[k];
		struct broker_conn_view v;
		const struct mqtt_conn *m;

		if (!i->alive)
			continue;
		m = state(w, i);
		broker_view(w->b, i->id, &v);
		if (v.bad)
			world_wrong(w, "the broker was sent something that is no packet");
		if (stage(w)->lost_n != 0)
			world_wrong(w, "a connection of MQTT is not followed");
		done[k] = v.alive && fake_client_pending(w->f, i->id) == 0 && m->rx_wait == 0 &&
			  m->rx_mode == MQTT_RX_START && m->rx_hdr_n == 0 && m->jobs == 0 &&
			  fake_app_unread(w->f, i->id) == 0 && v.unhandled == 0 && i->rel_n == 0;
	}
	for (unsigned k = 0; k < w->msg_n; k++) {
		if (w->msg[k].end == NEVER && done[w->msg[k].by] && w->msg[k].qos < 2)
			w->msg[k].end = w->t;
	}
}

static unsigned some(struct world *w)
{
	static const unsigned size[] = {1, 2, 3, 7, 20, 60, 300, 100000};

	return size[world_pick(w, 8)];
}

static void client_step(struct world *w, struct inst *i)
{
	switch (world_pick(w, w->calm && w->t > 100 ? 150 : 20)) {
	case 0:
		if (world_pick(w, 4) == 0)
			do_end(w, i);
		break;
	case 1:
	case 2:
	case 3:
		do_subscribe(w, i);
		break;
	case 4:
		do_unsubscribe(w, i);
		break;
	case 5:
		i->reading = world_pick(w, w->slow ? 6 : 2) == 0 || (!w->slow && !i->reading);
		break;
	case 6:
		do_ping(w, i);
		break;
	case 7:
		do_pubrel(w, i);
		break;
	default:
		do_publish(w, i);
	}
}

static void engine_step(struct world *w, struct inst *i)
{
	switch (world_pick(w, 8)) {
	case 0:
	case 1:
		fake_offer(w->f, i->id, some(w));
		break;
	case 2:
		fake_fetch(w->f, i->id, some(w));
		break;
	case 3:
		fake_hc(w->f);
		break;
	case 4:
		fake_poll(w->f, 1 + world_pick(w, 8));
		break;
	case 5:
		if (i->reading)
			fake_client_read(w->f, i->id, NULL, some(w));
		break;
	case 6:
		fake_time(w->f, world_pick(w, 12) != 0 ? world_pick(w, 8)
				: w->slow              ? world_pick(w, w->slow)
						       : world_pick(w, 600));
		break;
	default:
		if (world_pick(w, 2) == 0)
			break;
		fake_settle(w->f);
		for (unsigned k = 0; k < w->inst_n; k++) {
			if (w->inst[k].alive && w->inst[k].reading)
				fake_client_read(w->f, w->inst[k].id, NULL, SIZE_MAX);
		}
		break;
	}
}

static void step(struct world *w)
{
	unsigned what = world_pick(w, 10);
	struct inst *i = any(w);

	w->t++;
	if (i == NULL || (what == 0 && world_pick(w, w->calm && w->t > 100 ? 60 : 6) == 0)) {
		do_connect(w);
	} else if (what < 3) {
		client_step(w, i);
	} else if (what < 6) {
		if (broker_step(w->b, i->id, 1 + world_pick(w, 4)) == 0)
			broker_flush(w->b, i->id);
	} else {
		engine_step(w, i);
	}
	note_done(w);
	bury(w);
}

/* One round of all; true: something moved. */
static bool drain_round(struct world *w)
{
	bool moved = false;

	for (unsigned k = 0; k < w->inst_n; k++) {
		struct inst *i = &w->inst[k];

		if (!i->alive)
			continue;
		do_pubrel(w, i);
		moved |= broker_step(w->b, i->id, 1000) != 0;
		moved |= broker_flush(w->b, i->id);
		moved |= fake_client_read(w->f, i->id, NULL, SIZE_MAX) != 0;
	}
	fake_settle(w->f);
	return moved;
}

/* Everybody reads, everything gets through. */
static void drain(struct world *w)
{
	broker_late(w->b, 0);
	for (unsigned round = 0; round < 300 && w->wrong == NULL; round++) {
		w->t++;
		for (unsigned k = 0; k < 3000 && w->wrong == NULL && drain_round(w); k++)
			;
		fake_time(w->f, round < 100 ? 60 : 4000);
		note_done(w);
		bury(w);
	}
}

/* Nothing is left waiting for what has come. */
static void check_rest(struct world *w)
{
	for (unsigned k = 0; k < w->inst_n; k++) {
		const struct inst *i = &w->inst[k];
		const struct mqtt_conn *m;
		struct broker_conn_view v;

		if (!i->alive || !i->connected)
			continue;
		m = state(w, i);
		broker_view(w->b, i->id, &v);
		world_stats.acks_dropped += v.acks_dropped;
		if (m->defer_first != NULL)
			world_wrong(w, "copies left in a queue");
		if (m->blocked)
			world_wrong(w, "subscriber stays blocked");
		if (m->rx_wait != 0 || m->tx_wait)
			world_wrong(w, "connection left waiting");
		if (v.acks_dropped == 0 && i->pings != i->pongs)
			world_wrong(w, "PINGRESP swallowed");
		if (v.acks_dropped == 0 && m->ping_n + m->ping_old != 0)
			world_wrong(w, "step lost with PINGRESP");
		if (v.acks_dropped == 0 && m->activating != NULL && !m->suspect)
			world_wrong(w, "subscription stays pending");
	}
}

/* The broker does what the stage would: whatever was compared is no difference. */
static void check_audit(struct world *w)
{
	for (unsigned i = 0; i < 10 && stage(w)->audit_used != 0; i++) {
		fake_time(w->f, 1000);
		drain(w);
	}
	if (stage(w)->audit_used != 0)
		world_wrong(w, "comparison without an end");
}

static void configure(struct world *w, struct toe_config *cfg, struct fake_opts *fo)
{
	*cfg = (struct toe_config){.mqtt_message_max = 1300,
				   .mqtt_queue_messages = world_pick(w, 8) == 0 ? 6 : 1000,
				   .mqtt_queue_bytes = world_pick(w, 8) == 0 ? 600 : 1000000,
				   .mqtt_subscriptions = 1000,
				   .mqtt_port_n = 1,
				   .mqtt_ports = {1883},
				   .mqtt_canary = world_pick(w, 4) == 0 ? 5 : 0,
				   .mqtt_offload_n = 2,
				   .mqtt_offload = {"a/#", "r/#"}};
	*fo = (struct fake_opts){.arena_mb = 4,
				 .app_buf = world_pick(w, 2) == 0 ? 150 : 2000,
				 .tx_limit = world_pick(w, 2) == 0 ? 200 : 3000};
}

const char *world_run(const struct world_opts *o)
{
	struct world *w = calloc(1, sizeof(*w));
	const struct broker_hooks hooks = {w, oracle_handled, oracle_dropped};
	struct toe_config cfg;
	struct fake_opts fo;
	const char *wrong;
	uint64_t drops;

	TOE_CHECK(w != NULL);
	w->o = *o;
	w->rnd = o->seed * 0x9e3779b97f4a7c15u | 1;
	w->calm = world_pick(w, 2) != 0;
	w->slow = world_pick(w, 4) != 0 ? 0 : world_pick(w, 2) == 0 ? 2500 : LATE_MS;
	configure(w, &cfg, &fo);
	cfg.mqtt_shadow = o->shadow;
	w->f = fake_new(&mqtt_module, &cfg, &fo);
	fake_set_tap(w->f, oracle_sent, w);
	w->b = broker_new(w->f, world_pick(w, 6) == 0 ? 5 : 1000, &hooks);
	broker_late(w->b, w->slow == LATE_MS ? LATE_MS : 0);
	for (unsigned k = 0; k < o->steps && w->wrong == NULL; k++)
		step(w);
	drain(w);
	drops = stage(w)->counters[MQTT_C_DROP_QUEUE] + stage(w)->counters[MQTT_C_DROP_MEMORY] +
		stage(w)->counters[MQTT_C_DROP_BLOCKED] + stage(w)->counters[MQTT_C_DROP_UNPROVEN];
	if (w->wrong == NULL)
		oracle_end(w, drops);
	check_rest(w);
	check_audit(w);
	oracle_stage(w, stage(w));
	if (fake_free(w->f) != 0)
		world_wrong(w, "memory not given back");
	broker_free(w->b);
	for (unsigned k = 0; k < w->inst_n; k++)
		free(w->inst[k].in.b);
	wrong = w->wrong;
	free(w);
	return wrong;
}
