/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Set-up of struct cp: pointers into the state memfd, heap tables sized by it, and the one way
 * commands leave.  No decisions here.
 */
#include "cp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "isn.h"

static uint32_t pow2_at_least(uint32_t n)
{
	uint32_t p = 64;

	while (p < n)
		p <<= 1;
	return p;
}

static void map_state(struct cp *cp, struct cp_state_hdr *st)
{
	uint8_t *base = (uint8_t *)st;

	cp->st = st;
	cp->apps = (struct cp_app *)(base + st->off_apps);
	cp->slots = (struct cp_slot *)(base + st->off_slots);
	cp->listeners = (struct cp_listener *)(base + st->off_listeners);
	cp->conns = (struct cp_conn *)(base + st->off_conns);
	cp->tw = (struct cp_tw *)(base + st->off_tw);
	cp->ports_told[0] = base + st->off_ports;
	cp->ports_told[1] = cp->ports_told[0] + CP_PORT_N;
}

static int alloc_tables(struct cp *cp)
{
	const struct cp_state_hdr *st = cp->st;
	uint32_t nodes = st->conn_n + st->tw_n + cp->half_max;

	cp->rt = calloc(st->conn_n, sizeof(*cp->rt));
	cp->app_rt = calloc(st->app_n, sizeof(*cp->app_rt));
	cp->half = calloc(cp->half_max, sizeof(*cp->half));
	cp->ports = calloc(CP_PORT_N, sizeof(*cp->ports));
	cp->bucket_mask = pow2_at_least(nodes) - 1;
	cp->bucket = malloc((cp->bucket_mask + 1ul) * sizeof(*cp->bucket));
	cp->node_next = calloc(nodes, sizeof(*cp->node_next));
	cp->free_id_stride = (st->conn_n + st->flow_group_n - 1) / st->flow_group_n;
	cp->free_ids = calloc((size_t)cp->free_id_stride * st->flow_group_n, sizeof(uint32_t));
	cp->free_id_n = calloc(st->flow_group_n, sizeof(uint32_t));
	cp->free_tw = calloc(st->tw_n, sizeof(uint32_t));
	cp->tw_ack_ms = calloc(st->tw_n, sizeof(uint64_t));
	cp->free_half = calloc(cp->half_max, sizeof(uint32_t));
	for (int i = 0; i < 3; i++)
		cp->link_mem[i] = calloc(st->conn_n, sizeof(struct cp_link));
	cp->link_mem[3] = calloc(st->tw_n, sizeof(struct cp_link));
	cp->link_mem[4] = calloc(cp->half_max, sizeof(struct cp_link));
	if (!cp->rt || !cp->app_rt || !cp->half || !cp->ports || !cp->bucket || !cp->node_next ||
	    !cp->free_ids || !cp->free_id_n || !cp->free_tw || !cp->tw_ack_ms || !cp->free_half)
		return -ENOMEM;
	for (int i = 0; i < 5; i++)
		if (!cp->link_mem[i])
			return -ENOMEM;
	for (uint32_t i = 0; i < CP_PORT_N; i++)
		cp->ports[i].listener = TOE_NONE;
	for (uint32_t i = 0; i <= cp->bucket_mask; i++)
		cp->bucket[i] = TOE_NONE;
	return 0;
}

int cp_init(struct cp *cp, struct cp_state_hdr *st)
{
	map_state(cp, st);
	cp->cc = cc_find(cp->cfg->cc);
	if (!cp->cc)
		return -EINVAL;
	cp->half_max = cp->cfg->syn_backlog ? cp->cfg->syn_backlog : 1;
	cp->stat_replicas = cp->cfg->post;
	if (!cp->stat_replicas || cp->stat_replicas > TOE_FLOW_STAT_REPLICAS)
		cp->stat_replicas = TOE_FLOW_STAT_REPLICAS;
	if (alloc_tables(cp))
		return -ENOMEM;
	cp_list_init(&cp->active, cp->link_mem[0]);
	cp_list_init(&cp->syn_sent, cp->link_mem[1]);
	cp_list_init(&cp->orphans, cp->link_mem[2]);
	cp_list_init(&cp->tw_list, cp->link_mem[3]);
	cp_list_init(&cp->half_list, cp->link_mem[4]);
	for (uint32_t i = 0; i < st->app_n; i++) {
		struct cp_app_rt *a = &cp->app_rt[i];

		a->free_slots = calloc(st->slot_n, sizeof(uint32_t));
		a->listeners = calloc(st->listener_n, sizeof(*a->listeners));
		if (!a->free_slots || !a->listeners)
			return -ENOMEM;
	}
	cp_rebuild(cp);
	return 0;
}

void cp_fini(struct cp *cp)
{
	for (uint32_t i = 0; cp->app_rt && i < cp->st->app_n; i++) {
		struct cp_app_rt *a = &cp->app_rt[i];

		if (a->control)
			cp->io.unmap(cp->io.ctx, a->control, cp->apps[i].control_bytes);
		free(a->free_slots);
		free(a->listeners);
	}
	free(cp->rt);
	free(cp->app_rt);
	free(cp->half);
	free(cp->ports);
	free(cp->bucket);
	free(cp->node_next);
	free(cp->free_ids);
	free(cp->free_id_n);
	free(cp->free_tw);
	free(cp->tw_ack_ms);
	free(cp->free_half);
	for (int i = 0; i < 5; i++)
		free(cp->link_mem[i]);
}

void cp_set_time(struct cp *cp, uint64_t now_us)
{
	cp->now_us = now_us;
	cp->now_ms = now_us / 1000;
}

void cp_cmd(struct cp *cp, uint16_t type, uint32_t conn, const void *data, uint16_t len)
{
	struct toe_cpq_entry e = {
		.type = type,
		.len = len,
		.conn = conn,
		.gen = conn == TOE_NONE ? 0 : cp->conns[conn].gen,
	};

	cp->io.cmd(cp->io.ctx, &e, data);
}

void cp_cmd_frame(struct cp *cp, uint16_t type, const uint8_t *frame, uint32_t len)
{
	cp_cmd(cp, type, TOE_NONE, frame, (uint16_t)len);
}

struct cp_build cp_build_for(const struct cp *cp, const struct toe_tuple *t,
			     const uint8_t remote_mac[6])
{
	return (struct cp_build){
		.src_mac = cp->port_mac,
		.dst_mac = remote_mac,
		.t = *t,
		.flow_label = cp_flow_label(cp->st->key[CP_KEY_LABEL], t),
	};
}

void cp_send_build(struct cp *cp, const struct cp_build *b)
{
	uint8_t frame[CP_FRAME_MAX];

	cp_cmd_frame(cp, TOE_CMD_FRAME_TX, frame, cp_frame_build(frame, b));
}
