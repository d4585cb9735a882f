// SPDX-License-Identifier: BSD-3-Clause
/* LINK: libtoe/websocket.c */
/*
 * libFuzzer target: one direction of a WebSocket connection.  The first input byte is the side, the
 * second the size of the pieces; the rest, whole and in pieces, gives the same payload or is
 * refused both times, and in blocks of exactly their size.  `make fuzz` builds and runs it.
 */
#include <stdlib.h>
#include <string.h>

#include "libtoe/websocket.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int cond)
{
	if (!cond)
		abort();
}

/* Bytes of payload in out, at most size; *refused. */
static size_t run(enum lt_ws_side side, const uint8_t *data, size_t size, size_t step, uint8_t *out,
		  int *refused)
{
	struct lt_ws w;
	size_t got = 0;

	lt_ws_begin(&w, side);
	*refused = 0;
	for (size_t at = 0; at < size;) {
		size_t piece = size - at < step ? size - at : step, n;
		uint8_t *copy = malloc(piece);
		size_t taken;

		require(copy != NULL);
		memcpy(copy, data + at, piece);
		taken = lt_ws_feed(&w, copy, piece, out + got, step, &n);
		free(copy);
		if (taken == 0) {
			*refused = 1;
			require(n == 0);
			break;
		}
		require(taken <= piece && n <= step && n <= taken && (n == 0 || lt_ws_open(&w)));
		at += taken;
		got += n;
	}
	return got;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *a, *b;
	int no_a, no_b;
	size_t n;

	if (size < 3)
		return 0;
	a = malloc(2 * size);
	b = malloc(size + 256);
	require(a != NULL && b != NULL);
	n = run(data[0] & 1, data + 2, size - 2, size, a, &no_a);
	require(n == run(data[0] & 1, data + 2, size - 2, 1u + data[1], b, &no_b));
	require(no_a == no_b && memcmp(a, b, n) == 0);
	free(a);
	free(b);
	return 0;
}
