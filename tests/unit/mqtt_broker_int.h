/* SPDX-License-Identifier: BSD-3-Clause */
/* Inside of the reference broker, shared by mqtt_broker.c (packets of clients, sessions) and
 * mqtt_broker_out.c (deliveries). */
#ifndef MQTT_BROKER_INT_H
#define MQTT_BROKER_INT_H

#include "mqtt_broker.h"

#define SUBS_MAX     24u
#define RETAINED_MAX 24u
#define NAME_MAX_LEN 64u
#define SESSIONS_MAX 256u

struct sub {
	char filter[NAME_MAX_LEN];
	uint32_t sub_id;
	uint8_t qos;
	bool no_local;
	bool rap;
};

struct session {
	char id[NAME_MAX_LEN];
	bool used, keep;
	uint32_t conn; /* UINT32_MAX: offline */
	unsigned n;
	struct sub subs[SUBS_MAX];
};

struct publish {
	char topic[NAME_MAX_LEN];
	const uint8_t *props;
	size_t props_n;
	const uint8_t *payload;
	size_t payload_n;
	uint8_t qos;
	bool retain;
	uint16_t id;
};

struct packet {
	struct packet *next;
	size_t n, at;
	uint8_t b[];
};

struct conn {
	bool alive, bad, connected;
	uint8_t level;
	bool bridge;
	uint32_t session;
	struct bytes in;
	struct packet *first, **last;
	size_t queued;
	struct packet *held; /* retained, until the next live message */
	uint16_t mid;
	uint32_t pings_in, acks_dropped;
	uint32_t since, late_ms; /* not looked at for so long since then */
	struct packet *qos2;     /* PUBLISH bodies that wait for PUBREL; at: packet id */
	struct publish will;
	struct packet *will_data; /* its payload, NULL: there is no will */
	bool hasty;
};

struct retained {
	char topic[NAME_MAX_LEN];
	struct bytes payload;
};

struct broker {
	struct fake *f;
	uint32_t limit;
	uint32_t late_ms;
	uint32_t hasty;
	uint64_t rnd;
	struct broker_hooks h;
	struct conn conn[FAKE_CONNS];
	struct session session[SESSIONS_MAX];
	struct retained retained[RETAINED_MAX];
};

struct packet *packet_new(const void *data, size_t n);
void conn_clear(struct conn *c);
/* False: the queue is at its limit, the packet is dropped. */
bool send_packet(struct broker *b, uint32_t id, const void *data, size_t n);
void send_ack(struct broker *b, uint32_t id, const void *data, size_t n);
void distribute(struct broker *b, uint32_t from, const struct publish *p);
void keep_retained(struct broker *b, const struct publish *p);
void will_keep(struct conn *c, const struct publish *p);
void will_drop(struct conn *c);
void will_send(struct broker *b, uint32_t id);
void give_retained(struct broker *b, uint32_t id, const struct sub *s);

#endif
