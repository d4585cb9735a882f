// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/unit/proto_rig.h */
/*
 * The protocol machine under sequences of {segment relative to the state, application call, time
 * step, command}.  After every step: what the application reads is a prefix of what the peer sent,
 * the right edge never retreats, what is sent lies in the stream and in the peer's window, buffers
 * sum up, sched knows what is sendable, the control plane knows of everything outstanding.  In the
 * end an honest peer takes over: all that was written must arrive.
 */
#include "fuzz.h"

#include <sys/socket.h>

#include "proto.h"

#define FUZZ_BUF_MAX 16384u
#define FUZZ_STEPS   400u

static struct {
	struct toe_flow_proto fp;
	struct toe_flow_post post;
	struct toe_flow_addr6 addr6;
	struct toe_clock now;
	struct toe_snap snap;
	struct proto_out out;
	struct toe_work_ctrl wc;
	struct toe_hc hc;
	uint8_t rx[FUZZ_BUF_MAX];
	uint32_t read;     /* position */
	uint32_t rx_tail;  /* told to the application */
	uint32_t tx_head;  /* likewise */
	uint32_t written;  /* by the application, and taken */
	uint32_t avail;    /* told to sched */
	uint32_t peer_end; /* position after the last byte or FIN the peer has used */
	uint32_t edge;     /* right edge on the wire */
	bool edge_valid;
	bool active; /* the control plane polls */
	bool reset;  /* told the control plane */
	bool closed;
	bool removed;
} f;

static struct toe_rack_pool racks;         /* of one element, or of none */
static struct toe_scoreboards scoreboards; /* of one, which others want as well */
static struct toe_scoreboard scoreboard_mem, *other_sb;

static void begin(void)
{
	proto_out_init(&f.out, &f.snap);
	f.out.racks = &racks;
	f.out.scoreboards = &scoreboards;
	f.out.now_ms = f.now.ms;
	f.out.post = &f.post;
	f.out.addr6 = &f.addr6;
}

static uint8_t stream_byte(uint32_t pos)
{
	return (uint8_t)((pos * 2654435761u) >> 13);
}

/* ---- checks ---- */

static void check_sent(uint32_t una, uint32_t max, bool tx)
{
	const struct toe_flow_proto *fp = &f.fp;
	const struct toe_snap *s = &f.snap;
	uint32_t edge = s->ack + ((uint32_t)s->wnd << fp->rcv_wscale);
	uint32_t end = s->seq + (tx ? s->len : 0);

	FUZZ_CHECK(s->ack == fp->rcv_nxt);
	if (f.edge_valid && !(s->flags & RTE_TCP_RST_FLAG))
		FUZZ_CHECK(seq_gt(edge + (1u << fp->rcv_wscale), f.edge));
	f.edge = f.edge_valid ? seq_max(f.edge, edge) : edge;
	f.edge_valid = true;
	FUZZ_CHECK(s->sack_n <= 3);
	for (unsigned i = 0; i < s->sack_n; i++)
		FUZZ_CHECK(seq_lt(s->sack[i].left, s->sack[i].right));
	if (!tx)
		return;
	FUZZ_CHECK(s->len <= fp->mss);
	FUZZ_CHECK(seq_leq(end, fp->tx_tail));
	FUZZ_CHECK(s->len == 0 || seq_geq(s->seq, una));
	FUZZ_CHECK(s->pos == s->seq - fp->iss - 1 || s->len == 0);
	if (s->len > 0 && seq_gt(end, max))
		FUZZ_CHECK(seq_leq(end, una + fp->snd_wnd));
}

static void check_state(void)
{
	const struct toe_flow_proto *fp = &f.fp;
	const struct toe_sacked *sacked = &proto_sb(fp)->sacked;
	const struct toe_ooo *ooo = &proto_sb(fp)->ooo;

	FUZZ_CHECK(seq_leq(fp->snd_una, fp->snd_nxt) && seq_leq(fp->snd_nxt, fp->snd_max));
	FUZZ_CHECK(seq_leq(fp->snd_max, fp->tx_tail + 1));
	FUZZ_CHECK(fp->tx_tail - proto_tx_head(fp) <= proto_tx_buf(fp));
	FUZZ_CHECK(proto_is(fp, TOE_FP_RX_DISCARD) ||
		   proto_rcv_end(fp) - fp->rx_head <= proto_rx_buf(fp));
	/* what is held, in order or not, and what is promised fit into the buffer; a FIN takes none
	 */
	FUZZ_CHECK(proto_is(fp, TOE_FP_RX_DISCARD) ||
		   seq_max(fp->rcv_adv, proto_rcv_end(fp)) - fp->rx_head <=
			   proto_rx_buf(fp) + (proto_is(fp, TOE_FP_FIN_RCVD) ? 1u : 0u));
	/* written = acknowledged + in flight + not yet sent; a reset leaves the rest behind */
	FUZZ_CHECK(proto_is(fp, TOE_FP_RESET | TOE_FP_RST_QUEUED) ||
		   proto_tx_pos(fp, fp->tx_tail) == f.written);
	FUZZ_CHECK(fp->cwnd >= fp->mss && fp->cwnd <= 1u << 31);
	FUZZ_CHECK(fp->dup_acks <= PROTO_DUP_MAX && fp->pingpong <= PROTO_PINGPONG);
	/* nothing in flight, nothing held */
	FUZZ_CHECK(fp->rack == 0 || fp->snd_una != fp->snd_max);
	FUZZ_CHECK(sacked->n <= TOE_SACK_MAX && ooo->n <= TOE_OOO_MAX);
	FUZZ_CHECK(fp->sb == NULL || sacked->n > 0 || ooo->n > 0 || ooo->fin_pending ||
		   proto_is(fp, TOE_FP_RECOVERY | TOE_FP_RESET));
	for (uint32_t i = 0; i < sacked->n; i++) {
		FUZZ_CHECK(seq_lt(sacked->iv[i].left, sacked->iv[i].right));
		FUZZ_CHECK(seq_leq(sacked->iv[i].right, fp->snd_max));
		FUZZ_CHECK(
			seq_gt(sacked->iv[i].left, i > 0 ? sacked->iv[i - 1].right : fp->snd_una));
	}
	for (uint32_t i = 0; i < ooo->n; i++) {
		FUZZ_CHECK(seq_gt(ooo->iv[i].left, fp->rcv_nxt));
		FUZZ_CHECK(seq_leq(ooo->iv[i].right, fp->rcv_adv));
	}
	FUZZ_CHECK(f.avail == proto_sendable(fp));
	if (!f.active && !proto_is(fp, TOE_FP_RESET) && !f.closed)
		FUZZ_CHECK(fp->snd_una == fp->snd_max && seq_geq(fp->snd_nxt, fp->tx_tail));
}

/* What egress, ctxq, sched and ctrl do. */
static void egress(uint32_t una, uint32_t max, bool tx)
{
	const struct toe_snap *s = &f.snap;

	if (f.out.todo & TOE_TODO_CTXQ) {
		FUZZ_CHECK(s->tx_head - f.tx_head <= f.hc.tx_tail - f.tx_head);
		FUZZ_CHECK(s->rx_tail - f.rx_tail <= proto_rx_buf(&f.fp));
		/* nothing is delivered that was not sent */
		FUZZ_CHECK((int32_t)(f.peer_end - s->rx_tail) >= 0);
		f.rx_tail = s->rx_tail;
		f.tx_head = s->tx_head;
	}
	if (f.out.todo & TOE_TODO_SCHED)
		f.avail = s->sendable;
	if (f.out.todo & TOE_TODO_CTRL) {
		f.active |= s->event == TOE_EV_ACTIVE;
		f.reset |= s->event == TOE_EV_RESET;
		f.closed |= s->event == TOE_EV_CLOSED;
	}
	if (f.out.todo & TOE_TODO_TX)
		check_sent(una, max, tx);
	if (!f.removed)
		check_state();
}

/* ---- steps ---- */

static void receive(const struct toe_seg *seg)
{
	struct toe_flow_proto *fp = &f.fp;
	uint32_t nxt = proto_rcv_end(fp), max = fp->snd_max, una = fp->snd_una;
	uint32_t end = proto_rx_pos(fp, seg->seq) + seg->payload_len;

	begin();
	proto_rx(fp, seg, &f.now, &f.out);
	for (uint32_t i = 0; i < f.snap.len; i++) {
		uint32_t pos = f.snap.pos + i;

		FUZZ_CHECK(pos == proto_rx_pos(fp, seg->seq) + f.snap.skip + i);
		FUZZ_CHECK(f.snap.skip + i < seg->payload_len);
		/* never where the application may be reading, never beyond the buffer */
		FUZZ_CHECK(pos - proto_rx_pos(fp, nxt) < proto_rx_buf(fp));
		FUZZ_CHECK(pos - f.read < proto_rx_buf(fp));
		f.rx[pos % proto_rx_buf(fp)] = stream_byte(pos);
	}
	/* a peer that has used a number has sent what is before it */
	if (f.snap.len == 0)
		end = proto_rx_pos(fp, fp->snd_wl1);
	if ((int32_t)(end - f.peer_end) > 0)
		f.peer_end = end;
	egress(una, max, false);
}

static void step_segment(struct fuzz_in *in)
{
	struct toe_flow_proto *fp = &f.fp;
	uint32_t from[] = {fp->rcv_nxt, fp->rcv_adv, fp->irs, fp->rcv_nxt + proto_rx_buf(fp) / 2};
	uint32_t acks[] = {fp->snd_max, fp->snd_una, fp->snd_nxt, fp->tx_tail};
	uint8_t how = fuzz_u8(in);
	struct toe_seg seg = {.flags = RTE_TCP_ACK_FLAG,
			      .opts = fp->flags & TOE_FP_TS ? TOE_SEG_TS : 0,
			      .ts_val = fp->ts_recent};

	seg.seq = from[how & 3] + (uint32_t)(int32_t)(int16_t)fuzz_u16(in) * (how & 4 ? 1u : 0u);
	seg.ack = acks[how >> 3 & 3] - (how & 32 ? fuzz_u16(in) : 0u);
	seg.wnd = fuzz_u16(in);
	seg.payload_len = how & 64 ? fuzz_u16(in) % 1461 : 0;
	if (how & 128) {
		seg.flags = fuzz_u8(in);
		seg.ts_val += (uint32_t)(int32_t)(int8_t)fuzz_u8(in);
		seg.ecn = fuzz_u8(in) & 3;
	}
	seg.sack_n = fuzz_u8(in) % 5;
	for (unsigned i = 0; i < seg.sack_n; i++) {
		seg.sack[i].left = fp->snd_una + fuzz_u16(in) - 64;
		seg.sack[i].right = seg.sack[i].left + fuzz_u16(in) % 4096;
	}
	receive(&seg);
}

static void step_tx(void)
{
	uint32_t una = f.fp.snd_una, max = f.fp.snd_max;
	uint32_t promised = proto_sendable(&f.fp);

	begin();
	proto_tx(&f.fp, &f.now, &f.out);
	FUZZ_CHECK((promised != 0) == ((f.out.todo & TOE_TODO_TX) != 0));
	egress(una, max, true);
}

static void drain(void)
{
	unsigned n = 0;

	for (; proto_sendable(&f.fp) != 0; n++) {
		FUZZ_CHECK(n < 5000);
		step_tx();
	}
}

static void host(void)
{
	uint32_t una = f.fp.snd_una, max = f.fp.snd_max;

	begin();
	proto_hc(&f.fp, &f.hc, &f.now, &f.out);
	if (f.out.verdict != TOE_NOTHING)
		f.written = f.hc.tx_tail;
	/* data only of a connection that has nothing in flight */
	FUZZ_CHECK(f.snap.len == 0 || (una == max && f.snap.seq == max));
	egress(una, max, f.snap.len != 0);
}

static void app_read(uint32_t n)
{
	uint32_t ready = f.rx_tail - f.read;

	for (n = n < ready ? n : ready; n > 0; n--, f.read++)
		FUZZ_CHECK(f.rx[f.read % proto_rx_buf(&f.fp)] == stream_byte(f.read));
	f.hc.rx_head = f.read;
}

static void step_host(struct fuzz_in *in)
{
	uint8_t how = fuzz_u8(in);
	uint32_t room = proto_tx_buf(&f.fp) - (f.hc.tx_tail - f.tx_head);

	if (how & 1 && !(f.hc.ctl & TOE_CTL_SHUT_WR))
		f.hc.tx_tail += fuzz_u16(in) % (room + 1);
	if (how & 2)
		app_read(fuzz_u16(in));
	if (how & 4)
		f.hc.ctl ^= fuzz_u8(in) & (TOE_CTL_CORK | TOE_CTL_NODELAY);
	if ((how & 0xf8) == 0x08)
		f.hc.ctl |= TOE_CTL_SHUT_WR;
	if ((how & 0xf8) == 0x10)
		f.hc.ctl |= TOE_CTL_SHUT_RD;
	if ((how & 0xf8) == 0x18) { /* nonsense, then what it was */
		struct toe_hc saved = f.hc;

		f.hc.tx_tail = fuzz_u32(in);
		/* (of an orphan a cursor that lags is believed to be an old one) */
		if (f.hc.tx_tail - f.tx_head > proto_tx_buf(&f.fp) &&
		    !proto_is(&f.fp, TOE_FP_ORPHAN)) {
			host();
			FUZZ_CHECK(f.out.verdict == TOE_NOTHING);
		}
		f.hc = saved;
	}
	host();
}

static void command(uint16_t cmd)
{
	f.wc.w.cmd = cmd;
	begin();
	proto_ctrl(&f.fp, &f.wc, &f.now, &f.out);
	egress(f.fp.snd_una, f.fp.snd_max, false);
}

/* Reorder timers, as the stage does. */
static void overdue(void)
{
	struct toe_rack *r;

	while ((r = toe_rack_timer_next(&racks, f.now.us)) != NULL) {
		FUZZ_CHECK(f.fp.rack == toe_rack_index(&racks, r) + 1);
		if (proto_is(&f.fp, TOE_FP_RESET))
			continue;
		begin();
		proto_rack_timeout(&f.fp, &f.now, &f.out);
		egress(f.fp.snd_una, f.fp.snd_max, false);
	}
}

static void step_time(uint32_t us)
{
	f.now.us += us;
	f.now.ms = (uint32_t)(f.now.us / 1000);
	overdue();
}

static void step_command(struct fuzz_in *in)
{
	static const uint16_t cmds[] = {TOE_CMD_RTO,   TOE_CMD_PROBE, TOE_CMD_KEEPALIVE,
					TOE_CMD_CC,    TOE_CMD_MSS,   TOE_CMD_QUIET,
					TOE_CMD_CLOSE, TOE_CMD_NEIGH};
	uint16_t cmd = cmds[fuzz_u8(in) % 8];
	struct toe_cmd_mss mss = {.mss = 64 + fuzz_u16(in) % 1400};

	memset(&f.wc.cmd, 0, sizeof(f.wc.cmd));
	if (cmd == TOE_CMD_CC)
		f.wc.cmd.cc =
			(struct toe_cmd_cc){.rate_bps = mss.mss & 1 ? TOE_RATE_UNPACED : 0,
					    .cwnd = fuzz_u32(in),
					    .ssthresh = fuzz_u32(in),
					    .loss_epoch = f.fp.loss_epoch - (fuzz_u8(in) == 0)};
	if (cmd == TOE_CMD_MSS)
		memcpy(&f.wc.cmd, &mss, sizeof(mss));
	if (cmd == TOE_CMD_CLOSE) {
		uint8_t how = fuzz_u8(in);

		if (how > 1)
			return; /* rarely */
		f.wc.cmd.close = (struct toe_cmd_close){
			(how ? TOE_CLOSE_RST : TOE_CLOSE_FIN) | TOE_CLOSE_TAIL, f.hc.tx_tail};
		f.hc.ctl |= TOE_CTL_SHUT_WR;
	}
	if (cmd == TOE_CMD_QUIET) {
		/* only of what has nothing outstanding; it crosses with what becomes so */
		if (f.fp.snd_una != f.fp.snd_max || f.fp.snd_nxt != f.fp.tx_tail)
			return;
		f.active = false;
	}
	command(cmd);
}

/* Another connection has the scoreboard for some time.  Where it was not in use before, sched hears
 * of it with the next item, here one that does nothing. */
static void step_others(uint32_t idle_ms)
{
	if (other_sb != NULL)
		toe_scoreboard_give(&scoreboards, &other_sb);
	else
		toe_scoreboard_take(&scoreboards, &other_sb, f.now.ms + idle_ms);
	begin();
	proto_finish(&f.fp, &f.out, false);
	egress(f.fp.snd_una, f.fp.snd_max, false);
}

static void start(struct fuzz_in *in)
{
	static const uint32_t bufs[] = {4096, 8192, FUZZ_BUF_MAX};
	uint8_t how = fuzz_u8(in);
	struct toe_cmd_install *c = &f.wc.cmd.install;

	memset(&f, 0, sizeof(f));
	f.now = (struct toe_clock){.us = 5000000, .ms = 5000};
	toe_rack_pool_fini(&racks);
	FUZZ_CHECK(toe_rack_pool_init(&racks, 1));
	if (how & 8)
		toe_rack_take(&racks, 1, 1); /* someone else has it */
	other_sb = NULL;
	toe_scoreboards_init(&scoreboards, &scoreboard_mem, 1);
	f.wc.w.type = TOE_WORK_CTRL;
	f.wc.w.gen = 1;
	*c = (struct toe_cmd_install){.app_id = 1,
				      .listener = UINT32_MAX,
				      .family = AF_INET,
				      .mss = (uint16_t)(64 + fuzz_u16(in) % 1400),
				      .iss = fuzz_u32(in),
				      .irs = fuzz_u32(in),
				      .snd_wnd = fuzz_u16(in),
				      .cwnd = fuzz_u16(in),
				      .ssthresh = 1u << 30,
				      .flags = how & 7,
				      .rx_buf_bytes = bufs[how % 3],
				      .tx_buf_bytes = bufs[(how >> 4) % 3],
				      .rcv_wscale = (how >> 6) * 2,
				      .snd_wscale = (how >> 3) % 5};
	c->snd_nxt = c->iss + 1;
	c->rcv_nxt = c->irs + 1;
	f.hc.app_id = 1;
	command(TOE_CMD_INSTALL);
}

/* ---- the end: all that was written arrives ---- */

static void honest_segment(uint32_t pos, uint16_t len)
{
	const struct toe_flow_proto *fp = &f.fp;
	struct toe_seg seg = {.seq = fp->irs + 1 + pos,
			      .ack = fp->snd_max,
			      .wnd = 8192,
			      .payload_len = len,
			      .flags = RTE_TCP_ACK_FLAG,
			      .opts = fp->flags & TOE_FP_TS ? TOE_SEG_TS : 0,
			      .ts_val = fp->ts_recent};

	receive(&seg);
}

static bool finished(void)
{
	const struct toe_flow_proto *fp = &f.fp;

	return proto_is(fp, TOE_FP_RESET) ||
	       (fp->snd_una == fp->snd_max && seq_geq(fp->snd_nxt, fp->tx_tail) &&
		(!proto_is(fp, TOE_FP_FIN_QUEUED) || proto_is(fp, TOE_FP_FIN_ACKED)));
}

static void talk(void)
{
	const struct toe_flow_proto *fp = &f.fp;

	fprintf(stderr,
		"flags %x una %u nxt %u max %u tail %u wnd %u cwnd %u mss %u sendable %u; "
		"rcv %u adv %u end %u fin %u pending %u ctl %x wl1 %u max_wnd %u\n",
		fp->flags, proto_tx_pos(fp, fp->snd_una), proto_tx_pos(fp, fp->snd_nxt),
		proto_tx_pos(fp, fp->snd_max), proto_tx_pos(fp, fp->tx_tail), fp->snd_wnd, fp->cwnd,
		fp->mss, proto_sendable(fp), proto_rx_pos(fp, fp->rcv_nxt),
		proto_rx_pos(fp, fp->rcv_adv), f.peer_end,
		proto_rx_pos(fp, proto_sb(fp)->ooo.fin_seq), proto_sb(fp)->ooo.fin_pending, fp->ctl,
		proto_rx_pos(fp, fp->snd_wl1), fp->max_wnd);
}

static void finish(void)
{
	f.hc.ctl &= ~TOE_CTL_CORK;
	for (unsigned n = 0; !finished(); n++) {
		uint32_t at = proto_rx_pos(&f.fp, f.fp.rcv_nxt);

		if (n == 3000 && getenv("FUZZ_TALK") != NULL)
			talk();
		FUZZ_CHECK(n < 3000);
		step_time(10000);
		app_read(UINT32_MAX);
		host();
		drain();
		/* fills what the fuzzer left open, then speaks from its highest number */
		if (!proto_is(&f.fp, TOE_FP_FIN_RCVD | TOE_FP_ORPHAN) &&
		    (int32_t)(f.peer_end - at) > 0)
			honest_segment(at, (uint16_t)proto_min(f.peer_end - at, 1460));
		else
			honest_segment(proto_rx_pos(&f.fp, seq_max(f.fp.rcv_nxt, f.fp.snd_wl1)), 0);
		if (n % 8 == 7 && !finished())
			command(f.fp.snd_una != f.fp.snd_max ? TOE_CMD_RTO : TOE_CMD_PROBE);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_in in = {data, size};
	unsigned steps;

	start(&in);
	for (steps = 0; in.left > 0 && steps < FUZZ_STEPS; steps++) {
		uint8_t op = fuzz_u8(&in);

		if (op < 100)
			step_segment(&in);
		else if (op < 150)
			step_tx();
		else if (op < 200)
			step_host(&in);
		else if (op < 220)
			step_command(&in);
		else if (op < 236)
			drain();
		else if (op < 240)
			step_others(op & 1 ? TOE_SCOREBOARD_IDLE_MS + 8 : 0);
		else
			step_time((op & 1 ? 1000u : 10u) << (op & 15));
	}
	if (!proto_is(&f.fp, TOE_FP_RESET))
		finish();
	f.removed = true;
	command(TOE_CMD_REMOVE);
	FUZZ_CHECK(f.fp.rack == 0 && racks.timers == 0 && f.fp.sb == NULL);
	return 0;
}
