/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The pipeline: makes instances and queues from the placement, hands items over.
 *
 * On one lcore an edge is a plain FIFO of the consumer, between lcores an SP/SC rte_ring per pair
 * of (producing lcore, consumer); both can hold every work item there is, so that no hand-over
 * fails. Inputs: configuration and stage table.  State: struct toe_pipeline; each instance and its
 * port is only touched by the lcore that runs it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <rte_branch_prediction.h>
#include <rte_cycles.h>

#include "common/log.h"
#include "pipeline_priv.h"
#include "toe/region.h"
#include "tsan.h"

#define AHEAD 4u /* items */

/* ---- hand-over ---- */

static inline void fifo_put(struct toe_fifo *f, struct toe_work *w)
{
	TOE_ASSERT(f->tail - f->head <= f->mask);
	f->slots[f->tail++ & f->mask] = w;
}

static unsigned fifo_take(struct toe_fifo *f, struct toe_work **items, unsigned max)
{
	uint32_t have = f->tail - f->head;
	unsigned n = have < max ? have : max;

	for (unsigned i = 0; i < n; i++)
		items[i] = f->slots[f->head++ & f->mask];
	return n;
}

static void out_flush(struct toe_stage_port *pt, struct toe_out *o)
{
	unsigned n = rte_ring_sp_enqueue_bulk(o->ring, (void **)o->buf, o->n, NULL);

	TOE_CHECK(n == o->n); /* every ring holds all items of all pools */
	o->n = 0;
	pt->wake_mask |= UINT64_C(1) << o->lcore;
}

static unsigned choose_replica(const struct toe_stage *s, enum toe_stage_id next,
			       const struct toe_work *w)
{
	unsigned n = s->engine->pipeline->graph.replicas[next];

	if (n == 1)
		return 0;
	switch (next) {
	case TOE_STAGE_PRE:
		return w->in_seq % n;
	case TOE_STAGE_POST:
	case TOE_STAGE_DMA:
		return w->out_seq % n;
	default:
		return w->fg % n;
	}
}

static void deliver(struct toe_stage *s, enum toe_stage_id next, struct toe_work *w)
{
	struct toe_stage_port *pt = s->port;
	struct toe_out *o;

	TOE_CHECK(pt->out[next] != NULL); /* an edge that the stage's next_mask announces */
	o = &pt->out[next][choose_replica(s, next, w)];
	if (o->fifo != NULL) {
		fifo_put(o->fifo, w);
		return;
	}
	o->buf[o->n++] = w;
	pt->pending = true;
	if (o->n == TOE_OUT_BUF)
		out_flush(pt, o);
}

void toe_stage_flush(struct toe_stage *s)
{
	struct toe_pipeline *p = s->engine->pipeline;
	struct toe_stage_port *pt = s->port;
	uint64_t mask;

	if (!pt->pending)
		return;
	pt->pending = false;
	for (unsigned id = 0; id < TOE_STAGE_N; id++) {
		for (unsigned r = 0; pt->out[id] != NULL && r < p->graph.replicas[id]; r++) {
			if (pt->out[id][r].n != 0)
				out_flush(pt, &pt->out[id][r]);
		}
	}
	mask = pt->wake_mask;
	pt->wake_mask = 0;
	toe_idle_fence();
	for (; mask != 0; mask &= mask - 1)
		toe_idle_wake(&p->lcores[__builtin_ctzll(mask)].idle);
}

/* ---- fault injection ---- */

/* Lets go what has been overtaken often enough; all of it if there is nothing to wait for. */
static unsigned park_release(struct toe_stage *s, bool all)
{
	struct toe_park *k = s->port->park;
	unsigned kept = 0;
	unsigned released;

	for (unsigned i = 0; i < k->n; i++) {
		if (all || k->item[i].left == 0)
			deliver(s, k->item[i].next, k->item[i].w);
		else
			k->item[kept++] = k->item[i];
	}
	released = k->n - kept;
	k->n = kept;
	return released;
}

static void park_emit(struct toe_stage *s, enum toe_stage_id next, struct toe_work *w)
{
	struct toe_park *k = s->port->park;

	for (unsigned i = 0; i < k->n; i++)
		k->item[i].left--;
	if (++k->count % k->every == 0 && k->n < TOE_PARK_N) {
		k->item[k->n].w = w;
		k->item[k->n].next = next;
		k->item[k->n].left = 1 + k->count / k->every % 11;
		k->n++;
	} else {
		deliver(s, next, w);
	}
	park_release(s, false);
}

/* ---- stage contract (stage.h) ---- */

void toe_emit(struct toe_stage *s, enum toe_stage_id next, struct toe_work *w)
{
	if (unlikely(s->port->park != NULL))
		park_emit(s, next, w);
	else
		deliver(s, next, w);
}

/*
 * STREAM > CTXQ > SCHED > CTRL > NETIF_TX is a chain: what has something to do in a later link
 * passes CTXQ and SCHED even without business there; all items of a streamed connection pass
 * STREAM, no other does.  A short cut would let its absolutes (sendable), events and frames
 * overtake those of an item before it, which is still in the queue of an earlier link.
 */
void toe_emit_next(struct toe_stage *s, struct toe_work *w)
{
	const enum toe_stage_id at = s->ops->id;

	if (w->todo == 0)
		toe_work_free(s, w);
	else if ((w->todo & TOE_TODO_STREAM) != 0)
		toe_emit(s, TOE_STAGE_STREAM, w);
	else if ((w->todo & TOE_TODO_CTXQ) != 0 || at == TOE_STAGE_EGRESS || at == TOE_STAGE_STREAM)
		toe_emit(s, TOE_STAGE_CTXQ, w);
	else if ((w->todo & TOE_TODO_SCHED) != 0 || at == TOE_STAGE_CTXQ)
		toe_emit(s, TOE_STAGE_SCHED, w);
	else if ((w->todo & TOE_TODO_CTRL) != 0)
		toe_emit(s, TOE_STAGE_CTRL, w);
	else
		toe_emit(s, TOE_STAGE_NETIF_TX, w);
}

/* After a pause items are in no cache of the CPU.  Those to be taken soon are on their way here
 * while others are filled in. */
static void prefetch_next(struct rte_mempool *pool)
{
	const struct rte_mempool_cache *c = rte_mempool_default_cache(pool, rte_lcore_id());
	const uint8_t *w;

	if (c == NULL || c->len < AHEAD)
		return;
	w = c->objs[c->len - AHEAD];
	for (size_t i = 0; i < sizeof(struct toe_work); i += TOE_LINE)
		__builtin_prefetch(w + i, 1);
}

/* The mempool could say how many are out, but asks the caches of all lcores there could be. */
static void count_item(struct toe_stage *s, unsigned type, int by)
{
	uint32_t *n = &s->port->lc->items[type];

	__atomic_store_n(n, *n + (uint32_t)by, __ATOMIC_RELAXED);
}

struct toe_work *toe_work_alloc(struct toe_stage *s, enum toe_work_type type)
{
	void *obj;
	struct toe_work *w;

	if (rte_mempool_get(s->engine->work_pool[type], &obj) != 0)
		return NULL;
	prefetch_next(s->engine->work_pool[type]);
	w = obj;
	count_item(s, type, 1);
	TOE_TSAN_TAKE(w);
	memset(w, 0, TOE_LINE);
	w->type = (uint8_t)type;
	w->conn = TOE_NONE;
	w->tsc = s->port->lc->clock.tsc;
	return w;
}

void toe_work_free(struct toe_stage *s, struct toe_work *w)
{
	struct rte_mempool *pool;

	if (w->tx_mbuf != NULL && w->tx_mbuf != w->mbuf)
		rte_pktmbuf_free(w->tx_mbuf);
	if (w->mbuf != NULL)
		rte_pktmbuf_free(w->mbuf);
	pool = s->engine->work_pool[w->type];
	count_item(s, w->type, -1);
	TOE_TSAN_GIVE(w);
	rte_mempool_put(pool, w);
}

/* Exact for what this lcore took and freed; of the others' a moment old. */
unsigned toe_work_in_use(const struct toe_stage *s, enum toe_work_type type)
{
	const struct toe_pipeline *p = s->engine->pipeline;
	uint32_t n = 0;

	for (unsigned i = 0; i < p->graph.lcore_n; i++)
		n += __atomic_load_n(&p->lcores[i].items[type], __ATOMIC_RELAXED);
	return (int32_t)n > 0 ? n : 0;
}

const struct toe_clock *toe_now(const struct toe_stage *s)
{
	return &s->port->lc->clock;
}

/* ---- one turn of an instance ---- */

static unsigned take_from(struct toe_stage_port *pt, unsigned source, struct toe_work **items,
			  unsigned max)
{
	if (source == 0)
		return fifo_take(&pt->fifo, items, max);
	return rte_ring_sc_dequeue_burst(pt->rings[source - 1], (void **)items, max, NULL);
}

static unsigned port_input(struct toe_stage *s, unsigned budget)
{
	struct toe_stage_port *pt = s->port;
	struct toe_work *items[TOE_BURST];
	unsigned sources = pt->ring_n + 1;
	unsigned done = 0;

	for (unsigned k = 0; k < sources && done < budget; k++) {
		unsigned n;

		do {
			unsigned room = budget - done;

			n = take_from(pt, pt->source, items, room < TOE_BURST ? room : TOE_BURST);
			if (n != 0)
				s->ops->process(s, items, n);
			done += n;
		} while (n == TOE_BURST && done < budget);
		if (++pt->source == sources)
			pt->source = 0;
	}
	return done;
}

unsigned toe_stage_poll(struct toe_stage *s, unsigned budget)
{
	struct toe_lcore *lc = s->port->lc;
	unsigned n = port_input(s, budget);
	uint64_t now;

	s->counters[TOE_C_ITEMS_IN] += n;
	if (s->ops->poll != NULL)
		n += s->ops->poll(s, budget);
	if (unlikely(s->port->park != NULL) && n == 0)
		n = park_release(s, true);
	toe_stage_flush(s);
	if (n == 0)
		return 0;
	/* Idle polls before this one are charged here too: cheaper than reading the TSC for them.
	 */
	now = rte_rdtsc();
	s->cycles += now - lc->mark;
	s->items += n;
	lc->mark = now;
	return n;
}

static bool has_input(const struct toe_stage *s)
{
	const struct toe_stage_port *pt = s->port;

	if (pt->fifo.tail != pt->fifo.head)
		return true;
	for (unsigned i = 0; i < pt->ring_n; i++) {
		if (!rte_ring_empty(pt->rings[i]))
			return true;
	}
	return false;
}

bool toe_lcore_has_input(const struct toe_lcore *lc)
{
	for (unsigned i = 0; i < lc->stage_n; i++) {
		if (has_input(lc->stages[i]))
			return true;
	}
	return false;
}

bool toe_more_waits(const struct toe_stage *s)
{
	return toe_lcore_has_input(s->port->lc);
}

/* ---- construction ---- */

static void *alloc_lines(size_t bytes)
{
	size_t size = RTE_ALIGN_CEIL(bytes, TOE_LINE);
	void *p = aligned_alloc(TOE_LINE, size == 0 ? TOE_LINE : size);

	if (p != NULL)
		memset(p, 0, size);
	return p;
}

static struct rte_ring *make_ring(uint32_t items, unsigned consumer, unsigned lcore)
{
	unsigned count = rte_align32pow2(items + 1); /* one slot of a ring stays empty */
	struct rte_ring *r = aligned_alloc(
		RTE_CACHE_LINE_SIZE,
		RTE_ALIGN_CEIL((size_t)rte_ring_get_memsize(count), RTE_CACHE_LINE_SIZE));
	char name[RTE_RING_NAMESIZE];

	snprintf(name, sizeof(name), "toe_%u_%u", consumer, lcore);
	if (r != NULL && rte_ring_init(r, name, count, RING_F_SP_ENQ | RING_F_SC_DEQ) != 0) {
		free(r);
		return NULL;
	}
	return r;
}

/* True if an instance on that lcore has an edge to stage id. */
static bool lcore_produces(const struct toe_graph *g, unsigned lcore, enum toe_stage_id id)
{
	const struct toe_graph_lcore *lc = &g->lcores[lcore];

	for (unsigned i = 0; i < lc->inst_n; i++) {
		if ((toe_stage_table[g->inst[lc->inst[i]].id]->next_mask & 1u << id) != 0)
			return true;
	}
	return false;
}

static int make_inputs(struct toe_pipeline *p, unsigned inst)
{
	const struct toe_graph *g = &p->graph;
	const struct toe_graph_inst *in = &g->inst[inst];
	struct toe_stage_port *pt = &p->ports[inst];
	uint32_t items = toe_pipeline_items(p->engine->cfg);

	pt->lc = &p->lcores[in->lcore];
	for (unsigned l = 0; l < g->lcore_n; l++) {
		if (!lcore_produces(g, l, in->id))
			continue;
		if (l == in->lcore) {
			uint32_t size = rte_align32pow2(items);

			pt->fifo.mask = size - 1;
			pt->fifo.slots = alloc_lines(size * sizeof(*pt->fifo.slots));
			if (pt->fifo.slots == NULL)
				return -ENOMEM;
		} else {
			struct rte_ring *r = make_ring(items, inst, l);

			if (r == NULL)
				return -ENOMEM;
			TOE_CHECK(rte_ring_get_capacity(r) >= items);
			p->rings[inst * g->lcore_n + l] = r;
			pt->rings[pt->ring_n++] = r;
		}
	}
	return 0;
}

static int make_outputs(struct toe_pipeline *p, unsigned inst)
{
	const struct toe_graph *g = &p->graph;
	const struct toe_graph_inst *in = &g->inst[inst];
	struct toe_stage_port *pt = &p->ports[inst];

	for (unsigned id = 0; id < TOE_STAGE_N; id++) {
		if ((toe_stage_table[in->id]->next_mask & 1u << id) == 0)
			continue;
		pt->out[id] = alloc_lines(g->replicas[id] * sizeof(struct toe_out));
		if (pt->out[id] == NULL)
			return -ENOMEM;
		for (unsigned r = 0; r < g->replicas[id]; r++) {
			unsigned to = g->first[id] + r;
			struct toe_out *o = &pt->out[id][r];

			o->lcore = g->inst[to].lcore;
			if (o->lcore == in->lcore)
				o->fifo = &p->ports[to].fifo;
			else
				o->ring = p->rings[to * g->lcore_n + in->lcore];
		}
	}
	if (p->engine->cfg->reorder_inject != 0 &&
	    (in->id == TOE_STAGE_PRE || in->id == TOE_STAGE_POST)) {
		pt->park = alloc_lines(sizeof(*pt->park));
		if (pt->park == NULL)
			return -ENOMEM;
		pt->park->every = p->engine->cfg->reorder_inject;
	}
	return 0;
}

static int make_stage(struct toe_pipeline *p, unsigned inst)
{
	const struct toe_graph_inst *in = &p->graph.inst[inst];
	struct toe_stage *s = &p->stages[inst];

	s->ops = toe_stage_table[in->id];
	s->engine = p->engine;
	s->replica = in->replica;
	s->replicas = p->graph.replicas[in->id];
	s->lcore = in->lcore;
	s->port = &p->ports[inst];
	s->counters = alloc_lines(TOE_C_N * sizeof(uint64_t));
	s->drops = alloc_lines(TOE_D_N * sizeof(uint64_t));
	if (s->counters == NULL || s->drops == NULL)
		return -ENOMEM;
	p->lcores[in->lcore].stages[p->lcores[in->lcore].stage_n++] = s;
	return make_inputs(p, inst);
}

static int make_lcores(struct toe_pipeline *p)
{
	const struct toe_graph *g = &p->graph;

	for (unsigned i = 0; i < g->lcore_n; i++) {
		int rc = toe_idle_init(&p->lcores[i].idle);

		if (rc != 0)
			return rc;
		p->lcores[i].index = i;
		p->lcores[i].stats.cpu = g->lcores[i].cpu;
		if (p->engine->qsbr != NULL)
			rte_rcu_qsbr_thread_register(p->engine->qsbr, i);
	}
	return 0;
}

static int build(struct toe_pipeline *p)
{
	const struct toe_graph *g = &p->graph;
	int rc;

	p->lcores = alloc_lines(g->lcore_n * sizeof(*p->lcores));
	p->stages = alloc_lines(g->inst_n * sizeof(*p->stages));
	p->ports = alloc_lines(g->inst_n * sizeof(*p->ports));
	p->rings = calloc((size_t)g->inst_n * g->lcore_n, sizeof(struct rte_ring *));
	if (p->lcores == NULL || p->stages == NULL || p->ports == NULL || p->rings == NULL)
		return -ENOMEM;
	for (unsigned i = 0; i < g->lcore_n; i++)
		p->lcores[i].idle.epoll_fd = p->lcores[i].idle.event_fd = -1;
	rc = make_lcores(p);
	for (unsigned i = 0; rc == 0 && i < g->inst_n; i++)
		rc = make_stage(p, i);
	for (unsigned i = 0; rc == 0 && i < g->inst_n; i++)
		rc = make_outputs(p, i);
	return rc;
}

struct toe_pipeline *toe_pipeline_create(struct toe_engine *e, char *err, size_t err_len)
{
	struct toe_pipeline *p = alloc_lines(sizeof(*p));
	int rc;

	if (p == NULL) {
		snprintf(err, err_len, "out of memory");
		return NULL;
	}
	p->engine = e;
	if (toe_graph_parse(&p->graph, e->cfg, err, err_len) != 0) {
		free(p);
		return NULL;
	}
	p->tsc_hz = rte_get_tsc_hz();
	if (p->tsc_hz == 0)
		p->tsc_hz = 1000000000u; /* no EAL: simulation with its own clock */
	p->spin_tsc = p->tsc_hz / 1000000u * e->cfg->idle_spin_us;
	rc = build(p);
	if (rc == 0)
		return p;
	snprintf(err, err_len, "cannot build the pipeline: %s", strerror(-rc));
	toe_pipeline_free(p);
	return NULL;
}

int toe_pipeline_init(struct toe_pipeline *p, char *err, size_t err_len)
{
	char name[32];

	TOE_CHECK(p->engine->pipeline == p);
	for (; p->inited < p->graph.inst_n; p->inited++) {
		struct toe_stage *s = &p->stages[p->inited];
		int rc = s->ops->init != NULL ? s->ops->init(s) : 0;

		if (rc == 0)
			continue;
		snprintf(err, err_len, "stage %s: %s",
			 toe_graph_name(&p->graph, p->inited, name, sizeof(name)), strerror(-rc));
		return rc;
	}
	return 0;
}

/* Items that are still on their way give their buffers back; without pools there are none. */
static void free_inputs(struct toe_pipeline *p, unsigned inst)
{
	struct toe_stage *s = &p->stages[inst];
	struct toe_stage_port *pt = &p->ports[inst];
	struct toe_work *w;

	for (unsigned src = 0; src <= pt->ring_n; src++) {
		while (take_from(pt, src, &w, 1) == 1)
			toe_work_free(s, w);
	}
	for (unsigned i = 0; pt->park != NULL && i < pt->park->n; i++)
		toe_work_free(s, pt->park->item[i].w);
}

void toe_pipeline_free(struct toe_pipeline *p)
{
	if (p == NULL)
		return;
	while (p->inited > 0) {
		struct toe_stage *s = &p->stages[--p->inited];

		if (s->ops->fini != NULL)
			s->ops->fini(s);
	}
	for (unsigned i = 0; p->ports != NULL && i < p->graph.inst_n; i++) {
		free_inputs(p, i);
		free(p->ports[i].fifo.slots);
		free(p->ports[i].park);
		for (unsigned id = 0; id < TOE_STAGE_N; id++)
			free(p->ports[i].out[id]);
		free(p->stages[i].counters);
		free(p->stages[i].drops);
	}
	for (unsigned i = 0; p->rings != NULL && i < p->graph.inst_n * p->graph.lcore_n; i++)
		free(p->rings[i]);
	for (unsigned i = 0; p->lcores != NULL && i < p->graph.lcore_n; i++) {
		if (p->engine->qsbr != NULL)
			rte_rcu_qsbr_thread_unregister(p->engine->qsbr, i);
		toe_idle_fini(&p->lcores[i].idle);
	}
	free(p->rings);
	free(p->ports);
	free(p->stages);
	free(p->lcores);
	free(p);
}

void toe_pipeline_dump(const struct toe_pipeline *p, FILE *out)
{
	toe_graph_dump(&p->graph, out);
}

struct toe_stage *toe_pipeline_stage(const struct toe_pipeline *p, unsigned index)
{
	return index < p->graph.inst_n ? &p->stages[index] : NULL;
}

char *toe_pipeline_stage_name(const struct toe_pipeline *p, unsigned index, char *buf, size_t len)
{
	return toe_graph_name(&p->graph, index, buf, len);
}
