/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * MQTT stage, broker -> client: the merge point of what the broker writes and what the stage
 * delivers.
 *
 * Input: the broker's bytes in order, split anywhere; copies of fast messages.  CONNACK, SUBACK,
 * UNSUBACK, PINGRESP and DISCONNECT are looked at as a whole; all else passes as it comes.  Output:
 * one queue per client.  A copy is appended only at a packet boundary of the broker's stream, and
 * not before bytes the broker wrote earlier: while those are on their way, it waits (defer).
 * Thread: the stream stage's.
 */
#include "mqtt_codec.h"
#include "mqtt_stage.h"

#include <errno.h>
#include <string.h>

/* ---- copies ---- */

static int append(struct mqtt_stage *st, struct toe_stream_conn *c, const struct mqtt_encoding *e)
{
	const struct mqtt_conn *m = toe_stream_state(c);
	int rc = e->b2 == NULL
			 ? toe_stream_send(st->s, c, e->b1, 0, e->len1)
			 : toe_stream_send2(st->s, c, e->b1, 0, e->len1, e->b2, e->off2, e->len2);

	if (rc != 0)
		return rc;
	mqtt_count(st, MQTT_C_DELIVERED);
	if (m->session != MQTT_NONE)
		st->sessions[m->session].delivered++;
	return 0;
}

void mqtt_tx_drop(struct mqtt_stage *st, const struct mqtt_conn *m, enum mqtt_counter why)
{
	mqtt_count(st, why);
	if (m->session != MQTT_NONE)
		st->sessions[m->session].dropped++;
}

/* The broker's bytes have all been passed on, as far as anybody knows. */
static bool level_with_broker(const struct toe_stream_conn *c, const struct mqtt_conn *m)
{
	/* an UNSUBACK that waits for this copy is not ahead of it */
	return !m->blocked && m->defer_first == NULL && (m->tx_buf == NULL || m->tx_wait) &&
	       mqtt_framer_idle(&m->tx_fr) && m->taken == toe_stream_written(c);
}

/* What may wait for one client: the configured limit, and no more than is still free for all, so
 * that as memory runs short those who hold most lose copies first, and publishers stay fast. */
static uint64_t queue_limit(const struct mqtt_stage *st)
{
	size_t size = toe_stream_mem_size(st->s), used = toe_stream_mem_used(st->s);
	size_t mine = size - size / 4;

	return used >= mine                              ? 0
	       : mine - used < st->cfg->mqtt_queue_bytes ? mine - used
							 : st->cfg->mqtt_queue_bytes;
}

static bool queue_full(const struct mqtt_stage *st, const struct toe_stream_conn *c,
		       const struct mqtt_conn *m, uint32_t bytes)
{
	return m->defer_n >= st->cfg->mqtt_queue_messages ||
	       (uint64_t)toe_stream_queued(c) + m->defer_bytes + bytes > queue_limit(st);
}

/* ---- copies that wait ---- */

/* The publisher may not go slow before this copy is where it belongs. */
static void hold_publisher(struct mqtt_stage *st, const struct mqtt_job *j, struct toe_buf *b)
{
	struct mqtt_copy *d = mqtt_copy_of(b);
	struct toe_stream_conn *pc;
	struct mqtt_conn *p = mqtt_conn_get(st, j->conn, j->conn_gen, &pc);

	if (p == NULL)
		return;
	d->conn = j->conn;
	d->conn_gen = j->conn_gen;
	d->held_next = d->held_prev = b;
	if (p->held != NULL) {
		d->held_next = p->held;
		d->held_prev = mqtt_copy_of(p->held)->held_prev;
		mqtt_copy_of(d->held_prev)->held_next = b;
		mqtt_copy_of(d->held_next)->held_prev = b;
	} else {
		p->held = b;
	}
}

/* The publisher that b held, NULL: none.  If its connection is gone, the ring has no beginning, but
 * is one. */
static struct mqtt_conn *release_publisher(struct mqtt_stage *st, struct toe_buf *b,
					   struct toe_stream_conn **pc)
{
	struct mqtt_copy *d = mqtt_copy_of(b);
	struct mqtt_conn *p = mqtt_conn_get(st, d->conn, d->conn_gen, pc);

	if (d->conn == MQTT_NONE)
		return NULL;
	mqtt_copy_of(d->held_prev)->held_next = d->held_next;
	mqtt_copy_of(d->held_next)->held_prev = d->held_prev;
	if (p != NULL && p->held == b)
		p->held = d->held_next != b ? d->held_next : NULL;
	d->conn = MQTT_NONE;
	return p;
}

static bool defer(struct mqtt_stage *st, struct toe_stream_conn *c, const struct mqtt_job *j,
		  const struct mqtt_encoding *e, const struct mqtt_group_entry *en)
{
	struct mqtt_conn *m = toe_stream_state(c);
	struct toe_buf *b = NULL;

	if (mqtt_spare(st, sizeof(struct mqtt_copy)))
		b = toe_stream_buf_new(st->s, sizeof(struct mqtt_copy));
	if (b == NULL)
		return false;
	*mqtt_copy_of(b) = (struct mqtt_copy){.b1 = toe_buf_get(e->b1),
					      .b2 = e->b2 != NULL ? toe_buf_get(e->b2) : NULL,
					      .len1 = e->len1,
					      .off2 = e->off2,
					      .len2 = e->len2,
					      .to = m->id,
					      .conn = MQTT_NONE,
					      .prev = m->defer_last,
					      .sub = en != NULL ? en->sub : MQTT_SUB_NONE,
					      .sub_gen = en != NULL ? en->sub_gen : 0,
					      .after = toe_stream_written(c),
					      .event = m->events,
					      .ms = toe_stream_ms(st->s),
					      .expiry_s = j->p.has_expiry ? j->p.expiry_s : 0,
					      .exact = !m->blocked};
	if (m->blocked)
		hold_publisher(st, j, b);
	if (m->defer_first == NULL)
		m->defer_first = b;
	else
		mqtt_copy_of(m->defer_last)->next = b;
	m->defer_last = b;
	m->defer_n++;
	m->defer_bytes += e->len1 + e->len2;
	mqtt_count(st, MQTT_C_DEFERRED);
	return true;
}

void mqtt_tx_copy(struct mqtt_stage *st, struct toe_stream_conn *c, const struct mqtt_job *j,
		  const struct mqtt_encoding *e, const struct mqtt_group_entry *en)
{
	struct mqtt_conn *m = toe_stream_state(c);
	bool ok;

	if (queue_full(st, c, m, e->len1 + e->len2)) {
		mqtt_tx_drop(st, m, MQTT_C_DROP_QUEUE);
		return;
	}
	mqtt_fence_check_short(st, c, m);
	if (level_with_broker(c, m))
		ok = append(st, c, e) == 0;
	else
		ok = defer(st, c, j, e, en);
	if (!ok)
		mqtt_tx_drop(st, m, MQTT_C_DROP_MEMORY);
}

/* b leaves the queue of m and is done with; returns the publisher that it held. */
static struct mqtt_conn *free_copy(struct mqtt_stage *st, struct mqtt_conn *m, struct toe_buf *b,
				   struct toe_stream_conn **pc)
{
	struct mqtt_copy *d = mqtt_copy_of(b);
	struct mqtt_conn *p = release_publisher(st, b, pc);

	if (d->prev != NULL)
		mqtt_copy_of(d->prev)->next = d->next;
	else
		m->defer_first = d->next;
	if (d->next != NULL)
		mqtt_copy_of(d->next)->prev = d->prev;
	else
		m->defer_last = d->prev;
	m->defer_n--;
	m->defer_bytes -= d->len1 + d->len2;
	mqtt_put(st, &d->b1);
	mqtt_put(st, &d->b2);
	toe_stream_buf_put(st->s, b);
	return p;
}

static void pop_deferred(struct mqtt_stage *st, struct mqtt_conn *m)
{
	struct toe_stream_conn *pc;
	struct mqtt_conn *p = free_copy(st, m, m->defer_first, &pc);

	if (p != NULL)
		mqtt_rx_appended(st, pc, p);
}

void mqtt_tx_settle(struct mqtt_stage *st, struct mqtt_conn *m)
{
	struct toe_stream_conn *pc;

	for (struct toe_buf *b = m->defer_first; b != NULL; b = mqtt_copy_of(b)->next) {
		mqtt_copy_of(b)->exact = true;
		st->settled |= release_publisher(st, b, &pc) != NULL;
	}
}

static bool behind_too_long(const struct mqtt_stage *st, const struct mqtt_conn *m)
{
	return m->blocked && toe_stream_ms(st->s) - m->blocked_ms >= MQTT_HELD_MS;
}

void mqtt_tx_drop_held(struct mqtt_stage *st, struct mqtt_conn *p)
{
	const struct toe_buf *kept = NULL;

	for (unsigned n = 0; n < MQTT_HELD_WALK && p->held != NULL && p->held != kept; n++) {
		struct toe_buf *b = p->held;
		struct mqtt_conn *m = toe_stream_state_at(st->s, mqtt_copy_of(b)->to);
		struct toe_stream_conn *pc;

		if (behind_too_long(st, m)) {
			free_copy(st, m, b, &pc);
			mqtt_tx_drop(st, m, MQTT_C_DROP_BLOCKED);
			continue;
		}
		if (kept == NULL)
			kept = b;
		p->held = mqtt_copy_of(b)->held_next;
	}
}

/* Bytes of a delivery at level 5 up to its Message Expiry Interval and with it; 0: none. */
static uint32_t expiry_end(const uint8_t *data, uint32_t len)
{
	uint32_t remaining = 0;
	uint8_t first = 0;
	int head = mqtt_fixed_parse(data, len, &first, &remaining);
	struct mqtt_publish p;
	struct mqtt_prop prop;
	struct mqtt_rd r;

	if (head <= 0 || mqtt_publish_parse(MQTT_LEVEL_5, first, data + head, len - (uint32_t)head,
					    remaining, &p) <= 0)
		return 0;
	r = mqtt_rd_make(p.props, p.props_len);
	while (mqtt_prop_next(&r, &prop)) {
		if (prop.id == MQTT_PROP_MESSAGE_EXPIRY)
			return (uint32_t)(prop.start - data) + 1 + 4;
	}
	return 0;
}

/* 3.3.2.3.3: what is sent on is what was received minus the time it has waited. */
static int append_later(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_encoding e,
			uint32_t expiry_s)
{
	uint32_t n = expiry_end(e.b1->data, e.len1), all = e.b2 != NULL ? e.len1 : n;
	struct toe_buf *b;
	int rc;

	if (n == 0)
		return append(st, c, &e);
	b = toe_stream_buf_new(st->s, all);
	if (b == NULL)
		return -ENOSPC;
	memcpy(b->data, e.b1->data, all);
	b->len = all;
	for (unsigned i = 0; i < 4; i++)
		b->data[n - 4 + i] = (uint8_t)(expiry_s >> (24 - 8 * i));
	if (e.b2 == NULL) {
		e.b2 = e.b1;
		e.off2 = n;
		e.len2 = e.len1 - n;
	}
	e.b1 = b;
	e.len1 = all;
	rc = append(st, c, &e);
	toe_stream_buf_put(st->s, b);
	return rc;
}

/* The oldest deferred copy goes; not if its subscription has ended meanwhile: then it was decided
 * after the broker had handled UNSUBSCRIBE. */
static void release_deferred(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m)
{
	const struct mqtt_copy *d = mqtt_copy_of(m->defer_first);
	const struct mqtt_encoding e = {
		.b1 = d->b1, .b2 = d->b2, .len1 = d->len1, .off2 = d->off2, .len2 = d->len2};

	uint32_t waited_s = (toe_stream_ms(st->s) - d->ms) / 1000;

	if (d->sub != MQTT_SUB_NONE && !mqtt_subs_alive(st->subs, d->sub, d->sub_gen))
		mqtt_count(st, MQTT_C_UNSUBSCRIBED);
	else if (d->expiry_s != 0 && waited_s >= d->expiry_s)
		mqtt_count(st, MQTT_C_EXPIRED);
	else if (d->expiry_s != 0 && waited_s > 0 && m->level == MQTT_LEVEL_5
			 ? append_later(st, c, e, d->expiry_s - waited_s) != 0
			 : append(st, c, &e) != 0)
		mqtt_tx_drop(st, m, MQTT_C_DROP_MEMORY);
	pop_deferred(st, m);
}

void mqtt_tx_flush_before(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m,
			  uint32_t event)
{
	while (m->defer_first != NULL && (int32_t)(event - mqtt_copy_of(m->defer_first)->event) > 0)
		release_deferred(st, c, m);
}

/* A copy that was made before the client fell behind goes to its place all the same: what comes
 * behind it in the broker's stream was sent later. */
void mqtt_tx_flush(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m)
{
	while (m->defer_first != NULL && m->tx_buf == NULL && mqtt_framer_idle(&m->tx_fr)) {
		const struct mqtt_copy *d = mqtt_copy_of(m->defer_first);

		if ((m->blocked && !d->exact) || (int32_t)(m->taken - d->after) < 0)
			break;
		release_deferred(st, c, m);
	}
}

void mqtt_tx_drop_deferred(struct mqtt_stage *st, struct mqtt_conn *m)
{
	while (m->defer_first != NULL) {
		mqtt_tx_drop(st, m, MQTT_C_DROP_ENDED);
		pop_deferred(st, m);
	}
}

/* ---- packets of the broker ---- */

static bool is_collected(uint8_t first)
{
	switch (mqtt_first_type(first)) {
	case MQTT_CONNACK:
	case MQTT_SUBACK:
	case MQTT_UNSUBACK:
	case MQTT_PINGRESP:
	case MQTT_DISCONNECT:
		return true;
	default:
		return false;
	}
}

/* Is a job unfinished that is not younger than seq? */
static bool job_left(const struct mqtt_stage *st, uint64_t seq)
{
	return st->job_oldest != MQTT_NONE && st->jobs[st->job_oldest].seq <= seq;
}

/* UNSUBACK says that no copy follows: those decided before have to be appended first. */
static bool has_to_wait(struct mqtt_stage *st, struct mqtt_conn *m, uint8_t first)
{
	if (mqtt_first_type(first) != MQTT_UNSUBACK || !job_left(st, st->job_seq))
		return false;
	m->tx_wait = 1;
	m->tx_wait_seq = st->job_seq;
	mqtt_list_add(st, m, MQTT_L_TX_WAIT);
	return true;
}

/* The collected packet has been understood; false: it goes no further. */
static bool act_on(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m,
		   const uint8_t *data, uint32_t len)
{
	uint32_t remaining = 0;
	uint8_t first = 0;
	int head = mqtt_fixed_parse(data, len, &first, &remaining);

	switch (mqtt_first_type(first)) {
	case MQTT_CONNACK:
		mqtt_session_connack(st, c, m, data + head, remaining);
		if (m->rx_wait & MQTT_WAIT_CONNACK) {
			m->rx_wait &= (uint8_t)~MQTT_WAIT_CONNACK;
			toe_stream_rx_resume(st->s, c);
		}
		break;
	case MQTT_SUBACK:
	case MQTT_UNSUBACK:
		mqtt_session_answer(st, c, m, (uint8_t)mqtt_first_type(first), data + head,
				    remaining);
		break;
	case MQTT_PINGRESP:
		return mqtt_fence_pingresp(st, c, m);
	case MQTT_DISCONNECT:
		m->ended = 1;
		mqtt_session_detach(st, m);
		mqtt_tx_drop_deferred(st, m); /* nothing comes behind DISCONNECT */
		break;
	default:
		break;
	}
	return true;
}

/* Bytes that pass, gathered so that a run of packets is one extent; or, of a packet that is
 * collected, those that have come with this buffer. */
struct run {
	struct toe_buf *b;
	uint32_t from;
	uint32_t to;
};

/* What has come of a packet is kept until all of it has come, or it may go; false: no memory. */
static bool keep(struct mqtt_stage *st, struct mqtt_conn *m, struct run *r)
{
	uint32_t n = r->to - r->from, had = m->tx_buf != NULL ? m->tx_buf->len : 0;
	uint32_t want = had + n + m->tx_fr.left;

	if (m->tx_buf == NULL || m->tx_buf->room < want) {
		struct toe_buf *b = toe_stream_buf_new(st->s, want);

		if (b == NULL)
			return false;
		if (had != 0)
			memcpy(b->data, m->tx_buf->data, had);
		mqtt_put(st, &m->tx_buf);
		m->tx_buf = b;
	}
	memcpy(m->tx_buf->data + had, r->b->data + r->from, n);
	m->tx_buf->len = had + n;
	r->from = r->to;
	return true;
}

/* b->data[off, off + len) is a whole packet: acts on it and passes it on. */
static void finish_collected(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m,
			     struct toe_buf *b, uint32_t off, uint32_t len)
{
	bool kept = b == m->tx_buf;
	bool on = act_on(st, c, m, b->data + off, len);

	/* if the connection was lost, that has sent what was kept */
	if (on && (!kept || m->tx_buf != NULL) && toe_stream_send(st->s, c, b, off, len) != 0 &&
	    !toe_stream_tx_ended(c))
		toe_stream_abort(st->s, c);
	if (kept)
		mqtt_put(st, &m->tx_buf);
}

/* One part of a packet that is collected.  If all of it came at once it goes as it lies there: an
 * answer of two bytes needs no memory that others may have taken. */
static void collect(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m,
		    enum mqtt_framer_event ev, const struct mqtt_frame_part *part, struct run *r)
{
	uint32_t from = r->from;
	bool ok = ev != MQTT_FR_HEADER || part->remaining <= MQTT_CONTROL_MAX;

	if (ok && (ev == MQTT_FR_MORE || !part->last))
		return;
	if (ok && m->tx_buf != NULL)
		ok = keep(st, m, r);
	if (ok && has_to_wait(st, m, part->first)) {
		ok = m->tx_buf != NULL || keep(st, m, r);
	} else if (ok && m->tx_buf != NULL) {
		finish_collected(st, c, m, m->tx_buf, 0, m->tx_buf->len);
	} else if (ok) {
		r->from = r->to;
		finish_collected(st, c, m, r->b, from, r->to - from);
	}
	if (!ok)
		mqtt_conn_lose(st, c, m);
}

/* ---- the module's calls ---- */

/* False: no room in the client's queue, nothing of the run was sent. */
static bool run_flush(struct mqtt_stage *st, struct toe_stream_conn *c, struct run *r)
{
	int rc = r->from == r->to ? 0 : toe_stream_send(st->s, c, r->b, r->from, r->to - r->from);

	r->from = r->to;
	return rc == 0 || toe_stream_tx_ended(c);
}

/* A part of a PUBLISH that is compared. */
static void look(struct mqtt_stage *st, struct mqtt_conn *m, enum mqtt_framer_event ev,
		 const struct mqtt_frame_part *part)
{
	if (ev == MQTT_FR_BODY)
		mqtt_audit_look(st, &m->look, m->level, part->data, part->len);
	if (ev == MQTT_FR_MORE || !part->last)
		return;
	m->look.on = 0;
	mqtt_audit_seen(st, m, part->remaining);
}

/* One step of the framer over b->data[at, end); returns the bytes taken. */
static uint32_t step(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m,
		     struct run *r, uint32_t end)
{
	const uint8_t *data = r->b->data + r->to;
	enum mqtt_framer_event ev;
	struct mqtt_frame_part part = {0};
	uint32_t n;

	if (mqtt_framer_idle(&m->tx_fr)) {
		m->tx_collect = is_collected(data[0]);
		if (m->tx_collect && !run_flush(st, c, r))
			toe_stream_abort(st->s, c);
		if (mqtt_first_type(data[0]) == MQTT_PUBLISH) {
			if (m->suspect && !m->saw_publish) {
				m->saw_publish = 1;
				mqtt_fence_ping(st, c, m);
			}
			mqtt_count(st, MQTT_C_BROKER_PUBLISH);
			/* QoS 0, not retained, and something to compare it with */
			if (st->audit_used != 0 && data[0] == MQTT_PUBLISH << 4)
				m->look = (struct mqtt_look){.on = 1};
		}
	}
	n = (uint32_t)mqtt_framer_feed(&m->tx_fr, data, end - r->to, &ev, &part);
	m->taken += n;
	r->to += n;
	if (ev == MQTT_FR_ERROR) {
		mqtt_conn_lose(st, c, m);
		return n;
	}
	if (m->tx_collect)
		collect(st, c, m, ev, &part, r);
	else if (m->look.on)
		look(st, m, ev, &part);
	return n;
}

size_t mqtt_tx(struct toe_stream *s, struct toe_stream_conn *c, struct toe_buf *b, uint32_t off,
	       uint32_t len)
{
	struct mqtt_stage *st = mqtt_of(s);
	struct mqtt_conn *m = toe_stream_state(c);
	struct run r = {b, off, off};

	mqtt_fence_heard(st);
	while (r.to < off + len && !m->tx_wait) {
		if (m->kind == MQTT_K_LOST || m->kind == MQTT_K_FOREIGN) {
			m->taken += off + len - r.to;
			r.to = off + len;
			break;
		}
		step(st, c, m, &r, off + len);
		if (m->defer_first != NULL && mqtt_framer_idle(&m->tx_fr) && run_flush(st, c, &r))
			mqtt_tx_flush(st, c, m);
	}
	if (m->kind != MQTT_K_LOST && m->tx_collect && r.from != r.to && !keep(st, m, &r))
		mqtt_conn_lose(st, c, m);
	if (!run_flush(st, c, &r))
		toe_stream_abort(s, c);
	return r.to - off;
}

static void proceed(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m)
{
	m->tx_wait = 0;
	mqtt_list_del(st, m, MQTT_L_TX_WAIT);
	finish_collected(st, c, m, m->tx_buf, 0, m->tx_buf->len);
	mqtt_tx_flush(st, c, m);
	toe_stream_tx_resume(st->s, c);
}

/* Jobs are numbered, so whoever has been on the list longest waits for no job that another one does
 * not wait for. */
bool mqtt_tx_waiter_ready(const struct mqtt_stage *st)
{
	const struct mqtt_conn *m;

	if (st->lists[MQTT_L_TX_WAIT] == MQTT_NONE)
		return false;
	m = toe_stream_state_at(st->s, st->last[MQTT_L_TX_WAIT]);
	return !job_left(st, m->tx_wait_seq);
}

unsigned mqtt_tx_waiters(struct mqtt_stage *st)
{
	unsigned n = 0;

	for (; n < MQTT_WAITERS && mqtt_tx_waiter_ready(st); n++) {
		struct mqtt_conn *m = toe_stream_state_at(st->s, st->last[MQTT_L_TX_WAIT]);

		proceed(st, toe_stream_conn(st->s, m->id, m->gen), m);
	}
	return n;
}
