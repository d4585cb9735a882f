/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Protocol stage: the TCP machine of established connections (paper §3.1).
 *
 * Inputs: RX, TX, HC and CTRL items of its flow-groups, admitted in order by reorder.  Outputs:
 * numbered items with a snapshot to post; segments without a connection to ctrl.  Owns: flow_proto,
 * flow_post and flow_addr6 (at INSTALL/NEIGH), toe_flow_prog and the out_seq counters of its
 * flow-groups; at INSTALL it begins toe_flow_stat anew, which is post's otherwise.  Thread: its
 * lcore; instances share nothing, as a connection belongs to one flow-group and that to one
 * instance.  The machine itself is in proto_*.c, free of all this.
 */
#include "proto.h"

#include <errno.h>
#include <stdlib.h>

#include <rte_cycles.h>
#include <rte_prefetch.h>

#include "common/log.h"
#include "delack.h"
#include "engine.h"

#define PROTO_ACK_EVERY 4u /* at least each fourth deferrable ACK of a burst is sent */

struct proto_priv {
	uint32_t *out_seq; /* next number, by flow-group */
	struct toe_delack delack;
	struct toe_rack_pool racks;
	struct toe_scoreboards scoreboards;
	struct toe_scoreboard *scoreboard_mem;
};

enum proto_fate { PROTO_KEEP, PROTO_FREE, PROTO_GIVE_CTRL };

/* An item whose connection is gone, or its id already someone else's. */
static enum proto_fate proto_stale(struct toe_stage *s, struct toe_work *w)
{
	memset(&w->snap, 0, sizeof(w->snap));
	switch (w->type) {
	case TOE_WORK_RX: /* the control plane knows what was there, or what will be */
		w->verdict = TOE_TO_CTRL;
		return PROTO_GIVE_CTRL;
	case TOE_WORK_TX: /* sched counts its items and waits for this one */
		toe_drop(s, w, TOE_D_STALE);
		w->todo = TOE_TODO_SCHED;
		return PROTO_KEEP;
	case TOE_WORK_CTRL:
		if (w->cmd == TOE_CMD_REMOVE) {
			/* A restarted control plane removes what it is not sure about and waits
			 * for the answer.  ctxq and sched must not see it: the id may live on. */
			w->snap.event = TOE_EV_REMOVED;
			w->todo = TOE_TODO_CTRL;
			return PROTO_KEEP;
		}
		break;
	default:
		break;
	}
	toe_drop(s, w, TOE_D_STALE);
	return PROTO_FREE;
}

static void proto_begin(struct toe_stage *s, struct toe_work *w, struct proto_out *out)
{
	struct proto_priv *p = s->priv;

	proto_out_init(out, &w->snap);
	out->racks = &p->racks;
	out->scoreboards = &p->scoreboards;
	out->now_ms = toe_now(s)->ms;
	out->conn = w->conn;
	out->post = &s->engine->flow_post[w->conn];
	out->addr6 = &s->engine->flow_addr6[w->conn];
}

/* What the id was used for before is not this connection's.  post has nothing of that left: its
 * REMOVE has been through all stages. */
static void proto_count_anew(const struct toe_engine *e, const struct toe_work *w)
{
	if (w->type == TOE_WORK_CTRL && w->cmd == TOE_CMD_INSTALL &&
	    !proto_is(&e->flow_proto[w->conn], TOE_FP_VALID))
		memset(&e->stat[(size_t)w->conn * TOE_FLOW_STAT_REPLICAS], 0,
		       TOE_FLOW_STAT_REPLICAS * sizeof(*e->stat));
}

static void proto_count(struct toe_stage *s, const struct proto_out *out)
{
	for (uint64_t m = out->counted; m != 0; m &= m - 1)
		toe_count(s, (enum toe_counter)__builtin_ctzll(m), 1);
}

static void proto_run(struct toe_stage *s, struct toe_work *w, struct proto_out *out)
{
	struct toe_engine *e = s->engine;
	struct toe_flow_proto *fp = &e->flow_proto[w->conn];
	const struct toe_clock *now = toe_now(s);

	proto_begin(s, w, out);
	switch (w->type) {
	case TOE_WORK_RX:
		proto_rx(fp, &w->seg, now, out);
		break;
	case TOE_WORK_TX:
		proto_tx(fp, now, out);
		break;
	case TOE_WORK_HC:
		if (w->cmd == TOE_HC_ABORT)
			proto_abort(fp, out);
		else
			proto_hc(fp, &w->hc, now, out);
		break;
	default:
		proto_ctrl(fp, toe_work_ctrl(w), now, out);
		break;
	}
	proto_publish(fp, &e->prog[w->conn]);
}

/*
 * The ACK of a small segment may wait for the answer, if the connection is one that answers and
 * nothing is owed yet: so at least every second segment is acknowledged at once.  Not while CE
 * marks arrive, whose ACKs must be exact (RFC 8257 §3.2).  last_ack: Last.ACK.sent before the
 * item.  It stays, so that the ACK echoes the timestamp of the segment that has waited
 * longest (RFC 7323 §4.3).
 */
static bool proto_delay_ack(struct toe_stage *s, struct toe_work *w, bool owed, uint32_t last_ack)
{
	struct toe_flow_proto *fp = &s->engine->flow_proto[w->conn];
	struct proto_priv *p = s->priv;
	uint32_t due = toe_now(s)->ms + PROTO_DELACK_MS;

	if (owed || fp->pingpong < PROTO_PINGPONG || w->seg.payload_len >= fp->mss ||
	    proto_is(fp, TOE_FP_CE))
		return false;
	due += (uint16_t)due == 0;
	if (!toe_delack_push(&p->delack, (struct toe_delack_entry){w->conn, w->gen, due}))
		return false;
	fp->ack_due = (uint16_t)due;
	fp->last_ack_sent = last_ack;
	w->todo &= (uint8_t)~TOE_TODO_TX;
	return true;
}

static enum proto_fate proto_item(struct toe_stage *s, struct toe_work *w, uint8_t *defer)
{
	const struct toe_engine *e = s->engine;
	struct proto_out out;
	uint32_t last_ack;
	bool owed;

	*defer = 0;
	if (w->conn >= e->conn_n)
		return proto_stale(s, w);
	if (!(w->type == TOE_WORK_CTRL && w->cmd == TOE_CMD_INSTALL) &&
	    (!proto_is(&e->flow_proto[w->conn], TOE_FP_VALID) ||
	     e->flow_proto[w->conn].gen != w->gen))
		return proto_stale(s, w);

	proto_count_anew(e, w);
	owed = e->flow_proto[w->conn].ack_due != 0;
	last_ack = e->flow_proto[w->conn].last_ack_sent;
	proto_run(s, w, &out);
	if (out.ack_defer) /* counted if it is sent: behind the burst, or by proto_pay() */
		out.counted &= ~(1ull << TOE_C_SEGS_ACK_TX);
	proto_count(s, &out);
	if (out.drop != TOE_D_NONE)
		s->drops[out.drop]++;
	w->verdict = out.verdict;
	w->drop = out.verdict == TOE_NOTHING ? out.drop : TOE_D_NONE;
	w->todo = out.todo;
	*defer = out.ack_defer && !proto_delay_ack(s, w, owed, last_ack);
	/* What has no number yet may disappear.  A received segment that was processed goes on even
	 * with nothing left to do: post counts it, and its payload is still to be moved. */
	if (w->todo == 0 && (w->verdict == TOE_NOTHING || w->type != TOE_WORK_RX))
		return PROTO_FREE;
	if (proto_is(&e->flow_proto[w->conn], TOE_FP_STREAM))
		w->todo |= TOE_TODO_STREAM;
	return PROTO_KEEP;
}

/* Index of the next segment of items[i]'s connection; n: there is none. */
static unsigned proto_next_of_conn(struct toe_work *const *items, unsigned i, unsigned n)
{
	unsigned j = i + 1;

	while (j < n && (items[j]->type != TOE_WORK_RX || items[j]->conn != items[i]->conn))
		j++;
	return j;
}

/* What acknowledges in place of items[i]: the first that sends, items[next] at the latest. */
static struct toe_work *proto_sends_instead(struct toe_work *const *items, unsigned i,
					    unsigned next)
{
	unsigned j = i + 1;

	while (j < next && (items[j]->conn != items[i]->conn || !(items[j]->todo & TOE_TODO_TX)))
		j++;
	return items[j];
}

/*
 * ACK thinning inside one burst: clears TOE_TODO_TX on a deferrable ACK (defer[i]) if the next RX
 * item of the same connection in the burst also carries a deferrable one with the same ECE, but
 * leaves at least every fourth.  What acknowledges in its place echoes its timestamp, the older one
 * (RFC 7323 section 4.3).  items[0..n) are in order, n <= TOE_BURST.  Returns how many of the
 * deferrable ones are sent.
 */
static unsigned proto_thin_acks(struct toe_work *const *items, const uint8_t *defer, unsigned n)
{
	unsigned sent = 0;
	uint8_t held[TOE_BURST] = {0}; /* deferrable ACKs left out right before item i */

	for (unsigned i = 0; i < n; i++) {
		unsigned next = n;

		if (!defer[i])
			continue;
		if (held[i] + 1u < PROTO_ACK_EVERY)
			next = proto_next_of_conn(items, i, n);
		if (next == n || !defer[next] ||
		    ((items[next]->snap.flags ^ items[i]->snap.flags) & RTE_TCP_ECE_FLAG)) {
			sent++;
			continue;
		}
		items[i]->todo &= (uint8_t)~TOE_TODO_TX;
		proto_sends_instead(items, i, next)->snap.ts_ecr = items[i]->snap.ts_ecr;
		held[next] = held[i] + 1;
	}
	return sent;
}

static void proto_prefetch(const struct toe_stage *s, const struct toe_work *w)
{
	const struct toe_engine *e = s->engine;

	if (w->conn < e->conn_n) {
		const struct toe_flow_proto *fp = &e->flow_proto[w->conn];

		rte_prefetch0(&fp->flags);
		rte_prefetch0(&fp->sb);
		rte_prefetch0(&e->prog[w->conn]);
	}
}

static void proto_process(struct toe_stage *s, struct toe_work **items, unsigned n)
{
	struct proto_priv *p = s->priv;
	uint8_t defer[TOE_BURST] = {0};
	unsigned k = 0; /* items kept, moved to the front */

	for (unsigned i = 0; i < n; i++)
		proto_prefetch(s, items[i]);
	for (unsigned i = 0; i < n; i++) {
		struct toe_work *w = items[i];

		switch (proto_item(s, w, &defer[k])) {
		case PROTO_KEEP:
			w->out_seq = p->out_seq[w->fg]++;
			w->snap.ts_ms = toe_now(s)->ms;
			items[k++] = w;
			break;
		case PROTO_GIVE_CTRL:
			toe_emit(s, TOE_STAGE_CTRL, w);
			break;
		case PROTO_FREE:
			toe_work_free(s, w);
			break;
		}
	}
	toe_count(s, TOE_C_SEGS_ACK_TX, proto_thin_acks(items, defer, k));
	for (unsigned i = 0; i < k; i++)
		toe_emit(s, TOE_STAGE_POST, items[i]);
}

/* The oldest delayed ACK that is still owed; reminders that were overtaken are dropped. */
static const struct toe_delack_entry *proto_owed(struct toe_stage *s)
{
	const struct toe_engine *e = s->engine;
	struct toe_delack *q = &((struct proto_priv *)s->priv)->delack;
	const struct toe_delack_entry *d;

	while ((d = toe_delack_peek(q)) != NULL) {
		const struct toe_flow_proto *fp = &e->flow_proto[d->conn];

		if (proto_is(fp, TOE_FP_VALID) && !proto_is(fp, TOE_FP_RESET) &&
		    fp->gen == d->gen && fp->ack_due == (uint16_t)d->due_ms)
			break;
		toe_delack_pop(q);
	}
	return d;
}

/* An item of our own, for a connection whose timer has gone off; NULL: none is left. */
static struct toe_work *proto_own_item(struct toe_stage *s, uint32_t conn, struct proto_out *out)
{
	const struct toe_engine *e = s->engine;
	struct toe_work *w = toe_work_alloc(s, TOE_WORK_HC);

	if (w == NULL) {
		s->drops[TOE_D_NO_ITEM]++;
		return NULL;
	}
	w->conn = conn;
	w->gen = e->flow_proto[conn].gen;
	w->fg = (uint16_t)(conn % e->flow_group_n);
	proto_begin(s, w, out);
	return w;
}

static void proto_own_done(struct toe_stage *s, struct toe_work *w, const struct proto_out *out)
{
	const struct toe_engine *e = s->engine;
	struct proto_priv *p = s->priv;

	proto_count(s, out);
	w->verdict = out->verdict;
	w->todo = out->todo;
	if (proto_is(&e->flow_proto[w->conn], TOE_FP_STREAM))
		w->todo |= TOE_TODO_STREAM;
	w->out_seq = p->out_seq[w->fg]++;
	w->snap.ts_ms = toe_now(s)->ms;
	toe_emit(s, TOE_STAGE_POST, w);
}

/* Nobody answered in time: the ACK goes alone, and the connection is not ping-pong any more. */
static bool proto_pay(struct toe_stage *s, const struct toe_delack_entry *d)
{
	struct toe_flow_proto *fp = &s->engine->flow_proto[d->conn];
	struct proto_out out;
	struct toe_work *w = proto_own_item(s, d->conn, &out);

	if (w == NULL)
		return false;
	fp->pingpong = 0;
	proto_reply_ack(fp, &out);
	proto_own_done(s, w, &out);
	return true;
}

/* What was overtaken has not come in time (RFC 8985 §6.2 step 5). */
static bool proto_overdue(struct toe_stage *s, struct toe_rack *r)
{
	struct toe_flow_proto *fp = &s->engine->flow_proto[r->conn];
	struct toe_rack_pool *racks = &((struct proto_priv *)s->priv)->racks;
	const struct toe_clock *now = toe_now(s);
	struct proto_out out;
	struct toe_work *w;

	TOE_ASSERT(fp->gen == r->gen && fp->rack == toe_rack_index(racks, r) + 1);
	if (proto_is(fp, TOE_FP_RESET))
		return true;
	w = proto_own_item(s, r->conn, &out);
	if (w == NULL) {
		toe_rack_timer_start(racks, r, now->us, now->us + TOE_RACK_TICK_US);
		return false;
	}
	proto_rack_timeout(fp, now, &out);
	proto_publish(fp, &s->engine->prog[r->conn]);
	proto_own_done(s, w, &out);
	return true;
}

static unsigned proto_poll(struct toe_stage *s, unsigned budget)
{
	struct proto_priv *p = s->priv;
	const struct toe_delack_entry *d;
	struct toe_rack *r;
	unsigned n = 0;

	while (n < budget && (r = toe_rack_timer_next(&p->racks, toe_now(s)->us)) != NULL) {
		if (!proto_overdue(s, r))
			break;
		n++;
	}
	while (n < budget && (d = proto_owed(s)) != NULL) {
		if ((int32_t)(toe_now(s)->ms - d->due_ms) < 0 || !proto_pay(s, d))
			break;
		toe_delack_pop(&p->delack);
		n++;
	}
	return n;
}

static uint64_t proto_deadline(struct toe_stage *s)
{
	const struct toe_delack_entry *d = proto_owed(s);
	const struct toe_clock *now = toe_now(s);
	uint64_t us = toe_rack_timer_due(&((struct proto_priv *)s->priv)->racks);
	int32_t ms;

	us = us == UINT64_MAX ? us : us > now->us ? us - now->us : 0;
	if (d != NULL) {
		ms = (int32_t)(d->due_ms - now->ms);
		us = ms <= 0 ? 0 : us < ms * 1000ull ? us : ms * 1000ull;
	}
	return us == UINT64_MAX ? us : now->tsc + us * (rte_get_tsc_hz() / 1000u) / 1000u;
}

static void proto_free(struct proto_priv *p)
{
	toe_rack_pool_fini(&p->racks);
	free(p->scoreboard_mem);
	free(p->out_seq);
	free(p);
}

static int proto_init(struct toe_stage *s)
{
	struct proto_priv *p = calloc(1, sizeof(*p));

	if (p == NULL)
		return -ENOMEM;
	p->out_seq = calloc(s->engine->flow_group_n, sizeof(*p->out_seq));
	p->scoreboard_mem = aligned_alloc(TOE_LINE, TOE_SCOREBOARD_N * sizeof(*p->scoreboard_mem));
	if (p->out_seq == NULL || p->scoreboard_mem == NULL ||
	    !toe_rack_pool_init(&p->racks, TOE_RACK_N)) {
		proto_free(p);
		return -ENOMEM;
	}
	toe_scoreboards_init(&p->scoreboards, p->scoreboard_mem, TOE_SCOREBOARD_N);
	s->priv = p;
	return 0;
}

static void proto_fini(struct toe_stage *s)
{
	if (s->priv != NULL)
		proto_free(s->priv);
	s->priv = NULL;
}

const struct toe_stage_ops toe_stage_proto = {
	.id = TOE_STAGE_PROTO,
	.name = "proto",
	.replicable = true, /* flow-group g runs on instance g % replicas */
	.next_mask = 1u << TOE_STAGE_POST | 1u << TOE_STAGE_CTRL,
	.init = proto_init,
	.fini = proto_fini,
	.process = proto_process,
	.poll = proto_poll,
	.deadline = proto_deadline,
};
