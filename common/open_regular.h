/* SPDX-License-Identifier: BSD-3-Clause */
/* Opening files that others name.  No state, any thread. */
#ifndef TOE_OPEN_REGULAR_H
#define TOE_OPEN_REGULAR_H

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* Opens for reading, never waits: what is in a pipe is somebody else's to read.  0, and *f is the
 * caller's to close; -EISDIR, -EOPNOTSUPP: no regular file; -errno. */
static inline int toe_open_regular(const char *path, FILE **f)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	int rc = 0;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		rc = -errno;
	else if (!S_ISREG(st.st_mode))
		rc = S_ISDIR(st.st_mode) ? -EISDIR : -EOPNOTSUPP;
	*f = rc == 0 ? fdopen(fd, "r") : NULL;
	if (rc == 0 && !*f)
		rc = -errno;
	if (rc < 0)
		close(fd);
	return rc;
}

#endif
