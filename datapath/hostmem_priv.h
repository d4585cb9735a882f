/* SPDX-License-Identifier: BSD-3-Clause */
/* What a hostmem backend implements; used by hostmem*.c only. */
#ifndef TOE_HOSTMEM_PRIV_H
#define TOE_HOSTMEM_PRIV_H

#include "apps.h"
#include "hostmem.h"

/* One copy, remembered until it is given back. */
struct toe_hostmem_job {
	void *cookie;
	struct toe_app *app; /* holds a count of app->copies; NULL: copied at submission */
	void *dst;
	const void *src;
	uint32_t len;
	bool fence;
};

struct toe_hostmem_ops {
	const char *name;
	bool async; /* memory is touched after submit() has returned */
	/* *depth: at least so many; the backend may raise it, to a power of two.  0 or -errno. */
	int (*open)(struct toe_hostmem *h, unsigned *depth);
	void (*close)(struct toe_hostmem *h);
	/* 0 or -EAGAIN. */
	int (*copy)(struct toe_hostmem *h, const struct toe_hostmem_job *j);
	/* Starts what was submitted, and says how many of the oldest n jobs have ended. */
	unsigned (*completed)(struct toe_hostmem *h, unsigned n);
};

struct toe_hostmem {
	const struct toe_hostmem_ops *ops;
	struct toe_engine *engine;
	void *priv; /* backend's */
	/* FIFO of jobs in order of submission */
	struct toe_hostmem_job *jobs;
	uint32_t mask;
	uint32_t head; /* oldest */
	uint32_t tail;
};

extern const struct toe_hostmem_ops toe_hostmem_memcpy, toe_hostmem_dmadev;

#endif
