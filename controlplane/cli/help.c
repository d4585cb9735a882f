// SPDX-License-Identifier: BSD-3-Clause
/*
 * What toe COMMAND --help says besides the command's lines: its options, and an example to type.
 * Constant data.
 */
#include "cli.h"

#include <string.h>

static const struct {
	const char *name;
	const char *options; /* "": none of its own */
	const char *example;
} commands[] = {
	{"up",
	 "  --foreground    do not return: log to stderr, and tell a service manager "
	 "(NOTIFY_SOCKET);\n"
	 "                  ends with 1 when the data path dies\n",
	 "toe up --config /etc/toe/toe.conf"},
	{"down", "", "toe down"},
	{"status", "", "toe status --json"},
	{"run",
	 "  --fallback      where there is no engine run CMD on the kernel, after a warning\n",
	 "toe run -- mosquitto -c /etc/mosquitto/mosquitto.conf"},
	{"stats",
	 "  --all           what is zero, too\n"
	 "  --unsupported   what programs asked for that was left to the kernel or refused\n",
	 "toe stats drops"},
	{"conns", "  --brief         one line each\n", "toe conns --brief"},
	{"listeners", "", "toe listeners"},
	{"mqtt", "  --closed        with filter add: nobody unseen subscribes to these topics\n",
	 "toe mqtt filter add 'sensors/#'"},
	{"check", "", "toe check --config /etc/toe/toe.conf"},
	{"config", "  --sample        every option with its default and meaning\n",
	 "toe config --sample >my.conf"},
	{"testbed",
	 "  --prefix NAME        of the namespaces NAME-srv and NAME-cli, default toe\n"
	 "  --set KEY=VALUE      of the engine's configuration, like tcp.ecn=false\n"
	 "  --config-extra FILE  more lines of configuration for it\n",
	 "toe testbed up --config-extra mqtt.conf"},
};

void cli_help_common(FILE *out)
{
	fprintf(out,
		"options of every command, behind it or in front:\n"
		"  --config FILE   configuration, default " CLI_CONFIG_DEFAULT " if it exists\n"
		"  --run-dir DIR   which engine: directory of its sockets "
		"(default " TOE_RUN_DIR_DEFAULT ", or\n"
		"                  environment " TOE_ENV_RUN_DIR
		", or run_dir of the configuration)\n"
		"  --json          answer in JSON (commands that read)\n"
		"  --help          behind a command: its options, and an example\n");
}

void cli_help_of(FILE *out, const char *name)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(commands[i].name, name) != 0)
			continue;
		if (commands[i].options[0])
			fprintf(out, "\noptions:\n%s", commands[i].options);
		fputc('\n', out);
		cli_help_common(out);
		fprintf(out, "\nexample: %s\n", commands[i].example);
	}
}
