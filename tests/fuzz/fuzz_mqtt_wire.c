// SPDX-License-Identifier: BSD-3-Clause
/* LINK: modules/mqtt/mqtt_framer.c modules/mqtt/mqtt_props.c modules/mqtt/mqtt_publish.c
 *       modules/mqtt/mqtt_wire.c */
/*
 * libFuzzer target: an MQTT byte stream.  The first input byte is the protocol level, the second
 * the size of the pieces in which the framer gets the rest.  Every packet goes to its parser, in a
 * block of exactly its size; results must lie in it, a PUBLISH must be understood the same from a
 * prefix, and its delivery must be a PUBLISH again.  `make fuzz` builds and runs it.
 */
#include <stdlib.h>
#include <string.h>

#include "modules/mqtt/mqtt_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define BODY_MAX 65536u

static void require(int cond)
{
	if (!cond)
		abort();
}

static void inside(const uint8_t *p, size_t n, const uint8_t *body, size_t len)
{
	require(n == 0 || (p >= body && n <= len && (size_t)(p - body) <= len - n));
}

static uint8_t *copy_of(const uint8_t *data, size_t n)
{
	uint8_t *copy = malloc(n ? n : 1);

	require(copy != NULL);
	if (n)
		memcpy(copy, data, n);
	return copy;
}

/* ---- PUBLISH -------------------------------------------------------------------------------- */

static void check_delivery(uint8_t level, const struct mqtt_publish *p, uint32_t payload_len)
{
	static const uint32_t ids[] = {1, 300, MQTT_REMAINING_MAX};
	size_t size = mqtt_deliver_size(level, p, ids, 3, payload_len);
	struct mqtt_publish q;
	uint32_t remaining;
	uint8_t *out, first;
	size_t head;
	int fixed;

	if (p->topic.len == 0) {
		require(size == 0);
		return;
	}
	require(size > payload_len);
	head = size - payload_len;
	out = malloc(head);
	require(out != NULL);
	require(mqtt_deliver_head(out, head - 1, level, p, ids, 3, 5, payload_len) == 0);
	require(mqtt_deliver_head(out, head, level, p, ids, 3, 5, payload_len) == head);
	fixed = mqtt_fixed_parse(out, head, &first, &remaining);
	require(fixed > 0 && first == 0x30 && (size_t)fixed + remaining == size);
	require(mqtt_publish_parse(level, first, out + fixed, head - (size_t)fixed, remaining,
				   &q) == (int)(head - (size_t)fixed));
	require(q.topic.len == p->topic.len && !q.has_alias);
	require(memcmp(q.topic.data, p->topic.data, q.topic.len) == 0);
	require(q.has_sub_id == (level == 5));
	require(q.has_expiry == (level == 5 && p->has_expiry) &&
		(!q.has_expiry || q.expiry_s == 5));
	free(out);
}

static void check_publish(uint8_t level, uint8_t first, const uint8_t *body, size_t len)
{
	struct mqtt_publish p, q;
	int rc = mqtt_publish_parse(level, first, body, len, (uint32_t)len, &p);

	require(rc != 0);
	for (size_t n = 0; n < len; n = n * 2 + 1) {
		uint8_t *b = copy_of(body, n);
		int part = mqtt_publish_parse(level, first, b, n, (uint32_t)len, &q);

		free(b);
		require(part == 0 || part == rc);
		require(rc < 0 || part == ((size_t)rc <= n ? rc : 0));
	}
	if (rc < 0)
		return;
	require((size_t)rc <= len && p.payload_off == (uint32_t)rc);
	inside(p.topic.data, p.topic.len, body, (size_t)rc);
	inside(p.props, p.props_len, body, (size_t)rc);
	require(p.topic.len ? mqtt_topic_valid(p.topic.data, p.topic.len) : p.has_alias);
	require((p.packet_id != 0) == (p.qos != 0));
	check_delivery(3, &p, (uint32_t)len - p.payload_off);
	check_delivery(5, &p, (uint32_t)len - p.payload_off);
}

/* ---- the others ----------------------------------------------------------------------------- */

static void check_subscribe(uint8_t level, bool unsubscribe, const uint8_t *body, size_t len)
{
	struct mqtt_subscribe s;
	struct mqtt_sub_item it;
	unsigned n = 0, want;

	if ((unsubscribe ? mqtt_unsubscribe_parse(level, body, len, &s)
			 : mqtt_subscribe_parse(level, body, len, &s)) < 0)
		return;
	want = s.n;
	require(want > 0 || level == 3);
	while (unsubscribe ? mqtt_unsubscribe_next(&s, &it) : mqtt_subscribe_next(&s, &it)) {
		n++;
		inside(it.filter.data, it.filter.len, body, len);
		require(mqtt_filter_valid(it.filter.data, it.filter.len));
		require(it.qos <= 2 && it.retain_handling <= 2);
	}
	require(n == want && s.items_len == 0);
}

static void check_connect(const uint8_t *body, size_t len)
{
	struct mqtt_connect c, head;
	int rc = mqtt_connect_begin(0x10, body, len, (uint32_t)len, &head);

	require(rc != 0);
	if (rc > 0)
		inside(head.client_id.data, head.client_id.len, body, len);
	if (mqtt_connect_begin(0x10, body, len / 2, (uint32_t)len, &head) > 0)
		inside(head.client_id.data, head.client_id.len, body, len / 2);
	if (mqtt_connect_parse(body, len, &c) < 0)
		return;
	require(rc > 0);
	require(c.level >= 3 && c.level <= 5 && c.receive_maximum > 0);
	inside(c.client_id.data, c.client_id.len, body, len);
	inside(c.username.data, c.username.len, body, len);
}

static void check_packet(uint8_t level, uint8_t first, const uint8_t *body, size_t len)
{
	struct mqtt_connack cack;
	struct mqtt_suback sack;
	uint32_t sec;
	uint8_t reason;
	bool has;

	mqtt_first_valid(level, first);
	switch (mqtt_first_type(first)) {
	case MQTT_CONNECT:
		check_connect(body, len);
		break;
	case MQTT_CONNACK:
		if (mqtt_connack_parse(level, body, len, &cack) == 0)
			inside(cack.assigned_id.data, cack.assigned_id.len, body, len);
		break;
	case MQTT_PUBLISH:
		check_publish(level, first, body, len);
		break;
	case MQTT_SUBSCRIBE:
	case MQTT_UNSUBSCRIBE:
		check_subscribe(level, mqtt_first_type(first) == MQTT_UNSUBSCRIBE, body, len);
		break;
	case MQTT_SUBACK:
		if (mqtt_suback_parse(level, body, len, &sack) == 0)
			inside(sack.codes, sack.n, body, len);
		break;
	case MQTT_UNSUBACK:
		if (mqtt_unsuback_parse(level, body, len, &sack) == 0)
			inside(sack.codes, sack.n, body, len);
		break;
	case MQTT_DISCONNECT:
		mqtt_disconnect_parse(level, body, len, &reason, &has, &sec);
		break;
	default:
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t body[BODY_MAX];
	struct mqtt_framer f = {0};
	struct mqtt_frame_part part;
	enum mqtt_framer_event ev;
	size_t piece, have = 0, n;
	uint8_t level, *b;

	if (size < 2 || size > BODY_MAX)
		return 0;
	level = 3 + data[0] % 3;
	piece = 1 + data[1] % 64u;
	data += 2;
	size -= 2;
	while (size > 0) {
		n = mqtt_framer_feed(&f, data, piece < size ? piece : size, &ev, &part);
		if (ev == MQTT_FR_ERROR) {
			require(n == 0 && !mqtt_framer_idle(&f));
			return 0;
		}
		require(n > 0 && n <= piece && n <= size);
		if (ev == MQTT_FR_HEADER)
			have = 0;
		if (ev == MQTT_FR_BODY) {
			require(part.data == data && part.len == n && have + n <= part.remaining);
			memcpy(body + have, part.data, n);
			have += n;
		}
		require(part.last == (ev != MQTT_FR_MORE && have == part.remaining));
		require(mqtt_framer_idle(&f) == part.last);
		if (part.last) {
			b = copy_of(body, have);
			check_packet(level, part.first, b, have);
			free(b);
		}
		data += n;
		size -= n;
	}
	return 0;
}
