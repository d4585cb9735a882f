/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The Ethernet port: asks its capabilities, configures one queue each way, starts it, and finds out
 * how to wait for frames: receive interrupts if the PMD has them, else its packet sockets
 * (af_packet and af_xdp have no interrupt API in DPDK 22.11), which are those that appeared since
 * before DPDK started. Main thread, before and after the lcores run.
 */
#include <dirent.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <linux/if_xdp.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <rte_epoll.h>
#include <rte_errno.h>
#include <rte_ethdev.h>

#include "common/log.h"
#include "engine.h"
#include "fail.h"
#include "port.h"

#ifndef AF_XDP
#define AF_XDP 44
#endif
#ifndef SOL_XDP
#define SOL_XDP 283
#endif
/* Bursts come faster than an lcore that shares its CPU takes them: a fan-out's ACKs are one each.
 * To the PMD of af_xdp (DPDK 22.11) belong 2048 buffers, which it gives the kernel at the start: a
 * longer ring would stay empty behind them. */
#define RX_DESCRIPTORS     4096u
#define RX_DESCRIPTORS_XDP 2048u
#define TX_DESCRIPTORS     1024u
#define PUSH_MAX           64 /* system calls; each but the last ends at least one frame */
/* Send buffer: the whole transmit ring, as the kernel accounts frames (about 1 KiB each, more for
 * large ones), so that the ring is what fills up first. */
#define SEND_BUFFER (8 << 20)

/* ---- waiting ---- */

unsigned toe_port_sockets(int *fds, unsigned max)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *de;
	unsigned n = 0;

	while (dir != NULL && n < max && (de = readdir(dir)) != NULL) {
		int fd = atoi(de->d_name);
		int domain = 0;
		socklen_t len = sizeof(domain);

		if (de->d_name[0] == '.' ||
		    getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) != 0)
			continue;
		if (domain == AF_PACKET || domain == AF_XDP)
			fds[n++] = fd;
	}
	if (dir != NULL)
		closedir(dir);
	return n;
}

/* With privilege beyond net.core.wmem_max; the kernel doubles the value. */
static void large_send_buffer(int fd)
{
	const int bytes = SEND_BUFFER;

	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)) != 0)
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
}

static void find_sockets(struct toe_port_wait *wait, const int *known, unsigned known_n)
{
	int fds[2 * TOE_PORT_FDS_MAX];
	unsigned n = toe_port_sockets(fds, 2 * TOE_PORT_FDS_MAX);

	for (unsigned i = 0; i < n && wait->n < TOE_PORT_FDS_MAX; i++) {
		const int one = 1;
		bool ours = true;

		for (unsigned k = 0; k < known_n; k++)
			ours &= known[k] != fds[i];
		if (!ours)
			continue;
		/* frames the kernel sends out of the interface are not frames we receive */
		setsockopt(fds[i], SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one));
		large_send_buffer(fds[i]);
		wait->fds[wait->n++] = fds[i];
	}
}

static bool add_interrupts(struct toe_engine *e)
{
	struct toe_port_wait *wait = e->port_wait;
	int ep = epoll_create1(EPOLL_CLOEXEC);

	if (ep < 0)
		return false;
	if (rte_eth_dev_rx_intr_ctl_q(e->eth_port, 0, ep, RTE_INTR_EVENT_ADD, NULL) != 0) {
		close(ep);
		return false;
	}
	wait->intr = true;
	wait->fds[0] = ep;
	wait->n = 1;
	return true;
}

/* ---- sending ---- */

/* ENOBUFS (packet sockets) and EBUSY (af_xdp): a frame was dropped, those behind it were not tried.
 */
static bool push_socket(int fd)
{
	for (int i = 0; i < PUSH_MAX; i++) {
		ssize_t sent = send(fd, NULL, 0, MSG_DONTWAIT);

		if (sent < 0 && errno == EAGAIN)
			return true;
		if (sent == 0 || (sent < 0 && errno != ENOBUFS && errno != EBUSY))
			return false;
	}
	return true;
}

bool toe_port_push(const struct toe_port_wait *wait)
{
	bool left = false;

	for (unsigned i = 0; !wait->intr && i < wait->n; i++)
		left |= push_socket(wait->fds[i]);
	return left;
}

/* ---- losses ---- */

/* The kernel's count of a packet socket starts again each time it is read. */
static void ask_af_packet(int fd, struct toe_port_wait *wait)
{
	struct tpacket_stats st = {0};
	socklen_t len = sizeof(st);

	if (getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &st, &len) == 0)
		wait->ring_full += st.tp_drops;
}

/* Counts since the socket was made.  An empty fill ring is in rx_dropped; rx_fill_ring_empty_descs
 * counts attempts, not frames.  Kernels before 5.9 have a full ring in rx_dropped, too. */
static void ask_af_xdp(int fd, struct toe_port_losses *l)
{
	struct xdp_statistics st = {0};
	socklen_t len = sizeof(st);

	if (getsockopt(fd, SOL_XDP, XDP_STATISTICS, &st, &len) != 0)
		return;
	l->rx_full += st.rx_ring_full;
	l->rx_no_buf += st.rx_dropped;
	l->tx_error += st.tx_invalid_descs;
}

static void ask_sockets(struct toe_port_wait *wait, struct toe_port_losses *l)
{
	for (unsigned i = 0; !wait->intr && i < wait->n; i++) {
		int domain = 0;
		socklen_t len = sizeof(domain);

		if (getsockopt(wait->fds[i], SOL_SOCKET, SO_DOMAIN, &domain, &len) != 0)
			continue;
		if (domain == AF_XDP)
			ask_af_xdp(wait->fds[i], l);
		else
			ask_af_packet(wait->fds[i], wait);
	}
	l->rx_full += wait->ring_full;
}

/*
 * What the PMD says.  Not of af_xdp: its imissed is rx_dropped of the socket again, its oerrors are
 * frames that it left to the caller, who sends them later.  A PMD of af_packet that asks the socket
 * itself has in imissed what we then do not see.
 */
void toe_port_losses(const struct toe_engine *e, struct toe_port_losses *l)
{
	struct rte_eth_stats st;

	memset(l, 0, sizeof(*l));
	if (e->eth_port == TOE_NO_PORT)
		return;
	if (strcmp(e->cfg->port_driver, "af_xdp") != 0 &&
	    rte_eth_stats_get(e->eth_port, &st) == 0) {
		l->rx_full = st.imissed;
		l->rx_no_buf = st.rx_nombuf;
		l->rx_error = st.ierrors;
		l->tx_error = st.oerrors;
	}
	if (e->port_wait != NULL)
		ask_sockets(e->port_wait, l);
}

/* ---- configuration ---- */

/* Interface up, and its MTU at least the configured one.  Returns the MTU to use, or -errno. */
static int prepare_netdev(const struct toe_config *cfg)
{
	struct ifreq ifr = {0};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int mtu = -EIO;

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", cfg->port_if);
	if (fd < 0)
		return -errno;
	if (ioctl(fd, SIOCGIFFLAGS, &ifr) != 0)
		goto out;
	ifr.ifr_flags |= IFF_UP;
	if (ioctl(fd, SIOCSIFFLAGS, &ifr) != 0 || ioctl(fd, SIOCGIFMTU, &ifr) != 0)
		goto out;
	mtu = ifr.ifr_mtu;
	if (mtu < (int)cfg->mtu) {
		ifr.ifr_mtu = (int)cfg->mtu;
		if (ioctl(fd, SIOCSIFMTU, &ifr) == 0)
			mtu = (int)cfg->mtu;
		else
			LOG_WARN("interface %s: cannot raise MTU from %d to %u, using %d",
				 cfg->port_if, mtu, cfg->mtu, mtu);
	}
	mtu = mtu > (int)cfg->mtu ? (int)cfg->mtu : mtu;
out:
	if (mtu < 0 && errno != 0)
		mtu = -errno;
	close(fd);
	return mtu;
}

static void set_offloads(struct toe_engine *e, const struct rte_eth_dev_info *info,
			 struct rte_eth_conf *conf)
{
	const uint64_t tx = RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_CKSUM |
			    RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
	const uint64_t rx = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_TCP_CKSUM;

	conf->txmode.offloads = info->tx_offload_capa & tx;
	conf->rxmode.offloads = info->rx_offload_capa & rx;
	e->caps.tx_tso = (info->tx_offload_capa & RTE_ETH_TX_OFFLOAD_TCP_TSO) != 0;
	e->caps.tx_ip_cksum = (conf->txmode.offloads & RTE_ETH_TX_OFFLOAD_IPV4_CKSUM) != 0;
	e->caps.tx_tcp_cksum = (conf->txmode.offloads & RTE_ETH_TX_OFFLOAD_TCP_CKSUM) != 0;
	e->caps.rx_ip_cksum = (conf->rxmode.offloads & RTE_ETH_RX_OFFLOAD_IPV4_CKSUM) != 0;
	e->caps.rx_tcp_cksum = (conf->rxmode.offloads & RTE_ETH_RX_OFFLOAD_TCP_CKSUM) != 0;
}

/* A device keeps a buffer per descriptor: a quarter of them at most.  Not asked of af_packet, whose
 * ring is the kernel's memory (engine_eal.c). */
static uint16_t rx_descriptors(const struct toe_config *cfg)
{
	if (strcmp(cfg->port_driver, "af_xdp") == 0)
		return RX_DESCRIPTORS_XDP;
	return (uint16_t)RTE_MIN(RX_DESCRIPTORS, cfg->mbufs / 4);
}

static int setup_queues(struct toe_engine *e, const struct rte_eth_dev_info *info)
{
	uint16_t rx = rx_descriptors(e->cfg);
	uint16_t tx = TX_DESCRIPTORS;
	struct rte_eth_rxconf rxconf = info->default_rxconf;
	struct rte_eth_txconf txconf = info->default_txconf;
	int socket = rte_eth_dev_socket_id(e->eth_port);
	int rc = rte_eth_dev_adjust_nb_rx_tx_desc(e->eth_port, &rx, &tx);

	if (rc == 0)
		rc = rte_eth_rx_queue_setup(e->eth_port, 0, rx, (unsigned)socket, &rxconf,
					    e->mbuf_pool);
	if (rc == 0)
		rc = rte_eth_tx_queue_setup(e->eth_port, 0, tx, (unsigned)socket, &txconf);
	return rc;
}

/* Configures and starts with receive interrupts or without.  0 or -errno. */
static int try_start(struct toe_engine *e, bool intr)
{
	struct rte_eth_dev_info info;
	struct rte_eth_conf conf = {.intr_conf.rxq = intr};
	int rc = rte_eth_dev_info_get(e->eth_port, &info);

	if (rc != 0)
		return rc;
	set_offloads(e, &info, &conf);
	if (strcmp(e->cfg->port_driver, "pci") == 0)
		conf.rxmode.mtu = e->cfg->mtu;
	rc = rte_eth_dev_configure(e->eth_port, 1, 1, &conf);
	if (rc == 0)
		rc = setup_queues(e, &info);
	if (rc == 0)
		rc = rte_eth_dev_start(e->eth_port);
	return rc;
}

int toe_port_start(struct toe_engine *e, const int *known, unsigned known_n, char *err,
		   size_t err_len)
{
	const bool pci = strcmp(e->cfg->port_driver, "pci") == 0;
	int mtu = pci ? (int)e->cfg->mtu : prepare_netdev(e->cfg);
	int rc;

	e->eth_port = (uint16_t)rte_eth_find_next(0);
	if (e->eth_port >= RTE_MAX_ETHPORTS) {
		e->eth_port = TOE_NO_PORT;
		return fail(err, err_len, "DPDK found no port: check port.driver and port.%s",
			    pci ? "pci" : "interface");
	}
	if (mtu < 0)
		return fail(err, err_len, "interface %s: %s", e->cfg->port_if, strerror(-mtu));
	e->caps.mtu = (uint16_t)mtu;
	e->port_wait = calloc(1, sizeof(*e->port_wait));
	if (e->port_wait == NULL)
		return fail(err, err_len, "out of memory");
	rc = pci ? try_start(e, true) : -ENOTSUP;
	if (rc != 0)
		rc = try_start(e, false);
	if (rc == 0)
		rc = rte_eth_macaddr_get(e->eth_port, &e->mac);
	if (rc != 0)
		return fail(err, err_len,
			    "port %s does not start: %s (TOE_EAL_LOG=debug shows why)",
			    toe_config_port_name(e->cfg), strerror(-rc));
	rte_eth_allmulticast_enable(e->eth_port); /* neighbour discovery; not every PMD has it */
	if (!pci || !add_interrupts(e))
		find_sockets(e->port_wait, known, known_n);
	return 0;
}

void toe_port_stop(struct toe_engine *e)
{
	if (e->eth_port != TOE_NO_PORT) {
		rte_eth_dev_stop(e->eth_port);
		rte_eth_dev_close(e->eth_port);
		e->eth_port = TOE_NO_PORT;
	}
	if (e->port_wait != NULL && e->port_wait->intr)
		close(e->port_wait->fds[0]);
	free(e->port_wait);
	e->port_wait = NULL;
}
