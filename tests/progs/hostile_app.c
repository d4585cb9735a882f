// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/progs/lib/util.c tests/progs/lib/hostile_memory.c tests/progs/lib/hostile_floods.c
 * tests/progs/lib/hostile_fds.c tests/progs/lib/hist.c common/ctl_sock.c */
/*
 * An application that attacks the engine.  Run it under `toe run`, best beside a server of the same
 * application, so that live connections are in the memory it scribbles over.
 *
 * It reads TOE_APP, attaches as one more process, maps the region, tries what the seals forbid,
 * forges control messages, hands over descriptors that are traps, asks for too much of everything
 * (--floods), and for --seconds writes random bytes, cursors and ring indices everywhere, kicks,
 * and lets children die in the middle of it.  What must be refused and is not, or keeps the keeper
 * from answering, makes it exit 1; that the engine and other applications go on is for the caller
 * to check.  Reproducible by --seed.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/progs/lib/hostile.h"
#include "tests/progs/lib/util.h"

struct hostile app;
uint64_t dice = 1;
unsigned not_refused;

uint64_t rnd(uint64_t below)
{
	return rng_next(&dice) % below;
}

/* ---- attach ---- */

pid_t fork_tied(void)
{
	pid_t parent = getpid();
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent) /* it was faster */
			_exit(1);
	}
	return pid;
}

static void parse_env(void)
{
	const char *env = getenv(TOE_ENV_APP), *dir = getenv(TOE_ENV_RUN_DIR);
	char *end;

	if (!env)
		die("no %s in the environment: start me with toe run", TOE_ENV_APP);
	app.app_id = (uint32_t)strtoul(env, &end, 10);
	if (*end++ != ':')
		die("%s: cannot be read: %s", TOE_ENV_APP, env);
	for (unsigned i = 0; i < TOE_KEY_BYTES; i++) {
		unsigned byte;

		if (sscanf(end + (size_t)2 * i, "%2x", &byte) != 1)
			die("%s: bad key", TOE_ENV_APP);
		app.key[i] = (uint8_t)byte;
	}
	snprintf(app.path, sizeof(app.path), "%s/%s", dir && *dir ? dir : TOE_RUN_DIR_DEFAULT,
		 TOE_KEEPER_SOCKET);
}

int keeper(void)
{
	int s = toe_ctl_connect(app.path);

	if (s < 0)
		die("%s: %s", app.path, strerror(-s));
	return s;
}

void fill_attach(struct toe_ctl_msg *m)
{
	toe_ctl_init(m, TOE_CTL_PROC_ATTACH);
	m->u.app.app_id = app.app_id;
	m->u.app.pid = getpid();
	memcpy(m->u.app.key, app.key, sizeof(app.key));
}

static void *map(int fd, size_t *bytes)
{
	struct stat st;
	void *p;

	if (fstat(fd, &st) < 0 || st.st_size == 0)
		die("region: %m");
	*bytes = (size_t)st.st_size;
	p = mmap(NULL, *bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (p == MAP_FAILED)
		die("mmap of %zu bytes: %m", *bytes);
	return p;
}

static int attach_with(int fds[3], uint32_t *ctx)
{
	int s = keeper(), rc;
	struct toe_ctl_msg m;
	unsigned n = 0;

	fill_attach(&m);
	rc = toe_ctl_call(s, &m, NULL, 0, fds, 3, &n, REPLY_MS);
	if (rc == 0 && n == 3) {
		*ctx = m.u.app.ctx;
		return s;
	}
	close(s);
	return rc < 0 ? rc : -EPROTO;
}

int attach_more(int *kick, uint32_t *ctx)
{
	uint32_t ignored;
	int fds[3];
	int s = attach_with(fds, ctx ? ctx : &ignored);

	if (s < 0)
		return s;
	close(fds[0]);
	close(fds[1]);
	*kick = fds[2];
	return s;
}

static int attach(void)
{
	int fds[3];
	int s = attach_with(fds, &app.ctx);

	if (s < 0)
		die("attach: %s", strerror(-s));
	app.control_fd = fds[0];
	app.payload_fd = fds[1];
	app.kick_fd = fds[2];
	app.control = map(app.control_fd, &app.control_bytes);
	app.payload = map(app.payload_fd, &app.payload_bytes);
	memcpy(&app.hdr, app.control, sizeof(app.hdr));
	if (app.hdr.magic != TOE_REGION_MAGIC)
		die("region has another magic");
	return s;
}

/* ---- what must be refused ---- */

void expect_refused(const char *what, int rc)
{
	if (rc < 0) {
		printf("refused: %-44s %s\n", what, strerror(-rc));
		return;
	}
	printf("NOT REFUSED: %s\n", what);
	not_refused++;
}

static void expect_errno(const char *what, int rc, int error)
{
	expect_refused(what, rc == -error ? rc : 0);
}

int forge_on(int s, struct toe_ctl_msg *m, const int *fds, unsigned nfds)
{
	int got[TOE_CTL_FDS_MAX];
	unsigned n = 0;
	int rc = toe_ctl_call(s, m, fds, nfds, got, TOE_CTL_FDS_MAX, &n, REPLY_MS);

	for (unsigned i = 0; rc == 0 && i < n; i++)
		close(got[i]);
	return rc;
}

int forge(struct toe_ctl_msg *m, const int *fds, unsigned nfds)
{
	int s = keeper();
	int rc = forge_on(s, m, fds, nfds);

	close(s);
	return rc;
}

void expect_alive(const char *after)
{
	struct toe_ctl_msg m;
	int rc;

	toe_ctl_init(&m, TOE_CTL_STATUS);
	rc = forge(&m, NULL, 0);
	if (rc == 0)
		return;
	printf("NOT REFUSED: keeper does not answer after: %s: %s\n", after, strerror(-rc));
	not_refused++;
}

void send_raw(int s, const void *msg, size_t len, const int *fds, unsigned nfds)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(253 * sizeof(int))];
	} ctrl;
	struct iovec iov = {(void *)msg, len};
	struct msghdr mh = {.msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = ctrl.bytes,
			    .msg_controllen = CMSG_SPACE(nfds * sizeof(int))};
	struct cmsghdr *c;

	memset(&ctrl, 0, sizeof(ctrl));
	c = CMSG_FIRSTHDR(&mh);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
	memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
	if (sendmsg(s, &mh, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		printf("refused: sending %u descriptors: %m\n", nfds);
}

static void attack_attach(void)
{
	struct toe_ctl_msg m;
	int foreign = STDOUT_FILENO;

	fill_attach(&m);
	m.u.app.key[3] ^= 0x10;
	expect_refused("PROC_ATTACH with a wrong key", forge(&m, NULL, 0));
	fill_attach(&m);
	m.u.app.app_id ^= 1;
	expect_refused("PROC_ATTACH to another application", forge(&m, NULL, 0));
	fill_attach(&m);
	m.u.app.app_id = UINT32_MAX;
	expect_refused("PROC_ATTACH to application 2^32-1", forge(&m, NULL, 0));
	toe_ctl_init(&m, TOE_CTL_LISTEN);
	expect_refused("LISTEN before PROC_ATTACH", forge(&m, NULL, 0));
	toe_ctl_init(&m, TOE_CTL_CLAIM);
	expect_refused("CLAIM before PROC_ATTACH", forge(&m, &foreign, 1));
	toe_ctl_init(&m, TOE_CTL_TOKEN_ADD);
	m.u.token.count = 1;
	expect_refused("TOKEN_ADD before PROC_ATTACH", forge(&m, &foreign, 1));
}

static void attack_messages(int s)
{
	struct toe_ctl_msg m;
	int foreign[2] = {STDOUT_FILENO, app.control_fd};
	int pair[2];

	toe_ctl_init(&m, TOE_CTL_CLAIM);
	expect_refused("CLAIM of stdout", forge_on(s, &m, &foreign[0], 1));
	toe_ctl_init(&m, TOE_CTL_CLAIM);
	expect_refused("CLAIM of the region", forge_on(s, &m, &foreign[1], 1));
	if (toe_ctl_pair(pair) == 0) {
		toe_ctl_init(&m, TOE_CTL_CLAIM);
		expect_refused("CLAIM of a socket of ours", forge_on(s, &m, &pair[0], 1));
		close(pair[0]);
		close(pair[1]);
	}
	toe_ctl_init(&m, TOE_CTL_UNLISTEN);
	m.u.listen.listener = UINT32_MAX - 3;
	expect_refused("UNLISTEN of a listener that is none", forge_on(s, &m, NULL, 0));
	toe_ctl_init(&m, TOE_CTL_WAITER_ADD);
	m.u.waiter.waiter = TOE_WAITER_N;
	expect_refused("WAITER_ADD beyond the last", forge_on(s, &m, &foreign[0], 1));
	toe_ctl_init(&m, TOE_CTL_KERNEL_CONN);
	m.u.kconn.delta = -1;
	expect_refused("KERNEL_CONN below zero", forge_on(s, &m, NULL, 0));
	toe_ctl_init(&m, TOE_CTL_KERNEL_CONN);
	m.u.kconn.delta = INT32_MAX;
	expect_refused("KERNEL_CONN beyond any number", forge_on(s, &m, NULL, 0));
	toe_ctl_init(&m, TOE_CTL_CONNECT);
	m.u.conn.family = 77;
	expect_refused("CONNECT of family 77", forge_on(s, &m, &foreign[0], 1));
}

/* What no libtoe sends: refused before anything is done about it. */
static void attack_addresses(int s)
{
	static const struct {
		const char *name;
		struct toe_ctl_listen l;
	} listens[] = {
		{"LISTEN of family 77", {.family = 77, .port = 20000}},
		{"LISTEN on port 0", {.family = AF_INET6}},
		{"LISTEN, IPv4 with a long address",
		 {.family = AF_INET, .port = 20000, .addr = {[9] = 1}}},
		{"LISTEN, IPv4 without IPv4", {.family = AF_INET, .port = 20000, .v6only = 1}},
		{"LISTEN, v6only 2", {.family = AF_INET6, .port = 20000, .v6only = 2}},
		{"LISTEN on an IPv4-mapped address",
		 {.family = AF_INET6, .port = 20000, .addr = {[10] = 0xff, 0xff, 10, 99, 0, 1}}},
	};
	struct toe_ctl_msg m;

	for (unsigned i = 0; i < sizeof(listens) / sizeof(listens[0]); i++) {
		toe_ctl_init(&m, TOE_CTL_LISTEN);
		m.u.listen = listens[i].l;
		expect_errno(listens[i].name, forge_on(s, &m, NULL, 0), EINVAL);
	}
	toe_ctl_init(&m, TOE_CTL_KERNEL_CONN);
	m.u.kconn = (struct toe_ctl_kconn){.delta = 1, .flags = 9};
	expect_errno("KERNEL_CONN with flags 9", forge_on(s, &m, NULL, 0), EINVAL);
	m.u.kconn = (struct toe_ctl_kconn){.what = TOE_KCONN_MQTT_LAST + 1};
	expect_errno("KERNEL_CONN of news that are none", forge_on(s, &m, NULL, 0), EINVAL);
}

/* Types that belong to other links.  The keeper may answer or hang up, never obey. */
static void attack_types(void)
{
	static const struct {
		enum toe_ctl_type type;
		const char *name;
	} types[] = {{TOE_CTL_CP_START, "CP_START"},           {TOE_CTL_CP_APP_GONE, "CP_APP_GONE"},
		     {TOE_CTL_CP_TOKEN_FREE, "CP_TOKEN_FREE"}, {TOE_CTL_CP_APP_FREE, "CP_APP_FREE"},
		     {TOE_CTL_DP_START, "DP_START"},           {TOE_CTL_DP_APP_GONE, "DP_APP_GONE"},
		     {TOE_CTL_DP_READY, "DP_READY"},           {TOE_CTL_DP_EVICT, "DP_EVICT"}};

	for (unsigned i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		struct toe_ctl_msg m;
		char what[64];

		toe_ctl_init(&m, types[i].type);
		m.u.app.app_id = app.app_id ^ 1;
		snprintf(what, sizeof(what), "%s from an application", types[i].name);
		expect_refused(what, forge(&m, NULL, 0));
	}
}

/* Order: what needs room first, then what takes it all. */
static void floods(int s, uint16_t victim)
{
	uint32_t peer = 0;

	inet_pton(AF_INET, "10.99.0.2", &peer);
	flood_tokens(s);
	flood_waiters(s);
	flood_connect(s, peer);
	expect_alive("CONNECT flood");
	flood_listen(s, victim);
	flood_unread();
	expect_alive("answers that nobody reads");
	flood_contexts();
	flood_forks(s);
	flood_strangers();
	expect_alive("strangers");
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {{"seconds", 1, NULL, 's'},
					      {"seed", 1, NULL, 'S'},
					      {"floods", 0, NULL, 'f'},
					      {"victim", 1, NULL, 'v'},
					      {NULL, 0, NULL, 0}};
	unsigned seconds = 3;
	uint16_t victim = 0;
	bool flood = false;
	int o, s;

	while ((o = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (o == 's')
			seconds = (unsigned)parse_u64(optarg, "--seconds");
		else if (o == 'S')
			dice = parse_u64(optarg, "--seed") | 1;
		else if (o == 'v')
			victim = (uint16_t)parse_u64(optarg, "--victim");
		else if (o == 'f')
			flood = true;
		else
			die("usage: toe run -- hostile_app [--seconds N] [--seed N] [--floods]\n"
			    "  [--victim PORT of another application]");
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	want_fds(4096);
	parse_env();
	s = attach();
	printf("attached: control %zu bytes, payload %zu bytes, seed %llu\n", app.control_bytes,
	       app.payload_bytes, (unsigned long long)dice);
	attack_seals("control", app.control_fd, app.control_bytes);
	attack_seals("payload", app.payload_fd, app.payload_bytes);
	attack_attach();
	attack_messages(s);
	attack_addresses(s);
	attack_types();
	attack_foreign_port(s);
	attack_kept_far_ends(s);
	attack_lingering(s);
	if (flood)
		floods(s, victim);
	printf("scribbling\n");
	scribble(seconds);
	printf("hostile: %u not refused\n", not_refused);
	return not_refused ? 1 : 0;
}
