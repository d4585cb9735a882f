/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Creation and mapping of the state memfd (layout: state.h).  Called once at start, before the
 * event loop runs.  The memfd belongs to the keeper and is normally made empty by it; we give it
 * its size, because only we know the layout.
 */
#include "state.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"

static uint64_t take(uint64_t *off, uint64_t bytes)
{
	uint64_t at = (*off + TOE_LINE - 1) & ~(uint64_t)(TOE_LINE - 1);

	*off = at + bytes;
	return at;
}

void cp_state_layout(const struct cp_state_geometry *g, struct cp_state_hdr *h)
{
	uint64_t off = sizeof(*h);

	memset(h, 0, sizeof(*h));
	h->magic = CP_STATE_MAGIC;
	h->version = CP_STATE_VERSION;
	h->abi_fingerprint = TOE_ABI_FINGERPRINT;
	h->conn_n = g->conn_n;
	h->app_n = g->app_n;
	h->slot_n = g->slot_n;
	h->listener_n = g->listener_n;
	h->tw_n = g->conn_n;
	h->flow_group_n = g->flow_group_n;
	h->off_apps = take(&off, (uint64_t)h->app_n * sizeof(struct cp_app));
	h->off_slots = take(&off, (uint64_t)h->app_n * h->slot_n * sizeof(struct cp_slot));
	h->off_listeners =
		take(&off, (uint64_t)h->app_n * h->listener_n * sizeof(struct cp_listener));
	h->off_conns = take(&off, (uint64_t)h->conn_n * sizeof(struct cp_conn));
	h->off_tw = take(&off, (uint64_t)h->tw_n * sizeof(struct cp_tw));
	h->off_ports = take(&off, 2u * CP_PORT_N);
	h->total_bytes = off;
}

static bool same_layout(const struct cp_state_hdr *a, const struct cp_state_hdr *b)
{
	return a->magic == b->magic && a->version == b->version &&
	       a->abi_fingerprint == b->abi_fingerprint && a->total_bytes == b->total_bytes &&
	       a->conn_n == b->conn_n && a->app_n == b->app_n && a->slot_n == b->slot_n &&
	       a->listener_n == b->listener_n && a->tw_n == b->tw_n &&
	       a->flow_group_n == b->flow_group_n;
}

static int initialise(struct cp_state_hdr *h, const struct cp_state_hdr *want)
{
	struct cp_state_hdr fresh = *want;

	if (getrandom(fresh.key, sizeof(fresh.key), 0) != (ssize_t)sizeof(fresh.key))
		return -EIO;
	if (getrandom(&fresh.app_seq, sizeof(fresh.app_seq), 0) != (ssize_t)sizeof(fresh.app_seq))
		return -EIO;
	/* The magic last: a start that is killed in between begins anew. */
	fresh.magic = 0;
	memset(h, 0, want->total_bytes);
	*h = fresh;
	__atomic_store_n(&h->magic, CP_STATE_MAGIC, __ATOMIC_RELEASE);
	return 0;
}

int cp_state_map(int fd, const struct cp_state_geometry *g, struct cp_state_hdr **out, bool *fresh)
{
	struct cp_state_hdr want;
	struct cp_state_hdr *h;
	struct stat st;
	int err;

	cp_state_layout(g, &want);
	if (fstat(fd, &st) < 0)
		return -errno;
	if ((uint64_t)st.st_size < want.total_bytes && ftruncate(fd, (off_t)want.total_bytes) < 0) {
		LOG_ERROR("state memfd has %lld bytes, %llu are needed, and it cannot grow: %s",
			  (long long)st.st_size, (unsigned long long)want.total_bytes,
			  strerror(errno));
		return -errno;
	}
	h = mmap(NULL, want.total_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (h == MAP_FAILED)
		return -errno;
	*fresh = !same_layout(h, &want);
	if (*fresh) {
		err = initialise(h, &want);
		if (err) {
			munmap(h, want.total_bytes);
			return err;
		}
	}
	*out = h;
	return 0;
}
