/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Interval set of bytes received out of order.
 *
 * Job: remember which bytes above RCV.NXT are already in RX-PAYLOAD-BUF, in order of recency for
 * SACK.  Inputs: sequence numbers that proto has trimmed to the receive window.  Owns nothing: the
 * set lives in a scoreboard.  Thread: the proto instance of the flow-group.
 */
#include "ooo.h"

#include "common/tcp_seq.h"

static void ooo_remove(struct toe_ooo *o, uint32_t index)
{
	o->n--;
	for (uint32_t i = index; i < o->n; i++)
		o->iv[i] = o->iv[i + 1];
}

static void ooo_push_front(struct toe_ooo *o, uint32_t left, uint32_t right)
{
	for (uint32_t i = o->n; i > 0; i--)
		o->iv[i] = o->iv[i - 1];
	o->iv[0].left = left;
	o->iv[0].right = right;
	o->n++;
}

static bool ooo_touches(const struct toe_ooo *o, uint32_t i, uint32_t left, uint32_t right)
{
	return seq_leq(o->iv[i].left, right) && seq_leq(left, o->iv[i].right);
}

bool toe_ooo_add(struct toe_ooo *o, uint32_t left, uint32_t right)
{
	uint32_t touching = 0;

	for (uint32_t i = 0; i < o->n; i++)
		touching += ooo_touches(o, i, left, right);
	if (touching == 0 && o->n == TOE_OOO_MAX)
		return false;
	/* Disjoint intervals that did not touch each other cannot start to touch the union without
	 * touching the new one, so one pass absorbs all. */
	for (uint32_t i = 0; i < o->n;) {
		if (!ooo_touches(o, i, left, right)) {
			i++;
			continue;
		}
		left = seq_min(left, o->iv[i].left);
		right = seq_max(right, o->iv[i].right);
		ooo_remove(o, i);
	}
	ooo_push_front(o, left, right);
	return true;
}

bool toe_ooo_touch(struct toe_ooo *o, uint32_t left, uint32_t right)
{
	for (uint32_t i = 0; i < o->n; i++) {
		if (seq_leq(o->iv[i].left, left) && seq_leq(right, o->iv[i].right)) {
			uint32_t l = o->iv[i].left, r = o->iv[i].right;

			ooo_remove(o, i);
			ooo_push_front(o, l, r);
			return true;
		}
	}
	return false;
}

uint32_t toe_ooo_advance(struct toe_ooo *o, uint32_t nxt)
{
	for (uint32_t i = 0; i < o->n;) {
		if (seq_gt(o->iv[i].left, nxt)) {
			i++;
			continue;
		}
		nxt = seq_max(nxt, o->iv[i].right);
		ooo_remove(o, i);
		i = 0; /* the new edge may reach one already looked at */
	}
	return nxt;
}

bool toe_ooo_beyond(const struct toe_ooo *o, uint32_t seq)
{
	for (uint32_t i = 0; i < o->n; i++)
		if (seq_gt(o->iv[i].right, seq))
			return true;
	return false;
}

uint32_t toe_ooo_bytes(const struct toe_ooo *o)
{
	uint32_t bytes = 0;

	for (uint32_t i = 0; i < o->n; i++)
		bytes += o->iv[i].right - o->iv[i].left;
	return bytes;
}
