// SPDX-License-Identifier: BSD-3-Clause
/*
 * AF_INET6 sockets: one listener for both families, IPv6 only, IPv4-mapped addresses in both roles,
 * link-local peers and scopes, conflicts of bind, lengths, options, fork.
 *
 * Environment: MY4, PEER4 (the IPv4 addresses), MY_IF, PEER_IF (interfaces of the link), PEER_LL
 * (the peer's link-local address).
 */
#include <ifaddrs.h>
#include <net/if.h>

#include "tests/oracle/oracle.h"

static const char *env(const char *name)
{
	const char *v = getenv(name);

	if (!v) {
		SAY("broken: %s is not set\n", name);
		exit(2);
	}
	return v;
}

static struct sockaddr_in6 at6(const char *host, uint16_t port)
{
	struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons(port)};

	if (inet_pton(AF_INET6, host, &a.sin6_addr) != 1)
		MUST(-1);
	return a;
}

static struct sockaddr_in6 mapped(const char *host4, uint16_t port)
{
	char text[64];

	snprintf(text, sizeof(text), "::ffff:%s", host4);
	return at6(text, port);
}

static struct sockaddr_in6 own_link_local(void)
{
	struct sockaddr_in6 found = {.sin6_family = AF_INET6};
	struct ifaddrs *list = NULL;

	MUST(getifaddrs(&list));
	for (struct ifaddrs *i = list; i; i = i->ifa_next) {
		const struct sockaddr_in6 *a = (const void *)i->ifa_addr;

		if (a && a->sin6_family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&a->sin6_addr) &&
		    strcmp(i->ifa_name, env("MY_IF")) == 0)
			found = *a;
	}
	freeifaddrs(list);
	found.sin6_scope_id = if_nametoindex(env("MY_IF"));
	return found;
}

/* What it is, without saying who. */
static void show(const char *what, const struct sockaddr_in6 *a, socklen_t len)
{
	const struct in6_addr *ip = &a->sin6_addr;

	SAY("%s: len %u family %d %s port %d scope %s flow %u\n", what, len, a->sin6_family,
	    IN6_IS_ADDR_V4MAPPED(ip)      ? "mapped"
	    : IN6_IS_ADDR_LINKLOCAL(ip)   ? "link-local"
	    : IN6_IS_ADDR_UNSPECIFIED(ip) ? "none"
					  : "global",
	    a->sin6_port != 0,
	    a->sin6_scope_id == 0                              ? "0"
	    : a->sin6_scope_id == if_nametoindex(env("MY_IF")) ? "link"
							       : "other",
	    a->sin6_flowinfo);
}

static void names(int fd)
{
	struct sockaddr_in6 a;
	socklen_t len = sizeof(a);

	memset(&a, 0x55, sizeof(a));
	T(getsockname(fd, (struct sockaddr *)&a, &len));
	show("own", &a, len);
	len = sizeof(a);
	memset(&a, 0x55, sizeof(a));
	if (T(getpeername(fd, (struct sockaddr *)&a, &len)) == 0)
		show("peer", &a, len);
	memset(&a, 0x55, sizeof(a));
	len = 9;
	T(getsockname(fd, (struct sockaddr *)&a, &len));
	SAY("len %u, beyond: %x\n", len, ((uint8_t *)&a)[9]);
}

static int option(int fd, int name)
{
	int v = -1;
	socklen_t len = sizeof(v);

	return getsockopt(fd, IPPROTO_IPV6, name, &v, &len) < 0 ? -errno : v;
}

static int new_socket(int v6only)
{
	int one = 1;
	int s = MUST(socket(AF_INET6, SOCK_STREAM, 0));

	MUST(setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)));
	MUST(setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof(v6only)));
	return s;
}

static int listen_at(struct sockaddr_in6 a, int v6only)
{
	int s = new_socket(v6only);

	a.sin6_port = htons(ora.port);
	T(bind(s, (struct sockaddr *)&a, sizeof(a)));
	T(listen(s, 8));
	return s;
}

static void talk(int s)
{
	char buf[16] = "";

	T(write(s, "hello", 5));
	PEER("recv A 5");
	PEER("text A world");
	T(recv(s, buf, 5, MSG_WAITALL));
	SAY("%s\n", buf);
	PEER("fin A");
	T(read(s, buf, 1));
	names(s);
	T(close(s));
	PEER("end A");
}

/* The peer connects to host; what accept() and the names say. */
static void served(int l, const char *host)
{
	struct sockaddr_in6 a;
	socklen_t len = sizeof(a);
	int s;

	SAY("peer: %s\n", peer_quiet("connect A %s %u", host, ora.port));
	memset(&a, 0x55, sizeof(a));
	s = TFD(accept(l, (struct sockaddr *)&a, &len));
	show("accepted", &a, len);
	SAY("v6only %d\n", option(s, IPV6_V6ONLY));
	talk(s);
}

static void listeners(void)
{
	int one = 1;
	int l = listen_at(at6("::", 0), 0);

	SAY("-- both families\n");
	T(setsockopt(l, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)));
	served(l, ora.my);
	served(l, env("MY4"));
	T(close(l));

	SAY("-- IPv6 only\n");
	l = listen_at(at6("::", 0), 1);
	SAY("peer: %s\n", peer_quiet("connect B %s %u", env("MY4"), ora.port));
	served(l, ora.my);
	T(close(l));

	SAY("-- one address\n");
	l = listen_at(at6(ora.my, 0), 0);
	SAY("peer: %s\n", peer_quiet("connect B %s %u", env("MY4"), ora.port));
	served(l, ora.my);
	T(close(l));

	SAY("-- an IPv4-mapped address\n");
	l = listen_at(mapped(env("MY4"), 0), 0);
	SAY("peer: %s\n", peer_quiet("connect B %s %u", ora.my, ora.port));
	served(l, env("MY4"));
	T(close(l));

	SAY("-- nobody\n");
	SAY("peer: %s\n", peer_quiet("connect B %s %u", ora.my, ora.port));
}

static void two(void)
{
	struct sockaddr_in a4 = {.sin_family = AF_INET, .sin_port = htons(ora.port)};
	struct sockaddr_in6 a6 = at6("::", ora.port);
	int one = 1;
	int l6 = listen_at(at6("::", 0), 1);
	int l4 = MUST(socket(AF_INET, SOCK_STREAM, 0));
	int other = new_socket(0);
	int s;

	SAY("-- a listener for each family\n");
	T(bind(other, (struct sockaddr *)&a6, sizeof(a6)));
	T(setsockopt(l4, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)));
	T(bind(l4, (struct sockaddr *)&a4, sizeof(a4)));
	T(listen(l4, 4));
	served(l6, ora.my);
	SAY("peer: %s\n", peer_quiet("connect A %s %u", env("MY4"), ora.port));
	s = TFD(accept(l4, NULL, NULL));
	T(close(s));
	PEER("end A");
	T(close(l4));
	T(close(l6));
	T(close(other));
	l6 = listen_at(at6("::", 0), 0);
	l4 = MUST(socket(AF_INET, SOCK_STREAM, 0));
	T(bind(l4, (struct sockaddr *)&a4, sizeof(a4)));
	T(close(l4));
	T(close(l6));
}

static int connected(struct sockaddr_in6 to)
{
	int s = MUST(socket(AF_INET6, SOCK_STREAM, 0));

	if (T(connect(s, (struct sockaddr *)&to, sizeof(to))) == 0)
		PEER("accept L A");
	return s;
}

static void connects(void)
{
	uint16_t port = (uint16_t)(ora.port + 500);
	struct sockaddr_in6 to = at6(ora.peer, port);
	struct sockaddr_in6 link = at6(env("PEER_LL"), port);
	int one = 1;
	int s;

	SAY("-- connect\n");
	SAY("listen: %s\n", peer_quiet("listen L :: %u", port));
	talk(connected(to));
	talk(connected(mapped(env("PEER4"), port)));
	s = MUST(socket(AF_INET6, SOCK_STREAM, 0));
	to = mapped(env("PEER4"), port);
	T(setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)));
	T(connect(s, (struct sockaddr *)&to, sizeof(to)));
	T(close(s));
	SAY("-- link-local, without and with its link\n");
	T(close(connected(link)));
	link.sin6_scope_id = if_nametoindex(env("MY_IF"));
	talk(connected(link));
	SAY("-- bound before\n");
	s = new_socket(0);
	to = at6(ora.my, 0);
	T(bind(s, (struct sockaddr *)&to, sizeof(to)));
	to = at6(ora.peer, port);
	T(connect(s, (struct sockaddr *)&to, sizeof(to)));
	PEER("accept L A");
	talk(s);
	SAY("-- unreachable, refused\n");
	s = MUST(socket(AF_INET6, SOCK_STREAM, 0));
	to = at6("2001:db8::1", port);
	T(connect(s, (struct sockaddr *)&to, sizeof(to)));
	T(close(s));
	PEER("close L");
	s = connected(at6(ora.peer, port));
	SHOW_SO_ERROR(s);
	T(close(s));
}

static void link_local(void)
{
	struct sockaddr_in6 a = own_link_local();
	char host[128], text[INET6_ADDRSTRLEN];
	int s = new_socket(0);
	int l;

	SAY("-- link-local listener\n");
	inet_ntop(AF_INET6, &a.sin6_addr, text, sizeof(text));
	snprintf(host, sizeof(host), "%s%%%s", text, env("PEER_IF"));
	a.sin6_scope_id = 0;
	a.sin6_port = htons(ora.port);
	T(bind(s, (struct sockaddr *)&a, sizeof(a)));
	T(close(s));
	l = listen_at(own_link_local(), 0);
	names(l);
	served(l, host);
	T(close(l));
	SAY("-- link-local peer of a wildcard\n");
	l = listen_at(at6("::", 0), 0);
	served(l, host);
	T(close(l));
}

static void arguments(void)
{
	struct sockaddr_in6 a = at6(ora.peer, ora.port);
	struct sockaddr_in a4 = {.sin_family = AF_INET, .sin_port = htons(ora.port)};
	int s = new_socket(0);

	SAY("-- arguments\n");
	inet_pton(AF_INET, env("PEER4"), &a4.sin_addr);
	T(connect(s, (struct sockaddr *)&a, 16));
	T(connect(s, (struct sockaddr *)&a, 23));
	T(connect(s, (struct sockaddr *)&a4, sizeof(a4)));
	T(bind(s, (struct sockaddr *)&a, 16));
	a.sin6_family = 99;
	T(connect(s, (struct sockaddr *)&a, sizeof(a)));
	T(close(s));
	s = MUST(socket(AF_INET, SOCK_STREAM, 0));
	a.sin6_family = AF_INET6;
	T(connect(s, (struct sockaddr *)&a, sizeof(a)));
	T(close(s));
}

static const int opts[][2] = {{IPV6_TCLASS, 0x28},
			      {IPV6_TCLASS, -1},
			      {IPV6_TCLASS, 300},
			      {IPV6_UNICAST_HOPS, 9},
			      {IPV6_UNICAST_HOPS, -1},
			      {IPV6_UNICAST_HOPS, 256},
			      {IPV6_RECVERR, 1},
			      {IPV6_RECVTCLASS, 1},
			      {IPV6_V6ONLY, 1},
			      {IPV6_V6ONLY, 0},
			      {IPV6_RECVPKTINFO, 1},
			      {IPV6_RECVHOPLIMIT, 1},
			      {9999, 1}};

static void all_options(int fd)
{
	for (size_t i = 0; i < sizeof(opts) / sizeof(opts[0]); i++) {
		SAY("%d: %d, to %d: ", opts[i][0], option(fd, opts[i][0]), opts[i][1]);
		T(setsockopt(fd, IPPROTO_IPV6, opts[i][0], &opts[i][1], sizeof(int)));
		SAY("%d\n", option(fd, opts[i][0]));
	}
}

static void options(void)
{
	int l = listen_at(at6("::", 0), 0);
	int c;

	SAY("-- options\n");
	c = ora_accept(l, 'A');
	all_options(c);
	T(close(c));
	all_options(l);
	c = ora_accept(l, 'A');
	SAY("-- inherited\n");
	all_options(c);
	T(close(c));
	T(close(l));
}

static void forked(void)
{
	int l = listen_at(at6("::", 0), 0);
	int s = ora_accept(l, 'A');
	int copy = MUST(dup(s));
	pid_t pid;

	SAY("-- fork\n");
	pid = ora_fork();
	if (pid == 0) {
		names(copy);
		T(write(copy, "child", 5));
		exit(0);
	}
	ora_join(pid);
	T(close(copy));
	PEER("recv A 5");
	talk(s);
	T(close(l));
}

int main(int argc, char **argv)
{
	ora_start(argc, argv);
	signal(SIGPIPE, SIG_IGN);
	listeners();
	two();
	connects();
	link_local();
	arguments();
	options();
	forked();
	return 0;
}
