/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory that programs share: application regions, control-plane queue, control plane's state. */
#ifndef KP_REGION_H
#define KP_REGION_H

#include "common/config.h"
#include "toe/ctl.h"

/* Fills the geometry fields from the configuration.  0, or -EINVAL if it is impossible. */
int kp_region_geometry(const struct toe_config *cfg, struct toe_ctl_app *app);

/* Two sparse sealed memfds {control, payload} with header and empty token map; of port only the
 * addresses.  0 or -errno. */
int kp_region_create(const struct toe_ctl_app *app, const struct toe_ctl_engine *port, int fds[2]);

/* The port has other IPv6 addresses now. */
void kp_region_set_ipv6(int control_fd, const struct toe_ctl_engine *port);

/* Sets engine_gone in every context: processes that only look at memory see it too. */
void kp_region_engine_gone(const struct toe_ctl_app *app, int control_fd);

/* Adds what libtoe has counted in all contexts to n[TOE_UNSUP_MAX]. */
void kp_region_unsupported(const struct toe_ctl_app *app, int control_fd, uint64_t *n);

/* Control-plane queue: a descriptor or -errno. */
int kp_cpq_create(const struct toe_config *cfg);

/* Entry size for frames of that MTU. */
uint32_t kp_cpq_entry_bytes(uint32_t mtu);

/* Memory whose size its user decides: a descriptor or -errno. */
int kp_state_create(void);

#endif
