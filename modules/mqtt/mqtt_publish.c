// SPDX-License-Identifier: BSD-3-Clause
/*
 * PUBLISH (3.3): its header, as soon as enough bytes have come, and the header of the delivery that
 * is made of it for a subscriber of any version.  The payload is never looked at.
 * Input: the start of a packet body; output: where its parts lie, or bytes of a new header.
 * State: none.  Thread: any.
 */
#include <errno.h>
#include <string.h>

#include "mqtt_codec.h"

#define PUBLISH_FIRST ((uint8_t)(MQTT_PUBLISH << 4)) /* QoS 0, RETAIN 0, DUP 0 */

/* ---- parse ---------------------------------------------------------------------------------- */

/* The extent of a header, before anything in it is checked. */
struct publish_extent {
	uint32_t topic_len;
	uint32_t props_off; /* after the length varint */
	uint32_t props_len;
};

/* Property length at off: 1 and props_off/props_len set, 0 = need more, -EPROTO. */
static int props_extent(const uint8_t *body, size_t avail, uint32_t off, uint32_t remaining,
			struct publish_extent *x)
{
	struct mqtt_rd r;
	uint32_t n = 0; /* length bytes there */

	while (n < 4 && off + n < avail && (body[off + n] & 0x80u))
		n++;
	if (n < 4 && off + n >= avail)
		return off + n >= remaining ? -EPROTO : 0;
	r = mqtt_rd_make(body + off, avail - off);
	x->props_len = mqtt_rd_varint(&r);
	if (r.bad)
		return -EPROTO;
	x->props_off = off + n + 1;
	return x->props_len > remaining - x->props_off ? -EPROTO : 1;
}

/* 1 and x set when the whole header is there, 0 = need more, -EPROTO = it cannot fit. */
static int publish_extent(uint8_t level, uint8_t qos, const uint8_t *body, size_t avail,
			  uint32_t remaining, struct publish_extent *x)
{
	uint32_t off;
	int rc;

	if (remaining < 2)
		return -EPROTO;
	if (avail < 2)
		return 0;
	x->topic_len = (uint32_t)body[0] << 8 | body[1];
	off = 2 + x->topic_len + (qos > 0 ? 2 : 0);
	if (off > remaining)
		return -EPROTO;
	x->props_off = off;
	x->props_len = 0;
	if (level >= MQTT_LEVEL_5) {
		rc = props_extent(body, avail, off, remaining, x);
		if (rc <= 0)
			return rc;
	}
	return avail >= x->props_off + x->props_len;
}

static int publish_props_parse(const struct publish_extent *x, const uint8_t *body,
			       struct mqtt_publish *out)
{
	struct mqtt_props props;

	out->props = body + x->props_off;
	out->props_len = x->props_len;
	if (x->props_len == 0)
		return 0;
	if (mqtt_props_parse(out->props, out->props_len, MQTT_PUBLISH, &props) < 0)
		return -EPROTO;
	out->has_alias = mqtt_props_has(&props, MQTT_PROP_TOPIC_ALIAS);
	out->alias = props.topic_alias;
	out->has_expiry = mqtt_props_has(&props, MQTT_PROP_MESSAGE_EXPIRY);
	out->expiry_s = props.message_expiry_s;
	out->has_sub_id = mqtt_props_has(&props, MQTT_PROP_SUBSCRIPTION_ID);
	return 0;
}

int mqtt_publish_parse(uint8_t level, uint8_t first, const uint8_t *body, size_t avail,
		       uint32_t remaining, struct mqtt_publish *out)
{
	struct publish_extent x;
	int rc;

	*out = (struct mqtt_publish){
		.qos = (first & MQTT_PUBLISH_QOS) >> 1,
		.dup = first & MQTT_PUBLISH_DUP,
		.retain = first & MQTT_PUBLISH_RETAIN,
	};
	if (mqtt_first_type(first) != MQTT_PUBLISH || remaining > MQTT_REMAINING_MAX)
		return -EPROTO;
	if (out->qos == 3 || (out->dup && out->qos == 0)) /* 3.3.1-4, 3.3.1-2 */
		return -EPROTO;
	if (avail > remaining)
		avail = remaining;
	rc = publish_extent(level, out->qos, body, avail, remaining, &x);
	if (rc <= 0)
		return rc;

	out->topic = (struct mqtt_str){body + 2, (uint16_t)x.topic_len};
	if (out->qos > 0) {
		const uint8_t *id = body + 2 + x.topic_len;

		out->packet_id = (uint16_t)(id[0] << 8 | id[1]);
		if (out->packet_id == 0) /* 2.2.1-3 */
			return -EPROTO;
	}
	if (level >= MQTT_LEVEL_5 && publish_props_parse(&x, body, out) < 0)
		return -EPROTO;
	/* 3.3.2-1, 3.3.2-2, 4.7.3-1; an alias stands for the topic, 3.3.2.3.4 */
	if (!(x.topic_len == 0 && out->has_alias) && !mqtt_topic_valid(body + 2, x.topic_len))
		return -EPROTO;
	out->payload_off = x.props_off + x.props_len;
	return (int)out->payload_off;
}

/* ---- delivery ------------------------------------------------------------------------------- */

/* Not for the subscriber: a topic alias is between the publisher and the server (3.3.2.3.4), and
 * subscription identifiers are the subscriber's own. */
static bool prop_dropped(uint8_t id)
{
	return id == MQTT_PROP_TOPIC_ALIAS || id == MQTT_PROP_SUBSCRIPTION_ID;
}

/* Bytes of p's properties that are passed on. */
static uint32_t props_kept_size(const struct mqtt_publish *p)
{
	struct mqtt_rd r = mqtt_rd_make(p->props, p->props_len);
	uint32_t size = p->props_len;
	struct mqtt_prop prop;

	if (!p->has_alias && !p->has_sub_id)
		return size;
	while (mqtt_prop_next(&r, &prop)) {
		if (prop_dropped(prop.id))
			size -= prop.size;
	}
	return size;
}

static uint8_t *props_kept_put(uint8_t *dst, const struct mqtt_publish *p, uint32_t expiry_s)
{
	struct mqtt_rd r = mqtt_rd_make(p->props, p->props_len);
	struct mqtt_prop prop;

	while (mqtt_prop_next(&r, &prop)) {
		if (prop_dropped(prop.id))
			continue;
		memcpy(dst, prop.start, prop.size);
		if (prop.id == MQTT_PROP_MESSAGE_EXPIRY) {
			dst[1] = (uint8_t)(expiry_s >> 24);
			dst[2] = (uint8_t)(expiry_s >> 16);
			dst[3] = (uint8_t)(expiry_s >> 8);
			dst[4] = (uint8_t)expiry_s;
		}
		dst += prop.size;
	}
	return dst;
}

struct deliver_sizes {
	uint32_t props;     /* property bytes without their length */
	uint32_t head;      /* between fixed header and payload */
	uint32_t remaining; /* remaining length */
};

/* 64 bits: a sum of input lengths must not wrap before it is compared. */
static bool deliver_sizes(uint8_t level, const struct mqtt_publish *p, const uint32_t *sub_ids,
			  unsigned sub_id_n, struct deliver_sizes *out)
{
	uint64_t props = 0, head = 2u + (uint64_t)p->topic.len;
	unsigned i;

	if (p->topic.len == 0)
		return false;
	if (level >= MQTT_LEVEL_5) {
		props = props_kept_size(p);
		for (i = 0; i < sub_id_n; i++) {
			if (sub_ids[i] == 0 || sub_ids[i] > MQTT_REMAINING_MAX)
				return false;
			props += 1 + mqtt_varint_size(sub_ids[i]);
		}
		if (props > MQTT_REMAINING_MAX)
			return false;
		head += mqtt_varint_size((uint32_t)props) + props;
	}
	if (head + out->remaining > MQTT_REMAINING_MAX)
		return false;
	out->props = (uint32_t)props;
	out->head = (uint32_t)head;
	out->remaining += (uint32_t)head;
	return true;
}

size_t mqtt_deliver_size(uint8_t level, const struct mqtt_publish *p, const uint32_t *sub_ids,
			 unsigned sub_id_n, uint32_t payload_len)
{
	struct deliver_sizes sz = {.remaining = payload_len};

	if (payload_len > MQTT_REMAINING_MAX || !deliver_sizes(level, p, sub_ids, sub_id_n, &sz))
		return 0;
	return 1 + (size_t)mqtt_varint_size(sz.remaining) + sz.remaining;
}

size_t mqtt_deliver_head(uint8_t *dst, size_t room, uint8_t level, const struct mqtt_publish *p,
			 const uint32_t *sub_ids, unsigned sub_id_n, uint32_t expiry_s,
			 uint32_t payload_len)
{
	struct deliver_sizes sz = {.remaining = payload_len};
	uint8_t *at = dst;
	unsigned i;

	if (payload_len > MQTT_REMAINING_MAX || !deliver_sizes(level, p, sub_ids, sub_id_n, &sz))
		return 0;
	if (room < 1 + (size_t)mqtt_varint_size(sz.remaining) + sz.head)
		return 0;
	at += mqtt_fixed_encode(at, PUBLISH_FIRST, sz.remaining);
	*at++ = (uint8_t)(p->topic.len >> 8);
	*at++ = (uint8_t)p->topic.len;
	memcpy(at, p->topic.data, p->topic.len);
	at += p->topic.len;
	if (level >= MQTT_LEVEL_5) {
		at = mqtt_varint_put(at, sz.props);
		at = props_kept_put(at, p, expiry_s);
		for (i = 0; i < sub_id_n; i++) {
			*at++ = MQTT_PROP_SUBSCRIPTION_ID;
			at = mqtt_varint_put(at, sub_ids[i]);
		}
	}
	return (size_t)(at - dst);
}
