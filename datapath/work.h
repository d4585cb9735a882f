/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The work item that travels between stages, its segment summary and the protocol snapshot.
 *
 * An item belongs to the stage that holds it: handing it over (ring or same-lcore FIFO) passes
 * every field with release/acquire.  Items come from fixed pools, one per source, so that every
 * queue of the pipeline can hold all of them and no hand-over can fail.
 *
 * Order (paper §3.2).  The seq stage numbers items per flow-group (in_seq); reorder admits them to
 * proto in that order.  proto numbers what leaves it (out_seq); egress releases in that order.
 * **A numbered item never disappears**: a stage that drops sets verdict = TOE_NOTHING and forwards.
 */
#ifndef TOE_WORK_H
#define TOE_WORK_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_mbuf.h>

#include "toe/cpq.h"

enum toe_work_type {
	TOE_WORK_RX,   /* a received segment */
	TOE_WORK_TX,   /* sched's permission to send one segment */
	TOE_WORK_HC,   /* host control: an application's cursors changed */
	TOE_WORK_CTRL, /* a control-plane command */
	TOE_WORK_TYPE_N
};

enum toe_verdict {
	TOE_FORWARD, /* keep going */
	TOE_NOTHING, /* dropped or empty: only its number matters now */
	TOE_TO_TAP,  /* reorder hands the frame to the exception stage */
	TOE_TO_CTRL, /* reorder or proto hands the frame to the control plane */
};

/* What is left to do after egress, in this order of stages.  Each stage clears its own bit. */
#define TOE_TODO_STREAM                                                                            \
	0x10u                /* the connection belongs to a stream module: always all its items    \
			      */
#define TOE_TODO_CTXQ  0x01u /* publish cursors/state to the application */
#define TOE_TODO_SCHED 0x02u /* tell sched how much is sendable */
#define TOE_TODO_CTRL  0x04u /* raise snap.event to the control plane */
#define TOE_TODO_TX    0x08u /* mbuf goes to the wire */

/* Header summary of a received segment (paper §3.1.3): written by pre, so that no later stage
 * reads the headers again.  Host order. */
struct toe_seg {
	uint32_t seq;
	uint32_t ack;
	uint32_t ts_val;
	uint32_t ts_ecr;
	uint16_t wnd;         /* as on the wire, unscaled */
	uint16_t payload_off; /* from the start of the frame */
	uint16_t payload_len;
	uint8_t flags; /* TCP flags byte */
	uint8_t opts;  /* TOE_SEG_* */
	uint8_t ecn;   /* IP ECN field, 0..3 */
	uint8_t sack_n;
	uint8_t reserved[6];
	struct {
		uint32_t left;
		uint32_t right;
	} sack[4];
};
#define TOE_SEG_TS 0x01u
static_assert(sizeof(struct toe_seg) == 64, "segment summary is one line");

/* Application cursors, copied from line 1 of toe_slot by the dma stage and checked by proto. */
struct toe_hc {
	uint32_t app_id;
	uint32_t slot;
	uint32_t tx_tail;
	uint32_t rx_head;
	uint32_t tx_short; /* sends that found too little room, never less than at tx_tail */
	uint32_t ctl;
	uint32_t share; /* by the stream stage: wait for a permission, more may come */
};
/* toe_work.cmd of an HC item on its way from ctxq to dma: cursors not read, no number yet. */
#define TOE_HC_FETCH 1u
/* Made by the stream stage: proto resets the connection. */
#define TOE_HC_ABORT 2u
/* toe_work.cookie of the HC item by which the stream stage learns that ctxq has taken every
 * doorbell an application had rung when it asked: stream > ctxq (waits there) > dma > stream.  cmd
 * is TOE_HC_FETCH, so that it keeps its place behind the fetches before it. */
#define TOE_HC_SYNC 0x53594e43u

/*
 * Everything post, dma, egress, ctxq and sched need to know of proto's decision: a copy, never a
 * pointer into proto's state.
 */
struct toe_snap {
	/* the segment to send, if todo has TOE_TODO_TX */
	uint32_t seq;
	uint32_t ack;
	uint32_t ts_ecr;
	/* Clock for TSval: proto's, in the order of out_seq.  Clocks of other lcores may be behind,
	 * and a peer throws away a segment whose TSval steps back (PAWS, RFC 7323 §5). */
	uint32_t ts_ms;
	uint16_t wnd; /* as on the wire, scaled */
	uint8_t flags;
	uint8_t sack_n;
	struct {
		uint32_t left;
		uint32_t right;
	} sack[3];
	/* payload to move: RX mbuf -> RX-PAYLOAD-BUF, or TX-PAYLOAD-BUF -> TX mbuf */
	uint32_t pos;  /* stream position (modulo 2^32) of the first byte */
	uint16_t len;  /* bytes; 0 = none */
	uint16_t skip; /* bytes of the received payload to leave out at its start */
	/* for ctxq */
	uint32_t rx_tail;
	uint32_t tx_head;
	uint32_t state; /* TOE_SLOT_* bits to add */
	uint32_t error; /* errno with TOE_SLOT_ERROR */
	uint32_t srtt_us;
	uint32_t cwnd;
	/* for sched: absolute number of bytes proto would let go now.  sched subtracts one MSS for
	 * each TX item it has in flight; updates arrive in proto's order, so no bump is ever lost.
	 */
	uint32_t sendable;
	/* for the statistics kept by post */
	uint32_t acked_bytes;
	uint16_t rtx_bytes;
	uint16_t event;   /* TOE_EV_* for the control plane, with TOE_TODO_CTRL */
	uint8_t ecn_echo; /* acked_bytes were acknowledged by a segment with ECE */
	uint8_t ect;      /* send with ECT(0) */
	uint8_t dup_ack;
	uint8_t fin_probe; /* 1 = a FIN occupies the last sequence number of the segment */
	uint8_t had_holes; /* with a received payload: others were out of order before it */
};

struct toe_work {
	_Alignas(64) uint8_t type; /* enum toe_work_type */
	uint8_t verdict;           /* enum toe_verdict */
	uint8_t todo;              /* TOE_TODO_* */
	uint8_t drop;              /* enum toe_drop: why verdict is TOE_NOTHING */
	uint16_t fg;               /* flow-group */
	uint16_t cmd;              /* TOE_CMD_* of a CTRL item */
	uint32_t in_seq;
	uint32_t out_seq;
	uint32_t conn; /* connection id, TOE_NONE if not known (yet) */
	uint32_t gen;
	uint32_t hash; /* crc32c of the 4-tuple, see common/flow_hash.h */
	uint32_t cookie;
	struct rte_mbuf *mbuf;    /* RX: the frame; replaced by the frame to send */
	struct rte_mbuf *tx_mbuf; /* frame to send, built by post; NULL = none */
	uint64_t tsc;             /* when the item was made */
	uint8_t dma_pending;      /* copies submitted and not completed; dma stage only */
	uint8_t reserved[7];

	union {
		struct toe_seg seg; /* RX */
		struct toe_hc hc;   /* HC */
	};
	_Alignas(64) struct toe_snap snap;
};
static_assert(offsetof(struct toe_work, seg) == 64, "work item is one line");
static_assert(sizeof(struct toe_work) == 256, "line + summary + snapshot");

/* snap.pos and len are of payload to send; else of what was received.  A permission of sched, or
 * the news that an application wrote to an idle connection. */
static inline bool toe_work_sends(const struct toe_work *w)
{
	return w->type == TOE_WORK_TX || w->type == TOE_WORK_HC;
}

/* Items of the control pool carry their command behind them. */
struct toe_work_ctrl {
	struct toe_work w;
	union {
		struct toe_cmd_install install;
		struct toe_cmd_cc cc;
		struct toe_cmd_close close;
		struct toe_cmd_neigh neigh;
		struct toe_cmd_slot slot;
		struct toe_cmd_listener listener;
	} cmd;
};

static inline struct toe_work_ctrl *toe_work_ctrl(struct toe_work *w)
{
	return (struct toe_work_ctrl *)w;
}

#endif
