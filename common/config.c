// SPDX-License-Identifier: BSD-3-Clause
/*
 * Configuration: defaults, file reader, sample printer, all from options.def.
 *
 * In: a libconfig file; out: struct toe_config, or one line "file:line: what, what would be right".
 * Names that do not exist and values of the wrong type or range are errors: a typing mistake must
 * not become a default.  No state; called at start by one thread.
 */
#include "common/config.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libconfig.h>

#include "common/topic_filter.h"

#define LCORES_DEFAULT "0: all"

enum opt_type { OPT_STR, OPT_WORD, OPT_ADDR4, OPT_ADDR6, OPT_BOOL, OPT_U32, OPT_SIZE };

struct option {
	const char *group; /* "": top level */
	const char *name;
	enum opt_type type;
	size_t offset;
	size_t bytes; /* of the field */
	const char *def;
	uint32_t min;
	uint32_t max;
	const char *text;
};

static const struct option options[] = {
#define TOE_OPTION(group_, name_, type_, field_, def_, min_, max_, text_)                          \
	{group_,                                                                                   \
	 #name_,                                                                                   \
	 OPT_##type_,                                                                              \
	 offsetof(struct toe_config, field_),                                                      \
	 sizeof(((struct toe_config *)0)->field_),                                                 \
	 def_,                                                                                     \
	 min_,                                                                                     \
	 max_,                                                                                     \
	 text_},
#include "common/options.def"
};
#define OPTION_N (sizeof(options) / sizeof(options[0]))

static const struct {
	const char *name;
	const char *text;
} groups[] = {
#define TOE_GROUP(name_, text_) {#name_, text_},
#include "common/options.def"
};
#define GROUP_N (sizeof(groups) / sizeof(groups[0]))

/* Where an error is reported and which file is being read. */
struct reader {
	struct toe_config *c;
	const char *path;
	char *err;
	size_t err_len;
};

/* ---- values ---- */

/* Is s one of the words in the parentheses of the option's text? */
static bool word_allowed(const struct option *o, const char *s)
{
	const char *p = strchr(o->text, '(');
	size_t len = strlen(s);

	while (p && *p != ')' && *p != '\0') {
		size_t n = strcspn(++p, "|)");

		if (n == len && strncmp(p, s, n) == 0)
			return true;
		p += n;
	}
	return false;
}

/* "4096", "256K", "1M", "0x1000". */
static bool parse_number(const char *s, bool units, uint64_t *out)
{
	char *end;

	if (!isdigit((unsigned char)*s))
		return false;
	errno = 0;
	*out = strtoull(s, &end, 0);
	if (errno || *out > UINT32_MAX)
		return false;
	if (units && (*end == 'K' || *end == 'k')) {
		*out <<= 10;
		end++;
	} else if (units && *end == 'M') {
		*out <<= 20;
		end++;
	}
	return *end == '\0';
}

/* What a right value looks like. */
static const char *expected(const struct option *o, char *buf, size_t len)
{
	switch (o->type) {
	case OPT_STR:
		if (o->min)
			snprintf(buf, len, "a string of %u to %u characters in quotes", o->min,
				 o->max);
		else
			snprintf(buf, len, "a string of at most %u characters in quotes", o->max);
		break;
	case OPT_WORD:
		snprintf(buf, len, "one of %.*s, in quotes",
			 (int)(strcspn(strchr(o->text, '('), ")") + 1), strchr(o->text, '('));
		break;
	case OPT_ADDR4:
		snprintf(buf, len, "an IPv4 address with prefix length, like \"192.0.2.10/24\"");
		break;
	case OPT_ADDR6:
		snprintf(buf, len, "an IPv6 address with prefix length, like \"2001:db8::10/64\"");
		break;
	case OPT_BOOL:
		snprintf(buf, len, "true or false");
		break;
	case OPT_U32:
		snprintf(buf, len, "a number from %u to %u", o->min, o->max);
		break;
	case OPT_SIZE:
		snprintf(buf, len, "a power of two from %u to %u, or like \"256K\"", o->min,
			 o->max);
		break;
	}
	return buf;
}

static bool set_number(struct toe_config *c, const struct option *o, uint64_t v)
{
	uint32_t v32 = (uint32_t)v;

	if (v < o->min || v > o->max)
		return false;
	if (o->type == OPT_SIZE && (v & (v - 1)))
		return false;
	memcpy((char *)c + o->offset, &v32, sizeof(v32));
	return true;
}

/* "192.0.2.10/24"; "" is none. */
static bool address_ok(const char *s, int family)
{
	static const uint8_t none[16];
	const char *slash = strchr(s, '/');
	uint8_t addr[16] = {0};
	char text[64];
	char *end;
	unsigned long bits;

	if (!*s)
		return true;
	if (!slash || !isdigit((unsigned char)slash[1]) || slash - s >= (ptrdiff_t)sizeof(text))
		return false;
	snprintf(text, sizeof(text), "%.*s", (int)(slash - s), s);
	bits = strtoul(slash + 1, &end, 10);
	return *end == '\0' && bits <= (family == AF_INET ? 32 : 128) &&
	       inet_pton(family, text, addr) == 1 && memcmp(addr, none, sizeof(none)) != 0;
}

static bool set_string(struct toe_config *c, const struct option *o, const char *s)
{
	size_t len = strlen(s);

	if (len < o->min || len > o->max || len >= o->bytes)
		return false;
	if (o->type == OPT_WORD && !word_allowed(o, s))
		return false;
	if ((o->type == OPT_ADDR4 && !address_ok(s, AF_INET)) ||
	    (o->type == OPT_ADDR6 && !address_ok(s, AF_INET6)))
		return false;
	memset((char *)c + o->offset, 0, o->bytes);
	memcpy((char *)c + o->offset, s, len);
	return true;
}

static bool set_bool(struct toe_config *c, const struct option *o, bool v)
{
	memcpy((char *)c + o->offset, &v, sizeof(v));
	return true;
}

/* From text: defaults, and quoted sizes of the file. */
static bool set_text(struct toe_config *c, const struct option *o, const char *s)
{
	uint64_t v;

	switch (o->type) {
	case OPT_STR:
	case OPT_WORD:
	case OPT_ADDR4:
	case OPT_ADDR6:
		return set_string(c, o, s);
	case OPT_BOOL:
		return set_bool(c, o, strcmp(s, "true") == 0);
	case OPT_U32:
	case OPT_SIZE:
		return parse_number(s, o->type == OPT_SIZE, &v) && set_number(c, o, v);
	}
	return false;
}

/* ---- defaults ---- */

static void apply_environment(struct toe_config *c)
{
	const char *dir = getenv("TOE_RUN_DIR");

	if (dir && *dir && strlen(dir) < sizeof(c->run_dir))
		snprintf(c->run_dir, sizeof(c->run_dir), "%s", dir);
}

void toe_config_defaults(struct toe_config *c)
{
	memset(c, 0, sizeof(*c));
	for (size_t i = 0; i < OPTION_N; i++)
		set_text(c, &options[i], options[i].def);
	c->lcore_n = 1;
	snprintf(c->lcores[0], sizeof(c->lcores[0]), LCORES_DEFAULT);
	apply_environment(c);
}

/* ---- file ---- */

static int fail(const struct reader *r, const config_setting_t *at, const char *what,
		const char *right)
{
	const char *file = at ? config_setting_source_file(at) : NULL;

	if (at)
		snprintf(r->err, r->err_len, "%s:%d: %s: expected %s", file ? file : r->path,
			 (int)config_setting_source_line(at), what, right);
	else
		snprintf(r->err, r->err_len, "%s: %s: expected %s", r->path, what, right);
	return -1;
}

static int read_value(const struct reader *r, const struct option *o, const config_setting_t *s)
{
	bool is_num = o->type == OPT_U32 || o->type == OPT_SIZE;
	char right[128];
	char name[64];
	bool ok = false;

	switch (config_setting_type(s)) {
	case CONFIG_TYPE_STRING:
		if (o->type != OPT_BOOL && o->type != OPT_U32)
			ok = set_text(r->c, o, config_setting_get_string(s));
		break;
	case CONFIG_TYPE_INT:
	case CONFIG_TYPE_INT64:
		if (is_num && config_setting_get_int64(s) >= 0)
			ok = set_number(r->c, o, (uint64_t)config_setting_get_int64(s));
		break;
	case CONFIG_TYPE_BOOL:
		if (o->type == OPT_BOOL)
			ok = set_bool(r->c, o, config_setting_get_bool(s));
		break;
	default:
		break;
	}
	if (ok)
		return 0;
	snprintf(name, sizeof(name), "%s%s%s", o->group, *o->group ? "." : "", o->name);
	return fail(r, s, name, expected(o, right, sizeof(right)));
}

static int read_lcores(const struct reader *r, const config_setting_t *s)
{
	static const char right[] = "a list like ( \"0: netif_rx seq pre.0\", \"1: ...\" )";
	int n;

	if (!config_setting_is_list(s) && !config_setting_is_array(s))
		return fail(r, s, "pipeline.lcores", right);
	n = config_setting_length(s);
	if (n < 1 || n > (int)TOE_CFG_LCORES_MAX)
		return fail(r, s, "pipeline.lcores", "1 to 64 entries");
	memset(r->c->lcores, 0, sizeof(r->c->lcores));
	for (int i = 0; i < n; i++) {
		const config_setting_t *e = config_setting_get_elem(s, (unsigned)i);
		const char *text = config_setting_get_string(e);
		size_t digits;

		if (!text || strlen(text) >= sizeof(r->c->lcores[0]))
			return fail(r, e, "pipeline.lcores", right);
		digits = strspn(text, "0123456789");
		if (digits == 0 || text[digits] != ':')
			return fail(r, e, "pipeline.lcores", "\"CPU: stage stage.replica ...\"");
		snprintf(r->c->lcores[i], sizeof(r->c->lcores[i]), "%s", text);
	}
	r->c->lcore_n = (uint32_t)n;
	return 0;
}

/* Lists of the group mqtt. */
static int read_mqtt_ports(const struct reader *r, const config_setting_t *s)
{
	static const char right[] = "a list of 0 to 8 port numbers like ( 1883 )";
	int n;

	if (!config_setting_is_list(s) && !config_setting_is_array(s))
		return fail(r, s, "mqtt.ports", right);
	n = config_setting_length(s);
	if (n > (int)TOE_CFG_MQTT_PORTS_MAX)
		return fail(r, s, "mqtt.ports", right);
	for (int i = 0; i < n; i++) {
		const config_setting_t *e = config_setting_get_elem(s, (unsigned)i);
		int port = config_setting_get_int(e);

		if (config_setting_type(e) != CONFIG_TYPE_INT || port < 1 || port > 65535)
			return fail(r, e, "mqtt.ports", right);
		r->c->mqtt_ports[i] = (uint16_t)port;
	}
	r->c->mqtt_port_n = (uint32_t)n;
	return 0;
}

/* What a right filter would be; NULL: it is one. */
static const char *filter_expected(const char *f)
{
	if (*f == '\0')
		return "a topic filter";
	if (*f == '$')
		return "no $ in front: such topics are never fast";
	if (!toe_filter_wildcards_valid((const uint8_t *)f, strlen(f)))
		return "# alone in the last level, + alone in a level, as in \"a/+/b/#\"";
	return NULL;
}

static int read_mqtt_offload(const struct reader *r, const config_setting_t *s)
{
	static const char right[] = "a list of at most 64 topic filters like ( \"sensors/#\" )";
	const char *wrong;
	char what[128];
	int n;

	if (!config_setting_is_list(s) && !config_setting_is_array(s))
		return fail(r, s, "mqtt.offload", right);
	n = config_setting_length(s);
	if (n > (int)TOE_CFG_MQTT_FILTERS_MAX)
		return fail(r, s, "mqtt.offload", right);
	for (int i = 0; i < n; i++) {
		const config_setting_t *e = config_setting_get_elem(s, (unsigned)i);
		const char *text = config_setting_get_string(e);

		if (text == NULL)
			return fail(r, e, "mqtt.offload", right);
		wrong = strlen(text) >= TOE_CFG_MQTT_FILTER_MAX
				? "at most 255 bytes"
				: filter_expected(text + (*text == '!'));
		if (wrong) {
			snprintf(what, sizeof(what), "mqtt.offload \"%.80s\"", text);
			return fail(r, e, what, wrong);
		}
		snprintf(r->c->mqtt_offload[i], sizeof(r->c->mqtt_offload[i]), "%s", text);
	}
	r->c->mqtt_offload_n = (uint32_t)n;
	return 0;
}

/* Options that are lists. */
static const struct {
	const char *group;
	const char *name;
	int (*read)(const struct reader *r, const config_setting_t *s);
	const char *sample;
} lists[] = {
	{"pipeline", "lcores", read_lcores,
	 "\t# one line per core: \"CPU: stage stage.replica ...\"; \"all\" means every stage\n"
	 "\t#lcores = ( \"" LCORES_DEFAULT "\" );\n"},
	{"mqtt", "ports", read_mqtt_ports,
	 "\t# listening ports of the broker whose connections the stage follows; none: it is off\n"
	 "\t#ports = ( );\n"},
	{"mqtt", "offload", read_mqtt_offload,
	 "\t# topic filters whose messages the stage delivers; see docs/MQTT.md before you add "
	 "one\n"
	 "\t#offload = ( );\n"},
};
#define LIST_N (sizeof(lists) / sizeof(lists[0]))

/* Index in lists, LIST_N: it is none. */
static size_t find_list(const char *group, const char *name)
{
	size_t i;

	for (i = 0; i < LIST_N; i++) {
		if (strcmp(lists[i].group, group) == 0 && strcmp(lists[i].name, name) == 0)
			break;
	}
	return i;
}

static const struct option *find_option(const char *group, const char *name)
{
	for (size_t i = 0; i < OPTION_N; i++) {
		if (strcmp(options[i].group, group) == 0 && strcmp(options[i].name, name) == 0)
			return &options[i];
	}
	return NULL;
}

/* "expected one of: a b c" for a name that does not exist. */
static int fail_name(const struct reader *r, const config_setting_t *s, const char *group)
{
	char what[96];
	char right[512] = "one of:";
	size_t at = strlen(right);

	for (size_t i = 0; i < OPTION_N && at < sizeof(right); i++) {
		if (strcmp(options[i].group, group) == 0)
			at += (size_t)snprintf(right + at, sizeof(right) - at, " %s",
					       options[i].name);
	}
	for (size_t i = 0; i < GROUP_N && !*group && at < sizeof(right); i++)
		at += (size_t)snprintf(right + at, sizeof(right) - at, " %s", groups[i].name);
	for (size_t i = 0; i < LIST_N && at < sizeof(right); i++) {
		if (strcmp(lists[i].group, group) == 0)
			at += (size_t)snprintf(right + at, sizeof(right) - at, " %s",
					       lists[i].name);
	}
	snprintf(what, sizeof(what), "unknown %s %s%s%.40s", *group ? "option" : "option or group",
		 group, *group ? "." : "", config_setting_name(s));
	return fail(r, s, what, right);
}

static bool is_group(const char *name)
{
	for (size_t i = 0; i < GROUP_N; i++) {
		if (strcmp(groups[i].name, name) == 0)
			return true;
	}
	return false;
}

/* The settings of one group ("": the whole file). */
static int read_group(const struct reader *r, const config_setting_t *g, const char *group)
{
	for (int i = 0; i < config_setting_length(g); i++) {
		const config_setting_t *s = config_setting_get_elem(g, (unsigned)i);
		const char *name = config_setting_name(s);
		const struct option *o = find_option(group, name);
		int rc;

		if (o)
			rc = read_value(r, o, s);
		else if (find_list(group, name) < LIST_N)
			rc = lists[find_list(group, name)].read(r, s);
		else if (!*group && is_group(name) && config_setting_is_group(s))
			rc = read_group(r, s, name);
		else if (!*group && is_group(name))
			rc = fail(r, s, name, "a group: { option = value; ... }");
		else
			rc = fail_name(r, s, group);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* What no single option can say. */
static int check_relations(const struct reader *r)
{
	const struct toe_config *c = r->c;

	if (c->proto > c->flow_groups)
		return fail(r, NULL, "pipeline.proto", "at most pipeline.flow_groups");
	if (strcmp(c->port_driver, "pci") == 0 && !c->port_pci[0])
		return fail(r, NULL, "port.pci", "an address, because port.driver is \"pci\"");
	if (c->mbufs < 2 * c->work_items)
		return fail(r, NULL, "pipeline.mbufs", "at least twice pipeline.work_items");
	return 0;
}

int toe_config_load(struct toe_config *c, const char *path, char *err, size_t err_len)
{
	struct toe_config fresh;
	struct reader r = {&fresh, path, err, err_len};
	config_t file;
	int rc;

	toe_config_defaults(&fresh);
	snprintf(fresh.path, sizeof(fresh.path), "%s", path);
	config_init(&file);
	errno = 0;
	if (config_read_file(&file, path) == CONFIG_FALSE) {
		if (config_error_type(&file) == CONFIG_ERR_FILE_IO)
			snprintf(err, err_len, "%s: cannot be read: %s", path,
				 errno ? strerror(errno) : "not a regular file");
		else
			snprintf(err, err_len, "%s:%d: %s",
				 config_error_file(&file) ? config_error_file(&file) : path,
				 config_error_line(&file), config_error_text(&file));
		config_destroy(&file);
		return -1;
	}
	rc = read_group(&r, config_root_setting(&file), "");
	if (rc == 0)
		rc = check_relations(&r);
	config_destroy(&file);
	if (rc < 0)
		return rc;
	apply_environment(&fresh);
	memcpy(c, &fresh, sizeof(fresh));
	return 0;
}

const char *toe_config_port_name(const struct toe_config *c)
{
	return strcmp(c->port_driver, "pci") == 0 ? c->port_pci : c->port_if;
}

const char *toe_config_doubt(const struct toe_config *c)
{
	if (c->mqtt_offload_n > 0 && c->mqtt_port_n == 0)
		return "mqtt.offload does nothing, because mqtt.ports is empty: name the broker's "
		       "ports, like mqtt.ports = ( 1883 )";
	return NULL;
}

/* ---- sample ---- */

static void print_option(FILE *out, const struct option *o, const char *indent)
{
	bool plain = o->type == OPT_BOOL || o->type == OPT_U32 || o->type == OPT_SIZE;
	const char *quote = plain ? "" : "\"";

	if (o->type == OPT_SIZE && !isdigit((unsigned char)o->def[strlen(o->def) - 1]))
		quote = "\"";
	fprintf(out, "%s# %s\n%s#%s = %s%s%s;\n", indent, o->text, indent, o->name, quote, o->def,
		quote);
}

void toe_config_print_defaults(FILE *out)
{
	fprintf(out, "# Configuration of toe.  Everything has a default, shown here: remove the # "
		     "to change it.\n\n");
	for (size_t i = 0; i < OPTION_N; i++) {
		if (!*options[i].group)
			print_option(out, &options[i], "");
	}
	for (size_t g = 0; g < GROUP_N; g++) {
		fprintf(out, "\n# %s\n%s: {\n", groups[g].text, groups[g].name);
		for (size_t i = 0; i < OPTION_N; i++) {
			if (strcmp(options[i].group, groups[g].name) == 0)
				print_option(out, &options[i], "\t");
		}
		for (size_t i = 0; i < LIST_N; i++) {
			if (strcmp(lists[i].group, groups[g].name) == 0)
				fputs(lists[i].sample, out);
		}
		fprintf(out, "};\n");
	}
}

char *toe_config_path(const struct toe_config *c, const char *name, char *buf, size_t len)
{
	snprintf(buf, len, "%s/%s", c->run_dir, name);
	return buf;
}
