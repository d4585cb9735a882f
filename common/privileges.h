/* SPDX-License-Identifier: BSD-3-Clause */
/* May this process take over a port?  Asked by toe-keeper (to refuse) and `toe check` (to advise).
 */
#ifndef TOE_PRIVILEGES_H
#define TOE_PRIVILEGES_H

#include <linux/capability.h>
#include <stdbool.h>
#include <stdio.h>

/* CAP_NET_ADMIN and CAP_NET_RAW are effective. */
static inline bool toe_may_own_port(void)
{
	const unsigned long long need = 1ull << CAP_NET_ADMIN | 1ull << CAP_NET_RAW;
	unsigned long long caps = 0;
	char line[128];
	FILE *f = fopen("/proc/self/status", "re");

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "CapEff: %llx", &caps) == 1)
			break;
	}
	if (f)
		fclose(f);
	return (caps & need) == need;
}

#endif
