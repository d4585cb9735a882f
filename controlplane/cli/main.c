// SPDX-License-Identifier: BSD-3-Clause
/*
 * toe: the operator's command.
 *
 * In: command line; out: text or JSON on stdout, one line on stderr when something is wrong, exit
 * status as documented in help.  Each subcommand is a file cmd_*.c.  No state.
 */
#include "cli.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"

static const struct command {
	const char *name;
	const char *args;
	const char *text;
	int (*run)(struct cli *cli, int argc, char **argv);
} commands[] = {
	{"up", "[--foreground]", "start the engine", cmd_up},
	{"down", "",
	 "stop it and undo everything, what a killed one left, too; applications get ECONNRESET",
	 cmd_down},
	{"status", "", "is it up, and with what", cmd_status},
	{"run", "[--fallback] -- CMD...", "run a program on the engine", cmd_run},
	{"stats", "[--all] [--unsupported | stages|counters|drops|lcores|pools|graph [INSTANCE]]",
	 "counters of the pipeline", cmd_stats},
	{"conns", "[--brief]", "connections, like ss -ti", cmd_conns},
	{"listeners", "", "listening sockets", cmd_conns},
	{"mqtt", "check FILE", "what in a broker's configuration makes MQTT offload unsafe",
	 cmd_mqtt},
	{"mqtt", "status | slow | sessions | subs [FILTER]",
	 "what the MQTT stage does, why not more, for whom", cmd_mqtt},
	{"mqtt", "shadow | audit",
	 "does the broker deliver what the stage would: counts and advice, last differences",
	 cmd_mqtt},
	{"mqtt", "filter list | filter add FILTER [--closed] | filter del FILTER",
	 "topics it delivers, until the engine stops; --closed: nobody unseen subscribes",
	 cmd_mqtt},
	{"mqtt", "mode [on|shadow|suspend]",
	 "which it is; deliver; only decide, count and compare; nothing", cmd_mqtt},
	{"mqtt", "recheck FILE",
	 "after the broker got SIGHUP: check, and deliver again if nothing is unsafe", cmd_mqtt},
	{"check", "", "what is missing on this machine, and how to fix it", cmd_check},
	{"config", "[--sample]",
	 "check the configuration, or print all options; --json: with the values in force",
	 cmd_config},
	{"testbed", "up|down [--prefix NAME] [--set KEY=VALUE]... [--config-extra FILE]",
	 "two namespaces with an engine in one", cmd_testbed},
};
#define COMMAND_N (sizeof(commands) / sizeof(commands[0]))

static void help(FILE *out)
{
	fprintf(out, "usage: toe COMMAND [options]\n\n");
	for (size_t i = 0; i < COMMAND_N; i++)
		fprintf(out, "  toe %s%s%s\n      %s\n", commands[i].name,
			commands[i].args[0] ? " " : "", commands[i].args, commands[i].text);
	fprintf(out, "  toe version | help\n\n");
	cli_help_common(out);
	fprintf(out, "\nexit status: 0 ok, 1 failed, 2 wrong usage, 69 engine not running, "
		     "77 no permission\n"
		     "toe run ends with the status of CMD; 126/127 if CMD cannot be run\n");
}

int cli_fail(const struct cli *cli, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "toe %s: ", cli->name);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return CLI_FAILED;
}

int cli_usage(const struct cli *cli, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "toe %s: ", cli->name);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "; see toe %s --help\n", cli->name);
	return CLI_USAGE;
}

static const struct command *find(const char *name)
{
	for (size_t i = 0; i < COMMAND_N; i++) {
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	}
	return NULL;
}

/* A command may have several lines. */
static void usage_of(FILE *out, const char *name)
{
	const char *lead = "usage:";

	for (size_t i = 0; i < COMMAND_N; i++) {
		if (strcmp(commands[i].name, name) != 0)
			continue;
		fprintf(out, "%-6s toe %s%s%s\n         %s\n", lead, name,
			commands[i].args[0] ? " " : "", commands[i].args, commands[i].text);
		lead = "";
	}
	cli_help_of(out, name);
}

int cli_common(struct cli *cli, int opt)
{
	char path[PATH_MAX];

	switch (opt) {
	case CLI_OPT_JSON:
		cli->json = true;
		return -1;
	case CLI_OPT_CONFIG:
		cli->config = optarg;
		return -1;
	case CLI_OPT_RUN_DIR:
		if (optarg[0] == '\0')
			return cli_usage(cli, "--run-dir is empty: name a directory");
		/* children and the keeper's children find it there; they may be elsewhere */
		if (optarg[0] != '/') {
			if (!getcwd(path, sizeof(path) / 2))
				path[0] = '\0';
			snprintf(path + strlen(path), sizeof(path) - strlen(path), "/%s", optarg);
		} else {
			snprintf(path, sizeof(path), "%s", optarg);
		}
		if (strlen(path) >= sizeof(cli->cfg.run_dir)) {
			cli_fail(cli, "--run-dir: at most %zu characters",
				 sizeof(cli->cfg.run_dir) - 1);
			return CLI_USAGE;
		}
		setenv(TOE_ENV_RUN_DIR, path, 1);
		snprintf(cli->cfg.run_dir, sizeof(cli->cfg.run_dir), "%s", path);
		return -1;
	case CLI_OPT_HELP:
		usage_of(stdout, cli->name);
		return CLI_OK;
	default: /* getopt_long() has said what */
		return CLI_USAGE;
	}
}

int cli_no_arguments(struct cli *cli, int argc, char **argv)
{
	static const struct option longs[] = {CLI_COMMON_OPTIONS};
	int opt;

	while ((opt = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		int rc = cli_common(cli, opt);

		if (rc >= 0)
			return rc;
	}
	if (optind < argc)
		return cli_usage(cli, "unexpected \"%s\"", argv[optind]);
	return cli_load_config(cli) < 0 ? CLI_FAILED : -1;
}

int cli_load_config(struct cli *cli)
{
	char err[512];
	char path[PATH_MAX];
	const char *file = cli->config;

	if (!file && access(CLI_CONFIG_DEFAULT, F_OK) == 0)
		file = CLI_CONFIG_DEFAULT;
	if (!file)
		return 0;
	if (!realpath(file, path)) {
		cli_fail(cli, "%s: %s", file, strerror(errno));
		return -1;
	}
	if (toe_config_load(&cli->cfg, path, err, sizeof(err)) < 0) {
		cli_fail(cli, "%s", err);
		return -1;
	}
	return 0;
}

/* Options of every command may stand in front of it: behind it they are understood.  Index of the
 * command; argc: there is none. */
static int command_index(int argc, char **argv)
{
	int i = 1;

	while (i < argc) {
		if (strcmp(argv[i], "--run-dir") == 0 || strcmp(argv[i], "--config") == 0)
			i += 2;
		else if (strcmp(argv[i], "--json") == 0 ||
			 strncmp(argv[i], "--run-dir=", strlen("--run-dir=")) == 0 ||
			 strncmp(argv[i], "--config=", strlen("--config=")) == 0)
			i++;
		else
			break;
	}
	return i < argc ? i : argc;
}

int main(int argc, char **argv)
{
	static struct cli cli;
	static char program[64]; /* getopt_long() begins its messages with it */
	int at = command_index(argc, argv);
	const char *name = at < argc ? argv[at] : "";
	const struct command *c = find(name);

	toe_log_init("toe");
	toe_config_defaults(&cli.cfg);
	if (c) {
		cli.name = c->name;
		snprintf(program, sizeof(program), "toe %s", c->name);
		memmove(argv + 2, argv + 1, (size_t)(at - 1) * sizeof(*argv));
		argv[1] = program;
		return c->run(&cli, argc - 1, argv + 1);
	}
	if (strcmp(name, "version") == 0 || strcmp(name, "--version") == 0) {
		printf("toe %s (shared layout %u, fingerprint %08x)\n", TOE_VERSION,
		       TOE_ABI_VERSION, TOE_ABI_FINGERPRINT);
		return CLI_OK;
	}
	if (strcmp(name, "help") == 0 || strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
		help(stdout);
		return CLI_OK;
	}
	if (*name)
		fprintf(stderr, "toe: no %s \"%s\": see toe help\n",
			*name == '-' ? "option" : "command", name);
	else
		help(stderr);
	return CLI_USAGE;
}
