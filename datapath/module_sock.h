/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Questions to stream modules over a UNIX socket, <run_dir>/modules.sock (mode 0660).
 *
 * One line "MODULE WHAT [ARGUMENT]\n".  The answer is one JSON document per line, more than one
 * where a list comes in pieces (arrays), then end of file.  Errors: {"error": "why", "errno": N}.
 */
#ifndef TOE_MODULE_SOCK_H
#define TOE_MODULE_SOCK_H

#include "engine.h"

/* Starts and stops the thread that answers.  0 or -errno. */
int toe_module_sock_start(struct toe_engine *e);
void toe_module_sock_stop(struct toe_engine *e);

#endif
