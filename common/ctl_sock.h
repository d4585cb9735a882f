/* SPDX-License-Identifier: BSD-3-Clause */
/* struct toe_ctl_msg over SOCK_SEQPACKET with file descriptors. */
#ifndef TOE_CTL_SOCK_H
#define TOE_CTL_SOCK_H

#include <stdbool.h>

#include "toe/ctl.h"

/* Fills in magic, version and type; everything else zero. */
void toe_ctl_init(struct toe_ctl_msg *m, enum toe_ctl_type type);

/* Sends m with nfds descriptors (not closed here).  0 or -errno (-EAGAIN if the socket is
 * non-blocking and full, -EPIPE if the peer is gone; never SIGPIPE). */
int toe_ctl_send(int sock, struct toe_ctl_msg *m, const int *fds, unsigned nfds);

/*
 * Receives one message.  Descriptors arrive close-on-exec in fds[0..*nfds), at most fds_max: more
 * are closed and -EMSGSIZE returned, and so is a packet of another size, magic or version
 * (-EPROTO; the caller prints m->abi_version against its own).  0 = message, -ECONNRESET = end of
 * file.  The caller owns the descriptors.
 */
int toe_ctl_recv(int sock, struct toe_ctl_msg *m, int *fds, unsigned fds_max, unsigned *nfds);

/* Request and reply on a blocking socket: sends m, waits up to timeout_ms for the reply with the
 * same req (others are dropped), overwrites m.  -ETIMEDOUT, or m->status if negative, or 0. */
int toe_ctl_call(int sock, struct toe_ctl_msg *m, const int *send_fds, unsigned send_nfds,
		 int *recv_fds, unsigned recv_max, unsigned *recv_nfds, int timeout_ms);

/* SOCK_SEQPACKET client of the path; -errno on failure. */
int toe_ctl_connect(const char *path);

/* Listening SEQPACKET socket at path (a stale file is replaced only if nobody answers on it:
 * -EADDRINUSE otherwise), mode bits as given. */
int toe_ctl_listen(const char *path, unsigned mode);

/* Connected pair, close-on-exec. 0 or -errno. */
int toe_ctl_pair(int fds[2]);

#endif
