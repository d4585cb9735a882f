/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * netif_tx: the last stage.  Sends the frame of an item (tx_mbuf, or mbuf if that is all it has)
 * and frees the item.
 *
 * Input: egress and what follows it, exception (frames of the kernel), ctrl (FRAME_TX), segment
 * modules. Output: transmit queue 0 of the port.  No state.  What the port does not take after a
 * bounded number of tries is dropped and counted: TCP repeats it.
 */
#include <rte_ethdev.h>
#include <rte_pause.h>

#include "engine.h"
#include "stage.h"

#define TRIES 64u

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

static void send_frames(struct toe_stage *s, struct rte_mbuf **m, unsigned n)
{
	unsigned sent = 0;
	uint64_t bytes = 0;

	for (unsigned i = 0; i < n; i++)
		bytes += m[i]->pkt_len; /* not ours any more after tx_burst */
	for (unsigned t = 0; sent < n && t < TRIES; t++) {
		sent += rte_eth_tx_burst(s->engine->eth_port, 0, m + sent, (uint16_t)(n - sent));
		if (sent < n)
			rte_pause();
	}
	toe_count(s, TOE_C_FRAMES_TX, sent);
	s->drops[TOE_D_TX_FULL] += n - sent;
	for (; sent < n; sent++) {
		bytes -= m[sent]->pkt_len;
		rte_pktmbuf_free(m[sent]);
	}
	toe_count(s, TOE_C_BYTES_TX, bytes);
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
	if (frames != 0)
		send_frames(s, m, frames);
	for (unsigned i = 0; i < n; i++)
		toe_work_free(s, items[i]);
}

const struct toe_stage_ops toe_stage_netif_tx = {
	.id = TOE_STAGE_NETIF_TX,
	.name = "netif_tx",
	.process = netif_tx_process,
};
