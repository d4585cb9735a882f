// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/progs/lib/util.c common/hist.c common/ctl_sock.c */
/*
 * An application that attacks the engine.  Run it under `toe run`, best beside a server of the same
 * application, so that live connections are in the memory it scribbles over.
 *
 * It reads TOE_APP, attaches as one more process, maps the region, tries what the seals forbid,
 * forges control messages, and for --seconds writes random bytes, cursors and ring indices
 * everywhere and floods the kick socket.  What must be refused and is not makes it exit 1; that the
 * engine and other applications go on is for the caller to check.  Reproducible by --seed.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/ctl_sock.h"
#include "tests/progs/lib/util.h"
#include "toe/region.h"

#define REPLY_MS 2000

static struct {
	uint32_t app_id;
	uint8_t key[TOE_KEY_BYTES];
	char path[108];
	int control_fd, payload_fd, kick_fd;
	uint8_t *control, *payload;
	size_t control_bytes, payload_bytes;
	struct toe_region_hdr hdr; /* as it was before we wrote to it */
} app;

static uint64_t seed = 1;
static unsigned not_refused;

/* ---- attach ---- */

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

static int keeper(void)
{
	int s = toe_ctl_connect(app.path);

	if (s < 0)
		die("%s: %s", app.path, strerror(-s));
	return s;
}

static void fill_attach(struct toe_ctl_msg *m)
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

static int attach(void)
{
	int s = keeper(), fds[4], rc;
	struct toe_ctl_msg m;
	unsigned n = 0;

	fill_attach(&m);
	rc = toe_ctl_call(s, &m, NULL, 0, fds, 4, &n, REPLY_MS);
	if (rc < 0 || n != 3)
		die("attach: %s, %u descriptors", strerror(-rc), n);
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

static void expect_refused(const char *what, int rc)
{
	if (rc < 0) {
		printf("refused: %-44s %s\n", what, strerror(-rc));
		return;
	}
	printf("NOT REFUSED: %s\n", what);
	not_refused++;
}

static int errno_of(int rc)
{
	return rc < 0 ? -errno : 0;
}

static void attack_seals(const char *name, int fd, size_t bytes)
{
	char what[80];

	snprintf(what, sizeof(what), "%s: ftruncate to 0", name);
	expect_refused(what, errno_of(ftruncate(fd, 0)));
	snprintf(what, sizeof(what), "%s: ftruncate to one page less", name);
	expect_refused(what, errno_of(ftruncate(fd, (off_t)bytes - 4096)));
	snprintf(what, sizeof(what), "%s: ftruncate to twice", name);
	expect_refused(what, errno_of(ftruncate(fd, (off_t)bytes * 2)));
	snprintf(what, sizeof(what), "%s: F_ADD_SEALS F_SEAL_FUTURE_WRITE", name);
	expect_refused(what, errno_of(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE)));
	snprintf(what, sizeof(what), "%s: fallocate beyond the end", name);
	expect_refused(what, errno_of(fallocate(fd, 0, (off_t)bytes, 4096)));
}

/* Sends one message on a fresh connection; -errno of the keeper, or -ECONNRESET if it hung up. */
static int forge_on(int s, struct toe_ctl_msg *m, const int *fds, unsigned nfds)
{
	int got[TOE_CTL_FDS_MAX];
	unsigned n = 0;
	int rc = toe_ctl_call(s, m, fds, nfds, got, TOE_CTL_FDS_MAX, &n, REPLY_MS);

	for (unsigned i = 0; rc == 0 && i < n; i++)
		close(got[i]);
	return rc;
}

static int forge(struct toe_ctl_msg *m, const int *fds, unsigned nfds)
{
	int s = keeper();
	int rc = forge_on(s, m, fds, nfds);

	close(s);
	return rc;
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
	toe_ctl_init(&m, TOE_CTL_CONNECT);
	m.u.conn.family = 77;
	expect_refused("CONNECT of family 77", forge_on(s, &m, &foreign[0], 1));
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

/* Tokens until the keeper has enough: it must say so, not run out of descriptors. */
static void attack_tokens(int s)
{
	for (unsigned round = 0; round < 8192; round++) {
		struct toe_ctl_msg m;
		int far[8], rc = 0;
		unsigned n = 0;

		toe_ctl_init(&m, TOE_CTL_TOKEN_ADD);
		for (; n < 8; n++) {
			int pair[2];

			if (toe_ctl_pair(pair) < 0)
				break;
			close(pair[0]); /* hangs up at once as well */
			far[n] = pair[1];
		}
		m.u.token.count = n;
		rc = forge_on(s, &m, far, n);
		for (unsigned i = 0; i < n; i++)
			close(far[i]);
		if (rc < 0) {
			printf("refused: TOKEN_ADD flood after %u tokens: %s\n", round * 8,
			       strerror(-rc));
			return;
		}
	}
	printf("TOKEN_ADD flood: 65536 tokens that hung up were taken and recycled\n");
}

/* ---- scribbling ---- */

static uint64_t rnd(uint64_t below)
{
	return rng_next(&seed) % below;
}

static uint32_t interesting(void)
{
	static const uint32_t values[] = {0, 1, 0x7fffffffu, 0x80000000u, UINT32_MAX, 4096, 262144};
	uint64_t pick = rnd(10);

	return pick < 7 ? values[pick] : (uint32_t)rng_next(&seed);
}

static void poke32(uint64_t off)
{
	uint32_t v = interesting();

	off &= ~3ull;
	if (off + sizeof(v) <= app.control_bytes)
		__atomic_store_n((uint32_t *)(app.control + off), v, __ATOMIC_RELAXED);
}

/* Fields that somebody reads: cursors, ring indices, ring entries, token map. */
static void poke_fields(void)
{
	const struct toe_region_hdr *h = &app.hdr;
	uint64_t slot = h->off_slots + rnd(h->slot_n) * sizeof(struct toe_slot);
	uint64_t hot = h->off_slots + rnd(16) * sizeof(struct toe_slot);
	uint64_t lis = h->off_listeners + rnd(h->listener_n) * toe_listener_stride(h->backlog_n);
	uint64_t ctx =
		h->off_contexts + rnd(TOE_CTX_N) * toe_context_stride(h->hint_n, h->doorbell_n);

	poke32(slot + rnd(sizeof(struct toe_slot)));
	poke32(hot + offsetof(struct toe_slot, tx_tail) + 4 * rnd(4));
	poke32(hot + offsetof(struct toe_slot, doorbell_pending) + 4 * rnd(6));
	poke32(lis + rnd(toe_listener_stride(h->backlog_n)));
	poke32(ctx + rnd(sizeof(struct toe_context)));
	poke32(ctx + offsetof(struct toe_context, doorbell_prod));
	poke32(ctx + sizeof(struct toe_context) + 4 * rnd((uint64_t)h->hint_n + h->doorbell_n));
	poke32(h->off_tokens + 4 * rnd(h->token_n));
	poke32(rnd(sizeof(*h)));
}

static void poke_bytes(void)
{
	uint64_t off = rnd(app.control_bytes);

	app.control[off] = (uint8_t)rng_next(&seed);
	/* the first slots' buffers are the ones in use */
	off = rnd(2) ? rnd(app.payload_bytes) : rnd(16ull << 19) % app.payload_bytes;
	app.payload[off] = (uint8_t)rng_next(&seed);
}

static void punch(const char *name, int fd, size_t bytes)
{
	off_t at = (off_t)(rnd(bytes) & ~4095ull);

	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, 4096) < 0)
		printf("refused: %s: punching a hole: %m\n", name);
}

static void kick(void)
{
	char junk[64];

	memset(junk, (int)rnd(256), sizeof(junk));
	for (unsigned i = 0; i < 64; i++) {
		if (send(app.kick_fd, junk, sizeof(junk), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			return;
	}
}

/* A packet of random bytes, right size and magic half of the time. */
static void random_message(void)
{
	struct toe_ctl_msg m;
	uint64_t *words = (uint64_t *)(void *)&m;
	int s = keeper();
	int fd = STDERR_FILENO;
	size_t len = sizeof(m);

	for (size_t i = 0; i < sizeof(m) / sizeof(*words); i++)
		words[i] = rng_next(&seed);
	if (rnd(2)) {
		toe_ctl_init(&m, (enum toe_ctl_type)rnd(160));
		/* not these two: one ends the engine if root asks, one makes applications */
		if (m.type == TOE_CTL_DOWN || m.type == TOE_CTL_APP_NEW)
			m.type = 0;
		(void)toe_ctl_send(s, &m, &fd, (unsigned)rnd(2));
	} else {
		m.magic = TOE_CTL_MAGIC ^ 1;
		len = 1 + (size_t)rnd(sizeof(m));
		(void)!send(s, &m, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	}
	close(s);
}

static void scribble(unsigned seconds)
{
	uint64_t end = now_ns() + (uint64_t)seconds * 1000000000u;
	unsigned long rounds = 0;

	while (now_ns() < end) {
		for (unsigned i = 0; i < 256; i++) {
			poke_fields();
			poke_bytes();
		}
		kick();
		if (rounds % 64 == 0) {
			punch("control", app.control_fd, app.control_bytes);
			punch("payload", app.payload_fd, app.payload_bytes);
			random_message();
		}
		rounds++;
		usleep(200); /* two CPUs: leave the victims some */
	}
	printf("scribbled %lu rounds of 256\n", rounds);
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{"seconds", 1, NULL, 's'}, {"seed", 1, NULL, 'S'}, {NULL, 0, NULL, 0}};
	unsigned seconds = 3;
	int o, s;

	while ((o = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (o == 's')
			seconds = (unsigned)parse_u64(optarg, "--seconds");
		else if (o == 'S')
			seed = parse_u64(optarg, "--seed") | 1;
		else
			die("usage: toe run -- hostile_app [--seconds N] [--seed N]");
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	parse_env();
	s = attach();
	printf("attached: control %zu bytes, payload %zu bytes, seed %llu\n", app.control_bytes,
	       app.payload_bytes, (unsigned long long)seed);
	attack_seals("control", app.control_fd, app.control_bytes);
	attack_seals("payload", app.payload_fd, app.payload_bytes);
	attack_attach();
	attack_messages(s);
	attack_types();
	attack_tokens(s);
	scribble(seconds);
	printf("hostile: %u not refused\n", not_refused);
	return not_refused ? 1 : 0;
}
