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

#define WEB_PART 512u /* bytes of WebSocket payload at a time */

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
	s->heard |= toe_kconn_begins(what) &&
		    (rc == 0 || rc == -ESRCH || rc == -ENOSPC || rc == -ENODEV);
	/* what was not answered may have been done all the same */
	if (rc == 0 || (rc == -ETIMEDOUT && toe_kconn_begins(what)))
		s->told = what != TOE_KCONN_MQTT_END;
	return rc;
}

/* The broker's answer decides what this is. */
static void await_answer(struct lt_follow *s)
{
	s->early_len = 0;
	s->asked = true;
	LT_STORE(&s->watch, true);
}

static bool on_connect(struct lt_follow *s)
{
	struct mqtt_connect con;

	if (mqtt_connect_parse(s->room->body, s->len, &con) != 0)
		return false; /* the broker refuses it, too */
	s->level = con.level;
	s->clean = con.clean;
	s->lasts = con.level == MQTT_LEVEL_5 ? con.session_expiry_s != 0 : !con.clean;
	s->any = con.client_id.len > sizeof(s->room->id);
	if (!s->any) {
		s->id_len = con.client_id.len;
		memcpy(s->room->id, con.client_id.data, s->id_len);
	}
	await_answer(s);
	return true;
}

/* The broker has taken it.  The stage refuses a session that may have subscriptions it does not
 * know; MQTT 3.1 does not say in CONNACK whether there were any. */
static bool on_accepted(struct lt_follow *s, bool present)
{
	bool resumes = !s->clean && (present || s->level == MQTT_LEVEL_31);
	uint8_t what = s->lasts ? TOE_KCONN_MQTT_NEW : TOE_KCONN_MQTT_CONNECT;
	const struct lt_filters early = {s->room->early, s->early_len};

	if (s->any || s->deaf)
		return false;
	if (lt_follow_say(s, resumes ? TOE_KCONN_MQTT_RESUME : what, s->room->id, s->id_len) != 0)
		return false;
	s->asked = false;
	LT_STORE(&s->watch, false);
	return lt_follow_filters(s, &early);
}

/* As many to a message as fit. */
bool lt_follow_filters(struct lt_follow *s, const struct lt_filters *f)
{
	size_t from = 0;

	for (size_t at = 0; at < f->len;) {
		size_t to = at + 1 + f->data[at];

		if (to - from > LT_FOLLOW_NEWS) {
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

		if (1u + item.filter.len > LT_FOLLOW_NEWS)
			return false;
		memmove(to + 1, item.filter.data, item.filter.len);
		to[0] = (uint8_t)item.filter.len;
		f.len += 1u + item.filter.len;
	}
	if (!s->asked)
		return lt_follow_filters(s, &f);
	if (f.len > sizeof(s->room->early) - s->early_len)
		return false;
	memcpy(s->room->early + s->early_len, f.data, f.len);
	s->early_len += (uint16_t)f.len;
	return true;
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
		if (part->last) {
			s->level = MQTT_LEVEL_5;
			s->any = true;
			await_answer(s);
		}
		return true;
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

static bool answers(uint8_t first)
{
	return mqtt_first_type(first) == MQTT_CONNACK || mqtt_first_type(first) == MQTT_AUTH;
}

/* What the broker answers to CONNECT: flags and reason (3.2.2); AUTH may come before (4.12). False:
 * not to be followed. */
static bool take_answer(struct lt_follow *s, const uint8_t *data, size_t len)
{
	while (len > 0 && s->watch) {
		enum mqtt_framer_event ev;
		struct mqtt_frame_part part;
		size_t n = mqtt_framer_feed(&s->ack, data, len, &ev, &part);

		if (ev == MQTT_FR_ERROR || (ev == MQTT_FR_HEADER && !answers(part.first)))
			return false;
		if (ev == MQTT_FR_BODY && mqtt_first_type(part.first) == MQTT_CONNACK) {
			for (size_t i = 0; i < part.len && s->ack_n < sizeof(s->ack_body); i++)
				s->ack_body[s->ack_n++] = part.data[i];
		}
		if (s->ack_n == sizeof(s->ack_body)) {
			s->accepted = s->ack_body[1] == 0;
			if (!s->asked)
				s->any = true; /* that CONNECT nobody has read */
			return s->accepted && on_accepted(s, s->ack_body[0] & 1);
		}
		data += n;
		len -= n;
	}
	return true;
}

/* ---- WebSocket ---- */

/* The broker may have taken it. */
static void on_unreadable(struct lt_follow *s)
{
	s->accepted = true;
	if (!s->asked)
		s->any = true;
}

static bool take_frames(struct lt_follow *s, const uint8_t *data, size_t len)
{
	uint8_t part[WEB_PART];

	while (len > 0) {
		size_t n, taken = lt_ws_feed(&s->web->in, data, len, part, sizeof(part), &n);

		if (taken == 0 || !take_in(s, part, n))
			return false;
		data += taken;
		len -= taken;
	}
	return true;
}

/* What cannot be read, but may have been taken: the answer will say. */
static bool undecided(const struct lt_follow *s)
{
	return s->asked || (s->web && !s->told && lt_ws_open(&s->web->in));
}

bool lt_follow_in(struct lt_follow *s, const uint8_t *data, size_t len)
{
	bool ok = s->deaf || (s->web ? take_frames(s, data, len) : take_in(s, data, len));

	if (ok || !undecided(s))
		return ok;
	s->deaf = true;
	return true;
}

bool lt_follow_out(struct lt_follow *s, const uint8_t *data, size_t len)
{
	uint8_t part[WEB_PART];

	if (!s->web)
		return take_answer(s, data, len);
	while (len > 0 && s->watch) {
		struct lt_ws *w = &s->web->out;
		size_t n, taken = lt_ws_feed(w, data, len, part, sizeof(part), &n);

		/* it is WebSocket, for MQTT, and nobody can read it */
		if (taken == 0 && w->lines && s->web->in.mqtt)
			on_unreadable(s);
		if (taken == 0 || !take_answer(s, part, n))
			return false;
		data += taken;
		len -= taken;
	}
	return true;
}
