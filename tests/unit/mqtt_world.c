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

struct mqtt_conn *world_state(struct world *w, const struct inst *i)
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

/* ---- time ---- */

/* Connections that are over for broker and client. */
static void bury(struct world *w)
{
	for (unsigned k = 0; k < w->inst_n; k++) {
		struct inst *i = &w->inst[k];
		struct broker_conn_view v;

		if (!i->alive)
			continue;
		broker_view(w->b, i->id, &v);
		if (v.alive ||
		    (!fake_is_dead(w->f, i->id) && (!toe_stream_tx_ended(fake_conn(w->f, i->id)) ||
						    fake_client_unread(w->f, i->id) != 0)))
			continue;
		world_close(w, i);
	}
}

static size_t client_read(struct world *w, struct inst *i, size_t max)
{
	size_t n = fake_client_read(w->f, i->id, NULL, max);

	i->read += n;
	return n;
}

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
		m = world_state(w, i);
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
		struct msg *m = &w->msg[k];

		if (m->end == NEVER && done[m->by] && m->qos < 2 && !m->will)
			m->end = w->t;
	}
}

static unsigned some(struct world *w)
{
	static const unsigned size[] = {1, 2, 3, 7, 20, 60, 300, 100000};

	return size[world_pick(w, 8)];
}

/* One that publishes, or a reader. */
static void again_step(struct world *w, struct inst *i)
{
	unsigned what = world_pick(w, 12);

	if (i->name < READERS && what == 0)
		i->reading = !i->reading;
	else if (i->name < READERS && what == 1)
		world_ping(w, i);
	else if (i->name < READERS && what == 2 && world_pick(w, 8) == 0)
		world_subscribe(w, i);
	else if (what < 3)
		world_end(w, i);
	else if (i->name >= READERS)
		world_publish(w, i);
}

static void client_step(struct world *w, struct inst *i)
{
	if (i->over && world_pick(w, 4) == 0)
		world_reset(w, i);
	if (i->over)
		return;
	if (w->again)
		return again_step(w, i);
	switch (world_pick(w, w->calm && w->t > 100 ? 150 : 20)) {
	case 0:
		if (world_pick(w, 4) == 0)
			world_end(w, i);
		break;
	case 1:
	case 2:
	case 3:
		world_subscribe(w, i);
		break;
	case 4:
		world_unsubscribe(w, i);
		break;
	case 5:
		i->reading = world_pick(w, w->slow ? 6 : 2) == 0 || (!w->slow && !i->reading);
		break;
	case 6:
		world_ping(w, i);
		break;
	case 7:
		world_pubrel(w, i);
		break;
	default:
		world_publish(w, i);
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
			client_read(w, i, some(w));
		break;
	case 6:
		fake_time(w->f, world_pick(w, 12) != 0 ? world_pick(w, 8)
				: w->slow              ? world_pick(w, w->slow)
						       : world_pick(w, 600));
		break;
	default:
		if (world_pick(w, w->again ? 8 : 2) == 0)
			break;
		fake_settle(w->f);
		for (unsigned k = 0; k < w->inst_n; k++) {
			if (w->inst[k].alive && w->inst[k].reading)
				client_read(w, &w->inst[k], SIZE_MAX);
		}
		break;
	}
}

/* Who has come last and the readers are busy, and all others are not. */
static void rush(struct world *w, unsigned n)
{
	for (; n > 0 && w->wrong == NULL; n--) {
		struct inst *i = &w->inst[w->inst_n - 1 - world_pick(w, 3)];

		w->t++;
		switch (i->alive ? world_pick(w, 6) : 5) {
		case 0:
			fake_offer(w->f, i->id, some(w));
			break;
		case 1:
		case 2:
			broker_step(w->b, i->id, 1 + world_pick(w, 4));
			break;
		case 3:
			while (fake_hc(w->f))
				;
			break;
		case 4:
			fake_fetch(w->f, i->id, SIZE_MAX);
			for (unsigned k = 0; k < READERS; k++)
				fake_fetch(w->f, w->inst[k].id, SIZE_MAX);
			break;
		default:
			if (world_pick(w, 4) == 0)
				fake_poll(w->f, 1);
		}
		oracle_look(w);
	}
}

static void step(struct world *w)
{
	unsigned what = world_pick(w, 10);
	struct inst *i = any(w);

	w->t++;
	if (w->again && what == 9 && w->inst_n > 3)
		rush(w, world_pick(w, 24));
	if (w->again && w->hurry && w->inst_n > 3)
		rush(w, 150);
	w->hurry = false;
	if (i == NULL || (what == 0 && world_pick(w, w->calm && w->t > 100 ? 60 : 6) == 0)) {
		world_connect(w, w->again ? READERS + world_pick(w, NAMES - READERS)
					  : world_pick(w, NAMES));
	} else if (what < 3) {
		client_step(w, i);
	} else if (what < 6) {
		if (broker_step(w->b, i->id, 1 + world_pick(w, 4)) == 0)
			broker_flush(w->b, i->id);
	} else {
		engine_step(w, i);
	}
	oracle_look(w);
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
		if (!i->over) {
			world_finish_connect(w, i);
			world_pubrel(w, i);
		}
		moved |= broker_step(w->b, i->id, 1000) != 0;
		moved |= broker_flush(w->b, i->id);
		moved |= client_read(w, i, SIZE_MAX) != 0;
	}
	fake_settle(w->f);
	return moved;
}

/* Readers, and that they are is proven. */
static void begin_again(struct world *w)
{
	for (unsigned k = 0; k < READERS; k++) {
		world_connect(w, k);
		world_finish_connect(w, &w->inst[k]);
		for (unsigned n = 0; n < 3; n++)
			world_subscribe(w, &w->inst[k]);
	}
	for (unsigned n = 0; n < 5; n++) {
		w->t++;
		while (drain_round(w))
			;
	}
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
		oracle_look(w);
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

		if (!i->alive)
			continue;
		m = world_state(w, i);
		broker_view(w->b, i->id, &v);
		if (i->over)
			world_wrong(w, "an end is kept back");
		if (!i->connected)
			world_wrong(w, "CONNECT without an answer");
		if (w->o.verbose)
			printf("%u is left: kind %u, rx_wait %x, rx_mode %u, jobs %u, held %u, "
			       "pending %zu, broker %u %zu\n",
			       k, m->kind, m->rx_wait, m->rx_mode, m->jobs, m->held != NULL,
			       fake_client_pending(w->f, i->id), v.alive, v.unhandled);
		world_stats.acks_dropped += v.acks_dropped;
		if (mqtt_connect_another(stage(w), m))
			world_wrong(w, "answer to a CONNECT not noticed");
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
	const struct broker_hooks hooks = {w, oracle_handled, oracle_dropped, oracle_connected,
					   oracle_over};
	struct toe_config cfg;
	struct fake_opts fo;
	const char *wrong;
	uint64_t drops;

	TOE_CHECK(w != NULL);
	w->o = *o;
	w->rnd = o->seed * 0x9e3779b97f4a7c15u | 1;
	w->calm = world_pick(w, 2) != 0;
	w->again = world_pick(w, 3) == 0;
	w->slow = world_pick(w, 4) != 0 ? 0 : world_pick(w, 2) == 0 ? 2500 : LATE_MS;
	configure(w, &cfg, &fo);
	cfg.mqtt_shadow = o->shadow;
	w->f = fake_new(&mqtt_module, &cfg, &fo);
	fake_set_tap(w->f, oracle_sent, w);
	fake_set_reach(w->f, oracle_reached, w);
	w->b = broker_new(w->f, world_pick(w, 6) == 0 ? 5 : 1000, &hooks);
	broker_late(w->b, w->slow == LATE_MS ? LATE_MS : 0);
	broker_hasty(w->b, 3);
	if (w->again)
		begin_again(w);
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
	for (unsigned k = 0; k < w->inst_n; k++) {
		free(w->inst[k].in.b);
		free(w->inst[k].rest.b);
	}
	wrong = w->wrong;
	free(w);
	return wrong;
}
