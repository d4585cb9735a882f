/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Starts and stops DPDK: makes the EAL arguments out of the configuration (lcores, port, memory,
 * file prefix), checks first what usually is wrong, and says it in one line.  Main thread only;
 * owns the argument strings, which EAL keeps pointers to.
 */
#include <errno.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_log.h>

#include "common/dpdk_dir.h"
#include "common/log.h"
#include "engine_priv.h"
#include "fail.h"

#define ARGS_MAX      64u
#define ARG_BYTES     512u
#define SMALL_FRAME   2048u /* bytes per frame of the af_packet ring; data starts at byte 66 */
#define JUMBO_FRAME   9216u
#define SMALL_FRAME_N 4096u /* frames each way, in memory of the kernel: 16 MiB, jumbo 18 MiB */
#define JUMBO_FRAME_N 1024u
#define XDP_MBUFS_MIN 4096u

struct args {
	int n;
	char *v[ARGS_MAX + 1];
	char text[ARGS_MAX][ARG_BYTES];
};

__attribute__((format(printf, 2, 3))) static void add(struct args *a, const char *fmt, ...)
{
	va_list ap;

	TOE_CHECK(a->n < (int)ARGS_MAX);
	va_start(ap, fmt);
	TOE_CHECK(vsnprintf(a->text[a->n], ARG_BYTES, fmt, ap) < (int)ARG_BYTES);
	va_end(ap);
	a->v[a->n] = a->text[a->n];
	a->v[++a->n] = NULL;
}

static bool port_is_netdev(const struct toe_config *cfg)
{
	return strcmp(cfg->port_driver, "pci") != 0;
}

static int netdev_mtu(const char *name)
{
	struct ifreq ifr = {0};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int rc;

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	rc = fd < 0 ? -1 : ioctl(fd, SIOCGIFMTU, &ifr);
	if (fd >= 0)
		close(fd);
	return rc != 0 ? -1 : ifr.ifr_mtu;
}

unsigned toe_port_frame_mtu(const struct toe_config *cfg)
{
	int mtu = port_is_netdev(cfg) ? netdev_mtu(cfg->port_if) : -1;

	return mtu > (int)cfg->mtu && mtu <= 9000 ? (unsigned)mtu : cfg->mtu;
}

static unsigned lcm(unsigned a, unsigned b)
{
	unsigned x = a;
	unsigned y = b;

	while (y != 0) {
		unsigned t = x % y;

		x = y;
		y = t;
	}
	return a / x * b;
}

/* Frames have to fill a block exactly, and a block whole pages: the PMD takes the ring as one
 * array.  The PMD's default, past the qdisc, loses each frame for which the device has no room just
 * then; a qdisc keeps it. */
static void add_af_packet(struct args *a, const struct toe_config *cfg)
{
	bool jumbo = toe_port_frame_mtu(cfg) > TOE_JUMBO_MTU;
	unsigned frame = jumbo ? JUMBO_FRAME : SMALL_FRAME;
	unsigned want = jumbo ? JUMBO_FRAME_N : SMALL_FRAME_N;
	unsigned block = lcm(frame, (unsigned)sysconf(_SC_PAGESIZE));
	unsigned per_block;

	while (block < 32768u)
		block *= 2;
	per_block = block / frame;
	add(a,
	    "--vdev=net_af_packet0,iface=%s,qpairs=1,blocksz=%u,framesz=%u,framecnt=%u,"
	    "qdisc_bypass=0",
	    cfg->port_if, block, frame, (want + per_block - 1) / per_block * per_block);
}

static void add_port(struct args *a, const struct toe_config *cfg)
{
	if (!port_is_netdev(cfg)) {
		add(a, "--allow=%s", cfg->port_pci);
		return;
	}
	add(a, "--no-pci");
	if (strcmp(cfg->port_driver, "af_xdp") == 0)
		add(a, "--vdev=net_af_xdp0,iface=%s,busy_budget=0", cfg->port_if);
	else
		add_af_packet(a, cfg);
}

static void add_lcores(struct args *a, const struct toe_config *cfg)
{
	char map[ARG_BYTES] = "";
	int n = 0;

	for (unsigned i = 0; i < cfg->lcore_n && n < (int)sizeof(map); i++)
		n += snprintf(map + n, sizeof(map) - (size_t)n, "%s%u@%u", i == 0 ? "" : ",", i,
			      (unsigned)strtoul(cfg->lcores[i], NULL, 10));
	add(a, "--lcores=%s", map);
	add(a, "--main-lcore=0");
}

/* Free hugepages, and a file system to take them from. */
static bool hugepages_usable(void)
{
	char line[512];
	unsigned long pages = 0;
	bool mounted = false;
	FILE *f = fopen("/proc/meminfo", "re");

	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		if (strncmp(line, "HugePages_Free:", 15) == 0)
			pages = strtoul(line + 15, NULL, 10);
	}
	if (f != NULL)
		fclose(f);
	f = fopen("/proc/mounts", "re");
	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
		mounted |= strstr(line, " hugetlbfs ") != NULL;
	if (f != NULL)
		fclose(f);
	return pages != 0 && mounted;
}

static void add_memory(struct args *a, const struct toe_config *cfg)
{
	unsigned need = toe_engine_memory_mb(cfg);
	unsigned mb = cfg->memory_mb < need ? need : cfg->memory_mb;

	if (cfg->hugepages && hugepages_usable()) {
		add(a, "--huge-unlink=always");
		return;
	}
	if (cfg->hugepages)
		LOG_WARN("no free hugepages or no hugetlbfs mount: running without (slower); for "
			 "%u MB: sysctl vm.nr_hugepages=%u, or set port.hugepages = false",
			 mb, mb / 2);
	add(a, "--no-huge");
	add(a, "-m");
	add(a, "%u", mb);
}

/* What is wrong in practice, before EAL hides it behind an error number. */
static int check_environment(const struct toe_config *cfg, char *err, size_t err_len)
{
	int fd;

	if (!port_is_netdev(cfg)) {
		if (cfg->port_pci[0] == '\0')
			return fail(err, err_len,
				    "port.driver is pci: set port.pci, see dpdk-devbind.py -s");
		return 0;
	}
	if (if_nametoindex(cfg->port_if) == 0)
		return fail(err, err_len,
			    "interface \"%s\" is not in this network namespace: set port.interface "
			    "(have a look: ip link)",
			    cfg->port_if);
	if (strcmp(cfg->port_driver, "af_xdp") == 0 && toe_port_frame_mtu(cfg) > TOE_JUMBO_MTU)
		return fail(
			err, err_len,
			"driver af_xdp carries an MTU of at most %u: lower port.mtu and that of "
			"%s, or set port.driver = \"af_packet\"",
			TOE_JUMBO_MTU, cfg->port_if);
	if (strcmp(cfg->port_driver, "af_xdp") == 0 && cfg->mbufs < XDP_MBUFS_MIN)
		return fail(err, err_len,
			    "driver af_xdp keeps 2048 packet buffers for itself: set "
			    "pipeline.mbufs = %u or more",
			    XDP_MBUFS_MIN);
	fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return fail(err, err_len, "no packet socket (%s): run as root or with CAP_NET_RAW",
			    strerror(errno));
	close(fd);
	return 0;
}

static int write_prefix(const struct toe_config *cfg, const char *prefix)
{
	char path[256];
	FILE *f;
	int rc;

	if (mkdir(cfg->run_dir, 0755) != 0 && errno != EEXIST)
		return -errno;
	f = fopen(toe_config_path(cfg, "datapath.prefix", path, sizeof(path)), "we");
	if (f == NULL)
		return -errno;
	rc = fprintf(f, "%s\n", prefix) < 0 ? -EIO : 0;
	return fclose(f) != 0 ? -EIO : rc;
}

static void add_extra(struct args *a, const struct toe_config *cfg)
{
	char copy[sizeof(cfg->eal_args)];
	char *save = NULL;

	snprintf(copy, sizeof(copy), "%s", cfg->eal_args);
	for (char *w = strtok_r(copy, " \t", &save); w != NULL; w = strtok_r(NULL, " \t", &save))
		add(a, "%s", w);
}

int toe_eal_start(const struct toe_config *cfg, char *err, size_t err_len)
{
	static struct args a;
	char prefix[32];
	int rc;

	if (check_environment(cfg, err, err_len) != 0)
		return -1;
	toe_dpdk_prefix(cfg->run_dir, prefix, sizeof(prefix));
	rc = write_prefix(cfg, prefix);
	if (rc != 0)
		return fail(err, err_len, "cannot write into %s: %s", cfg->run_dir, strerror(-rc));
	a.n = 0;
	add(&a, "toe-datapath");
	add(&a, "--file-prefix=%s", prefix);
	add(&a, "--iova-mode=va");
	add(&a, "--log-level=%s", getenv("TOE_EAL_LOG") != NULL ? getenv("TOE_EAL_LOG") : "error");
	add_lcores(&a, cfg);
	add_memory(&a, cfg);
	add_port(&a, cfg);
	add_extra(&a, cfg);
	if (rte_eal_init(a.n, a.v) >= 0)
		return 0;
	return fail(err, err_len,
		    "DPDK did not start (%s); TOE_EAL_LOG=debug shows why. Memory asked for: %u MB",
		    rte_strerror(rte_errno), toe_engine_memory_mb(cfg));
}

void toe_eal_stop(const struct toe_config *cfg)
{
	char path[256];

	unlink(toe_config_path(cfg, "datapath.prefix", path, sizeof(path)));
	rte_eal_cleanup();
}
