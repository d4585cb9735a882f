// SPDX-License-Identifier: BSD-3-Clause
/* LINK: controlplane/keeper/lock.c */
/* Locks of run directory and port beside programs that only look, and beside an owner. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "controlplane/keeper/setup.h"

#define LOOKER_US  100000
#define PATIENT_MS 60000 /* longer than any machine needs to run the looker */

static char path[64];

static int setup(void **state)
{
	(void)state;
	snprintf(path, sizeof(path), "/tmp/toe-test-lock-XXXXXX");
	return close(mkstemp(path));
}

static int teardown(void **state)
{
	(void)state;
	return unlink(path);
}

/* A process that has the lock, for us microseconds, 0: until it is killed. */
static pid_t holder(int how, unsigned us)
{
	int ready[2];
	char c;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		int fd = open(path, O_RDONLY | O_CLOEXEC);

		if (flock(fd, how | LOCK_NB) < 0 || write(ready[1], "x", 1) != 1)
			_exit(1);
		if (us == 0)
			pause();
		usleep(us);
		_exit(0);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
	return pid;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void who_only_looks_is_waited_for(void **state)
{
	pid_t pid = holder(LOCK_SH, LOOKER_US);
	int fd = kp_lock_file(path, 0600, PATIENT_MS);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(kp_lock_file(path, 0600, PATIENT_MS), -EBUSY); /* it is exclusive */
	assert_int_equal(kp_lock_holder(path), getpid());
	close(fd);
	end(pid);
}

static void an_owner_is_not(void **state)
{
	pid_t pid = holder(LOCK_EX, 0);

	(void)state;
	assert_int_equal(kp_lock_file(path, 0600, PATIENT_MS), -EBUSY);
	assert_int_equal(kp_lock_holder(path), pid);
	end(pid);
	assert_int_equal(kp_lock_holder(path), 0);
}

static void patience_ends(void **state)
{
	pid_t pid = holder(LOCK_SH, 0);

	(void)state;
	assert_int_equal(kp_lock_file(path, 0600, 30), -EAGAIN);
	assert_int_equal(kp_lock_holder(path), pid);
	end(pid);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(who_only_looks_is_waited_for),
		T(an_owner_is_not),
		T(patience_ends),
	};

	return cmocka_run_group_tests_name("keeper_lock", tests, NULL, NULL);
}
