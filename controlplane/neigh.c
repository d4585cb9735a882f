/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Next hops of connections, and the port's own addresses.  Routes and neighbours are the kernel's;
 * here is only what follows for our connections from an answer or a change: a held SYN goes out, a
 * MAC moves.
 */
#include "cp.h"

#include <errno.h>
#include <string.h>

int cp_next_hop(struct cp *cp, const struct cp_addr *dst, struct cp_addr *next_hop, uint8_t mac[6])
{
	struct cp_route r;
	int err = cp->io.route(cp->io.ctx, dst, &r);

	if (err)
		return err;
	if (!r.via_port || r.local)
		return -EXDEV;
	*next_hop = r.next_hop;
	return cp->io.neigh(cp->io.ctx, &r.next_hop, mac);
}

/* Connections in the datapath whose frames go to ip. */
static void move_conns(struct cp *cp, const struct cp_addr *ip, const uint8_t mac[6])
{
	uint32_t left = cp->conn_count;

	for (uint32_t id = 0; id < cp->st->conn_n && left; id++) {
		struct cp_conn *c = &cp->conns[id];
		struct toe_cmd_neigh cmd = {{0}, {0}};

		if (c->state == CP_FREE)
			continue;
		left--;
		if (!cp_addr_same(&c->next_hop, ip) || c->state == CP_SYN_SENT ||
		    c->state == CP_REMOVING || !memcmp(c->in.remote_mac, mac, 6))
			continue;
		memcpy(c->in.remote_mac, mac, 6);
		memcpy(cmd.remote_mac, mac, 6);
		cp_cmd(cp, TOE_CMD_NEIGH, id, &cmd, sizeof(cmd));
	}
}

void cp_neigh_changed(struct cp *cp, const struct cp_addr *ip, const uint8_t *mac)
{
	if (mac) {
		move_conns(cp, ip, mac);
		cp_half_neigh(cp, ip, mac);
	}
	cp_active_neigh(cp, ip, mac);
}

bool cp_addr_ours(const struct cp *cp, const struct cp_addr *a)
{
	if (cp_addr_any(a))
		return false;
	if (a->family == AF_INET)
		return memcmp(a->b, &cp->port_ipv4, sizeof(cp->port_ipv4)) == 0;
	return memcmp(a->b, cp->port_ipv6[0], 16) == 0 || memcmp(a->b, cp->port_ipv6[1], 16) == 0;
}

bool cp_addr_source(const struct cp *cp, const struct cp_addr *dst, struct cp_addr *src)
{
	bool local = toe_addr_link_local(dst->family, dst->b);

	if (dst->family == AF_INET)
		*src = cp_addr4(cp->port_ipv4);
	else if (dst->family == AF_INET6 && !toe_addr_martian(AF_INET6, dst->b))
		*src = cp_addr_make(AF_INET6, cp->port_ipv6[local]);
	else
		return false;
	return dst->family == AF_INET || !cp_addr_any(src);
}

void cp_addrs_tell(struct cp *cp)
{
	struct toe_cmd_addr6 cmd;

	memcpy(cmd.addr, cp->port_ipv6, sizeof(cmd.addr));
	cp_cmd(cp, TOE_CMD_ADDR6, TOE_NONE, &cmd, sizeof(cmd));
}

/* A link that IPv6 cannot use has no IPv6 address (RFC 8200 §5). */
void cp_addrs_take(struct cp *cp, const struct toe_ctl_engine *e)
{
	uint8_t was[2][16];

	memcpy(was, cp->port_ipv6, sizeof(was));
	memset(cp->port_ipv6, 0, sizeof(cp->port_ipv6));
	if (cp->mtu >= TOE_IP6_MTU)
		memcpy(cp->port_ipv6, e->port_ipv6, sizeof(cp->port_ipv6));
	if (memcmp(was, cp->port_ipv6, sizeof(was)) != 0)
		cp_addrs_tell(cp);
}
