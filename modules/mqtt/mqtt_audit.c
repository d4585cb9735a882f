/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * MQTT stage: does the broker deliver what the stage would have delivered?
 *
 * Input: messages that would have been fast and go through the broker (shadow mode, canaries), with
 * their receivers; the broker's PUBLISH packets as they pass, split anywhere.  Output: counts per
 * filter and the last differences.  A copy is found by receiver and a hash of topic and payload
 * (of the payload, its length and beginning).  What cannot be known (no room, a receiver that is
 * behind or has left, no proof that the broker has handled the message) is "skipped", never a
 * difference.  Owns a fixed table; work per call is bounded.  Thread: the stream stage's.
 */
#include "mqtt_audit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"

#define PAYLOAD_MAX 4096u /* bytes of a payload that are hashed */
#define HEAD_MAX    2048u /* headers of MQTT 5 up to here are compared with their properties */
#define SCAN_MAX    64u

/* ---- hashes ---- */

/* FNV-1a, from a secret start: contents are chosen by strangers. */
static uint64_t hash_bytes(uint64_t h, const uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len; i++)
		h = (h ^ data[i]) * 0x100000001b3u;
	return h;
}

static uint64_t hash_start(const struct mqtt_stage *st)
{
	return st->hash_key ^ 0xcbf29ce484222325u;
}

static uint64_t hash_end(uint64_t h, uint32_t topic_len, uint32_t payload_len)
{
	h = (h ^ ((uint64_t)topic_len << 32 | payload_len)) * 0x9e3779b97f4a7c15u;
	return h ^ h >> 32;
}

static uint32_t bucket_of(uint64_t key, uint32_t conn)
{
	return (uint32_t)((key + conn) * 0x9e3779b97f4a7c15u >> 40) % MQTT_AUDIT_BUCKETS;
}

/* ---- queues of a bucket ---- */

int mqtt_audit_init(struct mqtt_stage *st)
{
	struct mqtt_audit *a = calloc(1, sizeof(*a));

	if (a == NULL)
		return -ENOMEM;
	memset(a->copies, 0xff, sizeof(a->copies));
	memset(a->msgs, 0xff, sizeof(a->msgs));
	for (uint32_t i = 0; i < MQTT_AUDIT_COPIES; i++)
		a->copy[i].next = i + 1 < MQTT_AUDIT_COPIES ? i + 1 : MQTT_NONE;
	st->audit = a;
	return 0;
}

void mqtt_audit_fini(struct mqtt_stage *st)
{
	free(st->audit);
	st->audit = NULL;
}

static void copy_add(struct mqtt_audit *a, uint32_t i)
{
	struct mqtt_audit_copy *e = &a->copy[i];
	struct mqtt_audit_msg *msg = &a->msg[e->msg];
	struct mqtt_audit_queue *q = &a->copies[bucket_of(e->key, e->conn)];

	e->next = MQTT_NONE;
	if (q->first == MQTT_NONE)
		q->first = i;
	else
		a->copy[q->last].next = i;
	q->last = i;
	e->older = MQTT_NONE;
	e->newer = msg->first;
	if (msg->first != MQTT_NONE)
		a->copy[msg->first].older = i;
	msg->first = i;
}

/* before: the one in front of it in its bucket. */
static void copy_del(struct mqtt_audit *a, uint32_t i, uint32_t before)
{
	struct mqtt_audit_copy *e = &a->copy[i];
	struct mqtt_audit_queue *q = &a->copies[bucket_of(e->key, e->conn)];

	if (before == MQTT_NONE)
		q->first = e->next;
	else
		a->copy[before].next = e->next;
	if (q->last == i)
		q->last = before;
	if (e->older != MQTT_NONE)
		a->copy[e->older].newer = e->newer;
	else
		a->msg[e->msg].first = e->newer;
	if (e->newer != MQTT_NONE)
		a->copy[e->newer].older = e->older;
	e->next = a->copy_free;
	a->copy_free = i;
	a->copy_used--;
}

/* Messages end in the order of their making, so the oldest is the first of its bucket. */
static void msg_pop(struct mqtt_stage *st)
{
	struct mqtt_audit *a = st->audit;
	uint32_t i = a->msg_from % MQTT_AUDIT_MSGS;
	struct mqtt_audit_queue *q = &a->msgs[bucket_of(a->msg[i].key, 0)];

	TOE_ASSERT(q->first == i);
	q->first = a->msg[i].next;
	if (q->first == MQTT_NONE)
		q->last = MQTT_NONE;
	a->msg_from++;
	st->audit_used--;
}

static uint32_t msg_new(struct mqtt_stage *st, const struct mqtt_audit_msg *msg)
{
	struct mqtt_audit *a = st->audit;
	uint32_t i = (a->msg_from + st->audit_used++) % MQTT_AUDIT_MSGS;
	struct mqtt_audit_queue *q = &a->msgs[bucket_of(msg->key, 0)];

	a->msg[i] = *msg;
	if (q->first == MQTT_NONE)
		q->first = i;
	else
		a->msg[q->last].next = i;
	q->last = i;
	return i;
}

/* ---- results ---- */

static void skip(struct mqtt_stage *st, uint32_t gate, uint32_t n)
{
	if (gate == MQTT_NONE)
		return;
	st->gate[gate].skipped += n;
	st->counters[MQTT_C_AUDIT_SKIPPED] += n;
	mqtt_audit_noise(st, gate); /* the copies may come all the same */
}

static void differ(struct mqtt_stage *st, const struct mqtt_audit_msg *msg, uint32_t session,
		   bool extra)
{
	struct mqtt_audit *a = st->audit;
	struct mqtt_audit_diff *d = &a->diff[a->diff_n++ % MQTT_AUDIT_LAST];
	const struct toe_buf *id = st->sessions[session].id;

	*d = (struct mqtt_audit_diff){
		.extra = extra, .ms = toe_stream_ms(st->s), .topic_len = msg->topic_len};
	memcpy(d->topic, msg->topic, msg->topic_len);
	if (id->len > 0 && id->data[0] != 0) { /* else it has no name */
		d->id_len = (uint8_t)(id->len < MQTT_AUDIT_TEXT ? id->len : MQTT_AUDIT_TEXT);
		memcpy(d->id, id->data, d->id_len);
	}
	if (extra)
		st->gate[msg->gate].extra++;
	else
		st->gate[msg->gate].missing++;
	mqtt_count(st, extra ? MQTT_C_AUDIT_EXTRA : MQTT_C_AUDIT_MISSING);
}

/* ---- what is expected ---- */

/* What a level 5 receiver's properties hash to; false: not known. */
static bool props_of(const struct mqtt_stage *st, const struct mqtt_publish *p,
		     const struct mqtt_sub *sub, uint32_t *props)
{
	uint8_t head[HEAD_MAX];
	size_t n;
	struct mqtt_look l = {.on = 1};
	unsigned fixed = 1;

	if (p->has_expiry) /* the broker subtracts what has passed */
		return false;
	n = mqtt_deliver_head(head, sizeof(head), MQTT_LEVEL_5, p, &sub->sub_id, sub->sub_id != 0,
			      0, 0);
	if (n == 0)
		return false;
	while (head[fixed++] & 0x80u)
		;
	mqtt_audit_look(st, &l, MQTT_LEVEL_5, head + fixed, n - fixed);
	*props = l.props;
	return true;
}

/* The same rules as in mqtt_fanout.c; false: no copy is due. */
static bool is_due(struct mqtt_stage *st, const struct mqtt_conn *from, const struct mqtt_group *g,
		   uint32_t at)
{
	const struct mqtt_group_entry *en = &g->entry[at];
	const struct mqtt_session *se = &st->sessions[en->session];
	struct toe_stream_conn *c;
	const struct mqtt_conn *m = mqtt_conn_get(st, se->conn, se->conn_gen, &c);

	if (m == NULL || m->ended || !mqtt_subs_alive(st->subs, en->sub, en->sub_gen))
		return false;
	return !(mqtt_subs_get(st->subs, en->sub)->opts & MQTT_SUB_NO_LOCAL) ||
	       en->session != from->session;
}

static void expect_copy(struct mqtt_stage *st, uint32_t msg, const struct mqtt_group_entry *en,
			const struct mqtt_publish *p, uint32_t payload_len)
{
	struct mqtt_audit *a = st->audit;
	const struct mqtt_session *se = &st->sessions[en->session];
	const struct mqtt_sub *sub = mqtt_subs_get(st->subs, en->sub);
	bool v5 = se->level == MQTT_LEVEL_5;
	const struct mqtt_conn *m;
	struct toe_stream_conn *c;
	uint32_t i = a->copy_free;

	if (se->max_packet != 0 &&
	    mqtt_deliver_size(se->level, p, &sub->sub_id, v5 && sub->sub_id != 0, payload_len) >
		    se->max_packet)
		return;
	m = mqtt_conn_get(st, se->conn, se->conn_gen, &c);
	a->copy_free = a->copy[i].next;
	a->copy_used++;
	a->copy[i] = (struct mqtt_audit_copy){.key = a->msg[msg].key,
					      .msg = msg,
					      .conn = se->conn,
					      .conn_gen = se->conn_gen,
					      .session = en->session,
					      .sub = en->sub,
					      .sub_gen = en->sub_gen,
					      .asked = sub->user,
					      .shorts = toe_stream_short_writes(c),
					      .unsure = m->blocked};
	a->copy[i].any_props = v5 && !props_of(st, p, sub, &a->copy[i].props);
	copy_add(a, i);
}

static void expect_copies(struct mqtt_stage *st, const struct mqtt_conn *from, uint32_t msg,
			  const struct mqtt_group *g, const struct mqtt_publish *p,
			  uint32_t payload_len)
{
	uint32_t n = g->n < MQTT_AUDIT_OF_ONE ? g->n : MQTT_AUDIT_OF_ONE;
	uint32_t at = n < g->n ? st->audit->turn % g->n : 0, last = MQTT_NONE;

	if (n < g->n) { /* the others another time */
		st->audit->turn += n;
		skip(st, st->audit->msg[msg].gate, g->n - n);
		/* begin with the first subscription of a session */
		while (at > 0 && g->entry[at].session == g->entry[at - 1].session)
			at--;
	}
	for (; n > 0; n--, at = (at + 1) % g->n) {
		const struct mqtt_group_entry *en = &g->entry[at];

		if (!is_due(st, from, g, at) ||
		    (en->session == last && st->sessions[last].level != MQTT_LEVEL_5))
			continue;
		last = en->session;
		expect_copy(st, msg, en, p, payload_len);
	}
}

void mqtt_audit_expect(struct mqtt_stage *st, const struct mqtt_conn *m, const struct mqtt_group *g,
		       const struct mqtt_publish *p, uint32_t len)
{
	struct mqtt_audit *a = st->audit;
	uint32_t payload_len = len - p->payload_off, gate = st->decided;
	struct mqtt_audit_msg msg = {.next = MQTT_NONE,
				     .gate = gate,
				     .conn = m->id,
				     .conn_gen = m->gen,
				     .event = m->slow_event,
				     .made_ms = toe_stream_ms(st->s),
				     .first = MQTT_NONE};
	uint64_t h = hash_bytes(hash_start(st), p->topic.data, p->topic.len);

	if (st->audit_used == MQTT_AUDIT_MSGS ||
	    a->copy_used + (g->n < MQTT_AUDIT_OF_ONE ? g->n : MQTT_AUDIT_OF_ONE) >
		    MQTT_AUDIT_COPIES) {
		skip(st, gate, g->n);
		return;
	}
	/* The payload lies behind topic and properties in one piece. */
	h = hash_bytes(h, p->topic.data - 2 + p->payload_off,
		       payload_len < PAYLOAD_MAX ? payload_len : PAYLOAD_MAX);
	msg.key = hash_end(h, p->topic.len, payload_len);
	msg.topic_len = (uint8_t)(p->topic.len < MQTT_AUDIT_TEXT ? p->topic.len : MQTT_AUDIT_TEXT);
	memcpy(msg.topic, p->topic.data, msg.topic_len);
	expect_copies(st, m, msg_new(st, &msg), g, p, payload_len);
}

/* ---- what the broker sends ---- */

static size_t look_header(struct mqtt_look *l, uint8_t level, uint8_t byte)
{
	if (l->at < 2) {
		l->topic_len = (uint16_t)(l->topic_len << 8 | byte);
	} else {
		l->varint |= (uint32_t)(byte & 0x7fu) << l->shift;
		l->shift = (uint8_t)(l->shift + 7);
		if (!(byte & 0x80u) || l->shift > 21)
			l->props_end = l->at + 1 + l->varint;
	}
	l->at++;
	if (level != MQTT_LEVEL_5 && l->at == 2)
		l->props_end = 2u + l->topic_len;
	return 1;
}

void mqtt_audit_look(const struct mqtt_stage *st, struct mqtt_look *l, uint8_t level,
		     const uint8_t *data, size_t len)
{
	if (l->at == 0)
		l->hash = hash_start(st);
	while (len > 0) {
		uint32_t topic_end = 2u + l->topic_len;
		size_t n = len;

		if (l->at >= 2 && l->at < topic_end) {
			n = n < topic_end - l->at ? n : topic_end - l->at;
			l->hash = hash_bytes(l->hash, data, n);
			l->at += (uint32_t)n;
		} else if (l->at < 2 || l->props_end == 0) {
			n = look_header(l, level, *data);
		} else if (l->at < l->props_end) {
			n = n < l->props_end - l->at ? n : l->props_end - l->at;
			l->props = (uint32_t)hash_bytes(l->props, data, n);
			l->at += (uint32_t)n;
		} else {
			uint32_t had = l->at - l->props_end;
			size_t room = had < PAYLOAD_MAX ? PAYLOAD_MAX - had : 0;

			l->hash = hash_bytes(l->hash, data, n < room ? n : room);
			l->at += (uint32_t)n;
		}
		data += n;
		len -= n;
	}
}

/* A message of the last seconds that this receiver should not have got (again). */
static void not_expected(struct mqtt_stage *st, const struct mqtt_conn *m, uint64_t key,
			 uint32_t remaining)
{
	struct mqtt_audit *a = st->audit;
	uint32_t i = a->msgs[bucket_of(key, 0)].first, now = toe_stream_ms(st->s);

	/* what it asked for and was not answered decides */
	if (m->session == MQTT_NONE || st->sessions[m->session].cut || m->activating != NULL ||
	    m->requests != NULL)
		return;
	/* mosquitto 2.0.11 sends what is one byte too long */
	if (m->max_packet != 0 && remaining + 2 > m->max_packet)
		return;
	for (unsigned n = 0; i != MQTT_NONE && n < SCAN_MAX; i = a->msg[i].next, n++) {
		const struct mqtt_audit_msg *msg = &a->msg[i];
		const struct mqtt_gate *gate;

		if (msg->key != key || msg->gate == MQTT_NONE ||
		    (int32_t)(msg->made_ms - m->asked_ms) <= 0)
			continue;
		gate = &st->gate[msg->gate];
		/* the same content may have come another way */
		if ((gate->noise && now - gate->noise_ms < MQTT_AUDIT_NOISE_MS) ||
		    (st->noise && now - st->noise_ms < MQTT_AUDIT_NOISE_MS))
			return;
		differ(st, msg, m->session, true);
		return;
	}
}

/* The subscription is what it was when the copy was expected. */
static bool as_asked(struct mqtt_stage *st, const struct mqtt_audit_copy *e)
{
	return mqtt_subs_alive(st->subs, e->sub, e->sub_gen) &&
	       mqtt_subs_get(st->subs, e->sub)->user == e->asked;
}

/* The copy that was expected so; MQTT_NONE: none.  Of several that look alike (one message, two
 * subscriptions) one whose subscription has not been asked for again: the others may look different
 * by now. */
static uint32_t find_copy(struct mqtt_stage *st, const struct mqtt_conn *m, uint64_t key,
			  const struct mqtt_look *l, uint32_t *before)
{
	const struct mqtt_audit *a = st->audit;
	uint32_t last = MQTT_NONE, found = MQTT_NONE;

	for (uint32_t i = a->copies[bucket_of(key, m->id)].first; i != MQTT_NONE;
	     last = i, i = a->copy[i].next) {
		const struct mqtt_audit_copy *e = &a->copy[i];
		bool sure;

		if (e->key != key || e->conn != m->id || e->conn_gen != m->gen ||
		    (!e->any_props && e->props != l->props))
			continue;
		sure = as_asked(st, e);
		if (sure || found == MQTT_NONE) {
			found = i;
			*before = last;
		}
		if (sure)
			break;
	}
	return found;
}

/* What the broker wrote on m, or that it closed it, says so.  What it wrote on others before may
 * not be noticed yet. */
static void note_handled(struct mqtt_stage *st, const struct mqtt_conn *m,
			 struct mqtt_audit_msg *msg)
{
	if (!msg->handled)
		msg->ticket = toe_stream_sync(st->s, toe_stream_conn(st->s, m->id, m->gen));
	msg->handled = true;
}

void mqtt_audit_seen(struct mqtt_stage *st, struct mqtt_conn *m, uint32_t remaining)
{
	struct mqtt_audit *a = st->audit;
	const struct mqtt_look *l = &m->look;
	uint64_t key = hash_end(l->hash, l->topic_len, remaining - l->props_end);
	uint32_t before, i;
	struct mqtt_audit_msg *msg;

	if (l->topic_len == 0 || l->at != remaining || l->props_end > remaining)
		return; /* a topic alias, or malformed */
	i = find_copy(st, m, key, l, &before);
	if (i == MQTT_NONE) {
		not_expected(st, m, key, remaining);
		return;
	}
	msg = &a->msg[a->copy[i].msg];
	note_handled(st, m, msg); /* brokers write to all receivers of a message before the next */
	if (msg->gate != MQTT_NONE) {
		st->gate[msg->gate].matched++;
		mqtt_count(st, MQTT_C_AUDIT_MATCHED);
	}
	copy_del(a, i, before);
}

/* ---- time ---- */

enum verdict { GONE, UNKNOWN, MISSING };

/* Why has this copy not come?  GONE: it need not come any more. */
static enum verdict judge_copy(struct mqtt_stage *st, const struct mqtt_audit_copy *e, bool handled)
{
	struct toe_stream_conn *c;
	const struct mqtt_conn *m = mqtt_conn_get(st, e->conn, e->conn_gen, &c);
	const struct mqtt_sub *s;

	/* rx_over: the broker has read, or will read, that the client leaves */
	if (m == NULL || m->ended || m->rx_over || m->session != e->session ||
	    m->kind != MQTT_K_TRACKED || !mqtt_subs_alive(st->subs, e->sub, e->sub_gen))
		return GONE;
	s = mqtt_subs_get(st->subs, e->sub);
	/* what it is subscribed to at the broker is not known for certain */
	if (st->sessions[e->session].cut || s->user != e->asked || s->state != MQTT_S_ACTIVE)
		return GONE;
	/* A broker that is behind with a client may drop what is of QoS 0, and what it has written
	 * may not have been looked at yet. */
	if (!handled || e->unsure || m->blocked || m->requests != NULL || m->tx_wait ||
	    e->shorts != toe_stream_short_writes(c) || m->taken != toe_stream_written(c))
		return UNKNOWN;
	return MISSING;
}

/* Its place in the bucket is near the front: it is one of the oldest. */
static void copy_forget(struct mqtt_audit *a, uint32_t i)
{
	const struct mqtt_audit_copy *e = &a->copy[i];
	uint32_t before = MQTT_NONE, at = a->copies[bucket_of(e->key, e->conn)].first;

	for (; at != i; at = a->copy[at].next)
		before = at;
	copy_del(a, i, before);
}

static void judge(struct mqtt_stage *st, struct mqtt_audit_msg *msg)
{
	while (msg->first != MQTT_NONE) {
		const struct mqtt_audit_copy *e = &st->audit->copy[msg->first];
		enum verdict v = judge_copy(st, e, msg->handled);

		if (v == MISSING && msg->gate != MQTT_NONE)
			differ(st, msg, e->session, false);
		else if (v == UNKNOWN)
			skip(st, msg->gate, 1);
		copy_forget(st->audit, msg->first);
	}
}

static bool is_handled(struct mqtt_stage *st, const struct mqtt_audit_msg *msg)
{
	struct toe_stream_conn *c;
	struct mqtt_conn *m = mqtt_conn_get(st, msg->conn, msg->conn_gen, &c);

	if (msg->handled || m == NULL)
		return msg->handled && toe_stream_synced(st->s) >= msg->ticket;
	if ((int32_t)(msg->event - m->proven) <= 0)
		return true;
	mqtt_fence_ping(st, c, m);
	return false;
}

void mqtt_audit_tick(struct mqtt_stage *st)
{
	struct mqtt_audit *a = st->audit;
	uint32_t now = toe_stream_ms(st->s), done = 0;

	if (now - a->tick_ms < MQTT_AUDIT_TICK_MS)
		return;
	a->tick_ms = now;
	while (st->audit_used > 0 && done < MQTT_AUDIT_OF_ONE) {
		struct mqtt_audit_msg *msg = &a->msg[a->msg_from % MQTT_AUDIT_MSGS];
		uint32_t age = now - msg->made_ms, used = a->copy_used;
		bool handled;

		if (age < MQTT_AUDIT_JUDGE_MS)
			break;
		handled = is_handled(st, msg);
		if (!handled && age < MQTT_AUDIT_GIVE_UP_MS)
			break;
		msg->handled = handled;
		judge(st, msg);
		done += used - a->copy_used + 1;
		msg_pop(st);
	}
}

void mqtt_audit_left(struct mqtt_stage *st, const struct mqtt_conn *m)
{
	struct mqtt_audit *a = st->audit;

	/* The broker closes a connection whose end it has read: it has handled all before.  But not
	 * one that is taken over. */
	if (m->session == MQTT_NONE || st->sessions[m->session].claimed)
		return;
	for (uint32_t n = 0; n < st->audit_used && m->rx_over; n++) {
		struct mqtt_audit_msg *msg = &a->msg[(a->msg_from + n) % MQTT_AUDIT_MSGS];

		if (msg->conn == m->id && msg->conn_gen == m->gen)
			note_handled(st, m, msg);
	}
}

void mqtt_audit_gate_gone(struct mqtt_stage *st, uint32_t gate)
{
	struct mqtt_audit *a = st->audit;

	for (uint32_t n = 0; n < st->audit_used; n++) {
		struct mqtt_audit_msg *msg = &a->msg[(a->msg_from + n) % MQTT_AUDIT_MSGS];

		if (msg->gate == gate)
			msg->gate = MQTT_NONE;
	}
}
