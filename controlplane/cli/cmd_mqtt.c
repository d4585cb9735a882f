// SPDX-License-Identifier: BSD-3-Clause
/*
 * toe mqtt: the MQTT stage, and what of a broker's configuration concerns it.
 *
 * In: the name of a subcommand and its arguments; out: text or JSON.  A line of the table is either
 * a function here or a command of the datapath's telemetry ("/toe/mqtt/NAME"), whose answer is
 * shown as it comes: an object of objects as a table, an array of objects likewise, values line by
 * line.
 */
#include "cli.h"

#include <errno.h>
#include <string.h>

#include "broker_conf.h"

#define FINDINGS_MAX  256
#define TELEMETRY_MAX 512 /* of a command with its arguments */

static int mqtt_check(struct cli *cli, int argc, char **argv);

static const struct sub {
	const char *name;
	int args_min;
	int args_max;
	int (*run)(struct cli *cli, int argc, char **argv); /* positional arguments only */
	const char *telemetry;                              /* if there is no function */
	const char *title; /* first column of a table of objects, NULL: names and values */
	const char *none;  /* said instead of nothing */
} subs[] = {
	{"check", 1, 1, mqtt_check, NULL, NULL, NULL},
};
#define SUB_N (sizeof(subs) / sizeof(subs[0]))

/* ---- check ---- */

static json_t *finding_json(const struct broker_finding *f)
{
	return json_pack("{s:s, s:i, s:s, s:s, s:s}", "file", f->file, "line", (int)f->line,
			 "severity", f->unsafe ? "unsafe" : "note", "option", f->option, "reason",
			 f->reason);
}

static int check_json(struct cli *cli, const char *path)
{
	static struct broker_finding list[FINDINGS_MAX];
	int n = broker_conf_scan(path, list, FINDINGS_MAX);
	json_t *rows = json_array();
	bool safe = n <= FINDINGS_MAX;

	if (n < 0) {
		json_decref(rows);
		return cli_fail(cli, "%s: %s", path, strerror(-n));
	}
	for (int i = 0; i < n && i < FINDINGS_MAX; i++) {
		safe = safe && !list[i].unsafe;
		json_array_append_new(rows, finding_json(&list[i]));
	}
	cli_print_json(rows);
	json_decref(rows);
	return safe ? CLI_OK : CLI_FAILED;
}

static int mqtt_check(struct cli *cli, int argc, char **argv)
{
	int unsafe;

	(void)argc;
	if (cli->json)
		return check_json(cli, argv[0]);
	unsafe = broker_conf_print(stdout, "", argv[0]);
	if (unsafe == 0)
		printf("%s: nothing makes MQTT offload unsafe\n", argv[0]);
	return unsafe == 0 ? CLI_OK : CLI_FAILED;
}

/* ---- questions to the stage ---- */

static void print(const struct sub *sub, const json_t *j)
{
	if (json_is_array(j) && json_array_size(j) > 0)
		cli_print_table(stdout, j);
	else if (json_is_object(j) && sub->title && json_object_size(j) > 0)
		cli_print_rows(stdout, j, sub->title);
	else if (!json_is_object(j) || cli_print_values(stdout, j, true) == 0)
		printf("%s\n", sub->none ? sub->none : "nothing");
}

/* "/toe/mqtt/subs,sensors/#": DPDK hands on what follows the comma. */
static int ask(struct cli *cli, const struct sub *sub, int argc, char **argv)
{
	char cmd[TELEMETRY_MAX];
	size_t at = (size_t)snprintf(cmd, sizeof(cmd), "%s", sub->telemetry);
	int status = CLI_OK;
	json_t *j;

	for (int i = 0; i < argc && at < sizeof(cmd); i++)
		at += (size_t)snprintf(cmd + at, sizeof(cmd) - at, "%c%s", i ? ' ' : ',', argv[i]);
	if (at >= sizeof(cmd))
		return cli_fail(cli, "arguments are too long");
	j = cli_telemetry(cli, cmd, &status);
	if (!j)
		return status;
	if (cli->json)
		cli_print_json(j);
	else
		print(sub, j);
	json_decref(j);
	return CLI_OK;
}

/* ---- dispatch ---- */

int cmd_mqtt(struct cli *cli, int argc, char **argv)
{
	static const struct option longs[] = {CLI_COMMON_OPTIONS};
	const struct sub *sub = NULL;
	int opt;

	while ((opt = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		int rc = cli_common(cli, opt);

		if (rc >= 0)
			return rc;
	}
	for (size_t i = 0; i < SUB_N && optind < argc; i++) {
		if (strcmp(subs[i].name, argv[optind]) == 0)
			sub = &subs[i];
	}
	argc -= optind + 1;
	argv += optind + 1;
	if (!sub || argc < sub->args_min || argc > sub->args_max)
		return cli_common(cli, '?');
	if (cli_load_config(cli) < 0)
		return CLI_FAILED;
	return sub->run ? sub->run(cli, argc, argv) : ask(cli, sub, argc, argv);
}
