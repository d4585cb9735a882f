/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * MQTT stage: the stream module itself, and what its parts share.
 *
 * Input: connections accepted on mqtt.ports, both byte streams of each.  Output: through mqtt_rx.c
 * and mqtt_tx.c.  Owns struct mqtt_stage and one struct mqtt_conn per connection.  Follows one
 * application (one broker) at a time: connections of another pass untouched.  Thread: the stream
 * stage's.
 */
#include "mqtt_stage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

const char *const mqtt_reason_name[MQTT_R_N] = {
#define MQTT_REASON(symbol, text) #symbol,
#include "mqtt_counters.def"
};
const char *const mqtt_reason_text[MQTT_R_N] = {
#define MQTT_REASON(symbol, text) text,
#include "mqtt_counters.def"
};
const char *const mqtt_counter_name[MQTT_C_N] = {
#define MQTT_COUNTER(symbol, text) #symbol,
#include "mqtt_counters.def"
};
const char *const mqtt_counter_text[MQTT_C_N] = {
#define MQTT_COUNTER(symbol, text) text,
#include "mqtt_counters.def"
};

/* ---- connections ---- */

struct mqtt_conn *mqtt_conn_get(struct mqtt_stage *st, uint32_t id, uint32_t gen,
				struct toe_stream_conn **c)
{
	*c = id == MQTT_NONE ? NULL : toe_stream_conn(st->s, id, gen);
	return *c == NULL ? NULL : toe_stream_state(*c);
}

/* Members of a list are open: close() takes them off. */
static struct mqtt_link *link_at(struct mqtt_stage *st, uint32_t id, enum mqtt_list which)
{
	struct mqtt_conn *m = toe_stream_state_at(st->s, id);

	return &m->on[which];
}

void mqtt_list_add(struct mqtt_stage *st, struct mqtt_conn *m, enum mqtt_list which)
{
	struct mqtt_link *l = &m->on[which];
	uint32_t *first = &st->lists[which];

	if (mqtt_listed(m, which))
		return;
	*l = (struct mqtt_link){.prev = MQTT_NONE, .next = *first};
	m->listed |= (uint8_t)(1u << which);
	if (*first != MQTT_NONE)
		link_at(st, *first, which)->prev = m->id;
	else
		st->last[which] = m->id;
	*first = m->id;
}

void mqtt_list_del(struct mqtt_stage *st, struct mqtt_conn *m, enum mqtt_list which)
{
	struct mqtt_link *l = &m->on[which];

	if (!mqtt_listed(m, which))
		return;
	if (st->lists[which] != m->id)
		link_at(st, l->prev, which)->next = l->next;
	else
		st->lists[which] = l->next;
	if (l->next != MQTT_NONE)
		link_at(st, l->next, which)->prev = l->prev;
	else
		st->last[which] = l->prev;
	m->listed &= (uint8_t) ~(1u << which);
}

void mqtt_conn_lose(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m)
{
	if (m->kind == MQTT_K_LOST)
		return;
	mqtt_session_lose(st, m);
	m->kind = MQTT_K_LOST;
	st->lost_n++;
	mqtt_count(st, MQTT_C_LOST);
	if (m->tx_buf != NULL) {
		toe_stream_send(st->s, c, m->tx_buf, 0, m->tx_buf->len);
		mqtt_put(st, &m->tx_buf);
	}
	mqtt_tx_drop_deferred(st, m);
	m->tx_wait = 0;
	mqtt_list_del(st, m, MQTT_L_TX_WAIT);
	toe_stream_tx_resume(st->s, c);
	mqtt_rx_lost(st, c, m);
}

/* ---- the module ---- */

static bool mqtt_wants(const struct toe_config *cfg, uint16_t local_port)
{
	for (uint32_t i = 0; i < cfg->mqtt_port_n; i++) {
		if (cfg->mqtt_ports[i] == local_port)
			return true;
	}
	return false;
}

/* Connections of the broker that is followed now, which were opened when another one was: nothing
 * of them has been looked at. */
static void adopt(struct mqtt_stage *st)
{
	for (uint32_t id = 0; id < toe_stream_conn_max(st->s); id++) {
		struct mqtt_conn *m = toe_stream_state_at(st->s, id);

		if (m->kind != MQTT_K_FOREIGN || m->app_serial != st->app_serial ||
		    toe_stream_conn(st->s, id, m->gen) == NULL)
			continue;
		m->kind = MQTT_K_LOST;
		st->lost_n++;
		st->conns++;
		mqtt_count(st, MQTT_C_LOST);
	}
}

bool mqtt_follow(struct mqtt_stage *st, uint32_t app_id)
{
	uint32_t serial = toe_stream_app_serial(st->s, app_id);

	if (st->conns == 0 && serial != 0 && (st->app_serial != serial || st->app_id != app_id)) {
		/* another broker: whatever was known is of one that is gone */
		mqtt_session_reset(st);
		st->app_id = app_id;
		st->app_serial = serial;
		st->users = 0;
		st->reloads = toe_stream_reloads(st->s, app_id);
		adopt(st);
	}
	return serial != 0 && st->app_serial == serial && st->app_id == app_id;
}

static void mqtt_open(struct toe_stream *s, struct toe_stream_conn *c)
{
	struct mqtt_stage *st = mqtt_of(s);
	struct mqtt_conn *m = toe_stream_state(c);
	struct toe_stream_peer peer;

	m->id = toe_stream_id(c);
	m->gen = toe_stream_gen(c);
	m->session = MQTT_NONE;
	m->jobq = MQTT_NONE;
	m->forwarded_ms = toe_stream_ms(s);
	toe_stream_peer(s, c, &peer);
	m->app_serial = toe_stream_app_serial(s, peer.app_id);
	if (!mqtt_follow(st, peer.app_id))
		m->kind = MQTT_K_FOREIGN;
	else
		st->conns++;
}

static void mqtt_tx_short(struct toe_stream *s, struct toe_stream_conn *c)
{
	struct mqtt_conn *m = toe_stream_state(c);

	if (m->kind == MQTT_K_TRACKED)
		mqtt_fence_check_short(mqtt_of(s), c, m);
}

static void mqtt_tx_end(struct toe_stream *s, struct toe_stream_conn *c)
{
	struct mqtt_conn *m = toe_stream_state(c);

	m->ended = 1;
	if (m->will)
		mqtt_audit_noise(mqtt_of(s), MQTT_NONE);
	mqtt_session_detach(mqtt_of(s), m);
	mqtt_tx_drop_deferred(mqtt_of(s), m);
	if (m->rx_wait & MQTT_WAIT_CONNACK) { /* there will be none */
		m->rx_wait &= (uint8_t)~MQTT_WAIT_CONNACK;
		mqtt_rx_proceed(mqtt_of(s), c, m);
	}
}

static void drop_requests(struct mqtt_stage *st, struct mqtt_conn *m)
{
	while (m->requests != NULL) {
		struct toe_buf *next = mqtt_request_of(m->requests)->next;

		toe_stream_buf_put(st->s, m->requests);
		m->requests = next;
	}
}

/* Called before close() if the broker has closed it. */
static void mqtt_tx_ended(struct toe_stream *s, struct toe_stream_conn *c)
{
	mqtt_audit_left(mqtt_of(s), toe_stream_state(c));
	mqtt_tx_end(s, c);
}

static void mqtt_close(struct toe_stream *s, struct toe_stream_conn *c)
{
	struct mqtt_stage *st = mqtt_of(s);
	struct mqtt_conn *m = toe_stream_state(c);

	mqtt_tx_end(s, c);
	drop_requests(st, m);
	mqtt_connect_answered(st, m); /* there will be none */
	mqtt_fence_suspect(st, m, 0);
	mqtt_connect_uncount(st, m);
	for (unsigned i = 0; i < MQTT_L_N; i++)
		mqtt_list_del(st, m, i);
	mqtt_put(st, &m->client_id);
	mqtt_put(st, &m->rx_buf);
	mqtt_put(st, &m->tx_buf);
	mqtt_put(st, &m->activating);
	if (m->kind == MQTT_K_LOST)
		st->lost_n--;
	if (m->kind != MQTT_K_FOREIGN)
		st->conns--;
}

static unsigned mqtt_poll(struct toe_stream *s, unsigned budget)
{
	struct mqtt_stage *st = mqtt_of(s);
	uint32_t now = toe_stream_ms(s);

	unsigned n = mqtt_fence_synced(st);

	if (st->settled)
		n += mqtt_fence_held(st);
	if (st->tick_ms != now || st->job_ended)
		n += mqtt_older_tick(st);
	st->job_ended = false;
	if (st->tick_ms != now && st->subs != NULL)
		mqtt_subs_rest(st->subs, now - st->tick_ms);
	if (st->tick_ms != now && now - st->walk_ms >= st->walk_gap) {
		st->walk_gap = 1 + mqtt_fence_tick(st) / MQTT_TICK_WALK;
		st->walk_ms = now;
	}
	if (st->audit_used != 0)
		mqtt_audit_tick(st);
	st->tick_ms = now;
	n += mqtt_fanout_run(st, budget);
	return n + mqtt_tx_waiters(st);
}

static bool mqtt_deadline(struct toe_stream *s, uint32_t *ms)
{
	const struct mqtt_stage *st = mqtt_of(s);

	bool now = st->job_oldest != MQTT_NONE || st->job_ended || mqtt_tx_waiter_ready(st);

	*ms = toe_stream_ms(s) + (now                                    ? 0
				  : st->lists[MQTT_L_OLDER] != MQTT_NONE ? 1
									 : MQTT_WATCH_MS);
	return now || st->lists[MQTT_L_PING] != MQTT_NONE || st->lists[MQTT_L_HELD] != MQTT_NONE ||
	       st->lists[MQTT_L_OLDER] != MQTT_NONE || st->lists[MQTT_L_UNPROVEN] != MQTT_NONE ||
	       st->audit_used != 0;
}

static void mqtt_fini(struct toe_stream *s)
{
	struct mqtt_stage *st = mqtt_of(s);

	if (st == NULL)
		return;
	mqtt_fanout_fini(st);
	mqtt_session_fini(st);
	mqtt_decide_fini(st);
	mqtt_audit_fini(st);
	free(st);
	toe_stream_set_private(s, NULL);
}

static int mqtt_init(struct toe_stream *s, const struct toe_config *cfg)
{
	struct mqtt_stage *st = calloc(1, sizeof(*st));
	int rc;

	if (st == NULL)
		return -ENOMEM;
	toe_stream_set_private(s, st);
	st->s = s;
	st->cfg = cfg;
	st->shadow = cfg->mqtt_shadow;
	for (unsigned i = 0; i < MQTT_L_N; i++)
		st->lists[i] = MQTT_NONE;
	st->job_oldest = st->job_newest = st->queue_turn = st->older_next = MQTT_NONE;
	if (getrandom(&st->hash_key, sizeof(st->hash_key), 0) != sizeof(st->hash_key))
		st->hash_key = (uint64_t)(uintptr_t)st * 0x9e3779b97f4a7c15u;
	if (cfg->mqtt_port_n == 0)
		return 0; /* off: nothing will be opened, so no memory is taken */
	rc = mqtt_session_init(st);
	if (rc == 0)
		rc = mqtt_fanout_init(st);
	if (rc == 0)
		rc = mqtt_audit_init(st);
	if (rc == 0)
		rc = mqtt_decide_init(st);
	if (rc != 0)
		mqtt_fini(s);
	return rc;
}

const struct toe_stream_module mqtt_module = {
	.name = "mqtt",
	.conn_bytes = sizeof(struct mqtt_conn),
	.wants = mqtt_wants,
	.init = mqtt_init,
	.fini = mqtt_fini,
	.open = mqtt_open,
	.close = mqtt_close,
	.rx = mqtt_rx,
	.rx_end = mqtt_rx_end,
	.rx_reset = mqtt_rx_reset,
	.tx = mqtt_tx,
	.tx_end = mqtt_tx_ended,
	.tx_short = mqtt_tx_short,
	.poll = mqtt_poll,
	.deadline = mqtt_deadline,
	.control = mqtt_control,
};
TOE_STREAM_MODULE(mqtt_module);
