// SPDX-License-Identifier: BSD-3-Clause
/*
 * Packet boundaries: the fixed header (2.1) and a framer that follows a byte stream in whatever
 * pieces it comes.  Input: bytes; output: parts of packets.  State: the caller's struct
 * mqtt_framer. Thread: any, one at a time per framer.
 */
#include <errno.h>
#include <string.h>

#include "mqtt_codec.h"

_Static_assert(sizeof(struct mqtt_framer) == 16, "two per connection, in its hot state");

int mqtt_fixed_parse(const uint8_t *data, size_t len, uint8_t *first, uint32_t *remaining)
{
	uint32_t value = 0;
	unsigned i;

	for (i = 1; i < MQTT_FIXED_MAX; i++) {
		if (i >= len)
			return 0;
		value |= (uint32_t)(data[i] & 0x7fu) << (7 * (i - 1));
		if (data[i] & 0x80u)
			continue;
		*first = data[0];
		*remaining = value;
		return (int)i + 1;
	}
	return -EPROTO;
}

size_t mqtt_fixed_encode(uint8_t *dst, uint8_t first, uint32_t remaining)
{
	dst[0] = first;
	return (size_t)(mqtt_varint_put(dst + 1, remaining) - dst);
}

bool mqtt_first_valid(uint8_t level, uint8_t first)
{
	unsigned flags = first & 0x0fu;

	switch (mqtt_first_type(first)) {
	case MQTT_PUBLISH:
		return (first & MQTT_PUBLISH_QOS) != MQTT_PUBLISH_QOS;
	case MQTT_PUBREL:
	case MQTT_SUBSCRIBE:
	case MQTT_UNSUBSCRIBE:
		/* MQTT 3.1 sends these with QoS 1, DUP on a repetition, and does not say what a
		 * receiver makes of other flags. */
		return level <= MQTT_LEVEL_31 || flags == 2;
	case MQTT_AUTH:
		return level >= MQTT_LEVEL_5 && flags == 0;
	case MQTT_PINGREQ: /* mosquitto answers it whatever its flags */
		return true;
	case MQTT_CONNECT:
	case MQTT_CONNACK:
	case MQTT_PUBACK:
	case MQTT_PUBREC:
	case MQTT_PUBCOMP:
	case MQTT_SUBACK:
	case MQTT_UNSUBACK:
	case MQTT_PINGRESP:
	case MQTT_DISCONNECT:
		return level <= MQTT_LEVEL_31 || flags == 0;
	}
	return false; /* 0, reserved */
}

bool mqtt_client_sound(uint8_t level, uint8_t first, uint32_t remaining)
{
	switch (mqtt_first_type(first)) {
	case MQTT_PUBACK:
	case MQTT_PUBREC:
	case MQTT_PUBCOMP:
		if (level >= MQTT_LEVEL_5 ? remaining < 2 : remaining != 2)
			return false;
		break;
	case MQTT_PUBLISH:
	case MQTT_PUBREL:
	case MQTT_SUBSCRIBE:
	case MQTT_UNSUBSCRIBE:
	case MQTT_PINGREQ:
		break;
	default:
		return false;
	}
	return mqtt_first_valid(level, first);
}

/* Header bytes until it is complete.  A header that turns out malformed leaves f->hdr_n at what
 * earlier calls took, so that their bytes can still be passed on. */
static size_t framer_header(struct mqtt_framer *f, const uint8_t *data, size_t len,
			    enum mqtt_framer_event *ev, struct mqtt_frame_part *part)
{
	size_t room = MQTT_FIXED_MAX - f->hdr_n;
	size_t n = len < room ? len : room;
	uint8_t had = f->hdr_n;
	int head;

	memcpy(f->hdr + had, data, n);
	head = mqtt_fixed_parse(f->hdr, had + n, &part->first, &part->remaining);
	if (head < 0) {
		f->broken = 1;
		*ev = MQTT_FR_ERROR;
		return 0;
	}
	if (head == 0) {
		f->hdr_n = (uint8_t)(had + n);
		*ev = MQTT_FR_MORE;
		return n;
	}
	part->data = f->hdr;
	part->len = (size_t)head;
	part->last = part->remaining == 0;
	f->left = part->remaining;
	f->hdr_n = part->last ? 0 : (uint8_t)head;
	*ev = MQTT_FR_HEADER;
	return (size_t)head - had;
}

size_t mqtt_framer_feed(struct mqtt_framer *f, const uint8_t *data, size_t len,
			enum mqtt_framer_event *ev, struct mqtt_frame_part *part)
{
	*part = (struct mqtt_frame_part){0};
	if (f->broken) {
		*ev = MQTT_FR_ERROR;
		return 0;
	}
	if (len == 0) {
		*ev = MQTT_FR_MORE;
		return 0;
	}
	if (f->left == 0)
		return framer_header(f, data, len, ev, part);

	mqtt_fixed_parse(f->hdr, f->hdr_n, &part->first, &part->remaining);
	part->data = data;
	part->len = len < f->left ? len : f->left;
	f->left -= (uint32_t)part->len;
	part->last = f->left == 0;
	if (part->last)
		f->hdr_n = 0;
	*ev = MQTT_FR_BODY;
	return part->len;
}

bool mqtt_framer_idle(const struct mqtt_framer *f)
{
	return f->hdr_n == 0 && !f->broken;
}
