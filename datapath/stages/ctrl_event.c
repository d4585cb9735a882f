/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ctrl, upwards: events for the control plane.
 *
 * Input: frames without an owner, items with TOE_TODO_CTRL, DUMP.  Output: entries of the event
 * ring.  A frame that finds the ring full is dropped (TCP repeats it); an event of a connection is
 * kept in a FIFO that has room for every event all connections can have outstanding.
 */
#include <string.h>
#include <sys/socket.h>

#include <rte_mbuf.h>

#include "common/log.h"
#include "ctrl.h"
#include "netif_parse.h"

#define DUMP_EVENTS 32u
#define DUMP_SCAN   1024u

void ctrl_fill_ev(const struct toe_stage *s, uint32_t conn, struct toe_ev_conn *ev)
{
	const struct ctrl *p = s->priv;
	const struct toe_engine *e = s->engine;
	const struct toe_flow_prog *prog = &e->prog[conn];

	*ev = (struct toe_ev_conn){
		.app_id = p->conns[conn].app_id,
		.slot = p->conns[conn].slot,
		.snd_nxt = __atomic_load_n(&prog->snd_nxt, __ATOMIC_RELAXED),
		.snd_una = __atomic_load_n(&prog->snd_una, __ATOMIC_RELAXED),
		.rcv_nxt = __atomic_load_n(&prog->rcv_nxt, __ATOMIC_RELAXED),
		/* for TIME-WAIT: proto leaves it alone after REMOVE */
		.ts_recent = __atomic_load_n(&e->flow_proto[conn].ts_recent, __ATOMIC_RELAXED),
		.flags = __atomic_load_n(&prog->flags, __ATOMIC_RELAXED),
	};
}

static bool publish(struct toe_stage *s, const struct toe_cpq_entry *entry,
		    const struct toe_ev_conn *ev)
{
	struct ctrl *p = s->priv;
	struct toe_cpq_entry *to = toe_cpq_reserve(&p->up);

	if (to == NULL)
		return false;
	*to = *entry;
	to->len = sizeof(*ev);
	memcpy(toe_cpq_data(to), ev, sizeof(*ev));
	toe_cpq_publish(&p->up);
	p->published = true;
	toe_count(s, TOE_C_EVENTS, 1);
	return true;
}

void ctrl_raise(struct toe_stage *s, const struct toe_cpq_entry *entry,
		const struct toe_ev_conn *ev)
{
	struct ctrl *p = s->priv;
	struct ctrl_note *note;

	if (p->note_head == p->note_tail && publish(s, entry, ev))
		return;
	if (p->note_tail - p->note_head > p->note_mask) {
		s->drops[TOE_D_CPQ_FULL]++;
		return;
	}
	note = &p->notes[p->note_tail++ & p->note_mask];
	note->entry = *entry;
	note->ev = *ev;
}

unsigned ctrl_flush_notes(struct toe_stage *s)
{
	struct ctrl *p = s->priv;
	unsigned n = 0;

	while (p->note_head != p->note_tail) {
		const struct ctrl_note *note = &p->notes[p->note_head & p->note_mask];

		if (!publish(s, &note->entry, &note->ev))
			break;
		p->note_head++;
		n++;
	}
	return n;
}

static uint16_t frame_event(const struct rte_mbuf *m)
{
	struct netif_key key;

	return netif_parse(rte_pktmbuf_mtod(m, const uint8_t *), m->data_len, &key) ==
			       NETIF_ICMP_TCP
		       ? TOE_EV_ICMP
		       : TOE_EV_FRAME;
}

void ctrl_frame(struct toe_stage *s, const struct rte_mbuf *m)
{
	struct ctrl *p = s->priv;
	struct toe_cpq_entry *to = NULL;

	/* not past an event that waits: the control plane relies on their order */
	if (p->note_head == p->note_tail && m->pkt_len <= toe_cpq_data_max(&p->up))
		to = toe_cpq_reserve(&p->up);
	if (to == NULL) {
		s->drops[TOE_D_CPQ_FULL]++;
		return;
	}
	*to = (struct toe_cpq_entry){
		.type = frame_event(m), .len = (uint16_t)m->pkt_len, .conn = TOE_NONE};
	for (uint32_t at = 0; m != NULL; at += m->data_len, m = m->next)
		memcpy((uint8_t *)toe_cpq_data(to) + at, rte_pktmbuf_mtod(m, const void *),
		       m->data_len);
	toe_cpq_publish(&p->up);
	p->published = true;
	toe_count(s, TOE_C_EVENTS, 1);
}

/* A part of a dump: as much as the ring takes, bounded. */
unsigned ctrl_dump(struct toe_stage *s)
{
	struct ctrl *p = s->priv;
	const struct toe_engine *e = s->engine;
	struct toe_cpq_entry entry = {.type = TOE_EV_DUMP, .cookie = p->dump_cookie};
	struct toe_ev_conn ev = {0};
	unsigned events = 0;
	unsigned looked = 0;

	if (!p->dumping || p->note_head != p->note_tail)
		return 0;
	for (; looked < DUMP_SCAN && events < DUMP_EVENTS && p->dump_next < e->conn_n; looked++) {
		uint32_t conn = p->dump_next;

		/* one that is being removed may wait for its application */
		if (p->conns[conn].installed || p->conns[conn].removing) {
			entry.conn = conn;
			entry.gen = p->conns[conn].gen;
			ctrl_fill_ev(s, conn, &ev);
			if (!publish(s, &entry, &ev))
				return looked;
			events++;
		}
		p->dump_next++;
	}
	if (p->dump_next < e->conn_n)
		return looked;
	entry.conn = TOE_NONE;
	entry.gen = 0;
	memset(&ev, 0, sizeof(ev));
	if (publish(s, &entry, &ev)) {
		p->dumping = false;
		looked++;
	}
	return looked;
}

void ctrl_kick(struct toe_stage *s)
{
	struct ctrl *p = s->priv;
	const struct toe_engine *e = s->engine;

	if (!p->published)
		return;
	p->published = false;
	/* pairs with the control plane: sets up_asleep, fence, looks at its ring */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (__atomic_load_n(&e->cpq->up_asleep, __ATOMIC_RELAXED) == 0)
		return;
	/* a full socket has bytes in it already; a dead control plane finds the ring later */
	if (send(e->cpq_kick_fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1)
		toe_count(s, TOE_C_WAKEUPS, 1);
}
