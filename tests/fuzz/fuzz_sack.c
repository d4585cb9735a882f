// SPDX-License-Identifier: BSD-3-Clause
/* LINK: datapath/stages/proto_loss.c datapath/stages/proto_rack.c datapath/stages/proto_prr.c
 * datapath/stages/proto_undo.c datapath/stages/proto_cubic.c datapath/rack.c
 * datapath/scoreboard.c datapath/stages/proto_tx.c */
/*
 * The sender's scoreboard (proto_loss.c) against a bitmap: what it remembers was reported, is
 * ordered and lies between SND.UNA and SND.MAX; holes, pipe and the next retransmission are what a
 * walk over the bits says.  Input: operations {SACK blocks, ACK, send, retransmit}.
 */
#include "fuzz.h"

#include "proto.h"

#define FUZZ_SPACE 1024u
#define FUZZ_MSS   16u

static struct {
	struct toe_flow_proto fp;
	struct toe_snap snap;
	struct proto_out out;
	struct toe_clock now;
	struct toe_scoreboard mem;
	struct toe_scoreboards pool; /* of one */
	struct toe_scoreboard *other;
	uint32_t base;
	bool told[FUZZ_SPACE]; /* SACKed by the peer at some time */
} f;

static bool board_has(uint32_t bit)
{
	for (uint32_t i = 0; i < proto_sb(&f.fp)->sacked.n; i++)
		if (seq_leq(proto_sb(&f.fp)->sacked.iv[i].left, f.base + bit) &&
		    seq_gt(proto_sb(&f.fp)->sacked.iv[i].right, f.base + bit))
			return true;
	return false;
}

static void check_board(void)
{
	const struct toe_sacked *k = &proto_sb(&f.fp)->sacked;

	FUZZ_CHECK(k->n <= TOE_SACK_MAX);
	for (uint32_t i = 0; i < k->n; i++) {
		FUZZ_CHECK(seq_lt(k->iv[i].left, k->iv[i].right));
		FUZZ_CHECK(seq_gt(k->iv[i].left, i > 0 ? k->iv[i - 1].right : f.fp.snd_una));
		FUZZ_CHECK(seq_leq(k->iv[i].right, f.fp.snd_max));
	}
	for (uint32_t b = 0; b < FUZZ_SPACE; b++)
		FUZZ_CHECK(!board_has(b) || f.told[b]);
}

/* The next hole: not SACKed, not resent, and ends where SACKed bytes begin. */
static void check_hole(bool sure)
{
	uint32_t seq = 0;
	uint32_t len = proto_loss_hole(&f.fp, sure, &seq);

	if (len == 0)
		return;
	FUZZ_CHECK(seq_geq(seq, f.fp.snd_una) && seq_geq(seq, proto_rtx_nxt(&f.fp)));
	FUZZ_CHECK(seq_leq(seq + len, f.fp.snd_max));
	for (uint32_t b = seq - f.base; b < seq - f.base + len; b++)
		FUZZ_CHECK(!board_has(b));
}

static void check_recovery(void)
{
	struct toe_flow_proto *fp = &f.fp;
	uint32_t flight = fp->snd_max - fp->snd_una;
	uint32_t holes = proto_loss_holes(fp);

	if (proto_is(fp, TOE_FP_RECOVERY)) {
		FUZZ_CHECK(holes <= flight);
		FUZZ_CHECK(proto_loss_budget(fp) <= fp->cwnd);
		check_hole(true);
		check_hole(false);
	}
	FUZZ_CHECK(seq_leq(fp->snd_nxt, fp->snd_max));
	FUZZ_CHECK(fp->dup_acks <= proto_dup_thresh(fp));
	FUZZ_CHECK(fp->cwnd >= fp->mss);
}

static void sack(struct fuzz_in *in, uint32_t acked)
{
	struct toe_seg seg = {.ack = f.fp.snd_una};
	bool news;

	seg.sack_n = fuzz_u8(in) % 5;
	for (unsigned i = 0; i < seg.sack_n; i++) {
		uint32_t left = fuzz_u16(in) % FUZZ_SPACE, right = left + fuzz_u8(in);
		uint32_t max = f.fp.snd_max - f.base, una = f.fp.snd_una - f.base;

		seg.sack[i].left = f.base + left;
		seg.sack[i].right = f.base + right;
		if (left > una && right <= max)
			for (uint32_t b = left; b < right; b++)
				f.told[b] = true;
	}
	news = proto_loss_sack(&f.fp, &seg, &f.now, &f.out);
	if (acked > 0)
		proto_loss_acked(&f.fp, acked, &f.out);
	else if (news && f.fp.snd_una != f.fp.snd_max)
		proto_loss_dup(&f.fp, &f.out);
	proto_loss_tlp_ack(&f.fp, &seg, &f.out);
	proto_sb_settle(&f.fp, &f.out);
}

/* As proto_tx.c does with the hole it is given. */
static void resend(void)
{
	uint32_t seq;
	uint32_t len = proto_is(&f.fp, TOE_FP_RECOVERY) ? proto_loss_hole(&f.fp, true, &seq) : 0;

	if (len == 0)
		return;
	len = proto_min(len, f.fp.mss);
	f.fp.flags &= ~TOE_FP_RTX_ONE;
	f.fp.sb->rtx_nxt = seq_max(f.fp.sb->rtx_nxt, seq + len);
	f.fp.sb->rtx_mark = f.fp.snd_max;
}

static void step(struct fuzz_in *in)
{
	struct toe_flow_proto *fp = &f.fp;
	uint32_t n;

	switch (fuzz_u8(in) % 8) {
	case 0: /* new data */
		n = proto_min(fuzz_u8(in), f.base + FUZZ_SPACE - fp->snd_max);
		fp->snd_max += n;
		fp->snd_nxt = fp->tx_tail = fp->snd_max;
		break;
	case 1:
	case 2: /* an ACK with news */
		n = fp->snd_max - fp->snd_una;
		n = n > 0 ? fuzz_u8(in) % (n + 1) : 0;
		fp->snd_una += n;
		fp->snd_nxt = seq_max(fp->snd_nxt, fp->snd_una);
		sack(in, n);
		break;
	case 3:
		resend();
		break;
	case 4:
		n = fuzz_u8(in) % 8;
		if (fp->snd_max != fp->snd_una && n < 2)
			proto_loss_rto(fp, &f.out);
		else if (n < 4 && f.other == NULL) /* someone else has it for a while */
			toe_scoreboard_take(&f.pool, &f.other,
					    n == 2 ? 0 : TOE_SCOREBOARD_IDLE_MS + 8);
		else if (n < 6 && f.other != NULL)
			toe_scoreboard_give(&f.pool, &f.other);
		break;
	case 5:
		if (fp->snd_max != fp->snd_una)
			proto_loss_probe(fp, &f.out);
		break;
	default:
		sack(in, 0);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_in in = {data, size};

	memset(&f, 0, sizeof(f));
	f.base = fuzz_u32(&in);
	f.fp.flags = TOE_FP_VALID | TOE_FP_SACK;
	f.fp.mss = FUZZ_MSS;
	f.fp.cwnd = 10 * FUZZ_MSS;
	f.fp.ssthresh = 1u << 30;
	f.fp.snd_wnd = FUZZ_SPACE;
	f.fp.iss = f.base - 1;
	f.fp.snd_una = f.fp.snd_nxt = f.fp.snd_max = f.fp.tx_tail = f.base;
	f.fp.recover = f.base - 1;
	proto_out_init(&f.out, &f.snap);
	toe_scoreboards_init(&f.pool, &f.mem, 1);
	f.out.scoreboards = &f.pool;
	while (in.left > 0) {
		step(&in);
		check_board();
		check_recovery();
	}
	return 0;
}
