/* SPDX-License-Identifier: BSD-3-Clause */
/* The kernel's routes and neighbours, asked and watched by netlink (libmnl). */
#ifndef CP_NETLINK_H
#define CP_NETLINK_H

#include <stdint.h>

#include "cp.h"

struct cp_nl;

/* mac NULL: the address does not answer. */
typedef void cp_nl_changed(void *ctx, const struct cp_addr *ip, const uint8_t *mac);

/* ifindex: the TAP that stands for the port.  0 or -errno.  Then cp_nl_sync() when changed() may be
 * called: it is, for every neighbour the kernel has. */
int cp_nl_open(struct cp_nl **out, int ifindex, cp_nl_changed *changed, void *ctx);
int cp_nl_sync(struct cp_nl *nl);
void cp_nl_close(struct cp_nl *nl);

/* Readable when something changed: then call cp_nl_read(), which does a bounded amount of work. */
int cp_nl_fd(const struct cp_nl *nl);
void cp_nl_read(struct cp_nl *nl);
/* One datagram of notifications; cp_nl_read() hands over what it reads. */
void cp_nl_take(struct cp_nl *nl, const void *buf, size_t len);

/* As struct cp_io says. */
int cp_nl_route(struct cp_nl *nl, const struct cp_addr *dst, uint64_t now_ms, struct cp_route *r);
int cp_nl_neigh(struct cp_nl *nl, const struct cp_addr *ip, uint64_t now_ms, uint8_t mac[6]);

#endif
