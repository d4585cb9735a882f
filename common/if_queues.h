/* SPDX-License-Identifier: BSD-3-Clause */
/* Receive queues of a Linux interface, which the one that asks may have to lower. */
#ifndef TOE_IF_QUEUES_H
#define TOE_IF_QUEUES_H

struct toe_if_queues {
	unsigned rx;      /* 1 if the driver does not say */
	const char *what; /* ethtool -L IF WHAT 1 */
};

void toe_if_queues(const char *ifname, struct toe_if_queues *q);

#endif
