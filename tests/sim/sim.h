/* SPDX-License-Identifier: BSD-3-Clause */
/* LINK: datapath/counters.c datapath/pipeline.c datapath/lcore.c datapath/idle.c
 * datapath/pipeline_graph.c
 * datapath/sequencer.c datapath/sequencer_set.c datapath/netif_parse.c datapath/flow_table.c
 * datapath/seg_parse.c datapath/seg_build.c datapath/sched_wheel.c datapath/ooo.c
 * datapath/scoreboard.c datapath/apps.c common/closer.c datapath/sigbus.c datapath/hostmem.c
 * datapath/hostmem_memcpy.c datapath/stages/seq.c datapath/stages/pre.c datapath/stages/reorder.c
 * datapath/stages/proto.c datapath/stages/proto_ctrl.c datapath/stages/proto_hc.c
 * datapath/stages/proto_rx.c datapath/stages/proto_rx_data.c datapath/stages/proto_loss.c
 * datapath/stages/proto_rack.c datapath/stages/proto_prr.c datapath/stages/proto_undo.c
 * datapath/stages/proto_cubic.c datapath/rack.c datapath/stages/proto_tx.c
 * datapath/stages/post.c datapath/stages/stream.c datapath/stages/stream_wire.c
 * datapath/stages/stream_app.c datapath/stages/stream_api.c datapath/stages/stream_control.c
 * datapath/stream_mem.c datapath/stream_extq.c datapath/stream_stash.c
 * datapath/stream_registry.c datapath/stages/dma.c datapath/stages/egress.c
 * datapath/stages/ctxq.c datapath/stages/ctxq_doorbell.c datapath/stages/ctxq_hint.c
 * datapath/stages/sched.c datapath/stages/ctrl.c datapath/stages/ctrl_cmd.c
 * datapath/stages/ctrl_event.c common/config.c common/log.c common/flow_hash.c */
/*
 * The whole pipeline in one thread and in virtual time: the real stages between a fabricated wire,
 * a fabricated application region and a control-plane queue whose other end is the test.  Include
 * once per test program.  sim_conn.h adds peers, applications and a small control plane on top.
 *
 * Lcores take turns in random (seeded) order; nothing sleeps, nothing depends on real time.
 */
#ifndef TOE_TEST_SIM_H
#define TOE_TEST_SIM_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_mbuf.h>

#include "../unit/frames.h"
#include "apps.h"
#include "common/config.h"
#include "common/cpq_ring.h"
#include "engine.h"
#include "netif_parse.h"
#include "pipeline.h"
#include "toe/region.h"

#define SIM_APP 3u
#ifndef SIM_SLOTS
#define SIM_SLOTS 64u
#endif
#define SIM_TOKENS (2 * SIM_SLOTS)
#ifndef SIM_BUF
#define SIM_BUF 16384u /* of each direction: small, so that streams wrap and windows close */
#endif
#ifndef SIM_CONNS
#define SIM_CONNS 256u
#endif
#ifndef SIM_ITEMS
#define SIM_ITEMS  511u
#define SIM_MBUFS  4095u
#define SIM_CACHE  0u /* of the pools, per lcore */
#define SIM_MEM_MB "96"
#endif
#define SIM_ENTRIES 256u
#define SIM_ENTRY   2048u
#define SIM_WIRE    1024u
#define SIM_FRAME   1600u
#define SIM_LCORES  4u

struct sim_frame {
	uint16_t len;
	uint8_t data[SIM_FRAME];
};

/* FIFO of frames on their way. */
struct sim_wire {
	uint32_t head, tail;
	struct sim_frame frame[SIM_WIRE];
};

struct sim_setup {
	unsigned pre, proto, post, dma;
	unsigned reorder_inject;
	unsigned lcore_n; /* 0: everything on one */
	const char *const *lcores;
	uint32_t seed;
	unsigned lag_steps;        /* lcores are held up in their turn: their clocks are so old */
	uint32_t stream_memory_mb; /* 0: default */
	const char *dma_backend;   /* NULL: default */
	void (*configure)(struct toe_config *c); /* NULL; last word on the configuration */
};

/* Nothing replicated, one lcore; and two of what can be replicated, shuffled, on three. */
static const char *const sim_three_lcores[] = {
	"0: netif_rx seq pre.0 reorder proto post.1 exception", "0: pre.1 post.0 dma.1 egress",
	"0: dma.0 stream ctxq sched ctrl netif_tx"};

static const struct sim_setup sim_plain = {.pre = 1, .proto = 1, .post = 1, .dma = 1, .seed = 1};
static const struct sim_setup sim_replicated = {.pre = 2,
						.proto = 1,
						.post = 2,
						.dma = 2,
						.reorder_inject = 5,
						.lcore_n = 3,
						.lcores = sim_three_lcores,
						.seed = 2};

static struct {
	struct toe_config cfg;
	struct toe_engine engine;
	struct toe_clock clock;
	struct toe_clock seen[SIM_LCORES]; /* by each lcore */
	unsigned lag_steps;
	uint64_t steps;
	uint64_t us;
	uint32_t rng;
	struct sim_wire in, out; /* to and from the engine */
	uint64_t tap_frames;
	bool app_gone;      /* detached */
	bool accepted;      /* connections come from listener 0: a stream module may want them */
	struct toe_app app; /* the application's view of its region: geometry and mappings only */
	int kick_fd;        /* its end */
	int cpq_kick_fd;    /* the control plane's end */
	unsigned loss_percent;    /* of frames, both directions */
	unsigned shuffle_percent; /* of frames to the engine that overtake the one before */
	void (*sent)(const uint8_t *frame,
		     uint32_t len); /* when a frame leaves, before anything else */
	void (*tapped)(const uint8_t *frame, uint32_t len); /* the kernel gets a frame */
} sim;

static inline uint32_t sim_rnd(uint32_t n)
{
	uint32_t x;

	sim.rng = sim.rng * 1664525u + 1013904223u;
	/* mixed: bits of the state alone repeat so soon that a waiting loop may never see a 0 */
	x = (sim.rng ^ sim.rng >> 16) * 0x7feb352du;
	return (x ^ x >> 15) % n;
}

/* ---- wire ---- */

static inline void sim_wire_put(struct sim_wire *w, const uint8_t *data, uint32_t len)
{
	struct sim_frame *f = &w->frame[w->tail % SIM_WIRE];

	assert_true(w->tail - w->head < SIM_WIRE);
	assert_true(len <= SIM_FRAME);
	if (sim_rnd(100) < sim.loss_percent)
		return;
	memcpy(f->data, data, len);
	f->len = (uint16_t)len;
	if (w == &sim.in && w->tail != w->head && sim_rnd(100) < sim.shuffle_percent) {
		struct sim_frame *before = &w->frame[(w->tail - 1) % SIM_WIRE];
		struct sim_frame t = *before;

		*before = *f;
		*f = t;
	}
	w->tail++;
}

static inline struct sim_frame *sim_wire_take(struct sim_wire *w)
{
	return w->head == w->tail ? NULL : &w->frame[w->head++ % SIM_WIRE];
}

static inline void sim_rx_classify(struct toe_work *w)
{
	const uint8_t *frame = rte_pktmbuf_mtod(w->mbuf, const uint8_t *);
	struct netif_key key;
	enum netif_class c = netif_parse(frame, rte_pktmbuf_data_len(w->mbuf), &key);

	if (c == NETIF_OTHER) {
		w->verdict = TOE_TO_TAP;
		return;
	}
	w->hash = toe_flow_hash(&key.tuple);
	w->fg = (uint16_t)toe_flow_group(w->hash, sim.engine.flow_group_n);
	if (c == NETIF_TCP)
		return;
	w->verdict = netif_to_us(frame, &key, sim.engine.mac.addr_bytes) &&
				     toe_port_ours(sim.engine.flows, &key.tuple)
			     ? TOE_TO_CTRL
			     : TOE_TO_TAP;
}

#ifdef SIM_OWN_PORT /* another wire, defined by the includer */
static unsigned sim_rx_poll(struct toe_stage *s, unsigned budget);
static void sim_tx_process(struct toe_stage *s, struct toe_work **items, unsigned n);
#else
static unsigned sim_rx_poll(struct toe_stage *s, unsigned budget)
{
	unsigned n;

	for (n = 0; n < budget && sim.in.head != sim.in.tail; n++) {
		struct toe_work *w = toe_work_alloc(s, TOE_WORK_RX);
		struct rte_mbuf *m = rte_pktmbuf_alloc(s->engine->mbuf_pool);
		struct sim_frame *f;

		if (w == NULL || m == NULL) { /* as a port: later, or never */
			if (w != NULL)
				toe_work_free(s, w);
			rte_pktmbuf_free(m);
			break;
		}
		f = sim_wire_take(&sim.in);
		memcpy(rte_pktmbuf_append(m, f->len), f->data, f->len);
		w->mbuf = m;
		sim_rx_classify(w);
		toe_emit(s, TOE_STAGE_SEQ, w);
	}
	return n;
}

static void sim_tx_process(struct toe_stage *s, struct toe_work **items, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct rte_mbuf *m = items[i]->tx_mbuf != NULL ? items[i]->tx_mbuf : items[i]->mbuf;

		assert_non_null(m);
		assert_int_equal(m->nb_segs, 1);
		if (sim.sent != NULL)
			sim.sent(rte_pktmbuf_mtod(m, uint8_t *), m->pkt_len);
		sim_wire_put(&sim.out, rte_pktmbuf_mtod(m, uint8_t *), m->pkt_len);
		toe_work_free(s, items[i]);
	}
}
#endif

static void sim_tap_process(struct toe_stage *s, struct toe_work **items, unsigned n)
{
	sim.tap_frames += n;
	for (unsigned i = 0; i < n; i++) {
		const struct rte_mbuf *m = items[i]->mbuf;

		if (sim.tapped != NULL)
			sim.tapped(rte_pktmbuf_mtod(m, const uint8_t *), m->pkt_len);
		toe_work_free(s, items[i]);
	}
}

static const struct toe_stage_ops sim_netif_rx = {.id = TOE_STAGE_NETIF_RX,
						  .name = "netif_rx",
						  .next_mask = 1u << TOE_STAGE_SEQ,
						  .process = sim_tap_process,
						  .poll = sim_rx_poll},
				  sim_netif_tx = {.id = TOE_STAGE_NETIF_TX,
						  .name = "netif_tx",
						  .process = sim_tx_process},
				  sim_exception = {.id = TOE_STAGE_EXCEPTION,
						   .name = "exception",
						   .process = sim_tap_process};

const struct toe_stage_ops *const toe_stage_table[TOE_STAGE_N] = {
	&sim_netif_rx,    &toe_stage_ctrl,  &toe_stage_seq, &toe_stage_pre,    &toe_stage_reorder,
	&toe_stage_proto, &toe_stage_post,  &toe_stage_dma, &toe_stage_egress, &toe_stage_stream,
	&toe_stage_ctxq,  &toe_stage_sched, &sim_netif_tx,  &sim_exception,
};

/* ---- engine ---- */

static int sim_eal(void **state)
{
	static char *args[] = {"test",        "--no-huge",   "--no-pci", "--no-telemetry",
			       "--no-shconf", "-m",          SIM_MEM_MB, "--lcores",
			       "0",           "--log-level", "4",        "--vdev=dma_skeleton"};

	(void)state;
	setenv("XDG_RUNTIME_DIR", "/tmp", 0);
	if (rte_eal_init((int)(sizeof(args) / sizeof(args[0])), args) < 0)
		return -1;
	for (unsigned t = 0; t < TOE_WORK_TYPE_N; t++) {
		static const char *const name[] = {"sim0", "sim1", "sim2", "sim3"};

		sim.engine.work_pool[t] =
			rte_mempool_create(name[t], SIM_ITEMS, sizeof(struct toe_work_ctrl),
					   SIM_CACHE, 0, NULL, NULL, NULL, NULL, SOCKET_ID_ANY, 0);
		if (sim.engine.work_pool[t] == NULL)
			return -1;
	}
	sim.engine.mbuf_pool = rte_pktmbuf_pool_create("simbuf", SIM_MBUFS, SIM_CACHE, 0,
						       RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	return sim.engine.mbuf_pool == NULL ? -1 : 0;
}

static inline void *sim_zalloc(size_t bytes)
{
	size_t size = (bytes + 63) / 64 * 64;
	void *p = aligned_alloc(64, size);

	assert_non_null(p);
	memset(p, 0, size);
	return p;
}

static inline void sim_make_cpq(struct toe_engine *e)
{
	uint64_t ring = (uint64_t)SIM_ENTRIES * SIM_ENTRY;
	struct toe_cpq_hdr h = {.magic = TOE_CPQ_MAGIC,
				.abi_version = TOE_ABI_VERSION,
				.abi_fingerprint = TOE_ABI_FINGERPRINT,
				.conn_n = SIM_CONNS,
				.flow_group_n = e->flow_group_n,
				.entry_n = SIM_ENTRIES,
				.entry_bytes = SIM_ENTRY,
				.off_down = sizeof(h),
				.epoch = 1};

	h.off_up = h.off_down + ring;
	h.off_prog = h.off_up + ring;
	h.off_stat = h.off_prog + SIM_CONNS * sizeof(struct toe_flow_prog);
	h.total_bytes =
		h.off_stat + SIM_CONNS * TOE_FLOW_STAT_REPLICAS * sizeof(struct toe_flow_stat);
	e->cpq = sim_zalloc(h.total_bytes);
	*e->cpq = h;
	e->prog = (struct toe_flow_prog *)((uint8_t *)e->cpq + h.off_prog);
	e->stat = (struct toe_flow_stat *)((uint8_t *)e->cpq + h.off_stat);
}

/* A sealed memfd, mapped as the application has it. */
static inline uint8_t *sim_segment(uint64_t bytes, int *fd)
{
	void *p;

	*fd = memfd_create("sim", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_true(*fd >= 0);
	assert_int_equal(ftruncate(*fd, (off_t)bytes), 0);
	assert_int_equal(fcntl(*fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 0);
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	assert_true(p != MAP_FAILED);
	return p;
}

static inline void sim_make_app(void)
{
	const struct toe_ctl_app desc = {.app_id = SIM_APP,
					 .slot_n = SIM_SLOTS,
					 .listener_n = 1,
					 .token_n = SIM_TOKENS,
					 .backlog_n = 16,
					 .hint_n = 2 * SIM_SLOTS,
					 .doorbell_n = SIM_SLOTS,
					 .rx_buf_bytes = SIM_BUF,
					 .tx_buf_bytes = SIM_BUF};
	const struct toe_region_geometry g = toe_ctl_app_geometry(&desc);
	struct toe_region_layout l = {0};
	struct toe_app *a = &sim.app;
	int fds[2];

	assert_int_equal(toe_region_layout(&l, &g), 0);
	*a = (struct toe_app){.control_bytes = l.control_bytes,
			      .payload_bytes = l.payload_bytes,
			      .hint_n = g.hint_n,
			      .doorbell_n = g.doorbell_n,
			      .backlog_n = g.backlog_n,
			      .off_slots = l.off_slots,
			      .off_listeners = l.off_listeners,
			      .off_contexts = l.off_contexts};
	a->control = sim_segment(l.control_bytes, &fds[0]);
	a->payload = sim_segment(l.payload_bytes, &fds[1]);
	assert_int_equal(toe_app_attach(&sim.engine, &desc, fds), 0);
	close(fds[0]);
	close(fds[1]);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds),
			 0);
	sim.kick_fd = fds[0];
	assert_int_equal(toe_app_proc_attach(&sim.engine, SIM_APP, 0, fds[1]), 0);
}

static inline void sim_start(const struct sim_setup *u)
{
	struct toe_engine *e = &sim.engine;
	struct toe_config *c = &sim.cfg;
	char err[256] = "";
	int kick[2];

	toe_config_defaults(c);
	c->flow_groups = 4;
	c->pre = u->pre;
	c->proto = u->proto;
	c->post = u->post;
	c->dma = u->dma;
	c->reorder_inject = u->reorder_inject;
	c->work_items = SIM_ITEMS;
	c->connections = SIM_CONNS;
	if (u->stream_memory_mb != 0)
		c->stream_memory_mb = u->stream_memory_mb;
	if (u->dma_backend != NULL)
		snprintf(c->dma_backend, sizeof(c->dma_backend), "%s", u->dma_backend);
	c->lcore_n = u->lcore_n ? u->lcore_n : 1;
	for (unsigned i = 0; i < c->lcore_n; i++)
		snprintf(c->lcores[i], sizeof(c->lcores[i]), "%s",
			 u->lcore_n ? u->lcores[i] : "0: all");
	if (u->configure != NULL)
		u->configure(c);
	sim.rng = u->seed;
	sim.lag_steps = u->lag_steps;
	sim.us = 1000000;
	sim.in.head = sim.in.tail = sim.out.head = sim.out.tail = 0;
	sim.tap_frames = 0;
	sim.app_gone = sim.accepted = false;
	sim.loss_percent = sim.shuffle_percent = 0;
	e->cfg = c;
	e->flow_group_n = c->flow_groups;
	e->conn_n = SIM_CONNS;
	e->eth_port = TOE_NO_PORT;
	e->tap_fd = e->keeper_fd = -1;
	e->caps = (struct toe_port_caps){.mtu = 1500};
	e->mac = (struct rte_ether_addr){{2, 0, 0, 0, 0, 1}};
	e->flow_proto = sim_zalloc(SIM_CONNS * sizeof(*e->flow_proto));
	e->flow_post = sim_zalloc(SIM_CONNS * sizeof(*e->flow_post));
	e->flow_addr6 = sim_zalloc(SIM_CONNS * sizeof(*e->flow_addr6));
	e->flow_sched = sim_zalloc(SIM_CONNS * sizeof(*e->flow_sched));
	e->flows = toe_flow_table_create(SIM_CONNS, NULL);
	assert_non_null(e->flows);
	sim_make_cpq(e);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, kick),
			 0);
	e->cpq_kick_fd = kick[0];
	sim.cpq_kick_fd = kick[1];
	assert_int_equal(toe_apps_init(e), 0);
	e->pipeline = toe_pipeline_create(e, err, sizeof(err));
	assert_string_equal(err, "");
	assert_int_equal(toe_pipeline_init(e->pipeline, err, sizeof(err)), 0);
	sim_make_app();
}

/* Nothing may be left anywhere in the pipeline. */
static inline void sim_check_pools(void)
{
	for (unsigned t = 0; t < TOE_WORK_TYPE_N; t++)
		assert_int_equal(rte_mempool_avail_count(sim.engine.work_pool[t]), SIM_ITEMS);
	assert_int_equal(rte_mempool_avail_count(sim.engine.mbuf_pool), SIM_MBUFS);
}

static inline void sim_stop(void)
{
	struct toe_engine *e = &sim.engine;

	toe_pipeline_free(e->pipeline); /* in main's order */
	e->pipeline = NULL;
	toe_apps_fini(e);
	sim_check_pools();
	toe_flow_table_free(e->flows);
	free(e->flow_proto);
	free(e->flow_post);
	free(e->flow_addr6);
	free(e->flow_sched);
	free(e->cpq);
	close(sim.kick_fd);
	close(sim.cpq_kick_fd);
	close(e->cpq_kick_fd);
	munmap(sim.app.control, sim.app.control_bytes);
	munmap(sim.app.payload, sim.app.payload_bytes);
}

/* One step of virtual time: every lcore once, in random order. */
static inline unsigned sim_engine_step(unsigned us)
{
	uint64_t hz = rte_get_tsc_hz();
	unsigned n = toe_pipeline_lcores(sim.engine.pipeline);
	unsigned first = sim_rnd(n), i, done = 0;

	sim.us += us;
	sim.clock.us = sim.us;
	sim.clock.ms = (uint32_t)(sim.us / 1000);
	sim.clock.tsc = sim.us / 1000000 * hz + sim.us % 1000000 * hz / 1000000;
	assert_true(n <= SIM_LCORES);
	for (i = 0; i < n; i++) {
		unsigned l = (first + i) % n;

		if (sim.lag_steps == 0 || sim.steps % (sim.lag_steps * (l + 1)) == 0)
			sim.seen[l] = sim.clock;
		done += toe_pipeline_step(sim.engine.pipeline, l, &sim.seen[l]);
	}
	sim.steps++;
	return done;
}

static inline uint64_t sim_counter(enum toe_counter c)
{
	struct toe_stage *s;
	uint64_t sum = 0;

	for (unsigned i = 0; (s = toe_pipeline_stage(sim.engine.pipeline, i)) != NULL; i++)
		sum += s->counters[c];
	return sum;
}

static inline uint64_t sim_drops(enum toe_drop d)
{
	struct toe_stage *s;
	uint64_t sum = 0;

	for (unsigned i = 0; (s = toe_pipeline_stage(sim.engine.pipeline, i)) != NULL; i++)
		sum += s->drops[d];
	return sum;
}

/* ---- control-plane queue ---- */

static inline void sim_cmd(uint16_t type, uint32_t conn, uint32_t gen, const void *data,
			   uint16_t len)
{
	struct toe_cpq_ring r = toe_cpq_down(sim.engine.cpq);
	struct toe_cpq_entry *e = toe_cpq_reserve(&r);

	assert_non_null(e);
	*e = (struct toe_cpq_entry){
		.type = type, .len = len, .conn = conn, .gen = gen, .cookie = conn ^ 0x5a5a};
	if (len != 0)
		memcpy(toe_cpq_data(e), data, len);
	toe_cpq_publish(&r);
}

/* The oldest event, valid until the next call of sim_event_done(); NULL: none. */
static inline struct toe_cpq_entry *sim_event(void)
{
	struct toe_cpq_ring r = toe_cpq_up(sim.engine.cpq);

	return toe_cpq_peek(&r);
}

static inline void sim_event_done(void)
{
	struct toe_cpq_ring r = toe_cpq_up(sim.engine.cpq);

	toe_cpq_consume(&r);
}

#endif
