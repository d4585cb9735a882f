/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * exception: the kernel's share of the port.  Frames that belong to no offloaded connection or port
 * go into the TAP (paper §3: "exception path"); what the kernel sends through the TAP goes to the
 * wire.
 *
 * Input: reorder, segment modules, the TAP (whole Ethernet frames, checksums complete: IFF_NO_PI
 * without vnet header).  Output: the TAP, netif_tx.  Owns the TAP descriptor's traffic.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#include <rte_cycles.h>

#include "engine.h"
#include "pipeline.h"

#define SEGS_MAX    16
#define READ_GAP_US 20u /* a busy lcore asks an empty TAP no more often */

struct exception {
	struct rte_mbuf *spare; /* buffer of the next read */
	uint64_t gap_tsc;
	uint64_t next_read; /* TSC; 0: now */
};

static int exception_init(struct toe_stage *s)
{
	const struct toe_engine *e = s->engine;
	struct exception *x = calloc(1, sizeof(*x));
	int rc = 0;

	if (x == NULL)
		return -ENOMEM;
	x->gap_tsc = rte_get_tsc_hz() / 1000000u * READ_GAP_US;
	if (e->tap_fd >= 0)
		rc = toe_pipeline_watch(e->pipeline, TOE_STAGE_EXCEPTION, e->tap_fd);
	if (rc != 0)
		free(x);
	else
		s->priv = x;
	return rc;
}

static void exception_fini(struct toe_stage *s)
{
	struct exception *x = s->priv;

	rte_pktmbuf_free(x->spare);
	free(x);
	s->priv = NULL;
}

static bool write_frame(int fd, const struct rte_mbuf *m)
{
	struct iovec iov[SEGS_MAX];
	int n = 0;

	for (; m != NULL && n < SEGS_MAX; m = m->next) {
		iov[n].iov_base = rte_pktmbuf_mtod(m, void *);
		iov[n++].iov_len = m->data_len;
	}
	return m == NULL && writev(fd, iov, n) >= 0;
}

static void exception_process(struct toe_stage *s, struct toe_work **items, unsigned n)
{
	const int fd = s->engine->tap_fd;

	for (unsigned i = 0; i < n; i++) {
		struct toe_work *w = items[i];

		if (fd >= 0 && w->mbuf != NULL && write_frame(fd, w->mbuf))
			toe_count(s, TOE_C_TAP_TX, 1);
		else
			s->drops[TOE_D_TAP_FULL]++;
		toe_work_free(s, w);
	}
}

/* One frame of the kernel.  False: none, or no room for one. */
static bool read_frame(struct toe_stage *s, struct exception *x)
{
	struct toe_work *w;
	ssize_t len;

	if (x->spare == NULL)
		x->spare = rte_pktmbuf_alloc(s->engine->mbuf_pool);
	if (x->spare == NULL) {
		s->drops[TOE_D_NO_MBUF]++;
		return false;
	}
	len = read(s->engine->tap_fd, rte_pktmbuf_mtod(x->spare, void *),
		   rte_pktmbuf_tailroom(x->spare));
	if (len <= 0)
		return false;
	w = toe_work_alloc(s, TOE_WORK_RX);
	if (w == NULL) {
		s->drops[TOE_D_NO_ITEM]++; /* the buffer is used again */
		return false;
	}
	x->spare->data_len = (uint16_t)len;
	x->spare->pkt_len = (uint32_t)len;
	w->todo = TOE_TODO_TX;
	w->tx_mbuf = x->spare;
	x->spare = NULL;
	toe_emit(s, TOE_STAGE_NETIF_TX, w);
	return true;
}

static unsigned exception_poll(struct toe_stage *s, unsigned budget)
{
	struct exception *x = s->priv;
	uint64_t now = toe_now(s)->tsc;
	unsigned n = 0;

	if (s->engine->tap_fd < 0 || now < x->next_read)
		return 0;
	if (budget > TOE_BURST)
		budget = TOE_BURST;
	while (n < budget && read_frame(s, x))
		n++;
	x->next_read = n == budget ? 0 : now + x->gap_tsc;
	toe_count(s, TOE_C_TAP_RX, n);
	return n;
}

/* The TAP is level-triggered in the lcore's epoll set: after a sleep look at once. */
static bool exception_sleep(struct toe_stage *s, bool on)
{
	struct exception *x = s->priv;

	if (!on)
		x->next_read = 0;
	return false;
}

const struct toe_stage_ops toe_stage_exception = {
	.id = TOE_STAGE_EXCEPTION,
	.name = "exception",
	.next_mask = 1u << TOE_STAGE_NETIF_TX,
	.init = exception_init,
	.fini = exception_fini,
	.process = exception_process,
	.poll = exception_poll,
	.sleep = exception_sleep,
};
