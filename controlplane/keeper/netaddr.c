// SPDX-License-Identifier: BSD-3-Clause
/*
 * Addresses and routes of an interface by rtnetlink (libmnl), so that they can move from the port
 * to the TAP and back; which of them the engine serves.
 *
 * In: interface index; out: 0 or -errno.  One short-lived netlink socket per call, no state.
 */
#include "setup.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <libmnl/libmnl.h>

#define NL_BYTES 8192

int kp_addr_parse(const char *text, struct kp_addr *a)
{
	static const uint8_t none[16];
	char buf[64];
	char *slash;
	char *end;
	unsigned long len;

	memset(a, 0, sizeof(*a));
	if (strlen(text) >= sizeof(buf))
		return -EINVAL;
	snprintf(buf, sizeof(buf), "%s", text);
	a->family = strchr(buf, ':') ? AF_INET6 : AF_INET;
	a->valid_s = a->preferred_s = UINT32_MAX;
	a->flags = IFA_F_TENTATIVE;
	len = a->family == AF_INET6 ? 128 : 32;
	a->prefix_len = (uint8_t)len;
	slash = strchr(buf, '/');
	if (slash) {
		*slash++ = '\0';
		len = strtoul(slash, &end, 10);
		if (*slash < '0' || *slash > '9' || *end || len > a->prefix_len)
			return -EINVAL;
		a->prefix_len = (uint8_t)len;
	}
	if (inet_pton(a->family, buf, a->addr) != 1 || memcmp(a->addr, none, sizeof(none)) == 0)
		return -EINVAL;
	return 0;
}

bool kp_addr_same(const struct kp_addr *a, const struct kp_addr *b)
{
	return a->family == b->family && memcmp(a->addr, b->addr, sizeof(a->addr)) == 0;
}

int kp_netlink(struct nlmsghdr *nlh, int (*cb)(const struct nlmsghdr *, void *), void *arg)
{
	struct mnl_socket *nl = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	char buf[NL_BYTES];
	uint32_t seq = (uint32_t)time(NULL);
	ssize_t n = -1;
	int rc = -1;

	if (!nl)
		return -errno;
	nlh->nlmsg_seq = seq;
	if (mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) == 0 &&
	    mnl_socket_sendto(nl, nlh, nlh->nlmsg_len) >= 0) {
		do {
			n = mnl_socket_recvfrom(nl, buf, sizeof(buf));
			if (n <= 0)
				break;
			rc = mnl_cb_run(buf, (size_t)n, seq, mnl_socket_get_portid(nl), cb, arg);
		} while (rc > MNL_CB_STOP);
	}
	if (n <= 0)
		rc = -1;
	rc = rc < 0 ? -errno : 0;
	mnl_socket_close(nl);
	return rc;
}

/* ---- addresses ---- */

struct addr_list {
	int ifindex;
	int family;
	struct kp_addr *a;
	uint32_t n;
	uint32_t max;
};

static size_t addr_bytes(int family)
{
	return family == AF_INET6 ? 16 : 4;
}

/* IFA_LOCAL, where there is one, is ours; IFA_ADDRESS may be the peer's. */
static void take_attr(struct kp_addr *a, bool *local, const struct nlattr *attr)
{
	uint16_t type = mnl_attr_get_type(attr);
	size_t bytes = mnl_attr_get_payload_len(attr);
	const struct ifa_cacheinfo *ci;

	if (type == IFA_FLAGS && bytes == sizeof(a->flags)) {
		a->flags = mnl_attr_get_u32(attr);
	} else if (type == IFA_CACHEINFO && bytes == sizeof(*ci)) {
		ci = mnl_attr_get_payload(attr);
		a->valid_s = ci->ifa_valid;
		a->preferred_s = ci->ifa_prefered;
	} else if ((type == IFA_LOCAL || (type == IFA_ADDRESS && !*local)) &&
		   bytes == addr_bytes(a->family)) {
		memcpy(a->addr, mnl_attr_get_payload(attr), bytes);
		*local |= type == IFA_LOCAL;
	}
}

static int on_addr(const struct nlmsghdr *nlh, void *arg)
{
	struct addr_list *l = arg;
	const struct ifaddrmsg *ifa = mnl_nlmsg_get_payload(nlh);
	struct kp_addr a = {.valid_s = UINT32_MAX, .preferred_s = UINT32_MAX};
	const struct nlattr *attr;
	bool local = false;

	if (nlh->nlmsg_type != RTM_NEWADDR || (int)ifa->ifa_index != l->ifindex ||
	    ifa->ifa_family != l->family)
		return MNL_CB_OK;
	a.family = ifa->ifa_family;
	a.prefix_len = ifa->ifa_prefixlen;
	a.scope = ifa->ifa_scope;
	a.flags = ifa->ifa_flags;
	mnl_attr_for_each(attr, nlh, sizeof(*ifa)) take_attr(&a, &local, attr);
	if (l->family == AF_INET6 && (a.flags & (IFA_F_TEMPORARY | IFA_F_DADFAILED)))
		return MNL_CB_OK;
	if (l->n < l->max)
		l->a[l->n++] = a;
	return MNL_CB_OK;
}

int kp_addr_list(int ifindex, int family, struct kp_addr *a, uint32_t *n, uint32_t max)
{
	char buf[NL_BYTES];
	struct addr_list l = {.ifindex = ifindex, .family = family, .a = a, .n = *n, .max = max};
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct ifaddrmsg *ifa;
	int rc;

	nlh->nlmsg_type = RTM_GETADDR;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	ifa = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifa));
	ifa->ifa_family = (uint8_t)family;
	rc = kp_netlink(nlh, on_addr, &l);
	*n = l.n;
	return rc;
}

static void put_ipv4(struct nlmsghdr *nlh, const struct kp_addr *a)
{
	uint32_t mask = a->prefix_len ? htonl(~0u << (32 - a->prefix_len)) : 0;
	uint32_t ip;

	memcpy(&ip, a->addr, sizeof(ip));
	if (nlh->nlmsg_type == RTM_NEWADDR && a->prefix_len < 31)
		mnl_attr_put_u32(nlh, IFA_BROADCAST, ip | ~mask);
}

static void put_ipv6(struct nlmsghdr *nlh, const struct kp_addr *a)
{
	const uint32_t kept = IFA_F_HOMEADDRESS | IFA_F_MANAGETEMPADDR | IFA_F_NOPREFIXROUTE;
	struct ifa_cacheinfo ci = {.ifa_valid = a->valid_s, .ifa_prefered = a->preferred_s};

	mnl_attr_put_u32(nlh, IFA_FLAGS,
			 (a->flags & kept) | (a->flags & IFA_F_TENTATIVE ? 0 : IFA_F_NODAD));
	mnl_attr_put(nlh, IFA_CACHEINFO, sizeof(ci), &ci);
}

static int change_addr(int ifindex, const struct kp_addr *a, int type, int flags)
{
	char buf[512];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct ifaddrmsg *ifa;

	nlh->nlmsg_type = (uint16_t)type;
	nlh->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
	ifa = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifa));
	ifa->ifa_family = a->family;
	ifa->ifa_prefixlen = a->prefix_len;
	ifa->ifa_index = (unsigned)ifindex;
	mnl_attr_put(nlh, IFA_LOCAL, addr_bytes(a->family), a->addr);
	mnl_attr_put(nlh, IFA_ADDRESS, addr_bytes(a->family), a->addr);
	if (a->family == AF_INET)
		put_ipv4(nlh, a);
	else if (type == RTM_NEWADDR)
		put_ipv6(nlh, a);
	return kp_netlink(nlh, NULL, NULL);
}

int kp_addr_add(int ifindex, const struct kp_addr *a)
{
	int rc = change_addr(ifindex, a, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL);

	return rc == -EEXIST ? 0 : rc;
}

int kp_addr_del(int ifindex, const struct kp_addr *a)
{
	int rc = change_addr(ifindex, a, RTM_DELADDR, 0);

	return rc == -EADDRNOTAVAIL ? 0 : rc;
}

uint64_t kp_boot_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec;
}

static uint32_t remaining(uint32_t lifetime_s, uint64_t age_s)
{
	if (lifetime_s == UINT32_MAX)
		return lifetime_s;
	return lifetime_s > age_s ? lifetime_s - (uint32_t)age_s : 0;
}

int kp_addr_add_again(int ifindex, const struct kp_addr *from, uint64_t from_s)
{
	struct kp_addr a = *from;
	uint64_t age_s = kp_boot_s() - from_s;

	a.valid_s = remaining(a.valid_s, age_s);
	a.preferred_s = remaining(a.preferred_s, age_s);
	return a.valid_s ? kp_addr_add(ifindex, &a) : 0;
}

static bool usable(const struct kp_addr *a, uint8_t scope)
{
	return a->family == AF_INET6 && a->scope == scope &&
	       !(a->flags &
		 (IFA_F_TENTATIVE | IFA_F_DEPRECATED | IFA_F_TEMPORARY | IFA_F_DADFAILED));
}

static void pick_one(const struct kp_addr *a, uint32_t n, uint8_t scope, uint8_t ipv6[16])
{
	uint8_t was[16];

	memcpy(was, ipv6, sizeof(was));
	memset(ipv6, 0, sizeof(was));
	for (uint32_t i = n; i-- > 0;) {
		if (!usable(&a[i], scope))
			continue;
		memcpy(ipv6, a[i].addr, sizeof(was));
		if (memcmp(ipv6, was, sizeof(was)) == 0)
			break;
	}
}

void kp_addr_pick(const struct kp_addr *a, uint32_t n, uint8_t ipv6[2][16])
{
	pick_one(a, n, RT_SCOPE_UNIVERSE, ipv6[0]);
	pick_one(a, n, RT_SCOPE_LINK, ipv6[1]);
}

/* ---- routes ---- */

struct route_list {
	int ifindex;
	int family;
	struct kp_route *r;
	uint32_t n;
	uint32_t max;
};

static int on_route(const struct nlmsghdr *nlh, void *arg)
{
	struct route_list *l = arg;
	const struct rtmsg *rt = mnl_nlmsg_get_payload(nlh);
	size_t bytes = mnl_nlmsg_get_payload_len(nlh);
	const struct nlattr *attr;
	bool ours = false;

	if (nlh->nlmsg_type != RTM_NEWROUTE || rt->rtm_family != l->family ||
	    rt->rtm_table != RT_TABLE_MAIN || rt->rtm_protocol == RTPROT_KERNEL ||
	    rt->rtm_protocol == RTPROT_RA || rt->rtm_protocol == RTPROT_REDIRECT ||
	    (rt->rtm_flags & RTM_F_CLONED))
		return MNL_CB_OK;
	mnl_attr_for_each(attr, nlh, sizeof(*rt))
	{
		if (mnl_attr_get_type(attr) == RTA_OIF)
			ours = (int)mnl_attr_get_u32(attr) == l->ifindex;
	}
	if (ours && l->n < l->max && bytes <= KP_ROUTE_BYTES) {
		l->r[l->n].bytes = (uint32_t)bytes;
		memcpy(l->r[l->n++].data, rt, bytes);
	}
	return MNL_CB_OK;
}

int kp_route_list(int ifindex, int family, struct kp_route *r, uint32_t *n, uint32_t max)
{
	char buf[NL_BYTES];
	struct route_list l = {.ifindex = ifindex, .family = family, .r = r, .n = *n, .max = max};
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct rtmsg *rt;
	int rc;

	nlh->nlmsg_type = RTM_GETROUTE;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	rt = mnl_nlmsg_put_extra_header(nlh, sizeof(*rt));
	rt->rtm_family = (uint8_t)family;
	rc = kp_netlink(nlh, on_route, &l);
	*n = l.n;
	return rc;
}

int kp_route_add(int ifindex, const struct kp_route *r)
{
	char buf[512];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	const struct rtmsg *old = (const struct rtmsg *)(const void *)r->data;
	const void *first = r->data + MNL_ALIGN(sizeof(*old));
	const char *end = (const char *)r->data + r->bytes;
	const struct nlattr *attr;
	struct rtmsg *rt;
	int rc;

	if (r->bytes < sizeof(*old) || r->bytes > KP_ROUTE_BYTES)
		return -EINVAL;
	nlh->nlmsg_type = RTM_NEWROUTE;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
	rt = mnl_nlmsg_put_extra_header(nlh, sizeof(*rt));
	*rt = *old;
	rt->rtm_flags = old->rtm_flags & RTNH_F_ONLINK; /* the others are the kernel's findings */
	for (attr = first; mnl_attr_ok(attr, (int)(end - (const char *)attr));
	     attr = mnl_attr_next(attr)) {
		uint16_t type = mnl_attr_get_type(attr);

		if (type != RTA_OIF && type != RTA_CACHEINFO)
			mnl_attr_put(nlh, type, mnl_attr_get_payload_len(attr),
				     mnl_attr_get_payload(attr));
	}
	mnl_attr_put_u32(nlh, RTA_OIF, (uint32_t)ifindex);
	rc = kp_netlink(nlh, NULL, NULL);
	return rc == -EEXIST ? 0 : rc;
}
