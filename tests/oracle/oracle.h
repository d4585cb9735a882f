/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Shared by the oracle programs: each is a plain POSIX program that prints what the socket calls
 * answered.  tests/net/25_oracle.sh runs it over the kernel and under libtoe; the two transcripts
 * must be the same, so nothing that depends on time, addresses or descriptor numbers is printed.
 *
 * Arguments: MY-ADDRESS PEER-ADDRESS PORT CONTROL-SOCKET.  The peer (peer.c, always over the
 * kernel) does what it is told through the control socket and answers when it is done.
 */
#ifndef ORACLE_H
#define ORACLE_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define ORA_QUIET_MS 300   /* longer than an acknowledgement takes, shorter than a probe */
#define ORA_WAIT_MS  10000 /* for what must happen: longer than any retransmission here */

static struct {
	const char *my;
	const char *peer;
	uint16_t port;
	int family; /* of the addresses */
	int ctl;
} ora;

/* A socket address of either family; the port is where it is in both. */
union ora_sa {
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

/* Unbuffered: children write too. */
#define SAY(...) dprintf(1, __VA_ARGS__)

static inline void ora_show(const char *what, long rc, int err)
{
	if (rc < 0)
		SAY("%s = %ld %s\n", what, rc, strerrorname_np(err));
	else
		SAY("%s = %ld\n", what, rc);
}

/* Does it and prints the call and its result. */
#define T(call)                                                                                    \
	({                                                                                         \
		errno = 0;                                                                         \
		long ora_rc_ = (long)(call);                                                       \
		int ora_err_ = errno;                                                              \
		ora_show(#call, ora_rc_, ora_err_);                                                \
		ora_rc_;                                                                           \
	})

/* The same for a new descriptor, whose number is nobody's business. */
#define TFD(call)                                                                                  \
	({                                                                                         \
		errno = 0;                                                                         \
		int ora_rc_ = (call);                                                              \
		int ora_err_ = errno;                                                              \
		ora_show(#call, ora_rc_ < 0 ? -1 : 0, ora_err_);                                   \
		ora_rc_;                                                                           \
	})

/* What the test itself needs. */
#define MUST(call)                                                                                 \
	({                                                                                         \
		int ora_rc_ = (int)(call);                                                         \
		if (ora_rc_ < 0) {                                                                 \
			SAY("broken: %s: %s\n", #call, strerrorname_np(errno));                    \
			exit(2);                                                                   \
		}                                                                                  \
		ora_rc_;                                                                           \
	})

static inline const char *ev_names(uint32_t ev)
{
	static __thread char text[128];
	size_t len = 0;
	static const struct {
		uint32_t bit;
		const char *name;
	} names[] = {{EPOLLIN, "IN"},   {EPOLLPRI, "PRI"},  {EPOLLOUT, "OUT"},   {EPOLLERR, "ERR"},
		     {EPOLLHUP, "HUP"}, {POLLNVAL, "NVAL"}, {POLLRDHUP, "RDHUP"}};

	text[0] = 0;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!(ev & names[i].bit))
			continue;
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s", len ? "|" : "",
					names[i].name);
		ev &= ~names[i].bit;
	}
	if (ev)
		snprintf(text + len, sizeof(text) - len, "|other");
	return text[0] ? text : "none";
}

static inline void ora_poll(const char *what, int fd, short events, int timeout_ms)
{
	struct pollfd p = {fd, events, 0};
	int rc = poll(&p, 1, timeout_ms);

	SAY("%s: %d %s\n", what, rc, ev_names((uint32_t)(uint16_t)p.revents));
}
/* Waits for one of the events; prints what came. */
#define WAIT(fd, events) ora_poll("wait " #fd " " #events, fd, events, ORA_WAIT_MS)
/* All that is so at this moment. */
#define NOW(fd) ora_poll("now " #fd, fd, POLLIN | POLLPRI | POLLOUT | POLLRDHUP, 0)

/* One epoll_wait; data.u32 is printed, sorted by it. */
static inline int ora_epoll(const char *what, int ep, int timeout_ms)
{
	struct epoll_event ev[16];
	int n = epoll_wait(ep, ev, 16, timeout_ms);

	if (n < 0) {
		ora_show(what, n, errno);
		return n;
	}
	SAY("%s: %d", what, n);
	for (uint32_t tag = 0; tag < 16; tag++) {
		for (int i = 0; i < n; i++) {
			if (ev[i].data.u32 == tag)
				SAY(" [%u %s]", tag, ev_names(ev[i].events));
		}
	}
	SAY("\n");
	return n;
}
#define EWAIT(ep) ora_epoll("epoll " #ep, ep, ORA_WAIT_MS)
#define ENOW(ep)  ora_epoll("epoll now " #ep, ep, 0)

static inline int ep_ctl(int ep, int op, int fd, uint32_t events, uint32_t tag)
{
	struct epoll_event ev = {.events = events, .data.u32 = tag};

	return epoll_ctl(ep, op, fd, &ev);
}

/* Tells the peer and waits until it has done it; its answer (at most 255 characters). */
static inline const char *peer_quiet(const char *fmt, ...)
{
	static __thread char text[256];
	ssize_t n;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (send(ora.ctl, text, strlen(text), MSG_NOSIGNAL) < 0)
		MUST(-1);
	n = recv(ora.ctl, text, sizeof(text) - 1, 0);
	if (n <= 0) {
		SAY("broken: the peer is gone\n");
		exit(2);
	}
	text[n] = 0;
	return text;
}
/* The same, printed. */
#define PEER(cmd) SAY("peer %s: %s\n", cmd, peer_quiet("%s", cmd))

static inline union ora_sa ora_addr(const char *host, uint16_t port)
{
	union ora_sa a = {.in6 = {.sin6_port = htons(port)}};

	a.in.sin_family = strchr(host, ':') ? AF_INET6 : AF_INET;
	inet_pton(a.in.sin_family, host,
		  a.in.sin_family == AF_INET6 ? (void *)&a.in6.sin6_addr : (void *)&a.in.sin_addr);
	return a;
}

static inline socklen_t ora_len(const union ora_sa *a)
{
	return a->in.sin_family == AF_INET6 ? sizeof(a->in6) : sizeof(a->in);
}

static inline void ora_start(int argc, char **argv)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};

	if (argc != 5) {
		fprintf(stderr, "usage: %s MY-ADDRESS PEER-ADDRESS PORT CONTROL\n", argv[0]);
		exit(2);
	}
	ora.my = argv[1];
	ora.peer = argv[2];
	ora.port = (uint16_t)atoi(argv[3]);
	ora.family = ora_addr(ora.my, 0).in.sin_family;
	snprintf(un.sun_path, sizeof(un.sun_path), "%s", argv[4]);
	ora.ctl = MUST(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
	MUST(connect(ora.ctl, (struct sockaddr *)&un, sizeof(un)));
}

static inline int ora_listen(void)
{
	union ora_sa a = ora_addr(ora.my, ora.port);
	int one = 1;
	int fd = MUST(socket(ora.family, SOCK_STREAM, 0));

	MUST(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)));
	MUST(bind(fd, (struct sockaddr *)&a, ora_len(&a)));
	MUST(listen(fd, 16));
	return fd;
}

/* The peer connects its connection named x; this side of it. */
static inline int ora_accept(int listener, char x)
{
	const char *reply = peer_quiet("connect %c %s %u", x, ora.my, ora.port);

	if (strcmp(reply, "ok") != 0) {
		SAY("broken: peer connect: %s\n", reply);
		exit(2);
	}
	return MUST(accept(listener, NULL, NULL));
}

/* Becomes writable within the quiet time: what was in flight made room.  A buffer is full when
 * after pass over it sent nothing and this says no. */
static inline bool ora_writable(int fd)
{
	struct pollfd p = {fd, POLLOUT, 0};

	return poll(&p, 1, ORA_QUIET_MS) > 0;
}

/* fork() whose child's lines are printed by ora_join(): the order of both does not depend on time.
 */
static int ora_child_out = -1;

static inline pid_t ora_fork(void)
{
	int out = MUST(memfd_create("transcript", MFD_CLOEXEC));
	pid_t pid = MUST(fork());

	if (pid == 0) {
		MUST(dup2(out, 1));
		close(out);
		if (ora_child_out >= 0)
			close(ora_child_out);
		ora_child_out = -1;
	} else {
		ora_child_out = out;
	}
	return pid;
}

static inline void ora_join(pid_t pid)
{
	char text[4096];
	int status = -1;
	ssize_t n;

	MUST(waitpid(pid, &status, 0));
	n = pread(ora_child_out, text, sizeof(text), 0);
	SAY("child {\n%.*s} exit %d signal %d\n", (int)n, text,
	    WIFEXITED(status) ? WEXITSTATUS(status) : -1,
	    WIFSIGNALED(status) ? WTERMSIG(status) : 0);
	close(ora_child_out);
	ora_child_out = -1;
}

static inline int so_error(int fd)
{
	int err = -1;
	socklen_t len = sizeof(err);

	MUST(getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len));
	return err;
}
#define SHOW_SO_ERROR(fd)                                                                          \
	do {                                                                                       \
		int ora_e_ = so_error(fd);                                                         \
		SAY("SO_ERROR " #fd " = %s\n", ora_e_ ? strerrorname_np(ora_e_) : "0");            \
	} while (0)

/* Waits until the thread sleeps in the kernel, having said so just before its call. */
static inline void ora_asleep(const volatile int *about_to, const volatile int *tid)
{
	char path[64], line[512], state = 0;

	while (!*about_to)
		usleep(1000);
	snprintf(path, sizeof(path), "/proc/%d/stat", *tid);
	while (state != 'S') {
		int fd = MUST(open(path, O_RDONLY));
		ssize_t n = read(fd, line, sizeof(line) - 1);
		char *p;

		close(fd);
		line[n > 0 ? n : 0] = 0;
		p = strrchr(line, ')');
		state = p ? p[2] : 0;
		usleep(2000);
	}
}

#endif
