// SPDX-License-Identifier: BSD-3-Clause
/*
 * Addresses: what the application writes, what messages and slots carry, and back.
 *
 * The engine knows a connection by its own family; an IPv4 one of an AF_INET6 socket is IPv4 there
 * and IPv4-mapped only here (RFC 4038).  In: sockaddrs, slots; out: the same in the other form. The
 * port's IPv6 addresses are read from the region each time, as they may change.  No state.
 */
#include <netinet/in.h>
#include <string.h>

#include "libtoe/lt.h"

#ifndef SO_BINDTOIFINDEX
#define SO_BINDTOIFINDEX 62 /* Linux 5.1 */
#endif
#define SIN6_SHORT 24u /* without scope id, RFC 2133: Linux takes it */

static const struct toe_region_hdr *header(void)
{
	return (const void *)lt.control;
}

static bool none(const uint8_t *addr)
{
	return IN6_IS_ADDR_UNSPECIFIED((const struct in6_addr *)addr);
}

static bool link_local(const uint8_t *addr)
{
	return IN6_IS_ADDR_LINKLOCAL((const struct in6_addr *)addr);
}

bool lt_have_ipv6(void)
{
	return !none(header()->port_ipv6[0]) || !none(header()->port_ipv6[1]);
}

/* One of ours that is not none. */
static bool own(const uint8_t *addr)
{
	const struct toe_region_hdr *h = header();

	return !none(addr) &&
	       (memcmp(addr, h->port_ipv6[0], 16) == 0 || memcmp(addr, h->port_ipv6[1], 16) == 0);
}

/* A link-local address means nothing without its link. */
static bool on_tap(const uint8_t *addr, uint32_t scope_id)
{
	return !link_local(addr) || (scope_id != 0 && scope_id == header()->tap_ifindex);
}

bool lt_other_device(int fd)
{
	int index = 0;
	socklen_t len = sizeof(index);

	return LT_REAL(getsockopt)(fd, SOL_SOCKET, SO_BINDTOIFINDEX, &index, &len) == 0 &&
	       index != 0 && (uint32_t)index != header()->tap_ifindex;
}

/* ---- listeners ---- */

static bool listen_ipv4(const uint8_t *addr, struct toe_ctl_listen *req)
{
	static const uint8_t any[4];

	req->family = AF_INET;
	memcpy(req->addr, addr, 4);
	return memcmp(addr, any, 4) == 0 || memcmp(addr, &lt.port_ipv4, 4) == 0;
}

bool lt_addr_listen(const struct sockaddr_storage *ss, bool v6only, struct toe_ctl_listen *req)
{
	const struct sockaddr_in *in = (const void *)ss;
	const struct sockaddr_in6 *in6 = (const void *)ss;
	const uint8_t *addr = in6->sin6_addr.s6_addr;

	req->family = ss->ss_family;
	if (ss->ss_family == AF_INET) {
		req->port = ntohs(in->sin_port);
		return listen_ipv4((const uint8_t *)&in->sin_addr, req);
	}
	if (ss->ss_family != AF_INET6)
		return false;
	req->port = ntohs(in6->sin6_port);
	if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr))
		return listen_ipv4(addr + 12, req);
	req->v6only = v6only;
	memcpy(req->addr, addr, 16);
	if (none(addr))
		return !v6only || lt_have_ipv6();
	return own(addr) && on_tap(addr, in6->sin6_scope_id);
}

/* ---- destinations ---- */

static bool to_ipv4(const uint8_t *ip, uint16_t port, struct toe_ctl_conn *conn)
{
	conn->family = AF_INET;
	conn->remote_port = port;
	memcpy(conn->remote_addr, ip, 4);
	/* this host, multicast, broadcast, no port: the kernel knows what to say */
	return ip[0] != 127 && ip[0] != 0 && ip[0] < 224 && port != 0 &&
	       memcmp(ip, &lt.port_ipv4, 4) != 0;
}

static bool to_ipv6(const struct sockaddr_in6 *in6, uint32_t scope_id, struct toe_ctl_conn *conn)
{
	const uint8_t *ip = in6->sin6_addr.s6_addr;

	if (!lt_have_ipv6())
		return false;
	conn->family = AF_INET6;
	conn->remote_port = ntohs(in6->sin6_port);
	memcpy(conn->remote_addr, ip, 16);
	return !none(ip) && !IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr) &&
	       !IN6_IS_ADDR_MULTICAST(&in6->sin6_addr) && conn->remote_port != 0 && !own(ip) &&
	       on_tap(ip, scope_id);
}

bool lt_addr_destination(int domain, const struct sockaddr *addr, socklen_t len,
			 struct toe_ctl_conn *conn)
{
	const struct sockaddr_in *in = (const void *)addr;
	struct sockaddr_in6 in6 = {0};

	if (!addr || len < sizeof(*in) || addr->sa_family != domain)
		return false;
	if (domain == AF_INET)
		return to_ipv4((const uint8_t *)&in->sin_addr, ntohs(in->sin_port), conn);
	if (domain != AF_INET6 || len < SIN6_SHORT)
		return false;
	memcpy(&in6, addr, len < sizeof(in6) ? len : sizeof(in6));
	if (IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr))
		return to_ipv4(&in6.sin6_addr.s6_addr[12], ntohs(in6.sin6_port), conn);
	return to_ipv6(&in6, in6.sin6_scope_id, conn);
}

/* ---- names ---- */

static struct sockaddr_in6 name_ipv6(const struct lt_sock *c, const uint8_t *ip, uint16_t port)
{
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};

	if (c->s->family == AF_INET6) {
		memcpy(&in6.sin6_addr, ip, 16);
		if (link_local(ip))
			in6.sin6_scope_id = header()->tap_ifindex;
		return in6;
	}
	memset(&in6.sin6_addr.s6_addr[10], 0xff, 2);
	memcpy(&in6.sin6_addr.s6_addr[12], ip, 4);
	return in6;
}

int lt_show_addr(const struct lt_sock *c, bool peer, struct sockaddr *addr, socklen_t *len)
{
	const uint8_t *ip = peer ? c->s->remote_addr : c->s->local_addr;
	uint16_t port = peer ? c->s->remote_port : c->s->local_port;
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in6 in6 = name_ipv6(c, ip, port);
	bool v6 = c->lib->domain == AF_INET6;
	socklen_t size = v6 ? sizeof(in6) : sizeof(in);

	if ((int)*len < 0)
		return -EINVAL;
	memcpy(&in.sin_addr, ip, 4);
	memcpy(addr, v6 ? (void *)&in6 : (void *)&in, *len < size ? *len : size);
	*len = size;
	return 0;
}
