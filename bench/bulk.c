/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One-way bulk transfer.  `bulk -l -p PORT` serves one connection after the other; `bulk -h HOST
 * -p PORT -d up|down -b BYTES [-t SECONDS]` sends (up) or receives (down) that many and prints one
 * JSON line with MB/s and its CPU seconds.  Request: direction byte and 8 bytes of count; after
 * "up" the server answers with one byte when it has everything, so that the clock stops at the
 * right place. -t SECONDS gives up then: "bytes" is what arrived, as far as this end knows (up:
 * acknowledged).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <linux/sockios.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define CHUNK 65536u

static char buf[CHUNK];
static volatile sig_atomic_t given_up;

static void give_up(int sig)
{
	(void)sig;
	given_up = 1;
}

/* Once at s, then often: a call that begins just after the first signal ends by another. */
static void alarm_set(unsigned s)
{
	const struct sigaction sa = {.sa_handler = give_up}; /* no SA_RESTART: calls end */
	const struct itimerval when = {.it_value = {.tv_sec = s},
				       .it_interval = {.tv_usec = 50000}};

	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &when, NULL);
}

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static double cpu_seconds(void)
{
	struct rusage ru;

	getrusage(RUSAGE_SELF, &ru);
	return (double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) +
	       (double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6;
}

/* How many of n bytes; fewer: the connection broke, or we gave up. */
static uint64_t send_all(int fd, uint64_t n)
{
	uint64_t left = n;

	while (left > 0 && !given_up) {
		ssize_t w = send(fd, buf, left < CHUNK ? left : CHUNK, MSG_NOSIGNAL);

		if (w <= 0)
			break;
		left -= (uint64_t)w;
	}
	return n - left;
}

static uint64_t recv_all(int fd, uint64_t n)
{
	uint64_t left = n;

	while (left > 0 && !given_up) {
		ssize_t r = recv(fd, buf, left < CHUNK ? left : CHUNK, 0);

		if (r <= 0)
			break;
		left -= (uint64_t)r;
	}
	return n - left;
}

/* True if all went through; *arrived is what did otherwise. */
static bool exchange(int s, bool up, uint64_t bytes, uint64_t *arrived)
{
	uint64_t sent;
	int queued = 0;

	if (!up) {
		*arrived = recv_all(s, bytes);
		return *arrived == bytes;
	}
	sent = send_all(s, bytes);
	*arrived = sent;
	if (sent == bytes && recv_all(s, 1) == 1)
		return true;
	if (ioctl(s, SIOCOUTQ, &queued) == 0)
		*arrived -= (uint64_t)queued;
	return false;
}

static void serve_one(int fd)
{
	char req[9];
	uint64_t n;

	if (recv(fd, req, sizeof(req), MSG_WAITALL) != (ssize_t)sizeof(req))
		return;
	memcpy(&n, req + 1, sizeof(n));
	if (req[0] == 'u') {
		if (recv_all(fd, n) == n)
			send_all(fd, 1);
	} else {
		send_all(fd, n);
	}
}

static int serve(uint16_t port)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(port)};
	int one = 1, l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (l < 0 || bind(l, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(l, 16) < 0) {
		fprintf(stderr, "bulk: port %u: %s\n", port, strerror(errno));
		return 1;
	}
	while (true) {
		int c = accept(l, NULL, NULL);

		if (c < 0)
			continue;
		serve_one(c);
		close(c);
	}
}

static int transfer(const char *host, uint16_t port, bool up, uint64_t bytes)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(port)};
	int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	double start, took, cpu;
	const struct linger abort_it = {.l_onoff = 1};
	uint64_t arrived = 0;
	char req[9];
	bool ok;

	if (inet_pton(AF_INET, host, &sa.sin_addr) != 1 || s < 0 ||
	    connect(s, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
		fprintf(stderr, "bulk: %s:%u: %s\n", host, port, strerror(errno));
		return 1;
	}
	req[0] = up ? 'u' : 'd';
	memcpy(req + 1, &bytes, sizeof(bytes));
	cpu = cpu_seconds();
	start = seconds();
	ok = send(s, req, sizeof(req), MSG_NOSIGNAL) == (ssize_t)sizeof(req) &&
	     exchange(s, up, bytes, &arrived);
	took = seconds() - start;
	cpu = cpu_seconds() - cpu;
	if (!ok) /* what is queued is not to be sent behind our back */
		setsockopt(s, SOL_SOCKET, SO_LINGER, &abort_it, sizeof(abort_it));
	close(s);
	if (!ok && !given_up) {
		fprintf(stderr, "bulk: connection broke: %s\n", strerror(errno));
		return 1;
	}
	printf("{\"direction\":\"%s\",\"bytes\":%llu,\"MB_per_s\":%.2f,\"client_cpu_s\":%.3f,"
	       "\"complete\":%s}\n",
	       up ? "up" : "down", (unsigned long long)arrived, (double)arrived / 1e6 / took, cpu,
	       ok ? "true" : "false");
	return 0;
}

int main(int argc, char **argv)
{
	const char *host = "127.0.0.1";
	uint64_t bytes = 100000000;
	bool listen_mode = false, up = true;
	unsigned limit_s = 0;
	uint16_t port = 5001;
	int ch;

	while ((ch = getopt(argc, argv, "lh:p:d:b:t:")) != -1) {
		if (ch == 'l')
			listen_mode = true;
		else if (ch == 'h')
			host = optarg;
		else if (ch == 'p')
			port = (uint16_t)strtoul(optarg, NULL, 10);
		else if (ch == 'd')
			up = strcmp(optarg, "down") != 0;
		else if (ch == 'b')
			bytes = strtoull(optarg, NULL, 10);
		else if (ch == 't')
			limit_s = (unsigned)strtoul(optarg, NULL, 10);
		else
			return 2;
	}
	if (limit_s)
		alarm_set(limit_s);
	return listen_mode ? serve(port) : transfer(host, port, up, bytes);
}
