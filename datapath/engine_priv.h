/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Making and unmaking of the engine: main.c calls these in this order, and undoes in reverse.  All
 * return 0, or -1 with one line in err that says how to fix it.
 */
#ifndef TOE_ENGINE_PRIV_H
#define TOE_ENGINE_PRIV_H

#include <stddef.h>

#include "engine.h"

#define TOE_JUMBO_MTU 1960u /* above it the small buffers and ring slots do not hold a frame */

/* Starts DPDK with arguments made from the configuration; writes <run_dir>/datapath.prefix, which
 * tells the CLI where the telemetry socket is. */
int toe_eal_start(const struct toe_config *cfg, char *err, size_t err_len);
void toe_eal_stop(const struct toe_config *cfg);

/* Largest IP packet the port may bring: the configured MTU or the interface's, if that is larger.
 */
unsigned toe_port_frame_mtu(const struct toe_config *cfg);

/* Pools, RCU, flow state, flow table, module hooks, applications.  e is zeroed and has cfg. */
int toe_engine_init(struct toe_engine *e, char *err, size_t err_len);
void toe_engine_fini(struct toe_engine *e);

/* Maps the control-plane queue the keeper made, checks it against the configuration, starts a new
 * epoch.  fd may be closed afterwards. */
int toe_engine_map_cpq(struct toe_engine *e, int fd, char *err, size_t err_len);

/* Size of the queue's memory and where things are: the keeper's layout, for --standalone. */
int toe_engine_make_cpq(const struct toe_config *cfg);

/* MiB that pools and tables need. */
unsigned toe_engine_memory_mb(const struct toe_config *cfg);

/* telemetry.c: the /toe/ commands.  Call once, before the lcores start. */
void toe_telemetry_start(struct toe_engine *e);
/* Waits for the answer under way; from then on there is none, and e may be taken apart. */
void toe_telemetry_stop(void);

#endif
