// SPDX-License-Identifier: BSD-3-Clause
/*
 * Decisions of the network emulator and its delay line.  Inputs: configuration, frames, time.
 * Output: a verdict per frame, counters.  State: one netem_direction per direction, owned by the
 * caller; no I/O, no clock, no allocation.  Runs in netem's only thread and in unit tests.
 */
#include "tests/progs/lib/netem.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "tests/progs/lib/util.h"

#define ETHERTYPE_V4 0x0800u
#define ETHERTYPE_V6 0x86ddu
#define V6_BYTES     40u
#define TCP_MIN      20u

int netem_named_parse(struct netem_conf *conf, const char *text)
{
	while (*text) {
		enum netem_port in = strncmp(text, "ab:", 3) == 0 ? NETEM_A : NETEM_B;
		unsigned long long nth;
		char *end;

		if ((in == NETEM_B && strncmp(text, "ba:", 3) != 0) ||
		    conf->named_n[in] == NETEM_NAMED_MAX || text[3] < '0' || text[3] > '9')
			return -EINVAL;
		nth = strtoull(text + 3, &end, 10);
		if (nth == 0 || (*end != ',' && *end != '\0'))
			return -EINVAL;
		conf->named[in][conf->named_n[in]++] = nth;
		text = *end ? end + 1 : end;
	}
	return 0;
}

void netem_direction_init(struct netem_direction *d, const struct netem_conf *conf,
			  enum netem_port in)
{
	*d = (struct netem_direction){.conf = conf, .in = in};
	/* never 0, and far apart for neighbouring seeds */
	d->rng = ((conf->seed * 2 + (uint64_t)in + 1) * 0x9e3779b97f4a7c15ull) | 1;
	for (int i = 0; i < 8; i++)
		rng_next(&d->rng);
}

static uint32_t be16_get(const uint8_t *p)
{
	return (uint32_t)p[0] << 8 | p[1];
}

static bool frame_is_ip(const uint8_t *frame, uint32_t len)
{
	return len > NETEM_ETH_BYTES &&
	       (be16_get(frame + 12) == ETHERTYPE_V4 || be16_get(frame + 12) == ETHERTYPE_V6);
}

uint32_t netem_frame_payload(const uint8_t *frame, uint32_t len)
{
	const uint8_t *ip = frame + NETEM_ETH_BYTES;
	uint32_t l3, total, tcp;
	uint8_t proto;

	if (!frame_is_ip(frame, len) || len < NETEM_ETH_BYTES + TCP_MIN)
		return 0;
	len -= NETEM_ETH_BYTES;
	if (be16_get(frame + 12) == ETHERTYPE_V4) {
		l3 = (ip[0] & 15u) * 4;
		total = be16_get(ip + 2);
		proto = ip[9];
	} else {
		if (len < V6_BYTES)
			return 0;
		l3 = V6_BYTES;
		total = V6_BYTES + be16_get(ip + 4);
		proto = ip[6];
	}
	if (proto != IPPROTO_TCP || total > len || total < l3 + TCP_MIN)
		return 0;
	tcp = (uint32_t)(ip[l3 + 12] >> 4) * 4;
	return total > l3 + tcp ? total - l3 - tcp : 0;
}

void netem_frame_flip(uint8_t *frame, uint32_t bit)
{
	frame[bit / 8] ^= (uint8_t)(1u << bit % 8);
}

/* Uniform in [0, 1). */
static double draw(struct netem_direction *d)
{
	return (double)(rng_next(&d->rng) >> 11) * 0x1p-53;
}

static bool named_has(const struct netem_conf *c, enum netem_port in, uint64_t nth)
{
	for (unsigned i = 0; i < c->named_n[in]; i++)
		if (c->named[in][i] == nth)
			return true;
	return false;
}

/* When the last bit leaves the queue for the rate; 0: no room in it. */
static uint64_t queue_enter(struct netem_direction *d, uint32_t len, uint64_t now_ns)
{
	const struct netem_conf *c = d->conf;
	uint64_t waiting_ns = d->queue_free_ns > now_ns ? d->queue_free_ns - now_ns : 0;

	if (c->rate_bps == 0)
		return now_ns;
	if ((double)waiting_ns * (double)c->rate_bps / 8e9 + len > (double)c->queue_bytes)
		return 0;
	d->queue_free_ns =
		now_ns + waiting_ns + (uint64_t)((double)len * 8e9 / (double)c->rate_bps);
	return d->queue_free_ns;
}

/* One copy through queue and delay; false if the queue is full.  late_ns: reordered. */
static bool copy_schedule(struct netem_direction *d, uint32_t len, const uint64_t times[3],
			  uint64_t *due_ns)
{
	uint64_t out = queue_enter(d, len, times[0]);

	if (out == 0) {
		d->n.tail++;
		return false;
	}
	out += d->conf->delay_ns + times[1];
	if (out < d->last_due_ns)
		out = d->last_due_ns;
	/* those behind a reordered frame do not wait for it */
	d->last_due_ns = out;
	*due_ns = out + times[2];
	return true;
}

void netem_frame_decide(struct netem_direction *d, const uint8_t *frame, uint32_t len,
			uint64_t now_ns, struct netem_verdict *v)
{
	const struct netem_conf *c = d->conf;
	bool ip = frame_is_ip(frame, len), data = netem_frame_payload(frame, len) > 0;
	uint64_t times[3] = {now_ns, 0, 0}; /* now, jitter, how late */
	bool lost, twice, damaged, late;
	double where;

	*v = (struct netem_verdict){.flip_bit = NETEM_NO_BIT};
	d->n.frames++;
	d->n.bytes += len;
	/* ARP has no checksum: damaged, it would poison caches for minutes */
	if (!ip) {
		d->n.passed_by++;
		v->copies = copy_schedule(d, len, times, &v->due_ns[0]);
		return;
	}
	d->n.data_segments += data;
	d->bad = d->bad ? draw(d) >= c->burst_end : draw(d) < c->burst_begin;
	lost = draw(d) < c->loss;
	twice = draw(d) < c->duplicate;
	damaged = draw(d) < c->corrupt;
	where = draw(d);
	late = draw(d) < c->reorder;
	times[2] = (uint64_t)(draw(d) * (double)c->reorder_ns);
	times[1] = (uint64_t)(draw(d) * (double)c->jitter_ns);
	if (!late)
		times[2] = 0;
	if (data && named_has(c, d->in, d->n.data_segments)) {
		d->n.named++;
		return;
	}
	if (lost || d->bad) {
		d->n.loss += lost;
		d->n.burst += !lost;
		return;
	}
	if (damaged)
		v->flip_bit = NETEM_ETH_BYTES * 8 +
			      (uint32_t)(where * (double)((len - NETEM_ETH_BYTES) * 8));
	v->copies = copy_schedule(d, len, times, &v->due_ns[0]);
	if (v->copies && twice)
		v->copies += copy_schedule(d, len, times, &v->due_ns[1]);
	d->n.corrupt += v->copies && damaged;
	d->n.reorder += v->copies && late;
	d->n.duplicate += v->copies == 2;
}

static bool entry_before(const struct netem_entry *a, const struct netem_entry *b)
{
	return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->serial < b->serial;
}

bool netem_line_push(struct netem_line *l, uint64_t due_ns, uint32_t slot, uint32_t len)
{
	const struct netem_entry e = {due_ns, l->serial, slot, len};
	uint32_t i = l->n;

	if (l->n == l->max)
		return false;
	l->serial++;
	l->n++;
	for (; i > 0 && entry_before(&e, &l->heap[(i - 1) / 2]); i = (i - 1) / 2)
		l->heap[i] = l->heap[(i - 1) / 2];
	l->heap[i] = e;
	return true;
}

bool netem_line_pop(struct netem_line *l, uint64_t now_ns, struct netem_entry *e)
{
	struct netem_entry last;
	uint32_t i = 0, child;

	if (l->n == 0 || l->heap[0].due_ns > now_ns)
		return false;
	*e = l->heap[0];
	last = l->heap[--l->n];
	while ((child = 2 * i + 1) < l->n) {
		if (child + 1 < l->n && entry_before(&l->heap[child + 1], &l->heap[child]))
			child++;
		if (!entry_before(&l->heap[child], &last))
			break;
		l->heap[i] = l->heap[child];
		i = child;
	}
	l->heap[i] = last;
	return true;
}
