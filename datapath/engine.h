/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The datapath process as its stages see it.  Filled in by main.c before the lcores start and
 * constant afterwards, except for what the pointers lead to, whose owner is named there.
 */
#ifndef TOE_ENGINE_H
#define TOE_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_ether.h>
#include <rte_mempool.h>
#include <rte_rcu_qsbr.h>

#include "common/config.h"
#include "flow_state.h"
#include "flow_table.h"
#include "stage.h"
#include "toe/cpq.h"

struct toe_pipeline;
struct toe_apps;
struct toe_hook;
struct toe_port_wait;

/* toe_engine.eth_port when there is none: simulation without a wire. */
#define TOE_NO_PORT UINT16_MAX

/* Port capabilities, asked at start, never assumed. */
struct toe_port_caps {
	bool tx_ip_cksum;
	bool tx_tcp_cksum;
	bool rx_ip_cksum;
	bool rx_tcp_cksum;
	bool tx_tso; /* shown, not used */
	uint16_t mtu;
};

struct toe_engine {
	const struct toe_config *cfg;
	struct toe_pipeline *pipeline;
	uint32_t flow_group_n;
	uint32_t conn_n;

	/* connection state, by owner: flow_state.h */
	struct toe_flow_proto *flow_proto;
	struct toe_flow_post *flow_post;
	struct toe_flow_addr6 *flow_addr6;
	struct toe_flow_sched *flow_sched;
	struct toe_flow_table *flows;

	/* shared with the control plane: toe/cpq.h */
	struct toe_cpq_hdr *cpq;
	struct toe_flow_prog *prog;
	struct toe_flow_stat *stat; /* [conn * TOE_FLOW_STAT_REPLICAS + replica] */
	int cpq_kick_fd;

	struct toe_apps *apps;
	struct rte_rcu_qsbr *qsbr;
	struct toe_hook *rx_raw; /* segment modules on received frames; NULL: none */

	struct rte_mempool *work_pool[TOE_WORK_TYPE_N];
	struct rte_mempool *mbuf_pool;

	uint16_t eth_port;
	struct rte_ether_addr mac;
	struct toe_port_caps caps;
	struct toe_port_wait *port_wait; /* port.h; NULL: no port */
	int tap_fd;                      /* -1: no exception path */
	int keeper_fd;
};

#endif
