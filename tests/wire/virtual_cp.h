/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Wire scripts' engine in virtual time, without its application: the real stages (tests/sim/sim.h)
 * and the real control plane (struct cp with its cp_io) joined by the control-plane queue, a clock
 * that jumps from one timer to the next.
 */
#ifndef TOE_TEST_WIRE_VIRTUAL_CP_H
#define TOE_TEST_WIRE_VIRTUAL_CP_H

#include <setjmp.h>

#include "rig.h"

#include <cmocka.h>

/* The rig's own checks must not jump back into the runner of the parent. */
#undef assert_true
#undef assert_false
#undef assert_int_equal
#undef assert_non_null
#undef assert_string_equal
#define WIRE_CHECK(x, text) ((x) ? (void)0 : wire_fail("%s:%d: %s", __FILE__, __LINE__, text))
#define assert_true(x)      WIRE_CHECK(x, #x)
#define assert_false(x)     WIRE_CHECK(!(x), "not " #x)
#define assert_non_null(x)  WIRE_CHECK((x) != NULL, #x)
#define assert_int_equal(a, b)                                                                     \
	((uint64_t)(a) == (uint64_t)(b)                                                            \
		 ? (void)0                                                                         \
		 : wire_fail("%s:%d: %s is %llu, not %s (%llu)", __FILE__, __LINE__, #a,           \
			     (unsigned long long)(a), #b, (unsigned long long)(b)))
#define assert_string_equal(a, b) WIRE_CHECK(strcmp(a, b) == 0, #a)

#define SIM_BUF wire.buf
#include "../sim/sim.h"
#include "controlplane/cp.h"
#include "controlplane/isn.h"
#include "script.h"

static struct {
	struct cp cp;
	struct cp_state_hdr *st;
	struct toe_ctl_msg reply; /* last one to a request */
	uint32_t connects;
	uint32_t mtu_route;
	bool dead_link; /* the neighbour does not answer */
} virt;

/* ---- the world of the control plane ---- */

static void wire_io_cmd(void *ctx, const struct toe_cpq_entry *e, const void *data)
{
	struct toe_cpq_ring r = toe_cpq_down(sim.engine.cpq);
	struct toe_cpq_entry *to;

	(void)ctx;
	while ((to = toe_cpq_reserve(&r)) == NULL)
		sim_engine_step(0);
	*to = *e;
	if (e->len != 0)
		memcpy(toe_cpq_data(to), data, e->len);
	toe_cpq_publish(&r);
}

static bool wire_io_durable(void *ctx)
{
	(void)ctx;
	return true;
}

static void wire_io_keeper(void *ctx, struct toe_ctl_msg *m)
{
	(void)ctx;
	if (m->type != TOE_CTL_CP_TOKEN_FREE && m->type != TOE_CTL_CP_PORT_FREE)
		virt.reply = *m;
}

/* 10.0.0.host or 2001:db8::host: 1 is the engine, 2 its peer. */
static struct cp_addr wire_addr(uint8_t host)
{
	const uint8_t v4[4] = {10, 0, 0, host};
	const uint8_t v6[16] = {0x20, 1, 0xd, 0xb8, [15] = host};

	return wire.six ? cp_addr_make(AF_INET6, v6) : cp_addr_make(AF_INET, v4);
}

static int wire_io_route(void *ctx, const struct cp_addr *dst, struct cp_route *r)
{
	struct cp_addr us = wire_addr(1);

	(void)ctx;
	*r = (struct cp_route){.next_hop = *dst,
			       .mtu = (uint16_t)virt.mtu_route,
			       .via_port = true,
			       .on_link = true,
			       .local = cp_addr_same(dst, &us)};
	return 0;
}

static int wire_io_neigh(void *ctx, const struct cp_addr *ip, uint8_t mac[6])
{
	static const uint8_t peer_mac[6] = {2, 0, 0, 0, 0, 2};

	(void)ctx;
	(void)ip;
	memcpy(mac, peer_mac, 6);
	return virt.dead_link ? -EAGAIN : 0;
}

static int wire_io_bind(void *ctx, int fd, const struct cp_addr *addr, uint16_t *port)
{
	(void)ctx;
	(void)fd;
	(void)addr;
	*port = w.next_port++;
	return 0;
}

static uint8_t *wire_io_map(void *ctx, int fd, uint64_t bytes)
{
	(void)ctx;
	(void)fd;
	(void)bytes;
	return sim.app.control;
}

static void wire_io_unmap(void *ctx, uint8_t *p, uint64_t bytes)
{
	(void)ctx;
	(void)p;
	(void)bytes;
}

/* ---- time ---- */

/* ---- time ---- */

static unsigned wire_events(void)
{
	struct toe_cpq_entry *e;
	unsigned n = 0;

	for (; (e = sim_event()) != NULL; n++) {
		cp_event(&virt.cp, e);
		sim_event_done();
	}
	return n;
}

/* Everything that happens at this moment; returns when something is due next, us. */
static uint64_t wire_settle(void)
{
	uint64_t next = CP_NEVER;
	unsigned idle = 0;
	uint32_t down;

	while (idle < 4) {
		unsigned done = sim_engine_step(0);

		cp_set_time(&virt.cp, sim.us);
		done += wire_events();
		down = sim.engine.cpq->down_prod;
		next = cp_timers_run(&virt.cp);
		cp_listen_durable(&virt.cp);
		done += down != sim.engine.cpq->down_prod;
		sim.out.head = sim.out.tail; /* wire_came() has it */
		idle = done ? 0 : idle + 1;
	}
	return next == CP_NEVER ? CP_NEVER : next * 1000;
}

static uint64_t wire_stage_deadline(void)
{
	uint64_t hz = rte_get_tsc_hz();
	uint64_t first = UINT64_MAX;
	struct toe_stage *s;

	for (unsigned i = 0; (s = toe_pipeline_stage(sim.engine.pipeline, i)) != NULL; i++) {
		uint64_t at = s->ops->deadline != NULL ? s->ops->deadline(s) : UINT64_MAX;

		first = at < first ? at : first;
	}
	if (first == UINT64_MAX)
		return CP_NEVER;
	if (first <= sim.clock.tsc)
		return sim.us + 10;
	first -= sim.clock.tsc;
	return sim.us + 1 + first / hz * 1000000 + first % hz * 1000000 / hz;
}

/* Lets time go by until us, or until a segment leaves. */
static void wire_advance(uint64_t us, bool stop_at_frame)
{
	for (;;) {
		uint64_t cp_next = wire_settle();
		uint64_t next = wire_stage_deadline();

		if (stop_at_frame && w.frame_head != w.frame_tail)
			return;
		if (sim.us >= us)
			return;
		next = cp_next < next ? cp_next : next;
		if (next <= sim.us)
			next = sim.us + 100;
		next = next < us ? next : us;
		if (next - sim.us > 1000000000) /* sim_engine_step() takes 32 bits */
			next = sim.us + 1000000000;
		sim_engine_step((unsigned)(next - sim.us));
	}
}

/* ---- set-up ---- */

static void wire_keeper_msg(uint16_t type, struct toe_ctl_msg *m)
{
	int fd = -1;

	m->type = type;
	m->req = 7;
	cp_keeper_msg(&virt.cp, m, &fd, type == TOE_CTL_CP_APP || type == TOE_CTL_CONNECT ? 1 : 0);
}

static void wire_app_message(uint16_t type)
{
	struct toe_ctl_msg m;

	memset(&m, 0, sizeof(m));
	m.u.app = (struct toe_ctl_app){.app_id = SIM_APP,
				       .slot_n = SIM_SLOTS,
				       .listener_n = 1,
				       .token_n = SIM_TOKENS,
				       .backlog_n = 16,
				       .hint_n = 128,
				       .doorbell_n = 64,
				       .rx_buf_bytes = SIM_BUF,
				       .tx_buf_bytes = SIM_BUF,
				       .name = "wire"};
	wire_keeper_msg(type, &m);
	assert_int_equal(virt.reply.status, 0);
}

static void wire_start_cp(void)
{
	struct cp_state_geometry g = {SIM_CONNS, 4, 2, SIM_SLOTS, 1};
	struct toe_ctl_engine e = {0};
	struct toe_ctl_msg m;
	bool fresh;
	int fd = memfd_create("wire", MFD_CLOEXEC);

	assert_int_equal(cp_state_map(fd, &g, &virt.st, &fresh), 0);
	close(fd);
	virt.cp.cfg = &sim.cfg;
	virt.cp.io = (struct cp_io){.cmd = wire_io_cmd,
				    .cmd_durable = wire_io_durable,
				    .keeper = wire_io_keeper,
				    .route = wire_io_route,
				    .neigh = wire_io_neigh,
				    .bind = wire_io_bind,
				    .map = wire_io_map,
				    .unmap = wire_io_unmap};
	virt.cp.prog = sim.engine.prog;
	virt.cp.stat = sim.engine.stat;
	virt.cp.port_ipv4 = htonl(0x0a000001u);
	virt.cp.mtu = sim.engine.caps.mtu;
	memcpy(e.port_ipv6[0], wire_addr(1).b, wire.six ? 16 : 0);
	cp_addrs_take(&virt.cp, &e);
	memcpy(virt.cp.port_mac, sim.engine.mac.addr_bytes, 6);
	cp_set_time(&virt.cp, sim.us);
	assert_int_equal(cp_init(&virt.cp, virt.st), 0);
	cp_engine_changed(&virt.cp, 1, true);
	wire_app_message(TOE_CTL_CP_APP);
	wire_app_message(TOE_CTL_CP_PROC);
	memset(&m, 0, sizeof(m));
	wire_keeper_msg(TOE_CTL_CP_READY, &m);
	wire_settle();
}

/* The kernel behind the TAP, where nobody listens (RFC 9293 §3.10.7.1), and which has no VLAN. */
static void wire_kernel(const uint8_t *frame, uint32_t len)
{
	uint8_t rst[CP_FRAME_MAX];
	struct cp_seg s;
	uint32_t n;

	if (frame[12] == 0x81 || cp_frame_parse(frame, len, &s) != 0 ||
	    memcmp(s.t.local_addr, wire_addr(1).b, sizeof(s.t.local_addr)) != 0)
		return;
	n = cp_frame_rst(rst, &s, virt.cp.port_mac,
			 cp_flow_label(virt.st->key[CP_KEY_LABEL], &s.t));
	if (n != 0)
		wire_came(rst, n);
}

static void virtual_start(void)
{
	const struct sim_setup u = {.pre = 1, .proto = 1, .post = 1, .dma = 1, .seed = 1};
	struct toe_region_geometry g = {SIM_SLOTS, 1, SIM_TOKENS, 16, 128, 64, SIM_BUF, SIM_BUF};
	struct toe_region_layout l = {0};
	struct toe_config wanted = sim.cfg;
	uint64_t us = sim.us;

	sim_start(&u);
	sim.engine.caps.mtu = WIRE_MTU;
	sim.us = us;
	sim.cfg.ecn = wanted.ecn;
	sim.cfg.rto_min_ms = wanted.rto_min_ms;
	sim.cfg.time_wait_ms = wanted.time_wait_ms;
	sim.cfg.syn_backlog = wanted.syn_backlog;
	sim.cfg.orphans = wanted.orphans;
	sim_engine_step(0);
	toe_region_layout(&l, &g);
	memset(sim.app.control + l.off_tokens, 0xff, SIM_TOKENS * sizeof(uint32_t));
	sim.sent = wire_came;
	sim.tapped = wire_kernel;
	wire_start_cp();
}

/* ---- the state, in RFC 9293's names ---- */

static struct toe_tuple wire_tuple(const struct wire_peer *p)
{
	struct cp_addr local = wire_addr(1), remote = wire_addr(2);

	return cp_tuple(&local, p->lport, &remote, p->port);
}

static const char *wire_prog_state(uint32_t flags)
{
	bool sent = flags & TOE_PROG_FIN_SENT, acked = flags & TOE_PROG_FIN_ACKED;
	bool rcvd = flags & TOE_PROG_FIN_RCVD;

	if (flags & TOE_PROG_RESET)
		return "CLOSED";
	if (!sent)
		return rcvd ? "CLOSE-WAIT" : "ESTABLISHED";
	if (!rcvd)
		return acked ? "FIN-WAIT-2" : "FIN-WAIT-1";
	if (!acked)
		return flags & TOE_PROG_FIN_FIRST ? "CLOSING" : "LAST-ACK";
	return flags & TOE_PROG_FIN_FIRST ? "TIME-WAIT" : "CLOSED";
}

static const char *wire_state(const struct wire_peer *p)
{
	struct toe_tuple t = wire_tuple(p);
	struct cp_node n = cp_lookup(&virt.cp, &t);
	struct cp_half any;

	switch (n.kind) {
	case CP_NODE_TW:
		return "TIME-WAIT";
	case CP_NODE_HALF:
		return "SYN-RECEIVED";
	case CP_NODE_CONN:
		if (virt.cp.conns[n.index].state == CP_SYN_SENT)
			return virt.cp.conns[n.index].flags & CP_CONN_SYN_RCVD ? "SYN-RECEIVED"
									       : "SYN-SENT";
		return wire_prog_state(sim.engine.prog[n.index].flags);
	default:
		return cp_listener_find(&virt.cp, &t, &any) ? "LISTEN" : "CLOSED";
	}
}

static bool wire_counter(const char *name, uint64_t *value)
{
#define X(n, text)                                                                                 \
	if (strcmp(name, #n) == 0) {                                                               \
		*value = virt.st->counters[CP_CNT_##n];                                            \
		return true;                                                                       \
	}
	CP_COUNTERS(X)
#undef X
	for (unsigned d = 0; d < TOE_D_N; d++)
		if (strcmp(name, toe_drop_name[d]) == 0) {
			*value = sim_drops(d);
			return true;
		}
	for (unsigned c = 0; c < TOE_C_N; c++)
		if (strcmp(name, toe_counter_name[c]) == 0) {
			*value = sim_counter(c);
			return true;
		}
	return false;
}

#endif
