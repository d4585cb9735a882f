/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * MQTT stage: SUBSCRIBE and UNSUBSCRIBE, from the request to its answer.
 *
 * Input: requests of clients as they are forwarded, answers of the broker.  Output: the
 * subscription map: PENDING from the request on, ACTIVE by a proof (mqtt_fence.c), gone with
 * UNSUBACK.  Requests without an answer are kept as they were written, bounded per connection. Owns
 * that list.  Thread: the stream stage's.
 */
#include "mqtt_stage.h"

#include <errno.h>
#include <string.h>

#define REQUESTS_MAX (4 * MQTT_CONTROL_MAX) /* bytes without answer, of one connection */

static void set_options(struct mqtt_stage *st, const struct mqtt_conn *m, uint32_t sub,
			const struct mqtt_sub_item *item, uint32_t sub_id)
{
	struct mqtt_sub *s = mqtt_subs_get(st->subs, sub);

	s->sub_id = sub_id;
	s->opts = (uint8_t)((s->opts & MQTT_SUB_SHARED) | (item->rap ? MQTT_SUB_RAP : 0));
	if (item->no_local || m->bridge)
		s->opts |= MQTT_SUB_NO_LOCAL;
}

/* Everything it matches goes slow from now on. */
static int subscribe_one(struct mqtt_stage *st, struct mqtt_conn *m,
			 const struct mqtt_sub_item *item, uint32_t sub_id)
{
	struct mqtt_sub *s;
	uint32_t sub;
	bool existed;
	int rc = mqtt_subs_add(st->subs, m->session, item->filter.data, item->filter.len, &sub,
			       &existed);

	if (rc == -EINVAL)
		return 0; /* the broker refuses it, or it matches nothing that goes fast */
	if (rc != 0)
		return rc;
	s = mqtt_subs_get(st->subs, sub);
	s->state = MQTT_S_PENDING;
	s->user = ++m->events; /* which SUBSCRIBE: no proof on its way is meant for it */
	if (!existed)
		set_options(st, m, sub, item, sub_id);
	mqtt_subs_touch(st->subs, sub);
	return 0;
}

static uint32_t request_bytes(const struct toe_buf *b)
{
	return (uint32_t)sizeof(*b) + b->room;
}

/* Behind all others of the connection; NULL: no memory, or so many that the client seems not to
 * read the answers. */
static struct toe_buf *keep_request(struct mqtt_stage *st, struct mqtt_conn *m, uint8_t type,
				    uint16_t packet_id, const uint8_t *body, uint32_t len)
{
	struct toe_buf *b = NULL;

	if (m->request_bytes < REQUESTS_MAX)
		b = toe_stream_buf_new(st->s, sizeof(struct mqtt_request) + len);
	if (b == NULL)
		return NULL;
	m->request_bytes += request_bytes(b);
	*mqtt_request_of(b) =
		(struct mqtt_request){.len = len, .packet_id = packet_id, .type = type};
	memcpy(mqtt_request_of(b)->body, body, len);
	if (m->requests == NULL)
		m->requests = b;
	else
		mqtt_request_of(m->request_last)->next = b;
	m->request_last = b;
	return b;
}

int mqtt_session_request(struct mqtt_stage *st, struct mqtt_conn *m, uint8_t type,
			 const uint8_t *body, uint32_t len)
{
	struct mqtt_subscribe req;
	struct mqtt_sub_item item;
	struct toe_buf *b;
	int rc;

	if (m->session == MQTT_NONE)
		return 0; /* taken over: the broker has closed it and will not read this */
	rc = type == MQTT_SUBSCRIBE ? mqtt_subscribe_parse(m->level, body, len, &req)
				    : mqtt_unsubscribe_parse(m->level, body, len, &req);
	if (rc != 0)
		return rc;
	b = keep_request(st, m, type, req.packet_id, body, len);
	if (b == NULL)
		return -ENOSPC;
	while (type == MQTT_SUBSCRIBE && rc == 0 && mqtt_subscribe_next(&req, &item))
		rc = subscribe_one(st, m, &item, req.sub_id);
	mqtt_fence_unproven(st, m);
	if (type == MQTT_SUBSCRIBE && m->blocked)
		mqtt_fence_suspect(st, m, MQTT_SUSPECT_HEAP);
	if (type == MQTT_UNSUBSCRIBE)
		m->events++; /* what is decided from here on may come behind UNSUBACK */
	mqtt_request_of(b)->event = m->events;
	m->asked_ms = toe_stream_ms(st->s);
	mqtt_request_of(b)->sub_id = req.sub_id;
	if (rc != 0 && !st->sessions[m->session].full) {
		st->sessions[m->session].full = 1; /* it subscribed to we do not know what */
		st->full++;
	}
	return 0;
}

/* Takes the request with that packet id out of the list; NULL: none. */
static struct toe_buf *take_request(struct mqtt_conn *m, uint8_t type, uint16_t packet_id)
{
	struct toe_buf *before = NULL, *b = m->requests;

	while (b != NULL &&
	       (mqtt_request_of(b)->type != type || mqtt_request_of(b)->packet_id != packet_id)) {
		before = b;
		b = mqtt_request_of(b)->next;
	}
	if (b == NULL)
		return NULL;
	if (before == NULL)
		m->requests = mqtt_request_of(b)->next;
	else
		mqtt_request_of(before)->next = mqtt_request_of(b)->next;
	if (m->request_last == b)
		m->request_last = before;
	m->request_bytes -= request_bytes(b);
	return b;
}

/* Another SUBSCRIBE for it has been forwarded since: its answer decides. */
static bool asked_again(const struct mqtt_sub *s, const struct mqtt_request *r)
{
	return (int32_t)(s->user - r->event) > 0;
}

static void granted(struct mqtt_stage *st, struct mqtt_conn *m, const struct mqtt_sub_item *item,
		    const struct mqtt_request *r, uint8_t code)
{
	uint32_t sub = mqtt_subs_find(st->subs, m->session, item->filter.data, item->filter.len);
	struct mqtt_sub *s;

	if (sub == MQTT_SUB_NONE)
		return;
	s = mqtt_subs_get(st->subs, sub);
	if (code >= 0x80 && s->qos == 0) {
		if (!asked_again(s, r))
			mqtt_subs_del(st->subs, sub); /* was never granted */
		return;
	}
	if (code < 0x80) {
		/* mosquitto keeps No Local of the first SUBSCRIBE when it is repeated */
		uint8_t was = s->opts & MQTT_SUB_NO_LOCAL;
		uint8_t local = s->qos != 0 ? was : 0xff;

		set_options(st, m, sub, item, r->sub_id);
		if ((s->opts & MQTT_SUB_NO_LOCAL) == was) /* else which of them counts? */
			s->doubt = 0;
		if (local != 0xff)
			s->opts = (uint8_t)((s->opts & ~MQTT_SUB_NO_LOCAL) | local);
		s->qos = (uint8_t)(code + 1u); /* 0: not granted yet */
	}
	if (!asked_again(s, r) && !s->doubt)
		mqtt_fence_activate(st, m, sub);
	mqtt_subs_touch(st->subs, sub);
}

static void on_suback(struct mqtt_stage *st, struct mqtt_conn *m, const struct mqtt_suback *ack,
		      const struct mqtt_request *r)
{
	struct mqtt_subscribe req;
	struct mqtt_sub_item item;

	if (mqtt_subscribe_parse(m->level, r->body, r->len, &req) != 0)
		return;
	for (size_t i = 0; i < ack->n && mqtt_subscribe_next(&req, &item); i++)
		granted(st, m, &item, r, ack->codes[i]);
}

static void on_unsuback(struct mqtt_stage *st, struct mqtt_conn *m, const struct mqtt_suback *ack,
			const struct mqtt_request *r)
{
	struct mqtt_subscribe req;
	struct mqtt_sub_item item;
	struct mqtt_sub *s;

	if (mqtt_unsubscribe_parse(m->level, r->body, r->len, &req) != 0)
		return;
	for (size_t i = 0; mqtt_unsubscribe_next(&req, &item); i++) {
		uint32_t sub =
			mqtt_subs_find(st->subs, m->session, item.filter.data, item.filter.len);

		/* 0x11: there was none (MQTT 5, 3.11.3) */
		if (sub == MQTT_SUB_NONE || (i < ack->n && ack->codes[i] >= 0x80))
			continue;
		s = mqtt_subs_get(st->subs, sub);
		if (asked_again(s, r))
			s->qos = 0; /* a new one that is not granted yet */
		else
			mqtt_subs_del(st->subs, sub);
	}
}

void mqtt_session_answer(struct mqtt_stage *st, struct toe_stream_conn *c, struct mqtt_conn *m,
			 uint8_t type, const uint8_t *body, uint32_t len)
{
	struct mqtt_suback ack;
	struct toe_buf *b;
	int rc = type == MQTT_SUBACK ? mqtt_suback_parse(m->level, body, len, &ack)
				     : mqtt_unsuback_parse(m->level, body, len, &ack);

	if (rc != 0 || m->session == MQTT_NONE)
		return;
	b = take_request(m, type == MQTT_SUBACK ? MQTT_SUBSCRIBE : MQTT_UNSUBSCRIBE, ack.packet_id);
	if (b == NULL)
		return;
	m->asked_ms = toe_stream_ms(st->s);
	if (type == MQTT_SUBACK) {
		on_suback(st, m, &ack, mqtt_request_of(b));
		mqtt_fence_ping(st, c, m);
	} else {
		mqtt_tx_flush_before(st, c, m, mqtt_request_of(b)->event);
		on_unsuback(st, m, &ack, mqtt_request_of(b));
	}
	toe_stream_buf_put(st->s, b);
}
