/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * MQTT stage, client -> broker.
 *
 * Input: the client's bytes in order, split anywhere.  (UN)SUBSCRIBE, DISCONNECT, those PUBLISH
 * that may become fast, and CONNECT up to its ClientID are assembled: nothing of them reaches the
 * broker before the decision. Everything else passes as it comes.  Output: bytes to the broker,
 * jobs for the fan-out. An assembled byte is consumed at once (its memory is the message's, not the
 * window's) and forwarded later as the module's own.  Thread: the stream stage's.
 */
#include "mqtt_stage.h"

#include <errno.h>
#include <string.h>

/* Bytes of a packet's first buffer; with the header of a buffer, a block of the arena. */
#define ASSEMBLY_MIN (2048u - (uint32_t)sizeof(struct toe_buf))

static void forwarded(struct mqtt_stage *st, struct mqtt_conn *m)
{
	m->forwarded_ms = toe_stream_ms(st->s);
}

/* The packet has ended; the broker's stream is at a boundary. */
static void packet_done(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m)
{
	m->rx_mode = MQTT_RX_START;
	m->rx_hdr_n = 0;
	if (m->want_ping)
		mqtt_fence_boundary(st, c, m);
}

void mqtt_rx_pass_header(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m)
{
	forwarded(st, m);
	toe_stream_forward(st->s, c, m->rx_hdr, m->rx_hdr_n, false);
	m->rx_mode = MQTT_RX_PASS;
	if (m->rx_left == 0)
		packet_done(st, c, m);
}

void mqtt_rx_pass_assembled(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m)
{
	forwarded(st, m);
	toe_stream_forward_buf(st->s, c, m->rx_buf, 0, m->rx_buf->len, false);
	mqtt_put(st, &m->rx_buf);
	m->rx_mode = MQTT_RX_PASS;
	if (m->rx_left == 0)
		packet_done(st, c, m);
}

/* A slow PUBLISH or PUBREL reaches the broker: order needs a proof before the next fast one.  gate:
 * of its topic, MQTT_NONE if there is none or nobody has looked. */
static void note_slow(struct mqtt_stage *st, struct mqtt_conn *m, enum mqtt_reason why,
		      uint32_t gate)
{
	m->slow_event = ++m->events;
	if (why != MQTT_R_FAST)
		st->reasons[why]++;
	if (gate != MQTT_NONE)
		st->gate[gate].slow++;
}

/* ---- beginning of a packet ---- */

/* A header announces more than may ever come, so memory is taken as the bytes come: at most twice
 * of what was received.  Messages leave a part of it to packets that must be understood. */
static struct toe_buf *assembly_buf(struct mqtt_stage *st, const struct mqtt_conn *m, size_t len)
{
	if (mqtt_first_type(m->rx_first) == MQTT_PUBLISH && !mqtt_spare(st, len))
		return NULL;
	return toe_stream_buf_new(st->s, len);
}

/* Begins with the fixed header; false: no memory. */
static bool start_assembly(struct mqtt_stage *st, struct mqtt_conn *m)
{
	uint32_t all = m->rx_hdr_n + m->rx_left;

	m->rx_buf = assembly_buf(st, m, all < ASSEMBLY_MIN ? all : ASSEMBLY_MIN);
	if (m->rx_buf == NULL)
		return false;
	memcpy(m->rx_buf->data, m->rx_hdr, m->rx_hdr_n);
	m->rx_buf->len = m->rx_hdr_n;
	m->rx_seen = MQTT_R_N;
	m->rx_mode = MQTT_RX_ASSEMBLE;
	return true;
}

void mqtt_rx_wait(struct mqtt_stage *st, struct mqtt_conn *m, uint8_t why)
{
	m->rx_wait |= why;
	m->rx_wait_ms = toe_stream_ms(st->s);
	if (why == MQTT_WAIT_JOBS)
		mqtt_list_add(st, m, MQTT_L_HELD);
}

bool mqtt_rx_pending(struct mqtt_stage *st, struct mqtt_conn *m)
{
	if (m->jobs == 0 && m->held != NULL)
		mqtt_tx_drop_held(st, m);
	return m->jobs != 0 || m->held != NULL;
}

/* True: it may go now.  Else it is assembled nowhere: rx_hdr waits in mode READY without rx_buf. */
static bool slow_may_go(struct mqtt_stage *st, struct mqtt_conn *m)
{
	if (!mqtt_rx_pending(st, m))
		return true;
	m->rx_mode = MQTT_RX_READY;
	mqtt_rx_wait(st, m, MQTT_WAIT_JOBS);
	return false;
}

/* What the broker answers, it answers when all it was sent before is with its receivers: a client
 * may tell others that it is.  Only who is blocked has the copies later.  False: as above. */
static bool question_may_go(struct mqtt_stage *st, struct mqtt_conn *m)
{
	if (m->jobs == 0)
		return true;
	m->rx_mode = MQTT_RX_READY;
	mqtt_rx_wait(st, m, MQTT_WAIT_FANOUT);
	return false;
}

/* If the broker closes the connection upon it, its will follows, and what is behind it is never
 * read: nothing is fast before the broker has answered.  False: as above. */
static bool may_end_it(struct mqtt_stage *st, struct mqtt_conn *m, uint32_t len)
{
	if (mqtt_client_sound(m->level, m->rx_first, len))
		return true;
	if (!slow_may_go(st, m))
		return false;
	note_slow(st, m, MQTT_R_FAST, MQTT_NONE);
	return true;
}

static void start_publish(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m)
{
	enum mqtt_reason why = MQTT_R_FAST;

	mqtt_count(st, MQTT_C_PUBLISH_IN);
	if (m->kind != MQTT_K_TRACKED)
		why = MQTT_R_NOT_CONNECTED;
	else if (m->rx_left > st->cfg->mqtt_message_max)
		why = MQTT_R_SIZE;
	else if (!start_assembly(st, m))
		why = MQTT_R_MEMORY;
	if (why == MQTT_R_FAST)
		return;
	m->rx_seen = (uint8_t)why;
	mqtt_audit_noise(st, MQTT_NONE);
	if (slow_may_go(st, m)) {
		note_slow(st, m, why, MQTT_NONE);
		mqtt_rx_pass_header(st, c, m);
	}
}

static void start_packet(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m)
{
	enum mqtt_type type = mqtt_first_type(m->rx_first);

	if (m->kind == MQTT_K_NEW && type != MQTT_CONNECT) {
		mqtt_conn_lose(st, c, m);
		return;
	}
	switch (type) {
	case MQTT_PUBLISH:
		start_publish(st, c, m);
		return;
	case MQTT_CONNECT: /* a second one the broker answers by closing */
		if (m->kind == MQTT_K_REFUSED)
			break;
		if (m->kind != MQTT_K_NEW)
			mqtt_conn_lose(st, c, m);
		else if (!start_assembly(st, m) || !mqtt_connect_count(st, m, 0))
			mqtt_connect_pass(st, c, m);
		return;
	case MQTT_SUBSCRIBE:
	case MQTT_UNSUBSCRIBE:
	case MQTT_DISCONNECT:
		if (m->kind == MQTT_K_REFUSED)
			break;
		if (m->rx_left > MQTT_CONTROL_MAX || !start_assembly(st, m))
			mqtt_conn_lose(st, c, m);
		return;
	case MQTT_PINGREQ:
		if (!question_may_go(st, m))
			return;
		mqtt_fence_client_ping(m);
		break;
	case MQTT_PUBREL: /* the broker distributes a QoS 2 message now */
		if (!slow_may_go(st, m))
			return;
		note_slow(st, m, MQTT_R_FAST, MQTT_NONE);
		mqtt_audit_noise(st, MQTT_NONE);
		break;
	default:
		if (!may_end_it(st, m, m->rx_left))
			return;
		break;
	}
	mqtt_rx_pass_header(st, c, m);
}

/* ---- complete packets ---- */

const uint8_t *mqtt_rx_body(const struct mqtt_conn *m, uint32_t *len)
{
	*len = m->rx_buf->len - m->rx_hdr_n;
	return m->rx_buf->data + m->rx_hdr_n;
}

/* The assembled PUBLISH p goes to the broker.  group: it would have been fast for these, NULL: it
 * would not. */
static void go_slow(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m,
		    enum mqtt_reason why, struct mqtt_group *group, const struct mqtt_publish *p)
{
	note_slow(st, m, why, st->decided);
	if (group != NULL)
		mqtt_audit_expect(st, m, group, p, m->rx_buf->len - m->rx_hdr_n);
	else if (st->decided != MQTT_NONE)
		mqtt_audit_noise(st, st->decided);
	mqtt_rx_pass_assembled(st, c, m);
	if (group == NULL)
		return;
	mqtt_group_put(st->subs, group);
	mqtt_fence_ping(st, c, m); /* when has the broker handled it? */
}

static void finish_publish(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m)
{
	struct mqtt_group *group = NULL;
	enum mqtt_reason why = MQTT_R_MALFORMED;
	struct mqtt_publish p;
	uint32_t len;
	const uint8_t *body = mqtt_rx_body(m, &len);

	st->decided = MQTT_NONE;
	if (mqtt_publish_parse(m->level, m->rx_first, body, len, len, &p) > 0)
		why = mqtt_decide(st, m, &p, &group);
	if (why == MQTT_R_FENCE && !m->no_fence) {
		mqtt_rx_wait(st, m, MQTT_WAIT_FENCE);
		mqtt_fence_ping(st, c, m);
		mqtt_count(st, MQTT_C_FENCE_WAIT);
		return;
	}
	if (why == MQTT_R_FAST && !mqtt_fanout_room(st, m)) {
		mqtt_group_put(st->subs, group);
		group = NULL;
		if (m->jobs != 0) {
			mqtt_rx_wait(st, m, MQTT_WAIT_ROOM);
			return;
		}
		why = MQTT_R_MEMORY; /* others have all of them */
	}
	if (why == MQTT_R_FAST) {
		st->reasons[MQTT_R_FAST]++;
		st->gate[st->decided].fast++;
		mqtt_fanout_start(st, m, group, m->rx_buf, &p, m->rx_hdr_n);
		m->rx_buf = NULL;
		packet_done(st, c, m);
		mqtt_fence_keepalive(st, c, m);
		return;
	}
	if (mqtt_rx_pending(st, m)) {
		if (group != NULL)
			mqtt_group_put(st->subs, group);
		if (why == MQTT_R_CANARY) /* the next one, whosever it is */
			st->canary = st->cfg->mqtt_canary - 1;
		mqtt_rx_wait(st, m, MQTT_WAIT_JOBS);
		return;
	}
	go_slow(st, c, m, why, group, &p);
}

static void finish_request(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m)
{
	uint32_t len;
	const uint8_t *body = mqtt_rx_body(m, &len);

	if (!question_may_go(st, m) || !may_end_it(st, m, len))
		return;
	if (mqtt_session_request(st, m, (uint8_t)mqtt_first_type(m->rx_first), body, len) != 0) {
		mqtt_conn_lose(st, c, m);
		return;
	}
	mqtt_rx_pass_assembled(st, c, m);
}

/* The packet in rx_buf (or in rx_hdr alone) is complete, or its wait is over. */
static void finish_packet(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m)
{
	uint32_t len;
	const uint8_t *body;

	m->rx_mode = MQTT_RX_READY;
	if (m->rx_buf == NULL) { /* goes by its header: waited for jobs only */
		if (mqtt_first_type(m->rx_first) == MQTT_PINGREQ)
			mqtt_fence_client_ping(m);
		else
			note_slow(st, m,
				  mqtt_first_type(m->rx_first) == MQTT_PUBLISH ? m->rx_seen
									       : MQTT_R_FAST,
				  MQTT_NONE);
		mqtt_rx_pass_header(st, c, m);
		return;
	}
	switch (mqtt_first_type(m->rx_first)) {
	case MQTT_PUBLISH:
		finish_publish(st, c, m);
		break;
	case MQTT_CONNECT:
		mqtt_connect_look(st, c, m);
		break;
	case MQTT_SUBSCRIBE:
	case MQTT_UNSUBSCRIBE:
		finish_request(st, c, m);
		break;
	default: /* DISCONNECT: behind it nothing may follow, so the fast ones go first */
		if (mqtt_rx_pending(st, m)) {
			mqtt_rx_wait(st, m, MQTT_WAIT_JOBS);
			break;
		}
		body = mqtt_rx_body(m, &len);
		mqtt_session_disconnect(m, body, len);
		m->rx_over = 1;
		mqtt_rx_pass_assembled(st, c, m);
		break;
	}
}

/* ---- bytes ---- */

/* Header and topic are there: does it have to go slow whatever follows? */
static void look_early(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m)
{
	uint32_t have;
	const uint8_t *body = mqtt_rx_body(m, &have);
	struct mqtt_publish p;
	int rc = mqtt_publish_parse(m->level, m->rx_first, body, have, have + m->rx_left, &p);

	if (rc == 0)
		return;
	st->decided = MQTT_NONE;
	m->rx_seen = (uint8_t)(rc < 0 ? MQTT_R_MALFORMED : mqtt_decide_early(st, m, &p));
	if (m->rx_seen == MQTT_R_FAST || mqtt_rx_pending(st, m))
		return; /* decided again when it is complete */
	note_slow(st, m, m->rx_seen, st->decided);
	if (st->decided != MQTT_NONE)
		mqtt_audit_noise(st, st->decided);
	mqtt_rx_pass_assembled(st, c, m);
}

/* Room for n more bytes in rx_buf; false: no memory. */
static bool grow_assembly(struct mqtt_stage *st, struct mqtt_conn *m, size_t n)
{
	size_t all = (size_t)m->rx_buf->len + m->rx_left;
	size_t want = 2 * (size_t)m->rx_buf->room;
	size_t was = mqtt_buf_bytes(m->rx_buf);
	struct toe_buf *b;

	if (m->rx_buf->len + n <= m->rx_buf->room)
		return true;
	while (want < m->rx_buf->len + n)
		want *= 2;
	b = assembly_buf(st, m, want < all ? want : all);
	if (b == NULL)
		return false;
	memcpy(b->data, m->rx_buf->data, m->rx_buf->len);
	b->len = m->rx_buf->len;
	mqtt_put(st, &m->rx_buf);
	m->rx_buf = b;
	return !mqtt_listed(m, MQTT_L_BEGIN) || mqtt_connect_count(st, m, was);
}

/* No memory in the middle of a packet. */
static void assembly_failed(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m)
{
	if (mqtt_first_type(m->rx_first) == MQTT_CONNECT) {
		mqtt_connect_pass(st, c, m);
	} else if (mqtt_first_type(m->rx_first) != MQTT_PUBLISH) {
		mqtt_conn_lose(st, c, m);
	} else if (mqtt_rx_pending(st, m)) {
		mqtt_rx_wait(st, m, MQTT_WAIT_JOBS); /* and then again */
	} else {
		m->rx_seen = MQTT_R_MEMORY;
		note_slow(st, m, MQTT_R_MEMORY, MQTT_NONE);
		mqtt_rx_pass_assembled(st, c, m);
	}
}

/* Takes bytes of the fixed header; returns how many. */
static size_t take_header(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m,
			  const uint8_t *data, size_t len)
{
	size_t n = 0;
	int rc = 0;

	if (m->kind == MQTT_K_NEW && m->rx_hdr_n == 0 && mqtt_first_type(data[0]) != MQTT_CONNECT) {
		mqtt_conn_lose(st, c, m); /* WebSocket, a scanner */
		return 0;
	}
	while (n < len && rc == 0) {
		m->rx_hdr[m->rx_hdr_n++] = data[n++];
		rc = mqtt_fixed_parse(m->rx_hdr, m->rx_hdr_n, &m->rx_first, &m->rx_left);
	}
	toe_stream_consume(st->s, c, n);
	if (rc < 0) {
		/* the broker closes the connection: nothing comes behind that changes a session */
		mqtt_connect_answered(st, m);
		if (m->kind == MQTT_K_CONNECTING)
			m->kind = MQTT_K_NEW;
		mqtt_conn_lose(st, c, m);
	} else if (rc > 0) {
		start_packet(st, c, m);
		if (m->rx_mode == MQTT_RX_ASSEMBLE && m->rx_left == 0)
			finish_packet(st, c, m); /* it has no body */
	}
	return n;
}

static size_t take_body(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m,
			const uint8_t *data, size_t len)
{
	size_t n = len < m->rx_left ? len : m->rx_left;
	bool connect = mqtt_first_type(m->rx_first) == MQTT_CONNECT;

	if (connect && n > MQTT_FIXED_MAX + MQTT_CONTROL_MAX - m->rx_buf->len)
		n = MQTT_FIXED_MAX + MQTT_CONTROL_MAX - m->rx_buf->len;
	if (!grow_assembly(st, m, n)) {
		assembly_failed(st, c, m);
		return 0;
	}
	memcpy(m->rx_buf->data + m->rx_buf->len, data, n);
	m->rx_buf->len += (uint32_t)n;
	m->rx_left -= (uint32_t)n;
	toe_stream_consume(st->s, c, n);
	if (m->rx_left == 0)
		finish_packet(st, c, m);
	else if (connect)
		mqtt_connect_look(st, c, m);
	else if (mqtt_first_type(m->rx_first) == MQTT_PUBLISH && m->rx_seen == MQTT_R_N)
		look_early(st, c, m);
	if (m->rx_mode == MQTT_RX_ASSEMBLE && m->rx_left > MQTT_SLOW_LEFT)
		mqtt_fence_keepalive(st, c, m);
	return n;
}

static size_t pass_body(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m,
			const uint8_t *data, size_t len)
{
	size_t n = len < m->rx_left ? len : m->rx_left;

	toe_stream_forward(st->s, c, data, n, true);
	m->rx_left -= (uint32_t)n;
	if (m->rx_left == 0)
		packet_done(st, c, m);
	return n;
}

/* A client may go on before it is accepted; only AUTH belongs before CONNACK. */
static bool must_wait_for_connack(const struct mqtt_conn *m, uint8_t first)
{
	return m->kind == MQTT_K_CONNECTING && !m->ended && m->rx_mode == MQTT_RX_START &&
	       m->rx_hdr_n == 0 && mqtt_first_type(first) != MQTT_AUTH;
}

/* ---- the module's calls ---- */

size_t mqtt_rx(struct toe_stream *s, struct toe_stream_conn *c, const uint8_t *data, size_t len)
{
	struct mqtt_stage *st = mqtt_of(s);
	struct mqtt_conn *m = toe_stream_state(c);
	size_t at = 0;

	if (m->rx_wait == 0)
		m->client_ms = toe_stream_ms(s);
	while (at < len && m->rx_wait == 0) {
		if (m->kind == MQTT_K_LOST || m->kind == MQTT_K_FOREIGN) {
			toe_stream_forward(s, c, data + at, len - at, true);
			return len;
		}
		if (must_wait_for_connack(m, data[at])) {
			m->rx_wait |= MQTT_WAIT_CONNACK;
			break;
		}
		switch (m->rx_mode) {
		case MQTT_RX_START:
			at += take_header(st, c, m, data + at, len - at);
			break;
		case MQTT_RX_ASSEMBLE:
			at += take_body(st, c, m, data + at, len - at);
			break;
		default:
			at += pass_body(st, c, m, data + at, len - at);
			break;
		}
	}
	return at;
}

/* What is held of a packet goes on as it came. */
static void forward_held(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m)
{
	mqtt_connect_uncount(st, m);
	if (m->rx_buf != NULL) {
		toe_stream_forward_buf(st->s, c, m->rx_buf, 0, m->rx_buf->len, false);
		mqtt_put(st, &m->rx_buf);
	} else if ((m->rx_mode == MQTT_RX_START || m->rx_mode == MQTT_RX_READY) &&
		   m->rx_hdr_n > 0) {
		toe_stream_forward(st->s, c, m->rx_hdr, m->rx_hdr_n, false);
	}
	m->rx_mode = MQTT_RX_PASS;
	m->rx_hdr_n = 0; /* it has gone: not again should the connection be lost now */
}

bool mqtt_rx_end(struct toe_stream *s, struct toe_stream_conn *c)
{
	struct mqtt_stage *st = mqtt_of(s);
	struct mqtt_conn *m = toe_stream_state(c);

	if (m->rx_wait != 0)
		return false;
	if (mqtt_rx_pending(st, m)) {
		/* the broker may publish a will when it sees the end */
		mqtt_rx_wait(st, m, MQTT_WAIT_JOBS);
		return false;
	}
	forward_held(st, c, m); /* half a packet: the broker sees the half */
	m->rx_over = 1;
	return true;
}

bool mqtt_rx_reset(struct toe_stream *s, struct toe_stream_conn *c)
{
	struct mqtt_stage *st = mqtt_of(s);
	struct mqtt_conn *m = toe_stream_state(c);

	if (m->rx_wait != 0)
		return false;
	if (mqtt_rx_pending(st, m)) {
		mqtt_rx_wait(st, m, MQTT_WAIT_JOBS); /* as in mqtt_rx_end() */
		return false;
	}
	/* What the broker makes of its CONNECT is to be known: to the session it has happened. Half
	 * of one is never answered. */
	if (m->kind == MQTT_K_CONNECTING && !m->ended &&
	    !(m->rx_mode == MQTT_RX_PASS && mqtt_first_type(m->rx_first) == MQTT_CONNECT)) {
		m->rx_wait |= MQTT_WAIT_CONNACK;
		return false;
	}
	m->rx_over = 0; /* whether the broker reads what it has not read yet nobody can tell */
	return true;
}

void mqtt_rx_lost(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m)
{
	m->rx_wait = 0;
	mqtt_list_del(st, m, MQTT_L_OLDER);
	if (mqtt_rx_pending(st, m)) {
		/* its fast messages come first, before what may be another one now */
		mqtt_rx_wait(st, m, MQTT_WAIT_JOBS);
		return;
	}
	forward_held(st, c, m);
	toe_stream_rx_resume(st->s, c);
}

void mqtt_rx_proceed(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m)
{
	if (m->rx_wait != 0)
		return;
	if (m->kind == MQTT_K_LOST) {
		mqtt_rx_lost(st, c, m);
		return;
	}
	if (m->rx_mode == MQTT_RX_READY)
		finish_packet(st, c, m);
	if (m->rx_wait == 0)
		toe_stream_rx_resume(st->s, c);
}

void mqtt_rx_appended(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m)
{
	uint8_t before = m->rx_wait;

	if (m->jobs == 0 && m->held == NULL)
		m->rx_wait &= (uint8_t)~MQTT_WAIT_JOBS;
	if (m->jobs <= MQTT_JOBS_OF_ONE / 2)
		m->rx_wait &= (uint8_t)~MQTT_WAIT_ROOM;
	if (m->jobs == 0)
		m->rx_wait &= (uint8_t)~MQTT_WAIT_FANOUT;
	if (!(m->rx_wait & MQTT_WAIT_JOBS))
		mqtt_list_del(st, m, MQTT_L_HELD);
	if (m->rx_wait != before)
		mqtt_rx_proceed(st, c, m);
}
