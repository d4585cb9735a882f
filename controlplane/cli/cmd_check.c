// SPDX-License-Identifier: BSD-3-Clause
/*
 * toe check: what is missing on this machine, and how to fix it.
 *
 * In: configuration and the machine; out: one line per item, ok / warn / FAIL with the fix; status
 * 1 if anything fails.  Changes nothing.
 */
#include "cli.h"
#include "common/if_queues.h"
#include "common/privileges.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <ifaddrs.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "controlplane/keeper/siblings.h"

#define FDS_OF_KEEPER 256u

enum level { OK, WARN, FAIL };

struct check {
	struct cli *cli;
	json_t *items;
	unsigned failed;
};

static void item(struct check *c, enum level level, const char *name, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

static void item(struct check *c, enum level level, const char *name, const char *fmt, ...)
{
	static const char *const words[] = {"ok", "warn", "FAIL"};
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	c->failed += level == FAIL;
	json_array_append_new(c->items, json_pack("{s:s, s:s, s:s}", "item", name, "result",
						  words[level], "text", text));
	if (!c->cli->json)
		printf("%-5s %-14s %s\n", words[level], name, text);
}

/* ---- the items ---- */

static void check_privileges(struct check *c)
{
	if (toe_may_own_port())
		item(c, OK, "privileges", "CAP_NET_ADMIN and CAP_NET_RAW");
	else
		item(c, FAIL, "privileges", "`toe up` needs root: sudo toe check, sudo toe up");
}

static void check_programs(struct check *c)
{
	static const char *const names[] = {"toe-keeper", "toe-datapath", "toe-controlplane",
					    "libtoe.so"};
	char path[256];

	for (int i = 0; i < 4; i++) {
		if (!toe_sibling(names[i], path, sizeof(path)))
			item(c, FAIL, "programs", "%s is missing: make, or make install", path);
	}
	if (toe_sibling("toe-keeper", path, sizeof(path))) {
		*strrchr(path, '/') = '\0';
		item(c, OK, "programs", "in %s", path);
	}
}

static void check_dpdk(struct check *c)
{
	char path[256];
	char out[32768];
	char *bad;
	char pattern[128];
	glob_t g = {0};

	if (!toe_sibling("toe-datapath", path, sizeof(path)))
		return;
	/* what the dynamic linker would load, without running it */
	cli_runl(out, sizeof(out), "env", "LD_TRACE_LOADED_OBJECTS=1", path, (char *)NULL);
	bad = strstr(out, "not found");
	if (bad) {
		*bad = '\0';
		bad = strrchr(out, '\n');
		item(c, FAIL, "dpdk", "library missing:%s apt-get install dpdk",
		     bad ? bad + 1 : out);
		return;
	}
	snprintf(pattern, sizeof(pattern), "/usr/lib/*/dpdk/pmds-*/librte_net_%s.so*",
		 strcmp(c->cli->cfg.port_driver, "pci") == 0 ? "" : c->cli->cfg.port_driver);
	if (strcmp(c->cli->cfg.port_driver, "pci") != 0 &&
	    glob(pattern, GLOB_NOSORT, NULL, &g) != 0)
		item(c, WARN, "dpdk", "no driver %s in /usr/lib/*/dpdk: apt-get install dpdk",
		     c->cli->cfg.port_driver);
	else
		item(c, OK, "dpdk", "libraries%s%s", g.gl_pathc ? " and driver " : "",
		     g.gl_pathc ? c->cli->cfg.port_driver : "");
	globfree(&g);
}

static void check_tun(struct check *c)
{
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	if (fd >= 0) {
		item(c, OK, "tun", "/dev/net/tun");
		close(fd);
	} else if (errno == EACCES || errno == EPERM) {
		item(c, FAIL, "tun", "/dev/net/tun: no permission: run as root");
	} else {
		item(c, FAIL, "tun", "/dev/net/tun: %s: modprobe tun", strerror(errno));
	}
}

static void check_nft(struct check *c)
{
	char out[256];

	if (!cli_in_path("nft")) {
		item(c, FAIL, "nft", "not found: apt-get install nftables");
		return;
	}
	if (geteuid() == 0 &&
	    cli_runl(out, sizeof(out), "nft", "list", "tables", "netdev", (char *)NULL) != 0) {
		out[strcspn(out, "\n")] = '\0';
		item(c, FAIL, "nft", "%s: the kernel needs nf_tables with netdev", out);
		return;
	}
	item(c, OK, "nft", "found");
}

static void check_kernel(struct check *c)
{
	int fd = memfd_create("toe-check", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd >= 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
		item(c, OK, "memfd", "sealing works");
	else
		item(c, FAIL, "memfd", "sealed memfds: %s: a kernel from 3.17 on", strerror(errno));
	if (fd >= 0)
		close(fd);
	fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (fd >= 0)
		item(c, OK, "af_packet", "works");
	else if (errno == EPERM)
		item(c, FAIL, "af_packet", "no permission: run as root");
	else
		item(c, FAIL, "af_packet", "%s: modprobe af_packet", strerror(errno));
	if (fd >= 0)
		close(fd);
}

static void check_hugepages(struct check *c)
{
	unsigned long pages = 0;
	unsigned long kb = 0;
	char line[128];
	FILE *f = fopen("/proc/meminfo", "re");

	while (f && fgets(line, sizeof(line), f)) {
		sscanf(line, "HugePages_Free: %lu", &pages);
		sscanf(line, "Hugepagesize: %lu", &kb);
	}
	if (f)
		fclose(f);
	if (!c->cli->cfg.hugepages)
		item(c, OK, "hugepages", "not wanted (port.hugepages = false)");
	else if (pages * kb / 1024 >= c->cli->cfg.memory_mb)
		item(c, OK, "hugepages", "%lu MiB free", pages * kb / 1024);
	else
		item(c, WARN, "hugepages",
		     "%lu MiB free, %u wanted: works without, a little slower; sysctl "
		     "vm.nr_hugepages=%lu",
		     pages * kb / 1024, c->cli->cfg.memory_mb,
		     kb ? (c->cli->cfg.memory_mb * 1024ul + kb - 1) / kb : 0);
}

static void check_limits(struct check *c)
{
	struct rlimit rl = {0};
	uint32_t want = c->cli->cfg.connections;

	getrlimit(RLIMIT_NOFILE, &rl);
	if (rl.rlim_max >= want + FDS_OF_KEEPER)
		item(c, OK, "open files", "hard limit %llu", (unsigned long long)rl.rlim_max);
	else
		item(c, WARN, "open files",
		     "hard limit %llu: at most %llu of tcp.connections = %u; ulimit -Hn %u",
		     (unsigned long long)rl.rlim_max,
		     (unsigned long long)(rl.rlim_max > FDS_OF_KEEPER ? rl.rlim_max - FDS_OF_KEEPER
								      : 0),
		     want, want + FDS_OF_KEEPER);
}

static void check_cpus(struct check *c)
{
	long online = sysconf(_SC_NPROCESSORS_ONLN);
	const struct toe_config *cfg = &c->cli->cfg;
	uint64_t seen = 0;
	unsigned shared = 0;

	for (uint32_t i = 0; i < cfg->lcore_n; i++) {
		long cpu = atol(cfg->lcores[i]);

		if (cpu >= online) {
			item(c, FAIL, "lcores", "\"%s\": there are CPUs 0 to %ld", cfg->lcores[i],
			     online - 1);
			return;
		}
		if (cpu < 64) {
			shared += (seen >> cpu) & 1;
			seen |= 1ull << cpu;
		}
	}
	if (shared)
		item(c, WARN, "lcores", "%u share a CPU with another: for tests only", shared);
	else
		item(c, OK, "lcores", "%u of %ld CPUs", cfg->lcore_n, online);
}

/* ---- the port ---- */

static int ethtool(int sock, const char *ifname, void *data)
{
	struct ifreq ifr = {0};

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", ifname);
	ifr.ifr_data = data;
	return ioctl(sock, SIOCETHTOOL, &ifr);
}

static bool offload_on(int sock, const char *ifname, uint32_t cmd)
{
	struct ethtool_value v = {.cmd = cmd};

	return ethtool(sock, ifname, &v) == 0 && v.data;
}

static void check_offloads(struct check *c, int sock)
{
	const char *ifname = c->cli->cfg.port_if;
	struct ethtool_drvinfo drv = {.cmd = ETHTOOL_GDRVINFO};
	struct ethtool_value lro = {.cmd = ETHTOOL_GFLAGS};
	bool veth = ethtool(sock, ifname, &drv) == 0 && strcmp(drv.driver, "veth") == 0;
	/* which sees what is in the frame, where a tag then is not */
	bool xdp = strcmp(c->cli->cfg.port_driver, "af_xdp") == 0;

	if (offload_on(sock, ifname, ETHTOOL_GGRO) ||
	    (ethtool(sock, ifname, &lro) == 0 && (lro.data & ETH_FLAG_LRO)))
		item(c, WARN, "offloads",
		     "%s merges received segments: ethtool -K %s gro off lro off", ifname, ifname);
	else
		item(c, OK, "offloads", "%s merges nothing", ifname);
	if (veth)
		item(c, WARN, "veth peer",
		     "%s is a veth: its peer must send finished segments: ethtool -K PEER tx off "
		     "tso off gso off gro off%s",
		     ifname, xdp ? " txvlan off" : "");
	else if (xdp && ethtool(sock, ifname, &lro) == 0 && (lro.data & ETH_FLAG_RXVLAN))
		item(c, WARN, "vlan",
		     "%s takes VLAN tags off, so that frames of every VLAN are received: "
		     "ethtool -K %s rxvlan off",
		     ifname, ifname);
}

static void check_queues(struct check *c)
{
	const char *ifname = c->cli->cfg.port_if;
	struct toe_if_queues q;

	if (strcmp(c->cli->cfg.port_driver, "af_xdp") != 0)
		return;
	toe_if_queues(ifname, &q);
	if (q.rx > 1)
		item(c, FAIL, "queues",
		     "%s has %u receive queues, af_xdp takes the first one's frames only: ethtool "
		     "-L %s %s 1",
		     ifname, q.rx, ifname, q.what);
	else
		item(c, OK, "queues", "one receive queue, as af_xdp wants");
}

static void check_port(struct check *c)
{
	const struct toe_config *cfg = &c->cli->cfg;
	struct ifreq ifr = {0};
	int sock;

	if (strcmp(cfg->port_driver, "pci") == 0) {
		snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "pci");
		item(c, OK, "port", "PCI device %s: bind it to vfio-pci (dpdk-devbind.py)",
		     cfg->port_pci);
		return;
	}
	sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", cfg->port_if);
	if (ioctl(sock, SIOCGIFMTU, &ifr) < 0) {
		item(c, FAIL, "port",
		     "no interface %s here: set port.interface in the configuration, see `ip "
		     "link`; in a testbed: ip netns exec toe-srv toe check",
		     cfg->port_if);
	} else if ((uint32_t)ifr.ifr_mtu < cfg->mtu) {
		item(c, FAIL, "port", "MTU of %s is %d, port.mtu is %u: make them equal",
		     cfg->port_if, ifr.ifr_mtu, cfg->mtu);
	} else if (ioctl(sock, SIOCGIFHWADDR, &ifr) == 0 &&
		   ifr.ifr_hwaddr.sa_family != ARPHRD_ETHER) {
		item(c, FAIL, "port", "%s is not an Ethernet interface: set port.interface",
		     cfg->port_if);
	} else {
		item(c, OK, "port", "%s, MTU %u, driver %s", cfg->port_if, cfg->mtu,
		     cfg->port_driver);
		check_offloads(c, sock);
		check_queues(c);
	}
	close(sock);
}

/* Of the port, or of the TAP if the engine has them: the first one, and how many there are. */
static unsigned first_ipv6(const struct toe_config *cfg, const struct ifaddrs *list,
			   bool link_local, char *text, socklen_t len)
{
	unsigned n = 0;

	for (const struct ifaddrs *a = list; a; a = a->ifa_next) {
		const struct sockaddr_in6 *in6 = (const void *)a->ifa_addr;

		if (!in6 || in6->sin6_family != AF_INET6 ||
		    !!IN6_IS_ADDR_LINKLOCAL(&in6->sin6_addr) != link_local ||
		    (strcmp(a->ifa_name, cfg->port_if) != 0 &&
		     strcmp(a->ifa_name, cfg->tap_if) != 0))
			continue;
		if (n++ == 0)
			inet_ntop(AF_INET6, &in6->sin6_addr, text, len);
	}
	return n;
}

static void check_addresses(struct check *c)
{
	const struct toe_config *cfg = &c->cli->cfg;
	char global[INET6_ADDRSTRLEN] = "none";
	char link[INET6_ADDRSTRLEN] = "none";
	struct ifaddrs *list = NULL;
	unsigned n;

	if (getifaddrs(&list) < 0)
		return;
	n = first_ipv6(cfg, list, false, global, sizeof(global));
	first_ipv6(cfg, list, true, link, sizeof(link));
	freeifaddrs(list);
	if (cfg->address6[0])
		snprintf(global, sizeof(global), "%.*s", (int)sizeof(global) - 1, cfg->address6);
	if (!cfg->address[0] && strcmp(global, "none") == 0)
		item(c, WARN, "addresses",
		     "port.address is empty, no IPv6 address on %s: listeners stay the kernel's",
		     cfg->port_if);
	else
		item(c, OK, "addresses", "IPv4 %s, IPv6 %s%s, link-local %s",
		     cfg->address[0] ? cfg->address : "none", global, n > 1 ? " (of several)" : "",
		     link);
}

static void check_engine(struct check *c)
{
	int sock = cli_keeper(c->cli);

	if (sock >= 0) {
		item(c, OK, "engine", "is running in %s", c->cli->cfg.run_dir);
		close(sock);
	} else {
		item(c, OK, "engine", "is not running in %s", c->cli->cfg.run_dir);
	}
}

int cmd_check(struct cli *cli, int argc, char **argv)
{
	static void (*const checks[])(struct check *) = {
		check_privileges, check_programs, check_dpdk,      check_tun,
		check_nft,        check_kernel,   check_hugepages, check_limits,
		check_cpus,       check_port,     check_addresses, check_engine,
	};
	struct check c = {.cli = cli};
	int rc = cli_no_arguments(cli, argc, argv);

	if (rc >= 0)
		return rc;
	c.items = json_array();
	item(&c, OK, "configuration", "%s",
	     cli->cfg.path[0] ? cli->cfg.path : "built-in, there is no " CLI_CONFIG_DEFAULT);
	for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++)
		checks[i](&c);
	if (toe_config_doubt(&cli->cfg))
		item(&c, WARN, "mqtt", "%s", toe_config_doubt(&cli->cfg));
	if (cli->json)
		cli_print_json(c.items);
	else if (c.failed)
		printf("%u to fix\n", c.failed);
	json_decref(c.items);
	return c.failed ? CLI_FAILED : CLI_OK;
}
