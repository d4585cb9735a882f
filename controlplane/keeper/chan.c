// SPDX-License-Identifier: BSD-3-Clause
/*
 * One SOCK_SEQPACKET message socket in the loop.
 *
 * In: packets of a peer that may be hostile; out: whole messages to on_msg, at most READ_BUDGET per
 * turn of the loop so that nobody starves the others.  What cannot be sent at once is queued with
 * duplicates of its descriptors.  Owns the socket and the queue.  Runs on the keeper's only thread.
 */
#include "chan.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/closer.h"

#define READ_BUDGET 16

struct kp_out {
	struct kp_out *next;
	struct toe_ctl_msg msg;
	unsigned nfds;
	int fds[];
};

#define SCM_FDS_MAX 253 /* the kernel's; what has no room it closes in our name, which may wait */
#define SCM_PIDFD   4   /* as <linux/socket.h> of Linux 6.5 */

/* Credentials come along too if the peer's side of a shared socket asked for them. */
#define CTRL_BYTES                                                                                 \
	(CMSG_SPACE(SCM_FDS_MAX * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred)) +                \
	 CMSG_SPACE(sizeof(int)))

union ctrl_buf {
	struct cmsghdr align;
	char bytes[CTRL_BYTES];
};

static int send_now(int sock, struct toe_ctl_msg *m, const int *fds, unsigned nfds)
{
	struct iovec iov = {.iov_base = m, .iov_len = sizeof(*m)};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};
	union ctrl_buf ctrl;
	ssize_t n;

	m->nfds = (uint16_t)nfds;
	if (nfds > 0) {
		struct cmsghdr *c;

		memset(&ctrl, 0, sizeof(ctrl));
		mh.msg_control = ctrl.bytes;
		mh.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		c = CMSG_FIRSTHDR(&mh);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
	}
	do {
		n = sendmsg(sock, &mh, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	if (n == (ssize_t)sizeof(*m))
		return 0;
	return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) ? -EAGAIN : -EPIPE;
}

/* The peer may have made them so that close() waits. */
static void close_all(const int *fds, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		toe_close_later(fds[i]);
}

/* A shared end also lets the peer ask for a descriptor of the sender on each message. */
static void refuse_pidfd(const struct cmsghdr *c)
{
	int fd;

	if (c->cmsg_type != SCM_PIDFD || c->cmsg_len < CMSG_LEN(sizeof(fd)))
		return;
	memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	close_all(&fd, 1);
}

static unsigned take_fds(struct msghdr *mh, int *fds)
{
	unsigned n = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR(mh, c)) {
		unsigned here;

		if (c->cmsg_level != SOL_SOCKET)
			continue;
		if (c->cmsg_type != SCM_RIGHTS) {
			refuse_pidfd(c);
			continue;
		}
		here = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds + n, CMSG_DATA(c), here * sizeof(int));
		n += here;
	}
	return n;
}

/* As toe_ctl_recv(), but never waits, whatever the flags of the open file. */
static int recv_now(int sock, struct toe_ctl_msg *m, int *fds, unsigned *nfds)
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

	*nfds = 0;
	do {
		n = recvmsg(sock, &mh, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK ? -EAGAIN : -ECONNRESET;
	got_n = take_fds(&mh, got);
	if (n == 0)
		rc = -ECONNRESET;
	else if (n != (ssize_t)sizeof(*m) || (mh.msg_flags & MSG_TRUNC))
		rc = -EMSGSIZE;
	else if (got_n > TOE_CTL_FDS_MAX || (mh.msg_flags & MSG_CTRUNC))
		rc = -EMFILE;
	else if (m->magic != TOE_CTL_MAGIC || m->abi_version != TOE_ABI_VERSION ||
		 m->abi_fingerprint != TOE_ABI_FINGERPRINT || m->nfds != got_n)
		rc = -EPROTO;
	if (rc < 0) {
		close_all(got, got_n);
		return rc;
	}
	memcpy(fds, got, got_n * sizeof(int));
	*nfds = got_n;
	return 0;
}

static void on_poll(uv_poll_t *h, int status, int events);

static void update_events(struct kp_chan *ch)
{
	int want = 0;

	if (ch->fd < 0)
		return;
	if (ch->out_pause == 0 || ch->out_n < ch->out_pause)
		want |= UV_READABLE;
	if (ch->out)
		want |= UV_WRITABLE;
	if (want != ch->events) {
		ch->events = want;
		uv_poll_start(&ch->poll, want, on_poll);
	}
}

/* One message: false if there is none, or no channel any more. */
static bool read_one(struct kp_chan *ch)
{
	struct toe_ctl_msg m;
	int fds[TOE_CTL_FDS_MAX];
	unsigned nfds;
	int rc;

	memset(&m, 0, sizeof(m));
	rc = recv_now(ch->fd, &m, fds, &nfds);
	/* A peer that closed with our answers unread leaves an error before its last messages. */
	if (rc == -ECONNRESET)
		rc = recv_now(ch->fd, &m, fds, &nfds);
	if (rc == -EAGAIN)
		return false;
	if (rc < 0) {
		ch->on_end(ch, rc, &m);
		return false;
	}
	ch->on_msg(ch, &m, fds, nfds);
	close_all(fds, nfds);
	return ch->fd >= 0;
}

static void write_queued(struct kp_chan *ch)
{
	while (ch->out) {
		struct kp_out *o = ch->out;
		int rc = send_now(ch->fd, &o->msg, o->fds, o->nfds);

		if (rc == -EAGAIN)
			return;
		/* A broken peer shows at reading; what it sent before still counts. */
		ch->out = o->next;
		if (!ch->out)
			ch->out_tail = &ch->out;
		ch->out_n--;
		close_all(o->fds, o->nfds);
		free(o);
	}
	if (ch->on_drain)
		ch->on_drain(ch);
}

static void on_poll(uv_poll_t *h, int status, int events)
{
	struct kp_chan *ch = h->data;

	if (status < 0)
		events = UV_READABLE;
	if (events & UV_WRITABLE)
		write_queued(ch);
	for (int i = 0; (events & UV_READABLE) && i < READ_BUDGET && ch->fd >= 0; i++) {
		if (!read_one(ch))
			break;
	}
	update_events(ch);
}

int kp_chan_open(struct kp_chan *ch, uv_loop_t *loop, int fd)
{
	int rc = uv_poll_init(loop, &ch->poll, fd);

	if (rc < 0)
		return rc;
	ch->poll.data = ch;
	ch->fd = fd;
	ch->events = 0;
	ch->out = NULL;
	ch->out_tail = &ch->out;
	ch->out_n = 0;
	update_events(ch);
	return 0;
}

static void on_close(uv_handle_t *h)
{
	struct kp_chan *ch = h->data;

	if (ch->on_closed)
		ch->on_closed(ch);
}

void kp_chan_close(struct kp_chan *ch)
{
	if (ch->fd < 0)
		return;
	uv_poll_stop(&ch->poll);
	uv_close((uv_handle_t *)&ch->poll, on_close);
	toe_close_later(ch->fd); /* unread messages may carry descriptors */
	ch->fd = -1;
	while (ch->out) {
		struct kp_out *o = ch->out;

		ch->out = o->next;
		close_all(o->fds, o->nfds);
		free(o);
	}
	ch->out_tail = &ch->out;
	ch->out_n = 0;
}

void kp_chan_drain(struct kp_chan *ch)
{
	while (ch->fd >= 0 && read_one(ch))
		;
}

static int queue(struct kp_chan *ch, const struct toe_ctl_msg *m, const int *fds, unsigned nfds)
{
	struct kp_out *o;

	if (nfds > 0 && ch->fds_at_once)
		return -EMFILE;
	o = malloc(sizeof(*o) + nfds * sizeof(int));
	if (!o)
		return -ENOMEM;
	o->next = NULL;
	o->msg = *m;
	o->nfds = nfds;
	for (unsigned i = 0; i < nfds; i++) {
		o->fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
		if (o->fds[i] < 0) {
			close_all(o->fds, i);
			free(o);
			return -EMFILE;
		}
	}
	*ch->out_tail = o;
	ch->out_tail = &o->next;
	ch->out_n++;
	update_events(ch);
	return 0;
}

int kp_chan_send(struct kp_chan *ch, struct toe_ctl_msg *m, const int *fds, unsigned nfds)
{
	int rc = -EAGAIN;

	if (ch->fd < 0)
		return -EPIPE;
	if (nfds > TOE_CTL_FDS_MAX)
		return -EINVAL;
	if (!ch->out)
		rc = send_now(ch->fd, m, fds, nfds);
	return rc == -EAGAIN ? queue(ch, m, fds, nfds) : rc;
}
