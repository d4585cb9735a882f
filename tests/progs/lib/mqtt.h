/* SPDX-License-Identifier: BSD-3-Clause */
/* MQTT 3.1, 3.1.1 and 5.0 packets for load clients: building small ones, taking received ones
 * apart. Versions are the protocol level: 3, 4, 5.  No state, no I/O. */
#ifndef TOE_TEST_MQTT_H
#define TOE_TEST_MQTT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MQ_SMALL_BYTES 256u /* enough for every packet that a mq_put_* below builds */
#define MQ_NAME_MAX    96u  /* bytes of a ClientID or filter */

enum mq_type {
	MQ_CONNACK = 2,
	MQ_PUBLISH = 3,
	MQ_PUBACK = 4,
	MQ_PUBREC = 5,
	MQ_PUBREL = 6,
	MQ_PUBCOMP = 7,
	MQ_SUBACK = 9,
	MQ_UNSUBACK = 11,
	MQ_PINGRESP = 13,
	MQ_DISCONNECT = 14
};

/* Points into the buffer given. */
struct mq_packet {
	uint8_t first; /* type and flags */
	const uint8_t *body;
	size_t len;
};

struct mq_publish {
	unsigned qos;
	bool retain;
	bool dup;
	uint16_t pid; /* 0 for QoS 0 */
	const uint8_t *topic;
	size_t topic_len;
	const uint8_t *payload;
	size_t payload_len;
};

/* Each returns the bytes written. */
size_t mq_put_head(uint8_t *p, uint8_t first, size_t remaining);
size_t mq_put_string(uint8_t *p, const char *s);
size_t mq_put_connect(uint8_t *p, unsigned version, const char *id); /* clean, no keep alive */
size_t mq_put_subscribe(uint8_t *p, unsigned version, uint16_t pid, const char *filter,
			unsigned qos);
size_t mq_put_unsubscribe(uint8_t *p, unsigned version, uint16_t pid, const char *filter);
size_t mq_put_ack(uint8_t *p, enum mq_type type, uint16_t pid);
size_t mq_put_two(uint8_t *p, uint8_t first); /* PINGREQ 0xc0, DISCONNECT 0xe0 */
/* PUBLISH up to its payload; the caller appends payload_len bytes.  p: topic + 16 bytes. */
size_t mq_put_publish(uint8_t *p, unsigned version, const struct mq_publish *m);

/* First packet of buf: its bytes with the header, 0 if it is not complete, -EPROTO. */
long mq_next(const uint8_t *buf, size_t len, struct mq_packet *out);
/* False: malformed. */
bool mq_publish_parse(unsigned version, const struct mq_packet *p, struct mq_publish *out);
/* Packet identifier of an acknowledgement, SUBACK or UNSUBACK; 0: malformed. */
uint16_t mq_ack_pid(const struct mq_packet *p);
/* Last reason code of a SUBACK: granted QoS, or 0x80 and above. */
uint8_t mq_suback_code(const struct mq_packet *p);

#endif
