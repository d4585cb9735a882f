/* SPDX-License-Identifier: BSD-3-Clause */
/* Inside of the ctxq stage: ctxq.c (sink), ctxq_doorbell.c (source, sleep), ctxq_hint.c (waking).
 */
#ifndef TOE_CTXQ_H
#define TOE_CTXQ_H

#include <poll.h>

#include "apps.h"
#include "engine.h"
#include "stage.h"

#define CTXQ_CONTEXTS (TOE_APP_N * TOE_CTX_N)

/* An attached context, by number: pointers do not survive a quiescent state. */
struct ctxq_ref {
	uint8_t app;
	uint8_t ctx;
};

struct ctxq {
	/* attached contexts as of version, and whose turn it is */
	struct ctxq_ref active[CTXQ_CONTEXTS];
	unsigned active_n;
	unsigned turn;
	uint32_t version;
	uint32_t spread; /* chooses the dma replica of fetches */

	/* this burst only: what applications have to be told */
	struct {
		struct toe_app *app;
		uint32_t id; /* slot, or listener | TOE_ID_LISTENER */
	} change[TOE_BURST];
	unsigned change_n;
	struct {
		struct toe_app *app;
		uint64_t ctxs;
	} wake[TOE_BURST];
	unsigned wake_n;

	struct pollfd kicks[CTXQ_CONTEXTS]; /* scratch of sleep() */
};

/* ctxq_hint.c.  changed: at most once per item of a burst; tell: at its end. */
void ctxq_changed(struct ctxq *p, struct toe_app *a, uint32_t id);
void ctxq_tell(struct toe_stage *s);

/* ctxq_doorbell.c */
unsigned ctxq_poll(struct toe_stage *s, unsigned budget);
bool ctxq_sleep(struct toe_stage *s, bool on);

#endif
