// SPDX-License-Identifier: BSD-3-Clause
/*
 * Reader of mosquitto.conf.
 *
 * In: a file and those of its include_dir, as mosquitto 2.0 reads them: one option per line, name
 * and value separated by blanks, # in the first column a comment; a file that is included starts
 * with the default listener, and its own include_dir is not looked at.  Out: findings, where its
 * database is, and what bridges take.  Options we have no opinion about, right or wrong, are
 * skipped.  No state.
 */
#include "common/broker_conf.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "common/open_regular.h"

#define FINDINGS_MAX 64
#define FILES_MAX    1024
#define QUEUE_MSGS   1000 /* max_queued_messages of mosquitto 2.0 if it is not said */
#define PORT_DEFAULT "1883"
#define DB_DEFAULT   "mosquitto.db"

enum when {
	ALWAYS,
	IF_TRUE,
	IF_FALSE,
	IF_LIMIT,       /* any but 0, which is: no limit */
	IF_SHORT_QUEUE, /* a limit below mosquitto's own */
	IF_TLS,         /* once per listener */
	IF_WEBSOCKETS,
	IF_LAZY,
	BY_LISTENER, /* true, and something else was found */
};

static const char tls[] =
	"its clients are encrypted: topics they subscribe to go slow; its port does "
	"not belong in mqtt.ports";

static const struct rule {
	const char *option;
	enum when when;
	bool unsafe;
	bool listener; /* belongs to one */
	const char *reason;
} rules[] = {
	{"acl_file", ALWAYS, true, false,
	 "the broker asks it for every message, the engine does not; what it refuses to a client "
	 "of MQTT 3.1 the engine delivers"},
	{"plugin", ALWAYS, true, false,
	 "it may refuse or change messages that it would not see, or subscriptions of MQTT 3.1, "
	 "which does not say so"},
	{"auth_plugin", ALWAYS, true, false, "it may refuse messages that it would not see"},
	{"connection", ALWAYS, false, false,
	 "topics it takes out (out, both) go slow while it is connected"},
	{"start_type", IF_LAZY, true, false,
	 "such a bridge must get messages while it is not connected"},
	{"mount_point", ALWAYS, true, true, "its clients see other topics than the broker"},
	{"queue_qos0_messages", IF_TRUE, true, false,
	 "sessions without a client must get messages of QoS 0 later"},
	{"upgrade_outgoing_qos", IF_TRUE, true, false,
	 "messages of QoS 0 must be delivered with the QoS of the subscription"},
	{"use_username_as_clientid", IF_TRUE, true, true,
	 "sessions have another name than their clients say"},
	{"protocol", IF_WEBSOCKETS, false, true,
	 "its clients speak WebSocket: topics they subscribe to go slow; its port does not belong "
	 "in mqtt.ports"},
	{"cafile", IF_TLS, false, true, tls},
	{"capath", IF_TLS, false, true, tls},
	{"certfile", IF_TLS, false, true, tls},
	{"psk_hint", IF_TLS, false, true, tls},
	{"max_queued_messages", IF_SHORT_QUEUE, false, false,
	 "the engine has a queue of its own for slow subscribers"},
	{"max_queued_bytes", IF_LIMIT, false, false,
	 "the engine has a queue of its own for slow subscribers"},
	{"message_size_limit", IF_LIMIT, false, false,
	 "the engine delivers larger messages, too, which the broker drops"},
	{"max_packet_size", IF_LIMIT, false, false,
	 "the engine takes larger packets, too, for which the broker closes the connection"},
	{"persistent_client_expiration", ALWAYS, false, false,
	 "a client of MQTT 3.1 whose session has expired still gets, from the engine, what it was "
	 "subscribed to"},
	{"allow_duplicate_messages", IF_TRUE, false, false,
	 "of overlapping subscriptions the engine sends one copy at MQTT 3.1 and 3.1.1, the broker "
	 "one each"},
	{"retain_available", IF_FALSE, false, false,
	 "retained messages go to the broker in any case, which refuses them"},
	{"per_listener_settings", BY_LISTENER, false, false,
	 "what is said here of one listener may not be true of another"},
};
#define RULE_N (sizeof(rules) / sizeof(rules[0]))

struct scan {
	struct broker_finding *out;
	size_t max;
	int n;
	/* per_listener_settings is only worth a word if something else is */
	struct broker_finding by_listener;
	bool has_by_listener;
	/* the last of each counts */
	bool persistence;
	char db_dir[PATH_MAX];
	char db_file[PATH_MAX];
	struct broker_bridges bridges;
	int bridge_n;
	bool bridges_lost; /* more than fit, or not as mosquitto reads it */
	bool lazy;
};

/* Where we are in one file. */
struct place {
	const char *path;
	unsigned line;
	char port[16]; /* of the listener that options belong to */
	bool tls_said; /* of this listener */
	bool bridge;   /* behind a connection line */
	bool tab;      /* in the line: no blank to mosquitto */
	bool top;      /* not included */
};

/* ---- findings ---- */

static void fill(struct broker_finding *f, const struct rule *r, const struct place *at)
{
	size_t len = strlen(at->path);
	size_t cut = len < sizeof(f->file) ? 0 : len - sizeof(f->file) + 1;

	*f = (struct broker_finding){.unsafe = r->unsafe, .line = at->line, .reason = r->reason};
	snprintf(f->file, sizeof(f->file), "%s", at->path + cut);
	if (r->listener)
		snprintf(f->option, sizeof(f->option), "%s (port %s)", r->option, at->port);
	else
		snprintf(f->option, sizeof(f->option), "%s", r->option);
}

static void add(struct scan *s, const struct broker_finding *f)
{
	if ((size_t)s->n < s->max)
		s->out[s->n] = *f;
	s->n++;
}

/* As mosquitto; anything else it refuses to start with. */
static bool is_true(const char *value)
{
	return strcmp(value, "true") == 0 || strcmp(value, "1") == 0;
}

static bool applies(const struct rule *r, const char *value, struct place *at)
{
	unsigned long number = strtoul(value, NULL, 10);

	switch (r->when) {
	case ALWAYS:
		return true;
	case IF_TRUE:
	case BY_LISTENER:
		return is_true(value);
	case IF_FALSE:
		return strcmp(value, "false") == 0 || strcmp(value, "0") == 0;
	case IF_LIMIT:
		return number != 0;
	case IF_SHORT_QUEUE:
		return number != 0 && number < QUEUE_MSGS;
	case IF_WEBSOCKETS:
		return strcmp(value, "websockets") == 0;
	case IF_LAZY:
		return strcmp(value, "lazy") == 0;
	case IF_TLS:
		if (at->tls_said)
			return false;
		at->tls_said = true;
		return true;
	}
	return false;
}

static void judge(struct scan *s, const char *option, const char *value, struct place *at)
{
	struct broker_finding f;

	for (size_t i = 0; i < RULE_N; i++) {
		if (strcmp(rules[i].option, option) != 0 || !applies(&rules[i], value, at))
			continue;
		fill(&f, &rules[i], at);
		if (rules[i].when == IF_LAZY)
			s->lazy = true;
		if (rules[i].when != BY_LISTENER) {
			add(s, &f);
		} else {
			s->by_listener = f;
			s->has_by_listener = true;
		}
	}
}

/* False: it has no influence on where the database is. */
static bool take_db(struct scan *s, const char *option, const char *value)
{
	if (strcmp(option, "persistence") == 0)
		s->persistence = is_true(value);
	else if (strcmp(option, "persistence_location") == 0)
		snprintf(s->db_dir, sizeof(s->db_dir), "%s", value);
	else if (strcmp(option, "persistence_file") == 0)
		snprintf(s->db_file, sizeof(s->db_file), "%s", value);
	else
		return false;
	return true;
}

/* ---- bridges ---- */

static const struct rule too_many = {
	"topic", ALWAYS, true, false,
	"too much to be followed, or with a tab: while a bridge is connected, all topics go slow"};

static void lose_bridges(struct scan *s, const struct place *at)
{
	struct broker_finding f;

	if (s->bridges_lost)
		return;
	s->bridges_lost = true;
	fill(&f, &too_many, at);
	add(s, &f);
}

/* The next word of mosquitto's, which is ended in place; NULL: none is left, or a comment. */
static char *word(char *begin, char **rest)
{
	char *w = strtok_r(begin, " ", rest);

	if (w && w[0] == '#' && !begin) {
		*rest += strlen(*rest);
		return NULL;
	}
	return w && strcmp(w, "\"\"") == 0 ? w + 2 : w;
}

static void take_port(struct scan *s, const struct place *at, unsigned long port)
{
	struct broker_bridges *b = &s->bridges;

	for (unsigned i = 0; i < b->port_n; i++) {
		if (b->ports[i] == port)
			return;
	}
	if (port == 0 || port > UINT16_MAX)
		return;
	if (b->port_n == BROKER_BRIDGE_PORTS)
		lose_bridges(s, at);
	else
		b->ports[b->port_n++] = (uint16_t)port;
}

/* host[:port], ...  More ports than it means do no harm: nothing but a bridge connects. */
static void take_addresses(struct scan *s, char *value, const struct place *at)
{
	char *rest = value;

	for (char *w = word(value, &rest); w && w[0] != '#'; w = word(NULL, &rest)) {
		char *colon = strrchr(w, ':');

		take_port(s, at, strtoul(PORT_DEFAULT, NULL, 10));
		if (colon)
			take_port(s, at, strtoul(colon + 1, NULL, 10));
	}
}

/* topic PATTERN [out|in|both [QOS [LOCAL-PREFIX [REMOTE-PREFIX]]]], "" for nothing. */
static void take_topic(struct scan *s, char *value, const struct place *at)
{
	struct broker_bridges *b = &s->bridges;
	char *rest = value;
	const char *pattern = word(value, &rest);
	const char *way = word(NULL, &rest);
	const char *qos = way ? word(NULL, &rest) : NULL;
	const char *prefix = qos ? word(NULL, &rest) : NULL;
	size_t head = prefix ? strlen(prefix) : 0;
	size_t len = head + (pattern ? strlen(pattern) : 0);

	if (!pattern || (way && strcasecmp(way, "in") == 0) || len == 0)
		return;
	if (len > BROKER_FILTER_MAX || b->len + 1u + len > sizeof(b->filters)) {
		lose_bridges(s, at);
		return;
	}
	b->filters[b->len++] = (uint8_t)len;
	if (prefix)
		memcpy(b->filters + b->len, prefix, head);
	memcpy(b->filters + b->len + head, pattern, len - head);
	b->len = (uint16_t)(b->len + len);
}

/* False: it is not about bridges alone. */
static bool take_bridge(struct scan *s, const char *option, char *value, struct place *at)
{
	if (strcmp(option, "connection") == 0) {
		at->bridge = true;
		s->bridge_n++;
		return false;
	}
	if (!at->bridge)
		return false;
	if (at->tab)
		lose_bridges(s, at);
	if (strcmp(option, "address") == 0 || strcmp(option, "addresses") == 0)
		take_addresses(s, value, at);
	else if (strcmp(option, "topic") == 0)
		take_topic(s, value, at);
	else
		return false;
	return true;
}

/* ---- files ---- */

static int scan_file(struct scan *s, const char *path, bool top);

static int by_name(const struct dirent **a, const struct dirent **b)
{
	int rc = strcasecmp((*a)->d_name, (*b)->d_name);

	return rc ? rc : strcmp((*a)->d_name, (*b)->d_name);
}

static int is_conf(const struct dirent *e)
{
	size_t len = strlen(e->d_name);

	return len > 5 && strcmp(e->d_name + len - 5, ".conf") == 0;
}

static int scan_dir(struct scan *s, const char *dir)
{
	struct dirent **list;
	char path[PATH_MAX];
	int n = scandir(dir, &list, is_conf, by_name);
	int rc = n < 0 ? -errno : n > FILES_MAX ? -E2BIG : 0;

	for (int i = 0; i < n; i++) {
		int len = snprintf(path, sizeof(path), "%s/%s", dir, list[i]->d_name);

		if (rc == 0)
			rc = (size_t)len < sizeof(path) ? scan_file(s, path, false) : -ENAMETOOLONG;
		free(list[i]);
	}
	if (n >= 0)
		free(list);
	return rc;
}

/* Cuts the line into name and value, in place.  False: nothing in it. */
static bool split(char *line, char **option, char **value)
{
	static const char blank[] = " \t\r\n";
	size_t len = strlen(line);

	if (line[0] == '#')
		return false;
	while (len > 0 && strchr(blank, line[len - 1]))
		line[--len] = '\0';
	*option = line + strspn(line, blank);
	*value = *option + strcspn(*option, blank);
	if (**value != '\0')
		*(*value)++ = '\0';
	*value += strspn(*value, blank);
	return **option != '\0';
}

static int take_line(struct scan *s, char *line, struct place *at)
{
	char *option;
	char *value;

	at->line++;
	at->tab = strchr(line, '\t') != NULL;
	if (!split(line, &option, &value))
		return 0;
	if (strcmp(option, "include_dir") == 0)
		return at->top ? scan_dir(s, value) : 0;
	if (strcmp(option, "listener") == 0) {
		snprintf(at->port, sizeof(at->port), "%.*s", (int)strcspn(value, " \t"), value);
		at->tls_said = false;
	} else if (strcmp(option, "port") == 0) {
		snprintf(at->port, sizeof(at->port), "%s", value);
	} else if (!take_bridge(s, option, value, at) && !take_db(s, option, value)) {
		judge(s, option, value, at);
	}
	return 0;
}

static int scan_file(struct scan *s, const char *path, bool top)
{
	struct place at = {.path = path, .port = PORT_DEFAULT, .top = top};
	FILE *f = NULL;
	char *line = NULL;
	size_t size = 0;
	int rc = toe_open_regular(path, &f);

	if (rc < 0)
		return rc;
	errno = 0;
	while (rc == 0 && getline(&line, &size, f) >= 0)
		rc = take_line(s, line, &at);
	if (rc == 0 && ferror(f))
		rc = errno ? -errno : -EIO;
	free(line);
	fclose(f);
	return rc;
}

int broker_conf_scan(const char *path, struct broker_finding *out, size_t max)
{
	struct scan s = {.out = out, .max = max};
	int rc = scan_file(&s, path, true);

	if (rc < 0)
		return rc;
	if (s.has_by_listener && s.n > 0)
		add(&s, &s.by_listener);
	return s.n;
}

int broker_conf_db(const char *path, char *out, size_t room)
{
	struct scan s = {.db_file = DB_DEFAULT};
	int rc = scan_file(&s, path, true);
	int len;

	if (rc < 0 || !s.persistence)
		return rc;
	len = snprintf(out, room, "%s%s%s", s.db_dir, s.db_dir[0] ? "/" : "", s.db_file);
	return (size_t)len < room ? 1 : -ENAMETOOLONG;
}

int broker_conf_bridges(const char *path, struct broker_bridges *out)
{
	struct scan s = {0};
	int rc = scan_file(&s, path, true);

	if (rc < 0)
		return rc;
	if (s.bridges_lost || s.lazy)
		return s.lazy ? -ENOTSUP : -E2BIG;
	*out = s.bridges;
	return s.bridge_n;
}

/* ---- for toe run ---- */

const char *broker_conf_of(char *const *cmd)
{
	const char *base = strrchr(cmd[0], '/');
	const char *file = NULL;

	if (strcmp(base ? base + 1 : cmd[0], "mosquitto") != 0)
		return NULL;
	for (int i = 1; cmd[i]; i++) {
		if (strcmp(cmd[i], "-c") != 0 && strcmp(cmd[i], "--config-file") != 0)
			continue;
		if (file)
			return NULL; /* it reads all of them */
		file = cmd[i + 1];   /* NULL: mosquitto's business */
	}
	return file;
}

int broker_conf_print(FILE *out, const char *prefix, const char *path)
{
	struct broker_finding list[FINDINGS_MAX];
	int n = broker_conf_scan(path, list, FINDINGS_MAX);
	int unsafe = 0;

	if (n < 0) {
		fprintf(out,
			"%s%s cannot be read whole (%s): whether MQTT offload is safe is not "
			"known\n",
			prefix, path, strerror(-n));
		return n;
	}
	for (int i = 0; i < n && i < FINDINGS_MAX; i++) {
		unsafe += list[i].unsafe;
		fprintf(out, "%s%s:%u: %s: %s: %s\n", prefix, list[i].file, list[i].line,
			list[i].unsafe ? "unsafe for MQTT offload" : "note for MQTT offload",
			list[i].option, list[i].reason);
	}
	if (n > FINDINGS_MAX) {
		fprintf(out, "%s%s: and %d more\n", prefix, path, n - FINDINGS_MAX);
		unsafe++; /* some of them may be */
	}
	return unsafe;
}
