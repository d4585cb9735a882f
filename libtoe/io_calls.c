// SPDX-License-Identifier: BSD-3-Clause
/*
 * The calls that move bytes: read, write, recv, send and relatives, sendfile, splice.
 *
 * In: the application's arguments; out: lt_stream_recv/send for offloaded connections, libc for
 * everything else.  Errors become -1 and errno here.  No state.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "libtoe/lt.h"

#define FILE_CHUNK 16384u /* of a file per step of sendfile, on the stack */

static ssize_t posix(ssize_t rc)
{
	if (rc >= 0)
		return rc;
	errno = (int)-rc;
	return -1;
}

/* Their bytes are not in buf, or not all that are taken. */
static bool hides(int flags)
{
	return (flags & (MSG_OOB | MSG_TRUNC | MSG_ERRQUEUE)) && !(flags & MSG_PEEK);
}

/* After reading n bytes, or -1. */
static ssize_t got(int fd, const void *buf, ssize_t n, int flags)
{
	return hides(flags) || (flags & MSG_PEEK) ? n : lt_read_done(fd, buf, n);
}

/* Before a read whose bytes lie in pieces. */
static bool scatters(int fd, int flags)
{
	return (flags & MSG_PEEK) || lt_read_unseen(fd);
}

void lt_write_done_iov(int fd, const struct iovec *iov, int count, ssize_t n)
{
	if (LT_LIKELY(n <= 0 || !lt_follow_may(fd)))
		return;
	for (int i = 0; i < count && n > 0; i++) {
		ssize_t part = (size_t)n < iov[i].iov_len ? n : (ssize_t)iov[i].iov_len;

		lt_follow_wrote(fd, iov[i].iov_base, iov[i].iov_len, part, false);
		n -= part;
	}
}

static ssize_t recv_one(int fd, struct lt_sock *c, void *buf, size_t len, int flags)
{
	struct iovec iov = {buf, len};

	if (hides(flags) && !lt_read_unseen(fd))
		return posix(-ECONNRESET);
	return got(fd, buf, posix(lt_stream_recv(c, &iov, 1, flags)), flags);
}

static ssize_t send_one(int fd, struct lt_sock *c, const void *buf, size_t len, int flags)
{
	struct iovec iov = {(void *)buf, len};

	return lt_write_done(fd, buf, len, posix(lt_stream_send(c, &iov, 1, flags)));
}

static ssize_t kernel_recv(int fd, void *buf, size_t len, int flags, struct sockaddr *addr,
			   socklen_t *addr_len)
{
	ssize_t n;

	if (hides(flags) && !lt_read_unseen(fd))
		return posix(-ECONNRESET);
	n = addr_len || addr ? LT_REAL(recvfrom)(fd, buf, len, flags, addr, addr_len)
			     : LT_REAL(recv)(fd, buf, len, flags);
	return got(fd, buf, n, flags);
}

ssize_t lt_read(int fd, void *buf, size_t len)
{
	struct lt_sock c;

	if (!lt_sock_get(fd, &c))
		return lt_read_done(fd, buf, LT_REAL(read)(fd, buf, len));
	return len ? recv_one(fd, &c, buf, len, 0) : 0;
}

ssize_t lt_write(int fd, const void *buf, size_t len)
{
	struct lt_sock c;

	return lt_sock_get(fd, &c) ? send_one(fd, &c, buf, len, 0)
				   : lt_write_done(fd, buf, len, LT_REAL(write)(fd, buf, len));
}

ssize_t lt_readv(int fd, const struct iovec *iov, int n)
{
	struct lt_sock c;
	size_t sum = 0;

	if (!lt_read_unseen(fd))
		return posix(-ECONNRESET);
	if (!lt_sock_get(fd, &c))
		return LT_REAL(readv)(fd, iov, n);
	for (int i = 0; i < n && i < IOV_MAX; i++)
		sum |= iov[i].iov_len;
	/* as read(): nothing asked for is no reason to wait, other than with recv() */
	return sum || n < 0 ? posix(lt_stream_recv(&c, iov, n, 0)) : 0;
}

ssize_t lt_writev(int fd, const struct iovec *iov, int n)
{
	struct lt_sock c;
	ssize_t sent = lt_sock_get(fd, &c) ? posix(lt_stream_send(&c, iov, n, 0))
					   : LT_REAL(writev)(fd, iov, n);

	lt_write_done_iov(fd, iov, n, sent);
	return sent;
}

ssize_t lt_recv(int fd, void *buf, size_t len, int flags)
{
	struct lt_sock c;

	return lt_sock_get(fd, &c) ? recv_one(fd, &c, buf, len, flags)
				   : kernel_recv(fd, buf, len, flags, NULL, NULL);
}

ssize_t lt_send(int fd, const void *buf, size_t len, int flags)
{
	struct lt_sock c;

	return lt_sock_get(fd, &c)
		       ? send_one(fd, &c, buf, len, flags)
		       : lt_write_done(fd, buf, len, LT_REAL(send)(fd, buf, len, flags));
}

/* TCP fills in no address and ignores one when connected. */
ssize_t lt_recvfrom(int fd, void *restrict buf, size_t len, int flags, __SOCKADDR_ARG addr,
		    socklen_t *restrict addr_len)
{
	struct lt_sock c;
	ssize_t n;

	if (!lt_sock_get(fd, &c))
		return kernel_recv(fd, buf, len, flags, addr.__sockaddr__, addr_len);
	n = recv_one(fd, &c, buf, len, flags);
	if (n >= 0 && addr_len)
		*addr_len = 0;
	return n;
}

ssize_t lt_sendto(int fd, const void *buf, size_t len, int flags, __CONST_SOCKADDR_ARG addr,
		  socklen_t addr_len)
{
	struct lt_sock c;

	if (lt_sock_get(fd, &c))
		return send_one(fd, &c, buf, len, flags);
	return lt_write_done(fd, buf, len, LT_REAL(sendto)(fd, buf, len, flags, addr, addr_len));
}

/* A descriptor that arrives may be one of ours, or a listener. */
static void adopt_received(struct msghdr *msg)
{
	for (struct cmsghdr *h = CMSG_FIRSTHDR(msg); h; h = CMSG_NXTHDR(msg, h)) {
		size_t n;

		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(h) + i * sizeof(int), sizeof(fd));
			lt_adopt(fd);
		}
	}
}

static ssize_t recv_msg(struct lt_sock *c, struct msghdr *msg, int flags)
{
	ssize_t n = lt_stream_recv(c, msg->msg_iov, (int)msg->msg_iovlen, flags);

	if (n >= 0) {
		msg->msg_namelen = 0;
		msg->msg_controllen = 0;
		msg->msg_flags = flags & MSG_CMSG_CLOEXEC;
	}
	return posix(n);
}

ssize_t lt_recvmsg(int fd, struct msghdr *msg, int flags)
{
	struct lt_sock c;
	ssize_t n;

	if (!scatters(fd, flags))
		return posix(-ECONNRESET);
	if (lt_sock_get(fd, &c))
		return recv_msg(&c, msg, flags);
	n = LT_REAL(recvmsg)(fd, msg, flags);
	if (n >= 0 && msg->msg_control && msg->msg_controllen && !(flags & MSG_PEEK)) {
		int saved = errno;

		adopt_received(msg);
		errno = saved;
	}
	return n;
}

ssize_t lt_sendmsg(int fd, const struct msghdr *msg, int flags)
{
	struct lt_sock c;
	ssize_t n = lt_sock_get(fd, &c)
			    ? posix(lt_stream_send(&c, msg->msg_iov, (int)msg->msg_iovlen, flags))
			    : LT_REAL(sendmsg)(fd, msg, flags);

	if (n > 0)
		lt_write_done_iov(fd, msg->msg_iov, (int)msg->msg_iovlen, n);
	return n;
}

int lt_recvmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags, struct timespec *timeout)
{
	struct lt_sock c;
	int64_t deadline;
	unsigned i;

	if (!scatters(fd, flags))
		return (int)posix(-ECONNRESET);
	if (!lt_sock_get(fd, &c))
		return LT_REAL(recvmmsg)(fd, msgs, n, flags, timeout);
	deadline = lt_deadline_ts(timeout);
	for (i = 0; i < n; i++) {
		ssize_t got = recv_msg(&c, &msgs[i].msg_hdr, flags & ~MSG_WAITFORONE);

		if (got < 0)
			break;
		msgs[i].msg_len = (unsigned)got;
		if (flags & MSG_WAITFORONE)
			flags |= MSG_DONTWAIT;
		if (got == 0 || lt_expired(deadline))
			return (int)i + 1;
	}
	return i ? (int)i : -1;
}

int lt_sendmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags)
{
	struct lt_sock c;
	unsigned i;

	if (!lt_sock_get(fd, &c)) {
		lt_write_unseen(fd);
		return LT_REAL(sendmmsg)(fd, msgs, n, flags);
	}
	for (i = 0; i < n; i++) {
		ssize_t sent = lt_sendmsg(fd, &msgs[i].msg_hdr, flags);

		if (sent < 0)
			break;
		msgs[i].msg_len = (unsigned)sent;
	}
	return i ? (int)i : -1;
}

/* ---- fortified variants: a wrong size is libc's to report ---- */

ssize_t lt___read_chk(int fd, void *buf, size_t len, size_t room)
{
	return len > room ? LT_REAL(__read_chk)(fd, buf, len, room) : lt_read(fd, buf, len);
}

ssize_t lt___recv_chk(int fd, void *buf, size_t len, size_t room, int flags)
{
	return len > room ? LT_REAL(__recv_chk)(fd, buf, len, room, flags)
			  : lt_recv(fd, buf, len, flags);
}

ssize_t lt___recvfrom_chk(int fd, void *restrict buf, size_t len, size_t room, int flags,
			  __SOCKADDR_ARG addr, socklen_t *restrict addr_len)
{
	return len > room ? LT_REAL(__recvfrom_chk)(fd, buf, len, room, flags, addr, addr_len)
			  : lt_recvfrom(fd, buf, len, flags, addr, addr_len);
}

/* ---- sendfile, splice ---- */

/* Sends up to len bytes at pos of in.  What the connection did not take is not consumed. */
static ssize_t file_step(struct lt_sock *c, int in, off64_t pos, size_t len)
{
	uint8_t buf[FILE_CHUNK];
	struct iovec iov = {buf, 0};
	ssize_t n = pread64(in, buf, len < sizeof(buf) ? len : sizeof(buf), pos);

	if (n < 0)
		return errno == ESPIPE ? -EINVAL : -errno;
	iov.iov_len = (size_t)n;
	return n ? lt_stream_send(c, &iov, 1, 0) : 0;
}

static ssize_t send_file(struct lt_sock *c, int in, off64_t *offset, size_t count)
{
	off64_t pos = offset ? *offset : lseek64(in, 0, SEEK_CUR);
	size_t sent = 0;
	ssize_t n = 0;

	if (pos < 0)
		return offset || errno == ESPIPE ? -EINVAL : -errno;
	while (sent < count) {
		n = file_step(c, in, pos, count - sent);
		if (n <= 0)
			break;
		pos += n;
		sent += (size_t)n;
		if ((size_t)n < FILE_CHUNK && lt_nonblock(c, 0))
			break;
	}
	if (offset)
		*offset = pos;
	else if (sent)
		lseek64(in, pos, SEEK_SET);
	return sent ? (ssize_t)sent : n;
}

/* Offloaded sockets are no files: neither Linux's sendfile() from a socket nor splice() works. */
static bool from_conn(int in)
{
	struct lt_sock c;

	return lt_sock_get(in, &c);
}

ssize_t lt_sendfile64(int out, int in, off64_t *offset, size_t count)
{
	struct lt_sock c;

	if (from_conn(in)) {
		errno = EINVAL;
		return -1;
	}
	lt_write_unseen(out);
	if (!lt_sock_get(out, &c))
		return LT_REAL(sendfile64)(out, in, offset, count);
	return posix(send_file(&c, in, offset, count));
}

ssize_t lt_sendfile(int out, int in, off_t *offset, size_t count)
{
	off64_t pos = offset ? *offset : 0;
	ssize_t n = lt_sendfile64(out, in, offset ? &pos : NULL, count);

	if (offset)
		*offset = (off_t)pos;
	return n;
}

/* Callers fall back to read and write on EINVAL, as for files that cannot be spliced. */
ssize_t lt_splice(int in, off64_t *in_off, int out, off64_t *out_off, size_t len, unsigned flags)
{
	if (from_conn(in) || from_conn(out)) {
		lt_count_unsupported(TOE_UNSUP_SPLICE, 0, 0);
		errno = EINVAL;
		return -1;
	}
	if (!lt_read_unseen(in))
		return posix(-ECONNRESET);
	lt_write_unseen(out);
	return LT_REAL(splice)(in, in_off, out, out_off, len, flags);
}
