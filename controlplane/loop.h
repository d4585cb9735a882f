/* SPDX-License-Identifier: BSD-3-Clause */
/* The event loop: connects struct cp with rings, sockets and timers. */
#ifndef CP_LOOP_H
#define CP_LOOP_H

#include "common/config.h"
#include "toe/cpq.h"
#include "toe/ctl.h"

#include "state.h"

struct cp_start {
	const struct toe_config *cfg;
	struct toe_cpq_hdr *cpq;
	struct cp_state_hdr *state;
	int keeper_fd;
	int kick_fd;
	struct toe_ctl_msg msg; /* CP_START */
};

/* Runs until the keeper is gone or SIGTERM.  0, or -errno if it could not start; the answer to
 * CP_START is sent here in both cases. */
int cp_loop_run(const struct cp_start *s);

#endif
