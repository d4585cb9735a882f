/* SPDX-License-Identifier: BSD-3-Clause */
/* LINK: datapath/stages/netif_rx.c datapath/stages/netif_tx.c datapath/stages/exception.c
 * datapath/netif_parse.c datapath/segment_module.c common/flow_hash.c */
/*
 * netif_rx, netif_tx and exception on a port that loops back (net_ring) and a socket pair in place
 * of the TAP: what a frame becomes, what segment modules do to it, that no buffer is lost.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <rte_eal.h>
#include <rte_ethdev.h>

#include "datapath/engine.h"
#include "datapath/pipeline.h"
#include "datapath/port.h"
#include "datapath/segment_module.h"

#define OURS  1883u
#define ITEMS 127u
#define BUFS  511u

static struct toe_engine engine;
static uint64_t counters[TOE_C_N];
static uint64_t drops[TOE_D_N];
static struct toe_clock now = {1000000, 0, 0};
static struct toe_stage rx, tx, tap;
static struct toe_work *emitted[256];
static enum toe_stage_id emitted_to[256];
static unsigned emitted_n;
static int peer; /* the kernel's end of the TAP */
static int watched;

/* ---- stand-ins for pipeline.c and flow_table.c ---- */

void toe_emit(struct toe_stage *s, enum toe_stage_id next, struct toe_work *w)
{
	assert_true((s->ops->next_mask & 1u << next) != 0);
	emitted[emitted_n] = w;
	emitted_to[emitted_n++] = next;
}

struct toe_work *toe_work_alloc(struct toe_stage *s, enum toe_work_type type)
{
	void *w;

	if (rte_mempool_get(s->engine->work_pool[type], &w) != 0)
		return NULL;
	memset(w, 0, 64);
	return w;
}

void toe_work_free(struct toe_stage *s, struct toe_work *w)
{
	rte_pktmbuf_free(w->mbuf);
	rte_pktmbuf_free(w->tx_mbuf);
	rte_mempool_put(s->engine->work_pool[w->type], w);
}

const struct toe_clock *toe_now(const struct toe_stage *s)
{
	(void)s;
	return &now;
}

static bool more;

bool toe_more_waits(const struct toe_stage *s)
{
	(void)s;
	return more;
}

int toe_pipeline_watch(struct toe_pipeline *p, enum toe_stage_id id, int fd)
{
	(void)p;
	(void)id;
	watched = fd;
	return 0;
}

static unsigned pushes;
static bool push_leaves;

bool toe_port_push(const struct toe_port_wait *wait)
{
	assert_ptr_equal(wait, engine.port_wait);
	pushes++;
	return push_leaves;
}

uint32_t toe_port_get(const struct toe_flow_table *t, uint16_t family, uint16_t port)
{
	(void)t;
	return family == AF_INET && port == OURS ? TOE_PORT_LISTEN : 0;
}

bool toe_addr6_ours(const struct toe_flow_table *t, const uint8_t addr[16])
{
	(void)t;
	(void)addr;
	return false;
}

/* ---- set-up ---- */

static int start_port(void)
{
	struct rte_eth_conf conf = {0};

	engine.eth_port = (uint16_t)rte_eth_find_next(0);
	if (rte_eth_dev_configure(engine.eth_port, 1, 1, &conf) != 0 ||
	    rte_eth_rx_queue_setup(engine.eth_port, 0, 256, SOCKET_ID_ANY, NULL,
				   engine.mbuf_pool) != 0 ||
	    rte_eth_tx_queue_setup(engine.eth_port, 0, 256, SOCKET_ID_ANY, NULL) != 0)
		return -1;
	return rte_eth_dev_start(engine.eth_port);
}

static int init_stage(struct toe_stage *s, const struct toe_stage_ops *ops)
{
	s->ops = ops;
	s->engine = &engine;
	s->counters = counters;
	s->drops = drops;
	return ops->init == NULL ? 0 : ops->init(s);
}

static int setup(void **state)
{
	char *args[] = {"test", "--no-huge", "--no-pci",   "--no-telemetry",    "--no-shconf",
			"-m",   "64",        "--lcores=0", "--log-level=error", "--vdev=net_ring0"};
	int sv[2];

	(void)state;
	setenv("XDG_RUNTIME_DIR", "/tmp", 0);
	if (rte_eal_init((int)RTE_DIM(args), args) < 0 ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, sv) != 0)
		return -1;
	engine.flow_group_n = 4;
	engine.tap_fd = sv[0];
	peer = sv[1];
	engine.work_pool[TOE_WORK_RX] =
		rte_mempool_create("work", ITEMS, sizeof(struct toe_work), 0, 0, NULL, NULL, NULL,
				   NULL, SOCKET_ID_ANY, 0);
	engine.mbuf_pool = rte_pktmbuf_pool_create("mbuf", BUFS, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE,
						   SOCKET_ID_ANY);
	engine.rx_raw = toe_hook_create(NULL, 1);
	if (engine.work_pool[TOE_WORK_RX] == NULL || engine.mbuf_pool == NULL ||
	    engine.rx_raw == NULL || start_port() != 0)
		return -1;
	return init_stage(&rx, &toe_stage_netif_rx) | init_stage(&tx, &toe_stage_netif_tx) |
	       init_stage(&tap, &toe_stage_exception);
}

static int reset(void **state)
{
	(void)state;
	memset(counters, 0, sizeof(counters));
	memset(drops, 0, sizeof(drops));
	emitted_n = 0;
	now.tsc += 1000000000;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	tap.ops->fini(&tap);
	tx.ops->fini(&tx);
	rx.ops->fini(&rx);
	toe_hook_free(engine.rx_raw);
	return 0;
}

/* Ethernet, IPv4, TCP to port; or a UDP frame if port is 0. */
static struct rte_mbuf *make_frame(uint16_t port)
{
	static const uint8_t ip[24] = {0x45, 0,  0, 40, 0, 0,  0x40, 0, 64, 6,    0,
				       0,    10, 0, 0,  2, 10, 0,    0, 1,  0x9c, 0x40};
	struct rte_mbuf *m = rte_pktmbuf_alloc(engine.mbuf_pool);
	uint8_t *p = (uint8_t *)rte_pktmbuf_append(m, 60);

	memset(p, 0, 60);
	p[12] = 8;
	memcpy(p + 14, ip, sizeof(ip));
	p[14 + 9] = port == 0 ? 17 : 6;
	p[36] = (uint8_t)(port >> 8);
	p[37] = (uint8_t)port;
	return m;
}

static struct rte_mbuf *make_icmp(uint16_t local_port)
{
	struct rte_mbuf *m = make_frame(0);
	uint8_t *p = (uint8_t *)rte_pktmbuf_append(m, 20);
	static const uint8_t quote[] = {0x45, 0, 5,  0, 0, 0, 0,  0, 64, 6,
					0,    0, 10, 0, 0, 1, 10, 0, 0,  2};

	memset(p, 0, 20);
	p = rte_pktmbuf_mtod(m, uint8_t *);
	p[14 + 9] = 1;
	p[34] = 3;
	memcpy(p + 42, quote, sizeof(quote));
	p[62] = (uint8_t)(local_port >> 8);
	p[63] = (uint8_t)local_port;
	return m;
}

/* Puts a frame on the wire, which ends at our own receive queue. */
static void wire(struct rte_mbuf *m)
{
	assert_int_equal(rte_eth_tx_burst(engine.eth_port, 0, &m, 1), 1);
}

static void free_emitted(void)
{
	for (unsigned i = 0; i < emitted_n; i++)
		toe_work_free(&rx, emitted[i]);
	emitted_n = 0;
	/* exception may keep one buffer for the next read */
	assert_in_range(rte_mempool_in_use_count(engine.mbuf_pool), 0, 1);
	assert_int_equal(rte_mempool_in_use_count(engine.work_pool[TOE_WORK_RX]), 0);
}

/* ---- tests ---- */

static void test_classes(void **state)
{
	(void)state;
	wire(make_frame(OURS));
	wire(make_frame(0));
	wire(make_icmp(OURS));
	wire(make_icmp(22));
	assert_int_equal(rx.ops->poll(&rx, 128), 4);
	assert_int_equal(emitted_n, 4);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(emitted_to[i], TOE_STAGE_SEQ);
	assert_int_equal(emitted[0]->verdict, TOE_FORWARD);
	assert_int_equal(emitted[0]->fg, emitted[0]->hash % 4);
	assert_int_not_equal(emitted[0]->hash, 0);
	assert_int_equal(emitted[1]->verdict, TOE_TO_TAP);
	assert_int_equal(emitted[1]->fg, 0);
	assert_int_equal(emitted[2]->verdict, TOE_TO_CTRL);
	assert_int_equal(emitted[3]->verdict, TOE_TO_TAP);
	assert_int_equal(counters[TOE_C_FRAMES_RX], 4);
	assert_int_equal(counters[TOE_C_BYTES_RX], 60 + 60 + 80 + 80);
	assert_int_equal(rx.ops->poll(&rx, 128), 0);
	free_emitted();
}

static struct rte_mbuf *make_icmp_vlan(uint16_t tag)
{
	struct rte_mbuf *m = make_icmp(OURS);
	uint8_t *p = rte_pktmbuf_mtod(m, uint8_t *);

	rte_pktmbuf_append(m, 4);
	memmove(p + 16, p + 12, 68);
	p[12] = 0x81;
	p[13] = 0;
	p[14] = (uint8_t)(tag >> 8);
	p[15] = (uint8_t)tag;
	return m;
}

/* Like TCP: what is said in another VLAN, or to another host, is the kernel's to judge. */
static void test_icmp_not_to_us(void **state)
{
	struct rte_mbuf *other = make_icmp(OURS);

	(void)state;
	rte_pktmbuf_mtod(other, uint8_t *)[5] ^= 1;
	wire(other);
	wire(make_icmp_vlan(5));
	wire(make_icmp_vlan(0x0100));
	wire(make_icmp_vlan(0xe000)); /* a priority only */
	assert_int_equal(rx.ops->poll(&rx, 128), 4);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(emitted[i]->verdict, TOE_TO_TAP);
	assert_int_equal(emitted[3]->verdict, TOE_TO_CTRL);
	free_emitted();
}

static void test_no_item(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ITEMS + 10; i++)
		wire(make_frame(OURS));
	while (rx.ops->poll(&rx, 32) != 0)
		;
	assert_int_equal(emitted_n, ITEMS);
	assert_int_equal(drops[TOE_D_NO_ITEM], 10);
	free_emitted();
}

static enum toe_hook_verdict decide(void *state, struct rte_mbuf *m, uint64_t tsc)
{
	(void)state;
	(void)tsc;
	return rte_pktmbuf_mtod(m, uint8_t *)[37]; /* the port is the verdict */
}

static void test_modules(void **state)
{
	static const struct toe_segment_module m = {.name = "decide", .run = decide};

	(void)state;
	assert_int_equal(toe_hook_add(engine.rx_raw, &m, NULL, 0), 0);
	wire(make_frame(0x0100 | TOE_HOOK_PASS));
	wire(make_frame(0x0100 | TOE_HOOK_DROP));
	wire(make_frame(0x0100 | TOE_HOOK_TX));
	wire(make_frame(0x0100 | TOE_HOOK_REDIRECT));
	assert_int_equal(rx.ops->poll(&rx, 128), 4);
	assert_int_equal(emitted_n, 3);
	assert_int_equal(emitted_to[0], TOE_STAGE_SEQ);
	assert_int_equal(emitted_to[1], TOE_STAGE_NETIF_TX);
	assert_int_equal(emitted_to[2], TOE_STAGE_EXCEPTION);
	assert_int_equal(drops[TOE_D_MODULE], 1);
	assert_int_equal(toe_hook_del(engine.rx_raw, "decide"), 0);
	free_emitted();
}

static void test_tx(void **state)
{
	struct toe_work *w[3];
	struct rte_mbuf *m;

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		w[i] = toe_work_alloc(&tx, TOE_WORK_RX);
	w[0]->tx_mbuf = make_frame(1); /* with the received frame still there */
	w[0]->mbuf = make_frame(2);
	w[1]->mbuf = make_frame(3); /* the received frame is the one to send */
	tx.ops->process(&tx, w, 3); /* the third has none */
	assert_int_equal(tx.ops->poll(&tx, 128), 2);
	assert_int_equal(counters[TOE_C_FRAMES_TX], 2);
	assert_int_equal(counters[TOE_C_BYTES_TX], 120);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(rte_eth_rx_burst(engine.eth_port, 0, &m, 1), 1);
		assert_int_equal(rte_pktmbuf_mtod(m, uint8_t *)[37], i == 0 ? 1 : 3);
		rte_pktmbuf_free(m);
	}
	free_emitted();
}

/* In place of the driver: takes what there is room for, notes the numbers the frames carry. */
static unsigned port_room, port_calls;
static uint16_t wire_order[512];
static unsigned wire_n;

static uint16_t narrow_port(void *queue, struct rte_mbuf **m, uint16_t n)
{
	uint16_t taken = 0;

	(void)queue;
	port_calls++;
	for (; taken < n && port_room > 0; taken++, port_room--) {
		const uint8_t *p = rte_pktmbuf_mtod(m[taken], const uint8_t *);

		wire_order[wire_n++] = (uint16_t)(p[36] << 8 | p[37]);
		rte_pktmbuf_free(m[taken]);
	}
	return taken;
}

static eth_tx_burst_t driver;

static void narrow(unsigned room)
{
	driver = rte_eth_fp_ops[engine.eth_port].tx_pkt_burst;
	rte_eth_fp_ops[engine.eth_port].tx_pkt_burst = narrow_port;
	wire_n = port_calls = 0;
	port_room = room;
}

static void widen(void)
{
	rte_eth_fp_ops[engine.eth_port].tx_pkt_burst = driver;
	free_emitted();
}

static void send_numbered(uint16_t first, unsigned n)
{
	struct toe_work *w[32];

	for (unsigned i = 0; i < n; i++) {
		w[i] = toe_work_alloc(&tx, TOE_WORK_RX);
		w[i]->tx_mbuf = make_frame((uint16_t)(first + i));
	}
	tx.ops->process(&tx, w, n);
	assert_int_equal(rte_mempool_in_use_count(engine.work_pool[TOE_WORK_RX]), 0);
	tx.ops->poll(&tx, 128);
}

static void expect_wire(unsigned n)
{
	assert_int_equal(wire_n, n);
	assert_int_equal(counters[TOE_C_FRAMES_TX], n);
	assert_int_equal(counters[TOE_C_BYTES_TX], 60 * n);
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(wire_order[i], 1 + i);
}

/* What a full port does not take waits, in order, and nothing overtakes it. */
static void test_tx_held(void **state)
{
	(void)state;
	narrow(10);
	assert_true(tx.ops->deadline(&tx) == UINT64_MAX);
	send_numbered(1, 32);
	expect_wire(10);
	assert_int_equal(counters[TOE_C_TX_HELD], 22);
	assert_true(tx.ops->deadline(&tx) > now.tsc);
	assert_true(tx.ops->deadline(&tx) < now.tsc + rte_get_tsc_hz() / 1000);
	port_room = 2; /* room again when others come: those behind go first */
	send_numbered(33, 20);
	expect_wire(12);
	assert_int_equal(counters[TOE_C_TX_HELD], 42);
	assert_int_equal(tx.ops->poll(&tx, 128), 0);
	port_room = 7;
	assert_int_equal(tx.ops->poll(&tx, 128), 7);
	expect_wire(19);
	port_room = 1000;
	send_numbered(53, 3);
	expect_wire(55);
	assert_true(tx.ops->deadline(&tx) == UINT64_MAX);
	assert_int_equal(drops[TOE_D_TX_FULL], 0);
	assert_int_equal(counters[TOE_C_TX_HELD], 42); /* each once */
	widen();
}

/* While the lcore has more to do a few frames wait one turn, many do not wait. */
static void test_tx_company(void **state)
{
	(void)state;
	narrow(1000);
	more = true;
	send_numbered(1, 3);
	expect_wire(0);
	assert_true(tx.ops->deadline(&tx) == now.tsc);
	send_numbered(4, 2);
	expect_wire(5);
	assert_int_equal(port_calls, 1);
	send_numbered(6, 1);
	assert_int_equal(tx.ops->poll(&tx, 128), 1); /* nobody came */
	send_numbered(7, 32);
	expect_wire(38);
	more = false;
	send_numbered(39, 1);
	expect_wire(39);
	assert_int_equal(counters[TOE_C_TX_HELD], 0);
	widen();
}

/* A port may keep what it took: it is asked before a sleep, and otherwise every millisecond. */
static void test_tx_push(void **state)
{
	const uint64_t ms = rte_get_tsc_hz() / 1000;
	struct toe_port_wait wait = {.n = 1};

	(void)state;
	narrow(1000);
	pushes = 0;
	engine.port_wait = &wait;
	assert_false(tx.ops->sleep(&tx, true));
	send_numbered(1, 3);
	assert_in_range(tx.ops->deadline(&tx), now.tsc + 1, now.tsc + ms);
	tx.ops->poll(&tx, 128);
	assert_int_equal(pushes, 0);
	push_leaves = true;
	now.tsc += ms;
	send_numbered(4, 3); /* does not put it off */
	tx.ops->poll(&tx, 128);
	tx.ops->poll(&tx, 128);
	assert_int_equal(pushes, 1);
	assert_false(tx.ops->sleep(&tx, true));
	assert_int_equal(pushes, 2);
	assert_in_range(tx.ops->deadline(&tx), now.tsc + 1, now.tsc + ms);
	push_leaves = false;
	assert_false(tx.ops->sleep(&tx, false));
	assert_false(tx.ops->sleep(&tx, true));
	assert_false(tx.ops->sleep(&tx, true));
	assert_int_equal(pushes, 3);
	assert_true(tx.ops->deadline(&tx) == UINT64_MAX);
	engine.port_wait = NULL;
	widen();
}

/* The backlog is bounded (a quarter of the buffers, a power of two); what is beyond it is counted.
 */
static void test_tx_full(void **state)
{
	(void)state;
	narrow(0);
	for (unsigned round = 0; round < 5; round++) { /* wraps, from wherever it starts */
		memset(counters, 0, sizeof(counters));
		memset(drops, 0, sizeof(drops));
		wire_n = 0;
		port_room = 0;
		send_numbered(1, 32);
		send_numbered(33, 32);
		assert_int_equal(drops[TOE_D_TX_FULL], 0);
		send_numbered(65, 5);
		assert_int_equal(drops[TOE_D_TX_FULL], 5);
		assert_int_equal(counters[TOE_C_TX_HELD], 64);
		assert_in_range(rte_mempool_in_use_count(engine.mbuf_pool), 64, 65);
		port_room = 5 + round;
		tx.ops->poll(&tx, 128);
		send_numbered(65, 5); /* there is room for these now */
		assert_int_equal(drops[TOE_D_TX_FULL], 5);
		port_room = 1000;
		assert_int_equal(tx.ops->poll(&tx, 128), 64 - round);
		expect_wire(69);
	}
	widen();
}

/* Frames still held when the engine ends are given back. */
static void test_tx_end(void **state)
{
	(void)state;
	narrow(0);
	send_numbered(1, 7);
	tx.ops->fini(&tx);
	assert_int_equal(tx.ops->init(&tx), 0);
	widen();
}

static void test_tap(void **state)
{
	struct toe_work *w[1];
	uint8_t buf[128];

	(void)state;
	assert_int_equal(watched, engine.tap_fd);
	w[0] = toe_work_alloc(&tap, TOE_WORK_RX);
	w[0]->mbuf = make_frame(0);
	tap.ops->process(&tap, w, 1);
	assert_int_equal(counters[TOE_C_TAP_TX], 1);
	assert_int_equal(read(peer, buf, sizeof(buf)), 60);
	/* from the kernel */
	memset(buf, 7, 70);
	assert_int_equal(write(peer, buf, 70), 70);
	assert_int_equal(tap.ops->poll(&tap, 128), 1);
	assert_int_equal(emitted_to[0], TOE_STAGE_NETIF_TX);
	assert_int_equal(emitted[0]->todo, TOE_TODO_TX);
	assert_int_equal(emitted[0]->tx_mbuf->pkt_len, 70);
	/* an empty TAP is left alone for a while, unless the lcore slept */
	assert_int_equal(write(peer, buf, 70), 70);
	assert_int_equal(tap.ops->poll(&tap, 128), 0);
	tap.ops->sleep(&tap, false);
	assert_int_equal(tap.ops->poll(&tap, 128), 1);
	free_emitted();
}

static void test_no_tap(void **state)
{
	struct toe_work *w[1];
	int fd = engine.tap_fd;

	(void)state;
	engine.tap_fd = -1;
	w[0] = toe_work_alloc(&tap, TOE_WORK_RX);
	w[0]->mbuf = make_frame(0);
	tap.ops->process(&tap, w, 1);
	assert_int_equal(drops[TOE_D_TAP_FULL], 1);
	assert_int_equal(tap.ops->poll(&tap, 128), 0);
	engine.tap_fd = fd;
	free_emitted();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_classes, reset),
		cmocka_unit_test_setup(test_icmp_not_to_us, reset),
		cmocka_unit_test_setup(test_no_item, reset),
		cmocka_unit_test_setup(test_modules, reset),
		cmocka_unit_test_setup(test_tx, reset),
		cmocka_unit_test_setup(test_tx_held, reset),
		cmocka_unit_test_setup(test_tx_company, reset),
		cmocka_unit_test_setup(test_tx_push, reset),
		cmocka_unit_test_setup(test_tx_full, reset),
		cmocka_unit_test_setup(test_tx_end, reset),
		cmocka_unit_test_setup(test_tap, reset),
		cmocka_unit_test_setup(test_no_tap, reset),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
