/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ctrl: the control-plane queue, both directions.  One instance.
 *
 * Input: commands (ctrl_cmd.c); frames with verdict TO_CTRL and items with TOE_TODO_CTRL.  Output:
 * events (ctrl_event.c).  Owns the flow table and the port table, which only its commands change.
 * Sleeps by the flag-fence-recheck rule of toe/cpq.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <rte_cycles.h>

#include "common/log.h"
#include "ctrl.h"
#include "pipeline.h"

#define COMMANDS_MAX 64u /* per poll */
/* INSTALLED, ACCEPT_FULL, ACTIVE, RESET, CLOSED, REMOVED: each at most once outstanding */
#define NOTES_PER_CONN 8u
#define NAP_US         200u
#define KICKS_MAX      64

static void raise_item(struct toe_stage *s, const struct toe_work *w)
{
	struct ctrl *p = s->priv;
	struct toe_cpq_entry entry = {
		.type = w->snap.event, .conn = w->conn, .gen = w->gen, .cookie = w->cookie};
	struct toe_ev_conn ev = {0};

	if (w->snap.event == 0)
		return;
	if (w->conn < s->engine->conn_n) {
		struct ctrl_conn *conn = &p->conns[w->conn];

		ctrl_fill_ev(s, w->conn, &ev);
		if (entry.type == TOE_EV_REMOVED && conn->removing && conn->gen == w->gen)
			conn->removing = false;
	}
	/* ctxq found the accept ring full: two answers to one INSTALL */
	if (entry.type == TOE_EV_ACCEPT_FULL && w->type == TOE_WORK_CTRL &&
	    w->cmd == TOE_CMD_INSTALL) {
		entry.type = TOE_EV_INSTALLED;
		ctrl_raise(s, &entry, &ev);
		entry.type = TOE_EV_ACCEPT_FULL;
	}
	ctrl_raise(s, &entry, &ev);
}

static void ctrl_process(struct toe_stage *s, struct toe_work **items, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct toe_work *w = items[i];

		if (w->verdict == TOE_TO_CTRL && w->mbuf != NULL)
			ctrl_frame(s, w->mbuf);
		if (w->todo & TOE_TODO_CTRL)
			raise_item(s, w);
		w->todo &= (uint8_t)~TOE_TODO_CTRL;
		toe_emit_next(s, w);
	}
	ctrl_kick(s);
}

static unsigned ctrl_poll(struct toe_stage *s, unsigned budget)
{
	unsigned n = ctrl_flush_notes(s);

	n += ctrl_commands(s, budget < COMMANDS_MAX ? budget : COMMANDS_MAX);
	n += ctrl_dump(s);
	ctrl_kick(s);
	return n;
}

/* Nobody says when a full event ring has room again, or when an item is free. */
static uint64_t ctrl_deadline(struct toe_stage *s)
{
	const struct ctrl *p = s->priv;

	if (p->note_head == p->note_tail && !p->dumping && !p->starved)
		return UINT64_MAX;
	return toe_now(s)->tsc + p->nap_ticks;
}

static void drain_kicks(struct toe_stage *s)
{
	char byte[KICKS_MAX];
	ssize_t n;

	/* One message per kick on a SEQPACKET socket; bounded, the rest is taken next time. */
	for (unsigned i = 0; i < KICKS_MAX; i++) {
		n = recv(s->engine->cpq_kick_fd, byte, sizeof(byte), MSG_DONTWAIT);
		if (n > 0)
			continue;
		if (n == 0 || (errno != EAGAIN && errno != EINTR))
			toe_pipeline_unwatch(s->engine->pipeline, TOE_STAGE_CTRL,
					     s->engine->cpq_kick_fd);
		return;
	}
}

static bool ctrl_sleep(struct toe_stage *s, bool on)
{
	const struct ctrl *p = s->priv;
	struct toe_cpq_hdr *cpq = s->engine->cpq;

	__atomic_store_n(&cpq->down_asleep, on, __ATOMIC_RELAXED);
	if (!on) {
		drain_kicks(s);
		return false;
	}
	/* pairs with the control plane: publishes a command, fence, reads down_asleep */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return !p->starved && toe_cpq_peek(&p->down) != NULL;
}

static void ctrl_fini(struct toe_stage *s)
{
	struct ctrl *p = s->priv;

	if (p == NULL)
		return;
	free(p->conns);
	free(p->notes);
	free(p);
	s->priv = NULL;
}

static int ctrl_init(struct toe_stage *s)
{
	const struct toe_engine *e = s->engine;
	struct ctrl *p = calloc(1, sizeof(*p));
	uint32_t notes = 64;
	int rc = -ENOMEM;

	if (p == NULL)
		return rc;
	s->priv = p;
	while (notes < e->conn_n * NOTES_PER_CONN)
		notes *= 2;
	p->note_mask = notes - 1;
	p->down = toe_cpq_down(e->cpq);
	p->up = toe_cpq_up(e->cpq);
	p->nap_ticks = rte_get_tsc_hz() / 1000000u * NAP_US;
	p->conns = calloc(e->conn_n, sizeof(*p->conns));
	p->notes = calloc(notes, sizeof(*p->notes));
	if (p->conns != NULL && p->notes != NULL)
		rc = e->pipeline != NULL
			     ? toe_pipeline_watch(e->pipeline, TOE_STAGE_CTRL, e->cpq_kick_fd)
			     : 0;
	if (rc != 0)
		ctrl_fini(s);
	return rc;
}

const struct toe_stage_ops toe_stage_ctrl = {
	.id = TOE_STAGE_CTRL,
	.name = "ctrl",
	.next_mask = 1u << TOE_STAGE_SEQ | 1u << TOE_STAGE_STREAM | 1u << TOE_STAGE_CTXQ |
		     1u << TOE_STAGE_NETIF_TX | 1u << TOE_STAGE_EXCEPTION,
	.init = ctrl_init,
	.fini = ctrl_fini,
	.process = ctrl_process,
	.poll = ctrl_poll,
	.deadline = ctrl_deadline,
	.sleep = ctrl_sleep,
};
