/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Application region: the memory one application (one `toe run`) shares with the engine.
 *
 * Two sparse, sealed memfds made by toe-keeper, the same for all processes of the application:
 *   control segment   toe_region_hdr | slots | listeners | contexts | token map
 *   payload segment   slot s: RX-PAYLOAD-BUF at s*(rx+tx), TX-PAYLOAD-BUF right after it
 * The geometry is fixed when the application registers; the engine keeps its own copy and never
 * reads it back from the region, because **the application may write any byte at any time**.
 *
 * Every cache line has one writer, named on the line.  Cursors are absolute stream positions
 * modulo 2^32, never increments: byte c of a stream is at c % buf_bytes (a power of two).
 *
 * Memory order.  Publish = store the data, then store-release the cursor/index; the reader
 * load-acquires it.  Sleep/wake is Dekker: sleeper sets its flag, seq_cst fence, rechecks;
 * producer publishes, seq_cst fence, reads the flag.
 */
#ifndef TOE_REGION_H
#define TOE_REGION_H

#include "toe/abi.h"

#define TOE_REGION_MAGIC 0x31474552454f5431ull /* "1TOEREG1" */

#define TOE_CTX_N    64u /* processes per application: one context each, bits of a uint64_t */
#define TOE_WAITER_N 64u /* sleeping threads per process, bits of a uint64_t */
#define TOE_NONE     UINT32_MAX

/* An id in a hint or doorbell ring: a slot index, or a listener index with this bit set. */
#define TOE_ID_LISTENER 0x80000000u

/* Geometry, 192 B.  Written once by the keeper; the application's copy is for its convenience. */
struct toe_region_hdr {
	uint64_t magic;
	uint32_t abi_version;
	uint32_t abi_fingerprint;
	uint64_t features; /* bit set; 0 so far */
	uint64_t control_bytes;
	uint64_t payload_bytes;
	uint32_t app_id;
	uint32_t slot_n;
	uint32_t listener_n;
	uint32_t token_n;
	uint32_t backlog_n;    /* entries of each accept ring, power of two */
	uint32_t hint_n;       /* entries of each hint ring, power of two >= slot_n + listener_n */
	uint32_t doorbell_n;   /* entries of each doorbell ring, power of two >= slot_n */
	uint32_t rx_buf_bytes; /* power of two */
	uint32_t tx_buf_bytes; /* power of two */
	uint32_t port_ipv4;    /* address of the offloaded port, network order */
	uint8_t port_ipv6[2][16]; /* global, link-local; all zero: none.  They may change */
	uint64_t off_slots;
	uint64_t off_listeners;
	uint64_t off_contexts;
	uint64_t off_tokens;  /* uint32_t[token_n]: slot index of that token, TOE_NONE if unused */
	uint32_t tap_ifindex; /* scope id of link-local addresses */
	uint32_t reserved0;
	uint64_t reserved[5];
};
TOE_ASSERT_SIZE(struct toe_region_hdr, 192);

/* toe_slot.state: level state of a connection, set by the engine.  Bits are only ever added until
 * the slot gets a new generation. */
#define TOE_SLOT_ESTABLISHED 0x01u /* handshake complete: connect() done, writable */
#define TOE_SLOT_RX_FIN      0x02u /* peer's FIN: rx_tail is the end of the stream */
#define TOE_SLOT_ERROR       0x04u /* connection is over, toe_slot.error says why */
#define TOE_SLOT_TX_DONE     0x08u /* our FIN has been acknowledged */
#define TOE_SLOT_DEAD        0x10u /* the engine no longer touches this slot's buffers */

/* toe_slot.ctl: the application's wishes, level state. */
#define TOE_CTL_SHUT_WR   0x01u /* FIN after tx_tail; tx_tail must not move again */
#define TOE_CTL_SHUT_RD   0x02u /* received bytes are acknowledged and thrown away */
#define TOE_CTL_LINGER0   0x04u /* last close sends RST (SO_LINGER {1,0}) */
#define TOE_CTL_NODELAY   0x08u /* TCP_NODELAY */
#define TOE_CTL_CORK      0x10u /* TCP_CORK: hold a partial segment */
#define TOE_CTL_KEEPALIVE 0x20u /* SO_KEEPALIVE (times in keep_*_s) */
#define TOE_CTL_TOS_SHIFT 8u    /* 8 bits: IP_TOS or IPV6_TCLASS; its ECN bits are TCP's */
#define TOE_CTL_TTL_SHIFT 16u   /* 8 bits: IP_TTL or IPV6_UNICAST_HOPS; 0: TOE_TTL */
#define TOE_CTL_HEADER    (0xffu << TOE_CTL_TOS_SHIFT | 0xffu << TOE_CTL_TTL_SHIFT)
#define TOE_TTL           64u /* of segments, unless told otherwise */

/* Diffserv field with ECN bits 0, and time to live, of segments (RFC 9293 §3.9.2). */
static inline uint8_t toe_ctl_tos(uint32_t ctl)
{
	return (ctl >> TOE_CTL_TOS_SHIFT) & 0xfcu;
}
static inline uint8_t toe_ctl_ttl(uint32_t ctl)
{
	uint8_t ttl = (uint8_t)(ctl >> TOE_CTL_TTL_SHIFT);

	return ttl != 0 ? ttl : TOE_TTL;
}

/* One connection of the application. */
struct toe_slot {
	/* line 0.  Writer: ctxq stage.  Reader: libtoe, control plane. */
	TOE_LINE_ALIGNED uint32_t gen; /* generation; changes each time the slot is reused */
	uint32_t state;                /* TOE_SLOT_*, store-release, last of this line */
	uint32_t rx_tail;              /* bytes [rx_head, rx_tail) are readable */
	uint32_t tx_head;              /* bytes before it are acknowledged and may be overwritten */
	uint32_t error;                /* positive errno, valid with TOE_SLOT_ERROR */
	uint32_t srtt_us;              /* for TCP_INFO; 0 = no sample yet */
	uint32_t cwnd_bytes;           /* for TCP_INFO */
	uint32_t rtx_segs;             /* for TCP_INFO */
	uint32_t reserved0[8];

	/* line 1.  Writer: libtoe, under the slot's lock.  Reader: dma stage (copied, checked). */
	TOE_LINE_ALIGNED uint32_t tx_tail; /* bytes [tx_head, tx_tail) are to be sent */
	uint32_t rx_head;                  /* bytes before it have been consumed */
	uint32_t tx_short; /* counts sends that the full buffer did not take whole; rises before
			      tx_tail moves again, so who sees bytes of a later send sees it */
	uint32_t ctl;      /* TOE_CTL_* */
	uint32_t user_timeout_ms; /* TCP_USER_TIMEOUT, 0 = default */
	uint32_t keep_idle_s;
	uint32_t keep_intvl_s;
	uint32_t keep_cnt;
	uint32_t reserved1[8];

	/* line 2.  Read-modify-written by both sides. */
	TOE_LINE_ALIGNED uint32_t
		doorbell_pending; /* 0->1 by libtoe: then it posts a doorbell;
				     1->0 by the ctxq stage before it reads line 1 */
	uint32_t reserved2;
	uint64_t hint_pending; /* bit c: a hint for this slot is in context c's ring; set by the
				  engine before it posts, cleared by libtoe before it looks */
	uint64_t ctx_mask;     /* bit c: context c wants hints; written by libtoe */
	uint32_t reserved3[10];

	/* line 3.  Writer: control plane, before the slot is handed out. */
	TOE_LINE_ALIGNED uint16_t family; /* AF_INET, AF_INET6; never an IPv4-mapped address */
	uint16_t local_port;              /* host order, as remote_port */
	uint16_t remote_port;
	uint16_t mss;
	uint8_t local_addr[16]; /* network order; first 4 bytes for AF_INET */
	uint8_t remote_addr[16];
	uint32_t listener; /* index of the listener it was accepted on, TOE_NONE if connected */
	uint32_t info_gen; /* generation these fields describe */
	uint32_t reserved4[4];

	/* lines 4-6.  libtoe's own: robust lock, O_NONBLOCK, options, SO_ERROR.  Never read by the
	 * engine; zeroed by the control plane before the slot is handed out. */
	TOE_LINE_ALIGNED uint8_t lib[192];
};
TOE_ASSERT_SIZE(struct toe_slot, 448);
TOE_ASSERT_OFFSET(struct toe_slot, tx_tail, 64);
TOE_ASSERT_OFFSET(struct toe_slot, tx_short, 72);
TOE_ASSERT_OFFSET(struct toe_slot, ctl, 76);
TOE_ASSERT_OFFSET(struct toe_slot, doorbell_pending, 128);
TOE_ASSERT_OFFSET(struct toe_slot, family, 192);
TOE_ASSERT_OFFSET(struct toe_slot, lib, 256);

/* toe_listener.state */
#define TOE_LISTENER_OPEN 0x01u

/* One offloaded listener.  Followed in memory by uint32_t ring[backlog_n] of slot indices. */
struct toe_listener {
	/* line 0.  Writer: ctxq stage. */
	TOE_LINE_ALIGNED uint32_t prod; /* accept ring: entries [cons, prod) are waiting */
	uint32_t state;
	uint32_t reserved0[14];
	/* line 1.  Writer: libtoe, under the listener's lock. */
	TOE_LINE_ALIGNED uint32_t cons;
	uint32_t reserved1[15];
	/* line 2.  As line 2 of a slot. */
	TOE_LINE_ALIGNED uint64_t hint_pending;
	uint64_t ctx_mask;
	uint32_t reserved2[12];
	/* lines 3-4.  libtoe's own: robust lock, defaults that accepted sockets inherit. */
	TOE_LINE_ALIGNED uint8_t lib[128];
};
TOE_ASSERT_SIZE(struct toe_listener, 320);

/* What was not offloaded, and why: X(symbol, name).  At most 14.  Indices of
 * toe_context.unsupported. */
#define TOE_UNSUPPORTED(X)                                                                         \
	X(LISTEN_ADDRESS, "listen_address") /* not an address of the port */                       \
	X(LISTEN_REFUSED, "listen_refused") /* the engine has no listener for it */                \
	X(CONNECT_ROUTE, "connect_route")   /* destination not routed through the port */          \
	X(CONNECT_FAMILY, "connect_family") /* IPv6, and the port has no IPv6 address */           \
	X(SOCKOPT, "sockopt")               /* option that Linux has and we do not: ENOPROTOOPT */ \
	X(SPLICE, "splice")                 /* EINVAL: callers read and write instead */           \
	X(OOB, "oob")                       /* urgent data: EOPNOTSUPP */
#define TOE_UNSUPPORTED_INDEX(symbol, name) TOE_UNSUP_##symbol,
enum toe_unsupported { TOE_UNSUPPORTED(TOE_UNSUPPORTED_INDEX) TOE_UNSUP_N };
#define TOE_UNSUP_MAX 14u

/* One process of the application.  Followed in memory by
 * uint32_t hints[hint_n], then uint32_t doorbells[doorbell_n]. */
struct toe_context {
	/* line 0.  Writer: ctxq stage. */
	TOE_LINE_ALIGNED uint32_t hint_prod;
	uint32_t doorbell_cons;
	uint32_t engine_asleep; /* 1: after posting a doorbell, send one byte on the kick socket */
	uint32_t engine_gone;   /* 1: the datapath died; every call fails with ECONNRESET */
	uint32_t reserved0[12];
	/* line 1.  Writer: libtoe, under the context's process-local lock. */
	TOE_LINE_ALIGNED uint32_t hint_cons;
	uint32_t doorbell_prod;
	/* Relaxed additions by any thread; of all processes that ever had this context.  Only the
	 * keeper reads them, and believes nothing but that they are numbers. */
	uint32_t unsupported[TOE_UNSUP_MAX];
	/* line 2.  Bit w: waiter w sleeps.  Set by libtoe (then fence, then recheck), taken with an
	 * exchange by the engine, which sends one byte on each waiter's socket. */
	TOE_LINE_ALIGNED uint64_t waiting;
	uint32_t reserved2[14];
};
TOE_ASSERT_SIZE(struct toe_context, 192);
TOE_ASSERT_OFFSET(struct toe_context, unsupported, 72);
static_assert(TOE_UNSUP_N <= TOE_UNSUP_MAX, "line 1 of a context has room for 14");

/* Sizes that the keeper, the engine and libtoe derive in the same way. */
static inline uint64_t toe_listener_stride(uint32_t backlog_n)
{
	return sizeof(struct toe_listener) + (uint64_t)backlog_n * sizeof(uint32_t);
}

static inline uint64_t toe_context_stride(uint32_t hint_n, uint32_t doorbell_n)
{
	return sizeof(struct toe_context) + ((uint64_t)hint_n + doorbell_n) * sizeof(uint32_t);
}

/* What determines the layout of a region: the fields of struct toe_ctl_app of the same names. */
struct toe_region_geometry {
	uint32_t slot_n;
	uint32_t listener_n;
	uint32_t token_n;
	uint32_t backlog_n;
	uint32_t hint_n;
	uint32_t doorbell_n;
	uint32_t rx_buf_bytes;
	uint32_t tx_buf_bytes;
};

/* Where everything is, computed from the geometry alone: the keeper writes it into the header, the
 * engine and libtoe compute it again and never trust the copy. */
struct toe_region_layout {
	uint64_t off_slots;
	uint64_t off_listeners;
	uint64_t off_contexts;
	uint64_t off_tokens;
	uint64_t control_bytes; /* whole pages */
	uint64_t payload_bytes; /* whole pages */
};

/* In the token map: the slot is about to be taken from its accept ring with this token.  Set before
 * the ring moves on, so that a process killed in between is found out. */
#define TOE_TOKEN_TAKING 0x80000000u

#define TOE_REGION_PAGE        4096u /* the header has the first page of the control segment */
#define TOE_REGION_BUF_MIN     4096u /* payload buffers: powers of two between these */
#define TOE_REGION_BUF_MAX     (1u << 30)
#define TOE_REGION_ENTRIES_MAX (1u << 20) /* slots, listeners, tokens, entries of a ring */

static inline uint64_t toe_region_align(uint64_t v, uint64_t to)
{
	return (v + to - 1) / to * to;
}

static inline int toe_region_pow2(uint32_t v)
{
	return v != 0 && (v & (v - 1)) == 0;
}

/* 0, or -1 if the geometry is impossible.  Ring
 * sizes are multiples of 16 entries so that every record of the segment starts a cache line. */
static inline int toe_region_layout(struct toe_region_layout *l,
				    const struct toe_region_geometry *g)
{
	if (g->slot_n == 0 || g->slot_n > TOE_REGION_ENTRIES_MAX ||
	    g->listener_n > TOE_REGION_ENTRIES_MAX || g->token_n > TOE_REGION_ENTRIES_MAX)
		return -1;
	if (!toe_region_pow2(g->backlog_n) || g->backlog_n < 16 ||
	    g->backlog_n > TOE_REGION_ENTRIES_MAX)
		return -1;
	if (!toe_region_pow2(g->hint_n) || g->hint_n < 16 ||
	    g->hint_n > 2 * TOE_REGION_ENTRIES_MAX || g->hint_n < g->slot_n + g->listener_n)
		return -1;
	if (!toe_region_pow2(g->doorbell_n) || g->doorbell_n < 16 ||
	    g->doorbell_n > TOE_REGION_ENTRIES_MAX || g->doorbell_n < g->slot_n)
		return -1;
	if (!toe_region_pow2(g->rx_buf_bytes) || g->rx_buf_bytes < TOE_REGION_BUF_MIN ||
	    g->rx_buf_bytes > TOE_REGION_BUF_MAX || !toe_region_pow2(g->tx_buf_bytes) ||
	    g->tx_buf_bytes < TOE_REGION_BUF_MIN || g->tx_buf_bytes > TOE_REGION_BUF_MAX)
		return -1;
	l->off_slots = TOE_REGION_PAGE;
	l->off_listeners =
		toe_region_align(l->off_slots + g->slot_n * (uint64_t)sizeof(struct toe_slot), 64);
	l->off_contexts = toe_region_align(
		l->off_listeners + g->listener_n * toe_listener_stride(g->backlog_n), 64);
	l->off_tokens = toe_region_align(
		l->off_contexts + TOE_CTX_N * toe_context_stride(g->hint_n, g->doorbell_n), 64);
	l->control_bytes = toe_region_align(l->off_tokens + g->token_n * (uint64_t)sizeof(uint32_t),
					    TOE_REGION_PAGE);
	l->payload_bytes = toe_region_align(
		g->slot_n * ((uint64_t)g->rx_buf_bytes + g->tx_buf_bytes), TOE_REGION_PAGE);
	return 0;
}

static inline uint64_t toe_slot_rx_off(uint32_t slot, uint32_t rx_bytes, uint32_t tx_bytes)
{
	return (uint64_t)slot * ((uint64_t)rx_bytes + tx_bytes);
}

static inline uint64_t toe_slot_tx_off(uint32_t slot, uint32_t rx_bytes, uint32_t tx_bytes)
{
	return toe_slot_rx_off(slot, rx_bytes, tx_bytes) + rx_bytes;
}

#endif
