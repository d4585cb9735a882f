/* SPDX-License-Identifier: BSD-3-Clause */
/* Names of the files that say whose a port is (setup.h); used by toe-keeper and toe. */
#ifndef KP_PORT_LOCK_H
#define KP_PORT_LOCK_H

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/config.h"

#define KP_LOCK_DIR    "/run"
#define KP_LOCK_PREFIX "toe-port-"

#define KP_LOCK_MAGIC 0x33545250454f5431ull /* "1TOEPRT3" */

/* What the lock file of a port begins with: whose it is, or was if nobody holds it. */
struct kp_lock_head {
	uint64_t magic;
	int32_t pid; /* toe-keeper */
	char run_dir[128];
};

/* End of the names of our network namespace: names of interfaces are only unique within one. */
static inline void kp_lock_suffix(char *buf, size_t len)
{
	struct stat st = {0};

	stat("/proc/self/ns/net", &st);
	snprintf(buf, len, ".%llu.lock", (unsigned long long)st.st_ino);
}

static inline void kp_lock_path(const struct toe_config *cfg, char *buf, size_t len)
{
	char suffix[32];

	kp_lock_suffix(suffix, sizeof(suffix));
	if (strcmp(cfg->port_driver, "pci") == 0)
		snprintf(buf, len, KP_LOCK_DIR "/" KP_LOCK_PREFIX "%s.lock", cfg->port_pci);
	else
		snprintf(buf, len, KP_LOCK_DIR "/" KP_LOCK_PREFIX "%s%s", cfg->port_if, suffix);
}

/* Of what is read: not trusted to end in a NUL. */
static inline bool kp_lock_head_ok(struct kp_lock_head *h)
{
	h->run_dir[sizeof(h->run_dir) - 1] = '\0';
	return h->magic == KP_LOCK_MAGIC && h->run_dir[0] != '\0';
}

/* False: there is none, it may not be read, or nothing is written yet. */
static inline bool kp_lock_read(const char *path, struct kp_lock_head *h)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	bool ok = fd >= 0 && pread(fd, h, sizeof(*h), 0) == (ssize_t)sizeof(*h);

	if (fd >= 0)
		close(fd);
	return ok && kp_lock_head_ok(h);
}

#endif
