/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Control messages over AF_UNIX SOCK_SEQPACKET sockets, one fixed-size struct per packet.
 *
 *   libtoe, toe  <-> toe-keeper        /run/toe/keeper.sock, or an inherited socketpair
 *   toe-keeper   <-> toe-controlplane  socketpair; the keeper relays what concerns it, stamping
 *                                      app and proc, and keeps what must outlive it
 *   toe-keeper   <-> toe-datapath      socketpair: attach and detach of applications
 *
 * Every request gets one reply with the same type and req; status is 0 or a negative errno.  Who
 * may send what is said at each type.  The receiver checks the size of the packet and every field;
 * file descriptors travel as SCM_RIGHTS in the order named.
 */
#ifndef TOE_CTL_H
#define TOE_CTL_H

#include <stdbool.h>

#include "toe/abi.h"
#include "toe/region.h"

#define TOE_CTL_MAGIC   0x544f4543u
#define TOE_CTL_FDS_MAX 32u
#define TOE_KEY_BYTES   16u
#define TOE_CTL_APP_N   64u /* applications at once */

#define TOE_RUN_DIR_DEFAULT "/run/toe" /* override: environment TOE_RUN_DIR */
#define TOE_KEEPER_SOCKET   "keeper.sock"
#define TOE_CONTROL_SOCKET  "control.sock" /* JSON queries, answered by the control plane */
#define TOE_MODULE_SOCKET   "modules.sock" /* questions to stream modules, datapath/module_sock.h */
#define TOE_ENV_APP         "TOE_APP" /* "<app id>:<key, hex>:<fd of an inherited socket or -1>" */
#define TOE_ENV_RUN_DIR     "TOE_RUN_DIR"
#define TOE_ENV_BROKER      "TOE_BROKER_CONF" /* mosquitto.conf of the program, by `toe run` */

enum toe_ctl_type {
	/* toe run -> keeper.  Creates an application.  Reply: u.app. */
	TOE_CTL_APP_NEW = 1,
	/* libtoe -> keeper, first message of a process.  u.app {app_id, key, pid}.  Reply: u.app
	 * with ctx, and fds {control segment, payload segment, kick socket (app -> engine)}. */
	TOE_CTL_PROC_ATTACH,
	/* libtoe (child after fork, on the inherited socket) -> keeper, fds {fresh SEQPACKET end}:
	 * the keeper treats it as a connection of the same application; the child then sends
	 * PROC_ATTACH on it.  No reply: the inherited socket belongs to the parent. */
	TOE_CTL_PROC_FORK,
	/* libtoe -> keeper -> datapath.  u.waiter, fds {engine's end}.  Reply when usable. */
	TOE_CTL_WAITER_ADD,
	/* libtoe -> keeper.  u.token.count far ends in fds.  Reply: u.token.ids. */
	TOE_CTL_TOKEN_ADD,
	/* libtoe -> keeper -> control plane.  u.listen.  Reply: u.listen.listener. */
	TOE_CTL_LISTEN,
	/* libtoe -> keeper -> control plane: this process no longer uses the listener. u.listen */
	TOE_CTL_UNLISTEN,
	/* libtoe -> keeper -> control plane.  u.conn; fds {the kernel socket that holds the local
	 * port}: kept by the keeper until the port is free again.  Reply at once: u.conn.slot; the
	 * outcome arrives as toe_slot.state. */
	TOE_CTL_CONNECT,
	/* libtoe -> keeper: whose token is this?  fds {token}.  Reply: u.token.ids[0]. */
	TOE_CTL_CLAIM,
	/* toe -> keeper.  Reply: u.status. */
	TOE_CTL_STATUS,
	/* toe -> keeper: stop the engine.  Reply when everything is gone; the keeper then exits. */
	TOE_CTL_DOWN,
	/* libtoe -> keeper -> datapath: the process has delta more (fewer, if negative) descriptors
	 * of stream connections that the kernel carries.  u.kconn.  More: the reply comes when
	 * every lcore sees the new count, and only then the application gets its descriptor. */
	TOE_CTL_KERNEL_CONN,
	/* toe -> keeper, root only.  Reply: u.unsupported. */
	TOE_CTL_UNSUPPORTED,

	/* ---- keeper -> control plane ---- */
	/* First message after start.  fds {cpq memfd, state memfd, kick socket to the datapath}.
	 * u.engine. */
	TOE_CTL_CP_START = 64,
	/* u.app, fds {control segment}.  Also replayed after CP_START. */
	TOE_CTL_CP_APP,
	TOE_CTL_CP_APP_GONE, /* u.app: last process is gone; reply when its slots are being freed */
	TOE_CTL_CP_PROC,     /* u.app: process with ctx attached */
	TOE_CTL_CP_PROC_GONE,
	/* u.token.ids[0..count): hung up.  Repeated until answered with TOE_CTL_CP_TOKEN_FREE. */
	TOE_CTL_CP_TOKEN_HUP,
	/* The state of the datapath changed: u.engine.epoch. */
	TOE_CTL_CP_ENGINE,
	/* Replay is complete: reconcile now, then answer. */
	TOE_CTL_CP_READY,

	/* ---- control plane -> keeper ---- */
	TOE_CTL_CP_TOKEN_FREE, /* u.token.ids: the keeper may reuse these token ids */
	TOE_CTL_CP_PORT_FREE, /* u.conn {app_id, slot, gen}: drop the port reservation of CONNECT */
	TOE_CTL_CP_APP_FREE,  /* u.app: no connection of it is left, drop the region */

	/* ---- keeper -> datapath ---- */
	/* First message.  fds {cpq memfd, kick socket to the control plane, TAP or none}. u.engine
	 */
	TOE_CTL_DP_START = 128,
	/* u.app, fds {control segment, payload segment}. */
	TOE_CTL_DP_APP,
	TOE_CTL_DP_APP_GONE,
	/* u.app {app_id, ctx}, fds {kick socket, engine's end}. */
	TOE_CTL_DP_PROC,
	TOE_CTL_DP_PROC_GONE,
	TOE_CTL_DP_WAITER,      /* u.waiter, fds {engine's end} */
	TOE_CTL_DP_KERNEL_CONN, /* u.kconn */
	/* ---- datapath -> keeper ---- */
	TOE_CTL_DP_READY, /* port is up; u.engine.port_mac and mtu filled in */
	TOE_CTL_DP_EVICT, /* u.app: application punched its memory (SIGBUS); kill its connections */
};

struct toe_ctl_app {
	uint32_t app_id;
	uint32_t ctx; /* context index = process slot, 0..TOE_CTX_N-1 */
	int32_t pid;
	uint32_t uid;
	uint8_t key[TOE_KEY_BYTES]; /* secret of the application, from APP_NEW */
	char name[48];              /* command, NUL-terminated */
	uint32_t slot_n;
	uint32_t listener_n;
	uint32_t token_n;
	uint32_t backlog_n;
	uint32_t hint_n;
	uint32_t doorbell_n;
	uint32_t rx_buf_bytes;
	uint32_t tx_buf_bytes;
};

static inline struct toe_region_geometry toe_ctl_app_geometry(const struct toe_ctl_app *a)
{
	return (struct toe_region_geometry){
		.slot_n = a->slot_n,
		.listener_n = a->listener_n,
		.token_n = a->token_n,
		.backlog_n = a->backlog_n,
		.hint_n = a->hint_n,
		.doorbell_n = a->doorbell_n,
		.rx_buf_bytes = a->rx_buf_bytes,
		.tx_buf_bytes = a->tx_buf_bytes,
	};
}

struct toe_ctl_waiter {
	uint32_t app_id;
	uint32_t ctx;
	uint32_t waiter; /* 0..TOE_WAITER_N-1 */
	uint32_t reserved;
};

/* toe_ctl_kconn.flags, also if their number is the same: the process was told to read its
 * configuration again (SIGHUP). */
#define TOE_KCONN_RELOAD 1u

/* toe_ctl_kconn.what */
#define TOE_KCONN_MQTT_CONNECT 1u /* a new session; data: ClientID */
#define TOE_KCONN_MQTT_FILTER  2u /* it subscribes; data: {length (1 byte), topic filter}, ... */
#define TOE_KCONN_MQTT_END     3u /* it ends; one byte of data: is followed no more */
/* Sessions the broker has from before it was started.  data: one or more of {type, length of the
 * rest, rest}, one byte each; those of a session behind each other, from SESSION to WHOLE. */
#define TOE_KCONN_MQTT_RESTORE 4u
/* The process has read its configuration since TOE_KCONN_RELOAD.  data: what in it is unsafe with
 * offload, for people; nothing: it may go on. */
#define TOE_KCONN_MQTT_CHECKED 5u
#define TOE_KCONN_MQTT_RESUME  6u /* as CONNECT, but the session may be one from before */
#define TOE_KCONN_MQTT_NEW     7u /* as CONNECT, and the session outlives the connection */
/* It is not followed: the session of that ClientID may change unseen; no data: any session may. */
#define TOE_KCONN_MQTT_MISSED 8u
#define TOE_KCONN_MQTT_GONE   9u /* all connections of the process are gone; the datapath says so */
/* The process opens it, for a bridge: a new session without ClientID.  It may have no connection
 * yet, and has none of a stream module's. */
#define TOE_KCONN_MQTT_BRIDGE 10u
#define TOE_KCONN_MQTT_LAST   TOE_KCONN_MQTT_BRIDGE

/* A session begins: it counts as followed, if the stage takes it. */
static inline bool toe_kconn_begins(uint32_t what)
{
	return what == TOE_KCONN_MQTT_CONNECT || what == TOE_KCONN_MQTT_RESUME ||
	       what == TOE_KCONN_MQTT_NEW || what == TOE_KCONN_MQTT_BRIDGE;
}

#define TOE_RESTORE_SESSION 1u /* ClientID */
/* subscription options (MQTT 5, 3.8.3.1), subscription identifier or 0 (32 bits in network order),
 * topic filter */
#define TOE_RESTORE_SUB   2u
#define TOE_RESTORE_WHOLE 3u /* those were all of its subscriptions */

#define TOE_KCONN_MAX (1 << 20) /* of one process */

struct toe_ctl_kconn {
	uint32_t app_id;
	uint32_t ctx;
	int32_t delta;
	uint32_t flags; /* TOE_KCONN_RELOAD */
	uint32_t conn;  /* one of them, its number in the process */
	uint32_t slot1; /* if it begins or ends: its slot and 1; 0: it is the kernel's */
	uint16_t what;  /* news of it, TOE_KCONN_MQTT_*; 0: delta and flags count */
	uint16_t len;   /* of data */
	uint8_t data[160];
};

struct toe_ctl_token {
	uint32_t count; /* 1..TOE_CTL_FDS_MAX */
	uint32_t app_id;
	uint32_t ids[TOE_CTL_FDS_MAX];
};

struct toe_ctl_listen {
	uint16_t family;
	uint16_t port;    /* host order */
	uint8_t addr[16]; /* network order; all zero = wildcard */
	uint32_t backlog;
	uint32_t listener; /* index in the region (reply; request of UNLISTEN) */
	uint32_t defaults; /* TOE_CTL_* bits accepted connections start with */
	uint32_t v6only;   /* 1: IPV6_V6ONLY, no IPv4 connections; only with AF_INET6.  0 with the
			      wildcard of AF_INET6: both families, one listener, one accept ring */
};

struct toe_ctl_conn {
	uint32_t app_id;
	uint32_t slot;  /* reply */
	uint32_t gen;   /* reply */
	uint32_t token; /* the token that will stand for the connection */
	uint16_t family;
	uint16_t local_port; /* held by the kernel socket that travels along */
	uint16_t remote_port;
	uint16_t reserved;
	uint8_t local_addr[16];
	uint8_t remote_addr[16];
	uint32_t ctl; /* TOE_CTL_* set so far */
};

/* Of all applications since the engine was started, by enum toe_unsupported. */
struct toe_ctl_unsupported {
	uint64_t n[TOE_UNSUP_MAX];
};

/* What the port can do; asked of its driver. */
#define TOE_PORT_TX_IP_CKSUM  0x01u
#define TOE_PORT_TX_TCP_CKSUM 0x02u
#define TOE_PORT_RX_IP_CKSUM  0x04u
#define TOE_PORT_RX_TCP_CKSUM 0x08u
#define TOE_PORT_TX_TSO       0x10u /* not used by any stage */

struct toe_ctl_engine {
	uint32_t epoch;           /* counts datapath starts */
	uint32_t up;              /* 1 if the datapath runs */
	uint32_t port_ipv4;       /* network order */
	uint8_t port_ipv6[2][16]; /* global, link-local; all zero: none */
	uint16_t mtu;
	uint8_t port_mac[6];
	int32_t tap_ifindex;
	int32_t datapath_pid;
	int32_t controlplane_pid;
	int32_t keeper_pid;
	uint32_t apps;
	uint32_t procs;
	uint32_t cp_restarts;
	char port[16]; /* interface name of the port, for people */
	char tap[16];
	uint16_t kernel_conns[TOE_CTL_APP_N]; /* of each application; reply to STATUS */
	uint32_t port_caps;                   /* TOE_PORT_* */
};

/* 288 bytes on the wire, always. */
struct toe_ctl_msg {
	uint32_t magic;
	uint16_t type; /* enum toe_ctl_type */
	uint16_t nfds;
	uint32_t req;    /* chosen by the requester, echoed */
	int32_t status;  /* 0 or negative errno, in replies */
	uint32_t app_id; /* stamped by the keeper on what it relays: never trusted from an app */
	uint32_t proc;   /* ctx of the sending process, stamped likewise */
	uint32_t abi_version;
	uint32_t abi_fingerprint;
	union {
		struct toe_ctl_app app;
		struct toe_ctl_waiter waiter;
		struct toe_ctl_kconn kconn;
		struct toe_ctl_token token;
		struct toe_ctl_listen listen;
		struct toe_ctl_conn conn;
		struct toe_ctl_engine engine;
		struct toe_ctl_unsupported unsupported;
		uint8_t raw[256];
	} u;
};
TOE_ASSERT_SIZE(struct toe_ctl_msg, 288);

#endif
