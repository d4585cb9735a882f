// SPDX-License-Identifier: BSD-3-Clause
/*
 * Configuration files out of others and single settings, for the testbed.  In: a base file and
 * "group.name=value"; out: a file in libconfig syntax.  Names and ranges are checked by whoever
 * loads it (toe_config_load), which knows them.  No state.
 */
#include "cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <libconfig.h>

/* "0: a b;1: c" -> ( "0: a b", "1: c" ) */
static void set_list(config_setting_t *group, const char *name, const char *value)
{
	config_setting_t *list = config_setting_add(group, name, CONFIG_TYPE_LIST);
	char item[512];

	while (list && *value) {
		size_t len = strcspn(value, ";");

		snprintf(item, sizeof(item), "%.*s", (int)len, value);
		config_setting_set_string_elem(list, -1, item);
		value += len + (value[len] == ';');
	}
}

static void set_scalar(config_setting_t *group, const char *name, const char *value)
{
	char *end;
	long long number = strtoll(value, &end, 0);
	bool truth = strcmp(value, "true") == 0;
	int type = CONFIG_TYPE_STRING;
	config_setting_t *s;

	if (truth || strcmp(value, "false") == 0)
		type = CONFIG_TYPE_BOOL;
	else if (*value && *end == '\0')
		type = CONFIG_TYPE_INT64;
	s = config_setting_add(group, name, type);
	if (!s)
		return; /* no name: the caller sees that nothing is there */
	if (type == CONFIG_TYPE_BOOL)
		config_setting_set_bool(s, truth);
	else if (type == CONFIG_TYPE_INT64)
		config_setting_set_int64(s, number);
	else
		config_setting_set_string(s, value);
}

static int set_one(config_t *file, const char *setting, char *err, size_t err_len)
{
	const char *eq = strchr(setting, '=');
	char key[64];
	char *dot;
	char *name = key;
	config_setting_t *group = config_root_setting(file);

	if (!eq || eq == setting || (size_t)(eq - setting) >= sizeof(key)) {
		snprintf(err, err_len, "\"%s\": expected KEY=VALUE, like tcp.connections=1000",
			 setting);
		return -1;
	}
	snprintf(key, sizeof(key), "%.*s", (int)(eq - setting), setting);
	dot = strchr(key, '.');
	if (dot) {
		*dot = '\0';
		name = dot + 1;
		group = config_setting_get_member(group, key);
		if (!group)
			group = config_setting_add(config_root_setting(file), key,
						   CONFIG_TYPE_GROUP);
	}
	if (!group || !config_setting_is_group(group)) {
		snprintf(err, err_len, "\"%s\": no such option", setting);
		return -1;
	}
	config_setting_remove(group, name);
	if (strcmp(name, "lcores") == 0)
		set_list(group, name, eq + 1);
	else
		set_scalar(group, name, eq + 1);
	if (config_setting_get_member(group, name))
		return 0;
	snprintf(err, err_len, "\"%s\": no such option", setting);
	return -1;
}

int cli_write_config(const char *base, const char *path, char *const *settings, unsigned n,
		     char *err, size_t err_len)
{
	config_t file;
	int rc = 0;

	config_init(&file);
	if (base && config_read_file(&file, base) == CONFIG_FALSE) {
		snprintf(err, err_len, "%s:%d: %s", base, config_error_line(&file),
			 config_error_text(&file));
		rc = -1;
	}
	for (unsigned i = 0; i < n && rc == 0; i++)
		rc = set_one(&file, settings[i], err, err_len);
	if (rc == 0 && config_write_file(&file, path) == CONFIG_FALSE) {
		snprintf(err, err_len, "%s: cannot be written", path);
		rc = -1;
	}
	config_destroy(&file);
	return rc;
}
