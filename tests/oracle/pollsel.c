// SPDX-License-Identifier: BSD-3-Clause
/*
 * poll, ppoll, select and pselect on a listener, connections, a pipe and an eventfd together.
 */
#include <sys/eventfd.h>
#include <sys/select.h>

#include "tests/oracle/oracle.h"

static int l, c, d, pr[2], ev;
static char buf[64];

static void poll_all(const char *when, int timeout_ms)
{
	struct pollfd p[7] = {{l, POLLIN, 0},     {c, POLLIN | POLLOUT, 0}, {d, POLLIN, 0},
			      {pr[0], POLLIN, 0}, {ev, POLLIN, 0},          {-1, POLLIN, 0},
			      {777, POLLIN, 0}};
	nfds_t n = timeout_ms < 0 ? 7 : 6;
	int rc = poll(p, n, timeout_ms < 0 ? 0 : timeout_ms);

	SAY("poll %s: %d:", when, rc);
	for (nfds_t i = 0; i < n; i++)
		SAY(" %s", ev_names((uint32_t)(uint16_t)p[i].revents));
	SAY("\n");
}

static void select_all(const char *when, long ms)
{
	struct timeval tv = {ms / 1000, ms % 1000 * 1000};
	fd_set in, out, ex;
	int rc;

	FD_ZERO(&in);
	FD_ZERO(&out);
	FD_ZERO(&ex);
	FD_SET(l, &in);
	FD_SET(c, &in);
	FD_SET(d, &in);
	FD_SET(pr[0], &in);
	FD_SET(ev, &in);
	FD_SET(c, &ex);
	if (ms == 0)
		FD_SET(c, &out);
	rc = select(ev + 1 > d + 1 ? ev + 1 : d + 1, &in, &out, &ex, &tv);
	SAY("select %s: %d: l%d c%d d%d p%d e%d out%d ex%d\n", when, rc, FD_ISSET(l, &in),
	    FD_ISSET(c, &in), FD_ISSET(d, &in), FD_ISSET(pr[0], &in), FD_ISSET(ev, &in),
	    FD_ISSET(c, &out), FD_ISSET(c, &ex));
}

static void each_wakes(void)
{
	uint64_t one = 1;

	poll_all("nothing", 0);
	select_all("nothing", 0);
	MUST(write(pr[1], "x", 1));
	select_all("pipe", ORA_WAIT_MS);
	poll_all("pipe", ORA_WAIT_MS);
	MUST(read(pr[0], buf, 1));
	MUST(write(ev, &one, 8));
	select_all("eventfd", ORA_WAIT_MS);
	MUST(read(ev, &one, 8));
	PEER("send A 3");
	select_all("connection", ORA_WAIT_MS);
	WAIT(c, POLLIN);
	poll_all("connection", ORA_WAIT_MS);
	MUST(write(pr[1], "x", 1));
	poll_all("connection and pipe", 0);
	select_all("connection and pipe", 0);
	T(read(c, buf, 9));
	MUST(read(pr[0], buf, 1));
	SAY("connect %s\n", peer_quiet("connect C %s %u", ora.my, ora.port));
	select_all("listener", ORA_WAIT_MS);
	poll_all("listener", ORA_WAIT_MS);
	T(close(accept(l, NULL, NULL)));
	PEER("fin B");
	select_all("end", ORA_WAIT_MS);
	poll_all("end", 0);
	poll_all("with a closed descriptor", -1);
	PEER("rst B");
	WAIT(d, 0);
	poll_all("reset", 0);
	select_all("reset", 0);
}

static void arguments(void)
{
	struct timespec ts = {0, 1000000}, bad = {0, -1};
	struct timeval tv = {0, 1000}, badtv = {-1, 0};
	struct pollfd p = {c, 0, 0};
	fd_set in;
	sigset_t none;

	sigemptyset(&none);
	SAY("-- arguments\n");
	T(poll(NULL, 0, 1));
	T(poll(&p, 1, 1));
	T(ppoll(&p, 1, &ts, &none));
	T(ppoll(&p, 1, &bad, NULL));
	FD_ZERO(&in);
	FD_SET(c, &in);
	T(pselect(c + 1, &in, NULL, NULL, &ts, &none));
	SAY("set: %d\n", FD_ISSET(c, &in));
	FD_SET(c, &in);
	T(select(c + 1, &in, NULL, NULL, &badtv));
	T(select(-1, &in, NULL, NULL, &tv));
	T(select(0, NULL, NULL, NULL, &tv));
	SAY("left %ld\n", (long)tv.tv_usec);
	tv.tv_usec = 0;
	FD_ZERO(&in);
	FD_SET(600, &in);
	T(select(601, &in, NULL, NULL, &tv));
	p.fd = 600;
	T(poll(&p, 1, 0));
	SAY("%s\n", ev_names((uint32_t)(uint16_t)p.revents));
}

/* The same descriptor twice in one call. */
static void twice(void)
{
	struct pollfd p[2] = {{c, POLLIN, 0}, {c, POLLOUT, 0}};

	SAY("-- twice\n");
	PEER("send A 1");
	WAIT(c, POLLIN);
	T(poll(p, 2, ORA_WAIT_MS));
	SAY("%s", ev_names((uint32_t)p[0].revents));
	SAY(" %s\n", ev_names((uint32_t)p[1].revents));
	T(read(c, buf, 9));
}

int main(int argc, char **argv)
{
	ora_start(argc, argv);
	l = ora_listen();
	c = ora_accept(l, 'A');
	d = ora_accept(l, 'B');
	MUST(pipe(pr));
	ev = MUST(eventfd(0, 0));
	each_wakes();
	arguments();
	twice();
	return 0;
}
