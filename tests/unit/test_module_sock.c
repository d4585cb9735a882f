// SPDX-License-Identifier: BSD-3-Clause
/* LINK: datapath/module_sock.c common/config.c common/log.c */
/* modules.sock: questions and answers, and clients that do not let go of it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "module_sock.h"
#include "stream.h"
#include "toe/ctl.h"

static char dir[] = "/tmp/toe-test-msock-XXXXXX";
static struct toe_config cfg;
static struct toe_engine engine = {.cfg = &cfg};

/* Of "list": never the last piece. */
int toe_stream_control(struct toe_engine *e, const char *module, struct toe_stream_ask *ask,
		       unsigned timeout_ms)
{
	(void)e;
	(void)timeout_ms;
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(questions),
		cmocka_unit_test(held_by_a_client),
	};
	int rc;

	if (mkdtemp(dir) == NULL)
		return 1;
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	rmdir(dir);
	return rc;
}
