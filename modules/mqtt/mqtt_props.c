// SPDX-License-Identifier: BSD-3-Clause
/*
 * Properties of MQTT 5.0 (2.2.2) and the strings of all versions: UTF-8 (1.5.4), topic names and
 * filters (4.7, 4.8.2).  Input: bytes of a packet; output: values, or "malformed".
 * State: none.  Thread: any.
 */
#include <errno.h>
#include <string.h>

#include "common/topic_filter.h"
#include "mqtt_codec.h"

/* ---- strings -------------------------------------------------------------------------------- */

/* Length of the sequence at s, of which n >= 1 bytes are there, and its code point; 0 if it is
 * ill-formed (RFC 3629, section 4). */
static unsigned utf8_sequence(const uint8_t *s, size_t n, uint32_t *cp)
{
	uint8_t low = 0x80, high = 0xbf; /* of the second byte; keeps out overlong and surrogates */
	unsigned len = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
	unsigned i;

	if (s[0] < 0x80) {
		*cp = s[0];
		return 1;
	}
	if (s[0] < 0xc2 || s[0] > 0xf4 || len > n)
		return 0;
	if (s[0] == 0xe0)
		low = 0xa0;
	else if (s[0] == 0xed)
		high = 0x9f;
	else if (s[0] == 0xf0)
		low = 0x90;
	else if (s[0] == 0xf4)
		high = 0x8f;
	if (s[1] < low || s[1] > high)
		return 0;
	*cp = s[0] & (0x7fu >> len);
	for (i = 1; i < len; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		*cp = *cp << 6 | (s[i] & 0x3fu);
	}
	return len;
}

bool mqtt_utf8_valid(const uint8_t *s, size_t len)
{
	size_t i = 0;
	uint32_t cp;
	unsigned n;

	while (i < len) {
		n = utf8_sequence(s + i, len - i, &cp);
		if (n == 0)
			return false;
		if (cp < 0x20 || (cp >= 0x7f && cp <= 0x9f)) /* control characters */
			return false;
		if ((cp >= 0xfdd0 && cp <= 0xfdef) || (cp & 0xfffe) == 0xfffe) /* non-characters */
			return false;
		i += n;
	}
	return true;
}

bool mqtt_topic_valid(const uint8_t *s, size_t len)
{
	return len > 0 && len <= MQTT_TOPIC_MAX && !memchr(s, '+', len) && !memchr(s, '#', len) &&
	       mqtt_utf8_valid(s, len);
}

bool mqtt_filter_valid(const uint8_t *s, size_t len)
{
	return len > 0 && len <= MQTT_TOPIC_MAX && toe_filter_wildcards_valid(s, len) &&
	       mqtt_utf8_valid(s, len);
}

/* ---- reader --------------------------------------------------------------------------------- */

uint32_t mqtt_rd_varint(struct mqtt_rd *r)
{
	uint32_t value = 0;
	unsigned i;
	uint8_t b;

	for (i = 0; i < 4; i++) {
		b = mqtt_rd_u8(r);
		value |= (uint32_t)(b & 0x7fu) << (7 * i);
		if (b & 0x80u)
			continue;
		if (i > 0 && b == 0) /* 1.5.5-1: longer than it needs to be */
			break;
		return value;
	}
	r->bad = true;
	return 0;
}

struct mqtt_str mqtt_rd_str(struct mqtt_rd *r)
{
	struct mqtt_str s = mqtt_rd_bin(r);

	if (s.len > 0 && !mqtt_utf8_valid(s.data, s.len))
		r->bad = true;
	return s;
}

/* ---- properties ----------------------------------------------------------------------------- */

enum prop_kind {
	KIND_NONE, /* no such property */
	KIND_FLAG, /* one byte, 0 or 1: all that are a byte on the wire */
	KIND_U16,
	KIND_U32,
	KIND_VARINT,
	KIND_STR,
	KIND_BIN,
	KIND_PAIR, /* two strings */
};

#define IN(type)   (1u << (type))
#define IN_MESSAGE (IN(MQTT_PUBLISH) | IN(MQTT_IN_WILL))
#define IN_SESSION (IN(MQTT_CONNECT) | IN(MQTT_CONNACK))
#define IN_ACK     (IN(MQTT_PUBACK) | IN(MQTT_PUBREC) | IN(MQTT_PUBREL) | IN(MQTT_PUBCOMP))
#define IN_ANSWER  (IN_ACK | IN(MQTT_SUBACK) | IN(MQTT_UNSUBACK) | IN(MQTT_CONNACK))
#define IN_LAST    (IN(MQTT_DISCONNECT) | IN(MQTT_AUTH))
#define IN_ANY     0xffffu
#define NOT_ZERO   1u
#define REPEATABLE 2u
#define P(id)      [MQTT_PROP_##id]

/* 2.2.2.2, table 2-4; zero values and repetition: 3.1.2.11, 3.3.2.3, 3.8.2.1.2. */
static const struct {
	uint8_t kind;
	uint8_t flags;
	uint16_t in; /* bit per packet type */
} prop_info[MQTT_PROP_ID_END] = {
	P(PAYLOAD_FORMAT) = {KIND_FLAG, 0, IN_MESSAGE},
	P(MESSAGE_EXPIRY) = {KIND_U32, 0, IN_MESSAGE},
	P(CONTENT_TYPE) = {KIND_STR, 0, IN_MESSAGE},
	P(RESPONSE_TOPIC) = {KIND_STR, 0, IN_MESSAGE},
	P(CORRELATION_DATA) = {KIND_BIN, 0, IN_MESSAGE},
	/* A server sends one per matching subscription (3.3.4); a client's SUBSCRIBE has one. */
	P(SUBSCRIPTION_ID) = {KIND_VARINT, NOT_ZERO | REPEATABLE,
			      IN(MQTT_PUBLISH) | IN(MQTT_SUBSCRIBE)},
	P(SESSION_EXPIRY) = {KIND_U32, 0, IN_SESSION | IN(MQTT_DISCONNECT)},
	P(ASSIGNED_CLIENT_ID) = {KIND_STR, 0, IN(MQTT_CONNACK)},
	P(SERVER_KEEP_ALIVE) = {KIND_U16, 0, IN(MQTT_CONNACK)},
	P(AUTH_METHOD) = {KIND_STR, 0, IN_SESSION | IN(MQTT_AUTH)},
	P(AUTH_DATA) = {KIND_BIN, 0, IN_SESSION | IN(MQTT_AUTH)},
	P(REQUEST_PROBLEM) = {KIND_FLAG, 0, IN(MQTT_CONNECT)},
	P(WILL_DELAY) = {KIND_U32, 0, IN(MQTT_IN_WILL)},
	P(REQUEST_RESPONSE) = {KIND_FLAG, 0, IN(MQTT_CONNECT)},
	P(RESPONSE_INFO) = {KIND_STR, 0, IN(MQTT_CONNACK)},
	P(SERVER_REFERENCE) = {KIND_STR, 0, IN(MQTT_CONNACK) | IN(MQTT_DISCONNECT)},
	P(REASON_STRING) = {KIND_STR, 0, IN_ANSWER | IN_LAST},
	P(RECEIVE_MAXIMUM) = {KIND_U16, NOT_ZERO, IN_SESSION},
	P(TOPIC_ALIAS_MAX) = {KIND_U16, 0, IN_SESSION},
	P(TOPIC_ALIAS) = {KIND_U16, NOT_ZERO, IN(MQTT_PUBLISH)},
	P(MAXIMUM_QOS) = {KIND_FLAG, 0, IN(MQTT_CONNACK)},
	P(RETAIN_AVAILABLE) = {KIND_FLAG, 0, IN(MQTT_CONNACK)},
	P(USER_PROPERTY) = {KIND_PAIR, REPEATABLE, IN_ANY},
	P(MAXIMUM_PACKET_SIZE) = {KIND_U32, NOT_ZERO, IN_SESSION},
	P(WILDCARD_AVAILABLE) = {KIND_FLAG, 0, IN(MQTT_CONNACK)},
	P(SUB_ID_AVAILABLE) = {KIND_FLAG, 0, IN(MQTT_CONNACK)},
	P(SHARED_AVAILABLE) = {KIND_FLAG, 0, IN(MQTT_CONNACK)},
};

_Static_assert(MQTT_PROP_ID_END <= 64, "mqtt_props.seen has a bit per identifier");

static void prop_value_read(struct mqtt_rd *r, enum prop_kind kind, struct mqtt_prop *out)
{
	switch (kind) {
	case KIND_FLAG:
		out->num = mqtt_rd_u8(r);
		if (out->num > 1)
			r->bad = true;
		break;
	case KIND_U16:
		out->num = mqtt_rd_u16(r);
		break;
	case KIND_U32:
		out->num = mqtt_rd_u32(r);
		break;
	case KIND_VARINT:
		out->num = mqtt_rd_varint(r);
		break;
	case KIND_PAIR:
		mqtt_rd_str(r);
		out->str = mqtt_rd_str(r);
		break;
	case KIND_STR:
		out->str = mqtt_rd_str(r);
		break;
	case KIND_BIN:
		out->str = mqtt_rd_bin(r);
		break;
	case KIND_NONE:
		r->bad = true;
		break;
	}
}

bool mqtt_prop_next(struct mqtt_rd *r, struct mqtt_prop *out)
{
	if (r->bad || r->p == r->end)
		return false;
	*out = (struct mqtt_prop){.start = r->p};
	/* The identifier is a variable byte integer; all that exist take one byte. */
	out->id = mqtt_rd_u8(r);
	if (out->id >= MQTT_PROP_ID_END) {
		r->bad = true;
		return false;
	}
	prop_value_read(r, (enum prop_kind)prop_info[out->id].kind, out);
	if (out->num == 0 && (prop_info[out->id].flags & NOT_ZERO))
		r->bad = true;
	out->size = (uint32_t)(r->p - out->start);
	return !r->bad;
}

static void prop_keep(const struct mqtt_prop *p, struct mqtt_props *out)
{
	switch (p->id) {
	case MQTT_PROP_SESSION_EXPIRY:
		out->session_expiry_s = p->num;
		break;
	case MQTT_PROP_MESSAGE_EXPIRY:
		out->message_expiry_s = p->num;
		break;
	case MQTT_PROP_MAXIMUM_PACKET_SIZE:
		out->maximum_packet_size = p->num;
		break;
	case MQTT_PROP_SUBSCRIPTION_ID:
		out->subscription_id = p->num;
		break;
	case MQTT_PROP_SERVER_KEEP_ALIVE:
		out->server_keep_alive_s = (uint16_t)p->num;
		break;
	case MQTT_PROP_RECEIVE_MAXIMUM:
		out->receive_maximum = (uint16_t)p->num;
		break;
	case MQTT_PROP_TOPIC_ALIAS_MAX:
		out->topic_alias_max = (uint16_t)p->num;
		break;
	case MQTT_PROP_TOPIC_ALIAS:
		out->topic_alias = (uint16_t)p->num;
		break;
	case MQTT_PROP_ASSIGNED_CLIENT_ID:
		out->assigned_client_id = p->str;
		break;
	default:
		break;
	}
}

/* May p stand in this packet, after those in seen? */
static bool prop_allowed(const struct mqtt_prop *p, unsigned where, uint64_t seen)
{
	bool again = seen >> p->id & 1u;

	if (!(prop_info[p->id].in & IN(where)))
		return false;
	if (again && !(prop_info[p->id].flags & REPEATABLE))
		return false;
	if (again && p->id == MQTT_PROP_SUBSCRIPTION_ID && where == MQTT_SUBSCRIBE)
		return false;
	/* 3.3.2-14.  A will's is left to the broker: the session must be followed all the same. */
	return p->id != MQTT_PROP_RESPONSE_TOPIC || where == MQTT_IN_WILL ||
	       mqtt_topic_valid(p->str.data, p->str.len);
}

int mqtt_props_parse(const uint8_t *data, size_t len, unsigned where, struct mqtt_props *out)
{
	struct mqtt_rd r = mqtt_rd_make(data, len);
	struct mqtt_prop p;

	*out = (struct mqtt_props){0};
	while (mqtt_prop_next(&r, &p)) {
		if (!prop_allowed(&p, where, out->seen))
			return -EPROTO;
		out->seen |= UINT64_C(1) << p.id;
		prop_keep(&p, out);
	}
	return r.bad ? -EPROTO : 0;
}

void mqtt_rd_props(struct mqtt_rd *r, unsigned where, struct mqtt_props *out)
{
	uint32_t len = mqtt_rd_varint(r);
	const uint8_t *data = mqtt_rd_take(r, len);

	*out = (struct mqtt_props){0};
	if (data && len > 0 && mqtt_props_parse(data, len, where, out) < 0)
		r->bad = true;
}
