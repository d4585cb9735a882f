// SPDX-License-Identifier: BSD-3-Clause
/*
 * toe testbed: two network namespaces joined by a veth pair, an engine in one, the kernel's stack
 * in the other.
 *
 *   NAME-srv: toe0 (the port), toe-tap 10.99.0.1/24  ----  NAME-cli: cli0 10.99.0.2/24
 *                                      fd00:99::1/64                       fd00:99::2/64
 *
 * Both ends have the MTU port.mtu.  In: --prefix NAME (default toe), settings; out: addresses and
 * what to type next, or JSON.  `down` undoes everything, whatever state a crash has left; programs
 * of the user in the namespaces are named, not killed.
 */
#include "cli.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <time.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/dpdk_dir.h"
#include "controlplane/keeper/port_lock.h"

#define SETTINGS_MAX   32u
#define SERVER_ADDRESS "10.99.0.1"
#define CLIENT_ADDRESS "10.99.0.2"
#define PREFIX_LEN     "/24"
#define SERVER_IPV6    "fd00:99::1"
#define CLIENT_IPV6    "fd00:99::2"
#define PREFIX_LEN6    "/64"
#define LINK_TRIES     150 /* of 20 ms */
#define GONE_TRIES     50  /* of 100 ms */
#define LINE_BYTES     2048

struct testbed {
	struct cli *cli;
	char server[40]; /* namespaces */
	char client[40];
	char config[128];
	const char *extra;
	const char *self; /* this program */
	char *settings[SETTINGS_MAX];
	unsigned setting_n;
	unsigned mtu; /* port.mtu */
};

/* Root of a user namespace cannot make named network namespaces. */
static bool real_root(void)
{
	unsigned long inside, outside, count;
	FILE *f = fopen("/proc/self/uid_map", "re");
	int n = f ? fscanf(f, "%lu %lu %lu", &inside, &outside, &count) : 0;

	if (f)
		fclose(f);
	return n != 3 || (inside == 0 && outside == 0 && count == UINT32_MAX);
}

static bool netns_exists(const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/run/netns/%s", name);
	return access(path, F_OK) == 0;
}

/* ---- up ---- */

/* Runs the words, split at blanks; says what failed. */
static int step(const struct testbed *t, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static int step(const struct testbed *t, const char *fmt, ...)
{
	char line[512];
	char shown[512];
	char out[512];
	char *argv[32];
	char *save = NULL;
	int n = 0;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	memcpy(shown, line, sizeof(shown));
	for (char *w = strtok_r(line, " ", &save); w && n < 31; w = strtok_r(NULL, " ", &save))
		argv[n++] = w;
	argv[n] = NULL;
	if (cli_run(argv, out, sizeof(out)) == 0)
		return 0;
	out[strcspn(out, "\n")] = '\0';
	return -cli_fail(t->cli, "%s: %s", shown, out);
}

/* The engine wants finished segments on the wire, and sees what it sends arrive unmerged; of a VLAN
 * tag beside the frame an XDP program knows nothing. */
#define NO_OFFLOADS "tx off rx off tso off gso off gro off txvlan off"

/* Nobody else can have them: no waiting for duplicate address detection.  From the port they move
 * to the TAP.  A machine may be without IPv6. */
static void add_ipv6(const struct testbed *t)
{
	if (access("/proc/net/if_inet6", F_OK) < 0 ||
	    step(t, "ip -n %s addr add " CLIENT_IPV6 PREFIX_LEN6 " dev cli0 nodad", t->client) <
		    0 ||
	    step(t, "ip -n %s addr add " SERVER_IPV6 PREFIX_LEN6 " dev toe0 nodad", t->server) < 0)
		cli_fail(t->cli, "warning: no IPv6 in this testbed");
}

static int make_network(const struct testbed *t)
{
	const char *s = t->server;
	const char *c = t->client;
	int rc = step(t, "ip netns add %s", s);

	if (rc == 0)
		rc = step(t, "ip netns add %s", c);
	if (rc == 0)
		rc = step(
			t,
			"ip link add toe0 mtu %u netns %s type veth peer name cli0 mtu %u netns %s",
			t->mtu, s, t->mtu, c);
	if (rc == 0)
		rc = step(t, "ip -n %s link set lo up", s);
	if (rc == 0)
		rc = step(t, "ip -n %s link set lo up", c);
	if (rc == 0)
		rc = step(t, "ip netns exec %s ethtool -K toe0 " NO_OFFLOADS, s);
	if (rc == 0)
		rc = step(t, "ip netns exec %s ethtool -K cli0 " NO_OFFLOADS, c);
	if (rc == 0)
		rc = step(t, "ip -n %s addr add " CLIENT_ADDRESS PREFIX_LEN " dev cli0", c);
	if (rc == 0)
		add_ipv6(t);
	if (rc == 0)
		rc = step(t, "ip -n %s link set cli0 up", c);
	if (rc == 0)
		rc = step(t, "ip -n %s link set toe0 up", s);
	return rc;
}

static int write_config(struct testbed *t)
{
	char *settings[SETTINGS_MAX + 3];
	struct toe_config check;
	char err[512];
	unsigned n = 0;

	if (mkdir(t->cli->cfg.run_dir, 0755) < 0 && errno != EEXIST)
		return -cli_fail(t->cli, "%s: %s", t->cli->cfg.run_dir, strerror(errno));
	settings[n++] = "port.interface=toe0";
	settings[n++] = "port.tap=toe-tap";
	settings[n++] = "port.address=" SERVER_ADDRESS PREFIX_LEN;
	for (unsigned i = 0; i < t->setting_n; i++)
		settings[n++] = t->settings[i];
	if (cli_write_config(t->extra, t->config, settings, n, err, sizeof(err)) < 0 ||
	    toe_config_load(&check, t->config, err, sizeof(err)) < 0)
		return -cli_fail(t->cli, "%s", err);
	t->mtu = check.mtu;
	return 0;
}

static int start_engine(const struct testbed *t)
{
	char out[LINE_BYTES];
	int rc = cli_runl(out, sizeof(out), "ip", "netns", "exec", t->server, t->self, "up",
			  "--config", t->config, (char *)NULL);

	if (rc == 0)
		return 0;
	fputs(out, stderr);
	return -cli_fail(t->cli, "the engine did not start: %s/log", t->cli->cfg.run_dir);
}

/* Until the kernel has noticed that both ends are up it drops what the client sends: up to 1 s. */
static void wait_link(const struct testbed *t)
{
	static const struct timespec pause = {.tv_nsec = 20000000};
	char out[LINE_BYTES];

	for (int i = 0; i < LINK_TRIES; i++) {
		cli_runl(out, sizeof(out), "ip", "-n", t->client, "-o", "link", "show", "cli0",
			 (char *)NULL);
		if (strstr(out, "state UP"))
			cli_runl(out, sizeof(out), "ip", "-n", t->server, "-o", "link", "show",
				 "toe0", (char *)NULL);
		if (strstr(out, "state UP") && strstr(out, "toe0"))
			return;
		nanosleep(&pause, NULL);
	}
	cli_fail(t->cli, "warning: the link between the namespaces is not up");
}

static void print_result(const struct testbed *t)
{
	json_t *j;
	const char *dir = t->cli->cfg.run_dir;
	bool plain = strcmp(dir, TOE_RUN_DIR_DEFAULT) == 0;
	char option[128] = "";

	if (!plain)
		snprintf(option, sizeof(option), " --run-dir %s", dir);
	if (t->cli->json) {
		j = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}",
			      "server_ns", t->server, "client_ns", t->client, "address",
			      SERVER_ADDRESS, "client_address", CLIENT_ADDRESS, "ipv6", SERVER_IPV6,
			      "client_ipv6", CLIENT_IPV6, "port", "toe0", "tap", "toe-tap",
			      "client_if", "cli0", "run_dir", dir, "config", t->config);
		cli_print_json(j);
		json_decref(j);
		return;
	}
	printf("engine at " SERVER_ADDRESS " and " SERVER_IPV6
	       " in namespace %s, clients at " CLIENT_ADDRESS " and " CLIENT_IPV6
	       " in namespace %s\n\n"
	       "next:\n"
	       "  ip netns exec %s %s run%s -- mosquitto -c my.conf\n"
	       "  ip netns exec %s mosquitto_sub -h " SERVER_ADDRESS " -t '#'\n"
	       "  %s conns%s; %s stats%s\n"
	       "  %s testbed down",
	       t->server, t->client, t->server, t->self, option, t->client, t->self, option,
	       t->self, option, t->self);
	if (!plain)
		printf(" --prefix %.*s", (int)(strlen(t->server) - 4), t->server);
	putchar('\n');
}

/* ---- down ---- */

/* Ends the engine by its own means, or by force if it has none left. */
static void stop_engine(const struct testbed *t)
{
	static const struct timespec pause = {.tv_nsec = 100000000};
	char out[LINE_BYTES];
	pid_t pid;

	if (netns_exists(t->server) && access(t->config, F_OK) == 0)
		cli_runl(out, sizeof(out), "ip", "netns", "exec", t->server, t->self, "down",
			 "--config", t->config, (char *)NULL);
	pid = cli_keeper_pid(t->cli);
	if (pid <= 0)
		return;
	kill(pid, SIGKILL); /* its children die with it */
	for (int i = 0; i < GONE_TRIES && cli_keeper_pid(t->cli) > 0; i++)
		nanosleep(&pause, NULL);
	cli_runl(out, sizeof(out), "ip", "netns", "exec", t->server, t->self, "down", "--config",
		 t->config, (char *)NULL);
}

static void name_survivors(const struct testbed *t, const char *ns)
{
	char out[LINE_BYTES];

	if (cli_runl(out, sizeof(out), "ip", "netns", "pids", ns, (char *)NULL) != 0)
		return;
	for (char *p = out; *p; p++) {
		if (*p == '\n')
			*p = ' ';
	}
	if (out[0])
		fprintf(stderr, "toe %s: still running in namespace %s, left alone: process %s\n",
			t->cli->name, ns, out);
}

static int remove_network(const struct testbed *t)
{
	const char *names[] = {t->server, t->client};
	char out[LINE_BYTES];
	int rc = 0;

	for (int i = 0; i < 2; i++) {
		if (!netns_exists(names[i]))
			continue;
		name_survivors(t, names[i]);
		/* a process inside would keep the pair alive; either end takes the other along */
		cli_runl(out, sizeof(out), "ip", "-n", names[i], "link", "del", i ? "cli0" : "toe0",
			 (char *)NULL);
		if (step(t, "ip netns del %s", names[i]) < 0)
			rc = -1;
	}
	return rc;
}

/* All that the engine and we put there; what is somebody else's stays, and the directory with it.
 */
static void remove_run_dir(const struct testbed *t)
{
	static const char *const files[] = {
		"testbed.conf",    "engine.conf",      "keeper.pid",     "datapath.prefix",
		TOE_KEEPER_SOCKET, TOE_CONTROL_SOCKET, TOE_MODULE_SOCKET};
	char path[PATH_MAX];
	char log[160];
	struct dirent *e;
	DIR *d;

	toe_dpdk_dir_remove(t->cli->cfg.run_dir); /* of a keeper that was killed */
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		unlink(toe_config_path(&t->cli->cfg, files[i], path, sizeof(path)));
	d = opendir(toe_config_path(&t->cli->cfg, "log", log, sizeof(log)));
	while (d && (e = readdir(d))) {
		snprintf(path, sizeof(path), "%s/%s", log, e->d_name);
		if (strstr(e->d_name, ".log"))
			unlink(path);
	}
	if (d)
		closedir(d);
	rmdir(log);
	rmdir(t->cli->cfg.run_dir);
}

static ino_t netns_of(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? st.st_ino : 0;
}

/* What is asked for is one engine: that in the testbed's namespace, of that run directory.  The
 * lock file of its port says whose it is, the keeper's namespace where it is. */
static bool is_its_engine(const struct testbed *t)
{
	const char *dir = t->cli->cfg.run_dir;
	int prefix = (int)(strlen(t->server) - strlen("-srv"));
	pid_t keeper = cli_keeper_pid(t->cli);
	struct kp_lock_head head;
	char path[96];
	ino_t server;

	snprintf(path, sizeof(path), "/run/netns/%s", t->server);
	server = netns_of(path);
	snprintf(path, sizeof(path), KP_LOCK_DIR "/" KP_LOCK_PREFIX "toe0.%llu.lock",
		 (unsigned long long)server);
	if (server != 0 && kp_lock_read(path, &head) && strcmp(head.run_dir, dir) != 0) {
		cli_fail(t->cli,
			 "the engine of testbed %.*s is that of %s: toe testbed down --prefix %.*s "
			 "--run-dir %s",
			 prefix, t->server, head.run_dir, prefix, t->server, head.run_dir);
		return false;
	}
	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)keeper);
	if (keeper > 0 && netns_of(path) != server) {
		cli_fail(t->cli, "the engine that runs in %s is not that of testbed %.*s", dir,
			 prefix, t->server);
		return false;
	}
	return true;
}

/* Exit status. */
static int down(const struct testbed *t)
{
	int rc;

	/* without either, an engine in that run directory is no testbed's */
	if (!netns_exists(t->server) && !netns_exists(t->client) && access(t->config, F_OK) < 0) {
		cli_fail(t->cli, "no testbed %.*s", (int)(strlen(t->server) - strlen("-srv")),
			 t->server);
		return CLI_NOT_RUNNING;
	}
	if (!is_its_engine(t))
		return CLI_FAILED;
	stop_engine(t);
	rc = remove_network(t);
	remove_run_dir(t);
	return rc < 0 ? CLI_FAILED : CLI_OK;
}

static int up(struct testbed *t)
{
	if (netns_exists(t->server) || netns_exists(t->client))
		return -cli_fail(t->cli,
				 "it is up already (namespace %s): toe testbed down --prefix %.*s",
				 netns_exists(t->server) ? t->server : t->client,
				 (int)(strlen(t->server) - strlen("-srv")), t->server);
	if (cli_keeper_pid(t->cli) > 0) /* undoing a failure would end it */
		return -cli_fail(t->cli,
				 "an engine is running in %s: toe down, or another testbed: "
				 "--prefix NAME",
				 t->cli->cfg.run_dir);
	if (!cli_in_path("ip") || !cli_in_path("ethtool"))
		return -cli_fail(t->cli, "needs ip and ethtool: apt-get install iproute2 ethtool");
	if (write_config(t) < 0) {
		unlink(t->config);
		rmdir(t->cli->cfg.run_dir);
		return -1;
	}
	if (make_network(t) == 0 && start_engine(t) == 0)
		return 0;
	stop_engine(t);
	remove_network(t); /* the logs stay: they say why */
	return -1;
}

/* ---- options ---- */

static int name_all(struct testbed *t, const char *prefix, bool run_dir_given)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789_-";
	struct toe_config *cfg = &t->cli->cfg;

	if (!*prefix || strlen(prefix) > 24 || strspn(prefix, allowed) != strlen(prefix)) {
		cli_fail(t->cli, "--prefix: 1 to 24 of a-z, 0-9, _ and -");
		return CLI_USAGE;
	}
	snprintf(t->server, sizeof(t->server), "%s-srv", prefix);
	snprintf(t->client, sizeof(t->client), "%s-cli", prefix);
	if (!run_dir_given) {
		if (strcmp(prefix, "toe") == 0)
			snprintf(cfg->run_dir, sizeof(cfg->run_dir), TOE_RUN_DIR_DEFAULT);
		else
			snprintf(cfg->run_dir, sizeof(cfg->run_dir), "/run/toe-%s", prefix);
	}
	setenv(TOE_ENV_RUN_DIR, cfg->run_dir, 1);
	toe_config_path(cfg, "testbed.conf", t->config, sizeof(t->config));
	return -1;
}

static int parse(struct testbed *t, int argc, char **argv, bool *is_up)
{
	static const struct option longs[] = {{"prefix", required_argument, NULL, 'p'},
					      {"set", required_argument, NULL, 's'},
					      {"config-extra", required_argument, NULL, 'x'},
					      CLI_COMMON_OPTIONS};
	const char *prefix = "toe";
	const char *dir = getenv(TOE_ENV_RUN_DIR);
	bool run_dir = dir && *dir;
	int opt;

	while ((opt = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		int rc = -1;

		if (opt == 'p') {
			prefix = optarg;
		} else if (opt == 'x' || opt == CLI_OPT_CONFIG) {
			t->extra = optarg;
		} else if (opt == 's' && t->setting_n < SETTINGS_MAX) {
			t->settings[t->setting_n++] = optarg;
		} else {
			run_dir |= opt == CLI_OPT_RUN_DIR;
			rc = cli_common(t->cli, opt);
		}
		if (rc >= 0)
			return rc;
	}
	if (optind + 1 != argc ||
	    (strcmp(argv[optind], "up") != 0 && strcmp(argv[optind], "down") != 0))
		return cli_usage(t->cli, "say up or down");
	*is_up = argv[optind][0] == 'u';
	return name_all(t, prefix, run_dir);
}

int cmd_testbed(struct cli *cli, int argc, char **argv)
{
	static char self[256];
	struct testbed t = {.cli = cli, .self = self};
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	bool is_up = false;
	int rc = parse(&t, argc, argv, &is_up);

	if (rc >= 0)
		return rc;
	self[n > 0 ? n : 0] = '\0';
	if (geteuid() != 0 || !real_root()) {
		cli_fail(cli, "needs root of the machine (CAP_SYS_ADMIN), to make namespaces");
		return CLI_NO_PERMISSION;
	}
	if (is_up) {
		if (up(&t) < 0)
			return CLI_FAILED;
		wait_link(&t);
		print_result(&t);
		return CLI_OK;
	}
	rc = down(&t);
	if (rc == CLI_OK)
		puts(cli->json ? "{\"up\": false}" : "testbed is down");
	return rc;
}
