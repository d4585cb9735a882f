/* SPDX-License-Identifier: BSD-3-Clause */
/* TOE_CMD_MSS as proto and sched read it: the same number in both, in bounds whatever was sent. */
#ifndef TOE_CMD_MSS_H
#define TOE_CMD_MSS_H

#include <string.h>

#include "common/ip.h"
#include "work.h"

static inline uint16_t toe_cmd_mss_of(const struct toe_work_ctrl *wc)
{
	struct toe_cmd_mss cmd;

	memcpy(&cmd, &wc->cmd, sizeof(cmd));
	if (cmd.mss < TOE_MSS_FLOOR)
		return TOE_MSS_FLOOR;
	return (uint16_t)(cmd.mss < UINT16_MAX ? cmd.mss : UINT16_MAX);
}

#endif
