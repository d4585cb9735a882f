// SPDX-License-Identifier: BSD-3-Clause
/* LINK: controlplane/keeper/token.c common/closer.c */
/*
 * Tokens: lowest free id, hang-up only when the last copy of the near end is closed, told once and
 * again after a restart, ids back when released, claims by the near end, hostile far ends refused.
 */
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "controlplane/keeper/token.h"

#define APP 9u

struct rig {
	struct kp_token_watch w;
	struct kp_tokens ts;
};

static void open_rig(struct rig *r, uint32_t n)
{
	assert_int_equal(kp_token_watch_init(&r->w), 0);
	assert_int_equal(kp_tokens_init(&r->ts, n), 0);
}

static void close_rig(struct rig *r)
{
	kp_tokens_free(&r->w, &r->ts);
	close(r->w.epfd);
}

/* A new token: its near end. */
static int add(struct rig *r, int *id)
{
	int p[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, p), 0);
	*id = kp_token_add(&r->w, &r->ts, APP, p[1]);
	if (*id < 0)
		close(p[1]);
	return p[0];
}

static unsigned hups(struct rig *r)
{
	struct kp_token_event ev[64];
	unsigned n = kp_token_poll(&r->w, ev, 64);
	unsigned news = 0;

	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(ev[i].app_id, APP);
		news += kp_token_hup(&r->w, &r->ts, &ev[i]);
	}
	return news;
}

static void test_life(void **state)
{
	struct rig r;
	uint32_t ids[4];
	int near[4];
	int copy;
	int id;

	(void)state;
	open_rig(&r, 3);
	for (int i = 0; i < 3; i++) {
		near[i] = add(&r, &id);
		assert_int_equal(id, i);
	}
	near[3] = add(&r, &id);
	assert_int_equal(id, -ENOSPC);
	close(near[3]);
	copy = dup(near[1]);
	close(near[1]);
	assert_int_equal(hups(&r), 0); /* somebody still has it */
	close(copy);
	assert_int_equal(hups(&r), 1);
	assert_int_equal(hups(&r), 0);
	assert_int_equal(r.ts.live_n, 2);
	assert_int_equal(kp_tokens_tell(&r.ts, ids, 4), 1);
	assert_int_equal(ids[0], 1);
	assert_int_equal(kp_tokens_tell(&r.ts, ids, 4), 0);
	kp_tokens_rewind(&r.ts); /* another control plane */
	assert_int_equal(kp_tokens_tell(&r.ts, ids, 4), 1);
	near[3] = add(&r, &id);
	assert_int_equal(id, -ENOSPC); /* not before it is released */
	close(near[3]);
	assert_int_equal(kp_token_release(&r.ts, 1), 0);
	assert_int_equal(kp_token_release(&r.ts, 1), -EINVAL);
	assert_int_equal(kp_token_release(&r.ts, 0), -EINVAL); /* alive */
	assert_int_equal(kp_token_release(&r.ts, 99), -EINVAL);
	near[1] = add(&r, &id);
	assert_int_equal(id, 1);
	for (int i = 0; i < 3; i++)
		close(near[i]);
	assert_int_equal(hups(&r), 3);
	assert_int_equal(kp_tokens_tell(&r.ts, ids, 2), 2);
	assert_int_equal(kp_tokens_tell(&r.ts, ids, 2), 1);
	assert_int_equal(ids[0], 2);
	close_rig(&r);
}

static void test_released_while_hung(void **state)
{
	struct rig r;
	uint32_t ids[4];
	int near;
	int id;

	(void)state;
	open_rig(&r, 4);
	near = add(&r, &id);
	close(near);
	assert_int_equal(hups(&r), 1);
	assert_int_equal(kp_token_release(&r.ts, (uint32_t)id), 0);
	assert_int_equal(kp_tokens_tell(&r.ts, ids, 4), 0);
	close_rig(&r);
}

static void test_stale_event(void **state)
{
	struct kp_token_event old;
	struct rig r;
	int near;
	int id;

	(void)state;
	open_rig(&r, 4);
	near = add(&r, &id);
	close(near);
	assert_int_equal(kp_token_poll(&r.w, &old, 1), 1);
	assert_true(kp_token_hup(&r.w, &r.ts, &old));
	assert_int_equal(kp_token_release(&r.ts, (uint32_t)id), 0);
	near = add(&r, &id);
	assert_false(kp_token_hup(&r.w, &r.ts, &old)); /* another use of the id */
	assert_int_equal(r.ts.live_n, 1);
	close(near);
	close_rig(&r);
}

static void test_claim(void **state)
{
	struct kp_token_event who;
	struct rig r;
	struct rig other;
	int p[2];
	int near;
	int id;

	(void)state;
	open_rig(&r, 4);
	open_rig(&other, 4);
	close(add(&r, &id));
	near = add(&r, &id);
	assert_int_equal(id, 1);
	assert_int_equal(kp_token_identify(&r.w, near, &who), 0);
	assert_int_equal(who.app_id, APP);
	assert_int_equal(who.id, 1);
	assert_true(kp_token_valid(&r.ts, &who));
	assert_int_equal(kp_token_identify(&other.w, near, &who), -ENOENT); /* another engine */
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, p), 0);
	assert_int_equal(kp_token_identify(&r.w, p[0], &who), -ENOENT);
	close(p[0]);
	close(p[1]);
	assert_int_equal(pipe(p), 0);
	assert_int_equal(kp_token_identify(&r.w, p[0], &who), -ENOTSOCK);
	close(p[0]);
	close(p[1]);
	/* after the far end is closed here the name is worth nothing */
	kp_token_undo(&r.w, &r.ts, 1);
	if (kp_token_identify(&r.w, near, &who) == 0)
		assert_false(kp_token_valid(&r.ts, &who));
	close(near);
	close_rig(&r);
	close_rig(&other);
}

static void test_hostile(void **state)
{
	struct sockaddr_un any = {.sun_family = AF_UNIX};
	struct rig r;
	int p[2];
	int fd;

	(void)state;
	open_rig(&r, 4);
	assert_int_equal(pipe(p), 0);
	assert_int_equal(kp_token_add(&r.w, &r.ts, APP, p[0]), -ENOTSOCK);
	close(p[0]);
	close(p[1]);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(kp_token_add(&r.w, &r.ts, APP, fd), -ENOTSOCK);
	close(fd);
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, p), 0);
	assert_int_equal(kp_token_add(&r.w, &r.ts, APP, p[0]), -EINVAL);
	close(p[0]);
	close(p[1]);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(kp_token_add(&r.w, &r.ts, APP, fd), -ENOTCONN);
	close(fd);
	/* a far end that has a name already could lie about whose it is */
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, p), 0);
	assert_int_equal(bind(p[0], (struct sockaddr *)&any, sizeof(sa_family_t)), 0);
	assert_int_equal(kp_token_add(&r.w, &r.ts, APP, p[0]), -EINVAL);
	close(p[0]);
	close(p[1]);
	/* writing to the near end cannot fill our memory */
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, p), 0);
	assert_int_equal(kp_token_add(&r.w, &r.ts, APP, p[1]), 0);
	assert_int_equal(send(p[0], "x", 1, MSG_NOSIGNAL), -1);
	assert_int_equal(errno, EPIPE);
	close(p[0]);
	assert_int_equal(r.ts.low, 0);
	close_rig(&r);
}

/* The application keeps a copy of the far end: its open file outlives our descriptor, and its
 * hang-up must not be reported again and again. */
static void test_far_end_kept(void **state)
{
	struct kp_token_event ev[4];
	struct rig r;
	int kept[2];
	int p[2];

	(void)state;
	open_rig(&r, 4);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, p), 0);
		kept[i] = dup(p[1]);
		assert_int_equal(kp_token_add(&r.w, &r.ts, APP, p[1]), i);
		close(p[0]);
	}
	kp_token_undo(&r.w, &r.ts, 1);
	assert_int_equal(hups(&r), 1);
	assert_int_equal(kp_token_poll(&r.w, ev, 4), 0);
	assert_int_equal(r.ts.live_n, 0);
	close_rig(&r);
	close(kept[0]);
	close(kept[1]);
}

/* Names that count up could be taken by somebody else before us. */
static void test_names_cannot_be_guessed(void **state)
{
	struct sockaddr_un sa[2];
	struct rig r;
	int near[2];
	int id;

	(void)state;
	open_rig(&r, 4);
	for (int i = 0; i < 2; i++) {
		socklen_t len = sizeof(sa[i]);

		memset(&sa[i], 0, sizeof(sa[i]));
		near[i] = add(&r, &id);
		assert_int_equal(getpeername(near[i], (struct sockaddr *)&sa[i], &len), 0);
	}
	assert_true(r.ts.t[1].serial - r.ts.t[0].serial > 64 &&
		    r.ts.t[0].serial - r.ts.t[1].serial > 64);
	assert_memory_not_equal(sa[0].sun_path, sa[1].sun_path, 39);
	close(near[0]);
	close(near[1]);
	close_rig(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_life),
		cmocka_unit_test(test_released_while_hung),
		cmocka_unit_test(test_stale_event),
		cmocka_unit_test(test_claim),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_far_end_kept),
		cmocka_unit_test(test_names_cannot_be_guessed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
