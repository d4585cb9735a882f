// SPDX-License-Identifier: BSD-3-Clause
/*
 * Threads: accept in one and I/O in another; shutdown, close and data while another thread waits.
 */
#include <pthread.h>
#include <sys/syscall.h>

#include "tests/oracle/oracle.h"

struct waiter {
	int fd;
	int what;
	volatile int about_to;
	volatile int tid;
	pthread_t thread;
	char buf[64];
	char said[128]; /* printed by end() */
};

enum { READ, WRITE_ALL, ACCEPT, POLL, EPOLL, CONNECTION };
static const char *const names[] = {"read", "write", "accept", "poll", "epoll", "serve"};

static void *run(void *arg)
{
	static char big[1 << 23];
	struct waiter *w = arg;
	struct pollfd p = {w->fd, POLLIN | POLLRDHUP, 0};
	struct epoll_event ev = {0};
	long rc = 0;

	w->tid = (int)syscall(SYS_gettid);
	w->about_to = 1;
	errno = 0;
	switch (w->what) {
	case READ:
		rc = read(w->fd, w->buf, sizeof(w->buf));
		break;
	case WRITE_ALL:
		rc = write(w->fd, big, sizeof(big));
		break;
	case ACCEPT:
		rc = accept(w->fd, NULL, NULL);
		break;
	case POLL:
		rc = poll(&p, 1, ORA_WAIT_MS);
		break;
	case EPOLL:
		rc = epoll_wait(w->fd, &ev, 1, ORA_WAIT_MS);
		break;
	default:
		while ((rc = read(w->fd, w->buf, sizeof(w->buf))) > 0)
			MUST(write(w->fd, w->buf, (size_t)rc));
	}
	if (w->what == WRITE_ALL && rc > 0)
		rc = 1; /* how much depends on buffers */
	if (w->what == ACCEPT && rc > 0)
		rc = close((int)rc);
	if (w->what == POLL)
		ev.events = (uint32_t)p.revents;
	snprintf(w->said, sizeof(w->said), "thread: %s = %ld %s %s\n", names[w->what], rc,
		 rc < 0 ? strerrorname_np(errno) : "",
		 w->what == POLL || w->what == EPOLL ? ev_names(ev.events) : "");
	return NULL;
}

static void begin(struct waiter *w, int fd, int what)
{
	memset(w, 0, sizeof(*w));
	w->fd = fd;
	w->what = what;
	MUST(-pthread_create(&w->thread, NULL, run, w));
}

static void begin_asleep(struct waiter *w, int fd, int what)
{
	begin(w, fd, what);
	ora_asleep(&w->about_to, &w->tid);
}

static void end(struct waiter *w)
{
	MUST(-pthread_join(w->thread, NULL));
	SAY("%s", w->said);
}

static void serve(int l)
{
	struct waiter w, x;
	int c, d;

	SAY("-- accepted here, served there\n");
	c = ora_accept(l, 'A');
	d = ora_accept(l, 'B');
	begin(&w, c, CONNECTION);
	begin(&x, d, CONNECTION);
	PEER("send A 20");
	PEER("send B 30");
	PEER("recv A 20");
	PEER("recv B 30");
	PEER("send B 50000");
	PEER("recv B 50000");
	PEER("fin A");
	end(&w);
	PEER("fin B");
	end(&x);
	T(close(c));
	T(close(d));
	PEER("end A");
}

static void woken(int l)
{
	struct waiter w;
	int c, ep = MUST(epoll_create1(0));

	SAY("-- woken\n");
	begin_asleep(&w, l, ACCEPT);
	SAY("connect %s\n", peer_quiet("connect A %s %u", ora.my, ora.port));
	end(&w);
	c = ora_accept(l, 'A');
	for (int what = READ; what <= POLL; what++) {
		if (what != READ && what != POLL)
			continue;
		begin_asleep(&w, c, what);
		PEER("send A 4");
		end(&w);
	}
	T(read(c, w.buf, 64));
	begin_asleep(&w, ep, EPOLL);
	PEER("send A 2");
	WAIT(c, POLLIN);
	T(ep_ctl(ep, EPOLL_CTL_ADD, c, EPOLLIN, 1)); /* wakes the waiter */
	end(&w);
	T(read(c, w.buf, 64));
	begin_asleep(&w, ep, EPOLL);
	PEER("send A 2");
	end(&w);
	T(read(c, w.buf, 64));
	T(ep_ctl(ep, EPOLL_CTL_MOD, c, EPOLLPRI, 1));
	begin_asleep(&w, ep, EPOLL);
	T(ep_ctl(ep, EPOLL_CTL_MOD, c, EPOLLOUT, 1));
	end(&w);
	begin_asleep(&w, c, WRITE_ALL);
	SAY("peer reads: %d\n", strtoul(peer_quiet("recv A %u", 1u << 23), NULL, 10) == 1u << 23);
	end(&w);
	T(close(c));
	T(close(ep));
}

static void shut(int l)
{
	struct waiter w;
	int c = ora_accept(l, 'A');

	SAY("-- shutdown while another waits\n");
	begin_asleep(&w, c, READ);
	T(shutdown(c, SHUT_RDWR));
	end(&w);
	T(close(c));
	c = ora_accept(l, 'A');
	begin_asleep(&w, c, READ);
	T(shutdown(c, SHUT_RD));
	end(&w);
	T(close(c));
	c = ora_accept(l, 'A');
	begin_asleep(&w, c, POLL);
	T(shutdown(c, SHUT_RDWR));
	end(&w);
	T(close(c));
	c = ora_accept(l, 'A');
	begin_asleep(&w, c, WRITE_ALL);
	T(shutdown(c, SHUT_WR));
	end(&w);
	T(close(c));
	c = ora_accept(l, 'A');
	begin_asleep(&w, c, READ);
	PEER("rst A");
	end(&w);
	T(close(c));
	c = ora_accept(l, 'A');
	begin_asleep(&w, c, WRITE_ALL);
	PEER("rst A");
	end(&w);
	T(close(c));
	begin_asleep(&w, l, ACCEPT);
	T(shutdown(l, SHUT_RDWR));
	end(&w);
}

/* What a thread sees that waits on a descriptor while it is closed is not promised by POSIX: only
 * that the process goes on, and that the peer sees the end. */
static void closed(int l)
{
	struct waiter w;
	int c = ora_accept(l, 'A'), ep = MUST(epoll_create1(0));

	SAY("-- close while another waits in epoll\n");
	T(ep_ctl(ep, EPOLL_CTL_ADD, c, EPOLLIN, 1));
	T(ep_ctl(ep, EPOLL_CTL_ADD, l, EPOLLIN, 2));
	begin_asleep(&w, ep, EPOLL);
	T(close(c));
	PEER("end A");
	SAY("connect %s\n", peer_quiet("connect B %s %u", ora.my, ora.port));
	end(&w);
	T(close(accept(l, NULL, NULL)));
	T(close(ep));
}

int main(int argc, char **argv)
{
	int l;

	ora_start(argc, argv);
	signal(SIGPIPE, SIG_IGN);
	l = ora_listen();
	serve(l);
	woken(l);
	closed(l);
	shut(l);
	return 0;
}
