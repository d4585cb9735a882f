/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Stream modules as the rest of the engine sees them: who wants a port, and questions to a module.
 */
#ifndef TOE_STREAM_H
#define TOE_STREAM_H

#include "stream_module.h"

struct toe_engine;

/* Registered modules by index; NULL past the end. */
const struct toe_stream_module *toe_stream_module_at(unsigned index);

/* Index of the module that wants connections accepted on local_port, -1: none.  Any thread. */
int toe_stream_wanted(const struct toe_config *cfg, uint16_t local_port);

/*
 * Asks the module of that name and waits for the answer: one question at a time, from threads that
 * are no lcores.  0 or what the module returned; -ENOENT: no such module; -ETIMEDOUT: the stage did
 * not answer within timeout_ms; -EBUSY: somebody else is asking.
 */
int toe_stream_control(struct toe_engine *e, const char *module, struct toe_stream_ask *ask,
		       unsigned timeout_ms);

#endif
