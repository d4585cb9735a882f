// SPDX-License-Identifier: BSD-3-Clause
/*
 * Far ends of token descriptors: ids, hang-ups, and who a near end belongs to.
 *
 * In: descriptors from applications, checked here; out: ids and hang-up events.  State: the table
 * of each application, one epoll instance with events = 0 for all (EPOLLHUP is always reported, so
 * 20 000 tokens cost one descriptor of the loop).  The keeper's only thread.
 *
 * The far end is bound to an abstract name that says which token it is; getpeername() on a near end
 * reads it.  An application could bind the far end first (refused: EINVAL) but cannot give the name
 * to another socket as long as we hold ours, and the name is only believed within one application.
 * The serial in it is random: names to come cannot be taken by others before us.
 *
 * An application may keep a copy of the far end.  Its open file then outlives our descriptor, and
 * so would its place in the epoll set: it is taken out by hand.
 */
#include "token.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/closer.h"

#define NAME_FMT   "toe-%016" PRIx64 "-%02x-%06x-%08x"
#define NAME_BYTES 39
#define ID_BITS    24 /* of an epoll tag: app 8, id 24, serial 32 */
#define NAME_TRIES 4  /* names that somebody else has */

int kp_token_watch_init(struct kp_token_watch *w)
{
	memset(w, 0, sizeof(*w));
	w->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (w->epfd < 0)
		return -errno;
	if (getrandom(&w->nonce, sizeof(w->nonce), 0) != sizeof(w->nonce)) {
		close(w->epfd);
		w->epfd = -1;
		return -EIO;
	}
	return 0;
}

int kp_tokens_init(struct kp_tokens *ts, uint32_t n)
{
	memset(ts, 0, sizeof(*ts));
	if (n > 1u << ID_BITS)
		return -EINVAL;
	ts->t = calloc(n, sizeof(*ts->t));
	if (!ts->t)
		return -ENOMEM;
	ts->n = n;
	for (uint32_t i = 0; i < n; i++)
		ts->t[i].fd = -1;
	return 0;
}

/* Our descriptor goes; a copy of the application's would report its hang-up for ever. */
static void let_go(const struct kp_token_watch *w, struct kp_tokens *ts, struct kp_token *t)
{
	if (t->fd < 0)
		return;
	epoll_ctl(w->epfd, EPOLL_CTL_DEL, t->fd, NULL);
	toe_close_later(t->fd);
	t->fd = -1;
	ts->live_n--;
}

void kp_tokens_free(const struct kp_token_watch *w, struct kp_tokens *ts)
{
	for (uint32_t i = 0; i < ts->n; i++)
		let_go(w, ts, &ts->t[i]);
	free(ts->t);
	memset(ts, 0, sizeof(*ts));
}

/* A connected UNIX stream or packet socket: others do not hang up, or could be sent to by name. */
static int check_far_end(int fd)
{
	struct sockaddr_un peer;
	socklen_t peer_len = sizeof(peer);
	int domain = -1;
	int type = -1;
	socklen_t len = sizeof(int);

	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) < 0 || domain != AF_UNIX)
		return -ENOTSOCK;
	len = sizeof(int);
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 ||
	    (type != SOCK_SEQPACKET && type != SOCK_STREAM))
		return -EINVAL;
	if (getpeername(fd, (struct sockaddr *)&peer, &peer_len) < 0)
		return -ENOTCONN;
	return 0;
}

static int name_far_end(const struct kp_token_watch *w, int fd, const struct kp_token_event *who)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	socklen_t len = offsetof(struct sockaddr_un, sun_path) + 1 + NAME_BYTES;

	snprintf(sa.sun_path + 1, sizeof(sa.sun_path) - 1, NAME_FMT, w->nonce, who->app_id, who->id,
		 who->serial);
	return bind(fd, (const struct sockaddr *)&sa, len) < 0 ? -errno : 0;
}

static int name_randomly(const struct kp_token_watch *w, int fd, struct kp_token_event *who)
{
	int rc = -EADDRINUSE;

	for (int i = 0; i < NAME_TRIES && rc == -EADDRINUSE; i++) {
		if (getrandom(&who->serial, sizeof(who->serial), 0) != sizeof(who->serial))
			return -EIO;
		rc = name_far_end(w, fd, who);
	}
	return rc;
}

static uint32_t lowest_free(struct kp_tokens *ts)
{
	while (ts->low < ts->n && ts->t[ts->low].state != KP_TOKEN_FREE)
		ts->low++;
	return ts->low;
}

int kp_token_add(const struct kp_token_watch *w, struct kp_tokens *ts, uint32_t app_id, int fd)
{
	struct kp_token_event who = {.app_id = app_id, .id = lowest_free(ts)};
	struct epoll_event ev = {.events = 0};
	int rc = check_far_end(fd);

	if (rc < 0)
		return rc;
	if (who.id >= ts->n)
		return -ENOSPC;
	rc = name_randomly(w, fd, &who);
	if (rc < 0)
		return rc;
	/* a stray raw write to the near end gets EPIPE instead of filling our memory */
	if (shutdown(fd, SHUT_RD) < 0)
		return -errno;
	ev.data.u64 = (uint64_t)app_id << 56 | (uint64_t)who.id << 32 | who.serial;
	if (epoll_ctl(w->epfd, EPOLL_CTL_ADD, fd, &ev) < 0)
		return -errno;
	ts->t[who.id] = (struct kp_token){.fd = fd, .serial = who.serial, .state = KP_TOKEN_LIVE};
	ts->live_n++;
	return (int)who.id;
}

static void set_free(struct kp_tokens *ts, uint32_t id)
{
	ts->t[id].state = KP_TOKEN_FREE;
	if (id < ts->low)
		ts->low = id;
}

void kp_token_undo(const struct kp_token_watch *w, struct kp_tokens *ts, uint32_t id)
{
	if (id >= ts->n || ts->t[id].state != KP_TOKEN_LIVE)
		return;
	let_go(w, ts, &ts->t[id]);
	set_free(ts, id);
}

int kp_token_identify(const struct kp_token_watch *w, int near_fd, struct kp_token_event *who)
{
	struct sockaddr_un sa;
	socklen_t len = sizeof(sa);
	char name[NAME_BYTES + 1];
	uint64_t nonce;
	int used = 0;

	memset(&sa, 0, sizeof(sa));
	if (getpeername(near_fd, (struct sockaddr *)&sa, &len) < 0)
		return errno == ENOTSOCK ? -ENOTSOCK : -ENOENT;
	if (sa.sun_family != AF_UNIX || sa.sun_path[0] != '\0' ||
	    len != offsetof(struct sockaddr_un, sun_path) + 1 + NAME_BYTES)
		return -ENOENT;
	memcpy(name, sa.sun_path + 1, NAME_BYTES);
	name[NAME_BYTES] = '\0';
	if (sscanf(name, "toe-%16" SCNx64 "-%2x-%6x-%8x%n", &nonce, &who->app_id, &who->id,
		   &who->serial, &used) != 4 ||
	    used != NAME_BYTES || nonce != w->nonce)
		return -ENOENT;
	return 0;
}

bool kp_token_valid(const struct kp_tokens *ts, const struct kp_token_event *who)
{
	return who->id < ts->n && ts->t[who->id].state == KP_TOKEN_LIVE &&
	       ts->t[who->id].serial == who->serial;
}

unsigned kp_token_poll(struct kp_token_watch *w, struct kp_token_event *ev, unsigned max)
{
	struct epoll_event got[64];
	int n = epoll_wait(w->epfd, got, max < 64 ? (int)max : 64, 0);

	for (int i = 0; i < n; i++) {
		uint64_t tag = got[i].data.u64;

		ev[i].app_id = (uint32_t)(tag >> 56);
		ev[i].id = (uint32_t)(tag >> 32) & ((1u << ID_BITS) - 1);
		ev[i].serial = (uint32_t)tag;
	}
	return n > 0 ? (unsigned)n : 0;
}

bool kp_token_hup(const struct kp_token_watch *w, struct kp_tokens *ts,
		  const struct kp_token_event *ev)
{
	struct kp_token *t;

	if (!kp_token_valid(ts, ev))
		return false;
	t = &ts->t[ev->id];
	let_go(w, ts, t);
	t->state = KP_TOKEN_HUNG;
	if (ts->hung_n++ == 0 || ev->id < ts->hung_at)
		ts->hung_at = ev->id;
	return true;
}

unsigned kp_tokens_tell(struct kp_tokens *ts, uint32_t *ids, unsigned max)
{
	unsigned n = 0;

	for (; n < max && ts->hung_n > 0 && ts->hung_at < ts->n; ts->hung_at++) {
		if (ts->t[ts->hung_at].state != KP_TOKEN_HUNG)
			continue;
		ts->t[ts->hung_at].state = KP_TOKEN_TOLD;
		ts->hung_n--;
		ids[n++] = ts->hung_at;
	}
	return n;
}

void kp_tokens_rewind(struct kp_tokens *ts)
{
	ts->hung_n = 0;
	ts->hung_at = 0;
	for (uint32_t i = 0; i < ts->n; i++) {
		if (ts->t[i].state == KP_TOKEN_TOLD)
			ts->t[i].state = KP_TOKEN_HUNG;
		ts->hung_n += ts->t[i].state == KP_TOKEN_HUNG;
	}
}

int kp_token_release(struct kp_tokens *ts, uint32_t id)
{
	if (id >= ts->n)
		return -EINVAL;
	if (ts->t[id].state == KP_TOKEN_HUNG)
		ts->hung_n--;
	else if (ts->t[id].state != KP_TOKEN_TOLD)
		return -EINVAL;
	set_free(ts, id);
	return 0;
}
