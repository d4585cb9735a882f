/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Makes struct toe_engine: pools of work items and packet buffers, connection state, flow table,
 * RCU, module hooks, applications, and the mapping of the control-plane queue.  Runs in main before
 * the lcores start and after they ended; owns all of that memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_malloc.h>

#include "apps.h"
#include "common/cpq_layout.h"
#include "common/log.h"
#include "common/map_sparse.h"
#include "engine_priv.h"
#include "fail.h"
#include "pipeline_priv.h"
#include "segment_module.h"

#define FRAME_OVERHEAD 22u /* Ethernet header, one tag, FCS */
#define JUMBO_ROOM     9216u
#define XDP_HEADROOM   256u          /* XDP_PACKET_HEADROOM of the kernel */
#define POOL_OPS       "ring_mt_hts" /* MP/MC spins for a whole slice if a thread is preempted */
#define SLACK_MB       48u           /* EAL, PMD queues, telemetry, hash tables */
#define CPQ_ENTRIES    1024u

/* With af_xdp a frame lies behind both headrooms, DPDK's and the kernel's, and what does not fit
 * into the rest is dropped. */
static uint16_t mbuf_room(const struct toe_config *cfg)
{
	if (toe_port_frame_mtu(cfg) > TOE_JUMBO_MTU)
		return RTE_PKTMBUF_HEADROOM + JUMBO_ROOM;
	if (strcmp(cfg->port_driver, "af_xdp") == 0)
		return RTE_MBUF_DEFAULT_BUF_SIZE + XDP_HEADROOM;
	return RTE_MBUF_DEFAULT_BUF_SIZE;
}

static size_t work_bytes(enum toe_work_type type)
{
	return type == TOE_WORK_CTRL ? sizeof(struct toe_work_ctrl) : sizeof(struct toe_work);
}

unsigned toe_engine_memory_mb(const struct toe_config *cfg)
{
	const uint64_t per_object = 192; /* pool header, ring slot, cache-line padding */
	uint64_t bytes = cfg->mbufs * (sizeof(struct rte_mbuf) + mbuf_room(cfg) + per_object);

	for (unsigned t = 0; t < TOE_WORK_TYPE_N; t++)
		bytes += cfg->work_items * (work_bytes(t) + per_object);
	bytes += (uint64_t)cfg->connections *
		 (sizeof(struct toe_flow_proto) + sizeof(struct toe_flow_post) +
		  sizeof(struct toe_flow_sched) + 256);
	return (unsigned)(bytes >> 20) + SLACK_MB;
}

/* ---- pools ---- */

/* Objects an lcore may keep for itself: few enough that all caches together cannot starve a pool.
 */
static unsigned cache_size(unsigned objects, unsigned lcores)
{
	unsigned n = objects / (8 * lcores);

	if (n > 256)
		n = 256;
	return n > RTE_MEMPOOL_CACHE_MAX_SIZE ? RTE_MEMPOOL_CACHE_MAX_SIZE : n;
}

static struct rte_mempool *make_work_pool(const struct toe_config *cfg, enum toe_work_type type)
{
	static const char *const name[TOE_WORK_TYPE_N] = {"toe_rx", "toe_tx", "toe_hc", "toe_ctrl"};
	struct rte_mempool *mp = rte_mempool_create_empty(
		name[type], cfg->work_items, (unsigned)work_bytes(type),
		cache_size(cfg->work_items, cfg->lcore_n), 0, SOCKET_ID_ANY, 0);

	if (mp == NULL)
		return NULL;
	if (rte_mempool_set_ops_byname(mp, POOL_OPS, NULL) != 0 ||
	    rte_mempool_populate_default(mp) < 0) {
		rte_mempool_free(mp);
		return NULL;
	}
	return mp;
}

/*
 * The PMD of af_xdp hands the kernel one area that begins with the first buffer and is as long as
 * all of them back to back (DPDK 22.11), and what lies beyond its end is dropped without a word.
 * By default each page holds whole objects only, for the IOVAs of a device: a port of the kernel's
 * has none.
 */
static struct rte_mempool *make_mbuf_pool(const struct toe_config *cfg)
{
	struct rte_pktmbuf_pool_private priv = {.mbuf_data_room_size = mbuf_room(cfg)};
	struct rte_mempool *mp = rte_mempool_create_empty(
		"toe_mbuf", cfg->mbufs, (unsigned)sizeof(struct rte_mbuf) + mbuf_room(cfg),
		cache_size(cfg->mbufs, cfg->lcore_n), sizeof(priv), SOCKET_ID_ANY,
		strcmp(cfg->port_driver, "pci") == 0 ? 0 : RTE_MEMPOOL_F_NO_IOVA_CONTIG);

	if (mp == NULL)
		return NULL;
	if (rte_mempool_set_ops_byname(mp, POOL_OPS, NULL) != 0) {
		rte_mempool_free(mp);
		return NULL;
	}
	rte_pktmbuf_pool_init(mp, &priv);
	if (rte_mempool_populate_default(mp) < 0) {
		rte_mempool_free(mp);
		return NULL;
	}
	if (strcmp(cfg->port_driver, "af_xdp") == 0 && mp->nb_mem_chunks != 1) {
		LOG_ERROR(
			"af_xdp wants all packet buffers in one piece: set port.hugepages = false");
		rte_mempool_free(mp);
		return NULL;
	}
	rte_mempool_obj_iter(mp, rte_pktmbuf_init, NULL);
	return mp;
}

static int make_pools(struct toe_engine *e, char *err, size_t err_len)
{
	const struct toe_config *cfg = e->cfg;
	uint32_t total = 0;

	for (unsigned t = 0; t < TOE_WORK_TYPE_N; t++) {
		e->work_pool[t] = make_work_pool(cfg, t);
		if (e->work_pool[t] == NULL)
			return fail(err, err_len,
				    "no memory for %u work items: raise port.memory_mb or lower "
				    "pipeline.work_items",
				    cfg->work_items);
		total += e->work_pool[t]->size;
	}
	/* every queue of the pipeline is made for that many: no hand-over can fail */
	TOE_CHECK(total <= toe_pipeline_items(cfg));
	e->mbuf_pool = make_mbuf_pool(cfg);
	if (e->mbuf_pool == NULL)
		return fail(err, err_len,
			    "no memory for %u packet buffers: raise port.memory_mb or lower "
			    "pipeline.mbufs",
			    cfg->mbufs);
	return 0;
}

/* ---- state ---- */

static int make_qsbr(struct toe_engine *e, unsigned lcores)
{
	e->qsbr = rte_zmalloc("toe_qsbr", rte_rcu_qsbr_get_memsize(lcores), RTE_CACHE_LINE_SIZE);
	return e->qsbr == NULL ? -1 : rte_rcu_qsbr_init(e->qsbr, lcores);
}

static void *zalloc(const char *what, size_t n, size_t bytes)
{
	return rte_zmalloc(what, n * bytes, TOE_LINE);
}

static int make_flows(struct toe_engine *e)
{
	e->flow_proto = zalloc("toe_proto", e->conn_n, sizeof(*e->flow_proto));
	e->flow_post = zalloc("toe_post", e->conn_n, sizeof(*e->flow_post));
	/* not of the EAL's memory, whose pages are all there from the start */
	e->flow_addr6 = toe_map_sparse(e->conn_n * sizeof(*e->flow_addr6));
	e->flow_sched = zalloc("toe_sched", e->conn_n, sizeof(*e->flow_sched));
	if (e->flow_proto == NULL || e->flow_post == NULL || e->flow_addr6 == NULL ||
	    e->flow_sched == NULL)
		return -1;
	e->flows = toe_flow_table_create(e->conn_n, e->qsbr);
	return e->flows == NULL ? -1 : 0;
}

int toe_engine_init(struct toe_engine *e, char *err, size_t err_len)
{
	e->flow_group_n = e->cfg->flow_groups;
	e->conn_n = e->cfg->connections;
	if (make_qsbr(e, e->cfg->lcore_n) != 0)
		return fail(err, err_len, "no memory for RCU: raise port.memory_mb");
	if (make_pools(e, err, err_len) != 0)
		return -1;
	if (make_flows(e) != 0)
		return fail(err, err_len,
			    "no memory for %u connections: raise port.memory_mb or lower "
			    "tcp.connections",
			    e->conn_n);
	e->rx_raw = toe_hook_create(e->qsbr, 1);
	if (e->rx_raw == NULL || toe_apps_init(e) != 0)
		return fail(err, err_len, "no memory for %s", "module hooks and applications");
	return 0;
}

void toe_engine_fini(struct toe_engine *e)
{
	if (e->apps != NULL)
		toe_apps_fini(e);
	toe_hook_free(e->rx_raw);
	if (e->flows != NULL)
		toe_flow_table_free(e->flows);
	rte_free(e->flow_proto);
	rte_free(e->flow_post);
	if (e->flow_addr6 != NULL)
		munmap(e->flow_addr6, e->conn_n * sizeof(*e->flow_addr6));
	rte_free(e->flow_sched);
	for (unsigned t = 0; t < TOE_WORK_TYPE_N; t++)
		rte_mempool_free(e->work_pool[t]);
	rte_mempool_free(e->mbuf_pool);
	rte_free(e->qsbr);
	if (e->cpq != NULL)
		munmap(e->cpq, e->cpq->total_bytes);
	e->cpq = NULL;
}

/* ---- control-plane queue ---- */

static int cpq_check(const struct toe_cpq_hdr *h, const struct toe_config *cfg, uint64_t bytes,
		     char *err, size_t err_len)
{
	if (h->magic != TOE_CPQ_MAGIC)
		return fail(err, err_len, "control-plane queue: not one (magic %#llx)",
			    (unsigned long long)h->magic);
	if (h->abi_version != TOE_ABI_VERSION || h->abi_fingerprint != TOE_ABI_FINGERPRINT)
		return fail(err, err_len,
			    "control-plane queue: keeper has ABI %u/%08x, this program %u/%08x: "
			    "install programs of one build, then toe down, toe up",
			    h->abi_version, h->abi_fingerprint, TOE_ABI_VERSION,
			    (unsigned)TOE_ABI_FINGERPRINT);
	if (h->conn_n != cfg->connections || h->flow_group_n != cfg->flow_groups)
		return fail(err, err_len,
			    "control-plane queue is for %u connections in %u flow-groups, the "
			    "configuration says %u and %u: toe down, toe up",
			    h->conn_n, h->flow_group_n, cfg->connections, cfg->flow_groups);
	if (!toe_cpq_layout_ok(h, bytes))
		return fail(err, err_len, "control-plane queue: impossible layout");
	return 0;
}

/*
 * A new epoch begins with no connections: progress and counters are cleared, and commands that were
 * meant for the engine before are thrown away (the control plane starts over when it hears of the
 * epoch).  On the very first start the commands in the queue are for us.
 */
static void new_epoch(struct toe_engine *e)
{
	struct toe_cpq_hdr *h = e->cpq;

	memset(e->prog, 0, h->conn_n * sizeof(*e->prog));
	memset(e->stat, 0, toe_cpq_stat_bytes(h));
	if (h->epoch != 0)
		__atomic_store_n(&h->down_cons, __atomic_load_n(&h->down_prod, __ATOMIC_ACQUIRE),
				 __ATOMIC_RELEASE);
	__atomic_store_n(&h->down_asleep, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&h->epoch, h->epoch + 1, __ATOMIC_RELEASE);
}

int toe_engine_map_cpq(struct toe_engine *e, int fd, char *err, size_t err_len)
{
	struct stat st;
	struct toe_cpq_hdr *h;

	if (fstat(fd, &st) != 0 || (size_t)st.st_size < sizeof(*h))
		return fail(err, err_len, "control-plane queue: too small");
	h = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (h == MAP_FAILED)
		return fail(err, err_len, "control-plane queue: mmap: %s", strerror(errno));
	if (cpq_check(h, e->cfg, (uint64_t)st.st_size, err, err_len) != 0) {
		munmap(h, (size_t)st.st_size);
		return -1;
	}
	e->cpq = h;
	e->prog = (struct toe_flow_prog *)((uint8_t *)h + h->off_prog);
	e->stat = (struct toe_flow_stat *)((uint8_t *)h + h->off_stat);
	new_epoch(e);
	return 0;
}

int toe_engine_make_cpq(const struct toe_config *cfg)
{
	struct toe_cpq_hdr h = {.magic = TOE_CPQ_MAGIC};
	int fd = memfd_create("toe-cpq", MFD_CLOEXEC);

	h.abi_version = TOE_ABI_VERSION;
	h.abi_fingerprint = TOE_ABI_FINGERPRINT;
	h.conn_n = cfg->connections;
	h.flow_group_n = cfg->flow_groups;
	h.entry_n = CPQ_ENTRIES;
	h.entry_bytes = RTE_ALIGN_CEIL(
		cfg->mtu + FRAME_OVERHEAD + (uint32_t)sizeof(struct toe_cpq_entry), TOE_LINE);
	h.off_down = sizeof(h);
	h.off_up = h.off_down + (uint64_t)h.entry_n * h.entry_bytes;
	h.off_prog = h.off_up + (uint64_t)h.entry_n * h.entry_bytes;
	h.off_stat = h.off_prog + (uint64_t)h.conn_n * sizeof(struct toe_flow_prog);
	h.total_bytes = h.off_stat + toe_cpq_stat_bytes(&h);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)h.total_bytes) != 0 || pwrite(fd, &h, sizeof(h), 0) != sizeof(h)) {
		close(fd);
		return -EIO;
	}
	return fd;
}
