// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/unit/mqtt_world.h */
/*
 * libFuzzer target: the MQTT stage over the fake stream stage.  The first input byte chooses.
 * Even: the rest are the choices of the model world (well-formed clients, reference broker,
 * oracle). Odd: the rest are steps on four connections whose client and broker say what the input
 * says: nothing may be read or written outside, memory is given back, and a connection that is no
 * MQTT passes its bytes unchanged.  `make fuzz T=mqtt_stage` builds and runs it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "tests/unit/mqtt_module.h"
#include "tests/unit/mqtt_world.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CONNS 4u
#define STEPS 400u

/* In place of libc's: the stage's hashes have the same key in every run, as an input must. */
ssize_t getrandom(void *buffer, size_t length, unsigned flags)
{
	(void)flags;
	memset(buffer, 0x5a, length);
	return (ssize_t)length;
}

static void require(int cond)
{
	if (!cond)
		abort();
}

static void model(const uint8_t *data, size_t size)
{
	const struct world_opts o = {.seed = 1, .data = data, .len = size, .steps = STEPS};
	const char *wrong = world_run(&o);

	if (wrong != NULL) {
		fprintf(stderr, "%s\n", wrong);
		abort();
	}
}

/* A usable beginning: connected, subscribed, its answer, so that bytes get further. */
static void begin(struct fake *f, uint32_t id, uint8_t level)
{
	static const uint8_t con4[] = "\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01"
				      "A\x82\x06\x00\x01\x00\x01#\x01";
	static const uint8_t con5[] = "\x10\x0e\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01"
				      "B\x82\x07\x00\x01\x00\x00\x01#\x01";
	static const uint8_t ack4[] = "\x20\x02\x00\x00\x90\x03\x00\x01\x01\xd0\x00";
	static const uint8_t ack5[] = "\x20\x03\x00\x00\x00\x90\x04\x00\x01\x00\x01\xd0\x00";
	bool five = level == 5;

	fake_client_write(f, id, five ? con5 : con4, five ? sizeof(con5) - 1 : sizeof(con4) - 1);
	fake_settle(f);
	fake_app_write(f, id, five ? ack5 : ack4, five ? sizeof(ack5) - 1 : sizeof(ack4) - 1);
	fake_settle(f);
}

static void step(struct fake *f, uint32_t *id, uint8_t op, const uint8_t *arg, size_t n)
{
	uint32_t *c = &id[op & 3u];

	switch (op >> 2 & 15u) {
	case 0:
	case 1:
	case 2:
		fake_client_write(f, *c, arg, n);
		break;
	case 3:
	case 4:
		fake_app_write(f, *c, arg, n);
		break;
	case 5:
		fake_offer(f, *c, n + 1);
		break;
	case 6:
		fake_hc(f);
		break;
	case 7:
		fake_fetch(f, *c, n + 1);
		break;
	case 8:
		fake_poll(f, (unsigned)n + 1);
		break;
	case 9:
		fake_time(f, (uint32_t)(n * n * 10));
		break;
	case 10:
		fake_client_fin(f, *c);
		break;
	case 11:
		fake_app_close(f, *c);
		break;
	case 12:
		fake_close(f, *c);
		*c = fake_open(f);
		if (n & 1)
			begin(f, *c, n & 2 ? 5 : 4);
		break;
	case 13:
		fake_client_read(f, *c, NULL, n * 8);
		break;
	default:
		fake_settle(f);
		break;
	}
}

static void bytes(const uint8_t *data, size_t size)
{
	const struct toe_config cfg = {.mqtt_message_max = 300,
				       .mqtt_queue_messages = 20,
				       .mqtt_queue_bytes = 4000,
				       .mqtt_subscriptions = 16,
				       .mqtt_port_n = 1,
				       .mqtt_ports = {1883},
				       .mqtt_offload_n = 1,
				       .mqtt_offload = {"#"}};
	const struct fake_opts fo = {.arena_mb = 4, .app_buf = 200, .tx_limit = 400};
	struct fake *f = fake_new(&mqtt_module, &cfg, &fo);
	uint32_t id[CONNS];

	for (unsigned i = 0; i < CONNS; i++) {
		id[i] = fake_open(f);
		if (i < 3)
			begin(f, id[i], i == 2 ? 5 : 4);
	}
	while (size >= 2) {
		size_t n = data[1] & 31u;

		n = n < size - 2 ? n : size - 2;
		step(f, id, data[0], data + 2, n);
		data += 2 + n;
		size -= 2 + n;
	}
	fake_settle(f);
	fake_time(f, 2000);
	fake_settle(f);
	require(fake_free(f) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1)
		return 0;
	if (data[0] & 1u)
		bytes(data + 1, size - 1);
	else
		model(data + 1, size - 1);
	return 0;
}
