// SPDX-License-Identifier: BSD-3-Clause
/* LINK: datapath/module_sock.c common/config.c common/log.c */
/* modules.sock: questions and answers, and clients that do not let go of it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "module_sock.h"
#include "stream.h"
#include "toe/ctl.h"

static char dir[] = "/tmp/toe-test-msock-XXXXXX";
static struct toe_config cfg;
static struct toe_engine engine = {.cfg = &cfg};

static _Atomic bool too_soon; /* the stage is left no time for anything else */
static _Atomic int busy;

static int64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* Of "list": never the last piece. */
int toe_stream_control(struct toe_engine *e, const char *module, struct toe_stream_ask *ask,
		       unsigned timeout_ms)
{
	static int64_t last;
	int64_t now = now_us();

	(void)e;
	(void)timeout_ms;
	if (now - last < 1000)
		too_soon = true;
	if (strcmp(ask->what, "busy") == 0 && busy-- > 0)
		return -EBUSY;
	last = now;
	if (strcmp(module, "mqtt") != 0)
		return -ENOENT;
	ask->at++;
	if (strcmp(ask->what, "list") == 0) {
		memset(ask->out, 'x', ask->room);
		ask->len = ask->room;
		return 0;
	}
	ask->at = 0;
	ask->len = (size_t)snprintf(ask->out, ask->room, "%s/%s", ask->what, ask->arg);
	return 0;
}

static void start(void)
{
	snprintf(cfg.run_dir, sizeof(cfg.run_dir), "%s", dir);
	assert_int_equal(toe_module_sock_start(&engine), 0);
}

static int ask(const char *line)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/%s", dir, TOE_MODULE_SOCKET);
	assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(write(fd, line, strlen(line)), (ssize_t)strlen(line));
	return fd;
}

static void expect(const char *line, const char *answer)
{
	char got[512];
	size_t n = 0;
	ssize_t more;
	int fd = ask(line);

	while ((more = read(fd, got + n, sizeof(got) - 1 - n)) > 0)
		n += (size_t)more;
	got[n] = 0;
	assert_string_equal(got, answer);
	close(fd);
}

static void questions(void **state)
{
	(void)state;
	start();
	expect("mqtt status\n", "status/\n");
	expect("mqtt filter_add a b\n", "filter_add/a b\n");
	expect("mqtt\n", "");
	expect("\n", "");
	expect("x y\n", "{\"error\":\"No such file or directory\",\"errno\":2}\n");
	toe_module_sock_stop(&engine);
}

/* The engine ends at once, whoever has half a question or does not read his answer. */
static void held_by_a_client(void **state)
{
	char byte;
	int fd;

	(void)state;
	alarm(1); /* ends the test */
	start();
	fd = ask("mqtt sta");
	toe_module_sock_stop(&engine);
	close(fd);
	start();
	fd = ask("mqtt list\n");
	assert_int_equal(read(fd, &byte, 1), 1); /* it is being answered */
	toe_module_sock_stop(&engine);
	close(fd);
	alarm(0);
}

/* The engine's own news come first; that is nothing an operator need hear of. */
static void asked_again(void **state)
{
	(void)state;
	start();
	busy = 3;
	expect("mqtt busy\n", "busy/\n");
	toe_module_sock_stop(&engine);
}

/* Nobody waits for others, whatever these do. */
static void others_are_served(void **state)
{
	static const char *const text[] = {"", "mqtt list\n", "mqtt sta", "mqtt list\n"};
	int fd[100];
	char byte;

	(void)state;
	alarm(10); /* ends the test; one after the other they would take two seconds each */
	start();
	for (unsigned i = 0; i < 100; i++) {
		fd[i] = ask(text[i % 4]);
		if (i % 4 == 3)
			assert_int_equal(read(fd[i], &byte, 1), 1); /* of a list, then no more */
	}
	for (unsigned i = 0; i < 5; i++)
		expect("mqtt status\n", "status/\n");
	toe_module_sock_stop(&engine);
	for (unsigned i = 0; i < 100; i++)
		close(fd[i]);
	alarm(0);
}

/* Of whatever text, without an end or with NUL in it. */
static void long_lines(void **state)
{
	static char line[4096];
	char byte;
	int fd;

	(void)state;
	start();
	memset(line, 'x', sizeof(line) - 1);
	fd = ask(line);
	assert_true(read(fd, &byte, 1) <= 0);
	close(fd);
	fd = ask("");
	assert_int_equal(write(fd, "mqtt sta\0tus\n", 13), 13);
	shutdown(fd, SHUT_WR);
	assert_true(read(fd, &byte, 1) <= 0);
	close(fd);
	expect("mqtt status\n", "status/\n");
	toe_module_sock_stop(&engine);
}

static void mode(void **state)
{
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	struct stat st;

	(void)state;
	start();
	snprintf(path, sizeof(path), "%s/%s", dir, TOE_MODULE_SOCKET);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0660);
	toe_module_sock_stop(&engine);
	assert_int_equal(stat(path, &st), -1);
}

static void stage_has_its_time(void **state)
{
	(void)state;
	assert_false(too_soon);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(questions),          cmocka_unit_test(held_by_a_client),
		cmocka_unit_test(others_are_served),  cmocka_unit_test(asked_again),
		cmocka_unit_test(long_lines),         cmocka_unit_test(mode),
		cmocka_unit_test(stage_has_its_time), /* of all before */
	};
	int rc;

	if (mkdtemp(dir) == NULL)
		return 1;
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	rmdir(dir);
	return rc;
}
