/* SPDX-License-Identifier: BSD-3-Clause */
/* Control segments: whole Ethernet frames to header fields and back.  Pure functions. */
#ifndef CP_FRAME_H
#define CP_FRAME_H

#include <stdbool.h>
#include <stdint.h>

#include "addr.h"

#define CP_TCP_FIN 0x01u
#define CP_TCP_SYN 0x02u
#define CP_TCP_RST 0x04u
#define CP_TCP_PSH 0x08u
#define CP_TCP_ACK 0x10u
#define CP_TCP_ECE 0x40u
#define CP_TCP_CWR 0x80u

#define CP_OPT_MSS  0x01u
#define CP_OPT_WS   0x02u
#define CP_OPT_SACK 0x04u /* SACK permitted */
#define CP_OPT_TS   0x08u

#define CP_FRAME_MAX  (14u + TOE_IP_HDR_MAX + 60u) /* of frames we build */
#define CP_WSCALE_MAX 14u                          /* RFC 7323 §2.3 */
#define CP_TS_BYTES   12u                          /* what the option costs in each segment */

/* A received segment.  Host order but for t, which is as the receiver sees it: local = destination.
 */
struct cp_seg {
	const uint8_t *frame;
	uint32_t frame_len;
	const uint8_t *src_mac;
	struct toe_tuple t;
	uint16_t dport; /* t.local_port */
	uint32_t seq;
	uint32_t ack;
	uint32_t seg_len; /* payload, SYN and FIN counted */
	uint32_t ts_val;
	uint32_t ts_ecr;
	uint16_t wnd;
	uint16_t payload_len;
	uint16_t mss;
	uint8_t flags;  /* CP_TCP_* */
	uint8_t opts;   /* CP_OPT_* found */
	uint8_t wscale; /* at most CP_WSCALE_MAX */
};

/* A segment to build. */
struct cp_build {
	const uint8_t *src_mac;
	const uint8_t *dst_mac;
	struct toe_tuple t;  /* local = who sends */
	uint32_t flow_label; /* IPv6 */
	uint32_t ctl;        /* TOE_CTL_*: Diffserv and TTL */
	uint32_t seq;
	uint32_t ack;
	uint32_t ts_val;
	uint32_t ts_ecr;
	uint16_t wnd;
	uint16_t mss;
	uint8_t flags;
	uint8_t opts;
	uint8_t wscale;
};

enum cp_icmp_kind {
	CP_ICMP_TOO_BIG, /* "fragmentation needed" (RFC 1191), Packet Too Big (RFC 8201) */
	CP_ICMP_REFUSED, /* nobody listens there */
	CP_ICMP_SOFT,    /* no route, no host, not allowed */
};

/* What an ICMP error says about one of our segments. */
struct cp_icmp {
	struct toe_tuple t; /* local = who sent the quoted segment */
	enum cp_icmp_kind kind;
	uint32_t error; /* errno it suggests, 0 with TOO_BIG */
	uint32_t seq;
	uint32_t len; /* of the quoted packet */
	uint32_t mtu; /* of TOO_BIG; IPv4: 0 = not said */
};

/* 0, -EPROTO (malformed, not TCP over IP, fragment) or -EBADMSG (checksum). */
int cp_frame_parse(const uint8_t *frame, uint32_t len, struct cp_seg *s);

/* Writes the frame with its checksums, returns its length (<= CP_FRAME_MAX). */
uint32_t cp_frame_build(uint8_t *buf, const struct cp_build *b);

/* Answer to s without any state, RFC 9293 §3.10.7.1: RST.  src_mac is ours.  0 = none is due
 * (s is itself a RST). */
uint32_t cp_frame_rst(uint8_t *buf, const struct cp_seg *s, const uint8_t *src_mac,
		      uint32_t flow_label);

/* 0 if the frame is an error of struct cp_icmp's kinds that quotes a TCP segment, else -EPROTO. */
int cp_icmp_parse(const uint8_t *frame, uint32_t len, struct cp_icmp *m);

#endif
