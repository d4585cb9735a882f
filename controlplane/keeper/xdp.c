// SPDX-License-Identifier: BSD-3-Clause
/*
 * The XDP program of a port with port.driver af_xdp, by rtnetlink (libmnl).
 *
 * DPDK attaches it and takes it away when the datapath ends in order; the kernel leaves it where it
 * is when the datapath is killed.  In: interface index; out: 0 or -errno.  No state.
 */
#include "setup.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include <libmnl/libmnl.h>

#define REQUEST_BYTES 256

static struct nlmsghdr *link_request(char *buf, int type, int flags, int ifindex)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct ifinfomsg *ifi;

	nlh->nlmsg_type = (uint16_t)type;
	nlh->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	ifi = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifi));
	ifi->ifi_family = AF_UNSPEC;
	ifi->ifi_index = ifindex;
	return nlh;
}

static int on_link(const struct nlmsghdr *nlh, void *arg)
{
	uint8_t *mode = arg;
	const struct nlattr *attr;
	const struct nlattr *in;

	if (nlh->nlmsg_type != RTM_NEWLINK)
		return MNL_CB_OK;
	mnl_attr_for_each(attr, nlh, sizeof(struct ifinfomsg))
	{
		if (mnl_attr_get_type(attr) != IFLA_XDP)
			continue;
		mnl_attr_for_each_nested(in, attr)
		{
			if (mnl_attr_get_type(in) == IFLA_XDP_ATTACHED &&
			    mnl_attr_get_payload_len(in) == sizeof(*mode))
				*mode = mnl_attr_get_u8(in);
		}
	}
	return MNL_CB_OK;
}

int kp_xdp_mode(int ifindex, uint8_t *mode)
{
	char buf[REQUEST_BYTES];

	*mode = XDP_ATTACHED_NONE;
	return kp_netlink(link_request(buf, RTM_GETLINK, NLM_F_ACK, ifindex), on_link, mode);
}

int kp_xdp_detach(int ifindex)
{
	char buf[REQUEST_BYTES];
	struct nlmsghdr *nlh;
	struct nlattr *nest;
	uint32_t flags = 0; /* where the kernel would attach one by itself */
	uint8_t mode;
	int rc = kp_xdp_mode(ifindex, &mode);

	if (rc < 0 || mode == XDP_ATTACHED_NONE)
		return rc;
	if (mode == XDP_ATTACHED_DRV)
		flags = XDP_FLAGS_DRV_MODE;
	else if (mode == XDP_ATTACHED_SKB)
		flags = XDP_FLAGS_SKB_MODE;
	nlh = link_request(buf, RTM_SETLINK, NLM_F_ACK, ifindex);
	nest = mnl_attr_nest_start(nlh, IFLA_XDP);
	mnl_attr_put_u32(nlh, IFLA_XDP_FD, UINT32_MAX); /* -1: none */
	mnl_attr_put_u32(nlh, IFLA_XDP_FLAGS, flags);
	mnl_attr_nest_end(nlh, nest);
	return kp_netlink(nlh, NULL, NULL);
}
