// SPDX-License-Identifier: BSD-3-Clause
/*
 * Checked parser of Ethernet, 802.1Q, IPv4, IPv6, TCP and TCP options.
 *
 * Job: bytes of a frame -> layers, 4-tuple, segment summary, or the reason why not.  Pure: no
 * state, no DPDK calls, any thread; the fuzz target tests/fuzz/fuzz_seg_parse.c calls it with
 * arbitrary bytes.  Lengths come from the IP header, never from the frame (Ethernet padding).
 */
#include <string.h>

#include "common/bytes.h"
#include "common/ip.h"
#include "seg_parse.h"

#define ETH_HDR      14u
#define VLAN_TAG     4u
#define TCP_HDR_MIN  20u
#define PROTO_TCP    6u
#define IP_OFF_MASK  0x1fffu
#define IP_MF        0x2000u
#define OPT_EOL      0u
#define OPT_NOP      1u
#define OPT_SACK     5u
#define OPT_TS       8u
#define OPT_TS_BYTES 10u

uint64_t toe_cksum_add(const uint8_t *p, uint32_t len, uint64_t sum)
{
	uint32_t a, b;
	uint16_t half = 0;

	/* 32-bit words into a 64-bit sum: carries are folded at the end */
	for (; len >= 8; len -= 8, p += 8) {
		memcpy(&a, p, 4);
		memcpy(&b, p + 4, 4);
		sum += (uint64_t)a + b;
	}
	for (; len >= 2; len -= 2, p += 2) {
		memcpy(&half, p, 2);
		sum += half;
	}
	if (len != 0) {
		half = 0;
		memcpy(&half, p, 1);
		sum += half;
	}
	return sum;
}

uint64_t toe_cksum_phdr(const uint8_t *addrs, uint32_t addr_bytes, uint32_t len, uint64_t sum)
{
	/* RFC 9293 §3.1 and RFC 8200 §8.1 differ in the width of fields that are zero here */
	const uint8_t pseudo[4] = {0, PROTO_TCP, (uint8_t)(len >> 8), (uint8_t)len};

	return toe_cksum_add(pseudo, 4, toe_cksum_add(addrs, 2 * addr_bytes, sum));
}

static enum toe_frame_kind parse_ip4(const uint8_t *frame, uint32_t len, struct toe_frame *f)
{
	const uint8_t *ip = frame + f->l3_off;
	uint32_t room = len - f->l3_off;
	uint32_t hdr, total;
	uint16_t frag;

	if (room < TOE_IP4_BYTES)
		return TOE_FRAME_SHORT;
	hdr = (ip[0] & 0x0fu) * 4u;
	total = toe_get16(ip + 2);
	if (ip[0] >> 4 != 4 || hdr < TOE_IP4_BYTES || total < hdr)
		return TOE_FRAME_IP_BAD;
	if (total > room)
		return TOE_FRAME_SHORT;
	f->l4_off = (uint16_t)(f->l3_off + hdr);
	f->end = f->l3_off + total;
	f->ecn = ip[1] & 3u;
	frag = toe_get16(ip + 6);
	/* later fragments have no ports: the kernel's, which never gets the first one of ours */
	if (ip[9] != PROTO_TCP || (frag & IP_OFF_MASK) != 0 || total - hdr < 4)
		return TOE_FRAME_IP;
	f->addrs_off = (uint16_t)(f->l3_off + 12);
	toe_tuple_read(&f->key, AF_INET, ip + 12, frame + f->l4_off, 1);
	return (frag & IP_MF) ? TOE_FRAME_FRAGMENT : TOE_FRAME_TCP;
}

static enum toe_frame_kind parse_ip6(const uint8_t *frame, uint32_t len, struct toe_frame *f)
{
	const uint8_t *ip = frame + f->l3_off;
	uint32_t room = len - f->l3_off;
	struct toe_ip6_upper up;
	uint32_t total;

	if (room < TOE_IP6_BYTES)
		return TOE_FRAME_SHORT;
	/* 0 is a jumbogram or nothing at all: no TCP either way */
	total = TOE_IP6_BYTES + toe_get16(ip + 4);
	if (ip[0] >> 4 != 6)
		return TOE_FRAME_IP_BAD;
	if (total > room)
		return TOE_FRAME_SHORT;
	f->l4_off = (uint16_t)(f->l3_off + TOE_IP6_BYTES);
	f->end = f->l3_off + total;
	f->ecn = (ip[1] >> 4) & 3u;
	if (!toe_ip6_upper(ip, total, &up) || up.proto != PROTO_TCP || total - up.off < 4)
		return TOE_FRAME_IP;
	f->l4_off = (uint16_t)(f->l3_off + up.off);
	f->addrs_off = (uint16_t)(f->l3_off + 8);
	toe_tuple_read(&f->key, AF_INET6, ip + 8, frame + f->l4_off, 1);
	return up.fragment ? TOE_FRAME_FRAGMENT : TOE_FRAME_TCP;
}

enum toe_frame_kind toe_frame_parse(const uint8_t *frame, uint32_t len, struct toe_frame *f)
{
	uint16_t type;

	f->vlan = 0;
	f->ecn = 0;
	f->l3_off = ETH_HDR;
	f->l4_off = 0;
	f->end = 0;
	f->kind = TOE_FRAME_SHORT;
	if (len < ETH_HDR)
		return TOE_FRAME_SHORT;
	type = toe_get16(frame + 12);
	if (type == TOE_ETHER_VLAN) {
		if (len < ETH_HDR + VLAN_TAG)
			return TOE_FRAME_SHORT;
		f->vlan = toe_get16(frame + ETH_HDR) & 0x0fffu;
		f->l3_off = ETH_HDR + VLAN_TAG;
		type = toe_get16(frame + ETH_HDR + 2);
	}
	f->kind = TOE_FRAME_OTHER;
	if (type == TOE_ETHER_IP4)
		f->kind = (uint8_t)parse_ip4(frame, len, f);
	else if (type == TOE_ETHER_IP6)
		f->kind = (uint8_t)parse_ip6(frame, len, f);
	return f->kind;
}

bool toe_frame_martian(const struct toe_frame *f)
{
	return toe_addr_martian(f->key.family, f->key.remote_addr) ||
	       toe_addr_martian(f->key.family, f->key.local_addr);
}

static void parse_sack(const uint8_t *p, unsigned bytes, struct toe_seg *seg)
{
	unsigned i, n = bytes / 8;

	for (i = 0; i < n; i++) {
		seg->sack[i].left = toe_get32(p + i * 8);
		seg->sack[i].right = toe_get32(p + i * 8 + 4);
	}
	seg->sack_n = (uint8_t)n;
}

/* An option whose length is impossible makes the rest unreadable: it is ignored, what came before
 * counts.  One whose length is only wrong for its kind is skipped (as Linux does). */
static void parse_options(const uint8_t *p, unsigned len, struct toe_seg *seg)
{
	while (len > 0 && p[0] != OPT_EOL) {
		unsigned bytes;

		if (p[0] == OPT_NOP) {
			p++;
			len--;
			continue;
		}
		if (len < 2 || p[1] < 2 || p[1] > len)
			return;
		bytes = p[1];
		if (p[0] == OPT_TS && bytes == OPT_TS_BYTES) {
			seg->ts_val = toe_get32(p + 2);
			seg->ts_ecr = toe_get32(p + 6);
			seg->opts |= TOE_SEG_TS;
		} else if (p[0] == OPT_SACK && bytes >= 10 && bytes <= 34 && (bytes - 2) % 8 == 0) {
			parse_sack(p + 2, bytes - 2, seg);
		}
		p += bytes;
		len -= bytes;
	}
}

static bool tcp_cksum_ok(const uint8_t *frame, const struct toe_frame *f)
{
	uint32_t len = f->end - f->l4_off;
	uint64_t sum =
		toe_cksum_phdr(frame + f->addrs_off, toe_ip_addr_bytes(f->key.family), len, 0);

	return toe_cksum_fold(toe_cksum_add(frame + f->l4_off, len, sum)) == 0xffff;
}

enum toe_drop toe_seg_parse(const uint8_t *frame, const struct toe_frame *f, unsigned trust,
			    struct toe_seg *seg)
{
	const uint8_t *tcp = frame + f->l4_off;
	uint32_t len = f->end - f->l4_off;
	uint32_t doff;

	if (!(trust & TOE_TRUST_IP_CKSUM) && f->key.family == AF_INET &&
	    toe_cksum_fold(toe_cksum_add(frame + f->l3_off, f->l4_off - f->l3_off, 0)) != 0xffff)
		return TOE_D_IP_HEADER;
	if (len < TCP_HDR_MIN)
		return TOE_D_TCP_HEADER;
	doff = (tcp[12] >> 4) * 4u;
	if (doff < TCP_HDR_MIN || doff > len)
		return TOE_D_TCP_HEADER;
	if (!(trust & TOE_TRUST_TCP_CKSUM) && !tcp_cksum_ok(frame, f))
		return TOE_D_TCP_CHECKSUM;
	memset(seg, 0, sizeof(*seg));
	seg->seq = toe_get32(tcp + 4);
	seg->ack = toe_get32(tcp + 8);
	seg->flags = tcp[13];
	seg->wnd = toe_get16(tcp + 14);
	seg->ecn = f->ecn;
	seg->payload_off = (uint16_t)(f->l4_off + doff);
	seg->payload_len = (uint16_t)(len - doff);
	parse_options(tcp + TCP_HDR_MIN, doff - TCP_HDR_MIN, seg);
	return TOE_D_NONE;
}
