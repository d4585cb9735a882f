/* SPDX-License-Identifier: BSD-3-Clause */
/* What the MQTT fan-out measurements have in common: the message, and the first thing that went
 * wrong.  One thread. */
#ifndef BENCH_FAN_OUT_H
#define BENCH_FAN_OUT_H

#include <stddef.h>
#include <stdint.h>

#define FAN_OUT_TOPIC "bench/fan-out1" /* 14 bytes */

/* A PUBLISH of MQTT 3.1.1, QoS 0, at p: size bytes of payload that begin with head and go on with
 * x.  Returns its length; head_len <= size. */
size_t fan_out_publish(uint8_t *p, const void *head, size_t head_len, size_t size);

/* What went wrong first, "": nothing did. */
extern char fan_out_why[160];
void fan_out_problem(const char *text, long a, long b);

#endif
