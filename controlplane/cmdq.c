/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Commands on their way to the datapath.  The ring is shared memory and survives us; the waiting
 * list is heap and does not (restart.c makes up for that).  Control-plane thread only.
 */
#include "cmdq.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/log.h"

#define FRAMES_WAIT_MAX 512u

struct cp_cmdq_node {
	struct cp_cmdq_node *next;
	struct toe_cpq_entry e;
	uint8_t data[];
};

void cp_cmdq_init(struct cp_cmdq *q, struct toe_cpq_hdr *hdr, int kick_fd, uint64_t *dropped)
{
	*q = (struct cp_cmdq){
		.hdr = hdr,
		.ring = toe_cpq_down(hdr),
		.kick_fd = kick_fd,
		.frames_dropped = dropped,
	};
}

static bool to_ring(struct cp_cmdq *q, const struct toe_cpq_entry *e, const void *data)
{
	struct toe_cpq_entry *slot = toe_cpq_reserve(&q->ring);

	if (!slot)
		return false;
	*slot = *e;
	if (e->len)
		memcpy(toe_cpq_data(slot), data, e->len);
	toe_cpq_publish(&q->ring);
	q->published = true;
	return true;
}

void cp_cmdq_put(struct cp_cmdq *q, const struct toe_cpq_entry *e, const void *data)
{
	bool frame = e->type == TOE_CMD_FRAME_TX || e->type == TOE_CMD_FRAME_RX ||
		     e->type == TOE_CMD_FRAME_TAP;
	struct cp_cmdq_node *n;

	if (e->len > toe_cpq_data_max(&q->ring) || (frame && q->waiting >= FRAMES_WAIT_MAX)) {
		TOE_CHECK(frame);
		(*q->frames_dropped)++;
		return;
	}
	if (!q->waiting && to_ring(q, e, data))
		return;
	n = malloc(sizeof(*n) + e->len);
	TOE_CHECK(n); /* a lost state command could not be made up for: better start again */
	n->next = NULL;
	n->e = *e;
	if (e->len)
		memcpy(n->data, data, e->len);
	if (q->tail)
		q->tail->next = n;
	else
		q->head = n;
	q->tail = n;
	q->waiting++;
}

bool cp_cmdq_flush(struct cp_cmdq *q)
{
	while (q->head && to_ring(q, &q->head->e, q->head->data)) {
		struct cp_cmdq_node *n = q->head;

		q->head = n->next;
		if (!q->head)
			q->tail = NULL;
		q->waiting--;
		free(n);
	}
	if (q->published) {
		q->published = false;
		/* Dekker with the ctrl stage: it sets down_asleep, fences, looks at the ring */
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (__atomic_load_n(&q->hdr->down_asleep, __ATOMIC_RELAXED) &&
		    send(q->kick_fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno != EAGAIN)
			LOG_DEBUG("kick: %s", strerror(errno));
	}
	return !q->waiting;
}
