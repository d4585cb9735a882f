/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Protocol stage: congestion avoidance of CUBIC (RFC 9438).
 *
 * After a loss cwnd comes back to where it was along a cubic function of time, flat around the
 * window of the last loss and steeper far from it, and never slower than Reno would (the
 * Reno-friendly region, which is all there is where round trips are short).  Windows are bytes,
 * times milliseconds.  State: the flow's element of the pool (rack.h).  It has one while something
 * is in flight; what the next one has to know can be told from ssthresh.  A flow that could not
 * have one, and one with ECN, whose windows are DCTCP's (RFC 8257), grows and shrinks as RFC 5681
 * has it.  Thread: the proto instance.
 */
#include "proto.h"

/* Multiplicative decrease, and that with fast convergence (RFC 9438 §4.6, §4.7): 0.7, (1 + 0.7)/2
 */
#define CUBIC_BETA(w)     ((uint32_t)((uint64_t)(w)*7 / 10))
#define CUBIC_CONVERGE(w) ((uint32_t)((uint64_t)(w)*17 / 20))
#define CUBIC_BEFORE(w)   ((uint32_t)((uint64_t)(w)*10 / 7))

/* alpha_cubic = 3 (1 - beta) / (1 + beta) (§4.3) */
#define CUBIC_ALPHA_NUM 9u
#define CUBIC_ALPHA_DEN 17u

/* C = 0.4 segments/s³ = 1 / CUBIC_C_INV segments/ms³, divided in two steps so that 64 bits do. */
#define CUBIC_C_INV_1 2500
#define CUBIC_C_INV_2 1000000
#define CUBIC_FAR     (1 << 18) /* ms: further from K nothing changes */

static struct toe_cubic *cubic_of(const struct toe_flow_proto *fp, const struct proto_out *out)
{
	struct toe_rack *r = proto_is(fp, TOE_FP_ECN) ? NULL : proto_rack(fp, out);

	return r != NULL ? &r->cubic : NULL;
}

/* Rounded down. */
static uint32_t cube_root(uint64_t x)
{
	uint64_t y = 0;

	for (int s = 63; s >= 0; s -= 3) {
		uint64_t b;

		y *= 2;
		b = 3 * y * (y + 1) + 1;
		if (x >> s >= b) {
			x -= b << s;
			y++;
		}
	}
	return (uint32_t)y;
}

/* W_cubic(t) = C (t - K)³ + W_max (§4.2 fig. 1), t in ms after the beginning of the epoch. */
static uint32_t cubic_window(const struct toe_flow_proto *fp, const struct toe_cubic *c, uint32_t t)
{
	int64_t d = (int64_t)t - c->k_ms;
	int64_t w;

	d = d > CUBIC_FAR ? CUBIC_FAR : d < -CUBIC_FAR ? -CUBIC_FAR : d;
	w = d * d * d / CUBIC_C_INV_1 * fp->mss / CUBIC_C_INV_2 + c->w_max;
	return w < 0 ? 0 : w > PROTO_CWND_MAX ? PROTO_CWND_MAX : (uint32_t)w;
}

/* Congestion avoidance begins (§4.2 fig. 2). */
static void cubic_begin(const struct toe_flow_proto *fp, struct toe_cubic *c, uint32_t now_ms)
{
	uint64_t below = c->w_max > fp->cwnd ? c->w_max - fp->cwnd : 0;

	c->running = true;
	c->epoch_ms = now_ms;
	c->w_est = fp->cwnd;
	c->w_est_rest = 0;
	c->w_max = proto_max(c->w_max, fp->cwnd);
	c->k_ms = cube_root(below * CUBIC_C_INV_1 * CUBIC_C_INV_2 / fp->mss);
}

/* Reno's window, had it lost as CUBIC has (§4.3 fig. 4); and as Reno grows once it is there. */
static void cubic_grow_est(const struct toe_flow_proto *fp, struct toe_cubic *c, uint32_t acked)
{
	uint64_t add = (uint64_t)acked * fp->mss;

	if (c->w_est < c->cwnd_prior)
		add = add * CUBIC_ALPHA_NUM / CUBIC_ALPHA_DEN;
	add += c->w_est_rest;
	c->w_est = proto_min(c->w_est + (uint32_t)(add / fp->cwnd), PROTO_CWND_MAX);
	c->w_est_rest = (uint32_t)(add % fp->cwnd);
}

bool proto_cubic_grow(const struct toe_flow_proto *fp, uint32_t acked, struct proto_out *out,
		      uint32_t *add)
{
	struct toe_cubic *c = cubic_of(fp, out);
	uint32_t t, target;

	if (c == NULL)
		return false;
	acked = proto_min(acked, fp->cwnd);
	if (!c->running)
		cubic_begin(fp, c, out->now_ms);
	cubic_grow_est(fp, c, acked);
	t = out->now_ms - c->epoch_ms;
	if (cubic_window(fp, c, t) < c->w_est) {
		*add = c->w_est > fp->cwnd ? c->w_est - fp->cwnd : 0;
		return true;
	}
	target = cubic_window(fp, c, t + fp->srtt_us / 1000);
	target = proto_max(proto_min(target, fp->cwnd + fp->cwnd / 2), fp->cwnd);
	*add = (uint32_t)((uint64_t)(target - fp->cwnd) * acked / fp->cwnd);
	return true;
}

void proto_cubic_recall(const struct toe_flow_proto *fp, struct proto_out *out)
{
	struct toe_cubic *c = cubic_of(fp, out);

	if (c == NULL || fp->ssthresh >= PROTO_CWND_MAX / 2)
		return; /* nothing has been lost yet */
	c->cwnd_prior = CUBIC_BEFORE(fp->ssthresh);
	c->w_max = proto_is(fp, TOE_FP_CUBIC) ? c->cwnd_prior : 0;
}

void proto_cubic_pause(const struct toe_flow_proto *fp, struct proto_out *out)
{
	struct toe_cubic *c = cubic_of(fp, out);

	if (c != NULL)
		c->running = false;
}

uint32_t proto_cubic_reduce(struct toe_flow_proto *fp, uint32_t window, struct proto_out *out)
{
	struct toe_cubic *c = cubic_of(fp, out);

	fp->flags &= ~TOE_FP_CUBIC;
	if (c == NULL)
		return window / 2;
	fp->flags |= TOE_FP_CUBIC;
	c->running = false;
	c->cwnd_prior = window;
	c->w_max = window < c->w_max ? CUBIC_CONVERGE(window) : window;
	return CUBIC_BETA(window);
}

void proto_cubic_timeout(struct toe_flow_proto *fp, struct proto_out *out)
{
	struct toe_cubic *c = cubic_of(fp, out);

	fp->flags &= ~TOE_FP_CUBIC;
	if (c == NULL)
		return;
	c->running = false;
	c->w_max = 0; /* the path may be another one: K = 0 (§4.8) */
}
