// SPDX-License-Identifier: BSD-3-Clause
/*
 * getsockname, getpeername, accept with and without address, accept4 flags, and calls on sockets in
 * the wrong state.
 */
#include <sys/stat.h>

#include "tests/oracle/oracle.h"

static void show(const char *what, const union ora_sa *a, socklen_t len)
{
	char text[INET6_ADDRSTRLEN] = "";

	inet_ntop(a->in.sin_family,
		  a->in.sin_family == AF_INET6 ? (const void *)&a->in6.sin6_addr
					       : (const void *)&a->in.sin_addr,
		  text, sizeof(text));
	SAY("%s: len %u family %d %s%s port %s\n", what, len, a->in.sin_family,
	    strcmp(text, ora.my) == 0 ? "mine" : "",
	    strcmp(ora.my, ora.peer) && strcmp(text, ora.peer) == 0 ? "peer" : "",
	    ntohs(a->in.sin_port) == ora.port ? "mine"
	    : a->in.sin_port                  ? "other"
					      : "none");
}

static void names(int fd, const char *what)
{
	union ora_sa a = {0};
	socklen_t len = sizeof(a);

	SAY("-- %s\n", what);
	if (T(getsockname(fd, (struct sockaddr *)&a, &len)) == 0)
		show("own", &a, len);
	memset(&a, 0, sizeof(a));
	len = sizeof(a);
	if (T(getpeername(fd, (struct sockaddr *)&a, &len)) == 0)
		SAY("peer family %d port %d\n", a.in.sin_family, a.in.sin_port != 0);
	memset(&a, 0x55, sizeof(a));
	len = 4;
	T(getsockname(fd, (struct sockaddr *)&a, &len));
	SAY("len %u, beyond 4: %x\n", len, a.in.sin_addr.s_addr);
	len = (socklen_t)-1;
	T(getsockname(fd, (struct sockaddr *)&a, &len));
	len = 0;
	T(getpeername(fd, (struct sockaddr *)&a, &len));
	SAY("len %u\n", len);
}

/* Closes c. */
static void wrong_state(int l, int c)
{
	union ora_sa a = ora_addr(ora.my, 0);
	socklen_t len = sizeof(a);
	char x;

	SAY("-- wrong state\n");
	T(accept(c, NULL, NULL));
	T(listen(c, 5));
	T(connect(c, (struct sockaddr *)&a, sizeof(a)));
	T(bind(c, (struct sockaddr *)&a, sizeof(a)));
	T(connect(l, (struct sockaddr *)&a, sizeof(a)));
	T(listen(l, 5));
	T(bind(l, (struct sockaddr *)&a, sizeof(a)));
	T(lseek(c, 0, SEEK_SET));
	T(pread(c, &x, 1, 0));
	T(pwrite(c, &x, 1, 0));
	T(fsync(c));
	T(ftruncate(c, 0));
	T(isatty(c));
	T(close(c));
	T(close(c));
	T(getsockname(c, (struct sockaddr *)&a, &len));
	T(accept(c, NULL, NULL));
}

static bool same(const union ora_sa *a, const union ora_sa *b)
{
	if (a->in.sin_family != b->in.sin_family || a->in.sin_port != b->in.sin_port)
		return false;
	if (a->in.sin_family == AF_INET)
		return a->in.sin_addr.s_addr == b->in.sin_addr.s_addr;
	return IN6_ARE_ADDR_EQUAL(&a->in6.sin6_addr, &b->in6.sin6_addr);
}

static void accepts(int l)
{
	union ora_sa a = {0}, b = {0};
	struct stat st;
	socklen_t len = sizeof(a);
	int c;

	SAY("-- accept\n");
	peer_quiet("connect A %s %u", ora.my, ora.port);
	c = TFD(accept(l, (struct sockaddr *)&a, &len));
	SAY("len %u family %d\n", len, a.in.sin_family);
	len = sizeof(b);
	T(getpeername(c, (struct sockaddr *)&b, &len));
	SAY("same as getpeername: %d\n", same(&a, &b));
	T(fstat(c, &st));
	SAY("S_ISSOCK %d\n", S_ISSOCK(st.st_mode) != 0);
	names(c, "accepted");
	wrong_state(l, c);
	peer_quiet("connect B %s %u", ora.my, ora.port);
	len = 3;
	c = TFD(accept(l, (struct sockaddr *)&a, &len));
	T(close(c));
	SAY("len %u\n", len);
	peer_quiet("connect B %s %u", ora.my, ora.port);
	len = 77;
	c = TFD(accept4(l, NULL, &len, SOCK_CLOEXEC));
	T(close(c));
	SAY("len %u\n", len);
	T(accept4(l, NULL, NULL, 1));
}

static void two_listeners(void)
{
	union ora_sa a = ora_addr(ora.my, ora.port);
	int s = MUST(socket(ora.family, SOCK_STREAM, 0)), one = 1;

	SAY("-- a second listener\n");
	T(bind(s, (struct sockaddr *)&a, sizeof(a)));
	T(setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)));
	T(bind(s, (struct sockaddr *)&a, sizeof(a)));
	T(accept(s, NULL, NULL));
	names(s, "unbound");
	T(close(s));
}

int main(int argc, char **argv)
{
	int l;

	ora_start(argc, argv);
	l = ora_listen();
	names(l, "listener");
	accepts(l);
	two_listeners();
	T(close(l));
	l = ora_listen();
	accepts(l);
	return 0;
}
