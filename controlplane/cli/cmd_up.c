// SPDX-License-Identifier: BSD-3-Clause
/*
 * toe up, toe down: starts toe-keeper in the background and waits until it says how it went; asks
 * it to end, or restores what a killed one has left.
 */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/ctl_sock.h"
#include "controlplane/keeper/siblings.h"

#define UP_LIMIT_MS   60000
#define DOWN_LIMIT_MS 20000

/* Replaces this process. */
static void exec_keeper(const struct cli *cli, const char *keeper, const char *config,
			const char *mode, const char *port, int status_fd)
{
	const char *argv[10];
	char fd_text[16];
	int n = 0;

	argv[n++] = keeper;
	if (config[0]) {
		argv[n++] = "--config";
		argv[n++] = config;
	}
	if (mode)
		argv[n++] = mode;
	if (port) {
		argv[n++] = "--port";
		argv[n++] = port;
	}
	if (status_fd >= 0) {
		snprintf(fd_text, sizeof(fd_text), "%d", status_fd);
		argv[n++] = "--status-fd";
		argv[n++] = fd_text;
	}
	argv[n] = NULL;
	setenv(TOE_ENV_RUN_DIR, cli->cfg.run_dir, 1);
	execv(keeper, (char *const *)argv);
	fprintf(stderr, "%s: %s\n", keeper, strerror(errno));
	_exit(CLI_FAILED);
}

static int wait_status(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return CLI_FAILED;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : CLI_FAILED;
}

/* The keeper's one line; empty if it ends without. */
static void read_line(int fd, char *buf, size_t len)
{
	size_t n = 0;

	while (n + 1 < len) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		ssize_t got;
		int rc = poll(&p, 1, UP_LIMIT_MS);

		if (rc < 0 && errno == EINTR)
			continue;
		if (rc <= 0)
			break;
		got = read(fd, buf + n, len - n - 1);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		n += (size_t)got;
		if (memchr(buf, '\n', n))
			break;
	}
	buf[n] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
}

static int start(struct cli *cli, const char *keeper)
{
	char line[512];
	int p[2];
	pid_t pid;
	int rc;

	if (pipe(p) < 0)
		return cli_fail(cli, "pipe: %s", strerror(errno));
	fcntl(p[0], F_SETFD, FD_CLOEXEC);
	fflush(NULL);
	pid = fork();
	if (pid < 0)
		return cli_fail(cli, "fork: %s", strerror(errno));
	if (pid == 0) {
		setsid();
		exec_keeper(cli, keeper, cli->cfg.path, "--daemon", NULL, p[1]);
	}
	close(p[1]);
	read_line(p[0], line, sizeof(line));
	close(p[0]);
	if (strncmp(line, "ok ", 3) == 0) {
		if (!cli->json)
			puts(line + 3);
		else
			printf("{\"up\": true, \"run_dir\": \"%s\"}\n", cli->cfg.run_dir);
		return CLI_OK;
	}
	if (line[0] == '\0')
		kill(pid, SIGTERM); /* it says nothing: do not leave it behind */
	rc = wait_status(pid);      /* everything has been undone then */
	if (strncmp(line, "error ", 6) == 0)
		cli_fail(cli, "%s", line + 6);
	else
		cli_fail(cli, "toe-keeper ended with status %d: see %s/log/keeper.log", rc,
			 cli->cfg.run_dir);
	return rc == CLI_NO_PERMISSION ? rc : CLI_FAILED;
}

int cmd_up(struct cli *cli, int argc, char **argv)
{
	static const struct option longs[] = {{"foreground", no_argument, NULL, 'f'},
					      CLI_COMMON_OPTIONS};
	bool foreground = false;
	char keeper[256];
	int opt;

	while ((opt = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		int rc = opt == 'f' ? -1 : cli_common(cli, opt);

		foreground |= opt == 'f';
		if (rc >= 0)
			return rc;
	}
	if (optind < argc)
		return cli_usage(cli, "unexpected \"%s\"", argv[optind]);
	if (cli_load_config(cli) < 0)
		return CLI_FAILED;
	if (!toe_sibling("toe-keeper", keeper, sizeof(keeper)))
		return cli_fail(cli, "%s is missing: build it (make) or reinstall", keeper);
	if (toe_config_doubt(&cli->cfg))
		cli_fail(cli, "warning: %s", toe_config_doubt(&cli->cfg));
	if (foreground)
		exec_keeper(cli, keeper, cli->cfg.path, NULL, NULL, -1);
	return start(cli, keeper);
}

/* ---- down ---- */

/* One port (NULL: that of the configuration): 1 put back, 0 there was nothing, -1 after saying why.
 */
static int put_back(const struct cli *cli, const char *keeper, const char *config, const char *port)
{
	char line[512];
	int p[2];
	pid_t pid;

	if (pipe(p) < 0)
		return -cli_fail(cli, "pipe: %s", strerror(errno));
	fcntl(p[0], F_SETFD, FD_CLOEXEC);
	fflush(NULL);
	pid = fork();
	if (pid < 0)
		return -cli_fail(cli, "fork: %s", strerror(errno));
	if (pid == 0) {
		setenv("TOE_LOG", "warn", 0); /* what could not be restored */
		exec_keeper(cli, keeper, config, "--cleanup", port, p[1]);
	}
	close(p[1]);
	read_line(p[0], line, sizeof(line));
	close(p[0]);
	wait_status(pid);
	if (strncmp(line, "ok ", 3) == 0)
		return line[3] != '\0';
	return port ? -cli_fail(cli, "%s is not put back: %s", port,
				strncmp(line, "error ", 6) == 0 ? line + 6 : "toe-keeper failed")
		    : 0;
}

/* Without a keeper: what one that was killed has left taken over. */
static int clean_up(struct cli *cli, int error)
{
	struct cli_left left;
	char names[256];
	char keeper[256];
	const char *config;
	int rc = CLI_OK;

	cli_left_over(cli, &left);
	cli_left_names(&left, names, sizeof(names));
	config = left.known ? left.config : left.n > 0 ? "" : cli->cfg.path;
	if (geteuid() != 0 || !toe_sibling("toe-keeper", keeper, sizeof(keeper))) {
		if (left.n == 0)
			return cli_nothing_left(cli, &left, error);
		cli_fail(cli, "a killed engine left %s taken over: toe down as root", names);
		return CLI_NO_PERMISSION;
	}
	if (left.n == 0) {
		put_back(cli, keeper, config, NULL);
		return cli_nothing_left(cli, &left, error);
	}
	for (unsigned i = 0; i < left.n; i++) {
		if (put_back(cli, keeper, config, left.ports[i]) < 0)
			rc = CLI_FAILED;
	}
	if (rc == CLI_OK && cli->json)
		puts("{\"up\": false}");
	else if (rc == CLI_OK)
		printf("keeper was gone; put back %s\n", names);
	return rc;
}

int cmd_down(struct cli *cli, int argc, char **argv)
{
	int rc = cli_no_arguments(cli, argc, argv);
	struct toe_ctl_msg m;
	struct pollfd p;
	int fds[TOE_CTL_FDS_MAX];
	unsigned nfds;

	if (rc >= 0)
		return rc;
	p.fd = cli_keeper(cli);
	if (p.fd < 0) {
		if (p.fd == -ENOENT || p.fd == -ECONNREFUSED)
			return clean_up(cli, p.fd);
		return cli_no_engine(cli, p.fd);
	}
	toe_ctl_init(&m, TOE_CTL_DOWN);
	rc = toe_ctl_call(p.fd, &m, NULL, 0, fds, TOE_CTL_FDS_MAX, &nfds, DOWN_LIMIT_MS);
	if (rc == -EPERM || rc == -EACCES) {
		cli_fail(cli, "only root may stop the engine");
		return CLI_NO_PERMISSION;
	}
	if (rc < 0 && rc != -ECONNRESET)
		return cli_fail(cli, "toe-keeper does not end (%s): see %s/log/keeper.log",
				strerror(-rc), cli->cfg.run_dir);
	p.events = 0; /* it has answered: gone when its end hangs up */
	poll(&p, 1, DOWN_LIMIT_MS);
	close(p.fd);
	puts(cli->json ? "{\"up\": false}" : "engine is down");
	return CLI_OK;
}
