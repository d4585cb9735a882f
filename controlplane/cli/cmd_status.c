// SPDX-License-Identifier: BSD-3-Clause
/* toe status: asks the keeper what is running.  In: STATUS; out: a few lines, or JSON. */
#include "cli.h"

#include <arpa/inet.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/ctl_sock.h"

#define STATUS_LIMIT_MS 5000

/* Seconds since the keeper wrote its pid file. */
static long up_seconds(const struct cli *cli)
{
	char path[128];
	struct stat st;

	if (stat(toe_config_path(&cli->cfg, "keeper.pid", path, sizeof(path)), &st) < 0)
		return 0;
	return (long)(time(NULL) - st.st_mtime);
}

static json_t *offloads(uint32_t caps)
{
	return json_pack("{s:b, s:b, s:b, s:b, s:b}", "tx_ip_checksum",
			 (caps & TOE_PORT_TX_IP_CKSUM) != 0, "tx_tcp_checksum",
			 (caps & TOE_PORT_TX_TCP_CKSUM) != 0, "rx_ip_checksum",
			 (caps & TOE_PORT_RX_IP_CKSUM) != 0, "rx_tcp_checksum",
			 (caps & TOE_PORT_RX_TCP_CKSUM) != 0, "tso", (caps & TOE_PORT_TX_TSO) != 0);
}

/* RFC 5952, as inet_ntop() writes; none: "". */
static void ipv6_text(const uint8_t addr[16], char *buf, socklen_t len)
{
	static const uint8_t none[16];

	buf[0] = '\0';
	if (memcmp(addr, none, sizeof(none)) != 0)
		inet_ntop(AF_INET6, addr, buf, len);
}

static json_t *to_json(const struct cli *cli, const struct toe_ctl_engine *e)
{
	char mac[18];
	char address[INET_ADDRSTRLEN] = "";
	char global[INET6_ADDRSTRLEN] = "";
	char link[INET6_ADDRSTRLEN] = "";

	snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", e->port_mac[0], e->port_mac[1],
		 e->port_mac[2], e->port_mac[3], e->port_mac[4], e->port_mac[5]);
	if (e->port_ipv4)
		inet_ntop(AF_INET, &e->port_ipv4, address, sizeof(address));
	ipv6_text(e->port_ipv6[0], global, sizeof(global));
	ipv6_text(e->port_ipv6[1], link, sizeof(link));
	return json_pack("{s:b, s:I, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:o, s:i, s:i, s:i, "
			 "s:i, s:i, s:i}",
			 "up", (int)e->up, "up_s", (json_int_t)up_seconds(cli), "run_dir",
			 cli->cfg.run_dir, "port", e->port, "tap", e->tap, "address", address,
			 "ipv6", global, "ipv6_link_local", link, "mac", mac, "mtu", (int)e->mtu,
			 "offloads", offloads(e->port_caps), "keeper_pid", (int)e->keeper_pid,
			 "datapath_pid", (int)e->datapath_pid, "controlplane_pid",
			 (int)e->controlplane_pid, "controlplane_restarts", (int)e->cp_restarts,
			 "applications", (int)e->apps, "processes", (int)e->procs);
}

/* The keeper knows of connections past the engine, the control plane of applications. */
static void add_kernel_conns(json_t *cp, const struct toe_ctl_engine *e)
{
	json_t *app;
	size_t i;

	json_array_foreach(json_object_get(cp, "apps"), i, app)
	{
		json_int_t id = json_integer_value(json_object_get(app, "app"));

		if (id >= 0 && id < TOE_CTL_APP_N)
			json_object_set_new(app, "kernel_conns", json_integer(e->kernel_conns[id]));
	}
}

static const char *text(const json_t *j, const char *key)
{
	const char *s = json_string_value(json_object_get(j, key));

	return s && *s ? s : "-";
}

static int number(const json_t *j, const char *key)
{
	return (int)json_integer_value(json_object_get(j, key));
}

/* What the driver of the port offers; the engine uses the checksums. */
static void print_offloads(const json_t *o)
{
	const char *key;
	json_t *on;
	int n = 0;

	printf("offloads      ");
	json_object_foreach((json_t *)o, key, on)
	{
		if (!json_is_true(on))
			continue;
		printf(" %s%s", key, strcmp(key, "tso") == 0 ? " (not used)" : "");
		n++;
	}
	printf("%s\n", n ? "" : " none: the engine computes checksums");
}

static void print(const json_t *j)
{
	long up = (long)number(j, "up_s");

	printf("engine         %s for %ldd %02ld:%02ld:%02ld, run directory %s\n",
	       json_is_true(json_object_get(j, "up")) ? "up" : "not ready", up / 86400,
	       up / 3600 % 24, up / 60 % 60, up % 60, text(j, "run_dir"));
	printf("port           %s, MAC %s, MTU %d\n", text(j, "port"), text(j, "mac"),
	       number(j, "mtu"));
	print_offloads(json_object_get(j, "offloads"));
	printf("address        %s on TAP %s\n", text(j, "address"), text(j, "tap"));
	if (*text(j, "ipv6") != '-' || *text(j, "ipv6_link_local") != '-')
		printf("IPv6           %s, link-local %s\n", text(j, "ipv6"),
		       text(j, "ipv6_link_local"));
	printf("applications   %d with %d processes\n", number(j, "applications"),
	       number(j, "processes"));
	printf("keeper         process %d\n", number(j, "keeper_pid"));
	printf("datapath       process %d\n", number(j, "datapath_pid"));
	if (number(j, "controlplane_pid"))
		printf("control plane  process %d, restarted %d times\n",
		       number(j, "controlplane_pid"), number(j, "controlplane_restarts"));
	else
		printf("control plane  being restarted, %d times so far\n",
		       number(j, "controlplane_restarts"));
}

/* What the control plane adds: connections, and a line for each application. */
static void print_controlplane(const json_t *cp)
{
	const json_t *apps = json_object_get(cp, "apps");

	if (!cp)
		return;
	printf("connections    %d of %d, %d half open, %d in TIME-WAIT, %d orphans\n",
	       number(cp, "connections"), number(cp, "connections_max"), number(cp, "half_open"),
	       number(cp, "time_wait"), number(cp, "orphans"));
	if (json_array_size(apps) > 0) {
		putchar('\n');
		cli_print_table(stdout, apps);
	}
}

static int without_keeper(const struct cli *cli, int error)
{
	struct cli_left left;
	char names[256];
	json_t *j;

	cli_left_over(cli, &left);
	if (!cli->json && left.n == 0)
		return cli_nothing_left(cli, &left, error);
	if (!cli->json) {
		cli_left_names(&left, names, sizeof(names));
		cli_fail(cli,
			 "no engine is running in %s; a killed engine left %s taken over: "
			 "toe down",
			 cli->cfg.run_dir, names);
		return CLI_NOT_RUNNING;
	}
	j = json_pack("{s:b, s:s, s:[]}", "up", 0, "run_dir", cli->cfg.run_dir, "taken_over");
	for (unsigned i = 0; i < left.n; i++)
		json_array_append_new(json_object_get(j, "taken_over"), json_string(left.ports[i]));
	cli_print_json(j);
	json_decref(j);
	return CLI_NOT_RUNNING;
}

int cmd_status(struct cli *cli, int argc, char **argv)
{
	int rc = cli_no_arguments(cli, argc, argv);
	struct toe_ctl_msg m;
	int fds[TOE_CTL_FDS_MAX];
	unsigned nfds = 0;
	json_t *j;
	json_t *cp;
	int sock;

	if (rc >= 0)
		return rc;
	sock = cli_keeper(cli);
	if (sock < 0)
		return without_keeper(cli, sock);
	toe_ctl_init(&m, TOE_CTL_STATUS);
	rc = toe_ctl_call(sock, &m, NULL, 0, fds, TOE_CTL_FDS_MAX, &nfds, STATUS_LIMIT_MS);
	close(sock);
	if (rc < 0)
		return cli_fail(cli, "toe-keeper does not answer: %s", strerror(-rc));
	m.u.engine.port[sizeof(m.u.engine.port) - 1] = '\0';
	m.u.engine.tap[sizeof(m.u.engine.tap) - 1] = '\0';
	j = to_json(cli, &m.u.engine);
	cp = m.u.engine.controlplane_pid ? cli_control(cli, "status", &rc) : NULL;
	if (cp) {
		add_kernel_conns(cp, &m.u.engine);
		json_object_set_new(j, "controlplane", cp);
	}
	if (cli->json) {
		cli_print_json(j);
	} else {
		print(j);
		print_controlplane(cp);
	}
	json_decref(j);
	return CLI_OK;
}
