/* SPDX-License-Identifier: BSD-3-Clause */
/* Producer of the command ring, with a queue in front of it for when the ring is full. */
#ifndef CP_CMDQ_H
#define CP_CMDQ_H

#include <stdbool.h>
#include <stdint.h>

#include "common/cpq_ring.h"

struct cp_cmdq_node;

struct cp_cmdq {
	struct toe_cpq_hdr *hdr;
	struct toe_cpq_ring ring;
	struct cp_cmdq_node *head; /* waiting, oldest first */
	struct cp_cmdq_node *tail;
	uint32_t waiting;
	uint64_t *frames_dropped; /* counter */
	int kick_fd;              /* to the datapath */
	bool published;           /* since the last cp_cmdq_flush() */
};

void cp_cmdq_init(struct cp_cmdq *q, struct toe_cpq_hdr *hdr, int kick_fd, uint64_t *dropped);

/* Keeps order.  Frames are dropped while many commands wait; state never is, its number is bounded
 * by that of the connections. */
void cp_cmdq_put(struct cp_cmdq *q, const struct toe_cpq_entry *e, const void *data);

/* End of a batch: moves what waits into the ring as far as it goes, wakes the datapath if it
 * sleeps.  True: nothing waits. */
bool cp_cmdq_flush(struct cp_cmdq *q);

#endif
