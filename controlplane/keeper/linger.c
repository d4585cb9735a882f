// SPDX-License-Identifier: BSD-3-Clause
/*
 * Applications between two connections: a program that replaces itself by exec closes the old one
 * before the new image opens its own, and must not lose its application by that.
 *
 * In: the process behind the last connection; out: kp_app_end() when it has exited, or after
 * LINGER_MS (its new image does not use us).  State: linger_fd, linger_until_ms of kp_app, and one
 * timer that runs while any of them waits.  Thread: the keeper's loop.
 */
#include "keeper.h"

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LINGER_MS 5000 /* an exec and the start of a program on a loaded machine */
#define TICK_MS   10

static bool has_exited(int pidfd)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};

	return poll(&p, 1, 0) != 0;
}

static void tick(uv_timer_t *t)
{
	struct kp_keeper *kp = t->data;
	bool more = false;

	for (uint32_t i = 0; i < KP_APP_N; i++) {
		struct kp_app *app = kp->apps[i];
		bool over;

		if (!app || app->linger_fd < 0)
			continue;
		over = has_exited(app->linger_fd) || uv_now(&kp->loop) >= app->linger_until_ms;
		if (app->clients == 0 && !over) {
			more = true;
			continue;
		}
		kp_linger_stop(app);
		if (app->clients == 0)
			kp_app_end(app);
	}
	if (!more)
		uv_timer_stop(t);
}

int kp_linger_init(struct kp_keeper *kp)
{
	int rc = uv_timer_init(&kp->loop, &kp->linger_timer);

	kp->linger_timer.data = kp;
	if (rc == 0)
		uv_unref((uv_handle_t *)&kp->linger_timer);
	return rc;
}

bool kp_linger_start(struct kp_app *app, pid_t pid)
{
	struct kp_keeper *kp = app->kp;
	int fd = (int)syscall(SYS_pidfd_open, pid, 0); /* close-on-exec by itself */

	if (fd < 0)
		return false;
	if (has_exited(fd)) {
		close(fd);
		return false;
	}
	kp_linger_stop(app);
	app->linger_fd = fd;
	uv_update_time(&kp->loop);
	app->linger_until_ms = uv_now(&kp->loop) + LINGER_MS;
	if (!uv_is_active((uv_handle_t *)&kp->linger_timer))
		uv_timer_start(&kp->linger_timer, tick, TICK_MS, TICK_MS);
	return true;
}

void kp_linger_stop(struct kp_app *app)
{
	if (app->linger_fd >= 0)
		close(app->linger_fd);
	app->linger_fd = -1;
}
