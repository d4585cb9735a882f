// SPDX-License-Identifier: BSD-3-Clause
/*
 * The exported functions.
 *
 * In: the application's calls; out: lt_<name> if this process belongs to an application of the
 * engine, else libc's own function, untouched.  No state.
 */
#include <stdarg.h>
#include <sys/ioctl.h>

#include "libtoe/lt.h"

#define LT_EXPORT __attribute__((visibility("default")))

#define LT_FN(ret, name, params, args)                                                             \
	LT_EXPORT ret name params                                                                  \
	{                                                                                          \
		if (LT_LIKELY(!lt_on))                                                             \
			return LT_REAL(name) args;                                                 \
		return lt_##name args;                                                             \
	}
#include "libtoe/intercept.def"
#undef LT_FN

/* The third argument is an int, a pointer or absent: as glibc does, a word is passed on. */
LT_EXPORT int fcntl(int fd, int cmd, ...)
{
	va_list ap;
	long arg;

	va_start(ap, cmd);
	arg = va_arg(ap, long);
	va_end(ap);
	return lt_on ? lt_fcntl(fd, cmd, arg) : LT_REAL(fcntl)(fd, cmd, arg);
}

LT_EXPORT int fcntl64(int fd, int cmd, ...)
{
	va_list ap;
	long arg;

	va_start(ap, cmd);
	arg = va_arg(ap, long);
	va_end(ap);
	return lt_on ? lt_fcntl(fd, cmd, arg) : LT_REAL(fcntl64)(fd, cmd, arg);
}

LT_EXPORT int ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	return lt_on ? lt_ioctl(fd, request, arg) : LT_REAL(ioctl)(fd, request, arg);
}
