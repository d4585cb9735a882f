// SPDX-License-Identifier: BSD-3-Clause
/*
 * What the bytes of a connection that is followed say: ClientID and topic filters.
 *
 * In: bytes the program has read, and, where CONNACK decides or WebSocket is to be agreed upon,
 * those it has written; out: KERNEL_CONN, answered.  State: that of the connection (follow.h),
 * which is the caller's alone.
 */
#include <string.h>

#include "libtoe/follow.h"

#define NEWS_BYTES sizeof(((struct toe_ctl_kconn *)0)->data)
#define WEB_PART   512u /* bytes of WebSocket payload at a time */

/* ---- packets ---- */

int lt_follow_say(struct lt_follow *s, uint8_t what, const uint8_t *data, size_t len)
{
	struct toe_ctl_kconn k = {
		.conn = s->conn, .slot1 = s->slot1, .what = what, .len = (uint16_t)len};
	int rc;

	if (len > sizeof(k.data))
		return -EMSGSIZE;
	if (len > 0)
		memcpy(k.data, data, len);
	rc = lt_kconn_say(&k);
	s->heard |= rc == 0 || rc == -ESRCH || rc == -ENOSPC || rc == -ENODEV;
	/* what was not answered may have been done all the same */
	if (rc == 0 || (rc == -ETIMEDOUT && toe_kconn_begins(what)))
		s->told = what != TOE_KCONN_MQTT_END;
	return rc;
}

/* CONNACK will tell more.  id: of the session that nobody knows, in the body; NULL: any. */
static bool await_answer(struct lt_follow *s, const struct mqtt_str *id)
{
	s->any = !id;
	s->id_at = id ? (uint16_t)(id->data - s->room->body) : 0;
	s->id_len = id ? id->len : 0;
	s->ack = (struct mqtt_framer){0};
	s->ack_n = 0;
	s->asked = true;
	LT_STORE(&s->watch, true);
	return true;
}

/* The stage refuses one that may have subscriptions it does not know.  MQTT 3.1 does not say in
 * CONNACK whether there were any. */
static bool on_connect(struct lt_follow *s)
{
	struct mqtt_connect con;
	struct mqtt_str *id = &con.client_id;
	uint8_t what = TOE_KCONN_MQTT_RESUME;
	int rc;

	if (mqtt_connect_parse(s->room->body, s->len, &con) != 0)
		return false; /* the broker refuses it, too */
	s->level = con.level;
	if (con.clean)
		what = con.session_expiry_s != 0 ? TOE_KCONN_MQTT_NEW : TOE_KCONN_MQTT_CONNECT;
	rc = lt_follow_say(s, what, id->data, id->len);
	if (rc == 0) {
		LT_STORE(&s->watch, false);
		return true;
	}
	if (!s->heard)
		return await_answer(s, NULL);
	return rc == -ESRCH && !con.clean && con.level != MQTT_LEVEL_31 && await_answer(s, id);
}

/* As many to a message as fit. */
bool lt_follow_filters(struct lt_follow *s, const struct lt_filters *f)
{
	size_t from = 0;

	for (size_t at = 0; at < f->len;) {
		size_t to = at + 1 + f->data[at];

		if (to - from > NEWS_BYTES) {
			if (lt_follow_say(s, TOE_KCONN_MQTT_FILTER, f->data + from, at - from) != 0)
				return false;
			from = at;
		}
		at = to;
	}
	return from == f->len ||
	       lt_follow_say(s, TOE_KCONN_MQTT_FILTER, f->data + from, f->len - from) == 0;
}

/* Packed where they stand: length and filter take less than they did in the packet. */
static bool on_subscribe(struct lt_follow *s)
{
	struct lt_filters f = {s->room->body, 0};
	struct mqtt_subscribe sub;
	struct mqtt_sub_item item;

	if (mqtt_subscribe_parse(s->level, s->room->body, s->len, &sub) != 0)
		return false;
	while (mqtt_subscribe_next(&sub, &item)) {
		uint8_t *to = s->room->body + f.len;

		if (1u + item.filter.len > NEWS_BYTES)
			return false;
		memmove(to + 1, item.filter.data, item.filter.len);
		to[0] = (uint8_t)item.filter.len;
		f.len += 1u + item.filter.len;
	}
	return lt_follow_filters(s, &f);
}

/* ---- bytes ---- */

static bool is_kept(uint8_t first)
{
	return mqtt_first_type(first) == MQTT_CONNECT || mqtt_first_type(first) == MQTT_SUBSCRIBE;
}

/* What the broker would not take, or what would be taken for what it is not. */
static bool may_begin(const struct lt_follow *s, uint8_t first, uint32_t remaining)
{
	bool connects = mqtt_first_type(first) == MQTT_CONNECT;

	if (connects != (s->level == 0) ||
	    (!connects && is_kept(first) && remaining > LT_FOLLOW_PACKET_MAX))
		return false;
	if (s->asked && is_kept(first))
		return false; /* the ClientID is still needed */
	return mqtt_first_type(first) != 0 &&
	       (!is_kept(first) || mqtt_first_valid(connects ? MQTT_LEVEL_311 : s->level, first));
}

/* A part of a packet of the client's; false: not to be followed. */
static bool take_part(struct lt_follow *s, enum mqtt_framer_event ev,
		      const struct mqtt_frame_part *part)
{
	if (ev == MQTT_FR_MORE)
		return true;
	if (ev == MQTT_FR_ERROR ||
	    (ev == MQTT_FR_HEADER && !may_begin(s, part->first, part->remaining)))
		return false;
	if (!is_kept(part->first))
		return true;
	if (part->remaining > LT_FOLLOW_PACKET_MAX) { /* CONNECT */
		s->level = MQTT_LEVEL_5;
		return !part->last || await_answer(s, NULL);
	}
	if (ev == MQTT_FR_HEADER)
		s->len = 0;
	if (ev == MQTT_FR_BODY) {
		memcpy(s->room->body + s->len, part->data, part->len);
		s->len += (uint32_t)part->len;
	}
	return !part->last || (s->level == 0 ? on_connect(s) : on_subscribe(s));
}

static bool take_in(struct lt_follow *s, const uint8_t *data, size_t len)
{
	while (len > 0) {
		enum mqtt_framer_event ev;
		struct mqtt_frame_part part;
		size_t n = mqtt_framer_feed(&s->framer, data, len, &ev, &part);

		if (!take_part(s, ev, &part))
			return false;
		data += n;
		len -= n;
	}
	return true;
}

/* What the broker answers to CONNECT: flags and reason (3.2.2).  False: not to be followed. */
static bool take_answer(struct lt_follow *s, const uint8_t *data, size_t len)
{
	while (len > 0 && s->asked) {
		enum mqtt_framer_event ev;
		struct mqtt_frame_part part;
		size_t n = mqtt_framer_feed(&s->ack, data, len, &ev, &part);

		if (ev == MQTT_FR_ERROR ||
		    (ev == MQTT_FR_HEADER && mqtt_first_type(part.first) != MQTT_CONNACK))
			return false;
		for (size_t i = 0; ev == MQTT_FR_BODY && i < part.len && s->ack_n < 2; i++)
			s->ack_body[s->ack_n++] = part.data[i];
		if (s->ack_n == 2) {
			s->asked = false;
			LT_STORE(&s->watch, false);
			if (s->ack_body[1] != 0)
				s->any = false;
			if (s->ack_body[0] != 0 || s->ack_body[1] != 0 || s->any)
				return false; /* there was one, or the client is refused */
			return lt_follow_say(s, TOE_KCONN_MQTT_NEW, s->room->body + s->id_at,
					     s->id_len) == 0;
		}
		data += n;
		len -= n;
	}
	return true;
}

/* ---- WebSocket ---- */

/* No frame may come before the broker has agreed: one that goes on with HTTP is none to follow. */
bool lt_follow_in(struct lt_follow *s, const uint8_t *data, size_t len)
{
	uint8_t part[WEB_PART];

	if (!s->web)
		return take_in(s, data, len);
	while (len > 0) {
		size_t n, taken = lt_ws_feed(&s->room->web_in, data, len, part, sizeof(part), &n);

		if (taken == 0 ||
		    (n > 0 && (!lt_ws_open(&s->room->web_out) || !take_in(s, part, n))))
			return false;
		data += taken;
		len -= taken;
	}
	return true;
}

bool lt_follow_out(struct lt_follow *s, const uint8_t *data, size_t len)
{
	uint8_t part[WEB_PART];

	if (!s->web)
		return take_answer(s, data, len);
	while (len > 0 && s->watch) {
		struct lt_ws *w = &s->room->web_out;
		size_t n, taken = lt_ws_feed(w, data, len, part, sizeof(part), &n);

		if (taken == 0 && w->lines && !lt_ws_open(w))
			s->any = true; /* it is WebSocket, and nobody reads it */
		if (taken == 0 || (n > 0 && (!s->asked || !take_answer(s, part, n))))
			return false;
		data += taken;
		len -= taken;
	}
	return true;
}
