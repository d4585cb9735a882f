// SPDX-License-Identifier: BSD-3-Clause
/*
 * Pointers to libc's own (or the next library's) definitions of what we export.
 *
 * In: intercept.def; out: lt_real_fns.  Filled on first use, by whatever thread or constructor
 * comes first; filling twice stores the same values.  What this libc does not have fails with
 * ENOSYS.
 */
#include <dlfcn.h>
#include <string.h>

#include "libtoe/lt.h"

struct lt_real lt_real_fns;

static long missing(void)
{
	errno = ENOSYS;
	return -1;
}

static void resolve(void *where, const char *name)
{
	void *fn = dlsym(RTLD_NEXT, name);

	if (!fn)
		*(long (**)(void))(&fn) = missing;
	__atomic_store((void **)where, &fn, __ATOMIC_RELEASE);
}

void lt_real_resolve(void)
{
	int saved = errno;

#define LT_FN(ret, name, params, args) resolve(&lt_real_fns.name, #name);
#include "libtoe/intercept.def"
#undef LT_FN
	resolve(&lt_real_fns.fcntl, "fcntl");
	resolve(&lt_real_fns.fcntl64, "fcntl64");
	resolve(&lt_real_fns.ioctl, "ioctl");
	errno = saved;
}
