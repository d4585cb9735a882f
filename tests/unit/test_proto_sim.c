/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Two machines that talk to each other over a network that loses, repeats and reorders, with a
 * model of sched (which knows only TODO_SCHED) and of the control plane (which knows only events
 * and toe_flow_prog), in virtual time: what arrives must be what was sent, and everything must end.
 */
/* LINK: tests/unit/proto_rig.h */
#include "proto_rig.h"

#ifndef SIM_SEEDS
#define SIM_SEEDS 240u
#endif
#define SIM_PKTS    2048u
#define SIM_STEP_US 50u

struct sim_pkt {
	uint64_t at_us; /* 0: free */
	struct toe_seg seg;
	uint8_t data[RIG_MSS];
};

struct sim_end {
	struct rig r;
	uint8_t tx[RIG_BUF], rx[RIG_BUF]; /* as in the region; buffers may be smaller */
	uint32_t salt;                    /* of the stream it writes */
	uint32_t total, written, read;
	uint32_t rx_tail, tx_head, state; /* published by ctxq */
	uint32_t avail;                   /* sched's belief, from TODO_SCHED alone */
	struct toe_scoreboard *other;     /* of a connection beside it */
	bool active, closed;              /* control plane's belief, from events alone */
	uint64_t rto_at_us, rto_us;
	uint32_t cp_una;
	uint32_t wire_edge; /* right edge as seen on the wire */
	bool wire_edge_valid;
};

struct sim {
	struct sim_end end[2];
	struct sim_pkt pkts[SIM_PKTS];
	uint32_t rnd, loss_ppt; /* per thousand */
	uint32_t reorder_us;
	bool crowded; /* others want the scoreboard too */
	uint64_t us, readers_wake_us;
};

static uint8_t sim_byte(uint32_t salt, uint32_t pos)
{
	return (uint8_t)((pos * 2654435761u ^ salt) >> 13);
}

static void sim_send(struct sim *s, struct sim_end *e)
{
	const struct toe_snap *sn = &e->r.snap;
	uint32_t edge = sn->ack + ((uint32_t)sn->wnd << e->r.fp.rcv_wscale);
	struct sim_pkt *p = NULL;

	if (e->wire_edge_valid) /* may look smaller by rounding only */
		assert_true(seq_gt(edge + (1u << e->r.fp.rcv_wscale), e->wire_edge));
	e->wire_edge = edge;
	e->wire_edge_valid = true;
	if (rig_rand(&s->rnd) % 1000 < s->loss_ppt)
		return;
	for (unsigned copies = rig_rand(&s->rnd) % 200 == 0 ? 2 : 1; copies > 0; copies--) {
		p = NULL;
		for (unsigned i = 0; i < SIM_PKTS && p == NULL; i++)
			if (s->pkts[i].at_us == 0)
				p = &s->pkts[i];
		if (p == NULL)
			return;
		p->at_us = s->us + 500 + rig_rand(&s->rnd) % (s->reorder_us + 1);
		p->seg = (struct toe_seg){
			.seq = sn->seq,
			.ack = sn->ack,
			.wnd = sn->wnd,
			.flags = sn->flags,
			.opts = e->r.fp.flags & TOE_FP_TS ? TOE_SEG_TS : 0,
			.ts_val = 100 + (uint32_t)(s->us / 1000),
			.ts_ecr = sn->ts_ecr,
			.ecn = sn->ect ? (rig_rand(&s->rnd) % 20 == 0 ? 3 : 2) : 0,
			.sack_n = sn->sack_n,
			.reserved = {e == &s->end[1]},
		};
		for (unsigned i = 0; i < sn->sack_n; i++) {
			p->seg.sack[i].left = sn->sack[i].left;
			p->seg.sack[i].right = sn->sack[i].right;
		}
		if (e->r.wc.w.type != TOE_WORK_TX)
			continue; /* pure ACK: snap.len is about the payload received */
		p->seg.payload_len = sn->len;
		for (uint32_t i = 0; i < sn->len; i++)
			p->data[i] = e->tx[(sn->pos + i) % proto_tx_buf(&e->r.fp)];
	}
}

/* What egress, ctxq, sched and ctrl would do. */
static void sim_egress(struct sim *s, struct sim_end *e)
{
	const struct toe_snap *sn = &e->r.snap;
	uint8_t todo = e->r.out.todo;

	if (todo & TOE_TODO_CTXQ) {
		e->rx_tail = sn->rx_tail;
		e->tx_head = sn->tx_head;
		e->state |= sn->state;
	}
	if (todo & TOE_TODO_SCHED)
		e->avail = sn->sendable;
	if (todo & TOE_TODO_CTRL) {
		assert_true(sn->event == TOE_EV_ACTIVE || sn->event == TOE_EV_CLOSED ||
			    sn->event == TOE_EV_INSTALLED);
		e->closed |= sn->event == TOE_EV_CLOSED;
		if (sn->event == TOE_EV_ACTIVE) {
			e->active = true;
			e->rto_us = 20000;
			e->rto_at_us = s->us + e->rto_us;
		}
	}
	if (todo & TOE_TODO_TX)
		sim_send(s, e);
}

static void sim_invariants(const struct sim_end *e)
{
	const struct toe_flow_proto *fp = &e->r.fp;
	const struct toe_sacked *k = &proto_sb(fp)->sacked;

	assert_true(seq_leq(fp->snd_una, fp->snd_nxt));
	assert_true(seq_leq(fp->snd_nxt, fp->snd_max));
	assert_true(seq_leq(fp->snd_max, fp->tx_tail + 1));
	assert_true(fp->tx_tail - proto_tx_head(fp) <= proto_tx_buf(fp));
	assert_true(proto_rcv_end(fp) - fp->rx_head <= proto_rx_buf(fp));
	assert_true(fp->rcv_adv - fp->rx_head <= proto_rx_buf(fp) + 1);
	assert_true(fp->cwnd >= fp->mss);
	for (uint32_t i = 0; i < k->n; i++) {
		assert_true(seq_lt(k->iv[i].left, k->iv[i].right));
		assert_true(seq_leq(k->iv[i].right, fp->snd_max));
		assert_true(seq_gt(k->iv[i].left, i > 0 ? k->iv[i - 1].right : fp->snd_una));
	}
	assert_int_equal(e->avail, proto_sendable(fp)); /* no wake-up is lost */
}

static void sim_deliver(struct sim *s, struct sim_end *e, struct sim_pkt *p)
{
	const struct toe_snap *sn = &e->r.snap;

	e->r.wc.w.type = TOE_WORK_RX;
	rig_rx(&e->r, &p->seg);
	for (uint32_t i = 0; i < sn->len; i++)
		e->rx[(sn->pos + i) % proto_rx_buf(&e->r.fp)] = p->data[sn->skip + i];
	p->at_us = 0;
	sim_egress(s, e);
	sim_invariants(e);
}

static void sim_app(struct sim *s, struct sim_end *e, uint32_t peer_salt)
{
	uint32_t room = proto_tx_buf(&e->r.fp) - (e->written - e->tx_head);
	uint32_t want = proto_min(proto_min(room, e->total - e->written), rig_rand(&s->rnd) % 4000);
	uint32_t ready = e->rx_tail - e->read;

	for (uint32_t i = 0; i < want; i++, e->written++)
		e->tx[e->written % proto_tx_buf(&e->r.fp)] = sim_byte(e->salt, e->written);
	/* A reader that sleeps first: windows close, probes must reopen them. */
	if (ready > 0 && s->us >= s->readers_wake_us && rig_rand(&s->rnd) % 4 == 0) {
		ready = rig_rand(&s->rnd) % (ready + 1);
		for (; ready > 0; ready--, e->read++)
			if (e->rx[e->read % proto_rx_buf(&e->r.fp)] != sim_byte(peer_salt, e->read))
				fail_msg("byte %u differs", e->read);
	}
	e->r.hc.tx_tail = e->written;
	e->r.hc.rx_head = e->read;
	if (e->written == e->total)
		e->r.hc.ctl |= TOE_CTL_SHUT_WR;
	e->r.wc.w.type = TOE_WORK_HC;
	rig_hc(&e->r);
	assert_int_equal(e->r.out.verdict, TOE_FORWARD);
	sim_egress(s, e);
	sim_invariants(e);
}

static void sim_cmd(struct sim *s, struct sim_end *e, uint16_t cmd)
{
	rig_cmd(&e->r, cmd);
	sim_egress(s, e);
	sim_invariants(e);
}

/* RTO with back-off, persist, window growth: looks at what proto publishes only. */
static void sim_controlplane(struct sim *s, struct sim_end *e)
{
	struct toe_flow_prog prog = {0};

	if (!e->active || e->closed)
		return;
	proto_publish(&e->r.fp, &prog);
	if (prog.snd_una != e->cp_una) {
		uint32_t acked = prog.snd_una - e->cp_una;

		e->cp_una = prog.snd_una;
		e->rto_us = proto_max(prog.srtt_us + 4 * prog.rttvar_us, 5000);
		e->rto_at_us = s->us + e->rto_us;
		e->r.wc.cmd.cc = (struct toe_cmd_cc){
			.cwnd = prog.cwnd + (prog.cwnd < prog.ssthresh ? acked : acked / 8),
			.ssthresh = prog.ssthresh,
			.loss_epoch = prog.loss_epoch};
		sim_cmd(s, e, TOE_CMD_CC);
	}
	if (prog.snd_una == prog.snd_nxt && prog.tx_tail == prog.snd_nxt &&
	    !(prog.flags & TOE_PROG_FIN_QUEUED)) {
		e->active = false;
		sim_cmd(s, e, TOE_CMD_QUIET);
		return;
	}
	if (s->us < e->rto_at_us) {
		/* now and then a probe of what is in flight, for no reason */
		if (prog.snd_una != prog.snd_nxt && rig_rand(&s->rnd) % 64 == 0)
			sim_cmd(s, e, TOE_CMD_PROBE);
		return;
	}
	e->rto_us = e->rto_us * 2 > 200000 ? 200000 : e->rto_us * 2;
	e->rto_at_us = s->us + e->rto_us;
	sim_cmd(s, e, prog.snd_una != prog.snd_nxt ? TOE_CMD_RTO : TOE_CMD_PROBE);
}

static bool sim_end_done(const struct sim_end *e, uint32_t peer_total)
{
	return e->closed && e->read == peer_total && (e->state & TOE_SLOT_RX_FIN) &&
	       (e->state & TOE_SLOT_TX_DONE);
}

static void sim_start(struct sim *s, uint32_t seed)
{
	static const uint32_t bufs[] = {4096, 8192, RIG_BUF};
	uint32_t isn[2];

	memset(s, 0, sizeof(*s));
	s->rnd = seed * 2654435761u + 11;
	s->us = 1000000;
	s->readers_wake_us = seed % 5 == 0 ? 1300000 : 0;
	s->loss_ppt = (uint32_t[]){0, 10, 30, 100}[seed % 4];
	s->reorder_us = (uint32_t[]){0, 100, 1500}[seed % 3];
	s->crowded = seed % 7 == 0;
	isn[0] = 0u - rig_rand(&s->rnd) % 100000;
	isn[1] = 0u - rig_rand(&s->rnd) % 100000;
	for (unsigned i = 0; i < 2; i++) {
		struct sim_end *e = &s->end[i];
		struct toe_cmd_install *in = rig_prepare(&e->r);

		e->salt = rig_rand(&s->rnd);
		e->total = rig_rand(&s->rnd) % 4 == 0 ? 0 : rig_rand(&s->rnd) % 150000;
		in->iss = isn[i];
		in->irs = isn[1 - i];
		in->snd_nxt = in->iss + 1;
		in->rcv_nxt = in->irs + 1;
		in->flags = (seed >> 2) % 8; /* TS, SACK, ECN */
		in->rx_buf_bytes = bufs[(seed >> i) % 3];
		in->tx_buf_bytes = bufs[(seed >> 2) % 3];
		in->snd_wnd = bufs[(seed >> (1 - i)) % 3];
		in->rcv_wscale = in->snd_wscale = seed % 5;
		e->cp_una = in->snd_nxt;
		e->r.now.us = s->us;
		rig_start(&e->r);
		sim_egress(s, e);
		e->r.hc.ctl = seed % 2 ? TOE_CTL_NODELAY : 0;
	}
}

/* Another connection has the scoreboard for some time.  Now and then it even takes one that is in
 * use, as if it had not been for long. */
static void sim_others(struct sim *s, struct sim_end *e)
{
	uint32_t ms = e->r.now.ms + (rig_rand(&s->rnd) % 8 == 0 ? TOE_SCOREBOARD_IDLE_MS + 8 : 0);

	if (e->other != NULL)
		toe_scoreboard_give(&e->r.scoreboards, &e->other);
	else if (toe_scoreboard_take(&e->r.scoreboards, &e->other, ms) == TOE_SB_OTHER)
		e->avail = proto_sendable(&e->r.fp); /* else sched knows with the next item */
}

static void sim_step(struct sim *s)
{
	s->us += SIM_STEP_US;
	for (unsigned i = 0; i < 2; i++) {
		s->end[i].r.now.us = s->us;
		s->end[i].r.now.ms = (uint32_t)(s->us / 1000);
	}
	for (unsigned i = 0; i < SIM_PKTS; i++) {
		struct sim_pkt *p = &s->pkts[i];

		if (p->at_us != 0 && p->at_us <= s->us)
			sim_deliver(s, &s->end[1 - p->seg.reserved[0]], p);
	}
	for (unsigned i = 0; i < 2; i++) {
		struct sim_end *e = &s->end[i];

		if (rig_rand(&s->rnd) % 8 == 0)
			sim_app(s, e, s->end[1 - i].salt);
		if (s->crowded && rig_rand(&s->rnd) % 16 == 0)
			sim_others(s, e);
		for (unsigned burst = 0; burst < 4 && e->avail > 0; burst++) {
			e->r.wc.w.type = TOE_WORK_TX;
			assert_true(rig_tx(&e->r));
			sim_egress(s, e);
			sim_invariants(e);
		}
		sim_controlplane(s, e);
	}
}

static void test_two_machines(void **state)
{
	static struct sim s;

	(void)state;
	for (uint32_t seed = 1; seed <= SIM_SEEDS; seed++) {
		unsigned steps = 0;

		sim_start(&s, seed);
		while (!sim_end_done(&s.end[0], s.end[1].total) ||
		       !sim_end_done(&s.end[1], s.end[0].total)) {
			sim_step(&s);
			if (++steps > 1000000)
				fail_msg("seed %u: no end; read %u of %u and %u of %u", seed,
					 s.end[0].read, s.end[1].total, s.end[1].read,
					 s.end[0].total);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_two_machines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
