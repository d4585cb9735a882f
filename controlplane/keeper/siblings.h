/* SPDX-License-Identifier: BSD-3-Clause */
/* Where our other programs are; used by toe-keeper and toe. */
#ifndef KP_SIBLINGS_H
#define KP_SIBLINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef TOE_LIBDIR
#define TOE_LIBDIR "/usr/lib/toe"
#endif
#define TOE_ENV_LIBEXEC "TOE_LIBEXEC"

/*
 * Absolute path of "toe-keeper", "libtoe.so"... : folder TOE_LIBEXEC if that is set, else next to
 * the running program, else TOE_LIBDIR, else /usr/sbin.  False: nowhere; path then names where it
 * should have been.
 */
static inline bool toe_sibling(const char *name, char *path, size_t len)
{
	const char *env = getenv(TOE_ENV_LIBEXEC);
	char self[200];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (env && *env) {
		snprintf(path, len, "%s/%s", env, name);
		return access(path, R_OK) == 0;
	}
	self[n > 0 ? n : 0] = '\0';
	slash = strrchr(self, '/');
	if (slash) {
		*slash = '\0';
		snprintf(path, len, "%s/%s", self, name);
		if (access(path, R_OK) == 0)
			return true;
	}
	snprintf(path, len, "/usr/sbin/%s", name);
	if (access(path, R_OK) == 0)
		return true;
	snprintf(path, len, TOE_LIBDIR "/%s", name);
	return access(path, R_OK) == 0;
}

#endif
