// SPDX-License-Identifier: BSD-3-Clause
/* LINK: controlplane/keeper/chan.c controlplane/keeper/owner.c common/closer.c
 * common/ctl_sock.c common/log.c */
/*
 * What peers and applications can do to the keeper's descriptors: too many of them, credentials and
 * pidfds on a shared end, answers that nobody reads, sockets of others, ports of others.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/closer.h"
#include "common/ctl_sock.h"
#include "controlplane/keeper/keeper.h"

#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif

static struct {
	uv_loop_t loop;
	struct kp_chan ch;
	int peer;
	unsigned msgs;
	unsigned fds;
	int error;
} rig;

static void on_msg(struct kp_chan *ch, struct toe_ctl_msg *m, int *fds, unsigned nfds)
{
	(void)ch;
	(void)m;
	(void)fds;
	rig.msgs++;
	rig.fds += nfds;
}

static void on_end(struct kp_chan *ch, int error, const struct toe_ctl_msg *m)
{
	(void)m;
	rig.error = error;
	kp_chan_close(ch);
}

static unsigned open_fds(void)
{
	unsigned n = 0;

	while (toe_close_waiting() != 0)
		sched_yield();
	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void turn(void)
{
	uv_run(&rig.loop, UV_RUN_NOWAIT);
}

/* Returns the keeper's end as the application keeps it. */
static int start(void)
{
	int pair[2];
	int shared;

	memset(&rig, 0, sizeof(rig));
	assert_int_equal(uv_loop_init(&rig.loop), 0);
	assert_int_equal(toe_ctl_pair(pair), 0);
	shared = dup(pair[1]);
	rig.peer = pair[0];
	rig.ch.on_msg = on_msg;
	rig.ch.on_end = on_end;
	rig.ch.fds_at_once = true;
	assert_int_equal(kp_chan_open(&rig.ch, &rig.loop, pair[1]), 0);
	return shared;
}

static void stop(int shared)
{
	kp_chan_close(&rig.ch);
	uv_run(&rig.loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&rig.loop), 0);
	close(rig.peer);
	close(shared);
}

static void send_fds(unsigned n, unsigned say)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(253 * sizeof(int))];
	} ctrl = {0};
	struct toe_ctl_msg m;
	struct iovec iov = {&m, sizeof(m)};
	struct msghdr mh = {.msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = n ? ctrl.bytes : NULL,
			    .msg_controllen = n ? CMSG_SPACE(n * sizeof(int)) : 0};

	toe_ctl_init(&m, TOE_CTL_STATUS);
	m.nfds = (uint16_t)say;
	if (n) {
		struct cmsghdr *c = CMSG_FIRSTHDR(&mh);

		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n * sizeof(int));
		for (unsigned i = 0; i < n; i++)
			memcpy(CMSG_DATA(c) + i * sizeof(int), &rig.peer, sizeof(int));
	}
	assert_int_equal(sendmsg(rig.peer, &mh, 0), sizeof(m));
}

static void test_too_many(void **state)
{
	int shared = start();
	unsigned before;

	(void)state;
	turn();
	before = open_fds();
	send_fds(32, 32);
	turn();
	assert_int_equal(rig.fds, 32);
	assert_int_equal(open_fds(), before);
	send_fds(253, 253);
	turn();
	assert_int_equal(rig.error, -EMFILE);
	assert_int_equal(open_fds(), before - 1); /* and its own end */
	stop(shared);
}

/* The other holder of our end asks the kernel to add a descriptor to each message. */
static void test_pidfd(void **state)
{
	int shared = start();
	unsigned before;
	int on = 1;

	(void)state;
	turn();
	before = open_fds();
	setsockopt(shared, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on));
	if (setsockopt(shared, SOL_SOCKET, SO_PASSPIDFD, &on, sizeof(on)) < 0) {
		stop(shared);
		skip();
	}
	for (unsigned i = 0; i < 20; i++) {
		send_fds(i % 2, i % 2);
		turn();
	}
	assert_int_equal(rig.msgs, 20);
	assert_int_equal(rig.fds, 10);
	assert_int_equal(open_fds(), before);
	stop(shared);
}

static void test_unread(void **state)
{
	int shared = start();
	struct toe_ctl_msg m;
	unsigned before;
	int rc = 0;

	(void)state;
	turn();
	toe_ctl_init(&m, TOE_CTL_STATUS);
	while (rig.ch.out_n == 0)
		assert_int_equal(kp_chan_send(&rig.ch, &m, NULL, 0), 0);
	before = open_fds();
	for (unsigned i = 0; i < 40 && rc == 0; i++)
		rc = kp_chan_send(&rig.ch, &m, &shared, 1);
	assert_int_equal(rc, -EMFILE);
	assert_int_equal(open_fds(), before);
	stop(shared);
}

/* ---- owner.c ---- */

static void test_sockets(void **state)
{
	const struct kp_keeper kp = {.netns = kp_own_netns()};
	const struct kp_keeper elsewhere = {.netns = kp_own_netns() + 1};
	int tcp = socket(AF_INET, SOCK_STREAM, 0);
	int udp = socket(AF_INET, SOCK_DGRAM, 0);
	int file = dup(STDERR_FILENO);

	(void)state;
	assert_true(kp_is_tcp_socket(&kp, tcp));
	assert_false(kp_is_tcp_socket(&elsewhere, tcp));
	assert_false(kp_is_tcp_socket(&kp, udp));
	assert_false(kp_is_tcp_socket(&kp, file));
	assert_false(kp_is_tcp_socket(&kp, -1));
	close(tcp);
	close(udp);
	close(file);
}

static void test_may_listen(void **state)
{
	struct kp_keeper kp = {.engine.port_ipv4 = htonl(0x0a630001)};
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(sa);
	uint32_t uid = geteuid() ? geteuid() : 4711;
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct toe_ctl_listen l = {.family = AF_INET};
	struct toe_ctl_listen other = l;

	(void)state;
	if (geteuid() == 0) /* a socket's user is its inode's */
		assert_int_equal(fchown(fd, uid, (gid_t)-1), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, len), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
	l.port = ntohs(sa.sin_port);
	other.port = (uint16_t)(l.port ^ 1);
	assert_int_equal(kp_may_listen(&kp, uid, &l), -EXDEV); /* not on our address */
	kp.engine.port_ipv4 = htonl(INADDR_LOOPBACK);
	assert_int_equal(kp_may_listen(&kp, uid, &l), 0);
	assert_int_equal(kp_may_listen(&kp, uid + 1, &l), -EXDEV);
	assert_int_equal(kp_may_listen(&kp, uid, &other), -EXDEV);
	assert_int_equal(kp_may_listen(&kp, 0, &other), 0);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_too_many),   cmocka_unit_test(test_pidfd),
		cmocka_unit_test(test_unread),     cmocka_unit_test(test_sockets),
		cmocka_unit_test(test_may_listen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
