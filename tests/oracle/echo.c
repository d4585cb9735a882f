// SPDX-License-Identifier: BSD-3-Clause
/*
 * Blocking echo: short messages, a megabyte, and bytes that arrive in several pieces.
 */
#include "tests/oracle/oracle.h"

static char buf[1 << 20];

static void echo(int c, size_t n)
{
	size_t got = 0;

	while (got < n) {
		ssize_t rc = read(c, buf + got, n - got);

		if (rc <= 0) {
			SAY("read after %zu = %zd\n", got, rc);
			return;
		}
		got += (size_t)rc;
	}
	for (size_t i = 0; i < n; i++) {
		if (buf[i] != (char)('a' + i % 26)) {
			SAY("byte %zu differs\n", i);
			return;
		}
	}
	SAY("read %zu\n", got);
	SAY("write = %zd\n", write(c, buf, n));
}

int main(int argc, char **argv)
{
	int l, c, d;

	ora_start(argc, argv);
	l = ora_listen();
	c = ora_accept(l, 'A');
	d = ora_accept(l, 'B');
	PEER("send A 5");
	echo(c, 5);
	PEER("recv A 5");
	PEER("send B 26");
	PEER("send A 26");
	echo(c, 26);
	echo(d, 26);
	PEER("recv A 26");
	PEER("recv B 26");
	PEER("send A 100000");
	echo(c, 100000);
	PEER("recv A 100000");
	T(write(c, "x", 0));
	T(write(c, "one", 3));
	T(write(c, "two", 3));
	PEER("recv A 6");
	PEER("close A");
	T(read(c, buf, 10));
	T(read(c, buf, 10));
	T(close(c));
	T(close(d));
	PEER("end B");
	T(close(l));
	T(read(c, buf, 1));
	T(write(c, buf, 1));
	return 0;
}
