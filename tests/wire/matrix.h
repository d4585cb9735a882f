/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Tables of wire tests: many short cases that differ in one segment.
 *
 *	setup STATE             statements that bring a connection there, indented
 *	<tab>statement
 *	row STATE KIND: answers six of them, for the positions of wire_positions
 *	case STATE NAME: SEGMENT => ANSWER
 *	nonsense STATE          all combinations of flags that cannot be: no answer, no change
 *
 * ANSWER is what the engine sends, a slash, and the state afterwards; without one the state must be
 * the same.  "-": nothing for 100 ms.  Else words of wire_answer().
 */
#ifndef TOE_TEST_WIRE_MATRIX_H
#define TOE_TEST_WIRE_MATRIX_H

#include "app.h"

#define WIRE_NONSENSE "nonsense" /* instead of one segment */

struct wire_case {
	bool table;
	bool six; /* over IPv6 */
	char path[128];
	char name[96];
	unsigned line;
	char state[24];
	char segment[128];
	char answer[64];
};

static const struct {
	const char *name;
	const char *seq;
} wire_positions[] = {
	{"left", "nxt-2000"}, {"at", "nxt"},    {"inside", "nxt+1000"},
	{"last", "edge-1"},   {"edge", "edge"}, {"outside", "edge+1000"},
};
#define WIRE_POSITIONS (sizeof(wire_positions) / sizeof(wire_positions[0]))

/* The segment kinds of the rows; %s is the sequence number. */
static const struct {
	const char *name;
	const char *format;
} wire_kinds[] = {
	{"SYN", "S %s:%s"},          {"SYNACK", "S. %s:%s ack max"},
	{"ACK", ". %s ack max"},     {"DATA", "P. %s:%s+10 ack max"},
	{"FIN", "F. %s:%s ack max"}, {"RST", "R %s:%s"},
};

/* ---- reading ---- */

static void wire_row(struct wire_case c, const char *kind, char *answers,
		     void (*add)(const struct wire_case *))
{
	const char *format = NULL;
	char *rest = NULL;
	char *a = strtok_r(answers, " \t\n", &rest);

	for (unsigned k = 0; k < sizeof(wire_kinds) / sizeof(wire_kinds[0]); k++)
		if (strcmp(wire_kinds[k].name, kind) == 0)
			format = wire_kinds[k].format;
	for (unsigned i = 0; i < WIRE_POSITIONS; i++, a = strtok_r(NULL, " \t\n", &rest)) {
		if (a == NULL || format == NULL) {
			printf("%s:%u: six answers, and one of SYN SYNACK ACK DATA FIN RST\n",
			       c.path, c.line);
			exit(1);
		}
		snprintf(c.name, sizeof(c.name), "%s %s %s", c.state, kind, wire_positions[i].name);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		snprintf(c.segment, sizeof(c.segment), format, wire_positions[i].seq,
			 wire_positions[i].seq);
#pragma GCC diagnostic pop
		snprintf(c.answer, sizeof(c.answer), "%s", a);
		add(&c);
	}
}

static void wire_table_line(const char *line, struct wire_case *c,
			    void (*add)(const struct wire_case *))
{
	char kind[64], tail[256], *arrow;

	if (sscanf(line, "row %23s %63[^:]: %255[^#\n]", c->state, kind, tail) == 3) {
		wire_row(*c, kind, tail, add);
	} else if (sscanf(line, "case %23s %63[^:]: %255[^\n]", c->state, kind, tail) == 3) {
		arrow = strstr(tail, "=>");
		if (arrow == NULL) {
			printf("%s:%u: '=>' is missing\n", c->path, c->line);
			exit(1);
		}
		*arrow = '\0';
		snprintf(c->name, sizeof(c->name), "%s %s", c->state, kind);
		snprintf(c->segment, sizeof(c->segment), "%.120s", tail);
		sscanf(arrow + 2, " %63s", c->answer);
		add(c);
	} else if (sscanf(line, "nonsense %23s", c->state) == 1) {
		snprintf(c->name, sizeof(c->name), "%s nonsense", c->state);
		snprintf(c->segment, sizeof(c->segment), WIRE_NONSENSE);
		snprintf(c->answer, sizeof(c->answer), "-");
		add(c);
	} else if (strncmp(line, "setup ", 6) != 0) {
		printf("%s:%u: not understood\n", c->path, c->line);
		exit(1);
	}
}

static void wire_table_read(const char *path, void (*add)(const struct wire_case *))
{
	FILE *f = fopen(path, "r");
	char line[WIRE_LINE];
	struct wire_case c = {.table = true};

	if (f == NULL)
		return;
	snprintf(c.path, sizeof(c.path), "%s", path);
	while (fgets(line, sizeof(line), f) != NULL) {
		c.line++;
		if (line[0] != '#' && line[0] != '\n' && line[0] != '\t')
			wire_table_line(line, &c, add);
	}
	fclose(f);
}

/* ---- running ---- */

static void wire_setup(const struct wire_case *c)
{
	FILE *f = fopen(c->path, "r");
	char line[WIRE_LINE], state[24];
	bool mine = false;
	bool found = false;

	wire.script = c->path;
	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		wire.line++;
		if (line[0] != '\t') {
			mine = sscanf(line, "setup %23s", state) == 1 &&
			       strcmp(state, c->state) == 0;
			found |= mine;
		} else if (mine) {
			wire_line(line);
		}
	}
	if (f != NULL)
		fclose(f);
	if (!found)
		wire_fail("no setup of %s", c->state);
	wire.line = c->line;
}

/* What comes back.  nxt, max: before the segment. */
static void wire_answer(const char *what, uint32_t nxt, uint32_t max)
{
	unsigned n;

	if (strcmp(what, "-") == 0)
		return;
	if (strcmp(what, "ack") == 0)
		wire_do("> . ack %u", nxt);
	else if (sscanf(what, "ack+%u", &n) == 1)
		wire_do("> . ack %u", nxt + n);
	else if (strcmp(what, "ackend") == 0) /* of all of the segment */
		wire_do("> . ack %u", w.sent_end);
	else if (strcmp(what, "rst") == 0) /* to a segment with ACK */
		wire_do("> R %u:%u", w.sent_ack, w.sent_ack);
	else if (strcmp(what, "rstack") == 0) /* to one without */
		wire_do("> R. %u:%u ack %u", 0 - w.at->iss, 0 - w.at->iss, w.sent_end);
	else if (strcmp(what, "reset") == 0) /* of a connection */
		wire_do("> R. %u:%u", max, max);
	else if (strcmp(what, "synack") == 0)
		wire_do("> S. 0:0 ack %u anyopts", w.sent_end);
	else if (strcmp(what, "synnew") == 0) /* of another connection */
		wire_do("> S. * ack %u anyopts", w.sent_end);
	else if (sscanf(what, "rst:%u", &n) == 1)
		wire_do("> R %u:%u", n, n);
	else
		wire_fail("unknown answer '%s'", what);
}

/* SYN beside FIN or RST, and what has none of ACK, SYN and RST (RFC 9293, 3.10.7). */
static void wire_nonsense(void)
{
	for (uint8_t flags = 0; flags < 64; flags++) {
		struct wire_seg g = {.flags = flags, .ws = -1, .vlan = -1};
		bool syn = flags & TOE_TCP_SYN, fin = flags & TOE_TCP_FIN;
		bool rst = flags & TOE_TCP_RST, ack = flags & TOE_TCP_ACK;

		g.len = flags % 3 * 10;
		if (syn ? fin || rst : !ack && !rst)
			wire_send(&g);
		wire_check_silent();
	}
}

static void wire_case_run(const struct wire_case *c)
{
	char what[64], after[24] = "", state[24];
	uint32_t nxt, max;

	wire_setup(c);
	/* "SYN-RECEIVED/active": one of several ways into the state */
	snprintf(state, sizeof(state), "%.*s", (int)strcspn(c->state, "/"), c->state);
	wire_do("state %s", state);
	wire_do("+5 nothing");
	nxt = w.at->nxt;
	max = w.at->max;
	if (sscanf(c->answer, "%63[^/]/%23s", what, after) < 1)
		wire_fail("no answer");
	if (strcmp(c->segment, WIRE_NONSENSE) == 0)
		wire_nonsense();
	else
		wire_do("< %s", c->segment);
	wire_answer(what, nxt, max);
	wire_do("+100 nothing");
	wire_do("state %s", after[0] != '\0' ? after : state);
}

#endif
