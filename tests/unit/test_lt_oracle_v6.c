// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/unit/lt_fake.h tests/unit/lt_oracle.c */
/* AF_INET6 sockets, with IPv6 and with IPv4 peers: libtoe against the kernel (lt_oracle.h). */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "lt_fake.h"
#include "lt_oracle.h"

static struct sockaddr_in6 at6(const char *ip, int port)
{
	struct sockaddr_in6 sa = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};

	inet_pton(AF_INET6, ip, &sa.sin6_addr);
	return sa;
}

static struct sockaddr_in6 mapped(int port)
{
	char text[64];

	snprintf(text, sizeof(text), "::ffff:%s", addr);
	return at6(text, port);
}

static int listen6(const char *ip, int v6only, int *port)
{
	struct sockaddr_in6 sa = at6(ip, 0);
	socklen_t len = sizeof(sa);
	int fd = socket(AF_INET6, SOCK_STREAM, 0);

	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof(v6only));
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, 16) < 0)
		abort();
	getsockname(fd, (struct sockaddr *)&sa, &len);
	*port = ntohs(sa.sin6_port);
	return fd;
}

static int connect6(const struct sockaddr_in6 *to)
{
	int fd = socket(AF_INET6, SOCK_STREAM, 0);

	R(connect(fd, (const struct sockaddr *)to, sizeof(*to)));
	return fd;
}

/* What kind of address it is: the two runs have different ones. */
static void show(const char *what, const struct sockaddr_in6 *sa, socklen_t len)
{
	const struct in6_addr *a = &sa->sin6_addr;

	say("%s: len %u family %d %s port %d scope %u flow %u", what, len, sa->sin6_family,
	    sa->sin6_family != AF_INET6  ? "?"
	    : IN6_IS_ADDR_V4MAPPED(a)    ? "mapped"
	    : IN6_IS_ADDR_UNSPECIFIED(a) ? "none"
					 : "ipv6",
	    sa->sin6_port != 0, sa->sin6_scope_id, sa->sin6_flowinfo);
}

static void names(int fd)
{
	struct sockaddr_in6 sa;
	socklen_t len = sizeof(sa);

	memset(&sa, 0x55, sizeof(sa));
	R(getsockname(fd, (struct sockaddr *)&sa, &len));
	show("own", &sa, len);
	memset(&sa, 0x55, sizeof(sa));
	len = sizeof(sa);
	R(getpeername(fd, (struct sockaddr *)&sa, &len));
	show("peer", &sa, len);
	memset(&sa, 0x55, sizeof(sa));
	len = 5;
	R(getpeername(fd, (struct sockaddr *)&sa, &len));
	say("len %u beyond %x", len, ((uint8_t *)&sa)[5]);
	len = (socklen_t)-1;
	R(getpeername(fd, (struct sockaddr *)&sa, &len));
}

static int option(int fd, int level, int name)
{
	int v = -1;
	socklen_t len = sizeof(v);

	return getsockopt(fd, level, name, &v, &len) < 0 ? -errno : v;
}

static void talk(int c, int s)
{
	char buf[8] = "";

	R(write(c, "there", 5));
	R(read_all(s, (uint8_t *)buf, 5));
	say("%s", buf);
	R(write(s, "back", 4));
	R(read_all(c, (uint8_t *)buf, 4));
	close(c);
	R(read(s, buf, 1));
	close(s);
}

static int accept6(int l)
{
	struct sockaddr_in6 sa;
	socklen_t len = sizeof(sa);
	int fd;

	memset(&sa, 0x55, sizeof(sa));
	fd = accept(l, (struct sockaddr *)&sa, &len);
	show("accepted", &sa, len);
	say("domain %d", option(fd, SOL_SOCKET, SO_DOMAIN));
	return fd;
}

static void both(int l, int c)
{
	int s = accept6(l);

	names(c);
	names(s);
	talk(c, s);
	close(l);
}

static void native(void)
{
	int port;
	int l = listen6("::", 0, &port);
	struct sockaddr_in6 to = at6(addr6, port);

	both(l, connect6(&to));
}

static void only_ipv6(void)
{
	struct sockaddr_in to4;
	struct sockaddr_in6 to;
	int zero = 0;
	int port;
	int l = listen6("::", 1, &port);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	to4 = at(addr, port);
	R(connect(fd, (struct sockaddr *)&to4, sizeof(to4)));
	close(fd);
	R(setsockopt(l, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero)));
	say("v6only %d", option(l, IPPROTO_IPV6, IPV6_V6ONLY));
	to = at6(addr6, port);
	both(l, connect6(&to));
}

static void dual_stack(void)
{
	struct sockaddr_in to;
	int port;
	int l = listen6("::", 0, &port);
	int c = socket(AF_INET, SOCK_STREAM, 0);
	int s;

	to = at(addr, port);
	R(connect(c, (struct sockaddr *)&to, sizeof(to)));
	s = accept6(l);
	names(s);
	say("domain %d", option(c, SOL_SOCKET, SO_DOMAIN));
	talk(c, s);
	close(l);
}

static void to_mapped(void)
{
	struct sockaddr_in6 to;
	int one = 1;
	int port;
	int l = listen_any(&port);
	int c;
	int s;

	to = mapped(port);
	c = socket(AF_INET6, SOCK_STREAM, 0);
	R(setsockopt(c, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)));
	R(connect(c, (struct sockaddr *)&to, sizeof(to)));
	close(c);
	c = connect6(&to);
	s = accept(l, NULL, NULL);
	names(c);
	say("domains %d %d", option(c, SOL_SOCKET, SO_DOMAIN), option(s, SOL_SOCKET, SO_DOMAIN));
	talk(c, s);
	close(l);
}

/* A listener on an IPv4-mapped address is one of IPv4. */
static void on_mapped(void)
{
	struct sockaddr_in to4;
	int port;
	int l = listen6("::ffff:0.0.0.0", 0, &port);
	int c = socket(AF_INET, SOCK_STREAM, 0);
	int s;

	to4 = at(addr, port);
	R(connect(c, (struct sockaddr *)&to4, sizeof(to4)));
	s = accept6(l);
	names(s);
	talk(c, s);
	close(l);
}

/* Two listeners, one port: IPv4 clients are the one's, IPv6 clients the other's. */
static void two_listeners(void)
{
	struct sockaddr_in6 any = at6("::", 0);
	struct sockaddr_in to4;
	struct sockaddr_in6 to;
	int one = 1;
	int port;
	int l4 = listen_any(&port);
	int l6 = socket(AF_INET6, SOCK_STREAM, 0);
	int c;

	any.sin6_port = htons((uint16_t)port);
	R(bind(l6, (struct sockaddr *)&any, sizeof(any)));
	R(setsockopt(l6, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)));
	R(bind(l6, (struct sockaddr *)&any, sizeof(any)));
	R(setsockopt(l6, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)));
	R(listen(l6, 4));
	to = at6(addr6, port);
	both(l6, connect6(&to));
	c = socket(AF_INET, SOCK_STREAM, 0);
	to4 = at(addr, port);
	R(connect(c, (struct sockaddr *)&to4, sizeof(to4)));
	talk(c, accept(l4, NULL, NULL));
	close(l4);
}

static void arguments(void)
{
	static const socklen_t lens[] = {0, 4, 16, 23, 24, 27};
	struct sockaddr_in to4;
	struct sockaddr_in6 to;
	int port;
	int l = listen6("::", 0, &port);
	int c;

	to = at6(addr6, port);
	to4 = at(addr, port);
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		c = socket(AF_INET6, SOCK_STREAM, 0);
		say("len %u", lens[i]);
		R(connect(c, (struct sockaddr *)&to, lens[i]));
		close(c);
	}
	c = socket(AF_INET6, SOCK_STREAM, 0);
	R(connect(c, (struct sockaddr *)&to4, sizeof(to4)));
	R(bind(c, (struct sockaddr *)&to4, sizeof(to4)));
	R(connect(c, NULL, 0));
	to.sin6_family = 77;
	R(connect(c, (struct sockaddr *)&to, sizeof(to)));
	to.sin6_family = AF_INET6;
	close(c);
	c = socket(AF_INET, SOCK_STREAM, 0);
	R(connect(c, (struct sockaddr *)&to, sizeof(to)));
	close(c);
	c = socket(AF_INET6, SOCK_STREAM, 0);
	to.sin6_flowinfo = htonl(5);
	R(connect(c, (struct sockaddr *)&to, sizeof(to)));
	names(c);
	R(bind(c, (struct sockaddr *)&to, sizeof(to)));
	R(connect(c, (struct sockaddr *)&to, sizeof(to)));
	R(listen(c, 1));
	close(c);
	close(l);
}

static void refused(void)
{
	struct sockaddr_in6 to;
	int port;
	int l = listen6("::", 0, &port);
	int c;

	close(l);
	to = at6(addr6, port);
	c = connect6(&to);
	say("SO_ERROR %d", so_error(c));
	say("domain %d", option(c, SOL_SOCKET, SO_DOMAIN));
	R(connect(c, (struct sockaddr *)&to, sizeof(to)));
	close(c);
}

static const int inherited[][3] = {
	{IPPROTO_IPV6, IPV6_TCLASS, 0x28},     {IPPROTO_IPV6, IPV6_UNICAST_HOPS, 33},
	{IPPROTO_IPV6, IPV6_RECVERR, 1},       {IPPROTO_IPV6, IPV6_RECVTCLASS, 1},
	{IPPROTO_IPV6, IPV6_AUTOFLOWLABEL, 0}, {IPPROTO_IP, IP_TOS, 0x10},
	{IPPROTO_TCP, TCP_NODELAY, 1},
};
static const int tried[][3] = {
	{IPPROTO_IPV6, IPV6_V6ONLY, 1},
	{IPPROTO_IPV6, IPV6_V6ONLY, 0},
	{IPPROTO_IPV6, IPV6_TCLASS, 0x48},
	{IPPROTO_IPV6, IPV6_TCLASS, -1},
	{IPPROTO_IPV6, IPV6_TCLASS, 256},
	{IPPROTO_IPV6, IPV6_UNICAST_HOPS, 7},
	{IPPROTO_IPV6, IPV6_UNICAST_HOPS, -1},
	{IPPROTO_IPV6, IPV6_UNICAST_HOPS, 256},
	{IPPROTO_IPV6, IPV6_RECVERR, 0},
	{IPPROTO_IPV6, IPV6_RECVERR, 5},
	{IPPROTO_IPV6, IPV6_RECVPKTINFO, 1},
	{IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1},
	{IPPROTO_IPV6, 9999, 1},
	{IPPROTO_TCP, TCP_MAXSEG, 20},
};

static void options_of(int fd)
{
	for (size_t i = 0; i < sizeof(inherited) / sizeof(inherited[0]); i++)
		say("%d %d: %d", inherited[i][0], inherited[i][1],
		    option(fd, inherited[i][0], inherited[i][1]));
	R(setsockopt(fd, IPPROTO_IPV6, IPV6_TCLASS, NULL, sizeof(int)));
	R(setsockopt(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, NULL, sizeof(int)));
	R(setsockopt(fd, IPPROTO_IPV6, IPV6_AUTOFLOWLABEL, NULL, 0));
	for (size_t i = 0; i < sizeof(tried) / sizeof(tried[0]); i++) {
		const int *o = tried[i];

		say("set %d %d to %d", o[0], o[1], o[2]);
		R(setsockopt(fd, o[0], o[1], &o[2], sizeof(o[2])));
		R(setsockopt(fd, o[0], o[1], &o[2], 3));
		if (o[1] != TCP_MAXSEG)
			say("is %d", option(fd, o[0], o[1]));
	}
}

static void options(void)
{
	struct sockaddr_in to4;
	struct sockaddr_in6 to;
	int port;
	int l = listen6("::", 0, &port);
	int c;
	int s;

	for (size_t i = 0; i < sizeof(inherited) / sizeof(inherited[0]); i++)
		R(setsockopt(l, inherited[i][0], inherited[i][1], &inherited[i][2], sizeof(int)));
	to = at6(addr6, port);
	c = connect6(&to);
	options_of(c);
	s = accept(l, NULL, NULL);
	options_of(s);
	talk(c, s);
	c = socket(AF_INET, SOCK_STREAM, 0);
	to4 = at(addr, port);
	R(connect(c, (struct sockaddr *)&to4, sizeof(to4)));
	s = accept(l, NULL, NULL);
	options_of(s);
	options_of(c);
	talk(c, s);
	close(l);
}

/* The child has the listener and a connection of the parent's. */
static void forked(void)
{
	struct sockaddr_in6 to;
	int port;
	int l = listen6("::", 0, &port);
	int status = -1;
	int c;
	int d;
	int s;
	pid_t pid;

	to = at6(addr6, port);
	c = connect6(&to);
	s = accept6(l);
	fflush(out);
	pid = fork_child();
	if (pid == 0) {
		names(s);
		d = accept6(l);
		R(write(d, "child", 5));
		fflush(out);
		_exit(0);
	}
	d = connect6(&to);
	waitpid(pid, &status, 0);
	say("status %d", status);
	names(d);
	R(dup2(s, d) == d ? 0 : -1);
	names(d);
	close(d);
	talk(c, s);
	close(l);
}

int main(int argc, char **argv)
{
	static const struct oracle_case cases[] = {
		CASE(native),    CASE(only_ipv6), CASE(dual_stack),    CASE(to_mapped),
		CASE(on_mapped), CASE(arguments), CASE(two_listeners), CASE(refused),
		CASE(options),   CASE(forked),
	};

	if (access("/proc/net/if_inet6", F_OK) < 0)
		return 77;
	return oracle_main(cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
