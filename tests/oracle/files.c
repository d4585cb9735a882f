// SPDX-License-Identifier: BSD-3-Clause
/*
 * sendfile, and descriptors sent with SCM_RIGHTS inside the process.
 */
#include <sys/sendfile.h>

#include "tests/oracle/oracle.h"

#define FILE_BYTES 300000

static char buf[FILE_BYTES];

static int make_file(void)
{
	char name[] = "/tmp/oracleXXXXXX";
	int fd = MUST(mkstemp(name));

	unlink(name);
	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = (char)('a' + i % 26);
	MUST(write(fd, buf, sizeof(buf)));
	return fd;
}

static void send_files(int c, int f)
{
	off_t off = 10;
	int pr[2];

	SAY("-- sendfile\n");
	T(sendfile(c, f, &off, 20));
	SAY("offset %ld position %ld\n", (long)off, (long)lseek(f, 0, SEEK_CUR));
	PEER("recv A 20");
	lseek(f, 5, SEEK_SET);
	T(sendfile(c, f, NULL, 7));
	SAY("position %ld\n", (long)lseek(f, 0, SEEK_CUR));
	PEER("recv A 7");
	off = FILE_BYTES - 3;
	T(sendfile(c, f, &off, 100));
	SAY("offset %ld\n", (long)off);
	PEER("recv A 3");
	T(sendfile(c, f, &off, 100));
	T(sendfile(c, f, &off, 0));
	off = -1;
	T(sendfile(c, f, &off, 1));
	MUST(pipe(pr));
	T(sendfile(c, 777, NULL, 1));
	T(sendfile(777, f, NULL, 1));
	T(sendfile(f, c, NULL, 1));
	off = 0;
	T(sendfile(c, f, &off, 50000));
	PEER("recv A 50000");
	T(shutdown(c, SHUT_WR));
	T(sendfile(c, f, &off, 10));
	T(sendfile(c, f, &off, 0));
	PEER("end A");
	close(pr[0]);
	close(pr[1]);
}

static int pass(int fd)
{
	char control[CMSG_SPACE(sizeof(int))] = "", x = 'x';
	struct iovec iov = {&x, 1};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = control,
			   .msg_controllen = sizeof(control)};
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	int pair[2], got = -1;

	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	if (!h)
		return -1;
	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(h), &fd, sizeof(fd));
	T(sendmsg(pair[0], &m, 0));
	T(recvmsg(pair[1], &m, 0));
	T(close(fd));
	h = CMSG_FIRSTHDR(&m);
	if (h)
		memcpy(&got, CMSG_DATA(h), sizeof(got));
	close(pair[0]);
	close(pair[1]);
	return got;
}

static void rights(int l)
{
	int c = pass(ora_accept(l, 'C'));

	SAY("-- SCM_RIGHTS\n");
	T(write(c, "passed", 6));
	PEER("recv C 6");
	PEER("send C 3");
	T(read(c, buf, 9));
	T(close(c));
	PEER("end C");
	l = pass(l);
	c = ora_accept(l, 'D');
	PEER("send D 3");
	T(read(c, buf, 9));
	T(close(c));
	T(close(l));
	PEER("end D");
}

int main(int argc, char **argv)
{
	int l, c, f;

	ora_start(argc, argv);
	signal(SIGPIPE, SIG_IGN);
	l = ora_listen();
	c = ora_accept(l, 'A');
	f = make_file();
	send_files(c, f);
	close(c);
	close(f);
	rights(l);
	return 0;
}
