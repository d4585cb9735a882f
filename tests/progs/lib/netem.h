/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Network emulator without its ports: what happens to each frame of one direction, and the line
 * that holds frames until they are due.  Time is an argument, randomness comes from a seed; every
 * IP frame takes the same number of draws, so that frame n of a direction has the same fate in
 * every run.
 */
#ifndef TOE_TEST_NETEM_H
#define TOE_TEST_NETEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NETEM_NAMED_MAX 32u
#define NETEM_ETH_BYTES 14u
#define NETEM_NO_BIT    UINT32_MAX

enum netem_port { NETEM_A, NETEM_B, NETEM_PORTS };

/* The same for both directions, but for named[]: by the port where the frame came in. */
struct netem_conf {
	uint64_t seed;
	double loss;                        /* of each frame, independently */
	double burst_begin, burst_end;      /* Gilbert: good to bad, bad to good; bad loses all */
	double reorder, duplicate, corrupt; /* of each frame, independently */
	uint64_t delay_ns;
	uint64_t jitter_ns;   /* uniform on top of the delay, never overtaking */
	uint64_t reorder_ns;  /* how late a reordered frame is at most */
	uint64_t rate_bps;    /* 0: no limit */
	uint64_t queue_bytes; /* in front of the rate */
	uint64_t named[NETEM_PORTS][NETEM_NAMED_MAX];
	unsigned named_n[NETEM_PORTS];
};

/* What became of frames; causes of a drop exclude each other. */
struct netem_counts {
	uint64_t frames, bytes, data_segments, sent;
	uint64_t loss, burst, named, tail;               /* dropped because of the options */
	uint64_t full, oversize, send_failed, missed;    /* dropped because of ourselves */
	uint64_t duplicate, corrupt, reorder, passed_by; /* passed_by: not IP, only delayed */
};

struct netem_direction {
	const struct netem_conf *conf;
	enum netem_port in;
	uint64_t rng;
	bool bad;               /* Gilbert's state */
	uint64_t queue_free_ns; /* when the rate has sent all that is queued */
	uint64_t last_due_ns;
	struct netem_counts n;
};

struct netem_verdict {
	unsigned copies;   /* 0: dropped, and counted */
	uint32_t flip_bit; /* of the frame, or NETEM_NO_BIT */
	uint64_t due_ns[2];
};

/* Frames in order of when they are due, equal times in order of arrival. */
struct netem_entry {
	uint64_t due_ns, serial;
	uint32_t slot, len;
};

struct netem_line {
	struct netem_entry *heap;
	uint32_t n, max;
	uint64_t serial;
};

/* "ab:3,ba:10": frames that carry TCP data, counted from 1 at the port they enter, retransmissions
 * too.  0 or -EINVAL. */
int netem_named_parse(struct netem_conf *conf, const char *text);

void netem_direction_init(struct netem_direction *d, const struct netem_conf *conf,
			  enum netem_port in);
void netem_frame_decide(struct netem_direction *d, const uint8_t *frame, uint32_t len,
			uint64_t now_ns, struct netem_verdict *v);
void netem_frame_flip(uint8_t *frame, uint32_t bit);

/* TCP payload in an untagged IPv4 or IPv6 frame; 0 also for anything else. */
uint32_t netem_frame_payload(const uint8_t *frame, uint32_t len);

/* False: no room. */
bool netem_line_push(struct netem_line *l, uint64_t due_ns, uint32_t slot, uint32_t len);
/* The earliest frame, if it is due. */
bool netem_line_pop(struct netem_line *l, uint64_t now_ns, struct netem_entry *e);

#endif
