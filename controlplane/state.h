/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Layout of the state memfd: everything of the control plane that must survive its death.
 *
 * The keeper holds the memfd, the running control plane is its only reader and writer.  Arrays of
 * fixed-size entries, indices instead of pointers; an entry's `state` is written last (see
 * cp_commit()), so that after kill -9 an entry is either as before or complete.  Half-open
 * connections, hash chains, lists and timers are not here: they are rebuilt or may be lost.
 */
#ifndef CP_STATE_H
#define CP_STATE_H

#include "addr.h"
#include "cc.h"
#include "common/config.h"
#include "common/flow_hash.h"
#include "toe/cpq.h"
#include "toe/region.h"

#define CP_STATE_MAGIC   0x3154535043454f54ull /* "TOECPST1" */
#define CP_STATE_VERSION 7u
#define CP_PORT_N        65536u

/* name, text.  Cumulative since the engine was started. */
#define CP_COUNTERS(X)                                                                             \
	X(frames_bad, "control segments that were malformed or had a wrong checksum")              \
	X(frames_martian, "control segments whose addresses, ports or MAC no connection can have") \
	X(frames_not_ours, "control segments for a listener's port at an address of others")       \
	X(frames_removing, "control segments for connections that are being removed")              \
	X(syn_received, "SYNs for listeners")                                                      \
	X(syn_dropped, "SYNs dropped: accept queue full or no next hop")                           \
	X(synack_sent, "SYN-ACKs sent, retransmissions included")                                  \
	X(cookies_sent, "SYN cookies sent")                                                        \
	X(cookies_valid, "connections made from a SYN cookie")                                     \
	X(cookies_invalid, "ACKs that carried no valid SYN cookie")                                \
	X(share_refused, "connections refused: what is left is reserved for other applications")   \
	X(accept_dropped, "final ACKs dropped: accept queue, slots or ids exhausted")              \
	X(passive_opens, "connections accepted")                                                   \
	X(active_opens, "connections opened by CONNECT")                                           \
	X(connect_kernel, "CONNECTs given back to the kernel (other route, no slot)")              \
	X(connect_failed, "connections that failed before they were established")                  \
	X(rst_sent, "RSTs sent for segments without a connection")                                 \
	X(reinjected, "segments handed back to the datapath for a young connection")               \
	X(reinject_spent, "segments dropped: the young connection has been handed back enough")    \
	X(to_kernel, "frames that turned out to be the kernel's: no connection or listener")       \
	X(removed, "connections removed")                                                          \
	X(resets, "connections reset by the peer")                                                 \
	X(accept_full, "connections reset because the accept ring was full")                       \
	X(rto, "retransmission timeouts")                                                          \
	X(probes, "zero-window probes")                                                            \
	X(tail_probes, "tail loss probes")                                                         \
	X(keepalives, "keepalive probes")                                                          \
	X(timeouts, "connections given up after their timeout")                                    \
	X(orphans_reset, "closed connections reset because of the orphan limit")                   \
	X(fin_wait2_timeouts, "orphans removed in FIN-WAIT-2")                                     \
	X(time_waits, "connections that entered TIME-WAIT")                                        \
	X(time_wait_reused, "TIME-WAITs that gave way to a new SYN (RFC 6191)")                    \
	X(time_wait_overflow, "TIME-WAITs forgotten early because the table was full")             \
	X(icmp_errors, "ICMP errors for offloaded connections")                                    \
	X(icmp_bad, "ICMP errors that were malformed or of a kind that says nothing to us")        \
	X(icmp_no_conn, "ICMP errors that quote a connection in TIME-WAIT or half open")           \
	X(icmp_ignored, "ICMP errors that did not fit the connection")                             \
	X(pmtu_lowered, "path MTUs lowered by ICMP")                                               \
	X(pmtu_raised, "path MTUs tried anew after 10 minutes")                                    \
	X(rst_ignored, "RSTs that fitted no connection: outside the window, or to TIME-WAIT")      \
	X(acks_limited, "unacceptable segments not answered: one in half a second is")             \
	X(segs_no_syn, "segments without SYN in SYN-SENT")                                         \
	X(segs_no_ack, "segments without ACK in SYN-RECEIVED")                                     \
	X(half_reset, "half-open connections reset by the peer")                                   \
	X(half_no_hop, "segments of half-open connections whose next hop is not known yet")        \
	X(listen_ignored, "segments to a listener that are no SYN: no flags, or a FIN")            \
	X(time_wait_acks, "ACKs that fit a TIME-WAIT: nothing to be answered")                     \
	X(cmd_frames_dropped, "frames dropped because the command queue was congested")            \
	X(cc_updates, "congestion control commands")

enum cp_counter {
#define X(name, text) CP_CNT_##name,
	CP_COUNTERS(X)
#undef X
		CP_COUNTER_N
};

/* cp_conn.state */
enum cp_conn_state {
	CP_FREE,
	CP_SYN_SENT,    /* active open, not known to the datapath */
	CP_INSTALLING,  /* INSTALL sent, INSTALLED not seen */
	CP_ESTABLISHED, /* runs in the datapath, application holds it */
	CP_CLOSING,     /* runs in the datapath as an orphan: CLOSE sent, not REMOVE */
	CP_REMOVING,    /* REMOVE sent, REMOVED not seen */
};

/* cp_conn.flags */
#define CP_CONN_ACTIVE    0x01u /* made by CONNECT: the keeper holds a port reservation for it */
#define CP_CONN_TIME_WAIT 0x02u /* closed with our FIN first: TIME-WAIT follows REMOVED */
#define CP_CONN_SYN_RCVD  0x04u /* simultaneous open: SYN seen, SYN-ACK sent (state SYN_SENT) */
#define CP_CONN_MSS_SEEN  0x08u
#define CP_CONN_SYN_LOST  0x10u /* SYN or SYN-ACK was sent more than once */
#define CP_CONN_RESETTING 0x20u /* CLOSING: not a FIN but a RST follows what was written */

struct cp_conn {
	TOE_LINE_ALIGNED uint8_t state; /* enum cp_conn_state */
	uint8_t flags;                  /* CP_CONN_* */
	uint16_t listener_gen;
	uint32_t gen;            /* of this id; not 0 */
	uint32_t app;            /* index of struct cp_app */
	struct cp_addr next_hop; /* none: the peer's own MAC was taken from a frame */
	uint16_t peer_mss;
	uint64_t since_ms; /* when the present state was entered */
	struct toe_tuple t;
	struct toe_cmd_install in; /* complete from INSTALLING on */
	struct cc_state cc;
};
static_assert(sizeof(struct cp_conn) <= 256, "four lines per connection");

/* A slot of an application's region. */
#define CP_SLOT_USED       0x01u
#define CP_SLOT_TOKEN_GONE 0x02u /* no application can reach it any more */
struct cp_slot {
	uint32_t gen;   /* goes on counting when the slot is free */
	uint32_t conn;  /* TOE_NONE: no connection (failed, or removed and not yet closed) */
	uint32_t token; /* known for CONNECT only, else TOE_NONE */
	uint16_t error; /* errno of a failed CONNECT: told again after a restart */
	uint8_t flags;  /* CP_SLOT_* */
	uint8_t reserved;
};
TOE_ASSERT_SIZE(struct cp_slot, 16);

enum cp_listener_state { CP_LISTENER_FREE, CP_LISTENER_OPENING, CP_LISTENER_OPEN };
struct cp_listener {
	uint8_t state;
	uint8_t v6only; /* the IPv6 wildcard is not IPv4's, too */
	uint16_t port;  /* host order */
	uint16_t gen;
	struct cp_addr addr; /* or a wildcard */
	uint32_t backlog;
	uint32_t defaults; /* TOE_CTL_* of accepted connections */
	uint64_t procs;    /* bit p: process p uses it */
};
TOE_ASSERT_SIZE(struct cp_listener, 40);

enum cp_app_state { CP_APP_FREE, CP_APP_ACTIVE, CP_APP_GONE };
/* An application: the engine's copy of its geometry. */
struct cp_app {
	uint8_t state;
	uint8_t reserved[3];
	uint32_t app_id;
	uint32_t slot_n;
	uint32_t listener_n;
	uint32_t token_n;
	uint32_t backlog_n;
	uint32_t rx_buf_bytes;
	uint32_t tx_buf_bytes;
	uint64_t control_bytes;
	uint64_t off_slots;
	uint64_t off_listeners;
	uint64_t off_tokens;
	char name[48];
};
TOE_ASSERT_SIZE(struct cp_app, 112);

#define CP_TW_USED 0x01u
#define CP_TW_TS   0x02u
#define CP_TW_PORT 0x04u /* the keeper's port reservation goes with it */
struct cp_tw {
	struct toe_tuple t;
	uint32_t snd_nxt;
	uint32_t rcv_nxt;
	uint32_t ts_recent;
	uint32_t ts_offset;
	uint32_t app_id; /* for CP_PORT_FREE */
	uint32_t slot;
	uint32_t slot_gen;
	uint64_t expire_ms;
	uint8_t remote_mac[6];
	uint8_t flags; /* CP_TW_*, written last */
	uint8_t reserved;
	uint16_t wnd; /* as on the wire */
	uint16_t reserved1;
};

/* Indices of cp_state_hdr.key: each use of SipHash has its own key. */
enum cp_key { CP_KEY_ISN, CP_KEY_TS, CP_KEY_COOKIE, CP_KEY_HASH, CP_KEY_LABEL, CP_KEY_N };

struct cp_state_hdr {
	uint64_t magic;
	uint32_t version;
	uint32_t abi_fingerprint;
	uint64_t total_bytes;
	uint32_t conn_n;
	uint32_t app_n;
	uint32_t slot_n;     /* per application */
	uint32_t listener_n; /* per application */
	uint32_t tw_n;
	uint32_t flow_group_n;
	uint64_t off_apps;
	uint64_t off_slots;
	uint64_t off_listeners;
	uint64_t off_conns;
	uint64_t off_tw;
	uint64_t off_ports; /* uint8_t[2][CP_PORT_N], IPv4 and IPv6: TOE_PORT_* last told to the
			       datapath */
	uint64_t key[CP_KEY_N][2];
	uint32_t epoch;   /* datapath start these connections live in */
	uint32_t starts;  /* of the control plane */
	uint64_t app_seq; /* applications ever registered: start of slot generations */
	uint64_t counters[CP_COUNTER_N];
};

/* What the memfd is made for; equal geometry is the condition to go on with an old one. */
struct cp_state_geometry {
	uint32_t conn_n;
	uint32_t flow_group_n;
	uint32_t app_n;
	uint32_t slot_n;
	uint32_t listener_n;
};

/* Computes offsets and size for g into *h (nothing else is filled in). */
void cp_state_layout(const struct cp_state_geometry *g, struct cp_state_hdr *h);

/*
 * Maps the memfd, growing it if it is too small.  An empty one, or one of another layout, is
 * initialised with fresh keys (*fresh = true).  0 or -errno.
 */
int cp_state_map(int fd, const struct cp_state_geometry *g, struct cp_state_hdr **out, bool *fresh);

/* Publishes an entry's state after its other fields: the compiler may not reorder them, and kill -9
 * does not lose stores, so program order is all that is needed. */
static inline void cp_commit(uint8_t *state, uint8_t value)
{
	__atomic_store_n(state, value, __ATOMIC_RELEASE);
}

#endif
