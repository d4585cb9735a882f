/* SPDX-License-Identifier: BSD-3-Clause */
/* LINK: datapath/ooo.c datapath/scoreboard.c datapath/stages/proto_rx.c
 * datapath/stages/proto_rx_data.c datapath/stages/proto_loss.c datapath/stages/proto_rack.c
 * datapath/stages/proto_prr.c datapath/stages/proto_undo.c datapath/stages/proto_cubic.c
 * datapath/rack.c datapath/stages/proto_tx.c datapath/stages/proto_hc.c
 * datapath/stages/proto_ctrl.c */
/*
 * Test rig of the protocol machine: one installed connection, a segment builder in stream
 * positions, a clock that only the test moves.  Included by test_proto_*.c and test_ooo.c.
 */
#ifndef PROTO_RIG_H
#define PROTO_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "proto.h"

#define RIG_MSS  1000u
#define RIG_BUF  16384u
#define RIG_SLOT 7u
#define RIG_APP  3u

#define F_FIN RTE_TCP_FIN_FLAG
#define F_SYN RTE_TCP_SYN_FLAG
#define F_RST RTE_TCP_RST_FLAG
#define F_PSH RTE_TCP_PSH_FLAG
#define F_ACK RTE_TCP_ACK_FLAG
#define F_ECE RTE_TCP_ECE_FLAG
#define F_CWR RTE_TCP_CWR_FLAG

struct rig {
	struct toe_flow_proto fp;
	struct toe_flow_post post;
	struct toe_flow_addr6 addr6;
	struct toe_clock now;
	struct toe_snap snap;
	struct proto_out out;
	struct toe_work_ctrl wc;
	struct toe_hc hc; /* what the application last wrote */
	struct toe_rack_pool *racks;
	struct toe_scoreboards scoreboards;
	struct toe_scoreboard scoreboard_mem[1];
	struct toe_scoreboards *scoreboards_of; /* used instead; NULL: its own */
};

static inline void rig_begin(struct rig *r)
{
	proto_out_init(&r->out, &r->snap);
	r->out.racks = r->racks;
	r->out.scoreboards = r->scoreboards_of != NULL ? r->scoreboards_of : &r->scoreboards;
	r->out.now_ms = r->now.ms;
	r->out.post = &r->post;
	r->out.addr6 = &r->addr6;
}

static inline uint32_t rig_rand(uint32_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

static inline void rig_cmd(struct rig *r, uint16_t cmd)
{
	r->wc.w.type = TOE_WORK_CTRL;
	r->wc.w.cmd = cmd;
	r->wc.w.gen = 1;
	rig_begin(r);
	proto_ctrl(&r->fp, &r->wc, &r->now, &r->out);
}

/* What a test wants different from the usual it changes before rig_start(). */
static inline struct toe_cmd_install *rig_prepare(struct rig *r)
{
	memset(r, 0, sizeof(*r));
	toe_scoreboards_init(&r->scoreboards, r->scoreboard_mem, 1);
	r->now = (struct toe_clock){.us = 5000000, .ms = 5000};
	r->wc.cmd.install = (struct toe_cmd_install){
		.app_id = RIG_APP,
		.slot = RIG_SLOT,
		.listener = UINT32_MAX,
		.family = AF_INET,
		.local_port = 80,
		.remote_port = 1024,
		.mss = RIG_MSS,
		.iss = 0xfffff000u, /* both wrap early */
		.irs = 0xffffe000u,
		.snd_nxt = 0xfffff001u,
		.rcv_nxt = 0xffffe001u,
		.snd_wnd = 60000,
		.cwnd = 10 * RIG_MSS,
		.ssthresh = 10 * RIG_MSS, /* growth is slow: less than a segment */
		.rx_buf_bytes = RIG_BUF,
		.tx_buf_bytes = RIG_BUF,
		.ts_recent = 100,
	};
	r->hc = (struct toe_hc){.app_id = RIG_APP, .slot = RIG_SLOT};
	return &r->wc.cmd.install;
}

/* Paced: each segment waits for its rig_tx(), also the first one of an idle connection. */
static inline void rig_start(struct rig *r)
{
	rig_cmd(r, TOE_CMD_INSTALL);
	r->fp.flags |= TOE_FP_PACED;
}

/* A sender of 2 MB with SACK, 100 segments of window, and a peer that has room for all. */
static inline void rig_prepare_bulk(struct rig *r)
{
	struct toe_cmd_install *in = rig_prepare(r);

	in->flags = TOE_INSTALL_SACK;
	in->cwnd = in->ssthresh = 100 * RIG_MSS;
	in->tx_buf_bytes = 1u << 21;
	in->snd_wscale = 8;
	in->snd_wnd = 8u << 20;
	in->srtt_us = 1000;
}

static inline void rig_default(struct rig *r)
{
	rig_prepare(r);
	rig_start(r);
}

static inline void rig_later(struct rig *r, uint32_t ms)
{
	r->now.ms += ms;
	r->now.us += ms * 1000ull;
}

/* Sequence number of position pos of the peer's stream, and of ours. */
static inline uint32_t rig_in(const struct rig *r, uint32_t pos)
{
	return r->fp.irs + 1 + pos;
}

static inline uint32_t rig_our(const struct rig *r, uint32_t pos)
{
	return r->fp.iss + 1 + pos;
}

static inline uint32_t rig_our_pos(const struct rig *r, uint32_t seq)
{
	return seq - r->fp.iss - 1;
}

/* A segment of the peer: len bytes at position pos, ACK of all we had acknowledged so far. */
static inline struct toe_seg rig_seg(const struct rig *r, uint32_t pos, uint16_t len)
{
	return (struct toe_seg){
		.seq = rig_in(r, pos),
		.ack = r->fp.snd_una,
		.wnd = (uint16_t)(r->fp.snd_wnd >> r->fp.snd_wscale),
		.payload_len = len,
		.flags = F_ACK,
		.opts = r->fp.flags & TOE_FP_TS ? TOE_SEG_TS : 0,
		.ts_val = r->fp.ts_recent,
	};
}

static inline void rig_rx(struct rig *r, const struct toe_seg *seg)
{
	rig_begin(r);
	proto_rx(&r->fp, seg, &r->now, &r->out);
}

static inline void rig_data(struct rig *r, uint32_t pos, uint16_t len)
{
	struct toe_seg seg = rig_seg(r, pos, len);

	rig_rx(r, &seg);
}

static inline void rig_fin(struct rig *r, uint32_t pos, uint16_t len)
{
	struct toe_seg seg = rig_seg(r, pos, len);

	seg.flags |= F_FIN;
	rig_rx(r, &seg);
}

/* Pure ACK of our position pos. */
static inline void rig_ack(struct rig *r, uint32_t pos)
{
	struct toe_seg seg = rig_seg(r, 0, 0);

	seg.seq = r->fp.rcv_nxt;
	seg.ack = rig_our(r, pos);
	rig_rx(r, &seg);
}

/* The same with a SACK block, in positions. */
static inline void rig_sack(struct rig *r, uint32_t pos, uint32_t left, uint32_t right)
{
	struct toe_seg seg = rig_seg(r, 0, 0);

	seg.ack = rig_our(r, pos);
	seg.sack_n = 1;
	seg.sack[0].left = rig_our(r, left);
	seg.sack[0].right = rig_our(r, right);
	rig_rx(r, &seg);
}

static inline void rig_ack_wnd(struct rig *r, uint32_t pos, uint16_t wnd)
{
	struct toe_seg seg = rig_seg(r, 0, 0);

	seg.seq = r->fp.rcv_nxt;
	seg.ack = rig_our(r, pos);
	seg.wnd = wnd;
	rig_rx(r, &seg);
}

static inline void rig_hc(struct rig *r)
{
	rig_begin(r);
	proto_hc(&r->fp, &r->hc, &r->now, &r->out);
}

static inline void rig_write(struct rig *r, uint32_t bytes)
{
	r->hc.tx_tail += bytes;
	rig_hc(r);
}

/* One TX item; true if it sent a segment.  Checks what holds for every one. */
static inline bool rig_tx(struct rig *r)
{
	uint32_t promised = proto_sendable(&r->fp);

	rig_begin(r);
	proto_tx(&r->fp, &r->now, &r->out);
	assert_true(r->out.todo & TOE_TODO_SCHED);
	assert_int_equal(r->snap.sendable, proto_sendable(&r->fp));
	assert_true(r->snap.len <= r->fp.mss);
	assert_int_equal(promised != 0, (r->out.todo & TOE_TODO_TX) != 0);
	assert_int_equal(r->out.verdict, promised != 0 ? TOE_FORWARD : TOE_NOTHING);
	return promised != 0;
}

/* TX items until nothing is sendable; payload bytes sent. */
static inline uint32_t rig_drain(struct rig *r)
{
	uint32_t bytes = 0;

	for (unsigned i = 0; i < 10000 && proto_sendable(&r->fp) != 0; i++) {
		assert_true(rig_tx(r));
		bytes += r->snap.len;
	}
	assert_int_equal(proto_sendable(&r->fp), 0);
	return bytes;
}

static inline void rig_sent_ack(const struct rig *r)
{
	assert_true(r->out.todo & TOE_TODO_TX);
	assert_int_equal(r->snap.flags & ~(F_ECE), F_ACK);
	assert_int_equal(r->snap.ack, r->fp.rcv_nxt);
}

static inline void rig_silent(const struct rig *r)
{
	assert_false(r->out.todo & TOE_TODO_TX);
}

#endif
