// SPDX-License-Identifier: BSD-3-Clause
/*
 * The byte streams: copying between application buffers and a slot's two rings.
 *
 * In: iovecs; out: rx_head, tx_tail and tx_short of line 1, doorbells.  Any thread, any process of
 * the application, signal handlers; several at once on one connection.
 *
 * Receiving takes no lock: copy, then compare-and-swap rx_head; who loses copies again.  Bytes
 * before rx_head can be overwritten at any time after it moved, so a copy counts only if the swap
 * succeeds.
 *
 * Sending reserves [tx_end, tx_end + n) under the slot's lock, copies, and publishes tx_tail at
 * unlock.  A signal handler that interrupts the owner reserves behind it and leaves publishing to
 * the owner, so bytes keep their order and nobody waits for itself.
 *
 * The window: the engine is told of rx_head every eighth of the buffer, not at every read.  It then
 * never advertises less than seven eighths of what is free, so the window cannot stay closed.
 */
#include <limits.h>
#include <string.h>

#include "libtoe/lt.h"

/* Where we are in an iovec. */
struct cursor {
	const struct iovec *iov;
	int n;
	size_t at; /* in iov[0] */
};

/* Copies len bytes between ring position pos and the iovec. */
static void copy(struct cursor *u, uint8_t *ring, uint32_t ring_bytes, uint32_t pos, uint32_t len,
		 bool out)
{
	while (len > 0) {
		uint32_t off = pos & (ring_bytes - 1);
		size_t n = u->iov->iov_len - u->at;

		if (n == 0) {
			u->iov++;
			u->n--;
			u->at = 0;
			continue;
		}
		if (n > len)
			n = len;
		if (n > ring_bytes - off)
			n = ring_bytes - off;
		if (out)
			memcpy((uint8_t *)u->iov->iov_base + u->at, ring + off, n);
		else
			memcpy(ring + off, (const uint8_t *)u->iov->iov_base + u->at, n);
		u->at += n;
		pos += (uint32_t)n;
		len -= (uint32_t)n;
	}
}

/* Total length, or -EINVAL. */
static ssize_t total_len(const struct iovec *iov, int n)
{
	size_t sum = 0;

	if (n < 0 || n > IOV_MAX)
		return -EINVAL;
	for (int i = 0; i < n; i++) {
		if (iov[i].iov_len > SSIZE_MAX - sum)
			return -EINVAL;
		sum += iov[i].iov_len;
	}
	return (ssize_t)sum;
}

/* Before giving up or sleeping again.  0: go on waiting; else the call's result. */
static int interrupted(int rc, int64_t deadline)
{
	if (rc < 0 && errno == EINTR)
		return deadline < 0 && lt_restart() ? 0 : -EINTR;
	return rc < 0 ? -errno : 0;
}

/* ---- receive ---- */

static void consumed(struct lt_sock *c, uint32_t head)
{
	uint32_t told = LT_PEEK(&c->lib->rx_told);

	if (head - told < lt.g.rx_buf_bytes / 8)
		return;
	__atomic_store_n(&c->lib->rx_told, head, __ATOMIC_RELAXED);
	lt_doorbell(c->slot);
}

/* Takes what is there, up to len bytes.  0: nothing. */
static uint32_t take(struct lt_sock *c, struct cursor *u, size_t len, uint32_t peek_off, int flags)
{
	for (;;) {
		uint32_t head = LT_LOAD(&c->s->rx_head);
		struct lt_state st = lt_state(c);
		uint32_t n = lt_rx_avail(c, &st, head);
		struct cursor here = *u;

		if (n <= peek_off)
			return 0;
		n -= peek_off;
		if (n > len)
			n = (uint32_t)len;
		if (!(flags & MSG_TRUNC)) /* TCP's MSG_TRUNC: throw away */
			copy(&here, lt_rx(c->slot), lt.g.rx_buf_bytes, head + peek_off, n, true);
		if (flags & MSG_PEEK) {
			if (LT_LOAD(&c->s->rx_head) != head)
				continue;
		} else {
			if (!__atomic_compare_exchange_n(&c->s->rx_head, &head, head + n, false,
							 __ATOMIC_RELEASE, __ATOMIC_RELAXED))
				continue;
			consumed(c, head + n);
		}
		*u = here;
		return n;
	}
}

static bool readable(struct lt_sock *c)
{
	struct lt_state st = lt_state(c);

	return lt_rx_avail(c, &st, LT_LOAD(&c->s->rx_head)) > 0;
}

/* Nothing to read: end, error, or not yet (-EAGAIN). */
static int why_empty(struct lt_sock *c)
{
	struct lt_state st = lt_state(c);
	int error;

	/* the state was read after the ring was found empty: look again */
	if (lt_rx_avail(c, &st, LT_LOAD(&c->s->rx_head)))
		return -EAGAIN;
	if ((st.bits & TOE_SLOT_RX_FIN) || (LT_PEEK(&c->s->ctl) & TOE_CTL_SHUT_RD))
		return 0;
	if (st.bits & TOE_SLOT_ERROR) {
		error = lt_error_take(c, &st);
		if (error == 0 && lt_gone())
			error = ECONNRESET; /* every time: it must not look like an end */
		return -error;
	}
	return -EAGAIN;
}

/* No more than have bytes will ever be there. */
static bool ended(struct lt_sock *c, uint32_t have)
{
	struct lt_state st = lt_state(c);

	return lt_rx_avail(c, &st, LT_LOAD(&c->s->rx_head)) <= have &&
	       ((st.bits & (TOE_SLOT_RX_FIN | TOE_SLOT_ERROR)) ||
		(LT_PEEK(&c->s->ctl) & TOE_CTL_SHUT_RD));
}

/* Sleeps until there may be something.  0, or -errno to return. */
static int wait_readable(struct lt_sock *c, uint32_t want, int64_t deadline)
{
	struct pollfd p[1];
	int rc = 0;

	lt_arm();
	if (lt_sock_same(c)) {
		struct lt_state st = lt_state(c);
		uint32_t avail = lt_rx_avail(c, &st, LT_LOAD(&c->s->rx_head));
		bool end = (st.bits & (TOE_SLOT_RX_FIN | TOE_SLOT_ERROR)) ||
			   (LT_PEEK(&c->s->ctl) & TOE_CTL_SHUT_RD);

		if (!end && avail < want)
			rc = lt_sleep(p, 0, deadline, NULL);
	}
	lt_disarm();
	rc = interrupted(rc, deadline);
	if (rc == 0 && !lt_sock_same(c))
		rc = -EBADF;
	if (rc == 0 && lt_expired(deadline))
		rc = -EAGAIN;
	return rc;
}

/* How much a blocking call waits for beyond got bytes. */
static uint32_t patience(const struct lt_sock *c, size_t len, int flags)
{
	size_t want = LT_PEEK(&c->lib->opts.rcvlowat);

	if (flags & MSG_WAITALL)
		want = len;
	if (want > len)
		want = len;
	if (want > lt.g.rx_buf_bytes / 2)
		want = lt.g.rx_buf_bytes / 2;
	return want ? (uint32_t)want : 1;
}

ssize_t lt_stream_recv(struct lt_sock *c, const struct iovec *iov, int n, int flags)
{
	ssize_t len = total_len(iov, n);
	struct cursor u = {iov, n, 0};
	int64_t deadline = 0;
	bool have_deadline = false;
	size_t got = 0;

	if (len < 0)
		return len;
	if (flags & MSG_OOB)
		return -EINVAL; /* Linux: no urgent data */
	if (flags & MSG_ERRQUEUE)
		return -EAGAIN;
	lt_ready();
	for (;;) {
		size_t more = (size_t)len - got;
		uint32_t peek = flags & MSG_PEEK ? (uint32_t)got : 0;
		int rc;

		got += take(c, &u, more, peek, flags);
		if (got == (size_t)len && len > 0)
			return len;
		if (len == 0 && readable(c))
			return 0; /* Linux waits for data, even for none of it */
		/* low-water mark: what is there is enough unless the caller wants all */
		if (got && !(flags & MSG_WAITALL) &&
		    (lt_nonblock(c, flags) || got >= patience(c, (size_t)len, flags)))
			return (ssize_t)got;
		/* with something in hand an error is left for the next call */
		if (got)
			rc = ended(c, flags & MSG_PEEK ? (uint32_t)got : 0) ? 0 : -EAGAIN;
		else
			rc = why_empty(c);
		if (rc != -EAGAIN || lt_nonblock(c, flags))
			return got ? (ssize_t)got : rc;
		if (!have_deadline) {
			deadline = lt_deadline_us(c->lib->opts.rcv_timeo_us);
			have_deadline = true;
		}
		rc = wait_readable(c, peek + patience(c, (size_t)len - got, flags), deadline);
		if (rc < 0)
			return got ? (ssize_t)got : rc;
	}
}

/* ---- send ---- */

void lt_tx_init(struct lt_slot_lib *lib)
{
	pthread_mutexattr_t a;

	pthread_mutexattr_init(&a);
	pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
	pthread_mutexattr_settype(&a, PTHREAD_MUTEX_ERRORCHECK);
	pthread_mutex_init(&lib->tx_lock, &a);
	pthread_mutexattr_destroy(&a);
}

bool lt_tx_lock(struct lt_sock *c)
{
	int rc = pthread_mutex_lock(&c->lib->tx_lock);

	if (rc == EOWNERDEAD) {
		/* It reserved and did not publish: those bytes never existed. */
		LT_STORE(&c->lib->tx_end, LT_PEEK(&c->s->tx_tail));
		pthread_mutex_consistent(&c->lib->tx_lock);
	}
	return rc != EDEADLK;
}

/* True if the engine has something to learn. */
static bool publish(struct lt_sock *c)
{
	uint32_t was = LT_PEEK(&c->s->tx_tail);
	uint32_t end;

	do { /* a handler may reserve more at any point */
		end = LT_LOAD(&c->lib->tx_end);
		LT_STORE(&c->s->tx_tail, end);
	} while (end != LT_LOAD(&c->lib->tx_end));
	if (!(LT_PEEK(&c->lib->flags) & LT_F_SHUT_WR) || (LT_PEEK(&c->s->ctl) & TOE_CTL_SHUT_WR))
		return end != was;
	LT_OR(&c->s->ctl, TOE_CTL_SHUT_WR);
	return true;
}

static bool unpublished(struct lt_sock *c)
{
	return LT_LOAD(&c->lib->tx_end) != LT_LOAD(&c->s->tx_tail) ||
	       ((LT_LOAD(&c->lib->flags) & LT_F_SHUT_WR) &&
		!(LT_LOAD(&c->s->ctl) & TOE_CTL_SHUT_WR));
}

void lt_tx_unlock(struct lt_sock *c, bool owner)
{
	bool ring = false;

	if (!owner)
		return;
	do {
		ring |= publish(c);
		pthread_mutex_unlock(&c->lib->tx_lock);
		/* What a handler added between the two lines above has no other publisher, unless
		 * another thread has the lock by now. */
	} while (LT_UNLIKELY(unpublished(c)) && pthread_mutex_trylock(&c->lib->tx_lock) == 0);
	if (ring)
		lt_doorbell(c->slot);
}

/* -errno if nothing can be sent any more, -EAGAIN before the connection is there. */
static int tx_ended(struct lt_sock *c, const struct lt_state *st)
{
	int error;

	if (st->bits & TOE_SLOT_ERROR) {
		error = lt_error_take(c, st);
		return -(error ? error : EPIPE);
	}
	if ((LT_PEEK(&c->s->ctl) & TOE_CTL_SHUT_WR) || (LT_PEEK(&c->lib->flags) & LT_F_SHUT_WR))
		return -EPIPE;
	return st->bits & TOE_SLOT_ESTABLISHED ? 0 : -EAGAIN;
}

/* Reserves up to len bytes from *from on; how many. */
static uint32_t reserve(struct lt_sock *c, const struct lt_state *st, size_t len, uint32_t *from)
{
	uint32_t n;

	*from = LT_PEEK(&c->lib->tx_end);
	do {
		n = lt_tx_space(c, st);
		if (n > len)
			n = (uint32_t)len;
	} while (!__atomic_compare_exchange_n(&c->lib->tx_end, from, *from + n, false,
					      __ATOMIC_ACQ_REL, __ATOMIC_RELAXED));
	return n;
}

/* Puts up to len bytes into the ring; how many, 0 = full, or -errno.  *whole: no put() of this send
 * has found too little room yet. */
static ssize_t put(struct lt_sock *c, struct cursor *u, size_t len, bool *whole)
{
	bool owner = lt_tx_lock(c);
	struct lt_state st = lt_state(c);
	ssize_t n = tx_ended(c, &st);
	bool tell = false;

	if (n == 0) {
		uint32_t from;

		n = reserve(c, &st, len, &from);
		if ((size_t)n < len && *whole) {
			*whole = false;
			tell = n == 0; /* nothing to publish: no other doorbell */
			/* before tx_tail moves; the engine reads it after tx_tail (dma stage) */
			__atomic_fetch_add(&c->s->tx_short, 1, __ATOMIC_RELAXED);
		}
		copy(u, lt_tx(c->slot), lt.g.tx_buf_bytes, from, (uint32_t)n, false);
	}
	lt_tx_unlock(c, owner);
	if (tell)
		lt_doorbell(c->slot);
	return n;
}

static int wait_writable(struct lt_sock *c, int64_t deadline)
{
	struct pollfd p[1];
	int rc = 0;

	lt_arm();
	if (lt_sock_same(c) && !(lt_conn_events(c) & EPOLLOUT))
		rc = lt_sleep(p, 0, deadline, NULL);
	lt_disarm();
	rc = interrupted(rc, deadline);
	if (rc == 0 && !lt_sock_same(c))
		rc = -EBADF;
	if (rc == 0 && lt_expired(deadline))
		rc = -EAGAIN;
	return rc;
}

static ssize_t send_all(struct lt_sock *c, struct cursor *u, size_t len, int flags)
{
	int64_t deadline = lt_nonblock(c, flags) ? 0 : lt_deadline_us(c->lib->opts.snd_timeo_us);
	size_t sent = 0;
	bool whole = true;

	for (;;) {
		ssize_t n = put(c, u, len - sent, &whole);
		int rc;

		if (n < 0 && n != -EAGAIN)
			return sent ? (ssize_t)sent : n;
		if (n > 0)
			sent += (size_t)n;
		if (sent == len)
			return (ssize_t)len;
		__atomic_add_fetch(&c->lib->nospace_seq, 1, __ATOMIC_SEQ_CST);
		if (lt_nonblock(c, flags)) {
			struct lt_state st = lt_state(c);

			/* Space that came before the counter rose is no edge for epoll. */
			if (tx_ended(c, &st) == 0 && lt_tx_space(c, &st))
				continue;
			return sent ? (ssize_t)sent : -EAGAIN;
		}
		rc = wait_writable(c, deadline);
		if (rc < 0)
			return sent ? (ssize_t)sent : rc;
	}
}

ssize_t lt_stream_send(struct lt_sock *c, const struct iovec *iov, int n, int flags)
{
	ssize_t len = total_len(iov, n);
	struct cursor u = {iov, n, 0};
	ssize_t rc;

	if (len < 0)
		return len;
	if (flags & MSG_OOB) {
		lt_count_unsupported(TOE_UNSUP_OOB, 0, 0);
		return -EOPNOTSUPP;
	}
	lt_ready();
	if (len == 0) {
		struct lt_state st = lt_state(c);

		rc = tx_ended(c, &st);
		rc = rc == -EAGAIN ? 0 : rc;
	} else {
		rc = send_all(c, &u, (size_t)len, flags);
	}
	if (rc == -EPIPE && !(flags & MSG_NOSIGNAL))
		raise(SIGPIPE);
	return rc;
}
