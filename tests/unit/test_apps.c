// SPDX-License-Identifier: BSD-3-Clause
/* LINK: datapath/apps.c common/closer.c datapath/sigbus.c datapath/keeper_link.c common/ctl_sock.c
 * common/log.c */
/* apps, keeper_link, sigbus: attach and detach, what a dead process leaves, punched memory. */
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#include "common/ctl_sock.h"
#include "host_rig.h"
#include "keeper_link.h"
#include "stream.h"
#include "sigbus.h"

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW)

static bool fd_open(int fd)
{
	rig_settle();
	return fcntl(fd, F_GETFD) >= 0;
}

static int try_attach(const struct toe_ctl_app *d, int seals, off_t resize)
{
	int fds[2];
	int rc;

	rig_memfds(d, 0, fds);
	if (resize != 0)
		assert_int_equal(ftruncate(fds[1], resize), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(fcntl(fds[i], F_ADD_SEALS, seals), 0);
	rc = toe_app_attach(&env.engine, d, fds);
	close(fds[0]);
	close(fds[1]);
	return rc;
}

static void test_attach_checks(void **state)
{
	struct toe_ctl_app d = rig_desc(5);
	struct toe_ctl_app bad = d;
	const int fds[2] = {0, 1};

	(void)state;
	rig_engine(4, 0);
	assert_int_equal(try_attach(&d, 0, 0), -EPERM);
	assert_int_equal(try_attach(&d, F_SEAL_GROW, 0), -EPERM);
	assert_int_equal(try_attach(&d, SEALS, 4096), -EINVAL);
	bad.hint_n = 100;
	assert_int_equal(toe_app_attach(&env.engine, &bad, fds), -EINVAL);
	bad = d;
	bad.slot_n = UINT32_MAX;
	assert_int_equal(toe_app_attach(&env.engine, &bad, fds), -EINVAL);
	bad = d;
	bad.app_id = TOE_APP_N;
	assert_int_equal(toe_app_attach(&env.engine, &bad, fds), -EINVAL);
	assert_null(toe_app_get(&env.engine, 5));
	assert_int_equal(try_attach(&d, SEALS, 0), 0);
	assert_non_null(toe_app_get(&env.engine, 5));
	assert_int_equal(try_attach(&d, SEALS, 0), -EEXIST);
	assert_int_equal(toe_app_detach(&env.engine, 5), 0);
	assert_int_equal(toe_app_detach(&env.engine, 5), -ESRCH);
	assert_null(toe_app_get(&env.engine, 5));
	assert_null(toe_app_get(&env.engine, UINT32_MAX));
	rig_stop();
}

/* The last slot, listener and context end inside the segment. */
static void test_geometry(void **state)
{
	struct toe_app *a;

	(void)state;
	rig_engine(4, 0);
	a = rig_attach(0);
	assert_true((uint8_t *)(toe_app_slot(a, RIG_SLOTS - 1) + 1) <=
		    a->control + a->off_listeners);
	assert_true((uint8_t *)(toe_app_accept_ring(a, RIG_LISTENERS - 1) + a->backlog_n) <=
		    a->control + a->off_contexts);
	assert_true((uint8_t *)(toe_app_doorbells(a, TOE_CTX_N - 1) + a->doorbell_n) <=
		    a->control + a->control_bytes);
	assert_int_equal((uintptr_t)toe_app_context(a, 1) % TOE_LINE, 0);
	assert_int_equal((uintptr_t)toe_app_listener(a, 3) % TOE_LINE, 0);
	rig_stop();
}

static void test_proc(void **state)
{
	struct toe_context *c;
	struct toe_app *a;
	int kick;

	(void)state;
	rig_engine(4, 0);
	a = rig_attach(1);
	c = toe_app_context(a, 9);
	c->hint_cons = c->doorbell_prod = 77; /* of an earlier process */
	c->engine_gone = 1;
	c->waiting = 5;
	kick = rig_proc(1, 9);
	assert_int_equal(c->hint_cons | c->doorbell_prod | c->engine_gone | c->waiting, 0);
	assert_int_equal(a->proc_mask, UINT64_C(1) << 9);
	assert_int_equal(rig.watched, 1);
	assert_true(rig.wakes > 0);
	assert_int_equal(toe_app_proc_attach(&env.engine, 1, 9, 0), -EEXIST);
	assert_int_equal(toe_app_proc_attach(&env.engine, 1, TOE_CTX_N, 0), -EINVAL);
	assert_int_equal(toe_app_proc_attach(&env.engine, 2, 0, 0), -ESRCH);
	assert_int_equal(toe_app_proc_detach(&env.engine, 1, 8), -ESRCH);
	assert_int_equal(toe_app_proc_detach(&env.engine, 1, 9), 0);
	assert_int_equal(rig.watched, 0);
	assert_int_equal(rig_bytes(kick), -1);
	close(kick);
	rig_stop();
}

/* A doorbell that was marked and never posted would silence the slot for ever. */
static void test_dead_process_marks(void **state)
{
	struct toe_app *a;

	(void)state;
	rig_engine(4, 0);
	a = rig_attach(1);
	close(rig_proc(1, 0));
	close(rig_proc(1, 1));
	a->slot_top = 10;
	toe_app_slot(a, 3)->doorbell_pending = 1;
	toe_app_slot(a, 11)->doorbell_pending = 1; /* never installed */
	toe_app_slot(a, 4)->hint_pending = toe_app_slot(a, 4)->ctx_mask = 3;
	toe_app_listener(a, 2)->hint_pending = toe_app_listener(a, 2)->ctx_mask = 3;
	assert_int_equal(toe_app_proc_detach(&env.engine, 1, 0), 0);
	assert_int_equal(a->redo[0], UINT64_C(1) << 3);
	assert_int_equal(env.engine.apps->redo, UINT64_C(1) << 1);
	assert_int_equal(toe_app_slot(a, 4)->hint_pending, 2);
	assert_int_equal(toe_app_slot(a, 4)->ctx_mask, 2);
	assert_int_equal(toe_app_listener(a, 2)->hint_pending, 2);
	assert_int_equal(toe_app_listener(a, 2)->ctx_mask, 2);
	rig_stop();
}

int toe_stream_control(struct toe_engine *e, const char *module, struct toe_stream_ask *ask,
		       unsigned timeout_ms)
{
	(void)e;
	(void)module;
	(void)ask;
	(void)timeout_ms;
	return 0;
}

static void test_waiters(void **state)
{
	struct toe_ctl_waiter who = {.app_id = 1, .ctx = 0, .waiter = TOE_WAITER_N};
	int first, second;

	(void)state;
	rig_engine(4, 0);
	rig_attach(1);
	assert_int_equal(toe_app_waiter_add(&env.engine, &who, 0), -ESRCH);
	close(rig_proc(1, 0));
	assert_int_equal(toe_app_waiter_add(&env.engine, &who, 0), -EINVAL);
	first = rig_waiter(1, 0, 63);
	second = rig_waiter(1, 0, 63);
	assert_int_equal(rig_bytes(first), -1); /* replaced: closed */
	assert_int_equal(rig_bytes(second), 0);
	close(first);
	/* the engine ends: waiters wake, and see why */
	toe_apps_fini(&env.engine);
	assert_int_equal(recv(second, &first, 1, MSG_DONTWAIT), 1);
	assert_int_equal(rig_bytes(second), -1);
	close(second);
	rig_stop();
}

static void test_engine_gone_flag(void **state)
{
	struct toe_ctl_app d = rig_desc(1);
	struct toe_region_geometry g = toe_ctl_app_geometry(&d);
	struct toe_region_layout l;
	struct toe_context *c;
	uint8_t *mine;
	int fds[2];

	(void)state;
	rig_engine(4, 0);
	rig_memfds(&d, SEALS, fds);
	assert_int_equal(toe_app_attach(&env.engine, &d, fds), 0);
	assert_int_equal(toe_region_layout(&l, &g), 0);
	mine = mmap(NULL, l.control_bytes, PROT_READ, MAP_SHARED, fds[0], 0);
	close(rig_proc(1, 0));
	c = (struct toe_context *)(mine + l.off_contexts);
	assert_int_equal(c->engine_gone, 0);
	toe_apps_fini(&env.engine);
	assert_int_equal(c->engine_gone, 1);
	munmap(mine, l.control_bytes);
	close(fds[0]);
	close(fds[1]);
	rig_stop();
}

/* ---- SIGBUS ---- */

static volatile unsigned hits;
static void hit(void *arg)
{
	assert_ptr_equal(arg, (void *)&hits);
	hits++;
}

/* bytes of mapping without a file behind it: every touch is SIGBUS. */
static uint8_t *hole(void *at, size_t bytes)
{
	int fd = memfd_create("hole", 0);
	uint8_t *p;

	assert_int_equal(ftruncate(fd, 0), 0);
	p = mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | (at != NULL ? MAP_FIXED : 0), fd,
		 0);
	assert_ptr_not_equal(p, MAP_FAILED);
	close(fd);
	return p;
}

static void test_sigbus(void **state)
{
	volatile uint8_t *p = hole(NULL, 4 * 4096); /* every touch is meant */
	int status;

	(void)state;
	assert_int_equal(toe_sigbus_init(), 0);
	assert_int_equal(toe_sigbus_watch((void *)p, 3 * 4096, 4096, hit, (void *)&hits), 0);
	p[5000] = 7;
	assert_int_equal(hits, 1);
	assert_int_equal(p[5000], 7);
	for (unsigned i = 0; i < 3 * 4096; i++)
		p[i] = 1;
	assert_int_equal(hits, 3);
	if (fork() == 0) { /* not guarded: fatal as ever */
		signal(SIGABRT, SIG_DFL);
		p[3 * 4096] = 1;
		_exit(0);
	}
	wait(&status);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
	if (fork() == 0) { /* sent by somebody */
		raise(SIGBUS);
		_exit(0);
	}
	wait(&status);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
	toe_sigbus_unwatch((void *)p);
	munmap((void *)p, 4 * 4096);
}

static void test_evict(void **state)
{
	volatile uint8_t *p;
	struct toe_app *a;

	(void)state;
	rig_engine(4, 0);
	a = rig_attach(6);
	p = hole(a->payload, a->payload_bytes);
	assert_int_equal(p[100], 0);
	p[5000] = 1;
	assert_true(a->evicted);
	assert_null(toe_app_get(&env.engine, 6));
	assert_int_equal(toe_apps_take_evicted(&env.engine), UINT64_C(1) << 6);
	assert_int_equal(toe_apps_take_evicted(&env.engine), 0);
	assert_int_equal(toe_app_detach(&env.engine, 6), 0);
	rig_stop();
}

/* ---- the keeper ---- */

static void test_requests(void **state)
{
	struct toe_ctl_msg m;
	struct toe_app *a;
	int fds[2], copy[2];

	(void)state;
	rig_engine(4, 0);
	toe_ctl_init(&m, TOE_CTL_DP_APP);
	m.u.app = rig_desc(2);
	rig_memfds(&m.u.app, SEALS, fds);
	memcpy(copy, fds, sizeof(fds));
	toe_keeper_link_handle(&env.engine, &m, fds, 2);
	assert_int_equal(m.status, 0);
	assert_false(fd_open(copy[0]) || fd_open(copy[1])); /* the mapping is enough */
	a = toe_app_get(&env.engine, 2);
	assert_non_null(a);
	toe_ctl_init(&m, TOE_CTL_DP_PROC);
	m.u.app = rig_desc(2);
	m.u.app.ctx = 4;
	toe_keeper_link_handle(&env.engine, &m, fds, 0);
	assert_int_equal(m.status, -EINVAL);
	assert_int_equal(toe_ctl_pair(fds), 0);
	copy[0] = fds[0];
	toe_keeper_link_handle(&env.engine, &m, fds, 1);
	assert_int_equal(m.status, 0);
	assert_int_equal(a->procs[4].kick_fd, copy[0]);
	assert_true(fd_open(copy[0]));
	copy[0] = fds[0] = fds[1];
	toe_keeper_link_handle(&env.engine, &m, fds, 1); /* again: refused, and closed */
	assert_int_equal(m.status, -EEXIST);
	assert_false(fd_open(copy[0]));
	toe_ctl_init(&m, TOE_CTL_DP_KERNEL_CONN);
	m.u.kconn = (struct toe_ctl_kconn){.app_id = 2, .ctx = 4, .delta = 1};
	toe_keeper_link_handle(&env.engine, &m, fds, 0);
	assert_int_equal(m.status, 0);
	assert_int_equal(a->kernel_conns, 1);
	toe_ctl_init(&m, TOE_CTL_LISTEN);
	toe_keeper_link_handle(&env.engine, &m, fds, 0);
	assert_int_equal(m.status, -EOPNOTSUPP);
	toe_ctl_init(&m, TOE_CTL_DP_PROC_GONE);
	m.u.app.app_id = 2;
	m.u.app.ctx = 4;
	toe_keeper_link_handle(&env.engine, &m, fds, 0);
	assert_int_equal(m.status, 0);
	toe_ctl_init(&m, TOE_CTL_DP_APP_GONE);
	m.u.app.app_id = 2;
	toe_keeper_link_handle(&env.engine, &m, fds, 0);
	assert_int_equal(m.status, 0);
	assert_null(toe_app_get(&env.engine, 2));
	rig_stop();
}

static void test_link(void **state)
{
	const struct timespec limit = {.tv_sec = 20};
	struct toe_ctl_msg m;
	struct toe_app *a;
	sigset_t term;
	int pair[2], fds[2];
	unsigned n;

	(void)state;
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	sigprocmask(SIG_BLOCK, &term, NULL);
	rig_engine(4, 0);
	assert_int_equal(toe_ctl_pair(pair), 0);
	env.engine.keeper_fd = pair[0];
	assert_int_equal(toe_keeper_link_start(&env.engine), 0);
	toe_ctl_init(&m, TOE_CTL_DP_APP);
	m.u.app = rig_desc(2);
	rig_memfds(&m.u.app, SEALS, fds);
	assert_int_equal(toe_ctl_call(pair[1], &m, fds, 2, NULL, 0, NULL, 20000), 0);
	close(fds[0]);
	close(fds[1]);
	a = toe_app_get(&env.engine, 2);
	*(volatile uint8_t *)hole(a->payload, a->payload_bytes) = 1;
	assert_int_equal(toe_ctl_recv(pair[1], &m, fds, 2, &n), 0); /* blocks until it is there */
	assert_int_equal(m.type, TOE_CTL_DP_EVICT);
	assert_int_equal(m.u.app.app_id, 2);
	toe_ctl_init(&m, TOE_CTL_DP_APP_GONE);
	m.u.app.app_id = 2;
	assert_int_equal(toe_ctl_call(pair[1], &m, NULL, 0, NULL, 0, NULL, 20000), 0);
	assert_int_equal(send(pair[1], "garbage", 7, 0), 7); /* survived */
	toe_ctl_init(&m, TOE_CTL_DP_APP_GONE);
	m.u.app.app_id = 2;
	assert_int_equal(toe_ctl_call(pair[1], &m, NULL, 0, NULL, 0, NULL, 20000), -ESRCH);
	close(pair[1]); /* the keeper dies */
	assert_int_equal(sigtimedwait(&term, NULL, &limit), SIGTERM);
	toe_keeper_link_stop(&env.engine);
	toe_keeper_link_stop(&env.engine);
	close(pair[0]);
	/* and an orderly stop */
	assert_int_equal(toe_ctl_pair(pair), 0);
	env.engine.keeper_fd = pair[0];
	assert_int_equal(toe_keeper_link_start(&env.engine), 0);
	toe_keeper_link_stop(&env.engine);
	close(pair[0]);
	close(pair[1]);
	rig_stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_attach_checks), cmocka_unit_test(test_geometry),
		cmocka_unit_test(test_proc),          cmocka_unit_test(test_dead_process_marks),
		cmocka_unit_test(test_waiters),       cmocka_unit_test(test_engine_gone_flag),
		cmocka_unit_test(test_sigbus),        cmocka_unit_test(test_evict),
		cmocka_unit_test(test_requests),      cmocka_unit_test(test_link),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
