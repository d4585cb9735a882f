/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Control-plane queue: everything toe-controlplane and toe-datapath say to each other.
 *
 * One memfd made by toe-keeper and mapped by both: a header, two single-producer single-consumer
 * rings of fixed-size entries (commands down, events up), and one line of progress plus
 * TOE_FLOW_STAT_REPLICAS lines of counters per connection, which the datapath writes and the
 * control plane polls (paper §D).  Both ends are trusted, but ring indices survive a restart of
 * the control plane, so nothing here may be kept only in its heap.
 *
 * Sleeping: as in region.h, through down_asleep / up_asleep and one byte on the kick socketpair.
 */
#ifndef TOE_CPQ_H
#define TOE_CPQ_H

#include "toe/abi.h"

#define TOE_CPQ_MAGIC          0x31515043454f5431ull /* "1TOECPQ1" */
#define TOE_FLOW_STAT_REPLICAS 4u                    /* most post replicas */

/* Header, written by the keeper at creation; the index lines by the ends named on them. */
struct toe_cpq_hdr {
	uint64_t magic;
	uint32_t abi_version;
	uint32_t abi_fingerprint;
	uint64_t total_bytes;
	uint32_t conn_n;       /* connection ids 0..conn_n-1 */
	uint32_t flow_group_n; /* id c belongs to flow-group c % flow_group_n */
	uint32_t entry_n;      /* of each ring, power of two */
	uint32_t entry_bytes;  /* toe_cpq_entry + data, multiple of 64 */
	uint64_t off_down;     /* control plane -> datapath entries */
	uint64_t off_up;       /* datapath -> control plane entries */
	uint64_t off_prog;     /* struct toe_flow_prog[conn_n] */
	uint64_t off_stat;     /* struct toe_flow_stat[conn_n][TOE_FLOW_STAT_REPLICAS] */
	uint64_t reserved[6];

	/* Writer: control plane. */
	TOE_LINE_ALIGNED uint32_t down_prod;
	uint32_t up_cons;
	uint32_t up_asleep;
	uint32_t reserved0[13];
	/* Writer: datapath (ctrl stage). */
	TOE_LINE_ALIGNED uint32_t up_prod;
	uint32_t down_cons;
	uint32_t down_asleep;
	uint32_t epoch; /* counts datapath starts on this region */
	uint32_t reserved1[12];
};
TOE_ASSERT_SIZE(struct toe_cpq_hdr, 256);

/* One entry of either ring: this header, then len bytes of the type's struct or frame. */
struct toe_cpq_entry {
	uint16_t type;   /* TOE_CMD_* down, TOE_EV_* up */
	uint16_t len;    /* bytes of data that follow */
	uint32_t conn;   /* connection id, or TOE_NONE */
	uint32_t gen;    /* generation of that connection id; a stale one is ignored */
	uint32_t cookie; /* echoed in the event that answers a command */
};
TOE_ASSERT_SIZE(struct toe_cpq_entry, 16);

/* ---- commands (control plane -> datapath) ---- */
#define TOE_CMD_INSTALL  1u /* toe_cmd_install -> TOE_EV_INSTALLED */
#define TOE_CMD_REMOVE   2u /* no data -> TOE_EV_REMOVED when no stage refers to the id */
#define TOE_CMD_FRAME_TX 3u /* whole Ethernet frame, checksums complete */
#define TOE_CMD_FRAME_RX 4u /* whole Ethernet frame, treated as if it had just been received */
#define TOE_CMD_CC       5u /* toe_cmd_cc */
#define TOE_CMD_RTO      6u /* no data: retransmit from SND.UNA, cwnd = 1 MSS (RFC 5681 §3.1) */
#define TOE_CMD_PROBE                                                                              \
	7u /* no data: zero-window probe (RFC 9293 §3.8.6.1); with data in flight and a window,   \
	      tail loss probe (RFC 8985 §7) */
#define TOE_CMD_KEEPALIVE  8u  /* no data: SEG.SEQ = SND.NXT-1, empty (RFC 1122 §4.2.3.6) */
#define TOE_CMD_CLOSE      9u  /* toe_cmd_close */
#define TOE_CMD_PORT       10u /* toe_cmd_port */
#define TOE_CMD_NEIGH      11u /* toe_cmd_neigh: new next-hop MAC of one connection */
#define TOE_CMD_SLOT_ERROR 12u /* toe_cmd_slot: connect failed, no connection id exists */
#define TOE_CMD_QUIET                                                                              \
	13u                    /* no data: control plane stopped polling this flow; the datapath   \
				  sends TOE_EV_ACTIVE again when bytes become outstanding */
#define TOE_CMD_DUMP       14u /* no data: one TOE_EV_DUMP per installed id, then conn=TOE_NONE */
#define TOE_CMD_SLOT_CLEAR 15u /* toe_cmd_slot: slot is about to be reused as generation gen */
#define TOE_CMD_LISTENER   16u /* toe_cmd_listener: open/close a listener record */
#define TOE_CMD_MSS                                                                                \
	17u /* toe_cmd_mss: path MTU changed; what is out and too large now is sent again */
#define TOE_CMD_ADDR6     18u /* toe_cmd_addr6: IPv6 connections to these addresses may be ours */
#define TOE_CMD_FRAME_TAP 19u /* whole Ethernet frame of a TOE_EV_FRAME or _ICMP: the kernel's */

/* ---- events (datapath -> control plane) ---- */
#define TOE_EV_FRAME       1u /* whole Ethernet frame: a port of ours, but no flow */
#define TOE_EV_INSTALLED   2u /* toe_ev_conn */
#define TOE_EV_REMOVED     3u /* toe_ev_conn with final sequence numbers */
#define TOE_EV_RESET       4u /* toe_ev_conn: RST arrived (RFC 5961 §3.2), or we sent one */
#define TOE_EV_CLOSED      5u /* toe_ev_conn: FIN received and our FIN acknowledged */
#define TOE_EV_ACTIVE      6u /* bytes are outstanding or wait for window: poll this flow */
#define TOE_EV_DUMP        7u /* toe_ev_conn, answer to TOE_CMD_DUMP */
#define TOE_EV_ACCEPT_FULL 8u /* toe_ev_conn: accept ring was full, reset it */
#define TOE_EV_ICMP        9u /* whole frame: ICMP error that quotes an offloaded TCP segment */

/* Everything the datapath needs to run an established connection.  Sequence numbers in host
 * order, addresses in network order, ports in host order. */
struct toe_cmd_install {
	uint32_t app_id;
	uint32_t slot;
	uint32_t slot_gen; /* generation written to toe_slot.gen */
	uint32_t listener; /* push to this listener's accept ring, TOE_NONE: none */
	uint8_t local_addr[16];
	uint8_t remote_addr[16];
	uint16_t family;
	uint16_t local_port;
	uint16_t remote_port;
	uint16_t mss; /* most payload bytes per segment we send, options already subtracted */
	uint8_t local_mac[6];
	uint8_t remote_mac[6];
	uint32_t iss;     /* our SYN's sequence number: first data byte is iss+1 */
	uint32_t irs;     /* peer's: first expected byte is irs+1 */
	uint32_t snd_nxt; /* >= iss+1 (differs only when re-installed) */
	uint32_t rcv_nxt;
	uint32_t snd_wnd;  /* bytes, already scaled */
	uint32_t cwnd;     /* bytes, initial window (RFC 6928) */
	uint32_t ssthresh; /* bytes */
	uint32_t rx_buf_bytes;
	uint32_t tx_buf_bytes;
	uint32_t ts_recent;
	uint32_t ts_offset;  /* TSval = CLOCK_MONOTONIC in ms + this: the handshake's timestamps and
				the connection's are one sequence (a datapath with another clock
				converts once, at INSTALL) */
	uint8_t snd_wscale;  /* shift applied to windows we receive */
	uint8_t rcv_wscale;  /* shift applied to windows we send */
	uint8_t flags;       /* TOE_INSTALL_* */
	uint8_t module;      /* 0; the ctrl stage's with TOE_INSTALL_STREAM: index of the module */
	uint32_t srtt_us;    /* from the handshake, 0 = none */
	uint32_t flow_label; /* of our packets, 20 bits (RFC 6437); IPv4: 0 */
	uint32_t ctl; /* TOE_CTL_* the connection starts with (inherited from the listener) */
};
#define TOE_INSTALL_TS   0x01u /* timestamps negotiated (RFC 7323) */
#define TOE_INSTALL_SACK 0x02u /* SACK permitted (RFC 2018) */
#define TOE_INSTALL_ECN  0x04u /* ECN negotiated (RFC 3168) */
#define TOE_INSTALL_STREAM                                                                         \
	0x80u /* set by the ctrl stage: a stream module owns the byte streams                      \
	       */
TOE_ASSERT_SIZE(struct toe_cmd_install, 128);

/* rate_bps: TOE_RATE_UNPACED = round-robin bypass, 0 = stopped (never "unlimited"). */
#define TOE_RATE_UNPACED UINT64_MAX
struct toe_cmd_cc {
	uint64_t rate_bps;
	uint32_t cwnd;       /* bytes */
	uint32_t ssthresh;   /* bytes */
	uint32_t loss_epoch; /* toe_flow_prog.loss_epoch this decision saw; a stale one is dropped,
				so that a loss in between is not undone */
	uint32_t reserved;
};
TOE_ASSERT_SIZE(struct toe_cmd_cc, 24);

#define TOE_CLOSE_FIN 1u /* drain TX-PAYLOAD-BUF, FIN; arriving data is answered by RST */
#define TOE_CLOSE_RST 2u /* RST now, nothing more (SO_LINGER 0, application evicted, timeout) */
#define TOE_CLOSE_TAIL                                                                             \
	0x100u /* or'ed to FIN or RST: tx_tail is the slot's, as the application left it.  CLOSE   \
		  may overtake the last doorbell, and the FIN belongs behind all that was written; \
		  an RST (unread data) behind what both windows let go now.  Such an RST raises    \
		  TOE_EV_RESET: REMOVE has to wait for it */
struct toe_cmd_close {
	uint32_t mode;    /* TOE_CLOSE_* */
	uint32_t tx_tail; /* stream position */
};

#define TOE_PORT_LISTEN   1u /* SYNs go to the control plane */
#define TOE_PORT_RESERVED 2u /* segments without a flow go to the control plane, not to the TAP */
struct toe_cmd_port {
	uint16_t family;
	uint16_t port;  /* host order */
	uint32_t state; /* TOE_PORT_* or 0 = give it back to the kernel */
};

/* All of them, whatever was said before.  IPv4 needs none: its address is configured. */
struct toe_cmd_addr6 {
	uint8_t addr[2][16]; /* network order; all zero: none */
};

struct toe_cmd_neigh {
	uint8_t remote_mac[6];
	uint8_t reserved[2];
};

struct toe_cmd_mss {
	uint32_t mss; /* as in toe_cmd_install */
};

struct toe_cmd_slot {
	uint32_t app_id;
	uint32_t slot;
	uint32_t gen;
	uint32_t error; /* positive errno */
};

struct toe_cmd_listener {
	uint32_t app_id;
	uint32_t listener;
	uint32_t open; /* 1 open (resets the ring), 0 closed */
	uint32_t reserved;
};

struct toe_ev_conn {
	uint32_t app_id;
	uint32_t slot;
	uint32_t snd_nxt;
	uint32_t snd_una;
	uint32_t rcv_nxt;
	uint32_t ts_recent;
	uint32_t flags; /* TOE_PROG_* */
	uint32_t reserved;
};
TOE_ASSERT_SIZE(struct toe_ev_conn, 32);

/* Progress of one connection.  Writer: proto stage; reader: control plane (a torn read across
 * fields is harmless: each field is used on its own, and a decision is checked by the proto stage
 * again). */
struct toe_flow_prog {
	TOE_LINE_ALIGNED uint32_t gen;
	uint32_t snd_una;
	uint32_t snd_nxt; /* highest sequence number sent */
	uint32_t snd_wnd; /* bytes */
	uint32_t rcv_nxt;
	uint32_t tx_tail; /* sequence number after the last byte the application has written */
	uint32_t cwnd;
	uint32_t ssthresh;
	uint32_t loss_epoch; /* counts loss events (fast retransmit, RTO) */
	uint32_t flags;      /* TOE_PROG_* */
	uint32_t srtt_us;
	uint32_t rttvar_us;
	uint32_t rcv_wnd;
	uint32_t rx_unread; /* bytes the application has not read */
	uint32_t ooo_bytes; /* bytes held out of order */
	uint32_t reserved;
};
TOE_ASSERT_SIZE(struct toe_flow_prog, 64);
#define TOE_PROG_FIN_QUEUED 0x01u /* application shut its side down */
#define TOE_PROG_FIN_SENT   0x02u
#define TOE_PROG_FIN_ACKED  0x04u
#define TOE_PROG_FIN_RCVD   0x08u
#define TOE_PROG_RESET      0x10u
#define TOE_PROG_RECOVERY   0x20u /* in fast recovery */
#define TOE_PROG_ORPHAN     0x40u /* TOE_CMD_CLOSE seen */
#define TOE_PROG_FIN_FIRST                                                                         \
	0x80u /* our FIN was sent before the peer's arrived: we keep TIME-WAIT                     \
	       */

/* Cumulative counters of one connection in one post replica (paper Table 5, cc part).  Writer:
 * that replica; the control plane sums the replicas and works on differences, so they may wrap. */
struct toe_flow_stat {
	TOE_LINE_ALIGNED uint64_t acked_bytes;
	uint64_t ecn_bytes; /* ACKed by segments that carried ECE */
	uint64_t rtx_bytes;
	uint64_t rx_bytes;
	uint64_t tx_bytes;
	uint32_t rtx_segs;
	uint32_t rx_segs;
	uint32_t tx_segs;
	uint32_t dup_acks;
	uint32_t rx_segs_ce;
	uint32_t reserved;
};
TOE_ASSERT_SIZE(struct toe_flow_stat, 64);

#endif
