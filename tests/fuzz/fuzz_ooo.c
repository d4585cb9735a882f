// SPDX-License-Identifier: BSD-3-Clause
/* LINK: datapath/ooo.c */
/*
 * Receive intervals (ooo.c) against a bitmap.  Input: where the sequence numbers start, then
 * operations {add, touch, advance, ask} on a space of FUZZ_SPACE bytes behind RCV.NXT.
 */
#include "fuzz.h"

#include "ooo.h"
#include "common/tcp_seq.h"

#define FUZZ_SPACE 512u

static struct {
	struct toe_ooo o;
	uint32_t base; /* sequence number of bit 0 */
	uint32_t nxt;  /* RCV.NXT as a bit */
	bool have[FUZZ_SPACE];
} f;

static bool ooo_has(uint32_t bit)
{
	for (uint32_t i = 0; i < f.o.n; i++)
		if (seq_leq(f.o.iv[i].left, f.base + bit) && seq_gt(f.o.iv[i].right, f.base + bit))
			return true;
	return false;
}

static void check(void)
{
	uint32_t bytes = 0;

	FUZZ_CHECK(f.o.n <= TOE_OOO_MAX);
	for (uint32_t b = 0; b < FUZZ_SPACE; b++) {
		FUZZ_CHECK(ooo_has(b) == f.have[b]);
		bytes += f.have[b];
	}
	FUZZ_CHECK(toe_ooo_bytes(&f.o) == bytes);
	for (uint32_t i = 0; i < f.o.n; i++) {
		FUZZ_CHECK(seq_lt(f.o.iv[i].left, f.o.iv[i].right));
		FUZZ_CHECK(seq_gt(f.o.iv[i].left, f.base + f.nxt));
		for (uint32_t j = 0; j < i; j++) /* apart, and not touching */
			FUZZ_CHECK(seq_lt(f.o.iv[i].right, f.o.iv[j].left) ||
				   seq_lt(f.o.iv[j].right, f.o.iv[i].left));
	}
}

static void add(uint32_t left, uint32_t right)
{
	bool all = true, known = true;
	struct toe_ooo before = f.o;

	for (uint32_t b = left; b < right; b++)
		known &= f.have[b];
	if (toe_ooo_touch(&f.o, f.base + left, f.base + right)) {
		FUZZ_CHECK(known);
		FUZZ_CHECK(seq_leq(f.o.iv[0].left, f.base + left));
		FUZZ_CHECK(seq_geq(f.o.iv[0].right, f.base + right));
		return;
	}
	FUZZ_CHECK(!known);
	all = toe_ooo_add(&f.o, f.base + left, f.base + right);
	if (!all) {
		FUZZ_CHECK(before.n == TOE_OOO_MAX && memcmp(&before, &f.o, sizeof(before)) == 0);
		return;
	}
	FUZZ_CHECK(seq_leq(f.o.iv[0].left, f.base + left));
	for (uint32_t b = left; b < right; b++)
		f.have[b] = true;
}

static void advance(uint32_t to)
{
	uint32_t got = toe_ooo_advance(&f.o, f.base + to) - f.base;

	for (uint32_t b = 0; b < to; b++)
		f.have[b] = false;
	while (to < FUZZ_SPACE && f.have[to])
		f.have[to++] = false;
	FUZZ_CHECK(got == to);
	f.nxt = to;
}

static void ask(uint32_t bit)
{
	bool beyond = false;

	for (uint32_t b = bit; b < FUZZ_SPACE; b++)
		beyond |= f.have[b];
	FUZZ_CHECK(toe_ooo_beyond(&f.o, f.base + bit) == beyond);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_in in = {data, size};

	memset(&f, 0, sizeof(f));
	f.base = fuzz_u32(&in);
	while (in.left > 0) {
		uint8_t op = fuzz_u8(&in);
		uint32_t left = f.nxt + 1 + fuzz_u8(&in), right = left + 1 + fuzz_u8(&in) % 64;

		if (right > FUZZ_SPACE)
			break;
		if (op < 200)
			add(left, right);
		else if (op < 230)
			ask(left);
		else
			advance(left);
		check();
	}
	return 0;
}
