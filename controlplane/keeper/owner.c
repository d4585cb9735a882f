// SPDX-License-Identifier: BSD-3-Clause
/*
 * May an application have a port?  The kernel decides that when a socket is bound, so we look for
 * the socket: CONNECT brings it along, and behind LISTEN there is a listening one of the same user.
 * Without this an application could take the port of a program that knows nothing of us (ssh).
 *
 * In: descriptors and requests of applications; out: yes, or -errno (-EXDEV: the listener, if there
 * is one, stays the kernel's).  One short-lived sock_diag
 * socket per question, no state.  Calls nothing that takes the lock of an application's socket.
 */
#include "keeper.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <libmnl/libmnl.h>

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71 /* Linux 5.14 */
#endif
#define TCP_LISTEN_BIT (1u << 10) /* TCP_LISTEN of the kernel's states */
#define NL_BYTES       8192

/* 0: the kernel does not say. */
static uint64_t netns_of(int fd)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);

	if (getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len) < 0)
		return 0;
	return cookie;
}

uint64_t kp_own_netns(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	uint64_t cookie = fd < 0 ? 0 : netns_of(fd);

	if (fd >= 0)
		close(fd);
	return cookie;
}

static int option(int fd, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, name, &value, &len) < 0 ? -1 : value;
}

bool kp_is_tcp_socket(const struct kp_keeper *kp, int fd)
{
	int domain = option(fd, SO_DOMAIN);

	/* In a namespace of its own anybody may bind any port. */
	return (domain == AF_INET || domain == AF_INET6) && option(fd, SO_TYPE) == SOCK_STREAM &&
	       option(fd, SO_PROTOCOL) == IPPROTO_TCP && netns_of(fd) == kp->netns;
}

/* One way to write an address: IPv4 is never written as IPv6, and what is not used is zero. */
static bool addr_valid(uint16_t family, const uint8_t addr[16])
{
	static const uint8_t zero[16];
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

	if (family == AF_INET)
		return memcmp(addr + 4, zero, 12) == 0;
	return family == AF_INET6 && memcmp(addr, mapped, sizeof(mapped)) != 0;
}

bool kp_listen_valid(const struct toe_ctl_listen *l)
{
	return addr_valid(l->family, l->addr) && l->port != 0 &&
	       l->v6only <= (l->family == AF_INET6 ? 1u : 0u);
}

bool kp_conn_valid(const struct toe_ctl_conn *c)
{
	return addr_valid(c->family, c->remote_addr) && c->remote_port != 0;
}

bool kp_kconn_valid(const struct toe_ctl_kconn *k)
{
	return (k->flags & ~TOE_KCONN_RELOAD) == 0 && k->what <= TOE_KCONN_MQTT_LAST &&
	       k->len <= sizeof(k->data);
}

/* ---- listening ---- */

struct search {
	uint32_t uid;
	uint32_t ipv4; /* of the port */
	const struct toe_ctl_listen *l;
	bool found;
};

/* INET_DIAG_SKV6ONLY of a listening socket. */
static bool v6only(const struct nlmsghdr *nlh)
{
	const struct nlattr *attr;
	bool only = false;

	mnl_attr_for_each(attr, nlh, sizeof(struct inet_diag_msg))
	{
		if (mnl_attr_get_type(attr) == INET_DIAG_SKV6ONLY &&
		    mnl_attr_get_payload_len(attr) == 1)
			only = mnl_attr_get_u8(attr) != 0;
	}
	return only;
}

/* Does the kernel's socket get all that a listener of the engine would get? */
static bool covers(const struct nlmsghdr *nlh, const struct search *s)
{
	static const uint32_t any[4];
	const struct inet_diag_msg *d = mnl_nlmsg_get_payload(nlh);
	const uint32_t mapped[4] = {0, 0, htonl(0xffff), s->ipv4};
	const uint32_t *src = d->id.idiag_src;
	bool wild = memcmp(src, any, sizeof(any)) == 0;

	if (s->l->family == AF_INET) {
		if (d->idiag_family == AF_INET)
			return src[0] == 0 || src[0] == s->ipv4;
		return (wild && !v6only(nlh)) || memcmp(src, mapped, sizeof(mapped)) == 0;
	}
	if (d->idiag_family != AF_INET6)
		return false;
	if (wild)
		return s->l->v6only || memcmp(s->l->addr, any, sizeof(any)) != 0 || !v6only(nlh);
	return memcmp(src, s->l->addr, sizeof(any)) == 0;
}

static int on_socket(const struct nlmsghdr *nlh, void *arg)
{
	const struct inet_diag_msg *d = mnl_nlmsg_get_payload(nlh);
	struct search *s = arg;

	if (nlh->nlmsg_len >= mnl_nlmsg_size(sizeof(*d)) && d->idiag_uid == s->uid &&
	    ntohs(d->id.idiag_sport) == s->l->port && covers(nlh, s))
		s->found = true;
	return MNL_CB_OK;
}

static int search_family(struct mnl_socket *nl, uint8_t family, struct search *s)
{
	char buf[NL_BYTES];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct inet_diag_req_v2 *r = mnl_nlmsg_put_extra_header(nlh, sizeof(*r));
	ssize_t n;
	int rc;

	nlh->nlmsg_type = SOCK_DIAG_BY_FAMILY;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	nlh->nlmsg_seq = family;
	r->sdiag_family = family;
	r->sdiag_protocol = IPPROTO_TCP;
	r->idiag_states = TCP_LISTEN_BIT;
	if (mnl_socket_sendto(nl, nlh, nlh->nlmsg_len) < 0)
		return -errno;
	do {
		n = mnl_socket_recvfrom(nl, buf, sizeof(buf));
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		rc = mnl_cb_run(buf, (size_t)n, family, mnl_socket_get_portid(nl), on_socket, s);
	} while (rc > MNL_CB_STOP);
	return rc < 0 ? -errno : 0;
}

int kp_may_listen(const struct kp_keeper *kp, uint32_t uid, const struct toe_ctl_listen *l)
{
	struct search s = {.uid = uid, .ipv4 = kp->engine.port_ipv4, .l = l};
	struct mnl_socket *nl;
	int rc;

	if (uid == 0)
		return 0;
	nl = mnl_socket_open2(NETLINK_SOCK_DIAG, SOCK_CLOEXEC);
	if (!nl)
		return -errno;
	rc = mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) < 0 ? -errno : 0;
	if (rc == 0)
		rc = search_family(nl, AF_INET, &s);
	if (rc == 0 && !s.found)
		rc = search_family(nl, AF_INET6, &s);
	mnl_socket_close(nl);
	if (rc == -ENOENT) /* a kernel without IPv6 */
		rc = 0;
	return rc < 0 ? rc : s.found ? 0 : -EXDEV;
}
