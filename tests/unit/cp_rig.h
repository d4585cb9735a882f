/* SPDX-License-Identifier: BSD-3-Clause */
/* LINK: controlplane/core.c controlplane/table.c controlplane/listen.c controlplane/input.c
 * controlplane/handshake_passive.c controlplane/handshake_active.c controlplane/install.c
 * controlplane/teardown.c controlplane/timewait.c controlplane/timers.c controlplane/keepalive.c
 * controlplane/neigh.c controlplane/appif.c controlplane/restart.c controlplane/frame.c
 * controlplane/isn.c controlplane/syn_cookie.c controlplane/cc.c controlplane/cc_dctcp.c
 * controlplane/state.c common/flow_hash.c common/ctl_sock.c common/log.c common/config.c */
/*
 * A control plane without a world: state in a real memfd, region and progress lines in the heap,
 * commands and keeper messages captured, time set by the test.  Include once per test program.
 */
#ifndef CP_RIG_H
#define CP_RIG_H

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/ctl_sock.h"
#include "controlplane/cp.h"
#include "controlplane/isn.h"

#define RIG_CONNS 64u
#define RIG_SLOTS 16u
#ifndef RIG_CMDS
#define RIG_CMDS 4096u
#endif
#define RIG_APP    3u /* application id */
#define RIG_PORT   1883u
#define RIG_TOKENS 32u

struct rig_cmd {
	struct toe_cpq_entry e;
	uint8_t data[2048];
};

static struct {
	struct cp cp;
	struct toe_config cfg;
	int fd;
	struct cp_state_hdr *st;
	struct toe_flow_prog prog[RIG_CONNS];
	struct toe_flow_stat stat[RIG_CONNS * TOE_FLOW_STAT_REPLICAS];
	struct rig_cmd cmd[RIG_CMDS];
	uint32_t cmd_n;
	struct toe_ctl_msg msg[256];
	uint32_t msg_n;
	uint8_t *region;
	struct toe_ctl_app app;
	struct toe_region_layout layout;
	uint64_t now_us;
	int neigh_err;
	bool via_port;
	uint16_t bind_port;
	bool not_durable;
} rig;

static uint16_t rig_family = AF_INET; /* of everything the helpers below make */

static const uint8_t rig_mac[6] = {2, 0, 0, 0, 0, 1};
static const uint8_t peer_mac[6] = {2, 0, 0, 0, 0, 2};

/* 10.0.0.host or 2001:db8::host.  1: ours, 2: clients, 9: the server of connects. */
static inline struct cp_addr rig_addr(uint8_t host)
{
	const uint8_t v4[4] = {10, 0, 0, host};
	const uint8_t v6[16] = {0x20, 1, 0xd, 0xb8, [15] = host};

	return cp_addr_make(rig_family, rig_family == AF_INET6 ? v6 : v4);
}

static inline struct toe_tuple rig_tuple(uint8_t local, uint16_t local_port, uint8_t remote,
					 uint16_t remote_port)
{
	struct cp_addr l = rig_addr(local), r = rig_addr(remote);

	return cp_tuple(&l, local_port, &r, remote_port);
}

static inline void rig_io_cmd(void *ctx, const struct toe_cpq_entry *e, const void *data)
{
	struct rig_cmd *c = &rig.cmd[rig.cmd_n++];

	(void)ctx;
	assert_true(rig.cmd_n < RIG_CMDS && e->len <= sizeof(c->data));
	c->e = *e;
	if (e->len)
		memcpy(c->data, data, e->len);
}

static inline bool rig_io_durable(void *ctx)
{
	(void)ctx;
	return !rig.not_durable;
}

static inline void rig_io_keeper(void *ctx, struct toe_ctl_msg *m)
{
	(void)ctx;
	assert_true(rig.msg_n < 256);
	rig.msg[rig.msg_n++] = *m;
}

static inline int rig_io_route(void *ctx, const struct cp_addr *dst, struct cp_route *r)
{
	struct cp_addr us = rig_addr(1);

	(void)ctx;
	*r = (struct cp_route){.next_hop = *dst,
			       .via_port = rig.via_port,
			       .on_link = true,
			       .local = cp_addr_same(dst, &us)};
	return 0;
}

static inline int rig_io_neigh(void *ctx, const struct cp_addr *ip, uint8_t mac[6])
{
	(void)ctx;
	(void)ip;
	memcpy(mac, peer_mac, 6);
	return rig.neigh_err;
}

static inline int rig_io_bind(void *ctx, int fd, const struct cp_addr *addr, uint16_t *port)
{
	(void)ctx;
	(void)fd;
	(void)addr;
	*port = rig.bind_port;
	return 0;
}

static inline uint8_t *rig_io_map(void *ctx, int fd, uint64_t bytes)
{
	(void)ctx;
	(void)fd;
	(void)bytes;
	return rig.region;
}

static inline void rig_io_unmap(void *ctx, uint8_t *p, uint64_t bytes)
{
	(void)ctx;
	(void)p;
	(void)bytes;
}

static inline void rig_time(uint64_t us)
{
	rig.now_us = us;
	cp_set_time(&rig.cp, us);
}

static inline void rig_pass(uint64_t us)
{
	rig_time(rig.now_us + us);
}

/* Lets time go by in steps, running timers as the loop does. */
static inline void rig_run_ms(uint64_t ms)
{
	uint64_t end = rig.now_us / 1000 + ms;

	for (;;) {
		uint64_t next = cp_timers_run(&rig.cp);

		if (next > end)
			break;
		rig_time(next * 1000);
	}
	rig_time(end * 1000);
	cp_timers_run(&rig.cp);
}

/* First captured command of the type at or after *at; moves *at behind it. */
static inline struct rig_cmd *rig_find(uint32_t *at, uint16_t type)
{
	while (*at < rig.cmd_n)
		if (rig.cmd[(*at)++].e.type == type)
			return &rig.cmd[*at - 1];
	return NULL;
}

static inline uint32_t rig_count(uint16_t type)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < rig.cmd_n; i++)
		n += rig.cmd[i].e.type == type;
	return n;
}

/* The captured command of the type (the last one), which must exist. */
static inline struct rig_cmd *rig_last(uint16_t type)
{
	for (uint32_t i = rig.cmd_n; i-- > 0;)
		if (rig.cmd[i].e.type == type)
			return &rig.cmd[i];
	fail_msg("no command %u", type);
	return NULL;
}

static inline struct toe_ctl_msg *rig_last_msg(uint16_t type)
{
	for (uint32_t i = rig.msg_n; i-- > 0;)
		if (rig.msg[i].type == type)
			return &rig.msg[i];
	return NULL;
}

/* The last frame that went out, parsed. */
static inline struct cp_seg rig_sent(void)
{
	struct rig_cmd *c = rig_last(TOE_CMD_FRAME_TX);
	struct cp_seg s;

	assert_int_equal(cp_frame_parse(c->data, c->e.len, &s), 0);
	return s;
}

static inline void rig_clear(void)
{
	rig.cmd_n = 0;
	rig.msg_n = 0;
}

static inline void rig_boot(void)
{
	struct cp_state_geometry g = {RIG_CONNS, 4, 4, RIG_SLOTS, 8};
	bool fresh;

	memset(&rig.cp, 0, sizeof(rig.cp));
	assert_int_equal(cp_state_map(rig.fd, &g, &rig.st, &fresh), 0);
	rig.cp.cfg = &rig.cfg;
	rig.cp.io = (struct cp_io){
		.cmd = rig_io_cmd,
		.cmd_durable = rig_io_durable,
		.keeper = rig_io_keeper,
		.route = rig_io_route,
		.neigh = rig_io_neigh,
		.bind = rig_io_bind,
		.map = rig_io_map,
		.unmap = rig_io_unmap,
	};
	rig.cp.prog = rig.prog;
	rig.cp.stat = rig.stat;
	rig.cp.port_ipv4 = inet_addr("10.0.0.1");
	if (rig_family == AF_INET6)
		memcpy(rig.cp.port_ipv6[0], rig_addr(1).b, 16);
	/* the same MSS over both */
	rig.cp.mtu = (uint16_t)(1480 + toe_ip_header_bytes(rig_family));
	memcpy(rig.cp.port_mac, rig_mac, 6);
	rig_time(rig.now_us);
	assert_int_equal(cp_init(&rig.cp, rig.st), 0);
	cp_engine_changed(&rig.cp, 1, true);
}

static inline void rig_down(void)
{
	cp_fini(&rig.cp);
	munmap(rig.st, rig.st->total_bytes);
}

static inline void rig_msg(uint16_t type, struct toe_ctl_msg *m)
{
	int fd = 0;

	m->type = type;
	m->req = 7;
	cp_keeper_msg(&rig.cp, m, &fd, type == TOE_CTL_CP_APP || type == TOE_CTL_CONNECT ? 1 : 0);
}

static inline void rig_app_message(uint16_t type)
{
	struct toe_ctl_msg m;

	memset(&m, 0, sizeof(m));
	m.u.app = rig.app;
	rig_msg(type, &m);
}

static inline void rig_event(uint16_t type, uint32_t conn, uint32_t gen,
			     const struct toe_ev_conn *ev)
{
	struct {
		struct toe_cpq_entry e;
		struct toe_ev_conn ev;
	} in = {{.type = type, .len = ev ? sizeof(*ev) : 0, .conn = conn, .gen = gen}, {0}};

	if (ev)
		in.ev = *ev;
	cp_event(&rig.cp, &in.e);
}

/* The datapath has finished starting over: answers DUMP with nothing more. */
static inline void rig_ready(void)
{
	struct toe_ctl_msg m;

	memset(&m, 0, sizeof(m));
	rig_msg(TOE_CTL_CP_READY, &m);
}

static inline void rig_up(void)
{
	struct toe_region_geometry g;

	memset(&rig, 0, sizeof(rig));
	toe_config_defaults(&rig.cfg);
	rig.via_port = true;
	rig.bind_port = 40000;
	rig.now_us = 1000000000;
	rig.fd = memfd_create("rig", 0);
	rig.app = (struct toe_ctl_app){
		.app_id = RIG_APP,
		.slot_n = RIG_SLOTS,
		.listener_n = 8,
		.token_n = RIG_TOKENS,
		.backlog_n = 16,
		.hint_n = 32,
		.doorbell_n = 16,
		.rx_buf_bytes = 262144,
		.tx_buf_bytes = 262144,
		.name = "test",
	};
	g = toe_ctl_app_geometry(&rig.app);
	assert_int_equal(toe_region_layout(&rig.layout, &g), 0);
	rig.region = aligned_alloc(4096, rig.layout.control_bytes);
	memset(rig.region, 0, rig.layout.control_bytes);
	memset(rig.region + rig.layout.off_tokens, 0xff, RIG_TOKENS * sizeof(uint32_t));
	rig_boot();
	rig_app_message(TOE_CTL_CP_APP);
	assert_int_equal(rig.msg[rig.msg_n - 1].status, 0);
	rig_app_message(TOE_CTL_CP_PROC);
	rig_ready();
	rig_event(TOE_EV_DUMP, TOE_NONE, 0, NULL);
	assert_non_null(rig_last_msg(TOE_CTL_CP_READY));
	rig_clear();
}

static inline int rig_setup(void **state)
{
	(void)state;
	rig_up();
	return 0;
}

static inline int rig_teardown(void **state)
{
	(void)state;
	rig_down();
	close(rig.fd);
	free(rig.region);
	return 0;
}

static inline struct toe_slot *rig_slot(uint32_t i)
{
	return (struct toe_slot *)(rig.region + rig.layout.off_slots) + i;
}

static inline uint32_t *rig_token(uint32_t i)
{
	return (uint32_t *)(rig.region + rig.layout.off_tokens) + i;
}

static inline struct toe_listener *rig_listener(uint32_t i)
{
	return (struct toe_listener *)(rig.region + rig.layout.off_listeners +
				       i * toe_listener_stride(rig.app.backlog_n));
}

static inline uint32_t rig_listen(uint32_t backlog)
{
	struct toe_ctl_msg m;

	memset(&m, 0, sizeof(m));
	m.app_id = RIG_APP;
	m.u.listen.family = rig_family;
	m.u.listen.v6only = rig_family == AF_INET6;
	m.u.listen.port = RIG_PORT;
	m.u.listen.backlog = backlog;
	rig_msg(TOE_CTL_LISTEN, &m);
	assert_int_equal(rig_last_msg(TOE_CTL_LISTEN)->status, 0);
	return rig_last_msg(TOE_CTL_LISTEN)->u.listen.listener;
}

/* A client's segment to our listener's port. */
static inline struct cp_build rig_client(uint16_t sport, uint8_t flags)
{
	return (struct cp_build){
		.src_mac = peer_mac,
		.dst_mac = rig_mac,
		.t = rig_tuple(2, sport, 1, RIG_PORT),
		.seq = 1000,
		.flags = flags,
		.wnd = 64240,
		.mss = 1460,
		.wscale = 7,
		.ts_val = 5000,
		.opts = flags & CP_TCP_SYN ? CP_OPT_MSS | CP_OPT_WS | CP_OPT_SACK | CP_OPT_TS
					   : CP_OPT_TS,
	};
}

static inline void rig_rx(const struct cp_build *b)
{
	uint8_t frame[CP_FRAME_MAX];
	uint32_t len = cp_frame_build(frame, b);

	cp_input(&rig.cp, frame, len);
}

/* Handshake of a client; returns the connection's id (INSTALLED not yet raised). */
static inline uint32_t rig_accept(uint16_t sport)
{
	struct cp_build b = rig_client(sport, CP_TCP_SYN);
	struct cp_seg s;

	rig_rx(&b);
	s = rig_sent();
	b = rig_client(sport, CP_TCP_ACK);
	b.seq = 1001;
	b.ack = s.seq + 1;
	b.ts_ecr = s.ts_val;
	rig_rx(&b);
	return rig_last(TOE_CMD_INSTALL)->e.conn;
}

static inline void rig_installed(uint32_t id)
{
	rig.prog[id].gen = rig.cp.conns[id].gen;
	rig.prog[id].snd_una = rig.prog[id].snd_nxt = rig.prog[id].tx_tail =
		rig.cp.conns[id].in.snd_nxt;
	rig.prog[id].snd_wnd = 65535;
	rig.prog[id].cwnd = rig.cp.conns[id].in.cwnd;
	rig.prog[id].ssthresh = rig.cp.conns[id].in.ssthresh;
	rig.prog[id].flags = 0;
	rig.prog[id].srtt_us = 1000;
	rig.prog[id].rttvar_us = 500;
	rig_event(TOE_EV_INSTALLED, id, rig.cp.conns[id].gen, NULL);
}

static inline void rig_hup(uint32_t token)
{
	struct toe_ctl_msg m;

	memset(&m, 0, sizeof(m));
	m.u.token.app_id = RIG_APP;
	m.u.token.count = 1;
	m.u.token.ids[0] = token;
	rig_msg(TOE_CTL_CP_TOKEN_HUP, &m);
}

static inline struct toe_ctl_msg *rig_connect(uint32_t token)
{
	struct toe_ctl_msg m;

	memset(&m, 0, sizeof(m));
	m.app_id = RIG_APP;
	m.u.conn.family = rig_family;
	m.u.conn.remote_port = 80;
	m.u.conn.token = token;
	memcpy(m.u.conn.remote_addr, rig_addr(9).b, 16);
	rig_msg(TOE_CTL_CONNECT, &m);
	return rig_last_msg(TOE_CTL_CONNECT);
}

/* The server's answer to our last SYN. */
static inline struct cp_build rig_server(const struct cp_seg *syn, uint8_t flags)
{
	return (struct cp_build){
		.src_mac = peer_mac,
		.dst_mac = rig_mac,
		.t = syn->t,
		.seq = 9000,
		.ack = syn->seq + 1,
		.flags = flags,
		.wnd = 28960,
		.mss = 1400,
		.wscale = 5,
		.ts_val = 777,
		.ts_ecr = syn->ts_val,
		.opts = flags & CP_TCP_SYN ? CP_OPT_MSS | CP_OPT_WS | CP_OPT_SACK | CP_OPT_TS
					   : CP_OPT_TS,
	};
}

static inline void rig_neigh(uint8_t host, const uint8_t *mac)
{
	struct cp_addr ip = rig_addr(host);

	cp_neigh_changed(&rig.cp, &ip, mac);
}

/* One after the other: in an expression the family could be set before the first group runs. */
static inline int rig_run_families(const char *name, const char *name6,
				   const struct CMUnitTest *tests, size_t n)
{
	int failed = _cmocka_run_group_tests(name, tests, n, NULL, NULL);

	rig_family = AF_INET6;
	return failed + _cmocka_run_group_tests(name6, tests, n, NULL, NULL);
}

/* The group over IPv4, then over IPv6; as cmocka_run_group_tests_name(). */
#define rig_run_both(name, tests)                                                                  \
	rig_run_families(name, name "_ipv6", tests, sizeof(tests) / sizeof(tests[0]))

#endif
