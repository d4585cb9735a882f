// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/unit/cp_rig.h */
/*
 * The control plane under sequences of {keeper message with an application's fields, segment from
 * the network, datapath event, bytes written to the region, time step}.  Checked: ids, slots,
 * half-open entries and TIME-WAITs add up, lists and table agree, no connection is in a state its
 * records contradict.  What the keeper stamps (application, process) and the datapath says is
 * plausible, everything else is the fuzzer's.
 */
#include "fuzz.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* The rig's checks end the process; cmocka is not linked. */
#undef assert_true
#undef assert_int_equal
#undef assert_non_null
#undef fail_msg
#define assert_true(x)         FUZZ_CHECK(x)
#define assert_int_equal(a, b) FUZZ_CHECK((uint64_t)(a) == (uint64_t)(b))
#define assert_non_null(x)     FUZZ_CHECK((x) != NULL)
#define fail_msg(...)          FUZZ_CHECK(0)

#define RIG_CMDS 256u /* cleared at every start */
#include "../unit/cp_rig.h"
#include "common/log.h"

#define FUZZ_STEPS 300u

static uint32_t list_count(const struct cp_list *l, uint32_t max)
{
	uint32_t n = 0;

	for (uint32_t i = l->head; i != TOE_NONE; i = l->link[i].next)
		FUZZ_CHECK(++n <= max);
	FUZZ_CHECK(n == l->n);
	return n;
}

static void check_conn(uint32_t id)
{
	const struct cp_conn *c = &rig.cp.conns[id];
	struct cp_node n = cp_lookup(&rig.cp, &c->t);
	const struct cp_slot *s = cp_slot_rec(&rig.cp, c->app, c->in.slot);

	FUZZ_CHECK(c->state <= CP_REMOVING);
	FUZZ_CHECK(n.kind == CP_NODE_CONN && n.index == id);
	FUZZ_CHECK(s != NULL && s->conn == id && (s->flags & CP_SLOT_USED));
}

static void check_all(void)
{
	const struct cp *cp = &rig.cp;
	uint32_t used = 0, free_ids = 0, tw = 0;

	for (uint32_t id = 0; id < RIG_CONNS; id++)
		if (cp->conns[id].state != CP_FREE) {
			used++;
			check_conn(id);
		}
	for (uint32_t g = 0; g < rig.st->flow_group_n; g++)
		free_ids += cp->free_id_n[g];
	FUZZ_CHECK(used == cp->conn_count && used + free_ids == RIG_CONNS);
	FUZZ_CHECK(list_count(&cp->half_list, cp->half_max) + cp->free_half_n == cp->half_max);
	for (uint32_t i = 0; i < rig.st->tw_n; i++)
		tw += (cp->tw[i].flags & CP_TW_USED) != 0;
	FUZZ_CHECK(tw == cp->tw_list.n && tw + cp->free_tw_n == rig.st->tw_n);
	list_count(&cp->tw_list, rig.st->tw_n);
	list_count(&cp->active, RIG_CONNS);
	list_count(&cp->syn_sent, RIG_CONNS);
	list_count(&cp->orphans, RIG_CONNS);
}

/* ---- the network ---- */

static void step_segment(struct fuzz_in *in)
{
	static const uint8_t flags[] = {CP_TCP_SYN,
					CP_TCP_ACK,
					CP_TCP_SYN | CP_TCP_ACK,
					CP_TCP_RST,
					CP_TCP_ACK | CP_TCP_FIN,
					CP_TCP_RST | CP_TCP_ACK};
	uint8_t how = fuzz_u8(in);
	struct cp_build b = rig_client((uint16_t)(5000 + how % 8), flags[fuzz_u8(in) % 6]);
	struct cp_addr to, from;
	struct toe_tuple t;
	struct cp_node n;

	if (how & 64) /* a server's side of one of our connects */
		b.t = rig_tuple(9, 80, 1, (uint16_t)(40000 + how % 4));
	to = cp_remote(&b.t);
	from = cp_local(&b.t);
	t = cp_tuple(&to, ntohs(b.t.remote_port), &from, ntohs(b.t.local_port));
	n = cp_lookup(&rig.cp, &t);
	b.seq = 1000 + (fuzz_u8(in) & 3);
	if (n.kind == CP_NODE_HALF)
		b.ack = rig.cp.half[n.index].iss + 1;
	else if (n.kind == CP_NODE_CONN)
		b.ack = rig.cp.conns[n.index].in.iss + 1;
	else
		b.ack = fuzz_u32(in);
	b.ack += how & 128 ? fuzz_u8(in) : 0;
	b.ts_val += fuzz_u8(in);
	b.opts &= fuzz_u8(in) | CP_OPT_MSS;
	b.mss = fuzz_u16(in);
	b.wscale = fuzz_u8(in);
	rig_rx(&b);
}

/* A frame of the fuzzer's own bytes, as a segment and as an ICMP error. */
static void step_raw(struct fuzz_in *in)
{
	struct {
		struct toe_cpq_entry e;
		uint8_t data[256];
	} ev;

	memset(&ev, 0, sizeof(ev));
	ev.e.type = fuzz_u8(in) & 1 ? TOE_EV_ICMP : TOE_EV_FRAME;
	ev.e.len = fuzz_u8(in);
	for (unsigned i = 0; i < ev.e.len; i++)
		ev.data[i] = fuzz_u8(in);
	cp_event(&rig.cp, &ev.e);
}

/* ---- the datapath: what it may say of a connection it knows ---- */

static void step_event(struct fuzz_in *in)
{
	static const uint16_t types[] = {TOE_EV_INSTALLED, TOE_EV_REMOVED, TOE_EV_RESET,
					 TOE_EV_CLOSED,    TOE_EV_ACTIVE,  TOE_EV_ACCEPT_FULL,
					 TOE_EV_DUMP};
	uint32_t id = fuzz_u8(in) % (RIG_CONNS + 1);
	struct toe_ev_conn ev = {.snd_nxt = fuzz_u32(in), .rcv_nxt = fuzz_u32(in)};
	uint32_t gen = id < RIG_CONNS ? rig.cp.conns[id].gen : 0;

	ev.flags = fuzz_u8(in);
	gen += fuzz_u8(in) == 1; /* a stale one */
	rig_event(types[fuzz_u8(in) % 7], id, gen, &ev);
}

static void step_progress(struct fuzz_in *in)
{
	uint32_t id = fuzz_u8(in) % RIG_CONNS;
	struct toe_flow_prog *p = &rig.prog[id];

	p->gen = rig.cp.conns[id].gen;
	p->snd_una += fuzz_u16(in);
	p->snd_nxt = p->snd_una + fuzz_u16(in);
	p->tx_tail = p->snd_nxt + fuzz_u8(in);
	p->snd_wnd = fuzz_u16(in);
	p->cwnd = fuzz_u16(in);
	p->ssthresh = fuzz_u32(in);
	p->flags = fuzz_u16(in);
	p->srtt_us = fuzz_u32(in);
	p->rttvar_us = fuzz_u32(in);
	p->loss_epoch += fuzz_u8(in) & 1;
	rig.stat[id * TOE_FLOW_STAT_REPLICAS].acked_bytes += fuzz_u16(in);
	rig.stat[id * TOE_FLOW_STAT_REPLICAS].rx_segs += fuzz_u8(in);
}

/* ---- the application ---- */

static void step_message(struct fuzz_in *in)
{
	static const uint16_t types[] = {
		TOE_CTL_LISTEN,       TOE_CTL_UNLISTEN, TOE_CTL_CONNECT,
		TOE_CTL_CP_TOKEN_HUP, TOE_CTL_CP_PROC,  TOE_CTL_CP_PROC_GONE,
		TOE_CTL_CP_APP_GONE,  TOE_CTL_CP_APP,   TOE_CTL_CP_TOKEN_FREE};
	struct toe_ctl_msg m;
	uint16_t type = types[fuzz_u8(in) % 9];

	memset(&m, 0, sizeof(m));
	for (unsigned i = 0, n = fuzz_u8(in) % 64; i < n; i++)
		m.u.raw[i] = fuzz_u8(in);
	m.app_id = RIG_APP;
	m.proc = fuzz_u8(in) % TOE_CTX_N;
	if (fuzz_u8(in) & 1) { /* likely to succeed */
		m.u.listen.family = rig_family;
		m.u.conn.family = rig_family;
	}
	switch (type) {
	case TOE_CTL_LISTEN:
	case TOE_CTL_UNLISTEN:
		memset(m.u.listen.addr, 0, 16);
		m.u.listen.port = RIG_PORT + (m.u.listen.port & 1);
		break;
	case TOE_CTL_CONNECT:
		rig.bind_port = (uint16_t)(40000 + (m.u.raw[0] & 3));
		m.u.conn.remote_port = 80;
		memcpy(m.u.conn.remote_addr, rig_addr(9).b, 16);
		break;
	case TOE_CTL_CP_TOKEN_HUP:
		m.u.token.app_id = RIG_APP;
		break;
	default:
		m.u.app = rig.app;
		m.u.app.ctx = m.proc;
		break;
	}
	rig_msg(type, &m);
}

/* Any byte of the region, at any time. */
static void step_region(struct fuzz_in *in)
{
	for (unsigned i = 0, n = fuzz_u8(in) % 8; i < n; i++)
		rig.region[fuzz_u32(in) % rig.layout.control_bytes] = fuzz_u8(in);
	/* hits that matter */
	rig_slot(fuzz_u8(in) % RIG_SLOTS)->rx_head = fuzz_u8(in);
	rig_slot(fuzz_u8(in) % RIG_SLOTS)->ctl = fuzz_u8(in);
	rig_slot(fuzz_u8(in) % RIG_SLOTS)->user_timeout_ms = fuzz_u16(in);
	*rig_token(fuzz_u8(in) % RIG_TOKENS) = fuzz_u8(in) % (RIG_SLOTS + 2) - 1;
}

static void step(struct fuzz_in *in)
{
	uint8_t op = fuzz_u8(in);

	if (op < 80)
		step_segment(in);
	else if (op < 100)
		step_raw(in);
	else if (op < 150)
		step_event(in);
	else if (op < 170)
		step_progress(in);
	else if (op < 210)
		step_message(in);
	else if (op < 230)
		step_region(in);
	else
		rig_run_ms(1u << (op % 12));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_in in = {data, size};

	setenv("TOE_LOG", "error", 1);
	toe_log_init("fuzz");
	/* the last byte, which old inputs hardly ever reach: they stay IPv4 */
	rig_family = size > 0 && data[size - 1] == 6 ? AF_INET6 : AF_INET;
	rig_up();
	for (unsigned n = 0; n < FUZZ_STEPS && in.left > 0; n++) {
		step(&in);
		rig_clear(); /* nobody looks at what was said */
		check_all();
	}
	rig_down();
	close(rig.fd);
	free(rig.region);
	return 0;
}
