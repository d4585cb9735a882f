// SPDX-License-Identifier: BSD-3-Clause
/*
 * Runs wire scripts against the running engine (tests/wire/veth.h), several at once, each in a
 * process and with ports of its own.  A script that needs what real time does not have is skipped,
 * with the reason: statements that only the virtual engine has, more than --longest ms in all, or
 * its own `virtual REASON`.
 *
 * --six: over IPv6, between 2001:db8::1 and ::2, whatever --engine and --peer, whose pings are
 * used. Prints FAILED with each name that failed, BUSY with one that failed only while pings were
 * slow, why others were skipped, and one JSON line; exit code 0 if it got to the end.
 */
#include <getopt.h>
#include <sys/wait.h>

#include <rte_ip.h>

#include "tests/wire/veth.h"

#include "tests/wire/suite.h"

#define JOBS_MAX    16u
#define REASONS_MAX 32u
#define SLACK_US    150000u
#define EARLY_US    60000u /* the segment that started a timer may have been on its way so long */
#define SCRIPT_S    30u
#define TRIES       4u
#define AGAIN_MAX   20u /* of one application */

static struct {
	unsigned jobs, longest_ms;
	const char *agents; /* path of their sockets, without the number */
	bool tables, six;
} opt = {.jobs = 4, .longest_ms = 2500};

static struct {
	struct wire_case cases[WIRE_TESTS];
	unsigned n;
	struct {
		char text[64];
		unsigned n;
	} skipped[REASONS_MAX];
	unsigned skipped_n;
} all;

/* ---- which ---- */

/* Milliseconds of "+5" or "+1.5s". */
static double statement_ms(const char *word)
{
	char *end;
	double t = strtod(word + 1, &end);

	return *end == 's' ? t * 1000 : t;
}

/* Why a line cannot run here, NULL: it can; *ms grows by its time. */
static const char *line_reason(const char *line, double *ms)
{
	char copy[WIRE_LINE];
	char *rest = NULL, *word;
	static char said[64];

	snprintf(copy, sizeof(copy), "%s", line);
	copy[strcspn(copy, "#\r\n")] = '\0';
	word = strtok_r(copy, " \t", &rest);
	if (word != NULL && *word == '+') {
		*ms += statement_ms(word);
		word = strtok_r(NULL, " \t", &rest);
	}
	if (word == NULL)
		return NULL;
	if (strcmp(word, "virtual") == 0) {
		snprintf(said, sizeof(said), "%s", rest != NULL && *rest ? rest : "says so itself");
		return said;
	}
	return veth_lacks(word);
}

static const char *script_reason(const struct wire_case *c)
{
	FILE *f = fopen(c->path, "r");
	char line[WIRE_LINE];
	const char *why = NULL;
	double ms = 0;

	while (f != NULL && why == NULL && fgets(line, sizeof(line), f) != NULL)
		why = line_reason(line, &ms);
	if (f != NULL)
		fclose(f);
	return why == NULL && ms > opt.longest_ms ? "takes longer" : why;
}

static void skip(const struct wire_case *c, const char *why)
{
	unsigned i = 0;

	while (i < all.skipped_n && strcmp(all.skipped[i].text, why) != 0)
		i++;
	if (i == REASONS_MAX) {
		printf("too many reasons to skip: %s\n", c->name);
		exit(2);
	}
	snprintf(all.skipped[i].text, sizeof(all.skipped[i].text), "%s", why);
	all.skipped[i].n++;
	if (i == all.skipped_n)
		all.skipped_n++;
}

static void add(const struct wire_case *c)
{
	const char *why = c->table ? NULL : script_reason(c);
	struct wire_case of;

	if (!wire_case_of(c, opt.six, &of) || (c->table && !opt.tables))
		return;
	if (why != NULL)
		skip(c, why);
	else if (all.n < WIRE_TESTS)
		all.cases[all.n++] = of;
}

/* ---- running ---- */

/* In a child of its own, with the nth range of ports; its exit status. */
static int run_one(const struct wire_case *c, unsigned nth)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		alarm(SCRIPT_S);
		wire.port_shift = (uint16_t)(nth * VETH_PORTS);
		wire_run(c);
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return 1;
	return WEXITSTATUS(status);
}

/* Those of one application.  What failed is run again, on other ports: the engine would fail again,
 * a machine that kept somebody waiting may not. */
static void run_job(unsigned job)
{
	static char agent[108];
	unsigned again = 0;

	snprintf(agent, sizeof(agent), "%.100s.%u", opt.agents, job);
	veth.agent = agent;
	for (unsigned i = job; i < all.n; i += opt.jobs) {
		const char *name = all.cases[i].name;
		int status = run_one(&all.cases[i], i);

		for (unsigned n = 1; status != 0 && n < TRIES && again < AGAIN_MAX; n++) {
			printf("again: %s\n", name);
			fflush(stdout);
			status = run_one(&all.cases[i], all.n + job * AGAIN_MAX + again++);
		}
		if (status != 0)
			printf("%s: %s\n", status == VETH_BUSY ? "BUSY" : "FAILED", name);
		fflush(stdout);
	}
}

/* False: one of them did not come to its end. */
static bool run_all(void)
{
	pid_t pids[JOBS_MAX];
	bool ok = true;

	for (unsigned j = 0; j < opt.jobs; j++) {
		pids[j] = fork();
		if (pids[j] == 0) {
			run_job(j);
			_exit(0);
		}
	}
	for (unsigned j = 0; j < opt.jobs; j++) {
		int status = 0;

		ok &= waitpid(pids[j], &status, 0) == pids[j] && status == 0;
	}
	return ok;
}

static void parse_mac(const char *text, uint8_t mac[6])
{
	unsigned m[6];

	if (sscanf(text, "%x:%x:%x:%x:%x:%x", &m[0], &m[1], &m[2], &m[3], &m[4], &m[5]) != 6)
		exit(2);
	for (unsigned i = 0; i < 6; i++)
		mac[i] = (uint8_t)m[i];
}

static void parse_args(int argc, char **argv)
{
	static const struct option longs[] = {
		{"interface", 1, NULL, 'i'}, {"engine-mac", 1, NULL, 'E'},
		{"peer-mac", 1, NULL, 'P'},  {"engine", 1, NULL, 'e'},
		{"peer", 1, NULL, 'p'},      {"agents", 1, NULL, 'a'},
		{"jobs", 1, NULL, 'j'},      {"control", 1, NULL, 't'},
		{"longest", 1, NULL, 'l'},   {"tables", 0, NULL, 'T'},
		{"six", 0, NULL, '6'},       {NULL, 0, NULL, 0}};
	int o;

	while ((o = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (o) {
		case 'i':
			veth.interface = optarg;
			break;
		case 'E':
			parse_mac(optarg, veth.engine_mac);
			break;
		case 'P':
			parse_mac(optarg, veth.peer_mac);
			break;
		case 'e':
			wire.engine_ip = ntohl(inet_addr(optarg));
			break;
		case 'p':
			wire.peer_ip = ntohl(inet_addr(optarg));
			break;
		case 'a':
			opt.agents = optarg;
			break;
		case 'j':
			opt.jobs = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 't':
			veth.control = optarg;
			break;
		case 'l':
			opt.longest_ms = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'T':
			opt.tables = true;
			break;
		case '6':
			opt.six = true;
			break;
		default:
			exit(2);
		}
	}
	if (!veth.interface || !opt.agents || !veth.control || opt.jobs == 0 ||
	    opt.jobs > JOBS_MAX) {
		printf("usage: wire_veth --interface IF --engine-mac M --peer-mac M --engine A "
		       "--peer A\n"
		       "  --agents PATH --control SOCKET [--jobs N] [--longest MS] [--tables] "
		       "[--six]\n");
		exit(2);
	}
}

int main(int argc, char **argv)
{
	bool ok;

	parse_args(argc, argv);
	wire.slack_us = SLACK_US;
	wire.tolerance_us += SLACK_US;
	wire.early_us = EARLY_US;
	wire_suite(add);
	fflush(stdout);
	ok = run_all();
	for (unsigned i = 0; i < all.skipped_n; i++)
		printf("skipped: %u: %s\n", all.skipped[i].n, all.skipped[i].text);
	printf("{\"scripts\":%u}\n", all.n);
	return !ok;
}
