/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Next hops of connections.  Routes and neighbours are the kernel's; here is only what follows for
 * our connections from an answer or a change: a held SYN goes out, a MAC moves.
 */
#include "cp.h"

#include <errno.h>
#include <string.h>

int cp_next_hop(struct cp *cp, uint32_t dst, uint32_t *next_hop, uint8_t mac[6])
{
	struct cp_route r;
	int err = cp->io.route(cp->io.ctx, dst, &r);

	if (err)
		return err;
	if (!r.via_port || r.local)
		return -EXDEV;
	*next_hop = r.next_hop;
	return cp->io.neigh(cp->io.ctx, r.next_hop, mac);
}

/* Connections in the datapath whose frames go to ip. */
static void move_conns(struct cp *cp, uint32_t ip, const uint8_t mac[6])
{
	uint32_t left = cp->conn_count;

	for (uint32_t id = 0; id < cp->st->conn_n && left; id++) {
		struct cp_conn *c = &cp->conns[id];
		struct toe_cmd_neigh cmd = {{0}, {0}};

		if (c->state == CP_FREE)
			continue;
		left--;
		if (c->next_hop != ip || c->state == CP_SYN_SENT || c->state == CP_REMOVING ||
		    !memcmp(c->in.remote_mac, mac, 6))
			continue;
		memcpy(c->in.remote_mac, mac, 6);
		memcpy(cmd.remote_mac, mac, 6);
		cp_cmd(cp, TOE_CMD_NEIGH, id, &cmd, sizeof(cmd));
	}
}

void cp_neigh_changed(struct cp *cp, uint32_t ip, const uint8_t *mac)
{
	if (mac) {
		move_conns(cp, ip, mac);
		cp_half_neigh(cp, ip, mac);
	}
	cp_active_neigh(cp, ip, mac);
}
