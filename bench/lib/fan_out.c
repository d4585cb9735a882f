// SPDX-License-Identifier: BSD-3-Clause
/* The message of the MQTT fan-out measurements, and the first thing that went wrong. */
#include "bench/lib/fan_out.h"

#include <stdio.h>
#include <string.h>

#include "tests/progs/lib/mqtt.h"

char fan_out_why[160];

void fan_out_problem(const char *text, long a, long b)
{
	if (!fan_out_why[0])
		snprintf(fan_out_why, sizeof(fan_out_why), "%s (%ld, %ld)", text, a, b);
}

size_t fan_out_publish(uint8_t *p, const void *head, size_t head_len, size_t size)
{
	const struct mq_publish m = {.topic = (const uint8_t *)FAN_OUT_TOPIC,
				     .topic_len = strlen(FAN_OUT_TOPIC),
				     .payload_len = size};
	size_t n = mq_put_publish(p, 4, &m);

	memset(p + n, 'x', size);
	if (head_len > 0)
		memcpy(p + n, head, head_len);
	return n + size;
}
