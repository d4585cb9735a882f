/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Inside of the wire layer: bounded reader, writer helpers and properties.  Others use mqtt_wire.h.
 */
#ifndef MQTT_CODEC_H
#define MQTT_CODEC_H

#include <stdbool.h>
#include <stdint.h>

#include "mqtt_wire.h"

/* Reads p up to end.  A read that does not fit sets bad, yields zeros and takes nothing; after that
 * every read does, so that a parser may look once, at the end. */
struct mqtt_rd {
	const uint8_t *p;
	const uint8_t *end;
	bool bad;
};

/* p may be NULL: nothing. */
static inline struct mqtt_rd mqtt_rd_make(const uint8_t *p, size_t len)
{
	static const uint8_t none[1];

	return p ? (struct mqtt_rd){.p = p, .end = p + len}
		 : (struct mqtt_rd){.p = none, .end = none};
}

static inline size_t mqtt_rd_left(const struct mqtt_rd *r)
{
	return (size_t)(r->end - r->p);
}

/* Everything was read, and all of it was there. */
static inline bool mqtt_rd_done(const struct mqtt_rd *r)
{
	return !r->bad && r->p == r->end;
}

/* n bytes to be looked at by the caller, or NULL. */
static inline const uint8_t *mqtt_rd_take(struct mqtt_rd *r, size_t n)
{
	const uint8_t *p = r->p;

	if (r->bad || n > mqtt_rd_left(r)) {
		r->bad = true;
		return NULL;
	}
	r->p += n;
	return p;
}

static inline uint8_t mqtt_rd_u8(struct mqtt_rd *r)
{
	const uint8_t *p = mqtt_rd_take(r, 1);

	return p ? p[0] : 0;
}

static inline uint16_t mqtt_rd_u16(struct mqtt_rd *r)
{
	const uint8_t *p = mqtt_rd_take(r, 2);

	return p ? (uint16_t)(p[0] << 8 | p[1]) : 0;
}

static inline uint32_t mqtt_rd_u32(struct mqtt_rd *r)
{
	uint32_t high = mqtt_rd_u16(r);

	return high << 16 | mqtt_rd_u16(r);
}

/* 1.5.6 binary data: two bytes of length, then that many.  Failed: empty. */
static inline struct mqtt_str mqtt_rd_bin(struct mqtt_rd *r)
{
	uint16_t len = mqtt_rd_u16(r);
	const uint8_t *p = mqtt_rd_take(r, len);

	return (struct mqtt_str){p, p ? len : 0};
}

/* 1.5.5, in the fewest bytes, as it says. */
uint32_t mqtt_rd_varint(struct mqtt_rd *r);

/* 1.5.4: binary data that is valid UTF-8. */
struct mqtt_str mqtt_rd_str(struct mqtt_rd *r);

/* Bytes that v takes as a variable byte integer; v <= MQTT_REMAINING_MAX. */
static inline unsigned mqtt_varint_size(uint32_t v)
{
	return v < 128u ? 1 : v < 16384u ? 2 : v < 2097152u ? 3 : 4;
}

/* Writes it, gives the first byte after it. */
static inline uint8_t *mqtt_varint_put(uint8_t *dst, uint32_t v)
{
	while (v >= 128u) {
		*dst++ = (uint8_t)(v | 0x80u);
		v >>= 7;
	}
	*dst++ = (uint8_t)v;
	return dst;
}

/* Property identifiers, 2.2.2.2 */
enum mqtt_prop_id {
	MQTT_PROP_PAYLOAD_FORMAT = 0x01,
	MQTT_PROP_MESSAGE_EXPIRY = 0x02,
	MQTT_PROP_CONTENT_TYPE = 0x03,
	MQTT_PROP_RESPONSE_TOPIC = 0x08,
	MQTT_PROP_CORRELATION_DATA = 0x09,
	MQTT_PROP_SUBSCRIPTION_ID = 0x0b,
	MQTT_PROP_SESSION_EXPIRY = 0x11,
	MQTT_PROP_ASSIGNED_CLIENT_ID = 0x12,
	MQTT_PROP_SERVER_KEEP_ALIVE = 0x13,
	MQTT_PROP_AUTH_METHOD = 0x15,
	MQTT_PROP_AUTH_DATA = 0x16,
	MQTT_PROP_REQUEST_PROBLEM = 0x17,
	MQTT_PROP_WILL_DELAY = 0x18,
	MQTT_PROP_REQUEST_RESPONSE = 0x19,
	MQTT_PROP_RESPONSE_INFO = 0x1a,
	MQTT_PROP_SERVER_REFERENCE = 0x1c,
	MQTT_PROP_REASON_STRING = 0x1f,
	MQTT_PROP_RECEIVE_MAXIMUM = 0x21,
	MQTT_PROP_TOPIC_ALIAS_MAX = 0x22,
	MQTT_PROP_TOPIC_ALIAS = 0x23,
	MQTT_PROP_MAXIMUM_QOS = 0x24,
	MQTT_PROP_RETAIN_AVAILABLE = 0x25,
	MQTT_PROP_USER_PROPERTY = 0x26,
	MQTT_PROP_MAXIMUM_PACKET_SIZE = 0x27,
	MQTT_PROP_WILDCARD_AVAILABLE = 0x28,
	MQTT_PROP_SUB_ID_AVAILABLE = 0x29,
	MQTT_PROP_SHARED_AVAILABLE = 0x2a,
	MQTT_PROP_ID_END
};

/* Where properties stand: an enum mqtt_type, or this. */
#define MQTT_IN_WILL 0u

/* One property as it lies in the packet. */
struct mqtt_prop {
	uint8_t id;           /* enum mqtt_prop_id */
	const uint8_t *start; /* identifier byte */
	uint32_t size;        /* bytes from start, value included */
	uint32_t num;         /* value, if a number */
	struct mqtt_str str;  /* value, if a string or binary data */
};

/* Next property of r; false at the end, or with r->bad if it is malformed.  Identifier and value
 * are checked, not whether they may stand here. */
bool mqtt_prop_next(struct mqtt_rd *r, struct mqtt_prop *out);

/* What the users of a checked property block want to know of it; 0 where absent. */
struct mqtt_props {
	uint64_t seen; /* bit per identifier */
	uint32_t session_expiry_s;
	uint32_t message_expiry_s;
	uint32_t maximum_packet_size;
	uint32_t subscription_id; /* the last one */
	uint16_t server_keep_alive_s;
	uint16_t receive_maximum;
	uint16_t topic_alias_max;
	uint16_t topic_alias;
	struct mqtt_str assigned_client_id;
};

static inline bool mqtt_props_has(const struct mqtt_props *p, enum mqtt_prop_id id)
{
	return p->seen >> id & 1u;
}

/* Checks data[0, len), properties without their length, of a packet of type where.  0, -EPROTO. */
int mqtt_props_parse(const uint8_t *data, size_t len, unsigned where, struct mqtt_props *out);

/* Reads length and properties from r. */
void mqtt_rd_props(struct mqtt_rd *r, unsigned where, struct mqtt_props *out);

#endif
