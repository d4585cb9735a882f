/* SPDX-License-Identifier: BSD-3-Clause */
/* For tests of the MQTT stage by example: the fake stream stage and the reference broker, and per
 * connection everything the stage sent to the client. */
#ifndef MQTT_STAGE_RIG_H
#define MQTT_STAGE_RIG_H

#include "modules/mqtt/mqtt_stage.h"
#include "mqtt_broker.h"
#include "mqtt_module.h"
#include "mqtt_rig.h"

struct rig {
	struct toe_config cfg;
	struct fake *f;
	struct broker *b; /* NULL: the test writes what the broker says */
	struct bytes got[FAKE_CONNS];
};

static inline void rig_tap(void *arg, uint32_t id, const uint8_t *data, size_t n)
{
	struct rig *r = arg;

	bytes_add(&r->got[id], data, n);
}

static inline void rig_start(struct rig *r, const char *filter, uint32_t subscriptions)
{
	const struct fake_opts fo = {.arena_mb = 8, .app_buf = 1u << 20, .tx_limit = 1u << 20};

	*r = (struct rig){.cfg = {.mqtt_message_max = 4096,
				  .mqtt_queue_messages = 1000,
				  .mqtt_queue_bytes = 4u << 20,
				  .mqtt_subscriptions = subscriptions,
				  .mqtt_port_n = 1,
				  .mqtt_ports = {1883},
				  .mqtt_offload_n = 1}};
	strncpy(r->cfg.mqtt_offload[0], filter, sizeof(r->cfg.mqtt_offload[0]) - 1);
	r->f = fake_new(&mqtt_module, &r->cfg, &fo);
	fake_set_tap(r->f, rig_tap, r);
	r->b = broker_new(r->f, 1000, NULL);
}

static inline void rig_stop(struct rig *r)
{
	assert_int_equal(fake_free(r->f), 0);
	broker_free(r->b);
	for (unsigned i = 0; i < FAKE_CONNS; i++)
		free(r->got[i].b);
}

static inline struct mqtt_stage *rig_stage(struct rig *r)
{
	return mqtt_of(fake_stream(r->f));
}

static inline struct mqtt_conn *rig_conn(struct rig *r, uint32_t id)
{
	return toe_stream_state(fake_conn(r->f, id));
}

/* Engine and broker until nothing moves; clients read everything. */
static inline void rig_run(struct rig *r)
{
	for (bool moved = true; moved;) {
		moved = false;
		fake_settle(r->f);
		for (uint32_t i = 0; i < FAKE_CONNS; i++) {
			if (!fake_is_open(r->f, i))
				continue;
			moved |= broker_step(r->b, i, 1000) != 0;
			moved |= broker_flush(r->b, i);
			moved |= fake_client_read(r->f, i, NULL, SIZE_MAX) != 0;
		}
	}
}

static inline void rig_forget(struct rig *r)
{
	for (uint32_t i = 0; i < FAKE_CONNS; i++)
		bytes_drop(&r->got[i], bytes_n(&r->got[i]));
}

static inline void rig_write(struct rig *r, uint32_t id, unsigned first, const struct pk *body)
{
	struct pk p = {.n = 0};

	pk_u8(&p, first);
	pk_varint(&p, (uint32_t)body->n);
	fake_client_write(r->f, id, p.b, p.n);
	fake_client_write(r->f, id, body->b, body->n);
}

/* max_packet: level 5 only, 0: none. */
static inline uint32_t rig_connect(struct rig *r, unsigned level, const char *name, bool clean,
				   uint32_t max_packet)
{
	struct pk p = {.n = 0};
	uint32_t id = fake_open(r->f);

	assert_int_not_equal(id, UINT32_MAX);
	broker_accept(r->b, id);
	bytes_drop(&r->got[id], bytes_n(&r->got[id]));
	pk_str(&p, level == 3 ? "MQIsdp" : "MQTT");
	pk_u8(&p, level);
	pk_u8(&p, clean ? 2 : 0);
	pk_u16(&p, 0);
	if (level == 5) {
		pk_u8(&p, (clean ? 0 : 5) + (max_packet != 0 ? 5 : 0));
		if (!clean) {
			pk_u8(&p, 0x11);
			pk_u32(&p, 1000);
		}
		if (max_packet != 0) {
			pk_u8(&p, 0x27);
			pk_u32(&p, max_packet);
		}
	}
	pk_str(&p, name);
	rig_write(r, id, 0x10, &p);
	rig_run(r);
	return id;
}

static inline void rig_subscribe(struct rig *r, uint32_t id, const char *filter, unsigned opts,
				 uint32_t sub_id)
{
	struct pk p = {.n = 0};

	pk_u16(&p, 77);
	if (rig_conn(r, id)->level == 5) {
		pk_u8(&p, sub_id != 0 ? 2 : 0);
		if (sub_id != 0) {
			pk_u8(&p, 0x0b);
			pk_u8(&p, sub_id);
		}
	}
	pk_str(&p, filter);
	pk_u8(&p, opts);
	rig_write(r, id, 0x82, &p);
	rig_run(r);
}

/* It unsubscribes from topic t, and the broker's answer is at the stage. */
static inline void rig_unsubscribed(struct rig *r, uint32_t id)
{
	struct pk p = {.n = 0};

	pk_u16(&p, 8);
	pk_str(&p, "t");
	rig_write(r, id, 0xa2, &p);
	fake_offer(r->f, id, SIZE_MAX);
	fake_app_write(r->f, id, "\xb0\x02\x00\x08", 4);
	fake_hc(r->f);
	fake_fetch(r->f, id, SIZE_MAX);
}

/* A whole PUBLISH packet; props: level 5 only, without their length. */
static inline void rig_publish(struct pk *out, unsigned level, const char *topic,
			       const struct pk *props, const void *payload, size_t n)
{
	struct pk p = {.n = 0};

	pk_str(&p, topic);
	if (level == 5) {
		pk_varint(&p, props != NULL ? (uint32_t)props->n : 0);
		if (props != NULL)
			pk_raw(&p, props->b, props->n);
	}
	pk_raw(&p, payload, n);
	pk_u8(out, 0x30);
	pk_varint(out, (uint32_t)p.n);
	pk_raw(out, p.b, p.n);
}

static inline void rig_expect(struct rig *r, uint32_t id, const struct pk *p)
{
	assert_int_equal(bytes_n(&r->got[id]), p->n);
	assert_memory_equal(bytes_at(&r->got[id]), p->b, p->n);
	bytes_drop(&r->got[id], p->n);
}

static inline uint64_t rig_slow(struct rig *r, enum mqtt_reason why)
{
	return rig_stage(r)->reasons[why];
}

#endif
