// SPDX-License-Identifier: BSD-3-Clause
/*
 * hostile_app, memory: seals, and random words in everything it shares with the engine.
 *
 * In: the mapped region; out: damage, reproducible by --seed.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/progs/lib/hostile.h"
#include "tests/progs/lib/util.h"

static int errno_of(int rc)
{
	return rc < 0 ? -errno : 0;
}

void attack_seals(const char *name, int fd, size_t bytes)
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

static uint32_t interesting(void)
{
	static const uint32_t values[] = {0, 1, 0x7fffffffu, 0x80000000u, UINT32_MAX, 4096, 262144};
	uint64_t pick = rnd(10);

	return pick < 7 ? values[pick] : (uint32_t)rng_next(&dice);
}

static void poke32(uint64_t off)
{
	uint32_t v = interesting();

	off &= ~3ull;
	if (off + sizeof(v) <= app.control_bytes)
		__atomic_store_n((uint32_t *)(app.control + off), v, __ATOMIC_RELAXED);
}

static uint64_t context_off(uint64_t ctx)
{
	return app.hdr.off_contexts + ctx * toe_context_stride(app.hdr.hint_n, app.hdr.doorbell_n);
}

/* Fields that somebody reads: cursors, ring indices, ring entries, token map. */
static void poke_fields(void)
{
	const struct toe_region_hdr *h = &app.hdr;
	uint64_t slot = h->off_slots + rnd(h->slot_n) * sizeof(struct toe_slot);
	uint64_t hot = h->off_slots + rnd(16) * sizeof(struct toe_slot);
	uint64_t lis = h->off_listeners + rnd(h->listener_n) * toe_listener_stride(h->backlog_n);
	uint64_t ctx = context_off(rnd(TOE_CTX_N));

	poke32(slot + rnd(sizeof(struct toe_slot)));
	poke32(hot + offsetof(struct toe_slot, tx_tail) + 4 * rnd(5));
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

	app.control[off] = (uint8_t)rng_next(&dice);
	/* the first slots' buffers are the ones in use */
	off = rnd(2) ? rnd(app.payload_bytes) : rnd(16ull << 19) % app.payload_bytes;
	app.payload[off] = (uint8_t)rng_next(&dice);
}

/* As many valid doorbells in every context as there is room for, and everybody asleep. */
static void ring_everywhere(void)
{
	for (uint64_t i = 0; i < TOE_CTX_N; i++) {
		struct toe_context *c = (struct toe_context *)(app.control + context_off(i));
		uint32_t *bells = (uint32_t *)(c + 1) + app.hdr.hint_n;
		uint32_t cons = __atomic_load_n(&c->doorbell_cons, __ATOMIC_RELAXED);

		for (uint32_t k = 0; k < 64; k++)
			bells[(cons + k) & (app.hdr.doorbell_n - 1)] = (uint32_t)rnd(16);
		__atomic_store_n(&c->doorbell_prod, cons + 64, __ATOMIC_RELEASE);
		__atomic_store_n(&c->waiting, UINT64_MAX, __ATOMIC_RELAXED);
	}
	for (uint64_t i = 0; i < 16; i++) {
		struct toe_slot *s = (struct toe_slot *)(app.control + app.hdr.off_slots) + i;

		__atomic_store_n(&s->ctx_mask, UINT64_MAX, __ATOMIC_RELAXED);
		__atomic_store_n(&s->hint_pending, 0, __ATOMIC_RELAXED);
	}
}

static void punch(const char *name, int fd, size_t bytes, size_t len)
{
	off_t at = (off_t)(rnd(bytes - len + 1) & ~4095ull);

	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, (off_t)len) < 0)
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
		words[i] = rng_next(&dice);
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

static void one_round(unsigned long round)
{
	for (unsigned i = 0; i < 256; i++) {
		poke_fields();
		poke_bytes();
	}
	kick();
	if (round % 16 == 0)
		ring_everywhere();
	if (round % 64 == 0) {
		punch("control", app.control_fd, app.control_bytes, 4096);
		punch("payload", app.payload_fd, app.payload_bytes, 4096);
		random_message();
	}
	if (round % 512 == 0) {
		punch("control", app.control_fd, app.control_bytes, app.control_bytes);
		punch("payload", app.payload_fd, app.payload_bytes, app.payload_bytes / 2);
	}
}

void scribble(unsigned seconds)
{
	uint64_t end = now_ns() + (uint64_t)seconds * 1000000000u;
	unsigned long rounds = 0;

	while (now_ns() < end) {
		one_round(rounds++);
		usleep(200); /* two CPUs: leave the victims some */
		if (rounds % 128 == 0)
			die_somewhere();
	}
	printf("scribbled %lu rounds of 256\n", rounds);
}

void die_somewhere(void)
{
	pid_t pid = fork_tied();

	if (pid < 0)
		return;
	if (pid == 0) {
		int s = attach_more(&app.kick_fd, NULL);

		if (s >= 0) {
			flood_waiters(s);
			flood_connect(s, 0);
		}
		for (unsigned long round = 0;; round++)
			one_round(round);
	}
	usleep((useconds_t)rnd(20000));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}
