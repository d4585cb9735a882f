// SPDX-License-Identifier: BSD-3-Clause
/*
 * hostile_app, descriptors: far ends of which it keeps a copy, sockets whose close() waits, sockets
 * of another network namespace, more descriptors than a message may have.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/progs/lib/hostile.h"
#include "tests/progs/lib/util.h"

/* The far ends hang up, but their files live on: a watcher that only closes its copy sees the
 * hang-up for ever. */
void attack_kept_far_ends(int s)
{
	struct toe_ctl_msg m;
	int far[16];
	unsigned n = 0;

	for (; n < 16; n++) {
		int pair[2];

		if (toe_ctl_pair(pair) < 0)
			break;
		close(pair[0]);
		far[n] = pair[1]; /* stays open */
	}
	toe_ctl_init(&m, TOE_CTL_TOKEN_ADD);
	m.u.token.count = n;
	printf("kept far ends: %s\n", strerror(-forge_on(s, &m, far, n)));
}

/* Nobody reads what arrives here. */
static struct sockaddr_in deaf_end(void)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(sa);
	int small = 4096;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, 64) < 0 ||
	    getsockname(fd, (struct sockaddr *)&sa, &len) < 0)
		die("no socket on the loopback: %m");
	return sa;
}

/* A TCP socket with unsent data and an hour of patience: its last close() waits as long as its
 * peer, which is ours too, does not read.  -1: not here. */
static int lingering(const struct sockaddr_in *sa)
{
	static char junk[65536];
	const struct linger hour = {1, 3600};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) < 0)
		return -1;
	while (send(fd, junk, sizeof(junk), MSG_DONTWAIT) > 0)
		;
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &hour, sizeof(hour));
	return fd;
}

/* In a child: whose exit closes without waiting, so that it is the receiver who has to. */
static void with_lingering(const char *what, int s, const struct toe_ctl_msg *m, unsigned copies)
{
	struct sockaddr_in sa = deaf_end();
	pid_t pid = fork_tied();

	if (pid == 0) {
		int fds[253];
		int fd = lingering(&sa);

		for (unsigned i = 0; i < copies; i++)
			fds[i] = fd;
		send_raw(s, m, sizeof(*m), fds, copies);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	expect_alive(what);
}

/* Queued in a socket that is then handed over and closed by its new owner. */
static void lingering_in_queue(int s)
{
	struct sockaddr_in sa = deaf_end();
	struct toe_ctl_msg m;
	pid_t pid = fork_tied();

	if (pid == 0) {
		int fd = lingering(&sa);
		int pair[2];

		if (toe_ctl_pair(pair) < 0)
			_exit(1);
		send_raw(pair[0], "x", 1, &fd, 1);
		toe_ctl_init(&m, TOE_CTL_TOKEN_ADD);
		m.u.token.count = m.nfds = 1;
		send_raw(s, &m, sizeof(m), &pair[1], 1);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	expect_alive("a token with a lingering socket in its queue hung up");
}

void attack_lingering(int s)
{
	struct toe_ctl_msg m;
	int kick = -1;
	int other;

	toe_ctl_init(&m, TOE_CTL_STATUS);
	m.nfds = 1;
	with_lingering("STATUS with a lingering socket", s, &m, 1);
	toe_ctl_init(&m, TOE_CTL_CONNECT);
	m.nfds = 1;
	m.u.conn.family = AF_INET;
	with_lingering("CONNECT with a lingering socket", s, &m, 1);
	other = keeper();
	m.nfds = 253;
	with_lingering("253 descriptors", other, &m, 253);
	lingering_in_queue(s);
	close(other);
	other = attach_more(&kick, NULL);
	if (other >= 0) {
		with_lingering("a kick with a lingering socket", kick, &m, 1);
		close(other);
		expect_alive("the process that sent it left");
	}
}

/* In a network namespace of our own we may bind any port; it says nothing about the engine's. */
void attack_foreign_port(int s)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(22)};
	struct toe_ctl_msg m;
	pid_t pid = fork_tied();
	int status = 0;
	int fd;

	if (pid == 0) {
		if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
			_exit(77);
		fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
			_exit(77);
		toe_ctl_init(&m, TOE_CTL_CONNECT);
		m.u.conn.family = AF_INET;
		inet_pton(AF_INET, "10.99.0.2", m.u.conn.remote_addr);
		m.u.conn.remote_port = 9;
		_exit(forge_on(s, &m, &fd, 1) < 0 ? 0 : 1);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0 || WEXITSTATUS(status) == 77) {
		printf("no namespace of our own\n");
		return;
	}
	expect_refused("CONNECT from a port of another namespace",
		       WEXITSTATUS(status) == 0 ? -EINVAL : 0);
}
