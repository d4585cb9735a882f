/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The thread that does what the keeper asks: applications, processes and waiters come and go, and
 * evicted applications are reported.  One per process; e->keeper_fd is its own while it runs.
 */
#ifndef TOE_KEEPER_LINK_H
#define TOE_KEEPER_LINK_H

#include "engine.h"
#include "toe/ctl.h"

/* 0 or -errno.  After the pipeline has been made, before applications exist. */
int toe_keeper_link_start(struct toe_engine *e);

/* Waits for the end of the thread; harmless if it was not started. */
void toe_keeper_link_stop(struct toe_engine *e);

/* Carries out one request and turns *m into its reply (unit tests).  Owns the descriptors. */
void toe_keeper_link_handle(struct toe_engine *e, struct toe_ctl_msg *m, int *fds, unsigned nfds);

#endif
