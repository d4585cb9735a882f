// SPDX-License-Identifier: BSD-3-Clause
/*
 * IPv4 addresses and routes of an interface by rtnetlink (libmnl), so that they can move from the
 * port to the TAP and back.
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
	char buf[32];
	char *slash;
	char *end;
	unsigned long len = 32;
	struct in_addr in;

	if (strlen(text) >= sizeof(buf))
		return -EINVAL;
	snprintf(buf, sizeof(buf), "%s", text);
	slash = strchr(buf, '/');
	if (slash) {
		*slash++ = '\0';
		len = strtoul(slash, &end, 10);
		if (*slash < '0' || *slash > '9' || *end || len > 32)
			return -EINVAL;
	}
	if (inet_pton(AF_INET, buf, &in) != 1 || in.s_addr == 0)
		return -EINVAL;
	a->ipv4 = in.s_addr;
	a->prefix_len = (uint32_t)len;
	return 0;
}

/* Sends the request and runs cb on what comes back. */
static int talk(struct nlmsghdr *nlh, mnl_cb_t cb, void *arg)
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
	struct kp_addr *a;
	uint32_t n;
	uint32_t max;
};

static int on_addr(const struct nlmsghdr *nlh, void *arg)
{
	struct addr_list *l = arg;
	const struct ifaddrmsg *ifa = mnl_nlmsg_get_payload(nlh);
	const struct nlattr *attr;

	if (nlh->nlmsg_type != RTM_NEWADDR || (int)ifa->ifa_index != l->ifindex ||
	    ifa->ifa_family != AF_INET)
		return MNL_CB_OK;
	mnl_attr_for_each(attr, nlh, sizeof(*ifa))
	{
		if (mnl_attr_get_type(attr) != IFA_LOCAL || l->n >= l->max)
			continue;
		l->a[l->n].ipv4 = mnl_attr_get_u32(attr);
		l->a[l->n++].prefix_len = ifa->ifa_prefixlen;
	}
	return MNL_CB_OK;
}

int kp_addr_list(int ifindex, struct kp_addr *a, uint32_t *n, uint32_t max)
{
	char buf[NL_BYTES];
	struct addr_list l = {.ifindex = ifindex, .a = a, .max = max};
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct ifaddrmsg *ifa;
	int rc;

	nlh->nlmsg_type = RTM_GETADDR;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	ifa = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifa));
	ifa->ifa_family = AF_INET;
	rc = talk(nlh, on_addr, &l);
	*n = l.n;
	return rc;
}

static int change_addr(int ifindex, const struct kp_addr *a, int type, int flags)
{
	char buf[512];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct ifaddrmsg *ifa;
	uint32_t mask = a->prefix_len ? htonl(~0u << (32 - a->prefix_len)) : 0;

	nlh->nlmsg_type = (uint16_t)type;
	nlh->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
	ifa = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifa));
	ifa->ifa_family = AF_INET;
	ifa->ifa_prefixlen = (uint8_t)a->prefix_len;
	ifa->ifa_index = (unsigned)ifindex;
	mnl_attr_put_u32(nlh, IFA_LOCAL, a->ipv4);
	mnl_attr_put_u32(nlh, IFA_ADDRESS, a->ipv4);
	if (type == RTM_NEWADDR && a->prefix_len < 31)
		mnl_attr_put_u32(nlh, IFA_BROADCAST, a->ipv4 | ~mask);
	return talk(nlh, NULL, NULL);
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

/* ---- routes ---- */

struct route_list {
	int ifindex;
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

	if (nlh->nlmsg_type != RTM_NEWROUTE || rt->rtm_family != AF_INET ||
	    rt->rtm_table != RT_TABLE_MAIN || rt->rtm_protocol == RTPROT_KERNEL ||
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

int kp_route_list(int ifindex, struct kp_route *r, uint32_t *n, uint32_t max)
{
	char buf[NL_BYTES];
	struct route_list l = {.ifindex = ifindex, .r = r, .max = max};
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct rtmsg *rt;
	int rc;

	nlh->nlmsg_type = RTM_GETROUTE;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	rt = mnl_nlmsg_put_extra_header(nlh, sizeof(*rt));
	rt->rtm_family = AF_INET;
	rc = talk(nlh, on_route, &l);
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
	rc = talk(nlh, NULL, NULL);
	return rc == -EEXIST ? 0 : rc;
}
