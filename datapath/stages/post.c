// SPDX-License-Identifier: BSD-3-Clause
/*
 * post: turns proto's decision into a segment, and keeps the statistics (replicable).
 *
 * Input: every item proto let go, with its snapshot.  Output: the same items, all to dma; those
 * with TOE_TODO_TX carry a frame with headers and room for the payload.  Reads flow_post and
 * flow_addr6; owns line [conn][replica] of toe_flow_stat (proto clears it at INSTALL).  Without a
 * packet buffer nothing is sent: TCP repairs that.
 */
#include <errno.h>
#include <stdlib.h>

#include <rte_mbuf.h>

#include "common/log.h"
#include "engine.h"
#include "seg_build.h"
#include "stage.h"

struct post {
	uint64_t ol_flags[2]; /* offloads asked of the port: IPv4, IPv6 */
	bool ip_cksum;        /* by the port */
	bool tcp_cksum;
	uint16_t mtu;
};

#define ECN_CE 3u

static int post_init(struct toe_stage *s)
{
	const struct toe_port_caps *caps = &s->engine->caps;
	struct post *p = calloc(1, sizeof(*p));

	if (p == NULL)
		return -ENOMEM;
	if (s->replica >= TOE_FLOW_STAT_REPLICAS) {
		free(p);
		return -EINVAL;
	}
	p->ip_cksum = caps->tx_ip_cksum;
	p->tcp_cksum = caps->tx_tcp_cksum;
	p->mtu = caps->mtu;
	if (p->ip_cksum)
		p->ol_flags[0] |= RTE_MBUF_F_TX_IP_CKSUM | RTE_MBUF_F_TX_IPV4;
	if (p->tcp_cksum) {
		p->ol_flags[0] |= RTE_MBUF_F_TX_TCP_CKSUM | RTE_MBUF_F_TX_IPV4;
		p->ol_flags[1] |= RTE_MBUF_F_TX_TCP_CKSUM | RTE_MBUF_F_TX_IPV6;
	}
	s->priv = p;
	return 0;
}

static void post_fini(struct toe_stage *s)
{
	free(s->priv);
	s->priv = NULL;
}

static bool post_builds(const struct toe_work *w)
{
	return (w->todo & TOE_TODO_TX) != 0;
}

/* As many of n buffers as there are. */
static unsigned post_alloc(struct toe_stage *s, struct rte_mbuf **mbufs, unsigned n)
{
	unsigned i;

	if (n == 0 || rte_pktmbuf_alloc_bulk(s->engine->mbuf_pool, mbufs, n) == 0)
		return n;
	for (i = 0; i < n; i++) {
		mbufs[i] = rte_pktmbuf_alloc(s->engine->mbuf_pool);
		if (mbufs[i] == NULL)
			break;
	}
	return i;
}

static bool post_build(struct toe_stage *s, struct toe_work *w, struct rte_mbuf *m)
{
	const struct post *p = s->priv;
	struct toe_seg_build b = {
		.flow = &s->engine->flow_post[w->conn],
		.addr6 = &s->engine->flow_addr6[w->conn],
		.src_mac = s->engine->mac.addr_bytes,
		.snap = &w->snap,
		.payload_len = toe_work_sends(w) ? w->snap.len : 0,
		.sack_n = w->snap.sack_n,
		.ip_cksum = !p->ip_cksum,
		.tcp_phdr = p->tcp_cksum,
	};
	unsigned tcp_bytes = toe_seg_tcp_bytes(b.flow, b.sack_n);
	unsigned l3_bytes = toe_seg_l3_bytes(b.flow);
	uint8_t *dst;

	b.ts_val = w->snap.ts_ms + b.flow->ts_offset;
	/* the MSS leaves room for timestamps only: data before SACK blocks */
	while (b.sack_n > 0 && l3_bytes + tcp_bytes + b.payload_len > p->mtu)
		tcp_bytes = toe_seg_tcp_bytes(b.flow, --b.sack_n);
	m->l2_len = TOE_SEG_L2_BYTES;
	m->l3_len = l3_bytes;
	m->l4_len = tcp_bytes;
	m->ol_flags |= p->ol_flags[(b.flow->flags & TOE_POST_IPV6) != 0];
	m->port = s->engine->eth_port;
	dst = (uint8_t *)rte_pktmbuf_append(
		m, (uint16_t)(TOE_SEG_L2_BYTES + l3_bytes + tcp_bytes + b.payload_len));
	if (dst == NULL)
		return false;
	toe_seg_build(dst, &b);
	w->tx_mbuf = m;
	return true;
}

/* Takes the segment back: nothing is sent, and nothing is fetched for it. */
static void post_unsend(struct toe_stage *s, struct toe_work *w)
{
	s->drops[TOE_D_NO_MBUF]++;
	w->todo &= (uint8_t)~TOE_TODO_TX;
	if (toe_work_sends(w))
		w->snap.len = 0;
}

static void post_stat(struct toe_stage *s, const struct toe_work *w)
{
	const struct toe_snap *snap = &w->snap;
	struct toe_flow_stat *st;

	/* a plain drop: proto wrote no snapshot */
	if (w->conn >= s->engine->conn_n || (w->verdict != TOE_FORWARD && w->todo == 0))
		return;
	st = &s->engine->stat[w->conn * TOE_FLOW_STAT_REPLICAS + s->replica];
	if (w->type == TOE_WORK_RX && w->verdict == TOE_FORWARD) {
		st->rx_segs++;
		st->rx_bytes += snap->len;
		st->acked_bytes += snap->acked_bytes;
		if (snap->ecn_echo)
			st->ecn_bytes += snap->acked_bytes;
		st->dup_acks += snap->dup_ack;
		st->rx_segs_ce += w->seg.ecn == ECN_CE;
	}
	if (!post_builds(w))
		return;
	st->tx_segs++;
	if (toe_work_sends(w)) {
		st->tx_bytes += snap->len;
		st->rtx_bytes += snap->rtx_bytes;
		st->rtx_segs += snap->rtx_bytes != 0;
	}
}

static void post_process(struct toe_stage *s, struct toe_work **items, unsigned n)
{
	struct rte_mbuf *mbufs[TOE_BURST];
	unsigned i, need = 0, used = 0, got;

	for (i = 0; i < n; i++)
		need += post_builds(items[i]);
	got = post_alloc(s, mbufs, need);
	for (i = 0; i < n; i++) {
		struct toe_work *w = items[i];

		if (post_builds(w)) {
			TOE_ASSERT(w->conn < s->engine->conn_n);
			if (used == got) {
				post_unsend(s, w);
			} else if (!post_build(s, w, mbufs[used++])) {
				rte_pktmbuf_free(mbufs[used - 1]);
				post_unsend(s, w);
			}
		}
		post_stat(s, w);
		toe_emit(s, TOE_STAGE_DMA, w);
	}
}

const struct toe_stage_ops toe_stage_post = {
	.id = TOE_STAGE_POST,
	.name = "post",
	.replicable = true,
	.next_mask = 1u << TOE_STAGE_DMA,
	.init = post_init,
	.fini = post_fini,
	.process = post_process,
};
