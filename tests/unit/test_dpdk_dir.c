// SPDX-License-Identifier: BSD-3-Clause
/* LINK: common/dpdk_dir.c common/flow_hash.c */
/* DPDK's runtime directory: only its files go, only of an engine that has ended, only our own. */
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
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/dpdk_dir.h"

#define RUN_DIR "/run/toe-of-this-test"

static char top[] = "/tmp/toe-test-dpdk-XXXXXX";
static char dir[128];

static char *path(const char *name)
{
	static char buf[256];

	snprintf(buf, sizeof(buf), "%s/%s", dir, name);
	return buf;
}

static void make_file(const char *name)
{
	int fd = open(path(name), O_CREAT | O_WRONLY, 0600);

	assert_true(fd >= 0);
	close(fd);
}

static int make_dir(void **state)
{
	char prefix[32];

	(void)state;
	toe_dpdk_prefix(RUN_DIR, prefix, sizeof(prefix));
	snprintf(dir, sizeof(dir), "%s/dpdk", top);
	mkdir(dir, 0700);
	snprintf(dir, sizeof(dir), "%s/dpdk/%s", top, prefix);
	return mkdir(dir, 0700);
}

static void test_files(void **state)
{
	(void)state;
	make_file("config");
	make_file("fbarray_memzone");
	make_file("mp_socket_1_2");
	make_file("dpdk_telemetry.v2");
	assert_int_equal(toe_dpdk_dir_remove("/run/another"), 0);
	assert_int_equal(access(path("config"), F_OK), 0);
	assert_int_equal(toe_dpdk_dir_remove(RUN_DIR), 0);
	assert_int_equal(access(dir, F_OK), -1);
	assert_int_equal(toe_dpdk_dir_remove(RUN_DIR), 0); /* nothing there */
}

static void test_others(void **state)
{
	(void)state;
	make_file("config");
	make_file("fbarray"); /* no name of DPDK's */
	assert_int_equal(toe_dpdk_dir_remove(RUN_DIR), -ENOTEMPTY);
	assert_int_equal(access(path("fbarray"), F_OK), 0);
	assert_int_equal(access(path("config"), F_OK), -1);
	assert_int_equal(unlink(path("fbarray")), 0);
	assert_int_equal(toe_dpdk_dir_remove(RUN_DIR), 0);
}

/* Another process, as its own locks are none to a process. */
static void test_in_use(void **state)
{
	int ready[2];
	char byte;
	pid_t pid;

	(void)state;
	make_file("config");
	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 10};
		int fd = open(path("config"), O_RDWR);

		byte = fcntl(fd, F_SETLK, &lock) == 0;
		(void)!write(ready[1], &byte, 1);
		pause();
		_exit(0);
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	assert_int_equal(byte, 1);
	assert_int_equal(toe_dpdk_dir_remove(RUN_DIR), -EBUSY);
	assert_int_equal(access(path("config"), F_OK), 0);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	assert_int_equal(toe_dpdk_dir_remove(RUN_DIR), 0);
}

static void test_links(void **state)
{
	char target[128];
	char file[160];

	(void)state;
	snprintf(target, sizeof(target), "%s/elsewhere", top);
	snprintf(file, sizeof(file), "%s/config", target);
	assert_int_equal(mkdir(target, 0700), 0);
	close(open(file, O_CREAT | O_WRONLY, 0600));
	assert_int_equal(symlink(file, path("fbarray_link")), 0);
	assert_int_equal(toe_dpdk_dir_remove(RUN_DIR), 0);
	assert_int_equal(access(file, F_OK), 0);
	assert_int_equal(symlink(target, dir), 0);
	assert_true(toe_dpdk_dir_remove(RUN_DIR) < 0);
	assert_int_equal(access(file, F_OK), 0);
	unlink(dir);
	unlink(file);
	rmdir(target);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_files, make_dir),
		cmocka_unit_test_setup(test_others, make_dir),
		cmocka_unit_test_setup(test_in_use, make_dir),
		cmocka_unit_test_setup(test_links, make_dir),
	};
	int rc;

	if (!mkdtemp(top))
		return 1;
	setenv("RUNTIME_DIRECTORY", top, 1);
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	snprintf(dir, sizeof(dir), "%s/dpdk", top);
	rmdir(dir);
	rmdir(top);
	return rc;
}
