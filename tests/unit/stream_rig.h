/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A stream module in the simulated pipeline: passes everything on, but takes bytes in random
 * portions and resumes later; knobs make it hold bytes, or abort.  Included by test_stream*.c.
 */
#ifndef STREAM_RIG_H
#define STREAM_RIG_H

#include <errno.h>

#include "../sim/sim_conn.h"

#include "hostmem_priv.h"
#include "stream.h"
#include "stream_priv.h"

/* ---- a DMA engine that takes its time ---- */

/* Under the name of the real one, which cannot be had twice in one process without hardware: copies
 * happen some time after submission, in order, and now and then the queue is full. */
static struct {
	bool full;  /* takes no payload */
	bool stuck; /* ends none */
} slow;

static int slow_open(struct toe_hostmem *h, unsigned *depth)
{
	(void)h;
	(void)depth;
	return 0;
}

static void slow_close(struct toe_hostmem *h)
{
	(void)h;
}

static int slow_copy(struct toe_hostmem *h, const struct toe_hostmem_job *j)
{
	(void)h;
	return sim_rnd(10) == 0 || (slow.full && j->len > 16) ? -EAGAIN : 0;
}

static unsigned slow_completed(struct toe_hostmem *h, unsigned n)
{
	n = sim_rnd(2) && !slow.stuck ? sim_rnd(n + 1) : 0;
	for (uint32_t i = h->head; i != h->head + n; i++) {
		const struct toe_hostmem_job *j = &h->jobs[i & h->mask];

		memcpy(j->dst, j->src, j->len);
	}
	return n;
}

const struct toe_hostmem_ops toe_hostmem_dmadev = {
	.name = "dmadev",
	.async = true,
	.open = slow_open,
	.close = slow_close,
	.copy = slow_copy,
	.completed = slow_completed,
};

/* ---- the module ---- */

struct pass {
	bool rx_waits;
	bool tx_waits;
	bool rx_ended;
	bool tx_ended;
	bool begun;
	struct toe_buf *kept; /* taken and not forwarded */
};

static struct toe_stream *pass_stream;
static struct {
	unsigned open_n;
	unsigned partial; /* percent of calls that take less */
	bool hold;        /* keep what is taken */
	bool stop_rx;     /* take nothing */
	bool stop_tx;
	bool scarce; /* there may be no memory */
	unsigned end_refused;
	bool keep_reset; /* from the application */
	bool abort_at_end;
	unsigned ended_n; /* calls of tx_end */
	size_t turn;      /* bytes since the last turn, either way; the most in one */
	size_t turn_most;
	uint32_t abort_in; /* calls of rx until the connection is aborted; 0: never */
	/* connections in the order in which their applications' first bytes were offered */
	unsigned begun_n;
	uint32_t begun[SIM_SLOTS];
} pass;

static bool pass_wants(const struct toe_config *cfg, uint16_t port)
{
	(void)cfg;
	return port == 80;
}

static int pass_init(struct toe_stream *s, const struct toe_config *cfg)
{
	(void)cfg;
	pass_stream = s;
	memset(&pass, 0, sizeof(pass));
	return 0;
}

static void pass_open(struct toe_stream *s, struct toe_stream_conn *c)
{
	(void)s;
	(void)c;
	pass.open_n++;
}

static void pass_close(struct toe_stream *s, struct toe_stream_conn *c)
{
	struct pass *p = toe_stream_state(c);

	if (p->kept != NULL)
		toe_stream_buf_put(s, p->kept);
	pass.open_n--;
}

static size_t portion(size_t len)
{
	return sim_rnd(100) < pass.partial ? sim_rnd((uint32_t)len) : len;
}

/* Into a buffer of the module's; what does not fit waits. */
static size_t keep(struct toe_stream *s, struct pass *p, const uint8_t *data, size_t len)
{
	size_t room;

	if (p->kept == NULL)
		p->kept = toe_stream_buf_new(s, 5000);
	if (p->kept == NULL) {
		assert_true(pass.scarce);
		return 0;
	}
	room = p->kept->room - p->kept->len;
	len = len < room ? len : room;
	memcpy(p->kept->data + p->kept->len, data, len);
	p->kept->len += (uint32_t)len;
	return len;
}

static size_t pass_rx(struct toe_stream *s, struct toe_stream_conn *c, const uint8_t *data,
		      size_t len)
{
	struct pass *p = toe_stream_state(c);
	size_t n = pass.stop_rx ? 0 : portion(len);

	assert_false(p->rx_ended);
	assert_false(p->rx_waits);
	pass.turn += n;
	if (pass.hold || p->kept != NULL)
		n = keep(s, p, data, n);
	else if (n != 0)
		assert_true(toe_stream_forward(s, c, data, n, true) == 0 || pass.scarce);
	p->rx_waits = n != len;
	if (pass.abort_in != 0 && --pass.abort_in == 0)
		toe_stream_abort(s, c);
	return n;
}

static bool pass_rx_end(struct toe_stream *s, struct toe_stream_conn *c)
{
	struct pass *p = toe_stream_state(c);

	(void)s;
	assert_false(p->rx_ended || p->rx_waits);
	p->rx_waits = p->kept != NULL;
	pass.end_refused += p->rx_waits;
	p->rx_ended = !p->rx_waits;
	(void)c;
	return p->rx_ended;
}

static bool pass_rx_reset(struct toe_stream *s, struct toe_stream_conn *c)
{
	struct pass *p = toe_stream_state(c);

	(void)s;
	assert_false(p->rx_waits);
	return !pass.keep_reset;
}

static size_t pass_tx(struct toe_stream *s, struct toe_stream_conn *c, struct toe_buf *b,
		      uint32_t off, uint32_t len)
{
	struct pass *p = toe_stream_state(c);
	size_t n = pass.stop_tx ? 0 : portion(len);

	assert_false(p->tx_ended);
	if (!p->begun && pass.begun_n < SIM_SLOTS)
		pass.begun[pass.begun_n++] = toe_stream_id(c);
	p->begun = true;
	pass.turn += n;
	if (toe_stream_send(s, c, b, off, (uint32_t)n) != 0) {
		assert_true(pass.scarce);
		n = 0;
	}
	p->tx_waits = n != len;
	return n;
}

static void pass_tx_end(struct toe_stream *s, struct toe_stream_conn *c)
{
	struct pass *p = toe_stream_state(c);

	assert_false(p->tx_ended);
	p->tx_ended = true;
	pass.ended_n++;
	if (pass.abort_at_end)
		toe_stream_abort(s, c);
}

static void pass_turn(struct toe_stream *s, struct toe_stream_conn *c, struct pass *p)
{
	if (p->kept != NULL && !pass.hold) {
		assert_true(toe_stream_forward_buf(s, c, p->kept, 0, p->kept->len, true) == 0 ||
			    pass.scarce);
		toe_stream_buf_put(s, p->kept);
		p->kept = NULL;
	}
	if (p->rx_waits && !pass.stop_rx && !pass.hold) {
		p->rx_waits = false;
		toe_stream_rx_resume(s, c);
	}
	if (p->tx_waits && !pass.stop_tx) {
		p->tx_waits = false;
		toe_stream_tx_resume(s, c);
	}
}

static unsigned pass_poll(struct toe_stream *s, unsigned budget)
{
	unsigned n = 0;

	pass.turn_most = pass.turn > pass.turn_most ? pass.turn : pass.turn_most;
	pass.turn = 0;
	for (uint32_t i = 0; i < sim_conn_n && n < budget; i++) {
		struct toe_stream_conn *c = toe_stream_conn(s, sim_conn[i].id, sim_conn[i].gen);

		if (c == NULL || sim_rnd(3) != 0)
			continue;
		pass_turn(s, c, toe_stream_state(c));
		n++;
	}
	return n;
}

static const struct toe_stream_module pass_module = {
	.name = "pass",
	.conn_bytes = sizeof(struct pass),
	.wants = pass_wants,
	.init = pass_init,
	.open = pass_open,
	.close = pass_close,
	.rx = pass_rx,
	.rx_end = pass_rx_end,
	.rx_reset = pass_rx_reset,
	.tx = pass_tx,
	.tx_end = pass_tx_end,
	.poll = pass_poll,
};
TOE_STREAM_MODULE(pass_module);

static void begin(const struct sim_setup *u, unsigned conns, unsigned partial)
{
	sim_start(u);
	sim.accepted = true;
	pass.partial = partial;
	sim_open_all(conns);
	assert_int_equal(pass.open_n, conns);
}

static bool never(const struct sim_conn *c)
{
	(void)c;
	return false;
}

static void run_for(unsigned ms)
{
	assert_false(sim_run(never, ms));
}

/* Takes all blocks from that size on; until release(). */
static struct toe_buf *hoard_list[1024];
static unsigned hoard_n;

static inline void hoard(size_t least)
{
	struct toe_arena *a = pass_stream->core->arena;

	stream_last_memory(pass_stream->core, true);
	for (size_t size = 4u << 20; size >= least; size /= 2) {
		struct toe_buf *b = toe_buf_new(a, size - sizeof(*b));

		for (; b != NULL; b = toe_buf_new(a, size - sizeof(*b))) {
			assert_true(hoard_n < 1024);
			hoard_list[hoard_n++] = b;
		}
	}
	stream_last_memory(pass_stream->core, false);
}

static inline void release(void)
{
	while (hoard_n > 0)
		toe_buf_put(pass_stream->core->arena, hoard_list[--hoard_n]);
}

static void *items[SIM_ITEMS];
static unsigned item_n;

/* All items with which the stage could tell proto, or ctxq fetch cursors. */
static inline void take_items(void)
{
	struct rte_mempool *mp = sim.engine.work_pool[TOE_WORK_HC];

	while (item_n < SIM_ITEMS && rte_mempool_get(mp, &items[item_n]) == 0)
		item_n++;
}

static inline void give_items(unsigned n)
{
	while (n-- > 0 && item_n > 0)
		rte_mempool_put(sim.engine.work_pool[TOE_WORK_HC], items[--item_n]);
}

static void end(void)
{
	assert_int_equal(pass.open_n, 0);
	assert_int_equal(toe_stream_mem_used(pass_stream), 0);
	sim_stop();
}

#endif
