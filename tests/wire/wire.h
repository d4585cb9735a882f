/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The engine as a peer on the wire sees it, in virtual time: the real stages (tests/sim/sim.h) and
 * the real control plane (struct cp with its cp_io) joined by the control-plane queue, one
 * application with one listener, a clock that jumps from one timer to the next.
 *
 * A failed check prints why and ends the process: each script runs in a child of its own.
 */
#ifndef TOE_TEST_WIRE_H
#define TOE_TEST_WIRE_H

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void wire_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

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
static struct wire_rig {
	const char *script;
	unsigned line;
	uint32_t buf; /* bytes, each direction */
	bool started;
	uint64_t cursor_us; /* of the script */
	uint32_t tolerance_us;
	bool dead_link; /* the neighbour does not answer */
	bool six;       /* over IPv6 */
} wire = {.buf = 65536, .tolerance_us = 2000};

#include "../sim/sim.h"
#include "common/tcp_seq.h"
#include "controlplane/cp.h"
#include "controlplane/isn.h"

#define WIRE_SERVER_PORT 80u    /* ours, listening */
#define WIRE_PEER_PORT   40000u /* the peer's, unless a script says otherwise */
#define WIRE_LOCAL_PORT  50000u /* ours, active opens: the first one */
#define WIRE_REMOTE_PORT 9000u  /* the peer's, active opens */
#define WIRE_FLOOD_PORT  20000u /* the peer's: answers to these ports are counted only */
#define WIRE_FLOOD_N     10000u
#define WIRE_PEERS       8u
#define WIRE_FRAMES      2048u
/* Of the link.  20 more over IPv6, so that a script's segments are as long as over IPv4. */
#define WIRE_MTU (wire.six ? 1520u : 1500u)
/* Where TCP begins in a frame of the engine, which has neither IP options nor extension headers. */
#define WIRE_TCP (wire.six ? 54u : 34u)

/* One connection as the peer sees it; sequence numbers relative to the initial ones. */
struct wire_peer {
	uint16_t port;  /* the peer's */
	uint16_t lport; /* the engine's */
	uint32_t irs;   /* the peer's initial sequence number */
	uint32_t iss;   /* the engine's */
	bool iss_known;
	bool ts; /* both have offered timestamps: on everything from now on */
	bool ws; /* likewise, windows are scaled */
	bool own_ts_offer, own_ws_offer, ts_offer, ws_offer; /* the peer's, the engine's */
	uint8_t engine_ws;                                   /* shift of the engine's windows */
	uint32_t ts_val;                                     /* last TSval of the engine */
	uint32_t label;  /* flow label of the engine's packets */
	int32_t ts_skew; /* added to the peer's timestamps */
	uint32_t nxt;    /* last ACK of the engine */
	uint32_t edge;   /* right edge it has advertised */
	uint32_t max;    /* highest sequence number it has sent */
	uint32_t una;    /* last ACK of the peer */
	uint32_t pnxt;   /* the peer's next sequence number */
	uint32_t win;    /* window field of the peer */
	uint32_t slot;   /* TOE_NONE: not accepted */
	uint32_t token;
	uint32_t read;
	uint32_t written;
};

struct wire_frame {
	uint64_t us;
	uint32_t len;
	uint8_t data[SIM_FRAME];
};

static struct {
	struct cp cp;
	struct cp_state_hdr *st;
	struct toe_ctl_msg reply; /* last one to a request */
	uint16_t next_port;
	uint32_t connects;
	struct wire_peer peer[WIRE_PEERS];
	unsigned peer_n;
	struct wire_peer *at; /* the one the script speaks for */
	struct wire_frame frame[WIRE_FRAMES];
	unsigned frame_head, frame_tail;
	unsigned flood_synacks, flood_others;
	uint32_t mtu_route;
	uint32_t sent_end, sent_ack; /* of the peer's last segment */
} w;

static void wire_fail(const char *fmt, ...)
{
	va_list ap;

	printf("%s:%u: ", wire.script ? wire.script : "?", wire.line);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf(" (at %.3f ms)\n", (double)(sim.us - 1000000) / 1000);
	fflush(stdout);
	_exit(1);
}

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
		w.reply = *m;
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
			       .mtu = (uint16_t)w.mtu_route,
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
	return wire.dead_link ? -EAGAIN : 0;
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

/* As a frame leaves the engine. */
static void wire_sent(const uint8_t *data, uint32_t len)
{
	struct wire_frame *f = &w.frame[w.frame_tail % WIRE_FRAMES];

	if (w.frame_tail - w.frame_head == WIRE_FRAMES)
		wire_fail("more than %u segments nobody asked for", WIRE_FRAMES);
	f->us = sim.us;
	f->len = len;
	memcpy(f->data, data, len);
	w.frame_tail++;
}

static unsigned wire_events(void)
{
	struct toe_cpq_entry *e;
	unsigned n = 0;

	for (; (e = sim_event()) != NULL; n++) {
		cp_event(&w.cp, e);
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

		cp_set_time(&w.cp, sim.us);
		done += wire_events();
		down = sim.engine.cpq->down_prod;
		next = cp_timers_run(&w.cp);
		cp_listen_durable(&w.cp);
		done += down != sim.engine.cpq->down_prod;
		sim.out.head = sim.out.tail; /* wire_sent() has it */
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
	cp_keeper_msg(&w.cp, m, &fd, type == TOE_CTL_CP_APP || type == TOE_CTL_CONNECT ? 1 : 0);
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
	assert_int_equal(w.reply.status, 0);
}

static void wire_start_cp(void)
{
	struct cp_state_geometry g = {SIM_CONNS, 4, 2, SIM_SLOTS, 1};
	struct toe_ctl_engine e = {0};
	struct toe_ctl_msg m;
	bool fresh;
	int fd = memfd_create("wire", MFD_CLOEXEC);

	assert_int_equal(cp_state_map(fd, &g, &w.st, &fresh), 0);
	close(fd);
	w.cp.cfg = &sim.cfg;
	w.cp.io = (struct cp_io){.cmd = wire_io_cmd,
				 .cmd_durable = wire_io_durable,
				 .keeper = wire_io_keeper,
				 .route = wire_io_route,
				 .neigh = wire_io_neigh,
				 .bind = wire_io_bind,
				 .map = wire_io_map,
				 .unmap = wire_io_unmap};
	w.cp.prog = sim.engine.prog;
	w.cp.stat = sim.engine.stat;
	w.cp.port_ipv4 = htonl(0x0a000001u);
	w.cp.mtu = sim.engine.caps.mtu;
	memcpy(e.port_ipv6[0], wire_addr(1).b, wire.six ? 16 : 0);
	cp_addrs_take(&w.cp, &e);
	memcpy(w.cp.port_mac, sim.engine.mac.addr_bytes, 6);
	cp_set_time(&w.cp, sim.us);
	assert_int_equal(cp_init(&w.cp, w.st), 0);
	cp_engine_changed(&w.cp, 1, true);
	wire_app_message(TOE_CTL_CP_APP);
	wire_app_message(TOE_CTL_CP_PROC);
	memset(&m, 0, sizeof(m));
	wire_keeper_msg(TOE_CTL_CP_READY, &m);
	wire_settle();
}

static struct wire_peer *wire_peer_add(uint16_t lport, uint16_t port)
{
	struct wire_peer *p = &w.peer[w.peer_n++];

	if (w.peer_n > WIRE_PEERS)
		wire_fail("more than %u peers", WIRE_PEERS);
	*p = (struct wire_peer){.port = port,
				.lport = lport,
				.irs = 0xffffff00u, /* wraps soon */
				.win = 60000,
				.slot = TOE_NONE,
				.pnxt = 0};
	return p;
}

/* Before the first statement that needs the engine. */
static void wire_start(void)
{
	const struct sim_setup u = {.pre = 1, .proto = 1, .post = 1, .dma = 1, .seed = 1};
	struct toe_region_geometry g = {SIM_SLOTS, 1, SIM_TOKENS, 16, 128, 64, SIM_BUF, SIM_BUF};
	struct toe_region_layout l = {0};
	struct toe_config wanted = sim.cfg;
	uint64_t us = sim.us;

	if (wire.started)
		return;
	wire.started = true;
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
	sim.sent = wire_sent;
	w.next_port = WIRE_LOCAL_PORT;
	wire_start_cp();
	wire.cursor_us = sim.us;
	w.at = wire_peer_add(WIRE_SERVER_PORT, WIRE_PEER_PORT);
}

/* The region's token map. */
static uint32_t *wire_token(uint32_t token)
{
	struct toe_region_geometry g = {SIM_SLOTS, 1, SIM_TOKENS, 16, 128, 64, SIM_BUF, SIM_BUF};
	struct toe_region_layout l = {0};

	toe_region_layout(&l, &g);
	return (uint32_t *)(sim.app.control + l.off_tokens) + token;
}

static struct toe_slot *wire_slot(void)
{
	if (w.at->slot == TOE_NONE)
		wire_fail("the connection has not been accepted");
	return toe_app_slot(&sim.app, w.at->slot);
}

static void wire_doorbell(void)
{
	struct toe_context *ctx = toe_app_context(&sim.app, 0);
	uint32_t *ring = (uint32_t *)(ctx + 1) + sim.app.hint_n;

	if (__atomic_exchange_n(&wire_slot()->doorbell_pending, 1, __ATOMIC_SEQ_CST) != 0)
		return;
	ring[ctx->doorbell_prod % sim.app.doorbell_n] = w.at->slot;
	__atomic_store_n(&ctx->doorbell_prod, ctx->doorbell_prod + 1, __ATOMIC_RELEASE);
}

/* Byte of either stream. */
static uint8_t wire_byte(uint32_t pos, bool from_peer)
{
	return (uint8_t)((pos * 2654435761u + from_peer * 77u) >> 11);
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
	struct cp_node n = cp_lookup(&w.cp, &t);
	struct cp_half any;

	switch (n.kind) {
	case CP_NODE_TW:
		return "TIME-WAIT";
	case CP_NODE_HALF:
		return "SYN-RECEIVED";
	case CP_NODE_CONN:
		if (w.cp.conns[n.index].state == CP_SYN_SENT)
			return w.cp.conns[n.index].flags & CP_CONN_SYN_RCVD ? "SYN-RECEIVED"
									    : "SYN-SENT";
		return wire_prog_state(sim.engine.prog[n.index].flags);
	default:
		return cp_listener_find(&w.cp, &t, &any) ? "LISTEN" : "CLOSED";
	}
}

#endif
