// SPDX-License-Identifier: BSD-3-Clause
/*
 * EPIPE, SIGPIPE and MSG_NOSIGNAL: after our own shutdown, and after the peer has gone for good.
 */
#include <sys/sendfile.h>

#include "tests/oracle/oracle.h"

static volatile sig_atomic_t pipes;
static char buf[16];

static void on_pipe(int sig)
{
	(void)sig;
	pipes++;
}

static void show(const char *what)
{
	SAY("%s: SIGPIPE %d\n", what, (int)pipes);
	pipes = 0;
}

static void own(int l)
{
	int c = ora_accept(l, 'A');
	struct iovec iov = {buf, 4};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

	SAY("-- own shutdown\n");
	T(shutdown(c, SHUT_WR));
	T(write(c, buf, 1));
	show("write");
	T(send(c, buf, 1, MSG_NOSIGNAL));
	show("MSG_NOSIGNAL");
	T(send(c, buf, 1, MSG_DONTWAIT));
	show("MSG_DONTWAIT");
	T(writev(c, &iov, 1));
	show("writev");
	T(sendmsg(c, &m, 0));
	show("sendmsg");
	T(sendmsg(c, &m, MSG_NOSIGNAL));
	show("sendmsg MSG_NOSIGNAL");
	T(write(c, buf, 0));
	show("write 0");
	T(close(c));
}

static void peer_gone(int l)
{
	int c = ora_accept(l, 'A');

	SAY("-- the peer closed\n");
	PEER("close A");
	WAIT(c, POLLRDHUP);
	T(write(c, "first", 5));
	show("first write");
	WAIT(c, 0);
	NOW(c);
	T(write(c, "x", 1));
	show("write");
	T(send(c, "x", 1, MSG_NOSIGNAL));
	show("send");
	SHOW_SO_ERROR(c);
	T(read(c, buf, 4));
	T(read(c, buf, 4));
	NOW(c);
	T(close(c));

	c = ora_accept(l, 'A');
	SAY("-- the same, read first\n");
	PEER("close A");
	WAIT(c, POLLRDHUP);
	T(write(c, "first", 5));
	WAIT(c, 0);
	T(read(c, buf, 4));
	T(read(c, buf, 4));
	T(write(c, "x", 1));
	show("write");
	T(close(c));

	c = ora_accept(l, 'A');
	SAY("-- reset\n");
	PEER("rst A");
	WAIT(c, 0);
	T(write(c, "x", 1));
	show("write");
	T(write(c, "x", 1));
	show("write");
	T(send(c, "x", 1, MSG_NOSIGNAL));
	show("send");
	T(close(c));
}

static void killed(int l)
{
	int c = ora_accept(l, 'A'), status;
	pid_t pid;

	SAY("-- default action\n");
	T(shutdown(c, SHUT_WR));
	pid = MUST(fork());
	if (pid == 0) {
		signal(SIGPIPE, SIG_DFL);
		if (write(c, "x", 1) < 0)
			_exit(1);
		_exit(0);
	}
	MUST(waitpid(pid, &status, 0));
	SAY("signalled %d by %s\n", WIFSIGNALED(status),
	    WIFSIGNALED(status) ? sigabbrev_np(WTERMSIG(status)) : "-");
	T(close(c));
}

int main(int argc, char **argv)
{
	int l;

	ora_start(argc, argv);
	signal(SIGPIPE, on_pipe);
	l = ora_listen();
	own(l);
	peer_gone(l);
	killed(l);
	return 0;
}
