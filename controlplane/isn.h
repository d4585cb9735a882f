/* SPDX-License-Identifier: BSD-3-Clause */
/* Keyed numbers: initial sequence numbers, timestamp offsets, flow labels, SYN
 * cookies. */
#ifndef CP_ISN_H
#define CP_ISN_H

#include <stdbool.h>
#include <stdint.h>

#include "common/flow_hash.h"
#include "common/tcp_seq.h"

/* RFC 9293 §3.4.1: M + F(tuple, key), M ticks every 4 us. */
uint32_t cp_isn(const uint64_t key[2], const struct toe_tuple *t, uint64_t now_us);

/* The initial number of a connection that follows another one of the same tuple, whose numbers end
 * at iss_min; 0: there was none (RFC 9293 §3.6.1, RFC 6191). */
static inline uint32_t cp_iss_above(uint32_t iss, uint32_t iss_min)
{
	return iss_min && seq_leq(iss, iss_min) ? iss_min + 65537 : iss;
}

/* Per pair of addresses, so that timestamps of successive connections grow (RFC 6191). */
uint32_t cp_ts_offset(const uint64_t key[2], const struct toe_tuple *t);

/* RFC 6437 §3: constant for a connection, not to be guessed, 20 bits and not 0; IPv4: 0. */
uint32_t cp_flow_label(const uint64_t key[2], const struct toe_tuple *t);

/* Options a cookie cannot carry in its 32 bits: low 6 bits of the SYN-ACK's TSval. */
struct cp_cookie_opts {
	uint8_t wscale; /* of the peer */
	bool has_ws;
	bool sack;
	bool ecn;
};

/* Sequence number of a SYN-ACK that remembers the SYN (RFC 4987 §3.6): tuple, irs, a counter of
 * 64 s and the largest table MSS <= mss. */
uint32_t cp_cookie_make(const uint64_t key[2], const struct toe_tuple *t, uint32_t irs,
			uint16_t mss, uint64_t now_ms);

/* The MSS if iss was made by cp_cookie_make() for this tuple and irs in the last two minutes or so,
 * else 0. */
uint16_t cp_cookie_check(const uint64_t key[2], const struct toe_tuple *t, uint32_t irs,
			 uint32_t iss, uint64_t now_ms);

/* The largest timestamp <= ts that carries the options; and back. */
uint32_t cp_cookie_ts(uint32_t ts, const struct cp_cookie_opts *o);
struct cp_cookie_opts cp_cookie_ts_opts(uint32_t ts_ecr);

#endif
