// SPDX-License-Identifier: BSD-3-Clause
/* LINK: common/broker_conf.c */
/* broker_conf: what mosquitto.conf says that MQTT offload must not be used with. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/broker_conf.h"

#define DATA "tests/unit/data/broker/"
#define MAX  32

static struct broker_finding list[MAX];

struct want {
	const char *file; /* end of it */
	unsigned line;
	const char *option;
	bool unsafe;
};

static void expect(const char *path, const struct want *w, int n)
{
	assert_int_equal(broker_conf_scan(path, list, MAX), n);
	for (int i = 0; i < n; i++) {
		size_t len = strlen(list[i].file);
		size_t tail = strlen(w[i].file);

		assert_true(len >= tail);
		assert_string_equal(list[i].file + len - tail, w[i].file);
		assert_int_equal(list[i].line, w[i].line);
		assert_string_equal(list[i].option, w[i].option);
		assert_int_equal(list[i].unsafe, w[i].unsafe);
		assert_true(strlen(list[i].reason) > 10);
	}
}

static void test_plain(void **state)
{
	(void)state;
	assert_int_equal(broker_conf_scan(DATA "plain.conf", list, MAX), 0);
}

static void test_gateway(void **state)
{
	static const struct want want[] = {
		{"gateway.conf", 4, "queue_qos0_messages", true},
		{"gateway.conf", 5, "upgrade_outgoing_qos", true},
		{"gateway.conf", 6, "max_queued_messages", false},
		{"gateway.conf", 7, "max_queued_bytes", false},
		{"gateway.conf", 8, "message_size_limit", false},
		{"gateway.conf", 9, "max_packet_size", false},
		{"gateway.conf", 10, "retain_available", false},
		{"gateway.conf", 13, "acl_file", true},
		{"gateway.conf", 14, "use_username_as_clientid (port 1883)", true},
		{"gateway.conf", 17, "cafile (port 8883)", false}, /* once per listener */
		{"gateway.conf", 20, "plugin", true},
		{"gateway.conf", 22, "mount_point (port 8883)", true},
		{"gateway.conf", 25, "psk_hint (port 8884)", false},
		{"gateway.conf", 29, "protocol (port 9001)", false},
		{"gateway.conf", 30, "certfile (port 9001)", false},
		{"gateway.conf", 31, "auth_plugin", true},
		{"gateway.conf", 33, "connection", false},
		{"gateway.conf", 2, "per_listener_settings", false},
	};

	(void)state;
	expect(DATA "gateway.conf", want, (int)(sizeof(want) / sizeof(want[0])));
}

/* Included in mosquitto's order, with the default listener; not by what is included. */
static void test_include_dir(void **state)
{
	static const struct want want[] = {
		{"conf.d/a-acl.conf", 1, "acl_file", true},
		{"conf.d/B-web.conf", 2, "protocol (port 1999)", false},
		{"conf.d/c.conf", 1, "certfile (port 1883)", false},
		{"split.conf", 4, "mount_point (port 1884)", true},
	};

	(void)state;
	expect(DATA "split.conf", want, (int)(sizeof(want) / sizeof(want[0])));
}

static char dir[] = "/tmp/test_broker_conf.XXXXXX";
static char path[64];

static void write_conf(const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

static bool has_filter(const struct broker_bridges *b, const char *filter)
{
	size_t len = strlen(filter);

	for (unsigned at = 0; at < b->len; at += 1u + b->filters[at]) {
		if (b->filters[at] == len && memcmp(b->filters + at + 1, filter, len) == 0)
			return true;
	}
	return false;
}

/* What goes out, with the local prefix; the ports they may be at. */
static void test_bridges(void **state)
{
	static const char *const filters[] = {"up/#", "local/both/+", "plain", "alone",
					      "#",    "said/#",       "more/#"};
	static struct broker_bridges b;
	size_t len = 0;

	(void)state;
	assert_int_equal(broker_conf_bridges(DATA "plain.conf", &b), 0);
	assert_int_equal(b.port_n + b.len, 0);
	assert_int_equal(broker_conf_bridges(DATA "none.conf", &b), -ENOENT);
	assert_int_equal(broker_conf_bridges(DATA "bridges.conf", &b), 2);
	for (unsigned i = 0; i < sizeof(filters) / sizeof(filters[0]); i++) {
		assert_true(has_filter(&b, filters[i]));
		len += 1 + strlen(filters[i]);
	}
	assert_int_equal(b.len, len);
	assert_int_equal(b.port_n, 3);
	assert_int_equal(b.ports[0], 1883);
	assert_int_equal(b.ports[1], 1884);
	assert_int_equal(b.ports[2], 8883);
}

/* Nothing that cannot be read is called safe, and a pipe is left to the broker. */
static void test_unreadable(void **state)
{
	(void)state;
	assert_int_equal(broker_conf_scan(DATA "none.conf", list, MAX), -ENOENT);
	assert_int_equal(broker_conf_scan(DATA, list, MAX), -EISDIR);
	write_conf("include_dir /nonexistent\n");
	assert_int_equal(broker_conf_scan(path, list, MAX), -ENOENT);
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(broker_conf_scan(path, list, MAX), -EOPNOTSUPP);
	unlink(path);
}

static void test_values(void **state)
{
	(void)state;
	write_conf("message_size_limit\nqueue_qos0_messages\nretain_available\n\n   \n");
	assert_int_equal(broker_conf_scan(path, list, MAX), 0);
	/* one that differs by listener, and nothing that could differ */
	write_conf("per_listener_settings true\n");
	assert_int_equal(broker_conf_scan(path, list, MAX), 0);
	write_conf("max_queued_messages 999\nmax_queued_messages 1000\nmax_queued_messages 0\n");
	assert_int_equal(broker_conf_scan(path, list, MAX), 1);
	write_conf("persistent_client_expiration 2m\n");
	assert_int_equal(broker_conf_scan(path, list, MAX), 1);
	assert_false(list[0].unsafe);
	assert_string_equal(list[0].option, "persistent_client_expiration");
	write_conf("allow_duplicate_messages false\nallow_duplicate_messages true\n");
	assert_int_equal(broker_conf_scan(path, list, MAX), 1);
	assert_false(list[0].unsafe);
	assert_int_equal(list[0].line, 2);
	/* names that only begin like one of ours */
	write_conf("acl_files x\nplugin_opt_x y\nconnection_messages true\nmount_pointy z\n");
	assert_int_equal(broker_conf_scan(path, list, MAX), 0);
}

/* What cannot be followed is unsafe, once. */
static void test_too_many_bridges(void **state)
{
	static struct broker_bridges b;
	static char text[8192];
	size_t n;

	(void)state;
	n = (size_t)snprintf(text, sizeof(text), "connection a\n");
	for (unsigned i = 0; i < BROKER_BRIDGE_PORTS - 1; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "address h:%u\n", 2000 + i);
	write_conf(text);
	assert_int_equal(broker_conf_bridges(path, &b), 1);
	assert_int_equal(b.port_n, BROKER_BRIDGE_PORTS);
	snprintf(text + n, sizeof(text) - n, "address h:3000\naddress h:3001\n");
	write_conf(text);
	assert_int_equal(broker_conf_bridges(path, &b), -E2BIG);
	assert_int_equal(broker_conf_scan(path, list, MAX), 2);
	assert_true(!list[0].unsafe && list[1].unsafe);
	assert_int_equal(list[1].line, 17);

	snprintf(text, sizeof(text), "connection a\ntopic %0159d out 0\n", 0);
	write_conf(text);
	assert_int_equal(broker_conf_bridges(path, &b), 1);
	assert_int_equal(b.len, 160);
	snprintf(text, sizeof(text), "connection a\ntopic %0159d out 0 x\n", 0);
	write_conf(text);
	assert_int_equal(broker_conf_bridges(path, &b), -E2BIG);
	n = (size_t)snprintf(text, sizeof(text), "connection a\n");
	for (unsigned i = 0; i < BROKER_BRIDGE_BYTES / 128; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "topic %0127u\n", i);
	write_conf(text);
	assert_int_equal(broker_conf_bridges(path, &b), 1);
	assert_int_equal(b.len, BROKER_BRIDGE_BYTES);
	assert_int_equal(b.filters[BROKER_BRIDGE_BYTES - 1], '1');
	snprintf(text + n, sizeof(text) - n, "topic x\n");
	write_conf(text);
	memset(&b, 0, sizeof(b));
	assert_int_equal(broker_conf_bridges(path, &b), -E2BIG);
	assert_int_equal(b.len + b.port_n, 0);
}

/* Where a tab is no blank; one that wakes up by messages. */
static void test_odd_bridges(void **state)
{
	static struct broker_bridges b;

	(void)state;
	write_conf("connection a\ntopic x\tout\n");
	assert_int_equal(broker_conf_bridges(path, &b), -E2BIG);
	assert_int_equal(broker_conf_scan(path, list, MAX), 2);
	assert_true(list[1].unsafe);
	write_conf("connection a\naddress h\ntopic x out\nstart_type automatic\n");
	assert_int_equal(broker_conf_bridges(path, &b), 1);
	write_conf("connection a\naddress h\ntopic x out\nstart_type lazy\n");
	assert_int_equal(broker_conf_bridges(path, &b), -ENOTSUP);
	assert_int_equal(broker_conf_scan(path, list, MAX), 2);
	assert_true(list[1].unsafe && list[1].line == 4);
}

/* Where its database is, as mosquitto puts it together; the last of each counts. */
static void test_db(void **state)
{
	static const struct {
		const char *conf, *db;
		int rc;
	} cases[] = {
		{"", "", 0},
		{"persistence false\npersistence_location /a\n", "", 0},
		{"persistence true\n", "mosquitto.db", 1},
		{"persistence 1\npersistence_location /a/b/\n", "/a/b//mosquitto.db", 1},
		{"persistence_location d\npersistence_file f.db\npersistence true\n", "d/f.db", 1},
		{"persistence true\npersistence false\n", "", 0},
	};
	char db[32];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		write_conf(cases[i].conf);
		db[0] = '\0';
		assert_int_equal(broker_conf_db(path, db, sizeof(db)), cases[i].rc);
		assert_string_equal(db, cases[i].db);
		assert_int_equal(broker_conf_scan(path, list, MAX), 0);
	}
	write_conf("persistence true\npersistence_location /0123456789/0123456789\n");
	assert_int_equal(broker_conf_db(path, db, sizeof(db)), -ENAMETOOLONG);
	assert_int_equal(broker_conf_db(DATA "none.conf", db, sizeof(db)), -ENOENT);
}

/* More than there is room for: counted, and not called safe. */
static void test_many(void **state)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f;
	int unsafe;

	(void)state;
	f = open_memstream(&text, &len);
	for (int i = 0; i < 100; i++)
		fputs("max_packet_size 1\n", f);
	fputs("acl_file x\n", f);
	fclose(f);
	write_conf(text);
	free(text);
	assert_int_equal(broker_conf_scan(path, list, 2), 101);
	f = open_memstream(&text, &len);
	unsafe = broker_conf_print(f, "toe run: ", path);
	fclose(f);
	assert_int_equal(unsafe, 1);
	assert_non_null(strstr(text, "and 37 more\n"));
	free(text);
}

static void test_print(void **state)
{
	char *text = NULL;
	char want[256];
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	(void)state;
	write_conf("\nacl_file x\nmax_packet_size 1\n");
	assert_int_equal(broker_conf_print(f, "toe run: ", path), 1);
	assert_int_equal(broker_conf_print(f, "", DATA "none.conf"), -ENOENT);
	fclose(f);
	snprintf(want, sizeof(want), "toe run: %s:2: unsafe for MQTT offload: acl_file: ", path);
	assert_memory_equal(text, want, strlen(want));
	snprintf(want, sizeof(want),
		 "toe run: %s:3: note for MQTT offload: max_packet_size: ", path);
	assert_non_null(strstr(text, want));
	assert_non_null(strstr(text, DATA "none.conf cannot be read"));
	free(text);
}

static const char *conf_of(const char *a, const char *b, const char *c, const char *d)
{
	char *cmd[] = {(char *)a, (char *)b, (char *)c, (char *)d, NULL};

	return broker_conf_of(cmd);
}

static void test_command(void **state)
{
	(void)state;
	assert_string_equal(conf_of("mosquitto", "-c", "f", NULL), "f");
	assert_string_equal(conf_of("/usr/sbin/mosquitto", "-v", "--config-file", "f"), "f");
	assert_null(conf_of("mosquitto", "-v", NULL, NULL));
	assert_null(conf_of("mosquitto", "-v", "-c", NULL));
	assert_null(broker_conf_of((char *const[]){"mosquitto", "-c", "f", "-c", "g", NULL}));
	assert_null(conf_of("mosquitto_sub", "-c", "f", NULL));
}

static int setup(void **state)
{
	(void)state;
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/x.conf", dir);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_gateway),
		cmocka_unit_test(test_include_dir),
		cmocka_unit_test(test_unreadable),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_db),
		cmocka_unit_test(test_print),
		cmocka_unit_test(test_command),
		cmocka_unit_test(test_bridges),
		cmocka_unit_test(test_too_many_bridges),
		cmocka_unit_test(test_odd_bridges),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
