/* SPDX-License-Identifier: BSD-3-Clause */
/* A publisher and a subscriber of "t" at the MQTT stage, and what operators and libtoe say to it.
 */
#ifndef MQTT_PAIR_H
#define MQTT_PAIR_H

#include "mqtt_stage_rig.h"

struct pair {
	uint32_t from, to;
	struct pk pub;
};

static inline struct pair start_pair(struct rig *r)
{
	struct pair p = {.pub.n = 0};

	rig_start(r, "#", 1000);
	p.from = rig_connect(r, 4, "pub", true, 0);
	p.to = rig_connect(r, 4, "sub", true, 0);
	rig_subscribe(r, p.to, "t", 0, 0);
	rig_publish(&p.pub, 4, "t", NULL, "x", 1);
	rig_forget(r);
	return p;
}

static inline void publish(struct rig *r, const struct pair *p)
{
	fake_client_write(r->f, p->from, p->pub.b, p->pub.n);
	rig_run(r);
	rig_expect(r, p->to, &p->pub);
}

static inline void order(struct rig *r, const char *what, const char *arg)
{
	char out[4096];
	struct toe_stream_ask a = {.what = what, .arg = arg, .out = out, .room = sizeof(out)};

	assert_int_equal(mqtt_control(fake_stream(r->f), &a), 0);
}

static inline int news(struct rig *r, const char *text)
{
	char out[4096];
	struct toe_stream_ask a = {.what = "kernel", .arg = text, .out = out, .room = sizeof(out)};

	return mqtt_control(fake_stream(r->f), &a);
}

static inline void status_has(struct rig *r, const char *text)
{
	char out[8192];
	struct toe_stream_ask a = {.what = "status", .arg = "", .out = out, .room = sizeof(out)};

	assert_int_equal(mqtt_control(fake_stream(r->f), &a), 0);
	assert_non_null(strstr(out, text));
}

#endif
