// SPDX-License-Identifier: BSD-3-Clause
/*
 * Tells a service manager how the engine is: sd_notify(3), without its library.
 *
 * In: environment NOTIFY_SOCKET; out: one datagram each.  Only in the foreground is the keeper the
 * process that the manager has started and believes.  State: kp->notify.
 */
#include "keeper.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/log.h"

#define NOTIFY_ENV "NOTIFY_SOCKET"

void kp_notify_init(struct kp_keeper *kp, bool foreground)
{
	const char *path = getenv(NOTIFY_ENV);

	if (foreground && path && strlen(path) < sizeof(kp->notify))
		snprintf(kp->notify, sizeof(kp->notify), "%s", path);
	unsetenv(NOTIFY_ENV); /* the children have nothing to say there */
}

void kp_notify(const struct kp_keeper *kp, const char *state, const char *status)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	const size_t len = strlen(kp->notify);
	char text[KP_ERR_BYTES + 32];
	int fd;

	if (len == 0)
		return;
	snprintf(text, sizeof(text), "%s\nSTATUS=%s", state, status);
	memcpy(sa.sun_path, kp->notify, len);
	if (sa.sun_path[0] == '@')
		sa.sun_path[0] = '\0'; /* abstract */
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || sendto(fd, text, strlen(text), MSG_DONTWAIT, (struct sockaddr *)&sa,
			     (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) < 0)
		LOG_WARN("%s %s: %s; the service manager does not know: %s", NOTIFY_ENV, kp->notify,
			 strerror(errno), state);
	if (fd >= 0)
		close(fd);
}
