/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hostmem backend "dmadev": copies by a DMA device (rte_dmadev), one device per queue.
 *
 * Addresses are given to the device as they are, so it must share the process's address space
 * (RTE_DMA_CAPA_SVA: dma_skeleton, idxd with an IOMMU); others are refused at open.  A copy the
 * device fails is done by the CPU.  State: the device.  Runs on the lcore of the queue.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <rte_common.h>

/* DPDK allocates its table of 128-byte aligned objects with calloc(): keep UBSan quiet about it. */
#define MISALIGNED __attribute__((no_sanitize("alignment")))
enum rte_dma_status_code;
MISALIGNED static inline int rte_dma_copy(int16_t dev_id, uint16_t vchan, rte_iova_t src,
					  rte_iova_t dst, uint32_t length, uint64_t flags);
MISALIGNED static inline int rte_dma_submit(int16_t dev_id, uint16_t vchan);
MISALIGNED static inline uint16_t rte_dma_completed_status(int16_t dev_id, uint16_t vchan,
							   const uint16_t nb_cpls,
							   uint16_t *last_idx,
							   enum rte_dma_status_code *status);
#include <rte_dmadev.h>

#include "common/log.h"
#include "hostmem_priv.h"

#define DEVS_MAX 64

struct dmadev {
	int16_t id;
	bool dirty; /* submitted to the driver, not yet rung */
};

/* Devices in use; open and close run on the main thread. */
static bool taken[DEVS_MAX];

static int16_t find_device(struct rte_dma_info *info)
{
	int16_t id;

	RTE_DMA_FOREACH_DEV(id)
	{
		if (id >= DEVS_MAX || taken[id] || rte_dma_info_get(id, info) != 0)
			continue;
		if ((info->dev_capa & RTE_DMA_CAPA_SVA) && (info->dev_capa & RTE_DMA_CAPA_OPS_COPY))
			return id;
		LOG_WARN("DMA device %s: cannot use our addresses (no SVA)", info->dev_name);
	}
	return -1;
}

static unsigned clamp_depth(unsigned depth, const struct rte_dma_info *info)
{
	while (depth < info->min_desc)
		depth *= 2;
	while (depth > info->max_desc)
		depth /= 2;
	return depth;
}

static int start_device(int16_t id, unsigned depth)
{
	const struct rte_dma_conf conf = {.nb_vchans = 1};
	const struct rte_dma_vchan_conf vchan = {.direction = RTE_DMA_DIR_MEM_TO_MEM,
						 .nb_desc = (uint16_t)depth};
	int rc = rte_dma_configure(id, &conf);

	if (rc == 0)
		rc = rte_dma_vchan_setup(id, 0, &vchan);
	if (rc == 0)
		rc = rte_dma_start(id);
	return rc;
}

static int dev_open(struct toe_hostmem *h, unsigned *depth)
{
	struct dmadev *d = calloc(1, sizeof(*d));
	struct rte_dma_info info;
	int rc;

	if (d == NULL)
		return -ENOMEM;
	d->id = find_device(&info);
	if (d->id < 0) {
		LOG_WARN("no unused DMA device: the stream stage then copies by CPU, a dma stage "
			 "cannot start; for tests put --vdev=dma_skeleton into port.eal_args and "
			 "use one dma replica");
		free(d);
		return -ENODEV;
	}
	*depth = clamp_depth(*depth, &info);
	rc = start_device(d->id, *depth);
	if (rc != 0) {
		LOG_ERROR("DMA device %s: %s", info.dev_name, strerror(-rc));
		free(d);
		return rc;
	}
	taken[d->id] = true;
	h->priv = d;
	return 0;
}

/* A stopped device touches memory no more, so what was in flight has ended. */
static void dev_close(struct toe_hostmem *h)
{
	struct dmadev *d = h->priv;

	rte_dma_stop(d->id);
	taken[d->id] = false;
	free(d);
}

static int dev_copy(struct toe_hostmem *h, const struct toe_hostmem_job *j)
{
	struct dmadev *d = h->priv;
	uint64_t flags = j->fence ? RTE_DMA_OP_FLAG_FENCE : 0;
	int rc = rte_dma_copy(d->id, 0, (rte_iova_t)(uintptr_t)j->src,
			      (rte_iova_t)(uintptr_t)j->dst, j->len, flags);

	if (rc < 0)
		return -EAGAIN;
	d->dirty = true;
	return 0;
}

static unsigned dev_completed(struct toe_hostmem *h, unsigned n)
{
	enum rte_dma_status_code status[64];
	struct dmadev *d = h->priv;
	uint16_t last;
	unsigned done;

	if (d->dirty) {
		rte_dma_submit(d->id, 0);
		d->dirty = false;
	}
	done = rte_dma_completed_status(d->id, 0, (uint16_t)(n < 64 ? n : 64), &last, status);
	for (unsigned i = 0; i < done; i++) {
		const struct toe_hostmem_job *j = &h->jobs[(h->head + i) & h->mask];

		if (status[i] != RTE_DMA_STATUS_SUCCESSFUL)
			memcpy(j->dst, j->src, j->len);
	}
	return done;
}

const struct toe_hostmem_ops toe_hostmem_dmadev = {
	.name = "dmadev",
	.async = true,
	.open = dev_open,
	.close = dev_close,
	.copy = dev_copy,
	.completed = dev_completed,
};
