/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Connections of a program that the stages of the engine do not read, and what the engine is told
 * of them: how many the kernel carries (kconn.c); which topics MQTT clients among them subscribe
 * to (follow.c), also where TLS (tls.c) or WebSocket (websocket.h) is around it; what a broker's
 * files say (broker.c).  A part of lt.h.
 */
#ifndef LT_LIB_KCONN_H
#define LT_LIB_KCONN_H

#include "libtoe/lt.h"

/* ---- connections of the kernel's (kconn.c) ---- */
extern uint8_t *lt_kconn_marks;

int lt_kconn_init(void);
/* A descriptor from accept().  It, or -errno (then it is closed). */
int lt_kconn_accepted(int fd);
/* fd and its dups are about to be connected by the kernel.  0, or -errno: do not. */
int lt_kconn_connecting(int fd, uint16_t port);
void lt_kconn_failed(int fd);
/* A descriptor from elsewhere that is connected. */
void lt_kconn_inherited(int fd);
void lt_kconn_duplicated(int to);
void lt_kconn_forget(int fd);
/* This process has an offloaded listener. */
void lt_kconn_start(void);
/* A child that has attached; one that was just forked has told nothing. */
void lt_kconn_join(void);
void lt_kconn_reset(void);
/* The program is told to read its configuration again (reload.c).  Any context. */
void lt_kconn_reload(void);
/* How often it was; false: the engine is not told. */
bool lt_kconn_reloads(uint32_t *n);
/* TOE_KCONN_MQTT_CHECKED, unless it was again since it was n times: -ESTALE.  0 or -errno. */
int lt_kconn_checked(uint32_t n, struct toe_ctl_kconn *k);
/* Number and news of one connection.  0 or -errno. */
int lt_kconn_say(struct toe_ctl_kconn *k);

/* ---- MQTT that the engine cannot read (follow.c) ---- */
int lt_follow_init(void);
void lt_follow_reset(void); /* after fork: the connections are the parent's */
/* A connection was accepted: the kernel's, the engine's. */
void lt_follow_accepted(int fd);
void lt_follow_came(int fd);
/* The program is about to get n bytes it read from fd.  n, or -1 and errno: it may not. */
ssize_t lt_follow_read(int fd, const void *data, ssize_t n);
/* The same of n bytes that TLS on fd has decrypted. */
ssize_t lt_follow_tls(int fd, const void *data, ssize_t n);
/* The program has written n of len bytes to fd, or to TLS on it; -1: it could not (errno). */
void lt_follow_wrote(int fd, const void *data, size_t len, ssize_t n, bool tls);
/* It is about to write in a way that is not seen. */
void lt_follow_wrote_unseen(int fd);
/* What is read from fd is not seen any more, if not closed.  False: and the engine does not know.
 */
bool lt_follow_forget(int fd, bool closed);
/* The next read from fd is not seen.  False: and the engine does not know. */
bool lt_follow_unseen(int fd);
void lt_follow_duplicated(int fd, int to);
/* It opens a connection: before the kernel's begins (slot1 0), or the engine's (slot and 1). */
void lt_follow_connecting(int fd, uint32_t slot1, uint16_t port);

/* ---- TLS (tls.c) ---- */
/* What the program reads by SSL_read() is followed from now on. */
void lt_tls_watch(void);

/* ---- a broker's files (broker.c) ---- */
/* Before the program runs. */
void lt_broker_init(void);
/* It is about to listen; the first time, that and the sessions it begins with are told. */
void lt_broker_listens(void);
/* It is told to read its configuration again.  Any context. */
void lt_broker_reload(void);
/* What bridges to that port take out (struct broker_bridges); false: there is none. */
struct lt_filters {
	const uint8_t *data;
	size_t len;
};
bool lt_broker_bridge(uint16_t port, struct lt_filters *f);
/* It is about to wait for events: once it has read its configuration again, that is looked at. */
extern uint32_t lt_broker_turns;
void lt_broker_check(void);
static inline void lt_broker_waits(void)
{
	if (LT_UNLIKELY(LT_LOAD(&lt_broker_turns)))
		lt_broker_check();
}

static inline bool lt_kconn_is(int fd)
{
	return (unsigned)fd < lt_fds.n && LT_PEEK(&lt_kconn_marks[fd]);
}

/* By descriptor; 0 and these: nothing is to be done with its bytes, or with what is around TLS. */
#define LT_FOLLOW_NOT UINT16_MAX
#define LT_FOLLOW_TLS (UINT16_MAX - 1)
extern uint16_t *lt_follow_of;

static inline uint16_t lt_follow_mark(int fd)
{
	return LT_LIKELY(lt_follow_of && (unsigned)fd < lt_fds.n) ? LT_LOAD(&lt_follow_of[fd]) : 0;
}

static inline bool lt_follow_may(int fd)
{
	uint16_t of = lt_follow_mark(fd);

	return of != 0 && of < LT_FOLLOW_TLS;
}

/* After reading n bytes, or -1: what the program gets to see of that. */
static inline ssize_t lt_read_done(int fd, const void *data, ssize_t n)
{
	return LT_UNLIKELY(n > 0 && lt_follow_may(fd)) ? lt_follow_read(fd, data, n) : n;
}

/* After writing n of len bytes, or -1. */
static inline ssize_t lt_write_done(int fd, const void *data, size_t len, ssize_t n)
{
	if (LT_UNLIKELY(lt_follow_may(fd)))
		lt_follow_wrote(fd, data, len, n, false);
	return n;
}

void lt_write_done_iov(int fd, const struct iovec *iov, int count, ssize_t n);

/* Before reading in another way.  False: it may not be. */
static inline bool lt_read_unseen(int fd)
{
	return LT_LIKELY(!lt_follow_may(fd)) || lt_follow_unseen(fd);
}

/* Before writing in another way. */
static inline void lt_write_unseen(int fd)
{
	if (LT_UNLIKELY(lt_follow_may(fd)))
		lt_follow_wrote_unseen(fd);
}

/* fd is about to be closed or overwritten. */
static inline void lt_kconn_closing(int fd)
{
	if (LT_UNLIKELY(lt_kconn_is(fd)))
		lt_kconn_forget(fd);
}

#endif
