// SPDX-License-Identifier: BSD-3-Clause
/* LINK: controlplane/keeper/netaddr.c controlplane/keeper/owner.c */
/*
 * Which IPv6 addresses the engine serves, who may listen on which of them, and requests that no
 * libtoe sends.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "controlplane/keeper/keeper.h"

static struct kp_addr addr(const char *text, uint32_t flags)
{
	struct kp_addr a;

	assert_int_equal(kp_addr_parse(text, &a), 0);
	a.scope = strncmp(text, "fe80", 4) == 0 ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
	a.flags = flags;
	return a;
}

static void expect(const struct kp_addr *a, uint32_t n, uint8_t ipv6[2][16], const char *global,
		   const char *link)
{
	uint8_t want[2][16];

	inet_pton(AF_INET6, global, want[0]);
	inet_pton(AF_INET6, link, want[1]);
	kp_addr_pick(a, n, ipv6);
	assert_memory_equal(ipv6, want, sizeof(want));
}

static void test_pick(void **state)
{
	struct kp_addr a[] = {
		addr("fd00::1/64", IFA_F_TEMPORARY),
		addr("fd00::2/64", IFA_F_TENTATIVE),
		addr("fd00::3/64", IFA_F_DEPRECATED),
		addr("fd00::4/64", 0),
		addr("fd00::5/64", 0),
		addr("fe80::1/64", IFA_F_DADFAILED),
		addr("fe80::2/64", IFA_F_PERMANENT),
		addr("10.0.0.1/8", 0),
	};
	uint8_t ipv6[2][16] = {{0}};

	(void)state;
	expect(a, 8, ipv6, "fd00::4", "fe80::2");
	a[1].flags = 0; /* its duplicate address detection is over: what is in use stays */
	expect(a, 8, ipv6, "fd00::4", "fe80::2");
	a[3].flags = IFA_F_DEPRECATED;
	expect(a, 8, ipv6, "fd00::2", "fe80::2");
	expect(a, 6, ipv6, "fd00::2", "::");
	expect(a, 0, ipv6, "::", "::");
}

static void test_valid(void **state)
{
	struct toe_ctl_listen l = {.family = AF_INET6, .port = 80};
	struct toe_ctl_conn c = {.family = AF_INET6, .remote_port = 80, .remote_addr = {0xfd}};
	struct toe_ctl_kconn k = {.delta = 1};

	(void)state;
	assert_true(kp_listen_valid(&l));
	l.v6only = 1;
	assert_true(kp_listen_valid(&l));
	l.v6only = 2;
	assert_false(kp_listen_valid(&l));
	l.v6only = 1;
	l.family = AF_INET;
	assert_false(kp_listen_valid(&l));
	l.v6only = 0;
	assert_true(kp_listen_valid(&l));
	l.addr[4] = 1;
	assert_false(kp_listen_valid(&l));
	l.addr[4] = 0;
	l.family = AF_UNIX;
	assert_false(kp_listen_valid(&l));
	l.family = AF_INET;
	l.port = 0;
	assert_false(kp_listen_valid(&l));

	assert_true(kp_conn_valid(&c));
	c.remote_port = 0;
	assert_false(kp_conn_valid(&c));
	c.remote_port = 80;
	c.family = AF_INET;
	assert_true(kp_conn_valid(&c));
	c.remote_addr[15] = 1;
	assert_false(kp_conn_valid(&c));
	memcpy(c.remote_addr, (uint8_t[16]){[10] = 0xff, 0xff, 10, 0, 0, 1}, 16);
	c.family = AF_INET6;
	assert_false(kp_conn_valid(&c));

	assert_true(kp_kconn_valid(&k));
	k.flags = TOE_KCONN_RELOAD; /* SIGHUP, whatever else is told */
	assert_true(kp_kconn_valid(&k));
	k.flags <<= 1;
	assert_false(kp_kconn_valid(&k));
	k.flags = 0;
	k.what = TOE_KCONN_MQTT_LAST;
	k.len = sizeof(k.data);
	assert_true(kp_kconn_valid(&k));
	k.len++;
	assert_false(kp_kconn_valid(&k));
	k.len = 0;
	k.what++;
	assert_false(kp_kconn_valid(&k));
}

/* A kernel socket of user uid that listens on the address; its port in l. */
static int listener(uint32_t uid, const char *text, int v6only, struct toe_ctl_listen *l)
{
	struct sockaddr_in6 sa = {.sin6_family = AF_INET6};
	socklen_t len = sizeof(sa);
	int fd = socket(AF_INET6, SOCK_STREAM, 0);

	if (fd < 0)
		skip();     /* a kernel without IPv6 */
	if (geteuid() == 0) /* a socket's user is its inode's */
		assert_int_equal(fchown(fd, uid, (gid_t)-1), 0);
	inet_pton(AF_INET6, text, &sa.sin6_addr);
	assert_int_equal(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof(v6only)), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, len), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
	l->port = ntohs(sa.sin6_port);
	return fd;
}

/* Answers to: IPv4 any, IPv6 any of both families, IPv6 only, ::1. */
static void expect_may(uint32_t uid, const char *text, int v6only, const int want[4])
{
	struct kp_keeper kp = {.engine.port_ipv4 = htonl(INADDR_LOOPBACK)};
	struct toe_ctl_listen l[4] = {{.family = AF_INET},
				      {.family = AF_INET6},
				      {.family = AF_INET6, .v6only = 1},
				      {.family = AF_INET6, .addr = {[15] = 1}}};
	int fd = listener(uid, text, v6only, &l[0]);

	for (int i = 0; i < 4; i++) {
		l[i].port = l[0].port;
		assert_int_equal(kp_may_listen(&kp, uid, &l[i]), want[i]);
		assert_int_equal(kp_may_listen(&kp, uid + 1, &l[i]), -EXDEV);
	}
	close(fd);
}

static void test_may_listen(void **state)
{
	uint32_t uid = geteuid() ? geteuid() : 4711;

	(void)state;
	expect_may(uid, "::", 0, (int[]){0, 0, 0, 0});
	/* others may have IPv4 on that port, or the wildcard */
	expect_may(uid, "::", 1, (int[]){-EXDEV, -EXDEV, 0, 0});
	expect_may(uid, "::1", 0, (int[]){-EXDEV, -EXDEV, -EXDEV, 0});
	expect_may(uid, "::ffff:127.0.0.1", 0, (int[]){0, -EXDEV, -EXDEV, -EXDEV});
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pick),
		cmocka_unit_test(test_valid),
		cmocka_unit_test(test_may_listen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
