// SPDX-License-Identifier: BSD-3-Clause
/*
 * pre: validates received segments and finds their flow (replicable).
 *
 * Input: every numbered item.  Output: the same items, all to reorder; RX items with a verdict and,
 * if they are ours, the segment summary, connection id and generation.  Reads the flow table and
 * the port table; owns nothing.  A drop keeps its number.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <rte_mbuf.h>

#include "common/config.h"
#include "engine.h"
#include "seg_parse.h"
#include "stage.h"
#include "toe/region.h"

struct pre {
	uint32_t addr; /* the port's IPv4 address, network order; 0: any the port table names */
};

static int pre_init(struct toe_stage *s)
{
	const struct toe_config *cfg = s->engine->cfg;
	struct pre *p = calloc(1, sizeof(*p));
	char host[sizeof(cfg->address)];

	if (p == NULL)
		return -ENOMEM;
	memcpy(host, cfg->address, sizeof(host));
	host[sizeof(host) - 1] = '\0';
	host[strcspn(host, "/")] = '\0';
	if (host[0] != '\0' && inet_pton(AF_INET, host, &p->addr) != 1) {
		free(p);
		return -EINVAL;
	}
	s->priv = p;
	return 0;
}

static void pre_fini(struct toe_stage *s)
{
	free(s->priv);
	s->priv = NULL;
}

static unsigned pre_trust(const struct rte_mbuf *m)
{
	uint64_t ip = m->ol_flags & RTE_MBUF_F_RX_IP_CKSUM_MASK;
	uint64_t l4 = m->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK;

	/* NONE: no checksum in the frame, but its integrity is known (virtual ports) */
	return ((ip == RTE_MBUF_F_RX_IP_CKSUM_GOOD || ip == RTE_MBUF_F_RX_IP_CKSUM_NONE)
			? TOE_TRUST_IP_CKSUM
			: 0) |
	       ((l4 == RTE_MBUF_F_RX_L4_CKSUM_GOOD || l4 == RTE_MBUF_F_RX_L4_CKSUM_NONE)
			? TOE_TRUST_TCP_CKSUM
			: 0);
}

/* True: the frame has a 4-tuple in f->key that is to be looked up.  Else the verdict is final. */
static bool pre_classify(struct toe_stage *s, struct toe_work *w, struct toe_frame *f)
{
	const uint8_t *frame;

	w->conn = TOE_NONE;
	if (!rte_pktmbuf_is_contiguous(w->mbuf) && rte_pktmbuf_linearize(w->mbuf) != 0) {
		toe_drop(s, w, TOE_D_NO_MBUF);
		return false;
	}
	frame = rte_pktmbuf_mtod(w->mbuf, const uint8_t *);
	if (toe_frame_parse(frame, rte_pktmbuf_data_len(w->mbuf), f) == TOE_FRAME_SHORT) {
		toe_drop(s, w, TOE_D_SHORT);
		return false;
	}
	if (frame[0] & 1) { /* broadcast, multicast: never a connection */
		w->verdict = TOE_TO_TAP;
		return false;
	}
	if (memcmp(frame, s->engine->mac.addr_bytes, sizeof(s->engine->mac.addr_bytes)) != 0) {
		toe_drop(s, w, TOE_D_OTHER_HOST);
		return false;
	}
	if (f->kind == TOE_FRAME_IP_BAD) {
		toe_drop(s, w, TOE_D_IP_HEADER);
		return false;
	}
	/* another VLAN is another network: the kernel's, if it has an interface for it */
	if (f->kind == TOE_FRAME_OTHER || f->kind == TOE_FRAME_IP || f->vlan != 0) {
		w->verdict = TOE_TO_TAP;
		return false;
	}
	return true;
}

/* Is the frame for an offloaded port without a flow? */
static bool pre_port_ours(const struct toe_stage *s, const struct toe_frame *f)
{
	const struct pre *p = s->priv;

	if (!toe_port_ours(s->engine->flows, &f->key))
		return false;
	return f->key.family == AF_INET6 || p->addr == 0 ||
	       memcmp(f->key.local_addr, &p->addr, sizeof(p->addr)) == 0;
}

static enum toe_drop pre_check(struct toe_work *w, const struct toe_frame *f)
{
	uint64_t bad = w->mbuf->ol_flags;
	enum toe_drop why;

	if (f->kind == TOE_FRAME_FRAGMENT)
		return TOE_D_FRAGMENT;
	if (toe_frame_martian(f) ||
	    (f->key.family == AF_INET &&
	     (bad & RTE_MBUF_F_RX_IP_CKSUM_MASK) == RTE_MBUF_F_RX_IP_CKSUM_BAD))
		return TOE_D_IP_HEADER;
	if ((bad & RTE_MBUF_F_RX_L4_CKSUM_MASK) == RTE_MBUF_F_RX_L4_CKSUM_BAD)
		return TOE_D_TCP_CHECKSUM;
	why = toe_seg_parse(rte_pktmbuf_mtod(w->mbuf, const uint8_t *), f, pre_trust(w->mbuf),
			    &w->seg);
	if (why == TOE_D_NONE && toe_flags_impossible(w->seg.flags))
		why = TOE_D_TCP_FLAGS;
	return why;
}

static void pre_decide(struct toe_stage *s, struct toe_work *w, const struct toe_frame *f,
		       struct toe_flow_ref flow)
{
	bool known = flow.conn != TOE_NONE;
	enum toe_drop why;

	if (!known && !pre_port_ours(s, f)) {
		w->verdict = TOE_TO_TAP;
		return;
	}
	why = pre_check(w, f);
	/* the item's number belongs to another flow-group than the connection: an id of the wrong
	 * partition was installed */
	if (why == TOE_D_NONE && known && flow.conn % s->engine->flow_group_n != w->fg)
		why = TOE_D_STALE;
	if (why != TOE_D_NONE) {
		toe_drop(s, w, why);
		return;
	}
	if (!known) {
		w->verdict = TOE_TO_CTRL;
		return;
	}
	w->conn = flow.conn;
	w->gen = flow.gen;
}

static void pre_process(struct toe_stage *s, struct toe_work **items, unsigned n)
{
	struct toe_frame frames[TOE_BURST];
	const struct toe_tuple *keys[TOE_BURST];
	struct toe_work *looked_up[TOE_BURST];
	struct toe_flow_ref flows[TOE_BURST];
	unsigned i, key_n = 0;

	for (i = 0; i < n; i++) {
		struct toe_work *w = items[i];

		if (w->type != TOE_WORK_RX || w->verdict != TOE_FORWARD)
			continue;
		if (pre_classify(s, w, &frames[key_n])) {
			keys[key_n] = &frames[key_n].key;
			looked_up[key_n++] = w;
		}
	}
	if (key_n > 0)
		toe_flow_table_lookup(s->engine->flows, keys, key_n, flows);
	for (i = 0; i < key_n; i++)
		pre_decide(s, looked_up[i], &frames[i], flows[i]);
	for (i = 0; i < n; i++)
		toe_emit(s, TOE_STAGE_REORDER, items[i]);
}

const struct toe_stage_ops toe_stage_pre = {
	.id = TOE_STAGE_PRE,
	.name = "pre",
	.replicable = true,
	.next_mask = 1u << TOE_STAGE_REORDER,
	.init = pre_init,
	.fini = pre_fini,
	.process = pre_process,
};
