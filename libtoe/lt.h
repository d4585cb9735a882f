/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libtoe's own header: process state and what the files offer each other.
 *
 * Descriptor kinds (fdtable.c): a *kernel TCP socket* is followed so that listen() and connect()
 * can change it; a *connection* is a token descriptor; a *listener* is a real, listening kernel
 * socket with an accept ring beside it; an *epoll set* is a real one with a side table; *internal*
 * and *pool* ones (tokens not in use yet) are ours and hidden from the application.
 *
 * Who may run when.  Any call may come from any thread and, where POSIX allows it, from a signal
 * handler that interrupted one of us.  Hence:
 *   - receiving and accepting take no lock (compare-and-swap on the cursor, after the copy);
 *   - sending takes the slot's robust lock; a handler that interrupts its owner appends behind it;
 *   - process-local locks (enum lt_lock) are taken through lt_lock(), which returns false if this
 *     thread already holds it: the caller then leaves the work to the owner, never waits.
 * Lock order: REFILL or KCONN -> RPC -> TOKENS -> CTX -> slot.tx_lock -> DOORBELL.  No lock is held
 * while sleeping for an application; RPC is held for one round trip to the keeper, and so is what
 * comes before it.
 */
#ifndef LT_H
#define LT_H

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#include <fcntl.h>

#include "toe/ctl.h"
#include "toe/region.h"

#define LT_LIKELY(x)   __builtin_expect(!!(x), 1)
#define LT_UNLIKELY(x) __builtin_expect(!!(x), 0)

/* ---- libc (libc_real.c) ---- */

/* Called by glibc's fortified headers; no header declares them. */
ssize_t __read_chk(int fd, void *buf, size_t len, size_t room);
ssize_t __recv_chk(int fd, void *buf, size_t len, size_t room, int flags);
ssize_t __recvfrom_chk(int fd, void *restrict buf, size_t len, size_t room, int flags,
		       __SOCKADDR_ARG addr, socklen_t *restrict addr_len);
int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t room);
int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask,
		size_t room);

struct lt_real {
#define LT_FN(ret, name, params, args) ret(*name) params;
#include "libtoe/intercept.def"
#undef LT_FN
	int (*fcntl)(int fd, int cmd, ...);
	int (*fcntl64)(int fd, int cmd, ...);
	int (*ioctl)(int fd, unsigned long request, ...);
};
extern struct lt_real lt_real_fns;
void lt_real_resolve(void);

/* The next definition of name, resolved on first use: other constructors run before ours. */
#define LT_REAL(name)                                                                              \
	(*({                                                                                       \
		if (LT_UNLIKELY(!lt_real_fns.name))                                                \
			lt_real_resolve();                                                         \
		lt_real_fns.name;                                                                  \
	}))

#define LT_FN(ret, name, params, args) ret lt_##name params;
#include "libtoe/intercept.def"
#undef LT_FN
int lt_fcntl(int fd, int cmd, long arg);
int lt_ioctl(int fd, unsigned long request, void *arg);

/* ---- shared records of libtoe in the region ---- */

#define LT_F_NONBLOCK  0x01u /* O_NONBLOCK */
#define LT_F_CONNECTED 0x02u /* connect() has returned success */
#define LT_F_ERR_TAKEN 0x04u /* SO_ERROR or a call has reported toe_slot.error */
#define LT_F_ACTIVE    0x08u /* made by connect() */
#define LT_F_ASYNC     0x40u /* O_ASYNC, remembered only */
#define LT_F_SHUT_WR   0x80u /* shutdown(SHUT_WR) was called; ctl follows at unlock of tx_lock */

#define LT_KEPT_BROADCAST 0x1u
#define LT_KEPT_DONTROUTE 0x2u
#define LT_KEPT_OOBINLINE 0x4u
#define LT_KEPT_REUSEADDR 0x8u
#define LT_KEPT_REUSEPORT 0x10u
/* of AF_INET6 sockets */
#define LT_KEPT_V6ONLY       0x20u
#define LT_KEPT_RECVERR      0x40u
#define LT_KEPT_RECVTCLASS   0x80u
#define LT_KEPT_RECVHOPLIMIT 0x100u
#define LT_KEPT_RECVPKTINFO  0x200u
#define LT_KEPT_AUTOFLOW     0x400u

/* Options a connection inherits from its listener. */
struct lt_opts {
	uint32_t ctl; /* TOE_CTL_NODELAY, CORK, KEEPALIVE, LINGER0; Diffserv and TTL are below */
	uint32_t user_timeout_ms;
	uint32_t keep_idle_s; /* 0 = default, as the next two */
	uint32_t keep_intvl_s;
	uint32_t keep_cnt;
	int32_t linger_s;   /* -1: off */
	uint32_t rcv_bytes; /* SO_RCVBUF as told, 0 = the ring's size */
	uint32_t snd_bytes;
	uint32_t rcvlowat; /* 0 = 1 */
	uint32_t maxseg;   /* TCP_MAXSEG as told, 0 = negotiated */
	uint32_t tos;
	uint32_t priority;
	uint32_t kept_flags;  /* LT_KEPT_*: told and shown, no effect here */
	uint32_t kept_syncnt; /* as the next three: told, 0 = default */
	uint32_t kept_linger2;
	uint32_t kept_notsent_lowat;
	uint32_t kept_ttl;
	uint32_t kept_hops;
	uint32_t kept_tclass;
	uint32_t reserved;
	uint64_t rcv_timeo_us; /* 0 = for ever */
	uint64_t snd_timeo_us;
};

/* toe_slot.lib.  Words are accessed atomically by all processes that share the connection. */
struct lt_slot_lib {
	union {
		pthread_mutex_t tx_lock; /* robust, shared: tx_tail, tx_end, SHUT_WR */
		uint8_t tx_lock_room[48];
	};
	uint32_t tx_end;      /* reserved by the owner of tx_lock; tx_tail follows */
	uint32_t flags;       /* LT_F_* */
	uint32_t domain;      /* AF_INET or AF_INET6: how addresses are shown */
	uint32_t rx_told;     /* rx_head the engine was last told of */
	uint32_t rx_limit;    /* with SHUT_RD: rx_tail at that moment */
	uint32_t nospace_seq; /* counts sends that found the buffer full */
	struct lt_opts opts;
};
static_assert(sizeof(struct lt_slot_lib) <= 192, "lib area of a slot");

/* toe_listener.lib */
struct lt_listener_lib {
	uint32_t flags; /* LT_F_NONBLOCK: the kernel's own flag is always set */
	uint32_t reserved;
	struct lt_opts opts;
};
static_assert(sizeof(struct lt_listener_lib) <= 128, "lib area of a listener");

#define LT_LOAD(p)     __atomic_load_n(p, __ATOMIC_ACQUIRE)
#define LT_STORE(p, v) __atomic_store_n(p, v, __ATOMIC_RELEASE)
#define LT_PEEK(p)     __atomic_load_n(p, __ATOMIC_RELAXED)
#define LT_OR(p, v)    __atomic_fetch_or(p, v, __ATOMIC_SEQ_CST)
#define LT_AND(p, v)   __atomic_fetch_and(p, v, __ATOMIC_SEQ_CST)
#define LT_FENCE()     __atomic_thread_fence(__ATOMIC_SEQ_CST)

/* ---- descriptors (fdtable.c) ---- */

/* kind << 60 | index << 32 | generation.  index: slot, listener, epoll set, internal role, or the
 * number of a kernel socket (the same for its dups). */
typedef uint64_t lt_ent;
enum lt_kind { LT_NONE, LT_KSOCK, LT_CONN, LT_LISTENER, LT_EPOLL, LT_INTERNAL, LT_POOL };

static inline lt_ent lt_ent_make(enum lt_kind kind, uint32_t index, uint32_t gen)
{
	return (lt_ent)kind << 60 | (lt_ent)(index & 0x0fffffffu) << 32 | gen;
}

static inline enum lt_kind lt_ent_kind(lt_ent e)
{
	return (enum lt_kind)(e >> 60);
}

static inline uint32_t lt_ent_index(lt_ent e)
{
	return (uint32_t)(e >> 32) & 0x0fffffffu;
}

/* Not the application's: it gets EBADF. */
static inline bool lt_ent_hidden(lt_ent e)
{
	return lt_ent_kind(e) >= LT_INTERNAL;
}

static inline uint32_t lt_ent_gen(lt_ent e)
{
	return (uint32_t)e;
}

struct lt_fdtable {
	lt_ent *ents;
	uint32_t n;    /* descriptors beyond are left to the kernel */
	uint32_t used; /* one more than the largest ever entered */
};
extern struct lt_fdtable lt_fds;

int lt_fdtable_init(void);

static inline lt_ent lt_fd_get(int fd)
{
	return LT_LIKELY((unsigned)fd < lt_fds.n) ? LT_LOAD(&lt_fds.ents[fd]) : 0;
}

/* Enters e (false: fd too large) without counting a reference; or takes the entry out. */
bool lt_fd_set(int fd, lt_ent e);
lt_ent lt_fd_take(int fd);
/* One more, or one fewer, descriptor of this process for the object; the last one lets it go. */
void lt_ent_ref(lt_ent e);
void lt_ent_unref(lt_ent e);
/* A new descriptor to for the object of e (dup, accept). */
void lt_fd_dup(lt_ent e, int to);
lt_ent lt_ksock_ent(void);

/* Internal descriptors: any application call that would hit one moves it out of the way. */
enum lt_role { LT_ROLE_KEEPER, LT_ROLE_KICK, LT_ROLE_WAITER, LT_ROLE_LOCAL, LT_ROLE_SLEEPER0 };
#define LT_ROLE_N 1024u
int lt_role_fd(uint32_t role);          /* -1 if none */
int lt_role_set(uint32_t role, int fd); /* takes fd over; its number, or -errno (fd closed) */
int lt_role_alloc(int fd);              /* for a sleeper: its role, or -errno (fd closed) */
void lt_role_close(uint32_t role);
/* fd is to be overwritten by the application: what we have there moves.  False: it cannot. */
bool lt_make_way(int fd);

/* ---- process state (ctx.c) ---- */

enum lt_lock {
	LT_L_RPC = 1,
	LT_L_TOKENS = 2,
	LT_L_CTX = 4,
	LT_L_DOORBELL = 8,
	LT_L_REFILL = 16,
	LT_L_KCONN = 32
};

struct lt_item;

struct lt_conn { /* this process's view of a slot; by slot index */
	uint32_t gen;
	uint32_t refs;
	struct lt_item *watch; /* epoll items, under LT_L_CTX */
};

struct lt_lsock { /* this process's view of a listener; by listener index */
	uint32_t refs;
	uint32_t turn; /* fairness between ring and kernel */
	struct lt_item *watch;
	struct toe_ctl_listen req; /* to register again after fork */
	int domain;                /* of its socket: how accepted connections show addresses */
};

struct lt_proc {
	bool attached; /* context usable; false in a child until it needs one */
	bool gone;     /* the engine died: no way back */
	bool buried;   /* epoll items know */
	bool noisy;    /* TOE_LOG=debug */
	pid_t pid;
	uint32_t app_id;
	uint32_t port_ipv4;
	uint8_t key[TOE_KEY_BYTES];
	char keeper_path[108];
	struct toe_region_geometry g;
	struct toe_region_layout l;
	uint8_t *control;
	uint8_t *payload;
	uint32_t ctx_index;
	uint64_t ctx_bit;
	struct toe_context *ctx;
	uint32_t *hints;
	uint32_t *doorbells;
	uint32_t hint_cons;
	uint32_t *tokens;
	struct lt_conn *conns;
	struct lt_lsock *lsocks;
	uint32_t sleepers; /* threads about to sleep or asleep: they want local wake-ups */
	uint32_t armed;    /* times `waiting` went up since the waiter socket was emptied */
	uint32_t spin_us;
	uint64_t ev_tag; /* epoll data of ours in kernel sets: tag | fd */
};
extern struct lt_proc lt;
extern bool lt_on; /* false: passive, every call goes straight to libc */

struct lt_tls {
	uint32_t held; /* enum lt_lock */
	int32_t role;  /* of this thread's sleeper, -1 = none */
	bool edge;     /* the sleeper may have an edge to clear */
	uint8_t later_n;
	uint32_t later[16]; /* doorbells of a handler that interrupted a doorbell */
};
extern __thread struct lt_tls lt_tls __attribute__((tls_model("initial-exec")));

void lt_start(void); /* the constructor; nothing happens without TOE_APP in the environment */

bool lt_lock(enum lt_lock which);
void lt_unlock(enum lt_lock which);
void lt_locks_reset(void); /* in a child: those that other threads may have had */

/* Attaches if this is a child that has not yet.  False: no engine. */
bool lt_attach_child(void);
static inline bool lt_ready(void)
{
	return LT_LIKELY(LT_LOAD(&lt.attached) && !LT_PEEK(&lt.gone)) || lt_attach_child();
}
/* This is a vfork child: its descriptors are its own, our tables are its parent's. */
static inline bool lt_foreign(void)
{
	return getpid() != lt.pid;
}
static inline bool lt_gone(void)
{
	return LT_UNLIKELY(LT_PEEK(&lt.gone) ||
			   (LT_LOAD(&lt.ctx) && LT_PEEK(&lt.ctx->engine_gone)));
}
int lt_call(struct toe_ctl_msg *m, const int *fds, unsigned nfds);
/* level and name are for people: TOE_LOG=debug shows them. */
void lt_count_unsupported(enum toe_unsupported why, int level, int name);

/* ---- region (shm.c) ---- */
int lt_region_map(const struct toe_ctl_app *app, int control_fd, int payload_fd);
static inline struct toe_slot *lt_slot(uint32_t i)
{
	return (struct toe_slot *)(lt.control + lt.l.off_slots) + i;
}
static inline struct lt_slot_lib *lt_lib(struct toe_slot *s)
{
	return (void *)s->lib;
}
static inline struct toe_listener *lt_listener(uint32_t i)
{
	return (struct toe_listener *)(lt.control + lt.l.off_listeners +
				       i * toe_listener_stride(lt.g.backlog_n));
}
static inline struct lt_listener_lib *lt_llib(struct toe_listener *l)
{
	return (void *)l->lib;
}
static inline uint8_t *lt_rx(uint32_t slot)
{
	return lt.payload + toe_slot_rx_off(slot, lt.g.rx_buf_bytes, lt.g.tx_buf_bytes);
}
static inline uint8_t *lt_tx(uint32_t slot)
{
	return lt.payload + toe_slot_tx_off(slot, lt.g.rx_buf_bytes, lt.g.tx_buf_bytes);
}

/* ---- hints, doorbells, sleeping (wait.c) ---- */

void lt_doorbell(uint32_t slot);
/* Caller holds LT_L_CTX. */
void lt_hints_drain(void);
void lt_hints_catch_up(void);

/*
 * Sleeping.  lt_arm(); look at the state again; lt_sleep() or not; lt_disarm().  Every hint or
 * local wake-up after lt_arm() makes lt_sleep() return.
 */
void lt_arm(void);
void lt_disarm(void);
/* Sleeps for the n descriptors too; fds must have room for one more.  Result as ppoll's, without
 * our own descriptor; 0 before the deadline means: look again.  deadline_ns < 0: none. */
int lt_sleep(struct pollfd *fds, unsigned n, int64_t deadline_ns, const sigset_t *mask);
/* Local changes other threads may wait for: close, shutdown, epoll_ctl. */
void lt_wake_local(void);
int64_t lt_now_ns(void);
int64_t lt_deadline_us(uint64_t us); /* 0: none */
int64_t lt_deadline_ts(const struct timespec *ts);
bool lt_expired(int64_t deadline_ns);
/* Was the interruption by handlers with SA_RESTART only? */
bool lt_restart(void);
void lt_waiters_reset(void); /* in a child: those of the parent are not ours */
int lt_waiters_init(void);

struct lt_token {
	int fd;
	uint32_t id;
};

/* ---- connections (sock.c, addr.c, state.c) ---- */

struct lt_sock {
	lt_ent ent;
	int fd;
	uint32_t slot;
	struct toe_slot *s;
	struct lt_slot_lib *lib;
};

/* fd as the connection e stands for. */
static inline void lt_sock_of(int fd, lt_ent e, struct lt_sock *c)
{
	c->ent = e;
	c->fd = fd;
	c->slot = lt_ent_index(e);
	c->s = lt_slot(c->slot);
	c->lib = lt_lib(c->s);
}

/* True if fd is an offloaded connection. */
static inline bool lt_sock_get(int fd, struct lt_sock *c)
{
	lt_ent e = lt_fd_get(fd);

	if (lt_ent_kind(e) != LT_CONN)
		return false;
	lt_sock_of(fd, e, c);
	return true;
}

/* The descriptor still stands for the same connection: nobody closed it while we slept. */
static inline bool lt_sock_same(const struct lt_sock *c)
{
	return lt_fd_get(c->fd) == c->ent;
}

/* What the engine says, at one moment. */
struct lt_state {
	uint32_t bits;    /* TOE_SLOT_*; 0 while the slot is not ours yet; ERROR if engine gone */
	uint32_t rx_tail; /* read after bits: with RX_FIN it is the end */
	uint32_t tx_head;
	int error; /* with TOE_SLOT_ERROR: positive errno */
};
struct lt_state lt_state(const struct lt_sock *c);
uint32_t lt_rx_avail(const struct lt_sock *c, const struct lt_state *st, uint32_t head);
uint32_t lt_tx_space(const struct lt_sock *c, const struct lt_state *st);
uint32_t lt_conn_events(const struct lt_sock *c); /* EPOLL* bits, as tcp_poll() */
/* The pending error, once; 0 if none. */
int lt_error_take(const struct lt_sock *c, const struct lt_state *st);
/* What changes when something happened that ET reports. */
uint32_t lt_conn_sig(const struct lt_sock *c, uint32_t *rx_tail);
uint32_t lt_listener_events(uint32_t index);
bool lt_nonblock(const struct lt_sock *c, int flags);
void lt_slot_init(uint32_t slot, uint32_t domain, uint32_t flags, const struct lt_opts *opts);
void lt_conn_enter(uint32_t slot, uint32_t gen);
void lt_conn_leave(uint32_t slot);
void lt_listener_leave(uint32_t index);
/* The kernel socket is tied to an interface that is not the TAP. */
bool lt_other_device(int fd);
/* The port has an IPv6 address. */
bool lt_have_ipv6(void);
/* Family, address, port and v6only of a listener bound to ss.  False: not the engine's to serve. */
bool lt_addr_listen(const struct sockaddr_storage *ss, bool v6only, struct toe_ctl_listen *req);
/* Peer of a connect() on a socket of that domain.  False: the kernel's; conn->family 0: and the
 * engine does not have it, at all. */
bool lt_addr_destination(int domain, const struct sockaddr *addr, socklen_t len,
			 struct toe_ctl_conn *conn);
/* As getsockname, getpeername.  0 or -EINVAL. */
int lt_show_addr(const struct lt_sock *c, bool peer, struct sockaddr *addr, socklen_t *len);
int lt_listen_offload(int fd, int backlog); /* fd listens in the kernel */
void lt_listen_again(uint32_t index);
/* A new descriptor of ours for a slot: enters everything.  nonblock, cloexec: as asked for. */
int lt_conn_open(const struct lt_token *t, uint32_t slot, bool cloexec);
int lt_wait_connected(struct lt_sock *c);

void lt_tx_init(struct lt_slot_lib *lib);
/* False: this thread has it already (we are in a handler); the owner publishes for us. */
bool lt_tx_lock(struct lt_sock *c);
/* Publishes tx_end and LT_F_SHUT_WR, tells the engine.  owner: what lt_tx_lock() returned. */
void lt_tx_unlock(struct lt_sock *c, bool owner);
ssize_t lt_stream_recv(struct lt_sock *c, const struct iovec *iov, int n, int flags);
ssize_t lt_stream_send(struct lt_sock *c, const struct iovec *iov, int n, int flags);

/* ---- options (sockopt.c) ---- */
void lt_opts_of_kernel(int fd, struct lt_opts *o);
void lt_opts_apply(struct lt_sock *c);
/* toe_slot.ctl of a connection of that family. */
uint32_t lt_opts_ctl(const struct lt_opts *o, int family);

/* ---- tokens (token.c) ---- */
int lt_token_take(struct lt_token *t); /* 0 or -errno */
void lt_token_put(const struct lt_token *t);
void lt_tokens_drop(void); /* child after fork: the parent's */
bool lt_token_make_way(int fd);
void lt_token_bind(const struct lt_token *t, uint32_t slot);
/* The slot is about to be taken from an accept ring with t; TOE_NONE: it was not. */
void lt_token_taking(const struct lt_token *t, uint32_t slot);
/* A descriptor from elsewhere (exec, SCM_RIGHTS): ours again if it is a token or a listener. */
void lt_adopt(int fd);
void lt_adopt_all(void);

/* ---- epoll (epoll.c, epoll_items.c) ---- */
#define LT_EPOLL_N 1024u
void lt_epoll_mark(struct lt_item *list);  /* LT_L_CTX held */
void lt_epoll_mark_all(void);              /* LT_L_CTX held */
void lt_epoll_fd_closed(int fd, lt_ent e); /* fd no longer stands for e */
/* fd stood for from and stands for to: KSOCK to CONN before the token replaces the socket, the
 * other ways (KSOCK and LISTENER, CONN to KSOCK) after it. */
void lt_epoll_convert(int fd, lt_ent from, lt_ent to);
void lt_epoll_ref(uint32_t index, int by);
uint32_t lt_epoll_events(uint32_t index);
bool lt_epoll_offloaded(uint32_t index);

/* ---- dup_fork_exec.c ---- */
void lt_fork_init(void);

#include "libtoe/kconn.h"

#endif
