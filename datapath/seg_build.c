// SPDX-License-Identifier: BSD-3-Clause
/*
 * Header builder.
 *
 * Job: {flow_post, addresses, snapshot, clock} -> Ethernet, IP and TCP header bytes.  Pure: no
 * state, any thread.  IPv4 with DF and id 0 (RFC 6864: atomic datagrams need none); IPv6 with the
 * flow label of the connection (RFC 6437), never an extension header.  The TCP checksum of the
 * whole segment is not done here: the payload is not there yet.
 */
#include <string.h>

#include "common/bytes.h"
#include "common/log.h"
#include "seg_build.h"
#include "seg_parse.h"

#define TS_BYTES  12u /* NOP, NOP, option */
#define PROTO_TCP 6u
#define ECT0      2u

unsigned toe_seg_tcp_bytes(const struct toe_flow_post *flow, unsigned sack_n)
{
	return 20u + ((flow->flags & TOE_POST_TS) ? TS_BYTES : 0) + (sack_n ? 4 + sack_n * 8 : 0);
}

static void build_options(uint8_t *p, const struct toe_seg_build *b)
{
	static const uint8_t ts_head[4] = {1, 1, 8, 10};
	static const uint8_t sack_head[3] = {1, 1, 5};
	unsigned i;

	if (b->flow->flags & TOE_POST_TS) {
		memcpy(p, ts_head, 4);
		toe_put32(p + 4, b->ts_val);
		toe_put32(p + 8, b->snap->ts_ecr);
		p += TS_BYTES;
	}
	if (b->sack_n == 0)
		return;
	memcpy(p, sack_head, 3);
	p[3] = (uint8_t)(2 + b->sack_n * 8);
	p += 4;
	for (i = 0; i < b->sack_n; i++, p += 8) {
		toe_put32(p, b->snap->sack[i].left);
		toe_put32(p + 4, b->snap->sack[i].right);
	}
}

static uint8_t traffic_class(const struct toe_seg_build *b)
{
	return __atomic_load_n(&b->flow->tos, __ATOMIC_RELAXED) | (b->snap->ect ? ECT0 : 0u);
}

static void build_ip4(uint8_t *ip, const struct toe_seg_build *b, uint32_t tcp_bytes)
{
	uint16_t sum;

	memset(ip, 0, TOE_IP4_BYTES);
	ip[0] = 0x45;
	ip[1] = traffic_class(b);
	toe_put16(ip + 2, TOE_IP4_BYTES + tcp_bytes + b->payload_len);
	ip[6] = 0x40; /* DF */
	ip[8] = __atomic_load_n(&b->flow->ttl, __ATOMIC_RELAXED);
	ip[9] = PROTO_TCP;
	memcpy(ip + 12, b->flow->local_addr, 4);
	memcpy(ip + 16, b->flow->remote_addr, 4);
	if (b->ip_cksum) {
		sum = (uint16_t)~toe_cksum_fold(toe_cksum_add(ip, TOE_IP4_BYTES, 0));
		memcpy(ip + 10, &sum, 2);
	}
}

static void build_ip6(uint8_t *ip, const struct toe_seg_build *b, uint32_t tcp_bytes)
{
	toe_put32(ip, 6u << 28 | (uint32_t)traffic_class(b) << 20 | toe_post_flow_label(b->flow));
	toe_put16(ip + 4, tcp_bytes + b->payload_len);
	ip[6] = PROTO_TCP;
	ip[7] = __atomic_load_n(&b->flow->ttl, __ATOMIC_RELAXED);
	memcpy(ip + 8, b->addr6->local, 16);
	memcpy(ip + 24, b->addr6->remote, 16);
}

/* What a port that inserts TCP checksums expects in the checksum field: the folded, not inverted,
 * sum of the pseudo-header. */
static void build_phdr(uint8_t *field, const uint8_t *addrs, uint32_t addr_bytes, uint32_t l4_bytes)
{
	uint16_t sum = toe_cksum_fold(toe_cksum_phdr(addrs, addr_bytes, l4_bytes, 0));

	memcpy(field, &sum, 2);
}

unsigned toe_seg_build(uint8_t *dst, const struct toe_seg_build *b)
{
	const struct toe_flow_post *flow = b->flow;
	unsigned tcp_bytes = toe_seg_tcp_bytes(flow, b->sack_n);
	unsigned l3_bytes = toe_seg_l3_bytes(flow);
	bool v6 = l3_bytes == TOE_IP6_BYTES;
	uint8_t *ip = dst + TOE_SEG_L2_BYTES;
	uint8_t *tcp = ip + l3_bytes;

	TOE_ASSERT(b->sack_n <= 3);
	memcpy(dst, flow->remote_mac, 6);
	memcpy(dst + 6, b->src_mac, 6);
	toe_put16(dst + 12, v6 ? TOE_ETHER_IP6 : TOE_ETHER_IP4);
	if (v6)
		build_ip6(ip, b, tcp_bytes);
	else
		build_ip4(ip, b, tcp_bytes);
	memcpy(tcp, &flow->local_port, 2);
	memcpy(tcp + 2, &flow->remote_port, 2);
	toe_put32(tcp + 4, b->snap->seq);
	toe_put32(tcp + 8, b->snap->ack);
	tcp[12] = (uint8_t)(tcp_bytes / 4 << 4);
	tcp[13] = b->snap->flags;
	toe_put16(tcp + 14, b->snap->wnd);
	toe_put32(tcp + 16, 0);
	build_options(tcp + 20, b);
	if (b->tcp_phdr)
		build_phdr(tcp + 16, tcp - (v6 ? 32 : 8), v6 ? 16 : 4, tcp_bytes + b->payload_len);
	return TOE_SEG_L2_BYTES + l3_bytes + tcp_bytes;
}
