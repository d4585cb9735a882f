// SPDX-License-Identifier: BSD-3-Clause
/* Helpers of cases and how one is run (lt_case.h). */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "libtoe/lt.h"
#include "lt_case.h"
#include "lt_fake.h"

pid_t engine;

pid_t fork_child(void)
{
	pid_t pid = fork();

	if (pid == 0)
		alarm(15);
	return pid;
}

int listen_any(int *port)
{
	struct sockaddr_in sa = {.sin_family = AF_INET};
	socklen_t len = sizeof(sa);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	CHECK(bind(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0);
	CHECK(listen(fd, 64) == 0);
	CHECK(getsockname(fd, (struct sockaddr *)&sa, &len) == 0);
	*port = ntohs(sa.sin_port);
	return fd;
}

int try_connect(int port, int flags)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int fd = socket(AF_INET, SOCK_STREAM | flags, 0);
	int rc;

	inet_pton(AF_INET, FAKE_ADDR, &sa.sin_addr);
	rc = connect(fd, (struct sockaddr *)&sa, sizeof(sa));
	if (rc < 0 && errno != EINPROGRESS) {
		close(fd);
		return -errno;
	}
	return fd;
}

void make_pair(int *c, int *s)
{
	int port;
	int l = listen_any(&port);

	*c = try_connect(port, 0);
	CHECK(*c >= 0);
	*s = accept(l, NULL, NULL);
	CHECK(*s >= 0);
	close(l);
}

void read_exactly(int fd, void *buf, size_t len)
{
	for (size_t got = 0; got < len;) {
		ssize_t n = read(fd, (char *)buf + got, len - got);

		CHECK(n > 0);
		got += (size_t)n;
	}
}

void nap(int ms)
{
	poll(NULL, 0, ms);
}

void *bounce(void *arg)
{
	int fd = *(int *)arg;
	char b;

	while (read(fd, &b, 1) == 1)
		CHECK(write(fd, &b, 1) == 1);
	return NULL;
}

static void run_case(void **state)
{
	const struct lt_case *k = *state;
	char dir[] = "/tmp/lt_engine.XXXXXX";
	char path[128];
	int status = 0;
	pid_t pid;

	assert_non_null(mkdtemp(dir));
	engine = fake_start(dir);
	assert_true(engine > 0);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		alarm(15);
		lt_start();
		if (!lt_on)
			_exit(3);
		k->run();
		_exit(0);
	}
	waitpid(pid, &status, 0);
	if (fake_stats->bad || fake_stats->hint_full)
		print_message("bad %u, hint_full %u\n", fake_stats->bad, fake_stats->hint_full);
	assert_int_equal(fake_stats->bad, 0);
	assert_int_equal(fake_stats->hint_full, 0);
	fake_stop(engine);
	snprintf(path, sizeof(path), "%s/%s", dir, TOE_KEEPER_SOCKET);
	unlink(path);
	rmdir(dir);
	if (WIFSIGNALED(status))
		print_message("killed by signal %d\n", WTERMSIG(status));
	assert_int_equal(status, 0);
}

int case_main(const struct lt_case *cases, size_t n, int argc, char **argv)
{
	struct CMUnitTest tests[32] = {{0}};

	for (size_t i = 0; i < n; i++)
		tests[i] = (struct CMUnitTest){.name = cases[i].name,
					       .test_func = run_case,
					       .initial_state = (void *)&cases[i]};
	if (argc == 2)
		cmocka_set_test_filter(argv[1]);
	return _cmocka_run_group_tests("libtoe", tests, n, NULL, NULL);
}
