// SPDX-License-Identifier: BSD-3-Clause
/*
 * getsockopt and setsockopt: values read back, errors, short lengths, and what an accepted socket
 * inherits from its listener.
 */
#include "tests/oracle/oracle.h"

struct opt {
	int level;
	int name;
	const char *text;
	int value; /* to set; INT_MIN: only read */
	bool show; /* the default is the same everywhere */
};
#define ONLY_READ INT32_MIN
#define O(level, name, value, show)                                                                \
	{                                                                                          \
		level, name, #name, value, show                                                    \
	}

static const struct opt opts[] = {
	O(SOL_SOCKET, SO_TYPE, ONLY_READ, true),
	O(SOL_SOCKET, SO_DOMAIN, ONLY_READ, true),
	O(SOL_SOCKET, SO_PROTOCOL, ONLY_READ, true),
	O(SOL_SOCKET, SO_ACCEPTCONN, ONLY_READ, true),
	O(SOL_SOCKET, SO_ERROR, ONLY_READ, true),
	O(SOL_SOCKET, SO_REUSEADDR, 1, true),
	O(SOL_SOCKET, SO_REUSEPORT, 1, true),
	O(SOL_SOCKET, SO_KEEPALIVE, 1, true),
	O(SOL_SOCKET, SO_KEEPALIVE, 7, true),
	O(SOL_SOCKET, SO_BROADCAST, 1, true),
	O(SOL_SOCKET, SO_OOBINLINE, 1, true),
	O(SOL_SOCKET, SO_DONTROUTE, 1, true),
	O(SOL_SOCKET, SO_PRIORITY, 3, true),
	O(SOL_SOCKET, SO_RCVLOWAT, 5, true),
	O(SOL_SOCKET, SO_RCVLOWAT, 1, true),
	O(SOL_SOCKET, SO_SNDLOWAT, 4, true),
	O(SOL_SOCKET, SO_RCVBUF, 20000, false),
	O(SOL_SOCKET, SO_SNDBUF, 20000, false),
	O(SOL_SOCKET, SO_RCVBUF, 100, false),
	O(SOL_SOCKET, SO_SNDBUF, 100, false),
	O(SOL_SOCKET, SO_TIMESTAMP, 0, true),
	O(SOL_SOCKET, SO_BUSY_POLL, ONLY_READ, true),
	O(SOL_SOCKET, SO_MARK, ONLY_READ, true),
	O(SOL_SOCKET, SO_PASSCRED, ONLY_READ, true),
	O(SOL_SOCKET, SO_PEEK_OFF, ONLY_READ, true),
	O(SOL_SOCKET, 9999, 1, true),
	O(IPPROTO_TCP, TCP_NODELAY, 1, true),
	O(IPPROTO_TCP, TCP_NODELAY, 0, true),
	O(IPPROTO_TCP, TCP_CORK, 1, true),
	O(IPPROTO_TCP, TCP_CORK, 0, true),
	O(IPPROTO_TCP, TCP_KEEPIDLE, 120, true),
	O(IPPROTO_TCP, TCP_KEEPIDLE, 0, true),
	O(IPPROTO_TCP, TCP_KEEPIDLE, 40000, true),
	O(IPPROTO_TCP, TCP_KEEPINTVL, 11, true),
	O(IPPROTO_TCP, TCP_KEEPINTVL, 0, true),
	O(IPPROTO_TCP, TCP_KEEPCNT, 4, true),
	O(IPPROTO_TCP, TCP_KEEPCNT, 128, true),
	O(IPPROTO_TCP, TCP_USER_TIMEOUT, 30000, true),
	O(IPPROTO_TCP, TCP_USER_TIMEOUT, -1, true),
	O(IPPROTO_TCP, TCP_MAXSEG, 1, false),
	O(IPPROTO_TCP, TCP_MAXSEG, 1000, false),
	O(IPPROTO_TCP, TCP_SYNCNT, 3, true),
	O(IPPROTO_TCP, TCP_SYNCNT, 0, true),
	O(IPPROTO_TCP, TCP_LINGER2, 10, false),
	O(IPPROTO_TCP, TCP_DEFER_ACCEPT, ONLY_READ, true),
	O(IPPROTO_TCP, TCP_QUICKACK, 1, false),
	O(IPPROTO_TCP, TCP_WINDOW_CLAMP, ONLY_READ, false),
	O(IPPROTO_TCP, TCP_NOTSENT_LOWAT, 4096, false),
	O(IPPROTO_TCP, TCP_FASTOPEN, ONLY_READ, true),
	O(IPPROTO_TCP, 9999, 1, true),
	O(IPPROTO_IP, IP_TOS, 0x10, true),
	O(IPPROTO_IP, IP_TTL, 33, true),
	O(IPPROTO_IP, IP_TTL, 0, true),
	O(IPPROTO_IP, IP_FREEBIND, ONLY_READ, true),
	O(IPPROTO_IP, 9999, 1, true),
	O(IPPROTO_IPV6, IPV6_V6ONLY, 1, true),
	O(IPPROTO_IPV6, IPV6_V6ONLY, ONLY_READ, true),
	O(9999, 1, 1, true),
};

static void get(int fd, const struct opt *o, bool show)
{
	int v = -1;
	socklen_t len = sizeof(v);
	int rc = getsockopt(fd, o->level, o->name, &v, &len);

	if (rc < 0)
		SAY("get %s: %s\n", o->text, strerrorname_np(errno));
	else if (show)
		SAY("get %s: %d len %u\n", o->text, v, len);
	else
		SAY("get %s: len %u\n", o->text, len);
}

static void all(int fd)
{
	for (size_t i = 0; i < sizeof(opts) / sizeof(opts[0]); i++) {
		const struct opt *o = &opts[i];
		int rc;

		get(fd, o, o->show);
		if (o->value == ONLY_READ)
			continue;
		SAY("set %s to %d: ", o->text, o->value);
		rc = setsockopt(fd, o->level, o->name, &o->value, sizeof(o->value));
		ora_show("", rc, errno);
		get(fd, o, o->name != TCP_MAXSEG && o->name != TCP_QUICKACK);
	}
}

static void lengths(int c)
{
	char v[64];
	socklen_t len = 1;
	int one = 1;
	struct timeval tv = {3, 500000}, bad = {0, 2000000};
	struct linger lin = {1, 9};

	SAY("-- lengths\n");
	T(setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, 1));
	T(setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, 0));
	T(setsockopt(c, SOL_SOCKET, SO_KEEPALIVE, &one, 3));
	T(setsockopt(c, SOL_SOCKET, SO_LINGER, &lin, 4));
	T(setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &tv, 4));
	T(setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &bad, sizeof(bad)));
	memset(v, 0x55, sizeof(v));
	T(getsockopt(c, SOL_SOCKET, SO_TYPE, v, &len));
	SAY("len %u: %x %x\n", len, v[0], v[1]);
	len = sizeof(v);
	T(getsockopt(c, IPPROTO_TCP, TCP_NODELAY, v, &len));
	SAY("len %u\n", len);
	len = (socklen_t)-1;
	T(getsockopt(c, SOL_SOCKET, SO_TYPE, v, &len));
	len = 0;
	T(getsockopt(c, SOL_SOCKET, SO_TYPE, v, &len));
	SAY("len %u\n", len);
	len = 1;
	T(getsockopt(c, IPPROTO_TCP, TCP_INFO, v, &len));
	SAY("len %u state %d\n", len, v[0]);
	len = sizeof(v);
	T(getsockopt(c, IPPROTO_TCP, TCP_INFO, v, &len));
	SAY("len %u\n", len);
	len = sizeof(tv);
	T(setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	memset(&tv, 0, sizeof(tv));
	T(getsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &tv, &len));
	SAY("len %u: %ld %ld\n", len, (long)tv.tv_sec, (long)tv.tv_usec);
	T(getsockopt(c, SOL_SOCKET, SO_SNDTIMEO, &tv, &len));
	SAY("len %u: %ld %ld\n", len, (long)tv.tv_sec, (long)tv.tv_usec);
	T(setsockopt(c, IPPROTO_TCP, TCP_CONGESTION, "nonesuch", 8));
	T(setsockopt(c, IPPROTO_TCP, TCP_ULP, "tls", 4) < 0);
}

static const int inherited[][3] = {
	{SOL_SOCKET, SO_KEEPALIVE, 1},   {IPPROTO_TCP, TCP_NODELAY, 1},
	{IPPROTO_TCP, TCP_KEEPIDLE, 77}, {IPPROTO_TCP, TCP_KEEPINTVL, 7},
	{IPPROTO_TCP, TCP_KEEPCNT, 3},   {IPPROTO_TCP, TCP_USER_TIMEOUT, 12345},
	{IPPROTO_TCP, TCP_CORK, 1},      {SOL_SOCKET, SO_RCVBUF, 30000},
	{SOL_SOCKET, SO_SNDBUF, 30000},  {SOL_SOCKET, SO_PRIORITY, 2},
	{SOL_SOCKET, SO_RCVLOWAT, 2},    {IPPROTO_TCP, TCP_DEFER_ACCEPT, 0},
	{SOL_SOCKET, SO_REUSEADDR, 1},   {IPPROTO_IP, IP_TOS, 0x08},
	{IPPROTO_IP, IP_TTL, 55},
};

static void inherit(int l)
{
	struct timeval tv = {2, 0};
	struct linger lin = {1, 4};
	socklen_t len = sizeof(tv);
	int c;

	SAY("-- inheritance\n");
	for (size_t i = 0; i < sizeof(inherited) / sizeof(inherited[0]); i++) {
		const int *o = inherited[i];

		SAY("set %d %d: ", o[0], o[1]);
		T(setsockopt(l, o[0], o[1], &o[2], sizeof(int)));
	}
	T(setsockopt(l, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	T(setsockopt(l, SOL_SOCKET, SO_LINGER, &lin, sizeof(lin)));
	c = ora_accept(l, 'B');
	for (size_t i = 0; i < sizeof(inherited) / sizeof(inherited[0]); i++) {
		struct opt o = {inherited[i][0], inherited[i][1], "inherited", 0, true};

		SAY("%d %d ", o.level, o.name);
		get(c, &o, true);
	}
	T(getsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &tv, &len));
	SAY("timeo %ld\n", (long)tv.tv_sec);
	len = sizeof(lin);
	T(getsockopt(c, SOL_SOCKET, SO_LINGER, &lin, &len));
	SAY("linger %d %d\n", lin.l_onoff, lin.l_linger);
	T(close(c));
}

int main(int argc, char **argv)
{
	int l, c;

	ora_start(argc, argv);
	l = ora_listen();
	c = ora_accept(l, 'A');
	SAY("-- accepted\n");
	all(c);
	lengths(c);
	T(close(c));
	inherit(l);
	SAY("-- listener\n");
	all(l);
	return 0;
}
