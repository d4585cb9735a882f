/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Names and texts of counters and drop reasons, generated from counters.def: the same list as the
 * enums, so they cannot differ.  Constant data, read by telemetry and tests.
 */
#include "counters.h"

const char *const toe_counter_name[TOE_C_N] = {
#define TOE_COUNTER(symbol, text) #symbol,
#include "counters.def"
};

const char *const toe_counter_text[TOE_C_N] = {
#define TOE_COUNTER(symbol, text) text,
#include "counters.def"
};

const char *const toe_drop_name[TOE_D_N] = {
#define TOE_DROP(symbol, text) #symbol,
#include "counters.def"
};

const char *const toe_drop_text[TOE_D_N] = {
#define TOE_DROP(symbol, text) text,
#include "counters.def"
};
