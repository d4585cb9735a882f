// SPDX-License-Identifier: BSD-3-Clause
/*
 * Checked parser of Ethernet, 802.1Q, IPv4, TCP and TCP options.
 *
 * Job: bytes of a frame -> layers, 4-tuple, segment summary, or the reason why not.  Pure: no
 * state, no DPDK calls, any thread; the fuzz target tests/fuzz/fuzz_seg_parse.c calls it with
 * arbitrary bytes.  Lengths come from the IP header, never from the frame (Ethernet padding).
 */
#include <string.h>

#include "seg_parse.h"

#define ETH_HDR      14u
#define VLAN_TAG     4u
#define TYPE_IPV4    0x0800u
#define TYPE_VLAN    0x8100u
#define IP_HDR_MIN   20u
#define TCP_HDR_MIN  20u
#define PROTO_TCP    6u
#define IP_OFF_MASK  0x1fffu
#define IP_MF        0x2000u
#define OPT_EOL      0u
#define OPT_NOP      1u
#define OPT_SACK     5u
#define OPT_TS       8u
#define OPT_TS_BYTES 10u

static uint16_t rd16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t rd32(const uint8_t *p)
{
	return (uint32_t)rd16(p) << 16 | rd16(p + 2);
}

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

static void key_fill(struct toe_tuple *k, const uint8_t *local, const uint8_t *remote,
		     const uint8_t *ports_local_remote[2])
{
	memset(k, 0, sizeof(*k));
	memcpy(k->local_addr, local, 4);
	memcpy(k->remote_addr, remote, 4);
	memcpy(&k->local_port, ports_local_remote[0], 2);
	memcpy(&k->remote_port, ports_local_remote[1], 2);
}

static enum toe_frame_kind parse_ip(const uint8_t *frame, uint32_t len, struct toe_frame *f)
{
	const uint8_t *ip = frame + f->l3_off;
	uint32_t room = len - f->l3_off;
	uint32_t hdr, total;
	uint16_t frag;

	if (room < IP_HDR_MIN)
		return TOE_FRAME_SHORT;
	hdr = (ip[0] & 0x0fu) * 4u;
	total = rd16(ip + 2);
	if (ip[0] >> 4 != 4 || hdr < IP_HDR_MIN || total < hdr)
		return TOE_FRAME_IP_BAD;
	if (total > room)
		return TOE_FRAME_SHORT;
	f->l4_off = (uint16_t)(f->l3_off + hdr);
	f->end = f->l3_off + total;
	f->ecn = ip[1] & 3u;
	frag = rd16(ip + 6);
	/* later fragments have no ports: the kernel's, which never gets the first one of ours */
	if (ip[9] != PROTO_TCP || (frag & IP_OFF_MASK) != 0 || total - hdr < 4)
		return TOE_FRAME_IP;
	key_fill(&f->key, ip + 16, ip + 12,
		 (const uint8_t *[2]){frame + f->l4_off + 2, frame + f->l4_off});
	return (frag & IP_MF) ? TOE_FRAME_FRAGMENT : TOE_FRAME_TCP;
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
	type = rd16(frame + 12);
	if (type == TYPE_VLAN) {
		if (len < ETH_HDR + VLAN_TAG)
			return TOE_FRAME_SHORT;
		f->vlan = rd16(frame + ETH_HDR) & 0x0fffu;
		f->l3_off = ETH_HDR + VLAN_TAG;
		type = rd16(frame + ETH_HDR + 2);
	}
	f->kind = TOE_FRAME_OTHER;
	if (type == TYPE_IPV4)
		f->kind = (uint8_t)parse_ip(frame, len, f);
	return f->kind;
}

bool toe_frame_martian(const struct toe_frame *f)
{
	uint8_t r = f->key.remote_addr[0];
	uint8_t l = f->key.local_addr[0];

	return r == 0 || r == 127 || r >= 224 || l == 0 || l == 127 || l >= 224;
}

static void parse_sack(const uint8_t *p, unsigned bytes, struct toe_seg *seg)
{
	unsigned i, n = bytes / 8;

	for (i = 0; i < n; i++) {
		seg->sack[i].left = rd32(p + i * 8);
		seg->sack[i].right = rd32(p + i * 8 + 4);
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
			seg->ts_val = rd32(p + 2);
			seg->ts_ecr = rd32(p + 6);
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
	const uint8_t pseudo[4] = {0, PROTO_TCP, (uint8_t)(len >> 8), (uint8_t)len};
	uint64_t sum;

	sum = toe_cksum_add(frame + f->l3_off + 12, 8, 0);
	sum = toe_cksum_add(pseudo, 4, sum);
	sum = toe_cksum_add(frame + f->l4_off, len, sum);
	return toe_cksum_fold(sum) == 0xffff;
}

enum toe_drop toe_seg_parse(const uint8_t *frame, const struct toe_frame *f, unsigned trust,
			    struct toe_seg *seg)
{
	const uint8_t *tcp = frame + f->l4_off;
	uint32_t len = f->end - f->l4_off;
	uint32_t doff;

	if (!(trust & TOE_TRUST_IP_CKSUM) &&
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
	seg->seq = rd32(tcp + 4);
	seg->ack = rd32(tcp + 8);
	seg->flags = tcp[13];
	seg->wnd = rd16(tcp + 14);
	seg->ecn = f->ecn;
	seg->payload_off = (uint16_t)(f->l4_off + doff);
	seg->payload_len = (uint16_t)(len - doff);
	parse_options(tcp + TCP_HDR_MIN, doff - TCP_HDR_MIN, seg);
	return TOE_D_NONE;
}
