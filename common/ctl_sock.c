// SPDX-License-Identifier: BSD-3-Clause
/*
 * Control messages over AF_UNIX SOCK_SEQPACKET, with descriptors.
 *
 * In: struct toe_ctl_msg and descriptors of the caller; out: the same from the peer, checked for
 * size, magic and version, never more descriptors than asked for.  Peers may be hostile: whatever
 * they send, no descriptor leaks and nothing is read beyond one message.  No state; any thread.
 * Used inside libtoe too, hence the raw system calls.
 */
#include "common/ctl_sock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/raw_sys.h"

/* Room for the descriptors and for credentials, which a receiver with SO_PASSCRED gets as well. */
#define CTRL_BYTES (CMSG_SPACE(TOE_CTL_FDS_MAX * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred)))

union ctrl_buf {
	struct cmsghdr align;
	char bytes[CTRL_BYTES];
};

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void close_all(const int *fds, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		raw_close(fds[i]);
}

void toe_ctl_init(struct toe_ctl_msg *m, enum toe_ctl_type type)
{
	memset(m, 0, sizeof(*m));
	m->magic = TOE_CTL_MAGIC;
	m->type = (uint16_t)type;
	m->abi_version = TOE_ABI_VERSION;
	m->abi_fingerprint = TOE_ABI_FINGERPRINT;
}

int toe_ctl_send(int sock, struct toe_ctl_msg *m, const int *fds, unsigned nfds)
{
	struct iovec iov = {.iov_base = m, .iov_len = sizeof(*m)};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};
	union ctrl_buf ctrl;
	ssize_t n;

	if (nfds > TOE_CTL_FDS_MAX)
		return -EINVAL;
	m->nfds = (uint16_t)nfds;
	if (nfds > 0) {
		size_t bytes = nfds * sizeof(int);
		struct cmsghdr *c;

		memset(&ctrl, 0, sizeof(ctrl));
		mh.msg_control = ctrl.bytes;
		mh.msg_controllen = CMSG_SPACE(bytes);
		c = CMSG_FIRSTHDR(&mh);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(bytes);
		memcpy(CMSG_DATA(c), fds, bytes);
	}
	do {
		n = raw_sendmsg(sock, &mh, MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == ECONNRESET || errno == ENOTCONN ? -EPIPE : -errno;
	return n == (ssize_t)sizeof(*m) ? 0 : -EPIPE;
}

/* Collects every descriptor of the message: the kernel never gives more than the buffer holds. */
static unsigned take_fds(struct msghdr *mh, int *fds)
{
	unsigned n = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR(mh, c)) {
		unsigned here;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		here = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		if (n + here > CTRL_BYTES / sizeof(int))
			break;
		memcpy(fds + n, CMSG_DATA(c), here * sizeof(int));
		n += here;
	}
	return n;
}

int toe_ctl_recv(int sock, struct toe_ctl_msg *m, int *fds, unsigned fds_max, unsigned *nfds)
{
	struct iovec iov = {.iov_base = m, .iov_len = sizeof(*m)};
	union ctrl_buf ctrl;
	struct msghdr mh = {.msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = ctrl.bytes,
			    .msg_controllen = sizeof(ctrl.bytes)};
	int got[CTRL_BYTES / sizeof(int)];
	unsigned got_n;
	ssize_t n;
	int rc = 0;

	if (nfds)
		*nfds = 0;
	do {
		n = raw_recvmsg(sock, &mh, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	got_n = take_fds(&mh, got);
	if (n == 0)
		rc = -ECONNRESET;
	else if (n != (ssize_t)sizeof(*m) || (mh.msg_flags & MSG_TRUNC))
		rc = -EPROTO;
	else if (got_n > fds_max || (mh.msg_flags & MSG_CTRUNC))
		rc = -EMSGSIZE;
	else if (m->magic != TOE_CTL_MAGIC || m->abi_version != TOE_ABI_VERSION || m->nfds != got_n)
		rc = -EPROTO;
	if (rc < 0) {
		close_all(got, got_n);
		return rc;
	}
	if (got_n > 0)
		memcpy(fds, got, got_n * sizeof(int));
	if (nfds)
		*nfds = got_n;
	return 0;
}

int toe_ctl_call(int sock, struct toe_ctl_msg *m, const int *send_fds, unsigned send_nfds,
		 int *recv_fds, unsigned recv_max, unsigned *recv_nfds, int timeout_ms)
{
	static uint32_t last_req;
	int64_t end = now_ms() + timeout_ms;
	uint16_t type = m->type;
	uint32_t req;
	int rc;

	if (m->req == 0)
		m->req = __atomic_add_fetch(&last_req, 1, __ATOMIC_RELAXED);
	req = m->req;
	rc = toe_ctl_send(sock, m, send_fds, send_nfds);
	if (rc < 0)
		return rc;
	for (;;) {
		int64_t left = end - now_ms();
		unsigned n = 0;

		if (left < 0)
			left = 0;
		rc = raw_poll_in(sock, (int)left);
		if (rc < 0 && errno == EINTR)
			continue;
		if (rc <= 0)
			return rc < 0 ? -errno : -ETIMEDOUT;
		rc = toe_ctl_recv(sock, m, recv_fds, recv_max, &n);
		if (rc == -EAGAIN)
			continue;
		if (rc < 0)
			return rc;
		if (m->req == req && m->type == type && m->status >= 0) {
			if (recv_nfds)
				*recv_nfds = n;
			return 0;
		}
		close_all(recv_fds, n);
		if (m->req == req && m->type == type)
			return m->status;
	}
}

static int fill_addr(struct sockaddr_un *sa, const char *path)
{
	memset(sa, 0, sizeof(*sa));
	sa->sun_family = AF_UNIX;
	if (strlen(path) >= sizeof(sa->sun_path))
		return -ENAMETOOLONG;
	memcpy(sa->sun_path, path, strlen(path) + 1);
	return 0;
}

int toe_ctl_connect(const char *path)
{
	struct sockaddr_un sa;
	int rc = fill_addr(&sa, path);
	int fd;

	if (rc < 0)
		return rc;
	fd = raw_socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC);
	if (fd < 0)
		return -errno;
	do {
		rc = raw_connect(fd, &sa);
	} while (rc < 0 && errno == EINTR);
	if (rc < 0) {
		rc = -errno;
		raw_close(fd);
		return rc;
	}
	return fd;
}

/* Binds, replacing a file that nobody listens on. */
static int bind_fresh(int fd, const struct sockaddr_un *sa)
{
	int peer;

	if (bind(fd, (const struct sockaddr *)sa, sizeof(*sa)) == 0)
		return 0;
	if (errno != EADDRINUSE)
		return -errno;
	peer = toe_ctl_connect(sa->sun_path);
	if (peer != -ECONNREFUSED) {
		if (peer >= 0)
			raw_close(peer);
		return -EADDRINUSE;
	}
	unlink(sa->sun_path);
	return bind(fd, (const struct sockaddr *)sa, sizeof(*sa)) == 0 ? 0 : -errno;
}

int toe_ctl_listen(const char *path, unsigned mode)
{
	struct sockaddr_un sa;
	int rc = fill_addr(&sa, path);
	int fd;

	if (rc < 0)
		return rc;
	fd = raw_socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC);
	if (fd < 0)
		return -errno;
	/* The file gets the socket's mode less the umask: never more than asked for, not even
	 * between bind and chmod. */
	rc = fchmod(fd, mode) == 0 ? bind_fresh(fd, &sa) : -errno;
	if (rc == 0 && (chmod(path, mode) < 0 || listen(fd, 128) < 0)) {
		rc = -errno;
		unlink(path);
	}
	if (rc < 0) {
		raw_close(fd);
		return rc;
	}
	return fd;
}

int toe_ctl_pair(int fds[2])
{
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) == 0 ? 0 : -errno;
}
