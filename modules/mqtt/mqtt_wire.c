// SPDX-License-Identifier: BSD-3-Clause
/*
 * Parsers of the packets that make and end sessions and subscriptions, and of acknowledgements.
 * Input: a complete packet body of a client or a server; output: what the stage has to know of it.
 * A SUBSCRIBE is checked as a whole, then iterated in place, so that its length is no limit.
 * State: none.  Thread: any.
 */
#include <errno.h>
#include <string.h>

#include "mqtt_codec.h"

/* 3.1.2.3 */
#define CONNECT_RESERVED    0x01u
#define CONNECT_CLEAN       0x02u
#define CONNECT_WILL        0x04u
#define CONNECT_WILL_QOS    0x18u
#define CONNECT_WILL_RETAIN 0x20u
#define CONNECT_PASSWORD    0x40u
#define CONNECT_USERNAME    0x80u

#define CONNECT_BRIDGE 0x80u /* in the level byte */

#define RECEIVE_MAXIMUM_DEFAULT 65535u /* 3.1.2.11.3 */

/* 3.8.3.1 */
#define SUB_QOS             0x03u
#define SUB_NO_LOCAL        0x04u
#define SUB_RAP             0x08u
#define SUB_RETAIN_HANDLING 0x30u
#define SUB_RESERVED        0xc0u

#define UNSUBACK_NO_SUBSCRIPTION 0x11u
#define REASON_ERROR             0x80u /* and above: failed */

static int rd_result(const struct mqtt_rd *r)
{
	return mqtt_rd_done(r) ? 0 : -EPROTO;
}

static bool str_is(const struct mqtt_str *s, const char *text)
{
	return s->len == strlen(text) && memcmp(s->data, text, s->len) == 0;
}

/* ---- CONNECT -------------------------------------------------------------------------------- */

/* 3.1.2.1, 3.1.2.2; "MQIsdp" is MQTT 3.1 */
static void connect_protocol_read(struct mqtt_rd *r, struct mqtt_connect *out)
{
	struct mqtt_str name = mqtt_rd_bin(r);
	uint8_t byte = mqtt_rd_u8(r);

	out->level = byte & (uint8_t)~CONNECT_BRIDGE;
	out->bridge = byte & CONNECT_BRIDGE;
	if (r->bad)
		return;
	if (str_is(&name, "MQIsdp"))
		r->bad = out->level != MQTT_LEVEL_31;
	else
		r->bad = !str_is(&name, "MQTT") ||
			 (out->level != MQTT_LEVEL_311 && out->level != MQTT_LEVEL_5);
}

static bool connect_flags_valid(uint8_t level, uint8_t flags)
{
	if ((flags & CONNECT_WILL_QOS) == CONNECT_WILL_QOS) /* 3.1.2-12 */
		return false;
	/* v3 3.1.2-22; allowed in level 5 */
	if (level != MQTT_LEVEL_5 && (flags & CONNECT_PASSWORD) && !(flags & CONNECT_USERNAME))
		return false;
	if (level == MQTT_LEVEL_31) /* leaves the rest open, and mosquitto does not look */
		return true;
	if (flags & CONNECT_RESERVED) /* 3.1.2-3 */
		return false;
	/* 3.1.2-11, 3.1.2-13 */
	return (flags & CONNECT_WILL) || !(flags & (CONNECT_WILL_QOS | CONNECT_WILL_RETAIN));
}

static void connect_props_read(struct mqtt_rd *r, struct mqtt_connect *out)
{
	struct mqtt_props props;

	mqtt_rd_props(r, MQTT_CONNECT, &props);
	out->session_expiry_s = props.session_expiry_s;
	out->maximum_packet_size = props.maximum_packet_size;
	out->topic_alias_max = props.topic_alias_max;
	if (props.receive_maximum)
		out->receive_maximum = props.receive_maximum;
}

static void connect_will_read(struct mqtt_rd *r, uint8_t level)
{
	struct mqtt_props props;
	struct mqtt_str topic;

	if (level == MQTT_LEVEL_5)
		mqtt_rd_props(r, MQTT_IN_WILL, &props);
	topic = mqtt_rd_bin(r);
	mqtt_rd_bin(r); /* payload */
	if (!r->bad && !mqtt_topic_valid(topic.data, topic.len))
		r->bad = true;
}

static void connect_login_read(struct mqtt_rd *r, uint8_t flags, struct mqtt_connect *out)
{
	/* MQTT 3.1: flags may announce what is not there. */
	bool may_end = out->level == MQTT_LEVEL_31;

	if ((flags & CONNECT_USERNAME) && !(may_end && mqtt_rd_left(r) == 0)) {
		out->has_username = true;
		out->username = mqtt_rd_str(r);
	}
	if ((flags & CONNECT_PASSWORD) && !(may_end && mqtt_rd_left(r) == 0))
		mqtt_rd_bin(r);
}

/* Up to the ClientID; returns the flags.  With the bridge bit at level 5 mosquitto reads no
 * properties: what they would be is the ClientID, which says whose session it is. */
static uint8_t connect_head_read(struct mqtt_rd *r, struct mqtt_connect *out)
{
	uint8_t flags;

	*out = (struct mqtt_connect){.receive_maximum = RECEIVE_MAXIMUM_DEFAULT};
	connect_protocol_read(r, out);
	flags = mqtt_rd_u8(r);
	if (r->bad || !connect_flags_valid(out->level, flags)) {
		r->bad = true;
		return flags;
	}
	out->clean = flags & CONNECT_CLEAN;
	out->has_will = flags & CONNECT_WILL;
	out->keep_alive_s = mqtt_rd_u16(r);
	if (out->level == MQTT_LEVEL_5 && !out->bridge)
		connect_props_read(r, out);
	else if (out->level == MQTT_LEVEL_5 && !out->clean)
		out->session_expiry_s = UINT32_MAX;
	if (out->level == MQTT_LEVEL_5)
		out->bridge = false;
	out->client_id = mqtt_rd_str(r);
	return flags;
}

/* Bytes up to the end of the ClientID, as far as can be said: more than avail if they are not all
 * there, 0 if no protocol begins so. */
static size_t connect_head_size(const uint8_t *body, size_t avail)
{
	struct mqtt_rd r = mqtt_rd_make(body, avail);
	struct mqtt_str name = mqtt_rd_bin(&r);
	uint8_t level = mqtt_rd_u8(&r);

	if (avail >= 2 && body[0] != 0)
		return 0;
	if (avail >= 2 && body[1] != strlen("MQTT") && body[1] != strlen("MQIsdp"))
		return 0;
	if (name.len != 0 && !str_is(&name, "MQTT") && !str_is(&name, "MQIsdp"))
		return 0;
	mqtt_rd_take(&r, 1 + 2); /* flags, keep alive */
	if (level == MQTT_LEVEL_5)
		mqtt_rd_take(&r, mqtt_rd_varint(&r));
	mqtt_rd_bin(&r);
	return r.bad ? avail + 1 : (size_t)(r.p - body);
}

int mqtt_connect_begin(uint8_t first, const uint8_t *body, size_t avail, uint32_t remaining,
		       struct mqtt_connect *out)
{
	size_t n = connect_head_size(body, avail);
	struct mqtt_rd r;

	if (n == 0 || remaining <= sizeof(uint16_t) + strlen("MQTT"))
		return -EPROTONOSUPPORT;
	if (n > remaining)
		return -EPROTO;
	if (n > avail)
		return 0;
	r = mqtt_rd_make(body, n);
	connect_head_read(&r, out);
	if (out->level != MQTT_LEVEL_31 && (first & 0x0fu) != 0) /* v3 2.2.2 */
		r.bad = true;
	return r.bad ? -EPROTO : 1;
}

int mqtt_connect_parse(const uint8_t *body, size_t len, struct mqtt_connect *out)
{
	struct mqtt_rd r = mqtt_rd_make(body, len);
	uint8_t flags = connect_head_read(&r, out);

	if (r.bad)
		return -EPROTO;
	if (out->has_will)
		connect_will_read(&r, out->level);
	connect_login_read(&r, flags, out);
	return rd_result(&r);
}

/* ---- CONNACK -------------------------------------------------------------------------------- */

int mqtt_connack_parse(uint8_t level, const uint8_t *body, size_t len, struct mqtt_connack *out)
{
	struct mqtt_rd r = mqtt_rd_make(body, len);
	uint8_t flags = mqtt_rd_u8(&r);
	struct mqtt_props props;

	*out = (struct mqtt_connack){.reason = mqtt_rd_u8(&r)};
	if (level >= MQTT_LEVEL_311) {
		out->session_present = flags & 1u;
		/* 3.2.2-1, 3.2.2-6 */
		if ((flags & ~1u) || (out->session_present && out->reason != 0))
			return -EPROTO;
	}
	if (level >= MQTT_LEVEL_5) {
		mqtt_rd_props(&r, MQTT_CONNACK, &props);
		out->has_assigned_id = mqtt_props_has(&props, MQTT_PROP_ASSIGNED_CLIENT_ID);
		out->assigned_id = props.assigned_client_id;
		out->has_keep_alive = mqtt_props_has(&props, MQTT_PROP_SERVER_KEEP_ALIVE);
		out->keep_alive_s = props.server_keep_alive_s;
		out->has_session_expiry = mqtt_props_has(&props, MQTT_PROP_SESSION_EXPIRY);
		out->session_expiry_s = props.session_expiry_s;
		out->maximum_packet_size = props.maximum_packet_size;
		out->topic_alias_max = props.topic_alias_max;
	}
	return rd_result(&r);
}

/* ---- SUBSCRIBE, UNSUBSCRIBE ----------------------------------------------------------------- */

static bool sub_options_valid(uint8_t level, uint8_t options)
{
	if ((options & SUB_QOS) == 3) /* v3 3.8.3-4 */
		return false;
	if (level < MQTT_LEVEL_5)
		return (options & ~SUB_QOS) == 0;
	/* 3.8.3-5.  No Local on a shared subscription is an error too (3.8.3-4), but mosquitto
	 * grants it. */
	return !(options & SUB_RESERVED) && (options & SUB_RETAIN_HANDLING) != SUB_RETAIN_HANDLING;
}

/* Packet identifier and properties; leaves r at the first item. */
static void sub_head_read(struct mqtt_rd *r, uint8_t level, unsigned type,
			  struct mqtt_subscribe *out)
{
	struct mqtt_props props;

	*out = (struct mqtt_subscribe){.packet_id = mqtt_rd_u16(r)};
	if (out->packet_id == 0) /* 2.2.1-3 */
		r->bad = true;
	if (level >= MQTT_LEVEL_5) {
		mqtt_rd_props(r, type, &props);
		out->sub_id = props.subscription_id;
	}
	out->items = r->p;
	out->items_len = mqtt_rd_left(r);
}

/* Filter and, in a SUBSCRIBE, options of the next item. */
static struct mqtt_str sub_item_read(struct mqtt_rd *r, uint8_t *options)
{
	struct mqtt_str filter = mqtt_rd_bin(r);

	if (options)
		*options = mqtt_rd_u8(r);
	return filter;
}

static int sub_parse(uint8_t level, unsigned type, struct mqtt_rd *r, struct mqtt_subscribe *out)
{
	struct mqtt_str filter;
	uint8_t options = 0;

	sub_head_read(r, level, type, out);
	while (!r->bad && r->p < r->end) {
		filter = sub_item_read(r, type == MQTT_SUBSCRIBE ? &options : NULL);
		if (r->bad || !mqtt_filter_valid(filter.data, filter.len) ||
		    !sub_options_valid(level, options))
			return -EPROTO;
		out->n++;
	}
	/* 3.8.3-2, 3.10.3-2; mosquitto answers an empty one of MQTT 3.1 */
	if (out->n == 0 && level != MQTT_LEVEL_31)
		return -EPROTO;
	return rd_result(r);
}

int mqtt_subscribe_parse(uint8_t level, const uint8_t *body, size_t len, struct mqtt_subscribe *out)
{
	struct mqtt_rd r = mqtt_rd_make(body, len);

	return sub_parse(level, MQTT_SUBSCRIBE, &r, out);
}

int mqtt_unsubscribe_parse(uint8_t level, const uint8_t *body, size_t len,
			   struct mqtt_subscribe *out)
{
	struct mqtt_rd r = mqtt_rd_make(body, len);

	return sub_parse(level, MQTT_UNSUBSCRIBE, &r, out);
}

static bool sub_next(struct mqtt_subscribe *it, struct mqtt_sub_item *item, bool has_options)
{
	struct mqtt_rd r = mqtt_rd_make(it->items, it->items_len);
	uint8_t options = 0;

	*item = (struct mqtt_sub_item){0};
	if (it->n == 0)
		return false;
	item->filter = sub_item_read(&r, has_options ? &options : NULL);
	if (r.bad)
		return false;
	item->qos = options & SUB_QOS;
	item->no_local = options & SUB_NO_LOCAL;
	item->rap = options & SUB_RAP;
	item->retain_handling = (options & SUB_RETAIN_HANDLING) >> 4;
	it->items = r.p;
	it->items_len = mqtt_rd_left(&r);
	it->n--;
	return true;
}

bool mqtt_subscribe_next(struct mqtt_subscribe *it, struct mqtt_sub_item *item)
{
	return sub_next(it, item, true);
}

bool mqtt_unsubscribe_next(struct mqtt_subscribe *it, struct mqtt_sub_item *item)
{
	return sub_next(it, item, false);
}

/* ---- acknowledgements ----------------------------------------------------------------------- */

/* Packet identifier, properties, codes up to the end. */
static int codes_parse(uint8_t level, unsigned type, struct mqtt_rd *r, struct mqtt_suback *out)
{
	struct mqtt_props props;

	*out = (struct mqtt_suback){.packet_id = mqtt_rd_u16(r)};
	if (level >= MQTT_LEVEL_5)
		mqtt_rd_props(r, type, &props);
	out->n = mqtt_rd_left(r);
	out->codes = mqtt_rd_take(r, out->n);
	return r->bad || out->packet_id == 0 ? -EPROTO : 0;
}

int mqtt_suback_parse(uint8_t level, const uint8_t *body, size_t len, struct mqtt_suback *out)
{
	struct mqtt_rd r = mqtt_rd_make(body, len);
	size_t i;

	if (codes_parse(level, MQTT_SUBACK, &r, out) < 0)
		return -EPROTO;
	for (i = 0; i < out->n; i++) {
		if (out->codes[i] > 2 && out->codes[i] < REASON_ERROR) /* 3.9.3 */
			return -EPROTO;
	}
	return out->n == 0 && level != MQTT_LEVEL_31 ? -EPROTO : 0;
}

int mqtt_unsuback_parse(uint8_t level, const uint8_t *body, size_t len, struct mqtt_suback *out)
{
	struct mqtt_rd r = mqtt_rd_make(body, len);
	size_t i;

	if (codes_parse(level, MQTT_UNSUBACK, &r, out) < 0)
		return -EPROTO;
	for (i = 0; i < out->n; i++) {
		if (out->codes[i] != 0 && out->codes[i] != UNSUBACK_NO_SUBSCRIPTION &&
		    out->codes[i] < REASON_ERROR) /* 3.11.3 */
			return -EPROTO;
	}
	return (level >= MQTT_LEVEL_5) == (out->n > 0) ? 0 : -EPROTO;
}

int mqtt_disconnect_parse(uint8_t level, const uint8_t *body, size_t len, uint8_t *reason,
			  bool *has_expiry, uint32_t *expiry_s)
{
	struct mqtt_rd r = mqtt_rd_make(body, len);
	struct mqtt_props props = {0};

	*reason = 0;
	/* 3.14.2.1, 3.14.2.2.1 */
	if (level >= MQTT_LEVEL_5 && mqtt_rd_left(&r) > 0)
		*reason = mqtt_rd_u8(&r);
	if (level >= MQTT_LEVEL_5 && mqtt_rd_left(&r) > 0)
		mqtt_rd_props(&r, MQTT_DISCONNECT, &props);
	*has_expiry = mqtt_props_has(&props, MQTT_PROP_SESSION_EXPIRY);
	*expiry_s = props.session_expiry_s;
	return rd_result(&r);
}
