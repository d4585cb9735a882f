/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which stream modules there are: what the linker collected of TOE_STREAM_MODULE(), so that the
 * data path names no module.  Input: the configuration.  No state.  Any thread.
 */
#include "stream.h"
#include "stream_priv.h"

extern const struct toe_stream_module *const __start_toe_stream_modules[] __attribute__((weak));
extern const struct toe_stream_module *const __stop_toe_stream_modules[] __attribute__((weak));

const struct toe_stream_module *toe_stream_module_at(unsigned index)
{
	uintptr_t bytes =
		(uintptr_t)__stop_toe_stream_modules - (uintptr_t)__start_toe_stream_modules;
	size_t n = bytes / sizeof(__start_toe_stream_modules[0]);

	return index < n && index < STREAM_MODULES_MAX ? __start_toe_stream_modules[index] : NULL;
}

int toe_stream_wanted(const struct toe_config *cfg, uint16_t local_port)
{
	const struct toe_stream_module *m;

	for (unsigned i = 0; (m = toe_stream_module_at(i)) != NULL; i++) {
		if (m->wants(cfg, local_port))
			return (int)i;
	}
	return -1;
}
