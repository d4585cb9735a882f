/* SPDX-License-Identifier: BSD-3-Clause */
/* Inside of the ctrl stage: ctrl.c (contract, sleep), ctrl_cmd.c (commands), ctrl_event.c (events).
 */
#ifndef TOE_CTRL_H
#define TOE_CTRL_H

#include "common/cpq_ring.h"
#include "common/flow_hash.h"
#include "engine.h"
#include "stage.h"
#include "toe/region.h"

/* What ctrl must remember of an installed connection. */
struct ctrl_conn {
	uint32_t gen; /* of the last one on this id */
	uint32_t slot;
	uint32_t plain_of; /* serial of the application in whose plain_conns it is, 0: in none */
	int32_t flow;      /* its place in the flow table, with installed */
	uint8_t app_id;
	bool installed; /* in the flow table */
	bool removing;  /* REMOVE is on its way, REMOVED not raised yet */
	bool streamed;  /* a stream module owns its byte streams */
};
TOE_ASSERT_SIZE(struct ctrl_conn, 20);

static inline bool ctrl_is(const struct ctrl_conn *conn, uint32_t gen)
{
	return conn->installed && conn->gen == gen;
}

/* An event that found the ring full. */
struct ctrl_note {
	struct toe_cpq_entry entry;
	struct toe_ev_conn ev;
};

struct ctrl {
	struct toe_cpq_ring down;
	struct toe_cpq_ring up;
	struct ctrl_conn *conns; /* [conn_n] */
	/* FIFO of events that must not be lost */
	struct ctrl_note *notes;
	uint32_t note_mask;
	uint32_t note_head;
	uint32_t note_tail;
	/* DUMP in progress */
	bool dumping;
	uint32_t dump_next;
	uint32_t dump_cookie;
	bool published;     /* something since the last kick */
	bool starved;       /* the oldest command waits for an item or a packet buffer */
	uint64_t nap_ticks; /* between attempts when the other side's ring is full */
};

/* ctrl_cmd.c: up to budget commands. */
unsigned ctrl_commands(struct toe_stage *s, unsigned budget);

/* ctrl_event.c */
/* Raises an event of a connection, now or as soon as there is room. */
void ctrl_raise(struct toe_stage *s, const struct toe_cpq_entry *entry,
		const struct toe_ev_conn *ev);
void ctrl_fill_ev(const struct toe_stage *s, uint32_t conn, struct toe_ev_conn *ev);
void ctrl_frame(struct toe_stage *s, const struct rte_mbuf *m);
unsigned ctrl_flush_notes(struct toe_stage *s);
unsigned ctrl_dump(struct toe_stage *s);
/* One byte to a sleeping control plane, if anything was published. */
void ctrl_kick(struct toe_stage *s);

#endif
