/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Idle sleep of an lcore: one epoll set with its own eventfd and whatever its stages watch (packet
 * sockets of the port, TAP, kick sockets).  Level-triggered on purpose: an af_packet ring that
 * already holds a frame when the lcore goes to sleep reports readable at once (checked on
 * TPACKET_V2 rings: packet_poll() looks at the newest frame of the ring).  Waited on by the owning
 * lcore; watch and wake come from any thread.
 */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"
#include "idle.h"

#define EVENTS_MAX 16

int toe_idle_init(struct toe_idle *i)
{
	int rc;

	atomic_init(&i->sleeping, 0);
	i->event_fd = -1;
	i->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (i->epoll_fd < 0)
		return -errno;
	i->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	rc = i->event_fd < 0 ? -errno : toe_idle_watch(i, i->event_fd);
	if (rc != 0)
		toe_idle_fini(i);
	return rc;
}

void toe_idle_fini(struct toe_idle *i)
{
	if (i->event_fd >= 0)
		close(i->event_fd);
	if (i->epoll_fd >= 0)
		close(i->epoll_fd);
	i->event_fd = -1;
	i->epoll_fd = -1;
}

int toe_idle_watch(struct toe_idle *i, int fd)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};

	if (epoll_ctl(i->epoll_fd, EPOLL_CTL_ADD, fd, &ev) != 0 && errno != EEXIST)
		return -errno;
	return 0;
}

void toe_idle_unwatch(struct toe_idle *i, int fd)
{
	epoll_ctl(i->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

/* A transient socket error (interface went down) is taken, so that it is reported once; anything
 * that would stay "ready" for ever is forgotten, or the lcore could never sleep again. */
static void handle_trouble(struct toe_idle *i, const struct epoll_event *ev)
{
	int err = 0;
	socklen_t len = sizeof(err);

	if ((ev->events & EPOLLHUP) == 0 &&
	    getsockopt(ev->data.fd, SOL_SOCKET, SO_ERROR, &err, &len) == 0)
		return;
	toe_idle_unwatch(i, ev->data.fd);
}

bool toe_idle_wait(struct toe_idle *i, uint64_t ns)
{
	struct epoll_event ev[EVENTS_MAX];
	struct timespec ts = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
	int n = epoll_pwait2(i->epoll_fd, ev, EVENTS_MAX, &ts, NULL);

	if (n < 0 && errno == ENOSYS) /* Linux before 5.11: whole milliseconds, rounded up */
		n = epoll_wait(i->epoll_fd, ev, EVENTS_MAX, (int)((ns + 999999u) / 1000000u));
	for (int k = 0; k < n; k++) {
		uint64_t value;

		if (ev[k].data.fd == i->event_fd)
			TOE_CHECK(read(i->event_fd, &value, sizeof(value)) == sizeof(value) ||
				  errno == EAGAIN);
		else if ((ev[k].events & (EPOLLERR | EPOLLHUP)) != 0)
			handle_trouble(i, &ev[k]);
	}
	return n != 0;
}

void toe_idle_kick(struct toe_idle *i)
{
	const uint64_t one = 1;
	/* Cannot block: the counter would have to reach 2^64 - 1.  Async-signal-safe. */
	ssize_t rc = write(i->event_fd, &one, sizeof(one));

	(void)rc;
}
