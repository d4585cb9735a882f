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

/* The contexts of one application: active[first..first+n). */
struct ctxq_group {
	uint16_t first;
	uint16_t n;
	uint16_t turn; /* whose it is, 0..n-1 */
};

struct ctxq {
	/* attached contexts as of version, by application, and which of these has its turn */
	struct ctxq_ref active[CTXQ_CONTEXTS];
	unsigned active_n;
	struct ctxq_group groups[TOE_APP_N];
	unsigned group_n;
	unsigned turn;
	uint32_t version;

	/* contexts whose sleeping threads are to be woken, as far as one turn allows */
	uint64_t wake_apps;
	uint64_t wake_ctxs[TOE_APP_N];

	/* TOE_HC_SYNC: released when every context has been emptied up to where its ring was */
	struct toe_work *sync;
	uint32_t sync_app;
	uint32_t sync_to[TOE_CTX_N];
	uint64_t sync_left; /* contexts that are not there yet */

	/* this burst only: what applications have to be told */
	struct {
		struct toe_app *app;
		uint32_t id; /* slot, or listener | TOE_ID_LISTENER */
	} change[TOE_BURST];
	unsigned change_n;

	struct pollfd kicks[CTXQ_CONTEXTS]; /* scratch of sleep() */
};

/* ctxq_hint.c.  changed: at most once per item of a burst; tell: at its end. */
void ctxq_changed(struct ctxq *p, struct toe_app *a, uint32_t id);
void ctxq_tell(struct toe_stage *s);
/* Wakes some of those who are to be woken; returns how many. */
unsigned ctxq_wake(struct toe_stage *s);

/* ctxq_doorbell.c */
void ctxq_sync(struct toe_stage *s, struct toe_work *w);
unsigned ctxq_poll(struct toe_stage *s, unsigned budget);
bool ctxq_sleep(struct toe_stage *s, bool on);

#endif
