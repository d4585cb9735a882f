// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/progs/lib/util.c tests/progs/lib/hist.c common/ctl_sock.c */
/*
 * Echo server straight on the application region, without libtoe: the smallest possible peer of the
 * engine, for telling apart whose fault something is.  Run under `toe run` with LD_PRELOAD unset:
 * region_echo PORT.  Polls (no sleeping), one thread, exits on SIGTERM.
 */
#include <errno.h>
#include <signal.h>
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

static uint8_t *control, *payload;
static struct toe_region_hdr hdr;
static struct toe_context *ctx;
static int kick_fd;
static int tokens[8192]; /* near ends of tokens, -1 once closed */
static uint32_t slot_token[65536];
static uint32_t token_next, token_have;

static struct toe_slot *slot_of(uint32_t i)
{
	return (struct toe_slot *)(control + hdr.off_slots) + i;
}

static void *map(int fd)
{
	struct stat st;
	void *p;

	if (fstat(fd, &st) < 0)
		die("fstat: %m");
	p = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		die("mmap: %m");
	return p;
}

static int attach(uint32_t *index)
{
	const char *env = getenv(TOE_ENV_APP), *fdp, *key;
	struct toe_ctl_msg m;
	int fds[4], sock, rc;
	unsigned n = 0;

	if (!env)
		die("start me with toe run");
	key = strchr(env, ':');
	fdp = strrchr(env, ':');
	if (!key || !fdp)
		die("TOE_APP cannot be read: %s", env);
	sock = atoi(fdp + 1);
	toe_ctl_init(&m, TOE_CTL_PROC_ATTACH);
	m.u.app.app_id = (uint32_t)atoi(env);
	m.u.app.pid = getpid();
	for (unsigned i = 0; i < TOE_KEY_BYTES; i++)
		sscanf(key + 1 + (size_t)2 * i, "%2hhx", &m.u.app.key[i]);
	rc = toe_ctl_call(sock, &m, NULL, 0, fds, 4, &n, 2000);
	if (rc < 0 || n != 3)
		die("attach: %s", strerror(-rc));
	control = map(fds[0]);
	payload = map(fds[1]);
	kick_fd = fds[2];
	memcpy(&hdr, control, sizeof(hdr));
	*index = m.u.app.ctx;
	ctx = (struct toe_context *)(control + hdr.off_contexts +
				     *index * toe_context_stride(hdr.hint_n, hdr.doorbell_n));
	return sock;
}

static void add_tokens(int sock)
{
	struct toe_ctl_msg m;
	int far[32];

	for (unsigned i = 0; i < 32; i++) {
		int p[2];

		if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, p) < 0)
			die("socketpair: %m");
		tokens[(token_have + i) % 8192] = p[0];
		far[i] = p[1];
	}
	toe_ctl_init(&m, TOE_CTL_TOKEN_ADD);
	m.u.token.count = 32;
	if (toe_ctl_call(sock, &m, far, 32, NULL, 0, NULL, 2000) < 0)
		die("TOKEN_ADD failed");
	for (unsigned i = 0; i < 32; i++) {
		close(far[i]);
		slot_token[(token_have + i) % 8192 + 32768] = m.u.token.ids[i];
	}
	token_have += 32;
}

static void doorbell(uint32_t slot)
{
	uint32_t *ring = (uint32_t *)(ctx + 1) + hdr.hint_n;

	if (__atomic_exchange_n(&slot_of(slot)->doorbell_pending, 1, __ATOMIC_SEQ_CST))
		return;
	ring[ctx->doorbell_prod % hdr.doorbell_n] = slot;
	__atomic_store_n(&ctx->doorbell_prod, ctx->doorbell_prod + 1, __ATOMIC_RELEASE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (__atomic_load_n(&ctx->engine_asleep, __ATOMIC_RELAXED))
		send(kick_fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static bool echo(uint32_t slot)
{
	struct toe_slot *s = slot_of(slot);
	uint32_t state = __atomic_load_n(&s->state, __ATOMIC_ACQUIRE);
	uint32_t tail = __atomic_load_n(&s->rx_tail, __ATOMIC_ACQUIRE);
	uint32_t head = __atomic_load_n(&s->tx_head, __ATOMIC_ACQUIRE);
	uint32_t n = tail - s->rx_head, room = hdr.tx_buf_bytes - (s->tx_tail - head);
	uint8_t *rx = payload + toe_slot_rx_off(slot, hdr.rx_buf_bytes, hdr.tx_buf_bytes);
	uint8_t *tx = payload + toe_slot_tx_off(slot, hdr.rx_buf_bytes, hdr.tx_buf_bytes);

	if (n > room)
		n = room;
	for (uint32_t i = 0; i < n; i++)
		tx[(s->tx_tail + i) % hdr.tx_buf_bytes] = rx[(s->rx_head + i) % hdr.rx_buf_bytes];
	if (n > 0) {
		s->rx_head += n;
		__atomic_store_n(&s->tx_tail, s->tx_tail + n, __ATOMIC_RELEASE);
		doorbell(slot);
	}
	return !(state & (TOE_SLOT_ERROR | TOE_SLOT_DEAD)) &&
	       !((state & TOE_SLOT_RX_FIN) && s->rx_head == tail);
}

static void serve(int sock, struct toe_listener *l, uint32_t index)
{
	static uint32_t open_slots[65536];
	uint32_t n = 0, *tokmap = (uint32_t *)(control + hdr.off_tokens);
	uint32_t *ring = (uint32_t *)(l + 1);

	while (true) {
		while (__atomic_load_n(&l->prod, __ATOMIC_ACQUIRE) != l->cons) {
			uint32_t slot = ring[l->cons % hdr.backlog_n];

			if (token_next == token_have)
				add_tokens(sock);
			slot_token[slot] = token_next++ % 8192;
			tokmap[slot_token[32768 + slot_token[slot]]] = slot;
			__atomic_fetch_or(&slot_of(slot)->ctx_mask, 1ull << index,
					  __ATOMIC_SEQ_CST);
			open_slots[n++] = slot;
			__atomic_store_n(&l->cons, l->cons + 1, __ATOMIC_RELEASE);
		}
		for (uint32_t i = 0; i < n; i++) {
			if (echo(open_slots[i]))
				continue;
			close(tokens[slot_token[open_slots[i]]]);
			open_slots[i--] = open_slots[--n];
		}
		if (__atomic_load_n(&ctx->engine_gone, __ATOMIC_RELAXED))
			die("engine gone");
		if (n == 0)
			usleep(200);
	}
}

int main(int argc, char **argv)
{
	struct toe_ctl_msg m;
	struct toe_listener *l;
	uint32_t index;
	int sock = attach(&index);

	if (argc != 2)
		die("usage: region_echo PORT");
	toe_ctl_init(&m, TOE_CTL_LISTEN);
	m.u.listen.family = AF_INET;
	m.u.listen.port = (uint16_t)atoi(argv[1]);
	m.u.listen.backlog = 128;
	if (toe_ctl_call(sock, &m, NULL, 0, NULL, 0, NULL, 2000) < 0)
		die("LISTEN: %s", strerror(-m.status));
	l = (struct toe_listener *)(control + hdr.off_listeners +
				    m.u.listen.listener * toe_listener_stride(hdr.backlog_n));
	add_tokens(sock);
	printf("listening on %s\n", argv[1]);
	fflush(stdout);
	serve(sock, l, index);
	return 0;
}
