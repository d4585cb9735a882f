/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * toe, the operator's command: what its subcommands share.
 *
 *   main.c  dispatch, help        cmd_*.c  one subcommand each      ask.c  the engine's sockets
 *   show.c  tables                exec.c   running other programs   edit.c  configuration files
 *   show_mqtt.c  answers of the MQTT stage      left.c  what a killed engine has left
 *   meaning.c  texts of counters   help.c  options and examples
 */
#ifndef TOE_CLI_H
#define TOE_CLI_H

#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

#include <jansson.h>

#include "common/config.h"
#include "toe/ctl.h"

#ifndef TOE_VERSION
#define TOE_VERSION "0"
#endif

#define CLI_CONFIG_DEFAULT "/etc/toe/toe.conf"

enum cli_exit {
	CLI_OK = 0,
	CLI_FAILED = 1,
	CLI_USAGE = 2,
	CLI_NOT_RUNNING = 69,
	CLI_NO_PERMISSION = 77,
};

struct cli {
	const char *name;   /* of the subcommand */
	const char *config; /* --config, NULL: not given */
	bool json;
	struct toe_config cfg; /* run_dir is right for every subcommand */
};

/* Options of every subcommand; values beyond any letter. */
enum { CLI_OPT_JSON = 1000, CLI_OPT_RUN_DIR, CLI_OPT_HELP, CLI_OPT_CONFIG };
#define CLI_COMMON_OPTIONS                                                                         \
	{"json", no_argument, NULL, CLI_OPT_JSON},                                                 \
		{"run-dir", required_argument, NULL, CLI_OPT_RUN_DIR},                             \
		{"config", required_argument, NULL, CLI_OPT_CONFIG},                               \
		{"help", no_argument, NULL, CLI_OPT_HELP},                                         \
	{                                                                                          \
		NULL, 0, NULL, 0                                                                   \
	}

/* ---- main.c ---- */
int cmd_up(struct cli *cli, int argc, char **argv);
int cmd_down(struct cli *cli, int argc, char **argv);
int cmd_status(struct cli *cli, int argc, char **argv);
int cmd_run(struct cli *cli, int argc, char **argv);
int cmd_stats(struct cli *cli, int argc, char **argv);
int cmd_conns(struct cli *cli, int argc, char **argv); /* and listeners */
int cmd_check(struct cli *cli, int argc, char **argv);
int cmd_config(struct cli *cli, int argc, char **argv);
int cmd_mqtt(struct cli *cli, int argc, char **argv);
int cmd_testbed(struct cli *cli, int argc, char **argv);

/* One of the common options, or an error: the exit status, or -1 to go on. */
int cli_common(struct cli *cli, int opt);
/* No positional arguments: for subcommands without options of their own.  As cli_common(). */
int cli_no_arguments(struct cli *cli, int argc, char **argv);
/* Loads --config, else the default file if it exists.  0, or -1 after saying why. */
int cli_load_config(struct cli *cli);
/* "toe <name>: ..." on stderr; returns CLI_FAILED. */
int cli_fail(const struct cli *cli, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* "toe <name>: ...; see toe <name> --help" on stderr; returns CLI_USAGE. */
int cli_usage(const struct cli *cli, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- help.c ---- */
/* Options of every command; options and an example of one. */
void cli_help_common(FILE *out);
void cli_help_of(FILE *out, const char *name);

/* ---- ask.c ---- */
/* Connected to the keeper: descriptor, or -errno. */
int cli_keeper(const struct cli *cli);
/* Says why there is no connection, with what to do; returns the exit status. */
int cli_no_engine(const struct cli *cli, int error);
/* {"cmd": cmd} to the control plane.  NULL after saying why; *status is then the exit status. */
json_t *cli_control(const struct cli *cli, const char *cmd, int *status);
/* The same, for what is only said besides: NULL without a word. */
json_t *cli_control_quiet(const struct cli *cli, const char *cmd);
/* Command of the datapath ("/toe/stages").  As above. */
json_t *cli_telemetry(const struct cli *cli, const char *cmd, int *status);
/*
 * "MODULE WHAT [ARGUMENT]" to a stream module of the datapath; the pieces of a list are one array.
 * NULL with *error (-errno) and nothing said yet: the module's word if *answered, else why there is
 * no connection, which cli_no_datapath() says.
 */
json_t *cli_module(const struct cli *cli, const char *question, int *error, bool *answered);
/* Says what is missing; returns the exit status. */
int cli_no_datapath(const struct cli *cli, int error);
/* Process id in the pid file of a keeper that is alive, 0: none. */
pid_t cli_keeper_pid(const struct cli *cli);

/* ---- show.c ---- */
int cli_print_json(const json_t *j); /* returns CLI_OK; takes no reference */
/* Array of objects: one line each; columns are the names of the first. */
void cli_print_table(FILE *out, const json_t *rows);
/* Object of objects: one line each, the names in a first column of that title. */
void cli_print_rows(FILE *out, const json_t *object, const char *title);
/* Object of values: "name  value", and what text() says of the name (NULL: nothing; text may be
 * NULL, too); zeroes only if all.  Returns how many lines. */
unsigned cli_print_values(FILE *out, const json_t *object, bool all,
			  const char *(*text)(const char *name));

/* ---- meaning.c ---- */
/* What a counter, or a reason to drop, of the datapath means; NULL: unknown. */
const char *cli_counter_text(const char *name);
const char *cli_drop_text(const char *name);

/* ---- show_mqtt.c ---- */
/* Answers of the stage to "status" and "slow", for people. */
void cli_mqtt_print_status(FILE *out, const json_t *status, const json_t *slow);
void cli_mqtt_print_filters(FILE *out, const json_t *status);
/* What to type after a comparison. */
void cli_mqtt_print_advice(FILE *out, const json_t *shadow);
/* The sessions as a table has them: columns of clients that are online in every line. */
void cli_mqtt_even_sessions(json_t *sessions);
/* New array: reasons without FAST, by count, largest first; all: those never seen, too. */
json_t *cli_mqtt_sort_slow(const json_t *slow, bool all);
/* New array: the subscriptions of exactly that filter, else those whose filter contains it. */
json_t *cli_mqtt_pick_subs(const json_t *subs, const char *filter);

/* ---- cmd_mqtt.c ---- */
/* Does anything fan out for a broker here, so that its configuration matters? */
bool cli_mqtt_active(const struct cli *cli);

/* ---- left.c ---- */
#define CLI_LEFT_MAX 8u
struct cli_left {
	bool known;       /* config names the port */
	char config[160]; /* the killed engine's copy */
	unsigned n;
	char ports[CLI_LEFT_MAX][32];
	char other_port[32]; /* one of those that the engine of another run directory has left */
	char other_dir[128]; /* "": there is none */
};
/* Ports of this network namespace that a killed engine of our run directory has left taken over. */
void cli_left_over(const struct cli *cli, struct cli_left *left);
/* Says that nothing runs here and nothing is left, but what is by others; exit code. */
int cli_nothing_left(const struct cli *cli, const struct cli_left *left, int error);
/* "v0, v1" */
void cli_left_names(const struct cli_left *left, char *buf, size_t len);

/* ---- exec.c ---- */
/* Runs argv (NULL-terminated, found by PATH) with its output collected: exit status, 128 + signal,
 * 127 not found.  out gets the first bytes of stdout and stderr together. */
int cli_run(char *const argv[], char *out, size_t out_len);
/* The same from words; the last must be NULL. */
int cli_runl(char *out, size_t out_len, const char *word, ...) __attribute__((sentinel));
bool cli_in_path(const char *program);

/* ---- edit.c ---- */
/*
 * Writes the configuration base (NULL: empty) with the settings "group.name=value" to path. Values:
 * true, false, numbers, strings; pipeline.lcores takes "0: a b;1: c".  0, or -1 with err.
 */
int cli_write_config(const char *base, const char *path, char *const *settings, unsigned n,
		     char *err, size_t err_len);

#endif
