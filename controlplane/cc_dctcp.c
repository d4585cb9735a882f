/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * DCTCP (RFC 8257) on samples.  Once per observation window (at least one round trip) alpha moves
 * by g = 1/16 towards the fraction of marked bytes, and if there were marks cwnd shrinks by
 * alpha/2, but not by marks on what had been sent before the last reduction (RFC 3168 §6.1.2).
 * Growth and loss are the datapath's: its cwnd and ssthresh are adopted.
 */
#include "cc.h"
#include "common/tcp_seq.h"
#include "toe/cpq.h"

#define DCTCP_G_SHIFT 4u /* g = 1/16 */

static uint32_t clamp_cwnd(uint64_t cwnd, const struct cc_sample *in)
{
	uint32_t floor = 2 * in->mss;

	return cwnd < floor ? floor : (uint32_t)cwnd;
}

static void dctcp_init(struct cc_state *s, uint32_t mss, uint32_t snd_una)
{
	*s = (struct cc_state){
		.cwnd = cc_initial_window(mss),
		.ssthresh = CC_SSTHRESH_MAX,
		.alpha = CC_ALPHA_ONE, /* conservative (RFC 8257 §3.3) */
		.window_end = snd_una,
	};
}

/* alpha = (1 - g) alpha + g M.  The decay takes at least 1, or it would stick above 0. */
static void update_alpha(struct cc_state *s)
{
	uint32_t decay = s->alpha >> DCTCP_G_SHIFT;
	uint64_t add;

	if (!decay && s->alpha)
		decay = 1;
	add = ((uint64_t)s->marked * (CC_ALPHA_ONE >> DCTCP_G_SHIFT)) / s->acked;
	s->alpha = (uint32_t)(s->alpha - decay + add);
	if (s->alpha > CC_ALPHA_ONE)
		s->alpha = CC_ALPHA_ONE;
}

static void begin_window(struct cc_state *s, const struct cc_sample *in, bool reduced)
{
	s->reduced = reduced;
	s->acked = s->marked = s->window_us = 0;
	s->window_end = in->snd_nxt;
}

/* Marks on what had been sent before the reduction: in the first round trip behind it.  A window
 * can be many, where the control plane looks less often than that. */
static bool same_queue(const struct cc_state *s, const struct cc_sample *in)
{
	return s->reduced && s->window_us < 2ull * in->srtt_us;
}

/* The window is over: alpha, and the reduction if it had marks. */
static void end_window(struct cc_state *s, const struct cc_sample *in)
{
	bool reduce = s->acked && s->marked && !same_queue(s, in);

	if (s->acked)
		update_alpha(s);
	if (reduce) {
		uint64_t cut = ((uint64_t)s->cwnd * s->alpha) / (2ull * CC_ALPHA_ONE);

		s->cwnd = clamp_cwnd(s->cwnd - cut, in);
		s->ssthresh = s->cwnd;
	}
	begin_window(s, in, reduce && in->snd_una != in->snd_nxt);
}

static void dctcp_on_interval(struct cc_state *s, const struct cc_sample *in,
			      struct cc_decision *out)
{
	s->cwnd = in->cwnd;
	s->ssthresh = in->ssthresh;
	if (in->loss || in->recovery) {
		/* The window had its reduction; marks in it must not cause a second one. */
		begin_window(s, in, true);
	} else {
		if (s->window_us < UINT32_MAX / 2)
			s->window_us += in->dt_us;
		s->acked += in->acked_bytes;
		s->marked += in->ecn_bytes;
		if (seq_gt(in->snd_una, s->window_end) || in->snd_una == in->snd_nxt)
			end_window(s, in);
	}
	out->cwnd = s->cwnd;
	out->ssthresh = s->ssthresh;
	out->rate_bps = TOE_RATE_UNPACED;
}

const struct cc_ops cc_dctcp = {
	.name = "dctcp",
	.init = dctcp_init,
	.on_interval = dctcp_on_interval,
};
