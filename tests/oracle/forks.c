// SPDX-License-Identifier: BSD-3-Clause
/*
 * fork: a shared connection and a shared listener; the child's close is no FIN, the child serves,
 * the parent's close is none either while the child lives; exec keeps what is not close-on-exec.
 */
#include "tests/oracle/oracle.h"

static char buf[64];

static void child_closes(int l)
{
	int c = ora_accept(l, 'A');
	pid_t pid;

	SAY("-- the child closes\n");
	pid = ora_fork();
	if (pid == 0) {
		T(close(c));
		T(close(l));
		_exit(3);
	}
	ora_join(pid);
	T(write(c, "alive", 5));
	PEER("recv A 5");
	PEER("send A 4");
	T(read(c, buf, 10));
	T(close(c));
	PEER("end A");
}

static void child_serves(int l)
{
	int c = ora_accept(l, 'A');
	pid_t pid;

	SAY("-- the child serves, the parent has closed\n");
	pid = ora_fork();
	if (pid == 0) {
		ssize_t n;

		close(l);
		T(write(c, "child", 5));
		while ((n = read(c, buf, sizeof(buf))) > 0)
			SAY("child read %zd, wrote %zd\n", n, write(c, buf, (size_t)n));
		ora_show("child read", n, errno);
		_exit(0);
	}
	T(close(c));
	PEER("recv A 5");
	PEER("send A 6");
	PEER("recv A 6");
	PEER("fin A");
	ora_join(pid);
	PEER("end A");
}

static void both_read(int l)
{
	int c = ora_accept(l, 'A');
	pid_t pid;

	SAY("-- both use one connection\n");
	PEER("send A 6");
	WAIT(c, POLLIN);
	T(read(c, buf, 2));
	pid = ora_fork();
	if (pid == 0) {
		T(read(c, buf, 2));
		SAY("%.2s\n", buf);
		T(fcntl(c, F_SETFL, O_NONBLOCK));
		T(write(c, "ab", 2));
		_exit(0);
	}
	ora_join(pid);
	T(read(c, buf, 10));
	SAY("%.2s\n", buf);
	T(read(c, buf, 10));
	T(write(c, "cd", 2));
	PEER("recv A 4");
	T(close(c));
	PEER("end A");
}

static void child_accepts(int l)
{
	int ready[2];
	pid_t pid;
	char x;

	SAY("-- the child accepts\n");
	MUST(pipe(ready));
	pid = ora_fork();
	if (pid == 0) {
		int c = TFD(accept(l, NULL, NULL));

		MUST(write(ready[1], "r", 1));
		T(read(c, buf, 5));
		T(write(c, "fine", 4));
		T(close(c));
		_exit(0);
	}
	SAY("connect %s\n", peer_quiet("connect A %s %u", ora.my, ora.port));
	MUST(read(ready[0], &x, 1));
	PEER("send A 5");
	PEER("recv A 4");
	PEER("end A");
	ora_join(pid);
	SAY("-- the parent accepts after that\n");
	close(ora_accept(l, 'B'));
	PEER("end B");
	close(ready[0]);
	close(ready[1]);
}

/* A worker killed while it has the only descriptor: the kernel closes for it. */
static void killed(int l)
{
	int c = ora_accept(l, 'A'), go[2];
	pid_t pid;
	char x;

	SAY("-- SIGKILL\n");
	MUST(pipe(go));
	pid = ora_fork();
	if (pid == 0) {
		T(write(c, "mine", 4));
		MUST(write(go[1], "r", 1));
		for (;;)
			pause();
	}
	T(close(c));
	MUST(read(go[0], &x, 1));
	PEER("recv A 4");
	MUST(kill(pid, SIGKILL));
	PEER("end A");
	ora_join(pid);
	close(go[0]);
	close(go[1]);
}

static void grandchild(int l)
{
	pid_t pid;

	SAY("-- a grandchild serves\n");
	pid = ora_fork();
	if (pid == 0) {
		int c = ora_accept(l, 'A'); /* in the child */
		pid_t sub = ora_fork();

		if (sub == 0) {
			T(write(c, "sub", 3));
			_exit(0);
		}
		ora_join(sub);
		PEER("recv A 3");
		_exit(0);
	}
	ora_join(pid);
	PEER("end A");
}

/* What execs() starts: the descriptor's number is the last argument. */
static int after_exec(int c)
{
	T(write(c, "shell\n", 6));
	T(read(c, buf, 5));
	T(close(c));
	return 7;
}

static void exec_self(int c)
{
	char number[16];

	snprintf(number, sizeof(number), "%d", c);
	execl("/proc/self/exe", "forks", "after-exec", number, NULL);
	_exit(99);
}

static void execs(int l)
{
	int c = ora_accept(l, 'A');
	pid_t pid;

	SAY("-- exec\n");
	pid = ora_fork();
	if (pid == 0)
		exec_self(c);
	PEER("recv A 6");
	PEER("text A line\n");
	ora_join(pid);
	T(fcntl(c, F_SETFD, FD_CLOEXEC));
	pid = ora_fork();
	if (pid == 0)
		exec_self(c);
	ora_join(pid);
	T(close(c));
	PEER("end A");
}

int main(int argc, char **argv)
{
	int l;

	if (argc == 3 && strcmp(argv[1], "after-exec") == 0)
		return after_exec(atoi(argv[2]));
	ora_start(argc, argv);
	l = ora_listen();
	child_closes(l);
	child_serves(l);
	both_read(l);
	child_accepts(l);
	killed(l);
	execs(l);
	grandchild(l);
	return 0;
}
