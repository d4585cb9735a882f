/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Tells ThreadSanitizer of a hand-over inside a DPDK library, which is not instrumented: an object
 * given to a pool by one thread and taken by another.  Nothing in other builds.
 */
#ifndef TOE_TSAN_H
#define TOE_TSAN_H

#ifdef __SANITIZE_THREAD__
void __tsan_acquire(void *p);
void __tsan_release(void *p);
#define TOE_TSAN_GIVE(p) __tsan_release(p)
#define TOE_TSAN_TAKE(p) __tsan_acquire(p)
#else
#define TOE_TSAN_GIVE(p) ((void)0)
#define TOE_TSAN_TAKE(p) ((void)0)
#endif

#endif
