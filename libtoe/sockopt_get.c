// SPDX-License-Identifier: BSD-3-Clause
/*
 * getsockopt: what was set (sockopt.c), and what only a connection knows.
 *
 * In: slots and their lib areas; out: the application's buffers.  What we do not know a fresh
 * kernel socket answers.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <string.h>
#include <sys/time.h>

#include "libtoe/sockopt.h"

#define KEEP_IDLE_S  7200u /* Linux's defaults */
#define KEEP_INTVL_S 75u
#define KEEP_CNT     9u
#define MSS_DEFAULT  536u /* before there is a connection */

static int give(void *value, socklen_t *len, const void *from, size_t size)
{
	if ((int)*len < 0)
		return -EINVAL;
	if (*len > size)
		*len = (socklen_t)size;
	if (*len == 0)
		return 0;
	if (!value)
		return -EFAULT;
	memcpy(value, from, *len);
	return 0;
}

static int give_timeo(void *value, socklen_t *len, uint64_t us)
{
	struct timeval tv = {(time_t)(us / 1000000), (suseconds_t)(us % 1000000)};

	return give(value, len, &tv, sizeof(tv));
}

static uint8_t tcp_state(const struct lt_sock *c, const struct lt_state *st)
{
	bool fin_sent = LT_PEEK(&c->s->ctl) & TOE_CTL_SHUT_WR;
	bool fin_got = st->bits & TOE_SLOT_RX_FIN;
	bool done = st->bits & TOE_SLOT_TX_DONE;

	if (st->bits & TOE_SLOT_ERROR)
		return TCP_CLOSE;
	if (!(st->bits & TOE_SLOT_ESTABLISHED))
		return TCP_SYN_SENT;
	if (fin_sent && fin_got)
		return done ? TCP_CLOSE : TCP_LAST_ACK;
	if (fin_sent)
		return done ? TCP_FIN_WAIT2 : TCP_FIN_WAIT1;
	return fin_got ? TCP_CLOSE_WAIT : TCP_ESTABLISHED;
}

static int give_info(const struct lt_sock *c, void *value, socklen_t *len)
{
	struct lt_state st = lt_state(c);
	struct tcp_info i;
	uint32_t mss = c->s->mss ? c->s->mss : MSS_DEFAULT;

	memset(&i, 0, sizeof(i));
	i.tcpi_state = tcp_state(c, &st);
	i.tcpi_rto = 200000;
	i.tcpi_snd_mss = i.tcpi_rcv_mss = i.tcpi_advmss = mss;
	i.tcpi_unacked = (LT_LOAD(&c->s->tx_tail) - st.tx_head + mss - 1) / mss;
	i.tcpi_rtt = LT_PEEK(&c->s->srtt_us);
	i.tcpi_snd_cwnd = LT_PEEK(&c->s->cwnd_bytes) / mss;
	i.tcpi_total_retrans = LT_PEEK(&c->s->rtx_segs);
	i.tcpi_rcv_space = lt.g.rx_buf_bytes;
	i.tcpi_pmtu = mss + (c->s->family == AF_INET6 ? 60 : 40);
	return give(value, len, &i, sizeof(i));
}

/* Options with an int for a value; -1: not one of them. */
static int64_t socket_int(const struct lt_sock *c, int name)
{
	const struct lt_opts *o = &c->lib->opts;
	struct lt_state st;

	switch (name) {
	case SO_TYPE:
		return SOCK_STREAM;
	case SO_DOMAIN:
		return c->lib->domain;
	case SO_PROTOCOL:
		return IPPROTO_TCP;
	case SO_ERROR:
		st = lt_state(c);
		return lt_error_take(c, &st);
	case SO_ACCEPTCONN:
		return 0;
	case SO_KEEPALIVE:
		return !!(LT_PEEK(&c->s->ctl) & TOE_CTL_KEEPALIVE);
	case SO_RCVBUF:
		return o->rcv_bytes ? o->rcv_bytes : lt.g.rx_buf_bytes;
	case SO_SNDBUF:
		return o->snd_bytes ? o->snd_bytes : lt.g.tx_buf_bytes;
	case SO_RCVLOWAT:
		return o->rcvlowat ? o->rcvlowat : 1;
	case SO_PRIORITY:
		return o->priority;
	default:
		return -1;
	}
}

static int64_t tcp_int(const struct lt_sock *c, int name)
{
	const struct lt_opts *o = &c->lib->opts;
	uint32_t ctl = LT_PEEK(&c->s->ctl);

	switch (name) {
	case TCP_NODELAY:
		return !!(ctl & TOE_CTL_NODELAY);
	case TCP_CORK:
		return !!(ctl & TOE_CTL_CORK);
	case TCP_KEEPIDLE:
		return o->keep_idle_s ? o->keep_idle_s : KEEP_IDLE_S;
	case TCP_KEEPINTVL:
		return o->keep_intvl_s ? o->keep_intvl_s : KEEP_INTVL_S;
	case TCP_KEEPCNT:
		return o->keep_cnt ? o->keep_cnt : KEEP_CNT;
	case TCP_USER_TIMEOUT:
		return o->user_timeout_ms;
	case TCP_MAXSEG:
		return c->s->mss ? c->s->mss : MSS_DEFAULT;
	case TCP_QUICKACK:
		return 1;
	default:
		return -1;
	}
}

static int get_on_conn(struct lt_sock *c, int level, int name, void *value, socklen_t *len)
{
	const struct lt_opts *o = &c->lib->opts;
	const struct lt_kept *k = lt_kept_find(level, name);
	int64_t v = -1;
	int as_int;

	if ((int)*len < 0)
		return -EINVAL;
	if (level == SOL_SOCKET && name == SO_LINGER) {
		struct linger l = {o->linger_s >= 0, o->linger_s > 0 ? o->linger_s : 0};

		return give(value, len, &l, sizeof(l));
	}
	if (level == SOL_SOCKET && (name == SO_RCVTIMEO || name == SO_SNDTIMEO))
		return give_timeo(value, len,
				  name == SO_RCVTIMEO ? o->rcv_timeo_us : o->snd_timeo_us);
	if (level == SOL_SOCKET && name == SO_COOKIE)
		return LT_REAL(getsockopt)(c->fd, level, name, value, len) < 0 ? -errno : 0;
	if (level == IPPROTO_TCP && name == TCP_INFO)
		return give_info(c, value, len);
	if (k && (level != IPPROTO_IPV6 || c->lib->domain == AF_INET6))
		v = lt_kept_load(o, k);
	else if (level == SOL_SOCKET)
		v = socket_int(c, name);
	else if (level == IPPROTO_TCP)
		v = tcp_int(c, name);
	else if (level == IPPROTO_IP && name == IP_TOS)
		v = o->tos;
	if (v < 0) /* what a socket that was never touched answers */
		return lt_scratch_get(c, level, name, value, len);
	as_int = (int)v;
	return give(value, len, &as_int, sizeof(as_int));
}

int lt_getsockopt(int fd, int level, int name, void *restrict value, socklen_t *restrict len)
{
	struct lt_sock c;
	int rc;

	if (!lt_sock_get(fd, &c))
		return LT_REAL(getsockopt)(fd, level, name, value, len);
	rc = !len ? -EFAULT : get_on_conn(&c, level, name, value, len);
	if (rc < 0)
		errno = -rc;
	return rc < 0 ? -1 : 0;
}
