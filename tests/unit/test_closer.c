// SPDX-License-Identifier: BSD-3-Clause
/* LINK: common/closer.c */
/* Closing for others: at once when it does not wait, elsewhere when it does, and never here. */
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

static void settle(unsigned left)
{
	while (toe_close_waiting() > left)
		sched_yield();
}

static void test_plain(void **state)
{
	int p[2];
	char b;

	(void)state;
	for (int i = 0; i < 100; i++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, p), 0);
		toe_close_later(p[1]);
		settle(0);
		assert_int_equal(recv(p[0], &b, 1, MSG_DONTWAIT), 0);
		close(p[0]);
	}
	toe_close_later(-1);
	assert_int_equal(toe_close_waiting(), 0);
}

static int lingering(const struct sockaddr_in *sa)
{
	static char junk[65536];
	const struct linger hour = {1, 3600};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(connect(fd, (const struct sockaddr *)sa, sizeof(*sa)), 0);
	while (send(fd, junk, sizeof(junk), MSG_DONTWAIT) > 0)
		;
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &hour, sizeof(hour)), 0);
	return fd;
}

/* More than one thread: what waits an hour holds up nobody behind it. */
static void test_lingering(void **state)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	const struct linger now = {1, 0};
	socklen_t len = sizeof(sa);
	int deaf = socket(AF_INET, SOCK_STREAM, 0);
	int ends[3];
	int small = 4096;

	(void)state;
	setsockopt(deaf, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	assert_int_equal(bind(deaf, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(deaf, 8), 0);
	assert_int_equal(getsockname(deaf, (struct sockaddr *)&sa, &len), 0);
	for (int i = 0; i < 3; i++) {
		toe_close_later(lingering(&sa));
		ends[i] = accept(deaf, NULL, NULL);
		assert_true(ends[i] >= 0);
	}
	for (int i = 0; i < 100; i++)
		toe_close_later(dup(deaf));
	settle(3);
	assert_int_equal(toe_close_waiting(), 3);
	for (int i = 0; i < 3; i++) { /* RST: nothing to wait for any more */
		setsockopt(ends[i], SOL_SOCKET, SO_LINGER, &now, sizeof(now));
		close(ends[i]);
	}
	settle(0);
	close(deaf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_lingering),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
