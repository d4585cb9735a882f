/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Many connections through a bad network, in virtual time: engine and control plane of virtual.h,
 * an emulator that loses, repeats, reorders and damages frames, and a TCP peer of its own that
 * shares no code with the engine: go-back-N, three duplicates, SACK blocks, windows, half-close.
 */
#ifndef TOE_TEST_WIRE_SOAK_H
#define TOE_TEST_WIRE_SOAK_H

#include "virtual.h"

#include "app.h"

#define SOAK_PEERS  48u
#define SOAK_PKTS   8192u
#define SOAK_MSS    1200u
#define SOAK_FLIGHT 24u /* segments the peer has out at most */
#define SOAK_RTO_US 150000u

struct soak_setup {
	unsigned loss_pm, reorder_pm, dup_pm, corrupt_pm; /* per thousand */
	unsigned bytes_max;
	uint32_t seed;
	bool sack, ts, ws;
};

struct soak_pkt {
	uint64_t due_us;
	uint64_t serial; /* those due at the same time keep their order */
	bool to_engine;
	uint32_t len;
	uint8_t data[SIM_FRAME];
};

struct soak_peer {
	struct wire_peer wp;
	bool active;   /* the engine connects */
	bool syn_seen; /* its SYN has arrived */
	bool up;       /* handshake done, seen from here */
	bool dead;
	/* sending; positions, goal is the end */
	uint32_t goal, una, nxt, max, wnd;
	bool fin_sent, fin_acked;
	unsigned dups;
	uint64_t rto_at, rto_us;
	/* receiving */
	uint32_t rcvd, fin_at;
	bool fin_seen, fin_rcvd;
	uint32_t dup_left, dup_right; /* to be reported */
	uint8_t have[65536 / 8];      /* bit pos % 65536, of what is above rcvd */
	/* the engine's application */
	uint32_t a_goal;
	bool a_shut, a_closed;
	unsigned a_pace; /* reads one turn in so many */
};

static struct {
	const struct soak_setup *u;
	struct soak_pkt pkt[SOAK_PKTS];
	unsigned heap[SOAK_PKTS], heap_n; /* by due_us */
	uint64_t serial;
	unsigned spare[SOAK_PKTS], spare_n;
	struct soak_peer peer[SOAK_PEERS];
	unsigned n;
} soak;

/* ---- emulator ---- */

static bool soak_before(unsigned a, unsigned b)
{
	const struct soak_pkt *p = &soak.pkt[soak.heap[a]], *q = &soak.pkt[soak.heap[b]];

	return p->due_us != q->due_us ? p->due_us < q->due_us : p->serial < q->serial;
}

static void soak_swap(unsigned a, unsigned b)
{
	unsigned t = soak.heap[a];

	soak.heap[a] = soak.heap[b];
	soak.heap[b] = t;
}

static void soak_heap_add(unsigned i)
{
	unsigned at = soak.heap_n++;

	soak.heap[at] = i;
	for (; at > 0 && soak_before(at, (at - 1) / 2); at = (at - 1) / 2)
		soak_swap(at, (at - 1) / 2);
}

static unsigned soak_heap_take(void)
{
	unsigned first = soak.heap[0], at = 0;

	soak.heap[0] = soak.heap[--soak.heap_n];
	for (;;) {
		unsigned least = at, l = 2 * at + 1, r = l + 1;

		if (l < soak.heap_n && soak_before(l, least))
			least = l;
		if (r < soak.heap_n && soak_before(r, least))
			least = r;
		if (least == at)
			return first;
		soak_swap(at, least);
		at = least;
	}
}

/* Version, class, flow label and hop limit of IPv6 are covered by the card's checksum only. */
static uint32_t soak_covered(uint32_t at)
{
	return wire.six && ((at >= 14 && at < 18) || at == 21) ? 22 : at;
}

static bool soak_chance(unsigned per_thousand)
{
	return sim_rnd(1000) < per_thousand;
}

static void soak_send(const uint8_t *data, uint32_t len, bool to_engine)
{
	unsigned copies = soak_chance(soak.u->dup_pm) ? 2 : 1;

	if (soak_chance(soak.u->loss_pm))
		return;
	for (; copies > 0 && soak.spare_n > 0; copies--) {
		unsigned i = soak.spare[--soak.spare_n];
		struct soak_pkt *p = &soak.pkt[i];

		p->due_us = sim.us + 2000 + (soak_chance(soak.u->reorder_pm) ? sim_rnd(5000) : 0);
		p->serial = soak.serial++;
		p->to_engine = to_engine;
		p->len = len;
		memcpy(p->data, data, len);
		if (soak_chance(soak.u->corrupt_pm)) /* behind the addresses of Ethernet */
			p->data[soak_covered(12 + sim_rnd(len - 12))] ^=
				(uint8_t)(1u << sim_rnd(8));
		soak_heap_add(i);
	}
}

/* ---- peer ---- */

static void soak_segment(struct soak_peer *p, uint8_t flags, uint32_t pos, uint32_t len)
{
	struct wire_seg g = {.flags = flags,
			     .seq = pos + 1,
			     .len = len,
			     .ack = p->rcvd + 1 + p->fin_rcvd,
			     .win = 60000 >> (p->wp.ws ? 3 : 0),
			     .ws = -1,
			     .vlan = -1};
	uint8_t frame[SIM_FRAME];

	if (flags & TOE_TCP_SYN) {
		g.seq = 0;
		g.win = 60000;
		g.mss = SOAK_MSS;
		g.sackok = soak.u->sack;
		g.ts = soak.u->ts;
		g.ws = soak.u->ws ? 3 : -1;
		g.any_val = g.any_ecr = true;
	} else if (p->wp.ts) {
		g.ts = g.any_val = g.any_ecr = true;
	}
	if (p->dup_right != p->dup_left && len == 0) { /* D-SACK */
		g.sack[0][0] = p->dup_left + 1;
		g.sack[0][1] = p->dup_right + 1;
		g.sack_n = 1;
		p->dup_left = p->dup_right;
	}
	/* what is held right above the first hole */
	if (soak.u->sack && p->up && len == 0) {
		uint32_t a = p->rcvd, b;

		while (a < p->rcvd + 65535 && !(p->have[a % 65536 / 8] >> (a % 8) & 1))
			a++;
		for (b = a; b < p->rcvd + 65535 && (p->have[b % 65536 / 8] >> (b % 8) & 1);)
			b++;
		if (a != b) {
			g.sack[g.sack_n][0] = a + 1;
			g.sack[g.sack_n][1] = b + 1;
			g.sack_n++;
		}
	}
	w.at = &p->wp;
	soak_send(frame, wire_seg_build(&g, frame), true);
}

static void soak_ack(struct soak_peer *p)
{
	soak_segment(p, TOE_TCP_ACK, p->max, 0);
}

static void soak_push(struct soak_peer *p)
{
	uint32_t room = p->wnd < SOAK_FLIGHT * SOAK_MSS ? p->wnd : SOAK_FLIGHT * SOAK_MSS;

	if (!p->up)
		return;
	while (p->nxt < p->goal && p->nxt - p->una < room) {
		uint32_t len = p->goal - p->nxt;

		len = len < SOAK_MSS ? len : SOAK_MSS;
		len = len < room - (p->nxt - p->una) ? len : room - (p->nxt - p->una);
		soak_segment(p, TOE_TCP_ACK | TOE_TCP_PSH, p->nxt, len);
		p->nxt += len;
	}
	if (p->nxt == p->goal && !p->fin_sent) {
		soak_segment(p, TOE_TCP_ACK | TOE_TCP_FIN, p->nxt, 0);
		p->fin_sent = true;
	}
	p->max = p->nxt + p->fin_sent > p->max ? p->nxt + p->fin_sent : p->max;
}

static void soak_timer(struct soak_peer *p)
{
	bool waiting = !p->up || p->una < p->goal || !p->fin_acked;

	if (p->dead || !waiting || sim.us < p->rto_at)
		return;
	p->rto_us = p->rto_us < 2000000 ? p->rto_us * 2 : p->rto_us;
	p->rto_at = sim.us + p->rto_us;
	if (!p->up) {
		if (!p->active)
			soak_segment(p, TOE_TCP_SYN, 0, 0);
		else if (p->syn_seen)
			soak_segment(p, TOE_TCP_SYN | TOE_TCP_ACK, 0, 0);
		return;
	}
	p->nxt = p->una;
	p->fin_sent = p->fin_sent && p->fin_acked;
	if (p->wnd == 0 && p->una < p->goal) { /* probe */
		soak_segment(p, TOE_TCP_ACK, p->una, 1);
		p->max = p->una + 1 > p->max ? p->una + 1 : p->max;
		return;
	}
	soak_push(p);
}

static void soak_take_ack(struct soak_peer *p, const struct wire_seg *g)
{
	uint32_t to = g->ack - 1, top = p->max;
	bool news = (int32_t)(to - p->una) > 0 && (int32_t)(to - top) <= 0;

	if ((int32_t)(to - top) > 0)
		wire_fail("the engine acknowledges %u, sent are %u", to, top);
	if ((int32_t)(to - p->una) < 0)
		return;
	if (news) {
		if (to > p->goal) {
			p->fin_acked = true;
			to = p->goal;
		}
		p->una = to;
		p->nxt = p->nxt > to ? p->nxt : to;
		p->dups = 0;
		p->rto_us = SOAK_RTO_US;
		p->rto_at = sim.us + p->rto_us;
	} else if (g->len == 0 && p->nxt > p->una && ++p->dups == 3) {
		uint32_t len = p->goal - p->una;

		soak_segment(p, TOE_TCP_ACK, p->una, len < SOAK_MSS ? len : SOAK_MSS);
	}
	p->wnd = g->win << (p->wp.ws ? p->wp.engine_ws : 0);
}

static void soak_take_data(struct soak_peer *p, const struct wire_seg *g)
{
	uint32_t pos = g->seq - 1;

	if (soak.u->sack && g->len > 0 && (int32_t)(pos + g->len - p->rcvd) <= 0) {
		p->dup_left = pos;
		p->dup_right = pos + g->len;
	}
	for (uint32_t i = 0; i < g->len; i++, pos++)
		if (pos - p->rcvd < 65536)
			p->have[pos % 65536 / 8] |= (uint8_t)(1u << (pos % 8));
	if (g->flags & TOE_TCP_FIN) {
		if (p->fin_seen && p->fin_at != pos)
			wire_fail("two ends of the engine's stream: %u and %u", p->fin_at, pos);
		p->fin_seen = true;
		p->fin_at = pos;
	}
	while (p->have[p->rcvd % 65536 / 8] >> (p->rcvd % 8) & 1) {
		p->have[p->rcvd % 65536 / 8] &= (uint8_t) ~(1u << (p->rcvd % 8));
		p->rcvd++;
	}
	p->fin_rcvd |= p->fin_seen && p->fin_at == p->rcvd;
	if (p->fin_rcvd && p->rcvd != p->a_goal)
		wire_fail("the engine's stream ends at %u of %u", p->rcvd, p->a_goal);
}

/* The engine has finished both directions. */
static bool soak_through(const struct soak_peer *p)
{
	const uint32_t both = TOE_SLOT_RX_FIN | TOE_SLOT_TX_DONE;

	return p->a_closed || (p->wp.slot != WIRE_NONE &&
			       (toe_app_slot(&sim.app, p->wp.slot)->state & both) == both);
}

static void soak_input(struct soak_peer *p, const struct wire_frame *f)
{
	struct wire_seg g;

	w.at = &p->wp;
	g = wire_decode(f, &p->wp);
	if (g.flags & TOE_TCP_RST) {
		/* only when both streams are through: an old duplicate has no connection */
		if (!soak_through(p) || !p->fin_rcvd)
			wire_fail("port %u was reset: %s", p->wp.port, wire_seg_text(&g));
		p->dead = true;
		return;
	}
	if (g.flags & TOE_TCP_SYN) {
		p->wp.own_ts_offer = soak.u->ts;
		p->wp.own_ws_offer = soak.u->ws;
		wire_negotiated(&p->wp);
		p->syn_seen = true;
		if (!(g.flags & TOE_TCP_ACK)) {
			soak_segment(p, TOE_TCP_SYN | TOE_TCP_ACK, 0, 0);
			return;
		}
		p->wnd = g.win;
		p->up = true;
		soak_ack(p);
		soak_push(p);
		return;
	}
	if (!p->up && !p->active)
		return;
	p->up = true; /* the ACK of our SYN-ACK, or what comes behind it */
	soak_take_ack(p, &g);
	soak_take_data(p, &g);
	if (g.len > 0 || (g.flags & TOE_TCP_FIN) || g.seq != p->rcvd + 1 + p->fin_rcvd)
		soak_ack(p);
	soak_push(p);
}

/* A frame the emulator damaged would not get past a network card. */
static bool soak_intact(const struct wire_frame *f)
{
	const struct rte_ipv4_hdr *ip = (const struct rte_ipv4_hdr *)(f->data + 14);
	const struct rte_ipv6_hdr *ip6 = (const struct rte_ipv6_hdr *)(f->data + 14);

	if (wire.six)
		return f->data[12] == 0x86 && f->data[13] == 0xdd && ip6->proto == 6 &&
		       rte_be_to_cpu_16(ip6->payload_len) + 54u <= f->len &&
		       rte_ipv6_udptcp_cksum_verify(ip6, f->data + 54) == 0;
	return f->data[12] == 8 && f->data[13] == 0 && ip->version_ihl == 0x45 &&
	       rte_raw_cksum(ip, 20) == 0xffff &&
	       rte_be_to_cpu_16(ip->total_length) + 14u <= f->len &&
	       rte_ipv4_udptcp_cksum_verify(ip, (const struct rte_tcp_hdr *)(f->data + 34)) == 0;
}

static struct soak_peer *soak_peer_of(const struct wire_frame *f)
{
	for (unsigned i = 0; i < soak.n; i++)
		if (soak.peer[i].wp.port == wire_frame_port(f, 2) &&
		    soak.peer[i].wp.lport == wire_frame_port(f, 0))
			return &soak.peer[i];
	return NULL;
}

/* As it leaves the engine, in order: numbers it has used, its right edge. */
static void soak_note(const struct wire_frame *f)
{
	struct soak_peer *p = soak_peer_of(f);
	struct wire_seg g;

	if (p == NULL)
		return;
	w.at = &p->wp;
	if (!p->wp.iss_known && (f->data[WIRE_TCP + 13] & TOE_TCP_SYN)) {
		p->wp.iss = wire_get32(f->data + WIRE_TCP + 4);
		p->wp.iss_known = true;
	}
	g = wire_decode(f, &p->wp);
	wire_note_seg(&g);
}

static void soak_deliver(const struct soak_pkt *pkt)
{
	static struct wire_frame f;
	struct soak_peer *p;

	if (pkt->to_engine) {
		sim_wire_put(&sim.in, pkt->data, pkt->len);
		return;
	}
	f.us = sim.us;
	f.len = pkt->len;
	memcpy(f.data, pkt->data, pkt->len);
	p = soak_intact(&f) ? soak_peer_of(&f) : NULL;
	if (p != NULL && p->wp.iss_known)
		soak_input(p, &f);
}

/* ---- the engine's application ---- */

static void soak_accept(void)
{
	struct toe_listener *l = wire_listener();
	const uint32_t *ring = (const uint32_t *)(l + 1);

	for (; l->cons != __atomic_load_n(&l->prod, __ATOMIC_ACQUIRE); l->cons++) {
		uint32_t slot = ring[l->cons % 16];
		uint16_t port = toe_app_slot(&sim.app, slot)->remote_port;

		for (unsigned i = 0; i < soak.n; i++)
			if (!soak.peer[i].active && soak.peer[i].wp.port == port) {
				soak.peer[i].wp.slot = soak.peer[i].wp.token = slot;
				*wire_token(slot) = slot;
			}
	}
}

/* A statement, without wire_line()'s check that nothing was sent. */
static void soak_verb(wire_verb *run, uint32_t n)
{
	char text[16];
	char *rest = text;

	snprintf(text, sizeof(text), "%u", n);
	run(&rest);
}

static void soak_app(struct soak_peer *p)
{
	struct toe_slot *s;
	uint32_t room, ready;

	if (p->wp.slot == WIRE_NONE || p->a_closed)
		return;
	w.at = &p->wp;
	s = wire_slot();
	if (s->state & TOE_SLOT_ERROR)
		wire_fail("port %u: error %u", p->wp.port, s->error);
	if (!(s->state & TOE_SLOT_ESTABLISHED))
		return;
	room = SIM_BUF - (w.at->written - s->tx_head);
	room = room < p->a_goal - w.at->written ? room : p->a_goal - w.at->written;
	if (room > 0)
		soak_verb(verb_write, 1 + sim_rnd(room));
	ready = s->rx_tail - w.at->read;
	if (ready > 0 && sim_rnd(p->a_pace) == 0)
		soak_verb(verb_read, 1 + sim_rnd(ready));
	if (w.at->written == p->a_goal && !p->a_shut) {
		p->a_shut = true;
		wire_ctl(TOE_CTL_SHUT_WR, true);
	}
	if (p->a_shut && (s->state & TOE_SLOT_RX_FIN) && s->rx_tail == w.at->read) {
		if (w.at->read != p->goal)
			wire_fail("the application has read %u of %u", w.at->read, p->goal);
		p->a_closed = true;
		verb_close(NULL);
	}
}

/* ---- run ---- */

static void soak_open(unsigned i)
{
	struct soak_peer *p = &soak.peer[i];
	unsigned most = soak.u->bytes_max;

	memset(p, 0, sizeof(*p));
	p->active = i % 3 == 2;
	p->goal = sim_rnd(4) == 0 ? 0 : sim_rnd(most);
	p->a_goal = sim_rnd(4) == 0 ? 0 : sim_rnd(most);
	p->a_pace = 1 + sim_rnd(8);
	p->rto_us = SOAK_RTO_US;
	p->rto_at = sim.us + p->rto_us;
	if (p->active) {
		verb_connect(NULL);
		p->wp = *w.at;
		w.peer_n--;
	} else {
		p->wp = (struct wire_peer){.lport = WIRE_SERVER_PORT,
					   .port = (uint16_t)(10000 + i),
					   .slot = WIRE_NONE};
	}
	p->wp.irs = sim_rnd(1u << 24) * 256u;
	if (!p->active)
		soak_segment(p, TOE_TCP_SYN, 0, 0);
}

static bool soak_all_done(void)
{
	for (unsigned i = 0; i < soak.n; i++)
		if (!soak.peer[i].a_closed || !soak.peer[i].fin_rcvd)
			return false;
	return virt.cp.conn_count == 0 && virt.cp.half_list.n == 0 && virt.cp.tw_list.n == 0;
}

static void soak_step(void)
{
	uint64_t next = wire_settle(), stage = wire_stage_deadline();
	bool live = false;

	for (; w.frame_head != w.frame_tail; w.frame_head++) {
		const struct wire_frame *f = &w.frame[w.frame_head % WIRE_FRAMES];

		soak_note(f);
		soak_send(f->data, f->len, false);
	}
	next = stage < next ? stage : next;
	if (soak.heap_n > 0 && soak.pkt[soak.heap[0]].due_us < next)
		next = soak.pkt[soak.heap[0]].due_us;
	next = next < sim.us + 2000 ? next : sim.us + 2000;
	sim_engine_step(next > sim.us ? (unsigned)(next - sim.us) : 20);
	while (soak.heap_n > 0 && soak.pkt[soak.heap[0]].due_us <= sim.us &&
	       sim.in.tail - sim.in.head < SIM_WIRE / 2) {
		unsigned i = soak_heap_take();

		soak_deliver(&soak.pkt[i]);
		soak.spare[soak.spare_n++] = i;
	}
	soak_accept();
	for (unsigned i = 0; i < soak.n; i++) {
		soak_timer(&soak.peer[i]);
		live = sim_rnd(4) == 0;
		if (live)
			soak_app(&soak.peer[i]);
	}
}

/* n connections at once; all must end well within 10 minutes of virtual time. */
static void soak_wave(const struct soak_setup *u, unsigned n)
{
	uint64_t end;

	soak.u = u;
	soak.n = 0;
	soak.heap_n = 0;
	for (soak.spare_n = 0; soak.spare_n < SOAK_PKTS; soak.spare_n++)
		soak.spare[soak.spare_n] = soak.spare_n;
	for (unsigned i = 0; i < n; i++) {
		soak_open(i);
		soak.n++;
	}
	for (end = sim.us + 600000000ull; !soak_all_done(); soak_step())
		if (sim.us > end)
			for (unsigned i = 0; i < soak.n; i++) {
				const struct soak_peer *p = &soak.peer[i];

				if (!p->a_closed || !p->fin_rcvd)
					wire_fail("port %u (%s): peer sent %u of %u, received %u "
						  "of %u; application read %u, closed %u",
						  p->wp.port, wire_state(&p->wp), p->una, p->goal,
						  p->rcvd, p->a_goal, p->wp.read, p->a_closed);
			}
}

#endif
