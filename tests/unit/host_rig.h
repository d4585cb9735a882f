/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An engine with attached applications around one stage: memfd regions as the keeper makes them,
 * pipeline stand-ins that count.  Include once per test program.
 */
#ifndef TOE_TEST_HOST_RIG_H
#define TOE_TEST_HOST_RIG_H

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "apps.h"
#include "common/closer.h"
#include "pipeline.h"
#include "stage_env.h"

#define RIG_SLOTS     64u
#define RIG_LISTENERS 4u
#define RIG_BUF       4096u

static struct {
	unsigned wakes;
	int watched;   /* watch() minus unwatch() calls */
	int unwatched; /* descriptor of the last unwatch() */
} rig;

void toe_pipeline_wake(struct toe_pipeline *p, enum toe_stage_id id)
{
	(void)p;
	(void)id;
	rig.wakes++;
}

int toe_pipeline_watch(struct toe_pipeline *p, enum toe_stage_id id, int fd)
{
	(void)p;
	(void)id;
	(void)fd;
	rig.watched++;
	return 0;
}

void toe_pipeline_unwatch(struct toe_pipeline *p, enum toe_stage_id id, int fd)
{
	(void)p;
	(void)id;
	rig.watched--;
	rig.unwatched = fd;
}

static inline int rig_eal(void **state)
{
	static char *args[] = {"test",        "--no-huge",   "-m",
			       "64",          "--no-shconf", "--no-pci",
			       "--lcores",    "0",           "--vdev=dma_skeleton",
			       "--log-level", "4",           "--no-telemetry"};

	(void)state;
	return rte_eal_init((int)(sizeof(args) / sizeof(args[0])), args) < 0 ? -1 : 0;
}

static inline struct toe_ctl_app rig_desc(uint32_t app_id)
{
	return (struct toe_ctl_app){
		.app_id = app_id,
		.slot_n = RIG_SLOTS,
		.listener_n = RIG_LISTENERS,
		.token_n = RIG_SLOTS,
		.backlog_n = 16,
		.hint_n = 128,
		.doorbell_n = 64,
		.rx_buf_bytes = RIG_BUF,
		.tx_buf_bytes = RIG_BUF,
	};
}

/* Two memfds of the right sizes; seals as given. */
static inline void rig_memfds(const struct toe_ctl_app *d, int seals, int fds[2])
{
	struct toe_region_geometry g = toe_ctl_app_geometry(d);
	struct toe_region_layout l;

	assert_int_equal(toe_region_layout(&l, &g), 0);
	for (int i = 0; i < 2; i++) {
		fds[i] = memfd_create("rig", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		assert_true(fds[i] >= 0);
		assert_int_equal(
			ftruncate(fds[i], (off_t)(i == 0 ? l.control_bytes : l.payload_bytes)), 0);
		assert_int_equal(fcntl(fds[i], F_ADD_SEALS, seals), 0);
	}
}

static inline struct toe_app *rig_attach(uint32_t app_id)
{
	struct toe_ctl_app d = rig_desc(app_id);
	int fds[2];

	rig_memfds(&d, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL, fds);
	assert_int_equal(toe_app_attach(&env.engine, &d, fds), 0);
	close(fds[0]);
	close(fds[1]);
	return toe_app_get(&env.engine, app_id);
}

/* Returns the application's end of the kick socket. */
static inline int rig_proc(uint32_t app_id, uint32_t ctx)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(toe_app_proc_attach(&env.engine, app_id, ctx, pair[0]), 0);
	return pair[1];
}

static inline int rig_waiter(uint32_t app_id, uint32_t ctx, uint32_t waiter)
{
	const struct toe_ctl_waiter who = {.app_id = app_id, .ctx = ctx, .waiter = waiter};
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(toe_app_waiter_add(&env.engine, &who, pair[0]), 0);
	return pair[1];
}

/* What another thread is to close has been closed. */
static inline void rig_settle(void)
{
	while (toe_close_waiting() != 0)
		sched_yield();
}

/* Bytes waiting on the application's end; -1: it has ended. */
static inline int rig_bytes(int fd)
{
	char b[8];
	int n = 0;
	ssize_t rc;

	rig_settle();
	while ((rc = recv(fd, b, sizeof(b), MSG_DONTWAIT)) > 0)
		n += (int)rc;
	return rc == 0 ? -1 : n;
}

/* An engine without a stage; mbuf_n 0: no EAL needed. */
static inline void rig_engine(uint32_t conn_n, unsigned mbuf_n)
{
	static unsigned serial;
	struct toe_engine *e = &env.engine;
	char name[32];

	memset(&rig, 0, sizeof(rig));
	env.cfg.work_items = 1023;
	if (env.cfg.dma_backend[0] == '\0')
		memcpy(env.cfg.dma_backend, "memcpy", sizeof("memcpy"));
	env.alloc_left = UINT32_MAX;
	*e = (struct toe_engine){.cfg = &env.cfg, .flow_group_n = 4, .conn_n = conn_n};
	e->pipeline = (struct toe_pipeline *)&rig; /* only the stand-ins see it */
	e->keeper_fd = e->cpq_kick_fd = -1;
	e->flow_proto = aligned_alloc(64, conn_n * sizeof(*e->flow_proto));
	memset(e->flow_proto, 0, conn_n * sizeof(*e->flow_proto));
	e->flow_post = calloc(conn_n, sizeof(*e->flow_post));
	e->flow_addr6 = calloc(conn_n, sizeof(*e->flow_addr6));
	e->prog = aligned_alloc(64, conn_n * sizeof(*e->prog));
	memset(e->prog, 0, conn_n * sizeof(*e->prog));
	if (mbuf_n != 0) {
		snprintf(name, sizeof(name), "rig%u", serial++);
		e->mbuf_pool = rte_pktmbuf_pool_create(name, mbuf_n, 0, 0,
						       RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
		assert_non_null(e->mbuf_pool);
	}
	assert_int_equal(toe_apps_init(e), 0);
}

static inline void rig_stage(const struct toe_stage_ops *ops)
{
	env.stage = (struct toe_stage){.ops = ops,
				       .engine = &env.engine,
				       .replicas = 1,
				       .counters = env.counters,
				       .drops = env.drops};
	assert_int_equal(ops->init(&env.stage), 0);
}

static inline void rig_stop(void)
{
	struct toe_engine *e = &env.engine;

	if (env.stage.ops != NULL)
		env.stage.ops->fini(&env.stage);
	if (e->apps != NULL)
		toe_apps_fini(e);
	free(e->flow_proto);
	free(e->flow_post);
	free(e->flow_addr6);
	free(e->prog);
	rte_mempool_free(e->mbuf_pool);
	memset(&env, 0, sizeof(env));
}

/* The oldest recorded item that went to stage to (TOE_STAGE_N: toe_emit_next); NULL if none. */
static inline struct toe_work *rig_take(enum toe_stage_id to)
{
	for (unsigned i = 0; i < env.emitted_n; i++) {
		struct toe_work *w = env.emitted[i];

		if (w == NULL || env.to[i] != to)
			continue;
		env.emitted[i] = NULL;
		return w;
	}
	return NULL;
}

/* Frees everything recorded and not taken. */
static inline void rig_clear(void)
{
	for (unsigned i = 0; i < env.emitted_n; i++) {
		if (env.emitted[i] != NULL)
			toe_work_free(&env.stage, env.emitted[i]);
	}
	env_clear();
}

#endif
