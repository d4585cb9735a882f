/* SPDX-License-Identifier: BSD-3-Clause */
/* Enums generated from counters.def; names and texts are in counters.c. */
#ifndef TOE_COUNTERS_H
#define TOE_COUNTERS_H

enum toe_counter {
#define TOE_COUNTER(symbol, text) TOE_C_##symbol,
#include "counters.def"
	TOE_C_N
};

enum toe_drop {
#define TOE_DROP(symbol, text) TOE_D_##symbol,
#include "counters.def"
	TOE_D_N
};

extern const char *const toe_counter_name[TOE_C_N];
extern const char *const toe_counter_text[TOE_C_N];
extern const char *const toe_drop_name[TOE_D_N];
extern const char *const toe_drop_text[TOE_D_N];

#endif
