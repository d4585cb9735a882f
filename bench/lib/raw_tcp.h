/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * TCP segments over AF_PACKET for load programs that are their own TCP: Ethernet, IPv4 and TCP
 * without options.  One thread.  Functions end the process if the interface cannot be used.
 */
#ifndef TOE_BENCH_RAW_TCP_H
#define TOE_BENCH_RAW_TCP_H

#include <net/ethernet.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdint.h>

#define RAW_FRAME_MAX 512u
#define RAW_BATCH     256u

struct raw_frame {
	struct ether_header eth;
	struct iphdr ip;
	struct tcphdr tcp;
	uint8_t data[];
} __attribute__((packed));

/* What all frames of a program begin with.  The caller sets eth.ether_dhost and ip.daddr. */
struct raw_head {
	struct ether_header eth;
	struct iphdr ip;
};

/* Ports in host order. */
struct raw_segment {
	uint16_t from, to;
	uint32_t seq, ack;
	uint8_t flags;
};

struct raw_batch {
	int fd;
	unsigned n;
	uint8_t frames[RAW_BATCH][RAW_FRAME_MAX];
	size_t len[RAW_BATCH];
};

/* Packet socket of the interface, which does not see its own frames, but all others, also those
 * that an nft ingress chain drops; head gets the interface's MAC and address (dotted) as source. */
int raw_open(const char *interface, const char *address, struct raw_head *head);

/* Puts headers with checksums before len bytes of data that are in f->data; bytes of the frame. */
size_t raw_finish(struct raw_frame *f, const struct raw_head *head, const struct raw_segment *s,
		  size_t len);

/* Frame to fill; sends the batch first if it is full. */
struct raw_frame *raw_next(struct raw_batch *b);
/* The frame of the last raw_next() has len bytes. */
void raw_push(struct raw_batch *b, size_t len);
void raw_flush(struct raw_batch *b);

#endif
