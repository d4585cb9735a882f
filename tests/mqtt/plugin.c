// SPDX-License-Identifier: BSD-3-Clause
/*
 * A message plugin for mosquitto 2: payloads leave the broker in other letters (a to z as A to Z).
 * Built and loaded by tests/net/35_mqtt_options.sh.  The few declarations of mosquitto's plugin
 * interface (version 5) stand here, so that no header of its is needed.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PLUGIN_VERSION 5
#define EVENT_MESSAGE  7

struct message { /* mosquitto_evt_message */
	void *future;
	void *client;
	char *topic;
	void *payload;
	void *properties;
	char *reason_string;
	uint32_t payload_len;
	uint8_t qos;
	uint8_t reason_code;
	bool retain;
	void *future2[4];
};

int mosquitto_callback_register(void *plugin, int event, int (*fn)(int, void *, void *),
				const void *event_data, void *user_data);
int mosquitto_plugin_version(int n, const int *versions);
int mosquitto_plugin_init(void *plugin, void **user_data, void *options, int n);
int mosquitto_plugin_cleanup(void *user_data, void *options, int n);

static int on_message(int event, void *event_data, void *user_data)
{
	struct message *m = event_data;
	uint8_t *p = m->payload;

	(void)event;
	(void)user_data;
	for (uint32_t i = 0; i < m->payload_len; i++) {
		if (p[i] >= 'a' && p[i] <= 'z')
			p[i] = (uint8_t)(p[i] - 'a' + 'A');
	}
	return 0;
}

int mosquitto_plugin_version(int n, const int *versions)
{
	for (int i = 0; i < n; i++) {
		if (versions[i] == PLUGIN_VERSION)
			return PLUGIN_VERSION;
	}
	return -1;
}

int mosquitto_plugin_init(void *plugin, void **user_data, void *options, int n)
{
	(void)user_data;
	(void)options;
	(void)n;
	return mosquitto_callback_register(plugin, EVENT_MESSAGE, on_message, NULL, NULL);
}

int mosquitto_plugin_cleanup(void *user_data, void *options, int n)
{
	(void)user_data;
	(void)options;
	(void)n;
	return 0;
}
