// SPDX-License-Identifier: BSD-3-Clause
/* LINK: datapath/seg_parse.c datapath/netif_parse.c controlplane/frame.c common/flow_hash.c */
/*
 * All parsers of received frames on the same bytes, in a buffer of exactly their size: nothing is
 * read past the end, and where several parsers accept a frame they agree.  The first byte says
 * which checksums are mended first, or hardly any input would get past them.
 */
#include "fuzz.h"

#include "controlplane/frame.h"
#include "netif_parse.h"
#include "seg_parse.h"

#define ETH 14u

static uint16_t be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static void put_sum(uint8_t *at, uint64_t sum)
{
	uint16_t v = (uint16_t)~toe_cksum_fold(sum);

	memcpy(at, &v, 2);
}

/* Of TCP or ICMPv6 behind n bytes of IPv6 header, whatever extension headers say. */
static void mend6(uint8_t *ip, uint32_t n)
{
	struct toe_ip6_upper up;
	uint32_t total = TOE_IP6_BYTES + be16(ip + 4);
	uint8_t pseudo[4] = {0};
	uint8_t *l4;
	uint32_t len, at;
	uint64_t sum;

	if (total > n || !toe_ip6_upper(ip, total, &up) || (up.proto != 6 && up.proto != 58))
		return;
	l4 = ip + up.off;
	len = total - up.off;
	at = up.proto == 6 ? 16 : 2;
	if (len < at + 2)
		return;

	pseudo[1] = up.proto;
	pseudo[2] = (uint8_t)(len >> 8);
	pseudo[3] = (uint8_t)len;
	memset(l4 + at, 0, 2);
	sum = toe_cksum_add(ip + 8, 32, toe_cksum_add(pseudo, 4, 0));
	put_sum(l4 + at, toe_cksum_add(l4, len, sum));
}

/* IP header, TCP and ICMP checksums as they should be, if there is room for them. */
static void mend(uint8_t *p, size_t n)
{
	uint32_t hl, total, l4;

	if (n >= ETH + TOE_IP6_BYTES && p[ETH] >> 4 == 6)
		mend6(p + ETH, (uint32_t)n - ETH);
	if (n < ETH + 20 || p[ETH] >> 4 != 4)
		return;
	hl = (p[ETH] & 15u) * 4u;
	total = be16(p + ETH + 2);
	if (hl < 20 || total < hl || total > n - ETH)
		return;
	memset(p + ETH + 10, 0, 2);
	put_sum(p + ETH + 10, toe_cksum_add(p + ETH, hl, 0));
	l4 = total - hl;
	if (p[ETH + 9] == 6 && l4 >= 20) {
		const uint8_t pseudo[4] = {0, 6, (uint8_t)(l4 >> 8), (uint8_t)l4};
		uint8_t *tcp = p + ETH + hl;

		memset(tcp + 16, 0, 2);
		put_sum(tcp + 16,
			toe_cksum_add(tcp, l4,
				      toe_cksum_add(pseudo, 4, toe_cksum_add(p + ETH + 12, 8, 0))));
	} else if (p[ETH + 9] == 1 && l4 >= 8) {
		memset(p + ETH + hl + 2, 0, 2);
		put_sum(p + ETH + hl + 2, toe_cksum_add(p + ETH + hl, l4, 0));
	}
}

static void check_tcp(const uint8_t *p, uint32_t n)
{
	struct toe_frame f;
	struct toe_seg seg;
	struct netif_key key;
	struct cp_seg s;
	bool ok = false;

	if (toe_frame_parse(p, n, &f) == TOE_FRAME_TCP) {
		FUZZ_CHECK(f.end <= n && f.l4_off < f.end);
		ok = toe_seg_parse(p, &f, 0, &seg) == TOE_D_NONE;
		if (ok) {
			FUZZ_CHECK(seg.payload_off + seg.payload_len == f.end);
			FUZZ_CHECK(seg.sack_n <= 4);
		}
	}
	if (cp_frame_parse(p, n, &s) != 0)
		return;
	FUZZ_CHECK(ok);
	FUZZ_CHECK(seg.seq == s.seq && seg.ack == s.ack && seg.wnd == s.wnd);
	FUZZ_CHECK(seg.flags == s.flags && seg.payload_len == s.payload_len);
	FUZZ_CHECK(!(seg.opts & TOE_SEG_TS) == !(s.opts & CP_OPT_TS));
	FUZZ_CHECK(s.wscale <= CP_WSCALE_MAX);
	if (netif_parse(p, n, &key) == NETIF_TCP) {
		FUZZ_CHECK(memcmp(&s.t, &key.tuple, sizeof(s.t)) == 0);
		FUZZ_CHECK(memcmp(&s.t, &f.key, sizeof(s.t)) == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cp_icmp m;
	struct netif_key key;
	uint8_t *p;

	if (size < 2)
		return 0;
	p = malloc(size - 1);
	FUZZ_CHECK(p != NULL);
	memcpy(p, data + 1, size - 1);
	if (data[0] & 1)
		mend(p, size - 1);
	check_tcp(p, (uint32_t)size - 1);
	if (cp_icmp_parse(p, (uint32_t)size - 1, &m) == 0 &&
	    netif_parse(p, (uint32_t)size - 1, &key) == NETIF_ICMP_TCP)
		FUZZ_CHECK(memcmp(&m.t, &key.tuple, sizeof(m.t)) == 0);
	free(p);
	return 0;
}
