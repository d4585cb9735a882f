/* SPDX-License-Identifier: BSD-3-Clause */
/* The one line by which start-up code says what is wrong and how to fix it. */
#ifndef TOE_FAIL_H
#define TOE_FAIL_H

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

/* Formats into err; always -1, so that it can be returned. */
__attribute__((format(printf, 3, 4))) static inline int fail(char *err, size_t err_len,
							     const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(err, err_len, fmt, ap);
	va_end(ap);
	return -1;
}

#endif
