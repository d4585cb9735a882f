/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The stages of the product, by id.  Alone in this file so that unit tests of the framework link
 * their own table instead.
 */
#include "graph.h"
#include "pipeline.h"

const struct toe_stage_ops *const toe_stage_table[TOE_STAGE_N] = {
	[TOE_STAGE_NETIF_RX] = &toe_stage_netif_rx, [TOE_STAGE_CTRL] = &toe_stage_ctrl,
	[TOE_STAGE_SEQ] = &toe_stage_seq,           [TOE_STAGE_PRE] = &toe_stage_pre,
	[TOE_STAGE_REORDER] = &toe_stage_reorder,   [TOE_STAGE_PROTO] = &toe_stage_proto,
	[TOE_STAGE_POST] = &toe_stage_post,         [TOE_STAGE_DMA] = &toe_stage_dma,
	[TOE_STAGE_EGRESS] = &toe_stage_egress,     [TOE_STAGE_STREAM] = &toe_stage_stream,
	[TOE_STAGE_CTXQ] = &toe_stage_ctxq,         [TOE_STAGE_SCHED] = &toe_stage_sched,
	[TOE_STAGE_NETIF_TX] = &toe_stage_netif_tx, [TOE_STAGE_EXCEPTION] = &toe_stage_exception,
};
