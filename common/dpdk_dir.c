// SPDX-License-Identifier: BSD-3-Clause
/*
 * DPDK's runtime directory of one engine.
 *
 * In: run directory, and the environment, which says where DPDK looks; out: 0 or -errno.  The
 * parent may be in /tmp: nothing that somebody else owns is entered, no symbolic link followed.  No
 * state.
 */
#include "common/dpdk_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/flow_hash.h"

void toe_dpdk_prefix(const char *run_dir, char *buf, size_t len)
{
	snprintf(buf, len, "toe-%08x", toe_crc32c(run_dir, (uint32_t)strlen(run_dir), 0));
}

/* As eal_create_runtime_dir() of DPDK 22.11. */
static const char *runtime_dir(void)
{
	const char *dir = getenv("RUNTIME_DIRECTORY");

	if (!dir && getuid() == 0)
		return "/var/run";
	if (!dir)
		dir = getenv("XDG_RUNTIME_DIR");
	return dir ? dir : "/tmp";
}

/* A directory of ours: the descriptor, -errno. */
static int open_own(int parent, const char *name)
{
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) == 0 && st.st_uid == geteuid())
		return fd;
	close(fd);
	return -EPERM;
}

static bool known(const char *name)
{
	static const char *const begins[] = {"fbarray_", "mp_socket", "dpdk_telemetry.v"};

	for (size_t i = 0; i < sizeof(begins) / sizeof(begins[0]); i++) {
		if (strncmp(name, begins[i], strlen(begins[i])) == 0)
			return true;
	}
	return strcmp(name, "config") == 0 || strcmp(name, "hugepage_info") == 0 ||
	       strcmp(name, "hugepage_data") == 0;
}

/* A primary process of DPDK holds a lock on "config" as long as it lives. */
static bool in_use(int dir)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	int fd = openat(dir, "config", O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	bool used = fd >= 0 && fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;

	if (fd >= 0)
		close(fd);
	return used;
}

/* Takes dir. */
static int empty(int dir)
{
	DIR *d = fdopendir(dir);
	struct dirent *e;
	int rc = 0;

	if (!d) {
		rc = -errno;
		close(dir);
		return rc;
	}
	while ((e = readdir(d))) {
		if (known(e->d_name) && unlinkat(dir, e->d_name, 0) < 0)
			rc = -errno;
	}
	closedir(d);
	return rc;
}

int toe_dpdk_dir_remove(const char *run_dir)
{
	char path[PATH_MAX];
	char prefix[32];
	int parent;
	int dir;
	int rc;

	snprintf(path, sizeof(path), "%s/dpdk", runtime_dir());
	parent = open_own(AT_FDCWD, path);
	if (parent < 0)
		return parent == -ENOENT ? 0 : parent;
	toe_dpdk_prefix(run_dir, prefix, sizeof(prefix));
	dir = open_own(parent, prefix);
	if (dir < 0)
		rc = dir == -ENOENT ? 0 : dir;
	else if (in_use(dir)) {
		rc = -EBUSY;
		close(dir);
	} else {
		rc = empty(dir);
		if (rc == 0 && unlinkat(parent, prefix, AT_REMOVEDIR) < 0)
			rc = -errno;
	}
	close(parent);
	return rc;
}
