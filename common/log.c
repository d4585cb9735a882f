// SPDX-License-Identifier: BSD-3-Clause
/*
 * One-line messages to stderr and the failing end of TOE_CHECK.
 *
 * In: printf-style calls from any thread.  Out: one write(2) per line, so that lines of several
 * threads and processes do not mix.  Owns the name and level of this process; both are set once
 * at start.  No stdio: it works after fork, inside libtoe, and with stdio locks held.
 */
#include "common/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/raw_sys.h"

static const char *log_name = "toe";
static enum toe_log_level log_level = TOE_LOG_INFO;
static bool log_stamp;

static const char *const level_names[] = {"error", "warn", "info", "debug"};

void toe_log_init(const char *name)
{
	const char *want = getenv("TOE_LOG");

	log_name = name;
	log_stamp = !isatty(STDERR_FILENO);
	log_level = TOE_LOG_INFO;
	for (unsigned i = 0; want && i < sizeof(level_names) / sizeof(level_names[0]); i++) {
		if (strcmp(want, level_names[i]) == 0)
			log_level = (enum toe_log_level)i;
	}
}

/* snprintf that returns the new end, never beyond len - 1. */
static size_t append(char *buf, size_t len, size_t at, int printed)
{
	if (printed < 0)
		return at;
	at += (size_t)printed;
	buf[len - 1] = '\0';
	return at < len - 1 ? at : len - 1;
}

void toe_log(enum toe_log_level level, const char *fmt, ...)
{
	char line[1024];
	size_t room = sizeof(line) - 1; /* keeps one byte for the newline */
	size_t at = 0;
	int saved = errno;
	va_list ap;

	if (level > log_level)
		return;
	if (log_stamp) {
		struct timespec ts;
		struct tm tm;

		clock_gettime(CLOCK_REALTIME, &ts);
		localtime_r(&ts.tv_sec, &tm);
		at = append(line, room, at,
			    snprintf(line, room, "%02d:%02d:%02d.%03ld %s[%d] ", tm.tm_hour,
				     tm.tm_min, tm.tm_sec, ts.tv_nsec / 1000000, log_name,
				     (int)getpid()));
	} else {
		at = append(line, room, at, snprintf(line, room, "%s: ", log_name));
	}
	if (level != TOE_LOG_INFO)
		at = append(line, room, at,
			    snprintf(line + at, room - at, "%s: ", level_names[level]));
	errno = saved; /* for %m */
	va_start(ap, fmt);
	at = append(line, room, at, vsnprintf(line + at, room - at, fmt, ap));
	va_end(ap);
	line[at++] = '\n';
	/* if stderr is gone there is nowhere left to say so */
	(void)!raw_write(STDERR_FILENO, line, at);
	errno = saved;
}

void toe_check_failed(const char *cond, const char *file, int line)
{
	toe_log(TOE_LOG_ERROR, "internal error at %s:%d: %s does not hold", file, line, cond);
	abort();
}
