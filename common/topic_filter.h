/* SPDX-License-Identifier: BSD-3-Clause */
/* Where an MQTT topic filter may have wildcards.  No state. */
#ifndef TOE_TOPIC_FILTER_H
#define TOE_TOPIC_FILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* OASIS MQTT 4.7.1: '+' is a whole level, '#' is the whole of the last one.  Nothing else about the
 * text is looked at. */
static inline bool toe_filter_wildcards_valid(const uint8_t *s, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (s[i] != '+' && s[i] != '#')
			continue;
		if (i > 0 && s[i - 1] != '/')
			return false;
		if (i + 1 < len && (s[i] == '#' || s[i + 1] != '/'))
			return false;
	}
	return true;
}

#endif
