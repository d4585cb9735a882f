/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * MQTT stage: proofs.  The broker handles the packets of one connection in order, so its PINGRESP
 * to a PINGREQ that the stage put into a client's stream proves that it has finished everything
 * that client sent before.
 *
 * Used for: order of a publisher's slow and fast messages; activation of subscriptions; subscribers
 * whose broker had to keep bytes in its heap (short write); keep alive of publishers whose messages
 * the broker never sees.  Events are numbered per connection; a PINGREQ covers those before it.
 *
 * A PINGRESP does not say what it answers.  Brokers drop answers when a client's queue is full
 * (mosquitto: max_queued_messages), or are late with them by as long as they are behind, and
 * nothing tells the two apart.  So no question is ever forgotten: the n-th answer answers the n-th
 * question or a later one, hence it is taken for the n-th, never for more.  A broker that has
 * dropped some is asked so many times more.  For the same reason the order of the client's own
 * questions and the stage's is kept: the client has its n-th answer no sooner than the broker can
 * have come to its n-th question, and if an answer before it was dropped, the broker is asked
 * again.  Thread: the stream stage's.
 */
#include "mqtt_stage.h"

#define ASKED_MAX      32u    /* bits of mqtt_conn.asked */
#define UNANSWERED_MAX 60000u /* fits mqtt_conn.ping_n; hours without any answer */
#define KEEPALIVE_PART 8u     /* a client quiet for 1/8 of its keep alive time is spoken for */

static const uint8_t pingreq[2] = {MQTT_PINGREQ << 4, 0};

/* ---- whose questions ---- */

static void asked_add(struct mqtt_conn *m, bool client)
{
	if (m->asked_n == ASKED_MAX)
		return; /* counted all the same */
	m->asked |= (uint32_t)client << m->asked_n;
	m->asked_n++;
}

/* The oldest one is answered; true: it was the client's.  There is one. */
static bool asked_pop(struct mqtt_conn *m)
{
	uint32_t clients = (uint32_t)__builtin_popcount(m->asked);
	bool client = m->asked & 1u;
	bool more = m->client_pings > clients;

	m->asked >>= 1;
	m->asked_n--;
	if (m->asked_n == ASKED_MAX - 1 &&
	    (more || (uint32_t)m->ping_n + m->ping_old > ASKED_MAX - clients))
		asked_add(m, more);
	return client;
}

void mqtt_fence_client_ping(struct mqtt_conn *m)
{
	m->client_pings++;
	asked_add(m, true);
}

/* ---- sending ---- */

/* More than two without answer happen by keep alive only.  Those beyond the second count for as
 * much as the second: an answer is never taken for one that was sent later. */
static void inject(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m)
{
	if (m->ping_n + m->ping_old >= UNANSWERED_MAX)
		return;
	m->want_ping = 0;
	asked_add(m, false);
	if (m->ping_n < 2) {
		m->ping_cover[m->ping_n] = m->events;
		m->ping_short[m->ping_n] = toe_stream_short_writes(c);
	}
	m->ping_n++;
	m->ping_taken = m->taken;
	m->ping_ms = m->forwarded_ms = toe_stream_ms(st->s);
	toe_stream_forward(st->s, c, pingreq, sizeof(pingreq), false);
	mqtt_count(st, MQTT_C_PING_SENT);
	mqtt_list_add(st, m, MQTT_L_PING);
}

/* Between packets of what has been forwarded. */
static bool at_boundary(const struct mqtt_conn *m)
{
	return m->rx_mode != MQTT_RX_PASS;
}

/* Both directions are followed, and neither has come to its end. */
static bool can_prove(const struct mqtt_conn *m)
{
	return m->kind == MQTT_K_TRACKED && !m->ended && !m->rx_over;
}

/* To the broker a PINGREQ is a sign of life, so it is sent only while the client need not have
 * given one itself: who has gone silent is cut, and has its will sent.  A question waits until more
 * of the client comes, or for ever.  One that is held has just been heard, and its message is kept
 * back. */
static bool alive(const struct mqtt_stage *st, const struct mqtt_conn *m)
{
	return m->keep_alive_s == 0 || (m->rx_wait & MQTT_WAIT_FENCE) ||
	       toe_stream_ms(st->s) - m->client_ms <= m->keep_alive_s * 1000u;
}

static bool may_ask(const struct mqtt_stage *st, const struct mqtt_conn *m)
{
	return can_prove(m) && at_boundary(m) && alive(st, m);
}

void mqtt_fence_ping(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m)
{
	if (!can_prove(m) || m->ping_n > 0)
		return;
	if (may_ask(st, m))
		inject(st, c, m);
	else
		m->want_ping = 1;
}

/* It answers, but not yet what matters.  If it drops answers, as many as it has dropped are to come
 * before that, so the next question goes at once.  Not if none was late: the answer is on its way.
 */
static void ask_on(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m)
{
	if (m->ping_n > 0 && m->ping_late && may_ask(st, m))
		inject(st, c, m);
	else
		mqtt_fence_ping(st, c, m);
}

void mqtt_fence_boundary(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m)
{
	m->want_ping = 0;
	mqtt_fence_ping(st, c, m);
}

void mqtt_fence_keepalive(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m)
{
	uint32_t quiet = toe_stream_ms(st->s) - m->forwarded_ms;

	if (m->keep_alive_s == 0 || quiet < m->keep_alive_s * 1000u / KEEPALIVE_PART ||
	    !can_prove(m) || !at_boundary(m))
		return;
	mqtt_count(st, MQTT_C_KEEPALIVE);
	inject(st, c, m);
}

/* ---- subscribers ---- */

static void fall_behind(struct mqtt_stage *st, struct mqtt_conn *m)
{
	uint32_t now = toe_stream_ms(st->s);
	uint32_t used = m->calm_ms - m->blocked_ms;
	uint32_t back = (now - m->calm_ms) / MQTT_HELD_SHARE;

	used = used < MQTT_HELD_MS ? used : MQTT_HELD_MS;
	m->blocked_ms = now - (used > back ? used - back : 0);
	m->blocked = 1;
	mqtt_count(st, MQTT_C_BLOCKED);
}

void mqtt_fence_check_short(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m)
{
	uint32_t now = toe_stream_short_writes(c);

	if (now == m->short_seen)
		return;
	m->short_seen = now;
	if (m->activating != NULL || m->requests != NULL)
		mqtt_fence_suspect(st, m, MQTT_SUSPECT_HEAP);
	if (!m->blocked)
		fall_behind(st, m);
	mqtt_fence_ping(st, c, m);
}

void mqtt_fence_unproven(struct mqtt_stage *st, struct mqtt_conn *m)
{
	if (!mqtt_listed(m, MQTT_L_UNPROVEN))
		m->look_ms = toe_stream_ms(st->s);
	mqtt_list_add(st, m, MQTT_L_UNPROVEN);
}

void mqtt_fence_suspect(struct mqtt_stage *st, struct mqtt_conn *m, uint8_t suspect)
{
	if (m->suspect == suspect)
		return;
	st->suspects += (suspect != 0) - (m->suspect != 0);
	m->suspect = suspect;
	st->turn++;
	if (suspect)
		mqtt_fence_unproven(st, m);
}

void mqtt_fence_activate(struct mqtt_stage *st, struct mqtt_conn *m, uint32_t sub)
{
	const struct mqtt_sub *s = mqtt_subs_get(st->subs, sub);
	struct toe_buf *old = m->activating;
	uint32_t used = old != NULL ? old->len : 0;
	struct mqtt_activating *a;

	mqtt_fence_unproven(st, m);
	if (old == NULL || used + sizeof(*a) > old->room) {
		struct toe_buf *b = toe_stream_buf_new(st->s, 2 * (used + sizeof(*a)));

		if (b == NULL)
			return; /* it stays pending: slow, but right */
		for (uint32_t i = 0; i < used; i++)
			b->data[i] = old->data[i];
		b->len = used;
		mqtt_put(st, &m->activating);
		m->activating = b;
	}
	a = (struct mqtt_activating *)(void *)(m->activating->data + used);
	*a = (struct mqtt_activating){
		.sub = sub, .gen = s->gen, .asked = s->user, .event = ++m->events};
	m->activating->len = used + (uint32_t)sizeof(*a);
}

/* What is proven becomes active; the rest stays in the list. */
static void activate_proven(struct mqtt_stage *st, struct mqtt_conn *m)
{
	struct mqtt_activating *a = (struct mqtt_activating *)(void *)m->activating->data;
	uint32_t n = m->activating->len / (uint32_t)sizeof(*a), kept = 0;

	for (uint32_t i = 0; i < n; i++) {
		struct mqtt_sub *sub;

		if (!mqtt_subs_alive(st->subs, a[i].sub, a[i].gen))
			continue;
		if ((int32_t)(a[i].event - m->proven) > 0) {
			a[kept++] = a[i];
			continue;
		}
		sub = mqtt_subs_get(st->subs, a[i].sub);
		if (sub->user != a[i].asked)
			continue; /* asked for again meanwhile */
		sub->state = MQTT_S_ACTIVE;
		mqtt_subs_touch(st->subs, a[i].sub);
		mqtt_count(st, MQTT_C_ACTIVATED);
	}
	m->activating->len = kept * (uint32_t)sizeof(*a);
	if (kept == 0)
		mqtt_put(st, &m->activating);
}

/* ---- answers ---- */

/* Everything up to m->proven has been handled by the broker.  calm: no short write since the
 * PINGREQ, so nothing of it is in the broker's heap. */
static void on_proof(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m,
		     bool calm)
{
	bool waits = (m->rx_wait & MQTT_WAIT_FENCE) != 0;

	if (calm && m->blocked) {
		m->blocked = 0;
		m->calm_ms = toe_stream_ms(st->s);
		mqtt_tx_settle(st, m);
		mqtt_count(st, MQTT_C_UNBLOCKED);
	}
	/* Retained messages held back by a short write leave before the next live message. */
	if (calm && m->suspect == MQTT_SUSPECT_HEAP) {
		mqtt_fence_suspect(st, m, MQTT_SUSPECT_HELD);
		m->saw_publish = 0; /* one that was in the heap does not count */
	} else if (calm && m->saw_publish) {
		mqtt_fence_suspect(st, m, 0);
	}
	if (calm && !m->suspect && m->activating != NULL)
		activate_proven(st, m);
	if (!m->blocked)
		mqtt_tx_flush(st, c, m);
	if (m->blocked || (waits && !mqtt_fence_clear(m)) ||
	    (m->activating != NULL && (m->suspect != MQTT_SUSPECT_HELD || m->saw_publish)))
		ask_on(st, c, m); /* one question for one answer, no more: there is an end to it */
	if (waits && mqtt_fence_clear(m)) {
		m->rx_wait &= (uint8_t)~MQTT_WAIT_FENCE;
		mqtt_rx_proceed(st, c, m);
	}
}

/* The oldest question that proves anything has its answer. */
static void answered(struct mqtt_conn *m)
{
	bool same = m->ping_cover[0] == m->ping_cover[1] && m->ping_short[0] == m->ping_short[1];

	m->sync_proven = m->ping_cover[0];
	m->sync_short = m->ping_short[0];
	m->ping_n--;
	m->ping_cover[0] = m->ping_cover[1];
	m->ping_short[0] = m->ping_short[1];
	if (same) { /* the others prove no more than this one */
		m->ping_old = m->ping_n;
		m->ping_n = 0;
	}
	m->ping_tries = 0;
	if (m->ping_n == 0 && m->ping_old == 0)
		m->ping_late = 0;
}

/* The answer was not the client's, as far as anybody can tell, and the client waits for its own: if
 * one of the stage's was dropped, this was it, and there will be no other. */
static void owe_client(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m,
		       bool late)
{
	m->ping_owed = m->client_pings > 0;
	if (!m->ping_owed)
		return;
	m->ping_ms = toe_stream_ms(st->s);
	mqtt_list_add(st, m, MQTT_L_PING);
	if (late && m->ping_n == 0 && may_ask(st, m))
		inject(st, c, m);
}

static void old_answered(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m)
{
	m->ping_old--;
	mqtt_count(st, MQTT_C_PING_OLD);
	if (m->ping_n > 0)
		ask_on(st, c, m);
	else if (m->ping_old == 0)
		m->ping_late = 0;
}

bool mqtt_fence_pingresp(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m)
{
	bool late = m->ping_late;

	if (m->asked_n == 0)
		return false; /* the broker repeats itself */
	if (asked_pop(m)) {
		if (--m->client_pings == 0 && m->ping_n > 0)
			ask_on(st, c, m);
		return true;
	}
	if (m->ping_old > 0) {
		old_answered(st, c, m);
		owe_client(st, c, m, late);
		return false;
	}
	/* What the broker wrote to others before is not noticed yet, perhaps.  An earlier answer
	 * that still waits is covered by this one. */
	m->sync_ticket = toe_stream_sync(st->s, c);
	answered(m);
	mqtt_list_add(st, m, MQTT_L_SYNC);
	m->ping_ms = toe_stream_ms(st->s);
	m->no_fence = 0; /* it answers again */
	owe_client(st, c, m, late);
	if (m->ping_n == 0 && !m->ping_owed && !(m->rx_wait & MQTT_WAIT_FENCE))
		mqtt_list_del(st, m, MQTT_L_PING);
	return false;
}

unsigned mqtt_fence_synced(struct mqtt_stage *st)
{
	uint64_t done = toe_stream_synced(st->s);
	uint32_t id = st->lists[MQTT_L_SYNC];
	unsigned n = 0;

	if (id == MQTT_NONE || st->synced == done)
		return 0;
	st->synced = done;
	while (id != MQTT_NONE) {
		struct mqtt_conn *m = toe_stream_state_at(st->s, id);
		struct toe_stream_conn *c = toe_stream_conn(st->s, id, m->gen);

		id = m->on[MQTT_L_SYNC].next;
		if (c == NULL || m->sync_ticket > done)
			continue;
		mqtt_list_del(st, m, MQTT_L_SYNC);
		mqtt_fence_check_short(st, c, m);
		m->proven = m->sync_proven;
		mqtt_count(st, MQTT_C_PING_PROOF);
		on_proof(st, c, m, m->sync_short == toe_stream_short_writes(c));
		n++;
	}
	return n;
}

/* ---- time ---- */

/*
 * Is it time to ask again?  Of use only to a broker that has dropped the answer; one that is late
 * will give all of them.  It drops as long as it has too much for the client: if what it wrote
 * before is not taken over yet, and nothing was since the last question, another would fare no
 * better.  If all of it has been taken over meanwhile, the answer should have been there.
 */
static bool due(const struct toe_stream_conn *c, const struct mqtt_conn *m, uint32_t now)
{
	bool moved = m->taken != m->ping_taken, level = m->taken == toe_stream_written(c);
	uint32_t pause = MQTT_PING_MS;

	if (m->ping_tries > 0 && !(moved && level))
		pause = MQTT_PING_AGAIN_MS << (m->ping_tries - 1);
	return (moved || level) && now - m->ping_ms >= pause;
}

void mqtt_fence_heard(struct mqtt_stage *st)
{
	st->heard_ms = toe_stream_ms(st->s);
}

static void tick_one(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m)
{
	uint32_t now = toe_stream_ms(st->s);

	if ((m->rx_wait & MQTT_WAIT_FENCE) && now - m->rx_wait_ms >= MQTT_FENCE_MS &&
	    (now - st->heard_ms >= MQTT_FENCE_MS || now - m->rx_wait_ms >= MQTT_FENCE_MAX_MS)) {
		m->rx_wait &= (uint8_t)~MQTT_WAIT_FENCE;
		m->no_fence = 1;
		mqtt_count(st, MQTT_C_FENCE_GAVE_UP);
		mqtt_rx_proceed(st, c, m);
	}
	if (!can_prove(m) || (m->ping_n == 0 && !(m->ping_owed && m->client_pings > 0))) {
		/* a publisher held by the fence would be held for ever */
		if (!(m->rx_wait & MQTT_WAIT_FENCE))
			mqtt_list_del(st, m, MQTT_L_PING);
	} else if (may_ask(st, m) && due(c, m, now)) {
		mqtt_count(st, MQTT_C_PING_LATE);
		m->ping_late = 1;
		m->ping_tries += m->ping_tries < MQTT_PING_TRIES;
		inject(st, c, m);
	}
}

unsigned mqtt_fence_held(struct mqtt_stage *st)
{
	uint32_t id = st->lists[MQTT_L_HELD];
	unsigned n = 0;

	st->settled = false;
	for (; id != MQTT_NONE; n++) {
		struct mqtt_conn *m = toe_stream_state_at(st->s, id);
		struct toe_stream_conn *c = toe_stream_conn(st->s, id, m->gen);

		id = m->on[MQTT_L_HELD].next;
		if (c == NULL || m->jobs != 0)
			continue;
		mqtt_tx_drop_held(st, m);
		mqtt_rx_appended(st, c, m);
	}
	return n;
}

/* Does it read what it has to read before its subscriptions are proven? */
static void tick_unproven(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m)
{
	uint32_t now = toe_stream_ms(st->s), acked = toe_stream_acked(c);
	bool waits = m->activating != NULL || m->requests != NULL || m->suspect;
	bool full = toe_stream_queued(c) != 0;
	/* held back: what it waits for is a message for it */
	bool late = m->suspect != MQTT_SUSPECT_HELD && now - m->asked_ms >= MQTT_UNPROVEN_MS;
	uint8_t stalled;

	if (!full || acked != m->look_acked) {
		m->look_acked = acked;
		m->look_ms = now;
	}
	stalled = waits && full && (late || now - m->look_ms >= MQTT_STALLED_MS);
	st->turn += stalled != m->stalled;
	m->stalled = stalled;
	if (!waits)
		mqtt_list_del(st, m, MQTT_L_UNPROVEN);
}

unsigned mqtt_fence_tick(struct mqtt_stage *st)
{
	unsigned n = mqtt_fence_held(st);
	uint32_t id = st->lists[MQTT_L_UNPROVEN];

	for (; id != MQTT_NONE; n++) {
		struct mqtt_conn *m = toe_stream_state_at(st->s, id);
		struct toe_stream_conn *c = toe_stream_conn(st->s, id, m->gen);

		id = m->on[MQTT_L_UNPROVEN].next;
		if (c != NULL)
			tick_unproven(st, c, m);
	}
	id = st->lists[MQTT_L_PING];
	for (; id != MQTT_NONE; n++) {
		struct mqtt_conn *m = toe_stream_state_at(st->s, id);
		struct toe_stream_conn *c = toe_stream_conn(st->s, id, m->gen);

		id = m->on[MQTT_L_PING].next;
		if (c != NULL)
			tick_one(st, c, m);
	}
	return n;
}
