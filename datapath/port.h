/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The Ethernet port: start, stop, and how a sleeping lcore can wait for it.
 */
#ifndef TOE_PORT_H
#define TOE_PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct toe_engine;

#define TOE_PORT_FDS_MAX 16u

/*
 * intr: the PMD has receive interrupts; fds[0] is an epoll set with those of queue 0.
 * Otherwise fds are the packet sockets of the PMD (af_packet, af_xdp); none: the port cannot be
 * waited for and the lcore naps.
 */
struct toe_port_wait {
	bool intr;
	unsigned n;
	int fds[TOE_PORT_FDS_MAX];
	uint64_t ring_full; /* toe_port_losses() only: the kernel forgets when it is asked */
};

/* Frames that the engine never saw, or handed over in vain, since the start. */
struct toe_port_losses {
	uint64_t rx_full;   /* the receive ring was full */
	uint64_t rx_no_buf; /* no buffer was offered for the frame, or it did not fit into one */
	uint64_t rx_error;
	uint64_t tx_error;
};

/* Asks the kernel or the device; by one thread at a time, not for the data path. */
void toe_port_losses(const struct toe_engine *e, struct toe_port_losses *l);

/*
 * A packet socket stops in the middle of a burst when the qdisc refuses a frame or the socket's
 * send buffer is full, and goes on with the next send only; the PMD has counted the burst as sent.
 * Sends what is left in the rings.  Returns true if something may still be there: the send buffer
 * is full (not if the interface is down, then it leaves with the next frame).  One system call per
 * socket if nothing is left; for the lcore of netif_tx.
 */
bool toe_port_push(const struct toe_port_wait *wait);

/* Packet sockets this process has now; call before DPDK starts.  Returns how many. */
unsigned toe_port_sockets(int *fds, unsigned max);

/* Configures and starts port e->eth_port with one queue each way; fills e->mac, e->caps and
 * e->port_wait.  known: the sockets from before DPDK started.  0, or -1 with one line in err. */
int toe_port_start(struct toe_engine *e, const int *known, unsigned known_n, char *err,
		   size_t err_len);
void toe_port_stop(struct toe_engine *e);

#endif
