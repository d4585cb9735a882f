// SPDX-License-Identifier: BSD-3-Clause
/* LINK: controlplane/keeper/region.c common/config.c common/cpq_layout.c */
/*
 * Memory the keeper makes: geometry from the configuration, headers, empty token map, seals,
 * sparseness, the mark of a dead engine, entry size of the control-plane queue.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/cpq_layout.h"
#include "controlplane/keeper/region.h"
#include "toe/cpq.h"

static const struct toe_ctl_engine no_port;

static void setup(struct toe_config *cfg, struct toe_ctl_app *app)
{
	toe_config_defaults(cfg);
	cfg->app_connections = 100;
	cfg->app_listeners = 30;
	memset(app, 0, sizeof(*app));
	app->app_id = 5;
}

static void test_geometry(void **state)
{
	struct toe_config cfg;
	struct toe_ctl_app app;

	(void)state;
	setup(&cfg, &app);
	assert_int_equal(kp_region_geometry(&cfg, &app), 0);
	assert_int_equal(app.slot_n, 100);
	assert_int_equal(app.listener_n, 30);
	assert_int_equal(app.token_n, 164);
	assert_int_equal(app.hint_n, 256);
	assert_int_equal(app.doorbell_n, 128);
	assert_int_equal(app.rx_buf_bytes, 256 * 1024);
	cfg.app_connections = 1;
	cfg.app_listeners = 1;
	assert_int_equal(kp_region_geometry(&cfg, &app), 0);
	assert_int_equal(app.hint_n, 16);
	cfg.rx_buf_bytes = 5000;
	assert_int_equal(kp_region_geometry(&cfg, &app), -EINVAL);
	cfg.rx_buf_bytes = 4096;
	cfg.app_connections = 1u << 21;
	assert_int_equal(kp_region_geometry(&cfg, &app), -EINVAL);
}

static void check_sealed(int fd, off_t bytes)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, bytes);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(fcntl(fd, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	assert_int_equal(ftruncate(fd, 4096), -1);
	assert_int_equal(errno, EPERM);
}

static void test_create(void **state)
{
	struct toe_config cfg;
	struct toe_ctl_app app;
	struct toe_region_layout l = {0};
	struct toe_region_geometry g;
	struct toe_ctl_engine port = {
		.port_ipv4 = 0x01020304, .tap_ifindex = 7, .port_ipv6 = {{0xfd, 1}, {0xfe, 0x80}}};
	const struct toe_region_hdr *h;
	const uint32_t *tokens;
	struct stat st;
	int fds[2];

	(void)state;
	setup(&cfg, &app);
	assert_int_equal(kp_region_geometry(&cfg, &app), 0);
	assert_int_equal(kp_region_create(&app, &port, fds), 0);
	g = toe_ctl_app_geometry(&app);
	assert_int_equal(toe_region_layout(&l, &g), 0);
	check_sealed(fds[0], (off_t)l.control_bytes);
	check_sealed(fds[1], (off_t)l.payload_bytes);
	fstat(fds[1], &st);
	assert_int_equal(st.st_blocks, 0); /* sparse */
	h = mmap(NULL, l.control_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0);
	assert_ptr_not_equal(h, MAP_FAILED);
	assert_true(h->magic == TOE_REGION_MAGIC);
	assert_int_equal(h->abi_version, TOE_ABI_VERSION);
	assert_int_equal(h->abi_fingerprint, TOE_ABI_FINGERPRINT);
	assert_int_equal(h->app_id, 5);
	assert_int_equal(h->port_ipv4, 0x01020304);
	assert_memory_equal(h->port_ipv6, port.port_ipv6, sizeof(port.port_ipv6));
	assert_int_equal(h->tap_ifindex, 7);
	port.port_ipv6[0][15] = 9; /* sealed, but not against this */
	kp_region_set_ipv6(fds[0], &port);
	assert_memory_equal(h->port_ipv6, port.port_ipv6, sizeof(port.port_ipv6));
	assert_int_equal(h->port_ipv4, 0x01020304);
	assert_true(h->off_slots == l.off_slots);
	assert_true(h->off_contexts == l.off_contexts && h->off_tokens == l.off_tokens);
	tokens = (const uint32_t *)((const char *)h + l.off_tokens);
	for (uint32_t i = 0; i < app.token_n; i++)
		assert_int_equal(tokens[i], TOE_NONE);
	kp_region_engine_gone(&app, fds[0]);
	for (uint32_t i = 0; i < TOE_CTX_N; i++) {
		const struct toe_context *c =
			(const void *)((const char *)h + l.off_contexts +
				       i * toe_context_stride(app.hint_n, app.doorbell_n));

		assert_int_equal(c->engine_gone, 1);
		assert_int_equal(c->engine_asleep, 0);
	}
	munmap((void *)h, l.control_bytes);
	close(fds[0]);
	close(fds[1]);
}

/* All contexts, added to what is there; a context that was punched away counts nothing. */
static void test_unsupported(void **state)
{
	struct toe_config cfg;
	struct toe_ctl_app app;
	struct toe_region_layout l = {0};
	struct toe_region_geometry g;
	uint64_t n[TOE_UNSUP_MAX] = {100};
	uint64_t stride;
	char *base;
	int fds[2];

	(void)state;
	setup(&cfg, &app);
	assert_int_equal(kp_region_geometry(&cfg, &app), 0);
	assert_int_equal(kp_region_create(&app, &no_port, fds), 0);
	g = toe_ctl_app_geometry(&app);
	assert_int_equal(toe_region_layout(&l, &g), 0);
	stride = toe_context_stride(app.hint_n, app.doorbell_n);
	base = mmap(NULL, l.control_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0);
	assert_ptr_not_equal(base, MAP_FAILED);
	for (uint32_t i = 0; i < TOE_CTX_N; i += TOE_CTX_N - 1) {
		struct toe_context *c = (void *)(base + l.off_contexts + i * stride);

		c->unsupported[0] = 1 + i;
		c->unsupported[TOE_UNSUP_MAX - 1] = UINT32_MAX;
		c->doorbell_prod = 77; /* the word before */
		c->waiting = UINT64_MAX;
	}
	kp_region_unsupported(&app, fds[0], n);
	assert_true(n[0] == 100 + 1 + TOE_CTX_N);
	assert_true(n[1] == 0);
	assert_true(n[TOE_UNSUP_MAX - 1] == 2ull * UINT32_MAX);
	assert_int_equal(fallocate(fds[0], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
				   (off_t)l.control_bytes),
			 0);
	kp_region_unsupported(&app, fds[0], n);
	assert_true(n[0] == 100 + 1 + TOE_CTX_N);
	munmap(base, l.control_bytes);
	close(fds[0]);
	close(fds[1]);
}

static void test_impossible(void **state)
{
	struct toe_ctl_app app = {.slot_n = 3};
	int fds[2] = {7, 7};

	(void)state;
	assert_int_equal(kp_region_create(&app, &no_port, fds), -EINVAL);
	assert_int_equal(fds[0], -1);
	assert_int_equal(fds[1], -1);
}

static void test_cpq(void **state)
{
	struct toe_config cfg;
	struct toe_cpq_hdr h;
	int fd;

	(void)state;
	assert_int_equal(kp_cpq_entry_bytes(1500), 1536);
	assert_true(kp_cpq_entry_bytes(9000) >= 9000 + 18 + 16);
	assert_int_equal(kp_cpq_entry_bytes(9000) % 64, 0);
	assert_true(kp_cpq_entry_bytes(64) >= 16 + sizeof(struct toe_cmd_install));
	toe_config_defaults(&cfg);
	fd = kp_cpq_create(&cfg);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &h, sizeof(h), 0), sizeof(h));
	assert_true(h.magic == TOE_CPQ_MAGIC);
	assert_int_equal(h.conn_n, cfg.connections);
	assert_int_equal(h.entry_n & (h.entry_n - 1), 0);
	assert_true(h.off_up == h.off_down + (uint64_t)h.entry_n * h.entry_bytes);
	assert_true(h.off_prog == h.off_up + (uint64_t)h.entry_n * h.entry_bytes);
	assert_true(toe_cpq_layout_ok(&h, h.total_bytes));
	check_sealed(fd, (off_t)h.total_bytes);
	close(fd);
}

static void test_state(void **state)
{
	int fd = kp_state_create();

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_GET_SEALS), 0);
	assert_int_equal(ftruncate(fd, 12345), 0);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_geometry),    cmocka_unit_test(test_create),
		cmocka_unit_test(test_unsupported), cmocka_unit_test(test_impossible),
		cmocka_unit_test(test_cpq),         cmocka_unit_test(test_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
