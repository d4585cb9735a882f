// SPDX-License-Identifier: BSD-3-Clause
/*
 * toe stats: what the pipeline has counted, by DPDK telemetry, or (--unsupported) what libtoe left
 * to the kernel or refused, by the keeper.  In: which of it, optionally one stage instance; out:
 * tables without zeroes, or JSON with everything.
 */
#include "cli.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/ctl_sock.h"

#define KEEPER_LIMIT_MS 5000

static const struct part {
	const char *name;
	const char *title; /* of a table's first column, NULL: name and value */
	const char *none;
	bool summary; /* shown by plain `toe stats` */
	const char *(*text)(const char *name);
} parts[] = {
	{"stages", "stage", "no stages", true, NULL},
	{"counters", NULL, "nothing counted yet", true, cli_counter_text},
	{"drops", NULL, "nothing dropped", true, cli_drop_text},
	{"lcores", "lcore", "no lcores", false, NULL},
	{"pools", "pool", "no pools", false, NULL},
	{"graph", NULL, "no graph", false, NULL},
};
#define PART_N (sizeof(parts) / sizeof(parts[0]))

static const struct part *find(const char *name)
{
	for (size_t i = 0; i < PART_N; i++) {
		if (strcmp(parts[i].name, name) == 0)
			return &parts[i];
	}
	return NULL;
}

/* DOT, by line, with ' for quotation marks (DPDK does not escape). */
static void print_graph(const json_t *lines)
{
	size_t i;
	json_t *line;

	json_array_foreach(lines, i, line)
	{
		for (const char *p = json_string_value(line); p && *p; p++)
			putchar(*p == '\'' ? '"' : *p);
		putchar('\n');
	}
}

static void print(const struct part *p, const json_t *j, bool all, bool heading)
{
	if (heading)
		printf("%s\n", p->name);
	if (json_is_array(j))
		print_graph(j);
	else if (p->title)
		cli_print_rows(stdout, j, p->title);
	else if (cli_print_values(stdout, j, all, p->text) == 0)
		printf("%s\n", p->none);
}

static json_t *ask(const struct cli *cli, const struct part *p, const char *instance, int *status)
{
	char cmd[96];

	snprintf(cmd, sizeof(cmd), "/toe/%s%s%s", p->name, instance ? "," : "",
		 instance ? instance : "");
	return cli_telemetry(cli, cmd, status);
}

static int summary(const struct cli *cli, bool all)
{
	json_t *whole = json_object();
	int status = CLI_OK;

	for (size_t i = 0; i < PART_N && status == CLI_OK; i++) {
		json_t *j;

		if (!parts[i].summary && !(cli->json && strcmp(parts[i].name, "lcores") == 0))
			continue;
		j = ask(cli, &parts[i], NULL, &status);
		if (!j)
			break;
		if (!cli->json) {
			printf("%s", i ? "\n" : "");
			print(&parts[i], j, all, true);
		}
		json_object_set_new(whole, parts[i].name, j);
	}
	if (cli->json && status == CLI_OK)
		cli_print_json(whole);
	json_decref(whole);
	return status;
}

static int unsupported(const struct cli *cli, bool all)
{
#define NAME(symbol, text) text,
	static const char *const names[] = {TOE_UNSUPPORTED(NAME)};
#undef NAME
	struct toe_ctl_msg m;
	json_t *j;
	int sock = cli_keeper(cli);
	int rc;

	if (sock < 0)
		return cli_no_engine(cli, sock);
	toe_ctl_init(&m, TOE_CTL_UNSUPPORTED);
	rc = toe_ctl_call(sock, &m, NULL, 0, NULL, 0, NULL, KEEPER_LIMIT_MS);
	close(sock);
	if (rc == -EPERM) {
		cli_fail(cli, "no permission to ask the keeper: try as root");
		return CLI_NO_PERMISSION;
	}
	if (rc < 0)
		return cli_fail(cli, "toe-keeper does not answer: %s", strerror(-rc));
	j = json_object();
	for (unsigned i = 0; i < TOE_UNSUP_N; i++)
		json_object_set_new(j, names[i], json_integer((json_int_t)m.u.unsupported.n[i]));
	if (cli->json)
		cli_print_json(j);
	else if (cli_print_values(stdout, j, all, NULL) == 0)
		printf("nothing was left to the kernel\n");
	json_decref(j);
	return CLI_OK;
}

int cmd_stats(struct cli *cli, int argc, char **argv)
{
	static const struct option longs[] = {{"all", no_argument, NULL, 'a'},
					      {"unsupported", no_argument, NULL, 'u'},
					      CLI_COMMON_OPTIONS};
	const struct part *p;
	bool all = false;
	bool kernels = false; /* what is the kernel's */
	int status = CLI_OK;
	json_t *j;
	int opt;

	while ((opt = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		int rc = opt == 'a' || opt == 'u' ? -1 : cli_common(cli, opt);

		all |= opt == 'a';
		kernels |= opt == 'u';
		if (rc >= 0)
			return rc;
	}
	p = optind < argc ? find(argv[optind]) : NULL;
	if (optind < argc && !p)
		return cli_usage(cli,
				 "no part \"%s\": stages, counters, drops, lcores, pools or graph",
				 argv[optind]);
	if (argc - optind > 2 || (p && kernels))
		return cli_usage(cli, "unexpected \"%s\"", argv[argc - 1]);
	if (cli_load_config(cli) < 0)
		return CLI_FAILED;
	if (kernels)
		return unsupported(cli, all);
	if (!p)
		return summary(cli, all);
	j = ask(cli, p, optind + 1 < argc ? argv[optind + 1] : NULL, &status);
	if (!j)
		return status;
	if (cli->json)
		cli_print_json(j);
	else
		print(p, j, all, false);
	json_decref(j);
	return CLI_OK;
}
