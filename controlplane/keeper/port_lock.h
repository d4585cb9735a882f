/* SPDX-License-Identifier: BSD-3-Clause */
/* Names of the files that say whose a port is (setup.h); used by toe-keeper and toe. */
#ifndef KP_PORT_LOCK_H
#define KP_PORT_LOCK_H

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/config.h"

#define KP_LOCK_DIR    "/run"
#define KP_LOCK_PREFIX "toe-port-"

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

#endif
