// SPDX-License-Identifier: BSD-3-Clause
/*
 * What the counters of the datapath mean, for people: texts of datapath/counters.def, by the name
 * that telemetry gives.  Constant data.
 */
#include "cli.h"

#include <strings.h>

#define PAIR(symbol, text) {#symbol, text},

struct meaning {
	const char *name;
	const char *text;
};

static const struct meaning counters[] = {
#define TOE_COUNTER PAIR
#include "datapath/counters.def"
};

static const struct meaning drops[] = {
#define TOE_DROP PAIR
#include "datapath/counters.def"
};

static const char *find(const struct meaning *m, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++) {
		if (strcasecmp(m[i].name, name) == 0) /* telemetry's are in small letters */
			return m[i].text;
	}
	return NULL;
}

const char *cli_counter_text(const char *name)
{
	return find(counters, sizeof(counters) / sizeof(counters[0]), name);
}

const char *cli_drop_text(const char *name)
{
	return find(drops, sizeof(drops) / sizeof(drops[0]), name);
}
