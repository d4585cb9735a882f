// SPDX-License-Identifier: BSD-3-Clause
/*
 * Maps the application's region.
 *
 * In: the keeper's description and two memfds; out: lt.control, lt.payload and the geometry.  Done
 * once per process; a forked child has the parent's mapping and only gets other ring pointers.
 */
#include <sys/mman.h>

#include "libtoe/lt.h"

static void set_context(uint32_t ctx)
{
	uint64_t stride = toe_context_stride(lt.g.hint_n, lt.g.doorbell_n);
	struct toe_context *c = (void *)(lt.control + lt.l.off_contexts + ctx * stride);

	lt.ctx_index = ctx;
	lt.ctx_bit = 1ull << ctx;
	lt.hints = (uint32_t *)(c + 1);
	lt.doorbells = lt.hints + lt.g.hint_n;
	/* Whoever had this context before: its entries are not ours. */
	lt.hint_cons = LT_LOAD(&c->hint_prod);
	LT_STORE(&c->hint_cons, lt.hint_cons);
	LT_STORE(&c->doorbell_prod, LT_LOAD(&c->doorbell_cons));
	LT_STORE(&c->waiting, 0);
	LT_STORE(&lt.ctx, c);
}

int lt_region_map(const struct toe_ctl_app *app, int control_fd, int payload_fd)
{
	const struct toe_region_hdr *h;
	void *control;
	void *payload;

	if (app->ctx >= TOE_CTX_N)
		return -EPROTO;
	if (lt.control) {
		set_context(app->ctx);
		return 0;
	}
	lt.g = toe_ctl_app_geometry(app);
	if (toe_region_layout(&lt.l, &lt.g) < 0)
		return -EPROTO;
	control = mmap(NULL, lt.l.control_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, control_fd, 0);
	if (control == MAP_FAILED)
		return -errno;
	payload = mmap(NULL, lt.l.payload_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
		       payload_fd, 0);
	if (payload == MAP_FAILED) {
		int rc = -errno;

		munmap(control, lt.l.control_bytes);
		return rc;
	}
	h = control;
	if (h->magic != TOE_REGION_MAGIC) {
		munmap(control, lt.l.control_bytes);
		munmap(payload, lt.l.payload_bytes);
		return -EPROTO;
	}
	lt.control = control;
	lt.payload = payload;
	lt.port_ipv4 = h->port_ipv4;
	lt.tokens = (uint32_t *)(lt.control + lt.l.off_tokens);
	set_context(app->ctx);
	return 0;
}
