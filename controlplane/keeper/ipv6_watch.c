// SPDX-License-Identifier: BSD-3-Clause
/*
 * Follows the TAP's IPv6 addresses while the engine runs: duplicate address detection ends, routers
 * advertise prefixes, lifetimes end, an operator types `ip address add`.
 *
 * In: the kernel's notifications (rtnetlink); out: the engine's two addresses in every region
 * header and at the control plane.  State: one netlink socket.  Runs in the loop.
 */
#include "keeper.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include <libmnl/libmnl.h>

#include "common/ctl_sock.h"
#include "common/log.h"

#include "region.h"

#define READS_MAX 16 /* datagrams at a time */

static void log_addresses(const struct kp_keeper *kp)
{
	char global[INET6_ADDRSTRLEN];
	char link[INET6_ADDRSTRLEN];

	inet_ntop(AF_INET6, kp->setup.ipv6[0], global, sizeof(global));
	inet_ntop(AF_INET6, kp->setup.ipv6[1], link, sizeof(link));
	LOG_INFO("IPv6 addresses of %s: %s, %s (:: is none)", kp->setup.tap_if, global, link);
}

/* Header and control plane only know what kp->setup.ipv6 says. */
static void tell(struct kp_keeper *kp)
{
	struct toe_ctl_msg m;

	log_addresses(kp);
	memcpy(kp->engine.port_ipv6, kp->setup.ipv6, sizeof(kp->engine.port_ipv6));
	for (uint32_t i = 0; i < KP_APP_N; i++) {
		if (kp->apps[i] && kp->apps[i]->control_fd >= 0)
			kp_region_set_ipv6(kp->apps[i]->control_fd, &kp->engine);
	}
	if (kp->cp.chan.fd < 0)
		return; /* it gets them with CP_START */
	toe_ctl_init(&m, TOE_CTL_CP_ENGINE);
	m.req = ++kp->last_req;
	m.u.engine = kp->engine;
	kp_chan_send(&kp->cp.chan, &m, NULL, 0);
}

static int on_change(const struct nlmsghdr *nlh, void *arg)
{
	const struct ifaddrmsg *ifa = mnl_nlmsg_get_payload(nlh);
	struct kp_keeper *kp = arg;

	if ((nlh->nlmsg_type == RTM_NEWADDR || nlh->nlmsg_type == RTM_DELADDR) &&
	    (int)ifa->ifa_index == kp->setup.tap_ifindex)
		kp->ipv6_changed = true;
	return MNL_CB_OK;
}

static void readable(uv_poll_t *h, int status, int events)
{
	struct kp_keeper *kp = h->data;
	char buf[8192];

	(void)events;
	if (status < 0)
		return;
	for (int i = 0; i < READS_MAX; i++) {
		ssize_t n = mnl_socket_recvfrom(kp->ipv6_nl, buf, sizeof(buf));

		if (n < 0 && errno == ENOBUFS)
			kp->ipv6_changed = true; /* notifications were lost */
		else if (n <= 0)
			break;
		else
			mnl_cb_run(buf, (size_t)n, 0, 0, on_change, kp);
	}
	if (kp->ipv6_changed && kp->state != KP_STOPPING && kp_ipv6_look(&kp->setup))
		tell(kp);
	kp->ipv6_changed = false;
}

int kp_ipv6_watch(struct kp_keeper *kp)
{
	int rc;

	kp->ipv6_nl = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (!kp->ipv6_nl ||
	    mnl_socket_bind(kp->ipv6_nl, RTMGRP_IPV6_IFADDR, MNL_SOCKET_AUTOPID) < 0)
		return -errno;
	rc = uv_poll_init(&kp->loop, &kp->ipv6_poll, mnl_socket_get_fd(kp->ipv6_nl));
	kp->ipv6_poll.data = kp;
	return rc < 0 ? rc : uv_poll_start(&kp->ipv6_poll, UV_READABLE, readable);
}

void kp_ipv6_started(struct kp_keeper *kp)
{
	static const uint8_t none[2][16];

	memcpy(kp->engine.port_ipv6, kp->setup.ipv6, sizeof(kp->engine.port_ipv6));
	if (memcmp(kp->setup.ipv6, none, sizeof(none)) != 0)
		log_addresses(kp);
}
