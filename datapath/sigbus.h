/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Guard of memory that somebody else can take pages from: a touch that would be SIGBUS finds an
 * anonymous zero page instead, and the owner of the range is told.
 */
#ifndef TOE_SIGBUS_H
#define TOE_SIGBUS_H

#include <stddef.h>

/* Installs the handler.  0 or -errno. */
int toe_sigbus_init(void);

/* Guards bytes at start, which is mapped in pages of page bytes.  hit(arg) runs in the signal
 * handler: async-signal-safe, and arg lives until unwatch and one quiescent state.  One thread
 * calls watch and unwatch.  0 or -ENOSPC. */
int toe_sigbus_watch(void *start, size_t bytes, size_t page, void (*hit)(void *), void *arg);
void toe_sigbus_unwatch(const void *start);

#endif
