// SPDX-License-Identifier: BSD-3-Clause
/*
 * toe mqtt: the MQTT stage, and what of a broker's configuration concerns it.
 *
 * In: words of a subcommand and its arguments; out: text or JSON.  A line of the table is a
 * function, or a question to the stage whose answer is shown by print().  No state.
 */
#include "cli.h"

#include <errno.h>
#include <string.h>

#include "common/broker_conf.h"

#define FINDINGS_MAX 256
#define QUESTION_MAX 1024 /* datapath/module_sock.c */
#define FILTERS_MAX  TOE_CFG_MQTT_FILTERS_MAX

/* Options of its own. */
static bool closed;

static int mqtt_check(struct cli *cli, int argc, char **argv);
static int mqtt_status(struct cli *cli, int argc, char **argv);
static int mqtt_sessions(struct cli *cli, int argc, char **argv);
static int mqtt_subs(struct cli *cli, int argc, char **argv);
static int mqtt_slow(struct cli *cli, int argc, char **argv);
static int mqtt_shadow(struct cli *cli, int argc, char **argv);
static int mqtt_audit(struct cli *cli, int argc, char **argv);
static int mqtt_filter_list(struct cli *cli, int argc, char **argv);
static int mqtt_filter_add(struct cli *cli, int argc, char **argv);
static int mqtt_filter_del(struct cli *cli, int argc, char **argv);
static int mqtt_mode(struct cli *cli, int argc, char **argv);
static int mqtt_recheck(struct cli *cli, int argc, char **argv);

static const struct sub {
	const char *name;
	const char *second; /* NULL: the name is one word */
	int args_min;
	int args_max;
	int (*run)(struct cli *cli, int argc, char **argv); /* positional arguments only */
	const char *arg;
} subs[] = {
	{"check", NULL, 1, 1, mqtt_check, "FILE"},
	{"status", NULL, 0, 0, mqtt_status, NULL},
	{"sessions", NULL, 0, 0, mqtt_sessions, NULL},
	{"subs", NULL, 0, 1, mqtt_subs, NULL},
	{"slow", NULL, 0, 0, mqtt_slow, NULL},
	{"filter", "list", 0, 0, mqtt_filter_list, NULL},
	{"filter", "add", 1, 1, mqtt_filter_add, "FILTER, like 'sensors/#'"},
	{"filter", "del", 1, 1, mqtt_filter_del, "FILTER"},
	{"mode", NULL, 0, 1, mqtt_mode, NULL},
	{"shadow", NULL, 0, 0, mqtt_shadow, NULL},
	{"audit", NULL, 0, 0, mqtt_audit, NULL},
	{"recheck", NULL, 1, 1, mqtt_recheck, "FILE"},
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

/* What every question may be answered with. */
static int refused(const struct cli *cli, int error)
{
	switch (error) {
	case -ENODEV:
		return cli_fail(cli,
				"mqtt.ports is empty: set it in the configuration the engine was "
				"started with (its copy is %s/engine.conf) and toe down, toe up",
				cli->cfg.run_dir);
	case -ENOENT:
		return cli_fail(cli, "this datapath has no MQTT stage");
	case -EBUSY:
	case -ETIMEDOUT:
		return cli_fail(cli, "the stage does not answer (%s): try again, and see %s/log",
				strerror(-error), cli->cfg.run_dir);
	default:
		return cli_fail(cli, "the stage refuses: %s", strerror(-error));
	}
}

/* NULL after saying why; *status is then the exit status. */
static json_t *ask(const struct cli *cli, const char *question, int *status)
{
	bool answered;
	int error;
	json_t *j = cli_module(cli, question, &error, &answered);

	if (!j)
		*status = answered ? refused(cli, error) : cli_no_datapath(cli, error);
	return j;
}

static int show_table(const struct cli *cli, const json_t *rows, const char *none)
{
	if (cli->json)
		cli_print_json(rows);
	else if (json_array_size(rows) > 0)
		cli_print_table(stdout, rows);
	else
		printf("%s\n", none);
	return CLI_OK;
}

static bool in_engine(const json_t *listeners, unsigned port)
{
	char end[8];
	size_t i;
	json_t *row;

	snprintf(end, sizeof(end), ":%u", port);
	json_array_foreach((json_t *)listeners, i, row)
	{
		const char *local = json_string_value(json_object_get(row, "local"));
		const char *colon = local ? strrchr(local, ':') : NULL;

		if (colon && strcmp(colon, end) == 0)
			return true;
	}
	return false;
}

/* Of the engine's mqtt.ports; NULL if it is not known.  Clients of such a port are the kernel's, or
 * refused: the stage sees nothing, and all its numbers are zero. */
static json_t *not_listening(const struct cli *cli)
{
	struct toe_config cfg;
	char path[160];
	char err[512];
	json_t *ports = json_array();
	json_t *answer = cli_control_quiet(cli, "listeners");
	const json_t *rows = json_object_get(answer, "listeners");
	bool known =
		json_is_array(rows) &&
		toe_config_load(&cfg, toe_config_path(&cli->cfg, "engine.conf", path, sizeof(path)),
				err, sizeof(err)) == 0;

	for (uint32_t i = 0; known && i < cfg.mqtt_port_n; i++) {
		if (!in_engine(rows, cfg.mqtt_ports[i]))
			json_array_append_new(ports, json_integer(cfg.mqtt_ports[i]));
	}
	json_decref(answer);
	if (known)
		return ports;
	json_decref(ports);
	return NULL;
}

static int mqtt_status(struct cli *cli, int argc, char **argv)
{
	int rc = CLI_OK;
	json_t *status = ask(cli, "mqtt status", &rc);
	json_t *slow = status && !cli->json ? ask(cli, "mqtt slow", &rc) : NULL;

	(void)argc;
	(void)argv;
	if (status)
		json_object_set_new(status, "not_listening", not_listening(cli));
	if (status && cli->json)
		cli_print_json(status);
	else if (status && slow)
		cli_mqtt_print_status(stdout, status, slow);
	json_decref(slow);
	json_decref(status);
	return rc;
}

static int mqtt_sessions(struct cli *cli, int argc, char **argv)
{
	int rc = CLI_OK;
	json_t *j = ask(cli, "mqtt sessions", &rc);

	(void)argc;
	(void)argv;
	if (j && !cli->json)
		cli_mqtt_even_sessions(j);
	if (j)
		rc = show_table(cli, j, "no sessions");
	json_decref(j);
	return rc;
}

static int mqtt_subs(struct cli *cli, int argc, char **argv)
{
	int rc = CLI_OK;
	json_t *j = ask(cli, "mqtt subs", &rc);

	if (j && argc == 1) {
		json_t *all = j;

		j = cli_mqtt_pick_subs(all, argv[0]);
		json_decref(all);
	}
	if (j)
		rc = show_table(cli, j, argc == 1 ? "no such subscription" : "no subscriptions");
	json_decref(j);
	return rc;
}

static int mqtt_slow(struct cli *cli, int argc, char **argv)
{
	int rc = CLI_OK;
	json_t *j = ask(cli, "mqtt slow", &rc);

	(void)argc;
	(void)argv;
	if (j) {
		json_t *sorted = cli_mqtt_sort_slow(j, cli->json);

		rc = show_table(cli, sorted,
				"the stage saw no publish that went through the broker");
		json_decref(sorted);
	}
	json_decref(j);
	return rc;
}

static int mqtt_shadow(struct cli *cli, int argc, char **argv)
{
	int rc = CLI_OK;
	json_t *j = ask(cli, "mqtt shadow", &rc);

	(void)argc;
	(void)argv;
	if (j)
		rc = show_table(cli, j, "no filters: nothing is compared");
	if (j && !cli->json)
		cli_mqtt_print_advice(stdout, j);
	json_decref(j);
	return rc;
}

static int mqtt_audit(struct cli *cli, int argc, char **argv)
{
	int rc = CLI_OK;
	json_t *j = ask(cli, "mqtt audit", &rc);

	(void)argc;
	(void)argv;
	if (j)
		rc = show_table(cli, j, "no difference seen");
	json_decref(j);
	return rc;
}

static int mqtt_filter_list(struct cli *cli, int argc, char **argv)
{
	int rc = CLI_OK;
	json_t *j = ask(cli, "mqtt status", &rc);

	(void)argc;
	(void)argv;
	if (j && cli->json)
		cli_print_json(json_object_get(j, "filters"));
	else if (j)
		cli_mqtt_print_filters(stdout, j);
	json_decref(j);
	return rc;
}

/* ---- orders ---- */

/* 0; else *error is what the stage said, or 0 if all has been said, and the exit status. */
static int order(const struct cli *cli, const char *what, const char *arg, int *error)
{
	char question[QUESTION_MAX];
	int len = snprintf(question, sizeof(question), "mqtt %s %s", what, arg);
	bool answered = true;
	json_t *j = NULL;

	*error = -EINVAL; /* the rest of it would be another question */
	if ((size_t)len < sizeof(question) - 1 && !strchr(arg, '\n'))
		j = cli_module(cli, question, error, &answered);
	if (j) {
		if (cli->json)
			cli_print_json(j);
		json_decref(j);
		return CLI_OK;
	}
	if (answered)
		return CLI_FAILED;
	len = cli_no_datapath(cli, *error);
	*error = 0;
	return len;
}

/* As in mqtt.offload: "!" in front means that nobody unseen subscribes. */
static int mqtt_filter_add(struct cli *cli, int argc, char **argv)
{
	const char *filter = argv[0] + (argv[0][0] == '!');
	char arg[QUESTION_MAX];
	int error;
	int rc;

	(void)argc;
	if (filter[0] == '$' && strncmp(filter, "$share/", strlen("$share/")) != 0)
		return cli_fail(cli,
				"\"%s\" would do nothing: topics that begin with $ are never fast",
				filter);
	snprintf(arg, sizeof(arg), "%s%s", closed || argv[0][0] == '!' ? "!" : "", filter);
	rc = order(cli, "filter_add", arg, &error);
	if (rc == CLI_OK || error == 0)
		return rc;
	if (error == -EINVAL)
		return cli_fail(cli,
				"no topic filter for the stage (at most %u bytes, + and # alone "
				"in their level, # last, no $share): %s",
				TOE_CFG_MQTT_FILTER_MAX - 1, filter);
	if (error == -ENOSPC)
		return cli_fail(cli, "no room for another filter: at most %u", FILTERS_MAX);
	return refused(cli, error);
}

static int mqtt_filter_del(struct cli *cli, int argc, char **argv)
{
	const char *filter = argv[0] + (argv[0][0] == '!');
	int error;
	int rc = order(cli, "filter_del", filter, &error);

	(void)argc;
	if (rc == CLI_OK || error == 0)
		return rc;
	if (error == -ENOENT || error == -EINVAL)
		return cli_fail(cli, "no filter \"%s\": toe mqtt filter list", filter);
	return refused(cli, error);
}

static int show_mode(const struct cli *cli)
{
	int rc = CLI_OK;
	json_t *j = ask(cli, "mqtt status", &rc);
	const char *mode = json_string_value(json_object_get(j, "mode"));
	bool reloaded = json_is_true(json_object_get(j, "reloaded"));

	if (j && cli->json)
		printf("{\"mode\": \"%s\", \"reloaded\": %s}\n", mode ? mode : "-",
		       reloaded ? "true" : "false");
	else if (j)
		printf("%s%s\n", mode ? mode : "-",
		       reloaded ? ", but suspended by SIGHUP: toe mqtt recheck FILE" : "");
	json_decref(j);
	return rc;
}

static int mqtt_mode(struct cli *cli, int argc, char **argv)
{
	int error;
	int rc;

	if (argc == 0)
		return show_mode(cli);
	if (strcmp(argv[0], "on") != 0 && strcmp(argv[0], "shadow") != 0 &&
	    strcmp(argv[0], "suspend") != 0)
		return cli_usage(cli, "no mode \"%s\": on, shadow or suspend", argv[0]);
	rc = order(cli, "mode", argv[0], &error);
	if (rc == CLI_OK || error == 0)
		return rc;
	return refused(cli, error);
}

/* A file with which offload is not safe, or of which nobody knows: what happens now. */
static void say_what_goes_on(const struct cli *cli, const char *path)
{
	const char *why = broker_conf_scan(path, NULL, 0) < 0 ? "cannot be read" : "is unsafe";
	bool answered;
	int error;
	json_t *status = cli_module(cli, "mqtt status", &error, &answered);
	const char *mode = json_string_value(json_object_get(status, "mode"));

	fflush(stdout); /* behind what is unsafe, wherever they go */
	if (!mode)
		cli_fail(cli, "this file %s; whether offload goes on is not known: toe mqtt status",
			 why);
	else if (strcmp(mode, "on") != 0)
		cli_fail(cli, "offload is off (mode %s) and stays off: this file %s", mode, why);
	else if (json_is_true(json_object_get(status, "reloaded")))
		cli_fail(cli,
			 "offload stays suspended: this file %s; all the same: toe mqtt mode on",
			 why);
	else
		cli_fail(cli,
			 "offload is ON and goes on although this file %s: toe mqtt mode suspend",
			 why);
	json_decref(status);
}

/* After SIGHUP: as check, and if nothing is unsafe, the filters work again. */
static int mqtt_recheck(struct cli *cli, int argc, char **argv)
{
	int rc = mqtt_check(cli, argc, argv);

	if (rc == CLI_OK)
		json_decref(ask(cli, "mqtt rechecked", &rc));
	else if (!cli->json)
		say_what_goes_on(cli, argv[0]);
	return rc;
}

bool cli_mqtt_active(const struct cli *cli)
{
	bool answered;
	int error;
	json_t *j = cli_module(cli, "mqtt status", &error, &answered);
	bool active =
		cli->cfg.mqtt_offload_n > 0 || json_array_size(json_object_get(j, "filters")) > 0;

	json_decref(j);
	return active;
}

/* ---- dispatch ---- */

/* The words are cut off. */
static const struct sub *find(int *argc, char ***argv)
{
	for (size_t i = 0; i<SUB_N && * argc> 0; i++) {
		int words = subs[i].second ? 2 : 1;

		if (strcmp(subs[i].name, (*argv)[0]) != 0 || *argc < words ||
		    (subs[i].second && strcmp(subs[i].second, (*argv)[1]) != 0))
			continue;
		*argc -= words;
		*argv += words;
		return &subs[i];
	}
	return NULL;
}

static int no_such(const struct cli *cli, int argc, char **argv)
{
	if (argc > 0 && strcmp(argv[0], "filter") == 0)
		return cli_usage(cli, "filter what: list, add or del");
	if (argc > 0)
		return cli_usage(cli, "no subcommand \"%s\"", argv[0]);
	return cli_usage(cli, "say what to do");
}

int cmd_mqtt(struct cli *cli, int argc, char **argv)
{
	static const struct option longs[] = {{"closed", no_argument, NULL, 'c'},
					      CLI_COMMON_OPTIONS};
	const struct sub *sub;
	int opt;

	closed = false;
	while ((opt = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		int rc = opt == 'c' ? -1 : cli_common(cli, opt);

		closed |= opt == 'c';
		if (rc >= 0)
			return rc;
	}
	argc -= optind;
	argv += optind;
	sub = find(&argc, &argv);
	if (!sub)
		return no_such(cli, argc, argv);
	if (argc < sub->args_min)
		return cli_usage(cli, "%s%s%s needs a %s", sub->name, sub->second ? " " : "",
				 sub->second ? sub->second : "", sub->arg);
	if (argc > sub->args_max)
		return cli_usage(cli, "unexpected \"%s\"", argv[sub->args_max]);
	if (closed && sub->run != mqtt_filter_add)
		return cli_usage(cli, "--closed is for filter add");
	if (cli_load_config(cli) < 0)
		return CLI_FAILED;
	return sub->run(cli, argc, argv);
}
