// SPDX-License-Identifier: BSD-3-Clause
/*
 * Tables out of JSON: what the parts of the engine answer is shown as it is named, so that a new
 * field needs no change here.  In: jansson values; out: aligned columns, numbers to the right.  No
 * state.
 */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

#define COLUMNS_MAX 32
#define CELL_BYTES  96

int cli_print_json(const json_t *j)
{
	json_dumpf(j, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
	putchar('\n');
	return CLI_OK;
}

static const char *cell(const json_t *v, char *buf, size_t len)
{
	char *text;

	switch (v ? json_typeof(v) : JSON_NULL) {
	case JSON_STRING:
		snprintf(buf, len, "%s", json_string_value(v));
		break;
	case JSON_INTEGER:
		snprintf(buf, len, "%lld", (long long)json_integer_value(v));
		break;
	case JSON_REAL:
		snprintf(buf, len, "%.2f", json_real_value(v));
		break;
	case JSON_TRUE:
		return "yes";
	case JSON_FALSE:
		return "no";
	case JSON_NULL:
		return "-";
	default:
		text = json_dumps(v, JSON_COMPACT);
		snprintf(buf, len, "%s", text ? text : "?");
		free(text);
		break;
	}
	for (char *p = buf; *p; p++) { /* names of programs go onto terminals */
		if ((unsigned char)*p < ' ' || *p == 127)
			*p = '?';
	}
	return *buf ? buf : "-";
}

struct columns {
	const char *names[COLUMNS_MAX];
	int width[COLUMNS_MAX];
	bool number[COLUMNS_MAX];
	int n;
};

static void measure(struct columns *c, const json_t *row)
{
	char buf[CELL_BYTES];

	for (int i = 0; i < c->n; i++) {
		const json_t *v = json_object_get(row, c->names[i]);
		int w = (int)strlen(cell(v, buf, sizeof(buf)));

		if (w > c->width[i])
			c->width[i] = w;
		c->number[i] |= json_is_number(v);
	}
}

static void add_columns(struct columns *c, const json_t *row)
{
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)row, key, v)
	{
		if (c->n < COLUMNS_MAX) {
			c->width[c->n] = (int)strlen(key);
			c->names[c->n++] = key;
		}
	}
}

/* row NULL: the header. */
static void print_row(FILE *out, const struct columns *c, const json_t *row)
{
	char buf[CELL_BYTES];

	for (int i = 0; i < c->n; i++) {
		const char *text = row ? cell(json_object_get(row, c->names[i]), buf, sizeof(buf))
				       : c->names[i];
		int w = c->width[i];

		if (!c->number[i] && i == c->n - 1)
			w = 0; /* no trailing blanks */
		fprintf(out, "%s%*s", i ? "  " : "", c->number[i] ? w : -w, text);
	}
	fputc('\n', out);
}

void cli_print_table(FILE *out, const json_t *rows)
{
	struct columns c = {.n = 0};
	size_t i;
	json_t *row;

	add_columns(&c, json_array_get(rows, 0));
	if (c.n == 0)
		return;
	json_array_foreach(rows, i, row) measure(&c, row);
	print_row(out, &c, NULL);
	json_array_foreach(rows, i, row) print_row(out, &c, row);
}

void cli_print_rows(FILE *out, const json_t *object, const char *title)
{
	json_t *rows = json_array();
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)object, key, v)
	{
		json_t *row = json_object();

		json_object_set_new(row, title, json_string(key));
		if (json_is_object(v))
			json_object_update(row, v);
		else
			json_object_set(row, "value", v);
		json_array_append_new(rows, row);
	}
	cli_print_table(out, rows);
	json_decref(rows);
}

static bool shown(const json_t *v, bool all)
{
	return all || !json_is_number(v) || json_number_value(v) != 0;
}

unsigned cli_print_values(FILE *out, const json_t *object, bool all,
			  const char *(*text)(const char *name))
{
	unsigned n = 0;
	int width = 0;
	int digits = 0;
	char buf[CELL_BYTES];
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)object, key, v)
	{
		int len = (int)strlen(cell(v, buf, sizeof(buf)));

		if ((int)strlen(key) > width)
			width = (int)strlen(key);
		if (shown(v, all) && len > digits)
			digits = len;
	}
	json_object_foreach((json_t *)object, key, v)
	{
		const char *meaning = text ? text(key) : NULL;

		if (!shown(v, all))
			continue;
		fprintf(out, "%-*s  %*s%s%s\n", width, key, text ? digits : 0,
			cell(v, buf, sizeof(buf)), meaning ? "  " : "", meaning ? meaning : "");
		n++;
	}
	return n;
}
