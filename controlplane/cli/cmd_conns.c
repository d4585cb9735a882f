// SPDX-License-Identifier: BSD-3-Clause
/*
 * toe conns, toe listeners: what the control plane knows, by its JSON socket.
 *
 * In: an object with an array of objects under the command's name; out: connections like ss -ti (a
 * line each, and one of everything else the answer has), listeners as a table, or the JSON.
 */
#include "cli.h"

#include <string.h>

static long long number(const json_t *row, const char *key)
{
	return (long long)json_integer_value(json_object_get(row, key));
}

static const char *string(const json_t *row, const char *key)
{
	const char *s = json_string_value(json_object_get(row, key));

	return s ? s : "-";
}

static bool in_first_line(const char *key)
{
	static const char *const keys[] = {"state", "local", "remote", "app", "unread"};

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		if (strcmp(keys[i], key) == 0)
			return true;
	}
	return false;
}

/* name:value, names alone for what is true, nothing for what is zero or false. */
static void print_details(const json_t *row)
{
	const char *key;
	json_t *v;
	int n = 0;

	json_object_foreach((json_t *)row, key, v)
	{
		if (in_first_line(key) || json_is_false(v) || json_is_null(v) ||
		    (json_is_number(v) && json_number_value(v) == 0))
			continue;
		fputs(n++ ? " " : "\t", stdout);
		if (json_is_true(v))
			printf("%s", key);
		else if (json_is_integer(v))
			printf("%s:%lld", key, (long long)json_integer_value(v));
		else if (json_is_real(v))
			printf("%s:%.3f", key, json_real_value(v));
		else if (json_is_string(v))
			printf("%s:%s", key, json_string_value(v));
		else
			printf("%s:...", key);
	}
	if (n)
		putchar('\n');
}

static void print_conns(const json_t *rows, bool brief)
{
	int width = 21; /* of any IPv4 address with port */
	size_t i;
	json_t *row;

	json_array_foreach(rows, i, row)
	{
		if ((int)strlen(string(row, "local")) > width)
			width = (int)strlen(string(row, "local"));
	}
	printf("%-11s %3s %9s %9s  %-*s  %s\n", "state", "app", "recv-q", "send-q", width, "local",
	       "remote");
	json_array_foreach(rows, i, row)
	{
		printf("%-11s %3lld %9lld %9lld  %-*s  %s\n", string(row, "state"),
		       number(row, "app"), number(row, "unread"),
		       number(row, "outstanding") + number(row, "unsent"), width,
		       string(row, "local"), string(row, "remote"));
		if (!brief)
			print_details(row);
	}
}

int cmd_conns(struct cli *cli, int argc, char **argv)
{
	static const struct option longs[] = {{"brief", no_argument, NULL, 'b'},
					      CLI_COMMON_OPTIONS};
	bool conns = cli->name[0] == 'c';
	bool brief = false;
	const json_t *rows;
	json_t *answer;
	int opt;
	int rc;

	while ((opt = getopt_long(argc, argv, "b", longs, NULL)) != -1) {
		rc = opt == 'b' ? -1 : cli_common(cli, opt);
		brief |= opt == 'b';
		if (rc >= 0)
			return rc;
	}
	if (optind < argc)
		return cli_usage(cli, "unexpected \"%s\"", argv[optind]);
	if (cli_load_config(cli) < 0)
		return CLI_FAILED;
	answer = cli_control(cli, cli->name, &rc);
	if (!answer)
		return rc;
	rows = json_object_get(answer, cli->name);
	rc = CLI_OK;
	if (!json_is_array(rows))
		rc = cli_fail(cli, "control plane: %s", string(answer, "error"));
	else if (cli->json)
		cli_print_json(answer);
	else if (json_array_size(rows) == 0)
		printf("no %s\n", cli->name);
	else if (conns)
		print_conns(rows, brief);
	else
		cli_print_table(stdout, rows);
	json_decref(answer);
	return rc;
}
