// SPDX-License-Identifier: BSD-3-Clause
/* LINK: tests/unit/lt_fake.h tests/unit/lt_case.c */
/* Descriptors, processes, and the death of the engine: libtoe with the fake engine (lt_case.h). */
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
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/filter.h>

#include <cmocka.h>

#include "libtoe/lt.h"
#include "lt_case.h"
#include "lt_fake.h"
#include "lt_kconn.h"

static const char *self;

static int fds_open(void)
{
	int n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* ---- descriptors ---- */

static void limit_fds(rlim_t n)
{
	struct rlimit lim;

	getrlimit(RLIMIT_NOFILE, &lim);
	lim.rlim_cur = n;
	CHECK(setrlimit(RLIMIT_NOFILE, &lim) == 0);
}

static void no_descriptors(void)
{
	int held[512];
	int n = 0;
	int port;
	int l = listen_any(&port);
	int c[30];
	int i = 0;

	limit_fds(200);
	for (; i < 12; i++) {
		c[i] = try_connect(port, 0);
		CHECK(c[i] >= 0);
	}
	while ((held[n] = dup(0)) >= 0)
		n++;
	fcntl(l, F_SETFL, O_NONBLOCK);
	CHECK(poll(&(struct pollfd){l, POLLIN, 0}, 1, 1000) == 1);
	for (i = 0; accept(l, NULL, NULL) >= 0; i++)
		;
	CHECK(errno == EMFILE && i < 12);
	CHECK(poll(&(struct pollfd){l, POLLIN, 0}, 1, 1000) == 1); /* they wait */
	while (n > 0)
		close(held[--n]);
	for (; i < 12; i++)
		CHECK(accept(l, NULL, NULL) >= 0);
}

/* What the application closes by number is not ours. */
static void hidden(void)
{
	char b[4];
	int port;
	int l = listen_any(&port);
	int c = try_connect(port, 0);
	int s = accept(l, NULL, NULL);
	int ep = epoll_create1(0);
	struct epoll_event ev = {.events = EPOLLIN};

	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, c, &ev) == 0);
	CHECK(epoll_wait(ep, &ev, 1, 10) == 0);
	for (int fd = 3; fd < 1024; fd++) {
		if (fd != c && fd != s && fd != ep && fd != l)
			close(fd);
	}
	for (int fd = 90; fd < 120; fd++)
		CHECK(dup2(0, fd) == fd);
	CHECK(write(s, "abc", 3) == 3);
	CHECK(epoll_wait(ep, &ev, 1, 1000) == 1);
	CHECK(read(c, b, 4) == 3);
	CHECK(close_range(3, ~0u, 0) == 0);
	CHECK(read(c, b, 1) == -1 && errno == EBADF);
	l = listen_any(&port);
	c = try_connect(port, 0);
	CHECK(c >= 0 && c < 20);
	s = accept(l, NULL, NULL);
	CHECK(write(s, "abc", 3) == 3);
	CHECK(read(c, b, 4) == 3);
	closefrom(3);
	make_pair(&c, &s);
}

static void nothing_leaks(void)
{
	int port;
	int l = listen_any(&port);
	int before;

	close(try_connect(port, 0));
	close(accept(l, NULL, NULL));
	before = fds_open();
	for (int i = 0; i < 500; i++) {
		int c = try_connect(port, 0);
		int s = accept(l, NULL, NULL);

		CHECK(c >= 0 && s >= 0);
		CHECK(write(c, "x", 1) == 1);
		CHECK(read(s, &(char){0}, 1) == 1);
		close(i & 1 ? c : s);
		close(i & 1 ? s : c);
	}
	CHECK(abs(fds_open() - before) <= 32); /* the pool */
	for (int i = 0; i < 2000 && fake_stats->slots_used; i++)
		nap(1);
	CHECK(fake_stats->slots_used == 0);
	CHECK(fake_stats->hint_full == 0);
}

static void unfinished_connect(void)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(FAKE_BLACKHOLE)};
	struct timeval tv = {0, 30000};
	int fd = try_connect(FAKE_BLACKHOLE, SOCK_NONBLOCK);
	struct pollfd p = {.fd = fd, .events = POLLIN | POLLOUT};
	char b;

	CHECK(fd >= 0 && poll(&p, 1, 20) == 0);
	CHECK(send(fd, "x", 1, 0) == -1 && errno == EAGAIN);
	CHECK(recv(fd, &b, 1, 0) == -1 && errno == EAGAIN);
	inet_pton(AF_INET, FAKE_ADDR, &sa.sin_addr);
	CHECK(connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == -1 && errno == EALREADY);
	close(fd);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)) == 0);
	CHECK(connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == -1 && errno == EINPROGRESS);
	close(fd);
	/* not the engine's business: the kernel knows no way there, or its own error */
	CHECK(try_connect(FAKE_KERNEL, SOCK_NONBLOCK) != -EXDEV);
	/* the engine's echo */
	fd = try_connect(FAKE_ECHO, 0);
	CHECK(write(fd, "e", 1) == 1 && read(fd, &b, 1) == 1 && b == 'e');
}

/* ---- processes ---- */

static void set_survives_fork(void)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.u32 = 5};
	int ep = epoll_create1(0);
	char b;
	int st;
	int c;
	int s;
	pid_t pid;

	make_pair(&c, &s);
	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, s, &ev) == 0);
	for (int round = 0; round < 3; round++) {
		pid = fork_child();
		if (pid == 0) {
			CHECK(epoll_wait(ep, &ev, 1, 5000) == 1 && ev.data.u32 == 5);
			CHECK(read(s, &b, 1) == 1 && write(s, "r", 1) == 1);
			_exit(0);
		}
		nap(20);
		CHECK(write(c, "q", 1) == 1);
		CHECK(read(c, &b, 1) == 1 && b == 'r');
		waitpid(pid, &st, 0);
		CHECK(st == 0);
	}
	CHECK(write(c, "q", 1) == 1);
	CHECK(epoll_wait(ep, &ev, 1, 1000) == 1 && ev.data.u32 == 5);
}

/* The parent of a daemon ends; the child serves. */
static void daemonised(void)
{
	int port;
	int l = listen_any(&port);
	int st;
	pid_t pid = fork_child();

	if (pid == 0) {
		int fd = accept(l, NULL, NULL);

		CHECK(fd >= 0);
		bounce(&fd);
		_exit(0);
	}
	for (int i = 0; i < 1000 && fake_stats->listen_users < 2; i++)
		nap(1);
	CHECK(close(l) == 0);
	l = try_connect(port, 0);
	CHECK(l >= 0);
	CHECK(write(l, "x", 1) == 1 && read(l, &(char){0}, 1) == 1);
	close(l);
	waitpid(pid, &st, 0);
	CHECK(st == 0);
}

/* A vfork child closes and execs: our table is the parent's. */
static void vforked(void)
{
	int st;
	int c;
	int s;
	pid_t pid;

	make_pair(&c, &s);
	pid = vfork(); // NOLINT(clang-analyzer-security.insecureAPI.vfork)
	if (pid == 0) {
		close(c); // NOLINT(clang-analyzer-unix.Vfork)
		close(s);
		execl("/bin/true", "true", NULL);
		_exit(9);
	}
	waitpid(pid, &st, 0);
	CHECK(st == 0);
	CHECK(write(c, "x", 1) == 1 && read(s, &(char){0}, 1) == 1);
}

/* The image after exec has the connection and the listener on the same numbers. */
static int after_exec(int s, int l)
{
	int c;

	alarm(10);
	lt_start();
	CHECK(read(s, &(char){0}, 1) == 1);
	CHECK(write(s, "exec", 4) == 4);
	c = accept(l, NULL, NULL);
	CHECK(c >= 0 && write(c, "l", 1) == 1);
	return 0;
}

static void exec_keeps(void)
{
	char a[3][12];
	char b[8];
	int port;
	int l = listen_any(&port);
	int c = try_connect(port, 0);
	int s = accept(l, NULL, NULL);
	int st;
	pid_t pid;

	snprintf(a[0], 12, "%d", s);
	snprintf(a[1], 12, "%d", l);
	pid = fork_child();
	if (pid == 0) {
		close(c);
		execl(self, self, "exec", a[0], a[1], NULL);
		_exit(9);
	}
	close(s);
	CHECK(write(c, "x", 1) == 1);
	CHECK(read(c, b, 8) == 4);
	s = try_connect(port, 0);
	CHECK(s >= 0 && read(s, b, 1) == 1);
	waitpid(pid, &st, 0);
	CHECK(st == 0);
	CHECK(read(c, b, 1) == 0); /* its descriptor was the last one */
}

/* A connection travels to another process of the application. */
static void passed(void)
{
	union {
		struct cmsghdr h;
		char room[CMSG_SPACE(sizeof(int))];
	} u;
	struct iovec iov = {&(char){0}, 1};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = u.room,
			   .msg_controllen = sizeof(u.room)};
	int sv[2];
	int st;
	int c;
	int s;
	pid_t pid;

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, sv) == 0);
	pid = fork_child();
	if (pid == 0) {
		CHECK(recvmsg(sv[1], &m, 0) == 1);
		CHECK(CMSG_FIRSTHDR(&m) != NULL);
		memcpy(&s, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(s));
		CHECK(read(s, &(char){0}, 1) == 1 && write(s, "passed", 6) == 6);
		_exit(0);
	}
	make_pair(&c, &s);
	CMSG_FIRSTHDR(&m)->cmsg_level = SOL_SOCKET;
	CMSG_FIRSTHDR(&m)->cmsg_type = SCM_RIGHTS;
	CMSG_FIRSTHDR(&m)->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), &s, sizeof(s));
	CHECK(sendmsg(sv[0], &m, 0) == 1);
	close(s);
	CHECK(write(c, "x", 1) == 1);
	read_exactly(c, (char[6]){0}, 6);
	waitpid(pid, &st, 0);
	CHECK(st == 0);
	CHECK(read(c, &(char){0}, 1) == 0);
}

/* ---- the engine dies ---- */

static void *read_until_death(void *arg)
{
	char b;
	ssize_t n = read(*(int *)arg, &b, 1);

	CHECK(n == -1 && errno == ECONNRESET);
	n = read(*(int *)arg, &b, 1);
	CHECK(n == -1 && errno == ECONNRESET);
	return NULL;
}

static void *epoll_until_death(void *arg)
{
	struct epoll_event ev = {.events = EPOLLIN};
	int ep = epoll_create1(0);

	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, *(int *)arg, &ev) == 0);
	CHECK(epoll_wait(ep, &ev, 1, 10000) == 1);
	CHECK((ev.events & (EPOLLERR | EPOLLHUP)) == (EPOLLERR | EPOLLHUP));
	return NULL;
}

static void *write_until_death(void *arg)
{
	static char big[1 << 20];
	ssize_t n = send(*(int *)arg, big, sizeof(big), MSG_NOSIGNAL);

	CHECK(n > 0 && n < (ssize_t)sizeof(big)); /* what had gone before */
	n = send(*(int *)arg, big, 1, MSG_NOSIGNAL);
	CHECK(n == -1 && (errno == ECONNRESET || errno == EPIPE));
	n = send(*(int *)arg, big, 1, MSG_NOSIGNAL);
	CHECK(n == -1 && errno == EPIPE);
	return NULL;
}

static void engine_dies(void)
{
	struct sockaddr_in sa = {.sin_family = AF_INET};
	socklen_t len = sizeof(sa);
	pthread_t t[3];
	int c[3];
	int s[3];
	int port;
	int l = listen_any(&port);
	int k;

	for (int i = 0; i < 3; i++)
		make_pair(&c[i], &s[i]);
	pthread_create(&t[0], NULL, read_until_death, &c[0]);
	pthread_create(&t[1], NULL, epoll_until_death, &c[1]);
	pthread_create(&t[2], NULL, write_until_death, &c[2]);
	nap(50);
	kill(engine, SIGKILL);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	CHECK(poll(&(struct pollfd){s[0], POLLIN, 0}, 1, 0) == 1);
	CHECK(shutdown(s[1], SHUT_WR) == -1);
	/* the kernel goes on through the same listener */
	sa.sin_port = htons((uint16_t)port);
	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	k = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(connect(k, (struct sockaddr *)&sa, sizeof(sa)) == 0);
	CHECK(accept(l, (struct sockaddr *)&sa, &len) >= 0);
	for (int i = 0; i < 3; i++)
		CHECK(close(c[i]) == 0 && close(s[i]) == 0);
	CHECK(close(l) == 0);
	l = listen_any(&port); /* in the kernel */
	CHECK(l >= 0);
}

/* ---- connections of the kernel's ---- */

static int filter_of(int fd)
{
	socklen_t n = 0;

	CHECK(getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, NULL, &n) == 0);
	return (int)n;
}

/* While the engine does not have the port yet nobody gets in through the kernel: such a connection
 * would stay there, silent for ever.  A filter of the program's is left alone. */
static void nobody_between(void)
{
	struct sock_filter all = BPF_STMT(BPF_RET | BPF_K, UINT32_MAX);
	const struct sock_fprog prog = {.len = 1, .filter = &all};
	struct sockaddr_in sa = {.sin_family = AF_INET};
	int fd, c, s;

	fake_stats->probe = true;
	fd = loopback_listener(&sa, false);
	CHECK(fake_stats->probed == 2 && fake_stats->probe_in == 0 && filter_of(fd) == 0);
	fake_stats->probe = false;
	c = to_kernel(&sa);
	s = accept(fd, NULL, NULL);
	CHECK(s >= 0 && filter_of(s) == 0);
	CHECK(close(c) == 0 && close(s) == 0 && close(fd) == 0);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)) == 0);
	sa = (struct sockaddr_in){.sin_family = AF_INET};
	CHECK(bind(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0 && listen(fd, 5) == 0);
	CHECK(filter_of(fd) == 1 && close(fd) == 0);
}

/* The count is right when the call returns: nothing is waited for here. */
static void kernel_conns(void)
{
	struct sockaddr_in sa, any;
	int l = loopback_listener(&sa, true);
	int c = to_kernel(&sa);
	int s = accept(l, NULL, NULL);
	int wide, d;

	/* nobody asks before there is an offloaded listener, then for all there are */
	CHECK(s >= 0 && fake_stats->kernel_conn_calls == 0);
	wide = loopback_listener(&any, false);
	CHECK(fake_stats->listeners == 1 && told() == 2);
	d = dup(s);
	CHECK(told() == 3);
	CHECK(close(s) == 0 && told() == 2);
	CHECK(dup2(wide, d) == d && told() == 1);
	CHECK(close(d) == 0 && close(c) == 0 && told() == 0);
	/* through the offloaded listener */
	c = to_kernel(&any);
	CHECK(told() == 1);
	s = accept4(wide, NULL, NULL, SOCK_CLOEXEC);
	CHECK(s >= 0 && told() == 2);
	CHECK(close_range((unsigned)s, (unsigned)s, 0) == 0 && told() == 1);
	CHECK(close(c) == 0 && told() == 0);
	close(l);
	close(wide);
}

static void kernel_conns_others(void)
{
	struct sockaddr_un su = {.sun_family = AF_UNIX, .sun_path = "unix-listener"};
	struct sockaddr_in sa;
	int wide = loopback_listener(&sa, false);
	int u = socket(AF_UNIX, SOCK_STREAM, 0);
	int c = socket(AF_UNIX, SOCK_STREAM, 0);
	int s, d;

	unlink(su.sun_path);
	CHECK(bind(u, (struct sockaddr *)&su, sizeof(su)) == 0 && listen(u, 5) == 0);
	CHECK(connect(c, (struct sockaddr *)&su, sizeof(su)) == 0 && told() == 0);
	s = accept(u, NULL, NULL);
	CHECK(s >= 0 && told() == 1);
	CHECK(close(s) == 0 && told() == 0);
	unlink(su.sun_path);
	close(c);
	close(u);
	/* dups of a socket get their connection together; one that fails was none */
	c = socket(AF_INET, SOCK_STREAM, 0);
	d = dup(c);
	CHECK(connect(c, (struct sockaddr *)&sa, sizeof(sa)) == 0 && told() == 2);
	CHECK(close(c) == 0 && close(d) == 0 && told() == 0);
	close(wide);
	wide = loopback_listener(&sa, false);
	sa.sin_port = htons(1);
	c = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(connect(c, (struct sockaddr *)&sa, sizeof(sa)) == -1 && errno == ECONNREFUSED);
	CHECK(told() == 0 && fake_stats->bad == 0);
	close(c);
	close(wide);
}

/* A child has copies: they count once it takes part, and go with it. */
static void kernel_conns_forked(void)
{
	struct sockaddr_in sa;
	int wide = loopback_listener(&sa, false);
	int c = to_kernel(&sa);
	int status, there[2], p[2];
	pid_t child;
	char go;

	CHECK(pipe(there) == 0 && pipe(p) == 0 && told() == 1);
	child = fork_child();
	if (child == 0) {
		CHECK(accept(wide, NULL, NULL) >= 0); /* attaches */
		CHECK(told() == 3 && write(there[1], "x", 1) == 1);
		CHECK(read(p[0], &go, 1) == 1);
		CHECK(told() == 2);
		kill(getpid(), SIGKILL);
	}
	close(there[1]); /* a child that has failed is the end, too */
	CHECK(read(there[0], &go, 1) == 1);
	CHECK(close(c) == 0 && told() == 2);
	CHECK(write(p[1], "x", 1) == 1);
	CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
	for (int i = 0; i < 5000 && told() != 0; i++)
		nap(1);
	CHECK(told() == 0 && fake_stats->bad == 0);
	close(wide);
}

int main(int argc, char **argv)
{
	static const struct lt_case cases[] = {
		CASE(no_descriptors),
		CASE(hidden),
		CASE(nothing_leaks),
		CASE(unfinished_connect),
		CASE(set_survives_fork),
		CASE(daemonised),
		CASE(vforked),
		CASE(exec_keeps),
		CASE(passed),
		CASE(nobody_between),
		CASE(kernel_conns),
		CASE(kernel_conns_others),
		CASE(kernel_conns_forked),
		CASE(engine_dies),
	};

	self = "/proc/self/exe";
	if (argc == 4 && strcmp(argv[1], "exec") == 0)
		return after_exec(atoi(argv[2]), atoi(argv[3]));
	return case_main(cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
