/* SPDX-License-Identifier: BSD-3-Clause */
/* What setsockopt and getsockopt share.  Thread: any; words of lt_opts are accessed atomically. */
#ifndef LT_SOCKOPT_H
#define LT_SOCKOPT_H

#include <stddef.h>
#include <stdint.h>

#include "libtoe/lt.h"

/* An option that is kept and shown again. */
struct lt_kept {
	int level;
	int name;
	uint32_t flag; /* LT_KEPT_*; 0: it is a number */
	size_t word;   /* offset of the number in lt_opts */
};

/* NULL: none of them. */
const struct lt_kept *lt_kept_find(int level, int name);

/* -1: a number that was never told. */
int64_t lt_kept_load(const struct lt_opts *o, const struct lt_kept *k);

/* getsockopt of a kernel socket of that kind that was never touched; 0 or -errno. */
int lt_scratch_get(const struct lt_sock *c, int level, int name, void *v, socklen_t *len);

#endif
