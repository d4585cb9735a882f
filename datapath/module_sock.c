/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * modules.sock: hands one line to toe_stream_control() and its answer back.
 *
 * Input: connections of operators.  Output: JSON, one piece after the other.  Runs on a thread of
 * its own.  Nobody waits for another: who does not write his question or read his answer is given
 * up after IDLE_MS, after SHARE_MS if somebody waits for his place, as is after LIFE_MS whoever is
 * there.  The stage is asked in turn, with PAUSE_MS in between, so that it has its time for packets
 * whatever operators do.  Owns the socket file.
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

#define IDLE_MS     2000
#define SHARE_MS    100
#define LIFE_MS     1000
#define PAUSE_MS    2
#define FULL_MS     20 /* until somebody who waits for a place is looked at again */
#define ANSWER_MS   1000u
#define LINE_BYTES  1024u
#define PIECE_BYTES (64u << 10)
#define CLIENTS     32u
#define BACKLOG     128

/* One client; all zero: a free place. */
struct client {
	bool used;
	int fd;
	int64_t begin_ms; /* monotonic */
	int64_t moved_ms; /* its question, or a part of the answer, was complete */
	size_t line_len;
	char line[LINE_BYTES];
	const char *module; /* of the question; NULL: it is not complete */
	struct toe_stream_ask ask;
	size_t sent; /* of ask.len */
	char *piece; /* PIECE_BYTES */
};

static struct {
	pthread_t thread;
	int listen_fd;
	int stop_fd;
	bool running;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	struct client clients[CLIENTS];
	unsigned turn;     /* who is looked at first */
	int64_t asked_ms;  /* the stage, last */
	int64_t accept_ms; /* nobody is accepted before */
} sock = {.listen_fd = -1, .stop_fd = -1};

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void drop(struct client *c)
{
	close(c->fd);
	free(c->piece);
	*c = (struct client){0};
}

/* ---- a client ---- */

static bool to_send(const struct client *c)
{
	return c->sent < c->ask.len;
}

static bool to_ask(const struct client *c)
{
	return c->used && c->module != NULL && !to_send(c);
}

/* "MODULE WHAT ARGUMENT" */
static void understand(struct client *c)
{
	char *arg = NULL;
	char *module = strtok_r(c->line, " ", &arg);

	c->ask = (struct toe_stream_ask){.what = module != NULL ? strtok_r(NULL, " ", &arg) : NULL};
	c->ask.arg = arg;
	c->piece = c->ask.what != NULL ? malloc(PIECE_BYTES) : NULL;
	c->module = module;
	if (c->piece == NULL)
		drop(c);
}

static void receive(struct client *c)
{
	ssize_t n = recv(c->fd, c->line + c->line_len, LINE_BYTES - 1 - c->line_len, MSG_DONTWAIT);
	char *end;

	if (n <= 0) {
		drop(c); /* also a line that is too long: there is no room */
		return;
	}
	c->line_len += (size_t)n;
	c->line[c->line_len] = '\0';
	end = strchr(c->line, '\n');
	if (end == NULL)
		return;
	*end = '\0';
	c->moved_ms = now_ms();
	understand(c);
}

static void send_more(struct client *c)
{
	ssize_t n =
		send(c->fd, c->piece + c->sent, c->ask.len - c->sent, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n <= 0) {
		drop(c);
		return;
	}
	c->moved_ms = now_ms();
	c->sent += (size_t)n;
	if (!to_send(c) && c->ask.at == 0)
		drop(c);
}

static void ask(struct toe_engine *e, struct client *c)
{
	int rc;

	c->ask.out = c->piece;
	c->ask.room = PIECE_BYTES - 1;
	c->ask.len = c->sent = 0;
	rc = toe_stream_control(e, c->module, &c->ask, ANSWER_MS);
	sock.asked_ms = now_ms();
	if (rc == -EBUSY && sock.asked_ms - c->moved_ms < IDLE_MS / 2) {
		c->ask.len = 0; /* in its next turn */
		return;
	}
	if (rc != 0) {
		c->ask.at = 0;
		c->ask.len =
			(size_t)snprintf(c->piece, c->ask.room, "{\"error\":\"%s\",\"errno\":%d}",
					 strerror(-rc), -rc);
	}
	c->piece[c->ask.len++] = '\n';
	c->moved_ms = sock.asked_ms;
}

/* ---- all of them ---- */

/* Others have waited long enough for it. */
static bool due(const struct client *c, int64_t now)
{
	return now - c->begin_ms >= LIFE_MS || (!to_ask(c) && now - c->moved_ms >= SHARE_MS);
}

/* NULL: none. */
static struct client *place(int64_t now)
{
	struct client *found = NULL;

	for (unsigned i = 0; i < CLIENTS; i++) {
		if (!sock.clients[i].used)
			return &sock.clients[i];
		if (due(&sock.clients[i], now))
			found = &sock.clients[i];
	}
	if (found != NULL)
		drop(found);
	return found;
}

/* Somebody waits. */
static void admit(int64_t now)
{
	struct client *c = place(now);
	int fd = c != NULL ? accept4(sock.listen_fd, NULL, NULL, SOCK_CLOEXEC) : -1;

	if (fd < 0)
		sock.accept_ms = now + FULL_MS;
	else
		*c = (struct client){.used = true, .fd = fd, .begin_ms = now, .moved_ms = now};
}

/* The one whose turn it is. */
static void ask_one(struct toe_engine *e)
{
	for (unsigned i = 0; i < CLIENTS; i++) {
		unsigned k = (sock.turn + i) % CLIENTS;

		if (!to_ask(&sock.clients[k]))
			continue;
		sock.turn = k + 1;
		ask(e, &sock.clients[k]);
		return;
	}
}

/* Returns how long there is nothing to do unless something comes, -1: for ever. */
static int next_ms(int64_t now)
{
	int64_t next = sock.accept_ms > now ? sock.accept_ms : INT64_MAX;

	for (unsigned i = 0; i < CLIENTS; i++) {
		struct client *c = &sock.clients[i];
		int64_t at = to_ask(c) ? sock.asked_ms + PAUSE_MS : c->moved_ms + IDLE_MS;

		if (c->used && at < next)
			next = at;
	}
	return next == INT64_MAX ? -1 : next > now ? (int)(next - now) : 0;
}

static void events(struct client *c, short got, int64_t now)
{
	if (to_ask(c))
		return; /* what it does meanwhile is noticed when it is answered */
	if (got == 0) {
		if (now - c->moved_ms >= IDLE_MS)
			drop(c);
	} else if (to_send(c)) {
		send_more(c);
	} else {
		receive(c);
	}
}

/* Waits, and does all there is to do but asking; false: the end. */
static bool turn(void)
{
	struct pollfd pfd[CLIENTS + 2];
	int64_t now = now_ms();

	for (unsigned i = 0; i < CLIENTS; i++) {
		struct client *c = &sock.clients[i];

		pfd[i] = (struct pollfd){.fd = c->used && !to_ask(c) ? c->fd : -1,
					 .events = to_send(c) ? POLLOUT : POLLIN};
	}
	pfd[CLIENTS] = (struct pollfd){.fd = now >= sock.accept_ms ? sock.listen_fd : -1,
				       .events = POLLIN};
	pfd[CLIENTS + 1] = (struct pollfd){.fd = sock.stop_fd, .events = POLLIN};
	if (poll(pfd, CLIENTS + 2, next_ms(now)) < 0)
		return true; /* EINTR */
	now = now_ms();
	for (unsigned i = 0; i < CLIENTS; i++) {
		if (sock.clients[i].used)
			events(&sock.clients[i], pfd[i].revents, now);
	}
	if (pfd[CLIENTS].revents != 0)
		admit(now);
	return pfd[CLIENTS + 1].revents == 0;
}

static void *sock_main(void *arg)
{
	while (turn()) {
		if (now_ms() - sock.asked_ms >= PAUSE_MS)
			ask_one(arg);
	}
	return NULL;
}

static int open_socket(const struct toe_config *cfg)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd;

	toe_config_path(cfg, TOE_MODULE_SOCKET, sock.path, sizeof(sock.path));
	memcpy(sa.sun_path, sock.path, sizeof(sa.sun_path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	unlink(sock.path); /* of an engine that died */
	/* the mode before bind(), too: it is nobody else's for a moment either */
	if (fchmod(fd, 0660) != 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) != 0 ||
	    chmod(sock.path, 0660) != 0 || listen(fd, BACKLOG) != 0) {
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
	for (unsigned i = 0; i < CLIENTS; i++) {
		if (sock.clients[i].used)
			drop(&sock.clients[i]);
	}
	sock.listen_fd = sock.stop_fd = -1;
}

int toe_module_sock_start(struct toe_engine *e)
{
	sigset_t all, old;
	int rc = open_socket(e->cfg);

	if (rc != 0)
		return rc;
	sock.stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (sock.stop_fd < 0) {
		release();
		return -EMFILE;
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
