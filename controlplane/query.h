/* SPDX-License-Identifier: BSD-3-Clause */
/* What people can ask the control plane: control.sock, one JSON line each way. */
#ifndef CP_QUERY_H
#define CP_QUERY_H

#include <jansson.h>
#include <uv.h>

#include "cp.h"

/* Listens on path (mode 0660), replacing a stale socket.  0 or -errno. */
int cp_query_open(struct cp *cp, uv_loop_t *loop, const char *path);

/* One connection, listener, or the summary as a JSON object; new reference. */
json_t *cp_query_conn(const struct cp *cp, uint32_t id);
json_t *cp_query_half(const struct cp *cp, uint32_t i);
json_t *cp_query_tw(const struct cp *cp, uint32_t i);
json_t *cp_query_listener(const struct cp *cp, uint32_t app, uint32_t i);
json_t *cp_query_status(const struct cp *cp);

#endif
