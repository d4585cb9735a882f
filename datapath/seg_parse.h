/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Checked parser of received frames: pure functions over {bytes, length}, nothing is trusted.
 *
 * Two steps, because most of the checks matter only for frames that turn out to be ours:
 * toe_frame_parse() finds the layers and the 4-tuple, toe_seg_parse() verifies checksums and fills
 * the segment summary.
 */
#ifndef TOE_SEG_PARSE_H
#define TOE_SEG_PARSE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/flow_hash.h"
#include "counters.h"
#include "work.h"

/* TCP flags byte */
#define TOE_TCP_FIN 0x01u
#define TOE_TCP_SYN 0x02u
#define TOE_TCP_RST 0x04u
#define TOE_TCP_PSH 0x08u
#define TOE_TCP_ACK 0x10u
#define TOE_TCP_URG 0x20u
#define TOE_TCP_ECE 0x40u
#define TOE_TCP_CWR 0x80u

enum toe_frame_kind {
	TOE_FRAME_SHORT,    /* ends before its Ethernet or IP header says */
	TOE_FRAME_IP_BAD,   /* IPv4 or IPv6 whose header makes no sense */
	TOE_FRAME_OTHER,    /* neither */
	TOE_FRAME_IP,       /* IP, but no TCP ports to be read */
	TOE_FRAME_FRAGMENT, /* first fragment of a TCP segment: key is valid */
	TOE_FRAME_TCP,      /* key is valid */
};

struct toe_frame {
	uint16_t l3_off;
	uint16_t l4_off;    /* behind IPv6 extension headers */
	uint16_t addrs_off; /* source and destination address; valid if key is */
	uint32_t end;       /* offset after the last byte of the IP packet; padding may follow */
	uint16_t vlan;      /* VLAN id of an 802.1Q tag, 0 = none or priority tag */
	uint8_t kind;       /* enum toe_frame_kind */
	uint8_t ecn;
	struct toe_tuple key; /* local = destination, remote = source */
};

/* What the port has verified already. */
#define TOE_TRUST_IP_CKSUM  0x01u
#define TOE_TRUST_TCP_CKSUM 0x02u

enum toe_frame_kind toe_frame_parse(const uint8_t *frame, uint32_t len, struct toe_frame *f);

/* For kind TOE_FRAME_TCP.  TOE_D_NONE and *seg filled, or why it is to be dropped. */
enum toe_drop toe_seg_parse(const uint8_t *frame, const struct toe_frame *f, unsigned trust,
			    struct toe_seg *seg);

/* Addresses of f that no unicast peer on a wire can have, see toe_addr_martian(). */
bool toe_frame_martian(const struct toe_frame *f);

/* SYN with FIN or RST, or none of SYN, RST and ACK. */
static inline bool toe_flags_impossible(uint8_t flags)
{
	if (flags & TOE_TCP_SYN)
		return (flags & (TOE_TCP_FIN | TOE_TCP_RST)) != 0;
	return (flags & (TOE_TCP_RST | TOE_TCP_ACK)) == 0;
}

/* Internet checksum (RFC 1071): adds len bytes to sum; fold() gives the 16-bit one's complement sum
 * in memory order. */
uint64_t toe_cksum_add(const uint8_t *p, uint32_t len, uint64_t sum);
/* Adds TCP's pseudo header: source and destination address, one behind the other, and len bytes of
 * header and payload. */
uint64_t toe_cksum_phdr(const uint8_t *addrs, uint32_t addr_bytes, uint32_t len, uint64_t sum);
static inline uint16_t toe_cksum_fold(uint64_t sum)
{
	sum = (sum >> 32) + (sum & 0xffffffffu);
	sum = (sum >> 32) + (sum & 0xffffffffu);
	sum = (sum >> 16) + (sum & 0xffffu);
	sum = (sum >> 16) + (sum & 0xffffu);
	return (uint16_t)sum;
}

#endif
