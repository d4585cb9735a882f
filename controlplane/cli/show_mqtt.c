// SPDX-License-Identifier: BSD-3-Clause
/*
 * Answers of the MQTT stage, for people.
 *
 * In: its JSON (modules/mqtt/mqtt_control.c); out: text and sorted or selected lists.  What makes
 * topics slow is said with what to do about it.  No state.
 */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

#define TOP_REASONS 5

static long long number(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

static const char *text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "-";
}

/* ---- lists ---- */

static int by_count(const void *a, const void *b)
{
	long long na = number(*(json_t *const *)a, "count");
	long long nb = number(*(json_t *const *)b, "count");

	return na < nb ? 1 : na > nb ? -1 : 0;
}

json_t *cli_mqtt_sort_slow(const json_t *slow, bool all)
{
	size_t n = json_array_size(slow);
	json_t **list = calloc(n + 1, sizeof(*list));
	json_t *sorted = json_array();
	size_t used = 0;

	for (size_t i = 0; list && i < n; i++) {
		json_t *row = json_array_get(slow, i);

		if (strcmp(text(row, "reason"), "FAST") != 0 && (all || number(row, "count") > 0))
			list[used++] = row;
	}
	if (used > 0)
		qsort(list, used, sizeof(*list), by_count);
	for (size_t i = 0; i < used; i++)
		json_array_append(sorted, list[i]);
	free(list);
	return sorted;
}

json_t *cli_mqtt_pick_subs(const json_t *subs, const char *filter)
{
	json_t *exact = json_array();
	json_t *part = json_array();
	size_t i;
	json_t *row;

	json_array_foreach((json_t *)subs, i, row)
	{
		if (strcmp(text(row, "filter"), filter) == 0)
			json_array_append(exact, row);
		else if (strstr(text(row, "filter"), filter))
			json_array_append(part, row);
	}
	if (json_array_size(exact) > 0) {
		json_decref(part);
		return exact;
	}
	json_decref(exact);
	return part;
}

void cli_mqtt_even_sessions(json_t *sessions)
{
	static const char *const online[] = {"queued_bytes", "deferred", "blocked"};
	size_t i;
	json_t *row;

	json_array_foreach(sessions, i, row)
	{
		for (size_t k = 0; k < sizeof(online) / sizeof(online[0]); k++) {
			if (!json_object_get(row, online[k]))
				json_object_set_new(row, online[k], json_null());
		}
	}
}

/* ---- shadow ---- */

#define FILTER_WHOLE 200 /* the stage cuts longer texts */

/* As a word for a shell. */
static void print_word(FILE *out, const char *s)
{
	fputc('\'', out);
	for (; *s; s++) {
		if (*s == '\'')
			fputs("'\\''", out);
		else
			fputc(*s, out);
	}
	fputc('\'', out);
}

void cli_mqtt_print_advice(FILE *out, const json_t *shadow)
{
	bool any = false, on = false;
	size_t i;
	json_t *row;

	json_array_foreach((json_t *)shadow, i, row)
	{
		const char *filter = text(row, "filter");
		bool same = strcmp(text(row, "verdict"), "same") == 0;

		if ((!same && strcmp(text(row, "verdict"), "differs") != 0) ||
		    strlen(filter) >= FILTER_WHOLE)
			continue;
		fprintf(out, "%stoe mqtt filter %s ", any ? "" : "\n", same ? "add" : "del");
		print_word(out, filter);
		fprintf(out, "%s\n",
			same && json_is_true(json_object_get(row, "closed")) ? " --closed" : "");
		any = true;
		on |= same;
	}
	if (on)
		fprintf(out, "toe mqtt mode on\n");
}

/* ---- status ---- */

static long long publishes(const json_t *status)
{
	long long sum = 0;
	const char *key;
	json_t *v;

	json_object_foreach(json_object_get(status, "publishes"), key, v)
	{
		sum += json_integer_value(v);
	}
	return sum;
}

static void print_reasons(FILE *out, const json_t *slow)
{
	json_t *sorted = cli_mqtt_sort_slow(slow, false);
	size_t i;
	json_t *row;

	json_array_foreach(sorted, i, row)
	{
		if (i == TOP_REASONS)
			break;
		fprintf(out, "%-14s %s %lld: %s\n", i ? "" : "slow", text(row, "reason"),
			number(row, "count"), text(row, "text"));
	}
	if (json_array_size(sorted) > TOP_REASONS)
		fprintf(out, "%-14s and %zu more: toe mqtt slow\n", "",
			json_array_size(sorted) - TOP_REASONS);
	json_decref(sorted);
}

/* Clients that may subscribe unseen: while there is one, open filters let nothing through. */
static void print_taint(FILE *out, const json_t *status)
{
	static const struct {
		const char *key;
		const char *followed; /* how many of them do no harm */
		const char *what;
		const char *todo;
	} taints[] = {
		{"untracked", NULL,
		 "clients of mqtt.ports cannot be followed (TLS, WebSocket, broken MQTT)",
		 "end them, or give them a port of their own"},
		{"kernel_conns", "kernel_followed",
		 "connections of the broker are the kernel's and not followed",
		 "let those clients connect through the port, or end them"},
		{"other_conns", "other_followed",
		 "connections of the broker are not of mqtt.ports and not followed",
		 "end them, or list the port if it is plain MQTT"},
		{"unknown_sessions", NULL,
		 "sessions were resumed whose subscriptions nobody saw (toe mqtt sessions)",
		 "let those clients connect with a clean session once, or, if it has a database, "
		 "start the broker again"},
	};
	long long followed = number(status, "kernel_followed") + number(status, "other_followed");
	bool any = false;

	for (size_t i = 0; i < sizeof(taints) / sizeof(taints[0]); i++) {
		long long n = number(status, taints[i].key);

		if (taints[i].followed != NULL)
			n -= number(status, taints[i].followed);
		if (n == 0)
			continue;
		fprintf(out, "%-14s %lld %s: %s\n", any ? "" : "all slow for", n, taints[i].what,
			taints[i].todo);
		any = true;
	}
	if (any)
		fprintf(out,
			"%-14s or, if none of them subscribes to it: toe mqtt filter add "
			"FILTER --closed\n",
			"");
	if (followed > 0)
		fprintf(out,
			"%-14s topics of %lld clients that are read along (localhost, TLS, "
			"WebSocket): toe mqtt subs\n",
			"slow for", followed);
	if (json_is_true(json_object_get(status, "table_full")))
		fprintf(out,
			"%-14s a table that was full, until the sessions it had no room for have "
			"ended: raise mqtt.subscriptions\n",
			"all slow for");
}

static void print_reload(FILE *out, const json_t *status)
{
	const char *blocker = text(status, "blocker");

	if (!json_is_true(json_object_get(status, "reloaded")))
		return;
	fprintf(out, "%-14s the broker, since it has read its configuration again (SIGHUP): ",
		"all slow for");
	if (blocker[0] == '\0' || strcmp(blocker, "-") == 0)
		fprintf(out, "toe mqtt recheck FILE\n");
	else
		fprintf(out, "%s; remove it and send SIGHUP again, or toe mqtt mode on\n", blocker);
}

static void print_not_listening(FILE *out, const json_t *status)
{
	const json_t *ports = json_object_get(status, "not_listening");
	size_t i;
	json_t *port;

	if (json_array_size(ports) == 0)
		return;
	fprintf(out, "%-14s no program started with toe run listens on ", "broker");
	json_array_foreach((json_t *)ports, i, port)
	{
		fprintf(out, "%s%lld", i ? ", " : "", (long long)json_integer_value(port));
	}
	fprintf(out, ": toe run -- mosquitto -c FILE, with that listener\n");
}

void cli_mqtt_print_filters(FILE *out, const json_t *status)
{
	const json_t *filters = json_object_get(status, "filters");

	if (json_array_size(filters) > 0)
		cli_print_table(out, filters);
	else
		fprintf(out, "no filters: everything goes through the broker\n");
}

void cli_mqtt_print_status(FILE *out, const json_t *status, const json_t *slow)
{
	const json_t *counters = json_object_get(status, "counters");
	long long fast = number(json_object_get(status, "publishes"), "FAST");
	long long all = publishes(status);

	fprintf(out, "%-14s %s\n", "mode", text(status, "mode"));
	print_not_listening(out, status);
	print_reload(out, status);
	fprintf(out, "%-14s %lld connected, %lld sessions, %lld subscriptions\n", "clients",
		number(status, "connections"), number(status, "sessions"),
		number(status, "subscriptions"));
	fprintf(out, "%-14s %lld of %lld publishes (%.1f %%), %lld copies delivered\n", "fast",
		fast, all, all ? 100.0 * (double)fast / (double)all : 0.0,
		number(counters, "DELIVERED"));
	print_reasons(out, slow);
	print_taint(out, status);
	fprintf(out,
		"%-14s %lld for slow subscribers, %lld too large for them, %lld for memory, "
		"%lld of ended connections\n",
		"copies dropped",
		number(counters, "DROP_QUEUE") + number(counters, "DROP_BLOCKED") +
			number(counters, "DROP_UNPROVEN"),
		number(counters, "DROP_SIZE"), number(counters, "DROP_MEMORY"),
		number(counters, "DROP_ENDED"));
	fprintf(out, "%-14s %.1f of %.1f MiB for messages\n\n", "memory",
		(double)number(status, "memory_used") / 1048576.0,
		(double)number(status, "memory") / 1048576.0);
	cli_mqtt_print_filters(out, status);
}
