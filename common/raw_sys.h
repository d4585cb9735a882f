/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * System calls for code that also lives in libtoe.so, where the libc names of these calls are our
 * own wrappers: going through them from inside would recurse, or take locks that are held.
 * Results as libc's: -1 and errno.
 */
#ifndef TOE_RAW_SYS_H
#define TOE_RAW_SYS_H

#include <poll.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static inline ssize_t raw_write(int fd, const void *buf, size_t len)
{
	return syscall(SYS_write, fd, buf, len);
}

#ifdef __SANITIZE_THREAD__
int __interceptor_close(int fd);
#endif

static inline int raw_close(int fd)
{
#ifdef __SANITIZE_THREAD__
	return __interceptor_close(fd); /* TSan keeps books of descriptors, too */
#endif
	return (int)syscall(SYS_close, fd);
}

static inline int raw_socket(int family, int type)
{
	return (int)syscall(SYS_socket, family, type, 0);
}

static inline int raw_connect(int fd, const struct sockaddr_un *sa)
{
	return (int)syscall(SYS_connect, fd, sa, sizeof(*sa));
}

static inline ssize_t raw_sendmsg(int fd, const struct msghdr *m, int flags)
{
	return syscall(SYS_sendmsg, fd, m, flags);
}

static inline ssize_t raw_recvmsg(int fd, struct msghdr *m, int flags)
{
	return syscall(SYS_recvmsg, fd, m, flags);
}

/* timeout_ms < 0: for ever.  SYS_poll does not exist on arm64. */
static inline int raw_poll_in(int fd, int timeout_ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	struct timespec ts = {timeout_ms / 1000, (timeout_ms % 1000) * 1000000L};

	return (int)syscall(SYS_ppoll, &p, 1, timeout_ms < 0 ? NULL : &ts, NULL, 0);
}

#endif
