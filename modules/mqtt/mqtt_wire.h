/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * MQTT on the wire: framing, checked parsers, and the encoding of deliveries.  MQTT 3.1 (level 3),
 * 3.1.1 (level 4) and 5.0 (level 5); clause numbers are those of the OASIS texts (v3: 3.1.1).
 *
 * Pure functions over {bytes, length}: no allocation, no I/O, no state but what the caller passes,
 * any thread.  Nothing in the input is trusted; results point into it and live as long as it does.
 * Work is linear in the bytes given.
 *
 * A parser answers 0 or -EPROTO.  -EPROTO means: do not act on this packet; the broker gets it
 * unchanged and decides.  Framing is not lost by it.  PUBLISH is parsed strictly, because the stage
 * acts in the broker's place.  All others only follow what the broker does, so that they accept
 * what mosquitto 2.0.11 was seen to accept against the text; each place says so.
 */
#ifndef MQTT_WIRE_H
#define MQTT_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* 2.1.2 */
enum mqtt_type {
	MQTT_CONNECT = 1,
	MQTT_CONNACK,
	MQTT_PUBLISH,
	MQTT_PUBACK,
	MQTT_PUBREC,
	MQTT_PUBREL,
	MQTT_PUBCOMP,
	MQTT_SUBSCRIBE,
	MQTT_SUBACK,
	MQTT_UNSUBSCRIBE,
	MQTT_UNSUBACK,
	MQTT_PINGREQ,
	MQTT_PINGRESP,
	MQTT_DISCONNECT,
	MQTT_AUTH, /* level 5 only */
};

enum mqtt_level {
	MQTT_LEVEL_31 = 3,
	MQTT_LEVEL_311 = 4,
	MQTT_LEVEL_5 = 5,
};

#define MQTT_FIXED_MAX     5u         /* fixed header, bytes */
#define MQTT_REMAINING_MAX 268435455u /* 1.5.5 */
#define MQTT_TOPIC_MAX     65535u     /* 1.5.4, bytes */

#define MQTT_PUBLISH_RETAIN 0x01u /* 3.3.1, low bits of the first byte */
#define MQTT_PUBLISH_QOS    0x06u
#define MQTT_PUBLISH_DUP    0x08u

struct mqtt_str {
	const uint8_t *data; /* not terminated */
	uint16_t len;
};

static inline enum mqtt_type mqtt_first_type(uint8_t first)
{
	return (enum mqtt_type)(first >> 4);
}

/* ---- framing (mqtt_framer.c) ---------------------------------------------------------------- */

/* Fixed header in data[0, len): its length 2..5, 0 = need more bytes, -EPROTO = malformed remaining
 * length (a fifth byte, 1.5.5).  A value in more bytes than it needs is accepted, as mosquitto
 * does.  Type and flags are not looked at: mqtt_first_valid(). */
int mqtt_fixed_parse(const uint8_t *data, size_t len, uint8_t *first, uint32_t *remaining);

/* Fixed header into dst[0, MQTT_FIXED_MAX): its length 2..5.  remaining <= MQTT_REMAINING_MAX. */
size_t mqtt_fixed_encode(uint8_t *dst, uint8_t first, uint32_t remaining);

/* Type known at this level and its reserved flag bits as 2.1.3 says. */
bool mqtt_first_valid(uint8_t level, uint8_t first);

/* By its fixed header: a packet of a client's, behind which the broker surely reads on.  Not AUTH:
 * what the broker makes of one is not known. */
bool mqtt_client_sound(uint8_t level, uint8_t first, uint32_t remaining);

/* Follows the packet boundaries of a byte stream whatever the split.  All zero = at a boundary. */
struct mqtt_framer {
	uint32_t left; /* body bytes still to come */
	uint8_t hdr[MQTT_FIXED_MAX];
	uint8_t hdr_n;  /* bytes of hdr taken; 0 at a boundary */
	uint8_t broken; /* framing is lost; hdr_n bytes of hdr were taken before that */
	uint8_t reserved[5];
};

enum mqtt_framer_event {
	MQTT_FR_MORE,   /* all bytes taken, fixed header incomplete (or no byte given) */
	MQTT_FR_HEADER, /* fixed header complete; data/len = its bytes, in f->hdr */
	MQTT_FR_BODY,   /* a piece of the body; data/len = where it lies in the input */
	MQTT_FR_ERROR,  /* malformed remaining length; framing is lost, and stays lost */
};

struct mqtt_frame_part {
	uint8_t first;      /* of this packet; HEADER and BODY */
	uint32_t remaining; /* of this packet, from its fixed header */
	const uint8_t *data;
	size_t len;
	bool last; /* the packet ends with this part */
};

/*
 * Takes at most one event's bytes from data[0, len): returns how many.  ERROR and len == 0 take
 * none.  Call until everything is taken; the HEADER of a packet without a body is its last part.
 * part->data of a HEADER is valid until the next call.
 */
size_t mqtt_framer_feed(struct mqtt_framer *f, const uint8_t *data, size_t len,
			enum mqtt_framer_event *ev, struct mqtt_frame_part *part);

/* At a packet boundary: bytes may be put into the stream here. */
bool mqtt_framer_idle(const struct mqtt_framer *f);

/* ---- strings (mqtt_props.c) ----------------------------------------------------------------- */

/* Well-formed UTF-8 without U+0000 and surrogates (1.5.4-1, 1.5.4-2), length 0 included.
 * mosquitto also refuses control characters U+0001..1F, U+007F..9F and non-characters, which 1.5.4
 * leaves open; so does this. */
bool mqtt_utf8_valid(const uint8_t *s, size_t len);

/* Topic name: 1..65535 bytes, valid UTF-8, no wildcard (4.7.1, 4.7.3). */
bool mqtt_topic_valid(const uint8_t *s, size_t len);

/* Topic filter: 1..65535 bytes, valid UTF-8, wildcards only where 4.7.1 allows them.  What 4.8.2
 * asks of a shared one is not looked at: mosquitto grants "$share//a" and "$share/+/a" and shares
 * a, and grants "$share/a" and "$share/g/", which match nothing. */
bool mqtt_filter_valid(const uint8_t *s, size_t len);

/* ---- session packets (mqtt_wire.c) ---------------------------------------------------------- */

/* All take the complete body (the remaining-length bytes) of a packet. */

/* 3.1 */
struct mqtt_connect {
	uint8_t level; /* 3, 4, 5; without the bridge bit */
	bool bridge;   /* 0x80 in the level byte, as mosquitto's bridges set it at 3 and 4 */
	bool clean;    /* Clean Session, Clean Start */
	bool has_will;
	uint16_t keep_alive_s;
	uint32_t session_expiry_s;    /* level 5; 0 if absent, 0xffffffff = never */
	uint32_t maximum_packet_size; /* bytes, 0 = none */
	uint16_t receive_maximum;     /* 65535 if absent */
	uint16_t topic_alias_max;
	struct mqtt_str client_id; /* may be empty: the server chooses */
	bool has_username;
	struct mqtt_str username;
};

int mqtt_connect_parse(const uint8_t *body, size_t len, struct mqtt_connect *out);

/*
 * The same of the first avail <= remaining bytes, which have to reach to the end of the ClientID:
 * 1, what is behind it not looked at; 0 = need more bytes; -EPROTO = malformed; -EPROTONOSUPPORT =
 * the protocol name, or the bytes there are for one, cannot be MQTT's: TLS begins like a CONNECT
 * of 3 bytes.  First byte: its low bits are 0 but at level 3, where mosquitto does not look.
 */
int mqtt_connect_begin(uint8_t first, const uint8_t *body, size_t avail, uint32_t remaining,
		       struct mqtt_connect *out);

/* 3.2.  level is that of the CONNECT. */
struct mqtt_connack {
	bool session_present;
	uint8_t reason; /* 0 = accepted, at every level */
	bool has_assigned_id;
	struct mqtt_str assigned_id;
	bool has_keep_alive;
	uint16_t keep_alive_s;
	bool has_session_expiry;
	uint32_t session_expiry_s;
	uint32_t maximum_packet_size; /* bytes, 0 = none */
	uint16_t topic_alias_max;
};

int mqtt_connack_parse(uint8_t level, const uint8_t *body, size_t len, struct mqtt_connack *out);

/* 3.8, 3.10: the whole packet is checked before the first item is handed out. */
struct mqtt_sub_item {
	struct mqtt_str filter; /* $share/name/filter as is */
	uint8_t qos;
	bool no_local;
	bool rap; /* Retain As Published */
	uint8_t retain_handling;
};

struct mqtt_subscribe {
	uint16_t packet_id;
	uint32_t sub_id; /* 0 = none */
	const uint8_t *items;
	size_t items_len; /* bytes */
	unsigned n;       /* items left */
};

int mqtt_subscribe_parse(uint8_t level, const uint8_t *body, size_t len,
			 struct mqtt_subscribe *out);
int mqtt_unsubscribe_parse(uint8_t level, const uint8_t *body, size_t len,
			   struct mqtt_subscribe *out);

/* Next item, consumed from it->items; false after the last.  Only after a parse that said 0. */
bool mqtt_subscribe_next(struct mqtt_subscribe *it, struct mqtt_sub_item *item);
bool mqtt_unsubscribe_next(struct mqtt_subscribe *it, struct mqtt_sub_item *item);

/* 3.9, 3.11: codes in the order of the request's filters; UNSUBACK of level 3 and 4: n = 0. */
struct mqtt_suback {
	uint16_t packet_id;
	const uint8_t *codes;
	size_t n;
};

int mqtt_suback_parse(uint8_t level, const uint8_t *body, size_t len, struct mqtt_suback *out);
int mqtt_unsuback_parse(uint8_t level, const uint8_t *body, size_t len, struct mqtt_suback *out);

/* 3.14.  *reason 0 where none is sent; 4 = the will is to be sent. */
int mqtt_disconnect_parse(uint8_t level, const uint8_t *body, size_t len, uint8_t *reason,
			  bool *has_expiry, uint32_t *expiry_s);

/* ---- PUBLISH (mqtt_publish.c) --------------------------------------------------------------- */

/* 3.3 */
struct mqtt_publish {
	uint8_t qos;
	bool dup;
	bool retain;
	struct mqtt_str topic; /* empty only with has_alias */
	uint16_t packet_id;    /* 0 at QoS 0 */
	const uint8_t *props;  /* level 5: after the length varint; NULL at level 3 and 4 */
	uint32_t props_len;
	uint32_t payload_off; /* from the start of the body */
	bool has_alias;
	uint16_t alias;
	bool has_expiry;
	uint32_t expiry_s;
	bool has_sub_id; /* only a server may send one (3.3.4-6) */
};

/*
 * Works on the first avail <= remaining bytes of the body: payload_off > 0 when topic, packet
 * identifier and properties are complete and valid (*out filled), 0 = need more bytes, -EPROTO =
 * malformed.  What is wrong in bytes that are there may be noticed only once more have arrived, but
 * never later than with the last header byte.
 */
int mqtt_publish_parse(uint8_t level, uint8_t first, const uint8_t *body, size_t avail,
		       uint32_t remaining, struct mqtt_publish *out);

/*
 * Delivery of p as a QoS 0, RETAIN 0 PUBLISH to a subscriber of this level.  Level 5: the
 * publisher's properties verbatim and in order without topic alias and subscription identifiers,
 * message expiry replaced by expiry_s, then sub_ids (each 1..268435455).  Level 3 and 4: none.
 * p->topic must be the full topic (an alias resolved by the caller), bytes of p still there.
 */

/* Whole packet, bytes, the fixed header and payload_len included; 0 = longer than MQTT can say. */
size_t mqtt_deliver_size(uint8_t level, const struct mqtt_publish *p, const uint32_t *sub_ids,
			 unsigned sub_id_n, uint32_t payload_len);

/* Everything before the payload into dst[0, room): bytes written, 0 = no room or too long. */
size_t mqtt_deliver_head(uint8_t *dst, size_t room, uint8_t level, const struct mqtt_publish *p,
			 const uint32_t *sub_ids, unsigned sub_id_n, uint32_t expiry_s,
			 uint32_t payload_len);

#endif
