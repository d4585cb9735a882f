/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * MQTT stage: one ClientID on a connection and, a moment later, on another one.
 *
 * What the older connection has published fast comes before what the broker does at the newer one's
 * CONNECT (it publishes the older one's will) and before what the newer one publishes.  So CONNECT
 * waits, and once the broker has accepted it, what is behind it.  The older one may be online,
 * about to end, or closed.  Input: connections on MQTT_L_OLDER, jobs, publishers on MQTT_L_HELD.
 * Output: rx goes on.  Thread: the stream stage's.
 */
#include "mqtt_stage.h"

#define LOOKS 16u /* connections per look */

/* Somebody else's copies that wait for a blocked subscriber are waited for no longer than others
 * wait for them, and a publisher that goes on and on is not waited for for ever. */
static bool goes_on(struct mqtt_stage *st, const struct mqtt_conn *m)
{
	const struct mqtt_session *se = m->client_id != NULL ? mqtt_session_claimed(st, m) : NULL;
	uint32_t id = st->lists[MQTT_L_HELD];
	struct toe_stream_conn *c;
	struct mqtt_conn *old = NULL;

	if (se != NULL)
		old = mqtt_conn_get(st, se->conn, se->conn_gen, &c);
	if (old != NULL &&
	    (mqtt_rx_pending(st, old) || (old->rx_wait & (MQTT_WAIT_FENCE | MQTT_WAIT_ROOM))))
		return true;
	for (; id != MQTT_NONE; id = old->on[MQTT_L_HELD].next) {
		old = toe_stream_state_at(st->s, id);
		if (old->who == m->who && old != m)
			return true;
	}
	return false;
}

/* One that has waited for longer: whoever was added to the list before is behind. */
static bool another_waits(struct mqtt_stage *st, const struct mqtt_conn *m)
{
	uint32_t id =
		mqtt_listed(m, MQTT_L_OLDER) ? m->on[MQTT_L_OLDER].next : st->lists[MQTT_L_OLDER];

	while (id != MQTT_NONE) {
		const struct mqtt_conn *w = toe_stream_state_at(st->s, id);

		if (w->who == m->who)
			return true;
		id = w->on[MQTT_L_OLDER].next;
	}
	return false;
}

static bool pending(struct mqtt_stage *st, const struct mqtt_conn *m)
{
	if (mqtt_fanout_of(st, m->who, m->tx_wait_seq) || another_waits(st, m))
		return true;
	/* in any case: it drops what has waited for too long */
	return goes_on(st, m) && toe_stream_ms(st->s) - m->rx_wait_ms < MQTT_OLDER_MS;
}

bool mqtt_older_wait(struct mqtt_stage *st, struct mqtt_conn *m)
{
	if (m->who == 0)
		return false;
	m->tx_wait_seq = st->job_seq;
	m->rx_wait_ms = toe_stream_ms(st->s);
	if (!pending(st, m))
		return false;
	mqtt_count(st, MQTT_C_OLDER_WAIT);
	m->rx_wait |= MQTT_WAIT_OLDER;
	mqtt_list_add(st, m, MQTT_L_OLDER);
	return true;
}

unsigned mqtt_older_tick(struct mqtt_stage *st)
{
	const uint32_t newest = st->lists[MQTT_L_OLDER];
	uint32_t id = st->older_next;
	unsigned n = 0;

	if (newest == MQTT_NONE)
		return 0;
	if (id == MQTT_NONE || !mqtt_listed(toe_stream_state_at(st->s, id), MQTT_L_OLDER))
		id = st->last[MQTT_L_OLDER];
	for (; id != MQTT_NONE && n < LOOKS; n++) {
		struct mqtt_conn *m = toe_stream_state_at(st->s, id);

		id = id == newest ? MQTT_NONE : m->on[MQTT_L_OLDER].prev;
		if (pending(st, m))
			continue;
		mqtt_list_del(st, m, MQTT_L_OLDER);
		m->rx_wait &= (uint8_t)~MQTT_WAIT_OLDER;
		mqtt_rx_proceed(st, toe_stream_conn(st->s, m->id, m->gen), m);
	}
	st->older_next = id;
	return n;
}
