/* SPDX-License-Identifier: BSD-3-Clause */
/* LINK: tests/unit/lt_fake.c tests/unit/lt_fake_keeper.c libtoe/addr.c libtoe/broker.c
 * libtoe/connect.c libtoe/ctx.c libtoe/dup_fork_exec.c libtoe/epoll.c libtoe/epoll_items.c
 * libtoe/fdtable.c libtoe/interpose.c libtoe/io_calls.c libtoe/kconn.c libtoe/follow.c
 * libtoe/follow_news.c libtoe/websocket.c libtoe/reload.c libtoe/libc_real.c libtoe/listen.c
 * libtoe/poll_select.c libtoe/shm.c libtoe/sock.c libtoe/sockopt.c libtoe/sockopt_get.c
 * libtoe/state.c libtoe/stream_io.c libtoe/tls.c libtoe/token.c libtoe/wait.c common/ctl_sock.c
 * common/log.c common/broker_conf.c common/broker_db.c modules/mqtt/mqtt_wire.c
 * modules/mqtt/mqtt_props.c modules/mqtt/mqtt_framer.c */
/*
 * The other side of libtoe's shared memory and sockets: a keeper and an engine in one process,
 * without packets.  connect() to a port on which the application listens joins two slots; otherwise
 * the port says what happens.
 */
#ifndef LT_FAKE_H
#define LT_FAKE_H

#include <stdint.h>
#include <sys/types.h>

#define FAKE_ADDR      "10.9.9.9" /* any address that is not this host's will do */
#define FAKE_ADDR6     "fd00:9::9"
#define FAKE_ECHO      7 /* sends back what it gets */
#define FAKE_BLACKHOLE 2 /* the handshake never ends */
#define FAKE_KERNEL    3 /* -EXDEV: not offloaded */

#define FAKE_SLOTS 64u
#define FAKE_BUF   16384u

/* Starts the process, serving <dir>/keeper.sock; sets TOE_APP and TOE_RUN_DIR. */
pid_t fake_start(const char *dir);
void fake_stop(pid_t pid);

/* What fake_stats() reads: the process keeps them in shared memory. */
struct fake_stats {
	uint32_t slots_used;
	uint32_t tokens_live;
	uint32_t procs;
	uint32_t listeners;
	uint32_t listen_users; /* processes that use one, summed */
	uint32_t connects;     /* CONNECTs that got a slot, ever */
	uint32_t kicks;
	uint32_t wakeups;
	uint32_t hints;
	uint32_t doorbells;
	uint32_t hint_full;    /* a ring had no room: the protocol allows none */
	uint32_t kernel_conns; /* told by all processes that live */
	uint32_t reloads;
	uint32_t followed; /* of kernel_conns */
	char news[1024];   /* of these: "C text;", "F text;", "E ;" (ends), "L ;" (lost), "R text;",
			      "K text;", "S text;", "U text options id;",   "W ;" */
	bool news_refused;
	bool resume_refused;
	uint32_t news_later;        /* so many are answered -EAGAIN */
	int restore_answer;         /* to the others */
	uint32_t kernel_conn_calls; /* times one of them told */
	bool probe;                 /* at LISTEN, does a kernel client get in by loopback? */
	uint32_t probed;            /* times one tried */
	uint32_t probe_in;          /* and got in */
	uint32_t begun;             /* processes that said, before they listened, that they begin */
	uint32_t tx_short;          /* rises seen after a doorbell, all slots */
	uint32_t bad;               /* cursors the engine would refuse */
};
extern volatile struct fake_stats *fake_stats;

#endif
