/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Protocol stage: how much fast recovery may send (Proportional Rate Reduction, RFC 9937).
 *
 * cwnd comes down to ssthresh over the round trip of recovery, by the share of what arrives,
 * instead of at once: no half round trip of silence, no burst behind it.  Expressed as cwnd = pipe
 * + what this ACK lets go, so that all else works as without.  State: the flow's element of the
 * pool (rack.h).  Thread: the proto instance.
 */
#include "proto.h"

#define PRR_BURST 4u /* segments; as RFC 6582 has it after recovery */

void proto_prr_begin(struct toe_flow_proto *fp, struct proto_out *out)
{
	struct toe_rack *r = proto_rack(fp, out);

	if (r == NULL)
		return;
	r->prr_delivered = r->prr_out = 0;
	r->prr_told = fp->snd_una;
	r->prr_flight = proto_max(
		fp->snd_max - fp->snd_una - proto_loss_sacked_in(fp, fp->snd_una, fp->snd_max), 1);
}

void proto_prr_end(struct toe_flow_proto *fp, struct proto_out *out)
{
	struct toe_rack *r = proto_rack(fp, out);

	if (r != NULL)
		r->prr_flight = 0;
}

uint32_t proto_prr_told(const struct toe_flow_proto *fp)
{
	return fp->snd_una + proto_loss_sacked_in(fp, fp->snd_una, fp->snd_max);
}

/* Bytes told of since then, and never before in this recovery: a peer that takes back what it has
 * SACKed (RFC 2018 §8), or whose blocks we have forgotten, tells of the same bytes again. */
static uint32_t prr_delivered(const struct toe_flow_proto *fp, struct toe_rack *r, uint32_t told)
{
	uint32_t now = proto_prr_told(fp);
	uint32_t from = seq_max(told, r->prr_told);

	r->prr_told = seq_max(now, r->prr_told);
	return seq_gt(now, from) ? now - from : 0;
}

void proto_prr_acked(struct toe_flow_proto *fp, uint32_t told, bool good, struct proto_out *out)
{
	struct toe_rack *r = proto_rack(fp, out);
	uint32_t delivered, pipe, out_bytes, let;

	if (r == NULL || r->prr_flight == 0)
		return;
	pipe = proto_loss_pipe(fp);
	delivered = prr_delivered(fp, r, told);
	r->prr_delivered += delivered;
	out_bytes = r->prr_out;
	if (pipe > fp->ssthresh) {
		uint64_t share = (uint64_t)r->prr_delivered * fp->ssthresh;

		let = (uint32_t)((share + r->prr_flight - 1) / r->prr_flight);
		let = let > out_bytes ? let - out_bytes : 0;
	} else {
		/* Slow start reduction bound, or conservative (PRR-SSRB, PRR-CRB); but a burst that
		 * is none is not worth waiting for ACKs, of which a small window has few. */
		let = r->prr_delivered > out_bytes ? r->prr_delivered - out_bytes : 0;
		let = proto_max(let, delivered) + (good ? fp->mss : 0);
		let = proto_min(proto_max(let, PRR_BURST * fp->mss), fp->ssthresh - pipe);
	}
	if (out_bytes == 0)
		let = proto_max(let, fp->mss); /* the first one in any case */
	fp->cwnd = proto_max(pipe + let, fp->mss);
}

void proto_prr_sent(struct toe_flow_proto *fp, uint32_t bytes, struct proto_out *out)
{
	struct toe_rack *r = proto_rack(fp, out);

	if (r != NULL && r->prr_flight != 0)
		r->prr_out += bytes;
}
