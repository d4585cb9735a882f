/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What mqtt_engine.c measures against: a wire of packet buffers, TCP peers that take segments in
 * order and acknowledge each, MQTT clients that connect and subscribe, and a broker in the
 * application's region that answers CONNECT, SUBSCRIBE and PINGREQ and forgets what is published.
 * Connections are put into the engine by INSTALL.  Included once, behind
 * the SIM_ sizes; one thread.
 */
#ifndef MQTT_ENGINE_PEER_H
#define MQTT_ENGINE_PEER_H

#include <stdio.h>

#include "../tests/sim/sim.h"
#include "common/log.h"

#define BENCH_PORT    1883u
#define BENCH_MSS     1448u
#define BENCH_WND     60000u
#define BENCH_HDRS    (14u + 20u + 32u)
#define BENCH_WIRE    16384u /* frames on their way, a power of two */
#define BENCH_PAYLOAD 64u
#define BENCH_TOPIC   "bench/topic"
#define BENCH_WINDOW  64u /* messages that can be under way */

struct bench_peer {
	uint32_t id, iss, irs; /* connection; the engine's number and the peer's */
	uint32_t sent, rcvd, ts_recent;
	uint32_t packets_from; /* position from which on the stream is PUBLISH packets only */
	uint32_t app_read, app_written;
	bool installed;
};

struct bench_wire {
	uint32_t head, tail;
	struct rte_mbuf *m[BENCH_WIRE];
};

static struct {
	uint32_t subscribers; /* slots 0..n-1; the publisher is slot n */
	uint64_t cycles;      /* spent in steps that did something */
	uint64_t step_tsc;    /* when the present step began */
	uint64_t last_tx;     /* on the clock of cycles: the last data segment of the engine */
	uint64_t frames, bytes, copies;
	uint64_t complete; /* messages everybody has, since bench_follow() */
	uint32_t reached[BENCH_WINDOW];
	uint64_t slow; /* PUBLISH packets the broker got */
	bool follow;
	bool hold_acks;
	uint32_t packet_len;  /* of a PUBLISH */
	uint32_t message_max; /* 0: the default */
	uint64_t tsc0;
	uint32_t group_next[4];
	struct bench_wire in, out; /* to and from the engine */
	struct {
		uint32_t head, tail;
		uint32_t slot[BENCH_WIRE];
	} acks;                   /* to be sent */
	struct rte_mempool *pool; /* the peers' */
	struct bench_peer peer[SIM_SLOTS];
} bench;

/* ---- the wire ---- */

static inline void bench_wire_put(struct bench_wire *w, struct rte_mbuf *m)
{
	TOE_CHECK(w->tail - w->head < BENCH_WIRE);
	w->m[w->tail++ % BENCH_WIRE] = m;
}

static unsigned sim_rx_poll(struct toe_stage *s, unsigned budget)
{
	unsigned n;

	for (n = 0; n < budget && bench.in.head != bench.in.tail; n++) {
		struct toe_work *w = toe_work_alloc(s, TOE_WORK_RX);

		if (w == NULL)
			break;
		w->mbuf = bench.in.m[bench.in.head++ % BENCH_WIRE];
		sim_rx_classify(w);
		toe_emit(s, TOE_STAGE_SEQ, w);
	}
	return n;
}

static void sim_tx_process(struct toe_stage *s, struct toe_work **items, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct toe_work *w = items[i];

		if (w->tx_mbuf != NULL) {
			bench_wire_put(&bench.out, w->tx_mbuf);
			if (w->tx_mbuf == w->mbuf)
				w->mbuf = NULL;
			w->tx_mbuf = NULL;
		} else {
			bench_wire_put(&bench.out, w->mbuf);
			w->mbuf = NULL;
		}
		toe_work_free(s, w);
	}
	bench.last_tx = bench.cycles + rte_rdtsc() - bench.step_tsc;
}

static inline int bench_pool(void)
{
	bench.pool = rte_pktmbuf_pool_create("peers", SIM_MBUFS, SIM_CACHE, 0,
					     RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	return bench.pool == NULL ? -1 : 0;
}

/* ---- a peer's TCP ---- */

static inline void bench_send(uint32_t slot, const uint8_t *data, uint16_t len)
{
	struct bench_peer *p = &bench.peer[slot];
	struct rte_mbuf *m = rte_pktmbuf_alloc(bench.pool);
	uint32_t ts[3] = {rte_cpu_to_be_32(0x0101080a), rte_cpu_to_be_32(sim.clock.ms),
			  rte_cpu_to_be_32(p->ts_recent)};
	const struct frame_spec f = {.sport = (uint16_t)(10000 + slot),
				     .dport = BENCH_PORT,
				     .flags = TOE_TCP_ACK | (len != 0 ? TOE_TCP_PSH : 0),
				     .vlan = -1,
				     .opts = (const uint8_t *)ts,
				     .opt_bytes = 12,
				     .payload_len = len,
				     .wnd = BENCH_WND,
				     .seq = p->irs + 1 + p->sent,
				     .ack = p->iss + 1 + p->rcvd};
	struct rte_tcp_hdr *tcp;
	uint8_t *frame;

	TOE_CHECK(m != NULL);
	frame = (uint8_t *)rte_pktmbuf_append(m, (uint16_t)(BENCH_HDRS + len));
	TOE_CHECK(frame != NULL && frame_make(frame, &f) == BENCH_HDRS + len);
	if (len != 0)
		memcpy(frame + BENCH_HDRS, data, len);
	tcp = (struct rte_tcp_hdr *)(frame + 34);
	tcp->cksum = 0;
	tcp->cksum = rte_ipv4_udptcp_cksum((struct rte_ipv4_hdr *)(frame + 14), tcp);
	p->sent += len;
	bench_wire_put(&bench.in, m);
}

/* Another copy of a message has arrived; numbers of messages count from bench_follow() on. */
static inline void bench_copies(struct bench_peer *p, uint32_t len)
{
	uint32_t before = (p->rcvd - len - p->packets_from) / bench.packet_len;
	uint32_t after = (p->rcvd - p->packets_from) / bench.packet_len;

	bench.copies += after - before;
	for (; bench.follow && before != after; before++) {
		if (++bench.reached[before % BENCH_WINDOW] < bench.subscribers)
			continue;
		bench.reached[before % BENCH_WINDOW] = 0;
		bench.complete++;
	}
}

static inline void bench_receive(const struct rte_mbuf *m)
{
	const uint8_t *frame = rte_pktmbuf_mtod(m, const uint8_t *);
	const struct rte_ipv4_hdr *ip = (const struct rte_ipv4_hdr *)(frame + 14);
	const struct rte_tcp_hdr *tcp = (const struct rte_tcp_hdr *)(frame + 34);
	uint32_t slot = rte_be_to_cpu_16(tcp->dst_port) - 10000u;
	uint32_t len = rte_be_to_cpu_16(ip->total_length) - 20u - (tcp->data_off >> 4) * 4u;
	struct bench_peer *p = &bench.peer[slot];

	TOE_CHECK(slot <= bench.subscribers && !(tcp->tcp_flags & TOE_TCP_RST));
	TOE_CHECK(tcp->data_off == 8 << 4); /* timestamps and nothing else: no loss, no SACK */
	memcpy(&p->ts_recent, frame + 34 + 24, 4);
	p->ts_recent = rte_be_to_cpu_32(p->ts_recent);
	if (len == 0)
		return;
	TOE_CHECK(rte_be_to_cpu_32(tcp->sent_seq) == p->iss + 1 + p->rcvd);
	p->rcvd += len;
	bench.frames++;
	if (slot < bench.subscribers && p->packets_from != 0)
		bench_copies(p, len);
	bench.acks.slot[bench.acks.tail++ % BENCH_WIRE] = slot;
}

/* ---- the broker ---- */

static inline void bench_doorbell(uint32_t slot)
{
	struct toe_context *ctx = toe_app_context(&sim.app, 0);
	uint32_t *ring = (uint32_t *)(ctx + 1) + sim.app.hint_n;

	if (__atomic_exchange_n(&toe_app_slot(&sim.app, slot)->doorbell_pending, 1,
				__ATOMIC_SEQ_CST) != 0)
		return;
	ring[ctx->doorbell_prod % sim.app.doorbell_n] = slot;
	__atomic_store_n(&ctx->doorbell_prod, ctx->doorbell_prod + 1, __ATOMIC_RELEASE);
}

static inline void bench_answer(uint32_t slot, const uint8_t *data, uint32_t len)
{
	uint8_t *buf = sim.app.payload + toe_slot_tx_off(slot, SIM_BUF, SIM_BUF);
	struct bench_peer *p = &bench.peer[slot];

	for (uint32_t i = 0; i < len; i++)
		buf[p->app_written++ % SIM_BUF] = data[i];
	__atomic_store_n(&toe_app_slot(&sim.app, slot)->tx_tail, p->app_written, __ATOMIC_RELEASE);
}

/* One packet at the position; returns its length, 0: not all of it is there. */
static inline uint32_t bench_packet(uint32_t slot, const uint8_t *buf, uint32_t at, uint32_t have)
{
	uint8_t suback[5] = {0x90, 3, 0, 0, 0};
	uint32_t len = 2 + buf[(at + 1) % SIM_BUF];

	if (have < 2 || have < len)
		return 0;
	TOE_CHECK(len < 128);
	switch (buf[at % SIM_BUF] >> 4) {
	case 1:
		bench_answer(slot, (const uint8_t[]){0x20, 2, 0, 0}, 4);
		break;
	case 3:
		bench.slow++;
		break;
	case 8:
		suback[2] = buf[(at + 2) % SIM_BUF];
		suback[3] = buf[(at + 3) % SIM_BUF];
		bench_answer(slot, suback, 5);
		break;
	case 12:
		bench_answer(slot, (const uint8_t[]){0xd0, 0}, 2);
		break;
	default:
		TOE_CHECK(!"a packet the clients do not send");
	}
	return len;
}

static inline void bench_read(uint32_t slot)
{
	struct toe_slot *sl = toe_app_slot(&sim.app, slot);
	const uint8_t *buf = sim.app.payload + toe_slot_rx_off(slot, SIM_BUF, SIM_BUF);
	struct bench_peer *p = &bench.peer[slot];
	uint32_t tail = __atomic_load_n(&sl->rx_tail, __ATOMIC_ACQUIRE), n;

	if (p->app_read == tail)
		return;
	while ((n = bench_packet(slot, buf, p->app_read, tail - p->app_read)) != 0)
		p->app_read += n;
	__atomic_store_n(&sl->rx_head, p->app_read, __ATOMIC_RELEASE);
	bench_doorbell(slot);
}

static inline void bench_broker(void)
{
	struct toe_context *ctx = toe_app_context(&sim.app, 0);
	const uint32_t *ring = (uint32_t *)(ctx + 1);

	while (ctx->hint_cons != __atomic_load_n(&ctx->hint_prod, __ATOMIC_ACQUIRE)) {
		uint32_t slot = ring[ctx->hint_cons++ % sim.app.hint_n];

		if (slot & TOE_ID_LISTENER)
			continue;
		__atomic_fetch_and(&toe_app_slot(&sim.app, slot)->hint_pending, ~UINT64_C(1),
				   __ATOMIC_SEQ_CST);
		bench_read(slot);
	}
}

/* ---- everything ---- */

static inline void bench_control_plane(void)
{
	struct toe_cpq_entry *e;

	for (; (e = sim_event()) != NULL; sim_event_done()) {
		TOE_CHECK(e->type != TOE_EV_RESET && e->type != TOE_EV_CLOSED);
		for (uint32_t i = 0; e->type == TOE_EV_INSTALLED && i <= bench.subscribers; i++)
			bench.peer[i].installed |= bench.peer[i].id == e->conn;
	}
	toe_app_listener(&sim.app, 0)->cons = toe_app_listener(&sim.app, 0)->prod;
}

/* One step of the engine, on the clock, then everybody else. */
static inline unsigned bench_turn(void)
{
	unsigned n;

	bench.step_tsc = rte_rdtsc();
	sim.clock.tsc = bench.step_tsc;
	sim.clock.us = 1000000 + (bench.step_tsc - bench.tsc0) * 1000000 / rte_get_tsc_hz();
	sim.clock.ms = (uint32_t)(sim.clock.us / 1000);
	n = toe_pipeline_step(sim.engine.pipeline, 0, &sim.clock);
	if (n != 0)
		bench.cycles += rte_rdtsc() - bench.step_tsc;
	for (; bench.out.head != bench.out.tail; bench.out.head++) {
		struct rte_mbuf *m = bench.out.m[bench.out.head % BENCH_WIRE];

		bench_receive(m);
		rte_pktmbuf_free(m);
	}
	for (; !bench.hold_acks && bench.acks.head != bench.acks.tail; bench.acks.head++)
		bench_send(bench.acks.slot[bench.acks.head % BENCH_WIRE], NULL, 0);
	bench_broker();
	bench_control_plane();
	return n;
}

static inline void bench_until_idle(void)
{
	for (unsigned idle = 0; idle < 3;)
		idle = bench_turn() == 0 ? idle + 1 : 0;
}

/* n times the same message, in one segment. */
static inline void bench_publish(unsigned n)
{
	static const uint8_t head[] = {0x30, 2 + sizeof(BENCH_TOPIC) - 1 + BENCH_PAYLOAD, 0,
				       sizeof(BENCH_TOPIC) - 1};
	uint8_t buf[BENCH_MSS];
	uint32_t len = 0;

	TOE_CHECK(n * bench.packet_len <= sizeof(buf));
	for (; n > 0; n--) {
		memcpy(buf + len, head, sizeof(head));
		memcpy(buf + len + sizeof(head), BENCH_TOPIC, sizeof(BENCH_TOPIC) - 1);
		memset(buf + len + bench.packet_len - BENCH_PAYLOAD, 'x', BENCH_PAYLOAD);
		len += bench.packet_len;
	}
	bench_send(bench.subscribers, buf, (uint16_t)len);
}

/* Every subscriber has the same messages now: from here on bench.complete counts. */
static inline void bench_follow(void)
{
	for (uint32_t i = 0; i < bench.subscribers; i++)
		bench.peer[i].packets_from = bench.peer[i].rcvd;
	bench.follow = true;
}

/* ---- set-up ---- */

static inline void bench_install(uint32_t slot)
{
	struct bench_peer *p = &bench.peer[slot];
	struct toe_cmd_install in = {.app_id = SIM_APP,
				     .slot = slot,
				     .slot_gen = 1,
				     .family = AF_INET,
				     .local_port = BENCH_PORT,
				     .remote_port = (uint16_t)(10000 + slot),
				     .mss = BENCH_MSS,
				     .local_mac = {2, 0, 0, 0, 0, 1},
				     .remote_mac = {2, 0, 0, 0, 0, 2},
				     .snd_wnd = BENCH_WND,
				     .cwnd = 10 * BENCH_MSS,
				     .ssthresh = 1u << 30,
				     .rx_buf_bytes = SIM_BUF,
				     .tx_buf_bytes = SIM_BUF,
				     .local_addr = {10, 0, 0, 1},
				     .remote_addr = {10, 0, 0, 2},
				     .flags = TOE_INSTALL_TS | TOE_INSTALL_SACK};
	struct toe_tuple k;
	uint32_t group;

	memset(&k, 0, sizeof(k));
	memcpy(k.local_addr, in.local_addr, 4);
	memcpy(k.remote_addr, in.remote_addr, 4);
	k.local_port = rte_cpu_to_be_16(in.local_port);
	k.remote_port = rte_cpu_to_be_16(in.remote_port);
	k.family = in.family;
	group = toe_flow_group(toe_flow_hash(&k), 4);
	*p = (struct bench_peer){.id = group + 4 * bench.group_next[group]++,
				 .iss = sim_rnd(1u << 24),
				 .irs = sim_rnd(1u << 24)};
	TOE_CHECK(p->id < SIM_CONNS);
	in.iss = p->iss;
	in.irs = p->irs;
	in.snd_nxt = p->iss + 1;
	in.rcv_nxt = p->irs + 1;
	toe_app_slot(&sim.app, slot)->ctx_mask = 1;
	sim_cmd(TOE_CMD_INSTALL, p->id, 1, &in, sizeof(in));
	bench_until_idle();
	TOE_CHECK(p->installed);
}

/* A client of level 4 with a name of its own; keep-alive off. */
static inline void bench_connect(uint32_t slot, bool subscribes)
{
	static const uint8_t subscribe[] = {0x82, 5 + sizeof(BENCH_TOPIC) - 1, 0, 1,
					    0,    sizeof(BENCH_TOPIC) - 1};
	uint8_t buf[64] = {0x10, 18, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0, 0, 6};
	const uint32_t topic = sizeof(BENCH_TOPIC) - 1;

	for (unsigned i = 0; i < 6; i++)
		buf[14 + i] = (uint8_t)('a' + (slot >> (4 * i) & 15));
	bench_send(slot, buf, 20);
	bench_until_idle();
	if (!subscribes)
		return;
	memcpy(buf, subscribe, sizeof(subscribe));
	memcpy(buf + sizeof(subscribe), BENCH_TOPIC, topic);
	buf[sizeof(subscribe) + topic] = 0;
	bench_send(slot, buf, (uint16_t)(sizeof(subscribe) + topic + 1));
	bench_until_idle();
	TOE_CHECK(bench.peer[slot].rcvd == 4 + 5);
	bench.peer[slot].packets_from = bench.peer[slot].rcvd;
}

static inline void bench_configure(struct toe_config *c)
{
	c->mqtt_port_n = 1;
	c->mqtt_ports[0] = BENCH_PORT;
	c->mqtt_canary = 0; /* none goes through the broker, which forgets it */
	c->mqtt_offload_n = 1;
	snprintf(c->mqtt_offload[0], sizeof(c->mqtt_offload[0]), "#");
	if (bench.message_max != 0)
		c->mqtt_message_max = bench.message_max;
}

static inline void bench_start(uint32_t subscribers)
{
	static const struct sim_setup u = {
		.pre = 1, .proto = 1, .post = 1, .dma = 1, .seed = 1, .configure = bench_configure};
	const struct toe_cmd_port port = {AF_INET, BENCH_PORT, TOE_PORT_LISTEN};

	bench.subscribers = subscribers;
	bench.packet_len = 4 + sizeof(BENCH_TOPIC) - 1 + BENCH_PAYLOAD;
	bench.tsc0 = rte_rdtsc();
	sim_start(&u);
	sim_cmd(TOE_CMD_PORT, TOE_NONE, 0, &port, sizeof(port));
	for (uint32_t i = 0; i <= subscribers; i++)
		bench_install(i);
	for (uint32_t i = 0; i <= subscribers; i++)
		bench_connect(i, i < subscribers);
}

/* Nothing may be left behind, as in the simulation. */
static inline void bench_stop(void)
{
	bench_until_idle();
	sim_stop();
	TOE_CHECK(rte_mempool_avail_count(bench.pool) == SIM_MBUFS);
}

#endif
