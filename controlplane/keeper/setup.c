// SPDX-License-Identifier: BSD-3-Clause
/*
 * Takes the port over and gives it back.
 *
 * In: configuration; out: one line on what went wrong.  State: the lock file (a copy of struct
 * kp_port_saved, written before the port is touched), the TAP's descriptor.  Runs before the loop
 * and after it.
 */
#include "setup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/if_queues.h"
#include "common/log.h"

#define TAP_END_TRIES 200 /* of 10 ms */

static int failed(char *err, size_t err_len, int rc, const char *what)
{
	snprintf(err, err_len, "%s: %s", what, strerror(-rc));
	return -1;
}

void kp_setup_init(struct kp_setup *s, const struct toe_config *cfg)
{
	memset(s, 0, sizeof(*s));
	s->lock_fd = -1;
	s->tap_fd = -1;
	s->mtu = cfg->mtu;
	s->kernel_port = strcmp(cfg->port_driver, "pci") != 0;
	s->xdp = strcmp(cfg->port_driver, "af_xdp") == 0;
	snprintf(s->port_if, sizeof(s->port_if), "%s", cfg->port_if);
	snprintf(s->tap_if, sizeof(s->tap_if), "%s", cfg->tap_if);
	snprintf(s->run_dir, sizeof(s->run_dir), "%s", cfg->run_dir);
	kp_lock_path(cfg, s->lock_path, sizeof(s->lock_path));
}

/* ---- lock ---- */

static int take_lock(struct kp_setup *s, char *err, size_t err_len)
{
	struct kp_lock_head head = {0};
	pid_t pid;

	s->lock_fd = kp_lock_file(s->lock_path, 0600, KP_LOCK_PATIENCE_MS);
	if (s->lock_fd >= 0)
		return 0;
	pid = kp_lock_holder(s->lock_path);
	if (s->lock_fd == -EBUSY && kp_lock_read(s->lock_path, &head))
		snprintf(err, err_len,
			 "port %s belongs to another engine (toe-keeper, process %d, of %s)",
			 s->port_if, pid ? pid : head.pid, head.run_dir);
	else if (s->lock_fd == -EBUSY)
		snprintf(err, err_len, "port %s belongs to another engine (toe-keeper, process %d)",
			 s->port_if, pid);
	else
		kp_lock_why(s->lock_path, s->lock_fd, err, err_len);
	s->lock_fd = -1;
	return -1;
}

static void drop_lock(struct kp_setup *s)
{
	if (s->lock_fd < 0)
		return;
	unlink(s->lock_path);
	close(s->lock_fd);
	s->lock_fd = -1;
}

/* ---- restoring ---- */

static void check(int rc, const char *what, const char *ifname)
{
	if (rc < 0)
		LOG_WARN("%s: %s: %s", ifname, what, strerror(-rc));
}

/* In an order in which the kernel shows them as before: it puts the latest of IPv4 last, of IPv6
 * first. */
static void restore_addresses(const char *port_if, int ifindex, const struct kp_port_saved *saved)
{
	uint32_t n = saved->addr_n < KP_ADDRS_MAX ? saved->addr_n : KP_ADDRS_MAX;

	for (uint32_t i = 0; i < 2 * n; i++) {
		const struct kp_addr *a = &saved->addrs[i < n ? i : 2 * n - 1 - i];

		if ((a->family == AF_INET) == (i < n))
			check(kp_addr_add_again(ifindex, a, saved->boot_s), "address not restored",
			      port_if);
	}
}

/* The port as it was; used by an orderly end and after a crash. */
static void restore_port(const char *port_if, const struct kp_port_saved *saved)
{
	char err[KP_ERR_BYTES];
	int ifindex = kp_if_index(port_if);

	if (ifindex < 0)
		return; /* it is gone, and the table with it */
	/* a datapath that was killed has left it; first, as it takes frames away from the kernel */
	if (saved->xdp_ours)
		check(kp_xdp_detach(ifindex), "XDP program not removed", port_if);
	/* before there can be addresses */
	if (saved->disable_ipv6 >= 0)
		check(kp_if_set_ipv6_conf(port_if, "disable_ipv6", saved->disable_ipv6),
		      "disable_ipv6 not restored", port_if);
	restore_addresses(port_if, ifindex, saved);
	for (uint32_t i = 0; i < saved->route_n && i < KP_ROUTES_MAX; i++)
		check(kp_route_add(ifindex, &saved->routes[i]), "route not restored", port_if);
	if (!saved->was_allmulti)
		check(kp_if_set_flag(port_if, IFF_ALLMULTI, false), "allmulticast not restored",
		      port_if);
	if (!saved->was_up)
		check(kp_if_set_flag(port_if, IFF_UP, false), "link state not restored", port_if);
	if (kp_nft_unblock(port_if, err, sizeof(err)) < 0)
		LOG_WARN("%s: %s", port_if, err);
}

/* A TAP goes when the last of its programs has ended; as long as it has the addresses and routes,
 * the kernel takes those of the port for the same. */
static void await_tap_end(const struct kp_setup *s)
{
	const struct timespec pause = {.tv_nsec = 10000000};

	for (int i = 0; i < TAP_END_TRIES && kp_if_index(s->tap_if) >= 0; i++)
		nanosleep(&pause, NULL);
}

/* With the lock held: what a keeper that was killed has left. */
static bool read_stale(const struct kp_setup *s, struct kp_port_saved *saved)
{
	return pread(s->lock_fd, saved, sizeof(*saved), 0) == (ssize_t)sizeof(*saved) &&
	       kp_lock_head_ok(&saved->head);
}

static void restore_stale(struct kp_setup *s, const struct kp_port_saved *saved)
{
	LOG_INFO("%s: restoring after toe-keeper %d of %s, which did not end in order", s->port_if,
		 saved->head.pid, saved->head.run_dir);
	if (s->kernel_port) {
		await_tap_end(s);
		restore_port(s->port_if, saved);
	}
}

int kp_setup_cleanup(const struct toe_config *cfg, char *err, size_t err_len)
{
	struct kp_port_saved saved;
	struct kp_setup s;
	bool stale;

	kp_setup_init(&s, cfg);
	if (access(s.lock_path, F_OK) < 0)
		return 0;
	if (take_lock(&s, err, err_len) < 0)
		return -1;
	stale = read_stale(&s, &saved);
	if (stale && strcmp(saved.head.run_dir, cfg->run_dir) != 0) {
		/* the file stays: it says what is to be restored */
		close(s.lock_fd);
		LOG_INFO("%s was left by the engine of %s: not put back", s.port_if,
			 saved.head.run_dir);
		return 0;
	}
	if (stale)
		restore_stale(&s, &saved);
	drop_lock(&s);
	return stale ? 1 : 0;
}

/* ---- taking over ---- */

/* What DPDK does not look at: it would take the first queue only, and fail with somebody else's
 * program there and take that away as if it were its own. */
static int check_xdp(const struct kp_setup *s, char *err, size_t err_len)
{
	struct toe_if_queues queues;
	uint8_t mode;
	int rc;

	toe_if_queues(s->port_if, &queues);
	if (queues.rx > 1) {
		snprintf(err, err_len,
			 "port: %s has %u receive queues, driver af_xdp takes the first one's "
			 "frames only: `ethtool -L %s %s 1`, or set port.driver = \"af_packet\"",
			 s->port_if, queues.rx, s->port_if, queues.what);
		return -1;
	}
	rc = kp_xdp_mode(kp_if_index(s->port_if), &mode);
	if (rc < 0)
		return failed(err, err_len, rc, s->port_if);
	if (mode == XDP_ATTACHED_NONE)
		return 0;
	snprintf(err, err_len,
		 "port: %s has an XDP program, where driver af_xdp puts its own: `ip link set %s "
		 "xdp off`, or set port.driver = \"af_packet\"",
		 s->port_if, s->port_if);
	return -1;
}

static int check_port(struct kp_setup *s, const struct toe_config *cfg, char *err, size_t err_len)
{
	uint32_t mtu;
	int rc = kp_if_mac(s->port_if, s->mac);

	if (rc == -ENODEV) {
		snprintf(err, err_len,
			 "port: no interface %s here: set port.interface, see `ip link`",
			 s->port_if);
		return -1;
	}
	if (rc == -EPROTOTYPE) {
		snprintf(err, err_len, "port: %s is not an Ethernet interface", s->port_if);
		return -1;
	}
	if (rc < 0)
		return failed(err, err_len, rc, s->port_if);
	if (s->xdp && check_xdp(s, err, err_len) < 0)
		return -1;
	rc = kp_if_mtu(s->port_if, &mtu);
	if (rc < 0)
		return failed(err, err_len, rc, s->port_if);
	if (mtu < cfg->mtu) {
		snprintf(err, err_len,
			 "port: MTU of %s is %u, port.mtu %u: set port.mtu = %u, or `ip link set "
			 "%s mtu %u`",
			 s->port_if, mtu, cfg->mtu, mtu, s->port_if, cfg->mtu);
		return -1;
	}
	return 0;
}

static int save_addresses(struct kp_setup *s, int family)
{
	struct kp_port_saved *p = &s->saved;
	int ifindex = kp_if_index(s->port_if);
	int rc = kp_addr_list(ifindex, family, p->addrs, &p->addr_n, KP_ADDRS_MAX);

	return rc < 0 ? rc : kp_route_list(ifindex, family, p->routes, &p->route_n, KP_ROUTES_MAX);
}

static int save_port(struct kp_setup *s, char *err, size_t err_len)
{
	struct kp_port_saved *p = &s->saved;
	int ipv6 = -1;
	bool up = false;
	bool allmulti = false;
	int rc;

	memset(p, 0, sizeof(*p));
	p->head.magic = KP_LOCK_MAGIC;
	p->head.pid = getpid();
	snprintf(p->head.run_dir, sizeof(p->head.run_dir), "%s", s->run_dir);
	p->boot_s = kp_boot_s();
	p->disable_ipv6 = -1;
	if (s->kernel_port) {
		rc = kp_if_flag(s->port_if, IFF_UP, &up);
		if (rc == 0)
			rc = kp_if_flag(s->port_if, IFF_ALLMULTI, &allmulti);
		if (rc == 0)
			rc = kp_if_ipv6_conf(s->port_if, "disable_ipv6", &ipv6);
		if (rc == 0)
			rc = save_addresses(s, AF_INET);
		if (rc == 0 && ipv6 >= 0)
			rc = save_addresses(s, AF_INET6);
		if (rc < 0)
			return failed(err, err_len, rc, s->port_if);
		p->was_up = up;
		p->was_allmulti = allmulti;
		p->xdp_ours = s->xdp;
		p->disable_ipv6 = ipv6;
	}
	if (pwrite(s->lock_fd, p, sizeof(*p), 0) != sizeof(*p))
		return failed(err, err_len, errno ? -errno : -EIO, s->lock_path);
	return 0;
}

static int block_kernel(struct kp_setup *s, char *err, size_t err_len)
{
	int rc;

	s->port_changed = true;
	if (kp_nft_block(s->port_if, err, err_len) < 0)
		return -1;
	rc = kp_if_set_ipv6_conf(s->port_if, "disable_ipv6", 1);
	if (rc < 0)
		return failed(err, err_len, rc, "disable_ipv6");
	/* the groups are joined on the TAP, neighbour discovery's too, not where frames arrive */
	rc = kp_if_set_flag(s->port_if, IFF_ALLMULTI, true);
	if (rc == 0)
		rc = kp_if_set_flag(s->port_if, IFF_UP, true);
	return rc < 0 ? failed(err, err_len, rc, s->port_if) : 0;
}

static int make_tap(struct kp_setup *s, char *err, size_t err_len)
{
	int rc = kp_tap_create(s->tap_if);

	if (rc == -EBUSY || rc == -EINVAL || rc == -EEXIST) {
		snprintf(err, err_len,
			 "TAP %s: an interface of that name exists: `ip link del %s`, or set "
			 "port.tap",
			 s->tap_if, s->tap_if);
		return -1;
	}
	if (rc == -ENOENT || rc == -ENODEV) {
		snprintf(err, err_len, "/dev/net/tun is missing: modprobe tun");
		return -1;
	}
	if (rc < 0)
		return failed(err, err_len, rc, "TAP");
	s->tap_fd = rc;
	s->tap_ifindex = kp_if_index(s->tap_if);
	rc = kp_if_set_mtu(s->tap_if, s->mtu);
	if (rc == 0 && s->kernel_port)
		rc = kp_if_set_mac(s->tap_if, s->mac);
	return rc < 0 ? failed(err, err_len, rc, s->tap_if) : 0;
}

static int check_address(const char *name, const char *text, int family, struct kp_addr *a,
			 char *err, size_t err_len)
{
	if (kp_addr_parse(text, a) == 0 && a->family == family)
		return 0;
	snprintf(err, err_len, "port.%s \"%s\" is no %s", name, text,
		 family == AF_INET ? "IPv4 address like 192.0.2.10/24"
				   : "IPv6 address like 2001:db8::10/64");
	return -1;
}

int kp_setup_port(struct kp_setup *s, const struct toe_config *cfg, char *err, size_t err_len)
{
	struct kp_port_saved stale;
	struct kp_addr a;

	if (cfg->address6[0]) {
		if (check_address("address6", cfg->address6, AF_INET6, &a, err, err_len) < 0)
			return -1;
		memcpy(s->own6, a.addr, sizeof(s->own6));
	}
	if (cfg->address[0]) {
		if (check_address("address", cfg->address, AF_INET, &a, err, err_len) < 0)
			return -1;
		memcpy(&s->ipv4, a.addr, sizeof(s->ipv4));
	}
	if (take_lock(s, err, err_len) < 0)
		return -1;
	if (read_stale(s, &stale))
		restore_stale(s, &stale);
	if (s->kernel_port && check_port(s, cfg, err, err_len) < 0)
		return -1;
	if (save_port(s, err, err_len) < 0)
		return -1;
	if (make_tap(s, err, err_len) < 0)
		return -1;
	return s->kernel_port ? block_kernel(s, err, err_len) : 0;
}

/* ---- the TAP ---- */

/* Addresses of the port would be a way around the engine: the TAP gets them. */
static int move_ipv4(struct kp_setup *s, const struct kp_addr *own)
{
	int port = kp_if_index(s->port_if);
	int rc = 0;

	for (uint32_t i = 0; i < s->saved.addr_n && rc == 0; i++) {
		const struct kp_addr *a = &s->saved.addrs[i];

		if (a->family != AF_INET)
			continue;
		rc = kp_addr_del(port, a);
		if (rc == 0 && !kp_addr_same(a, own))
			rc = kp_addr_add(s->tap_ifindex, a);
	}
	return rc;
}

static int set_ipv4(struct kp_setup *s, const struct toe_config *cfg)
{
	struct kp_addr own;
	int rc = kp_addr_parse(cfg->address, &own);

	if (rc == 0)
		rc = kp_addr_add(s->tap_ifindex, &own);
	return rc == 0 && s->kernel_port ? move_ipv4(s, &own) : rc;
}

static void take_over_routes(const struct kp_setup *s, bool ipv4)
{
	for (uint32_t i = 0; i < s->saved.route_n; i++) {
		const struct rtmsg *rt = (const void *)s->saved.routes[i].data;

		if (ipv4 || rt->rtm_family != AF_INET)
			check(kp_route_add(s->tap_ifindex, &s->saved.routes[i]),
			      "a route of the port was not taken over", s->tap_if);
	}
}

int kp_setup_tap(struct kp_setup *s, const struct toe_config *cfg, const uint8_t mac[6], char *err,
		 size_t err_len)
{
	static const uint8_t none[6];
	int rc = 0;

	if (memcmp(mac, none, 6) != 0 && memcmp(mac, s->mac, 6) != 0) {
		memcpy(s->mac, mac, 6);
		rc = kp_if_set_mac(s->tap_if, mac);
	}
	kp_ipv6_conf(s, cfg);
	if (rc == 0) /* before it is up: the kernel finds the one it would make, already checked */
		rc = kp_ipv6_link_local(s);
	if (rc == 0)
		rc = kp_if_set_flag(s->tap_if, IFF_UP, true);
	if (rc < 0)
		return failed(err, err_len, rc, s->tap_if);
	if (cfg->address[0])
		rc = set_ipv4(s, cfg);
	if (rc == 0)
		rc = kp_ipv6_global(s, cfg);
	if (rc < 0)
		return failed(err, err_len, rc, "address of the TAP");
	take_over_routes(s, cfg->address[0]);
	kp_ipv6_look(s);
	return 0;
}

void kp_setup_undo(struct kp_setup *s)
{
	if (s->tap_fd >= 0)
		close(s->tap_fd);
	s->tap_fd = -1;
	if (s->port_changed)
		restore_port(s->port_if, &s->saved);
	s->port_changed = false;
	drop_lock(s);
}
