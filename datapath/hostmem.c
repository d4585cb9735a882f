/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Copies to and from application memory, whatever does them.
 *
 * Input: {application, segment, offset, length} of an operation.  Checks them against the engine's
 * own geometry, turns them into addresses, and keeps order: backends only say how many of the
 * oldest copies are done.  Owns the queue; used by one lcore.  An application's mapping outlives
 * its copies in flight by a count (toe_app.copies).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "hostmem_priv.h"

#define DEPTH_MIN 64u
#define DEPTH_MAX 65536u

static const struct toe_hostmem_ops *const backends[] = {&toe_hostmem_memcpy, &toe_hostmem_dmadev};

static const struct toe_hostmem_ops *backend_of(const char *name)
{
	for (unsigned i = 0; i < sizeof(backends) / sizeof(backends[0]); i++) {
		if (strcmp(backends[i]->name, name) == 0)
			return backends[i];
	}
	return NULL;
}

static unsigned pow2_depth(unsigned want)
{
	unsigned depth = DEPTH_MIN;

	while (depth < want && depth < DEPTH_MAX)
		depth *= 2;
	return depth;
}

struct toe_hostmem *toe_hostmem_open(struct toe_engine *e, const char *backend, unsigned depth)
{
	struct toe_hostmem *h = calloc(1, sizeof(*h));
	int rc = -ENOMEM;

	depth = pow2_depth(depth);
	if (h != NULL) {
		h->engine = e;
		h->ops = backend_of(backend);
		rc = h->ops == NULL ? -EINVAL : h->ops->open(h, &depth);
	}
	if (rc == 0) {
		h->mask = depth - 1;
		h->jobs = calloc(depth, sizeof(*h->jobs));
		if (h->jobs != NULL)
			return h;
		h->ops->close(h);
		rc = -ENOMEM;
	}
	free(h);
	errno = -rc;
	return NULL;
}

void toe_hostmem_close(struct toe_hostmem *h)
{
	if (h == NULL)
		return;
	h->ops->close(h);
	for (; h->head != h->tail; h->head++) {
		const struct toe_hostmem_job *j = &h->jobs[h->head & h->mask];

		if (j->app != NULL)
			atomic_fetch_sub_explicit(&j->app->copies, 1, memory_order_release);
	}
	free(h->jobs);
	free(h);
}

int toe_hostmem_submit(struct toe_hostmem *h, const struct toe_hostmem_op *op)
{
	struct toe_app *a = toe_app_get(h->engine, op->app_id);
	struct toe_hostmem_job *j = &h->jobs[h->tail & h->mask];
	uint64_t bytes;
	uint8_t *host;
	int rc;

	if (a == NULL)
		return -ESRCH;
	bytes = op->segment == TOE_SEG_CONTROL ? a->control_bytes : a->payload_bytes;
	if (op->offset > bytes || op->len > bytes - op->offset)
		return -ERANGE;
	if (h->tail - h->head > h->mask)
		return -EAGAIN;
	host = (op->segment == TOE_SEG_CONTROL ? a->control : a->payload) + op->offset;
	j->cookie = op->cookie;
	j->app = h->ops->async ? a : NULL;
	j->dst = op->dir == TOE_TO_HOST ? host : op->local;
	j->src = op->dir == TOE_TO_HOST ? op->local : host;
	j->len = op->len;
	j->fence = op->fence;
	rc = h->ops->copy(h, j);
	if (rc != 0)
		return rc;
	if (j->app != NULL)
		atomic_fetch_add_explicit(&a->copies, 1, memory_order_relaxed);
	h->tail++;
	return 0;
}

unsigned toe_hostmem_poll(struct toe_hostmem *h, void **cookies, unsigned n)
{
	unsigned waiting = h->tail - h->head;
	unsigned done;

	if (waiting == 0)
		return 0;
	done = h->ops->completed(h, n < waiting ? n : waiting);
	for (unsigned i = 0; i < done; i++) {
		const struct toe_hostmem_job *j = &h->jobs[h->head++ & h->mask];

		cookies[i] = j->cookie;
		if (j->app != NULL) /* pairs with the acquire in toe_app_detach() */
			atomic_fetch_sub_explicit(&j->app->copies, 1, memory_order_release);
	}
	return done;
}

unsigned toe_hostmem_inflight(const struct toe_hostmem *h)
{
	return h->tail - h->head;
}

bool toe_hostmem_async(const struct toe_hostmem *h)
{
	return h->ops->async;
}
