/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Connection state, partitioned by the stage that owns it (paper Table 5).  Struct-of-arrays
 * indexed by connection id; id c belongs to flow-group c % flow_group_n.  What pre needs to know is
 * in the flow table (flow_table.h).  TCP names are those of RFC 9293 §3.3.1.
 */
#ifndef TOE_FLOW_STATE_H
#define TOE_FLOW_STATE_H

#include "scoreboard.h"
#include "toe/abi.h"
#include "toe/ctl.h"
#include "toe/region.h"

struct toe_work;

/* toe_flow_proto.flags */
#define TOE_FP_VALID        0x0001u
#define TOE_FP_TS           0x0002u
#define TOE_FP_SACK         0x0004u
#define TOE_FP_ECN          0x0008u
#define TOE_FP_CE           0x0010u /* DCTCP.CE: last segment carried CE (RFC 8257 §3.2) */
#define TOE_FP_FIN_QUEUED   0x0020u /* send FIN at tx_tail */
#define TOE_FP_FIN_SENT     0x0040u
#define TOE_FP_FIN_ACKED    0x0080u
#define TOE_FP_FIN_RCVD     0x0100u
#define TOE_FP_FIN_FIRST    0x0200u    /* FIN_SENT before FIN_RCVD */
#define TOE_FP_RECOVERY     0x0400u    /* fast recovery until snd_una >= recover (RFC 6582) */
#define TOE_FP_RTX_ONE      0x0800u    /* next TX item resends the segment at snd_una */
#define TOE_FP_ACTIVE       0x1000u    /* control plane polls this flow */
#define TOE_FP_ORPHAN       0x2000u    /* application closed it */
#define TOE_FP_CWR          0x4000u    /* set CWR on the next new data (RFC 3168 §6.1.2) */
#define TOE_FP_PROBE        0x8000u    /* next TX item is a zero-window probe */
#define TOE_FP_KEEPALIVE    0x10000u   /* next TX item is a keepalive */
#define TOE_FP_RESET        0x20000u   /* reset sent or received: nothing more is sent */
#define TOE_FP_CLOSED       0x40000u   /* TOE_EV_CLOSED has been raised */
#define TOE_FP_RX_DISCARD   0x80000u   /* SHUT_RD: acknowledge and throw away */
#define TOE_FP_CWND_LIMITED 0x100000u  /* data waited for cwnd, in this round trip or the last */
#define TOE_FP_LOSS         0x200000u  /* after an RTO, until snd_una >= recover: slow start here */
#define TOE_FP_TLP          0x400000u  /* a tail loss probe is out, see tlp_end (RFC 8985 §7) */
#define TOE_FP_RST_QUEUED   0x800000u  /* send RST when nothing new before tx_tail may go */
#define TOE_FP_STREAM       0x2000000u /* a stream module owns the byte streams */
#define TOE_FP_RX_TURN      0x1000000u /* data received since we last sent new data */
#define TOE_FP_CWND_ROUND   0x4000000u /* CWND_LIMITED is about this round trip */
#define TOE_FP_PACED        0x8000000u /* sched has a rate for it: only its permissions send */
#define TOE_FP_FAST_LOSS    0x10000000u /* fast recovery has found the last loss, see recover */
#define TOE_FP_CUBIC        0x20000000u /* ssthresh is what CUBIC left of cwnd at the last loss */

/* The TCP machine.  Written and read by: the proto instance of the flow-group only.  Two lines;
 * what only connections with holes need is in sb, times of sending in an element of rack.h. */
struct toe_flow_proto {
	TOE_LINE_ALIGNED uint32_t flags; /* TOE_FP_* */
	uint32_t gen;
	uint32_t snd_una;
	uint32_t snd_nxt;
	uint32_t snd_max; /* highest sent: snd_nxt goes back on RTO, this does not */
	uint32_t snd_wnd; /* bytes, scaled */
	uint32_t snd_wl1; /* SND.WL2 is never above SND.UNA, hence below any ACK that counts */
	uint32_t tx_tail; /* sequence number after the last byte the application wrote */
	uint32_t rcv_nxt;
	uint32_t rcv_adv; /* right edge advertised: never moves back */
	uint32_t rx_head; /* sequence number of the first byte the application has not read;
			     with RX_DISCARD: where delivery to it ended */
	uint32_t cwnd;
	uint32_t ssthresh;
	uint32_t ts_recent;
	uint32_t last_ack_sent; /* RFC 7323 §4.3 */
	uint32_t told_sendable; /* last snap.sendable given to sched */

	TOE_LINE_ALIGNED struct toe_scoreboard *sb; /* NULL: no holes */
	uint32_t iss;
	uint32_t irs;
	uint32_t recover; /* SND.MAX when a loss was last found (RFC 6582) */
	uint32_t snd_sml; /* end of the last small segment sent (Minshall's Nagle) */
	uint32_t cwr_seq; /* ECE in ACKs up to here has been answered by CWR */
	union {
		uint32_t rtt_seq; /* an ACK that covers it ends the sample; valid if rtt_us != 0 */
		uint32_t tlp_end; /* SND.MAX when the probe had been sent, valid with TLP, which
				     no sample is taken in */
	};
	uint32_t rtt_us; /* when it was sent (Karn: cleared by any retransmission) */
	uint32_t srtt_us;
	uint32_t rttvar_us;
	uint16_t mss;
	uint16_t max_wnd;    /* largest snd_wnd seen, as the field has it, see proto_max_wnd() */
	uint16_t loss_epoch; /* low half of toe_flow_prog's */
	/* Points in time, in units that make 16 bits enough; see proto.h. */
	uint16_t challenge_at; /* last challenge ACK (RFC 5961 §7), 8 ms */
	uint16_t oow_at;       /* last ACK for an empty unacceptable segment, 1 ms */
	uint16_t ts_recent_at; /* when ts_recent was stored (RFC 7323 §5.5), 65 s */
	uint16_t ack_due;      /* a delayed ACK is owed then, 1 ms; 0: none */
	uint16_t rack : 13;    /* index of its RACK element + 1; 0: it has none */
	uint16_t reorder : 3;  /* how much reordering the path has shown, see proto_dup_thresh() */
	uint32_t rx_shift : 5; /* buffers: log2 of bytes, see proto_rx_buf() */
	uint32_t tx_shift : 5;
	uint32_t snd_wscale : 4;
	uint32_t rcv_wscale : 4;
	uint32_t ctl : 5;      /* TOE_CTL_* as last seen, those that concern proto */
	uint32_t pingpong : 2; /* answers in a row that followed received data, see proto.h */
	uint32_t dup_acks : 7;
};
TOE_ASSERT_SIZE(struct toe_flow_proto, 128);

/* What a segment of this connection looks like and where its bytes live.  Written by: proto, when
 * it processes INSTALL or NEIGH (every later item reaches post through proto, so replicas see
 * it), and tos and ttl when the application wants others.  Read by: post and dma replicas, stream,
 * ctxq.  Half a line; the source MAC is the port's, toe_engine.mac. */
struct toe_flow_post {
	uint8_t local_addr[4]; /* IPv4, else toe_flow_addr6 */
	uint8_t remote_addr[4];
	uint8_t remote_mac[6];
	uint16_t local_port; /* network order */
	uint16_t remote_port;
	uint8_t flags; /* TOE_POST_* */
	uint8_t tos;   /* Diffserv, its ECN bits 0; atomic, as ttl: see below */
	uint8_t ttl;
	uint8_t flow_label_high; /* IPv6, 20 bits: see toe_post_flow_label() */
	uint16_t flow_label_low;
	uint32_t ts_offset;
	uint32_t slot : 24;
	uint32_t app_id : 8;
};
#define TOE_POST_TS     0x01u
#define TOE_POST_IPV6   0x02u
#define TOE_POST_STREAM 0x04u /* a stream module owns the byte streams */
TOE_ASSERT_SIZE(struct toe_flow_post, 32);
/* ctrl refuses an INSTALL beyond these. */
static_assert(TOE_REGION_ENTRIES_MAX <= 1u << 24, "toe_flow_post.slot holds every slot");
static_assert(TOE_CTL_APP_N <= 1u << 8, "toe_flow_post.app_id holds every application");

/* Addresses of an IPv6 connection; of others never touched.  As toe_flow_post, with INSTALL. */
struct toe_flow_addr6 {
	uint8_t local[16];
	uint8_t remote[16];
};
TOE_ASSERT_SIZE(struct toe_flow_addr6, 32);

static inline uint32_t toe_post_flow_label(const struct toe_flow_post *post)
{
	return (uint32_t)post->flow_label_high << 16 | post->flow_label_low;
}

/* Scheduler's view.  Written and read by: sched stage only. */
struct toe_flow_sched {
	uint32_t avail; /* bytes believed sendable beyond what is in flight */
	uint32_t gen;
	union {
		uint64_t next_tsc;     /* earliest next dispatch of a paced flow */
		struct toe_work *held; /* removed: the REMOVE that waits, or NULL */
	};
	uint32_t next; /* list links, TOE_NONE end */
	uint32_t prev;
	uint32_t rate : 22;     /* see toe_rate_pack() */
	uint32_t inflight : 10; /* TX items given out and not returned */
	uint16_t mss;
	uint16_t list : 11;   /* the list it is on, valid with queued: see sched_wheel.c */
	uint16_t queued : 1;  /* on the wheel or the round-robin list */
	uint16_t removed : 1; /* REMOVE seen, waiting for inflight to become 0 */
};
TOE_ASSERT_SIZE(struct toe_flow_sched, 32);
#define TOE_FLOW_INFLIGHT_MAX ((1u << 10) - 1)

#endif
