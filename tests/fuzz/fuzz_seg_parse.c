// SPDX-License-Identifier: BSD-3-Clause
/* LINK: datapath/seg_parse.c */
/*
 * libFuzzer target: frame and segment parser on arbitrary bytes.  Every result must describe bytes
 * that are there.  The first input byte chooses which checksums count as verified, so that the
 * fuzzer gets beyond them.  `make fuzz` builds and runs it.
 */
#include <stdlib.h>

#include "seg_parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int cond)
{
	if (!cond)
		abort();
}

static void check_seg(const struct toe_frame *f, const struct toe_seg *seg, size_t len)
{
	require(seg->payload_off >= f->l4_off + 20u);
	require((uint32_t)seg->payload_off + seg->payload_len == f->end);
	require(f->end <= len);
	require(seg->sack_n <= 4);
	require(seg->ecn <= 3);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct toe_frame f;
	struct toe_seg seg;
	unsigned trust;
	uint32_t len;

	if (size < 1 || size > 65536)
		return 0;
	trust = data[0] & 3u;
	data++;
	len = (uint32_t)size - 1;
	switch (toe_frame_parse(data, len, &f)) {
	case TOE_FRAME_TCP:
		require(f.l4_off >= f.l3_off + 20u && f.l4_off + 4u <= f.end && f.end <= len);
		if (toe_seg_parse(data, &f, trust, &seg) == TOE_D_NONE)
			check_seg(&f, &seg, len);
		break;
	case TOE_FRAME_FRAGMENT:
	case TOE_FRAME_IP:
		require(f.end <= len && f.l4_off <= f.end);
		break;
	default:
		break;
	}
	return 0;
}
