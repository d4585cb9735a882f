/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * MQTT stage: who is connected, and who subscribed to what.
 *
 * Input: CONNECT/CONNACK, SUBSCRIBE/SUBACK, UNSUBSCRIBE/UNSUBACK, endings, as seen on the wire.  A
 * session is known by its ClientID and outlives its connection if the client asked for that.
 * Output: the subscription map.  A subscription counts (as PENDING: what it matches goes slow) from
 * the moment its SUBSCRIBE is forwarded, and becomes ACTIVE by a proof (mqtt_fence.c).  Owns the
 * table of sessions.  Thread: the stream stage's.
 */
#include "mqtt_stage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SESSIONS_PER_CONN 2u
#define ID_PART           200u /* bytes of a long ClientID that are kept */
#define ID_KEPT           (ID_PART + 1 + sizeof(uint64_t))

/* ---- table ---- */

static uint32_t hash_of(const struct mqtt_stage *st, const uint8_t *id, uint32_t len)
{
	return (uint32_t)mqtt_subs_hash(st->subs, id, len) & st->hash_mask;
}

static uint32_t find(const struct mqtt_stage *st, const uint8_t *id, uint32_t len)
{
	uint32_t i = st->session_hash[hash_of(st, id, len)];

	while (i != MQTT_NONE) {
		const struct toe_buf *b = st->sessions[i].id;

		if (b->len == len && memcmp(b->data, id, len) == 0)
			break;
		i = st->sessions[i].hash_next;
	}
	return i;
}

static void drop_subs(struct mqtt_stage *st, uint32_t session)
{
	uint32_t sub = mqtt_subs_first(st->subs, session);

	while (sub != MQTT_SUB_NONE) {
		uint32_t next = mqtt_subs_next(st->subs, sub);

		mqtt_subs_del(st->subs, sub);
		sub = next;
	}
}

static void forget(struct mqtt_stage *st, uint32_t i)
{
	struct mqtt_session *se = &st->sessions[i];
	uint32_t *at = &st->session_hash[hash_of(st, se->id->data, se->id->len)];

	drop_subs(st, i);
	st->full -= se->full;
	if (st->restoring == i)
		st->restoring = MQTT_NONE;
	while (*at != i)
		at = &st->sessions[*at].hash_next;
	*at = se->hash_next;
	mqtt_put(st, &se->id);
	se->hash_next = st->session_free;
	st->session_free = i;
	st->session_used--;
	if (st->session_used == 0)
		st->full = 0;
}

/* The table is full: one that is offline makes room, in turn.  Should it come back, it is one with
 * unknown subscriptions. */
static void make_room(struct mqtt_stage *st)
{
	for (uint32_t looked = 0; looked < st->session_n; looked++) {
		uint32_t i = st->session_hand++ % st->session_n;

		if (st->sessions[i].id != NULL && st->sessions[i].conn == MQTT_NONE &&
		    !st->sessions[i].kernel) {
			mqtt_count(st, MQTT_C_FORGOTTEN);
			st->sessions[i].full = 0; /* the broker has not forgotten it */
			forget(st, i);
			return;
		}
	}
}

/* MQTT_NONE: the table is full. */
static uint32_t create(struct mqtt_stage *st, struct toe_buf *id)
{
	uint32_t *head;
	uint32_t i;

	if (st->session_free == MQTT_NONE)
		make_room(st);
	i = st->session_free;
	if (i == MQTT_NONE)
		return i;
	st->session_free = st->sessions[i].hash_next;
	head = &st->session_hash[hash_of(st, id->data, id->len)];
	st->sessions[i] = (struct mqtt_session){
		.id = toe_buf_get(id), .hash_next = *head, .conn = MQTT_NONE, .missed = st->missed};
	*head = i;
	st->session_used++;
	return i;
}

int mqtt_session_init(struct mqtt_stage *st)
{
	const struct mqtt_subs_limits lim = {.sessions =
						     toe_stream_conn_max(st->s) * SESSIONS_PER_CONN,
					     .subscriptions = st->cfg->mqtt_subscriptions,
					     .work_ms = MQTT_WORK_MS,
					     .key = {st->hash_key, ~st->hash_key}};
	uint32_t buckets = 1024;

	st->session_n = lim.sessions;
	while (buckets < st->session_n)
		buckets *= 2;
	st->hash_mask = buckets - 1;
	st->sessions = calloc(st->session_n, sizeof(*st->sessions));
	st->session_hash = malloc(buckets * sizeof(*st->session_hash));
	st->subs = mqtt_subs_create(&lim);
	if (st->sessions == NULL || st->session_hash == NULL || st->subs == NULL)
		return -ENOMEM;
	mqtt_kernel_reset(st);
	memset(st->session_hash, 0xff, buckets * sizeof(*st->session_hash));
	st->session_free = st->restoring = MQTT_NONE;
	for (uint32_t i = st->session_n; i-- > 0;) {
		st->sessions[i].hash_next = st->session_free;
		st->session_free = i;
	}
	return 0;
}

void mqtt_session_reset(struct mqtt_stage *st)
{
	for (uint32_t i = 0; i < st->session_n; i++) {
		if (st->sessions[i].id != NULL)
			forget(st, i);
	}
	mqtt_kernel_reset(st);
	st->unknown_n = 0;
	st->full = 0;
}

void mqtt_session_fini(struct mqtt_stage *st)
{
	if (st->sessions != NULL && st->session_hash != NULL && st->subs != NULL)
		mqtt_session_reset(st);
	mqtt_subs_free(st->subs);
	free(st->sessions);
	free(st->session_hash);
}

/* ---- clients through the kernel ---- */

uint32_t mqtt_session_kernel(struct mqtt_stage *st, uint32_t ctx, uint32_t conn)
{
	/* a name nobody can send, and not that of a connection */
	const uint32_t name[4] = {0, ctx, conn, 0};
	struct toe_buf *id = toe_stream_buf_new(st->s, sizeof(name));
	uint32_t i;

	if (id == NULL)
		return MQTT_NONE;
	memcpy(id->data, name, sizeof(name));
	id->len = sizeof(name);
	i = create(st, id);
	mqtt_put(st, &id);
	if (i != MQTT_NONE)
		st->sessions[i].kernel = 1;
	return i;
}

void mqtt_session_drop(struct mqtt_stage *st, uint32_t session)
{
	forget(st, session);
}

void mqtt_session_cut(struct mqtt_stage *st, const uint8_t *id, uint32_t len, bool fewer)
{
	uint32_t i = len != 0 ? find(st, id, len) : MQTT_NONE;

	if (i == MQTT_NONE)
		return;
	st->sessions[i].cut = 1;
	st->sessions[i].unseen |= !fewer;
	/* Online here: which of the two connections had it last nobody can tell. */
	if (!fewer && st->sessions[i].conn != MQTT_NONE && !st->sessions[i].unknown) {
		st->sessions[i].unknown = 1;
		st->unknown_n++;
	}
}

bool mqtt_session_named(const struct mqtt_stage *st, const uint8_t *id, uint32_t len)
{
	return len != 0 && find(st, id, len) != MQTT_NONE;
}

uint32_t mqtt_session_known(const struct mqtt_stage *st, const uint8_t *id, uint32_t len)
{
	uint32_t i = len != 0 ? find(st, id, len) : MQTT_NONE;
	const struct mqtt_session *se;

	if (i == MQTT_NONE)
		return i;
	se = &st->sessions[i];
	return se->conn == MQTT_NONE && !se->unknown && !se->unseen && !se->full &&
			       se->missed == st->missed
		       ? i
		       : MQTT_NONE;
}

uint32_t mqtt_session_leave(struct mqtt_stage *st, struct toe_buf *id)
{
	uint32_t i = find(st, id->data, id->len);

	if (i == MQTT_NONE)
		i = create(st, id);
	if (i == MQTT_NONE)
		return i;
	st->sessions[i].cut = 1;
	if (st->sessions[i].conn != MQTT_NONE) {
		st->sessions[i].unseen = 1;
		return MQTT_NONE;
	}
	st->sessions[i].keep = 1;
	return i;
}

/* ---- CONNECT, CONNACK ---- */

static struct toe_buf *keep_string(struct mqtt_stage *st, const uint8_t *data, uint32_t len)
{
	struct toe_buf *b = toe_stream_buf_new(st->s, len);

	if (b != NULL) {
		memcpy(b->data, data, len);
		b->len = len;
	}
	return b;
}

/* Sessions outlive connections, so what their names take is bounded: of a long one the beginning
 * and a hash nobody outside can compute.  No name that was sent has a 0 in it. */
static struct toe_buf *keep_id(struct mqtt_stage *st, const struct mqtt_str *id)
{
	uint8_t name[ID_KEPT];
	uint64_t hash;

	if (id->len <= sizeof(name))
		return keep_string(st, id->data, id->len);
	hash = mqtt_subs_hash(st->subs, id->data, id->len);
	memcpy(name, id->data, ID_PART);
	name[ID_PART] = 0;
	memcpy(name + ID_PART + 1, &hash, sizeof(hash));
	return keep_string(st, name, sizeof(name));
}

struct toe_buf *mqtt_session_name(struct mqtt_stage *st, const struct mqtt_str *id)
{
	return id->len != 0 ? keep_id(st, id) : NULL;
}

struct toe_buf *mqtt_session_new(struct mqtt_stage *st, const struct mqtt_str *id)
{
	struct toe_buf *b = mqtt_session_name(st, id);
	uint32_t i = b != NULL ? find(st, b->data, b->len) : MQTT_NONE;

	if (i != MQTT_NONE && st->sessions[i].conn == MQTT_NONE)
		forget(st, i);
	return b;
}

uint32_t mqtt_session_restore(struct mqtt_stage *st, const uint8_t *id, uint32_t len)
{
	const struct mqtt_str name = {.data = id, .len = len};
	struct toe_buf *b;
	uint32_t i = MQTT_NONE;

	if (len == 0 || id[0] == 0)
		return MQTT_NONE; /* nobody can connect so */
	b = keep_id(st, &name);
	if (b != NULL && find(st, b->data, b->len) == MQTT_NONE)
		i = create(st, b);
	mqtt_put(st, &b);
	if (i != MQTT_NONE)
		st->sessions[i].keep = st->sessions[i].cut = st->sessions[i].unseen = 1;
	return i;
}

/* The same for the same ClientID, and never 0 but for the empty one, which is nobody's. */
static uint64_t who_is(struct mqtt_stage *st, const struct toe_buf *id)
{
	return id->len == 0 ? 0 : mqtt_subs_hash(st->subs, id->data, id->len) | 1;
}

struct mqtt_session *mqtt_session_claimed(struct mqtt_stage *st, const struct mqtt_conn *m)
{
	uint32_t i = find(st, m->client_id->data, m->client_id->len);

	return i != MQTT_NONE ? &st->sessions[i] : NULL;
}

void mqtt_session_connect(struct mqtt_stage *st, struct mqtt_conn *m,
			  const struct mqtt_connect *con)
{
	m->level = con->level;
	m->bridge = con->bridge;
	m->will = con->has_will;
	m->clean = con->clean;
	m->keep_alive_s = con->keep_alive_s;
	m->max_packet = con->maximum_packet_size;
	m->expiry_s = con->level == MQTT_LEVEL_5 ? con->session_expiry_s
		      : con->clean               ? 0
						 : UINT32_MAX;
	m->client_id = keep_id(st, &con->client_id);
	if (m->client_id == NULL)
		return;
	m->who = who_is(st, m->client_id);
}

/* A name nobody can send: the broker keeps the session of an empty ClientID to itself. */
static struct toe_buf *anonymous(struct mqtt_stage *st, const struct mqtt_conn *m)
{
	const uint32_t name[3] = {0, m->id, m->gen};

	return keep_string(st, (const uint8_t *)name, sizeof(name));
}

static void attach(struct mqtt_stage *st, struct mqtt_conn *m, uint32_t i)
{
	struct mqtt_session *se = &st->sessions[i];

	se->conn = m->id;
	se->conn_gen = m->gen;
	se->level = m->level;
	se->max_packet = m->max_packet;
	se->keep = m->expiry_s != 0;
	/* One that came before its answer may be the next to have the session. */
	se->claimed = mqtt_connect_another(st, m);
	se->claimed_ms = toe_stream_ms(st->s);
	m->session = i;
	st->turn++;
}

/* The session lives on with this connection; what it has to be sent first has to be sent first.
 * lapsed: or it does not. */
static void resume(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m,
		   bool lapsed)
{
	for (uint32_t sub = mqtt_subs_first(st->subs, m->session); sub != MQTT_SUB_NONE;
	     sub = mqtt_subs_next(st->subs, sub)) {
		struct mqtt_sub *s = mqtt_subs_get(st->subs, sub);

		if (s->state == MQTT_S_ACTIVE) {
			s->state = MQTT_S_PENDING;
			mqtt_subs_touch(st->subs, sub);
		}
		s->user = ++m->events; /* numbers of the old connection mean nothing here */
		s->doubt |= lapsed;
		if (!s->doubt)
			mqtt_fence_activate(st, m, sub);
	}
	if (m->activating != NULL)
		mqtt_fence_ping(st, c, m);
}

static void take_over(struct mqtt_stage *st, struct mqtt_session *se)
{
	struct toe_stream_conn *c;
	struct mqtt_conn *old = mqtt_conn_get(st, se->conn, se->conn_gen, &c);

	if (old != NULL) {
		se->cut |= old->requests != NULL;
		old->session = MQTT_NONE;
		mqtt_put(st, &old->activating); /* nothing the old one proves is about the new */
		if (mqtt_rx_pending(st, old))
			mqtt_rx_wait(st, old, MQTT_WAIT_JOBS);
		mqtt_tx_drop_deferred(st, old);
		mqtt_count(st, MQTT_C_TAKEOVER);
	}
	se->conn = MQTT_NONE;
	if (se->unknown)
		st->unknown_n--;
}

/* Finds or makes the session; false: the connection cannot be followed. */
static bool enter(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m,
		  struct toe_buf *id, bool present)
{
	uint32_t i = find(st, id->data, id->len);
	bool known = i != MQTT_NONE;
	/* MQTT 3.1 has no Session Present: mosquitto resumes all the same (CONNACK 00 00), but for
	 * a session that ends with the connection that is taken over. */
	bool ends = known && !st->sessions[i].keep;
	bool resumed = m->level == MQTT_LEVEL_31 ? !m->clean && !ends : present;
	/* nor does it say that there was none any more */
	bool lapsed = m->level == MQTT_LEVEL_31 && known && st->sessions[i].conn == MQTT_NONE &&
		      st->sessions[i].lapses;

	if (!known)
		i = create(st, id);
	if (i == MQTT_NONE)
		return false;
	if (known && st->sessions[i].conn != MQTT_NONE)
		take_over(st, &st->sessions[i]);
	if (!resumed) {
		drop_subs(st, i);
		st->full -= st->sessions[i].full;
		st->sessions[i].full = 0;
		st->sessions[i].unknown = st->sessions[i].cut = st->sessions[i].unseen = 0;
		st->sessions[i].missed = st->missed;
	} else if (!known || st->sessions[i].cut || st->sessions[i].missed != st->missed) {
		/* cut: whether the broker took its last (UN)SUBSCRIBE nobody saw */
		st->sessions[i].unknown = 1;
	}
	attach(st, m, i);
	if (st->sessions[i].unknown)
		st->unknown_n++;
	if (resumed)
		resume(st, c, m, lapsed);
	return true;
}

/* An application may be more than one broker: processes that share no connection. */
static bool same_broker(struct mqtt_stage *st, const struct toe_stream_conn *c)
{
	uint64_t users = toe_stream_users(st->s, c);

	if (users != 0 && st->users != 0 && !(users & st->users))
		return false;
	st->users |= users;
	return true;
}

void mqtt_session_connack(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m,
			  const uint8_t *body, uint32_t len)
{
	struct mqtt_connack ack;
	struct toe_buf *id = NULL;

	if (m->kind != MQTT_K_CONNECTING)
		return;
	if (m->client_id == NULL && len >= 2 && body[1] != 0) {
		m->kind = MQTT_K_REFUSED;
		return;
	}
	if (m->client_id == NULL || mqtt_connack_parse(m->level, body, len, &ack) != 0 ||
	    (ack.reason == 0 && !same_broker(st, c))) {
		mqtt_conn_lose(st, c, m);
		return;
	}
	mqtt_connect_answered(st, m);
	if (ack.reason != 0) {
		m->kind = MQTT_K_REFUSED;
		mqtt_put(st, &m->client_id);
		return;
	}
	m->kind = MQTT_K_TRACKED;
	m->asked_ms = toe_stream_ms(st->s);
	if (ack.has_keep_alive)
		m->keep_alive_s = ack.keep_alive_s;
	if (ack.has_session_expiry)
		m->expiry_s = ack.session_expiry_s;
	if (ack.has_assigned_id)
		id = keep_id(st, &ack.assigned_id);
	else if (m->client_id->len == 0)
		id = anonymous(st, m);
	else
		id = toe_buf_get(m->client_id);
	mqtt_put(st, &m->client_id);
	if (id != NULL && ack.has_assigned_id)
		m->who = who_is(st, id);
	if (id == NULL || !enter(st, c, m, id, ack.session_present))
		mqtt_conn_lose(st, c, m);
	else
		mqtt_older_wait(st, m);
	mqtt_put(st, &id);
}

/* ---- endings ---- */

void mqtt_session_disconnect(struct mqtt_conn *m, const uint8_t *body, uint32_t len)
{
	uint8_t reason;
	bool has_expiry;
	uint32_t expiry_s;

	if (m->level == MQTT_LEVEL_5 &&
	    mqtt_disconnect_parse(m->level, body, len, &reason, &has_expiry, &expiry_s) == 0 &&
	    has_expiry && m->expiry_s != 0)
		m->expiry_s = expiry_s;
}

/* Nothing is delivered to a session that is offline, so nothing of it has to be proven: resume()
 * begins again. */
static void rest(struct mqtt_stage *st, uint32_t session)
{
	for (uint32_t sub = mqtt_subs_first(st->subs, session); sub != MQTT_SUB_NONE;
	     sub = mqtt_subs_next(st->subs, sub)) {
		struct mqtt_sub *s = mqtt_subs_get(st->subs, sub);

		if (s->state == MQTT_S_ACTIVE)
			continue;
		s->state = MQTT_S_ACTIVE;
		mqtt_subs_touch(st->subs, sub);
	}
}

void mqtt_session_detach(struct mqtt_stage *st, struct mqtt_conn *m)
{
	struct mqtt_session *se;
	uint32_t i = m->session;

	if (i == MQTT_NONE)
		return;
	m->session = MQTT_NONE;
	mqtt_put(st, &m->activating);
	se = &st->sessions[i];
	se->cut |= m->requests != NULL;
	se->conn = MQTT_NONE;
	se->lapses = m->expiry_s != UINT32_MAX;
	st->turn++;
	if (se->unknown)
		st->unknown_n--;
	if (m->expiry_s == 0)
		forget(st, i);
	else
		rest(st, i);
}

/* The broker accepts it, or may: what it does to the session of its ClientID nobody sees, nor, if
 * that is not known, to which.  An empty one begins a session of its own. */
static void lose_connecting(struct mqtt_stage *st, const struct mqtt_conn *m)
{
	struct mqtt_str id = {0};

	if (m->client_id != NULL)
		id = (struct mqtt_str){m->client_id->data, (uint16_t)m->client_id->len};
	if (m->client_id == NULL || id.len != 0)
		mqtt_kernel_missed(st, &id);
}

/* What it is subscribed to when it comes back nobody knows: it is a session never seen then. */
void mqtt_session_lose(struct mqtt_stage *st, struct mqtt_conn *m)
{
	uint32_t i = m->session;

	if (m->kind == MQTT_K_CONNECTING)
		lose_connecting(st, m);
	mqtt_connect_answered(st, m);
	if (i != MQTT_NONE)
		st->sessions[i].full = 0; /* the broker has not forgotten it */
	mqtt_session_detach(st, m);
	if (i != MQTT_NONE && st->sessions[i].id != NULL)
		forget(st, i);
}
