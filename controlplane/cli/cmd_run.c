// SPDX-License-Identifier: BSD-3-Clause
/*
 * toe run: registers an application and becomes the program, with libtoe.so preloaded.
 *
 * In: command; out: environment LD_PRELOAD, TOE_APP, TOE_RUN_DIR and an inherited socket to the
 * keeper (the application lives as long as that socket or a process of it).  Ends in exec.
 */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/broker_conf.h"
#include "common/ctl_sock.h"
#include "controlplane/keeper/siblings.h"

#define NEW_LIMIT_MS 10000
#define SOCKET_FD    100 /* beyond what programs expect: 3... is for socket activation */

static int exec_cmd(const struct cli *cli, char **cmd)
{
	int error;

	execvp(cmd[0], cmd);
	error = errno;
	cli_fail(cli, "%s: %s", cmd[0], strerror(error));
	return error == ENOENT ? 127 : 126;
}

static void set_preload(const char *lib)
{
	const char *old = getenv("LD_PRELOAD");
	char value[4096];

	if (old && *old)
		snprintf(value, sizeof(value), "%s:%s", lib, old);
	else
		snprintf(value, sizeof(value), "%s", lib);
	setenv("LD_PRELOAD", value, 1);
}

static void set_app(const struct toe_ctl_app *app, int sock)
{
	char value[16 + 2 * TOE_KEY_BYTES + 16];
	int at = snprintf(value, sizeof(value), "%u:", app->app_id);

	for (unsigned i = 0; i < TOE_KEY_BYTES; i++)
		at += snprintf(value + at, sizeof(value) - (size_t)at, "%02x", app->key[i]);
	snprintf(value + at, sizeof(value) - (size_t)at, ":%d", sock);
	setenv(TOE_ENV_APP, value, 1);
}

/* Is the engine's TAP an interface of our network namespace?  Unlike the keeper's entry in /proc it
 * can be looked at by everybody; its index alone may be another one's elsewhere. */
static bool tap_is_here(const struct toe_ctl_engine *e)
{
	struct ifreq ifr = {0};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool here;

	if (fd < 0)
		return true; /* not known: nothing is said */
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%.*s", (int)sizeof(e->tap) - 1, e->tap);
	here = if_nametoindex(ifr.ifr_name) == (unsigned)e->tap_ifindex &&
	       ioctl(fd, SIOCGIFHWADDR, &ifr) == 0 &&
	       memcmp(ifr.ifr_hwaddr.sa_data, e->port_mac, sizeof(e->port_mac)) == 0;
	close(fd);
	return here;
}

/* The program may go on to the right one itself, so it is started all the same. */
static void check_namespace(const struct cli *cli, int sock, const char *cmd)
{
	int fds[TOE_CTL_FDS_MAX];
	unsigned nfds = 0;
	struct toe_ctl_msg m;

	toe_ctl_init(&m, TOE_CTL_STATUS);
	if (toe_ctl_call(sock, &m, NULL, 0, fds, TOE_CTL_FDS_MAX, &nfds, NEW_LIMIT_MS) < 0 ||
	    tap_is_here(&m.u.engine))
		return; /* what is wrong with the keeper, the next question says */
	cli_fail(cli,
		 "WARNING: %s runs on the kernel, not offloaded: the engine is in another network "
		 "namespace; ip netns exec NAMESPACE toe run ...",
		 cmd);
}

/* Registers and prepares the environment.  0, or the exit status after saying why. */
static int prepare(const struct cli *cli, const char *lib, const char *cmd)
{
	const char *base = strrchr(cmd, '/');
	int fds[TOE_CTL_FDS_MAX];
	unsigned nfds = 0;
	struct toe_ctl_msg m;
	int sock = cli_keeper(cli);
	int high;
	int rc;

	if (sock < 0)
		return cli_no_engine(cli, sock);
	check_namespace(cli, sock, cmd);
	toe_ctl_init(&m, TOE_CTL_APP_NEW);
	m.u.app.pid = getpid();
	snprintf(m.u.app.name, sizeof(m.u.app.name), "%s", base ? base + 1 : cmd);
	rc = toe_ctl_call(sock, &m, NULL, 0, fds, TOE_CTL_FDS_MAX, &nfds, NEW_LIMIT_MS);
	if (rc == -EUSERS)
		return cli_fail(cli, "the engine has all applications it can serve: raise "
				     "limits.applications (at most 64)");
	if (rc == -EPROTO)
		return cli_fail(cli, "the engine is another version: rebuild or restart it");
	if (rc < 0)
		return cli_fail(cli, "toe-keeper: %s", strerror(-rc));
	high = fcntl(sock, F_DUPFD, SOCKET_FD); /* inherited, so not close-on-exec */
	if (high < 0) {
		high = sock;
		fcntl(sock, F_SETFD, 0);
	} else {
		close(sock);
	}
	set_preload(lib);
	set_app(&m.u.app, high);
	setenv(TOE_ENV_RUN_DIR, cli->cfg.run_dir, 1);
	return 0;
}

/* What is unsafe is the operator's decision; here it is only said. */
static void check_broker(const struct cli *cli, char *const *cmd)
{
	const char *file = broker_conf_of(cmd);

	if (file)
		setenv(TOE_ENV_BROKER, file, 1); /* for libtoe: it is read again there */
	else
		unsetenv(TOE_ENV_BROKER);
	if (file && cli_mqtt_active(cli))
		broker_conf_print(stderr, "toe run: ", file);
}

int cmd_run(struct cli *cli, int argc, char **argv)
{
	static const struct option longs[] = {{"fallback", no_argument, NULL, 'f'},
					      CLI_COMMON_OPTIONS};
	bool fallback = false;
	char lib[256];
	int opt;
	int rc;

	while ((opt = getopt_long(argc, argv, "+", longs, NULL)) != -1) {
		rc = opt == 'f' ? -1 : cli_common(cli, opt);
		fallback |= opt == 'f';
		if (rc >= 0)
			return rc;
	}
	if (optind >= argc)
		return cli_usage(cli, "say which program: toe run -- CMD");
	if (cli_load_config(cli) < 0)
		return CLI_FAILED;
	if (!toe_sibling("libtoe.so", lib, sizeof(lib)))
		rc = cli_fail(cli, "%s is missing: build it (make) or reinstall", lib);
	else if (strpbrk(lib, " :"))
		rc = cli_fail(cli, "%s: LD_PRELOAD cannot carry blanks and colons: move it", lib);
	else
		rc = prepare(cli, lib, argv[optind]);
	if (rc != 0 && !fallback)
		return rc;
	if (rc != 0)
		fprintf(stderr, "toe run: WARNING: %s runs on the kernel, not offloaded\n",
			argv[optind]);
	else
		check_broker(cli, &argv[optind]);
	return exec_cmd(cli, &argv[optind]);
}
