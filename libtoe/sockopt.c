// SPDX-License-Identifier: BSD-3-Clause
/*
 * setsockopt, and the options that a connection starts with; sockopt_get.c tells them.
 *
 * In: the application's calls; out: line 1 and the lib area of slots, records of listeners.  A
 * listener's options are set on its kernel socket and copied to its record, from which accepted
 * connections inherit.  What we do not know is tried on a fresh kernel socket: if Linux refuses it
 * the errno is Linux's, if Linux would do it and we cannot, the answer is ENOPROTOOPT, counted.
 */
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <string.h>
#include <sys/time.h>

#include "common/raw_sys.h"
#include "libtoe/sockopt.h"

/* ---- kept options ---- */

/* What Linux keeps per socket and shows again: a flag, or a word.  Nothing here looks at them, but
 * for Diffserv and TTL. */
static const struct lt_kept kept_options[] = {
	{SOL_SOCKET, SO_BROADCAST, LT_KEPT_BROADCAST, 0},
	{SOL_SOCKET, SO_DONTROUTE, LT_KEPT_DONTROUTE, 0},
	{SOL_SOCKET, SO_OOBINLINE, LT_KEPT_OOBINLINE, 0},
	{SOL_SOCKET, SO_REUSEADDR, LT_KEPT_REUSEADDR, 0},
	{SOL_SOCKET, SO_REUSEPORT, LT_KEPT_REUSEPORT, 0},
	{IPPROTO_TCP, TCP_SYNCNT, 0, offsetof(struct lt_opts, kept_syncnt)},
	{IPPROTO_TCP, TCP_LINGER2, 0, offsetof(struct lt_opts, kept_linger2)},
	{IPPROTO_TCP, TCP_NOTSENT_LOWAT, 0, offsetof(struct lt_opts, kept_notsent_lowat)},
	{IPPROTO_IP, IP_TTL, 0, offsetof(struct lt_opts, kept_ttl)},
	{IPPROTO_IPV6, IPV6_UNICAST_HOPS, 0, offsetof(struct lt_opts, kept_hops)},
	{IPPROTO_IPV6, IPV6_TCLASS, 0, offsetof(struct lt_opts, kept_tclass)},
	{IPPROTO_IPV6, IPV6_V6ONLY, LT_KEPT_V6ONLY, 0},
	{IPPROTO_IPV6, IPV6_RECVERR, LT_KEPT_RECVERR, 0},
	{IPPROTO_IPV6, IPV6_RECVTCLASS, LT_KEPT_RECVTCLASS, 0},
	{IPPROTO_IPV6, IPV6_RECVHOPLIMIT, LT_KEPT_RECVHOPLIMIT, 0},
	{IPPROTO_IPV6, IPV6_RECVPKTINFO, LT_KEPT_RECVPKTINFO, 0},
	{IPPROTO_IPV6, IPV6_AUTOFLOWLABEL, LT_KEPT_AUTOFLOW, 0},
};
#define KEPT_N (sizeof(kept_options) / sizeof(kept_options[0]))

const struct lt_kept *lt_kept_find(int level, int name)
{
	for (size_t i = 0; i < KEPT_N; i++) {
		if (kept_options[i].level == level && kept_options[i].name == name)
			return &kept_options[i];
	}
	return NULL;
}

static void lt_kept_store(struct lt_opts *o, const struct lt_kept *k, uint32_t v)
{
	if (!k->flag)
		LT_STORE((uint32_t *)((uint8_t *)o + k->word), v);
	else if (v)
		LT_OR(&o->kept_flags, k->flag);
	else
		LT_AND(&o->kept_flags, ~k->flag);
}

int64_t lt_kept_load(const struct lt_opts *o, const struct lt_kept *k)
{
	uint32_t v;

	if (k->flag)
		return !!(LT_PEEK(&o->kept_flags) & k->flag);
	v = LT_PEEK((const uint32_t *)((const uint8_t *)o + k->word));
	return v ? (int64_t)v : -1;
}

/* ---- the kernel's socket ---- */

static uint32_t kernel_u32(int fd, int level, int name)
{
	uint32_t v = 0;
	socklen_t len = sizeof(v);

	LT_REAL(getsockopt)(fd, level, name, &v, &len);
	return v;
}

static uint64_t kernel_timeo(int fd, int name)
{
	struct timeval tv = {0};
	socklen_t len = sizeof(tv);

	LT_REAL(getsockopt)(fd, SOL_SOCKET, name, &tv, &len);
	return (uint64_t)tv.tv_sec * 1000000 + (uint64_t)tv.tv_usec;
}

void lt_opts_of_kernel(int fd, struct lt_opts *o)
{
	struct linger linger = {0};
	socklen_t len = sizeof(linger);
	bool v6;

	memset(o, 0, sizeof(*o));
	LT_REAL(getsockopt)(fd, SOL_SOCKET, SO_LINGER, &linger, &len);
	o->linger_s = linger.l_onoff ? linger.l_linger : -1;
	if (o->linger_s == 0)
		o->ctl |= TOE_CTL_LINGER0;
	if (kernel_u32(fd, IPPROTO_TCP, TCP_NODELAY))
		o->ctl |= TOE_CTL_NODELAY;
	if (kernel_u32(fd, IPPROTO_TCP, TCP_CORK))
		o->ctl |= TOE_CTL_CORK;
	if (kernel_u32(fd, SOL_SOCKET, SO_KEEPALIVE))
		o->ctl |= TOE_CTL_KEEPALIVE;
	o->keep_idle_s = kernel_u32(fd, IPPROTO_TCP, TCP_KEEPIDLE);
	o->keep_intvl_s = kernel_u32(fd, IPPROTO_TCP, TCP_KEEPINTVL);
	o->keep_cnt = kernel_u32(fd, IPPROTO_TCP, TCP_KEEPCNT);
	o->user_timeout_ms = kernel_u32(fd, IPPROTO_TCP, TCP_USER_TIMEOUT);
	o->rcvlowat = kernel_u32(fd, SOL_SOCKET, SO_RCVLOWAT);
	o->rcv_bytes = kernel_u32(fd, SOL_SOCKET, SO_RCVBUF);
	o->snd_bytes = kernel_u32(fd, SOL_SOCKET, SO_SNDBUF);
	o->tos = kernel_u32(fd, IPPROTO_IP, IP_TOS);
	o->priority = kernel_u32(fd, SOL_SOCKET, SO_PRIORITY);
	v6 = kernel_u32(fd, SOL_SOCKET, SO_DOMAIN) == AF_INET6;
	for (size_t i = 0; i < KEPT_N; i++) {
		const struct lt_kept *k = &kept_options[i];

		if (v6 || k->level != IPPROTO_IPV6)
			lt_kept_store(o, k, kernel_u32(fd, k->level, k->name));
	}
	o->rcv_timeo_us = kernel_timeo(fd, SO_RCVTIMEO);
	o->snd_timeo_us = kernel_timeo(fd, SO_SNDTIMEO);
}

/* What the kernel would say about it on a socket of this kind.  Result of the call: 0 or -errno. */
static int scratch_set(const struct lt_sock *c, int level, int name, const void *v, socklen_t len)
{
	int fd = LT_REAL(socket)((int)c->lib->domain, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int rc;

	if (fd < 0)
		return -errno;
	rc = LT_REAL(setsockopt)(fd, level, name, v, len) < 0 ? -errno : 0;
	raw_close(fd);
	return rc;
}

int lt_scratch_get(const struct lt_sock *c, int level, int name, void *v, socklen_t *len)
{
	int fd = LT_REAL(socket)((int)c->lib->domain, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int rc;

	if (fd < 0)
		return -errno;
	rc = LT_REAL(getsockopt)(fd, level, name, v, len) < 0 ? -errno : 0;
	raw_close(fd);
	return rc;
}

/* Buffer sizes have Linux's rules (doubled, bounded by sysctl) but change nothing here. */
static int buffer_size(const struct lt_sock *c, int name, const void *v, socklen_t vlen,
		       uint32_t *told)
{
	int fd = LT_REAL(socket)((int)c->lib->domain, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int rc;

	if (fd < 0)
		return -errno;
	rc = LT_REAL(setsockopt)(fd, SOL_SOCKET, name, v, vlen) < 0 ? -errno : 0;
	if (rc == 0)
		*told = kernel_u32(fd, SOL_SOCKET,
				   name == SO_RCVBUF || name == SO_RCVBUFFORCE ? SO_RCVBUF
									       : SO_SNDBUF);
	raw_close(fd);
	return rc;
}

/* ---- setting ---- */

uint32_t lt_opts_ctl(const struct lt_opts *o, int family)
{
	bool v6 = family == AF_INET6;
	uint32_t tos = v6 ? o->kept_tclass : o->tos, ttl = v6 ? o->kept_hops : o->kept_ttl;

	return (o->ctl & ~TOE_CTL_HEADER) | (tos & 0xff) << TOE_CTL_TOS_SHIFT |
	       (ttl & 0xff) << TOE_CTL_TTL_SHIFT;
}

/* The engine reads line 1 at a doorbell. */
static void give_ctl(struct lt_sock *c, uint32_t mask)
{
	uint32_t want = lt_opts_ctl(&c->lib->opts, c->s->family) & mask;
	uint32_t was = LT_PEEK(&c->s->ctl);

	if ((was & mask) == want)
		return;
	/* at once: half of it would be another TTL */
	while (!__atomic_compare_exchange_n(&c->s->ctl, &was, (was & ~mask) | want, false,
					    __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
		;
	lt_doorbell(c->slot);
}

static void set_ctl(struct lt_sock *c, uint32_t bit, bool on)
{
	if (on)
		LT_OR(&c->lib->opts.ctl, bit);
	else
		LT_AND(&c->lib->opts.ctl, ~bit);
	give_ctl(c, bit);
}

/* Options that came with the connection go to line 1. */
void lt_opts_apply(struct lt_sock *c)
{
	const struct lt_opts *o = &c->lib->opts;

	LT_STORE(&c->s->user_timeout_ms, o->user_timeout_ms);
	LT_STORE(&c->s->keep_idle_s, o->keep_idle_s);
	LT_STORE(&c->s->keep_intvl_s, o->keep_intvl_s);
	LT_STORE(&c->s->keep_cnt, o->keep_cnt);
	give_ctl(c, TOE_CTL_LINGER0 | TOE_CTL_NODELAY | TOE_CTL_CORK | TOE_CTL_KEEPALIVE |
			    TOE_CTL_HEADER);
}

/* As Linux looks at it: an int must be there in any case, then all that the option takes. */
static int get_bytes(const void *value, socklen_t len, void *v, size_t bytes)
{
	if ((int)len < (int)sizeof(int))
		return -EINVAL;
	if (!value)
		return -EFAULT;
	if (len < bytes)
		return -EINVAL;
	memcpy(v, value, bytes);
	return 0;
}

static int get_int(const void *value, socklen_t len, int min, int max, int *v)
{
	int rc = get_bytes(value, len, v, sizeof(*v));

	if (rc < 0)
		return rc;
	return *v < min || *v > max ? -EINVAL : 0;
}

/* Of what the kernel has just taken.  Only IP options may be a byte; what is too short is 0. */
static int taken_int(int level, const void *value, socklen_t len)
{
	int v = 0;

	if (value && len >= sizeof(v))
		memcpy(&v, value, sizeof(v));
	else if (value && len && level == IPPROTO_IP)
		v = *(const uint8_t *)value;
	return v;
}

static int set_linger(struct lt_sock *c, const void *value, socklen_t len)
{
	struct linger l;
	int rc = get_bytes(value, len, &l, sizeof(l));

	if (rc < 0)
		return rc;
	c->lib->opts.linger_s = l.l_onoff ? l.l_linger : -1;
	set_ctl(c, TOE_CTL_LINGER0, l.l_onoff && l.l_linger == 0);
	return 0;
}

static int set_timeo(uint64_t *us, const void *value, socklen_t len)
{
	struct timeval tv;
	int rc = get_bytes(value, len, &tv, sizeof(tv));

	if (rc < 0)
		return rc;
	if (tv.tv_usec < 0 || tv.tv_usec >= 1000000)
		return -EDOM;
	if (tv.tv_sec < 0) {
		*us = 1; /* Linux: no time at all */
		return 0;
	}
	*us = tv.tv_sec > 1000000000 ? 0 : (uint64_t)tv.tv_sec * 1000000 + (uint64_t)tv.tv_usec;
	return 0;
}

static int set_ctl_option(struct lt_sock *c, uint32_t bit, const void *value, socklen_t len)
{
	int v;
	int rc = get_int(value, len, INT_MIN, INT_MAX, &v);

	if (rc == 0)
		set_ctl(c, bit, v != 0);
	return rc;
}

/* Accepted where Linux accepts it, and cannot be told apart by the application. */
static bool harmless(int level, int name)
{
	if (level == SOL_SOCKET)
		return name == SO_BUSY_POLL || name == SO_INCOMING_CPU || name == SO_DEBUG;
	if (level == IPPROTO_TCP)
		return name == TCP_QUICKACK || name == TCP_DEFER_ACCEPT ||
		       name == TCP_WINDOW_CLAMP || name == TCP_THIN_LINEAR_TIMEOUTS;
	if (level == IPPROTO_IP)
		return name == IP_MTU_DISCOVER || name == IP_FREEBIND;
	return level == IPPROTO_IPV6;
}

/* Asks for what is so anyway. */
static bool is_default(const struct lt_sock *c, int level, int name, int want)
{
	int v = 0;
	socklen_t len = sizeof(v);

	return lt_scratch_get(c, level, name, &v, &len) == 0 && len == sizeof(v) && v == want;
}

static int set_other(struct lt_sock *c, int level, int name, const void *value, socklen_t len)
{
	const struct lt_kept *k = lt_kept_find(level, name);
	int rc = scratch_set(c, level, name, value, len);
	int v;

	if (rc < 0 || (!k && harmless(level, name)))
		return rc;
	if (level == IPPROTO_IPV6 && name == IPV6_V6ONLY)
		return -EINVAL; /* once bound */
	v = taken_int(level, value, len);
	if (k) {
		/* -1 is the route's TTL, as is never having been told */
		lt_kept_store(&c->lib->opts, k, v == -1 && !k->flag ? 0 : (uint32_t)v);
		give_ctl(c, TOE_CTL_HEADER);
		return 0;
	}
	if (len >= sizeof(v) && is_default(c, level, name, v))
		return 0;
	lt_count_unsupported(TOE_UNSUP_SOCKOPT, level, name);
	return -ENOPROTOOPT;
}

static int set_socket_level(struct lt_sock *c, int name, const void *value, socklen_t len)
{
	struct lt_opts *o = &c->lib->opts;
	int v;
	int rc;

	switch (name) {
	case SO_KEEPALIVE:
		return set_ctl_option(c, TOE_CTL_KEEPALIVE, value, len);
	case SO_LINGER:
		return set_linger(c, value, len);
	case SO_RCVTIMEO:
		return set_timeo(&o->rcv_timeo_us, value, len);
	case SO_SNDTIMEO:
		return set_timeo(&o->snd_timeo_us, value, len);
	case SO_RCVBUF:
	case SO_RCVBUFFORCE:
		return buffer_size(c, name, value, len, &o->rcv_bytes);
	case SO_SNDBUF:
	case SO_SNDBUFFORCE:
		return buffer_size(c, name, value, len, &o->snd_bytes);
	case SO_RCVLOWAT:
		rc = get_int(value, len, INT_MIN, INT_MAX, &v);
		if (rc == 0)
			LT_STORE(&o->rcvlowat, v < 0 ? INT_MAX : v ? (uint32_t)v : 1);
		return rc;
	case SO_PRIORITY:
		rc = scratch_set(c, SOL_SOCKET, name, value, len);
		if (rc == 0)
			o->priority = (uint32_t)taken_int(SOL_SOCKET, value, len);
		return rc;
	default:
		return set_other(c, SOL_SOCKET, name, value, len);
	}
}

/* A bounded number into a word that the control plane reads by itself. */
static int set_number(struct lt_sock *c, int name, const void *value, socklen_t len)
{
	struct lt_opts *o = &c->lib->opts;
	int max = name == TCP_KEEPCNT ? 127 : name == TCP_USER_TIMEOUT ? INT_MAX : 32767;
	int v;
	int rc = get_int(value, len, name == TCP_USER_TIMEOUT ? 0 : 1, max, &v);

	if (rc < 0)
		return rc;
	if (name == TCP_KEEPIDLE)
		LT_STORE(&c->s->keep_idle_s, o->keep_idle_s = (uint32_t)v);
	else if (name == TCP_KEEPINTVL)
		LT_STORE(&c->s->keep_intvl_s, o->keep_intvl_s = (uint32_t)v);
	else if (name == TCP_KEEPCNT)
		LT_STORE(&c->s->keep_cnt, o->keep_cnt = (uint32_t)v);
	else
		LT_STORE(&c->s->user_timeout_ms, o->user_timeout_ms = (uint32_t)v);
	return 0;
}

static int set_tcp_level(struct lt_sock *c, int name, const void *value, socklen_t len)
{
	int rc;

	switch (name) {
	case TCP_NODELAY:
		return set_ctl_option(c, TOE_CTL_NODELAY, value, len);
	case TCP_CORK:
		return set_ctl_option(c, TOE_CTL_CORK, value, len);
	case TCP_KEEPIDLE:
	case TCP_KEEPINTVL:
	case TCP_KEEPCNT:
	case TCP_USER_TIMEOUT:
		return set_number(c, name, value, len);
	case TCP_MAXSEG: /* agreed upon in the handshake, as far as Linux cares */
		rc = scratch_set(c, IPPROTO_TCP, name, value, len);
		if (rc == 0)
			c->lib->opts.maxseg = (uint32_t)taken_int(IPPROTO_TCP, value, len);
		return rc;
	default:
		return set_other(c, IPPROTO_TCP, name, value, len);
	}
}

static int set_on_conn(struct lt_sock *c, int level, int name, const void *value, socklen_t len)
{
	int rc;

	lt_ready();
	if (level == SOL_SOCKET)
		return set_socket_level(c, name, value, len);
	if (level == IPPROTO_TCP)
		return set_tcp_level(c, name, value, len);
	if (level == IPPROTO_IP && name == IP_TOS) {
		rc = scratch_set(c, level, name, value, len);
		if (rc < 0)
			return rc;
		c->lib->opts.tos = (uint32_t)taken_int(level, value, len);
		give_ctl(c, TOE_CTL_HEADER);
		return 0;
	}
	return set_other(c, level, name, value, len);
}

int lt_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	lt_ent e = lt_fd_get(fd);
	struct lt_sock c;
	int rc;

	if (lt_sock_get(fd, &c)) {
		rc = set_on_conn(&c, level, name, value, len);
		if (rc < 0)
			errno = -rc;
		return rc < 0 ? -1 : 0;
	}
	rc = LT_REAL(setsockopt)(fd, level, name, value, len);
	if (rc == 0 && lt_ent_kind(e) == LT_LISTENER) {
		struct lt_opts o;

		lt_opts_of_kernel(fd, &o);
		lt_llib(lt_listener(lt_ent_index(e)))->opts = o;
	}
	return rc;
}
