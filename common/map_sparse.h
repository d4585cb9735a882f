/* SPDX-License-Identifier: BSD-3-Clause */
/* Large tables of which little is used.  No state, any thread. */
#ifndef TOE_MAP_SPARSE_H
#define TOE_MAP_SPARSE_H

#include <stddef.h>
#include <sys/mman.h>

/* Zeroes of which a page exists once it has been written; munmap() ends them.  NULL, with errno. */
static inline void *toe_map_sparse(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

#endif
