/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * toe-keeper: everything its parts share.  One process, one thread, one libuv loop.
 *
 *   main.c       options, start, exit           supervise.c  the two child programs, restart, stop
 *   setup.c      what is undone at the end      port.c, nft.c, netaddr.c, tap.c  its steps
 *   clients.c    sockets of programs            apps.c       applications and their processes
 *   relay.c      questions and their answers    chan.c       one message socket in the loop
 *   region.c     memfds                         token.c      far ends of token descriptors
 *   owner.c      may an application have a port?    cleanup.c  files that are removed
 *   ipv6.c       IPv6 of the TAP                ipv6_watch.c its addresses change
 *   notify.c     word to a service manager      parting.c    word to the peers of what has ended
 */
#ifndef KP_KEEPER_H
#define KP_KEEPER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <uv.h>

#include "common/config.h"
#include "toe/ctl.h"

#include "chan.h"
#include "setup.h"
#include "token.h"

#define KP_APP_N          TOE_CTL_APP_N
#define KP_CLIENTS_MAX    4608u /* 64 processes of 64 applications, and 512 others */
#define KP_STRANGERS_MAX  64u   /* connections without application, of one user */
#define KP_APP_PENDING    64u   /* unanswered questions of one application */
#define KP_FD_RESERVE     256u  /* descriptors kept for other things than tokens */
#define KP_READY_MS       10000u
#define KP_ENDING         "ending\n" /* in keeper.pid, behind the number: the next one may wait */
#define KP_TERM_MS        3000u
#define KP_BACKOFF_MIN_MS 10u
#define KP_BACKOFF_MAX_MS 1000u
#define KP_HEALTHY_MS     10000u /* ran so long: the next restart is immediate again */

struct kp_keeper;
struct kp_app;

/* One connection of a program: `toe`, `toe run`, or a process with libtoe. */
struct kp_client {
	struct kp_chan chan;
	struct kp_keeper *kp;
	struct kp_client *next;
	struct kp_client **prev;
	struct kp_app *app; /* NULL: a stranger */
	uint32_t ctx;       /* its process, TOE_NONE: none */
	uint32_t uid;
	uint32_t down_req; /* waits for the answer to DOWN */
	bool down;
};

enum kp_proc_state { KP_PROC_FREE, KP_PROC_ATTACHING, KP_PROC_LIVE, KP_PROC_LEAVING };

struct kp_proc {
	enum kp_proc_state state;
	int32_t pid;
	uint32_t uid;
	struct kp_client *client; /* NULL once it hung up */
	int kick_fd;              /* the process's end, until it is handed over; else -1 */
	uint32_t kernel_conns;    /* as the datapath has them */
};

enum kp_app_state {
	KP_APP_MAKING, /* the datapath has been asked */
	KP_APP_LIVE,
	KP_APP_GONE,    /* last process gone, its connections are being closed */
	KP_APP_FREEING, /* the control plane is done, the datapath has been asked */
};

struct kp_app {
	struct kp_keeper *kp;
	enum kp_app_state state;
	struct toe_ctl_app desc; /* with the key */
	int control_fd;
	int payload_fd;
	uint32_t clients; /* connections that keep it alive */
	uint32_t pending; /* unanswered questions of its processes, dead ones included */
	int linger_fd;    /* pidfd of the process that may come back by exec, -1: none */
	uint64_t linger_until_ms;
	bool evicted;
	struct kp_proc procs[TOE_CTX_N];
	struct kp_tokens tokens;
	/* Kernel sockets that hold the local ports of outgoing connections, by slot, oldest first:
	 * a slot is used again while its earlier connections are in TIME-WAIT. */
	struct kp_ports {
		struct kp_port *first, *last;
	} * ports;
};

struct kp_port {
	struct kp_port *next;
	int fd;
	uint32_t gen; /* of the slot */
};

enum kp_peer { KP_DP, KP_CP };

/* A question that waits for its answer. */
struct kp_pending;
typedef void (*kp_done_fn)(struct kp_keeper *kp, struct kp_pending *p,
			   const struct toe_ctl_msg *reply);
struct kp_pending {
	struct kp_pending *next;
	struct toe_ctl_msg msg;   /* as sent; status of a reply made up by us goes here */
	int fd;                   /* travels along and is kept until the answer; -1: none */
	struct kp_client *client; /* who asked, NULL: nobody any more */
	uint32_t client_req;
	uint32_t app_id;
	uint32_t ctx;
	kp_done_fn done; /* reply NULL: there will be none */
	bool counted;    /* in kp_app.pending */
	bool relayed;    /* of a client, to the control plane: asked again after its restart */
	bool sent;
	bool again;
	uint8_t in_use; /* times the answer to LISTEN was "in use" */
};

/* One of the two programs. */
struct kp_child {
	struct kp_keeper *kp;
	const char *name; /* "datapath" */
	pid_t pid;        /* 0: not running */
	struct kp_chan chan;
	uv_timer_t timer; /* ready in time; back-off; killing */
	char log_path[128];
	int64_t log_from; /* size of the log when it was started */
	bool ready;
	bool in_loop; /* timer initialised */
	uint64_t started_ms;
};

enum kp_state { KP_STARTING, KP_UP, KP_STOPPING };

struct kp_keeper {
	uv_loop_t loop;
	uv_signal_t sig[3];
	uv_poll_t listen_poll;
	uv_poll_t token_poll;
	uv_timer_t linger_timer;
	uv_poll_t ipv6_poll;
	struct mnl_socket *ipv6_nl;
	bool ipv6_changed;
	uv_timer_t again_timer; /* relay.c: questions to ask once more */
	enum kp_state state;
	bool loop_ready;
	int exit_code;

	struct toe_config cfg;
	char config_path[160]; /* our copy in run_dir */
	char libexec[192];
	int pid_fd;       /* locked pid file */
	int status_fd;    /* to `toe up`, -1: nobody waits */
	char notify[108]; /* address of a service manager's socket, "": there is none */
	int listen_fd;

	struct kp_setup setup;
	int cpq_fd;
	int state_fd;
	int dp_kick[2]; /* control plane's end, datapath's end (until it is started) */
	struct toe_ctl_engine engine;

	struct kp_child dp;
	struct kp_child cp;
	uint32_t cp_backoff_ms;

	struct kp_pending *pending[2];
	struct kp_pending **pending_tail[2];
	uint32_t last_req;
	uint32_t relayed; /* length of the list of clients' questions to the control plane */

	struct kp_client *clients;
	uint32_t client_n;
	struct kp_app *apps[KP_APP_N];
	struct kp_token_watch tokens;
	uint32_t held_fds; /* tokens and ports */
	uint32_t fd_limit;
	uint64_t netns;
	uint64_t complaint_s; /* second of the last complaints about clients */
	uint32_t complaints;
	uint64_t unsupported[TOE_UNSUP_MAX]; /* of applications that have ended */
};

/* ---- main.c ---- */
/* Tells `toe up` how it went, once; text is one line. */
void kp_report(struct kp_keeper *kp, bool ok, const char *text);
/* Tells it, or the log, why not; returns the exit status 1. */
int kp_fail(struct kp_keeper *kp, const char *text);

/* ---- notify.c ---- */
/* Finds the service manager; foreground: we are the process that it has started. */
void kp_notify_init(struct kp_keeper *kp, bool foreground);
/* "READY=1" or "STOPPING=1", and a line for people. */
void kp_notify(const struct kp_keeper *kp, const char *state, const char *status);

/* ---- cleanup.c ---- */
/* All that an engine has in its run directory but the logs, and DPDK's files of the datapath, which
 * has ended. */
void kp_remove_files(const struct kp_keeper *kp);
/* Undoes what a keeper that was killed has left: exit status. */
int kp_cleanup(struct kp_keeper *kp);

/* ---- supervise.c ---- */
int kp_start(struct kp_keeper *kp);
/* Ends everything; reason is logged (NULL: asked for).  Asynchronous. */
void kp_stop(struct kp_keeper *kp, int exit_code, const char *reason);
void kp_on_sigchld(uv_signal_t *h, int signum);

/* ---- child.c ---- */
int kp_child_spawn(struct kp_child *c, const char *program, char *err, size_t err_len);
/* The last line it printed, or "" . */
void kp_child_last_line(const struct kp_child *c, char *buf, size_t len);
/* "killed by signal 11 (Segmentation fault)" */
void kp_child_death(int status, char *buf, size_t len);

/* ---- messages.c: what the two programs say ---- */
void kp_dp_msg(struct kp_chan *ch, struct toe_ctl_msg *m, int *fds, unsigned nfds);
void kp_cp_msg(struct kp_chan *ch, struct toe_ctl_msg *m, int *fds, unsigned nfds);
/* Called by messages.c. */
void kp_dp_ready(struct kp_keeper *kp, const struct toe_ctl_msg *m);
void kp_cp_ready(struct kp_keeper *kp, const struct toe_ctl_msg *m);
/* Tells a fresh control plane everything; it answers CP_READY. */
int kp_cp_replay(struct kp_keeper *kp);
int kp_dp_hello(struct kp_keeper *kp);

/* ---- clients.c ---- */
int kp_clients_listen(struct kp_keeper *kp);
void kp_clients_stop_listening(struct kp_keeper *kp);
struct kp_client *kp_client_new(struct kp_keeper *kp, int fd);
void kp_client_drop(struct kp_client *c);
/* Answers the request req of c; does nothing if c is NULL. */
void kp_client_reply(struct kp_client *c, struct toe_ctl_msg *m, uint32_t req, const int *fds,
		     unsigned nfds);
void kp_client_refuse(struct kp_client *c, uint16_t type, uint32_t req, int status);
/* True if one more line about what a client did may be logged: a few per second. */
bool kp_may_complain(struct kp_keeper *kp);
/* Sends the answer to every DOWN; the last thing before exit. */
void kp_clients_farewell(struct kp_keeper *kp);

/* ---- parting.c ---- */

/* Both programs have ended, and the port has its addresses again: tells the peers of all
 * connections. */
void kp_parting(int state_fd, const char *port_if);

/* ---- linger.c ---- */
int kp_linger_init(struct kp_keeper *kp);
/* The last connection was of process pid; false: that has ended, nothing to wait for. */
bool kp_linger_start(struct kp_app *app, pid_t pid);
void kp_linger_stop(struct kp_app *app);

/* ---- apps.c ---- */
void kp_app_new(struct kp_client *c, const struct toe_ctl_msg *m);
void kp_app_attach(struct kp_client *c, const struct toe_ctl_msg *m);
void kp_app_fork(struct kp_client *c, int *fds, unsigned nfds);
/* Nobody will come back: the control plane closes what is left. */
void kp_app_end(struct kp_app *app);
/* The connection hung up. */
void kp_app_client_gone(struct kp_client *c);
void kp_app_evict(struct kp_keeper *kp, uint32_t app_id);
void kp_app_freed(struct kp_keeper *kp, uint32_t app_id);
void kp_app_adopt(struct kp_app *app, struct kp_client *c);
struct kp_app *kp_app_get(struct kp_keeper *kp, uint32_t app_id);
/* Marks every context of every application: the engine is gone. */
void kp_apps_engine_gone(struct kp_keeper *kp);
/* n[TOE_UNSUP_MAX]: of all applications, ended ones included. */
void kp_apps_unsupported(const struct kp_keeper *kp, uint64_t *n);
/* Fills in apps, procs and kernel_conns. */
void kp_apps_count(const struct kp_keeper *kp, struct toe_ctl_engine *e);

/* ---- ipv6_watch.c ---- */
/* Before there are addresses, so that no change is missed. */
int kp_ipv6_watch(struct kp_keeper *kp);
/* kp_setup_tap() has been done. */
void kp_ipv6_started(struct kp_keeper *kp);

/* ---- owner.c ---- */
/* Is fd a TCP socket of our own network namespace? */
bool kp_is_tcp_socket(const struct kp_keeper *kp, int fd);
/* Are the fields that libtoe fills in what the engine understands? */
bool kp_listen_valid(const struct toe_ctl_listen *l);
bool kp_conn_valid(const struct toe_ctl_conn *c);
bool kp_kconn_valid(const struct toe_ctl_kconn *k);
/* May uid have what l asks for?  0 or -errno. */
int kp_may_listen(const struct kp_keeper *kp, uint32_t uid, const struct toe_ctl_listen *l);
/* Identity of the network namespace that sockets of this process are in. */
uint64_t kp_own_netns(void);

/* ---- app_fds.c: tokens and ports of applications ---- */
uint32_t kp_fds_used(const struct kp_keeper *kp);
void kp_token_request(struct kp_client *c, const struct toe_ctl_msg *m, int *fds, unsigned nfds);
void kp_claim_request(struct kp_client *c, const struct toe_ctl_msg *m, int *fds, unsigned nfds);
void kp_tokens_ready(uv_poll_t *h, int status, int events);
/* Reports hang-ups that have not been reported yet, as far as the control plane reads. */
void kp_tokens_flush(struct kp_keeper *kp);
void kp_tokens_freed(struct kp_keeper *kp, const struct toe_ctl_msg *m);
void kp_port_hold(struct kp_keeper *kp, const struct toe_ctl_msg *reply, uint32_t app_id, int *fd);
void kp_port_free(struct kp_keeper *kp, const struct toe_ctl_msg *m);
void kp_app_fds_close(struct kp_app *app);

/* ---- relay.c ---- */
/* Sends m to one of the two; done gets the answer.  The descriptors stay the caller's. */
int kp_ask(struct kp_keeper *kp, enum kp_peer peer, const struct kp_pending *like, const int *fds,
	   unsigned nfds);
/* A client's question to the control plane; takes *fd (sets it to -1) if there is one. */
void kp_relay(struct kp_client *c, const struct toe_ctl_msg *m, int *fd);
void kp_answer(struct kp_keeper *kp, enum kp_peer peer, const struct toe_ctl_msg *reply);
int kp_relay_init(struct kp_keeper *kp);
void kp_relay_resume(struct kp_keeper *kp); /* the control plane is ready (again) */
void kp_relay_lost(struct kp_keeper *kp);   /* it died */
void kp_relay_client_gone(struct kp_keeper *kp, struct kp_client *c);
/* A message to the control plane that needs no answer; dropped while it is away (replayed). */
void kp_tell_cp(struct kp_keeper *kp, enum toe_ctl_type type, const struct kp_app *app,
		uint32_t ctx);

#endif
