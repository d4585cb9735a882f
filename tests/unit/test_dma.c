// SPDX-License-Identifier: BSD-3-Clause
/* LINK: datapath/stages/dma.c datapath/hostmem.c datapath/hostmem_memcpy.c
 * datapath/hostmem_dmadev.c datapath/apps.c common/closer.c datapath/sigbus.c datapath/seg_parse.c
 * common/log.c */
/* dma: payload both ways with wrap-around, cursors, checksums, back-pressure, applications gone. */
#include "host_rig.h"

#define CONN 5u
#define SLOT 7u
#define APP  2u

static struct toe_app *app;

static void start(const char *backend)
{
	snprintf(env.cfg.dma_backend, sizeof(env.cfg.dma_backend), "%s", backend);
	rig_engine(16, 511);
	app = rig_attach(APP);
	env.engine.flow_post[CONN].app_id = APP;
	env.engine.flow_post[CONN].slot = SLOT;
	rig_stage(&toe_stage_dma);
}

static void stop(void)
{
	rig_clear();
	assert_int_equal(env.live, 0);
	assert_int_equal(rte_mempool_in_use_count(env.engine.mbuf_pool), 0);
	rig_stop();
}

/* Runs until n items have been emitted. */
static void run(unsigned n)
{
	for (unsigned tries = 0; env.emitted_n < n; tries++) {
		assert_true(tries < 50000000);
		env.stage.ops->poll(&env.stage, 128);
	}
	assert_int_equal(env.emitted_n, n);
	assert_false(env.stage.ops->sleep(&env.stage, true));
}

static struct toe_work *rx_item(uint32_t pos, uint16_t len, uint16_t skip)
{
	struct frame_spec f = FRAME_DEFAULT;
	struct toe_work *w;

	f.payload_len = (uint16_t)(len + skip);
	w = frame_item(&f);
	memset(&w->snap, 0, sizeof(w->snap));
	w->conn = CONN;
	w->seg.payload_off = 54;
	w->seg.payload_len = f.payload_len;
	w->snap.pos = pos;
	w->snap.len = len;
	w->snap.skip = skip;
	w->todo = TOE_TODO_CTXQ | TOE_TODO_SCHED;
	return w;
}

/* Headers with room for len bytes, as post leaves it; checksum wrong. */
static struct toe_work *tx_item(enum toe_work_type type, uint32_t pos, uint16_t len)
{
	struct frame_spec f = FRAME_DEFAULT;
	struct toe_work *w = toe_work_alloc(&env.stage, type);
	struct rte_mbuf *m = rte_pktmbuf_alloc(env.engine.mbuf_pool);
	uint8_t *p;

	f.payload_len = len;
	p = (uint8_t *)rte_pktmbuf_append(m, (uint16_t)(54 + len));
	frame_make(p, &f);
	memset(p + 54, 0x5a, len);
	p[14 + 20 + 16] ^= 0xff;
	m->l3_len = 20;
	memset(&w->snap, 0, sizeof(w->snap));
	w->conn = CONN;
	w->tx_mbuf = m;
	w->todo = TOE_TODO_TX;
	if (type == TOE_WORK_TX) {
		w->snap.pos = pos;
		w->snap.len = len;
	}
	return w;
}

static bool cksum_ok(const struct rte_mbuf *m)
{
	const struct rte_ipv4_hdr *ip = rte_pktmbuf_mtod_offset(m, struct rte_ipv4_hdr *, 14);

	return rte_ipv4_udptcp_cksum_verify(ip, ip + 1) == 0;
}

static void feed(struct toe_work *w)
{
	env.stage.ops->process(&env.stage, &w, 1);
}

static uint8_t rx_byte(uint32_t pos)
{
	return app->payload[toe_slot_rx_off(SLOT, RIG_BUF, RIG_BUF) + pos % RIG_BUF];
}

static uint8_t *tx_byte(uint32_t pos)
{
	return &app->payload[toe_slot_tx_off(SLOT, RIG_BUF, RIG_BUF) + pos % RIG_BUF];
}

static void receive(const char *backend)
{
	static const uint32_t pos[] = {0, 100, RIG_BUF - 1, RIG_BUF - 700, 0u - 300u};

	start(backend);
	for (unsigned i = 0; i < 5; i++) {
		struct toe_work *w = rx_item(pos[i], 1400, 3);

		feed(w);
		run(1);
		assert_ptr_equal(rig_take(TOE_STAGE_EGRESS), w);
		assert_int_equal(w->verdict, TOE_FORWARD);
		assert_int_equal(w->dma_pending, 0);
		for (uint32_t k = 0; k < 1400; k++)
			assert_int_equal(rx_byte(pos[i] + k), (uint8_t)((k + 3) * 7 + 1));
		toe_work_free(&env.stage, w);
		rig_clear();
	}
	stop();
}

static void test_receive(void **state)
{
	(void)state;
	receive("memcpy");
}

static void test_receive_dmadev(void **state)
{
	(void)state;
	receive("dmadev");
}

static void transmit(const char *backend)
{
	static const uint32_t pos[] = {0, RIG_BUF - 1, 0u - 1447u};
	static const uint16_t len[] = {1448, 999, 1448};

	start(backend);
	for (uint32_t k = 0; k < RIG_BUF; k++)
		*tx_byte(k) = (uint8_t)(k * 31 >> 3);
	for (unsigned i = 0; i < 3; i++) {
		struct toe_work *w = tx_item(TOE_WORK_TX, pos[i], len[i]);
		const uint8_t *p = rte_pktmbuf_mtod_offset(w->tx_mbuf, uint8_t *, 54);

		feed(w);
		run(1);
		for (uint32_t k = 0; k < len[i]; k++)
			assert_int_equal(p[k], *tx_byte(pos[i] + k));
		assert_true(cksum_ok(w->tx_mbuf));
		rig_clear();
	}
	stop();
}

static void test_transmit(void **state)
{
	(void)state;
	transmit("memcpy");
}

static void test_transmit_dmadev(void **state)
{
	(void)state;
	transmit("dmadev");
}

/* A dropped segment may still be answered: every frame leaves with a checksum, unless the port
 * makes it. */
static void test_checksum(void **state)
{
	struct toe_work *w;

	(void)state;
	start("memcpy");
	w = tx_item(TOE_WORK_RX, 0, 0);
	w->verdict = TOE_NOTHING;
	feed(w);
	run(1);
	assert_true(cksum_ok(w->tx_mbuf));
	rig_clear();
	toe_stage_dma.fini(&env.stage);
	env.engine.caps.tx_tcp_cksum = true;
	rig_stage(&toe_stage_dma);
	w = tx_item(TOE_WORK_TX, 0, 100);
	feed(w);
	run(1);
	assert_false(cksum_ok(w->tx_mbuf));
	stop();
}

static void fetch(const char *backend)
{
	struct toe_slot *slot;
	struct toe_work *w;

	start(backend);
	slot = toe_app_slot(app, SLOT);
	slot->tx_tail = 0x11111111;
	slot->rx_head = 0x22222222;
	slot->tx_short = 0x33333333;
	slot->ctl = TOE_CTL_SHUT_WR;
	w = toe_work_alloc(&env.stage, TOE_WORK_HC);
	w->cmd = TOE_HC_FETCH;
	w->conn = CONN;
	w->hc = (struct toe_hc){.app_id = APP, .slot = SLOT};
	feed(w);
	run(1);
	assert_ptr_equal(rig_take(TOE_STAGE_SEQ), w);
	assert_int_equal(w->hc.tx_tail, 0x11111111);
	assert_int_equal(w->hc.rx_head, 0x22222222);
	assert_int_equal(w->hc.tx_short, 0x33333333);
	assert_int_equal(w->hc.ctl, TOE_CTL_SHUT_WR);
	assert_int_equal(w->cmd, 0);
	/* numbered now, it passes straight */
	rig_clear();
	feed(w);
	run(1);
	assert_ptr_equal(rig_take(TOE_STAGE_EGRESS), w);
	rig_clear();
	/* a slot that does not exist, an application that does not: freed, never numbered */
	w->cmd = TOE_HC_FETCH;
	w->hc.slot = RIG_SLOTS;
	feed(w);
	assert_int_equal(env.live, 0);
	w = toe_work_alloc(&env.stage, TOE_WORK_HC);
	w->cmd = TOE_HC_FETCH;
	w->hc = (struct toe_hc){.app_id = 9, .slot = SLOT};
	feed(w);
	assert_int_equal(env.live, 0);
	assert_int_equal(env.drops[TOE_D_APP_GONE], 2);
	stop();
}

static void test_fetch(void **state)
{
	(void)state;
	fetch("memcpy");
}

static void test_fetch_dmadev(void **state)
{
	(void)state;
	fetch("dmadev");
}

/* Nothing of an evicted application's connection is seen, but the number and sched's account. */
static void test_app_gone(void **state)
{
	struct toe_work *w;

	(void)state;
	start("memcpy");
	app->evicted = true;
	w = tx_item(TOE_WORK_TX, 0, 100);
	w->todo |= TOE_TODO_SCHED | TOE_TODO_CTRL | TOE_TODO_CTXQ;
	w->snap.sendable = 5000;
	feed(w);
	run(1);
	assert_ptr_equal(rig_take(TOE_STAGE_EGRESS), w);
	assert_int_equal(w->verdict, TOE_NOTHING);
	assert_int_equal(w->todo, TOE_TODO_SCHED | TOE_TODO_CTRL);
	assert_int_equal(w->snap.sendable, 0);
	toe_work_free(&env.stage, w);
	rig_clear();
	w = rx_item(0, 100, 0);
	w->tx_mbuf = rte_pktmbuf_alloc(env.engine.mbuf_pool);
	w->todo |= TOE_TODO_TX;
	feed(w);
	run(1);
	assert_int_equal(w->todo, TOE_TODO_SCHED);
	assert_int_equal(env.drops[TOE_D_APP_GONE], 1);
	stop();
}

/* What proto or an attacker must not be able to do: lengths beyond the frame or the buffer. */
static void test_impossible(void **state)
{
	struct toe_work *w;

	(void)state;
	start("memcpy");
	w = rx_item(0, 100, 0);
	w->snap.len = 101;
	feed(w);
	w = rx_item(0, 100, 0);
	w->snap.skip = 60000;
	feed(w);
	w = tx_item(TOE_WORK_TX, 0, 100);
	w->snap.len = 2000;
	feed(w);
	env.engine.flow_post[CONN].slot = RIG_SLOTS;
	feed(rx_item(0, 100, 0));
	run(4);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(env.emitted[i]->verdict, TOE_NOTHING);
	stop();
}

/* More copies than the queue takes: items wait, none is lost, each leaves once and complete. */
static void test_backlog(void **state)
{
	struct toe_work *w[128];
	uint32_t pos = 0;

	(void)state;
	memcpy(env.cfg.dma_backend, "dmadev", sizeof("dmadev"));
	rig_engine(16, 511);
	env.cfg.work_items = 15; /* a short queue; the backlog is 64 */
	app = rig_attach(APP);
	env.engine.flow_post[CONN].app_id = APP;
	env.engine.flow_post[CONN].slot = SLOT;
	rig_stage(&toe_stage_dma);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 60; i++) {
			w[i] = i % 2 ? tx_item(TOE_WORK_TX, RIG_BUF - 10, 1448)
				     : rx_item(pos + RIG_BUF - 5, 1448, 0);
			w[i]->cookie = i;
		}
		env.stage.ops->process(&env.stage, w, 32);
		env.stage.ops->process(&env.stage, w + 32, 28);
		run(60);
		for (unsigned i = 0; i < 60; i++) {
			bool found = false;

			for (unsigned k = 0; k < 60; k++)
				found |= env.emitted[k] == w[i];
			assert_true(found);
			assert_int_equal(w[i]->verdict, TOE_FORWARD);
			if (i % 2)
				assert_true(cksum_ok(w[i]->tx_mbuf));
		}
		rig_clear();
	}
	stop();
}

/* An application leaves while its copies are under way; what waits in the backlog is given up, but
 * no buffer is free before its item has left: a copy may still write to it. */
static void test_leave_in_flight(void **state)
{
	struct toe_work *w[32];

	(void)state;
	memcpy(env.cfg.dma_backend, "dmadev", sizeof("dmadev"));
	rig_engine(16, 511);
	env.cfg.work_items = 15;
	app = rig_attach(APP);
	env.engine.flow_post[CONN].app_id = APP;
	env.engine.flow_post[CONN].slot = SLOT;
	rig_stage(&toe_stage_dma);
	for (unsigned i = 0; i < 32; i++)
		w[i] = tx_item(TOE_WORK_TX, RIG_BUF - 10, 1448);
	env.stage.ops->process(&env.stage, w, 32);
	for (unsigned i = 0; i < 28; i++)
		w[i] = tx_item(TOE_WORK_TX, RIG_BUF - 10, 1448);
	env.stage.ops->process(&env.stage, w, 28);
	app->evicted = true;
	run(60);
	assert_int_equal(rte_mempool_in_use_count(env.engine.mbuf_pool), 60);
	assert_int_equal(app->copies, 0);
	assert_int_equal(toe_app_detach(&env.engine, APP), 0);
	stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_receive),         cmocka_unit_test(test_receive_dmadev),
		cmocka_unit_test(test_transmit),        cmocka_unit_test(test_transmit_dmadev),
		cmocka_unit_test(test_checksum),        cmocka_unit_test(test_fetch),
		cmocka_unit_test(test_fetch_dmadev),    cmocka_unit_test(test_app_gone),
		cmocka_unit_test(test_impossible),      cmocka_unit_test(test_backlog),
		cmocka_unit_test(test_leave_in_flight),
	};

	return cmocka_run_group_tests(tests, rig_eal, NULL);
}
