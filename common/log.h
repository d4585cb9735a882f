/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One-line messages for people.  Stderr, with a timestamp and the program's name when it is not a
 * terminal.  Not for the data path: stages count, they do not print.  Thread-safe.
 */
#ifndef TOE_LOG_H
#define TOE_LOG_H

#include <stdbool.h>

enum toe_log_level { TOE_LOG_ERROR, TOE_LOG_WARN, TOE_LOG_INFO, TOE_LOG_DEBUG };

/* name: program name on each line (kept by reference).  Level from environment TOE_LOG
 * (error|warn|info|debug), default info. */
void toe_log_init(const char *name);
void toe_log(enum toe_log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define LOG_ERROR(...) toe_log(TOE_LOG_ERROR, __VA_ARGS__)
#define LOG_WARN(...)  toe_log(TOE_LOG_WARN, __VA_ARGS__)
#define LOG_INFO(...)  toe_log(TOE_LOG_INFO, __VA_ARGS__)
#define LOG_DEBUG(...) toe_log(TOE_LOG_DEBUG, __VA_ARGS__)

/* Always on: initialisation and control paths, our own invariants. Prints and aborts. */
#define TOE_CHECK(cond)                                                                            \
	do {                                                                                       \
		if (__builtin_expect(!(cond), 0))                                                  \
			toe_check_failed(#cond, __FILE__, __LINE__);                               \
	} while (0)
void toe_check_failed(const char *cond, const char *file, int line) __attribute__((noreturn));

/* Hot paths: only in test builds (-DTOE_DEBUG). */
#ifdef TOE_DEBUG
#define TOE_ASSERT(cond) TOE_CHECK(cond)
#else
#define TOE_ASSERT(cond) ((void)sizeof(!(cond)))
#endif

#endif
