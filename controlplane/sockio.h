/* SPDX-License-Identifier: BSD-3-Clause */
/* System calls on what the keeper hands us: application sockets and control segments. */
#ifndef CP_SOCKIO_H
#define CP_SOCKIO_H

#include <stdint.h>

#include "addr.h"

/* As struct cp_io says.  ifindex: of the TAP, for link-local addresses. */
int cp_sock_bind(int fd, const struct cp_addr *addr, int ifindex, uint16_t *port);
uint8_t *cp_region_map(int fd, uint64_t bytes);
void cp_region_unmap(uint8_t *p, uint64_t bytes);

/* From now on a SIGBUS inside a mapped region replaces the page instead of ending the process. */
int cp_region_guard(void);

#endif
