// SPDX-License-Identifier: BSD-3-Clause
/* MQTT packets for load clients: bytes in memory, no state, no I/O. */
#include "tests/progs/lib/mqtt.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define LENGTH_BYTES_MAX 4u /* of a variable byte integer */

size_t mq_put_head(uint8_t *p, uint8_t first, size_t remaining)
{
	size_t n = 0;

	p[n++] = first;
	do {
		p[n] = remaining & 0x7f;
		remaining >>= 7;
		p[n] |= remaining ? 0x80 : 0;
		n++;
	} while (remaining);
	return n;
}

static size_t put_u16(uint8_t *p, size_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
	return 2;
}

static size_t put_bytes(uint8_t *p, const void *s, size_t n)
{
	put_u16(p, n);
	memcpy(p + 2, s, n);
	return n + 2;
}

size_t mq_put_string(uint8_t *p, const char *s)
{
	return put_bytes(p, s, strlen(s));
}

/* Moves a body of n bytes behind its header. */
static size_t put_packet(uint8_t *p, uint8_t first, const uint8_t *body, size_t n)
{
	size_t h = mq_put_head(p, first, n);

	memcpy(p + h, body, n);
	return h + n;
}

size_t mq_put_connect(uint8_t *p, unsigned version, const char *id)
{
	uint8_t body[MQ_SMALL_BYTES];
	size_t n = mq_put_string(body, version == 3 ? "MQIsdp" : "MQTT");

	body[n++] = (uint8_t)version;
	body[n++] = 2; /* clean session */
	n += put_u16(body + n, 0);
	if (version == 5)
		body[n++] = 0; /* no properties */
	n += mq_put_string(body + n, id);
	return put_packet(p, 0x10, body, n);
}

size_t mq_put_subscribe(uint8_t *p, unsigned version, uint16_t pid, const char *filter,
			unsigned qos)
{
	uint8_t body[MQ_SMALL_BYTES];
	size_t n = put_u16(body, pid);

	if (version == 5)
		body[n++] = 0;
	n += mq_put_string(body + n, filter);
	body[n++] = (uint8_t)qos;
	return put_packet(p, 0x82, body, n);
}

size_t mq_put_unsubscribe(uint8_t *p, unsigned version, uint16_t pid, const char *filter)
{
	uint8_t body[MQ_SMALL_BYTES];
	size_t n = put_u16(body, pid);

	if (version == 5)
		body[n++] = 0;
	n += mq_put_string(body + n, filter);
	return put_packet(p, 0xa2, body, n);
}

size_t mq_put_ack(uint8_t *p, enum mq_type type, uint16_t pid)
{
	p[0] = (uint8_t)((unsigned)type << 4 | (type == MQ_PUBREL ? 2u : 0u));
	p[1] = 2;
	return 2 + put_u16(p + 2, pid);
}

size_t mq_put_two(uint8_t *p, uint8_t first)
{
	p[0] = first;
	p[1] = 0;
	return 2;
}

size_t mq_put_publish(uint8_t *p, unsigned version, const struct mq_publish *m)
{
	size_t var = 2 + m->topic_len + (m->qos ? 2 : 0) + (version == 5 ? 1 : 0);
	uint8_t first = (uint8_t)(0x30u | (m->dup ? 8u : 0u) | m->qos << 1 | (m->retain ? 1u : 0u));
	size_t n = mq_put_head(p, first, var + m->payload_len);

	n += put_bytes(p + n, m->topic, m->topic_len);
	if (m->qos)
		n += put_u16(p + n, m->pid);
	if (version == 5)
		p[n++] = 0;
	return n;
}

/* Variable byte integer at *at; false: not complete, or too long (*at says which: at most
 * LENGTH_BYTES_MAX bytes are looked at). */
static bool get_varint(const uint8_t *p, size_t len, size_t *at, size_t *value)
{
	*value = 0;
	for (unsigned i = 0; i < LENGTH_BYTES_MAX && *at < len; i++) {
		uint8_t b = p[(*at)++];

		*value |= (size_t)(b & 0x7f) << (7 * i);
		if (!(b & 0x80))
			return true;
	}
	return false;
}

long mq_next(const uint8_t *buf, size_t len, struct mq_packet *out)
{
	size_t at = 1, remaining;

	if (len < 2)
		return 0;
	if (!get_varint(buf, len, &at, &remaining))
		return at > LENGTH_BYTES_MAX ? -EPROTO : 0;
	if (len - at < remaining)
		return 0;
	out->first = buf[0];
	out->body = buf + at;
	out->len = remaining;
	return (long)(at + remaining);
}

bool mq_publish_parse(unsigned version, const struct mq_packet *p, struct mq_publish *out)
{
	size_t at = 2, props = 0;

	out->qos = p->first >> 1 & 3;
	out->retain = p->first & 1;
	out->dup = p->first & 8;
	if (p->len < 2)
		return false;
	out->topic_len = (size_t)p->body[0] << 8 | p->body[1];
	out->topic = p->body + at;
	at += out->topic_len;
	out->pid = 0;
	if (out->qos) {
		if (p->len < at + 2)
			return false;
		out->pid = (uint16_t)(p->body[at] << 8 | p->body[at + 1]);
		at += 2;
	}
	if (version == 5 && (at > p->len || !get_varint(p->body, p->len, &at, &props)))
		return false;
	at += props;
	if (at > p->len || out->qos == 3 || (out->qos && !out->pid))
		return false;
	out->payload = p->body + at;
	out->payload_len = p->len - at;
	return true;
}

uint16_t mq_ack_pid(const struct mq_packet *p)
{
	return p->len < 2 ? 0 : (uint16_t)(p->body[0] << 8 | p->body[1]);
}

uint8_t mq_suback_code(const struct mq_packet *p)
{
	return p->len < 3 ? 0x80 : p->body[p->len - 1];
}
