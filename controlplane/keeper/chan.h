/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One SOCK_SEQPACKET message socket in the loop: bounded reading, queued sending.
 *
 * Peers may share our end of the socket (PROC_FORK hands one in), so neither O_NONBLOCK nor
 * anything else of the open file is relied upon: every call is MSG_DONTWAIT.
 */
#ifndef KP_CHAN_H
#define KP_CHAN_H

#include <stdbool.h>

#include <uv.h>

#include "toe/ctl.h"

struct kp_out;

struct kp_chan {
	uv_poll_t poll;
	int fd; /* -1: closed */
	int events;
	struct kp_out *out; /* waiting because the peer does not read */
	struct kp_out **out_tail;
	unsigned out_n;
	unsigned out_pause; /* do not read from a peer that leaves so many answers; 0: always */
	bool fds_at_once;   /* no descriptors wait for a peer that does not read: -EMFILE */
	/* Descriptors are closed afterwards unless their entry is set to -1. */
	void (*on_msg)(struct kp_chan *ch, struct toe_ctl_msg *m, int *fds, unsigned nfds);
	/* End of file, or a packet that is none (-EPROTO, -EMSGSIZE; m has what could be read).
	 * Closes the channel. */
	void (*on_end)(struct kp_chan *ch, int error, const struct toe_ctl_msg *m);
	void (*on_drain)(struct kp_chan *ch);  /* everything queued has been sent; may be NULL */
	void (*on_closed)(struct kp_chan *ch); /* memory may be reused; may be NULL */
};

/* Callbacks set by the caller, fd becomes the channel's. */
int kp_chan_open(struct kp_chan *ch, uv_loop_t *loop, int fd);
void kp_chan_close(struct kp_chan *ch);
/* Reads what is there until the end (for a peer that is known to be dead). */
void kp_chan_drain(struct kp_chan *ch);
/* Sends or queues; descriptors stay the caller's.  0 or -errno (-EPIPE: closed). */
int kp_chan_send(struct kp_chan *ch, struct toe_ctl_msg *m, const int *fds, unsigned nfds);

#endif
