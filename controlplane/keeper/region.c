// SPDX-License-Identifier: BSD-3-Clause
/*
 * Creates the memfds that programs share.
 *
 * In: configuration and geometry; out: descriptors, sparse (no page is touched but headers and
 * token maps), sealed against resizing before anybody else has them.  Written with pwrite(), never
 * mapped here: nothing an application does to its region can hurt the keeper.  No state.
 */
#include "region.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/cpq_layout.h"
#include "toe/cpq.h"
#include "toe/region.h"

#define SPARE_TOKENS  64u /* beyond one per connection: pools of processes */
#define BACKLOG_N     1024u
#define CPQ_ENTRY_N   1024u
#define ETHER_VLAN    18u  /* bytes before the IP header of the longest frame */
#define CPQ_MIN_BYTES 256u /* of an entry: every command fits */

static uint32_t pow2_at_least(uint32_t v, uint32_t least)
{
	uint32_t p = least;

	while (p < v && p < 1u << 31)
		p <<= 1;
	return p;
}

int kp_region_geometry(const struct toe_config *cfg, struct toe_ctl_app *app)
{
	struct toe_region_geometry g;
	struct toe_region_layout l;

	app->slot_n = cfg->app_connections;
	app->listener_n = cfg->app_listeners;
	app->token_n = app->slot_n + SPARE_TOKENS;
	app->backlog_n = BACKLOG_N;
	app->hint_n = pow2_at_least(app->slot_n + app->listener_n, 16);
	app->doorbell_n = pow2_at_least(app->slot_n, 16);
	app->rx_buf_bytes = cfg->rx_buf_bytes;
	app->tx_buf_bytes = cfg->tx_buf_bytes;
	g = toe_ctl_app_geometry(app);
	return toe_region_layout(&l, &g) < 0 ? -EINVAL : 0;
}

static int write_all(int fd, const void *buf, size_t len, uint64_t at)
{
	const char *p = buf;

	while (len > 0) {
		ssize_t n = pwrite(fd, p, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		p += n;
		at += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

static int write_none(int fd, uint64_t at, uint32_t n)
{
	uint32_t none[1024];

	memset(none, 0xff, sizeof(none));
	while (n > 0) {
		uint32_t here = n < 1024 ? n : 1024;
		int rc = write_all(fd, none, here * sizeof(uint32_t), at);

		if (rc < 0)
			return rc;
		at += here * sizeof(uint32_t);
		n -= here;
	}
	return 0;
}

static int sized_memfd(const char *name, uint64_t bytes)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int rc;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)bytes) == 0)
		return fd;
	rc = -errno;
	close(fd);
	return rc;
}

static int seal(int fd)
{
	return fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0 ? -errno : 0;
}

static int write_region(int fd, const struct toe_ctl_app *app, const struct toe_region_layout *l,
			const struct toe_ctl_engine *port)
{
	struct toe_region_hdr h = {
		.magic = TOE_REGION_MAGIC,
		.abi_version = TOE_ABI_VERSION,
		.abi_fingerprint = TOE_ABI_FINGERPRINT,
		.control_bytes = l->control_bytes,
		.payload_bytes = l->payload_bytes,
		.app_id = app->app_id,
		.slot_n = app->slot_n,
		.listener_n = app->listener_n,
		.token_n = app->token_n,
		.backlog_n = app->backlog_n,
		.hint_n = app->hint_n,
		.doorbell_n = app->doorbell_n,
		.rx_buf_bytes = app->rx_buf_bytes,
		.tx_buf_bytes = app->tx_buf_bytes,
		.port_ipv4 = port->port_ipv4,
		.tap_ifindex = (uint32_t)port->tap_ifindex,
		.off_slots = l->off_slots,
		.off_listeners = l->off_listeners,
		.off_contexts = l->off_contexts,
		.off_tokens = l->off_tokens,
	};
	int rc;

	memcpy(h.port_ipv6, port->port_ipv6, sizeof(h.port_ipv6));
	rc = write_all(fd, &h, sizeof(h), 0);
	return rc < 0 ? rc : write_none(fd, l->off_tokens, app->token_n);
}

int kp_region_create(const struct toe_ctl_app *app, const struct toe_ctl_engine *port, int fds[2])
{
	struct toe_region_geometry g = toe_ctl_app_geometry(app);
	struct toe_region_layout l;
	int rc;

	fds[0] = fds[1] = -1;
	if (toe_region_layout(&l, &g) < 0)
		return -EINVAL;
	rc = fds[0] = sized_memfd("toe-control", l.control_bytes);
	if (rc >= 0)
		rc = fds[1] = sized_memfd("toe-payload", l.payload_bytes);
	if (rc >= 0)
		rc = write_region(fds[0], app, &l, port);
	if (rc >= 0)
		rc = seal(fds[0]);
	if (rc >= 0)
		rc = seal(fds[1]);
	if (rc >= 0)
		return 0;
	for (int i = 0; i < 2; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
		fds[i] = -1;
	}
	return rc;
}

void kp_region_set_ipv6(int control_fd, const struct toe_ctl_engine *port)
{
	write_all(control_fd, port->port_ipv6, sizeof(port->port_ipv6),
		  offsetof(struct toe_region_hdr, port_ipv6));
}

void kp_region_engine_gone(const struct toe_ctl_app *app, int control_fd)
{
	struct toe_region_geometry g = toe_ctl_app_geometry(app);
	struct toe_region_layout l;
	uint32_t gone = 1;

	if (toe_region_layout(&l, &g) < 0)
		return;
	for (uint32_t i = 0; i < TOE_CTX_N; i++) {
		uint64_t at = l.off_contexts + i * toe_context_stride(g.hint_n, g.doorbell_n) +
			      offsetof(struct toe_context, engine_gone);

		if (write_all(control_fd, &gone, sizeof(gone), at) < 0)
			return;
	}
}

/* pread() and not a mapping: a page that the application has punched reads as zeroes. */
void kp_region_unsupported(const struct toe_ctl_app *app, int control_fd, uint64_t *n)
{
	struct toe_region_geometry g = toe_ctl_app_geometry(app);
	struct toe_region_layout l;

	if (toe_region_layout(&l, &g) < 0)
		return;
	for (uint32_t i = 0; i < TOE_CTX_N; i++) {
		uint64_t at = l.off_contexts + i * toe_context_stride(g.hint_n, g.doorbell_n) +
			      offsetof(struct toe_context, unsupported);
		uint32_t got[TOE_UNSUP_MAX];

		if (pread(control_fd, got, sizeof(got), (off_t)at) != (ssize_t)sizeof(got))
			return;
		for (uint32_t k = 0; k < TOE_UNSUP_MAX; k++)
			n[k] += got[k];
	}
}

uint32_t kp_cpq_entry_bytes(uint32_t mtu)
{
	uint64_t bytes = toe_region_align(sizeof(struct toe_cpq_entry) + (uint64_t)mtu + ETHER_VLAN,
					  TOE_LINE);

	return bytes < CPQ_MIN_BYTES ? CPQ_MIN_BYTES : (uint32_t)bytes;
}

int kp_cpq_create(const struct toe_config *cfg)
{
	struct toe_cpq_hdr h = {
		.magic = TOE_CPQ_MAGIC,
		.abi_version = TOE_ABI_VERSION,
		.abi_fingerprint = TOE_ABI_FINGERPRINT,
		.conn_n = cfg->connections,
		.flow_group_n = cfg->flow_groups,
		.entry_n = CPQ_ENTRY_N,
		.entry_bytes = kp_cpq_entry_bytes(cfg->mtu),
	};
	uint64_t ring_bytes = (uint64_t)h.entry_n * h.entry_bytes;
	int fd;
	int rc;

	h.off_down = TOE_REGION_PAGE;
	h.off_up = h.off_down + ring_bytes;
	h.off_prog = h.off_up + ring_bytes;
	h.off_stat = h.off_prog + (uint64_t)h.conn_n * sizeof(struct toe_flow_prog);
	h.total_bytes = toe_region_align(h.off_stat + toe_cpq_stat_bytes(&h), TOE_REGION_PAGE);
	fd = sized_memfd("toe-cpq", h.total_bytes);
	if (fd < 0)
		return fd;
	rc = write_all(fd, &h, sizeof(h), 0);
	if (rc == 0)
		rc = seal(fd);
	if (rc < 0) {
		close(fd);
		return rc;
	}
	return fd;
}

int kp_state_create(void)
{
	int fd = memfd_create("toe-state", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	return fd < 0 ? -errno : fd;
}
