// SPDX-License-Identifier: BSD-3-Clause
/*
 * hostile_app, floods: too many tokens, processes, connections to the keeper, listeners, outgoing
 * connections, waiters; answers that nobody reads.  Each ends when it is refused or has had its
 * number; that others are still served is checked by the caller.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/progs/lib/hostile.h"
#include "tests/progs/lib/util.h"

/* Tokens that hang up at once: taken and recycled, or refused, without end. */
void flood_tokens(int s)
{
	for (unsigned round = 0; round < 4096; round++) {
		struct toe_ctl_msg m;
		int far[8], rc = 0;
		unsigned n = 0;

		toe_ctl_init(&m, TOE_CTL_TOKEN_ADD);
		for (; n < 8; n++) {
			int pair[2];

			if (toe_ctl_pair(pair) < 0)
				break;
			close(pair[0]);
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
	printf("TOKEN_ADD flood: 32768 tokens that hung up were taken and recycled\n");
}

/* All contexts there are, each with its kick socket. */
void flood_contexts(void)
{
	unsigned n = 0;
	int s = 0;

	for (; n < 2 * TOE_CTX_N && s >= 0; n += s >= 0) {
		int kick;

		s = attach_more(&kick, NULL);
	}
	expect_refused("PROC_ATTACH without end", s);
	printf("%u contexts\n", n);
}

/* Fresh ends for children that never come, and one end many times. */
void flood_forks(int s)
{
	for (unsigned i = 0; i < 256; i++) {
		struct toe_ctl_msg m;
		int pair[2];

		if (toe_ctl_pair(pair) < 0)
			break;
		for (unsigned k = 0; k < 1 + i % 2; k++) {
			toe_ctl_init(&m, TOE_CTL_PROC_FORK);
			(void)toe_ctl_send(s, &m, &pair[1], 1);
		}
		/* half of them stay: end and far end both in our hands */
		if (i % 2) {
			close(pair[0]);
			close(pair[1]);
		}
	}
}

/* Requests whose answers carry descriptors or not; nobody reads them. */
void flood_unread(void)
{
	for (unsigned i = 0; i < 40; i++) {
		int s = keeper();

		for (unsigned k = 0; k < 2000; k++) {
			struct toe_ctl_msg m;

			fill_attach(&m);
			if (i % 2)
				m.type = TOE_CTL_STATUS;
			m.magic = TOE_CTL_MAGIC;
			if (send(s, &m, sizeof(m), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
				break;
		}
	}
}

/* Connections that never say who they are. */
void flood_strangers(void)
{
	for (unsigned i = 0; i < 600; i++)
		(void)keeper();
}

void flood_listen(int s, uint16_t victim)
{
	struct toe_ctl_msg m;
	unsigned n = 0;
	int rc = 0;

	toe_ctl_init(&m, TOE_CTL_LISTEN);
	m.u.listen.family = AF_INET;
	m.u.listen.port = victim;
	if (victim)
		expect_refused("LISTEN on another application's port", forge_on(s, &m, NULL, 0));
	for (; rc >= 0 && n < 70000; n++) {
		toe_ctl_init(&m, TOE_CTL_LISTEN);
		m.u.listen.family = n % 3 ? AF_INET6 : AF_INET;
		m.u.listen.v6only = n % 3 == 1;
		m.u.listen.port = (uint16_t)(20000 + n);
		m.u.listen.backlog = (uint32_t)rng_next(&dice);
		m.u.listen.defaults = (uint32_t)rng_next(&dice);
		m.u.listen.listener = (uint32_t)rng_next(&dice);
		rc = forge_on(s, &m, NULL, 0);
	}
	expect_refused("LISTEN without end", rc);
	printf("%u listeners\n", n - 1);
}

static uint32_t one_token(int s)
{
	struct toe_ctl_msg m;
	int pair[2];
	int rc;

	if (toe_ctl_pair(pair) < 0)
		return TOE_NONE;
	toe_ctl_init(&m, TOE_CTL_TOKEN_ADD);
	m.u.token.count = 1;
	rc = toe_ctl_call(s, &m, &pair[1], 1, NULL, 0, NULL, REPLY_MS);
	close(pair[1]);
	return rc < 0 ? TOE_NONE : m.u.token.ids[0];
}

/* To everything, 64 at a time without reading the answers. */
void flood_connect(int s, uint32_t peer)
{
	static const char *const more[] = {
		"10.99.0.77", "255.255.255.255", "0.0.0.0", "127.0.0.1",   "224.0.0.1",
		"10.99.0.1",  "192.0.2.1",       "::",      "::1",         "ff02::1",
		"fe80::1",    "fd00:99::1",      "::2",     "2001:db8::1", "fd00:99::77"};
	const unsigned kinds = 1 + sizeof(more) / sizeof(more[0]);
	uint32_t token[4];

	for (unsigned i = 0; i < 4; i++)
		token[i] = one_token(s);
	for (unsigned i = 0; i < 512; i++) {
		const char *to = i % kinds ? more[i % kinds - 1] : NULL;
		int family = to && strchr(to, ':') ? AF_INET6 : AF_INET;
		/* the socket that brings the port may be of the other family */
		int fd = socket(rng_next(&dice) % 8 ? family : AF_INET + AF_INET6 - family,
				SOCK_STREAM | SOCK_CLOEXEC, 0);
		struct toe_ctl_msg m;

		toe_ctl_init(&m, TOE_CTL_CONNECT);
		m.u.conn.family = (uint16_t)family;
		m.u.conn.token = token[i % 4];
		m.u.conn.remote_port = (uint16_t)(i % 5 ? 9 + i : 7000);
		m.u.conn.ctl = (uint32_t)rng_next(&dice);
		memcpy(m.u.conn.remote_addr, &peer, sizeof(peer));
		if (to)
			inet_pton(family, to, m.u.conn.remote_addr);
		m.nfds = 1;
		if (fd >= 0) {
			(void)toe_ctl_send(s, &m, &fd, 1);
			close(fd);
		}
		for (unsigned k = 0; i % 64 == 63 && k < 64; k++) {
			unsigned n = 0;

			if (recv(s, &m, sizeof(m), MSG_DONTWAIT) < 0 && errno == EAGAIN)
				usleep(100 + n);
		}
	}
}

/* Every waiter there is, over and over: each replaces one that the engine must let go of. */
void flood_waiters(int s)
{
	for (unsigned i = 0; i < 4 * TOE_WAITER_N; i++) {
		struct toe_ctl_msg m;
		int pair[2];

		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
			return;
		toe_ctl_init(&m, TOE_CTL_WAITER_ADD);
		m.u.waiter.waiter = i % TOE_WAITER_N;
		(void)forge_on(s, &m, &pair[1], 1);
		close(pair[1]);
		if (i < 3 * TOE_WAITER_N)
			close(pair[0]);
	}
}
