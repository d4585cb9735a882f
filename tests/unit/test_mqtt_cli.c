// SPDX-License-Identifier: BSD-3-Clause
/* LINK: controlplane/cli/cmd_mqtt.c controlplane/cli/show_mqtt.c controlplane/cli/show.c
	 controlplane/cli/ask.c common/broker_conf.c common/config.c common/ctl_sock.c
	 common/log.c */
/*
 * toe mqtt against a socket that answers what the test says: the question it is asked, lists in
 * pieces, what is printed, and one line with the right exit status for everything that goes wrong.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "controlplane/cli/cli.h"

#define ARGS_MAX 8

static char dir[] = "/tmp/toe-test-mqtt-XXXXXX";
static struct cli cli;
static char said[512];     /* on stderr, by cli_fail() */
static char printed[8192]; /* on stdout */

/* ---- what is in main.c ---- */

int cli_fail(const struct cli *c, const char *fmt, ...)
{
	va_list ap;

	(void)c;
	va_start(ap, fmt);
	vsnprintf(said, sizeof(said), fmt, ap);
	va_end(ap);
	return CLI_FAILED;
}

int cli_usage(const struct cli *c, const char *fmt, ...)
{
	va_list ap;

	(void)c;
	va_start(ap, fmt);
	vsnprintf(said, sizeof(said), fmt, ap);
	va_end(ap);
	return CLI_USAGE;
}

int cli_common(struct cli *c, int opt)
{
	if (opt != CLI_OPT_JSON)
		return CLI_USAGE;
	c->json = true;
	return -1;
}

int cli_load_config(struct cli *c)
{
	(void)c;
	return 0;
}

/* ---- the other side ---- */

static struct {
	int fd;
	pthread_t thread;
	const char *const *answers; /* one per question, NULL at the end */
	char asked[2][512];
	unsigned n;
} server = {.fd = -1};

static void answer_one(const char *answer)
{
	int fd = accept(server.fd, NULL, NULL);
	char *line = server.asked[server.n++ % 2];
	size_t n = 0;

	while (n < sizeof(server.asked[0]) - 1 && read(fd, line + n, 1) == 1 && line[n] != '\n')
		n++;
	line[n] = '\0';
	if (send(fd, answer, strlen(answer), MSG_NOSIGNAL) < 0)
		line[0] = '\0';
	close(fd);
}

static void *serve(void *arg)
{
	(void)arg;
	for (size_t i = 0; server.answers[i]; i++)
		answer_one(server.answers[i]);
	return NULL;
}

static void listen_at(const char *name)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/%s", dir, name);
	unlink(sa.sun_path);
	server.fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(server.fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(server.fd, 4), 0);
}

/* Exit status of `toe mqtt words...`; words are separated by |. */
static int run(const char *words)
{
	char copy[1500];
	char *argv[ARGS_MAX] = {NULL};
	char *save = NULL;
	char out[sizeof(dir) + 8];
	int argc = 0;
	int old = dup(1);
	int fd;
	int rc;
	ssize_t n;

	snprintf(copy, sizeof(copy), "mqtt|%s", words);
	for (char *w = strtok_r(copy, "|", &save); w; w = strtok_r(NULL, "|", &save))
		argv[argc++] = w;
	snprintf(out, sizeof(out), "%s/out", dir);
	fd = open(out, O_RDWR | O_CREAT | O_TRUNC, 0600);
	said[0] = '\0';
	cli.json = false;
	optind = 0;
	dup2(fd, 1);
	rc = cmd_mqtt(&cli, argc, argv);
	fflush(stdout);
	dup2(old, 1);
	n = pread(fd, printed, sizeof(printed) - 1, 0);
	printed[n > 0 ? n : 0] = '\0';
	close(old);
	close(fd);
	return rc;
}

/* The same with an engine that answers so. */
static int run_with(const char *const *answers, const char *words)
{
	int rc;

	listen_at(TOE_MODULE_SOCKET);
	server.answers = answers;
	server.n = 0;
	assert_int_equal(pthread_create(&server.thread, NULL, serve, NULL), 0);
	rc = run(words);
	pthread_join(server.thread, NULL);
	close(server.fd);
	return rc;
}

static int run_with_one(const char *answer, const char *words)
{
	const char *const answers[] = {answer, NULL};

	return run_with(answers, words);
}

/* ---- tests ---- */

static void test_pieces(void **state)
{
	(void)state;
	assert_int_equal(
		run_with_one("[{\"filter\":\"a/#\",\"qos\":0}]\n[]\n"
			     "[{\"filter\":\"b\",\"qos\":1},{\"filter\":\"ab\",\"qos\":2}]\n",
			     "subs"),
		CLI_OK);
	assert_string_equal(server.asked[0], "mqtt subs");
	assert_string_equal(printed, "filter  qos\n"
				     "a/#       0\n"
				     "b         1\n"
				     "ab        2\n");
	/* the error of a later piece is not a shorter list */
	assert_int_equal(run_with_one("[1]\n{\"error\":\"busy\",\"errno\":16}\n", "subs"),
			 CLI_FAILED);
	assert_non_null(strstr(said, "does not answer"));
	assert_int_equal(run_with_one("[1]\n{\"a\":1}\n", "subs"), CLI_FAILED);
	assert_int_equal(run_with_one("[1\n", "subs"), CLI_FAILED);
	assert_int_equal(run_with_one("", "subs"), CLI_FAILED);
	assert_int_equal(run_with_one("[]\n", "sessions"), CLI_OK);
	assert_string_equal(printed, "no sessions\n");
}

static void test_subs(void **state)
{
	static const char list[] = "[{\"filter\":\"b\"},{\"filter\":\"ab\"}]\n";

	(void)state;
	assert_int_equal(run_with_one(list, "subs|b"), CLI_OK);
	assert_string_equal(printed, "filter\nb\n");
	assert_int_equal(run_with_one(list, "subs|a"), CLI_OK);
	assert_string_equal(printed, "filter\nab\n");
	assert_int_equal(run_with_one(list, "subs|x|--json"), CLI_OK);
	assert_string_equal(printed, "[]\n");
}

static void test_sessions(void **state)
{
	(void)state;
	assert_int_equal(run_with_one("[{\"client_id\":\"off\"},"
				      "{\"client_id\":\"on\",\"queued_bytes\":7,"
				      "\"deferred\":0,\"blocked\":true}]\n",
				      "sessions"),
			 CLI_OK);
	assert_string_equal(printed, "client_id  queued_bytes  deferred  blocked\n"
				     "off                   -         -  -\n"
				     "on                    7         0  yes\n");
}

static void test_slow(void **state)
{
	static const char list[] = "[{\"reason\":\"FAST\",\"count\":99,\"text\":\"x\"},"
				   "{\"reason\":\"QOS\",\"count\":2,\"text\":\"q\"},"
				   "{\"reason\":\"SIZE\",\"count\":0,\"text\":\"s\"},"
				   "{\"reason\":\"KERNEL\",\"count\":30,\"text\":\"k\"}]\n";
	json_t *j;

	(void)state;
	assert_int_equal(run_with_one(list, "slow"), CLI_OK);
	assert_string_equal(printed, "reason  count  text\n"
				     "KERNEL     30  k\n"
				     "QOS         2  q\n");
	assert_int_equal(run_with_one(list, "slow|--json"), CLI_OK);
	j = json_loads(printed, 0, NULL);
	assert_int_equal(json_array_size(j), 3);
	json_decref(j);
}

static void test_status(void **state)
{
	static const char *const answers[] = {
		"{\"mode\":\"on\",\"connections\":3,\"untracked\":2,\"kernel_conns\":4,\"kernel_"
		"followed\":3,"
		"\"table_full\":true,\"reloaded\":true,\"memory_used\":1572864,\"memory\":67108864,"
		"\"publishes\":{\"FAST\":3,\"QOS\":1},\"counters\":{\"DELIVERED\":12},"
		"\"filters\":[{\"filter\":\"f/#\",\"closed\":true,\"fast\":3,\"slow\":0}]}\n",
		"[{\"reason\":\"QOS\",\"count\":1,\"text\":\"QoS 1 or 2\"}]\n", NULL};

	(void)state;
	assert_int_equal(run_with(answers, "status"), CLI_OK);
	assert_string_equal(server.asked[0], "mqtt status");
	assert_string_equal(server.asked[1], "mqtt slow");
	assert_non_null(strstr(printed, "3 of 4 publishes (75.0 %), 12 copies delivered"));
	assert_non_null(strstr(printed, "QOS 1: QoS 1 or 2"));
	assert_non_null(
		strstr(printed, "all slow for   2 clients of mqtt.ports cannot be followed"));
	assert_non_null(strstr(printed, " 1 connections of the broker are the kernel's"));
	assert_non_null(strstr(printed, "slow for       topics of 3 clients"));
	assert_null(strstr(printed, "were resumed"));
	assert_non_null(strstr(printed, "all slow for   a table that was full"));
	assert_non_null(strstr(printed, "all slow for   the broker, since it has read"));
	assert_non_null(strstr(printed, "toe mqtt recheck FILE"));
	assert_non_null(strstr(printed, "--closed"));
	assert_non_null(strstr(printed, "1.5 of 64.0 MiB"));
	assert_non_null(strstr(printed, "f/#     yes        3     0"));
}

/* libtoe has found why. */
static void test_status_blocker(void **state)
{
	static const char *const answers[] = {
		"{\"mode\":\"on\",\"reloaded\":true,\"blocker\":\"m.conf:7: acl_file\"}\n", "[]\n",
		NULL};
	static const char *const none[] = {
		"{\"mode\":\"on\",\"reloaded\":false,\"blocker\":\"\"}\n", "[]\n", NULL};

	(void)state;
	assert_int_equal(run_with(answers, "status"), CLI_OK);
	assert_non_null(strstr(printed, "(SIGHUP): m.conf:7: acl_file; remove it"));
	assert_int_equal(run_with(none, "status"), CLI_OK);
	assert_null(strstr(printed, "SIGHUP"));
}

static void test_shadow(void **state)
{
	static const char list[] =
		"[{\"filter\":\"a'/#\",\"closed\":true,\"compared\":100,\"verdict\":\"same\"},"
		"{\"filter\":\"b\",\"closed\":false,\"compared\":99,\"verdict\":\"too few\"},"
		"{\"filter\":\"c/+\",\"closed\":true,\"compared\":9,\"verdict\":\"differs\"}]\n";

	(void)state;
	assert_int_equal(run_with_one(list, "shadow"), CLI_OK);
	assert_string_equal(server.asked[0], "mqtt shadow");
	assert_string_equal(printed, "filter  closed  compared  verdict\n"
				     "a'/#    yes          100  same\n"
				     "b       no            99  too few\n"
				     "c/+     yes            9  differs\n"
				     "\n"
				     "toe mqtt filter add 'a'\\''/#' --closed\n"
				     "toe mqtt filter del 'c/+'\n"
				     "toe mqtt mode on\n");
	assert_int_equal(run_with_one("[{\"filter\":\"b\",\"verdict\":\"too few\"}]\n", "shadow"),
			 CLI_OK);
	assert_null(strstr(printed, "toe mqtt"));
	assert_int_equal(run_with_one("[]\n", "shadow"), CLI_OK);
	assert_string_equal(printed, "no filters: nothing is compared\n");
	assert_int_equal(run_with_one("[]\n", "audit"), CLI_OK);
	assert_string_equal(server.asked[0], "mqtt audit");
	assert_string_equal(printed, "no difference seen\n");
	assert_int_equal(run_with_one("[{\"what\":\"MISSING\",\"client_id\":\"x\"}]\n", "audit"),
			 CLI_OK);
	assert_string_equal(printed, "what     client_id\n"
				     "MISSING  x\n");
}

static void test_orders(void **state)
{
	static const char ok[] = "{\"ok\":true}\n";

	(void)state;
	assert_int_equal(run_with_one(ok, "filter|add|a b/#"), CLI_OK);
	assert_string_equal(server.asked[0], "mqtt filter_add a b/#");
	assert_string_equal(printed, "");
	assert_int_equal(run_with_one(ok, "filter|add|f/#|--closed|--json"), CLI_OK);
	assert_string_equal(server.asked[0], "mqtt filter_add !f/#");
	assert_int_equal(run_with_one(ok, "filter|add|!f/#|--closed"), CLI_OK);
	assert_string_equal(server.asked[0], "mqtt filter_add !f/#");
	assert_int_equal(run_with_one(ok, "filter|del|!f/#"), CLI_OK);
	assert_string_equal(server.asked[0], "mqtt filter_del f/#");
	assert_int_equal(run_with_one(ok, "mode|suspend"), CLI_OK);
	assert_string_equal(server.asked[0], "mqtt mode suspend");
	assert_int_equal(run_with_one("{\"mode\":\"shadow\",\"reloaded\":false}\n", "mode"),
			 CLI_OK);
	assert_string_equal(server.asked[0], "mqtt status");
	assert_string_equal(printed, "shadow\n");
	assert_int_equal(run_with_one("{\"mode\":\"on\",\"reloaded\":true}\n", "mode"), CLI_OK);
	assert_string_equal(printed, "on, but suspended by SIGHUP: toe mqtt recheck FILE\n");
	assert_int_equal(run_with_one("{\"mode\":\"on\",\"reloaded\":true}\n", "mode|--json"),
			 CLI_OK);
	assert_string_equal(printed, "{\"mode\": \"on\", \"reloaded\": true}\n");
	assert_int_equal(run_with_one("{\"filters\":[]}\n", "filter|list"), CLI_OK);
	assert_string_equal(server.asked[0], "mqtt status");
	assert_non_null(strstr(printed, "no filters"));
}

static void conf_is(const char *text)
{
	FILE *f = fopen("recheck.conf", "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

/* Unsafe: with an engine that answers so to "status" (NULL: none). */
static void expect_recheck(const char *status, const char *file, const char *want)
{
	char words[64];

	snprintf(words, sizeof(words), "recheck|%s", file);
	assert_int_equal(status ? run_with_one(status, words) : run(words), CLI_FAILED);
	if (status)
		assert_string_equal(server.asked[0], "mqtt status");
	if (!strstr(said, want))
		fail_msg("%s, %s: said \"%s\", not \"%s\"", words, status, said, want);
}

/* Nothing unsafe: the stage is told.  Else it is only asked what happens now. */
static void test_recheck(void **state)
{
	static const char ok[] = "{\"ok\":true}\n";

	(void)state;
	conf_is("listener 1883\n");
	assert_int_equal(run_with_one(ok, "recheck|recheck.conf"), CLI_OK);
	assert_string_equal(server.asked[0], "mqtt rechecked");
	assert_non_null(strstr(printed, "nothing makes MQTT offload unsafe"));
	assert_int_equal(run_with_one(ok, "recheck|recheck.conf|--json"), CLI_OK);
	assert_string_equal(printed, "[]\n");
	assert_int_equal(run_with_one("{\"error\":\"x\",\"errno\":19}\n", "recheck|recheck.conf"),
			 CLI_FAILED);
	conf_is("acl_file x\n");
	expect_recheck("{\"mode\":\"on\",\"reloaded\":true}\n", "recheck.conf",
		       "stays suspended: this file is unsafe; all the same: toe mqtt mode on");
	assert_non_null(strstr(printed, "acl_file"));
	expect_recheck("{\"mode\":\"on\",\"reloaded\":false}\n", "recheck.conf",
		       "is ON and goes on although this file is unsafe: toe mqtt mode suspend");
	expect_recheck("{\"mode\":\"shadow\",\"reloaded\":false}\n", "recheck.conf",
		       "is off (mode shadow) and stays off");
	expect_recheck("{\"mode\":\"on\",\"reloaded\":false}\n", "no.conf",
		       "although this file cannot be read: toe mqtt mode suspend");
	expect_recheck(NULL, "recheck.conf", "not known");
	unlink("recheck.conf");
}

static void expect_error(int number, const char *words, const char *want)
{
	char answer[64];

	snprintf(answer, sizeof(answer), "{\"error\":\"x\",\"errno\":%d}\n", number);
	assert_int_equal(run_with_one(answer, words), CLI_FAILED);
	if (!strstr(said, want))
		fail_msg("%s: said \"%s\", not \"%s\"", words, said, want);
	assert_null(strchr(said, '\n'));
	assert_string_equal(printed, "");
}

static void test_errors(void **state)
{
	char want[256];

	(void)state;
	snprintf(
		want, sizeof(want),
		"mqtt.ports is empty: set it in the configuration the engine was started with (its "
		"copy is %s/engine.conf) and toe down, toe up",
		cli.cfg.run_dir);
	expect_error(ENODEV, "status", want);
	expect_error(ENODEV, "filter|add|a", "mqtt.ports is empty");
	expect_error(ENODEV, "mode|on", "mqtt.ports is empty");
	expect_error(ENOENT, "sessions", "no MQTT stage");
	expect_error(ETIMEDOUT, "status", "does not answer");
	expect_error(EINVAL, "filter|add|a/#/b", "no topic filter for the stage");
	expect_error(ENOSPC, "filter|add|a", "at most 64");
	expect_error(ENOENT, "filter|del|a", "no filter \"a\"");
}

static void test_wrong_usage(void **state)
{
	static const struct {
		const char *words;
		const char *want;
	} wrong[] = {{"", "say what to do"},
		     {"nix", "no subcommand \"nix\""},
		     {"status|x", "unexpected \"x\""},
		     {"filter", "filter what: list, add or del"},
		     {"filter|add", "filter add needs a FILTER, like 'sensors/#'"},
		     {"filter|add|a|b", "unexpected \"b\""},
		     {"filter|nix", "filter what: list, add or del"},
		     {"subs|a|b", "unexpected \"b\""},
		     {"mode|on|b", "unexpected \"b\""},
		     {"mode|x", "no mode \"x\": on, shadow or suspend"},
		     {"check", "check needs a FILE"},
		     {"slow|--closed", "--closed is for filter add"}};
	char longer[1200] = "filter|add|";

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_int_equal(run(wrong[i].words), CLI_USAGE);
		assert_string_equal(said, wrong[i].want);
	}
	/* never asked: nobody listens */
	assert_int_equal(run("filter|add|!$SYS/#"), CLI_FAILED);
	assert_string_equal(said,
			    "\"$SYS/#\" would do nothing: topics that begin with $ are never fast");
	memset(longer + 11, 'a', sizeof(longer) - 12);
	assert_int_equal(run(longer), CLI_FAILED);
	assert_non_null(strstr(said, "no topic filter"));
	assert_int_equal(run("filter|add|a\nmqtt mode suspend"), CLI_FAILED);
	assert_non_null(strstr(said, "no topic filter"));
}

static void test_no_engine(void **state)
{
	(void)state;
	assert_int_equal(run("status"), CLI_NOT_RUNNING);
	assert_non_null(strstr(said, "no engine is running"));
	assert_int_equal(run("filter|del|a"), CLI_NOT_RUNNING);
	assert_non_null(strstr(said, "no engine is running"));
}

static bool active_with(const char *answer)
{
	const char *const answers[] = {answer, NULL};
	bool active;

	listen_at(TOE_MODULE_SOCKET);
	server.answers = answers;
	assert_int_equal(pthread_create(&server.thread, NULL, serve, NULL), 0);
	active = cli_mqtt_active(&cli);
	pthread_join(server.thread, NULL);
	close(server.fd);
	return active;
}

static void test_active(void **state)
{
	(void)state;
	said[0] = '\0';
	assert_false(active_with("{\"filters\":[]}\n"));
	assert_false(active_with("{\"error\":\"x\",\"errno\":19}\n"));
	assert_true(active_with("{\"filters\":[{\"filter\":\"a\"}]}\n"));
	assert_false(cli_mqtt_active(&cli)); /* nobody answers */
	cli.cfg.mqtt_offload_n = 1;
	assert_true(cli_mqtt_active(&cli));
	assert_string_equal(said, ""); /* it only looks */
	cli.cfg.mqtt_offload_n = 0;
}

static int setup(void **state)
{
	(void)state;
	if (!mkdtemp(dir))
		return -1;
	cli.name = "mqtt";
	toe_config_defaults(&cli.cfg);
	snprintf(cli.cfg.run_dir, sizeof(cli.cfg.run_dir), "%s", dir);
	return 0;
}

static int teardown(void **state)
{
	static const char *const files[] = {"out", TOE_MODULE_SOCKET};
	char path[64];

	(void)state;
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
		unlink(path);
	}
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pieces),    cmocka_unit_test(test_subs),
		cmocka_unit_test(test_sessions),  cmocka_unit_test(test_slow),
		cmocka_unit_test(test_status),    cmocka_unit_test(test_status_blocker),
		cmocka_unit_test(test_recheck),   cmocka_unit_test(test_orders),
		cmocka_unit_test(test_errors),    cmocka_unit_test(test_wrong_usage),
		cmocka_unit_test(test_no_engine), cmocka_unit_test(test_active),
		cmocka_unit_test(test_shadow),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
