// SPDX-License-Identifier: BSD-3-Clause
/* Helpers of scenarios, and the two runs of each (lt_oracle.h). */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
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
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "libtoe/lt.h"
#include "lt_fake.h"
#include "lt_oracle.h"

const char *addr;
const char *addr6;
FILE *out;
static char run_dir[] = "/tmp/lt_oracle.XXXXXX";
static pid_t engine;

void say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(out, fmt, ap);
	va_end(ap);
	fputc('\n', out);
}

long result(const char *what, long rc)
{
	if (rc < 0)
		say("%s: %ld %s", what, rc, strerrorname_np(errno));
	else
		say("%s: %ld", what, rc);
	return rc;
}
struct sockaddr_in at(const char *ip, int port)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};

	inet_pton(AF_INET, ip, &sa.sin_addr);
	return sa;
}

pid_t fork_child(void)
{
	pid_t pid = fork();

	if (pid == 0)
		alarm(15);
	return pid;
}

int listen_any(int *port)
{
	struct sockaddr_in sa = at("0.0.0.0", 0);
	socklen_t len = sizeof(sa);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, 16) < 0)
		abort();
	getsockname(fd, (struct sockaddr *)&sa, &len);
	*port = ntohs(sa.sin_port);
	return fd;
}

int connect_to(int port, int flags)
{
	struct sockaddr_in sa = at(addr, port);
	int fd = socket(AF_INET, SOCK_STREAM | flags, 0);

	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 && errno != EINPROGRESS)
		say("connect: %s", strerrorname_np(errno));
	return fd;
}

void make_pair(int *c, int *s)
{
	int port;
	int l = listen_any(&port);

	*c = connect_to(port, 0);
	*s = accept(l, NULL, NULL);
	close(l);
}

void await(int fd, short want)
{
	struct pollfd p = {.fd = fd, .events = POLLIN | POLLOUT | POLLRDHUP};

	for (int i = 0; i < 5000; i++) {
		if (poll(&p, 1, 0) > 0 && (p.revents & want) == want)
			return;
		poll(NULL, 0, 1);
	}
	say("never 0x%x, only 0x%x", want, p.revents);
}

void show_poll(const char *what, int fd)
{
	struct pollfd p = {.fd = fd,
			   .events = POLLIN | POLLOUT | POLLRDHUP | POLLPRI | POLLRDNORM |
				     POLLWRNORM};
	int n = poll(&p, 1, 0);

	say("%s: poll %d 0x%x", what, n, p.revents);
}

int so_error(int fd)
{
	int v = -1;
	socklen_t len = sizeof(v);

	getsockopt(fd, SOL_SOCKET, SO_ERROR, &v, &len);
	return v;
}

void fill(uint8_t *buf, size_t n, uint32_t seed)
{
	for (size_t i = 0; i < n; i++)
		buf[i] = (uint8_t)((seed + i) * 2654435761u >> 13);
}

ssize_t read_all(int fd, uint8_t *buf, size_t len)
{
	size_t got = 0;

	while (got < len) {
		ssize_t n = read(fd, buf + got, len - got);

		if (n <= 0)
			return n < 0 ? n : (ssize_t)got;
		got += (size_t)n;
	}
	return (ssize_t)got;
}

volatile sig_atomic_t sigs;
static void on_sig(int sig)
{
	(void)sig;
	sigs++;
}

void catch_signal(int sig, int flags)
{
	struct sigaction sa = {.sa_handler = on_sig, .sa_flags = flags};

	sigaction(sig, &sa, NULL);
}

/* ---- the two runs ---- */

static void run_child(void (*scenario)(void), bool offloaded, int fd)
{
	alarm(20);
	out = fdopen(fd, "w");
	setvbuf(out, NULL, _IOFBF, 65536);
	addr = "127.0.0.1";
	addr6 = "::1";
	if (offloaded) {
		addr = FAKE_ADDR;
		addr6 = FAKE_ADDR6;
		lt_start();
	}
	scenario();
	fflush(out);
	_exit(0);
}

static char *transcript(void (*scenario)(void), bool offloaded)
{
	char *text = calloc(1, 65536);
	size_t n = 0;
	int status = 0;
	int p[2];
	pid_t pid;

	assert_int_equal(pipe(p), 0);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		close(p[0]);
		run_child(scenario, offloaded, p[1]);
	}
	close(p[1]);
	for (;;) {
		ssize_t got = read(p[0], text + n, 65535 - n);

		if (got <= 0)
			break;
		n += (size_t)got;
	}
	close(p[0]);
	waitpid(pid, &status, 0);
	if (WIFSIGNALED(status))
		snprintf(text + n, 65536 - n, "killed by signal %d\n", WTERMSIG(status));
	return text;
}

static void show_difference(const char *a, const char *b)
{
	while (*a || *b) {
		size_t la = strcspn(a, "\n");
		size_t lb = strcspn(b, "\n");

		if (la != lb || memcmp(a, b, la) != 0)
			print_message("  kernel: %.*s\n  libtoe: %.*s\n", (int)la, a, (int)lb, b);
		a += la + (a[la] == '\n');
		b += lb + (b[lb] == '\n');
	}
}

static void compare(void **state)
{
	const struct oracle_case *k = *state;
	void (*scenario)(void) = k->scenario;
	char *kernel = transcript(scenario, false);
	uint32_t before = fake_stats->connects;
	char *libtoe = transcript(scenario, true);

	if (getenv("LT_SHOW"))
		print_message("%s", kernel);
	if (strcmp(kernel, libtoe) != 0)
		show_difference(kernel, libtoe);
	assert_true(fake_stats->connects > before);
	assert_non_null(strchr(kernel, '\n'));
	assert_true(strcmp(kernel, libtoe) == 0);
	free(kernel);
	free(libtoe);
}

/* Nothing is left behind in the engine. */
static int nothing_left(void **state)
{
	(void)state;
	for (int i = 0; i < 3000; i++) {
		if (!fake_stats->slots_used && !fake_stats->procs && !fake_stats->listeners &&
		    !fake_stats->tokens_live)
			break;
		poll(NULL, 0, 1);
	}
	if (fake_stats->slots_used || fake_stats->tokens_live || fake_stats->bad ||
	    fake_stats->hint_full) {
		print_message("left: %u slots, %u tokens; bad %u, hint_full %u\n",
			      fake_stats->slots_used, fake_stats->tokens_live, fake_stats->bad,
			      fake_stats->hint_full);
		return -1;
	}
	return 0;
}

static int start(void **state)
{
	(void)state;
	engine = mkdtemp(run_dir) ? fake_start(run_dir) : -1;
	return engine > 0 ? 0 : -1;
}

static int stop(void **state)
{
	char path[128];

	(void)state;
	fake_stop(engine);
	snprintf(path, sizeof(path), "%s/%s", run_dir, TOE_KEEPER_SOCKET);
	unlink(path);
	return rmdir(run_dir);
}

int oracle_main(const struct oracle_case *cases, size_t n, int argc, char **argv)
{
	struct CMUnitTest tests[32] = {{0}};

	for (size_t i = 0; i < n; i++)
		tests[i] = (struct CMUnitTest){.name = cases[i].name,
					       .test_func = compare,
					       .teardown_func = nothing_left,
					       .initial_state = (void *)&cases[i]};
	if (argc == 2)
		cmocka_set_test_filter(argv[1]);
	return _cmocka_run_group_tests("oracle", tests, n, start, stop);
}
