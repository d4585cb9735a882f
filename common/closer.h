/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Closing descriptors that a stranger gave us, or could put descriptors into.
 *
 * The last close of a TCP socket with SO_LINGER waits as long as its owner likes, that of a file on
 * a FUSE mount until the owner's program answers, and closing a UNIX socket closes the descriptors
 * in its queue.  A thread that must not wait hands such descriptors over.
 */
#ifndef TOE_CLOSER_H
#define TOE_CLOSER_H

#define TOE_CLOSER_THREADS 32u /* each may wait for one hostile descriptor */

/* Closes fd, now or later, on another thread; never waits.  Harmless if fd < 0. */
void toe_close_later(int fd);

/* Descriptors handed over and not closed yet: they still count against RLIMIT_NOFILE. */
unsigned toe_close_waiting(void);

#endif
