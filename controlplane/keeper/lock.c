// SPDX-License-Identifier: BSD-3-Clause
/*
 * Lock files: whose a run directory and a port are.
 *
 * In: path; out: the locked descriptor, or -errno and who has it.  The owner's lock is exclusive.
 * `toe status` and `toe down` take a shared one for a moment, to see if there is an owner: that is
 * waited for.  No state.
 */
#include "setup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#define LOOK_MS 10

/* 0, -EBUSY: it has an owner, -EAGAIN: somebody looks, -errno. */
static int try_lock(int fd)
{
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	if (errno != EWOULDBLOCK)
		return -errno;
	if (flock(fd, LOCK_SH | LOCK_NB) == 0)
		return -EAGAIN; /* our own goes with the descriptor */
	return errno == EWOULDBLOCK ? -EBUSY : -errno;
}

int kp_lock_file(const char *path, unsigned mode, int patience_ms)
{
	const struct timespec pause = {.tv_nsec = LOOK_MS * 1000000L};

	for (int ms = 0;;) {
		struct stat at_path;
		struct stat opened;
		int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, mode);
		int rc;

		if (fd < 0)
			return -errno;
		rc = try_lock(fd);
		if (rc == 0 && stat(path, &at_path) == 0 && fstat(fd, &opened) == 0 &&
		    at_path.st_ino == opened.st_ino)
			return fd;
		close(fd);
		if (rc == -EAGAIN && ms < patience_ms) {
			nanosleep(&pause, NULL);
			ms += LOOK_MS;
		} else if (rc < 0) {
			return rc;
		}
	}
}

void kp_lock_why(const char *path, int error, char *buf, size_t len)
{
	if (error == -EAGAIN)
		snprintf(buf, len, "process %d keeps %s locked: end it, and try again",
			 (int)kp_lock_holder(path), path);
	else
		snprintf(buf, len, "%s: %s", path, strerror(-error));
}

pid_t kp_lock_holder(const char *path)
{
	char line[160];
	struct stat st;
	pid_t found = 0;
	FILE *f = stat(path, &st) == 0 ? fopen("/proc/locks", "re") : NULL;

	while (f && found == 0 && fgets(line, sizeof(line), f)) {
		unsigned maj, min;
		unsigned long ino;
		int pid;

		if (sscanf(line, "%*d: FLOCK %*s %*s %d %x:%x:%lu", &pid, &maj, &min, &ino) == 4 &&
		    maj == major(st.st_dev) && min == minor(st.st_dev) && ino == st.st_ino)
			found = pid;
	}
	if (f)
		fclose(f);
	return found;
}
