// SPDX-License-Identifier: BSD-3-Clause
/* LINK: common/ctl_sock.c */
/*
 * Control sockets: messages and descriptors arrive, and nothing a hostile peer sends leaks a
 * descriptor or is taken for a message.
 */
#include <errno.h>
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/ctl_sock.h"

static int pair[2];
static int fds_before;

static int open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static int setup(void **state)
{
	(void)state;
	fds_before = open_fds();
	return toe_ctl_pair(pair);
}

/* Every test ends with the descriptors it began with. */
static int teardown(void **state)
{
	(void)state;
	if (pair[0] >= 0)
		close(pair[0]);
	if (pair[1] >= 0)
		close(pair[1]);
	return open_fds() == fds_before ? 0 : -1;
}

static void test_message_and_fds(void **state)
{
	struct toe_ctl_msg m, r;
	int out[2] = {STDIN_FILENO, STDOUT_FILENO};
	int in[4];
	unsigned n;

	(void)state;
	toe_ctl_init(&m, TOE_CTL_TOKEN_ADD);
	m.req = 77;
	m.u.token.count = 2;
	assert_int_equal(toe_ctl_send(pair[0], &m, out, 2), 0);
	assert_int_equal(toe_ctl_recv(pair[1], &r, in, 4, &n), 0);
	assert_int_equal(n, 2);
	assert_int_equal(r.req, 77);
	assert_memory_equal(&m, &r, sizeof(m));
	for (unsigned i = 0; i < n; i++) {
		assert_true(fcntl(in[i], F_GETFD) & FD_CLOEXEC);
		close(in[i]);
	}
}

static void test_too_many_fds(void **state)
{
	struct toe_ctl_msg m;
	int out[TOE_CTL_FDS_MAX + 1] = {0};
	int in[1];
	unsigned n = 9;

	(void)state;
	toe_ctl_init(&m, TOE_CTL_CLAIM);
	assert_int_equal(toe_ctl_send(pair[0], &m, out, 33), -EINVAL);
	assert_int_equal(toe_ctl_send(pair[0], &m, out, 2), 0);
	assert_int_equal(toe_ctl_recv(pair[1], &m, in, 1, &n), -EMSGSIZE);
	assert_int_equal(n, 0);
	/* none wanted at all */
	assert_int_equal(toe_ctl_send(pair[0], &m, out, 1), 0);
	assert_int_equal(toe_ctl_recv(pair[1], &m, NULL, 0, NULL), -EMSGSIZE);
}

/* More descriptors than toe_ctl_send() would ever send. */
static void test_flood_of_fds(void **state)
{
	struct toe_ctl_msg m;
	union {
		struct cmsghdr h;
		char b[CMSG_SPACE(100 * sizeof(int))];
	} ctrl;
	struct iovec iov = {&m, sizeof(m)};
	struct msghdr mh = {.msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = ctrl.b,
			    .msg_controllen = sizeof(ctrl.b)};
	int in[TOE_CTL_FDS_MAX];

	(void)state;
	toe_ctl_init(&m, TOE_CTL_TOKEN_ADD);
	memset(&ctrl, 0, sizeof(ctrl));
	ctrl.h.cmsg_level = SOL_SOCKET;
	ctrl.h.cmsg_type = SCM_RIGHTS;
	ctrl.h.cmsg_len = CMSG_LEN(100 * sizeof(int)); /* a hundred times stdin */
	assert_int_equal(sendmsg(pair[0], &mh, 0), sizeof(m));
	assert_int_equal(toe_ctl_recv(pair[1], &m, in, TOE_CTL_FDS_MAX, NULL), -EMSGSIZE);
}

static void bad_packet(const void *data, size_t len)
{
	struct toe_ctl_msg m;

	assert_int_equal(send(pair[0], data, len, 0), (ssize_t)len);
	assert_int_equal(toe_ctl_recv(pair[1], &m, NULL, 0, NULL), -EPROTO);
}

static void test_bad_packets(void **state)
{
	struct toe_ctl_msg m;
	char large[sizeof(m) + 1];

	(void)state;
	toe_ctl_init(&m, TOE_CTL_STATUS);
	memset(large, 0, sizeof(large));
	memcpy(large, &m, sizeof(m));
	bad_packet(large, sizeof(large));
	bad_packet(&m, sizeof(m) - 1);
	bad_packet(&m, 1);
	m.magic ^= 1;
	bad_packet(&m, sizeof(m));
	m.magic ^= 1;
	m.abi_version++;
	bad_packet(&m, sizeof(m));
	m.abi_version--;
	m.nfds = 1; /* announced, not sent */
	bad_packet(&m, sizeof(m));
}

static void test_end_of_file(void **state)
{
	struct toe_ctl_msg m;

	(void)state;
	toe_ctl_init(&m, TOE_CTL_STATUS);
	close(pair[1]);
	pair[1] = -1;
	assert_int_equal(toe_ctl_recv(pair[0], &m, NULL, 0, NULL), -ECONNRESET);
	assert_int_equal(toe_ctl_send(pair[0], &m, NULL, 0), -EPIPE); /* and no SIGPIPE */
}

static void test_full_socket(void **state)
{
	struct toe_ctl_msg m;
	int rc = 0;

	(void)state;
	fcntl(pair[0], F_SETFL, O_NONBLOCK);
	toe_ctl_init(&m, TOE_CTL_STATUS);
	for (int i = 0; i < 100000 && rc == 0; i++)
		rc = toe_ctl_send(pair[0], &m, NULL, 0);
	assert_int_equal(rc, -EAGAIN);
}

/* A reply to something else, then ours: the peer's answers are in the socket before we ask. */
static void test_call(void **state)
{
	struct toe_ctl_msg m, r;
	int fd = STDIN_FILENO;
	int in[2];
	unsigned n = 0;

	(void)state;
	toe_ctl_init(&r, TOE_CTL_STATUS);
	r.req = 4;
	assert_int_equal(toe_ctl_send(pair[1], &r, &fd, 1), 0); /* dropped, its fd closed */
	r.req = 5;
	r.u.engine.apps = 3;
	assert_int_equal(toe_ctl_send(pair[1], &r, &fd, 1), 0);
	toe_ctl_init(&m, TOE_CTL_STATUS);
	m.req = 5;
	assert_int_equal(toe_ctl_call(pair[0], &m, NULL, 0, in, 2, &n, 1000), 0);
	assert_int_equal(n, 1);
	assert_int_equal(m.u.engine.apps, 3);
	close(in[0]);

	r.req = 6;
	r.status = -ENOSPC;
	assert_int_equal(toe_ctl_send(pair[1], &r, &fd, 1), 0); /* error: its fd is not for us */
	toe_ctl_init(&m, TOE_CTL_STATUS);
	m.req = 6;
	assert_int_equal(toe_ctl_call(pair[0], &m, NULL, 0, in, 2, &n, 1000), -ENOSPC);

	toe_ctl_init(&m, TOE_CTL_STATUS);
	assert_int_equal(toe_ctl_call(pair[0], &m, NULL, 0, NULL, 0, NULL, 1), -ETIMEDOUT);
	assert_int_not_equal(m.req, 0);
}

static void test_listen(void **state)
{
	char dir[] = "/tmp/toe-test-ctl-XXXXXX";
	char path[64], longer[200];
	struct stat st;
	int l, c;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/s", dir);
	assert_int_equal(toe_ctl_connect(path), -ENOENT);
	l = toe_ctl_listen(path, 0666);
	assert_true(l >= 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0666);
	c = toe_ctl_connect(path);
	assert_true(c >= 0);
	assert_int_equal(toe_ctl_listen(path, 0600), -EADDRINUSE);
	close(c);
	close(l);
	/* the file is stale now: taken over */
	assert_int_equal(toe_ctl_connect(path), -ECONNREFUSED);
	l = toe_ctl_listen(path, 0600);
	assert_true(l >= 0);
	close(l);
	unlink(path);
	rmdir(dir);
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	assert_int_equal(toe_ctl_connect(longer), -ENAMETOOLONG);
	assert_int_equal(toe_ctl_listen(longer, 0600), -ENAMETOOLONG);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_message_and_fds),
		T(test_too_many_fds),
		T(test_flood_of_fds),
		T(test_bad_packets),
		T(test_end_of_file),
		T(test_full_socket),
		T(test_call),
		T(test_listen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
