/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Congestion control algorithms as tables of functions.
 *
 * Per connection the control plane hands an algorithm one sample per interval (at least a tick,
 * not more often than something was acknowledged or lost) and sends what it decides to the
 * datapath if that is not what it has.  The datapath itself grows cwnd and halves it on loss (RFC
 * 5681); the algorithm adopts that.  No I/O, no clock: everything is in the arguments.
 */
#ifndef CP_CC_H
#define CP_CC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Kept in the connection's entry of the state memfd. */
struct cc_state {
	uint32_t cwnd;       /* bytes */
	uint32_t ssthresh;   /* bytes */
	uint32_t alpha;      /* DCTCP: estimated fraction of marked bytes, CC_ALPHA_ONE = 1 */
	uint32_t window_end; /* sequence number that ends the observation window */
	uint32_t acked;      /* bytes acknowledged in this window */
	uint32_t marked;     /* of them with ECE */
	uint32_t reduced;   /* DCTCP: this window began with a reduction, and with data in flight */
	uint32_t window_us; /* how long it has lasted */
};

#define CC_ALPHA_ONE    (1u << 20)
#define CC_SSTHRESH_MAX 0x7fffffffu

/* What happened since the last sample. */
struct cc_sample {
	uint32_t acked_bytes;
	uint32_t ecn_bytes; /* of them acknowledged with ECE */
	uint32_t rtx_bytes;
	uint32_t srtt_us; /* 0 = none yet */
	uint32_t dt_us;
	uint32_t snd_una;
	uint32_t snd_nxt;
	uint32_t cwnd;     /* what the datapath uses now */
	uint32_t ssthresh; /* likewise */
	uint32_t mss;
	bool loss;     /* a loss event happened: cwnd and ssthresh above are its result */
	bool recovery; /* fast recovery goes on */
};

struct cc_decision {
	uint64_t rate_bps;
	uint32_t cwnd;
	uint32_t ssthresh;
};

struct cc_ops {
	const char *name;
	/* Initial values; cwnd is the initial window of RFC 6928. */
	void (*init)(struct cc_state *s, uint32_t mss, uint32_t snd_una);
	void (*on_interval)(struct cc_state *s, const struct cc_sample *in,
			    struct cc_decision *out);
};

extern const struct cc_ops cc_dctcp;

/* By name; NULL if unknown. */
const struct cc_ops *cc_find(const char *name);

/* The connection has been idle for an RTO or more: cwnd says nothing about the path any more (RFC
 * 5681 §4.1), but how far it may come back is remembered in ssthresh (RFC 7661 §4.4.1).  True if
 * that changed something. */
bool cc_restart(struct cc_state *s, uint32_t mss);

/* RFC 6928: min(10 MSS, max(2 MSS, 14600)). */
uint32_t cc_initial_window(uint32_t mss);

#endif
