/* SPDX-License-Identifier: BSD-3-Clause */
/* LINK: tests/progs/lib/hist.c */
/*
 * Closed-loop echo client: C connections, one request of S bytes outstanding on each, for T
 * seconds. Prints one JSON line: requests/s, RTT percentiles, CPU seconds of this process per
 * request. One thread, epoll, kernel TCP (or whatever is preloaded).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/progs/lib/hist.h"

#define CONNS_MAX 10000u

struct conn {
	int fd;
	size_t got;
	uint64_t sent_ns;
};

struct options {
	const char *host;
	uint16_t port;
	unsigned conns;
	size_t size;
	unsigned seconds;
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static double cpu_seconds(void)
{
	struct rusage ru;

	getrusage(RUSAGE_SELF, &ru);
	return (double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) +
	       (double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6;
}

static int open_conn(const struct options *o, int epfd, struct conn *c)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(o->port)};
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
	int one = 1;

	if (inet_pton(AF_INET, o->host, &sa.sin_addr) != 1) {
		fprintf(stderr, "rpc_client: '%s' is not an IPv4 address\n", o->host);
		return -1;
	}
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
		fprintf(stderr, "rpc_client: connect %s:%u: %s\n", o->host, o->port,
			strerror(errno));
		return -1;
	}
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	fcntl(c->fd, F_SETFL, O_NONBLOCK);
	return epoll_ctl(epfd, EPOLL_CTL_ADD, c->fd, &ev);
}

static int send_request(struct conn *c, const char *buf, size_t size)
{
	c->got = 0;
	c->sent_ns = now_ns();
	return write(c->fd, buf, size) == (ssize_t)size ? 0 : -1;
}

/* Returns 1 when the whole answer is there, 0 if more is to come, -1 on error. */
static int read_answer(struct conn *c, char *buf, size_t size)
{
	ssize_t n = read(c->fd, buf, size);

	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n <= 0)
		return -1;
	c->got += (size_t)n;
	return c->got >= size;
}

static int run(const struct options *o, int epfd, struct conn *conns, struct toe_hist *h)
{
	static char out[65536], in[65536];
	struct epoll_event evs[64];
	uint64_t end = now_ns() + (uint64_t)o->seconds * 1000000000u;

	memset(out, 'x', sizeof(out));
	for (unsigned i = 0; i < o->conns; i++)
		if (send_request(&conns[i], out, o->size) < 0)
			return -1;
	while (now_ns() < end) {
		int n = epoll_wait(epfd, evs, 64, 1000);

		if (n == 0) {
			fprintf(stderr, "rpc_client: no answer for 1 s\n");
			return -1;
		}
		for (int i = 0; i < n; i++) {
			struct conn *c = evs[i].data.ptr;
			int done = read_answer(c, in, o->size);

			if (done < 0)
				return -1;
			if (done == 0)
				continue;
			toe_hist_add(h, now_ns() - c->sent_ns);
			if (send_request(c, out, o->size) < 0)
				return -1;
		}
	}
	return 0;
}

static int parse(int argc, char **argv, struct options *o)
{
	int ch;

	*o = (struct options){.host = "127.0.0.1", .port = 7, .conns = 1, .size = 64, .seconds = 3};
	while ((ch = getopt(argc, argv, "h:p:c:s:t:")) != -1) {
		switch (ch) {
		case 'h':
			o->host = optarg;
			break;
		case 'p':
			o->port = (uint16_t)atoi(optarg);
			break;
		case 'c':
			o->conns = (unsigned)atoi(optarg);
			break;
		case 's':
			o->size = (size_t)atoi(optarg);
			break;
		case 't':
			o->seconds = (unsigned)atoi(optarg);
			break;
		default:
			return -1;
		}
	}
	return o->conns > 0 && o->conns <= CONNS_MAX && o->size > 0 && o->size <= 65536 ? 0 : -1;
}

int main(int argc, char **argv)
{
	struct options o;
	static struct toe_hist hist, *h = &hist;
	static struct conn conns[CONNS_MAX];
	int epfd = epoll_create1(EPOLL_CLOEXEC);
	double cpu;

	if (parse(argc, argv, &o) < 0) {
		fprintf(stderr, "usage: rpc_client -h HOST -p PORT [-c CONNS] [-s BYTES] [-t S]\n");
		return 2;
	}
	if (epfd < 0)
		return 1;
	toe_hist_reset(h);
	for (unsigned i = 0; i < o.conns; i++)
		if (open_conn(&o, epfd, &conns[i]) < 0)
			return 1;
	cpu = cpu_seconds();
	if (run(&o, epfd, conns, h) < 0)
		return 1;
	cpu = cpu_seconds() - cpu;
	printf("{\"conns\":%u,\"bytes\":%zu,\"rps\":%.0f,\"p50_us\":%.1f,\"p99_us\":%.1f,"
	       "\"client_cpu_us_per_req\":%.2f}\n",
	       o.conns, o.size, (double)h->count / o.seconds,
	       (double)toe_hist_quantile(h, 500) / 1e3, (double)toe_hist_quantile(h, 990) / 1e3,
	       cpu * 1e6 / (double)(h->count ? h->count : 1));
	return 0;
}
