/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * modules.sock: hands one line to toe_stream_control() and its answer back.
 *
 * Input: connections of operators, one at a time.  Output: JSON.  Runs on a thread of its own,
 * which may wait; a client that does not read or write is given up after CLIENT_MS, and any other
 * after ALL_MS: others wait for their turn.  Owns the socket file.
 */
#include "module_sock.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"
#include "stream.h"
#include "toe/ctl.h"

#define CLIENT_MS   2000
#define ALL_MS      10000
#define ANSWER_MS   1000u
#define LINE_BYTES  1024u
#define PIECE_BYTES (128u << 10)

static struct {
	pthread_t thread;
	int listen_fd;
	int stop_fd;
	bool running;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	char *piece; /* PIECE_BYTES */
} sock = {.listen_fd = -1, .stop_fd = -1};

/* One client. */
struct client {
	int fd;
	int64_t until_ms; /* monotonic */
};

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* False: it took too long, or this thread has to end. */
static bool ready(const struct client *c, short events)
{
	struct pollfd pfd[] = {{.fd = c->fd, .events = events},
			       {.fd = sock.stop_fd, .events = POLLIN}};
	int64_t left = c->until_ms - now_ms();
	int n;

	if (left <= 0)
		return false;
	n = poll(pfd, 2, left < CLIENT_MS ? (int)left : CLIENT_MS);
	return n > 0 && pfd[1].revents == 0;
}

static bool send_all(const struct client *c, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = -1;

		if (ready(c, POLLOUT))
			n = send(c->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n <= 0)
			return false;
		data += n;
		len -= (size_t)n;
	}
	return true;
}

/* Up to the newline, which is cut off; false: none came. */
static bool read_line(const struct client *c, char *line, size_t size)
{
	size_t len = 0;

	while (len + 1 < size) {
		ssize_t n = -1;
		char *end;

		if (ready(c, POLLIN))
			n = recv(c->fd, line + len, size - 1 - len, MSG_DONTWAIT);
		if (n <= 0)
			return false;
		len += (size_t)n;
		line[len] = '\0';
		end = strchr(line, '\n');
		if (end != NULL) {
			*end = '\0';
			return true;
		}
	}
	return false;
}

static void answer(struct toe_engine *e, const struct client *c, char *line)
{
	char *arg = NULL;
	char *module = strtok_r(line, " ", &arg);
	char *what = module != NULL ? strtok_r(NULL, " ", &arg) : NULL;
	struct toe_stream_ask ask = {.what = what, .arg = arg};
	int rc;

	if (what == NULL)
		return;
	do {
		ask.out = sock.piece;
		ask.room = PIECE_BYTES - 1;
		ask.len = 0;
		rc = toe_stream_control(e, module, &ask, ANSWER_MS);
		if (rc != 0) {
			ask.at = 0;
			ask.len = (size_t)snprintf(ask.out, ask.room,
						   "{\"error\":\"%s\",\"errno\":%d}", strerror(-rc),
						   -rc);
		}
		sock.piece[ask.len++] = '\n';
	} while (send_all(c, sock.piece, ask.len) && ask.at != 0);
}

static void serve(struct toe_engine *e)
{
	struct client c = {.fd = accept4(sock.listen_fd, NULL, NULL, SOCK_CLOEXEC),
			   .until_ms = now_ms() + ALL_MS};
	char line[LINE_BYTES];

	if (c.fd < 0)
		return;
	if (read_line(&c, line, sizeof(line)))
		answer(e, &c, line);
	close(c.fd);
}

static void *sock_main(void *arg)
{
	struct pollfd pfd[] = {{.fd = sock.listen_fd, .events = POLLIN},
			       {.fd = sock.stop_fd, .events = POLLIN}};

	for (;;) {
		if (poll(pfd, 2, -1) < 0)
			continue; /* EINTR */
		if (pfd[1].revents != 0)
			return NULL;
		if (pfd[0].revents != 0)
			serve(arg);
	}
}

static int open_socket(const struct toe_config *cfg)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd;

	toe_config_path(cfg, TOE_MODULE_SOCKET, sock.path, sizeof(sock.path));
	memcpy(sa.sun_path, sock.path, sizeof(sa.sun_path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	unlink(sock.path); /* of an engine that died */
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) != 0 || chmod(sock.path, 0660) != 0 ||
	    listen(fd, 8) != 0) {
		int rc = -errno;

		close(fd);
		return rc;
	}
	sock.listen_fd = fd;
	return 0;
}

static void release(void)
{
	if (sock.listen_fd >= 0) {
		close(sock.listen_fd);
		unlink(sock.path);
	}
	if (sock.stop_fd >= 0)
		close(sock.stop_fd);
	free(sock.piece);
	sock.piece = NULL;
	sock.listen_fd = sock.stop_fd = -1;
}

int toe_module_sock_start(struct toe_engine *e)
{
	sigset_t all, old;
	int rc = open_socket(e->cfg);

	if (rc != 0)
		return rc;
	sock.stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	sock.piece = malloc(PIECE_BYTES);
	if (sock.stop_fd < 0 || sock.piece == NULL) {
		release();
		return -ENOMEM;
	}
	sigfillset(&all); /* the main thread's */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = -pthread_create(&sock.thread, NULL, sock_main, e);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc != 0) {
		release();
		return rc;
	}
	pthread_setname_np(sock.thread, "toe-modules");
	sock.running = true;
	return 0;
}

void toe_module_sock_stop(struct toe_engine *e)
{
	const uint64_t one = 1;

	(void)e;
	if (!sock.running)
		return;
	TOE_CHECK(write(sock.stop_fd, &one, sizeof(one)) == sizeof(one));
	pthread_join(sock.thread, NULL);
	release();
	sock.running = false;
}
