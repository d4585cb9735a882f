/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What DPDK writes beside the engine: <runtime directory>/dpdk/<file prefix>, some MiB that it does
 * not remove itself.
 */
#ifndef TOE_DPDK_DIR_H
#define TOE_DPDK_DIR_H

#include <stddef.h>

/* The file prefix of the engine with that run directory. */
void toe_dpdk_prefix(const char *run_dir, char *buf, size_t len);

/*
 * Removes the files of that engine's datapath, which has ended, and their directory.  Nothing but
 * what DPDK makes, and only if it is ours.  0 (also: there is none), -EBUSY: a datapath lives,
 * -ENOTEMPTY: something else is in it, -errno.
 */
int toe_dpdk_dir_remove(const char *run_dir);

#endif
