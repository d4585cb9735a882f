// SPDX-License-Identifier: BSD-3-Clause
/* LINK: common/config.c */
/*
 * Configuration: defaults, the sample file that says them, sizes, and the message of every kind of
 * mistake.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/config.h"

static char path[] = "/tmp/toe-test-config-XXXXXX";
static char err[512];

static int load(struct toe_config *c, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	err[0] = '\0';
	return toe_config_load(c, path, err, sizeof(err));
}

/* The text is refused and the message has all of the words. */
static void refused(const char *text, const char *line, const char *what, const char *right)
{
	struct toe_config c, before;

	toe_config_defaults(&c);
	before = c;
	assert_int_equal(load(&c, text), -1);
	assert_non_null(strstr(err, path));
	if (!strstr(err, line) || !strstr(err, what) || !strstr(err, right))
		fail_msg("message lacks %s, %s or %s: %s", line, what, right, err);
	assert_null(strchr(err, '\n'));
	assert_memory_equal(&c, &before, sizeof(c));
}

static void test_defaults(void **state)
{
	struct toe_config c;

	(void)state;
	toe_config_defaults(&c);
	assert_string_equal(c.run_dir, "/run/toe");
	assert_string_equal(c.port_if, "toe0");
	assert_string_equal(c.port_driver, "af_packet");
	assert_string_equal(c.tap_if, "toe-tap");
	assert_int_equal(c.mtu, 1500);
	assert_true(c.hugepages);
	assert_true(c.ecn);
	assert_int_equal(c.flow_groups, 4);
	assert_int_equal(c.rx_buf_bytes, 262144);
	assert_int_equal(c.lcore_n, 1);
	assert_string_equal(c.lcores[0], "0: all");
	assert_string_equal(c.cc, "dctcp");
	assert_int_equal(c.applications, 16);
}

/* Uncommenting everything in the sample gives the defaults again. */
static void test_sample_is_defaults(void **state)
{
	struct toe_config c, d;
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	(void)state;
	toe_config_print_defaults(f);
	fclose(f);
	for (char *p = text; *p; p++) {
		if (*p == '#' && p[1] != ' ')
			*p = ' ';
	}
	assert_int_equal(load(&c, text), 0);
	free(text);
	toe_config_defaults(&d);
	memset(c.path, 0, sizeof(c.path));
	assert_memory_equal(&c, &d, sizeof(c));
}

static void test_values(void **state)
{
	struct toe_config c;

	(void)state;
	assert_int_equal(
		load(&c,
		     "run_dir = \"/run/x\";\n"
		     "port: { interface = \"eth1\"; hugepages = false; mtu = 9000; };\n"
		     "tcp: { rx_buf = \"1M\"; tx_buf = 65536; };\n"
		     "pipeline: { pre = 2; lcores = ( \"0: netif_rx pre.0\", \"1: pre.1\" ); };"),
		0);
	assert_string_equal(c.path, path);
	assert_string_equal(c.run_dir, "/run/x");
	assert_string_equal(c.port_if, "eth1");
	assert_false(c.hugepages);
	assert_int_equal(c.mtu, 9000);
	assert_int_equal(c.rx_buf_bytes, 1 << 20);
	assert_int_equal(c.tx_buf_bytes, 65536);
	assert_int_equal(c.lcore_n, 2);
	assert_string_equal(c.lcores[1], "1: pre.1");
	assert_int_equal(c.post, 1);
	assert_int_equal(load(&c, "mqtt: { ports = ( 1883, 1884 );\n"
				  "offload = ( \"#\", \"!+/a/#\", \"/\" ); };"),
			 0);
	assert_int_equal(c.mqtt_port_n, 2);
	assert_int_equal(c.mqtt_ports[1], 1884);
	assert_int_equal(c.mqtt_offload_n, 3);
	assert_string_equal(c.mqtt_offload[1], "!+/a/#");
}

static void test_environment_wins(void **state)
{
	struct toe_config c;
	char buf[128];

	(void)state;
	setenv("TOE_RUN_DIR", "/run/toe-x", 1);
	assert_int_equal(load(&c, "run_dir = \"/run/y\";"), 0);
	assert_string_equal(toe_config_path(&c, "keeper.sock", buf, sizeof(buf)),
			    "/run/toe-x/keeper.sock");
	unsetenv("TOE_RUN_DIR");
}

static void test_mistakes(void **state)
{
	(void)state;
	refused("port: {\n mtu = 1500\n intreface = \"x\"; };", ":3:", "port.intreface",
		"interface");
	refused("\nports: { };", ":2:", "ports", "pipeline");
	refused("port = 3;", ":1:", "port", "group");
	refused("mqtt: {\n ports = ( 1883, 70000 ); };", ":2:", "mqtt.ports", "port numbers");
	refused("mqtt: { ports = 1883; };", ":1:", "mqtt.ports", "1883");
	refused("mqtt: {\n offload = ( \"a/#\", \"a/#/b\" ); };", ":2:", "mqtt.offload \"a/#/b\"",
		"# alone in the last level");
	refused("mqtt: { offload = ( \"a+/b\" ); };", ":1:", "mqtt.offload \"a+/b\"",
		"+ alone in a level");
	refused("mqtt: { offload = ( \"!\" ); };", ":1:", "mqtt.offload \"!\"", "a topic filter");
	refused("mqtt: { offload = ( \"!$SYS/#\" ); };", ":1:", "mqtt.offload \"!$SYS/#\"",
		"never fast");
	refused("mqtt: { offload = ( 3 ); };", ":1:", "mqtt.offload", "filters");
	refused("tcp: { cc = \"cubic\"; };", ":1:", "tcp.cc", "one of (dctcp)");
	refused("port: { mtu = \"1500\"; };", ":1:", "port.mtu", "576 to 9000");
	refused("port: { mtu = 20; };", ":1:", "port.mtu", "576 to 9000");
	refused("port: { mtu = -1; };", ":1:", "port.mtu", "576 to 9000");
	refused("port: { mtu = 1500.5; };", ":1:", "port.mtu", "number");
	refused("port: { interface = 3; };", ":1:", "port.interface", "string");
	refused("port: { interface = \"aninterfacename0\"; };", ":1:", "port.interface", "15");
	refused("port: { interface = \"\"; };", ":1:", "port.interface", "string");
	refused("port: { driver = \"af\"; };", ":1:", "port.driver", "af_packet|af_xdp|pci");
	refused("port: { driver = \"pci\"; };", "", "port.pci", "address");
	refused("port: { hugepages = 1; };", ":1:", "port.hugepages", "true or false");
	refused("tcp: { rx_buf = 5000; };", ":1:", "tcp.rx_buf", "power of two");
	refused("tcp: { rx_buf = \"64M\"; };", ":1:", "tcp.rx_buf", "power of two");
	refused("tcp: { rx_buf = \"64Q\"; };", ":1:", "tcp.rx_buf", "power of two");
	refused("tcp: { rx_buf = 4294971392L; };", ":1:", "tcp.rx_buf", "power of two");
	refused("pipeline: { lcores = \"0: all\"; };", ":1:", "pipeline.lcores", "list");
	refused("pipeline: { lcores = ( ); };", ":1:", "pipeline.lcores", "64");
	refused("pipeline: { lcores = ( \"all\" ); };", ":1:", "pipeline.lcores", "CPU");
	refused("pipeline: { lcores = ( 3 ); };", ":1:", "pipeline.lcores", "list");
	refused("pipeline: { post = 5; };", ":1:", "pipeline.post", "1 to 4");
	refused("pipeline: { proto = 8; };", "", "pipeline.proto", "flow_groups");
	refused("port: { mtu 3 };", ":1:", "syntax", "");
}

/* An address says how large its network is. */
static void test_addresses(void **state)
{
	static const char *const bad4[] = {"192.0.2.10", "eth0",         "192.0.2.10/",
					   "192.0.2/24", "192.0.2.1/33", "192.0.2.1/24x",
					   "::1/64",     "0.0.0.0/0",    "/24"};
	static const char *const bad6[] = {"2001:db8::1", "192.0.2.1/24", "2001:db8::1/129",
					   "::/0"};
	struct toe_config c;
	char text[128];

	(void)state;
	for (size_t i = 0; i < sizeof(bad4) / sizeof(bad4[0]); i++) {
		snprintf(text, sizeof(text), "port: { address = \"%s\"; };", bad4[i]);
		refused(text, ":1:", "port.address", "IPv4 address with prefix length");
	}
	for (size_t i = 0; i < sizeof(bad6) / sizeof(bad6[0]); i++) {
		snprintf(text, sizeof(text), "port: { address6 = \"%s\"; };", bad6[i]);
		refused(text, ":1:", "port.address6", "IPv6 address with prefix length");
	}
	assert_int_equal(
		load(&c, "port: { address = \"192.0.2.10/24\"; address6 = \"fd00::1/64\"; };"), 0);
	assert_string_equal(c.address, "192.0.2.10/24");
	assert_string_equal(c.address6, "fd00::1/64");
	assert_int_equal(load(&c, "port: { address = \"\"; address6 = \"\"; };"), 0);
}

static void test_doubt(void **state)
{
	struct toe_config c;

	(void)state;
	assert_int_equal(load(&c, "mqtt: { offload = ( \"a\" ); };"), 0);
	assert_non_null(strstr(toe_config_doubt(&c), "mqtt.ports is empty"));
	assert_int_equal(load(&c, "mqtt: { offload = ( \"a\" ); ports = ( 1883 ); };"), 0);
	assert_null(toe_config_doubt(&c));
	toe_config_defaults(&c);
	assert_null(toe_config_doubt(&c));
}

static void test_unreadable(void **state)
{
	struct toe_config c;

	(void)state;
	assert_int_equal(toe_config_load(&c, "/nonexistent/toe.conf", err, sizeof(err)), -1);
	assert_non_null(strstr(err, "No such file"));
	assert_int_equal(toe_config_load(&c, "/tmp", err, sizeof(err)), -1);
	assert_non_null(strstr(err, "/tmp"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults), cmocka_unit_test(test_sample_is_defaults),
		cmocka_unit_test(test_values),   cmocka_unit_test(test_environment_wins),
		cmocka_unit_test(test_mistakes), cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_doubt),    cmocka_unit_test(test_unreadable),
	};
	int fd, rc;

	unsetenv("TOE_RUN_DIR");
	fd = mkstemp(path);
	if (fd < 0)
		return 1;
	close(fd);
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(path);
	return rc;
}
