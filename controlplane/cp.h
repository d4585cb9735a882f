/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The control plane's logic, apart from its I/O.
 *
 * One struct cp, used by one thread.  Time comes in by cp_set_time(), events by cp_event(), keeper
 * messages by cp_keeper_msg(), timers by cp_timers_run(); everything that leaves goes through
 * struct cp_io.  loop.c connects that to libuv, rings and sockets; the unit tests to arrays.
 * Prototypes are grouped by the file that defines them.
 */
#ifndef CP_CP_H
#define CP_CP_H

#include <stdbool.h>
#include <stdint.h>

#include "cc.h"
#include "common/config.h"
#include "frame.h"
#include "list.h"
#include "state.h"
#include "toe/cpq.h"
#include "toe/ctl.h"
#include "toe/region.h"

#define CP_NEVER UINT64_MAX

#define CP_CHALLENGE_MS                                                                            \
	500u /* between ACKs for unacceptable segments, per connection (RFC 5961)                  \
	      */

/* A route as the kernel sees it. */
struct cp_route {
	struct cp_addr next_hop; /* gateway, or the destination if it is on-link */
	uint16_t mtu;            /* of the route, 0 = the interface's */
	bool via_port;           /* leaves through the TAP that stands for the port */
	bool on_link;
	bool local; /* the address is this machine's */
};

/* The world outside.  None of these blocks for longer than a system call. */
struct cp_io {
	void *ctx;
	/* A command for the datapath, e->len bytes of data.  Keeps order.  Never fails for state;
	 * frames may be dropped when the queue is congested. */
	void (*cmd)(void *ctx, const struct toe_cpq_entry *e, const void *data);
	/* True if every command given to cmd() is in the shared ring (and so outlives us). */
	bool (*cmd_durable)(void *ctx);
	/* A message for the keeper. */
	void (*keeper)(void *ctx, struct toe_ctl_msg *m);
	/* 0 or -ENETUNREACH and such. */
	int (*route)(void *ctx, const struct cp_addr *dst, struct cp_route *r);
	/* MAC of an on-link address: 0; -EAGAIN = the kernel has been asked, come back;
	 * -EHOSTUNREACH = it does not answer. */
	int (*neigh)(void *ctx, const struct cp_addr *ip, uint8_t mac[6]);
	/* Makes sure that the socket has a local port on addr: 0 with *port in host order, -EXDEV
	 * if it is bound to another address, -EADDRNOTAVAIL if there is no port left. */
	int (*bind)(void *ctx, int fd, const struct cp_addr *addr, uint16_t *port);
	/* Maps the control segment; NULL on failure. */
	uint8_t *(*map)(void *ctx, int fd, uint64_t bytes);
	void (*unmap)(void *ctx, uint8_t *p, uint64_t bytes);
};

/* A half-open passive connection (SYN-RECEIVED).  In the heap: a restart loses it, the peer
 * retransmits. */
struct cp_half {
	struct toe_tuple t;
	uint32_t app;
	uint32_t listener;
	uint32_t iss;
	uint32_t irs;
	uint32_t ts_recent;
	uint32_t ts_offset;
	struct cp_addr next_hop; /* none: remote_mac is where the SYN came from */
	uint16_t peer_mss;       /* 0 = not said */
	uint16_t listener_gen;
	uint8_t remote_mac[6];
	uint8_t have_mac;
	uint8_t flags; /* TOE_INSTALL_* */
	uint8_t snd_wscale;
	uint8_t has_ws;
	uint8_t tries;    /* SYN-ACKs sent */
	uint64_t sent_us; /* first SYN-ACK */
	uint64_t due_ms;  /* next one */
	uint64_t ack_ms;  /* last challenge ACK, 0 = none */
};

/* cp_rt.timer */
enum cp_timer { CP_TIMER_NONE, CP_TIMER_RTO, CP_TIMER_PERSIST };
/* cp_rt.reconcile: alive before our start and not yet accounted for by the dump.  REMOVE_SENT: as
 * UNKNOWN, and this process has already told the datapath to remove it. */
enum cp_reconcile { CP_KNOWN, CP_UNKNOWN, CP_REMOVE_SENT };
enum cp_poll_mode { CP_POLL_OFF, CP_POLL_ACTIVE, CP_POLL_COOLING };

/* Per connection, rebuilt after a restart. */
struct cp_rt {
	uint8_t timer; /* enum cp_timer */
	uint8_t poll;  /* enum cp_poll_mode */
	uint8_t tries; /* SYNs, RTOs or probes since the last progress */
	uint8_t keep_tries;
	uint8_t reconcile; /* enum cp_reconcile */
	bool icmp_seen;
	bool need_mac; /* SYN held until the next hop is resolved */
	uint8_t reinject_left;
	uint32_t soft_error; /* errno an ICMP error suggested */
	bool recovery;       /* the last poll saw fast recovery */
	bool baselined;      /* counters below have a first value */
	uint8_t unanswered;  /* RTOs or probes since the peer was heard last */
	uint32_t last_una;
	uint32_t last_loss_epoch;
	uint32_t keep_rx_segs;  /* sign of life as keepalive knows it */
	uint32_t timer_rx_segs; /* likewise, RTO and persist */
	uint64_t due_ms;        /* of timer */
	uint64_t tlp_ms;        /* tail loss probe, 0 = none */
	uint32_t tlp_epoch;     /* loss_epoch when it was set */
	uint32_t karn_end;      /* SND.NXT at the last RTO or probe: only what is sent above it */
	uint8_t rto_shift;      /* gives a round trip, and until then so many doublings stay */
	uint8_t pto_shift;
	uint64_t busy_ms;  /* more than one segment was under way or acknowledged */
	uint64_t stuck_ms; /* since when nothing was acknowledged; 0 = not stuck */
	uint64_t quiet_ms; /* since when nothing is outstanding */
	uint64_t rx_ms;    /* last sign of life of the peer */
	uint64_t keep_ms;  /* next keepalive */
	uint64_t fin_wait2_ms;
	uint64_t pmtu_ms; /* path MTU was lowered last */
	uint64_t poll_us;
	uint64_t ack_ms; /* simultaneous open: last challenge ACK, 0 = none */
	uint64_t syn_us; /* when the SYN was sent, 0 = retransmitted (Karn) */
	uint64_t acked_bytes;
	uint64_t ecn_bytes;
	uint64_t rtx_bytes;
};

struct cp_listener_rt {
	uint32_t next;       /* on the same port; an index of cp.listeners */
	uint32_t installing; /* connections on their way to the accept ring */
	uint64_t grace_ms;   /* close then, if no process uses it by then; 0 = in use */
};

struct cp_app_rt {
	uint8_t *control;     /* mapping of the control segment, NULL = not attached */
	uint32_t *free_slots; /* stack */
	uint32_t free_n;
	uint32_t conn_n;
	uint64_t procs; /* attached now */
	struct cp_listener_rt *listeners;
};

struct cp_port {
	uint32_t listener; /* first of the listeners on it, TOE_NONE = none */
	uint32_t users[2]; /* connections and TIME-WAITs: IPv4, IPv6 */
};

struct cp {
	const struct toe_config *cfg;
	const struct cc_ops *cc;
	struct cp_io io;
	uint64_t now_us; /* CLOCK_MONOTONIC */
	uint64_t now_ms;

	/* the port, from CP_START and CP_ENGINE */
	uint32_t port_ipv4;
	uint8_t port_ipv6[2][16]; /* global, link-local; zero: none */
	uint16_t mtu;
	uint8_t port_mac[6];
	bool engine_up;

	/* shared with the datapath */
	const struct toe_flow_prog *prog;
	const struct toe_flow_stat *stat;
	uint32_t stat_replicas;

	/* state memfd */
	struct cp_state_hdr *st;
	struct cp_app *apps;
	struct cp_slot *slots;         /* [app][slot_n] */
	struct cp_listener *listeners; /* [app][listener_n] */
	struct cp_conn *conns;
	struct cp_tw *tw;
	uint8_t *ports_told[2]; /* IPv4, IPv6 */

	/* heap */
	struct cp_rt *rt;
	struct cp_app_rt *app_rt;
	struct cp_half *half;
	uint32_t half_max;
	struct cp_port *ports;
	uint32_t *bucket; /* of node indices: conns, then TIME-WAITs, then half-open */
	uint32_t bucket_mask;
	uint32_t *node_next;
	uint32_t *free_ids; /* a stack per flow-group */
	uint32_t *free_id_n;
	uint32_t free_id_stride;
	uint32_t *free_tw;
	uint32_t free_tw_n;
	uint32_t *free_half;
	uint32_t free_half_n;
	struct cp_list active;   /* connections polled each tick */
	struct cp_list syn_sent; /* connections in SYN_SENT */
	struct cp_list orphans;  /* CLOSING */
	uint64_t *tw_ack_ms;     /* per TIME-WAIT: last answer to a segment out of window */
	struct cp_list tw_list;  /* oldest expiry first */
	struct cp_list half_list;
	struct cp_link *link_mem[5];
	uint32_t conn_count; /* not CP_FREE */
	uint64_t tick_at;
	uint64_t house_at;
	uint64_t slow_at;
	bool opening;        /* some listener may be in state OPENING */
	bool grace_pending;  /* a listener may have to be closed */
	uint64_t refresh_at; /* next hops are shown to the kernel as in use */
	uint64_t cookie_ms;  /* last cookie sent; 0 = never */

	/* restart */
	bool dumping;
	bool ready_pending;
	bool ready;
	struct toe_ctl_msg ready_msg;
};

#define CP_COUNT(cp, name) ((cp)->st->counters[CP_CNT_##name]++)

/* ---- core.c: set-up ---- */
/* Allocates the heap part over the mapped state and rebuilds what derives from it.  0 or -errno. */
int cp_init(struct cp *cp, struct cp_state_hdr *st);
void cp_fini(struct cp *cp);
void cp_set_time(struct cp *cp, uint64_t now_us);
void cp_cmd(struct cp *cp, uint16_t type, uint32_t conn, const void *data, uint16_t len);
void cp_cmd_frame(struct cp *cp, uint16_t type, const uint8_t *frame, uint32_t len);
/* IPv4: 0, IPv6: 1. */
static inline unsigned cp_family_index(uint32_t family)
{
	return family == AF_INET6;
}
/* The frame's part that is a connection's: addresses, MACs, flow label; t as we see it. */
struct cp_build cp_build_for(const struct cp *cp, const struct toe_tuple *t,
			     const uint8_t remote_mac[6]);
void cp_send_build(struct cp *cp, const struct cp_build *b);
/* Timestamp value to send now. */
static inline uint32_t cp_ts(const struct cp *cp, uint32_t ts_offset)
{
	return (uint32_t)cp->now_ms + ts_offset;
}

/* ---- table.c: ids, slots, ports, lookup ---- */
enum cp_node_kind { CP_NODE_NONE, CP_NODE_CONN, CP_NODE_TW, CP_NODE_HALF };
struct cp_node {
	enum cp_node_kind kind;
	uint32_t index;
};
struct cp_node cp_lookup(const struct cp *cp, const struct toe_tuple *t);
void cp_node_add(struct cp *cp, enum cp_node_kind kind, uint32_t index);
void cp_node_del(struct cp *cp, enum cp_node_kind kind, uint32_t index);
#define CP_REINJECT_MAX 200u /* segments handed back per connection */
/* A free id of t's flow-group with a new generation, entry cleared but for gen; TOE_NONE: there is
 * none, or none for this application (limits.reserve_percent). */
uint32_t cp_conn_alloc(struct cp *cp, uint32_t app, const struct toe_tuple *t);
/* Forgets the connection: hash, lists, port, slot's reference.  The datapath must not know it. */
void cp_conn_free(struct cp *cp, uint32_t id);
void cp_conn_enter(struct cp *cp, uint32_t id, enum cp_conn_state state);
/* Takes a slot of the application for connection id; TOE_NONE if none is free. */
uint32_t cp_slot_take(struct cp *cp, uint32_t app, uint32_t id);
/* Zeroes libtoe's lines and fills in line 3 of the connection's slot. */
void cp_slot_prepare(struct cp *cp, const struct cp_conn *c);
/* Gives the slot back if neither a connection nor an application refers to it. */
void cp_slot_settle(struct cp *cp, uint32_t app, uint32_t slot);
struct cp_slot *cp_slot_rec(const struct cp *cp, uint32_t app, uint32_t slot);
/* The slot in the region, NULL if the application is not mapped. */
struct toe_slot *cp_slot_mem(const struct cp *cp, uint32_t app, uint32_t slot);
uint32_t cp_app_find(const struct cp *cp, uint32_t app_id); /* index or TOE_NONE */
void cp_port_update(struct cp *cp, uint16_t port);
/* t's local port has a connection or TIME-WAIT more, or less. */
void cp_port_use(struct cp *cp, const struct toe_tuple *t);
void cp_port_unuse(struct cp *cp, const struct toe_tuple *t);
/* Tells the keeper to let go of the kernel socket that held the port. */
void cp_port_release(struct cp *cp, uint32_t app_id, uint32_t slot, uint32_t gen);

/* ---- listen.c ---- */
int cp_listen(struct cp *cp, uint32_t app, uint32_t proc, struct toe_ctl_listen *l);
int cp_unlisten(struct cp *cp, uint32_t app, uint32_t proc, uint32_t listener);
/* The slot waits in the accept ring. */
bool cp_listener_holds(const struct cp *cp, uint32_t app, uint32_t listener, uint32_t slot);
void cp_listener_link(struct cp *cp, uint32_t app, uint32_t listener); /* to its port's chain */
void cp_listener_close(struct cp *cp, uint32_t app, uint32_t listener);
void cp_listen_proc_gone(struct cp *cp, uint32_t app, uint32_t proc);
void cp_listener_grace(struct cp *cp, uint32_t app, uint32_t listener); /* its last user is gone */
void cp_listen_slow(struct cp *cp);                                     /* grace periods */
/* Listeners in state OPENING whose command is safe in the ring are OPEN. */
void cp_listen_durable(struct cp *cp);
struct cp_listener *cp_listener_rec(const struct cp *cp, uint32_t app, uint32_t listener);
struct cp_listener_rt *cp_listener_rt(const struct cp *cp, uint32_t app, uint32_t listener);
/* Listener for a SYN to t's local address: that before a wildcard, before one of both families.
 * False: none. */
bool cp_listener_find(const struct cp *cp, const struct toe_tuple *t, struct cp_half *out);
/* The port has a listener that takes connections of this family. */
bool cp_listener_covers(const struct cp *cp, uint32_t family, uint16_t port);
bool cp_listener_full(const struct cp *cp, uint32_t app, uint32_t listener);

/* ---- input.c ---- */
void cp_event(struct cp *cp, struct toe_cpq_entry *e);
void cp_input(struct cp *cp, const uint8_t *frame, uint32_t len);
void cp_send_rst(struct cp *cp, const struct cp_seg *s);
/* A frame for the TAP: of no connection of ours, and to no listener. */
void cp_to_kernel(struct cp *cp, const uint8_t *frame, uint32_t len);
/* A segment of a connection the datapath is to handle. */
void cp_reinject(struct cp *cp, uint32_t id, const struct cp_seg *s);

/* ---- handshake_passive.c ---- */
void cp_half_input(struct cp *cp, uint32_t i, const struct cp_seg *s);
/* A segment for a tuple nobody knows.  iss_min: 0, or the sequence number the new connection's
 * must exceed (RFC 6191). */
void cp_listen_input(struct cp *cp, const struct cp_seg *s, uint32_t iss_min);
void cp_half_free(struct cp *cp, uint32_t i);
void cp_half_house(struct cp *cp);
void cp_half_drop_listener(struct cp *cp, uint32_t app, uint32_t listener);
void cp_half_neigh(struct cp *cp, const struct cp_addr *ip, const uint8_t mac[6]);

/* ---- install.c: from a finished handshake to an established connection ---- */
uint8_t cp_wscale(uint32_t buf_bytes);
/* Window of a SYN or SYN-ACK: never scaled (RFC 7323 §2.2). */
uint16_t cp_syn_window(const struct cp *cp, uint32_t app);
uint16_t cp_local_mss(const struct cp *cp, uint32_t family);
/* What a peer that says nothing can take (RFC 9293 §3.7.1). */
uint16_t cp_default_mss(uint32_t family);
/* Bytes of payload per segment, given what the peer said (0 = nothing). */
uint16_t cp_send_mss(const struct cp *cp, uint32_t family, uint16_t peer_mss, bool ts);
uint16_t cp_mtu_mss(uint32_t family, uint32_t mtu, bool ts);
/* MSS of this connection by peer, port and route; and another value from now on. */
uint16_t cp_mss_full(const struct cp *cp, uint32_t id);
void cp_mss_set(struct cp *cp, uint32_t id, uint16_t mss);
/* The rest of c->in, then INSTALL. */
void cp_install(struct cp *cp, uint32_t id);
void cp_installed(struct cp *cp, uint32_t id);
/* Re-sends INSTALL (restart). */
void cp_install_cmd(struct cp *cp, uint32_t id);

/* ---- handshake_active.c ---- */
int cp_connect(struct cp *cp, uint32_t app, struct toe_ctl_conn *m, int fd);
void cp_active_input(struct cp *cp, uint32_t id, const struct cp_seg *s);
void cp_active_house(struct cp *cp);
void cp_active_icmp(struct cp *cp, uint32_t id, const struct cp_icmp *m);
/* The connection never came to be: error to the application, id free. */
void cp_active_fail(struct cp *cp, uint32_t id, uint32_t error);
void cp_active_neigh(struct cp *cp, const struct cp_addr *ip, const uint8_t *mac);

/* ---- teardown.c ---- */
void cp_token_hup(struct cp *cp, uint32_t app, uint32_t token);
/* The token is about to stand for a new connection: an earlier CONNECT of it failed, or was never
 * answered. */
void cp_token_renew(struct cp *cp, uint32_t app, uint32_t token);
void cp_app_close(struct cp *cp, uint32_t app);
void cp_app_settle(struct cp *cp, uint32_t app);
/* mode: TOE_CLOSE_* */
void cp_conn_close(struct cp *cp, uint32_t id, uint32_t mode);
void cp_conn_abort(struct cp *cp, uint32_t id, uint32_t error);
void cp_conn_remove(struct cp *cp, uint32_t id);
void cp_closed(struct cp *cp, uint32_t id, const struct toe_ev_conn *ev);
void cp_reset(struct cp *cp, uint32_t id);
void cp_removed(struct cp *cp, uint32_t id);
/* A connection nobody accepted: it and its slot go. */
void cp_unaccepted(struct cp *cp, uint32_t app, uint32_t slot);
bool cp_slot_accepted(const struct cp *cp, uint32_t app, uint32_t slot);
void cp_slot_error(struct cp *cp, uint32_t app, uint32_t slot, uint32_t error);
/* The application let go before our start: closes as its slot says. */
void cp_close_again(struct cp *cp, uint32_t id);

/* ---- timewait.c ---- */
void cp_tw_enter(struct cp *cp, uint32_t id);
void cp_tw_input(struct cp *cp, uint32_t i, const struct cp_seg *s);
/* An active open from the same tuple: the entry goes, and *iss_min is the number to exceed.  False:
 * its peer could not tell old segments from new ones (no timestamps, or not a second later). */
bool cp_tw_give_way(struct cp *cp, uint32_t i, uint32_t *iss_min);
void cp_tw_slow(struct cp *cp);
/* Counterpart of an entry found in the state at start. */
void cp_tw_adopt(struct cp *cp, uint32_t i);

/* ---- timers.c ---- */
void cp_active(struct cp *cp, uint32_t id); /* TOE_EV_ACTIVE */
void cp_poll_off(struct cp *cp, uint32_t id);
/* Runs what is due; returns when to come back, ms, CP_NEVER = no timer is needed. */
uint64_t cp_timers_run(struct cp *cp);
uint32_t cp_rto_ms(const struct cp *cp, uint32_t srtt_us, uint32_t rttvar_us);
uint32_t cp_rx_segs(const struct cp *cp, uint32_t id);

/* ---- keepalive.c: once a second ---- */
void cp_slow_conns(struct cp *cp);

/* ---- neigh.c: next hops of connections, our own addresses ---- */
/* MAC for packets to dst: as cp_io.neigh; *next_hop is filled in. -EXDEV: not through the port. */
int cp_next_hop(struct cp *cp, const struct cp_addr *dst, struct cp_addr *next_hop, uint8_t mac[6]);
/* The kernel's table changed; mac NULL = unreachable. */
void cp_neigh_changed(struct cp *cp, const struct cp_addr *ip, const uint8_t *mac);
/* One of the port's addresses. */
bool cp_addr_ours(const struct cp *cp, const struct cp_addr *a);
/* Our address for connections to dst; false: none of ours fits. */
bool cp_addr_source(const struct cp *cp, const struct cp_addr *dst, struct cp_addr *src);
/* The port's addresses as the keeper has them. */
void cp_addrs_take(struct cp *cp, const struct toe_ctl_engine *e);
void cp_addrs_tell(struct cp *cp); /* the IPv6 ones, to the datapath */

/* ---- appif.c ---- */
void cp_keeper_msg(struct cp *cp, struct toe_ctl_msg *m, const int *fds, unsigned nfds);
void cp_reply(struct cp *cp, const struct toe_ctl_msg *req, int status);

/* ---- restart.c ---- */
void cp_rebuild(struct cp *cp); /* heap from state */
void cp_reconcile_start(struct cp *cp, const struct toe_ctl_msg *m);
void cp_dump_entry(struct cp *cp, const struct toe_cpq_entry *e, const struct toe_ev_conn *ev);
void cp_engine_changed(struct cp *cp, uint32_t epoch, bool up);

#endif
