// SPDX-License-Identifier: BSD-3-Clause
/* LINK: controlplane/cli/show.c controlplane/cli/meaning.c controlplane/cli/exec.c
   controlplane/cli/edit.c common/config.c controlplane/keeper/netaddr.c controlplane/keeper/nft.c
 */
/*
 * toe: tables out of JSON, settings into configuration files, running programs; and the small
 * parsers of the keeper that need no machine: addresses, names of nft tables.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "controlplane/cli/cli.h"
#include "controlplane/keeper/setup.h"

static char *text;
static size_t text_len;

static FILE *start(void)
{
	FILE *f = open_memstream(&text, &text_len);

	assert_non_null(f);
	return f;
}

static void expect(FILE *f, const char *want)
{
	fclose(f);
	assert_string_equal(text, want);
	free(text);
}

static void test_table(void **state)
{
	json_t *j = json_loads("[{\"state\":\"ESTAB\",\"rx\":7,\"b\":true},"
			       "{\"state\":\"A\\u001b[31m\",\"rx\":12345,\"b\":null}]",
			       0, NULL);
	FILE *f = start();

	(void)state;
	cli_print_table(f, j);
	expect(f, "state      rx  b\n"
		  "ESTAB       7  yes\n"
		  "A?[31m  12345  -\n");
	json_decref(j);
	j = json_array();
	f = start();
	cli_print_table(f, j);
	expect(f, "");
	json_decref(j);
}

static void test_rows(void **state)
{
	json_t *j = json_loads("{\"pre.0\":{\"items\":5},\"proto\":{\"items\":12}}", 0, NULL);
	FILE *f = start();

	(void)state;
	cli_print_rows(f, j, "stage");
	expect(f, "stage  items\n"
		  "pre.0      5\n"
		  "proto     12\n");
	json_decref(j);
}

static void test_values(void **state)
{
	json_t *j = json_loads("{\"a\":0,\"long\":3}", 0, NULL);
	FILE *f = start();

	(void)state;
	assert_int_equal(cli_print_values(f, j, false, NULL), 1);
	assert_int_equal(cli_print_values(f, j, true, NULL), 2);
	expect(f, "long  3\na     0\nlong  3\n");
	json_decref(j);
}

/* Names of telemetry, with what they mean; the same name may be in both lists. */
static void test_meanings(void **state)
{
	json_t *j = json_loads("{\"window\":282,\"paws\":0,\"short\":7,\"new\":1}", 0, NULL);
	FILE *f = start();

	(void)state;
	assert_int_equal(cli_print_values(f, j, false, cli_drop_text), 3);
	expect(f, "window  282  segment outside the receive window\n"
		  "short     7  frame shorter than its headers say\n"
		  "new       1\n");
	json_decref(j);
	j = json_loads("{\"rto\":3,\"window\":1}", 0, NULL);
	f = start();
	assert_int_equal(cli_print_values(f, j, false, cli_counter_text), 2);
	expect(f, "rto     3  retransmission timeouts executed\n"
		  "window  1\n");
	json_decref(j);
}

static void test_run(void **state)
{
	char out[8];

	(void)state;
	assert_int_equal(
		cli_runl(out, sizeof(out), "sh", "-c", "echo abcdefghijk; exit 3", (char *)NULL),
		3);
	assert_string_equal(out, "abcdefg"); /* cut, not blocked */
	assert_int_equal(cli_runl(out, sizeof(out), "/nonexistent/x", (char *)NULL), 127);
	assert_int_equal(cli_runl(NULL, 0, "sh", "-c", "kill -9 $$", (char *)NULL), 128 + 9);
	assert_true(cli_in_path("sh"));
	assert_false(cli_in_path("no-such-program"));
}

static void test_edit(void **state)
{
	static char s0[] = "pipeline.pre=2";
	static char s1[] = "pipeline.lcores=0: all;1: pre.1";
	static char s2[] = "tcp.rx_buf=64K";
	static char s3[] = "port.hugepages=false";
	static char s4[] = "port.interface=eth7";
	char *settings[] = {s0, s1, s2, s3, s4};
	char base[] = "/tmp/toe-test-base-XXXXXX";
	char path[] = "/tmp/toe-test-conf-XXXXXX";
	struct toe_config cfg;
	char err[256];
	int fd = mkstemp(base);

	(void)state;
	assert_true(fd >= 0);
	assert_true(dprintf(fd, "pipeline: { pre = 1; post = 2; };\ntcp: { connections = 99; };") >
		    0);
	close(fd);
	close(mkstemp(path));
	assert_int_equal(cli_write_config(base, path, settings, 5, err, sizeof(err)), 0);
	if (toe_config_load(&cfg, path, err, sizeof(err)) < 0)
		fail_msg("%s", err);
	assert_int_equal(cfg.pre, 2);
	assert_int_equal(cfg.post, 2);
	assert_int_equal(cfg.connections, 99);
	assert_int_equal(cfg.rx_buf_bytes, 65536);
	assert_false(cfg.hugepages);
	assert_string_equal(cfg.port_if, "eth7");
	assert_int_equal(cfg.lcore_n, 2);
	assert_string_equal(cfg.lcores[1], "1: pre.1");
	unlink(base);
	unlink(path);
}

static void test_edit_errors(void **state)
{
	static const char *const bad[] = {"nothing", "=1", "run_dir.x=1", "a b=1"};
	char path[] = "/tmp/toe-test-conf-XXXXXX";
	char first[] = "run_dir=/x";
	char err[256];

	(void)state;
	close(mkstemp(path));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char *settings[] = {first, (char *)bad[i]};

		err[0] = '\0';
		assert_int_equal(cli_write_config(NULL, path, settings, 2, err, sizeof(err)), -1);
		assert_non_null(strstr(err, bad[i]));
	}
	assert_int_equal(cli_write_config("/nonexistent", path, NULL, 0, err, sizeof(err)), -1);
	unlink(path);
}

static void test_addr(void **state)
{
	static const char *const bad[] = {"",           "1.2.3",       "1.2.3.4/33", "1.2.3.4/",
					  "1.2.3.4/x",  "1.2.3.4/1 ",  "0.0.0.0/24", "1.2.3.4/-1",
					  "::/64",      "fd00::1/129", "fd00::1/",   "fd00::g/64",
					  "1.2.3.4/64:"};
	struct kp_addr a;

	(void)state;
	assert_int_equal(kp_addr_parse("10.99.0.1/24", &a), 0);
	assert_int_equal(a.family, AF_INET);
	assert_memory_equal(a.addr, ((uint8_t[16]){10, 99, 0, 1}), 16);
	assert_int_equal(a.prefix_len, 24);
	assert_int_equal(kp_addr_parse("10.99.0.1", &a), 0);
	assert_int_equal(a.prefix_len, 32);
	assert_int_equal(kp_addr_parse("fd00:99::1/64", &a), 0);
	assert_int_equal(a.family, AF_INET6);
	assert_int_equal(a.prefix_len, 64);
	assert_memory_equal(a.addr, ((uint8_t[16]){0xfd, 0, 0, 0x99, [15] = 1}), 16);
	assert_int_equal(kp_addr_parse("fd00:99::1", &a), 0);
	assert_int_equal(a.prefix_len, 128);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(kp_addr_parse(bad[i], &a), -EINVAL);
}

static void test_nft_table(void **state)
{
	char buf[64];

	(void)state;
	kp_nft_table("eth0.7", buf, sizeof(buf));
	assert_string_equal(buf, "toe_eth0_7");
	kp_nft_table("a;b\" c", buf, sizeof(buf));
	assert_string_equal(buf, "toe_a_b__c");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),       cmocka_unit_test(test_rows),
		cmocka_unit_test(test_values),      cmocka_unit_test(test_meanings),
		cmocka_unit_test(test_run),         cmocka_unit_test(test_edit),
		cmocka_unit_test(test_edit_errors), cmocka_unit_test(test_addr),
		cmocka_unit_test(test_nft_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
