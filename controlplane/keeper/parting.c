// SPDX-License-Identifier: BSD-3-Clause
/*
 * The last the peers hear: that the connections the engine had are gone.
 *
 * A peer that only receives would wait for ever.  How far the datapath had come nobody knows any
 * more, so what is sent is old (a keepalive probe): the peer's ACK says it, and whoever has the
 * address now, the kernel or the next engine, answers that with a RST the peer believes.
 *
 * Input: what the control plane has left in its state memfd, once both programs have ended and the
 * addresses are back on the port.  No state.  Best effort: an address that nobody has now, or a
 * full queue, is skipped.
 */
#include "keeper.h"

#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/inet_cksum.h"
#include "common/log.h"
#include "controlplane/state.h"

/* One per family, -1: none. */
struct raw {
	int fd4;
	int fd6;
	unsigned ifindex; /* of the port: link-local addresses */
};

static int open_raw(int family)
{
	int fd = socket(family, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP);
	int at = offsetof(struct tcphdr, th_sum);
	int least = 0;

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &least, sizeof(least)); /* nothing is read */
	if (family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_CHECKSUM, &at, sizeof(at));
	return fd;
}

/* The kernel computes that of TCP over IPv6 only. */
static uint16_t checksum4(const struct cp_conn *c, const struct tcphdr *th)
{
	uint8_t addrs[8];

	memcpy(addrs, c->in.local_addr, 4);
	memcpy(addrs + 4, c->in.remote_addr, 4);
	return htons(toe_inet_cksum(AF_INET, addrs, IPPROTO_TCP, (const uint8_t *)th, sizeof(*th)));
}

/* Source address and what it leaves by. */
static size_t put_source(struct cmsghdr *cm, const struct raw *raw, const struct cp_conn *c)
{
	if (c->in.family == AF_INET) {
		struct in_pktinfo info = {0};

		memcpy(&info.ipi_spec_dst, c->in.local_addr, 4);
		cm->cmsg_level = IPPROTO_IP;
		cm->cmsg_type = IP_PKTINFO;
		cm->cmsg_len = CMSG_LEN(sizeof(info));
		memcpy(CMSG_DATA(cm), &info, sizeof(info));
		return CMSG_SPACE(sizeof(info));
	}
	struct in6_pktinfo info6 = {0};

	memcpy(&info6.ipi6_addr, c->in.local_addr, 16);
	if (IN6_IS_ADDR_LINKLOCAL(&info6.ipi6_addr))
		info6.ipi6_ifindex = raw->ifindex;
	cm->cmsg_level = IPPROTO_IPV6;
	cm->cmsg_type = IPV6_PKTINFO;
	cm->cmsg_len = CMSG_LEN(sizeof(info6));
	memcpy(CMSG_DATA(cm), &info6, sizeof(info6));
	return CMSG_SPACE(sizeof(info6));
}

static bool send_old(const struct raw *raw, const struct cp_conn *c)
{
	_Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(struct in6_pktinfo))] = {0};
	struct sockaddr_in6 to6 = {.sin6_family = AF_INET6};
	struct sockaddr_in to4 = {.sin_family = AF_INET};
	struct tcphdr th = {.th_sport = htons(c->in.local_port),
			    .th_dport = htons(c->in.remote_port),
			    .th_seq = htonl(c->in.iss),
			    .th_ack = htonl(c->in.irs + 1),
			    .th_off = sizeof(th) / 4,
			    .th_flags = TH_ACK};
	struct iovec iov = {.iov_base = &th, .iov_len = sizeof(th)};
	bool six = c->in.family == AF_INET6;
	struct msghdr m = {.msg_name = six ? (void *)&to6 : (void *)&to4,
			   .msg_namelen = six ? sizeof(to6) : sizeof(to4),
			   .msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = control};

	memcpy(&to4.sin_addr, c->in.remote_addr, 4);
	memcpy(&to6.sin6_addr, c->in.remote_addr, 16);
	if (IN6_IS_ADDR_LINKLOCAL(&to6.sin6_addr))
		to6.sin6_scope_id = raw->ifindex;
	if (!six)
		th.th_sum = checksum4(c, &th);
	m.msg_controllen = put_source((struct cmsghdr *)(void *)control, raw, c);
	return sendmsg(six ? raw->fd6 : raw->fd4, &m, MSG_DONTWAIT) > 0;
}

/* NULL: the control plane has not come so far as to make it. */
static const struct cp_state_hdr *map_state(int fd, size_t *size)
{
	const struct cp_state_hdr *h;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || (size_t)st.st_size < sizeof(*h))
		return NULL;
	*size = (size_t)st.st_size;
	h = mmap(NULL, *size, PROT_READ, MAP_SHARED, fd, 0);
	if (h == MAP_FAILED)
		return NULL;
	if (h->magic == CP_STATE_MAGIC && h->version == CP_STATE_VERSION && h->off_conns <= *size &&
	    (*size - h->off_conns) / sizeof(struct cp_conn) >= h->conn_n)
		return h;
	munmap((void *)(uintptr_t)h, *size);
	return NULL;
}

void kp_parting(int state_fd, const char *port_if)
{
	struct raw raw = {.fd4 = open_raw(AF_INET),
			  .fd6 = open_raw(AF_INET6),
			  .ifindex = if_nametoindex(port_if)};
	uint32_t told = 0, n = 0;
	size_t size;
	const struct cp_state_hdr *h = map_state(state_fd, &size);
	const struct cp_conn *c;

	for (uint32_t i = 0; h != NULL && i < h->conn_n; i++) {
		c = (const struct cp_conn *)(const void *)((const uint8_t *)h + h->off_conns) + i;
		if (c->state != CP_ESTABLISHED && c->state != CP_CLOSING &&
		    c->state != CP_INSTALLING)
			continue;
		n++;
		told += send_old(&raw, c);
	}
	if (n > 0)
		LOG_INFO("%u connections are gone, %u peers told", n, told);
	if (h != NULL)
		munmap((void *)(uintptr_t)h, size);
	if (raw.fd4 >= 0)
		close(raw.fd4);
	if (raw.fd6 >= 0)
		close(raw.fd6);
}
