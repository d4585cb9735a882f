/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * netif_tx: the last stage.  Sends the frame of an item (tx_mbuf, or mbuf if that is all it has)
 * and frees the item.
 *
 * Input: egress and what follows it, exception (frames of the kernel), ctrl (FRAME_TX), segment
 * modules.  Output: transmit queue 0 of the port.  State: frames that wait, in order: few of them
 * for company, at most a turn of the lcore, and those that the port did not take, which are
 * offered again at the next turn.  Bounded: beyond that frames are dropped and counted, and TCP
 * repeats them.
 */
#include <errno.h>
#include <stdlib.h>

#include <rte_cycles.h>
#include <rte_ethdev.h>

#include "engine.h"
#include "port.h"
#include "stage.h"

#define HELD_MAX 1024u /* frames; as many as the transmit ring has descriptors */
#define PUSH_US  1000u /* between looks what a port that took frames has kept */
#define RETRY_US 50u   /* between offers to a full port, if the lcore has nothing else to do */

struct netif_tx {
	uint32_t head; /* next to send; these run freely */
	uint32_t tail;
	uint32_t refused; /* the port was full for those before */
	uint32_t mask;
	bool kept; /* since the last turn, for company */
	uint64_t retry_tsc;
	uint64_t push_tsc; /* when to look what the port has kept, UINT64_MAX: nothing since */
	uint64_t push_gap;
	struct rte_mbuf *frames[];
};

/* Waiting frames are buffers that nobody else has: never more than a quarter of them. */
static int netif_tx_init(struct toe_stage *s)
{
	uint32_t n = HELD_MAX;
	struct netif_tx *tx;

	while (n > TOE_BURST && n > s->engine->mbuf_pool->size / 4)
		n /= 2;
	tx = calloc(1, sizeof(*tx) + n * sizeof(tx->frames[0]));
	if (tx == NULL)
		return -ENOMEM;
	tx->mask = n - 1;
	tx->retry_tsc = rte_get_tsc_hz() / 1000000u * RETRY_US;
	tx->push_gap = rte_get_tsc_hz() / 1000000u * PUSH_US;
	tx->push_tsc = UINT64_MAX;
	s->priv = tx;
	return 0;
}

static void netif_tx_fini(struct toe_stage *s)
{
	struct netif_tx *tx = s->priv;

	while (tx->head != tx->tail)
		rte_pktmbuf_free(tx->frames[tx->head++ & tx->mask]);
	free(tx);
	s->priv = NULL;
}

/* Takes the frame out of the item, NULL if it has none. */
static struct rte_mbuf *take_frame(struct toe_work *w)
{
	struct rte_mbuf *m = w->tx_mbuf;

	if (m == NULL || m == w->mbuf) {
		m = w->mbuf;
		w->mbuf = NULL;
	}
	w->tx_mbuf = NULL;
	return m;
}

/* Returns how many the port took. */
static unsigned send_frames(struct toe_stage *s, struct rte_mbuf **m, unsigned n)
{
	const struct toe_port_wait *wait = s->engine->port_wait;
	struct netif_tx *tx = s->priv;
	uint64_t bytes = 0;
	unsigned sent;

	for (unsigned i = 0; i < n; i++)
		bytes += m[i]->pkt_len; /* those sent are not ours any more afterwards */
	sent = rte_eth_tx_burst(s->engine->eth_port, 0, m, (uint16_t)n);
	for (unsigned i = sent; i < n; i++)
		bytes -= m[i]->pkt_len;
	if (sent != 0 && tx->push_tsc == UINT64_MAX && wait != NULL && !wait->intr)
		tx->push_tsc = toe_now(s)->tsc + tx->push_gap;
	toe_count(s, TOE_C_FRAMES_TX, sent);
	toe_count(s, TOE_C_BYTES_TX, bytes);
	return sent;
}

static unsigned waiting(const struct netif_tx *tx)
{
	return tx->tail - tx->head;
}

/* Returns how many frames left; bounded by the number that can wait. */
static unsigned send_waiting(struct toe_stage *s)
{
	struct netif_tx *tx = s->priv;
	unsigned done = 0;

	tx->kept = false;
	while (waiting(tx) != 0) {
		uint32_t at = tx->head & tx->mask;
		unsigned n = RTE_MIN(waiting(tx), tx->mask + 1 - at);
		unsigned sent;

		sent = send_frames(s, &tx->frames[at], n);
		tx->head += sent;
		done += sent;
		if (sent < n)
			break;
	}
	/* counted once, however often they are offered */
	toe_count(s, TOE_C_TX_HELD, RTE_MIN(waiting(tx), tx->tail - tx->refused));
	tx->refused = tx->tail;
	return done;
}

static void append(struct toe_stage *s, struct rte_mbuf **m, unsigned n)
{
	struct netif_tx *tx = s->priv;
	unsigned room = tx->mask + 1 - waiting(tx);

	if (room < n) {
		send_waiting(s);
		room = tx->mask + 1 - waiting(tx);
	}
	room = RTE_MIN(n, room);
	for (unsigned i = 0; i < room; i++)
		tx->frames[tx->tail++ & tx->mask] = m[i];
	for (unsigned i = room; i < n; i++)
		rte_pktmbuf_free(m[i]);
	s->drops[TOE_D_TX_FULL] += n - room;
}

static void netif_tx_process(struct toe_stage *s, struct toe_work **items, unsigned n)
{
	struct rte_mbuf *m[TOE_BURST];
	unsigned frames = 0;

	for (unsigned i = 0; i < n; i++) {
		struct rte_mbuf *frame;

		if (s->engine->eth_port == TOE_NO_PORT) {
			s->drops[TOE_D_PORT_DOWN]++;
			continue;
		}
		frame = take_frame(items[i]);
		if (frame != NULL)
			m[frames++] = frame;
	}
	append(s, m, frames);
	for (unsigned i = 0; i < n; i++)
		toe_work_free(s, items[i]);
}

static void push(struct toe_stage *s)
{
	struct netif_tx *tx = s->priv;
	bool left = toe_port_push(s->engine->port_wait);

	tx->push_tsc = left ? toe_now(s)->tsc + tx->push_gap : UINT64_MAX;
}

/* Few frames keep the port waiting for one turn if the lcore is in the middle of something: those
 * that it makes next leave by the same system call. */
static unsigned netif_tx_poll(struct toe_stage *s, unsigned budget)
{
	struct netif_tx *tx = s->priv;

	(void)budget; /* what waits is bounded */
	if (toe_now(s)->tsc >= tx->push_tsc)
		push(s);
	if (!tx->kept && waiting(tx) < TOE_BURST && toe_more_waits(s)) {
		tx->kept = true;
		return 0;
	}
	return send_waiting(s);
}

static uint64_t netif_tx_deadline(struct toe_stage *s)
{
	const struct netif_tx *tx = s->priv;

	if (waiting(tx) == 0)
		return tx->push_tsc;
	return tx->kept ? toe_now(s)->tsc : RTE_MIN(tx->push_tsc, toe_now(s)->tsc + tx->retry_tsc);
}

/* Nothing is left behind for the time of a sleep, but by a port that is full. */
static bool netif_tx_sleep(struct toe_stage *s, bool on)
{
	const struct netif_tx *tx = s->priv;

	if (on && tx->push_tsc != UINT64_MAX)
		push(s);
	return false;
}

const struct toe_stage_ops toe_stage_netif_tx = {
	.id = TOE_STAGE_NETIF_TX,
	.name = "netif_tx",
	.init = netif_tx_init,
	.fini = netif_tx_fini,
	.process = netif_tx_process,
	.poll = netif_tx_poll,
	.deadline = netif_tx_deadline,
	.sleep = netif_tx_sleep,
};
