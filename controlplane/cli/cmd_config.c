// SPDX-License-Identifier: BSD-3-Clause
/*
 * toe config: checks the configuration, or prints all options.
 *
 * In: --config, else the default file, else what is built in.  Out: one line, or the first error;
 * with --json every option with the value in force, in the groups of the file.  --sample is about
 * what is built in, whatever the file.
 */
#include "cli.h"

/* Of an option, by its type in options.def. */
#define JSON_STR(v)   json_string(v)
#define JSON_WORD(v)  json_string(v)
#define JSON_ADDR4(v) json_string(v)
#define JSON_ADDR6(v) json_string(v)
#define JSON_BOOL(v)  json_boolean(v)
#define JSON_U32(v)   json_integer(v)
#define JSON_SIZE(v)  json_integer(v) /* bytes */

/* group "": top level.  *root becomes NULL if the value is none: text that is not UTF-8. */
static void put(json_t **root, const char *group, const char *name, json_t *value)
{
	json_t *in = *group ? json_object_get(*root, group) : *root;

	if (json_object_set_new(in, name, value) == 0)
		return;
	json_decref(*root);
	*root = NULL;
}

static void append(json_t **list, json_t *value)
{
	if (json_array_append_new(*list, value) == 0)
		return;
	json_decref(*list);
	*list = NULL;
}

/* Options that are lists: options.def has single values only. */
static void put_lists(json_t **root, const struct toe_config *c)
{
	json_t *lcores = json_array();
	json_t *ports = json_array();
	json_t *offload = json_array();

	for (uint32_t i = 0; i < c->lcore_n; i++)
		append(&lcores, json_string(c->lcores[i]));
	for (uint32_t i = 0; i < c->mqtt_port_n; i++)
		append(&ports, json_integer(c->mqtt_ports[i]));
	for (uint32_t i = 0; i < c->mqtt_offload_n; i++)
		append(&offload, json_string(c->mqtt_offload[i]));
	put(root, "pipeline", "lcores", lcores);
	put(root, "mqtt", "ports", ports);
	put(root, "mqtt", "offload", offload);
}

static json_t *config_json(const struct toe_config *c)
{
	json_t *root = json_object();

	put(&root, "", "file", c->path[0] ? json_string(c->path) : json_null());
#define TOE_GROUP(name, text) put(&root, "", #name, json_object());
#define TOE_OPTION(group, name, type, field, def, min, max, text)                                  \
	put(&root, group, #name, JSON_##type(c->field));
#include "common/options.def"
	put_lists(&root, c);
	return root;
}

static int print_json(const struct cli *cli)
{
	json_t *j = config_json(&cli->cfg);
	int rc;

	if (j == NULL)
		return cli_fail(cli, "%s: a value is not UTF-8, which JSON has to be",
				cli->cfg.path);
	rc = cli_print_json(j);
	json_decref(j);
	return rc;
}

int cmd_config(struct cli *cli, int argc, char **argv)
{
	static const struct option longs[] = {{"sample", no_argument, NULL, 's'},
					      CLI_COMMON_OPTIONS};
	bool sample = false;
	int opt;

	while ((opt = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		int rc = opt == 's' ? -1 : cli_common(cli, opt);

		sample |= opt == 's';
		if (rc >= 0)
			return rc;
	}
	if (optind < argc)
		return cli_usage(cli, "unexpected \"%s\"", argv[optind]);
	if (!sample && cli_load_config(cli) < 0)
		return CLI_FAILED;
	if (cli->json)
		return print_json(cli);
	if (sample) {
		toe_config_print_defaults(stdout);
		return ferror(stdout) ? CLI_FAILED : CLI_OK;
	}
	if (toe_config_doubt(&cli->cfg))
		cli_fail(cli, "warning: %s", toe_config_doubt(&cli->cfg));
	printf("%s: ok\n", cli->cfg.path[0] ? cli->cfg.path : "built-in configuration");
	return CLI_OK;
}
