/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the keeper does to the machine, and undoes: lock of the port, TAP, nft table, addresses,
 * sysctl, link state.
 *
 * What a crash would leave behind is written into the lock file first, so that the next start (or
 * `toe-keeper --cleanup`) can restore it.
 */
#ifndef KP_SETUP_H
#define KP_SETUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/config.h"
#include "controlplane/keeper/port_lock.h"

#define KP_ADDRS_MAX   32u
#define KP_ROUTES_MAX  64u
#define KP_ROUTE_BYTES 256u
#define KP_ERR_BYTES   320u

/* IPv4: the first 4 bytes, the rest is zero; flags and lifetimes are of IPv6 only. */
struct kp_addr {
	uint8_t addr[16]; /* network order */
	uint8_t family;   /* AF_INET, AF_INET6 */
	uint8_t prefix_len;
	uint8_t scope; /* RT_SCOPE_* */
	uint8_t reserved;
	uint32_t flags;   /* IFA_F_* */
	uint32_t valid_s; /* from when it was listed; UINT32_MAX = for ever, as the next */
	uint32_t preferred_s;
};

/* A kernel route as netlink gave it: rtmsg and attributes. */
struct kp_route {
	uint32_t bytes; /* 0: unused */
	uint8_t data[KP_ROUTE_BYTES];
};

/* State of the port before us; the content of the lock file. */
struct kp_port_saved {
	struct kp_lock_head head;
	uint32_t was_up;
	int32_t disable_ipv6; /* -1: unknown */
	uint32_t addr_n;
	uint32_t route_n;
	uint32_t was_allmulti;
	uint32_t xdp_ours; /* there was no XDP program, what is there is DPDK's */
	uint64_t boot_s;   /* CLOCK_BOOTTIME: lifetimes of addresses go on */
	struct kp_addr addrs[KP_ADDRS_MAX];
	struct kp_route routes[KP_ROUTES_MAX];
};

struct kp_setup {
	bool kernel_port; /* the port is a Linux interface (not a PCI device) */
	bool xdp;         /* DPDK puts an XDP program on it */
	char port_if[16];
	char tap_if[16];
	char lock_path[128];
	char run_dir[128];
	int lock_fd; /* -1: not ours */
	int tap_fd;  /* -1: none */
	int tap_ifindex;
	uint8_t mac[6];
	uint32_t mtu;
	uint32_t ipv4;       /* of the TAP, network order, 0 = none */
	uint8_t ipv6[2][16]; /* likewise: global, link-local */
	uint8_t own6[16];    /* port.address6: the global one, if it can be */
	bool port_changed;
	struct kp_port_saved saved;
};

#define KP_LOCK_PATIENCE_MS 2000

/* Creates and locks the file at the path (not one that its last owner has just removed): the
 * descriptor, -EBUSY if it has an owner, -EAGAIN if somebody only looks, for longer than that,
 * -errno. */
int kp_lock_file(const char *path, unsigned mode, int patience_ms);
/* One line on such an error. */
void kp_lock_why(const char *path, int error, char *buf, size_t len);
/* Process that has it locked, 0: none, or it cannot be seen from here. */
pid_t kp_lock_holder(const char *path);

/* Before anything else; also makes kp_setup_undo() safe. */
void kp_setup_init(struct kp_setup *s, const struct toe_config *cfg);
/* Everything that has to be there before the datapath starts.  0, or -1 with one line in err; the
 * caller undoes. */
int kp_setup_port(struct kp_setup *s, const struct toe_config *cfg, char *err, size_t err_len);
/* The datapath runs and has this MAC: TAP up, addresses move to it. */
int kp_setup_tap(struct kp_setup *s, const struct toe_config *cfg, const uint8_t mac[6], char *err,
		 size_t err_len);
/* Undoes what has been done, in reverse order; goes on after failures, which are logged. */
void kp_setup_undo(struct kp_setup *s);
/* Restores what a keeper that was killed left behind: 1 something, 0 nothing, -1 with err (port in
 * use). */
int kp_setup_cleanup(const struct toe_config *cfg, char *err, size_t err_len);

/* ---- nft.c ---- */
/* Replaces our table: the kernel no longer sees frames of ifname (AF_PACKET still does). */
int kp_nft_block(const char *ifname, char *err, size_t err_len);
/* 0 also if there is no such table. */
int kp_nft_unblock(const char *ifname, char *err, size_t err_len);
/* Name of our table for an interface. */
void kp_nft_table(const char *ifname, char *buf, size_t len);

/* ---- port.c: interface settings; 0 or -errno ---- */
int kp_if_index(const char *ifname);
int kp_if_mac(const char *ifname, uint8_t mac[6]);
int kp_if_set_mac(const char *ifname, const uint8_t mac[6]);
int kp_if_mtu(const char *ifname, uint32_t *mtu);
int kp_if_set_mtu(const char *ifname, uint32_t mtu);
int kp_if_flag(const char *ifname, short flag, bool *on); /* IFF_UP, … */
int kp_if_set_flag(const char *ifname, short flag, bool on);
/* net.ipv6.conf.IF.NAME; a kernel without IPv6: -1, and setting does nothing. */
int kp_if_ipv6_conf(const char *ifname, const char *name, int *value);
int kp_if_set_ipv6_conf(const char *ifname, const char *name, int value);

/* ---- tap.c ---- */
/* A TAP that lives as long as its descriptor (non-blocking): the descriptor or -errno. */
int kp_tap_create(const char *ifname);

/* ---- ipv6.c: IPv6 of the TAP ---- */
/* Settings of the port that the kernel has by interface; failures are logged. */
void kp_ipv6_conf(const struct kp_setup *s, const struct toe_config *cfg);
int kp_ipv6_link_local(const struct kp_setup *s); /* before it is up */
int kp_ipv6_global(const struct kp_setup *s, const struct toe_config *cfg);
/* Looks what the TAP has now: true, s->ipv6 has changed. */
bool kp_ipv6_look(struct kp_setup *s);

/* ---- xdp.c: the XDP program of an interface; 0 or -errno ---- */
int kp_xdp_mode(int ifindex, uint8_t *mode); /* XDP_ATTACHED_* */
int kp_xdp_detach(int ifindex);              /* 0 if there is none */

/* ---- netaddr.c: addresses and routes of an interface; 0 or -errno ---- */
struct nlmsghdr;
/* Sends the request to rtnetlink and runs cb (mnl_cb_t) on what comes back. */
int kp_netlink(struct nlmsghdr *nlh, int (*cb)(const struct nlmsghdr *, void *), void *arg);
/* "192.0.2.10/24" or "2001:db8::10/64"; nobody has looked yet whether it is taken (TENTATIVE). */
int kp_addr_parse(const char *text, struct kp_addr *a);
/* Appends those of the family that can be used elsewhere: no temporary ones (the kernel makes
 * others), none that are somebody else's (duplicate address detection). */
int kp_addr_list(int ifindex, int family, struct kp_addr *a, uint32_t *n, uint32_t max);
/* 0 if it exists.  Only a tentative one has to pass duplicate address detection. */
int kp_addr_add(int ifindex, const struct kp_addr *a);
int kp_addr_del(int ifindex, const struct kp_addr *a);
/* One that was listed at from_s, with what is left of its lifetimes; 0 also if nothing is. */
int kp_addr_add_again(int ifindex, const struct kp_addr *from, uint64_t from_s);
uint64_t kp_boot_s(void); /* CLOCK_BOOTTIME, seconds */
bool kp_addr_same(const struct kp_addr *a, const struct kp_addr *b);
/*
 * The engine's two addresses out of the TAP's: ipv6[0] global, ipv6[1] link-local, zero: none.  In
 * use by anybody (not tentative) and for new connections (not deprecated); what is there already
 * stays as long as it can.
 */
void kp_addr_pick(const struct kp_addr *a, uint32_t n, uint8_t ipv6[2][16]);
/* Appends routes of the main table through the interface that neither come with an address nor
 * from a router's advertisements. */
int kp_route_list(int ifindex, int family, struct kp_route *r, uint32_t *n, uint32_t max);
int kp_route_add(int ifindex, const struct kp_route *r);

#endif
