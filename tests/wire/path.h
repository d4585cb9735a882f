/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One bulk transfer over a long path, in virtual time: engine and control plane of virtual.h behind
 * a delay line that loses and reorders by a seed, and at the other end, or at both, a reference TCP
 * (reference.h) that knows everything a sender can know and keeps no state small.  What the engine
 * achieves is compared with what the reference achieves over the same path, so that a figure says
 * something about the protocol and nothing about the machine the test runs on.
 *
 * The bottleneck may mark what finds a queue instead of dropping what finds it full (RFC 3168, with
 * the threshold on the queue as it is that RFC 8257 wants).
 */
#ifndef TOE_TEST_WIRE_PATH_H
#define TOE_TEST_WIRE_PATH_H

#include "virtual.h"

#include "app.h"
#include "reference.h"

#include <sys/wait.h>

#define PATH_PKTS    32768u
#define PATH_WARM_US 200000u /* slow start and what follows: not the standing queue */

enum path_end { PATH_ENGINE, PATH_REFERENCE };

struct path_setup {
	enum path_end sender, receiver;
	unsigned loss_ppm, reorder_ppm; /* per million, each direction */
	unsigned reorder_us;            /* so much later do reordered ones come */
	unsigned delay_us;              /* one way */
	unsigned rate_pkts_per_ms;      /* of data packets; 0: no bottleneck */
	unsigned queue_pkts;            /* in front of it */
	unsigned mark_pkts;             /* CE from so many on; 0: no ECN */
	uint32_t bytes;
	uint32_t buf; /* of the engine, each direction; power of two */
	uint32_t seed;
	bool trace;
};

struct path_result {
	uint64_t us; /* from the first write to the last acknowledgement */
	unsigned data_lost, acks_lost, data_segs, rtx_segs, spurious;
	unsigned rto, probes, recoveries, undone;
	unsigned marked, marked_warm; /* data segments; of them after PATH_WARM_US */
	double queue_pkts;  /* that they find in front of the bottleneck, mean after that */
	unsigned queue_max; /* from the beginning */
	/* What the control plane knows, engine as sender. */
	uint64_t ecn_bytes;
	unsigned cc_updates;
	double alpha;
};

struct path_pkt {
	uint64_t due_us;
	struct wire_seg seg;
};

/* One direction.  FIFO but for what is reordered. */
struct path_line {
	struct path_pkt pkt[PATH_PKTS];
	unsigned head, tail;
	uint32_t rng;
	uint64_t free_us; /* the bottleneck is busy till then */
	unsigned lost, dropped;
	unsigned queue; /* packets in front of the bottleneck, at the last one */
};

static struct {
	const struct path_setup *u;
	struct path_line data, acks;
	struct ref_sender tx;
	struct ref_receiver rx;
	struct path_result *res;
	uint64_t trace_us, began_us;
	uint64_t queue_sum, queue_n; /* of data, after PATH_WARM_US */
} path;

static uint32_t path_rnd(struct path_line *l, uint32_t n)
{
	l->rng = l->rng * 1664525u + 1013904223u;
	return (uint32_t)((uint64_t)(l->rng >> 4) * n >> 28);
}

static bool path_warm(void)
{
	return sim.us - path.began_us >= PATH_WARM_US;
}

/* When it leaves the bottleneck; 0: the queue is full. */
static uint64_t path_queue(struct path_line *l)
{
	uint64_t per_ns = path.u->rate_pkts_per_ms ? 1000000u / path.u->rate_pkts_per_ms : 0;
	uint64_t now = sim.us * 1000, at = l->free_us > now ? l->free_us : now;

	if (per_ns == 0 || l != &path.data)
		return sim.us;
	l->queue = (unsigned)((at - now + per_ns - 1) / per_ns);
	path.res->queue_max = l->queue > path.res->queue_max ? l->queue : path.res->queue_max;
	path.queue_sum += path_warm() ? l->queue : 0;
	path.queue_n += path_warm();
	if (at - now > path.u->queue_pkts * per_ns)
		return 0;
	l->free_us = at + per_ns;
	return l->free_us / 1000 + 1;
}

/* What is ECN-capable and found a queue. */
static void path_mark(const struct path_line *l, struct wire_seg *seg)
{
	if (path.u->mark_pkts == 0 || l != &path.data || l->queue < path.u->mark_pkts ||
	    (seg->ecn != 1 && seg->ecn != 2))
		return;
	seg->ecn = 3;
	path.res->marked++;
	path.res->marked_warm += path_warm();
}

static void path_put(struct path_line *l, const struct wire_seg *seg)
{
	bool lose = path_rnd(l, 1000000) < path.u->loss_ppm;
	bool late = path_rnd(l, 1000000) < path.u->reorder_ppm;
	uint64_t out = path_queue(l);
	struct path_pkt p = {.seg = *seg};
	unsigned i;

	if (l->tail - l->head == PATH_PKTS)
		wire_fail("more than %u packets on their way", PATH_PKTS);
	l->lost += lose || out == 0;
	if (lose || out == 0)
		return;
	path_mark(l, &p.seg);
	p.due_us = out + path.u->delay_us + (late ? path.u->reorder_us : 0);
	for (i = l->tail++; i != l->head && l->pkt[(i - 1) % PATH_PKTS].due_us > p.due_us; i--)
		l->pkt[i % PATH_PKTS] = l->pkt[(i - 1) % PATH_PKTS];
	l->pkt[i % PATH_PKTS] = p;
}

static const struct wire_seg *path_take(struct path_line *l)
{
	struct path_pkt *p = &l->pkt[l->head % PATH_PKTS];

	if (l->head == l->tail || p->due_us > sim.us)
		return NULL;
	l->head++;
	return &p->seg;
}

static uint64_t path_next(const struct path_line *l)
{
	return l->head == l->tail ? UINT64_MAX : l->pkt[l->head % PATH_PKTS].due_us;
}

/* ---- the engine's end ---- */

static void path_to_engine(const struct wire_seg *seg)
{
	static uint8_t frame[SIM_FRAME];
	struct wire_seg g = *seg;

	g.ws = g.vlan = -1;
	w.at->una = g.ack;
	sim_wire_put(&sim.in, frame, wire_seg_build(&g, frame));
}

static void path_from_engine(struct path_line *l)
{
	for (; w.frame_head != w.frame_tail; w.frame_head++) {
		struct wire_seg g = wire_decode(&w.frame[w.frame_head % WIRE_FRAMES], w.at);

		wire_note_seg(&g);
		path_put(l, &g);
	}
}

/* Writes when there is room for a quarter of the buffer, reads at once. */
static void path_application(void)
{
	struct toe_slot *s = wire_slot();
	uint8_t *buf = sim.app.payload + toe_slot_tx_off(w.at->slot, SIM_BUF, SIM_BUF);
	uint32_t n;

	if (path.u->sender == PATH_ENGINE) {
		n = SIM_BUF - (w.at->written - s->tx_head);
		n = n < path.u->bytes - w.at->written ? n : path.u->bytes - w.at->written;
		if (n < SIM_BUF / 4 && w.at->written + n != path.u->bytes)
			return;
		for (uint32_t i = 0; i < n; i++, w.at->written++)
			buf[w.at->written % SIM_BUF] = wire_byte(w.at->written, false);
		s->tx_tail = w.at->written;
	} else {
		n = s->rx_tail - w.at->read;
		s->rx_head = w.at->read += n;
	}
	if (n > 0)
		wire_doorbell();
}

static void path_engine(struct path_line *in, struct path_line *out)
{
	const struct wire_seg *g;

	while (sim.in.tail - sim.in.head < 512 && (g = path_take(in)) != NULL)
		path_to_engine(g);
	do {
		wire_settle();
		path_from_engine(out);
		path_application();
		wire_settle();
		path_from_engine(out);
	} while (sim.in.head != sim.in.tail);
}

/* ---- run ---- */

static void path_trace(void)
{
	const struct toe_flow_proto *fp = &sim.engine.flow_proto[0];

	if (!path.u->trace || sim.us < path.trace_us)
		return;
	path.trace_us = sim.us + 1000;
	for (unsigned i = 0; i < SIM_CONNS; i++)
		if (sim.engine.flow_proto[i].snd_max != sim.engine.flow_proto[i].iss)
			fp = &sim.engine.flow_proto[i];
	if (path.u->sender == PATH_ENGINE)
		printf("%8.3f cwnd %u ssthresh %u flight %u una %u%s%s%s lost %u\n",
		       (double)sim.us / 1000, fp->cwnd / fp->mss, fp->ssthresh / fp->mss,
		       (fp->snd_max - fp->snd_una) / fp->mss, fp->snd_una - fp->iss,
		       fp->flags & TOE_FP_RECOVERY ? " recovery" : "",
		       fp->flags & TOE_FP_LOSS ? " loss" : "",
		       fp->flags & TOE_FP_CWND_LIMITED ? " limited" : "", path.data.lost);
	else
		printf("%8.3f cwnd %.1f ssthresh %.1f flight %u una %u%s lost %u\n",
		       (double)sim.us / 1000, path.tx.cwnd, path.tx.ssthresh,
		       (path.tx.max - path.tx.una) / REF_MSS, path.tx.una,
		       path.tx.in_recovery ? " recovery" : "", path.data.lost);
}

static void path_reference(void)
{
	const struct wire_seg *g;
	struct wire_seg out;

	if (path.u->receiver == PATH_REFERENCE) {
		while ((g = path_take(&path.data)) != NULL)
			if (ref_receive(&path.rx, g, sim.us, &out))
				path_put(&path.acks, &out);
		if (ref_delayed(&path.rx, sim.us, &out))
			path_put(&path.acks, &out);
	}
	if (path.u->sender == PATH_REFERENCE) {
		while ((g = path_take(&path.acks)) != NULL)
			ref_acked(&path.tx, g, sim.us);
		ref_timer(&path.tx, sim.us);
		while (ref_send(&path.tx, sim.us, &out))
			path_put(&path.data, &out);
	}
}

static uint64_t path_min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* When something happens next. */
static uint64_t path_soonest(uint64_t engine_next)
{
	bool engine = path.u->sender == PATH_ENGINE || path.u->receiver == PATH_ENGINE;
	uint64_t at = path_min(path_next(&path.data), path_next(&path.acks));

	if (path.u->receiver == PATH_REFERENCE)
		at = path_min(at, path.rx.due_us ? path.rx.due_us : UINT64_MAX);
	if (path.u->sender == PATH_REFERENCE)
		at = path_min(at, ref_deadline(&path.tx));
	if (engine)
		at = path_min(at, engine_next);
	return at > sim.us ? at : sim.us + 1;
}

static bool path_done(void)
{
	if (path.u->sender == PATH_ENGINE)
		return wire_slot()->tx_head == path.u->bytes;
	return path.tx.una == 1 + path.u->bytes;
}

static void path_open(void)
{
	if (path.u->sender == PATH_REFERENCE && path.u->receiver == PATH_REFERENCE) {
		wire_start();
		return;
	}
	wire_do("listen 4");
	wire_do("window 65535");
	if (path.u->mark_pkts == 0) {
		wire_do("passive mss 1460 sackok ts 1 0 ws 7");
		return;
	}
	wire_do("< SEW 0:0 mss 1460 sackok ts 1 0 ws 7");
	wire_do("> S.E 0:0 ack 1 anyopts");
	wire_do("+10 < . 1 ack 1");
	wire_do("accept");
}

/* Before the connection is gone. */
static void path_control_plane(struct path_result *r)
{
	struct toe_tuple t = wire_tuple(w.at);
	uint32_t id = cp_lookup(&virt.cp, &t).index;
	uint64_t v = 0;

	for (uint32_t i = 0; i < virt.cp.stat_replicas; i++)
		r->ecn_bytes += sim.engine.stat[id * TOE_FLOW_STAT_REPLICAS + i].ecn_bytes;
	r->alpha = (double)virt.cp.conns[id].cc.alpha / CC_ALPHA_ONE;
	if (wire_counter("cc_updates", &v))
		r->cc_updates = (unsigned)v;
}

static void path_finish(struct path_result *r)
{
	uint64_t v = 0;

	r->data_lost = path.data.lost;
	r->acks_lost = path.acks.lost;
	r->spurious = path.rx.duplicates;
	r->queue_pkts = path.queue_n > 0 ? (double)path.queue_sum / (double)path.queue_n : 0;
	if (path.u->sender == PATH_REFERENCE) {
		r->data_segs = path.tx.sent;
		r->rtx_segs = path.tx.rtx;
		r->rto = path.tx.rtos;
		r->probes = path.tx.probes;
		r->recoveries = path.tx.recoveries;
		return;
	}
	r->data_segs = (unsigned)sim_counter(TOE_C_SEGS_DATA_TX);
	r->rtx_segs = (unsigned)sim_counter(TOE_C_SEGS_RTX);
	r->rto = (unsigned)sim_counter(TOE_C_RTO);
	r->recoveries = (unsigned)sim_counter(TOE_C_FAST_RTX);
	r->undone = (unsigned)sim_counter(TOE_C_UNDONE);
	if (wire_counter("tail_probes", &v))
		r->probes = (unsigned)v;
}

/* Runs the transfer; in a process of its own, as wire.h's world is started once. */
static void path_run(const struct path_setup *u, struct path_result *r)
{
	uint64_t began, next = UINT64_MAX;
	bool engine = u->sender == PATH_ENGINE || u->receiver == PATH_ENGINE;

	path.u = u;
	path.res = r;
	path.data.rng = u->seed * 2654435761u + 17;
	path.acks.rng = u->seed * 2246822519u + 5;
	path_open();
	ref_sender_init(&path.tx, u->bytes);
	ref_receiver_init(&path.rx);
	path.rx.ecn = u->mark_pkts != 0;
	path.began_us = began = sim.us;
	for (;;) {
		if (sim.us - began > 600000000ull)
			wire_fail("no end after 10 minutes");
		path_reference();
		if (engine) {
			if (u->sender == PATH_ENGINE)
				path_engine(&path.acks, &path.data);
			else
				path_engine(&path.data, &path.acks);
			next = path_min(wire_settle(), wire_stage_deadline());
		}
		path_trace();
		if (path_done())
			break;
		sim_engine_step((unsigned)(path_soonest(next) - sim.us));
	}
	r->us = sim.us - began;
	if (u->sender == PATH_ENGINE)
		path_control_plane(r);
	if (engine) {
		w.frame_head = w.frame_tail;
		wire_end();
	}
	path_finish(r);
}

/* In a child; r.us is 0 if it failed. */
static struct path_result path_transfer(const struct path_setup *u)
{
	struct path_result r = {0};
	int fds[2];
	pid_t pid;

	fflush(stdout);
	if (pipe(fds) != 0)
		exit(1);
	pid = fork();
	if (pid == 0) {
		alarm(120);
		wire.script = "path";
		wire.line = u->seed;
		wire.buf = u->buf;
		path_run(u, &r);
		fflush(stdout);
		_exit(write(fds[1], &r, sizeof(r)) != sizeof(r));
	}
	close(fds[1]);
	if (read(fds[0], &r, sizeof(r)) != sizeof(r))
		r.us = 0; /* it has said why */
	close(fds[0]);
	waitpid(pid, NULL, 0);
	return r;
}

#endif
