/* SPDX-License-Identifier: BSD-3-Clause */
/* LINK: tests/unit/mqtt_broker.h */
/* The MQTT stage and CONNECT: whose session it is, when that cannot be known, and what it costs. */
#include "mqtt_stage_rig.h"

/* Bytes of a packet, as large as any. */
struct big {
	uint8_t b[100000];
	size_t n;
};

static void add(struct big *o, const void *data, size_t n)
{
	assert_true(o->n + n <= sizeof(o->b));
	memcpy(o->b + o->n, data, n);
	o->n += n;
}

/* fill: that many bytes more. */
static void packet(struct big *o, unsigned first, const struct pk *body, size_t fill)
{
	static const uint8_t zero[sizeof(o->b)];
	struct pk head = {.n = 0};

	pk_u8(&head, first);
	pk_varint(&head, (uint32_t)(body->n + fill));
	o->n = 0;
	add(o, head.b, head.n);
	add(o, body->b, body->n);
	add(o, zero, fill);
}

static void connect_head(struct pk *p, unsigned level, unsigned flags)
{
	p->n = 0;
	pk_str(p, level == 3 ? "MQIsdp" : "MQTT");
	pk_u8(p, level);
	pk_u8(p, flags);
	pk_u16(p, 0);
}

/* With a will of 60 KB, which ends the packet. */
static void large_will(struct big *o, const char *name)
{
	struct pk p;

	connect_head(&p, 4, 4);
	pk_str(&p, name);
	pk_str(&p, "w");
	pk_u16(&p, 60000);
	packet(o, 0x10, &p, 60000);
}

/* Its ClientID comes behind 70 KB of properties. */
static void late_name(struct big *o, const char *name)
{
	struct pk p, id = {.n = 0};

	pk_str(&id, name);
	connect_head(&p, 5, 0);
	pk_varint(&p, 70000);
	packet(o, 0x10, &p, 70000 + id.n);
	o->n -= id.n;
	add(o, id.b, id.n);
}

static uint32_t open_with(struct rig *r, const struct big *o)
{
	uint32_t id = fake_open(r->f);

	fake_client_write(r->f, id, o->b, o->n);
	fake_settle(r->f);
	return id;
}

static void say(struct rig *r, uint32_t id, const char *what, size_t n)
{
	fake_app_write(r->f, id, what, n);
	fake_settle(r->f);
	fake_client_read(r->f, id, NULL, SIZE_MAX);
}

/* A session that lasts, with a subscription, whose client has left. */
static void leave_session(struct rig *r, const char *name)
{
	uint32_t id = rig_connect(r, 4, name, false, 0);

	broker_gone(r->b, id);
	fake_close(r->f, id);
	id = rig_connect(r, 4, name, false, 0);
	rig_subscribe(r, id, "t", 0, 0);
	broker_gone(r->b, id);
	fake_close(r->f, id);
}

/* Sessions with unknown subscriptions once it has come back. */
static uint32_t unknown_with(struct rig *r, const char *name)
{
	uint32_t id = rig_connect(r, 4, name, false, 0);
	uint32_t n = rig_stage(r)->unknown_n;

	broker_gone(r->b, id);
	fake_close(r->f, id);
	return n;
}

static void start(struct rig *r)
{
	uint32_t id;

	rig_start(r, "#", 1000);
	id = rig_connect(r, 4, "first", true, 0); /* the stage follows this broker */
	(void)id;
	leave_session(r, "who");
	leave_session(r, "else");
	assert_int_equal(unknown_with(r, "who"), 0);
}

/* Whose it is says the beginning, so the rest may be as large as it likes. */
static void will_of_any_size(void **state)
{
	static struct big o;
	struct rig r;
	uint32_t id;

	(void)state;
	start(&r);
	large_will(&o, "who");
	id = fake_open(r.f);
	fake_client_write(r.f, id, o.b, 40);
	fake_settle(r.f);
	assert_int_equal(fake_app_unread(r.f, id), 40);
	fake_client_write(r.f, id, o.b + 40, o.n - 40);
	fake_client_write(r.f, id, "\xa2\x05\0\1\0\1t", 7); /* waits for CONNACK */
	fake_settle(r.f);
	assert_int_equal(fake_app_unread(r.f, id), o.n);
	say(&r, id, "\x20\2\1\0", 4);
	assert_int_equal(rig_conn(&r, id)->kind, MQTT_K_TRACKED);
	assert_true(rig_conn(&r, id)->will);
	say(&r, id, "\xb0\2\0\1", 4);
	assert_int_equal(mqtt_subs_first(rig_stage(&r)->subs, rig_conn(&r, id)->session),
			 MQTT_SUB_NONE);
	assert_int_equal(rig_stage(&r)->lost_n, 0);
	rig_stop(&r);
}

/* At MQTT 3.1 mosquitto does not look at the low bits of the first byte. */
static void first_byte(void **state)
{
	static struct big o;
	struct rig r;
	struct pk p;
	uint32_t id;

	(void)state;
	start(&r);
	connect_head(&p, 3, 0);
	pk_str(&p, "who");
	packet(&o, 0x11, &p, 0);
	id = open_with(&r, &o);
	say(&r, id, "\x20\2\0\0", 4);
	assert_int_equal(rig_conn(&r, id)->kind, MQTT_K_TRACKED);
	assert_int_equal(rig_stage(&r)->lost_n, 0);
	fake_close(r.f, id);
	/* at others it refuses them; should it not, the session is not known any more */
	connect_head(&p, 4, 0);
	pk_str(&p, "who");
	packet(&o, 0x11, &p, 0);
	id = open_with(&r, &o);
	assert_int_equal(rig_stage(&r)->lost_n, 0);
	say(&r, id, "\x20\2\1\0", 4);
	assert_int_equal(rig_stage(&r)->lost_n, 1);
	fake_close(r.f, id);
	assert_int_equal(unknown_with(&r, "who"), 1);
	rig_stop(&r);
}

/* Somebody of whom nobody knows who it is: nothing is wrong before the broker accepts it, and then
 * no session is known. */
static void name_out_of_reach(void **state)
{
	static struct big o;
	struct rig r;
	uint32_t id;

	(void)state;
	start(&r);
	late_name(&o, "who");
	id = open_with(&r, &o);
	fake_client_write(r.f, id, "\x82\x06\0\1\0\1u\0", 8);
	fake_settle(r.f);
	assert_int_equal(fake_app_unread(r.f, id), o.n);
	assert_int_equal(rig_stage(&r)->lost_n, 0);
	say(&r, id, "\x20\3\0\x87\0", 5);
	assert_int_equal(rig_conn(&r, id)->kind, MQTT_K_REFUSED);
	assert_int_equal(fake_app_unread(r.f, id), o.n + 8);
	fake_close(r.f, id);
	fake_close(r.f, open_with(&r, &o)); /* no answer at all: and nothing came behind it */
	assert_int_equal(unknown_with(&r, "who"), 0);
	id = open_with(&r, &o);
	fake_client_write(r.f, id, "\x82\x06\0\1\0\1u\0", 8);
	fake_settle(r.f);
	say(&r, id, "\x20\3\1\0\0", 5);
	assert_int_equal(rig_stage(&r)->lost_n, 1);
	assert_int_equal(fake_app_unread(r.f, id), o.n + 8);
	fake_close(r.f, id);
	assert_int_equal(rig_stage(&r)->lost_n, 0);
	assert_int_equal(unknown_with(&r, "who"), 1);
	assert_int_equal(unknown_with(&r, "else"), 1);
	rig_stop(&r);
}

/* An answer that is not understood concerns one session, also one that is online. */
static void answer_not_understood(void **state)
{
	static struct big o;
	struct rig r;
	struct pk p;
	uint32_t id;

	(void)state;
	start(&r);
	connect_head(&p, 4, 0);
	pk_str(&p, "who");
	packet(&o, 0x10, &p, 0);
	id = open_with(&r, &o);
	say(&r, id, "\x20\3\1\0\0", 5);
	assert_int_equal(rig_stage(&r)->lost_n, 1);
	fake_close(r.f, id);
	assert_int_equal(unknown_with(&r, "else"), 0);
	assert_int_equal(unknown_with(&r, "who"), 1);
	/* what the broker answers by closing changes nothing */
	connect_head(&p, 4, 0);
	pk_str(&p, "else");
	packet(&o, 0x10, &p, 0);
	add(&o, "\xf0\xff\xff\xff\xff\xff", 6);
	id = open_with(&r, &o);
	assert_int_equal(rig_stage(&r)->lost_n, 1);
	fake_close(r.f, id);
	assert_int_equal(unknown_with(&r, "else"), 0);
	rig_stop(&r);
}

/* What no broker takes for a CONNECT is nobody's session, whatever the broker says. */
static void strangers(void **state)
{
	static const struct {
		const char *b;
		size_t n;
	} hello[] = {{"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11}, /* TLS */
		     {"\x16\x03\x00\x00\x04\x01\x00\x01\xfc\x03\x03", 11},
		     {"\x16\x03\x01\x00\x04\x01\x00\x01\xfc\x03\x03", 11},
		     {"GET / HTTP/1.1\r\n\r\n", 18},
		     {"\x10\x00\x30\x00", 4},
		     {"\x10\x0c\x00\x04MQTX\x04\x02\x00\x00\x00", 13}};
	struct rig r;

	(void)state;
	start(&r);
	for (unsigned i = 0; i < COUNT(hello); i++) {
		uint32_t id = fake_open(r.f);

		for (size_t k = 0; k < hello[i].n; k++) {
			fake_client_write(r.f, id, hello[i].b + k, 1);
			fake_settle(r.f);
		}
		assert_int_equal(fake_app_unread(r.f, id), hello[i].n);
		assert_int_equal(rig_stage(&r)->lost_n, 1);
		say(&r, id, "\x20\2\0\1", 4);
		fake_close(r.f, id);
		assert_int_equal(unknown_with(&r, "who"), 0);
	}
	rig_stop(&r);
}

/* Beginnings of CONNECTs that never end take an eighth of the memory; then the oldest goes on as it
 * is, and who is in earnest is followed all the same. */
static void half_connects(void **state)
{
	const size_t part = 40000; /* its buffer: 64 KiB */
	static struct big o;
	uint32_t ids[64];
	struct mqtt_stage *st;
	struct rig r;
	size_t used, most;

	(void)state;
	start(&r);
	st = rig_stage(&r);
	late_name(&o, "who");
	used = toe_stream_mem_used(fake_stream(r.f));
	most = toe_stream_mem_size(fake_stream(r.f)) / 8;
	for (unsigned i = 0; i < COUNT(ids); i++) {
		ids[i] = fake_open(r.f);
		fake_client_write(r.f, ids[i], o.b, part);
		while (fake_offer(r.f, ids[i], 1460) != 0)
			;
		assert_true(toe_stream_mem_used(fake_stream(r.f)) - used <= most);
	}
	assert_int_equal(st->begin_bytes, most);
	assert_int_equal(toe_stream_mem_used(fake_stream(r.f)) - used, most);
	for (unsigned i = 0; i < COUNT(ids); i++) {
		bool kept = i >= COUNT(ids) - most / 65536;

		assert_int_equal(fake_app_unread(r.f, ids[i]), kept ? 0 : part);
	}
	assert_int_equal(st->counters[MQTT_C_CONNECT_UNREAD], COUNT(ids) - most / 65536);
	assert_int_equal(st->lost_n, 0);
	assert_int_equal(rig_conn(&r, rig_connect(&r, 4, "new", true, 0))->kind, MQTT_K_TRACKED);
	assert_int_equal(unknown_with(&r, "who"), 0);
	/* one that goes on, and so makes another go; one that ends */
	fake_client_write(r.f, ids[63], o.b + part, o.n - part);
	fake_client_fin(r.f, ids[62]);
	fake_settle(r.f);
	assert_int_equal(fake_app_unread(r.f, ids[62]), part);
	assert_int_equal(st->counters[MQTT_C_CONNECT_UNREAD], COUNT(ids) - most / 65536 + 2);
	for (unsigned i = 0; i < COUNT(ids); i++)
		fake_close(r.f, ids[i]);
	assert_int_equal(st->begin_bytes, 0);
	assert_int_equal(st->lists[MQTT_L_BEGIN], MQTT_NONE);
	rig_stop(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(will_of_any_size),  cmocka_unit_test(first_byte),
		cmocka_unit_test(name_out_of_reach), cmocka_unit_test(answer_not_understood),
		cmocka_unit_test(strangers),         cmocka_unit_test(half_connects),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
