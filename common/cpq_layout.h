/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Whether the header of a control-plane queue (toe/cpq.h) describes memory that is there.
 *
 * Input: a header that somebody else wrote, the size of its file; output: yes or no.  Asked by the
 * datapath and the control plane before they follow an offset.  Pure; no state, any thread.
 */
#ifndef TOE_CPQ_LAYOUT_H
#define TOE_CPQ_LAYOUT_H

#include <stdbool.h>
#include <stdint.h>

#include "toe/cpq.h"

/* Bytes of the counters behind off_stat. */
uint64_t toe_cpq_stat_bytes(const struct toe_cpq_hdr *h);

/*
 * Rings, progress and counters begin on a cache line behind the header and end within total_bytes,
 * and that within the file's file_bytes; the rings can be indexed, and every command fits an entry.
 * Magic and ABI are the caller's to check, before this: it has to say what is wrong with them.
 * Whether the parts overlap is not asked: the writer is the keeper.
 */
bool toe_cpq_layout_ok(const struct toe_cpq_hdr *h, uint64_t file_bytes);

#endif
