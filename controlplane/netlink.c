/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Routes and neighbours of the kernel (libmnl).  Two sockets: one for questions, answered by the
 * kernel within the system call, one for notifications.  Keeps a copy of the TAP's neighbours
 * and a short-lived cache of routes.  Control-plane thread; heap state only, rebuilt by a dump.
 */
#include "netlink.h"

#include <errno.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <libmnl/libmnl.h>

#include "common/log.h"

#define BUCKETS      1024u
#define NEIGH_MAX    8192u
#define SWEEP        64u /* buckets per attempt to make room */
#define ROUTES       256u
#define ROUTE_MS     1000u
#define ASK_AGAIN_MS 500u
#define REFRESH_MS   10000u
#define READS_MAX    32 /* datagrams per cp_nl_read() */
#define REPLY_MS     200

struct neigh {
	struct neigh *next;
	struct cp_addr ip;
	uint16_t state; /* NUD_* */
	uint8_t mac[6];
	bool has_mac;
	uint64_t asked_ms; /* the kernel was shown that it is in use */
};

struct route {
	struct cp_addr dst;
	int err;
	uint64_t until_ms;
	struct cp_route r;
};

struct cp_nl {
	struct mnl_socket *ask;
	struct mnl_socket *watch;
	uint32_t seq;
	int ifindex;
	cp_nl_changed *changed;
	void *ctx;
	struct neigh *bucket[BUCKETS];
	uint32_t neigh_n;
	uint32_t sweep; /* next bucket of make_room() */
	struct route routes[ROUTES];
	char buf[16384];   /* notifications */
	char reply[16384]; /* questions and answers: asked from within notifications, too */
};

#define NUD_USABLE (NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT | NUD_NOARP)

/* Not keyed: entries are bounded, and the kernel's neighbours are. */
static uint32_t hash_ip(const struct cp_addr *ip)
{
	uint32_t h = ip->family;
	uint32_t word;

	for (unsigned i = 0; i < sizeof(ip->b); i += sizeof(word)) {
		memcpy(&word, ip->b + i, sizeof(word));
		h = (h ^ word) * 2654435761u;
		h ^= h >> 15;
	}
	return h >> 16;
}

static struct neigh **find(struct cp_nl *nl, const struct cp_addr *ip)
{
	struct neigh **p = &nl->bucket[hash_ip(ip) % BUCKETS];

	while (*p && !cp_addr_same(&(*p)->ip, ip))
		p = &(*p)->next;
	return p;
}

/* The table is full: what nobody has answered for goes, some buckets at a time.  A flood from
 * made-up addresses of an IPv6 network must not keep real neighbours out; who still waits for one
 * of these asks again. */
static void make_room(struct cp_nl *nl)
{
	for (unsigned i = 0; i < SWEEP && nl->neigh_n >= NEIGH_MAX; i++) {
		struct neigh **p = &nl->bucket[nl->sweep++ % BUCKETS];

		while (*p) {
			struct neigh *n = *p;

			if (n->has_mac) {
				p = &n->next;
				continue;
			}
			*p = n->next;
			nl->neigh_n--;
			free(n);
		}
	}
}

static struct neigh *find_or_add(struct cp_nl *nl, const struct cp_addr *ip)
{
	struct neigh **p = find(nl, ip);

	if (!*p && nl->neigh_n >= NEIGH_MAX) {
		make_room(nl);
		p = find(nl, ip);
	}
	if (*p || nl->neigh_n >= NEIGH_MAX)
		return *p;
	*p = calloc(1, sizeof(**p));
	if (*p) {
		(*p)->ip = *ip;
		nl->neigh_n++;
	}
	return *p;
}

struct attrs {
	const struct nlattr *a[32];
};

static int collect(const struct nlattr *attr, void *data)
{
	struct attrs *as = data;

	if (mnl_attr_get_type(attr) < 32)
		as->a[mnl_attr_get_type(attr)] = attr;
	return MNL_CB_OK;
}

static bool attr_u32(const struct attrs *as, unsigned type, uint32_t *v)
{
	if (!as->a[type] || mnl_attr_get_payload_len(as->a[type]) != sizeof(*v))
		return false;
	memcpy(v, mnl_attr_get_payload(as->a[type]), sizeof(*v));
	return true;
}

static bool attr_addr(const struct attrs *as, unsigned type, uint32_t family, struct cp_addr *a)
{
	if (!as->a[type] || mnl_attr_get_payload_len(as->a[type]) != toe_ip_addr_bytes(family))
		return false;
	*a = cp_addr_make(family, mnl_attr_get_payload(as->a[type]));
	return true;
}

static void drop_neigh(struct cp_nl *nl, const struct cp_addr *ip)
{
	struct neigh **p = find(nl, ip);
	struct neigh *n = *p;

	if (!n)
		return;
	*p = n->next;
	nl->neigh_n--;
	free(n);
}

static void neigh_msg(struct cp_nl *nl, const struct nlmsghdr *h)
{
	const struct ndmsg *nd = mnl_nlmsg_get_payload(h);
	struct attrs as = {{0}};
	const uint8_t *mac = NULL;
	struct neigh *n;
	struct cp_addr ip;
	bool news;

	if (mnl_nlmsg_get_payload_len(h) < sizeof(*nd) ||
	    (nd->ndm_family != AF_INET && nd->ndm_family != AF_INET6) ||
	    nd->ndm_ifindex != nl->ifindex)
		return;
	mnl_attr_parse(h, sizeof(*nd), collect, &as);
	/* IPv6 keeps its multicast groups in the same table */
	if (!attr_addr(&as, NDA_DST, nd->ndm_family, &ip) || toe_addr_martian(ip.family, ip.b))
		return;
	if (h->nlmsg_type == RTM_DELNEIGH) {
		drop_neigh(nl, &ip);
		return;
	}
	n = find_or_add(nl, &ip);
	if (!n)
		return;
	if (as.a[NDA_LLADDR] && mnl_attr_get_payload_len(as.a[NDA_LLADDR]) == 6)
		mac = mnl_attr_get_payload(as.a[NDA_LLADDR]);
	n->state = nd->ndm_state;
	if ((n->state & NUD_USABLE) && mac) {
		news = !n->has_mac || memcmp(n->mac, mac, 6) != 0;
		memcpy(n->mac, mac, 6);
		n->has_mac = true;
		if (news)
			nl->changed(nl->ctx, &ip, n->mac);
	} else if (n->state & NUD_FAILED) {
		n->has_mac = false;
		nl->changed(nl->ctx, &ip, NULL);
	} else if (!(n->state & NUD_USABLE)) {
		n->has_mac = false;
	}
}

static int on_msg(const struct nlmsghdr *h, void *data)
{
	struct cp_nl *nl = data;

	switch (h->nlmsg_type) {
	case RTM_NEWNEIGH:
	case RTM_DELNEIGH:
		neigh_msg(nl, h);
		break;
	case RTM_NEWROUTE:
	case RTM_DELROUTE:
	case RTM_NEWADDR:
	case RTM_DELADDR:
		memset(nl->routes, 0, sizeof(nl->routes));
		break;
	default:
		break;
	}
	return MNL_CB_OK;
}

/* The whole neighbour table, of both families, over the asking socket. */
static int dump_neigh(struct cp_nl *nl)
{
	struct nlmsghdr *h = mnl_nlmsg_put_header(nl->reply);
	struct ndmsg *nd;
	uint32_t seq = ++nl->seq;
	int more = 1;

	h->nlmsg_type = RTM_GETNEIGH;
	h->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	h->nlmsg_seq = seq;
	nd = mnl_nlmsg_put_extra_header(h, sizeof(*nd));
	nd->ndm_family = AF_UNSPEC;
	nd->ndm_ifindex = nl->ifindex;
	if (mnl_socket_sendto(nl->ask, h, h->nlmsg_len) < 0)
		return -errno;
	while (more > 0) {
		ssize_t n = mnl_socket_recvfrom(nl->ask, nl->reply, sizeof(nl->reply));

		if (n < 0)
			return -errno;
		if (((struct nlmsghdr *)nl->reply)->nlmsg_seq != seq)
			continue; /* late refusal of an earlier NTF_USE */
		more = mnl_cb_run(nl->reply, (size_t)n, seq, 0, on_msg, nl);
	}
	return more < 0 ? -errno : 0;
}

static int join(struct cp_nl *nl, int group)
{
	return mnl_socket_setsockopt(nl->watch, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group));
}

int cp_nl_open(struct cp_nl **out, int ifindex, cp_nl_changed *changed, void *ctx)
{
	struct timeval tv = {.tv_usec = REPLY_MS * 1000};
	struct cp_nl *nl = calloc(1, sizeof(*nl));
	int err;

	if (!nl)
		return -ENOMEM;
	nl->ifindex = ifindex;
	nl->changed = changed;
	nl->ctx = ctx;
	nl->ask = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	nl->watch = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (!nl->ask || !nl->watch || mnl_socket_bind(nl->ask, 0, MNL_SOCKET_AUTOPID) < 0 ||
	    mnl_socket_bind(nl->watch, 0, MNL_SOCKET_AUTOPID) < 0 ||
	    setsockopt(mnl_socket_get_fd(nl->ask), SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) < 0 ||
	    join(nl, RTNLGRP_NEIGH) < 0 || join(nl, RTNLGRP_IPV4_ROUTE) < 0 ||
	    join(nl, RTNLGRP_IPV4_IFADDR) < 0 || join(nl, RTNLGRP_IPV6_ROUTE) < 0 ||
	    join(nl, RTNLGRP_IPV6_IFADDR) < 0) {
		err = -errno;
		cp_nl_close(nl);
		return err;
	}
	*out = nl;
	return 0;
}

int cp_nl_sync(struct cp_nl *nl)
{
	memset(nl->routes, 0, sizeof(nl->routes));
	return dump_neigh(nl);
}

void cp_nl_close(struct cp_nl *nl)
{
	if (!nl)
		return;
	for (uint32_t i = 0; i < BUCKETS; i++)
		while (nl->bucket[i]) {
			struct cp_addr ip = nl->bucket[i]->ip;

			drop_neigh(nl, &ip);
		}
	if (nl->ask)
		mnl_socket_close(nl->ask);
	if (nl->watch)
		mnl_socket_close(nl->watch);
	free(nl);
}

int cp_nl_fd(const struct cp_nl *nl)
{
	return mnl_socket_get_fd(nl->watch);
}

void cp_nl_read(struct cp_nl *nl)
{
	for (int i = 0; i < READS_MAX; i++) {
		ssize_t n = mnl_socket_recvfrom(nl->watch, nl->buf, sizeof(nl->buf));

		if (n < 0 && errno == ENOBUFS) {
			int err = cp_nl_sync(nl); /* notifications were lost */

			if (err)
				LOG_WARN("neighbour table cannot be read: %s", strerror(-err));
			return;
		}
		if (n <= 0)
			return;
		cp_nl_take(nl, nl->buf, (size_t)n);
	}
}

void cp_nl_take(struct cp_nl *nl, const void *buf, size_t len)
{
	mnl_cb_run(buf, len, 0, 0, on_msg, nl);
}

static void parse_route(const struct cp_nl *nl, const struct nlmsghdr *h, struct route *e)
{
	const struct rtmsg *rm = mnl_nlmsg_get_payload(h);
	struct attrs as = {{0}};
	struct attrs metrics = {{0}};
	uint32_t oif = 0;
	uint32_t mtu = 0;
	struct cp_addr gw;

	mnl_attr_parse(h, sizeof(*rm), collect, &as);
	if (rm->rtm_type != RTN_UNICAST && rm->rtm_type != RTN_LOCAL) {
		e->err = -ENETUNREACH;
		return;
	}
	e->err = 0;
	e->r.local = rm->rtm_type == RTN_LOCAL;
	attr_u32(&as, RTA_OIF, &oif);
	e->r.via_port = !e->r.local && oif == (uint32_t)nl->ifindex && !as.a[RTA_VIA];
	e->r.on_link = !attr_addr(&as, RTA_GATEWAY, e->dst.family, &gw);
	e->r.next_hop = e->r.on_link ? e->dst : gw;
	if (as.a[RTA_METRICS]) {
		mnl_attr_parse_nested(as.a[RTA_METRICS], collect, &metrics);
		attr_u32(&metrics, RTAX_MTU, &mtu);
		e->r.mtu = mtu < UINT16_MAX ? (uint16_t)mtu : 0;
	}
}

/* One question, one answer. */
static void ask_route(struct cp_nl *nl, struct route *e)
{
	struct nlmsghdr *h = mnl_nlmsg_put_header(nl->reply);
	struct rtmsg *rm;
	uint32_t seq = ++nl->seq;

	h->nlmsg_type = RTM_GETROUTE;
	h->nlmsg_flags = NLM_F_REQUEST;
	h->nlmsg_seq = seq;
	rm = mnl_nlmsg_put_extra_header(h, sizeof(*rm));
	rm->rtm_family = (uint8_t)e->dst.family;
	rm->rtm_dst_len = (uint8_t)(toe_ip_addr_bytes(e->dst.family) * 8);
	mnl_attr_put(h, RTA_DST, toe_ip_addr_bytes(e->dst.family), e->dst.b);
	/* every link has such a network */
	if (toe_addr_link_local(e->dst.family, e->dst.b))
		mnl_attr_put_u32(h, RTA_OIF, (uint32_t)nl->ifindex);
	e->err = -ENETUNREACH;
	if (mnl_socket_sendto(nl->ask, h, h->nlmsg_len) < 0)
		return;
	for (;;) {
		ssize_t n = mnl_socket_recvfrom(nl->ask, nl->reply, sizeof(nl->reply));
		const struct nlmsghdr *r = (const struct nlmsghdr *)nl->reply;

		if (n < (ssize_t)sizeof(*r))
			return;
		if (r->nlmsg_seq != seq)
			continue; /* late refusal of an earlier NTF_USE */
		if (r->nlmsg_type == RTM_NEWROUTE &&
		    mnl_nlmsg_get_payload_len(r) >= sizeof(struct rtmsg))
			parse_route(nl, r, e);
		return;
	}
}

int cp_nl_route(struct cp_nl *nl, const struct cp_addr *dst, uint64_t now_ms, struct cp_route *r)
{
	struct route *e = &nl->routes[hash_ip(dst) % ROUTES];

	if (!cp_addr_same(&e->dst, dst) || now_ms >= e->until_ms) {
		memset(e, 0, sizeof(*e));
		e->dst = *dst;
		ask_route(nl, e);
		e->until_ms = now_ms + ROUTE_MS;
	}
	*r = e->r;
	return e->err;
}

/* As `ip neigh add … use`: the kernel resolves, or confirms what is stale. */
static void use(struct cp_nl *nl, struct neigh *n, uint64_t now_ms)
{
	struct nlmsghdr *h = mnl_nlmsg_put_header(nl->reply);
	struct ndmsg *nd;

	n->asked_ms = now_ms;
	h->nlmsg_type = RTM_NEWNEIGH;
	h->nlmsg_flags = NLM_F_REQUEST | NLM_F_CREATE;
	h->nlmsg_seq = ++nl->seq;
	nd = mnl_nlmsg_put_extra_header(h, sizeof(*nd));
	nd->ndm_family = (uint8_t)n->ip.family;
	nd->ndm_ifindex = nl->ifindex;
	nd->ndm_flags = NTF_USE;
	mnl_attr_put(h, NDA_DST, toe_ip_addr_bytes(n->ip.family), n->ip.b);
	if (mnl_socket_sendto(nl->ask, h, h->nlmsg_len) < 0)
		LOG_DEBUG("neighbour cannot be resolved: %s", strerror(errno));
}

int cp_nl_neigh(struct cp_nl *nl, const struct cp_addr *ip, uint64_t now_ms, uint8_t mac[6])
{
	struct neigh *n = find_or_add(nl, ip);

	if (!n)
		return -EAGAIN;
	if (n->has_mac) {
		if ((n->state & NUD_STALE) && now_ms - n->asked_ms >= REFRESH_MS)
			use(nl, n, now_ms);
		memcpy(mac, n->mac, 6);
		return 0;
	}
	if (!n->asked_ms || now_ms - n->asked_ms >= ASK_AGAIN_MS)
		use(nl, n, now_ms);
	return -EAGAIN;
}
