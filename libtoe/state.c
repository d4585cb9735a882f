// SPDX-License-Identifier: BSD-3-Clause
/*
 * What an offloaded connection or listener is at this moment, in Linux's terms.
 *
 * In: line 0 of slots and listeners (the engine's), our own line 1 and lib area; out: readable
 * bytes, free space, EPOLL* bits, pending error.  Level state only; hints say when to look.  No
 * state of its own, no locks, any thread.
 *
 * Errors are Linux's: unread data stays readable after a reset, then the error is reported once (by
 * a call or SO_ERROR), then reads are at their end and writes get EPIPE.
 */
#include "libtoe/lt.h"

struct lt_state lt_state(const struct lt_sock *c)
{
	struct lt_state st = {0};

	/* Until the engine has cleared it, line 0 is about the slot's previous connection. */
	if (LT_LOAD(&c->s->gen) == lt_ent_gen(c->ent)) {
		st.bits = LT_LOAD(&c->s->state);
		st.tx_head = LT_LOAD(&c->s->tx_head);
		st.rx_tail = LT_LOAD(&c->s->rx_tail);
		st.error = (int)LT_PEEK(&c->s->error);
	}
	if (lt_gone() && !(st.bits & TOE_SLOT_ERROR)) {
		st.bits |= TOE_SLOT_ERROR;
		st.error = ECONNRESET;
	}
	if (!(st.bits & TOE_SLOT_ERROR))
		return st;
	if (st.error <= 0 || st.error > 4095)
		st.error = ECONNRESET;
	/* a reset in CLOSE-WAIT, as tcp_reset() */
	if (st.error == ECONNRESET && (st.bits & TOE_SLOT_RX_FIN) &&
	    !(LT_PEEK(&c->s->ctl) & TOE_CTL_SHUT_WR))
		st.error = EPIPE;
	return st;
}

uint32_t lt_rx_avail(const struct lt_sock *c, const struct lt_state *st, uint32_t head)
{
	uint32_t end = st->rx_tail;
	uint32_t n;

	if (LT_PEEK(&c->s->ctl) & TOE_CTL_SHUT_RD)
		end = LT_PEEK(&c->lib->rx_limit);
	n = end - head;
	return n <= lt.g.rx_buf_bytes ? n : 0; /* otherwise head is ahead of a tail read earlier */
}

/* Behind tx_end: what a sender has reserved is taken. */
uint32_t lt_tx_space(const struct lt_sock *c, const struct lt_state *st)
{
	uint32_t used = LT_PEEK(&c->lib->tx_end) - st->tx_head;

	return used < lt.g.tx_buf_bytes ? lt.g.tx_buf_bytes - used : 0;
}

static bool error_pending(const struct lt_sock *c, const struct lt_state *st)
{
	return (st->bits & TOE_SLOT_ERROR) && !(LT_PEEK(&c->lib->flags) & LT_F_ERR_TAKEN);
}

int lt_error_take(const struct lt_sock *c, const struct lt_state *st)
{
	if (!error_pending(c, st) || (LT_OR(&c->lib->flags, LT_F_ERR_TAKEN) & LT_F_ERR_TAKEN))
		return 0;
	return st->error;
}

uint32_t lt_conn_events(const struct lt_sock *c)
{
	struct lt_state st = lt_state(c);
	uint32_t ctl = LT_PEEK(&c->s->ctl);
	bool over = st.bits & TOE_SLOT_ERROR;
	bool rd_end = over || (st.bits & TOE_SLOT_RX_FIN) || (ctl & TOE_CTL_SHUT_RD);
	bool wr_end = over || (ctl & TOE_CTL_SHUT_WR);
	uint32_t low = LT_PEEK(&c->lib->opts.rcvlowat);
	uint32_t avail = lt_rx_avail(c, &st, LT_LOAD(&c->s->rx_head));
	uint32_t space;
	uint32_t ev = 0;

	if (!over && !(st.bits & TOE_SLOT_ESTABLISHED))
		return 0; /* SYN-SENT */
	if (rd_end)
		ev |= EPOLLIN | EPOLLRDNORM | EPOLLRDHUP;
	if (rd_end && wr_end)
		ev |= EPOLLHUP;
	if (avail >= (low ? low : 1) || avail >= lt.g.rx_buf_bytes / 2)
		ev |= EPOLLIN | EPOLLRDNORM;
	/* as sk_stream_is_writeable(): a third of the buffer is free */
	space = lt_tx_space(c, &st);
	if (wr_end || space >= (lt.g.tx_buf_bytes - space) / 2)
		ev |= EPOLLOUT | EPOLLWRNORM;
	if (error_pending(c, &st))
		ev |= EPOLLERR;
	return ev;
}

uint32_t lt_conn_sig(const struct lt_sock *c, uint32_t *rx_tail)
{
	struct lt_state st = lt_state(c);

	*rx_tail = st.rx_tail;
	if (st.bits & TOE_SLOT_ERROR)
		st.bits = TOE_SLOT_ERROR; /* what else changes when it is removed is no news */
	st.bits &= ~TOE_SLOT_DEAD;        /* nor after an orderly end */
	return st.bits | (LT_PEEK(&c->s->ctl) & (TOE_CTL_SHUT_WR | TOE_CTL_SHUT_RD)) << 8;
}

uint32_t lt_listener_events(uint32_t index)
{
	const struct toe_listener *l = lt_listener(index);

	if (lt_gone() || !(LT_LOAD(&l->state) & TOE_LISTENER_OPEN))
		return 0;
	return LT_LOAD(&l->prod) != LT_LOAD(&l->cons) ? EPOLLIN | EPOLLRDNORM : 0;
}

bool lt_nonblock(const struct lt_sock *c, int flags)
{
	return (flags & MSG_DONTWAIT) || (LT_PEEK(&c->lib->flags) & LT_F_NONBLOCK);
}
