/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Configuration file (libconfig syntax), read by toe, toe-keeper, toe-datapath and
 * toe-controlplane.  The options are listed once in options.def, which generates defaults,
 * parsing, range checks, `toe config --help` and docs.  Unknown names and values out of range are
 * errors that name file, line, the option and what would be right.
 */
#ifndef TOE_CONFIG_H
#define TOE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define TOE_CFG_LCORES_MAX 64u
#define TOE_CFG_CC_NAME    16u

#define TOE_CFG_MQTT_PORTS_MAX   8u
#define TOE_CFG_MQTT_FILTERS_MAX 64u
#define TOE_CFG_MQTT_FILTER_MAX  256u

struct toe_config {
	char path[256];         /* where it came from, "" = built-in defaults */
	char run_dir[108 - 16]; /* sockets and pid file; environment TOE_RUN_DIR wins */

	/* port = { ... } */
	char port_if[16];     /* interface: "toe0" */
	char port_driver[16]; /* "af_packet", "af_xdp" or "pci" */
	char port_pci[32];    /* address, driver "pci" */
	char eal_args[256];   /* extra EAL arguments, blank-separated */
	char tap_if[16];      /* exception path, carries the port's MAC and address */
	char address[32];     /* "10.99.0.1/24": put on the TAP; "" = leave as it is */
	char address6[52];    /* "2001:db8::1/64", besides those that the port has; "" = none */
	uint32_t mtu;
	bool hugepages; /* try; without them --no-huge with a warning */
	uint32_t memory_mb;

	/* pipeline = { ... } */
	uint32_t flow_groups;
	uint32_t pre;   /* replicas */
	uint32_t proto; /* instances: flow-group g runs on g % proto */
	uint32_t post;
	uint32_t dma;
	char dma_backend[16]; /* "memcpy" or "dmadev" */
	uint32_t lcore_n;
	/* One string per lcore: "CPU: stage stage.replica …", e.g. "0: netif_rx seq pre.0". */
	char lcores[TOE_CFG_LCORES_MAX][256];
	uint32_t idle_spin_us; /* spin this long without work before sleeping */
	uint32_t work_items;   /* of each pool */
	uint32_t mbufs;
	uint32_t reorder_inject; /* test only: 1 item in so many is delayed by its pre/post replica
				  */

	/* tcp = { ... } */
	uint32_t connections; /* most at once */
	uint32_t rx_buf_bytes;
	uint32_t tx_buf_bytes;
	char cc[TOE_CFG_CC_NAME]; /* congestion control: "dctcp" */
	bool ecn;
	uint32_t rto_min_ms;
	uint32_t time_wait_ms;
	uint32_t pmtu_min;
	uint32_t syn_backlog;
	uint32_t orphans;

	/* stream = { ... } */
	uint32_t stream_memory_mb;

	/* mqtt = { ... } */
	uint32_t mqtt_message_max;
	uint32_t mqtt_queue_messages;
	uint32_t mqtt_queue_bytes;
	uint32_t mqtt_subscriptions;
	uint32_t mqtt_canary;
	bool mqtt_shadow;
	uint32_t mqtt_port_n;
	uint16_t mqtt_ports[TOE_CFG_MQTT_PORTS_MAX]; /* listeners whose connections are tracked */
	uint32_t mqtt_offload_n;
	/* Topic filters; a leading "!" says that nobody unseen subscribes to it ("closed"). */
	char mqtt_offload[TOE_CFG_MQTT_FILTERS_MAX][TOE_CFG_MQTT_FILTER_MAX];

	/* limits = { ... }, per application */
	uint32_t app_connections;
	uint32_t app_listeners;
	uint32_t reserve_percent; /* of connections, for applications that have few */
	uint32_t applications;
};

/* Fills *c with the defaults. */
void toe_config_defaults(struct toe_config *c);

/* Reads path over the defaults.  0, or -1 with one line in err. */
int toe_config_load(struct toe_config *c, const char *path, char *err, size_t err_len);

/* One line about what is no mistake but hardly what was meant; NULL: nothing. */
const char *toe_config_doubt(const struct toe_config *c);

/* What people call the port: its PCI address with driver pci, else its interface. */
const char *toe_config_port_name(const struct toe_config *c);

/* A commented sample file that says every option, its default and meaning. */
void toe_config_print_defaults(FILE *out);

/* "<run_dir>/<name>" into buf; returns buf. */
char *toe_config_path(const struct toe_config *c, const char *name, char *buf, size_t len);

#endif
