/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * netif_rx: takes frames from the port, runs the segment modules of rx_raw, finds flow hash and
 * flow-group, and makes a work item of every frame (paper §3.2, "netif").
 *
 * Input: receive queue 0 of the port.  Output: seq; netif_tx and exception only for what a module
 * sends back or away.  Owns nothing that is shared.  A port without receive interrupts is waited
 * for through its packet sockets, one without either by napping (deadline).
 */
#include <errno.h>
#include <stdlib.h>

#include <rte_cycles.h>
#include <rte_epoll.h>
#include <rte_ethdev.h>
#include <rte_hash_crc.h>
#include <rte_prefetch.h>

#include "engine.h"
#include "netif_parse.h"
#include "pipeline.h"
#include "port.h"
#include "segment_module.h"

#define NAP_US 50u /* between looks at a port that cannot wake us */

struct netif_rx {
	uint64_t nap_tsc;
	bool asleep; /* receive interrupt is enabled */
};

static int netif_rx_init(struct toe_stage *s)
{
	const struct toe_engine *e = s->engine;
	const struct toe_port_wait *wait = e->port_wait;
	struct netif_rx *rx = calloc(1, sizeof(*rx));

	if (rx == NULL)
		return -ENOMEM;
	rx->nap_tsc = rte_get_tsc_hz() / 1000000u * NAP_US;
	for (unsigned i = 0; wait != NULL && i < wait->n; i++) {
		int rc = toe_pipeline_watch(e->pipeline, TOE_STAGE_NETIF_RX, wait->fds[i]);

		if (rc != 0) {
			free(rx);
			return rc;
		}
	}
	s->priv = rx;
	return 0;
}

static void netif_rx_fini(struct toe_stage *s)
{
	free(s->priv);
	s->priv = NULL;
}

/* What the frame is and where it goes: verdict, flow-group and hash. */
static void classify(const struct toe_engine *e, struct toe_work *w, const struct rte_mbuf *m)
{
	const uint8_t *frame = rte_pktmbuf_mtod(m, const uint8_t *);
	struct netif_key key;
	enum netif_class c = netif_parse(frame, rte_pktmbuf_data_len(m), &key);

	if (c == NETIF_OTHER) {
		w->verdict = TOE_TO_TAP;
		return;
	}
	/* same value as toe_flow_hash(), which the control plane uses (unit-tested) */
	w->hash = rte_hash_crc(&key.tuple, sizeof(key.tuple), 0);
	w->fg = (uint16_t)toe_flow_group(w->hash, e->flow_group_n);
	if (c == NETIF_TCP)
		return;
	w->verdict =
		netif_to_us(frame, &key, e->mac.addr_bytes) && toe_port_ours(e->flows, &key.tuple)
			? TOE_TO_CTRL
			: TOE_TO_TAP;
}

static void take_frame(struct toe_stage *s, struct rte_mbuf *m, enum toe_hook_verdict verdict)
{
	struct toe_work *w;

	if (verdict == TOE_HOOK_DROP) {
		s->drops[TOE_D_MODULE]++;
		rte_pktmbuf_free(m);
		return;
	}
	w = toe_work_alloc(s, TOE_WORK_RX);
	if (w == NULL) {
		s->drops[TOE_D_NO_ITEM]++;
		rte_pktmbuf_free(m);
		return;
	}
	switch (verdict) {
	case TOE_HOOK_TX:
		w->todo = TOE_TODO_TX;
		w->tx_mbuf = m;
		toe_emit(s, TOE_STAGE_NETIF_TX, w);
		break;
	case TOE_HOOK_REDIRECT:
		w->mbuf = m;
		toe_emit(s, TOE_STAGE_EXCEPTION, w);
		break;
	default:
		w->mbuf = m;
		classify(s->engine, w, m);
		toe_emit(s, TOE_STAGE_SEQ, w);
		break;
	}
}

static unsigned netif_rx_poll(struct toe_stage *s, unsigned budget)
{
	const struct toe_engine *e = s->engine;
	const bool hooked = toe_hook_active(e->rx_raw);
	const uint64_t tsc = toe_now(s)->tsc;
	struct rte_mbuf *m[TOE_BURST];
	unsigned done = 0;
	unsigned n;

	if (e->eth_port == TOE_NO_PORT)
		return 0;
	do {
		uint64_t bytes = 0;

		n = rte_eth_rx_burst(e->eth_port, 0, m, TOE_BURST);
		for (unsigned i = 0; i < n; i++)
			rte_prefetch0(rte_pktmbuf_mtod(m[i], void *));
		for (unsigned i = 0; i < n; i++) {
			enum toe_hook_verdict v = TOE_HOOK_PASS;

			bytes += m[i]->pkt_len;
			if (hooked)
				v = toe_hook_run(e->rx_raw, s->replica, m[i], tsc);
			take_frame(s, m[i], v);
		}
		toe_count(s, TOE_C_FRAMES_RX, n);
		toe_count(s, TOE_C_BYTES_RX, bytes);
		done += n;
	} while (n == TOE_BURST && done < budget);
	return done;
}

/* Nothing comes here through a queue: the wire is the only input. */
static void netif_rx_process(struct toe_stage *s, struct toe_work **items, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		toe_work_free(s, items[i]);
}

static uint64_t netif_rx_deadline(struct toe_stage *s)
{
	const struct toe_port_wait *wait = s->engine->port_wait;
	const struct netif_rx *rx = s->priv;

	if (wait == NULL || wait->n != 0)
		return UINT64_MAX;
	return toe_now(s)->tsc + rx->nap_tsc;
}

/* With receive interrupts: arm, then look once more, as a frame may have come in between.  Packet
 * sockets need nothing, they are level-triggered. */
static bool netif_rx_sleep(struct toe_stage *s, bool on)
{
	const struct toe_engine *e = s->engine;
	struct netif_rx *rx = s->priv;
	struct rte_epoll_event ev[4];

	if (e->port_wait == NULL || !e->port_wait->intr)
		return false;
	if (on) {
		/* -ENOTSUP is success: net_tap has the descriptor but nothing to enable */
		rte_eth_dev_rx_intr_enable(e->eth_port, 0);
		rx->asleep = true;
		return netif_rx_poll(s, TOE_BURST) != 0;
	}
	if (rx->asleep) {
		rte_eth_dev_rx_intr_disable(e->eth_port, 0);
		rte_epoll_wait(e->port_wait->fds[0], ev, (int)RTE_DIM(ev), 0); /* takes the event */
		rx->asleep = false;
	}
	return false;
}

const struct toe_stage_ops toe_stage_netif_rx = {
	.id = TOE_STAGE_NETIF_RX,
	.name = "netif_rx",
	.next_mask = 1u << TOE_STAGE_SEQ | 1u << TOE_STAGE_NETIF_TX | 1u << TOE_STAGE_EXCEPTION,
	.init = netif_rx_init,
	.fini = netif_rx_fini,
	.process = netif_rx_process,
	.poll = netif_rx_poll,
	.deadline = netif_rx_deadline,
	.sleep = netif_rx_sleep,
};
